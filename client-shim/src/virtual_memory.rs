//! Memory and addresses apart: reservations are ranges of the windows, physical memory is the worker's, and mapping joins them.
//!
//! ```text
//! cuMemAddressReserve ── here ──▶ a range of a window ─┐
//!                                                      ├─ cuMemMap ─ cuMemSetAccess ─▶ memory, for copies and kernels
//! cuMemCreate ── asked ─────────▶ physical memory ─────┘
//! ```
//!
//! A mapping takes a whole handle. Physical memory lives until its handle is released as often as it was given *and* nothing is mapped to it: then the
//! worker is told. It belongs to no context. Multicast objects are kept in the same way ([`multicast`]). A descriptor of it that somebody has counts as a handle ([`sharing`]).
//!
//! # Safety
//! The functions named like the driver's read properties and write results through pointers that they have checked for null, by the API's contract.
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod multicast;
mod sharing;

use core::ffi::{c_ulonglong, c_void};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{
    CUdeviceptr, CUmemAccessDesc, CUmemAllocationGranularity_flags, CUmemAllocationProp,
    CUmemGenericAllocationHandle, CUmemLocation, CUresult,
};
use driver_api::wire::request::{
    GpurunPhysicalCreate, GpurunPhysicalMap, GpurunPhysicalRelease, GpurunVirtualAccess,
    GpurunVirtualUnmap,
};

use crate::entry::code;
use crate::handles::{dress, undress};
use crate::memory::{GRANULARITY, out};
use crate::session::{self, Session};

use multicast::Team;
pub(crate) use multicast::{
    cuMulticastAddDevice, cuMulticastBindAddr, cuMulticastBindAddr_v2, cuMulticastBindMem,
    cuMulticastBindMem_v2, cuMulticastCreate, cuMulticastGetGranularity, cuMulticastUnbind,
};
use sharing::{Lingering, Sharing};
pub(crate) use sharing::{cuMemExportToShareableHandle, cuMemImportFromShareableHandle};

/// `CU_MEM_ALLOCATION_TYPE_PINNED`, `CU_MEM_LOCATION_TYPE_DEVICE`.
const PINNED: u32 = 1;
const ON_DEVICE: u32 = 1;
/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`: may be asked for.
const POSIX_DESCRIPTOR: u32 = 1;
/// `CU_MEM_ACCESS_FLAGS_PROT_*`: none, read, read and write.
const NO_ACCESS: u32 = 0;
const ACCESSES: [u32; 3] = [NO_ACCESS, 1, 3];
/// `CU_MEM_ALLOC_GRANULARITY_RECOMMENDED`, the last.
const LAST_GRANULARITY: u32 = 1;
/// The kind of a physical memory's handle.
const KIND: usize = 8;
/// Physical memory and mappings belong to no context.
const NO_CONTEXT: u32 = 0;

/// Physical memory that the program has made, or a multicast object.
#[derive(Debug)]
pub(crate) struct Physical {
    id: u32,
    size: u64,
    device: usize,
    properties: CUmemAllocationProp,
    uses: Mutex<Uses>,
    /// Of a multicast object.
    team: Option<Team>,
}

/// How often a handle was given, and how often it is mapped, bound to a multicast object, or in use by a call.
#[derive(Debug)]
struct Uses {
    handles: u32,
    uses: u32,
    sharing: Sharing,
    /// It has been given back.
    is_over: bool,
}

impl Uses {
    const fn first(sharing: Sharing) -> Self {
        Self {
            handles: 1,
            uses: 0,
            sharing,
            is_over: false,
        }
    }
}

impl Physical {
    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One use fewer; the last ends it.
    fn give_up(
        self: &Arc<Self>,
        session: &Session,
        which: impl FnOnce(&mut Uses) -> Result<(), CUresult>,
    ) -> Result<(), CUresult> {
        {
            let mut uses = self.uses();
            which(&mut uses)?;
            if uses.handles > 0 || uses.uses > 0 || uses.is_over {
                return Ok(());
            }
            if uses.sharing.is_held() {
                session
                    .objects
                    .virtual_memory
                    .lingering
                    .add(Arc::clone(self));
                return Ok(());
            }
            uses.is_over = true;
        }
        session.objects.physical.remove(self.id);
        session.post_in(NO_CONTEXT, |_| GpurunPhysicalRelease::new(self.id), &[])?;
        match &self.team {
            Some(team) => team.end(session),
            None => Ok(()),
        }
    }

    /// One use more, by who has a handle.
    fn begin_use(&self) -> Result<(), CUresult> {
        let mut uses = self.uses();
        if uses.handles == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        uses.uses += 1;
        Ok(())
    }

    /// One use fewer.
    fn end_use(self: &Arc<Self>, session: &Session) -> Result<(), CUresult> {
        self.give_up(session, |uses| {
            uses.uses = uses.uses.saturating_sub(1);
            Ok(())
        })
    }
}

#[derive(Debug, Clone)]
struct Mapped {
    size: u64,
    physical: Arc<Physical>,
    /// What devices may do with it, if anything.
    accesses: BTreeMap<usize, u32>,
    /// It is being mapped: only its place is taken.
    is_pending: bool,
}

impl Mapped {
    fn new(physical: Arc<Physical>) -> Self {
        Self {
            size: physical.size,
            physical,
            accesses: BTreeMap::new(),
            is_pending: false,
        }
    }
}

#[derive(Debug)]
struct Reservation {
    size: u64,
    mappings: BTreeMap<u64, Mapped>,
}

/// The reservations, by their first address.
#[derive(Debug, Default)]
pub(crate) struct VirtualMemory {
    reservations: Mutex<BTreeMap<u64, Reservation>>,
    lingering: Lingering,
}

impl VirtualMemory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Reservation>> {
        self.reservations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reservation that holds all of a range.
fn reservation<'a>(
    reservations: &'a mut BTreeMap<u64, Reservation>,
    range: &Range<u64>,
) -> Result<&'a mut Reservation, CUresult> {
    let found = reservations.range_mut(..=range.start).next_back();
    let (start, found) = found.ok_or(CUresult::INVALID_VALUE)?;
    let is_inside = range.start < range.end && range.end <= start + found.size;
    if is_inside {
        Ok(found)
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

/// The mappings of which a range is made, whole and without a gap.
fn whole(reservation: &Reservation, range: &Range<u64>) -> Result<Vec<u64>, CUresult> {
    let mut reached = range.start;
    let mut starts = Vec::new();
    while reached < range.end {
        let mapped = reservation
            .mappings
            .get(&reached)
            .filter(|mapped| !mapped.is_pending)
            .ok_or(CUresult::INVALID_VALUE)?;
        starts.push(reached);
        reached += mapped.size;
    }
    if reached == range.end {
        Ok(starts)
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

fn range_of(start: u64, size: usize) -> Result<Range<u64>, CUresult> {
    let end = start.checked_add(size as u64);
    end.map(|end| start..end).ok_or(CUresult::INVALID_VALUE)
}

/// The physical memory of a handle that the program has not released.
fn physical_of(
    session: &Session,
    handle: CUmemGenericAllocationHandle,
) -> Result<Arc<Physical>, CUresult> {
    let id = usize::try_from(handle)
        .ok()
        .and_then(|handle| undress(KIND, handle));
    let physical = id.and_then(|id| session.objects.physical.get(id));
    physical
        .filter(|physical| physical.uses().handles > 0)
        .ok_or(CUresult::INVALID_VALUE)
}

fn handle_of(physical: &Physical) -> CUmemGenericAllocationHandle {
    dress(KIND, physical.id) as u64
}

/// Properties that can be had here, and the device that they name.
fn checked(session: &Session, properties: &CUmemAllocationProp) -> Result<usize, CUresult> {
    if properties.location.kind != ON_DEVICE {
        return Err(CUresult::NOT_SUPPORTED);
    }
    if properties.kind != PINNED {
        return Err(CUresult::INVALID_VALUE);
    }
    // Of a fabric, or of another system.
    if properties.requested_handle_types & !POSIX_DESCRIPTOR != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    session.device(properties.location.id)?;
    usize::try_from(properties.location.id).map_err(|_| CUresult::INVALID_DEVICE)
}

/// # Safety
/// Null, or a place that holds properties.
unsafe fn properties_at(
    place: *const CUmemAllocationProp,
) -> Result<CUmemAllocationProp, CUresult> {
    let place = out(place.cast_mut())?;
    // SAFETY: the caller's promise.
    Ok(unsafe { place.read() })
}

pub(crate) unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    prop: *const CUmemAllocationProp,
    option: CUmemAllocationGranularity_flags,
) -> CUresult {
    code((|| {
        let place = out(granularity)?;
        let session = session::get()?;
        // SAFETY: the API's contract.
        checked(session, &unsafe { properties_at(prop) }?)?;
        if option > LAST_GRANULARITY {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: checked by `out`.
        unsafe { place.write(GRANULARITY as usize) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemAddressReserve(
    ptr: *mut CUdeviceptr,
    size: usize,
    alignment: usize,
    addr: CUdeviceptr,
    flags: c_ulonglong,
) -> CUresult {
    code((|| {
        let place = out(ptr)?;
        let session = session::get()?;
        let size = size as u64;
        let is_aligned = alignment == 0 || alignment.is_power_of_two();
        if size == 0 || !size.is_multiple_of(GRANULARITY) || !is_aligned || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let alignment = (alignment as u64).max(GRANULARITY);
        let memory = &session.objects.memory;
        let start = memory
            .reserve(size, alignment, addr)
            .ok_or(CUresult::OUT_OF_MEMORY)?;
        let reservation = Reservation {
            size,
            mappings: BTreeMap::new(),
        };
        session
            .objects
            .virtual_memory
            .lock()
            .insert(start, reservation);
        // SAFETY: checked by `out`.
        unsafe { place.write(start) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemAddressFree(ptr: CUdeviceptr, size: usize) -> CUresult {
    code((|| {
        let session = session::get()?;
        {
            let mut reservations = session.objects.virtual_memory.lock();
            let found = reservations.get(&ptr).ok_or(CUresult::INVALID_VALUE)?;
            if found.size != size as u64 || !found.mappings.is_empty() {
                return Err(CUresult::INVALID_VALUE);
            }
            reservations.remove(&ptr);
        }
        session.objects.memory.unreserve(&range_of(ptr, size)?);
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemCreate(
    handle: *mut CUmemGenericAllocationHandle,
    size: usize,
    prop: *const CUmemAllocationProp,
    flags: c_ulonglong,
) -> CUresult {
    code((|| {
        let place = out(handle)?;
        let session = session::get()?;
        // SAFETY: the API's contract.
        let properties = unsafe { properties_at(prop) }?;
        let device = checked(session, &properties)?;
        let size = size as u64;
        if size == 0 || !size.is_multiple_of(GRANULARITY) || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        sharing::sweep(session)?;
        let physical = session.objects.physical.insert_with(|id| Physical {
            id,
            size,
            device,
            properties,
            uses: Mutex::new(Uses::first(Sharing::default())),
            team: None,
        });
        let request = GpurunPhysicalCreate::new(physical.id, properties.location.id, size);
        let ask = || session.ask_in(NO_CONTEXT, &request, &[]).map(drop);
        if let Err(code) = session.objects.memory.with_patience(session, ask) {
            session.objects.physical.remove(physical.id);
            return Err(code);
        }
        // SAFETY: checked by `out`.
        unsafe { place.write(handle_of(&physical)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemRelease(handle: CUmemGenericAllocationHandle) -> CUresult {
    code((|| {
        let session = session::get()?;
        let physical = physical_of(session, handle)?;
        sharing::sweep(session)?;
        // Looked at and counted under one lock: of two threads that release the last handle one is wrong.
        physical.give_up(session, |uses| {
            uses.handles = uses.handles.checked_sub(1).ok_or(CUresult::INVALID_VALUE)?;
            Ok(())
        })
    })())
}

pub(crate) unsafe fn cuMemGetAllocationPropertiesFromHandle(
    prop: *mut CUmemAllocationProp,
    handle: CUmemGenericAllocationHandle,
) -> CUresult {
    code((|| {
        let place = out(prop)?;
        let physical = physical_of(session::get()?, handle)?;
        if physical.team.is_some() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: checked by `out`.
        unsafe { place.write(physical.properties) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemRetainAllocationHandle(
    handle: *mut CUmemGenericAllocationHandle,
    addr: *mut c_void,
) -> CUresult {
    code((|| {
        let place = out(handle)?;
        let session = session::get()?;
        let address = addr.addr() as u64;
        let mut reservations = session.objects.virtual_memory.lock();
        let found = reservation(&mut reservations, &range_of(address, 1)?)?;
        let (start, mapped) = found
            .mappings
            .range(..=address)
            .next_back()
            .ok_or(CUresult::INVALID_VALUE)?;
        if address - start >= mapped.size || mapped.is_pending {
            return Err(CUresult::INVALID_VALUE);
        }
        mapped.physical.uses().handles += 1;
        // SAFETY: checked by `out`.
        unsafe { place.write(handle_of(&mapped.physical)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemMap(
    ptr: CUdeviceptr,
    size: usize,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
    flags: c_ulonglong,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        let physical = physical_of(session, handle)?;
        let range = range_of(ptr, size)?;
        if offset != 0 || flags != 0 || physical.size != size as u64 {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut reservations = session.objects.virtual_memory.lock();
        let found = reservation(&mut reservations, &range)?;
        let before = found.mappings.range(..range.end).next_back();
        if before.is_some_and(|(start, mapped)| start + mapped.size > range.start) {
            return Err(CUresult::INVALID_VALUE);
        }
        // Counted before it is asked for: another thread may release the handle meanwhile, and the memory stays for the mapping.
        physical.begin_use()?;
        if physical.team.is_some() {
            let mut mapped = Mapped::new(Arc::clone(&physical));
            mapped.is_pending = true;
            found.mappings.insert(ptr, mapped);
            drop(reservations);
            return multicast::map(session, ptr, size as u64, physical);
        }
        // The order of mappings is that of the calls: the lock is held, for which no thread of ours ever waits.
        let request = GpurunPhysicalMap::new(ptr, size as u64, physical.id);
        if let Err(code) = session.ask_in(NO_CONTEXT, &request, &[]) {
            physical.end_use(session)?;
            return Err(code);
        }
        found.mappings.insert(ptr, Mapped::new(physical));
        Ok(())
    })())
}

/// The access that a call gives to each device that it names, in its order.
///
/// # Safety
/// `descriptions` has so many elements.
unsafe fn accesses(
    session: &Session,
    descriptions: *const CUmemAccessDesc,
    count: usize,
) -> Result<Vec<(usize, u32)>, CUresult> {
    let descriptions = out(descriptions.cast_mut())?;
    if count == 0 || count > session.devices.len() {
        return Err(CUresult::INVALID_VALUE);
    }
    let mut accesses = Vec::new();
    for index in 0..count {
        // SAFETY: the caller's promise.
        let description = unsafe { descriptions.add(index).read() };
        if description.location.kind != ON_DEVICE || !ACCESSES.contains(&description.flags) {
            return Err(CUresult::INVALID_VALUE);
        }
        session.device(description.location.id)?;
        let device = usize::try_from(description.location.id).map_err(|_| CUresult::INVALID_DEVICE);
        accesses.push((device?, description.flags));
    }
    Ok(accesses)
}

pub(crate) unsafe fn cuMemSetAccess(
    ptr: CUdeviceptr,
    size: usize,
    desc: *const CUmemAccessDesc,
    count: usize,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        // SAFETY: the API's contract.
        let accesses = unsafe { accesses(session, desc, count) }?;
        let range = range_of(ptr, size)?;
        let mut reservations = session.objects.virtual_memory.lock();
        let found = reservation(&mut reservations, &range)?;
        for start in whole(found, &range)? {
            let Some(mapped) = found.mappings.get_mut(&start) else {
                continue;
            };
            for (device, flags) in &accesses {
                let ordinal = i32::try_from(*device).map_err(|_| CUresult::INVALID_DEVICE)?;
                let request = GpurunVirtualAccess::new(start, mapped.size, ordinal, *flags);
                session.ask_in(NO_CONTEXT, &request, &[])?;
                match *flags {
                    NO_ACCESS => mapped.accesses.remove(device),
                    _ => mapped.accesses.insert(*device, *flags),
                };
                let memory = &session.objects.memory;
                // A multicast object's addresses are no memory.
                match mapped.accesses.is_empty() || mapped.physical.team.is_some() {
                    true => memory.forget_virtual(start),
                    false => memory.note_virtual(start, mapped.size, mapped.physical.device),
                }
            }
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemGetAccess(
    flags: *mut c_ulonglong,
    location: *const CUmemLocation,
    ptr: CUdeviceptr,
) -> CUresult {
    code((|| {
        let (place, location) = (out(flags)?, out(location.cast_mut())?);
        let session = session::get()?;
        // SAFETY: checked by `out`.
        let location = unsafe { location.read() };
        let mut reservations = session.objects.virtual_memory.lock();
        let found = reservation(&mut reservations, &range_of(ptr, 1)?)?;
        let mapped = found.mappings.range(..=ptr).next_back();
        let (start, mapped) = mapped.ok_or(CUresult::INVALID_VALUE)?;
        if ptr - start >= mapped.size || location.kind != ON_DEVICE {
            return Err(CUresult::INVALID_VALUE);
        }
        session.device(location.id)?;
        let device = usize::try_from(location.id).map_err(|_| CUresult::INVALID_DEVICE)?;
        let access = mapped.accesses.get(&device).copied();
        // SAFETY: checked by `out`.
        unsafe { place.write(access.unwrap_or(NO_ACCESS).into()) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemUnmap(ptr: CUdeviceptr, size: usize) -> CUresult {
    code((|| {
        let session = session::get()?;
        let range = range_of(ptr, size)?;
        let mut reservations = session.objects.virtual_memory.lock();
        let found = reservation(&mut reservations, &range)?;
        for start in whole(found, &range)? {
            let Some(mapped) = found.mappings.get(&start).cloned() else {
                continue;
            };
            let request = GpurunVirtualUnmap::new(start, mapped.size);
            session.ask_in(NO_CONTEXT, &request, &[])?;
            session.objects.memory.forget_virtual(start);
            found.mappings.remove(&start);
            mapped.physical.end_use(session)?;
        }
        Ok(())
    })())
}
