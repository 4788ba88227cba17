//! What can be asked of a function and set.
//!
//! # Safety
//!
//! Answers are written through pointers that the caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_char, c_int, c_uint};

use driver_api::abi::{
    CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState, CUmodule, CUresult,
    CUsharedconfig,
};

use super::{Function, find_function};
use crate::entry::{answer, answer_if_asked, done};
use crate::launch::{self, cluster, has_clusters};
use crate::state::driver;
use crate::threads::lock;

const MAX_DYNAMIC_SHARED_SIZE_BYTES: CUfunction_attribute = 8;
const PREFERRED_SHARED_MEMORY_CARVEOUT: CUfunction_attribute = 9;
const CLUSTER_SIZE_MUST_BE_SET: CUfunction_attribute = 10;
const REQUIRED_CLUSTER_WIDTH: CUfunction_attribute = 11;
const REQUIRED_CLUSTER_DEPTH: CUfunction_attribute = 13;
const NON_PORTABLE_CLUSTER_SIZE_ALLOWED: CUfunction_attribute = 14;
const CLUSTER_SCHEDULING_POLICY_PREFERENCE: CUfunction_attribute = 15;
/// `CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING`.
const LAST_SCHEDULING_POLICY: c_int = 2;

/// `CU_FUNC_ATTRIBUTE_*` of a function.
pub(super) fn attribute(
    function: &Function,
    attribute: CUfunction_attribute,
) -> Result<c_int, CUresult> {
    let program = function.program()?;
    let kernel = program.attributes();
    Ok(match attribute {
        0 => kernel.max_threads as c_int,
        1 => kernel.shared_bytes as c_int,
        2 => kernel.const_bytes as c_int,
        3 => kernel.local_bytes as c_int,
        4 => kernel.registers as c_int,
        // What it was compiled for, not the language's version: CUB chooses its kernels' shapes by it.
        5 => function.module.ptx.target_number(),
        6 => driver()?.config.capability.sm() as c_int,
        7 => 0,
        MAX_DYNAMIC_SHARED_SIZE_BYTES => function.max_dynamic_shared()? as c_int,
        PREFERRED_SHARED_MEMORY_CARVEOUT => -1,
        CLUSTER_SIZE_MUST_BE_SET => function.entry()?.has_explicit_cluster.into(),
        REQUIRED_CLUSTER_WIDTH..=REQUIRED_CLUSTER_DEPTH => {
            let size = cluster::required(function)?.unwrap_or_default();
            size[(attribute - REQUIRED_CLUSTER_WIDTH) as usize] as c_int
        }
        NON_PORTABLE_CLUSTER_SIZE_ALLOWED => lock(&function.clusters).may_be_not_portable.into(),
        CLUSTER_SCHEDULING_POLICY_PREFERENCE => lock(&function.clusters).scheduling,
        _ => return Err(CUresult::INVALID_VALUE),
    })
}

/// Sets an attribute of a function.
pub(super) fn set_attribute(
    function: &Function,
    attribute: CUfunction_attribute,
    value: c_int,
) -> Result<(), CUresult> {
    match attribute {
        MAX_DYNAMIC_SHARED_SIZE_BYTES => {
            let bytes = u32::try_from(value).map_err(|_| CUresult::INVALID_VALUE)?;
            function.set_max_dynamic_shared(bytes)
        }
        // A hint.
        PREFERRED_SHARED_MEMORY_CARVEOUT if (-1..=100).contains(&value) => Ok(()),
        REQUIRED_CLUSTER_WIDTH..=CLUSTER_SCHEDULING_POLICY_PREFERENCE if has_clusters()? => {
            set_cluster_attribute(function, attribute, value)
        }
        _ => Err(CUresult::INVALID_VALUE),
    }
}

fn set_cluster_attribute(
    function: &Function,
    attribute: CUfunction_attribute,
    value: c_int,
) -> Result<(), CUresult> {
    let is_declared = function.entry()?.required_cluster.is_some();
    let mut clusters = lock(&function.clusters);
    match attribute {
        NON_PORTABLE_CLUSTER_SIZE_ALLOWED if (0..=1).contains(&value) => {
            clusters.may_be_not_portable = value == 1;
        }
        CLUSTER_SCHEDULING_POLICY_PREFERENCE if (0..=LAST_SCHEDULING_POLICY).contains(&value) => {
            clusters.scheduling = value;
        }
        REQUIRED_CLUSTER_WIDTH..=REQUIRED_CLUSTER_DEPTH if is_declared => {
            return Err(CUresult::NOT_PERMITTED);
        }
        REQUIRED_CLUSTER_WIDTH..=REQUIRED_CLUSTER_DEPTH => {
            let count = u32::try_from(value).map_err(|_| CUresult::INVALID_VALUE)?;
            clusters.required[(attribute - REQUIRED_CLUSTER_WIDTH) as usize] = count;
        }
        _ => return Err(CUresult::INVALID_VALUE),
    }
    Ok(())
}

/// Offset and size of a parameter.
pub(super) fn parameter(function: &Function, index: usize) -> Result<(usize, usize), CUresult> {
    let parameter = function
        .entry()?
        .params
        .get(index)
        .ok_or(CUresult::INVALID_VALUE)?;
    Ok((parameter.offset as usize, parameter.size as usize))
}

/// Writes offset and size of a parameter.
///
/// # Safety
///
/// `offset` is a place for one; `size` is null or a place for one.
pub(super) unsafe fn answer_parameter(
    offset: *mut usize,
    size: *mut usize,
    found: Result<(usize, usize), CUresult>,
) -> CUresult {
    match found {
        Err(error) => error,
        Ok((start, bytes)) => {
            // SAFETY: by contract.
            unsafe {
                answer_if_asked(size, bytes);
                answer(offset, Ok(start))
            }
        }
    }
}

pub(crate) unsafe fn cuFuncGetAttribute(
    pi: *mut c_int,
    attrib: CUfunction_attribute,
    function: CUfunction,
) -> CUresult {
    let value = find_function(function).and_then(|function| attribute(&function, attrib));
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(pi, value) }
}

pub(crate) unsafe fn cuFuncSetAttribute(
    function: CUfunction,
    attrib: CUfunction_attribute,
    value: c_int,
) -> CUresult {
    done(find_function(function).and_then(|function| set_attribute(&function, attrib, value)))
}

pub(crate) unsafe fn cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache) -> CUresult {
    // A hint.
    if config > 3 {
        CUresult::INVALID_VALUE
    } else {
        done(find_function(function).map(drop))
    }
}

pub(crate) unsafe fn cuFuncSetSharedMemConfig(
    function: CUfunction,
    config: CUsharedconfig,
) -> CUresult {
    // A hint.
    if config > 2 {
        CUresult::INVALID_VALUE
    } else {
        done(find_function(function).map(drop))
    }
}

pub(crate) unsafe fn cuFuncGetModule(module: *mut CUmodule, function: CUfunction) -> CUresult {
    let found = find_function(function).map(|function| CUmodule(function.module.handle));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(module, found) }
}

pub(crate) unsafe fn cuFuncGetName(name: *mut *const c_char, function: CUfunction) -> CUresult {
    // The string lives as long as the function, as the driver promises.
    let found = find_function(function).map(|function| function.c_name.as_ptr());
    // SAFETY: the caller passes a place for a pointer.
    unsafe { answer(name, found) }
}

pub(crate) unsafe fn cuFuncGetParamInfo(
    func: CUfunction,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    let found = find_function(func).and_then(|function| parameter(&function, param_index));
    // SAFETY: the caller passes places for an offset and a size, the latter may be null.
    unsafe { answer_parameter(param_offset, param_size, found) }
}

pub(crate) unsafe fn cuFuncGetParamCount(func: CUfunction, param_count: *mut usize) -> CUresult {
    let count = || Ok(find_function(func)?.entry()?.params.len());
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(param_count, count()) }
}

pub(crate) unsafe fn cuFuncIsLoaded(
    state: *mut CUfunctionLoadingState,
    function: CUfunction,
) -> CUresult {
    let found = find_function(function);
    let found = found.map(|function| CUfunctionLoadingState::from(function.is_decoded()));
    // SAFETY: the caller passes a place for a state.
    unsafe { answer(state, found) }
}

pub(crate) unsafe fn cuFuncLoad(function: CUfunction) -> CUresult {
    done(
        find_function(function)
            .and_then(|function| function.program())
            .map(drop),
    )
}

pub(crate) unsafe fn cuFuncSetBlockShape(
    function: CUfunction,
    x: c_int,
    y: c_int,
    z: c_int,
) -> CUresult {
    done(launch::set_block(function, [x, y, z]))
}

pub(crate) unsafe fn cuFuncSetSharedSize(function: CUfunction, bytes: c_uint) -> CUresult {
    done(launch::set_shared(function, bytes))
}
