//! Launching kernels: the row of the `launch` area.
//!
//! A launch waits for the session's turn, where the device is shared ([`pace`]).
//!
//! *Cost:* two look-ups (function, stream), an array of pointers on the stack, one driver call; no copy and no allocation up to
//! [`POINTERS_ON_STACK`] parameters.
//!
//! # Safety
//! Function and stream handles come from this session's tables. Parameter pointers point into the received bytes, whose length is
//! compared with the function's layout, so the driver reads inside them; attributes are copied into an aligned array, and only kinds
//! without handles or host pointers pass.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod host_function;

use std::ffi::{c_int, c_void};

use driver_api::abi::{CUfunction, CUlaunchAttribute, CUlaunchConfig, CUstream};
use driver_api::result::CUresult;
use driver_api::wire::request;

use super::call::{Call, CallError};
use super::module::Function;
use super::pace;
use crate::driver::cuda;

pub(crate) use host_function::*;

/// Most attributes of one launch.
const MAX_ATTRIBUTES: usize = 32;

/// Parameters up to this number need no allocation.
const POINTERS_ON_STACK: usize = 64;

/// Bytes of an attribute on the wire.
const ATTRIBUTE_BYTES: usize = size_of::<CUlaunchAttribute>();

const _: () = assert!(ATTRIBUTE_BYTES == 72);

/// `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`.
const COOPERATIVE: u32 = 2;

/// The attributes that hold neither a handle nor a host pointer, by `CU_LAUNCH_ATTRIBUTE_*`: ignore, access policy window,
/// cooperative, synchronization policy, cluster dimension and its scheduling, programmatic serialization, priority, memory
/// synchronization domain map and domain, preferred cluster dimension, shared memory carve-out, whether clusters have to be portable.
const PLAIN_ATTRIBUTES: [u32; 13] = [0, 1, COOPERATIVE, 3, 4, 5, 6, 8, 9, 10, 11, 14, 17];

/// `CU_LAUNCH_PARAM_BUFFER_POINTER` and its companions.
const EXTRA_POINTER: usize = 1;
const EXTRA_SIZE: usize = 2;
const EXTRA_END: usize = 0;

/// A launch.
pub(crate) fn gpurunLaunch(
    call: &mut Call<'_>,
    request: &request::GpurunLaunch,
    rest: &[u8],
) -> Result<(), CallError> {
    let (attributes, parameters) = split(request.attribute_count() as usize, rest)?;
    let function = call
        .session
        .functions
        .get(request.function().0)
        .ok_or(CUresult::INVALID_HANDLE)?;
    let stream = call.stream(request.stream().0)?;
    pace::run(call, &stream, |call| {
        with_parameters(&function, parameters, |kernel_parameters, extra| {
            let (handle, stream) = (function.as_function(), stream.handle);
            if attributes.is_empty() && request.cooperative() == 0 {
                launch(call, request, handle, stream, kernel_parameters, extra)
            } else {
                let attributes = (attributes, request.cooperative() != 0);
                launch_with(
                    call,
                    request,
                    handle,
                    stream,
                    attributes,
                    (kernel_parameters, extra),
                )
            }
        })
    })?;
    Ok(())
}

/// The attributes and the parameters.
pub(crate) fn split(count: usize, rest: &[u8]) -> Result<(&[u8], &[u8]), CallError> {
    if count > MAX_ATTRIBUTES {
        return Err(CallError::Violation("a launch with too many attributes"));
    }
    rest.split_at_checked(count * ATTRIBUTE_BYTES)
        .ok_or(CallError::Violation(
            "a launch with its attributes cut short",
        ))
}

/// Calls `launch` with what the driver takes for parameters: pointers where the layout is known, else the whole buffer.
pub(crate) fn with_parameters(
    function: &Function,
    bytes: &[u8],
    launch: impl FnOnce(*mut *mut c_void, *mut *mut c_void) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    let at = |offset: usize| {
        bytes
            .as_ptr()
            .wrapping_add(offset)
            .cast_mut()
            .cast::<c_void>()
    };
    let Some(parameters) = function.parameters.as_deref() else {
        let mut length = bytes.len();
        let mut extra = [
            EXTRA_POINTER as *mut c_void,
            at(0),
            EXTRA_SIZE as *mut c_void,
            (&raw mut length).cast(),
            EXTRA_END as *mut c_void,
        ];
        return launch(std::ptr::null_mut(), extra.as_mut_ptr());
    };
    if bytes.len() < function.parameter_bytes {
        return Err(CUresult::INVALID_VALUE);
    }
    let pointers = parameters.iter().map(|(offset, _)| at(*offset as usize));
    if parameters.len() <= POINTERS_ON_STACK {
        let mut array = [std::ptr::null_mut(); POINTERS_ON_STACK];
        array
            .iter_mut()
            .zip(pointers)
            .for_each(|(place, pointer)| *place = pointer);
        launch(array.as_mut_ptr(), std::ptr::null_mut())
    } else {
        let mut array: Vec<*mut c_void> = pointers.collect();
        launch(array.as_mut_ptr(), std::ptr::null_mut())
    }
}

fn launch(
    call: &Call<'_>,
    request: &request::GpurunLaunch,
    function: CUfunction,
    stream: CUstream,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<(), CUresult> {
    let (grid, block) = (request.grid(), request.block());
    cuda!(
        call.driver(),
        cuLaunchKernel(
            function,
            grid[0],
            grid[1],
            grid[2],
            block[0],
            block[1],
            block[2],
            request.shared_bytes(),
            stream,
            parameters,
            extra
        )
    )
}

/// A launch with attributes; a cooperative one without others falls back to the function that older drivers have.
fn launch_with(
    call: &Call<'_>,
    request: &request::GpurunLaunch,
    function: CUfunction,
    stream: CUstream,
    (bytes, is_cooperative): (&[u8], bool),
    (parameters, extra): (*mut *mut c_void, *mut *mut c_void),
) -> Result<(), CUresult> {
    let (grid, block) = (request.grid(), request.block());
    let driver = call.driver();
    if driver.cuLaunchKernelEx.is_none() && bytes.is_empty() && extra.is_null() {
        return cuda!(
            driver,
            cuLaunchCooperativeKernel(
                function,
                grid[0],
                grid[1],
                grid[2],
                block[0],
                block[1],
                block[2],
                request.shared_bytes(),
                stream,
                parameters
            )
        );
    }
    let mut attributes = attributes(bytes)?;
    if is_cooperative
        && attributes
            .iter()
            .all(|attribute| attribute.id != COOPERATIVE)
    {
        attributes.push(cooperative());
    }
    let sizes = (grid, block, request.shared_bytes());
    let config = configuration(sizes, stream, &mut attributes);
    cuda!(
        driver,
        cuLaunchKernelEx(&config, function, parameters, extra)
    )
}

fn configuration(
    (grid, block, shared_bytes): ([u32; 3], [u32; 3], u32),
    stream: CUstream,
    attributes: &mut [CUlaunchAttribute],
) -> CUlaunchConfig {
    CUlaunchConfig {
        grid_dim_x: grid[0],
        grid_dim_y: grid[1],
        grid_dim_z: grid[2],
        block_dim_x: block[0],
        block_dim_y: block[1],
        block_dim_z: block[2],
        shared_mem_bytes: shared_bytes,
        stream,
        attrs: attributes.as_mut_ptr(),
        num_attrs: attributes.len() as u32,
    }
}

/// What a device holds of the clusters of a launch.
pub(crate) fn clusters(
    call: &Call<'_>,
    request: &request::GpurunClusters,
    rest: &[u8],
) -> Result<c_int, CallError> {
    let (bytes, _) = split(request.attribute_count() as usize, rest)?;
    let function = call.session.functions.get(request.function().0);
    let function = function.ok_or(CUresult::INVALID_HANDLE)?.as_function();
    let mut attributes = attributes(bytes)?;
    let sizes = (request.grid(), request.block(), request.shared_bytes());
    let config = configuration(sizes, CUstream(0), &mut attributes);
    let (driver, mut number) = (call.driver(), 0);
    match request.largest() {
        0 => cuda!(
            driver,
            cuOccupancyMaxActiveClusters(&mut number, function, &config)
        ),
        _ => cuda!(
            driver,
            cuOccupancyMaxPotentialClusterSize(&mut number, function, &config)
        ),
    }?;
    Ok(number)
}

pub(crate) fn attributes(bytes: &[u8]) -> Result<Vec<CUlaunchAttribute>, CUresult> {
    let mut attributes = Vec::with_capacity(bytes.len() / ATTRIBUTE_BYTES + 1);
    for bytes in bytes.chunks_exact(ATTRIBUTE_BYTES) {
        let (id, rest) = bytes.split_at(size_of::<u32>());
        let id = id.try_into().map_or(u32::MAX, u32::from_le_bytes);
        if !PLAIN_ATTRIBUTES.contains(&id) {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let mut value = [0; 64];
        value.copy_from_slice(&rest[4..]);
        attributes.push(CUlaunchAttribute {
            id,
            pad: [0; 4],
            value,
        });
    }
    Ok(attributes)
}

pub(crate) fn cooperative() -> CUlaunchAttribute {
    let mut value = [0; 64];
    value[0] = 1;
    CUlaunchAttribute {
        id: COOPERATIVE,
        pad: [0; 4],
        value,
    }
}
