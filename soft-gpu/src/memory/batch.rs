//! Batches of copies: all are checked, then they are put into the stream one by one.
//!
//! # Safety
//!
//! Arrays and structures are read, and the number of the copy that is wrong is written, through pointers that the caller passed.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_ulonglong;

use driver_api::abi::{
    CUDA_MEMCPY3D, CUDA_MEMCPY3D_BATCH_OP, CUdeviceptr, CUmemcpyAttributes, CUresult, CUstream,
};
use driver_api::copy_batch::{Lines, Refused, boxes, elements};
use driver_api::copy_layout::SourceOrder;
use driver_api::per_thread;

use super::copy::{self, When, copy};
use crate::entry::{answer_if_asked, done};

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
    unsafe {
        answer_with(
            fail_idx,
            put_all(stream, || lines.copies(copy::Copy::unified)),
        )
    }
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

/// A description of our own.
fn described(description: CUDA_MEMCPY3D) -> Result<copy::Copy, CUresult> {
    // SAFETY: it is right here.
    unsafe { copy::Copy::described(&description) }
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
        let result = put_all(stream, || boxes(op_list, num_params, flags, described));
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
        let copies =
            unsafe { boxes(op, 1, flags, described) }.map_err(|Refused(error, _)| error)?;
        copies.into_iter().try_for_each(|copy| put(copy, stream))
    };
    done(run())
}
