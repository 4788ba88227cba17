//! The copy of a node: between boxes of memory, done row by row.
//!
//! What each end is, is decided when the node is made: device memory, pinned or pageable memory of the program. A launch finds out whether it
//! still is, so that memory which has gone since is an error and not another kind of memory.
//!
//! # Safety
//! The program's memory is read and written within the ranges that it gave to the copy, by the contract of the CUDA driver API.
#![expect(
    unsafe_code,
    reason = "the program's memory is where the bytes come from and go to"
)]

use std::sync::Arc;

use driver_api::abi::{CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUarray, CUresult};

use crate::log;
use crate::memory::{Copy, DEVICE, HOST, UNIFIED};
use crate::session::Session;
use crate::stream::Stream;

/// Most rows of one copy: each is a call.
const MAX_ROWS: usize = 1 << 20;
/// `CU_MEMORYTYPE_ARRAY`.
const ARRAY: u32 = 3;

/// What one end of a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    Pinned,
    Pageable,
}

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
struct End {
    kind: Kind,
    first: u64,
    /// Bytes from a row to the next, and from a slice to the next.
    row: u64,
    slice: u64,
}

/// How much is copied: bytes of a row, rows of a slice, slices.
type Extent = [usize; 3];

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
        if (height > 1 && pitch < width) || (depth > 1 && rows < height) {
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
        };
        if end.kind == Kind::Device && width > 0 {
            session.objects.memory.check(first, length)?;
        }
        Ok(end)
    }

    fn at(&self, row: usize, slice: usize) -> u64 {
        self.first + self.row * row as u64 + self.slice * slice as u64
    }

    /// Whether the memory at an address is still what it was.
    fn check(&self, session: &Session, address: u64, length: usize) -> Result<(), CUresult> {
        let memory = &session.objects.memory;
        let is_there = match self.kind {
            Kind::Device => memory.check(address, length as u64).is_ok(),
            Kind::Pinned => is_pinned(session, address, length),
            Kind::Pageable => true,
        };
        is_there.then_some(()).ok_or(CUresult::ILLEGAL_ADDRESS)
    }
}

fn is_pinned(session: &Session, address: u64, length: usize) -> bool {
    let host = &session.objects.memory.host;
    usize::try_from(address).is_ok_and(|address| host.find(address, length).is_some())
}

fn kind_of(session: &Session, memory_type: u32, first: u64, length: u64) -> Result<Kind, CUresult> {
    let length = usize::try_from(length).map_err(|_| CUresult::INVALID_VALUE)?;
    match memory_type {
        DEVICE => Ok(Kind::Device),
        UNIFIED if session.objects.memory.find(first).is_some() => Ok(Kind::Device),
        HOST | UNIFIED if is_pinned(session, first, length) => Ok(Kind::Pinned),
        HOST | UNIFIED => Ok(Kind::Pageable),
        ARRAY => {
            log::warn_once(
                "arrays in graphs",
                format_args!("a graph's copy from or to an array is not supported"),
            );
            Err(CUresult::NOT_SUPPORTED)
        }
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
        if copy.height.saturating_mul(copy.depth) > MAX_ROWS {
            return Err(CUresult::INVALID_VALUE);
        }
        let base = |memory_type, host: usize, device| match memory_type {
            HOST => (memory_type, host as u64),
            _ => (memory_type, device),
        };
        let source = End::new(
            session,
            base(
                copy.src_memory_type,
                copy.src_host.expose_provenance(),
                copy.src_device,
            ),
            [copy.src_x_in_bytes, copy.src_y, copy.src_z],
            (copy.src_pitch, copy.src_height),
            extent,
        )?;
        let destination = End::new(
            session,
            base(
                copy.dst_memory_type,
                copy.dst_host.expose_provenance(),
                copy.dst_device,
            ),
            [copy.dst_x_in_bytes, copy.dst_y, copy.dst_z],
            (copy.dst_pitch, copy.dst_height),
            extent,
        )?;
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
        (copy.src_x_in_bytes, copy.src_y) = (shape.src_x_in_bytes, shape.src_y);
        copy.src_pitch = shape.src_pitch;
        copy.dst_memory_type = shape.dst_memory_type;
        (copy.dst_host, copy.dst_device) = (shape.dst_host, shape.dst_device);
        (copy.dst_x_in_bytes, copy.dst_y) = (shape.dst_x_in_bytes, shape.dst_y);
        copy.dst_pitch = shape.dst_pitch;
        Self::new(session, copy)
    }

    /// As the program described it.
    pub(crate) fn description(&self) -> CUDA_MEMCPY3D {
        self.description
    }

    /// Whether it reads memory of the program, which a function of the program may write before.
    pub(crate) fn reads_host(&self) -> bool {
        self.source.kind != Kind::Device
    }

    /// Puts it into a stream: in one piece if neither end has gaps, else row by row.
    pub(crate) fn post(&self, session: &Session, stream: &Arc<Stream>) -> Result<(), CUresult> {
        let CUDA_MEMCPY3D {
            width_in_bytes: width,
            height,
            depth,
            ..
        } = self.description;
        if width == 0 || height == 0 || depth == 0 {
            return Ok(());
        }
        let copy = Copy::in_graph(session, stream);
        let is_dense = |end: &End| {
            (height == 1 || end.row == width as u64)
                && (depth == 1 || end.slice == (width * height) as u64)
        };
        if is_dense(&self.source) && is_dense(&self.destination) {
            return self.post_row(session, &copy, (0, 0), width * height * depth);
        }
        for slice in 0..depth {
            for row in 0..height {
                self.post_row(session, &copy, (row, slice), width)?;
            }
        }
        Ok(())
    }

    fn post_row(
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
            // SAFETY: the program keeps the memory that its graph names.
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
