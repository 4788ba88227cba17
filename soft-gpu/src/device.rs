//! Devices: what there are, what they are called, what they can do.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod attributes;

use core::ffi::{CStr, c_char, c_int, c_uint};

use driver_api::abi::{
    CUarray_format, CUatomicOperation, CUdevice, CUdevice_P2PAttribute, CUdevice_attribute,
    CUresult, CUuuid,
};
use driver_api::array::channel_bytes;

pub(crate) use attributes::Limits;

use crate::entry::{answer, answer_if_asked, done};
use crate::state::driver;

pub(crate) const NAME: &str = "gpurun Software GPU";

/// Of the device that this process sees at this place.
pub(crate) fn uuid(device: usize) -> CUuuid {
    uuid_of(number(device))
}

/// The number of the device that this process sees at this place.
pub(crate) fn number(device: usize) -> usize {
    let seen = driver()
        .ok()
        .and_then(|driver| driver.config.visible.get(device));
    seen.copied().unwrap_or(device)
}

/// The same in every process and after every start.
pub(crate) fn uuid_of(device: usize) -> CUuuid {
    let mut bytes = *b"gpurun-soft\0\0\0\0\0";
    // The version and variant of a UUID made by a custom rule.
    bytes[6] = 0x80 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    bytes[15] = device as u8;
    CUuuid { bytes }
}

/// Each device sits on a bus of its own.
pub(crate) fn pci_bus(device: usize) -> c_int {
    0x10 + number(device) as c_int
}

fn pci_id(device: usize) -> String {
    format!("0000:{:02X}:00.0", pci_bus(device))
}

fn index(device: CUdevice) -> Result<usize, CUresult> {
    driver()?.device(device)
}

/// Writes a C string, cut to `length` bytes with its end.
///
/// # Safety
///
/// `target` is null or has `length` bytes.
unsafe fn write_text(target: *mut c_char, length: c_int, text: &str) -> CUresult {
    let room = usize::try_from(length).unwrap_or(0);
    if target.is_null() || room == 0 {
        return CUresult::INVALID_VALUE;
    }
    let count = text.len().min(room - 1);
    // SAFETY: by contract; `count` leaves a byte for the end.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), target.cast(), count);
        target.add(count).write(0);
    }
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe {
        answer(
            count,
            driver().map(|driver| driver.config.devices() as c_int),
        )
    }
}

pub(crate) unsafe fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    // SAFETY: the caller passes a place for an ordinal.
    unsafe { answer(device, index(ordinal).map(|index| index as CUdevice)) }
}

pub(crate) unsafe fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: CUdevice) -> CUresult {
    match index(dev) {
        Err(error) => error,
        // SAFETY: the caller passes `len` bytes.
        Ok(_) => unsafe { write_text(name, len, NAME) },
    }
}

pub(crate) unsafe fn cuDeviceGetUuid(uuid_: *mut CUuuid, dev: CUdevice) -> CUresult {
    // SAFETY: the caller passes a place for a UUID.
    unsafe { answer(uuid_, index(dev).map(uuid)) }
}

pub(crate) unsafe fn cuDeviceGetUuid_v2(uuid_: *mut CUuuid, dev: CUdevice) -> CUresult {
    // SAFETY: the caller passes a place for a UUID.
    unsafe { answer(uuid_, index(dev).map(uuid)) }
}

pub(crate) unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) -> CUresult {
    let total = || {
        index(dev)?;
        Ok(driver()?.segment.memory_bytes() as usize)
    };
    // SAFETY: the caller passes a place for a size.
    unsafe { answer(bytes, total()) }
}

pub(crate) unsafe fn cuDeviceGetTexture1DLinearMaxWidth(
    max_width_in_elements: *mut usize,
    format: CUarray_format,
    argument2: c_uint,
    dev: CUdevice,
) -> CUresult {
    const MOST_ELEMENTS: usize = 1 << 28;
    let width = || {
        index(dev)?;
        channel_bytes(format)?;
        match argument2 {
            1 | 2 | 4 => Ok(MOST_ELEMENTS),
            _ => Err(CUresult::INVALID_VALUE),
        }
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(max_width_in_elements, width()) }
}

pub(crate) unsafe fn cuDeviceGetAttribute(
    pi: *mut c_int,
    attrib: CUdevice_attribute,
    dev: CUdevice,
) -> CUresult {
    let value = || {
        let index = index(dev)?;
        attributes::value(driver()?, index, attrib).ok_or(CUresult::INVALID_VALUE)
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(pi, value()) }
}

pub(crate) unsafe fn cuDeviceComputeCapability(
    major: *mut c_int,
    minor: *mut c_int,
    dev: CUdevice,
) -> CUresult {
    let capability = || {
        index(dev)?;
        Ok(driver()?.config.capability)
    };
    match capability() {
        Err(error) => error,
        Ok(capability) => {
            // SAFETY: the caller passes places for two numbers, or null.
            unsafe {
                answer_if_asked(major, capability.major.into());
                answer_if_asked(minor, capability.minor.into());
            }
            CUresult::SUCCESS
        }
    }
}

pub(crate) unsafe fn cuDeviceGetPCIBusId(
    pci_bus_id: *mut c_char,
    len: c_int,
    dev: CUdevice,
) -> CUresult {
    match index(dev) {
        Err(error) => error,
        // SAFETY: the caller passes `len` bytes.
        Ok(index) => unsafe { write_text(pci_bus_id, len, &pci_id(index)) },
    }
}

pub(crate) unsafe fn cuDeviceGetByPCIBusId(
    dev: *mut CUdevice,
    pci_bus_id: *const c_char,
) -> CUresult {
    let find = || {
        if pci_bus_id.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes a C string.
        let wanted = unsafe { CStr::from_ptr(pci_bus_id) };
        let wanted = wanted.to_str().map_err(|_| CUresult::INVALID_VALUE)?;
        (0..driver()?.config.devices())
            .find(|&index| {
                let id = pci_id(index);
                // Domain and function may be left out.
                [&id[..], &id[5..], &id[..10], &id[5..10]]
                    .iter()
                    .any(|form| form.eq_ignore_ascii_case(wanted))
            })
            .map(|index| index as CUdevice)
            .ok_or(CUresult::INVALID_DEVICE)
    };
    // SAFETY: the caller passes a place for an ordinal.
    unsafe { answer(dev, find()) }
}

pub(crate) unsafe fn cuDeviceCanAccessPeer(
    can_access_peer: *mut c_int,
    dev: CUdevice,
    peer_dev: CUdevice,
) -> CUresult {
    let can = || Ok(c_int::from(index(dev)? != index(peer_dev)?));
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(can_access_peer, can()) }
}

pub(crate) unsafe fn cuDeviceGetP2PAttribute(
    value: *mut c_int,
    attrib: CUdevice_P2PAttribute,
    src_device: CUdevice,
    dst_device: CUdevice,
) -> CUresult {
    const ACCESS_SUPPORTED: CUdevice_P2PAttribute = 2;
    const NATIVE_ATOMIC_SUPPORTED: CUdevice_P2PAttribute = 3;
    let ask = || {
        if index(src_device)? == index(dst_device)? {
            return Err(CUresult::INVALID_DEVICE);
        }
        match attrib {
            ACCESS_SUPPORTED | NATIVE_ATOMIC_SUPPORTED => Ok(1),
            1 | 4 => Ok(0),
            _ => Err(CUresult::INVALID_VALUE),
        }
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(value, ask()) }
}

/// What a link between devices does of an atomic operation: what kernels can, since all memory is one.
fn peer_atomic(operation: CUatomicOperation) -> Result<u32, CUresult> {
    const SIGNED: u32 = 1;
    const UNSIGNED: u32 = 1 << 1;
    const REDUCTION: u32 = 1 << 2;
    const SCALAR_32: u32 = 1 << 3;
    const SCALAR_64: u32 = 1 << 4;
    const INTEGER: u32 = SIGNED | UNSIGNED | SCALAR_32 | SCALAR_64;
    match operation {
        // Addition, least, greatest, bits.
        0..=2 | 5..=7 => Ok(INTEGER | REDUCTION),
        // Counting up and down.
        3 | 4 => Ok(UNSIGNED | REDUCTION | SCALAR_32),
        // Exchange, also if equal.
        8 | 9 => Ok(INTEGER),
        // Floating point: addition, not the least and the greatest.
        10 => Ok(SIGNED | REDUCTION | SCALAR_32 | SCALAR_64),
        11 | 12 => Ok(0),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// # Safety
/// The arrays are null or have `count` elements.
unsafe fn atomics(
    capabilities: *mut u32,
    operations: *const CUatomicOperation,
    count: u32,
    capability: impl Fn(CUatomicOperation) -> Result<u32, CUresult>,
) -> Result<(), CUresult> {
    if capabilities.is_null() || operations.is_null() || count == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    for index in 0..count as usize {
        // SAFETY: not null; the caller's promise.
        unsafe {
            capabilities
                .add(index)
                .write(capability(operations.add(index).read())?)
        };
    }
    Ok(())
}

pub(crate) unsafe fn cuDeviceGetHostAtomicCapabilities(
    capabilities: *mut u32,
    operations: *const CUatomicOperation,
    count: u32,
    dev: CUdevice,
) -> CUresult {
    // `HOST_NATIVE_ATOMIC_SUPPORTED` is 0.
    let none = |operation| peer_atomic(operation).map(|_| 0);
    // SAFETY: the caller passes arrays of `count` elements.
    done(index(dev).and_then(|_| unsafe { atomics(capabilities, operations, count, none) }))
}

pub(crate) unsafe fn cuDeviceGetP2PAtomicCapabilities(
    capabilities: *mut u32,
    operations: *const CUatomicOperation,
    count: u32,
    src_device: CUdevice,
    dst_device: CUdevice,
) -> CUresult {
    let tell = || {
        if index(src_device)? == index(dst_device)? {
            return Err(CUresult::INVALID_DEVICE);
        }
        // SAFETY: the caller passes arrays of `count` elements.
        unsafe { atomics(capabilities, operations, count, peer_atomic) }
    };
    done(tell())
}

pub(crate) unsafe fn cuDeviceGetExecAffinitySupport(
    pi: *mut c_int,
    _kind: u32,
    dev: CUdevice,
) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(pi, index(dev).map(|_| 0)) }
}

pub(crate) unsafe fn cuDeviceGetLuid(
    _luid: *mut c_char,
    _device_node_mask: *mut u32,
    dev: CUdevice,
) -> CUresult {
    // Only another operating system has them.
    done(index(dev).and(Err(CUresult::NOT_SUPPORTED)))
}
