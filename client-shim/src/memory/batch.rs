//! Batches of copies: all are checked, then each is a copy of its own in the stream, or a node of its graph.
//!
//! A source that may be read only during the call is the program's memory, which a copy has read when it returns, or what a device reads: then the call waits
//! for the stream.
//!
//! # Safety
//! Arrays and structures are read, and the number of the copy that is wrong is written, through pointers by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "arrays and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_ulonglong;
use std::sync::Arc;

use driver_api::abi::{
    CUDA_MEMCPY3D_BATCH_OP, CUdeviceptr, CUmemcpyAttributes, CUresult, CUstream,
};
use driver_api::copy_batch::{Lines, Refused, boxes};
use driver_api::copy_layout::SourceOrder;
use driver_api::per_thread;

use super::copy::{self, UNIFIED};
use super::{BoxCopy, out};
use crate::capture;
use crate::entry::code;
use crate::graph::Operation;
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// A copy, and when its source may be read.
type Ordered = (BoxCopy, SourceOrder);

/// Puts copies into a stream.
fn put(session: &Session, stream: &Arc<Stream>, copies: Vec<Ordered>) -> Result<(), CUresult> {
    if capture::is_captured(session, stream)? {
        let nodes: Vec<_> = copies
            .into_iter()
            .map(|(copy, _)| copy.of_graph())
            .collect::<Result<_, _>>()?;
        return nodes
            .into_iter()
            .try_for_each(|node| capture::add(stream, Operation::Copy(node)));
    }
    let mut has_to_wait = false;
    for (copy, order) in &copies {
        copy.run(session, &copy::Copy::later(session, stream))?;
        has_to_wait |= *order == SourceOrder::DuringCall && copy.reads_device(session);
    }
    match has_to_wait {
        true => stream.synchronise(session),
        false => Ok(()),
    }
}

/// Describes copies and puts them into a stream of the current context.
fn describe_and_put<E: From<CUresult>>(
    stream: CUstream,
    describe: impl FnOnce(&Session) -> Result<Vec<Ordered>, E>,
) -> Result<(), E> {
    let (session, context) = session::current()?;
    let stream = stream::resolve_any(session, &context, stream)?;
    let copies = describe(session)?;
    Ok(put(session, &stream, copies)?)
}

/// The answer of a call whose batch goes into any stream but the legacy one.
///
/// # Safety
/// `wrong` is null or writable.
unsafe fn batch(
    stream: CUstream,
    wrong: *mut usize,
    describe: impl FnOnce(&Session) -> Result<Vec<Ordered>, Refused>,
) -> CUresult {
    let result = match per_thread::effective(stream).0 {
        0 => Err(CUresult::INVALID_VALUE.into()),
        _ => describe_and_put(stream, describe),
    };
    let Err(Refused(error, index)) = result else {
        return CUresult::SUCCESS;
    };
    if !wrong.is_null() {
        // SAFETY: the caller's promise, and not null.
        unsafe { wrong.write(index) };
    }
    error
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
    // SAFETY: the API's contract.
    unsafe {
        batch(stream, fail_idx, |session| {
            lines.copies(|to, from, size| line(session, to, from, size))
        })
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
    // SAFETY: the same contract.
    unsafe {
        cuMemcpyBatchAsync(
            dsts, srcs, sizes, count, attrs, attr_idxs, num_attrs, none, stream,
        )
    }
}

fn line(
    session: &Session,
    destination: CUdeviceptr,
    source: CUdeviceptr,
    size: usize,
) -> Result<BoxCopy, CUresult> {
    BoxCopy::linear(session, (UNIFIED, destination), (UNIFIED, source), size)
}

pub(crate) unsafe fn cuMemcpy3DBatchAsync(
    num_params: usize,
    op_list: *mut CUDA_MEMCPY3D_BATCH_OP,
    fail_idx: *mut usize,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe {
        batch(stream, fail_idx, |session| {
            boxes(op_list, num_params, flags, |copy| {
                BoxCopy::new(session, copy)
            })
        })
    }
}

pub(crate) unsafe fn cuMemcpy3DBatchAsync_v2(
    num_params: usize,
    op_list: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuMemcpy3DBatchAsync(num_params, op_list, core::ptr::null_mut(), flags, stream) }
}

pub(crate) unsafe fn cuMemcpyWithAttributesAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    size: usize,
    attr: *mut CUmemcpyAttributes,
    stream: CUstream,
) -> CUresult {
    code(describe_and_put(stream, |session| {
        // SAFETY: the API's contract.
        let order = unsafe { out(attr)?.read() }.order()?;
        Ok(vec![(line(session, dst, src, size)?, order)])
    }))
}

pub(crate) unsafe fn cuMemcpy3DWithAttributesAsync(
    op: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    code(describe_and_put(stream, |session| {
        // SAFETY: the API's contract.
        let described = unsafe { boxes(op, 1, flags, |copy| BoxCopy::new(session, copy)) };
        described.map_err(|Refused(error, _)| error)
    }))
}
