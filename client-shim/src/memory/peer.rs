//! Copies between contexts.
//!
//! An address says on which device its memory is, and the worker knows how to copy from one to another: these are copies as others. What they have
//! more is that the contexts must be there.
//!
//! # Safety
//! Descriptions are read through pointers by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "descriptions are read through pointers")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use driver_api::abi::{CUDA_MEMCPY3D_PEER, CUcontext, CUdeviceptr, CUresult, CUstream};

use super::BoxCopy;
use super::boxes::{described, in_order, now};
use super::copy::{DEVICE, in_stream, later};
use crate::context;
use crate::session::Session;

/// Each of the contexts must be there.
fn check(contexts: impl IntoIterator<Item = CUcontext>) -> Result<(), CUresult> {
    contexts.into_iter().try_for_each(|handle| {
        let is_there = context::of(handle)?.is_active();
        is_there.then_some(()).ok_or(CUresult::INVALID_CONTEXT)
    })
}

pub(crate) unsafe fn cuMemcpyPeer(
    dst_device: CUdeviceptr,
    dst_context: CUcontext,
    src_device: CUdeviceptr,
    src_context: CUcontext,
    byte_count: usize,
) -> CUresult {
    in_stream(CUstream(0), |copy| {
        check([dst_context, src_context])?;
        copy.within_device(dst_device, src_device, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyPeerAsync(
    dst_device: CUdeviceptr,
    dst_context: CUcontext,
    src_device: CUdeviceptr,
    src_context: CUcontext,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let describe = |session: &Session| {
        check([dst_context, src_context])?;
        let (to, from) = ((DEVICE, dst_device), (DEVICE, src_device));
        BoxCopy::linear(session, to, from, byte_count)
    };
    later(stream, describe, |copy| {
        check([dst_context, src_context])?;
        copy.within_device(dst_device, src_device, byte_count)
    })
}

fn checked(
    session: &Session,
    description: Result<CUDA_MEMCPY3D_PEER, CUresult>,
) -> Result<BoxCopy, CUresult> {
    let description = description?;
    check(description.contexts())?;
    BoxCopy::new(session, description.plain())
}

pub(crate) unsafe fn cuMemcpy3DPeer(copy: *const CUDA_MEMCPY3D_PEER) -> CUresult {
    // SAFETY: the API's contract.
    let description = unsafe { described(copy) };
    now(|session| checked(session, description))
}

pub(crate) unsafe fn cuMemcpy3DPeerAsync(
    copy: *const CUDA_MEMCPY3D_PEER,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the API's contract.
    let description = unsafe { described(copy) };
    in_order(stream, |session| checked(session, description))
}
