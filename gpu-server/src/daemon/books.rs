//! The daemon's books: what is stored, metered, logged and counted of what the pool decides, kept in one place.
//!
//! *What:* [`Books`] is told each decision once ([`note`](Books::note)) and each session's begin and end, and is looked after some times a second
//! ([`tick`](Books::tick)). Without a state directory nothing is stored or logged, and the rest is the same. *Rules:*
//!
//! * a grant is told when its [`Ack`] has come, and its lease is released if it could not be stored;
//! * what a decision changes, and what the lease is charged by then, are stored together;
//! * the books never wait for a disk but when they are opened and [ended](Books::end).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::metrics::server::Server;
use super::metrics::{Ending, Metrics};
use crate::config::Config;
use crate::pool::audit::{self, AuditLog, Entry};
use crate::pool::meter::Meter;
use crate::pool::sparing::Sparing;
use crate::pool::store::{
    self, Ack, Change, NotStored, SessionNumbers, Store, StoreError, StoreThread, Stored,
};
use crate::pool::{
    Ask, Caller, Decision, Drain, Holder, Lease, LeaseError, LeaseId, Moment, Refusal, Scheduler,
    Tenant, TokenId,
};
use crate::registry::{Counts, Key};

/// How often totals are stored, if no lease ends.
const FLUSH: Duration = Duration::from_secs(60);

/// How often the totals in the figures are as of now.
const USAGE: Duration = Duration::from_secs(5);

/// Why the books cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log, or a thread.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What was there when the books were opened.
pub(super) struct Opened {
    /// The books.
    pub(super) books: Books,
    /// The leases of before: for [`Scheduler::restore`].
    pub(super) leases: Vec<Lease>,
    /// The drain of before.
    pub(super) drain: Option<Drain>,
    /// Where workers find the next daemon, and what their registrations are sealed by; none: they end with this one.
    pub(super) registry: Option<(PathBuf, Key)>,
}

/// The books.
pub(super) struct Books {
    store: Option<StoreThread>,
    audit: Option<AuditLog>,
    refusals: RefCell<Sparing>,
    meter: Meter,
    metrics: Metrics,
    sessions: SessionNumbers,
    /// Leases of before the start: workers that nobody has heard of may still use them.
    restored: BTreeSet<LeaseId>,
    /// Leases that have ended and are stored still.
    ending: BTreeSet<LeaseId>,
    flushed: Moment,
    shown: Moment,
    _server: Option<Server>,
}

impl Books {
    /// Opens the books, in the runtime that figures are given away in.
    ///
    /// # Errors
    /// Another server has the state directory, or what is in it cannot be used.
    pub(super) fn open(config: &Config, now: Moment) -> Result<Opened, BooksError> {
        let opened = match &config.state {
            Some(directory) => Self::with_state(directory, now)?,
            None => Self::without_state(now),
        };
        let metrics = opened.books.metrics.clone();
        let server = config
            .metrics
            .and_then(|address| Server::start_or_warn(address, metrics));
        let books = Self {
            _server: server,
            ..opened.books
        };
        books.audit(|| Entry::server_began(now));
        Ok(Opened { books, ..opened })
    }

    fn with_state(directory: &Path, now: Moment) -> Result<Opened, BooksError> {
        let (store, stored) = Store::open(directory)?;
        let audit = AuditLog::open(directory)?;
        let store = StoreThread::start(store)?;
        let Stored {
            leases,
            drain,
            usage,
            readings,
            since,
            sessions,
            key,
        } = stored;
        let ids = |is_over| {
            let leases = leases.iter();
            let leases = leases.filter(move |lease| lease.ended.is_some() == is_over);
            leases.map(|lease| lease.id.clone()).collect()
        };
        let books = Self {
            store: Some(store),
            audit: Some(audit),
            refusals: RefCell::default(),
            meter: Meter::restore(since, usage, &leases, &readings),
            metrics: Metrics::new(true),
            sessions,
            restored: ids(false),
            ending: ids(true),
            flushed: now,
            shown: Moment(0),
            _server: None,
        };
        let path = directory.join(crate::registry::DIRECTORY);
        Ok(Opened {
            books,
            leases,
            drain,
            registry: Some((path, key)),
        })
    }

    fn without_state(now: Moment) -> Opened {
        let books = Self {
            store: None,
            audit: None,
            refusals: RefCell::default(),
            meter: Meter::new(now),
            metrics: Metrics::new(false),
            sessions: SessionNumbers::default(),
            restored: BTreeSet::new(),
            ending: BTreeSet::new(),
            flushed: now,
            shown: Moment(0),
            _server: None,
        };
        Opened {
            books,
            leases: Vec::new(),
            drain: None,
            registry: None,
        }
    }

    /// Takes a decision down. Of a grant, `asked` says since when its request has waited. A grant is told when the acknowledgement has come; none:
    /// at once.
    #[must_use = "a grant is told when it is stored"]
    pub(super) fn note(
        &mut self,
        decision: &Decision,
        asked: Option<Moment>,
        now: Moment,
    ) -> Option<Ack> {
        self.count(decision, asked, now);
        self.audit_some(|| audit::entry(decision, now));
        let mut changes = self.changes(decision);
        changes.extend(self.meter.note(decision, now));
        let ack = self.store(changes);
        ack.filter(|_| matches!(decision, Decision::Granted { .. }))
    }

    fn count(&self, decision: &Decision, asked: Option<Moment>, now: Moment) {
        match decision {
            Decision::Granted { lease, .. } => {
                let waited = asked.map_or(Duration::ZERO, |asked| now.since(asked));
                self.metrics.granted(lease, waited);
            }
            Decision::Refused { refusal, .. } => self.metrics.refused(refusal),
            Decision::Ended { end, .. } => self.metrics.ended(*end),
            Decision::Queued { .. } | Decision::Warned { .. } | Decision::Changed { .. } => {}
        }
    }

    /// What a decision changes. An ended lease stays stored for as long as its slices stay taken.
    fn changes(&mut self, decision: &Decision) -> Vec<Change> {
        let Decision::Ended { lease, .. } = decision else {
            return store::changes(decision);
        };
        if lease.sessions > 0 || self.restored.contains(&lease.id) {
            self.ending.insert(lease.id.clone());
            return vec![Change::Lease(lease.clone())];
        }
        store::changes(decision)
    }

    fn store(&self, changes: Vec<Change>) -> Option<Ack> {
        let store = self.store.as_ref()?;
        (!changes.is_empty()).then(|| store.apply(changes))
    }

    /// A request was refused: who asked, and for what. The decision itself is [noted](Self::note) as well.
    pub(super) fn request_refused(&self, ask: &Ask, refusal: &Refusal, now: Moment) {
        let (caller, holder, need) = (&ask.caller, &ask.holder, &ask.need);
        self.refusal(&of_tenant(caller), now, || {
            Entry::request_refused(caller, holder, need, refusal, now)
        });
    }

    /// Somebody may not do something with a lease.
    pub(super) fn lease_refused(
        &self,
        caller: &Caller,
        lease: &LeaseId,
        error: &LeaseError,
        now: Moment,
    ) {
        self.refusal(&of_tenant(caller), now, || {
            Entry::lease_refused(caller, lease, error, now)
        });
    }

    /// Somebody was not let in. Whether it was written down: of a flood not all is.
    pub(super) fn client_refused(&self, client: &str, message: &str, now: Moment) -> bool {
        // Every connection has a port of its own.
        let source = client.rsplit_once(':').map_or(client, |(host, _)| host);
        self.refusal(source, now, || Entry::client_refused(client, message, now))
    }

    fn refusal(&self, source: &str, now: Moment, entry: impl FnOnce() -> Entry) -> bool {
        let is_written = self.refusals.borrow_mut().admits(source, now);
        if is_written {
            self.audit(entry);
        }
        is_written
    }

    /// Says of whom not all was written down.
    fn say_left_out(&self, now: Moment) {
        for (source, lines) in self.refusals.borrow_mut().left_out(now) {
            let message = format!("{lines} more refusals within a minute are not written down");
            tracing::warn!(source, "{message}");
            self.audit(|| Entry::client_refused(&source, &message, now));
        }
    }

    /// A token is worth nothing any more.
    pub(super) fn token_revoked(&self, token: &TokenId, now: Moment) {
        self.audit(|| Entry::token_revoked(token, now));
    }

    /// An operator empties the server, or does not any more.
    pub(super) fn drained(&self, caller: &Caller, drain: Option<Drain>, now: Moment) {
        self.audit(|| Entry::drain(caller, drain, now));
        drop(self.store(vec![Change::Drain(drain)]));
    }

    /// The next session's number: no session of this state directory had it before.
    pub(super) fn session_number(&mut self) -> u64 {
        let (number, change) = self.sessions.take();
        drop(self.store(change.into_iter().collect()));
        number
    }

    /// A session has begun.
    pub(super) fn session_began(
        &mut self,
        session: u64,
        lease: &Lease,
        holder: &Holder,
        now: Moment,
    ) {
        self.meter.session_began(&lease.id);
        self.metrics.session_began(Some(&lease.tenant));
        self.audit(|| Entry::session_began(session, lease, holder, now));
    }

    /// A session of an earlier daemon was found again.
    pub(super) fn session_resumed(&self) {
        self.metrics.session_resumed();
    }

    /// A session has ended.
    pub(super) fn session_ended(
        &self,
        session: u64,
        lease: Option<&LeaseId>,
        ending: Ending,
        now: Moment,
    ) {
        self.metrics.session_ended(ending);
        self.audit(|| Entry::session_ended(session, lease, ending.name(), now));
    }

    /// A session of this tenant has done so much more.
    pub(super) fn counts(&self, tenant: Option<&Tenant>, counts: Counts) {
        self.metrics.counts(tenant, counts);
    }

    /// The lease's gates have counted so much device time, over all its devices.
    pub(super) fn used(&mut self, lease: &LeaseId, total: Duration) {
        self.meter.used(lease, total);
    }

    /// The lease got new gates, which count from nothing: of a lease of before none of whose workers was found.
    pub(super) fn gates_are_new(&mut self, lease: &LeaseId) {
        self.meter.gates_are_new(lease);
    }

    /// The figures, for what they alone are told.
    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What tenants have used.
    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Looks after everything: some times a second.
    pub(super) fn tick(&mut self, scheduler: &Scheduler, now: Moment) {
        self.say_left_out(now);
        self.metrics.pool(scheduler);
        if now.since(self.shown) >= USAGE {
            self.shown = now;
            self.metrics.usage(&self.meter.usage(now));
        }
        let over = |lease: &LeaseId| scheduler.lease(lease).is_none();
        let over: Vec<LeaseId> = self.ending.extract_if(.., |lease| over(lease)).collect();
        let mut changes = Vec::new();
        for lease in over {
            self.restored.remove(&lease);
            self.meter.forget(&lease);
            changes.push(Change::Forget(lease));
        }
        if !changes.is_empty() || now.since(self.flushed) >= FLUSH {
            self.flushed = now;
            changes.extend(self.meter.flush(now));
        }
        drop(self.store(changes));
    }

    /// Opens the audit log again.
    pub(super) fn reopen(&self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// Writes everything down, and waits for it.
    pub(super) fn end(mut self, now: Moment) {
        self.audit(|| Entry::server_ended(now));
        let changes = self.meter.flush(now);
        drop(self.store(changes));
        if let Some(store) = self.store.take() {
            store.end();
        }
    }

    fn audit(&self, entry: impl FnOnce() -> Entry) {
        self.audit_some(|| Some(entry()));
    }

    fn audit_some(&self, entry: impl FnOnce() -> Option<Entry>) {
        if let Some(audit) = &self.audit
            && let Some(entry) = entry()
        {
            audit.write(&entry);
        }
    }
}

/// Whose refusals count together.
fn of_tenant(caller: &Caller) -> String {
    format!("tenant {}", caller.tenant)
}

/// Waits until a grant is stored, and counts how long that took.
///
/// # Errors
/// It could not be stored: its lease is to be released, and its holder told.
pub(super) async fn acknowledged(ack: Ack, metrics: Metrics) -> Result<(), NotStored> {
    let begin = Instant::now();
    let stored = ack.await;
    match &stored {
        Ok(()) => metrics.stored(begin.elapsed()),
        Err(_) => metrics.not_stored(),
    }
    stored
}

#[cfg(test)]
mod tests {
    use protocol::hello::DeviceKind;

    use super::*;
    use crate::config::Flags;
    use crate::pool::{Capacity, Device, Keeping, Need, Policy, ServerFacts};

    fn config(state: Option<&Path>) -> Config {
        let flags = Flags {
            config: Some("/dev/null".into()),
            ..Flags::default()
        };
        let mut config = crate::config::load(&flags).expect("a config");
        config.state = state.map(Path::to_owned);
        config
    }

    fn scheduler(now: Moment) -> Scheduler {
        let server = ServerFacts {
            hostname: "host".to_owned(),
            has_rdma: false,
            driver_version: 13000,
            driver_release: String::new(),
            kind: DeviceKind::Nvidia,
        };
        let device = Device {
            ordinal: 0,
            uuid: [1; 16],
            name: "NVIDIA Made-Up".to_owned(),
            total_memory: 16 << 30,
            usable_memory: 16 << 30,
            least_slice: 0,
        };
        let devices = vec![device];
        Scheduler::new(Capacity { server, devices }, Policy::default(), now)
    }

    fn ask(keeping: Keeping) -> Ask {
        Ask {
            lease: LeaseId::random().expect("random numbers"),
            caller: Caller::unlimited(Tenant::local(), true),
            need: Need::whole(1),
            holder: Holder::default(),
            keeping,
            time: None,
            waits: true,
        }
    }

    async fn noted(books: &mut Books, decisions: Vec<Decision>, now: Moment) {
        for decision in decisions {
            if let Some(ack) = books.note(&decision, None, now) {
                let metrics = books.metrics().clone();
                acknowledged(ack, metrics).await.expect("stored");
            }
        }
    }

    /// A pool, with the books of a state directory.
    async fn opened(state: &Path, now: Moment) -> (Books, Scheduler) {
        let opened = Books::open(&config(Some(state)), now).expect("books");
        let mut books = opened.books;
        let mut scheduler = scheduler(now);
        let decisions = scheduler.restore(opened.leases, opened.drain, now);
        noted(&mut books, decisions, now).await;
        (books, scheduler)
    }

    #[tokio::test]
    async fn a_lease_goes_on_with_the_next_daemon_and_is_charged_throughout() {
        let state = tempfile::tempdir().expect("a directory");
        let asked = ask(Keeping::Detached);
        let (mut books, mut pool) = opened(state.path(), Moment(0)).await;
        let (_, decisions) = pool.request(asked.clone(), Moment(0));
        noted(&mut books, decisions, Moment(0)).await;
        let first = books.session_number();
        books.end(Moment(1_000));
        let (mut books, mut pool) = opened(state.path(), Moment(5_000)).await;
        assert!(pool.lease(&asked.lease).is_some());
        assert!(books.session_number() > first);
        let caller = &asked.caller;
        let ended = pool.release(&asked.lease, caller, Moment(9_000));
        noted(&mut books, ended.expect("released"), Moment(9_000)).await;
        let usage = books.meter().usage(Moment(9_000));
        let message = usage[&Tenant::local()].to_message(&Tenant::local());
        assert_eq!((message.leased_gpu_seconds, message.leases), (9.0, 1));
        // Its workers may be there still, so it is stored until its slices are free.
        books.tick(&pool, Moment(9_000));
        books.end(Moment(9_000));
        let (mut books, mut pool) = opened(state.path(), Moment(10_000)).await;
        assert!(pool.leases().next().is_none());
        assert_eq!(pool.free()[0].memory, 0);
        noted(&mut books, pool.expire(Moment(60_000)), Moment(60_000)).await;
        books.tick(&pool, Moment(60_000));
        books.end(Moment(60_000));
        let (books, pool) = opened(state.path(), Moment(61_000)).await;
        assert_eq!(pool.free()[0].memory, 16 << 30);
        let usage = books.meter().usage(Moment(61_000));
        assert_eq!(
            usage[&Tenant::local()].to_message(&Tenant::local()),
            message
        );
        drop(books);
        let log = std::fs::read_to_string(state.path().join(audit::FILE)).expect("a log");
        assert_eq!(log.matches(r#""event":"granted""#).count(), 1, "{log}");
        assert_eq!(log.matches(r#""event":"ended""#).count(), 1, "{log}");
    }

    #[tokio::test]
    async fn a_drain_goes_on_with_the_next_daemon() {
        let state = tempfile::tempdir().expect("a directory");
        let (books, _) = opened(state.path(), Moment(0)).await;
        let operator = Caller::unlimited(Tenant::local(), true);
        let drain = Drain { end: None };
        books.drained(&operator, Some(drain), Moment(1));
        books.end(Moment(1));
        let (books, pool) = opened(state.path(), Moment(2)).await;
        assert_eq!(pool.draining(), Some(drain));
        books.drained(&operator, None, Moment(3));
        books.end(Moment(3));
        let (_, pool) = opened(state.path(), Moment(4)).await;
        assert_eq!(pool.draining(), None);
    }

    #[tokio::test]
    async fn without_a_state_directory_nothing_is_waited_for() {
        let opened = Books::open(&config(None), Moment(0)).expect("books");
        assert!(opened.registry.is_none() && opened.leases.is_empty());
        let mut books = opened.books;
        let mut pool = scheduler(Moment(0));
        let (_, decisions) = pool.request(ask(Keeping::Session), Moment(0));
        let grant = decisions.iter().find(|decision| {
            let asked = Some(Moment(0));
            matches!(decision, Decision::Granted { .. })
                && books.note(decision, asked, Moment(5)).is_none()
        });
        assert!(grant.is_some());
        assert_eq!((books.session_number(), books.session_number()), (1, 2));
        books.tick(&pool, Moment(9));
        assert!(books.metrics().encode().contains("gpurun_leases"));
        books.end(Moment(9));
    }
}
