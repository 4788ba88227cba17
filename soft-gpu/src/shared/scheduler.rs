//! Turns: which process's kernels run.
//!
//! Processes on one device share its cores. While only one has kernels, it just runs them. When several
//! have, they take turns of [`SLICE`]: a kernel starts when its process has the turn, and who had it for a slice while
//! others waited steps back. A kernel that is longer than a slice is not interrupted, but its turn ends, so nobody waits for
//! another process's endless kernel. Who dies with the turn loses it the same way.
//!
//! The segment's word is the holder's place + 1 (0: nobody) in the upper 16 bits, and when the turn began in the lower 48
//! (milliseconds of the monotonic clock, which is the same for all processes).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Segment, busy};

const SLICE: u64 = 20;
const POLL: Duration = Duration::from_micros(100);
const TIME_BITS: u32 = 48;

/// What this process knows of its own turns.
#[derive(Debug, Default)]
pub(super) struct Own {
    running: AtomicUsize,
    /// When it took the turn after somebody else had it.
    slice_began: AtomicU64,
}

/// The right to run a kernel, until dropped.
pub(crate) struct Turn<'a> {
    segment: &'a Segment,
    _kernel: busy::Kernel<'a>,
}

impl Segment {
    /// Waits for this process's turn to run a kernel on a device.
    pub(crate) fn turn(&self, device: usize) -> Turn<'_> {
        let header = self.header();
        if self.slice_is_over() {
            self.step_back();
        }
        while !self.try_take() {
            header.waiting.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(POLL);
            header.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.turn.running.fetch_add(1, Ordering::Relaxed);
        Turn {
            segment: self,
            _kernel: self.begin(device),
        }
    }

    fn mine(&self) -> u64 {
        self.place as u64 + 1
    }

    fn try_take(&self) -> bool {
        let now = now_ms();
        let word = self.header().turn.load(Ordering::Acquire);
        let (holder, since) = (word >> TIME_BITS, word & ((1 << TIME_BITS) - 1));
        if holder == self.mine() {
            return true;
        }
        if holder != 0 && now.saturating_sub(since) < SLICE {
            return false;
        }
        let taken = self.mine() << TIME_BITS | now;
        let turn = &self.header().turn;
        let won = turn
            .compare_exchange(word, taken, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if won && now.saturating_sub(self.turn.slice_began.load(Ordering::Relaxed)) >= SLICE {
            self.turn.slice_began.store(now, Ordering::Relaxed);
        }
        won
    }

    fn slice_is_over(&self) -> bool {
        let began = self.turn.slice_began.load(Ordering::Relaxed);
        self.header().waiting.load(Ordering::Relaxed) > 0 && now_ms().saturating_sub(began) >= SLICE
    }

    /// Lets go and gives the others long enough to notice.
    fn step_back(&self) {
        self.release();
        std::thread::sleep(POLL * 2);
    }

    fn release(&self) {
        let word = self.header().turn.load(Ordering::Acquire);
        if word >> TIME_BITS == self.mine() {
            let turn = &self.header().turn;
            // If it fails, somebody else has taken it.
            let _ = turn.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.segment.turn.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.segment.release();
        }
    }
}

fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_holder_loses_its_turn() {
        let name = format!("gpurun-test-turn-{}", std::process::id());
        let segment = Segment::attach(&name, 100).unwrap();
        let dead = 9u64 << TIME_BITS | now_ms();
        segment.header().turn.store(dead, Ordering::Relaxed);
        drop(segment.turn(0));
        assert_eq!(segment.header().turn.load(Ordering::Relaxed), 0);
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    }
}
