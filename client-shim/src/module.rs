//! Modules, libraries, kernels, functions and their attributes.
//!
//! An image is cut to what the device can use, hashed and sent; the hash travels so that a server can one day keep images. Names
//! are looked up by the worker, once each; with the answer comes the layout of the parameters, so that launching needs no further
//! question.
//!
//! [`image`] sends, [`library`] has what belongs to no context, [`function`] what can be launched, [`names`] what is in both.
//!
//! # Safety
//! Images and names are read as far as their own headers say, by the contract of the CUDA driver API; out parameters are checked for null.
#![expect(unsafe_code, reason = "images, names and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod function;
mod image;
mod library;
mod names;

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{
    CUdeviceptr, CUfunction, CUfunction_attribute, CUjit_option, CUlibrary, CUmodule,
    CUmoduleLoadingMode, CUresult, CUsurfref, CUtexref,
};
use driver_api::id::ModuleId;
use driver_api::image::Image;
use driver_api::launch_state::LaunchState;
use driver_api::link_options::LinkOption;
use driver_api::wire::reply;
use driver_api::wire::request::{
    CuModuleUnload, GpurunFunctionGet, GpurunModuleGlobal, GpurunModuleLoad,
};
use zerocopy::FromBytes;

pub(crate) use function::*;
pub(crate) use library::*;
pub(crate) use names::*;

use crate::entry::code;
use crate::handles::Handle;
use crate::link::Body;
use crate::memory::out;
use crate::session::{self, Session};
pub(crate) use image::{BEHIND_FILE, read_file};
use image::{options_of, send_useful};

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
    pub(crate) name: CString,
    owner: Owner,
    /// Offset and size of each parameter; none where nobody knows.
    pub(crate) parameters: Option<Vec<(u32, u32)>>,
    /// Configurations that the driver has accepted once: later launches in them are posted.
    accepted: Mutex<HashSet<LaunchShape>>,
    attributes: Mutex<HashMap<CUfunction_attribute, c_int>>,
    /// A kernel's function in each context.
    functions: Mutex<HashMap<u32, u32>>,
    /// What the launch interface before `cuLaunchKernel` was told.
    pub(crate) launch_state: Mutex<LaunchState>,
}

/// A context has ended: its modules are gone, and what libraries and kernels were in it. A primary context comes back with the same id.
pub(crate) fn forget_context(session: &Session, context: u32) {
    let objects = &session.objects;
    for library in objects.libraries.select(|_| true) {
        let mut modules = library
            .modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        modules.remove(&context);
    }
    for kernel in objects.functions.select(|_| true) {
        kernel.forget_context(session, context);
    }
    for module in objects.modules.select(|module| module.context == context) {
        objects.modules.remove(module.id);
        let owned = |function: &Function| function.owner == Owner::Module(module.id);
        for function in objects.functions.select(owned) {
            objects.functions.remove(function.id);
        }
    }
}

/// What decides whether a launch can work at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LaunchShape {
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) context: u32,
    pub(crate) special: Option<Box<SpecialLaunch>>,
}

/// What decides besides, where a launch is cooperative or has attributes: a grid may be too large to be resident, or no multiple of its clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpecialLaunch {
    pub(crate) cooperative: bool,
    pub(crate) grid: [u32; 3],
    /// As they travel.
    pub(crate) attributes: Vec<u8>,
}

/// Shapes that are remembered of one function: a program whose launches are all different does not fill its memory with them.
const MAX_ACCEPTED: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
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
            launch_state: Mutex::default(),
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
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.len() >= MAX_ACCEPTED {
            accepted.clear();
        }
        accepted.insert(shape);
    }

    fn forget_context(&self, session: &Session, context: u32) {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|shape| shape.context != context);
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = functions.remove(&context) {
            session.objects.functions.remove(id);
        }
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

/// Whether a function can be launched in a context: a kernel of a library in each.
pub(crate) fn is_in_context(function: CUfunction, context: u32) -> Result<bool, CUresult> {
    Ok(match function_of(function)?.owner {
        Owner::Library(_) => true,
        Owner::Module(id) => {
            let module = session::get()?.objects.modules.get(id);
            module.is_some_and(|module| module.context == context)
        }
    })
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

/// Loads an image that the program holds in memory into the current context.
///
/// # Safety
/// `image` is null or points to a complete image.
pub(crate) unsafe fn load_image(image: *const c_void) -> Result<CUmodule, CUresult> {
    // SAFETY: the caller's promise.
    unsafe { compile_image(image, &[]) }
}

/// The same with options of its compilation.
///
/// # Safety
/// As [`load_image`].
unsafe fn compile_image(
    image: *const c_void,
    options: &[LinkOption],
) -> Result<CUmodule, CUresult> {
    let (session, context) = session::current()?;
    let count = options.len() as u32;
    let module = session.objects.modules.insert_with(|id| Module {
        id,
        context: context.id,
        functions: Mutex::default(),
    });
    // SAFETY: the caller's promise.
    let loaded = unsafe {
        send_useful(
            session,
            context.device,
            context.id,
            image,
            options,
            |hash, length, transfer| {
                GpurunModuleLoad::new(module.id, hash, length, transfer, count)
            },
        )
    };
    match loaded {
        Ok(()) => Ok(CUmodule::dress(module.id)),
        Err(code) => {
            session.objects.modules.remove(module.id);
            Err(code)
        }
    }
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
            let options = options_of(num_options, options, option_values)?;
            compile_image(image, &options)
        })
    }
}

pub(crate) unsafe fn cuModuleUnload(module: CUmodule) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let module = module_of(module)?;
        // First, so that no other thread sends what it finds changed in variables that have gone, and none has what is placed there next taken away.
        session
            .objects
            .memory
            .forget_owner(Owner::Module(module.id));
        session.ask_in(
            module.context,
            &CuModuleUnload::new(ModuleId(module.id)),
            &[],
        )?;
        session.objects.modules.remove(module.id);
        forget_functions(session, Owner::Module(module.id));
        crate::texture::reference::forget_module(session, module.id);
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
    ask: impl FnOnce(u32, &[u8]) -> Result<Body, CUresult>,
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

/// The id of a module's function.
fn function_id(session: &Session, module: &Module, name: CString) -> Result<u32, CUresult> {
    let owner = Owner::Module(module.id);
    look_up(session, &module.functions, name, owner, |id, name| {
        let request = GpurunFunctionGet::new(ModuleId(module.id), id);
        Ok(session
            .ask_reply(module.context, &request, name, || Ok(()))?
            .body)
    })
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
        let id = function_id(session, &module, name)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUfunction::dress(id)) };
        Ok(())
    })())
}

/// A variable that was found, and the managed memory that holds it, as addresses and sizes; none if it is not managed.
struct Variable {
    context: u32,
    owner: Owner,
    found: (u64, u64),
    managed: (u64, u64),
}

impl Variable {
    fn is_managed(&self) -> bool {
        self.managed.1 > 0
    }
}

/// Writes address and size of a variable, and remembers it as device memory.
fn write_global(
    session: &Session,
    variable: &Variable,
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
) -> Result<(), CUresult> {
    let memory = &session.objects.memory;
    let (start, length) = variable.managed;
    if variable.is_managed() {
        let end = start.checked_add(length).ok_or(CUresult::INVALID_VALUE)?;
        let (context, owner) = (variable.context, variable.owner);
        memory.note_managed_variable(session, context, owner, &(start..end))?;
    }
    let (address, size) = variable.found;
    memory.note_global(
        address,
        size,
        variable.context,
        variable.owner,
        variable.is_managed(),
    );
    // SAFETY: not null, writable by the API's contract.
    unsafe {
        if !dptr.is_null() {
            dptr.write(address);
        }
        if !bytes.is_null() {
            bytes.write(size as usize);
        }
    }
    Ok(())
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
        let variable = Variable {
            context: module.context,
            owner: Owner::Module(module.id),
            found: (reply.address(), reply.size()),
            managed: (reply.managed(), reply.managed_size()),
        };
        write_global(session, &variable, dptr, bytes)
    })())
}

/// Writes the handle of a module's texture or surface reference.
///
/// # Safety
/// `name` is a C string, `place` is null or can be written.
unsafe fn write_reference<H: Handle>(
    place: *mut H,
    module: CUmodule,
    name: *const c_char,
    is_surface: bool,
) -> CUresult {
    code((|| {
        let place = out(place)?;
        let (session, _) = session::current()?;
        let module = module_of(module)?;
        // SAFETY: the caller's promise.
        let name = unsafe { owned_name(name) }?;
        let owner = (module.id, module.context);
        let id = crate::texture::reference::of_module(session, owner, name, is_surface)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(H::dress(id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuModuleGetTexRef(
    tex_ref: *mut CUtexref,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { write_reference(tex_ref, module, name, false) }
}

pub(crate) unsafe fn cuModuleGetSurfRef(
    surf_ref: *mut CUsurfref,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { write_reference(surf_ref, module, name, true) }
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
