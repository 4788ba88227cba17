//! What a compilation, a handle and a batch limit or hold, through the driver's own exports.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::{CString, c_void};
use std::fmt::Write as _;
use std::ptr::null_mut;

use driver_api::abi::{
    CUdeviceptr, CUfunction, CUlinkState, CUmemLocation, CUmodule, CUresult, CUstream,
};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

use device::context;

const MAX_REGISTERS: u32 = 0;
const NUM_REGISTERS: u32 = 4;
const INPUT_PTX: u32 = 1;

/// A kernel in which a hundred values live at the same time.
fn wide_kernel() -> CString {
    let mut text = String::from(
        ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry k(.param .u64 at)\n{\n.reg .b64 %at; .reg .b32 %v<100>;\nld.param.u64 %at, [at];\n",
    );
    for value in 0..100 {
        writeln!(text, "ld.global.u32 %v{value}, [%at+{}];", value * 4).expect("written");
    }
    for value in 0..100 {
        writeln!(text, "st.global.u32 [%at+{}], %v{};", value * 4, 99 - value).expect("written");
    }
    CString::new(text + "ret;\n}\n").expect("no NUL")
}

fn registers(module: CUmodule) -> i32 {
    let (mut function, mut count) = (CUfunction(0), 0);
    ok!(cuModuleGetFunction(&mut function, module, c"k".as_ptr()));
    ok!(cuFuncGetAttribute(&mut count, NUM_REGISTERS, function));
    count
}

#[test]
fn a_kernel_says_no_more_registers_than_its_compilation_was_given() {
    context();
    let text = wide_kernel();
    let mut module = CUmodule(0);
    ok!(cuModuleLoadData(&mut module, text.as_ptr().cast()));
    assert!(registers(module) > 40);
    let (mut options, mut values) = ([MAX_REGISTERS], [40 as *mut c_void]);
    ok!(cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        1,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    assert_eq!(registers(module), 40);
    // The linker's text keeps it.
    let (mut link, mut image, mut size) = (CUlinkState(0), null_mut(), 0);
    values = [32 as *mut c_void];
    ok!(cuLinkCreate_v2(
        1,
        options.as_mut_ptr(),
        values.as_mut_ptr(),
        &mut link
    ));
    let length = text.as_bytes_with_nul().len();
    let data = text.as_ptr().cast_mut().cast();
    ok!(cuLinkAddData_v2(
        link,
        INPUT_PTX,
        data,
        length,
        null_mut(),
        0,
        null_mut(),
        null_mut()
    ));
    ok!(cuLinkComplete(link, &mut image, &mut size));
    ok!(cuModuleLoadData(&mut module, image));
    assert_eq!(registers(module), 32);
    ok!(cuLinkDestroy(link));
}

#[test]
fn batches_prefetch_each_range_to_its_own_place() {
    const LAST_PREFETCH_LOCATION: u32 = 4;
    const CPU: i32 = -1;
    const SIZE: usize = 4 << 20;
    context();
    let mut memory: [CUdeviceptr; 3] = [0; 3];
    for address in &mut memory {
        ok!(cuMemAllocManaged(address, SIZE, 1));
    }
    let last = |address| {
        let mut place = 77i32;
        ok!(cuMemRangeGetAttribute(
            (&raw mut place).cast(),
            4,
            LAST_PREFETCH_LOCATION,
            address,
            SIZE
        ));
        place
    };
    let mut sizes = [SIZE; 3];
    let mut places = [
        CUmemLocation { kind: 1, id: 0 },
        CUmemLocation { kind: 2, id: 0 },
    ];
    let mut firsts = [0, 2];
    let stream = CUstream(0);
    let mut prefetch = |firsts: &mut [usize; 2], count| {
        cu!(cuMemPrefetchBatchAsync(
            memory.as_mut_ptr(),
            sizes.as_mut_ptr(),
            count,
            places.as_mut_ptr(),
            firsts.as_mut_ptr(),
            2,
            0,
            stream
        ))
    };
    assert_eq!(prefetch(&mut firsts, 3), CUresult::SUCCESS);
    assert_eq!(prefetch(&mut [0, 0], 3), CUresult::INVALID_VALUE);
    assert_eq!(prefetch(&mut [1, 2], 3), CUresult::INVALID_VALUE);
    assert_eq!(prefetch(&mut [0, 3], 3), CUresult::INVALID_VALUE);
    assert_eq!(prefetch(&mut [0, 1], 0), CUresult::INVALID_VALUE);
    assert_eq!(memory.map(last), [0, 0, CPU]);
    firsts = [0, 1];
    ok!(cuMemDiscardAndPrefetchBatchAsync(
        memory.as_mut_ptr(),
        sizes.as_mut_ptr(),
        3,
        places.as_mut_ptr(),
        firsts.as_mut_ptr(),
        2,
        0,
        stream
    ));
    assert_eq!(memory.map(last), [0, CPU, CPU]);
    ok!(cuMemDiscardBatchAsync(
        memory.as_mut_ptr(),
        sizes.as_mut_ptr(),
        3,
        0,
        stream
    ));
    let mut own = 0;
    ok!(cuMemAlloc_v2(&mut own, SIZE));
    memory[1] = own;
    let discarded = cu!(cuMemDiscardBatchAsync(
        memory.as_mut_ptr(),
        sizes.as_mut_ptr(),
        3,
        0,
        stream
    ));
    assert_eq!(discarded, CUresult::INVALID_VALUE, "not managed");
}
