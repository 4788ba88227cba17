//! Virtual memory: an address is given where it is wanted, and nothing is put there.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_ulonglong;

use driver_api::abi::{
    CUdeviceptr, CUmemAccessDesc, CUmemAllocationGranularity_flags, CUmemAllocationProp,
    CUmemGenericAllocationHandle, CUresult,
};

use crate::entry::answer;
use crate::memory;

const GRANULARITY: usize = 2 << 20;
/// Every piece of physical memory.
const PHYSICAL: CUmemGenericAllocationHandle = 0x6000;

pub(crate) unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    _prop: *const CUmemAllocationProp,
    _option: CUmemAllocationGranularity_flags,
) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(granularity, GRANULARITY) }
}

pub(crate) unsafe fn cuMemAddressReserve(
    ptr: *mut CUdeviceptr,
    size: usize,
    _alignment: usize,
    addr: CUdeviceptr,
    _flags: c_ulonglong,
) -> CUresult {
    let address = match addr {
        0 => memory::place(size),
        wanted => wanted,
    };
    // SAFETY: the caller's place.
    unsafe { answer(ptr, address) }
}

pub(crate) unsafe fn cuMemAddressFree(_ptr: CUdeviceptr, _size: usize) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemCreate(
    handle: *mut CUmemGenericAllocationHandle,
    _size: usize,
    _prop: *const CUmemAllocationProp,
    _flags: c_ulonglong,
) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(handle, PHYSICAL) }
}

pub(crate) unsafe fn cuMemRelease(_handle: CUmemGenericAllocationHandle) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemMap(
    _ptr: CUdeviceptr,
    _size: usize,
    _offset: usize,
    _handle: CUmemGenericAllocationHandle,
    _flags: c_ulonglong,
) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemUnmap(_ptr: CUdeviceptr, _size: usize) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuMemSetAccess(
    _ptr: CUdeviceptr,
    _size: usize,
    _desc: *const CUmemAccessDesc,
    _count: usize,
) -> CUresult {
    CUresult::SUCCESS
}
