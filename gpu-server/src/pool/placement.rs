//! Where slices go, and what may be given away while somebody waits.
//!
//! What: a [`Room`] is a device and what is taken of it; [`place`] finds distinct devices for a need, or none. Why so: packing puts
//! a slice where the least is left over (best fit), and touches an unused device last, so that whole ones stay whole. Rules:
//!
//! * *Back-filling never delays the head of the queue.* Nobody knows when leases end, so a slice is given to somebody behind
//!   the head only if, **whichever of the device's other slices end and whichever stay**, the device can serve the head as soon as
//!   it could have without it ([`Room::spares`]). A device that can never serve the head is free for all.
//! * Memory and compute are whole numbers; fractions round down, so that equal parts fit.

use protocol::filter::{DeviceId, Filter, Key, Value, Version};

use super::{Compute, Device, Need, Packing, Portion, ServerFacts, Slice};

/// A device of more slices than this, one of which would have to end for the head, is kept for the head without looking further.
const MAX_EXACT_SLICES: usize = 8;

/// What a need takes of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    pub(super) memory: u64,
    pub(super) compute: Compute,
}

impl Demand {
    const NOTHING: Self = Self {
        memory: 0,
        compute: Compute::NONE,
    };

    /// What the need takes of the device.
    pub(super) fn of(need: &Need, device: &Device) -> Self {
        let usable = device.usable_memory;
        let (memory, likewise) = match need.memory {
            Portion::Whole => (usable, Compute::WHOLE),
            Portion::Fraction(part) => (part_of(usable, part), part),
            Portion::Bytes(bytes) => (bytes, proportion(bytes, usable)),
        };
        let compute = need.compute.unwrap_or(likewise);
        Self { memory, compute }
    }

    /// What is used of a device, as one number: the larger of the two parts.
    pub(super) fn share(self, device: &Device) -> Compute {
        self.compute
            .max(proportion(self.memory, device.usable_memory))
    }

    fn and(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_add(other.memory),
            compute: self.compute + other.compute,
        }
    }

    fn fits(self, room: Self) -> bool {
        self.memory <= room.memory && self.compute <= room.compute
    }

    fn less(self, taken: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(taken.memory),
            compute: self.compute.less(taken.compute),
        }
    }
}

impl From<&Slice> for Demand {
    fn from(slice: &Slice) -> Self {
        Self {
            memory: slice.memory,
            compute: slice.compute,
        }
    }
}

/// So many millionths of the bytes, rounded down.
fn part_of(bytes: u64, part: Compute) -> u64 {
    let product = u128::from(bytes) * u128::from(part.millionths());
    u64::try_from(product / 1_000_000).unwrap_or(u64::MAX)
}

/// What part of all the bytes are, rounded down; at least the least there is.
fn proportion(bytes: u64, all: u64) -> Compute {
    let millionths = u128::from(bytes) * 1_000_000 / u128::from(all.max(1));
    let millionths = u64::try_from(millionths).unwrap_or(u64::MAX);
    Compute::from_millionths(millionths.max(1))
}

/// A device, and what is taken of it.
#[derive(Debug, Clone)]
pub(super) struct Room<'a> {
    pub(super) device: &'a Device,
    pub(super) taken: Vec<Demand>,
}

impl<'a> Room<'a> {
    pub(super) const fn empty(device: &'a Device) -> Self {
        Self {
            device,
            taken: Vec::new(),
        }
    }

    fn all(&self) -> Demand {
        Demand {
            memory: self.device.usable_memory,
            compute: Compute::WHOLE,
        }
    }

    /// What nobody has.
    pub(super) fn free(&self) -> Demand {
        let taken = self.taken.iter().copied();
        self.all().less(taken.fold(Demand::NOTHING, Demand::and))
    }

    /// The part that a slice of equal parts could have.
    pub(super) fn free_share(&self) -> Compute {
        let free = self.free();
        let memory = u128::from(free.memory) * 1_000_000;
        let memory = memory / u128::from(self.device.usable_memory.max(1));
        let memory = u64::try_from(memory).unwrap_or(u64::MAX);
        Compute::from_millionths(memory).min(free.compute)
    }

    /// Whether the device, with what is free of it now, serves the need.
    pub(super) fn serves(&self, server: &ServerFacts, need: &Need) -> bool {
        could_serve(server, self.device, need) && Demand::of(need, self.device).fits(self.free())
    }

    /// Whether a slice of this size may be given away although the head waits: whichever of the other slices end, the
    /// device serves the head as soon as it would have.
    pub(super) fn spares(&self, slice: Demand, server: &ServerFacts, head: &Need) -> bool {
        if !could_serve(server, self.device, head) {
            return true;
        }
        // What may be taken at most for the head still to fit.
        let bound = self.all().less(Demand::of(head, self.device));
        let everything = self
            .taken
            .iter()
            .copied()
            .fold(Demand::NOTHING, Demand::and);
        if everything.fits(bound) {
            return everything.and(slice).fits(bound);
        }
        if self.taken.len() > MAX_EXACT_SLICES {
            return false;
        }
        (0_u32..1 << self.taken.len()).all(|stays| {
            let staying = self.staying(stays);
            !staying.fits(bound) || staying.and(slice).fits(bound)
        })
    }

    /// The sum of the slices whose bit is set.
    fn staying(&self, stays: u32) -> Demand {
        let slices = self.taken.iter().enumerate();
        slices
            .filter(|(place, _)| stays >> place & 1 == 1)
            .fold(Demand::NOTHING, |sum, (_, slice)| sum.and(*slice))
    }
}

/// Whether the device passes the filters, and the need is neither too large nor too small for it.
pub(super) fn could_serve(server: &ServerFacts, device: &Device, need: &Need) -> bool {
    let demand = Demand::of(need, device);
    passes(server, device, need)
        && demand.memory <= device.usable_memory
        && demand.memory >= device.least_slice.max(1)
}

/// Whether the server and the device are as the need says.
pub(super) fn passes(server: &ServerFacts, device: &Device, need: &Need) -> bool {
    need.kind.is_none_or(|kind| kind == server.kind)
        && need
            .filters
            .iter()
            .all(|filter| passes_filter(server, device, filter))
}

fn passes_filter(server: &ServerFacts, device: &Device, filter: &Filter) -> bool {
    let holds = |order| filter.comparison().holds(order);
    match (filter.key(), filter.value()) {
        // Only the client knows by which address it came: it asks the servers that fit.
        (Key::ServerAddress, _) => true,
        (Key::ServerHostname, Value::Pattern(pattern)) => pattern.matches(&server.hostname),
        (Key::ServerHasRdma, Value::Flag(flag)) => *flag == server.has_rdma,
        (Key::ServerDriverVersion, Value::Version(asked)) => server
            .driver_release
            .parse::<Version>()
            .is_ok_and(|release| holds(release.stands_to(asked))),
        (Key::ServerCudaVersion, Value::Version(asked)) => {
            holds(Version::of_driver(server.driver_version).stands_to(asked))
        }
        (Key::DeviceId, Value::Device(DeviceId::Ordinal(ordinal))) => *ordinal == device.ordinal,
        (Key::DeviceId, Value::Device(DeviceId::Uuid(uuid))) => *uuid == device.uuid,
        (Key::DeviceName, Value::Pattern(pattern)) => pattern.matches(&device.name),
        (Key::DeviceMemory, Value::Bytes(bytes)) => holds(device.total_memory.cmp(bytes)),
        // A filter's value has its key's type.
        _ => false,
    }
}

/// In which order devices are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// As the operator wants.
    Policy(Packing),
    /// The least memory and compute first: for a tenant near its limit.
    Least,
}

/// Slices for the need on distinct devices, or none; beside the head of the queue, if there is one that waits.
pub(super) fn place(
    rooms: &[Room<'_>],
    server: &ServerFacts,
    need: &Need,
    head: Option<&Need>,
    preference: Preference,
) -> Option<Vec<Slice>> {
    let count = usize::try_from(need.count).ok()?;
    let mut able: Vec<&Room<'_>> = rooms
        .iter()
        .filter(|room| room.serves(server, need) && may_take(room, server, need, head))
        .collect();
    if able.len() < count {
        return None;
    }
    able.sort_by_key(|room| rank(room, need, preference));
    able.truncate(count);
    Some(able.iter().map(|room| slice(room.device, need)).collect())
}

/// Whether the head of the queue, if there is one, is not harmed.
pub(super) fn may_take(
    room: &Room<'_>,
    server: &ServerFacts,
    need: &Need,
    head: Option<&Need>,
) -> bool {
    head.is_none_or(|head| room.spares(Demand::of(need, room.device), server, head))
}

/// What is tried first is least.
fn rank(room: &Room<'_>, need: &Need, preference: Preference) -> (u64, u64, u64, u32) {
    let demand = Demand::of(need, room.device);
    let device = room.device;
    let (first, second) = match preference {
        Preference::Policy(Packing::Pack) => {
            let left = room.free().less(demand);
            let left = proportion(left.memory, device.usable_memory) + left.compute;
            (u64::from(room.taken.is_empty()), left.millionths())
        }
        Preference::Policy(Packing::Spread) => {
            let used = Compute::WHOLE.less(room.free_share());
            (used.millionths(), room.taken.len() as u64)
        }
        Preference::Least => (demand.memory, demand.compute.millionths()),
    };
    (first, second, device.total_memory, device.ordinal)
}

fn slice(device: &Device, need: &Need) -> Slice {
    let demand = Demand::of(need, device);
    Slice {
        ordinal: device.ordinal,
        uuid: device.uuid,
        name: device.name.clone(),
        memory: demand.memory,
        compute: demand.compute,
        device_memory: device.total_memory,
    }
}
