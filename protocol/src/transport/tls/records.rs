//! The record layer of TLS 1.3 in two independent halves: sealing and opening.
//!
//! What: after a handshake each direction has a key of its own, so that who sends never waits for who receives. The cryptography
//! is rustls' own ([`MessageEncrypter`], [`MessageDecrypter`]) and so are the keys of an update; here are only the sequence numbers, the cutting into
//! records, and what little may come beside data: a key update and an alert. Why not a `rustls::Connection`: it is one object, so both
//! directions would share one lock, and every byte would be copied once more.
//!
//! Rules: a record is authenticated before a byte of it is shown; a number is used once with a key, and a key for no more records than
//! its cipher allows; whatever else arrives ends the connection.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite,
};

/// Bytes of a record's header: its type, a version that is always the same, its length.
pub(super) const HEADER_BYTES: usize = 5;

/// Most bytes of data in one record.
pub(super) const MAX_PLAIN_BYTES: usize = 16 * 1024;

/// Most bytes of a record after its header.
pub(super) const MAX_SEALED_BYTES: usize = MAX_PLAIN_BYTES + 256;

/// The handshake message of a key update, less its last byte: whether the peer shall update its key as well.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// The alert with which a peer says that it sends no more.
const CLOSE_NOTIFY: u8 = 0;

/// The keys of later updates.
pub(super) enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Secrets {
    fn next(&mut self, is_ours: bool) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        let (_, secrets) = match (self, is_ours) {
            (Self::Client(kernel), true) => kernel.update_tx_secret(),
            (Self::Client(kernel), false) => kernel.update_rx_secret(),
            (Self::Server(kernel), true) => kernel.update_tx_secret(),
            (Self::Server(kernel), false) => kernel.update_rx_secret(),
        }?;
        Ok(secrets)
    }
}

/// What the two halves share; touched only around a key update.
pub(super) struct Shared {
    secrets: Mutex<Secrets>,
    suite: &'static Tls13CipherSuite,
    /// The peer wants us to update our key.
    is_update_asked: AtomicBool,
}

impl Shared {
    pub(super) fn new(secrets: Secrets, suite: SupportedCipherSuite) -> io::Result<Arc<Self>> {
        let suite = suite
            .tls13()
            .ok_or_else(|| violation("a cipher suite of another version of TLS"))?;
        Ok(Arc::new(Self {
            secrets: Mutex::new(secrets),
            suite,
            is_update_asked: AtomicBool::new(false),
        }))
    }

    fn next(&self, is_ours: bool) -> io::Result<ConnectionTrafficSecrets> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.next(is_ours).map_err(io::Error::other)
    }

    fn encrypter(
        &self,
        secrets: ConnectionTrafficSecrets,
    ) -> io::Result<Box<dyn MessageEncrypter>> {
        let (key, iv) = parts(secrets)?;
        Ok(self.suite.aead_alg.encrypter(key, iv))
    }

    fn decrypter(
        &self,
        secrets: ConnectionTrafficSecrets,
    ) -> io::Result<Box<dyn MessageDecrypter>> {
        let (key, iv) = parts(secrets)?;
        Ok(self.suite.aead_alg.decrypter(key, iv))
    }
}

fn parts(secrets: ConnectionTrafficSecrets) -> io::Result<(AeadKey, Iv)> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(violation("keys of a cipher that was not offered")),
    }
}

/// An error of a peer that is no peer of ours.
pub(super) fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {what}"))
}

/// Reads one record as a whole, and nothing beyond it: its type, and what follows its header.
pub(super) fn read(stream: &mut impl io::Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let [typ, _, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_SEALED_BYTES {
        return Err(violation("a record that is too long"));
    }
    let mut sealed = vec![0; length];
    stream.read_exact(&mut sealed)?;
    Ok((typ, sealed))
}

/// The sealing half.
pub(super) struct Sealer {
    shared: Arc<Shared>,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
    /// After so many records a new key is taken.
    limit: u64,
}

impl Sealer {
    pub(super) fn new(
        shared: Arc<Shared>,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> io::Result<Self> {
        Ok(Self {
            encrypter: shared.encrypter(secrets)?,
            sequence,
            // Well before the cipher's own limit.
            limit: shared.suite.common.confidentiality_limit / 2,
            shared,
        })
    }

    /// With a new key after so few records, for tests.
    #[cfg(test)]
    pub(super) fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Seals these bytes as records, and a key update before them if one is due.
    ///
    /// Cost: for each 16 KiB one allocation, one copy into it, and the cipher's pass over it.
    pub(super) fn seal(&mut self, chunks: &[&[u8]], records: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let is_asked = self.shared.is_update_asked.load(Ordering::Relaxed);
        if self.sequence >= self.limit || is_asked {
            self.update(records)?;
        }
        let mut left = OutboundChunks::new(chunks);
        while !left.is_empty() {
            let (now, later) = left.split_at(MAX_PLAIN_BYTES);
            left = later;
            records.push(self.record(ContentType::ApplicationData, now)?);
        }
        Ok(())
    }

    fn record(&mut self, typ: ContentType, payload: OutboundChunks<'_>) -> io::Result<Vec<u8>> {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload,
        };
        let sealed = self
            .encrypter
            .encrypt(message, self.sequence)
            .map_err(io::Error::other)?;
        self.sequence += 1;
        Ok(sealed.encode())
    }

    fn update(&mut self, records: &mut Vec<Vec<u8>>) -> io::Result<()> {
        self.shared.is_update_asked.store(false, Ordering::Relaxed);
        let [typ, high, middle, low] = KEY_UPDATE;
        let message = [typ, high, middle, low, 0];
        records.push(self.record(ContentType::Handshake, OutboundChunks::Single(&message))?);
        self.encrypter = self.shared.encrypter(self.shared.next(true)?)?;
        self.sequence = 0;
        Ok(())
    }
}

/// What a record was.
pub(super) enum Opened {
    /// Data: how many bytes, behind the record's header.
    Data(usize),
    /// Nothing for the reader.
    Nothing,
    /// The peer sends no more.
    End,
}

/// The opening half.
pub(super) struct Opener {
    shared: Arc<Shared>,
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
}

impl Opener {
    pub(super) fn new(
        shared: Arc<Shared>,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> io::Result<Self> {
        Ok(Self {
            decrypter: shared.decrypter(secrets)?,
            sequence,
            shared,
        })
    }

    /// Opens one record in place: `sealed` is what follows its header.
    pub(super) fn open(&mut self, typ: u8, sealed: &mut [u8]) -> io::Result<Opened> {
        if typ != u8::from(ContentType::ApplicationData) {
            return Err(violation("a record that is not encrypted"));
        }
        let opaque = InboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            sealed,
        );
        let plain = self
            .decrypter
            .decrypt(opaque, self.sequence)
            .map_err(|_| violation("a record that was forged, or damaged on its way"))?;
        self.sequence += 1;
        match (plain.typ, plain.payload) {
            (ContentType::ApplicationData, data) => Ok(Opened::Data(data.len())),
            (ContentType::Alert, [_, CLOSE_NOTIFY]) => Ok(Opened::End),
            (ContentType::Alert, _) => Err(violation("the peer reports an error")),
            (ContentType::Handshake, [24, 0, 0, 1, asks @ (0 | 1)]) => {
                if *asks == 1 {
                    self.shared.is_update_asked.store(true, Ordering::Relaxed);
                }
                self.decrypter = self.shared.decrypter(self.shared.next(false)?)?;
                self.sequence = 0;
                Ok(Opened::Nothing)
            }
            _ => Err(violation("a message that has no place after the handshake")),
        }
    }
}
