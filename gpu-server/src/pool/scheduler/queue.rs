//! Who is granted what.
//!
//! What: requests stand in the order in which their tenants' [accounts](crate::pool::fair) would have them served; the first that
//! no limit holds back is the *head*. Rules:
//!
//! * the head is granted as soon as it fits;
//! * of each other tenant the first request may be granted before the head, if that never delays it (see
//!   [`placement`]); within a tenant nobody overtakes;
//! * a tenant at its own limit waits for its own leases, and keeps nobody waiting.
//!
//! *Cost:* each event looks at every waiting request once, and at every device for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use protocol::hello::DeviceKind;
use protocol::size::Bytes;

use super::limits::Holding;
use super::{Ask, Held, Scheduler, Waiting};
use crate::pool::fair::{DeviceTime, LEAST_CHARGE};
use crate::pool::placement::{self, Demand, Preference, Room, could_serve, may_take, passes};
use crate::pool::{
    Compute, Decision, Keeping, Lease, Moment, Need, Place, Portion, Refusal, RequestId, Slice,
    Tenant,
};

/// A tenant may fill this part of the queue: so one alone never shuts out the others.
const QUEUE_PART: usize = 4;

/// The queue at this moment.
struct Queue {
    /// Places in `waiting`, in the order in which they would be served.
    order: Vec<usize>,
    /// By place in `waiting`: the limit that holds the request back.
    held_back: BTreeMap<usize, String>,
}

impl Queue {
    /// The first that no limit holds back.
    fn head(&self) -> Option<usize> {
        self.order
            .first()
            .copied()
            .filter(|place| !self.held_back.contains_key(place))
    }
}

impl Scheduler {
    /// Asks for a lease. The answer is among the decisions: granted, refused, or where it waits.
    pub fn request(&mut self, ask: Ask, now: Moment) -> (RequestId, Vec<Decision>) {
        self.advance(now);
        let id = RequestId(self.next_request);
        self.next_request += 1;
        if let Some(refusal) = self.refusal(&ask) {
            return (id, vec![refused(id, refusal)]);
        }
        let (waits, tenant) = (ask.waits, ask.caller.tenant.clone());
        if !self.is_waiting(&tenant) {
            let devices = self.capacity.devices.len();
            self.accounts.begins_to_wait(&tenant, devices);
        }
        self.waiting.push(Waiting {
            id,
            ask,
            since: now,
            place: None,
        });
        let mut decisions = self.grant_what_fits(now);
        if !waits {
            decisions.extend(self.refuse_if_it_waits(id, now));
        }
        decisions.extend(self.tell_places());
        (id, decisions)
    }

    fn is_waiting(&self, tenant: &Tenant) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.ask.caller.tenant == *tenant)
    }

    /// Why the request gets nothing whatever happens, if so.
    fn refusal(&self, ask: &Ask) -> Option<Refusal> {
        if self.drain.is_some() {
            return Some(Refusal::Draining);
        }
        if self.leases.contains_key(&ask.lease) {
            // Eighty random bits: the edge made no new one.
            return Some(Refusal::Limit(format!(
                "lease {} is there already",
                ask.lease
            )));
        }
        let longest = self.longest_lease(&ask.caller);
        if let (Some(time), Some(longest)) = (ask.time, longest)
            && time > longest
        {
            return Some(Refusal::Limit(super::limits::too_long(time, longest)));
        }
        self.impossible(&ask.caller, &ask.need)
            .or_else(|| self.is_queue_full(&ask.caller.tenant))
    }

    fn is_queue_full(&self, tenant: &Tenant) -> Option<Refusal> {
        let tenants = self
            .waiting
            .iter()
            .map(|waiting| &waiting.ask.caller.tenant);
        let of_tenant = tenants.filter(|other| *other == tenant).count();
        let most = self.policy.longest_queue;
        let is_full = self.waiting.len() >= most || of_tenant >= (most / QUEUE_PART).max(1);
        is_full.then_some(Refusal::QueueFull(self.waiting.len()))
    }

    /// Why not even the empty pool can meet the need, if so.
    pub(super) fn misfit(&self, need: &Need) -> Option<Refusal> {
        let server = &self.capacity.server;
        let alike: Vec<_> = self
            .capacity
            .devices
            .iter()
            .filter(|device| passes(server, device, need))
            .collect();
        let count = |few: usize| u32::try_from(few).unwrap_or(u32::MAX);
        let too_many = |largest: usize| Refusal::TooMany {
            wanted: need.count,
            largest: count(largest),
            host: server.hostname.clone(),
            filters: filters(need),
        };
        if count(alike.len()) < need.count {
            return Some(too_many(alike.len()));
        }
        let able = alike
            .iter()
            .filter(|device| could_serve(server, device, need))
            .count();
        if count(able) >= need.count {
            return None;
        }
        if able > 0 {
            return Some(too_many(able));
        }
        let largest = alike.iter().max_by_key(|device| device.usable_memory)?;
        let wanted = Demand::of(need, largest).memory;
        Some(if wanted > largest.usable_memory {
            let largest = largest.usable_memory;
            Refusal::TooLarge { wanted, largest }
        } else {
            let least = alike.iter().map(|device| device.least_slice).min();
            let least = least.unwrap_or_default().max(1);
            Refusal::TooSmall { wanted, least }
        })
    }

    /// Grants what can be, and tells the others where they stand.
    pub(super) fn schedule(&mut self, now: Moment) -> Vec<Decision> {
        let mut decisions = self.grant_what_fits(now);
        decisions.extend(self.tell_places());
        decisions
    }

    fn grant_what_fits(&mut self, now: Moment) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while self.drain.is_none()
            && let Some((place, slices)) = self.next_grant()
        {
            decisions.push(self.grant(place, slices, now));
        }
        self.forget_tenants();
        decisions
    }

    fn forget_tenants(&mut self) {
        let leasing = self.leases.values().map(|held| &held.lease.tenant);
        let asking = self
            .waiting
            .iter()
            .map(|waiting| &waiting.ask.caller.tenant);
        let active: BTreeSet<&Tenant> = leasing.chain(asking).collect();
        self.accounts.forget(|tenant| active.contains(tenant));
    }

    /// The request that is to be granted now, by its place in `waiting`, and what it gets.
    fn next_grant(&self) -> Option<(usize, Vec<Slice>)> {
        let queue = self.queue();
        let head = queue.head()?;
        let rooms = self.rooms();
        if let Some(slices) = self.place(&rooms, head, None) {
            return Some((head, slices));
        }
        if !self.fills {
            return None;
        }
        let head_need = &self.waiting[head].ask.need;
        let mut seen = BTreeSet::from([&self.waiting[head].ask.caller.tenant]);
        queue
            .order
            .iter()
            .filter(|place| seen.insert(&self.waiting[**place].ask.caller.tenant))
            .filter(|place| !queue.held_back.contains_key(place))
            .find_map(|place| Some((*place, self.place(&rooms, *place, Some(head_need))?)))
    }

    /// Slices for the request within its tenant's limits, if there are.
    fn place(&self, rooms: &[Room<'_>], place: usize, head: Option<&Need>) -> Option<Vec<Slice>> {
        let ask = &self.waiting[place].ask;
        let server = &self.capacity.server;
        let holding = self.holding(&ask.caller.tenant);
        let by_policy = Preference::Policy(self.policy.packing);
        [by_policy, Preference::Least]
            .into_iter()
            .filter_map(|preference| placement::place(rooms, server, &ask.need, head, preference))
            .find(|slices| {
                let holding = holding.and(Holding::of(slices));
                holding.beyond(&ask.caller.limits).is_none()
            })
    }

    fn grant(&mut self, place: usize, slices: Vec<Slice>, now: Moment) -> Decision {
        let active = self.active_tenants();
        let Waiting { id, ask, .. } = self.waiting.remove(place);
        let time = ask.time.or(self.longest_lease(&ask.caller));
        let lease = Lease {
            id: ask.lease.clone(),
            tenant: ask.caller.tenant,
            token: ask.caller.token_id,
            holder: ask.holder,
            keeping: ask.keeping,
            slices,
            granted: now,
            expires: time.map(|time| now + time),
            last_used: now,
            sessions: 0,
            ended: None,
        };
        self.accounts
            .granted(&lease.tenant, self.share(&lease), active);
        self.leases.insert(ask.lease, Held::new(lease.clone()));
        Decision::Granted {
            request: id,
            lease: Box::new(lease),
        }
    }

    /// Refuses a request that will not wait, if it would have to.
    fn refuse_if_it_waits(&mut self, id: RequestId, now: Moment) -> Vec<Decision> {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.id == id) else {
            return Vec::new();
        };
        let told = self.places().into_iter().find(|(other, _)| *other == place);
        let (reason, fits_now) =
            told.map_or_else(Default::default, |(_, told)| (told.reason, told.fits_now));
        self.waiting.remove(place);
        let mut decisions = vec![refused(id, Refusal::Busy { reason, fits_now })];
        decisions.extend(self.grant_what_fits(now));
        decisions
    }

    /// Refuses those that this holds of.
    pub(super) fn refuse_all(
        &mut self,
        which: impl Fn(&Waiting) -> bool,
        refusal: &Refusal,
    ) -> Vec<Decision> {
        let gone: Vec<Waiting> = self
            .waiting
            .extract_if(.., |waiting| which(waiting))
            .collect();
        gone.into_iter()
            .map(|waiting| refused(waiting.id, refusal.clone()))
            .collect()
    }

    /// Refuses what can never be met now that the devices are others.
    pub(super) fn refuse_the_impossible(&mut self) -> Vec<Decision> {
        let refusals: BTreeMap<RequestId, Refusal> = self
            .waiting
            .iter()
            .filter_map(|waiting| {
                let refusal = self.impossible(&waiting.ask.caller, &waiting.ask.need)?;
                Some((waiting.id, refusal))
            })
            .collect();
        self.waiting
            .retain(|waiting| !refusals.contains_key(&waiting.id));
        refusals
            .into_iter()
            .map(|(id, refusal)| refused(id, refusal))
            .collect()
    }

    /// The order in which requests would be served if each lease lasted equally long; those that a limit holds back last.
    fn queue(&self) -> Queue {
        let mut tenants: BTreeMap<&Tenant, VecDeque<usize>> = BTreeMap::new();
        for (place, waiting) in self.waiting.iter().enumerate() {
            let tenant = &waiting.ask.caller.tenant;
            tenants.entry(tenant).or_default().push_back(place);
        }
        let mut held_back = BTreeMap::new();
        let mut turns = BinaryHeap::new();
        for (tenant, places) in &tenants {
            let first = places[0];
            let ask = &self.waiting[first].ask;
            if let Some(limit) = self.is_held_back(&ask.caller, &ask.need) {
                held_back.extend(places.iter().map(|place| (*place, limit.clone())));
            } else {
                turns.push(Reverse((self.accounts.of(tenant), first)));
            }
        }
        let mut order = Vec::with_capacity(self.waiting.len());
        while let Some(Reverse((account, place))) = turns.pop() {
            order.push(place);
            let tenant = &self.waiting[place].ask.caller.tenant;
            let places = tenants.get_mut(tenant);
            let next = places.and_then(|places| {
                places.pop_front();
                places.front().copied()
            });
            if let Some(next) = next {
                turns.push(Reverse((account.plus(self.least_charge(place)), next)));
            }
        }
        order.extend(held_back.keys());
        Queue { order, held_back }
    }

    /// What the request's lease is charged at least.
    fn least_charge(&self, place: usize) -> DeviceTime {
        let need = &self.waiting[place].ask.need;
        let server = &self.capacity.server;
        let devices = self.capacity.devices.iter();
        let share = devices
            .filter(|device| could_serve(server, device, need))
            .map(|device| Demand::of(need, device).share(device))
            .min()
            .unwrap_or(Compute::WHOLE);
        let share = share.millionths().saturating_mul(need.count.into());
        DeviceTime::new(Compute::from_millionths(share), LEAST_CHARGE)
    }

    /// Tells those whose place has changed.
    fn tell_places(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (place, told) in self.places() {
            let waiting = &mut self.waiting[place];
            if waiting.place.as_ref() != Some(&told) {
                waiting.place = Some(told.clone());
                decisions.push(Decision::Queued {
                    request: waiting.id,
                    place: told,
                });
            }
        }
        decisions
    }

    /// Where each waiting request stands, in order.
    fn places(&self) -> Vec<(usize, Place)> {
        let queue = self.queue();
        let rooms = self.rooms();
        let head = queue.head();
        let length = u32::try_from(queue.order.len()).unwrap_or(u32::MAX);
        (1..)
            .zip(&queue.order)
            .map(|(position, place)| {
                let need = &self.waiting[*place].ask.need;
                let before = head.filter(|head| head != place);
                let before = before.map(|head| &self.waiting[head].ask.need);
                let limit = queue.held_back.get(place);
                let fits_now = match limit {
                    Some(_) => String::new(),
                    None => self.fits_now(&rooms, need, before),
                };
                let told = Place {
                    position,
                    length,
                    reason: self.reason(&rooms, need, position, limit),
                    fits_now,
                };
                (*place, told)
            })
            .collect()
    }

    fn reason(
        &self,
        rooms: &[Room<'_>],
        need: &Need,
        position: u32,
        limit: Option<&String>,
    ) -> String {
        if let Some(limit) = limit {
            return format!("waiting for your own leases to end: you may have {limit} at once");
        }
        let server = &self.capacity.server;
        let free = rooms
            .iter()
            .filter(|room| room.serves(server, need))
            .count();
        let wanted = wanted(need);
        let devices = plural(need.count, "device");
        match usize::try_from(need.count) {
            Ok(count) if free >= count => {
                let before = plural(position.saturating_sub(1), "request");
                format!("what is free is kept for {before} before this one")
            }
            _ => format!("{devices} with {wanted} needed, {free} free"),
        }
    }

    /// The largest need of this shape that could be granted now, for people.
    fn fits_now(&self, rooms: &[Room<'_>], need: &Need, head: Option<&Need>) -> String {
        let server = &self.capacity.server;
        let fewer = rooms
            .iter()
            .filter(|room| room.serves(server, need) && may_take(room, server, need, head))
            .count();
        let count = usize::try_from(need.count).unwrap_or(usize::MAX);
        let fewer = (1..count).contains(&fewer).then(|| format!("-n {fewer}"));
        let smaller = self.smaller(rooms, need, head);
        let smaller = smaller.map(|part| format!("-n {count} -p {part}"));
        let found: Vec<String> = [fewer, smaller].into_iter().flatten().collect();
        found.join(" or ")
    }

    /// The largest fraction, in hundredths, of which as many devices are free.
    fn smaller(&self, rooms: &[Room<'_>], need: &Need, head: Option<&Need>) -> Option<Compute> {
        let server = &self.capacity.server;
        let mut shares: Vec<Compute> = rooms
            .iter()
            .filter(|room| passes(server, room.device, need))
            .map(Room::free_share)
            .collect();
        shares.sort_unstable_by_key(|share| Reverse(*share));
        let place = usize::try_from(need.count).ok()?.checked_sub(1)?;
        let hundredths = shares.get(place)?.millionths() / 10_000;
        let part = Compute::from_millionths(hundredths * 10_000);
        let smaller = Need {
            memory: match part {
                Compute::WHOLE => Portion::Whole,
                part => Portion::Fraction(part),
            },
            compute: None,
            ..need.clone()
        };
        let by_policy = Preference::Policy(self.policy.packing);
        placement::place(rooms, server, &smaller, head, by_policy).map(|_| part)
    }
}

impl Held {
    pub(super) fn new(lease: Lease) -> Self {
        let is_attached = lease.keeping == Keeping::Attached;
        Self {
            holders: u32::from(is_attached),
            alone_since: (!is_attached).then_some(lease.granted),
            is_warned_of_end: false,
            is_warned_of_idleness: false,
            taken_until: None,
            lease,
        }
    }
}

const fn refused(request: RequestId, refusal: Refusal) -> Decision {
    Decision::Refused { request, refusal }
}

/// What a device must be like, in words.
fn filters(need: &Need) -> String {
    let kind = need.kind.map(|kind| match kind {
        DeviceKind::Software => "--device soft".to_owned(),
        DeviceKind::Nvidia | DeviceKind::Unspecified => "--device gpu".to_owned(),
    });
    let filters = need.filters.iter().map(ToString::to_string);
    let all: Vec<String> = kind.into_iter().chain(filters).collect();
    all.join(", ")
}

fn wanted(need: &Need) -> String {
    let memory = match need.memory {
        Portion::Whole => "all memory".to_owned(),
        Portion::Fraction(part) => format!("{part} of the memory"),
        Portion::Bytes(bytes) => Bytes(bytes).to_string(),
    };
    match need.compute {
        Some(compute) => format!("{memory} and {compute} of the compute"),
        None => memory,
    }
}

fn plural(count: u32, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
