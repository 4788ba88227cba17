//! TLS 1.3 around a TCP socket: for the hello, and for the frames.
//!
//! What: [`connect`] and [`accept`] go through the handshake on a connected socket; the [`SecureSocket`] that they give is read and written with a deadline
//! during a hello ([`SecureSocket::stream`]) and becomes a [`Connection`] like any other ([`SecureSocket::into_connection`]). [`client_config`] and
//! [`server_config`] are for the daemon's own handshakes too, so that there is one policy: TLS 1.3 only, no resumption, no early data. Why not the kernel's TLS: it
//! is not everywhere, the other road has to exist anyway, and older kernels cannot change a key that has sealed enough.
//!
//! ```text
//! control:  ClientHello, ALPN `gpurun` ──> hello, token ──> ticket: name, proof, fingerprint of a key made for this session
//! data:     preamble, the name in the clear ──> ClientHello ──> exactly that fingerprint ──> the proof ──> reply, frames
//! ```
//!
//! The end of the data is told by a frame (`Goodbye`), so an end without the alert `close_notify` cannot pass for it.

mod endpoint;
mod handshake;
mod records;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ServerConfig};

use super::endpoint::{Endpoint, Interest};
use super::socket::Socket;
use super::{Connection, HandshakeStream, Patience, tcp};
use endpoint::TlsEndpoint;
use handshake::Halves;
use records::{Opened, Opener, Sealer};

pub use trust::{Fingerprint, fingerprint};

/// The name, as TLS tells them apart (ALPN), of the hello and the frames.
pub const GPURUN_PROTOCOL: &[u8] = b"gpurun";

/// The protocol of the pool's service, as TLS names it.
pub const GRPC_PROTOCOL: &[u8] = b"h2";

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is nobody's whom we believe.
    #[error(
        "its certificate is of another authority than the one that `gpurun login` installed for it"
    )]
    Authority,
    /// The certificate is for other names.
    #[error(
        "its certificate is not for the name '{0}'; the server's operator can make one with gpu-server init --name"
    )]
    Name(String),
    /// The certificate's time is over.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate's time has not come.
    #[error("its certificate is not valid yet: compare the clocks")]
    NotYet,
    /// The certificate is not the one that was announced.
    #[error("it shows another certificate than the one that was announced for this session")]
    Fingerprint,
    /// The peer speaks, but not TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The server speaks no TLS to us.
    #[error("it offers no encryption (no certificate is set up there), or another version of TLS")]
    NotOffered,
    /// More than a handshake may have.
    #[error("a handshake that is too long")]
    TooLong,
    /// The handshake came to no end.
    #[error("a handshake that ended in an unexpected way")]
    Unfinished,
    /// Text that holds no certificate or key.
    #[error("{0}")]
    Pem(String),
    /// Whatever else rustls finds wrong.
    #[error("TLS: {0}")]
    Rustls(rustls::Error),
    /// The connection.
    #[error("{}", in_words(.0))]
    Io(#[source] io::Error),
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the connection was closed during the TLS handshake".to_owned()
        }
        io::ErrorKind::TimedOut => "no answer to the TLS handshake in time".to_owned(),
        _ => error.to_string(),
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
        match error {
            InvalidCertificate(CertificateError::UnknownIssuer) => Self::Authority,
            InvalidCertificate(CertificateError::BadSignature) => Self::Authority,
            InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => Self::Expired,
            InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => Self::NotYet,
            InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                Self::Fingerprint
            }
            InvalidMessage(_) => Self::NotTls,
            AlertReceived(
                AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
            ) => Self::NotOffered,
            other => Self::Rustls(other),
        }
    }
}

impl TlsError {
    /// What went wrong in a handshake with the server `host` that somebody else drove, such as tokio-rustls.
    #[must_use]
    pub fn of_handshake(error: io::Error, host: &str) -> Self {
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause.cloned() {
            Some(cause) => Self::from(cause).for_name(host),
            None => Self::Io(error),
        }
    }

    /// Names the host where its name is what is wrong.
    fn for_name(self, host: &str) -> Self {
        match self {
            Self::Rustls(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::Name(host.to_owned()),
            other => other,
        }
    }

    /// Whether the server speaks TLS, but not the protocol that was asked for in it.
    #[must_use]
    pub const fn is_other_protocol(&self) -> bool {
        matches!(
            self,
            Self::Rustls(rustls::Error::AlertReceived(
                AlertDescription::NoApplicationProtocol
            ))
        )
    }
}

/// rustls' cryptography by ring, with the cipher first that is fastest on processors with AES.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::ring;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
}

/// A certificate with its key, as the server shows them.
pub struct Identity {
    /// The certificate, and those between it and the authority, in DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key, as PKCS #8 in DER.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Understands a certificate chain and a key in PEM.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let wrong = |error: rustls::pki_types::pem::Error| TlsError::Pem(error.to_string());
        let chain = CertificateDer::pem_slice_iter(chain)
            .map(|certificate| Ok(certificate.map_err(wrong)?.to_vec()))
            .collect::<Result<Vec<_>, TlsError>>()?;
        if chain.is_empty() {
            return Err(TlsError::Pem("no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(wrong)?;
        match key {
            PrivateKeyDer::Pkcs8(key) => Ok(Self {
                chain,
                key: key.secret_pkcs8_der().to_vec(),
            }),
            _ => Err(TlsError::Pem(
                "a key in another form than PKCS #8".to_owned(),
            )),
        }
    }
}

/// Whom a client believes.
#[derive(Clone)]
pub enum Trust {
    /// Whoever has a certificate of this authority (in PEM) for the name that we call.
    Authority(String),
    /// Whoever has exactly this certificate.
    Fingerprint(Fingerprint),
}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Authority(_) => "an authority",
            Self::Fingerprint(_) => "a fingerprint",
        })
    }
}

/// How a client speaks TLS for `protocol`.
///
/// # Errors
/// The authority's certificate cannot be understood.
pub fn client_config(trust: &Trust, protocol: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Authority(pem) => trust::authority(pem, provider())?,
        Trust::Fingerprint(fingerprint) => Arc::new(trust::Pinned::new(*fingerprint)),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// How a server speaks TLS for any of `protocols`.
///
/// # Errors
/// The key is none, or not the certificate's.
pub fn server_config(
    identity: &Identity,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = identity.chain.iter().cloned().map(CertificateDer::from);
    let key = PrivateKeyDer::Pkcs8(identity.key.clone().into());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// The name of a host, as certificates have it.
///
/// # Errors
/// [`TlsError::Name`]: no certificate could be for it.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// Speaks TLS as a client with the server `host` on a connected socket.
///
/// # Errors
/// It is not whom we believe, or does not speak TLS, or not in time.
pub fn connect(
    socket: OwnedFd,
    trust: &Trust,
    host: &str,
    deadline: Instant,
) -> Result<SecureSocket, TlsError> {
    tcp::tune(&socket)?;
    let mut stream = HandshakeStream::new(socket.as_fd(), deadline);
    let halves = shake_hands(&mut stream, trust, host)?;
    SecureSocket::new(socket, halves)
}

/// Speaks TLS as a client on a socket that stays the caller's, for a hello and no more.
///
/// # Errors
/// As [`connect`].
pub fn converse<'a>(
    socket: BorrowedFd<'a>,
    trust: &Trust,
    host: &str,
    deadline: Instant,
) -> Result<HelloStream<'a>, TlsError> {
    let mut stream = HandshakeStream::new(socket, deadline);
    let (sealer, opener) = shake_hands(&mut stream, trust, host)?;
    Ok(HelloStream {
        stream,
        sealer,
        opener,
        unread: Vec::new(),
    })
}

fn shake_hands(
    stream: &mut HandshakeStream<'_>,
    trust: &Trust,
    host: &str,
) -> Result<Halves, TlsError> {
    let config = client_config(trust, GPURUN_PROTOCOL)?;
    let halves = handshake::of_client(stream, config, server_name(host)?);
    halves.map_err(|error| error.for_name(host))
}

/// A hello over TLS on a borrowed socket, until its deadline.
pub struct HelloStream<'a> {
    stream: HandshakeStream<'a>,
    sealer: Sealer,
    opener: Opener,
    /// Data of the last record that nobody has read.
    unread: Vec<u8>,
}

impl HelloStream<'_> {
    /// Reads and writes until another moment.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.stream.set_deadline(deadline);
    }
}

impl Read for HelloStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            let (typ, mut sealed) = records::read(&mut self.stream)?;
            match self.opener.open(typ, &mut sealed)? {
                Opened::Data(bytes) => {
                    sealed.truncate(bytes);
                    self.unread = sealed;
                }
                Opened::Nothing => {}
                Opened::End => return Ok(0),
            }
        }
        let count = buffer.len().min(self.unread.len());
        buffer[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Ok(count)
    }
}

impl Write for HelloStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sealed = Vec::new();
        self.sealer.seal(&[bytes], &mut sealed)?;
        for record in sealed {
            self.stream.write_all(&record)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Speaks TLS as the server `identity` on an accepted socket.
///
/// # Errors
/// The client does not speak TLS, or does not believe us, or not in time.
pub fn accept(
    socket: OwnedFd,
    identity: &Identity,
    deadline: Instant,
) -> Result<SecureSocket, TlsError> {
    tcp::tune(&socket)?;
    let config = server_config(identity, &[GPURUN_PROTOCOL])?;
    let mut stream = HandshakeStream::new(socket.as_fd(), deadline);
    let halves = handshake::of_server(&mut stream, config)?;
    SecureSocket::new(socket, halves)
}

/// A socket after its handshake.
pub struct SecureSocket {
    endpoint: TlsEndpoint,
    peer: SocketAddr,
}

impl fmt::Debug for SecureSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SecureSocket")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl AsFd for SecureSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.as_fd()
    }
}

impl SecureSocket {
    fn new(socket: OwnedFd, (sealer, opener): Halves) -> Result<Self, TlsError> {
        let peer = rustix::net::getpeername(&socket).map_err(io::Error::from)?;
        let peer = SocketAddr::try_from(
            peer.ok_or(io::ErrorKind::NotConnected)
                .map_err(io::Error::from)?,
        )
        .map_err(io::Error::from)?;
        Ok(Self {
            endpoint: TlsEndpoint::new(Socket::tcp(socket)?, sealer, opener),
            peer,
        })
    }

    /// Reads and writes it until `deadline`, for a hello.
    #[must_use]
    pub fn stream(&self, deadline: Instant) -> SecureStream<'_> {
        SecureStream {
            endpoint: &self.endpoint,
            deadline,
        }
    }

    /// The bare socket.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.endpoint.into_socket()
    }

    /// Its frames.
    #[must_use]
    pub fn into_connection(self, patience: Patience) -> Connection {
        let description = format!("tls://{}", self.peer);
        Connection::over(self.endpoint, patience, description)
    }
}

/// A secure socket during its hello: as a [`HandshakeStream`] is to a bare one.
pub struct SecureStream<'a> {
    endpoint: &'a TlsEndpoint,
    deadline: Instant,
}

impl SecureStream<'_> {
    fn retry(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || !self.endpoint.wait(interest, Some(left))? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for SecureStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(Interest::Read, || self.endpoint.receive_into(buffer))
    }
}

impl Write for SecureStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(Interest::Write, || {
            self.endpoint.send_some(&[IoSlice::new(bytes)])
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
