//! Memory that is registered with a card: our own, and someone else's for a while.
//!
//! What: [`Region`] is mapped and registered as long as it lives; [`LentMemory`] is registered for what it was lent, and no longer than its owner vouches for it.
//! Rules: what a registration is open to is said by its [`Access`], and nothing more is; ending it is the end of every access by it.
//!
//! # Safety
//! A registration ends once, and before its device. A region is a mapping of our own, never given to anyone as a reference: the card writes it. Lent memory is only
//! read by the card, or is a device's.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rdma_sys::{ibv_access_flags, ibv_mr, ibv_sge};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::super::super::{DeviceMemory, Reached, RemoteMemory};
use super::super::RdmaError;
use super::{Device, failed};

impl Device {
    /// Registers memory by its address.
    ///
    /// # Safety
    /// The memory is what the access makes of it until the registration is given back: readable by the card, or its to write.
    unsafe fn register(
        &self,
        (address, length): (u64, usize),
        access: Access,
    ) -> Result<NonNull<ibv_mr>, RdmaError> {
        let address = std::ptr::without_provenance_mut(address as usize);
        // SAFETY: the domain lives; the address is looked at by the kernel alone; the rest is the caller's promise.
        let region = unsafe {
            (self.library.ibv_reg_mr)(self.domain.as_ptr(), address, length, access.flags())
        };
        NonNull::new(region).ok_or_else(|| failed("ibv_reg_mr"))
    }

    /// Registers bytes of a dma-buf under the addresses that the device has for them.
    fn register_dma_buf(
        &self,
        buffer: BorrowedFd<'_>,
        offset: u64,
        (address, length): (u64, usize),
        access: Access,
    ) -> Result<NonNull<ibv_mr>, RdmaError> {
        let Some(register) = self.library.ibv_reg_dmabuf_mr else {
            return Err(RdmaError::TooOld("ibv_reg_dmabuf_mr"));
        };
        // SAFETY: the domain lives; the library keeps the buffer by a reference of its own.
        let region = unsafe {
            register(
                self.domain.as_ptr(),
                offset,
                length,
                address,
                buffer.as_raw_fd(),
                access.flags(),
            )
        };
        NonNull::new(region).ok_or_else(|| failed("ibv_reg_dmabuf_mr"))
    }
}

/// Memory of our own that the card reads or writes.
pub(in crate::transport::rdma) struct Region {
    device: Arc<Device>,
    start: NonNull<u8>,
    length: usize,
    region: NonNull<ibv_mr>,
}

// SAFETY: it is a mapping and a registration, neither bound to a thread; who touches the bytes is decided by its user.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps and registers `length` bytes of zeros; the peer may write them if `remote` says so, nobody else can.
    pub(in crate::transport::rdma) fn new(
        device: &Arc<Device>,
        length: usize,
        remote: bool,
    ) -> Result<Self, RdmaError> {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                length,
                flags,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let mapping = |error: rustix::io::Errno| RdmaError::Verbs {
            what: "mmap",
            source: error.into(),
        };
        let start = mapped.map_err(mapping)?;
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(failed("mmap"));
        };
        let result = Self::register(device, start, length, remote);
        if result.is_err() {
            // SAFETY: mapped above, used by nothing.
            let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), length) };
        }
        result
    }

    fn register(
        device: &Arc<Device>,
        start: NonNull<u8>,
        length: usize,
        remote: bool,
    ) -> Result<Self, RdmaError> {
        // A child after `fork` has no business here, and with the pages it would take them away from under the card.
        // SAFETY: the mapping is ours; the advice changes nothing in this process.
        let advised =
            unsafe { rustix::mm::madvise(start.as_ptr().cast(), length, Advice::LinuxDontFork) };
        advised.map_err(|error| RdmaError::Verbs {
            what: "madvise",
            source: error.into(),
        })?;
        let local = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE;
        let access = if remote {
            local | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE
        } else {
            local
        };
        // SAFETY: the domain lives; the mapping stays until the registration is given back.
        let region = unsafe {
            (device.library.ibv_reg_mr)(
                device.domain.as_ptr(),
                start.as_ptr().cast(),
                length,
                access.0.cast_signed(),
            )
        };
        let region = NonNull::new(region).ok_or_else(|| failed("ibv_reg_mr"))?;
        Ok(Self {
            device: Arc::clone(device),
            start,
            length,
            region,
        })
    }

    /// Where a position of it is, for the peer.
    pub(in crate::transport::rdma) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    pub(in crate::transport::rdma) fn remote_key(&self) -> u32 {
        // SAFETY: the registration lives; it is a plain number.
        unsafe { (*self.region.as_ptr()).rkey }
    }

    /// For the card, from `offset` on.
    pub(in crate::transport::rdma) fn source(&self, offset: u64) -> Source {
        Source {
            address: self.address() + offset,
            // SAFETY: as above.
            key: unsafe { (*self.region.as_ptr()).lkey },
        }
    }

    /// Copies bytes in at `offset`; what is outside is not copied.
    pub(in crate::transport::rdma) fn write(&self, offset: usize, bytes: &[u8]) {
        let length = bytes.len().min(self.length.saturating_sub(offset));
        // SAFETY: inside the mapping; the card does not read this place now, as the ring's counts say.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), length)
        };
    }

    /// Copies bytes out to memory that its owner vouched for.
    ///
    /// # Safety
    /// `destination` is valid for writes of `length` bytes.
    pub(in crate::transport::rdma) unsafe fn read(
        &self,
        offset: usize,
        destination: *mut u8,
        length: usize,
    ) {
        let length = length.min(self.length.saturating_sub(offset));
        // SAFETY: inside the mapping; the completion that announced these bytes was seen, and the peer writes them again only after
        // our credit. A peer that does not keep to that garbles its own bytes, which are copied before they are understood.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), destination, length)
        };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: both were made in `new`, and the queue pairs that used them are gone. A failure leaves it to the process's end.
        unsafe {
            (self.device.library.ibv_dereg_mr)(self.region.as_ptr());
            let _ = rustix::mm::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}

/// What registered memory is open to, beside the card's own reading.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport::rdma) enum Access {
    /// Nothing: nobody can write it, nor use its key from outside.
    Nothing,
    /// The peer's reading, by its key.
    RemoteRead,
    /// The card's own writing.
    LocalWrite,
}

impl Access {
    const fn flags(self) -> c_int {
        let flags = match self {
            Self::Nothing => ibv_access_flags(0),
            Self::RemoteRead => ibv_access_flags::IBV_ACCESS_REMOTE_READ,
            Self::LocalWrite => ibv_access_flags::IBV_ACCESS_LOCAL_WRITE,
        };
        flags.0.cast_signed()
    }
}

/// Memory of someone else that is the card's for a while, for what it was registered.
pub(in crate::transport::rdma) struct LentMemory {
    device: Arc<Device>,
    start: u64,
    length: usize,
    region: NonNull<ibv_mr>,
}

// SAFETY: as a region.
unsafe impl Send for LentMemory {}
// SAFETY: as above.
unsafe impl Sync for LentMemory {}

impl LentMemory {
    /// Registers it, to be read by the card, and by the peer where that is said. The kernel holds its pages, so that they can be read even if they
    /// are unmapped meanwhile.
    ///
    /// # Safety
    /// `start` is readable for `length` bytes until this is dropped.
    pub(in crate::transport::rdma) unsafe fn new(
        device: &Arc<Device>,
        (start, length): (*const u8, usize),
        is_offered: bool,
    ) -> Result<Self, RdmaError> {
        let access = match is_offered {
            true => Access::RemoteRead,
            false => Access::Nothing,
        };
        let start = start as u64;
        // SAFETY: by either access it is only read, which the caller vouches for.
        let region = unsafe { device.register((start, length), access) }?;
        Ok(Self {
            device: Arc::clone(device),
            start,
            length,
            region,
        })
    }

    /// Registers memory of a device: by the driver's dma-buf, or by its address, which a kernel module then makes the card's (peer memory).
    ///
    /// # Safety
    /// The memory stays the device's until this is dropped, and what the card writes there by this access is wanted.
    pub(in crate::transport::rdma) unsafe fn of_device(
        device: &Arc<Device>,
        memory: &DeviceMemory<'_>,
        access: Access,
    ) -> Result<Self, RdmaError> {
        let (start, length) = (memory.address, memory.length);
        let region = match memory.reached {
            // SAFETY: the caller's promise.
            Reached::ByAddress => unsafe { device.register((start, length), access) }?,
            Reached::ByDmaBuf { buffer, offset } => {
                device.register_dma_buf(buffer, offset, (start, length), access)?
            }
        };
        Ok(Self {
            device: Arc::clone(device),
            start,
            length,
            region,
        })
    }

    pub(in crate::transport::rdma) fn length(&self) -> usize {
        self.length
    }

    /// What the peer has to know of it, if it is offered.
    pub(in crate::transport::rdma) fn told(&self) -> RemoteMemory {
        RemoteMemory {
            address: self.start,
            length: self.length,
            // SAFETY: the registration lives; it is a plain number.
            key: unsafe { (*self.region.as_ptr()).rkey },
        }
    }

    /// Where the card finds a part of it, if it has that.
    pub(in crate::transport::rdma) fn part(&self, offset: u64, length: u64) -> Option<Source> {
        let end = offset.checked_add(length)?;
        // SAFETY: the registration lives; it is a plain number.
        let key = unsafe { (*self.region.as_ptr()).lkey };
        let address = self.start.checked_add(offset)?;
        (end <= self.length as u64).then_some(Source { address, key })
    }

    /// Where the card finds a piece, if all of it is in this memory.
    pub(in crate::transport::rdma) fn source(&self, piece: &[u8]) -> Option<Source> {
        let address = piece.as_ptr() as u64;
        let offset = address.checked_sub(self.start)?;
        let end = offset.checked_add(piece.len() as u64)?;
        // SAFETY: the registration lives; it is a plain number.
        let key = unsafe { (*self.region.as_ptr()).lkey };
        (end <= self.length as u64).then_some(Source { address, key })
    }
}

impl Drop for LentMemory {
    fn drop(&mut self) {
        // SAFETY: made in `new`. Requests that still name it end with an error, and the connection with them.
        unsafe { (self.device.library.ibv_dereg_mr)(self.region.as_ptr()) };
    }
}

/// Where the card finds bytes to send, in a region or in memory that is lent; or puts what it reads, in a device's.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport::rdma) struct Source {
    address: u64,
    key: u32,
}

impl Source {
    /// So many bytes there, as a request names them.
    pub(super) fn piece(self, length: u64) -> ibv_sge {
        ibv_sge {
            addr: self.address,
            length: u32::try_from(length).unwrap_or(0),
            lkey: self.key,
        }
    }
}
