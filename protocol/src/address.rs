//! Where a server is: `[tcp://]HOST[:PORT]`, `unix:PATH`, and lists of them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::{DEFAULT_PORT, MAX_ADDRESSES};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host, by name or number, and a port.
    Tcp {
        /// The host; an IPv6 address stands here without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is nothing.
    #[error("an empty server address")]
    Empty,
    /// Another scheme.
    #[error("'{0}' has an unknown scheme: use [tcp://]HOST[:PORT] or unix:PATH")]
    Scheme(String),
    /// No usable host.
    #[error("'{0}' has no valid host: use [tcp://]HOST[:PORT], an IPv6 address in brackets")]
    Host(String),
    /// No usable port.
    #[error("'{0}' has no valid port: use a number from 0 to 65535")]
    Port(String),
    /// `unix:` without a path, or with one that is not absolute or is too long for a socket.
    #[error("'{0}' has no valid path: use unix:/ABSOLUTE/PATH of at most {MAX_PATH_BYTES} bytes")]
    Path(String),
    /// More addresses than a list may have.
    #[error("more than {MAX_ADDRESSES} servers")]
    TooMany,
}

/// The longest path that a unix socket can have on Linux, without its final zero.
pub const MAX_PATH_BYTES: usize = 107;

impl Address {
    /// Parses a list with commas between addresses.
    ///
    /// # Errors
    /// An address in it is not one; there are too many.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, AddressError> {
        let list: Vec<Self> = text
            .split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<_, _>>()?;
        if list.len() > MAX_ADDRESSES {
            return Err(AddressError::TooMany);
        }
        Ok(list)
    }

    /// The list as text that [`Address::parse_list`] reads.
    #[must_use]
    pub fn format_list(addresses: &[Self]) -> String {
        let texts: Vec<String> = addresses.iter().map(Self::to_string).collect();
        texts.join(",")
    }

    /// The name of its transport.
    #[must_use]
    pub const fn transport(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Unix(_) => "unix",
        }
    }

    /// How a person writes it shortest, as after `--server`.
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Self::Tcp { host, port } if *port == DEFAULT_PORT => bracketed(host),
            Self::Tcp { host, port } => format!("{}:{port}", bracketed(host)),
            Self::Unix(_) => self.to_string(),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(formatter, "tcp://{}:{port}", bracketed(host)),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_path(text, path);
        }
        let rest = text.strip_prefix("tcp://").unwrap_or(text);
        if rest.contains("://") {
            return Err(AddressError::Scheme(text.to_owned()));
        }
        parse_host_and_port(text, rest)
    }
}

fn parse_path(text: &str, path: &str) -> Result<Address, AddressError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() > MAX_PATH_BYTES || path.contains(['\0', ',']) {
        return Err(AddressError::Path(text.to_owned()));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

fn parse_host_and_port(text: &str, rest: &str) -> Result<Address, AddressError> {
    let no_host = || AddressError::Host(text.to_owned());
    let (host, port) = if let Some(inside) = rest.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or_else(no_host)?;
        let numeric = host.split('%').next().unwrap_or_default();
        if numeric.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(no_host());
        }
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            None => return Err(no_host()),
            port => port,
        };
        (host, port)
    } else {
        match rest.split_once(':') {
            None => (rest, None),
            Some((host, port)) => (host, Some(port)),
        }
    };
    let is_strange = |character: char| {
        character.is_whitespace() || character.is_control() || "/@,[]".contains(character)
    };
    if host.is_empty() || host.contains(is_strange) {
        return Err(no_host());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
            .parse()
            .map_err(|_| AddressError::Port(text.to_owned()))?,
        Some(_) => return Err(AddressError::Port(text.to_owned())),
    };
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(host: &str, port: u16) -> Result<Address, AddressError> {
        Ok(Address::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    #[test]
    fn hosts_and_ports() {
        let parse = str::parse::<Address>;
        assert_eq!(parse("gpu1"), tcp("gpu1", 7370));
        assert_eq!(parse("tcp://gpu1"), tcp("gpu1", 7370));
        assert_eq!(parse("gpu1:0"), tcp("gpu1", 0));
        assert_eq!(parse("tcp://10.0.0.7:99"), tcp("10.0.0.7", 99));
        assert_eq!(parse("[::1]"), tcp("::1", 7370));
        assert_eq!(parse("tcp://[fe80::1%eth0]:1"), tcp("fe80::1%eth0", 1));
    }

    #[test]
    fn paths() {
        let path = |text: &str| Ok(Address::Unix(PathBuf::from(text)));
        assert_eq!("unix:/run/s".parse(), path("/run/s"));
        assert_eq!("unix:///run/s".parse(), path("/run/s"));
        for text in ["unix:", "unix:run/s"] {
            assert_eq!(
                text.parse::<Address>(),
                Err(AddressError::Path(text.to_owned()))
            );
        }
        assert!(
            format!("unix:/{}", "x".repeat(107))
                .parse::<Address>()
                .is_err()
        );
    }

    #[test]
    fn what_is_no_address() {
        let error = |text: &str| text.parse::<Address>().expect_err(text);
        assert_eq!(error(""), AddressError::Empty);
        assert_eq!(
            error("rdma://h"),
            AddressError::Scheme("rdma://h".to_owned())
        );
        for text in [
            "tcp://",
            ":7370",
            "[::1",
            "[gpu1]",
            "[::1]7370",
            "a b",
            "me@h",
            "h/x",
        ] {
            assert_eq!(error(text), AddressError::Host(text.to_owned()));
        }
        for text in ["h:", "h:65536", "h:+1", "h:-1", "::1"] {
            assert!(matches!(
                error(text),
                AddressError::Port(_) | AddressError::Host(_)
            ));
        }
    }

    #[test]
    fn lists() {
        let list = Address::parse_list("a, unix:/s,[::1]:2").expect("a list");
        assert_eq!(
            Address::format_list(&list),
            "tcp://a:7370,unix:/s,tcp://[::1]:2"
        );
        assert_eq!(Address::parse_list("a,,b"), Err(AddressError::Empty));
        assert_eq!(
            Address::parse_list(&"a,".repeat(16)),
            Err(AddressError::Empty)
        );
        assert_eq!(
            Address::parse_list(&["a"; 17].join(",")),
            Err(AddressError::TooMany)
        );
        assert_eq!(list[0].short(), "a");
        assert_eq!(list[2].short(), "[::1]:2");
    }

    proptest! {
        #[test]
        fn never_panics_and_what_parses_comes_back(text in ".{0,60}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
                prop_assert_eq!(address.short().parse(), Ok(address));
            }
        }

        #[test]
        fn structured_ones_come_back(host in "[a-z][a-z0-9.-]{0,20}", port: u16) {
            let address = Address::Tcp { host, port };
            prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
            prop_assert_eq!(address.short().parse(), Ok(address));
        }
    }
}
