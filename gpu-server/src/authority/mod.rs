//! The authority: who may come from elsewhere, and how they know that this server is this server.
//!
//! What: the files that `gpu-server init` makes ([`Directory`]), the tokens that `gpu-server token create` makes ([`token`]), and what the daemon asks of
//! both ([`Authority`]). Why here and not in a service: an operator of one server needs no other program, and a token is checked without asking
//! anybody. Rules: a token is believed by its signature alone, and only if it is not in the list of revoked ones; that list is a file, so that revoking
//! works whether or not the daemon runs, and a daemon that runs looks at it all the time.

pub mod command;
mod directory;
pub mod token;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use ed25519_dalek::VerifyingKey;
use protocol::transport::tls::Identity;

pub(crate) use directory::fill_random;
pub use directory::{Directory, DirectoryError};

use crate::pool::{Caller, Moment, TokenId};
use token::TokenError;

/// What names a state of a file: whoever writes it changes at least one of these.
type Stamp = (u64, u64, i64, i64);

/// What the daemon knows of the authority.
#[derive(Debug)]
pub struct Authority {
    directory: Directory,
    key: VerifyingKey,
    revoked: BTreeSet<TokenId>,
    stamp: Option<Stamp>,
}

impl Authority {
    /// The authority of these files.
    ///
    /// # Errors
    /// They are not there, or hold something else.
    pub fn load(directory: Directory) -> Result<Self, DirectoryError> {
        let key = directory.verifying_key()?;
        let mut authority = Self {
            directory,
            key,
            revoked: BTreeSet::new(),
            stamp: None,
        };
        authority.refresh()?;
        Ok(authority)
    }

    /// Who calls with this token.
    ///
    /// # Errors
    /// The token is worth nothing; why.
    pub fn caller(&self, token: &str, now: Moment) -> Result<Caller, TokenError> {
        let claims = token::verify(token, &self.key, now)?;
        if self.revoked.contains(&claims.id) {
            return Err(TokenError::Revoked(claims.id));
        }
        Ok(claims.into_caller())
    }

    /// Whether this token was revoked.
    #[must_use]
    pub fn is_revoked(&self, id: &TokenId) -> bool {
        self.revoked.contains(id)
    }

    /// Looks at the list of revoked tokens again; those that are new in it. Costs one `stat` where nothing has changed.
    ///
    /// # Errors
    /// The list cannot be read, or holds something else; what was known before still holds.
    pub fn refresh(&mut self) -> Result<Vec<TokenId>, DirectoryError> {
        let path = self.directory.file("revoked");
        let metadata = std::fs::metadata(&path);
        let metadata = metadata.map_err(|source| DirectoryError::File { path, source })?;
        let stamp = (
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        if self.stamp == Some(stamp) {
            return Ok(Vec::new());
        }
        let revoked = revoked(&self.directory)?;
        let new = revoked.difference(&self.revoked).cloned().collect();
        // A line that somebody took out does not make a token good again while we run: its leases are gone already.
        self.revoked.extend(revoked);
        self.stamp = Some(stamp);
        Ok(new)
    }

    /// The certificate and key that the server shows.
    ///
    /// # Errors
    /// They cannot be read, or are none.
    pub fn identity(directory: &Directory) -> Result<Identity, DirectoryError> {
        let chain = directory.text("server.pem")?;
        let key = directory.text("server.key")?;
        Identity::from_pem(chain.as_bytes(), key.as_bytes()).map_err(|error| {
            DirectoryError::Content {
                path: directory.file("server.pem"),
                problem: error.to_string(),
            }
        })
    }
}

/// The ids in the list of revoked tokens.
///
/// # Errors
/// It cannot be read, or holds something else.
fn revoked(directory: &Directory) -> Result<BTreeSet<TokenId>, DirectoryError> {
    let text = directory.text("revoked")?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            line.parse().map_err(
                |problem: crate::pool::InvalidName| DirectoryError::Content {
                    path: directory.file("revoked"),
                    problem: problem.to_string(),
                },
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use crate::pool::Limits;

    fn made() -> (tempfile::TempDir, Directory) {
        let state = tempfile::tempdir().expect("a directory");
        let directory = Directory::of_state(&state.path().join("state"));
        directory
            .create(
                &["localhost".to_owned()],
                &["tcp://localhost:7370".to_owned()],
            )
            .expect("made");
        (state, directory)
    }

    fn signed(directory: &Directory, id: &str) -> String {
        let claims = token::Claims {
            id: id.parse().expect("an id"),
            tenant: "team".parse().expect("a tenant"),
            limits: Limits::default(),
            is_operator: false,
            issued: Moment::now(),
            expires: Some(Moment::now() + Duration::from_secs(1000)),
        };
        token::sign(&claims, &directory.signing_key().expect("a key"))
    }

    #[test]
    fn it_is_private_and_never_overwritten() {
        let (_state, directory) = made();
        let mode = |path: &std::path::Path| {
            let metadata = std::fs::metadata(path).expect("there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode(directory.path()), 0o700);
        for file in std::fs::read_dir(directory.path()).expect("a directory") {
            let path = file.expect("a file").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            assert_ne!(path.extension().and_then(|end| end.to_str()), Some("new"));
        }
        let again = directory.create(&["localhost".to_owned()], &[]);
        assert!(matches!(again, Err(DirectoryError::Exists(_))));
        let before = directory.text("server.pem").expect("a certificate");
        directory.renew(&["elsewhere".to_owned()]).expect("renewed");
        assert_ne!(directory.text("server.pem").expect("another"), before);
        assert_eq!(Authority::identity(&directory).expect("one").chain.len(), 1);
        let name = directory.renew(&["no name".to_owned(), "\u{e4}".to_owned()]);
        assert!(matches!(name, Err(DirectoryError::Name { .. })), "{name:?}");
    }

    #[test]
    fn a_revoked_token_is_worth_nothing_at_once() {
        let (_state, directory) = made();
        let mut authority = Authority::load(directory.clone()).expect("loaded");
        let (one, other) = (signed(&directory, "one"), signed(&directory, "other"));
        let caller = authority.caller(&one, Moment::now()).expect("a caller");
        assert_eq!(caller.tenant.as_str(), "team");
        assert_eq!(authority.refresh().expect("looked"), []);
        directory.append("revoked", "one").expect("revoked");
        let new = authority.refresh().expect("looked");
        assert_eq!(new.iter().map(TokenId::as_str).collect::<Vec<_>>(), ["one"]);
        let refused = authority.caller(&one, Moment::now());
        assert!(matches!(refused, Err(TokenError::Revoked(_))));
        assert!(authority.caller(&other, Moment::now()).is_ok());
        let later = Authority::load(directory).expect("loaded");
        assert!(later.caller(&one, Moment::now()).is_err());
    }

    #[test]
    fn nothing_there_says_what_to_do() {
        let nowhere = Directory::of_state(std::path::Path::new("/nowhere"));
        let error = Authority::load(nowhere).expect_err("nothing").to_string();
        assert!(error.contains("gpu-server init makes one"), "{error}");
    }

    /// A client that has the authority's certificate believes the server's, by every name that it was made for.
    #[test]
    fn clients_believe_what_is_made() {
        use protocol::transport::tls::{self, Trust};
        let (_state, directory) = made();
        for round in 0..2 {
            let identity = Authority::identity(&directory).expect("an identity");
            let trust = Trust::Authority(directory.text("authority.pem").expect("a text"));
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            let serving = std::thread::spawn(move || {
                let (socket, _) = listener.accept().expect("a client");
                tls::accept(socket.into(), &identity, deadline).expect("believed")
            });
            let socket = std::net::TcpStream::connect(address).expect("connected");
            tls::connect(socket.into(), &trust, "localhost", deadline).expect("believed");
            serving.join().expect("the server");
            if round == 0 {
                directory.renew(&["localhost".to_owned()]).expect("renewed");
            }
        }
    }
}
