//! The daemon's leases: what the scheduler decides is done here.
//!
//! What: [`Leases`] is the scheduler with all that leases have outside it: places at the devices' gates, ledgers of memory, who waits for an
//! answer, who listens. Rules: a decision is done in the order in which it comes, at once and without waiting; a session counts from its
//! grant on, so that whatever becomes of it is told by `end_session`; what a lease has is given back when its last session is over.
//!
//! ```text
//! sessions    of programs: under a lease, its household's, or one of its own     streams    of the service: asking, holding
//! decisions   of the scheduler, done                                             equipment  ledgers and gates of leases
//! household   who shares without having said so
//! ```

mod decisions;
mod equipment;
mod household;
mod sessions;
mod streams;

use std::collections::HashMap;
use std::sync::Arc;

use control_plane::AcquireEvent;
use tokio::sync::mpsc;

use super::answers::hostname;
use super::devices::Devices;
use super::waiting::Word;
use super::{Client, Granted};
use crate::config::PoolConfig;
use crate::gate::{Gate, GateError};
use crate::pool::{
    Caller, Capacity, Decision, LeaseId, Moment, Policy, RequestId, Scheduler, ServerFacts,
};
use equipment::Held;
use household::Household;

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
    joining: Vec<Joining>,
    last_stream: u64,
}

/// A program that comes while the lease of its household is on its way to the disk.
struct Joining {
    client: Client,
    granted: Granted,
    caller: Caller,
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
            joining: Vec::new(),
            last_stream: 0,
        })
    }

    /// The release of the driver is known now: filters may ask for it.
    pub(super) fn set_driver_release(&mut self, release: String) -> Vec<Decision> {
        let mut capacity = self.scheduler.capacity().clone();
        capacity.server.driver_release = release;
        self.scheduler.set_capacity(capacity, Moment::now())
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

    /// What leases have used since the last look is told to the scheduler, when each gate has been brought up to date once.
    fn note_use(&mut self) {
        let places = self.held.values().flat_map(|held| &held.places);
        let gates: HashMap<_, _> = places.map(|(gate, _)| (Arc::as_ptr(gate), gate)).collect();
        gates.values().for_each(|gate| gate.reap());
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
}

fn capacity(devices: &Devices, policy: &Policy, has_rdma: bool) -> Capacity {
    let facts = ServerFacts {
        hostname: hostname(),
        has_rdma,
        driver_version: devices.report.driver_version,
        driver_release: String::new(),
        kind: devices.kind,
    };
    Capacity::new(facts, &devices.report.devices, policy)
}
