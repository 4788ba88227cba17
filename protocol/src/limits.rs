//! Every maximum and every time limit of the protocol, each said once.
//!
//! Both sides use these to bound what they accept; nothing that a peer sends can make us allocate or
//! wait beyond them.

use std::time::Duration;

/// The oldest protocol version that this code speaks.
pub const OLDEST_VERSION: u32 = 1;

/// The newest protocol version that this code speaks.
pub const NEWEST_VERSION: u32 = 1;

/// The TCP port where none is given.
pub const DEFAULT_PORT: u16 = 7370;

/// Most bytes of a Hello or HelloReply message after its preamble.
///
/// 64 KiB hold 64 devices of 150 attributes and an environment of a few hundred variables.
pub const MAX_HELLO_BYTES: usize = 64 * 1024;

/// Most bytes after a frame's header.
///
/// Large enough that bulk chunks and batches never meet it, small enough to allocate at once.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// A copy up to this many bytes travels inside its call or reply; a larger one as Bulk frames.
///
/// Up to here copying the bytes into the batch is cheaper than keeping the user waiting until the peer
/// has acknowledged them.
pub const MAX_INLINE_COPY_BYTES: usize = 64 * 1024;

/// Bytes of one Bulk frame of a larger transfer, except the last.
///
/// Long enough that a header costs nothing, short enough that calls between chunks wait less than a
/// millisecond on 10 Gb/s.
pub const BULK_CHUNK_BYTES: usize = 1024 * 1024;

/// Most bytes of a part of a copy that a card reads out of the program's memory: both ends register as much for each part.
pub const READ_BYTES: usize = 4 * BULK_CHUNK_BYTES;

/// Most parts of one such copy that are on offer: one is read while the next is prepared.
pub const MAX_READS: usize = 2;

/// Most bytes of one transfer: 1 TiB, more than any device's memory.
pub const MAX_TRANSFER_BYTES: u64 = 1 << 40;

/// Most bytes of the body of one call record: an inline copy and its arguments fit with much room,
/// and what does not fit travels as a transfer.
pub const MAX_CALL_BYTES: usize = 1024 * 1024;

/// Most bytes of the body of one reply record.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Most bytes of text in a Fault or Goodbye frame.
pub const MAX_TEXT_BYTES: usize = 4 * 1024;

/// A batch of calls is sent when it has reached this size, if nothing has sent it before.
pub const BATCH_BYTES: usize = 64 * 1024;

/// Most bytes of managed memory of one session: both sides keep a copy of it.
pub const MAX_MANAGED_BYTES: u64 = 64 << 30;

/// Most ranges of mapped and managed memory of one session.
pub const MAX_SHARED_RANGES: usize = 4096;

/// Most devices in one snapshot.
pub const MAX_DEVICES: usize = 64;

/// Most attributes, or limits, of one device.
pub const MAX_ATTRIBUTES: usize = 512;

/// Most readings of one device's usage.
pub const MAX_READINGS: usize = 128;

/// Most NVLinks in one report of usage, over all its devices: 16 devices of 18 links.
pub const MAX_USAGE_LINKS: usize = 288;

/// Most processes in one report of usage, over all its devices: with them, the links, and 64 devices of 44 readings, it stays
/// within [`MAX_HELLO_BYTES`].
pub const MAX_USAGE_PROCESSES: usize = 1024;

/// Most address windows in a hello or its reply.
pub const MAX_WINDOWS: usize = 16;

/// Most environment variables in a hello.
pub const MAX_ENVIRONMENT: usize = 256;

/// Most bytes of one string in a hello: a name, a variable's value, a sentence.
pub const MAX_STRING_BYTES: usize = 4 * 1024;

/// Most bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 2 * 1024;

/// Most filters of one request for devices.
pub const MAX_FILTERS: usize = 32;

/// Most bytes of a filter's value.
pub const MAX_FILTER_VALUE_BYTES: usize = 256;

/// Most bytes of the hash of the call shapes.
pub const MAX_SHAPE_HASH_BYTES: usize = 32;

/// Most addresses in a list of servers.
pub const MAX_ADDRESSES: usize = 16;

/// Bytes that a receiver takes from its socket at once: many small frames for one system call.
pub const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// A payload read of at least this many bytes goes from the socket straight to its destination.
pub const DIRECT_READ_BYTES: usize = 16 * 1024;

/// Bytes that are read ahead while large payloads arrive: the next header and a few small frames, and no
/// part of the next large payload, which shall go straight to its destination.
pub const READ_AHEAD_BYTES: usize = 4 * 1024;

/// Most time for a connection to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most time for a whole Hello to arrive once a connection is accepted.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Most time for a HelloReply: a worker starts, loads a driver and makes contexts meanwhile.
pub const HELLO_REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Most time between two words that a client hears while it waits for a lease: the server says something every 10 s.
pub const WAITING_TIMEOUT: Duration = Duration::from_secs(60);

/// Most time for a device's usage to be known to the daemon, and so to the client that asks for it: the driver's
/// management library may have to be initialised first.
pub const USAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Each side sends something at least this often.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// A peer that has been silent for this long is told of, once.
pub const QUIET_LIMIT: Duration = Duration::from_secs(10);

/// How long a peer's process may be silent, if the settings do not say: its memory is held meanwhile. A stopped program, or
/// one in a debugger, is silent; a program that ended is not, since its connection is closed.
pub const DEFAULT_SILENCE_GRACE: Duration = Duration::from_secs(300);

/// The shortest grace that the settings may say: a few heartbeats.
pub const LEAST_SILENCE_GRACE: Duration = Duration::from_secs(5);

/// The longest grace that the settings may say: a year.
pub const MOST_SILENCE_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A peer's machine that acknowledges nothing for this long, although something is on its way to it, is gone.
pub const HOST_LOSS_LIMIT: Duration = Duration::from_secs(30);

/// Who waits for a peer looks at least this often how long it has been silent.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A worker whose client is gone has given everything back within this time.
pub const CLEAN_UP_LIMIT: Duration = Duration::from_secs(2);

const _: () = assert!(OLDEST_VERSION <= NEWEST_VERSION);
const _: () = assert!(USAGE_TIMEOUT.as_secs() < CONNECT_TIMEOUT.as_secs());
const _: () = assert!(BULK_CHUNK_BYTES <= MAX_FRAME_BYTES);
const _: () = assert!(MAX_INLINE_COPY_BYTES < MAX_CALL_BYTES && MAX_CALL_BYTES < MAX_FRAME_BYTES);
const _: () = assert!(MAX_INLINE_COPY_BYTES < MAX_REPLY_BYTES && MAX_REPLY_BYTES < MAX_FRAME_BYTES);
const _: () = assert!(DIRECT_READ_BYTES < RECEIVE_BUFFER_BYTES);
const _: () = assert!(HEARTBEAT_INTERVAL.as_nanos() * 2 < LEAST_SILENCE_GRACE.as_nanos());
const _: () = assert!(LOOK_INTERVAL.as_nanos() < HEARTBEAT_INTERVAL.as_nanos());
const _: () = assert!(READ_AHEAD_BYTES <= RECEIVE_BUFFER_BYTES);
