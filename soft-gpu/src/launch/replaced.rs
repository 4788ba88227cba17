//! The launch interface that CUDA 4.0 replaced: shape and parameters are set piece by piece, and stay with the function.
//!
//! # Safety
//!
//! `cuParamSetv` reads as many bytes as it is told; a launch reads a list and a buffer that live here.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint, c_void};

use driver_api::abi::{CUfunction, CUresult, CUstream};
use driver_api::launch_state::{LaunchState, grid, with_extra};

use super::{Attributes, Shape, launch};
use crate::entry::done;
use crate::module::find_function;
use crate::threads::lock;

fn with<T>(
    function: CUfunction,
    then: impl FnOnce(&mut LaunchState) -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    then(&mut lock(&find_function(function)?.launch_state))
}

pub(crate) fn set_block(function: CUfunction, block: [c_int; 3]) -> Result<(), CUresult> {
    with(function, |state| state.set_block(block))
}

pub(crate) fn set_shared(function: CUfunction, bytes: c_uint) -> Result<(), CUresult> {
    with(function, |state| {
        state.shared_bytes = bytes;
        Ok(())
    })
}

pub(crate) unsafe fn cuParamSetSize(function: CUfunction, numbytes: c_uint) -> CUresult {
    done(with(function, |state| state.set_size(numbytes)))
}

pub(crate) unsafe fn cuParamSeti(function: CUfunction, offset: c_int, value: c_uint) -> CUresult {
    done(with(function, |state| {
        state.put(offset, &value.to_le_bytes())
    }))
}

pub(crate) unsafe fn cuParamSetf(function: CUfunction, offset: c_int, value: f32) -> CUresult {
    done(with(function, |state| {
        state.put(offset, &value.to_le_bytes())
    }))
}

pub(crate) unsafe fn cuParamSetv(
    function: CUfunction,
    offset: c_int,
    ptr: *mut c_void,
    numbytes: c_uint,
) -> CUresult {
    if ptr.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null, and the caller passes so many bytes; read before this returns.
    let bytes = unsafe { core::slice::from_raw_parts(ptr.cast::<u8>(), numbytes as usize) };
    done(with(function, |state| state.put(offset, bytes)))
}

fn launch_grid(
    function: CUfunction,
    (width, height): (c_int, c_int),
    stream: CUstream,
) -> Result<(), CUresult> {
    let grid = grid(width, height)?;
    let (shape, mut parameters) = with(function, |state| {
        let shape = Shape {
            grid,
            block: state.block,
            shared: state.shared_bytes,
            attributes: Attributes::default(),
        };
        Ok((shape, state.parameters()))
    })?;
    let none = core::ptr::null_mut();
    with_extra(&mut parameters, |extra| {
        // SAFETY: the list ends, and names a buffer of its size.
        unsafe { launch(shape, function, stream, none, extra) }
    })
}

pub(crate) unsafe fn cuLaunch(f: CUfunction) -> CUresult {
    done(launch_grid(f, (1, 1), CUstream(0)))
}

pub(crate) unsafe fn cuLaunchGrid(
    f: CUfunction,
    grid_width: c_int,
    grid_height: c_int,
) -> CUresult {
    done(launch_grid(f, (grid_width, grid_height), CUstream(0)))
}

pub(crate) unsafe fn cuLaunchGridAsync(
    f: CUfunction,
    grid_width: c_int,
    grid_height: c_int,
    stream: CUstream,
) -> CUresult {
    done(launch_grid(f, (grid_width, grid_height), stream))
}
