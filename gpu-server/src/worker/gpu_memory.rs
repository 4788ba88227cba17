//! How the RDMA card reaches the memory of GPUs by itself: looked for as a session by RDMA begins, and told to both logs.
//!
//! What: a page of device memory is registered with the card and given back: as a dma-buf of the driver's where it exports one, else by its address, which works where a
//! kernel module of the driver's tells the card's what is there (peer memory, `nvidia-peermem`), and where device memory is the process's own (the software GPU). Rules:
//! the operator can refuse it; a failure is a finding, never an error of the session, and data goes through host memory then.
//!
//! # Safety
//! Out parameters are locals of the rows' types; the memory is freed after its export, which is closed before; what is registered is given back before that.
#![expect(unsafe_code, reason = "calls the driver")]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUdevice, CUdeviceptr};
use driver_api::result::CUresult;
use protocol::transport::rdma::RdmaError;
use protocol::transport::{DeviceMemory, Reached};

use super::context::attribute;
use crate::driver::cuda;

/// `CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED`.
const EXPORTS_DMA_BUF: u32 = 124;

/// `CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD`.
const DMA_BUF: u32 = 1;

/// `CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS`, and the bit that says that `cuFlushGPUDirectRDMAWrites` works.
const FLUSH_OPTIONS: u32 = 117;
const FLUSH_BY_HOST: i32 = 1;

/// `CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING`.
const WRITES_ORDERING: u32 = 118;

/// Who sees such writes: of `CUGPUDirectRDMAWritesOrdering` and `CUflushGPUDirectRDMAWritesScope` alike.
const BY_OWNER: u32 = 100;
const BY_ALL_DEVICES: u32 = 200;

/// `CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX`.
const CURRENT_CONTEXT: u32 = 0;

/// What is tried: the size of the driver's large pages, so that it is made of whole ones.
const BYTES: usize = 2 << 20;

/// What a dma-buf is made of.
const PAGE_BYTES: u64 = 4096;

/// How a card reaches memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The driver exports it as a dma-buf.
    DmaBuf,
    /// The card takes its address.
    PeerMemory,
}

/// Why the card does not reach it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
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
    #[error("the NIC refuses: {0}")]
    Card(#[from] RdmaError),
    /// Neither way works.
    #[error("by dma-buf: {by_dma_buf}; by peer memory: {by_address}")]
    Neither {
        /// Why not by a dma-buf.
        by_dma_buf: Box<Self>,
        /// Why not by its address.
        by_address: Box<Self>,
    },
}

/// The finding, for people; `reads`: whether the card can read the client's memory, too.
pub(super) fn describe(found: &Result<Reach, Unreachable>, reads: bool) -> String {
    let way = match found {
        Ok(Reach::DmaBuf) => "dma-buf",
        Ok(Reach::PeerMemory) => "peer memory",
        Err(reason) => return format!("GPU memory by way of host memory: {reason}"),
    };
    let which = match reads {
        true => "from and to",
        false => "from",
    };
    format!("large copies {which} the GPU go directly, by {way}")
}

/// How a device's work comes to see what a card has written into its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It does once the card says that it is written.
    AtOnce,
    /// Once the driver has flushed it, so far.
    Flushed(u32),
}

impl Seen {
    /// Of a device of a session with so many; nothing where it cannot be made sure. Their other devices may read the memory as well.
    pub(super) fn of(driver: &Driver, device: CUdevice, devices: i32) -> Option<Self> {
        let scope = match devices {
            ..=1 => BY_OWNER,
            _ => BY_ALL_DEVICES,
        };
        let number = |which| attribute(driver, device, which).unwrap_or(0);
        let ordering = u32::try_from(number(WRITES_ORDERING)).unwrap_or(0);
        let can_flush = number(FLUSH_OPTIONS) & FLUSH_BY_HOST != 0;
        match ordering >= scope {
            true => Some(Self::AtOnce),
            false => can_flush.then_some(Self::Flushed(scope)),
        }
    }

    /// Makes it so; the memory's context is current.
    ///
    /// # Errors
    /// The driver refuses.
    pub(super) fn make_sure(self, driver: &Driver) -> Result<(), CUresult> {
        match self {
            Self::AtOnce => Ok(()),
            Self::Flushed(scope) => {
                cuda!(driver, cuFlushGPUDirectRDMAWrites(CURRENT_CONTEXT, scope))
            }
        }
    }
}

/// Looks how a page of a device's memory comes to the card: `register` registers it, and gives it back.
///
/// # Errors
/// [`Unreachable`].
pub(super) fn probe(
    driver: &Driver,
    device: CUdevice,
    register: impl Fn(&DeviceMemory<'_>) -> Result<(), RdmaError>,
) -> Result<Reach, Unreachable> {
    let mut context = CUcontext(0);
    cuda!(driver, cuDevicePrimaryCtxRetain(&mut context, device))
        .map_err(|error| Unreachable::Driver("cuDevicePrimaryCtxRetain", error))?;
    let exports = attribute(driver, device, EXPORTS_DMA_BUF) == Some(1);
    let found = probe_in(driver, context, exports, register);
    // The finding is what is told.
    let _ = cuda!(driver, cuCtxSetCurrent(CUcontext(0)));
    let _ = cuda!(driver, cuDevicePrimaryCtxRelease_v2(device));
    found
}

fn probe_in(
    driver: &Driver,
    context: CUcontext,
    exports: bool,
    register: impl Fn(&DeviceMemory<'_>) -> Result<(), RdmaError>,
) -> Result<Reach, Unreachable> {
    cuda!(driver, cuCtxSetCurrent(context))
        .map_err(|error| Unreachable::Driver("cuCtxSetCurrent", error))?;
    let mut address: CUdeviceptr = 0;
    cuda!(driver, cuMemAlloc_v2(&mut address, BYTES))
        .map_err(|error| Unreachable::Driver("cuMemAlloc", error))?;
    let found = try_both(exports, |reach| {
        with_memory(driver, reach, (address, BYTES), &register)
    });
    cuda!(driver, cuMemFree_v2(address))
        .map_err(|error| Unreachable::Driver("cuMemFree", error))?;
    found
}

/// A dma-buf needs no module beside the driver's, so it is tried first.
fn try_both(
    exports: bool,
    tried: impl Fn(Reach) -> Result<(), Unreachable>,
) -> Result<Reach, Unreachable> {
    let by_dma_buf = match exports {
        true => tried(Reach::DmaBuf),
        false => Err(Unreachable::NotExported),
    };
    let Err(by_dma_buf) = by_dma_buf else {
        return Ok(Reach::DmaBuf);
    };
    match tried(Reach::PeerMemory) {
        Ok(()) => Ok(Reach::PeerMemory),
        Err(by_address) => Err(Unreachable::Neither {
            by_dma_buf: Box::new(by_dma_buf),
            by_address: Box::new(by_address),
        }),
    }
}

/// Does something with a range of device memory as a card finds it. The memory's context is current.
///
/// # Errors
/// The driver exports nothing; what `then` says.
pub(crate) fn with_memory<T>(
    driver: &Driver,
    reach: Reach,
    (address, length): (CUdeviceptr, usize),
    then: impl FnOnce(&DeviceMemory<'_>) -> Result<T, RdmaError>,
) -> Result<T, Unreachable> {
    let exported = match reach {
        Reach::DmaBuf => Some(export(driver, address, length)?),
        Reach::PeerMemory => None,
    };
    let reached = match &exported {
        Some((buffer, offset)) => Reached::ByDmaBuf {
            buffer: buffer.as_fd(),
            offset: *offset,
        },
        None => Reached::ByAddress,
    };
    let memory = DeviceMemory {
        address,
        length,
        reached,
    };
    Ok(then(&memory)?)
}

/// Whole pages around a range, and where in them it is.
fn pages_of(address: CUdeviceptr, length: usize) -> (CUdeviceptr, usize, u64) {
    let offset = address % PAGE_BYTES;
    let whole = (offset + length as u64).next_multiple_of(PAGE_BYTES);
    (address - offset, whole as usize, offset)
}

fn export(
    driver: &Driver,
    address: CUdeviceptr,
    length: usize,
) -> Result<(OwnedFd, u64), Unreachable> {
    let (start, whole, offset) = pages_of(address, length);
    let mut descriptor: i32 = -1;
    let place = (&raw mut descriptor).cast();
    cuda!(
        driver,
        cuMemGetHandleForAddressRange(place, start, whole, DMA_BUF, 0)
    )
    .map_err(|error| Unreachable::Driver("cuMemGetHandleForAddressRange", error))?;
    if descriptor < 0 {
        return Err(Unreachable::NotExported);
    }
    // SAFETY: the driver has made it for us, and says so.
    Ok((unsafe { OwnedFd::from_raw_fd(descriptor) }, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dma_buf_is_of_whole_pages() {
        assert_eq!(pages_of(0x20_0000, 4096), (0x20_0000, 4096, 0));
        assert_eq!(pages_of(0x20_0001, 4096), (0x20_0000, 8192, 1));
        assert_eq!(pages_of(0x20_0FFF, 1), (0x20_0000, 4096, 0xFFF));
        assert_eq!(pages_of(0x20_0FFF, 2), (0x20_0000, 8192, 0xFFF));
    }
}
