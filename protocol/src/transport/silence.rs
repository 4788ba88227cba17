//! How long a peer may be silent: what counts, who is told, when it is the end.
//!
//! What: both halves of a connection share one count. Whatever arrives, and whatever room a full connection gets, begins it anew; who
//! waits in vain looks at it ([`Watch::look`]) at least every [`LOOK_INTERVAL`]. Why here: a process can be silent in the middle of
//! a frame, and while the other side sends, so the framing has to wait as patiently as its callers do.
//!
//! Rules: a *process* may be silent (stopped by a terminal or a debugger, or with a machine that is too busy) up to the grace of
//! whoever waits for it, which is told once, early; a *machine* that acknowledges nothing for [`HOST_LOSS_LIMIT`] although something
//! is on its way to it is gone. Time in which we ourselves stood still is not counted as the peer's.
//!
//! ```text
//! heard ──QUIET_LIMIT──▶ told once ──grace──▶ Silent: the connection is over
//!   ▲────── anything arrives ─┘ told once
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::TransportError;
use super::endpoint::Endpoint;
use crate::limits::{DEFAULT_SILENCE_GRACE, HOST_LOSS_LIMIT, LOOK_INTERVAL, QUIET_LIMIT};

/// Most time that one look adds: whoever waits looks more often than this, so what is beyond it was our own standing still.
const MOST_OF_ONE_LOOK: Duration = LOOK_INTERVAL.saturating_mul(4);

/// What is told about a silent peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It has been silent for a while.
    Silent {
        /// For how long.
        silent: Duration,
        /// How long it may be.
        grace: Duration,
    },
    /// It was told to be silent, and is so no longer.
    HeardAgain {
        /// For how long it was.
        silent: Duration,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent { silent, grace } => write!(
                formatter,
                "silent for {} s; waiting up to {} s",
                silent.as_secs(),
                grace.as_secs()
            ),
            Self::HeardAgain { silent } => {
                write!(formatter, "heard again after {} s", silent.as_secs())
            }
        }
    }
}

/// How long a peer may be silent, and who is told of it.
#[derive(Clone)]
pub struct Patience {
    /// How long a peer's process may be silent.
    pub grace: Duration,
    /// How long a peer's machine may answer nothing.
    pub host_loss: Duration,
    /// Told once when it has been silent for a while, and once when it is heard again.
    pub told: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Default for Patience {
    /// The default grace; nobody is told.
    fn default() -> Self {
        Self {
            grace: DEFAULT_SILENCE_GRACE,
            host_loss: HOST_LOSS_LIMIT,
            told: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Patience")
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Nothing,
    Tell(Notice),
    Over(Duration),
}

/// The time that the peer has been silent, as far as we were there to hear it.
struct Count {
    grace: Duration,
    looked_at: Instant,
    silent: Duration,
    is_told: bool,
}

impl Count {
    fn new(grace: Duration, now: Instant) -> Self {
        Self {
            grace,
            looked_at: now,
            silent: Duration::ZERO,
            is_told: false,
        }
    }

    fn look(&mut self, now: Instant, was_heard: bool) -> Finding {
        let since = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        if was_heard {
            let silent = std::mem::take(&mut self.silent);
            return match std::mem::take(&mut self.is_told) {
                true => Finding::Tell(Notice::HeardAgain { silent }),
                false => Finding::Nothing,
            };
        }
        self.silent += since.min(MOST_OF_ONE_LOOK);
        if self.silent >= self.grace {
            return Finding::Over(self.silent);
        }
        if self.silent >= QUIET_LIMIT.min(self.grace / 2) && !self.is_told {
            self.is_told = true;
            return Finding::Tell(Notice::Silent {
                silent: self.silent,
                grace: self.grace,
            });
        }
        Finding::Nothing
    }
}

/// The silence of one peer, for both halves of its connection.
pub(super) struct Silence {
    endpoint: Arc<dyn Endpoint>,
    patience: Patience,
    was_heard: AtomicBool,
    /// Somebody was told, and is to be told that it is over.
    is_told: AtomicBool,
    count: Mutex<Count>,
}

impl Silence {
    pub(super) fn new(endpoint: Arc<dyn Endpoint>, patience: Patience) -> Self {
        let count = Mutex::new(Count::new(patience.grace, Instant::now()));
        Self {
            endpoint,
            patience,
            was_heard: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            count,
        }
    }

    /// Something came, or a full connection has room again. Costs one store and one read.
    pub(super) fn heard(&self) {
        self.was_heard.store(true, Ordering::Relaxed);
        if self.is_told.load(Ordering::Relaxed) {
            self.count_up();
        }
    }

    /// Nothing came for a while: adds it up.
    pub(super) fn look(&self) -> Result<(), TransportError> {
        if let Finding::Over(silent) = self.count_up() {
            return Err(TransportError::Silent(silent));
        }
        match self.endpoint.unanswered_for() {
            Some(time) if time >= self.patience.host_loss => Err(TransportError::HostLost(time)),
            _ => Ok(()),
        }
    }
}

impl Silence {
    /// Counts, and tells what is to be told.
    fn count_up(&self) -> Finding {
        let was_heard = self.was_heard.swap(false, Ordering::Relaxed);
        let finding = {
            let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            let finding = count.look(Instant::now(), was_heard);
            self.is_told.store(count.is_told, Ordering::Relaxed);
            finding
        };
        if let Finding::Tell(notice) = finding {
            (self.patience.told)(notice);
        }
        finding
    }
}

/// Looks at the silence of a connection's peer, for a thread that waits by a poll of its own.
#[derive(Clone)]
pub struct Watch(pub(super) Arc<Silence>);

impl Watch {
    /// Nothing came for a while. To be called at least every second or so while the caller waits.
    ///
    /// # Errors
    /// [`TransportError::Silent`] after the grace, [`TransportError::HostLost`].
    pub fn look(&self) -> Result<(), TransportError> {
        self.0.look()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Watch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn looks(count: &mut Count, now: &mut Instant, times: u32) -> Vec<Finding> {
        let look = |_| {
            *now += SECOND;
            count.look(*now, false)
        };
        (0..times)
            .map(look)
            .filter(|found| *found != Finding::Nothing)
            .collect()
    }

    #[test]
    fn it_is_told_once_and_ends_by_the_grace() {
        let mut now = Instant::now();
        let grace = 30 * SECOND;
        let mut count = Count::new(grace, now);
        let silent = QUIET_LIMIT;
        let told = Finding::Tell(Notice::Silent { silent, grace });
        assert_eq!(looks(&mut count, &mut now, 29), [told]);
        assert_eq!(looks(&mut count, &mut now, 1), [Finding::Over(grace)]);
    }

    #[test]
    fn what_is_heard_begins_it_anew() {
        let mut now = Instant::now();
        let mut count = Count::new(30 * SECOND, now);
        assert_eq!(looks(&mut count, &mut now, 20).len(), 1);
        let silent = 20 * SECOND;
        let again = Finding::Tell(Notice::HeardAgain { silent });
        assert_eq!(count.look(now, true), again);
        assert_eq!(count.look(now, true), Finding::Nothing);
        assert_eq!(
            looks(&mut count, &mut now, 29).len(),
            1,
            "told again, not over"
        );
    }

    #[test]
    fn our_own_standing_still_is_not_the_peer_s_silence() {
        let mut now = Instant::now();
        let mut count = Count::new(30 * SECOND, now);
        now += 3600 * SECOND;
        assert_eq!(count.look(now, false), Finding::Nothing);
        assert_eq!(count.silent, MOST_OF_ONE_LOOK);
    }

    #[test]
    fn a_short_grace_is_told_of_in_its_middle() {
        let mut now = Instant::now();
        let mut count = Count::new(6 * SECOND, now);
        assert!(looks(&mut count, &mut now, 2).is_empty());
        let found = looks(&mut count, &mut now, 1);
        assert!(matches!(found[..], [Finding::Tell(Notice::Silent { .. })]));
    }

    #[test]
    fn notices_read_well() {
        let (silent, grace) = (10 * SECOND, 300 * SECOND);
        let notice = Notice::Silent { silent, grace };
        assert_eq!(notice.to_string(), "silent for 10 s; waiting up to 300 s");
        let notice = Notice::HeardAgain { silent };
        assert_eq!(notice.to_string(), "heard again after 10 s");
    }
}
