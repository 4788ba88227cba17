//! Contexts: a thread has one current or none, and that is all.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::cell::Cell;
use core::ffi::{c_int, c_uint};

use driver_api::abi::{CUcontext, CUdevice, CUlimit, CUresult};

use crate::entry::answer;

/// The primary context, and every other.
const CONTEXT: CUcontext = CUcontext(0x1000);

thread_local! {
    static CURRENT: Cell<CUcontext> = const { Cell::new(CUcontext(0)) };
}

pub(crate) unsafe fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) -> CUresult {
    if dev != 0 {
        return CUresult::INVALID_DEVICE;
    }
    // SAFETY: the caller's place.
    unsafe { answer(pctx, CONTEXT) }
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(_dev: CUdevice) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuCtxCreate_v2(
    pctx: *mut CUcontext,
    _flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    CURRENT.set(CONTEXT);
    // SAFETY: the caller's place.
    unsafe { cuDevicePrimaryCtxRetain(pctx, dev) }
}

pub(crate) unsafe fn cuCtxDestroy_v2(_ctx: CUcontext) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuCtxSetCurrent(ctx: CUcontext) -> CUresult {
    CURRENT.set(ctx);
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuCtxPushCurrent_v2(ctx: CUcontext) -> CUresult {
    CURRENT.set(ctx);
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(pctx, CURRENT.replace(CUcontext(0))) }
}

pub(crate) unsafe fn cuCtxGetCurrent(pctx: *mut CUcontext) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(pctx, CURRENT.get()) }
}

pub(crate) unsafe fn cuCtxSynchronize() -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuCtxGetLimit(pvalue: *mut usize, limit: CUlimit) -> CUresult {
    if limit > 2 {
        return CUresult::UNSUPPORTED_LIMIT;
    }
    // SAFETY: the caller's place.
    unsafe { answer(pvalue, 1024) }
}

pub(crate) unsafe fn cuCtxGetStreamPriorityRange(
    least_priority: *mut c_int,
    greatest_priority: *mut c_int,
) -> CUresult {
    // SAFETY: the caller's places.
    unsafe {
        answer(least_priority, 0);
        answer(greatest_priority, 0)
    }
}
