//! How a result gets to the caller: a code, and values through C pointers.
//!
//! # Safety
//! A caller of NVML passes null, which is refused, or a pointer to a place of the type that the function's declaration names. Alignment
//! is not relied upon.
#![expect(unsafe_code, reason = "answers are written through C pointers")]

use core::ffi::{CStr, c_char, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::layout::{INSUFFICIENT_SIZE, INVALID_ARGUMENT, Return, SUCCESS, UNKNOWN};

/// Lets a panic of ours print nothing; this library's hook is no other's.
pub(crate) fn be_quiet() {
    // A test runner's panics are its own.
    if !cfg!(test) {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

/// Runs the body of an exported function; a panic becomes a code.
pub(crate) fn guarded(body: impl FnOnce() -> Result<(), Return>) -> Return {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => UNKNOWN,
    }
}

/// Writes a value.
pub(crate) fn put<T>(place: *mut T, value: T) -> Result<(), Return> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and a place of this type.
    unsafe { place.write_unaligned(value) };
    Ok(())
}

/// Reads a value that the caller has set.
pub(crate) fn get<T: Copy>(place: *const T) -> Result<T, Return> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and a place of this type.
    Ok(unsafe { place.read_unaligned() })
}

/// Writes values side by side; the caller has made sure that there is room.
pub(crate) fn put_all<T: Copy>(place: *mut T, values: &[T]) -> Result<(), Return> {
    for (index, value) in values.iter().enumerate() {
        put(place.wrapping_add(index), *value)?;
    }
    Ok(())
}

/// Writes text and a NUL into `room` bytes.
pub(crate) fn put_text(place: *mut c_char, room: c_uint, text: &str) -> Result<(), Return> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= room as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    put_all(place.cast(), text.as_bytes())?;
    put(place.wrapping_add(text.len()), 0)
}

/// A text of the caller's.
pub(crate) fn get_text<'a>(place: *const c_char) -> Result<&'a str, Return> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and a C string that lives for the call.
    let text = unsafe { CStr::from_ptr(place) };
    text.to_str().map_err(|_| INVALID_ARGUMENT)
}
