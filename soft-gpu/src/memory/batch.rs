//! Batches of copies: all are checked, then they are put into the stream one by one.
//!
//! # Safety
//!
//! Arrays and structures are read, and the number of the copy that is wrong is written, through pointers that the caller passed.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_ulonglong;

use driver_api::abi::{
    CUDA_MEMCPY3D_BATCH_OP, CUdeviceptr, CUmemcpyAttributes, CUresult, CUstream,
};
use driver_api::copy_layout::{SourceOrder, attributes_of_batch};
use driver_api::per_thread;

use super::copy::{self, When, copy};
use crate::entry::{answer_if_asked, done};

/// Why a batch is refused, and the number of the copy that is wrong; `usize::MAX` where it is none.
struct Refused(CUresult, usize);

impl From<CUresult> for Refused {
    fn from(error: CUresult) -> Self {
        Self(error, usize::MAX)
    }
}

/// A copy, and when its source may be read.
type Ordered = (copy::Copy, SourceOrder);

fn put((described, order): Ordered, stream: CUstream) -> Result<(), CUresult> {
    let when = match order {
        SourceOrder::DuringCall => When::SourceRead,
        SourceOrder::InStream | SourceOrder::Any => When::Posted,
    };
    copy(described, stream, when)
}

/// Puts a batch into a stream, which is not the legacy one.
fn put_all(
    stream: CUstream,
    copies: impl FnOnce() -> Result<Vec<Ordered>, Refused>,
) -> Result<(), Refused> {
    if per_thread::effective(stream).0 == 0 {
        return Err(CUresult::INVALID_VALUE.into());
    }
    for described in copies()? {
        put(described, stream)?;
    }
    Ok(())
}

/// # Safety
///
/// `elements` is null or has `count` elements.
unsafe fn elements<T: Copy>(elements: *const T, count: usize) -> Result<Vec<T>, CUresult> {
    if elements.is_null() || count == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract.
    Ok((0..count)
        .map(|index| unsafe { elements.add(index).read_unaligned() })
        .collect())
}

/// The arrays of a batch of copies in a row.
struct Lines {
    destinations: *const CUdeviceptr,
    sources: *const CUdeviceptr,
    sizes: *const usize,
    count: usize,
    attributes: *const CUmemcpyAttributes,
    first: *const usize,
    attribute_count: usize,
}

impl Lines {
    /// # Safety
    ///
    /// The arrays have as many elements as it says, or are null.
    unsafe fn copies(&self) -> Result<Vec<Ordered>, Refused> {
        // SAFETY: by contract.
        let (destinations, sources, sizes) = unsafe {
            (
                elements(self.destinations, self.count)?,
                elements(self.sources, self.count)?,
                elements(self.sizes, self.count)?,
            )
        };
        // SAFETY: as above.
        let (attributes, first) = unsafe {
            (
                elements(self.attributes, self.attribute_count)?,
                elements(self.first, self.attribute_count)?,
            )
        };
        let each = attributes_of_batch(self.count, &attributes, &first)?;
        let lines = destinations.into_iter().zip(sources).zip(sizes).zip(each);
        let ordered = |(index, (((to, from), size), attributes)): (usize, _)| {
            let described = |attributes: &CUmemcpyAttributes| {
                let order = attributes.order()?;
                Ok((copy::Copy::unified(to, from, size)?, order))
            };
            described(attributes).map_err(|error| Refused(error, index))
        };
        lines.enumerate().map(ordered).collect()
    }
}

/// The answer of a call that tells which copy is wrong.
///
/// # Safety
///
/// `index` is null or a place for a number.
unsafe fn answer_with(index: *mut usize, result: Result<(), Refused>) -> CUresult {
    match result {
        Ok(()) => CUresult::SUCCESS,
        Err(Refused(error, wrong)) => {
            // SAFETY: by contract.
            unsafe { answer_if_asked(index, wrong) };
            error
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuMemcpyBatchAsync(
    dsts: *mut CUdeviceptr,
    srcs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attrs: *mut CUmemcpyAttributes,
    attr_idxs: *mut usize,
    num_attrs: usize,
    fail_idx: *mut usize,
    stream: CUstream,
) -> CUresult {
    let lines = Lines {
        destinations: dsts,
        sources: srcs,
        sizes,
        count,
        attributes: attrs,
        first: attr_idxs,
        attribute_count: num_attrs,
    };
    // SAFETY: the caller passes arrays of these lengths, and a place for a number or null.
    unsafe { answer_with(fail_idx, put_all(stream, || lines.copies())) }
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuMemcpyBatchAsync_v2(
    dsts: *mut CUdeviceptr,
    srcs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attrs: *mut CUmemcpyAttributes,
    attr_idxs: *mut usize,
    num_attrs: usize,
    stream: CUstream,
) -> CUresult {
    let none = core::ptr::null_mut();
    // SAFETY: the caller's promises are the same.
    unsafe {
        cuMemcpyBatchAsync(
            dsts, srcs, sizes, count, attrs, attr_idxs, num_attrs, none, stream,
        )
    }
}

/// # Safety
///
/// `operations` is null or has `count` elements.
unsafe fn boxes(
    operations: *const CUDA_MEMCPY3D_BATCH_OP,
    count: usize,
    flags: c_ulonglong,
) -> Result<Vec<Ordered>, Refused> {
    if flags != 0 {
        return Err(CUresult::INVALID_VALUE.into());
    }
    // SAFETY: by contract.
    let operations = unsafe { elements(operations, count) }?;
    let ordered = |(index, operation): (usize, CUDA_MEMCPY3D_BATCH_OP)| {
        let described = operation.plain().and_then(|(description, order)| {
            // SAFETY: a description, of our own.
            Ok((unsafe { copy::Copy::described(&description) }?, order))
        });
        described.map_err(|error| Refused(error, index))
    };
    operations.into_iter().enumerate().map(ordered).collect()
}

pub(crate) unsafe fn cuMemcpy3DBatchAsync(
    num_params: usize,
    op_list: *mut CUDA_MEMCPY3D_BATCH_OP,
    fail_idx: *mut usize,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller passes an array of this length, and a place for a number or null.
    unsafe {
        let result = put_all(stream, || boxes(op_list, num_params, flags));
        answer_with(fail_idx, result)
    }
}

pub(crate) unsafe fn cuMemcpy3DBatchAsync_v2(
    num_params: usize,
    op_list: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe { cuMemcpy3DBatchAsync(num_params, op_list, core::ptr::null_mut(), flags, stream) }
}

pub(crate) unsafe fn cuMemcpyWithAttributesAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    size: usize,
    attr: *mut CUmemcpyAttributes,
    stream: CUstream,
) -> CUresult {
    let run = || {
        // SAFETY: the caller passes attributes.
        let attributes = unsafe { elements(attr, 1) }?;
        let order = attributes[0].order()?;
        put((copy::Copy::unified(dst, src, size)?, order), stream)
    };
    done(run())
}

pub(crate) unsafe fn cuMemcpy3DWithAttributesAsync(
    op: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    let run = || {
        // SAFETY: the caller passes one operation.
        let described = unsafe { boxes(op, 1, flags) }.map_err(|Refused(error, _)| error)?;
        described
            .into_iter()
            .try_for_each(|described| put(described, stream))
    };
    done(run())
}
