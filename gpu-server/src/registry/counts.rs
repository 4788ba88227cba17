//! What a session has done: counted by its worker, told to the daemon.
//!
//! *Cost:* an addition to a word that one thread writes nearly always, for each frame; a store for each call.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::hello::control;

/// What the session of this process has done.
pub static COUNTERS: Counters = Counters {
    calls: AtomicU64::new(0),
    bytes_received: AtomicU64::new(0),
    bytes_sent: AtomicU64::new(0),
    faults: AtomicU64::new(0),
};

/// Counts of one session.
#[derive(Debug)]
pub struct Counters {
    calls: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    faults: AtomicU64,
}

impl Counters {
    /// So many calls have been taken up since the session began: only the order token's holder says so.
    pub fn calls(&self, calls: u64) {
        self.calls.store(calls, Ordering::Relaxed);
    }

    /// A frame of so many bytes came from the client.
    pub fn received(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A frame of so many bytes went to the client.
    pub fn sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A context faulted, or a posted call failed.
    pub fn fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// As they are now.
    #[must_use]
    pub fn read(&self) -> Counts {
        Counts {
            calls: self.calls.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }
}

/// What a session has done, since it began or since it was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls.
    pub calls: u64,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// Faults of contexts and failures of posted calls.
    pub faults: u64,
}

impl Counts {
    /// What has come since then; nothing of what is less.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            bytes_received: self.bytes_received.saturating_sub(earlier.bytes_received),
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            faults: self.faults.saturating_sub(earlier.faults),
        }
    }
}

impl From<Counts> for control::Counts {
    fn from(counts: Counts) -> Self {
        Self {
            calls: counts.calls,
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
            faults: counts.faults,
        }
    }
}

impl From<control::Counts> for Counts {
    fn from(counts: control::Counts) -> Self {
        Self {
            calls: counts.calls,
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
            faults: counts.faults,
        }
    }
}
