//! Tables from a client's ids to what they stand for.
//!
//! *Rules:* the client chooses the ids; one that is taken is refused, and so is one more than a table's maximum. The hash is a
//! multiplication: a client that makes its ids collide slows itself only.
//!
//! *Cost:* an uncontended lock and one look-up, about 20 ns.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

use driver_api::result::CUresult;

use super::end::lock;

/// Most contexts of one session.
pub(crate) const MAX_CONTEXTS: usize = 256;
/// Most streams of one session.
pub(crate) const MAX_STREAMS: usize = 64 << 10;
/// Most graphs of one session that are the driver's.
pub(crate) const MAX_GRAPHS: usize = 64 << 10;
/// Most linkers of one session: each has buffers for what it says.
pub(crate) const MAX_LINKS: usize = 1024;
/// Most functions of the program that streams of one session wait for.
pub(crate) const MAX_GATES: usize = 64 << 10;
/// Most events of one session.
pub(crate) const MAX_EVENTS: usize = 4 << 20;
/// Most modules, and most libraries, of one session.
pub(crate) const MAX_MODULES: usize = 256 << 10;
/// Most arrays, and most textures and surfaces, of one session.
pub(crate) const MAX_ARRAYS: usize = 1 << 20;
/// Most functions and kernels of one session.
pub(crate) const MAX_FUNCTIONS: usize = 4 << 20;

/// Multiplies: the ids are small numbers counted upwards.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

type Map<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

/// What ids of one kind stand for.
pub(crate) struct Table<T> {
    entries: Mutex<Map<T>>,
    most: usize,
}

impl<T: Clone> Table<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: Mutex::new(Map::default()),
            most,
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<T> {
        lock(&self.entries).get(&id).cloned()
    }

    /// What all ids stand for.
    pub(crate) fn all(&self) -> Vec<T> {
        lock(&self.entries).values().cloned().collect()
    }

    /// The ids of what is chosen.
    pub(crate) fn ids(&self, mut is_chosen: impl FnMut(&T) -> bool) -> Vec<u32> {
        let entries = lock(&self.entries);
        let chosen = entries.iter().filter(|(_, value)| is_chosen(value));
        chosen.map(|(id, _)| *id).collect()
    }

    /// Whether an id could be given to something new.
    ///
    /// # Errors
    /// The id is taken, or the table is full: what the driver would make would have to be undone.
    pub(crate) fn check_free(&self, id: u32) -> Result<(), CUresult> {
        let entries = lock(&self.entries);
        if entries.contains_key(&id) {
            return Err(CUresult::INVALID_VALUE);
        }
        if entries.len() >= self.most {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        Ok(())
    }

    /// # Errors
    /// The id is taken or the table is full; the value is dropped.
    pub(crate) fn insert(&self, id: u32, value: T) -> Result<(), CUresult> {
        let mut entries = lock(&self.entries);
        if entries.contains_key(&id) {
            return Err(CUresult::INVALID_VALUE);
        }
        if entries.len() >= self.most {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        entries.insert(id, value);
        Ok(())
    }

    pub(crate) fn remove(&self, id: u32) -> Option<T> {
        lock(&self.entries).remove(&id)
    }

    /// Removes it, and does something with it before anything else can happen to the table.
    pub(crate) fn remove_with(&self, id: u32, then: impl FnOnce(T)) {
        let mut entries = lock(&self.entries);
        if let Some(value) = entries.remove(&id) {
            then(value);
        }
    }

    pub(crate) fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        lock(&self.entries).retain(|_, value| keep(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_ids_and_full_tables_are_refused() {
        let table = Table::new(2);
        assert_eq!(table.insert(1, 'a'), Ok(()));
        assert_eq!(table.insert(1, 'b'), Err(CUresult::INVALID_VALUE));
        assert_eq!(table.insert(9, 'c'), Ok(()));
        assert_eq!(table.insert(2, 'd'), Err(CUresult::OUT_OF_MEMORY));
        assert_eq!(table.get(1), Some('a'));
        assert_eq!(table.remove(1), Some('a'));
        assert_eq!(table.insert(2, 'd'), Ok(()));
    }
}
