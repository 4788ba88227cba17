//! The start of a worker: the driver, the devices' snapshot, the windows.
//!
//! *Rules:* windows are reserved before any context exists, and kept only where the driver put them exactly there; of the client's
//! variables only [`DRIVER_VARIABLES`] reach the driver; nothing is answered before everything is there.
//!
//! # Safety
//! Out parameters are locals of the rows' types; a name's buffer is longer than the length that is passed. Variables are set
//! while the process has one thread.
#![expect(unsafe_code, reason = "calls the driver, sets variables")]

use std::collections::BTreeMap;
use std::ffi::CStr;

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUmemAllocationProp, CUmemLocation, CUuuid};
use driver_api::result::CUresult;
use driver_api::soft_usage::QUEUE_DEPTH_ATTRIBUTE;
use protocol::hello::{
    DRIVER_VARIABLES, DeviceSnapshot, Hello, LeaseOrder, RefusalCode, Refused, SliceOrder, Window,
    refusal,
};
use protocol::limits::MAX_DEVICES;

use super::context::attribute;
use super::memory::CHUNK_BYTES;
use crate::driver::cuda;
use crate::snapshot;

/// The variable by which a driver is told which devices to show, and in which order.
const VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";

/// Sets the variables of the client that the driver shall see, and which devices it shall show: those of the lease, in its order.
///
/// # Safety
/// No other thread runs yet.
pub(crate) unsafe fn set_variables(hello: &Hello, lease: Option<&LeaseOrder>) {
    if let Some(lease) = lease {
        // SAFETY: by this function's contract no other thread reads or writes the environment.
        unsafe { std::env::set_var(VISIBLE_DEVICES, visible_devices(lease)) };
    }
    // What a worker's driver dumps is its session's to say, and never where the server's own environment says.
    for name in driver_api::coredump::VARIABLES {
        // SAFETY: by this function's contract no other thread reads or writes the environment.
        unsafe { std::env::remove_var(name) };
    }
    for name in DRIVER_VARIABLES {
        if let Some(value) = hello.environment.get(name)
            && !value.contains('\0')
        {
            // SAFETY: by this function's contract no other thread reads or writes the environment.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

fn visible_devices(lease: &LeaseOrder) -> String {
    let devices: Vec<String> = lease.slices.iter().map(SliceOrder::uuid_text).collect();
    devices.join(",")
}

/// What a worker found when it started.
pub(crate) struct Found {
    pub(crate) driver_version: i32,
    pub(crate) devices: Vec<DeviceSnapshot>,
    pub(crate) windows: Vec<Window>,
    /// The devices whose primary context is retained.
    pub(crate) retained: Vec<i32>,
}

/// Initialises the driver and looks at what the client gets.
pub(crate) fn find(
    driver: &Driver,
    hello: &Hello,
    lease: Option<&LeaseOrder>,
) -> Result<Found, Refused> {
    let failed = |what: &'static str| {
        move |error: CUresult| refusal(RefusalCode::Internal, format!("{what}: {error}"))
    };
    cuda!(driver, cuInit(0)).map_err(failed("cuInit"))?;
    let mut driver_version = 0;
    cuda!(driver, cuDriverGetVersion(&mut driver_version)).map_err(failed("cuDriverGetVersion"))?;
    let mut there = 0;
    cuda!(driver, cuDeviceGetCount(&mut there)).map_err(failed("cuDeviceGetCount"))?;
    let wanted = match lease {
        Some(lease) => u32::try_from(lease.slices.len()).unwrap_or(u32::MAX),
        None => hello.device_count(),
    };
    if wanted as usize > MAX_DEVICES || i64::from(wanted) > i64::from(there) {
        let message = format!("{wanted} devices were asked for, this server has {there}");
        return Err(refusal(RefusalCode::NoDevice, message));
    }
    let mut devices = (0..wanted.cast_signed())
        .map(|ordinal| describe(driver, ordinal))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed("looking at a device"))?;
    if let Some(lease) = lease {
        show_slices(&mut devices, &lease.slices)?;
    }
    let windows = reserve_windows(driver, &hello.windows, wanted.cast_signed());
    let retained = look_inside(driver, &mut devices);
    Ok(Found {
        driver_version,
        devices,
        windows,
        retained,
    })
}

/// Shows each device as the slice that the session has of it.
fn show_slices(devices: &mut [DeviceSnapshot], slices: &[SliceOrder]) -> Result<(), Refused> {
    for (device, slice) in devices.iter_mut().zip(slices) {
        if device.uuid != slice.uuid {
            let (found, wanted) = (device.uuid_text(), slice.uuid_text());
            let message = format!("the driver shows {found} where {wanted} was leased");
            return Err(refusal(RefusalCode::Internal, message));
        }
        device.total_memory = slice.memory;
        device.usable_memory = slice.usable_memory;
    }
    Ok(())
}

/// What a device is known by, whichever process looks at it.
pub(super) fn uuid_of(driver: &Driver, ordinal: i32) -> Result<[u8; 16], CUresult> {
    let mut uuid = CUuuid::default();
    if driver.cuDeviceGetUuid_v2.is_some() {
        cuda!(driver, cuDeviceGetUuid_v2(&mut uuid, ordinal))?;
    } else {
        cuda!(driver, cuDeviceGetUuid(&mut uuid, ordinal))?;
    }
    Ok(uuid.bytes)
}

/// Whether the driver has all of [`snapshot::MULTICAST_FUNCTIONS`].
fn has_multicast(driver: &Driver) -> bool {
    driver.cuMulticastCreate.is_some()
        && driver.cuMulticastAddDevice.is_some()
        && driver.cuMulticastBindMem.is_some()
        && driver.cuMulticastBindAddr.is_some()
        && driver.cuMulticastUnbind.is_some()
        && driver.cuMulticastGetGranularity.is_some()
}

fn describe(driver: &Driver, ordinal: i32) -> Result<DeviceSnapshot, CUresult> {
    let mut name = [0_u8; 256];
    cuda!(
        driver,
        cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32 - 1, ordinal)
    )?;
    let uuid = uuid_of(driver, ordinal)?;
    let mut total = 0_usize;
    cuda!(driver, cuDeviceTotalMem_v2(&mut total, ordinal))?;
    let mut attributes: BTreeMap<i32, i32> = (1..=snapshot::LAST_ATTRIBUTE)
        .filter_map(|number| {
            let value = attribute(driver, ordinal, number.cast_unsigned())?;
            Some((number, value))
        })
        .collect();
    let number = |attribute: i32| {
        let value = attributes.get(&attribute).copied().unwrap_or(0);
        u32::try_from(value).unwrap_or(0)
    };
    let (pci_bus, pci_device, pci_domain) = (number(33), number(34), number(50));
    let (compute_major, compute_minor) = (number(75), number(76));
    snapshot::edit(&mut attributes, has_multicast(driver));
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    Ok(DeviceSnapshot {
        ordinal: ordinal.cast_unsigned(),
        name: name.to_string_lossy().into_owned(),
        uuid: uuid.to_vec(),
        pci_domain,
        pci_bus,
        pci_device,
        total_memory: total as u64,
        usable_memory: total as u64,
        attributes,
        compute_major,
        compute_minor,
        queue_depth: attribute(driver, ordinal, QUEUE_DEPTH_ATTRIBUTE)
            .and_then(|depth| u32::try_from(depth).ok())
            .unwrap_or(0),
        ..DeviceSnapshot::default()
    })
}

/// What only a context tells: asked of the first device's primary context, and of others of another kind. These stay retained for
/// the client, which says so.
fn look_inside(driver: &Driver, devices: &mut [DeviceSnapshot]) -> Vec<i32> {
    let mut retained = Vec::new();
    for index in 0..devices.len() {
        let known = devices[..index]
            .iter()
            .find(|other| other.name == devices[index].name)
            .cloned();
        let device = &mut devices[index];
        if let Some(known) = known {
            device.least_stream_priority = known.least_stream_priority;
            device.greatest_stream_priority = known.greatest_stream_priority;
            device.default_limits = known.default_limits;
        } else {
            match ask_context(driver, device) {
                Ok(()) => retained.push(device.ordinal.cast_signed()),
                Err(error) => {
                    tracing::warn!(device = device.ordinal, %error, "no context to ask");
                }
            }
        }
    }
    retained
}

fn ask_context(driver: &Driver, device: &mut DeviceSnapshot) -> Result<(), CUresult> {
    const LIMITS: u32 = 16;
    let ordinal = device.ordinal.cast_signed();
    let mut context = CUcontext(0);
    cuda!(driver, cuDevicePrimaryCtxRetain(&mut context, ordinal))?;
    let mut ask = || {
        cuda!(driver, cuCtxSetCurrent(context))?;
        let (mut least, mut greatest) = (0, 0);
        cuda!(
            driver,
            cuCtxGetStreamPriorityRange(&mut least, &mut greatest)
        )?;
        device.least_stream_priority = least;
        device.greatest_stream_priority = greatest;
        for limit in 0..LIMITS {
            let mut value = 0;
            if cuda!(driver, cuCtxGetLimit(&mut value, limit)).is_ok() {
                device
                    .default_limits
                    .insert(limit.cast_signed(), value as u64);
            }
        }
        cuda!(driver, cuCtxSetCurrent(CUcontext(0)))
    };
    ask().inspect_err(|_| {
        // The first error is the one to tell.
        let _ = cuda!(driver, cuDevicePrimaryCtxRelease_v2(ordinal));
    })
}

/// The windows that the driver gives at exactly these addresses.
fn reserve_windows(driver: &Driver, candidates: &[Window], devices: i32) -> Vec<Window> {
    if !(0..devices).all(|device| can_map(driver, device)) {
        return Vec::new();
    }
    candidates
        .iter()
        .filter(|window| (window.base | window.size).is_multiple_of(CHUNK_BYTES))
        .filter(|window| reserve(driver, window))
        .copied()
        .collect()
}

/// Whether a device maps memory in pieces of our size.
fn can_map(driver: &Driver, device: i32) -> bool {
    const HAS_VIRTUAL_MEMORY: u32 = 102;
    const PINNED: u32 = 1;
    const MINIMUM: u32 = 0;
    let property = CUmemAllocationProp {
        kind: PINNED,
        location: CUmemLocation {
            kind: 1,
            id: device,
        },
        ..CUmemAllocationProp::default()
    };
    let mut granularity = 0_usize;
    attribute(driver, device, HAS_VIRTUAL_MEMORY) == Some(1)
        && cuda!(
            driver,
            cuMemGetAllocationGranularity(&mut granularity, &property, MINIMUM)
        )
        .is_ok()
        && granularity != 0
        && CHUNK_BYTES.is_multiple_of(granularity as u64)
}

fn reserve(driver: &Driver, window: &Window) -> bool {
    let Ok(size) = usize::try_from(window.size) else {
        return false;
    };
    let mut address = 0;
    let reserved = cuda!(
        driver,
        cuMemAddressReserve(&mut address, size, 0, window.base, 0)
    );
    if reserved.is_ok() && address != window.base {
        tracing::debug!(wanted = window.base, address, "a window elsewhere");
        // It is only address space.
        let _ = cuda!(driver, cuMemAddressFree(address, size));
    }
    reserved.is_ok() && address == window.base
}
