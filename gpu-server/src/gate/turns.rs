//! Who has the turn: decided here, and nothing else is done here.
//!
//! *What:* [`Turns`] is what the gate's memory says, as plain numbers. *Rules:* times are nanoseconds of one clock; virtual time is device
//! time divided by the share, so that it passes at the same rate for all who get their due (start-time fair queueing).
//!
//! ```text
//!          nobody ──ask──▶ holder ──its work is done──▶ next?   least virtual time of those who wait; the holder itself counts as
//!                            │                                  waiting if it asks, or may come back within LINGER
//!                            └─ work OVERDUE, or unclaimed for CLAIM ──▶ next (the holder's work goes on beside)
//! ```
//!
//! A lease launches while it has the turn and is not ahead: its virtual time is not beyond that of a waiting one, or its turn is younger than
//! [`SHORTEST`]. Ahead, it launches no more, and the turn passes when its work on the device is done; so a lease that waits has
//! the turn after the kernels that were on the device when it came, at most [`SHORTEST`] of them or one.
//!
//! Work is charged while it runs, at each event: a kernel without an end costs what one with an end would. Where several leases run at a time,
//! because somebody's work is overdue, each has a part of the device and is charged that part.
//!
//! A lease that comes begins with the virtual time of those that are there, so that it gains nothing by having been idle. One that was away
//! for less than [`RECENT`] keeps what it is owed, up to [`MOST_OWED`]: a program that launches and waits by turns is away after every kernel.

use super::WHOLE;

const MILLISECOND: u64 = 1_000_000;

/// For how long a turn is not taken away while there are launches: passing it on costs some tens of microseconds.
pub const SHORTEST: u64 = 2 * MILLISECOND;

/// For how long a holder that has nothing to run may keep the turn, if it has come back as soon lately, and is still the next.
pub const LINGER: u64 = MILLISECOND / 2;

/// After that time a holder's work is not waited for any longer.
pub const OVERDUE: u64 = 250 * MILLISECOND;

/// For how long a turn waits for its holder to take it up.
pub const CLAIM: u64 = 20 * MILLISECOND;

/// How often who waits looks whether others have died.
pub const LOOK: u64 = 250 * MILLISECOND;

/// For how long a lease that has nothing to run does not count as away.
pub const RECENT: u64 = 20 * MILLISECOND;

/// What a lease is owed at most when it comes back that soon, in virtual time.
pub const MOST_OWED: u64 = 1000 * MILLISECOND;

/// What the gate knows of one lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its share in millionths; 0: no lease.
    pub parts: u32,
    /// Whether its share is a ceiling.
    pub is_capped: bool,
    /// Whether a worker of it wants to launch.
    pub waits: bool,
    /// Since when a worker has work on the device; 0: none has.
    pub running_since: u64,
    /// Device time used.
    pub used: u64,
    /// Device time used by its share, or what it was set to when it came.
    pub virtual_time: u64,
    /// Up to when its use is charged.
    pub charged_until: u64,
    /// Under a ceiling: not before that does it launch again.
    pub not_before: u64,
    /// Since when it has nothing to run.
    pub idle_since: u64,
    /// For how long it had nothing to run, the last time.
    pub last_gap: u64,
}

impl Lease {
    fn is_eligible(&self, now: u64) -> bool {
        self.parts > 0 && self.waits && self.is_allowed(now)
    }

    fn is_allowed(&self, now: u64) -> bool {
        !self.is_capped || now >= self.not_before
    }

    fn is_overdue(&self, now: u64) -> bool {
        self.running_since != 0 && now.saturating_sub(self.running_since) >= OVERDUE
    }

    fn is_running(&self, now: u64) -> bool {
        self.running_since != 0 && !self.is_overdue(now)
    }

    /// Charges device time, used from then on.
    fn pay(&mut self, from: u64, time: u64) {
        let due = self.by_share(time);
        self.used = self.used.saturating_add(time);
        self.virtual_time = self.virtual_time.saturating_add(due);
        if self.is_capped {
            self.not_before = self.not_before.max(from).saturating_add(due);
        }
    }

    /// Charges time that was used while nobody else was there to be told.
    pub fn pay_unshared(&mut self, time: u64, now: u64) {
        self.pay(now.saturating_sub(time), time);
        if self.running_since == 0 {
            self.idle_since = now;
        }
    }

    fn was_there(&self, now: u64, time: u64) -> bool {
        self.idle_since != 0 && now.saturating_sub(self.idle_since) < time
    }

    fn by_share(&self, time: u64) -> u64 {
        let parts = u128::from(self.parts.max(1));
        let scaled = u128::from(time) * u128::from(WHOLE) / parts;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// The answer to a lease that wants to launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Go,
    /// Not yet: ask again when told, or at this time.
    Wait(u64),
}

/// Whom to tell that something has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Who got the turn.
    pub next: Option<usize>,
    /// Who has had work done.
    pub own: Option<usize>,
}

/// The state of a gate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    /// The leases by their places.
    pub leases: Vec<Lease>,
    /// Who has the turn.
    pub holder: Option<usize>,
    /// Since when.
    pub began: u64,
    /// When the holder last did something with it.
    pub touched: u64,
    /// The places whose wish to launch is void: they did not take up their turn.
    pub lapsed: Vec<usize>,
}

impl Turns {
    /// A lease comes that had nothing to run: it gains nothing by having been idle.
    fn arrive(&mut self, place: usize, now: u64) {
        let others = self.virtual_time_beside(place, now);
        let lease = &mut self.leases[place];
        let owed = match lease.was_there(now, RECENT) {
            true => MOST_OWED,
            false => 0,
        };
        lease.virtual_time = lease.virtual_time.max(others.saturating_sub(owed));
        if lease.idle_since != 0 {
            lease.last_gap = now.saturating_sub(lease.idle_since);
            lease.idle_since = 0;
        }
    }

    /// The least virtual time of the others that use the device, or did lately; if none did, the most that anybody has.
    fn virtual_time_beside(&self, place: usize, now: u64) -> u64 {
        let others = || {
            let leases = self.leases.iter().enumerate();
            let others = leases.filter(move |(other, lease)| *other != place && lease.parts > 0);
            others.map(|(_, lease)| lease)
        };
        let is_active = |lease: &&Lease| lease.waits || lease.running_since != 0;
        let least = |lease: &Lease| lease.virtual_time;
        let active = others().filter(is_active).map(least).min();
        let lately = || {
            let lately = others().filter(|lease| lease.was_there(now, OVERDUE));
            lately.map(least).min()
        };
        active
            .or_else(lately)
            .or_else(|| others().map(least).max())
            .unwrap_or(0)
    }

    /// Charges what runs, up to now.
    pub fn charge(&mut self, now: u64) {
        let is_running = |lease: &Lease| lease.parts > 0 && lease.running_since != 0;
        let running = self.leases.iter().filter(|lease| is_running(lease)).count() as u64;
        for lease in self.leases.iter_mut().filter(|lease| is_running(lease)) {
            let from = lease.running_since.max(lease.charged_until);
            lease.pay(from, now.saturating_sub(from) / running.max(1));
            lease.charged_until = lease.charged_until.max(now);
        }
    }

    /// A lease wants to launch. Where its worker has as much on the device as it may, it only lines up: it is told when some of that is done.
    pub fn ask(&mut self, place: usize, is_full: bool, now: u64) -> (Answer, Changed) {
        if place >= self.leases.len() {
            // The memory that this was read from has lost it.
            return (Answer::Wait(now.saturating_add(LOOK)), Changed::default());
        }
        self.charge(now);
        let was_idle = !self.leases[place].waits && self.leases[place].running_since == 0;
        if was_idle {
            self.arrive(place, now);
        }
        self.leases[place].waits = true;
        let changed = self.settle(now);
        let lease = self.leases[place];
        let answer = if is_full {
            Answer::Wait(now.saturating_add(LOOK))
        } else if !lease.is_allowed(now) {
            Answer::Wait(lease.not_before)
        } else if self.holder != Some(place) {
            Answer::Wait(self.changes_at(now))
        } else if self.is_ahead(place, now) && lease.is_running(now) {
            Answer::Wait(lease.running_since.saturating_add(OVERDUE))
        } else {
            self.leases[place].waits = false;
            self.touched = now;
            Answer::Go
        };
        (answer, changed)
    }

    /// Some of a lease's work is done: what is left runs since then; 0: nothing is left.
    pub fn done(&mut self, place: usize, running_since: u64, now: u64) -> Changed {
        self.charge(now);
        let Some(lease) = self.leases.get_mut(place) else {
            return Changed::default();
        };
        lease.running_since = running_since;
        if running_since == 0 && !lease.waits {
            lease.idle_since = now;
        }
        if self.holder == Some(place) {
            self.touched = now;
        }
        self.settle(now)
    }

    /// Finds out who has the turn now.
    pub fn settle(&mut self, now: u64) -> Changed {
        let mut changed = Changed::default();
        if self.holder.is_some_and(|holder| !self.keeps(holder, now)) {
            self.holder = None;
        }
        if self.holder.is_none() {
            // Work that began while nobody counted comes first.
            let running = self.leases.iter().position(|lease| lease.is_running(now));
            self.holder = running.or_else(|| self.best(now, None));
            if let Some(next) = self.holder {
                self.began = now;
                self.touched = now;
                changed.next = Some(next);
            }
        }
        changed
    }

    /// Whether who has the turn keeps it.
    fn keeps(&mut self, holder: usize, now: u64) -> bool {
        let Some(lease) = self.leases.get(holder).copied() else {
            return false;
        };
        if lease.parts == 0 {
            return false;
        }
        if self.best(now, Some(holder)).is_none() || lease.is_running(now) {
            return true;
        }
        if lease.is_overdue(now) {
            return false;
        }
        if !lease.waits {
            return self.lingers_until(&lease, holder, now) > now;
        }
        if now.saturating_sub(self.touched) >= CLAIM {
            self.leases[holder].waits = false;
            self.lapsed.push(holder);
            return false;
        }
        lease.is_eligible(now) && !self.is_ahead(holder, now)
    }

    /// Until when a holder that has nothing to run keeps the turn.
    fn lingers_until(&self, lease: &Lease, holder: usize, now: u64) -> u64 {
        let since = lease.idle_since.max(self.touched);
        let comes_back = lease.last_gap <= LINGER && lease.idle_since != 0;
        // Who has just been told to go is about to launch.
        let is_about_to = lease.idle_since == 0;
        match (is_about_to, comes_back && !self.is_ahead(holder, now)) {
            (true, _) => self.touched.saturating_add(CLAIM),
            (false, true) => since.saturating_add(LINGER),
            (false, false) => 0,
        }
    }

    /// Whether a lease has had more than its due, of those that want the device now, and its turn is not too young to end.
    fn is_ahead(&self, place: usize, now: u64) -> bool {
        let is_young = now.saturating_sub(self.began) < SHORTEST;
        self.best(now, Some(place)).is_some_and(|other| {
            !is_young && self.leases[place].virtual_time > self.leases[other].virtual_time
        })
    }

    /// The next: the least virtual time of those that want to launch and may.
    fn best(&self, now: u64, except: Option<usize>) -> Option<usize> {
        let leases = self.leases.iter().enumerate();
        leases
            .filter(|(place, lease)| Some(*place) != except && lease.is_eligible(now))
            .min_by_key(|(_, lease)| lease.virtual_time)
            .map(|(place, _)| place)
    }

    /// When the turn can change without anybody telling.
    fn changes_at(&self, now: u64) -> u64 {
        let Some(holder) = self.holder else {
            return now;
        };
        let lease = &self.leases[holder];
        if lease.is_running(now) {
            lease.running_since.saturating_add(OVERDUE)
        } else if lease.waits {
            self.touched.saturating_add(CLAIM)
        } else {
            self.lingers_until(lease, holder, now).max(now + 1)
        }
    }
}
