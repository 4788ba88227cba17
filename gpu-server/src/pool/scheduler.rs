//! What happened, and what follows: the pool's one state.
//!
//! What: every input is a method that takes the moment and gives [`Decision`]s, in the order in which they are to be done. Why
//! pure: queues, limits and ends are tested with made-up events and any clock. Rules:
//!
//! * the daemon's one task owns it; it never waits, and a decision is not asked back;
//! * withdrawing or releasing what is gone already is no harm;
//! * the daemon asks [`next_moment`](Scheduler::next_moment) when to call [`expire`](Scheduler::expire), if nothing else happens.
//!
//! ```text
//!                 request ──▶ waits ──▶ granted = lease ──▶ ended, its sessions end ──▶ its slices are free
//!                               └─▶ refused, withdrawn        (released, expired, idle, revoked, drained, abandoned)
//! ```
//!
//! [`queue`] says who is granted what, [`ends`] what time does to leases, [`limits`] what a tenant may have.

mod ends;
mod limits;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::fair::{Accounts, Running};
use super::placement::{Demand, Room};
use super::{
    Caller, Capacity, Compute, Decision, Holder, Keeping, Lease, LeaseEnd, LeaseError, LeaseId,
    Moment, Need, Place, Policy, RequestId, Tenant, TokenId,
};

/// A request for a lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The id that the lease gets, if it is granted: a new one.
    pub lease: LeaseId,
    /// Who asks.
    pub caller: Caller,
    /// For what.
    pub need: Need,
    /// For whom, for people.
    pub holder: Holder,
    /// What shall keep the lease.
    pub keeping: Keeping,
    /// For how long; none: as long as limits allow.
    pub time: Option<Duration>,
    /// Queue rather than be refused.
    pub waits: bool,
}

/// A request that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What names it.
    pub id: RequestId,
    /// What was asked.
    pub ask: Ask,
    /// Since when.
    pub since: Moment,
    /// Where it stands, as it was last told.
    pub place: Option<Place>,
}

/// A lease, and what keeps it.
#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    /// Streams of its holder.
    holders: u32,
    /// Since when nothing keeps it.
    alone_since: Option<Moment>,
    is_warned_of_end: bool,
    is_warned_of_idleness: bool,
    /// Until when its slices are taken although it has ended without a session: workers of before a restart may be there still.
    taken_until: Option<Moment>,
}

/// No new leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// When the leases that are left end; none: by themselves.
    pub end: Option<Moment>,
}

/// What is free of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// The device's number on the server.
    pub ordinal: u32,
    /// Bytes that no lease has.
    pub memory: u64,
    /// Compute that no lease has.
    pub compute: Compute,
    /// Leases on it, among them ended ones whose sessions are still ending.
    pub leases: u32,
}

/// The pool's state.
#[derive(Debug)]
pub struct Scheduler {
    policy: Policy,
    capacity: Capacity,
    leases: BTreeMap<LeaseId, Held>,
    /// In the order of asking.
    waiting: Vec<Waiting>,
    accounts: Accounts,
    drain: Option<Drain>,
    next_request: u64,
    /// Whether who is behind the head may be granted before it. Off only in tests, which compare.
    fills: bool,
}

impl Scheduler {
    /// An empty pool.
    #[must_use]
    pub fn new(capacity: Capacity, policy: Policy, now: Moment) -> Self {
        Self {
            policy,
            capacity,
            leases: BTreeMap::new(),
            waiting: Vec::new(),
            accounts: Accounts::new(now),
            drain: None,
            next_request: 1,
            fills: true,
        }
    }

    /// Takes back what was stored, at the start. A lease whose devices are not all there any more ends. Attached leases and those
    /// of sessions have the grace until their holder or their worker is there again; for so long no slice of a stored lease is given to
    /// another one, even if it ends, since a worker of before may still use it.
    pub fn restore(
        &mut self,
        leases: Vec<Lease>,
        drain: Option<Drain>,
        now: Moment,
    ) -> Vec<Decision> {
        for mut lease in leases {
            lease.sessions = 0;
            self.capacity.renumber(&mut lease.slices);
            let held = Held {
                alone_since: Some(now),
                holders: 0,
                is_warned_of_end: false,
                is_warned_of_idleness: false,
                taken_until: Some(now + self.policy.holder_grace),
                lease,
            };
            self.leases.insert(held.lease.id.clone(), held);
        }
        self.drain = drain;
        let mut decisions = self.end_leases_without_device(now);
        decisions.extend(self.free_what_has_no_session(now));
        decisions
    }

    /// Another set of devices: leases of a device that is gone end.
    pub fn set_capacity(&mut self, capacity: Capacity, now: Moment) -> Vec<Decision> {
        self.advance(now);
        self.capacity = capacity;
        let mut decisions = self.end_leases_without_device(now);
        decisions.extend(self.refuse_the_impossible());
        decisions.extend(self.schedule(now));
        decisions
    }

    /// Takes a request back. No harm if it is gone; if it was granted, the lease is there and is to be released.
    pub fn withdraw(&mut self, request: RequestId, now: Moment) -> Vec<Decision> {
        self.advance(now);
        self.waiting.retain(|waiting| waiting.id != request);
        self.schedule(now)
    }

    /// Ends a lease: by its tenant, or by an operator.
    ///
    /// # Errors
    /// There is none, it is over, or it belongs to somebody else.
    pub fn release(
        &mut self,
        lease: &LeaseId,
        caller: &Caller,
        now: Moment,
    ) -> Result<Vec<Decision>, LeaseError> {
        self.advance(now);
        let held = self.live(lease)?;
        let (end, message) = match (held.lease.belongs_to(caller), caller.is_operator) {
            (true, _) => (LeaseEnd::Released, "released".to_owned()),
            (false, true) => {
                let message = format!("ended by an operator ({})", caller.tenant);
                (LeaseEnd::Revoked, message)
            }
            (false, false) => return Err(LeaseError::Forbidden(lease.clone())),
        };
        let mut decisions = self.end(lease, end, message, now);
        decisions.extend(self.schedule(now));
        Ok(decisions)
    }

    /// Sets a new end for a detached lease: so long from now. Its whole life is held against the limits of who renews.
    ///
    /// # Errors
    /// As of [`release`](Self::release); or it has no end of its own, or would last too long.
    pub fn renew(
        &mut self,
        lease: &LeaseId,
        caller: &Caller,
        time: Duration,
        now: Moment,
    ) -> Result<Vec<Decision>, LeaseError> {
        self.advance(now);
        let longest = self.longest_lease(caller);
        let held = self.live_of(lease, caller)?;
        if held.lease.keeping != Keeping::Detached {
            return Err(LeaseError::NotDetached(lease.clone()));
        }
        let expires = now + time;
        let whole = expires.since(held.lease.granted);
        if let Some(longest) = longest.filter(|longest| whole > *longest) {
            return Err(LeaseError::Limit(limits::too_long(whole, longest)));
        }
        held.lease.expires = Some(expires);
        held.is_warned_of_end = false;
        let lease = Box::new(held.lease.clone());
        Ok(vec![Decision::Changed { lease }])
    }

    /// A stream of the holder is there again.
    ///
    /// # Errors
    /// As of [`release`](Self::release).
    pub fn hold(&mut self, lease: &LeaseId, caller: &Caller) -> Result<&Lease, LeaseError> {
        let held = self.live_of(lease, caller)?;
        held.holders = held.holders.saturating_add(1);
        held.alone_since = None;
        Ok(&held.lease)
    }

    /// A stream of the holder is gone. The lease has a grace.
    pub fn let_go(&mut self, lease: &LeaseId, now: Moment) {
        if let Some(held) = self.leases.get_mut(lease) {
            held.holders = held.holders.saturating_sub(1);
            held.note_loneliness(now);
        }
    }

    /// A session begins under the lease.
    ///
    /// # Errors
    /// As of [`release`](Self::release): only the lease's own tenant may use it.
    pub fn begin_session(
        &mut self,
        lease: &LeaseId,
        caller: &Caller,
    ) -> Result<&Lease, LeaseError> {
        let held = self.live_of(lease, caller)?;
        held.begin_session();
        Ok(&held.lease)
    }

    /// A session that outlived the daemon is there again: known by its worker, whoever asked for it.
    ///
    /// # Errors
    /// There is no such lease: the session must end.
    pub fn resume_session(&mut self, lease: &LeaseId) -> Result<&Lease, LeaseError> {
        let held = self.live(lease)?;
        held.begin_session();
        Ok(&held.lease)
    }

    /// A session of the lease has ended, and what it had is given back. The last one of an ended lease frees its slices; a lease
    /// that was its session's ends with it.
    pub fn end_session(&mut self, lease: &LeaseId, now: Moment) -> Vec<Decision> {
        self.advance(now);
        let Some(held) = self.leases.get_mut(lease) else {
            return Vec::new();
        };
        held.lease.sessions = held.lease.sessions.saturating_sub(1);
        held.note_loneliness(now);
        let is_over = held.lease.keeping == Keeping::Session && held.lease.sessions == 0;
        let mut decisions = Vec::new();
        if is_over && held.lease.ended.is_none() {
            decisions = self.end(
                lease,
                LeaseEnd::Released,
                "its program ended".to_owned(),
                now,
            );
        }
        decisions.extend(self.free_what_has_no_session(now));
        decisions
    }

    /// A kernel or copy of the lease ran until now.
    pub fn used(&mut self, lease: &LeaseId, now: Moment) {
        let held = self.leases.get_mut(lease);
        if let Some(held) = held.filter(|held| held.lease.last_used < now) {
            held.lease.last_used = now;
            held.is_warned_of_idleness = false;
        }
    }

    /// No new leases from now on: who waits is refused, and who holds is warned. Once more: with another end.
    pub fn drain(&mut self, drain: Drain, now: Moment) -> Vec<Decision> {
        self.advance(now);
        self.drain = Some(drain);
        let mut decisions = self.refuse_all(|_| true, &super::Refusal::Draining);
        decisions.extend(self.warn_of_drain(drain, now));
        decisions.extend(self.expire(now));
        decisions
    }

    /// New leases again.
    pub fn undo_drain(&mut self, now: Moment) -> Vec<Decision> {
        self.drain = None;
        self.schedule(now)
    }

    /// A token is worth nothing any more: what was asked and leased by it ends.
    pub fn revoke_token(&mut self, token: &TokenId, now: Moment) -> Vec<Decision> {
        let is_its = |other: Option<&TokenId>| other == Some(token);
        self.revoke(
            |caller| is_its(caller.token_id.as_ref()),
            |lease| is_its(lease.token.as_ref()),
            "its token was revoked",
            now,
        )
    }

    /// A tenant may have nothing any more.
    pub fn revoke_tenant(&mut self, tenant: &Tenant, now: Moment) -> Vec<Decision> {
        self.revoke(
            |caller| caller.tenant == *tenant,
            |lease| lease.tenant == *tenant,
            "its tenant was revoked",
            now,
        )
    }

    fn revoke(
        &mut self,
        asked: impl Fn(&Caller) -> bool,
        leased: impl Fn(&Lease) -> bool,
        message: &str,
        now: Moment,
    ) -> Vec<Decision> {
        self.advance(now);
        let revoked = |waiting: &Waiting| asked(&waiting.ask.caller);
        let mut decisions = self.refuse_all(revoked, &super::Refusal::Revoked);
        decisions.extend(self.end_all(leased, LeaseEnd::Revoked, message, now));
        decisions.extend(self.schedule(now));
        decisions
    }

    /// The operator's policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The server and its devices.
    #[must_use]
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Whether, and until when, the server is being emptied.
    #[must_use]
    pub const fn draining(&self) -> Option<Drain> {
        self.drain
    }

    /// All leases that are not over.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        let leases = self.leases.values().map(|held| &held.lease);
        leases.filter(|lease| lease.ended.is_none())
    }

    /// A lease, also one that is over and whose sessions are ending.
    #[must_use]
    pub fn lease(&self, lease: &LeaseId) -> Option<&Lease> {
        self.leases.get(lease).map(|held| &held.lease)
    }

    /// What waits, in the order of asking.
    #[must_use]
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// What is free of each device.
    #[must_use]
    pub fn free(&self) -> Vec<Free> {
        let free = |room: &Room<'_>| Free {
            ordinal: room.device.ordinal,
            memory: room.free().memory,
            compute: room.free().compute,
            leases: u32::try_from(room.taken.len()).unwrap_or(u32::MAX),
        };
        self.rooms().iter().map(free).collect()
    }

    /// The devices and what is taken of them.
    fn rooms(&self) -> Vec<Room<'_>> {
        let mut rooms: Vec<Room<'_>> = self.capacity.devices.iter().map(Room::empty).collect();
        let slices = self.leases.values().flat_map(|held| &held.lease.slices);
        for slice in slices {
            if let Some(room) = rooms.iter_mut().find(|room| room.device.uuid == slice.uuid) {
                room.taken.push(Demand::from(slice));
            }
        }
        rooms
    }

    fn live(&mut self, lease: &LeaseId) -> Result<&mut Held, LeaseError> {
        self.leases
            .get_mut(lease)
            .filter(|held| held.lease.ended.is_none())
            .ok_or_else(|| LeaseError::Unknown(lease.clone()))
    }

    fn live_of(&mut self, lease: &LeaseId, caller: &Caller) -> Result<&mut Held, LeaseError> {
        let held = self.live(lease)?;
        if held.lease.belongs_to(caller) {
            Ok(held)
        } else {
            Err(LeaseError::Forbidden(lease.clone()))
        }
    }

    /// The part of the pool's devices that a lease has.
    fn share(&self, lease: &Lease) -> Compute {
        let share = |slice: &super::Slice| {
            let device = self
                .capacity
                .devices
                .iter()
                .find(|device| device.uuid == slice.uuid);
            device.map_or(slice.compute, |device| Demand::from(slice).share(device))
        };
        lease.slices.iter().map(share).sum()
    }

    /// Charges the accounts until now.
    fn advance(&mut self, now: Moment) {
        let running: Vec<(Tenant, Compute, Moment)> = self
            .leases
            .values()
            .map(|held| &held.lease)
            .map(|lease| (lease.tenant.clone(), self.share(lease), lease.granted))
            .collect();
        let running = running.iter().map(|(tenant, share, granted)| Running {
            tenant,
            share: *share,
            granted: *granted,
        });
        let active = self.active_tenants();
        self.accounts.advance(running, active, now);
    }

    /// How many tenants wait or lease.
    fn active_tenants(&self) -> usize {
        let leasing = self.leases.values().map(|held| &held.lease.tenant);
        let asking = self
            .waiting
            .iter()
            .map(|waiting| &waiting.ask.caller.tenant);
        let tenants: std::collections::BTreeSet<&Tenant> = leasing.chain(asking).collect();
        tenants.len()
    }
}

impl Held {
    fn begin_session(&mut self) {
        self.lease.sessions = self.lease.sessions.saturating_add(1);
        self.alone_since = None;
    }

    /// Whether nobody else may have its slices.
    fn is_taken(&self, now: Moment) -> bool {
        let may_have_workers = self.taken_until.is_some_and(|until| until > now);
        self.lease.ended.is_none() || self.lease.sessions > 0 || may_have_workers
    }

    /// Nothing keeps it since now, if so.
    fn note_loneliness(&mut self, now: Moment) {
        if self.holders == 0 && self.lease.sessions == 0 && self.alone_since.is_none() {
            self.alone_since = Some(now);
        }
    }
}
