//! What a program reads of a fault: kernel, PTX line, block, thread, address and the nearest allocation.
//!
//! # Safety
//!
//! The test is the caller whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ptr::null_mut;

use driver_api::abi::{CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

use device::{allocate, context, load};

/// Thread (5, 1, 0) of block (2, 0, 0) writes forty bytes behind what it was given; the store is in line 16.
const STRAY: &str = ".version 7.0
.target sm_70
.address_size 64
.visible .entry k(.param .u64 at, .param .u64 size)
{
    .reg .b64 %at, %size;
    .reg .b32 %x, %y, %z;
    .reg .pred %p;
    ld.param.u64 %at, [at];
    ld.param.u64 %size, [size];
    mov.u32 %x, %tid.x; mov.u32 %y, %tid.y; mov.u32 %z, %ctaid.x;
    setp.eq.u32 %p, %x, 5;
    setp.eq.and.u32 %p, %y, 1, %p;
    setp.eq.and.u32 %p, %z, 2, %p;
    add.u64 %at, %at, %size;
    @%p st.global.u32 [%at+40], %x;
    ret;
}
";

#[test]
fn the_log_says_where_a_fault_was_and_what_was_next_to_it() {
    const SIZE: u64 = 4096;
    context();
    let memory = allocate(SIZE as usize);
    let (_, function) = load(STRAY);
    let (mut at, mut size) = (memory, SIZE);
    let mut arguments = [(&raw mut at).cast(), (&raw mut size).cast()];
    let since = {
        let mut iterator = 0;
        ok!(cuLogsCurrent(&mut iterator, 0));
        iterator
    };
    ok!(cuLaunchKernel(
        function,
        3,
        1,
        1,
        8,
        2,
        1,
        0,
        CUstream(0),
        arguments.as_mut_ptr(),
        null_mut()
    ));
    assert_eq!(cu!(cuCtxSynchronize()), CUresult::ILLEGAL_ADDRESS);
    let mut text = vec![0u8; 4096];
    let (mut iterator, mut length) = (since, text.len());
    ok!(cuLogsDumpToMemory(
        &mut iterator,
        text.as_mut_ptr().cast(),
        &mut length,
        0
    ));
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    let (end, address) = (memory + SIZE, memory + SIZE + 40);
    let said = format!(
        "kernel `k`: illegal address {address:#x} at PTX line 16, block (2,0,0), thread (5,1,0); nearest allocation {memory:#x}..{end:#x}, 40 bytes past its end"
    );
    assert!(text.contains(&said), "`{said}` is not in\n{text}");
}
