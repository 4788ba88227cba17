//! Events: always reached.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_uint;

use driver_api::abi::{CUevent, CUresult, CUstream};

use crate::entry::answer;

/// Every event.
const EVENT: CUevent = CUevent(0x3000);

pub(crate) unsafe fn cuEventCreate(event: *mut CUevent, _flags: c_uint) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(event, EVENT) }
}

pub(crate) unsafe fn cuEventDestroy_v2(_event: CUevent) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuEventRecord(_event: CUevent, _stream: CUstream) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuEventQuery(_event: CUevent) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuEventSynchronize(_event: CUevent) -> CUresult {
    CUresult::SUCCESS
}
