//! Core dumps: what the program sets of them, and how the dump of a kernel that faulted at a distance becomes a file here.
//!
//! ```text
//! enabled ──▶ worker: its driver dumps into memory ──fault──▶ told to the link's reader, or by a reply
//!                                                                 │ whoever learns of it first
//! start functions ─▶ pieces ─▶ file, renamed when whole ─▶ complete functions ─▶ abort()
//! ```
//!
//! *Rules:* settings are kept here, and only what its driver has to do reaches the server; a context's fault is dealt with once, and no call of the program tells of it before that is done; a
//! program that makes no call learns of it by a thread of ours. The process ends only behind an exception of a kernel in a context whose dumps are enabled, and only if its own settings say
//! so. Nothing here waits for what a lost connection will not bring. *Cost* where nobody asked for dumps: a load for a call that failed.
//!
//! # Safety
//! Values and places are read and written where the program says, by the contract of the CUDA driver API, after checks for null.
#![expect(unsafe_code, reason = "values and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod fetch;

use core::ffi::{c_int, c_void};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{
    CUcoredumpCallbackHandle, CUcoredumpSettings, CUcoredumpStatusCallback, CUresult,
};
use driver_api::coredump::{
    CONTEXT_ENABLE, CONTEXT_USER_ENABLE, Moment, NO_USER_TRIGGER, Setting, Settings,
    StatusCallbacks, value,
};
use driver_api::fresh::Fresh;
use driver_api::wire::request::GpurunCoredumpSet;
use protocol::config::variable;

use crate::context::{self, Context};
use crate::entry::{code, in_host_function};
use crate::handles;
use crate::log;
use crate::objects::unique;
use crate::process;
use crate::session::{self, Session};
use crate::stream;
use crate::thread;

/// A context's flags that are this module's: the server's driver is told otherwise.
pub(crate) const CONTEXT_FLAGS: u32 = CONTEXT_ENABLE | CONTEXT_USER_ENABLE;

/// What is set for the application.
struct Global(Mutex<Settings>);

impl Default for Global {
    fn default() -> Self {
        let settings = Settings::from_environment(variable, |text| log::warning!("{text}"));
        Self(Mutex::new(settings))
    }
}

static GLOBAL: Fresh<Global> = Fresh::new();
static CALLBACKS: Fresh<StatusCallbacks> = Fresh::new();
/// Exceptions in some context were ever to be dumped.
static IS_EVER_WANTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// This thread deals with a fault: what it calls meanwhile fails without more.
    static IS_DEALING: Cell<bool> = const { Cell::new(false) };
}

/// For a child after `fork`.
pub(crate) fn forget() {
    GLOBAL.renew();
    CALLBACKS.renew();
    IS_EVER_WANTED.store(false, SeqCst);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn global() -> MutexGuard<'static, Settings> {
    lock(&GLOBAL.get().0)
}

/// What a context knows of its core dumps.
#[derive(Debug, Default)]
pub(crate) struct Dumps {
    settings: Mutex<Settings>,
    /// Its exceptions are dumped.
    is_wanted: AtomicBool,
    /// The server's driver was told to.
    is_told: AtomicBool,
    /// Its fault was dealt with; held meanwhile.
    is_done: Mutex<bool>,
}

/// Refuses a context whose dumps a pipe is to trigger.
pub(crate) fn check_flags(flags: u32) -> Result<(), CUresult> {
    match flags & CONTEXT_USER_ENABLE {
        0 => Ok(()),
        _ => Err(no_user_trigger()),
    }
}

fn no_user_trigger() -> CUresult {
    log::warn_once("core dumps by a pipe", format_args!("{NO_USER_TRIGGER}"));
    CUresult::NOT_SUPPORTED
}

/// A context has been made: it begins with what is set for the application, and works without dumps where there can be none.
pub(crate) fn begin(session: &Session, context: &Context, flags: u32) {
    let settings = global().for_context(flags);
    let is_enabled = settings.is_enabled();
    let dumps = &context.dumps;
    *lock(&dumps.settings) = settings.clone();
    *lock(&dumps.is_done) = false;
    dumps.is_told.store(false, SeqCst);
    dumps.is_wanted.store(false, SeqCst);
    if is_enabled && let Err(error) = want(session, context, &settings) {
        log::warning!("kernels that fault will leave no core dump: {error}");
    }
}

/// Lets a context's exceptions be dumped as these settings say.
fn want(session: &Session, context: &Context, settings: &Settings) -> Result<(), CUresult> {
    let dumps = &context.dumps;
    // What leaves no file needs no dump.
    let has_file = settings.is_enabled() && settings.writes_file();
    if has_file || dumps.is_told.load(SeqCst) {
        let request = GpurunCoredumpSet::new(has_file.into(), settings.flags());
        session
            .ask_in(context.id, &request, &[])
            .inspect_err(|error| explain(*error))?;
        dumps.is_told.store(has_file, SeqCst);
    }
    dumps.is_wanted.store(settings.is_enabled(), SeqCst);
    if settings.is_enabled() {
        IS_EVER_WANTED.store(true, SeqCst);
    }
    Ok(())
}

fn explain(error: CUresult) {
    match error {
        CUresult::NOT_SUPPORTED => log::warn_once(
            "core dumps of the server's driver",
            format_args!(
                "the server's driver makes no core dumps that can be brought here: it is older than CUDA 12.1, or cannot be kept from ending its process"
            ),
        ),
        CUresult::NOT_PERMITTED => log::warn_once(
            "core dumps of the server",
            format_args!("the server's settings allow no core dumps"),
        ),
        _ => {}
    }
}

/// A call has come to an error: if it is a fault of a kernel, that is dealt with before the program hears of it.
pub(crate) fn after_error(result: CUresult) {
    if IS_EVER_WANTED.load(Relaxed) && result.is_sticky() {
        // The panic hook has written the line.
        let _ = catch_unwind(AssertUnwindSafe(deal_with_faults));
    }
}

/// A context is about to end, and with it the dump of a kernel that may still fault: its work is waited for, as its end does anyway.
pub(crate) fn before_end(session: &Session, context: &Context) {
    let is_wanted = context.dumps.is_wanted.load(SeqCst);
    if is_wanted && stream::wait_for_context(session, context).is_err() {
        deal_with_faults();
    }
}

/// The program ends: what is known of faults is dealt with before the connection is given up.
pub(crate) fn at_end() {
    if IS_EVER_WANTED.load(Relaxed) {
        deal_with_faults();
    }
}

/// A context has faulted, as the link's reader has just heard.
pub(crate) fn heard_of_fault(context: &Context, result: CUresult) {
    if !context.dumps.is_wanted.load(SeqCst) || !result.is_sticky() {
        return;
    }
    // Who reads the link must go on reading, and the program may make no call any more.
    if let Err(error) = process::spawn("coredump", deal_with_faults, || ()) {
        log::warning!("a core dump waits for the next call of the program: {error}");
    }
}

fn deal_with_faults() {
    let Ok(session) = session::get() else { return };
    if IS_DEALING.replace(true) {
        return;
    }
    let faulted = session.objects.contexts.select(|context| {
        let is_sticky = context.fault.check().is_err_and(CUresult::is_sticky);
        is_sticky && context.dumps.is_wanted.load(SeqCst)
    });
    faulted
        .iter()
        .for_each(|context| deal_with(session, context));
    IS_DEALING.set(false);
}

/// Whoever else comes here waits until it is done.
fn deal_with(session: &Session, context: &Arc<Context>) {
    let dumps = &context.dumps;
    let mut is_done = lock(&dumps.is_done);
    if std::mem::replace(&mut *is_done, true) {
        return;
    }
    let settings = lock(&dumps.settings).clone();
    if settings.writes_file() {
        if !fetch::has_begun(session, context.id) {
            log::warning!("a kernel has faulted, and the server's driver has made no core dump");
            return;
        }
        let device = c_int::try_from(context.device).unwrap_or(0);
        let path = settings.file_name();
        tell(Moment::Start, device);
        match fetch::write(session, context.id, &path, settings.is_compressed()) {
            Ok(()) => {
                log::info!("core dump of the GPU written to {}", path.display());
                tell(Moment::Complete, device);
            }
            Err(error) => log::error!("no core dump in {}: {error}", path.display()),
        }
    }
    if settings.aborts() {
        log::info!("the process is ended, as its settings for core dumps say");
        process::abort();
    }
}

fn tell(moment: Moment, device: c_int) {
    in_host_function(|| CALLBACKS.get().tell(moment, device));
}

/// The current context, also one that has faulted.
fn current() -> Result<(&'static Session, Arc<Context>), CUresult> {
    let session = session::get()?;
    let context = match thread::current() {
        0 => return Err(CUresult::INVALID_CONTEXT),
        id => context::named(session, id),
    };
    let context = context.filter(|context| context.is_active());
    Ok((session, context.ok_or(CUresult::CONTEXT_IS_DESTROYED)?))
}

pub(crate) unsafe fn cuCoredumpGetAttribute(
    get: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    code((|| {
        let (_, context) = current()?;
        let setting = Setting::of(get)?;
        let get = || lock(&context.dumps.settings).get(setting);
        // SAFETY: null, or a place and its size by the API's contract.
        unsafe { value::answer(setting, value, size, get) }
    })())
}

pub(crate) unsafe fn cuCoredumpGetAttributeGlobal(
    get: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    code((|| {
        let setting = Setting::of(get)?;
        // SAFETY: null, or a place and its size by the API's contract.
        unsafe { value::answer(setting, value, size, || global().get(setting)) }
    })())
}

/// Sets a value in a copy, which is taken where it can be done.
///
/// # Safety
/// As for `cuCoredumpSetAttribute`.
unsafe fn set(
    settings: &mut Settings,
    setting: Setting,
    value: *const c_void,
    size: *mut usize,
) -> Result<(), CUresult> {
    // SAFETY: the caller's promise.
    let Some(value) = (unsafe { value::given(setting, value, size) })? else {
        return Ok(());
    };
    settings.set(setting, value).map_err(|error| match error {
        CUresult::NOT_SUPPORTED => no_user_trigger(),
        error => error,
    })
}

pub(crate) unsafe fn cuCoredumpSetAttribute(
    attribute: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    code((|| {
        let (session, context) = current()?;
        let setting = Setting::of_context(attribute)?;
        let mut settings = lock(&context.dumps.settings);
        let mut wanted = settings.clone();
        // SAFETY: null, or a value and its size by the API's contract.
        unsafe { set(&mut wanted, setting, value, size)? };
        let is_other =
            (wanted.is_enabled(), wanted.flags()) != (settings.is_enabled(), settings.flags());
        // In a context that has faulted there will be no other exception.
        if is_other && !context.fault.is_set() {
            want(session, &context, &wanted)?;
        }
        *settings = wanted;
        Ok(())
    })())
}

pub(crate) unsafe fn cuCoredumpSetAttributeGlobal(
    attribute: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    code((|| {
        let setting = Setting::of(attribute)?;
        // SAFETY: null, or a value and its size by the API's contract.
        unsafe { set(&mut global(), setting, value, size) }
    })())
}

fn register(
    moment: Moment,
    callback: CUcoredumpStatusCallback,
    data: *mut c_void,
    place: *mut CUcoredumpCallbackHandle,
) -> Result<(), CUresult> {
    let function = callback.ok_or(CUresult::INVALID_VALUE)?;
    let handle = handles::dress(handles::UNTYPED, unique() as u32);
    CALLBACKS.get().add(moment, handle, function, data)?;
    if !place.is_null() {
        // SAFETY: not null, writable by the API's contract.
        unsafe { place.write(CUcoredumpCallbackHandle(handle)) };
    }
    Ok(())
}

pub(crate) unsafe fn cuCoredumpRegisterStartCallback(
    callback: CUcoredumpStatusCallback,
    user_data: *mut c_void,
    callback_out: *mut CUcoredumpCallbackHandle,
) -> CUresult {
    code(register(Moment::Start, callback, user_data, callback_out))
}

pub(crate) unsafe fn cuCoredumpRegisterCompleteCallback(
    callback: CUcoredumpStatusCallback,
    user_data: *mut c_void,
    callback_out: *mut CUcoredumpCallbackHandle,
) -> CUresult {
    code(register(
        Moment::Complete,
        callback,
        user_data,
        callback_out,
    ))
}

pub(crate) unsafe fn cuCoredumpDeregisterStartCallback(
    callback: CUcoredumpCallbackHandle,
) -> CUresult {
    code(CALLBACKS.get().remove(Moment::Start, callback.0))
}

pub(crate) unsafe fn cuCoredumpDeregisterCompleteCallback(
    callback: CUcoredumpCallbackHandle,
) -> CUresult {
    code(CALLBACKS.get().remove(Moment::Complete, callback.0))
}
