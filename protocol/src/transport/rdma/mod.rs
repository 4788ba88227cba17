//! RDMA: a connection over RoCE v2, beside the socket on which the hello was said.
//!
//! What: both ends prepare ([`Prepared::new`]): a device is chosen by the connection's own address, two queue pairs and two rings are made, and a third queue
//! pair for reads (`reading`). The hello carries each end's numbers ([`Prepared::end`]); each connects ([`Prepared::connect`]) and becomes a connection
//! ([`Prepared::into_connection`]). From there on frames travel by RDMA and the socket is silent; its end is the connection's. Why a socket at all: it carries
//! the authenticated hello, and it notices at once when a process dies, which queue pairs do only after many retries.
//!
//! Rules: nothing travels encrypted, so who requires encryption refuses; keys open exactly one ring, as long as the session lives, or a part of the program's
//! memory that the worker reads, until it has; of the program's memory, and of a device's, only what is being sent is registered, for reading, until it is sent
//! (`loan`). Where rdma-core or a device is missing, everything else works and the error says what is missing.
//!
//! ```text
//! client                                   server
//! Prepared::new ── Hello.rdma ───────────▶ Prepared::new, connect
//! connect       ◀─ Accepted.rdma ───────── (or Accepted.rdma_refusal: frames go by the socket)
//!               ── one byte: ready ──────▶ frames
//! ```

mod gid;
#[cfg_attr(
    not(feature = "rdma"),
    expect(dead_code, reason = "counted by a connection only")
)]
mod ring;

#[cfg(feature = "rdma")]
mod endpoint;
#[cfg(feature = "rdma")]
mod library;
#[cfg(feature = "rdma")]
mod loan;
#[cfg(feature = "rdma")]
mod prepared;
#[cfg(feature = "rdma")]
mod reading;
#[cfg(feature = "rdma")]
mod verbs;

#[cfg(not(feature = "rdma"))]
#[path = "absent.rs"]
mod prepared;

use std::io;

use crate::hello::{HelloError, RdmaEnd};

pub use gid::Wanted;
pub use prepared::Prepared;

/// Why there is no connection by RDMA.
#[derive(Debug, thiserror::Error)]
pub enum RdmaError {
    /// This program was built without it.
    #[error("this build has no RDMA: build it with the feature `rdma`")]
    NotBuilt,
    /// rdma-core is not installed.
    #[error("rdma-core is not installed here ({0}): install libibverbs1 and ibverbs-providers")]
    NoLibrary(String),
    /// It lacks a function that came later.
    #[error("rdma-core is too old here: it lacks {0}")]
    TooOld(&'static str),
    /// The operator does not want it.
    #[error("{0}")]
    NotAllowed(String),
    /// No device fits.
    #[error("no RDMA device: {0}")]
    NoDevice(String),
    /// A verb failed.
    #[error("{what}: {source}{}", advice(what, source))]
    Verbs {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The caller asks for what cannot be.
    #[error("{0}")]
    Misuse(&'static str),
    /// As much is registered as may be at one time.
    #[error("too much of a device's memory is registered already")]
    TooMuchLent,
    /// A request did not succeed; the connection is over.
    #[error("the RDMA connection failed: {0}")]
    Completion(String),
    /// A read did not succeed; nothing more is read on this connection, which goes on.
    #[error("reading the peer's memory: {0}")]
    Reading(String),
    /// The peer said what cannot be.
    #[error("the peer broke the protocol: {0}")]
    Violation(&'static str),
}

/// What helps where a verb fails for a reason that an operator can change.
fn advice(what: &str, source: &io::Error) -> &'static str {
    match (what, source.kind()) {
        ("ibv_reg_mr", io::ErrorKind::OutOfMemory) => {
            " (more locked memory is needed than is allowed: raise the limit, `ulimit -l` or LimitMEMLOCK=infinity)"
        }
        (_, io::ErrorKind::PermissionDenied) => " (may this process open /dev/infiniband/uverbs*?)",
        _ => "",
    }
}

impl From<ring::Impossible> for RdmaError {
    fn from(ring::Impossible(what): ring::Impossible) -> Self {
        Self::Violation(what)
    }
}

/// How packets travel. The numbers are those of the InfiniBand specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathSettings {
    /// The IP header's traffic class: the DSCP is in its upper six bits.
    pub traffic_class: u8,
    /// How long an acknowledgement is waited for: 4.096 µs × 2^`timeout`.
    pub timeout: u8,
    /// How often a packet is sent again, at most 7; some devices take 7 for without end.
    pub retries: u8,
    /// How often a peer that is not ready is tried again; 7: without end.
    pub receiver_not_ready_retries: u8,
    /// How long we ask to be waited for when not ready, by the specification's table: 12 is 0.64 ms.
    pub receiver_not_ready_timer: u8,
}

impl Default for PathSettings {
    /// A second for an acknowledgement, six times: a link may be down for a few seconds. Cards take up to four times as long.
    fn default() -> Self {
        Self {
            traffic_class: 0,
            timeout: 18,
            retries: 6,
            receiver_not_ready_retries: 7,
            receiver_not_ready_timer: 12,
        }
    }
}

/// What may be said about a connection by RDMA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The device, port and address.
    pub wanted: Wanted,
    /// How packets travel.
    pub path: PathSettings,
    /// Bytes of a ring at most, a power of two: it is smaller where so much memory may not be locked.
    pub ring_bytes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            wanted: Wanted::default(),
            path: PathSettings::default(),
            ring_bytes: RING_BYTES,
        }
    }
}

/// Bytes of a ring, where so much memory may be locked.
const RING_BYTES: u32 = 4 * 1024 * 1024;

/// Whether this machine has an RDMA port with a RoCE v2 address, as far as the kernel tells.
#[must_use]
pub fn is_present() -> bool {
    !gid::all().is_empty()
}

/// A port and its address, as tools name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The device.
    pub device: String,
    /// Its port.
    pub port: u8,
    /// The place of the address in the port's table.
    pub index: u8,
}

impl Port {
    /// The port that a connection inside this machine leaves by, if there is one and this build can use it.
    #[must_use]
    pub fn of_loopback() -> Option<Self> {
        if !cfg!(feature = "rdma") {
            return None;
        }
        let all = gid::all();
        let local = std::net::Ipv4Addr::LOCALHOST.into();
        let gid = gid::choose(&all, local, &Wanted::default())?;
        Some(Self {
            device: gid.device.clone(),
            port: gid.port,
            index: gid.index,
        })
    }
}

/// The RoCE v2 addresses of this machine, for people: `mlx5_0:1 (GID 3, 10.0.0.1)`.
#[must_use]
pub fn describe_all() -> Vec<String> {
    gid::all().iter().map(ToString::to_string).collect()
}

/// The least immediates under way: credits are given back in quarters of them.
const LEAST_SLOTS: u32 = 16;

/// Most reads under way that an end may name: verbs count them in a byte.
const MOST_READS: u32 = 255;

/// The least ring: a few of the largest small frames.
const LEAST_RING_BYTES: u32 = 128 * 1024;

/// Checks the numbers of a peer's end.
///
/// # Errors
/// [`HelloError::Malformed`].
pub(crate) fn check_end(end: &RdmaEnd) -> Result<(), HelloError> {
    let is_pair = |pair: &Option<crate::hello::RdmaQueuePair>| {
        pair.is_some_and(|pair| pair.number <= 0x00FF_FFFF && pair.first_packet <= 0x00FF_FFFF)
    };
    let is_ring = end.ring_bytes.is_power_of_two()
        && end.ring_bytes >= LEAST_RING_BYTES
        && u64::from(end.ring_bytes) <= ring::MAX_RING_BYTES
        && end
            .ring_address
            .checked_add(end.ring_bytes.into())
            .is_some();
    let is_well_formed = end.gid.len() == 16
        && (1..=5).contains(&end.mtu)
        && (LEAST_SLOTS..=ring::MAX_SLOTS).contains(&end.slots)
        && is_pair(&end.outgoing)
        && is_pair(&end.incoming)
        && (end.reading.is_none()
            || is_pair(&end.reading) && (1..=MOST_READS).contains(&end.reads))
        && is_ring;
    if is_well_formed {
        Ok(())
    } else {
        Err(HelloError::Malformed(
            "an impossible end of an RDMA connection",
        ))
    }
}
