//! The library itself: its beginning and end, its codes, and versions.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::{CStr, c_char, c_int, c_uint};

use protocol::hello::RELEASE;

use crate::answer::{guarded, put, put_text};
use crate::layout::{NOT_SUPPORTED, Return};
use crate::state;

/// By this symbol a server knows that it would serve itself.
#[unsafe(no_mangle)]
pub(crate) static gpurun_shim_mark: u8 = 1;

/// Fetches the list of devices.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInit_v2() -> Return {
    guarded(state::init)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInit() -> Return {
    guarded(state::init)
}

/// The flags allow that there is no device, or that one is not attached: nothing here fails for that.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    guarded(state::init)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlShutdown() -> Return {
    guarded(state::shut_down)
}

/// The name of a code; also before `nvmlInit`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlErrorString(result: Return) -> *const c_char {
    error_text(result).as_ptr()
}

fn error_text(result: Return) -> &'static CStr {
    const TEXTS: [&CStr; 31] = [
        c"Success",
        c"Uninitialized",
        c"Invalid Argument",
        c"Not Supported",
        c"Insufficient Permissions",
        c"Already Initialized",
        c"Not Found",
        c"Insufficient Size",
        c"Insufficient External Power",
        c"Driver Not Loaded",
        c"Timeout",
        c"Interrupt Request Issue",
        c"NVML Shared Library Not Found",
        c"Function Not Found",
        c"Corrupted infoROM",
        c"GPU is lost",
        c"GPU requires reset",
        c"The operating system has blocked the request",
        c"Driver/library version mismatch",
        c"In use by another client",
        c"Insufficient Memory",
        c"No data",
        c"The requested vgpu operation is not available because ECC is enabled",
        c"Insufficient Resources",
        c"Frequency Not Supported",
        c"Argument version mismatch",
        c"Deprecated",
        c"Not Ready",
        c"GPU Not Found",
        c"Invalid State",
        c"Reset Type Not Supported",
    ];
    TEXTS
        .get(result as usize)
        .copied()
        .unwrap_or(c"Unknown Error")
}

/// The release of the server's driver.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlSystemGetDriverVersion(
    version: *mut c_char,
    length: c_uint,
) -> Return {
    guarded(|| {
        let usage = state::usage()?;
        let release = usage
            .server
            .as_ref()
            .map(|server| server.driver_release.as_str());
        match release {
            Some(release) if !release.is_empty() => put_text(version, length, release),
            _ => Err(NOT_SUPPORTED),
        }
    })
}

/// The release of this library.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> Return {
    guarded(|| {
        state::server()?;
        put_text(version, length, RELEASE)
    })
}

/// `cuDriverGetVersion` of the server.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> Return {
    guarded(|| {
        let server = state::server()?.server.as_ref();
        put(version, server.map_or(0, |server| server.driver_version))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> Return {
    nvmlSystemGetCudaDriverVersion(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{UNINITIALIZED, UNKNOWN};

    #[test]
    fn every_code_has_a_text() {
        assert_eq!(error_text(3), c"Not Supported");
        assert_eq!(error_text(25), c"Argument version mismatch");
        assert_eq!(error_text(UNKNOWN), c"Unknown Error");
        assert_eq!(error_text(Return::MAX), c"Unknown Error");
    }

    #[test]
    fn nothing_is_answered_before_init() {
        let mut version = 7;
        assert_eq!(nvmlSystemGetCudaDriverVersion(&mut version), UNINITIALIZED);
        assert_eq!(nvmlShutdown(), UNINITIALIZED);
        assert_eq!(version, 7);
    }
}
