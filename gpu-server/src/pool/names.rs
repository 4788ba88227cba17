//! Names that must not be mixed up: tenants, leases, requests, tokens.

use std::fmt;
use std::io;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

/// Most bytes of a tenant's name or a token's.
const MAX_NAME_BYTES: usize = 128;

/// What a lease's id begins with.
const LEASE_PREFIX: &str = "l-";

/// Random bytes of a lease's id: not to be guessed, although guessing would not help another tenant.
const LEASE_BYTES: usize = 10;

/// Letters of a lease's id after the prefix.
const LEASE_LETTERS: usize = 16;

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct InvalidName {
    text: String,
    expected: &'static str,
}

impl InvalidName {
    fn new(text: &str, expected: &'static str) -> Self {
        let text = text.chars().take(40).collect();
        Self { text, expected }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::is_valid(text)
                    .then(|| Self(text.to_owned()))
                    .ok_or_else(|| InvalidName::new(text, $expected))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name! {
    /// Whom leases belong to: of a token, `uid-N` of a unix socket's peer, or `local`.
    Tenant, "a tenant: 1 to 128 letters, digits, '-', '_', '.', '@' or ':'"
}

name! {
    /// Which token it was.
    TokenId, "a token's id: 1 to 128 letters, digits, '-', '_', '.', '@' or ':'"
}

name! {
    /// Names a lease: `l-` and 16 letters or digits.
    LeaseId, "a lease: l- and 16 letters or digits, as gpurun leases shows them"
}

fn is_plain_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

impl Tenant {
    fn is_valid(text: &str) -> bool {
        is_plain_name(text)
    }

    /// The tenant of a user of this machine, known by the kernel.
    #[must_use]
    pub fn of_user(user: u32) -> Self {
        Self(format!("uid-{user}"))
    }

    /// The tenant of who comes by loopback without a token.
    #[must_use]
    pub fn local() -> Self {
        Self("local".to_owned())
    }
}

impl TokenId {
    fn is_valid(text: &str) -> bool {
        is_plain_name(text)
    }
}

impl LeaseId {
    fn is_valid(text: &str) -> bool {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
        text.strip_prefix(LEASE_PREFIX)
            .is_some_and(|rest| rest.len() == LEASE_LETTERS && rest.bytes().all(is_letter))
    }

    /// A new one that nobody can guess.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; LEASE_BYTES];
        let mut filled = 0;
        while filled < LEASE_BYTES {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
        }
        Ok(Self::from_bytes(bytes))
    }

    /// From random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LEASE_BYTES]) -> Self {
        let letters = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
        Self(format!("{LEASE_PREFIX}{letters}"))
    }
}

/// Names a request while it waits. Given by the scheduler; not the same after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "r-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_sixteen_letters() {
        let id = LeaseId::random().expect("random numbers");
        assert_eq!(id.as_str().len(), 18);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_ne!(id, LeaseId::random().expect("random numbers"));
        for text in [
            "",
            "l-",
            "l-aaaaaaaaaaaaaaa1",
            "l-AAAAAAAAAAAAAAAA",
            "x-aaaaaaaaaaaaaaaa",
        ] {
            assert!(text.parse::<LeaseId>().is_err(), "{text}");
        }
    }

    #[test]
    fn tenants_are_plain_names() {
        assert_eq!(Tenant::of_user(7).as_str(), "uid-7");
        assert!("team@site:a.b_c-1".parse::<Tenant>().is_ok());
        for text in ["", "a b", "a\n", "ü", "a/b"] {
            assert!(text.parse::<Tenant>().is_err(), "{text}");
        }
        assert!("x".repeat(129).parse::<Tenant>().is_err());
    }
}
