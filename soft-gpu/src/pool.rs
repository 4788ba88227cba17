//! Memory pools and stream-ordered allocation.
//!
//! ```text
//! cuMemAllocAsync ──▶ an address at once, from what the pool holds or from the device
//! cuMemFreeAsync ──▶ (at its place in the stream) no address space any more, but held ──▶ given back: idle, after a synchronisation
//! ```
//!
//! Memory that was freed in a stream stays mapped as long as anything runs, since a kernel in another stream may be using it, against
//! the rules: it harms itself then, and not the process. What is held beyond the pool's threshold goes back when a synchronising
//! call or a trim finds the process idle, and when memory runs out ([`reclaiming`]), which waits only for what would bring memory.
//!
//! Pools of other processes: [`sharing`].
//!
//! Rules: a free concerns an allocation by its name (the region's id), since addresses are used again.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod sharing;

use core::ffi::{c_int, c_void};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationType, CUmemLocation,
    CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult, CUstream,
};

use crate::context::Context;
use crate::entry::{answer, done};
use crate::graph::{allocating, freeing};
use crate::handles::{Kind, Registry};
use crate::memory::{Region, quiesce};
use crate::state::{Driver, driver};
use crate::stream::{Point, find};
use crate::threads::lock;

use sharing::Origin;
pub(crate) use sharing::{
    cuMemPoolExportPointer, cuMemPoolExportToShareableHandle, cuMemPoolImportFromShareableHandle,
    cuMemPoolImportPointer,
};

/// The kind of a location that is a device.
const DEVICE_LOCATION: u32 = 1;
/// The only kind of memory in pools: pinned on the device.
const PINNED: CUmemAllocationType = 1;
const READ_WRITE: CUmemAccess_flags = 3;

/// All pools of the process.
#[derive(Debug)]
pub(crate) struct Pools {
    all: Registry<Pool>,
    /// By device.
    defaults: Vec<usize>,
    current: Vec<AtomicUsize>,
    held: Mutex<Vec<Held>>,
    held_bytes: AtomicU64,
    /// Names of allocations whose free is on its way, and the places where it happens.
    freeing: Mutex<HashSet<u64>>,
    pending: Mutex<Vec<Point>>,
}

/// What was freed and is held: the address space does not have it any more.
#[derive(Debug)]
struct Held {
    pool: Arc<Pool>,
    region: Region,
}

/// One pool.
#[derive(Debug)]
struct Pool {
    handle: usize,
    device: usize,
    /// Most bytes; 0 for no bound.
    most: u64,
    origin: Origin,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the names of allocations.
    live: HashMap<u64, Live>,
    used: u64,
    /// What a call has freed and the stream has not come to.
    leaving: u64,
    /// Freed, and not given back.
    held: u64,
    used_high: u64,
    reserved_high: u64,
    threshold: u64,
    /// Whether memory may be used again in the three ways that the driver distinguishes. It is, in any case, after its free was reached.
    reuse: [c_int; 3],
    access: HashMap<c_int, CUmemAccess_flags>,
}

/// An allocation.
#[derive(Debug)]
struct Live {
    bytes: u64,
    is_leaving: bool,
}

impl Pools {
    pub(crate) fn new(devices: usize) -> Self {
        let all = Registry::new(Kind::Pool);
        let defaults: Vec<usize> = (0..devices)
            .map(|device| Pool::add(&all, device, 0, Origin::Unshared))
            .collect();
        let current = defaults.iter().copied().map(AtomicUsize::new).collect();
        Self {
            all,
            defaults,
            current,
            held: Mutex::default(),
            held_bytes: AtomicU64::new(0),
            freeing: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    fn current_of(&self, device: usize) -> Result<Arc<Pool>, CUresult> {
        let current = self.current[device].load(Ordering::Relaxed);
        self.all.get(current)
    }

    /// The pool that an allocation is from; of plain memory, its device's default.
    fn owner(&self, id: u64, device: usize) -> Result<Arc<Pool>, CUresult> {
        let pools = self.all.all();
        let owner = pools
            .into_iter()
            .find(|pool| lock(&pool.state).live.contains_key(&id));
        owner.map_or_else(|| self.all.get(self.defaults[device]), Ok)
    }

    /// Keeps memory for a pool; of an allocation of its own, whose `id` it is, which is one or the other at any moment.
    fn hold(&self, pool: Arc<Pool>, id: Option<u64>, region: Region) {
        let bytes = region.taken();
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        {
            let mut state = lock(&pool.state);
            id.into_iter().for_each(|id| state.forget(id));
            state.held += bytes;
        }
        lock(&self.held).push(Held { pool, region });
    }

    /// Counts that something is not held any more.
    fn unhold(&self, Held { pool, region }: Held) -> Region {
        let bytes = region.taken();
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        lock(&pool.state).held -= bytes;
        region
    }

    /// Something of exactly this size that a pool holds for a context.
    fn take_held(&self, pool: usize, context: &Context, size: u64) -> Option<Region> {
        let mut held = lock(&self.held);
        let fits = |held: &Held| {
            let of_context = held.region.context == context.handle;
            // Memory of another process is nobody's to have again.
            let is_ours = held.region.is_plain();
            held.pool.handle == pool && of_context && is_ours && held.region.fits(size)
        };
        let index = held.iter().position(fits)?;
        let taken = held.swap_remove(index);
        Some(self.unhold(taken))
    }

    /// Gives back what `chosen` picks of what is held. Nothing may run.
    fn give_back(&self, driver: &Driver, chosen: impl Fn(&Held) -> bool) {
        let mut held = lock(&self.held);
        let (back, stays): (Vec<_>, Vec<_>) = std::mem::take(&mut *held)
            .into_iter()
            .partition(|held| chosen(held));
        *held = stays;
        drop(held);
        for held in back {
            let region = self.unhold(held);
            driver.memory.release(driver, region);
        }
    }

    /// Gives back what pools hold beyond their thresholds, or beyond `keep` of one pool.
    fn trim(&self, driver: &Driver, only: Option<(usize, u64)>) {
        let keep_of = |pool: &Arc<Pool>| {
            let state = lock(&pool.state);
            let keep = match only {
                Some((handle, keep)) if handle == pool.handle => keep,
                Some(_) => u64::MAX,
                None => state.threshold,
            };
            (pool.handle, keep.saturating_sub(state.used + state.leaving))
        };
        let pools = self.all.all();
        let left: HashMap<usize, u64> = pools.iter().map(keep_of).collect();
        let left = std::cell::RefCell::new(left);
        self.give_back(driver, |held| {
            let (mut left, bytes) = (left.borrow_mut(), held.region.taken());
            // Of a pool that was destroyed nothing stays.
            let left = left.entry(held.pool.handle).or_insert(0);
            let stays = *left >= bytes;
            *left = left.saturating_sub(bytes);
            !stays
        });
    }
}

fn is_idle(driver: &Driver) -> bool {
    let contexts = driver.contexts.all();
    contexts.iter().all(|context| context.is_idle())
}

/// After a synchronising call: what is held goes back, if nothing runs that could touch it.
pub(crate) fn synchronised(driver: &Driver) {
    let pools = &driver.pools;
    if pools.held_bytes.load(Ordering::Relaxed) > 0 && is_idle(driver) {
        pools.trim(driver, None);
    }
}

/// Makes something of a device's memory. If there is too little, what pools hold and what is on its way to them is given back, after what
/// runs, and it is tried again; if there is nothing of that kind, nothing is waited for.
pub(crate) fn reclaiming<T>(
    driver: &Driver,
    make: impl Fn() -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    let made = make();
    if made.as_ref().err() != Some(&CUresult::OUT_OF_MEMORY) {
        return made;
    }
    let pools = &driver.pools;
    let mut pending = lock(&pools.pending).clone();
    pending.retain(|point| !point.is_done());
    pending.iter().for_each(Point::wait);
    if pools.held_bytes.load(Ordering::Relaxed) == 0 {
        // Another thread may have given back what was waited for.
        return if pending.is_empty() { made } else { make() };
    }
    quiesce(driver);
    pools.give_back(driver, |_| true);
    make()
}

/// Takes an allocation, by its address and name, out of the address space; the device's default pool holds it.
pub(crate) fn hold(driver: &Driver, device: usize, (address, id): (u64, u64)) {
    let pools = &driver.pools;
    let region = driver.memory.take(address, id);
    if let Some((region, pool)) = region.zip(pools.all.get(pools.defaults[device]).ok()) {
        pools.hold(pool, None, region);
    }
}

/// The pools of other devices whose memory a device may reach.
pub(crate) fn reached_by(driver: &Driver, device: usize) -> Vec<usize> {
    let pools = driver.pools.all.all().into_iter();
    let others = pools.filter(|pool| pool.device != device);
    let reached =
        others.filter(|pool| lock(&pool.state).access.get(&(device as c_int)) == Some(&READ_WRITE));
    reached.map(|pool| pool.handle).collect()
}

/// Whether other processes may have a pool's memory.
pub(crate) fn is_exportable(driver: &Driver, pool: usize) -> bool {
    let pool = driver.pools.all.get(pool);
    pool.is_ok_and(|pool| pool.origin == Origin::Exportable)
}

/// Whether an allocation is a pool's.
pub(crate) fn owns(driver: &Driver, id: u64) -> bool {
    let pools = driver.pools.all.all();
    pools
        .iter()
        .any(|pool| lock(&pool.state).live.contains_key(&id))
}

/// Whether an allocation's free is on its way.
pub(crate) fn is_freeing(driver: &Driver, id: u64) -> bool {
    lock(&driver.pools.freeing).contains(&id)
}

/// After an allocation was freed by other means.
pub(crate) fn freed(driver: &Driver, id: u64) {
    for pool in driver.pools.all.all() {
        pool.forget(id);
    }
}

/// After a context's memory has gone.
pub(crate) fn context_destroyed(driver: &Driver, context: usize) {
    let pools = &driver.pools;
    pools.give_back(driver, |held| held.region.context == context);
    let there: HashSet<u64> = driver
        .memory
        .space()
        .iter()
        .map(|region| region.id)
        .collect();
    for pool in pools.all.all() {
        let names: Vec<u64> = lock(&pool.state).live.keys().copied().collect();
        let gone = names.into_iter().filter(|id| !there.contains(id));
        gone.for_each(|id| pool.forget(id));
    }
}

impl Pool {
    fn add(all: &Registry<Pool>, device: usize, most: u64, origin: Origin) -> usize {
        let handle = all.reserve();
        let state = State {
            reuse: [1; 3],
            access: HashMap::from([(device as c_int, READ_WRITE)]),
            ..State::default()
        };
        let pool = Pool {
            handle,
            device,
            most,
            origin,
            state: Mutex::new(state),
        };
        all.insert(handle, Arc::new(pool));
        handle
    }

    fn note(&self, id: u64, bytes: u64) {
        let mut state = lock(&self.state);
        let live = Live {
            bytes,
            is_leaving: false,
        };
        state.live.insert(id, live);
        state.used += bytes;
        state.used_high = state.used_high.max(state.used);
        state.reserved_high = state.reserved_high.max(state.reserved());
    }

    fn forget(&self, id: u64) {
        lock(&self.state).forget(id);
    }

    /// Who frees does not use it any more, whenever the stream comes to it.
    fn leave(&self, id: u64) {
        let state = &mut *lock(&self.state);
        if let Some(live) = state.live.get_mut(&id).filter(|live| !live.is_leaving) {
            live.is_leaving = true;
            state.used -= live.bytes;
            state.leaving += live.bytes;
        }
    }

    /// An address of `size` bytes.
    fn allocate(&self, driver: &Driver, context: &Context, size: u64) -> Result<u64, CUresult> {
        if size == 0 || self.device != context.device || self.origin.is_imported() {
            return Err(CUresult::INVALID_VALUE);
        }
        if size > driver.segment.memory_bytes() {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        if let Some(mut region) = driver.pools.take_held(self.handle, context, size) {
            (region.size, region.id) = (size, crate::context::unique_id());
            region.pool = self.handle;
            let (base, id, taken) = (region.base, region.id, region.taken());
            driver.memory.hand_out(driver, region);
            self.note(id, taken);
            return Ok(base);
        }
        let base = reclaiming(driver, || {
            let reserved = lock(&self.state).reserved();
            if self.most > 0 && reserved.saturating_add(size) > self.most {
                return Err(CUresult::OUT_OF_MEMORY);
            }
            driver
                .memory
                .allocate_in(driver, context, self.handle, size)
        })?;
        if let Some(region) = driver.memory.space().starting_at(base) {
            self.note(region.id, region.taken());
        }
        Ok(base)
    }
}

impl State {
    fn forget(&mut self, id: u64) {
        match self.live.remove(&id) {
            Some(live) if live.is_leaving => self.leaving -= live.bytes,
            Some(live) => self.used -= live.bytes,
            None => {}
        }
    }

    fn reserved(&self) -> u64 {
        self.used + self.leaving + self.held
    }
}

fn allocate(
    pool: impl FnOnce(&Driver, usize) -> Result<Arc<Pool>, CUresult>,
    size: usize,
    stream: CUstream,
) -> Result<u64, CUresult> {
    let driver = driver()?;
    let (context, stream) = find(stream)?;
    if crate::capture::is_captured(&stream) {
        let (operation, address) = allocating(&context, size as u64)?;
        return context.submit(&stream, operation).map(|()| address);
    }
    crate::capture::forbid(&context, &stream)?;
    pool(driver, context.device)?.allocate(driver, &context, size as u64)
}

fn free(address: u64, stream: CUstream) -> Result<(), CUresult> {
    let driver = driver()?;
    let (context, stream) = find(stream)?;
    if address == 0 {
        return Ok(());
    }
    if crate::capture::is_captured(&stream) {
        return context.submit(&stream, freeing(address)?);
    }
    crate::capture::forbid(&context, &stream)?;
    let (id, device) = driver
        .memory
        .space()
        .starting_at(address)
        .filter(|region| region.is_plain() || region.is_of_other_pool())
        .map(|region| (region.id, region.device))
        .ok_or(CUresult::INVALID_VALUE)?;
    if driver.graph_memory.knows(id) {
        let claim = driver.graph_memory.unclaim(id)?;
        context.post_always(
            &stream,
            Vec::new(),
            Box::new(move |_| {
                drop(claim);
                Ok(())
            }),
        );
        return Ok(());
    }
    let pool = driver.pools.owner(id, device)?;
    if !lock(&driver.pools.freeing).insert(id) {
        return Err(CUresult::INVALID_VALUE);
    }
    pool.leave(id);
    let work = move |_| {
        match driver.memory.take(address, id) {
            Some(region) => driver.pools.hold(pool, Some(id), region),
            // Its context has ended, and taken it along.
            None => pool.forget(id),
        }
        lock(&driver.pools.freeing).remove(&id);
        Ok(())
    };
    let point = context.post_always(&stream, Vec::new(), Box::new(work));
    let mut pending = lock(&driver.pools.pending);
    pending.retain(|point| !point.is_done());
    pending.push(point);
    Ok(())
}

pub(crate) unsafe fn cuMemAllocAsync(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    stream: CUstream,
) -> CUresult {
    if dptr.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let current = |driver: &Driver, device| driver.pools.current_of(device);
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(dptr, allocate(current, bytesize, stream)) }
}

pub(crate) unsafe fn cuMemAllocFromPoolAsync(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> CUresult {
    if dptr.is_null() || pool.0 == 0 {
        return CUresult::INVALID_VALUE;
    }
    let named = |driver: &Driver, _| driver.pools.all.get(pool.0);
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(dptr, allocate(named, bytesize, stream)) }
}

pub(crate) unsafe fn cuMemFreeAsync(dptr: CUdeviceptr, stream: CUstream) -> CUresult {
    done(free(dptr, stream))
}

pub(crate) unsafe fn cuDeviceGetDefaultMemPool(
    pool_out: *mut CUmemoryPool,
    dev: CUdevice,
) -> CUresult {
    let found = || {
        let driver = driver()?;
        Ok(CUmemoryPool(driver.pools.defaults[driver.device(dev)?]))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pool_out, found()) }
}

pub(crate) unsafe fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice) -> CUresult {
    let found = || {
        let driver = driver()?;
        let current = driver.pools.current_of(driver.device(dev)?)?;
        Ok(CUmemoryPool(current.handle))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pool, found()) }
}

fn set_current(device: CUdevice, pool: CUmemoryPool) -> Result<(), CUresult> {
    let driver = driver()?;
    let device = driver.device(device)?;
    let pool = driver.pools.all.get(pool.0)?;
    if pool.device != device || pool.origin.is_imported() {
        return Err(CUresult::INVALID_VALUE);
    }
    driver.pools.current[device].store(pool.handle, Ordering::Relaxed);
    Ok(())
}

pub(crate) unsafe fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) -> CUresult {
    done(set_current(dev, pool))
}

/// The device that a location names.
///
/// # Safety
///
/// `location` is null or points to one.
unsafe fn device_at(
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
) -> Result<CUdevice, CUresult> {
    if location.is_null() || kind != PINNED {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let location = unsafe { location.read_unaligned() };
    if location.kind == DEVICE_LOCATION {
        Ok(location.id)
    } else {
        Err(CUresult::NOT_SUPPORTED)
    }
}

pub(crate) unsafe fn cuMemGetDefaultMemPool(
    pool_out: *mut CUmemoryPool,
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
) -> CUresult {
    // SAFETY: the caller passes a location and a place for a handle.
    unsafe {
        match device_at(location, kind) {
            Ok(device) => cuDeviceGetDefaultMemPool(pool_out, device),
            Err(error) => error,
        }
    }
}

pub(crate) unsafe fn cuMemGetMemPool(
    pool_out: *mut CUmemoryPool,
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
) -> CUresult {
    // SAFETY: the caller passes a location and a place for a handle.
    unsafe {
        match device_at(location, kind) {
            Ok(device) => cuDeviceGetMemPool(pool_out, device),
            Err(error) => error,
        }
    }
}

pub(crate) unsafe fn cuMemSetMemPool(
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
    pool: CUmemoryPool,
) -> CUresult {
    // SAFETY: the caller passes a location.
    let device = unsafe { device_at(location, kind) };
    done(device.and_then(|device| set_current(device, pool)))
}

/// `CUmemPoolProps`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Properties {
    kind: CUmemAllocationType,
    handle_types: u32,
    location: CUmemLocation,
    security: usize,
    most: usize,
    usage: u16,
    reserved: [u8; 54],
}

const _: () = assert!(size_of::<Properties>() == 88);

fn create(properties: Properties) -> Result<CUmemoryPool, CUresult> {
    let driver = driver()?;
    let Properties { kind, location, .. } = properties;
    if kind != PINNED {
        return Err(CUresult::INVALID_VALUE);
    }
    if location.kind != DEVICE_LOCATION {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let origin = Origin::of_new(properties.handle_types)?;
    let device = driver
        .device(location.id)
        .map_err(|_| CUresult::INVALID_VALUE)?;
    let handle = Pool::add(&driver.pools.all, device, properties.most as u64, origin);
    Ok(CUmemoryPool(handle))
}

pub(crate) unsafe fn cuMemPoolCreate(
    pool: *mut CUmemoryPool,
    pool_props: *const CUmemPoolProps,
) -> CUresult {
    if pool.is_null() || pool_props.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes properties and a place for a handle.
    unsafe {
        let properties = pool_props.cast::<Properties>().read_unaligned();
        answer(pool, create(properties))
    }
}

pub(crate) unsafe fn cuMemPoolDestroy(pool: CUmemoryPool) -> CUresult {
    let destroy = || {
        let pools = &driver()?.pools;
        if pools.defaults.contains(&pool.0) {
            return Err(CUresult::NOT_PERMITTED);
        }
        let pool = pools.all.remove(pool.0)?;
        // What is in use stays so, as plain memory.
        let default = pools.defaults[pool.device];
        let current = &pools.current[pool.device];
        let _ =
            current.compare_exchange(pool.handle, default, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    };
    done(destroy())
}

pub(crate) unsafe fn cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize) -> CUresult {
    let trim = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(pool.0)?;
        // What may still be touched stays.
        if is_idle(driver) {
            let keep = (pool.handle, min_bytes_to_keep as u64);
            driver.pools.trim(driver, Some(keep));
        }
        Ok(())
    };
    done(trim())
}

/// `CU_MEMPOOL_ATTR_*`.
const RELEASE_THRESHOLD: CUmemPool_attribute = 4;
const RESERVED: CUmemPool_attribute = 5;
const RESERVED_HIGH: CUmemPool_attribute = 6;
const USED: CUmemPool_attribute = 7;
const USED_HIGH: CUmemPool_attribute = 8;

pub(crate) unsafe fn cuMemPoolGetAttribute(
    pool: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    let found = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(pool.0)?;
        let state = lock(&pool.state);
        let reserved = state.reserved();
        Ok(match attr {
            1..=3 => state.reuse[attr as usize - 1] as u64,
            RELEASE_THRESHOLD => state.threshold,
            RESERVED => reserved,
            RESERVED_HIGH => state.reserved_high.max(reserved),
            USED => state.used,
            USED_HIGH => state.used_high,
            _ => return Err(CUresult::INVALID_VALUE),
        })
    };
    // SAFETY: the caller passes a place for a value of the attribute's type.
    unsafe {
        match found() {
            Ok(number) if attr <= 3 => answer(value.cast::<c_int>(), Ok(number as c_int)),
            found => answer(value.cast::<u64>(), found),
        }
    }
}

pub(crate) unsafe fn cuMemPoolSetAttribute(
    pool: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    if value.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let set = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(pool.0)?;
        let mut state = lock(&pool.state);
        if (1..=3).contains(&attr) {
            // SAFETY: the caller passes a value of the attribute's type.
            let value = unsafe { value.cast::<c_int>().read_unaligned() };
            state.reuse[attr as usize - 1] = value;
            return Ok(());
        }
        // SAFETY: as above.
        let value = unsafe { value.cast::<u64>().read_unaligned() };
        match attr {
            RELEASE_THRESHOLD => state.threshold = value,
            // A high-water mark can only be begun anew.
            RESERVED_HIGH if value == 0 => state.reserved_high = state.reserved(),
            USED_HIGH if value == 0 => state.used_high = state.used,
            _ => return Err(CUresult::INVALID_VALUE),
        }
        Ok(())
    };
    done(set())
}

pub(crate) unsafe fn cuMemPoolGetAccess(
    flags: *mut CUmemAccess_flags,
    mem_pool: CUmemoryPool,
    location: *mut CUmemLocation,
) -> CUresult {
    let found = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(mem_pool.0)?;
        // SAFETY: the caller passes a location.
        let device = unsafe { device_at(location, PINNED) }?;
        driver.device(device).map_err(|_| CUresult::INVALID_VALUE)?;
        Ok(lock(&pool.state).access.get(&device).copied().unwrap_or(0))
    };
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, found()) }
}

pub(crate) unsafe fn cuMemPoolSetAccess(
    pool: CUmemoryPool,
    map: *const CUmemAccessDesc,
    count: usize,
) -> CUresult {
    let set = || {
        let driver = driver()?;
        let pool = driver.pools.all.get(pool.0)?;
        if map.is_null() || count > driver.config.devices() {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count {
            // SAFETY: the caller passes as many descriptions.
            let wanted = unsafe { map.add(index).read_unaligned() };
            let device = wanted.location.id;
            let known = wanted.location.kind == DEVICE_LOCATION && driver.device(device).is_ok();
            let own = device == pool.device as c_int;
            // The device that has the memory cannot lose it.
            if !known || !matches!(wanted.flags, 0 | READ_WRITE) || (own && wanted.flags == 0) {
                return Err(CUresult::INVALID_VALUE);
            }
            lock(&pool.state).access.insert(device, wanted.flags);
        }
        // What kernels may access has changed.
        drop(driver.memory.space_mut());
        Ok(())
    };
    done(set())
}
