//! Copies between the program's memory and the device's, within the device, and fills.
//!
//! *Rules:* what a copy or a fill names is compared with the session's ranges before the driver sees it; what is on its way from or to the host is in a
//! buffer that a point of the same stream keeps.
//!
//! *Cost of a small copy to the device:* one look-up of the range, one driver call on the received bytes, no copy of ours. Of a small
//! copy to the host: one staging buffer, two driver calls; the poller answers, no thread blocks.
//!
//! # Safety
//! Device ranges are checked against this session's own; host pointers are a received body (the driver has taken pageable bytes when
//! it returns) or a staging buffer whose length bounds the copy and which a point of the same stream keeps.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::Arc;

use driver_api::Driver;
use driver_api::result::CUresult;
use driver_api::wire::request;
use protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_TRANSFER_BYTES};

use crate::driver::cuda;
use crate::worker::call::{Call, CallError};
use crate::worker::context::{self, Context};
use crate::worker::direct::{self, Stopwatch, Way};
use crate::worker::pace;
use crate::worker::point::{Action, Delivery, Flight};
use crate::worker::session::Session;
use crate::worker::staging::BUFFER_BYTES;
use crate::worker::stream::Stream;
use crate::worker::transfer::{Inbound, Part, Target};

/// Parts of an asked copy that are on their way at one time.
const PARTS_IN_FLIGHT: usize = 4;

/// Bytes to the device.
pub(crate) fn gpurunCopyToDevice(
    call: &mut Call<'_>,
    request: &request::GpurunCopyToDevice,
    bytes: &[u8],
) -> Result<(), CallError> {
    let (destination, length) = (request.destination(), request.length());
    if let Some(inbound) = call.inbound.clone() {
        if !bytes.is_empty() {
            return Err(CallError::Violation("a copy with a transfer and bytes"));
        }
        let issued = copy_transfer(call, request, &inbound);
        if issued.is_err() {
            inbound.refuse();
        }
        return issued.map_err(CallError::from);
    }
    if bytes.len() as u64 != length || bytes.len() > MAX_INLINE_COPY_BYTES {
        return Err(CallError::Violation("an inline copy of another length"));
    }
    if bytes.is_empty() {
        return Ok(());
    }
    let stream = call.stream(request.stream().0)?;
    call.session.memory.check(destination, length)?;
    cuda!(
        call.driver(),
        cuMemcpyHtoDAsync_v2(
            destination,
            bytes.as_ptr().cast(),
            bytes.len(),
            stream.handle
        )
    )?;
    Ok(())
}

fn copy_transfer(
    call: &Call<'_>,
    request: &request::GpurunCopyToDevice,
    inbound: &Inbound,
) -> Result<(), CUresult> {
    let destination = request.destination();
    let stream = call.stream(request.stream().0)?;
    call.session.memory.check(destination, request.length())?;
    let target = Target {
        stream,
        destination,
    };
    if call.is_on_lane {
        inbound.pull(call.session, &target)
    } else {
        inbound.push_to(call.session, target)
    }
}

/// Copies one part of a transfer from its staging buffer, which goes back when the stream has taken it.
pub(crate) fn issue_part(
    session: &Session,
    context: &Context,
    target: &Target,
    part: Part,
) -> Result<(), CUresult> {
    let stream = &target.stream;
    stream.touch();
    // The transfer's whole range was checked, and its parts add up to it.
    let destination = target.destination + part.offset;
    let source = part.buffer.address().cast_const().cast();
    cuda!(
        session.driver,
        cuMemcpyHtoDAsync_v2(destination, source, part.length, stream.handle)
    )?;
    let release = Action::Release {
        _buffer: part.buffer,
    };
    stream
        .point(session, context, release)
        .map_err(|(error, action)| keep(error, action))
}

/// A point was refused after the copy before it was taken: the device may still use the buffer, which is therefore never
/// used again.
pub(super) fn keep(error: CUresult, action: Action) -> CUresult {
    std::mem::forget(action);
    error
}

/// Checks what a copy to the host names.
fn check_source(call: &Call<'_>, source: u64, length: u64) -> Result<(), CallError> {
    if length > MAX_TRANSFER_BYTES {
        return Err(CUresult::INVALID_VALUE.into());
    }
    call.session.memory.check(source, length)?;
    Ok(())
}

/// Bytes of the device, complete with the reply.
pub(crate) fn gpurunCopyFromDevice(
    call: &mut Call<'_>,
    request: &request::GpurunCopyFromDevice,
) -> Result<(), CallError> {
    let (source, length) = (request.source(), request.length());
    if request.transfer() == 0 && length > MAX_INLINE_COPY_BYTES as u64 {
        return Err(CallError::Violation("an inline copy that is too long"));
    }
    let stream = call.stream(request.stream().0)?;
    check_source(call, source, length)?;
    if length == 0 || !call.record.flags.is_asked() {
        return Ok(());
    }
    if request.transfer() == 0 {
        copy_small(call, &stream, source, length as usize)?;
    } else {
        copy_large(call, &stream, request)?;
    }
    call.defer();
    Ok(())
}

fn copy_small(
    call: &Call<'_>,
    stream: &Arc<Stream>,
    source: u64,
    length: usize,
) -> Result<(), CUresult> {
    let context = call.context()?;
    let buffer = context.staging.take(call.driver())?;
    cuda!(
        call.driver(),
        cuMemcpyDtoHAsync_v2(buffer.address().cast(), source, length, stream.handle)
    )?;
    let answer = Action::Reply {
        call: call.number,
        buffer,
        length,
    };
    stream
        .point(call.session, context, answer)
        .map_err(|(error, action)| keep(error, action))
}

fn copy_large(
    call: &Call<'_>,
    stream: &Arc<Stream>,
    request: &request::GpurunCopyFromDevice,
) -> Result<(), CUresult> {
    let range = (request.source(), request.length(), request.transfer());
    let ends = match direct::begin(call, (request.stream().0, stream), range, true)? {
        Way::Directly => return Ok(()),
        Way::ByHost(ends) => ends,
    };
    let flight = Arc::new(Flight::default());
    let outcome = deliver(call, stream, range, Some(&flight), ends);
    if outcome.is_err() {
        // The reply with the error comes after the last of what is on its way.
        flight.settle(|| call.session.end.is_over());
    }
    outcome
}

/// Copies a range to staging buffers, each delivered when the stream has filled it.
fn deliver(
    call: &Call<'_>,
    stream: &Arc<Stream>,
    (source, length, transfer): (u64, u64, u64),
    flight: Option<&Arc<Flight>>,
    mut ends: Option<Arc<Stopwatch>>,
) -> Result<(), CUresult> {
    let context = call.context()?;
    let session = call.session;
    if let Some(stopwatch) = &ends {
        let begins = Action::Begin(Arc::clone(stopwatch));
        let put = stream.point(session, context, begins);
        put.map_err(|(error, _)| error)?;
    }
    let mut offset = 0;
    while offset < length {
        let part = (length - offset).min(BUFFER_BYTES as u64);
        if let Some(flight) = flight {
            flight.take_off(PARTS_IN_FLIGHT, || session.end.is_over())?;
        }
        let issued = context.staging.take(session.driver).and_then(|buffer| {
            stream.touch();
            cuda!(
                session.driver,
                cuMemcpyDtoHAsync_v2(
                    buffer.address().cast(),
                    source + offset,
                    part as usize,
                    stream.handle
                )
            )?;
            let is_last = offset + part == length;
            let delivery = Delivery {
                transfer,
                offset,
                buffer,
                length: part as usize,
                flight: flight.cloned(),
                answers: (is_last && flight.is_some()).then_some(call.number),
                ends: ends.take_if(|_| is_last),
            };
            stream
                .point(session, context, Action::Deliver(delivery))
                .map_err(|(error, action)| keep(error, action))
        });
        if let (Err(error), Some(flight)) = (issued, flight) {
            flight.land(Err(error));
        }
        issued?;
        offset += part;
    }
    Ok(())
}

/// Bytes of the device, delivered when the stream has reached the copy and before its next completion.
pub(crate) fn gpurunFetchFromDevice(
    call: &mut Call<'_>,
    request: &request::GpurunFetchFromDevice,
) -> Result<(), CallError> {
    let stream = call.stream(request.stream().0)?;
    check_source(call, request.source(), request.length())?;
    let range = (request.source(), request.length(), request.transfer());
    match direct::begin(call, (request.stream().0, &stream), range, false)? {
        Way::Directly => {}
        Way::ByHost(ends) => deliver(call, &stream, range, None, ends)?,
    }
    Ok(())
}

/// A part of a copy to the device that the card reads out of the client's memory.
pub(crate) fn gpurunReadToDevice(
    call: &mut Call<'_>,
    request: &request::GpurunReadToDevice,
) -> Result<(), CallError> {
    direct::reads::offered(call, request)
}

/// From device memory to device memory.
pub(crate) fn gpurunCopyOnDevice(
    call: &mut Call<'_>,
    request: &request::GpurunCopyOnDevice,
) -> Result<(), CallError> {
    let (destination, source, length) = (request.destination(), request.source(), request.length());
    let stream = call.stream(request.stream().0)?;
    call.session.memory.check(destination, length)?;
    call.session.memory.check(source, length)?;
    let (handle, size) = (stream.handle, length as usize);
    let between = context::between(call, destination, source)?;
    // Without access from one to the other, only this form copies what is mapped.
    let copy = |driver: &Driver| match between {
        Some((to, from)) => cuda!(
            driver,
            cuMemcpyPeerAsync(destination, to, source, from, size, handle)
        ),
        None => cuda!(
            driver,
            cuMemcpyDtoDAsync_v2(destination, source, size, handle)
        ),
    };
    run_if_large(call, &stream, length, copy)?;
    Ok(())
}

/// Work within the device: from a size on, it waits for its turn as a launch does.
pub(super) fn run_if_large(
    call: &mut Call<'_>,
    stream: &Arc<Stream>,
    bytes: u64,
    work: impl FnOnce(&Driver) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    match bytes >= pace::LARGE_BYTES {
        true => pace::run(call, stream, |call| work(call.driver())),
        false => work(call.driver()),
    }
}

/// Fills rows of elements.
pub(crate) fn gpurunFill(
    call: &mut Call<'_>,
    request: &request::GpurunFill,
) -> Result<(), CallError> {
    let (destination, pitch) = (request.destination(), request.pitch() as usize);
    let (width, height) = (request.width() as usize, request.height() as usize);
    let extent = fill_extent(request).ok_or(CUresult::INVALID_VALUE)?;
    let stream = call.stream(request.stream().0)?;
    call.session.memory.check(destination, extent)?;
    let (handle, value) = (stream.handle, request.value());
    let fill = |driver: &Driver| match (request.element_bytes(), height) {
        (1, 1) => cuda!(
            driver,
            cuMemsetD8Async(destination, value as u8, width, handle)
        ),
        (2, 1) => cuda!(
            driver,
            cuMemsetD16Async(destination, value as u16, width, handle)
        ),
        (4, 1) => cuda!(driver, cuMemsetD32Async(destination, value, width, handle)),
        (1, _) => cuda!(
            driver,
            cuMemsetD2D8Async(destination, pitch, value as u8, width, height, handle)
        ),
        (2, _) => cuda!(
            driver,
            cuMemsetD2D16Async(destination, pitch, value as u16, width, height, handle)
        ),
        _ => cuda!(
            driver,
            cuMemsetD2D32Async(destination, pitch, value, width, height, handle)
        ),
    };
    run_if_large(call, &stream, extent, fill)?;
    Ok(())
}

/// Bytes from the first to the last that a fill touches.
pub(crate) fn fill_extent(request: &request::GpurunFill) -> Option<u64> {
    let element = u64::from(request.element_bytes());
    if !matches!(element, 1 | 2 | 4) {
        return None;
    }
    let row = request.width().checked_mul(element)?;
    match request.height() {
        0 => Some(0),
        1 => Some(row),
        height if request.pitch() >= row => {
            request.pitch().checked_mul(height - 1)?.checked_add(row)
        }
        _ => None,
    }
}
