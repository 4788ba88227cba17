//! Core dumps: what a program sets of them, and the exception of a kernel that writes one.
//!
//! *Rules:* a context begins with the application's settings; it is dumped once, by the first of its kernels that faults, before anybody is told of the fault; the
//! program's functions are called by the thread that ran the kernel. What a dump holds: [`contents`].
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`]. `abort` takes nothing and does not return.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod contents;
mod elf;
mod tables;

use core::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use driver_api::abi::{
    CUcoredumpCallbackHandle, CUcoredumpSettings, CUcoredumpStatusCallback, CUresult,
};
use driver_api::coredump::{
    CONTEXT_USER_ENABLE, Moment, NO_USER_TRIGGER, Setting, Settings, StatusCallbacks, value,
};

use crate::context::{current_in_any_state, unique_id};
use crate::entry::{answer_if_asked, done, in_host_function};
use crate::exec::{Fault, FaultKind};
use crate::launch::Kernel;
use crate::log::{debug, warn, warn_once};
use crate::state::Driver;
use crate::threads::lock;

/// The program's functions.
static CALLBACKS: StatusCallbacks = StatusCallbacks::new();

/// What is set for the application.
fn global() -> &'static Mutex<Settings> {
    static GLOBAL: OnceLock<Mutex<Settings>> = OnceLock::new();
    GLOBAL.get_or_init(|| {
        let settings =
            Settings::from_environment(|name| std::env::var_os(name), |text| warn(&text));
        Mutex::new(settings)
    })
}

/// Exceptions in some context were ever to be dumped: where not, a launch looks no further.
static IS_EVER_WANTED: AtomicBool = AtomicBool::new(false);

fn note(settings: &Settings) {
    if settings.is_enabled() {
        IS_EVER_WANTED.store(true, Ordering::SeqCst);
    }
}

/// What a context begins with.
pub(crate) fn of_new_context(flags: u32) -> Settings {
    let settings = lock(global()).for_context(flags);
    note(&settings);
    settings
}

/// Refuses a context whose dumps a pipe is to trigger.
pub(crate) fn check_flags(flags: u32) -> Result<(), CUresult> {
    match flags & CONTEXT_USER_ENABLE {
        0 => Ok(()),
        _ => Err(no_user_trigger()),
    }
}

fn no_user_trigger() -> CUresult {
    warn_once(NO_USER_TRIGGER);
    CUresult::NOT_SUPPORTED
}

/// What is set of the context of a kernel, if its exceptions are dumped.
fn settings_of(driver: &Driver, kernel: &Kernel) -> Option<Settings> {
    if !IS_EVER_WANTED.load(Ordering::Relaxed) {
        return None;
    }
    let context = driver.contexts.get(kernel.function.module.context).ok()?;
    let settings = lock(&context.coredump);
    settings.is_enabled().then(|| settings.clone())
}

/// Whether an exception of a kernel will be dumped.
pub(crate) fn is_wanted(driver: &Driver, kernel: &Kernel) -> bool {
    settings_of(driver, kernel).is_some()
}

/// A kernel has faulted, and nobody knows yet: dumps it, if that is wanted, and ends the process, if that is wanted too.
pub(crate) fn exception(driver: &Driver, kernel: &Kernel, fault: &Fault) {
    let Some(settings) = settings_of(driver, kernel) else {
        return;
    };
    // A context that is torn down has not faulted.
    if fault.kind != FaultKind::Cancelled {
        let dump = || dump(driver, kernel, fault, &settings);
        kernel.fate.with_first_exception(dump);
    }
}

fn dump(driver: &Driver, kernel: &Kernel, fault: &Fault, settings: &Settings) {
    if settings.writes_file() {
        let (device, path) = (kernel.device as i32, settings.file_name());
        in_host_function(|| CALLBACKS.tell(Moment::Start, device));
        match contents::write(driver, kernel, fault, settings, &path) {
            Ok(()) => {
                debug(&format!("core dump written to {}", path.display()));
                in_host_function(|| CALLBACKS.tell(Moment::Complete, device));
            }
            Err(error) => warn(&format!("no core dump in {}: {error}", path.display())),
        }
    }
    if settings.aborts() {
        // SAFETY: it takes nothing and does not return.
        unsafe { libc::abort() };
    }
}

pub(crate) unsafe fn cuCoredumpGetAttribute(
    get: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    done((|| {
        let context = current_in_any_state()?;
        let setting = Setting::of(get)?;
        // SAFETY: the caller passes a place and its size, or null.
        unsafe {
            value::answer(setting, value, size, || {
                lock(&context.coredump).get(setting)
            })
        }
    })())
}

pub(crate) unsafe fn cuCoredumpGetAttributeGlobal(
    get: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    done((|| {
        let setting = Setting::of(get)?;
        // SAFETY: the caller passes a place and its size, or null.
        unsafe { value::answer(setting, value, size, || lock(global()).get(setting)) }
    })())
}

/// # Safety
/// As for `cuCoredumpSetAttribute`.
unsafe fn set(
    settings: &Mutex<Settings>,
    setting: Setting,
    value: *const c_void,
    size: *mut usize,
) -> Result<(), CUresult> {
    // SAFETY: by contract.
    let Some(value) = (unsafe { value::given(setting, value, size) })? else {
        return Ok(());
    };
    let mut settings = lock(settings);
    let set = settings.set(setting, value);
    note(&settings);
    set.map_err(|error| match error {
        CUresult::NOT_SUPPORTED => no_user_trigger(),
        error => error,
    })
}

pub(crate) unsafe fn cuCoredumpSetAttribute(
    set_: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    done((|| {
        let context = current_in_any_state()?;
        let setting = Setting::of_context(set_)?;
        // SAFETY: the caller passes a value and its size, or null.
        unsafe { set(&context.coredump, setting, value, size) }
    })())
}

pub(crate) unsafe fn cuCoredumpSetAttributeGlobal(
    set_: CUcoredumpSettings,
    value: *mut c_void,
    size: *mut usize,
) -> CUresult {
    done((|| {
        let setting = Setting::of(set_)?;
        // SAFETY: the caller passes a value and its size, or null.
        unsafe { set(global(), setting, value, size) }
    })())
}

/// # Safety
/// `place` is null or a place for a handle.
unsafe fn register(
    moment: Moment,
    callback: CUcoredumpStatusCallback,
    data: *mut c_void,
    place: *mut CUcoredumpCallbackHandle,
) -> CUresult {
    let Some(function) = callback else {
        return CUresult::INVALID_VALUE;
    };
    let handle = unique_id() as usize;
    let added = CALLBACKS.add(moment, handle, function, data);
    if added.is_ok() {
        // SAFETY: by contract.
        unsafe { answer_if_asked(place, CUcoredumpCallbackHandle(handle)) };
    }
    done(added)
}

pub(crate) unsafe fn cuCoredumpRegisterStartCallback(
    callback: CUcoredumpStatusCallback,
    user_data: *mut c_void,
    callback_out: *mut CUcoredumpCallbackHandle,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle, or null.
    unsafe { register(Moment::Start, callback, user_data, callback_out) }
}

pub(crate) unsafe fn cuCoredumpRegisterCompleteCallback(
    callback: CUcoredumpStatusCallback,
    user_data: *mut c_void,
    callback_out: *mut CUcoredumpCallbackHandle,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle, or null.
    unsafe { register(Moment::Complete, callback, user_data, callback_out) }
}

pub(crate) unsafe fn cuCoredumpDeregisterStartCallback(
    callback: CUcoredumpCallbackHandle,
) -> CUresult {
    done(CALLBACKS.remove(Moment::Start, callback.0))
}

pub(crate) unsafe fn cuCoredumpDeregisterCompleteCallback(
    callback: CUcoredumpCallbackHandle,
) -> CUresult {
    done(CALLBACKS.remove(Moment::Complete, callback.0))
}
