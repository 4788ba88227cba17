//! Batches of copies: all are checked, then each is a copy of its own in the stream, or a node of its graph.
//!
//! A source that may be read only during the call is the program's memory, which a copy has read when it returns, or a device's: then the call waits
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
use driver_api::copy_layout::{SourceOrder, attributes_of_batch};
use driver_api::per_thread;

use super::copy::{self, UNIFIED};
use super::{BoxCopy, out};
use crate::capture;
use crate::entry::code;
use crate::graph::Operation;
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// Why a batch is refused, and the number of the copy that is wrong; `usize::MAX` where it is none.
struct Refused(CUresult, usize);

impl From<CUresult> for Refused {
    fn from(error: CUresult) -> Self {
        Self(error, usize::MAX)
    }
}

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
        has_to_wait |= *order == SourceOrder::DuringCall && copy.reads_device();
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

/// # Safety
/// `elements` is null or has `count` elements.
unsafe fn elements<T: Copy>(elements: *mut T, count: usize) -> Result<Vec<T>, CUresult> {
    let first = out(elements)?;
    if count == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let element = |index| unsafe { first.add(index).read() };
    Ok((0..count).map(element).collect())
}

fn line(
    session: &Session,
    (destination, source, size): (CUdeviceptr, CUdeviceptr, usize),
    attributes: &CUmemcpyAttributes,
) -> Result<Ordered, CUresult> {
    let order = attributes.order()?;
    let (to, from) = ((UNIFIED, destination), (UNIFIED, source));
    Ok((BoxCopy::linear(session, to, from, size)?, order))
}

/// The arrays of a batch of copies in a row.
struct Lines {
    destinations: *mut CUdeviceptr,
    sources: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attributes: *mut CUmemcpyAttributes,
    first: *mut usize,
    attribute_count: usize,
}

impl Lines {
    /// # Safety
    /// The arrays have as many elements as it says, or are null.
    unsafe fn copies(&self, session: &Session) -> Result<Vec<Ordered>, Refused> {
        // SAFETY: the caller's promise.
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
        let ordered = |(index, (((to, from), size), attributes))| {
            let described = line(session, (to, from, size), attributes);
            described.map_err(|error| Refused(error, index))
        };
        lines.enumerate().map(ordered).collect()
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
    // SAFETY: the API's contract.
    unsafe { batch(stream, fail_idx, |session| lines.copies(session)) }
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

/// # Safety
/// `operations` is null or has `count` elements.
unsafe fn boxes(
    session: &Session,
    operations: *mut CUDA_MEMCPY3D_BATCH_OP,
    count: usize,
    flags: c_ulonglong,
) -> Result<Vec<Ordered>, Refused> {
    if flags != 0 {
        return Err(CUresult::INVALID_VALUE.into());
    }
    // SAFETY: the caller's promise.
    let operations = unsafe { elements(operations, count) }?;
    let ordered = |(index, operation): (usize, CUDA_MEMCPY3D_BATCH_OP)| {
        let described = operation
            .plain()
            .and_then(|(description, order)| Ok((BoxCopy::new(session, description)?, order)));
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
    // SAFETY: the API's contract.
    unsafe {
        batch(stream, fail_idx, |session| {
            boxes(session, op_list, num_params, flags)
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
        let attributes = unsafe { out(attr)?.read() };
        Ok(vec![line(session, (dst, src, size), &attributes)?])
    }))
}

pub(crate) unsafe fn cuMemcpy3DWithAttributesAsync(
    op: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    code(describe_and_put(stream, |session| {
        // SAFETY: the API's contract.
        let described = unsafe { boxes(session, op, 1, flags) };
        described.map_err(|Refused(error, _)| error)
    }))
}
