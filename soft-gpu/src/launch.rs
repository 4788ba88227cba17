//! Launches: of kernels, and of host functions between them.
//!
//! What can be wrong with a launch is found here and answered by the call; what a kernel does wrong is its context's end:
//! the fault is logged with kernel, line and address, and every later call answers it.
//!
//! # Safety
//!
//! The driver's functions read through pointers that their caller passed; see [`crate::entry`]. Each pointer in `kernelParams`
//! points to a parameter of the size that the kernel declares.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod attributes;
pub(crate) mod cluster;
mod replaced;

use core::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use driver_api::abi::{
    CUfunction, CUhostFn, CUlaunchAttribute, CUlaunchConfig, CUresult, CUstream, CUtexref,
};
use driver_api::texture::reference::DEFAULT_UNIT;

use crate::context::{Fate, heap_of};
use crate::coredump;
use crate::device::Limits;
use crate::entry::{done, in_host_function};
use crate::exec::{self, Heap, HostServices, Launch, Program};
use crate::log::{debug, warn};
use crate::module::{Function, find_function};
use crate::occupancy;
use crate::peer::Viewer;
use crate::state::{Driver, driver};
use crate::stream::{Operation, find, own_multiprocessors};
use crate::texture::Slot;

pub(crate) use attributes::{Attributes, Value, has_clusters};
pub(crate) use replaced::*;

const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];

/// The shape of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) attributes: Attributes,
}

impl Shape {
    fn threads(&self) -> u64 {
        self.block.iter().map(|&count| u64::from(count)).product()
    }

    /// Whether the device and the kernel allow it. Gives the size of its clusters, if it has any.
    fn check(
        &self,
        driver: &Driver,
        function: &Function,
        program: &Program,
    ) -> Result<Option<[u32; 3]>, CUresult> {
        let limits = Limits::of(driver.config.capability);
        let within = |counts: [u32; 3], most: [u32; 3]| {
            counts
                .iter()
                .zip(most)
                .all(|(&count, most)| (1..=most).contains(&count))
        };
        if !within(self.grid, MAX_GRID) || !within(self.block, MAX_BLOCK) {
            return Err(CUresult::INVALID_VALUE);
        }
        if self.threads() > limits.threads_per_block.into() {
            return Err(CUresult::INVALID_VALUE);
        }
        if self.shared > function.max_dynamic_shared()? {
            return Err(CUresult::INVALID_VALUE);
        }
        if self.threads() > program.attributes().max_threads.into() {
            return Err(CUresult::LAUNCH_OUT_OF_RESOURCES);
        }
        match function.entry()?.required_threads {
            Some(required) if required != self.block => return Err(CUresult::INVALID_VALUE),
            _ => {}
        }
        let cluster = cluster::size(function, &self.attributes)?;
        if let Some(size) = cluster {
            cluster::check_grid(self.grid, size)?;
        }
        let most = self.resident_each(&limits, program, cluster) * driver.config.threads as u64;
        if self.attributes.cooperative && self.blocks() > most {
            return Err(CUresult::COOPERATIVE_LAUNCH_TOO_LARGE);
        }
        Ok(cluster)
    }

    fn blocks(&self) -> u64 {
        // None is above 2^32, and what is too much is too much.
        self.grid
            .iter()
            .fold(1, |all: u64, &count| all.saturating_mul(count.into()))
    }

    /// How many such blocks a multiprocessor holds at a time.
    fn resident_each(&self, limits: &Limits, program: &Program, cluster: Option<[u32; 3]>) -> u64 {
        let (threads, shared) = (self.threads() as u32, self.shared as usize);
        let each = occupancy::blocks(limits, &program.attributes(), threads, shared);
        cluster::resident(each.into(), cluster)
    }
}

/// The parameters of a kernel in one buffer, from either form in which the driver takes them.
///
/// # Safety
///
/// As for `cuLaunchKernel`.
unsafe fn parameters(
    function: &Function,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<Vec<u8>, CUresult> {
    let entry = function.entry()?;
    let mut buffer = vec![0u8; entry.param_bytes() as usize];
    if !extra.is_null() {
        if !kernel_params.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: by contract.
        unsafe { from_extra(extra, &mut buffer)? };
        return Ok(buffer);
    }
    if kernel_params.is_null() && !entry.params.is_empty() {
        return Err(CUresult::INVALID_VALUE);
    }
    for (index, parameter) in entry.params.iter().enumerate() {
        // SAFETY: by contract, the array has a pointer for each parameter.
        let source = unsafe { kernel_params.add(index).read_unaligned() };
        if source.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let (offset, size) = (parameter.offset as usize, parameter.size as usize);
        let target = buffer
            .get_mut(offset..offset + size)
            .ok_or(CUresult::INVALID_VALUE)?;
        // SAFETY: by contract, it points to a parameter of this size.
        unsafe { core::ptr::copy_nonoverlapping(source.cast(), target.as_mut_ptr(), size) };
    }
    Ok(buffer)
}

/// Reads the list `extra`: keys and values, up to the key 0. A buffer that is shorter than the parameters leaves the rest as it is: NCCL gives that part of a
/// structure of 4 KiB that its kernel will look at.
///
/// # Safety
///
/// `extra` is such a list; the buffer that it names has the size that it names.
unsafe fn from_extra(extra: *mut *mut c_void, buffer: &mut [u8]) -> Result<(), CUresult> {
    const END: usize = 0;
    const BUFFER_POINTER: usize = 1;
    const BUFFER_SIZE: usize = 2;
    /// There are only two keys.
    const MAX_PAIRS: usize = 8;
    let (mut source, mut size) = (core::ptr::null::<u8>(), None);
    for pair in 0..MAX_PAIRS {
        // SAFETY: by contract, the list goes on until its end was seen.
        let key = unsafe { extra.add(2 * pair).read_unaligned() } as usize;
        if key == END {
            break;
        }
        // SAFETY: as above; a key has a value.
        let value = unsafe { extra.add(2 * pair + 1).read_unaligned() };
        match key {
            BUFFER_POINTER => source = value.cast_const().cast(),
            BUFFER_SIZE if !value.is_null() => {
                // SAFETY: by contract, this value points to a size.
                size = Some(unsafe { value.cast::<usize>().read_unaligned() });
            }
            _ => return Err(CUresult::INVALID_VALUE),
        }
    }
    let size = size.ok_or(CUresult::INVALID_VALUE)?;
    if source.is_null() && !buffer.is_empty() {
        return Err(CUresult::INVALID_VALUE);
    }
    let taken = size.min(buffer.len());
    if taken > 0 {
        // SAFETY: by contract, the source has `size` bytes; it is not null, since there are parameters.
        unsafe { core::ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), taken) };
    }
    Ok(())
}

/// A launch with everything that it needs.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The function as the program named it.
    pub(crate) handle: CUfunction,
    pub(crate) function: Arc<Function>,
    program: Arc<Program>,
    pub(crate) shape: Shape,
    /// Blocks of a cluster in each dimension, if it has clusters.
    cluster: Option<[u32; 3]>,
    pub(crate) parameters: Vec<u8>,
    /// Where each parameter is, for those who ask: addresses in `parameters`.
    places: Vec<usize>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) device: usize,
    heap: Option<Arc<Heap>>,
    /// What keeps `references`.
    _slots: Vec<Option<Arc<Slot>>>,
    /// What the module's opaque variables were bound to when it was made.
    references: Vec<u64>,
}

impl Kernel {
    /// A launch in the function's own context, checked.
    ///
    /// # Safety
    ///
    /// As for `cuLaunchKernel`.
    pub(crate) unsafe fn new(
        shape: Shape,
        handle: CUfunction,
        kernel_params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Result<Self, CUresult> {
        let driver = driver()?;
        let function = find_function(handle)?;
        // SAFETY: by contract.
        let parameters = unsafe { parameters(&function, kernel_params, extra)? };
        let context = driver.contexts.get(function.module.context)?;
        let program = function.program()?;
        let cluster = shape.check(driver, &function, &program)?;
        let heap = match program.attributes().uses_heap {
            true => Some(heap_of(&context)?),
            false => None,
        };
        let slots = function.module.bound(driver, &context, &program)?;
        let value = |slot: &Option<Arc<Slot>>| slot.as_ref().map_or(0, |slot| slot.value);
        let references = slots.iter().map(value).collect();
        let start = parameters.as_ptr() as usize;
        let offsets = function.entry()?.params.iter();
        let places = offsets.map(|param| start + param.offset as usize).collect();
        Ok(Self {
            handle,
            program,
            shape,
            cluster,
            parameters,
            places,
            fate: Arc::clone(&context.fate),
            device: context.device,
            heap,
            _slots: slots,
            references,
            function,
        })
    }

    /// The same with another shape.
    pub(crate) fn with_shape(&self, shape: Shape) -> Result<Self, CUresult> {
        let mut places = self.places.clone();
        // SAFETY: the places lie in this launch's own buffer, each with its parameter's size; the array has one for each.
        unsafe {
            Self::new(
                shape,
                self.handle,
                places.as_mut_ptr().cast(),
                core::ptr::null_mut(),
            )
        }
    }

    /// An array of pointers to the parameters, as a launch takes it: good as long as this is there.
    pub(crate) fn places(&self) -> *mut *mut c_void {
        self.places.as_ptr().cast_mut().cast()
    }

    /// Whether all blocks of a cooperative launch are there at a time on so many multiprocessors.
    fn check_resident(&self, multiprocessors: u64) -> Result<(), CUresult> {
        let limits = Limits::of(driver()?.config.capability);
        let each = self
            .shape
            .resident_each(&limits, &self.program, self.cluster);
        match self.shape.attributes.cooperative && self.shape.blocks() > each * multiprocessors {
            true => Err(CUresult::COOPERATIVE_LAUNCH_TOO_LARGE),
            false => Ok(()),
        }
    }

    pub(crate) fn perform(&self) -> Result<(), CUresult> {
        execute(driver()?, self)
    }
}

/// Runs a kernel to its end, on the stream's thread and the pool's.
fn execute(driver: &Driver, kernel: &Kernel) -> Result<(), CUresult> {
    let (shape, program, fate) = (kernel.shape, &*kernel.program, &*kernel.fate);
    let launch = Launch {
        program,
        grid: shape.grid,
        block: shape.block,
        dynamic_shared_bytes: shape.shared,
        params: &kernel.parameters,
        references: &kernel.references,
        cooperative: shape.attributes.cooperative,
        cluster: kernel.cluster,
    };
    let host = HostServices {
        printf: &|bytes| fate.print(bytes),
        operation_budget: driver.config.operation_budget,
        cancelled: &fate.aborted,
        heap: kernel.heap.as_deref(),
        keeps_scene: coredump::is_wanted(driver, kernel),
    };
    if let Some(delay) = driver.config.hostile.delay() {
        std::thread::sleep(delay);
    }
    let snapshot = driver.memory.snapshot(
        driver,
        &Viewer::of(driver, kernel.function.module.context, kernel.device),
    );
    let turn = driver.segment.turn(kernel.device);
    let multiprocessors = own_multiprocessors();
    let result = exec::run_on(&driver.pool, multiprocessors, &launch, &snapshot, &host);
    drop(turn);
    match result {
        Ok(statistics) => {
            debug(&format!("{}: {statistics:?}", program.kernel()));
            Ok(())
        }
        Err(fault) => {
            warn(&fault.to_string());
            coredump::exception(driver, kernel, &fault);
            Err(CUresult(fault.kind.cuda_result()))
        }
    }
}

/// # Safety
///
/// As for `cuLaunchKernel`.
unsafe fn launch(
    shape: Shape,
    function: CUfunction,
    stream: CUstream,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<(), CUresult> {
    let (context, stream) = find(stream)?;
    // SAFETY: by contract.
    let kernel = unsafe { Kernel::new(shape, function, kernel_params, extra)? };
    if kernel.function.module.context != context.handle {
        return Err(CUresult::INVALID_HANDLE);
    }
    if let Some(multiprocessors) = stream.multiprocessors() {
        kernel.check_resident(multiprocessors.len() as u64)?;
    }
    if driver()?.config.hostile.fails_launch() {
        return Err(CUresult::LAUNCH_OUT_OF_RESOURCES);
    }
    context.submit(&stream, Operation::Kernel(Arc::new(kernel)))
}

/// A function of the program's, to be called.
#[derive(Clone, Copy)]
pub(crate) struct HostCall {
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    pub(crate) user_data: *mut c_void,
}

// SAFETY: the driver only hands the pointer back to the program, which gave it for that purpose.
unsafe impl Send for HostCall {}
// SAFETY: as above.
unsafe impl Sync for HostCall {}

impl std::fmt::Debug for HostCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostCall").field(&self.user_data).finish()
    }
}

impl HostCall {
    pub(crate) fn perform(&self) {
        // SAFETY: the program gave function and argument for this call.
        in_host_function(|| unsafe { (self.function)(self.user_data) });
    }
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
    let shape = Shape {
        grid: [grid_dim_x, grid_dim_y, grid_dim_z],
        block: [block_dim_x, block_dim_y, block_dim_z],
        shared: shared_mem_bytes,
        attributes: Attributes::default(),
    };
    // SAFETY: the caller's promises are the same.
    done(unsafe { launch(shape, f, stream, kernel_params, extra) })
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
    let shape = Shape {
        grid: [grid_dim_x, grid_dim_y, grid_dim_z],
        block: [block_dim_x, block_dim_y, block_dim_z],
        shared: shared_mem_bytes,
        attributes: Attributes::cooperative(),
    };
    // SAFETY: the caller's promises are the same.
    done(unsafe { launch(shape, f, stream, kernel_params, core::ptr::null_mut()) })
}

/// What a configuration says, once its attributes are known to ask for nothing that this device lacks.
///
/// # Safety
///
/// `config` is null, or readable with as many attributes as it says.
pub(crate) unsafe fn shape_of(
    config: *const CUlaunchConfig,
) -> Result<(Shape, CUstream), CUresult> {
    if config.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller passes a configuration.
    let config = unsafe { config.read_unaligned() };
    let shape = Shape {
        grid: [config.grid_dim_x, config.grid_dim_y, config.grid_dim_z],
        block: [config.block_dim_x, config.block_dim_y, config.block_dim_z],
        shared: config.shared_mem_bytes,
        // SAFETY: the caller's promise.
        attributes: unsafe { attributes_of(&config) }?,
    };
    Ok((shape, config.stream))
}

/// What a launch's attributes say.
///
/// # Safety
///
/// `config` has as many attributes as it says.
unsafe fn attributes_of(config: &CUlaunchConfig) -> Result<Attributes, CUresult> {
    const MAX_ATTRIBUTES: c_uint = 64;
    if config.num_attrs > MAX_ATTRIBUTES || (config.num_attrs > 0 && config.attrs.is_null()) {
        return Err(CUresult::INVALID_VALUE);
    }
    let mut attributes = Attributes::default();
    for index in 0..config.num_attrs as usize {
        // SAFETY: by contract.
        let CUlaunchAttribute { id, value, .. } =
            unsafe { config.attrs.add(index).read_unaligned() };
        attributes.set(id, &value)?;
    }
    Ok(attributes)
}

pub(crate) unsafe fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    f: CUfunction,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    let launched = unsafe {
        shape_of(config).and_then(|(shape, stream)| launch(shape, f, stream, kernel_params, extra))
    };
    done(launched)
}

pub(crate) unsafe fn cuLaunchHostFunc(
    stream: CUstream,
    function: CUhostFn,
    user_data: *mut c_void,
) -> CUresult {
    let post = || {
        let function = function.ok_or(CUresult::INVALID_VALUE)?;
        let (context, stream) = find(stream)?;
        let call = HostCall {
            function,
            user_data,
        };
        context.submit(&stream, Operation::Host(call))
    };
    done(post())
}

/// How the driver would wait for the function, by blocking or spinning, is no matter here.
pub(crate) unsafe fn cuLaunchHostFunc_v2(
    stream: CUstream,
    function: CUhostFn,
    user_data: *mut c_void,
    sync_mode: c_uint,
) -> CUresult {
    if sync_mode > 1 {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the same contract.
    unsafe { cuLaunchHostFunc(stream, function, user_data) }
}

/// Of the launch interface before CUDA 4.0. A module's texture references are there for its kernels anyway, and no others are allowed.
pub(crate) unsafe fn cuParamSetTexRef(
    function: CUfunction,
    texunit: c_int,
    tex_ref: CUtexref,
) -> CUresult {
    let check = || {
        find_function(function)?;
        let is_there = crate::texture::is_of_module(tex_ref)?;
        match is_there && texunit == DEFAULT_UNIT {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    };
    done(check())
}
