//! Memory and events that processes of one user share.
//!
//! ```text
//!  exporter: cuIpcGetMemHandle ── the handle, by any way ──▶ importer: cuIpcOpenMemHandle
//!     a thread at an abstract socket ◀── "the file of device n" ──┘
//!        └────────── the descriptor of the device's file ────────▶ maps the piece
//! ```
//!
//! The memory of a device is a file, so what goes from one process to the other is its descriptor; the handle says where in it. The socket is named by random
//! bytes of the handle, and asks the kernel for the user of who comes.
//!
//! Memory that is opened is charged to who made it, and to nobody once that has freed it or ended: what is in it then is undefined.
//!
//! # Safety
//!
//! The driver's functions write answers through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_uint;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use driver_api::abi::{CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle, CUresult};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use crate::context::{Context, current, unique_id};
use crate::entry::{answer, done};
use crate::event::Shared;
use crate::memory::Region;
use crate::memory::map::{GRANULARITY, Mapping, Place};
use crate::memory::quiesce;
use crate::memory::space::Kind;
use crate::state::{Driver, driver};
use crate::threads::{lock, spawn};

/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`, which has to be there.
const LAZY_ENABLE_PEER_ACCESS: c_uint = 1;

/// Who does not answer for so long is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who has connected and does not ask for so long is left. Others wait for their turn meanwhile, so it is less than they have patience.
const PATIENCE_TO_ANSWER: Duration = Duration::from_secs(1);

/// What the names of our sockets begin with.
const SOCKET_PREFIX: &[u8] = b"gpurun-soft-ipc-";

/// What names a process's socket.
pub(crate) type Token = [u8; 16];

/// What is asked: of what kind something is, and its number.
type Question = [u8; 16];
const MEMORY: &[u8] = b"memory  ";
const EVENT: &[u8] = b"event   ";

/// What is in a handle: words, after the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contents {
    token: Token,
    /// The device's number, on the machine.
    device: u64,
    /// The piece in the device's file, and the allocation in the piece.
    offset: u64,
    piece: u64,
    start: u64,
    size: u64,
    /// The number of the pool that it is of, in the process that has made it; 0 for none.
    pool: u64,
}

/// What a handle is made of, and what is said of an allocation of a pool.
pub(crate) type Bytes = [u8; 64];

impl Contents {
    fn bytes(&self) -> Bytes {
        let words = [
            self.device,
            self.offset,
            self.piece,
            self.start,
            self.size,
            self.pool,
        ];
        let words = words.map(u64::to_le_bytes);
        let mut bytes = [0; 64];
        bytes[..16].copy_from_slice(&self.token);
        bytes[16..].copy_from_slice(words.as_flattened());
        bytes
    }

    fn of(bytes: &Bytes) -> Result<Self, CUresult> {
        let (words, _) = bytes[16..].as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        let mut token = Token::default();
        token.copy_from_slice(&bytes[..16]);
        let contents = Self {
            token,
            device: word(0),
            offset: word(1),
            piece: word(2),
            start: word(3),
            size: word(4),
            pool: word(5),
        };
        let end = contents.start.checked_add(contents.size);
        let is_inside = end.is_some_and(|end| end <= contents.piece) && contents.size > 0;
        let is_whole = (contents.offset | contents.piece).is_multiple_of(GRANULARITY);
        match is_inside && is_whole && contents.piece <= 1 << 46 {
            true => Ok(contents),
            false => Err(CUresult::INVALID_HANDLE),
        }
    }
}

/// An allocation of another process that is open.
#[derive(Debug)]
struct Opened {
    contents: Contents,
    context: usize,
    address: CUdeviceptr,
    /// The name of the allocation here.
    id: u64,
    count: u64,
}

/// What this process shares.
#[derive(Debug, Default)]
pub(crate) struct Ipc {
    token: OnceLock<Token>,
    /// Held for moments only.
    opened: Mutex<Vec<Opened>>,
    /// Held by who opens, before `opened`, also while the other process is asked.
    opening: Mutex<()>,
}

impl Ipc {
    /// The name of this process's socket, at which it answers from now on.
    pub(crate) fn token(&self) -> Result<Token, CUresult> {
        static BEGINNING: Mutex<()> = Mutex::new(());
        let _beginning = lock(&BEGINNING);
        if let Some(token) = self.token.get() {
            return Ok(*token);
        }
        let token = listen().map_err(|_| CUresult::OPERATING_SYSTEM)?;
        Ok(*self.token.get_or_init(|| token))
    }

    /// Where something is open already, opened once more; only the same context may.
    fn open_again(
        &self,
        contents: &Contents,
        context: usize,
    ) -> Option<Result<CUdeviceptr, CUresult>> {
        let mut opened = lock(&self.opened);
        let known = opened
            .iter_mut()
            .find(|known| known.contents == *contents)?;
        if known.context != context {
            return Some(Err(CUresult::INVALID_CONTEXT));
        }
        known.count += 1;
        Some(Ok(known.address))
    }

    /// Closes once what is open at an address: what is open no longer.
    fn close_once(&self, address: CUdeviceptr) -> Result<Option<Opened>, CUresult> {
        let mut opened = lock(&self.opened);
        let place = opened.iter().position(|known| known.address == address);
        let place = place.ok_or(CUresult::INVALID_VALUE)?;
        opened[place].count -= 1;
        Ok((opened[place].count == 0).then(|| opened.swap_remove(place)))
    }
}

/// The abstract address that a token names.
pub(crate) fn named(prefix: &[u8], token: &Token) -> io::Result<SocketAddrUnix> {
    let letters = token.map(|byte| format!("{byte:02x}")).concat();
    let name = [prefix, letters.as_bytes()].concat();
    Ok(SocketAddrUnix::new_abstract_name(&name)?)
}

fn address_of(token: &Token) -> io::Result<SocketAddrUnix> {
    named(SOCKET_PREFIX, token)
}

/// Random bytes, which nobody guesses.
pub(crate) fn new_token() -> io::Result<Token> {
    let mut token = Token::default();
    rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
    Ok(token)
}

/// A socket of packets.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    Ok(socket)
}

/// Starts to answer, at a socket of a random name.
fn listen() -> io::Result<Token> {
    let token = new_token()?;
    let listener = socket()?;
    rustix::net::bind(&listener, &address_of(&token)?)?;
    rustix::net::listen(&listener, 64)?;
    spawn("soft-gpu ipc", move || {
        loop {
            match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                // Who asks for what there is not, or goes, gets nothing.
                Ok(connection) => drop(serve(&connection)),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(token)
}

/// Neither to send nor to receive takes longer.
pub(crate) fn limit_waiting(connection: &OwnedFd, time: Duration) -> io::Result<()> {
    for way in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(connection, way, Some(time))?;
    }
    Ok(())
}

/// Answers one question: the descriptor of a device's file, by its number, or of an event's page, by its handle.
fn serve(connection: &OwnedFd) -> io::Result<()> {
    limit_waiting(connection, PATIENCE_TO_ANSWER)?;
    let who = sockopt::socket_peercred(connection)?;
    if who.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut question = Question::default();
    let (length, _) = rustix::net::recv(connection, &mut question, RecvFlags::empty())?;
    let (of, number) = question.split_at(8);
    let number = number.try_into().map_or(0, u64::from_le_bytes);
    let driver = driver().ok().filter(|_| length == question.len());
    let file = driver.and_then(|driver| match of {
        MEMORY => driver.memory.file_of(place_of_device(driver, number)?),
        EVENT => driver
            .events
            .get(number as usize)
            .ok()?
            .shared
            .as_ref()?
            .file(),
        _ => None,
    });
    let file = file.ok_or(io::ErrorKind::NotFound)?;
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let sent = rustix::net::sendmsg(
        connection,
        &[IoSlice::new(&question)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    );
    Ok(sent.map(drop)?)
}

/// Asks another process for something of a kind: its descriptor.
fn ask(token: &Token, of: &[u8], number: u64) -> io::Result<OwnedFd> {
    let connection = socket()?;
    limit_waiting(&connection, PATIENCE)?;
    let address = address_of(token)?;
    // With a time limit the system begins none of these again after a signal, whatever its handler says.
    retry_on_intr(|| rustix::net::connect(&connection, &address))?;
    let mut question = Question::default();
    question[..8].copy_from_slice(of);
    question[8..].copy_from_slice(&number.to_le_bytes());
    retry_on_intr(|| rustix::net::send(&connection, &question, SendFlags::NOSIGNAL))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = Question::default();
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    retry_on_intr(|| rustix::net::recvmsg(&connection, &mut parts, &mut ancillary, flags))?;
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.flatten().next();
    file.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// At which place this process sees a device of the machine.
pub(crate) fn place_of_device(driver: &Driver, number: u64) -> Option<usize> {
    (0..driver.config.devices()).find(|place| crate::device::number(*place) as u64 == number)
}

fn export(dptr: CUdeviceptr) -> Result<CUipcMemHandle, CUresult> {
    let (driver, _) = (driver()?, current()?);
    crate::capture::guard()?;
    let found = driver.memory.place_of(dptr);
    let (region, place) = found.ok_or(CUresult::INVALID_VALUE)?;
    if crate::pool::owns(driver, region.id) {
        return Err(CUresult::INVALID_VALUE);
    }
    let reserved = contents(driver, &region, place, 0)?.bytes();
    Ok(CUipcMemHandle { reserved })
}

fn contents(
    driver: &Driver,
    region: &Region,
    place: Place,
    pool: u64,
) -> Result<Contents, CUresult> {
    Ok(Contents {
        token: driver.ipc.token()?,
        device: crate::device::number(region.device) as u64,
        offset: place.offset,
        piece: place.size,
        start: region.base - place.base,
        size: region.size,
        pool,
    })
}

/// What says to other processes which allocation of a pool this is.
pub(crate) fn export_of_pool(
    driver: &Driver,
    region: &Region,
    place: Place,
    pool: usize,
) -> Result<Bytes, CUresult> {
    Ok(contents(driver, region, place, pool as u64)?.bytes())
}

/// Maps an allocation of another process's pool: `theirs` names that, `ours` is the pool here. Its name.
pub(crate) fn import_of_pool(
    driver: &Driver,
    bytes: &Bytes,
    theirs: (Token, u64),
    ours: usize,
) -> Result<Region, CUresult> {
    let contents = Contents::of(bytes)?;
    if (contents.token, contents.pool) != theirs {
        return Err(CUresult::INVALID_VALUE);
    }
    let context = current()?;
    let region = map(driver, &context, &contents, ours)?;
    // It may have ended while the other process was asked, and nobody would close this then.
    if context.fate.is_aborted() {
        free(driver, region.base, region.id);
        return Err(CUresult::CONTEXT_IS_DESTROYED);
    }
    Ok(region)
}

pub(crate) unsafe fn cuIpcGetMemHandle(handle: *mut CUipcMemHandle, dptr: CUdeviceptr) -> CUresult {
    if handle.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle, export(dptr)) }
}

/// Maps an allocation of another process.
fn map(
    driver: &Driver,
    context: &Context,
    contents: &Contents,
    pool: usize,
) -> Result<Region, CUresult> {
    let device = place_of_device(driver, contents.device).ok_or(CUresult::INVALID_DEVICE)?;
    let asked = ask(&contents.token, MEMORY, contents.device);
    let file = asked.map_err(|_| CUresult::INVALID_HANDLE)?;
    let length = rustix::fs::fstat(&file).map_err(|_| CUresult::MAP_FAILED)?;
    let end = contents.offset.checked_add(contents.piece);
    if end.is_none_or(|end| end > length.st_size as u64) {
        return Err(CUresult::INVALID_HANDLE);
    }
    let failed = |_| CUresult::MAP_FAILED;
    let mapping = Mapping::reserve(contents.piece, GRANULARITY).map_err(failed)?;
    let base = mapping.base();
    mapping
        .place((base, contents.piece), &file, contents.offset)
        .map_err(failed)?;
    let address = base + contents.start;
    let region = Region {
        base: address,
        size: contents.size,
        kind: Kind::Borrowed {
            mapping: Arc::new(mapping),
            opener: context.device,
        },
        context: context.handle,
        device,
        pool,
        id: unique_id(),
    };
    match driver.memory.space_mut().insert(region.clone()) {
        true => Ok(region),
        false => Err(CUresult::MAP_FAILED),
    }
}

fn open(handle: &CUipcMemHandle, flags: c_uint) -> Result<CUdeviceptr, CUresult> {
    let (driver, context) = (driver()?, current()?);
    if flags != LAZY_ENABLE_PEER_ACCESS {
        return Err(CUresult::INVALID_VALUE);
    }
    crate::capture::guard()?;
    let contents = Contents::of(&handle.reserved)?;
    if contents.pool != 0 {
        return Err(CUresult::INVALID_HANDLE);
    }
    if driver.ipc.token.get() == Some(&contents.token) {
        return Err(CUresult::INVALID_CONTEXT);
    }
    let _opening = lock(&driver.ipc.opening);
    if let Some(known) = driver.ipc.open_again(&contents, context.handle) {
        return known;
    }
    let region = map(driver, &context, &contents, 0)?;
    let mut opened = lock(&driver.ipc.opened);
    // It may have ended while the other process was asked, and nobody would close this then.
    if driver.contexts.get(context.handle).is_err() {
        drop(opened);
        free(driver, region.base, region.id);
        return Err(CUresult::CONTEXT_IS_DESTROYED);
    }
    opened.push(Opened {
        contents,
        context: context.handle,
        address: region.base,
        id: region.id,
        count: 1,
    });
    Ok(region.base)
}

/// Unmaps what was opened, unless its context has ended and taken it along.
fn free(driver: &Driver, address: CUdeviceptr, id: u64) {
    if let Some(region) = driver.memory.take(address, id) {
        driver.memory.release(driver, region);
    }
}

pub(crate) unsafe fn cuIpcOpenMemHandle_v2(
    pdptr: *mut CUdeviceptr,
    handle: CUipcMemHandle,
    flags: c_uint,
) -> CUresult {
    if pdptr.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(pdptr, open(&handle, flags)) }
}

pub(crate) unsafe fn cuIpcOpenMemHandle(
    pdptr: *mut CUdeviceptr,
    handle: CUipcMemHandle,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same function.
    unsafe { cuIpcOpenMemHandle_v2(pdptr, handle, flags) }
}

pub(crate) unsafe fn cuIpcCloseMemHandle(dptr: CUdeviceptr) -> CUresult {
    let close = || {
        let (driver, _) = (driver()?, current()?);
        crate::capture::guard()?;
        if let Some(closed) = driver.ipc.close_once(dptr)? {
            quiesce(driver);
            free(driver, closed.address, closed.id);
        }
        Ok(())
    };
    done(close())
}

pub(crate) unsafe fn cuIpcGetEventHandle(
    handle: *mut CUipcEventHandle,
    event: CUevent,
) -> CUresult {
    let export = || {
        let driver = driver()?;
        let known = driver.events.get(event.0)?;
        // What another process has given out is not ours to give.
        if known
            .shared
            .as_ref()
            .and_then(|shared| shared.file())
            .is_none()
        {
            // NVIDIA's driver leaves an empty handle, and there are programs that look at nothing else.
            // SAFETY: the caller passes a place for a handle, which is not null.
            unsafe { handle.write(CUipcEventHandle { reserved: [0; 64] }) };
            return Err(CUresult::INVALID_HANDLE);
        }
        let mut reserved = [0; 64];
        reserved[..16].copy_from_slice(&driver.ipc.token()?);
        reserved[16..24].copy_from_slice(EVENT);
        reserved[24..32].copy_from_slice(&(event.0 as u64).to_le_bytes());
        Ok(CUipcEventHandle { reserved })
    };
    if handle.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle, export()) }
}

pub(crate) unsafe fn cuIpcOpenEventHandle(
    event: *mut CUevent,
    handle: CUipcEventHandle,
) -> CUresult {
    let open = || {
        let (driver, context) = (driver()?, current()?);
        let (token, rest) = handle.reserved.split_at(16);
        let token = Token::try_from(token).map_err(|_| CUresult::INVALID_HANDLE)?;
        let number = rest[8..16].try_into().map_or(0, u64::from_le_bytes);
        if !rest.starts_with(EVENT) {
            return Err(CUresult::INVALID_HANDLE);
        }
        if driver.ipc.token.get() == Some(&token) {
            return Err(CUresult::INVALID_CONTEXT);
        }
        let file = ask(&token, EVENT, number).map_err(|_| CUresult::INVALID_HANDLE)?;
        let shared = Shared::borrowed(&driver.segment, file)?;
        Ok(crate::event::borrowed(driver, &context, shared))
    };
    if event.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(event, open()) }
}

/// A context has ended, and its memory is gone.
pub(crate) fn context_destroyed(driver: &Driver, context: usize) {
    lock(&driver.ipc.opened).retain(|known| known.context != context);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_what_was_put_into_it_and_nothing_that_cannot_be() {
        let sound = Contents {
            token: [7; 16],
            device: 3,
            offset: 2 * GRANULARITY,
            piece: GRANULARITY,
            start: 512,
            size: 4096,
            pool: 0,
        };
        assert_eq!(Contents::of(&sound.bytes()), Ok(sound));
        let wrong = [
            Contents { size: 0, ..sound },
            Contents {
                size: GRANULARITY,
                ..sound
            },
            Contents {
                start: u64::MAX,
                ..sound
            },
            Contents { offset: 1, ..sound },
            Contents {
                piece: 1 << 60,
                start: 0,
                ..sound
            },
        ];
        for contents in wrong {
            assert_eq!(
                Contents::of(&contents.bytes()),
                Err(CUresult::INVALID_HANDLE)
            );
        }
    }
}
