//! Who may come from where, and how: TLS, tokens, the kernel's word.
//!
//! What: [`admit`] decides purely who calls, or why not; [`Security`] holds the certificate, the authority and the tickets of the daemon.
//!
//! ```text
//! unix socket                the kernel names the user: tenant uid-N; root and the server's own user are operators. A token says otherwise
//! loopback                   tenant local, an operator; unless require_token. With trust_loopback = false: as another machine
//! another machine, TLS       a token, always; with --insecure also without: tenant local, no operator
//! another machine, clear     refused; with --insecure: tenant local, no operator
//! ```

use protocol::hello::{RefusalCode, Refused, Ticket, TlsOrder, refusal};
use protocol::limits::HELLO_TIMEOUT;
use protocol::transport::tls::{self, GPURUN_PROTOCOL, GRPC_PROTOCOL};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::handshake::Client;
use super::stream::Origin;
use super::tickets::Secret;
use crate::authority::{Authority, DirectoryError};
use crate::config::SecurityConfig;
use crate::pool::{Caller, Moment, Tenant, TokenId};

/// A fatal alert, handshake failure, in the clear: what a client that speaks TLS understands where there is no certificate.
const NO_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// What the daemon has for its security.
pub(super) struct Security {
    config: SecurityConfig,
    acceptor: Option<TlsAcceptor>,
    authority: Option<Authority>,
}

impl Security {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub(super) fn load(config: SecurityConfig) -> Result<Self, DirectoryError> {
        let acceptor = acceptor(&config)?;
        let authority = config.authority.clone().map(Authority::load).transpose()?;
        Ok(Self {
            config,
            acceptor,
            authority,
        })
    }

    /// What speaks TLS, if there is a certificate.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.acceptor.clone()
    }

    /// Reads the certificate again; what was there before stays where the new one is no good.
    pub(super) fn reload(&mut self) {
        match acceptor(&self.config) {
            Ok(acceptor) => {
                self.acceptor = acceptor;
                tracing::info!("took the certificate anew");
            }
            Err(error) => tracing::error!("keeping the certificate as it was: {error}"),
        }
    }

    /// Tokens that were revoked since the last look.
    pub(super) fn newly_revoked(&mut self) -> Vec<TokenId> {
        let Some(authority) = &mut self.authority else {
            return Vec::new();
        };
        authority.refresh().unwrap_or_else(|error| {
            tracing::error!("the list of revoked tokens: {error}");
            Vec::new()
        })
    }

    /// Who calls.
    ///
    /// # Errors
    /// What to refuse the caller with.
    pub(super) fn admit(&self, way: Way, token: &str) -> Result<Caller, Refused> {
        let rules = Rules {
            is_insecure: self.config.is_insecure,
            requires_token: self.config.requires_token,
            requires_encryption: self.config.requires_encryption,
            trusts_loopback: self.config.trusts_loopback,
            own_user: rustix::process::geteuid().as_raw(),
        };
        let check = |token: &str| {
            let authority = self.authority.as_ref()?;
            let caller = authority.caller(token, Moment::now());
            Some(caller.map_err(|error| error.to_string()))
        };
        admit(&rules, way, token, check)
    }
}

fn acceptor(config: &SecurityConfig) -> Result<Option<TlsAcceptor>, DirectoryError> {
    let Some(identity) = config.identity()? else {
        return Ok(None);
    };
    let tls = tls::server_config(&identity, &[GPURUN_PROTOCOL, GRPC_PROTOCOL]);
    let tls = tls.map_err(|error| DirectoryError::Content {
        path: config.certificate_path(),
        problem: error.to_string(),
    })?;
    Ok(Some(TlsAcceptor::from(tls)))
}

/// How a caller came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) origin: Origin,
    pub(super) is_encrypted: bool,
}

/// What the settings say of callers.
#[derive(Debug, Clone, Copy)]
struct Rules {
    is_insecure: bool,
    requires_token: bool,
    requires_encryption: bool,
    trusts_loopback: bool,
    own_user: u32,
}

/// Who calls. `check` knows tokens, if there is an authority.
fn admit(
    rules: &Rules,
    way: Way,
    token: &str,
    check: impl FnOnce(&str) -> Option<Result<Caller, String>>,
) -> Result<Caller, Refused> {
    let is_near = match way.origin {
        Origin::User(_) => true,
        Origin::Loopback => rules.trusts_loopback,
        Origin::Remote => false,
    };
    let is_tcp = !matches!(way.origin, Origin::User(_));
    let wants_tls = (!is_near && !rules.is_insecure) || (is_tcp && rules.requires_encryption);
    if wants_tls && !way.is_encrypted {
        let message = "this server takes such connections only encrypted. Install the bundle that its operator gave you: \
                       gpurun login BUNDLE";
        return Err(refusal(RefusalCode::Encryption, message));
    }
    if !token.is_empty() {
        match check(token) {
            Some(Ok(caller)) => return Ok(caller),
            Some(Err(problem)) => return Err(refusal(RefusalCode::Unauthenticated, problem)),
            // Without an authority nobody was told to have a token; one that is meant for another server does no harm where the
            // kernel's word is enough.
            None if is_near && !rules.requires_token => {}
            None => {
                let message = "this server has no authority that could check a token; its operator can make one with gpu-server init";
                return Err(refusal(RefusalCode::Unauthenticated, message));
            }
        }
    }
    let wants_token = rules.requires_token || !(is_near || rules.is_insecure);
    match way.origin {
        Origin::User(Some(user)) if is_operator(rules, user) || !rules.requires_token => {
            let tenant = Tenant::of_user(user);
            Ok(Caller::unlimited(tenant, is_operator(rules, user)))
        }
        Origin::User(None) if !rules.requires_token => {
            let message = "the kernel does not tell which user calls: use another connection";
            Err(refusal(RefusalCode::Unauthenticated, message))
        }
        _ if wants_token => {
            let message = "this server wants a token. Install the bundle that its operator gave you (gpurun login BUNDLE), or name \
                           its file with GPURUN_TOKEN_FILE";
            Err(refusal(RefusalCode::Unauthenticated, message))
        }
        _ => Ok(Caller::unlimited(Tenant::local(), is_near)),
    }
}

const fn is_operator(rules: &Rules, user: u32) -> bool {
    user == 0 || user == rules.own_user
}

/// The same client after its TLS handshake; one that fails, or takes too long, is logged, told and dropped here.
pub(super) async fn accept(client: Client, tls: Option<TlsAcceptor>) -> Option<Client> {
    let name = client.name().to_owned();
    let Some(tls) = tls else {
        tracing::warn!(client = name, "refused: TLS, and there is no certificate");
        if let Ok(socket) = client.into_tcp() {
            let mut socket = socket;
            // A client that does not take it sees the end of the connection instead.
            let _ = timeout(HELLO_TIMEOUT, socket.write_all(&NO_TLS)).await;
        }
        return None;
    };
    match timeout(HELLO_TIMEOUT, client.encrypted(&tls)).await {
        Ok(Ok(client)) => Some(client),
        Ok(Err(error)) => {
            tracing::warn!(client = name, "refused: TLS handshake: {error}");
            None
        }
        Err(_) => {
            tracing::warn!(client = name, "refused: no TLS handshake in time");
            None
        }
    }
}

/// A key for one session: what goes to the client, and what goes to its worker.
///
/// # Errors
/// No key could be made.
pub(super) fn session_key(secret: &Secret) -> Result<(Ticket, TlsOrder), String> {
    let make = || -> Result<_, rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["gpurun.invalid".to_owned()])?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = make().map_err(|error| error.to_string())?;
    let fingerprint = tls::fingerprint(certificate.der()).map_err(|error| error.to_string())?;
    let ticket = Ticket {
        secret: secret.bytes(),
        fingerprint: fingerprint.to_vec(),
    };
    let order = TlsOrder {
        certificate: certificate.der().to_vec(),
        key: key.serialize_der(),
        proof: secret.proof.to_vec(),
    };
    Ok((ticket, order))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        is_insecure: false,
        requires_token: false,
        requires_encryption: false,
        trusts_loopback: true,
        own_user: 50,
    };

    fn checked(token: &str) -> Option<Result<Caller, String>> {
        Some(match token {
            "good" => Ok(Caller::unlimited("team".parse().expect("a tenant"), false)),
            _ => Err("the token was revoked".to_owned()),
        })
    }

    fn called(rules: Rules, origin: Origin, is_encrypted: bool, token: &str) -> String {
        let way = Way {
            origin,
            is_encrypted,
        };
        match admit(&rules, way, token, checked) {
            Ok(caller) if caller.is_operator => format!("{} operator", caller.tenant),
            Ok(caller) => caller.tenant.to_string(),
            Err(refused) => format!("{:?}", refused.code()),
        }
    }

    #[test]
    fn another_machine_needs_tls_and_a_token() {
        let remote =
            |rules, is_encrypted, token| called(rules, Origin::Remote, is_encrypted, token);
        assert_eq!(remote(RULES, true, "good"), "team");
        assert_eq!(remote(RULES, true, ""), "Unauthenticated");
        assert_eq!(remote(RULES, true, "bad"), "Unauthenticated");
        for token in ["", "good"] {
            assert_eq!(remote(RULES, false, token), "Encryption");
        }
        let insecure = Rules {
            is_insecure: true,
            ..RULES
        };
        assert_eq!(remote(insecure, false, ""), "local");
        assert_eq!(remote(insecure, true, "bad"), "Unauthenticated");
        let strict = Rules {
            requires_token: true,
            requires_encryption: true,
            ..insecure
        };
        assert_eq!(remote(strict, false, "good"), "Encryption");
        assert_eq!(remote(strict, true, ""), "Unauthenticated");
    }

    #[test]
    fn this_machine_is_believed_unless_the_settings_say_otherwise() {
        assert_eq!(called(RULES, Origin::Loopback, false, ""), "local operator");
        assert_eq!(called(RULES, Origin::Loopback, false, "good"), "team");
        let far = Rules {
            trusts_loopback: false,
            ..RULES
        };
        assert_eq!(called(far, Origin::Loopback, false, ""), "Encryption");
        assert_eq!(called(far, Origin::Loopback, true, "good"), "team");
        let with_token = Rules {
            requires_token: true,
            ..RULES
        };
        assert_eq!(
            called(with_token, Origin::Loopback, false, ""),
            "Unauthenticated"
        );
        let encrypted = Rules {
            requires_encryption: true,
            ..RULES
        };
        assert_eq!(called(encrypted, Origin::Loopback, false, ""), "Encryption");
        assert_eq!(called(encrypted, Origin::User(Some(7)), false, ""), "uid-7");
    }

    #[test]
    fn the_kernel_names_users() {
        let user = |rules, user| called(rules, Origin::User(user), false, "");
        assert_eq!(user(RULES, Some(0)), "uid-0 operator");
        assert_eq!(user(RULES, Some(50)), "uid-50 operator");
        assert_eq!(user(RULES, Some(51)), "uid-51");
        assert_eq!(user(RULES, None), "Unauthenticated");
        let with_token = Rules {
            requires_token: true,
            ..RULES
        };
        assert_eq!(
            user(with_token, Some(0)),
            "uid-0 operator",
            "never locked out"
        );
        assert_eq!(user(with_token, Some(51)), "Unauthenticated");
        assert_eq!(called(RULES, Origin::User(Some(0)), false, "good"), "team");
    }

    #[test]
    fn without_an_authority_a_token_is_for_another_server() {
        let admitted = |rules, origin| {
            let way = Way {
                origin,
                is_encrypted: true,
            };
            admit(&rules, way, "gt1.x", |_| None)
        };
        assert!(admitted(RULES, Origin::Loopback).is_ok());
        let refused = admitted(RULES, Origin::Remote).expect_err("refused");
        assert!(
            refused.message.contains("gpu-server init"),
            "{}",
            refused.message
        );
    }
}
