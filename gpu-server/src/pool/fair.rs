//! Whose turn it is.
//!
//! What: an account for each tenant, in device-time: the part of a device that it leases (the larger of its memory and its compute
//! part) times how long, over all its leases. The tenant whose account is lowest is served first; equal ones in the order of
//! asking. Why not turns: a lease of eight devices for a day is not one of a quarter for a minute. Rules:
//!
//! * A lease counts as [`LEAST_CHARGE`] at once, so that many short ones are not free.
//! * Who begins to wait is not behind the pool's own account, which rises as an average tenant's does: nobody saves up time by
//!   asking for nothing. And nobody is farther ahead of it than [`MOST_DEBT`] of the whole pool: what was used long ago is forgiven.
//! * So nobody starves: each grant raises the account of who got it, and the pool's, where newcomers begin.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Compute, Moment, Tenant};

/// What a lease counts at least.
pub(super) const LEAST_CHARGE: Duration = Duration::from_secs(60);

/// How much use of the whole pool is remembered at most.
const MOST_DEBT: Duration = Duration::from_secs(3600);

/// Millionths of a device, times milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct DeviceTime(u128);

impl DeviceTime {
    pub(super) const fn new(share: Compute, time: Duration) -> Self {
        Self((share.millionths() as u128).saturating_mul(time.as_millis()))
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// A lease as the accounts see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) share: Compute,
    pub(super) granted: Moment,
}

/// All accounts.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    tenants: BTreeMap<Tenant, DeviceTime>,
    pool: DeviceTime,
    /// Until when everything is charged.
    charged_until: Moment,
}

impl Accounts {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            charged_until: now,
            ..Self::default()
        }
    }

    /// A tenant's account.
    pub(super) fn of(&self, tenant: &Tenant) -> DeviceTime {
        self.tenants.get(tenant).copied().unwrap_or(self.pool)
    }

    /// Charges the leases until now. Time that goes backwards is no time.
    pub(super) fn advance<'a>(
        &mut self,
        leases: impl Iterator<Item = Running<'a>>,
        active_tenants: usize,
        now: Moment,
    ) {
        for lease in leases {
            let from = self.charged_until.max(lease.granted + LEAST_CHARGE);
            let time = DeviceTime::new(lease.share, now.since(from));
            self.charge(lease.tenant, time, active_tenants);
        }
        self.charged_until = self.charged_until.max(now);
    }

    /// Charges a new lease.
    pub(super) fn granted(&mut self, tenant: &Tenant, share: Compute, active_tenants: usize) {
        self.charge(tenant, DeviceTime::new(share, LEAST_CHARGE), active_tenants);
    }

    fn charge(&mut self, tenant: &Tenant, time: DeviceTime, active_tenants: usize) {
        let pool = self.pool;
        let account = self.tenants.entry(tenant.clone()).or_insert(pool);
        *account = account.plus(time);
        let average = time.0 / (active_tenants.max(1) as u128);
        self.pool = pool.plus(DeviceTime(average.max(u128::from(time.0 > 0))));
    }

    /// A tenant that waited for nothing begins to wait.
    pub(super) fn begins_to_wait(&mut self, tenant: &Tenant, devices: usize) {
        let most = DeviceTime::new(Compute::WHOLE, MOST_DEBT).0;
        let most = self
            .pool
            .plus(DeviceTime(most.saturating_mul(devices as u128)));
        let account = self.of(tenant).clamp(self.pool, most);
        self.tenants.insert(tenant.clone(), account);
    }

    /// Forgets tenants that neither wait nor lease and owe nothing.
    pub(super) fn forget(&mut self, is_active: impl Fn(&Tenant) -> bool) {
        let pool = self.pool;
        self.tenants
            .retain(|tenant, account| *account > pool || is_active(tenant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().expect("a tenant")
    }

    fn running(tenant: &Tenant) -> Running<'_> {
        let (share, granted) = (Compute::WHOLE, Moment(0));
        Running {
            tenant,
            share,
            granted,
        }
    }

    #[test]
    fn who_used_the_pool_alone_is_not_behind_a_newcomer() {
        let (old, new) = (tenant("old"), tenant("new"));
        let mut accounts = Accounts::new(Moment(0));
        accounts.begins_to_wait(&old, 1);
        accounts.granted(&old, Compute::WHOLE, 1);
        accounts.advance([running(&old)].into_iter(), 1, Moment(36_000_000));
        accounts.begins_to_wait(&new, 1);
        assert_eq!(accounts.of(&old), accounts.of(&new));
    }

    #[test]
    fn who_uses_more_than_the_others_is_behind_them_but_not_for_ever() {
        let (heavy, light) = (tenant("heavy"), tenant("light"));
        let mut accounts = Accounts::new(Moment(0));
        let days = Moment(10 * 24 * 3_600_000);
        accounts.begins_to_wait(&light, 1);
        accounts.advance([running(&heavy)].into_iter(), 2, days);
        accounts.begins_to_wait(&heavy, 1);
        accounts.begins_to_wait(&light, 1);
        assert!(accounts.of(&light) < accounts.of(&heavy));
        let most = DeviceTime::new(Compute::WHOLE, MOST_DEBT);
        assert_eq!(accounts.of(&heavy), accounts.of(&light).plus(most));
    }

    #[test]
    fn time_that_goes_backwards_is_no_time() {
        let one = tenant("one");
        let mut accounts = Accounts::new(Moment(1_000_000));
        accounts.advance([running(&one)].into_iter(), 1, Moment(5));
        accounts.advance([running(&one)].into_iter(), 1, Moment(1_000_000));
        assert_eq!(accounts.of(&one), DeviceTime::default());
    }
}
