//! The program's own physical memory, and where it is mapped: the rows of the `virtual_memory` area.
//!
//! *What:* a [`Physical`] is memory that the driver has made, charged as long as it is there. *Rules:* it is mapped inside the session's windows only, where
//! nothing else is; what is mapped anywhere cannot be released, so that what is charged is what there is; where fresh memory is to be wiped, that happens
//! when it can first be written, before its program can, or before another session can have it. What another session has exported is charged to that one:
//! see [`super::ipc`]. Multicast objects are in the same table, though they are no memory: see [`multicast`].
//!
//! # Safety
//! Addresses are in windows that this process has reserved, handles come from the driver through this module, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod multicast;

use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::CUdevice;
use driver_api::result::CUresult;
use driver_api::wire::request;

use super::accounts::Made;
use super::call::{Call, CallError};
use super::end::lock;
use super::ipc::{self, Shareable};
use super::memory::{CHUNK_BYTES, create, set_access, wipe};
use crate::driver::cuda;

pub(crate) use multicast::*;

/// `CU_MEM_ACCESS_FLAGS_PROT_*`: none, and read and write.
const NO_ACCESS: u32 = 0;
const READ_AND_WRITE: u32 = 3;

/// What a driver's handle of this kind stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Memory,
    Multicast,
}

/// Physical memory, or a multicast object.
pub(crate) struct Physical {
    what: What,
    handle: u64,
    size: u64,
    device: CUdevice,
    /// Another session's.
    is_borrowed: bool,
    state: Mutex<State>,
}

impl Physical {
    fn new(handle: u64, (size, device): (u64, CUdevice), origin: Origin) -> Self {
        Self {
            what: What::Memory,
            handle,
            size,
            device,
            is_borrowed: matches!(origin, Origin::Borrowed),
            state: Mutex::new(State {
                uses: 0,
                is_released: false,
                is_clean: !matches!(origin, Origin::Unclean),
            }),
        }
    }

    /// A multicast object, which is no memory that could be unclean, and of no device.
    fn new_multicast(handle: u64, size: u64, is_borrowed: bool) -> Self {
        let origin = match is_borrowed {
            true => Origin::Borrowed,
            false => Origin::Fresh,
        };
        Self {
            what: What::Multicast,
            ..Self::new(handle, (size, 0), origin)
        }
    }

    #[cfg(test)]
    pub(super) fn driver_handle(&self) -> u64 {
        self.handle
    }

    /// It is not released before the use ends.
    fn begin_use(self: &Arc<Self>) -> Result<Use, CUresult> {
        let mut state = lock(&self.state);
        if state.is_released {
            return Err(CUresult::INVALID_HANDLE);
        }
        state.uses += 1;
        Ok(Use(Arc::clone(self)))
    }

    fn end_use(&self) {
        let mut state = lock(&self.state);
        state.uses = state.uses.saturating_sub(1);
    }
}

/// What is being used.
struct Use(Arc<Physical>);

impl Use {
    /// The use lasts longer than this call.
    fn keep(self) {
        lock(&self.0.state).uses += 1;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.end_use();
    }
}

/// Where physical memory comes from.
enum Origin {
    /// Fresh, and what was in it may be seen.
    Fresh,
    /// Fresh, to be wiped.
    Unclean,
    /// Of another session, which has wiped it.
    Borrowed,
}

struct State {
    /// How often it is mapped, or bound to multicast objects, and how many calls are using it.
    uses: u32,
    is_released: bool,
    /// Nothing of another tenant is in it.
    is_clean: bool,
}

fn physical_of(call: &Call<'_>, id: u32) -> Result<Arc<Physical>, CUresult> {
    let physical = call.session.physical.get(id);
    physical.ok_or(CUresult::INVALID_HANDLE)
}

/// Whether there may be such memory by this number.
fn check_new(call: &Call<'_>, id: u32, device: CUdevice, size: u64) -> Result<(), CUresult> {
    call.session.devices.check(device)?;
    call.session.physical.check_free(id)?;
    match size > 0 && size.is_multiple_of(CHUNK_BYTES) {
        true => Ok(()),
        false => Err(CUresult::INVALID_VALUE),
    }
}

/// Physical memory of a device.
pub(crate) fn gpurunPhysicalCreate(
    call: &mut Call<'_>,
    request: &request::GpurunPhysicalCreate,
) -> Result<(), CallError> {
    let (id, device, size) = (request.physical(), request.device(), request.size());
    check_new(call, id, device, size)?;
    let (driver, accounts) = (call.driver(), &call.session.memory.accounts);
    let thread = call.record.thread;
    let taken = accounts.take(device, Made::Exact(size), thread)?;
    let handle = create(driver, device, size as usize);
    let handle = handle.map_err(|error| accounts.driver_refused(thread, error))?;
    let origin = match accounts.wipes() {
        true => Origin::Unclean,
        false => Origin::Fresh,
    };
    let physical = Physical::new(handle, (size, device), origin);
    if let Err(error) = call.session.physical.insert(id, Arc::new(physical)) {
        cuda!(driver, cuMemRelease(handle))?;
        return Err(error.into());
    }
    if let Some(taken) = taken {
        taken.commit();
    }
    accounts.granted(thread);
    Ok(())
}

/// The end of physical memory to which nothing is mapped.
pub(crate) fn gpurunPhysicalRelease(
    call: &mut Call<'_>,
    request: &request::GpurunPhysicalRelease,
) -> Result<(), CallError> {
    let physical = physical_of(call, request.physical())?;
    let mut state = lock(&physical.state);
    if state.uses > 0 || state.is_released {
        return Err(CUresult::INVALID_HANDLE.into());
    }
    state.is_released = true;
    call.session.physical.remove(request.physical());
    drop(state);
    match (physical.what, physical.is_borrowed) {
        (What::Multicast, _) => give_back_multicast(call, request.physical(), &physical)?,
        (What::Memory, true) => give_back_borrowed(call, request.physical(), &physical)?,
        (What::Memory, false) => give_back(call, request.physical(), &physical)?,
    }
    Ok(())
}

/// Releases an object, to which nothing of this session's is bound any more. Others that have imported it have handles of their own.
fn give_back_multicast(call: &Call<'_>, id: u32, object: &Arc<Physical>) -> Result<(), CUresult> {
    let memory = &call.session.memory;
    memory.bindings.end_of_object(call.driver(), object);
    memory.shared.forget_export(Shareable::Physical(id));
    cuda!(call.driver(), cuMemRelease(object.handle))
}

fn give_back_borrowed(call: &Call<'_>, id: u32, physical: &Physical) -> Result<(), CUresult> {
    let memory = &call.session.memory;
    memory
        .shared
        .end_import(&memory.accounts, Shareable::Physical(id), || {
            cuda!(call.driver(), cuMemRelease(physical.handle))
        })
}

/// Releases memory of this session's, or keeps it for others that have it.
fn give_back(call: &Call<'_>, id: u32, physical: &Physical) -> Result<(), CUresult> {
    let memory = &call.session.memory;
    let accounts = &memory.accounts;
    let made = Made::Exact(physical.size);
    accounts.leaves(physical.device, made);
    accounts.begin_to_give_back(physical.device);
    let what = (physical.handle, physical.size, physical.device);
    if let Some(kept) = memory.shared.end_export(Shareable::Physical(id), what) {
        memory.shared.keep(kept);
        accounts.stays(physical.device, made);
        return Ok(());
    }
    let released = cuda!(call.driver(), cuMemRelease(physical.handle));
    match released {
        Ok(()) => accounts.gave_back(physical.device, made, true),
        Err(_) => accounts.stays(physical.device, made),
    }
    released
}

/// Makes physical memory one that other sessions of the lease may import.
pub(crate) fn gpurunPhysicalExport(
    call: &mut Call<'_>,
    request: &request::GpurunPhysicalExport,
) -> Result<(), CallError> {
    let physical = physical_of(call, request.physical())?;
    let mut state = lock(&physical.state);
    if state.is_released || physical.is_borrowed {
        return Err(CUresult::INVALID_HANDLE.into());
    }
    if !state.is_clean {
        let cleaned = clean_apart(call, &physical);
        call.forget_current();
        cleaned?;
        state.is_clean = true;
    }
    let device = (physical.what == What::Memory).then_some(physical.device);
    ipc::export_physical(
        call,
        request.physical(),
        (physical.handle, physical.size),
        device,
    )?;
    Ok(())
}

/// Physical memory that another session of the lease has exported.
pub(crate) fn gpurunPhysicalImport(
    call: &mut Call<'_>,
    request: &request::GpurunPhysicalImport,
) -> Result<(), CallError> {
    let (id, device, size) = (request.physical(), request.device(), request.size());
    check_new(call, id, device, size)?;
    let from = (request.lender(), [request.key_low(), request.key_high()]);
    let handle = ipc::import_physical(call, id, (size, device), from)?;
    let physical = Arc::new(Physical::new(handle, (size, device), Origin::Borrowed));
    if let Err(error) = call.session.physical.insert(id, Arc::clone(&physical)) {
        give_back_borrowed(call, id, &physical)?;
        return Err(error.into());
    }
    Ok(())
}

/// Maps physical memory, all of it, at an address of a window.
pub(crate) fn gpurunPhysicalMap(
    call: &mut Call<'_>,
    request: &request::GpurunPhysicalMap,
) -> Result<(), CallError> {
    let (address, size) = (request.address(), request.size());
    let physical = physical_of(call, request.physical())?;
    if size != physical.size || physical.what != What::Memory {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let mut state = lock(&physical.state);
    if state.is_released {
        return Err(CUresult::INVALID_HANDLE.into());
    }
    let memory = &call.session.memory;
    memory.claim_virtual(address, size, physical.device)?;
    let mapped = cuda!(
        call.driver(),
        cuMemMap(address, size as usize, 0, physical.handle, 0)
    );
    memory.settle_virtual(address, mapped.is_ok().then_some(request.physical()));
    mapped?;
    state.uses += 1;
    Ok(())
}

/// Gives a device access to a mapping, or takes it.
pub(crate) fn gpurunVirtualAccess(
    call: &mut Call<'_>,
    request: &request::GpurunVirtualAccess,
) -> Result<(), CallError> {
    let (address, flags) = (request.address(), request.flags());
    call.session.devices.check(request.device())?;
    let id = call.session.memory.virtual_at(address, request.size())?;
    let physical = physical_of(call, id)?;
    let driver = call.driver();
    let mut state = lock(&physical.state);
    if flags != NO_ACCESS && !state.is_clean {
        let cleaned = clean(call, address, &physical);
        // Whatever was made current for that, the next call makes its own.
        call.forget_current();
        set_access(driver, (address, physical.size), physical.device, NO_ACCESS)?;
        cleaned?;
        state.is_clean = true;
    }
    set_access(driver, (address, physical.size), request.device(), flags)?;
    Ok(())
}

/// Fills fresh memory with zeros, in a context of its device.
fn clean(call: &Call<'_>, address: u64, physical: &Physical) -> Result<(), CUresult> {
    let mut contexts = call.session.contexts.all().into_iter();
    let context = contexts
        .find(|context| context.device == physical.device && context.is_alive())
        .ok_or(CUresult::INVALID_CONTEXT)?;
    context.make_current(call.driver())?;
    let range = (address, physical.size);
    set_access(call.driver(), range, physical.device, READ_AND_WRITE)?;
    wipe(call, &context, address, physical.size)
}

/// [`clean`] for memory that need not be mapped anywhere: at addresses that are the driver's choice, for as long as it takes.
fn clean_apart(call: &Call<'_>, physical: &Physical) -> Result<(), CUresult> {
    let (driver, size) = (call.driver(), physical.size as usize);
    let mut address = 0;
    cuda!(
        driver,
        cuMemAddressReserve(&mut address, size, CHUNK_BYTES as usize, 0, 0)
    )?;
    let cleaned = clean_at(call, driver, address, physical);
    cuda!(driver, cuMemAddressFree(address, size))?;
    cleaned
}

fn clean_at(
    call: &Call<'_>,
    driver: &Driver,
    address: u64,
    physical: &Physical,
) -> Result<(), CUresult> {
    let size = physical.size as usize;
    cuda!(driver, cuMemMap(address, size, 0, physical.handle, 0))?;
    let cleaned = clean(call, address, physical);
    cuda!(driver, cuMemUnmap(address, size))?;
    cleaned
}

/// Ends a mapping.
pub(crate) fn gpurunVirtualUnmap(
    call: &mut Call<'_>,
    request: &request::GpurunVirtualUnmap,
) -> Result<(), CallError> {
    let (address, size) = (request.address(), request.size());
    let memory = &call.session.memory;
    let id = memory.virtual_at(address, size)?;
    let physical = physical_of(call, id)?;
    let mut state = lock(&physical.state);
    cuda!(call.driver(), cuMemUnmap(address, size as usize))?;
    memory.settle_virtual(address, None);
    state.uses = state.uses.saturating_sub(1);
    Ok(())
}
