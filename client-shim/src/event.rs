//! Events: a place in a stream, remembered as the mark that was posted with it.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driver_api::abi::{CUevent, CUresult, CUstream};
use driver_api::id::EventId;
use driver_api::wire::reply;
use driver_api::wire::request::{
    CuEventCreate, CuStreamWaitEvent, GpurunEventDestroy, GpurunEventElapsed, GpurunEventRecord,
    GpurunIpcEvent, GpurunIpcEventInStream,
};

use crate::capture::{self, Place};
use crate::entry::code;
use crate::graph::Operation;
use crate::handles::Handle;
use crate::link::Placed;
use crate::memory::out;
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// `CU_EVENT_RECORD_EXTERNAL`, and `CU_EVENT_WAIT_EXTERNAL`: a node while capturing, nothing else.
pub(crate) const EXTERNAL: c_uint = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;
/// `CU_EVENT_INTERPROCESS`.
const INTERPROCESS: c_uint = 4;
/// Blocking sync, disable timing, interprocess.
const ALL_FLAGS: c_uint = 7;

/// What is asked of a shared event, and what a stream does with one: `gpurunIpcEvent`, `gpurunIpcEventInStream`.
const CREATE: u32 = 0;
const EXPORT: u32 = 1;
const OPEN: u32 = 2;
const QUERY: u32 = 3;
const WAIT: u32 = 4;
const DESTROY: u32 = 5;
const RECORD: u32 = 0;
const WAIT_IN_STREAM: u32 = 1;
/// How long one waits before one asks again for a record.
const AGAIN: Duration = Duration::from_millis(1);

/// Of no other session.
const NOBODY: (u64, [u64; 2]) = (0, [0; 2]);

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: u32,
    context: u32,
    flags: c_uint,
    recorded: Mutex<Option<(Arc<Stream>, u64)>>,
    /// Where in a capture it was recorded, if that was last.
    captured: Mutex<Option<Place>>,
    /// The program has ended it; a graph may still name it.
    is_destroyed: AtomicBool,
}

impl Event {
    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    fn new(id: u32, context: u32, flags: c_uint) -> Self {
        Self {
            id,
            context,
            flags,
            recorded: Mutex::default(),
            captured: Mutex::default(),
            is_destroyed: AtomicBool::new(false),
        }
    }

    /// The place that was recorded last.
    pub(crate) fn place(&self) -> Option<(Arc<Stream>, u64)> {
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// An error where the server has it no more.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        match self.is_destroyed.load(SeqCst) {
            true => Err(CUresult::INVALID_HANDLE),
            false => Ok(()),
        }
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.is_shared() || self.place().is_some()
    }

    /// Whether other processes may open it: then the worker keeps it in memory that they share, and it is asked for everything.
    pub(crate) fn is_shared(&self) -> bool {
        self.flags & INTERPROCESS != 0
    }

    /// Asked: what it says to other processes counts when the call returns.
    fn in_stream(
        &self,
        session: &Session,
        stream: &Stream,
        operation: u32,
    ) -> Result<(), CUresult> {
        self.check()?;
        let request = GpurunIpcEventInStream::new(self.id, stream.wire_id(), operation);
        session.ask_work(stream, &request, &[])
    }

    /// Makes, opens or asks a shared event.
    fn ask(
        &self,
        session: &Session,
        operation: u32,
        (lender, [low, high]): (u64, [u64; 2]),
    ) -> Result<reply::GpurunIpcEvent, CUresult> {
        let request = GpurunIpcEvent::new(self.id, operation, lender, low, high);
        session.ask_in(self.context, &request, &[])
    }

    /// What its context has come to: a fault is told before the answer that it has ended a wait.
    fn check_fault(&self, session: &Session) -> Result<(), CUresult> {
        let context = session.objects.contexts.get(self.context);
        context.map_or(Ok(()), |context| context.fault.check())
    }

    /// By which session's number and key other processes open it.
    pub(crate) fn export(&self, session: &Session) -> Result<(u64, [u64; 2]), CUresult> {
        self.check()?;
        let reply = self.ask(session, EXPORT, NOBODY)?;
        Ok((reply.own(), [reply.own_low(), reply.own_high()]))
    }

    /// Where in a capture it was recorded, if that was last.
    pub(crate) fn captured(&self) -> Option<Place> {
        self.captured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_captured(&self, place: Option<Place>) {
        *self.captured.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Records it at a stream's present end.
    pub(crate) fn record(
        &self,
        session: &Session,
        stream: &Arc<Stream>,
        flags: c_uint,
    ) -> Result<(), CUresult> {
        if self.context != stream.context {
            return Err(CUresult::INVALID_HANDLE);
        }
        if self.is_shared() {
            // So many of its records are under way that there is no place for one more: the driver waits here as well.
            while let Err(error) = self.in_stream(session, stream, RECORD) {
                match error {
                    CUresult::NOT_READY => std::thread::sleep(AGAIN),
                    error => return Err(error),
                }
            }
            self.set_captured(None);
            return Ok(());
        }
        stream.fault.check()?;
        // The record, and the mark behind it.
        stream.admit(session, 2)?;
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mark = None;
        let place = |placed: Placed| {
            stream.takes_more().then(|| {
                stream.put(placed, 1);
                let behind = *mark.insert(stream.next_mark(placed));
                GpurunEventRecord::new(EventId(self.id), stream.wire_id(), flags, behind)
            })
        };
        session.post_if(stream.context, place, &[])?;
        let mark = mark.ok_or(CUresult::INVALID_HANDLE)?;
        *recorded = Some((Arc::clone(stream), mark));
        self.set_captured(None);
        Ok(())
    }

    /// Lets a stream wait for the place that was recorded last, if there is one.
    pub(crate) fn wait_in(
        &self,
        session: &Session,
        stream: &Stream,
        flags: c_uint,
    ) -> Result<(), CUresult> {
        if self.is_shared() {
            return self.in_stream(session, stream, WAIT_IN_STREAM);
        }
        if self.is_recorded() {
            let request = CuStreamWaitEvent::new(stream.wire_id(), EventId(self.id), flags);
            session.post_work(stream, &request, &[])?;
        }
        Ok(())
    }

    /// An event of ours, which the program does not see.
    pub(crate) fn private(session: &Session, context: u32) -> Result<Arc<Self>, CUresult> {
        make(session, context, DISABLE_TIMING)
    }
}

/// Another process's event, in a context.
pub(crate) fn open(
    session: &Session,
    context: u32,
    from: (u64, [u64; 2]),
) -> Result<CUevent, CUresult> {
    let opened = make_shared(session, context, INTERPROCESS | DISABLE_TIMING, OPEN, from)?;
    Ok(CUevent::dress(opened.id))
}

fn make_shared(
    session: &Session,
    context: u32,
    flags: c_uint,
    operation: u32,
    from: (u64, [u64; 2]),
) -> Result<Arc<Event>, CUresult> {
    let made = session
        .objects
        .events
        .insert_with(|id| Event::new(id, context, flags));
    if let Err(error) = made.ask(session, operation, from) {
        session.objects.events.remove(made.id);
        return Err(error);
    }
    Ok(made)
}

/// The event of a handle.
pub(crate) fn of(handle: CUevent) -> Result<Arc<Event>, CUresult> {
    let session = session::get()?;
    let event = handle
        .undress()
        .and_then(|id| session.objects.events.get(id));
    event.ok_or(CUresult::INVALID_HANDLE)
}

fn make(session: &Session, context: u32, flags: c_uint) -> Result<Arc<Event>, CUresult> {
    if flags & INTERPROCESS != 0 {
        return make_shared(session, context, flags, CREATE, NOBODY);
    }
    let made = session
        .objects
        .events
        .insert_with(|id| Event::new(id, context, flags));
    session.post_in(
        context,
        |_| CuEventCreate::new(EventId(made.id), flags),
        &[],
    )?;
    Ok(made)
}

pub(crate) unsafe fn cuEventCreate(event: *mut CUevent, flags: c_uint) -> CUresult {
    code((|| {
        let place = out(event)?;
        if flags & !ALL_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        // As the driver documents it: who shares an event does not time it.
        if flags & (INTERPROCESS | DISABLE_TIMING) == INTERPROCESS {
            return Err(CUresult::INVALID_VALUE);
        }
        let (session, context) = session::current()?;
        let made = make(session, context.id, flags)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUevent::dress(made.id)) };
        Ok(())
    })())
}

/// The end of an event.
pub(crate) fn end(session: &Session, event: &Event) -> Result<(), CUresult> {
    session
        .objects
        .events
        .remove(event.id)
        .ok_or(CUresult::INVALID_HANDLE)?;
    event.is_destroyed.store(true, SeqCst);
    let context = session.objects.contexts.get(event.context);
    if !context.is_some_and(|context| context.is_active()) {
        // It went with its context.
        return Ok(());
    }
    if event.is_shared() {
        return event.ask(session, DESTROY, NOBODY).map(drop);
    }
    session.post_in(
        event.context,
        |_| GpurunEventDestroy::new(EventId(event.id)),
        &[],
    )
}

fn destroy(handle: CUevent) -> Result<(), CUresult> {
    end(session::get()?, &*of(handle)?)
}

pub(crate) unsafe fn cuEventDestroy(event: CUevent) -> CUresult {
    code(destroy(event))
}

pub(crate) unsafe fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    code(destroy(event))
}

fn record(event: CUevent, stream: CUstream, flags: c_uint) -> Result<(), CUresult> {
    if flags > EXTERNAL {
        return Err(CUresult::INVALID_VALUE);
    }
    let (session, context) = session::current()?;
    let stream = stream::resolve_any(session, &context, stream)?;
    let event = of(event)?;
    if event.context != stream.context {
        return Err(CUresult::INVALID_HANDLE);
    }
    if capture::is_captured(session, &stream)? {
        if flags == EXTERNAL {
            return capture::add(&stream, Operation::Record(event));
        }
        event.set_captured(Some(capture::place_of(&stream)?));
        return Ok(());
    }
    event.record(session, &stream, flags)
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

/// What was recorded in a capture is no place that a stream comes to.
fn check_not_captured(event: &Event) -> Result<(), CUresult> {
    match event.captured() {
        None => Ok(()),
        Some(_) => Err(CUresult::CAPTURED_EVENT),
    }
}

pub(crate) unsafe fn cuEventQuery(event: CUevent) -> CUresult {
    code((|| {
        let event = of(event)?;
        check_not_captured(&event)?;
        capture::forbid_unsafe()?;
        if event.is_shared() {
            let session = session::get()?;
            let reply = event.ask(session, QUERY, NOBODY)?;
            event.check_fault(session)?;
            return match reply.is_reached() {
                0 => Err(CUresult::NOT_READY),
                _ => session.objects.memory.mapped.after_wait(session),
            };
        }
        match event.place() {
            None => Ok(()),
            Some((stream, mark)) => stream::query(session::get()?, &stream, mark),
        }
    })())
}

pub(crate) unsafe fn cuEventSynchronize(event: CUevent) -> CUresult {
    code((|| {
        let event = of(event)?;
        check_not_captured(&event)?;
        capture::forbid_unsafe()?;
        if event.is_shared() {
            let session = session::get()?;
            event.ask(session, WAIT, NOBODY)?;
            event.check_fault(session)?;
            session.objects.memory.mapped.after_wait(session)?;
            return session.objects.stream_ordered.settle(session);
        }
        let Some((stream, mark)) = event.place() else {
            return Ok(());
        };
        if !stream.has_reached(mark) {
            session::get()?.wait_until(|| stream.has_reached(mark))?;
        }
        stream.fault.check()?;
        let session = session::get()?;
        session.objects.memory.mapped.after_wait(session)?;
        session.objects.stream_ordered.settle(session)
    })())
}

/// Asked, because the clock is the device's; what can be wrong is checked here.
fn elapsed(milliseconds: *mut f32, start: CUevent, end: CUevent) -> Result<(), CUresult> {
    let place = out(milliseconds)?;
    let session = session::get()?;
    let (start, end) = (of(start)?, of(end)?);
    for event in [&start, &end] {
        check_not_captured(event)?;
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
