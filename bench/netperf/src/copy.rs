//! Bytes to the device and back.

use serde::{Deserialize, Serialize};

use crate::driver::Gpu;
use crate::round::{Round, time_each};

/// A round of copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    bytes: usize,
    to_device: bool,
    pinned: bool,
    count: usize,
}

impl Copies {
    /// The same copies, not one of them made: what they need is there afterwards.
    #[must_use]
    pub fn prepared(&self) -> Self {
        Self {
            count: 0,
            ..self.clone()
        }
    }

    /// `count` copies of so many bytes.
    #[must_use]
    pub const fn new(bytes: usize, to_device: bool, pinned: bool, count: usize) -> Self {
        Self {
            bytes,
            to_device,
            pinned,
            count,
        }
    }
}

/// The buffers of a process, grown as they are needed and touched before they are measured.
#[derive(Debug, Default)]
pub struct Buffers {
    pageable: Vec<u8>,
    pinned: Option<&'static mut [u8]>,
    device: Option<(u64, usize)>,
}

impl Buffers {
    fn device(&mut self, gpu: &Gpu, bytes: usize) -> Result<u64, String> {
        if let Some((address, size)) = self.device
            && size >= bytes
        {
            return Ok(address);
        }
        // Forgotten first: if there is no more, what was there is gone.
        if let Some((address, _)) = self.device.take() {
            gpu.free(address)?;
        }
        let address = gpu.allocate(bytes)?;
        self.device = Some((address, bytes));
        Ok(address)
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
pub fn measure(gpu: &Gpu, buffers: &mut Buffers, copies: &Copies) -> Result<Round, String> {
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
