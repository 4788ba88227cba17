//! A hostile device, through the driver's own exports.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use driver_api::abi::{CUmemoryPool, CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

use device::{context, read};

#[test]
fn memory_that_a_pool_hands_out_again_is_poisoned_again() {
    const SIZE: usize = 4 << 20;
    const RELEASE_THRESHOLD: u32 = 4;
    const POISON: u32 = 0xcdcd_cdcd;
    // SAFETY: this is the only test, and it has not begun.
    unsafe { std::env::set_var("GPURUN_SOFT_HOSTILE", "1:poison") };
    context();
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
