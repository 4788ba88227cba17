//! Copies in one, two and three dimensions.
//!
//! | from, to | the call returns |
//! |---|---|
//! | a synchronous copy | when it is done (device to device: when posted) |
//! | asynchronous, both pinned or device | when posted |
//! | asynchronous, from pageable memory | up to 1 MiB: when the bytes are taken; else when done |
//! | asynchronous, to pageable memory | when done |
//!
//! # Safety
//!
//! Descriptions of copies are read through pointers that the caller passed. What is copied was checked against the address space
//! when the copy was posted, and lives until the context is idle; pageable memory is the program's own promise.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_void};

use driver_api::abi::{CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUcontext, CUdeviceptr, CUresult, CUstream};

use super::{Memory, raw};
use crate::entry::done;
use crate::state::driver;
use crate::stream::find;

/// Pageable bytes that an asynchronous copy takes along instead of waiting.
const MAX_STAGED_BYTES: u64 = 1 << 20;

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// Host memory, pinned or not.
    Host(u64),
    /// Memory that the device must be able to access.
    Device(u64),
    /// Whichever the address turns out to be.
    Any(u64),
}

impl End {
    fn address(self) -> u64 {
        match self {
            Self::Host(address) | Self::Device(address) | Self::Any(address) => address,
        }
    }

    /// Whether the program may change or take away the memory while the copy is under way.
    fn is_pageable(self, memory: &Memory, size: u64) -> Result<bool, CUresult> {
        let (address, space) = (self.address(), memory.space());
        let known = space.find(address).is_some();
        if space.is_accessible(address, size) {
            return Ok(false);
        }
        match self {
            Self::Device(_) => Err(CUresult::INVALID_VALUE),
            Self::Any(_) if known => Err(CUresult::INVALID_VALUE),
            _ if address == 0 => Err(CUresult::INVALID_VALUE),
            _ => Ok(true),
        }
    }
}

/// The shape of a copy, in bytes, rows and slices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    width: u64,
    height: u64,
    depth: u64,
    destination: Pitch,
    source: Pitch,
}

/// Distance of rows and of slices.
#[derive(Debug, Clone, Copy)]
struct Pitch {
    row: u64,
    slice: u64,
}

impl Shape {
    pub(super) fn line(size: usize) -> Self {
        let pitch = Pitch {
            row: size as u64,
            slice: size as u64,
        };
        Self {
            width: size as u64,
            height: 1,
            depth: 1,
            destination: pitch,
            source: pitch,
        }
    }

    fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// From the first byte to behind the last.
    fn extent(&self, pitch: Pitch) -> Result<u64, CUresult> {
        let rows = (self.height - 1).checked_mul(pitch.row);
        let slices = (self.depth - 1).checked_mul(pitch.slice);
        rows.zip(slices)
            .and_then(|(rows, slices)| rows.checked_add(slices))
            .and_then(|start| start.checked_add(self.width))
            .ok_or(CUresult::INVALID_VALUE)
    }

    /// Whether rows and slices follow each other without gaps on both sides.
    fn is_dense(&self) -> bool {
        let dense = |pitch: Pitch| {
            (self.height == 1 || pitch.row == self.width)
                && (self.depth == 1 || pitch.slice == self.width * self.height)
        };
        dense(self.destination) && dense(self.source)
    }

    fn perform(&self, destination: u64, source: u64) {
        if self.is_dense() {
            let size = self.width * self.height * self.depth;
            // SAFETY: both extents were checked when the copy was posted, or are the program's own promise.
            unsafe { raw::copy(destination, source, size as usize) };
            return;
        }
        for slice in 0..self.depth {
            for row in 0..self.height {
                let to = destination + slice * self.destination.slice + row * self.destination.row;
                let from = source + slice * self.source.slice + row * self.source.row;
                // SAFETY: as above.
                unsafe { raw::copy(to, from, self.width as usize) };
            }
        }
    }
}

/// When the call may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// When the copy is done.
    Done,
    /// As soon as nobody could tell the difference.
    Posted,
}

/// A copy at its place in a stream.
pub(super) fn copy(
    destination: End,
    source: End,
    shape: Shape,
    stream: CUstream,
    when: When,
) -> Result<(), CUresult> {
    let (context, stream) = find(stream)?;
    if shape.is_empty() {
        return Ok(());
    }
    let memory = &driver()?.memory;
    let source_extent = shape.extent(shape.source)?;
    let to_pageable = destination.is_pageable(memory, shape.extent(shape.destination)?)?;
    let from_pageable = source.is_pageable(memory, source_extent)?;
    let (to, from) = (destination.address(), source.address());
    let work = move || {
        shape.perform(to, from);
        Ok(())
    };
    if when == When::Done || to_pageable || (from_pageable && source_extent > MAX_STAGED_BYTES) {
        return context.run(&stream, work);
    }
    if from_pageable {
        let mut staged = vec![0u8; source_extent as usize];
        // SAFETY: the program says that its memory is there, and the vector is as long.
        unsafe { raw::copy(staged.as_mut_ptr() as u64, from, staged.len()) };
        context.post(&stream, move || {
            shape.perform(to, staged.as_ptr() as u64);
            Ok(())
        });
    } else {
        context.post(&stream, work);
    }
    Ok(())
}

fn line(to: End, from: End, size: usize, when: When) -> CUresult {
    done(copy(to, from, Shape::line(size), CUstream(0), when))
}

fn line_in(stream: CUstream, to: End, from: End, size: usize) -> CUresult {
    done(copy(to, from, Shape::line(size), stream, When::Posted))
}

pub(crate) unsafe fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, byte_count: usize) -> CUresult {
    line(End::Any(dst), End::Any(src), byte_count, When::Done)
}

pub(crate) unsafe fn cuMemcpyAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    line_in(stream, End::Any(dst), End::Any(src), byte_count)
}

pub(crate) unsafe fn cuMemcpyHtoD_v2(
    dst_device: CUdeviceptr,
    src_host: *const c_void,
    byte_count: usize,
) -> CUresult {
    let host = End::Host(src_host as u64);
    line(End::Device(dst_device), host, byte_count, When::Done)
}

pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
    dst_device: CUdeviceptr,
    src_host: *const c_void,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    line_in(
        stream,
        End::Device(dst_device),
        End::Host(src_host as u64),
        byte_count,
    )
}

pub(crate) unsafe fn cuMemcpyDtoH_v2(
    dst_host: *mut c_void,
    src_device: CUdeviceptr,
    byte_count: usize,
) -> CUresult {
    let host = End::Host(dst_host as u64);
    line(host, End::Device(src_device), byte_count, When::Done)
}

pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
    dst_host: *mut c_void,
    src_device: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    line_in(
        stream,
        End::Host(dst_host as u64),
        End::Device(src_device),
        byte_count,
    )
}

pub(crate) unsafe fn cuMemcpyDtoD_v2(
    dst_device: CUdeviceptr,
    src_device: CUdeviceptr,
    byte_count: usize,
) -> CUresult {
    line(
        End::Device(dst_device),
        End::Device(src_device),
        byte_count,
        When::Posted,
    )
}

pub(crate) unsafe fn cuMemcpyDtoDAsync_v2(
    dst_device: CUdeviceptr,
    src_device: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    line_in(
        stream,
        End::Device(dst_device),
        End::Device(src_device),
        byte_count,
    )
}

pub(crate) unsafe fn cuMemcpyPeer(
    dst_device: CUdeviceptr,
    _dst_context: CUcontext,
    src_device: CUdeviceptr,
    _src_context: CUcontext,
    byte_count: usize,
) -> CUresult {
    line(
        End::Device(dst_device),
        End::Device(src_device),
        byte_count,
        When::Posted,
    )
}

pub(crate) unsafe fn cuMemcpyPeerAsync(
    dst_device: CUdeviceptr,
    _dst_context: CUcontext,
    src_device: CUdeviceptr,
    _src_context: CUcontext,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    line_in(
        stream,
        End::Device(dst_device),
        End::Device(src_device),
        byte_count,
    )
}

/// One side of a 2D or 3D copy as the driver's structures describe it.
struct Side {
    kind: c_uint,
    host: u64,
    device: u64,
    /// Bytes, rows, slices.
    origin: [usize; 3],
    pitch: usize,
    /// Rows of a slice.
    height: usize,
}

impl Side {
    /// The first byte, and the distances.
    fn resolve(&self, width: usize, rows: usize) -> Result<(End, Pitch), CUresult> {
        const HOST: c_uint = 1;
        const DEVICE: c_uint = 2;
        const UNIFIED: c_uint = 4;
        let row = if self.pitch == 0 { width } else { self.pitch };
        let height = if self.height == 0 { rows } else { self.height };
        if rows > 1 && row < width.saturating_add(self.origin[0]) {
            return Err(CUresult::INVALID_VALUE);
        }
        let slice = row.checked_mul(height).ok_or(CUresult::INVALID_VALUE)?;
        let [x, y, z] = self.origin;
        let offset = row
            .checked_mul(y)
            .zip(slice.checked_mul(z))
            .and_then(|(rows, slices)| rows.checked_add(slices)?.checked_add(x))
            .ok_or(CUresult::INVALID_VALUE)?;
        let at = |base: u64| {
            base.checked_add(offset as u64)
                .ok_or(CUresult::INVALID_VALUE)
        };
        let end = match self.kind {
            HOST => End::Host(at(self.host)?),
            DEVICE => End::Device(at(self.device)?),
            UNIFIED => End::Any(at(self.device)?),
            _ => return Err(CUresult::NOT_SUPPORTED),
        };
        Ok((
            end,
            Pitch {
                row: row as u64,
                slice: slice as u64,
            },
        ))
    }
}

fn rectangle(
    from: &Side,
    to: &Side,
    [width, height, depth]: [usize; 3],
    stream: CUstream,
    when: When,
) -> Result<(), CUresult> {
    let (source, source_pitch) = from.resolve(width, height)?;
    let (destination, destination_pitch) = to.resolve(width, height)?;
    let shape = Shape {
        width: width as u64,
        height: height as u64,
        depth: depth as u64,
        destination: destination_pitch,
        source: source_pitch,
    };
    copy(destination, source, shape, stream, when)
}

/// # Safety
///
/// `parameters` is null or points to a description of a copy.
unsafe fn copy_2d(
    parameters: *const CUDA_MEMCPY2D,
    stream: CUstream,
    when: When,
) -> Result<(), CUresult> {
    if parameters.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let copy = unsafe { parameters.read_unaligned() };
    let from = Side {
        kind: copy.src_memory_type,
        host: copy.src_host as u64,
        device: copy.src_device,
        origin: [copy.src_x_in_bytes, copy.src_y, 0],
        pitch: copy.src_pitch,
        height: 0,
    };
    let to = Side {
        kind: copy.dst_memory_type,
        host: copy.dst_host as u64,
        device: copy.dst_device,
        origin: [copy.dst_x_in_bytes, copy.dst_y, 0],
        pitch: copy.dst_pitch,
        height: 0,
    };
    rectangle(
        &from,
        &to,
        [copy.width_in_bytes, copy.height, 1],
        stream,
        when,
    )
}

pub(crate) unsafe fn cuMemcpy2D_v2(copy: *const CUDA_MEMCPY2D) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_2d(copy, CUstream(0), When::Done) })
}

pub(crate) unsafe fn cuMemcpy2DUnaligned_v2(copy: *const CUDA_MEMCPY2D) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_2d(copy, CUstream(0), When::Done) })
}

pub(crate) unsafe fn cuMemcpy2DAsync_v2(copy: *const CUDA_MEMCPY2D, stream: CUstream) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_2d(copy, stream, When::Posted) })
}

/// # Safety
///
/// `parameters` is null or points to a description of a copy.
unsafe fn copy_3d(
    parameters: *const CUDA_MEMCPY3D,
    stream: CUstream,
    when: When,
) -> Result<(), CUresult> {
    if parameters.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let copy = unsafe { parameters.read_unaligned() };
    let from = Side {
        kind: copy.src_memory_type,
        host: copy.src_host as u64,
        device: copy.src_device,
        origin: [copy.src_x_in_bytes, copy.src_y, copy.src_z],
        pitch: copy.src_pitch,
        height: copy.src_height,
    };
    let to = Side {
        kind: copy.dst_memory_type,
        host: copy.dst_host as u64,
        device: copy.dst_device,
        origin: [copy.dst_x_in_bytes, copy.dst_y, copy.dst_z],
        pitch: copy.dst_pitch,
        height: copy.dst_height,
    };
    rectangle(
        &from,
        &to,
        [copy.width_in_bytes, copy.height, copy.depth],
        stream,
        when,
    )
}

pub(crate) unsafe fn cuMemcpy3D_v2(copy: *const CUDA_MEMCPY3D) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_3d(copy, CUstream(0), When::Done) })
}

pub(crate) unsafe fn cuMemcpy3DAsync_v2(copy: *const CUDA_MEMCPY3D, stream: CUstream) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_3d(copy, stream, When::Posted) })
}
