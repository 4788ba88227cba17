//! What device memory is valid.

use std::ops::Range;

/// An immutable, sorted snapshot of the valid ranges of device addresses, which are addresses of this process.
///
/// Neighbouring ranges are not joined: a kernel that runs over the end of one allocation faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    ranges: Vec<(u64, u64)>,
}

impl Allocations {
    /// A snapshot of `ranges` (begin, end), in any order. Empty ones are left out.
    ///
    /// Whoever passes it to [`super::run`] promises that every byte in it stays readable and writable until
    /// `run` returns.
    pub fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Allocations {
        let mut ranges: Vec<(u64, u64)> = ranges
            .into_iter()
            .filter(|range| range.start < range.end)
            .map(|r| (r.start, r.end))
            .collect();
        ranges.sort_unstable();
        Allocations { ranges }
    }

    /// The same, and `range`.
    pub(crate) fn with(&self, range: Range<u64>) -> Allocations {
        let known = self.ranges.iter().map(|&(begin, end)| begin..end);
        Allocations::new(known.chain([range]))
    }

    /// The range that holds all of `begin..end`.
    pub fn find(&self, begin: u64, end: u64) -> Option<(u64, u64)> {
        let index = self.ranges.partition_point(|range| range.0 <= begin);
        let range = *self.ranges.get(index.checked_sub(1)?)?;
        (begin <= end && end <= range.1).then_some(range)
    }

    /// The range that holds `address` or is nearest to it.
    pub fn nearest(&self, address: u64) -> Option<(u64, u64)> {
        let distance = |range: &(u64, u64)| {
            range
                .0
                .saturating_sub(address)
                .max(address.saturating_sub(range.1))
        };
        self.ranges.iter().copied().min_by_key(distance)
    }
}
