//! Streams: always done. A written value is written at once, if its place is pinned memory of this driver.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
//! A value is written only inside memory that `cuMemHostAlloc` has given and not taken back.
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint};

use driver_api::abi::{CUdeviceptr, CUevent, CUresult, CUstream};

use crate::entry::answer;
use crate::memory;

/// Every stream but the legacy one.
const STREAM: CUstream = CUstream(0x2000);

pub(crate) unsafe fn cuStreamCreate(stream: *mut CUstream, _flags: c_uint) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(stream, STREAM) }
}

pub(crate) unsafe fn cuStreamCreateWithPriority(
    stream: *mut CUstream,
    _flags: c_uint,
    _priority: c_int,
) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(stream, STREAM) }
}

pub(crate) unsafe fn cuStreamDestroy_v2(_stream: CUstream) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuStreamSynchronize(_stream: CUstream) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuStreamQuery(_stream: CUstream) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuStreamWaitEvent(
    _stream: CUstream,
    _event: CUevent,
    _flags: c_uint,
) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuStreamWriteValue64_v2(
    _stream: CUstream,
    addr: CUdeviceptr,
    value: u64,
    _flags: c_uint,
) -> CUresult {
    memory::write_pinned(addr, value)
}
