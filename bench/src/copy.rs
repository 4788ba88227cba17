//! `bench copy`: bytes to the device and back, beside a bare socket's stream of as many bytes in pieces of 1 MiB.

use serde::{Deserialize, Serialize};

use crate::client::{Round, Work, time_each};
use crate::driver::Gpu;
use crate::plan::Case;

/// A round of copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copies {
    bytes: usize,
    to_device: bool,
    pinned: bool,
    count: usize,
}

impl Copies {
    /// `count` copies of so many bytes.
    pub(crate) const fn new(bytes: usize, to_device: bool, pinned: bool, count: usize) -> Self {
        Self {
            bytes,
            to_device,
            pinned,
            count,
        }
    }
}

/// The cases.
pub(crate) fn cases(is_quick: bool) -> Vec<Case> {
    let sizes = [
        ("4 KiB", 4 << 10, 300),
        ("64 KiB", 64 << 10, 200),
        ("1 MiB", 1 << 20, 40),
        ("16 MiB", 16 << 20, 4),
        ("256 MiB", 256 << 20, 1),
    ];
    let mut cases = Vec::new();
    for (size, bytes, count) in sizes {
        for to_device in [true, false] {
            for pinned in [false, true] {
                let direction = if to_device { "to" } else { "from" };
                let kind = if pinned { "pinned" } else { "pageable" };
                let count = if is_quick { 1 } else { count };
                let mut case = Case::new(
                    &format!("{direction} device, {kind}, {size}"),
                    Work::Copy(Copies::new(bytes, to_device, pinned, count)),
                );
                case.bytes = bytes;
                case.floor = (!pinned).then_some(Work::Stream {
                    bytes,
                    there: to_device,
                    count,
                });
                cases.push(case);
            }
        }
    }
    cases.retain(|case| !is_quick || case.bytes <= 1 << 20);
    cases
}

/// The buffers of a process, grown as they are needed and touched before they are measured.
#[derive(Default)]
pub(crate) struct Buffers {
    pageable: Vec<u8>,
    pinned: Option<&'static mut [u8]>,
    device: Option<(u64, usize)>,
}

impl Buffers {
    fn device(&mut self, gpu: &Gpu, bytes: usize) -> Result<u64, String> {
        match self.device {
            Some((address, size)) if size >= bytes => Ok(address),
            old => {
                if let Some((address, _)) = old {
                    gpu.free(address)?;
                }
                let address = gpu.allocate(bytes)?;
                self.device = Some((address, bytes));
                Ok(address)
            }
        }
    }

    fn host(&mut self, gpu: &Gpu, bytes: usize, pinned: bool) -> Result<&mut [u8], String> {
        if !pinned {
            if self.pageable.len() < bytes {
                self.pageable = vec![1; bytes];
            }
            return Ok(&mut self.pageable[..bytes]);
        }
        if self
            .pinned
            .as_ref()
            .is_none_or(|buffer| buffer.len() < bytes)
        {
            self.pinned = Some(gpu.pinned(bytes)?);
        }
        let buffer = self.pinned.as_deref_mut().unwrap_or_default();
        Ok(&mut buffer[..bytes])
    }
}

/// One round.
///
/// # Errors
/// The driver's.
pub(crate) fn measure(gpu: &Gpu, buffers: &mut Buffers, copies: &Copies) -> Result<Round, String> {
    let device = buffers.device(gpu, copies.bytes)?;
    let host = buffers.host(gpu, copies.bytes, copies.pinned)?;
    time_each(copies.count, || {
        if copies.to_device {
            gpu.copy_to(device, host)
        } else {
            gpu.copy_from(device, host)
        }
    })
}
