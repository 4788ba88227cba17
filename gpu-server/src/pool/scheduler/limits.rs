//! What a tenant may have at once.
//!
//! Rules: a request that is beyond a limit by itself is refused; one that is beyond it together with what the tenant has waits for
//! the tenant's own leases to end, and does not keep others waiting meanwhile.

use std::time::Duration;

use protocol::size::Bytes;

use super::Scheduler;
use crate::pool::placement::{Demand, could_serve};
use crate::pool::{Caller, Compute, Limits, Need, Refusal, Slice, Tenant};

/// What a tenant has, or would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Holding {
    pub(super) leases: u32,
    pub(super) devices: u32,
    pub(super) memory: u64,
    pub(super) compute: Compute,
}

impl Holding {
    /// One lease of these slices.
    pub(super) fn of(slices: &[Slice]) -> Self {
        Self {
            leases: 1,
            devices: u32::try_from(slices.len()).unwrap_or(u32::MAX),
            memory: slices.iter().map(|slice| slice.memory).sum(),
            compute: slices.iter().map(|slice| slice.compute).sum(),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            leases: self.leases.saturating_add(other.leases),
            devices: self.devices.saturating_add(other.devices),
            memory: self.memory.saturating_add(other.memory),
            compute: self.compute + other.compute,
        }
    }

    /// The first limit that it is beyond, for people: `2 devices`.
    pub(super) fn beyond(self, limits: &Limits) -> Option<String> {
        let beyond_leases = limits.leases.filter(|most| self.leases > *most);
        let beyond_devices = limits.devices.filter(|most| self.devices > *most);
        let beyond_memory = limits.memory_bytes.filter(|most| self.memory > *most);
        let beyond_compute = limits.compute.filter(|most| self.compute > *most);
        beyond_leases
            .map(|most| format!("{most} leases"))
            .or_else(|| beyond_devices.map(|most| format!("{most} devices")))
            .or_else(|| beyond_memory.map(|most| format!("{} of memory", Bytes(most))))
            .or_else(|| beyond_compute.map(|most| format!("{most} of compute")))
    }
}

/// A lease that would last too long.
pub(super) fn too_long(time: Duration, longest: Duration) -> String {
    let (time, longest) = (whole_seconds(time), whole_seconds(longest));
    format!("a lease may last {longest} here, not {time}")
}

fn whole_seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

impl Scheduler {
    /// How long this caller's leases may last.
    pub(super) fn longest_lease(&self, caller: &Caller) -> Option<Duration> {
        let limits = [self.policy.longest_lease, caller.limits.lease_time];
        limits.into_iter().flatten().min()
    }

    /// What the tenant has.
    pub(super) fn holding(&self, tenant: &Tenant) -> Holding {
        self.leases
            .values()
            .filter(|held| held.lease.tenant == *tenant)
            .fold(Holding::default(), |sum, held| {
                sum.and(Holding::of(&held.lease.slices))
            })
    }

    /// The least that the need can take of this pool; if it could be met at all.
    pub(super) fn least(&self, need: &Need) -> Holding {
        let able = self.capacity.devices.iter();
        let mut demands: Vec<Demand> = able
            .filter(|device| could_serve(&self.capacity.server, device, need))
            .map(|device| Demand::of(need, device))
            .collect();
        let count = usize::try_from(need.count).unwrap_or(usize::MAX);
        let mut least = Holding {
            leases: 1,
            devices: need.count,
            ..Holding::default()
        };
        demands.sort_by_key(|demand| demand.memory);
        least.memory = demands.iter().take(count).map(|demand| demand.memory).sum();
        demands.sort_by_key(|demand| demand.compute);
        least.compute = demands
            .iter()
            .take(count)
            .map(|demand| demand.compute)
            .sum();
        least
    }

    /// The limit that the need is beyond together with what the tenant has, if so.
    pub(super) fn is_held_back(&self, caller: &Caller, need: &Need) -> Option<String> {
        let holding = self.holding(&caller.tenant).and(self.least(need));
        holding.beyond(&caller.limits)
    }

    /// Why the need can never be met for this caller, if so.
    pub(super) fn impossible(&self, caller: &Caller, need: &Need) -> Option<Refusal> {
        self.misfit(need).or_else(|| {
            let limit = self.least(need).beyond(&caller.limits)?;
            let tenant = &caller.tenant;
            Some(Refusal::Limit(format!(
                "this is more than tenant {tenant} may have: {limit}"
            )))
        })
    }
}
