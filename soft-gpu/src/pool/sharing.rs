//! Pools of other processes, whose allocations are imported one by one.
//!
//! The descriptor of a pool is of a small file that says which process has it, under which number, and of which device it is. What is said of an
//! allocation is what a handle of `cuIpcGetMemHandle` says ([`crate::ipc`]), and the pool. An imported allocation is the importing process's, charged to who
//! made it; it goes with `cuMemFree` or, at its place in a stream, with `cuMemFreeAsync`, as the pool's own do.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_ulonglong, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};

use driver_api::abi::{
    CUdeviceptr, CUmemAllocationHandleType, CUmemPoolPtrExportData, CUmemoryPool, CUresult,
};
use rustix::fs::{MemfdFlags, SealFlags};

use super::Pool;
use crate::entry::answer;
use crate::ipc::{Bytes, Token, export_of_pool, import_of_pool, place_of_device};
use crate::state::{Driver, driver};
use crate::threads::lock;

/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const HANDLE_POSIX_FD: CUmemAllocationHandleType = 1;

/// Whose a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process's alone.
    Unshared,
    /// This process's, for others as well.
    Exportable,
    /// Another process's, by what names that and its number for the pool.
    Imported(Token, u64),
}

impl Origin {
    /// Of a new pool that can be exported by handles of these kinds.
    pub(super) fn of_new(kinds: CUmemAllocationHandleType) -> Result<Self, CUresult> {
        match kinds {
            0 => Ok(Self::Unshared),
            HANDLE_POSIX_FD => Ok(Self::Exportable),
            _ => Err(CUresult::NOT_SUPPORTED),
        }
    }

    pub(super) fn is_imported(self) -> bool {
        matches!(self, Self::Imported(..))
    }
}

/// What is in the file of a pool: this, the process's token, its number for the pool, and the device's on the machine.
const MAGIC: [u8; 8] = *b"softpool";
type Contents = [u8; 40];

fn new_file(driver: &Driver, pool: &Pool) -> Result<OwnedFd, CUresult> {
    let numbers = [pool.handle, crate::device::number(pool.device)];
    let numbers = numbers.map(|number| (number as u64).to_le_bytes());
    let mut contents: Contents = [0; 40];
    contents[..8].copy_from_slice(&MAGIC);
    contents[8..24].copy_from_slice(&driver.ipc.token()?);
    contents[24..].copy_from_slice(numbers.as_flattened());
    write(&contents).map_err(|_| CUresult::OPERATING_SYSTEM)
}

fn write(contents: &Contents) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("gpurun-soft-pool", flags)?;
    if rustix::io::pwrite(&file, contents, 0)? != contents.len() {
        return Err(rustix::io::Errno::IO);
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// The device here of the pool in a file, and whose it is.
fn read(driver: &Driver, file: BorrowedFd<'_>) -> Result<(usize, Origin), CUresult> {
    let mut contents: Contents = [0; 40];
    let read = rustix::io::pread(file, &mut contents, 0);
    if read != Ok(contents.len()) || contents[..8] != MAGIC {
        return Err(CUresult::INVALID_VALUE);
    }
    let mut token = Token::default();
    token.copy_from_slice(&contents[8..24]);
    let (numbers, _) = contents[24..].as_chunks::<8>();
    let [pool, device] = [0, 1].map(|index| u64::from_le_bytes(numbers[index]));
    let device = place_of_device(driver, device).ok_or(CUresult::INVALID_DEVICE)?;
    Ok((device, Origin::Imported(token, pool)))
}

pub(crate) unsafe fn cuMemPoolExportToShareableHandle(
    handle_out: *mut c_void,
    pool: CUmemoryPool,
    handle_type: CUmemAllocationHandleType,
    flags: c_ulonglong,
) -> CUresult {
    let export = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(pool.0)?;
        let is_exportable = pool.origin == Origin::Exportable;
        if !is_exportable || handle_type != HANDLE_POSIX_FD || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(new_file(driver, &pool)?.into_raw_fd())
    };
    if handle_out.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: for this type of handle, the caller passes a place for a descriptor.
    unsafe { answer(handle_out.cast::<c_int>(), export()) }
}

pub(crate) unsafe fn cuMemPoolImportFromShareableHandle(
    pool_out: *mut CUmemoryPool,
    handle: *mut c_void,
    handle_type: CUmemAllocationHandleType,
    flags: c_ulonglong,
) -> CUresult {
    let import = || {
        let driver = driver()?;
        let descriptor = c_int::try_from(handle as isize).unwrap_or(-1);
        if handle_type != HANDLE_POSIX_FD || flags != 0 || descriptor < 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes an open descriptor, which is only read from.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let (device, origin) = read(driver, file)?;
        let handle = Pool::add(&driver.pools.all, device, 0, origin);
        Ok(CUmemoryPool(handle))
    };
    if pool_out.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pool_out, import()) }
}

fn export(ptr: CUdeviceptr) -> Result<Bytes, CUresult> {
    let driver = driver()?;
    let found = driver.memory.place_of(ptr);
    let (region, place) = found.ok_or(CUresult::INVALID_VALUE)?;
    let pool = driver.pools.owner(region.id, region.device)?;
    let is_there = lock(&pool.state)
        .live
        .get(&region.id)
        .is_some_and(|live| !live.is_leaving);
    match is_there && pool.origin == Origin::Exportable {
        true => export_of_pool(driver, &region, place, pool.handle),
        false => Err(CUresult::INVALID_VALUE),
    }
}

pub(crate) unsafe fn cuMemPoolExportPointer(
    share_data_out: *mut CUmemPoolPtrExportData,
    ptr: CUdeviceptr,
) -> CUresult {
    if share_data_out.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for so many bytes.
    unsafe { answer(share_data_out.cast::<Bytes>(), export(ptr)) }
}

pub(crate) unsafe fn cuMemPoolImportPointer(
    ptr_out: *mut CUdeviceptr,
    pool: CUmemoryPool,
    share_data: *mut CUmemPoolPtrExportData,
) -> CUresult {
    if ptr_out.is_null() || share_data.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let import = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(pool.0)?;
        let Origin::Imported(token, number) = pool.origin else {
            return Err(CUresult::INVALID_VALUE);
        };
        // SAFETY: the caller passes so many bytes.
        let data = unsafe { share_data.cast::<Bytes>().read_unaligned() };
        let region = import_of_pool(driver, &data, (token, number), pool.handle);
        let region = region.map_err(|error| match error {
            // What is wrong is what was said of the allocation.
            CUresult::INVALID_HANDLE => CUresult::INVALID_VALUE,
            error => error,
        })?;
        pool.note(region.id, region.taken());
        Ok(region.base)
    };
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(ptr_out, import()) }
}
