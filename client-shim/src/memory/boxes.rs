//! Copies between boxes of memory: `cuMemcpy2D`, `cuMemcpy3D`, and every copy of a graph.
//!
//! A box is cut into runs: what lies without gaps on both sides is one run, else a slice, else a row. Each run is a copy as [`copy`](super::copy) makes
//! it, so only the bytes of the copy travel. A box from or to an array goes [whole](super::volume), of whatever context the array is. The whole description is
//! checked before the first run, so that nothing is copied of one that is wrong. What each end is, is decided then: an array, device memory, pinned or pageable
//! memory of the program. The launch of a graph finds out whether it still is, so that memory which has gone since is an error and not another kind of
//! memory. Only whether the device reaches the program's memory itself is found out when the copy is made: then it is the device's for this copy.
//!
//! *Cost:* a call for each run; from the device to pageable memory, a round trip for each. Of a box from or to an array, see there.
//!
//! # Safety
//! Descriptions are read through pointers, and the program's memory is read and written within the ranges that it gave to the copy, by the contract of the
//! CUDA driver API.
#![expect(
    unsafe_code,
    reason = "the program's memory is where the bytes come from and go to"
)]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_void;
use std::sync::Arc;

use driver_api::abi::{CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUarray, CUdeviceptr, CUresult, CUstream};
use driver_api::device_graph::{CopyBody, CopyEnd};
use driver_api::volume;

use super::copy::{Copy, DEVICE, HOST, UNIFIED, check_host, in_stream, later};
use super::volume::{Extent, HostEnd};
use crate::array::array_of;
use crate::session::Session;
use crate::stream::Stream;

/// Most runs of a graph's copy: each is a call at every launch.
const MAX_RUNS: usize = 1 << 20;
/// `CU_MEMORYTYPE_ARRAY`.
const ARRAY: u32 = 3;

/// What one end of a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    Pinned,
    Pageable,
    Array,
}

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
struct End {
    kind: Kind,
    first: u64,
    /// Bytes from a row to the next, and from a slice to the next.
    row: u64,
    slice: u64,
    array: InArray,
}

/// A place in an array.
#[derive(Debug, Clone, Copy, Default)]
struct InArray {
    /// The client's number of the array.
    id: u32,
    element_bytes: usize,
    /// The place as it travels.
    end: volume::End,
}

impl End {
    /// The end at an address, of a memory type, behind so many bytes, rows and slices.
    fn new(
        session: &Session,
        (memory_type, base): (u32, u64),
        [x, y, z]: [usize; 3],
        (pitch, rows): (usize, usize),
        [width, height, depth]: Extent,
    ) -> Result<Self, CUresult> {
        let pitch = if pitch == 0 { width } else { pitch };
        let rows = if rows == 0 { height } else { rows };
        if pitch < width || (depth > 1 && rows < height) {
            return Err(CUresult::INVALID_VALUE);
        }
        let row = pitch as u64;
        let slice = row.checked_mul(rows as u64);
        let place = |x: usize, y: usize, z: usize| {
            let slices = slice?.checked_mul(z as u64)?;
            let rows = row.checked_mul(y as u64)?;
            slices.checked_add(rows)?.checked_add(x as u64)
        };
        let first = place(x, y, z).and_then(|offset| base.checked_add(offset));
        let first = first.ok_or(CUresult::INVALID_VALUE)?;
        let last = place(width, height.saturating_sub(1), depth.saturating_sub(1));
        let is_whole = |length: &u64| first.checked_add(*length).is_some();
        let length = last.filter(is_whole).ok_or(CUresult::INVALID_VALUE)?;
        let end = Self {
            kind: kind_of(session, memory_type, first, length)?,
            first,
            row,
            slice: slice.ok_or(CUresult::INVALID_VALUE)?,
            array: InArray::default(),
        };
        if width > 0 {
            match end.kind {
                Kind::Device => session.objects.memory.reach(session, first, length)?,
                Kind::Pinned | Kind::Pageable => check_host(end.first)?,
                Kind::Array => {}
            }
        }
        Ok(end)
    }

    /// The end in an array, behind so many bytes, rows and slices.
    fn in_array(
        session: &Session,
        array: CUarray,
        origin: [usize; 3],
        extent: Extent,
    ) -> Result<Self, CUresult> {
        let array = array_of(session, array)?;
        let origin = origin.map(|origin| origin as u64);
        let is_empty = extent.contains(&0);
        if !is_empty && !array.shape.holds(origin, extent.map(|size| size as u64)) {
            return Err(CUresult::INVALID_VALUE);
        }
        let [row, rows, _] = array.shape.extent();
        let end = volume::End {
            kind: volume::ARRAY.into(),
            array: array.wire_id.into(),
            level: array.level.into(),
            origin: origin.map(Into::into),
            ..volume::End::default()
        };
        Ok(Self {
            kind: Kind::Array,
            first: 0,
            row,
            slice: row * rows,
            array: InArray {
                id: array.id,
                element_bytes: array.shape.element_bytes() as usize,
                end,
            },
        })
    }

    /// As it travels: in an array, or in device memory.
    fn on_device(&self) -> volume::End {
        match self.kind {
            Kind::Array => self.array.end,
            _ => volume::End {
                kind: volume::LINEAR.into(),
                address: self.first.into(),
                pitch: self.row.into(),
                rows: self.slice.checked_div(self.row).unwrap_or(0).into(),
                ..volume::End::default()
            },
        }
    }

    /// Bytes from the first to behind the last of a box, none of whose sizes is 0.
    fn span(&self, [width, height, depth]: Extent) -> u64 {
        self.slice * (depth as u64 - 1) + self.row * (height as u64 - 1) + width as u64
    }

    /// As it is for a copy that is made now: what the device reaches is copied by the device, in the order of the stream.
    fn reached(self, session: &Session, size: Extent) -> Self {
        let mapped = &session.objects.memory.mapped;
        match self.is_host() && mapped.holds(self.first, self.span(size)) {
            true => Self {
                kind: Kind::Device,
                ..self
            },
            false => self,
        }
    }

    fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Pinned | Kind::Pageable)
    }

    fn at(&self, row: usize, slice: usize) -> u64 {
        self.first + self.row * row as u64 + self.slice * slice as u64
    }

    /// Whether the memory at an address is still what it was.
    fn check(&self, session: &Session, address: u64, length: usize) -> Result<(), CUresult> {
        let memory = &session.objects.memory;
        let is_there = match self.kind {
            Kind::Device => {
                let length = length as u64;
                memory.check(address, length).is_ok() || memory.mapped.holds(address, length)
            }
            Kind::Pinned => is_pinned(session, address, length),
            Kind::Pageable => true,
            Kind::Array => session.objects.arrays.get(self.array.id).is_some(),
        };
        is_there.then_some(()).ok_or(CUresult::ILLEGAL_ADDRESS)
    }
}

fn is_pinned(session: &Session, address: u64, length: usize) -> bool {
    let host = &session.objects.memory.host;
    usize::try_from(address).is_ok_and(|address| host.find(address, length).is_some())
}

fn kind_of(session: &Session, memory_type: u32, first: u64, length: u64) -> Result<Kind, CUresult> {
    let memory = &session.objects.memory;
    let is_reached = memory.find(first).is_some() || memory.mapped.holds(first, length);
    let length = usize::try_from(length).map_err(|_| CUresult::INVALID_VALUE)?;
    match memory_type {
        DEVICE => Ok(Kind::Device),
        UNIFIED if is_reached => Ok(Kind::Device),
        // All addresses are of one space: a copy goes by what the memory is.
        HOST if memory.find(first).is_some() => Ok(Kind::Device),
        HOST | UNIFIED if is_pinned(session, first, length) => Ok(Kind::Pinned),
        HOST | UNIFIED => Ok(Kind::Pageable),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// A copy between boxes, as the program described it and as it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoxCopy {
    description: CUDA_MEMCPY3D,
    source: End,
    destination: End,
}

// SAFETY: the pointers of the description are the program's, which lets any thread launch the graph; here they are only passed on.
unsafe impl Send for BoxCopy {}
// SAFETY: as above.
unsafe impl Sync for BoxCopy {}

impl BoxCopy {
    pub(crate) fn new(session: &Session, description: CUDA_MEMCPY3D) -> Result<Self, CUresult> {
        let copy = &description;
        let extent = [copy.width_in_bytes, copy.height, copy.depth];
        let is_reserved = !copy.reserved0.is_null() || !copy.reserved1.is_null();
        if is_reserved || copy.src_lod != 0 || copy.dst_lod != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let base = |memory_type, host: usize, device| match memory_type {
            HOST => (memory_type, host as u64),
            _ => (memory_type, device),
        };
        let origin = [copy.src_x_in_bytes, copy.src_y, copy.src_z];
        let source = match copy.src_memory_type {
            ARRAY => End::in_array(session, copy.src_array, origin, extent)?,
            memory_type => End::new(
                session,
                base(
                    memory_type,
                    copy.src_host.expose_provenance(),
                    copy.src_device,
                ),
                origin,
                (copy.src_pitch, copy.src_height),
                extent,
            )?,
        };
        let origin = [copy.dst_x_in_bytes, copy.dst_y, copy.dst_z];
        let destination = match copy.dst_memory_type {
            ARRAY => End::in_array(session, copy.dst_array, origin, extent)?,
            memory_type => End::new(
                session,
                base(
                    memory_type,
                    copy.dst_host.expose_provenance(),
                    copy.dst_device,
                ),
                origin,
                (copy.dst_pitch, copy.dst_height),
                extent,
            )?,
        };
        Ok(Self {
            description,
            source,
            destination,
        })
    }

    /// So many bytes in a row; each end is a memory type and an address.
    pub(crate) fn linear(
        session: &Session,
        destination: (u32, u64),
        source: (u32, u64),
        length: usize,
    ) -> Result<Self, CUresult> {
        let mut copy = empty();
        copy.width_in_bytes = length;
        (copy.height, copy.depth) = (1, 1);
        (copy.src_memory_type, copy.src_device) = source;
        (copy.dst_memory_type, copy.dst_device) = destination;
        // A host's address has a place of its own.
        copy.src_host = core::ptr::with_exposed_provenance(source.1 as usize);
        copy.dst_host = core::ptr::with_exposed_provenance_mut(destination.1 as usize);
        Self::new(session, copy)
    }

    /// What `cuMemcpy2D` describes.
    pub(crate) fn rectangle(session: &Session, shape: &CUDA_MEMCPY2D) -> Result<Self, CUresult> {
        let mut copy = empty();
        (copy.width_in_bytes, copy.height, copy.depth) = (shape.width_in_bytes, shape.height, 1);
        copy.src_memory_type = shape.src_memory_type;
        (copy.src_host, copy.src_device) = (shape.src_host, shape.src_device);
        copy.src_array = shape.src_array;
        (copy.src_x_in_bytes, copy.src_y) = (shape.src_x_in_bytes, shape.src_y);
        copy.src_pitch = shape.src_pitch;
        copy.dst_memory_type = shape.dst_memory_type;
        (copy.dst_host, copy.dst_device) = (shape.dst_host, shape.dst_device);
        copy.dst_array = shape.dst_array;
        (copy.dst_x_in_bytes, copy.dst_y) = (shape.dst_x_in_bytes, shape.dst_y);
        copy.dst_pitch = shape.dst_pitch;
        Self::new(session, copy)
    }

    /// So many bytes of an array's first row, from or to an address of a memory type, or another array.
    fn of_array(
        session: &Session,
        destination: Place,
        source: Place,
        length: usize,
    ) -> Result<Self, CUresult> {
        let mut copy = empty();
        copy.width_in_bytes = length;
        (copy.height, copy.depth) = (1, 1);
        match source {
            Place::Array(array, offset) => {
                (copy.src_memory_type, copy.src_array) = (ARRAY, array);
                copy.src_x_in_bytes = offset;
            }
            Place::Host(host) => copy.src_host = host.cast(),
            Place::Device(address) => (copy.src_memory_type, copy.src_device) = (DEVICE, address),
        }
        match destination {
            Place::Array(array, offset) => {
                (copy.dst_memory_type, copy.dst_array) = (ARRAY, array);
                copy.dst_x_in_bytes = offset;
            }
            Place::Host(host) => copy.dst_host = host,
            Place::Device(address) => (copy.dst_memory_type, copy.dst_device) = (DEVICE, address),
        }
        Self::new(session, copy)
    }

    /// Whether the device reads the source itself, at its place in the stream.
    pub(super) fn reads_device(&self, session: &Session) -> bool {
        !self.is_empty() && !self.source.reached(session, self.size()).is_host()
    }

    /// As the program described it.
    pub(crate) fn description(&self) -> CUDA_MEMCPY3D {
        self.description
    }

    /// As a graph holds it.
    pub(crate) fn of_graph(self) -> Result<Arc<Self>, CUresult> {
        let (slices, runs, _) = self.cut();
        if slices.saturating_mul(runs) > MAX_RUNS {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(Arc::new(self))
    }

    /// Whether nothing is copied.
    pub(crate) fn is_empty(&self) -> bool {
        let size = &self.description;
        size.width_in_bytes == 0 || size.height == 0 || size.depth == 0
    }

    /// As it travels in a graph of the device: nothing if an end is the program's memory.
    pub(crate) fn of_device(&self) -> Option<CopyBody> {
        let CUDA_MEMCPY3D {
            width_in_bytes: width,
            height,
            depth,
            ..
        } = self.description;
        let end = |end: &End| {
            let rows = end.slice.checked_div(end.row)?;
            (end.kind == Kind::Device).then(|| CopyEnd {
                first: end.first.into(),
                row: end.row.into(),
                rows: rows.into(),
            })
        };
        Some(CopyBody {
            destination: end(&self.destination)?,
            source: end(&self.source)?,
            width: (width as u64).into(),
            height: (height as u64).into(),
            depth: (depth as u64).into(),
        })
    }

    /// How it is cut: slices, runs of a slice, bytes of a run.
    fn cut(&self) -> (usize, usize, usize) {
        let CUDA_MEMCPY3D {
            width_in_bytes: width,
            height,
            depth,
            ..
        } = self.description;
        let ends = [&self.source, &self.destination];
        let rows_touch = height == 1 || ends.iter().all(|end| end.row == width as u64);
        let slices_touch =
            depth == 1 || ends.iter().all(|end| end.slice == (width * height) as u64);
        match (rows_touch, slices_touch) {
            (true, true) => (1, 1, width * height * depth),
            (true, false) => (depth, 1, width * height),
            (false, _) => (depth, height, width),
        }
    }

    /// Puts it into a stream for a graph.
    pub(crate) fn post(&self, session: &Session, stream: &Arc<Stream>) -> Result<(), CUresult> {
        self.run(session, &Copy::in_graph(session, stream))
    }

    fn size(&self) -> Extent {
        let description = &self.description;
        [
            description.width_in_bytes,
            description.height,
            description.depth,
        ]
    }

    pub(super) fn run(&self, session: &Session, copy: &Copy<'_>) -> Result<(), CUresult> {
        if self.is_empty() {
            return Ok(());
        }
        let size = self.size();
        let now = Self {
            source: self.source.reached(session, size),
            destination: self.destination.reached(session, size),
            ..*self
        };
        let ends = [&now.source, &now.destination];
        match ends.iter().any(|end| end.kind == Kind::Array) {
            true => now.run_volume(session, copy)?,
            false => now.run_lines(session, copy)?,
        }
        // Copies from and to the host wait for themselves.
        match ends.iter().any(|end| end.is_host()) {
            true => Ok(()),
            false => copy.wait_where_seen(ends.map(|end| (end.first, end.span(size)))),
        }
    }

    fn run_lines(&self, session: &Session, copy: &Copy<'_>) -> Result<(), CUresult> {
        let (slices, runs, length) = self.cut();
        for slice in 0..slices {
            for run in 0..runs {
                self.copy_run(session, copy, (run, slice), length)?;
            }
        }
        Ok(())
    }

    /// A copy from or to an array.
    fn run_volume(&self, session: &Session, copy: &Copy<'_>) -> Result<(), CUresult> {
        let size = self.size();
        let (source, destination) = (&self.source, &self.destination);
        for end in [source, destination] {
            end.check(session, end.first, end.span(size) as usize)?;
            if let Some(array) = session.objects.arrays.get(end.array.id) {
                array.is_copied_in(copy.stream.context);
            }
        }
        let host = |end: &End| HostEnd {
            first: end.first,
            row: end.row,
            slice: end.slice,
        };
        match (destination.is_host(), source.is_host()) {
            // SAFETY: the program keeps the memory that its copy or its graph names.
            (_, true) => unsafe {
                let element_bytes = destination.array.element_bytes;
                copy.volume_to_array(&destination.array.end, host(source), size, element_bytes)
            },
            // SAFETY: as above.
            (true, _) => unsafe {
                let is_pinned = destination.kind == Kind::Pinned;
                let element_bytes = source.array.element_bytes;
                let (to, from) = (host(destination), &source.array.end);
                copy.volume_to_host((to, is_pinned), from, size, element_bytes)
            },
            _ => copy.volume_on_device(destination.on_device(), source.on_device(), size),
        }
    }

    fn copy_run(
        &self,
        session: &Session,
        copy: &Copy<'_>,
        (row, slice): (usize, usize),
        length: usize,
    ) -> Result<(), CUresult> {
        let (source, destination) = (self.source.at(row, slice), self.destination.at(row, slice));
        self.source.check(session, source, length)?;
        self.destination.check(session, destination, length)?;
        let host = |address: u64| core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        let is_device = |end: &End| end.kind == Kind::Device;
        match (is_device(&self.destination), is_device(&self.source)) {
            (true, true) => copy.on_device(destination, source, length),
            // SAFETY: the program keeps the memory that its copy or its graph names.
            (true, false) => unsafe { copy.to_device(destination, host(source), length) },
            // SAFETY: as above.
            (false, true) => unsafe { copy.to_host(host(destination), source, length) },
            // SAFETY: as above.
            (false, false) => unsafe { copy.unified(destination, source, length) },
        }
    }
}

fn empty() -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        src_x_in_bytes: 0,
        src_y: 0,
        src_z: 0,
        src_lod: 0,
        src_memory_type: HOST,
        src_host: core::ptr::null(),
        src_device: 0,
        src_array: CUarray(0),
        reserved0: core::ptr::null_mut(),
        src_pitch: 0,
        src_height: 0,
        dst_x_in_bytes: 0,
        dst_y: 0,
        dst_z: 0,
        dst_lod: 0,
        dst_memory_type: HOST,
        dst_host: core::ptr::null_mut(),
        dst_device: 0,
        dst_array: CUarray(0),
        reserved1: core::ptr::null_mut(),
        dst_pitch: 0,
        dst_height: 0,
        width_in_bytes: 0,
        height: 0,
        depth: 0,
    }
}

/// # Safety
/// `copy` is null or points to a description.
pub(super) unsafe fn described<T>(copy: *const T) -> Result<T, CUresult> {
    if copy.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise, and not null.
    Ok(unsafe { copy.read() })
}

/// Copies before it returns.
pub(super) fn now(describe: impl FnOnce(&Session) -> Result<BoxCopy, CUresult>) -> CUresult {
    in_stream(CUstream(0), |copy| {
        describe(copy.session)?.run(copy.session, copy)
    })
}

/// Copies in a stream, or makes a node of its graph.
pub(super) fn in_order(
    stream: CUstream,
    describe: impl Fn(&Session) -> Result<BoxCopy, CUresult>,
) -> CUresult {
    later(stream, &describe, |copy| {
        describe(copy.session)?.run(copy.session, copy)
    })
}

pub(crate) unsafe fn cuMemcpy2D_v2(copy: *const CUDA_MEMCPY2D) -> CUresult {
    // SAFETY: the API's contract.
    let shape = unsafe { described(copy) };
    now(|session| BoxCopy::rectangle(session, &shape?))
}

pub(crate) unsafe fn cuMemcpy2DUnaligned_v2(copy: *const CUDA_MEMCPY2D) -> CUresult {
    // SAFETY: the API's contract.
    let shape = unsafe { described(copy) };
    now(|session| BoxCopy::rectangle(session, &shape?))
}

pub(crate) unsafe fn cuMemcpy2DAsync_v2(copy: *const CUDA_MEMCPY2D, stream: CUstream) -> CUresult {
    // SAFETY: the API's contract.
    let shape = unsafe { described(copy) };
    in_order(stream, |session| BoxCopy::rectangle(session, &shape?))
}

pub(crate) unsafe fn cuMemcpy3D_v2(copy: *const CUDA_MEMCPY3D) -> CUresult {
    // SAFETY: the API's contract.
    let shape = unsafe { described(copy) };
    now(|session| BoxCopy::new(session, shape?))
}

pub(crate) unsafe fn cuMemcpy3DAsync_v2(copy: *const CUDA_MEMCPY3D, stream: CUstream) -> CUresult {
    // SAFETY: the API's contract.
    let shape = unsafe { described(copy) };
    in_order(stream, |session| BoxCopy::new(session, shape?))
}

/// What a copy of a line names at an end.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// An array, and how many bytes are before the line.
    Array(CUarray, usize),
    Host(*mut c_void),
    Device(CUdeviceptr),
}

pub(crate) unsafe fn cuMemcpyHtoA_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_host: *const c_void,
    byte_count: usize,
) -> CUresult {
    let (to, from) = (
        Place::Array(dst_array, dst_offset),
        Place::Host(src_host.cast_mut()),
    );
    now(|session| BoxCopy::of_array(session, to, from, byte_count))
}

pub(crate) unsafe fn cuMemcpyHtoAAsync_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_host: *const c_void,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let (to, from) = (
        Place::Array(dst_array, dst_offset),
        Place::Host(src_host.cast_mut()),
    );
    in_order(stream, |session| {
        BoxCopy::of_array(session, to, from, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyAtoH_v2(
    dst_host: *mut c_void,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
) -> CUresult {
    let (to, from) = (Place::Host(dst_host), Place::Array(src_array, src_offset));
    now(|session| BoxCopy::of_array(session, to, from, byte_count))
}

pub(crate) unsafe fn cuMemcpyAtoHAsync_v2(
    dst_host: *mut c_void,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let (to, from) = (Place::Host(dst_host), Place::Array(src_array, src_offset));
    in_order(stream, |session| {
        BoxCopy::of_array(session, to, from, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyDtoA_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_device: CUdeviceptr,
    byte_count: usize,
) -> CUresult {
    let (to, from) = (
        Place::Array(dst_array, dst_offset),
        Place::Device(src_device),
    );
    now(|session| BoxCopy::of_array(session, to, from, byte_count))
}

pub(crate) unsafe fn cuMemcpyAtoD_v2(
    dst_device: CUdeviceptr,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
) -> CUresult {
    let (to, from) = (
        Place::Device(dst_device),
        Place::Array(src_array, src_offset),
    );
    now(|session| BoxCopy::of_array(session, to, from, byte_count))
}

pub(crate) unsafe fn cuMemcpyAtoA_v2(
    dst_array: CUarray,
    dst_offset: usize,
    src_array: CUarray,
    src_offset: usize,
    byte_count: usize,
) -> CUresult {
    let (to, from) = (
        Place::Array(dst_array, dst_offset),
        Place::Array(src_array, src_offset),
    );
    now(|session| BoxCopy::of_array(session, to, from, byte_count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn box_of([width, height, depth]: Extent, pitches: [(u64, u64); 2]) -> BoxCopy {
        let mut description = empty();
        description.width_in_bytes = width;
        (description.height, description.depth) = (height, depth);
        let [source, destination] = pitches.map(|(row, rows)| End {
            kind: Kind::Device,
            first: 4096,
            row,
            slice: row * rows,
            array: InArray::default(),
        });
        BoxCopy {
            description,
            source,
            destination,
        }
    }

    #[test]
    fn what_touches_on_both_sides_is_one_run() {
        let cut = |source, destination| box_of([8, 4, 2], [source, destination]).cut();
        assert_eq!(cut((8, 4), (8, 4)), (1, 1, 64));
        assert_eq!(cut((8, 4), (8, 6)), (2, 1, 32));
        assert_eq!(cut((16, 4), (8, 4)), (2, 4, 8));
        assert_eq!(box_of([8, 1, 1], [(16, 9), (8, 1)]).cut(), (1, 1, 8));
    }

    #[test]
    fn a_graph_takes_no_copy_of_more_calls_than_can_be() {
        let rows = MAX_RUNS / 2 + 1;
        assert!(box_of([8, rows, 2], [(16, 1), (8, 1)]).of_graph().is_err());
        assert!(box_of([8, rows, 1], [(16, 1), (8, 1)]).of_graph().is_ok());
    }
}
