//! Contexts: primary and created, the stack of each thread, limits, flags.
//!
//! Everything but making and ending a context is answered here: the stack is the thread's ([`crate::thread`]), flags and ids are ours.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod meeting;

use core::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{
    CUcontext, CUctxCreateParams, CUdevice, CUexecAffinityParam, CUexecAffinityType, CUfunc_cache,
    CUresult, CUsharedconfig,
};
use driver_api::private_tables;
use driver_api::wire::request::{
    GpurunContextCreate, GpurunContextDestroy, GpurunExecAffinity, GpurunPeerAccess,
    GpurunPrimaryRelease, GpurunPrimaryReset, GpurunPrimaryRetain,
};

use crate::coredump::{self, Dumps};
use crate::entry::code;
use crate::green;
use crate::handles::Handle;
use crate::memory::out;
use crate::module;
use crate::objects::{Fault, unique};
use crate::session::{self, Session};
use crate::stream::{self, Stream};
use crate::thread;

pub(crate) use meeting::*;

/// The flags that a context can have: scheduling, mapping, resizing, core dumps, synchronous memory operations.
const ALL_FLAGS: c_uint = 0xFF;

/// A context.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) id: u32,
    pub(crate) device: usize,
    /// The legacy default stream.
    pub(crate) legacy: Arc<Stream>,
    pub(crate) fault: Fault,
    /// What is set of its core dumps.
    pub(crate) dumps: Dumps,
    /// Where all its streams meet.
    pub(crate) meeting: Meeting,
    flags: AtomicU32,
    cache_config: AtomicU32,
    shared_config: AtomicU32,
    unique: u64,
    /// How often it is retained: a primary context exists while it is; a created one always once.
    retained: Mutex<u32>,
    /// How often it is attached to, beside its own life.
    attached: Mutex<u32>,
    active: AtomicBool,
    primary: bool,
}

impl Context {
    /// The primary context of a device, not yet made.
    pub(crate) fn primary(id: u32, device: usize) -> Self {
        Self::new(id, device, 0, true)
    }

    fn new(id: u32, device: usize, flags: c_uint, primary: bool) -> Self {
        Self {
            id,
            device,
            legacy: Arc::new(Stream::legacy(id)),
            fault: Fault::default(),
            dumps: Dumps::default(),
            meeting: Meeting::default(),
            flags: AtomicU32::new(flags),
            cache_config: AtomicU32::new(0),
            shared_config: AtomicU32::new(0),
            unique: unique(),
            retained: Mutex::new(0),
            attached: Mutex::new(0),
            active: AtomicBool::new(!primary),
            primary,
        }
    }

    /// True if it has been made and not ended.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(SeqCst)
    }

    pub(crate) fn handle(&self) -> CUcontext {
        CUcontext::dress(self.id)
    }

    /// Before it is ended.
    fn ends(&self, session: &Session) {
        coredump::before_end(session, self);
        let shared = &session.objects.memory.mapped;
        shared.before_end_of(session, self);
    }

    /// How often it is retained, for who may be about to end it: what runs has been waited for before that was locked, so that who retains it meanwhile need not
    /// wait for it.
    fn retained_at_end(
        &self,
        session: &Session,
        ends: impl FnOnce(u32) -> bool,
    ) -> MutexGuard<'_, u32> {
        let retained = || self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let count = *retained();
        if ends(count) {
            self.ends(session);
        }
        retained()
    }

    fn ended(&self, session: &Session) {
        self.active.store(false, SeqCst);
        self.meeting.forget();
        session
            .objects
            .stream_ordered
            .forget_context(session, self.id);
        session.objects.graph_memory.forget_context(self.id);
        session.objects.imports.forget_context(self.id);
        session.objects.memory.forget_context(self.id);
        session.objects.memory.host.forget_context(session, self.id);
        crate::texture::forget_context(session, self.id);
        crate::array::forget_context(session, self.id);
        module::forget_context(session, self.id);
        for stream in session
            .objects
            .streams
            .select(|stream| stream.context == self.id)
        {
            stream.end();
            crate::capture::forget(&stream);
            session.objects.streams.remove(stream.id);
        }
        self.legacy.end();
        crate::green::forget_context(session, self.id);
        private_tables::context_destroyed(self.handle().0);
    }
}

/// The context of a handle; the null handle is none.
pub(crate) fn of(handle: CUcontext) -> Result<Arc<Context>, CUresult> {
    let session = session::get()?;
    let id = handle.undress().ok_or(CUresult::INVALID_CONTEXT)?;
    named(session, id).ok_or(CUresult::INVALID_CONTEXT)
}

/// The context of an id; of a green context's the primary one.
pub(crate) fn named(session: &Session, id: u32) -> Option<Arc<Context>> {
    match green::is_green_id(id) {
        true => green::of_context_id(session, id).map(|green| Arc::clone(&green.primary)),
        false => session.objects.contexts.get(id),
    }
}

/// The number by which the server knows this thread's current context: of a green context that of its primary one; 0 for none.
pub(crate) fn current_number(session: &Session) -> u32 {
    let id = thread::current();
    match green::is_green_id(id) {
        true => named(session, id).map_or(id, |context| context.id),
        false => id,
    }
}

/// The id that a handle of a context has, of a green context its own.
fn id_named(handle: CUcontext) -> Result<u32, CUresult> {
    of(handle)?;
    handle.undress().ok_or(CUresult::INVALID_CONTEXT)
}

/// The context of a handle, or the current one for null.
fn of_or_current(handle: CUcontext) -> Result<Arc<Context>, CUresult> {
    if handle.0 == 0 {
        Ok(session::current()?.1)
    } else {
        of(handle)
    }
}

/// The primary context of a device, made or not.
pub(crate) fn primary_of(session: &Session, device: CUdevice) -> Result<Arc<Context>, CUresult> {
    session.device(device)?;
    let found = session
        .objects
        .contexts
        .select(|context| context.primary && c_int::try_from(context.device) == Ok(device));
    found.into_iter().next().ok_or(CUresult::INVALID_DEVICE)
}

pub(crate) fn retain_primary(dev: CUdevice) -> Result<Arc<Context>, CUresult> {
    let session = session::get()?;
    let primary = primary_of(session, dev)?;
    let mut retained = primary
        .retained
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if *retained == 0 {
        let flags = primary.flags.load(SeqCst);
        let of_driver = flags & !coredump::CONTEXT_FLAGS;
        let retain = GpurunPrimaryRetain::new(dev, primary.id, of_driver);
        session.ask_in(0, &retain, &[])?;
        primary.fault.clear();
        primary.legacy.begin_anew();
        primary.active.store(true, SeqCst);
        coredump::begin(session, &primary, flags);
    }
    *retained += 1;
    drop(retained);
    Ok(primary)
}

/// The current context; without one the first device's primary context, which stays then.
pub(crate) fn current_or_primary() -> Result<Arc<Context>, CUresult> {
    match session::current() {
        Ok((_, context)) => Ok(context),
        Err(CUresult::INVALID_CONTEXT) => {
            let primary = primary_of(session::get()?, 0)?;
            match primary.is_active() {
                true => Ok(primary),
                false => retain_primary(0),
            }
        }
        Err(error) => Err(error),
    }
}

pub(crate) unsafe fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, dev: CUdevice) -> CUresult {
    code((|| {
        let place = out(context)?;
        let primary = retain_primary(dev)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(primary.handle()) };
        Ok(())
    })())
}

pub(crate) fn release_primary(dev: CUdevice) -> Result<(), CUresult> {
    let session = session::get()?;
    let primary = primary_of(session, dev)?;
    let mut retained = primary.retained_at_end(session, |count| count == 1);
    *retained = retained.checked_sub(1).ok_or(CUresult::INVALID_CONTEXT)?;
    if *retained == 0 {
        primary.ends(session);
        session.post_in(0, |_| GpurunPrimaryRelease::new(dev, primary.id), &[])?;
        primary.ended(session);
    }
    Ok(())
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease(dev: CUdevice) -> CUresult {
    code(release_primary(dev))
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> CUresult {
    code(release_primary(dev))
}

fn reset_primary(dev: CUdevice) -> Result<(), CUresult> {
    let session = session::get()?;
    let primary = primary_of(session, dev)?;
    let mut retained = primary.retained_at_end(session, |count| count > 0);
    if *retained > 0 {
        primary.ends(session);
        session.ask_in(0, &GpurunPrimaryReset::new(dev, primary.id), &[])?;
        primary.ended(session);
        *retained = 0;
    }
    Ok(())
}

pub(crate) unsafe fn cuDevicePrimaryCtxReset(dev: CUdevice) -> CUresult {
    code(reset_primary(dev))
}

pub(crate) unsafe fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> CUresult {
    code(reset_primary(dev))
}

fn set_primary_flags(dev: CUdevice, flags: c_uint) -> Result<(), CUresult> {
    if flags & !ALL_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    coredump::check_flags(flags)?;
    primary_of(session::get()?, dev)?.flags.store(flags, SeqCst);
    Ok(())
}

pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags(dev: CUdevice, flags: c_uint) -> CUresult {
    code(set_primary_flags(dev, flags))
}

pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint) -> CUresult {
    code(set_primary_flags(dev, flags))
}

pub(crate) unsafe fn cuDevicePrimaryCtxGetState(
    dev: CUdevice,
    flags: *mut c_uint,
    active: *mut c_int,
) -> CUresult {
    code((|| {
        let (flags, active) = (out(flags)?, out(active)?);
        let primary = primary_of(session::get()?, dev)?;
        // SAFETY: checked by `out`.
        unsafe {
            flags.write(primary.flags.load(SeqCst));
            active.write(c_int::from(primary.is_active()));
        }
        Ok(())
    })())
}

fn create(context: *mut CUcontext, flags: c_uint, dev: CUdevice) -> Result<(), CUresult> {
    let place = out(context)?;
    let session = session::get()?;
    session.device(dev)?;
    if flags & !ALL_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    coredump::check_flags(flags)?;
    let device = usize::try_from(dev).unwrap_or(0);
    let made = session
        .objects
        .contexts
        .insert_with(|id| Context::new(id, device, flags, false));
    let of_driver = flags & !coredump::CONTEXT_FLAGS;
    let create = GpurunContextCreate::new(dev, made.id, of_driver);
    let asked = session.ask_in(0, &create, &[]);
    if let Err(code) = asked.and_then(|_| thread::push(made.id)) {
        session.objects.contexts.remove(made.id);
        return Err(code);
    }
    coredump::begin(session, &made, flags);
    // SAFETY: checked by `out`.
    unsafe { place.write(made.handle()) };
    Ok(())
}

pub(crate) unsafe fn cuCtxCreate_v2(
    context: *mut CUcontext,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    code(create(context, flags, dev))
}

pub(crate) unsafe fn cuCtxCreate_v3(
    context: *mut CUcontext,
    params_array: *mut CUexecAffinityParam,
    num_params: c_int,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    if num_params != 0 || !params_array.is_null() {
        return CUresult::UNSUPPORTED_EXEC_AFFINITY;
    }
    code(create(context, flags, dev))
}

pub(crate) unsafe fn cuCtxCreate_v4(
    context: *mut CUcontext,
    ctx_create_params: *mut CUctxCreateParams,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    if !ctx_create_params.is_null() {
        return CUresult::NOT_SUPPORTED;
    }
    code(create(context, flags, dev))
}

fn destroy(handle: CUcontext) -> Result<(), CUresult> {
    let session = session::get()?;
    let context = of(handle)?;
    if context.primary {
        return Err(CUresult::INVALID_CONTEXT);
    }
    context.ends(session);
    session.ask_in(0, &GpurunContextDestroy::new(context.id), &[])?;
    context.ended(session);
    session.objects.contexts.remove(context.id);
    if thread::current() == context.id {
        thread::pop();
    }
    Ok(())
}

pub(crate) unsafe fn cuCtxDestroy(ctx: CUcontext) -> CUresult {
    code(destroy(ctx))
}

pub(crate) unsafe fn cuCtxDestroy_v2(ctx: CUcontext) -> CUresult {
    code(destroy(ctx))
}

pub(crate) unsafe fn cuCtxAttach(context: *mut CUcontext, flags: c_uint) -> CUresult {
    code((|| {
        let place = out(context)?;
        let (_, current) = session::current()?;
        if flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        *current
            .attached
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        // SAFETY: checked by `out`.
        unsafe { place.write(current.handle()) };
        Ok(())
    })())
}

/// The end of an attachment, or without one of the context itself; only while it is current.
pub(crate) unsafe fn cuCtxDetach(ctx: CUcontext) -> CUresult {
    code((|| {
        let context = of(ctx)?;
        if Some(thread::current()) != ctx.undress() {
            return Err(CUresult::INVALID_CONTEXT);
        }
        {
            let mut attached = context
                .attached
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if *attached > 0 {
                *attached -= 1;
                return Ok(());
            }
        }
        destroy(ctx)
    })())
}

fn push_current(handle: CUcontext) -> Result<(), CUresult> {
    thread::push(id_named(handle)?)
}

pub(crate) unsafe fn cuCtxPushCurrent(ctx: CUcontext) -> CUresult {
    code(push_current(ctx))
}

pub(crate) unsafe fn cuCtxPushCurrent_v2(ctx: CUcontext) -> CUresult {
    code(push_current(ctx))
}

fn pop_current(context: *mut CUcontext) -> Result<(), CUresult> {
    session::get()?;
    let id = thread::pop().ok_or(CUresult::INVALID_CONTEXT)?;
    if !context.is_null() {
        // SAFETY: not null, writable by the API's contract.
        unsafe { context.write(CUcontext::dress(id)) };
    }
    Ok(())
}

pub(crate) unsafe fn cuCtxPopCurrent(context: *mut CUcontext) -> CUresult {
    code(pop_current(context))
}

pub(crate) unsafe fn cuCtxPopCurrent_v2(context: *mut CUcontext) -> CUresult {
    code(pop_current(context))
}

pub(crate) unsafe fn cuCtxSetCurrent(ctx: CUcontext) -> CUresult {
    code((|| {
        let id = match ctx.0 {
            0 => 0,
            _ => id_named(ctx)?,
        };
        session::get()?;
        thread::set_current(id);
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxGetCurrent(context: *mut CUcontext) -> CUresult {
    code((|| {
        let place = out(context)?;
        session::get()?;
        // SAFETY: checked by `out`.
        unsafe { place.write(current_handle()) };
        Ok(())
    })())
}

/// The handle of the calling thread's current context, null for none.
pub(crate) fn current_handle() -> CUcontext {
    match thread::current() {
        0 => CUcontext(0),
        id => CUcontext::dress(id),
    }
}

pub(crate) unsafe fn cuCtxGetDevice(device: *mut CUdevice) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuCtxGetDevice_v2(device, CUcontext(0)) }
}

pub(crate) unsafe fn cuCtxGetDevice_v2(device: *mut CUdevice, ctx: CUcontext) -> CUresult {
    code((|| {
        let place = out(device)?;
        let context = of_or_current(ctx)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(c_int::try_from(context.device).unwrap_or(0)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxGetFlags(flags: *mut c_uint) -> CUresult {
    code((|| {
        let place = out(flags)?;
        let (_, context) = session::current()?;
        // SAFETY: checked by `out`.
        unsafe { place.write(context.flags.load(SeqCst)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxSetFlags(flags: c_uint) -> CUresult {
    code((|| {
        if flags & !ALL_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        session::current()?.1.flags.store(flags, SeqCst);
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxGetId(ctx: CUcontext, ctx_id: *mut u64) -> CUresult {
    code((|| {
        let place = out(ctx_id)?;
        let id = id_of(ctx)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(id) };
        Ok(())
    })())
}

/// `cuCtxGetId`; null is the current context.
pub(crate) fn id_of(ctx: CUcontext) -> Result<u64, CUresult> {
    let context = of_or_current(ctx)?;
    let session = session::get()?;
    let green = match ctx.0 {
        0 => green::current(session),
        _ => green::of_context(session, ctx),
    };
    Ok(green.map_or(context.unique, |green| green.unique))
}

pub(crate) unsafe fn cuCtxGetApiVersion(ctx: CUcontext, version: *mut c_uint) -> CUresult {
    code((|| {
        let place = out(version)?;
        of_or_current(ctx)?;
        // SAFETY: checked by `out`. 3020 is what every driver since CUDA 3.2 answers.
        unsafe { place.write(3020) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxGetCacheConfig(pconfig: *mut CUfunc_cache) -> CUresult {
    code((|| {
        let place = out(pconfig)?;
        let (_, context) = session::current()?;
        // SAFETY: checked by `out`.
        unsafe { place.write(context.cache_config.load(SeqCst)) };
        Ok(())
    })())
}

/// A preference, which devices since Volta only remember.
pub(crate) unsafe fn cuCtxSetCacheConfig(config: CUfunc_cache) -> CUresult {
    code((|| {
        if config > 3 {
            return Err(CUresult::INVALID_VALUE);
        }
        session::current()?.1.cache_config.store(config, SeqCst);
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxGetSharedMemConfig(config: *mut CUsharedconfig) -> CUresult {
    code((|| {
        let place = out(config)?;
        let (_, context) = session::current()?;
        // SAFETY: checked by `out`.
        unsafe { place.write(context.shared_config.load(SeqCst)) };
        Ok(())
    })())
}

/// A preference, which devices since Maxwell only remember.
pub(crate) unsafe fn cuCtxSetSharedMemConfig(config: CUsharedconfig) -> CUresult {
    code((|| {
        if config > 2 {
            return Err(CUresult::INVALID_VALUE);
        }
        session::current()?.1.shared_config.store(config, SeqCst);
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxGetStreamPriorityRange(
    least_priority: *mut c_int,
    greatest_priority: *mut c_int,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let (least, greatest) = session.devices[context.device].stream_priorities();
        for (place, value) in [(least_priority, least), (greatest_priority, greatest)] {
            if !place.is_null() {
                // SAFETY: not null, writable by the API's contract.
                unsafe { place.write(value) };
            }
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuCtxSynchronize() -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        match green::current(session) {
            Some(green) => green.synchronise(session)?,
            None => stream::synchronise_context(session, &context)?,
        }
        session.objects.stream_ordered.settle(session)
    })())
}

pub(crate) unsafe fn cuCtxSynchronize_v2(ctx: CUcontext) -> CUresult {
    code((|| {
        let context = of_or_current(ctx)?;
        let session = session::get()?;
        let green = match ctx.0 {
            0 => green::current(session),
            _ => green::of_context(session, ctx),
        };
        match green {
            Some(green) => green.synchronise(session)?,
            None => stream::synchronise_context(session, &context)?,
        }
        session.objects.stream_ordered.settle(session)
    })())
}

pub(crate) unsafe fn cuCtxGetExecAffinity(
    exec_affinity: *mut CUexecAffinityParam,
    kind: CUexecAffinityType,
) -> CUresult {
    code((|| {
        let place = out(exec_affinity)?;
        let (session, context) = session::current()?;
        let reply = session.ask_in(context.id, &GpurunExecAffinity::new(kind), &[])?;
        let count = reply.count();
        // SAFETY: checked by `out`.
        unsafe { place.write(CUexecAffinityParam { kind, count }) };
        Ok(())
    })())
}

/// Lets kernels of the current context reach the memory of another, or no longer.
fn peer_access(peer: CUcontext, flags: c_uint, enabled: bool) -> Result<(), CUresult> {
    let (session, own) = session::current()?;
    let peer = of(peer)?;
    if peer.id == own.id || !peer.is_active() {
        return Err(CUresult::INVALID_CONTEXT);
    }
    if flags != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    if !enabled {
        // What is under way may still reach it.
        stream::synchronise_context(session, &own)?;
    }
    let request = GpurunPeerAccess::new(peer.id, enabled.into());
    session.ask_in(own.id, &request, &[])?;
    Ok(())
}

pub(crate) unsafe fn cuCtxEnablePeerAccess(peer_context: CUcontext, flags: c_uint) -> CUresult {
    code(peer_access(peer_context, flags, true))
}

pub(crate) unsafe fn cuCtxDisablePeerAccess(peer_context: CUcontext) -> CUresult {
    code(peer_access(peer_context, 0, false))
}
