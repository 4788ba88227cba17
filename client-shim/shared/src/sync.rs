//! Locks: the standard library's, or the model checker's.

#[cfg(loom)]
pub use loom::sync::MutexGuard;
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, RwLock};
#[cfg(not(loom))]
pub use std::sync::MutexGuard;
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, RwLock};

/// Locks; a thread that panicked with the lock held has left a state that is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
