//! Occupancy: the block size that fills a multiprocessor, found by asking for the occupancy of sizes, as NVIDIA's own helper does.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null, and call the program's callback as its
//! contract says; a configuration is read with its attributes.
#![expect(unsafe_code, reason = "out parameters and a callback of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_int, c_uint};

use driver_api::abi::{CUfunction, CUlaunchConfig, CUoccupancyB2DSize, CUresult};
use driver_api::id::FunctionId;
use driver_api::wire::request::{
    CuFuncGetAttribute, CuOccupancyMaxActiveBlocksPerMultiprocessor, GpurunClusters,
};

use crate::entry::code;
use crate::launch;
use crate::memory::out;
use crate::module;
use crate::session::{self, Session};

/// `CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK`.
const MAX_THREADS_PER_BLOCK: u32 = 0;
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`, `_MAX_THREADS_PER_MULTIPROCESSOR`, `_WARP_SIZE`.
const MULTIPROCESSORS: u32 = 16;
const THREADS_PER_MULTIPROCESSOR: u32 = 39;
const WARP_SIZE: u32 = 10;

struct Search<'a> {
    session: &'a Session,
    context: u32,
    function: FunctionId,
    shared: CUoccupancyB2DSize,
    shared_bytes: usize,
}

impl Search<'_> {
    /// Blocks of a size that a multiprocessor holds at once.
    fn blocks(&self, size: c_int) -> Result<c_int, CUresult> {
        let shared = match self.shared {
            // SAFETY: the program's callback, for a size that the API may ask for.
            Some(callback) => unsafe { callback(size) },
            None => self.shared_bytes,
        };
        let request =
            CuOccupancyMaxActiveBlocksPerMultiprocessor::new(self.function, size, shared as u64);
        Ok(self
            .session
            .ask_in(self.context, &request, &[])?
            .num_blocks())
    }

    /// From the largest size down in warps: the first that fills a multiprocessor best.
    fn best(&self, most: c_int, warp: c_int, threads: c_int) -> Result<(c_int, c_int), CUresult> {
        let (mut best_size, mut best_blocks) = (0, 0);
        let mut aligned = most.div_ceil_positive(warp) * warp;
        while aligned > 0 {
            let size = aligned.min(most);
            let blocks = self.blocks(size)?;
            if size * blocks > best_size * best_blocks {
                (best_size, best_blocks) = (size, blocks);
            }
            if best_size * best_blocks >= threads {
                break;
            }
            aligned -= warp;
        }
        Ok((best_size, best_blocks))
    }
}

trait DivCeilPositive {
    fn div_ceil_positive(self, by: Self) -> Self;
}

impl DivCeilPositive for c_int {
    fn div_ceil_positive(self, by: Self) -> Self {
        (self + by - 1) / by
    }
}

fn max_potential(
    places: (*mut c_int, *mut c_int),
    function: CUfunction,
    shared: CUoccupancyB2DSize,
    shared_bytes: usize,
    limit: c_int,
) -> Result<(), CUresult> {
    let (grid_place, block_place) = (out(places.0)?, out(places.1)?);
    let (session, context) = session::current()?;
    let device = &session.devices[context.device];
    let function = FunctionId(module::function_of(function)?.id);
    let search = Search {
        session,
        context: context.id,
        function,
        shared,
        shared_bytes,
    };
    let own = session.ask_in(
        context.id,
        &CuFuncGetAttribute::new(MAX_THREADS_PER_BLOCK, function),
        &[],
    )?;
    let most = if limit > 0 {
        limit.min(own.pi())
    } else {
        own.pi()
    };
    let warp = device.attribute(WARP_SIZE)?.max(1);
    let (size, blocks) = search.best(most, warp, device.attribute(THREADS_PER_MULTIPROCESSOR)?)?;
    // SAFETY: checked by `out`.
    unsafe {
        grid_place.write(blocks * device.attribute(MULTIPROCESSORS)?);
        block_place.write(size);
    }
    Ok(())
}

pub(crate) unsafe fn cuOccupancyMaxPotentialBlockSize(
    min_grid_size: *mut c_int,
    block_size: *mut c_int,
    func: CUfunction,
    block_size_to_dynamic_smem_size: CUoccupancyB2DSize,
    dynamic_smem_size: usize,
    block_size_limit: c_int,
) -> CUresult {
    code(max_potential(
        (min_grid_size, block_size),
        func,
        block_size_to_dynamic_smem_size,
        dynamic_smem_size,
        block_size_limit,
    ))
}

pub(crate) unsafe fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid_size: *mut c_int,
    block_size: *mut c_int,
    func: CUfunction,
    block_size_to_dynamic_smem_size: CUoccupancyB2DSize,
    dynamic_smem_size: usize,
    block_size_limit: c_int,
    flags: c_uint,
) -> CUresult {
    if flags > 1 {
        return CUresult::INVALID_VALUE;
    }
    code(max_potential(
        (min_grid_size, block_size),
        func,
        block_size_to_dynamic_smem_size,
        dynamic_smem_size,
        block_size_limit,
    ))
}

/// # Safety
/// `place` is null or the program's place for a number; so is `config`, for a configuration.
unsafe fn clusters(
    place: *mut c_int,
    function: CUfunction,
    config: *const CUlaunchConfig,
    largest: bool,
) -> Result<(), CUresult> {
    let place = out(place)?;
    // SAFETY: the caller's promise.
    let (shape, _) = unsafe { launch::shape_of(config) }?;
    let (session, context) = session::current()?;
    let request = GpurunClusters::new(
        FunctionId(module::function_of(function)?.id),
        u32::from(largest),
        shape.grid,
        shape.block,
        shape.shared_bytes,
        shape.attributes.len() as u32,
    );
    let attributes = launch::attributes(&shape);
    let reply = session.ask_in(context.id, &request, &attributes)?;
    // SAFETY: checked by `out`.
    unsafe { place.write(reply.number()) };
    Ok(())
}

pub(crate) unsafe fn cuOccupancyMaxActiveClusters(
    num_clusters: *mut c_int,
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    code(unsafe { clusters(num_clusters, func, config, false) })
}

pub(crate) unsafe fn cuOccupancyMaxPotentialClusterSize(
    cluster_size: *mut c_int,
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    code(unsafe { clusters(cluster_size, func, config, true) })
}
