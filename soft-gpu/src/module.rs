//! Modules, libraries and the kernels in them.
//!
//! ```text
//! image ─▶ PTX text ─▶ ptx::Module ─┬─ Module (in a context: globals have addresses) ─▶ Function ─▶ Program, on first use
//!                                   └─ Library (in no context; becomes a Module in each that uses it) ─▶ Kernel
//! ```
//!
//! This device executes PTX. An image without any is refused with NO_BINARY_FOR_GPU and a line that says how to get it.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`]. Images come as bare
//! pointers; [`driver_api::image::extent`] finds their ends.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod function;
mod jit;
mod library;
mod load;
mod object;

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::sync::Arc;

use driver_api::abi::{
    CUdeviceptr, CUfunction, CUjit_option, CUmodule, CUmoduleLoadingMode, CUresult, CUsurfref,
    CUtexref,
};

pub(crate) use function::*;
pub(crate) use library::*;
pub(crate) use object::{Function, Kernel, Library, Module};

use crate::context::{Context, current};
use crate::entry::{answer, answer_if_asked, done};
use crate::ptx;
use crate::state::{Driver, driver};
pub(crate) use jit::Options;
pub(crate) use load::{LoadError, read, text_of};

/// A C string of the caller's.
///
/// # Safety
///
/// `text` is null or a C string that stays for `'a`.
pub(crate) unsafe fn name<'a>(text: *const c_char) -> Result<&'a str, CUresult> {
    if text.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| CUresult::NOT_FOUND)
}

/// Makes a module of parsed PTX in a context.
fn instantiate(context: &Context, ptx: Arc<ptx::Module>) -> Result<Arc<Module>, CUresult> {
    let driver = driver()?;
    let handle = driver.modules.reserve();
    let module = Arc::new(Module::new(driver, handle, context, ptx)?);
    driver.modules.insert(handle, Arc::clone(&module));
    Ok(module)
}

/// Loads what lies at `image` into the current context.
///
/// # Safety
///
/// `image` is null or a complete image.
unsafe fn load_data(image: *const c_void, wanted: &Options) -> Result<CUmodule, CUresult> {
    let context = current()?;
    // SAFETY: by contract.
    let ptx = wanted.loaded(unsafe { load::from_pointer(image) })?;
    Ok(CUmodule(instantiate(&context, ptx)?.handle))
}

/// For the private tables: loads a fatbin that the compiler put into the program.
pub(crate) fn load_at(image: *const c_void) -> Result<CUmodule, CUresult> {
    // SAFETY: cudart passes what the compiler made, complete and for as long as the program runs.
    unsafe { load_data(image, &Options::default()) }
}

pub(crate) unsafe fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) -> CUresult {
    let load = || {
        let context = current()?;
        // SAFETY: the caller passes a C string.
        let path = unsafe { name(fname) }?;
        let ptx = Options::default().loaded(load::from_file(path))?;
        Ok(CUmodule(instantiate(&context, ptx)?.handle))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(module, load()) }
}

pub(crate) unsafe fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    // SAFETY: the caller passes a complete image and a place for a handle.
    unsafe { answer(module, load_data(image, &Options::default())) }
}

pub(crate) unsafe fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    image: *const c_void,
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the caller passes a complete image, arrays of options, and a place for a handle.
    unsafe {
        match Options::of(num_options, options, option_values) {
            Err(error) => error,
            Ok(wanted) => answer(module, load_data(image, &wanted)),
        }
    }
}

pub(crate) unsafe fn cuModuleLoadFatBinary(
    module: *mut CUmodule,
    fat_cubin: *const c_void,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe { cuModuleLoadData(module, fat_cubin) }
}

/// The handle of a module's reference.
///
/// # Safety
///
/// `text` is null or a C string.
unsafe fn reference(
    module: CUmodule,
    text: *const c_char,
    is_surface: bool,
) -> Result<usize, CUresult> {
    let module = driver()?.modules.get(module.0)?;
    // SAFETY: by contract.
    let name = unsafe { name(text) }?;
    let reference = module.reference(name, is_surface);
    Ok(reference.ok_or(CUresult::NOT_FOUND)?.handle)
}

pub(crate) unsafe fn cuModuleGetTexRef(
    tex_ref: *mut CUtexref,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the caller passes a C string and a place for a handle.
    unsafe { answer(tex_ref, reference(module, name, false).map(CUtexref)) }
}

pub(crate) unsafe fn cuModuleGetSurfRef(
    surf_ref: *mut CUsurfref,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the caller passes a C string and a place for a handle.
    unsafe { answer(surf_ref, reference(module, name, true).map(CUsurfref)) }
}

pub(crate) unsafe fn cuModuleUnload(module: CUmodule) -> CUresult {
    let unload = || {
        let driver = driver()?;
        let module = driver.modules.get(module.0)?;
        if module.of_library {
            return Err(CUresult::NOT_PERMITTED);
        }
        unload(driver, &module);
        Ok(())
    };
    done(unload())
}

/// Ends a module: its work, its functions, its globals.
fn unload(driver: &Driver, module: &Arc<Module>) {
    crate::memory::quiesce(driver);
    let _ = driver.modules.remove(module.handle);
    driver
        .functions
        .remove_if(|function| Arc::ptr_eq(&function.module, module));
    for address in module.global_addresses() {
        driver.memory.free(driver, address);
    }
}

/// Forgets the modules of a context that has ended. Their memory goes with the context's.
pub(crate) fn context_destroyed(driver: &Driver, context: usize) {
    driver.modules.remove_if(|module| module.context == context);
    driver
        .functions
        .remove_if(|function| function.module.context == context);
    for library in driver.libraries.all() {
        library.forget(context);
    }
}

/// The function of a handle; a kernel's in the current context.
pub(crate) fn find_function(function: CUfunction) -> Result<Arc<Function>, CUresult> {
    let driver = driver()?;
    driver.functions.get(function.0).or_else(|error| {
        let kernel = driver.kernels.get(function.0).map_err(|_| error)?;
        kernel.function(&*current()?)
    })
}

/// Every kernel of a module, as functions.
pub(crate) fn functions_of(module: CUmodule) -> Result<Vec<usize>, CUresult> {
    let module = driver()?.modules.get(module.0)?;
    let names: Vec<String> = module.ptx.kernels().map(str::to_owned).collect();
    names
        .iter()
        .map(|name| module.function(name).map(|function| function.handle))
        .collect()
}

pub(crate) unsafe fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name_: *const c_char,
) -> CUresult {
    let find = || {
        current()?;
        let module = driver()?.modules.get(module.0)?;
        // SAFETY: the caller passes a C string.
        let name = unsafe { name(name_) }?;
        Ok(CUfunction(module.function(name)?.handle))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(function, find()) }
}

pub(crate) unsafe fn cuModuleGetFunctionCount(count: *mut c_uint, module: CUmodule) -> CUresult {
    let found = driver().and_then(|driver| driver.modules.get(module.0));
    // SAFETY: the caller passes a place for a number.
    unsafe {
        answer(
            count,
            found.map(|module| module.ptx.kernels().count() as c_uint),
        )
    }
}

pub(crate) unsafe fn cuModuleEnumerateFunctions(
    functions: *mut CUfunction,
    num_functions: c_uint,
    module: CUmodule,
) -> CUresult {
    match functions_of(module) {
        Err(error) => error,
        Ok(_) if functions.is_null() => CUresult::INVALID_VALUE,
        Ok(found) => {
            for (index, handle) in found.into_iter().take(num_functions as usize).enumerate() {
                // SAFETY: the caller passes an array of `num_functions` handles.
                unsafe { functions.add(index).write_unaligned(CUfunction(handle)) };
            }
            CUresult::SUCCESS
        }
    }
}

/// Writes address and size of a variable.
///
/// # Safety
///
/// The pointers are null or places for these values.
unsafe fn answer_global(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    found: Result<(u64, u64), CUresult>,
) -> CUresult {
    match found {
        Err(error) => error,
        Ok(_) if dptr.is_null() && bytes.is_null() => CUresult::INVALID_VALUE,
        Ok((address, size)) => {
            // SAFETY: by contract.
            unsafe {
                answer_if_asked(dptr, address);
                answer_if_asked(bytes, size as usize);
            }
            CUresult::SUCCESS
        }
    }
}

pub(crate) unsafe fn cuModuleGetGlobal_v2(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name_: *const c_char,
) -> CUresult {
    let find = || {
        current()?;
        let module = driver()?.modules.get(module.0)?;
        // SAFETY: the caller passes a C string.
        let name = unsafe { name(name_) }?;
        module.global(name).ok_or(CUresult::NOT_FOUND)
    };
    // SAFETY: the caller passes places for an address and a size, or null.
    unsafe { answer_global(dptr, bytes, find()) }
}

pub(crate) unsafe fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) -> CUresult {
    const LAZY: CUmoduleLoadingMode = 2;
    // SAFETY: the caller passes a place for a mode.
    unsafe { answer(mode, driver().map(|_| LAZY)) }
}
