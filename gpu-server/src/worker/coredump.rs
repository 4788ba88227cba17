//! Core dumps of the driver's, for the program's machine: the rows of the `coredump` area.
//!
//! *What:* the driver is told to dump a context's exceptions into a file in memory, which has no name and no directory: nobody else can open it, and it is gone with the worker. The client
//! reads it in pieces. *Rules:* the driver is never left to end this process, and what it says of that is looked at before it dumps anything; a session's dumps together
//! take no more memory than the operator allows: who looks after them seals one that grows beyond, and the driver's next write to it fails. A session that has no dumps has nothing of this.
//!
//! # Safety
//! Attributes are passed with places of their types and sizes; contexts come from the session's table.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use core::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driver_api::Driver;
use driver_api::abi::CUstream;
use driver_api::coredump::{HEADER_BYTES, flags, is_complete, state};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use protocol::limits::MAX_REPLY_BYTES;
use rustix::fs::{MemfdFlags, SealFlags};

use super::call::{Call, CallError};
use super::context::Context;
use super::end::lock;
use super::session::Session;
use crate::driver::cuda;

/// Most bytes of a session's dumps, if nothing else is said.
pub const DEFAULT_BYTES: u64 = 1 << 30;

/// How long an answer of how a dump stands waits for it.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often a dump is looked at meanwhile. One that has not grown for so long is not being written.
const LOOK: Duration = Duration::from_millis(5);

/// How often all are looked at.
const GUARD: Duration = Duration::from_millis(50);

/// `CU_COREDUMP_…`: the attributes that are set.
const ENABLE_ON_EXCEPTION: u32 = 1;
const TRIGGER_HOST: u32 = 2;
const LIGHTWEIGHT: u32 = 3;
const FILE: u32 = 5;
const GENERATION_FLAGS: u32 = 7;

/// The first version whose drivers have flags.
const FLAGS_SINCE: i32 = 12050;

/// What a driver must not do with the dump: end this process, or write another file than was named.
const NOT_HERE: u32 = flags::GZIP_COMPRESS | flags::LOG_ONLY;

/// The dumps of a session.
#[derive(Debug, Default)]
pub(crate) struct Coredumps {
    is_any: AtomicBool,
}

impl Coredumps {
    /// How often they are to be looked after, where that would be rarely otherwise.
    pub(crate) fn interval(&self, otherwise: Duration) -> Duration {
        match self.is_any.load(Relaxed) {
            true => GUARD.min(otherwise),
            false => otherwise,
        }
    }
}

/// Where a context's dump goes.
#[derive(Debug)]
pub(crate) struct Dump {
    file: File,
    is_too_large: AtomicBool,
    /// Its size, and since when.
    seen: Mutex<(u64, Instant)>,
    /// The client knows of the fault.
    is_told: AtomicBool,
}

impl Dump {
    fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("gpurun-coredump", flags)?;
        Ok(Self {
            file: File::from(file),
            is_too_large: AtomicBool::new(false),
            seen: Mutex::new((0, Instant::now())),
            is_told: AtomicBool::new(false),
        })
    }

    /// The name by which this process opens it.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    fn size(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len())
    }

    /// Gives it up: what the driver still wants to write fails.
    fn give_up(&self) {
        self.is_too_large.store(true, SeqCst);
        if let Err(error) = rustix::fs::fcntl_add_seals(&self.file, SealFlags::GROW) {
            tracing::warn!("a core dump cannot be sealed: {error}");
        }
        // It is the memory that matters: what was written is of no use any more.
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!("a core dump cannot be emptied: {error}");
        }
    }

    /// How it stands, and its size.
    fn stand(&self) -> (u32, u64) {
        if self.is_too_large.load(SeqCst) {
            return (state::TOO_LARGE, 0);
        }
        let size = self.size();
        let mut seen = lock(&self.seen);
        if seen.0 != size {
            *seen = (size, Instant::now());
        }
        let is_still = seen.1.elapsed() >= LOOK;
        drop(seen);
        let mut header = [0; HEADER_BYTES];
        let is_whole =
            self.file.read_exact_at(&mut header, 0).is_ok() && is_complete(&header, size);
        let state = match size {
            0 => state::NONE,
            _ if is_whole && is_still => state::COMPLETE,
            _ => state::GROWING,
        };
        (state, size)
    }
}

/// Sets an attribute of the current context.
fn set<T>(driver: &Driver, attribute: u32, value: &mut T) -> Result<(), CUresult> {
    let mut size = size_of_val(value);
    let value: *mut c_void = std::ptr::from_mut(value).cast();
    cuda!(driver, cuCoredumpSetAttribute(attribute, value, &mut size))
}

/// What a boolean attribute of the current context is.
fn is_set(driver: &Driver, attribute: u32) -> Result<bool, CUresult> {
    let (mut value, mut size) = (0_u8, 1);
    let place: *mut c_void = (&raw mut value).cast();
    cuda!(driver, cuCoredumpGetAttribute(attribute, place, &mut size))?;
    Ok(value != 0)
}

/// Tells the driver to dump the current context's exceptions to a path, and to let this process live.
fn enable(driver: &Driver, path: &str, wanted: u32) -> Result<(), CUresult> {
    let mut version = 0;
    cuda!(driver, cuDriverGetVersion(&mut version))?;
    if version >= FLAGS_SINCE {
        let mut all = wanted & !NOT_HERE | flags::SKIP_ABORT;
        set(driver, GENERATION_FLAGS, &mut all)?;
    } else {
        set(driver, TRIGGER_HOST, &mut false)?;
        let mut is_light = wanted & flags::LIGHTWEIGHT == flags::LIGHTWEIGHT;
        set(driver, LIGHTWEIGHT, &mut is_light)?;
    }
    if is_set(driver, TRIGGER_HOST)? {
        tracing::warn!("the driver would end the worker behind a core dump: there are none");
        return Err(CUresult::NOT_SUPPORTED);
    }
    let mut name = path.as_bytes().to_vec();
    name.push(0);
    let mut size = name.len();
    let place: *mut c_void = name.as_mut_ptr().cast();
    cuda!(driver, cuCoredumpSetAttribute(FILE, place, &mut size))?;
    set(driver, ENABLE_ON_EXCEPTION, &mut true)?;
    match is_set(driver, ENABLE_ON_EXCEPTION)? {
        true => Ok(()),
        false => {
            tracing::warn!(
                "the driver does not say that it dumps exceptions, although it was told to"
            );
            Err(CUresult::NOT_SUPPORTED)
        }
    }
}

/// Exceptions of the current context are dumped, or no longer.
pub(crate) fn gpurunCoredumpSet(
    call: &mut Call<'_>,
    request: &request::GpurunCoredumpSet,
) -> Result<(), CallError> {
    let context = Arc::clone(call.context()?);
    let (driver, wanted) = (call.driver(), request.flags());
    if wanted & !flags::ALL != 0 {
        return Err(CUresult::INVALID_VALUE.into());
    }
    if driver.cuCoredumpSetAttribute.is_none() || driver.cuCoredumpGetAttribute.is_none() {
        return Err(CUresult::NOT_SUPPORTED.into());
    }
    if request.enabled() == 0 {
        return Ok(set(driver, ENABLE_ON_EXCEPTION, &mut false)?);
    }
    if call.session.devices.coredump_bytes == 0 {
        return Err(CUresult::NOT_PERMITTED.into());
    }
    let made = match context.coredump.get() {
        Some(dump) => dump,
        None => {
            let dump = Dump::new().map_err(|error| {
                tracing::warn!("no file for core dumps: {error}");
                CUresult::OPERATING_SYSTEM
            })?;
            context.coredump.get_or_init(|| dump)
        }
    };
    enable(driver, &made.path(), wanted)?;
    call.session.coredumps.is_any.store(true, SeqCst);
    tracing::info!(
        context = context.id,
        flags = wanted,
        "exceptions are dumped"
    );
    Ok(())
}

/// The context, which is current, is about to end; whoever else holds the driver's must not write to a descriptor that is another's by then.
pub(crate) fn end(driver: &Driver, context: &Context) {
    if context.coredump.get().is_some()
        && let Err(error) = set(driver, ENABLE_ON_EXCEPTION, &mut false)
        && !error.is_sticky()
    {
        tracing::warn!("core dumps of a context that ends cannot be disabled: {error}");
    }
}

fn context_of(call: &Call<'_>, id: u32) -> Result<Arc<Context>, CUresult> {
    let context = call.session.contexts.get(id);
    context.ok_or(CUresult::INVALID_CONTEXT)
}

/// How a context's dump stands.
pub(crate) fn gpurunCoredumpStand(
    call: &mut Call<'_>,
    request: &request::GpurunCoredumpStand,
) -> Result<(), CallError> {
    let context = context_of(call, request.context())?;
    let dump = context.coredump.get();
    let end = Instant::now() + PATIENCE;
    let stands = loop {
        bound(call.session);
        match dump.map_or((state::NONE, 0), Dump::stand) {
            (state::NONE | state::GROWING, _) if dump.is_some() && Instant::now() < end => {
                std::thread::sleep(LOOK);
            }
            stands => break stands,
        }
    };
    call.reply(&reply::GpurunCoredumpStand::new(stands.0, stands.1));
    Ok(())
}

/// A piece of a context's dump.
pub(crate) fn gpurunCoredumpRead(
    call: &mut Call<'_>,
    request: &request::GpurunCoredumpRead,
) -> Result<(), CallError> {
    if request.length() as usize > MAX_REPLY_BYTES / 2 {
        return Err(CallError::Violation(
            "more of a core dump than a reply holds",
        ));
    }
    let context = context_of(call, request.context())?;
    let dump = context.coredump.get().ok_or(CUresult::NOT_FOUND)?;
    let size = dump.size();
    let left = size.saturating_sub(request.offset());
    let count = u64::from(request.length()).min(left) as usize;
    let mut bytes = vec![0; count];
    let read = dump.file.read_exact_at(&mut bytes, request.offset());
    read.map_err(|error| {
        tracing::warn!("a core dump cannot be read: {error}");
        CUresult::OPERATING_SYSTEM
    })?;
    if count == 0 && size > 0 {
        tracing::info!(context = context.id, size, "a core dump was sent");
        dump.file.set_len(0).map_err(|error| {
            tracing::warn!("a core dump cannot be emptied: {error}");
            CUresult::OPERATING_SYSTEM
        })?;
    }
    let end = bytes.iter().rposition(|byte| *byte != 0);
    call.reply(&reply::GpurunCoredumpRead::new(count as u32));
    call.reply_bytes(&bytes[..end.map_or(0, |last| last + 1)]);
    Ok(())
}

/// The contexts of a session that have a place for a dump.
fn with_dumps(session: &Session) -> Vec<Arc<Context>> {
    let mut contexts = session.contexts.all();
    contexts.retain(|context| context.coredump.get().is_some());
    contexts
}

/// Gives up the dumps that are more than a session may have.
fn bound(session: &Session) {
    let mut left = session.devices.coredump_bytes;
    for context in with_dumps(session) {
        let Some(dump) = context.coredump.get() else {
            continue;
        };
        let size = dump.size();
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => {
                let most = session.devices.coredump_bytes;
                tracing::warn!(context = context.id, size, most, "a core dump is too large");
                dump.give_up();
            }
        }
    }
}

/// Looks after the dumps of a session: gives up what is too large, and tells the client of a fault that nobody has asked for.
pub(crate) fn look_after(session: &Session) {
    if !session.coredumps.is_any.load(Relaxed) {
        return;
    }
    bound(session);
    for context in with_dumps(session) {
        let is_over = |dump: &Dump| {
            matches!(dump.stand().0, state::COMPLETE | state::TOO_LARGE)
                && !dump.is_told.swap(true, SeqCst)
        };
        if context.coredump.get().is_some_and(is_over) {
            tell(session, &context);
        }
    }
}

/// Asks the driver for a context's fault, and tells the client of it.
fn tell(session: &Session, context: &Arc<Context>) {
    if context.make_current(session.driver).is_ok() {
        let asked = cuda!(session.driver, cuStreamQuery(CUstream(0)));
        if let Err(error) = asked
            && error.is_sticky()
        {
            session.fault(context, error, "a kernel");
        }
        // This thread serves all contexts, and none of them by accident.
        let _ = cuda!(
            session.driver,
            cuCtxSetCurrent(driver_api::abi::CUcontext(0))
        );
    }
}
