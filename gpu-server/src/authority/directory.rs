//! The files of an authority: who may make tokens, and whom clients believe.
//!
//! ```text
//! STATE/authority/          0700
//!   authority.pem .key      signs the server's certificate; its certificate is in every bundle
//!   server.pem .key         what the server shows
//!   token.key .pub          signs tokens; checks them
//!   servers                 the addresses that bundles name, one a line
//!   tokens.jsonl            the tokens that were made: names and limits, no token
//!   revoked                 ids of tokens that are worth nothing, one a line
//! ```
//!
//! Rules: nothing is ever overwritten but by who asked for it (`init --renew`); keys are 0600 before they have a byte; a file comes into
//! being whole. The server needs `server.*`, `token.pub` and `revoked`; the other keys may be kept elsewhere.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ed25519_dalek::{SigningKey, VerifyingKey};
use protocol::credentials::write_private;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// How long an authority's certificate is good: bundles hold it.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a server's certificate is good; `gpu-server init --renew` makes the next.
const SERVER_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// A new certificate is good since then: clients' clocks may be behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// Why the authority's files cannot be made, or used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is one already.
    #[error(
        "{} is there already and will not be overwritten: whoever has a bundle of it would be locked out. \
         A new server certificate is made by gpu-server init --renew",
        .0.display()
    )]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no authority in {}; gpu-server init makes one", .0.display())]
    Absent(PathBuf),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error("{}: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A name that no certificate can have.
    #[error("'{name}' is no name of a host: {problem}")]
    Name {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Making a key or certificate failed.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(io::Error),
}

/// Where an authority is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    /// The authority of a server with this state directory.
    #[must_use]
    pub fn of_state(state: &Path) -> Self {
        Self(state.join("authority"))
    }

    /// The authority in this directory.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether there is one.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.file("token.pub").exists()
    }

    /// Makes an authority whose server has these names, to be reached at these addresses.
    ///
    /// # Errors
    /// There is one already; a name that is none; the file system's.
    pub fn create(&self, names: &[String], servers: &[String]) -> Result<(), DirectoryError> {
        if self.0.exists() {
            return Err(DirectoryError::Exists(self.0.clone()));
        }
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        let server = server_certificate(&key, names)?;
        let mut secret = [0; 32];
        fill_random(&mut secret).map_err(DirectoryError::Random)?;
        let signing = SigningKey::from_bytes(&secret);
        let parent = self.0.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(self.failed(parent))?;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&self.0);
        made.map_err(self.failed(&self.0))?;
        self.write("authority.key", key.serialize_pem().as_bytes())?;
        self.write("authority.pem", certificate.pem().as_bytes())?;
        self.write("server.key", server.key.as_bytes())?;
        self.write("server.pem", server.chain.as_bytes())?;
        self.write("servers", (servers.join("\n") + "\n").as_bytes())?;
        self.write("tokens.jsonl", b"")?;
        self.write("revoked", b"")?;
        self.write("token.key", hex(&secret).as_bytes())?;
        // The last one: with it the authority is there.
        self.write(
            "token.pub",
            hex(signing.verifying_key().as_bytes()).as_bytes(),
        )
    }

    /// Makes a new certificate of the server.
    ///
    /// # Errors
    /// There is no authority; a name that is none; the file system's.
    pub fn renew(&self, names: &[String]) -> Result<(), DirectoryError> {
        let pem = self.text("authority.key")?;
        let key = KeyPair::from_pem(&pem)?;
        let server = server_certificate(&key, names)?;
        // Who reads between the two finds a key of another certificate, and keeps what it has.
        self.write("server.key", server.key.as_bytes())?;
        self.write("server.pem", server.chain.as_bytes())
    }

    /// The key that signs tokens.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn signing_key(&self) -> Result<SigningKey, DirectoryError> {
        Ok(SigningKey::from_bytes(&self.key_bytes("token.key")?))
    }

    /// The key that checks tokens.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn verifying_key(&self) -> Result<VerifyingKey, DirectoryError> {
        let bytes = self.key_bytes("token.pub")?;
        VerifyingKey::from_bytes(&bytes).map_err(|error| self.content("token.pub", &error))
    }

    fn key_bytes(&self, name: &str) -> Result<[u8; 32], DirectoryError> {
        let text = self.text(name)?;
        let bytes = data_encoding::HEXLOWER.decode(text.trim().as_bytes());
        let bytes = bytes.map_err(|error| self.content(name, &error))?;
        let key = bytes.try_into();
        key.map_err(|_| self.content(name, &"not a key of 32 bytes"))
    }

    /// The text of one of the files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self, name: &str) -> Result<String, DirectoryError> {
        let path = self.file(name);
        std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !self.exists() => DirectoryError::Absent(self.0.clone()),
            _ => self.failed(&path)(error),
        })
    }

    /// Adds a line to a file, which is there as a whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn append(&self, name: &str, line: &str) -> Result<(), DirectoryError> {
        let path = self.file(name);
        let append = || {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_all()
        };
        append().map_err(self.failed(&path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DirectoryError> {
        let path = self.file(name);
        write_private(&path, bytes).map_err(self.failed(&path))
    }

    fn failed(&self, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
        let path = path.to_owned();
        move |source| DirectoryError::File { path, source }
    }

    fn content(&self, name: &str, problem: &dyn std::fmt::Display) -> DirectoryError {
        DirectoryError::Content {
            path: self.file(name),
            problem: problem.to_string(),
        }
    }
}

/// Fills these bytes with what nobody can guess.
///
/// # Errors
/// The system gives none.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes) + "\n"
}

/// The authority's certificate, always the same but for its time: what it signs names it by these.
fn authority_params() -> Result<CertificateParams, DirectoryError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "gpurun authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live_for(&mut params, AUTHORITY_LIFE);
    Ok(params)
}

/// A certificate and key, in PEM.
struct Made {
    chain: String,
    key: String,
}

fn server_certificate(authority: &KeyPair, names: &[String]) -> Result<Made, DirectoryError> {
    let wrong = |error: rcgen::Error| DirectoryError::Name {
        name: names.join(", "),
        problem: error.to_string(),
    };
    let mut params = CertificateParams::new(names).map_err(wrong)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "gpurun server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    live_for(&mut params, SERVER_LIFE);
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority_params()?, authority);
    Ok(Made {
        chain: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn live_for(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
}
