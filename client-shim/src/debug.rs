//! The driver's log: what went wrong in this program, as it can read it.
//!
//! Kept here ([`crate::log`]): what the library refuses and warns of, what a server's driver says of a fault, and each call that came to an error.
//!
//! # Safety
//! Places, buffers and paths are read and written where the program says, by the contract of the CUDA driver API, after checks for null.
#![expect(unsafe_code, reason = "buffers and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use driver_api::abi::{CUlogIterator, CUlogsCallback, CUlogsCallbackHandle, CUresult};

use crate::entry::code;
use crate::handles;
use crate::log;
use crate::memory::out;
use crate::objects::unique;

pub(crate) unsafe fn cuLogsCurrent(iterator: *mut CUlogIterator, flags: c_uint) -> CUresult {
    code((|| {
        let place = out(iterator)?;
        check(flags)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(log::kept().end()) };
        Ok(())
    })())
}

fn check(flags: c_uint) -> Result<(), CUresult> {
    match flags {
        0 => Ok(()),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// Where to begin; `None` is with all that is kept.
///
/// # Safety
/// The iterator is null, or can be read.
unsafe fn place_at(iterator: *const CUlogIterator) -> Option<c_uint> {
    // SAFETY: the caller's promise.
    (!iterator.is_null()).then(|| unsafe { iterator.read() })
}

/// # Safety
/// The iterator is null, or can be written.
unsafe fn advance(iterator: *mut CUlogIterator, end: c_uint) {
    if !iterator.is_null() {
        // SAFETY: the caller's promise.
        unsafe { iterator.write(end) };
    }
}

/// Appends to the file: what was dumped there before stays.
pub(crate) unsafe fn cuLogsDumpToFile(
    iterator: *mut CUlogIterator,
    path_to_file: *const c_char,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let path = out(path_to_file.cast_mut())?;
        check(flags)?;
        // SAFETY: not null, a C string by the API's contract; the iterator is null or readable.
        let (path, place) = unsafe { (CStr::from_ptr(path), place_at(iterator)) };
        let (text, end) = {
            let kept = log::kept();
            (kept.text(place), kept.end())
        };
        File::options()
            .create(true)
            .append(true)
            .open(OsStr::from_bytes(path.to_bytes()))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|_| CUresult::INVALID_VALUE)?;
        // SAFETY: null or writable by the API's contract.
        unsafe { advance(iterator, end) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuLogsDumpToMemory(
    iterator: *mut CUlogIterator,
    buffer: *mut c_char,
    size: *mut usize,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let (buffer, size) = (out(buffer)?, out(size)?);
        check(flags)?;
        // SAFETY: checked by `out`; the iterator is null or readable.
        let (room, place) = unsafe { (size.read(), place_at(iterator)) };
        let room = room.checked_sub(1).ok_or(CUresult::INVALID_VALUE)?;
        let (text, end) = {
            let kept = log::kept();
            (kept.newest(place, room), kept.end())
        };
        let fits = text.is_some();
        let text = text.unwrap_or_default();
        // SAFETY: the text and its zero byte are no longer than the buffer's size; the places were checked.
        unsafe {
            text.as_ptr()
                .copy_to_nonoverlapping(buffer.cast(), text.len());
            buffer.add(text.len()).write(0);
            size.write(text.len());
        }
        if !fits {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: null or writable by the API's contract.
        unsafe { advance(iterator, end) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuLogsRegisterCallback(
    callback_func: CUlogsCallback,
    user_data: *mut c_void,
    callback: *mut CUlogsCallbackHandle,
) -> CUresult {
    code((|| {
        let function = callback_func.ok_or(CUresult::INVALID_VALUE)?;
        let handle = handles::dress(handles::UNTYPED, unique() as u32);
        log::callbacks().add(handle, function, user_data);
        if !callback.is_null() {
            // SAFETY: not null, writable by the API's contract.
            unsafe { callback.write(CUlogsCallbackHandle(handle)) };
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuLogsUnregisterCallback(callback: CUlogsCallbackHandle) -> CUresult {
    match log::callbacks().remove(callback.0) {
        true => CUresult::SUCCESS,
        false => CUresult::INVALID_VALUE,
    }
}
