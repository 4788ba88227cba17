//! What the settings say of who may come from elsewhere, and how.

use std::path::{Path, PathBuf};

use protocol::transport::tls::Identity;

use super::ConfigError;
use crate::authority::{Authority, Directory, DirectoryError};

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct SecurityFile {
    pub(super) authority: Option<PathBuf>,
    pub(super) tls_certificate: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) require_token: Option<bool>,
    pub(super) require_encryption: Option<bool>,
    pub(super) trust_loopback: Option<bool>,
}

/// Who may come from elsewhere, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityConfig {
    /// Other machines are let in without encryption and without a token.
    pub is_insecure: bool,
    /// Nobody is let in without a token but operators on a unix socket.
    pub requires_token: bool,
    /// Nobody is let in unencrypted but on a unix socket.
    pub requires_encryption: bool,
    /// Who comes by TCP from this machine is let in as if from a unix socket.
    pub trusts_loopback: bool,
    /// The authority for tokens.
    pub authority: Option<Directory>,
    /// A certificate chain and its key in PEM, instead of the authority's.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl SecurityConfig {
    /// What file and flags say together. Without a word of an authority, it is the one in the state directory, if there is one.
    pub(super) fn merge(
        file: SecurityFile,
        state: Option<&Path>,
        is_insecure: bool,
    ) -> Result<Self, ConfigError> {
        let in_state = || state.map(Directory::of_state).filter(Directory::exists);
        let certificate = match (file.tls_certificate, file.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(ConfigError::HalfCertificate),
        };
        Ok(Self {
            is_insecure,
            requires_token: file.require_token.unwrap_or(false),
            requires_encryption: file.require_encryption.unwrap_or(false),
            trusts_loopback: file.trust_loopback.unwrap_or(true),
            authority: file.authority.map(Directory::at).or_else(in_state),
            certificate,
        })
    }

    /// Whether other machines can be let in: who comes is asked for a token, and nobody between can read along.
    #[must_use]
    pub const fn is_protected(&self) -> bool {
        self.authority.is_some()
    }

    /// Where the certificate is, for messages.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        match (&self.certificate, &self.authority) {
            (Some((path, _)), _) => path.clone(),
            (None, Some(directory)) => directory.file("server.pem"),
            (None, None) => PathBuf::new(),
        }
    }

    /// The certificate and key that are shown, if there are any.
    ///
    /// # Errors
    /// They cannot be read, or are none.
    pub fn identity(&self) -> Result<Option<Identity>, DirectoryError> {
        let Some((chain, key)) = &self.certificate else {
            return self.authority.as_ref().map(Authority::identity).transpose();
        };
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| DirectoryError::File {
                path: path.to_owned(),
                source,
            })
        };
        let identity = Identity::from_pem(&read(chain)?, &read(key)?);
        let identity = identity.map_err(|error| DirectoryError::Content {
            path: chain.clone(),
            problem: error.to_string(),
        })?;
        Ok(Some(identity))
    }
}
