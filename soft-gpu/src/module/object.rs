//! What modules, functions, libraries and kernels are.
//!
//! # Safety
//!
//! Initial values of a module's variables are written to memory that was allocated for them, before anybody knows of it.

#![expect(unsafe_code, reason = "initial values are written to device memory")]

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use driver_api::abi::CUresult;
use driver_api::launch_state::LaunchState;

use crate::context::Context;
use crate::device::Limits;
use crate::exec::Program;
use crate::launch::cluster::Settings;
use crate::log::{warn, warn_once};
use crate::ptx;
use crate::state::{Driver, driver};
use crate::texture::{Reference, Slot, Variable};
use crate::threads::lock;

/// A module in a context.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) handle: usize,
    pub(crate) context: usize,
    pub(crate) ptx: Arc<ptx::Module>,
    /// Made for a library, and ended with it.
    pub(crate) of_library: bool,
    /// Address and size by name.
    globals: HashMap<String, (u64, u64)>,
    /// Variables of opaque types.
    opaques: HashMap<String, Variable>,
    functions: Mutex<HashMap<String, Weak<Function>>>,
}

impl Module {
    pub(crate) fn new(
        driver: &Driver,
        handle: usize,
        context: &Context,
        ptx: Arc<ptx::Module>,
    ) -> Result<Self, CUresult> {
        let mut opaques = HashMap::new();
        for opaque in ptx.opaques().iter().filter(|opaque| !opaque.is_extern) {
            let variable = Variable::new(driver, context, opaque)?;
            opaques.insert(opaque.name.clone(), variable);
        }
        let globals = place(driver, context, &ptx)?;
        let module = Self {
            handle,
            context: context.handle,
            ptx,
            of_library: false,
            globals,
            opaques,
            functions: Mutex::default(),
        };
        if driver.config.decodes_all {
            module.decode_all();
        }
        Ok(module)
    }

    /// Says which kernels cannot be executed, before anybody needs them.
    fn decode_all(&self) {
        let (good, bad): (Vec<_>, Vec<_>) = self
            .ptx
            .kernels()
            .map(|name| self.decode(name))
            .partition(Result::is_ok);
        warn(&format!(
            "a module of {} kernels, of which {} cannot be executed",
            good.len() + bad.len(),
            bad.len()
        ));
    }

    /// What a kernel executes.
    fn decode(&self, name: &str) -> Result<Arc<Program>, CUresult> {
        let address = |name: &str| self.global(name).map(|(address, _)| address);
        Program::decode(&self.ptx, name, &address)
            .map(Arc::new)
            .map_err(|error| {
                warn(&format!("cannot execute: {error}"));
                CUresult::NOT_SUPPORTED
            })
    }

    pub(crate) fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }

    /// The texture or surface reference called `name`.
    pub(crate) fn reference(&self, name: &str, is_surface: bool) -> Option<&Arc<Reference>> {
        match self.opaques.get(name)? {
            Variable::Reference(reference) if reference.is_surface == is_surface => Some(reference),
            _ => None,
        }
    }

    /// What the opaque variables that a program uses are bound to now.
    pub(crate) fn bound(
        &self,
        driver: &Driver,
        context: &Context,
        program: &Program,
    ) -> Result<Vec<Option<Arc<Slot>>>, CUresult> {
        let slot = |name: &String| match self.opaques.get(name) {
            Some(variable) => variable.slot(driver, context),
            None => Ok(None),
        };
        program.references().iter().map(slot).collect()
    }

    pub(crate) fn global_addresses(&self) -> impl Iterator<Item = u64> {
        self.globals.values().map(|(address, _)| *address)
    }
}

/// Allocates and initialises a module's variables.
fn place(
    driver: &Driver,
    context: &Context,
    ptx: &ptx::Module,
) -> Result<HashMap<String, (u64, u64)>, CUresult> {
    let mut placed = HashMap::new();
    let result = allocate(driver, context, ptx, &mut placed);
    if result.is_ok() {
        for global in ptx.globals() {
            if let Some((address, _)) = placed.get(&global.name) {
                initialise(ptx, global, *address, &placed);
            }
        }
        return Ok(placed);
    }
    for (address, _) in placed.values() {
        driver.memory.free(driver, *address);
    }
    result.map(|()| placed)
}

fn allocate(
    driver: &Driver,
    context: &Context,
    ptx: &ptx::Module,
    placed: &mut HashMap<String, (u64, u64)>,
) -> Result<(), CUresult> {
    for global in ptx.globals().filter(|global| global.size > 0) {
        if global.is_extern {
            warn_once(&format!(
                "the module's variable `{}` is defined nowhere",
                global.name
            ));
            continue;
        }
        let address = match global.is_managed {
            true => driver
                .memory
                .allocate_managed(driver, context, global.size)?,
            false => driver.memory.allocate(driver, context, global.size)?,
        };
        placed.insert(global.name.clone(), (address, global.size));
    }
    Ok(())
}

fn initialise(
    ptx: &ptx::Module,
    global: &ptx::Global,
    address: u64,
    placed: &HashMap<String, (u64, u64)>,
) {
    let size = global.size as usize;
    let mut bytes = global.init.clone();
    bytes.resize(size, 0);
    for relocation in &global.relocations {
        let symbol = &relocation.symbol;
        let variable = placed.get(symbol).map(|(target, _)| *target);
        let Some(target) = variable.or_else(|| ptx.function_address(symbol)) else {
            let name = &global.name;
            warn_once(&format!(
                "variable `{name}` refers to `{symbol}`, which has no address"
            ));
            continue;
        };
        let value = target.wrapping_add_signed(relocation.addend).to_le_bytes();
        let (offset, width) = (relocation.offset as usize, relocation.size.min(8) as usize);
        if let Some(place) = bytes.get_mut(offset..offset + width) {
            place.copy_from_slice(&value[..width]);
        }
    }
    // SAFETY: the allocation was made with this size, and nobody has its address yet.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, size) };
}

impl Module {
    /// A function of the module, the same for the same name.
    pub(crate) fn function(self: &Arc<Self>, name: &str) -> Result<Arc<Function>, CUresult> {
        let driver = driver()?;
        self.ptx.kernel(name).ok_or(CUresult::NOT_FOUND)?;
        let mut functions = lock(&self.functions);
        if let Some(known) = functions.get(name).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let handle = driver.functions.reserve();
        let function = Arc::new(Function {
            handle,
            name: name.to_owned(),
            c_name: CString::new(name).map_err(|_| CUresult::NOT_FOUND)?,
            module: Arc::clone(self),
            program: OnceLock::new(),
            launch_state: Mutex::default(),
            clusters: Mutex::default(),
            dynamic_shared: AtomicU32::new(Limits::of(driver.config.capability).shared_per_block),
        });
        driver.functions.insert(handle, Arc::clone(&function));
        functions.insert(name.to_owned(), Arc::downgrade(&function));
        Ok(function)
    }
}

/// A kernel in a context.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) handle: usize,
    pub(crate) name: String,
    pub(crate) c_name: CString,
    pub(crate) module: Arc<Module>,
    program: OnceLock<Result<Arc<Program>, CUresult>>,
    /// Static and dynamic shared memory together that a launch may have.
    dynamic_shared: AtomicU32,
    /// What the launch interface before `cuLaunchKernel` was told.
    pub(crate) launch_state: Mutex<LaunchState>,
    /// What was set of its clusters.
    pub(crate) clusters: Mutex<Settings>,
}

impl Function {
    /// What is executed; decoded when first asked for.
    pub(crate) fn program(&self) -> Result<Arc<Program>, CUresult> {
        let decode = || self.module.decode(&self.name);
        self.program.get_or_init(decode).clone()
    }

    pub(crate) fn is_decoded(&self) -> bool {
        self.program.get().is_some()
    }

    /// Its declaration.
    pub(crate) fn entry(&self) -> Result<&ptx::Entry, CUresult> {
        self.module
            .ptx
            .kernel(&self.name)
            .ok_or(CUresult::NOT_FOUND)
    }

    /// The most dynamic shared memory that a launch may ask for.
    pub(crate) fn max_dynamic_shared(&self) -> Result<u32, CUresult> {
        let own = self.program()?.attributes().shared_bytes;
        Ok(self
            .dynamic_shared
            .load(Ordering::Relaxed)
            .saturating_sub(own))
    }

    /// Allows launches with that much.
    pub(crate) fn set_max_dynamic_shared(&self, bytes: u32) -> Result<(), CUresult> {
        let own = self.program()?.attributes().shared_bytes;
        let most = Limits::of(driver()?.config.capability).shared_per_block_opt_in;
        let sum = own.checked_add(bytes).filter(|&sum| sum <= most);
        let sum = sum.ok_or(CUresult::INVALID_VALUE)?;
        self.dynamic_shared.store(sum, Ordering::Relaxed);
        Ok(())
    }
}

/// Code that belongs to no context.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) handle: usize,
    pub(crate) ptx: Arc<ptx::Module>,
    /// By context.
    modules: Mutex<HashMap<usize, Arc<Module>>>,
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
}

impl Library {
    pub(crate) fn new(handle: usize, ptx: Arc<ptx::Module>) -> Self {
        Self {
            handle,
            ptx,
            modules: Mutex::default(),
            kernels: Mutex::default(),
        }
    }

    /// The library's module in a context, made when first asked for.
    pub(crate) fn module(&self, context: &Context) -> Result<Arc<Module>, CUresult> {
        let driver = driver()?;
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(&context.handle) {
            return Ok(Arc::clone(module));
        }
        let handle = driver.modules.reserve();
        let mut module = Module::new(driver, handle, context, Arc::clone(&self.ptx))?;
        module.of_library = true;
        let module = Arc::new(module);
        driver.modules.insert(handle, Arc::clone(&module));
        modules.insert(context.handle, Arc::clone(&module));
        Ok(module)
    }

    /// A kernel, the same for the same name.
    pub(crate) fn kernel(self: &Arc<Self>, name: &str) -> Result<Arc<Kernel>, CUresult> {
        let driver = driver()?;
        self.ptx.kernel(name).ok_or(CUresult::NOT_FOUND)?;
        let mut kernels = lock(&self.kernels);
        if let Some(kernel) = kernels.get(name) {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(Kernel {
            handle: driver.kernels.reserve(),
            library: Arc::downgrade(self),
            name: name.to_owned(),
            c_name: CString::new(name).map_err(|_| CUresult::NOT_FOUND)?,
        });
        driver.kernels.insert(kernel.handle, Arc::clone(&kernel));
        kernels.insert(name.to_owned(), Arc::clone(&kernel));
        Ok(kernel)
    }

    /// Its modules in all contexts, which end with it.
    pub(crate) fn take_modules(&self) -> Vec<Arc<Module>> {
        let mut modules = lock(&self.modules);
        std::mem::take(&mut *modules).into_values().collect()
    }

    /// A context has ended.
    pub(crate) fn forget(&self, context: usize) {
        lock(&self.modules).remove(&context);
    }
}

/// A kernel of a library.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) handle: usize,
    pub(crate) library: Weak<Library>,
    pub(crate) name: String,
    pub(crate) c_name: CString,
}

impl Kernel {
    pub(crate) fn library(&self) -> Result<Arc<Library>, CUresult> {
        self.library.upgrade().ok_or(CUresult::INVALID_HANDLE)
    }

    /// The kernel in a context.
    pub(crate) fn function(&self, context: &Context) -> Result<Arc<Function>, CUresult> {
        self.library()?.module(context)?.function(&self.name)
    }
}
