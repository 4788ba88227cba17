//! Stream capture: the client models its modes, so no thread here may forbid what another's capture forbids.
//!
//! # Safety
//! The out parameter is a local.
#![expect(unsafe_code, reason = "calls the driver")]

use driver_api::Driver;

use crate::driver::cuda;

/// Makes the calling thread's capture mode relaxed.
pub(crate) fn relax(driver: &Driver) {
    const RELAXED: u32 = 2;
    let mut mode = RELAXED;
    if let Err(error) = cuda!(driver, cuThreadExchangeStreamCaptureMode(&mut mode)) {
        tracing::debug!(%error, "the thread's capture mode stays strict");
    }
}
