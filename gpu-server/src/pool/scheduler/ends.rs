//! What time does to leases: they expire, are idle for too long, are abandoned, are drained.
//!
//! Rules: a holder is warned before the lease ends, if it ends while it is held; a lease that has ended keeps its slices until its last
//! session has ended, since until then its memory is not free.

use std::time::Duration;

use super::{Drain, Held, Scheduler};
use crate::pool::{Decision, Keeping, Lease, LeaseEnd, LeaseId, Moment};

/// A holder is warned this long before its lease ends; of a short lease, a half of its time before.
const WARNING: Duration = Duration::from_secs(300);

/// What comes to a lease by itself, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coming {
    End(LeaseEnd),
    WarningOfEnd,
    WarningOfIdleness,
    /// Slices of a lease that has ended may be given away.
    Freedom,
}

/// How long before the end of such a time the warning comes.
fn warning_time(time: Duration) -> Duration {
    WARNING.min(time / 2)
}

impl Held {
    /// All that comes to the lease by itself.
    fn coming(&self, scheduler: &Scheduler) -> impl Iterator<Item = (Moment, Coming)> {
        let policy = &scheduler.policy;
        let lease = &self.lease;
        let expires = lease.expires;
        let drained = scheduler.drain.and_then(|drain| drain.end);
        let abandoned = self
            .alone_since
            .filter(|_| lease.keeping != Keeping::Detached)
            .map(|since| since + policy.holder_grace);
        let idle = policy.idle_limit.map(|limit| lease.last_used + limit);
        let warned_of_end = expires
            .filter(|_| !self.is_warned_of_end)
            .map(|end| before(end, warning_time(end.since(lease.granted))));
        let warned_of_idleness = policy
            .idle_limit
            .filter(|_| !self.is_warned_of_idleness)
            .map(|limit| lease.last_used + (limit - warning_time(limit)));
        let coming = [
            (expires, Coming::End(LeaseEnd::Expired)),
            (drained, Coming::End(LeaseEnd::Drained)),
            (abandoned, Coming::End(LeaseEnd::Abandoned)),
            (idle, Coming::End(LeaseEnd::Idle)),
            (warned_of_end, Coming::WarningOfEnd),
            (warned_of_idleness, Coming::WarningOfIdleness),
        ];
        let is_over = lease.ended.is_some();
        let freedom = self
            .taken_until
            .filter(|_| is_over && lease.sessions == 0)
            .map(|moment| (moment, Coming::Freedom));
        coming
            .into_iter()
            .filter_map(move |(moment, what)| Some((moment.filter(|_| !is_over)?, what)))
            .chain(freedom)
    }
}

fn before(moment: Moment, time: Duration) -> Moment {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Moment(moment.0.saturating_sub(milliseconds))
}

impl Scheduler {
    /// When something happens by itself: then [`expire`](Self::expire) is to be called.
    #[must_use]
    pub fn next_moment(&self) -> Option<Moment> {
        self.leases
            .values()
            .flat_map(|held| held.coming(self))
            .map(|(moment, _)| moment)
            .min()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Moment) -> Vec<Decision> {
        self.advance(now);
        let due: Vec<(LeaseId, Coming)> = self
            .leases
            .iter()
            .flat_map(|(id, held)| held.coming(self).map(move |coming| (id, coming)))
            .filter(|(_, (moment, _))| *moment <= now)
            .map(|(id, (_, what))| (id.clone(), what))
            .collect();
        let mut decisions = Vec::new();
        for (id, what) in due {
            decisions.extend(self.comes(&id, what, now));
        }
        decisions.extend(self.free_what_has_no_session(now));
        decisions
    }

    /// One thing that is due. What ended meanwhile ends and is warned no more.
    fn comes(&mut self, id: &LeaseId, what: Coming, now: Moment) -> Vec<Decision> {
        let Ok(held) = self.live(id) else {
            return Vec::new();
        };
        let message = match what {
            Coming::Freedom => return Vec::new(),
            Coming::End(end) => {
                let message = self.end_message(end);
                return self.end(id, end, message, now);
            }
            Coming::WarningOfEnd => {
                held.is_warned_of_end = true;
                let left = held.lease.expires.map(|end| end.since(now));
                format!("the lease ends in {}", time(left.unwrap_or_default()))
            }
            Coming::WarningOfIdleness => {
                held.is_warned_of_idleness = true;
                let idle = now.since(held.lease.last_used);
                let limit = self.policy.idle_limit.unwrap_or_default();
                let left = limit.saturating_sub(idle);
                let (idle, left) = (time(idle), time(left));
                format!("no kernel or copy ran for {idle}: the lease ends in {left}")
            }
        };
        let lease = id.clone();
        vec![Decision::Warned { lease, message }]
    }

    fn end_message(&self, end: LeaseEnd) -> String {
        match end {
            LeaseEnd::Expired => "its time was over".to_owned(),
            LeaseEnd::Idle => {
                let limit = self.policy.idle_limit.unwrap_or_default();
                format!("no kernel or copy ran for {}", time(limit))
            }
            LeaseEnd::Abandoned => {
                let grace = time(self.policy.holder_grace);
                format!("its holder was gone for {grace}")
            }
            LeaseEnd::Drained => "the server was drained".to_owned(),
            LeaseEnd::Released | LeaseEnd::Revoked => end.name().to_owned(),
        }
    }

    /// Ends a lease, if it has not ended. Its slices are free at once if it has no session.
    pub(super) fn end(
        &mut self,
        id: &LeaseId,
        end: LeaseEnd,
        message: String,
        now: Moment,
    ) -> Vec<Decision> {
        let Ok(held) = self.live(id) else {
            return Vec::new();
        };
        held.lease.ended = Some(end);
        let lease = Box::new(held.lease.clone());
        if !held.is_taken(now) {
            self.leases.remove(id);
        }
        vec![Decision::Ended {
            lease,
            end,
            message,
        }]
    }

    /// Ends those leases that this holds of.
    pub(super) fn end_all(
        &mut self,
        which: impl Fn(&Lease) -> bool,
        end: LeaseEnd,
        message: &str,
        now: Moment,
    ) -> Vec<Decision> {
        let ids: Vec<LeaseId> = self
            .leases()
            .filter(|lease| which(lease))
            .map(|lease| lease.id.clone())
            .collect();
        ids.iter()
            .flat_map(|id| self.end(id, end, message.to_owned(), now))
            .collect()
    }

    pub(super) fn end_leases_without_device(&mut self, now: Moment) -> Vec<Decision> {
        self.advance(now);
        let devices: Vec<[u8; 16]> = self
            .capacity
            .devices
            .iter()
            .map(|device| device.uuid)
            .collect();
        let is_gone = |lease: &Lease| {
            let mut slices = lease.slices.iter();
            slices.any(|slice| !devices.contains(&slice.uuid))
        };
        self.end_all(is_gone, LeaseEnd::Revoked, "its device is gone", now)
    }

    /// Frees the slices of leases that have ended and have no session.
    pub(super) fn free_what_has_no_session(&mut self, now: Moment) -> Vec<Decision> {
        self.leases.retain(|_, held| held.is_taken(now));
        self.schedule(now)
    }

    /// What a drain means for those who hold a lease.
    pub(super) fn warn_of_drain(&self, drain: Drain, now: Moment) -> Vec<Decision> {
        let message = match drain.end {
            Some(end) => format!(
                "the server is draining: the lease ends in {}",
                time(end.since(now))
            ),
            None => {
                "the server is draining: the lease goes on, and there will be no other".to_owned()
            }
        };
        let end = drain.end.filter(|end| *end <= now);
        self.leases()
            // Who ends at once need not be warned.
            .filter(|_| end.is_none())
            .map(|lease| Decision::Warned {
                lease: lease.id.clone(),
                message: message.clone(),
            })
            .collect()
    }
}

/// A time for people, in whole seconds.
fn time(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}
