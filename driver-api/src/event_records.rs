//! The records of an event that several processes share, as they lie in memory that all of them map.
//!
//! *What:* how often the event was recorded, and which of its last [`MAX_OPEN`] records their streams have reached. Who waits, waits for the record that was
//! the last then, and for no other: streams are not reached in the order of their records. *Why here:* the software GPU's processes share events so, and the
//! workers of a lease; they differ in how they learn that one is gone. *Rules:* who has recorded stands beside each record, written by one step with its
//! number, so that no record need be waited for whose process is gone; what is read is only compared, since others may write anything.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::result::CUresult;

/// Most records of an event that are not reached.
pub const MAX_OPEN: usize = 512;

/// The bits of a record's word that name who has recorded; its number is above.
pub const WHO_BITS: u32 = 24;

/// The records. A page of zeros is an event that was never recorded.
#[repr(C)]
#[derive(Debug)]
pub struct Records {
    /// The last record's word.
    last: AtomicU64,
    /// The word of each record, at its number's place.
    words: [AtomicU64; MAX_OPEN],
    /// The number of the last record at each place that is reached.
    reached: [AtomicU64; MAX_OPEN],
}

impl Default for Records {
    fn default() -> Self {
        Self {
            last: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; MAX_OPEN],
            reached: [const { AtomicU64::new(0) }; MAX_OPEN],
        }
    }
}

/// The place of a record.
fn place(number: u64) -> usize {
    (number % MAX_OPEN as u64) as usize
}

/// A word's number, and who has recorded.
fn parts(word: u64) -> (u64, u32) {
    (word >> WHO_BITS, word as u32 & ((1 << WHO_BITS) - 1))
}

impl Records {
    /// The number of the last record.
    pub fn recorded(&self) -> u64 {
        parts(self.last.load(SeqCst)).0
    }

    /// Writes down at its place who has recorded last: done before the next record, so that it is done whoever ends when.
    fn note_last(&self) -> u64 {
        let last = self.last.load(SeqCst);
        self.words[place(parts(last).0)].fetch_max(last, SeqCst);
        last
    }

    /// One record more: its number. Its place is that of an earlier record, which `make_room` is asked for.
    ///
    /// # Errors
    /// What `make_room` says; `UNKNOWN` once others have written what nobody counts to.
    pub fn count(
        &self,
        who: u32,
        make_room: impl Fn(u64) -> Result<(), CUresult>,
    ) -> Result<u64, CUresult> {
        loop {
            let last = self.note_last();
            let number = parts(last).0 + 1;
            if number >= 1 << (u64::BITS - WHO_BITS) {
                return Err(CUresult::UNKNOWN);
            }
            make_room(number.saturating_sub(MAX_OPEN as u64))?;
            let word = number << WHO_BITS | u64::from(who);
            let put = self.last.compare_exchange(last, word, SeqCst, SeqCst);
            if put.is_ok() {
                return Ok(number);
            }
        }
    }

    /// The stream of a record has come to it, or never will.
    pub fn reach(&self, record: u64) {
        self.reached[place(record)].fetch_max(record, SeqCst);
    }

    /// Whether a record was reached.
    pub fn is_reached(&self, record: u64) -> bool {
        self.reached[place(record)].load(SeqCst) >= record
    }

    /// Who made a record, while that is known: as long as it is among the last.
    pub fn recorder(&self, record: u64) -> Option<u32> {
        self.note_last();
        let (number, who) = parts(self.words[place(record)].load(SeqCst));
        (number == record).then_some(who)
    }

    /// Those of the last records that somebody has made.
    pub fn of(&self, is_wanted: impl Fn(u32) -> bool) -> impl Iterator<Item = u64> {
        self.note_last();
        let words = self.words.iter().map(|word| parts(word.load(SeqCst)));
        words.filter_map(move |(number, who)| is_wanted(who).then_some(number))
    }

    /// As if others had written so.
    #[doc(hidden)]
    pub fn spoil(&self) {
        self.last.store(u64::MAX, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(records: &Records, who: u32) -> Result<u64, CUresult> {
        records.count(who, |before| match records.is_reached(before) {
            true => Ok(()),
            false => Err(CUresult::NOT_READY),
        })
    }

    #[test]
    fn each_record_is_reached_by_itself_and_has_its_recorder() {
        let records = Records::default();
        assert!(records.is_reached(records.recorded()), "never recorded");
        let made = [7, 8, 7].map(|who| count(&records, who).expect("room"));
        assert_eq!((made, records.recorded()), ([1, 2, 3], 3));
        records.reach(2);
        assert_eq!(
            made.map(|record| records.is_reached(record)),
            [false, true, false]
        );
        assert_eq!(
            made.map(|record| records.recorder(record)),
            [Some(7), Some(8), Some(7)]
        );
        assert_eq!(records.of(|who| who == 7).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn no_record_takes_the_place_of_one_that_is_open() {
        let records = Records::default();
        for number in 1..=MAX_OPEN as u64 {
            assert_eq!(count(&records, 3), Ok(number));
        }
        assert_eq!(count(&records, 3), Err(CUresult::NOT_READY));
        records.reach(1);
        assert_eq!(count(&records, 4), Ok(MAX_OPEN as u64 + 1));
        assert_eq!(records.recorder(1), None, "its place is another's");
        records.spoil();
        assert_eq!(count(&records, 3), Err(CUresult::UNKNOWN));
    }
}
