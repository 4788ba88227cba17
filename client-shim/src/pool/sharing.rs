//! Pools of other processes of the lease: what is in them is theirs, and can be imported piece by piece.
//!
//! ```text
//!  cuMemPoolExportToShareableHandle ── a descriptor ──▶ cuMemPoolImportFromShareableHandle: a pool that gives no memory
//!  cuMemPoolExportPointer ──────────── 64 bytes ──────▶ cuMemPoolImportPointer: a piece of it, until cuMemFree or cuMemFreeAsync
//! ```
//!
//! *What:* the descriptor is of a small sealed file that names the pool: by a key of its own making, and the device. What is said of a pointer names the
//! mapping that it lies in, as a handle of `cuIpcGetMemHandle` does ([`crate::ipc`]), and the pool. *Rules:* a pool is a name only, known to no worker;
//! memory is believed by what the worker says of it. A piece is imported as often as it is freed.
//!
//! # Safety
//! Functions named like the driver's write results through pointers that they have checked for null, and read what the API documents.
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_ulonglong, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::sync::Arc;

use driver_api::abi::{
    CUdeviceptr, CUmemAllocationHandleType, CUmemPoolPtrExportData, CUmemoryPool, CUresult,
};
use rustix::rand::{GetRandomFlags, getrandom};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Pool, make, pool_of};
use crate::entry::code;
use crate::handles::Handle;
use crate::memory::out;
use crate::session::{self, Session};
use crate::{ipc, token};

/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const POSIX_DESCRIPTOR: CUmemAllocationHandleType = 1;
/// `CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES`.
const SUPPORTED: u32 = 119;

const MAGIC: [u8; 8] = *b"gppool01";

/// What names a pool.
type Key = [u8; 16];

/// Whose pool it is, and who may have it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process's alone.
    Unshared,
    /// This process's, for others as well.
    Exportable(Key),
    /// Another process's.
    Imported(Key),
}

impl Origin {
    /// Of a new pool that can be exported by handles of these kinds.
    pub(super) fn of_new(
        session: &Session,
        device: usize,
        kinds: CUmemAllocationHandleType,
    ) -> Result<Self, CUresult> {
        if kinds == 0 {
            return Ok(Self::Unshared);
        }
        let supported = session.devices[device].attribute(SUPPORTED)?;
        if kinds != POSIX_DESCRIPTOR || supported as u32 & kinds == 0 {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let mut key = Key::default();
        getrandom(&mut key, GetRandomFlags::empty()).map_err(|_| CUresult::OPERATING_SYSTEM)?;
        Ok(Self::Exportable(key))
    }

    pub(super) fn is_exportable(self) -> bool {
        matches!(self, Self::Exportable(_))
    }

    pub(super) fn is_imported(self) -> bool {
        matches!(self, Self::Imported(_))
    }
}

/// What is in the file.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Token {
    magic: [u8; 8],
    pool: Key,
    device: [u8; 16],
}

impl Pool {
    /// The key by which other processes know it.
    fn exported_key(&self) -> Result<Key, CUresult> {
        match self.origin {
            Origin::Exportable(key) => Ok(key),
            Origin::Unshared | Origin::Imported(_) => Err(CUresult::INVALID_VALUE),
        }
    }
}

fn export(session: &Session, pool: &Pool) -> Result<RawFd, CUresult> {
    let token = Token {
        magic: MAGIC,
        pool: pool.exported_key()?,
        device: session.devices[pool.device].identity().uuid,
    };
    let file = token::file("gpurun-pool", &token).map_err(|_| CUresult::OPERATING_SYSTEM)?;
    Ok(file.into_raw_fd())
}

pub(crate) unsafe fn cuMemPoolExportToShareableHandle(
    handle_out: *mut c_void,
    pool: CUmemoryPool,
    handle_type: CUmemAllocationHandleType,
    flags: c_ulonglong,
) -> CUresult {
    code((|| {
        let place = out(handle_out.cast::<RawFd>())?;
        let session = session::get()?;
        let pool = pool_of(pool)?;
        if handle_type != POSIX_DESCRIPTOR || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let descriptor = export(session, &pool)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(descriptor) };
        Ok(())
    })())
}

fn import(session: &Session, token: &Token) -> Result<Arc<Pool>, CUresult> {
    let mut devices = session.devices.iter();
    let device = devices.position(|device| device.identity().uuid == token.device);
    let device = device.ok_or(CUresult::INVALID_DEVICE)?;
    let origin = Origin::Imported(token.pool);
    Ok(make(session, device, None, false, origin))
}

pub(crate) unsafe fn cuMemPoolImportFromShareableHandle(
    pool_out: *mut CUmemoryPool,
    handle: *mut c_void,
    handle_type: CUmemAllocationHandleType,
    flags: c_ulonglong,
) -> CUresult {
    code((|| {
        let place = out(pool_out)?;
        let session = session::get()?;
        let descriptor = RawFd::try_from(handle.addr()).map_err(|_| CUresult::INVALID_VALUE)?;
        if handle_type != POSIX_DESCRIPTOR || flags != 0 || descriptor < 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not -1; the API's contract says that it is open, and it is only read from.
        let token = token::read::<Token>(unsafe { BorrowedFd::borrow_raw(descriptor) });
        let token = token.filter(|token| token.magic == MAGIC);
        let pool = import(session, &token.ok_or(CUresult::INVALID_VALUE)?)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUmemoryPool::dress(pool.id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemPoolExportPointer(
    share_data_out: *mut CUmemPoolPtrExportData,
    ptr: CUdeviceptr,
) -> CUresult {
    code((|| {
        let place = out(share_data_out.cast::<[u8; 64]>())?;
        let session = session::get()?;
        let used = session.objects.stream_ordered.used().get(&ptr).cloned();
        let used = used.ok_or(CUresult::INVALID_VALUE)?;
        let key = used.pool.exported_key()?;
        let allocation = session.objects.memory.exportable(ptr)?;
        let data = ipc::export_of_pool(session, &allocation, key)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(data) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemPoolImportPointer(
    ptr_out: *mut CUdeviceptr,
    pool: CUmemoryPool,
    share_data: *mut CUmemPoolPtrExportData,
) -> CUresult {
    code((|| {
        let (place, data) = (out(ptr_out)?, out(share_data.cast::<[u8; 64]>())?);
        let (session, context) = session::current()?;
        let pool = pool_of(pool)?;
        let Origin::Imported(key) = pool.origin else {
            return Err(CUresult::INVALID_VALUE);
        };
        // SAFETY: checked by `out`, and as long as that by the API's contract.
        let data = unsafe { data.read() };
        let opened = ipc::open_of_pool(session, &context, &data, (key, pool.device));
        let (start, size) = opened.map_err(|error| match error {
            // What is wrong is what was said of the pointer.
            CUresult::INVALID_HANDLE => CUresult::INVALID_VALUE,
            error => error,
        })?;
        let pools = &session.objects.stream_ordered;
        pools.note(start, &pool, size, context.id);
        // SAFETY: checked by `out`.
        unsafe { place.write(start) };
        Ok(())
    })())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_names_a_pool_and_cannot_be_changed() {
        let token = Token {
            magic: MAGIC,
            pool: [3; 16],
            device: [9; 16],
        };
        let file = token::file("test", &token).expect("a file");
        assert_eq!(token::read::<Token>(file.as_fd()), Some(token));
        assert!(rustix::io::pwrite(&file, &[0], 0).is_err());
        let (reader, _writer) = rustix::pipe::pipe().expect("a pipe");
        assert_eq!(token::read::<Token>(reader.as_fd()), None);
    }
}
