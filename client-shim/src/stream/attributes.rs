//! Attributes of streams: the server's driver keeps them, and applies them to what the stream is given.
//!
//! *Rules:* only what CUDA names for streams travels, and none of that holds a handle. A priority is told by `cuStreamGetPriority` too, so it
//! is asked after each change.
//!
//! # Safety
//! Values are read and written through pointers that were checked for null, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "in and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use std::sync::atomic::Ordering::SeqCst;

use driver_api::abi::{CUresult, CUstream, CUstreamAttrID, CUstreamAttrValue};
use driver_api::stream_attribute::{COPY, GET, OF_STREAMS, PRIORITY, SET};
use driver_api::wire::request::GpurunStreamAttribute;

use super::{Stream, resolve_for_question};
use crate::entry::code;
use crate::memory::out;
use crate::session;

fn ask(
    stream: &Stream,
    operation: u32,
    other: &Stream,
    attribute: CUstreamAttrID,
    value: [u64; 8],
) -> Result<[u64; 8], CUresult> {
    let (id, other) = (stream.wire_id(), other.wire_id());
    let request = GpurunStreamAttribute::new(id, operation, other, attribute, value);
    let reply = session::get()?.ask_in(stream.context, &request, &[])?;
    Ok(reply.told())
}

fn get(stream: &Stream, attribute: CUstreamAttrID) -> Result<[u64; 8], CUresult> {
    if !OF_STREAMS.contains(&attribute) {
        return Err(CUresult::INVALID_VALUE);
    }
    ask(stream, GET, stream, attribute, [0; 8])
}

/// Drivers before 11.7 have no such attribute: the priority stays then.
fn learn_priority(stream: &Stream) -> Result<(), CUresult> {
    match get(stream, PRIORITY) {
        Ok([first, ..]) => stream.priority.store(first as u32 as i32, SeqCst),
        Err(CUresult::INVALID_VALUE) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

pub(crate) unsafe fn cuStreamGetAttribute(
    stream: CUstream,
    attr: CUstreamAttrID,
    value: *mut CUstreamAttrValue,
) -> CUresult {
    code((|| {
        let place = out(value)?;
        let words = get(&*resolve_for_question(stream)?, attr)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUstreamAttrValue { words }) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuStreamSetAttribute(
    stream: CUstream,
    attr: CUstreamAttrID,
    param: *const CUstreamAttrValue,
) -> CUresult {
    code((|| {
        let param = out(param.cast_mut())?;
        let stream = resolve_for_question(stream)?;
        if !OF_STREAMS.contains(&attr) {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: checked by `out`.
        let value = unsafe { param.read() };
        ask(&stream, SET, &stream, attr, value.words)?;
        match attr {
            PRIORITY => learn_priority(&stream),
            _ => Ok(()),
        }
    })())
}

pub(crate) unsafe fn cuStreamCopyAttributes(
    dst_stream: CUstream,
    src_stream: CUstream,
) -> CUresult {
    code((|| {
        let to = resolve_for_question(dst_stream)?;
        let from = resolve_for_question(src_stream)?;
        if to.context != from.context {
            return Err(CUresult::INVALID_VALUE);
        }
        ask(&to, COPY, &from, 0, [0; 8])?;
        learn_priority(&to)
    })())
}
