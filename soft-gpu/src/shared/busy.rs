//! When kernels ran: the source of a device's utilisation.
//!
//! A device's time is cut into buckets of [`BUCKET_US`], and the segment has a ring of them for each device. Who has run kernels adds
//! the time to the buckets in which it passed; who runs some now says since when, in its place. So anybody can tell the
//! share of the last second without having watched it, and a kernel of a minute shows before it ends.
//!
//! A bucket's word is its number since the clock began in the upper 36 bits, and the microseconds in the lower 28. A word of an older round
//! is overwritten. Kernels of several processes add up where they overlap, so a sum is cut to what there is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{MAX_PROCESSES, Segment};
use crate::config::MAX_DEVICES;
use crate::threads::lock;

/// The length of a bucket in microseconds.
const BUCKET_US: u64 = 1 << 17;
/// Buckets in a ring: together one second.
const BUCKETS: usize = 8;
const AMOUNT_BITS: u32 = 28;
const AMOUNT_MASK: u64 = (1 << AMOUNT_BITS) - 1;

/// The ring of one device.
#[repr(C)]
pub(super) struct Ring([AtomicU64; BUCKETS]);

/// What this process runs now on each device.
#[derive(Debug, Default)]
pub(super) struct Own([Mutex<Running>; MAX_DEVICES]);

#[derive(Debug, Default)]
struct Running {
    kernels: usize,
    since_us: u64,
}

/// A kernel that runs, until dropped.
pub(super) struct Kernel<'a> {
    segment: &'a Segment,
    device: usize,
}

impl Segment {
    /// Notes that a kernel begins on a device.
    pub(super) fn begin(&self, device: usize) -> Kernel<'_> {
        let device = self.numbers[device];
        let mut running = lock(&self.busy.0[device]);
        if running.kernels == 0 {
            running.since_us = now_us();
            self.place(self.place).busy_since_us[device].store(running.since_us, Ordering::Relaxed);
        }
        running.kernels += 1;
        Kernel {
            segment: self,
            device,
        }
    }
}

impl Drop for Kernel<'_> {
    fn drop(&mut self) {
        let segment = self.segment;
        let mut running = lock(&segment.busy.0[self.device]);
        running.kernels -= 1;
        if running.kernels == 0 {
            segment.place(segment.place).busy_since_us[self.device].store(0, Ordering::Relaxed);
            segment.header().busy[self.device].add(running.since_us, now_us());
        }
    }
}

impl Ring {
    /// Adds a time in which kernels ran; what is older than the ring is of no interest any more.
    fn add(&self, since_us: u64, until_us: u64) {
        let last = until_us / BUCKET_US;
        let first = (since_us / BUCKET_US).max(last.saturating_sub(BUCKETS as u64 - 1));
        for number in first..=last {
            let begin = since_us.max(number * BUCKET_US);
            let end = until_us.min((number + 1) * BUCKET_US);
            let amount = end.saturating_sub(begin);
            // The closure always gives a word, so this cannot fail.
            let _ = self.0[number as usize % BUCKETS].fetch_update(
                Ordering::Relaxed,
                Ordering::Relaxed,
                |word| Some(added(word, number, amount)),
            );
        }
    }

    /// Microseconds of these buckets in which kernels ran.
    fn sum(&self, first: u64, last: u64) -> u64 {
        self.0
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .filter(|word| (first..=last).contains(&(word >> AMOUNT_BITS)))
            .map(|word| word & AMOUNT_MASK)
            .sum()
    }

    pub(super) fn clear(&self) {
        self.0
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

fn added(word: u64, number: u64, amount_us: u64) -> u64 {
    let before = if word >> AMOUNT_BITS == number {
        word & AMOUNT_MASK
    } else {
        0
    };
    number << AMOUNT_BITS | (before + amount_us).min(AMOUNT_MASK)
}

/// Percent of the last second in which kernels ran, given since when the living ones run.
pub(super) fn percent(
    ring: &Ring,
    running_since_us: impl Iterator<Item = u64>,
    now_us: u64,
) -> u32 {
    let last = now_us / BUCKET_US;
    let first = last.saturating_sub(BUCKETS as u64 - 1);
    let begin = first * BUCKET_US;
    let running: u64 = running_since_us
        .map(|since| now_us.saturating_sub(since.max(begin)))
        .sum();
    let whole = (now_us - begin).max(1);
    let busy = ring.sum(first, last).saturating_add(running).min(whole);
    u32::try_from((busy * 100).div_ceil(whole)).unwrap_or(100)
}

/// The monotonic clock, which is the same for all processes.
pub(super) fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

const _: () = assert!((MAX_PROCESSES as u64) * BUCKET_US <= AMOUNT_MASK);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = BUCKET_US * BUCKETS as u64;

    fn ring() -> Ring {
        Ring(Default::default())
    }

    #[test]
    fn half_of_the_time_is_half() {
        let ring = ring();
        let now = 100 * SECOND + BUCKET_US - 1;
        for step in 0..2 * SECOND / 100 {
            let begin = now - 2 * SECOND + step * 100;
            ring.add(begin, begin + 50);
        }
        let percent = percent(&ring, std::iter::empty(), now);
        assert!((48..=52).contains(&percent), "{percent}");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let ring = ring();
        ring.add(SECOND, 2 * SECOND);
        assert_eq!(percent(&ring, std::iter::empty(), 2 * SECOND), 100);
        assert_eq!(percent(&ring, std::iter::empty(), 4 * SECOND), 0);
    }

    #[test]
    fn a_long_kernel_shows_while_it_runs_and_after() {
        let ring = ring();
        let now = 60 * SECOND;
        assert_eq!(percent(&ring, [7].into_iter(), now), 100);
        ring.add(7, now);
        assert_eq!(percent(&ring, std::iter::empty(), now), 100);
        // Two at a time are no more than all of it.
        assert_eq!(percent(&ring, [now - 9, now - 9].into_iter(), now), 100);
    }
}
