//! Nodes: making them, and what can be asked of them and changed.

use core::ffi::c_uint;
use std::sync::Arc;

use driver_api::abi::{
    CUDA_HOST_NODE_PARAMS_v1, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D,
    CUDA_MEMSET_NODE_PARAMS_v1, CUcontext, CUevent, CUfunction, CUgraph, CUgraphEdgeData,
    CUgraphNode, CUgraphNodeParams, CUgraphNodeType, CUkernelNodeAttrID, CUkernelNodeAttrValue,
    CUresult,
};

use super::memory::{cuGraphMemAllocNodeGetParams, cuGraphMemFreeNodeGetParams};
use super::object::{Nested, graph_of};
use super::{check_edges, conditional, find, handles_at, in_context};
use crate::entry::{answer, done};
use crate::event::Event;
use crate::launch::{Attributes, HostCall, Kernel, Shape, Value};
use crate::memory::{Copy, Fill};
use crate::module::find_function;
use crate::state::driver;
use crate::stream::Operation;
use driver_api::graph_layout::{
    AnyParameters, CopyParameters, FillParameters, HostParameters, KernelParameters,
    KernelParametersInContext, condition,
};

/// Reads a structure of the caller's.
///
/// # Safety
///
/// `pointer` is null or points to a `T`.
pub(super) unsafe fn given<T: core::marker::Copy, P>(pointer: *const P) -> Result<T, CUresult> {
    if pointer.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    Ok(unsafe { pointer.cast::<T>().read_unaligned() })
}

/// # Safety
///
/// As for `cuLaunchKernel`, for the parameters.
pub(super) unsafe fn kernel(parameters: KernelParameters) -> Result<Operation, CUresult> {
    let shape = Shape {
        grid: parameters.grid,
        block: parameters.block,
        shared: parameters.shared_bytes,
        attributes: Attributes::default(),
    };
    let KernelParameters {
        function,
        kernel_params,
        extra,
        ..
    } = parameters;
    // SAFETY: by contract.
    let kernel = unsafe { Kernel::new(shape, function, kernel_params, extra)? };
    Ok(Operation::Kernel(Arc::new(kernel)))
}

/// # Safety
///
/// As [`kernel`].
pub(super) unsafe fn kernel_in_context(
    parameters: KernelParametersInContext,
) -> Result<Operation, CUresult> {
    let mut plain = parameters.plain;
    if plain.function.0 == 0 {
        plain.function = parameters.kernel;
    }
    // SAFETY: by contract.
    unsafe { kernel(plain) }
}

pub(super) fn fill(parameters: FillParameters) -> Result<Operation, CUresult> {
    let FillParameters { width, height, .. } = parameters;
    let pattern = (parameters.value, parameters.element_size);
    let fill = Fill::new(
        parameters.destination,
        parameters.pitch,
        pattern,
        (width, height),
    )?;
    Ok(Operation::Fill(fill))
}

pub(super) fn host(parameters: HostParameters) -> Result<Operation, CUresult> {
    let function = parameters.function.ok_or(CUresult::INVALID_VALUE)?;
    Ok(Operation::Host(HostCall {
        function,
        user_data: parameters.user_data,
    }))
}

/// # Safety
///
/// `copy` is null or points to a description of a copy.
pub(super) unsafe fn copy(copy: *const CUDA_MEMCPY3D) -> Result<Operation, CUresult> {
    // SAFETY: by contract.
    unsafe { Copy::described(copy) }.map(Operation::Copy)
}

pub(super) fn child(graph: CUgraph) -> Result<Operation, CUresult> {
    Ok(Operation::Child(Nested::new(find(graph)?.duplicate()?)?))
}

fn event_of(event: CUevent) -> Result<(Arc<Event>, usize), CUresult> {
    Ok((driver()?.events.get(event.0)?, event.0))
}

pub(super) fn record(event: CUevent) -> Result<Operation, CUresult> {
    event_of(event).map(|(event, handle)| Operation::Record(event, handle))
}

pub(super) fn wait(event: CUevent) -> Result<Operation, CUresult> {
    event_of(event).map(|(event, handle)| Operation::Wait(event, handle))
}

/// # Safety
///
/// `parameters` is null or points to the description of a node.
pub(super) unsafe fn any(parameters: *const CUgraphNodeParams) -> Result<Operation, CUresult> {
    if parameters.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    let of_kind = AnyParameters::place_of_kind(parameters);
    // SAFETY: by contract, and not null.
    unsafe {
        let kind = parameters.cast::<c_uint>().read_unaligned();
        let handle = || of_kind.cast::<usize>().read_unaligned();
        match kind {
            0 => kernel_in_context(of_kind.cast::<KernelParametersInContext>().read_unaligned()),
            1 => {
                let place = core::mem::offset_of!(CopyParameters, copy);
                copy(of_kind.add(place).cast())
            }
            2 => fill(of_kind.cast::<FillParameters>().read_unaligned()),
            3 => host(of_kind.cast::<HostParameters>().read_unaligned()),
            4 => child(CUgraph(handle())),
            5 => Ok(Operation::Empty),
            6 => wait(CUevent(handle())),
            7 => record(CUevent(handle())),
            _ => Err(CUresult::NOT_SUPPORTED),
        }
    }
}

/// As [`any`], of a node that is added to `graph`: only then it may allocate, free what others have allocated, or have a condition.
///
/// # Safety
///
/// As [`any`]; an address or bodies are told in `parameters`.
unsafe fn new(graph: CUgraph, parameters: *mut CUgraphNodeParams) -> Result<Operation, CUresult> {
    // SAFETY: by contract.
    unsafe {
        match given(parameters)? {
            kind @ (10 | 11) => super::memory::any(kind, parameters),
            condition::NODE => {
                conditional::described(graph, parameters).map(Operation::Conditional)
            }
            _ => any(parameters),
        }
    }
}

/// Adds what `make` makes.
///
/// # Safety
///
/// `node` is null or a place for a handle; `dependencies` has `count` handles.
pub(super) unsafe fn add(
    node: *mut CUgraphNode,
    graph: CUgraph,
    (dependencies, count): (*const CUgraphNode, usize),
    make: impl FnOnce() -> Result<Operation, CUresult>,
) -> CUresult {
    if node.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let added = || {
        let graph = find(graph)?;
        // SAFETY: by contract.
        let dependencies = unsafe { handles_at(dependencies, count) }?;
        let operation = in_context(make)?;
        Ok(CUgraphNode(graph.add(operation, &dependencies)?))
    };
    // SAFETY: by contract.
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
    unsafe { add(graph_node, graph, before, || kernel(given(node_params)?)) }
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
        add(graph_node, graph, before, || {
            kernel_in_context(given(node_params)?)
        })
    }
}

pub(crate) unsafe fn cuGraphAddMemcpyNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    copy_params: *const CUDA_MEMCPY3D,
    _ctx: CUcontext,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, || copy(copy_params)) }
}

pub(crate) unsafe fn cuGraphAddMemsetNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
    memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
    _ctx: CUcontext,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, || fill(given(memset_params)?)) }
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
    unsafe { add(graph_node, graph, before, || host(given(node_params)?)) }
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
    unsafe { add(graph_node, graph, before, || child(child_graph)) }
}

pub(crate) unsafe fn cuGraphAddEmptyNode(
    graph_node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    num_dependencies: usize,
) -> CUresult {
    let before = (dependencies, num_dependencies);
    // SAFETY: the caller's promises are the same.
    unsafe { add(graph_node, graph, before, || Ok(Operation::Empty)) }
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
    unsafe { add(graph_node, graph, before, || record(event)) }
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
    unsafe { add(graph_node, graph, before, || wait(event)) }
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
    unsafe { add(graph_node, graph, before, || new(graph, node_params)) }
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
        add(graph_node, graph, before, || {
            check_edges(dependency_data, num_dependencies)?;
            new(graph, node_params)
        })
    }
}

pub(crate) unsafe fn cuGraphDestroyNode(node: CUgraphNode) -> CUresult {
    done(graph_of(node.0).and_then(|graph| graph.remove(node.0)))
}

pub(crate) unsafe fn cuGraphNodeGetType(node: CUgraphNode, kind: *mut CUgraphNodeType) -> CUresult {
    let found = operation(node).map(|operation| operation.kind());
    // SAFETY: the caller passes a place for a kind.
    unsafe { answer(kind, found) }
}

fn operation(node: CUgraphNode) -> Result<Operation, CUresult> {
    Ok(graph_of(node.0)?.node(node.0)?.operation)
}

/// Gives a node what `make` makes to do.
fn set(node: CUgraphNode, make: impl FnOnce() -> Result<Operation, CUresult>) -> CUresult {
    let set = || {
        let graph = graph_of(node.0)?;
        graph.set(node.0, in_context(make)?)
    };
    done(set())
}

/// Gives a node other parameters, which `make` makes.
fn set_parameters(
    node: CUgraphNode,
    make: impl FnOnce() -> Result<Operation, CUresult>,
) -> CUresult {
    set(node, || keep_attributes(&operation(node)?, make()?))
}

/// Parameters of a kernel say nothing of its attributes: they stay what they were.
pub(super) fn keep_attributes(old: &Operation, new: Operation) -> Result<Operation, CUresult> {
    match (old, &new) {
        (Operation::Kernel(old), Operation::Kernel(kernel))
            if old.shape.attributes != kernel.shape.attributes =>
        {
            with_attributes(kernel, old.shape.attributes)
        }
        _ => Ok(new),
    }
}

fn with_attributes(kernel: &Kernel, attributes: Attributes) -> Result<Operation, CUresult> {
    let shape = Shape {
        attributes,
        ..kernel.shape
    };
    Ok(Operation::Kernel(Arc::new(kernel.with_shape(shape)?)))
}

/// Tells what `pick` finds in what a node does.
///
/// # Safety
///
/// `place` is null or a place for it.
pub(super) unsafe fn tell<T>(
    node: CUgraphNode,
    place: *mut T,
    pick: impl FnOnce(&Operation) -> Option<T>,
) -> CUresult {
    let found = operation(node);
    let found = found.and_then(|operation| pick(&operation).ok_or(CUresult::INVALID_VALUE));
    // SAFETY: by contract.
    unsafe { answer(place, found) }
}

fn kernel_of(node: CUgraphNode) -> Result<Arc<Kernel>, CUresult> {
    match operation(node)? {
        Operation::Kernel(kernel) => Ok(kernel),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// A kernel of a library is told as such too: that is how cudart finds its own function again.
fn parameters_of(kernel: &Kernel) -> KernelParametersInContext {
    let named = driver().is_ok_and(|driver| driver.kernels.get(kernel.handle.0).is_ok());
    KernelParametersInContext {
        plain: KernelParameters {
            function: CUfunction(kernel.function.handle),
            grid: kernel.shape.grid,
            block: kernel.shape.block,
            shared_bytes: kernel.shape.shared,
            kernel_params: kernel.places(),
            extra: core::ptr::null_mut(),
        },
        kernel: CUfunction(if named { kernel.handle.0 } else { 0 }),
        context: CUcontext(kernel.function.module.context),
    }
}

pub(crate) unsafe fn cuGraphKernelNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes a place for them. What they point to lives as long as the node's parameters.
    unsafe {
        tell(node, node_params.cast(), |operation| match operation {
            Operation::Kernel(kernel) => Some(parameters_of(kernel).plain),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphKernelNodeGetParams_v2(
    node: CUgraphNode,
    node_params: *mut CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    // SAFETY: as above.
    unsafe {
        tell(node, node_params.cast(), |operation| match operation {
            Operation::Kernel(kernel) => Some(parameters_of(kernel)),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphKernelNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set_parameters(node, || unsafe { kernel(given(node_params)?) })
}

pub(crate) unsafe fn cuGraphKernelNodeSetParams_v2(
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set_parameters(node, || unsafe { kernel_in_context(given(node_params)?) })
}

pub(crate) unsafe fn cuGraphKernelNodeGetAttribute(
    node: CUgraphNode,
    attr: CUkernelNodeAttrID,
    value_out: *mut CUkernelNodeAttrValue,
) -> CUresult {
    // SAFETY: the caller passes a place for a value.
    unsafe {
        tell(node, value_out.cast(), |operation| match operation {
            Operation::Kernel(kernel) => Some(kernel.shape.attributes.get(attr)),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphKernelNodeSetAttribute(
    node: CUgraphNode,
    attr: CUkernelNodeAttrID,
    value: *const CUkernelNodeAttrValue,
) -> CUresult {
    let change = || {
        let kernel = kernel_of(node)?;
        let mut attributes = kernel.shape.attributes;
        // SAFETY: the caller passes a value.
        attributes.set(attr, &unsafe { given::<Value, _>(value) }?)?;
        match attributes == kernel.shape.attributes {
            true => Ok(Operation::Kernel(kernel)),
            false => with_attributes(&kernel, attributes),
        }
    };
    set(node, change)
}

pub(crate) unsafe fn cuGraphKernelNodeCopyAttributes(
    dst: CUgraphNode,
    src: CUgraphNode,
) -> CUresult {
    set(dst, || {
        with_attributes(&*kernel_of(dst)?, kernel_of(src)?.shape.attributes)
    })
}

pub(crate) unsafe fn cuGraphMemcpyNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_MEMCPY3D,
) -> CUresult {
    // SAFETY: the caller passes a place for a description.
    unsafe {
        tell(node, node_params, |operation| match operation {
            Operation::Copy(copy) => Some(copy.description()),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphMemcpyNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_MEMCPY3D,
) -> CUresult {
    // SAFETY: the caller passes a description.
    set_parameters(node, || unsafe { copy(node_params) })
}

fn fill_of(operation: &Operation) -> Option<FillParameters> {
    let Operation::Fill(fill) = operation else {
        return None;
    };
    let (destination, pitch, value, element_size, width, height) = fill.parts();
    Some(FillParameters {
        destination,
        pitch,
        value,
        element_size,
        width,
        height,
    })
}

pub(crate) unsafe fn cuGraphMemsetNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_MEMSET_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes a place for them.
    unsafe { tell(node, node_params.cast(), fill_of) }
}

pub(crate) unsafe fn cuGraphMemsetNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set_parameters(node, || fill(unsafe { given(node_params) }?))
}

pub(crate) unsafe fn cuGraphHostNodeGetParams(
    node: CUgraphNode,
    node_params: *mut CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes a place for them.
    unsafe {
        tell(node, node_params.cast(), |operation| match operation {
            Operation::Host(call) => Some(HostParameters {
                function: Some(call.function),
                user_data: call.user_data,
            }),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphHostNodeSetParams(
    node: CUgraphNode,
    node_params: *const CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set_parameters(node, || host(unsafe { given(node_params) }?))
}

pub(crate) unsafe fn cuGraphChildGraphNodeGetGraph(
    node: CUgraphNode,
    graph: *mut CUgraph,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe {
        tell(node, graph, |operation| match operation {
            Operation::Child(nested) => Some(CUgraph(nested.graph().handle)),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphEventRecordNodeGetEvent(
    node: CUgraphNode,
    event_out: *mut CUevent,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe {
        tell(node, event_out, |operation| match operation {
            Operation::Record(_, handle) => Some(CUevent(*handle)),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphEventWaitNodeGetEvent(
    node: CUgraphNode,
    event_out: *mut CUevent,
) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe {
        tell(node, event_out, |operation| match operation {
            Operation::Wait(_, handle) => Some(CUevent(*handle)),
            _ => None,
        })
    }
}

pub(crate) unsafe fn cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult {
    set_parameters(node, || record(event))
}

pub(crate) unsafe fn cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult {
    set_parameters(node, || wait(event))
}

pub(crate) unsafe fn cuGraphNodeSetParams(
    node: CUgraphNode,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    set_parameters(node, || unsafe { any(node_params) })
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
            condition::NODE => tell(node, place.cast(), |operation| match operation {
                Operation::Conditional(conditional) => Some(conditional.parameters()),
                _ => None,
            }),
            10 => cuGraphMemAllocNodeGetParams(node, place.cast()),
            11 => cuGraphMemFreeNodeGetParams(node, place.cast()),
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
    match find_function(function)?.module.context == crate::context::find(context)?.handle {
        true => Ok(()),
        false => Err(CUresult::INVALID_CONTEXT),
    }
}
