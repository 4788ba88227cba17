//! The end of a session: who saw it first says why, and everyone who waits hears of it.
//!
//! The process exits when the session ends, so nothing here cleans up: the operating system and the driver do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::transport::{Interrupt, TransportError};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The client said goodbye, with this text.
    Goodbye(String),
    /// The connection is lost.
    Lost(String),
    /// The client has been silent for too long.
    Silent(Duration),
    /// The client broke the protocol.
    Violation(String),
    /// The worker cannot go on.
    Failed(String),
    /// The daemon has ended the session, for this reason.
    Dismissed(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Goodbye(text) if text.is_empty() => formatter.write_str("the client left"),
            Self::Goodbye(text) => write!(formatter, "the client left: {text}"),
            Self::Lost(text) => write!(formatter, "the client is gone: {text}"),
            Self::Silent(time) => {
                write!(formatter, "the client was silent for {} s", time.as_secs())
            }
            Self::Violation(text) => write!(formatter, "the client broke the protocol: {text}"),
            Self::Failed(text) => write!(formatter, "the worker failed: {text}"),
            Self::Dismissed(text) => write!(formatter, "the server ended the session: {text}"),
        }
    }
}

impl From<TransportError> for Reason {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Frame(error) => Self::Violation(error.to_string()),
            TransportError::Silent(time) => Self::Silent(time),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// The end that a session has not reached yet, or has.
#[derive(Debug)]
pub(crate) struct End {
    reason: Mutex<Option<Reason>>,
    changed: Condvar,
    is_over: AtomicBool,
    interrupt: Interrupt,
}

impl End {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Self {
            reason: Mutex::new(None),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
            interrupt,
        }
    }

    /// Ends the session; the first reason stays.
    pub(crate) fn finish(&self, reason: Reason) {
        let mut current = lock(&self.reason);
        if current.is_none() {
            *current = Some(reason);
            self.is_over.store(true, Ordering::Release);
            self.changed.notify_all();
        }
    }

    /// Whether the session is over: loops ask before they go on.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether the client has closed the connection, though what it sent before may be unread.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.interrupt.is_hung_up()
    }

    /// Blocks until the session is over.
    pub(crate) fn wait(&self) -> Reason {
        let mut current = lock(&self.reason);
        loop {
            if let Some(reason) = &*current {
                return reason.clone();
            }
            current = self
                .changed
                .wait(current)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until the session is over, at most for `time`; says whether it is.
    pub(crate) fn comes_within(&self, time: Duration) -> bool {
        let current = lock(&self.reason);
        let waited = self
            .changed
            .wait_timeout_while(current, time, |reason| reason.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    /// Ends the connection, so that whoever blocks in it returns.
    pub(crate) fn disconnect(&self) {
        self.interrupt.shutdown();
    }
}

/// Locks, whatever a thread that panicked left behind: the process is about to end then.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
