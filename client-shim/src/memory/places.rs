//! Where device memory is: the free ranges of the windows, the chunks for small allocations, what rests after a free, what is being unmapped.
//!
//! *What:* [`Places`] is told what happens and says what is to be given back for it. It asks nobody and posts nothing: that is [`device`](super::device)'s.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use driver_api::wire::request::GpurunMemoryUnmap;

use crate::module::Owner;
use crate::stream::Stream;

/// What the worker maps at once, and the size of a chunk: a multiple of every device's granularity.
pub(crate) const GRANULARITY: u64 = 2 * 1024 * 1024;
/// Blocks of a chunk begin and end at multiples of this; as the driver's allocations do.
pub(super) const BLOCK: u64 = 512;

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// The first address.
    pub(crate) start: u64,
    /// The bytes that were asked for.
    pub(crate) size: u64,
    /// The context that it belongs to.
    pub(crate) context: u32,
    /// Its number, never given twice.
    pub(crate) unique: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A block of the chunk that begins here.
    Small { chunk: u64 },
    /// Its own mapping of so many bytes.
    Large { mapped: u64 },
    /// The same of managed memory.
    SmallManaged { chunk: u64 },
    /// The same of managed memory.
    Managed { mapped: u64 },
    /// Placed by the driver: plain memory.
    Plain,
    /// The program's own physical memory, mapped by it; of this device.
    Virtual { device: usize },
    /// A variable, placed by the driver: it ends with what it is of.
    Global { owner: Owner, is_managed: bool },
    /// Another process's, opened here; of this device.
    Borrowed { device: usize },
}

/// The windows of a session, and what is where in them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) windows: Vec<Range<u64>>,
    /// Free ranges of the windows, by start.
    pub(super) free: BTreeMap<u64, u64>,
    pub(super) allocations: BTreeMap<u64, Allocation>,
    pub(super) chunks: BTreeMap<u64, Chunk>,
    /// For each context the chunk that was idle last: the one that is kept, unless it is in use again. Few, and looked at for every free.
    pub(super) spares: Vec<(u32, u64)>,
    /// Freed blocks that streams may still use.
    pub(super) resting: Vec<Resting>,
    /// Ranges whose unmapping has been posted, by ticket.
    pub(super) unmapping: HashMap<u64, Range<u64>>,
    pub(super) last_ticket: u64,
}

/// 2 MiB of a context for small allocations.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) context: u32,
    pub(super) is_managed: bool,
    /// Free blocks, by start.
    pub(super) free: BTreeMap<u64, u64>,
}

#[derive(Debug)]
pub(super) struct Resting {
    pub(super) block: Range<u64>,
    pub(super) chunk: u64,
    pub(super) until: Vec<(Arc<Stream>, u64)>,
}

impl Allocation {
    /// The device of memory that need not be its context's.
    pub(crate) fn device(&self) -> Option<usize> {
        match self.kind {
            Kind::Virtual { device } | Kind::Borrowed { device } => Some(device),
            _ => None,
        }
    }
}

impl Allocation {
    /// Whether the program reaches it too.
    pub(crate) fn is_managed(&self) -> bool {
        matches!(
            self.kind,
            Kind::SmallManaged { .. }
                | Kind::Managed { .. }
                | Kind::Global {
                    is_managed: true,
                    ..
                }
        )
    }

    /// Whether it is memory of its context's device and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        matches!(
            self.kind,
            Kind::Small { .. } | Kind::Large { .. } | Kind::Plain
        )
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.start + self.size
    }
}

impl Chunk {
    fn is_idle(&self) -> bool {
        self.free.len() == 1 && self.free.values().all(|size| *size == GRANULARITY)
    }
}

/// A mapping to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unmapping {
    pub(super) context: u32,
    pub(super) start: u64,
    pub(super) mapped: u64,
    pub(super) ticket: u64,
}

impl Unmapping {
    pub(super) fn request(&self) -> GpurunMemoryUnmap {
        GpurunMemoryUnmap::new(self.start, self.mapped, self.ticket)
    }
}

/// Takes `size` from the first free range that has so much.
pub(super) fn take(free: &mut BTreeMap<u64, u64>, size: u64) -> Option<u64> {
    let (&start, &room) = free.iter().find(|(_, room)| **room >= size)?;
    free.remove(&start);
    if room > size {
        free.insert(start + size, room - size);
    }
    Some(start)
}

/// Takes a range if all of it is free.
pub(super) fn take_at(free: &mut BTreeMap<u64, u64>, start: u64, size: u64) -> bool {
    let Some((&first, &room)) = free.range(..=start).next_back() else {
        return false;
    };
    if start - first > room || size > room - (start - first) {
        return false;
    }
    free.remove(&first);
    if start > first {
        free.insert(first, start - first);
    }
    let end = start + size;
    if first + room > end {
        free.insert(end, first + room - end);
    }
    true
}

/// Gives a range back, joined with its neighbours.
pub(super) fn give(free: &mut BTreeMap<u64, u64>, range: &Range<u64>) {
    let (mut start, mut end) = (range.start, range.end);
    if let Some((&before, &size)) = free.range(..start).next_back()
        && before + size == start
    {
        free.remove(&before);
        start = before;
    }
    if let Some(size) = free.remove(&end) {
        end += size;
    }
    free.insert(start, end - start);
}

impl Places {
    /// A block of a chunk with room.
    pub(super) fn take_small(&mut self, context: u32, size: u64, is_managed: bool) -> Option<u64> {
        let chunks = self
            .chunks
            .iter_mut()
            .filter(|(_, chunk)| chunk.context == context && chunk.is_managed == is_managed);
        let (chunk, start) = chunks
            .into_iter()
            .find_map(|(base, chunk)| Some((*base, take(&mut chunk.free, size)?)))?;
        let kind = match is_managed {
            true => Kind::SmallManaged { chunk },
            false => Kind::Small { chunk },
        };
        self.insert(start, size, context, kind);
        Some(start)
    }

    pub(super) fn insert(&mut self, start: u64, size: u64, context: u32, kind: Kind) {
        let unique = crate::objects::unique();
        self.allocations.insert(
            start,
            Allocation {
                start,
                size,
                context,
                unique,
                kind,
            },
        );
    }

    /// Blocks whose streams have passed go back to their chunks; what is to be given back for that.
    pub(super) fn wake_resting(&mut self) -> Vec<Unmapping> {
        if self.resting.is_empty() {
            return Vec::new();
        }
        let has_passed = |resting: &mut Resting| {
            let mut until = resting.until.iter();
            until.all(|(stream, mark)| stream.has_reached(*mark))
        };
        let awake: Vec<Resting> = self.resting.extract_if(.., has_passed).collect();
        awake
            .into_iter()
            .filter_map(|resting| self.give_block(resting.chunk, &resting.block))
            .collect()
    }

    /// A block goes back to its chunk, which may be given back for that.
    pub(super) fn give_block(&mut self, base: u64, block: &Range<u64>) -> Option<Unmapping> {
        let chunk = self.chunks.get_mut(&base)?;
        give(&mut chunk.free, block);
        self.note_idle(base)
    }

    /// An idle chunk becomes its context's spare, or is given back if there is one.
    pub(super) fn note_idle(&mut self, base: u64) -> Option<Unmapping> {
        let is_spare = |chunk: &&Chunk| chunk.is_idle() && !chunk.is_managed;
        let chunk = self.chunks.get(&base).filter(is_spare)?;
        let context = chunk.context;
        match self.spares.iter_mut().find(|spare| spare.0 == context) {
            None => self.spares.push((context, base)),
            Some((_, spare)) if *spare == base => {}
            Some((_, spare)) => {
                if self.chunks.get(spare).is_some_and(Chunk::is_idle) {
                    return Some(self.give_back(context, base));
                }
                *spare = base;
            }
        }
        None
    }

    fn give_back(&mut self, context: u32, base: u64) -> Unmapping {
        self.chunks.remove(&base);
        let ticket = self.ticket(base..base + GRANULARITY);
        Unmapping {
            context,
            start: base,
            mapped: GRANULARITY,
            ticket,
        }
    }

    /// The ticket of an unmapping that is about to be posted.
    pub(super) fn ticket(&mut self, range: Range<u64>) -> u64 {
        self.last_ticket += 1;
        self.unmapping.insert(self.last_ticket, range);
        self.last_ticket
    }

    /// Gives back every chunk that has no block in use, also if streams may still use some: the worker waits for them.
    pub(super) fn give_back_idle(&mut self) -> Vec<Unmapping> {
        let mut unmappings = self.wake_resting();
        let mut unused: HashMap<u64, u64> = HashMap::new();
        for resting in &self.resting {
            *unused.entry(resting.chunk).or_default() += resting.block.end - resting.block.start;
        }
        let is_unused = |(base, chunk): &(&u64, &Chunk)| {
            let resting = unused.get(base).copied().unwrap_or(0);
            !chunk.is_managed && chunk.free.values().sum::<u64>() + resting == GRANULARITY
        };
        let idle: Vec<(u64, u32)> = self
            .chunks
            .iter()
            .filter(is_unused)
            .map(|(base, chunk)| (*base, chunk.context))
            .collect();
        self.spares.clear();
        for (base, context) in idle {
            self.resting.retain(|resting| resting.chunk != base);
            unmappings.push(self.give_back(context, base));
        }
        unmappings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: u32 = 3;

    /// Memory with chunks of a context at these addresses, all of them full.
    fn with_chunks(chunks: &[u64]) -> Places {
        let mut places = Places::default();
        for chunk in chunks {
            let free = BTreeMap::from([(*chunk, GRANULARITY)]);
            let context = CONTEXT;
            let is_managed = false;
            let made = Chunk {
                context,
                is_managed,
                free,
            };
            places.chunks.insert(*chunk, made);
            assert_eq!(places.take_small(CONTEXT, GRANULARITY, false), Some(*chunk));
        }
        places
    }

    fn whole(chunk: u64) -> Range<u64> {
        chunk..chunk + GRANULARITY
    }

    #[test]
    fn one_idle_chunk_is_kept_and_others_are_given_back() {
        let (first, second, third) = (GRANULARITY, 2 * GRANULARITY, 3 * GRANULARITY);
        let mut places = with_chunks(&[first, second, third]);
        let half = first..first + GRANULARITY / 2;
        assert_eq!(places.give_block(first, &half), None);
        assert_eq!(places.give_block(second, &whole(second)), None);
        let unmapping = places.give_block(third, &whole(third)).expect("given back");
        assert_eq!((unmapping.start, unmapping.mapped), (third, GRANULARITY));
        assert_eq!(places.unmapping.get(&unmapping.ticket), Some(&whole(third)));
        // The spare is used before another is mapped; then it is none, and the next is kept.
        assert_eq!(places.take_small(CONTEXT, GRANULARITY, false), Some(second));
        let rest = first + GRANULARITY / 2..first + GRANULARITY;
        assert_eq!(places.give_block(first, &rest), None);
        let unmapping = places
            .give_block(second, &whole(second))
            .expect("given back");
        assert_eq!(unmapping.start, second);
        assert_eq!(places.take_small(CONTEXT + 1, BLOCK, false), None);
    }

    #[test]
    fn what_is_recalled_is_every_chunk_that_nobody_uses() {
        let (first, second, third) = (GRANULARITY, 2 * GRANULARITY, 3 * GRANULARITY);
        let mut places = with_chunks(&[first, second, third]);
        assert_eq!(places.give_block(first, &whole(first)), None);
        let stream = Arc::new(Stream::legacy(CONTEXT));
        for (block, chunk) in [(whole(second), second), (third..third + BLOCK, third)] {
            let until = vec![(Arc::clone(&stream), 1)];
            places.resting.push(Resting {
                block,
                chunk,
                until,
            });
        }
        assert_eq!(places.wake_resting(), []);
        let given: Vec<u64> = places
            .give_back_idle()
            .iter()
            .map(|given| given.start)
            .collect();
        assert_eq!(
            given,
            [first, second],
            "streams may use what rests; the third is in use"
        );
        assert_eq!(places.resting.len(), 1);
        assert!(places.spares.is_empty());
        stream.reached(1);
        assert_eq!(places.wake_resting(), []);
        assert!(places.resting.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_given_back_joins_into_what_there_was(sizes in prop::collection::vec(1..50u64, 1..40)) {
            let whole = BTreeMap::from([(1000, 100_000)]);
            let mut free = whole.clone();
            let mut taken: Vec<Range<u64>> = Vec::new();
            for size in sizes {
                let start = take(&mut free, size).expect("room");
                prop_assert!(taken.iter().all(|other| other.end <= start || start + size <= other.start));
                taken.push(start..start + size);
            }
            taken.sort_by_key(|range| range.start * 7919 % 1009);
            for range in &taken {
                give(&mut free, range);
            }
            prop_assert_eq!(free, whole);
        }
    }
}
