//! Memory and addresses apart: reservations, physical memory, and mapping one into the other.
//!
//! ```text
//! cuMemAddressReserve ─▶ addresses ──┐
//!                                    ├─ cuMemMap ─▶ mapped, no access ─ cuMemSetAccess ─▶ memory
//! cuMemCreate ────────▶ physical  ───┘
//! ```
//!
//! As in the driver: a mapping takes a whole handle, access is granted per mapping, and physical memory lives (and stays
//! charged) until its handle is released *and* nothing is mapped to it.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod multicast;

use core::ffi::{c_int, c_ulonglong, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::FileType;

use driver_api::abi::{
    CUdeviceptr, CUmemAccessDesc, CUmemAllocationGranularity_flags, CUmemAllocationHandleType,
    CUmemAllocationProp, CUmemGenericAllocationHandle, CUmemLocation, CUresult,
};

use crate::context::unique_id;
use crate::entry::{answer, done};
use crate::memory::map::{GRANULARITY, Mapping, memory_file};
use crate::memory::quiesce;
use crate::memory::space::{Devices, Kind, Region};
use crate::state::{Driver, driver};
use crate::threads::lock;

pub(crate) use multicast::*;

const LOCATION_DEVICE: u32 = 1;
const TYPE_PINNED: u32 = 1;
const TYPE_MANAGED: u32 = 2;
pub(crate) const HANDLE_POSIX_FD: u32 = 1;
const ACCESS_NONE: u32 = 0;
const ACCESS_READ_WRITE: u32 = 3;
/// The most addresses that one reservation takes, and the largest alignment.
const MAX_RESERVATION: usize = 1 << 46;

/// Physical memory of a device, in a file of its own.
#[derive(Debug)]
pub(crate) struct Physical {
    file: OwnedFd,
    size: u64,
    device: usize,
    properties: CUmemAllocationProp,
    /// Imported memory is charged to who made it.
    charged: bool,
    /// Its handle, and how often that has to be released.
    number: usize,
    handles: Mutex<usize>,
}

impl Physical {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn device(&self) -> usize {
        self.device
    }

    /// A copy of its file's descriptor.
    pub(crate) fn file(&self) -> Result<OwnedFd, CUresult> {
        self.file.try_clone().map_err(|_| CUresult::OUT_OF_MEMORY)
    }

    pub(crate) fn is_exportable(&self) -> bool {
        self.properties.requested_handle_types & HANDLE_POSIX_FD != 0
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        if self.charged
            && let Ok(driver) = driver()
        {
            driver.segment.refund(self.device, self.size);
        }
    }
}

/// Properties that this device can fulfil, and the device.
///
/// # Safety
///
/// `properties` is null or points to properties.
unsafe fn check(
    driver: &Driver,
    properties: *const CUmemAllocationProp,
) -> Result<(usize, CUmemAllocationProp), CUresult> {
    if properties.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let properties = unsafe { properties.read_unaligned() };
    match properties.kind {
        TYPE_PINNED if properties.location.kind == LOCATION_DEVICE => {}
        TYPE_PINNED | TYPE_MANAGED => return Err(CUresult::NOT_SUPPORTED),
        _ => return Err(CUresult::INVALID_VALUE),
    }
    if properties.requested_handle_types & !HANDLE_POSIX_FD != 0
        || properties.gpu_direct_rdma_capable != 0
    {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let device = driver.device(properties.location.id)?;
    Ok((device, properties))
}

/// What stands behind the memory in its file, so that who imports it knows it for memory, and of which device of the machine.
const NOTE_MAGIC: u64 = u64::from_le_bytes(*b"softmem1");
const NOTE_BYTES: u64 = 4096;

/// The file of a device's physical memory.
fn new_file(device: usize, size: u64) -> Result<OwnedFd, CUresult> {
    let file = memory_file(
        size.checked_add(NOTE_BYTES)
            .ok_or(CUresult::OUT_OF_MEMORY)?,
    )?;
    let note = [NOTE_MAGIC, crate::device::number(device) as u64].map(u64::to_le_bytes);
    let written = rustix::io::pwrite(&file, note.as_flattened(), size);
    match written {
        Ok(length) if length == note.as_flattened().len() => Ok(file),
        _ => Err(CUresult::OUT_OF_MEMORY),
    }
}

/// The device and the size of the memory in a file that another process may have made.
fn read_file(driver: &Driver, file: &OwnedFd) -> Result<(usize, u64), CUresult> {
    let length = rustix::fs::fstat(file).map_err(|_| CUresult::INVALID_VALUE)?;
    let length = u64::try_from(length.st_size).map_err(|_| CUresult::INVALID_VALUE)?;
    let size = length
        .checked_sub(NOTE_BYTES)
        .filter(|size| is_granular(*size))
        .ok_or(CUresult::INVALID_VALUE)?;
    let mut note = [[0; 8]; 2];
    let read = rustix::io::pread(file, note.as_flattened_mut(), size);
    let [magic, number] = note.map(u64::from_le_bytes);
    if read != Ok(16) || magic != NOTE_MAGIC {
        return Err(CUresult::INVALID_VALUE);
    }
    let device = crate::ipc::place_of_device(driver, number).ok_or(CUresult::INVALID_DEVICE)?;
    Ok((device, size))
}

fn is_granular(size: u64) -> bool {
    size > 0 && size.is_multiple_of(GRANULARITY)
}

pub(crate) unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    prop: *const CUmemAllocationProp,
    option: CUmemAllocationGranularity_flags,
) -> CUresult {
    let ask = || {
        // SAFETY: the caller passes properties.
        unsafe { check(driver()?, prop)? };
        if option > 1 {
            Err(CUresult::INVALID_VALUE)
        } else {
            Ok(GRANULARITY as usize)
        }
    };
    // SAFETY: the caller passes a place for a size.
    unsafe { answer(granularity, ask()) }
}

pub(crate) unsafe fn cuMemCreate(
    handle: *mut CUmemGenericAllocationHandle,
    size: usize,
    prop: *const CUmemAllocationProp,
    flags: c_ulonglong,
) -> CUresult {
    let create = || {
        let driver = driver()?;
        // SAFETY: the caller passes properties.
        let (device, properties) = unsafe { check(driver, prop)? };
        let size = size as u64;
        if flags != 0 || !is_granular(size) || handle.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let file = crate::pool::reclaiming(driver, || {
            driver.segment.charge(device, size)?;
            new_file(device, size).inspect_err(|_| driver.segment.refund(device, size))
        })?;
        let number = driver.physical.reserve();
        let physical = Physical {
            file,
            size,
            device,
            properties,
            charged: true,
            number,
            handles: Mutex::new(1),
        };
        driver.physical.insert(number, Arc::new(physical));
        Ok(number as CUmemGenericAllocationHandle)
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle, create()) }
}

fn find(handle: CUmemGenericAllocationHandle) -> Result<Arc<Physical>, CUresult> {
    driver()?
        .physical
        .get(handle as usize)
        .map_err(|_| CUresult::INVALID_VALUE)
}

pub(crate) unsafe fn cuMemRelease(handle: CUmemGenericAllocationHandle) -> CUresult {
    let release = || {
        if let Some(object) = multicast(handle) {
            let mut handles = lock(&object.handles);
            *handles = handles.checked_sub(1).ok_or(CUresult::INVALID_VALUE)?;
            if *handles == 0 {
                driver()?.multicasts.remove(object.number)?;
            }
            return Ok(());
        }
        let physical = find(handle)?;
        let mut handles = lock(&physical.handles);
        *handles = handles.checked_sub(1).ok_or(CUresult::INVALID_VALUE)?;
        if *handles == 0 {
            driver()?.physical.remove(physical.number)?;
        }
        Ok(())
    };
    done(release())
}

/// The handle of what is mapped at an address, which has to be released once more; its first owner may have done so before.
fn retain(address: CUdeviceptr) -> Result<CUmemGenericAllocationHandle, CUresult> {
    let driver = driver()?;
    let kind = driver
        .memory
        .space()
        .find(address)
        .map(|region| region.kind.clone());
    let physical = match kind {
        Some(Kind::Mapped { physical, .. }) => physical,
        Some(Kind::Multicast { object, .. }) => {
            *lock(&object.handles) += 1;
            let number = object.number;
            driver.multicasts.insert(number, object);
            return Ok(number as CUmemGenericAllocationHandle);
        }
        _ => return Err(CUresult::INVALID_VALUE),
    };
    let mut handles = lock(&physical.handles);
    *handles += 1;
    driver
        .physical
        .insert(physical.number, Arc::clone(&physical));
    Ok(physical.number as CUmemGenericAllocationHandle)
}

pub(crate) unsafe fn cuMemRetainAllocationHandle(
    handle: *mut CUmemGenericAllocationHandle,
    addr: *mut c_void,
) -> CUresult {
    if handle.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle, retain(addr as CUdeviceptr)) }
}

pub(crate) unsafe fn cuMemGetAllocationPropertiesFromHandle(
    prop: *mut CUmemAllocationProp,
    handle: CUmemGenericAllocationHandle,
) -> CUresult {
    // SAFETY: the caller passes a place for properties.
    unsafe { answer(prop, find(handle).map(|physical| physical.properties)) }
}

pub(crate) unsafe fn cuMemExportToShareableHandle(
    shareable_handle: *mut c_void,
    handle: CUmemGenericAllocationHandle,
    handle_type: CUmemAllocationHandleType,
    flags: c_ulonglong,
) -> CUresult {
    let export = || {
        if let Some(object) = multicast(handle) {
            return match (handle_type, flags) {
                (HANDLE_POSIX_FD, 0) => object.export(),
                _ => Err(CUresult::INVALID_VALUE),
            };
        }
        let physical = find(handle)?;
        let exportable = physical.properties.requested_handle_types & handle_type != 0;
        if !exportable || handle_type != HANDLE_POSIX_FD || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let file = physical
            .file
            .try_clone()
            .map_err(|_| CUresult::OPERATING_SYSTEM)?;
        Ok(file.into_raw_fd())
    };
    // SAFETY: for this type of handle, the caller passes a place for a descriptor.
    unsafe { answer(shareable_handle.cast::<c_int>(), export()) }
}

pub(crate) unsafe fn cuMemImportFromShareableHandle(
    handle: *mut CUmemGenericAllocationHandle,
    os_handle: *mut c_void,
    sh_handle_type: CUmemAllocationHandleType,
) -> CUresult {
    let import = || {
        let driver = driver()?;
        let descriptor = c_int::try_from(os_handle as isize).unwrap_or(-1);
        if sh_handle_type != HANDLE_POSIX_FD || descriptor < 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes an open descriptor, which is only looked at and duplicated.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let file = file
            .try_clone_to_owned()
            .map_err(|_| CUresult::INVALID_VALUE)?;
        let kind = rustix::fs::fstat(&file).map_err(|_| CUresult::INVALID_VALUE)?;
        if FileType::from_raw_mode(kind.st_mode) == FileType::Socket {
            return multicast::import(driver, file);
        }
        let (device, size) = read_file(driver, &file)?;
        let properties = CUmemAllocationProp {
            kind: TYPE_PINNED,
            requested_handle_types: HANDLE_POSIX_FD,
            location: CUmemLocation {
                kind: LOCATION_DEVICE,
                id: device as i32,
            },
            ..CUmemAllocationProp::default()
        };
        let number = driver.physical.reserve();
        let physical = Physical {
            file,
            size,
            device,
            properties,
            charged: false,
            number,
            handles: Mutex::new(1),
        };
        driver.physical.insert(number, Arc::new(physical));
        Ok(number as CUmemGenericAllocationHandle)
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle, import()) }
}

fn reservations(driver: &Driver) -> MutexGuard<'_, Vec<Mapping>> {
    lock(&driver.memory.reservations)
}

fn reserve(size: usize, alignment: usize, hint: CUdeviceptr) -> Result<CUdeviceptr, CUresult> {
    let driver = driver()?;
    let alignment = alignment.max(GRANULARITY as usize);
    if !is_granular(size as u64) || !alignment.is_power_of_two() {
        return Err(CUresult::INVALID_VALUE);
    }
    if size > MAX_RESERVATION || alignment > MAX_RESERVATION {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    let wanted = (hint != 0 && hint.is_multiple_of(alignment as u64))
        .then_some(hint)
        .filter(|_| !driver.config.hostile.ignores_hint());
    let at_hint = wanted.and_then(|hint| Mapping::reserve_at(hint, size as u64).ok());
    let mapping = match at_hint {
        Some(mapping) => mapping,
        None => Mapping::reserve(size as u64, alignment as u64)?,
    };
    let base = mapping.base();
    reservations(driver).push(mapping);
    Ok(base)
}

pub(crate) unsafe fn cuMemAddressReserve(
    ptr: *mut CUdeviceptr,
    size: usize,
    alignment: usize,
    addr: CUdeviceptr,
    flags: c_ulonglong,
) -> CUresult {
    if ptr.is_null() || flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(ptr, reserve(size, alignment, addr)) }
}

pub(crate) unsafe fn cuMemAddressFree(ptr: CUdeviceptr, size: usize) -> CUresult {
    let free = || {
        let driver = driver()?;
        let mut reservations = reservations(driver);
        let found = reservations
            .iter()
            .position(|known| known.base() == ptr && known.size() == size as u64)
            .ok_or(CUresult::INVALID_VALUE)?;
        if driver
            .memory
            .space()
            .overlapping(ptr, size as u64)
            .next()
            .is_some()
        {
            return Err(CUresult::INVALID_VALUE);
        }
        quiesce(driver);
        reservations.swap_remove(found);
        Ok(())
    };
    done(free())
}

/// The multicast object of a handle, if it is one of these.
fn multicast(handle: CUmemGenericAllocationHandle) -> Option<Arc<Object>> {
    driver().ok()?.multicasts.get(handle as usize).ok()
}

/// The reservation that holds all of a range.
fn reservation_of(reservations: &[Mapping], ptr: u64, size: u64) -> Result<&Mapping, CUresult> {
    let holds = |known: &&Mapping| {
        ptr >= known.base() && ptr - known.base() <= known.size().saturating_sub(size)
    };
    reservations
        .iter()
        .find(holds)
        .ok_or(CUresult::INVALID_VALUE)
}

/// Maps a multicast object, all of it, once its team is complete.
fn map_multicast(
    ptr: CUdeviceptr,
    size: u64,
    offset: usize,
    object: Arc<Object>,
) -> Result<(), CUresult> {
    let driver = driver()?;
    if offset != 0 || size != object.size() || !ptr.is_multiple_of(GRANULARITY) {
        return Err(CUresult::INVALID_VALUE);
    }
    reservation_of(&reservations(driver), ptr, size)?;
    object.wait_for_team();
    let reservations = reservations(driver);
    reservation_of(&reservations, ptr, size)?;
    let region = Region {
        base: ptr,
        size,
        kind: Kind::Multicast {
            object,
            devices: Devices::default(),
        },
        context: 0,
        device: 0,
        pool: 0,
        id: unique_id(),
    };
    if !driver.memory.space_mut().insert(region) {
        return Err(CUresult::INVALID_VALUE);
    }
    driver.memory.multicasts.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn map(
    ptr: CUdeviceptr,
    size: u64,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
) -> Result<(), CUresult> {
    let driver = driver()?;
    if let Some(object) = multicast(handle) {
        return map_multicast(ptr, size, offset, object);
    }
    let physical = find(handle)?;
    if offset != 0 || size != physical.size || !ptr.is_multiple_of(GRANULARITY) {
        return Err(CUresult::INVALID_VALUE);
    }
    let reservations = reservations(driver);
    let reservation = reservation_of(&reservations, ptr, size)?;
    let region = Region {
        base: ptr,
        size,
        kind: Kind::Mapped {
            physical: Arc::clone(&physical),
            devices: Devices::default(),
        },
        context: 0,
        device: physical.device,
        pool: 0,
        id: unique_id(),
    };
    if !driver.memory.space_mut().insert(region) {
        return Err(CUresult::INVALID_VALUE);
    }
    reservation
        .place((ptr, size), &physical.file, 0)
        .inspect_err(|_| {
            driver.memory.space_mut().remove(ptr);
        })
}

pub(crate) unsafe fn cuMemMap(
    ptr: CUdeviceptr,
    size: usize,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
    flags: c_ulonglong,
) -> CUresult {
    if flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    done(map(ptr, size as u64, offset, handle))
}

/// The mappings that make up exactly this range.
fn mappings(driver: &Driver, ptr: CUdeviceptr, size: u64) -> Result<Vec<(u64, u64)>, CUresult> {
    let space = driver.memory.space();
    let mut end = ptr;
    let mut found = Vec::new();
    for region in space.overlapping(ptr, size) {
        if region.base != end || !region.is_placed() {
            return Err(CUresult::INVALID_VALUE);
        }
        end = region.end();
        found.push((region.base, region.size));
    }
    let whole = size > 0 && ptr.checked_add(size) == Some(end);
    if whole {
        Ok(found)
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

fn unmap(ptr: CUdeviceptr, size: u64) -> Result<(), CUresult> {
    let driver = driver()?;
    let found = mappings(driver, ptr, size)?;
    let at_once = driver.config.hostile.unmaps_at_once();
    if !at_once {
        quiesce(driver);
    }
    let reservations = reservations(driver);
    for (base, size) in found {
        let region = driver.memory.space_mut().remove(base);
        if region.is_some_and(|region| matches!(region.kind, Kind::Multicast { .. })) {
            driver.memory.multicasts.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let holds = |known: &&Mapping| base >= known.base() && base - known.base() < known.size();
        if let Some(reservation) = reservations.iter().find(holds) {
            reservation.clear(base, size, at_once)?;
        }
    }
    Ok(())
}

pub(crate) unsafe fn cuMemUnmap(ptr: CUdeviceptr, size: usize) -> CUresult {
    done(unmap(ptr, size as u64))
}

pub(crate) unsafe fn cuMemSetAccess(
    ptr: CUdeviceptr,
    size: usize,
    desc: *const CUmemAccessDesc,
    count: usize,
) -> CUresult {
    let set = || {
        let driver = driver()?;
        if desc.is_null() || count == 0 || count > crate::config::MAX_DEVICES {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut wanted = Vec::new();
        for index in 0..count {
            // SAFETY: the caller passes an array of `count` descriptions.
            let description = unsafe { desc.add(index).read_unaligned() };
            if description.location.kind != LOCATION_DEVICE {
                return Err(CUresult::NOT_SUPPORTED);
            }
            let device = driver.device(description.location.id)?;
            // Read-only access is refused by real drivers too.
            if !matches!(description.flags, ACCESS_NONE | ACCESS_READ_WRITE) {
                return Err(CUresult::INVALID_VALUE);
            }
            wanted.push((device, description.flags == ACCESS_READ_WRITE));
        }
        let found = mappings(driver, ptr, size as u64)?;
        let mut space = driver.memory.space_mut();
        for (base, _) in found {
            let region = space.starting_at_mut(base);
            if let Some(devices) = region.and_then(Region::devices_mut) {
                wanted
                    .iter()
                    .for_each(|(device, is_in)| devices.set(*device, *is_in));
            }
        }
        Ok(())
    };
    done(set())
}

pub(crate) unsafe fn cuMemGetAccess(
    flags: *mut c_ulonglong,
    location: *const CUmemLocation,
    ptr: CUdeviceptr,
) -> CUresult {
    let get = || {
        let driver = driver()?;
        if location.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes a location.
        let location = unsafe { location.read_unaligned() };
        if location.kind != LOCATION_DEVICE {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let device = driver.device(location.id)?;
        match driver.memory.space().find(ptr).map(Region::devices) {
            Some(Some(devices)) if !devices.contains(device) => Ok(c_ulonglong::from(ACCESS_NONE)),
            Some(_) => Ok(c_ulonglong::from(ACCESS_READ_WRITE)),
            None => Err(CUresult::INVALID_VALUE),
        }
    };
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, get()) }
}
