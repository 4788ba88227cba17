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
//! when the copy was posted, or just now if it is a graph's, and lives until the context is idle or its stream has come to the free.
//! Pageable memory is the program's own promise, which it makes with the copy: what was the device's then never becomes pageable.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_void};

use driver_api::abi::{CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUarray, CUdeviceptr, CUresult, CUstream};

use super::{Memory, raw};
use crate::entry::done;
use crate::state::driver;
use crate::stream::{Operation, find};

/// Pageable bytes that an asynchronous copy takes along instead of waiting.
const MAX_STAGED_BYTES: u64 = 1 << 20;

/// `CU_MEMORYTYPE_*`
const HOST: c_uint = 1;
const DEVICE: c_uint = 2;
const ARRAY: c_uint = 3;
const UNIFIED: c_uint = 4;

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// Host memory, pinned or not.
    Host(u64),
    /// Memory that the device must be able to access.
    Device(u64),
    /// Whichever the address turns out to be.
    Any(u64),
    /// A place in an array.
    Array(InArray),
}

/// Where a box begins in an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct InArray {
    address: u64,
    array: CUarray,
    /// Bytes, rows, slices.
    origin: [usize; 3],
}

impl End {
    fn kind(self) -> c_uint {
        match self {
            Self::Host(_) => HOST,
            Self::Device(_) => DEVICE,
            Self::Array(_) => ARRAY,
            Self::Any(_) => UNIFIED,
        }
    }

    fn address(self) -> u64 {
        match self {
            Self::Host(address) | Self::Device(address) | Self::Any(address) => address,
            Self::Array(place) => place.address,
        }
    }

    /// The array, and where the box begins in it.
    fn array(self) -> (CUarray, [usize; 3]) {
        match self {
            Self::Array(place) => (place.array, place.origin),
            _ => (CUarray(0), [0; 3]),
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
            Self::Device(_) | Self::Array(_) => Err(CUresult::INVALID_VALUE),
            Self::Any(_) if known => Err(CUresult::INVALID_VALUE),
            _ if address == 0 => Err(CUresult::INVALID_VALUE),
            _ => Ok(true),
        }
    }
}

/// The shape of a copy, in bytes, rows and slices.
#[derive(Debug, Clone, Copy)]
struct Shape {
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
    fn line(size: usize) -> Self {
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
    /// The same, and its source is not read any more.
    SourceRead,
}

/// A copy.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    destination: End,
    source: End,
    shape: Shape,
    /// Which ends were pageable memory when the copy was made.
    pageable: Pageable,
    /// The source's bytes, taken along.
    staged: Option<std::sync::Arc<Vec<u8>>>,
}

/// Whether destination and source are memory that the program may change or take away meanwhile.
#[derive(Debug, Clone, Copy, Default)]
struct Pageable {
    destination: bool,
    source: bool,
}

impl Copy {
    /// Checks the memory, and notes what is pageable.
    fn settle(&mut self) -> Result<(), CUresult> {
        if self.shape.is_empty() {
            return Ok(());
        }
        let memory = &driver()?.memory;
        let shape = &self.shape;
        let (to, from) = (
            shape.extent(shape.destination)?,
            shape.extent(shape.source)?,
        );
        self.pageable = Pageable {
            destination: self.destination.is_pageable(memory, to)?,
            source: self.source.is_pageable(memory, from)?,
        };
        Ok(())
    }

    /// Whether both ends are memory that a device reaches by address.
    pub(crate) fn is_of_devices(&self) -> bool {
        let is_array = |end| matches!(end, End::Array(_));
        let Pageable {
            destination,
            source,
        } = self.pageable;
        !(destination || source || is_array(self.destination) || is_array(self.source))
    }

    fn reads_device(&self) -> Result<bool, CUresult> {
        let space = driver()?.memory.space();
        let source = space.find(self.source.address());
        Ok(source.is_some_and(|region| !region.is_host()))
    }

    /// So many bytes in a row between any two addresses, checked.
    pub(super) fn unified(
        destination: CUdeviceptr,
        source: CUdeviceptr,
        size: usize,
    ) -> Result<Self, CUresult> {
        let mut copy = of_line(End::Any(destination), End::Any(source), size);
        copy.settle().map(|()| copy)
    }

    /// Whether the memory that was not pageable is still there.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        if self.shape.is_empty() {
            return Ok(());
        }
        let memory = &driver()?.memory;
        let there = |pageable: bool, end: End, pitch: Pitch| {
            let extent = self.shape.extent(pitch)?;
            let is_there = pageable || memory.is_accessible(end.address(), extent);
            is_there.then_some(()).ok_or(CUresult::INVALID_VALUE)
        };
        let Pageable {
            destination,
            source,
        } = self.pageable;
        there(destination, self.destination, self.shape.destination)?;
        there(source, self.source, self.shape.source)
    }

    pub(crate) fn perform(&self) {
        if self.shape.is_empty() {
            return;
        }
        let staged = self.staged.as_ref();
        let from = staged.map_or(self.source.address(), |bytes| bytes.as_ptr() as u64);
        self.shape.perform(self.destination.address(), from);
    }

    /// The copy that a description says.
    ///
    /// # Safety
    ///
    /// `parameters` is null or points to a description of a copy.
    pub(crate) unsafe fn described(parameters: *const CUDA_MEMCPY3D) -> Result<Copy, CUresult> {
        // SAFETY: by contract.
        let mut copy = unsafe { describe_3d(parameters) }?;
        copy.settle().map(|()| copy)
    }

    /// Its description.
    pub(crate) fn description(&self) -> CUDA_MEMCPY3D {
        let (to, from) = (self.shape.destination, self.shape.source);
        let height = |pitch: Pitch| pitch.slice.checked_div(pitch.row).unwrap_or(0) as usize;
        let (src_array, src_origin) = self.source.array();
        let (dst_array, dst_origin) = self.destination.array();
        CUDA_MEMCPY3D {
            src_x_in_bytes: src_origin[0],
            src_y: src_origin[1],
            src_z: src_origin[2],
            src_lod: 0,
            src_memory_type: self.source.kind(),
            src_host: self.source.address() as *const c_void,
            src_device: self.source.address(),
            src_array,
            reserved0: core::ptr::null_mut(),
            src_pitch: from.row as usize,
            src_height: height(from),
            dst_x_in_bytes: dst_origin[0],
            dst_y: dst_origin[1],
            dst_z: dst_origin[2],
            dst_lod: 0,
            dst_memory_type: self.destination.kind(),
            dst_host: self.destination.address() as *mut c_void,
            dst_device: self.destination.address(),
            dst_array,
            reserved1: core::ptr::null_mut(),
            dst_pitch: to.row as usize,
            dst_height: height(to),
            width_in_bytes: self.shape.width as usize,
            height: self.shape.height as usize,
            depth: self.shape.depth as usize,
        }
    }
}

/// A copy at its place in a stream.
pub(super) fn copy(mut copy: Copy, stream: CUstream, when: When) -> Result<(), CUresult> {
    let (context, stream) = find(stream)?;
    if copy.shape.is_empty() {
        return Ok(());
    }
    copy.settle()?;
    let Pageable {
        destination: to_pageable,
        source: from_pageable,
    } = copy.pageable;
    let source_extent = copy.shape.extent(copy.shape.source)?;
    let must_wait = match when {
        When::Done => true,
        When::Posted => to_pageable || (from_pageable && source_extent > MAX_STAGED_BYTES),
        When::SourceRead => to_pageable || copy.reads_device()?,
    };
    // A graph reads and writes the program's memory whenever it is launched.
    let captured = when != When::Done && crate::capture::is_captured(&stream);
    if must_wait && !captured {
        return context.run(&stream, move || {
            copy.perform();
            Ok(())
        });
    }
    if (from_pageable || when == When::SourceRead) && !captured {
        let mut staged = vec![0u8; source_extent as usize];
        let from = copy.source.address();
        // SAFETY: the program says that its memory is there, and the vector is as long.
        unsafe { raw::copy(staged.as_mut_ptr() as u64, from, staged.len()) };
        copy.staged = Some(std::sync::Arc::new(staged));
    }
    context.submit(&stream, Operation::Copy(copy))
}

fn of_line(destination: End, source: End, size: usize) -> Copy {
    Copy {
        destination,
        source,
        shape: Shape::line(size),
        pageable: Pageable::default(),
        staged: None,
    }
}

pub(super) fn line(to: End, from: End, size: usize, when: When) -> CUresult {
    done(copy(of_line(to, from, size), CUstream(0), when))
}

pub(super) fn line_in(stream: CUstream, to: End, from: End, size: usize) -> CUresult {
    done(copy(of_line(to, from, size), stream, When::Posted))
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

/// One side of a 2D or 3D copy as the driver's structures describe it.
struct Side {
    kind: c_uint,
    host: u64,
    device: u64,
    array: CUarray,
    /// Bytes, rows, slices.
    origin: [usize; 3],
    pitch: usize,
    /// Rows of a slice.
    height: usize,
}

impl Side {
    /// The first byte, and the distances.
    fn resolve(&self, size: [usize; 3]) -> Result<(End, Pitch), CUresult> {
        if self.kind == ARRAY {
            return self.resolve_array(size);
        }
        let [width, rows, _] = size;
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
            _ => return Err(CUresult::INVALID_VALUE),
        };
        Ok((
            end,
            Pitch {
                row: row as u64,
                slice: slice as u64,
            },
        ))
    }

    /// [`Side::resolve`] for an array, whose rows and slices follow each other without gaps.
    fn resolve_array(&self, size: [usize; 3]) -> Result<(End, Pitch), CUresult> {
        let array = crate::array::find(driver()?, self.array)?;
        let [x, y, z] = self.origin.map(|origin| origin as u64);
        if !array.shape.holds([x, y, z], size.map(|size| size as u64)) {
            return Err(CUresult::INVALID_VALUE);
        }
        let [row, rows, _] = array.shape.extent();
        let slice = row * rows;
        let place = InArray {
            address: array.base + z * slice + y * row + x,
            array: self.array,
            origin: self.origin,
        };
        Ok((End::Array(place), Pitch { row, slice }))
    }
}

fn rectangle(from: &Side, to: &Side, size: [usize; 3]) -> Result<Copy, CUresult> {
    let [width, height, depth] = size;
    let (source, source_pitch) = from.resolve(size)?;
    let (destination, destination_pitch) = to.resolve(size)?;
    let shape = Shape {
        width: width as u64,
        height: height as u64,
        depth: depth as u64,
        destination: destination_pitch,
        source: source_pitch,
    };
    Ok(Copy {
        destination,
        source,
        shape,
        pageable: Pageable::default(),
        staged: None,
    })
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
        array: copy.src_array,
        origin: [copy.src_x_in_bytes, copy.src_y, 0],
        pitch: copy.src_pitch,
        height: 0,
    };
    let to = Side {
        kind: copy.dst_memory_type,
        host: copy.dst_host as u64,
        device: copy.dst_device,
        array: copy.dst_array,
        origin: [copy.dst_x_in_bytes, copy.dst_y, 0],
        pitch: copy.dst_pitch,
        height: 0,
    };
    let described = rectangle(&from, &to, [copy.width_in_bytes, copy.height, 1])?;
    self::copy(described, stream, when)
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
unsafe fn describe_3d(parameters: *const CUDA_MEMCPY3D) -> Result<Copy, CUresult> {
    if parameters.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let copy = unsafe { parameters.read_unaligned() };
    let from = Side {
        kind: copy.src_memory_type,
        host: copy.src_host as u64,
        device: copy.src_device,
        array: copy.src_array,
        origin: [copy.src_x_in_bytes, copy.src_y, copy.src_z],
        pitch: copy.src_pitch,
        height: copy.src_height,
    };
    let to = Side {
        kind: copy.dst_memory_type,
        host: copy.dst_host as u64,
        device: copy.dst_device,
        array: copy.dst_array,
        origin: [copy.dst_x_in_bytes, copy.dst_y, copy.dst_z],
        pitch: copy.dst_pitch,
        height: copy.dst_height,
    };
    rectangle(&from, &to, [copy.width_in_bytes, copy.height, copy.depth])
}

pub(crate) unsafe fn cuMemcpy3D_v2(copy: *const CUDA_MEMCPY3D) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { describe_3d(copy) }.and_then(|copy| self::copy(copy, CUstream(0), When::Done)))
}

pub(crate) unsafe fn cuMemcpy3DAsync_v2(copy: *const CUDA_MEMCPY3D, stream: CUstream) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { describe_3d(copy) }.and_then(|copy| self::copy(copy, stream, When::Posted)))
}

/// So many bytes of a row of an array of one dimension, or of the first row.
fn in_array(array: CUarray, offset: usize, byte_count: usize) -> Result<End, CUresult> {
    let side = Side {
        kind: ARRAY,
        host: 0,
        device: 0,
        array,
        origin: [offset, 0, 0],
        pitch: 0,
        height: 0,
    };
    side.resolve([byte_count, 1, 1]).map(|(end, _)| end)
}

fn array_line(
    ends: impl FnOnce() -> Result<(End, End), CUresult>,
    byte_count: usize,
    stream: CUstream,
    when: When,
) -> CUresult {
    let copied = ends().and_then(|(to, from)| copy(of_line(to, from, byte_count), stream, when));
    done(copied)
}

pub(crate) unsafe fn cuMemcpyHtoA_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_host: *const c_void,
    byte_count: usize,
) -> CUresult {
    let from = End::Host(src_host as u64);
    let ends = || Ok((in_array(dst_array, dst_offset, byte_count)?, from));
    array_line(ends, byte_count, CUstream(0), When::Done)
}

pub(crate) unsafe fn cuMemcpyHtoAAsync_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_host: *const c_void,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let from = End::Host(src_host as u64);
    let ends = || Ok((in_array(dst_array, dst_offset, byte_count)?, from));
    array_line(ends, byte_count, stream, When::Posted)
}

pub(crate) unsafe fn cuMemcpyAtoH_v2(
    dst_host: *mut c_void,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
) -> CUresult {
    let to = End::Host(dst_host as u64);
    let ends = || Ok((to, in_array(src_array, src_offset, byte_count)?));
    array_line(ends, byte_count, CUstream(0), When::Done)
}

pub(crate) unsafe fn cuMemcpyAtoHAsync_v2(
    dst_host: *mut c_void,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let to = End::Host(dst_host as u64);
    let ends = || Ok((to, in_array(src_array, src_offset, byte_count)?));
    array_line(ends, byte_count, stream, When::Posted)
}

pub(crate) unsafe fn cuMemcpyDtoA_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_device: CUdeviceptr,
    byte_count: usize,
) -> CUresult {
    let from = End::Device(src_device);
    let ends = || Ok((in_array(dst_array, dst_offset, byte_count)?, from));
    array_line(ends, byte_count, CUstream(0), When::Posted)
}

pub(crate) unsafe fn cuMemcpyAtoD_v2(
    dst_device: CUdeviceptr,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
) -> CUresult {
    let to = End::Device(dst_device);
    let ends = || Ok((to, in_array(src_array, src_offset, byte_count)?));
    array_line(ends, byte_count, CUstream(0), When::Posted)
}

pub(crate) unsafe fn cuMemcpyAtoA_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
) -> CUresult {
    let ends = || {
        let to = in_array(dst_array, dst_offset, byte_count)?;
        Ok((to, in_array(src_array, src_offset, byte_count)?))
    };
    array_line(ends, byte_count, CUstream(0), When::Posted)
}
