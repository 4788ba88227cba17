//! Executors: the threads that read frames and execute calls.
//!
//! *What:* a small pool of threads passes the *order token* around ([`Front`]: the receiving half and the frame being
//! worked off). Who holds it reads and executes calls in wire order. A call that may block is copied out, the token passed
//! on, and the call executed by the thread that had it, which becomes the lane of the call's client thread until that is drained
//! ([`Lanes`](super::schedule::Lanes)). *Rules:* what a client sends ends its session at worst; no lock is held while a call is executed.
//!
//! *Cost of an asked call of a single-threaded client:* one `recv` that blocks, or several that do not while [spinning](protocol::spin) pays, a
//! parse, the driver, one `send`: no other thread is woken. The same for a wait for a stream that is done by the time the
//! reader [glances](super::poller::Poller::glance) at it. A call that may block wakes one thread, which then blocks in reading.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use driver_api::door::Inside;
use driver_api::id::StreamId;
use driver_api::result::CUresult;
use driver_api::wire::{TICKET_STREAM, decode, decode_with_rest, request};
use driver_api::{Blocks, ROWS, number};
use protocol::frame::{CallRecord, Calls, FrameHeader, FrameKind, RECORD_ALIGNMENT, RECORD_BYTES};
use protocol::limits::LOOK_INTERVAL;
use protocol::spin::{Spin, Wait};
use protocol::transport::{FrameReceiver, TransportError};

use super::call::{Call, CallError, Current};
use super::capture;
use super::context::Context;
use super::dispatch::{blocks_of, dispatch};
use super::end::{Reason, lock};
use super::pace;
use super::poller;
use super::schedule::Place;
use super::session::Session;
use super::stream::LEGACY_STREAMS;
use super::transfer::{Inbound, Part, Purpose};
use crate::registry::COUNTERS;

/// Most executor threads; with all of them in lanes, calls that may block are executed in order.
const MAX_EXECUTORS: usize = 64;

/// Most bytes of a reply that one executor keeps for the next.
const KEPT_REPLY_BYTES: usize = 64 << 10;

/// How long one waits before a closed door before one looks for the end of the session.
const BEFORE_THE_DOOR: Duration = Duration::from_millis(50);

/// What the holder of the order token has.
pub(crate) struct Front {
    receiver: Box<dyn FrameReceiver>,
    /// The calls being worked off are `payload[at..end]`.
    payload: Vec<u8>,
    at: usize,
    end: usize,
    /// How many calls there were.
    calls: u64,
    spin: Spin,
    /// Points were issued that the poller has not been woken for.
    owes_wake: bool,
}

/// What a lane does.
pub(crate) enum Work {
    /// Executes a call.
    Call(OwnedCall),
    /// Tells that it has come so far.
    Fence(Arc<Fence>),
}

/// Something to be done once several lanes have come so far.
pub(crate) struct Fence {
    left: AtomicUsize,
    /// The client's id of the context that it is done in.
    context: u32,
    then: Mutex<Option<Box<Then>>>,
}

/// What a fence does in the end.
type Then = dyn FnOnce(&Session) + Send;

/// Does something, in a context, once every other lane has run what is queued on it now; at once, if no other is busy. The context is
/// current.
pub(crate) fn after_other_lanes(call: &Call<'_>, then: impl FnOnce(&Session) + Send + 'static) {
    let session = call.session;
    let mut lanes = lock(&session.lanes);
    let fence = Arc::new(Fence {
        left: AtomicUsize::new(1),
        context: call.record.context,
        then: Mutex::new(Some(Box::new(then))),
    });
    let others = lanes.fence(call.record.thread, || {
        fence.left.fetch_add(1, Ordering::AcqRel);
        Work::Fence(Arc::clone(&fence))
    });
    drop(lanes);
    tracing::trace!(others, "a fence");
    if let Some(then) = fence.pass() {
        then(session);
    }
}

impl Fence {
    /// One lane has come so far; the last gets what is to be done.
    fn pass(&self) -> Option<Box<Then>> {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            lock(&self.then).take()
        } else {
            None
        }
    }
}

/// A call that waits for its lane, or runs on it.
pub(crate) struct OwnedCall {
    record: CallRecord,
    number: u64,
    body: Vec<u8>,
    inbound: Option<Arc<Inbound>>,
}

/// The executors of a session.
pub(crate) struct Executors {
    session: Arc<Session>,
    pool: Mutex<Pool>,
    token_is_free: Condvar,
    lane_drained: Condvar,
}

#[derive(Default)]
struct Pool {
    front: Option<Box<Front>>,
    idle: usize,
    threads: usize,
}

/// A call that was executed, and may have to be answered.
struct Done {
    record: CallRecord,
    number: u64,
    result: Result<(), CUresult>,
    is_deferred: bool,
}

/// Why the holder of the token stops holding it.
enum Stop {
    /// It has passed it on, to run this.
    Lane(OwnedCall),
    /// The session is over.
    Over(Reason),
}

impl From<TransportError> for Stop {
    fn from(error: TransportError) -> Self {
        Self::Over(error.into())
    }
}

fn violation(text: impl Into<String>) -> Stop {
    Stop::Over(Reason::Violation(text.into()))
}

/// Starts executing what arrives.
///
/// # Errors
/// No thread can be started.
pub(crate) fn start(
    session: Arc<Session>,
    receiver: Box<dyn FrameReceiver>,
) -> std::io::Result<()> {
    let executors = Arc::new(Executors {
        session,
        pool: Mutex::default(),
        token_is_free: Condvar::new(),
        lane_drained: Condvar::new(),
    });
    let front = Front {
        spin: Spin::new(receiver.look_time()),
        receiver,
        payload: Vec::new(),
        at: 0,
        end: 0,
        calls: 0,
        owes_wake: false,
    };
    let mut pool = lock(&executors.pool);
    pool.front = Some(Box::new(front));
    Executors::spawn(&executors, &mut pool)
}

impl Executors {
    fn spawn(this: &Arc<Self>, pool: &mut Pool) -> std::io::Result<()> {
        let executors = Arc::clone(this);
        std::thread::Builder::new()
            .name(format!("executor {}", pool.threads))
            .spawn(move || Executor::new(executors).run())?;
        pool.threads += 1;
        Ok(())
    }

    /// Hands the token to an idle thread, or to a new one.
    fn pass(this: &Arc<Self>, front: Box<Front>) {
        let mut pool = lock(&this.pool);
        pool.front = Some(front);
        if pool.idle > 0 {
            this.token_is_free.notify_one();
        } else if let Err(error) = Self::spawn(this, &mut pool) {
            let reason = format!("cannot start a thread: {error}");
            this.session.end.finish(Reason::Failed(reason));
        }
    }

    /// Waits for the token; nothing if the session is over.
    fn take(&self) -> Option<Box<Front>> {
        let mut pool = lock(&self.pool);
        pool.idle += 1;
        let front = loop {
            if self.session.end.is_over() {
                break None;
            }
            if let Some(front) = pool.front.take() {
                break Some(front);
            }
            let waited = self
                .token_is_free
                .wait_timeout(pool, Duration::from_secs(1));
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        pool.idle -= 1;
        front
    }

    /// Decides where the next call runs, and queues it if it has to. Where too much is queued already, waits for lanes to drain:
    /// nothing more is read until then. One lock covers both, so that the lane cannot drain in between.
    fn place(&self, thread: u32, may_block: bool, own: impl FnOnce() -> OwnedCall) -> Place {
        let mut lanes = lock(&self.session.lanes);
        loop {
            let place = lanes.admit(thread, may_block);
            if place != Place::Queued {
                return place;
            }
            if !lanes.is_full() || self.session.end.is_over() {
                let call = own();
                let bytes = call.body.len() + size_of::<OwnedCall>();
                lanes.queue(thread, bytes, Work::Call(call));
                return place;
            }
            let waited = self
                .lane_drained
                .wait_timeout(lanes, Duration::from_millis(100));
            lanes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a thread would be there to take the token.
    fn has_successor(&self) -> bool {
        let pool = lock(&self.pool);
        pool.idle > 0 || pool.threads < MAX_EXECUTORS
    }
}

/// One thread of the pool.
struct Executor {
    executors: Arc<Executors>,
    session: Arc<Session>,
    current: Current,
    /// The reply in the making.
    reply: Vec<u8>,
}

impl Executor {
    fn new(executors: Arc<Executors>) -> Self {
        Self {
            session: Arc::clone(&executors.session),
            executors,
            current: Current::default(),
            reply: Vec::new(),
        }
    }

    fn run(mut self) {
        match go_in(&self.session) {
            Ok(_inside) => capture::relax(self.session.driver),
            Err(Stop::Over(reason)) => return self.session.end.finish(reason),
            Err(Stop::Lane(_)) => {}
        }
        while let Some(front) = self.executors.take() {
            match self.hold(front) {
                Stop::Lane(call) => self.run_lane(call),
                Stop::Over(reason) => return self.session.end.finish(reason),
            }
        }
    }

    /// Reads and executes until something stops it.
    fn hold(&mut self, mut front: Box<Front>) -> Stop {
        loop {
            match self.step(&mut front) {
                Ok(None) => {}
                Ok(Some(call)) => {
                    self.pay(&mut front);
                    Executors::pass(&self.executors, front);
                    return Stop::Lane(call);
                }
                Err(stop) => return stop,
            }
        }
    }

    /// One call, or one frame; a call that belongs on a lane comes back.
    fn step(&mut self, front: &mut Front) -> Result<Option<OwnedCall>, Stop> {
        let Some((record, body)) = front.next_call()? else {
            let (received, owes) = self.receive(front);
            front.owes_wake |= owes;
            received?;
            return Ok(None);
        };
        if front.owes_wake {
            // The next call may take its time.
            self.glance(front);
            self.pay(front);
        }
        pace::let_lanes_pass(&self.session);
        front.calls += 1;
        COUNTERS.calls(front.calls);
        let number = front.calls;
        let bytes = &front.payload[body];
        let may_block = may_block(&record, bytes)?;
        let inbound = self.open_transfer(&record, bytes)?;
        let own = || OwnedCall {
            record,
            number,
            body: bytes.to_vec(),
            inbound: inbound.clone(),
        };
        let leaves = may_block && self.executors.has_successor();
        let place = self.executors.place(record.thread, leaves, own);
        match place {
            Place::Here => {
                let execute = || self.execute(&record, number, bytes, inbound);
                // What may block may wait for the poller.
                let (executed, owes) = match may_block {
                    true => (execute(), false),
                    false => poller::defer_wakes(execute),
                };
                front.owes_wake |= owes;
                executed?;
                if record.flags.is_asked() && !front.asks_next() {
                    self.session.outbox.flush();
                }
                Ok(None)
            }
            Place::Lane => Ok(Some(own())),
            Place::Queued => Ok(None),
        }
    }

    /// Executes a lane's calls until it is drained. It is free before the last of them is answered: the client's thread goes on with the
    /// answer, and what it calls next keeps its place before what other threads call then.
    fn run_lane(&mut self, first: OwnedCall) {
        let thread = first.record.thread;
        let mut next = Some(Work::Call(first));
        while let Some(work) = next {
            let done = match self.work_off(work) {
                Ok(done) => done,
                Err(Stop::Over(reason)) => return self.session.end.finish(reason),
                Err(Stop::Lane(_)) => None,
            };
            next = lock(&self.session.lanes).next(thread);
            self.executors.lane_drained.notify_all();
            if let Some(done) = done {
                self.answer(&done);
            }
            self.session.outbox.flush();
        }
        pace::rest(&self.session, &mut self.current);
    }

    /// Executes a call without answering it.
    fn work_off(&mut self, work: Work) -> Result<Option<Done>, Stop> {
        match work {
            Work::Call(call) => self
                .perform(&call.record, call.number, &call.body, call.inbound, true)
                .map(Some),
            Work::Fence(fence) => {
                let _inside = go_in(&self.session)?;
                if let Some(then) = fence.pass() {
                    // In a context that is gone there is nothing to wait for.
                    let _ = self.current.enter(&self.session, fence.context);
                    then(&self.session);
                }
                Ok(None)
            }
        }
    }

    /// Executes a call and answers it.
    fn execute(
        &mut self,
        record: &CallRecord,
        number: u64,
        body: &[u8],
        inbound: Option<Arc<Inbound>>,
    ) -> Result<(), Stop> {
        let done = self.perform(record, number, body, inbound, false)?;
        self.answer(&done);
        Ok(())
    }

    fn perform(
        &mut self,
        record: &CallRecord,
        number: u64,
        body: &[u8],
        inbound: Option<Arc<Inbound>>,
        is_on_lane: bool,
    ) -> Result<Done, Stop> {
        let _inside = go_in(&self.session)?;
        self.reply.clear();
        let mut call = Call {
            session: &self.session,
            record: *record,
            number,
            is_on_lane,
            inbound: inbound.clone(),
            current: &mut self.current,
            body: &mut self.reply,
            is_deferred: false,
        };
        let entered = call.current.enter(&self.session, record.context);
        if let Err(error) = entered {
            tell_who_waits(&self.session, record, body, error);
        }
        let result = entered
            .map_err(CallError::from)
            .and_then(|()| dispatch(&mut call, record.number, body));
        let is_deferred = call.is_deferred;
        let result = match result {
            Ok(()) => Ok(()),
            Err(CallError::Driver(error)) => Err(error),
            Err(broken) => return Err(violation(broken.to_string())),
        };
        if let (Err(_), Some(inbound)) = (result, inbound) {
            inbound.refuse();
        }
        Ok(Done {
            record: *record,
            number,
            result,
            is_deferred,
        })
    }

    /// Hands over the reply of a call that was asked, or tells that one failed that was not.
    fn answer(&mut self, done: &Done) {
        match (done.record.flags.is_asked(), done.result) {
            (true, Ok(())) if done.is_deferred => {}
            (true, result) => {
                let result = result.err().unwrap_or_default();
                if result.is_sticky() {
                    self.tell_failure(&done.record, result);
                }
                self.session.outbox.reply(done.number, result, &self.reply);
            }
            (false, Ok(())) => {}
            (false, Err(error)) => self.tell_failure(&done.record, error),
        }
        self.reply.shrink_to(KEPT_REPLY_BYTES);
    }

    /// A posted call failed, or the context is lost: the client hears of it as a fault of the call's context.
    fn tell_failure(&self, record: &CallRecord, error: CUresult) {
        let name = row_name(record.number);
        match self.session.contexts.get(record.context) {
            Some(context) => self.session.fault(&context, error, name),
            None => {
                tracing::error!(context = record.context, %error, "{name} failed");
                let text = format!("{name}: {error}");
                self.session.outbox.fault(record.context, error, &text);
            }
        }
    }

    /// Opens the transfer that a call names, if it names one.
    fn open_transfer(
        &self,
        record: &CallRecord,
        body: &[u8],
    ) -> Result<Option<Arc<Inbound>>, Stop> {
        let named = match record.number {
            number::gpurunCopyToDevice => decode_with_rest::<request::GpurunCopyToDevice>(body)
                .map(|(request, _)| (request.transfer(), request.length(), Purpose::Copy)),
            number::gpurunModuleLoad => decode_with_rest::<request::GpurunModuleLoad>(body)
                .map(|(request, _)| (request.transfer(), request.length(), Purpose::Image)),
            number::gpurunLibraryLoad => decode_with_rest::<request::GpurunLibraryLoad>(body)
                .map(|(request, _)| (request.transfer(), request.length(), Purpose::Image)),
            number::gpurunLinkAdd => decode_with_rest::<request::GpurunLinkAdd>(body)
                .map(|(request, _)| (request.transfer(), request.length(), Purpose::Image)),
            _ => return Ok(None),
        };
        let (transfer, length, purpose) = named.map_err(|error| violation(error.to_string()))?;
        if transfer == 0 {
            return Ok(None);
        }
        let context = self.session.contexts.get(record.context);
        self.session
            .transfers
            .open(transfer, length, purpose, context)
            .map(Some)
            .map_err(violation)
    }

    /// Runs what streams have reached, in the poller's stead.
    fn glance(&self, front: &mut Front) {
        front.owes_wake = front.owes_wake && self.session.poller.glance(&self.session);
    }

    /// Wakes the poller, if that is owed.
    fn pay(&self, front: &mut Front) {
        if std::mem::take(&mut front.owes_wake) {
            self.session.poller.wake_if_asleep();
        }
    }

    /// Receives one frame and does what it says; calls are left to be worked off. Says as well whether points were issued for which
    /// the poller is not woken yet.
    fn receive(&mut self, front: &mut Front) -> (Result<(), Stop>, bool) {
        match self.next_header(front) {
            Ok(header) => {
                // Taking it in may wait for what the poller gives back.
                self.pay(front);
                poller::defer_wakes(|| self.take_in(front, &header))
            }
            Err(stop) => (Err(stop), false),
        }
    }

    fn take_in(&mut self, front: &mut Front, header: &FrameHeader) -> Result<(), Stop> {
        let session = Arc::clone(&self.session);
        let expected = match header.kind {
            FrameKind::Heartbeat => 0,
            _ => session.outbox.received().wrapping_add(1),
        };
        if header.sequence != expected {
            return Err(violation("a frame out of order"));
        }
        if !session.outbox.has_sent(header.acknowledged) {
            return Err(violation("an acknowledgement of what was not sent"));
        }
        match header.kind {
            FrameKind::Heartbeat => return Ok(()),
            FrameKind::Calls => front.read_calls(header.length)?,
            FrameKind::Bulk => return self.receive_bulk(front, header),
            FrameKind::Goodbye => {
                let text = front.read_text(header.length)?;
                return Err(Stop::Over(Reason::Goodbye(text)));
            }
            FrameKind::Replies | FrameKind::Completions | FrameKind::Output | FrameKind::Fault => {
                return Err(violation(format!(
                    "a {:?} frame from a client",
                    header.kind
                )));
            }
        }
        session.outbox.note_received(header.sequence, header.length);
        Ok(())
    }

    /// Waits for the next frame: looks first, for streams that advance too, blocks then.
    fn next_header(&mut self, front: &mut Front) -> Result<FrameHeader, Stop> {
        let mut waiting: Option<Wait> = None;
        loop {
            self.glance(front);
            let may_have_come = waiting.is_some() || !front.spin.sleeps_at_once();
            if may_have_come && let Some(header) = front.receiver.poll_header()? {
                if let Some(wait) = waiting {
                    front.spin.end(&wait, Instant::now);
                }
                return Ok(header);
            }
            if self.session.end.is_over() {
                return Err(Stop::Over(Reason::Lost("the session is over".to_owned())));
            }
            let now = Instant::now();
            let wait = waiting.get_or_insert_with(|| front.spin.begin(now));
            // A look takes long enough by itself: a pause between two would only delay what is seen.
            if wait.looks_again(now) {
                continue;
            }
            wait.sleeps(now);
            self.pay(front);
            self.sleep(front)?;
        }
    }

    /// Sleeps until something comes, or for a while: whether it came or not, look again. Rests before, or where nothing comes soon.
    fn sleep(&mut self, front: &mut Front) -> Result<(), Stop> {
        if let Some(patience) = pace::time_to_rest(&self.session) {
            if !patience.is_zero() && front.receiver.wait(Some(patience))? {
                return Ok(());
            }
            pace::rest(&self.session, &mut self.current);
        }
        front.receiver.wait(Some(LOOK_INTERVAL))?;
        Ok(())
    }

    fn receive_bulk(&mut self, front: &mut Front, header: &FrameHeader) -> Result<(), Stop> {
        let session = Arc::clone(&self.session);
        let (inbound, is_complete) = session
            .transfers
            .accept(header.argument, header.offset, header.length)
            .map_err(violation)?;
        let length = header.length as usize;
        match (inbound.purpose, inbound.context.clone()) {
            (Purpose::Image, _) => {
                inbound.append(length, |place| front.receiver.read_payload(place))?;
            }
            (Purpose::Copy, Some(context)) if !inbound.is_refused() => {
                self.receive_part(front, &inbound, &context, (header.offset, length))?;
            }
            (Purpose::Copy, _) => front.receiver.skip_payload()?,
        }
        session.outbox.note_received(header.sequence, header.length);
        if is_complete {
            // The client's copy returns on it.
            session.outbox.acknowledge();
        }
        Ok(())
    }

    /// Reads a part of a copy into staging memory and issues it, or leaves it to who will.
    fn receive_part(
        &mut self,
        front: &mut Front,
        inbound: &Inbound,
        context: &Arc<Context>,
        (offset, length): (u64, usize),
    ) -> Result<(), Stop> {
        let _inside = go_in(&self.session)?;
        let entered = self.current.enter(&self.session, context.id);
        let buffer = entered.and_then(|()| context.staging.take(self.session.driver));
        let issued = match buffer {
            Ok(mut buffer) => {
                buffer.receive(&mut *front.receiver, length)?;
                let part = Part {
                    offset,
                    length,
                    buffer,
                };
                inbound.arrived(&self.session, part)
            }
            Err(error) => {
                front.receiver.skip_payload()?;
                Err(error)
            }
        };
        if let Err(error) = issued {
            inbound.refuse();
            let name = row_name(number::gpurunCopyToDevice);
            self.session.fault(context, error, name);
        }
        Ok(())
    }
}

impl Front {
    /// The next call of the frame, and where its body is; nothing at the frame's end.
    fn next_call(&mut self) -> Result<Option<(CallRecord, Range<usize>)>, Stop> {
        let rest = &self.payload[self.at..self.end];
        let Some(item) = Calls::new(rest).next() else {
            return Ok(None);
        };
        let (record, body) = item.map_err(|error| violation(error.to_string()))?;
        let start = self.at + RECORD_BYTES;
        let body = start..start + body.len();
        self.at = start + body.len().next_multiple_of(RECORD_ALIGNMENT);
        Ok(Some((record, body)))
    }

    /// Whether a call follows in this frame that owes a reply: then one frame can take both.
    fn asks_next(&self) -> bool {
        let next = Calls::new(&self.payload[self.at..self.end]).next();
        matches!(next, Some(Ok((record, _))) if record.flags.is_asked())
    }

    fn read_calls(&mut self, length: u32) -> Result<(), TransportError> {
        let length = length as usize;
        if self.payload.len() < length {
            self.payload.resize(length, 0);
        }
        self.receiver.read_payload(&mut self.payload[..length])?;
        self.at = 0;
        self.end = length;
        Ok(())
    }

    fn read_text(&mut self, length: u32) -> Result<String, TransportError> {
        let mut bytes = vec![0; length as usize];
        self.receiver.read_payload(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Goes through the session's door. Before a closed one, nobody reads the connection: its end is looked for, and the session's.
fn go_in(session: &Session) -> Result<Inside<'_>, Stop> {
    loop {
        if let Some(inside) = session.door.try_enter() {
            return Ok(inside);
        }
        session.outbox.flush();
        session.door.wait(BEFORE_THE_DOOR);
        let over = |text: &str| Err(Stop::Over(Reason::Lost(text.to_owned())));
        if session.end.is_over() {
            return over("the session is over");
        }
        if session.end.is_hung_up() {
            return over("it has gone while it was suspended");
        }
    }
}

/// Whether a call is executed off the ordered path.
fn may_block(record: &CallRecord, body: &[u8]) -> Result<bool, Stop> {
    let blocks = blocks_of(record.number)
        .ok_or_else(|| violation(CallError::UnknownNumber(record.number).to_string()))?;
    Ok(match blocks {
        Blocks::Never => false,
        Blocks::Device => record.flags.may_block(),
        Blocks::Unbounded => record.flags.may_block() || !ends_elsewhere(record.number, body),
    })
}

/// A call whose context is gone was not begun: a completion that it would have brought comes with the error.
fn tell_who_waits(session: &Session, record: &CallRecord, body: &[u8], error: CUresult) {
    let legacy = |stream: StreamId| match stream.0 {
        0 => LEGACY_STREAMS.wrapping_add(record.context),
        id => id,
    };
    let awaited = match record.number {
        number::gpurunMark => decode::<request::GpurunMark>(body)
            .map(|request| (legacy(request.stream()), request.mark())),
        number::gpurunHostFunction => decode::<request::GpurunHostFunction>(body)
            .map(|request| (legacy(request.stream()), request.mark())),
        number::gpurunEventRecord => decode::<request::GpurunEventRecord>(body)
            .map(|request| (legacy(request.stream()), request.mark())),
        number::gpurunMemoryUnmap => decode::<request::GpurunMemoryUnmap>(body)
            .map(|request| (TICKET_STREAM, request.ticket())),
        _ => return,
    };
    if let Ok((stream, mark @ 1..)) = awaited {
        session.outbox.completion(stream, error, mark);
        session.outbox.flush();
    }
}

/// Whether an unbounded call is bounded after all: it only begins here, the poller or the janitor ends it, and no executor waits; or it looks at no more
/// than small memory of the host.
fn ends_elsewhere(call_number: u16, body: &[u8]) -> bool {
    match call_number {
        number::gpurunMemoryUnmap | number::gpurunReadVolume => true,
        number::gpurunHostPull => {
            decode::<request::GpurunHostPull>(body).is_ok_and(|request| request.largest() != 0)
        }
        number::gpurunCopyFromDevice => decode_with_rest::<request::GpurunCopyFromDevice>(body)
            .is_ok_and(|(request, _)| request.transfer() == 0),
        _ => false,
    }
}

/// The name of a row by its number, for people.
fn row_name(call_number: u16) -> &'static str {
    ROWS.iter()
        .find(|row| row.number == call_number)
        .map_or("?", |row| row.name)
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn pulls_of_small_memory_run_in_order_and_others_on_a_lane() {
        for (largest, is_bounded) in [(0, false), (4096, true)] {
            let pull = request::GpurunHostPull::new(largest);
            let is_in_order = ends_elsewhere(number::gpurunHostPull, pull.as_bytes());
            assert_eq!(is_in_order, is_bounded);
        }
    }
}
