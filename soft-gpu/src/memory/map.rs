//! Mappings: where memory of the device and pinned memory of the host really is.
//!
//! Device memory lies in an anonymous file per device (so that it can be shared with other processes), mapped at
//! addresses that are device addresses and host addresses at once.
//!
//! # Safety
//!
//! A [`Mapping`] owns its range of addresses: it is the only one that maps over or unmaps it. Nothing here hands out
//! references into a mapping, since kernels, other threads and other processes write to it at any time.

#![expect(unsafe_code, reason = "mmap")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::threads::lock;
use driver_api::abi::CUresult;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// The unit in which device memory is taken from the ledger, and the granularity of `cuMemCreate`.
pub(crate) const GRANULARITY: u64 = 2 << 20;

/// A range of addresses of this process, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: u64,
    size: u64,
}

fn result(error: Errno) -> CUresult {
    match error {
        Errno::NOMEM | Errno::AGAIN | Errno::NFILE | Errno::MFILE | Errno::NOSPC => {
            CUresult::OUT_OF_MEMORY
        }
        _ => CUresult::OPERATING_SYSTEM,
    }
}

fn anonymous(
    address: u64,
    size: u64,
    protection: ProtFlags,
    flags: MapFlags,
) -> Result<u64, Errno> {
    let address = address as *mut core::ffi::c_void;
    // SAFETY: either the kernel chooses the place, or `flags` forbid replacing anything, or the caller owns the range.
    unsafe { rustix::mm::mmap_anonymous(address, size as usize, protection, flags) }
        .map(|base| base as u64)
}

impl Mapping {
    /// Zeroed memory of this process alone.
    pub(crate) fn anonymous(size: u64) -> Result<Self, CUresult> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let base = anonymous(0, size, protection, MapFlags::PRIVATE).map_err(result)?;
        Ok(Self { base, size })
    }

    /// Addresses without memory, exactly at `address`.
    pub(crate) fn reserve_at(address: u64, size: u64) -> Result<Self, CUresult> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
        let base = anonymous(address, size, ProtFlags::empty(), flags).map_err(result)?;
        let mapping = Self { base, size };
        // Old kernels take the address as a hint.
        if base == address {
            Ok(mapping)
        } else {
            Err(CUresult::OUT_OF_MEMORY)
        }
    }

    /// Addresses without memory at a multiple of [`GRANULARITY`], far from where Linux puts things: another process can have memory at them too.
    pub(crate) fn reserve_apart(size: u64) -> Result<Self, CUresult> {
        const FIRST: u64 = 0x6000_0000_0000;
        const END: u64 = 0x7000_0000_0000;
        const TRIES: u32 = 64;
        static NEXT: AtomicU64 = AtomicU64::new(FIRST);
        let taken = size.next_multiple_of(GRANULARITY);
        let from = |next: u64| {
            if next.saturating_add(taken) > END {
                FIRST
            } else {
                next
            }
        };
        // Begins again at the end: what has been given back since is free.
        let place = || {
            let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                Some(from(next).saturating_add(taken))
            });
            next.map_or_else(from, from)
        };
        let mut tries = (0..TRIES).map(|_| Self::reserve_at(place(), size));
        tries
            .find_map(Result::ok)
            .map_or_else(|| Self::reserve(size, GRANULARITY), Ok)
    }

    /// Addresses without memory, anywhere, at a multiple of `alignment` (a power of two).
    pub(crate) fn reserve(size: u64, alignment: u64) -> Result<Self, CUresult> {
        let padded = size.checked_add(alignment).ok_or(CUresult::OUT_OF_MEMORY)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let start = anonymous(0, padded, ProtFlags::empty(), flags).map_err(result)?;
        let base = start.next_multiple_of(alignment);
        // What is too much goes back with these two.
        drop(Self {
            base: start,
            size: base - start,
        });
        drop(Self {
            base: base + size,
            size: start + padded - (base + size),
        });
        Ok(Self { base, size })
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Puts a part of a file into a part of the range.
    pub(crate) fn place(
        &self,
        (address, size): (u64, u64),
        file: impl AsFd,
        offset: u64,
    ) -> Result<(), CUresult> {
        self.check(address, size)?;
        // SAFETY: the range is inside this mapping, which owns it.
        let placed = unsafe {
            rustix::mm::mmap(
                address as *mut core::ffi::c_void,
                size as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED,
                file,
                offset,
            )
        };
        placed.map(drop).map_err(result)
    }

    /// Takes the memory out of a part of the range again. `scratch` leaves memory there that belongs to nobody,
    /// for kernels that still access it.
    pub(crate) fn clear(&self, address: u64, size: u64, scratch: bool) -> Result<(), CUresult> {
        self.check(address, size)?;
        let protection = if scratch {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::empty()
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        anonymous(address, size, protection, flags)
            .map(drop)
            .map_err(result)
    }

    fn check(&self, address: u64, size: u64) -> Result<(), CUresult> {
        let inside = address >= self.base
            && address
                .checked_add(size)
                .is_some_and(|end| end <= self.base + self.size);
        if inside {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.size > 0 {
            // SAFETY: this mapping owns the range, and nothing refers to it any longer. It cannot fail for a range
            // that is mapped, except for want of kernel memory: then it stays.
            let _ = unsafe { rustix::mm::munmap(self.base as *mut _, self.size as usize) };
        }
    }
}

/// The file behind the plain memory of one device. Offsets are used once; what is freed becomes a hole.
#[derive(Debug)]
pub(crate) struct Store {
    file: OwnedFd,
    /// Its length.
    end: Mutex<u64>,
}

/// A new anonymous file.
pub(crate) fn memory_file(size: u64) -> Result<OwnedFd, CUresult> {
    let file = rustix::fs::memfd_create("gpurun-soft-gpu", MemfdFlags::CLOEXEC).map_err(result)?;
    rustix::fs::ftruncate(&file, size).map_err(result)?;
    Ok(file)
}

/// As [`memory_file`], of a size that nobody can change.
pub(crate) fn sealed_file(size: u64) -> Result<OwnedFd, CUresult> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("gpurun-soft-gpu", flags).map_err(result)?;
    rustix::fs::ftruncate(&file, size).map_err(result)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(result)?;
    Ok(file)
}

/// Memory of a device's store, mapped; given back when dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) mapping: Mapping,
    offset: u64,
}

/// Where a piece lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// In this process.
    pub(crate) base: u64,
    /// In the device's file.
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Piece {
    pub(crate) fn place(&self) -> Place {
        Place {
            base: self.mapping.base,
            offset: self.offset,
            size: self.mapping.size,
        }
    }
}

impl Store {
    /// A copy of its descriptor.
    pub(crate) fn file(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone()
    }

    pub(crate) fn new() -> Result<Self, CUresult> {
        Ok(Self {
            file: memory_file(0)?,
            end: Mutex::new(0),
        })
    }

    /// A zeroed piece; `size` is a multiple of [`GRANULARITY`].
    pub(crate) fn take(&self, size: u64) -> Result<Piece, CUresult> {
        self.take_in(Mapping::reserve(size, GRANULARITY)?)
    }

    /// A zeroed piece that fills these addresses, a multiple of [`GRANULARITY`].
    pub(crate) fn take_in(&self, mapping: Mapping) -> Result<Piece, CUresult> {
        let size = mapping.size;
        let offset = {
            let mut end = lock(&self.end);
            let offset = *end;
            rustix::fs::ftruncate(&self.file, offset + size).map_err(result)?;
            *end = offset + size;
            offset
        };
        mapping.place((mapping.base, size), &self.file, offset)?;
        Ok(Piece { mapping, offset })
    }

    /// Gives a piece's memory back to the machine.
    pub(crate) fn give_back(&self, piece: Piece) {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // If it fails, the memory comes back when the process ends.
        let _ = rustix::fs::fallocate(&self.file, punch, piece.offset, piece.mapping.size);
    }
}
