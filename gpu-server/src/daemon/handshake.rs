//! One client's hello, read without trust, and the daemon's own answers.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use protocol::hello::{
    self, Hello, HelloError, HelloMessage, HelloReply, PREAMBLE_BYTES, RefusalCode,
};
use protocol::limits::HELLO_TIMEOUT;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long a refused client may take to read the refusal before the connection is dropped.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that is not yet a session.
pub(super) struct Client {
    name: String,
    stream: Stream,
}

/// A connection of either family.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Client {
    pub(super) fn new(name: String, stream: Stream) -> Self {
        Self { name, stream }
    }

    /// Where it comes from, for the log.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The socket itself, for another process. Nothing beyond the hello has been read from it.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match self.stream {
            Stream::Tcp(stream) => Ok(stream.into_std()?.into()),
            Stream::Unix(stream) => Ok(stream.into_std()?.into()),
        }
    }

    async fn read(&mut self) -> Result<Hello, HelloError> {
        match &mut self.stream {
            Stream::Tcp(stream) => read_from(stream).await,
            Stream::Unix(stream) => read_from(stream).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    /// Ends our direction and lets the client end its own, so that what it sent last cannot take the answer
    /// away from it.
    async fn end(&mut self) {
        async fn drain(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
            let _ = stream.shutdown().await;
            let mut scrap = [0; 4096];
            while matches!(stream.read(&mut scrap).await, Ok(count) if count > 0) {}
        }
        let ended = async {
            match &mut self.stream {
                Stream::Tcp(stream) => drain(stream).await,
                Stream::Unix(stream) => drain(stream).await,
            }
        };
        // A client that does not end in time is dropped all the same.
        let _ = timeout(FAREWELL, ended).await;
    }
}

/// Reads exactly one message.
pub(super) async fn read_from<M: HelloMessage>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, HelloError> {
    let mut preamble = [0; PREAMBLE_BYTES];
    stream.read_exact(&mut preamble).await?;
    let mut bytes = vec![0; hello::parse_preamble(&preamble)?];
    stream.read_exact(&mut bytes).await?;
    hello::decode(&bytes)
}

/// Reads a client's hello in the time that there is for it; a client that sends none, or a wrong one, is logged and
/// dropped here.
pub(super) async fn read_hello(mut client: Client) -> Option<(Client, Hello)> {
    let result = timeout(HELLO_TIMEOUT, client.read())
        .await
        .unwrap_or(Err(HelloError::TimedOut));
    let error = match result {
        Ok(hello) => return Some((client, hello)),
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
    let bytes = match hello::encode(&reply) {
        Ok(bytes) => bytes,
        Err(error) => return tracing::error!("an answer that breaks a rule: {error}"),
    };
    match timeout(HELLO_TIMEOUT, client.write(&bytes)).await {
        Ok(Ok(())) => client.end().await,
        Ok(Err(error)) => tracing::debug!(client = client.name(), "cannot answer: {error}"),
        Err(_) => tracing::warn!(client = client.name(), "does not take its answer"),
    }
}
