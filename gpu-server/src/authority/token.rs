//! Tokens: who somebody is and what they may have, signed.
//!
//! ```text
//! gt1.BODY.SIGNATURE      both base64url; BODY is a message, SIGNATURE is Ed25519 over SIGNED_PREFIX and the body
//! ```
//!
//! Rules: nothing of a body is believed before its signature is; a token without an end has none, and then only revoking ends it; a token
//! made on a machine whose clock is a little ahead works at once.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use prost::Message;
use protocol::credentials::TOKEN_PREFIX;
use protocol::limits::MAX_TOKEN_BYTES;

use crate::pool::{Caller, Compute, Limits, Moment, Tenant, TokenId};

/// What is signed before the body, so that a signature of this key means nothing elsewhere.
const SIGNED_PREFIX: &[u8] = b"gpurun token, version 1\0";

/// How far the clock of whoever makes tokens may be ahead.
const SKEW: Duration = Duration::from_secs(60);

/// Why a token is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of one.
    #[error("the token is damaged: it does not have the form {TOKEN_PREFIX}BODY.SIGNATURE")]
    Malformed,
    /// Another key has signed it, or it was changed.
    #[error(
        "the token was not signed by this server's authority, or was changed; ask the server's operator for a new one"
    )]
    Forged,
    /// Its time is over.
    #[error(
        "the token {id} of tenant {tenant} has expired; ask the server's operator for a new one"
    )]
    Expired {
        /// Which.
        id: TokenId,
        /// Whose.
        tenant: Tenant,
    },
    /// It is from the future.
    #[error(
        "the token {0} is not valid yet: compare the clocks of the server and of the machine that made it"
    )]
    NotYet(TokenId),
    /// It was revoked.
    #[error("the token {0} was revoked")]
    Revoked(TokenId),
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Which token it is.
    pub id: TokenId,
    /// Whose it is.
    pub tenant: Tenant,
    /// What its tenant may have.
    pub limits: Limits,
    /// Whether its holder may see and end everybody's leases.
    pub is_operator: bool,
    /// When it was made.
    pub issued: Moment,
    /// When it ends; none: never.
    pub expires: Option<Moment>,
}

/// The body as it travels. Numbers are never reused.
#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    tenant: String,
    #[prost(uint64, tag = "3")]
    issued_unix_ms: u64,
    #[prost(uint64, optional, tag = "4")]
    expires_unix_ms: Option<u64>,
    #[prost(bool, tag = "5")]
    is_operator: bool,
    #[prost(uint32, optional, tag = "6")]
    devices: Option<u32>,
    #[prost(uint64, optional, tag = "7")]
    memory_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    compute_millionths: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    lease_seconds: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    leases: Option<u32>,
}

impl Claims {
    /// Who calls with it.
    #[must_use]
    pub fn into_caller(self) -> Caller {
        Caller {
            tenant: self.tenant,
            limits: self.limits,
            is_operator: self.is_operator,
            token_id: Some(self.id),
        }
    }

    fn to_body(&self) -> Body {
        Body {
            id: self.id.to_string(),
            tenant: self.tenant.to_string(),
            issued_unix_ms: self.issued.0,
            expires_unix_ms: self.expires.map(|moment| moment.0),
            is_operator: self.is_operator,
            devices: self.limits.devices,
            memory_bytes: self.limits.memory_bytes,
            compute_millionths: self.limits.compute.map(Compute::millionths),
            lease_seconds: self.limits.lease_time.map(|time| time.as_secs()),
            leases: self.limits.leases,
        }
    }

    fn of_body(body: Body) -> Result<Self, TokenError> {
        Ok(Self {
            id: body.id.parse().map_err(|_| TokenError::Malformed)?,
            tenant: body.tenant.parse().map_err(|_| TokenError::Malformed)?,
            limits: Limits {
                devices: body.devices,
                memory_bytes: body.memory_bytes,
                compute: body.compute_millionths.map(Compute::from_millionths),
                lease_time: body.lease_seconds.map(Duration::from_secs),
                leases: body.leases,
            },
            is_operator: body.is_operator,
            issued: Moment(body.issued_unix_ms),
            expires: body.expires_unix_ms.map(Moment),
        })
    }

    /// Whether it is good now.
    fn check_time(&self, now: Moment) -> Result<(), TokenError> {
        if self.issued > now + SKEW {
            return Err(TokenError::NotYet(self.id.clone()));
        }
        match self.expires {
            Some(expires) if expires <= now => Err(TokenError::Expired {
                id: self.id.clone(),
                tenant: self.tenant.clone(),
            }),
            _ => Ok(()),
        }
    }
}

fn signed(body: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, body].concat()
}

/// The token that says this.
#[must_use]
pub fn sign(claims: &Claims, key: &SigningKey) -> String {
    let body = claims.to_body().encode_to_vec();
    let signature = key.sign(&signed(&body));
    let body = BASE64URL_NOPAD.encode(&body);
    let signature = BASE64URL_NOPAD.encode(&signature.to_bytes());
    format!("{TOKEN_PREFIX}{body}.{signature}")
}

/// What a token says, if it is good now. Whether it was revoked is not known here.
///
/// # Errors
/// See [`TokenError`].
pub fn verify(token: &str, key: &VerifyingKey, now: Moment) -> Result<Claims, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let (body, signature) = token
        .strip_prefix(TOKEN_PREFIX)
        .and_then(|rest| rest.split_once('.'))
        .ok_or(TokenError::Malformed)?;
    let decode = |text: &str| {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
        bytes.map_err(|_| TokenError::Malformed)
    };
    let body = decode(body)?;
    let signature =
        Signature::from_slice(&decode(signature)?).map_err(|_| TokenError::Malformed)?;
    key.verify_strict(&signed(&body), &signature)
        .map_err(|_| TokenError::Forged)?;
    let body = Body::decode(body.as_slice()).map_err(|_| TokenError::Malformed)?;
    let claims = Claims::of_body(body)?;
    claims.check_time(now)?;
    Ok(claims)
}

/// A key that everybody knows, for the fuzzer.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn fuzzing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Moment = Moment(1_700_000_000_000);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn claims() -> Claims {
        Claims {
            id: "t1".parse().expect("an id"),
            tenant: "team-a".parse().expect("a tenant"),
            limits: Limits {
                devices: Some(2),
                memory_bytes: Some(1 << 34),
                compute: Some(Compute::from_fraction(0.5)),
                lease_time: Some(Duration::from_secs(3600)),
                leases: Some(4),
            },
            is_operator: true,
            issued: NOW,
            expires: Some(NOW + Duration::from_secs(100)),
        }
    }

    #[test]
    fn a_token_says_what_was_signed() {
        let token = sign(&claims(), &key(1));
        let found = verify(&token, &key(1).verifying_key(), NOW);
        assert_eq!(found, Ok(claims()));
        assert!(matches!(
            protocol::credentials::parse_token_file(&token),
            Ok(protocol::credentials::TokenFile::Token(_))
        ));
        let nothing = Claims {
            limits: Limits::default(),
            is_operator: false,
            expires: None,
            ..claims()
        };
        let token = sign(&nothing, &key(1));
        let later = NOW + Duration::from_secs(1 << 33);
        assert_eq!(verify(&token, &key(1).verifying_key(), later), Ok(nothing));
    }

    #[test]
    fn time_and_key_count() {
        let token = sign(&claims(), &key(1));
        let at = |now, seed| verify(&token, &key(seed).verifying_key(), now);
        assert_eq!(at(NOW, 2), Err(TokenError::Forged));
        let later = NOW + Duration::from_secs(100);
        assert!(matches!(at(later, 1), Err(TokenError::Expired { .. })));
        assert!(
            at(Moment(NOW.0 - 59_000), 1).is_ok(),
            "a clock that is ahead"
        );
        let earlier = Moment(NOW.0 - 61_000);
        assert!(matches!(at(earlier, 1), Err(TokenError::NotYet(_))));
    }

    #[test]
    fn every_change_is_seen() {
        let token = sign(&claims(), &key(1));
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            let found = verify(&changed, &key(1).verifying_key(), NOW);
            assert!(
                matches!(found, Err(TokenError::Forged | TokenError::Malformed)),
                "{place}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_calmly(text in ".{0,300}", body in prop::collection::vec(any::<u8>(), 0..80)) {
            let verifying = key(1).verifying_key();
            prop_assert!(verify(&text, &verifying, NOW).is_err());
            // Whatever bytes the right key signs are at worst malformed.
            let signature = key(1).sign(&signed(&body)).to_bytes();
            let token = format!("gt1.{}.{}", BASE64URL_NOPAD.encode(&body), BASE64URL_NOPAD.encode(&signature));
            let _ = verify(&token, &verifying, NOW);
        }
    }
}
