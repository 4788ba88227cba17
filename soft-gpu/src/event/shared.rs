//! What the processes that share an event have of it: a page with numbers, how often it was recorded, and which of the last records the streams have reached.
//!
//! A record counts the one up, and its stream notes itself among the others; who waits, waits for the record that was the last then, and for no other: streams are
//! not reached in the order of their records. Beside each record stands who has recorded, written by one step with its number, so that no record is waited for whose
//! process is gone: the segment knows the living. Who waits polls, as streams that wait for a word of memory do.
//!
//! # Safety
//!
//! The page is sealed against shrinking (checked when it is opened), is mapped as long as its event is there, and is only accessed as atomic numbers, for
//! which any bytes are valid.

#![expect(unsafe_code, reason = "memory shared with other processes")]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use driver_api::abi::CUresult;
use rustix::fs::SealFlags;

use crate::memory::map::{Mapping, sealed_file};
use crate::shared::{MEMBER_BITS, Segment};

/// Most records of an event that are not reached: who wants one more waits.
const MAX_OPEN: usize = 512;

/// How long a wait polls without giving up its core, and how long it sleeps then.
const SPINS: u32 = 1000;
const NAP: Duration = Duration::from_micros(50);

/// What the processes share. A record's word is its number, above who has recorded.
#[repr(C)]
struct Page {
    /// Of the segment in which members know each other.
    segment: AtomicU64,
    /// The last record's word.
    last: AtomicU64,
    /// The word of each record, at its number's place.
    records: [AtomicU64; MAX_OPEN],
    /// The number of the last record at each place that is reached.
    reached: [AtomicU64; MAX_OPEN],
}

const PAGE_BYTES: u64 = (size_of::<Page>() as u64).next_multiple_of(4096);

/// The place of a record.
fn place(number: u64) -> usize {
    (number % MAX_OPEN as u64) as usize
}

/// The page of an event.
#[derive(Debug)]
pub(crate) struct Shared {
    file: OwnedFd,
    mapping: Mapping,
    is_borrowed: bool,
}

impl Shared {
    /// One of this process.
    pub(super) fn new(segment: &Segment) -> Result<Self, CUresult> {
        let shared = Self::of(sealed_file(PAGE_BYTES)?, false)?;
        let number = segment.number().map_err(|_| CUresult::OPERATING_SYSTEM)?;
        shared.page().segment.store(number, SeqCst);
        Ok(shared)
    }

    /// Another process's, of the same segment.
    pub(crate) fn borrowed(segment: &Segment, file: OwnedFd) -> Result<Self, CUresult> {
        let status = rustix::fs::fstat(&file).map_err(|_| CUresult::INVALID_HANDLE)?;
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if status.st_size as u64 != PAGE_BYTES || !seals.contains(SealFlags::SHRINK) {
            return Err(CUresult::INVALID_HANDLE);
        }
        let shared = Self::of(file, true)?;
        match segment.number() {
            Ok(number) if number == shared.page().segment.load(SeqCst) => Ok(shared),
            _ => Err(CUresult::INVALID_HANDLE),
        }
    }

    fn of(file: OwnedFd, is_borrowed: bool) -> Result<Self, CUresult> {
        let mapping = Mapping::reserve(PAGE_BYTES, PAGE_BYTES)?;
        mapping.place((mapping.base(), PAGE_BYTES), &file, 0)?;
        Ok(Self {
            file,
            mapping,
            is_borrowed,
        })
    }

    /// A copy of its descriptor, for another process; nothing for what is another's.
    pub(crate) fn file(&self) -> Option<OwnedFd> {
        (!self.is_borrowed)
            .then(|| self.file.try_clone().ok())
            .flatten()
    }

    fn page(&self) -> &Page {
        // SAFETY: by the module's rules; mappings begin at pages.
        unsafe { &*(self.mapping.base() as *const Page) }
    }

    /// Writes down at its place who has recorded last: done before the next record, so that it is done whoever ends when.
    fn note_last(&self) -> u64 {
        let last = self.page().last.load(SeqCst);
        self.page().records[place(last >> MEMBER_BITS)].fetch_max(last, SeqCst);
        last
    }

    /// One record more, by `member`: its number. Waits while too many are open.
    fn count(
        &self,
        member: u32,
        lives: impl Fn(u32) -> bool,
        is_over: impl Fn() -> bool,
    ) -> Result<u64, CUresult> {
        loop {
            let last = self.note_last();
            let number = (last >> MEMBER_BITS) + 1;
            if number >= 1 << (64 - MEMBER_BITS) {
                // Others have written what nobody counts to.
                return Err(CUresult::UNKNOWN);
            }
            let before = number.saturating_sub(MAX_OPEN as u64);
            self.await_record(before, &lives, &is_over);
            if !self.is_reached(before) {
                return Err(CUresult::LAUNCH_FAILED);
            }
            let word = number << MEMBER_BITS | u64::from(member);
            let put = self
                .page()
                .last
                .compare_exchange(last, word, SeqCst, SeqCst);
            if put.is_ok() {
                return Ok(number);
            }
        }
    }

    /// The number of the last record.
    pub(crate) fn recorded(&self) -> u64 {
        self.page().last.load(SeqCst) >> MEMBER_BITS
    }

    fn reach(&self, record: u64) {
        self.page().reached[place(record)].fetch_max(record, SeqCst);
    }

    fn is_reached(&self, record: u64) -> bool {
        self.page().reached[place(record)].load(SeqCst) >= record
    }

    /// Whether a record has been reached, or nobody is left who would.
    fn is_over(&self, record: u64, lives: impl Fn(u32) -> bool) -> bool {
        if self.is_reached(record) {
            return true;
        }
        self.note_last();
        let word = self.page().records[place(record)].load(SeqCst);
        let member = word as u32 & ((1 << MEMBER_BITS) - 1);
        if word >> MEMBER_BITS == record && !lives(member) {
            self.reach(record);
        }
        self.is_reached(record)
    }

    fn await_record(&self, record: u64, lives: impl Fn(u32) -> bool, is_over: impl Fn() -> bool) {
        for round in 0u32.. {
            if round < SPINS && !self.is_reached(record) {
                std::hint::spin_loop();
            } else if self.is_over(record, &lives) || is_over() {
                return;
            } else {
                std::thread::sleep(NAP);
            }
        }
    }

    /// Whether a record has been reached, or nobody is left who would.
    pub(crate) fn has_reached(&self, segment: &Segment, record: u64) -> bool {
        self.is_over(record, |member| segment.has_member(member))
    }

    /// Waits until a record has been reached, unless nobody waits any more.
    pub(crate) fn wait(&self, segment: &Segment, record: u64, is_over: impl Fn() -> bool) {
        self.await_record(record, |member| segment.has_member(member), is_over);
    }
}

/// A record whose stream will reach it: dropped when it has, or when it never will.
pub(super) struct Open {
    shared: Arc<Shared>,
    number: u64,
}

impl Open {
    /// One record more. Waits while too many are open, unless nobody waits any more.
    pub(super) fn new(
        shared: &Arc<Shared>,
        segment: &Segment,
        is_over: impl Fn() -> bool,
    ) -> Result<Self, CUresult> {
        let lives = |member| segment.has_member(member);
        Ok(Self {
            number: shared.count(segment.member(), lives, is_over)?,
            shared: Arc::clone(shared),
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.reach(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared::of(sealed_file(PAGE_BYTES).expect("a file"), false).expect("mapped")
    }

    /// The same page as another process has it.
    fn another(of: &Shared) -> Shared {
        Shared::of(of.file().expect("own"), true).expect("mapped")
    }

    fn record(shared: &Shared, member: u32) -> u64 {
        shared.count(member, |_| true, || true).expect("recorded")
    }

    #[test]
    fn a_later_record_lets_nobody_go_who_waits_for_an_earlier_one() {
        let event = shared();
        let other = another(&event);
        assert!(other.is_over(other.recorded(), |_| true), "never recorded");
        let (first, second) = (record(&event, 1), record(&other, 2));
        event.reach(second);
        assert!(other.is_over(second, |_| true) && !other.is_over(first, |_| true));
        event.reach(first);
        assert!(other.is_over(first, |_| true));
    }

    #[test]
    fn what_a_process_has_recorded_that_is_gone_is_not_waited_for() {
        let event = shared();
        let other = another(&event);
        let [first, second, third] = [7, 8, 7].map(|member| record(&event, member));
        let lives = |member| member != 7;
        other.await_record(first, lives, || false);
        other.await_record(third, lives, || false);
        assert!(!other.is_over(second, lives), "its process is there");
        assert!(event.is_reached(first) && event.is_reached(third));
        // Whoever has the place now, has recorded nothing.
        assert!(other.is_over(third, |_| true));
    }

    #[test]
    fn no_record_takes_the_place_of_one_that_is_open() {
        let event = shared();
        for number in 1..=MAX_OPEN as u64 {
            assert_eq!(record(&event, 3), number);
        }
        let more = || event.count(3, |_| true, || true);
        assert_eq!(
            more(),
            Err(CUresult::LAUNCH_FAILED),
            "whose context is over"
        );
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| event.count(3, |_| true, || false));
            event.reach(1);
            assert_eq!(waiting.join().expect("counted"), Ok(MAX_OPEN as u64 + 1));
        });
        event.page().last.store(u64::MAX, SeqCst);
        assert_eq!(
            more(),
            Err(CUresult::UNKNOWN),
            "whatever others have written"
        );
    }
}
