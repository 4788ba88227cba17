//! Contexts: created and primary ones, the current one of each thread, limits.
//!
//! A context is looked up by its handle on every call; one that was destroyed while it was current answers
//! CONTEXT_IS_DESTROYED. A context whose kernel has faulted answers that fault to everything but the calls
//! that handle contexts themselves.
//!
//! # Safety
//!
//! The driver's functions write answers through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod fate;
mod object;
mod primary;

use core::ffi::{c_int, c_uint, c_ulonglong};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use driver_api::abi::{
    CUcontext, CUctxCreateParams, CUdevice, CUevent, CUexecAffinityParam, CUexecAffinityType,
    CUfunc_cache, CUlimit, CUresult, CUsharedconfig,
};

pub(crate) use fate::Fate;
pub(crate) use object::{
    Context, current, current_handle, current_in_any_state, pop, push, set_current, unique_id,
};
pub(crate) use primary::*;

use crate::entry::{answer, answer_if_asked, done};
use crate::event::{record_context, wait_context};
use crate::exec::Heap;
use crate::green;
use crate::state::{Driver, driver};
use crate::threads::lock;

/// The flags that exist: scheduling, mapped host memory, and newer ones that change nothing here.
const ALL_FLAGS: c_uint = 0xff;

/// The context of a handle; 0 is the current one.
pub(crate) fn find(context: CUcontext) -> Result<Arc<Context>, CUresult> {
    match context.0 {
        0 => current_in_any_state(),
        handle => driver()?
            .contexts
            .get(handle)
            .map_err(|_| CUresult::INVALID_CONTEXT),
    }
}

/// Whether a handle is that of some device's primary context, active or not.
fn is_primary(driver: &Driver, handle: usize) -> bool {
    driver
        .primaries
        .iter()
        .any(|primary| lock(primary).handle == handle)
}

/// A place among the driver's contexts for `context`, with what it needs.
fn create(flags: c_uint, device: CUdevice) -> Result<CUcontext, CUresult> {
    let driver = driver()?;
    let device = driver.device(device)?;
    if flags & !ALL_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    crate::coredump::check_flags(flags)?;
    let (handle, hostile) = (driver.contexts.reserve(), &driver.config.hostile);
    let context = Arc::new(Context::new(hostile, handle, device, flags, false));
    driver.contexts.insert(handle, context);
    push(handle)?;
    Ok(CUcontext(handle))
}

/// Ends a context: its work, then everything in it.
pub(crate) fn destroy(context: &Arc<Context>) -> Result<(), CUresult> {
    let driver = driver()?;
    // What went wrong in it ends with it.
    let _ = context.synchronize();
    driver_api::private_tables::context_destroyed(context.handle);
    driver
        .contexts
        .remove(context.handle)
        .map_err(|_| CUresult::INVALID_CONTEXT)?;
    context.fate.abort();
    let captured = context.captured();
    captured
        .iter()
        .for_each(|stream| crate::capture::stream_destroyed(stream));
    driver
        .streams
        .remove_if(|stream| Arc::ptr_eq(&stream.fate, &context.fate));
    driver
        .events
        .remove_if(|event| event.context == context.handle);
    crate::module::context_destroyed(driver, context.handle);
    driver.textures.forget_context(context.handle);
    let is_of = |reference: &crate::texture::Reference| reference.context == context.handle;
    driver.references.remove_if(is_of);
    crate::array::forget_context(driver, context.handle);
    driver.memory.free_all_of(driver, context.handle);
    driver.graph_memory.context_destroyed(context.handle);
    crate::pool::context_destroyed(driver, context.handle);
    green::context_destroyed(driver, context.handle);
    crate::peer::context_destroyed(driver, context.handle);
    crate::ipc::context_destroyed(driver, context.handle);
    Ok(())
}

pub(crate) unsafe fn cuCtxCreate_v2(
    pctx: *mut CUcontext,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    if pctx.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pctx, create(flags, dev)) }
}

pub(crate) unsafe fn cuCtxCreate_v3(
    pctx: *mut CUcontext,
    _params_array: *mut CUexecAffinityParam,
    num_params: c_int,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    if num_params != 0 {
        return CUresult::UNSUPPORTED_EXEC_AFFINITY;
    }
    // SAFETY: the caller's promises are the same.
    unsafe { cuCtxCreate_v2(pctx, flags, dev) }
}

pub(crate) unsafe fn cuCtxCreate_v4(
    pctx: *mut CUcontext,
    ctx_create_params: *mut CUctxCreateParams,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    if !ctx_create_params.is_null() {
        return CUresult::NOT_SUPPORTED;
    }
    // SAFETY: the caller's promises are the same.
    unsafe { cuCtxCreate_v2(pctx, flags, dev) }
}

pub(crate) unsafe fn cuCtxDestroy_v2(ctx: CUcontext) -> CUresult {
    let destroyed = || {
        let context = driver()?
            .contexts
            .get(ctx.0)
            .map_err(|_| CUresult::INVALID_CONTEXT)?;
        if context.is_primary {
            return Err(CUresult::INVALID_CONTEXT);
        }
        if current_handle() == ctx.0 {
            pop()?;
        }
        destroy(&context)
    };
    done(destroyed())
}

pub(crate) unsafe fn cuCtxAttach(pctx: *mut CUcontext, flags: c_uint) -> CUresult {
    let attach = || {
        let context = current()?;
        if flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        *lock(&context.attached) += 1;
        Ok(CUcontext(context.handle))
    };
    if pctx.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pctx, attach()) }
}

/// The end of an attachment, or without one of the context itself; only while it is current.
pub(crate) unsafe fn cuCtxDetach(ctx: CUcontext) -> CUresult {
    let detach = || {
        let found = driver()?.contexts.get(ctx.0);
        let context = found.map_err(|_| CUresult::INVALID_CONTEXT)?;
        if current_handle() != ctx.0 {
            return Err(CUresult::INVALID_CONTEXT);
        }
        let mut attached = lock(&context.attached);
        match attached.checked_sub(1) {
            Some(left) => *attached = left,
            None if context.is_primary => return Err(CUresult::INVALID_CONTEXT),
            None => {
                drop(attached);
                pop()?;
                destroy(&context)?;
            }
        }
        Ok(())
    };
    done(detach())
}

pub(crate) unsafe fn cuCtxPushCurrent_v2(ctx: CUcontext) -> CUresult {
    let known = || {
        driver()?
            .contexts
            .get(ctx.0)
            .map_err(|_| CUresult::INVALID_CONTEXT)
    };
    // A green context is another handle of the same.
    done(known().and_then(|_| push(ctx.0)))
}

pub(crate) unsafe fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) -> CUresult {
    let popped = driver().and_then(|_| pop());
    // SAFETY: the caller passes a place for a handle, or null.
    popped.map_or_else(
        |error| error,
        |handle| {
            // SAFETY: the caller passes a place for a handle, or null.
            unsafe { answer_if_asked(pctx, CUcontext(handle)) };
            CUresult::SUCCESS
        },
    )
}

pub(crate) unsafe fn cuCtxPushCurrent(ctx: CUcontext) -> CUresult {
    // SAFETY: the same function.
    unsafe { cuCtxPushCurrent_v2(ctx) }
}

pub(crate) unsafe fn cuCtxPopCurrent(pctx: *mut CUcontext) -> CUresult {
    // SAFETY: the same function.
    unsafe { cuCtxPopCurrent_v2(pctx) }
}

pub(crate) unsafe fn cuCtxSetCurrent(ctx: CUcontext) -> CUresult {
    let set = || {
        let driver = driver()?;
        // A primary context may become current before it is retained: cudart does so.
        if ctx.0 != 0 && !is_primary(driver, ctx.0) {
            driver
                .contexts
                .get(ctx.0)
                .map_err(|_| CUresult::INVALID_CONTEXT)?;
        }
        set_current(ctx.0);
        Ok(())
    };
    done(set())
}

pub(crate) unsafe fn cuCtxGetCurrent(pctx: *mut CUcontext) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pctx, driver().map(|_| CUcontext(current_handle()))) }
}

pub(crate) unsafe fn cuCtxGetDevice(device: *mut CUdevice) -> CUresult {
    let found = current_in_any_state().map(|context| context.device as CUdevice);
    // SAFETY: the caller passes a place for an ordinal.
    unsafe { answer(device, found) }
}

pub(crate) unsafe fn cuCtxGetDevice_v2(device: *mut CUdevice, ctx: CUcontext) -> CUresult {
    let found = find(ctx).map(|context| context.device as CUdevice);
    // SAFETY: the caller passes a place for an ordinal.
    unsafe { answer(device, found) }
}

pub(crate) unsafe fn cuCtxGetFlags(flags: *mut c_uint) -> CUresult {
    let found = current_in_any_state().map(|context| context.flags.load(Ordering::Relaxed));
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, found) }
}

pub(crate) unsafe fn cuCtxSetFlags(flags: c_uint) -> CUresult {
    if flags & !ALL_FLAGS != 0 {
        return CUresult::INVALID_VALUE;
    }
    done(current().map(|context| context.flags.store(flags, Ordering::Relaxed)))
}

pub(crate) unsafe fn cuCtxGetId(ctx: CUcontext, ctx_id: *mut c_ulonglong) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe {
        answer(
            ctx_id,
            find(ctx).map(|context| green::id_of(ctx, context.id)),
        )
    }
}

/// Waits for all of a context, or of the green one that it stands for.
fn synchronize(handle: CUcontext, context: &Context) -> Result<(), CUresult> {
    let green = green::of_context(handle);
    crate::capture::forbid_all(context, green)?;
    let result = context.synchronize_of(green);
    crate::pool::synchronised(driver()?);
    result
}

pub(crate) unsafe fn cuCtxSynchronize() -> CUresult {
    done(current().and_then(|context| synchronize(CUcontext(current_handle()), &context)))
}

pub(crate) unsafe fn cuCtxSynchronize_v2(ctx: CUcontext) -> CUresult {
    let handle = match ctx.0 {
        0 => CUcontext(current_handle()),
        _ => ctx,
    };
    done(find(ctx).and_then(|context| synchronize(handle, &context)))
}

/// Whether a context shares the device with a graphics interface: can be asked, and is not so here.
const CIG_ENABLED: CUlimit = 8;

/// Bytes of the heap of device-side `malloc`.
const MALLOC_HEAP_SIZE: CUlimit = 2;

/// Least and greatest value, and the default, of the limits that there are.
fn limit(limit: CUlimit) -> Result<(usize, usize, usize), CUresult> {
    const STACK_SIZE: CUlimit = 0;
    const PRINTF_FIFO_SIZE: CUlimit = 1;
    const MAX_L2_FETCH_GRANULARITY: CUlimit = 5;
    const PERSISTING_L2_CACHE_SIZE: CUlimit = 6;
    match limit {
        STACK_SIZE => Ok((256, 512 << 10, 1024)),
        PRINTF_FIFO_SIZE => Ok((0, 1 << 30, 1 << 20)),
        MALLOC_HEAP_SIZE => Ok((0, 4 << 30, 8 << 20)),
        MAX_L2_FETCH_GRANULARITY => Ok((0, 128, 64)),
        PERSISTING_L2_CACHE_SIZE | CIG_ENABLED => Ok((0, 0, 0)),
        _ => Err(CUresult::UNSUPPORTED_LIMIT),
    }
}

/// The heap of device-side `malloc`, made when first asked for.
pub(crate) fn heap_of(context: &Context) -> Result<Arc<Heap>, CUresult> {
    // Held, so that two threads do not make two.
    let limits = lock(&context.limits);
    if let Some(heap) = context.heap.get() {
        return Ok(Arc::clone(heap));
    }
    let (_, _, default) = limit(MALLOC_HEAP_SIZE)?;
    let size = limits.get(&MALLOC_HEAP_SIZE).copied().unwrap_or(default) as u64;
    let heap = if size == 0 {
        Heap::new(0..0)
    } else {
        let driver = driver()?;
        let start = driver.memory.allocate(driver, context, size)?;
        Heap::new(start..start + size)
    };
    Ok(Arc::clone(context.heap.get_or_init(|| Arc::new(heap))))
}

pub(crate) unsafe fn cuCtxGetLimit(pvalue: *mut usize, limit_: CUlimit) -> CUresult {
    let found = || {
        let context = current()?;
        let (_, _, default) = limit(limit_)?;
        let limits = lock(&context.limits);
        Ok(limits.get(&limit_).copied().unwrap_or(default))
    };
    // SAFETY: the caller passes a place for a size.
    unsafe { answer(pvalue, found()) }
}

pub(crate) unsafe fn cuCtxSetLimit(limit_: CUlimit, value: usize) -> CUresult {
    let set = || {
        let context = current()?;
        if limit_ == CIG_ENABLED {
            return Err(CUresult::UNSUPPORTED_LIMIT);
        }
        let (least, greatest, _) = limit(limit_)?;
        let mut limits = lock(&context.limits);
        // Once the heap is there, its size stays.
        if limit_ == MALLOC_HEAP_SIZE && context.heap.get().is_some() {
            return Err(CUresult::INVALID_VALUE);
        }
        limits.insert(limit_, value.clamp(least, greatest));
        Ok(())
    };
    done(set())
}

pub(crate) unsafe fn cuCtxGetCacheConfig(pconfig: *mut CUfunc_cache) -> CUresult {
    let found = current().map(|context| context.cache_config.load(Ordering::Relaxed));
    // SAFETY: the caller passes a place for a setting.
    unsafe { answer(pconfig, found) }
}

pub(crate) unsafe fn cuCtxSetCacheConfig(config: CUfunc_cache) -> CUresult {
    if config > 3 {
        return CUresult::INVALID_VALUE;
    }
    done(current().map(|context| context.cache_config.store(config, Ordering::Relaxed)))
}

pub(crate) unsafe fn cuCtxGetSharedMemConfig(config: *mut CUsharedconfig) -> CUresult {
    const FOUR_BYTE_BANKS: CUsharedconfig = 1;
    // SAFETY: the caller passes a place for a setting.
    unsafe { answer(config, current().map(|_| FOUR_BYTE_BANKS)) }
}

pub(crate) unsafe fn cuCtxSetSharedMemConfig(config: CUsharedconfig) -> CUresult {
    // A hint: the banks of this device have no width.
    if config > 2 {
        CUresult::INVALID_VALUE
    } else {
        done(current().map(drop))
    }
}

pub(crate) unsafe fn cuCtxGetApiVersion(ctx: CUcontext, version: *mut c_uint) -> CUresult {
    const API_VERSION: c_uint = 3020;
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(version, find(ctx).map(|_| API_VERSION)) }
}

/// Numerically least is most urgent.
pub(crate) const GREATEST_PRIORITY: c_int = -5;

pub(crate) unsafe fn cuCtxGetStreamPriorityRange(
    least_priority: *mut c_int,
    greatest_priority: *mut c_int,
) -> CUresult {
    match current() {
        Err(error) => error,
        Ok(_) => {
            // SAFETY: the caller passes places for numbers, or null.
            unsafe {
                answer_if_asked(least_priority, 0);
                answer_if_asked(greatest_priority, GREATEST_PRIORITY);
            }
            CUresult::SUCCESS
        }
    }
}

/// The context of a handle, for what is done in it.
fn usable(context: CUcontext) -> Result<Arc<Context>, CUresult> {
    let found = driver()?.contexts.get(context.0);
    let context = found.map_err(|_| CUresult::INVALID_CONTEXT)?;
    context.fate.status()?;
    Ok(context)
}

pub(crate) unsafe fn cuCtxRecordEvent(ctx: CUcontext, event: CUevent) -> CUresult {
    let green = green::of_context(ctx);
    done(usable(ctx).and_then(|context| record_context(&context, green, event)))
}

pub(crate) unsafe fn cuCtxWaitEvent(ctx: CUcontext, event: CUevent) -> CUresult {
    let green = green::of_context(ctx);
    done(usable(ctx).and_then(|context| wait_context(&context, green, event)))
}

/// No context is limited to a part of its device by this.
pub(crate) unsafe fn cuCtxGetExecAffinity(
    exec_affinity: *mut CUexecAffinityParam,
    kind: CUexecAffinityType,
) -> CUresult {
    const SM_COUNT: CUexecAffinityType = 0;
    let none = current().and(Err(match kind {
        SM_COUNT => CUresult::UNSUPPORTED_EXEC_AFFINITY,
        _ => CUresult::INVALID_VALUE,
    }));
    // SAFETY: the caller passes a place for an affinity.
    unsafe { answer(exec_affinity, none) }
}

pub(crate) unsafe fn cuCtxResetPersistingL2Cache() -> CUresult {
    // There is no such cache to reset.
    done(current().map(drop))
}

pub(crate) unsafe fn cuCtxEnablePeerAccess(peer_context: CUcontext, flags: c_uint) -> CUresult {
    done(crate::peer::enable(peer_context, flags))
}

pub(crate) unsafe fn cuCtxDisablePeerAccess(peer_context: CUcontext) -> CUresult {
    done(crate::peer::disable(peer_context))
}
