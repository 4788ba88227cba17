//! The options of a just-in-time compilation that matter here: buffers for messages, and how many registers kernels may have.
//!
//! # Safety
//!
//! The buffers are the caller's, as long as it says, until the call returns.

#![expect(unsafe_code, reason = "buffers and arrays of a C caller")]

use core::ffi::{c_uint, c_void};
use std::sync::Arc;

use driver_api::abi::{CUjit_option, CUresult};

use super::load::LoadError;
use crate::log::warn;
use crate::ptx;

const MAX_REGISTERS: CUjit_option = 0;
const INFO_LOG_BUFFER_SIZE_BYTES: CUjit_option = 4;
const ERROR_LOG_BUFFER: CUjit_option = 5;
const ERROR_LOG_BUFFER_SIZE_BYTES: CUjit_option = 6;
/// The most options that one call may bring.
const MAX_OPTIONS: c_uint = 256;

/// What the caller wants.
#[derive(Debug, Default)]
pub(crate) struct Options {
    buffer: usize,
    size: usize,
    /// Where the length of the message goes; 0 for nowhere.
    length: usize,
    most_registers: Option<u32>,
}

impl Options {
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
        let mut wanted = Self::default();
        if count > MAX_OPTIONS || (count > 0 && (options.is_null() || values.is_null())) {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: by contract, both arrays have this element.
            let (option, place) = unsafe { (options.add(index).read(), values.add(index)) };
            // SAFETY: as above.
            let value = unsafe { place.read() };
            match option {
                // Numbers of 32 bits stand in the place of pointers.
                MAX_REGISTERS => {
                    wanted.most_registers = Some(value as usize as u32).filter(|&most| most > 0);
                }
                ERROR_LOG_BUFFER => wanted.buffer = value as usize,
                ERROR_LOG_BUFFER_SIZE_BYTES => {
                    wanted.size = value as usize as u32 as usize;
                    wanted.length = place.addr();
                }
                // SAFETY: as above; there is nothing to inform of.
                INFO_LOG_BUFFER_SIZE_BYTES => unsafe { place.write(core::ptr::null_mut()) },
                _ => {}
            }
        }
        wanted.write("");
        Ok(wanted)
    }

    /// Tells the log and the caller why a load failed.
    pub(crate) fn report(&self, failure: LoadError) -> CUresult {
        let text = failure.to_string();
        warn(&format!("cannot load a module: {text}"));
        self.write(&text);
        failure.code()
    }

    /// What was read, with as many registers as wanted; or what is told of a failure.
    pub(super) fn loaded(
        &self,
        read: Result<Arc<ptx::Module>, LoadError>,
    ) -> Result<Arc<ptx::Module>, CUresult> {
        let mut module = read.map_err(|failure| self.report(failure))?;
        if let Some(most) = self.most_registers {
            Arc::make_mut(&mut module).limit_registers(None, most);
        }
        Ok(module)
    }

    /// A linked text, whose kernels say how many registers they may have.
    pub(crate) fn linked(&self, text: String) -> Result<String, CUresult> {
        let Some(most) = self.most_registers else {
            return Ok(text);
        };
        let limited = ptx::with_most_registers(&text, most);
        limited.map_err(|error| self.report(error.into()))
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
