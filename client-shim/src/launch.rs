//! Launching kernels: posted, once the driver has accepted a function in a configuration.
//!
//! Cost of a posted launch: two table reads, the parameters copied once into the queue, one append. The first launch of a function with
//! a block size and an amount of shared memory is asked, since only the driver knows whether it can work. A cooperative launch, and one with attributes,
//! is asked once for each grid and each set of attributes besides, which costs an allocation to look up.
//!
//! # Safety
//! Parameters are read from the program's memory at the offsets and sizes of the kernel's own layout, by the contract of `cuLaunchKernel`.
#![expect(
    unsafe_code,
    reason = "the program's parameters are read where it says"
)]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod host_function;
mod kernel;
mod replaced;

use core::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use driver_api::abi::{
    CUfunction, CUlaunchAttribute, CUlaunchConfig, CUresult, CUstream, CUtexref,
};
use driver_api::texture::reference::DEFAULT_UNIT;

use crate::capture;
use crate::entry::code;
use crate::graph::Operation;
use crate::session;
use crate::stream;

pub(crate) use host_function::*;
pub(crate) use kernel::{Kernel, Shape, VALUE_BYTES, attributes};
pub(crate) use replaced::*;

/// Attributes of one launch.
const MAX_ATTRIBUTES: usize = 32;

/// Launches in a stream, or makes the launch a node of the graph that the stream is captured into.
///
/// # Safety
/// The contract of `cuLaunchKernel` for the last two.
unsafe fn run(
    shape: Shape,
    stream: CUstream,
    f: CUfunction,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<(), CUresult> {
    let (session, context) = session::current()?;
    let device = &session.devices[context.device];
    // SAFETY: the caller's promise.
    let kernel = unsafe { Kernel::new(device, shape, f, kernel_params, extra) }?;
    let stream = stream::resolve_any(session, &context, stream)?;
    if capture::is_captured(session, &stream)? {
        return capture::add(&stream, Operation::Kernel(Arc::new(kernel)));
    }
    kernel.post(session, &stream)
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuLaunchKernel(
    f: CUfunction,
    grid_dim_x: c_uint,
    grid_dim_y: c_uint,
    grid_dim_z: c_uint,
    block_dim_x: c_uint,
    block_dim_y: c_uint,
    block_dim_z: c_uint,
    shared_mem_bytes: c_uint,
    stream: CUstream,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    let (grid, block) = (
        [grid_dim_x, grid_dim_y, grid_dim_z],
        [block_dim_x, block_dim_y, block_dim_z],
    );
    let shape = Shape::new(grid, block, shared_mem_bytes);
    // SAFETY: the same contract.
    code(unsafe { run(shape, stream, f, kernel_params, extra) })
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuLaunchCooperativeKernel(
    f: CUfunction,
    grid_dim_x: c_uint,
    grid_dim_y: c_uint,
    grid_dim_z: c_uint,
    block_dim_x: c_uint,
    block_dim_y: c_uint,
    block_dim_z: c_uint,
    shared_mem_bytes: c_uint,
    stream: CUstream,
    kernel_params: *mut *mut c_void,
) -> CUresult {
    let (grid, block) = (
        [grid_dim_x, grid_dim_y, grid_dim_z],
        [block_dim_x, block_dim_y, block_dim_z],
    );
    let mut shape = Shape::new(grid, block, shared_mem_bytes);
    shape.cooperative = true;
    // SAFETY: the same contract.
    code(unsafe { run(shape, stream, f, kernel_params, core::ptr::null_mut()) })
}

/// `CU_LAUNCH_ATTRIBUTE_IGNORE`.
const IGNORE: c_uint = 0;

/// # Safety
/// `attributes` has `count` elements.
unsafe fn take_attributes(
    shape: &mut Shape,
    attributes: *const CUlaunchAttribute,
    count: usize,
) -> Result<(), CUresult> {
    if count == 0 {
        return Ok(());
    }
    if attributes.is_null() || count > MAX_ATTRIBUTES {
        return Err(CUresult::INVALID_VALUE);
    }
    for index in 0..count {
        // SAFETY: the caller's promise.
        let attribute = unsafe { attributes.add(index).read() };
        if attribute.id == IGNORE {
            continue;
        }
        shape.set_attribute(attribute.id, attribute.value)?;
    }
    Ok(())
}

/// The shape and the stream of a configuration.
///
/// # Safety
/// The configuration is null, or readable with its attributes.
pub(crate) unsafe fn shape_of(
    config: *const CUlaunchConfig,
) -> Result<(Shape, CUstream), CUresult> {
    if config.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, readable by the API's contract.
    let config = unsafe { config.read() };
    let grid = [config.grid_dim_x, config.grid_dim_y, config.grid_dim_z];
    let block = [config.block_dim_x, config.block_dim_y, config.block_dim_z];
    let mut shape = Shape::new(grid, block, config.shared_mem_bytes);
    // SAFETY: the API's contract.
    unsafe { take_attributes(&mut shape, config.attrs, config.num_attrs as usize) }?;
    Ok((shape, config.stream))
}

pub(crate) unsafe fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    f: CUfunction,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the same contract.
    code(unsafe {
        shape_of(config).and_then(|(shape, stream)| run(shape, stream, f, kernel_params, extra))
    })
}

/// Of the launch interface before CUDA 4.0. A module's texture references are there for its kernels anyway, and no others are allowed.
pub(crate) unsafe fn cuParamSetTexRef(
    function: CUfunction,
    texunit: c_int,
    tex_ref: CUtexref,
) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        crate::module::function_of(function)?;
        let is_there = crate::texture::reference::is_of_module(session, tex_ref);
        match is_there && texunit == DEFAULT_UNIT {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    })())
}
