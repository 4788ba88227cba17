//! The JIT linker. This device executes PTX, so what is linked is PTX, and what that gives is PTX ([`mod@join`]), which a module can be made of as
//! of a cubin.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod archive;
mod join;

use core::ffi::{c_char, c_uint, c_void};
use std::sync::{Arc, Mutex};

use driver_api::abi::{CUjit_option, CUjitInputType, CUlinkState, CUresult};

use crate::context::current;
use crate::entry::{answer, answer_if_asked, done};
use crate::log::warn_once;
use crate::module::{LoadError, Options, name, read, text_of};
use crate::ptx;
use crate::state::driver;
use crate::threads::lock;
use archive::DEVICE_RUNTIME;
use join::join;

/// `CU_JIT_INPUT_LIBRARY`, and NVVM.
const LIBRARY: CUjitInputType = 4;
const NVVM: CUjitInputType = 5;

/// The function of the device runtime that a module may call without being linked with it: programs load such PTX as it is, which NVIDIA's driver takes.
const SET_CONDITIONAL: &str = "cudaGraphSetConditional";

/// A module's text, with the device runtime where it needs that.
///
/// # Errors
///
/// The text cannot be parsed.
pub(crate) fn parse_completed(text: &str) -> Result<ptx::Module, LoadError> {
    let module = ptx::parse(text)?;
    let function = module.function(SET_CONDITIONAL);
    // Declared, and not defined.
    if function.is_none_or(|function| module.body(function).is_some()) {
        return Ok(module);
    }
    let joined = join(&[text.to_owned(), DEVICE_RUNTIME.to_owned()])?;
    Ok(ptx::parse(&joined)?)
}

/// A linker.
#[derive(Debug)]
pub(crate) struct Link {
    options: Options,
    texts: Mutex<Vec<String>>,
    /// What was linked, ended by a NUL.
    code: Mutex<Vec<u8>>,
}

fn find(state: CUlinkState) -> Result<Arc<Link>, CUresult> {
    current()?;
    driver()?.links.get(state.0)
}

impl Link {
    /// Adds the PTX of these bytes.
    fn add(&self, kind: CUjitInputType, bytes: &[u8]) -> Result<(), CUresult> {
        let text = match kind {
            LIBRARY if archive::is_device_runtime(bytes) => Ok(DEVICE_RUNTIME.to_owned()),
            LIBRARY | NVVM => {
                warn_once(
                    "the linker of the software GPU takes no archives but the device runtime, and no NVVM",
                );
                return Err(CUresult::NOT_SUPPORTED);
            }
            0..LIBRARY => text_of(bytes),
            _ => return Err(CUresult::INVALID_VALUE),
        };
        let text = text.map_err(|failure| self.options.report(failure))?;
        lock(&self.texts).push(text);
        Ok(())
    }

    fn complete(&self) -> Result<(*mut c_void, usize), CUresult> {
        let texts = lock(&self.texts);
        let linked = join(&texts).map_err(|failure| self.options.report(failure))?;
        let linked = self.options.linked(linked)?;
        let mut code = lock(&self.code);
        *code = linked.into_bytes();
        code.push(0);
        Ok((code.as_mut_ptr().cast(), code.len()))
    }
}

pub(crate) unsafe fn cuLinkCreate_v2(
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
    state_out: *mut CUlinkState,
) -> CUresult {
    let create = || {
        current()?;
        // SAFETY: the caller passes arrays of options.
        let options = unsafe { Options::of(num_options, options, option_values) }?;
        let links = &driver()?.links;
        let handle = links.reserve();
        let link = Link {
            options,
            texts: Mutex::default(),
            code: Mutex::default(),
        };
        links.insert(handle, Arc::new(link));
        Ok(CUlinkState(handle))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(state_out, create()) }
}

#[expect(clippy::too_many_arguments, reason = "the driver's")]
pub(crate) unsafe fn cuLinkAddData_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    data: *mut c_void,
    size: usize,
    _name: *const c_char,
    _num_options: c_uint,
    _options: *mut CUjit_option,
    _option_values: *mut *mut c_void,
) -> CUresult {
    let add = || {
        let link = find(state)?;
        if data.is_null() || size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes so many bytes. Text ends where they do.
        let bytes = unsafe { core::slice::from_raw_parts(data.cast::<u8>(), size) };
        link.add(kind, bytes)
    };
    done(add())
}

pub(crate) unsafe fn cuLinkAddFile_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    _num_options: c_uint,
    _options: *mut CUjit_option,
    _option_values: *mut *mut c_void,
) -> CUresult {
    let add = || {
        let link = find(state)?;
        // SAFETY: the caller passes a C string.
        let path = unsafe { name(path) }?;
        let bytes = read(path).map_err(|failure| link.options.report(failure))?;
        link.add(kind, &bytes)
    };
    done(add())
}

pub(crate) unsafe fn cuLinkComplete(
    state: CUlinkState,
    cubin_out: *mut *mut c_void,
    size_out: *mut usize,
) -> CUresult {
    let complete = || {
        let (code, size) = find(state)?.complete()?;
        // SAFETY: the caller passes null or a place for a size.
        unsafe { answer_if_asked(size_out, size) };
        Ok(code)
    };
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(cubin_out, complete()) }
}

pub(crate) unsafe fn cuLinkDestroy(state: CUlinkState) -> CUresult {
    done((|| driver()?.links.remove(state.0).map(drop))())
}
