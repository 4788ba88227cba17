//! Stream capture, which is not served yet: no stream is ever capturing.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use driver_api::abi::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode,
    CUstreamCaptureStatus,
};

use crate::entry::code;
use crate::memory::out;
use crate::stream;

/// `CU_STREAM_CAPTURE_STATUS_NONE`.
const NONE: CUstreamCaptureStatus = 0;

fn write_status(stream: CUstream, status: *mut CUstreamCaptureStatus) -> Result<(), CUresult> {
    let place = out(status)?;
    stream::resolve(stream)?;
    // SAFETY: checked by `out`.
    unsafe { place.write(NONE) };
    Ok(())
}

pub(crate) unsafe fn cuStreamIsCapturing(
    stream: CUstream,
    capture_status: *mut CUstreamCaptureStatus,
) -> CUresult {
    code(write_status(stream, capture_status))
}

pub(crate) unsafe fn cuStreamGetCaptureInfo(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    _id_out: *mut u64,
) -> CUresult {
    code(write_status(stream, capture_status_out))
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    _id_out: *mut u64,
    _graph_out: *mut CUgraph,
    _dependencies_out: *mut *const CUgraphNode,
    _num_dependencies_out: *mut usize,
) -> CUresult {
    code(write_status(stream, capture_status_out))
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    _id_out: *mut u64,
    _graph_out: *mut CUgraph,
    _dependencies_out: *mut *const CUgraphNode,
    _edge_data_out: *mut *const CUgraphEdgeData,
    _num_dependencies_out: *mut usize,
) -> CUresult {
    code(write_status(stream, capture_status_out))
}

/// The mode matters only while something captures; the thread's is remembered.
pub(crate) unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) -> CUresult {
    thread_local! {
        static MODE: core::cell::Cell<CUstreamCaptureMode> = const { core::cell::Cell::new(0) };
    }
    code((|| {
        let place = out(mode)?;
        // SAFETY: checked by `out`; the API passes a value in.
        let wanted = unsafe { place.read() };
        if wanted > 2 {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: as above.
        unsafe { place.write(MODE.replace(wanted)) };
        Ok(())
    })())
}
