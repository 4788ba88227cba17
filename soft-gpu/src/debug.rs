//! The driver's log as the program can read it: what the device has warned of, faults of kernels among it.
//!
//! # Safety
//!
//! Iterators and buffers are the caller's, as the driver's interface says: see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_char, c_uint};

use driver_api::abi::{CUlogIterator, CUresult};

use crate::entry::answer;
use crate::log;

pub(crate) unsafe fn cuLogsCurrent(iterator: *mut CUlogIterator, flags: c_uint) -> CUresult {
    if flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for an iterator.
    unsafe { answer(iterator, Ok(log::next_place())) }
}

/// The newest whole lines that fit, each with a line's end, and a NUL; with no iterator, of all that is kept.
pub(crate) unsafe fn cuLogsDumpToMemory(
    iterator: *mut CUlogIterator,
    buffer: *mut c_char,
    size: *mut usize,
    flags: c_uint,
) -> CUresult {
    if flags != 0 || buffer.is_null() || size.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null; the caller passes the buffer's size.
    let room = unsafe { size.read() };
    let since = if iterator.is_null() {
        // Further back than anything is kept.
        log::next_place().wrapping_sub(c_uint::MAX / 2)
    } else {
        // SAFETY: not null; the caller passes an iterator.
        unsafe { iterator.read() }
    };
    let (lines, next) = log::kept(since);
    let text = newest(&lines, room.saturating_sub(1));
    if room > 0 {
        // SAFETY: the buffer has `room` bytes, and the text with its NUL is no longer.
        unsafe {
            core::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
            buffer.add(text.len()).write(0);
        }
    }
    // SAFETY: not null, as above.
    unsafe { size.write(text.len()) };
    if !iterator.is_null() {
        // SAFETY: as above.
        unsafe { iterator.write(next) };
    }
    CUresult::SUCCESS
}

fn newest(lines: &[String], room: usize) -> String {
    let mut first = lines.len();
    let mut length = 0;
    while first > 0 && length + lines[first - 1].len() < room {
        first -= 1;
        length += lines[first].len() + 1;
    }
    lines[first..].iter().fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_whole_lines_are_kept() {
        let lines = ["one".to_owned(), "two".to_owned(), "three".to_owned()];
        assert_eq!(newest(&lines, 100), "one\ntwo\nthree\n");
        assert_eq!(newest(&lines, 10), "two\nthree\n");
        assert_eq!(newest(&lines, 9), "three\n");
        assert_eq!(newest(&lines, 5), "");
    }
}
