//! What a green context leaves behind: nothing, neither its own streams nor what tools keep for it.
//!
//! # Safety
//!
//! The test is the caller whose promises the driver's functions rely on: every pointer is to a local, and the table has the slots that its functions are
//! called by.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::c_void;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};

use driver_api::abi::{
    CUcontext, CUdevResource, CUdevResourceDesc, CUgreenCtx, CUresult, CUstream, CUuuid,
};
use driver_api::dev_resource::SM;
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

const DEFAULT_STREAM: u32 = 1;
const NON_BLOCKING: u32 = 1;

type Destructor = extern "C" fn(usize, usize, usize);
/// The first function in the table of what is kept for contexts: context, key, value, destructor.
type Keep = extern "C" fn(usize, usize, usize, Option<Destructor>) -> CUresult;

static FORGOTTEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn forget(context: usize, _: usize, _: usize) {
    FORGOTTEN.store(context, Ordering::Relaxed);
}

/// Keeps something for a context.
fn keep(context: CUcontext) {
    let uuid = CUuuid {
        bytes: 0xc693336e_1121_df11_a8c3_68f355d89593_u128.to_be_bytes(),
    };
    let mut table: *const c_void = null();
    ok!(cuGetExportTable(&mut table, &uuid));
    // SAFETY: see the module.
    let keep: Keep = unsafe { table.cast::<Keep>().read() };
    assert_eq!(keep(context.0, 1, 2, Some(forget)), CUresult::SUCCESS);
}

/// A green context of the whole device, and the context that stands for it.
fn green() -> (CUgreenCtx, CUcontext) {
    let mut all = CUdevResource::default();
    let (mut described, mut green, mut context) =
        (CUdevResourceDesc(0), CUgreenCtx(0), CUcontext(0));
    ok!(cuDeviceGetDevResource(0, &mut all, SM));
    ok!(cuDevResourceGenerateDesc(&mut described, &mut all, 1));
    ok!(cuGreenCtxCreate(&mut green, described, 0, DEFAULT_STREAM));
    ok!(cuCtxFromGreenCtx(&mut context, green));
    (green, context)
}

fn stream() -> CUstream {
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, NON_BLOCKING));
    stream
}

#[test]
fn a_green_context_leaves_nothing_behind() {
    device::context();
    let mut primary = CUcontext(0);
    ok!(cuDevicePrimaryCtxRetain(&mut primary, 0));

    let (handle, context) = green();
    keep(context);
    ok!(cuCtxSetCurrent(context));
    let before = stream();
    ok!(cuStreamSynchronize(CUstream(0)));
    // Handles are given in order.
    let own = CUstream(before.0 + (stream().0 - before.0) / 2);
    let mut flags = 0;
    ok!(cuStreamGetFlags(own, &mut flags));
    ok!(cuGreenCtxDestroy(handle));
    assert_eq!(FORGOTTEN.swap(0, Ordering::Relaxed), context.0);
    ok!(cuCtxSetCurrent(primary));
    let answer = |stream| cu!(cuStreamGetFlags(stream, &mut 0));
    assert_eq!(answer(before), CUresult::STREAM_DETACHED, "the program's");
    assert_eq!(answer(own), CUresult::INVALID_HANDLE, "its own");
    ok!(cuStreamDestroy_v2(before));

    let (_, context) = green();
    keep(context);
    ok!(cuDevicePrimaryCtxReset_v2(0));
    assert_eq!(FORGOTTEN.load(Ordering::Relaxed), context.0);
}
