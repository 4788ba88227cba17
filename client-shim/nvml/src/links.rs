//! NVLinks of a device: as the server's NVML told of them when it was first asked.
//!
//! NCCL and PyTorch look at them to see which devices are near each other, and how near. What is at the other end may be a device that this program does not
//! have, or a switch: its place is one on the server's bus.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::{c_int, c_uint};

use protocol::hello::NvLink;
use protocol::nvml::{MAX_NVLINKS, NVLINK_CAPABILITIES};

use crate::answer::{get, guarded, put};
use crate::layout::{
    FieldValue, INVALID_ARGUMENT, NOT_SUPPORTED, PciInfoV2, PciInfoV3, Return, SUCCESS,
};
use crate::pci;
use crate::state::{self, with_usage};

/// Runs `body` on a link.
fn with_link<T>(
    device: usize,
    number: c_uint,
    body: impl FnOnce(&NvLink) -> Result<T, Return>,
) -> Result<T, Return> {
    state::device(device)?;
    if number as usize >= MAX_NVLINKS {
        return Err(INVALID_ARGUMENT);
    }
    with_usage(device, |_, usage| {
        let link = usage.links.iter().find(|link| link.number == number);
        body(link.ok_or(NOT_SUPPORTED)?)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetNvLinkState(
    device: usize,
    link: c_uint,
    is_active: *mut c_uint,
) -> Return {
    guarded(|| with_link(device, link, |link| put(is_active, link.active.into())))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetNvLinkVersion(
    device: usize,
    link: c_uint,
    version: *mut c_uint,
) -> Return {
    guarded(|| {
        with_link(device, link, |link| {
            put(version, link.version.ok_or(NOT_SUPPORTED)?)
        })
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetNvLinkCapability(
    device: usize,
    link: c_uint,
    capability: c_uint,
    has: *mut c_uint,
) -> Return {
    guarded(|| {
        if capability >= NVLINK_CAPABILITIES {
            return Err(INVALID_ARGUMENT);
        }
        with_link(device, link, |link| {
            put(has, link.capabilities >> capability & 1)
        })
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: usize,
    link: c_uint,
    kind: *mut c_uint,
) -> Return {
    guarded(|| {
        with_link(device, link, |link| {
            put(kind, link.remote_type.ok_or(NOT_SUPPORTED)?)
        })
    })
}

/// What is at the other end. Its subsystem is not told.
fn end_of(device: usize, link: c_uint) -> Result<PciInfoV3, Return> {
    with_link(device, link, |link| {
        Ok(pci::info(link.remote.ok_or(NOT_SUPPORTED)?, 0))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: usize,
    link: c_uint,
    info: *mut PciInfoV3,
) -> Return {
    guarded(|| put(info, end_of(device, link)?))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo(
    device: usize,
    link: c_uint,
    info: *mut PciInfoV2,
) -> Return {
    guarded(|| put(info, end_of(device, link)?.second))
}

/// Fields that are answered: the number of links, and whether the one of the scope is active.
const LINK_COUNT: c_uint = 91;
const LINK_STATE: c_uint = 165;
/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
const UNSIGNED: c_uint = 1;

/// Succeeds, and says of each field whether it did; of a field that the device does not have, that it is not supported, as NVML does.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetFieldValues(
    device: usize,
    count: c_int,
    values: *mut FieldValue,
) -> Return {
    guarded(|| {
        state::device(device)?;
        let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
        if values.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        for index in 0..count {
            let place = values.wrapping_add(index);
            let mut field = get(place)?;
            match field_of(device, field.field, field.scope) {
                Ok(value) => {
                    field.value_type = UNSIGNED;
                    field.value = value.into();
                    field.result = SUCCESS;
                }
                Err(code) => field.result = code,
            }
            put(place, field)?;
        }
        Ok(())
    })
}

fn field_of(device: usize, field: c_uint, scope: c_uint) -> Result<c_uint, Return> {
    match field {
        LINK_COUNT => with_usage(device, |_, usage| match usage.links.len() {
            0 => Err(NOT_SUPPORTED),
            links => Ok(links as c_uint),
        }),
        LINK_STATE => with_link(device, scope, |link| Ok(link.active.into())),
        _ => Err(NOT_SUPPORTED),
    }
}
