//! Stream capture: none yet, and the questions about it say so.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use std::cell::Cell;

use driver_api::abi::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode,
    CUstreamCaptureStatus,
};

use crate::entry::{answer, answer_if_asked};
use crate::state::driver;
use crate::stream::find;

const NOT_CAPTURING: CUstreamCaptureStatus = 0;
const GLOBAL: CUstreamCaptureMode = 0;
const RELAXED: CUstreamCaptureMode = 2;

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(GLOBAL) };
}

pub(crate) unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) -> CUresult {
    if let Err(error) = driver() {
        return error;
    }
    if mode.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a mode, and a place for the one before.
    unsafe {
        let wanted = mode.read_unaligned();
        if wanted > RELAXED {
            return CUresult::INVALID_VALUE;
        }
        answer(mode, Ok(MODE.replace(wanted)))
    }
}

pub(crate) unsafe fn cuStreamIsCapturing(
    stream: CUstream,
    capture_status: *mut CUstreamCaptureStatus,
) -> CUresult {
    // SAFETY: the caller passes a place for a status.
    unsafe { answer(capture_status, find(stream).map(|_| NOT_CAPTURING)) }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
) -> CUresult {
    // SAFETY: the caller passes places for a status and an id, the latter may be null.
    unsafe {
        answer_if_asked(id_out, 0);
        answer(capture_status_out, find(stream).map(|_| NOT_CAPTURING))
    }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    num_dependencies_out: *mut usize,
) -> CUresult {
    // SAFETY: the caller passes places for these values; all but the status may be null.
    unsafe {
        answer_if_asked(graph_out, CUgraph(0));
        answer_if_asked(dependencies_out, core::ptr::null());
        answer_if_asked(num_dependencies_out, 0);
        cuStreamGetCaptureInfo(stream, capture_status_out, id_out)
    }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    edge_data_out: *mut *const CUgraphEdgeData,
    num_dependencies_out: *mut usize,
) -> CUresult {
    // SAFETY: the caller passes places for these values; all but the status may be null.
    unsafe {
        answer_if_asked(edge_data_out, core::ptr::null());
        cuStreamGetCaptureInfo_v2(
            stream,
            capture_status_out,
            id_out,
            graph_out,
            dependencies_out,
            num_dependencies_out,
        )
    }
}
