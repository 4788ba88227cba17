//! Nodes: making them, and what can be asked of them and changed.
//!
//! # Safety
//! Structures and arrays are read, and out parameters written, where the program says, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "structures and arrays of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::sync::Arc;

use driver_api::abi::{
    CUDA_BATCH_MEM_OP_NODE_PARAMS, CUDA_HOST_NODE_PARAMS_v1, CUDA_KERNEL_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS_v1, CUcontext, CUevent,
    CUgraph, CUgraphEdgeData, CUgraphNode, CUgraphNodeParams, CUgraphNodeType, CUkernelNodeAttrID,
    CUkernelNodeAttrValue, CUresult,
};

use super::memory::{
    cuGraphMemAllocNodeGetParams, cuGraphMemFreeNodeGetParams, described, freeing,
};
use super::{MemoryCall, Operation, answer, check_edges, conditional, find, handles_at, node_of};
use crate::context;
use crate::entry::code;
use crate::event;
use crate::handles::Handle;
use crate::launch::{HostCall, Kernel, Shape, VALUE_BYTES};
use crate::log;
use crate::memory::{BoxCopy, Fill};
use crate::module;
use crate::session::{self, Session};
use crate::stream;
use driver_api::graph_layout::{
    AnyParameters, CopyParameters, FillParameters, HostParameters, KernelParameters,
    KernelParametersInContext, MemoryParameters, condition,
};

/// Reads a structure of the caller's.
///
/// # Safety
/// `pointer` is null or points to a `T`.
pub(super) unsafe fn given<T: core::marker::Copy, P>(pointer: *const P) -> Result<T, CUresult> {
    if pointer.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise, and not null.
    Ok(unsafe { pointer.cast::<T>().read_unaligned() })
}

/// The session and its device that a node is made for: every call that makes one needs a context.
pub(super) struct Maker {
    pub(super) session: &'static Session,
    pub(super) context: u32,
    device: usize,
}

impl Maker {
    pub(super) fn new() -> Result<Self, CUresult> {
        let (session, context) = session::current()?;
        Ok(Self {
            session,
            context: context.id,
            device: context.device,
        })
    }

    /// The node is made for the context that is named, if one is, instead of the current one.
    pub(super) fn enter(&mut self, named: CUcontext) -> Result<(), CUresult> {
        if named.0 != 0 {
            let context = context::of(named)?;
            (self.context, self.device) = (context.id, context.device);
        }
        Ok(())
    }

    /// What is given for a context, which is entered. A function may be named as a kernel.
    pub(super) fn in_context(
        &mut self,
        parameters: KernelParametersInContext,
    ) -> Result<KernelParameters, CUresult> {
        self.enter(parameters.context)?;
        let mut plain = parameters.plain;
        if plain.function.0 == 0 {
            plain.function = parameters.kernel;
        }
        Ok(plain)
    }

    /// # Safety
    /// As for `cuLaunchKernel`, for the parameters.
    pub(super) unsafe fn kernel(
        &self,
        parameters: KernelParameters,
    ) -> Result<Operation, CUresult> {
        // SAFETY: the caller's promise.
        unsafe { self.kernel_like(parameters, None) }
    }

    /// A kernel, with the attributes of another.
    ///
    /// # Safety
    /// As [`Self::kernel`].
    unsafe fn kernel_like(
        &self,
        parameters: KernelParameters,
        before: Option<&Kernel>,
    ) -> Result<Operation, CUresult> {
        let mut shape = Shape::new(parameters.grid, parameters.block, parameters.shared_bytes);
        if let Some(before) = before {
            shape = shape.with_attributes_of(&before.shape);
        }
        let KernelParameters {
            function,
            kernel_params,
            extra,
            ..
        } = parameters;
        let device = &self.session.devices[self.device];
        // SAFETY: the caller's promise.
        let kernel = unsafe { Kernel::new(device, shape, function, kernel_params, extra) }?;
        Ok(Operation::Kernel(Arc::new(kernel)))
    }

    /// A kernel instead of another, whose attributes it keeps.
    ///
    /// # Safety
    /// As [`Self::kernel`].
    pub(super) unsafe fn kernel_instead(
        &self,
        parameters: KernelParameters,
        before: &Operation,
    ) -> Result<Operation, CUresult> {
        let Operation::Kernel(kernel) = before else {
            return Err(CUresult::INVALID_VALUE);
        };
        // SAFETY: the caller's promise.
        unsafe { self.kernel_like(parameters, Some(kernel)) }
    }

    pub(super) fn fill(&self, parameters: FillParameters) -> Result<Operation, CUresult> {
        let fill = Fill {
            destination: parameters.destination,
            pitch: parameters.pitch,
            value: parameters.value,
            element_bytes: parameters.element_size,
            width: parameters.width,
            height: parameters.height,
        };
        fill.check(self.session)?;
        Ok(Operation::Fill(fill))
    }

    /// # Safety
    /// `copy` is null or points to a description of a copy.
    pub(super) unsafe fn copy(&self, copy: *const CUDA_MEMCPY3D) -> Result<Operation, CUresult> {
        // SAFETY: the caller's promise.
        let description = unsafe { given(copy) }?;
        let copy = BoxCopy::new(self.session, description)?;
        Ok(Operation::Copy(copy.of_graph()?))
    }

    /// # Safety
    /// `parameters` is null or points to parameters, whose array has as many elements as they say.
    pub(super) unsafe fn memory(
        &mut self,
        parameters: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> Result<Operation, CUresult> {
        // SAFETY: the caller's promise.
        let operations = unsafe {
            let parameters: MemoryParameters = given(parameters)?;
            self.enter(parameters.context)?;
            stream::operations_at(parameters.count, parameters.operations, parameters.flags)
        }?;
        stream::check_all(self.session, self.device, &operations)?;
        Ok(Operation::Memory(Arc::new(MemoryCall::new(&operations))))
    }

    /// What is described instead of something of the same kind.
    ///
    /// # Safety
    /// As [`Self::any`].
    pub(super) unsafe fn any_instead(
        &mut self,
        parameters: *const CUgraphNodeParams,
        before: &Operation,
    ) -> Result<Operation, CUresult> {
        if before.is_of_memory() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        // SAFETY: the caller's promise: the kind comes first.
        let kind: c_uint = unsafe { given(parameters) }?;
        // Another one's would be made here, and its answer written.
        if kind != before.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller's promise; of this kind, it is only read.
        match (unsafe { self.any(parameters.cast_mut()) }?, before) {
            (Operation::Kernel(kernel), Operation::Kernel(before)) => {
                let shape = kernel.shape.with_attributes_of(&before.shape);
                Ok(Operation::Kernel(Arc::new(kernel.with_shape(shape))))
            }
            (other, _) => Ok(other),
        }
    }

    /// What is described, to be added to `graph`: only then it may have a condition.
    ///
    /// # Safety
    /// As [`Self::any`].
    unsafe fn new_in(
        &mut self,
        graph: CUgraph,
        parameters: *mut CUgraphNodeParams,
    ) -> Result<Operation, CUresult> {
        // SAFETY: the caller's promise: the kind comes first.
        unsafe {
            match given::<c_uint, _>(parameters.cast_const())? {
                condition::NODE => conditional::described(self, graph, parameters),
                _ => self.any(parameters),
            }
        }
    }

    /// # Safety
    /// `parameters` is null or points to the description of a node, which takes an answer.
    pub(super) unsafe fn any(
        &mut self,
        parameters: *mut CUgraphNodeParams,
    ) -> Result<Operation, CUresult> {
        if parameters.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let of_kind = AnyParameters::place_of_kind(parameters).cast_mut();
        // SAFETY: the caller's promise, and not null.
        unsafe {
            let kind = parameters.cast::<c_uint>().read_unaligned();
            let handle = || of_kind.cast::<usize>().read_unaligned();
            match kind {
                0 => {
                    let given = of_kind.cast::<KernelParametersInContext>().read_unaligned();
                    let plain = self.in_context(given)?;
                    self.kernel(plain)
                }
                1 => {
                    let place = core::mem::offset_of!(CopyParameters, context);
                    self.enter(of_kind.add(place).cast::<CUcontext>().read_unaligned())?;
                    let place = core::mem::offset_of!(CopyParameters, copy);
                    self.copy(of_kind.add(place).cast())
                }
                2 => self.fill(of_kind.cast::<FillParameters>().read_unaligned()),
                3 => host(of_kind.cast::<HostParameters>().read_unaligned()),
                4 => child(CUgraph(handle())),
                5 => Ok(Operation::Empty),
                6 => wait(CUevent(handle())),
                7 => record(CUevent(handle())),
                10 => described(of_kind.cast()),
                11 => freeing(self.session, of_kind.cast::<u64>().read_unaligned()),
                12 => self.memory(of_kind.cast_const().cast()),
                // Its parameters cannot be changed.
                condition::NODE => Err(CUresult::NOT_SUPPORTED),
                _ => Err(refuse(kind)),
            }
        }
    }
}

/// Nodes for external semaphores.
fn refuse(kind: c_uint) -> CUresult {
    if kind > condition::NODE {
        return CUresult::INVALID_VALUE;
    }
    log::warn_once(
        "nodes of graphs",
        format_args!("a graph's node of type {kind} is not supported"),
    );
    CUresult::NOT_SUPPORTED
}

pub(super) fn host(parameters: HostParameters) -> Result<Operation, CUresult> {
    HostCall::new(parameters.function, parameters.user_data).map(Operation::Host)
}

pub(super) fn child(graph: CUgraph) -> Result<Operation, CUresult> {
    find(graph).map(Operation::Child)
}

pub(super) fn record(event: CUevent) -> Result<Operation, CUresult> {
    event::of(event).map(Operation::Record)
}

pub(super) fn wait(event: CUevent) -> Result<Operation, CUresult> {
    event::of(event).map(Operation::Wait)
}

/// Adds what `make` makes.
///
/// # Safety
/// `node` is null or a place for a handle; `dependencies` has `count` handles.
pub(super) unsafe fn add(
    node: *mut CUgraphNode,
    graph: CUgraph,
    (dependencies, count): (*const CUgraphNode, usize),
    make: impl FnOnce(&mut Maker) -> Result<Operation, CUresult>,
) -> CUresult {
    if node.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let added = || {
        let graph = find(graph)?;
        // SAFETY: the caller's promise.
        let dependencies = unsafe { handles_at(dependencies, count) }?;
        let mut maker = Maker::new()?;
        let operation = make(&mut maker)?;
        graph.add(maker.session, maker.context, &operation, &dependencies)
    };
    // SAFETY: the caller's promise.
    unsafe { answer(node, added()) }
}

pub(crate) unsafe fn cuGraphAddKernelNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            maker.kernel(given(node_params)?)
        })
    }
}

pub(crate) unsafe fn cuGraphAddKernelNode_v2(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    node_params: *const CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            let parameters = maker.in_context(given(node_params)?)?;
            maker.kernel(parameters)
        })
    }
}

pub(crate) unsafe fn cuGraphAddMemcpyNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    copy_params: *const CUDA_MEMCPY3D,
    ctx: CUcontext,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            maker.enter(ctx)?;
            maker.copy(copy_params)
        })
    }
}

pub(crate) unsafe fn cuGraphAddMemsetNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
    ctx: CUcontext,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            maker.enter(ctx)?;
            maker.fill(given(memset_params)?)
        })
    }
}

pub(crate) unsafe fn cuGraphAddHostNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    node_params: *const CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |_| host(given(node_params)?)) }
}

pub(crate) unsafe fn cuGraphAddChildGraphNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    child_graph: CUgraph,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |_| child(child_graph)) }
}

pub(crate) unsafe fn cuGraphAddEmptyNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |_| Ok(Operation::Empty)) }
}

pub(crate) unsafe fn cuGraphAddEventRecordNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    event: CUevent,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |_| record(event)) }
}

pub(crate) unsafe fn cuGraphAddEventWaitNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    event: CUevent,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |_| wait(event)) }
}

pub(crate) unsafe fn cuGraphAddNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            maker.new_in(graph, node_params)
        })
    }
}

pub(crate) unsafe fn cuGraphAddNode_v2(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_data: *const CUgraphEdgeData,
    num_dependencies: usize,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe {
        add(graph_node, graph, before, |maker| {
            check_edges(dependency_data, num_dependencies)?;
            maker.new_in(graph, node_params)
        })
    }
}

pub(crate) unsafe fn cuGraphDestroyNode(node: CUgraphNode) -> CUresult {
    code((|| {
        let (graph, number) = node_of(node)?;
        graph.remove(session::get()?, number)
    })())
}

pub(crate) unsafe fn cuGraphNodeGetType(node: CUgraphNode, kind: *mut CUgraphNodeType) -> CUresult {
    let found = operation(node).map(|operation| operation.kind());
    // SAFETY: the caller passes a place for a kind.
    unsafe { answer(kind, found) }
}

pub(super) fn operation(node: CUgraphNode) -> Result<Operation, CUresult> {
    let (graph, number) = node_of(node)?;
    Ok(graph.node(number)?.operation)
}

/// Gives a node what `make` makes to do.
fn set(
    node: CUgraphNode,
    make: impl FnOnce(&mut Maker) -> Result<Operation, CUresult>,
) -> CUresult {
    code((|| {
        let (graph, number) = node_of(node)?;
        let mut maker = Maker::new()?;
        let operation = make(&mut maker)?;
        graph.set(maker.session, maker.context, number, &operation)
    })())
}

fn kernel_of(node: CUgraphNode) -> Result<Arc<Kernel>, CUresult> {
    match operation(node)? {
        Operation::Kernel(kernel) => Ok(kernel),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// A function and a kernel are one kind of handle here, so what the program gave is told as both.
fn parameters_of(kernel: &Kernel) -> KernelParametersInContext {
    KernelParametersInContext {
        plain: KernelParameters {
            function: kernel.handle,
            grid: kernel.shape.grid,
            block: kernel.shape.block,
            shared_bytes: kernel.shape.shared_bytes,
            kernel_params: kernel.places(),
            extra: core::ptr::null_mut(),
        },
        kernel: kernel.handle,
        context: context::current_handle(),
    }
}

pub(crate) unsafe fn cuGraphKernelNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    let found = kernel_of(node).map(|kernel| parameters_of(&kernel).plain);
    // SAFETY: the caller passes a place for them. What they point to lives as long as the node's parameters.
    unsafe { answer(node_params.cast(), found) }
}

pub(crate) unsafe fn cuGraphKernelNodeGetParams_v2(
    node: CUgraphNode,
    node_params: *mut CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    let found = kernel_of(node).map(|kernel| parameters_of(&kernel));
    // SAFETY: as above.
    unsafe { answer(node_params.cast(), found) }
}

pub(crate) unsafe fn cuGraphKernelNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set(node, |maker| unsafe {
        maker.kernel_instead(given(node_params)?, &operation(node)?)
    })
}

pub(crate) unsafe fn cuGraphKernelNodeSetParams_v2(
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set(node, |maker| unsafe {
        let parameters = maker.in_context(given(node_params)?)?;
        maker.kernel_instead(parameters, &operation(node)?)
    })
}

/// The attribute that makes a launch cooperative.
const COOPERATIVE: CUkernelNodeAttrID = 2;

pub(crate) unsafe fn cuGraphKernelNodeGetAttribute(
    node: CUgraphNode,
    attr: CUkernelNodeAttrID,
    value_out: *mut CUkernelNodeAttrValue,
) -> CUresult {
    let found = kernel_of(node).map(|kernel| {
        let mut attributes = kernel.shape.attributes.iter();
        let set = attributes.find(|(id, _)| *id == attr);
        let mut value = set.map_or([0; VALUE_BYTES], |(_, value)| *value);
        value[0] |= u8::from(attr == COOPERATIVE && kernel.shape.cooperative);
        value
    });
    // SAFETY: the caller passes a place for a value.
    unsafe { answer(value_out.cast(), found) }
}

pub(crate) unsafe fn cuGraphKernelNodeSetAttribute(
    node: CUgraphNode,
    attr: CUkernelNodeAttrID,
    value: *const CUkernelNodeAttrValue,
) -> CUresult {
    set(node, |_| {
        let kernel = kernel_of(node)?;
        // SAFETY: the caller passes a value.
        let value: [u8; VALUE_BYTES] = unsafe { given(value) }?;
        let mut shape = kernel.shape.clone();
        if attr == COOPERATIVE {
            shape.cooperative = value[0] != 0;
            shape.attributes.retain(|(id, _)| *id != COOPERATIVE);
        } else {
            shape.set_attribute(attr, value)?;
        }
        Ok(Operation::Kernel(Arc::new(kernel.with_shape(shape))))
    })
}

pub(crate) unsafe fn cuGraphKernelNodeCopyAttributes(
    dst: CUgraphNode,
    src: CUgraphNode,
) -> CUresult {
    set(dst, |_| {
        let (kernel, source) = (kernel_of(dst)?, kernel_of(src)?);
        let shape = kernel.shape.with_attributes_of(&source.shape);
        Ok(Operation::Kernel(Arc::new(kernel.with_shape(shape))))
    })
}

pub(crate) unsafe fn cuGraphMemcpyNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_MEMCPY3D,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Copy(copy) => Ok(copy.description()),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(node_params, found) }
}

pub(crate) unsafe fn cuGraphMemcpyNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_MEMCPY3D,
) -> CUresult {
    // SAFETY: the caller passes a description.
    set(node, |maker| unsafe { maker.copy(node_params) })
}

pub(crate) unsafe fn cuGraphMemsetNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_MEMSET_NODE_PARAMS_v1,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Fill(fill) => Ok(FillParameters {
            destination: fill.destination,
            pitch: fill.pitch,
            value: fill.value,
            element_size: fill.element_bytes,
            width: fill.width,
            height: fill.height,
        }),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for them.
    unsafe { answer(node_params.cast(), found) }
}

pub(crate) unsafe fn cuGraphMemsetNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set(node, |maker| maker.fill(unsafe { given(node_params) }?))
}

pub(crate) unsafe fn cuGraphHostNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Host(call) => Ok(HostParameters {
            function: Some(call.function),
            user_data: call.data(),
        }),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for them.
    unsafe { answer(node_params.cast(), found) }
}

pub(crate) unsafe fn cuGraphHostNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set(node, |_| host(unsafe { given(node_params) }?))
}

pub(crate) unsafe fn cuGraphChildGraphNodeGetGraph(
    node: CUgraphNode,
    graph: *mut CUgraph,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Child(graph) => Ok(graph.handle()),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph, found) }
}

/// # Safety
/// `event_out` is null or a place for a handle.
unsafe fn event_in(node: CUgraphNode, event_out: *mut CUevent, records: bool) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Record(event) if records => Ok(CUevent::dress(event.id)),
        Operation::Wait(event) if !records => Ok(CUevent::dress(event.id)),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller's promise.
    unsafe { answer(event_out, found) }
}

pub(crate) unsafe fn cuGraphEventRecordNodeGetEvent(
    node: CUgraphNode,
    event_out: *mut CUevent,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe { event_in(node, event_out, true) }
}

pub(crate) unsafe fn cuGraphEventWaitNodeGetEvent(
    node: CUgraphNode,
    event_out: *mut CUevent,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe { event_in(node, event_out, false) }
}

pub(crate) unsafe fn cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult {
    set(node, |_| record(event))
}

pub(crate) unsafe fn cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult {
    set(node, |_| wait(event))
}

pub(crate) unsafe fn cuGraphNodeSetParams(
    node: CUgraphNode,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set(node, |maker| unsafe {
        maker.any_instead(node_params, &operation(node)?)
    })
}

/// What a node of any kind is, in the structure that makes one.
pub(crate) unsafe fn cuGraphNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    /// `CU_GRAPH_CHILD_GRAPH_OWNERSHIP_INVALID`: the graph is the node's.
    const OF_THE_NODE: u64 = 0xFFFF_FFFF;
    let kind = match operation(node) {
        Ok(operation) => operation.kind(),
        Err(error) => return error,
    };
    if node_params.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let mut any = AnyParameters::new(kind);
    let place = any.of_kind.as_mut_ptr();
    let copy = core::mem::offset_of!(CopyParameters, copy);
    // SAFETY: the structure of each kind fits into its place, which is aligned for it.
    let told = unsafe {
        match kind {
            0 => cuGraphKernelNodeGetParams_v2(node, place.cast()),
            1 => cuGraphMemcpyNodeGetParams(node, place.byte_add(copy).cast()),
            2 => cuGraphMemsetNodeGetParams(node, place.cast()),
            3 => cuGraphHostNodeGetParams(node, place.cast()),
            4 => {
                place.add(1).write(OF_THE_NODE);
                cuGraphChildGraphNodeGetGraph(node, place.cast())
            }
            5 => CUresult::SUCCESS,
            6 => cuGraphEventWaitNodeGetEvent(node, place.cast()),
            7 => cuGraphEventRecordNodeGetEvent(node, place.cast()),
            10 => cuGraphMemAllocNodeGetParams(node, place.cast()),
            11 => cuGraphMemFreeNodeGetParams(node, place.cast()),
            12 => cuGraphBatchMemOpNodeGetParams(node, place.cast()),
            condition::NODE => answer(
                place.cast(),
                operation(node).and_then(|operation| match operation {
                    Operation::Conditional(conditional) => Ok(conditional.parameters()),
                    _ => Err(CUresult::INVALID_VALUE),
                }),
            ),
            _ => CUresult::NOT_SUPPORTED,
        }
    };
    if told == CUresult::SUCCESS {
        // SAFETY: not null, and the caller passes a place for them.
        unsafe { node_params.cast::<AnyParameters>().write_unaligned(any) };
    }
    told
}

/// As the version before; a kernel's function must be of the context that is named.
pub(crate) unsafe fn cuGraphAddNode_v3(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_data: *const CUgraphEdgeData,
    num_dependencies: usize,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe {
        if let Err(error) = check_function(node_params) {
            return error;
        }
        cuGraphAddNode_v2(
            graph_node,
            graph,
            dependencies,
            dependency_data,
            num_dependencies,
            node_params,
        )
    }
}

/// As the version before; a kernel's function must be of the context that is named.
pub(crate) unsafe fn cuGraphNodeSetParams_v2(
    node: CUgraphNode,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe {
        if let Err(error) = check_function(node_params) {
            return error;
        }
        cuGraphNodeSetParams(node, node_params)
    }
}

/// Whether the function of a kernel's node is of the context that is named with it.
///
/// # Safety
/// `parameters` is null or points to the description of a node.
unsafe fn check_function(parameters: *const CUgraphNodeParams) -> Result<(), CUresult> {
    if parameters.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null; the caller's promise.
    let any = unsafe { parameters.cast::<AnyParameters>().read_unaligned() };
    let Some((function, context)) = any.function_in_context() else {
        return Ok(());
    };
    match module::is_in_context(function, context::of(context)?.id)? {
        true => Ok(()),
        false => Err(CUresult::INVALID_CONTEXT),
    }
}

pub(crate) unsafe fn cuGraphAddBatchMemOpNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, |maker| maker.memory(node_params)) }
}

pub(crate) unsafe fn cuGraphBatchMemOpNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set(node, |maker| unsafe { maker.memory(node_params) })
}

pub(crate) unsafe fn cuGraphBatchMemOpNodeGetParams(
    node: CUgraphNode,
    node_params_out: *mut CUDA_BATCH_MEM_OP_NODE_PARAMS,
) -> CUresult {
    let found = operation(node).and_then(|operation| match operation {
        Operation::Memory(call) => Ok(MemoryParameters {
            context: context::current_handle(),
            count: call.described().len() as c_uint,
            operations: call.described().as_ptr().cast_mut(),
            flags: 0,
        }),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for them. What they point to lives as long as the node's parameters.
    unsafe { answer(node_params_out.cast(), found) }
}
