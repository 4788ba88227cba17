//! Memory: pinned memory is real, device memory is numbers, a copy moves nothing.
//!
//! # Safety
//! Functions write through the places that their caller passed. Pinned memory is given and taken back with the layout that its
//! registry holds, and a value is written only where the registry, locked meanwhile, says that eight bytes of it are.
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_void};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use driver_api::abi::{CUdeviceptr, CUresult, CUstream};

use crate::device::MEMORY_BYTES;
use crate::entry::answer;

const PAGE_BYTES: usize = 4096;
/// Device memory that a client did not place begins here, where nothing else is.
const PLACED_BY_DRIVER: u64 = 0x3000_0000_0000;

/// Pinned allocations by address.
static PINNED: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());

fn pinned() -> MutexGuard<'static, BTreeMap<usize, Layout>> {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `cuStreamWriteValue64` does.
pub(crate) fn write_pinned(address: CUdeviceptr, value: u64) -> CUresult {
    let Ok(address) = usize::try_from(address) else {
        return CUresult::INVALID_VALUE;
    };
    let pinned = pinned();
    let is_inside = pinned
        .range(..=address)
        .next_back()
        .is_some_and(|(start, layout)| address - start + 8 <= layout.size());
    if !is_inside || !address.is_multiple_of(8) {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: eight aligned bytes of an allocation that lives while the registry is locked.
    unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(address)) }
        .store(value, Ordering::Release);
    CUresult::SUCCESS
}

/// An address that no other allocation of this driver has.
pub(crate) fn place(bytes: usize) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(PLACED_BY_DRIVER);
    let rounded = bytes.next_multiple_of(PAGE_BYTES) as u64;
    NEXT.fetch_add(rounded, Ordering::Relaxed)
}

pub(crate) unsafe fn cuMemHostAlloc(
    pp: *mut *mut c_void,
    bytesize: usize,
    _flags: c_uint,
) -> CUresult {
    let Ok(layout) = Layout::from_size_align(bytesize, PAGE_BYTES) else {
        return CUresult::OUT_OF_MEMORY;
    };
    if bytesize == 0 || pp.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the layout's size is not zero.
    let address = unsafe { std::alloc::alloc_zeroed(layout) };
    if address.is_null() {
        return CUresult::OUT_OF_MEMORY;
    }
    pinned().insert(address.expose_provenance(), layout);
    // SAFETY: the caller's place.
    unsafe { answer(pp, address.cast()) }
}

pub(crate) unsafe fn cuMemFreeHost(p: *mut c_void) -> CUresult {
    let Some(layout) = pinned().remove(&p.addr()) else {
        return CUresult::INVALID_VALUE;
    };
    // SAFETY: allocated here with this layout, and no longer in the registry.
    unsafe { std::alloc::dealloc(p.cast(), layout) };
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemHostGetDevicePointer_v2(
    pdptr: *mut CUdeviceptr,
    p: *mut c_void,
    _flags: c_uint,
) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(pdptr, p.addr() as u64) }
}

pub(crate) unsafe fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) -> CUresult {
    if bytesize == 0 || bytesize > MEMORY_BYTES {
        return CUresult::OUT_OF_MEMORY;
    }
    // SAFETY: the caller's place.
    unsafe { answer(dptr, place(bytesize)) }
}

pub(crate) unsafe fn cuMemFree_v2(_dptr: CUdeviceptr) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    // SAFETY: the caller's places.
    unsafe {
        answer(free, MEMORY_BYTES);
        answer(total, MEMORY_BYTES)
    }
}

pub(crate) unsafe fn cuMemcpyHtoD_v2(
    _dst_device: CUdeviceptr,
    _src_host: *const c_void,
    _byte_count: usize,
) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
    _dst_device: CUdeviceptr,
    _src_host: *const c_void,
    _byte_count: usize,
    _stream: CUstream,
) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemcpyDtoH_v2(
    _dst_host: *mut c_void,
    _src_device: CUdeviceptr,
    _byte_count: usize,
) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
    _dst_host: *mut c_void,
    _src_device: CUdeviceptr,
    _byte_count: usize,
    _stream: CUstream,
) -> CUresult {
    CUresult::SUCCESS
}
