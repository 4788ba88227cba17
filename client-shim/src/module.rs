//! Modules, libraries, kernels, functions and their attributes.
//!
//! An image is cut to what the device can use, hashed and sent; the hash travels so that a server can one day keep images. Names
//! are looked up by the worker, once each; with the answer comes the layout of the parameters, so that launching needs no further
//! question.
//!
//! # Safety
//! Images and names are read as far as their own headers say, by the contract of the CUDA driver API; out parameters are checked for null.
#![expect(unsafe_code, reason = "images, names and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState,
    CUjit_option, CUkernel, CUlibrary, CUlibraryOption, CUmodule, CUmoduleLoadingMode, CUresult,
    CUsharedconfig,
};
use driver_api::id::{FunctionId, LibraryId, ModuleId};
use driver_api::image::{self, Image};
use driver_api::wire::request::{
    CuFuncGetAttribute, CuFuncSetAttribute, CuKernelGetAttribute, CuKernelSetAttribute,
    CuLibraryGetModule, CuLibraryUnload, CuModuleUnload, GpurunFunctionGet, GpurunKernelFunction,
    GpurunKernelGet, GpurunLibraryGlobal, GpurunLibraryLoad, GpurunModuleGlobal, GpurunModuleLoad,
};
use driver_api::wire::{Request, reply};
use protocol::limits::MAX_INLINE_COPY_BYTES;
use zerocopy::FromBytes;

use crate::entry::code;
use crate::handles::Handle;
use crate::log;
use crate::memory::out;
use crate::session::{self, Session};

/// A module.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) id: u32,
    context: u32,
    functions: Mutex<HashMap<CString, u32>>,
}

/// A library.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) id: u32,
    kernels: Mutex<HashMap<CString, u32>>,
    /// The module that it is in each context.
    modules: Mutex<HashMap<u32, u32>>,
}

/// A function of a module, or a kernel of a library: what can be launched.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) id: u32,
    name: CString,
    owner: Owner,
    /// Offset and size of each parameter; none where nobody knows.
    pub(crate) parameters: Option<Vec<(u32, u32)>>,
    /// Configurations that the driver has accepted once: later launches in them are posted.
    accepted: Mutex<HashSet<LaunchShape>>,
    attributes: Mutex<HashMap<CUfunction_attribute, c_int>>,
    /// A kernel's function in each context.
    functions: Mutex<HashMap<u32, u32>>,
}

/// What decides whether a launch can work at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaunchShape {
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) context: u32,
    pub(crate) cooperative: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Module(u32),
    Library(u32),
}

impl Function {
    fn new(id: u32, name: CString, owner: Owner, parameters: Option<Vec<(u32, u32)>>) -> Self {
        Self {
            id,
            name,
            owner,
            parameters,
            accepted: Mutex::default(),
            attributes: Mutex::default(),
            functions: Mutex::default(),
        }
    }

    /// Bytes from the first parameter to the end of the last.
    pub(crate) fn parameter_bytes(&self) -> usize {
        let parameters = self.parameters.as_deref().unwrap_or_default();
        parameters
            .iter()
            .map(|(offset, size)| *offset as usize + *size as usize)
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn is_accepted(&self, shape: &LaunchShape) -> bool {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(shape)
    }

    pub(crate) fn accept(&self, shape: LaunchShape) {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(shape);
    }

    /// An attribute was set: what was accepted and cached before may no longer hold.
    fn changed(&self) {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

pub(crate) fn module_of(handle: CUmodule) -> Result<Arc<Module>, CUresult> {
    let module = handle
        .undress()
        .and_then(|id| session::get().ok()?.objects.modules.get(id));
    module.ok_or(CUresult::INVALID_HANDLE)
}

pub(crate) fn library_of(handle: CUlibrary) -> Result<Arc<Library>, CUresult> {
    let library = handle
        .undress()
        .and_then(|id| session::get().ok()?.objects.libraries.get(id));
    library.ok_or(CUresult::INVALID_HANDLE)
}

pub(crate) fn function_of(handle: CUfunction) -> Result<Arc<Function>, CUresult> {
    let function = handle
        .undress()
        .and_then(|id| session::get().ok()?.objects.functions.get(id));
    function.ok_or(CUresult::INVALID_HANDLE)
}

/// The part of an image that the device can use.
///
/// # Safety
/// `image` is null or points to a complete image.
unsafe fn useful<'a>(
    session: &Session,
    device: usize,
    image: *const c_void,
) -> Result<Cow<'a, [u8]>, CUresult> {
    if image.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let image = unsafe { image::extent(image) }.map_err(|error| {
        log::info!("the image of a module cannot be read: {error}");
        CUresult::INVALID_IMAGE
    })?;
    let Image::Fatbin(fatbin) = image else {
        return Ok(Cow::Borrowed(bytes_of(&image)));
    };
    let capability = session
        .devices
        .get(device)
        .ok_or(CUresult::INVALID_DEVICE)?
        .compute_capability();
    fatbin
        .container
        .select_for(capability)
        .map(Cow::Owned)
        .map_err(|error| {
            log::info!("the image of a module cannot be read: {error}");
            CUresult::INVALID_IMAGE
        })
}

fn bytes_of<'a>(image: &Image<'a>) -> &'a [u8] {
    match image {
        Image::Fatbin(fatbin) => fatbin.container.bytes(),
        Image::Elf(bytes) | Image::Ptx(bytes) => bytes,
    }
}

/// Sends an image with the request that `request` makes of (hash, length, transfer).
fn send_image<R: Request>(
    session: &Session,
    context: u32,
    bytes: &[u8],
    request: impl FnOnce([u8; 32], u64, u64) -> R,
) -> Result<(), CUresult> {
    let hash = *blake3::hash(bytes).as_bytes();
    if bytes.len() <= MAX_INLINE_COPY_BYTES {
        let request = request(hash, bytes.len() as u64, 0);
        return session
            .ask_reply(context, &request, bytes, || Ok(()))
            .map(drop);
    }
    let transfer = session.link.transfer_number();
    let request = request(hash, bytes.len() as u64, transfer);
    let send = || {
        // SAFETY: the slice outlives the call, which returns after the reply.
        unsafe {
            session
                .link
                .send_transfer(transfer, bytes.as_ptr(), bytes.len())
        }
        .map(drop)
    };
    session.ask_reply(context, &request, &[], send).map(drop)
}

/// Loads a module into the current context.
fn load(bytes: &[u8]) -> Result<CUmodule, CUresult> {
    let (session, context) = session::current()?;
    let module = session.objects.modules.insert_with(|id| Module {
        id,
        context: context.id,
        functions: Mutex::default(),
    });
    let loaded = send_image(session, context.id, bytes, |hash, length, transfer| {
        GpurunModuleLoad::new(module.id, hash, length, transfer)
    });
    match loaded {
        Ok(()) => Ok(CUmodule::dress(module.id)),
        Err(code) => {
            session.objects.modules.remove(module.id);
            Err(code)
        }
    }
}

/// Loads an image that the program holds in memory.
///
/// # Safety
/// `image` is null or points to a complete image.
pub(crate) unsafe fn load_image(image: *const c_void) -> Result<CUmodule, CUresult> {
    let (session, context) = session::current()?;
    // SAFETY: the caller's promise.
    let bytes = unsafe { useful(session, context.device, image) }?;
    load(&bytes)
}

/// The bytes of a file of this machine, with a NUL after them so that text ends.
unsafe fn read_file(name: *const c_char) -> Result<Vec<u8>, CUresult> {
    if name.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, a C string by the API's contract.
    let path = unsafe { CStr::from_ptr(name) };
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    let mut bytes = std::fs::read(path).map_err(|_| CUresult::FILE_NOT_FOUND)?;
    // An image in a file is bounded by the file, but its reader stops at its own end.
    bytes.extend_from_slice(&[0; 64]);
    Ok(bytes)
}

unsafe fn write_module(
    place: *mut CUmodule,
    load: impl FnOnce() -> Result<CUmodule, CUresult>,
) -> CUresult {
    code((|| {
        let place = out(place)?;
        let module = load()?;
        // SAFETY: checked by `out`.
        unsafe { place.write(module) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) -> CUresult {
    // SAFETY: the API's contract; the file's bytes are checked against their own headers within their length.
    unsafe {
        write_module(module, || {
            let bytes = read_file(fname)?;
            Image::parse(&bytes).map_err(|_| CUresult::INVALID_IMAGE)?;
            load_image(bytes.as_ptr().cast())
        })
    }
}

pub(crate) unsafe fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { write_module(module, || load_image(image)) }
}

pub(crate) unsafe fn cuModuleLoadFatBinary(
    module: *mut CUmodule,
    fat_cubin: *const c_void,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { write_module(module, || load_image(fat_cubin)) }
}

pub(crate) unsafe fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    image: *const c_void,
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe {
        write_module(module, || {
            note_options(num_options, options, option_values)?;
            load_image(image)
        })
    }
}

/// Options that say where logs go: size of the buffer for messages, and for errors.
const LOG_SIZES: [CUjit_option; 2] = [4, 6];
/// The buffers themselves.
const LOG_BUFFERS: [CUjit_option; 2] = [3, 5];
/// `CU_JIT_WALL_TIME`.
const WALL_TIME: CUjit_option = 2;

/// JIT options: logs come back empty; the others are advice to a compiler that the server's driver has with its own defaults.
///
/// # Safety
/// The arrays have so many elements.
unsafe fn note_options(
    count: c_uint,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Result<(), CUresult> {
    if count == 0 {
        return Ok(());
    }
    let (options, values) = (out(options)?, out(values)?);
    for index in 0..count as usize {
        // SAFETY: the caller's promise.
        let (option, value) = unsafe { (options.add(index).read(), values.add(index)) };
        if LOG_SIZES.contains(&option) {
            // SAFETY: the driver writes the bytes used into the option's value.
            unsafe { value.write(core::ptr::null_mut()) };
        } else if option == WALL_TIME {
            // SAFETY: a float in the value's place, as the driver writes it.
            unsafe { value.cast::<f32>().write(0.0) };
        } else if !LOG_BUFFERS.contains(&option) {
            log::info!("JIT option {option} is left to the server's driver");
        }
    }
    Ok(())
}

pub(crate) unsafe fn cuModuleUnload(module: CUmodule) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let module = module_of(module)?;
        session.ask_in(
            module.context,
            &CuModuleUnload::new(ModuleId(module.id)),
            &[],
        )?;
        session.objects.modules.remove(module.id);
        forget_functions(session, Owner::Module(module.id));
        Ok(())
    })())
}

fn forget_functions(session: &Session, owner: Owner) {
    for function in session
        .objects
        .functions
        .select(|function| function.owner == owner)
    {
        session.objects.functions.remove(function.id);
    }
}

/// The parameters of a function as the worker tells them.
fn parameters(body: &[u8]) -> Result<Option<Vec<(u32, u32)>>, CUresult> {
    let malformed = session::malformed::<GpurunFunctionGet>;
    // Both look-ups answer in the same form.
    let (reply, pairs) =
        reply::GpurunFunctionGet::read_from_prefix(body).map_err(|_| malformed())?;
    let (pairs, rest) = pairs.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(malformed());
    }
    let word = |pair: &[u8; 8], at: usize| {
        u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]])
    };
    let pairs = pairs
        .iter()
        .map(|pair| (word(pair, 0), word(pair, 4)))
        .collect();
    Ok((reply.known() == 1).then_some(pairs))
}

/// # Safety
/// `name` is null or a C string.
unsafe fn owned_name(name: *const c_char) -> Result<CString, CUresult> {
    if name.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(name) }.to_owned())
}

/// Looks a name up once: `ask` is given the id for the new function and answers with its parameters.
fn look_up(
    session: &Session,
    known: &Mutex<HashMap<CString, u32>>,
    name: CString,
    owner: Owner,
    ask: impl FnOnce(u32, &[u8]) -> Result<Vec<u8>, CUresult>,
) -> Result<u32, CUresult> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = known.get(&name) {
        return Ok(*id);
    }
    let mut failed = None;
    let function = session.objects.functions.insert_with(|id| {
        let asked = ask(id, name.as_bytes()).and_then(|body| parameters(&body));
        let parameters = asked.unwrap_or_else(|code| {
            failed = Some(code);
            None
        });
        Function::new(id, name.clone(), owner, parameters)
    });
    if let Some(code) = failed {
        session.objects.functions.remove(function.id);
        return Err(code);
    }
    known.insert(name, function.id);
    Ok(function.id)
}

pub(crate) unsafe fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    code((|| {
        let place = out(function)?;
        let (session, _) = session::current()?;
        let module = module_of(module)?;
        // SAFETY: the API's contract.
        let name = unsafe { owned_name(name) }?;
        let owner = Owner::Module(module.id);
        let id = look_up(session, &module.functions, name, owner, |id, name| {
            let request = GpurunFunctionGet::new(ModuleId(module.id), id);
            Ok(session
                .ask_reply(module.context, &request, name, || Ok(()))?
                .body)
        })?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUfunction::dress(id)) };
        Ok(())
    })())
}

/// The functions of a module that have been looked up so far.
pub(crate) fn known_functions(module: CUmodule) -> Result<Vec<usize>, CUresult> {
    let module = module_of(module)?;
    let functions = module
        .functions
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(functions
        .values()
        .map(|id| CUfunction::dress(*id).0)
        .collect())
}

/// Writes address and size of a variable, and remembers it as device memory.
fn write_global(
    session: &Session,
    context: u32,
    found: (u64, u64),
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
) {
    let (address, size) = found;
    session.objects.memory.note_global(address, size, context);
    // SAFETY: not null, writable by the API's contract.
    unsafe {
        if !dptr.is_null() {
            dptr.write(address);
        }
        if !bytes.is_null() {
            bytes.write(size as usize);
        }
    }
}

pub(crate) unsafe fn cuModuleGetGlobal_v2(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let module = module_of(module)?;
        // SAFETY: the API's contract.
        let name = unsafe { owned_name(name) }?;
        let request = GpurunModuleGlobal::new(ModuleId(module.id));
        let reply = session.ask_in(module.context, &request, name.as_bytes())?;
        write_global(
            session,
            module.context,
            (reply.address(), reply.size()),
            dptr,
            bytes,
        );
        Ok(())
    })())
}

pub(crate) unsafe fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) -> CUresult {
    code((|| {
        let place = out(mode)?;
        session::get()?;
        let eager = std::env::var("CUDA_MODULE_LOADING").is_ok_and(|mode| mode == "EAGER");
        // SAFETY: checked by `out`. CU_MODULE_EAGER_LOADING is 1, CU_MODULE_LAZY_LOADING 2.
        unsafe { place.write(if eager { 1 } else { 2 }) };
        Ok(())
    })())
}

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
    unsafe { note_options(jit_count, jit_options, jit_values) }?;
    // A library belongs to no context: the devices of a session are alike, so the first one stands for all.
    // SAFETY: the API's contract.
    let bytes = unsafe { useful(session, 0, image) }?;
    let library = session.objects.libraries.insert_with(|id| Library {
        id,
        kernels: Mutex::default(),
        modules: Mutex::default(),
    });
    let context = crate::thread::current();
    let loaded = send_image(session, context, &bytes, |hash, length, transfer| {
        GpurunLibraryLoad::new(library.id, hash, length, transfer)
    });
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
        let context = crate::thread::current();
        session.ask_in(context, &CuLibraryUnload::new(LibraryId(library.id)), &[])?;
        session.objects.libraries.remove(library.id);
        for module in library
            .modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            session.objects.modules.remove(*module);
            forget_functions(session, Owner::Module(*module));
        }
        forget_functions(session, Owner::Library(library.id));
        Ok(())
    })())
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
        let owner = Owner::Library(library.id);
        let id = look_up(session, &library.kernels, name, owner, |id, name| {
            let request = GpurunKernelGet::new(LibraryId(library.id), id);
            let context = crate::thread::current();
            Ok(session.ask_reply(context, &request, name, || Ok(()))?.body)
        })?;
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

pub(crate) unsafe fn cuLibraryGetGlobal(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let library = library_of(library)?;
        // SAFETY: the API's contract.
        let name = unsafe { owned_name(name) }?;
        let request = GpurunLibraryGlobal::new(LibraryId(library.id));
        let reply = session.ask_in(context.id, &request, name.as_bytes())?;
        write_global(
            session,
            context.id,
            (reply.address(), reply.size()),
            dptr,
            bytes,
        );
        Ok(())
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
                .ask_in(crate::thread::current(), &request, &[])?
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
            .ask_in(crate::thread::current(), &request, &[])
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
