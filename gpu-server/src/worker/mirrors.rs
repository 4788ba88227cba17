//! Memory that the program and the device share: the worker's side of mapped and managed memory.
//!
//! *What:* a [`Mirrored`] range is memory at the address that it has in the program: pages of ours that are registered with the driver, or device memory
//! that the client calls managed. *How it stays alike:* the client pushes what the program has changed before it posts work, and pulls what
//! the device has changed when work is done; both are found by [comparing](driver_api::mirror). Device memory is compared in copies of it. *Rules:* pages are
//! mapped where nothing is, never over anything; a session maps at most [`MAX_BYTES`]; what a client pushes is written only inside its ranges; a pull
//! answers in parts that fit into a reply.
//!
//! *Cost of a pull:* all of the ranges read and compared once, device memory copied to the host before.
//!
//! # Safety
//! Pages are mapped here at addresses that were free, and unmapped when the driver has let go of them and no mirror knows them. Device memory is copied
//! to and from buffers of ours, as long as they are, when the session's ranges say that it is there.
#![expect(unsafe_code, reason = "maps memory, calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::mirror::{CHANGE_BYTES, Change, Mirror};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use zerocopy::{FromBytes, IntoBytes};

use super::call::{Call, CallError};
use super::context::Context;
use super::end::lock;
use crate::driver::cuda;

/// Most bytes of mapped host memory of one session.
const MAX_BYTES: u64 = 16 << 30;
/// Most ranges of one session.
const MAX_RANGES: usize = 4096;
/// Changes of one answer: they fit into a reply.
const MAX_CHANGES: usize = 8192;
const _: () = assert!(MAX_CHANGES * size_of::<Change>() + 64 <= protocol::limits::MAX_REPLY_BYTES);
/// Device memory that is copied at once.
const PART_BYTES: usize = 1 << 20;
/// Changes that are so near to each other are written to device memory with what lies between them: less than the unit of the client's allocations, so
/// that nothing of another one's, which a kernel may be writing, is written back.
const MAX_GAP_BYTES: u64 = 448;

const PAGE: u64 = 4096;
const WORD: usize = size_of::<u64>();
/// `CU_MEMHOSTREGISTER_PORTABLE` and `CU_MEMHOSTREGISTER_DEVICEMAP`.
const PORTABLE_AND_MAPPED: u32 = 3;

/// What the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Pages of ours, registered with the driver.
    Pages,
    /// Device memory of the context of this serial.
    Device { context: u64 },
}

#[derive(Debug)]
struct Mirrored {
    mirror: Mirror,
    kind: Kind,
    /// Those of the mirror's that there are: the last word may be less than one.
    bytes: u64,
}

/// The ranges of a session, by address.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    ranges: Mutex<BTreeMap<u64, Mirrored>>,
    /// The address and the word where the next pull goes on.
    next: Mutex<(u64, usize)>,
}

impl Mirrors {
    fn check_room(&self, size: u64) -> Result<(), CUresult> {
        let ranges = lock(&self.ranges);
        let pages = ranges.values().filter(|range| range.kind == Kind::Pages);
        let bytes: u64 = pages.map(|range| range.mirror.bytes() as u64).sum();
        let has_room = bytes.checked_add(size).is_some_and(|all| all <= MAX_BYTES);
        match has_room && ranges.len() < MAX_RANGES {
            true => Ok(()),
            false => Err(CUresult::OUT_OF_MEMORY),
        }
    }

    fn insert(&self, address: u64, mirrored: Mirrored) {
        lock(&self.ranges).insert(address, mirrored);
    }

    /// Device memory is compared once: what was known of it before is forgotten, as of a module that has gone.
    ///
    /// # Errors
    /// Some of it is pages of ours, which are no device's.
    fn insert_device(&self, address: u64, mirrored: Mirrored) -> Result<(), CUresult> {
        let end = address + mirrored.bytes;
        let mut ranges = lock(&self.ranges);
        let is_apart =
            |start: u64, range: &Mirrored| start >= end || start + range.bytes <= address;
        let mut others = ranges.iter().filter(|(_, range)| range.kind == Kind::Pages);
        if !others.all(|(start, range)| is_apart(*start, range)) {
            return Err(CUresult::INVALID_VALUE);
        }
        ranges.retain(|start, range| is_apart(*start, range));
        ranges.insert(address, mirrored);
        Ok(())
    }

    /// A context is gone, and its memory.
    pub(crate) fn forget_context(&self, serial: u64) {
        let kind = Kind::Device { context: serial };
        lock(&self.ranges).retain(|_, range| range.kind != kind);
    }

    /// Carries out what the client has found.
    fn apply(&self, call: &Call<'_>, mut changes: &[Change]) -> Result<(), CUresult> {
        let mut ranges = lock(&self.ranges);
        while let Some(first) = changes.first() {
            let address = first.address.get();
            let range = ranges.range_mut(..=address).next_back();
            let (_, range) = range.ok_or(CUresult::INVALID_VALUE)?;
            let taken = match range.kind {
                Kind::Pages => {
                    // SAFETY: our pages, which are unmapped after their mirror.
                    let is_known = unsafe { range.mirror.apply(first) };
                    is_known.then_some(1).ok_or(CUresult::INVALID_VALUE)?
                }
                Kind::Device { .. } => write_run(call, range, changes)?,
            };
            changes = &changes[taken..];
        }
        Ok(())
    }

    /// What the device has changed, as much as fits into one answer; whether there may be more. Only pages that are no larger than this, unless it
    /// is 0.
    fn collect(&self, call: &Call<'_>, largest: u64) -> Result<(Vec<Change>, bool), CUresult> {
        let mut next = lock(&self.next);
        let (first, mut from) = std::mem::take(&mut *next);
        let mut found = Vec::new();
        let mut ranges = lock(&self.ranges);
        // A module's variables go with it.
        let memory = &call.session.memory;
        ranges.retain(|address, range| {
            largest != 0 || range.kind == Kind::Pages || memory.check(*address, range.bytes).is_ok()
        });
        for (address, range) in ranges.range_mut(first..) {
            let word = match *address == first {
                true => std::mem::take(&mut from),
                false => 0,
            };
            let is_small = range.mirror.bytes() as u64 <= largest && range.kind == Kind::Pages;
            if largest != 0 && !is_small {
                continue;
            }
            let left = match range.kind {
                // SAFETY: our pages, which are unmapped after their mirror.
                Kind::Pages => unsafe {
                    let room = MAX_CHANGES - found.len();
                    range.mirror.collect(word, room, &mut found)
                },
                Kind::Device { .. } => compare(call, range, word, &mut found)?,
            };
            if let Some(word) = left {
                *next = (*address, word);
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }
}

/// Compares device memory from a word on; where to go on, or none at the end.
fn compare(
    call: &Call<'_>,
    range: &mut Mirrored,
    first: usize,
    found: &mut Vec<Change>,
) -> Result<Option<usize>, CUresult> {
    let mirror = &mut range.mirror;
    let mut copy = vec![0_u64; PART_BYTES.min(mirror.bytes()) / WORD];
    let mut word = first;
    while word * WORD < mirror.bytes() {
        let room = (MAX_CHANGES - found.len()) * CHANGE_BYTES / WORD;
        let words = copy.len().min(mirror.bytes() / WORD - word).min(room);
        if words == 0 {
            return Ok(Some(word));
        }
        let part = &mut copy[..words];
        let bytes = (words * WORD).min(range.bytes as usize - word * WORD);
        let address = (mirror.start() + word * WORD) as u64;
        read(call, address, &mut part.as_mut_bytes()[..bytes])?;
        mirror.compare(word, part, found);
        word += words;
    }
    Ok(None)
}

/// Writes the first of these changes, and those that follow it closely in the same range, to device memory. How many they are.
fn write_run(call: &Call<'_>, range: &mut Mirrored, changes: &[Change]) -> Result<usize, CUresult> {
    let mirror = &mut range.mirror;
    let start = changes[0].address.get();
    let mut end = start;
    let mut is_whole = true;
    let mut count = 0;
    for change in changes {
        let address = change.address.get();
        let is_near = address >= end && address - end <= MAX_GAP_BYTES;
        let fits = address.wrapping_sub(start) < (PART_BYTES - CHANGE_BYTES) as u64;
        if !is_near || !fits || mirror.note(change).is_none() {
            break;
        }
        is_whole &= address == end && change.mask.get() == u64::MAX;
        end = address + CHANGE_BYTES as u64;
        count += 1;
    }
    if count == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let range_end = mirror.start() as u64 + range.bytes;
    let mut copy = vec![0_u8; (end.min(range_end) - start) as usize];
    if !is_whole {
        // The program changes managed memory while no kernel uses it: what lies between stays as it is.
        read(call, start, &mut copy)?;
    }
    for change in &changes[..count] {
        let offset = (change.address.get() - start) as usize;
        change.put_over(&mut copy[offset..]);
    }
    let (driver, stream) = way_to(call, start, copy.len())?;
    cuda!(
        driver,
        cuMemcpyHtoDAsync_v2(start, copy.as_ptr().cast(), copy.len(), stream)
    )?;
    cuda!(driver, cuStreamSynchronize(stream))?;
    Ok(count)
}

/// Copies device memory, outside of the client's streams.
fn read(call: &Call<'_>, address: u64, copy: &mut [u8]) -> Result<(), CUresult> {
    let (driver, stream) = way_to(call, address, copy.len())?;
    cuda!(
        driver,
        cuMemcpyDtoHAsync_v2(copy.as_mut_ptr().cast(), address, copy.len(), stream)
    )?;
    cuda!(driver, cuStreamSynchronize(stream))
}

/// The driver, and a stream that waits for no work of the client, once it is known that the memory is the session's.
fn way_to<'a>(
    call: &'a Call<'_>,
    address: u64,
    bytes: usize,
) -> Result<(&'a Driver, driver_api::abi::CUstream), CUresult> {
    call.session.memory.check(address, bytes as u64)?;
    let stream = call.context()?.wiping_stream(call.driver())?;
    Ok((call.driver(), stream))
}

/// Host memory that the device reaches.
pub(crate) fn gpurunHostMap(
    call: &mut Call<'_>,
    request: &request::GpurunHostMap,
) -> Result<(), CallError> {
    let (address, size) = (request.address(), request.size());
    let context = Arc::clone(call.context()?);
    let is_whole = address > 0 && size > 0 && (address | size).is_multiple_of(PAGE);
    if !is_whole || address.checked_add(size).is_none() {
        return Err(CUresult::INVALID_VALUE.into());
    }
    call.session.mirrors.check_room(size)?;
    map(call, &context, address, size)?;
    Ok(())
}

/// Pages at this address, registered with the driver.
fn map(call: &Call<'_>, context: &Context, address: u64, size: u64) -> Result<(), CUresult> {
    let driver = call.driver();
    let mirror = Mirror::new(address as usize, size as usize)?;
    let pages = map_pages(address, size)?;
    let registered = register(driver, pages, size).and_then(|()| {
        let noted = call.session.memory.add_host(address, size, context);
        noted.inspect_err(|_| {
            // The first error is the one to tell.
            let _ = cuda!(driver, cuMemHostUnregister(pages));
        })
    });
    if let Err(error) = registered {
        // SAFETY: mapped above, known to nobody.
        let _ = unsafe { munmap(pages, size as usize) };
        return Err(error);
    }
    let mirrored = Mirrored {
        mirror,
        kind: Kind::Pages,
        bytes: size,
    };
    call.session.mirrors.insert(address, mirrored);
    Ok(())
}

/// New pages exactly there, where nothing is.
fn map_pages(address: u64, size: u64) -> Result<*mut c_void, CUresult> {
    let wanted = std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: nothing that exists is touched.
    let mapped = unsafe { mmap_anonymous(wanted, size as usize, protection, flags) };
    match mapped {
        Ok(pages) if pages.addr() == address as usize => {
            let _ = pages.expose_provenance();
            Ok(pages)
        }
        Ok(elsewhere) => {
            // A kernel before 4.17 takes the address as a hint.
            // SAFETY: just mapped, known to nobody.
            let _ = unsafe { munmap(elsewhere, size as usize) };
            Err(CUresult::NOT_SUPPORTED)
        }
        Err(rustix::io::Errno::EXIST) => Err(CUresult::NOT_SUPPORTED),
        Err(_) => Err(CUresult::OUT_OF_MEMORY),
    }
}

/// Makes pages known to the driver, at the same address for the device.
fn register(driver: &Driver, pages: *mut c_void, size: u64) -> Result<(), CUresult> {
    cuda!(
        driver,
        cuMemHostRegister_v2(pages, size as usize, PORTABLE_AND_MAPPED)
    )?;
    let mut seen = 0;
    let found = cuda!(driver, cuMemHostGetDevicePointer_v2(&mut seen, pages, 0));
    if found.is_ok() && seen == pages.addr() as u64 {
        return Ok(());
    }
    cuda!(driver, cuMemHostUnregister(pages))?;
    found.and(Err(CUresult::NOT_SUPPORTED))
}

/// What the program has changed.
pub(crate) fn gpurunHostPush(
    call: &mut Call<'_>,
    _: &request::GpurunHostPush,
    changes: &[u8],
) -> Result<(), CallError> {
    let changes = <[Change]>::ref_from_bytes(changes)
        .map_err(|_| CallError::Violation("changes of another length"))?;
    call.session.mirrors.apply(call, changes)?;
    Ok(())
}

/// What the device has changed.
pub(crate) fn gpurunHostPull(
    call: &mut Call<'_>,
    request: &request::GpurunHostPull,
) -> Result<(), CallError> {
    let (found, more) = call.session.mirrors.collect(call, request.largest())?;
    call.reply(&reply::GpurunHostPull::new(more.into()));
    call.reply_bytes(found.as_bytes());
    Ok(())
}

/// Device memory of the session becomes managed.
pub(crate) fn gpurunManage(
    call: &mut Call<'_>,
    request: &request::GpurunManage,
) -> Result<(), CallError> {
    let (address, size) = (request.address(), request.size());
    call.session.mirrors.check_room(0)?;
    call.session.memory.check(address, size)?;
    let context = call.context()?.serial;
    let words = (size as usize).checked_next_multiple_of(WORD);
    let words = words.ok_or(CUresult::INVALID_VALUE)?;
    let mirror = Mirror::new(address as usize, words)?;
    if request.is_fresh() != 0 {
        let (driver, stream) = way_to(call, address, size as usize)?;
        cuda!(driver, cuMemsetD8Async(address, 0, size as usize, stream))?;
        cuda!(driver, cuStreamSynchronize(stream))?;
    }
    let kind = Kind::Device { context };
    let bytes = size;
    let mirrored = Mirrored {
        mirror,
        kind,
        bytes,
    };
    call.session.mirrors.insert_device(address, mirrored)?;
    Ok(())
}

/// Gives mapped memory back, or compares managed memory no more.
pub(crate) fn gpurunHostUnmap(
    call: &mut Call<'_>,
    request: &request::GpurunHostUnmap,
) -> Result<(), CallError> {
    let address = request.address();
    let session = call.session;
    let gone = lock(&session.mirrors.ranges).remove(&address);
    let gone = gone.ok_or(CUresult::INVALID_VALUE)?;
    if gone.kind == Kind::Pages {
        session.memory.forget_host(address);
        let pages = std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
        if let Err(error) = cuda!(call.driver(), cuMemHostUnregister(pages)) {
            // Pages that the driver does not let go of stay mapped, and counted.
            session.mirrors.insert(address, gone);
            return Err(error.into());
        }
        // SAFETY: mapped by `map_pages`; neither the driver nor a mirror knows them any more.
        let _ = unsafe { munmap(pages, gone.mirror.bytes()) };
    }
    Ok(())
}
