//! Events of whole contexts: where all streams of a context, or of a green one, meet.
//!
//! An event of a context is one of a stream of ours that waits for all others, and a context waits by each of its streams waiting; streams that
//! are made later wait for one of ours that waits as well. So any driver can do it, and a wait for the event is a wait for a mark like every other.
//!
//! *Rules:* both streams are made when they are first needed, and end with the context. No lock is held while work is put into a stream.
//!
//! # Safety
//! Only handles are passed.
#![expect(unsafe_code, reason = "functions of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{CUcontext, CUevent, CUresult};

use super::{Context, of};
use crate::capture;
use crate::entry::code;
use crate::event::{self, Event};
use crate::green::{self, Green};
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// The two streams of a context in which all meet.
#[derive(Debug, Default)]
pub(crate) struct Meeting {
    /// It has waited for all others where an event was recorded.
    behind: Mutex<Option<Arc<Stream>>>,
    /// It waits for what the whole context waits for.
    before: Mutex<Option<Arc<Stream>>>,
}

fn known(place: &Mutex<Option<Arc<Stream>>>) -> Option<Arc<Stream>> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn made(
    place: &Mutex<Option<Arc<Stream>>>,
    session: &Session,
    context: &Context,
) -> Result<Arc<Stream>, CUresult> {
    if let Some(stream) = known(place) {
        return Ok(stream);
    }
    // Two threads may make one each: the second is left idle.
    let stream = stream::private(session, context)?;
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(place.get_or_insert(stream)))
}

/// Lets a stream wait for all that another has been given.
fn let_wait(session: &Session, waiting: &Stream, other: &Arc<Stream>) -> Result<(), CUresult> {
    let between = Event::private(session, other.context)?;
    let waits = between
        .record(session, other, 0)
        .and_then(|()| between.wait_in(session, waiting, 0));
    waits.and(event::end(session, &between))
}

impl Meeting {
    /// Its streams, for who ends them: what is in them still happens.
    pub(crate) fn take(&self) -> impl Iterator<Item = Arc<Stream>> {
        [&self.behind, &self.before]
            .into_iter()
            .filter_map(|place| place.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// The context has ended, and its streams with it.
    pub(crate) fn forget(&self) {
        self.take().for_each(drop);
    }

    /// A stream has been made: it waits for what the whole context waits for.
    pub(crate) fn hold(&self, session: &Session, stream: &Stream) -> Result<(), CUresult> {
        match known(&self.before).filter(|before| before.is_busy()) {
            Some(before) => let_wait(session, stream, &before),
            None => Ok(()),
        }
    }
}

/// Whose streams are meant: a context's, or those of one of its green contexts.
#[derive(Clone, Copy)]
struct Whole<'a> {
    session: &'a Session,
    context: &'a Context,
    green: Option<&'a Green>,
}

impl Whole<'_> {
    fn has(&self, stream: &Stream) -> bool {
        let is_green = |green: &Green| stream.green == green.id;
        stream.context == self.context.id && self.green.is_none_or(is_green)
    }

    fn meeting(&self) -> &Meeting {
        self.green
            .map_or(&self.context.meeting, |green| &green.meeting)
    }

    /// Those that work can be put into.
    fn streams(&self) -> Vec<Arc<Stream>> {
        let mut streams = stream::of_context(self.session, self.context);
        streams.retain(|stream| self.has(stream));
        streams
    }

    /// Spoils the captures of its streams.
    fn forbid_captures(&self) -> Result<(), CUresult> {
        if self.green.is_none() {
            return capture::forbid_all(self.session, self.context);
        }
        capture::forbid_streams(self.session, &self.streams())
    }

    /// Waits for streams that the program has destroyed: no event can be recorded in them.
    fn wait_for_destroyed(&self) -> Result<(), CUresult> {
        let is_ending =
            |stream: &Stream| self.has(stream) && stream.is_destroyed() && stream.is_busy();
        for stream in self.session.objects.streams.select(is_ending) {
            stream.synchronise(self.session)?;
        }
        Ok(())
    }

    /// An event behind all that it has been given.
    fn record(&self, event: &Event) -> Result<(), CUresult> {
        let session = self.session;
        if event.context() != self.context.id {
            return Err(CUresult::INVALID_HANDLE);
        }
        self.context.fault.check()?;
        self.forbid_captures()?;
        self.wait_for_destroyed()?;
        let behind = made(&self.meeting().behind, session, self.context)?;
        for stream in self.streams() {
            if stream.id != behind.id && stream.is_busy() {
                match let_wait(session, &behind, &stream) {
                    // Another thread has destroyed it meanwhile.
                    Err(CUresult::INVALID_HANDLE) if stream.is_destroyed() => {
                        stream.synchronise(session)?;
                    }
                    waits => waits?,
                }
            }
        }
        event.record(session, &behind, 0)
    }

    /// All that it is given from now on waits for an event.
    fn wait(&self, event: &Event) -> Result<(), CUresult> {
        let session = self.session;
        self.context.fault.check()?;
        event.check()?;
        self.forbid_captures()?;
        capture::forbid_event(event)?;
        let before = made(&self.meeting().before, session, self.context)?;
        for stream in self.streams() {
            if stream.id != before.id {
                match event.wait_in(session, &stream, 0) {
                    // Nothing more is put into it.
                    Err(CUresult::INVALID_HANDLE) if stream.is_destroyed() => {}
                    waits => waits?,
                }
            }
        }
        event.wait_in(session, &before, 0)?;
        before.mark(session, false).map(drop)
    }
}

/// An event behind all that a green context has been given.
pub(crate) fn record_green(
    session: &Session,
    green: &Green,
    event: &Event,
) -> Result<(), CUresult> {
    let whole = Whole {
        session,
        context: &green.primary,
        green: Some(green),
    };
    whole.record(event)
}

/// All that a green context is given from now on waits for an event.
pub(crate) fn wait_green(session: &Session, green: &Green, event: &Event) -> Result<(), CUresult> {
    let whole = Whole {
        session,
        context: &green.primary,
        green: Some(green),
    };
    whole.wait(event)
}

fn with_whole(
    ctx: CUcontext,
    then: impl FnOnce(Whole<'_>) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    let (session, context) = (session::get()?, of(ctx)?);
    let green = green::of_context(session, ctx);
    then(Whole {
        session,
        context: &context,
        green: green.as_deref(),
    })
}

pub(crate) unsafe fn cuCtxRecordEvent(ctx: CUcontext, event: CUevent) -> CUresult {
    code(with_whole(ctx, |whole| whole.record(&*event::of(event)?)))
}

pub(crate) unsafe fn cuCtxWaitEvent(ctx: CUcontext, event: CUevent) -> CUresult {
    code(with_whole(ctx, |whole| whole.wait(&*event::of(event)?)))
}
