//! What is in a module or a library: counted, and enumerated.
//!
//! The worker tells all names in one answer; each is then looked up like any other.
//!
//! # Safety
//! Out parameters are checked for null and writable, arrays are as long as they say, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "arrays and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::ffi::CString;

use driver_api::abi::{CUfunction, CUkernel, CUlibrary, CUmodule, CUresult};
use driver_api::id::{LibraryId, ModuleId};
use driver_api::wire::request::{GpurunLibraryNames, GpurunModuleNames};
use driver_api::wire::{Request, reply};
use zerocopy::FromBytes;

use super::{Library, Module, function_id, kernel_id, library_of, module_of};
use crate::entry::code;
use crate::handles::Handle;
use crate::memory::out;
use crate::session::{self, Session, malformed};

/// The names in an answer to a question about a module or a library; both have the same form.
fn names<R: Request>(body: &[u8]) -> Result<Vec<CString>, CUresult> {
    let (told, names) =
        reply::GpurunModuleNames::read_from_prefix(body).map_err(|_| malformed::<R>())?;
    let names: Vec<CString> = names
        .split_inclusive(|byte| *byte == 0)
        .map(|name| CString::from_vec_with_nul(name.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| malformed::<R>())?;
    if names.len() == told.count() as usize {
        Ok(names)
    } else {
        Err(malformed::<R>())
    }
}

fn names_in_module(session: &Session, module: &Module) -> Result<Vec<CString>, CUresult> {
    let request = GpurunModuleNames::new(ModuleId(module.id));
    let reply = session.ask_reply(module.context, &request, &[], || Ok(()))?;
    names::<GpurunModuleNames>(&reply.body)
}

fn names_in_library(session: &Session, library: &Library) -> Result<Vec<CString>, CUresult> {
    let request = GpurunLibraryNames::new(LibraryId(library.id));
    let reply = session.ask_reply(
        crate::context::current_number(session),
        &request,
        &[],
        || Ok(()),
    )?;
    names::<GpurunLibraryNames>(&reply.body)
}

/// Every function of a module, for a client of the private tables.
pub(crate) fn functions_of(module: CUmodule) -> Result<Vec<CUfunction>, CUresult> {
    let session = session::get()?;
    let module = module_of(module)?;
    names_in_module(session, &module)?
        .into_iter()
        .map(|name| function_id(session, &module, name).map(CUfunction::dress))
        .collect()
}

fn write_count(
    place: *mut c_uint,
    count: impl FnOnce(&Session) -> Result<usize, CUresult>,
) -> Result<(), CUresult> {
    let place = out(place)?;
    let count = count(session::get()?)?;
    // SAFETY: checked by `out`.
    unsafe { place.write(c_uint::try_from(count).unwrap_or(c_uint::MAX)) };
    Ok(())
}

/// Writes as many handles as there are, or as the array takes.
///
/// # Safety
/// `places` is null or an array of `length` handles.
unsafe fn write_handles<H>(
    places: *mut H,
    length: c_uint,
    handles: impl FnOnce() -> Result<Vec<H>, CUresult>,
) -> Result<(), CUresult> {
    let places = out(places)?;
    for (index, handle) in handles()?.into_iter().take(length as usize).enumerate() {
        // SAFETY: the caller's promise; `index` is below `length`.
        unsafe { places.add(index).write(handle) };
    }
    Ok(())
}

pub(crate) unsafe fn cuModuleGetFunctionCount(count: *mut c_uint, module: CUmodule) -> CUresult {
    code(write_count(count, |session| {
        Ok(names_in_module(session, &*module_of(module)?)?.len())
    }))
}

pub(crate) unsafe fn cuModuleEnumerateFunctions(
    functions: *mut CUfunction,
    num_functions: c_uint,
    module: CUmodule,
) -> CUresult {
    // SAFETY: the API's contract.
    code(unsafe { write_handles(functions, num_functions, || functions_of(module)) })
}

pub(crate) unsafe fn cuLibraryGetKernelCount(count: *mut c_uint, lib: CUlibrary) -> CUresult {
    code(write_count(count, |session| {
        Ok(names_in_library(session, &*library_of(lib)?)?.len())
    }))
}

pub(crate) unsafe fn cuLibraryEnumerateKernels(
    kernels: *mut CUkernel,
    num_kernels: c_uint,
    lib: CUlibrary,
) -> CUresult {
    let all = || {
        let session = session::get()?;
        let library = library_of(lib)?;
        names_in_library(session, &library)?
            .into_iter()
            .map(|name| kernel_id(session, &library, name).map(CUkernel::dress))
            .collect()
    };
    // SAFETY: the API's contract.
    code(unsafe { write_handles(kernels, num_kernels, all) })
}
