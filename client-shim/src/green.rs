//! Green contexts: there are none here, and that is what is told.
//!
//! # Safety
//! Out parameters are checked for null and writable by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use driver_api::abi::{CUgreenCtx, CUresult, CUstream};

use crate::entry::code;
use crate::memory::out;
use crate::stream;

/// cuBLAS, cuDNN and cuSOLVER ask this of each stream that they are given: no stream here was made from a green context.
pub(crate) unsafe fn cuStreamGetGreenCtx(stream: CUstream, ctx: *mut CUgreenCtx) -> CUresult {
    code((|| {
        let place = out(ctx)?;
        stream::id_of(stream)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUgreenCtx(0)) };
        Ok(())
    })())
}
