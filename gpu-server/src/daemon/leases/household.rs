//! Households: programs that came without a lease and share one.
//!
//! Rules: a program that comes without a lease and asks for whole devices joins the lease that an earlier program of the same tenant, token,
//! machine and user got in the same way. So programs share a device as they would on one machine, and a second process of a program does
//! not wait for its first one to end. Who wants a device alone asks with gpurun; parts of a device are each program's own.

use super::{Asking, Leases};
use crate::daemon::Granted;
use crate::pool::{LeaseId, RequestId, Tenant, TokenId};

/// The lease of programs that came without one.
#[derive(Clone)]
pub(in crate::daemon) struct Household {
    pub(super) lease: LeaseId,
    pub(super) tenant: Tenant,
    pub(super) token: Option<TokenId>,
    pub(super) host: String,
    pub(super) user: String,
    pub(super) namespace: String,
    pub(super) count: u32,
}

impl Household {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let key = |household: &Self| {
            let Self {
                lease: _,
                tenant,
                token,
                host,
                user,
                namespace,
                count,
            } = household.clone();
            (tenant, token, host, user, namespace, count)
        };
        key(self) == key(other)
    }
}

impl Leases {
    /// The lease of the household that this program belongs to.
    pub(super) fn household(&self, wish: &Household) -> Option<LeaseId> {
        let alike = self.households.iter().filter(|other| other.is_same(wish));
        let mut leases = alike.filter_map(|other| self.scheduler.lease(&other.lease));
        let lease = leases.find(|lease| lease.ended.is_none())?;
        Some(lease.id.clone())
    }

    /// The requests of those who wait for a lease of the household that has got this one.
    pub(super) fn household_of(&self, lease: &LeaseId) -> Vec<RequestId> {
        let Some(mine) = self.households.iter().find(|other| other.lease == *lease) else {
            return Vec::new();
        };
        let is_member = |granted: &Granted| {
            let mut alike = self.households.iter().filter(|other| other.is_same(mine));
            alike.any(|other| other.lease == granted.lease)
        };
        let waiting = self.asking.iter().filter(|(_, asking)| match asking {
            Asking::Session(_, granted, _) => is_member(granted),
            Asking::Stream(..) => false,
        });
        waiting.map(|(request, _)| *request).collect()
    }

    pub(super) fn forget_household(&mut self, lease: &LeaseId) {
        self.households
            .retain(|household| household.lease != *lease);
    }
}
