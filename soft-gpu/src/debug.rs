//! The driver's log as the program can read it: what the device has warned of, faults of kernels among it, and calls that came to an error.
//!
//! # Safety
//!
//! Iterators, buffers and paths are the caller's, as the driver's interface says: see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use driver_api::abi::{CUlogIterator, CUlogsCallback, CUlogsCallbackHandle, CUresult};

use crate::context::unique_id;
use crate::entry::{answer, answer_if_asked, done};
use crate::log::{CALLBACKS, KEPT};
use crate::threads::lock;

pub(crate) unsafe fn cuLogsCurrent(iterator: *mut CUlogIterator, flags: c_uint) -> CUresult {
    if flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for an iterator.
    unsafe { answer(iterator, Ok(lock(&KEPT).end())) }
}

/// Where to begin; `None` is with all that is kept.
///
/// # Safety
/// The iterator is null, or can be read.
unsafe fn place_at(iterator: *const CUlogIterator) -> Option<c_uint> {
    // SAFETY: the caller's promise.
    (!iterator.is_null()).then(|| unsafe { iterator.read() })
}

/// The newest lines that fit.
pub(crate) unsafe fn cuLogsDumpToMemory(
    iterator: *mut CUlogIterator,
    buffer: *mut c_char,
    size: *mut usize,
    flags: c_uint,
) -> CUresult {
    if flags != 0 || buffer.is_null() || size.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null; the caller passes the buffer's size, and an iterator or null.
    let (room, place) = unsafe { (size.read(), place_at(iterator)) };
    let Some(room) = room.checked_sub(1) else {
        return CUresult::INVALID_VALUE;
    };
    let (text, end) = {
        let kept = lock(&KEPT);
        (kept.newest(place, room), kept.end())
    };
    let fits = text.is_some();
    let text = text.unwrap_or_default();
    // SAFETY: the buffer has a byte more than `room`, and the text is no longer than that; the size is not null.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
        buffer.add(text.len()).write(0);
        size.write(text.len());
    }
    if !fits {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes an iterator or null.
    unsafe { answer_if_asked(iterator, end) };
    CUresult::SUCCESS
}

/// Appends to the file: what was dumped there before stays.
pub(crate) unsafe fn cuLogsDumpToFile(
    iterator: *mut CUlogIterator,
    path_to_file: *const c_char,
    flags: c_uint,
) -> CUresult {
    if flags != 0 || path_to_file.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null, a C string; the caller passes an iterator or null.
    let (path, place) = unsafe { (CStr::from_ptr(path_to_file), place_at(iterator)) };
    let (text, end) = {
        let kept = lock(&KEPT);
        (kept.text(place), kept.end())
    };
    let path = OsStr::from_bytes(path.to_bytes());
    let opened = File::options().create(true).append(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    if written.is_err() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: as above.
    unsafe { answer_if_asked(iterator, end) };
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuLogsRegisterCallback(
    callback_func: CUlogsCallback,
    user_data: *mut c_void,
    callback: *mut CUlogsCallbackHandle,
) -> CUresult {
    let Some(function) = callback_func else {
        return CUresult::INVALID_VALUE;
    };
    let handle = unique_id() as usize;
    CALLBACKS.add(handle, function, user_data);
    // SAFETY: the caller passes a place for a handle, or null.
    unsafe { answer_if_asked(callback, CUlogsCallbackHandle(handle)) };
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuLogsUnregisterCallback(callback: CUlogsCallbackHandle) -> CUresult {
    let known = CALLBACKS.remove(callback.0);
    done(known.then_some(()).ok_or(CUresult::INVALID_VALUE))
}
