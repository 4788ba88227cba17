//! Copies of boxes from and to arrays.
//!
//! *Rules:* one end is an array; the box lies inside the arrays' shapes and the session's memory; what travels is as long as the box says. Larger boxes are cut
//! by the client. An array of another context, or memory of another device, is copied as between contexts, in the stream of the call.
//!
//! *Cost:* as the copies of lines in [`memory`](super); a box from or to the host is one driver call.
//!
//! # Safety
//! Ends in memory are checked against the session's ranges, ends in arrays against their shapes; host pointers are a received body, which the driver has
//! taken when it returns, or a staging buffer that a point of the same stream keeps.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use driver_api::Driver;
use driver_api::abi::{CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER, CUarray, CUcontext, CUstream};
use driver_api::result::CUresult;
use driver_api::volume::{self, End, Volume};
use driver_api::wire::request;
use protocol::limits::MAX_INLINE_COPY_BYTES;
use zerocopy::FromBytes;

use super::{keep, run_if_large};
use crate::driver::cuda;
use crate::worker::array::array_of;
use crate::worker::call::{Call, CallError};
use crate::worker::context::{Owner, context_of};
use crate::worker::point::{Action, Delivery};
use crate::worker::staging::BUFFER_BYTES;

/// `CU_MEMORYTYPE_*`.
pub(crate) const MEMORY_HOST: u32 = 1;
const MEMORY_DEVICE: u32 = 2;
pub(crate) const MEMORY_ARRAY: u32 = 3;

/// A description of a copy of nothing from nowhere.
pub(crate) fn no_copy() -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        src_x_in_bytes: 0,
        src_y: 0,
        src_z: 0,
        src_lod: 0,
        src_memory_type: 0,
        src_host: core::ptr::null(),
        src_device: 0,
        src_array: CUarray(0),
        reserved0: core::ptr::null_mut(),
        src_pitch: 0,
        src_height: 0,
        dst_x_in_bytes: 0,
        dst_y: 0,
        dst_z: 0,
        dst_lod: 0,
        dst_memory_type: 0,
        dst_host: core::ptr::null_mut(),
        dst_device: 0,
        dst_array: CUarray(0),
        reserved1: core::ptr::null_mut(),
        dst_pitch: 0,
        dst_height: 0,
        width_in_bytes: 0,
        height: 0,
        depth: 0,
    }
}

/// A copy as the driver is told of it.
struct Described {
    copy: CUDA_MEMCPY3D,
    bytes: u64,
    /// To which context and from which, if an end is not of the stream's.
    between: Option<(CUcontext, CUcontext)>,
}

impl Described {
    /// Puts it into a stream of the current context.
    fn issue(&self, driver: &Driver, stream: CUstream) -> Result<(), CUresult> {
        let Some((to, from)) = self.between else {
            return cuda!(driver, cuMemcpy3DAsync_v2(&self.copy, stream));
        };
        let copy = CUDA_MEMCPY3D_PEER(CUDA_MEMCPY3D {
            reserved0: core::ptr::without_provenance_mut(from.0),
            reserved1: core::ptr::without_provenance_mut(to.0),
            ..self.copy
        });
        cuda!(driver, cuMemcpy3DPeerAsync(&copy, stream))
    }
}

/// One end, checked: its memory type, address, array, origin, pitch and rows.
struct Checked {
    /// Whose it is, if it is not reached from the stream's context.
    elsewhere: Option<Owner>,
    kind: u32,
    address: u64,
    handle: CUarray,
    origin: [usize; 3],
    pitch: usize,
    rows: usize,
}

fn check(call: &Call<'_>, end: &End, size: [u64; 3]) -> Result<Checked, CallError> {
    let here = call.context()?;
    let mut checked = Checked {
        elsewhere: None,
        kind: MEMORY_HOST,
        address: 0,
        handle: CUarray(0),
        origin: [0; 3],
        pitch: size[0] as usize,
        rows: size[1] as usize,
    };
    match end.kind.get() {
        volume::TRAVELS => {}
        volume::LINEAR => {
            let span = end.span(size).ok_or(CUresult::INVALID_VALUE)?;
            call.session.memory.check(end.address.get(), span)?;
            let owner = call.session.memory.owner_of(end.address.get());
            checked.elsewhere = owner.filter(|owner| owner.device != here.device);
            checked.kind = MEMORY_DEVICE;
            checked.address = end.address.get();
            // Of one row, or one slice, the distance to the next does not matter.
            checked.pitch = end.pitch.get().max(size[0]) as usize;
            checked.rows = end.rows.get().max(size[1]) as usize;
        }
        volume::ARRAY => {
            let array = array_of(call, end.array.get())?;
            let (handle, shape) = array.level(end.level.get())?;
            let origin = end.origin.map(|origin| origin.get());
            if !shape.holds(origin, size) {
                return Err(CUresult::INVALID_VALUE.into());
            }
            checked.elsewhere = Some(array.owner()).filter(|_| array.context != here.serial);
            checked.kind = MEMORY_ARRAY;
            checked.handle = handle;
            checked.origin = origin.map(|origin| origin as usize);
        }
        _ => return Err(CallError::Violation("a copy with an end of no kind")),
    }
    Ok(checked)
}

/// The copy that a volume says; host ends are still to be filled in.
fn describe(call: &Call<'_>, volume: &Volume) -> Result<Described, CallError> {
    let size = volume.size();
    let bytes = volume.bytes().filter(|bytes| *bytes > 0);
    let bytes = bytes.ok_or(CUresult::INVALID_VALUE)?;
    let from = check(call, &volume.source, size)?;
    let to = check(call, &volume.destination, size)?;
    if from.kind != MEMORY_ARRAY && to.kind != MEMORY_ARRAY {
        return Err(CallError::Violation("a copy of a box without an array"));
    }
    let copy = CUDA_MEMCPY3D {
        src_x_in_bytes: from.origin[0],
        src_y: from.origin[1],
        src_z: from.origin[2],
        src_memory_type: from.kind,
        src_device: from.address,
        src_array: from.handle,
        src_pitch: from.pitch,
        src_height: from.rows,
        dst_x_in_bytes: to.origin[0],
        dst_y: to.origin[1],
        dst_z: to.origin[2],
        dst_memory_type: to.kind,
        dst_device: to.address,
        dst_array: to.handle,
        dst_pitch: to.pitch,
        dst_height: to.rows,
        width_in_bytes: size[0] as usize,
        height: size[1] as usize,
        depth: size[2] as usize,
        ..no_copy()
    };
    let between = match (to.elsewhere, from.elsewhere) {
        (None, None) => None,
        ends => Some((context_for(call, ends.0)?, context_for(call, ends.1)?)),
    };
    Ok(Described {
        copy,
        bytes,
        between,
    })
}

/// The context of an end of a copy between contexts.
fn context_for(call: &Call<'_>, elsewhere: Option<Owner>) -> Result<CUcontext, CUresult> {
    match elsewhere {
        Some(owner) => context_of(call, owner).ok_or(CUresult::INVALID_CONTEXT),
        None => Ok(call.context()?.handle()),
    }
}

fn parse(rest: &[u8]) -> Result<(Volume, &[u8]), CallError> {
    let parsed = Volume::read_from_prefix(rest);
    parsed.map_err(|_| CallError::Violation("a copy without its volume"))
}

/// A box to an array, or from an array to the device's memory.
pub(crate) fn gpurunCopyVolume(
    call: &mut Call<'_>,
    request: &request::GpurunCopyVolume,
    rest: &[u8],
) -> Result<(), CallError> {
    let (volume, bytes) = parse(rest)?;
    if volume.destination.kind.get() == volume::TRAVELS {
        return Err(CallError::Violation("a posted copy whose bytes come back"));
    }
    let travels = volume.source.kind.get() == volume::TRAVELS;
    let wanted = if travels { volume.bytes() } else { Some(0) };
    if wanted != Some(bytes.len() as u64) || bytes.len() > MAX_INLINE_COPY_BYTES {
        return Err(CallError::Violation("a box of another length"));
    }
    let mut described = describe(call, &volume)?;
    let stream = call.stream(request.stream().0)?;
    if travels {
        described.copy.src_host = bytes.as_ptr().cast();
    }
    let handle = stream.handle;
    let on_device = if travels { 0 } else { described.bytes };
    run_if_large(call, &stream, on_device, |driver| {
        described.issue(driver, handle)
    })?;
    Ok(())
}

/// A box of an array for the host, checked.
fn describe_reading(call: &Call<'_>, rest: &[u8], most: usize) -> Result<Described, CallError> {
    let (volume, rest) = parse(rest)?;
    let is_for_us = volume.destination.kind.get() == volume::TRAVELS
        && volume.source.kind.get() == volume::ARRAY;
    if !is_for_us || !rest.is_empty() {
        return Err(CallError::Violation("a reading of something else"));
    }
    if volume.bytes().is_none_or(|bytes| bytes > most as u64) {
        return Err(CallError::Violation("a reading that is too long"));
    }
    describe(call, &volume)
}

/// The bytes of a box, in the reply.
pub(crate) fn gpurunReadVolume(
    call: &mut Call<'_>,
    request: &request::GpurunReadVolume,
    rest: &[u8],
) -> Result<(), CallError> {
    let mut described = describe_reading(call, rest, MAX_INLINE_COPY_BYTES)?;
    let stream = call.stream(request.stream().0)?;
    if !call.record.flags.is_asked() {
        return Ok(());
    }
    let context = call.context()?;
    let buffer = context.staging.take(call.driver())?;
    described.copy.dst_host = buffer.address().cast();
    described.issue(call.driver(), stream.handle)?;
    let answer = Action::Reply {
        call: call.number,
        buffer,
        length: described.bytes as usize,
    };
    stream
        .point(call.session, context, answer)
        .map_err(|(error, action)| keep(error, action))?;
    call.defer();
    Ok(())
}

/// The bytes of a box, delivered when the stream has reached the copy and before its next completion.
pub(crate) fn gpurunFetchVolume(
    call: &mut Call<'_>,
    request: &request::GpurunFetchVolume,
    rest: &[u8],
) -> Result<(), CallError> {
    let mut described = describe_reading(call, rest, BUFFER_BYTES)?;
    let stream = call.stream(request.stream().0)?;
    let (session, context) = (call.session, call.context()?);
    let buffer = context.staging.take(session.driver)?;
    described.copy.dst_host = buffer.address().cast();
    stream.touch();
    described.issue(session.driver, stream.handle)?;
    let delivery = Delivery {
        transfer: request.transfer(),
        offset: 0,
        buffer,
        length: described.bytes as usize,
        flight: None,
        answers: None,
        ends: None,
    };
    stream
        .point(session, context, Action::Deliver(delivery))
        .map_err(|(error, action)| keep(error, action))?;
    Ok(())
}
