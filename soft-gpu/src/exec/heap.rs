//! The heap of device-side `malloc` and `free`.
//!
//! One range of device memory, given out best fit first; what is known about it is kept here, out of the reach of kernels, so that a
//! kernel that writes past its allocations harms only what it could have written to anyway.

use crate::threads::lock;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Mutex;

/// The unit, and the alignment that CUDA promises.
const UNIT: u64 = 16;

/// A heap that the kernels of a context share. It lives as long as the context: what one launch allocates, another frees.
#[derive(Debug)]
pub struct Heap {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Free pieces, start to size, never touching each other; and the same by size.
    free: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    used: HashMap<u64, u64>,
}

impl State {
    fn add(&mut self, start: u64, size: u64) {
        self.free.insert(start, size);
        self.by_size.insert((size, start));
    }

    fn remove(&mut self, start: u64, size: u64) {
        self.free.remove(&start);
        self.by_size.remove(&(size, start));
    }
}

impl Heap {
    /// A heap of all of `range`.
    pub fn new(range: Range<u64>) -> Heap {
        let mut state = State::default();
        let start = range.start.next_multiple_of(UNIT);
        let size = range.end.saturating_sub(start) / UNIT * UNIT;
        if size > 0 {
            state.add(start, size);
        }
        Heap {
            state: Mutex::new(state),
        }
    }

    /// The address of `size` bytes, if there are so many in one piece.
    pub(crate) fn allocate(&self, size: u64) -> Option<u64> {
        let size = size.max(1).checked_next_multiple_of(UNIT)?;
        let mut state = lock(&self.state);
        let &(room, start) = state.by_size.range((size, 0)..).next()?;
        state.remove(start, room);
        if room > size {
            state.add(start + size, room - size);
        }
        state.used.insert(start, size);
        Some(start)
    }

    /// Takes back what [`Heap::allocate`] gave. False for anything else.
    pub(crate) fn release(&self, address: u64) -> bool {
        let mut state = lock(&self.state);
        let Some(size) = state.used.remove(&address) else {
            return false;
        };
        let (mut start, mut end) = (address, address + size);
        let before = state.free.range(..start).next_back();
        if let Some((&other, &room)) = before
            && other + room == start
        {
            state.remove(other, room);
            start = other;
        }
        if let Some(&room) = state.free.get(&end) {
            state.remove(end, room);
            end += room;
        }
        state.add(start, end - start);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_never_overlap_and_come_together_again() {
        let heap = Heap::new(0x1008..0x9000);
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state & 1 == 0 && !pieces.is_empty() {
                let (start, _) = pieces.swap_remove((state >> 8) as usize % pieces.len());
                assert!(heap.release(start) && !heap.release(start));
            } else if let Some(start) = heap.allocate(state >> 8 & 0x3ff) {
                let end = start + (state >> 8 & 0x3ff);
                assert!(start % UNIT == 0 && start >= 0x1008 && end <= 0x9000);
                assert!(pieces.iter().all(|&(a, b)| end <= a || start >= b));
                pieces.push((start, end.max(start + 1)));
            }
        }
        for (start, _) in pieces {
            assert!(heap.release(start));
        }
        assert_eq!(heap.allocate(0x9000 - 0x1010), Some(0x1010));
        assert_eq!(heap.allocate(1), None);
        assert_eq!(heap.allocate(u64::MAX), None);
    }
}
