//! Modules, libraries, kernels, functions: the rows of the `module` area.
//!
//! *What:* images are loaded as they came, once their extent was checked; a function is looked up by name and its parameters are told,
//! by the driver where it can, else from the image. *Rules:* what the driver reads by its own lengths (an ELF file, a
//! container) is parsed first, so that it ends inside the bytes there are; PTX text is ended by a NUL.
//!
//! A cache of images by hash belongs into [`image_of`]: the request carries the hash already.
//!
//! # Safety
//! Handles come from this session's tables; images and names are live slices that are checked to end where the driver stops reading;
//! out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use core::ffi::c_char;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUfunction, CUkernel, CUlibrary, CUmodule};
use driver_api::image::{Image, MAX_KERNEL_PARAMETERS, elf, fatbin, ptx};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};

use protocol::limits::MAX_REPLY_BYTES;

use super::call::{Call, CallError};
use super::linker::options_of;
use crate::driver::cuda;

/// Most bytes of a symbol's name.
const MAX_NAME_BYTES: usize = 64 << 10;

/// The function by which device code prints.
const PRINTS: &[u8] = b"vprintf";

/// A driver's module.
#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) handle: CUmodule,
    /// The serial of its context.
    pub(crate) context: u64,
    /// The client's number of the library that it ends with.
    pub(crate) library: Option<u32>,
    /// Its image, where the driver does not tell a function's parameters.
    pub(crate) image: Option<Arc<[u8]>>,
}

/// A driver's library.
#[derive(Clone)]
pub(crate) struct Library {
    pub(crate) handle: CUlibrary,
    image: Option<Arc<[u8]>>,
}

/// What can be launched.
pub(crate) struct Function {
    handle: Handle,
    owner: Owner,
    /// The serial of its context; a kernel has none.
    pub(crate) context: Option<u64>,
    /// Offset and size of each parameter; none where nobody knows.
    pub(crate) parameters: Option<Box<[(u32, u32)]>>,
    /// Bytes that the parameters take together.
    pub(crate) parameter_bytes: usize,
}

#[derive(Clone, Copy)]
enum Handle {
    Function(CUfunction),
    Kernel(CUkernel),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Module(u32),
    Library(u32),
}

impl Function {
    fn new(
        handle: Handle,
        owner: Owner,
        context: Option<u64>,
        parameters: Option<Vec<(u32, u32)>>,
    ) -> Self {
        let ends = parameters.iter().flatten();
        let parameter_bytes = ends
            .map(|(offset, size)| *offset as usize + *size as usize)
            .max();
        Self {
            handle,
            owner,
            context,
            parameters: parameters.map(Vec::into_boxed_slice),
            parameter_bytes: parameter_bytes.unwrap_or(0),
        }
    }

    /// The function, or the kernel in its place.
    pub(crate) fn as_function(&self) -> CUfunction {
        match self.handle {
            Handle::Function(function) => function,
            Handle::Kernel(kernel) => CUfunction(kernel.0),
        }
    }

    pub(crate) fn as_kernel(&self) -> Option<CUkernel> {
        match self.handle {
            Handle::Function(_) => None,
            Handle::Kernel(kernel) => Some(kernel),
        }
    }

    pub(crate) fn is_of_module(&self, module: u32) -> bool {
        self.owner == Owner::Module(module)
    }

    /// The client's number of its module; a kernel has none.
    pub(crate) fn module(&self) -> Option<u32> {
        match self.owner {
            Owner::Module(module) => Some(module),
            Owner::Library(_) => None,
        }
    }

    pub(crate) fn is_of_library(&self, library: u32) -> bool {
        self.owner == Owner::Library(library)
    }
}

/// The image that a call brings, inline or as its transfer, with a NUL behind it.
pub(crate) fn image_of(call: &Call<'_>, length: u64, inline: &[u8]) -> Result<Vec<u8>, CallError> {
    let mut image = match &call.inbound {
        Some(inbound) => {
            if !inline.is_empty() {
                return Err(CallError::Violation("an image with a transfer and bytes"));
            }
            inbound.whole_image(call.session)?
        }
        None => inline.to_vec(),
    };
    if image.len() as u64 != length {
        return Err(CallError::Violation("an image of another length"));
    }
    image.push(0);
    Ok(image)
}

/// Checks that the driver will not read beyond the image; whether its code may print.
pub(crate) fn inspect(image: &[u8]) -> Result<bool, CUresult> {
    let text_end = image.len() - 1;
    match Image::parse(image).map_err(|_| CUresult::INVALID_IMAGE)? {
        Image::Elf(bytes) if bytes.len() <= text_end => Ok(contains(bytes, PRINTS)),
        Image::Ptx(text) => Ok(contains(text, PRINTS)),
        Image::Fatbin(fatbin) if fatbin.container.bytes().len() <= text_end => {
            Ok(entries_print(&fatbin.container))
        }
        Image::Elf(_) | Image::Fatbin(_) => Err(CUresult::INVALID_IMAGE),
    }
}

fn entries_print(container: &fatbin::Container<'_>) -> bool {
    container
        .entries()
        .map_while(Result::ok)
        .any(|entry| entry.plain().is_ok_and(|plain| contains(&plain, PRINTS)))
}

/// Whether `bytes` has `needle` somewhere. Libraries bring megabytes, so not byte by byte.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

pub(crate) fn name_of(bytes: &[u8]) -> Result<CString, CUresult> {
    if bytes.len() > MAX_NAME_BYTES {
        return Err(CUresult::INVALID_VALUE);
    }
    CString::new(bytes).map_err(|_| CUresult::INVALID_VALUE)
}

/// A module image.
pub(crate) fn gpurunModuleLoad(
    call: &mut Call<'_>,
    request: &request::GpurunModuleLoad,
    rest: &[u8],
) -> Result<(), CallError> {
    let (mut options, inline) = options_of(request.count(), rest)?;
    let image = image_of(call, request.length(), inline)?;
    let context = Arc::clone(call.context()?);
    let id = request.module();
    call.session.modules.check_free(id)?;
    let prints = inspect(&image)?;
    let driver = call.driver();
    let mut handle = CUmodule(0);
    let code = image.as_ptr().cast();
    match options.is_empty() {
        true => cuda!(driver, cuModuleLoadData(&mut handle, code))?,
        false => {
            let (count, names, values) = options.arrays();
            cuda!(
                driver,
                cuModuleLoadDataEx(&mut handle, code, count, names, values)
            )?;
        }
    }
    let module = Module {
        handle,
        context: context.serial,
        library: None,
        image: driver
            .cuFuncGetParamInfo
            .is_none()
            .then(|| Arc::from(image)),
    };
    let accounts = &call.session.memory.accounts;
    let settled = accounts.settle(driver, context.device);
    if let Err(error) = settled.and_then(|()| call.session.modules.insert(id, module)) {
        cuda!(driver, cuModuleUnload(handle))?;
        accounts.settle_all(driver);
        return Err(error.into());
    }
    if prints {
        context.prints.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// A library's image; it belongs to no context.
pub(crate) fn gpurunLibraryLoad(
    call: &mut Call<'_>,
    request: &request::GpurunLibraryLoad,
    rest: &[u8],
) -> Result<(), CallError> {
    let (mut options, inline) = options_of(request.count(), rest)?;
    let image = image_of(call, request.length(), inline)?;
    let id = request.library();
    call.session.libraries.check_free(id)?;
    let prints = inspect(&image)?;
    let driver = call.driver();
    let mut handle = CUlibrary(0);
    let (count, names, values) = options.arrays();
    cuda!(
        driver,
        cuLibraryLoadData(
            &mut handle,
            image.as_ptr().cast(),
            names,
            values,
            count,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0
        )
    )?;
    let tells = driver.cuKernelGetParamInfo.is_some();
    let library = Library {
        handle,
        image: (!tells).then(|| Arc::from(image)),
    };
    if let Err(error) = call.session.libraries.insert(id, library) {
        cuda!(driver, cuLibraryUnload(handle))?;
        return Err(error.into());
    }
    if prints {
        call.session.output.expect_from_libraries();
    }
    Ok(())
}

/// A function of a module by name.
pub(crate) fn gpurunFunctionGet(
    call: &mut Call<'_>,
    request: &request::GpurunFunctionGet,
    name: &[u8],
) -> Result<(), CallError> {
    let module_id = request.module().0;
    let module = call
        .session
        .modules
        .get(module_id)
        .ok_or(CUresult::INVALID_HANDLE)?;
    let name = name_of(name)?;
    let driver = call.driver();
    let mut handle = CUfunction(0);
    cuda!(
        driver,
        cuModuleGetFunction(&mut handle, module.handle, name.as_ptr())
    )?;
    let told = told_parameters(|index, offset, size| {
        cuda!(driver, cuFuncGetParamInfo(handle, index, offset, size))
    })?;
    let parameters = told.or_else(|| image_parameters(module.image.as_deref(), &name));
    call.reply(&reply::GpurunFunctionGet::new(parameters.is_some().into()));
    tell(call, parameters.as_deref());
    let function = Function::new(
        Handle::Function(handle),
        Owner::Module(module_id),
        Some(module.context),
        parameters,
    );
    call.session
        .functions
        .insert(request.function(), Arc::new(function))?;
    Ok(())
}

/// A kernel of a library by name.
pub(crate) fn gpurunKernelGet(
    call: &mut Call<'_>,
    request: &request::GpurunKernelGet,
    name: &[u8],
) -> Result<(), CallError> {
    let library_id = request.library().0;
    let library = call
        .session
        .libraries
        .get(library_id)
        .ok_or(CUresult::INVALID_HANDLE)?;
    let name = name_of(name)?;
    let driver = call.driver();
    let mut handle = CUkernel(0);
    cuda!(
        driver,
        cuLibraryGetKernel(&mut handle, library.handle, name.as_ptr())
    )?;
    let ask = || {
        told_parameters(|index, offset, size| {
            cuda!(driver, cuKernelGetParamInfo(handle, index, offset, size))
        })
    };
    let told = match ask()? {
        Some(told) => Some(told),
        None => in_some_context(call, ask)?,
    };
    let parameters = told.or_else(|| image_parameters(library.image.as_deref(), &name));
    call.reply(&reply::GpurunKernelGet::new(parameters.is_some().into()));
    tell(call, parameters.as_deref());
    let function = Function::new(
        Handle::Kernel(handle),
        Owner::Library(library_id),
        None,
        parameters,
    );
    call.session
        .functions
        .insert(request.kernel(), Arc::new(function))?;
    Ok(())
}

/// Asks for one parameter after the other until there is none. Nothing if the driver does not tell; that it has no memory to load the
/// kernel is the program's to know.
fn told_parameters(
    mut ask: impl FnMut(usize, *mut usize, *mut usize) -> Result<(), CUresult>,
) -> Result<Option<Vec<(u32, u32)>>, CUresult> {
    let mut parameters = Vec::new();
    while parameters.len() < MAX_KERNEL_PARAMETERS {
        let (mut offset, mut size) = (0, 0);
        match ask(parameters.len(), &mut offset, &mut size) {
            Ok(()) => match (u32::try_from(offset), u32::try_from(size)) {
                (Ok(offset), Ok(size)) => parameters.push((offset, size)),
                _ => return Ok(None),
            },
            Err(CUresult::INVALID_VALUE) => return Ok(Some(parameters)),
            Err(CUresult::OUT_OF_MEMORY) => return Err(CUresult::OUT_OF_MEMORY),
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// Asks again with a context current, if there is none: a driver may load a kernel only there.
fn in_some_context<T>(
    call: &Call<'_>,
    ask: impl Fn() -> Result<Option<T>, CUresult>,
) -> Result<Option<T>, CUresult> {
    if call.record.context != 0 {
        return Ok(None);
    }
    let (driver, device) = (call.driver(), 0);
    let (mut context, mut popped) = (CUcontext(0), CUcontext(0));
    cuda!(driver, cuDevicePrimaryCtxRetain(&mut context, device))?;
    let told = cuda!(driver, cuCtxPushCurrent_v2(context)).and_then(|()| {
        let told = ask();
        cuda!(driver, cuCtxPopCurrent_v2(&mut popped))?;
        told
    });
    cuda!(driver, cuDevicePrimaryCtxRelease_v2(device))?;
    told
}

/// What `find` finds among the kernels that an image tells; in a container, of the first entry in which it does.
fn in_image<T>(image: Option<&[u8]>, find: impl Fn(Vec<elf::Kernel>) -> Option<T>) -> Option<T> {
    match Image::parse(image?).ok()? {
        Image::Elf(bytes) => find(elf::kernels(bytes).ok()?),
        Image::Ptx(text) => find(ptx::kernels(text).ok()?),
        Image::Fatbin(fatbin) => {
            fatbin
                .container
                .entries()
                .map_while(Result::ok)
                .find_map(|entry| {
                    let plain = entry.plain().ok()?;
                    match entry.kind {
                        fatbin::Kind::Ptx => find(ptx::kernels(&plain).ok()?),
                        fatbin::Kind::Elf => find(elf::kernels(&plain).ok()?),
                        _ => None,
                    }
                })
        }
    }
}

/// The parameters that the image tells of a kernel.
fn image_parameters(image: Option<&[u8]>, name: &CString) -> Option<Vec<(u32, u32)>> {
    let name = name.to_str().ok()?;
    in_image(image, |kernels| {
        let kernel = kernels.into_iter().find(|kernel| kernel.name == name)?;
        let parameters = kernel.parameters.iter();
        Some(
            parameters
                .map(|parameter| (parameter.offset, parameter.size))
                .collect(),
        )
    })
}

/// The names of the kernels that the image tells.
fn image_names(image: Option<&[u8]>) -> Result<Vec<CString>, CUresult> {
    let names = in_image(image, |kernels| {
        kernels
            .into_iter()
            .map(|kernel| CString::new(kernel.name).ok())
            .collect()
    });
    names.ok_or(CUresult::NOT_SUPPORTED)
}

/// The driver's own text.
fn told_name(
    ask: impl FnOnce(&mut *const c_char) -> Result<(), CUresult>,
) -> Result<CString, CUresult> {
    let mut name = std::ptr::null();
    ask(&mut name)?;
    if name.is_null() {
        return Err(CUresult::UNKNOWN);
    }
    // SAFETY: the driver's text, which lives as long as its module.
    Ok(unsafe { CStr::from_ptr(name) }.to_owned())
}

/// Replies with names, if they fit into one reply.
fn reply_names(call: &mut Call<'_>, names: &[CString]) -> Result<(), CUresult> {
    let bytes: usize = names
        .iter()
        .map(|name| name.as_bytes_with_nul().len())
        .sum();
    if bytes > MAX_REPLY_BYTES / 2 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let count = u32::try_from(names.len()).map_err(|_| CUresult::NOT_SUPPORTED)?;
    call.reply(&reply::GpurunModuleNames::new(count));
    for name in names {
        call.reply_bytes(name.as_bytes_with_nul());
    }
    Ok(())
}

/// The names of all functions of a module: the driver's, or the image's where the driver enumerates none (before 12.4).
pub(crate) fn gpurunModuleNames(
    call: &mut Call<'_>,
    request: &request::GpurunModuleNames,
) -> Result<(), CallError> {
    let module = call.session.modules.get(request.module().0);
    let module = module.ok_or(CUresult::INVALID_HANDLE)?;
    let driver = call.driver();
    let names = if driver.cuModuleEnumerateFunctions.is_some() {
        let mut count = 0;
        cuda!(driver, cuModuleGetFunctionCount(&mut count, module.handle))?;
        let mut functions = vec![CUfunction(0); count as usize];
        cuda!(
            driver,
            cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, module.handle)
        )?;
        functions
            .into_iter()
            .map(|function| told_name(|name| cuda!(driver, cuFuncGetName(name, function))))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        image_names(module.image.as_deref())?
    };
    Ok(reply_names(call, &names)?)
}

/// A library's module in the current context: there is nothing to undo if its number is refused.
pub(crate) fn cuLibraryGetModule(
    call: &mut Call<'_>,
    request: &request::CuLibraryGetModule,
) -> Result<(), CallError> {
    let library: CUlibrary = call.handle(request.library())?;
    let context = call.context()?.serial;
    let mut handle = CUmodule(0);
    cuda!(call.driver(), cuLibraryGetModule(&mut handle, library))?;
    let module = Module {
        handle,
        context,
        library: Some(request.library().0),
        image: None,
    };
    call.session.modules.insert(request.module().0, module)?;
    Ok(())
}

/// The names of all kernels of a library, in the same form.
pub(crate) fn gpurunLibraryNames(
    call: &mut Call<'_>,
    request: &request::GpurunLibraryNames,
) -> Result<(), CallError> {
    let library = call.session.libraries.get(request.library().0);
    let library = library.ok_or(CUresult::INVALID_HANDLE)?;
    let driver = call.driver();
    let names = if driver.cuLibraryEnumerateKernels.is_some() {
        let mut count = 0;
        cuda!(driver, cuLibraryGetKernelCount(&mut count, library.handle))?;
        let mut kernels = vec![CUkernel(0); count as usize];
        cuda!(
            driver,
            cuLibraryEnumerateKernels(kernels.as_mut_ptr(), count, library.handle)
        )?;
        kernels
            .into_iter()
            .map(|kernel| told_name(|name| cuda!(driver, cuKernelGetName(name, kernel))))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        image_names(library.image.as_deref())?
    };
    Ok(reply_names(call, &names)?)
}

fn tell(call: &mut Call<'_>, parameters: Option<&[(u32, u32)]>) {
    for (offset, size) in parameters.unwrap_or_default() {
        call.reply_bytes(&offset.to_le_bytes());
        call.reply_bytes(&size.to_le_bytes());
    }
}

/// The function that a kernel is in the current context.
pub(crate) fn gpurunKernelFunction(
    call: &mut Call<'_>,
    request: &request::GpurunKernelFunction,
) -> Result<(), CallError> {
    let kernel = call
        .session
        .functions
        .get(request.kernel().0)
        .ok_or(CUresult::INVALID_HANDLE)?;
    let handle = kernel.as_kernel().ok_or(CUresult::INVALID_HANDLE)?;
    let context = Arc::clone(call.context()?);
    let mut function = CUfunction(0);
    cuda!(call.driver(), cuKernelGetFunction(&mut function, handle))?;
    let accounts = &call.session.memory.accounts;
    accounts.settle(call.driver(), context.device)?;
    let function = Function::new(
        Handle::Function(function),
        kernel.owner,
        Some(context.serial),
        kernel.parameters.as_deref().map(<[_]>::to_vec),
    );
    call.session
        .functions
        .insert(request.function(), Arc::new(function))?;
    Ok(())
}

/// The managed memory that holds a variable: the first address, and how many bytes; none if the variable is not managed.
fn managed_around(driver: &Driver, address: u64) -> (u64, u64) {
    const IS_MANAGED: u32 = 8;
    let mut is_managed = 0_u32;
    let asked = cuda!(
        driver,
        cuPointerGetAttribute((&raw mut is_managed).cast(), IS_MANAGED, address)
    );
    let (mut base, mut size) = (0, 0);
    let found = asked.and_then(|()| {
        cuda!(
            driver,
            cuMemGetAddressRange_v2(&mut base, &mut size, address)
        )
    });
    match found {
        Ok(()) if is_managed != 0 => (base, size as u64),
        _ => (0, 0),
    }
}

/// What the session may name for a variable: the managed memory that it is in, where there is such, since ranges that overlap would hide each other.
fn whole_of(variable: (u64, u64), managed: (u64, u64)) -> (u64, u64) {
    let end = |(start, size): (u64, u64)| start.saturating_add(size);
    let is_inside = managed.0 <= variable.0 && end(variable) <= end(managed);
    match is_inside && managed.1 > 0 {
        true => managed,
        false => variable,
    }
}

/// A variable of a module by name.
pub(crate) fn gpurunModuleGlobal(
    call: &mut Call<'_>,
    request: &request::GpurunModuleGlobal,
    name: &[u8],
) -> Result<(), CallError> {
    let module: CUmodule = call.handle(request.module())?;
    let name = name_of(name)?;
    let (mut address, mut size) = (0, 0);
    cuda!(
        call.driver(),
        cuModuleGetGlobal_v2(&mut address, &mut size, module, name.as_ptr())
    )?;
    let (owner, context) = (request.module().0, call.context()?);
    let memory = &call.session.memory;
    let (managed, bytes) = managed_around(call.driver(), address);
    let size = size as u64;
    let (start, length) = whole_of((address, size), (managed, bytes));
    memory.add_global(start, length, owner, false, context)?;
    call.reply(&reply::GpurunModuleGlobal::new(
        address, size, managed, bytes,
    ));
    Ok(())
}

/// A variable of a library in the current context by name.
pub(crate) fn gpurunLibraryGlobal(
    call: &mut Call<'_>,
    request: &request::GpurunLibraryGlobal,
    name: &[u8],
) -> Result<(), CallError> {
    let library: CUlibrary = call.handle(request.library())?;
    let name = name_of(name)?;
    let (mut address, mut size) = (0, 0);
    cuda!(
        call.driver(),
        cuLibraryGetGlobal(&mut address, &mut size, library, name.as_ptr())
    )?;
    let (owner, context) = (request.library().0, call.context()?);
    let memory = &call.session.memory;
    memory.accounts.settle(call.driver(), context.device)?;
    let (managed, bytes) = managed_around(call.driver(), address);
    let size = size as u64;
    let (start, length) = whole_of((address, size), (managed, bytes));
    memory.add_global(start, length, owner, true, context)?;
    call.reply(&reply::GpurunLibraryGlobal::new(
        address, size, managed, bytes,
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver that tells parameters of four bytes until it answers this.
    fn told(count: usize, then: CUresult) -> Result<Option<Vec<(u32, u32)>>, CUresult> {
        told_parameters(|index, offset, size| {
            if index == count {
                return Err(then);
            }
            // SAFETY: both point to locals of the caller.
            unsafe {
                offset.write(index * 4);
                size.write(4);
            }
            Ok(())
        })
    }

    #[test]
    fn parameters_are_told_to_their_end_or_not_at_all() {
        let all = Ok(Some(vec![(0, 4), (4, 4)]));
        assert_eq!(told(2, CUresult::INVALID_VALUE), all);
        assert_eq!(told(2, CUresult::NOT_SUPPORTED), Ok(None));
        assert_eq!(told(0, CUresult::INVALID_CONTEXT), Ok(None));
    }

    #[test]
    fn no_memory_to_load_a_kernel_is_told() {
        let none = CUresult::OUT_OF_MEMORY;
        assert_eq!(told(0, none), Err(none));
    }
}
