//! Functions of the program that are told each line of the driver's log.
//!
//! *Rules:* one call of a function at a time, with no lock held but its own; what a function itself causes is told to none; once `remove` has
//! returned, the function is not running, unless it is the function that removes itself.
//!
//! # Safety
//! A function is called with the data that was registered with it and a text that lives as long as the call.
#![expect(unsafe_code, reason = "calls the program's functions")]

use core::ffi::{c_char, c_uint, c_void};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the program gives: its data, `CU_LOG_LEVEL_*` (0 error, 1 warning), the text and its length.
pub type LogFunction =
    unsafe extern "C" fn(data: *mut c_void, level: c_uint, message: *mut c_char, length: usize);

thread_local! {
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Callback {
    handle: usize,
    function: LogFunction,
    data: *mut c_void,
    /// Held while it runs.
    running: Mutex<()>,
    /// Taken back: who has it from the list of before does not call it.
    is_removed: AtomicBool,
}

// SAFETY: function and data are the program's, given to be used by whatever thread has a line to tell.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

/// The functions that are registered.
#[derive(Debug, Default)]
pub struct LogCallbacks(Mutex<Vec<Arc<Callback>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogCallbacks {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Registers a function under a handle that no other has.
    pub fn add(&self, handle: usize, function: LogFunction, data: *mut c_void) {
        lock(&self.0).push(Arc::new(Callback {
            handle,
            function,
            data,
            running: Mutex::new(()),
            is_removed: AtomicBool::new(false),
        }));
    }

    /// Takes a function back; false if there is none of this handle.
    pub fn remove(&self, handle: usize) -> bool {
        let mut callbacks = lock(&self.0);
        let place = callbacks
            .iter()
            .position(|callback| callback.handle == handle);
        let removed = place.map(|place| callbacks.remove(place));
        drop(callbacks);
        if let Some(callback) = &removed {
            callback.is_removed.store(true, SeqCst);
            if !IS_TELLING.get() {
                drop(lock(&callback.running));
            }
        }
        removed.is_some()
    }

    /// Tells all functions a line.
    pub fn tell(&self, level: c_uint, line: &str) {
        if IS_TELLING.get() {
            return;
        }
        let callbacks = lock(&self.0).clone();
        IS_TELLING.set(true);
        for callback in callbacks {
            // Its own copy, since the function may write there.
            let mut text: Vec<u8> = line.bytes().filter(|byte| *byte != 0).collect();
            let length = text.len();
            text.push(0);
            let _running = lock(&callback.running);
            if callback.is_removed.load(SeqCst) {
                continue;
            }
            let message = text.as_mut_ptr().cast();
            // SAFETY: the program registered the function for this call; the text ends in a zero byte and lives on.
            unsafe { (callback.function)(callback.data, level, message, length) };
        }
        IS_TELLING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ALL: LogCallbacks = LogCallbacks::new();

    unsafe extern "C" fn removes_the_other(data: *mut c_void, _: c_uint, _: *mut c_char, _: usize) {
        assert!(ALL.remove(data.addr()));
    }

    unsafe extern "C" fn is_never_called(_: *mut c_void, _: c_uint, _: *mut c_char, _: usize) {
        panic!("it was taken back");
    }

    #[test]
    fn who_was_taken_back_meanwhile_is_not_told() {
        let (one, other) = (1, 2);
        ALL.add(
            one,
            removes_the_other,
            core::ptr::without_provenance_mut(other),
        );
        ALL.add(other, is_never_called, core::ptr::null_mut());
        ALL.tell(0, "an error");
        assert!(ALL.remove(one));
    }

    unsafe extern "C" fn note(data: *mut c_void, level: c_uint, _: *mut c_char, length: usize) {
        // SAFETY: the test's own vector, which outlives the callbacks.
        unsafe { (*data.cast::<Vec<(c_uint, usize)>>()).push((level, length)) };
    }

    #[test]
    fn who_is_registered_is_told() {
        let mut told: Vec<(c_uint, usize)> = Vec::new();
        let callbacks = LogCallbacks::new();
        callbacks.add(7, note, (&raw mut told).cast());
        callbacks.tell(1, "a warning");
        assert!(!callbacks.remove(8));
        assert!(callbacks.remove(7));
        assert!(callbacks.is_empty());
        callbacks.tell(0, "an error");
        assert_eq!(told, [(1, 9)]);
    }
}
