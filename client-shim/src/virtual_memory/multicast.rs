//! Multicast objects: memory of several devices under one address.
//!
//! *What:* an object is numbered, mapped, released and passed on as physical memory is, and has the same kind of handle; a [`Team`] of it makes the difference. What is bound, and in
//! which order calls may come, the worker's driver knows. *Rules:* memory that is bound is not given back before it is unbound, or the object is. Binding and mapping
//! may wait until other threads, or other processes, have added their devices: nothing is held meanwhile. Memory of the program's own is bound by its number, also where it is named by an address; a pool's by its address.
//! The addresses of an object are no memory for copies, here as on the software GPU.
//!
//! # Safety
//! Functions named like the driver's read properties and write results through pointers that they have checked for null.
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_ulonglong;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUmemAllocationProp, CUmemGenericAllocationHandle,
    CUmulticastGranularity_flags, CUmulticastObjectProp, CUresult,
};
use driver_api::wire::request::{
    GpurunMulticastAddDevice, GpurunMulticastBind, GpurunMulticastCreate,
    GpurunMulticastGranularity, GpurunMulticastImport, GpurunMulticastMap, GpurunMulticastUnbind,
};

use super::sharing::{self, Sharing, Token};
use super::{
    Mapped, NO_CONTEXT, POSIX_DESCRIPTOR, Physical, Uses, handle_of, physical_of, range_of,
    reservation,
};
use crate::entry::code;
use crate::memory::{GRANULARITY, out};
use crate::session::{self, Session};

/// `CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED`.
const SUPPORTED: u32 = 132;
/// `CU_MULTICAST_GRANULARITY_RECOMMENDED`, the last.
const LAST_GRANULARITY: CUmulticastGranularity_flags = 1;
/// By what memory is named that is to be bound.
const BY_NUMBER: u32 = 0;
const BY_ADDRESS: u32 = 1;

/// What a multicast object has that memory has not.
#[derive(Debug)]
pub(super) struct Team {
    is_exportable: bool,
    bound: Mutex<Vec<Bound>>,
}

/// What this program has bound.
#[derive(Debug)]
struct Bound {
    device: CUdevice,
    offset: u64,
    size: u64,
    /// Unless it is a pool's.
    memory: Option<Arc<Physical>>,
}

impl Team {
    fn new(is_exportable: bool) -> Self {
        Self {
            is_exportable,
            bound: Mutex::default(),
        }
    }

    pub(super) fn is_exportable(&self) -> bool {
        self.is_exportable
    }

    fn bound(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object has been given back, and all that was bound to it.
    pub(super) fn end(&self, session: &Session) -> Result<(), CUresult> {
        let bound: Vec<Bound> = self.bound().drain(..).collect();
        let mut memory = bound.into_iter().filter_map(|bound| bound.memory);
        memory.try_for_each(|memory| memory.end_use(session))
    }
}

/// An object that is used by a call, so that it is not given back meanwhile.
struct InUse<'a> {
    session: &'a Session,
    object: Arc<Physical>,
}

impl InUse<'_> {
    fn team(&self) -> Result<&Team, CUresult> {
        self.object.team.as_ref().ok_or(CUresult::INVALID_VALUE)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        // A connection that is lost is told by the next call.
        let _ = self.object.end_use(self.session);
    }
}

fn object_of(
    session: &Session,
    handle: CUmemGenericAllocationHandle,
) -> Result<InUse<'_>, CUresult> {
    let object = physical_of(session, handle)?;
    if object.team.is_none() {
        return Err(CUresult::INVALID_VALUE);
    }
    object.begin_use()?;
    Ok(InUse { session, object })
}

/// Properties that can be had here.
///
/// # Safety
/// Null, or a place that holds properties.
unsafe fn properties_at(
    session: &Session,
    place: *const CUmulticastObjectProp,
) -> Result<CUmulticastObjectProp, CUresult> {
    let place = out(place.cast_mut())?;
    // SAFETY: the caller's promise.
    let properties = unsafe { place.read() };
    let mut devices = session.devices.iter();
    if !devices.any(|device| device.attribute(SUPPORTED) == Ok(1)) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    if properties.num_devices == 0 || properties.flags != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // Of a fabric, or of another system.
    match properties.handle_types & !c_ulonglong::from(POSIX_DESCRIPTOR) {
        0 => Ok(properties),
        _ => Err(CUresult::NOT_SUPPORTED),
    }
}

pub(crate) unsafe fn cuMulticastGetGranularity(
    granularity: *mut usize,
    prop: *const CUmulticastObjectProp,
    option: CUmulticastGranularity_flags,
) -> CUresult {
    code((|| {
        let place = out(granularity)?;
        let session = session::get()?;
        // SAFETY: the API's contract.
        let wanted = unsafe { properties_at(session, prop) }?;
        if option > LAST_GRANULARITY {
            return Err(CUresult::INVALID_VALUE);
        }
        let (size, types) = (wanted.size as u64, wanted.handle_types);
        let request = GpurunMulticastGranularity::new(wanted.num_devices, size, types, option);
        let reply = session.ask_in(NO_CONTEXT, &request, &[])?;
        // SAFETY: checked by `out`.
        unsafe { place.write(reply.granularity() as usize) };
        Ok(())
    })())
}

/// A new object, once the worker has it.
fn make(
    session: &Session,
    size: u64,
    is_exportable: bool,
    sharing: Sharing,
    ask: impl FnOnce(u32) -> Result<(), CUresult>,
) -> Result<Arc<Physical>, CUresult> {
    let object = session.objects.physical.insert_with(|id| Physical {
        id,
        size,
        device: 0,
        properties: CUmemAllocationProp::default(),
        uses: Mutex::new(Uses::first(sharing)),
        team: Some(Team::new(is_exportable)),
    });
    if let Err(error) = ask(object.id) {
        session.objects.physical.remove(object.id);
        return Err(error);
    }
    Ok(object)
}

pub(crate) unsafe fn cuMulticastCreate(
    mc_handle: *mut CUmemGenericAllocationHandle,
    prop: *const CUmulticastObjectProp,
) -> CUresult {
    code((|| {
        let place = out(mc_handle)?;
        let session = session::get()?;
        // SAFETY: the API's contract.
        let wanted = unsafe { properties_at(session, prop) }?;
        let (size, types) = (wanted.size as u64, wanted.handle_types);
        if size == 0 || !size.is_multiple_of(GRANULARITY) {
            return Err(CUresult::INVALID_VALUE);
        }
        sharing::sweep(session)?;
        let ask = |id| {
            let request = GpurunMulticastCreate::new(id, wanted.num_devices, size, types);
            session.ask_in(NO_CONTEXT, &request, &[]).map(drop)
        };
        let object = make(session, size, types != 0, Sharing::default(), ask)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(handle_of(&object)) };
        Ok(())
    })())
}

/// The object of another process that a descriptor names.
pub(super) fn import(session: &Session, token: Token) -> Result<Arc<Physical>, CUresult> {
    let (lender, [low, high], size) = (token.lender, token.key, token.size);
    make(session, size, true, Sharing::of(token), |id| {
        let request = GpurunMulticastImport::new(id, size, lender, low, high);
        session.ask_in(NO_CONTEXT, &request, &[]).map(drop)
    })
}

pub(crate) unsafe fn cuMulticastAddDevice(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        let in_use = object_of(session, mc_handle)?;
        session.device(dev)?;
        let request = GpurunMulticastAddDevice::new(in_use.object.id, dev);
        session.ask_in(NO_CONTEXT, &request, &[]).map(drop)
    })())
}

/// What is to be bound: where it begins in its memory, or its address.
struct Wanted {
    memory: Option<Arc<Physical>>,
    device: CUdevice,
    start: u64,
    is_exportable: bool,
}

impl Wanted {
    fn of(memory: Arc<Physical>, start: u64, size: u64) -> Result<Self, CUresult> {
        let is_inside = start
            .checked_add(size)
            .is_some_and(|end| end <= memory.size);
        if !is_inside || memory.team.is_some() || !start.is_multiple_of(GRANULARITY) {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(Self {
            device: memory.properties.location.id,
            is_exportable: memory.properties.requested_handle_types != 0,
            memory: Some(memory),
            start,
        })
    }

    /// Memory of the program's own, by its handle.
    fn named(
        session: &Session,
        handle: CUmemGenericAllocationHandle,
        start: usize,
        size: usize,
    ) -> Result<Self, CUresult> {
        Self::of(physical_of(session, handle)?, start as u64, size as u64)
    }

    /// What is at an address: memory of the program's own, or of a pool.
    fn at(session: &Session, address: u64, size: u64) -> Result<Self, CUresult> {
        if !address.is_multiple_of(GRANULARITY) {
            return Err(CUresult::INVALID_VALUE);
        }
        if let Some((start, memory)) = mapped_at(session, address) {
            return Self::of(memory, address - start, size);
        }
        let allocation = session.objects.memory.find(address);
        let allocation = allocation.ok_or(CUresult::INVALID_VALUE)?;
        let pool = session.objects.stream_ordered.pool_at(allocation.start);
        let pool = pool.ok_or(CUresult::INVALID_VALUE)?;
        if size > allocation.size - (address - allocation.start) {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(Self {
            memory: None,
            device: i32::try_from(pool.device()).map_err(|_| CUresult::INVALID_DEVICE)?,
            start: address,
            is_exportable: pool.is_exportable(),
        })
    }
}

/// The physical memory that is mapped at an address, and where the mapping begins.
fn mapped_at(session: &Session, address: u64) -> Option<(u64, Arc<Physical>)> {
    let mut reservations = session.objects.virtual_memory.lock();
    let found = reservation(&mut reservations, &range_of(address, 1).ok()?).ok()?;
    let (start, mapped) = found.mappings.range(..=address).next_back()?;
    let is_there = address - start < mapped.size;
    is_there.then(|| (*start, Arc::clone(&mapped.physical)))
}

fn bind(
    (handle, device, offset): (CUmemGenericAllocationHandle, Option<CUdevice>, usize),
    find: impl FnOnce(&Session) -> Result<Wanted, CUresult>,
    size: usize,
    flags: c_ulonglong,
) -> Result<(), CUresult> {
    let session = session::get()?;
    let in_use = object_of(session, handle)?;
    if let Some(device) = device {
        session.device(device)?;
    }
    let (offset, size) = (offset as u64, size as u64);
    let end = offset.checked_add(size);
    let is_inside = end.is_some_and(|end| end <= in_use.object.size);
    if flags != 0 || size == 0 || !is_inside {
        return Err(CUresult::INVALID_VALUE);
    }
    let wanted = find(session)?;
    let team = in_use.team()?;
    let is_its = device.is_none_or(|device| device == wanted.device);
    if !is_its || team.is_exportable && !wanted.is_exportable {
        return Err(CUresult::INVALID_VALUE);
    }
    // For as long as it is bound.
    if let Some(memory) = &wanted.memory {
        memory.begin_use()?;
    }
    let (by, number) = match &wanted.memory {
        Some(memory) => (BY_NUMBER, memory.id),
        None => (BY_ADDRESS, 0),
    };
    let Wanted { device, start, .. } = wanted;
    let id = in_use.object.id;
    let request = GpurunMulticastBind::new(id, device, offset, size, by, number, start);
    if let Err(error) = session.ask_in(NO_CONTEXT, &request, &[]) {
        if let Some(memory) = &wanted.memory {
            memory.end_use(session)?;
        }
        return Err(error);
    }
    team.bound().push(Bound {
        device,
        offset,
        size,
        memory: wanted.memory,
    });
    Ok(())
}

pub(crate) unsafe fn cuMulticastBindMem(
    mc_handle: CUmemGenericAllocationHandle,
    mc_offset: usize,
    mem_handle: CUmemGenericAllocationHandle,
    mem_offset: usize,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    let find = |session: &Session| Wanted::named(session, mem_handle, mem_offset, size);
    code(bind((mc_handle, None, mc_offset), find, size, flags))
}

pub(crate) unsafe fn cuMulticastBindMem_v2(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
    mc_offset: usize,
    mem_handle: CUmemGenericAllocationHandle,
    mem_offset: usize,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    let find = |session: &Session| Wanted::named(session, mem_handle, mem_offset, size);
    code(bind((mc_handle, Some(dev), mc_offset), find, size, flags))
}

pub(crate) unsafe fn cuMulticastBindAddr(
    mc_handle: CUmemGenericAllocationHandle,
    mc_offset: usize,
    memptr: CUdeviceptr,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    let find = |session: &Session| Wanted::at(session, memptr, size as u64);
    code(bind((mc_handle, None, mc_offset), find, size, flags))
}

pub(crate) unsafe fn cuMulticastBindAddr_v2(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
    mc_offset: usize,
    memptr: CUdeviceptr,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    let find = |session: &Session| Wanted::at(session, memptr, size as u64);
    code(bind((mc_handle, Some(dev), mc_offset), find, size, flags))
}

pub(crate) unsafe fn cuMulticastUnbind(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
    mc_offset: usize,
    size: usize,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        let in_use = object_of(session, mc_handle)?;
        session.device(dev)?;
        let (offset, size) = (mc_offset as u64, size as u64);
        let request = GpurunMulticastUnbind::new(in_use.object.id, dev, offset, size);
        session.ask_in(NO_CONTEXT, &request, &[])?;
        let ended = {
            let mut bound = in_use.team()?.bound();
            let is_it =
                |known: &Bound| (known.device, known.offset, known.size) == (dev, offset, size);
            let place = bound.iter().position(is_it);
            place.map(|place| bound.swap_remove(place))
        };
        match ended.and_then(|bound| bound.memory) {
            Some(memory) => memory.end_use(session),
            None => Ok(()),
        }
    })())
}

/// [`super::cuMemMap`] of an object: the place is taken, and nothing held while the driver waits for the team.
pub(super) fn map(
    session: &Session,
    start: u64,
    size: u64,
    object: Arc<Physical>,
) -> Result<(), CUresult> {
    let range = start..start + size;
    let place = |mapped: Option<Mapped>| -> Result<(), CUresult> {
        let mut reservations = session.objects.virtual_memory.lock();
        let mappings = &mut reservation(&mut reservations, &range)?.mappings;
        match mapped {
            Some(mapped) => drop(mappings.insert(start, mapped)),
            None => drop(mappings.remove(&start)),
        }
        Ok(())
    };
    let request = GpurunMulticastMap::new(start, size, object.id);
    match session.ask_in(NO_CONTEXT, &request, &[]) {
        Ok(_) => place(Some(Mapped::new(object))),
        Err(error) => {
            place(None)?;
            object.end_use(session)?;
            Err(error)
        }
    }
}
