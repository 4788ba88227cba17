//! Memory that the program and the device share: the worker's side of mapped and managed memory.
//!
//! *What:* a [`Mirrored`] range is memory at the address that it has in the program: pages of ours that are registered with the driver, or device memory
//! that the client calls managed. *How it stays alike:* the client pushes what the program has changed before it posts work, and pulls what
//! the device has changed when work is done; both are found by [comparing](driver_api::mirror). Device memory is compared in copies of it, made in the
//! context that it belongs to. *Rules:* pages are
//! mapped where nothing is, never over anything, and go with the context that they were mapped in; a session maps at most [`MAX_BYTES`] and manages at most
//! [`MAX_MANAGED_BYTES`], of what was mapped for its contexts and of its variables alone; what a client
//! pushes is written only inside its ranges; a pull answers in parts that fit into a reply, and holds a range no longer than one part of it takes, so
//! that nobody's push waits for the whole.
//!
//! *Cost of a pull:* all of the ranges read and compared once, device memory copied to the host before; small pages once more if something was found. Pages that nobody has touched are passed by; a driver that pins
//! them touches all.
//!
//! # Safety
//! Pages are mapped here at addresses that were free, and unmapped when no mirror knows them: whoever looks at a range's memory holds its mirror, which is taken
//! out before. The driver has let go of them then, or has ended the context that it knew them in. Device memory is copied
//! to and from buffers of ours, as long as they are, when the session's ranges say that it is there.
#![expect(unsafe_code, reason = "maps memory, calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use driver_api::Driver;
use driver_api::mirror::{CHANGE_BYTES, Change, Mirror, PageMap, whole_words};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use protocol::limits::{MAX_MANAGED_BYTES, MAX_SHARED_RANGES};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use zerocopy::{FromBytes, IntoBytes};

use super::call::{Call, CallError};
use super::context::Context;
use super::end::lock;
use super::session::Session;
use crate::driver::cuda;

/// Most bytes of mapped host memory of one session.
const MAX_BYTES: u64 = 16 << 30;
/// Changes of one answer: they fit into a reply.
const MAX_CHANGES: usize = 8192;
const _: () = assert!(MAX_CHANGES * size_of::<Change>() + 64 <= protocol::limits::MAX_REPLY_BYTES);
/// What of a range is compared at once; and of device memory copied.
const PART_BYTES: usize = 1 << 20;
/// What a pull of small ranges looks at before it answers: it runs in the order of the wire, where others wait for it.
const MAX_SMALL_BYTES: usize = 4 << 20;
/// How large the ranges are that the client keeps alike while work runs, with the pages at their ends.
const ALIKE_BYTES: u64 = 68 << 10;
/// How often they are looked at again for one answer.
const MAX_LOOKS: usize = 8;
/// Changes that are so near to each other are written to device memory with what lies between them: less than the unit of the client's allocations, so
/// that nothing of another one's, which a kernel may be writing, is written back.
const MAX_GAP_BYTES: u64 = 448;

const PAGE: u64 = 4096;
const WORD: usize = size_of::<u64>();
/// `CU_MEMHOSTREGISTER_PORTABLE` and `CU_MEMHOSTREGISTER_DEVICEMAP`.
const PORTABLE_AND_MAPPED: u32 = 3;

/// The kernel's word on this process's pages: opened before the worker is confined, by the first call.
pub(super) fn page_map() -> &'static PageMap {
    static PAGES: OnceLock<PageMap> = OnceLock::new();
    PAGES.get_or_init(PageMap::open)
}

/// What the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pages of ours, registered with the driver.
    Pages,
    /// Device memory.
    Device,
}

/// A range that both sides hold.
#[derive(Debug)]
struct Mirrored {
    kind: Kind,
    /// The serial of the context that it belongs to.
    context: u64,
    /// The mirror's.
    bytes: u64,
    /// What of these bytes there is, in order: variables may begin and end within words. Nothing else is read or written.
    parts: Vec<Range<u64>>,
    /// None once the memory is not looked at any more.
    mirror: Mutex<Option<Mirror>>,
}

impl Mirrored {
    fn new(mirror: Mirror, kind: Kind, context: u64, parts: Vec<Range<u64>>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            context,
            bytes: mirror.bytes() as u64,
            parts,
            mirror: Mutex::new(Some(mirror)),
        })
    }

    /// What there is of these bytes.
    fn parts_in(&self, bytes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let cut = move |part: &Range<u64>| part.start.max(bytes.start)..part.end.min(bytes.end);
        self.parts.iter().map(cut).filter(|part| !part.is_empty())
    }

    /// Whether it is device memory that the session may not name any more.
    fn is_gone(&self, session: &Session) -> bool {
        let is_gone = |part: &Range<u64>| {
            let length = part.end - part.start;
            session.memory.check(part.start, length).is_err()
        };
        self.kind == Kind::Device && self.parts.iter().any(is_gone)
    }

    /// Compares a part, from a word on; where to go on, or none at the end.
    fn look(
        &self,
        call: &mut Call<'_>,
        word: usize,
        found: &mut Vec<Change>,
    ) -> Result<Option<usize>, CUresult> {
        let mut mirror = lock(&self.mirror);
        let Some(mirror) = mirror.as_mut() else {
            return Ok(None);
        };
        let room = MAX_CHANGES - found.len();
        let next = match self.kind {
            Kind::Pages => {
                let words = word..word + PART_BYTES / WORD;
                // SAFETY: our pages, private and of no file, which are unmapped after their mirror is taken out.
                unsafe { mirror.collect_touched(words, room, found, page_map()) }
            }
            Kind::Device => compare(call, self, mirror, word, found)?,
        };
        Ok((next * WORD < mirror.bytes()).then_some(next))
    }
}

/// Pages of a context that is ending, which the driver did not let go of before: they are unmapped when it has ended.
#[derive(Debug)]
struct Leaving {
    context: u64,
    address: u64,
    size: u64,
}

/// The ranges of a session, by address.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    ranges: Mutex<BTreeMap<u64, Arc<Mirrored>>>,
    /// The address and the word where the next pull goes on. Held by who pulls: one at a time.
    next: Mutex<(u64, usize)>,
    leaving: Mutex<Vec<Leaving>>,
}

impl Mirrors {
    /// Whether there is room for more memory of a kind.
    pub(super) fn check_room(&self, kind: Kind, size: u64) -> Result<(), CUresult> {
        has_room(&lock(&self.ranges), kind, size)
    }

    fn insert(&self, address: u64, mirrored: Arc<Mirrored>) {
        lock(&self.ranges).insert(address, mirrored);
    }

    /// Device memory is compared once: what was known of it before is forgotten, as of a module that has gone. What it shares a word with it is joined with.
    ///
    /// # Errors
    /// Some of it is pages of ours, which are no device's, or in a word of another context's; or there is no room.
    fn insert_device(&self, device: Range<u64>, context: u64) -> Result<(), CUresult> {
        let mut words = words_of(&device)?;
        let mut ranges = lock(&self.ranges);
        ranges.retain(|_, range| {
            range.kind == Kind::Pages || range.parts_in(device.clone()).next().is_none()
        });
        let is_met =
            |start: u64, range: &Mirrored| start < words.end && words.start < start + range.bytes;
        let met = ranges
            .iter()
            .filter(|(start, range)| is_met(**start, range));
        let met: Vec<_> = met
            .map(|(start, range)| (*start, Arc::clone(range)))
            .collect();
        if met
            .iter()
            .any(|(_, range)| range.kind == Kind::Pages || range.context != context)
        {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut parts = vec![device.clone()];
        for (start, range) in &met {
            words = words.start.min(*start)..words.end.max(start + range.bytes);
            parts.extend_from_slice(&range.parts);
        }
        parts.sort_unstable_by_key(|part| part.start);
        let mut mirror = Mirror::new(words.start as usize, (words.end - words.start) as usize)?;
        has_room(&ranges, Kind::Device, mirror.bytes() as u64)?;
        for (start, range) in met {
            // Who looks at it at this moment is waited for.
            if let Some(old) = lock(&range.mirror).take() {
                mirror.take_over(&old);
            }
            ranges.remove(&start);
        }
        mirror.forget(device.start as usize..device.end as usize);
        ranges.insert(
            words.start,
            Mirrored::new(mirror, Kind::Device, context, parts),
        );
        Ok(())
    }

    /// The range that an address may be in.
    fn before(&self, address: u64) -> Option<Arc<Mirrored>> {
        let ranges = lock(&self.ranges);
        let range = ranges.range(..=address).next_back();
        range.map(|(_, range)| Arc::clone(range))
    }

    fn first_from(&self, address: u64) -> Option<(u64, Arc<Mirrored>)> {
        let ranges = lock(&self.ranges);
        let range = ranges.range(address..).next();
        range.map(|(start, range)| (*start, Arc::clone(range)))
    }

    /// A context is about to be ended by the driver, and its memory with it. It is current.
    pub(crate) fn forget_context(&self, session: &Session, serial: u64) {
        let is_its = |_: &u64, range: &mut Arc<Mirrored>| range.context == serial;
        let gone: Vec<_> = lock(&self.ranges).extract_if(.., is_its).collect();
        for (address, range) in gone {
            let mut mirror = lock(&range.mirror);
            if range.kind == Kind::Pages
                && let Err(error) = unregister_and_unmap(session, address, range.bytes)
            {
                // As a context that has failed does.
                tracing::debug!(address, %error, "pages go with their context");
                lock(&self.leaving).push(Leaving {
                    context: serial,
                    address,
                    size: range.bytes,
                });
            }
            *mirror = None;
        }
    }

    /// The driver has ended a context.
    pub(crate) fn give_back_all_of(&self, serial: u64) {
        let gone = lock(&self.leaving)
            .extract_if(.., |leaving| leaving.context == serial)
            .collect::<Vec<_>>();
        for leaving in gone {
            unmap(leaving.address, leaving.size);
        }
    }

    /// Carries out what the client has found.
    fn apply(&self, call: &mut Call<'_>, mut changes: &[Change]) -> Result<(), CUresult> {
        while let Some(first) = changes.first() {
            let range = self.before(first.address.get());
            let range = range.ok_or(CUresult::INVALID_VALUE)?;
            let mut mirror = lock(&range.mirror);
            let Some(mirror) = mirror.as_mut() else {
                // It may have been joined with another one, which is in its place.
                let now = self.before(first.address.get());
                match now.is_some_and(|now| !Arc::ptr_eq(&now, &range)) {
                    true => continue,
                    false => return Err(CUresult::INVALID_VALUE),
                }
            };
            let taken = match range.kind {
                Kind::Pages => {
                    // SAFETY: our pages, which are unmapped after their mirror is taken out.
                    let is_known = unsafe { mirror.apply(first) };
                    is_known.then_some(1).ok_or(CUresult::INVALID_VALUE)?
                }
                Kind::Device => write_run(call, &range, mirror, changes)?,
            };
            changes = &changes[taken..];
        }
        Ok(())
    }

    /// Variables go with their module: what the session may not name any more is forgotten.
    fn forget_gone(&self, session: &Session) {
        lock(&self.ranges).retain(|_, range| !range.is_gone(session));
    }

    /// The driver is about to unload a module or a library: its variables are looked at no more, and who does at this moment is waited for.
    pub(crate) fn forget_globals(&self, session: &Session, owner: u32, is_library: bool) {
        let globals = session.memory.globals(owner, is_library);
        let is_its = |_: &u64, range: &mut Arc<Mirrored>| {
            let is_in =
                |(start, size): &(u64, u64)| range.parts_in(*start..start + size).next().is_some();
            range.kind == Kind::Device && globals.iter().any(is_in)
        };
        let gone: Vec<_> = lock(&self.ranges).extract_if(.., is_its).collect();
        for (_, range) in gone {
            *lock(&range.mirror) = None;
        }
    }

    /// Takes out this range, if it is still there.
    fn remove(&self, address: u64, gone: &Arc<Mirrored>) {
        let mut ranges = lock(&self.ranges);
        if ranges
            .get(&address)
            .is_some_and(|range| Arc::ptr_eq(range, gone))
        {
            ranges.remove(&address);
        }
    }

    /// What the device has changed, as much as fits into one answer; whether there may be more. Only pages that are no larger than this, unless it
    /// is 0.
    ///
    /// # Errors
    /// The driver's, when nothing has been found before it. One that is its context's for good is told to that context, and hinders nobody else's.
    fn collect(&self, call: &mut Call<'_>, largest: u64) -> Result<(Vec<Change>, bool), CUresult> {
        let mut next = lock(&self.next);
        let (first, mut from) = std::mem::take(&mut *next);
        let mut found = Vec::new();
        let mut looked_at = 0;
        if largest == 0 {
            self.forget_gone(call.session);
        }
        let mut at = first;
        while let Some((start, range)) = self.first_from(at) {
            at = start + 1;
            let is_small = range.bytes <= largest && range.kind == Kind::Pages;
            if largest != 0 && !is_small {
                continue;
            }
            let mut left = match start == first {
                true => Some(std::mem::take(&mut from)),
                false => Some(0),
            };
            while let Some(word) = left {
                if found.len() >= MAX_CHANGES || is_small && looked_at >= MAX_SMALL_BYTES {
                    *next = (start, word);
                    return Ok((found, true));
                }
                looked_at += PART_BYTES.min(range.bytes as usize);
                left = match range.look(call, word, &mut found) {
                    Ok(left) => left,
                    // It has gone meanwhile, as a variable with its module: nobody looks for it any more.
                    Err(_) if range.is_gone(call.session) => {
                        self.remove(start, &range);
                        None
                    }
                    Err(error) if tell_of(call.session, &range, error) => None,
                    Err(error) if found.is_empty() => return Err(error),
                    Err(_) => {
                        // What was found is known to both sides from now on, so it is told; the next pull meets the error again.
                        *next = (start, word);
                        return Ok((found, true));
                    }
                };
            }
        }
        self.look_again(call, &mut found);
        Ok((found, false))
    }

    /// Looks at small pages again, until nothing is found. A kernel that runs may have written where was looked already, and only then what was found: of what
    /// is told, everything that was written before is told as well. Else the program could take the one for the end of the other, write there itself, and have
    /// that undone when the kernel's earlier write is found. A kernel that never pauses is looked at [`MAX_LOOKS`] times.
    fn look_again(&self, call: &mut Call<'_>, found: &mut Vec<Change>) {
        let is_small = |range: &Mirrored| range.kind == Kind::Pages && range.bytes <= ALIKE_BYTES;
        let mut seen = 0;
        for _ in 0..MAX_LOOKS {
            if found.len() == std::mem::replace(&mut seen, found.len()) {
                return;
            }
            let mut at = 0;
            while let Some((start, range)) = self.first_from(at) {
                at = start + 1;
                let mut left = is_small(&range).then_some(0);
                while let Some(word) = left.filter(|_| found.len() < MAX_CHANGES) {
                    // Pages of ours are there: no driver is asked.
                    left = range.look(call, word, found).unwrap_or(None);
                }
            }
        }
    }
}

/// Whether these ranges and another of so many bytes are within the limits.
fn has_room(ranges: &BTreeMap<u64, Arc<Mirrored>>, kind: Kind, size: u64) -> Result<(), CUresult> {
    let most = match kind {
        Kind::Pages => MAX_BYTES,
        Kind::Device => MAX_MANAGED_BYTES,
    };
    let alike = ranges.values().filter(|range| range.kind == kind);
    let bytes: u64 = alike.map(|range| range.bytes).sum();
    let has_room = bytes.checked_add(size).is_some_and(|all| all <= most);
    match has_room && ranges.len() < MAX_SHARED_RANGES {
        true => Ok(()),
        false => Err(CUresult::OUT_OF_MEMORY),
    }
}

/// Tells an error of device memory to the context that it is of, if that will not pass; a context that is gone has nobody to tell.
fn tell_of(session: &Session, range: &Mirrored, error: CUresult) -> bool {
    match context_of(session, range) {
        Ok(context) if error.is_sticky() => {
            session.fault(&context, error, "gpurunHostPull");
            true
        }
        Ok(_) => false,
        Err(_) => true,
    }
}

/// The context that a range belongs to.
fn context_of(session: &Session, range: &Mirrored) -> Result<Arc<Context>, CUresult> {
    let mut contexts = session.contexts.all().into_iter();
    let its = contexts.find(|context| context.serial == range.context && context.is_alive());
    its.ok_or(CUresult::CONTEXT_IS_DESTROYED)
}

/// Compares a part of device memory from a word on, as much of it as there is room for the changes of; where to go on.
fn compare(
    call: &mut Call<'_>,
    range: &Mirrored,
    mirror: &mut Mirror,
    word: usize,
    found: &mut Vec<Change>,
) -> Result<usize, CUresult> {
    let room = (MAX_CHANGES - found.len()) * CHANGE_BYTES / WORD;
    let words = (mirror.bytes() / WORD - word)
        .min(PART_BYTES / WORD)
        .min(room);
    let mut copy = mirror.known(word..word + words).to_vec();
    let address = (mirror.start() + word * WORD) as u64;
    read(call, range, address, copy.as_mut_bytes())?;
    mirror.compare(word, &copy, found);
    Ok(word + words)
}

/// Writes the first of these changes, and those that follow it closely in the same range, to device memory. How many they are.
fn write_run(
    call: &mut Call<'_>,
    range: &Mirrored,
    mirror: &mut Mirror,
    changes: &[Change],
) -> Result<usize, CUresult> {
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
    let range_end = (mirror.start() + mirror.bytes()) as u64;
    let mut copy = vec![0_u8; (end.min(range_end) - start) as usize];
    if !is_whole {
        // The program changes managed memory while no kernel uses it: what lies between stays as it is.
        read(call, range, start, &mut copy)?;
    }
    for change in &changes[..count] {
        let offset = (change.address.get() - start) as usize;
        change.put_over(&mut copy[offset..]);
    }
    for part in range.parts_in(start..start + copy.len() as u64) {
        let (driver, stream) = way_to(call, range, &part)?;
        let bytes = &copy[(part.start - start) as usize..(part.end - start) as usize];
        cuda!(
            driver,
            cuMemcpyHtoDAsync_v2(part.start, bytes.as_ptr().cast(), bytes.len(), stream)
        )?;
        cuda!(driver, cuStreamSynchronize(stream))?;
    }
    Ok(count)
}

/// Copies what there is of device memory, outside of the client's streams.
fn read(
    call: &mut Call<'_>,
    range: &Mirrored,
    address: u64,
    copy: &mut [u8],
) -> Result<(), CUresult> {
    for part in range.parts_in(address..address + copy.len() as u64) {
        let (driver, stream) = way_to(call, range, &part)?;
        let bytes = &mut copy[(part.start - address) as usize..(part.end - address) as usize];
        cuda!(
            driver,
            cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr().cast(), part.start, bytes.len(), stream)
        )?;
        cuda!(driver, cuStreamSynchronize(stream))?;
    }
    Ok(())
}

/// The driver, with the range's context current, and a stream that waits for no work of the client, once it is known that the memory is the session's.
fn way_to(
    call: &mut Call<'_>,
    range: &Mirrored,
    part: &Range<u64>,
) -> Result<(&'static Driver, driver_api::abi::CUstream), CUresult> {
    let memory = &call.session.memory;
    memory.check(part.start, part.end - part.start)?;
    let context = context_of(call.session, range)?;
    call.current.enter(call.session, context.id)?;
    let stream = context.wiping_stream(call.driver())?;
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
    call.session.mirrors.check_room(Kind::Pages, size)?;
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
        unmap(address, size);
        return Err(error);
    }
    let whole = address..address + size;
    let mirrored = Mirrored::new(mirror, Kind::Pages, context.serial, vec![whole]);
    let mirrors = &call.session.mirrors;
    mirrors.insert(address, mirrored);
    if !context.is_alive() {
        // It has ended meanwhile, without these.
        mirrors.forget_context(call.session, context.serial);
        mirrors.give_back_all_of(context.serial);
        return Err(CUresult::CONTEXT_IS_DESTROYED);
    }
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
    call.session.memory.check_manageable(address, size)?;
    call.session.mirrors.check_room(Kind::Device, size)?;
    let context = Arc::clone(call.context()?);
    let device = address..address + size;
    if request.is_fresh() != 0 {
        let driver = call.driver();
        let stream = context.wiping_stream(driver)?;
        cuda!(driver, cuMemsetD8Async(address, 0, size as usize, stream))?;
        cuda!(driver, cuStreamSynchronize(stream))?;
    }
    let mirrors = &call.session.mirrors;
    mirrors.insert_device(device, context.serial)?;
    Ok(())
}

/// The whole words that these bytes are in.
fn words_of(bytes: &Range<u64>) -> Result<Range<u64>, CUresult> {
    let words = whole_words(&(bytes.start as usize..bytes.end as usize));
    let words = words.ok_or(CUresult::INVALID_VALUE)?;
    Ok(words.start as u64..words.end as u64)
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
    // From here on nobody looks at it; who does at this moment is waited for.
    let mut mirror: MutexGuard<'_, Option<Mirror>> = lock(&gone.mirror);
    if gone.kind == Kind::Pages
        && let Err(error) = unregister_and_unmap(session, address, gone.bytes)
    {
        // Pages that the driver does not let go of stay mapped, and counted.
        drop(mirror);
        session.mirrors.insert(address, gone);
        return Err(error.into());
    }
    *mirror = None;
    Ok(())
}

/// Gives back pages of ours whose mirror the caller holds and takes out.
///
/// # Errors
/// The driver does not let go of them: they are as they were.
fn unregister_and_unmap(session: &Session, address: u64, size: u64) -> Result<(), CUresult> {
    let pages = std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
    cuda!(session.driver, cuMemHostUnregister(pages))?;
    session.memory.forget_host(address);
    unmap(address, size);
    Ok(())
}

/// Unmaps pages of [`map_pages`] that neither a mirror nor a context of the driver knows.
fn unmap(address: u64, size: u64) {
    let pages = std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
    // SAFETY: mapped by `map_pages`, known to nobody any more by the callers' word.
    let _ = unsafe { munmap(pages, size as usize) };
}
