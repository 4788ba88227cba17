//! Functions and kernels: their names, parameters and attributes.
//!
//! # Safety
//! Out parameters are checked for null and writable, strings and arrays are as long as they say, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "names, arrays and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_char, c_int, c_uint};
use std::sync::PoisonError;

use driver_api::abi::{
    CUdevice, CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState, CUkernel,
    CUmodule, CUresult, CUsharedconfig,
};
use driver_api::id::FunctionId;
use driver_api::wire::request::{
    CuFuncGetAttribute, CuFuncSetAttribute, CuFuncSetCacheConfig, CuKernelGetAttribute,
    CuKernelSetAttribute,
};

use super::{Function, Owner, function_of};
use crate::entry::code;
use crate::handles::Handle;
use crate::launch;
use crate::log;
use crate::memory::out;
use crate::session;

fn write_name(place: *mut *const c_char, function: CUfunction) -> Result<(), CUresult> {
    let place = out(place)?;
    let function = function_of(function)?;
    // SAFETY: checked by `out`; the name lives as long as the function, which is what the driver promises too.
    unsafe { place.write(function.name.as_ptr()) };
    Ok(())
}

pub(crate) unsafe fn cuFuncGetName(name: *mut *const c_char, function: CUfunction) -> CUresult {
    code(write_name(name, function))
}

pub(crate) unsafe fn cuKernelGetName(name: *mut *const c_char, function: CUkernel) -> CUresult {
    code(write_name(name, CUfunction(function.0)))
}

/// The parameters, or an error where nobody knows them.
pub(crate) fn known_parameters(function: &Function) -> Result<&[(u32, u32)], CUresult> {
    function.parameters.as_deref().ok_or_else(|| {
        log::warn_once(
            "parameters",
            format_args!(
                "{}: the server's driver does not tell its parameters, nor does its image",
                function.name.to_string_lossy()
            ),
        );
        CUresult::NOT_SUPPORTED
    })
}

fn write_parameter(
    function: CUfunction,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Result<(), CUresult> {
    let place = out(offset)?;
    let function = function_of(function)?;
    let (at, bytes) = *known_parameters(&function)?
        .get(index)
        .ok_or(CUresult::INVALID_VALUE)?;
    // SAFETY: checked by `out`, or for null here.
    unsafe {
        place.write(at as usize);
        if !size.is_null() {
            size.write(bytes as usize);
        }
    }
    Ok(())
}

pub(crate) unsafe fn cuFuncGetParamInfo(
    func: CUfunction,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    code(write_parameter(func, param_index, param_offset, param_size))
}

pub(crate) unsafe fn cuKernelGetParamInfo(
    kernel: CUkernel,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    code(write_parameter(
        CUfunction(kernel.0),
        param_index,
        param_offset,
        param_size,
    ))
}

fn write_parameter_count(function: CUfunction, count: *mut usize) -> Result<(), CUresult> {
    let place = out(count)?;
    let count = known_parameters(&*function_of(function)?)?.len();
    // SAFETY: checked by `out`.
    unsafe { place.write(count) };
    Ok(())
}

pub(crate) unsafe fn cuFuncGetParamCount(func: CUfunction, param_count: *mut usize) -> CUresult {
    code(write_parameter_count(func, param_count))
}

pub(crate) unsafe fn cuKernelGetParamCount(kernel: CUkernel, param_count: *mut usize) -> CUresult {
    code(write_parameter_count(CUfunction(kernel.0), param_count))
}

pub(crate) unsafe fn cuFuncGetModule(module: *mut CUmodule, function: CUfunction) -> CUresult {
    code((|| {
        let place = out(module)?;
        let Owner::Module(id) = function_of(function)?.owner else {
            return Err(CUresult::INVALID_HANDLE);
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(CUmodule::dress(id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuFuncIsLoaded(
    state: *mut CUfunctionLoadingState,
    function: CUfunction,
) -> CUresult {
    code((|| {
        let place = out(state)?;
        function_of(function)?;
        // SAFETY: checked by `out`. CU_FUNCTION_LOADING_STATE_LOADED: its first launch loads it if the server's driver is lazy.
        unsafe { place.write(1) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuFuncLoad(function: CUfunction) -> CUresult {
    code(function_of(function).map(drop))
}

/// An attribute, asked once.
fn attribute(
    function: &Function,
    wanted: CUfunction_attribute,
    ask: impl FnOnce() -> Result<c_int, CUresult>,
) -> Result<c_int, CUresult> {
    let mut attributes = function
        .attributes
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = attributes.get(&wanted) {
        return Ok(*value);
    }
    let value = ask()?;
    attributes.insert(wanted, value);
    Ok(value)
}

pub(crate) unsafe fn cuFuncGetAttribute(
    pi: *mut c_int,
    attrib: CUfunction_attribute,
    function: CUfunction,
) -> CUresult {
    code((|| {
        let place = out(pi)?;
        let (session, context) = session::current()?;
        let function = function_of(function)?;
        let value = attribute(&function, attrib, || {
            let request = CuFuncGetAttribute::new(attrib, FunctionId(function.id));
            Ok(session.ask_in(context.id, &request, &[])?.pi())
        })?;
        // SAFETY: checked by `out`.
        unsafe { place.write(value) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuKernelGetAttribute(
    pi: *mut c_int,
    attrib: CUfunction_attribute,
    kernel: CUkernel,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let place = out(pi)?;
        let session = session::get()?;
        session.device(dev)?;
        let kernel = function_of(CUfunction(kernel.0))?;
        let value = attribute(&kernel, attrib, || {
            let request = CuKernelGetAttribute::new(attrib, FunctionId(kernel.id), dev);
            Ok(session
                .ask_in(crate::context::current_number(session), &request, &[])?
                .pi())
        })?;
        // SAFETY: checked by `out`.
        unsafe { place.write(value) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuFuncSetAttribute(
    function: CUfunction,
    attrib: CUfunction_attribute,
    value: c_int,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let function = function_of(function)?;
        function.changed();
        let request = CuFuncSetAttribute::new(FunctionId(function.id), attrib, value);
        session.ask_in(context.id, &request, &[]).map(drop)
    })())
}

pub(crate) unsafe fn cuKernelSetAttribute(
    attrib: CUfunction_attribute,
    val: c_int,
    kernel: CUkernel,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        session.device(dev)?;
        let kernel = function_of(CUfunction(kernel.0))?;
        kernel.changed();
        let request = CuKernelSetAttribute::new(attrib, val, FunctionId(kernel.id), dev);
        session
            .ask_in(crate::context::current_number(session), &request, &[])
            .map(drop)
    })())
}

/// A preference, which devices since Volta ignore.
pub(crate) unsafe fn cuKernelSetCacheConfig(
    kernel: CUkernel,
    config: CUfunc_cache,
    dev: CUdevice,
) -> CUresult {
    code((|| {
        session::get()?.device(dev)?;
        function_of(CUfunction(kernel.0))?;
        if config > 3 {
            Err(CUresult::INVALID_VALUE)
        } else {
            Ok(())
        }
    })())
}

/// A preference, which devices since Maxwell ignore.
/// The last of the preferences: shared memory and first-level cache alike.
const PREFER_EQUAL: CUfunc_cache = 3;

pub(crate) unsafe fn cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache) -> CUresult {
    code((|| {
        let function = function_of(function)?;
        if config > PREFER_EQUAL {
            return Err(CUresult::INVALID_VALUE);
        }
        session::post(&CuFuncSetCacheConfig::new(FunctionId(function.id), config))
    })())
}

pub(crate) unsafe fn cuFuncSetSharedMemConfig(
    function: CUfunction,
    config: CUsharedconfig,
) -> CUresult {
    code((|| {
        function_of(function)?;
        if config > 2 {
            Err(CUresult::INVALID_VALUE)
        } else {
            Ok(())
        }
    })())
}

pub(crate) unsafe fn cuFuncSetBlockShape(
    function: CUfunction,
    x: c_int,
    y: c_int,
    z: c_int,
) -> CUresult {
    code(launch::set_block(function, [x, y, z]))
}

pub(crate) unsafe fn cuFuncSetSharedSize(function: CUfunction, bytes: c_uint) -> CUresult {
    code(launch::set_shared(function, bytes))
}
