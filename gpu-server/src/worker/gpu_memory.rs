//! Whether the RDMA card reaches the memory of GPUs by itself: looked for as a session by RDMA begins, and told to both logs.
//!
//! What: the driver exports a page of device memory as a dma-buf, the card registers it, and all of it is given back. Rules: nothing depends
//! on the answer yet, data goes through host memory; the operator can refuse the look; a failure is a finding, never an error of the session.
//!
//! # Safety
//! Out parameters are locals of the rows' types; the memory is freed after its export, which is closed before.
#![expect(unsafe_code, reason = "calls the driver")]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUdevice, CUdeviceptr};
use driver_api::result::CUresult;
use protocol::transport::rdma::RdmaError;

use super::context::attribute;
use crate::driver::cuda;

/// `CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED`.
const EXPORTS_DMA_BUF: u32 = 124;

/// `CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD`.
const DMA_BUF: u32 = 1;

/// What is exported: the size of the driver's large pages, so that it is made of whole ones.
const BYTES: usize = 2 << 20;

/// Why the card does not reach it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// The operator does not want it.
    #[error("this server's settings say no")]
    NotWanted,
    /// There is nothing to reach.
    #[error("the session has no device")]
    NoDevice,
    /// The driver cannot export memory.
    #[error("the driver exports no dma-buf")]
    NotExported,
    /// The driver refuses.
    #[error("{0}: {1}")]
    Driver(&'static str, CUresult),
    /// The card, or its library, refuses.
    #[error("the NIC refuses dma-buf: {0}")]
    Card(#[from] RdmaError),
}

/// The finding, for people.
pub(super) fn describe(found: &Result<(), Unreachable>) -> String {
    match found {
        Ok(()) => "GPU memory by way of host memory, though the NIC could reach it".to_owned(),
        Err(reason) => format!("GPU memory by way of host memory: {reason}"),
    }
}

/// Looks whether `register` takes a page of a device's memory.
///
/// # Errors
/// [`Unreachable`].
pub(super) fn probe(
    driver: &Driver,
    device: CUdevice,
    register: impl FnOnce(BorrowedFd<'_>, usize) -> Result<(), RdmaError>,
) -> Result<(), Unreachable> {
    if attribute(driver, device, EXPORTS_DMA_BUF) != Some(1) {
        return Err(Unreachable::NotExported);
    }
    let mut context = CUcontext(0);
    cuda!(driver, cuDevicePrimaryCtxRetain(&mut context, device))
        .map_err(|error| Unreachable::Driver("cuDevicePrimaryCtxRetain", error))?;
    let found = probe_in(driver, context, register);
    // The finding is what is told.
    let _ = cuda!(driver, cuCtxSetCurrent(CUcontext(0)));
    let _ = cuda!(driver, cuDevicePrimaryCtxRelease_v2(device));
    found
}

fn probe_in(
    driver: &Driver,
    context: CUcontext,
    register: impl FnOnce(BorrowedFd<'_>, usize) -> Result<(), RdmaError>,
) -> Result<(), Unreachable> {
    cuda!(driver, cuCtxSetCurrent(context))
        .map_err(|error| Unreachable::Driver("cuCtxSetCurrent", error))?;
    let mut address: CUdeviceptr = 0;
    cuda!(driver, cuMemAlloc_v2(&mut address, BYTES))
        .map_err(|error| Unreachable::Driver("cuMemAlloc", error))?;
    let found = export(driver, address).and_then(|buffer| Ok(register(buffer.as_fd(), BYTES)?));
    cuda!(driver, cuMemFree_v2(address))
        .map_err(|error| Unreachable::Driver("cuMemFree", error))?;
    found
}

fn export(driver: &Driver, address: CUdeviceptr) -> Result<OwnedFd, Unreachable> {
    let mut descriptor: i32 = -1;
    let place = (&raw mut descriptor).cast();
    cuda!(
        driver,
        cuMemGetHandleForAddressRange(place, address, BYTES, DMA_BUF, 0)
    )
    .map_err(|error| Unreachable::Driver("cuMemGetHandleForAddressRange", error))?;
    if descriptor < 0 {
        return Err(Unreachable::NotExported);
    }
    // SAFETY: the driver has made it for us, and says so.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
