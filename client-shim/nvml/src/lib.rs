//! `libnvidia-ml.so.1` of a machine whose GPU is elsewhere: how many devices there are, and what they are called.
//!
//! *What:* the functions by which programs count and name devices before they touch CUDA. They are answered from the daemon's list of
//! devices, fetched by `nvmlInit` on a short connection of its own; no worker is started. A function that is not here is not found,
//! which every client of NVML expects of older versions.
//!
//! *Rules:* as for the CUDA library beside it: no print, no panic into the program, nothing at load time. Valid in a forked child, since
//! nothing stays open.
//!
//! # Safety
//! Exported functions write through pointers that they have checked for null and that are writable by NVML's contract; device
//! handles are small numbers that are compared with the list, never dereferenced.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::{c_char, c_int, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use protocol::config::{Sources, Texts, resolve};
use protocol::connect::{fetch_snapshot, first_of};
use protocol::hello::{Accepted, DeviceSnapshot};

/// `nvmlReturn_t`.
type Return = c_uint;
const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;
const UNKNOWN: Return = 999;

/// Handles of devices are their numbers plus this: never null.
const FIRST_HANDLE: usize = 0x6E76_6D00;

/// What is known between `nvmlInit` and `nvmlShutdown`.
struct State {
    users: u32,
    server: Option<Accepted>,
}

static STATE: Mutex<State> = Mutex::new(State {
    users: 0,
    server: None,
});

/// Runs the body of an exported function; a panic becomes an error code.
fn guarded(body: impl FnOnce() -> Result<(), Return>) -> Return {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => UNKNOWN,
    }
}

fn with_server<T>(body: impl FnOnce(&Accepted) -> Result<T, Return>) -> Result<T, Return> {
    let state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    body(state.server.as_ref().ok_or(UNINITIALIZED)?)
}

fn with_device<T>(
    device: usize,
    body: impl FnOnce(usize, &DeviceSnapshot) -> Result<T, Return>,
) -> Result<T, Return> {
    with_server(|server| {
        let index = device.checked_sub(FIRST_HANDLE).ok_or(INVALID_ARGUMENT)?;
        body(index, server.devices.get(index).ok_or(INVALID_ARGUMENT)?)
    })
}

fn fetch() -> Result<Accepted, Return> {
    let settings = Sources::of_this_process(Texts::default())
        .and_then(|sources| resolve(&sources))
        .map_err(|_| DRIVER_NOT_LOADED)?;
    let (addresses, _) = settings.servers.ok_or(DRIVER_NOT_LOADED)?;
    let fetched = first_of(&addresses, fetch_snapshot).ok_or(DRIVER_NOT_LOADED)?;
    let mut server = fetched.map_err(|_| DRIVER_NOT_LOADED)?;
    let wanted = std::env::var(protocol::config::DEVICES_VARIABLE).ok();
    let wanted = wanted.and_then(|count| count.parse().ok()).unwrap_or(1);
    server.devices.truncate(wanted);
    Ok(server)
}

fn init() -> Result<(), Return> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if state.server.is_none() {
        state.server = Some(fetch()?);
    }
    state.users += 1;
    Ok(())
}

/// Writes a value through a pointer that may be null.
fn put<T>(place: *mut T, value: T) -> Result<(), Return> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, writable by NVML's contract.
    unsafe { place.write(value) };
    Ok(())
}

/// Writes text and a NUL into `room` bytes.
fn put_text(place: *mut c_char, room: c_uint, text: &str) -> Result<(), Return> {
    if place.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= room as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: not null, and writable for `room` bytes by NVML's contract.
    unsafe {
        place
            .cast::<u8>()
            .copy_from_nonoverlapping(text.as_ptr(), text.len());
        place.add(text.len()).write(0);
    }
    Ok(())
}

/// Fetches the list of devices.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    guarded(init)
}

/// [`nvmlInit_v2`].
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit() -> Return {
    guarded(init)
}

/// [`nvmlInit_v2`]; the flags allow there to be no device, which is no error here anyway.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    guarded(init)
}

/// The last shutdown forgets the list.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    guarded(|| {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        state.users = state.users.checked_sub(1).ok_or(UNINITIALIZED)?;
        if state.users == 0 {
            state.server = None;
        }
        Ok(())
    })
}

/// The text of a code.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: Return) -> *const c_char {
    let text = match result {
        SUCCESS => c"The operation was successful",
        UNINITIALIZED => c"NVML was not first initialized with nvmlInit()",
        INVALID_ARGUMENT => c"A supplied argument is invalid",
        3 => c"The requested operation is not available on target device",
        NOT_FOUND => c"A query to find an object was unsuccessful",
        INSUFFICIENT_SIZE => c"An input argument is not large enough",
        DRIVER_NOT_LOADED => c"NVIDIA driver is not loaded",
        _ => c"An internal driver error occurred",
    };
    text.as_ptr()
}

/// `cuDriverGetVersion` of the server.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> Return {
    guarded(|| {
        with_server(|server| {
            put(
                version,
                server.server.as_ref().map_or(0, |info| info.driver_version),
            )
        })
    })
}

/// [`nvmlSystemGetCudaDriverVersion`].
#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> Return {
    nvmlSystemGetCudaDriverVersion(version)
}

/// How many devices this program may see.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    guarded(|| {
        with_server(|server| {
            put(
                count,
                c_uint::try_from(server.devices.len()).unwrap_or(c_uint::MAX),
            )
        })
    })
}

/// [`nvmlDeviceGetCount_v2`].
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount(count: *mut c_uint) -> Return {
    nvmlDeviceGetCount_v2(count)
}

/// The handle of a device.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut usize) -> Return {
    guarded(|| {
        with_server(|server| {
            let index = index as usize;
            server.devices.get(index).ok_or(INVALID_ARGUMENT)?;
            put(device, FIRST_HANDLE + index)
        })
    })
}

/// [`nvmlDeviceGetHandleByIndex_v2`].
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut usize) -> Return {
    nvmlDeviceGetHandleByIndex_v2(index, device)
}

/// The number of a device.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetIndex(device: usize, index: *mut c_uint) -> Return {
    guarded(|| {
        with_device(device, |number, _| {
            put(index, c_uint::try_from(number).unwrap_or(0))
        })
    })
}

/// The name of a device.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(device: usize, name: *mut c_char, length: c_uint) -> Return {
    guarded(|| with_device(device, |_, snapshot| put_text(name, length, &snapshot.name)))
}

/// The UUID of a device, as `GPU-…`; the same that CUDA tells.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: usize, uuid: *mut c_char, length: c_uint) -> Return {
    guarded(|| {
        with_device(device, |_, snapshot| {
            put_text(uuid, length, &uuid_text(&snapshot.uuid))
        })
    })
}

fn uuid_text(uuid: &[u8]) -> String {
    let mut text = "GPU-".to_owned();
    for (place, byte) in uuid.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The compute capability of a device.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: usize,
    major: *mut c_int,
    minor: *mut c_int,
) -> Return {
    guarded(|| {
        with_device(device, |_, snapshot| {
            put(major, c_int::try_from(snapshot.compute_major).unwrap_or(0))?;
            put(minor, c_int::try_from(snapshot.compute_minor).unwrap_or(0))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_nvml_does() {
        let uuid: Vec<u8> = (0..16).collect();
        assert_eq!(uuid_text(&uuid), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn nothing_is_answered_before_init() {
        let mut count = 7;
        assert_eq!(nvmlDeviceGetCount_v2(&mut count), UNINITIALIZED);
        assert_eq!(nvmlShutdown(), UNINITIALIZED);
        assert_eq!(count, 7);
    }
}
