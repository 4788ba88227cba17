//! The daemon's leases: what the scheduler decides is done here.
//!
//! What: [`Leases`] is the scheduler with all that leases have outside it: places at the devices' gates, ledgers of memory, who waits for an
//! answer, who listens. Rules: a decision is done in the order in which it comes, at once and without waiting; a session counts from its
//! grant on, so that whatever becomes of it is told by `end_session`; what a lease has is given back when its last session is over.
//!
//! Whose program is a member of a **household**: a program that comes without a lease and asks for whole devices joins the lease that
//! an earlier program of the same tenant, machine and user got in the same way. So programs share a device as they would on one
//! machine, and a second process of a program does not wait for its first one to end. Who wants a device alone asks with gpurun.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control_plane::acquire_event::Event as Told;
use control_plane::{AcquireEvent, Ended as EndedEvent, Warning};
use protocol::hello::{Hello, LeaseOrder, RefusalCode, Refused, SliceOrder, refusal};
use tokio::sync::mpsc;

use super::books::acknowledged;
use super::devices::Devices;
use super::service::{Wanted, holder, refusal_status, status};
use super::waiting::{self, Word};
use super::{Client, Daemon, Event, Granted};
use crate::config::PoolConfig;
use crate::gate::{Gate, GateError, Place as GatePlace, Share};
use crate::ledger::{Ledger, LedgerError, context_bytes};
use crate::order::Descriptors;
use crate::pool::store::NotStored;
use crate::pool::{
    Ask, Caller, Capacity, Compute, Decision, Keeping, Lease, LeaseEnd, LeaseError, LeaseId,
    Moment, Need, NeedError, Policy, Portion, Refusal, RequestId, Scheduler, ServerFacts, Sharing,
    Slice, Tenant, TokenId,
};
use crate::registry::{Facts, FileId};

/// The scheduler, and what leases have outside it.
pub(super) struct Leases {
    pub(super) scheduler: Scheduler,
    gates: HashMap<[u8; 16], Arc<Gate>>,
    /// Bytes that a context takes of a device, where it was measured.
    contexts: HashMap<[u8; 16], u64>,
    held: HashMap<LeaseId, Held>,
    asking: HashMap<RequestId, Asking>,
    streams: HashMap<u64, Stream>,
    households: Vec<Household>,
    last_stream: u64,
}

/// Why a lease cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum EquipError {
    /// A gate.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] NotStored),
    /// It was taken back before it was told.
    #[error("it has ended already")]
    Over,
}

/// Why a session of before a restart cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    /// Its lease is over.
    #[error("its lease is over")]
    Over,
    /// What its lease had cannot be taken up.
    #[error("what its lease had cannot be taken up: {0}")]
    Equip(#[from] EquipError),
}

/// What a lease has beside its slices.
struct Held {
    /// What its sessions have taken of its memory.
    ledger: Ledger,
    /// Its place at the gate of each slice's device.
    places: Vec<(Arc<Gate>, GatePlace)>,
    /// What was used of each device's time when it was last looked at, and the part of the time since the look before.
    used: Vec<Duration>,
    rates: Vec<f64>,
    looked: Instant,
}

/// Who waits for the answer to a request.
enum Asking {
    /// A program that leases for itself.
    Session(mpsc::UnboundedSender<Word>, Box<Granted>, Moment),
    /// A stream of the service.
    Stream(u64, Moment),
}

/// A stream of the service that is open.
struct Stream {
    sender: mpsc::Sender<AcquireEvent>,
    caller: Caller,
    state: StreamState,
}

enum StreamState {
    Waiting(RequestId),
    Holding(LeaseId),
}

/// The lease of programs that came without one.
#[derive(Clone)]
struct Household {
    lease: LeaseId,
    tenant: Tenant,
    token: Option<TokenId>,
    host: String,
    user: String,
    namespace: String,
    count: u32,
}

impl Household {
    fn is_same(&self, other: &Self) -> bool {
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
    /// For these devices.
    ///
    /// # Errors
    /// No memory for the devices' gates.
    pub(super) fn new(
        config: &PoolConfig,
        devices: &Devices,
        has_rdma: bool,
    ) -> Result<Self, GateError> {
        let policy = config.policy(devices.kind, &devices.report.devices);
        let capacity = capacity(devices, &policy, has_rdma);
        let gates = capacity
            .devices
            .iter()
            .map(|device| Ok((device.uuid, Arc::new(Gate::create()?))))
            .collect::<Result<_, GateError>>()?;
        Ok(Self {
            scheduler: Scheduler::new(capacity, policy, Moment::now()),
            gates,
            contexts: devices
                .report
                .devices
                .iter()
                .filter(|device| device.context_memory > 0)
                .filter_map(|device| {
                    let uuid = device.uuid.as_slice().try_into().ok()?;
                    Some((uuid, device.context_memory))
                })
                .collect(),
            held: HashMap::new(),
            asking: HashMap::new(),
            streams: HashMap::new(),
            households: Vec::new(),
            last_stream: 0,
        })
    }

    /// The release of the driver is known now: filters may ask for it.
    pub(super) fn set_driver_release(&mut self, release: String) -> Vec<Decision> {
        let mut capacity = self.scheduler.capacity().clone();
        capacity.server.driver_release = release;
        self.scheduler.set_capacity(capacity, Moment::now())
    }

    /// Gives a lease its places at the gates of its devices.
    fn equip(&mut self, lease: &Lease) -> Result<(), EquipError> {
        let is_capped = self.scheduler.policy().sharing == Sharing::HardCap;
        let memory: Vec<u64> = lease.slices.iter().map(|slice| slice.memory).collect();
        let mut held = Held {
            ledger: Ledger::create(&memory)?,
            places: Vec::new(),
            used: Vec::new(),
            rates: Vec::new(),
            looked: Instant::now(),
        };
        for slice in &lease.slices {
            let Some(gate) = self.gates.get(&slice.uuid) else {
                continue;
            };
            let share = Share::new(
                slice.compute.fraction(),
                is_capped && slice.compute < Compute::WHOLE,
            );
            match gate.admit(share) {
                Ok(place) => held.places.push((Arc::clone(gate), place)),
                Err(error) => {
                    held.give_back();
                    return Err(error.into());
                }
            }
        }
        self.held.insert(lease.id.clone(), held);
        Ok(())
    }

    /// A session of before a restart is there, with what its lease had then: the numbers of its devices.
    ///
    /// # Errors
    /// Its lease is over.
    pub(super) fn resume(
        &mut self,
        id: &LeaseId,
        facts: &Facts,
        descriptors: Descriptors,
    ) -> Result<Vec<u32>, ResumeError> {
        let lease = self
            .scheduler
            .lease(id)
            .filter(|lease| lease.ended.is_none());
        let lease = lease.ok_or(ResumeError::Over)?.clone();
        if !self.held.contains_key(id) {
            let held = self.taken_up(&lease, facts, descriptors)?;
            self.held.insert(id.clone(), held);
        }
        // It is there, as was just seen.
        self.scheduler
            .resume_session(id)
            .map_err(|_| ResumeError::Over)?;
        Ok(lease.slices.iter().map(|slice| slice.ordinal).collect())
    }

    /// What a lease had before a restart, as one of its workers has it.
    fn taken_up(
        &mut self,
        lease: &Lease,
        facts: &Facts,
        descriptors: Descriptors,
    ) -> Result<Held, EquipError> {
        let ledger = descriptors.ledger.ok_or(EquipError::Over)?;
        let mut places = Vec::new();
        let gates = lease.slices.iter().zip(descriptors.gates);
        for ((slice, gate), place) in gates.zip(&facts.gate_places) {
            let place = GatePlace::from_number(*place);
            places.push((self.gate_of_before(slice.uuid, gate)?, place));
        }
        Ok(Held {
            ledger: Ledger::open(ledger)?,
            places,
            used: Vec::new(),
            rates: Vec::new(),
            looked: Instant::now(),
        })
    }

    /// The gate of a device as a worker of before has it. It becomes the device's, unless somebody has come to the new one already: then
    /// the two share the device as its driver has it, until those of before have gone.
    fn gate_of_before(
        &mut self,
        device: [u8; 16],
        descriptor: OwnedFd,
    ) -> Result<Arc<Gate>, EquipError> {
        let file = FileId::of(&descriptor).map_err(GateError::from)?;
        let is_same =
            |gate: &Arc<Gate>| FileId::of(gate.descriptor()).is_ok_and(|known| known == file);
        if let Some(known) = self.gates.get(&device).filter(|gate| is_same(gate)) {
            return Ok(Arc::clone(known));
        }
        let gate = Arc::new(Gate::open(descriptor)?);
        let is_new_one_in_use = self.held.values().any(|held| {
            let mut gates = held.places.iter();
            gates.any(|(other, _)| {
                self.gates
                    .get(&device)
                    .is_some_and(|known| Arc::ptr_eq(known, other))
            })
        });
        match is_new_one_in_use {
            true => tracing::warn!(
                "a worker of before has another gate: shares do not hold between it and newer ones"
            ),
            false => drop(self.gates.insert(device, Arc::clone(&gate))),
        }
        Ok(gate)
    }

    /// Gives back what a lease had, if it is over and its last session too.
    fn strip(&mut self, lease: &LeaseId) {
        if self.scheduler.lease(lease).is_none()
            && let Some(held) = self.held.remove(lease)
        {
            held.give_back();
        }
    }

    /// What a worker of a lease is told, and what it inherits.
    ///
    /// # Errors
    /// The lease is over, or there is no descriptor left.
    pub(super) fn order(&self, lease: &LeaseId) -> std::io::Result<(LeaseOrder, Descriptors)> {
        let gone = || std::io::Error::other("the lease has just ended");
        let granted = self.scheduler.lease(lease).ok_or_else(gone)?;
        let held = self.held.get(lease).ok_or_else(gone)?;
        let gates = held
            .places
            .iter()
            .map(|(gate, _)| gate.descriptor().try_clone_to_owned())
            .collect::<std::io::Result<Vec<OwnedFd>>>()?;
        let places = held
            .places
            .iter()
            .map(|(_, place)| place.to_number())
            .chain(std::iter::repeat(0));
        let slices = granted.slices.iter().zip(places);
        let slices = slices.map(|(slice, gate_place)| SliceOrder {
            ordinal: slice.ordinal,
            uuid: slice.uuid.to_vec(),
            memory: slice.memory,
            compute: slice.compute.fraction(),
            usable_memory: slice.memory.saturating_sub(self.context_bytes(slice)),
            gate_place,
            context_memory: Some(self.context_bytes(slice)),
        });
        let order = LeaseOrder {
            id: granted.id.to_string(),
            tenant: granted.tenant.to_string(),
            slices: slices.collect(),
            ..LeaseOrder::default()
        };
        let descriptors = Descriptors {
            ledger: Some(held.ledger.descriptor().try_clone_to_owned()?),
            gates,
            control: None,
        };
        Ok((order, descriptors))
    }

    /// What a context takes of a slice's device.
    fn context_bytes(&self, slice: &Slice) -> u64 {
        let measured = self.contexts.get(&slice.uuid).copied();
        context_bytes(self.scheduler.capacity().server.kind, measured)
    }

    /// The lease of the household that this program belongs to.
    fn household(&self, wish: &Household) -> Option<LeaseId> {
        let alike = self.households.iter().filter(|other| other.is_same(wish));
        let mut leases = alike.filter_map(|other| self.scheduler.lease(&other.lease));
        let lease = leases.find(|lease| lease.ended.is_none())?;
        Some(lease.id.clone())
    }

    /// The requests of those who wait for a lease of the household that has got this one.
    fn household_of(&self, lease: &LeaseId) -> Vec<RequestId> {
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

    /// Since when a request that is granted has waited.
    fn since(&self, decision: &Decision) -> Option<Moment> {
        let Decision::Granted { request, .. } = decision else {
            return None;
        };
        self.asking.get(request).map(|asking| match asking {
            Asking::Session(_, _, since) | Asking::Stream(_, since) => *since,
        })
    }

    /// What leases have used since the last look is told to the scheduler.
    fn note_use(&mut self) {
        for (lease, held) in &mut self.held {
            held.note_rates();
            let last = held
                .places
                .iter()
                .filter_map(|(gate, place)| gate.last_active(*place))
                .max();
            if let Some(last) = last {
                self.scheduler.used(lease, Moment(last));
            }
        }
    }

    /// The part of each slice's device time that a lease has used lately.
    pub(super) fn used_compute(&self, lease: &LeaseId) -> Vec<f64> {
        let held = self.held.get(lease);
        held.map_or_else(Vec::new, |held| held.rates.clone())
    }

    /// Bytes of each slice that are charged.
    pub(super) fn used_memory(&self, lease: &LeaseId) -> Vec<u64> {
        let ledger = self.held.get(lease).map(|held| &held.ledger);
        ledger.map_or_else(Vec::new, |ledger| {
            let slices = 0..ledger.slices();
            slices.map(|slice| ledger.used(slice)).collect()
        })
    }

    /// Bytes of each slice that are free.
    pub(super) fn free_memory(&self, lease: &LeaseId) -> Vec<u64> {
        let ledger = self.held.get(lease).map(|held| &held.ledger);
        ledger.map_or_else(Vec::new, |ledger| {
            let free = |slice| ledger.limit(slice).saturating_sub(ledger.used(slice));
            (0..ledger.slices()).map(free).collect()
        })
    }

    /// Bytes of a slice that one session has.
    pub(super) fn used_by(&self, lease: &LeaseId, session: u64, slice: usize) -> u64 {
        let held = self.held.get(lease);
        held.map_or(0, |held| held.ledger.used_by(session, slice))
    }

    /// What dead workers of a lease held is given back.
    fn reap(&self, lease: &LeaseId) {
        if let Some(held) = self.held.get(lease) {
            held.ledger.reap();
            held.places.iter().for_each(|(gate, _)| gate.reap());
        }
    }
}

impl Held {
    /// Once a second, what part of the time was used in the last one.
    fn note_rates(&mut self) {
        let elapsed = self.looked.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let used: Vec<Duration> = self
            .places
            .iter()
            .map(|(gate, place)| gate.used(*place))
            .collect();
        let rate = |(now, before): (&Duration, &Duration)| {
            let part = now.saturating_sub(*before).as_secs_f64() / elapsed.as_secs_f64();
            part.min(1.0)
        };
        let before = self.used.iter().chain(std::iter::repeat(&Duration::ZERO));
        self.rates = used.iter().zip(before).map(rate).collect();
        (self.used, self.looked) = (used, Instant::now());
    }

    fn give_back(&self) {
        for (gate, place) in &self.places {
            gate.dismiss(*place);
        }
    }
}

fn capacity(devices: &Devices, policy: &Policy, has_rdma: bool) -> Capacity {
    let facts = ServerFacts {
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        has_rdma,
        driver_version: devices.report.driver_version,
        driver_release: String::new(),
        kind: devices.kind,
    };
    Capacity::new(facts, &devices.report.devices, policy)
}

/// What a program that came without a lease asks for.
fn need(hello: &Hello) -> Result<Need, Refused> {
    let wrong = |error: NeedError| refusal(RefusalCode::Malformed, error.to_string());
    Need::try_from(&hello.devices.unwrap_or_default()).map_err(wrong)
}

fn lease_refused(error: &LeaseError) -> Refused {
    refusal(error.code(), error.to_string())
}

impl Daemon {
    /// Begins a session: under the lease that it names, or its household's, or one of its own.
    pub(super) fn begin(&mut self, client: Client, granted: Granted, caller: Caller) {
        if !granted.hello.lease.is_empty() {
            return self.begin_under(client, granted, &caller);
        }
        let need = match need(&granted.hello) {
            Ok(need) => need,
            Err(refused) => return self.refuse(client, refused),
        };
        let identity = granted.hello.identity.clone().unwrap_or_default();
        let wish = Household {
            lease: granted.lease.clone(),
            tenant: caller.tenant.clone(),
            token: caller.token_id.clone(),
            host: identity.host.clone(),
            user: identity.user.clone(),
            namespace: identity.process_namespace.clone(),
            count: need.count,
        };
        let is_household = need.memory == Portion::Whole && need.compute.is_none();
        if is_household && let Some(lease) = self.leases.household(&wish) {
            let granted = Granted { lease, ..granted };
            return self.begin_in(client, granted, &caller);
        }
        let ask = Ask {
            lease: granted.lease.clone(),
            caller,
            need,
            holder: holder(Some(&identity)),
            keeping: Keeping::Session,
            time: None,
            waits: granted.hello.waits,
        };
        let now = Moment::now();
        let asked = ask.clone();
        let (request, decisions) = self.leases.scheduler.request(ask, now);
        self.note_refusal(&asked, request, &decisions);
        let (words, heard) = mpsc::unbounded_channel();
        let asking = Asking::Session(words, Box::new(granted), now);
        self.leases.asking.insert(request, asking);
        if is_household {
            self.leases.households.push(wish);
        }
        tokio::spawn(waiting::keep(client, request, heard, self.events.clone()));
        self.apply(decisions);
    }

    /// Begins a session under the lease that its program names.
    fn begin_under(&mut self, client: Client, granted: Granted, caller: &Caller) {
        let lease = match granted.hello.lease.parse::<LeaseId>() {
            Ok(lease) => lease,
            Err(error) => {
                let refused = refusal(RefusalCode::Lease, error.to_string());
                return self.refuse(client, refused);
            }
        };
        self.begin_in(client, Granted { lease, ..granted }, caller);
    }

    fn begin_in(&mut self, client: Client, granted: Granted, caller: &Caller) {
        let lease = match self.leases.scheduler.begin_session(&granted.lease, caller) {
            Ok(lease) => lease.clone(),
            Err(error) => {
                self.books
                    .lease_refused(caller, &granted.lease, &error, Moment::now());
                return self.refuse(client, lease_refused(&error));
            }
        };
        if let Err(error) = self.equip_again(&lease) {
            let message = format!("the server cannot give the lease: {error}");
            self.refuse(client, refusal(RefusalCode::Internal, message));
            return self.end_session(&lease.id);
        }
        self.grant(client, granted);
    }

    /// Gives a lease of before a restart what it had then, if nothing of it has come back with a worker.
    fn equip_again(&mut self, lease: &Lease) -> Result<(), EquipError> {
        if self.leases.held.contains_key(&lease.id) {
            return Ok(());
        }
        self.leases.equip(lease)?;
        self.books.gates_are_new(&lease.id);
        Ok(())
    }

    /// A stream that asks for a lease, and is told what becomes of it.
    pub(super) fn acquire(
        &mut self,
        caller: Caller,
        wanted: Wanted,
        sender: mpsc::Sender<AcquireEvent>,
    ) -> Result<u64, tonic::Status> {
        let lease = LeaseId::random().map_err(|error| {
            let message = format!("the server has no random numbers: {error}");
            status(&refusal(RefusalCode::Internal, message))
        })?;
        let ask = Ask {
            lease,
            caller: caller.clone(),
            need: wanted.need,
            holder: wanted.holder,
            keeping: match wanted.is_detached {
                true => Keeping::Detached,
                false => Keeping::Attached,
            },
            time: wanted.time,
            waits: wanted.waits,
        };
        let now = Moment::now();
        let asked = ask.clone();
        let (request, decisions) = self.leases.scheduler.request(ask, now);
        let refused = self.note_refusal(&asked, request, &decisions);
        tracing::debug!(%request, name = wanted.name, tenant = %caller.tenant, "a lease is asked for");
        if let Some(refusal) = refused {
            tracing::warn!(tenant = %caller.tenant, "refused: {refusal}");
            self.apply(decisions);
            return Err(refusal_status(&refusal));
        }
        let state = StreamState::Waiting(request);
        let number = self.leases.open(sender, caller, state);
        self.leases
            .asking
            .insert(request, Asking::Stream(number, now));
        self.apply(decisions);
        Ok(number)
    }

    /// The refusal of a request that was refused at once, written down.
    fn note_refusal(
        &self,
        asked: &Ask,
        request: RequestId,
        decisions: &[Decision],
    ) -> Option<Refusal> {
        let refusal = decisions.iter().find_map(|decision| match decision {
            Decision::Refused {
                request: other,
                refusal,
            } if *other == request => Some(refusal.clone()),
            _ => None,
        })?;
        self.books.request_refused(asked, &refusal, Moment::now());
        Some(refusal)
    }

    /// A stream that holds a lease that is there already.
    pub(super) fn hold(
        &mut self,
        lease: &LeaseId,
        caller: Caller,
        sender: mpsc::Sender<AcquireEvent>,
    ) -> Result<u64, LeaseError> {
        let held = self.leases.scheduler.hold(lease, &caller)?.clone();
        let state = StreamState::Holding(lease.clone());
        let number = self.leases.open(sender, caller, state);
        self.leases.tell(number, Told::Granted((&held).into()));
        Ok(number)
    }

    /// A stream's client has left it.
    pub(super) fn leave(&mut self, stream: u64) {
        let Some(stream) = self.leases.streams.remove(&stream) else {
            return;
        };
        let now = Moment::now();
        match stream.state {
            StreamState::Waiting(request) => self.withdraw(request),
            StreamState::Holding(lease) => self.leases.scheduler.let_go(&lease, now),
        }
    }

    /// Nobody waits for the answer to a request any more.
    pub(super) fn withdraw(&mut self, request: RequestId) {
        if let Some(Asking::Session(_, granted, _)) = self.leases.asking.remove(&request) {
            self.leases.forget_household(&granted.lease);
        }
        let decisions = self.leases.scheduler.withdraw(request, Moment::now());
        self.apply(decisions);
    }

    /// A session is over, or did not come about.
    pub(super) fn end_session(&mut self, lease: &LeaseId) {
        self.leases.reap(lease);
        self.note_used(lease);
        let decisions = self.leases.scheduler.end_session(lease, Moment::now());
        self.apply(decisions);
        self.leases.strip(lease);
    }

    /// Charges what a lease's gates have counted.
    fn note_used(&mut self, lease: &LeaseId) {
        if let Some(held) = self.leases.held.get(lease) {
            let used = held.places.iter().map(|(gate, place)| gate.used(*place));
            self.books.used(lease, used.sum());
        }
    }

    /// Does what time has brought.
    pub(super) fn look_at_leases(&mut self) {
        self.leases.note_use();
        let leases: Vec<LeaseId> = self.leases.held.keys().cloned().collect();
        leases.iter().for_each(|lease| self.note_used(lease));
        let now = Moment::now();
        self.books.tick(&self.leases.scheduler, now);
        let is_due = self.leases.scheduler.next_moment();
        if is_due.is_some_and(|moment| moment <= now) {
            let decisions = self.leases.scheduler.expire(now);
            self.apply(decisions);
        }
    }

    /// Does what was decided.
    pub(super) fn apply(&mut self, decisions: Vec<Decision>) {
        let now = Moment::now();
        for decision in decisions {
            let stored = self
                .books
                .note(&decision, self.leases.since(&decision), now);
            match decision {
                Decision::Granted { request, lease } => match stored {
                    Some(stored) => {
                        // It is told once it cannot be forgotten.
                        let events = self.events.clone();
                        let metrics = self.books.metrics().clone();
                        tokio::spawn(async move {
                            let stored = acknowledged(stored, metrics).await;
                            let _ = events.send(Event::Stored(request, lease, stored)).await;
                        });
                    }
                    None => self.granted(request, &lease),
                },
                Decision::Queued { request, place } => match self.leases.asking.get(&request) {
                    // One that is gone says so itself.
                    Some(Asking::Session(words, ..)) => drop(words.send(Word::Place(place))),
                    Some(Asking::Stream(stream, _)) => {
                        let stream = *stream;
                        self.leases.tell(stream, Told::Queued((&place).into()));
                    }
                    None => {}
                },
                Decision::Refused { request, refusal } => self.refused(request, &refusal),
                Decision::Ended {
                    lease,
                    end,
                    message,
                } => self.ended(&lease, end, &message),
                Decision::Warned { lease, message } => {
                    tracing::warn!(%lease, "{message}");
                    self.leases
                        .tell_holders(&lease, &Told::Warning(Warning { message }));
                }
                Decision::Changed { lease } => {
                    tracing::info!(lease = %lease.id, expires = ?lease.expires, "renewed");
                }
            }
        }
    }

    /// A grant is on the disk, or could not be stored. It may have ended meanwhile.
    pub(super) fn stored(
        &mut self,
        request: RequestId,
        lease: &Lease,
        stored: Result<(), NotStored>,
    ) {
        let caller = Caller::unlimited(lease.tenant.clone(), false);
        match stored {
            Ok(()) => self.granted(request, lease),
            Err(error) => self.take_back(request, lease, &caller, &error.into()),
        }
    }

    fn granted(&mut self, request: RequestId, lease: &Lease) {
        if self.leases.scheduler.lease(&lease.id).is_none() {
            let caller = Caller::unlimited(lease.tenant.clone(), false);
            return self.take_back(request, lease, &caller, &EquipError::Over);
        }
        tracing::info!(
            lease = %lease.id,
            tenant = %lease.tenant,
            user = lease.holder.user,
            host = lease.holder.host,
            program = lease.holder.program,
            slices = lease.slices.len(),
            memory = lease.memory(),
            compute = %lease.compute(),
            "lease granted"
        );
        let caller = Caller::unlimited(lease.tenant.clone(), false);
        if let Err(error) = self.leases.equip(lease) {
            return self.take_back(request, lease, &caller, &error);
        }
        match self.leases.asking.remove(&request) {
            Some(Asking::Session(words, granted, _)) => {
                self.let_in(&lease.id, &caller, &words, granted);
                self.let_household_in(&lease.id, &caller);
            }
            Some(Asking::Stream(stream, _)) => {
                // An attached lease begins with its holder's stream; no other one counts them.
                if let Some(stream) = self.leases.streams.get_mut(&stream) {
                    stream.state = StreamState::Holding(lease.id.clone());
                }
                self.leases.tell(stream, Told::Granted(lease.into()));
            }
            None => self.release(&lease.id, &caller),
        }
    }

    /// Lets a program in that has waited. Its session counts from now on.
    fn let_in(
        &mut self,
        lease: &LeaseId,
        caller: &Caller,
        words: &mpsc::UnboundedSender<Word>,
        mut granted: Box<Granted>,
    ) {
        if let Err(error) = self.leases.scheduler.begin_session(lease, caller) {
            drop(words.send(Word::Refused(lease_refused(&error))));
            return;
        }
        granted.lease = lease.clone();
        if words.send(Word::Granted(granted)).is_err() {
            self.end_session(lease);
        }
    }

    /// Who waited for a lease of the same household joins this one.
    fn let_household_in(&mut self, lease: &LeaseId, caller: &Caller) {
        for request in self.leases.household_of(lease) {
            if let Some(Asking::Session(words, granted, _)) = self.leases.asking.remove(&request) {
                self.leases.forget_household(&granted.lease);
                self.let_in(lease, caller, &words, granted);
                let decisions = self.leases.scheduler.withdraw(request, Moment::now());
                self.apply(decisions);
            }
        }
    }

    /// Takes back a lease that cannot be used.
    fn take_back(
        &mut self,
        request: RequestId,
        lease: &Lease,
        caller: &Caller,
        error: &EquipError,
    ) {
        tracing::error!(lease = %lease.id, "cannot be used: {error}");
        let message = format!("the server cannot give the lease: {error}");
        match self.leases.asking.remove(&request) {
            Some(Asking::Session(words, granted, _)) => {
                self.leases.forget_household(&granted.lease);
                let refused = refusal(RefusalCode::Busy, message);
                drop(words.send(Word::Refused(refused)));
            }
            Some(Asking::Stream(stream, _)) => self.leases.end_stream(stream, message),
            None => {}
        }
        self.release(&lease.id, caller);
    }

    fn release(&mut self, lease: &LeaseId, caller: &Caller) {
        match self.leases.scheduler.release(lease, caller, Moment::now()) {
            Ok(decisions) => self.apply(decisions),
            Err(error) => tracing::debug!(%lease, "{error}"),
        }
    }

    fn refused(&mut self, request: RequestId, refusal: &Refusal) {
        match self.leases.asking.remove(&request) {
            Some(Asking::Session(words, granted, _)) => {
                self.leases.forget_household(&granted.lease);
                tracing::warn!("refused: {refusal}");
                let refused = protocol::hello::refusal(refusal.code(), refusal.to_string());
                drop(words.send(Word::Refused(refused)));
            }
            Some(Asking::Stream(stream, _)) => {
                self.leases.end_stream(stream, refusal.to_string());
            }
            None => {}
        }
    }

    fn ended(&mut self, lease: &Lease, end: LeaseEnd, message: &str) {
        let sessions = self.workers.end_lease(&lease.id, message);
        tracing::info!(lease = %lease.id, tenant = %lease.tenant, end = end.name(), sessions, "lease ended: {message}");
        let withdrawn = self.tickets.withdraw(|granted| granted.lease == lease.id);
        self.leases.forget_household(&lease.id);
        let event = Told::Ended(EndedEvent {
            end: control_plane::LeaseEnd::from(end).into(),
            message: message.to_owned(),
        });
        self.leases.tell_holders(&lease.id, &event);
        let is_over = |stream: &Stream| matches!(&stream.state, StreamState::Holding(held) if *held == lease.id);
        self.leases.streams.retain(|_, stream| !is_over(stream));
        for granted in withdrawn {
            self.end_session(&granted.lease);
        }
        self.leases.strip(&lease.id);
    }
}

impl Leases {
    fn open(
        &mut self,
        sender: mpsc::Sender<AcquireEvent>,
        caller: Caller,
        state: StreamState,
    ) -> u64 {
        self.last_stream += 1;
        let stream = Stream {
            sender,
            caller,
            state,
        };
        self.streams.insert(self.last_stream, stream);
        self.last_stream
    }

    /// Tells a stream something. One that takes nothing for long misses places in the queue, but nothing else: without room for that, it ends.
    fn tell(&mut self, number: u64, event: Told) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        let is_place = matches!(event, Told::Queued(_));
        let sent = stream.sender.try_send(AcquireEvent { event: Some(event) });
        if sent.is_err() && !is_place {
            tracing::warn!(tenant = %stream.caller.tenant, "a stream takes no events: ended");
            // Its receiver's end tells its client, and that the client is gone is told to us as for any other.
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.sender = mpsc::channel(1).0;
            }
        }
    }

    /// Ends a stream that has got nothing: it was told to wait, so it hears of that as an event.
    fn end_stream(&mut self, number: u64, message: String) {
        let end = control_plane::LeaseEnd::Unspecified.into();
        self.tell(number, Told::Ended(EndedEvent { end, message }));
        self.streams.remove(&number);
    }

    fn tell_holders(&mut self, lease: &LeaseId, event: &Told) {
        let holders: Vec<u64> = self
            .streams
            .iter()
            .filter(
                |(_, stream)| matches!(&stream.state, StreamState::Holding(held) if held == lease),
            )
            .map(|(number, _)| *number)
            .collect();
        for number in holders {
            self.tell(number, event.clone());
        }
    }

    fn forget_household(&mut self, lease: &LeaseId) {
        self.households
            .retain(|household| household.lease != *lease);
    }
}
