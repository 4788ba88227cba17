//! Pinned host memory: plain memory of this process, remembered as pinned.
//!
//! What pinning means at a distance: an asynchronous copy may leave or land after the call has returned. When the device is to reach it by address, it is
//! [mapped](super::mapped). *Where it is:* far from where Linux puts things, so that the address is free in the worker too.
//!
//! # Safety
//! Memory is mapped here and unmapped by the program's own free; the functions named like the driver's write through pointers
//! that they have checked for null and that are writable by the API's contract.
#![expect(unsafe_code, reason = "maps memory; out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_uint, c_void};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{CUdeviceptr, CUresult};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::out;
use crate::capture;
use crate::entry::code;
use crate::link::Transfer;
use crate::session::{self, Session};
use crate::stream::Stream;

/// Portable, device-mapped, write-combined.
const ALL_ALLOC_FLAGS: c_uint = 7;
/// Portable, device-mapped, input-output memory, read-only.
const ALL_REGISTER_FLAGS: c_uint = 15;
/// `CU_MEMHOSTALLOC_PORTABLE` and `CU_MEMHOSTALLOC_DEVICEMAP`, which unified addressing implies.
const PORTABLE_AND_MAPPED: c_uint = 3;
/// Where pinned memory is tried: above the windows of device memory.
const FIRST_PLACE: usize = 0x4000_0000_0000;
const LAST_PLACE: usize = 0x5000_0000_0000;

/// A pinned range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// The first address.
    pub(crate) start: usize,
    /// The bytes that were asked for.
    pub(crate) size: usize,
    /// As the program gave them.
    pub(crate) flags: c_uint,
    /// Its number, never given twice.
    pub(crate) unique: u64,
    /// The context that it belongs to.
    pub(super) context: u32,
    /// The bytes that we have mapped; 0 if the memory is the program's own.
    mapped: usize,
}

impl Pinned {
    /// The program's own, as tests need it.
    #[cfg(test)]
    pub(super) fn of_the_program(start: usize, size: usize) -> Self {
        Self {
            start,
            size,
            flags: 0,
            unique: 1,
            context: 1,
            mapped: 0,
        }
    }

    /// Whether the program has mapped it.
    pub(crate) fn is_registered(&self) -> bool {
        self.mapped == 0
    }
}

/// A copy out of a device that lands in pinned memory later, and the stream that it waits in.
#[derive(Debug, Clone)]
pub(crate) struct Landing {
    stream: Arc<Stream>,
    transfer: Arc<Transfer>,
}

impl Landing {
    /// True if the bytes are there, or may never come: their stream has failed.
    pub(crate) fn is_over(&self) -> bool {
        self.transfer.is_done() || self.stream.fault.is_set()
    }
}

/// Waits until all of these are over.
pub(crate) fn wait_for_landings(session: &Session, landing: &[Landing]) -> Result<(), CUresult> {
    if landing.is_empty() {
        return Ok(());
    }
    session.wait_until(|| landing.iter().all(Landing::is_over))
}

/// All pinned ranges, and the copies that will still land in them.
#[derive(Debug)]
pub(crate) struct HostMemory {
    /// Between these two is all that was ever pinned: read at each launch, without the lock.
    lowest: AtomicUsize,
    highest: AtomicUsize,
    /// How often something was pinned.
    count: AtomicU64,
    ranges: Mutex<BTreeMap<usize, Pinned>>,
    landing: Mutex<Vec<Landing>>,
}

impl Default for HostMemory {
    fn default() -> Self {
        Self {
            lowest: AtomicUsize::new(usize::MAX),
            highest: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            ranges: Mutex::default(),
            landing: Mutex::default(),
        }
    }
}

impl HostMemory {
    fn ranges(&self) -> MutexGuard<'_, BTreeMap<usize, Pinned>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pinned range that holds all of `start .. start + length`.
    pub(crate) fn find(&self, start: usize, length: usize) -> Option<Pinned> {
        let ranges = self.ranges();
        let (_, pinned) = ranges.range(..=start).next_back()?;
        let inside =
            start - pinned.start < pinned.size && length <= pinned.size - (start - pinned.start);
        inside.then_some(*pinned)
    }

    /// Whether exactly this range is pinned: it has not been given back meanwhile.
    pub(super) fn holds(&self, pinned: &Pinned) -> bool {
        self.ranges().get(&pinned.start) == Some(pinned)
    }

    /// The pinned ranges that lie within these addresses, in order.
    pub(super) fn within(&self, addresses: Range<usize>) -> Vec<Pinned> {
        let ranges = self.ranges();
        let begun = ranges.range(addresses.clone()).map(|(_, pinned)| *pinned);
        begun
            .filter(|pinned| pinned.start + pinned.size <= addresses.end)
            .collect()
    }

    /// What holds all that was ever pinned; empty if nothing was.
    pub(crate) fn bounds(&self) -> Range<usize> {
        self.lowest.load(Relaxed)..self.highest.load(Relaxed)
    }

    /// How often something was pinned: as long as it is the same, no address has become pinned.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    fn insert(&self, pinned: Pinned) -> Result<(), CUresult> {
        let mut ranges = self.ranges();
        let before = ranges.range(..pinned.start + pinned.size).next_back();
        if before.is_some_and(|(_, other)| other.start + other.size > pinned.start) {
            return Err(CUresult::HOST_MEMORY_ALREADY_REGISTERED);
        }
        ranges.insert(pinned.start, pinned);
        self.lowest.fetch_min(pinned.start, Relaxed);
        self.highest.fetch_max(pinned.start + pinned.size, Relaxed);
        self.count.fetch_add(1, Relaxed);
        Ok(())
    }

    fn landing(&self) -> MutexGuard<'_, Vec<Landing>> {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a transfer that lands in pinned memory when its stream has come so far.
    pub(crate) fn will_land(&self, stream: Arc<Stream>, transfer: Arc<Transfer>) {
        let mut landing = self.landing();
        if landing.len() == landing.capacity() {
            landing.retain(|landing| !landing.transfer.is_done());
            // So that looking through all of them is rare, however many are under way.
            let count = landing.len();
            landing.reserve(count.max(16));
        }
        landing.push(Landing { stream, transfer });
    }

    /// What will still land anywhere.
    pub(crate) fn landing_anywhere(&self) -> Vec<Landing> {
        let mut landing = self.landing();
        landing.retain(|landing| !landing.transfer.is_done());
        landing.clone()
    }

    /// What will still land in this range.
    pub(crate) fn landing_in(&self, start: usize, length: usize) -> Vec<Landing> {
        let landing = self.landing();
        let wanted = |landing: &&Landing| {
            !landing.transfer.is_done() && landing.transfer.overlaps(start, length)
        };
        landing.iter().filter(wanted).cloned().collect()
    }

    /// What of a stream is still to land in this range is no longer expected.
    pub(super) fn withdraw(&self, session: &Session, stream: &Stream, start: usize, length: usize) {
        for landing in self.landing_in(start, length) {
            if core::ptr::eq(&raw const *landing.stream, stream) {
                session.link.withdraw_transfer(&landing.transfer);
            }
        }
    }

    /// A context has ended: what was still to land for it is no longer expected.
    pub(crate) fn forget_context(&self, session: &Session, context: u32) {
        for landing in self.landing_anywhere() {
            if landing.stream.context == context {
                session.link.withdraw_transfer(&landing.transfer);
            }
        }
    }

    /// Takes a range out: from then on nobody finds it, so nobody maps it for the device.
    fn take(&self, start: usize, ours: bool) -> Result<Pinned, CUresult> {
        let wrong = if ours {
            CUresult::INVALID_VALUE
        } else {
            CUresult::HOST_MEMORY_NOT_REGISTERED
        };
        let mut ranges = self.ranges();
        let found = ranges.get(&start).copied();
        let pinned = found
            .filter(|pinned| (pinned.mapped > 0) == ours)
            .ok_or(wrong)?;
        ranges.remove(&start);
        Ok(pinned)
    }

    /// Takes a range out, when nothing lands in it and the device reaches it no more. What cannot be given back stays pinned.
    fn remove(&self, start: usize, ours: bool) -> Result<Pinned, CUresult> {
        let session = session::get()?;
        let pinned = self.take(start, ours)?;
        self.give_up(session, &pinned).inspect_err(|_| {
            // It was free until now. If the program has pinned it again meanwhile, that is what is pinned.
            let _ = self.insert(pinned);
        })?;
        Ok(pinned)
    }

    /// Ends what still uses a range that was taken out.
    fn give_up(&self, session: &Session, pinned: &Pinned) -> Result<(), CUresult> {
        let landing = self.landing_in(pinned.start, pinned.size);
        if !landing.is_empty() {
            let landed = wait_for_landings(session, &landing);
            // Whatever the program does with its memory now, nothing is written to it any more.
            for landing in &landing {
                session.link.withdraw_transfer(&landing.transfer);
            }
            landed?;
        }
        session.objects.memory.mapped.unmap(session, pinned)
    }
}

fn allocate(place: *mut *mut c_void, size: usize, flags: c_uint) -> Result<(), CUresult> {
    let place = out(place)?;
    let (session, context) = session::current()?;
    capture::forbid_unsafe()?;
    if size == 0 || flags & !ALL_ALLOC_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let mapped = size
        .checked_next_multiple_of(4096)
        .ok_or(CUresult::OUT_OF_MEMORY)?;
    let memory = pages(mapped)?;
    let unique = crate::objects::unique();
    session.objects.memory.host.insert(Pinned {
        start: memory.expose_provenance(),
        size,
        flags,
        unique,
        context: context.id,
        mapped,
    })?;
    // SAFETY: checked by `out`.
    unsafe { place.write(memory) };
    Ok(())
}

/// New pages: at the next place that is likely to be free in the worker too, else where the kernel likes.
fn pages(size: usize) -> Result<*mut c_void, CUresult> {
    static NEXT: AtomicUsize = AtomicUsize::new(FIRST_PLACE);
    let place = NEXT.fetch_add(size, Relaxed);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    if place.checked_add(size).is_some_and(|end| end <= LAST_PLACE) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        let wanted = std::ptr::without_provenance_mut(place);
        // SAFETY: NOREPLACE: nothing that exists is touched. A kernel before 4.17 takes the address as a hint, which is as good.
        if let Ok(memory) = unsafe { mmap_anonymous(wanted, size, protection, flags) } {
            return Ok(memory);
        }
    }
    let anywhere = core::ptr::null_mut();
    // SAFETY: new memory at a place of the kernel's choice.
    let memory = unsafe { mmap_anonymous(anywhere, size, protection, MapFlags::PRIVATE) };
    memory.map_err(|_| CUresult::OUT_OF_MEMORY)
}

pub(crate) unsafe fn cuMemHostAlloc(
    pp: *mut *mut c_void,
    bytesize: usize,
    flags: c_uint,
) -> CUresult {
    code(allocate(pp, bytesize, flags))
}

pub(crate) unsafe fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) -> CUresult {
    code(allocate(pp, bytesize, 0))
}

pub(crate) unsafe fn cuMemFreeHost(p: *mut c_void) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        capture::forbid_unsafe()?;
        let pinned = session.objects.memory.host.remove(p.addr(), true)?;
        // SAFETY: mapped by `allocate`; the program gives it back, and nothing of ours lands there any more.
        let _ = unsafe { munmap(p, pinned.mapped) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemHostGetDevicePointer_v2(
    pdptr: *mut CUdeviceptr,
    p: *mut c_void,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let place = out(pdptr)?;
        let (session, _) = session::current()?;
        let memory = &session.objects.memory;
        let pinned = memory.host.find(p.addr(), 1).filter(|_| flags == 0);
        memory
            .mapped
            .map(session, &pinned.ok_or(CUresult::INVALID_VALUE)?)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(p.expose_provenance() as u64) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemHostGetFlags(flags: *mut c_uint, p: *mut c_void) -> CUresult {
    code((|| {
        let place = out(flags)?;
        let (session, _) = session::current()?;
        let pinned = session
            .objects
            .memory
            .host
            .find(p.addr(), 1)
            .ok_or(CUresult::INVALID_VALUE)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(pinned.flags | PORTABLE_AND_MAPPED) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuMemHostRegister(p: *mut c_void, bytesize: usize, flags: c_uint) -> CUresult {
    // SAFETY: the same contract, where addresses have 64 bits.
    unsafe { cuMemHostRegister_v2(p, bytesize, flags) }
}

pub(crate) unsafe fn cuMemHostRegister_v2(
    p: *mut c_void,
    bytesize: usize,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let range = p.addr().checked_add(bytesize);
        if p.is_null() || bytesize == 0 || range.is_none() || flags & !ALL_REGISTER_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let unique = crate::objects::unique();
        session.objects.memory.host.insert(Pinned {
            start: p.expose_provenance(),
            size: bytesize,
            flags,
            unique,
            context: context.id,
            mapped: 0,
        })
    })())
}

pub(crate) unsafe fn cuMemHostUnregister(p: *mut c_void) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        session
            .objects
            .memory
            .host
            .remove(p.addr(), false)
            .map(drop)
    })())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_are_found_from_inside() {
        let host = HostMemory::default();
        let range = Pinned::of_the_program;
        host.insert(range(1000, 100)).expect("free");
        assert!(host.insert(range(1099, 1)).is_err() && host.insert(range(900, 101)).is_err());
        host.insert(range(1100, 10)).expect("beside");
        assert_eq!(host.find(1050, 50).map(|found| found.start), Some(1000));
        assert!(host.find(1050, 51).is_none() && host.find(999, 1).is_none());
    }

    #[test]
    fn what_is_taken_is_found_by_nobody_and_once() {
        let host = HostMemory::default();
        let range = |unique| Pinned {
            unique,
            ..Pinned::of_the_program(1000, 100)
        };
        host.insert(range(1)).expect("free");
        assert!(host.holds(&range(1)) && !host.holds(&range(2)));
        assert_eq!(host.take(1000, true), Err(CUresult::INVALID_VALUE));
        assert_eq!(host.take(1000, false), Ok(range(1)));
        assert!(host.find(1000, 1).is_none() && !host.holds(&range(1)));
        assert_eq!(
            host.take(1000, false),
            Err(CUresult::HOST_MEMORY_NOT_REGISTERED)
        );
    }

    #[test]
    fn neighbours_are_found_if_all_of_them_is_there() {
        let host = HostMemory::default();
        for start in [1000, 1020, 1060] {
            host.insert(Pinned::of_the_program(start, 20))
                .expect("free");
        }
        let within: Vec<usize> = host
            .within(1010..1079)
            .iter()
            .map(|pinned| pinned.start)
            .collect();
        assert_eq!(within, [1020]);
    }
}
