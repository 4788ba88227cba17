//! Launching kernels: posted, once the driver has accepted a function in a configuration.
//!
//! Cost of a posted launch: two table reads, the parameters copied once into the queue, one append. The first launch of a function with
//! a block size and an amount of shared memory is asked, since only the driver knows whether it can work; so are launches with attributes.
//!
//! # Safety
//! Parameters are read from the program's memory at the offsets and sizes of the kernel's own layout, by the contract of `cuLaunchKernel`.
#![expect(
    unsafe_code,
    reason = "the program's parameters are read where it says"
)]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod host_function;

use core::ffi::{c_uint, c_void};

use driver_api::abi::{CUfunction, CUlaunchAttribute, CUlaunchConfig, CUresult, CUstream};
use driver_api::id::FunctionId;
use driver_api::wire::request::GpurunLaunch;

use crate::device::unsigned;
use crate::entry::code;
use crate::log;
use crate::memory::out;
use crate::module::{self, Function, LaunchShape};
use crate::session;
use crate::stream;

pub(crate) use host_function::*;

/// Most bytes of parameters: what CUDA 12.1 and later allow.
const MAX_PARAMETER_BYTES: usize = 32_764;
/// Attributes of one launch.
const MAX_ATTRIBUTES: usize = 32;
/// `CU_LAUNCH_PARAM_*` in `extra`.
const END: usize = 0;
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;
/// Entries of `extra` that are looked at before it is refused as endless.
const MAX_EXTRA: usize = 8;
/// Device attributes: most blocks in x, y and z.
const MAX_GRID: [u32; 3] = [5, 6, 7];
/// Device attributes: most threads in x, y and z; together: 1.
const MAX_BLOCK: [u32; 3] = [2, 3, 4];
const MAX_THREADS: u32 = 1;

/// A launch as the three functions that make one say it.
struct Launch {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
    cooperative: bool,
    attributes: Vec<u8>,
    attribute_count: u32,
}

impl Launch {
    fn new(grid: [u32; 3], block: [u32; 3], shared_bytes: u32, stream: CUstream) -> Self {
        Self {
            grid,
            block,
            shared_bytes,
            stream,
            cooperative: false,
            attributes: Vec::new(),
            attribute_count: 0,
        }
    }

    /// Launches.
    ///
    /// # Safety
    /// The contract of `cuLaunchKernel` for the last two.
    unsafe fn run(
        &self,
        f: CUfunction,
        kernel_params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Result<(), CUresult> {
        let (session, context) = session::current()?;
        let function = module::function_of(f)?;
        self.check(&session.devices[context.device])?;
        let stream = stream::resolve_in(session, &context, self.stream)?;
        let mut rest = self.attributes.clone();
        // SAFETY: the caller's promise.
        unsafe { pack(&function, kernel_params, extra, &mut rest) }?;
        let request = GpurunLaunch::new(
            FunctionId(function.id),
            self.grid,
            self.block,
            self.shared_bytes,
            stream.wire_id(),
            u32::from(self.cooperative),
            self.attribute_count,
        );
        let shape = LaunchShape {
            block: self.block,
            shared_bytes: self.shared_bytes,
            context: context.id,
            cooperative: self.cooperative,
        };
        if self.attribute_count == 0 && !self.cooperative && function.is_accepted(&shape) {
            session.post_work(&stream, &request, &rest)?;
        } else {
            session.ask_work(&stream, &request, &rest)?;
            function.accept(shape);
        }
        Ok(())
    }

    /// What the device's limits refuse.
    fn check(&self, device: &crate::device::Device) -> Result<(), CUresult> {
        let within = |sizes: &[u32; 3], limits: &[u32; 3]| {
            sizes.iter().zip(limits).all(|(size, limit)| {
                *size > 0 && *size <= unsigned(device.attribute(*limit).unwrap_or(0))
            })
        };
        let threads: u64 = self.block.iter().map(|size| u64::from(*size)).product();
        let most = u64::from(unsigned(device.attribute(MAX_THREADS).unwrap_or(0)));
        if within(&self.grid, &MAX_GRID) && within(&self.block, &MAX_BLOCK) && threads <= most {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }
}

/// Appends the parameters as the kernel lays them out.
///
/// # Safety
/// The contract of `cuLaunchKernel`.
unsafe fn pack(
    function: &Function,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    let bytes = function.parameter_bytes();
    match (kernel_params.is_null(), extra.is_null()) {
        (false, false) => Err(CUresult::INVALID_VALUE),
        // SAFETY: the caller's promise.
        (true, false) => unsafe { pack_buffer(bytes, extra, packed) },
        (true, true) if module::known_parameters(function)?.is_empty() => Ok(()),
        (true, true) => Err(CUresult::INVALID_VALUE),
        // SAFETY: the caller's promise.
        (false, true) => unsafe { pack_each(function, bytes, kernel_params, packed) },
    }
}

/// # Safety
/// `kernel_params` has a pointer for each parameter, to as many bytes as the parameter has.
unsafe fn pack_each(
    function: &Function,
    bytes: usize,
    kernel_params: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    let base = packed.len();
    packed.resize(base + bytes, 0);
    for (index, (offset, size)) in module::known_parameters(function)?.iter().enumerate() {
        // SAFETY: the caller's promise.
        let parameter = out(unsafe { kernel_params.add(index).read() })?;
        let place = base + *offset as usize..base + *offset as usize + *size as usize;
        let place = packed.get_mut(place).ok_or(CUresult::INVALID_VALUE)?;
        // SAFETY: the caller's promise; the places were sized by the same layout.
        unsafe {
            place
                .as_mut_ptr()
                .copy_from_nonoverlapping(parameter.cast(), place.len())
        };
    }
    Ok(())
}

/// # Safety
/// `extra` is a list of names and values that ends in `CU_LAUNCH_PARAM_END`.
unsafe fn pack_buffer(
    bytes: usize,
    extra: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    let mut buffer: Option<*const u8> = None;
    let mut size: Option<usize> = None;
    for index in (0..MAX_EXTRA).step_by(2) {
        // SAFETY: the list has not ended yet, so a name is here.
        let name = unsafe { extra.add(index).read() }.addr();
        if name == END {
            break;
        }
        // SAFETY: a name is followed by its value.
        let value = unsafe { extra.add(index + 1).read() };
        match name {
            BUFFER_POINTER => buffer = Some(value.cast_const().cast()),
            // SAFETY: the value points to a size.
            BUFFER_SIZE => size = Some(unsafe { out(value.cast::<usize>())?.read() }),
            _ => return Err(CUresult::INVALID_VALUE),
        }
    }
    let (Some(buffer), Some(size)) = (buffer, size) else {
        return Err(CUresult::INVALID_VALUE);
    };
    if size > MAX_PARAMETER_BYTES || size < bytes || (buffer.is_null() && size > 0) {
        return Err(CUresult::INVALID_VALUE);
    }
    if size > 0 {
        // SAFETY: the program's buffer of this size, copied before this returns.
        packed.extend_from_slice(unsafe { std::slice::from_raw_parts(buffer, size) });
    }
    Ok(())
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
    let launch = Launch::new(grid, block, shared_mem_bytes, stream);
    // SAFETY: the same contract.
    code(unsafe { launch.run(f, kernel_params, extra) })
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
    let mut launch = Launch::new(grid, block, shared_mem_bytes, stream);
    launch.cooperative = true;
    // SAFETY: the same contract.
    code(unsafe { launch.run(f, kernel_params, core::ptr::null_mut()) })
}

/// Launch attributes that hold no handle and mean the same on the server: access policy window (1), cooperative (2), cluster dimension
/// (4), cluster scheduling (5), programmatic serialization (6), priority (8), cluster spread and preferred cluster (11), shared memory carve-out (14).
const PLAIN_ATTRIBUTES: [c_uint; 8] = [1, 2, 4, 5, 6, 8, 11, 14];
/// `CU_LAUNCH_ATTRIBUTE_IGNORE`.
const IGNORE: c_uint = 0;

/// # Safety
/// `attributes` has `count` elements.
unsafe fn take_attributes(
    launch: &mut Launch,
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
        if !PLAIN_ATTRIBUTES.contains(&attribute.id) {
            log::warn_once(
                "cuLaunchKernelEx",
                format_args!(
                    "cuLaunchKernelEx: launch attribute {} is not supported",
                    attribute.id
                ),
            );
            return Err(CUresult::NOT_SUPPORTED);
        }
        launch
            .attributes
            .extend_from_slice(&attribute.id.to_le_bytes());
        launch.attributes.extend_from_slice(&attribute.pad);
        launch.attributes.extend_from_slice(&attribute.value);
        launch.attribute_count += 1;
    }
    Ok(())
}

pub(crate) unsafe fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    f: CUfunction,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    code((|| {
        if config.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null, readable by the API's contract.
        let config = unsafe { config.read() };
        let grid = [config.grid_dim_x, config.grid_dim_y, config.grid_dim_z];
        let block = [config.block_dim_x, config.block_dim_y, config.block_dim_z];
        let mut launch = Launch::new(grid, block, config.shared_mem_bytes, config.stream);
        // SAFETY: the API's contract.
        unsafe { take_attributes(&mut launch, config.attrs, config.num_attrs as usize) }?;
        // SAFETY: the same contract.
        unsafe { launch.run(f, kernel_params, extra) }
    })())
}
