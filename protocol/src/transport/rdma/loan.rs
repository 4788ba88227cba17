//! Memory of the program that the card reads for a while, so that a large transfer leaves without being copied.
//!
//! What: a loan is registered for one transfer, or a part of one, and given back when the card has done with it: there is no cache, so
//! memory that is unmapped and mapped again is never read stale. The card may only read it, and nobody else may use its key. Rules: of a
//! program, only anonymous pages that are there and its own are lent. Registering makes the kernel treat a page as if it were to be written, which would make a
//! copy of every page of a file that is mapped privately, of the zero page, and of what is shared with a forked child; such memory is staged. After a `fork` parent and child see what they would see
//! anyway: the bytes on their way do not change while they are lent. What is cheaper, copying or registering, depends on the card, the
//! kernel and the memory, and so is [measured](Choice).
//!
//! Memory of a device is registered in the same way, and apart: no processor may read it, so it is never a piece of bytes, and whether it is worth while is
//! for the worker to say, who knows the other way.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Owner;
use super::verbs::{Device, LentMemory, Source};
use crate::choice::Choice;

/// Less is always copied.
const LEAST_BYTES: usize = 1 << 20;

/// Most loans at one time: each is one registration of the card's.
pub(super) const MOST: usize = 16;

/// What is lent.
pub(super) struct Loan {
    number: u64,
    memory: LentMemory,
    /// The position behind what was last sent of it.
    last: u64,
    cost: Duration,
}

/// Memory of a device that is registered.
struct DeviceLoan {
    number: u64,
    memory: LentMemory,
    /// The position behind what was last sent of it.
    last: u64,
}

/// All loans of a connection.
#[derive(Default)]
pub(super) struct Loans {
    loans: Vec<Loan>,
    devices: Vec<DeviceLoan>,
    given: u64,
    pub(super) choice: Choice,
}

impl Loans {
    /// Lends memory if that is worth while and can be done.
    ///
    /// # Safety
    /// The memory is readable until the loan is [ended](Loans::end).
    #[expect(
        unsafe_code,
        reason = "the caller vouches for memory that a card reads"
    )]
    pub(super) unsafe fn lend(
        &mut self,
        device: &Arc<Device>,
        whose: Owner,
        start: *const u8,
        length: usize,
    ) -> Option<u64> {
        if length < LEAST_BYTES || self.loans.len() >= MOST || !self.choice.takes_other() {
            return None;
        }
        let begun = Instant::now();
        if whose == Owner::Program && !is_anonymous(start.addr(), length) {
            return None;
        }
        // SAFETY: the caller's promise.
        let memory = unsafe { LentMemory::new(device, (start, length), false) };
        if memory.is_err() {
            // Such as for lack of memory that may be locked: it is not tried again for a while.
            self.choice.other_failed();
        }
        let memory = memory.ok()?;
        self.given += 1;
        self.loans.push(Loan {
            number: self.given,
            memory,
            last: 0,
            cost: begun.elapsed(),
        });
        Some(self.given)
    }

    /// Lends memory of a device that was registered; nothing if too much is lent already.
    pub(super) fn lend_device(&mut self, memory: LentMemory) -> Option<u64> {
        if self.devices.len() >= MOST {
            return None;
        }
        self.given += 1;
        self.devices.push(DeviceLoan {
            number: self.given,
            memory,
            last: 0,
        });
        Some(self.given)
    }

    /// Where the card finds a part of a device's memory, if all of it is lent by this number.
    pub(super) fn device_source(&self, number: u64, offset: u64, length: u64) -> Option<Source> {
        let mut devices = self.devices.iter();
        let loan = devices.find(|loan| loan.number == number)?;
        loan.memory.part(offset, length)
    }

    /// A part of a device's memory was sent; the position behind it.
    pub(super) fn device_sent(&mut self, number: u64, position: u64) {
        let mut devices = self.devices.iter_mut();
        if let Some(loan) = devices.find(|loan| loan.number == number) {
            loan.last = position;
        }
    }

    /// Whether nothing of a program, or of ours, is lent.
    pub(super) fn is_empty(&self) -> bool {
        self.loans.is_empty()
    }

    /// Where the card finds a piece, if it is lent.
    pub(super) fn source(&self, piece: &[u8]) -> Option<Source> {
        self.loans.iter().find_map(|loan| loan.memory.source(piece))
    }

    /// A lent piece was sent; the position behind it.
    pub(super) fn sent(&mut self, piece: &[u8], position: u64) {
        let mut loans = self.loans.iter_mut();
        if let Some(loan) = loans.find(|loan| loan.memory.source(piece).is_some()) {
            loan.last = position;
        }
    }

    /// The position at which the card has done with a loan; nothing if there is no such loan.
    pub(super) fn last(&self, number: u64) -> Option<u64> {
        let loans = self.loans.iter().map(|loan| (loan.number, loan.last));
        let devices = self.devices.iter().map(|loan| (loan.number, loan.last));
        let mut all = loans.chain(devices);
        all.find(|(other, _)| *other == number)
            .map(|(_, last)| last)
    }

    /// Ends a loan of a device's memory, whose registration is the caller's then: giving it back takes its time.
    pub(super) fn end_device(&mut self, number: u64) -> Option<LentMemory> {
        let place = self.devices.iter().position(|loan| loan.number == number)?;
        Some(self.devices.swap_remove(place).memory)
    }

    /// Ends a loan.
    pub(super) fn end(&mut self, number: u64) {
        let place = self.loans.iter().position(|loan| loan.number == number);
        let Some(Loan { memory, cost, .. }) = place.map(|place| self.loans.swap_remove(place))
        else {
            return;
        };
        let begun = Instant::now();
        let length = memory.length();
        drop(memory);
        self.choice.went_other(length, cost + begun.elapsed());
    }
}

/// Whether every page of this memory is there, belongs to no file, and is this process's alone, as the zero page is not: what the kernel says of this
/// process's pages.
pub(super) fn is_anonymous(start: usize, length: usize) -> bool {
    const PAGE: usize = 4096;
    const IS_PRESENT: u64 = 1 << 63;
    const IS_OF_A_FILE: u64 = 1 << 61;
    const IS_EXCLUSIVE: u64 = 1 << 56;
    const IS_LENT: u64 = IS_PRESENT | IS_EXCLUSIVE;
    let Ok(map) = File::open("/proc/self/pagemap") else {
        return false;
    };
    let (mut page, end) = (start / PAGE, (start + length).div_ceil(PAGE));
    let mut entries = [0; 8192];
    while page < end {
        let bytes = ((end - page) * 8).min(entries.len());
        if map
            .read_exact_at(&mut entries[..bytes], page as u64 * 8)
            .is_err()
        {
            return false;
        }
        let (words, _) = entries[..bytes].as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
        if !words.all(|word| word & (IS_LENT | IS_OF_A_FILE) == IS_LENT) {
            return false;
        }
        page += bytes / 8;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_files_and_memory_that_is_not_there_is_told_from_the_programs_own() {
        let own = vec![1_u8; 1 << 20];
        assert!(is_anonymous(own.as_ptr().addr(), own.len()));
        assert!(is_anonymous(own.as_ptr().addr() + 5, 100));
        // Memory that was only read is the zero page, as often as it is there.
        let untouched = vec![0_u8; 4 << 20];
        let sum: u64 = untouched.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(std::hint::black_box(sum), 0);
        assert!(!is_anonymous(untouched.as_ptr().addr(), untouched.len()));
        // Our own code is a file's.
        assert!(!is_anonymous(
            is_anonymous as fn(usize, usize) -> bool as usize,
            16
        ));
        assert!(!is_anonymous(4096, 4096));
    }
}
