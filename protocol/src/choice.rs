//! Which of two ways is cheaper here, measured as both are used: what that depends on (card, kernel, memory, driver) is known to nobody beforehand.
//!
//! What: the plain way is taken until it was measured, then the other once, then the cheaper; the dearer one is measured again now and then. Rule: a way that
//! fails is left alone for a while.

use std::time::Duration;

/// Every so many choices the dearer way is measured again.
const TRY_AGAIN: u32 = 64;

/// A choice between a plain way and another, for work that is measured in bytes.
#[derive(Debug, Default)]
pub struct Choice {
    /// Nanoseconds for a mebibyte, once measured.
    plain: Option<u64>,
    other: Option<u64>,
    choices: u32,
    /// So many go the plain way without a question.
    rest: u32,
}

impl Choice {
    /// Whether the other way is left alone the next time, because it could not be gone.
    pub fn rests(&mut self) -> bool {
        let rests = self.rest > 0;
        self.rest -= u32::from(rests);
        rests
    }

    /// Whether the next goes the other way.
    pub fn takes_other(&mut self) -> bool {
        if self.rests() {
            return false;
        }
        self.choices = self.choices.wrapping_add(1);
        match (self.plain, self.other) {
            (None, _) => false,
            (_, None) => true,
            (Some(plain), Some(other)) => (other < plain) != self.choices.is_multiple_of(TRY_AGAIN),
        }
    }

    /// The other way could not be gone.
    pub fn other_failed(&mut self) {
        self.rest = TRY_AGAIN;
    }

    /// So many bytes went the plain way in this time.
    pub fn went_plain(&mut self, bytes: usize, time: Duration) {
        self.plain = Some(averaged(self.plain, bytes, time));
    }

    /// So many bytes went the other way in this time.
    pub fn went_other(&mut self, bytes: usize, time: Duration) {
        self.other = Some(averaged(self.other, bytes, time));
    }
}

/// The average with what was measured before: the newest is a quarter of it.
fn averaged(before: Option<u64>, bytes: usize, time: Duration) -> u64 {
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 22);
    let newest = (time.min(u64::MAX >> 22) << 20) / (bytes as u64).max(1);
    before.map_or(newest, |before| before - before / 4 + newest / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_micros(300);
    const FAST: Duration = Duration::from_micros(100);

    #[test]
    fn both_ways_are_measured_and_the_cheaper_is_taken() {
        for (plain, other, expected) in [(SLOW, FAST, true), (FAST, SLOW, false)] {
            let mut choice = Choice::default();
            assert!(!choice.takes_other(), "the plain way is measured first");
            choice.went_plain(1 << 20, plain);
            assert!(choice.takes_other());
            choice.went_other(1 << 20, other);
            let dearer = (0..640)
                .filter(|_| choice.takes_other() != expected)
                .count();
            assert_eq!(dearer, 10, "the dearer way is measured now and then");
            choice.other_failed();
            assert!(!choice.takes_other());
        }
    }
}
