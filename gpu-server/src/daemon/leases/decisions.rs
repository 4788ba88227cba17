//! What the scheduler decides, done.
//!
//! Rules: each decision goes into the books first; a grant is told once it is stored, where there is a state directory, and what has ended
//! meanwhile is not granted.

use control_plane::acquire_event::Event as Told;
use control_plane::{Ended as EndedEvent, Warning};
use protocol::hello::{RefusalCode, refusal};

use super::equipment::EquipError;
use super::{Asking, Stream, StreamState};
use crate::daemon::books::acknowledged;
use crate::daemon::waiting::Word;
use crate::daemon::{Daemon, Event};
use crate::pool::store::NotStored;
use crate::pool::{Caller, Decision, Lease, LeaseEnd, LeaseId, Moment, Refusal, RequestId};

impl Daemon {
    /// Does what time has brought.
    pub(in crate::daemon) fn look_at_leases(&mut self) {
        self.leases.note_use();
        let leases: Vec<LeaseId> = self.leases.held.keys().cloned().collect();
        leases.iter().for_each(|lease| self.note_used(lease));
        let now = Moment::now();
        self.books.tick(&self.leases.scheduler, now);
        let is_due = self.leases.scheduler.next_moment();
        if is_due.is_some_and(|moment| moment <= now) {
            let decisions = self.leases.scheduler.expire(now);
            self.apply(decisions);
        }
    }

    /// Does what was decided.
    pub(in crate::daemon) fn apply(&mut self, decisions: Vec<Decision>) {
        let now = Moment::now();
        for decision in decisions {
            let stored = self
                .books
                .note(&decision, self.leases.since(&decision), now);
            match decision {
                Decision::Granted { request, lease } => match stored {
                    Some(stored) => {
                        // It is told once it cannot be forgotten.
                        let events = self.events.clone();
                        let metrics = self.books.metrics().clone();
                        tokio::spawn(async move {
                            let stored = acknowledged(stored, metrics).await;
                            let _ = events.send(Event::Stored(request, lease, stored)).await;
                        });
                    }
                    None => self.granted(request, &lease),
                },
                Decision::Queued { request, place } => match self.leases.asking.get(&request) {
                    // One that is gone says so itself.
                    Some(Asking::Session(words, ..)) => drop(words.send(Word::Place(place))),
                    Some(Asking::Stream(stream, _)) => {
                        let stream = *stream;
                        self.leases.tell(stream, Told::Queued((&place).into()));
                    }
                    None => {}
                },
                Decision::Refused { request, refusal } => self.refused(request, &refusal),
                Decision::Ended {
                    lease,
                    end,
                    message,
                } => self.ended(&lease, end, &message),
                Decision::Warned { lease, message } => {
                    tracing::warn!(%lease, "{message}");
                    self.leases
                        .tell_holders(&lease, &Told::Warning(Warning { message }));
                }
                Decision::Changed { lease } => {
                    tracing::info!(lease = %lease.id, expires = ?lease.expires, "renewed");
                }
            }
        }
    }

    /// A grant is on the disk, or could not be stored. It may have ended meanwhile.
    pub(in crate::daemon) fn stored(
        &mut self,
        request: RequestId,
        lease: &Lease,
        stored: Result<(), NotStored>,
    ) {
        let caller = Caller::unlimited(lease.tenant.clone(), false);
        match stored {
            Ok(()) => self.granted(request, lease),
            Err(error) => self.take_back(request, lease, &caller, &error.into()),
        }
    }

    pub(super) fn granted(&mut self, request: RequestId, lease: &Lease) {
        if self.leases.scheduler.lease(&lease.id).is_none() {
            let caller = Caller::unlimited(lease.tenant.clone(), false);
            return self.take_back(request, lease, &caller, &EquipError::Over);
        }
        tracing::info!(
            lease = %lease.id,
            tenant = %lease.tenant,
            user = lease.holder.user,
            host = lease.holder.host,
            program = lease.holder.program,
            slices = lease.slices.len(),
            memory = lease.memory(),
            compute = %lease.compute(),
            "lease granted"
        );
        let caller = Caller::unlimited(lease.tenant.clone(), false);
        if let Err(error) = self.leases.equip(lease) {
            return self.take_back(request, lease, &caller, &error);
        }
        match self.leases.asking.remove(&request) {
            Some(Asking::Session(words, granted, _)) => {
                self.let_in(&lease.id, &caller, &words, granted);
                self.let_household_in(&lease.id, &caller);
                self.let_joining_in(&lease.id);
            }
            Some(Asking::Stream(stream, _)) => {
                // An attached lease begins with its holder's stream; no other one counts them.
                if let Some(stream) = self.leases.streams.get_mut(&stream) {
                    stream.state = StreamState::Holding(lease.id.clone());
                }
                self.leases.tell(stream, Told::Granted(lease.into()));
            }
            None => {
                self.release(&lease.id, &caller);
                self.let_joining_in(&lease.id);
            }
        }
    }

    /// Takes back a lease that cannot be used.
    pub(super) fn take_back(
        &mut self,
        request: RequestId,
        lease: &Lease,
        caller: &Caller,
        error: &EquipError,
    ) {
        tracing::error!(lease = %lease.id, "cannot be used: {error}");
        let message = format!("the server cannot give the lease: {error}");
        match self.leases.asking.remove(&request) {
            Some(Asking::Session(words, granted, _)) => {
                self.leases.forget_household(&granted.lease);
                let refused = refusal(RefusalCode::Busy, message);
                drop(words.send(Word::Refused(refused)));
            }
            Some(Asking::Stream(stream, _)) => self.leases.end_stream(stream, message),
            None => {}
        }
        self.release(&lease.id, caller);
        self.let_joining_in(&lease.id);
    }

    pub(super) fn release(&mut self, lease: &LeaseId, caller: &Caller) {
        match self.leases.scheduler.release(lease, caller, Moment::now()) {
            Ok(decisions) => self.apply(decisions),
            Err(error) => tracing::debug!(%lease, "{error}"),
        }
    }

    pub(super) fn refused(&mut self, request: RequestId, refusal: &Refusal) {
        match self.leases.asking.remove(&request) {
            Some(Asking::Session(words, granted, _)) => {
                self.leases.forget_household(&granted.lease);
                tracing::warn!("refused: {refusal}");
                let refused = protocol::hello::refusal(refusal.code(), refusal.to_string());
                drop(words.send(Word::Refused(refused)));
            }
            Some(Asking::Stream(stream, _)) => {
                self.leases.end_stream(stream, refusal.to_string());
            }
            None => {}
        }
    }

    pub(super) fn ended(&mut self, lease: &Lease, end: LeaseEnd, message: &str) {
        let sessions = self.workers.end_lease(&lease.id, message);
        tracing::info!(lease = %lease.id, tenant = %lease.tenant, end = end.name(), sessions, "lease ended: {message}");
        let withdrawn = self.tickets.withdraw(|granted| granted.lease == lease.id);
        self.leases.forget_household(&lease.id);
        let event = Told::Ended(EndedEvent {
            end: control_plane::LeaseEnd::from(end).into(),
            message: message.to_owned(),
        });
        self.leases.tell_holders(&lease.id, &event);
        let is_over = |stream: &Stream| matches!(&stream.state, StreamState::Holding(held) if *held == lease.id);
        self.leases.streams.retain(|_, stream| !is_over(stream));
        for granted in withdrawn {
            self.end_session(&granted.lease);
        }
        self.leases.strip(&lease.id);
    }
}
