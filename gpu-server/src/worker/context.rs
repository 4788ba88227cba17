//! Contexts, what belongs to each, and the rows of the `context` area.
//!
//! *What:* a [`Context`] is the driver's context with its streams, its pinned memory and how its streams tell their progress.
//! *Rules:* no context stays current on a thread by accident: each executor makes the one of its call current; what is
//! destroyed with a context leaves the tables with it, and what was pending in it is answered.
//!
//! # Safety
//! Context and event handles come from the driver through this module, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod peer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::{Duration, Instant};

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUdevice, CUevent, CUexecAffinityParam, CUstream};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};

use super::array;
use super::call::{Call, CallError};
use super::coredump::{self, Dump};
use super::end::lock;
use super::graph;
use super::green;
use super::linker;
use super::pace::Pacer;
use super::session::Session;
use super::staging::{Slots, Staging};
use super::stream::{LEGACY_STREAMS, Stream};
use crate::driver::cuda;

pub(crate) use peer::*;

/// How long the end of a context waits for what its streams have reached to be told.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// How a context's streams tell how far they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marking {
    /// They write 64 bits.
    Write64,
    /// They write 32 bits.
    Write32,
    /// They write 64 bits, by the function that drivers before 11.7 have.
    Write64Old,
    /// They write 32 bits, by the function that drivers before 11.7 have.
    Write32Old,
    /// They record events.
    Events,
}

impl Marking {
    /// The best that the driver and the device can do.
    fn of(driver: &Driver, device: CUdevice) -> Self {
        const CAN_WRITE_OLD: u32 = 92;
        const CAN_WRITE_64_OLD: u32 = 93;
        const CAN_WRITE_64: u32 = 122;
        let has = |number| attribute(driver, device, number) == Some(1);
        if driver.cuMemHostGetDevicePointer_v2.is_none() {
            Self::Events
        } else if driver.cuStreamWriteValue64_v2.is_some() && has(CAN_WRITE_64) {
            Self::Write64
        } else if driver.cuStreamWriteValue32_v2.is_some() {
            Self::Write32
        } else if driver.cuStreamWriteValue64.is_some() && has(CAN_WRITE_64_OLD) {
            Self::Write64Old
        } else if driver.cuStreamWriteValue32.is_some() && has(CAN_WRITE_OLD) {
            Self::Write32Old
        } else {
            Self::Events
        }
    }
}

/// A device's attribute, if the driver knows it.
pub(crate) fn attribute(driver: &Driver, device: CUdevice, number: u32) -> Option<i32> {
    let mut value = 0;
    cuda!(driver, cuDeviceGetAttribute(&mut value, number, device))
        .ok()
        .map(|()| value)
}

/// A driver's context and what belongs to it.
pub(crate) struct Context {
    /// The client's id.
    pub(crate) id: u32,
    /// Never given to two contexts, as ids and handles may be.
    pub(crate) serial: u64,
    handle: CUcontext,
    pub(crate) device: CUdevice,
    is_primary: bool,
    pub(crate) marking: Marking,
    /// Whom its work waits for, if its device has a gate.
    pub(crate) pacer: Option<Arc<Pacer>>,
    pub(crate) slots: Slots,
    pub(crate) staging: Arc<Staging>,
    events: Mutex<Vec<CUevent>>,
    legacy: OnceLock<Arc<Stream>>,
    /// A stream that nothing is ever put into.
    idle: Mutex<Option<CUstream>>,
    /// A stream in which fresh memory is wiped.
    wiping: Mutex<Option<CUstream>>,
    /// A stream for copies while their own is held.
    aside: Mutex<Option<CUstream>>,
    streams: Mutex<Vec<Arc<Stream>>>,
    is_alive: AtomicBool,
    /// Code that may print was loaded into it.
    pub(crate) prints: AtomicBool,
    fault_told: Once,
    /// Where its exceptions are dumped, if they ever were to be.
    pub(crate) coredump: OnceLock<Dump>,
}

static SERIALS: AtomicU64 = AtomicU64::new(1);

impl Context {
    fn new(
        session: &Session,
        id: u32,
        handle: CUcontext,
        device: CUdevice,
        is_primary: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            handle,
            device,
            is_primary,
            marking: Marking::of(session.driver, device),
            pacer: session.devices.pacer(device),
            slots: Slots::default(),
            staging: Staging::new(Arc::clone(&session.end)),
            events: Mutex::default(),
            legacy: OnceLock::new(),
            idle: Mutex::default(),
            wiping: Mutex::default(),
            aside: Mutex::default(),
            streams: Mutex::default(),
            is_alive: AtomicBool::new(true),
            prints: AtomicBool::new(false),
            fault_told: Once::new(),
            coredump: OnceLock::new(),
        })
    }

    pub(crate) fn handle(&self) -> CUcontext {
        self.handle
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.is_primary
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Acquire)
    }

    /// Makes it the calling thread's current one.
    pub(crate) fn make_current(&self, driver: &Driver) -> Result<(), CUresult> {
        if !self.is_alive() {
            return Err(CUresult::CONTEXT_IS_DESTROYED);
        }
        cuda!(driver, cuCtxSetCurrent(self.handle))
    }

    /// The legacy default stream; the context is current.
    pub(crate) fn legacy(self: &Arc<Self>, driver: &Driver) -> Result<Arc<Stream>, CUresult> {
        if let Some(stream) = self.legacy.get() {
            return Ok(Arc::clone(stream));
        }
        let stream = Stream::new(driver, self, LEGACY_STREAMS + self.id, CUstream(0))?;
        let stream = self.legacy.get_or_init(|| stream);
        Ok(Arc::clone(stream))
    }

    /// A stream that nothing is ever put into; the context is current.
    pub(crate) fn idle_stream(&self, driver: &Driver) -> Result<CUstream, CUresult> {
        non_blocking(driver, &self.idle)
    }

    /// A stream in which fresh memory is wiped; the context is current.
    pub(crate) fn wiping_stream(&self, driver: &Driver) -> Result<CUstream, CUresult> {
        non_blocking(driver, &self.wiping)
    }

    /// A stream for copies while their own is held; the context is current.
    pub(crate) fn aside_stream(&self, driver: &Driver) -> Result<CUstream, CUresult> {
        non_blocking(driver, &self.aside)
    }

    pub(crate) fn add_stream(&self, stream: Arc<Stream>) {
        lock(&self.streams).push(stream);
    }

    pub(crate) fn remove_stream(&self, stream: &Stream) {
        lock(&self.streams).retain(|other| !std::ptr::eq(&**other, stream));
    }

    /// Every stream, the legacy one first if it was ever used.
    pub(crate) fn all_streams(&self) -> Vec<Arc<Stream>> {
        let legacy = self.legacy.get().cloned();
        legacy
            .into_iter()
            .chain(lock(&self.streams).iter().cloned())
            .collect()
    }

    /// Tells the client of the context's fault, by the first who finds it. Whoever else has found it waits here: what they send next, a reply or a
    /// completion with the same error, comes behind, so that the client then knows it of all the context's streams.
    pub(crate) fn tell_fault_once(&self, tell: impl FnOnce()) {
        self.fault_told.call_once(tell);
    }

    /// An event of the context's pool, for a driver whose streams cannot write; the context is current.
    pub(crate) fn take_event(&self, driver: &Driver) -> Result<CUevent, CUresult> {
        const DISABLE_TIMING: u32 = 2;
        if let Some(event) = lock(&self.events).pop() {
            return Ok(event);
        }
        let mut event = CUevent(0);
        cuda!(driver, cuEventCreate(&mut event, DISABLE_TIMING))?;
        Ok(event)
    }

    pub(crate) fn put_event(&self, event: CUevent) {
        lock(&self.events).push(event);
    }

    /// Everything that is pending in it, and what comes later, fails with this.
    pub(crate) fn lose_streams(&self, session: &Session, result: CUresult, memory_is_gone: bool) {
        for stream in self.all_streams() {
            stream.lose(result, memory_is_gone);
        }
        session.poller.wake();
    }

    /// Waits until everything in it is done and told, then takes it and all that belongs to it out of the tables. What is left is for
    /// the driver to destroy.
    fn retire(&self, session: &Session) -> Result<(), CUresult> {
        self.make_current(session.driver)?;
        // A context that has faulted says so here, and is destroyed all the same.
        let _ = cuda!(session.driver, cuCtxSynchronize());
        coredump::end(session.driver, self);
        session.poller.wake_if_asleep();
        self.drain();
        self.is_alive.store(false, Ordering::Release);
        session.contexts.retain(|other| other.serial != self.serial);
        self.lose_streams(session, CUresult::CONTEXT_IS_DESTROYED, true);
        // From here on no point is reached; what was reached before may still be sending out of the context's memory.
        session.poller.finish_actions();
        if let Some(direct) = &session.direct {
            direct.wait_for_context(session, self.serial);
        }
        self.staging.close();
        // Whatever of its buffers is lent to the transport: their memory goes with the context, and its addresses come again.
        session.outbox.take_back_all();
        lock(&self.streams).clear();
        linker::end_all(session, self.serial);
        graph::end_all(session, self.serial);
        green::end_all(session, self.serial);
        session.forget_context(self.serial);
        Ok(())
    }

    fn drain(&self) {
        let end = Instant::now() + DRAIN_LIMIT;
        let is_idle = || self.all_streams().iter().all(|stream| stream.is_idle());
        while !is_idle() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A stream that waits for no other, made when it is first needed.
fn non_blocking(driver: &Driver, place: &Mutex<Option<CUstream>>) -> Result<CUstream, CUresult> {
    const NON_BLOCKING: u32 = 1;
    let mut place = lock(place);
    if let Some(stream) = *place {
        return Ok(stream);
    }
    let mut stream = CUstream(0);
    cuda!(driver, cuStreamCreate(&mut stream, NON_BLOCKING))?;
    *place = Some(stream);
    Ok(stream)
}

/// A context's number as the client may choose it: the last two would name the streams of tickets and of calls for idle memory.
fn check_id(id: u32) -> Result<(), CUresult> {
    if id == 0 || id >= LEGACY_STREAMS - 2 {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(())
}

fn add(
    call: &Call<'_>,
    id: u32,
    handle: CUcontext,
    device: CUdevice,
    is_primary: bool,
) -> Result<(), CUresult> {
    let context = Context::new(call.session, id, handle, device, is_primary);
    call.session.contexts.insert(id, context)
}

/// The primary context of a device, named by the client.
pub(crate) fn gpurunPrimaryRetain(
    call: &mut Call<'_>,
    request: &request::GpurunPrimaryRetain,
) -> Result<(), CallError> {
    let (id, device) = (request.context(), request.device());
    check_id(id)?;
    call.session.devices.check(device)?;
    call.session.contexts.check_free(id)?;
    let was_retained = call.session.devices.take_retained(device);
    let accounts = &call.session.memory.accounts;
    if !was_retained {
        accounts.make_context(device)?;
    }
    let retained = retain(call, request, was_retained);
    if retained.is_err() {
        accounts.context_is_gone(device);
    }
    Ok(retained?)
}

/// Retains the primary context, and names it.
fn retain(
    call: &Call<'_>,
    request: &request::GpurunPrimaryRetain,
    was_retained: bool,
) -> Result<(), CUresult> {
    let (driver, id, device) = (call.driver(), request.context(), request.device());
    let mut handle = CUcontext(0);
    if request.flags() != 0 {
        // Flags are for a context that is not there yet.
        if was_retained {
            cuda!(driver, cuDevicePrimaryCtxRelease_v2(device))?;
        }
        cuda!(
            driver,
            cuDevicePrimaryCtxSetFlags_v2(device, request.flags())
        )?;
        cuda!(driver, cuDevicePrimaryCtxRetain(&mut handle, device))?;
    } else {
        cuda!(driver, cuDevicePrimaryCtxRetain(&mut handle, device))?;
        if was_retained {
            cuda!(driver, cuDevicePrimaryCtxRelease_v2(device))?;
        }
    }
    if let Err(error) = add(call, id, handle, device, true) {
        cuda!(driver, cuDevicePrimaryCtxRelease_v2(device))?;
        return Err(error);
    }
    Ok(())
}

fn primary(call: &Call<'_>, id: u32, device: CUdevice) -> Result<Arc<Context>, CUresult> {
    let context = call
        .session
        .contexts
        .get(id)
        .ok_or(CUresult::INVALID_CONTEXT)?;
    if !context.is_primary || context.device != device {
        return Err(CUresult::INVALID_CONTEXT);
    }
    Ok(context)
}

/// The last release by the client.
pub(crate) fn gpurunPrimaryRelease(
    call: &mut Call<'_>,
    request: &request::GpurunPrimaryRelease,
) -> Result<(), CallError> {
    let context = primary(call, request.context(), request.device())?;
    context.retire(call.session)?;
    call.forget_current();
    let released = cuda!(
        call.driver(),
        cuDevicePrimaryCtxRelease_v2(request.device())
    );
    give_back(call, &context);
    Ok(released?)
}

/// What a context had is given back, and what was charged for the context itself. Nobody can name it any more, whatever the driver said to its end.
fn give_back(call: &Call<'_>, context: &Context) {
    let memory = &call.session.memory;
    memory.peers.lock().forget(context.serial);
    memory.give_back_all_of(call.driver(), context.serial);
    call.session.mirrors.give_back_all_of(context.serial);
    array::give_back_all_of(call.session, context.serial);
    memory.accounts.context_is_gone(context.device);
}

/// Everything in the primary context is destroyed. The client retains it anew afterwards.
pub(crate) fn gpurunPrimaryReset(
    call: &mut Call<'_>,
    request: &request::GpurunPrimaryReset,
) -> Result<(), CallError> {
    let context = primary(call, request.context(), request.device())?;
    context.retire(call.session)?;
    call.forget_current();
    let driver = call.driver();
    let reset = cuda!(driver, cuDevicePrimaryCtxReset_v2(request.device()));
    // Our own retain outlives a reset, as it is documented; a driver where it does not says that there is none.
    let released = match cuda!(driver, cuDevicePrimaryCtxRelease_v2(request.device())) {
        Err(CUresult::INVALID_CONTEXT) => Ok(()),
        released => released,
    };
    give_back(call, &context);
    Ok(reset.and(released)?)
}

/// A context of its own.
pub(crate) fn gpurunContextCreate(
    call: &mut Call<'_>,
    request: &request::GpurunContextCreate,
) -> Result<(), CallError> {
    let (id, device) = (request.context(), request.device());
    check_id(id)?;
    call.session.devices.check(device)?;
    call.session.contexts.check_free(id)?;
    let accounts = &call.session.memory.accounts;
    accounts.make_context(device)?;
    let created = create(call, request);
    if created.is_err() {
        accounts.context_is_gone(device);
    }
    call.forget_current();
    Ok(created?)
}

/// Creates a context, and names it.
fn create(call: &Call<'_>, request: &request::GpurunContextCreate) -> Result<(), CUresult> {
    let (driver, id, device) = (call.driver(), request.context(), request.device());
    let mut handle = CUcontext(0);
    cuda!(driver, cuCtxCreate_v2(&mut handle, request.flags(), device))?;
    // The driver has pushed it; it becomes current where a call names it.
    let mut popped = CUcontext(0);
    cuda!(driver, cuCtxPopCurrent_v2(&mut popped))?;
    if let Err(error) = add(call, id, handle, device, false) {
        cuda!(driver, cuCtxDestroy_v2(handle))?;
        return Err(error);
    }
    Ok(())
}

/// The end of a created context and of everything in it.
pub(crate) fn gpurunContextDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunContextDestroy,
) -> Result<(), CallError> {
    let context = call
        .session
        .contexts
        .get(request.context())
        .filter(|context| !context.is_primary)
        .ok_or(CUresult::INVALID_CONTEXT)?;
    context.retire(call.session)?;
    call.forget_current();
    let destroyed = cuda!(call.driver(), cuCtxDestroy_v2(context.handle));
    give_back(call, &context);
    Ok(destroyed?)
}

/// What the current context is limited to of its device.
pub(crate) fn gpurunExecAffinity(
    call: &mut Call<'_>,
    request: &request::GpurunExecAffinity,
) -> Result<(), CallError> {
    call.context()?;
    let mut affinity = CUexecAffinityParam::default();
    cuda!(
        call.driver(),
        cuCtxGetExecAffinity(&mut affinity, request.kind())
    )?;
    call.reply(&reply::GpurunExecAffinity::new(affinity.count));
    Ok(())
}
