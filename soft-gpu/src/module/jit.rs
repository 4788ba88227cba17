//! The options of a just-in-time compilation: only the buffers for messages matter here.
//!
//! # Safety
//!
//! The buffers are the caller's, as long as it says, until the call returns.

#![expect(unsafe_code, reason = "buffers and arrays of a C caller")]

use core::ffi::{c_uint, c_void};

use driver_api::abi::{CUjit_option, CUresult};

use super::load::LoadError;
use crate::log::warn;

const INFO_LOG_BUFFER_SIZE_BYTES: CUjit_option = 4;
const ERROR_LOG_BUFFER: CUjit_option = 5;
const ERROR_LOG_BUFFER_SIZE_BYTES: CUjit_option = 6;
/// The most options that one call may bring.
const MAX_OPTIONS: c_uint = 256;

/// Where the caller wants messages.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    buffer: usize,
    size: usize,
    /// Where the length of the message goes; 0 for nowhere.
    length: usize,
}

impl Messages {
    /// Reads the options.
    ///
    /// # Safety
    ///
    /// Both arrays are null or have `count` elements.
    pub(crate) unsafe fn of(
        count: c_uint,
        options: *mut CUjit_option,
        values: *mut *mut c_void,
    ) -> Result<Self, CUresult> {
        let mut messages = Self::default();
        if count > MAX_OPTIONS || (count > 0 && (options.is_null() || values.is_null())) {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: by contract, both arrays have this element.
            let (option, place) = unsafe { (options.add(index).read(), values.add(index)) };
            // SAFETY: as above.
            let value = unsafe { place.read() };
            match option {
                ERROR_LOG_BUFFER => messages.buffer = value as usize,
                ERROR_LOG_BUFFER_SIZE_BYTES => {
                    // A size is a number of 32 bits in the place of a pointer.
                    messages.size = value as usize as u32 as usize;
                    messages.length = place.addr();
                }
                // SAFETY: as above; there is nothing to inform of.
                INFO_LOG_BUFFER_SIZE_BYTES => unsafe { place.write(core::ptr::null_mut()) },
                _ => {}
            }
        }
        messages.write("");
        Ok(messages)
    }

    /// Tells the log and the caller why a load failed.
    pub(crate) fn report(&self, failure: LoadError) -> CUresult {
        let text = failure.to_string();
        warn(&format!("cannot load a module: {text}"));
        self.write(&text);
        failure.code()
    }

    fn write(&self, text: &str) {
        let count = text.len().min(self.size.saturating_sub(1));
        if self.buffer != 0 && self.size > 0 {
            let buffer = self.buffer as *mut u8;
            // SAFETY: the caller passes a buffer of `size` bytes, and `count` leaves one for the end.
            unsafe {
                core::ptr::copy_nonoverlapping(text.as_ptr(), buffer, count);
                buffer.add(count).write(0);
            }
        }
        if self.length != 0 && !text.is_empty() {
            let place = self.length as *mut *mut c_void;
            // SAFETY: the place is in the caller's array, which is still there.
            unsafe { place.write((count + 1) as *mut c_void) };
        }
    }
}
