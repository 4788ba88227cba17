//! The daemon's books: what is stored, what is charged, what is written into the audit log.
//!
//! What: every decision goes through [`Books::note`] before it is done. Rules: with a state directory a grant is told once it is on the disk
//! (the [`Ack`]); without one nothing is stored or logged, and usage is counted from the start of the daemon.

use std::path::Path;
use std::time::{Duration, Instant};

use control_plane::StatsReply;

use crate::pool::audit::{self, AuditLog, Entry};
use crate::pool::meter::Meter;
use crate::pool::store::{
    self, Ack, Change, KEY_BYTES, SessionNumbers, Store, StoreError, StoreThread,
};
use crate::pool::{Caller, Decision, Drain, Lease, LeaseId, Moment};

/// How often what was used is stored.
const FLUSH: Duration = Duration::from_secs(60);

/// What outlives the daemon, and what is counted.
pub(super) struct Books {
    store: Option<StoreThread>,
    audit: Option<AuditLog>,
    meter: Meter,
    sessions: SessionNumbers,
    flushed: Instant,
}

/// What a daemon before this one has left.
#[derive(Default)]
pub(super) struct Left {
    pub(super) leases: Vec<Lease>,
    pub(super) drain: Option<Drain>,
    /// What registrations of workers are sealed by.
    pub(super) key: Option<[u8; KEY_BYTES]>,
}

impl Books {
    /// Opens the books of a state directory; without one, books of this daemon alone.
    ///
    /// # Errors
    /// They are another daemon's, or damaged, or cannot be written.
    pub(super) fn open(state: Option<&Path>) -> Result<(Self, Left), StoreError> {
        let now = Moment::now();
        let Some(state) = state else {
            let books = Self {
                store: None,
                audit: None,
                meter: Meter::new(now),
                sessions: SessionNumbers::default(),
                flushed: Instant::now(),
            };
            return Ok((books, Left::default()));
        };
        let failed = |source| StoreError::Io {
            path: state.to_owned(),
            source,
        };
        let (store, stored) = Store::open(state)?;
        let audit = AuditLog::open(state).map_err(failed)?;
        audit.write(&Entry::server_began(now));
        let meter = Meter::restore(stored.since, stored.usage, &stored.leases, &stored.readings);
        let books = Self {
            store: Some(StoreThread::start(store).map_err(failed)?),
            audit: Some(audit),
            meter,
            sessions: stored.sessions,
            flushed: Instant::now(),
        };
        let left = Left {
            leases: stored.leases,
            drain: stored.drain,
            key: Some(stored.key),
        };
        Ok((books, left))
    }

    /// Takes note of a decision; what comes when it is stored, if it is.
    pub(super) fn note(&mut self, decision: &Decision) -> Option<Ack> {
        let now = Moment::now();
        if let Some(entry) = audit::entry(decision, now) {
            self.write(&entry);
        }
        let mut changes = store::changes(decision);
        changes.extend(self.meter.note(decision, now));
        self.keep(changes)
    }

    fn keep(&self, changes: Vec<Change>) -> Option<Ack> {
        if changes.is_empty() {
            return None;
        }
        self.store.as_ref().map(|store| store.apply(changes))
    }

    /// Writes a line into the audit log.
    pub(super) fn write(&self, entry: &Entry) {
        if let Some(audit) = &self.audit {
            audit.write(entry);
        }
    }

    /// The audit log was moved away, maybe.
    pub(super) fn reopen(&self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// The server is being emptied, or not any more.
    pub(super) fn drain(&self, caller: &Caller, drain: Option<Drain>) {
        self.write(&Entry::drain(caller, drain, Moment::now()));
        self.keep(vec![Change::Drain(drain)]);
    }

    /// The number of the next session.
    pub(super) fn next_session(&mut self) -> u64 {
        let (number, change) = self.sessions.take();
        self.keep(change.into_iter().collect());
        number
    }

    /// A session has begun.
    pub(super) fn session_began(&mut self, session: u64, lease: &Lease) {
        let entry = Entry::session_began(session, lease, &lease.holder, Moment::now());
        self.write(&entry);
        self.meter.session_began(&lease.id);
    }

    /// A session has ended, in this way.
    pub(super) fn session_ended(&self, session: u64, lease: &LeaseId, how: &str) {
        let entry = Entry::session_ended(session, Some(lease), how, Moment::now());
        self.write(&entry);
    }

    /// A lease has used so much device time.
    pub(super) fn used(&mut self, lease: &LeaseId, total: Duration) {
        self.meter.used(lease, total);
    }

    /// A lease's gates count from nothing again.
    pub(super) fn gates_are_new(&mut self, lease: &LeaseId) {
        self.meter.gates_are_new(lease);
    }

    /// A lease and all its sessions are over.
    pub(super) fn forget(&mut self, lease: &LeaseId) {
        self.meter.forget(lease);
        self.keep(vec![Change::Forget(lease.clone())]);
    }

    /// Stores what was used, if it is time.
    pub(super) fn look(&mut self) {
        if self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
    }

    /// Stores what was used.
    pub(super) fn flush(&mut self) {
        self.flushed = Instant::now();
        let changes = self.meter.flush(Moment::now());
        self.keep(changes);
    }

    /// What tenants have used, as far as it is this caller's to see.
    pub(super) fn stats(&self, caller: &Caller) -> StatsReply {
        let usage = self.meter.usage(Moment::now());
        let usage = usage
            .iter()
            .filter(|(tenant, _)| caller.is_operator || **tenant == caller.tenant);
        StatsReply {
            tenants: usage
                .map(|(tenant, totals)| totals.to_message(tenant))
                .collect(),
            since_unix_ms: self.meter.since().0,
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.flush();
        self.write(&Entry::server_ended(Moment::now()));
    }
}
