//! Device memory: addresses are chosen here, memory is put there by the worker.
//!
//! ```text
//! small ─▶ a block of a 2 MiB chunk of the context: no call if a chunk has room
//! large ─▶ a range of a window, asked to be mapped; freed by a posted unmapping
//! free  ─▶ quarantine: a block until the streams have passed the marks of the free, a range until its ticket is pushed
//! ```
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{CUdeviceptr, CUresult};
use driver_api::wire::request::{CuMemGetInfo_v2, GpurunMemoryMap, GpurunMemoryUnmap};

use super::host::{self, HostMemory};
use super::out;
use crate::context::Context;
use crate::entry::code;
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// What the worker maps at once, and the size of a chunk: a multiple of every device's granularity.
const GRANULARITY: u64 = 2 * 1024 * 1024;
/// Blocks of a chunk begin and end at multiples of this; as the driver's allocations do.
const BLOCK: u64 = 512;
/// What is larger gets a range of its own.
const MOST_SMALL: u64 = 1024 * 1024;

/// The memory of a session.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    pub(crate) host: HostMemory,
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
enum Kind {
    /// A block of the chunk that begins here.
    Small { chunk: u64 },
    /// Its own mapping of so many bytes.
    Large { mapped: u64 },
    /// Placed by the driver: plain memory.
    Plain,
    /// Placed by the driver with a module: it ends with the module.
    Global,
}

#[derive(Debug, Default)]
struct Inner {
    windows: Vec<Range<u64>>,
    /// Free ranges of the windows, by start.
    free: BTreeMap<u64, u64>,
    allocations: BTreeMap<u64, Allocation>,
    chunks: BTreeMap<u64, Chunk>,
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
    /// Free blocks, by start.
    free: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Resting {
    block: Range<u64>,
    chunk: u64,
    until: Vec<(Arc<Stream>, u64)>,
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
    fn take_small(&mut self, context: u32, size: u64) -> Option<u64> {
        let chunks = self
            .chunks
            .iter_mut()
            .filter(|(_, chunk)| chunk.context == context);
        let (chunk, start) = chunks
            .into_iter()
            .find_map(|(base, chunk)| Some((*base, take(&mut chunk.free, size)?)))?;
        self.insert(start, size, context, Kind::Small { chunk });
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

    /// Blocks whose streams have passed go back to their chunks.
    fn wake_resting(&mut self) {
        let chunks = &mut self.chunks;
        self.resting.retain(|resting| {
            let passed = resting
                .until
                .iter()
                .all(|(stream, mark)| stream.has_reached(*mark));
            if passed && let Some(chunk) = chunks.get_mut(&resting.chunk) {
                give(&mut chunk.free, &resting.block);
            }
            !passed
        });
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
        let room = allocation.start + allocation.size - address;
        if size <= room {
            Ok(allocation)
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }

    /// Notes a variable of a module, which the driver has placed.
    pub(crate) fn note_global(&self, start: u64, size: u64, context: u32) {
        self.lock().insert(start, size, context, Kind::Global);
    }

    /// A context has ended: so has its memory. Ranges of the window are not used again in this session, since work may still end there.
    pub(crate) fn forget_context(&self, context: u32) {
        let mut inner = self.lock();
        inner
            .allocations
            .retain(|_, allocation| allocation.context != context);
        inner.chunks.retain(|_, chunk| chunk.context != context);
        inner.resting.retain(|resting| {
            resting
                .until
                .iter()
                .all(|(stream, _)| stream.context != context)
        });
    }

    fn allocate(&self, session: &Session, context: &Context, size: u64) -> Result<u64, CUresult> {
        if size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        match self.try_allocate(session, context, size) {
            Err(CUresult::OUT_OF_MEMORY) if self.wait_for_freed(session)? => {
                self.try_allocate(session, context, size)
            }
            result => result,
        }
    }

    fn try_allocate(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        let has_windows = !self.lock().windows.is_empty();
        if !has_windows {
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
        self.allocate_small(session, context, size.next_multiple_of(BLOCK), size)
    }

    fn allocate_small(
        &self,
        session: &Session,
        context: &Context,
        block: u64,
        size: u64,
    ) -> Result<u64, CUresult> {
        let taken = {
            let mut inner = self.lock();
            inner.wake_resting();
            inner.take_small(context.id, block)
        };
        let start = match taken {
            Some(start) => start,
            None => {
                let chunk = self.map(session, context, GRANULARITY)?;
                let mut inner = self.lock();
                let free = BTreeMap::from([(chunk, GRANULARITY)]);
                inner.chunks.insert(
                    chunk,
                    Chunk {
                        context: context.id,
                        free,
                    },
                );
                inner
                    .take_small(context.id, block)
                    .ok_or(CUresult::OUT_OF_MEMORY)?
            }
        };
        if let Some(allocation) = self.lock().allocations.get_mut(&start) {
            allocation.size = size;
        }
        Ok(start)
    }

    /// Takes a range of a window and has memory mapped there.
    fn map(&self, session: &Session, context: &Context, size: u64) -> Result<u64, CUresult> {
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

    fn free(&self, session: &Session, address: u64) -> Result<(), CUresult> {
        let allocation = {
            let inner = self.lock();
            let allocation = inner.allocations.get(&address).copied();
            allocation
                .filter(|allocation| allocation.kind != Kind::Global)
                .ok_or(CUresult::INVALID_VALUE)?
        };
        match allocation.kind {
            Kind::Small { chunk } => self.free_small(session, &allocation, chunk),
            Kind::Large { mapped } => {
                self.unmap(session, &allocation, address..address + mapped, mapped)
            }
            Kind::Plain | Kind::Global => self.unmap(session, &allocation, 0..0, allocation.size),
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
        let mut inner = self.lock();
        // Another thread may have freed it meanwhile.
        inner
            .allocations
            .remove(&allocation.start)
            .ok_or(CUresult::INVALID_VALUE)?;
        let block = allocation.start..allocation.start + allocation.size.next_multiple_of(BLOCK);
        inner.resting.push(Resting {
            block,
            chunk,
            until,
        });
        Ok(())
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
            inner.last_ticket += 1;
            let ticket = inner.last_ticket;
            inner.unmapping.insert(ticket, range);
            ticket
        };
        let request = GpurunMemoryUnmap::new(allocation.start, mapped, ticket);
        session.post_in(allocation.context, |_| request, &[])
    }
}

pub(crate) unsafe fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) -> CUresult {
    code((|| {
        let place = out(dptr)?;
        let (session, context) = session::current()?;
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
        let (session, _) = session::current()?;
        if dptr == 0 {
            return Ok(());
        }
        let memory = &session.objects.memory;
        memory.free(session, dptr)?;
        // A driver's free waits for the device. What of that a program can see without asking is what has landed in its memory.
        host::wait_for_landings(session, &memory.host.landing_anywhere())
    })())
}

pub(crate) unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    code((|| {
        let (free, total) = (out(free)?, out(total)?);
        let (session, context) = session::current()?;
        // A program that frees and asks expects to see it.
        session.objects.memory.wait_for_freed(session)?;
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
        let allocation = session
            .objects
            .memory
            .find(dptr)
            .ok_or(CUresult::NOT_FOUND)?;
        // SAFETY: not null, writable by the API's contract.
        unsafe {
            if !pbase.is_null() {
                pbase.write(allocation.start);
            }
            if !psize.is_null() {
                psize.write(allocation.size as usize);
            }
        }
        Ok(())
    })())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
