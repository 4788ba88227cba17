//! How the software GPU tells who does not use it how it is used.
//!
//! *What:* one function beside the driver's own, [`SYMBOL`] of type [`Function`], and the structure that it fills. *Why here:* the software GPU's
//! library exports it, a server's monitor calls it, and neither knows the other's sources. *Rules:* the structure says its own size, so
//! either side notices another release; the function looks at the shared segment only, takes no place in it, and is for processes that
//! do not use the device themselves.

use crate::abi::CUresult;

/// The function's name.
pub const SYMBOL: &str = "gpurun_soft_gpu_usage";

/// A device attribute of its own: operations that a stream takes before the call that brings one more blocks.
pub const QUEUE_DEPTH_ATTRIBUTE: u32 = 0x6770_0001;

/// A device attribute of its own: MiB of the device that this process has taken.
pub const TAKEN_MIB_ATTRIBUTE: u32 = 0x6770_0002;

/// The variable that names the shared segment, that is: which device this is.
pub const SEGMENT_VARIABLE: &str = "GPURUN_SOFT_SEGMENT";

/// Where segments are.
pub const SEGMENT_FOLDER: &str = "/dev/shm";

/// The name of a segment as it is written in [`SEGMENT_VARIABLE`]; none if it is no plain file name.
#[must_use]
pub fn segment_name(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (text.len() <= 200 && text.chars().all(is_plain) && !text.starts_with('.'))
        .then(|| text.to_owned())
}

/// The segment of a user who names none.
#[must_use]
pub fn segment_of_user(user: u32) -> String {
    format!("gpurun-soft-gpu-{user}")
}

/// `device` by number; `usage` is a place for a [`Usage`] whose `size` is set.
pub type Function = unsafe extern "C" fn(device: u32, usage: *mut Usage) -> CUresult;

/// The most processes that can use one device at a time.
pub const MAX_PROCESSES: usize = 512;

/// How a device is used.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Usage {
    /// Bytes of this structure.
    pub size: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of them that are taken.
    pub used_bytes: u64,
    /// Percent of the last second in which kernels ran.
    pub busy_percent: u32,
    /// How many of `processes` are filled.
    pub process_count: u32,
    /// Who uses the device.
    pub processes: [ProcessUsage; MAX_PROCESSES],
}

/// What one process has of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ProcessUsage {
    /// Its process id, as it knows itself.
    pub process: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes that it has taken.
    pub used_bytes: u64,
}

const _: () = assert!(size_of::<Usage>() == 32 + 16 * MAX_PROCESSES);

impl Usage {
    /// An empty one, its size set.
    pub const EMPTY: Self = Self {
        size: size_of::<Self>() as u64,
        memory_bytes: 0,
        used_bytes: 0,
        busy_percent: 0,
        process_count: 0,
        processes: [ProcessUsage {
            process: 0,
            reserved: 0,
            used_bytes: 0,
        }; MAX_PROCESSES],
    };

    /// Who uses the device.
    #[must_use]
    pub fn processes(&self) -> &[ProcessUsage] {
        let count = (self.process_count as usize).min(MAX_PROCESSES);
        &self.processes[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_plain_file_names() {
        assert_eq!(segment_name("test-1"), Some("test-1".to_owned()));
        assert_eq!((segment_name("../x"), segment_name(".x")), (None, None));
        assert_eq!(segment_of_user(7), "gpurun-soft-gpu-7");
    }
}
