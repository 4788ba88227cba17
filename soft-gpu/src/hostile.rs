//! A device that does everything the driver's documentation allows and nobody expects.
//!
//! `GPURUN_SOFT_HOSTILE=SEED:switch,switch,…` makes the software GPU a worse neighbour than any real one, repeatably:
//! every decision is drawn from the seed, so a failure is repeated by repeating the variable.
//!
//! | switch | what happens |
//! |---|---|
//! | `hints` | every other address hint of `cuMemAddressReserve` is ignored |
//! | `queue` | a stream takes four operations; the call that brings the fifth blocks |
//! | `capture` | potentially unsafe calls spoil a capture as its mode and the thread's say, and fail |
//! | `unmap` | `cuMemUnmap` does not wait for kernels; what they still touch there is scratch memory |
//! | `delay` | operations complete up to two milliseconds late |
//! | `poison` | memory is filled with 0xCD when it is handed out, small allocations also when they are freed |
//! | `launch` | one launch of 64 fails at the call with LAUNCH_OUT_OF_RESOURCES |

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What fresh and freed memory is filled with.
pub(crate) const POISON: u8 = 0xcd;
/// Operations that a stream takes before the call blocks: about what a real driver takes.
const QUEUE_DEPTH: usize = 1024;
const HOSTILE_QUEUE_DEPTH: usize = 4;
const MAX_DELAY_MICROSECONDS: u64 = 2000;
const LAUNCHES_PER_FAILURE: u64 = 64;

/// The switches, and the place in the sequence of random numbers.
#[derive(Debug, Default)]
pub(crate) struct Hostile {
    hints: bool,
    queue: bool,
    unmap: bool,
    delay: bool,
    poison: bool,
    launch: bool,
    capture: bool,
    state: AtomicU64,
}

impl Clone for Hostile {
    fn clone(&self) -> Self {
        Self {
            state: AtomicU64::new(self.state.load(Ordering::Relaxed)),
            ..*self
        }
    }
}

impl Hostile {
    /// `SEED:switch,switch`; none if a word is not known.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (seed, switches) = text.split_once(':')?;
        let mut hostile = Self {
            state: AtomicU64::new(seed.parse().ok()?),
            ..Self::default()
        };
        for switch in switches.split(',') {
            match switch.trim() {
                "hints" => hostile.hints = true,
                "queue" => hostile.queue = true,
                "unmap" => hostile.unmap = true,
                "delay" => hostile.delay = true,
                "poison" => hostile.poison = true,
                "launch" => hostile.launch = true,
                "capture" => hostile.capture = true,
                "" => {}
                _ => return None,
            }
        }
        Some(hostile)
    }

    /// SplitMix64.
    fn random(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15u64;
        let mut word = self
            .state
            .fetch_add(step, Ordering::Relaxed)
            .wrapping_add(step);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn ignores_hint(&self) -> bool {
        self.hints && self.random() & 1 == 0
    }

    pub(crate) fn queue_depth(&self) -> usize {
        if self.queue {
            HOSTILE_QUEUE_DEPTH
        } else {
            QUEUE_DEPTH
        }
    }

    pub(crate) fn guards_captures(&self) -> bool {
        self.capture
    }

    pub(crate) fn unmaps_at_once(&self) -> bool {
        self.unmap
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        self.delay
            .then(|| Duration::from_micros(self.random() % MAX_DELAY_MICROSECONDS))
    }

    pub(crate) fn poisons(&self) -> bool {
        self.poison
    }

    pub(crate) fn fails_launch(&self) -> bool {
        self.launch && self.random().is_multiple_of(LAUNCHES_PER_FAILURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let draw = || {
            let hostile = Hostile::parse("7:hints,launch").unwrap();
            (0..64).map(|_| hostile.ignores_hint()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!(draw().contains(&true) && draw().contains(&false));
    }

    #[test]
    fn unknown_switches_are_refused() {
        assert!(Hostile::parse("1:sunshine").is_none());
        assert!(Hostile::parse("hints").is_none());
    }
}
