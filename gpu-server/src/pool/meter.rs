//! What tenants have used: leased compute and memory over time, device time in which their kernels ran, leases, sessions.
//!
//! *What:* [`Meter`] is told what was decided and what gates have measured, and gives totals and what is to be stored of them. *Rules:* sums are
//! whole numbers, so that charging an hour is exactly charging its minutes; a clock that goes back charges nothing; how far a lease is charged is stored
//! with the totals that it went into, so that a restart charges nothing twice and nothing never: a lease that outlives the daemon is
//! charged for the time between as well, up to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control_plane::TenantUsage;

use super::store::Change;
use super::{Compute, Decision, Lease, LeaseId, Moment, Tenant};

/// Bytes of a GiB times milliseconds of an hour.
const GIB_HOUR: f64 = (1_u64 << 30) as f64 * 3_600_000.0;

/// What a tenant has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Millionths of a device times milliseconds.
    pub leased: u128,
    /// Nanoseconds of device time.
    pub used: u128,
    /// Bytes times milliseconds.
    pub memory: u128,
    /// Leases.
    pub leases: u64,
    /// Sessions.
    pub sessions: u64,
}

impl Totals {
    /// As it travels.
    #[must_use]
    pub fn to_message(self, tenant: &Tenant) -> TenantUsage {
        TenantUsage {
            tenant: tenant.to_string(),
            leased_gpu_seconds: number(self.leased) / 1e9,
            used_gpu_seconds: number(self.used) / 1e9,
            leased_gib_hours: number(self.memory) / GIB_HOUR,
            leases: self.leases,
            sessions: self.sessions,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people; sums stay exact")]
const fn number(sum: u128) -> f64 {
    sum as f64
}

/// How far a lease is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Its compute and memory: until then.
    pub until: Moment,
    /// Its device time: so many nanoseconds, as its gates counted.
    pub used_ns: u64,
}

/// A lease that is charged.
#[derive(Debug, Clone)]
struct Account {
    tenant: Tenant,
    compute: Compute,
    memory: u64,
    expires: Option<Moment>,
    reading: Reading,
    is_over: bool,
}

impl Account {
    fn of(lease: &Lease, reading: Reading) -> Self {
        Self {
            tenant: lease.tenant.clone(),
            compute: lease.compute(),
            memory: lease.memory(),
            expires: lease.expires,
            reading,
            is_over: lease.ended.is_some(),
        }
    }

    /// Charges compute and memory until now; whether there was anything to charge.
    fn charge(&mut self, totals: &mut Totals, now: Moment) -> bool {
        let end = self.expires.map_or(now, |expires| expires.min(now));
        let time = end.since(self.reading.until).as_millis();
        if self.is_over || time == 0 {
            return false;
        }
        self.reading.until = end;
        let leased = u128::from(self.compute.millionths()).saturating_mul(time);
        totals.leased = totals.leased.saturating_add(leased);
        let memory = u128::from(self.memory).saturating_mul(time);
        totals.memory = totals.memory.saturating_add(memory);
        true
    }
}

/// What tenants have used.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    since: Moment,
    tenants: BTreeMap<Tenant, Totals>,
    accounts: BTreeMap<LeaseId, Account>,
    changed_tenants: BTreeSet<Tenant>,
    changed_accounts: BTreeSet<LeaseId>,
}

impl Meter {
    /// Nothing yet.
    #[must_use]
    pub fn new(since: Moment) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// Goes on where a server before has stopped: with its totals, and its leases as far as they are charged.
    #[must_use]
    pub fn restore(
        since: Moment,
        usage: BTreeMap<Tenant, Totals>,
        leases: &[Lease],
        readings: &BTreeMap<LeaseId, Reading>,
    ) -> Self {
        let accounts = leases.iter().map(|lease| {
            let reading = readings.get(&lease.id).copied().unwrap_or(Reading {
                until: lease.granted,
                used_ns: 0,
            });
            (lease.id.clone(), Account::of(lease, reading))
        });
        Self {
            since,
            tenants: usage,
            accounts: accounts.collect(),
            ..Self::default()
        }
    }

    /// Takes note of a decision; what is to be stored with it.
    pub fn note(&mut self, decision: &Decision, now: Moment) -> Vec<Change> {
        match decision {
            Decision::Granted { lease, .. } => self.begin(lease),
            Decision::Changed { lease } => {
                self.charge(&lease.id, now);
                if let Some(account) = self.accounts.get_mut(&lease.id) {
                    account.expires = lease.expires;
                }
            }
            Decision::Ended { lease, .. } => {
                self.charge(&lease.id, now);
                if let Some(account) = self.accounts.get_mut(&lease.id) {
                    account.is_over = true;
                }
                if lease.sessions == 0 {
                    self.forget(&lease.id);
                }
            }
            Decision::Queued { .. } | Decision::Refused { .. } | Decision::Warned { .. } => {}
        }
        self.take_changes()
    }

    fn begin(&mut self, lease: &Lease) {
        let reading = Reading {
            until: lease.granted,
            used_ns: 0,
        };
        let account = Account::of(lease, reading);
        let totals = self.tenants.entry(lease.tenant.clone()).or_default();
        totals.leases = totals.leases.saturating_add(1);
        self.changed_tenants.insert(lease.tenant.clone());
        self.changed_accounts.insert(lease.id.clone());
        self.accounts.insert(lease.id.clone(), account);
    }

    /// A session of the lease has begun. One that outlived the daemon has not.
    pub fn session_began(&mut self, lease: &LeaseId) {
        let Some(account) = self.accounts.get(lease) else {
            return;
        };
        let totals = self.tenants.entry(account.tenant.clone()).or_default();
        totals.sessions = totals.sessions.saturating_add(1);
        self.changed_tenants.insert(account.tenant.clone());
    }

    /// The lease's gates have counted so much device time since it was granted, over all its devices.
    pub fn used(&mut self, lease: &LeaseId, total: Duration) {
        let Some(account) = self.accounts.get_mut(lease) else {
            return;
        };
        let total_ns = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        let more = total_ns.saturating_sub(account.reading.used_ns);
        if more > 0 {
            account.reading.used_ns = total_ns;
            let totals = self.tenants.entry(account.tenant.clone()).or_default();
            totals.used = totals.used.saturating_add(more.into());
            self.changed_tenants.insert(account.tenant.clone());
            self.changed_accounts.insert(lease.clone());
        }
    }

    /// The lease's gates are new ones: they count from nothing again.
    pub fn gates_are_new(&mut self, lease: &LeaseId) {
        if let Some(account) = self.accounts.get_mut(lease) {
            account.reading.used_ns = 0;
            self.changed_accounts.insert(lease.clone());
        }
    }

    /// The last session of an ended lease has ended: nothing more comes of it.
    pub fn forget(&mut self, lease: &LeaseId) {
        self.accounts.remove(lease);
        self.changed_accounts.remove(lease);
    }

    /// Charges everything until now; what is to be stored. Each minute.
    pub fn flush(&mut self, now: Moment) -> Vec<Change> {
        self.charge_all(now);
        self.take_changes()
    }

    /// Since when usage is counted.
    #[must_use]
    pub const fn since(&self) -> Moment {
        self.since
    }

    /// What each tenant has used until now.
    #[must_use]
    pub fn usage(&self, now: Moment) -> BTreeMap<Tenant, Totals> {
        let mut usage = self.tenants.clone();
        for account in self.accounts.values() {
            let totals = usage.entry(account.tenant.clone()).or_default();
            account.clone().charge(totals, now);
        }
        usage
    }

    fn charge_all(&mut self, now: Moment) {
        let leases: Vec<LeaseId> = self.accounts.keys().cloned().collect();
        for lease in &leases {
            self.charge(lease, now);
        }
    }

    fn charge(&mut self, lease: &LeaseId, now: Moment) {
        let Some(account) = self.accounts.get_mut(lease) else {
            return;
        };
        let totals = self.tenants.entry(account.tenant.clone()).or_default();
        if account.charge(totals, now) {
            self.changed_tenants.insert(account.tenant.clone());
            self.changed_accounts.insert(lease.clone());
        }
    }

    /// Totals and readings that belong together, so that they are stored together.
    fn take_changes(&mut self) -> Vec<Change> {
        let tenants = std::mem::take(&mut self.changed_tenants);
        let totals = tenants.into_iter().filter_map(|tenant| {
            let totals = *self.tenants.get(&tenant)?;
            Some(Change::Usage(tenant, totals))
        });
        let accounts = std::mem::take(&mut self.changed_accounts);
        let readings = accounts.into_iter().filter_map(|lease| {
            let reading = self.accounts.get(&lease)?.reading;
            Some(Change::Reading(lease, reading))
        });
        totals.chain(readings).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::sample::{ended, granted, lease};
    use proptest::prelude::*;

    fn id() -> LeaseId {
        LeaseId::from_bytes([7; 10])
    }

    fn metered(grant: Moment) -> Meter {
        let mut meter = Meter::new(grant);
        meter.note(&granted(lease(id(), "ann", grant)), grant);
        meter
    }

    fn of_ann(meter: &Meter, now: Moment) -> Totals {
        let tenant: Tenant = "ann".parse().expect("a tenant");
        meter.usage(now).get(&tenant).copied().unwrap_or_default()
    }

    #[test]
    fn a_lease_is_charged_until_it_ends() {
        let mut meter = metered(Moment(1_000));
        let an_hour_later = Moment(3_601_000);
        let message = of_ann(&meter, an_hour_later).to_message(&Tenant::local());
        // Half of each of two devices, and 8 GiB of each.
        assert_eq!(message.leased_gpu_seconds, 3600.0);
        assert_eq!(message.leased_gib_hours, 16.0);
        assert_eq!((message.leases, message.sessions), (1, 0));
        let mut over = lease(id(), "ann", Moment(1_000));
        over.sessions = 1;
        meter.note(&ended(over), an_hour_later);
        meter.used(&id(), Duration::from_secs(9));
        let later = Moment(10 * 3_600_000);
        let message = of_ann(&meter, later).to_message(&Tenant::local());
        assert_eq!(message.leased_gpu_seconds, 3600.0);
        assert_eq!(message.used_gpu_seconds, 9.0);
        meter.forget(&id());
        meter.used(&id(), Duration::from_secs(19));
        assert_eq!(of_ann(&meter, later).used, 9_000_000_000);
    }

    #[test]
    fn a_lease_is_not_charged_beyond_its_end() {
        let mut meter = Meter::new(Moment(0));
        let mut short = lease(id(), "ann", Moment(0));
        short.expires = Some(Moment(5_000));
        meter.note(&granted(short), Moment(0));
        let message = of_ann(&meter, Moment(60_000)).to_message(&Tenant::local());
        assert_eq!(message.leased_gpu_seconds, 5.0);
    }

    #[test]
    fn a_restart_charges_nothing_twice_and_nothing_never() {
        let mut meter = metered(Moment(0));
        meter.used(&id(), Duration::from_secs(3));
        let mut usage = BTreeMap::new();
        let mut readings = BTreeMap::new();
        for change in meter.flush(Moment(60_000)) {
            match change {
                Change::Usage(tenant, totals) => _ = usage.insert(tenant, totals),
                Change::Reading(lease, reading) => _ = readings.insert(lease, reading),
                other => panic!("{other:?}"),
            }
        }
        // Killed a while later; what was not stored is charged again, and no more.
        meter.used(&id(), Duration::from_secs(5));
        let leases = [lease(id(), "ann", Moment(0))];
        let mut next = Meter::restore(Moment(0), usage, &leases, &readings);
        next.used(&id(), Duration::from_secs(6));
        meter.used(&id(), Duration::from_secs(6));
        let now = Moment(100_000);
        assert_eq!(of_ann(&next, now), of_ann(&meter, now));
        assert_eq!(of_ann(&next, now).leases, 1);
        next.gates_are_new(&id());
        next.used(&id(), Duration::from_secs(1));
        assert_eq!(of_ann(&next, now).used, 7_000_000_000);
    }

    proptest! {
        #[test]
        fn charges_add_up_whenever_they_are_made(moments in prop::collection::vec(0_u64..10_000_000, 0..30), used in prop::collection::vec(0_u64..1_000_000, 0..30)) {
            let begin = Moment(5_000_000);
            let mut often = metered(begin);
            let mut once = metered(begin);
            for moment in &moments {
                often.flush(Moment(*moment));
            }
            for total in &used {
                often.used(&id(), Duration::from_millis(*total));
            }
            let most = Duration::from_millis(used.iter().copied().max().unwrap_or(0));
            once.used(&id(), most);
            let last = Moment(moments.iter().copied().max().unwrap_or(0));
            once.flush(last);
            // Time that went back was no time: all is as of the latest moment.
            prop_assert_eq!(of_ann(&often, Moment(0)), of_ann(&once, Moment(0)));
            let end = Moment(20_000_000);
            prop_assert_eq!(of_ann(&often, end), of_ann(&once, end));
            let span = u128::from(last.since(begin).as_millis() as u64);
            prop_assert_eq!(of_ann(&once, Moment(0)).leased, span * 1_000_000);
        }
    }
}
