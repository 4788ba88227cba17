//! Streams of the service: those that ask for a lease, and those that hold one.
//!
//! Rules: a stream that its client has left gives up what it asked for, or lets go of what it held; one whose client takes nothing misses
//! places in the queue, and nothing else.

use control_plane::acquire_event::Event as Told;
use control_plane::{AcquireEvent, Ended as EndedEvent};
use protocol::hello::{RefusalCode, refusal};
use tokio::sync::mpsc;

use super::{Asking, Leases, Stream, StreamState};
use crate::daemon::Daemon;
use crate::daemon::service::{Wanted, refusal_status, status};
use crate::pool::{
    Ask, Caller, Decision, Keeping, LeaseError, LeaseId, Moment, Refusal, RequestId,
};

impl Daemon {
    /// A stream that asks for a lease, and is told what becomes of it.
    pub(in crate::daemon) fn acquire(
        &mut self,
        caller: Caller,
        wanted: Wanted,
        sender: mpsc::Sender<AcquireEvent>,
    ) -> Result<u64, tonic::Status> {
        let lease = LeaseId::random().map_err(|error| {
            let message = format!("the server has no random numbers: {error}");
            status(&refusal(RefusalCode::Internal, message))
        })?;
        let ask = Ask {
            lease,
            caller: caller.clone(),
            need: wanted.need,
            holder: wanted.holder,
            keeping: match wanted.is_detached {
                true => Keeping::Detached,
                false => Keeping::Attached,
            },
            time: wanted.time,
            waits: wanted.waits,
        };
        let now = Moment::now();
        let asked = ask.clone();
        let (request, decisions) = self.leases.scheduler.request(ask, now);
        let refused = self.note_refusal(&asked, request, &decisions);
        tracing::debug!(%request, name = wanted.name, tenant = %caller.tenant, "a lease is asked for");
        if let Some(refusal) = refused {
            tracing::warn!(tenant = %caller.tenant, "refused: {refusal}");
            self.apply(decisions);
            return Err(refusal_status(&refusal));
        }
        let state = StreamState::Waiting(request);
        let number = self.leases.open(sender, caller, state);
        self.leases
            .asking
            .insert(request, Asking::Stream(number, now));
        self.apply(decisions);
        Ok(number)
    }

    /// The refusal of a request that was refused at once, written down.
    pub(super) fn note_refusal(
        &self,
        asked: &Ask,
        request: RequestId,
        decisions: &[Decision],
    ) -> Option<Refusal> {
        let refusal = decisions.iter().find_map(|decision| match decision {
            Decision::Refused {
                request: other,
                refusal,
            } if *other == request => Some(refusal.clone()),
            _ => None,
        })?;
        self.books.request_refused(asked, &refusal, Moment::now());
        Some(refusal)
    }

    /// A stream that holds a lease that is there already.
    pub(in crate::daemon) fn hold(
        &mut self,
        lease: &LeaseId,
        caller: Caller,
        sender: mpsc::Sender<AcquireEvent>,
    ) -> Result<u64, LeaseError> {
        let held = self.leases.scheduler.hold(lease, &caller)?.clone();
        let state = StreamState::Holding(lease.clone());
        let number = self.leases.open(sender, caller, state);
        self.leases.tell(number, Told::Granted((&held).into()));
        Ok(number)
    }

    /// A stream's client has left it.
    pub(in crate::daemon) fn leave(&mut self, stream: u64) {
        let Some(stream) = self.leases.streams.remove(&stream) else {
            return;
        };
        let now = Moment::now();
        match stream.state {
            StreamState::Waiting(request) => self.withdraw(request),
            StreamState::Holding(lease) => self.leases.scheduler.let_go(&lease, now),
        }
    }
}

impl Leases {
    pub(super) fn open(
        &mut self,
        sender: mpsc::Sender<AcquireEvent>,
        caller: Caller,
        state: StreamState,
    ) -> u64 {
        self.last_stream += 1;
        let stream = Stream {
            sender,
            caller,
            state,
        };
        self.streams.insert(self.last_stream, stream);
        self.last_stream
    }

    /// Tells a stream something. One that takes nothing for long misses places in the queue, but nothing else: without room for that, it ends.
    pub(super) fn tell(&mut self, number: u64, event: Told) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        let is_place = matches!(event, Told::Queued(_));
        let sent = stream.sender.try_send(AcquireEvent { event: Some(event) });
        if sent.is_err() && !is_place {
            tracing::warn!(tenant = %stream.caller.tenant, "a stream takes no events: ended");
            // Its receiver's end tells its client, and that the client is gone is told to us as for any other.
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.sender = mpsc::channel(1).0;
            }
        }
    }

    /// Ends a stream that has got nothing: it was told to wait, so it hears of that as an event.
    pub(super) fn end_stream(&mut self, number: u64, message: String) {
        let end = control_plane::LeaseEnd::Unspecified.into();
        self.tell(number, Told::Ended(EndedEvent { end, message }));
        self.streams.remove(&number);
    }

    pub(super) fn tell_holders(&mut self, lease: &LeaseId, event: &Told) {
        let holders: Vec<u64> = self
            .streams
            .iter()
            .filter(
                |(_, stream)| matches!(&stream.state, StreamState::Holding(held) if held == lease),
            )
            .map(|(number, _)| *number)
            .collect();
        for number in holders {
            self.tell(number, event.clone());
        }
    }
}
