//! NVIDIA's own management library, asked for what the devices' sensors and counters say.
//!
//! What: [`Nvml::load`] finds `libnvidia-ml.so.1` beside the driver, by absolute path; [`Nvml::report`] reads everything that a client may ask
//! for. Rules: only functions that nvml.h documents, each looked up by name and optional; what a function refuses is left out of the
//! report; a device is found by its UUID, as a whole one or a part of one, else by its place on the bus; nothing is changed on a device.
//!
//! # Safety
//! Functions are called with the signatures that nvml.h gives their names; each writes only through the pointers that it is given, which
//! are to live locals of the sizes that nvml.h says. Handles of devices come from the library itself.
#![expect(unsafe_code, reason = "a handful of NVML's functions")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;
use protocol::hello::{
    DeviceSnapshot, DeviceUsage, NvLink, PciPlace, ProcessUsage, Reading, UsageReport,
};
use protocol::limits::{MAX_USAGE_LINKS, MAX_USAGE_PROCESSES};
use protocol::nvml::{
    CLOCKS, ECC_COUNTERS, INSUFFICIENT_SIZE, MAX_NVLINKS, NVLINK_CAPABILITIES, Return, SUCCESS,
};

use crate::probe::SHIM_MARK;

/// The library's name, beside the driver.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// `nvmlDevice_t`.
type Device = *mut c_void;
type Number = unsafe extern "C" fn(Device, *mut u32) -> Return;
type NumberOf = unsafe extern "C" fn(Device, u32, *mut u32) -> Return;
type Pair = unsafe extern "C" fn(Device, *mut u32, *mut u32) -> Return;
type Counter = unsafe extern "C" fn(Device, u32, u32, *mut u64) -> Return;
type Text = unsafe extern "C" fn(Device, *mut c_char, u32) -> Return;
type Processes = unsafe extern "C" fn(Device, *mut u32, *mut ProcessInfo) -> Return;
type ByText = unsafe extern "C" fn(*const c_char, *mut Device) -> Return;

/// `nvmlProcessInfo_t` of the functions `_v2` and `_v3`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct ProcessInfo {
    process: u32,
    used_bytes: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

const _: () = assert!(size_of::<ProcessInfo>() == 24);

/// What stands for "not available" where a number of bytes is told.
const NOT_AVAILABLE: u64 = u64::MAX;

/// `nvmlPciInfo_t` in words; of interest are the words of the device and of the subsystem.
type PciInfo = [u32; 17];
const PCI_DOMAIN_WORD: usize = 4;
const PCI_DEVICE_WORD: usize = 7;
const PCI_SUBSYSTEM_WORD: usize = 8;

macro_rules! numbers {
    ($($name:ident => $reading:ident,)*) => {
        /// Functions that give one number.
        const NUMBERS: &[(&str, Reading)] = &[$((stringify!($name), Reading::$reading)),*];
    };
}
protocol::for_each_nvml_number!(numbers);

macro_rules! pairs {
    ($($name:ident => $first:ident, $second:ident;)*) => {
        /// Functions that give two numbers.
        const PAIRS: &[(&str, Reading, Reading)] =
            &[$((stringify!($name), Reading::$first, Reading::$second)),*];
    };
}
protocol::for_each_nvml_pair!(pairs);

/// The library, initialised for the rest of the process's life.
pub(super) struct Nvml {
    library: Library,
    /// The links of each device that was asked for: hundreds of questions, whose answers do not change.
    links: RefCell<BTreeMap<usize, Vec<NvLink>>>,
}

fn done(result: Return) -> Option<()> {
    (result == SUCCESS).then_some(())
}

impl Nvml {
    /// Loads the library that is beside the driver, also where the driver's path leads to.
    pub(super) fn load(driver: &Path) -> Result<Self, String> {
        let beside = |path: &Path| Some(path.parent()?.join(LIBRARY)).filter(|path| path.exists());
        let path: Option<PathBuf> = beside(driver).or_else(|| beside(&driver.canonicalize().ok()?));
        let path =
            path.ok_or_else(|| format!("there is no {LIBRARY} beside {}", driver.display()))?;
        // SAFETY: this process exists to load the library that belongs to the operator's driver.
        let library = unsafe { Library::new(&path) }.map_err(|error| error.to_string())?;
        let nvml = Self {
            library,
            links: RefCell::default(),
        };
        if nvml.function::<*const ()>(SHIM_MARK).is_some() {
            return Err(format!(
                "{} is gpurun's own, not a driver's",
                path.display()
            ));
        }
        let init: unsafe extern "C" fn() -> Return = nvml
            .function("nvmlInit_v2")
            .ok_or_else(|| format!("{} has no nvmlInit_v2", path.display()))?;
        // SAFETY: takes no argument.
        match unsafe { init() } {
            SUCCESS => Ok(nvml),
            code => Err(format!("nvmlInit_v2 of {} answers {code}", path.display())),
        }
    }

    /// A function of the library; the caller's type is what nvml.h gives the name.
    fn function<T: Copy>(&self, name: &str) -> Option<T> {
        // SAFETY: as said.
        unsafe { self.library.get::<T>(name) }
            .ok()
            .map(|symbol| *symbol)
    }

    /// Everything about these devices. Processes and links beyond the most that a report may have are left out.
    pub(super) fn report(&self, devices: &[DeviceSnapshot]) -> UsageReport {
        let (mut room, mut room_for_links) = (MAX_USAGE_PROCESSES, MAX_USAGE_LINKS);
        let usage = devices.iter().map(|device| {
            let mut usage = self
                .find(device)
                .map(|handle| self.usage(handle))
                .unwrap_or_default();
            usage.processes.truncate(room);
            room -= usage.processes.len();
            usage.links.truncate(room_for_links);
            room_for_links -= usage.links.len();
            usage
        });
        UsageReport {
            devices: usage.collect(),
            driver_release: self.driver_release().unwrap_or_default(),
        }
    }

    fn driver_release(&self) -> Option<String> {
        let function: unsafe extern "C" fn(*mut c_char, u32) -> Return =
            self.function("nvmlSystemGetDriverVersion")?;
        // SAFETY: a live buffer of this length.
        text(|buffer, length| unsafe { function(buffer, length) })
    }

    fn find(&self, device: &DeviceSnapshot) -> Option<Device> {
        let by = |name: &str, key: String| {
            let function: ByText = self.function(name)?;
            let key = CString::new(key).ok()?;
            let mut handle = std::ptr::null_mut();
            // SAFETY: a text that lives, and a live place for a handle.
            done(unsafe { function(key.as_ptr(), &mut handle) })?;
            Some(handle)
        };
        let by_uuid = |uuid| by("nvmlDeviceGetHandleByUUID", uuid);
        // A part of a parted device has a UUID of its own, and shares the whole one's place on the bus.
        let part = || by_uuid(device.uuid_text().replacen("GPU-", "MIG-", 1));
        by_uuid(device.uuid_text()).or_else(part).or_else(|| {
            let place = format!(
                "{:08x}:{:02x}:{:02x}.0",
                device.pci_domain, device.pci_bus, device.pci_device
            );
            by("nvmlDeviceGetHandleByPciBusId_v2", place)
        })
    }

    fn usage(&self, device: Device) -> DeviceUsage {
        let mut readings = BTreeMap::new();
        let mut put = |reading: Reading, value: u64| {
            readings.insert(i32::from(reading), value);
        };
        for (name, reading) in NUMBERS {
            if let Some(value) = self.number(device, name) {
                put(*reading, value.into());
            }
        }
        for (name, first, second) in PAIRS {
            if let Some([one, two]) = self.pair(device, name) {
                put(*first, one.into());
                put(*second, two.into());
            }
        }
        if let Some(degrees) = self.number_of(device, "nvmlDeviceGetTemperature", 0) {
            put(Reading::Temperature, degrees.into());
        }
        for (kind, (now, at_most)) in (0..).zip(CLOCKS) {
            if let Some(mhz) = self.number_of(device, "nvmlDeviceGetClockInfo", kind) {
                put(now, mhz.into());
            }
            if let Some(mhz) = self.number_of(device, "nvmlDeviceGetMaxClockInfo", kind) {
                put(at_most, mhz.into());
            }
        }
        for (kind, counter, reading) in ECC_COUNTERS {
            if let Some(count) = self.counter(device, kind, counter) {
                put(reading, count);
            }
        }
        // A structure of two numbers, of eight bytes: a structure of three, and of seventeen words.
        if let Some([gpu, memory]) =
            self.filled::<[u32; 2]>(device, "nvmlDeviceGetUtilizationRates")
        {
            put(Reading::GpuUtilization, gpu.into());
            put(Reading::MemoryUtilization, memory.into());
        }
        if let Some(millijoules) = self.filled::<u64>(device, "nvmlDeviceGetTotalEnergyConsumption")
        {
            put(Reading::TotalEnergy, millijoules);
        }
        if let Some(info) = self.filled::<PciInfo>(device, "nvmlDeviceGetPciInfo_v3") {
            put(Reading::PciDevice, info[PCI_DEVICE_WORD].into());
            put(Reading::PciSubsystem, info[PCI_SUBSYSTEM_WORD].into());
        }
        // `nvmlMemory_t`: total, free, used.
        let memory = self.filled::<[u64; 3]>(device, "nvmlDeviceGetMemoryInfo");
        DeviceUsage {
            free_memory: memory.map(|[_, free, _]| free),
            readings,
            processes: self.processes(device),
            serial: self.serial(device).unwrap_or_default(),
            links: self.links(device),
        }
    }

    fn links(&self, device: Device) -> Vec<NvLink> {
        let mut known = self.links.borrow_mut();
        let links = known.entry(device.addr()).or_insert_with(|| {
            (0..MAX_NVLINKS as u32)
                .filter_map(|number| self.link(device, number))
                .collect()
        });
        links.clone()
    }

    /// A link of a device, if it has one of this number.
    fn link(&self, device: Device, number: u32) -> Option<NvLink> {
        let state = self.number_of(device, "nvmlDeviceGetNvLinkState", number)?;
        let of = |name: &str| self.number_of(device, name, number);
        let capabilities = (0..NVLINK_CAPABILITIES).fold(0, |found, capability| {
            let has = self.link_capability(device, number, capability);
            found | u32::from(has == Some(true)) << capability
        });
        let place = |info: PciInfo| PciPlace {
            domain: info[PCI_DOMAIN_WORD],
            bus: info[PCI_DOMAIN_WORD + 1],
            device: info[PCI_DOMAIN_WORD + 2],
            id: info[PCI_DEVICE_WORD],
        };
        Some(NvLink {
            number,
            active: state != 0,
            version: of("nvmlDeviceGetNvLinkVersion"),
            capabilities,
            remote_type: of("nvmlDeviceGetNvLinkRemoteDeviceType"),
            remote: self.link_end(device, number).map(place),
        })
    }

    fn link_capability(&self, device: Device, link: u32, capability: u32) -> Option<bool> {
        let function: unsafe extern "C" fn(Device, u32, u32, *mut u32) -> Return =
            self.function("nvmlDeviceGetNvLinkCapability")?;
        let mut value = 0;
        // SAFETY: a live number.
        done(unsafe { function(device, link, capability, &mut value) })?;
        Some(value != 0)
    }

    /// What is at the other end of a link.
    fn link_end(&self, device: Device, link: u32) -> Option<PciInfo> {
        let function: unsafe extern "C" fn(Device, u32, *mut PciInfo) -> Return =
            self.function("nvmlDeviceGetNvLinkRemotePciInfo_v2")?;
        let mut info = PciInfo::default();
        // SAFETY: a live structure of the size that the function fills.
        done(unsafe { function(device, link, &mut info) })?;
        Some(info)
    }

    fn number(&self, device: Device, name: &str) -> Option<u32> {
        let function: Number = self.function(name)?;
        let mut value = 0;
        // SAFETY: a live number.
        done(unsafe { function(device, &mut value) })?;
        Some(value)
    }

    fn number_of(&self, device: Device, name: &str, kind: u32) -> Option<u32> {
        let function: NumberOf = self.function(name)?;
        let mut value = 0;
        // SAFETY: a live number.
        done(unsafe { function(device, kind, &mut value) })?;
        Some(value)
    }

    fn pair(&self, device: Device, name: &str) -> Option<[u32; 2]> {
        let function: Pair = self.function(name)?;
        let [mut first, mut second] = [0; 2];
        // SAFETY: two live numbers.
        done(unsafe { function(device, &mut first, &mut second) })?;
        Some([first, second])
    }

    fn counter(&self, device: Device, kind: u32, counter: u32) -> Option<u64> {
        let function: Counter = self.function("nvmlDeviceGetTotalEccErrors")?;
        let mut value = 0;
        // SAFETY: a live number.
        done(unsafe { function(device, kind, counter, &mut value) })?;
        Some(value)
    }

    /// What a function fills that takes a structure; the caller's type has the structure's size.
    fn filled<T: Copy + Default>(&self, device: Device, name: &str) -> Option<T> {
        let function: unsafe extern "C" fn(Device, *mut T) -> Return = self.function(name)?;
        let mut value = T::default();
        // SAFETY: a live structure of the size that the function fills.
        done(unsafe { function(device, &mut value) })?;
        Some(value)
    }

    fn serial(&self, device: Device) -> Option<String> {
        let function: Text = self.function("nvmlDeviceGetSerial")?;
        // SAFETY: a live buffer of this length.
        text(|buffer, length| unsafe { function(device, buffer, length) })
    }

    /// The processes on the server that compute on a device.
    fn processes(&self, device: Device) -> Vec<ProcessUsage> {
        let function: Option<Processes> = self
            .function("nvmlDeviceGetComputeRunningProcesses_v3")
            .or_else(|| self.function("nvmlDeviceGetComputeRunningProcesses_v2"));
        let Some(function) = function else {
            return Vec::new();
        };
        let mut processes = vec![ProcessInfo::default(); MAX_USAGE_PROCESSES];
        let mut count = MAX_USAGE_PROCESSES as u32;
        // SAFETY: a live array of `count` structures, and the live count.
        let result = unsafe { function(device, &mut count, processes.as_mut_ptr()) };
        if result == INSUFFICIENT_SIZE {
            tracing::warn!(count, "more processes on a device than can be told");
        }
        if result != SUCCESS {
            return Vec::new();
        }
        processes.truncate(count as usize);
        let told = |info: ProcessInfo| ProcessUsage {
            process: info.process,
            memory: Some(info.used_bytes).filter(|bytes| *bytes != NOT_AVAILABLE),
        };
        processes.into_iter().map(told).collect()
    }
}

/// The text that a function writes into a buffer.
fn text(write: impl FnOnce(*mut c_char, u32) -> Return) -> Option<String> {
    const LENGTH: u32 = 96;
    let mut bytes = [0_u8; LENGTH as usize];
    done(write(bytes.as_mut_ptr().cast(), LENGTH))?;
    let text = CStr::from_bytes_until_nul(&bytes).ok()?;
    Some(text.to_string_lossy().into_owned())
}
