//! The road to a server's pool: the socket of a hello, with HTTP/2 on it instead.
//!
//! What: [`open`] connects as the hello does, over TLS where an authority is known for the server, and gives a [`Line`]; [`Line::into_channel`] makes it gRPC's.
//! Rules: as of [`protocol::connect::secure`]: with an authority there is no way without TLS, and a token is sent encrypted or not beyond this
//! machine; a channel has this one connection and never makes another by itself, so that who lost it knows it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use protocol::address::Address;
use protocol::connect::{self, ConnectError};
use protocol::credentials::Credential;
use protocol::limits::CONNECT_TIMEOUT;
use protocol::transport::tcp;
use protocol::transport::tls::{self, TlsError, Trust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::codegen::{Service, http::Uri};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// What gRPC calls the server; nobody looks at it.
const AUTHORITY: &str = "http://pool.gpurun.invalid";

/// How often a connection is asked whether it is alive, and how long that may take: a lease hangs on it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(20);

/// Who can read what travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Nobody: it does not leave this machine.
    Local,
    /// Nobody: TLS, with this cipher.
    Encrypted(String),
    /// Everybody between.
    None,
}

/// Whatever carries bytes.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A connection on which nothing was said yet.
pub(super) struct Line {
    carrier: Box<dyn Carrier>,
    protection: Protection,
}

/// Connects to the server at `address`, with what there is for it.
pub(super) async fn open(address: &Address, credential: &Credential) -> Result<Line, ConnectError> {
    let lost = |error: std::io::Error| ConnectError::Unreachable {
        address: address.clone(),
        reason: error.to_string(),
    };
    let Address::Tcp { host, .. } = address else {
        // It does not wait: the socket is this machine's.
        let stream = std::os::unix::net::UnixStream::from(connect::connect(address)?);
        stream.set_nonblocking(true).map_err(lost)?;
        return Ok(Line {
            carrier: Box::new(UnixStream::from_std(stream).map_err(lost)?),
            protection: Protection::Local,
        });
    };
    let socket = reach(address.clone()).await?;
    let stream = asynchronous(socket).map_err(lost)?;
    if let Some(authority) = &credential.authority {
        return encrypt(stream, authority, host)
            .await
            .map_err(|source| ConnectError::Tls {
                address: address.clone(),
                source,
            });
    }
    let is_near = is_on_this_machine(stream.peer_addr().map_err(lost)?);
    if credential.token.is_some() && !is_near {
        return Err(ConnectError::Clear(address.clone()));
    }
    Ok(Line {
        carrier: Box::new(stream),
        protection: if is_near {
            Protection::Local
        } else {
            Protection::None
        },
    })
}

/// Looks up the name and connects beside whatever else goes on: both may take seconds.
async fn reach(address: Address) -> Result<OwnedFd, ConnectError> {
    let failed = ConnectError::Unreachable {
        address: address.clone(),
        reason: "it could not be tried".to_owned(),
    };
    let connecting = tokio::task::spawn_blocking(move || connect::connect(&address));
    connecting.await.unwrap_or(Err(failed))
}

fn asynchronous(socket: OwnedFd) -> std::io::Result<TcpStream> {
    tcp::tune(&socket)?;
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn is_on_this_machine(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

async fn encrypt(stream: TcpStream, authority: &str, host: &str) -> Result<Line, TlsError> {
    let config = tls::client_config(&Trust::Authority(authority.to_owned()), tls::GRPC_PROTOCOL)?;
    let handshake = TlsConnector::from(config).connect(tls::server_name(host)?, stream);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|error| TlsError::of_handshake(error, host))?;
    let suite = stream.get_ref().1.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    let protection = Protection::Encrypted(suite.unwrap_or("TLS 1.3").to_owned());
    Ok(Line {
        carrier: Box::new(stream),
        protection,
    })
}

impl Line {
    /// gRPC on it.
    pub(super) async fn into_channel(
        self,
    ) -> Result<(Channel, Protection), tonic::transport::Error> {
        let endpoint = Endpoint::from_static(AUTHORITY)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_LIMIT);
        let once = Once(Some(TokioIo::new(self.carrier)));
        let channel = endpoint.connect_with_connector(once).await?;
        Ok((channel, self.protection))
    }
}

/// Gives its one connection, once.
struct Once(Option<TokioIo<Box<dyn Carrier>>>);

impl Service<Uri> for Once {
    type Response = TokioIo<Box<dyn Carrier>>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let over = || std::io::Error::other("the connection is over");
        std::future::ready(self.0.take().ok_or_else(over))
    }
}

/// Shows who we are with every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(super) fn new(token: Option<&str>) -> Self {
        // A token has no character that a header could not have.
        let value = token.and_then(|token| format!("Bearer {token}").parse().ok());
        Self(value.map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        }))
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Bearer({})", self.0.is_some())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}
