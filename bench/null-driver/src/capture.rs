//! The capture mode of a thread, which captures nothing.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use driver_api::abi::{CUresult, CUstreamCaptureMode};

use crate::entry::answer;

pub(crate) unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(mode, 0) }
}
