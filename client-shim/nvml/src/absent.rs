//! What no device has here: because of the distance, or because it is not parted. Known to exist, so that a client hears "not
//! supported" rather than that its driver is too old.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::c_uint;

use crate::answer::{get, guarded};
use crate::layout::{
    ARGUMENT_VERSION_MISMATCH, FabricInfoV2, FabricInfoV3, NOT_SUPPORTED, Return, version_of,
};
use crate::state;

macro_rules! not_supported {
    ($($name:ident)*) => {$(
        /// Its other arguments are not looked at.
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name(device: usize) -> Return {
            guarded(|| {
                state::device(device)?;
                Err(NOT_SUPPORTED)
            })
        }
    )*};
}

not_supported! {
    nvmlDeviceGetGpuFabricInfo
    // The number of `/dev/nvidiaN` on the server.
    nvmlDeviceGetMinorNumber
    // The device is on no bus of this machine.
    nvmlDeviceGetBAR1MemoryInfo nvmlDeviceGetPcieThroughput
    // Kinds of drivers are an affair of Windows.
    nvmlDeviceGetDriverModel nvmlDeviceGetDriverModel_v2
    // A parted device's parts are devices of their own here, or not served.
    nvmlDeviceGetMaxMigDeviceCount nvmlDeviceGetMigDeviceHandleByIndex
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle nvmlDeviceGetGpuInstanceId nvmlDeviceGetComputeInstanceId
    // The server does not tell it.
    nvmlDeviceGetProcessUtilization nvmlDeviceGetRunningProcessDetailList nvmlDeviceGetConfComputeMemSizeInfo
}

/// No device is in a fabric here: a handle of the server means nothing in the program's processes.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetGpuFabricInfoV(device: usize, info: *mut c_uint) -> Return {
    guarded(|| {
        state::device(device)?;
        let version = get(info)?;
        if ![version_of::<FabricInfoV2>(2), version_of::<FabricInfoV3>(3)].contains(&version) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        Err(NOT_SUPPORTED)
    })
}
