//! What kernels print goes to the program's standard output when somebody synchronises, or is told of a fault.
//!
//! # Safety
//!
//! `stdout` and `fwrite` are the program's own C library's: NVIDIA's driver writes there too, so that output of
//! `printf` on the host and on the device comes in order.

#![expect(unsafe_code, reason = "C standard output")]

use driver_api::abi::CUresult;

use crate::context::Fate;

unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

/// Fails with a context's sticky error, once what its kernels printed before it is written out: whichever call first tells of a fault may be the last
/// one of the program.
///
/// # Errors
///
/// The sticky error.
pub(crate) fn status(fate: &Fate) -> Result<(), CUresult> {
    fate.status().inspect_err(|_| flush(fate))
}

/// Writes out what a context's kernels have printed.
pub(crate) fn flush(fate: &Fate) {
    let output = fate.take_output();
    if output.is_empty() {
        return;
    }
    // SAFETY: the C library sets `stdout` before any library is initialised; the buffer is valid for its length.
    unsafe { libc::fwrite(output.as_ptr().cast(), 1, output.len(), stdout) };
}
