//! How many blocks fit on a multiprocessor.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`]. A program's function
//! that tells the shared memory of a block size is called with block sizes.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint};
use std::sync::Arc;

use driver_api::abi::{CUfunction, CUlaunchConfig, CUoccupancyB2DSize, CUresult};

use crate::context::current;
use crate::device::Limits;
use crate::entry::{answer, answer_if_asked};
use crate::exec::{ProgramAttributes, REGISTER_UNIT};
use crate::launch::{Shape, cluster, has_clusters, shape_of};
use crate::module::{Function, find_function};
use crate::state::driver;

const WARP: u32 = 32;

/// Blocks of a kernel that one multiprocessor holds.
pub(crate) fn blocks(
    limits: &Limits,
    kernel: &ProgramAttributes,
    block_threads: u32,
    dynamic_shared: usize,
) -> u32 {
    let most = limits.threads_per_block.min(kernel.max_threads.max(1));
    if block_threads == 0 || block_threads > most {
        return 0;
    }
    let warps = block_threads.div_ceil(WARP);
    let by_threads = limits.threads_per_multiprocessor / (warps * WARP);
    let registers = (kernel.registers * WARP).next_multiple_of(REGISTER_UNIT) * warps;
    let by_registers = limits.registers_per_multiprocessor.checked_div(registers);
    let shared = dynamic_shared
        .saturating_add(kernel.shared_bytes as usize)
        .saturating_add(limits.shared_reserved_per_block as usize);
    let by_shared = (limits.shared_per_multiprocessor as usize)
        .checked_div(shared)
        .map_or(u32::MAX, |blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
    limits
        .blocks_per_multiprocessor
        .min(by_threads)
        .min(by_registers.unwrap_or(u32::MAX))
        .min(by_shared)
}

fn limits() -> Result<Limits, CUresult> {
    Ok(Limits::of(driver()?.config.capability))
}

fn blocks_of(func: CUfunction, block_size: c_int, shared: usize) -> Result<c_int, CUresult> {
    current()?;
    let threads = u32::try_from(block_size).map_err(|_| CUresult::INVALID_VALUE)?;
    if threads == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let kernel = find_function(func)?.program()?.attributes();
    Ok(blocks(&limits()?, &kernel, threads, shared) as c_int)
}

pub(crate) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    num_blocks: *mut c_int,
    func: CUfunction,
    block_size: c_int,
    dynamic_s_mem_size: usize,
) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(num_blocks, blocks_of(func, block_size, dynamic_s_mem_size)) }
}

pub(crate) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    num_blocks: *mut c_int,
    func: CUfunction,
    block_size: c_int,
    dynamic_s_mem_size: usize,
    flags: c_uint,
) -> CUresult {
    if flags > 1 {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(num_blocks, blocks_of(func, block_size, dynamic_s_mem_size)) }
}

pub(crate) unsafe fn cuOccupancyAvailableDynamicSMemPerBlock(
    dynamic_smem_size: *mut usize,
    func: CUfunction,
    num_blocks: c_int,
    block_size: c_int,
) -> CUresult {
    let available = || {
        let limits = limits()?;
        let wanted = u32::try_from(num_blocks).unwrap_or(0);
        if wanted == 0 || blocks_of(func, block_size, 0)? < num_blocks {
            return Err(CUresult::INVALID_VALUE);
        }
        let kernel = find_function(func)?.program()?.attributes();
        let share = limits.shared_per_multiprocessor / wanted;
        let taken = kernel.shared_bytes + limits.shared_reserved_per_block;
        let most = limits
            .shared_per_block_opt_in
            .saturating_sub(kernel.shared_bytes);
        Ok(share.saturating_sub(taken).min(most) as usize)
    };
    // SAFETY: the caller passes a place for a size.
    unsafe { answer(dynamic_smem_size, available()) }
}

/// The block size with which most threads are resident, and the blocks that fill the device.
fn best(
    func: CUfunction,
    shared: impl Fn(c_int) -> usize,
    limit: c_int,
) -> Result<(c_int, c_int), CUresult> {
    current()?;
    let (driver, limits) = (driver()?, limits()?);
    let kernel = find_function(func)?.program()?.attributes();
    let most = limits.threads_per_block.min(kernel.max_threads.max(1));
    let most = if limit > 0 {
        most.min(limit as u32)
    } else {
        most
    };
    let sizes = (1..=most.div_ceil(WARP))
        .rev()
        .map(|warps| (warps * WARP).min(most));
    let (_, size, count) = sizes
        .map(|size| {
            let count = blocks(&limits, &kernel, size, shared(size as c_int));
            (count * size, size, count)
        })
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .ok_or(CUresult::INVALID_VALUE)?;
    Ok((
        count as c_int * driver.config.threads as c_int,
        size as c_int,
    ))
}

/// # Safety
///
/// The pointers are null or places for numbers; the function takes a block size.
unsafe fn potential(
    (min_grid_size, block_size): (*mut c_int, *mut c_int),
    func: CUfunction,
    by_size: CUoccupancyB2DSize,
    dynamic: usize,
    limit: c_int,
) -> CUresult {
    let shared = |size| match by_size {
        // SAFETY: by contract.
        Some(by_size) => unsafe { by_size(size) },
        None => dynamic,
    };
    match best(func, shared, limit) {
        Err(error) => error,
        Ok((grid, block)) => {
            // SAFETY: by contract.
            unsafe {
                answer_if_asked(min_grid_size, grid);
                answer_if_asked(block_size, block);
            }
            CUresult::SUCCESS
        }
    }
}

pub(crate) unsafe fn cuOccupancyMaxPotentialBlockSize(
    min_grid_size: *mut c_int,
    block_size: *mut c_int,
    func: CUfunction,
    block_size_to_dynamic_s_mem_size: CUoccupancyB2DSize,
    dynamic_s_mem_size: usize,
    block_size_limit: c_int,
) -> CUresult {
    let places = (min_grid_size, block_size);
    let by_size = block_size_to_dynamic_s_mem_size;
    // SAFETY: the caller's promises are the same.
    unsafe { potential(places, func, by_size, dynamic_s_mem_size, block_size_limit) }
}

pub(crate) unsafe fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid_size: *mut c_int,
    block_size: *mut c_int,
    func: CUfunction,
    block_size_to_dynamic_s_mem_size: CUoccupancyB2DSize,
    dynamic_s_mem_size: usize,
    block_size_limit: c_int,
    flags: c_uint,
) -> CUresult {
    if flags > 1 {
        return CUresult::INVALID_VALUE;
    }
    let places = (min_grid_size, block_size);
    let by_size = block_size_to_dynamic_s_mem_size;
    // SAFETY: the caller's promises are the same.
    unsafe { potential(places, func, by_size, dynamic_s_mem_size, block_size_limit) }
}

/// A function, a configuration, and how many of its blocks a multiprocessor holds.
///
/// # Safety
///
/// The caller's promises to the driver's function.
unsafe fn clustered(
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> Result<(Arc<Function>, Shape, u32), CUresult> {
    // SAFETY: the caller passes a configuration.
    let (shape, _) = unsafe { shape_of(config) }?;
    let threads = shape
        .block
        .iter()
        .try_fold(1, |all: u32, size| all.checked_mul(*size));
    let threads = threads.and_then(|threads| c_int::try_from(threads).ok());
    let threads = threads.ok_or(CUresult::INVALID_VALUE)?;
    let each = blocks_of(func, threads, shape.shared as usize)?;
    Ok((find_function(func)?, shape, each as u32))
}

/// How many clusters of a launch there are at a time. Where there are clusters, their size has to be said.
///
/// # Safety
///
/// The caller's promises to the driver's function.
unsafe fn active_clusters(
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> Result<c_int, CUresult> {
    // SAFETY: the caller's promises are the same.
    let (function, shape, each) = unsafe { clustered(func, config) }?;
    let size = cluster::size(&function, &shape.attributes)?;
    if size.is_none() && has_clusters()? {
        return Err(CUresult::INVALID_CLUSTER_SIZE);
    }
    let blocks = size.and_then(cluster::blocks).unwrap_or(1).max(1);
    let all = cluster::resident(each.into(), size) / u64::from(blocks);
    let all = all.saturating_mul(driver()?.config.threads as u64);
    Ok(c_int::try_from(all).unwrap_or(c_int::MAX))
}

/// How many blocks a cluster of a function can have: none if not even one fits.
///
/// # Safety
///
/// The caller's promises to the driver's function.
unsafe fn largest_cluster(
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> Result<c_int, CUresult> {
    // SAFETY: the caller's promises are the same.
    let (function, shape, each) = unsafe { clustered(func, config) }?;
    let required = cluster::required(&function)?.and_then(cluster::blocks);
    let most = match required {
        _ if each == 0 => 0,
        Some(blocks) => blocks,
        None => cluster::most_blocks(&function, &shape.attributes)?,
    };
    Ok(most as c_int)
}

pub(crate) unsafe fn cuOccupancyMaxActiveClusters(
    num_clusters: *mut c_int,
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    // SAFETY: the caller passes a place for a number, and a configuration.
    unsafe { answer(num_clusters, active_clusters(func, config)) }
}

pub(crate) unsafe fn cuOccupancyMaxPotentialClusterSize(
    cluster_size: *mut c_int,
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    // SAFETY: the caller passes a place for a number, and a configuration.
    unsafe { answer(cluster_size, largest_cluster(func, config)) }
}
