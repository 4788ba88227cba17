//! Going to a server with a credential: encrypted where an authority is known for it, and with a token.
//!
//! What: [`greet`] says hello on a connected socket and gives the answer with the [`Line`] on which frames follow. Over TLS a session is answered
//! with a ticket: the hello's connection ends, and a second one, to the same address, begins with the ticket's name in the clear and goes on encrypted with
//! a key that was made for this session and announced on the first; over it the rest of the ticket proves that it is us. Rules: with an authority there is no way without TLS; a token
//! is sent encrypted, or not beyond this machine.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::{ConnectError, Heard, Reply, Talk, Told, converse, hear, reason};
use crate::address::Address;
use crate::credentials::Credential;
use crate::hello::{Accepted, Hello, HelloError, Intent, TICKET_MAGIC, TICKET_NAME_BYTES, Ticket};
use crate::limits::{CONNECT_TIMEOUT, HELLO_REPLY_TIMEOUT};
use crate::transport::tls::{self, HelloStream, SecureSocket, TlsError, Trust};
use crate::transport::{Connection, HandshakeStream, Patience, tcp};

/// What the caller does with each socket as soon as it is there: a preloaded library moves it out of its program's way.
pub type Hold<'a> = &'a dyn Fn(OwnedFd) -> OwnedFd;

/// A connection whose hello is over.
#[derive(Debug)]
pub enum Line {
    /// As it is.
    Plain(OwnedFd),
    /// Encrypted.
    Secure(Box<SecureSocket>),
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Secure(socket) => socket.as_fd(),
        }
    }
}

impl Line {
    /// Whether nobody between can read along.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Secure(_))
    }

    /// Writes some bytes of the hello's until `deadline`.
    ///
    /// # Errors
    /// The connection's.
    pub fn write(&self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        match self {
            Self::Plain(socket) => HandshakeStream::new(socket.as_fd(), deadline).write_all(bytes),
            Self::Secure(socket) => socket.stream(deadline).write_all(bytes),
        }
    }

    /// Reads some bytes of the hello's until `deadline`.
    ///
    /// # Errors
    /// The connection's.
    pub fn read(&self, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
        match self {
            Self::Plain(socket) => HandshakeStream::new(socket.as_fd(), deadline).read_exact(bytes),
            Self::Secure(socket) => socket.stream(deadline).read_exact(bytes),
        }
    }

    /// The bare socket, for who only watches whether it ends.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(socket) => socket.into_socket(),
        }
    }

    /// Its frames.
    ///
    /// # Errors
    /// The descriptor is no connected stream socket.
    pub fn into_connection(self, patience: Patience) -> io::Result<Connection> {
        match self {
            Self::Plain(socket) => Connection::from_fd(socket, patience),
            Self::Secure(socket) => Ok(socket.into_connection(patience)),
        }
    }
}

/// Asks for a session on a socket that is connected to the server at `address`, with what there is for that server. `told` hears where the
/// client stands while it waits for a lease.
///
/// # Errors
/// No proper answer, a refusal, or a server that cannot be believed.
pub fn greet(
    address: &Address,
    socket: OwnedFd,
    hello: &Hello,
    credential: &Credential,
    (hold, told): (Hold<'_>, Told<'_>),
) -> Result<(Accepted, Line), ConnectError> {
    let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
    let ticket = match say(address, &socket, hello, credential, (deadline, told))? {
        Reply::Accepted(_) if credential.authority.is_some() => {
            return Err(malformed(address, "a session without a ticket"));
        }
        Reply::Accepted(accepted) => return Ok((*accepted, Line::Plain(socket))),
        Reply::Ticket(ticket) => ticket,
    };
    let peer = peer(&socket).map_err(unreachable(address))?;
    drop(socket);
    let soon = Instant::now() + CONNECT_TIMEOUT;
    let socket = tcp::connect(&[peer], soon).map_err(unreachable(address))?;
    let data = redeem(address, hold(socket), &ticket, soon)?;
    let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
    match hear(address, &mut data.stream(deadline))? {
        Heard::Final(Reply::Accepted(accepted)) => Ok((*accepted, Line::Secure(Box::new(data)))),
        Heard::Final(Reply::Ticket(_)) | Heard::Waiting(_) => {
            Err(malformed(address, "an answer that was not asked for"))
        }
    }
}

/// Asks for the list of devices on a socket that is connected to the server at `address`, with what there is for that server.
///
/// # Errors
/// As [`greet`].
pub fn ask_until(
    address: &Address,
    socket: &OwnedFd,
    hello: &Hello,
    credential: &Credential,
    deadline: Instant,
) -> Result<Accepted, ConnectError> {
    match say(address, socket, hello, credential, (deadline, &mut |_| {}))? {
        Reply::Accepted(accepted) => Ok(*accepted),
        Reply::Ticket(_) => Err(malformed(address, "a ticket that was not asked for")),
    }
}

/// Asks for something that takes as long as it takes: the server says from time to time that it is there. Otherwise as [`ask_until`], which has the
/// deadline of the first answer.
///
/// # Errors
/// As [`greet`].
pub fn ask_patiently(
    address: &Address,
    socket: &OwnedFd,
    hello: &Hello,
    credential: &Credential,
) -> Result<Accepted, ConnectError> {
    let hello = Hello {
        waits: true,
        ..hello.clone()
    };
    let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
    ask_until(address, socket, &hello, credential, deadline)
}

/// Says hello: over TLS if an authority is known.
fn say(
    address: &Address,
    socket: &OwnedFd,
    hello: &Hello,
    credential: &Credential,
    (deadline, told): (Instant, Told<'_>),
) -> Result<Reply, ConnectError> {
    let hello = Hello {
        token: credential.token.clone().unwrap_or_default(),
        ..hello.clone()
    };
    if let (Address::Tcp { host, .. }, Some(authority)) = (address, &credential.authority) {
        let trust = Trust::Authority(authority.clone());
        let soon = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let stream = tls::converse(socket.as_fd(), &trust, host, soon);
        let mut stream = stream.map_err(distrust(address))?;
        stream.set_deadline(deadline);
        return converse(address, &mut stream, &hello, told);
    }
    let is_near = is_on_this_machine(socket).map_err(unreachable(address))?;
    if !hello.token.is_empty() && !is_near {
        return Err(ConnectError::Clear(address.clone()));
    }
    let mut stream = HandshakeStream::new(socket.as_fd(), deadline);
    match converse(address, &mut stream, &hello, told)? {
        Reply::Ticket(_) => Err(malformed(address, "a ticket that was not asked for")),
        reply => Ok(reply),
    }
}

impl Talk for HelloStream<'_> {
    fn until(&mut self, deadline: Instant) {
        self.set_deadline(deadline);
    }
}

/// Begins the connection that a ticket opens.
fn redeem(
    address: &Address,
    socket: OwnedFd,
    ticket: &Ticket,
    deadline: Instant,
) -> Result<SecureSocket, ConnectError> {
    let Ok(fingerprint) = ticket.fingerprint.as_slice().try_into() else {
        return Err(malformed(address, "a ticket of the wrong length"));
    };
    let Some((name, proof)) = ticket.secret.split_at_checked(TICKET_NAME_BYTES) else {
        return Err(malformed(address, "a ticket of the wrong length"));
    };
    let mut opening = TICKET_MAGIC.to_vec();
    opening.extend_from_slice(name);
    HandshakeStream::new(socket.as_fd(), deadline)
        .write_all(&opening)
        .map_err(unreachable(address))?;
    let trust = Trust::Fingerprint(fingerprint);
    // The name is not looked at: the fingerprint says it all.
    let data =
        tls::connect(socket, &trust, "gpurun.invalid", deadline).map_err(distrust(address))?;
    // Who saw the name on its way and came first does not know this.
    data.stream(deadline)
        .write_all(proof)
        .map_err(unreachable(address))?;
    Ok(data)
}

fn malformed(address: &Address, what: &'static str) -> ConnectError {
    ConnectError::Hello {
        address: address.clone(),
        source: HelloError::Malformed(what),
    }
}

fn unreachable(address: &Address) -> impl Fn(io::Error) -> ConnectError {
    move |error| ConnectError::Unreachable {
        address: address.clone(),
        reason: reason(&error),
    }
}

fn distrust(address: &Address) -> impl Fn(TlsError) -> ConnectError {
    move |source| ConnectError::Tls {
        address: address.clone(),
        source,
    }
}

fn peer(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let peer = rustix::net::getpeername(socket)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok(SocketAddr::try_from(peer)?)
}

/// Whether nobody but this machine sees what is sent there.
fn is_on_this_machine(socket: &OwnedFd) -> io::Result<bool> {
    if rustix::net::sockopt::socket_domain(socket)? == rustix::net::AddressFamily::UNIX {
        return Ok(true);
    }
    Ok(peer(socket)?.ip().to_canonical().is_loopback())
}

/// [`fetch_snapshot`](super::fetch_snapshot) with what there is for that server.
///
/// # Errors
/// Nobody there, no proper answer, a refusal, or a server that cannot be believed.
pub fn fetch_snapshot(
    address: &Address,
    credential: &Credential,
) -> Result<Accepted, ConnectError> {
    let socket = super::connect(address)?;
    let hello = Hello::new(Intent::Snapshot);
    let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
    ask_until(address, &socket, &hello, credential, deadline)
}
