//! Memory pools and stream-ordered memory, made of the same memory as `cuMemAlloc`'s: no driver's pool is used, so each server has them.
//!
//! ```text
//! cuMemAllocAsync ── a piece of the pool that is free in this stream ──▶ at once
//!        └────────── else new memory, which every stream may use ──────▶ as cuMemAlloc
//! cuMemFreeAsync ─── the piece is free in its stream at once, elsewhere when the stream has passed its mark
//! a wait ends ────── what the pool holds beyond its threshold, and streams have passed, is given back
//! ```
//!
//! What that gives a program is at least what it is promised: memory is there when the call returns, which is sooner than in the stream. A pool's
//! memory is of the context in which it was asked for, and ends with it. Pools of other processes: [`sharing`].
//!
//! # Safety
//! The functions named like the driver's read properties and values, and write results, through pointers that they have checked for null, with the types
//! that the API documents for each attribute.
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod sharing;

use core::ffi::{c_int, c_void};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationType, CUmemLocation,
    CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult, CUstream,
};
use driver_api::wire::request::GpurunPoolAccess;

use crate::capture;
use crate::context::Context;
use crate::entry::code;
use crate::graph;
use crate::handles::Handle;
use crate::ipc;
use crate::memory::{PATIENCE, out};
use crate::session::{self, Session};
use crate::stream::{self, Stream};

use sharing::Origin;
pub(crate) use sharing::{
    cuMemPoolExportPointer, cuMemPoolExportToShareableHandle, cuMemPoolImportFromShareableHandle,
    cuMemPoolImportPointer,
};

/// `CU_MEM_ALLOCATION_TYPE_PINNED`, `CU_MEM_LOCATION_TYPE_DEVICE`, `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const PINNED: u32 = 1;
/// `CU_MEM_ALLOCATION_TYPE_MANAGED`.
const MANAGED: u32 = 2;
const ON_DEVICE: u32 = 1;
const READ_AND_WRITE: u32 = 3;
/// Pools belong to no context.
const NO_CONTEXT: u32 = 0;
/// Pieces are multiples of this.
const PIECE: u64 = 512;

/// `CU_MEMPOOL_ATTR_*`.
mod attribute {
    pub(super) const FIRST_REUSE: u32 = 1;
    pub(super) const LAST_REUSE: u32 = 3;
    pub(super) const RELEASE_THRESHOLD: u32 = 4;
    pub(super) const RESERVED_CURRENT: u32 = 5;
    pub(super) const RESERVED_HIGH: u32 = 6;
    pub(super) const USED_CURRENT: u32 = 7;
    pub(super) const USED_HIGH: u32 = 8;
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: u32,
    device: usize,
    /// None for a limit.
    most: Option<u64>,
    is_default: bool,
    origin: Origin,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Which kinds of reuse the program wants, as it says: whatever it says, only what cannot be told apart is reused.
    reuse: [c_int; 3],
    threshold: u64,
    used: u64,
    used_high: u64,
    reserved_high: u64,
    free: Vec<Free>,
    /// Bytes of what is free.
    held: u64,
    /// Other devices that may reach it.
    opened_to: BTreeSet<usize>,
    is_destroyed: bool,
}

/// A piece that no stream behind the mark uses.
#[derive(Debug)]
struct Free {
    start: u64,
    size: u64,
    context: u32,
    stream: Arc<Stream>,
    mark: u64,
}

impl Free {
    /// Whether its stream has passed the place where it was freed.
    fn is_passed(&self) -> bool {
        self.stream.has_reached(self.mark)
    }
}

impl State {
    fn reserved(&self) -> u64 {
        self.used + self.held
    }

    /// A piece is free.
    fn hold(&mut self, free: Free) {
        self.held += free.size;
        self.free.push(free);
    }

    fn take_out(&mut self, place: usize) -> Free {
        let free = self.free.swap_remove(place);
        self.held -= free.size;
        free
    }

    /// Forgets the free pieces of a context that has ended.
    fn forget_context(&mut self, context: u32) {
        self.free.retain(|free| free.context != context);
        self.held = self.free.iter().map(|free| free.size).sum();
    }

    fn note_used(&mut self, size: u64) {
        self.used += size;
        self.used_high = self.used_high.max(self.used);
        self.reserved_high = self.reserved_high.max(self.reserved());
    }

    /// A free piece of exactly this size that this stream may use now.
    fn take(&mut self, size: u64, stream: &Arc<Stream>) -> Option<u64> {
        let may_use = |free: &Free| {
            let is_same = Arc::ptr_eq(&free.stream, stream);
            free.size == size && free.context == stream.context && (is_same || free.is_passed())
        };
        let place = self.free.iter().position(may_use)?;
        Some(self.take_out(place).start)
    }

    /// What can be given back, so that not more than `least` is reserved.
    fn surplus(&mut self, least: u64) -> Vec<Free> {
        let mut surplus = Vec::new();
        let mut index = 0;
        while self.reserved() > least && index < self.free.len() {
            if self.free[index].is_passed() {
                surplus.push(self.take_out(index));
            } else {
                index += 1;
            }
        }
        surplus
    }
}

impl Pool {
    /// Of which device its memory is.
    pub(crate) fn device(&self) -> usize {
        self.device
    }

    /// Whether other processes may have its memory.
    pub(crate) fn is_exportable(&self) -> bool {
        self.origin.is_exportable()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what is free beyond `least`. All of it, whatever becomes of one piece.
    fn trim(&self, session: &Session, least: u64) -> Result<(), CUresult> {
        let surplus = self.state().surplus(least);
        self.give_back(session, &surplus)
    }

    /// Gives back pieces; the first error is told, once all have had their turn.
    fn give_back(&self, session: &Session, pieces: &[Free]) -> Result<(), CUresult> {
        let mut result = Ok(());
        for free in pieces {
            let freed = self.free(session, free.start);
            // Not there: it has gone with its context, which another thread has ended.
            if freed != Err(CUresult::INVALID_VALUE) {
                result = result.and(freed);
            }
        }
        result
    }

    /// Frees memory that the pool does not have any more.
    fn free(&self, session: &Session, start: u64) -> Result<(), CUresult> {
        match self.origin.is_imported() {
            true => ipc::close_unused(session, start),
            false => session.objects.memory.free(session, start),
        }
    }

    /// Whether so much more may be reserved.
    fn has_room(&self, size: u64) -> bool {
        let reserved = self.state().reserved().checked_add(size);
        self.most
            .is_none_or(|most| reserved.is_some_and(|reserved| reserved <= most))
    }
}

/// Memory of a pool that the program has.
#[derive(Debug, Clone)]
struct Used {
    pool: Arc<Pool>,
    size: u64,
    context: u32,
    /// How often: another process's may be imported more than once.
    times: u32,
}

/// The default pool of a device, and the current one if it is another.
type OfDevice = (Arc<Pool>, Option<Arc<Pool>>);

/// What the program has of pools, and which pools its devices use.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    used: Mutex<BTreeMap<u64, Used>>,
    of_devices: Mutex<BTreeMap<usize, OfDevice>>,
    /// Held by who opens pools to other devices, or closes them.
    opening: Mutex<()>,
    /// What pools that are destroyed had of other processes, and streams have not passed.
    leaving: Mutex<Vec<(Arc<Pool>, Free)>>,
    /// A pool may hold something free.
    may_hold: AtomicBool,
}

impl Pools {
    fn used(&self) -> MutexGuard<'_, BTreeMap<u64, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<(Arc<Pool>, Free)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what a pool that is destroyed held. What is ours rests until all streams have passed; what is imported goes at once, and so after a wait that
    /// finds its stream behind it. Nobody waits here: the driver does not either.
    fn leave_behind(
        &self,
        session: &Session,
        pool: &Arc<Pool>,
        held: Vec<Free>,
    ) -> Result<(), CUresult> {
        let may_go = |freed: &Free| !pool.origin.is_imported() || freed.is_passed();
        let (now, later): (Vec<_>, Vec<_>) = held.into_iter().partition(may_go);
        if !later.is_empty() {
            let later = later.into_iter().map(|freed| (Arc::clone(pool), freed));
            self.leaving().extend(later);
            self.may_hold.store(true, SeqCst);
        }
        pool.give_back(session, &now)
    }

    /// The pool of which an address is.
    pub(crate) fn handle_at(&self, start: u64) -> u64 {
        let used = self.used();
        used.get(&start)
            .map_or(0, |used| CUmemoryPool::dress(used.pool.id).0 as u64)
    }

    /// The pool that has given the memory that begins at an address.
    pub(crate) fn pool_at(&self, start: u64) -> Option<Arc<Pool>> {
        self.used().get(&start).map(|used| Arc::clone(&used.pool))
    }

    /// Notes memory that a pool has given, once more.
    fn note(&self, start: u64, pool: &Arc<Pool>, size: u64, context: u32) {
        let mut used = self.used();
        let used = used.entry(start).or_insert_with(|| Used {
            pool: Arc::clone(pool),
            size,
            context,
            times: 0,
        });
        used.times += 1;
        pool.state().note_used(size);
    }

    /// Memory of a pool is given up, once.
    fn give_up(&self, start: u64) -> Option<Used> {
        let mut all = self.used();
        let used = all.get_mut(&start)?;
        used.times -= 1;
        let given_up = used.clone();
        if used.times == 0 {
            all.remove(&start);
        }
        drop(all);
        given_up.pool.state().used -= given_up.size;
        Some(given_up)
    }

    /// Frees memory at once, whether it is of a pool or not.
    ///
    /// # Errors
    /// It is free already, and a pool holds it.
    pub(crate) fn free(&self, session: &Session, start: u64) -> Result<(), CUresult> {
        // In a statement of its own, so that nothing is locked while work is waited for.
        let used = self.used().get(&start).cloned();
        if let Some(used) = used.filter(|used| used.pool.origin.is_imported())
            && let Some(context) = session.objects.contexts.get(used.context)
        {
            // What is under way may still use it. First, since memory for which nobody can wait is still the program's.
            stream::synchronise_context(session, &context)?;
        }
        if let Some(used) = self.give_up(start) {
            return used.pool.free(session, start);
        }
        if self.may_hold.load(SeqCst) {
            let holds = |pool: &Pool| pool.state().free.iter().any(|free| free.start == start);
            if !session.objects.pools.select(holds).is_empty() {
                return Err(CUresult::INVALID_VALUE);
            }
        }
        session.objects.memory.free(session, start)
    }

    /// A context has ended, and with it its memory.
    pub(crate) fn forget_context(&self, session: &Session, context: u32) {
        self.used().retain(|_, used| {
            let stays = used.context != context;
            if !stays {
                used.pool.state().used -= used.size * u64::from(used.times);
            }
            stays
        });
        self.leaving().retain(|(_, freed)| freed.context != context);
        for pool in session.objects.pools.select(|_| true) {
            pool.state().forget_context(context);
        }
    }

    /// A wait has ended: pools give back what they hold beyond their thresholds.
    pub(crate) fn settle(&self, session: &Session) -> Result<(), CUresult> {
        // Who has no pools pays a read.
        if !self.may_hold.load(Relaxed) || !self.may_hold.swap(false, SeqCst) {
            return Ok(());
        }
        let mut result = Ok(());
        let passed: Vec<_> = {
            let mut leaving = self.leaving();
            let passed = leaving
                .extract_if(.., |(_, freed)| freed.is_passed())
                .collect();
            self.may_hold.fetch_or(!leaving.is_empty(), SeqCst);
            passed
        };
        for (pool, freed) in passed {
            result = result.and(pool.give_back(session, &[freed]));
        }
        for pool in session.objects.pools.select(|_| true) {
            let threshold = pool.state().threshold;
            result = result.and(pool.trim(session, threshold));
            let holds = pool.state().held > 0;
            self.may_hold.fetch_or(holds, SeqCst);
        }
        result
    }

    fn of_device(&self, session: &Session, device: usize) -> (Arc<Pool>, Arc<Pool>) {
        let mut of_devices = self
            .of_devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (default, current) = of_devices
            .entry(device)
            .or_insert_with(|| (make(session, device, None, true, Origin::Unshared), None));
        let current = current.as_ref().unwrap_or(default);
        (Arc::clone(default), Arc::clone(current))
    }

    fn set_current(&self, session: &Session, device: usize, pool: &Arc<Pool>) {
        self.of_device(session, device);
        let mut of_devices = self
            .of_devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, current)) = of_devices.get_mut(&device) {
            *current = Some(Arc::clone(pool));
        }
    }

    /// A pool ends: its device goes back to the default one.
    fn leave(&self, pool: &Arc<Pool>) {
        let mut of_devices = self
            .of_devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (_, current) in of_devices.values_mut() {
            if current
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, pool))
            {
                *current = None;
            }
        }
    }
}

fn make(
    session: &Session,
    device: usize,
    most: Option<u64>,
    is_default: bool,
    origin: Origin,
) -> Arc<Pool> {
    let state = State {
        reuse: [1; 3],
        ..State::default()
    };
    session.objects.pools.insert_with(|id| Pool {
        id,
        device,
        most,
        is_default,
        origin,
        state: Mutex::new(state),
    })
}

pub(crate) fn pool_of(handle: CUmemoryPool) -> Result<Arc<Pool>, CUresult> {
    let pool = handle
        .undress()
        .and_then(|id| session::get().ok()?.objects.pools.get(id));
    pool.ok_or(CUresult::INVALID_VALUE)
}

fn device_of(session: &Session, device: CUdevice) -> Result<usize, CUresult> {
    session.device(device)?;
    usize::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)
}

/// The device of a location, for memory of this kind.
///
/// # Safety
/// Null, or a place that holds a location.
unsafe fn device_at(
    session: &Session,
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
) -> Result<usize, CUresult> {
    let location = out(location.cast_mut())?;
    // SAFETY: checked by `out`.
    let location = unsafe { location.read() };
    match kind {
        PINNED if location.kind == ON_DEVICE => {}
        PINNED | MANAGED => return Err(CUresult::NOT_SUPPORTED),
        _ => return Err(CUresult::INVALID_VALUE),
    }
    device_of(session, location.id)
}

fn allocate(pool: &Arc<Pool>, size: usize, stream: &Arc<Stream>) -> Result<u64, CUresult> {
    let (session, context) = session::current()?;
    stream.fault.check()?;
    let size = (size as u64)
        .checked_next_multiple_of(PIECE)
        .filter(|size| *size > 0)
        .ok_or(CUresult::INVALID_VALUE)?;
    // In a statement of its own, so that the pool is not locked while memory is asked for.
    let taken = pool.state().take(size, stream);
    let start = match taken {
        Some(start) => start,
        None => allocate_new(session, &context, pool, size)?,
    };
    let pools = &session.objects.stream_ordered;
    pools.note(start, pool, size, context.id);
    Ok(start)
}

fn allocate_new(
    session: &Session,
    context: &Context,
    pool: &Pool,
    size: u64,
) -> Result<u64, CUresult> {
    if !pool.has_room(size) {
        pool.trim(session, 0)?;
        if !pool.has_room(size) {
            return Err(CUresult::OUT_OF_MEMORY);
        }
    }
    let memory = &session.objects.memory;
    let allocate = || memory.allocate(session, context, size);
    match allocate() {
        Err(CUresult::OUT_OF_MEMORY) => {
            // What pools hold may be what is missing, once streams have passed it. A stream may wait for the caller: so there is an end.
            let pools = session.objects.pools.select(|pool| pool.state().held > 0);
            if pools.is_empty() {
                return Err(CUresult::OUT_OF_MEMORY);
            }
            let end = Instant::now() + PATIENCE;
            let is_passed = |pool: &Arc<Pool>| pool.state().free.iter().all(Free::is_passed);
            session.wait_until(|| pools.iter().all(is_passed) || Instant::now() >= end)?;
            for pool in &pools {
                pool.trim(session, 0)?;
            }
            allocate()
        }
        result => result,
    }
}

/// The stream that the caller means; its context is the current one.
fn stream_of(session: &Session, handle: CUstream) -> Result<Arc<Stream>, CUresult> {
    let (_, context) = session::current()?;
    let stream = stream::resolve_in(session, &context, handle)?;
    match stream.context == context.id {
        true => Ok(stream),
        false => Err(CUresult::INVALID_CONTEXT),
    }
}

/// The stream that the caller means, if it is captured.
fn captured(
    session: &Session,
    context: &Context,
    handle: CUstream,
) -> Result<Option<Arc<Stream>>, CUresult> {
    let stream = stream::resolve_any(session, context, handle)?;
    Ok(capture::is_captured(session, &stream)?.then_some(stream))
}

/// Memory of the graph that a stream's capture makes.
fn allocate_in_graph(
    session: &Session,
    context: &Context,
    size: usize,
    stream: &Stream,
) -> Result<u64, CUresult> {
    let (operation, address) = graph::allocating(session, context, size)?;
    capture::add(stream, operation)?;
    Ok(address)
}

pub(crate) unsafe fn cuMemAllocAsync(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    stream: CUstream,
) -> CUresult {
    code((|| {
        let place = out(dptr)?;
        let (session, context) = session::current()?;
        let start = match captured(session, &context, stream)? {
            Some(stream) => allocate_in_graph(session, &context, bytesize, &stream)?,
            None => {
                let stream = stream_of(session, stream)?;
                let pools = &session.objects.stream_ordered;
                let (_, pool) = pools.of_device(session, context.device);
                allocate(&pool, bytesize, &stream)?
            }
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(start) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemAllocFromPoolAsync(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> CUresult {
    code((|| {
        let place = out(dptr)?;
        let (session, context) = session::current()?;
        let pool = pool_of(pool)?;
        // Memory of another device could not be used in this stream, and another process's pool gives its own process memory alone.
        if pool.device != context.device || pool.origin.is_imported() {
            return Err(CUresult::INVALID_VALUE);
        }
        let start = match captured(session, &context, stream)? {
            Some(stream) => allocate_in_graph(session, &context, bytesize, &stream)?,
            None => allocate(&pool, bytesize, &stream_of(session, stream)?)?,
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(start) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemFreeAsync(dptr: CUdeviceptr, stream: CUstream) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        if let Some(stream) = captured(session, &context, stream)? {
            return capture::add(&stream, graph::freeing(session, dptr)?);
        }
        let stream = stream_of(session, stream)?;
        let pools = &session.objects.stream_ordered;
        stream.fault.check()?;
        if session.objects.graph_memory.free(dptr)? {
            return Ok(());
        }
        // Freed in the legacy stream, it is free behind what blocking streams do before.
        let mark = stream.mark_behind_all(session, false)?;
        let used = pools.give_up(dptr).ok_or(CUresult::INVALID_VALUE)?;
        let freed = Free {
            start: dptr,
            size: used.size,
            context: used.context,
            stream,
            mark,
        };
        let left = {
            let mut state = used.pool.state();
            match state.is_destroyed {
                true => Some(freed),
                false => {
                    state.hold(freed);
                    None
                }
            }
        };
        if let Some(freed) = left {
            return pools.leave_behind(session, &used.pool, vec![freed]);
        }
        pools.may_hold.store(true, SeqCst);
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemPoolCreate(
    pool: *mut CUmemoryPool,
    pool_props: *const CUmemPoolProps,
) -> CUresult {
    code((|| {
        let (place, properties) = (out(pool)?, out(pool_props.cast_mut())?);
        let session = session::get()?;
        // SAFETY: checked by `out`.
        let properties = unsafe { properties.read() };
        // SAFETY: a local.
        let device = unsafe { device_at(session, &properties.location, properties.kind) }?;
        let origin = Origin::of_new(session, device, properties.handle_types)?;
        let most = Some(properties.max_size as u64).filter(|most| *most > 0);
        let made = make(session, device, most, false, origin);
        // SAFETY: checked by `out`.
        unsafe { place.write(CUmemoryPool::dress(made.id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemPoolDestroy(pool: CUmemoryPool) -> CUresult {
    code((|| {
        let session = session::get()?;
        let pool = pool_of(pool)?;
        if pool.is_default {
            return Err(CUresult::INVALID_VALUE);
        }
        session.objects.pools.remove(pool.id);
        session.objects.stream_ordered.leave(&pool);
        let held = {
            let mut state = pool.state();
            state.is_destroyed = true;
            state.held = 0;
            std::mem::take(&mut state.free)
        };
        let pools = &session.objects.stream_ordered;
        pools.leave_behind(session, &pool, held)
    })())
}

pub(crate) unsafe fn cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize) -> CUresult {
    code((|| {
        let session = session::get()?;
        pool_of(pool)?.trim(session, min_bytes_to_keep as u64)
    })())
}

pub(crate) unsafe fn cuMemPoolGetAttribute(
    pool: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    code((|| {
        let place = out(value)?;
        let pool = pool_of(pool)?;
        let state = pool.state();
        let word = match attr {
            attribute::FIRST_REUSE..=attribute::LAST_REUSE => {
                let wanted = state.reuse[(attr - attribute::FIRST_REUSE) as usize];
                // SAFETY: an integer, as the API documents.
                unsafe { place.cast::<c_int>().write(wanted) };
                return Ok(());
            }
            attribute::RELEASE_THRESHOLD => state.threshold,
            attribute::RESERVED_CURRENT => state.reserved(),
            attribute::RESERVED_HIGH => state.reserved_high,
            attribute::USED_CURRENT => state.used,
            attribute::USED_HIGH => state.used_high,
            _ => return Err(CUresult::INVALID_VALUE),
        };
        // SAFETY: a word of 64 bits, as the API documents.
        unsafe { place.cast::<u64>().write(word) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemPoolSetAttribute(
    pool: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    code((|| {
        let place = out(value)?;
        let pool = pool_of(pool)?;
        let mut state = pool.state();
        // SAFETY: a word of 64 bits, as the API documents for these.
        let word = || unsafe { place.cast::<u64>().read() };
        match attr {
            attribute::FIRST_REUSE..=attribute::LAST_REUSE => {
                // SAFETY: an integer, as the API documents.
                let wanted = unsafe { place.cast::<c_int>().read() };
                state.reuse[(attr - attribute::FIRST_REUSE) as usize] = c_int::from(wanted != 0);
            }
            attribute::RELEASE_THRESHOLD => state.threshold = word(),
            // They can only be begun anew.
            attribute::RESERVED_HIGH if word() == 0 => state.reserved_high = state.reserved(),
            attribute::USED_HIGH if word() == 0 => state.used_high = state.used,
            _ => return Err(CUresult::INVALID_VALUE),
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemPoolGetAccess(
    flags: *mut CUmemAccess_flags,
    mem_pool: CUmemoryPool,
    location: *mut CUmemLocation,
) -> CUresult {
    code((|| {
        let place = out(flags)?;
        let session = session::get()?;
        let pool = pool_of(mem_pool)?;
        // SAFETY: the API's contract.
        let device = unsafe { device_at(session, location, PINNED) }?;
        let is_open = device == pool.device || pool.state().opened_to.contains(&device);
        let access = if is_open { READ_AND_WRITE } else { 0 };
        // SAFETY: checked by `out`.
        unsafe { place.write(access) };
        Ok(())
    })())
}

/// Opens a pool to another device, or closes it. The worker knows of no pools: what it opens is the memory of the pool's device, as long as any of its pools is.
fn set_access(
    session: &Session,
    pool: &Pool,
    device: usize,
    is_open: bool,
) -> Result<(), CUresult> {
    // What another process has lent is open to the device that has asked for it alone, and what the driver has placed to its own.
    if pool.origin.is_imported() || !session.objects.memory.has_windows() {
        return match is_open {
            true => Err(CUresult::INVALID_DEVICE),
            false => Ok(()),
        };
    }
    let opening = &session.objects.stream_ordered.opening;
    let _opening = opening.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.state().opened_to.contains(&device) == is_open {
        return Ok(());
    }
    let is_another = |other: &Pool| {
        let opens = || other.state().opened_to.contains(&device);
        other.id != pool.id && other.device == pool.device && opens()
    };
    if session.objects.pools.select(is_another).is_empty() {
        let number = |device: usize| i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE);
        let (own, peer) = (number(pool.device)?, number(device)?);
        let request = GpurunPoolAccess::new(own, peer, is_open.into());
        session.ask_in(NO_CONTEXT, &request, &[])?;
    }
    let opened_to = &mut pool.state().opened_to;
    match is_open {
        true => opened_to.insert(device),
        false => opened_to.remove(&device),
    };
    Ok(())
}

/// Each device reaches its own pools.
pub(crate) unsafe fn cuMemPoolSetAccess(
    pool: CUmemoryPool,
    map: *const CUmemAccessDesc,
    count: usize,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        let pool = pool_of(pool)?;
        let map = out(map.cast_mut())?;
        if count > session.devices.len() {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count {
            // SAFETY: the array has so many elements by the API's contract.
            let wanted = unsafe { map.add(index).read() };
            // SAFETY: a local.
            let device = unsafe { device_at(session, &wanted.location, PINNED) }?;
            match (device == pool.device, wanted.flags) {
                (true, READ_AND_WRITE) => {}
                (false, 0 | READ_AND_WRITE) => {
                    let is_open = wanted.flags == READ_AND_WRITE;
                    set_access(session, &pool, device, is_open)?;
                }
                _ => return Err(CUresult::INVALID_VALUE),
            }
        }
        Ok(())
    })())
}

fn write_pool(
    place: *mut CUmemoryPool,
    device: impl FnOnce(&Session) -> Result<usize, CUresult>,
    is_default: bool,
) -> CUresult {
    code((|| {
        let place = out(place)?;
        let session = session::get()?;
        let device = device(session)?;
        let (default, current) = session.objects.stream_ordered.of_device(session, device);
        let pool = if is_default { default } else { current };
        // SAFETY: checked by `out`.
        unsafe { place.write(CUmemoryPool::dress(pool.id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDeviceGetDefaultMemPool(
    pool_out: *mut CUmemoryPool,
    dev: CUdevice,
) -> CUresult {
    write_pool(pool_out, |session| device_of(session, dev), true)
}

pub(crate) unsafe fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice) -> CUresult {
    write_pool(pool, |session| device_of(session, dev), false)
}

pub(crate) unsafe fn cuMemGetDefaultMemPool(
    pool_out: *mut CUmemoryPool,
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
) -> CUresult {
    // SAFETY: the API's contract.
    let device = |session: &Session| unsafe { device_at(session, location, kind) };
    write_pool(pool_out, device, true)
}

pub(crate) unsafe fn cuMemGetMemPool(
    pool_out: *mut CUmemoryPool,
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
) -> CUresult {
    // SAFETY: the API's contract.
    let device = |session: &Session| unsafe { device_at(session, location, kind) };
    write_pool(pool_out, device, false)
}

fn set_pool(session: &Session, device: usize, pool: CUmemoryPool) -> Result<(), CUresult> {
    let pool = pool_of(pool)?;
    if pool.device != device || pool.origin.is_imported() {
        return Err(CUresult::INVALID_VALUE);
    }
    session
        .objects
        .stream_ordered
        .set_current(session, device, &pool);
    Ok(())
}

pub(crate) unsafe fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) -> CUresult {
    code((|| {
        let session = session::get()?;
        set_pool(session, device_of(session, dev)?, pool)
    })())
}

pub(crate) unsafe fn cuMemSetMemPool(
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
    pool: CUmemoryPool,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        // SAFETY: the API's contract.
        set_pool(
            session,
            unsafe { device_at(session, location, kind) }?,
            pool,
        )
    })())
}
