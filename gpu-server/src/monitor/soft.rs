//! The software GPU's usage, from its shared segment.
//!
//! The library itself reads the segment, through the one function that it exports for this ([`driver_api::soft_usage`]); the driver is not
//! initialised. It has no sensors: what is told is memory, the share of time in which kernels ran, that any number of
//! processes may use it at a time, and that each device is linked with every other: they all lie in one memory.
//!
//! # Safety
//! The function is called with the signature that `driver_api::soft_usage` gives it, on a live structure.
#![expect(unsafe_code, reason = "loads a library and calls one function of it")]

use std::collections::BTreeMap;
use std::path::Path;

use driver_api::abi::CUresult;
use driver_api::soft_usage::{Function, SYMBOL, Usage};
use libloading::Library;
use protocol::hello::{
    self, DeviceSnapshot, DeviceUsage, NvLink, PciPlace, ProcessUsage, Reading, UsageReport,
};
use protocol::nvml::{MAX_NVLINKS, NVLINK_REACHES_PEERS, NVLINK_TO_GPU};

/// `NVML_COMPUTEMODE_DEFAULT`: any number of processes.
const COMPUTE_MODE_DEFAULT: u64 = 0;

/// The software GPU's library.
pub(super) struct SoftGpu {
    usage: Function,
    _library: Library,
}

impl SoftGpu {
    pub(super) fn load(driver: &Path) -> Result<Self, String> {
        // SAFETY: this process exists to load the driver that the operator named.
        let library = unsafe { Library::new(driver) }.map_err(|error| error.to_string())?;
        // SAFETY: a function of this name has this type.
        let usage = unsafe { library.get::<Function>(SYMBOL) }.map(|symbol| *symbol);
        Ok(Self {
            usage: usage.map_err(|_| format!("{} has no {SYMBOL}", driver.display()))?,
            _library: library,
        })
    }

    pub(super) fn report(&self, devices: &[DeviceSnapshot]) -> UsageReport {
        UsageReport {
            driver_release: hello::RELEASE.to_owned(),
            devices: devices
                .iter()
                .map(|device| {
                    self.usage(device.ordinal)
                        .map(|usage| DeviceUsage {
                            links: links(device, devices),
                            ..of_device(usage)
                        })
                        .unwrap_or_default()
                })
                .collect(),
        }
    }

    fn usage(&self, ordinal: u32) -> Option<Usage> {
        let mut usage = Usage::EMPTY;
        // SAFETY: the structure is live and says its size.
        let result = unsafe { (self.usage)(ordinal, &mut usage) };
        if result == CUresult::SUCCESS {
            return Some(usage);
        }
        tracing::debug!(ordinal, "{SYMBOL} answers {}", result.0);
        None
    }
}

/// A link from a device to each of the others.
fn links(device: &DeviceSnapshot, devices: &[DeviceSnapshot]) -> Vec<NvLink> {
    let others = devices
        .iter()
        .filter(|other| other.ordinal != device.ordinal);
    let link = |(number, other): (u32, &DeviceSnapshot)| NvLink {
        number,
        active: true,
        version: None,
        capabilities: NVLINK_REACHES_PEERS,
        remote_type: Some(NVLINK_TO_GPU),
        remote: Some(PciPlace {
            domain: other.pci_domain,
            bus: other.pci_bus,
            device: other.pci_device,
            id: 0,
        }),
    };
    (0..).zip(others).take(MAX_NVLINKS).map(link).collect()
}

fn of_device(usage: Usage) -> DeviceUsage {
    let busy = u64::from(usage.busy_percent);
    let readings = [
        (Reading::GpuUtilization, busy),
        // Kernels read and write memory all along.
        (Reading::MemoryUtilization, busy),
        (Reading::ComputeMode, COMPUTE_MODE_DEFAULT),
    ];
    DeviceUsage {
        free_memory: Some(usage.memory_bytes.saturating_sub(usage.used_bytes)),
        readings: BTreeMap::from(readings.map(|(reading, value)| (reading.into(), value))),
        processes: usage
            .processes()
            .iter()
            .map(|process| ProcessUsage {
                process: process.process,
                memory: Some(process.used_bytes),
            })
            .collect(),
        serial: String::new(),
        links: Vec::new(),
    }
}
