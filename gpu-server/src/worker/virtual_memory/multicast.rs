//! Multicast objects: memory of several devices under one address.
//!
//! *What:* an object is in the table of physical memory, mapped and released as that is, but it is no memory and nothing is charged for it. What the session has bound to its objects is
//! in [`Bindings`]. *Rules:* memory that is bound stays charged: it is unbound before it is given back, and before the object is released. Binding and mapping wait in the driver until all devices are in
//! the team, on the lane of their client's thread, with nothing held; what they use cannot be released meanwhile.
//!
//! # Safety
//! Handles come from the driver through this module and are in use for as long as a call has them, addresses are of ranges that the session has, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::{CUdevice, CUmulticastObjectProp};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};

use super::{Physical, What, clean_apart, physical_of};
use crate::driver::cuda;
use crate::worker::call::{Call, CallError};
use crate::worker::end::lock;
use crate::worker::ipc;
use crate::worker::memory::CHUNK_BYTES;

/// Most bindings of one session.
const MAX_BINDINGS: usize = 64 << 10;
/// Most devices of a team.
const MAX_DEVICES: u32 = 4096;
/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const POSIX_DESCRIPTOR: u64 = 1;
/// By what memory is named that is to be bound.
const BY_NUMBER: u32 = 0;
const BY_ADDRESS: u32 = 1;

/// Memory that the session has bound.
struct Binding {
    object: Arc<Physical>,
    device: CUdevice,
    offset: u64,
    size: u64,
    memory: Bound,
}

enum Bound {
    /// The program's own physical memory.
    Physical(Arc<Physical>),
    /// Of the range that begins at this address.
    Range(u64),
}

/// Everything that the session has bound.
#[derive(Default)]
pub(crate) struct Bindings(Mutex<Vec<Binding>>);

impl Bindings {
    /// Ends what is `chosen`; how many those were.
    fn end(&self, driver: &Driver, chosen: impl Fn(&Binding) -> bool) -> Result<usize, CUresult> {
        let gone: Vec<Binding> = lock(&self.0)
            .extract_if(.., |known| chosen(known))
            .collect();
        let mut result = Ok(gone.len());
        for binding in gone {
            let Binding {
                object,
                device,
                offset,
                size,
                memory,
            } = binding;
            let ended = cuda!(
                driver,
                cuMulticastUnbind(object.handle, device, offset as usize, size as usize)
            );
            if let Err(error) = ended {
                tracing::warn!(%error, "memory stays bound to a multicast object");
                result = Err(error);
            }
            if let Bound::Physical(physical) = memory {
                physical.end_use();
            }
        }
        result
    }

    /// A range is about to be given back.
    pub(crate) fn end_of_range(&self, driver: &Driver, address: u64) {
        // Those that fail are logged, and the range goes all the same.
        let _ = self.end(
            driver,
            |known| matches!(known.memory, Bound::Range(base) if base == address),
        );
    }

    /// An object is about to be released.
    pub(super) fn end_of_object(&self, driver: &Driver, object: &Arc<Physical>) {
        let _ = self.end(driver, |known| Arc::ptr_eq(&known.object, object));
    }
}

fn multicast_of(call: &Call<'_>, id: u32) -> Result<Arc<Physical>, CUresult> {
    let object = physical_of(call, id)?;
    match object.what {
        What::Multicast => Ok(object),
        What::Memory => Err(CUresult::INVALID_HANDLE),
    }
}

/// What an object is asked for with, if there can be such a one.
fn properties(
    devices: u32,
    size: u64,
    handle_types: u64,
) -> Result<CUmulticastObjectProp, CUresult> {
    if devices > MAX_DEVICES || handle_types & !POSIX_DESCRIPTOR != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(CUmulticastObjectProp {
        num_devices: devices,
        size: size as usize,
        handle_types,
        flags: 0,
    })
}

/// How large the parts of a multicast object are that can be bound.
pub(crate) fn gpurunMulticastGranularity(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastGranularity,
) -> Result<(), CallError> {
    let wanted = properties(request.devices(), request.size(), request.handle_types())?;
    let mut granularity = 0;
    cuda!(
        call.driver(),
        cuMulticastGetGranularity(&mut granularity, &wanted, request.option())
    )?;
    // What is mapped in windows is of whole chunks.
    let granularity = (granularity as u64).max(CHUNK_BYTES);
    call.reply(&reply::GpurunMulticastGranularity::new(granularity));
    Ok(())
}

fn check_new(call: &Call<'_>, id: u32, size: u64) -> Result<(), CUresult> {
    call.session.physical.check_free(id)?;
    match size > 0 && size.is_multiple_of(CHUNK_BYTES) {
        true => Ok(()),
        false => Err(CUresult::INVALID_VALUE),
    }
}

fn keep(
    call: &Call<'_>,
    id: u32,
    (handle, size): (u64, u64),
    is_borrowed: bool,
) -> Result<(), CUresult> {
    let object = Physical::new_multicast(handle, size, is_borrowed);
    if let Err(error) = call.session.physical.insert(id, Arc::new(object)) {
        cuda!(call.driver(), cuMemRelease(handle))?;
        return Err(error);
    }
    Ok(())
}

/// A multicast object.
pub(crate) fn gpurunMulticastCreate(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastCreate,
) -> Result<(), CallError> {
    let (id, size) = (request.multicast(), request.size());
    let wanted = properties(request.devices(), size, request.handle_types())?;
    check_new(call, id, size)?;
    let mut handle = 0;
    cuda!(call.driver(), cuMulticastCreate(&mut handle, &wanted))?;
    keep(call, id, (handle, size), false)?;
    Ok(())
}

/// A multicast object of another session of the lease.
pub(crate) fn gpurunMulticastImport(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastImport,
) -> Result<(), CallError> {
    let (id, size) = (request.multicast(), request.size());
    check_new(call, id, size)?;
    let from = (request.lender(), [request.key_low(), request.key_high()]);
    let handle = ipc::import_multicast(call, size, from)?;
    keep(call, id, (handle, size), true)?;
    Ok(())
}

/// A device more in the team of a multicast object.
pub(crate) fn gpurunMulticastAddDevice(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastAddDevice,
) -> Result<(), CallError> {
    call.session.devices.check(request.device())?;
    let object = multicast_of(call, request.multicast())?;
    let _use = object.begin_use()?;
    cuda!(
        call.driver(),
        cuMulticastAddDevice(object.handle, request.device())
    )?;
    Ok(())
}

/// Binds a part of a device's memory for it, once the team is complete.
pub(crate) fn gpurunMulticastBind(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastBind,
) -> Result<(), CallError> {
    call.session.devices.check(request.device())?;
    let object = multicast_of(call, request.multicast())?;
    let _use = object.begin_use()?;
    if lock(&call.session.memory.bindings.0).len() >= MAX_BINDINGS {
        return Err(CUresult::OUT_OF_MEMORY.into());
    }
    let memory = match request.by() {
        BY_NUMBER => bind_physical(call, request, &object)?,
        BY_ADDRESS => bind_range(call, request, &object)?,
        _ => return Err(CUresult::INVALID_VALUE.into()),
    };
    let binding = Binding {
        object: Arc::clone(&object),
        device: request.device(),
        offset: request.offset(),
        size: request.size(),
        memory,
    };
    lock(&call.session.memory.bindings.0).push(binding);
    Ok(())
}

fn bind_physical(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastBind,
    object: &Physical,
) -> Result<Bound, CUresult> {
    let physical = physical_of(call, request.physical())?;
    let end = request.start().checked_add(request.size());
    let is_inside = end.is_some_and(|end| end <= physical.size);
    let is_its = physical.what == What::Memory && physical.device == request.device();
    if !is_inside || !is_its {
        return Err(CUresult::INVALID_VALUE);
    }
    // Given up only when the binding ends.
    let in_use = physical.begin_use()?;
    // Whoever is in the team can read it.
    {
        let mut state = lock(&physical.state);
        if !state.is_clean {
            let cleaned = clean_apart(call, &physical);
            call.forget_current();
            cleaned?;
            state.is_clean = true;
        }
    }
    let (offset, start, size) = (request.offset(), request.start(), request.size());
    cuda!(
        call.driver(),
        cuMulticastBindMem(
            object.handle,
            offset as usize,
            physical.handle,
            start as usize,
            size as usize,
            0
        )
    )?;
    in_use.keep();
    Ok(Bound::Physical(physical))
}

fn bind_range(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastBind,
    object: &Physical,
) -> Result<Bound, CUresult> {
    let (address, size) = (request.start(), request.size());
    let memory = &call.session.memory;
    let find = || -> Result<u64, CUresult> {
        let (base, _, length, device) = memory.mapped_at(address)?;
        let is_inside = size <= length - (address - base);
        match is_inside && device == request.device() {
            true => Ok(base),
            false => Err(CUresult::INVALID_VALUE),
        }
    };
    let base = find()?;
    // By address: the driver looks again whether it is there, after it has waited.
    cuda!(
        call.driver(),
        cuMulticastBindAddr(
            object.handle,
            request.offset() as usize,
            address,
            size as usize,
            0
        )
    )?;
    if find() != Ok(base) {
        let (device, offset) = (request.device(), request.offset() as usize);
        cuda!(
            call.driver(),
            cuMulticastUnbind(object.handle, device, offset, size as usize)
        )?;
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(Bound::Range(base))
}

/// Ends what was bound so.
pub(crate) fn gpurunMulticastUnbind(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastUnbind,
) -> Result<(), CallError> {
    let object = multicast_of(call, request.multicast())?;
    let is_it = |known: &Binding| {
        let place = (known.device, known.offset, known.size);
        Arc::ptr_eq(&known.object, &object)
            && place == (request.device(), request.offset(), request.size())
    };
    match call.session.memory.bindings.end(call.driver(), is_it)? {
        0 => Err(CUresult::INVALID_VALUE.into()),
        _ => Ok(()),
    }
}

/// Maps a multicast object, all of it, at an address of a window, once the team is complete.
pub(crate) fn gpurunMulticastMap(
    call: &mut Call<'_>,
    request: &request::GpurunMulticastMap,
) -> Result<(), CallError> {
    let (address, size) = (request.address(), request.size());
    let object = multicast_of(call, request.multicast())?;
    if size != object.size {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let in_use = object.begin_use()?;
    let memory = &call.session.memory;
    memory.claim_virtual(address, size, object.device)?;
    let mapped = cuda!(
        call.driver(),
        cuMemMap(address, size as usize, 0, object.handle, 0)
    );
    memory.settle_virtual(address, mapped.is_ok().then_some(request.multicast()));
    mapped?;
    in_use.keep();
    Ok(())
}
