//! The primary context of each device: one for all libraries of a process, counted.
//!
//! ```text
//! inactive ──first Retain──▶ active ──last Release, or Reset──▶ inactive
//! ```
//!
//! Its handle stays the same through all of that, and is known before the context exists.
//!
//! # Safety
//!
//! Answers are written through pointers that the caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint};
use std::sync::{Arc, MutexGuard};

use driver_api::abi::{CUcontext, CUdevice, CUresult};

use super::{ALL_FLAGS, Context, destroy};
use crate::entry::{answer, answer_if_asked, done};
use crate::state::driver;
use crate::threads::lock;

/// What is known of a device's primary context.
#[derive(Debug)]
pub(crate) struct Primary {
    pub(crate) handle: usize,
    flags: c_uint,
    retained: usize,
    context: Option<Arc<Context>>,
}

impl Primary {
    pub(crate) fn new(handle: usize) -> Self {
        Self {
            handle,
            flags: 0,
            retained: 0,
            context: None,
        }
    }
}

fn primary(device: CUdevice) -> Result<MutexGuard<'static, Primary>, CUresult> {
    let driver = driver()?;
    let device = driver.device(device)?;
    Ok(lock(&driver.primaries[device]))
}

pub(crate) fn retain(device: CUdevice) -> Result<CUcontext, CUresult> {
    let driver = driver()?;
    let mut primary = primary(device)?;
    if primary.context.is_none() {
        let index = driver.device(device)?;
        let hostile = &driver.config.hostile;
        let context = Context::new(hostile, primary.handle, index, primary.flags, true);
        let context = Arc::new(context);
        driver.contexts.insert(primary.handle, Arc::clone(&context));
        primary.context = Some(context);
    }
    primary.retained += 1;
    Ok(CUcontext(primary.handle))
}

/// The current context; without one the first device's primary context, which stays then.
pub(crate) fn current_or_primary() -> Result<Arc<Context>, CUresult> {
    match super::current() {
        Err(CUresult::INVALID_CONTEXT) => {
            if primary(0)?.context.is_none() {
                retain(0)?;
            }
            let context = primary(0)?.context.clone();
            context.ok_or(CUresult::INVALID_CONTEXT)
        }
        current => current,
    }
}

pub(crate) fn release(device: CUdevice) -> Result<(), CUresult> {
    let mut primary = primary(device)?;
    primary.retained = primary
        .retained
        .checked_sub(1)
        .ok_or(CUresult::INVALID_CONTEXT)?;
    let ended = if primary.retained == 0 {
        primary.context.take()
    } else {
        None
    };
    // Destructors of context-local storage may call back.
    drop(primary);
    ended.map_or(Ok(()), |context| destroy(&context))
}

/// Destroys what is in the context, whoever holds it; it comes back with the next retain.
fn reset(device: CUdevice) -> Result<(), CUresult> {
    let mut primary = primary(device)?;
    primary.retained = 0;
    let ended = primary.context.take();
    drop(primary);
    ended.map_or(Ok(()), |context| destroy(&context))
}

pub(crate) unsafe fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) -> CUresult {
    if pctx.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pctx, retain(dev)) }
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> CUresult {
    done(release(dev))
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease(dev: CUdevice) -> CUresult {
    done(release(dev))
}

pub(crate) unsafe fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> CUresult {
    done(reset(dev))
}

pub(crate) unsafe fn cuDevicePrimaryCtxReset(dev: CUdevice) -> CUresult {
    done(reset(dev))
}

fn set_flags(device: CUdevice, flags: c_uint) -> Result<(), CUresult> {
    let mut primary = primary(device)?;
    if flags & !ALL_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    crate::coredump::check_flags(flags)?;
    primary.flags = flags;
    if let Some(context) = &primary.context {
        context
            .flags
            .store(flags, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(())
}

pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint) -> CUresult {
    done(set_flags(dev, flags))
}

pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags(dev: CUdevice, flags: c_uint) -> CUresult {
    done(set_flags(dev, flags))
}

pub(crate) unsafe fn cuDevicePrimaryCtxGetState(
    dev: CUdevice,
    flags: *mut c_uint,
    active: *mut c_int,
) -> CUresult {
    match primary(dev) {
        Err(error) => error,
        Ok(primary) => {
            // SAFETY: the caller passes places for two numbers, or null.
            unsafe {
                answer_if_asked(flags, primary.flags);
                answer_if_asked(active, c_int::from(primary.context.is_some()));
            }
            CUresult::SUCCESS
        }
    }
}

/// The handle of a device's primary context, active or not.
pub(crate) fn primary_handle(device: CUdevice) -> Result<usize, CUresult> {
    primary(device).map(|primary| primary.handle)
}
