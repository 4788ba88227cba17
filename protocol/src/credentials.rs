//! How this user proves who they are to a server, and whom they believe there.
//!
//! What: a *bundle* is one file with everything that a client needs: addresses, the authority that signs the server's certificate, a token.
//! `gpurun login` adds it to the user's credentials, a file of the same form; [`Credentials::for_server`] finds what is for an address. Why here: the
//! launcher and both preloaded libraries must come to the same answer. Rules: a token is never shown in an error or a debug line; a file that
//! cannot be understood is an error, never skipped; whoever runs with more rights than their user takes no file of the user's.
//!
//! ```toml
//! [[server]]
//! address = "tcp://gpu-host:7370"
//! token = "gt1.…"
//! authority = """
//! -----BEGIN CERTIFICATE-----
//! …
//! """
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::address::{Address, AddressError};
use crate::config;
use crate::limits::MAX_TOKEN_BYTES;

/// The variable that names a file with a token, or a bundle.
pub const TOKEN_FILE_VARIABLE: &str = "GPURUN_TOKEN_FILE";

/// What every token begins with: the version of its form.
pub const TOKEN_PREFIX: &str = "gt1.";

/// The system's file.
pub const SYSTEM_FILE: &str = "/etc/gpurun/credentials.toml";

/// Most bytes of a file of credentials: some hundred servers.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no bundle.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
}

/// Why a text is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Longer than any may be.
    #[error("longer than {MAX_FILE_BYTES} bytes")]
    TooLong,
    /// Neither a token nor a bundle. What the parser says of it would show parts of it.
    #[error("neither a token ({TOKEN_PREFIX}…) nor a bundle of gpu-server token create{0}")]
    Syntax(String),
    /// An address that is none.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// A token that is none.
    #[error("a token that does not begin with {TOKEN_PREFIX}, or has characters that no token has")]
    Token,
    /// Nothing is in it.
    #[error("no server in it")]
    Empty,
}

/// What one server is to be shown, and to show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Who we are.
    pub token: Option<String>,
    /// The authority of its certificate, in PEM: with it the connection is encrypted, always.
    pub authority: Option<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credential")
            .field("has_token", &self.token.is_some())
            .field("has_authority", &self.authority.is_some())
            .finish()
    }
}

/// One server of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub address: Address,
    /// What is for it.
    pub credential: Credential,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Vec<Server>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Server {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
}

/// The servers of a bundle.
///
/// # Errors
/// See [`BundleError`].
pub fn parse_bundle(text: &str) -> Result<Vec<Entry>, BundleError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(BundleError::TooLong);
    }
    let file: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let entry = |server: Server| {
        let token = server.token.as_deref().map(check_token).transpose()?;
        Ok(Entry {
            address: server.address.parse()?,
            credential: Credential {
                token: token.map(str::to_owned),
                authority: server.authority,
            },
        })
    };
    file.server.into_iter().map(entry).collect()
}

/// Where it stops being a bundle: the line, without its text.
fn syntax(text: &str, error: &toml::de::Error) -> BundleError {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        format!("; see line {}", before.matches('\n').count() + 1)
    });
    BundleError::Syntax(line.unwrap_or_default())
}

/// The bundle as text that [`parse_bundle`] reads.
#[must_use]
pub fn format_bundle(entries: &[Entry]) -> String {
    let server = |entry: &Entry| Server {
        address: entry.address.to_string(),
        token: entry.credential.token.clone(),
        authority: entry.credential.authority.clone(),
    };
    let file = File {
        server: entries.iter().map(server).collect(),
    };
    // Texts in tables: there is none that cannot be written.
    toml::to_string_pretty(&file).unwrap_or_default()
}

/// The token of this text, without the white space around it.
fn check_token(text: &str) -> Result<&str, BundleError> {
    let token = text.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_token = token.starts_with(TOKEN_PREFIX)
        && token.len() <= MAX_TOKEN_BYTES
        && token.bytes().all(is_plain);
    is_token.then_some(token).ok_or(BundleError::Token)
}

/// What a token file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFile {
    /// A token, for whatever server.
    Token(String),
    /// A bundle.
    Bundle(Vec<Entry>),
}

/// Understands a token file.
///
/// # Errors
/// See [`BundleError`].
pub fn parse_token_file(text: &str) -> Result<TokenFile, BundleError> {
    if text.trim_start().starts_with(TOKEN_PREFIX) {
        return Ok(TokenFile::Token(check_token(text)?.to_owned()));
    }
    let entries = parse_bundle(text)?;
    if entries.is_empty() {
        return Err(BundleError::Empty);
    }
    Ok(TokenFile::Bundle(entries))
}

/// Everything that this user can prove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A token that comes before all others.
    token: Option<String>,
    /// The first that is for an address counts.
    entries: Vec<Entry>,
}

impl Credentials {
    /// Those that `GPURUN_TOKEN_FILE` names, then the user's, then the system's.
    ///
    /// # Errors
    /// A file is there, or is named, and cannot be read or understood.
    pub fn of_this_process() -> Result<Self, CredentialsError> {
        let named = config::variable(TOKEN_FILE_VARIABLE).filter(|name| !name.is_empty());
        Self::gather(
            named.map(PathBuf::from).as_deref(),
            user_file().as_deref(),
            Path::new(SYSTEM_FILE),
        )
    }

    /// Those of these files.
    ///
    /// # Errors
    /// As [`Credentials::of_this_process`].
    pub fn gather(
        named: Option<&Path>,
        user: Option<&Path>,
        system: &Path,
    ) -> Result<Self, CredentialsError> {
        let mut gathered = Self::default();
        if let Some(path) = named {
            let text = read(path)?.ok_or_else(|| CredentialsError::Unreadable {
                path: path.to_owned(),
                source: std::io::ErrorKind::NotFound.into(),
            })?;
            match parse_token_file(&text).map_err(malformed(path))? {
                TokenFile::Token(token) => gathered.token = Some(token),
                TokenFile::Bundle(entries) => gathered.entries = entries,
            }
        }
        for path in user.into_iter().chain([system]) {
            if let Some(text) = read(path)? {
                let entries = parse_bundle(&text).map_err(malformed(path))?;
                gathered.entries.extend(entries);
            }
        }
        Ok(gathered)
    }

    /// What is for the server at this address.
    #[must_use]
    pub fn for_server(&self, address: &Address) -> Credential {
        let entry = self.entries.iter().find(|entry| entry.address == *address);
        let mut credential =
            entry.map_or_else(Credential::default, |entry| entry.credential.clone());
        if self.token.is_some() {
            credential.token.clone_from(&self.token);
        }
        credential
    }
}

/// `credentials.toml` beside the user's settings; none for who runs with more rights than their user.
#[must_use]
pub fn user_file() -> Option<PathBuf> {
    config::user_directory().map(|directory| directory.join("credentials.toml"))
}

/// Writes a file that only its owner reads, and that is there as a whole or not at all.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    // One that was left behind may have another mode.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

fn malformed(path: &Path) -> impl FnOnce(BundleError) -> CredentialsError {
    move |source| CredentialsError::Malformed {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<Option<String>, CredentialsError> {
    use std::io::{ErrorKind, Read};
    let read = || -> std::io::Result<String> {
        let file = std::fs::File::open(path)?;
        let mut text = String::new();
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(CredentialsError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, token: &str) -> Entry {
        Entry {
            address: address.parse().expect("an address"),
            credential: Credential {
                token: Some(token.to_owned()),
                authority: Some(
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                ),
            },
        }
    }

    #[test]
    fn a_bundle_is_read_as_it_is_written() {
        let entries = vec![entry("tcp://a:1", "gt1.x"), entry("[::1]:2", "gt1.y-_.Z9")];
        let text = format_bundle(&entries);
        assert_eq!(parse_bundle(&text).expect("a bundle"), entries);
        assert!(
            text.contains("\n-----BEGIN CERTIFICATE-----\nAAAA\n"),
            "{text}"
        );
        assert_eq!(
            parse_token_file(&text).expect("one"),
            TokenFile::Bundle(entries)
        );
    }

    #[test]
    fn mistakes_are_named_and_show_no_secret() {
        let error = |text: &str| parse_token_file(text).expect_err(text).to_string();
        assert!(error("").contains("no server in it"));
        assert!(error("gt1.a b").contains("characters that no token has"));
        assert!(error("[[server]]\naddress = 'x://y'").contains("unknown scheme"));
        assert!(error("[[server]]\naddress='a'\ntoken='secret'").contains("does not begin with"));
        let shown = error("[[server]]\naddress='a'\ntokn='gt1.secret'");
        assert!(
            shown.contains("see line 3") && !shown.contains("secret"),
            "{shown}"
        );
        assert!(!format!("{:?}", entry("a", "gt1.secret")).contains("secret"));
    }

    #[test]
    fn the_named_file_comes_before_the_user_s_before_the_system_s() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let user = file("user", &format_bundle(&[entry("a", "gt1.user")]));
        let system = file(
            "system",
            &format_bundle(&[entry("a", "gt1.system"), entry("b", "gt1.system")]),
        );
        let token = |credentials: &Credentials, address: &str| {
            credentials
                .for_server(&address.parse().expect("an address"))
                .token
        };
        let found = Credentials::gather(None, Some(&user), &system).expect("found");
        assert_eq!(token(&found, "tcp://a:7370").as_deref(), Some("gt1.user"));
        assert_eq!(token(&found, "b").as_deref(), Some("gt1.system"));
        assert_eq!(token(&found, "c"), None);
        let named = file("named", " gt1.named\n");
        let found = Credentials::gather(Some(&named), Some(&user), &system).expect("found");
        let credential = found.for_server(&"a".parse().expect("an address"));
        assert_eq!(credential.token.as_deref(), Some("gt1.named"));
        assert!(
            credential.authority.is_some(),
            "the authority is the file's"
        );
        let nowhere = directory.path().join("nowhere");
        assert!(Credentials::gather(Some(&nowhere), None, &system).is_err());
        assert!(Credentials::gather(None, Some(&nowhere), &nowhere).is_ok());
    }
}
