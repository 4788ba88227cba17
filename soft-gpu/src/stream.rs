//! Streams: making, waiting, asking, and operations that are not copies or launches.
//!
//! # Safety
//!
//! The driver's functions write answers through pointers that their caller passed; see [`crate::entry`]. Functions that the
//! program gives to be called are called with the argument that it gave.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod attributes;
mod operation;
mod queue;
mod values;

use core::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::Arc;

use driver_api::abi::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUgreenCtx, CUresult, CUstream, CUstreamCallback,
};

pub(crate) use attributes::*;
pub(crate) use operation::Operation;
pub(crate) use queue::{Point, Role, Stream, Work, own_multiprocessors};
pub(crate) use values::*;

use crate::capture;
use crate::context::{Context, GREATEST_PRIORITY, current, current_in_any_state, unique_id};
use crate::entry::{answer, answer_if_asked, done, in_host_function};
use crate::green;
use crate::log::warn_once;
use crate::state::driver;

/// A pointer of the program's that an operation carries to the thread that runs it.
pub(crate) struct UserPointer(pub(crate) *mut c_void);

// SAFETY: the driver only hands it back to the program, which gave it for that purpose.
unsafe impl Send for UserPointer {}

/// `CU_STREAM_NON_BLOCKING`.
pub(crate) const NON_BLOCKING: c_uint = 1;

/// The current context and the stream that a handle means in it.
pub(crate) fn find(stream: CUstream) -> Result<(Arc<Context>, Arc<Stream>), CUresult> {
    let context = current()?;
    let stream = context.stream(stream)?;
    // A stream of another context belongs to that one's order.
    if Arc::ptr_eq(&stream.fate, &context.fate) {
        return Ok((context, stream));
    }
    let owner = owner(&stream)?;
    Ok((owner, stream))
}

fn owner(stream: &Stream) -> Result<Arc<Context>, CUresult> {
    let contexts = driver()?.contexts.all();
    contexts
        .into_iter()
        .find(|context| Arc::ptr_eq(&context.fate, &stream.fate))
        .ok_or(CUresult::CONTEXT_IS_DESTROYED)
}

fn create(flags: c_uint, priority: c_int) -> Result<CUstream, CUresult> {
    if flags > 1 {
        return Err(CUresult::INVALID_VALUE);
    }
    let context = current()?;
    match green::current() {
        None => Ok(CUstream(make(&context, None, flags, priority)?.handle)),
        Some(green) if flags == NON_BLOCKING => green.make_stream(priority),
        Some(_) => {
            warn_once("streams of a green context must be non-blocking");
            Err(CUresult::NOT_SUPPORTED)
        }
    }
}

/// A stream of a context, or of a green one: its handle and its multiprocessors.
pub(crate) fn make(
    context: &Context,
    green: Option<(usize, &'static [u32])>,
    flags: c_uint,
    priority: c_int,
) -> Result<Arc<Stream>, CUresult> {
    let driver = driver()?;
    let handle = driver.streams.reserve();
    let stream = Stream::new(
        (handle, unique_id()),
        Role::Created,
        (flags, priority.clamp(GREATEST_PRIORITY, 0)),
        Arc::clone(&context.fate),
        &driver.config.hostile,
    );
    let stream = Arc::new(match green {
        Some((green, multiprocessors)) => stream.in_green(green, multiprocessors),
        None => stream,
    });
    driver.streams.insert(handle, Arc::clone(&stream));
    context.admit(Arc::clone(&stream));
    Ok(stream)
}

pub(crate) unsafe fn cuStreamCreate(stream: *mut CUstream, flags: c_uint) -> CUresult {
    if stream.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(stream, create(flags, 0)) }
}

pub(crate) unsafe fn cuStreamCreateWithPriority(
    stream: *mut CUstream,
    flags: c_uint,
    priority: c_int,
) -> CUresult {
    if stream.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(stream, create(flags, priority)) }
}

pub(crate) unsafe fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    let destroy = || {
        let stream = driver()?.streams.remove(stream.0)?;
        capture::stream_destroyed(&stream);
        // Its executor holds it until what was posted is done; only then may the context forget it.
        let context = owner(&stream)?;
        let point = stream.latest();
        if point.is_done() {
            context.disown(&stream);
        } else {
            let role = Arc::clone(&stream);
            let weak = Arc::downgrade(&context);
            stream.post(
                Vec::new(),
                Box::new(move |_| {
                    if let Some(context) = weak.upgrade() {
                        context.disown(&role);
                    }
                    Ok(())
                }),
            );
        }
        Ok(())
    };
    done(destroy())
}

pub(crate) unsafe fn cuStreamQuery(stream: CUstream) -> CUresult {
    let ready = || {
        let (context, stream) = find(stream)?;
        capture::forbid(&context, &stream)?;
        if context.points_of(&stream).iter().all(Point::is_done) {
            crate::output::flush(&context.fate);
            context.fate.status()
        } else {
            Err(CUresult::NOT_READY)
        }
    };
    done(ready())
}

pub(crate) unsafe fn cuStreamSynchronize(stream: CUstream) -> CUresult {
    done(find(stream).and_then(|(context, stream)| {
        capture::forbid(&context, &stream)?;
        let result = context.synchronize_stream(&stream);
        crate::pool::synchronised(driver()?);
        result
    }))
}

pub(crate) unsafe fn cuStreamWaitEvent(
    stream: CUstream,
    event: CUevent,
    flags: c_uint,
) -> CUresult {
    let wait = || {
        let (context, stream) = find(stream)?;
        // 1 asks for an external node of a graph being captured.
        if flags > 1 {
            return Err(CUresult::INVALID_VALUE);
        }
        let handle = event.0;
        let driver = driver()?;
        let event = driver.events.get(handle)?;
        if capture::wait(&context, &stream, (&event, handle), flags == 1)? {
            return Ok(());
        }
        if let Some(shared) = event.shared.clone() {
            let (record, fate) = (shared.recorded(), Arc::clone(&stream.fate));
            let wait = move |_| {
                shared.wait(&driver.segment, record, || fate.is_over());
                Ok(())
            };
            context.post_always(&stream, Vec::new(), Box::new(wait));
        } else if let Some(point) = event.point().filter(|point| !point.is_done()) {
            context.post_always(&stream, vec![point], Box::new(|_| Ok(())));
        }
        Ok(())
    };
    done(wait())
}

pub(crate) unsafe fn cuStreamGetFlags(stream: CUstream, flags: *mut c_uint) -> CUresult {
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, find(stream).map(|(_, stream)| stream.flags)) }
}

pub(crate) unsafe fn cuStreamGetPriority(stream: CUstream, priority: *mut c_int) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe {
        answer(
            priority,
            find(stream).map(|(_, stream)| stream.attributes.priority()),
        )
    }
}

pub(crate) unsafe fn cuStreamGetId(stream: CUstream, stream_id: *mut c_ulonglong) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(stream_id, find(stream).map(|(_, stream)| stream.id)) }
}

pub(crate) unsafe fn cuStreamGetCtx(stream: CUstream, pctx: *mut CUcontext) -> CUresult {
    let found = find(stream).map(|(context, _)| CUcontext(context.handle));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(pctx, found) }
}

pub(crate) unsafe fn cuStreamGetCtx_v2(
    stream: CUstream,
    pctx: *mut CUcontext,
    green_ctx: *mut CUgreenCtx,
) -> CUresult {
    let green = find(stream).map_or(0, |(_, stream)| stream.green);
    // SAFETY: the caller passes places for two handles, or null.
    unsafe {
        answer_if_asked(green_ctx, CUgreenCtx(green));
        cuStreamGetCtx(stream, pctx)
    }
}

pub(crate) unsafe fn cuStreamGetDevice(stream: CUstream, device: *mut CUdevice) -> CUresult {
    let found = find(stream).map(|(context, _)| context.device as CUdevice);
    // SAFETY: the caller passes a place for an ordinal.
    unsafe { answer(device, found) }
}

pub(crate) unsafe fn cuStreamAddCallback(
    stream: CUstream,
    callback: CUstreamCallback,
    user_data: *mut c_void,
    flags: c_uint,
) -> CUresult {
    let handle = stream;
    let add = || {
        let callback = callback
            .filter(|_| flags == 0)
            .ok_or(CUresult::INVALID_VALUE)?;
        let (context, stream) = find(stream)?;
        capture::forbid(&context, &stream)?;
        let user_data = UserPointer(user_data);
        let work: Work = Box::new(move |status| {
            let UserPointer(user_data) = { user_data };
            let code = done(status);
            // SAFETY: the program gave function and argument for this call.
            in_host_function(|| unsafe { callback(handle, code, user_data) });
            Ok(())
        });
        context.post_always(&stream, Vec::new(), work);
        Ok(())
    };
    done(add())
}

pub(crate) unsafe fn cuStreamAttachMemAsync(
    stream: CUstream,
    dptr: CUdeviceptr,
    length: usize,
    flags: c_uint,
) -> CUresult {
    done(crate::managed::attach(stream, dptr, length, flags))
}

/// For the private tables: a stream's id in any state of its context.
pub(crate) fn id_of(stream: CUstream) -> Result<u64, CUresult> {
    Ok(current_in_any_state()?.stream(stream)?.id)
}
