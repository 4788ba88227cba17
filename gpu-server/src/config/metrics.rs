//! What the settings say of figures for operators.

use std::net::SocketAddr;

use super::ConfigError;

/// Where the figures are if nothing else is said: beside the port of the hello, and only for this machine.
const DEFAULT: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    protocol::limits::DEFAULT_PORT + 1,
);

/// The address, if there are to be figures: servers without a state directory, which a program or a test has started, do not fight for
/// a port.
pub(super) fn address(
    word: Option<&str>,
    has_state: bool,
) -> Result<Option<SocketAddr>, ConfigError> {
    match word {
        None => Ok(has_state.then_some(DEFAULT)),
        Some("off") => Ok(None),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(ConfigError::Metrics(text.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_this_machine_and_can_be_left_out() {
        let is = |word, has_state| {
            let address = address(word, has_state).expect("a setting");
            address.map(|address| address.to_string())
        };
        assert_eq!(is(None, true).as_deref(), Some("127.0.0.1:7371"));
        assert_eq!(is(None, false), None);
        assert_eq!(is(Some("off"), true), None);
        assert_eq!(is(Some("[::1]:9"), false).as_deref(), Some("[::1]:9"));
        let error = address(Some("7371"), true).expect_err("no address");
        assert!(error.to_string().contains("metrics: '7371'"), "{error}");
    }
}
