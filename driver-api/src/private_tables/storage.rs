//! Context-local storage: values that a client library keeps per context and key.
//!
//! cudart looks its own state up here on nearly every call, so a look-up is one read lock of one shard and a
//! scan of a few entries. A destructor is called when its context is destroyed, outside every lock, since it may
//! call back.

use std::sync::{PoisonError, RwLock};

use crate::abi::CUresult;
use crate::fresh::Fresh;

/// Called with context, key and value when the context is destroyed.
pub(super) type Destructor = extern "C" fn(context: usize, key: usize, value: usize);

#[derive(Clone, Copy)]
struct Entry {
    context: usize,
    key: usize,
    value: usize,
    destructor: Option<Destructor>,
}

const SHARDS: usize = 16;
/// The most values that one shard keeps: a client that leaks keys is refused, not followed into exhaustion.
const MAX_ENTRIES_PER_SHARD: usize = 1 << 16;

type Shards = [RwLock<Vec<Entry>>; SHARDS];

static STORAGE: Fresh<Shards> = Fresh::new();

/// A child after `fork` has no contexts, and must not wait for a lock whose holder it has not got.
pub(super) fn forget() {
    STORAGE.renew();
}

fn shard(context: usize, key: usize) -> &'static RwLock<Vec<Entry>> {
    // Keys are addresses of statics, contexts those of objects: the low bits say nothing.
    let mixed = (context ^ key.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &STORAGE.get()[mixed >> (usize::BITS - SHARDS.ilog2())]
}

/// Keeps a value, in place of an earlier one for the same context and key.
pub(super) fn put(
    context: usize,
    key: usize,
    value: usize,
    destructor: Option<Destructor>,
) -> Result<(), CUresult> {
    let mut entries = shard(context, key)
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    let entry = Entry {
        context,
        key,
        value,
        destructor,
    };
    let found = entries
        .iter()
        .position(|entry| entry.context == context && entry.key == key);
    match found {
        Some(index) => entries[index] = entry,
        None if entries.len() < MAX_ENTRIES_PER_SHARD => entries.push(entry),
        None => return Err(CUresult::OUT_OF_MEMORY),
    }
    Ok(())
}

/// The value kept for this context and key.
pub(super) fn get(context: usize, key: usize) -> Result<usize, CUresult> {
    let entries = shard(context, key)
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let found = entries
        .iter()
        .find(|entry| entry.context == context && entry.key == key);
    found
        .map(|entry| entry.value)
        .ok_or(CUresult::INVALID_HANDLE)
}

/// Forgets the value without calling its destructor.
pub(super) fn delete(context: usize, key: usize) -> Result<(), CUresult> {
    let mut entries = shard(context, key)
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    let found = entries
        .iter()
        .position(|entry| entry.context == context && entry.key == key);
    entries.swap_remove(found.ok_or(CUresult::INVALID_HANDLE)?);
    Ok(())
}

/// Calls the destructor of everything kept for a context, and forgets it. For the library, when it destroys one.
pub fn context_destroyed(context: usize) {
    for shard in STORAGE.get() {
        let mut dead = Vec::new();
        shard
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|entry| {
                let keep = entry.context != context;
                if !keep {
                    dead.push(*entry);
                }
                keep
            });
        for entry in dead {
            if let Some(destructor) = entry.destructor {
                destructor(entry.context, entry.key, entry.value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_value_is_kept_until_it_is_deleted() {
        assert_eq!(get(1, 2), Err(CUresult::INVALID_HANDLE));
        assert_eq!(put(1, 2, 3, None), Ok(()));
        assert_eq!(put(1, 2, 4, None), Ok(()));
        assert_eq!(
            (get(1, 2), get(2, 1)),
            (Ok(4), Err(CUresult::INVALID_HANDLE))
        );
        assert_eq!(
            (delete(1, 2), delete(1, 2)),
            (Ok(()), Err(CUresult::INVALID_HANDLE))
        );
    }

    #[test]
    fn destructors_run_with_their_context() {
        static SUM: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn count(context: usize, key: usize, value: usize) {
            // A destructor may use the storage.
            assert_eq!(get(context, key), Err(CUresult::INVALID_HANDLE));
            SUM.fetch_add(value, Ordering::Relaxed);
        }
        for (context, key) in [(100, 1), (100, 2), (101, 1)] {
            put(context, key, key * 10, Some(count)).unwrap();
        }
        context_destroyed(100);
        assert_eq!(SUM.load(Ordering::Relaxed), 30);
        assert_eq!(
            (get(100, 1), get(101, 1)),
            (Err(CUresult::INVALID_HANDLE), Ok(10))
        );
    }
}
