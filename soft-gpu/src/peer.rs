//! Access between devices: whose memory a kernel may reach.
//!
//! All memory of a process lies in its one address space, so that copies reach all of it. A kernel reaches what is its own device's, the host's
//! memory, managed memory, and of other devices:
//!
//! | memory of | reached |
//! |---|---|
//! | a context | by contexts that have enabled access to it |
//! | a pool | by devices that `cuMemPoolSetAccess` names |
//! | `cuMemMap` | by devices that `cuMemSetAccess` names |
//! | another process | by the device of the context that has opened it |
//!
//! Everything else is an illegal address, as on devices that are really apart.

use driver_api::abi::{CUcontext, CUresult};

use crate::context::{Context, current, find};
use crate::memory::Region;
use crate::memory::space::Kind;
use crate::state::Driver;
use crate::threads::lock;

/// Who looks at memory: a device, and the contexts whose memory it may reach, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    device: usize,
    peers: Vec<usize>,
}

impl Viewer {
    /// A context's kernels. With one device there is nothing to tell apart.
    pub(crate) fn of(driver: &Driver, context: usize, device: usize) -> Self {
        let peers = match driver.config.devices() {
            1 => None,
            _ => driver.contexts.get(context).ok(),
        };
        Self {
            device,
            peers: peers.map_or_else(Vec::new, |context| lock(&context.peers).clone()),
        }
    }

    /// Whether it may reach a region; `pools` are those of other devices that allow it.
    fn reaches(&self, region: &Region, pools: &[usize]) -> bool {
        match &region.kind {
            Kind::Host { .. } | Kind::Registered { .. } | Kind::Managed { .. } => true,
            Kind::Mapped { devices, .. } | Kind::Multicast { devices, .. } => {
                devices.contains(self.device)
            }
            _ if region.device == self.device => true,
            Kind::Borrowed { opener, .. } if region.pool == 0 => *opener == self.device,
            _ if region.pool != 0 => pools.contains(&region.pool),
            _ => self.peers.contains(&region.context),
        }
    }

    /// Which of all regions it may reach.
    pub(crate) fn filter(&self, driver: &Driver) -> impl Fn(&Region) -> bool {
        let pools = match driver.config.devices() {
            1 => Vec::new(),
            _ => crate::pool::reached_by(driver, self.device),
        };
        move |region| self.reaches(region, &pools)
    }
}

/// The current context and the one that a handle names.
fn pair(peer: CUcontext) -> Result<[std::sync::Arc<Context>; 2], CUresult> {
    let own = current()?;
    if peer.0 == 0 || peer.0 == own.handle {
        return Err(CUresult::INVALID_CONTEXT);
    }
    Ok([own, find(peer)?])
}

/// The current context's kernels may reach a context's memory.
pub(crate) fn enable(peer: CUcontext, flags: u32) -> Result<(), CUresult> {
    let [own, peer] = pair(peer)?;
    if flags != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    if own.device == peer.device {
        return Err(CUresult::PEER_ACCESS_UNSUPPORTED);
    }
    let mut peers = lock(&own.peers);
    match peers.binary_search(&peer.handle) {
        Ok(_) => Err(CUresult::PEER_ACCESS_ALREADY_ENABLED),
        Err(place) => {
            peers.insert(place, peer.handle);
            Ok(())
        }
    }
}

/// They may no longer, once those that run have ended.
pub(crate) fn disable(peer: CUcontext) -> Result<(), CUresult> {
    let [own, peer] = pair(peer)?;
    if lock(&own.peers).binary_search(&peer.handle).is_err() {
        return Err(CUresult::PEER_ACCESS_NOT_ENABLED);
    }
    own.synchronize()?;
    lock(&own.peers).retain(|known| *known != peer.handle);
    Ok(())
}

/// A context has ended: a later one may have its handle.
pub(crate) fn context_destroyed(driver: &Driver, context: usize) {
    for other in driver.contexts.all() {
        lock(&other.peers).retain(|known| *known != context);
    }
}
