//! Events: the rows of the `event` area.
//!
//! # Safety
//! Event and stream handles come from this session's tables, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use driver_api::abi::CUevent;
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};

use super::call::{Call, CallError};
use super::stream;
use crate::driver::cuda;

/// A driver's event.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) handle: CUevent,
    /// The serial of its context.
    pub(crate) context: u64,
}

/// Records an event, and a mark with it if `mark` is not 0.
pub(crate) fn gpurunEventRecord(
    call: &mut Call<'_>,
    request: &request::GpurunEventRecord,
) -> Result<(), CallError> {
    let recorded = record(call, request);
    if request.mark() != 0 {
        // Even where the record failed: someone may wait for the mark.
        stream::mark(call, request.stream().0, request.mark(), false)?;
    }
    recorded.map_err(CallError::from)
}

fn record(call: &Call<'_>, request: &request::GpurunEventRecord) -> Result<(), CUresult> {
    let event: CUevent = call.handle(request.event())?;
    let stream = call.stream(request.stream().0)?.handle;
    match request.flags() {
        0 => cuda!(call.driver(), cuEventRecord(event, stream)),
        flags => cuda!(call.driver(), cuEventRecordWithFlags(event, stream, flags)),
    }
}

/// Milliseconds between two completed events.
pub(crate) fn gpurunEventElapsed(
    call: &mut Call<'_>,
    request: &request::GpurunEventElapsed,
) -> Result<(), CallError> {
    let start: CUevent = call.handle(request.start())?;
    let end: CUevent = call.handle(request.end())?;
    let driver = call.driver();
    let mut milliseconds = 0.0;
    if driver.cuEventElapsedTime_v2.is_some() {
        cuda!(driver, cuEventElapsedTime_v2(&mut milliseconds, start, end))?;
    } else {
        cuda!(driver, cuEventElapsedTime(&mut milliseconds, start, end))?;
    }
    call.reply(&reply::GpurunEventElapsed::new(milliseconds));
    Ok(())
}

/// The end of an event.
pub(crate) fn gpurunEventDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunEventDestroy,
) -> Result<(), CallError> {
    let event = call
        .session
        .events
        .remove(request.event().0)
        .ok_or(CUresult::INVALID_HANDLE)?;
    cuda!(call.driver(), cuEventDestroy_v2(event.handle))?;
    Ok(())
}
