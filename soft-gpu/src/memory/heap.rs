//! Small allocations: cut from chunks of [`GRANULARITY`], as the driver does.

use std::collections::BTreeMap;

use super::map::{GRANULARITY, Piece};

/// The alignment that `cuMemAlloc` promises, and the unit of the heap.
pub(crate) const ALIGNMENT: u64 = 512;

/// One chunk and what is free in it: offset to size, never touching each other.
#[derive(Debug)]
struct Chunk {
    piece: Piece,
    free: BTreeMap<u64, u64>,
}

/// The chunks of one device, by address.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    chunks: BTreeMap<u64, Chunk>,
}

impl Heap {
    /// An address of `size` bytes (a multiple of [`ALIGNMENT`]), if a chunk has room.
    pub(crate) fn take(&mut self, size: u64) -> Option<u64> {
        self.chunks.iter_mut().find_map(|(base, chunk)| {
            let (&offset, &room) = chunk.free.iter().find(|(_, room)| **room >= size)?;
            chunk.free.remove(&offset);
            if room > size {
                chunk.free.insert(offset + size, room - size);
            }
            Some(base + offset)
        })
    }

    /// Adds a chunk, all of it free.
    pub(crate) fn add(&mut self, piece: Piece) {
        let free = BTreeMap::from([(0, GRANULARITY)]);
        self.chunks
            .insert(piece.mapping.base(), Chunk { piece, free });
    }

    /// The chunk that an address is in.
    pub(crate) fn piece_at(&self, address: u64) -> Option<&Piece> {
        let (_, chunk) = self.chunks.range(..=address).next_back()?;
        Some(&chunk.piece)
    }

    /// Takes an allocation back; the chunk, if it is empty now.
    pub(crate) fn give_back(&mut self, address: u64, size: u64) -> Option<Piece> {
        let (&base, chunk) = self.chunks.range_mut(..=address).next_back()?;
        let (mut offset, mut size) = (address - base, size);
        if let Some((&before, &room)) = chunk.free.range(..offset).next_back()
            && before + room == offset
        {
            chunk.free.remove(&before);
            (offset, size) = (before, size + room);
        }
        if let Some(room) = chunk.free.remove(&(offset + size)) {
            size += room;
        }
        chunk.free.insert(offset, size);
        if size < GRANULARITY {
            return None;
        }
        self.chunks.remove(&base).map(|chunk| chunk.piece)
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::Store;
    use super::*;

    #[test]
    fn neighbours_grow_together_again() {
        let store = Store::new().unwrap();
        let mut heap = Heap::default();
        heap.add(store.take(GRANULARITY).unwrap());
        let taken: Vec<u64> = (0..4)
            .map(|_| heap.take(GRANULARITY / 4).unwrap())
            .collect();
        assert_eq!(heap.take(ALIGNMENT), None);
        for index in [1, 3, 0] {
            assert!(heap.give_back(taken[index], GRANULARITY / 4).is_none());
        }
        assert!(heap.give_back(taken[2], GRANULARITY / 4).is_some());
        assert_eq!(heap.take(ALIGNMENT), None);
    }
}
