//! Libraries: code that is loaded once and used in every context.
//!
//! # Safety
//!
//! Answers are written through pointers that the caller passed; see [`crate::entry`]. Images are as in [`super`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUfunc_cache, CUfunction, CUfunction_attribute, CUjit_option, CUkernel,
    CUlibrary, CUlibraryOption, CUmodule, CUresult,
};

use super::function::{answer_parameter, attribute, parameter, set_attribute};
use super::jit::Options;
use super::{Function, Kernel, Library, answer_global, load, name, unload};
use crate::context::{current, current_or_primary};
use crate::entry::{answer, done};
use crate::ptx;
use crate::state::driver;

fn insert(ptx: Arc<ptx::Module>) -> Result<CUlibrary, CUresult> {
    let driver = driver()?;
    let handle = driver.libraries.reserve();
    driver
        .libraries
        .insert(handle, Arc::new(Library::new(handle, ptx)));
    Ok(CUlibrary(handle))
}

fn find(library: CUlibrary) -> Result<Arc<Library>, CUresult> {
    driver()?.libraries.get(library.0)
}

fn kernel(kernel: CUkernel) -> Result<Arc<Kernel>, CUresult> {
    driver()?.kernels.get(kernel.0)
}

/// A kernel's function in the current context.
fn function(handle: CUkernel) -> Result<Arc<Function>, CUresult> {
    kernel(handle)?.function(&*current()?)
}

#[expect(clippy::too_many_arguments, reason = "the driver's signature")]
pub(crate) unsafe fn cuLibraryLoadData(
    library: *mut CUlibrary,
    code: *const c_void,
    jit_options: *mut CUjit_option,
    jit_options_values: *mut *mut c_void,
    num_jit_options: c_uint,
    _library_options: *mut CUlibraryOption,
    _library_option_values: *mut *mut c_void,
    _num_library_options: c_uint,
) -> CUresult {
    let load = || {
        driver()?;
        // SAFETY: the caller passes arrays of options and a complete image.
        let loaded = unsafe {
            let options = Options::of(num_jit_options, jit_options, jit_options_values)?;
            options.loaded(load::from_pointer(code))
        };
        insert(loaded?)
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(library, load()) }
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
    let load = || {
        driver()?;
        // SAFETY: the caller passes arrays of options and a C string.
        let (options, path) = unsafe {
            let options = Options::of(num_jit_options, jit_options, jit_options_values)?;
            (options, name(file_name)?)
        };
        insert(options.loaded(load::from_file(path))?)
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(library, load()) }
}

pub(crate) unsafe fn cuLibraryUnload(library: CUlibrary) -> CUresult {
    let unload_all = || {
        let driver = driver()?;
        let library = driver.libraries.remove(library.0)?;
        for module in library.take_modules() {
            unload(driver, &module);
        }
        driver
            .kernels
            .remove_if(|kernel| std::ptr::eq(kernel.library.as_ptr(), &*library));
        Ok(())
    };
    done(unload_all())
}

pub(crate) unsafe fn cuLibraryGetKernel(
    kernel: *mut CUkernel,
    library: CUlibrary,
    name_: *const c_char,
) -> CUresult {
    let find = || {
        let library = find(library)?;
        // SAFETY: the caller passes a C string.
        let name = unsafe { name(name_) }?;
        Ok(CUkernel(library.kernel(name)?.handle))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(kernel, find()) }
}

pub(crate) unsafe fn cuLibraryGetKernelCount(count: *mut c_uint, lib: CUlibrary) -> CUresult {
    let found = find(lib).map(|library| library.ptx.kernels().count() as c_uint);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(count, found) }
}

pub(crate) unsafe fn cuLibraryEnumerateKernels(
    kernels: *mut CUkernel,
    num_kernels: c_uint,
    lib: CUlibrary,
) -> CUresult {
    let enumerate = || {
        let library = find(lib)?;
        if kernels.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        for (index, name) in library.ptx.kernels().take(num_kernels as usize).enumerate() {
            let handle = CUkernel(library.kernel(name)?.handle);
            // SAFETY: the caller passes an array of `num_kernels` handles.
            unsafe { kernels.add(index).write_unaligned(handle) };
        }
        Ok(())
    };
    done(enumerate())
}

pub(crate) unsafe fn cuLibraryGetModule(module: *mut CUmodule, library: CUlibrary) -> CUresult {
    let find = || Ok(CUmodule(find(library)?.module(&*current()?)?.handle));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(module, find()) }
}

pub(crate) unsafe fn cuLibraryGetGlobal(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name_: *const c_char,
) -> CUresult {
    let find = || {
        let module = find(library)?.module(&*current()?)?;
        // SAFETY: the caller passes a C string.
        let name = unsafe { name(name_) }?;
        module.global(name).ok_or(CUresult::NOT_FOUND)
    };
    // SAFETY: the caller passes places for an address and a size, or null.
    unsafe { answer_global(dptr, bytes, find()) }
}

pub(crate) unsafe fn cuLibraryGetManaged(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name_: *const c_char,
) -> CUresult {
    let find = || {
        let library = find(library)?;
        // SAFETY: the caller passes a C string.
        let name = unsafe { name(name_) }?;
        let variable = library.ptx.variable(name);
        variable
            .filter(|variable| variable.is_managed)
            .ok_or(CUresult::NOT_FOUND)?;
        // cudart 13 asks before there is a context.
        let module = library.module(&*current_or_primary()?)?;
        module.global(name).ok_or(CUresult::NOT_FOUND)
    };
    // SAFETY: the caller passes places for an address and a size, or null.
    unsafe { answer_global(dptr, bytes, find()) }
}

/// No function has one address for the device and the host (`UNIFIED_FUNCTION_POINTERS` is 0).
pub(crate) unsafe fn cuLibraryGetUnifiedFunction(
    fptr: *mut *mut c_void,
    library: CUlibrary,
    symbol: *const c_char,
) -> CUresult {
    if symbol.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a pointer.
    unsafe { answer(fptr, find(library).and(Err(CUresult::NOT_FOUND))) }
}

pub(crate) unsafe fn cuKernelGetFunction(func: *mut CUfunction, kernel: CUkernel) -> CUresult {
    let found = function(kernel).map(|function| CUfunction(function.handle));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(func, found) }
}

pub(crate) unsafe fn cuKernelGetLibrary(lib: *mut CUlibrary, kernel_: CUkernel) -> CUresult {
    let found = kernel(kernel_).and_then(|kernel| kernel.library());
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(lib, found.map(|library| CUlibrary(library.handle))) }
}

pub(crate) unsafe fn cuKernelGetName(name: *mut *const c_char, function: CUkernel) -> CUresult {
    // The string lives as long as the kernel, as the driver promises.
    let found = kernel(function).map(|kernel| kernel.c_name.as_ptr());
    // SAFETY: the caller passes a place for a pointer.
    unsafe { answer(name, found) }
}

pub(crate) unsafe fn cuKernelGetAttribute(
    pi: *mut c_int,
    attrib: CUfunction_attribute,
    kernel: CUkernel,
    dev: CUdevice,
) -> CUresult {
    let value = || {
        driver()?.device(dev)?;
        attribute(&*function(kernel)?, attrib)
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(pi, value()) }
}

pub(crate) unsafe fn cuKernelSetAttribute(
    attrib: CUfunction_attribute,
    val: c_int,
    kernel: CUkernel,
    dev: CUdevice,
) -> CUresult {
    let set = || {
        driver()?.device(dev)?;
        set_attribute(&*function(kernel)?, attrib, val)
    };
    done(set())
}

pub(crate) unsafe fn cuKernelSetCacheConfig(
    kernel_: CUkernel,
    config: CUfunc_cache,
    dev: CUdevice,
) -> CUresult {
    let set = || {
        driver()?.device(dev)?;
        kernel(kernel_)?;
        // A hint.
        if config > 3 {
            Err(CUresult::INVALID_VALUE)
        } else {
            Ok(())
        }
    };
    done(set())
}

pub(crate) unsafe fn cuKernelGetParamInfo(
    kernel: CUkernel,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    let found = function(kernel).and_then(|function| parameter(&function, param_index));
    // SAFETY: the caller passes places for an offset and a size, the latter may be null.
    unsafe { answer_parameter(param_offset, param_size, found) }
}

pub(crate) unsafe fn cuKernelGetParamCount(kernel: CUkernel, param_count: *mut usize) -> CUresult {
    let count = || Ok(function(kernel)?.entry()?.params.len());
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(param_count, count()) }
}
