//! Who a device is: count, handles, name, UUID, compute capability. The same that CUDA says in this program.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::{c_char, c_int, c_uint};

use crate::answer::{get_text, guarded, put, put_text};
use crate::layout::{INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Return};
use crate::state::{self, with_usage};

/// How many devices this program may see.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    guarded(|| {
        let devices = state::server()?.devices.len();
        put(count, c_uint::try_from(devices).unwrap_or(c_uint::MAX))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetCount(count: *mut c_uint) -> Return {
    nvmlDeviceGetCount_v2(count)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut usize,
) -> Return {
    guarded(|| {
        let index = index as usize;
        state::server()?
            .devices
            .get(index)
            .ok_or(INVALID_ARGUMENT)?;
        put(device, state::handle(index))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut usize) -> Return {
    nvmlDeviceGetHandleByIndex_v2(index, device)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    device: *mut usize,
) -> Return {
    guarded(|| {
        let devices = &state::server()?.devices;
        let uuid = get_text(uuid)?;
        let found = devices
            .iter()
            .position(|device| device.uuid_text().eq_ignore_ascii_case(uuid));
        put(device, state::handle(found.ok_or(NOT_FOUND)?))
    })
}

/// The number of a device.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetIndex(device: usize, index: *mut c_uint) -> Return {
    guarded(|| {
        let (number, _) = state::device(device)?;
        put(index, c_uint::try_from(number).unwrap_or(c_uint::MAX))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetName(
    device: usize,
    name: *mut c_char,
    length: c_uint,
) -> Return {
    guarded(|| put_text(name, length, &state::device(device)?.1.name))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetUUID(
    device: usize,
    uuid: *mut c_char,
    length: c_uint,
) -> Return {
    guarded(|| put_text(uuid, length, &state::device(device)?.1.uuid_text()))
}

/// The board's serial number, where the device has one.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetSerial(
    device: usize,
    serial: *mut c_char,
    length: c_uint,
) -> Return {
    guarded(|| {
        with_usage(device, |_, usage| match usage.serial.as_str() {
            "" => Err(NOT_SUPPORTED),
            number => put_text(serial, length, number),
        })
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: usize,
    major: *mut c_int,
    minor: *mut c_int,
) -> Return {
    guarded(|| {
        let (_, device) = state::device(device)?;
        put(major, c_int::try_from(device.compute_major).unwrap_or(0))?;
        put(minor, c_int::try_from(device.compute_minor).unwrap_or(0))
    })
}

/// No device here is a part of a parted one.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceIsMigDeviceHandle(device: usize, is_mig: *mut c_uint) -> Return {
    guarded(|| {
        state::device(device)?;
        put(is_mig, 0)
    })
}
