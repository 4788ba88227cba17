//! The profiler's switches, which switch nothing here.
//!
//! # Safety
//!
//! Nothing is passed, so nothing can be wrong.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use driver_api::abi::CUresult;

use crate::context::current;
use crate::entry::done;

pub(crate) unsafe fn cuProfilerStart() -> CUresult {
    done(current().map(drop))
}

pub(crate) unsafe fn cuProfilerStop() -> CUresult {
    done(current().map(drop))
}
