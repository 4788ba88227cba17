//! How a driver's devices are used, watched by a process of its own.
//!
//! What: `gpu-server monitor --driver PATH` reads from its standard input which devices to watch, and then answers every byte that comes
//! with one [`UsageReport`] on its standard output. Why a process: as for a probe, a management library can block or crash, and the daemon
//! must not. Rules: it makes no context and initialises no CUDA; it ends with its input; a value that the device or the library does
//! not have is left out, never invented.
//!
//! ```text
//! libnvidia-ml.so.1 beside the driver ──nvml──┐
//! the software GPU's shared segment ────soft──┴─▶ UsageReport
//! ```

mod nvml;
mod soft;

use std::io::{self, Read, Write};
use std::path::Path;

use protocol::hello::{self, DeviceKind, DeviceSnapshot, ProbeReport, UsageReport};

use nvml::Nvml;
use soft::SoftGpu;

/// The byte that asks for a report.
pub const ASK: u8 = b'?';

/// Where usage is read.
enum Source {
    Nvml(Nvml),
    Soft(SoftGpu),
    /// The driver has no library that tells; said once, at the start.
    None,
}

impl Source {
    fn find(driver: &Path, kind: DeviceKind) -> Self {
        let soft = || SoftGpu::load(driver).map(Self::Soft);
        let found = match kind {
            DeviceKind::Software => soft(),
            // A driver that was named by its path may be the software GPU all the same.
            DeviceKind::Nvidia | DeviceKind::Unspecified => Nvml::load(driver)
                .map(Self::Nvml)
                .or_else(|failure| soft().map_err(|_| failure)),
        };
        found.unwrap_or_else(|failure| {
            tracing::warn!("the devices' usage is not known: {failure}");
            Self::None
        })
    }

    fn report(&self, devices: &[DeviceSnapshot]) -> UsageReport {
        match self {
            Self::Nvml(nvml) => nvml.report(devices),
            Self::Soft(soft) => soft.report(devices),
            Self::None => UsageReport::default(),
        }
    }
}

/// The monitor process: answers until its input ends.
///
/// # Errors
/// The devices cannot be read, or a report cannot be written.
pub fn main(driver: &Path, kind: DeviceKind) -> Result<(), hello::HelloError> {
    // Whatever a library prints must not mix with the reports.
    let output = rustix::io::dup(rustix::stdio::stdout()).map_err(io::Error::from)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).map_err(io::Error::from)?;
    let mut output = std::fs::File::from(output);
    let mut input = io::stdin().lock();
    let watched: ProbeReport = hello::read(&mut input)?;
    let source = Source::find(driver, kind);
    let mut asked = [0];
    while input.read(&mut asked)? > 0 {
        output.write_all(&hello::encode(&source.report(&watched.devices))?)?;
    }
    Ok(())
}
