//! The one device: its name says what it is.
//!
//! # Safety
//! Functions write through the places that their caller passed; see [`crate::entry`].
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_char, c_int};

use driver_api::abi::{CUdevice, CUdevice_attribute, CUresult, CUuuid};

use crate::entry::answer;

const NAME: &[u8] = b"null device (computes nothing)\0";
/// What it says its memory has, which it has not.
pub(crate) const MEMORY_BYTES: usize = 1 << 40;

pub(crate) unsafe fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(count, 1) }
}

pub(crate) unsafe fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    if ordinal != 0 {
        return CUresult::INVALID_DEVICE;
    }
    // SAFETY: the caller's place.
    unsafe { answer(device, 0) }
}

pub(crate) unsafe fn cuDeviceGetName(name: *mut c_char, len: c_int, _dev: CUdevice) -> CUresult {
    if name.is_null() || usize::try_from(len).is_ok_and(|len| len < NAME.len()) {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller's buffer has room for the name.
    unsafe {
        name.cast::<u8>()
            .copy_from_nonoverlapping(NAME.as_ptr(), NAME.len())
    };
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, _dev: CUdevice) -> CUresult {
    let value = CUuuid {
        bytes: *b"gpurun null dev.",
    };
    // SAFETY: the caller's place.
    unsafe { answer(uuid, value) }
}

pub(crate) unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, _dev: CUdevice) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(bytes, MEMORY_BYTES) }
}

/// What a client checks launches with, and what makes a worker use virtual memory and 64-bit stream writes.
pub(crate) unsafe fn cuDeviceGetAttribute(
    pi: *mut c_int,
    attrib: CUdevice_attribute,
    _dev: CUdevice,
) -> CUresult {
    let value = match attrib {
        // Threads of a block, together and in x and y; in z.
        1..=3 => 1024,
        4 => 64,
        // Blocks of a grid.
        5 => i32::MAX,
        6 | 7 => 65_535,
        // Shared memory, a warp, multiprocessors, copy engines, registers.
        8 => 48 << 10,
        10 => 32,
        12 => 65_536,
        16 => 1,
        40 => 1,
        // Unified addressing, compute capability 8.0, virtual memory, stream writes of 64 bits.
        41 | 102 | 122 => 1,
        75 => 8,
        _ => 0,
    };
    // SAFETY: the caller's place.
    unsafe { answer(pi, value) }
}
