//! A device's memory: all of it that CUDA shows this program, and how much of that is free.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use protocol::hello::{DeviceSnapshot, DeviceUsage};

use crate::answer::{get, guarded, put};
use crate::layout::{
    ARGUMENT_VERSION_MISMATCH, Memory, MemoryV2, NOT_SUPPORTED, Return, version_of,
};
use crate::state::with_usage;

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetMemoryInfo(device: usize, memory: *mut Memory) -> Return {
    guarded(|| put(memory, with_usage(device, of)?))
}

/// What the driver keeps for itself is not in the total that CUDA shows, so none of it is reserved.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: usize,
    memory: *mut MemoryV2,
) -> Return {
    guarded(|| {
        let version = get(memory.cast_const().cast())?;
        if version != version_of::<MemoryV2>(2) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let Memory { total, free, used } = with_usage(device, of)?;
        put(
            memory,
            MemoryV2 {
                version,
                total,
                reserved: 0,
                free,
                used,
            },
        )
    })
}

fn of(device: &DeviceSnapshot, usage: &DeviceUsage) -> Result<Memory, Return> {
    let total = device.usable_memory;
    let free = usage.free_memory.ok_or(NOT_SUPPORTED)?.min(total);
    Ok(Memory {
        total,
        free,
        used: total - free,
    })
}
