//! Whether to look again, or to sleep: waiting for a peer that may answer in microseconds.
//!
//! What: waking a sleeping core takes 25 µs and more, so who waits looks again and again, for [`SPIN`] or what its transport says, before it sleeps. That is poison where
//! the peer needs the very core that the looking burns: then the answer comes as soon as one sleeps, and never before. [`Spin`] learns
//! which it is. Rules: it decides, and neither looks at a clock nor waits; what it learns is only how long it looks, never whether
//! something is seen.
//!
//! ```text
//! looked in vain, slept, and it came within SOON ──twice in a row──▶ sleep at once, for 4, 8, … 256 waits, then try again
//! it came while looking ──▶ looking pays: all is forgotten
//! it came much later ──▶ says nothing: the peer was at work, or had nothing to say
//! ```

use std::time::{Duration, Instant};

/// How long one looks before one sleeps: waking an idle core costs about half of this.
pub const SPIN: Duration = Duration::from_micros(50);

/// What comes so soon after one has begun to sleep came because one slept.
const SOON: Duration = Duration::from_micros(30);

/// After so many waits in a row that looking has only delayed, one sleeps at once.
const TOLERATED: u32 = 2;

/// Waits in which one sleeps at once: at first, and at most, so that looking is tried again now and then.
const LEAST_REST: u32 = 4;
const MOST_REST: u32 = 256;

/// What a waiting thread knows of its peer.
#[derive(Debug)]
pub struct Spin {
    /// How long it looks.
    time: Duration,
    /// Waits in a row that looking has delayed.
    delayed: u32,
    /// Waits left in which one sleeps at once.
    rest: u32,
    /// The next rest.
    next_rest: u32,
}

/// One wait.
#[derive(Debug)]
pub struct Wait {
    begun: Instant,
    /// How long it looks.
    time: Duration,
    /// Whether looking is worth while.
    looks: bool,
    slept: Option<Instant>,
}

impl Default for Spin {
    fn default() -> Self {
        Self::new(SPIN)
    }
}

impl Spin {
    /// Looks for so long before it sleeps: about twice what sleeping and being woken costs.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            delayed: 0,
            rest: 0,
            next_rest: 0,
        }
    }

    /// Whether the next wait sleeps at once: then a first look, too, would be in vain.
    #[must_use]
    pub fn sleeps_at_once(&self) -> bool {
        self.rest > 0
    }

    /// A wait begins.
    pub fn begin(&mut self, now: Instant) -> Wait {
        let looks = !self.sleeps_at_once();
        self.rest = self.rest.saturating_sub(1);
        Wait {
            begun: now,
            time: self.time,
            looks,
            slept: None,
        }
    }

    /// It has come: where one slept before, `now` is asked when that is.
    pub fn end(&mut self, wait: &Wait, now: impl FnOnce() -> Instant) {
        match wait.slept {
            _ if !wait.looks => {}
            None => *self = Self::new(self.time),
            Some(slept) if now().saturating_duration_since(slept) < SOON => {
                self.delayed += 1;
                if self.delayed >= TOLERATED {
                    self.next_rest = (self.next_rest * 2).clamp(LEAST_REST, MOST_REST);
                    self.rest = self.next_rest;
                }
            }
            Some(_) => {}
        }
    }
}

impl Wait {
    /// Whether to look again now; else to sleep, now or after a last deed.
    #[must_use]
    pub fn looks_again(&self, now: Instant) -> bool {
        self.looks && self.slept.is_none() && now.saturating_duration_since(self.begun) < self.time
    }

    /// One begins to sleep; what is seen afterwards was not seen by looking.
    pub fn sleeps(&mut self, now: Instant) {
        self.slept.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One wait in which the answer comes this long after one sleeps, or while looking; whether one looked at all.
    fn wait(spin: &mut Spin, after_sleep: Option<Duration>) -> bool {
        let now = Instant::now();
        let mut wait = spin.begin(now);
        let looks = wait.looks_again(now);
        match after_sleep {
            None if looks => spin.end(&wait, || now + SPIN / 2),
            after_sleep => {
                let slept = if looks { now + SPIN } else { now };
                assert!(!wait.looks_again(slept + SPIN));
                wait.sleeps(slept);
                spin.end(&wait, || slept + after_sleep.unwrap_or_default());
            }
        }
        looks
    }

    #[test]
    fn it_stops_looking_where_looking_only_delays() {
        let mut spin = Spin::default();
        let looked = (0..10_000)
            .filter(|_| wait(&mut spin, Some(Duration::from_micros(5))))
            .count();
        assert!((2..60).contains(&looked), "{looked}");
    }

    #[test]
    fn it_looks_on_where_the_peer_is_at_work_or_answers_at_once() {
        let mut spin = Spin::default();
        assert!((0..100).all(|_| wait(&mut spin, Some(Duration::from_millis(3)))));
        assert!((0..100).all(|_| wait(&mut spin, None)));
    }

    #[test]
    fn one_success_forgets_all_failures() {
        let mut spin = Spin::default();
        let quick = Some(Duration::from_micros(5));
        assert!(wait(&mut spin, quick) && wait(&mut spin, quick));
        assert!((0..4).all(|_| !wait(&mut spin, quick)));
        assert!(wait(&mut spin, None));
        assert!(wait(&mut spin, quick) && wait(&mut spin, quick));
        assert!(!wait(&mut spin, quick));
    }
}
