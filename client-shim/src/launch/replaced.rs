//! The launch interface that CUDA 4.0 replaced: shape and parameters are set piece by piece, and stay with the function.
//!
//! # Safety
//! `cuParamSetv` reads as many bytes as it is told; a launch reads a list and a buffer that live here.
#![expect(unsafe_code, reason = "reads the program's parameters")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_int, c_uint, c_void};
use std::sync::PoisonError;

use driver_api::abi::{CUfunction, CUresult, CUstream};
use driver_api::launch_state::{LaunchState, grid, with_extra};

use super::{Shape, run};
use crate::entry::code;
use crate::memory::out;
use crate::module::function_of;

fn with<T>(
    function: CUfunction,
    then: impl FnOnce(&mut LaunchState) -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    let function = function_of(function)?;
    let mut state = function
        .launch_state
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    then(&mut state)
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
    code(with(function, |state| state.set_size(numbytes)))
}

pub(crate) unsafe fn cuParamSeti(function: CUfunction, offset: c_int, value: c_uint) -> CUresult {
    code(with(function, |state| {
        state.put(offset, &value.to_le_bytes())
    }))
}

pub(crate) unsafe fn cuParamSetf(function: CUfunction, offset: c_int, value: f32) -> CUresult {
    code(with(function, |state| {
        state.put(offset, &value.to_le_bytes())
    }))
}

pub(crate) unsafe fn cuParamSetv(
    function: CUfunction,
    offset: c_int,
    ptr: *mut c_void,
    numbytes: c_uint,
) -> CUresult {
    code((|| {
        let place = out(ptr)?;
        // SAFETY: not null, and so many bytes by the API's contract; read before this returns.
        let bytes = unsafe { std::slice::from_raw_parts(place.cast::<u8>(), numbytes as usize) };
        with(function, |state| state.put(offset, bytes))
    })())
}

fn launch(
    function: CUfunction,
    (width, height): (c_int, c_int),
    stream: CUstream,
) -> Result<(), CUresult> {
    let grid = grid(width, height)?;
    let (shape, mut parameters) = with(function, |state| {
        let shape = Shape::new(grid, state.block, state.shared_bytes);
        Ok((shape, state.parameters()))
    })?;
    let none = std::ptr::null_mut();
    with_extra(&mut parameters, |extra| {
        // SAFETY: the list ends, and names a buffer of its size.
        unsafe { run(shape, stream, function, none, extra) }
    })
}

pub(crate) unsafe fn cuLaunch(f: CUfunction) -> CUresult {
    code(launch(f, (1, 1), CUstream(0)))
}

pub(crate) unsafe fn cuLaunchGrid(
    f: CUfunction,
    grid_width: c_int,
    grid_height: c_int,
) -> CUresult {
    code(launch(f, (grid_width, grid_height), CUstream(0)))
}

pub(crate) unsafe fn cuLaunchGridAsync(
    f: CUfunction,
    grid_width: c_int,
    grid_height: c_int,
    stream: CUstream,
) -> CUresult {
    code(launch(f, (grid_width, grid_height), stream))
}
