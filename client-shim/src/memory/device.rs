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
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use driver_api::abi::{CUdeviceptr, CUresult};
use driver_api::managed::Advised;
use driver_api::wire::request::{
    CuMemGetInfo_v2, GpurunIdleGivenBack, GpurunMemoryMap, GpurunMemoryUnmap,
};

use super::host::{self, HostMemory};
use super::managed::{self, Pages};
use super::{Mapped, out};
use crate::capture;
use crate::context::Context;
use crate::entry::code;
use crate::link::Link;
use crate::session::{self, Session};
use crate::stream::{self, Stream};
use crate::thread;

/// What the worker maps at once, and the size of a chunk: a multiple of every device's granularity.
pub(crate) const GRANULARITY: u64 = 2 * 1024 * 1024;
/// Blocks of a chunk begin and end at multiples of this; as the driver's allocations do.
const BLOCK: u64 = 512;
/// What is larger gets a range of its own.
pub(super) const MOST_SMALL: u64 = 1024 * 1024;

/// How long one asks again for memory that is on its way out of others; the worker says no long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// The first pause before asking again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(2));

/// The memory of a session.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
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

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// The first address.
    pub(crate) start: u64,
    /// The bytes that were asked for.
    pub(crate) size: u64,
    /// The context that it belongs to.
    pub(crate) context: u32,
    /// Its number, never given twice.
    pub(crate) unique: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A block of the chunk that begins here.
    Small { chunk: u64 },
    /// Its own mapping of so many bytes.
    Large { mapped: u64 },
    /// The same of managed memory.
    SmallManaged { chunk: u64 },
    /// The same of managed memory.
    Managed { mapped: u64 },
    /// Placed by the driver: plain memory.
    Plain,
    /// The program's own physical memory, mapped by it; of this device.
    Virtual { device: usize },
    /// Placed by the driver with a module: it ends with the module.
    Global { is_managed: bool },
    /// Another process's, opened here; of this device.
    Borrowed { device: usize },
}

#[derive(Debug, Default)]
struct Inner {
    windows: Vec<Range<u64>>,
    /// Free ranges of the windows, by start.
    free: BTreeMap<u64, u64>,
    allocations: BTreeMap<u64, Allocation>,
    chunks: BTreeMap<u64, Chunk>,
    /// For each context the chunk that was idle last: the one that is kept, unless it is in use again. Few, and looked at for every free.
    spares: Vec<(u32, u64)>,
    /// Freed blocks that streams may still use.
    resting: Vec<Resting>,
    /// Ranges whose unmapping has been posted, by ticket.
    unmapping: HashMap<u64, Range<u64>>,
    last_ticket: u64,
}

/// 2 MiB of a context for small allocations.
#[derive(Debug)]
struct Chunk {
    context: u32,
    is_managed: bool,
    /// Free blocks, by start.
    free: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Resting {
    block: Range<u64>,
    chunk: u64,
    until: Vec<(Arc<Stream>, u64)>,
}

impl Allocation {
    /// The device of memory that need not be its context's.
    pub(crate) fn device(&self) -> Option<usize> {
        match self.kind {
            Kind::Virtual { device } | Kind::Borrowed { device } => Some(device),
            _ => None,
        }
    }
}

impl Allocation {
    /// Whether the program reaches it too.
    pub(crate) fn is_managed(&self) -> bool {
        matches!(
            self.kind,
            Kind::SmallManaged { .. } | Kind::Managed { .. } | Kind::Global { is_managed: true }
        )
    }

    fn range(&self) -> Range<u64> {
        self.start..self.start + self.size
    }
}

impl Chunk {
    fn is_idle(&self) -> bool {
        self.free.len() == 1 && self.free.values().all(|size| *size == GRANULARITY)
    }
}

/// A mapping to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unmapping {
    context: u32,
    start: u64,
    mapped: u64,
    ticket: u64,
}

impl Unmapping {
    fn request(&self) -> GpurunMemoryUnmap {
        GpurunMemoryUnmap::new(self.start, self.mapped, self.ticket)
    }
}

/// Takes `size` from the first free range that has so much.
fn take(free: &mut BTreeMap<u64, u64>, size: u64) -> Option<u64> {
    let (&start, &room) = free.iter().find(|(_, room)| **room >= size)?;
    free.remove(&start);
    if room > size {
        free.insert(start + size, room - size);
    }
    Some(start)
}

/// Takes a range if all of it is free.
fn take_at(free: &mut BTreeMap<u64, u64>, start: u64, size: u64) -> bool {
    let Some((&first, &room)) = free.range(..=start).next_back() else {
        return false;
    };
    if start - first > room || size > room - (start - first) {
        return false;
    }
    free.remove(&first);
    if start > first {
        free.insert(first, start - first);
    }
    let end = start + size;
    if first + room > end {
        free.insert(end, first + room - end);
    }
    true
}

/// Gives a range back, joined with its neighbours.
fn give(free: &mut BTreeMap<u64, u64>, range: &Range<u64>) {
    let (mut start, mut end) = (range.start, range.end);
    if let Some((&before, &size)) = free.range(..start).next_back()
        && before + size == start
    {
        free.remove(&before);
        start = before;
    }
    if let Some(size) = free.remove(&end) {
        end += size;
    }
    free.insert(start, end - start);
}

impl Inner {
    /// A block of a chunk with room.
    fn take_small(&mut self, context: u32, size: u64, is_managed: bool) -> Option<u64> {
        let chunks = self
            .chunks
            .iter_mut()
            .filter(|(_, chunk)| chunk.context == context && chunk.is_managed == is_managed);
        let (chunk, start) = chunks
            .into_iter()
            .find_map(|(base, chunk)| Some((*base, take(&mut chunk.free, size)?)))?;
        let kind = match is_managed {
            true => Kind::SmallManaged { chunk },
            false => Kind::Small { chunk },
        };
        self.insert(start, size, context, kind);
        Some(start)
    }

    fn insert(&mut self, start: u64, size: u64, context: u32, kind: Kind) {
        let unique = crate::objects::unique();
        self.allocations.insert(
            start,
            Allocation {
                start,
                size,
                context,
                unique,
                kind,
            },
        );
    }

    /// Blocks whose streams have passed go back to their chunks; what is to be given back for that.
    fn wake_resting(&mut self) -> Vec<Unmapping> {
        if self.resting.is_empty() {
            return Vec::new();
        }
        let has_passed = |resting: &mut Resting| {
            let mut until = resting.until.iter();
            until.all(|(stream, mark)| stream.has_reached(*mark))
        };
        let awake: Vec<Resting> = self.resting.extract_if(.., has_passed).collect();
        awake
            .into_iter()
            .filter_map(|resting| self.give_block(resting.chunk, &resting.block))
            .collect()
    }

    /// A block goes back to its chunk, which may be given back for that.
    fn give_block(&mut self, base: u64, block: &Range<u64>) -> Option<Unmapping> {
        let chunk = self.chunks.get_mut(&base)?;
        give(&mut chunk.free, block);
        self.note_idle(base)
    }

    /// An idle chunk becomes its context's spare, or is given back if there is one.
    fn note_idle(&mut self, base: u64) -> Option<Unmapping> {
        let is_spare = |chunk: &&Chunk| chunk.is_idle() && !chunk.is_managed;
        let chunk = self.chunks.get(&base).filter(is_spare)?;
        let context = chunk.context;
        match self.spares.iter_mut().find(|spare| spare.0 == context) {
            None => self.spares.push((context, base)),
            Some((_, spare)) if *spare == base => {}
            Some((_, spare)) => {
                if self.chunks.get(spare).is_some_and(Chunk::is_idle) {
                    return Some(self.give_back(context, base));
                }
                *spare = base;
            }
        }
        None
    }

    fn give_back(&mut self, context: u32, base: u64) -> Unmapping {
        self.chunks.remove(&base);
        let ticket = self.ticket(base..base + GRANULARITY);
        Unmapping {
            context,
            start: base,
            mapped: GRANULARITY,
            ticket,
        }
    }

    /// The ticket of an unmapping that is about to be posted.
    fn ticket(&mut self, range: Range<u64>) -> u64 {
        self.last_ticket += 1;
        self.unmapping.insert(self.last_ticket, range);
        self.last_ticket
    }

    /// Gives back every chunk that has no block in use, also if streams may still use some: the worker waits for them.
    fn give_back_idle(&mut self) -> Vec<Unmapping> {
        let mut unmappings = self.wake_resting();
        let mut unused: HashMap<u64, u64> = HashMap::new();
        for resting in &self.resting {
            *unused.entry(resting.chunk).or_default() += resting.block.end - resting.block.start;
        }
        let is_unused = |(base, chunk): &(&u64, &Chunk)| {
            let resting = unused.get(base).copied().unwrap_or(0);
            !chunk.is_managed && chunk.free.values().sum::<u64>() + resting == GRANULARITY
        };
        let idle: Vec<(u64, u32)> = self
            .chunks
            .iter()
            .filter(is_unused)
            .map(|(base, chunk)| (*base, chunk.context))
            .collect();
        self.spares.clear();
        for (base, context) in idle {
            self.resting.retain(|resting| resting.chunk != base);
            unmappings.push(self.give_back(context, base));
        }
        unmappings
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to use the windows that the worker has too.
    pub(crate) fn use_windows(&self, windows: Vec<Range<u64>>) {
        let mut inner = self.lock();
        inner.free = windows
            .iter()
            .map(|window| (window.start, window.end - window.start))
            .collect();
        inner.windows = windows;
    }

    /// The ticket of an unmapping was pushed: its range can be used again, unless the worker could not unmap it.
    pub(crate) fn unmapped(&self, ticket: u64, result: CUresult) {
        let mut inner = self.lock();
        if let Some(range) = inner.unmapping.remove(&ticket)
            && !range.is_empty()
            && result.is_success()
        {
            give(&mut inner.free, &range);
        }
    }

    /// What is at an address.
    pub(crate) fn find(&self, address: u64) -> Option<Allocation> {
        let inner = self.lock();
        let (_, allocation) = inner.allocations.range(..=address).next_back()?;
        (address - allocation.start < allocation.size).then_some(*allocation)
    }

    /// Checks that a range lies in one allocation.
    pub(crate) fn check(&self, address: u64, size: u64) -> Result<Allocation, CUresult> {
        let allocation = self.find(address).ok_or(CUresult::INVALID_VALUE)?;
        let mut end = allocation.start + allocation.size;
        if size > end - address {
            // Mappings of the program's own that touch may be crossed.
            let inner = self.lock();
            let is_virtual =
                |allocation: &Allocation| matches!(allocation.kind, Kind::Virtual { .. });
            while is_virtual(&allocation)
                && size > end - address
                && let Some(next) = inner.allocations.get(&end).filter(|next| is_virtual(next))
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

    /// Notes a variable of a module, which the driver has placed.
    pub(crate) fn note_global(&self, start: u64, size: u64, context: u32, is_managed: bool) {
        self.note(start, size, context, Kind::Global { is_managed });
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
        let mut inner = self.lock();
        inner
            .allocations
            .retain(|_, allocation| allocation.context != context);
        inner.chunks.retain(|_, chunk| chunk.context != context);
        inner.spares.retain(|(other, _)| *other != context);
        inner.resting.retain(|resting| {
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
            link.post(thread, unmapping.context, &[], |_| unmapping.request())?;
        }
        let answer = GpurunIdleGivenBack::new(number.wrapping_sub(1));
        link.post(thread, 0, &[], |_| answer)?;
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
            let mut inner = self.lock();
            let surplus = inner.wake_resting();
            (surplus, inner.take_small(context.id, block, is_managed))
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
        let mut inner = self.lock();
        let free = BTreeMap::from([(chunk, GRANULARITY)]);
        let made = Chunk {
            context,
            is_managed,
            free,
        };
        inner.chunks.insert(chunk, made);
        let surplus = inner.note_idle(chunk);
        (surplus, inner.take_small(context, block, is_managed))
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
            let inner = self.lock();
            if inner.unmapping.is_empty() {
                return Ok(false);
            }
            inner.last_ticket
        };
        let done = || !self.lock().unmapping.keys().any(|ticket| *ticket <= last);
        session.wait_until(done)?;
        Ok(true)
    }

    pub(crate) fn free(&self, session: &Session, address: u64) -> Result<(), CUresult> {
        let allocation = {
            let inner = self.lock();
            let allocation = inner.allocations.get(&address).copied();
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
            let mut inner = self.lock();
            // Another thread may have freed it meanwhile.
            inner
                .allocations
                .remove(&allocation.start)
                .ok_or(CUresult::INVALID_VALUE)?;
            if until.is_empty() {
                inner.give_block(chunk, &block)
            } else {
                inner.resting.push(Resting {
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
            let mut inner = self.lock();
            inner
                .allocations
                .remove(&allocation.start)
                .ok_or(CUresult::INVALID_VALUE)?;
            inner.ticket(range)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: u32 = 3;

    /// Memory with chunks of a context at these addresses, all of them full.
    fn with_chunks(chunks: &[u64]) -> Inner {
        let mut inner = Inner::default();
        for chunk in chunks {
            let free = BTreeMap::from([(*chunk, GRANULARITY)]);
            let context = CONTEXT;
            let is_managed = false;
            let made = Chunk {
                context,
                is_managed,
                free,
            };
            inner.chunks.insert(*chunk, made);
            assert_eq!(inner.take_small(CONTEXT, GRANULARITY, false), Some(*chunk));
        }
        inner
    }

    fn whole(chunk: u64) -> Range<u64> {
        chunk..chunk + GRANULARITY
    }

    #[test]
    fn one_idle_chunk_is_kept_and_others_are_given_back() {
        let (first, second, third) = (GRANULARITY, 2 * GRANULARITY, 3 * GRANULARITY);
        let mut inner = with_chunks(&[first, second, third]);
        let half = first..first + GRANULARITY / 2;
        assert_eq!(inner.give_block(first, &half), None);
        assert_eq!(inner.give_block(second, &whole(second)), None);
        let unmapping = inner.give_block(third, &whole(third)).expect("given back");
        assert_eq!((unmapping.start, unmapping.mapped), (third, GRANULARITY));
        assert_eq!(inner.unmapping.get(&unmapping.ticket), Some(&whole(third)));
        // The spare is used before another is mapped; then it is none, and the next is kept.
        assert_eq!(inner.take_small(CONTEXT, GRANULARITY, false), Some(second));
        let rest = first + GRANULARITY / 2..first + GRANULARITY;
        assert_eq!(inner.give_block(first, &rest), None);
        let unmapping = inner
            .give_block(second, &whole(second))
            .expect("given back");
        assert_eq!(unmapping.start, second);
        assert_eq!(inner.take_small(CONTEXT + 1, BLOCK, false), None);
    }

    #[test]
    fn what_is_recalled_is_every_chunk_that_nobody_uses() {
        let (first, second, third) = (GRANULARITY, 2 * GRANULARITY, 3 * GRANULARITY);
        let mut inner = with_chunks(&[first, second, third]);
        assert_eq!(inner.give_block(first, &whole(first)), None);
        let stream = Arc::new(Stream::legacy(CONTEXT));
        for (block, chunk) in [(whole(second), second), (third..third + BLOCK, third)] {
            let until = vec![(Arc::clone(&stream), 1)];
            inner.resting.push(Resting {
                block,
                chunk,
                until,
            });
        }
        assert_eq!(inner.wake_resting(), []);
        let given: Vec<u64> = inner
            .give_back_idle()
            .iter()
            .map(|given| given.start)
            .collect();
        assert_eq!(
            given,
            [first, second],
            "streams may use what rests; the third is in use"
        );
        assert_eq!(inner.resting.len(), 1);
        assert!(inner.spares.is_empty());
        stream.reached(1);
        assert_eq!(inner.wake_resting(), []);
        assert!(inner.resting.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_given_back_joins_into_what_there_was(sizes in prop::collection::vec(1..50u64, 1..40)) {
            let whole = BTreeMap::from([(1000, 100_000)]);
            let mut free = whole.clone();
            let mut taken: Vec<Range<u64>> = Vec::new();
            for size in sizes {
                let start = take(&mut free, size).expect("room");
                prop_assert!(taken.iter().all(|other| other.end <= start || start + size <= other.start));
                taken.push(start..start + size);
            }
            taken.sort_by_key(|range| range.start * 7919 % 1009);
            for range in &taken {
                give(&mut free, range);
            }
            prop_assert_eq!(free, whole);
        }
    }
}
