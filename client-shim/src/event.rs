//! Events: a place in a stream, remembered as the mark that was posted with it.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{CUevent, CUresult, CUstream};
use driver_api::id::EventId;
use driver_api::wire::request::{
    CuEventCreate, GpurunEventDestroy, GpurunEventElapsed, GpurunEventRecord,
};

use crate::entry::code;
use crate::handles::Handle;
use crate::link::Placed;
use crate::log;
use crate::memory::out;
use crate::session;
use crate::stream::{self, Stream};

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;
/// `CU_EVENT_INTERPROCESS`.
const INTERPROCESS: c_uint = 4;
/// Blocking sync, disable timing, interprocess.
const ALL_FLAGS: c_uint = 7;

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: u32,
    context: u32,
    flags: c_uint,
    recorded: Mutex<Option<(Arc<Stream>, u64)>>,
}

impl Event {
    /// The place that was recorded last.
    fn place(&self) -> Option<(Arc<Stream>, u64)> {
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.place().is_some()
    }
}

/// The event of a handle.
pub(crate) fn of(handle: CUevent) -> Result<Arc<Event>, CUresult> {
    let session = session::get()?;
    let event = handle
        .undress()
        .and_then(|id| session.objects.events.get(id));
    event.ok_or(CUresult::INVALID_HANDLE)
}

pub(crate) unsafe fn cuEventCreate(event: *mut CUevent, flags: c_uint) -> CUresult {
    code((|| {
        let place = out(event)?;
        if flags & !ALL_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if flags & INTERPROCESS != 0 {
            log::warn_once(
                "CU_EVENT_INTERPROCESS",
                format_args!("cuEventCreate: events cannot be shared between processes yet"),
            );
            return Err(CUresult::NOT_SUPPORTED);
        }
        let (session, context) = session::current()?;
        let made = session.objects.events.insert_with(|id| Event {
            id,
            context: context.id,
            flags,
            recorded: Mutex::new(None),
        });
        session.post_in(
            context.id,
            |_| CuEventCreate::new(EventId(made.id), flags),
            &[],
        )?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUevent::dress(made.id)) };
        Ok(())
    })())
}

fn destroy(handle: CUevent) -> Result<(), CUresult> {
    let session = session::get()?;
    let event = of(handle)?;
    session
        .objects
        .events
        .remove(event.id)
        .ok_or(CUresult::INVALID_HANDLE)?;
    session.post_in(
        event.context,
        |_| GpurunEventDestroy::new(EventId(event.id)),
        &[],
    )
}

pub(crate) unsafe fn cuEventDestroy(event: CUevent) -> CUresult {
    code(destroy(event))
}

pub(crate) unsafe fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    code(destroy(event))
}

fn record(event: CUevent, stream: CUstream, flags: c_uint) -> Result<(), CUresult> {
    // CU_EVENT_RECORD_EXTERNAL means something only while capturing.
    if flags > 1 {
        return Err(CUresult::INVALID_VALUE);
    }
    let (session, context) = session::current()?;
    let stream = stream::resolve_in(session, &context, stream)?;
    let event = of(event)?;
    if event.context != stream.context {
        return Err(CUresult::INVALID_HANDLE);
    }
    stream.fault.check()?;
    // The record, and the mark behind it.
    stream.admit(session, 2)?;
    let mut recorded = event
        .recorded
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut mark = 0;
    let place = |placed: Placed| {
        stream.put(placed, 1);
        mark = stream.next_mark(placed);
        GpurunEventRecord::new(EventId(event.id), stream.wire_id(), flags, mark)
    };
    session.post_in(stream.context, place, &[])?;
    *recorded = Some((Arc::clone(&stream), mark));
    Ok(())
}

pub(crate) unsafe fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult {
    code(record(event, stream, 0))
}

pub(crate) unsafe fn cuEventRecordWithFlags(
    event: CUevent,
    stream: CUstream,
    flags: c_uint,
) -> CUresult {
    code(record(event, stream, flags))
}

pub(crate) unsafe fn cuEventQuery(event: CUevent) -> CUresult {
    code((|| match of(event)?.place() {
        None => Ok(()),
        Some((stream, mark)) => stream::query(session::get()?, &stream, mark),
    })())
}

pub(crate) unsafe fn cuEventSynchronize(event: CUevent) -> CUresult {
    code((|| {
        let Some((stream, mark)) = of(event)?.place() else {
            return Ok(());
        };
        if !stream.has_reached(mark) {
            session::get()?.wait_until(|| stream.has_reached(mark))?;
        }
        stream.fault.check()?;
        let session = session::get()?;
        session.objects.stream_ordered.settle(session)
    })())
}

/// Asked, because the clock is the device's; what can be wrong is checked here.
fn elapsed(milliseconds: *mut f32, start: CUevent, end: CUevent) -> Result<(), CUresult> {
    let place = out(milliseconds)?;
    let session = session::get()?;
    let (start, end) = (of(start)?, of(end)?);
    for event in [&start, &end] {
        let recorded = event.place();
        let (true, Some((stream, mark))) = (event.flags & DISABLE_TIMING == 0, recorded) else {
            return Err(CUresult::INVALID_HANDLE);
        };
        stream::query(session, &stream, mark)?;
    }
    let request = GpurunEventElapsed::new(EventId(start.id), EventId(end.id));
    let reply = session.ask_in(start.context, &request, &[])?;
    // SAFETY: checked by `out`.
    unsafe { place.write(reply.milliseconds()) };
    Ok(())
}

pub(crate) unsafe fn cuEventElapsedTime(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    code(elapsed(milliseconds, start, end))
}

pub(crate) unsafe fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    code(elapsed(milliseconds, start, end))
}
