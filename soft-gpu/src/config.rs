//! What the environment says about the device: read once, when the driver is initialised, and its version when that is first asked for.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `GPURUN_SOFT_GPUS` | number of devices | 1 |
//! | `CUDA_VISIBLE_DEVICES` | which of them, and in which order: see [`visible`] | all |
//! | `GPURUN_SOFT_MEMORY` | memory of each, in bytes or with `KiB`, `MiB`, `GiB` | 4 GiB |
//! | `GPURUN_SOFT_THREADS` | cores that execute kernels, and the number of multiprocessors | all |
//! | `GPURUN_SOFT_DRIVER` | version of CUDA that the driver says it serves, 11.0 to 13.5 | 13.5 |
//! | `GPURUN_SOFT_CC` | compute capability: 7.0, 7.5, 8.0 or 9.0 | 8.0 |
//! | `GPURUN_SOFT_WATCHDOG` | warp operations after which a kernel is ended (error 702) | none |
//! | `GPURUN_SOFT_SEGMENT` | name of the shared segment, that is: which device this is | one per user |
//! | `GPURUN_SOFT_DECODE` | `all`: every kernel of a module when it is loaded, and the log says how many can be executed | when first needed |
//! | `GPURUN_SOFT_HOSTILE` | see [`crate::hostile`] | none |

use std::sync::OnceLock;

use driver_api::image::ComputeCapability;
use driver_api::soft_usage::{SEGMENT_VARIABLE, segment_name, segment_of_user};

use crate::hostile::Hostile;
use crate::log::warn;

/// The most devices that one segment describes.
pub(crate) const MAX_DEVICES: usize = 16;
/// The most threads that may be asked for.
const MAX_THREADS: usize = 1024;
/// A device smaller than this could not even hold a context.
const LEAST_MEMORY_BYTES: u64 = 16 << 20;
/// What the functions of the table go back to, and up to.
const OLDEST_DRIVER_VERSION: u32 = 11000;
const NEWEST_DRIVER_VERSION: u32 = 13050;
const DEFAULT_MEMORY_BYTES: u64 = 4 << 30;

/// The device as configured.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The numbers of the devices that this process sees; its ordinals are places in here.
    pub(crate) visible: Vec<usize>,
    /// Memory of each device.
    pub(crate) memory_bytes: u64,
    pub(crate) threads: usize,
    pub(crate) capability: ComputeCapability,
    /// Warp operations of one launch.
    pub(crate) operation_budget: Option<u64>,
    /// Whether a module's kernels are decoded when it is loaded.
    pub(crate) decodes_all: bool,
    /// File name inside `/dev/shm`.
    pub(crate) segment: String,
    pub(crate) hostile: Hostile,
}

/// The version of CUDA that the driver says it serves, as `cuDriverGetVersion` has it.
///
/// Programs choose by it: what a toolkit newer than the driver compiles is handed over as machine code, which only that toolkit's own assembler makes, and
/// as PTX otherwise (NVIDIA's Warp does so). So it is the newest there is, unless a program is to meet an older driver.
pub(crate) fn driver_version() -> u32 {
    static VERSION: OnceLock<u32> = OnceLock::new();
    *VERSION.get_or_init(|| setting("GPURUN_SOFT_DRIVER", version).unwrap_or(NEWEST_DRIVER_VERSION))
}

impl Config {
    /// Reads the environment; what cannot be understood is logged and its default taken.
    pub(crate) fn from_environment() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let number = |text: &str| text.parse::<usize>().ok();
        let devices = setting("GPURUN_SOFT_GPUS", number)
            .unwrap_or(1)
            .clamp(1, MAX_DEVICES);
        Self {
            visible: match std::env::var("CUDA_VISIBLE_DEVICES") {
                Ok(text) => visible(&text, devices),
                Err(_) => (0..devices).collect(),
            },
            memory_bytes: setting("GPURUN_SOFT_MEMORY", bytes)
                .unwrap_or(DEFAULT_MEMORY_BYTES)
                .max(LEAST_MEMORY_BYTES),
            threads: setting("GPURUN_SOFT_THREADS", number)
                .unwrap_or(cores)
                .clamp(1, MAX_THREADS),
            capability: setting("GPURUN_SOFT_CC", capability)
                .unwrap_or(ComputeCapability { major: 8, minor: 0 }),
            operation_budget: setting("GPURUN_SOFT_WATCHDOG", |text| text.parse::<u64>().ok())
                .filter(|&budget| budget > 0),
            decodes_all: setting("GPURUN_SOFT_DECODE", |text| (text == "all").then_some(true))
                .unwrap_or(false),
            segment: setting(SEGMENT_VARIABLE, segment_name)
                .unwrap_or_else(|| segment_of_user(rustix::process::geteuid().as_raw())),
            hostile: setting("GPURUN_SOFT_HOSTILE", Hostile::parse).unwrap_or_default(),
        }
    }
}

impl Config {
    /// How many devices this process sees.
    pub(crate) fn devices(&self) -> usize {
        self.visible.len()
    }
}

/// What `CUDA_VISIBLE_DEVICES` shows of so many devices: numbers or beginnings of UUIDs (`GPU-…`) with commas between. As with NVIDIA's
/// driver, what stands behind the first word that names no device does not count, and a device that is named twice leaves none.
fn visible(text: &str, devices: usize) -> Vec<usize> {
    let find = |word: &str| -> Option<usize> {
        if word.starts_with("GPU-") {
            let mut alike = (0..devices).filter(|&device| uuid_text(device).starts_with(word));
            return alike.next().filter(|_| alike.next().is_none());
        }
        word.parse().ok().filter(|&device| device < devices)
    };
    let found: Vec<usize> = text
        .split(',')
        .map_while(|word| find(word.trim()))
        .collect();
    let is_twice = |(place, device): (usize, &usize)| found[..place].contains(device);
    if found.iter().enumerate().any(is_twice) {
        return Vec::new();
    }
    found
}

/// A device's UUID as NVIDIA's tools write it.
fn uuid_text(device: usize) -> String {
    let bytes = crate::device::uuid_of(device).bytes;
    let mut text = String::from("GPU-");
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn setting<T>(name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let value = parse(text.trim());
    if value.is_none() {
        warn(&format!(
            "{name}={text} is not understood; its default is taken"
        ));
    }
    value
}

/// `512MiB`, `4GiB`, `1073741824`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(scale)
}

/// `12.4` is 12040.
fn version(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.')?;
    let digit = minor.parse::<u32>().ok().filter(|_| minor.len() == 1)?;
    let version = major.parse::<u32>().ok()?.checked_mul(1000)? + digit * 10;
    (OLDEST_DRIVER_VERSION..=NEWEST_DRIVER_VERSION)
        .contains(&version)
        .then_some(version)
}

fn capability(text: &str) -> Option<ComputeCapability> {
    let (major, minor) = match text {
        "7.0" => (7, 0),
        "7.5" => (7, 5),
        "8.0" => (8, 0),
        "9.0" => (9, 0),
        _ => return None,
    };
    Some(ComputeCapability { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("1024"), Some(1024));
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes("4g"), Some(4 << 30));
        assert_eq!(
            (bytes("4 potatoes"), bytes("GiB"), bytes("99999999999GiB")),
            (None, None, None)
        );
    }

    #[test]
    fn versions_are_those_that_the_table_knows() {
        assert_eq!(
            (version("13.5"), version("11.0")),
            (Some(13050), Some(11000))
        );
        for text in ["13.6", "10.2", "13", "12.10", "12.+4", "4294967.0", ""] {
            assert_eq!(version(text), None, "{text}");
        }
        let newest = driver_api::PROCEDURES.iter().map(|it| it.since).max();
        assert_eq!(newest, Some(NEWEST_DRIVER_VERSION));
    }

    #[test]
    fn visible_devices_as_cuda_has_them() {
        let seen = |text: &str| visible(text, 4);
        assert_eq!(seen("2,0"), [2, 0]);
        assert_eq!(seen("1, 3 ,9,0"), [1, 3], "up to the first that is none");
        assert_eq!(seen("0,-1,1"), [0]);
        assert!(seen("").is_empty() && seen("-1").is_empty());
        assert!(seen("1,1").is_empty(), "twice");
        let both = format!("{},{}", uuid_text(3), uuid_text(1));
        assert_eq!(seen(&both), [3, 1]);
        assert!(seen("GPU-").is_empty(), "all of them are alike");
    }
}
