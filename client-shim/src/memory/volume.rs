//! Copies between boxes: `cuMemcpy3D`.
//!
//! A box is cut into runs: what lies without gaps on both sides is one run, else a slice, else a row. Each run is a copy as [`copy`](super::copy) makes
//! it, so only the bytes of the copy travel, and each returns when such a copy may. The whole description is checked before the first run, so that nothing
//! is copied of one that is wrong.
//!
//! *Cost:* a call for each run; from the device to pageable memory, a round trip for each.
//!
//! # Safety
//! Descriptions are read through pointers, and the program's memory within the rows that they give, by the contract of the CUDA driver API.
#![expect(
    unsafe_code,
    reason = "the program's memory is where the bytes come from and go to"
)]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_void;

use driver_api::abi::{CUDA_MEMCPY3D, CUdeviceptr, CUresult, CUstream};

use super::copy::{DEVICE, HOST, UNIFIED, When, in_stream};

/// Bytes, rows, slices.
type Extent = [u64; 3];

/// One side of a copy as the driver's structure describes it.
struct Described {
    memory_type: u32,
    host: *const c_void,
    device: CUdeviceptr,
    origin: [usize; 3],
    lod: usize,
    reserved: *mut c_void,
    pitch: usize,
    rows: usize,
}

/// One side: its first byte, and the distances of rows and of slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    first: u64,
    row: u64,
    slice: u64,
}

impl Described {
    fn resolve(&self, extent: Extent) -> Result<Side, CUresult> {
        let base = match self.memory_type {
            HOST => self.host.expose_provenance() as u64,
            DEVICE | UNIFIED => self.device,
            // Arrays are refused where they are made.
            _ => return Err(CUresult::INVALID_VALUE),
        };
        if self.lod != 0 || !self.reserved.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let origin = self.origin.map(|place| place as u64);
        let side = Side::new(base, origin, (self.pitch as u64, self.rows as u64), extent);
        side.ok_or(CUresult::INVALID_VALUE)
    }
}

impl Side {
    /// Nothing where rows or slices overlap, or an address is no number.
    fn new(
        base: u64,
        [x, y, z]: [u64; 3],
        (pitch, rows): (u64, u64),
        extent: Extent,
    ) -> Option<Self> {
        let [width, height, depth] = extent;
        let row = if pitch == 0 { width } else { pitch };
        let rows = if rows == 0 { height } else { rows };
        if row < width || (depth > 1 && rows < height) {
            return None;
        }
        let slice = row.checked_mul(rows)?;
        let before = x
            .checked_add(y.checked_mul(row)?)?
            .checked_add(z.checked_mul(slice)?)?;
        let first = base.checked_add(before)?;
        let last = slice
            .checked_mul(depth - 1)?
            .checked_add(row.checked_mul(height - 1)?)?;
        first.checked_add(last)?.checked_add(width)?;
        Some(Self { first, row, slice })
    }

    /// Its `number`th row, in its `slice`th slice: below what [`Side::new`] has checked.
    fn at(&self, slice: u64, number: u64) -> u64 {
        self.first + slice * self.slice + number * self.row
    }
}

/// How a box is cut: slices, runs of a slice, bytes of a run.
fn cut([width, height, depth]: Extent, sides: [Side; 2]) -> (u64, u64, u64) {
    let rows_touch = height == 1 || sides.iter().all(|side| side.row == width);
    let slices_touch = depth == 1 || sides.iter().all(|side| side.slice == width * height);
    match (rows_touch, slices_touch) {
        (true, true) => (1, 1, width * height * depth),
        (true, false) => (depth, 1, width * height),
        (false, _) => (depth, height, width),
    }
}

/// # Safety
/// The contract of `cuMemcpy3D`.
unsafe fn copy_3d(copy: *const CUDA_MEMCPY3D, stream: CUstream, when: When) -> CUresult {
    if copy.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null, readable by the API's contract.
    let shape = unsafe { copy.read() };
    let extent = [shape.width_in_bytes, shape.height, shape.depth].map(|size| size as u64);
    in_stream(stream, when, |copy| {
        if extent.contains(&0) {
            return Ok(());
        }
        let (source, destination) = (source_of(&shape), destination_of(&shape));
        let (source, destination) = (source.resolve(extent)?, destination.resolve(extent)?);
        let (slices, runs, bytes) = cut(extent, [source, destination]);
        for slice in 0..slices {
            for run in 0..runs {
                let (to, from) = (destination.at(slice, run), source.at(slice, run));
                // SAFETY: the caller's promise for every row.
                unsafe { copy.unified(to, from, bytes as usize) }?;
            }
        }
        Ok(())
    })
}

fn source_of(shape: &CUDA_MEMCPY3D) -> Described {
    Described {
        memory_type: shape.src_memory_type,
        host: shape.src_host,
        device: shape.src_device,
        origin: [shape.src_x_in_bytes, shape.src_y, shape.src_z],
        lod: shape.src_lod,
        reserved: shape.reserved0,
        pitch: shape.src_pitch,
        rows: shape.src_height,
    }
}

fn destination_of(shape: &CUDA_MEMCPY3D) -> Described {
    Described {
        memory_type: shape.dst_memory_type,
        host: shape.dst_host,
        device: shape.dst_device,
        origin: [shape.dst_x_in_bytes, shape.dst_y, shape.dst_z],
        lod: shape.dst_lod,
        reserved: shape.reserved1,
        pitch: shape.dst_pitch,
        rows: shape.dst_height,
    }
}

pub(crate) unsafe fn cuMemcpy3D_v2(copy: *const CUDA_MEMCPY3D) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_3d(copy, CUstream(0), When::Now) }
}

pub(crate) unsafe fn cuMemcpy3DAsync_v2(copy: *const CUDA_MEMCPY3D, stream: CUstream) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_3d(copy, stream, When::Later) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(pitch: u64, rows: u64, extent: Extent) -> Side {
        Side::new(4096, [0; 3], (pitch, rows), extent).expect("a box")
    }

    #[test]
    fn what_touches_on_both_sides_is_one_run() {
        let extent = [8, 4, 2];
        let dense = side(0, 0, extent);
        assert_eq!(cut(extent, [dense, dense]), (1, 1, 64));
        assert_eq!(cut(extent, [dense, side(8, 6, extent)]), (2, 1, 32));
        assert_eq!(cut(extent, [side(16, 4, extent), dense]), (2, 4, 8));
    }

    #[test]
    fn an_origin_is_counted_in_bytes_rows_and_slices() {
        let side = Side::new(4096, [3, 2, 1], (16, 8), [8, 4, 2]).expect("a box");
        assert_eq!(side.at(0, 0), 4096 + 3 + 2 * 16 + 128);
        assert_eq!(side.at(1, 3), side.first + 128 + 48);
    }

    #[test]
    fn overlaps_and_overflows_are_refused() {
        assert_eq!(Side::new(0, [0; 3], (7, 4), [8, 4, 1]), None);
        assert_eq!(Side::new(0, [0; 3], (8, 3), [8, 4, 2]), None);
        assert_eq!(Side::new(u64::MAX - 8, [0; 3], (8, 1), [8, 1, 2]), None);
        assert_eq!(Side::new(0, [0, u64::MAX, 0], (8, 1), [8, 1, 1]), None);
        assert_eq!(Side::new(0, [0; 3], (u64::MAX, 2), [8, 1, 2]), None);
    }
}
