//! What the processes that share an event have of it: a page with its [records](driver_api::event_records), and the segment in which they know each other.
//!
//! A stream that comes to its record notes it there; no record is waited for whose process is gone: the segment knows the living. Who waits polls, as streams
//! that wait for a word of memory do.
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
use driver_api::event_records::Records;
use rustix::fs::SealFlags;

use crate::memory::map::{Mapping, sealed_file};
use crate::shared::Segment;

/// How long a wait polls without giving up its core, and how long it sleeps then.
const SPINS: u32 = 1000;
const NAP: Duration = Duration::from_micros(50);

/// What the processes share.
#[repr(C)]
struct Page {
    /// Of the segment in which members know each other.
    segment: AtomicU64,
    records: Records,
}

const PAGE_BYTES: u64 = (size_of::<Page>() as u64).next_multiple_of(4096);

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

    fn records(&self) -> &Records {
        &self.page().records
    }

    /// One record more, by `member`: its number. Waits while too many are open.
    fn count(
        &self,
        member: u32,
        lives: impl Fn(u32) -> bool,
        is_over: impl Fn() -> bool,
    ) -> Result<u64, CUresult> {
        self.records().count(member, |before| {
            self.await_record(before, &lives, &is_over);
            match self.records().is_reached(before) {
                true => Ok(()),
                false => Err(CUresult::LAUNCH_FAILED),
            }
        })
    }

    /// The number of the last record.
    pub(crate) fn recorded(&self) -> u64 {
        self.records().recorded()
    }

    /// Whether a record has been reached, or nobody is left who would.
    fn is_over(&self, record: u64, lives: impl Fn(u32) -> bool) -> bool {
        if self.records().is_reached(record) {
            return true;
        }
        if self
            .records()
            .recorder(record)
            .is_some_and(|who| !lives(who))
        {
            self.records().reach(record);
        }
        self.records().is_reached(record)
    }

    fn await_record(&self, record: u64, lives: impl Fn(u32) -> bool, is_over: impl Fn() -> bool) {
        for round in 0u32.. {
            if round < SPINS && !self.records().is_reached(record) {
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
pub(crate) struct Open {
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
        self.shared.records().reach(self.number);
    }
}

#[cfg(test)]
mod tests {
    use driver_api::event_records::MAX_OPEN;

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
        event.records().reach(second);
        assert!(other.is_over(second, |_| true) && !other.is_over(first, |_| true));
        event.records().reach(first);
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
        assert!(event.records().is_reached(first) && event.records().is_reached(third));
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
            event.records().reach(1);
            assert_eq!(waiting.join().expect("counted"), Ok(MAX_OPEN as u64 + 1));
        });
        event.records().spoil();
        assert_eq!(
            more(),
            Err(CUresult::UNKNOWN),
            "whatever others have written"
        );
    }
}
