//! What devices a driver has, found out by a process of its own.
//!
//! What: `gpu-server probe --driver PATH` loads the driver, asks for every device, and writes one
//! [`ProbeReport`] to its standard output; [`run`] starts that and reads it. Why a process: a driver that is
//! initialised cannot be put away, some cannot live on after `fork`, and a broken one crashes. Rules: the report is
//! bounded and timed like a peer's hello; a library that carries our own mark is never initialised.
//!
//! # Safety
//! Symbols are called with the signatures that cuda.h gives them; every pointer passed is to a live local.
#![expect(unsafe_code, reason = "a handful of driver functions")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libloading::Library;
use protocol::hello::{self, DeviceSnapshot, HelloError, ProbeReport};
use protocol::limits::MAX_DEVICES;

use crate::snapshot;

/// Peers are told as bits of a word.
const _: () = assert!(MAX_DEVICES <= u64::BITS as usize);

/// The symbol by which our own client library is known.
pub const SHIM_MARK: &str = "gpurun_shim_mark";

/// Most time for a probe: initialising many idle devices takes seconds each.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a probe has no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The process could not be started or read from.
    #[error("cannot run the probe: {0}")]
    Process(#[from] io::Error),
    /// The process ended otherwise than by reporting.
    #[error("the probe failed ({status}): {source}")]
    Failed {
        /// How it ended.
        status: String,
        /// What was wrong with what it wrote.
        source: HelloError,
    },
    /// The process took too long.
    #[error("the driver did not answer in {} s", PROBE_TIMEOUT.as_secs())]
    TimedOut,
}

/// Probes the driver at this path in a process of its own.
///
/// # Errors
/// The process failed; a driver without devices is a report, not an error.
pub fn run(driver: &Path) -> Result<ProbeReport, ProbeError> {
    let mut child = Command::new("/proc/self/exe")
        .arg("probe")
        .arg("--driver")
        .arg(driver)
        .env_remove("LD_PRELOAD")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().map(OwnedFd::from);
    let report = output.map_or(Err(HelloError::Closed), read_report);
    let status = reap(&mut child, report.is_err())?;
    match report {
        Ok(report) => Ok(report),
        Err(HelloError::TimedOut) => Err(ProbeError::TimedOut),
        Err(source) => Err(ProbeError::Failed { status, source }),
    }
}

fn reap(child: &mut Child, is_hopeless: bool) -> io::Result<String> {
    if is_hopeless {
        // It may have ended by itself: give it a moment, so that its status says why.
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                return Ok(status.to_string());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // A driver may hang when its process exits normally; nothing of it is needed any more.
    child.kill()?;
    Ok(child.wait()?.to_string())
}

/// Reads a report from a pipe, each read bounded by the whole deadline.
fn read_report(pipe: OwnedFd) -> Result<ProbeReport, HelloError> {
    struct Timed {
        pipe: OwnedFd,
        deadline: Instant,
    }
    impl Read for Timed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::TimedOut)?;
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&left)) {
                Ok(0) => Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => Ok(rustix::io::read(&self.pipe, buffer)?),
                Err(error) => Err(error.into()),
            }
        }
    }
    hello::read(&mut Timed {
        pipe,
        deadline: Instant::now() + PROBE_TIMEOUT,
    })
}

/// The probe process: looks at the driver and writes the report.
///
/// # Errors
/// The report could not be written.
pub fn main(driver: &Path) -> Result<(), ProbeError> {
    // Whatever a driver prints must not mix with the report.
    let report_to = rustix::io::dup(rustix::stdio::stdout()).map_err(io::Error::from)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).map_err(io::Error::from)?;
    let report = match look(driver) {
        Ok(report) => report,
        Err(failure) => ProbeReport {
            failure,
            ..ProbeReport::default()
        },
    };
    let bytes = hello::encode(&report).map_err(|source| ProbeError::Failed {
        status: "report".to_owned(),
        source,
    })?;
    let mut report_to = std::fs::File::from(report_to);
    report_to.write_all(&bytes)?;
    Ok(())
}

fn look(driver: &Path) -> Result<ProbeReport, String> {
    // SAFETY: this process exists to run this library's initialisers.
    let library = unsafe { Library::new(driver) }.map_err(|error| error.to_string())?;
    // SAFETY: the symbol is only looked for.
    if unsafe { library.get::<*const ()>(SHIM_MARK) }.is_ok() {
        return Ok(ProbeReport {
            is_shim: true,
            failure: "this library is gpurun's own client, not a driver".to_owned(),
            ..ProbeReport::default()
        });
    }
    let functions = Functions::find(&library)?;
    functions.initialise()?;
    let mut devices = (0..functions.device_count()?)
        .take(MAX_DEVICES)
        .map(|ordinal| functions.device(ordinal))
        .collect::<Result<Vec<_>, _>>()?;
    functions.look_at_peers(&mut devices);
    Ok(ProbeReport {
        driver_version: functions.driver_version()?,
        devices,
        ..ProbeReport::default()
    })
}

type Result32 = u32;

/// The functions that a probe needs.
struct Functions {
    init: unsafe extern "C" fn(c_uint) -> Result32,
    driver_get_version: unsafe extern "C" fn(*mut c_int) -> Result32,
    device_get_count: unsafe extern "C" fn(*mut c_int) -> Result32,
    device_get: unsafe extern "C" fn(*mut c_int, c_int) -> Result32,
    device_get_name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Result32,
    device_get_uuid: unsafe extern "C" fn(*mut [u8; hello::UUID_BYTES], c_int) -> Result32,
    device_total_mem: unsafe extern "C" fn(*mut usize, c_int) -> Result32,
    device_get_attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Result32,
    /// Since CUDA 8.
    device_get_p2p_attribute:
        Option<unsafe extern "C" fn(*mut c_int, c_int, c_int, c_int) -> Result32>,
    has_multicast: bool,
}

fn check(function: &str, result: Result32) -> Result<(), String> {
    match result {
        0 => Ok(()),
        code => Err(format!("{function} failed with CUresult {code}")),
    }
}

impl Functions {
    fn find(library: &Library) -> Result<Self, String> {
        /// The function of the first of these names that the library has.
        fn symbol<T: Copy>(library: &Library, names: &[&str]) -> Result<T, String> {
            names
                .iter()
                .find_map(|name| {
                    // SAFETY: each caller's type is what cuda.h gives the function of this name.
                    unsafe { library.get::<T>(*name) }.ok()
                })
                .map(|symbol| *symbol)
                .ok_or_else(|| format!("this library has no {}: it is no CUDA driver", names[0]))
        }
        Ok(Self {
            init: symbol(library, &["cuInit"])?,
            driver_get_version: symbol(library, &["cuDriverGetVersion"])?,
            device_get_count: symbol(library, &["cuDeviceGetCount"])?,
            device_get: symbol(library, &["cuDeviceGet"])?,
            device_get_name: symbol(library, &["cuDeviceGetName"])?,
            device_get_uuid: symbol(library, &["cuDeviceGetUuid_v2", "cuDeviceGetUuid"])?,
            device_total_mem: symbol(library, &["cuDeviceTotalMem_v2"])?,
            device_get_attribute: symbol(library, &["cuDeviceGetAttribute"])?,
            device_get_p2p_attribute: symbol(library, &["cuDeviceGetP2PAttribute"]).ok(),
            has_multicast: snapshot::MULTICAST_FUNCTIONS
                .iter()
                .all(|name| symbol::<*const ()>(library, &[name]).is_ok()),
        })
    }

    fn initialise(&self) -> Result<(), String> {
        // SAFETY: takes no pointer.
        check("cuInit", unsafe { (self.init)(0) })
    }

    fn driver_version(&self) -> Result<i32, String> {
        let mut version = 0;
        // SAFETY: the pointer is to a live integer.
        check("cuDriverGetVersion", unsafe {
            (self.driver_get_version)(&mut version)
        })?;
        Ok(version)
    }

    fn device_count(&self) -> Result<u32, String> {
        let mut count = 0;
        // SAFETY: the pointer is to a live integer.
        check("cuDeviceGetCount", unsafe {
            (self.device_get_count)(&mut count)
        })?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    fn device(&self, ordinal: u32) -> Result<DeviceSnapshot, String> {
        let device = self.handle(ordinal)?;
        let mut attributes = self.attributes(device);
        let number = |attribute: i32| {
            let value = attributes.get(&attribute).copied().unwrap_or(0);
            u32::try_from(value).unwrap_or(0)
        };
        let total_memory = self.total_memory(device)?;
        let mut snapshot = DeviceSnapshot {
            ordinal,
            name: self.name(device)?,
            uuid: self.uuid(device)?.to_vec(),
            pci_domain: number(attribute::PCI_DOMAIN_ID),
            pci_bus: number(attribute::PCI_BUS_ID),
            pci_device: number(attribute::PCI_DEVICE_ID),
            total_memory,
            usable_memory: total_memory,
            compute_major: number(attribute::COMPUTE_CAPABILITY_MAJOR),
            compute_minor: number(attribute::COMPUTE_CAPABILITY_MINOR),
            ..DeviceSnapshot::default()
        };
        snapshot::edit(&mut attributes, self.has_multicast);
        snapshot.attributes = attributes;
        Ok(snapshot)
    }

    /// Adds to each device what it can do with the others' memory. What the driver refuses to tell, as it may of parts of devices, stays unknown: no server fails for it.
    fn look_at_peers(&self, devices: &mut [DeviceSnapshot]) {
        let ordinals: Vec<u32> = devices.iter().map(|device| device.ordinal).collect();
        for device in devices {
            let peers = |attribute| {
                let others = ordinals.iter().filter(|other| **other != device.ordinal);
                others.copied().try_fold(0, |peers, other| {
                    let can = self.peer_attribute(attribute, device.ordinal, other)?;
                    Some(peers | u64::from(can) << other)
                })
            };
            device.reachable_peers = peers(attribute::P2P_ACCESS_SUPPORTED);
            device.atomic_peers = peers(attribute::P2P_NATIVE_ATOMIC_SUPPORTED);
        }
    }

    fn peer_attribute(&self, attribute: c_int, device: u32, other: u32) -> Option<bool> {
        let function = self.device_get_p2p_attribute?;
        let (device, other) = (self.handle(device).ok()?, self.handle(other).ok()?);
        let mut value = 0;
        // SAFETY: the pointer is to a live integer.
        let result = unsafe { function(&mut value, attribute, device, other) };
        (result == 0).then_some(value != 0)
    }

    fn handle(&self, ordinal: u32) -> Result<c_int, String> {
        let mut handle = 0;
        // SAFETY: the pointer is to a live integer.
        let result = unsafe { (self.device_get)(&mut handle, ordinal.cast_signed()) };
        check("cuDeviceGet", result).map(|()| handle)
    }

    fn name(&self, device: c_int) -> Result<String, String> {
        const LENGTH: usize = 256;
        let mut bytes = [0_u8; LENGTH];
        let length = LENGTH as c_int - 1;
        // SAFETY: the buffer has more than the length that is passed, so its last byte stays zero.
        let result = unsafe { (self.device_get_name)(bytes.as_mut_ptr().cast(), length, device) };
        check("cuDeviceGetName", result)?;
        let name = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }

    fn uuid(&self, device: c_int) -> Result<[u8; hello::UUID_BYTES], String> {
        let mut uuid = [0; hello::UUID_BYTES];
        // SAFETY: a CUuuid is 16 bytes.
        check("cuDeviceGetUuid", unsafe {
            (self.device_get_uuid)(&mut uuid, device)
        })?;
        Ok(uuid)
    }

    fn total_memory(&self, device: c_int) -> Result<u64, String> {
        let mut bytes = 0_usize;
        // SAFETY: the pointer is to a live size.
        check("cuDeviceTotalMem", unsafe {
            (self.device_total_mem)(&mut bytes, device)
        })?;
        Ok(bytes as u64)
    }

    /// Every attribute that the driver knows, not yet edited.
    fn attributes(&self, device: c_int) -> BTreeMap<i32, i32> {
        (1..=snapshot::LAST_ATTRIBUTE)
            .filter_map(|attribute| {
                let mut value = 0;
                // SAFETY: the pointer is to a live integer; unknown numbers are answered by an error.
                let result = unsafe { (self.device_get_attribute)(&mut value, attribute, device) };
                (result == 0).then_some((attribute, value))
            })
            .collect()
    }
}

mod attribute {
    //! The attributes that have a field of their own.
    pub(super) const PCI_BUS_ID: i32 = 33;
    pub(super) const PCI_DEVICE_ID: i32 = 34;
    pub(super) const PCI_DOMAIN_ID: i32 = 50;
    pub(super) const COMPUTE_CAPABILITY_MAJOR: i32 = 75;
    pub(super) const COMPUTE_CAPABILITY_MINOR: i32 = 76;

    /// Of pairs of devices, numbered by themselves (`CUdevice_P2PAttribute`).
    pub(super) const P2P_ACCESS_SUPPORTED: i32 = 2;
    pub(super) const P2P_NATIVE_ATOMIC_SUPPORTED: i32 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_no_driver_is_named() {
        let failure = look(Path::new("libc.so.6")).expect_err("no driver");
        assert_eq!(failure, "this library has no cuInit: it is no CUDA driver");
        assert!(look(Path::new("/nowhere/libcuda.so.1")).is_err());
    }
}
