//! Unix sockets: the same host, and the kernel knows who is at the other end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::socket::Socket;
use super::{Connection, Patience};

/// Connects to the socket at `path`.
///
/// # Errors
/// The operating system's.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    loop {
        match UnixStream::connect(path) {
            // A signal of the program while the server's queue was full.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            stream => return Ok(stream?.into()),
        }
    }
}

/// The connection of a connected unix stream socket.
///
/// # Errors
/// The descriptor is no connected socket.
pub fn from_fd(socket: OwnedFd, patience: Patience) -> io::Result<Connection> {
    rustix::net::getpeername(&socket)?;
    Ok(Connection::over(
        Socket::new(socket)?,
        patience,
        "unix socket".to_owned(),
    ))
}
