//! Going to a server: connect, say hello, get a session or the list of devices.
//!
//! What: blocking functions with a deadline, and errors whose text is what a person sees. Rule: name
//! resolution is the system's and has the system's time limit; everything else ends at its deadline.

pub mod rdma;
pub mod secure;

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use crate::address::Address;
use crate::credentials::CredentialsError;
use crate::hello::{
    self, Accepted, Answer, Hello, HelloError, HelloReply, Intent, RefusalCode, Ticket, Waiting,
};
use crate::limits::{CONNECT_TIMEOUT, HELLO_REPLY_TIMEOUT, WAITING_TIMEOUT};
use crate::transport::tls::TlsError;
use crate::transport::{Connection, HandshakeStream, Patience, tcp, unix};
use secure::Line;

/// Why there is no session, or no list.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error(
        "cannot reach {address}: {reason}. Is gpu-server running? Try: gpurun health --server {}",
        address.short()
    )]
    Unreachable {
        /// Where.
        address: Address,
        /// Why, in a few words.
        reason: String,
    },
    /// Somebody answers, but not as a server does.
    #[error("{address} did not answer as a gpu-server does: {source}")]
    Hello {
        /// Who.
        address: Address,
        /// What went wrong.
        source: HelloError,
    },
    /// The server chose a protocol version that was not offered.
    #[error("{address} cannot be used: {message}")]
    Version {
        /// Who.
        address: Address,
        /// Both sides' versions, for people.
        message: String,
    },
    /// Somebody answers, but not encrypted, or not as whom we believe.
    #[error("no trusted connection to {address}: {source}")]
    Tls {
        /// Who.
        address: Address,
        /// What is wrong.
        source: TlsError,
    },
    /// What this user can prove is not known.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A token would travel in the clear.
    #[error(
        "will not send a token to {0} in the clear: no authority is known for it. Install the bundle that its operator gave you: \
         gpurun login BUNDLE"
    )]
    Clear(Address),
    /// RDMA is required, and there is none between here and that server.
    #[error("no RDMA to {address}: {reason}")]
    NoRdma {
        /// Where.
        address: Address,
        /// What is missing.
        reason: String,
    },
    /// The server says no.
    #[error("{address} refused: {message}")]
    Refused {
        /// Who.
        address: Address,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        message: String,
    },
}

impl ConnectError {
    /// Whether another server may be tried instead: this one was not there at all.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A session that a server granted.
#[derive(Debug)]
pub struct Session {
    /// What was granted.
    pub accepted: Accepted,
    /// The frames.
    pub connection: Connection,
    /// The way that they go, and why not another, for people.
    pub way: String,
}

impl Session {
    fn without_rdma(mut self, reason: Option<String>) -> Self {
        if let Some(reason) = reason {
            self.way = format!("{}, not by RDMA: {reason}", self.way);
        }
        self
    }
}

/// Connects to a server; the deadline is [`CONNECT_TIMEOUT`] from now.
///
/// # Errors
/// [`ConnectError::Unreachable`].
pub fn connect(address: &Address) -> Result<OwnedFd, ConnectError> {
    connect_until(address, Instant::now() + CONNECT_TIMEOUT)
}

/// Connects to a server until `deadline`.
///
/// # Errors
/// [`ConnectError::Unreachable`].
pub fn connect_until(address: &Address, deadline: Instant) -> Result<OwnedFd, ConnectError> {
    let unreachable = |reason: String| ConnectError::Unreachable {
        address: address.clone(),
        reason,
    };
    let socket = match address {
        Address::Tcp { host, port } => {
            let addresses: Vec<_> = (host.as_str(), *port)
                .to_socket_addrs()
                .map_err(|_| unreachable("unknown host name".to_owned()))?
                .collect();
            tcp::connect(&addresses, deadline)
        }
        Address::Unix(path) => unix::connect(path),
    };
    socket.map_err(|error| unreachable(reason(&error)))
}

/// An error in a few words, without numbers.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => format!("no answer in {} s", CONNECT_TIMEOUT.as_secs()),
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// Says hello on a connected socket and reads the answer, not a byte beyond it.
///
/// # Errors
/// [`ConnectError::Hello`], [`ConnectError::Refused`].
pub fn say_hello(
    address: &Address,
    socket: &OwnedFd,
    hello: &Hello,
) -> Result<Accepted, ConnectError> {
    say_hello_until(address, socket, hello, Instant::now() + HELLO_REPLY_TIMEOUT)
}

/// [`say_hello`] with a deadline of the caller's.
///
/// # Errors
/// As [`say_hello`].
pub fn say_hello_until(
    address: &Address,
    socket: &OwnedFd,
    hello: &Hello,
    deadline: Instant,
) -> Result<Accepted, ConnectError> {
    let failed = |source| ConnectError::Hello {
        address: address.clone(),
        source,
    };
    let mut stream = HandshakeStream::new(socket.as_fd(), deadline);
    match converse(address, &mut stream, hello, &mut |_| {})? {
        Reply::Accepted(accepted) => Ok(*accepted),
        Reply::Ticket(_) => Err(failed(HelloError::Malformed(
            "a ticket that was not asked for",
        ))),
    }
}

/// What a client does when it hears that it waits for a lease.
pub type Told<'a> = &'a mut dyn FnMut(&Waiting);

/// What carries a hello, and by when it must have.
trait Talk: Read + Write {
    /// From now on there is as long as this.
    fn until(&mut self, deadline: Instant);
}

impl Talk for HandshakeStream<'_> {
    fn until(&mut self, deadline: Instant) {
        self.set_deadline(deadline);
    }
}

/// What ends a hello well.
enum Reply {
    Accepted(Box<Accepted>),
    Ticket(Ticket),
}

/// One answer to a hello.
enum Heard {
    /// Not yet.
    Waiting(Waiting),
    Final(Reply),
}

/// Says hello on whatever carries it, and hears the answer: at once, or after all that the client is told while it waits for a lease.
fn converse(
    address: &Address,
    stream: &mut impl Talk,
    hello: &Hello,
    told: Told<'_>,
) -> Result<Reply, ConnectError> {
    let failed = |source| ConnectError::Hello {
        address: address.clone(),
        source,
    };
    hello::write(stream, hello).map_err(failed)?;
    loop {
        match hear(address, stream)? {
            Heard::Final(reply) => return Ok(reply),
            Heard::Waiting(waiting) if hello.waits => {
                told(&waiting);
                stream.until(Instant::now() + WAITING_TIMEOUT);
            }
            Heard::Waiting(_) => {
                return Err(failed(HelloError::Malformed(
                    "an answer that was not asked for",
                )));
            }
        }
    }
}

/// Hears one answer to a hello.
fn hear(address: &Address, stream: &mut impl Read) -> Result<Heard, ConnectError> {
    let failed = |source| ConnectError::Hello {
        address: address.clone(),
        source,
    };
    let reply: HelloReply = hello::read(stream).map_err(failed)?;
    match reply.answer {
        Some(Answer::Accepted(accepted)) => {
            hello::check_version(&accepted).map_err(|message| ConnectError::Version {
                address: address.clone(),
                message,
            })?;
            Ok(Heard::Final(Reply::Accepted(Box::new(accepted))))
        }
        Some(Answer::Ticket(ticket)) => Ok(Heard::Final(Reply::Ticket(ticket))),
        Some(Answer::Refused(refused)) => Err(ConnectError::Refused {
            address: address.clone(),
            code: refused.code(),
            message: refused.message,
        }),
        Some(Answer::Waiting(waiting)) => Ok(Heard::Waiting(waiting)),
        None => Err(failed(HelloError::Malformed("no answer"))),
    }
}

/// Opens a session: `hello` says what is asked for, `patience` how long the server may be silent.
///
/// # Errors
/// Nobody there, no proper answer, or a refusal.
pub fn open_session(
    address: &Address,
    hello: &Hello,
    patience: Patience,
) -> Result<Session, ConnectError> {
    begin_session(address, connect(address)?, hello, patience)
}

/// [`open_session`] on a socket that is connected to the server at `address`.
///
/// # Errors
/// No proper answer, or a refusal.
pub fn begin_session(
    address: &Address,
    socket: OwnedFd,
    hello: &Hello,
    patience: Patience,
) -> Result<Session, ConnectError> {
    let accepted = say_hello(address, &socket, hello)?;
    over_line(address, Line::Plain(socket), accepted, patience)
}

/// The session whose frames travel on the connection of the hello.
fn over_line(
    address: &Address,
    line: Line,
    accepted: Accepted,
    patience: Patience,
) -> Result<Session, ConnectError> {
    let way = match line.is_encrypted() {
        true => format!("{address}, encrypted"),
        false => address.to_string(),
    };
    let mut connection =
        line.into_connection(patience)
            .map_err(|error| ConnectError::Unreachable {
                address: address.clone(),
                reason: reason(&error),
            })?;
    connection.description = address.to_string();
    Ok(Session {
        accepted,
        way,
        connection,
    })
}

/// Fetches the list of devices; no worker is started for it.
///
/// # Errors
/// Nobody there, no proper answer, or a refusal.
pub fn fetch_snapshot(address: &Address) -> Result<Accepted, ConnectError> {
    let socket = connect(address)?;
    say_hello(address, &socket, &Hello::new(Intent::Snapshot))
}

/// The first of these servers that does what `attempt` asks; another is tried only where one was not there
/// at all.
///
/// # Errors
/// The last server's error, or the first refusal.
pub fn first_of<T>(
    addresses: &[Address],
    mut attempt: impl FnMut(&Address) -> Result<T, ConnectError>,
) -> Option<Result<T, ConnectError>> {
    let mut last = None;
    for address in addresses {
        match attempt(address) {
            Err(error) if error.is_unreachable() => last = Some(Err(error)),
            result => return Some(result),
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn the_message_says_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let error = fetch_snapshot(&address(&format!("127.0.0.1:{port}"))).expect_err("nobody");
        let expected = format!(
            "cannot reach tcp://127.0.0.1:{port}: connection refused. Is gpu-server running? \
             Try: gpurun health --server 127.0.0.1:{port}"
        );
        assert_eq!(error.to_string(), expected);
        let error = fetch_snapshot(&address("unix:/nowhere/s")).expect_err("nobody");
        assert!(
            error
                .to_string()
                .starts_with("cannot reach unix:/nowhere/s: no such socket.")
        );
        let error = fetch_snapshot(&address("no-such-host.invalid")).expect_err("nobody");
        assert!(error.to_string().contains("unknown host name"));
    }

    #[test]
    fn another_protocol_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").expect("sent");
            stream
        });
        let error = fetch_snapshot(&address(&format!("127.0.0.1:{port}"))).expect_err("not ours");
        assert!(
            error
                .to_string()
                .contains("does not speak gpurun's protocol")
        );
        drop(peer.join());
    }

    #[test]
    fn the_next_server_is_tried_only_if_one_is_not_there() {
        let list = [address("a"), address("b"), address("c")];
        let absent = |address: &Address| ConnectError::Unreachable {
            address: address.clone(),
            reason: "x".to_owned(),
        };
        let found = first_of(&list, |server| {
            if *server == list[1] {
                Ok(7)
            } else {
                Err(absent(server))
            }
        });
        assert!(matches!(found, Some(Ok(7))));
        let refused = first_of(&list, |server| -> Result<(), _> {
            Err(ConnectError::Refused {
                address: server.clone(),
                code: RefusalCode::Busy,
                message: String::new(),
            })
        });
        assert!(
            matches!(refused, Some(Err(ConnectError::Refused { address, .. })) if address == list[0])
        );
        let none = first_of(&list, |server| -> Result<(), _> { Err(absent(server)) });
        assert!(
            matches!(none, Some(Err(ConnectError::Unreachable { address, .. })) if address == list[2])
        );
        assert!(first_of(&[], |server| -> Result<(), _> { Err(absent(server)) }).is_none());
    }
}
