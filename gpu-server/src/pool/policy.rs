//! What the operator wants.

use std::time::Duration;

/// Where slices go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Onto devices that are in use already, so that whole ones stay free.
    #[default]
    Pack,
    /// Onto the devices that are used least, so that slices disturb each other least.
    Spread,
}

/// What a compute share means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// The least that a lease gets when others want the device too; it has more when they do not.
    #[default]
    WorkConserving,
    /// Also the most.
    HardCap,
}

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where slices go.
    pub packing: Packing,
    /// What a compute share means.
    pub sharing: Sharing,
    /// How long any lease may last.
    pub longest_lease: Option<Duration>,
    /// A lease that ran no kernel and no copy for so long ends, after a warning.
    pub idle_limit: Option<Duration>,
    /// Bytes of each device that no slice gets.
    pub kept_memory: u64,
    /// The least bytes of a slice: a context, and a margin for what the driver makes beside it.
    pub least_slice: u64,
    /// How long a lease lives on when its holder's connection is gone and it has no session.
    pub holder_grace: Duration,
    /// Most requests that wait, over all tenants.
    pub longest_queue: usize,
}

/// How long a lease lives on without its holder.
const HOLDER_GRACE: Duration = Duration::from_secs(30);

/// Most requests that wait, if nothing else is said.
const LONGEST_QUEUE: usize = 4096;

impl Default for Policy {
    fn default() -> Self {
        Self {
            packing: Packing::default(),
            sharing: Sharing::default(),
            longest_lease: None,
            idle_limit: None,
            kept_memory: 0,
            least_slice: 0,
            holder_grace: HOLDER_GRACE,
            longest_queue: LONGEST_QUEUE,
        }
    }
}
