//! Libraries and their kernels: code that belongs to no context.
//!
//! # Safety
//! Out parameters are checked for null and writable, strings and arrays are as long as they say, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "names, arrays and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_char, c_uint, c_void};
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

use driver_api::abi::{
    CUdeviceptr, CUfunction, CUjit_option, CUkernel, CUlibrary, CUlibraryOption, CUmodule, CUresult,
};
use driver_api::id::{FunctionId, LibraryId, ModuleId};
use driver_api::image::Image;
use driver_api::wire::request::{
    CuLibraryGetModule, CuLibraryUnload, GpurunKernelFunction, GpurunKernelGet,
    GpurunLibraryGlobal, GpurunLibraryLoad,
};

use super::image::{options_of, read_file, send_useful};
use super::{
    Function, Library, Module, Owner, Variable, forget_functions, function_of, library_of, look_up,
    owned_name, write_global,
};
use crate::context::{self, Context};
use crate::entry::code;
use crate::handles::Handle;
use crate::memory::out;
use crate::session::{self, Session};

/// Library options: where host functions are, and that the image stays; neither changes what is loaded.
unsafe fn load_library(
    place: *mut CUlibrary,
    image: *const c_void,
    jit_options: *mut CUjit_option,
    jit_values: *mut *mut c_void,
    jit_count: c_uint,
) -> Result<(), CUresult> {
    let place = out(place)?;
    let session = session::get()?;
    // SAFETY: the API's contract.
    let options = unsafe { options_of(jit_count, jit_options, jit_values) }?;
    let count = options.len() as u32;
    let library = session.objects.libraries.insert_with(|id| Library {
        id,
        kernels: Mutex::default(),
        modules: Mutex::default(),
    });
    let context = crate::context::current_number(session);
    // A library belongs to no context: the devices of a session are alike, so the first one stands for all.
    // SAFETY: the API's contract.
    let loaded = unsafe {
        send_useful(
            session,
            0,
            context,
            image,
            &options,
            |hash, length, transfer| {
                GpurunLibraryLoad::new(library.id, hash, length, transfer, count)
            },
        )
    };
    if let Err(code) = loaded {
        session.objects.libraries.remove(library.id);
        return Err(code);
    }
    // SAFETY: checked by `out`.
    unsafe { place.write(CUlibrary::dress(library.id)) };
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuLibraryLoadData(
    library: *mut CUlibrary,
    image: *const c_void,
    jit_options: *mut CUjit_option,
    jit_options_values: *mut *mut c_void,
    num_jit_options: c_uint,
    _library_options: *mut CUlibraryOption,
    _library_option_values: *mut *mut c_void,
    _num_library_options: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    code(unsafe {
        load_library(
            library,
            image,
            jit_options,
            jit_options_values,
            num_jit_options,
        )
    })
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuLibraryLoadFromFile(
    library: *mut CUlibrary,
    file_name: *const c_char,
    jit_options: *mut CUjit_option,
    jit_options_values: *mut *mut c_void,
    num_jit_options: c_uint,
    _library_options: *mut CUlibraryOption,
    _library_option_values: *mut *mut c_void,
    _num_library_options: c_uint,
) -> CUresult {
    code((|| {
        // SAFETY: the API's contract.
        let bytes = unsafe { read_file(file_name) }?;
        Image::parse(&bytes).map_err(|_| CUresult::INVALID_IMAGE)?;
        let image = bytes.as_ptr().cast();
        // SAFETY: the bytes were just parsed within their length; the rest is the API's contract.
        unsafe {
            load_library(
                library,
                image,
                jit_options,
                jit_options_values,
                num_jit_options,
            )
        }
    })())
}

pub(crate) unsafe fn cuLibraryUnload(library: CUlibrary) -> CUresult {
    code((|| {
        let session = session::get()?;
        let library = library_of(library)?;
        let context = crate::context::current_number(session);
        let modules: Vec<u32> = {
            let modules = library.modules.lock();
            let modules = modules.unwrap_or_else(PoisonError::into_inner);
            modules.values().copied().collect()
        };
        let owners = || {
            let modules = modules.iter().copied().map(Owner::Module);
            modules.chain([Owner::Library(library.id)])
        };
        // First, as with a module.
        owners().for_each(|owner| session.objects.memory.forget_owner(owner));
        session.ask_in(context, &CuLibraryUnload::new(LibraryId(library.id)), &[])?;
        session.objects.libraries.remove(library.id);
        owners().for_each(|owner| forget_functions(session, owner));
        for module in &modules {
            session.objects.modules.remove(*module);
            crate::texture::reference::forget_module(session, *module);
        }
        Ok(())
    })())
}

/// The id of a library's kernel.
pub(super) fn kernel_id(
    session: &Session,
    library: &Library,
    name: CString,
) -> Result<u32, CUresult> {
    let owner = Owner::Library(library.id);
    look_up(session, &library.kernels, name, owner, |id, name| {
        let request = GpurunKernelGet::new(LibraryId(library.id), id);
        let context = crate::context::current_number(session);
        Ok(session.ask_reply(context, &request, name, || Ok(()))?.body)
    })
}

pub(crate) unsafe fn cuLibraryGetKernel(
    kernel: *mut CUkernel,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    code((|| {
        let place = out(kernel)?;
        let session = session::get()?;
        let library = library_of(library)?;
        // SAFETY: the API's contract.
        let name = unsafe { owned_name(name) }?;
        let id = kernel_id(session, &library, name)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUkernel::dress(id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuLibraryGetModule(module: *mut CUmodule, library: CUlibrary) -> CUresult {
    code((|| {
        let place = out(module)?;
        let (session, context) = session::current()?;
        let library = library_of(library)?;
        let mut modules = library
            .modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let id = match modules.get(&context.id) {
            Some(id) => *id,
            None => {
                let made = session.objects.modules.insert_with(|id| Module {
                    id,
                    context: context.id,
                    functions: Mutex::default(),
                });
                let request = CuLibraryGetModule::new(ModuleId(made.id), LibraryId(library.id));
                if let Err(code) = session.ask_in(context.id, &request, &[]) {
                    session.objects.modules.remove(made.id);
                    return Err(code);
                }
                modules.insert(context.id, made.id);
                made.id
            }
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(CUmodule::dress(id)) };
        Ok(())
    })())
}

/// A variable of a library in a context.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn variable(
    session: &Session,
    context: &Context,
    library: CUlibrary,
    name: *const c_char,
) -> Result<Variable, CUresult> {
    let library = library_of(library)?;
    // SAFETY: the caller's promise.
    let name = unsafe { owned_name(name) }?;
    let request = GpurunLibraryGlobal::new(LibraryId(library.id));
    let reply = session.ask_in(context.id, &request, name.as_bytes())?;
    Ok(Variable {
        context: context.id,
        owner: Owner::Library(library.id),
        found: (reply.address(), reply.size()),
        managed: (reply.managed(), reply.managed_size()),
    })
}

pub(crate) unsafe fn cuLibraryGetGlobal(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        // SAFETY: the API's contract.
        let variable = unsafe { variable(session, &context, library, name) }?;
        write_global(session, &variable, dptr, bytes)
    })())
}

pub(crate) unsafe fn cuLibraryGetManaged(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    code((|| {
        // cudart 13 asks before there is a context.
        let context = context::current_or_primary()?;
        let session = session::get()?;
        // SAFETY: the API's contract.
        let variable = unsafe { variable(session, &context, library, name) }?;
        if !variable.is_managed() {
            return Err(CUresult::NOT_FOUND);
        }
        write_global(session, &variable, dptr, bytes)
    })())
}

/// No device here has one address for a function of its own and of the program's (`UNIFIED_FUNCTION_POINTERS` is 0).
pub(crate) unsafe fn cuLibraryGetUnifiedFunction(
    fptr: *mut *mut c_void,
    library: CUlibrary,
    symbol: *const c_char,
) -> CUresult {
    code((|| {
        out(fptr)?;
        out(symbol.cast_mut())?;
        library_of(library)?;
        Err(CUresult::NOT_FOUND)
    })())
}

pub(crate) unsafe fn cuKernelGetFunction(func: *mut CUfunction, kernel: CUkernel) -> CUresult {
    code((|| {
        let place = out(func)?;
        let (session, context) = session::current()?;
        let kernel = function_of(CUfunction(kernel.0))?;
        let mut functions = kernel
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let id = match functions.get(&context.id) {
            Some(id) => *id,
            None => {
                let made = session.objects.functions.insert_with(|id| {
                    Function::new(
                        id,
                        kernel.name.clone(),
                        kernel.owner,
                        kernel.parameters.clone(),
                    )
                });
                let request = GpurunKernelFunction::new(FunctionId(kernel.id), made.id);
                if let Err(code) = session.ask_in(context.id, &request, &[]) {
                    session.objects.functions.remove(made.id);
                    return Err(code);
                }
                functions.insert(context.id, made.id);
                made.id
            }
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(CUfunction::dress(id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuKernelGetLibrary(lib: *mut CUlibrary, kernel: CUkernel) -> CUresult {
    code((|| {
        let place = out(lib)?;
        let Owner::Library(id) = function_of(CUfunction(kernel.0))?.owner else {
            return Err(CUresult::INVALID_HANDLE);
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(CUlibrary::dress(id)) };
        Ok(())
    })())
}
