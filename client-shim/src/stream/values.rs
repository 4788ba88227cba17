//! Stream memory operations: a stream waits for a word of device memory, or writes one.
//!
//! Posted once everything that can be wrong was found here: the operation, its flags, the device's abilities, the address. A wait with a flush of
//! remote writes is asked, since only the driver knows whether it can. Words are of device memory, or of pinned memory, which is mapped then.
//!
//! # Safety
//! A batch's array is read for as many elements as the call says, by the API's contract.
#![expect(unsafe_code, reason = "an array of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::sync::Arc;

use driver_api::abi::{CUdeviceptr, CUresult, CUstream, CUstreamBatchMemOpParams};
use driver_api::stream_memory::{MAX_OPERATIONS, StreamMemoryOperation, kind};
use driver_api::wire::request::GpurunStreamMemory;
use zerocopy::IntoBytes;

use super::{Stream, resolve_any};
use crate::capture;
use crate::device::Device;
use crate::entry::code;
use crate::graph::{MemoryCall, Operation};
use crate::session::{self, Session};

/// `CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS` and its relative for the fourth condition.
const CAN_USE_64_BITS: u32 = 122;
const CAN_WAIT_FOR_NOR: u32 = 123;

fn check(
    session: &Session,
    device: &Device,
    operation: &StreamMemoryOperation,
) -> Result<(), CUresult> {
    operation.check()?;
    let can = |attribute| device.attribute(attribute).is_ok_and(|value| value != 0);
    if (operation.word_bytes() == 8 && !can(CAN_USE_64_BITS))
        || (operation.waits_for_nor() && !can(CAN_WAIT_FOR_NOR))
    {
        return Err(CUresult::NOT_SUPPORTED);
    }
    if operation.word_bytes() == 0 {
        return Ok(());
    }
    let address = operation.address.get();
    let memory = &session.objects.memory;
    memory.reach(session, address, operation.word_bytes())
}

fn run(stream: CUstream, operations: &[StreamMemoryOperation]) -> Result<(), CUresult> {
    let (session, context) = session::current()?;
    let stream = resolve_any(session, &context, stream)?;
    check_all(session, context.device, operations)?;
    if capture::is_captured(session, &stream)? {
        let call = MemoryCall::new(operations);
        return capture::add(&stream, Operation::Memory(Arc::new(call)));
    }
    post(session, &stream, operations)
}

/// Whether a device can do these.
pub(crate) fn check_all(
    session: &Session,
    device: usize,
    operations: &[StreamMemoryOperation],
) -> Result<(), CUresult> {
    let device = &session.devices[device];
    operations
        .iter()
        .try_for_each(|operation| check(session, device, operation))
}

/// Puts operations that were checked into a stream.
pub(crate) fn post(
    session: &Session,
    stream: &Stream,
    operations: &[StreamMemoryOperation],
) -> Result<(), CUresult> {
    if operations.is_empty() {
        return Ok(());
    }
    let count = operations.len();
    let request = GpurunStreamMemory::new(stream.wire_id(), count as u32);
    if operations.iter().any(StreamMemoryOperation::flushes) {
        session.ask_work(stream, &request, operations.as_bytes())
    } else {
        session.post_operations(stream, count as u64, &request, operations.as_bytes())
    }
}

macro_rules! operations {
    ($($value:ty, $kind:ident: $old:ident, $new:ident;)*) => {$(
        pub(crate) unsafe fn $old(stream: CUstream, addr: CUdeviceptr, value: $value, flags: c_uint) -> CUresult {
            let operation = StreamMemoryOperation::new(kind::$kind, addr, value.into(), flags);
            code(run(stream, &[operation]))
        }

        pub(crate) unsafe fn $new(stream: CUstream, addr: CUdeviceptr, value: $value, flags: c_uint) -> CUresult {
            let operation = StreamMemoryOperation::new(kind::$kind, addr, value.into(), flags);
            code(run(stream, &[operation]))
        }
    )*};
}

operations! {
    u32, WAIT_32: cuStreamWaitValue32, cuStreamWaitValue32_v2;
    u64, WAIT_64: cuStreamWaitValue64, cuStreamWaitValue64_v2;
    u32, WRITE_32: cuStreamWriteValue32, cuStreamWriteValue32_v2;
    u64, WRITE_64: cuStreamWriteValue64, cuStreamWriteValue64_v2;
}

/// # Safety
/// `parameters` has `count` elements.
pub(crate) unsafe fn operations_at(
    count: c_uint,
    parameters: *const CUstreamBatchMemOpParams,
    flags: c_uint,
) -> Result<Vec<StreamMemoryOperation>, CUresult> {
    let count = count as usize;
    if flags != 0 || count > MAX_OPERATIONS || (parameters.is_null() && count > 0) {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok((0..count)
        // SAFETY: the caller's promise.
        .map(|index| unsafe { parameters.add(index).read() })
        .map(|parameters| StreamMemoryOperation::from_parameters(&parameters))
        .collect())
}

pub(crate) unsafe fn cuStreamBatchMemOp(
    stream: CUstream,
    count: c_uint,
    param_array: *mut CUstreamBatchMemOpParams,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the API's contract.
    code(unsafe { operations_at(count, param_array, flags) }.and_then(|all| run(stream, &all)))
}

pub(crate) unsafe fn cuStreamBatchMemOp_v2(
    stream: CUstream,
    count: c_uint,
    param_array: *mut CUstreamBatchMemOpParams,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the API's contract.
    code(unsafe { operations_at(count, param_array, flags) }.and_then(|all| run(stream, &all)))
}
