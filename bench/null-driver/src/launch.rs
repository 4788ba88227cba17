//! Launches: they return at once, and nothing has run.
//!
//! # Safety
//! No pointer is looked at.
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_void};

use driver_api::abi::{CUfunction, CUresult, CUstream};

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuLaunchKernel(
    _f: CUfunction,
    _grid_dim_x: c_uint,
    _grid_dim_y: c_uint,
    _grid_dim_z: c_uint,
    _block_dim_x: c_uint,
    _block_dim_y: c_uint,
    _block_dim_z: c_uint,
    _shared_mem_bytes: c_uint,
    _stream: CUstream,
    _kernel_params: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> CUresult {
    CUresult::SUCCESS
}
