//! NVML's codes and structures, as nvml.h lays them out.
//!
//! *Rule:* sizes and offsets are asserted here, and compared with those of `nvidia-ml-py` by `tests/tests/nvml.rs`. A structure with a version
//! carries its size and its number in it; another one is `NVML_ERROR_ARGUMENT_VERSION_MISMATCH`.

use core::ffi::{c_char, c_uint};
use core::mem::offset_of;

pub(crate) use protocol::nvml::{INSUFFICIENT_SIZE, Return, SUCCESS};

pub(crate) const UNINITIALIZED: Return = 1;
pub(crate) const INVALID_ARGUMENT: Return = 2;
pub(crate) const NOT_SUPPORTED: Return = 3;
pub(crate) const NOT_FOUND: Return = 6;
pub(crate) const DRIVER_NOT_LOADED: Return = 9;
pub(crate) const TIMEOUT: Return = 10;
pub(crate) const GPU_IS_LOST: Return = 15;
pub(crate) const ARGUMENT_VERSION_MISMATCH: Return = 25;
pub(crate) const UNKNOWN: Return = 999;

/// What stands for "not available" where a number is told.
pub(crate) const NO_NUMBER: c_uint = c_uint::MAX;
/// What stands for "not available" where a number of bytes is told.
pub(crate) const NO_BYTES: u64 = u64::MAX;

/// The version word of a structure.
pub(crate) const fn version_of<T>(number: c_uint) -> c_uint {
    size_of::<T>() as c_uint | number << 24
}

/// `nvmlMemory_t`.
#[repr(C)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}
const _: () = assert!(size_of::<Memory>() == 24);

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub(crate) struct MemoryV2 {
    pub(crate) version: c_uint,
    pub(crate) total: u64,
    pub(crate) reserved: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}
const _: () = assert!(size_of::<MemoryV2>() == 40 && offset_of!(MemoryV2, total) == 8);
const _: () = assert!(version_of::<MemoryV2>(2) == 0x0200_0028);

/// `nvmlUtilization_t`.
#[repr(C)]
pub(crate) struct Utilization {
    pub(crate) gpu: c_uint,
    pub(crate) memory: c_uint,
}
const _: () = assert!(size_of::<Utilization>() == 8);

/// `nvmlTemperature_v1_t`.
#[repr(C)]
pub(crate) struct TemperatureV1 {
    pub(crate) version: c_uint,
    pub(crate) sensor: c_uint,
    pub(crate) temperature: i32,
}
const _: () = assert!(version_of::<TemperatureV1>(1) == 0x0100_000C);

/// `nvmlProcessInfo_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessInfoV1 {
    pub(crate) process: c_uint,
    pub(crate) used_memory: u64,
}
const _: () = assert!(size_of::<ProcessInfoV1>() == 16);

/// `nvmlProcessInfo_v2_t`, which is also that of the functions `_v3`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessInfoV2 {
    pub(crate) process: c_uint,
    pub(crate) used_memory: u64,
    pub(crate) gpu_instance: c_uint,
    pub(crate) compute_instance: c_uint,
}
const _: () =
    assert!(size_of::<ProcessInfoV2>() == 24 && offset_of!(ProcessInfoV2, gpu_instance) == 16);

/// What `nvmlDeviceGetPciInfo` fills of its structure in every release.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PciInfoV1 {
    /// `0000:01:00.0`
    pub(crate) bus_id: [c_char; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) device_id: c_uint,
}
const _: () = assert!(size_of::<PciInfoV1>() == 32);

/// What `nvmlDeviceGetPciInfo_v2` fills; the words after it are NVIDIA's own.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PciInfoV2 {
    pub(crate) first: PciInfoV1,
    pub(crate) subsystem_id: c_uint,
}
const _: () = assert!(size_of::<PciInfoV2>() == 36);

/// `nvmlPciInfo_t` of `nvmlDeviceGetPciInfo_v3`.
#[repr(C)]
pub(crate) struct PciInfoV3 {
    pub(crate) second: PciInfoV2,
    /// `00000000:01:00.0`
    pub(crate) bus_id: [c_char; 32],
}
const _: () = assert!(size_of::<PciInfoV3>() == 68 && offset_of!(PciInfoV3, bus_id) == 36);

/// `nvmlGpuFabricInfo_v2_t`: only its size matters, no device here is in a fabric.
#[repr(C)]
pub(crate) struct FabricInfoV2([c_uint; 9]);
const _: () = assert!(version_of::<FabricInfoV2>(2) == 0x0200_0024);

/// `nvmlGpuFabricInfo_v3_t`.
#[repr(C)]
pub(crate) struct FabricInfoV3([c_uint; 10]);
const _: () = assert!(version_of::<FabricInfoV3>(3) == 0x0300_0028);

/// `nvmlFieldValue_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FieldValue {
    pub(crate) field: c_uint,
    pub(crate) scope: c_uint,
    pub(crate) timestamp: i64,
    pub(crate) latency_us: i64,
    pub(crate) value_type: c_uint,
    pub(crate) result: Return,
    pub(crate) value: u64,
}
const _: () = assert!(size_of::<FieldValue>() == 40 && offset_of!(FieldValue, result) == 28);
