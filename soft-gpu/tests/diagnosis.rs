//! What a program reads of a fault: kernel, PTX line, block, thread, address and the nearest allocation.
//!
//! # Safety
//!
//! The test is the caller whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ptr::{null, null_mut};

use driver_api::abi::{CUDA_RESOURCE_DESC, CUDA_TEXTURE_DESC, CUresult, CUstream};
use driver_api::texture::resource;
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

/// Thread 5 of a warp asks for a texture that there is not; the others' is there.
const NO_TEXTURE: &str = ".version 7.0
.target sm_70
.address_size 64
.visible .entry k(.param .u64 texture)
{
    .reg .b64 %t;
    .reg .b32 %x, %r<4>;
    .reg .pred %p;
    ld.param.u64 %t, [texture];
    mov.u32 %x, %tid.x;
    setp.eq.u32 %p, %x, 5;
    @%p mov.u64 %t, 4919;
    tex.1d.v4.u32.s32 {%r0, %r1, %r2, %r3}, [%t, {%x}];
    ret;
}
";

/// Thread 6 names a line of a matrix that is not aligned.
const SLANTED: &str = ".version 7.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 unused)
{
    .reg .b32 %x, %a, %r;
    .reg .pred %p;
    .shared .align 16 .b8 tile[256];
    mov.u32 %x, %tid.x;
    and.b32 %a, %x, 7;
    mad.lo.u32 %a, %a, 16, tile;
    setp.eq.u32 %p, %x, 6;
    @%p add.u32 %a, %a, 2;
    ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r}, [%a];
    ret;
}
";

/// Launches `k` of a text; what its context answers then, and what the log says.
fn failed(text: &str, [blocks, wide, high]: [u32; 3], words: &mut [u64]) -> (CUresult, String) {
    let (_, function) = load(text);
    let mut arguments: Vec<_> = words
        .iter_mut()
        .map(|word| (&raw mut *word).cast())
        .collect();
    let mut iterator = 0;
    ok!(cuLogsCurrent(&mut iterator, 0));
    let (arguments, stream) = (arguments.as_mut_ptr(), CUstream(0));
    ok!(cuLaunchKernel(
        function,
        blocks,
        1,
        1,
        wide,
        high,
        1,
        0,
        stream,
        arguments,
        null_mut()
    ));
    let answer = cu!(cuCtxSynchronize());
    let mut text = vec![0u8; 4096];
    let mut length = text.len();
    ok!(cuLogsDumpToMemory(
        &mut iterator,
        text.as_mut_ptr().cast(),
        &mut length,
        0
    ));
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    (answer, text)
}

#[test]
fn the_log_says_where_a_fault_was_and_what_was_next_to_it() {
    const SIZE: u64 = 4096;
    context();
    let memory = allocate(SIZE as usize);
    let (answer, text) = failed(STRAY, [3, 8, 2], &mut [memory, SIZE]);
    assert_eq!(answer, CUresult::ILLEGAL_ADDRESS);
    let (end, address) = (memory + SIZE, memory + SIZE + 40);
    let said = format!(
        "kernel `k`: illegal address {address:#x} at PTX line 16, block (2,0,0), thread (5,1,0); nearest allocation {memory:#x}..{end:#x}, 40 bytes past its end"
    );
    assert!(text.contains(&said), "`{said}` is not in\n{text}");
}

#[test]
fn a_fault_of_one_lane_names_its_thread() {
    context();
    let memory = allocate(4096);
    let mut resource = CUDA_RESOURCE_DESC {
        kind: resource::LINEAR,
        ..CUDA_RESOURCE_DESC::default()
    };
    // Words of 32 bits, one in an element.
    resource.words[..3].copy_from_slice(&[memory, 0x03 | 1 << 32, 4096]);
    let (how, mut texture) = (CUDA_TEXTURE_DESC::default(), 0);
    ok!(cuTexObjectCreate(&mut texture, &resource, &how, null()));
    let (answer, text) = failed(NO_TEXTURE, [1, 32, 1], &mut [texture]);
    assert_eq!(answer, CUresult::ILLEGAL_ADDRESS);
    let said = "illegal address 0x1337 at PTX line 13, block (0,0,0), thread (5,0,0)";
    assert!(text.contains(said), "`{said}` is not in\n{text}");

    context();
    let (answer, text) = failed(SLANTED, [1, 32, 1], &mut [0]);
    assert_eq!(answer, CUresult::MISALIGNED_ADDRESS);
    let said = "at PTX line 14, block (0,0,0), thread (6,0,0)";
    assert!(text.contains(said), "`{said}` is not in\n{text}");
}
