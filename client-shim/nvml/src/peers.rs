//! What a device can do with another one's memory: what the server's driver says in CUDA, in NVML's words.
//!
//! NCCL asks it of every pair of devices, each with itself too, before it does anything; it does not look whether the library has the function.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::c_uint;

use protocol::hello::DeviceSnapshot;

use crate::answer::{guarded, put};
use crate::layout::{INVALID_ARGUMENT, Return};
use crate::state;

/// `nvmlGpuP2PCapsIndex_t`.
mod index {
    pub(super) const READ: u32 = 0;
    pub(super) const WRITE: u32 = 1;
    pub(super) const NVLINK: u32 = 2;
    pub(super) const ATOMICS: u32 = 3;
    pub(super) const PCI: u32 = 4;
}

/// `nvmlGpuP2PStatus_t`.
mod status {
    pub(super) const OK: u32 = 0;
    pub(super) const NOT_SUPPORTED: u32 = 5;
    pub(super) const UNKNOWN: u32 = 6;
}

/// Whether a device can reach another one in a way. A device reaches itself.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetP2PStatus(
    device: usize,
    other: usize,
    way: c_uint,
    status: *mut c_uint,
) -> Return {
    guarded(|| {
        let ((_, device), (_, other)) = (state::device(device)?, state::device(other)?);
        put(status, status_of(device, other, way)?)
    })
}

fn status_of(device: &DeviceSnapshot, other: &DeviceSnapshot, way: u32) -> Result<u32, Return> {
    let peers = match way {
        index::READ | index::WRITE | index::PCI => device.reachable_peers,
        index::ATOMICS => device.atomic_peers,
        // CUDA does not tell by what a device reaches another; its links do.
        index::NVLINK => return Ok(status::UNKNOWN),
        _ => return Err(INVALID_ARGUMENT),
    };
    if device.ordinal == other.ordinal {
        return Ok(status::OK);
    }
    Ok(match peers {
        Some(peers)
            if peers
                .checked_shr(other.ordinal)
                .is_some_and(|peers| peers & 1 == 1) =>
        {
            status::OK
        }
        Some(_) => status::NOT_SUPPORTED,
        None => status::UNKNOWN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_told_as_the_driver_has_it() {
        let device = |ordinal: u32| DeviceSnapshot {
            ordinal,
            reachable_peers: Some(0b1010),
            atomic_peers: Some(0b1000),
            ..DeviceSnapshot::default()
        };
        let ask = |other: u32, way| status_of(&device(0), &device(other), way);
        for way in [index::READ, index::WRITE, index::PCI] {
            assert_eq!(ask(0, way), Ok(status::OK), "itself");
            assert_eq!(ask(1, way), Ok(status::OK));
            assert_eq!(ask(2, way), Ok(status::NOT_SUPPORTED));
            assert_eq!(ask(64, way), Ok(status::NOT_SUPPORTED), "no such device");
        }
        assert_eq!(ask(1, index::ATOMICS), Ok(status::NOT_SUPPORTED));
        assert_eq!(ask(3, index::ATOMICS), Ok(status::OK));
        assert_eq!(ask(3, index::NVLINK), Ok(status::UNKNOWN));
        assert_eq!(ask(3, 5), Err(INVALID_ARGUMENT));
        let older = DeviceSnapshot::default();
        assert_eq!(
            status_of(&older, &device(1), index::READ),
            Ok(status::UNKNOWN),
            "a server that never told"
        );
    }
}
