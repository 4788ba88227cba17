//! What device memory is valid.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Addresses that mean memory of several devices at once, for `multimem` alone.
#[derive(Clone, Debug)]
pub struct Team {
    /// The addresses.
    pub range: Range<u64>,
    /// Where each device's memory for the first of them is.
    pub copies: Vec<u64>,
    /// What keeps the copies where they are.
    pub held: Vec<Arc<dyn Held>>,
}

/// Whatever has to stay for as long as somebody may use it.
pub trait Held: Any + Send + Sync + std::fmt::Debug {}
impl<T: Any + Send + Sync + std::fmt::Debug> Held for T {}

/// An immutable, sorted snapshot of the valid ranges of device addresses, which are addresses of this process.
///
/// Neighbouring ranges are not joined: a kernel that runs over the end of one allocation faults.
#[derive(Clone, Debug, Default)]
pub struct Allocations {
    ranges: Vec<(u64, u64)>,
    /// In order, none of them in `ranges`.
    teams: Vec<Team>,
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
        Allocations {
            ranges,
            teams: Vec::new(),
        }
    }

    /// The same, with teams; what their copies are is promised as the ranges are.
    #[must_use]
    pub fn with_teams(mut self, mut teams: Vec<Team>) -> Allocations {
        teams.sort_unstable_by_key(|team| team.range.start);
        self.teams = teams;
        self
    }

    /// Where `size` bytes at an address of a team are, in each copy.
    pub(crate) fn team(
        &self,
        address: u64,
        size: u64,
    ) -> Option<impl Iterator<Item = u64> + Clone + use<'_>> {
        let end = address.checked_add(size)?;
        let after = self
            .teams
            .partition_point(|team| team.range.start <= address);
        let team = self.teams.get(after.checked_sub(1)?)?;
        let offset = address - team.range.start;
        (end <= team.range.end).then(|| team.copies.iter().map(move |copy| copy + offset))
    }

    /// The same, and `range`.
    pub(crate) fn with(&self, range: Range<u64>) -> Allocations {
        let known = self.ranges.iter().map(|&(begin, end)| begin..end);
        Allocations::new(known.chain([range])).with_teams(self.teams.clone())
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
