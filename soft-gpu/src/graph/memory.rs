//! Memory of graphs: nodes that allocate, and nodes that free.
//!
//! ```text
//! made with its node ──launch──▶ claimed: the program's, until it is freed ──▶ free: a launch may allocate it again
//!        └── ends with the last graph, launchable graph or claim that has it: a pool holds it then
//! ```
//!
//! The address is told when the node is made, and whatever is done with it is checked before a launch; so the memory is there from then on, and
//! what allocates it only says whose it is. A launch claims what it allocates and does not free, in the order of the calls, as the driver
//! does: launching again before it was freed is an error, unless the graph was made to free on launch.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

use core::ffi::c_void;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use driver_api::abi::{
    CUDA_MEM_ALLOC_NODE_PARAMS, CUdevice, CUdeviceptr, CUgraph, CUgraphMem_attribute, CUgraphNode,
    CUgraphNodeParams, CUmemAccessDesc, CUresult,
};

use super::node::{add, given, tell};
use super::object::Step;
use crate::context::{Context, current};
use crate::entry::{answer, done};
use crate::state::{Driver, driver};
use crate::stream::Operation;
use crate::threads::lock;
use driver_api::copy_batch::elements;
use driver_api::graph_layout::{AllocationParameters, AnyParameters};
use driver_api::graph_memory::{Bytes, Claims, Launch};

/// `CU_GRAPH_NODE_TYPE_MEM_ALLOC`
const ALLOCATES: u32 = 10;

/// An allocation by a node.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) address: u64,
    size: u64,
    /// The region's.
    id: u64,
    device: usize,
}

/// What an allocation is counted as, as long as its context is there.
#[derive(Debug)]
struct Counted {
    context: usize,
    device: usize,
    size: u64,
}

/// What is known of graphs' memory.
#[derive(Debug)]
pub(crate) struct GraphMemory {
    /// By the names of their regions.
    claims: Mutex<Claims<Allocation>>,
    counted: Mutex<HashMap<u64, Counted>>,
    of_devices: Vec<Mutex<Bytes>>,
}

impl GraphMemory {
    pub(crate) fn new(devices: usize) -> Self {
        Self {
            claims: Mutex::default(),
            counted: Mutex::default(),
            of_devices: (0..devices).map(|_| Mutex::default()).collect(),
        }
    }

    /// An allocation is there no more.
    fn discount(&self, id: u64) {
        if let Some(Counted { device, size, .. }) = lock(&self.counted).remove(&id) {
            lock(&self.of_devices[device]).take(size);
        }
    }

    /// A context has ended, and its memory with it.
    pub(crate) fn context_destroyed(&self, context: usize) {
        let gone: Vec<u64> = lock(&self.counted)
            .iter()
            .filter(|(_, counted)| counted.context == context)
            .map(|(id, _)| *id)
            .collect();
        gone.iter().for_each(|id| self.discount(*id));
        let claims = lock(&self.claims).forget(|id| gone.contains(id));
        // Outside the lock, which an end takes.
        drop(claims);
    }

    /// Whether a region is of a graph.
    pub(crate) fn knows(&self, id: u64) -> bool {
        lock(&self.claims).knows(id)
    }

    /// Takes the program's claim, which ends when it is dropped: the program frees what a graph has allocated.
    pub(crate) fn unclaim(&self, id: u64) -> Result<Arc<Allocation>, CUresult> {
        lock(&self.claims).unclaim(id)
    }

    /// Before a launch: claims what it allocates and leaves, and takes the claims that end behind it. `frees_first` allows what is claimed to
    /// be allocated again.
    pub(super) fn launch(
        &self,
        steps: &[Step],
        frees_first: bool,
    ) -> Result<Vec<Arc<Allocation>>, CUresult> {
        let mut launch = Launch::default();
        for step in steps {
            match &step.operation {
                Operation::Allocate(allocation) => launch.allocates(allocation.id, allocation),
                Operation::Free(_, id) => launch.frees(*id),
                _ => {}
            }
        }
        if launch.is_empty() {
            return Ok(Vec::new());
        }
        let mut claims = lock(&self.claims);
        claims.check(&launch, frees_first)?;
        Ok(claims.launched(launch))
    }
}

impl Allocation {
    fn new(context: &Context, size: u64) -> Result<Arc<Self>, CUresult> {
        let driver = driver()?;
        let address = driver.memory.allocate(driver, context, size)?;
        let (id, device) = (driver.memory.plain_at(address)?, context.device);
        let counted = Counted {
            context: context.handle,
            device,
            size,
        };
        lock(&driver.graph_memory.claims).add(id);
        lock(&driver.graph_memory.counted).insert(id, counted);
        lock(&driver.graph_memory.of_devices[device]).add(size);
        Ok(Arc::new(Self {
            address,
            size,
            id,
            device,
        }))
    }

    /// A launch has come to it.
    pub(crate) fn perform(&self) -> Result<(), CUresult> {
        let driver = driver()?;
        driver.memory.spoil(driver, self.address, self.id);
        Ok(())
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Ok(driver) = driver() {
            lock(&driver.graph_memory.claims).remove(self.id);
            driver.graph_memory.discount(self.id);
            // Something that runs may touch it still.
            crate::pool::hold(driver, self.device, (self.address, self.id));
        }
    }
}

/// What allocates `size` bytes of the context's device.
pub(crate) fn allocating(context: &Context, size: u64) -> Result<(Operation, u64), CUresult> {
    let allocation = Allocation::new(context, size)?;
    let address = allocation.address;
    Ok((Operation::Allocate(allocation), address))
}

/// What frees a graph's allocation.
pub(crate) fn freeing(address: u64) -> Result<Operation, CUresult> {
    let driver = driver()?;
    let id = driver.memory.plain_at(address)?;
    if driver.graph_memory.knows(id) {
        Ok(Operation::Free(address, id))
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

/// Makes what parameters describe, and tells the address in them.
///
/// # Safety
///
/// `place` is null or points to parameters.
unsafe fn described(place: *mut AllocationParameters) -> Result<Operation, CUresult> {
    const PINNED: u32 = 1;
    // SAFETY: by contract.
    let mut parameters: AllocationParameters = unsafe { given(place) }?;
    let context = current()?;
    if parameters.kind != PINNED || parameters.size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let [descriptions, count] = parameters.access;
    let access = match count {
        0 => Vec::new(),
        // SAFETY: by contract: as many descriptions as it says.
        _ => unsafe { elements(descriptions as *const CUmemAccessDesc, count) }?,
    };
    if !parameters.is_only_for(context.device, &access) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let (operation, address) = allocating(&context, parameters.size as u64)?;
    parameters.address = address;
    // SAFETY: by contract, and not null, since it was read.
    unsafe { place.write_unaligned(parameters) };
    Ok(operation)
}

/// Of parameters of any kind, those of a node that allocates or frees.
///
/// # Safety
///
/// `parameters` points to the description of a node.
pub(super) unsafe fn any(
    kind: u32,
    parameters: *mut CUgraphNodeParams,
) -> Result<Operation, CUresult> {
    let of_kind = AnyParameters::place_of_kind(parameters).cast_mut();
    // SAFETY: by contract.
    unsafe {
        if kind == ALLOCATES {
            described(of_kind.cast())
        } else {
            freeing(of_kind.cast::<u64>().read_unaligned())
        }
    }
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
    unsafe { add(graph_node, graph, before, || described(node_params.cast())) }
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
    unsafe { add(graph_node, graph, before, || freeing(dptr)) }
}

pub(crate) unsafe fn cuGraphMemAllocNodeGetParams(
    node: CUgraphNode,
    params_out: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes a place for them.
    unsafe {
        tell(node, params_out.cast(), |operation| match operation {
            Operation::Allocate(allocation) => Some(AllocationParameters::of(
                allocation.device,
                allocation.size as usize,
                allocation.address,
            )),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphMemFreeNodeGetParams(
    node: CUgraphNode,
    dptr_out: *mut CUdeviceptr,
) -> CUresult {
    // SAFETY: the caller passes a place for an address.
    unsafe {
        tell(node, dptr_out, |operation| match operation {
            Operation::Free(address, _) => Some(*address),
            _ => None,
        })
    }
}

/// A device's bytes.
fn bytes_of(driver: &Driver, device: CUdevice) -> Result<&Mutex<Bytes>, CUresult> {
    Ok(&driver.graph_memory.of_devices[driver.device(device)?])
}

pub(crate) unsafe fn cuDeviceGetGraphMemAttribute(
    device: CUdevice,
    attr: CUgraphMem_attribute,
    value: *mut c_void,
) -> CUresult {
    let found = || {
        let driver = driver()?;
        lock(bytes_of(driver, device)?).attribute(attr)
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(value.cast::<u64>(), found()) }
}

pub(crate) unsafe fn cuDeviceSetGraphMemAttribute(
    device: CUdevice,
    attr: CUgraphMem_attribute,
    value: *mut c_void,
) -> CUresult {
    let set = || {
        // SAFETY: the caller passes a number.
        let value: u64 = unsafe { given(value) }?;
        let driver = driver()?;
        lock(bytes_of(driver, device)?).set_attribute(attr, value)
    };
    done(set())
}

pub(crate) unsafe fn cuDeviceGraphMemTrim(device: CUdevice) -> CUresult {
    done(driver().and_then(|driver| {
        driver.device(device)?;
        crate::pool::synchronised(driver);
        Ok(())
    }))
}
