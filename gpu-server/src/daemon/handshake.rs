//! One client's hello, read without trust, and the daemon's own answers.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hello::{
    self, Hello, HelloError, HelloMessage, HelloReply, PREAMBLE_BYTES, RefusalCode, TICKET_MAGIC,
    TICKET_NAME_BYTES,
};
use protocol::limits::HELLO_TIMEOUT;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::secure;
use super::stream::{Beginning, Peer, Stream};
use super::tickets::TicketName;

/// How long a refused client may take to read the refusal before the connection is dropped.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that is not yet a session.
pub(super) struct Client {
    peer: Arc<Peer>,
    stream: Stream,
    since: Instant,
}

impl Client {
    pub(super) fn new(peer: Peer, stream: Stream) -> Self {
        let peer = Arc::new(peer);
        Self {
            peer,
            stream,
            since: Instant::now(),
        }
    }

    /// For how long it has been here.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Where it comes from, for the log.
    pub(super) fn name(&self) -> &str {
        &self.peer.name
    }

    /// Who it is.
    pub(super) const fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The socket itself, for another process. Nothing beyond the hello has been read from it.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        self.stream.into_socket()
    }

    /// The bare TCP connection.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn into_tcp(self) -> io::Result<TcpStream> {
        match self.stream {
            Stream::Tcp(stream) => Ok(stream),
            Stream::Unix(_) | Stream::Tls(_) => Err(io::Error::other("no bare TCP connection")),
        }
    }

    /// Whether nobody between can read along.
    pub(super) const fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// The same client after its TLS handshake.
    ///
    /// # Errors
    /// It is no TCP connection, or the handshake fails.
    pub(super) async fn encrypted(self, tls: &TlsAcceptor) -> io::Result<Self> {
        let (peer, since) = (Arc::clone(&self.peer), self.since);
        let stream = Box::new(tls.accept(self.into_tcp()?).await?);
        Ok(Self {
            peer,
            stream: Stream::Tls(stream),
            since,
        })
    }

    /// Sends one of several answers.
    ///
    /// # Errors
    /// The client does not take it.
    pub(super) async fn tell(&mut self, reply: HelloReply) -> Result<(), HelloError> {
        let bytes = hello::encode(&reply)?;
        let written = timeout(HELLO_TIMEOUT, self.stream.write_all(&bytes));
        written.await.map_err(|_| HelloError::TimedOut)??;
        Ok(())
    }

    /// Waits until the client says something, or is gone: both are its end while it is not answered yet.
    pub(super) async fn says_anything(&mut self) {
        // Whatever comes of it, it is the end.
        let _ = self.stream.read(&mut [0]).await;
    }

    /// The connection itself, for the pool's service.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Ends our direction and lets the client end its own, so that what it sent last cannot take the answer
    /// away from it.
    async fn end(&mut self) {
        let ended = async {
            let _ = self.stream.shutdown().await;
            let mut scrap = [0; 4096];
            while matches!(self.stream.read(&mut scrap).await, Ok(count) if count > 0) {}
        };
        // A client that does not end in time is dropped all the same.
        let _ = timeout(FAREWELL, ended).await;
    }
}

/// What a connection turned out to be.
pub(super) enum Greeting {
    /// A client with its hello.
    Hello(Client, Box<Hello>),
    /// The second connection of a session that was granted on an encrypted first one: the clear part of its ticket. What follows on it
    /// is TLS, and the worker's.
    Ticket(Client, TicketName),
    /// A client of the pool's service. Nothing has been read from it.
    Service(Client),
}

/// Looks at what a connection begins with, and reads a hello, encrypted or not, in the time that there is for it; a client that sends
/// nothing, or nothing that we know, is logged and dropped here.
pub(super) async fn greet(client: Client, tls: Option<TlsAcceptor>) -> Option<Greeting> {
    let beginning = timeout(HELLO_TIMEOUT, client.stream.beginning()).await;
    match beginning.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(Some(Beginning::Hello)) => read_hello(client).await,
        Ok(Some(Beginning::Service)) => Some(Greeting::Service(client)),
        Ok(Some(Beginning::Tls)) => {
            let client = secure::accept(client, tls).await?;
            match client.stream.speaks_grpc() {
                true => Some(Greeting::Service(client)),
                false => read_hello(client).await,
            }
        }
        // A port scan or a health check.
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(client = client.name(), "no hello: {error}");
            None
        }
    }
}

/// Reads exactly one message.
pub(super) async fn read_from<M: HelloMessage>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, HelloError> {
    let mut preamble = [0; PREAMBLE_BYTES];
    stream.read_exact(&mut preamble).await?;
    read_after(&preamble, stream).await
}

async fn read_after<M: HelloMessage>(
    preamble: &[u8; PREAMBLE_BYTES],
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, HelloError> {
    let mut bytes = vec![0; hello::parse_preamble(preamble)?];
    stream.read_exact(&mut bytes).await?;
    hello::decode(&bytes)
}

/// What a connection says in the clear, or over TLS.
enum Said {
    Hello(Box<Hello>),
    Ticket(TicketName),
}

/// Reads a hello, or the clear part of a ticket, and not a byte more.
async fn read_said(stream: &mut (impl AsyncRead + Unpin)) -> Result<Said, HelloError> {
    let mut preamble = [0; PREAMBLE_BYTES];
    stream.read_exact(&mut preamble).await?;
    let Some(begin) = preamble.strip_prefix(&TICKET_MAGIC) else {
        let hello = read_after(&preamble, stream).await?;
        return Ok(Said::Hello(Box::new(hello)));
    };
    let mut name = [0; TICKET_NAME_BYTES];
    let (read, unread) = name.split_at_mut(begin.len());
    read.copy_from_slice(begin);
    stream.read_exact(unread).await?;
    Ok(Said::Ticket(TicketName(name)))
}

/// Reads a client's hello in the time that there is for it; a client that sends none, or a wrong one, is logged and
/// dropped here.
async fn read_hello(mut client: Client) -> Option<Greeting> {
    let result = timeout(HELLO_TIMEOUT, read_said(&mut client.stream))
        .await
        .unwrap_or(Err(HelloError::TimedOut));
    let error = match result {
        Ok(Said::Hello(hello)) => return Some(Greeting::Hello(client, hello)),
        Ok(Said::Ticket(name)) => return Some(Greeting::Ticket(client, name)),
        Err(error) => error,
    };
    match error {
        // A port scan or a health check.
        HelloError::Closed => tracing::debug!(client = client.name(), "{error}"),
        HelloError::TimedOut => tracing::warn!(client = client.name(), "no hello in time"),
        HelloError::TooLong { .. } | HelloError::Malformed(_) | HelloError::Undecodable(_) => {
            tracing::warn!(client = client.name(), "{error}");
            let refused = hello::refusal(RefusalCode::Malformed, error.to_string());
            reply(client, refused.into()).await;
        }
        HelloError::NotOurs | HelloError::Io(_) => {
            tracing::warn!(client = client.name(), "{error}");
        }
    }
    None
}

/// Answers and ends the connection.
pub(super) async fn reply(mut client: Client, reply: HelloReply) {
    match client.tell(reply).await {
        Ok(()) => client.end().await,
        Err(error) => tracing::warn!(client = client.name(), "cannot answer: {error}"),
    }
}
