//! Functions of the program that are told when a core dump begins and when it is there.
//!
//! *Rules:* they are called in the order in which they were registered, with no lock held; while one runs, none is registered or taken back on its thread.
//!
//! # Safety
//! A function is called with the data that was registered with it.
#![expect(unsafe_code, reason = "calls the program's functions")]

use core::ffi::{c_int, c_void};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::result::CUresult;

/// What the program gives: its data, its own process, the device.
pub type StatusFunction = unsafe extern "C" fn(data: *mut c_void, pid: c_int, device: c_int);

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in such a function.
#[must_use]
pub fn is_inside() -> bool {
    IS_INSIDE.get()
}

/// What a function is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before anything is collected.
    Start,
    /// The file is there.
    Complete,
}

#[derive(Debug, Clone, Copy)]
struct Callback {
    moment: Moment,
    handle: usize,
    function: StatusFunction,
    data: *mut c_void,
}

// SAFETY: function and data are the program's, given to be used by whatever thread makes a dump.
unsafe impl Send for Callback {}

/// The functions that are registered.
#[derive(Debug, Default)]
pub struct StatusCallbacks(Mutex<Vec<Callback>>);

impl StatusCallbacks {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Callback>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a function under a handle that no other has.
    ///
    /// # Errors
    /// NOT_PERMITTED: in such a function.
    pub fn add(
        &self,
        moment: Moment,
        handle: usize,
        function: StatusFunction,
        data: *mut c_void,
    ) -> Result<(), CUresult> {
        if is_inside() {
            return Err(CUresult::NOT_PERMITTED);
        }
        self.lock().push(Callback {
            moment,
            handle,
            function,
            data,
        });
        Ok(())
    }

    /// Takes a function back.
    ///
    /// # Errors
    /// NOT_PERMITTED: in such a function. INVALID_VALUE: no function for this moment has the handle.
    pub fn remove(&self, moment: Moment, handle: usize) -> Result<(), CUresult> {
        if is_inside() {
            return Err(CUresult::NOT_PERMITTED);
        }
        let mut callbacks = self.lock();
        let place = callbacks
            .iter()
            .position(|callback| callback.moment == moment && callback.handle == handle);
        let place = place.ok_or(CUresult::INVALID_VALUE)?;
        callbacks.remove(place);
        Ok(())
    }

    /// Tells the functions for a moment.
    pub fn tell(&self, moment: Moment, device: c_int) {
        let callbacks = self.lock().clone();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let outer = IS_INSIDE.replace(true);
        for callback in callbacks.iter().filter(|it| it.moment == moment) {
            // SAFETY: the program registered the function for this call, with this data.
            unsafe { (callback.function)(callback.data, pid, device) };
        }
        IS_INSIDE.set(outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ALL: StatusCallbacks = StatusCallbacks::new();

    unsafe extern "C" fn note(data: *mut c_void, pid: c_int, device: c_int) {
        let denied = ALL.add(Moment::Start, 9, note, core::ptr::null_mut());
        assert_eq!(denied, Err(CUresult::NOT_PERMITTED));
        assert_eq!(ALL.remove(Moment::Start, 1), Err(CUresult::NOT_PERMITTED));
        // SAFETY: the test's own vector, which outlives the callbacks.
        unsafe { (*data.cast::<Vec<(c_int, c_int)>>()).push((pid, device)) };
    }

    #[test]
    fn who_is_registered_for_a_moment_is_told_of_it() {
        let mut told: Vec<(c_int, c_int)> = Vec::new();
        let data = (&raw mut told).cast();
        ALL.add(Moment::Start, 1, note, data).expect("added");
        ALL.add(Moment::Start, 2, note, data).expect("added");
        ALL.add(Moment::Complete, 3, note, data).expect("added");
        ALL.tell(Moment::Start, 5);
        let invalid = Err(CUresult::INVALID_VALUE);
        assert_eq!(ALL.remove(Moment::Complete, 1), invalid);
        assert_eq!(ALL.remove(Moment::Start, 1), Ok(()));
        assert_eq!(ALL.remove(Moment::Start, 1), invalid);
        ALL.tell(Moment::Complete, 6);
        let pid = std::process::id().cast_signed();
        assert_eq!(told, [(pid, 5), (pid, 5), (pid, 6)]);
    }
}
