//! A hostile device, through the driver's own exports.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use driver_api::abi::{CUcontext, CUgraph, CUmemoryPool, CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

use device::{context, read};

/// A context of a device that is hostile in all ways that are tested here.
fn hostile() -> CUcontext {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: no other thread of the tests reads the environment before this has run.
    ONCE.call_once(|| unsafe { std::env::set_var("GPURUN_SOFT_HOSTILE", "1:poison,capture") });
    context()
}

#[test]
fn memory_that_a_pool_hands_out_again_is_poisoned_again() {
    const SIZE: usize = 4 << 20;
    const RELEASE_THRESHOLD: u32 = 4;
    const POISON: u32 = 0xcdcd_cdcd;
    hostile();
    let (mut pool, mut threshold) = (CUmemoryPool(0), u64::MAX);
    ok!(cuDeviceGetDefaultMemPool(&mut pool, 0));
    ok!(cuMemPoolSetAttribute(
        pool,
        RELEASE_THRESHOLD,
        (&raw mut threshold).cast()
    ));
    let (mut first, mut second, stream) = (0, 0, CUstream(0));
    ok!(cuMemAllocAsync(&mut first, SIZE, stream));
    assert_eq!(read(first), POISON);
    ok!(cuMemsetD8_v2(first, 1, SIZE));
    ok!(cuMemFreeAsync(first, stream));
    ok!(cuStreamSynchronize(stream));
    ok!(cuMemAllocAsync(&mut second, SIZE, stream));
    assert_eq!(first, second, "the pool has held it");
    assert_eq!(read(second), POISON);
}

#[test]
fn unsafe_calls_spoil_captures_as_their_modes_say() {
    const GLOBAL: u32 = 0;
    const THREAD_LOCAL: u32 = 1;
    const RELAXED: u32 = 2;
    let current = hostile();
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    let allocate = |own_mode: u32| {
        let (mut memory, mut mode) = (0, own_mode);
        ok!(cuThreadExchangeStreamCaptureMode(&mut mode));
        let result = cu!(cuMemAlloc_v2(&mut memory, 16));
        ok!(cuThreadExchangeStreamCaptureMode(&mut mode));
        result
    };
    let elsewhere = |own_mode: u32| {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                ok!(cuCtxSetCurrent(current));
                allocate(own_mode)
            });
            call.join().unwrap()
        })
    };
    let captured = |mode: u32, call: &dyn Fn() -> CUresult| {
        let mut graph = CUgraph(0);
        ok!(cuStreamBeginCapture_v2(stream, mode));
        let result = call();
        let ended = cu!(cuStreamEndCapture(stream, &mut graph));
        assert_eq!(ended == CUresult::SUCCESS, result == CUresult::SUCCESS);
        result
    };
    let (fine, spoilt) = (CUresult::SUCCESS, CUresult::STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(captured(GLOBAL, &|| allocate(GLOBAL)), spoilt);
    assert_eq!(captured(GLOBAL, &|| allocate(RELAXED)), fine);
    assert_eq!(captured(GLOBAL, &|| elsewhere(GLOBAL)), spoilt);
    assert_eq!(captured(GLOBAL, &|| elsewhere(THREAD_LOCAL)), fine);
    assert_eq!(captured(THREAD_LOCAL, &|| allocate(THREAD_LOCAL)), spoilt);
    assert_eq!(captured(THREAD_LOCAL, &|| elsewhere(GLOBAL)), fine);
    assert_eq!(captured(RELAXED, &|| allocate(GLOBAL)), fine);
    assert_eq!(captured(RELAXED, &|| elsewhere(GLOBAL)), fine);
}
