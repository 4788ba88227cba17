//! Green contexts: there are none here, and that is what is told.
//!
//! # Safety
//!
//! The driver's functions write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use driver_api::abi::{CUgreenCtx, CUresult, CUstream};

use crate::entry::answer;
use crate::stream::find;

/// No stream here was made from a green context.
pub(crate) unsafe fn cuStreamGetGreenCtx(stream: CUstream, ctx: *mut CUgreenCtx) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(ctx, find(stream).map(|_| CUgreenCtx(0))) }
}
