//! Threads of the driver inside somebody else's program.
//!
//! # Safety
//!
//! Changing the calling thread's signal mask and restoring it is all that is done here.

#![expect(unsafe_code, reason = "signal masks")]

use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs `body` with all signals blocked. Threads that it starts inherit that, so that the program's handlers run on the
/// program's own threads.
pub(crate) fn with_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both sets are places for one, and the first is filled before it is used.
    let changed = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
    } == 0;
    let value = body();
    if changed {
        // SAFETY: the call above succeeded, so it filled the set.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        }
    }
    value
}

/// Starts a thread of the driver's.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    with_signals_blocked(|| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map(drop)
    })
}

/// Locks, also what a thread that panicked has held: every state is changed as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
