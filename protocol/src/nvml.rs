//! What both sides of NVML share: the server's monitor asks the driver's library, the client's library answers the program.
//!
//! What: one table of the functions of the form `nvmlReturn_t name(nvmlDevice_t, unsigned int *)` and the [`Reading`] that each gives, and
//! the few codes that both need. Why here: the monitor makes calls of it, the client's library exports, the tests names. Rule: the
//! consumers get the whole table, so a row that one of them cannot use does not compile.
//!
//! [`Reading`]: crate::hello::Reading

/// `nvmlReturn_t`.
pub type Return = u32;

/// `NVML_SUCCESS`.
pub const SUCCESS: Return = 0;

/// `NVML_ERROR_INSUFFICIENT_SIZE`.
pub const INSUFFICIENT_SIZE: Return = 7;

/// `NVML_NVLINK_MAX_LINKS`: no device has more.
pub const MAX_NVLINKS: usize = 36;

/// `NVML_NVLINK_CAP_COUNT`: kinds of abilities of a link.
pub const NVLINK_CAPABILITIES: u32 = 6;

/// The bit of `NVML_NVLINK_CAP_P2P_SUPPORTED`, of `NVML_NVLINK_CAP_P2P_ATOMICS` and of `NVML_NVLINK_CAP_VALID`: what is at the other end is reached.
pub const NVLINK_REACHES_PEERS: u32 = 1 << 0 | 1 << 2 | 1 << 5;

/// `NVML_NVLINK_DEVICE_TYPE_GPU`.
pub const NVLINK_TO_GPU: u32 = 0;

/// Kinds of clocks (`nvmlClockType_t`, by number) and what each reads: now, at most.
pub const CLOCKS: [(crate::hello::Reading, crate::hello::Reading); 4] = {
    use crate::hello::Reading::{
        ClockGraphics, ClockMemory, ClockSm, ClockVideo, MaxClockGraphics, MaxClockMemory,
        MaxClockSm, MaxClockVideo,
    };
    [
        (ClockGraphics, MaxClockGraphics),
        (ClockSm, MaxClockSm),
        (ClockMemory, MaxClockMemory),
        (ClockVideo, MaxClockVideo),
    ]
};

/// Counts of memory errors: `nvmlMemoryErrorType_t`, `nvmlEccCounterType_t`, and what that reads.
pub const ECC_COUNTERS: [(u32, u32, crate::hello::Reading); 4] = {
    use crate::hello::Reading::{
        EccCorrectedAggregate, EccCorrectedVolatile, EccUncorrectedAggregate,
        EccUncorrectedVolatile,
    };
    [
        (0, 0, EccCorrectedVolatile),
        (1, 0, EccUncorrectedVolatile),
        (0, 1, EccCorrectedAggregate),
        (1, 1, EccUncorrectedAggregate),
    ]
};

/// Hands the table of functions that give one number to the macro `$consumer`, as rows `name => Reading,`.
#[macro_export]
macro_rules! for_each_nvml_number {
    ($consumer:ident) => {
        $consumer! {
            nvmlDeviceGetPowerUsage => PowerUsage,
            nvmlDeviceGetPowerManagementLimit => PowerManagementLimit,
            nvmlDeviceGetEnforcedPowerLimit => EnforcedPowerLimit,
            nvmlDeviceGetFanSpeed => FanSpeed,
            nvmlDeviceGetPerformanceState => PerformanceState,
            nvmlDeviceGetPersistenceMode => PersistenceMode,
            nvmlDeviceGetComputeMode => ComputeMode,
            nvmlDeviceGetDisplayActive => DisplayActive,
            nvmlDeviceGetDisplayMode => DisplayMode,
            nvmlDeviceGetCurrPcieLinkGeneration => PcieGeneration,
            nvmlDeviceGetCurrPcieLinkWidth => PcieWidth,
            nvmlDeviceGetMaxPcieLinkGeneration => MaxPcieGeneration,
            nvmlDeviceGetMaxPcieLinkWidth => MaxPcieWidth,
            nvmlDeviceGetBrand => Brand,
            nvmlDeviceGetArchitecture => Architecture,
            nvmlDeviceGetBoardId => Board,
            nvmlDeviceGetMemoryBusWidth => MemoryBusWidth,
            nvmlDeviceGetNumGpuCores => Cores,
        }
    };
}

/// Hands the table of functions that give two numbers to the macro `$consumer`, as rows `name => First, Second;`: of the form
/// `nvmlReturn_t name(nvmlDevice_t, unsigned int *, unsigned int *)`.
#[macro_export]
macro_rules! for_each_nvml_pair {
    ($consumer:ident) => {
        $consumer! {
            nvmlDeviceGetEncoderUtilization => EncoderUtilization, EncoderPeriod;
            nvmlDeviceGetDecoderUtilization => DecoderUtilization, DecoderPeriod;
            nvmlDeviceGetMigMode => MigMode, PendingMigMode;
            nvmlDeviceGetEccMode => EccMode, PendingEccMode;
        }
    };
}
