//! The beginning: initialisation and version.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint};

use driver_api::abi::CUresult;

use crate::entry::answer;

/// The version that this driver says it has.
const DRIVER_VERSION: c_int = 13_000;

pub(crate) unsafe fn cuInit(flags: c_uint) -> CUresult {
    if flags == 0 {
        CUresult::SUCCESS
    } else {
        CUresult::INVALID_VALUE
    }
}

pub(crate) unsafe fn cuDriverGetVersion(driver_version: *mut c_int) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(driver_version, DRIVER_VERSION) }
}
