//! Memory: of the device, of the host, and what moves between them.
//!
//! A device address is the address of the same memory in this process. So a copy is a copy, a pinned page is the same
//! for both sides, and what has to be checked is whether an address is *known*: [`space`] answers that for
//! copies and, as a snapshot, for kernels.
//!
//! Rules: memory ends only after everything posted to its context has finished. The ledger is
//! charged before memory is made and refunded after it is gone.
//!
//! # Safety
//!
//! The driver's functions write answers through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod batch;
mod copy;
mod fill;
mod heap;
mod host;
pub(crate) mod map;
mod peer;
mod pointer;
mod raw;
pub(crate) mod space;

use core::ffi::c_uint;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use driver_api::abi::{CUdeviceptr, CUresult};
use driver_api::managed::Advised;

pub(crate) use batch::*;
pub(crate) use copy::*;
pub(crate) use fill::*;
pub(crate) use host::*;
pub(crate) use peer::*;
pub(crate) use pointer::*;

use crate::context::{Context, current, unique_id};
use crate::entry::{answer, answer_if_asked, done};
use crate::exec::Allocations;
use crate::hostile::POISON;
use crate::log::warn;
use crate::peer::Viewer;
use crate::state::{Driver, driver};
use crate::threads::lock;
use heap::{ALIGNMENT, Heap};
use map::{GRANULARITY, Mapping, Place, Store};
pub(crate) use space::Region;
use space::{Kind, Space};

/// What is larger gets a piece of its own.
const MAX_SMALL_BYTES: u64 = 1 << 20;
/// `cuMemAllocPitch` makes rows a multiple of this.
const PITCH_ALIGNMENT: usize = 512;

/// What each who looks may reach, of one generation.
#[derive(Debug, Default)]
struct Snapshots {
    generation: u64,
    of: Vec<(Viewer, Arc<Allocations>)>,
}

/// All memory of this process on the devices.
#[derive(Debug)]
pub(crate) struct Memory {
    stores: Vec<Store>,
    heaps: Vec<Mutex<Heap>>,
    managed_heaps: Vec<Mutex<Heap>>,
    /// What was said of managed memory.
    pub(crate) advised: Mutex<Advised>,
    space: RwLock<Space>,
    /// Counts changes of `space`.
    generation: AtomicU64,
    snapshots: Mutex<Snapshots>,
    pub(crate) reservations: Mutex<Vec<Mapping>>,
    /// How many regions of `space` are multicast objects.
    pub(crate) multicasts: AtomicUsize,
}

/// Sees what is bound to multicast objects that are mapped; whether anything has changed.
fn look_at_multicasts(space: &Space) -> bool {
    let objects = space.iter().filter_map(|region| match &region.kind {
        Kind::Multicast { object, .. } => Some(object),
        _ => None,
    });
    let changed = objects.map(|object| object.refresh());
    changed.fold(false, |known, new| match new {
        Ok(new) => known | new,
        Err(error) => {
            warn(&format!(
                "what is bound to a multicast object cannot be seen: error {}",
                error.0
            ));
            known
        }
    })
}

impl Memory {
    pub(crate) fn new(devices: usize) -> Result<Self, CUresult> {
        Ok(Self {
            stores: (0..devices)
                .map(|_| Store::new())
                .collect::<Result<_, _>>()?,
            heaps: (0..devices).map(|_| Mutex::default()).collect(),
            managed_heaps: (0..devices).map(|_| Mutex::default()).collect(),
            advised: Mutex::default(),
            space: RwLock::default(),
            generation: AtomicU64::new(1),
            snapshots: Mutex::default(),
            reservations: Mutex::default(),
            multicasts: AtomicUsize::new(0),
        })
    }

    pub(crate) fn space(&self) -> RwLockReadGuard<'_, Space> {
        self.space.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a change; whoever asks for it is believed to make one.
    pub(crate) fn space_mut(&self) -> RwLockWriteGuard<'_, Space> {
        let space = self.space.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::Relaxed);
        space
    }

    /// Whether all of a range is memory that copies and kernels may access.
    pub(crate) fn is_accessible(&self, address: u64, size: u64) -> bool {
        self.space().is_accessible(address, size)
    }

    /// Copies bytes of memory that is there. False: it has gone, or some of it.
    pub(crate) fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        // Nothing that is in it ends meanwhile.
        let space = self.space();
        if !space.is_accessible(address, bytes.len() as u64) {
            return false;
        }
        // SAFETY: all of it is mapped as long as the space is held; the buffer is our own.
        unsafe { raw::copy(bytes.as_mut_ptr() as u64, address, bytes.len()) };
        true
    }

    /// What kernels may access, as of now.
    pub(crate) fn snapshot(&self, driver: &Driver, viewer: &Viewer) -> Arc<Allocations> {
        let mut snapshots = lock(&self.snapshots);
        let space = self.space();
        // What is bound to a multicast object may be another process's doing.
        if self.multicasts.load(Ordering::Relaxed) > 0 && look_at_multicasts(&space) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        // Before anything is looked at: a change of what pools allow meanwhile makes a later one.
        let generation = self.generation.load(Ordering::Relaxed);
        if snapshots.generation != generation {
            snapshots.of.clear();
            snapshots.generation = generation;
        }
        let known = snapshots.of.iter().find(|(known, _)| known == viewer);
        if let Some((_, allocations)) = known {
            return Arc::clone(allocations);
        }
        let reached = viewer.filter(driver);
        let teams = space.iter().filter(|region| reached(region));
        let teams = teams.filter_map(|region| match &region.kind {
            Kind::Multicast { object, .. } => Some(object.teams_at(region.base)),
            _ => None,
        });
        let teams = teams.flatten().collect();
        let allocations = Allocations::new(space.ranges(&reached)).with_teams(teams);
        let allocations = Arc::new(allocations);
        let taken = (viewer.clone(), Arc::clone(&allocations));
        snapshots.of.push(taken);
        allocations
    }

    /// Device memory for a context.
    pub(crate) fn allocate(
        &self,
        driver: &Driver,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        self.allocate_in(driver, context, 0, size)
    }

    /// Device memory for a context, of a pool.
    pub(crate) fn allocate_in(
        &self,
        driver: &Driver,
        context: &Context,
        pool: usize,
        size: u64,
    ) -> Result<u64, CUresult> {
        if size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if size > driver.segment.memory_bytes() {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let take = || -> Result<_, CUresult> {
            if size <= MAX_SMALL_BYTES {
                let rounded = size.next_multiple_of(ALIGNMENT);
                let base = self.small(driver, context.device, rounded)?;
                return Ok((base, Kind::Small(rounded)));
            }
            let piece = self.piece(driver, context.device, size.next_multiple_of(GRANULARITY))?;
            Ok((piece.mapping.base(), Kind::Large(Arc::new(piece))))
        };
        let (base, kind) = crate::pool::reclaiming(driver, take)?;
        self.hand_out(
            driver,
            Region {
                base,
                size,
                kind,
                context: context.handle,
                device: context.device,
                pool,
                id: unique_id(),
            },
        );
        Ok(base)
    }

    /// Managed memory for a context.
    pub(crate) fn allocate_managed(
        &self,
        driver: &Driver,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        if size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if size > driver.segment.memory_bytes() {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let device = context.device;
        let take = || -> Result<_, CUresult> {
            if size <= MAX_SMALL_BYTES {
                let rounded = size.next_multiple_of(ALIGNMENT);
                let base = self.small_managed(driver, device, rounded)?;
                return Ok((base, rounded, None));
            }
            let piece = self.managed_piece(driver, device, size)?;
            Ok((piece.mapping.base(), 0, Some(Arc::new(piece))))
        };
        let (base, rounded, piece) = crate::pool::reclaiming(driver, take)?;
        self.hand_out(
            driver,
            Region {
                base,
                size,
                kind: Kind::Managed { rounded, piece },
                context: context.handle,
                device,
                pool: 0,
                id: unique_id(),
            },
        );
        Ok(base)
    }

    fn managed_piece(
        &self,
        driver: &Driver,
        device: usize,
        size: u64,
    ) -> Result<map::Piece, CUresult> {
        let size = size.next_multiple_of(GRANULARITY);
        driver.segment.charge(device, size)?;
        Mapping::reserve_apart(size)
            .and_then(|mapping| self.stores[device].take_in(mapping))
            .inspect_err(|_| driver.segment.refund(device, size))
    }

    fn small_managed(&self, driver: &Driver, device: usize, size: u64) -> Result<u64, CUresult> {
        let mut heap = lock(&self.managed_heaps[device]);
        if let Some(address) = heap.take(size) {
            return Ok(address);
        }
        heap.add(self.managed_piece(driver, device, GRANULARITY)?);
        heap.take(size).ok_or(CUresult::OUT_OF_MEMORY)
    }

    /// Makes a region part of the address space.
    pub(crate) fn hand_out(&self, driver: &Driver, region: Region) {
        if driver.config.hostile.poisons() {
            raw::fill_own(region.base, region.size, POISON);
        }
        self.space_mut().insert(region);
    }

    /// Where an allocation lies in its device's file: the allocation, and the place and the size of the piece that it is of.
    pub(crate) fn place_of(&self, address: u64) -> Option<(Region, Place)> {
        let region = self.space().starting_at(address).cloned()?;
        let place = match &region.kind {
            Kind::Large(piece) => piece.place(),
            Kind::Small(_) => lock(&self.heaps[region.device]).piece_at(address)?.place(),
            _ => return None,
        };
        Some((region, place))
    }

    /// A copy of the descriptor of a device's file.
    pub(crate) fn file_of(&self, device: usize) -> Option<std::os::fd::OwnedFd> {
        self.stores.get(device)?.file().ok()
    }

    fn piece(&self, driver: &Driver, device: usize, size: u64) -> Result<map::Piece, CUresult> {
        driver.segment.charge(device, size)?;
        self.stores[device]
            .take(size)
            .inspect_err(|_| driver.segment.refund(device, size))
    }

    fn small(&self, driver: &Driver, device: usize, size: u64) -> Result<u64, CUresult> {
        let mut heap = lock(&self.heaps[device]);
        if let Some(address) = heap.take(size) {
            return Ok(address);
        }
        heap.add(self.piece(driver, device, GRANULARITY)?);
        heap.take(size).ok_or(CUresult::OUT_OF_MEMORY)
    }

    /// Gives a region's memory back. Nothing may use it any longer.
    pub(crate) fn release(&self, driver: &Driver, region: Region) {
        let device = region.device;
        match region.kind {
            Kind::Small(rounded) => {
                if driver.config.hostile.poisons() {
                    raw::fill_own(region.base, region.size, POISON);
                }
                let mut heap = lock(&self.heaps[device]);
                if let Some(piece) = heap.give_back(region.base, rounded) {
                    self.give_back(driver, device, piece);
                }
            }
            Kind::Large(piece) => {
                if let Some(piece) = Arc::into_inner(piece) {
                    self.give_back(driver, device, piece);
                }
            }
            Kind::Managed { rounded, piece } => {
                if piece.is_none() && driver.config.hostile.poisons() {
                    raw::fill_own(region.base, region.size, POISON);
                }
                lock(&self.advised).forget(region.base..region.base + region.size);
                let piece = match piece {
                    Some(piece) => Arc::into_inner(piece),
                    None => lock(&self.managed_heaps[device]).give_back(region.base, rounded),
                };
                if let Some(piece) = piece {
                    self.give_back(driver, device, piece);
                }
            }
            Kind::Host { .. }
            | Kind::Registered { .. }
            | Kind::Mapped { .. }
            | Kind::Multicast { .. }
            | Kind::Borrowed { .. } => {}
        }
    }

    /// A piece was in use by something else than its region too, and is not any more.
    pub(crate) fn let_go(&self, driver: &Driver, device: usize, piece: Arc<map::Piece>) {
        if let Some(piece) = Arc::into_inner(piece) {
            self.give_back(driver, device, piece);
        }
    }

    fn give_back(&self, driver: &Driver, device: usize, piece: map::Piece) {
        let size = piece.mapping.size();
        self.stores[device].give_back(piece);
        driver.segment.refund(device, size);
    }

    /// Removes a region and gives its memory back.
    pub(crate) fn free(&self, driver: &Driver, base: u64) {
        let region = self.space_mut().remove(base);
        if let Some(region) = region {
            self.release(driver, region);
        }
    }

    /// On a hostile device, overwrites an allocation that is about to be used as a new one, or no longer.
    pub(crate) fn spoil(&self, driver: &Driver, base: u64, id: u64) {
        // Held, so that it stays.
        let space = self.space();
        let region = space.starting_at(base).filter(|region| region.id == id);
        if let Some(region) = region.filter(|_| driver.config.hostile.poisons()) {
            raw::fill_own(region.base, region.size, POISON);
        }
    }

    /// The first word of the allocation with the name `id`, if it is still at its address.
    pub(crate) fn word(&self, base: u64, id: u64) -> Option<u32> {
        // Held, so that it stays.
        let space = self.space();
        space.starting_at(base).filter(|region| region.id == id)?;
        // SAFETY: what is handed out is mapped, aligned, and not shorter than a word, since its sizes are rounded up.
        Some(unsafe { raw::word(base) })
    }

    /// Sets the first word of the allocation with the name `id`; false if it is at its address no more.
    pub(crate) fn set_word(&self, base: u64, id: u64, value: u32) -> bool {
        // Held, so that it stays.
        let space = self.space();
        let region = space.starting_at(base).filter(|region| region.id == id);
        // SAFETY: as above.
        region
            .inspect(|_| unsafe { raw::fill(base, value, 4, 1) })
            .is_some()
    }

    /// The name of the allocation at an address: unlike the address, it never becomes another's.
    pub(crate) fn plain_at(&self, base: u64) -> Result<u64, CUresult> {
        self.starting_at(base, Region::is_plain)
    }

    /// The name of what `cuMemFree` ends.
    fn freeable_at(&self, base: u64) -> Result<u64, CUresult> {
        self.starting_at(base, |region| {
            region.is_plain() || region.is_managed() || region.is_of_other_pool()
        })
    }

    fn starting_at(&self, base: u64, is_wanted: impl Fn(&Region) -> bool) -> Result<u64, CUresult> {
        let space = self.space();
        let region = space.starting_at(base).filter(|region| is_wanted(region));
        region
            .map(|region| region.id)
            .ok_or(CUresult::INVALID_VALUE)
    }

    /// Takes the region with the name `id` out of the address space, if it is still at its address.
    pub(crate) fn take(&self, base: u64, id: u64) -> Option<Region> {
        let mut space = self.space_mut();
        space.starting_at(base).filter(|region| region.id == id)?;
        space.remove(base)
    }

    /// Everything that belongs to a context, at its end.
    pub(crate) fn free_all_of(&self, driver: &Driver, context: usize) {
        let of_context = |region: &&Region| region.context == context && !region.is_placed();
        let bases: Vec<u64> = self
            .space()
            .iter()
            .filter(of_context)
            .map(|region| region.base)
            .collect();
        for base in bases {
            self.free(driver, base);
        }
    }
}

/// Waits until no context of the process uses any memory.
pub(crate) fn quiesce(driver: &Driver) {
    for context in driver.contexts.all() {
        // Its own calls tell of its faults.
        let _ = context.synchronize();
    }
}

pub(crate) unsafe fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) -> CUresult {
    if dptr.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let allocate = || {
        let (driver, context) = (driver()?, current()?);
        crate::capture::guard()?;
        driver.memory.allocate(driver, &context, bytesize as u64)
    };
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(dptr, allocate()) }
}

pub(crate) unsafe fn cuMemAllocPitch_v2(
    dptr: *mut CUdeviceptr,
    pitch: *mut usize,
    width_in_bytes: usize,
    height: usize,
    element_size_bytes: c_uint,
) -> CUresult {
    if dptr.is_null() || pitch.is_null() || !matches!(element_size_bytes, 4 | 8 | 16) {
        return CUresult::INVALID_VALUE;
    }
    let Some(row) = width_in_bytes.checked_next_multiple_of(PITCH_ALIGNMENT) else {
        return CUresult::INVALID_VALUE;
    };
    let Some(size) = row.checked_mul(height) else {
        return CUresult::INVALID_VALUE;
    };
    // SAFETY: the caller passes places for an address and a size.
    unsafe {
        let result = cuMemAlloc_v2(dptr, size);
        if result == CUresult::SUCCESS {
            answer_if_asked(pitch, row);
        }
        result
    }
}

pub(crate) unsafe fn cuMemFree_v2(dptr: CUdeviceptr) -> CUresult {
    let free = || {
        let (driver, _) = (driver()?, current()?);
        if dptr == 0 {
            return Ok(());
        }
        crate::capture::guard()?;
        let id = driver.memory.freeable_at(dptr)?;
        if crate::pool::is_freeing(driver, id) {
            return Err(CUresult::INVALID_VALUE);
        }
        if driver.graph_memory.knows(id) {
            let claim = driver.graph_memory.unclaim(id)?;
            quiesce(driver);
            drop(claim);
            return Ok(());
        }
        quiesce(driver);
        let region = driver.memory.take(dptr, id);
        let region = region.ok_or(CUresult::INVALID_VALUE)?;
        crate::pool::freed(driver, id);
        driver.memory.release(driver, region);
        Ok(())
    };
    done(free())
}

pub(crate) unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    let ask = || {
        let (driver, context) = (driver()?, current()?);
        let free = driver.segment.free_bytes(context.device);
        Ok((free as usize, driver.segment.memory_bytes() as usize))
    };
    match ask() {
        Err(error) => error,
        Ok(found) => {
            // SAFETY: the caller passes places for two sizes, or null.
            unsafe {
                answer_if_asked(free, found.0);
                answer_if_asked(total, found.1);
            }
            CUresult::SUCCESS
        }
    }
}

pub(crate) unsafe fn cuMemGetAddressRange_v2(
    pbase: *mut CUdeviceptr,
    psize: *mut usize,
    dptr: CUdeviceptr,
) -> CUresult {
    let ask = || {
        current()?;
        let space = driver()?.memory.space();
        let region = space.find(dptr).ok_or(CUresult::NOT_FOUND)?;
        Ok((region.base, region.size as usize))
    };
    match ask() {
        Err(error) => error,
        Ok((base, size)) => {
            // SAFETY: the caller passes places for an address and a size, or null.
            unsafe {
                answer_if_asked(pbase, base);
                answer_if_asked(psize, size);
            }
            CUresult::SUCCESS
        }
    }
}
