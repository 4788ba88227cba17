//! Access between the devices of a session.
//!
//! *What:* a context whose kernels may reach another's memory, and a device whose kernels may reach another device's, where a memory pool was opened to it. The driver does that for what it places itself; what is mapped in windows is opened to a
//! device range by range, what there is when access is enabled and what is made afterwards ([`Held::open`]). *Rules:* both happen under one lock,
//! so that nothing is missed; only memory of the session's own contexts is ever opened, to devices of the session's own.
//!
//! # Safety
//! Ranges are the session's own, contexts come from its table, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::{Arc, Mutex, MutexGuard};

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUdevice};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};

use super::Context;
use crate::driver::cuda;
use crate::worker::call::{Call, CallError};
use crate::worker::end::lock;
use crate::worker::memory::set_access;

/// `CU_MEM_ACCESS_FLAGS_PROT_*`: none, and read and write.
const NO_ACCESS: u32 = 0;
const READ_AND_WRITE: u32 = 3;

/// A context that may reach the memory of another; contexts by serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    context: u64,
    device: CUdevice,
    peer: u64,
}

/// A device that may reach the memory of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PoolAccess {
    device: CUdevice,
    peer: CUdevice,
}

#[derive(Default)]
struct Accesses {
    of_contexts: Vec<Access>,
    of_pools: Vec<PoolAccess>,
}

/// Who may reach whose memory.
#[derive(Default)]
pub(crate) struct Peers(Mutex<Accesses>);

/// The same, held.
pub(crate) struct Held<'a>(MutexGuard<'a, Accesses>);

impl Peers {
    pub(crate) fn lock(&self) -> Held<'_> {
        Held(lock(&self.0))
    }
}

impl Held<'_> {
    /// Opens a new range of a context to all devices that may reach its memory.
    pub(crate) fn open(
        &self,
        driver: &Driver,
        owner: &Context,
        range: (u64, u64),
    ) -> Result<(), CUresult> {
        let mut devices: Vec<CUdevice> = self.devices(owner).collect();
        devices.sort_unstable();
        devices.dedup();
        devices
            .into_iter()
            .try_for_each(|device| set_access(driver, range, device, READ_AND_WRITE))
    }

    /// A context is gone.
    pub(crate) fn forget(&mut self, context: u64) {
        self.0
            .of_contexts
            .retain(|access| access.context != context && access.peer != context);
    }

    /// The devices that may reach a context's memory.
    fn devices(&self, owner: &Context) -> impl Iterator<Item = CUdevice> {
        let (serial, device) = (owner.serial, owner.device);
        let contexts = self.0.of_contexts.iter();
        let contexts = contexts.filter(move |access| access.peer == serial);
        let pools = self.0.of_pools.iter();
        let pools = pools.filter(move |access| access.device == device);
        contexts
            .map(|access| access.device)
            .chain(pools.map(|access| access.peer))
    }
}

/// Opens everything that a context has mapped to a device, or closes it.
fn set_all(call: &Call<'_>, owner: u64, device: CUdevice, flags: u32) -> Result<(), CUresult> {
    let memory = &call.session.memory;
    for range in memory.mapped_by(owner) {
        let set = set_access(call.driver(), range, device, flags);
        // What is given back meanwhile needs no access.
        if set.is_err() && memory.mapped_by(owner).contains(&range) {
            return set;
        }
    }
    Ok(())
}

/// What a device can do with a peer's memory; attribute 0 is whether it can reach it at all.
pub(crate) fn gpurunPeerAttribute(
    call: &mut Call<'_>,
    request: &request::GpurunPeerAttribute,
) -> Result<(), CallError> {
    let (device, peer) = (request.device(), request.peer());
    call.session.devices.check(device)?;
    call.session.devices.check(peer)?;
    let mut value = 0;
    match request.attribute() {
        0 => cuda!(
            call.driver(),
            cuDeviceCanAccessPeer(&mut value, device, peer)
        )?,
        attribute => cuda!(
            call.driver(),
            cuDeviceGetP2PAttribute(&mut value, attribute, device, peer)
        )?,
    }
    call.reply(&reply::GpurunPeerAttribute::new(value));
    Ok(())
}

/// What the link between two devices does of an atomic operation by itself.
pub(crate) fn gpurunPeerAtomic(
    call: &mut Call<'_>,
    request: &request::GpurunPeerAtomic,
) -> Result<(), CallError> {
    let (device, peer) = (request.device(), request.peer());
    call.session.devices.check(device)?;
    call.session.devices.check(peer)?;
    let (mut capability, operation) = (0, request.operation());
    cuda!(
        call.driver(),
        cuDeviceGetP2PAtomicCapabilities(&mut capability, &operation, 1, device, peer)
    )?;
    call.reply(&reply::GpurunPeerAtomic::new(capability));
    Ok(())
}

/// Kernels of the current context may reach the memory of another, or no longer.
pub(crate) fn gpurunPeerAccess(
    call: &mut Call<'_>,
    request: &request::GpurunPeerAccess,
) -> Result<(), CallError> {
    let own = Arc::clone(call.context()?);
    let peer = call.session.contexts.get(request.peer());
    let peer = peer.ok_or(CUresult::INVALID_CONTEXT)?;
    let access = Access {
        context: own.serial,
        device: own.device,
        peer: peer.serial,
    };
    match request.enabled() {
        0 => disable(call, &peer, access)?,
        1 => enable(call, &peer, access)?,
        _ => {
            return Err(CallError::Violation(
                "access that is neither enabled nor disabled",
            ));
        }
    }
    Ok(())
}

fn enable(call: &Call<'_>, peer: &Context, access: Access) -> Result<(), CUresult> {
    let mut peers = call.session.memory.peers.lock();
    cuda!(call.driver(), cuCtxEnablePeerAccess(peer.handle, 0))?;
    if let Err(error) = set_all(call, access.peer, access.device, READ_AND_WRITE) {
        // The first error is the one to tell.
        let _ = cuda!(call.driver(), cuCtxDisablePeerAccess(peer.handle));
        let _ = close(call, peer, access.device, &peers);
        return Err(error);
    }
    peers.0.of_contexts.push(access);
    Ok(())
}

/// The driver is asked first: what it does not take away is still known, and opened for what is mapped later.
fn disable(call: &Call<'_>, peer: &Context, access: Access) -> Result<(), CUresult> {
    let mut peers = call.session.memory.peers.lock();
    cuda!(call.driver(), cuCtxDisablePeerAccess(peer.handle))?;
    peers.0.of_contexts.retain(|known| *known != access);
    close(call, peer, access.device, &peers)
}

/// Closes what a context has mapped to a device that may not reach it any more.
fn close(
    call: &Call<'_>,
    owner: &Context,
    device: CUdevice,
    peers: &Held<'_>,
) -> Result<(), CUresult> {
    let is_open = peers.devices(owner).any(|open| open == device);
    match is_open {
        true => Ok(()),
        false => set_all(call, owner.serial, device, NO_ACCESS),
    }
}

/// Kernels of a device may reach another's memory, or no longer.
pub(crate) fn gpurunPoolAccess(
    call: &mut Call<'_>,
    request: &request::GpurunPoolAccess,
) -> Result<(), CallError> {
    let access = PoolAccess {
        device: request.device(),
        peer: request.peer(),
    };
    call.session.devices.check(access.device)?;
    call.session.devices.check(access.peer)?;
    if access.device == access.peer || request.enabled() > 1 {
        return Err(CallError::Violation(
            "a pool that is opened to its own device, or neither opened nor closed",
        ));
    }
    let mut peers = call.session.memory.peers.lock();
    let mut owners = call.session.contexts.all();
    owners.retain(|context| context.device == access.device);
    let close_all = |peers: &Held<'_>| {
        let mut owners = owners.iter();
        owners.try_for_each(|owner| close(call, owner, access.peer, peers))
    };
    if request.enabled() == 0 {
        peers.0.of_pools.retain(|known| *known != access);
        return Ok(close_all(&peers)?);
    }
    if peers.0.of_pools.contains(&access) {
        return Ok(());
    }
    let mut opened = owners.iter();
    let opened =
        opened.try_for_each(|owner| set_all(call, owner.serial, access.peer, READ_AND_WRITE));
    if let Err(error) = opened {
        // The first error is the one to tell.
        let _ = close_all(&peers);
        return Err(error.into());
    }
    peers.0.of_pools.push(access);
    Ok(())
}

/// The contexts between which a copy goes, if it is not within the device of its stream's context.
pub(crate) fn between(
    call: &Call<'_>,
    destination: u64,
    source: u64,
) -> Result<Option<(CUcontext, CUcontext)>, CUresult> {
    if call.session.devices.count == 1 {
        return Ok(None);
    }
    let device = call.context()?.device;
    let memory = &call.session.memory;
    let (to, from) = (memory.owner_of(destination), memory.owner_of(source));
    let Some((to, from)) = to.zip(from) else {
        return Ok(None);
    };
    if to.device == device && from.device == device {
        return Ok(None);
    }
    Ok(context_of(call, to).zip(context_of(call, from)))
}

/// The context in which an owner's memory is copied: of what belongs to none, any of its device's.
pub(crate) fn context_of(call: &Call<'_>, owner: Owner) -> Option<CUcontext> {
    let is_its = |context: &&Arc<Context>| match owner.context {
        Some(serial) => context.serial == serial,
        None => context.device == owner.device && context.is_alive(),
    };
    let contexts = call.session.contexts.all();
    contexts.iter().find(is_its).map(|context| context.handle)
}

/// Whose memory a range is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) device: CUdevice,
    /// The serial of its context, if it belongs to one.
    pub(crate) context: Option<u64>,
}
