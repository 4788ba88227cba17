//! What there is: the server and its devices.

use protocol::hello::{DeviceKind, DeviceSnapshot};

use super::{Compute, Policy};

/// What filters ask of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// The machine's name.
    pub hostname: String,
    /// Whether it can be reached by RDMA.
    pub has_rdma: bool,
    /// `cuDriverGetVersion`: 13000 is CUDA 13.0.
    pub driver_version: i32,
    /// The release of its driver; empty: not known.
    pub driver_release: String,
    /// What its devices are made of.
    pub kind: DeviceKind,
}

/// A device as the pool sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number on the server.
    pub ordinal: u32,
    /// What names it for good.
    pub uuid: [u8; 16],
    /// Its name.
    pub name: String,
    /// All its memory, as its driver reports it, in bytes.
    pub total_memory: u64,
    /// What slices can be made of, in bytes.
    pub usable_memory: u64,
    /// The least slice that can hold a context, in bytes.
    pub least_slice: u64,
}

/// The server and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// The server.
    pub server: ServerFacts,
    /// Its devices, each ordinal once.
    pub devices: Vec<Device>,
}

impl Capacity {
    /// From what a probe found, less what the policy keeps. A device whose UUID has not 16 bytes is left out.
    #[must_use]
    pub fn new(server: ServerFacts, devices: &[DeviceSnapshot], policy: &Policy) -> Self {
        let devices = devices
            .iter()
            .filter_map(|device| Device::new(device, policy))
            .collect();
        Self { server, devices }
    }

    /// Gives slices the numbers that their devices have now: drivers may count otherwise after a restart.
    pub(super) fn renumber(&self, slices: &mut [Slice]) {
        for slice in slices {
            let mut devices = self.devices.iter();
            if let Some(device) = devices.find(|device| device.uuid == slice.uuid) {
                slice.ordinal = device.ordinal;
            }
        }
    }

    /// The device of this number.
    #[must_use]
    pub fn device(&self, ordinal: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.ordinal == ordinal)
    }
}

impl Device {
    fn new(device: &DeviceSnapshot, policy: &Policy) -> Option<Self> {
        let usable = match device.usable_memory {
            0 => device.total_memory,
            usable => usable.min(device.total_memory),
        };
        Some(Self {
            ordinal: device.ordinal,
            uuid: device.uuid.as_slice().try_into().ok()?,
            name: device.name.clone(),
            total_memory: device.total_memory,
            usable_memory: usable.saturating_sub(policy.kept_memory),
            least_slice: policy.least_slice,
        })
    }
}

/// A part of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The device's number on the server.
    pub ordinal: u32,
    /// The device.
    pub uuid: [u8; 16],
    /// Its name.
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Part of the compute time under contention.
    pub compute: Compute,
    /// Bytes of the whole device, as its driver reports them.
    pub device_memory: u64,
}

impl From<&Slice> for control_plane::Slice {
    fn from(slice: &Slice) -> Self {
        Self {
            ordinal: slice.ordinal,
            uuid: slice.uuid.to_vec(),
            name: slice.name.clone(),
            memory: slice.memory,
            compute: slice.compute.fraction(),
            device_memory: slice.device_memory,
        }
    }
}
