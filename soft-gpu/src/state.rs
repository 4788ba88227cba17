//! The driver's one value: everything that `cuInit` makes.
//!
//! ```text
//! not initialised ──cuInit──▶ initialised ──fork──▶ (in the child) not initialised, for ever
//! ```
//!
//! # Safety
//!
//! The only unsafe act is to register a function with `pthread_atfork`; it stores to an atomic and does nothing else.

#![expect(unsafe_code, reason = "registering the fork handler")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use driver_api::abi::CUresult;

use crate::array::{Array, Mipmapped};
use crate::config::Config;
use crate::context::{Context, Primary};
use crate::event::Event;
use crate::exec::Pool;
use crate::graph::{Exec, Graph, GraphMemory, NodeEntry, UserObject};
use crate::green::Greens;
use crate::handles::{Kind, Registry};
use crate::ipc::Ipc;
use crate::linker::Link;
use crate::log::warn;
use crate::memory::Memory;
use crate::module::{Function, Kernel, Library, Module};
use crate::pool::Pools;
use crate::shared::Segment;
use crate::stream::Stream;
use crate::threads::{lock, with_signals_blocked};
use crate::virtual_memory::Physical;

/// The driver, once initialised.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) config: Config,
    pub(crate) segment: Segment,
    pub(crate) suspended: Mutex<crate::checkpoint::Suspended>,
    pub(crate) pool: Pool,
    pub(crate) ipc: Ipc,
    pub(crate) memory: Memory,
    pub(crate) primaries: Vec<Mutex<Primary>>,
    pub(crate) contexts: Registry<Context>,
    pub(crate) greens: Greens,
    pub(crate) streams: Registry<Stream>,
    pub(crate) events: Registry<Event>,
    pub(crate) modules: Registry<Module>,
    pub(crate) functions: Registry<Function>,
    pub(crate) libraries: Registry<Library>,
    pub(crate) kernels: Registry<Kernel>,
    pub(crate) physical: Registry<Physical>,
    pub(crate) multicasts: Registry<crate::virtual_memory::Object>,
    pub(crate) links: Registry<Link>,
    pub(crate) pools: Pools,
    pub(crate) graphs: Registry<Graph>,
    pub(crate) graph_nodes: Registry<NodeEntry>,
    pub(crate) graph_memory: GraphMemory,
    pub(crate) graph_execs: Registry<Exec>,
    pub(crate) user_objects: Registry<UserObject>,
    pub(crate) arrays: Registry<Array>,
    pub(crate) mipmapped_arrays: Registry<Mipmapped>,
    pub(crate) textures: crate::texture::Objects,
    pub(crate) references: Registry<crate::texture::Reference>,
}

static DRIVER: OnceLock<Driver> = OnceLock::new();
/// Held by who initialises.
static INITIALISING: Mutex<()> = Mutex::new(());
/// Set in the child of a process that had initialised: its threads, and so its device, are gone.
static FORKED: AtomicBool = AtomicBool::new(false);

/// The driver, if it is initialised in this very process.
pub(crate) fn driver() -> Result<&'static Driver, CUresult> {
    match DRIVER.get() {
        Some(driver) if !FORKED.load(Ordering::Relaxed) => Ok(driver),
        _ => Err(CUresult::NOT_INITIALIZED),
    }
}

/// Makes the driver, the first time.
pub(crate) fn initialise() -> Result<(), CUresult> {
    if FORKED.load(Ordering::Relaxed) {
        return Err(CUresult::NOT_INITIALIZED);
    }
    if DRIVER.get().is_some() {
        return Ok(());
    }
    let _initialising = lock(&INITIALISING);
    if DRIVER.get().is_none() {
        let driver = Driver::new()?;
        // SAFETY: the handler only stores to an atomic, which is safe in a child with one thread.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        let _ = DRIVER.set(driver);
    }
    Ok(())
}

extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
    crate::checkpoint::DOOR.forget();
}

/// Does something unless the driver is initialised, which it is not meanwhile.
pub(crate) fn while_uninitialised<T>(body: impl FnOnce() -> T) -> Option<T> {
    let _initialising = lock(&INITIALISING);
    driver().is_err().then(body)
}

impl Driver {
    fn new() -> Result<Self, CUresult> {
        let config = Config::from_environment();
        if config.visible.is_empty() {
            return Err(CUresult::NO_DEVICE);
        }
        let segment = Segment::attach(&config.segment, config.memory_bytes).map_err(|error| {
            warn(&error.to_string());
            CUresult::OPERATING_SYSTEM
        })?;
        let segment = segment.showing(&config.visible);
        crate::checkpoint::DOOR.prepare();
        crate::checkpoint::service::listen(&segment);
        let contexts = Registry::new(Kind::Context);
        let primaries = (0..config.devices())
            .map(|_| Mutex::new(Primary::new(contexts.reserve())))
            .collect();
        Ok(Self {
            segment,
            suspended: Mutex::default(),
            pool: with_signals_blocked(|| Pool::new(config.threads)),
            ipc: Ipc::default(),
            memory: Memory::new(config.devices())?,
            primaries,
            contexts,
            greens: Greens::new(),
            streams: Registry::new(Kind::Stream),
            events: Registry::new(Kind::Event),
            modules: Registry::new(Kind::Module),
            functions: Registry::new(Kind::Function),
            libraries: Registry::new(Kind::Library),
            kernels: Registry::new(Kind::Kernel),
            physical: Registry::new(Kind::Memory),
            multicasts: Registry::new(Kind::Multicast),
            links: Registry::new(Kind::Link),
            pools: Pools::new(config.devices()),
            graphs: Registry::new(Kind::Graph),
            graph_nodes: Registry::new(Kind::GraphNode),
            graph_memory: GraphMemory::new(config.devices()),
            graph_execs: Registry::new(Kind::GraphExec),
            user_objects: Registry::new(Kind::UserObject),
            arrays: Registry::new(Kind::Array),
            mipmapped_arrays: Registry::new(Kind::MipmappedArray),
            textures: crate::texture::Objects::default(),
            references: Registry::new(Kind::Reference),
            config,
        })
    }

    /// The index of a device.
    pub(crate) fn device(&self, device: i32) -> Result<usize, CUresult> {
        usize::try_from(device)
            .ok()
            .filter(|&index| index < self.config.devices())
            .ok_or(CUresult::INVALID_DEVICE)
    }
}
