//! Profiler control: there is no profiler on this side of the road, and starting none succeeds, as on a driver without one attached.
#![expect(non_snake_case, reason = "these are the driver's names")]
#![expect(unsafe_code, reason = "functions of a C ABI")]

use driver_api::abi::CUresult;

use crate::entry::code;
use crate::session;

pub(crate) unsafe fn cuProfilerStart() -> CUresult {
    code(session::current().map(drop))
}

pub(crate) unsafe fn cuProfilerStop() -> CUresult {
    code(session::current().map(drop))
}
