//! The worker: one process that serves one session.
//!
//! What: [`main`] is all that the daemon starts; it gets the client's connection, unread beyond the hello, and
//! the hello itself. Rules: the worker answers the hello (the daemon has not), and from then on the connection is its
//! own: it ends when the client ends, within [`CLEAN_UP_LIMIT`](protocol::limits::CLEAN_UP_LIMIT). The daemon dies first
//! only by a crash, and then the kernel ends the worker. No environment variable of the daemon's loader is set.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use protocol::hello::{self, DeviceKind, Hello, HelloReply, RefusalCode};
use protocol::limits::HELLO_TIMEOUT;
use protocol::transport::HandshakeStream;

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerArguments {
    /// The client's connection; the next byte to read is the first of the first frame, and the hello is not yet
    /// answered.
    pub connection: OwnedFd,
    /// What the client asked for, checked.
    pub hello: Hello,
    /// The protocol version that the daemon chose.
    pub version: u32,
    /// The session's number.
    pub session: u64,
    /// The driver to load.
    pub driver: PathBuf,
    /// What the driver's devices are made of.
    pub kind: DeviceKind,
}

/// Serves the session to its end.
#[must_use]
pub fn main(arguments: WorkerArguments) -> ExitCode {
    let refused = hello::refusal(
        RefusalCode::Unsupported,
        "this server does not execute calls yet",
    );
    let deadline = Instant::now() + HELLO_TIMEOUT;
    let mut stream = HandshakeStream::new(arguments.connection.as_fd(), deadline);
    match hello::write(&mut stream, &HelloReply::from(refused)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::warn!(session = arguments.session, "cannot refuse: {error}");
            ExitCode::FAILURE
        }
    }
}
