//! What operators see: figures for Prometheus.
//!
//! *What:* [`Metrics`] is told what happens and how the pool stands, and writes it down as text; [`server`] gives that to who asks. *Rules:*
//! counting never waits and never fails; what is counted by tenant has at most [`MAX_TENANTS`] of them, and all further ones are `other`, so that nobody
//! makes the figures grow without end; nothing that a client says of itself is in them.
//!
//! ```text
//! told once each     granted, refused, ended, sessions, counts, hellos     counters and histograms
//! told again         pool, devices, usage                                  what stands now: shown as it was last told
//! ```

pub(super) mod server;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use protocol::hello::{RefusalCode, UsageReport};

use crate::pool::audit::refusal_name;
use crate::pool::meter::Totals;
use crate::pool::{Lease, LeaseEnd, Refusal, Scheduler, Tenant};
use crate::registry::Counts;
use view::Shown;

/// Most tenants that are told apart.
pub(super) const MAX_TENANTS: usize = 200;

/// What further tenants are together. No tenant's name has a space.
const OTHER: &str = "all others";

/// What sessions without a lease are counted under.
const NOBODY: &str = "";

/// Upper ends of what a hello takes, in seconds.
const HELLO_SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Upper ends of what requests wait, in seconds.
const WAITING_SECONDS: [f64; 10] = [
    0.1, 1.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// Upper ends of what storing takes, in seconds.
const STORE_SECONDS: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// One label and its value.
type Labels = [(&'static str, String); 1];

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its worker has ended in peace: its client left or was lost, or its lease was over.
    Clean,
    /// Its worker says that it failed.
    Failed,
    /// Its worker was ended by a signal.
    Signal,
    /// It was another daemon's, so nobody knows.
    Unknown,
}

impl Ending {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Failed => "failed",
            Self::Signal => "signal",
            Self::Unknown => "unknown",
        }
    }
}

/// The figures. Copies are the same ones.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    all: Arc<Registry>,
    tenants: Arc<Mutex<BTreeSet<Tenant>>>,
    view: Arc<Shown>,
    counted: Counted,
}

/// What is counted.
#[derive(Debug, Clone)]
struct Counted {
    grants: Family<Labels, Counter>,
    refusals: Family<Labels, Counter>,
    ends: Family<Labels, Counter>,
    hello_refusals: Family<Labels, Counter>,
    sessions_begun: Family<Labels, Counter>,
    sessions_resumed: Counter,
    sessions_ended: Family<Labels, Counter>,
    calls: Family<Labels, Counter>,
    bytes_received: Family<Labels, Counter>,
    bytes_sent: Family<Labels, Counter>,
    faults: Family<Labels, Counter>,
    hello_seconds: Histogram,
    waiting_seconds: Histogram,
    store_seconds: Histogram,
    store_failures: Counter,
    is_stored: Gauge,
}

impl Counted {
    fn registered(registry: &mut Registry) -> Self {
        Self {
            grants: added(
                registry,
                "grants",
                "Leases that were granted",
                Family::default(),
            ),
            refusals: added(
                registry,
                "refusals",
                "Requests for leases that were refused, by reason",
                Family::default(),
            ),
            ends: added(
                registry,
                "lease_ends",
                "Leases that have ended, by how",
                Family::default(),
            ),
            hello_refusals: added(
                registry,
                "hello_refusals",
                "Connections that were refused, by reason",
                Family::default(),
            ),
            sessions_begun: added(
                registry,
                "sessions_begun",
                "Sessions that were begun",
                Family::default(),
            ),
            sessions_resumed: added(
                registry,
                "sessions_resumed",
                "Sessions of an earlier server that were found again",
                Counter::default(),
            ),
            sessions_ended: added(
                registry,
                "sessions_ended",
                "Sessions that have ended, by how",
                Family::default(),
            ),
            calls: added(registry, "calls", "Calls of programs", Family::default()),
            bytes_received: added(
                registry,
                "received_bytes",
                "Bytes from programs",
                Family::default(),
            ),
            bytes_sent: added(
                registry,
                "sent_bytes",
                "Bytes to programs",
                Family::default(),
            ),
            faults: added(
                registry,
                "faults",
                "Faults of kernels, and posted calls that failed",
                Family::default(),
            ),
            hello_seconds: added(
                registry,
                "hello_seconds",
                "From a connection to the answer to its hello, queueing left out",
                Histogram::new(HELLO_SECONDS),
            ),
            waiting_seconds: added(
                registry,
                "queue_wait_seconds",
                "From a request to its grant",
                Histogram::new(WAITING_SECONDS),
            ),
            store_seconds: added(
                registry,
                "store_seconds",
                "From a change to its acknowledgement by the disk",
                Histogram::new(STORE_SECONDS),
            ),
            store_failures: added(
                registry,
                "store_failures",
                "Changes that could not be stored when they were made",
                Counter::default(),
            ),
            is_stored: added(
                registry,
                "state_is_stored",
                "Whether the pool's state outlives the server",
                Gauge::default(),
            ),
        }
    }
}

fn added<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Nothing yet. Whether the pool's state is stored.
    pub(super) fn new(is_stored: bool) -> Self {
        let mut registry = Registry::with_prefix("gpurun");
        let counted = Counted::registered(&mut registry);
        counted.is_stored.set(is_stored.into());
        let view = Arc::new(Shown::default());
        registry.register_collector(Box::new(Arc::clone(&view)));
        Self {
            all: Arc::new(registry),
            tenants: Arc::default(),
            view,
            counted,
        }
    }

    /// A lease was granted to a request that has waited so long.
    pub(super) fn granted(&self, lease: &Lease, waited: Duration) {
        self.of(&self.counted.grants, Some(&lease.tenant), 1);
        self.counted.waiting_seconds.observe(waited.as_secs_f64());
    }

    /// A request was refused.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let reason = [("reason", refusal_name(refusal).to_owned())];
        self.counted.refusals.get_or_create(&reason).inc();
    }

    /// A lease has ended.
    pub(super) fn ended(&self, end: LeaseEnd) {
        let how = [("end", end.name().to_owned())];
        self.counted.ends.get_or_create(&how).inc();
    }

    /// A connection was refused.
    pub(super) fn hello_refused(&self, code: RefusalCode) {
        let name = code.as_str_name().trim_start_matches("REFUSAL_CODE_");
        let reason = [("reason", name.to_ascii_lowercase())];
        self.counted.hello_refusals.get_or_create(&reason).inc();
    }

    /// A hello was answered after so long.
    pub(super) fn hello(&self, time: Duration) {
        self.counted.hello_seconds.observe(time.as_secs_f64());
    }

    /// A session was begun for this tenant.
    pub(super) fn session_began(&self, tenant: Option<&Tenant>) {
        self.of(&self.counted.sessions_begun, tenant, 1);
    }

    /// A session of an earlier server was found again.
    pub(super) fn session_resumed(&self) {
        self.counted.sessions_resumed.inc();
    }

    /// A session has ended.
    pub(super) fn session_ended(&self, ending: Ending) {
        let how = [("how", ending.name().to_owned())];
        self.counted.sessions_ended.get_or_create(&how).inc();
    }

    /// A session of this tenant has done so much more.
    pub(super) fn counts(&self, tenant: Option<&Tenant>, counts: Counts) {
        self.of(&self.counted.calls, tenant, counts.calls);
        self.of(&self.counted.bytes_received, tenant, counts.bytes_received);
        self.of(&self.counted.bytes_sent, tenant, counts.bytes_sent);
        self.of(&self.counted.faults, tenant, counts.faults);
    }

    /// A change was stored after so long.
    pub(super) fn stored(&self, time: Duration) {
        self.counted.store_seconds.observe(time.as_secs_f64());
    }

    /// A change could not be stored.
    pub(super) fn not_stored(&self) {
        self.counted.store_failures.inc();
    }

    /// How the pool stands: some times a second.
    pub(super) fn pool(&self, scheduler: &Scheduler) {
        let leases = scheduler.leases().map(|lease| &lease.tenant);
        let sessions = scheduler
            .leases()
            .map(|lease| (&lease.tenant, u64::from(lease.sessions)));
        let leases = self.sums(leases.map(|tenant| (tenant, 1)), |sum, more| sum + more);
        let sessions = self.sums(sessions, |sum, more| sum + more);
        let mut view = self.view.lock();
        view.devices = view::devices(scheduler);
        view.leases = leases;
        view.sessions = sessions;
        view.queue_length = scheduler.waiting().len();
        view.is_draining = scheduler.draining().is_some();
    }

    /// What each tenant has used: each minute or more often.
    pub(super) fn usage(&self, usage: &BTreeMap<Tenant, Totals>) {
        let usage = usage.iter().map(|(tenant, totals)| (tenant, *totals));
        let usage = self.sums(usage, Totals::and);
        self.view.lock().usage = usage;
    }

    /// How the devices are used, as a monitor sees them: those of a report, in the order of the server's devices.
    pub(super) fn devices(&self, report: &UsageReport) {
        self.view.lock().measured = view::measured(report);
    }

    /// The text.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.all);
        text
    }

    fn of(&self, family: &Family<Labels, Counter>, tenant: Option<&Tenant>, more: u64) {
        if more > 0 {
            let labels = [("tenant", self.label(tenant))];
            family.get_or_create(&labels).inc_by(more);
        }
    }

    fn tenants(&self) -> MutexGuard<'_, BTreeSet<Tenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a tenant is counted under: itself, for as many as there may be.
    fn label(&self, tenant: Option<&Tenant>) -> String {
        let Some(tenant) = tenant else {
            return NOBODY.to_owned();
        };
        let mut tenants = self.tenants();
        if tenants.len() < MAX_TENANTS {
            tenants.insert(tenant.clone());
        }
        match tenants.contains(tenant) {
            true => tenant.to_string(),
            false => OTHER.to_owned(),
        }
    }

    fn sums<'a, T: Copy + Default>(
        &self,
        parts: impl Iterator<Item = (&'a Tenant, T)>,
        and: impl Fn(T, T) -> T,
    ) -> BTreeMap<String, T> {
        let mut sums = BTreeMap::new();
        for (tenant, part) in parts {
            let sum: &mut T = sums.entry(self.label(Some(tenant))).or_default();
            *sum = and(*sum, part);
        }
        sums
    }
}
