//! Device memory: mapping and giving back: the rows of the `memory` area. Copies and fills are in [`copy`].
//!
//! *What:* [`Memory`] knows every range that this session may name: what it mapped inside its windows, what the driver placed, and
//! module variables. *Rules:* an address or a length of the client is compared with these ranges before the driver
//! sees it; memory is given back only when every stream of its context has passed what was posted before
//! ([`Quarantine`]); a step of a mapping that fails undoes the steps before it.
//!
//! # Safety
//! Ranges are of this session's own windows, handles come from the driver through this module, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod copy;
mod volume;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::{CUdevice, CUmemAccessDesc, CUmemAllocationProp, CUmemLocation};
use driver_api::result::CUresult;
use driver_api::wire::{TICKET_STREAM, reply, request};
use protocol::hello::Window;

use super::accounts::{self, Accounts, Made};
use super::call::{Call, CallError};
use super::context::{Context, Owner, Peers, attribute};
use super::end::lock;
use super::executor;
use super::ipc::{Shareable, Shared};
use super::janitor::{self, Job};
use super::point::{Action, Quarantine};
use super::session::Session;
use super::virtual_memory::Bindings;
use crate::driver::cuda;

pub(crate) use super::mirrors::{
    gpurunHostMap, gpurunHostPull, gpurunHostPush, gpurunHostUnmap, gpurunManage,
};
pub(crate) use copy::{
    fill_extent, gpurunCopyFromDevice, gpurunCopyOnDevice, gpurunCopyToDevice,
    gpurunFetchFromDevice, gpurunFill, gpurunReadToDevice, issue_part,
};
use copy::{keep, run_if_large};
pub(crate) use volume::*;

/// What is mapped in a window has this granularity.
pub(crate) use crate::ledger::CHUNK_BYTES;

/// Most ranges of one session.
pub(crate) const MAX_RANGES: usize = 1 << 20;

/// A device's location kind.
const ON_DEVICE: u32 = 1;

/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_AND_WRITE: u32 = 3;

/// The context of what belongs to none: serials begin at 1.
const NO_CONTEXT: u64 = 0;

/// A range that the session may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) address: u64,
    size: u64,
    kind: Kind,
    /// The serial of the context it was made in, and its device.
    context: u64,
    device: CUdevice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Being made.
    Pending,
    /// Mapped in a window: the handle of its physical memory.
    Mapped(u64),
    /// Another session's memory, mapped in a window: the handle of its physical memory.
    Borrowed(u64),
    /// Physical memory of the program's own, by the client's number, mapped in a window. It belongs to no context.
    Virtual(u32),
    /// Placed by the driver.
    Placed,
    /// A variable of a module.
    OfModule(u32),
    /// A variable of a library.
    OfLibrary(u32),
    /// Host memory that the device reaches: see [`super::mirrors`].
    Host,
    /// Given back, in quarantine.
    Leaving,
}

impl Kind {
    /// Of the variables of a module or of a library.
    const fn of_globals(owner: u32, is_library: bool) -> Self {
        match is_library {
            true => Self::OfLibrary(owner),
            false => Self::OfModule(owner),
        }
    }
}

/// The ranges of a session.
#[derive(Default)]
pub(crate) struct Memory {
    windows: Vec<Window>,
    ranges: Mutex<BTreeMap<u64, Mapping>>,
    pub(super) accounts: Accounts,
    /// Whose kernels may reach whose memory.
    pub(super) peers: Peers,
    /// What is shared with other sessions of the lease.
    pub(crate) shared: Arc<Shared>,
    /// What is bound to multicast objects.
    pub(super) bindings: Bindings,
}

impl Memory {
    pub(crate) fn new(session: u64, windows: Vec<Window>, accounts: Accounts) -> Self {
        Self {
            windows,
            ranges: Mutex::default(),
            accounts,
            peers: Peers::default(),
            shared: Arc::new(Shared::new(session)),
            bindings: Bindings::default(),
        }
    }

    /// Whether the client may hold chunks for small allocations.
    pub(super) fn has_chunks(&self) -> bool {
        let is_chunk = |range: &Mapping| {
            range.size == CHUNK_BYTES && matches!(range.kind, Kind::Mapped(_) | Kind::Pending)
        };
        lock(&self.ranges).values().any(is_chunk)
    }

    /// Whether the session may name all of these bytes; ranges that touch may be crossed.
    pub(crate) fn check(&self, address: u64, length: u64) -> Result<(), CUresult> {
        let end = address.checked_add(length).ok_or(CUresult::INVALID_VALUE)?;
        let ranges = lock(&self.ranges);
        let mut reached = address;
        while reached < end {
            let (_, range) = ranges
                .range(..=reached)
                .next_back()
                .ok_or(CUresult::INVALID_VALUE)?;
            // Ranges were checked for overflow when they came in.
            let range_end = range.address + range.size;
            if reached >= range_end || range.kind == Kind::Pending {
                return Err(CUresult::INVALID_VALUE);
            }
            reached = range_end;
        }
        Ok(())
    }

    /// Whether all of these bytes are of one range that was mapped, or placed, for this context and is given back by the janitor.
    pub(super) fn is_whole(&self, address: u64, length: u64, context: u64) -> bool {
        let ranges = lock(&self.ranges);
        let range = ranges.range(..=address).next_back().map(|(_, range)| range);
        range.is_some_and(|range| {
            let offset = address - range.address;
            matches!(range.kind, Kind::Mapped(_) | Kind::Placed)
                && range.context == context
                && offset < range.size
                && length <= range.size - offset
        })
    }

    /// Whether all of these bytes are of one range that can be managed: memory that was mapped for a context, or a variable.
    pub(super) fn check_manageable(&self, address: u64, length: u64) -> Result<(), CUresult> {
        let ranges = lock(&self.ranges);
        let (_, range) = ranges
            .range(..=address)
            .next_back()
            .ok_or(CUresult::INVALID_VALUE)?;
        let is_of_its_kind = matches!(
            range.kind,
            Kind::Mapped(_) | Kind::OfModule(_) | Kind::OfLibrary(_)
        );
        let offset = address - range.address;
        let is_inside = offset < range.size && length <= range.size - offset;
        match is_of_its_kind && is_inside && length > 0 {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    }

    /// The range that holds an address, if it is mapped for a context: its address, its handle, its size, its device.
    pub(super) fn mapped_at(&self, address: u64) -> Result<(u64, u64, u64, CUdevice), CUresult> {
        let ranges = lock(&self.ranges);
        let range = ranges.range(..=address).next_back().map(|(_, range)| range);
        let range = range.filter(|range| address - range.address < range.size);
        match range.map(|range| (range, range.kind)) {
            Some((range, Kind::Mapped(handle))) => {
                Ok((range.address, handle, range.size, range.device))
            }
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    /// [`Memory::claim`] for memory of another session.
    pub(super) fn claim_import(
        &self,
        address: u64,
        size: u64,
        context: u64,
        device: CUdevice,
    ) -> Result<(), CUresult> {
        self.claim_for(address, size, context, device)
    }

    /// Another session's memory is mapped there, or was not.
    pub(super) fn settle_import(&self, address: u64, handle: Option<u64>) {
        self.settle_as(address, handle.map(Kind::Borrowed));
    }

    /// Unmaps another session's memory.
    pub(super) fn close_import(
        &self,
        driver: &Driver,
        address: u64,
        size: u64,
    ) -> Result<(), CUresult> {
        let mapping = {
            let mut ranges = lock(&self.ranges);
            let range = ranges.get_mut(&address);
            let range = range.filter(|range| range.size == size && range.is_borrowed());
            let range = range.ok_or(CUresult::INVALID_VALUE)?;
            let taken = *range;
            range.kind = Kind::Leaving;
            taken
        };
        let give_back = || mapping.give_back(driver);
        let result = self
            .shared
            .end_import(&self.accounts, Shareable::Mapped(address), give_back);
        self.forget(&mapping);
        result
    }

    /// The ranges that are mapped for a context.
    pub(super) fn mapped_by(&self, context: u64) -> Vec<(u64, u64)> {
        let ranges = lock(&self.ranges);
        let is_its =
            |range: &&Mapping| range.context == context && matches!(range.kind, Kind::Mapped(_));
        let its = ranges.values().filter(is_its);
        its.map(|range| (range.address, range.size)).collect()
    }

    /// Whose memory is at an address.
    pub(super) fn owner_of(&self, address: u64) -> Option<Owner> {
        let ranges = lock(&self.ranges);
        let (_, range) = ranges.range(..=address).next_back()?;
        Some(Owner {
            device: range.device,
            context: Some(range.context).filter(|context| *context != NO_CONTEXT),
        })
    }

    /// Notes a free range of a window, so that nobody else takes it while it is being mapped.
    fn claim(&self, address: u64, size: u64, context: &Context) -> Result<(), CUresult> {
        self.claim_for(address, size, context.serial, context.device)
    }

    /// [`Memory::claim`] for memory of the program's own.
    pub(super) fn claim_virtual(
        &self,
        address: u64,
        size: u64,
        device: CUdevice,
    ) -> Result<(), CUresult> {
        self.claim_for(address, size, NO_CONTEXT, device)
    }

    /// The physical memory that is mapped in exactly this range.
    pub(super) fn virtual_at(&self, address: u64, size: u64) -> Result<u32, CUresult> {
        let ranges = lock(&self.ranges);
        let range = ranges.get(&address).filter(|range| range.size == size);
        match range.map(|range| range.kind) {
            Some(Kind::Virtual(physical)) => Ok(physical),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Memory of the program's own is mapped there, or is not any more.
    pub(super) fn settle_virtual(&self, address: u64, physical: Option<u32>) {
        self.settle_as(address, physical.map(Kind::Virtual));
    }

    fn claim_for(
        &self,
        address: u64,
        size: u64,
        context: u64,
        device: CUdevice,
    ) -> Result<(), CUresult> {
        let end = address.checked_add(size).ok_or(CUresult::INVALID_VALUE)?;
        let is_whole = size != 0 && (address | size).is_multiple_of(CHUNK_BYTES);
        let is_inside =
            |window: &Window| window.base <= address && end - window.base.min(end) <= window.size;
        if !is_whole || !self.windows.iter().any(is_inside) {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut ranges = lock(&self.ranges);
        let before = ranges.range(..end).next_back();
        if before.is_some_and(|(_, range)| range.address + range.size > address) {
            return Err(CUresult::INVALID_VALUE);
        }
        if ranges.len() >= MAX_RANGES {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let kind = Kind::Pending;
        ranges.insert(
            address,
            Mapping {
                address,
                size,
                kind,
                context,
                device,
            },
        );
        Ok(())
    }

    fn settle(&self, address: u64, handle: Option<u64>) {
        self.settle_as(address, handle.map(Kind::Mapped));
    }

    fn settle_as(&self, address: u64, kind: Option<Kind>) {
        let mut ranges = lock(&self.ranges);
        match kind {
            Some(kind) => {
                if let Some(range) = ranges.get_mut(&address) {
                    range.kind = kind;
                }
            }
            None => {
                ranges.remove(&address);
            }
        }
    }

    /// Notes what the driver placed.
    fn add(&self, address: u64, size: u64, kind: Kind, context: &Context) -> Result<(), CUresult> {
        address.checked_add(size).ok_or(CUresult::INVALID_VALUE)?;
        let mut ranges = lock(&self.ranges);
        if ranges.len() >= MAX_RANGES {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        ranges.entry(address).or_insert(Mapping {
            address,
            size,
            kind,
            context: context.serial,
            device: context.device,
        });
        Ok(())
    }

    /// Notes a variable of a module or of a library.
    pub(crate) fn add_global(
        &self,
        address: u64,
        size: u64,
        owner: u32,
        is_library: bool,
        context: &Context,
    ) -> Result<(), CUresult> {
        self.add(address, size, Kind::of_globals(owner, is_library), context)
    }

    /// Notes host memory that the device reaches.
    pub(super) fn add_host(
        &self,
        address: u64,
        size: u64,
        context: &Context,
    ) -> Result<(), CUresult> {
        self.add(address, size, Kind::Host, context)
    }

    /// Such memory is being given back.
    pub(super) fn forget_host(&self, address: u64) {
        let mut ranges = lock(&self.ranges);
        if ranges
            .get(&address)
            .is_some_and(|range| range.kind == Kind::Host)
        {
            ranges.remove(&address);
        }
    }

    /// The variables of a module or of a library.
    pub(super) fn globals(&self, owner: u32, is_library: bool) -> Vec<(u64, u64)> {
        let kind = Kind::of_globals(owner, is_library);
        let ranges = lock(&self.ranges);
        let its = ranges.values().filter(|range| range.kind == kind);
        its.map(|range| (range.address, range.size)).collect()
    }

    /// A module or a library is gone, and its variables.
    pub(crate) fn forget_globals(&self, owner: u32, is_library: bool) {
        let kind = Kind::of_globals(owner, is_library);
        lock(&self.ranges).retain(|_, range| range.kind != kind);
    }

    /// Takes a range for giving it back.
    fn leave(&self, address: u64, size: u64) -> Result<Mapping, CUresult> {
        let mut ranges = lock(&self.ranges);
        let range = ranges
            .get_mut(&address)
            .filter(|range| {
                let is_size = range.size == size || matches!(range.kind, Kind::Placed);
                is_size && matches!(range.kind, Kind::Mapped(_) | Kind::Placed)
            })
            .ok_or(CUresult::INVALID_VALUE)?;
        let taken = *range;
        range.kind = Kind::Leaving;
        Ok(taken)
    }

    /// A range is given back, unless it went with its context, and the address to another.
    pub(crate) fn forget(&self, mapping: &Mapping) {
        let mut ranges = lock(&self.ranges);
        let range = ranges.get(&mapping.address);
        if range
            .is_some_and(|range| range.kind == Kind::Leaving && range.context == mapping.context)
        {
            ranges.remove(&mapping.address);
        }
    }

    /// A context is gone: its mappings are given back, the rest went with it.
    pub(crate) fn give_back_all_of(&self, driver: &Driver, context: u64) {
        let gone: Vec<Mapping> = {
            let mut ranges = lock(&self.ranges);
            let gone = ranges
                .values()
                .filter(|range| range.context == context)
                .copied()
                .collect();
            ranges.retain(|_, range| range.context != context);
            gone
        };
        for mapping in gone {
            self.bindings.end_of_range(driver, mapping.address);
            if mapping.is_borrowed() {
                let (address, give_back) = (mapping.address, || mapping.give_back(driver));
                let what = Shareable::Mapped(address);
                if let Err(error) = self.shared.end_import(&self.accounts, what, give_back) {
                    tracing::warn!(address, %error, "giving memory back failed");
                }
            }
            let Some(made) = mapping.made() else {
                continue;
            };
            self.accounts.begin_to_give_back(mapping.device);
            let result = match mapping.is_placed_by_driver() {
                true => Ok(()),
                false if self.keeps(driver, &mapping) => {
                    self.accounts.stays(mapping.device, Made::Exact(0));
                    continue;
                }
                false => mapping.give_back(driver),
            };
            if let Err(error) = result {
                tracing::warn!(address = mapping.address, %error, "giving memory back failed");
                self.accounts.stays(mapping.device, Made::Exact(0));
            } else {
                self.accounts.gave_back(mapping.device, made, false);
            }
        }
    }
}

impl Memory {
    /// Unmaps what other sessions have open, and keeps it for them; false if nobody has.
    fn keeps(&self, driver: &Driver, mapping: &Mapping) -> bool {
        let Kind::Mapped(handle) = mapping.kind else {
            return false;
        };
        let what = (handle, mapping.size, mapping.device);
        let Some(kept) = self
            .shared
            .end_export(Shareable::Mapped(mapping.address), what)
        else {
            return false;
        };
        if let Err(error) = cuda!(driver, cuMemUnmap(mapping.address, mapping.size as usize)) {
            tracing::warn!(address = mapping.address, %error, "unmapping failed");
        }
        self.shared.keep(kept);
        true
    }
}

impl Mapping {
    /// Whether it is another session's memory.
    const fn is_borrowed(&self) -> bool {
        matches!(self.kind, Kind::Borrowed(_))
    }

    /// Whether the driver chose the address.
    pub(crate) const fn is_placed_by_driver(&self) -> bool {
        matches!(self.kind, Kind::Placed)
    }

    /// What it was charged as; nothing if it was not.
    fn made(&self) -> Option<Made> {
        match self.kind {
            Kind::Mapped(_) => Some(Made::Exact(self.size)),
            Kind::Placed => Some(Made::Placed(self.size)),
            Kind::Pending
            | Kind::Virtual(_)
            | Kind::Borrowed(_)
            | Kind::OfModule(_)
            | Kind::OfLibrary(_)
            | Kind::Host
            | Kind::Leaving => None,
        }
    }

    /// Gives back what has been leaving, from a context that may be gone: then what the driver placed went with it.
    pub(crate) fn give_back_leaving(
        &self,
        session: &Session,
        context: &Context,
    ) -> Result<(), CUresult> {
        let (driver, accounts) = (session.driver, &session.memory.accounts);
        if let Some(direct) = &session.direct {
            direct.wait_for(session, self.address, self.size);
        }
        accounts.begin_to_give_back(self.device);
        session.memory.bindings.end_of_range(driver, self.address);
        let result = match context.make_current(driver) {
            Err(_) if self.is_placed_by_driver() => Ok(()),
            _ if session.memory.keeps(driver, self) => {
                accounts.stays(self.device, Made::Exact(self.size));
                return Ok(());
            }
            _ => self.give_back(driver),
        };
        if let Some(made) = self.made() {
            match result {
                Ok(()) => accounts.gave_back(self.device, made, true),
                Err(_) => accounts.stays(self.device, made),
            }
        }
        result
    }

    /// Unmaps and releases, or frees.
    pub(crate) fn give_back(&self, driver: &Driver) -> Result<(), CUresult> {
        match self.kind {
            Kind::Mapped(handle) | Kind::Borrowed(handle) => {
                let unmapped = cuda!(driver, cuMemUnmap(self.address, self.size as usize));
                cuda!(driver, cuMemRelease(handle))?;
                unmapped
            }
            Kind::Placed => cuda!(driver, cuMemFree_v2(self.address)),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}

/// Physical memory at an address of a window, or memory where the driver places it.
pub(crate) fn gpurunMemoryMap(
    call: &mut Call<'_>,
    request: &request::GpurunMemoryMap,
) -> Result<(), CallError> {
    let (address, size) = (request.address(), request.size());
    let context = Arc::clone(call.context()?);
    let memory = &call.session.memory;
    let accounts = &memory.accounts;
    let made = match address {
        0 => Made::Placed(size),
        _ => Made::Exact(size),
    };
    let thread = call.record.thread;
    let taken = accounts.take(context.device, made, thread)?;
    let mapped = match address {
        0 => place(call, &context, size),
        _ => map_at(call, &context, address, size).map(|()| address),
    };
    let mapped = mapped.map_err(|error| accounts.driver_refused(thread, error))?;
    if let Some(taken) = taken {
        taken.commit();
    }
    accounts.granted(thread);
    call.reply(&reply::GpurunMemoryMap::new(mapped));
    Ok(())
}

/// Memory where the driver places it.
fn place(call: &Call<'_>, context: &Context, size: u64) -> Result<u64, CUresult> {
    let (driver, memory) = (call.driver(), &call.session.memory);
    let mut placed = 0;
    cuda!(driver, cuMemAlloc_v2(&mut placed, size as usize))?;
    let noted = wipe(call, context, placed, size)
        .and_then(|()| memory.add(placed, size, Kind::Placed, context));
    if let Err(error) = noted {
        cuda!(driver, cuMemFree_v2(placed))?;
        return Err(error);
    }
    Ok(placed)
}

/// Physical memory at an address of a window.
fn map_at(call: &Call<'_>, context: &Context, address: u64, size: u64) -> Result<(), CUresult> {
    let (driver, memory) = (call.driver(), &call.session.memory);
    memory.claim(address, size, context)?;
    let handle = map(driver, context, address, size as usize).and_then(|handle| {
        wipe(call, context, address, size)
            .map(|()| handle)
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = cuda!(driver, cuMemUnmap(address, size as usize));
                let _ = cuda!(driver, cuMemRelease(handle));
            })
    });
    // Whoever is let in meanwhile is let into this too.
    let peers = memory.peers.lock();
    let handle = handle.and_then(|handle| {
        let opened = peers.open(driver, context, (address, size));
        opened.map(|()| handle).inspect_err(|_| {
            let _ = cuda!(driver, cuMemUnmap(address, size as usize));
            let _ = cuda!(driver, cuMemRelease(handle));
        })
    });
    memory.settle(address, handle.ok());
    handle.map(drop)
}

/// Fills fresh memory with zeros if the order says so, before the client knows of it: what was there may have been another tenant's.
///
/// Cost: what the device takes to write the memory once, and a wait for it.
pub(super) fn wipe(
    call: &Call<'_>,
    context: &Context,
    address: u64,
    size: u64,
) -> Result<(), CUresult> {
    if !call.session.memory.accounts.wipes() {
        return Ok(());
    }
    let driver = call.driver();
    // A stream of its own: it waits for no work of the client.
    let stream = context.wiping_stream(driver)?;
    cuda!(driver, cuMemsetD8Async(address, 0, size as usize, stream))?;
    cuda!(driver, cuStreamSynchronize(stream))
}

/// Free and total memory: of the slice, if the session has one.
pub(crate) fn cuMemGetInfo_v2(
    call: &mut Call<'_>,
    _: &request::CuMemGetInfo_v2,
) -> Result<(), CallError> {
    let device = call.context()?.device;
    let (mut free, mut total) = (0_usize, 0_usize);
    cuda!(call.driver(), cuMemGetInfo_v2(&mut free, &mut total))?;
    let accounts = &call.session.memory.accounts;
    let (free, total) = accounts.show(device, (free as u64, total as u64));
    call.reply(&reply::CuMemGetInfo_v2::new(free, total));
    Ok(())
}

/// The client holds nothing idle any more.
pub(crate) fn gpurunIdleGivenBack(
    call: &mut Call<'_>,
    request: &request::GpurunIdleGivenBack,
) -> Result<(), CallError> {
    accounts::given_back(call, request)
}

/// Creates, maps, gives access; undoes what was done if a step fails.
fn map(driver: &Driver, context: &Context, address: u64, size: usize) -> Result<u64, CUresult> {
    let handle = create(driver, context.device, size)?;
    let result = cuda!(driver, cuMemMap(address, size, 0, handle, 0)).and_then(|()| {
        let range = (address, size as u64);
        set_access(driver, range, context.device, READ_AND_WRITE).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = cuda!(driver, cuMemUnmap(address, size));
        })
    });
    match result {
        Ok(()) => Ok(handle),
        Err(error) => {
            let _ = cuda!(driver, cuMemRelease(handle));
            Err(error)
        }
    }
}

/// What a device may do with a mapping.
pub(super) fn set_access(
    driver: &Driver,
    (address, size): (u64, u64),
    device: CUdevice,
    flags: u32,
) -> Result<(), CUresult> {
    let access = CUmemAccessDesc {
        location: location(device),
        flags,
    };
    cuda!(driver, cuMemSetAccess(address, size as usize, &access, 1))
}

fn location(device: CUdevice) -> CUmemLocation {
    CUmemLocation {
        kind: ON_DEVICE,
        id: device,
    }
}

/// Physical memory: exportable and for RDMA where the device can, plain otherwise.
pub(super) fn create(driver: &Driver, device: CUdevice, size: usize) -> Result<u64, CUresult> {
    const PINNED: u32 = 1;
    const POSIX_DESCRIPTOR: u32 = 1;
    const HAS_POSIX_DESCRIPTORS: u32 = 103;
    const HAS_RDMA: u32 = 110;
    let has = |number| attribute(driver, device, number) == Some(1);
    let plain = CUmemAllocationProp {
        kind: PINNED,
        location: location(device),
        ..CUmemAllocationProp::default()
    };
    let mut best = plain;
    best.requested_handle_types = u32::from(has(HAS_POSIX_DESCRIPTORS)) * POSIX_DESCRIPTOR;
    best.gpu_direct_rdma_capable = u8::from(has(HAS_RDMA));
    let mut handle = 0;
    match cuda!(driver, cuMemCreate(&mut handle, size, &best, 0)) {
        Ok(()) => Ok(handle),
        Err(CUresult::OUT_OF_MEMORY) => Err(CUresult::OUT_OF_MEMORY),
        Err(_) => {
            cuda!(driver, cuMemCreate(&mut handle, size, &plain, 0))?;
            Ok(handle)
        }
    }
}

/// Gives memory back once every stream of its context has passed what was posted before. A refusal is told by the ticket too.
pub(crate) fn gpurunMemoryUnmap(
    call: &mut Call<'_>,
    request: &request::GpurunMemoryUnmap,
) -> Result<(), CallError> {
    let result = quarantine(call, request);
    if let Err(error) = result {
        let outbox = &call.session.outbox;
        outbox.completion(TICKET_STREAM, error, request.ticket());
        outbox.flush();
    }
    result.map_err(CallError::from)
}

fn quarantine(call: &Call<'_>, request: &request::GpurunMemoryUnmap) -> Result<(), CUresult> {
    let context = Arc::clone(call.context()?);
    let mapping = call
        .session
        .memory
        .leave(request.address(), request.size())?;
    if let Some(made) = mapping.made() {
        call.session.memory.accounts.leaves(mapping.device, made);
    }
    let job = Job {
        context,
        mapping,
        ticket: request.ticket(),
    };
    // Calls that came before on other lanes are put into their streams first.
    executor::after_other_lanes(call, move |session| follow_streams(session, job));
    Ok(())
}

/// Hands a job to the janitor once every stream of its context has passed what is in it now.
fn follow_streams(session: &Session, job: Job) {
    let context = Arc::clone(&job.context);
    let streams = context.all_streams();
    // One more than there are streams: ours, so that the job does not start before all are asked.
    let quarantine = Quarantine::new(streams.len() + 1, job);
    let count_down = || {
        if let Some(job) = quarantine.count_down() {
            janitor::hand_over(&session.janitor, job);
        }
    };
    for stream in streams {
        let action = Action::CountDown(Arc::clone(&quarantine));
        if stream.after_all(session, &context, action).is_err() {
            count_down();
        }
    }
    count_down();
}
