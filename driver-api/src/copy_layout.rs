//! The driver's structures for copies between contexts and for batches of copies, and what they mean as plain copies.
//!
//! A batch is the copies that it is made of: its whole description is checked first, so that of one that is wrong nothing is copied, and the first
//! copy that is wrong is known by its number.

use core::ffi::c_uint;

use crate::abi::{CUDA_MEMCPY3D, CUarray, CUcontext, CUdeviceptr, CUmemLocation, CUresult};

/// `CU_MEMORYTYPE_*`.
const HOST: c_uint = 1;
const MEMORY_ARRAY: c_uint = 3;
const UNIFIED: c_uint = 4;

/// `CU_MEMCPY_SRC_ACCESS_ORDER_*`: when the source of a copy may be read.
const STREAM_ORDER: c_uint = 1;
const DURING_CALL: c_uint = 2;
const ANY_TIME: c_uint = 3;
/// `CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE`, a hint.
const ALL_FLAGS: c_uint = 1;
/// `CU_MEMCPY_OPERAND_TYPE_*`.
const POINTER: c_uint = 1;
const ARRAY: c_uint = 2;

/// A box to copy between contexts: a [`CUDA_MEMCPY3D`] with contexts in its two reserved places.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
#[expect(non_camel_case_types, reason = "the driver's name")]
pub struct CUDA_MEMCPY3D_PEER(pub CUDA_MEMCPY3D);

impl CUDA_MEMCPY3D_PEER {
    /// The contexts that it names: one for each end that is memory of a device. The driver API ignores that of an array.
    pub fn contexts(&self) -> impl Iterator<Item = CUcontext> {
        let ends = [
            (self.0.src_memory_type, self.0.reserved0),
            (self.0.dst_memory_type, self.0.reserved1),
        ];
        let of_device = ends
            .into_iter()
            .filter(|(kind, _)| !matches!(*kind, HOST | MEMORY_ARRAY));
        of_device.map(|(_, context)| CUcontext(context.addr()))
    }

    /// The same copy without its contexts: an address says where it is.
    #[must_use]
    pub fn plain(&self) -> CUDA_MEMCPY3D {
        CUDA_MEMCPY3D {
            reserved0: core::ptr::null_mut(),
            reserved1: core::ptr::null_mut(),
            ..self.0
        }
    }
}

/// What is said of copies of a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUmemcpyAttributes {
    /// When the source may be read.
    pub src_access_order: c_uint,
    /// A hint for managed memory.
    pub src_loc_hint: CUmemLocation,
    /// A hint for managed memory.
    pub dst_loc_hint: CUmemLocation,
    /// `CU_MEMCPY_FLAG_*`.
    pub flags: c_uint,
}

/// When the source of a copy may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceOrder {
    /// When the stream has come to it.
    InStream,
    /// At once, and never after the call has returned.
    DuringCall,
    /// At any time.
    Any,
}

impl SourceOrder {
    fn new(order: c_uint, flags: c_uint) -> Result<Self, CUresult> {
        match order {
            _ if flags & !ALL_FLAGS != 0 => Err(CUresult::INVALID_VALUE),
            STREAM_ORDER => Ok(Self::InStream),
            DURING_CALL => Ok(Self::DuringCall),
            ANY_TIME => Ok(Self::Any),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}

impl CUmemcpyAttributes {
    /// When the source may be read.
    ///
    /// # Errors
    /// INVALID_VALUE for an order or a flag that there is not.
    pub fn order(&self) -> Result<SourceOrder, CUresult> {
        SourceOrder::new(self.src_access_order, self.flags)
    }
}

/// The attributes of each copy of a batch: `first[k]` is the first copy that `attributes[k]` are for.
///
/// # Errors
/// INVALID_VALUE if the numbers do not ascend from 0, or reach beyond the batch.
pub fn attributes_of_batch<'a>(
    count: usize,
    attributes: &'a [CUmemcpyAttributes],
    first: &[usize],
) -> Result<impl Iterator<Item = &'a CUmemcpyAttributes>, CUresult> {
    let ascends = first.windows(2).all(|pair| pair[0] < pair[1]);
    let ends = (first.first(), first.last());
    let is_inside = matches!(ends, (Some(0), Some(last)) if *last < count);
    if !ascends || !is_inside || attributes.len() != first.len() {
        return Err(CUresult::INVALID_VALUE);
    }
    let ends = first[1..].iter().copied().chain([count]);
    let runs = first.iter().copied().zip(ends).map(|(from, to)| to - from);
    let each = attributes
        .iter()
        .zip(runs.collect::<Vec<_>>())
        .flat_map(|(attributes, run)| std::iter::repeat_n(attributes, run));
    Ok(each)
}

/// One end of a box of a batch: a pointer with lengths of rows and slices, or an array with an offset; the words are of the one or the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOperand {
    /// `CU_MEMCPY_OPERAND_TYPE_*`.
    pub kind: c_uint,
    /// The pointer, its row's length, its slice's height, its location; or the array and the offset in three directions.
    pub words: [u64; 4],
}

/// A box to copy, of a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUDA_MEMCPY3D_BATCH_OP {
    /// From where.
    pub src: CopyOperand,
    /// To where.
    pub dst: CopyOperand,
    /// Elements of a row, rows, slices: none is 0.
    pub extent: [usize; 3],
    /// When the source may be read.
    pub src_access_order: c_uint,
    /// `CU_MEMCPY_FLAG_*`.
    pub flags: c_uint,
}

impl CUDA_MEMCPY3D_BATCH_OP {
    /// The copy of one box, and when its source may be read.
    ///
    /// # Errors
    /// INVALID_VALUE for what is not a box; NOT_SUPPORTED for an array.
    pub fn plain(&self) -> Result<(CUDA_MEMCPY3D, SourceOrder), CUresult> {
        let order = SourceOrder::new(self.src_access_order, self.flags)?;
        let [width, height, depth] = self.extent;
        if width == 0 || height == 0 || depth == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let (from, row, rows) = self.src.pointer(self.extent)?;
        let (to, dst_row, dst_rows) = self.dst.pointer(self.extent)?;
        let copy = CUDA_MEMCPY3D {
            src_x_in_bytes: 0,
            src_y: 0,
            src_z: 0,
            src_lod: 0,
            src_memory_type: UNIFIED,
            src_host: core::ptr::null(),
            src_device: from,
            src_array: CUarray(0),
            reserved0: core::ptr::null_mut(),
            src_pitch: row,
            src_height: rows,
            dst_x_in_bytes: 0,
            dst_y: 0,
            dst_z: 0,
            dst_lod: 0,
            dst_memory_type: UNIFIED,
            dst_host: core::ptr::null_mut(),
            dst_device: to,
            dst_array: CUarray(0),
            reserved1: core::ptr::null_mut(),
            dst_pitch: dst_row,
            dst_height: dst_rows,
            width_in_bytes: width,
            height,
            depth,
        };
        Ok((copy, order))
    }
}

impl CopyOperand {
    /// The pointer, bytes of a row and rows of a slice; between pointers an element is a byte.
    fn pointer(
        &self,
        [width, height, _]: [usize; 3],
    ) -> Result<(CUdeviceptr, usize, usize), CUresult> {
        let [pointer, row, rows, _] = self.words;
        let (row, rows) = (row as usize, rows as usize);
        match self.kind {
            POINTER if (row == 0 || row >= width) && (rows == 0 || rows >= height) => {
                Ok((pointer, row, rows))
            }
            ARRAY => Err(CUresult::NOT_SUPPORTED),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_for_the_copies_from_their_number_on() {
        let attributes = [1, 2].map(|order| CUmemcpyAttributes {
            src_access_order: order,
            ..CUmemcpyAttributes::default()
        });
        let orders = |count, first: &[usize]| {
            let each = attributes_of_batch(count, &attributes[..first.len()], first)?;
            Ok(each.map(|one| one.src_access_order).collect::<Vec<_>>())
        };
        assert_eq!(orders(4, &[0, 3]), Ok(vec![1, 1, 1, 2]));
        assert_eq!(orders(2, &[0]), Ok(vec![1, 1]));
        for (count, first) in [
            (4, &[][..]),
            (4, &[1]),
            (4, &[0, 0]),
            (4, &[0, 4]),
            (0, &[0]),
        ] {
            let wrong = orders(count, first);
            assert_eq!(wrong, Err(CUresult::INVALID_VALUE), "{count} {first:?}");
        }
    }

    #[test]
    fn a_box_is_checked_before_it_is_a_copy() {
        let operand = |row, rows| CopyOperand {
            kind: POINTER,
            words: [4096, row, rows, 0],
        };
        let sound = CUDA_MEMCPY3D_BATCH_OP {
            src: operand(0, 0),
            dst: operand(16, 3),
            extent: [8, 2, 4],
            src_access_order: STREAM_ORDER,
            flags: 1,
        };
        let (copy, order) = sound.plain().expect("sound");
        assert_eq!(
            (copy.src_pitch, copy.dst_pitch, copy.dst_height),
            (0, 16, 3)
        );
        assert_eq!(order, SourceOrder::InStream);
        let wrong = |change: fn(&mut CUDA_MEMCPY3D_BATCH_OP)| {
            let mut operation = sound;
            change(&mut operation);
            operation.plain().map(drop)
        };
        assert_eq!(wrong(|op| op.extent[2] = 0), Err(CUresult::INVALID_VALUE));
        assert_eq!(
            wrong(|op| op.src.words[1] = 7),
            Err(CUresult::INVALID_VALUE)
        );
        assert_eq!(
            wrong(|op| op.dst.words[2] = 1),
            Err(CUresult::INVALID_VALUE)
        );
        assert_eq!(
            wrong(|op| op.src_access_order = 0),
            Err(CUresult::INVALID_VALUE)
        );
        assert_eq!(wrong(|op| op.flags = 2), Err(CUresult::INVALID_VALUE));
        assert_eq!(wrong(|op| op.src.kind = 3), Err(CUresult::INVALID_VALUE));
        assert_eq!(
            wrong(|op| op.src.kind = ARRAY),
            Err(CUresult::NOT_SUPPORTED)
        );
    }
}
