//! Devices and their attributes: answered from the snapshot of the hello, without the server, which is asked for the width of a texture and what two
//! devices are to each other alone.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{CStr, c_char, c_int, c_uint};

use driver_api::abi::{
    CUarray_format, CUatomicOperation, CUdevice, CUdevice_P2PAttribute, CUdevice_attribute,
    CUdevprop, CUexecAffinityType, CUresult, CUuuid,
};
use driver_api::private_tables::DeviceIdentity;
use driver_api::wire::request::{
    CuDeviceGetTexture1DLinearMaxWidth, GpurunPeerAtomic, GpurunPeerAttribute,
};
use protocol::hello::DeviceSnapshot;

use crate::entry::code;
use crate::memory::out;
use crate::session;

/// `CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY`.
const MANAGED_MEMORY: u32 = 83;
/// `CU_ATOMIC_OPERATION_MAX` of CUDA 13.5.
const ATOMIC_OPERATIONS: u32 = 13;
/// The highest device attribute of CUDA 13.5 is far below; an unknown one below this answers 0, as absent features do.
const MOST_ATTRIBUTES: u32 = 256;

/// One device, as the server described it.
#[derive(Debug)]
pub(crate) struct Device {
    snapshot: DeviceSnapshot,
    uuid: [u8; 16],
    attributes: Vec<Option<i32>>,
}

impl Device {
    pub(crate) fn new(snapshot: DeviceSnapshot) -> Self {
        let mut attributes = vec![None; MOST_ATTRIBUTES as usize];
        for (id, value) in &snapshot.attributes {
            if let Some(slot) = usize::try_from(*id)
                .ok()
                .and_then(|id| attributes.get_mut(id))
            {
                *slot = Some(*value);
            }
        }
        let mut uuid = [0; 16];
        for (to, from) in uuid.iter_mut().zip(&snapshot.uuid) {
            *to = *from;
        }
        Self {
            snapshot,
            uuid,
            attributes,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.snapshot.name
    }

    /// Operations that a stream takes before a call blocks, if the server knows.
    pub(crate) fn queue_depth(&self) -> Option<u64> {
        Some(self.snapshot.queue_depth.into()).filter(|depth| *depth > 0)
    }

    /// Least and greatest.
    pub(crate) fn stream_priorities(&self) -> (c_int, c_int) {
        (
            self.snapshot.least_stream_priority,
            self.snapshot.greatest_stream_priority,
        )
    }

    /// An attribute, 0 if the server's driver does not know it.
    pub(crate) fn attribute(&self, id: CUdevice_attribute) -> Result<c_int, CUresult> {
        if id == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let slot = self
            .attributes
            .get(id as usize)
            .ok_or(CUresult::INVALID_VALUE)?;
        Ok(slot.unwrap_or(0))
    }

    pub(crate) fn compute_capability(&self) -> driver_api::image::ComputeCapability {
        driver_api::image::ComputeCapability {
            major: u8::try_from(self.snapshot.compute_major).unwrap_or(u8::MAX),
            minor: u8::try_from(self.snapshot.compute_minor).unwrap_or(u8::MAX),
        }
    }

    pub(crate) fn total_memory(&self) -> u64 {
        match self.snapshot.usable_memory {
            0 => self.snapshot.total_memory,
            usable => usable.min(self.snapshot.total_memory),
        }
    }

    /// What the private tables sign: exactly what the functions below answer.
    pub(crate) fn identity(&self) -> DeviceIdentity {
        let number = |value: u32| i32::try_from(value).unwrap_or(0);
        DeviceIdentity {
            uuid: self.uuid,
            pci_domain: number(self.snapshot.pci_domain),
            pci_bus: number(self.snapshot.pci_bus),
            pci_device: number(self.snapshot.pci_device),
        }
    }

    fn pci_name(&self) -> String {
        let DeviceIdentity {
            pci_domain,
            pci_bus,
            pci_device,
            ..
        } = self.identity();
        format!("{pci_domain:04X}:{pci_bus:02X}:{pci_device:02X}.0")
    }
}

pub(crate) unsafe fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    code((|| {
        let place = out(device)?;
        session::get()?.device(ordinal)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(ordinal) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    code((|| {
        let place = out(count)?;
        let devices = session::get()?.devices.len();
        // SAFETY: checked by `out`.
        unsafe { place.write(c_int::try_from(devices).unwrap_or(c_int::MAX)) };
        Ok(())
    })())
}

/// Writes text and a NUL into `length` bytes; cut if `cut`, else an error if it does not fit.
///
/// # Safety
/// `place` is null or writable for `length` bytes.
pub(crate) unsafe fn write_text(
    place: *mut c_char,
    length: c_int,
    text: &str,
    cut: bool,
) -> Result<(), CUresult> {
    let place = out(place)?;
    let room = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_sub(1));
    let room = room.ok_or(CUresult::INVALID_VALUE)?;
    if text.len() > room && !cut {
        return Err(CUresult::INVALID_VALUE);
    }
    let bytes = &text.as_bytes()[..text.len().min(room)];
    // SAFETY: at most `length` bytes with the NUL, which the caller vouches for.
    unsafe {
        place
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        place.add(bytes.len()).write(0);
    }
    Ok(())
}

pub(crate) unsafe fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: CUdevice) -> CUresult {
    code((|| {
        let device = session::get()?.device(dev)?;
        // SAFETY: the API's contract.
        unsafe { write_text(name, len, device.name(), true) }
    })())
}

pub(crate) unsafe fn cuDeviceGetTexture1DLinearMaxWidth(
    max_width_in_elements: *mut usize,
    format: CUarray_format,
    argument2: c_uint,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let place = out(max_width_in_elements)?;
        let session = session::get()?;
        session.device(dev)?;
        let request = CuDeviceGetTexture1DLinearMaxWidth::new(format, argument2, dev);
        // Without a context: none is needed.
        let width = session.ask_in(0, &request, &[])?.max_width_in_elements();
        // SAFETY: checked by `out`.
        unsafe { place.write(width as usize) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceGetUuid(uuid: *mut CUuuid, dev: CUdevice) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuDeviceGetUuid_v2(uuid, dev) }
}

pub(crate) unsafe fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) -> CUresult {
    code((|| {
        let place = out(uuid)?;
        let device = session::get()?.device(dev)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUuuid { bytes: device.uuid }) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) -> CUresult {
    code((|| {
        let place = out(bytes)?;
        let device = session::get()?.device(dev)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(device.total_memory() as usize) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceGetAttribute(
    pi: *mut c_int,
    attrib: CUdevice_attribute,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let place = out(pi)?;
        let session = session::get()?;
        let has_windows = || session.objects.memory.has_windows();
        let value = match session.device(dev)?.attribute(attrib)? {
            // It is made in windows alone.
            1 if attrib == MANAGED_MEMORY && !has_windows() => 0,
            value => value,
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(value) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceComputeCapability(
    major: *mut c_int,
    minor: *mut c_int,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let (major, minor) = (out(major)?, out(minor)?);
        let capability = session::get()?.device(dev)?.compute_capability();
        // SAFETY: checked by `out`.
        unsafe {
            major.write(capability.major.into());
            minor.write(capability.minor.into());
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceGetProperties(prop: *mut CUdevprop, dev: CUdevice) -> CUresult {
    code((|| {
        let place = out(prop)?;
        let device = session::get()?.device(dev)?;
        let attribute = |id| device.attribute(id).unwrap_or(0);
        let properties = CUdevprop {
            max_threads_per_block: attribute(1),
            max_threads_dim: [attribute(2), attribute(3), attribute(4)],
            max_grid_size: [attribute(5), attribute(6), attribute(7)],
            shared_mem_per_block: attribute(8),
            total_constant_memory: attribute(9),
            simd_width: attribute(10),
            mem_pitch: attribute(11),
            regs_per_block: attribute(12),
            clock_rate: attribute(13),
            texture_align: attribute(14),
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(properties) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceGetPCIBusId(
    pci_bus_id: *mut c_char,
    len: c_int,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let device = session::get()?.device(dev)?;
        // SAFETY: the API's contract.
        unsafe { write_text(pci_bus_id, len, &device.pci_name(), false) }
    })())
}

pub(crate) unsafe fn cuDeviceGetByPCIBusId(
    dev: *mut CUdevice,
    pci_bus_id: *const c_char,
) -> CUresult {
    code((|| {
        let place = out(dev)?;
        if pci_bus_id.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null, and a C string by the API's contract.
        let text = unsafe { CStr::from_ptr(pci_bus_id) }.to_string_lossy();
        let wanted = parse_pci(&text).ok_or(CUresult::INVALID_VALUE)?;
        let matches = |device: &Device| {
            let identity = device.identity();
            (identity.pci_domain, identity.pci_bus, identity.pci_device) == wanted
        };
        let found = session::get()?.devices.iter().position(matches);
        let ordinal = found.ok_or(CUresult::INVALID_DEVICE)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(c_int::try_from(ordinal).unwrap_or(0)) };
        Ok(())
    })())
}

/// `[domain:]bus:device[.function]` in hexadecimal.
fn parse_pci(text: &str) -> Option<(i32, i32, i32)> {
    let text = text.split_once('.').map_or(text, |(place, _)| place);
    let numbers: Vec<i32> = text
        .split(':')
        .map(|part| i32::from_str_radix(part, 16).ok())
        .collect::<Option<_>>()?;
    match numbers[..] {
        [bus, device] => Some((0, bus, device)),
        [domain, bus, device] => Some((domain, bus, device)),
        _ => None,
    }
}

/// What a device can do with a peer's memory: an attribute, 0 for whether it can reach it at all.
fn peer_attribute(
    value: *mut c_int,
    attribute: c_uint,
    device: CUdevice,
    peer: CUdevice,
) -> Result<(), CUresult> {
    let place = out(value)?;
    let session = session::get()?;
    session.device(device)?;
    session.device(peer)?;
    let request = GpurunPeerAttribute::new(device, peer, attribute);
    let reply = session.ask_in(0, &request, &[])?;
    // SAFETY: checked by `out`.
    unsafe { place.write(reply.value()) };
    Ok(())
}

pub(crate) unsafe fn cuDeviceCanAccessPeer(
    can_access_peer: *mut c_int,
    dev: CUdevice,
    peer_dev: CUdevice,
) -> CUresult {
    const REACHES: c_uint = 0;
    code(peer_attribute(can_access_peer, REACHES, dev, peer_dev))
}

pub(crate) unsafe fn cuDeviceGetP2PAttribute(
    value: *mut c_int,
    attrib: CUdevice_P2PAttribute,
    src_device: CUdevice,
    dst_device: CUdevice,
) -> CUresult {
    code(match attrib {
        0 => Err(CUresult::INVALID_VALUE),
        _ if src_device == dst_device => Err(CUresult::INVALID_DEVICE),
        _ => peer_attribute(value, attrib, src_device, dst_device),
    })
}

pub(crate) unsafe fn cuDeviceGetExecAffinitySupport(
    pi: *mut c_int,
    _kind: CUexecAffinityType,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let place = out(pi)?;
        session::get()?.device(dev)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(0) };
        Ok(())
    })())
}

/// A link's answer for each atomic operation, asked one by one; two arrays of `count` elements.
fn atomics(
    capabilities: *mut c_uint,
    operations: *const CUatomicOperation,
    count: c_uint,
    answer: impl Fn(CUatomicOperation) -> Result<c_uint, CUresult>,
) -> Result<(), CUresult> {
    let (place, operations) = (out(capabilities)?, out(operations.cast_mut())?);
    if count == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    for index in 0..count as usize {
        // SAFETY: not null, and of `count` elements by the API's contract.
        let operation = unsafe { operations.add(index).read() };
        let capability = answer(operation)?;
        // SAFETY: as above.
        unsafe { place.add(index).write(capability) };
    }
    Ok(())
}

/// Between the device and the program's memory nothing is atomic by itself: `HOST_NATIVE_ATOMIC_SUPPORTED` is 0.
pub(crate) unsafe fn cuDeviceGetHostAtomicCapabilities(
    capabilities: *mut c_uint,
    operations: *const CUatomicOperation,
    count: c_uint,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        session::get()?.device(dev)?;
        atomics(capabilities, operations, count, |operation| {
            match operation < ATOMIC_OPERATIONS {
                true => Ok(0),
                false => Err(CUresult::INVALID_VALUE),
            }
        })
    })())
}

pub(crate) unsafe fn cuDeviceGetP2PAtomicCapabilities(
    capabilities: *mut c_uint,
    operations: *const CUatomicOperation,
    count: c_uint,
    src_device: CUdevice,
    dst_device: CUdevice,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        session.device(src_device)?;
        session.device(dst_device)?;
        if src_device == dst_device {
            return Err(CUresult::INVALID_DEVICE);
        }
        atomics(capabilities, operations, count, |operation| {
            let request = GpurunPeerAtomic::new(src_device, dst_device, operation);
            Ok(session.ask_in(0, &request, &[])?.capability())
        })
    })())
}

/// The unsigned form of an attribute.
pub(crate) fn unsigned(value: c_int) -> c_uint {
    c_uint::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_places_with_and_without_domain() {
        assert_eq!(parse_pci("0000:3B:00.0"), Some((0, 0x3b, 0)));
        assert_eq!(parse_pci("3b:01"), Some((0, 0x3b, 1)));
        assert_eq!(parse_pci("x"), None);
        assert_eq!(parse_pci(""), None);
    }
}
