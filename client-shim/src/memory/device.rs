//! Device memory: addresses are chosen here, memory is put there by the worker.
//!
//! ```text
//! small ─▶ a block of a 2 MiB chunk of the context: no call if a chunk has room
//! large ─▶ a range of a window, asked to be mapped; freed by a posted unmapping
//! free  ─▶ quarantine: a block until the streams have passed the marks of the free, a range until its ticket is pushed
//! ```
//!
//! A chunk without any block is idle: one of each context is kept as a spare, others are given back at once, and the spares too when the worker asks for what
//! is idle because another process finds no room ([`Memory::recall`]), or this one. Who finds no room gives back, waits for what it has freed, and
//! asks again as long as the worker says that it may help.
//!
//! Without windows (a driver without virtual memory management) the worker's driver chooses the address and everything else is the same.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use driver_api::abi::{CUdeviceptr, CUresult};
use driver_api::managed::Advised;
use driver_api::wire::request::{CuMemGetInfo_v2, GpurunIdleGivenBack, GpurunMemoryMap};

use super::host::{self, HostMemory};
use super::managed::{self, Pages};
use super::places::{
    BLOCK, Chunk, GRANULARITY, Kind, Places, Resting, Unmapping, give, take, take_at,
};
use super::{Allocation, Mapped, out};
use crate::capture;
use crate::context::Context;
use crate::entry::code;
use crate::link::Link;
use crate::module::Owner;
use crate::session::{self, Session};
use crate::stream;
use crate::thread;

/// What is larger gets a range of its own.
pub(super) const MOST_SMALL: u64 = 1024 * 1024;

/// How long one asks again for memory that is on its way out of others; the worker says no long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// The first pause before asking again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(2));

/// The memory of a session.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    places: Mutex<Places>,
    /// One more than the number of the worker's last call for what is idle, until it is answered.
    recalled: AtomicU64,
    /// Held by who answers it.
    answering: Mutex<()>,
    pub(crate) host: HostMemory,
    pub(crate) mapped: Mapped,
    /// What was said of managed memory.
    advised: Mutex<Advised>,
    variable_pages: Mutex<Pages>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to use the windows that the worker has too.
    pub(crate) fn use_windows(&self, windows: Vec<Range<u64>>) {
        let mut places = self.lock();
        places.free = windows
            .iter()
            .map(|window| (window.start, window.end - window.start))
            .collect();
        places.windows = windows;
    }

    /// The ticket of an unmapping was pushed: its range can be used again, unless the worker could not unmap it.
    pub(crate) fn unmapped(&self, ticket: u64, result: CUresult) {
        let mut places = self.lock();
        if let Some(range) = places.unmapping.remove(&ticket)
            && !range.is_empty()
            && result.is_success()
        {
            give(&mut places.free, &range);
        }
    }

    /// What is at an address.
    pub(crate) fn find(&self, address: u64) -> Option<Allocation> {
        let places = self.lock();
        let (_, allocation) = places.allocations.range(..=address).next_back()?;
        (address - allocation.start < allocation.size).then_some(*allocation)
    }

    /// Checks that a range lies in one allocation.
    pub(crate) fn check(&self, address: u64, size: u64) -> Result<Allocation, CUresult> {
        let allocation = self.find(address).ok_or(CUresult::INVALID_VALUE)?;
        let mut end = allocation.start + allocation.size;
        if size > end - address {
            // Mappings of the program's own that touch may be crossed.
            let places = self.lock();
            let is_virtual =
                |allocation: &Allocation| matches!(allocation.kind, Kind::Virtual { .. });
            while is_virtual(&allocation)
                && size > end - address
                && let Some(next) = places.allocations.get(&end).filter(|next| is_virtual(next))
            {
                end += next.size;
            }
        }
        if size <= end - address {
            Ok(allocation)
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }

    /// Takes addresses for a reservation: at `wanted` if they are free, else anywhere.
    pub(crate) fn reserve(&self, size: u64, alignment: u64, wanted: u64) -> Option<u64> {
        let free = &mut self.lock().free;
        if wanted != 0 && wanted.is_multiple_of(alignment) && take_at(free, wanted, size) {
            return Some(wanted);
        }
        let start = free.iter().find_map(|(start, room)| {
            let aligned = start.checked_next_multiple_of(alignment)?;
            (aligned - start <= *room && size <= room - (aligned - start)).then_some(aligned)
        })?;
        take_at(free, start, size).then_some(start)
    }

    /// Gives the addresses of a reservation back, in which nothing is mapped.
    pub(crate) fn unreserve(&self, range: &Range<u64>) {
        give(&mut self.lock().free, range);
    }

    /// Notes that a mapping of the program's own can be used.
    pub(crate) fn note_virtual(&self, start: u64, size: u64, device: usize) {
        // It belongs to no context.
        self.lock().insert(start, size, 0, Kind::Virtual { device });
    }

    /// The allocation at an address, if other processes may open it: not what pools, modules or the program itself have placed.
    pub(crate) fn shareable(
        &self,
        session: &Session,
        address: u64,
    ) -> Result<Allocation, CUresult> {
        match session.objects.stream_ordered.handle_at(address) {
            0 => self.exportable(address),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    /// The allocation that begins at an address, if what it is in can be lent to other processes.
    pub(crate) fn exportable(&self, address: u64) -> Result<Allocation, CUresult> {
        let allocation = self.find(address).ok_or(CUresult::INVALID_VALUE)?;
        if allocation.start != address {
            return Err(CUresult::INVALID_VALUE);
        }
        match allocation.kind {
            Kind::Small { .. } | Kind::Large { .. } => Ok(allocation),
            Kind::Plain => Err(CUresult::NOT_SUPPORTED),
            Kind::SmallManaged { .. }
            | Kind::Managed { .. }
            | Kind::Virtual { .. }
            | Kind::Global { .. }
            | Kind::Borrowed { .. } => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Notes another process's allocation.
    pub(crate) fn note_borrowed(&self, start: u64, size: u64, context: u32, device: usize) {
        let kind = Kind::Borrowed { device };
        self.lock().insert(start, size, context, kind);
    }

    /// Another process's allocation is not open any more.
    pub(crate) fn forget_borrowed(&self, start: u64) {
        self.lock().allocations.remove(&start);
    }

    /// A mapping of the program's own cannot be used any more.
    pub(crate) fn forget_virtual(&self, start: u64) {
        self.lock().allocations.remove(&start);
    }

    /// Asks for memory, and again as long as that may help.
    pub(crate) fn with_patience(
        &self,
        session: &Session,
        ask: impl Fn() -> Result<(), CUresult>,
    ) -> Result<(), CUresult> {
        match ask() {
            Err(refused @ (CUresult::OUT_OF_MEMORY | CUresult::NOT_READY)) => {
                self.again(session, refused, ask)
            }
            result => result,
        }
    }

    /// Notes a variable, which the driver has placed.
    pub(crate) fn note_global(
        &self,
        start: u64,
        size: u64,
        context: u32,
        owner: Owner,
        is_managed: bool,
    ) {
        self.note(start, size, context, Kind::Global { owner, is_managed });
    }

    /// A module or a library is about to go, and its variables: what the driver places there next is nothing of theirs.
    pub(crate) fn forget_owner(&self, gone: Owner) {
        self.mapped.forget_owner(gone);
        let is_its = |_: &u64, allocation: &mut Allocation| matches!(allocation.kind, Kind::Global { owner, .. } if owner == gone);
        let variables: Vec<_> = self.lock().allocations.extract_if(.., is_its).collect();
        for (_, variable) in variables.iter().filter(|(_, gone)| gone.is_managed()) {
            self.advised().forget(variable.range());
        }
    }

    pub(super) fn note(&self, start: u64, size: u64, context: u32, kind: Kind) {
        self.lock().insert(start, size, context, kind);
    }

    /// Whether addresses are chosen here.
    pub(crate) fn has_windows(&self) -> bool {
        !self.lock().windows.is_empty()
    }

    /// What was said of managed memory.
    pub(crate) fn advised(&self) -> MutexGuard<'_, Advised> {
        self.advised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn variable_pages(&self) -> MutexGuard<'_, Pages> {
        self.variable_pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A context has ended: so has its memory. Ranges of the window are not used again in this session, since work may still end there.
    pub(crate) fn forget_context(&self, context: u32) {
        for range in self.mapped.forget_context(context) {
            managed::close(&range);
        }
        let mut places = self.lock();
        places
            .allocations
            .retain(|_, allocation| allocation.context != context);
        places.chunks.retain(|_, chunk| chunk.context != context);
        places.spares.retain(|(other, _)| *other != context);
        places.resting.retain(|resting| {
            resting
                .until
                .iter()
                .all(|(stream, _)| stream.context != context)
        });
    }

    pub(crate) fn allocate(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        if size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        self.trying_again(session, || self.try_allocate(session, context, size))
    }

    /// Asks for memory, and again as long as that may help.
    pub(super) fn trying_again<T>(
        &self,
        session: &Session,
        ask: impl Fn() -> Result<T, CUresult>,
    ) -> Result<T, CUresult> {
        match ask() {
            Err(refused @ (CUresult::OUT_OF_MEMORY | CUresult::NOT_READY)) => {
                self.again(session, refused, ask)
            }
            result => result,
        }
    }

    /// Asks again after a refusal: while this process has something to give back, and while the worker says that others have.
    fn again<T>(
        &self,
        session: &Session,
        mut refused: CUresult,
        ask: impl Fn() -> Result<T, CUresult>,
    ) -> Result<T, CUresult> {
        let end = Instant::now() + PATIENCE;
        let mut pause = PAUSE.0;
        loop {
            self.give_idle_back(session)?;
            let has_made_room = self.wait_for_freed(session)?;
            let may_help = has_made_room || refused == CUresult::NOT_READY;
            if !may_help || Instant::now() >= end {
                return Err(CUresult::OUT_OF_MEMORY);
            }
            if !has_made_room {
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE.1);
            }
            match ask() {
                Err(again @ (CUresult::OUT_OF_MEMORY | CUresult::NOT_READY)) => refused = again,
                result => return result,
            }
        }
    }

    /// Gives back what is idle.
    fn give_idle_back(&self, session: &Session) -> Result<(), CUresult> {
        let unmappings = self.lock().give_back_idle();
        post(session, &unmappings)
    }

    /// The worker calls for what is idle: another process of the lease finds no room. Answered by [`Memory::answer_recall`].
    pub(crate) fn recall(&self, number: u64) {
        self.recalled.store(number.wrapping_add(1), SeqCst);
    }

    /// Whether a call for what is idle is not answered.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled.load(SeqCst) != 0
    }

    /// Gives back what is idle, and says so, if that is called for. The caller holds no lock.
    pub(crate) fn answer_recall(&self, link: &Link) -> Result<(), CUresult> {
        while self.is_recalled() {
            // Of two answers at a time one could overtake what the other gives back. Who answers looks again afterwards.
            let _answering = match self.answering.try_lock() {
                Ok(answering) => answering,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(()),
            };
            self.answer_last_recall(link)?;
        }
        Ok(())
    }

    fn answer_last_recall(&self, link: &Link) -> Result<(), CUresult> {
        let number = self.recalled.swap(0, SeqCst);
        if number == 0 {
            return Ok(());
        }
        let thread = thread::number();
        let unmappings = self.lock().give_back_idle();
        for unmapping in &unmappings {
            link.post(thread, unmapping.context, &[], |_| {
                Some(unmapping.request())
            })?;
        }
        let answer = GpurunIdleGivenBack::new(number.wrapping_sub(1));
        link.post(thread, 0, &[], |_| Some(answer))?;
        Ok(link.flush()?)
    }

    fn try_allocate(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        if !self.has_windows() {
            let reply = session.ask_in(context.id, &GpurunMemoryMap::new(0, size), &[])?;
            self.lock()
                .insert(reply.mapped(), size, context.id, Kind::Plain);
            return Ok(reply.mapped());
        }
        if size > MOST_SMALL {
            let mapped = size
                .checked_next_multiple_of(GRANULARITY)
                .ok_or(CUresult::OUT_OF_MEMORY)?;
            let start = self.map(session, context, mapped)?;
            self.lock()
                .insert(start, size, context.id, Kind::Large { mapped });
            return Ok(start);
        }
        self.allocate_small(session, context, size, false)
    }

    pub(super) fn allocate_small(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
        is_managed: bool,
    ) -> Result<u64, CUresult> {
        let block = size.next_multiple_of(BLOCK);
        let (surplus, taken) = {
            let mut places = self.lock();
            let surplus = places.wake_resting();
            (surplus, places.take_small(context.id, block, is_managed))
        };
        post(session, &surplus)?;
        let start = match taken {
            Some(start) => start,
            None => {
                let chunk = match is_managed {
                    true => self.map_managed(session, context, GRANULARITY)?,
                    false => self.map(session, context, GRANULARITY)?,
                };
                let (surplus, start) = self.take_from_new(context.id, chunk, block, is_managed);
                post(session, surplus.as_slice())?;
                start.ok_or(CUresult::OUT_OF_MEMORY)?
            }
        };
        if let Some(allocation) = self.lock().allocations.get_mut(&start) {
            allocation.size = size;
        }
        Ok(start)
    }

    /// A block of a chunk that has been mapped, or of another that has room by now: then the new one may not be needed.
    fn take_from_new(
        &self,
        context: u32,
        chunk: u64,
        block: u64,
        is_managed: bool,
    ) -> (Option<Unmapping>, Option<u64>) {
        let mut places = self.lock();
        let free = BTreeMap::from([(chunk, GRANULARITY)]);
        let made = Chunk {
            context,
            is_managed,
            free,
        };
        places.chunks.insert(chunk, made);
        let surplus = places.note_idle(chunk);
        (surplus, places.take_small(context, block, is_managed))
    }

    /// Takes a range of a window and has memory mapped there.
    pub(super) fn map(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        let start = take(&mut self.lock().free, size).ok_or(CUresult::OUT_OF_MEMORY)?;
        let asked = session.ask_in(context.id, &GpurunMemoryMap::new(start, size), &[]);
        if let Err(code) = asked {
            give(&mut self.lock().free, &(start..start + size));
            return Err(code);
        }
        Ok(start)
    }

    /// Waits until everything freed so far is really free; says whether there was anything.
    fn wait_for_freed(&self, session: &Session) -> Result<bool, CUresult> {
        let last = {
            let places = self.lock();
            if places.unmapping.is_empty() {
                return Ok(false);
            }
            places.last_ticket
        };
        let done = || !self.lock().unmapping.keys().any(|ticket| *ticket <= last);
        session.wait_until(done)?;
        Ok(true)
    }

    pub(crate) fn free(&self, session: &Session, address: u64) -> Result<(), CUresult> {
        let allocation = {
            let places = self.lock();
            let allocation = places.allocations.get(&address).copied();
            allocation
                .filter(|allocation| {
                    let kind = allocation.kind;
                    !matches!(
                        kind,
                        Kind::Global { .. } | Kind::Virtual { .. } | Kind::Borrowed { .. }
                    )
                })
                .ok_or(CUresult::INVALID_VALUE)?
        };
        if allocation.is_managed() {
            self.advised().forget(allocation.range());
        }
        match allocation.kind {
            Kind::Managed { mapped } => {
                let range = address..address + mapped;
                self.unmanage(session, allocation.context, &range)?;
                self.unmap(session, &allocation, range, mapped)
            }
            Kind::Small { chunk } | Kind::SmallManaged { chunk } => {
                self.free_small(session, &allocation, chunk)
            }
            Kind::Large { mapped } => {
                self.unmap(session, &allocation, address..address + mapped, mapped)
            }
            Kind::Plain | Kind::Global { .. } | Kind::Virtual { .. } | Kind::Borrowed { .. } => {
                self.unmap(session, &allocation, 0..0, allocation.size)
            }
        }
    }

    fn free_small(
        &self,
        session: &Session,
        allocation: &Allocation,
        chunk: u64,
    ) -> Result<(), CUresult> {
        let context = session.objects.contexts.get(allocation.context);
        let until = match &context {
            Some(context) => stream::marks_of_context(session, context, false)?,
            None => Vec::new(),
        };
        let block = allocation.start..allocation.start + allocation.size.next_multiple_of(BLOCK);
        let surplus = {
            let mut places = self.lock();
            // Another thread may have freed it meanwhile.
            places
                .allocations
                .remove(&allocation.start)
                .ok_or(CUresult::INVALID_VALUE)?;
            if until.is_empty() {
                places.give_block(chunk, &block)
            } else {
                places.resting.push(Resting {
                    block,
                    chunk,
                    until,
                });
                None
            }
        };
        post(session, surplus.as_slice())
    }

    /// Gives back a range of a window in which nothing has been allocated.
    pub(super) fn unmap_range(
        &self,
        session: &Session,
        context: u32,
        range: Range<u64>,
    ) -> Result<(), CUresult> {
        let (start, mapped) = (range.start, range.end - range.start);
        let ticket = self.lock().ticket(range);
        let unmapping = Unmapping {
            context,
            start,
            mapped,
            ticket,
        };
        post(session, &[unmapping])
    }

    fn unmap(
        &self,
        session: &Session,
        allocation: &Allocation,
        range: Range<u64>,
        mapped: u64,
    ) -> Result<(), CUresult> {
        let ticket = {
            let mut places = self.lock();
            places
                .allocations
                .remove(&allocation.start)
                .ok_or(CUresult::INVALID_VALUE)?;
            places.ticket(range)
        };
        let unmapping = Unmapping {
            context: allocation.context,
            start: allocation.start,
            mapped,
            ticket,
        };
        post(session, &[unmapping])
    }
}

/// Posts what gives mappings back. No lock is held: who posts may have to wait for room, and then takes in what is pushed.
fn post(session: &Session, unmappings: &[Unmapping]) -> Result<(), CUresult> {
    unmappings
        .iter()
        .try_for_each(|unmapping| session.post_in(unmapping.context, |_| unmapping.request(), &[]))
}

pub(crate) unsafe fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) -> CUresult {
    code((|| {
        let place = out(dptr)?;
        let (session, context) = session::current()?;
        capture::forbid_unsafe()?;
        let address = session
            .objects
            .memory
            .allocate(session, &context, bytesize as u64)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(address) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemAllocPitch_v2(
    dptr: *mut CUdeviceptr,
    pitch: *mut usize,
    width_in_bytes: usize,
    height: usize,
    element_size_bytes: c_uint,
) -> CUresult {
    code((|| {
        let (place, pitch_place) = (out(dptr)?, out(pitch)?);
        if !matches!(element_size_bytes, 4 | 8 | 16) || width_in_bytes == 0 || height == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let (session, context) = session::current()?;
        capture::forbid_unsafe()?;
        let pitch = width_in_bytes.checked_next_multiple_of(BLOCK as usize);
        let size = pitch
            .and_then(|pitch| pitch.checked_mul(height))
            .ok_or(CUresult::OUT_OF_MEMORY)?;
        let address = session
            .objects
            .memory
            .allocate(session, &context, size as u64)?;
        // SAFETY: checked by `out`.
        unsafe {
            place.write(address);
            pitch_place.write(size / height);
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemFree_v2(dptr: CUdeviceptr) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        if dptr == 0 {
            return Ok(());
        }
        capture::forbid_unsafe()?;
        let memory = &session.objects.memory;
        if !session.objects.graph_memory.free(dptr)? {
            session.objects.stream_ordered.free(session, dptr)?;
        }
        // A driver's free waits for the device. What of that a program can see without asking is what has landed in its memory, and what kernels have
        // written where it is mapped or managed.
        if memory.mapped.is_any() {
            stream::wait_for_context(session, &context)?;
        }
        host::wait_for_landings(session, &memory.host.landing_anywhere())
    })())
}

pub(crate) unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    code((|| {
        let (free, total) = (out(free)?, out(total)?);
        let (session, context) = session::current()?;
        // A program that frees and asks expects to see it.
        let memory = &session.objects.memory;
        let surplus = memory.lock().wake_resting();
        post(session, &surplus)?;
        memory.wait_for_freed(session)?;
        let reply = session.ask_in(context.id, &CuMemGetInfo_v2::new(), &[])?;
        // SAFETY: checked by `out`.
        unsafe {
            free.write(reply.free() as usize);
            total.write(reply.total() as usize);
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemGetAddressRange_v2(
    pbase: *mut CUdeviceptr,
    psize: *mut usize,
    dptr: CUdeviceptr,
) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let memory = &session.objects.memory;
        let allocated = memory.find(dptr).map(|found| (found.start, found.size));
        let pinned = || {
            let pinned = memory.host.find(usize::try_from(dptr).ok()?, 1)?;
            Some((pinned.start as u64, pinned.size as u64))
        };
        let (start, size) = allocated.or_else(pinned).ok_or(CUresult::NOT_FOUND)?;
        // SAFETY: not null, writable by the API's contract.
        unsafe {
            if !pbase.is_null() {
                pbase.write(start);
            }
            if !psize.is_null() {
                psize.write(size as usize);
            }
        }
        Ok(())
    })())
}
