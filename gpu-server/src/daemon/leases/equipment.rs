//! What a lease has outside the scheduler: a ledger of its memory, and a place at the gate of each of its devices.
//!
//! Rules: it is made when the lease is granted, or taken up from a worker of before a restart, or made anew when a lease of before is used
//! again; it is given back when the lease's last session is over.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hello::{LeaseOrder, SliceOrder};

use super::Leases;
use crate::gate::{Gate, GateError, Place as GatePlace, Share};
use crate::ledger::{Ledger, LedgerError, context_bytes};
use crate::order::Descriptors;
use crate::pool::store::NotStored;
use crate::pool::{Compute, Lease, LeaseId, Sharing, Slice};
use crate::registry::{Facts, FileId};

/// Why a lease cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum EquipError {
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
pub(in crate::daemon) enum ResumeError {
    /// Its lease is over.
    #[error("its lease is over")]
    Over,
    /// What its lease had cannot be taken up.
    #[error("what its lease had cannot be taken up: {0}")]
    Equip(#[from] EquipError),
}

/// What a lease has beside its slices.
pub(in crate::daemon) struct Held {
    /// What its sessions have taken of its memory.
    pub(super) ledger: Ledger,
    /// Its place at the gate of each slice's device.
    pub(super) places: Vec<(Arc<Gate>, GatePlace)>,
    /// What was used of each device's time when it was last looked at, and the part of the time since the look before.
    pub(super) used: Vec<Duration>,
    pub(super) rates: Vec<f64>,
    pub(super) looked: Instant,
}

impl Held {
    /// Once a second, what part of the time was used in the last one; the gates are up to date.
    pub(super) fn note_rates(&mut self) {
        let elapsed = self.looked.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let used: Vec<Duration> = self
            .places
            .iter()
            .map(|(gate, place)| gate.charged(*place))
            .collect();
        let rate = |(now, before): (&Duration, &Duration)| {
            let part = now.saturating_sub(*before).as_secs_f64() / elapsed.as_secs_f64();
            part.min(1.0)
        };
        let before = self.used.iter().chain(std::iter::repeat(&Duration::ZERO));
        self.rates = used.iter().zip(before).map(rate).collect();
        (self.used, self.looked) = (used, Instant::now());
    }

    pub(super) fn give_back(&self) {
        for (gate, place) in &self.places {
            gate.dismiss(*place);
        }
    }
}

impl Leases {
    /// Gives a lease its places at the gates of its devices.
    pub(super) fn equip(&mut self, lease: &Lease) -> Result<(), EquipError> {
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
    pub(in crate::daemon) fn resume(
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
    pub(super) fn taken_up(
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
            match self.gate_of_before(slice.uuid, gate) {
                Ok(gate) => places.push((gate, place)),
                // Every worker of the device can write there: one that was taken over shall end nobody else's session.
                Err(error) => tracing::warn!(
                    lease = %lease.id,
                    device = slice.ordinal,
                    "the gate of before cannot be used: the device's time is not shared out to this lease's programs, nor counted: {error}"
                ),
            }
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
    pub(super) fn gate_of_before(
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
    pub(super) fn strip(&mut self, lease: &LeaseId) {
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
    pub(in crate::daemon) fn order(
        &self,
        lease: &LeaseId,
    ) -> std::io::Result<(LeaseOrder, Descriptors)> {
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
            context_memory: self.contexts.get(&slice.uuid).copied(),
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
            listener: None,
        };
        Ok((order, descriptors))
    }

    /// What a context takes of a slice's device.
    pub(super) fn context_bytes(&self, slice: &Slice) -> u64 {
        let measured = self.contexts.get(&slice.uuid).copied();
        context_bytes(self.scheduler.capacity().server.kind, measured)
    }

    /// The part of each slice's device time that a lease has used lately.
    pub(in crate::daemon) fn used_compute(&self, lease: &LeaseId) -> Vec<f64> {
        let held = self.held.get(lease);
        held.map_or_else(Vec::new, |held| held.rates.clone())
    }

    /// Bytes of each slice that are charged.
    pub(in crate::daemon) fn used_memory(&self, lease: &LeaseId) -> Vec<u64> {
        let ledger = self.held.get(lease).map(|held| &held.ledger);
        ledger.map_or_else(Vec::new, |ledger| {
            let slices = 0..ledger.slices();
            slices.map(|slice| ledger.used(slice)).collect()
        })
    }

    /// Bytes of each slice that are free.
    pub(in crate::daemon) fn free_memory(&self, lease: &LeaseId) -> Vec<u64> {
        let ledger = self.held.get(lease).map(|held| &held.ledger);
        ledger.map_or_else(Vec::new, |ledger| {
            let free = |slice| ledger.limit(slice).saturating_sub(ledger.used(slice));
            (0..ledger.slices()).map(free).collect()
        })
    }

    /// Bytes of a slice that one session has.
    pub(in crate::daemon) fn used_by(&self, lease: &LeaseId, session: u64, slice: usize) -> u64 {
        let held = self.held.get(lease);
        held.map_or(0, |held| held.ledger.used_by(session, slice))
    }

    /// What dead workers of a lease held is given back.
    pub(super) fn reap(&self, lease: &LeaseId) {
        if let Some(held) = self.held.get(lease) {
            held.ledger.reap();
            held.places.iter().for_each(|(gate, _)| gate.reap());
        }
    }
}
