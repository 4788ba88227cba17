//! Streams, their points, and the rows of the `stream` area.
//!
//! *What:* a [`Stream`] is the driver's stream with its points. A point is issued by having the stream write a number to a slot of
//! pinned memory (or, where a driver cannot, by recording an event); the poller compares. *Rules:* points of a stream are
//! issued under one lock, so their order on the device is the order of their numbers; the state's lock is never held while the
//! driver may block.
//!
//! *Cost of a mark:* two uncontended locks and one `cuStreamWriteValue`; no allocation once the queue has its memory.
//!
//! # Safety
//! Stream and event handles come from this session's tables or pools, slots from their context, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod attributes;
mod values;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use driver_api::Driver;
use driver_api::abi::{CUevent, CUstream};
use driver_api::result::CUresult;
use driver_api::wire::request;

use super::call::{Call, CallError};
use super::context::{Context, Marking};
use super::end::lock;
use super::pace::Meter;
use super::point::{Action, PointQueue, widen};
use super::session::Session;
use super::staging::Slot;
use crate::driver::cuda;

pub(crate) use attributes::gpurunStreamAttribute;
pub(crate) use values::gpurunStreamMemory;

/// Completions of the legacy default stream of context `c` have this stream id plus `c`; streams have smaller ids.
pub(crate) const LEGACY_STREAMS: u32 = 0x8000_0000;

/// A driver's stream and its points.
pub(crate) struct Stream {
    /// What completions call it.
    pub(crate) wire_id: u32,
    /// The driver's; 0 is the legacy default stream.
    pub(crate) handle: CUstream,
    context: Weak<Context>,
    /// Held while a point is issued.
    issue: Mutex<()>,
    state: Mutex<State>,
    /// Something may have been put into the stream since its last point.
    is_used: AtomicBool,
    /// The work in it.
    pub(crate) meter: Meter,
}

struct State {
    points: PointQueue<Action>,
    slot: Option<Slot>,
    /// The poller has it on its list.
    is_watched: bool,
    /// The driver still has it.
    is_open: bool,
    /// Its context is gone, or has faulted with this.
    lost: Option<CUresult>,
}

/// How far the stream of a slot has come.
fn reached(slot: Slot, marking: Marking, state: &State) -> u64 {
    match marking {
        Marking::Write64 | Marking::Write64Old => slot.read(),
        _ => widen(slot.read_low(), state.points.issued()),
    }
}

impl Stream {
    /// Wraps a driver's stream; the context is current.
    pub(crate) fn new(
        driver: &Driver,
        context: &Arc<Context>,
        wire_id: u32,
        handle: CUstream,
    ) -> Result<Arc<Self>, CUresult> {
        let slot = match context.marking {
            Marking::Events => None,
            _ => Some(context.slots.take(driver)?),
        };
        let start = slot.map_or(0, |slot| match context.marking {
            Marking::Write64 | Marking::Write64Old => slot.read(),
            _ => u64::from(slot.read_low()),
        });
        Ok(Arc::new(Self {
            wire_id,
            handle,
            context: Arc::downgrade(context),
            issue: Mutex::new(()),
            state: Mutex::new(State {
                points: PointQueue::new(start),
                slot,
                is_watched: false,
                is_open: true,
                lost: None,
            }),
            is_used: AtomicBool::new(false),
            meter: Meter::new(context.pacer.clone()),
        }))
    }

    /// The stream's context, unless it is gone.
    pub(crate) fn context(&self) -> Option<Arc<Context>> {
        self.context.upgrade()
    }

    /// Something is about to be put into the stream.
    pub(crate) fn touch(&self) {
        self.is_used.store(true, Ordering::Release);
        self.meter.touch();
    }

    /// Whether something may have been put into the stream since its last point.
    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    /// Issues a point. The context is current.
    ///
    /// # Errors
    /// The driver refuses it; the action comes back.
    pub(crate) fn point(
        self: &Arc<Self>,
        session: &Session,
        context: &Context,
        action: Action,
    ) -> Result<(), (CUresult, Action)> {
        let _issuing = lock(&self.issue);
        let event = match context.marking {
            Marking::Events => match context.take_event(session.driver) {
                Ok(event) => Some(event),
                Err(error) => return Err((error, action)),
            },
            _ => None,
        };
        let is_urgent = action.is_urgent();
        let (sequence, slot, is_news) = {
            let mut state = lock(&self.state);
            if let Some(lost) = state.lost {
                return Err((lost, action));
            }
            if !state.is_open {
                return Err((CUresult::INVALID_HANDLE, action));
            }
            let sequence = state.points.issue(event, action, self.meter.cover());
            let is_news = !std::mem::replace(&mut state.is_watched, true);
            (sequence, state.slot, is_news)
        };
        // With a lane busy, another thread may be between its `touch` and its call of the driver: the stream then stays used, which
        // costs a point more at worst.
        if lock(&session.lanes).busy() == 0 {
            self.is_used.store(false, Ordering::Release);
        }
        session.poller.expect(self, is_news, is_urgent);
        let Err(error) = self.write(session.driver, context.marking, slot, event, sequence) else {
            return Ok(());
        };
        session.poller.expect_no_more(is_urgent);
        let mut state = lock(&self.state);
        let withdrawn = state.points.withdraw(sequence);
        self.tell_ended_of(state);
        match withdrawn {
            Some(action) => Err((error, action)),
            // The poller has dealt with it already: the context is lost.
            None => {
                session.poller.expect_again(is_urgent);
                Ok(())
            }
        }
    }

    fn write(
        &self,
        driver: &Driver,
        marking: Marking,
        slot: Option<Slot>,
        event: Option<CUevent>,
        sequence: u64,
    ) -> Result<(), CUresult> {
        let stream = self.handle;
        match (marking, slot, event) {
            (Marking::Write64, Some(slot), _) => cuda!(
                driver,
                cuStreamWriteValue64_v2(stream, slot.device, sequence, 0)
            ),
            (Marking::Write64Old, Some(slot), _) => cuda!(
                driver,
                cuStreamWriteValue64(stream, slot.device, sequence, 0)
            ),
            (Marking::Write32, Some(slot), _) => cuda!(
                driver,
                cuStreamWriteValue32_v2(stream, slot.device, sequence as u32, 0)
            ),
            (Marking::Write32Old, Some(slot), _) => cuda!(
                driver,
                cuStreamWriteValue32(stream, slot.device, sequence as u32, 0)
            ),
            (Marking::Events, _, Some(event)) => cuda!(driver, cuEventRecord(event, stream)),
            _ => Err(CUresult::INVALID_HANDLE),
        }
    }

    /// Runs an action after all that was put into the stream so far, without a new point if one is still pending.
    ///
    /// # Errors
    /// Nothing is unfinished, or the stream is lost: the action comes back.
    pub(crate) fn after_all(
        self: &Arc<Self>,
        session: &Session,
        context: &Context,
        action: Action,
    ) -> Result<(), Action> {
        let action = if self.is_used() {
            match self.point(session, context, action) {
                Ok(()) => return Ok(()),
                Err((_, action)) => action,
            }
        } else {
            action
        };
        // A stream that the driver no longer has, too, has its last point behind its last work.
        let mut state = lock(&self.state);
        if state.lost.is_some() {
            return Err(action);
        }
        state.points.attach(action)
    }

    /// The next action that the stream has reached.
    pub(crate) fn next_reached(&self, driver: &Driver) -> Option<Action> {
        let mut state = lock(&self.state);
        let context = self.context.upgrade()?;
        let action = match state.slot {
            Some(slot) => {
                let reached = reached(slot, context.marking, &state);
                state.points.take_reached(reached)
            }
            None => self.next_recorded(driver, &context, &mut state),
        };
        self.tell_ended_of(state);
        action
    }

    /// Tells the pacer which work has ended with the points that were taken.
    fn tell_ended_of(&self, mut state: MutexGuard<'_, State>) {
        let ended = state.points.take_ended();
        drop(state);
        self.meter.ended(ended);
    }

    /// The next action that the stream has reached, if its slot tells so and `wanted` holds.
    pub(crate) fn next_reached_if(
        &self,
        context: &Context,
        wanted: impl FnOnce(&Action) -> bool,
    ) -> Option<Action> {
        let mut state = lock(&self.state);
        let reached = reached(state.slot?, context.marking, &state);
        if !wanted(state.points.first()?) {
            return None;
        }
        let action = state.points.take_reached(reached);
        self.tell_ended_of(state);
        action
    }

    fn next_recorded(
        &self,
        driver: &Driver,
        context: &Context,
        state: &mut State,
    ) -> Option<Action> {
        if state.lost.is_some() {
            return None;
        }
        if let Some(event) = state.points.first_event()?
            && cuda!(driver, cuEventQuery(event)).is_err()
        {
            return None;
        }
        let (event, action) = state.points.take_first()?;
        event.into_iter().for_each(|event| context.put_event(event));
        Some(action)
    }

    /// The next action of a lost stream, reached or not.
    pub(crate) fn next_lost(&self) -> Option<(CUresult, Action)> {
        let mut state = lock(&self.state);
        let lost = state.lost?;
        let taken = state.points.take_first();
        self.tell_ended_of(state);
        taken.map(|(_, action)| (lost, action))
    }

    /// Everything pending in the stream is lost, and what comes later too.
    pub(crate) fn lose(&self, result: CUresult, memory_is_gone: bool) {
        let mut state = lock(&self.state);
        state.lost.get_or_insert(result);
        self.meter.lose(state.points.lose_work());
        if memory_is_gone {
            state.slot = None;
            state.is_open = false;
        }
    }

    /// The poller's look at a stream with nothing left: whether it may take it off its list. A closed stream gives its slot back.
    pub(crate) fn unwatch(&self) -> bool {
        let mut state = lock(&self.state);
        if !state.points.is_empty() {
            return false;
        }
        state.is_watched = false;
        if !state.is_open {
            self.settle(&mut state);
        }
        true
    }

    /// A closed stream has nothing left: its slot goes back, and its context forgets it.
    fn settle(&self, state: &mut State) {
        if let Some(context) = self.context.upgrade() {
            state
                .slot
                .take()
                .into_iter()
                .for_each(|slot| context.slots.put_back(slot));
            context.remove_stream(self);
        }
    }

    /// Whether no point is pending.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.state).points.is_empty()
    }

    /// The driver's handle, if the driver still has it and nothing was put into it behind its last point, which is reached. The legacy
    /// default stream is never settled: it waits for others.
    pub(crate) fn settled_handle(&self) -> Option<CUstream> {
        let state = lock(&self.state);
        let is_settled = state.is_open && state.points.is_empty() && !self.is_used();
        (is_settled && self.handle != CUstream(0)).then_some(self.handle)
    }

    /// The error that the driver tells of this stream, if it is not merely busy.
    pub(crate) fn health(&self, driver: &Driver) -> Result<(), CUresult> {
        let state = lock(&self.state);
        if state.lost.is_some() {
            return Ok(());
        }
        let handle = if state.is_open {
            self.handle
        } else {
            CUstream(0)
        };
        match cuda!(driver, cuStreamQuery(handle)) {
            Err(CUresult::NOT_READY) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the driver's stream; points that are pending still complete.
    fn close(&self, driver: &Driver) -> Result<(), CUresult> {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.is_open, false) {
            return Err(CUresult::INVALID_HANDLE);
        }
        if !state.is_watched {
            self.settle(&mut state);
        }
        cuda!(driver, cuStreamDestroy_v2(self.handle))
    }
}

/// A place in a stream whose completion is to be pushed.
pub(crate) fn gpurunMark(
    call: &mut Call<'_>,
    request: &request::GpurunMark,
) -> Result<(), CallError> {
    mark(
        call,
        request.stream().0,
        request.mark(),
        request.urgent() != 0,
    )
}

/// Puts a mark into a stream. One that cannot be put is completed at once with the error, after the fault that says why: someone may
/// wait for it.
pub(crate) fn mark(
    call: &mut Call<'_>,
    stream_id: u32,
    mark: u64,
    is_urgent: bool,
) -> Result<(), CallError> {
    let action = Action::Complete { mark, is_urgent };
    let error = match call.stream(stream_id) {
        Ok(stream) => match stream.point(call.session, call.context()?, action) {
            Ok(()) => return Ok(()),
            Err((error, _)) => error,
        },
        Err(error) => error,
    };
    if let Ok(context) = call.context() {
        let what = match error.is_sticky() {
            true => "the device",
            false => "a mark",
        };
        call.session.fault(context, error, what);
    }
    complete_at_once(call, stream_id, mark, error);
    Ok(())
}

/// Completes a mark that was never put, or whose call was not even begun.
fn complete_at_once(call: &Call<'_>, stream_id: u32, mark: u64, error: CUresult) {
    let wire_id = match stream_id {
        0 => LEGACY_STREAMS.wrapping_add(call.record.context),
        id => id,
    };
    call.session.outbox.completion(wire_id, error, mark);
    call.session.outbox.flush();
}

/// A stream named by the client.
pub(crate) fn gpurunStreamCreate(
    call: &mut Call<'_>,
    request: &request::GpurunStreamCreate,
) -> Result<(), CallError> {
    check_new(call, request.stream())?;
    let mut handle = CUstream(0);
    cuda!(
        call.driver(),
        cuStreamCreateWithPriority(&mut handle, request.flags(), request.priority())
    )?;
    name(call, request.stream(), handle)
}

/// Whether a new stream of the current context can have an id.
pub(crate) fn check_new(call: &Call<'_>, id: u32) -> Result<(), CallError> {
    if id == 0 || id >= LEGACY_STREAMS {
        return Err(CUresult::INVALID_VALUE.into());
    }
    call.context()?;
    Ok(call.session.streams.check_free(id)?)
}

/// A stream that the driver has just made gets its id, or is undone.
pub(crate) fn name(call: &Call<'_>, id: u32, handle: CUstream) -> Result<(), CallError> {
    let driver = call.driver();
    let context = Arc::clone(call.context()?);
    let made = Stream::new(driver, &context, id, handle).and_then(|stream| {
        call.session.streams.insert(id, Arc::clone(&stream))?;
        context.add_stream(stream);
        Ok(())
    });
    if let Err(error) = made {
        cuda!(driver, cuStreamDestroy_v2(handle))?;
        return Err(error.into());
    }
    Ok(())
}

/// The end of a stream; what was posted to it before still completes.
pub(crate) fn gpurunStreamDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunStreamDestroy,
) -> Result<(), CallError> {
    let stream = call
        .session
        .streams
        .remove(request.stream().0)
        .ok_or(CUresult::INVALID_HANDLE)?;
    if stream.is_used() {
        // What is freed later has to wait for the stream's last work, so that is followed by a point.
        let context = Arc::clone(call.context()?);
        match stream.point(call.session, &context, Action::Settle) {
            // Its green context, which has ended, has waited for all of it.
            Ok(()) | Err((CUresult::STREAM_DETACHED, _)) => {}
            Err((error, _)) => {
                stream.close(call.driver())?;
                return Err(error.into());
            }
        }
    }
    stream.close(call.driver())?;
    Ok(())
}
