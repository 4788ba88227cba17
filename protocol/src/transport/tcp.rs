//! TCP: small frames leave at once, and a machine that vanishes is noticed.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::socket::Socket;
use super::{Connection, Patience};

/// Keepalive begins after so long a silence, and repeats so often; heartbeats normally come first.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Connects, trying each address in turn until `deadline`.
///
/// # Errors
/// The last address's error; `TimedOut` when the time is over; `NotFound` without any address.
pub fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<OwnedFd> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Sets what a connection wants of its socket: no delay of small frames, and keepalive.
///
/// There is no `TCP_USER_TIMEOUT`: it would also end a connection whose peer's process takes nothing while its machine answers
/// every probe, and such a process may be silent for as long as the [`Patience`] with it says. What the option is meant for, a
/// machine that answers nothing, the connection sees itself.
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn tune(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    Ok(())
}

/// The connection of a connected TCP socket.
///
/// # Errors
/// The descriptor is no connected TCP socket.
pub fn from_fd(socket: OwnedFd, patience: Patience) -> io::Result<Connection> {
    tune(&socket)?;
    let peer = rustix::net::getpeername(&socket)?.ok_or(io::ErrorKind::NotConnected)?;
    let peer = SocketAddr::try_from(peer)?;
    let description = format!("tcp://{peer}");
    Ok(Connection::over(
        Socket::tcp(socket)?,
        patience,
        description,
    ))
}
