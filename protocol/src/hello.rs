//! What is said before the frames: a preamble and a Hello one way, a preamble and a HelloReply the other.
//!
//! What: the messages of `proto/control.proto`, their encoding with a preamble, their reading with every
//! bound checked, and the choice of a version. Rules: a reader takes exactly the bytes of its message and
//! never one more, because the descriptor is handed to another process (or to the frames) afterwards; what
//! passes the checks here is within the limits of [`crate::limits`]; nothing panics.
//!
//! ```text
//! | 'GPURUN' 00 01 | length u32 | message, `length` bytes |
//! ```

use std::io::{self, Read, Write};

use prost::Message;

use crate::bounded::Reader;
use crate::limits::{
    MAX_ATTRIBUTES, MAX_DEVICES, MAX_ENVIRONMENT, MAX_HELLO_BYTES, MAX_READINGS,
    MAX_SHAPE_HASH_BYTES, MAX_STRING_BYTES, MAX_TOKEN_BYTES, MAX_USAGE_LINKS, MAX_USAGE_PROCESSES,
    MAX_WINDOWS, NEWEST_VERSION, OLDEST_VERSION,
};
use crate::transport::rdma;

pub mod control {
    //! The messages as they are generated from `proto/control.proto`.
    include!(concat!(env!("OUT_DIR"), "/gpurun.control.v1.rs"));
}

pub use control::hello_reply::Answer;
pub use control::{
    Accepted, Checkpoint, CheckpointDone, CheckpointOperation, DescriptorOrder, DeviceKind,
    DevicePair, DeviceRequest, DeviceSnapshot, DeviceUsage, Hello, HelloReply, Identity, Intent,
    LeaseOrder, NvLink, PciPlace, ProbeReport, ProcessUsage, RdmaEnd, RdmaOrder, RdmaQueuePair,
    Reading, RefusalCode, Refused, SandboxAccess, SandboxLayer, SandboxOrder, SandboxPath,
    ServerInfo, SliceOrder, Ticket, TlsOrder, UsageReport, Waiting, Window, WorkerOrder,
};

/// The first bytes of each direction: a name and the version of this way of beginning.
pub const MAGIC: [u8; 8] = *b"GPURUN\x00\x01";

/// The first bytes of a connection that begins with a ticket: the [`TICKET_NAME_BYTES`] of its name follow in the clear, then TLS, and in it
/// first the rest of the secret: who only saw the name cannot use it.
pub const TICKET_MAGIC: [u8; 8] = *b"GPURUN\x00\x02";

/// Bytes before a message: the magic and the message's length.
pub const PREAMBLE_BYTES: usize = MAGIC.len() + size_of::<u32>();

/// The program's variables that the driver on the server shall see: how it launches and loads, never where it finds files. The
/// client sends only these, the worker takes only these.
pub const DRIVER_VARIABLES: [&str; 7] = [
    "CUDA_AUTO_BOOST",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_DISABLE_PTX_JIT",
    "CUDA_FORCE_PTX_JIT",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_SCALE_LAUNCH_QUEUES",
];

/// Bytes of a ticket: its name and its proof.
pub const TICKET_BYTES: usize = 32;

/// Bytes of a ticket's name, which travel in the clear.
pub const TICKET_NAME_BYTES: usize = 16;

/// Bytes of a ticket's proof, which travel encrypted.
pub const TICKET_PROOF_BYTES: usize = TICKET_BYTES - TICKET_NAME_BYTES;

/// Bytes of a certificate's fingerprint: SHA-256.
pub const FINGERPRINT_BYTES: usize = 32;

/// Bytes of a device's UUID.
pub const UUID_BYTES: usize = 16;

/// Why a hello could not be said, or understood.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The peer closed the connection before its message was complete.
    #[error("the connection was closed during the hello")]
    Closed,
    /// The message was not complete in time.
    #[error("no answer in time")]
    TimedOut,
    /// The peer speaks something else.
    #[error("the peer does not speak gpurun's protocol")]
    NotOurs,
    /// The message is longer than any may be.
    #[error("a hello of {length} bytes, at most {MAX_HELLO_BYTES} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The message is no such message.
    #[error("a hello that cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The message breaks a rule.
    #[error("a hello with {0}")]
    Malformed(&'static str),
    /// The operating system reports something else.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for HelloError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// A message of the hello: what makes it well-formed beyond its encoding.
pub trait HelloMessage: Message + Default {
    /// Checks every bound and rule.
    ///
    /// # Errors
    /// [`HelloError::Malformed`].
    fn check(&self) -> Result<(), HelloError>;
}

/// The bytes of a message with its preamble.
///
/// # Errors
/// The message is too long or breaks a rule: what the peer would refuse is not sent.
pub fn encode<M: HelloMessage>(message: &M) -> Result<Vec<u8>, HelloError> {
    message.check()?;
    let length = message.encoded_len();
    if length > MAX_HELLO_BYTES {
        return Err(HelloError::TooLong { length });
    }
    let mut bytes = Vec::with_capacity(PREAMBLE_BYTES + length);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    message.encode_raw(&mut bytes);
    Ok(bytes)
}

/// The length of the message that follows this preamble.
///
/// # Errors
/// Not our magic; a length beyond [`MAX_HELLO_BYTES`].
pub fn parse_preamble(bytes: &[u8; PREAMBLE_BYTES]) -> Result<usize, HelloError> {
    let mut reader = Reader::new(bytes);
    let magic: Result<[u8; MAGIC.len()], _> = reader.take();
    let length: Result<zerocopy::little_endian::U32, _> = reader.take();
    match (magic, length) {
        (Ok(MAGIC), Ok(length)) => {
            let length = length.get() as usize;
            if length > MAX_HELLO_BYTES {
                return Err(HelloError::TooLong { length });
            }
            Ok(length)
        }
        _ => Err(HelloError::NotOurs),
    }
}

/// The message of these bytes, checked.
///
/// # Errors
/// Too long, undecodable, or breaking a rule.
pub fn decode<M: HelloMessage>(bytes: &[u8]) -> Result<M, HelloError> {
    if bytes.len() > MAX_HELLO_BYTES {
        return Err(HelloError::TooLong {
            length: bytes.len(),
        });
    }
    let message = M::decode(bytes)?;
    message.check()?;
    Ok(message)
}

/// Reads one message with its preamble, and not a byte more. Give it a
/// [`HandshakeStream`](crate::transport::HandshakeStream) to have a deadline.
///
/// # Errors
/// As [`parse_preamble`] and [`decode`]; the connection's end; the deadline.
pub fn read<M: HelloMessage>(stream: &mut impl Read) -> Result<M, HelloError> {
    let mut preamble = [0; PREAMBLE_BYTES];
    stream.read_exact(&mut preamble)?;
    let mut bytes = vec![0; parse_preamble(&preamble)?];
    stream.read_exact(&mut bytes)?;
    decode(&bytes)
}

/// Writes one message with its preamble.
///
/// # Errors
/// As [`encode`]; the connection's end; the deadline.
pub fn write<M: HelloMessage>(stream: &mut impl Write, message: &M) -> Result<(), HelloError> {
    stream.write_all(&encode(message)?)?;
    Ok(())
}

/// The protocol version of a connection: the newest that both speak.
///
/// # Errors
/// What to refuse the client with: no version in common.
pub fn choose_version(hello: &Hello) -> Result<u32, Refused> {
    choose_among(hello, OLDEST_VERSION, NEWEST_VERSION)
}

fn choose_among(hello: &Hello, oldest: u32, newest: u32) -> Result<u32, Refused> {
    let chosen = hello.newest_version.min(newest);
    if chosen >= hello.oldest_version.max(oldest) {
        return Ok(chosen);
    }
    let message = format!(
        "no protocol version in common: the client {} speaks {} to {}, the server {} speaks {oldest} to {newest}",
        hello.client_version, hello.oldest_version, hello.newest_version, RELEASE,
    );
    Err(refusal(RefusalCode::Version, message))
}

/// Whether the server chose a version that this code offers.
///
/// # Errors
/// A sentence that names both sides' versions.
pub fn check_version(accepted: &Accepted) -> Result<(), String> {
    let chosen = accepted.version;
    if (OLDEST_VERSION..=NEWEST_VERSION).contains(&chosen) {
        return Ok(());
    }
    let server = accepted.server.as_ref();
    let release = server.map_or("", |server| server.version.as_str());
    Err(format!(
        "the server {release} speaks protocol version {chosen}, the client {RELEASE} speaks {OLDEST_VERSION} to {NEWEST_VERSION}"
    ))
}

/// Whether both sides give calls the same shapes.
///
/// # Errors
/// What to refuse the client with, naming both releases.
pub fn check_shape(hello: &Hello, shape_hash: &[u8]) -> Result<(), Refused> {
    if hello.shape_hash == shape_hash {
        return Ok(());
    }
    let message = format!(
        "the client {} and the server {RELEASE} differ in the shapes of calls: install the same release on both",
        hello.client_version
    );
    Err(refusal(RefusalCode::Version, message))
}

/// The release of this code, for people.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A refusal, its sentence cut to what a message may hold.
#[must_use]
pub fn refusal(code: RefusalCode, message: impl Into<String>) -> Refused {
    let mut message = message.into();
    message.truncate(message.floor_char_boundary(MAX_STRING_BYTES));
    Refused {
        code: code.into(),
        message,
    }
}

impl From<Refused> for HelloReply {
    fn from(refused: Refused) -> Self {
        Self {
            answer: Some(Answer::Refused(refused)),
        }
    }
}

impl From<Accepted> for HelloReply {
    fn from(accepted: Accepted) -> Self {
        Self {
            answer: Some(Answer::Accepted(accepted)),
        }
    }
}

impl Hello {
    /// A hello of this release with this intent, and nothing else said.
    #[must_use]
    pub fn new(intent: Intent) -> Self {
        Self {
            oldest_version: OLDEST_VERSION,
            newest_version: NEWEST_VERSION,
            client_version: RELEASE.to_owned(),
            intent: intent.into(),
            identity: Some(Identity::of_this_process()),
            ..Self::default()
        }
    }

    /// How many devices are asked for: at least 1.
    #[must_use]
    pub fn device_count(&self) -> u32 {
        self.devices
            .as_ref()
            .map_or(1, |request| request.count.max(1))
    }
}

impl Identity {
    /// The identity of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let system = rustix::system::uname();
        let user = std::env::var("USER")
            .unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
        let program = std::env::args_os()
            .next()
            .map(|program| program.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self {
            host: shortened(&system.nodename().to_string_lossy()),
            user: shortened(&user),
            process: std::process::id(),
            program: shortened(&program),
            process_namespace: process_namespace().unwrap_or_default(),
        }
    }
}

/// What names this process's namespace of process ids on any machine: which boot of which kernel, and which namespace
/// of it.
fn process_namespace() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(shortened(&format!(
        "{} {}",
        boot.trim(),
        namespace.display()
    )))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_STRING_BYTES)].to_owned()
}

fn require(is_so: bool, otherwise: &'static str) -> Result<(), HelloError> {
    if is_so {
        Ok(())
    } else {
        Err(HelloError::Malformed(otherwise))
    }
}

fn check_text(text: &str) -> Result<(), HelloError> {
    require(text.len() <= MAX_STRING_BYTES, "a text that is too long")
}

fn check_windows(windows: &[Window]) -> Result<(), HelloError> {
    require(windows.len() <= MAX_WINDOWS, "too many windows")?;
    let is_range =
        |window: &Window| window.size > 0 && window.base.checked_add(window.size).is_some();
    require(windows.iter().all(is_range), "a window that is no range")
}

fn check_fraction(fraction: f64) -> Result<(), HelloError> {
    require((0.0..1.0).contains(&fraction), "a fraction outside 0 to 1")
}

impl HelloMessage for Hello {
    fn check(&self) -> Result<(), HelloError> {
        require(
            self.oldest_version <= self.newest_version,
            "an empty range of versions",
        )?;
        require(
            self.shape_hash.len() <= MAX_SHAPE_HASH_BYTES,
            "a shape hash that is too long",
        )?;
        require(
            self.intent() != Intent::Unspecified && Intent::try_from(self.intent).is_ok(),
            "an unknown intent",
        )?;
        require(
            (self.intent() == Intent::Checkpoint) == self.checkpoint.is_some(),
            "an intent that is not what is asked",
        )?;
        self.checkpoint.as_ref().map_or(Ok(()), Checkpoint::check)?;
        check_text(&self.client_version)?;
        if let Some(identity) = &self.identity {
            check_text(&identity.host)?;
            check_text(&identity.user)?;
            check_text(&identity.program)?;
            check_text(&identity.process_namespace)?;
        }
        if let Some(request) = &self.devices {
            require(request.count as usize <= MAX_DEVICES, "too many devices")?;
            check_fraction(request.memory_fraction)?;
            check_fraction(request.compute_fraction)?;
        }
        self.rdma.as_ref().map_or(Ok(()), rdma::check_end)?;
        check_text(&self.lease)?;
        require(
            self.token.len() <= MAX_TOKEN_BYTES,
            "a token that is too long",
        )?;
        check_windows(&self.windows)?;
        require(
            self.environment.len() <= MAX_ENVIRONMENT,
            "too many variables",
        )?;
        self.environment.iter().try_for_each(|(name, value)| {
            check_text(name)?;
            check_text(value)
        })
    }
}

impl Checkpoint {
    fn check(&self) -> Result<(), HelloError> {
        require(
            self.operation() != CheckpointOperation::Unspecified,
            "an unknown operation",
        )?;
        require(self.pairs.len() <= MAX_DEVICES, "too many pairs")?;
        let is_uuid = |bytes: &[u8]| bytes.len() == UUID_BYTES;
        let mut pairs = self.pairs.iter();
        require(
            pairs.all(|pair| is_uuid(&pair.old) && is_uuid(&pair.new)),
            "a UUID of the wrong length",
        )
    }
}

impl HelloMessage for HelloReply {
    fn check(&self) -> Result<(), HelloError> {
        match &self.answer {
            None => Err(HelloError::Malformed("no answer")),
            Some(Answer::Refused(refused)) => check_text(&refused.message),
            Some(Answer::Waiting(waiting)) => check_text(&waiting.reason),
            Some(Answer::Ticket(ticket)) => require(
                ticket.secret.len() == TICKET_BYTES
                    && ticket.fingerprint.len() == FINGERPRINT_BYTES,
                "a ticket of the wrong length",
            ),
            Some(Answer::Accepted(accepted)) => accepted.check(),
        }
    }
}

impl Accepted {
    fn check(&self) -> Result<(), HelloError> {
        let Some(server) = &self.server else {
            return Err(HelloError::Malformed("no server"));
        };
        check_text(&server.host)?;
        check_text(&server.version)?;
        check_text(&server.driver_release)?;
        check_windows(&self.windows)?;
        check_text(&self.rdma_refusal)?;
        check_text(&self.rdma_gpu_memory)?;
        self.rdma.as_deref().map_or(Ok(()), rdma::check_end)?;
        check_devices(&self.devices)
    }
}

fn check_devices(devices: &[DeviceSnapshot]) -> Result<(), HelloError> {
    require(devices.len() <= MAX_DEVICES, "too many devices")?;
    devices.iter().try_for_each(|device| {
        check_text(&device.name)?;
        require(
            device.uuid.len() == UUID_BYTES,
            "a UUID of the wrong length",
        )?;
        require(
            device.attributes.len() <= MAX_ATTRIBUTES,
            "too many attributes",
        )?;
        require(
            device.default_limits.len() <= MAX_ATTRIBUTES,
            "too many limits",
        )
    })?;
    check_usages(devices.iter().filter_map(|device| device.usage.as_ref()))
}

fn check_usages<'a>(usages: impl Iterator<Item = &'a DeviceUsage>) -> Result<(), HelloError> {
    let (mut links, mut processes) = (0, 0);
    for usage in usages {
        check_text(&usage.serial)?;
        require(usage.readings.len() <= MAX_READINGS, "too many readings")?;
        links += usage.links.len();
        processes += usage.processes.len();
    }
    require(links <= MAX_USAGE_LINKS, "too many links")?;
    require(processes <= MAX_USAGE_PROCESSES, "too many processes")
}

impl HelloMessage for UsageReport {
    fn check(&self) -> Result<(), HelloError> {
        check_text(&self.driver_release)?;
        require(self.devices.len() <= MAX_DEVICES, "too many devices")?;
        check_usages(self.devices.iter())
    }
}

impl DeviceSnapshot {
    /// The UUID as NVIDIA's tools write it.
    #[must_use]
    pub fn uuid_text(&self) -> String {
        uuid_text(&self.uuid)
    }
}

impl SliceOrder {
    /// The device's UUID as NVIDIA's tools write it.
    #[must_use]
    pub fn uuid_text(&self) -> String {
        uuid_text(&self.uuid)
    }
}

/// `GPU-` and five groups of hexadecimal digits.
fn uuid_text(uuid: &[u8]) -> String {
    let mut text = "GPU-".to_owned();
    for (place, byte) in uuid.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

impl DeviceUsage {
    /// What this sensor or counter says, if the device has it.
    #[must_use]
    pub fn reading(&self, reading: Reading) -> Option<u64> {
        self.readings.get(&reading.into()).copied()
    }
}

impl HelloMessage for ProbeReport {
    fn check(&self) -> Result<(), HelloError> {
        check_text(&self.failure)?;
        check_devices(&self.devices)
    }
}

#[cfg(test)]
mod tests;
