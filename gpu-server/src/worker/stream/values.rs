//! Stream memory operations: a stream waits for a word of device memory, or writes one.
//!
//! *Rules:* an operation is checked as if no client had done so: its kind, its flags, and that its word is memory of the session's. One alone goes by the
//! function that has only this purpose, which older drivers have too.
//!
//! # Safety
//! The stream's handle comes from this session's table, words lie in this session's ranges, the array is a local.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use driver_api::Driver;
use driver_api::abi::{CUstream, CUstreamBatchMemOpParams};
use driver_api::result::CUresult;
use driver_api::stream_memory::{MAX_OPERATIONS, StreamMemoryOperation, kind};
use driver_api::wire::request;
use zerocopy::FromBytes;

use crate::driver::cuda;
use crate::worker::call::{Call, CallError};
use crate::worker::pace;

/// Operations on words of device memory.
pub(crate) fn gpurunStreamMemory(
    call: &mut Call<'_>,
    request: &request::GpurunStreamMemory,
    rest: &[u8],
) -> Result<(), CallError> {
    let count = request.count() as usize;
    if count == 0 || count > MAX_OPERATIONS {
        return Err(CallError::Violation(
            "a number of stream memory operations that none may have",
        ));
    }
    let (operations, rest) = <[StreamMemoryOperation]>::ref_from_prefix_with_elems(rest, count)
        .map_err(|_| CallError::Violation("stream memory operations cut short"))?;
    if !rest.is_empty() {
        return Err(CallError::Violation("bytes after stream memory operations"));
    }
    for operation in operations {
        operation.check()?;
        if operation.word_bytes() > 0 {
            let memory = &call.session.memory;
            memory.check(operation.address.get(), operation.word_bytes())?;
        }
    }
    let stream = call.stream(request.stream().0)?;
    let waits = |operation: &StreamMemoryOperation| {
        matches!(operation.kind.get(), kind::WAIT_32 | kind::WAIT_64)
    };
    if operations.iter().any(waits) {
        pace::hold(&stream);
    }
    match operations {
        [operation] => one(call.driver(), stream.handle, operation)?,
        operations => several(call.driver(), stream.handle, operations)?,
    }
    Ok(())
}

fn one(
    driver: &Driver,
    stream: CUstream,
    operation: &StreamMemoryOperation,
) -> Result<(), CUresult> {
    let (address, flags) = (operation.address.get(), operation.flags.get());
    let (wide, narrow) = (operation.value.get(), operation.value.get() as u32);
    macro_rules! call {
        ($new:ident, $old:ident, $value:ident) => {
            match driver.$new {
                Some(_) => cuda!(driver, $new(stream, address, $value, flags)),
                None => cuda!(driver, $old(stream, address, $value, flags)),
            }
        };
    }
    match operation.kind.get() {
        kind::WAIT_32 => call!(cuStreamWaitValue32_v2, cuStreamWaitValue32, narrow),
        kind::WAIT_64 => call!(cuStreamWaitValue64_v2, cuStreamWaitValue64, wide),
        kind::WRITE_32 => call!(cuStreamWriteValue32_v2, cuStreamWriteValue32, narrow),
        kind::WRITE_64 => call!(cuStreamWriteValue64_v2, cuStreamWriteValue64, wide),
        _ => several(driver, stream, std::slice::from_ref(operation)),
    }
}

fn several(
    driver: &Driver,
    stream: CUstream,
    operations: &[StreamMemoryOperation],
) -> Result<(), CUresult> {
    let mut parameters: Vec<CUstreamBatchMemOpParams> = operations
        .iter()
        .map(StreamMemoryOperation::to_parameters)
        .collect();
    let (count, array) = (parameters.len() as u32, parameters.as_mut_ptr());
    match driver.cuStreamBatchMemOp_v2 {
        Some(_) => cuda!(driver, cuStreamBatchMemOp_v2(stream, count, array, 0)),
        None => cuda!(driver, cuStreamBatchMemOp(stream, count, array, 0)),
    }
}
