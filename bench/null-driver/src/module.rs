//! Modules: any image is one, and every name is a kernel of it.
//!
//! # Safety
//! Functions write through the places that their caller passed, and read names, which are C strings.
#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{CStr, c_char, c_int, c_void};

use driver_api::abi::{CUfunction, CUfunction_attribute, CUmodule, CUresult};

use crate::entry::answer;

/// Every module.
const MODULE: CUmodule = CUmodule(0x4000);
/// A function is this and its number of parameters.
const FUNCTIONS: usize = 0x5000;
/// Most parameters of a kernel.
const MAX_PARAMETERS: usize = 512;
/// Bytes of a parameter.
const PARAMETER_BYTES: usize = 8;

pub(crate) unsafe fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    if image.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller's place.
    unsafe { answer(module, MODULE) }
}

pub(crate) unsafe fn cuModuleUnload(_hmod: CUmodule) -> CUresult {
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuModuleGetFunction(
    hfunc: *mut CUfunction,
    _hmod: CUmodule,
    name: *const c_char,
) -> CUresult {
    if name.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller's C string.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let parameters = name.rsplit('_').next().and_then(|count| count.parse().ok());
    match parameters {
        // SAFETY: the caller's place.
        Some(count @ 0..=MAX_PARAMETERS) => unsafe { answer(hfunc, CUfunction(FUNCTIONS + count)) },
        _ => CUresult::NOT_FOUND,
    }
}

pub(crate) unsafe fn cuFuncGetParamInfo(
    func: CUfunction,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    if param_index >= func.0.saturating_sub(FUNCTIONS) {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller's places.
    unsafe {
        answer(param_offset, param_index * PARAMETER_BYTES);
        answer(param_size, PARAMETER_BYTES)
    }
}

pub(crate) unsafe fn cuFuncGetAttribute(
    pi: *mut c_int,
    _attrib: CUfunction_attribute,
    _hfunc: CUfunction,
) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { answer(pi, 0) }
}
