//! Objects by the client's own ids, which count from 1 and are used again, oldest first.
//!
//! Rules: ids are never pointers, so a stale handle finds nothing, or a newer object, never freed memory; an object is in the
//! table, whole, before its id is known to anybody but its maker.
//!
//! Cost of a read: one shared lock and one reference count, about 15 ns, more where many cores read at once.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use crate::sync::RwLock;

/// An id is used again only when so many others have been freed after it: a program's mistake with a stale handle is then likelier
/// seen. The model checker sees ids used again at once.
const REST: usize = if cfg!(loom) { 0 } else { 64 };

/// Objects of one kind.
#[derive(Debug)]
pub struct Table<T> {
    inner: RwLock<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    slots: Vec<Option<Arc<T>>>,
    free: VecDeque<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            inner: RwLock::new(Inner {
                slots: vec![None],
                free: VecDeque::new(),
            }),
        }
    }
}

impl<T> Table<T> {
    /// Takes an id and puts in what `make` makes for it.
    pub fn insert_with(&self, make: impl FnOnce(u32) -> T) -> Arc<T> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let id = if inner.free.len() > REST {
            inner.free.pop_front()
        } else {
            None
        };
        let id = id.unwrap_or_else(|| {
            inner.slots.push(None);
            u32::try_from(inner.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let object = Arc::new(make(id));
        if let Some(slot) = inner.slots.get_mut(id as usize) {
            *slot = Some(Arc::clone(&object));
        }
        object
    }

    /// The object of an id.
    pub fn get(&self, id: u32) -> Option<Arc<T>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.slots.get(id as usize)?.clone()
    }

    /// Takes an object out; its id rests, then is used again.
    pub fn remove(&self, id: u32) -> Option<Arc<T>> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let object = inner.slots.get_mut(id as usize)?.take()?;
        inner.free.push_back(id);
        Some(object)
    }

    /// All objects for which `wanted` holds.
    pub fn select(&self, mut wanted: impl FnMut(&T) -> bool) -> Vec<Arc<T>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner
            .slots
            .iter()
            .flatten()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ids_count_from_one_and_rest_before_they_are_used_again() {
        let table = Table::default();
        let first = table.insert_with(|id| id);
        assert_eq!(*first, 1);
        assert_eq!(table.remove(1).as_deref(), Some(&1));
        assert!(table.get(1).is_none() && table.remove(1).is_none());
        let next: Vec<u32> = (0..REST).map(|_| *table.insert_with(|id| id)).collect();
        assert!(!next.contains(&1));
        for id in next {
            table.remove(id);
        }
        assert_eq!(*table.insert_with(|id| id), 1);
    }
}
