//! The way into the driver: what every exported function does around its body.
//!
//! # Safety
//!
//! [`answer`] writes through pointers that a caller of the C ABI passed. Its contract is the driver's own: such a
//! pointer is null or points to a place for the answer.

#![expect(unsafe_code, reason = "answers are written through C pointers")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use driver_api::abi::CUresult;
use driver_api::index;

use crate::checkpoint::DOOR;
use crate::log::{debug, failed, tell, trace, warn, warn_once};

thread_local! {
    /// Whether this thread is in a host function of a stream, where calls are forbidden.
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of the row `index`: no panic leaves the library, no call is served in a host function.
pub(crate) fn call(index: usize, body: impl FnOnce() -> CUresult) -> CUresult {
    let name = driver_api::ROWS[index].name;
    if IN_HOST_FUNCTION.get() && !allowed_in_host_function(name) {
        return CUresult::NOT_PERMITTED;
    }
    let inside = (!passes_by(index)).then(|| DOOR.enter());
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        warn(&format!("{name}: internal error"));
        CUresult::UNKNOWN
    });
    drop(inside);
    if result == CUresult::SUCCESS || result == CUresult::NOT_READY {
        trace(|| format!("{name} answers {}", result.0));
    } else {
        debug(&format!("{name} answers {}", result.0));
        failed(name, result);
    }
    if !IN_HOST_FUNCTION.get() {
        tell();
    }
    result
}

/// The answer of the row `index` if this device does not serve it.
pub(crate) fn unsupported(index: usize) -> CUresult {
    let name = driver_api::ROWS[index].name;
    warn_once(&format!("{name} is not supported by the software GPU"));
    failed(name, CUresult::NOT_SUPPORTED);
    tell();
    CUresult::NOT_SUPPORTED
}

/// What is no use of a device, so that it does not wait while the process is suspended.
fn passes_by(row: usize) -> bool {
    matches!(
        row,
        index::cuCheckpointOperationComplete
            | index::cuCheckpointProcessCheckpoint
            | index::cuCheckpointProcessGetRestoreThreadId
            | index::cuCheckpointProcessGetState
            | index::cuCheckpointProcessLock
            | index::cuCheckpointProcessRestore
            | index::cuCheckpointProcessUnlock
            | index::cuDriverGetVersion
            | index::cuGetErrorName
            | index::cuGetErrorString
            | index::cuGetExportTable
            | index::cuGetProcAddress
            | index::cuGetProcAddress_v2
            | index::cuInit
    )
}

/// Pure questions about names and versions are no calls of the device.
fn allowed_in_host_function(name: &str) -> bool {
    matches!(
        name,
        "cuGetErrorName" | "cuGetErrorString" | "cuDriverGetVersion"
    )
}

/// Runs a function of the program's, in which it may not call the driver.
pub(crate) fn in_host_function(function: impl FnOnce()) {
    let outer = IN_HOST_FUNCTION.replace(true);
    function();
    IN_HOST_FUNCTION.set(outer);
}

/// The code of a result without a value.
pub(crate) fn done(result: Result<(), CUresult>) -> CUresult {
    result.err().unwrap_or(CUresult::SUCCESS)
}

/// Writes the value, if there is one, to `target`.
///
/// # Safety
///
/// `target` is null or a place for a `T`.
pub(crate) unsafe fn answer<T>(target: *mut T, value: Result<T, CUresult>) -> CUresult {
    match value {
        _ if target.is_null() => CUresult::INVALID_VALUE,
        Ok(value) => {
            // SAFETY: not null, and by contract a place for it; alignment is not relied upon.
            unsafe { target.write_unaligned(value) };
            CUresult::SUCCESS
        }
        Err(error) => error,
    }
}

/// Writes the value if the caller wants it.
///
/// # Safety
///
/// As for [`answer`].
pub(crate) unsafe fn answer_if_asked<T>(target: *mut T, value: T) {
    if !target.is_null() {
        // SAFETY: not null, and by contract a place for it.
        unsafe { target.write_unaligned(value) };
    }
}
