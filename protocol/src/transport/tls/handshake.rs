//! The handshake of TLS, of either side, on a blocking socket with a deadline.
//!
//! Rules: not a byte beyond the handshake's own records is taken from the socket; no peer makes us keep more than [`MAX_HANDSHAKE_BYTES`]; a peer
//! whose handshake fails is told why by an alert, as far as it still listens.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{ClientConfig, ExtractedSecrets, ServerConfig};

use super::TlsError;
use super::records::{HEADER_BYTES, MAX_SEALED_BYTES, Opener, Sealer, Secrets, Shared};
use crate::transport::HandshakeStream;

/// Most bytes that a peer may send before the handshake is over.
const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// The two halves of a connection whose handshake is over.
pub(super) type Halves = (Sealer, Opener);

/// Goes through the handshake as a client.
pub(super) fn of_client(
    stream: &mut HandshakeStream<'_>,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Halves, TlsError> {
    let mut connection = UnbufferedClientConnection::new(config, name)?;
    drive(stream, &mut connection, |connection, bytes| {
        connection.process_tls_records(bytes)
    })?;
    let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
    let suite = kernel.negotiated_cipher_suite();
    halves(secrets, Shared::new(Secrets::Client(kernel), suite)?)
}

/// Goes through the handshake as a server.
pub(super) fn of_server(
    stream: &mut HandshakeStream<'_>,
    config: Arc<ServerConfig>,
) -> Result<Halves, TlsError> {
    let mut connection = UnbufferedServerConnection::new(config)?;
    drive(stream, &mut connection, |connection, bytes| {
        connection.process_tls_records(bytes)
    })?;
    let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
    let suite = kernel.negotiated_cipher_suite();
    halves(secrets, Shared::new(Secrets::Server(kernel), suite)?)
}

fn halves(secrets: ExtractedSecrets, shared: Arc<Shared>) -> Result<Halves, TlsError> {
    let sealer = Sealer::new(Arc::clone(&shared), secrets.tx)?;
    Ok((sealer, Opener::new(shared, secrets.rx)?))
}

/// What one step asks for.
enum Step {
    Go,
    Read,
    Done,
}

/// How rustls takes records of one side.
type Process<Data> = for<'c, 'i> fn(
    &'c mut UnbufferedConnectionCommon<Data>,
    &'i mut [u8],
) -> UnbufferedStatus<'c, 'i, Data>;

fn drive<Data>(
    stream: &mut HandshakeStream<'_>,
    connection: &mut UnbufferedConnectionCommon<Data>,
    process: Process<Data>,
) -> Result<(), TlsError> {
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    let mut left = MAX_HANDSHAKE_BYTES;
    loop {
        let UnbufferedStatus { discard, state, .. } = process(connection, &mut incoming);
        let step = match state {
            Ok(state) => step(stream, state, &mut outgoing)?,
            Err(error) => {
                tell(stream, connection, process, &mut incoming[discard..]);
                return Err(error.into());
            }
        };
        incoming.drain(..discard);
        match step {
            Step::Go => {}
            Step::Read => read_record(stream, &mut incoming, &mut left)?,
            Step::Done => return Ok(()),
        }
    }
}

fn step<Data>(
    stream: &mut HandshakeStream<'_>,
    state: ConnectionState<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
) -> Result<Step, TlsError> {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            encode(outgoing, |bytes| data.encode(bytes));
            Ok(Step::Go)
        }
        ConnectionState::TransmitTlsData(data) => {
            stream.write_all(outgoing)?;
            outgoing.clear();
            data.done();
            Ok(Step::Go)
        }
        ConnectionState::BlockedHandshake => Ok(Step::Read),
        ConnectionState::WriteTraffic(_) => Ok(Step::Done),
        _ => Err(TlsError::Unfinished),
    }
}

/// Appends what `write` writes, in as much room as it asks for.
fn encode(outgoing: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let begin = outgoing.len();
    loop {
        match write(&mut outgoing[begin..]) {
            Ok(written) => return outgoing.truncate(begin + written),
            Err(EncodeError::InsufficientSize(size)) => {
                outgoing.resize(begin + size.required_size, 0);
            }
            Err(EncodeError::AlreadyEncoded) => return outgoing.truncate(begin),
        }
    }
}

/// Reads one record as a whole, and nothing beyond it.
fn read_record(
    stream: &mut HandshakeStream<'_>,
    incoming: &mut Vec<u8>,
    left: &mut usize,
) -> Result<(), TlsError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let [typ, major, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Types 20 to 23, and the version that all of TLS has in common.
    if !(20..=23).contains(&typ) || major != 3 || length > MAX_SEALED_BYTES {
        return Err(TlsError::NotTls);
    }
    *left = left
        .checked_sub(HEADER_BYTES + length)
        .ok_or(TlsError::TooLong)?;
    incoming.extend_from_slice(&header);
    let begin = incoming.len();
    incoming.resize(begin + length, 0);
    stream.read_exact(&mut incoming[begin..])?;
    Ok(())
}

/// Sends the alert that tells the peer why, if there is one.
fn tell<Data>(
    stream: &mut HandshakeStream<'_>,
    connection: &mut UnbufferedConnectionCommon<Data>,
    process: Process<Data>,
    incoming: &mut [u8],
) {
    let mut outgoing = Vec::new();
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = process(connection, incoming).state {
        encode(&mut outgoing, |bytes| data.encode(bytes));
        // A peer that is gone needs no alert.
        let _ = stream.write_all(&outgoing);
    }
}
