//! Which driver the daemon serves: NVIDIA's where it has a device, else the software GPU, as the settings allow.

use std::path::{Path, PathBuf};

use protocol::config::DeviceChoice;
use protocol::hello::{DeviceKind, ProbeReport};

use crate::config::Config;
use crate::ledger::measure;
use crate::probe;

/// Where NVIDIA's driver usually is, in order: Debian, Red Hat, containers, the Windows subsystem, Debian on Arm.
const NVIDIA_PATHS: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib64/libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/usr/lib/aarch64-linux-gnu/libcuda.so.1",
];

/// Where the software GPU is, from our executable's directory: built, then installed.
const SOFTWARE_PATHS: &[&str] = &[
    "libsoft_gpu.so",
    "soft/libcuda.so.1",
    "../lib/gpurun/soft/libcuda.so.1",
    "../lib/gpurun/libsoft_gpu.so",
];

/// The chosen driver and what it has.
#[derive(Debug, Clone)]
pub(super) struct Devices {
    /// The library, by absolute path.
    pub(super) driver: PathBuf,
    /// What its devices are made of.
    pub(super) kind: DeviceKind,
    /// Its version and devices, edited.
    pub(super) report: ProbeReport,
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// Nothing that the settings allow has one. The lines say what was tried.
    #[error("no device to serve:{}", lines(.0))]
    None(Vec<(PathBuf, String)>),
}

fn lines(tried: &[(PathBuf, String)]) -> String {
    tried
        .iter()
        .map(|(path, failure)| format!("\n  {}: {failure}", path.display()))
        .collect()
}

/// What to try, in order.
fn candidates(config: &Config, executable_directory: &Path) -> Vec<(PathBuf, DeviceKind)> {
    if let Some(driver) = &config.driver {
        let kind = match config.device {
            DeviceChoice::Soft => DeviceKind::Software,
            DeviceChoice::Auto | DeviceChoice::Gpu => DeviceKind::Nvidia,
        };
        return vec![(driver.clone(), kind)];
    }
    let nvidia = NVIDIA_PATHS
        .iter()
        .map(|path| (PathBuf::from(path), DeviceKind::Nvidia));
    let software = SOFTWARE_PATHS
        .iter()
        .map(|path| (executable_directory.join(path), DeviceKind::Software));
    match config.device {
        DeviceChoice::Auto => nvidia.chain(software).collect(),
        DeviceChoice::Gpu => nvidia.collect(),
        DeviceChoice::Soft => software.collect(),
    }
}

/// Finds the first driver with a device.
///
/// # Errors
/// None of what the settings allow has one.
pub(super) fn find(config: &Config) -> Result<Devices, DevicesError> {
    let directory = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_default();
    let mut tried = Vec::new();
    for (driver, kind) in candidates(config, &directory) {
        match look(&driver) {
            Ok(mut report) => {
                if kind == DeviceKind::Nvidia && !config.is_private {
                    measure_contexts(&driver, &mut report);
                }
                let count = report.devices.len();
                let driver_version = report.driver_version;
                tracing::info!(driver = %driver.display(), driver_version, devices = count, kind = name(kind), "serving");
                for device in &report.devices {
                    tracing::info!(
                        ordinal = device.ordinal,
                        memory = device.total_memory,
                        "{}",
                        device.name
                    );
                }
                return Ok(Devices {
                    driver,
                    kind,
                    report,
                });
            }
            Err(failure) => {
                tracing::debug!(driver = %driver.display(), "{failure}");
                tried.push((driver, failure));
            }
        }
    }
    Err(DevicesError::None(tried))
}

/// Notes what a context takes of each device, which is measured once for each kind of card: a second or two at the start.
fn measure_contexts(driver: &Path, report: &mut ProbeReport) {
    let mut known: Vec<(String, u64)> = Vec::new();
    for device in &mut report.devices {
        let like = known.iter().find(|(name, _)| *name == device.name);
        let bytes = match like {
            Some((_, bytes)) => *bytes,
            None => {
                let program = || std::process::Command::new("/proc/self/exe");
                match measure::context_bytes(program, driver, device.ordinal) {
                    Ok(bytes) => {
                        tracing::info!(bytes, "a context takes of a {}", device.name);
                        known.push((device.name.clone(), bytes));
                        bytes
                    }
                    Err(error) => {
                        tracing::warn!(device = device.ordinal, "{error}; a margin is assumed");
                        0
                    }
                }
            }
        };
        device.context_memory = bytes;
    }
}

fn look(driver: &Path) -> Result<ProbeReport, String> {
    if !driver.exists() {
        return Err("not there".to_owned());
    }
    let report = probe::run(driver).map_err(|error| error.to_string())?;
    if !report.failure.is_empty() {
        return Err(report.failure);
    }
    if report.devices.is_empty() {
        return Err("this driver has no device".to_owned());
    }
    Ok(report)
}

/// A kind as it is written on a worker's command line.
pub(super) const fn name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Software => "soft",
        DeviceKind::Nvidia | DeviceKind::Unspecified => "nvidia",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};

    fn order(device: &str, driver: Option<&str>) -> Vec<(PathBuf, DeviceKind)> {
        let flags = Flags {
            device: Some(device.to_owned()),
            driver: driver.map(PathBuf::from),
            ..Flags::default()
        };
        candidates(&load(&flags).expect("a config"), Path::new("/opt/bin"))
    }

    #[test]
    fn the_gpu_comes_before_the_software_gpu() {
        let auto = order("auto", None);
        assert_eq!(auto[0].1, DeviceKind::Nvidia);
        let soft = PathBuf::from("/opt/bin/libsoft_gpu.so");
        assert!(auto.contains(&(soft.clone(), DeviceKind::Software)));
        assert!(
            order("gpu", None)
                .iter()
                .all(|(_, kind)| *kind == DeviceKind::Nvidia)
        );
        assert_eq!(order("soft", None)[0], (soft, DeviceKind::Software));
    }

    #[test]
    fn a_named_driver_is_the_only_one() {
        let named = PathBuf::from("/d");
        assert_eq!(
            order("auto", Some("/d")),
            [(named.clone(), DeviceKind::Nvidia)]
        );
        assert_eq!(order("soft", Some("/d")), [(named, DeviceKind::Software)]);
    }

    #[test]
    fn what_was_tried_is_told() {
        let error = DevicesError::None(vec![("/d".into(), "not there".to_owned())]);
        assert_eq!(error.to_string(), "no device to serve:\n  /d: not there");
    }
}
