//! Memory of graphs: nodes that allocate, and nodes that free.
//!
//! ```text
//! made with its node ──launch──▶ claimed: the program's, until it is freed ──▶ free: a launch may allocate it again
//!        └── ends with the last graph, launchable graph or claim that has it
//! ```
//!
//! The address is told when the node is made, so the memory is there from then on, as any other; a launch only says whose it is. It claims what it
//! allocates and does not free, in the order of the calls: launching again before it was freed is an error, unless the graph was made to free
//! on launch. It ends with its context, as all memory does. *Cost:* a launch of a graph that has none of it does nothing; the memory is taken for as long as
//! the graph is there, also between launches.
//!
//! # Safety
//! Structures are read, and answers written, where the program says, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "structures and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_void;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use driver_api::abi::{
    CUDA_MEM_ALLOC_NODE_PARAMS, CUdevice, CUdeviceptr, CUgraph, CUgraphMem_attribute, CUgraphNode,
    CUmemAccessDesc, CUresult,
};
use driver_api::copy_batch::elements;
use driver_api::graph_layout::AllocationParameters;
use driver_api::graph_memory::{Bytes, Claims, Launch};

use super::node::{add, given, operation};
use super::steps::Step;
use super::{Operation, answer};
use crate::context::Context;
use crate::entry::code;
use crate::log;
use crate::session::{self, Session};

/// An allocation by a node.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) address: u64,
    size: u64,
    device: usize,
    context: u32,
    /// With its context: the address may be another's by now.
    is_gone: AtomicBool,
}

/// What is known of graphs' memory.
#[derive(Debug, Default)]
pub(crate) struct GraphMemory {
    /// There was any.
    is_used: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By address.
    claims: Claims<Allocation>,
    there: BTreeMap<u64, Weak<Allocation>>,
    of_devices: BTreeMap<usize, Bytes>,
}

impl GraphMemory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, address: u64) -> bool {
        self.is_used.load(Relaxed) && self.lock().claims.knows(address)
    }

    /// Frees what a graph has allocated and the program has claimed; false if the address is of no graph.
    ///
    /// # Errors
    /// It is not the program's now.
    pub(crate) fn free(&self, address: u64) -> Result<bool, CUresult> {
        if !self.knows(address) {
            return Ok(false);
        }
        let claim = self.lock().claims.unclaim(address);
        // Outside the lock, which an end takes.
        claim.map(drop)?;
        Ok(true)
    }

    /// What a launch of an executable graph does with memory, if it does anything. `frees_first` allows what is claimed to be allocated again.
    ///
    /// # Errors
    /// The graph cannot be launched now.
    pub(super) fn launch_of(
        &self,
        operations: &[Operation],
        frees_first: bool,
    ) -> Result<Launch<Allocation>, CUresult> {
        let mut launch = Launch::default();
        for operation in operations {
            match operation {
                Operation::Allocate(allocation) => launch.allocates(allocation.address, allocation),
                Operation::Free(address) => launch.frees(*address),
                _ => {}
            }
        }
        if !launch.is_empty() {
            self.lock().claims.check(&launch, frees_first)?;
        }
        Ok(launch)
    }

    /// It was launched. What it freed is free once the answer is dropped: behind what was launched.
    pub(super) fn launched(&self, launch: Launch<Allocation>) -> Vec<Arc<Allocation>> {
        match launch.is_empty() {
            true => Vec::new(),
            false => self.lock().claims.launched(launch),
        }
    }

    /// A context has ended, and its memory with it.
    pub(crate) fn forget_context(&self, context: u32) {
        if !self.is_used.load(Relaxed) {
            return;
        }
        // Allocations end outside the lock, which an end takes.
        let all: Vec<_> = {
            let state = self.lock();
            state.there.values().filter_map(Weak::upgrade).collect()
        };
        let of_context = |allocation: &&Arc<Allocation>| allocation.context == context;
        let gone: BTreeMap<u64, &Arc<Allocation>> = all
            .iter()
            .filter(of_context)
            .map(|allocation| (allocation.address, allocation))
            .collect();
        let mut state = self.lock();
        for (address, allocation) in &gone {
            allocation.is_gone.store(true, Relaxed);
            state.there.remove(address);
            let bytes = state.of_devices.entry(allocation.device).or_default();
            bytes.take(allocation.size);
        }
        let claims = state.claims.forget(|address| gone.contains_key(address));
        drop(state);
        drop(claims);
    }
}

/// The operations of steps that are about memory.
pub(super) fn operations_of(steps: &[Step]) -> Vec<Operation> {
    let operations = steps.iter().map(|step| &step.operation);
    operations
        .filter(|operation| operation.is_of_memory())
        .cloned()
        .collect()
}

impl Allocation {
    fn new(session: &Session, context: &Context, size: u64) -> Result<Arc<Self>, CUresult> {
        let objects = &session.objects;
        let address = objects.memory.allocate(session, context, size)?;
        let device = context.device;
        let memory = &objects.graph_memory;
        let allocation = Arc::new(Self {
            address,
            size,
            device,
            context: context.id,
            is_gone: AtomicBool::new(false),
        });
        memory.is_used.store(true, Relaxed);
        let mut state = memory.lock();
        state.claims.add(address);
        state.there.insert(address, Arc::downgrade(&allocation));
        state.of_devices.entry(device).or_default().add(size);
        Ok(allocation)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let Ok(session) = session::get() else {
            return;
        };
        {
            let mut state = session.objects.graph_memory.lock();
            if self.is_gone.load(Relaxed) {
                return;
            }
            state.claims.remove(self.address);
            state.there.remove(&self.address);
            let bytes = state.of_devices.entry(self.device).or_default();
            bytes.take(self.size);
        }
        if let Err(error) = session.objects.memory.free(session, self.address) {
            log::debug!("memory of a graph went before it: {error}");
        }
    }
}

/// What allocates, and the address.
pub(crate) fn allocating(
    session: &Session,
    context: &Context,
    size: usize,
) -> Result<(Operation, u64), CUresult> {
    let allocation = Allocation::new(session, context, size as u64)?;
    let address = allocation.address;
    Ok((Operation::Allocate(allocation), address))
}

/// What frees a graph's allocation.
pub(crate) fn freeing(session: &Session, address: u64) -> Result<Operation, CUresult> {
    match session.objects.graph_memory.knows(address) {
        true => Ok(Operation::Free(address)),
        false => Err(CUresult::INVALID_VALUE),
    }
}

/// Makes what parameters describe, and tells the address in them.
///
/// # Safety
/// `place` is null or points to parameters.
pub(super) unsafe fn described(place: *mut AllocationParameters) -> Result<Operation, CUresult> {
    const PINNED: u32 = 1;
    // SAFETY: the caller's promise.
    let mut parameters: AllocationParameters = unsafe { given(place.cast_const()) }?;
    let (session, context) = session::current()?;
    if parameters.kind != PINNED || parameters.size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let [descriptions, count] = parameters.access;
    let access = match count {
        0 => Vec::new(),
        // SAFETY: the caller's promise: as many descriptions as it says.
        _ => unsafe { elements(descriptions as *const CUmemAccessDesc, count) }?,
    };
    if !parameters.is_only_for(context.device, &access) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let (operation, address) = allocating(session, &context, parameters.size)?;
    parameters.address = address;
    // SAFETY: the caller's promise, and not null, since it was read.
    unsafe { place.write_unaligned(parameters) };
    Ok(operation)
}

pub(crate) unsafe fn cuGraphAddMemAllocNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    node_params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |_| described(node_params.cast())) }
}

pub(crate) unsafe fn cuGraphAddMemFreeNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    dptr: CUdeviceptr,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            freeing(maker.session, dptr)
        })
    }
}

pub(crate) unsafe fn cuGraphMemAllocNodeGetParams(
    node: CUgraphNode,
    params_out: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Allocate(allocation) => Ok(AllocationParameters::of(
            allocation.device,
            allocation.size as usize,
            allocation.address,
        )),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for them.
    unsafe { answer(params_out.cast(), found) }
}

pub(crate) unsafe fn cuGraphMemFreeNodeGetParams(
    node: CUgraphNode,
    dptr_out: *mut CUdeviceptr,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Free(address) => Ok(address),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(dptr_out, found) }
}

/// What is done with a device's bytes.
fn with_bytes<T>(
    device: CUdevice,
    what: impl FnOnce(&mut Bytes) -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    let session = session::get()?;
    let device = usize::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
    if device >= session.devices.len() {
        return Err(CUresult::INVALID_DEVICE);
    }
    let mut state = session.objects.graph_memory.lock();
    what(state.of_devices.entry(device).or_default())
}

pub(crate) unsafe fn cuDeviceGetGraphMemAttribute(
    device: CUdevice,
    attr: CUgraphMem_attribute,
    value: *mut c_void,
) -> CUresult {
    let found = with_bytes(device, |bytes| bytes.attribute(attr));
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(value.cast::<u64>(), found) }
}

pub(crate) unsafe fn cuDeviceSetGraphMemAttribute(
    device: CUdevice,
    attr: CUgraphMem_attribute,
    value: *mut c_void,
) -> CUresult {
    code((|| {
        // SAFETY: the caller passes a number.
        let value: u64 = unsafe { given(value.cast_const()) }?;
        with_bytes(device, |bytes| bytes.set_attribute(attr, value))
    })())
}

pub(crate) unsafe fn cuDeviceGraphMemTrim(device: CUdevice) -> CUresult {
    // Nothing is kept that no graph has.
    code(with_bytes(device, |_| Ok(())))
}
