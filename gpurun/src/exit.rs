//! What `gpurun` itself ends with when it is not the program's own status.

use std::fmt;
use std::io;

use protocol::config::ConfigError;
use protocol::connect::ConnectError;

/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// No server is there.
pub(crate) const NO_SERVER: u8 = 120;
/// The server says no.
pub(crate) const REFUSED: u8 = 121;
/// The time that the user would wait is over.
pub(crate) const WAIT_OVER: u8 = 122;
/// Our own failure.
pub(crate) const INTERNAL: u8 = 123;
/// The program is there but cannot be run, as in sh.
pub(crate) const CANNOT_RUN: u8 = 126;
/// The program is not there, as in sh.
pub(crate) const NOT_FOUND: u8 = 127;

/// Why there was no run.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) const fn status(&self) -> u8 {
        self.status
    }

    /// The operating system did not run the program.
    pub(crate) fn of_program(program: &std::ffi::OsStr, error: &io::Error) -> Self {
        let program = program.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Self::new(NOT_FOUND, format!("{program}: not found"))
            }
            _ => Self::new(CANNOT_RUN, format!("{program}: {error}")),
        }
    }

    /// The operating system did not do something that a run needs.
    pub(crate) fn internal(what: &str, error: impl fmt::Display) -> Self {
        Self::new(INTERNAL, format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(status_of(&error), error.to_string())
    }
}

/// What gpurun ends with where there is no connection.
pub(crate) const fn status_of(error: &ConnectError) -> u8 {
    match error {
        ConnectError::Refused { .. }
        | ConnectError::Version { .. }
        | ConnectError::Tls { .. }
        | ConnectError::Clear(_) => REFUSED,
        ConnectError::Credentials(_) => USAGE,
        ConnectError::Unreachable { .. }
        | ConnectError::Hello { .. }
        | ConnectError::NoRdma { .. } => NO_SERVER,
    }
}
