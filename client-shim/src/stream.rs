//! Streams, and waiting for them.
//!
//! A stream counts marks. A mark is posted at its place in the order; the worker makes the stream itself write it, and pushes it when it has
//! been written. So a wait for a stream is: if work was posted after the last mark, post a mark; flush; wait until the
//! pushed marks have reached it. A query looks at what has been pushed. Neither asks anybody.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod attributes;
mod room;
mod values;

use core::ffi::{c_int, c_uint, c_void};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUgreenCtx, CUresult, CUstream, CUstreamCallback,
};
use driver_api::id::StreamId;
use driver_api::per_thread::{self, PER_THREAD};
use driver_api::wire::Request;
use driver_api::wire::request::{
    GpurunGreenStreamCreate, GpurunMark, GpurunStreamCreate, GpurunStreamDestroy,
};

use crate::capture::{self, Captured};
use crate::context::{Context, Meeting};
use crate::entry::code;
use crate::event;
use crate::green::{self, Green};
use crate::handles::Handle;
use crate::launch;
use crate::link::Placed;
use crate::log;
use crate::managed;
use crate::memory::out;
use crate::objects::{Fault, unique};
use crate::session::{self, Session};
use crate::thread;

use room::{Admission, Room};

pub(crate) use attributes::*;
pub(crate) use room::USUAL_DEPTH;
pub(crate) use values::*;

/// `CU_STREAM_NON_BLOCKING`.
pub(crate) const NON_BLOCKING: c_uint = 1;

/// Streams that the program has made and not destroyed: they share the device's queues.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The id on the wire; 0 for a legacy default stream.
    pub(crate) id: u32,
    pub(crate) context: u32,
    /// The green context that it is in; 0 for none.
    pub(crate) green: u32,
    /// Its green context has ended.
    is_detached: AtomicBool,
    pub(crate) fault: Fault,
    /// The highest mark that has been pushed.
    completed: AtomicU64,
    /// The call number of the last work.
    last_work: AtomicU64,
    /// The call number of the last work that a reply has told to be done.
    done_work: AtomicU64,
    /// The highest mark that has been posted, and its call number.
    marks: AtomicU64,
    last_mark: AtomicU64,
    /// How much is under way.
    pub(crate) room: Room,
    /// The worker knows it.
    is_named: AtomicBool,
    /// Set with the queue locked, as the worker is told.
    destroyed: AtomicBool,
    flags: c_uint,
    priority: AtomicI32,
    unique: u64,
    /// The capture that it belongs to.
    pub(crate) captured: Mutex<Option<Captured>>,
}

impl Stream {
    /// The legacy default stream of a context.
    pub(crate) fn legacy(context: u32) -> Self {
        Self::new(0, context, 0, 0, 0)
    }

    fn new(id: u32, context: u32, green: u32, flags: c_uint, priority: c_int) -> Self {
        Self {
            id,
            context,
            green,
            is_detached: AtomicBool::new(false),
            fault: Fault::default(),
            completed: AtomicU64::new(0),
            last_work: AtomicU64::new(0),
            done_work: AtomicU64::new(0),
            marks: AtomicU64::new(0),
            last_mark: AtomicU64::new(0),
            room: Room::default(),
            is_named: AtomicBool::new(id == 0),
            destroyed: AtomicBool::new(false),
            flags,
            priority: AtomicI32::new(priority),
            unique: unique(),
            captured: Mutex::default(),
        }
    }

    /// The id for a request.
    pub(crate) fn wire_id(&self) -> StreamId {
        StreamId(self.id)
    }

    /// Takes the next mark. Only with the queue locked, so that marks are in wire order.
    pub(crate) fn next_mark(&self, placed: Placed) -> u64 {
        // In this order: who sees that all work has a mark behind it must see that mark.
        let mark = self.marks.fetch_add(1, SeqCst) + 1;
        self.last_mark.store(placed.call, SeqCst);
        self.room.put_mark(mark);
        mark
    }

    /// Notes work of so many operations of the driver. Only with the queue locked.
    pub(crate) fn put(&self, placed: Placed, operations: u64) {
        self.last_work.store(placed.call, SeqCst);
        self.room.put(operations);
    }

    /// Takes the next mark for a call that is a mark and work behind it. Only with the queue locked.
    pub(crate) fn next_mark_before_work(&self, placed: Placed, operations: u64) -> u64 {
        let mark = self.next_mark(placed);
        // All that came before is behind the mark, the call's own work is not.
        self.last_mark.store(placed.call - 1, SeqCst);
        self.put(placed, operations);
        mark
    }

    /// The call number of the last work so far, for [`Self::has_done`].
    pub(crate) fn last_work(&self) -> u64 {
        self.last_work.load(SeqCst)
    }

    /// What was asked in this stream after the work of this number has been answered, so the work is done. Marks before it were pushed
    /// before the reply.
    pub(crate) fn has_done(&self, work: u64) {
        self.done_work.fetch_max(work, SeqCst);
    }

    /// A mark has been pushed.
    pub(crate) fn reached(&self, mark: u64) {
        self.completed.fetch_max(mark, SeqCst);
        self.room.reached(mark);
    }

    /// True if everything before `mark` is done, or nothing will be any more.
    pub(crate) fn has_reached(&self, mark: u64) -> bool {
        self.completed.load(SeqCst) >= mark || self.fault.is_set()
    }

    /// Its context has ended: who waits for it goes on, with this error.
    pub(crate) fn end(&self) {
        self.fault.set(CUresult::CONTEXT_IS_DESTROYED);
    }

    /// Its context, a primary one, begins anew: nothing is under way.
    pub(crate) fn begin_anew(&self) {
        self.completed.store(self.marks.load(SeqCst), SeqCst);
        self.last_work.store(0, SeqCst);
        self.last_mark.store(0, SeqCst);
        self.room.clear();
        self.fault.clear();
    }

    /// Its green context has ended: it can only be destroyed.
    pub(crate) fn detach(&self) {
        self.is_detached.store(true, SeqCst);
    }

    /// True if work can be put into it.
    fn is_open(&self) -> bool {
        self.is_named.load(SeqCst) && !self.is_destroyed() && !self.is_detached.load(SeqCst)
    }

    /// Whether the worker still knows it. Only with the queue locked: another thread may be about to destroy it, and what is posted behind that would be of a
    /// stream that is not there.
    pub(crate) fn takes_more(&self) -> bool {
        !self.destroyed.load(SeqCst)
    }

    /// True if the program has destroyed it; what it was given still happens.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.destroyed.load(SeqCst)
    }

    /// True if it was destroyed and nothing of it is under way.
    pub(crate) fn is_finished_for_good(&self) -> bool {
        self.destroyed.load(SeqCst) && self.has_reached(self.marks.load(SeqCst))
    }

    /// `cuStreamGetId`.
    pub(crate) fn unique(&self) -> u64 {
        self.unique
    }

    /// Whether it and the legacy stream wait for each other.
    pub(crate) fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    fn has_unmarked_work(&self) -> bool {
        let settled = self.last_mark.load(SeqCst).max(self.done_work.load(SeqCst));
        self.last_work.load(SeqCst) > settled
    }

    /// True if something of it may be under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.fault.is_set()
            && (self.has_unmarked_work() || !self.has_reached(self.marks.load(SeqCst)))
    }

    /// The mark after all work so far, posted if there is none yet.
    pub(crate) fn mark(&self, session: &Session, urgent: bool) -> Result<u64, CUresult> {
        self.mark_if(session, urgent, self.has_unmarked_work())
    }

    /// The mark after all that a wait for the stream waits for: also what is before it in others, where it and they wait for each other as the legacy stream
    /// and blocking ones do. In this stream, whose next operation waits for theirs.
    pub(crate) fn mark_behind_all(&self, session: &Session, urgent: bool) -> Result<u64, CUresult> {
        let is_wanted = self.has_unmarked_work() || self.waits_for_others(session);
        self.mark_if(session, urgent, is_wanted)
    }

    /// Whether a stream that is not marked here yet has work before this one's next operation.
    fn waits_for_others(&self, session: &Session) -> bool {
        let since = self.last_mark.load(SeqCst);
        let is_before = |other: &Self| other.last_work() > since && other.is_busy();
        if self.id == 0 {
            let streams = &session.objects.streams;
            let of_context = |other: &Self| other.context == self.context && other.is_blocking();
            let before = streams.select(|other| of_context(other) && is_before(other));
            return !before.is_empty();
        }
        let context = session.objects.contexts.get(self.context);
        self.is_blocking() && context.is_some_and(|context| is_before(&context.legacy))
    }

    /// The same also behind work that a reply has told to be done: only marks tell the room so.
    fn mark_for_room(&self, session: &Session, urgent: bool) -> Result<u64, CUresult> {
        let is_wanted = self.has_unmarked_work() || self.room.has_unmarked();
        self.mark_if(session, urgent, is_wanted)
    }

    fn mark_if(&self, session: &Session, urgent: bool, is_wanted: bool) -> Result<u64, CUresult> {
        if is_wanted {
            // Who has destroyed it has put the last mark.
            let place = |placed: Placed| {
                let urgent = u32::from(urgent);
                self.takes_more()
                    .then(|| GpurunMark::new(self.wire_id(), urgent, self.next_mark(placed)))
            };
            session.post_if(self.context, place, &[])?;
        }
        Ok(self.marks.load(SeqCst))
    }

    /// Waits for all work so far.
    pub(crate) fn synchronise(&self, session: &Session) -> Result<(), CUresult> {
        self.fault.check()?;
        let mark = self.mark_behind_all(session, true)?;
        if !self.has_reached(mark) {
            session.wait_until(|| self.has_reached(mark))?;
        }
        self.fault.check()?;
        session.objects.memory.mapped.after_wait(session)
    }

    /// Before work of so many operations of the driver: waits while the stream is full. The caller holds no lock.
    pub(crate) fn admit(&self, session: &Session, operations: u64) -> Result<(), CUresult> {
        let most = room::most_of(session.queue_depth, STREAMS.load(SeqCst));
        while !self.fault.is_set() {
            match self.room.admit(operations, most) {
                Admission::Granted => return Ok(()),
                Admission::Mark => self.mark_for_room(session, false).map(drop)?,
                Admission::Wait => {
                    self.mark_for_room(session, true)?;
                    session
                        .wait_until(|| self.room.fits(operations, most) || self.fault.is_set())?;
                }
            }
        }
        self.fault.check()
    }
}

/// Everything that a context has under way: streams, and the mark of each after all its work so far.
pub(crate) fn marks_of_context(
    session: &Session,
    context: &Context,
    urgent: bool,
) -> Result<Vec<(Arc<Stream>, u64)>, CUresult> {
    let mut streams = session
        .objects
        .streams
        .select(|stream| stream.context == context.id && stream.is_busy());
    if context.legacy.is_busy() {
        streams.push(Arc::clone(&context.legacy));
    }
    marks(session, streams, urgent)
}

/// Streams, and the mark of each after all its work so far.
pub(crate) fn marks(
    session: &Session,
    streams: Vec<Arc<Stream>>,
    urgent: bool,
) -> Result<Vec<(Arc<Stream>, u64)>, CUresult> {
    streams
        .into_iter()
        .map(|stream| stream.mark(session, urgent).map(|mark| (stream, mark)))
        .collect()
}

/// Waits for everything that a context has under way.
pub(crate) fn synchronise_context(session: &Session, context: &Context) -> Result<(), CUresult> {
    context.fault.check()?;
    capture::forbid_all(session, context)?;
    wait_for_context(session, context)
}

/// Waits for everything that has been put into the streams of a context.
pub(crate) fn wait_for_context(session: &Session, context: &Context) -> Result<(), CUresult> {
    wait_for(session, context, &marks_of_context(session, context, true)?)
}

/// Waits until streams of a context have reached these marks.
pub(crate) fn wait_for(
    session: &Session,
    context: &Context,
    marks: &[(Arc<Stream>, u64)],
) -> Result<(), CUresult> {
    let done = || marks.iter().all(|(stream, mark)| stream.has_reached(*mark));
    if !done() {
        session.wait_until(done)?;
    }
    // A stream that failed may say so before its context's fault is told: the worker's threads tell them.
    for (stream, _) in marks {
        stream.fault.check()?;
    }
    context.fault.check()?;
    session.objects.memory.mapped.after_wait(session)
}

/// Everything that may be under way, in whatever context.
fn busy_streams(session: &Session) -> Vec<Arc<Stream>> {
    let objects = &session.objects;
    let mut streams = objects.streams.select(Stream::is_busy);
    let contexts = objects.contexts.select(|context| context.legacy.is_busy());
    streams.extend(contexts.iter().map(|context| Arc::clone(&context.legacy)));
    streams
}

/// Whether anything may be under way.
pub(crate) fn is_any_busy(session: &Session) -> bool {
    !busy_streams(session).is_empty()
}

/// Marks everything that is under way, so that its end is told.
pub(crate) fn mark_all(session: &Session) -> Result<(), CUresult> {
    let streams = busy_streams(session);
    streams
        .iter()
        .try_for_each(|stream| stream.mark(session, false).map(drop))
}

/// The stream that the caller means: the legacy stream, the thread's own, or one that it made. One that is captured is refused, and its
/// capture spoilt: what would be put into it cannot be.
pub(crate) fn resolve(handle: CUstream) -> Result<Arc<Stream>, CUresult> {
    let (session, context) = session::current()?;
    resolve_in(session, &context, handle)
}

/// The stream that the caller means, about which it only asks.
pub(crate) fn resolve_for_question(handle: CUstream) -> Result<Arc<Stream>, CUresult> {
    let (session, context) = session::current()?;
    resolve_any(session, &context, handle)
}

/// [`resolve`] where the current context is at hand.
pub(crate) fn resolve_in(
    session: &Session,
    context: &Context,
    handle: CUstream,
) -> Result<Arc<Stream>, CUresult> {
    let stream = resolve_any(session, context, handle)?;
    capture::forbid(session, &stream)?;
    Ok(stream)
}

/// [`resolve_in`] for a call that a captured stream can take too.
pub(crate) fn resolve_any(
    session: &Session,
    context: &Context,
    handle: CUstream,
) -> Result<Arc<Stream>, CUresult> {
    match per_thread::effective(handle) {
        CUstream(0) => match green::current(session) {
            Some(green) if green.primary.id == context.id => green.default_stream(session),
            _ => Ok(Arc::clone(&context.legacy)),
        },
        // As the driver documents it.
        PER_THREAD if green::current(session).is_some() => Err(CUresult::INVALID_HANDLE),
        PER_THREAD => per_thread_stream(session, context),
        handle => {
            let stream = handle
                .undress()
                .and_then(|id| session.objects.streams.get(id));
            let stream = stream
                .filter(|stream| !stream.destroyed.load(SeqCst))
                .ok_or(CUresult::INVALID_HANDLE)?;
            match stream.is_detached.load(SeqCst) {
                true => Err(CUresult::STREAM_DETACHED),
                false => Ok(stream),
            }
        }
    }
}

/// The calling thread's own stream in a context: a real blocking stream, made when first needed.
fn per_thread_stream(session: &Session, context: &Context) -> Result<Arc<Stream>, CUresult> {
    static STREAMS: Mutex<Option<HashMap<(u32, u32), u32>>> = Mutex::new(None);
    let key = (thread::number(), context.id);
    let known = {
        let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
        streams.get_or_insert_default().get(&key).copied()
    };
    if let Some(stream) = known.and_then(|id| session.objects.streams.get(id)) {
        return Ok(stream);
    }
    let stream = make(session, context, 0, 0)?;
    let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    streams.get_or_insert_default().insert(key, stream.id);
    Ok(stream)
}

fn make(
    session: &Session,
    context: &Context,
    flags: c_uint,
    priority: c_int,
) -> Result<Arc<Stream>, CUresult> {
    let stream = session
        .objects
        .streams
        .insert_with(|id| Stream::new(id, context.id, 0, flags, priority));
    let request = GpurunStreamCreate::new(stream.id, flags, priority);
    name(session, context, stream, &request)
}

/// A stream in a green context.
pub(crate) fn make_green(
    session: &Session,
    green: &Green,
    priority: c_int,
) -> Result<Arc<Stream>, CUresult> {
    let context = &green.primary;
    context.fault.check()?;
    let (least, greatest) = session.devices[context.device].stream_priorities();
    let priority = priority.clamp(greatest, least);
    let stream = session
        .objects
        .streams
        .insert_with(|id| Stream::new(id, context.id, green.id, NON_BLOCKING, priority));
    let request = GpurunGreenStreamCreate::new(stream.id, green.id, NON_BLOCKING, priority);
    let stream = name(session, context, stream, &request)?;
    held(session, &green.meeting, stream)
}

/// Lets a new stream wait for what its whole context waits for. One that cannot is nobody's.
fn held(
    session: &Session,
    meeting: &Meeting,
    stream: Arc<Stream>,
) -> Result<Arc<Stream>, CUresult> {
    match meeting.hold(session, &stream) {
        Ok(()) => Ok(stream),
        Err(error) => {
            // The first error is the one to tell.
            let _ = end(session, &stream);
            Err(error)
        }
    }
}

/// Lets the server make a stream.
fn name<R: Request>(
    session: &Session,
    context: &Context,
    stream: Arc<Stream>,
    request: &R,
) -> Result<Arc<Stream>, CUresult> {
    if let Err(code) = session.ask_reply(context.id, request, &[], || Ok(())) {
        session.objects.streams.remove(stream.id);
        return Err(code);
    }
    STREAMS.fetch_add(1, SeqCst);
    stream.is_named.store(true, SeqCst);
    held(session, &context.meeting, stream)
}

/// The streams of a green context.
pub(crate) fn of_green(session: &Session, green: u32) -> Vec<Arc<Stream>> {
    let is_its = |stream: &Stream| stream.green == green && stream.is_open();
    session.objects.streams.select(is_its)
}

/// A stream of ours, which waits for no other by itself and which the program does not see.
pub(crate) fn private(session: &Session, context: &Context) -> Result<Arc<Stream>, CUresult> {
    make(session, context, NON_BLOCKING, 0)
}

/// The streams of a context that work can be put into.
pub(crate) fn of_context(session: &Session, context: &Context) -> Vec<Arc<Stream>> {
    let is_its = |stream: &Stream| stream.context == context.id && stream.is_open();
    let mut streams = session.objects.streams.select(is_its);
    streams.push(Arc::clone(&context.legacy));
    streams
}

fn create(place: *mut CUstream, flags: c_uint, priority: c_int) -> Result<(), CUresult> {
    let place = out(place)?;
    if flags & !NON_BLOCKING != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let (session, context) = session::current()?;
    let stream = if let Some(green) = green::current(session) {
        if flags != NON_BLOCKING {
            log::warn_once(
                "blocking streams",
                format_args!("streams of a green context must be non-blocking"),
            );
            return Err(CUresult::NOT_SUPPORTED);
        }
        make_green(session, &green, priority)?
    } else {
        let (least, greatest) = session.devices[context.device].stream_priorities();
        make(session, &context, flags, priority.clamp(greatest, least))?
    };
    // SAFETY: checked by `out`.
    unsafe { place.write(CUstream::dress(stream.id)) };
    Ok(())
}

pub(crate) unsafe fn cuStreamCreate(stream: *mut CUstream, flags: c_uint) -> CUresult {
    code(create(stream, flags, 0))
}

pub(crate) unsafe fn cuStreamCreateWithPriority(
    stream: *mut CUstream,
    flags: c_uint,
    priority: c_int,
) -> CUresult {
    code(create(stream, flags, priority))
}

/// The stream's work goes on; its object stays until the last mark has been pushed.
fn destroy(handle: CUstream) -> Result<(), CUresult> {
    let session = session::get()?;
    let id = handle.undress().ok_or(CUresult::INVALID_HANDLE)?;
    let stream = session
        .objects
        .streams
        .get(id)
        .ok_or(CUresult::INVALID_HANDLE)?;
    end(session, &stream)
}

/// The end of a stream. Another thread may put something into it meanwhile, for an event of the whole context: the last mark is behind that.
pub(crate) fn end(session: &Session, stream: &Stream) -> Result<(), CUresult> {
    let mut has_ended = false;
    while !has_ended {
        if stream.is_destroyed() {
            return Err(CUresult::INVALID_HANDLE);
        }
        capture::forget(stream);
        stream.mark(session, false)?;
        let place = |_| {
            has_ended = stream.takes_more() && !stream.has_unmarked_work();
            has_ended.then(|| {
                stream.destroyed.store(true, SeqCst);
                GpurunStreamDestroy::new(stream.wire_id())
            })
        };
        session.post_if(stream.context, place, &[])?;
    }
    STREAMS.fetch_sub(1, SeqCst);
    if stream.is_finished_for_good() {
        session.objects.streams.remove(stream.id);
    }
    Ok(())
}

pub(crate) unsafe fn cuStreamDestroy(stream: CUstream) -> CUresult {
    code(destroy(stream))
}

pub(crate) unsafe fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    code(destroy(stream))
}

pub(crate) unsafe fn cuStreamAddCallback(
    stream: CUstream,
    callback: CUstreamCallback,
    user_data: *mut c_void,
    flags: c_uint,
) -> CUresult {
    code(launch::add_callback(stream, callback, user_data, flags))
}

pub(crate) unsafe fn cuStreamQuery(stream: CUstream) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let stream = resolve_in(session, &context, stream)?;
        let mark = stream.mark_behind_all(session, false)?;
        query(session, &stream, mark)
    })())
}

/// Whether a stream has reached a mark, by what has been pushed.
pub(crate) fn query(session: &Session, stream: &Stream, mark: u64) -> Result<(), CUresult> {
    if !stream.has_reached(mark) {
        session.link.flush()?;
        session.link.take_in()?;
    }
    stream.fault.check()?;
    if stream.has_reached(mark) {
        session.objects.memory.mapped.after_wait(session)
    } else {
        Err(CUresult::NOT_READY)
    }
}

pub(crate) unsafe fn cuStreamSynchronize(stream: CUstream) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        resolve_in(session, &context, stream)?.synchronise(session)?;
        session.objects.stream_ordered.settle(session)
    })())
}

pub(crate) unsafe fn cuStreamWaitEvent(
    stream: CUstream,
    event: CUevent,
    flags: c_uint,
) -> CUresult {
    code((|| {
        if flags > 1 {
            return Err(CUresult::INVALID_VALUE);
        }
        let (session, context) = session::current()?;
        let stream = resolve_any(session, &context, stream)?;
        let event = event::of(event)?;
        if capture::wait(session, &stream, &event, flags == event::EXTERNAL)? {
            return Ok(());
        }
        event.wait_in(session, &stream, flags)
    })())
}

pub(crate) unsafe fn cuStreamAttachMemAsync(
    stream: CUstream,
    dptr: CUdeviceptr,
    length: usize,
    flags: c_uint,
) -> CUresult {
    code(managed::attach(stream, dptr, length, flags))
}

pub(crate) unsafe fn cuStreamGetFlags(stream: CUstream, flags: *mut c_uint) -> CUresult {
    code((|| {
        let place = out(flags)?;
        let stream = resolve_for_question(stream)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(stream.flags) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuStreamGetPriority(stream: CUstream, priority: *mut c_int) -> CUresult {
    code((|| {
        let place = out(priority)?;
        let stream = resolve_for_question(stream)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(stream.priority.load(SeqCst)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuStreamGetCtx(stream: CUstream, pctx: *mut CUcontext) -> CUresult {
    code((|| {
        let place = out(pctx)?;
        let stream = resolve_for_question(stream)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUcontext::dress(stream.context)) };
        Ok(())
    })())
}

/// Of a stream of a green context that and the primary one.
pub(crate) unsafe fn cuStreamGetCtx_v2(
    stream: CUstream,
    pctx: *mut CUcontext,
    green_ctx: *mut CUgreenCtx,
) -> CUresult {
    code((|| {
        let place = out(pctx)?;
        let stream = resolve_for_question(stream)?;
        // SAFETY: checked by `out`; the other is null or writable by the API's contract.
        unsafe {
            place.write(CUcontext::dress(stream.context));
            if !green_ctx.is_null() {
                green_ctx.write(green::handle_of(&stream));
            }
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuStreamGetDevice(stream: CUstream, device: *mut CUdevice) -> CUresult {
    code((|| {
        let place = out(device)?;
        let stream = resolve_for_question(stream)?;
        let context = session::get()?.objects.contexts.get(stream.context);
        let device = context.ok_or(CUresult::INVALID_HANDLE)?.device;
        // SAFETY: checked by `out`.
        unsafe { place.write(c_int::try_from(device).unwrap_or(0)) };
        Ok(())
    })())
}

/// `cuStreamGetId`.
pub(crate) fn id_of(stream: CUstream) -> Result<u64, CUresult> {
    Ok(resolve_for_question(stream)?.unique)
}

pub(crate) unsafe fn cuStreamGetId(stream: CUstream, stream_id: *mut u64) -> CUresult {
    code((|| {
        let place = out(stream_id)?;
        let id = id_of(stream)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(id) };
        Ok(())
    })())
}
