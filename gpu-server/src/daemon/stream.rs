//! An accepted connection: its bytes, who is at its other end, and what it begins with.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use protocol::transport::tls::GRPC_PROTOCOL;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// Where it comes from, for the log.
    pub(super) name: String,
    /// What the kernel knows of it.
    pub(super) origin: Origin,
}

/// What the kernel knows of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A process of this user on this machine, by a unix socket; none: the kernel does not tell.
    User(Option<u32>),
    /// A process of this machine, by TCP.
    Loopback,
    /// Another machine.
    Remote,
}

impl Origin {
    /// Of who comes from this IP address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical().is_loopback() {
            true => Self::Loopback,
            false => Self::Remote,
        }
    }
}

/// A connection of either family, or one that is encrypted.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a connection's first byte says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A hello or a ticket, or what is refused as one.
    Hello,
    /// HTTP/2, whose first bytes are `PRI`: the pool's service.
    Service,
    /// A TLS handshake.
    Tls,
}

impl Beginning {
    const fn of(byte: u8) -> Self {
        match byte {
            0x16 => Self::Tls,
            b'P' => Self::Service,
            _ => Self::Hello,
        }
    }
}

impl Stream {
    /// The socket itself, for another process.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => Ok(stream.into_std()?.into()),
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
            Self::Tls(_) => Err(io::Error::other(
                "an encrypted connection cannot be handed over",
            )),
        }
    }

    /// Whether nobody between can read along.
    pub(super) const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the two have agreed on gRPC in their TLS handshake.
    pub(super) fn speaks_grpc(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(GRPC_PROTOCOL),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }

    /// Waits for the first byte and leaves it there; none: the connection's end.
    async fn peek(&self) -> io::Result<Option<u8>> {
        loop {
            match self {
                Self::Tcp(stream) => stream.readable().await?,
                Self::Unix(stream) => stream.readable().await?,
                Self::Tls(stream) => stream.get_ref().0.readable().await?,
            }
            let look = || {
                let mut byte = [0_u8; 1];
                let (count, _) = rustix::net::recv(self.descriptor(), &mut byte, RecvFlags::PEEK)?;
                Ok((count > 0).then_some(byte[0]))
            };
            let result = match self {
                Self::Tcp(stream) => stream.try_io(Interest::READABLE, look),
                Self::Unix(stream) => stream.try_io(Interest::READABLE, look),
                Self::Tls(stream) => stream.get_ref().0.try_io(Interest::READABLE, look),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Waits for what the connection begins with, and takes nothing from it; none: it ends before it begins.
    ///
    /// # Errors
    /// It is lost.
    pub(super) async fn beginning(&self) -> io::Result<Option<Beginning>> {
        Ok(self.peek().await?.map(Beginning::of))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_first_byte_is_looked_at_and_left() {
        for (bytes, expected) in [
            (&b"GPURUN\x00\x01"[..], Beginning::Hello),
            (b"\x16\x03\x01", Beginning::Tls),
            (b"SSH-2.0", Beginning::Hello),
            (b"PRI * HTTP/2.0\r\n", Beginning::Service),
        ] {
            let (ours, mut theirs) = UnixStream::pair().expect("sockets");
            theirs.write_all(bytes).await.expect("written");
            let mut stream = Stream::Unix(ours);
            let beginning = stream.beginning().await.expect("a connection");
            assert_eq!(beginning, Some(expected));
            let mut read = vec![0; bytes.len()];
            stream.read_exact(&mut read).await.expect("all of it");
            assert_eq!(read, bytes);
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_beginning_ends() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        drop(theirs);
        let stream = Stream::Unix(ours);
        assert_eq!(stream.beginning().await.expect("its end"), None);
    }

    #[test]
    fn loopback_is_this_machine() {
        let origin = |text: &str| Origin::of(text.parse().expect("an address"));
        assert_eq!(origin("127.0.0.1"), Origin::Loopback);
        assert_eq!(origin("::ffff:127.0.0.1"), Origin::Loopback);
        assert_eq!(origin("10.0.0.1"), Origin::Remote);
    }
}
