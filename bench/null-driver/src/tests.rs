//! What a worker relies on, through the exported functions.
#![expect(unsafe_code, reason = "calls the driver's C interface")]

use driver_api::abi::{CUfunction, CUmodule, CUresult, CUstream};

use crate::exports::*;

#[test]
fn a_value_is_written_into_pinned_memory_and_nowhere_else() {
    let mut page = std::ptr::null_mut();
    // SAFETY: a place of our own.
    let made = unsafe { cuMemHostAlloc(&mut page, 4096, 0) };
    assert_eq!(made, CUresult::SUCCESS);
    let address = page.addr() as u64;
    let write = |address| {
        // SAFETY: the driver checks the address.
        unsafe { cuStreamWriteValue64_v2(CUstream(0), address, 7, 0) }
    };
    assert_eq!(write(address + 4088), CUresult::SUCCESS);
    // SAFETY: inside the page, which is ours.
    assert_eq!(unsafe { page.cast::<u64>().add(511).read() }, 7);
    for outside in [address + 4092, address + 4096, address + 1, 4096] {
        assert_eq!(write(outside), CUresult::INVALID_VALUE, "{outside:#x}");
    }
    // SAFETY: allocated above, freed once; the second is refused.
    unsafe {
        assert_eq!(cuMemFreeHost(page), CUresult::SUCCESS);
        assert_eq!(cuMemFreeHost(page), CUresult::INVALID_VALUE);
    }
    assert_eq!(write(address), CUresult::INVALID_VALUE);
}

#[test]
fn a_kernel_has_the_parameters_that_its_name_says() {
    let find = |name: &core::ffi::CStr| {
        let mut function = CUfunction(0);
        // SAFETY: a place of our own and a C string.
        let found = unsafe { cuModuleGetFunction(&mut function, CUmodule(1), name.as_ptr()) };
        found.ok().map(|()| function)
    };
    let four = find(c"null_4").expect("found");
    let info = |index| {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: places of our own.
        let told = unsafe { cuFuncGetParamInfo(four, index, &mut offset, &mut size) };
        told.ok().map(|()| (offset, size))
    };
    assert_eq!(info(3), Ok((24, 8)));
    assert_eq!(info(4), Err(CUresult::INVALID_VALUE));
    assert_eq!(find(c"saxpy"), Err(CUresult::NOT_FOUND));
}
