//! Memory and events that processes of one lease share.
//!
//! A handle names the session that has exported, the key that its worker has given, and the place in the mapping: small allocations share one. The worker
//! of who opens it gets the memory from the other worker, and maps it at addresses that are chosen here.
//!
//! A mapping is opened once and counted: for each allocation that was opened in it, as often as it was. Allocations of pools go the same way
//! ([`crate::pool`]); they are named by what the pool says of them, which is as long as a handle. Since one of them may be imported in another context than its
//! neighbour, their mapping is opened once in each context; and apart from handles of what lies in the same mapping, which may be open in one context only.
//!
//! # Safety
//! The functions named like the driver's write results through pointers that they have checked for null, by the API's contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use driver_api::abi::{CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle, CUresult};
use driver_api::wire::request::{GpurunIpcClose, GpurunIpcExport, GpurunIpcOpen};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::capture;
use crate::context::Context;
use crate::entry::code;
use crate::event;
use crate::memory::{Allocation, GRANULARITY, out};
use crate::session::{self, Session};
use crate::stream;

/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`, which has to be there.
const LAZY_ENABLE_PEER_ACCESS: c_uint = 1;

/// What our handles begin with, and what pools say of their allocations.
const MAGIC: [u8; 4] = *b"gpm1";
const MAGIC_OF_POOL: [u8; 4] = *b"gpp1";
const EVENT_MAGIC: [u8; 8] = *b"gpevent1";

/// What is in a handle.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Contents {
    magic: [u8; 4],
    /// Where the allocation begins in its mapping.
    offset: u32,
    lender: u64,
    key: [u64; 2],
    /// Bytes of the mapping, and of the allocation.
    mapped: u64,
    size: u64,
    /// The device; of an allocation of a pool, the pool's key.
    of: [u8; 16],
}

const _: () = assert!(size_of::<Contents>() == size_of::<CUipcMemHandle>());

impl Contents {
    /// Of the bytes of a handle, if it can be one of ours.
    fn of(bytes: &Bytes, magic: [u8; 4]) -> Result<Self, CUresult> {
        let contents = Self::read_from_bytes(&bytes[..]);
        let contents = contents.map_err(|_| CUresult::INVALID_HANDLE)?;
        let end = u64::from(contents.offset).checked_add(contents.size);
        let is_inside = end.is_some_and(|end| end <= contents.mapped) && contents.size > 0;
        let is_whole = contents.mapped.is_multiple_of(GRANULARITY);
        match contents.magic == magic && is_inside && is_whole {
            true => Ok(contents),
            false => Err(CUresult::INVALID_HANDLE),
        }
    }

    fn bytes(&self) -> Bytes {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.as_bytes());
        bytes
    }
}

/// What a handle is made of.
type Bytes = [u8; size_of::<Contents>()];

/// Another process's mapping that is open here.
#[derive(Debug)]
struct Opened {
    lender: u64,
    key: [u64; 2],
    context: u32,
    places: Places,
    device: usize,
    base: u64,
    mapped: u64,
    /// How often each allocation in it was opened, by its offset.
    uses: BTreeMap<u32, u32>,
}

impl Opened {
    fn is_of(&self, contents: &Contents) -> bool {
        self.lender == contents.lender && self.key == contents.key
    }
}

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    open: Mutex<Vec<Opened>>,
    /// Held by who opens, before `open`.
    opening: Mutex<()>,
}

impl Imports {
    fn lock(&self) -> MutexGuard<'_, Vec<Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A context has ended, and what was open in it.
    pub(crate) fn forget_context(&self, context: u32) {
        self.lock().retain(|opened| opened.context != context);
    }
}

/// What names an allocation of this session's, of a device or a pool.
fn export(
    session: &Session,
    allocation: &Allocation,
    magic: [u8; 4],
    of: [u8; 16],
) -> Result<Contents, CUresult> {
    let start = allocation.start;
    let reply = session.ask_in(allocation.context, &GpurunIpcExport::new(start), &[])?;
    let offset = start.checked_sub(reply.mapped());
    let offset = offset.and_then(|offset| u32::try_from(offset).ok());
    Ok(Contents {
        magic,
        offset: offset.ok_or(CUresult::UNKNOWN)?,
        lender: reply.lender(),
        key: [reply.key_low(), reply.key_high()],
        mapped: reply.size(),
        size: allocation.size,
        of,
    })
}

/// What names an allocation of a pool with a key, to processes that have imported the pool.
pub(crate) fn export_of_pool(
    session: &Session,
    allocation: &Allocation,
    pool: [u8; 16],
) -> Result<Bytes, CUresult> {
    Ok(export(session, allocation, MAGIC_OF_POOL, pool)?.bytes())
}

pub(crate) unsafe fn cuIpcGetMemHandle(handle: *mut CUipcMemHandle, dptr: CUdeviceptr) -> CUresult {
    code((|| {
        let place = out(handle)?;
        let (session, _) = session::current()?;
        capture::forbid_unsafe()?;
        let allocation = session.objects.memory.shareable(session, dptr)?;
        let context = session.objects.contexts.get(allocation.context);
        let context = context.ok_or(CUresult::INVALID_VALUE)?;
        let device = session.devices[context.device].identity().uuid;
        let reserved = export(session, &allocation, MAGIC, device)?.bytes();
        // SAFETY: checked by `out`.
        unsafe { place.write(CUipcMemHandle { reserved }) };
        Ok(())
    })())
}

/// Maps what a handle names, which is not open.
fn open(
    session: &Session,
    context: &Context,
    contents: &Contents,
    (device, places): (usize, Places),
) -> Result<Opened, CUresult> {
    let number = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
    let memory = &session.objects.memory;
    let base = memory.reserve(contents.mapped, GRANULARITY, 0);
    let base = base.ok_or(CUresult::MAP_FAILED)?;
    let [low, high] = contents.key;
    let request = GpurunIpcOpen::new(base, contents.mapped, number, contents.lender, low, high);
    if let Err(error) = session.ask_in(context.id, &request, &[]) {
        memory.unreserve(&(base..base + contents.mapped));
        return Err(error);
    }
    Ok(Opened {
        lender: contents.lender,
        key: contents.key,
        context: context.id,
        places,
        device,
        base,
        mapped: contents.mapped,
        uses: BTreeMap::new(),
    })
}

/// How often a mapping may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// In one context, as `cuIpcOpenMemHandle` has it.
    One,
    /// Once in each context: an allocation's own place, whose mapping is nothing that a program knows of.
    OneOfEachContext,
}

/// The address of what a handle names, opened once more.
fn open_once_more(
    session: &Session,
    context: &Context,
    contents: &Contents,
    (device, places): (usize, Places),
) -> Result<CUdeviceptr, CUresult> {
    // Held while the worker is asked: of two threads that open one handle the second finds it open. The imports themselves are free meanwhile.
    let opening = &session.objects.imports.opening;
    let _opening = opening.lock().unwrap_or_else(PoisonError::into_inner);
    let mut imports = session.objects.imports.lock();
    let is_it = |opened: &&Opened| opened.is_of(contents) && opened.places == places;
    let is_here = |opened: &Opened| is_it(&opened) && opened.context == context.id;
    let is_elsewhere = || imports.iter().any(|opened| is_it(&opened));
    let place = match imports.iter().position(is_here) {
        Some(place) => place,
        None if places == Places::One && is_elsewhere() => return Err(CUresult::INVALID_CONTEXT),
        None => {
            drop(imports);
            let opened = open(session, context, contents, (device, places))?;
            imports = session.objects.imports.lock();
            imports.push(opened);
            imports.len() - 1
        }
    };
    let opened = &mut imports[place];
    if contents.mapped != opened.mapped {
        return Err(CUresult::INVALID_HANDLE);
    }
    let address = opened.base + u64::from(contents.offset);
    let uses = opened.uses.entry(contents.offset).or_default();
    *uses += 1;
    if *uses == 1 {
        let memory = &session.objects.memory;
        memory.note_borrowed(address, contents.size, context.id, opened.device);
    }
    Ok(address)
}

/// An allocation of another process's pool, of a device: its address and size.
pub(crate) fn open_of_pool(
    session: &Session,
    context: &Context,
    data: &Bytes,
    (pool, device): ([u8; 16], usize),
) -> Result<(CUdeviceptr, u64), CUresult> {
    let contents = Contents::of(data, MAGIC_OF_POOL)?;
    if contents.of != pool {
        return Err(CUresult::INVALID_VALUE);
    }
    let address = open_once_more(
        session,
        context,
        &contents,
        (device, Places::OneOfEachContext),
    )?;
    Ok((address, contents.size))
}

fn device_of(session: &Session, contents: &Contents) -> Result<usize, CUresult> {
    let mut devices = session.devices.iter();
    let device = devices.position(|device| device.identity().uuid == contents.of);
    device.ok_or(CUresult::INVALID_DEVICE)
}

pub(crate) unsafe fn cuIpcOpenMemHandle_v2(
    pdptr: *mut CUdeviceptr,
    handle: CUipcMemHandle,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let place = out(pdptr)?;
        let (session, context) = session::current()?;
        if flags != LAZY_ENABLE_PEER_ACCESS {
            return Err(CUresult::INVALID_VALUE);
        }
        capture::forbid_unsafe()?;
        let contents = Contents::of(&handle.reserved, MAGIC)?;
        let device = device_of(session, &contents)?;
        let address = open_once_more(session, &context, &contents, (device, Places::One))?;
        // SAFETY: checked by `out`.
        unsafe { place.write(address) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuIpcOpenMemHandle(
    pdptr: *mut CUdeviceptr,
    handle: CUipcMemHandle,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuIpcOpenMemHandle_v2(pdptr, handle, flags) }
}

fn close(dptr: CUdeviceptr) -> Result<(), CUresult> {
    let (session, _) = session::current()?;
    capture::forbid_unsafe()?;
    if session.objects.stream_ordered.handle_at(dptr) != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let imports = &session.objects.imports;
    let context = {
        let mut imports = imports.lock();
        let (opened, offset) = opened_at(&mut imports, dptr)?;
        if give_up_one_of_several(opened, offset) {
            return Ok(());
        }
        session.objects.contexts.get(opened.context)
    };
    if let Some(context) = context {
        // What is under way may still use it. Another process may have to be told first what another thread opens, so nothing is held here.
        stream::synchronise_context(session, &context)?;
    }
    close_unused(session, dptr)
}

/// Closes what no stream uses any more.
pub(crate) fn close_unused(session: &Session, dptr: CUdeviceptr) -> Result<(), CUresult> {
    let memory = &session.objects.memory;
    let unused = {
        let mut imports = session.objects.imports.lock();
        // Another thread may have closed it, or opened it once more.
        let (opened, offset) = opened_at(&mut imports, dptr)?;
        if give_up_one_of_several(opened, offset) {
            return Ok(());
        }
        opened.uses.remove(&offset);
        memory.forget_borrowed(dptr);
        imports
            .extract_if(.., |opened| opened.uses.is_empty())
            .next()
    };
    if let Some(opened) = unused {
        let request = GpurunIpcClose::new(opened.base, opened.mapped);
        session.ask_in(opened.context, &request, &[])?;
        memory.unreserve(&(opened.base..opened.base + opened.mapped));
    }
    Ok(())
}

/// What is open at an address, and where in it that is.
fn opened_at(imports: &mut [Opened], address: CUdeviceptr) -> Result<(&mut Opened, u32), CUresult> {
    let offset_in = |opened: &Opened| {
        let offset = u32::try_from(address.checked_sub(opened.base)?).ok()?;
        opened.uses.contains_key(&offset).then_some(offset)
    };
    let mut found = imports.iter_mut().filter_map(|opened| {
        let offset = offset_in(opened)?;
        Some((opened, offset))
    });
    found.next().ok_or(CUresult::INVALID_VALUE)
}

/// Closes it once, if it has been opened more often.
fn give_up_one_of_several(opened: &mut Opened, offset: u32) -> bool {
    match opened.uses.get_mut(&offset).filter(|uses| **uses > 1) {
        Some(uses) => {
            *uses -= 1;
            true
        }
        None => false,
    }
}

pub(crate) unsafe fn cuIpcCloseMemHandle(dptr: CUdeviceptr) -> CUresult {
    code(close(dptr))
}

/// What is in an event's handle; the rest is zero.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct EventContents {
    magic: [u8; 8],
    lender: u64,
    key: [u64; 2],
    rest: [u64; 4],
}

const _: () = assert!(size_of::<EventContents>() == size_of::<CUipcEventHandle>());

pub(crate) unsafe fn cuIpcGetEventHandle(
    handle: *mut CUipcEventHandle,
    event: CUevent,
) -> CUresult {
    code((|| {
        let place = out(handle)?;
        let session = session::get()?;
        let event = event::of(event)?;
        if !event.is_shared() {
            // NVIDIA's driver leaves an empty handle, and there are programs that look at nothing else.
            // SAFETY: checked by `out`.
            unsafe { place.write(CUipcEventHandle { reserved: [0; 64] }) };
            return Err(CUresult::INVALID_HANDLE);
        }
        let (lender, key) = event.export(session)?;
        let contents = EventContents {
            magic: EVENT_MAGIC,
            lender,
            key,
            rest: [0; 4],
        };
        let mut reserved = [0; 64];
        reserved.copy_from_slice(contents.as_bytes());
        // SAFETY: checked by `out`.
        unsafe { place.write(CUipcEventHandle { reserved }) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuIpcOpenEventHandle(
    event: *mut CUevent,
    handle: CUipcEventHandle,
) -> CUresult {
    code((|| {
        let place = out(event)?;
        let (session, context) = session::current()?;
        let contents = EventContents::read_from_bytes(&handle.reserved[..]);
        let contents = contents.map_err(|_| CUresult::INVALID_HANDLE)?;
        if contents.magic != EVENT_MAGIC {
            return Err(CUresult::INVALID_HANDLE);
        }
        let opened = event::open(session, context.id, (contents.lender, contents.key))?;
        // SAFETY: checked by `out`.
        unsafe { place.write(opened) };
        Ok(())
    })())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_of_nobody_s_is_refused() {
        let sound = Contents {
            magic: MAGIC,
            offset: 512,
            lender: 3,
            key: [1, 2],
            mapped: GRANULARITY,
            size: 4096,
            of: [9; 16],
        };
        let back = Contents::of(&sound.bytes(), MAGIC).expect("ours");
        assert_eq!((back.lender, back.key, back.offset), (3, [1, 2], 512));
        assert!(Contents::of(&sound.bytes(), MAGIC_OF_POOL).is_err());
        let wrong = [
            [0; 64],
            Contents {
                size: GRANULARITY,
                ..sound
            }
            .bytes(),
            Contents { size: 0, ..sound }.bytes(),
            Contents {
                size: u64::MAX,
                ..sound
            }
            .bytes(),
            Contents {
                mapped: GRANULARITY + 1,
                ..sound
            }
            .bytes(),
        ];
        for handle in wrong {
            assert!(Contents::of(&handle, MAGIC).is_err());
        }
    }
}
