//! The rows of a dump's tables, as `cudacoredump.h` of NVIDIA's debugger describes them (drivers since 575), and the numbers in them.
//!
//! *Rule:* a row is its header's, field by field; what this device has not is zero.

use zerocopy::{Immutable, IntoBytes};

use crate::exec::FaultKind;

/// The first type of a section that is the processor's own: `SHT_LOUSER`.
const OWN: u32 = 0x8000_0000;

/// The types of sections.
pub(super) mod kind {
    use super::OWN;

    pub(crate) const BYTES: u32 = 1;
    pub(crate) const STRINGS: u32 = 3;
    pub(crate) const MANAGED_MEMORY: u32 = OWN + 1;
    pub(crate) const GLOBAL_MEMORY: u32 = OWN + 2;
    pub(crate) const LOCAL_MEMORY: u32 = OWN + 3;
    pub(crate) const SHARED_MEMORY: u32 = OWN + 4;
    pub(crate) const DEVICES: u32 = OWN + 9;
    pub(crate) const CONTEXTS: u32 = OWN + 10;
    pub(crate) const MULTIPROCESSORS: u32 = OWN + 11;
    pub(crate) const GRIDS: u32 = OWN + 12;
    pub(crate) const BLOCKS: u32 = OWN + 13;
    pub(crate) const WARPS: u32 = OWN + 14;
    pub(crate) const LANES: u32 = OWN + 15;
    pub(crate) const MODULES: u32 = OWN + 16;
    pub(crate) const PARAMETERS: u32 = OWN + 18;
    pub(crate) const META: u32 = OWN + 22;
}

/// `CUDBG_KNL_TYPE_APPLICATION`.
pub(super) const APPLICATION: u32 = 2;
/// `CUDBG_GRID_STATUS_ACTIVE`.
pub(super) const ACTIVE: u32 = 2;

/// `CUDBG_EXCEPTION_*` of what a kernel has done.
pub(super) fn exception(kind: FaultKind) -> u32 {
    match kind {
        FaultKind::IllegalAddress => 14,
        FaultKind::Misaligned => 6,
        FaultKind::IllegalInstruction => 4,
        FaultKind::Assert => 12,
        FaultKind::InvalidPc => 8,
        FaultKind::StackOverflow => 2,
        // UNKNOWN: for these there is none.
        FaultKind::Trap | FaultKind::LaunchTimeout | FaultKind::Deadlock | FaultKind::Cancelled => {
            u32::MAX
        }
    }
}

macro_rules! row {
    ($(#[$doc:meta])* $name:ident, $bytes:literal: $($field:ident: $type:ty,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
        #[repr(C)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes);
    };
}

row! {
    /// What made the dump.
    Meta, 32:
    generator: u64,
    driver_major: u32,
    driver_minor: u32,
    cuda_major: u32,
    cuda_minor: u32,
    flags: u32,
    timestamp: u32,
}

row! {
    /// A device.
    Device, 88:
    name: u64,
    kind: u64,
    architecture: u64,
    id: u32,
    pci_bus: u32,
    pci_device: u32,
    multiprocessors: u32,
    warps: u32,
    lanes: u32,
    registers: u32,
    predicates: u32,
    major: u32,
    minor: u32,
    instruction_bytes: u32,
    status: u32,
    uniform_registers: u32,
    uniform_predicates: u32,
    convergence_barriers: u32,
    padding: u32,
}

row! {
    /// A context.
    Context, 40:
    id: u64,
    shared_window: u64,
    local_window: u64,
    global_window: u64,
    device: u32,
    thread: u32,
}

row! {
    /// A module.
    Module, 8:
    handle: u64,
}

row! {
    /// A grid.
    Grid, 136:
    id: u64,
    context: u64,
    function: u64,
    function_entry: u64,
    module: u64,
    parent: u64,
    parameters_offset: u64,
    kernel_type: u32,
    origin: u32,
    status: u32,
    registers: u32,
    grid: [u32; 3],
    block: [u32; 3],
    is_blocking: u32,
    thread: u32,
    cluster: [u32; 3],
    padding: u32,
    preferred_cluster: [u32; 3],
    padding_of_preferred: u32,
}

row! {
    /// A multiprocessor.
    Multiprocessor, 40:
    id: u32,
    padding: u32,
    exception: u32,
    error_is_known: u32,
    error: u64,
    target_is_known: u32,
    target: [u32; 3],
}

row! {
    /// A block.
    Block, 56:
    grid: u64,
    index: [u32; 3],
    padding: u32,
    cluster: [u32; 3],
    padding_of_cluster: u32,
    cluster_size: [u32; 3],
    padding_of_size: u32,
}

row! {
    /// A warp.
    Warp, 64:
    error: u64,
    id: u32,
    valid: u32,
    active: u32,
    is_broken: u32,
    error_is_known: u32,
    padding: u32,
    registers: u32,
    padding_of_registers: u32,
    shared_bytes: u32,
    padding_of_shared: u32,
    in_system_call: u32,
    convergence_active: u32,
    convergence_exited: u32,
    convergence_collective: u32,
}

row! {
    /// A thread.
    Lane, 56:
    virtual_pc: u64,
    physical_pc: u64,
    lane: u32,
    thread: [u32; 3],
    exception: u32,
    call_depth: u32,
    system_call_depth: u32,
    condition_codes: u32,
    state: u32,
    padding: u32,
}
