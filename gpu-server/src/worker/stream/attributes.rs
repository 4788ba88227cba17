//! Attributes of streams: the driver's own.
//!
//! # Safety
//! Stream handles come from this session's tables, values are locals of the driver's size; of the attributes only those pass that hold no
//! handle.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use driver_api::abi::{CUstream, CUstreamAttrValue};
use driver_api::result::CUresult;
use driver_api::stream_attribute::{COPY, GET, OF_STREAMS, SET};
use driver_api::wire::{reply, request};

use crate::driver::cuda;
use crate::worker::call::{Call, CallError};

/// Tells an attribute, sets one, or copies all of another stream.
pub(crate) fn gpurunStreamAttribute(
    call: &mut Call<'_>,
    request: &request::GpurunStreamAttribute,
) -> Result<(), CallError> {
    let (driver, attribute) = (call.driver(), request.attribute());
    let stream: CUstream = call.handle(request.stream())?;
    let mut value = CUstreamAttrValue {
        words: request.value(),
    };
    match request.operation() {
        GET | SET if !OF_STREAMS.contains(&attribute) => return Err(CUresult::INVALID_VALUE.into()),
        GET => cuda!(driver, cuStreamGetAttribute(stream, attribute, &mut value))?,
        SET => cuda!(driver, cuStreamSetAttribute(stream, attribute, &value))?,
        COPY => {
            let other: CUstream = call.handle(request.other())?;
            cuda!(driver, cuStreamCopyAttributes(stream, other))?;
        }
        _ => return Err(CallError::Violation("an operation on no attribute")),
    }
    call.reply(&reply::GpurunStreamAttribute::new(value.words));
    Ok(())
}
