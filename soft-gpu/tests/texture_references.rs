//! References and samplers through the driver's own exports: what declarations say, and what a launch keeps.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::c_void;
use std::ptr::null_mut;

use driver_api::abi::{CUDA_ARRAY_DESCRIPTOR, CUfunction, CUmodule, CUresult, CUstream, CUtexref};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
mod device;

use device::{allocate, context, load, read};

const F32: u32 = 0x20;
const NORMALISED: u32 = 2;

/// Reads `tex` at `x` in its first row, by a sampler that filters, has a border and counts elements.
const SAMPLED: &str = "
.version 7.0
.target sm_70, texmode_independent
.address_size 64
.global .texref tex;
.global .samplerref smp = { addr_mode_0 = clamp_to_border, filter_mode = linear, force_unnormalized_coords = 1 };
.visible .entry k(.param .u64 out, .param .f32 x)
{
    .reg .f32 %f<7>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [out];
    ld.param.f32 %f1, [x];
    mov.f32 %f2, 0f3F000000;
    tex.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [tex, smp, {%f1, %f2}];
    st.global.f32 [%rd1], %f3;
    ret;
}
";

/// Launches `k(out, x)`, and gives what it stored.
fn sampled(function: CUfunction, out: u64, x: f32) -> Result<f32, CUresult> {
    let (mut out, mut x) = (out, x);
    let mut parameters: [*mut c_void; 2] = [(&raw mut out).cast(), (&raw mut x).cast()];
    let place = parameters.as_mut_ptr();
    ok!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        CUstream(0),
        place,
        null_mut()
    ));
    match cu!(cuCtxSynchronize()) {
        CUresult::SUCCESS => Ok(f32::from_bits(read(out))),
        error => Err(error),
    }
}

fn reference(module: CUmodule) -> CUtexref {
    let mut reference = CUtexref(0);
    ok!(cuModuleGetTexRef(&mut reference, module, c"tex".as_ptr()));
    reference
}

/// Binds a row of eight elements.
fn bind(reference: CUtexref, row: u64) {
    let shape = CUDA_ARRAY_DESCRIPTOR {
        width: 8,
        height: 1,
        format: F32,
        num_channels: 1,
    };
    ok!(cuTexRefSetAddress2D_v3(reference, &shape, row, 32));
}

fn row(first: f32) -> u64 {
    let row = allocate(32);
    let values: [f32; 8] = std::array::from_fn(|i| first + 10.0 * i as f32);
    ok!(cuMemcpyHtoD_v2(row, values.as_ptr().cast(), 32));
    row
}

#[test]
fn a_sampler_is_what_its_declaration_says() {
    context();
    let (module, function) = load(SAMPLED);
    let (out, tex) = (allocate(4), reference(module));
    bind(tex, row(100.0));
    // The texture's own way to read is another, and does not count.
    ok!(cuTexRefSetFlags(tex, NORMALISED));
    assert_eq!(sampled(function, out, 2.0), Ok(115.0));
    assert_eq!(sampled(function, out, 2.5), Ok(120.0));
    assert_eq!(sampled(function, out, -3.0), Ok(0.0));
    let mut none = CUtexref(0);
    let found = cu!(cuModuleGetTexRef(&mut none, module, c"smp".as_ptr()));
    assert_eq!(found, CUresult::NOT_FOUND);
}

#[test]
fn what_is_bound_to_nothing_is_a_fault() {
    context();
    let (_, function) = load(SAMPLED);
    let out = allocate(4);
    assert_eq!(sampled(function, out, 0.5), Err(CUresult::ILLEGAL_ADDRESS));
}

#[test]
fn binding_again_and_again_takes_no_memory() {
    context();
    let (module, function) = load(SAMPLED);
    let (out, tex) = (allocate(4), reference(module));
    let rows = [row(0.0), row(1000.0)];
    let free = || {
        let (mut free, mut total) = (0, 0);
        ok!(cuMemGetInfo_v2(&mut free, &mut total));
        free
    };
    bind(tex, rows[0]);
    assert_eq!(sampled(function, out, 0.5), Ok(0.0));
    let before = free();
    for index in 0..1500 {
        bind(tex, rows[index % 2]);
        let wanted = if index % 2 == 0 { 0.0 } else { 1000.0 };
        assert_eq!(sampled(function, out, 0.5), Ok(wanted));
    }
    assert_eq!(free(), before);
    ok!(cuModuleUnload(module));
    let gone = cu!(cuTexRefSetFlags(tex, 0));
    assert_eq!(gone, CUresult::INVALID_VALUE);
}
