//! The device's attributes: an honest table.
//!
//! What the software GPU does not do is reported absent, however small a lie would be: programs choose their ways by it.

use driver_api::image::ComputeCapability;
use driver_api::soft_usage::{QUEUE_DEPTH_ATTRIBUTE, TAKEN_MIB_ATTRIBUTE};

use crate::exec::REGISTERS_PER_MULTIPROCESSOR;
use crate::state::Driver;

/// What bounds a launch, by compute capability.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) threads_per_block: u32,
    pub(crate) threads_per_multiprocessor: u32,
    pub(crate) blocks_per_multiprocessor: u32,
    pub(crate) registers_per_multiprocessor: u32,
    /// Shared memory of a block without asking.
    pub(crate) shared_per_block: u32,
    /// Shared memory of a block whose kernel asks for more.
    pub(crate) shared_per_block_opt_in: u32,
    pub(crate) shared_per_multiprocessor: u32,
    /// What the driver itself takes of each block's.
    pub(crate) shared_reserved_per_block: u32,
}

impl Limits {
    pub(crate) fn of(capability: ComputeCapability) -> Self {
        let (threads, blocks, opt_in, shared, reserved) = match capability.sm() {
            70 => (2048, 32, 96 << 10, 96 << 10, 0),
            75 => (1024, 16, 64 << 10, 64 << 10, 0),
            80 => (2048, 32, 163 << 10, 164 << 10, 1 << 10),
            _ => (2048, 32, 227 << 10, 228 << 10, 1 << 10),
        };
        Self {
            threads_per_block: 1024,
            threads_per_multiprocessor: threads,
            blocks_per_multiprocessor: blocks,
            registers_per_multiprocessor: REGISTERS_PER_MULTIPROCESSOR,
            shared_per_block: 48 << 10,
            shared_per_block_opt_in: opt_in,
            shared_per_multiprocessor: shared,
            shared_reserved_per_block: reserved,
        }
    }
}

/// Attributes up to this number exist in some toolkit; those that are not in the table are absent features.
const LAST_ATTRIBUTE: u32 = 160;

/// A clock of 1 GHz, in kHz: a fixed word for something that has no one clock.
const CLOCK_KHZ: i32 = 1_000_000;

/// The value of `CU_DEVICE_ATTRIBUTE_*`.
pub(super) fn value(driver: &Driver, device: usize, attribute: u32) -> Option<i32> {
    let config = &driver.config;
    let limits = Limits::of(config.capability);
    Some(match attribute {
        // Launches.
        1 => limits.threads_per_block as i32,
        2 | 3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65535,
        8 => limits.shared_per_block as i32,
        9 => 64 << 10,
        10 => 32,
        12 | 82 => limits.registers_per_multiprocessor as i32,
        16 => config.threads as i32,
        39 => limits.threads_per_multiprocessor as i32,
        81 => limits.shared_per_multiprocessor as i32,
        97 => limits.shared_per_block_opt_in as i32,
        106 => limits.blocks_per_multiprocessor as i32,
        111 => limits.shared_reserved_per_block as i32,
        // Memory: largest pitch, alignments, clock, width, L2.
        11 => i32::MAX,
        14 | 30 => 512,
        51 => 32,
        36 => CLOCK_KHZ,
        37 => 64,
        38 => 4 << 20,
        // Textures and surfaces: widths, heights and depths, layers, pitch.
        21 | 22 | 56 | 70 => 128 << 10,
        23 | 57 => 64 << 10,
        24..=26 | 47..=49 | 58..=60 => 16 << 10,
        27 | 28 | 42 | 45 | 46 | 52 | 53 | 55 | 61 | 63 | 64 | 66 | 67 | 73 | 74 | 77 => 32 << 10,
        29 | 43 | 62 | 65 => 2048,
        54 | 68 => 2046,
        69 => 1 << 28,
        71 => 65000,
        72 => 2_097_120,
        // What it is.
        13 => CLOCK_KHZ,
        33 => super::pci_bus(device),
        75 => config.capability.major.into(),
        76 => config.capability.minor.into(),
        87 => 2,
        // What a card writes into memory is there for every device: CU_GPU_DIRECT_RDMA_WRITES_ORDERING_ALL_DEVICES.
        118 => 200,
        126 => 1,
        131 | 134 => -1,
        132 => crate::virtual_memory::multicasts_are_supported(driver).into(),
        // Launches in clusters, tensor maps that kernels use.
        120 | 127 => (config.capability.major >= 9).into(),
        // What it does: overlap, mapped host memory, concurrent kernels, unified addresses, priorities, caches, managed memory, also while
        // kernels run, preemption, registered pointers, stream memory operations, cooperative launches, registration, managed memory without
        // migration, virtual memory, descriptors, memory pools and descriptors of them, events of several processes.
        15 | 19 | 31 | 41 | 78 | 79 | 80 | 83 | 89 | 90 | 91 | 92 | 93 | 94 | 95 | 99 | 101
        | 102 | 103 | 115 | 119 | 122 | 123 | 125 => 1,
        40 => 2,
        QUEUE_DEPTH_ATTRIBUTE => i32::try_from(config.hostile.queue_depth()).unwrap_or(i32::MAX),
        TAKEN_MIB_ATTRIBUTE => {
            i32::try_from(driver.segment.own_bytes(device) >> 20).unwrap_or(i32::MAX)
        }
        // What it does not.
        _ if (1..=LAST_ATTRIBUTE).contains(&attribute) => 0,
        _ => return None,
    })
}
