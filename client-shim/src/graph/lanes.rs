//! The contexts that a graph's nodes are of, and the streams that a launch puts them into.
//!
//! A node is done in the context that it was made for, wherever its graph is launched. What is of the launch's own context, or of none, goes into its
//! stream; for each other context the executable graph has a stream of ours. Where a step is of another context than the one before, it waits for that by
//! an event: the steps of a launch have one order, as in one stream.
//!
//! *Cost:* two posted calls each time that the context changes, and at the end back to the launch's own; a stream and events are made when a launch first
//! wants them. A graph of the launch's context pays nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use driver_api::abi::CUresult;

use crate::event::{self, Event};
use crate::session::Session;
use crate::stream::{self, Stream};

/// Which contexts a node, or all nodes of a graph, are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Contexts {
    /// No device does it.
    #[default]
    None,
    One(u32),
    Several,
}

impl Contexts {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }

    /// The only one, if there is one.
    pub(super) fn one(self) -> Option<u32> {
        match self {
            Self::One(context) => Some(context),
            Self::None | Self::Several => None,
        }
    }
}

/// What an executable graph has for one context.
#[derive(Debug)]
struct Lane {
    /// The place up to which another context's step waits.
    event: Arc<Event>,
    /// None as long as launches were in streams of the context.
    stream: Option<Arc<Stream>>,
}

/// What an executable graph has for the contexts of its steps, once it needed to.
#[derive(Debug, Default)]
pub(super) struct Lanes(HashMap<u32, Lane>);

impl Lanes {
    fn of(&mut self, session: &Session, context: u32) -> Result<&mut Lane, CUresult> {
        match self.0.entry(context) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(Lane {
                event: Event::private(session, context)?,
                stream: None,
            })),
        }
    }

    /// What was put into the streams goes on.
    pub(super) fn end(self, session: &Session) -> Result<(), CUresult> {
        let ended = self.0.into_iter().map(|(context, lane)| {
            let context = session.objects.contexts.get(context);
            let of_stream = match &lane.stream {
                Some(stream) if context.is_some_and(|context| context.is_active()) => {
                    stream::end(session, stream)
                }
                // It went with its context.
                _ => Ok(()),
            };
            of_stream.and(event::end(session, &lane.event))
        });
        let ended: Vec<_> = ended.collect();
        ended.into_iter().collect()
    }
}

/// The way of one launch through its streams.
pub(super) struct Way<'l> {
    session: &'static Session,
    lanes: &'l mut Lanes,
    own: &'l Arc<Stream>,
    /// Where the last step was put.
    current: Arc<Stream>,
}

impl<'l> Way<'l> {
    pub(super) fn new(
        session: &'static Session,
        lanes: &'l mut Lanes,
        stream: &'l Arc<Stream>,
    ) -> Self {
        Self {
            session,
            lanes,
            own: stream,
            current: Arc::clone(stream),
        }
    }

    /// The stream for what is of a context, behind all that was put into others.
    pub(super) fn to(&mut self, context: Option<u32>) -> Result<&Arc<Stream>, CUresult> {
        match context {
            Some(context) if context != self.current.context => {
                let stream = self.stream_of(context)?;
                self.go(stream)?;
            }
            _ => {}
        }
        Ok(&self.current)
    }

    fn stream_of(&mut self, context: u32) -> Result<Arc<Stream>, CUresult> {
        if context == self.own.context {
            return Ok(Arc::clone(self.own));
        }
        let known = self.session.objects.contexts.get(context);
        let known = known.filter(|context| context.is_active());
        let of = known.ok_or(CUresult::CONTEXT_IS_DESTROYED)?;
        of.fault.check()?;
        let lane = self.lanes.of(self.session, context)?;
        if let Some(stream) = &lane.stream {
            return Ok(Arc::clone(stream));
        }
        let stream = stream::private(self.session, &of)?;
        lane.stream = Some(Arc::clone(&stream));
        Ok(stream)
    }

    fn go(&mut self, to: Arc<Stream>) -> Result<(), CUresult> {
        let lane = self.lanes.of(self.session, self.current.context)?;
        lane.event.record(self.session, &self.current, 0)?;
        lane.event.wait_in(self.session, &to, 0)?;
        self.current = to;
        Ok(())
    }

    /// The launch's own stream waits for all that was put into others.
    pub(super) fn end(mut self) -> Result<(), CUresult> {
        match Arc::ptr_eq(&self.current, self.own) {
            true => Ok(()),
            false => self.go(Arc::clone(self.own)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Contexts;

    #[test]
    fn contexts_together() {
        let one = Contexts::One(1);
        assert_eq!(Contexts::None.and(one), one);
        assert_eq!(one.and(Contexts::None).and(one), one);
        assert_eq!(one.and(Contexts::One(2)), Contexts::Several);
        assert_eq!(
            Contexts::Several.and(Contexts::None).and(one),
            Contexts::Several
        );
        assert_eq!((one.one(), Contexts::Several.one()), (Some(1), None));
    }
}
