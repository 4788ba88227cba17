//! Households: programs that came without a lease and share one.
//!
//! Rules: a program that comes without a lease and asks for whole devices joins the lease that an earlier program of the same tenant, token,
//! machine and user got in the same way. So programs share a device as they would on one machine, and a second process of a program does
//! not wait for its first one to end. Who wants a device alone asks with gpurun; parts of a device are each program's own.

use super::{Asking, Leases};
use crate::pool::{LeaseId, RequestId, Tenant, TokenId};

/// Whose programs share a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct Members {
    pub(super) tenant: Tenant,
    pub(super) token: Option<TokenId>,
    pub(super) host: String,
    pub(super) user: String,
    pub(super) namespace: String,
    /// How many devices they ask for.
    pub(super) count: u32,
}

/// The lease of programs that came without one: theirs, or one that is asked for.
pub(in crate::daemon) struct Household {
    pub(super) lease: LeaseId,
    pub(super) members: Members,
}

impl Leases {
    /// The lease that programs like this have already.
    pub(super) fn household(&self, members: &Members) -> Option<LeaseId> {
        let theirs = self
            .households
            .iter()
            .filter(|household| household.members == *members);
        let mut leases = theirs.filter_map(|household| self.scheduler.lease(&household.lease));
        let lease = leases.find(|lease| lease.ended.is_none())?;
        Some(lease.id.clone())
    }

    /// The requests of those who wait for a lease of the household that has got this one.
    pub(super) fn household_of(&self, lease: &LeaseId) -> Vec<RequestId> {
        let of = |lease: &LeaseId| {
            let mut households = self.households.iter();
            households.find(|household| household.lease == *lease)
        };
        let Some(mine) = of(lease) else {
            return Vec::new();
        };
        let waiting = self.asking.iter().filter(|(_, asking)| match asking {
            Asking::Session(_, granted, _) => {
                of(&granted.lease).is_some_and(|other| other.members == mine.members)
            }
            Asking::Stream(..) => false,
        });
        waiting.map(|(request, _)| *request).collect()
    }

    pub(super) fn forget_household(&mut self, lease: &LeaseId) {
        self.households
            .retain(|household| household.lease != *lease);
    }
}
