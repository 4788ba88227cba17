//! Copies between contexts.
//!
//! All memory of a process lies in one address space, so these are copies as others: what they have more is that the contexts must be there.
//!
//! # Safety
//!
//! Descriptions of copies are read through pointers that the caller passed.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use driver_api::abi::{CUDA_MEMCPY3D_PEER, CUcontext, CUdeviceptr, CUresult, CUstream};

use super::copy::{Copy, End, When, copy, line, line_in};
use crate::context::find;
use crate::entry::done;

/// Each of the contexts must be there.
fn check(contexts: impl IntoIterator<Item = CUcontext>) -> Result<(), CUresult> {
    contexts
        .into_iter()
        .try_for_each(|context| match context.0 {
            0 => Err(CUresult::INVALID_CONTEXT),
            _ => find(context).map(drop),
        })
}

pub(crate) unsafe fn cuMemcpyPeer(
    dst_device: CUdeviceptr,
    dst_context: CUcontext,
    src_device: CUdeviceptr,
    src_context: CUcontext,
    byte_count: usize,
) -> CUresult {
    let (to, from) = (End::Device(dst_device), End::Device(src_device));
    match check([dst_context, src_context]) {
        Err(error) => error,
        Ok(()) => line(to, from, byte_count, When::Posted),
    }
}

pub(crate) unsafe fn cuMemcpyPeerAsync(
    dst_device: CUdeviceptr,
    dst_context: CUcontext,
    src_device: CUdeviceptr,
    src_context: CUcontext,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let (to, from) = (End::Device(dst_device), End::Device(src_device));
    match check([dst_context, src_context]) {
        Err(error) => error,
        Ok(()) => line_in(stream, to, from, byte_count),
    }
}

/// # Safety
///
/// `description` is null or points to a description of a copy.
unsafe fn copy_box(
    description: *const CUDA_MEMCPY3D_PEER,
    stream: CUstream,
    when: When,
) -> Result<(), CUresult> {
    if description.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let description = unsafe { description.read_unaligned() };
    check(description.contexts())?;
    // SAFETY: a description, of our own.
    let described = unsafe { Copy::described(&description.plain()) }?;
    copy(described, stream, when)
}

pub(crate) unsafe fn cuMemcpy3DPeer(copy: *const CUDA_MEMCPY3D_PEER) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_box(copy, CUstream(0), When::Done) })
}

pub(crate) unsafe fn cuMemcpy3DPeerAsync(
    copy: *const CUDA_MEMCPY3D_PEER,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller's promise is the same.
    done(unsafe { copy_box(copy, stream, When::Posted) })
}
