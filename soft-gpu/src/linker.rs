//! The JIT linker. This device executes PTX, so what is linked is PTX, and what that gives is PTX: the texts one behind the other, which a module
//! can be made of as of a cubin.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{CUjit_option, CUjitInputType, CUlinkState, CUresult};

use crate::context::current;
use crate::entry::{answer, answer_if_asked, done};
use crate::log::warn_once;
use crate::module::{LoadError, Messages, text_of};
use crate::ptx;
use crate::state::driver;

/// `CU_JIT_INPUT_LIBRARY`, and NVVM: nothing of those is PTX.
const LIBRARY: CUjitInputType = 4;
const NVVM: CUjitInputType = 5;

/// The directives that a module has once.
const HEADER: [&str; 3] = [".version", ".target", ".address_size"];

/// A linker.
#[derive(Debug)]
pub(crate) struct Link {
    messages: Messages,
    texts: Mutex<Vec<String>>,
    /// What was linked, ended by a NUL.
    code: Mutex<Vec<u8>>,
}

fn find(state: CUlinkState) -> Result<Arc<Link>, CUresult> {
    current()?;
    driver()?.links.get(state.0)
}

impl Link {
    fn add(&self, kind: CUjitInputType, bytes: &[u8]) -> Result<(), CUresult> {
        if kind > NVVM || bytes.is_empty() {
            return Err(CUresult::INVALID_VALUE);
        }
        if matches!(kind, LIBRARY | NVVM) {
            warn_once("the linker of the software GPU takes no archives and no NVVM");
            return Err(CUresult::NOT_SUPPORTED);
        }
        let text = text_of(bytes).and_then(|text| {
            ptx::parse(&text)?;
            Ok(text)
        });
        let text = text.map_err(|failure| self.messages.report(failure))?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.push(text);
        Ok(())
    }

    fn complete(&self) -> Result<(*mut c_void, usize), CUresult> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = linked(&texts).map_err(|failure| self.messages.report(failure))?;
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        *code = linked.into_bytes();
        code.push(0);
        Ok((code.as_mut_ptr().cast(), code.len()))
    }
}

/// One text of several: the newest header, then all that they say; a function that one declares and another defines is then defined.
fn linked(texts: &[String]) -> Result<String, LoadError> {
    let modules = texts.iter().map(|text| ptx::parse(text));
    let modules: Vec<ptx::Module> = modules.collect::<Result<_, _>>()?;
    let mut defined = HashSet::new();
    for entry in modules.iter().flat_map(ptx::Module::functions) {
        if entry.body.is_some() && !defined.insert(&entry.name) {
            return Err(LoadError::Twice(entry.name.clone()));
        }
    }
    let newest = modules.iter().max_by_key(|module| module.version);
    let Some(newest) = newest else {
        return Ok(String::new());
    };
    let (major, minor) = newest.version;
    let most = modules.iter().max_by_key(|module| module.target_number());
    let target = most.map_or(newest.target.as_str(), |module| module.target.as_str());
    let mut linked = format!(".version {major}.{minor}\n.target {target}\n.address_size 64\n");
    let is_header = |line: &str| {
        let line = line.trim_start();
        HEADER.iter().any(|word| line.starts_with(word))
    };
    for line in texts.iter().flat_map(|text| text.lines()) {
        if !is_header(line) {
            linked.push_str(line.trim_end_matches('\0'));
            linked.push('\n');
        }
    }
    // It must be a module.
    ptx::parse(&linked)?;
    Ok(linked)
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
        let messages = unsafe { Messages::of(num_options, options, option_values) }?;
        let links = &driver()?.links;
        let handle = links.reserve();
        let link = Link {
            messages,
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
        if data.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes so many bytes. Text ends where they do.
        let bytes = unsafe { core::slice::from_raw_parts(data.cast::<u8>(), size) };
        link.add(kind, &[bytes, b"\0"].concat())
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
        if path.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes a C string.
        let path = unsafe { CStr::from_ptr(path) };
        let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
        let mut bytes = std::fs::read(path).map_err(|_| CUresult::FILE_NOT_FOUND)?;
        bytes.push(0);
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
