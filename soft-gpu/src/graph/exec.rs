//! Graphs that can be launched.

use core::ffi::{c_char, c_uint, c_ulonglong};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use driver_api::abi::{
    CUDA_GRAPH_INSTANTIATE_PARAMS, CUDA_HOST_NODE_PARAMS_v1, CUDA_KERNEL_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS_v1, CUcontext, CUevent,
    CUgraph, CUgraphExec, CUgraphExecUpdateResult, CUgraphExecUpdateResultInfo, CUgraphNode,
    CUgraphNodeParams, CUresult, CUstream,
};

use super::events::Events;
use super::node;
use super::object::{
    ExecState, Nested, Step, begin, check_used, find_step, find_step_mut, graph_of_steps, in_order,
    perform, steps, updated,
};
use super::{Exec, find, in_context};
use crate::capture;
use crate::context::unique_id;
use crate::entry::{answer, answer_if_asked, done};
use crate::state::driver;
use crate::stream::{Operation, find as find_stream};
use crate::threads::lock;
use driver_api::graph_layout::{InstantiateParameters, UpdateResult};

/// What a launch before has allocated and nobody has freed is freed.
const AUTO_FREE: u64 = 1;
/// Launching from a device, which this one does not do.
const DEVICE_LAUNCH: u64 = 4;
/// Uploading, priorities of nodes: nothing has to be done for them.
const KNOWN_FLAGS: u64 = AUTO_FREE | 2 | 8;

fn exec_of(exec: CUgraphExec) -> Result<Arc<Exec>, CUresult> {
    driver()?.graph_execs.get(exec.0)
}

fn instantiate(graph: CUgraph, flags: u64) -> Result<CUgraphExec, CUresult> {
    let driver = driver()?;
    let graph = find(graph)?;
    if flags & DEVICE_LAUNCH != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // Alone, a body would have nobody to choose it.
    if graph.is_body() {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let conditions = graph.conditions();
    check_used(&conditions)?;
    let state = ExecState {
        steps: Arc::new(in_context(|| steps(&graph))?),
        conditions,
        last: None,
        references: graph.references(),
    };
    let handle = driver.graph_execs.reserve();
    let exec = Exec {
        id: unique_id(),
        flags,
        state: Mutex::new(state),
    };
    let exec = Arc::new(exec);
    graph.instantiated(&exec)?;
    driver.graph_execs.insert(handle, exec);
    Ok(CUgraphExec(handle))
}

fn has_unused(graph: CUgraph) -> bool {
    find(graph).is_ok_and(|graph| check_used(&graph.conditions()).is_err())
}

pub(crate) unsafe fn cuGraphInstantiateWithFlags(
    graph_exec: *mut CUgraphExec,
    graph: CUgraph,
    flags: c_ulonglong,
) -> CUresult {
    if graph_exec.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph_exec, instantiate(graph, flags)) }
}

pub(crate) unsafe fn cuGraphInstantiate_v2(
    graph_exec: *mut CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    log_buffer: *mut c_char,
    buffer_size: usize,
) -> CUresult {
    // SAFETY: the caller passes places for handles, and a buffer of this size.
    unsafe {
        answer_if_asked(error_node, CUgraphNode(0));
        if buffer_size > 0 {
            answer_if_asked(log_buffer, 0);
        }
        cuGraphInstantiateWithFlags(graph_exec, graph, 0)
    }
}

pub(crate) unsafe fn cuGraphInstantiate(
    graph_exec: *mut CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    log_buffer: *mut c_char,
    buffer_size: usize,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe { cuGraphInstantiate_v2(graph_exec, graph, error_node, log_buffer, buffer_size) }
}

pub(crate) unsafe fn cuGraphInstantiateWithParams(
    graph_exec: *mut CUgraphExec,
    graph: CUgraph,
    instantiate_params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
) -> CUresult {
    const GOOD: c_uint = 0;
    const FAILED: c_uint = 1;
    /// `CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED`
    const UNUSED: c_uint = 5;
    // SAFETY: the caller passes parameters, in which the answer is written too.
    unsafe {
        let place = instantiate_params.cast::<InstantiateParameters>();
        let parameters: InstantiateParameters = match node::given(instantiate_params) {
            Ok(parameters) => parameters,
            Err(error) => return error,
        };
        let result = cuGraphInstantiateWithFlags(graph_exec, graph, parameters.flags);
        place.write_unaligned(InstantiateParameters {
            error_node: CUgraphNode(0),
            result: match result {
                CUresult::SUCCESS => GOOD,
                _ if has_unused(graph) => UNUSED,
                _ => FAILED,
            },
            ..parameters
        });
        result
    }
}

pub(crate) unsafe fn cuGraphExecDestroy(graph_exec: CUgraphExec) -> CUresult {
    done(driver().and_then(|driver| driver.graph_execs.remove(graph_exec.0).map(drop)))
}

pub(crate) unsafe fn cuGraphExecGetFlags(graph_exec: CUgraphExec, flags: *mut u64) -> CUresult {
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, exec_of(graph_exec).map(|exec| exec.flags)) }
}

pub(crate) unsafe fn cuGraphExecGetId(graph_exec: CUgraphExec, graph_id: *mut c_uint) -> CUresult {
    let id = exec_of(graph_exec).map(|exec| exec.id as c_uint);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(graph_id, id) }
}

fn launch(exec: CUgraphExec, stream: CUstream) -> Result<(), CUresult> {
    let exec = exec_of(exec)?;
    let (context, stream) = find_stream(stream)?;
    // Held, so that two launches are posted in the order in which they wait for each other.
    let mut state = lock(&exec.state);
    if capture::is_captured(&stream) {
        let child = Operation::Child(Nested::new(graph_of_steps(&state.steps)?)?);
        return context.submit(&stream, child);
    }
    capture::forbid(&context, &stream)?;
    let steps = Arc::clone(&state.steps);
    let (references, conditions) = (state.references.clone(), state.conditions.clone());
    let driver = driver()?;
    let freed = driver
        .graph_memory
        .launch(&steps, exec.flags & AUTO_FREE != 0)?;
    let mut events = Events::of(&steps, &stream.fate, &driver.segment)?;
    let mut after = events.take_before();
    after.extend(state.last.take());
    let records = events.records();
    let point = context.post_always(
        &stream,
        after,
        Box::new(move |status| {
            let result = status.and_then(|()| begin(&conditions));
            let result = result.and_then(|()| perform(&steps, &mut events));
            drop((events, references, freed));
            result
        }),
    );
    for (event, time) in records {
        event.end_record(point.clone(), time);
    }
    state.last = Some(point);
    Ok(())
}

pub(crate) unsafe fn cuGraphLaunch(graph: CUgraphExec, stream: CUstream) -> CUresult {
    done(launch(graph, stream))
}

pub(crate) unsafe fn cuGraphUpload(graph: CUgraphExec, stream: CUstream) -> CUresult {
    // There is nothing to upload.
    done(exec_of(graph).and_then(|_| find_stream(stream)).map(drop))
}

/// Changes the step of a node.
fn change(
    exec: CUgraphExec,
    node: CUgraphNode,
    make: impl FnOnce() -> Result<Operation, CUresult>,
) -> CUresult {
    let change = || {
        let exec = exec_of(exec)?;
        let operation = in_context(make)?;
        let mut state = lock(&exec.state);
        let step = find_step(&state.steps, node.0).ok_or(CUresult::INVALID_VALUE)?;
        let operation = node::keep_attributes(&step.operation, operation)?;
        let changed = step.with(operation)?;
        let steps = Arc::make_mut(&mut state.steps);
        *find_step_mut(steps, node.0).ok_or(CUresult::INVALID_VALUE)? = changed;
        Ok(())
    };
    done(change())
}

pub(crate) unsafe fn cuGraphExecKernelNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, || unsafe {
        node::kernel(node::given(node_params)?)
    })
}

pub(crate) unsafe fn cuGraphExecKernelNodeSetParams_v2(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, || unsafe {
        node::kernel_in_context(node::given(node_params)?)
    })
}

pub(crate) unsafe fn cuGraphExecMemcpyNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    copy_params: *const CUDA_MEMCPY3D,
    _ctx: CUcontext,
) -> CUresult {
    // SAFETY: the caller passes a description.
    change(graph_exec, node, || unsafe { node::copy(copy_params) })
}

pub(crate) unsafe fn cuGraphExecMemsetNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
    _ctx: CUcontext,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    let given = unsafe { node::given(memset_params) };
    change(graph_exec, node, || node::fill(given?))
}

pub(crate) unsafe fn cuGraphExecHostNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    let given = unsafe { node::given(node_params) };
    change(graph_exec, node, || node::host(given?))
}

pub(crate) unsafe fn cuGraphExecChildGraphNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    child_graph: CUgraph,
) -> CUresult {
    change(graph_exec, node, || node::child(child_graph))
}

pub(crate) unsafe fn cuGraphExecEventRecordNodeSetEvent(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    event: CUevent,
) -> CUresult {
    change(graph_exec, node, || node::record(event))
}

pub(crate) unsafe fn cuGraphExecEventWaitNodeSetEvent(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    event: CUevent,
) -> CUresult {
    change(graph_exec, node, || node::wait(event))
}

pub(crate) unsafe fn cuGraphExecNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, || unsafe { node::any(node_params) })
}

pub(crate) unsafe fn cuGraphNodeSetEnabled(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    is_enabled: c_uint,
) -> CUresult {
    let set = || {
        let exec = exec_of(graph_exec)?;
        let mut state = lock(&exec.state);
        let steps = Arc::make_mut(&mut state.steps);
        let step = find_step_mut(steps, node.0);
        let step = step.ok_or(CUresult::INVALID_VALUE)?;
        // Kernels, copies and fills.
        if step.operation.kind() > 2 {
            return Err(CUresult::INVALID_VALUE);
        }
        step.is_enabled = is_enabled != 0;
        Ok(())
    };
    done(set())
}

pub(crate) unsafe fn cuGraphNodeGetEnabled(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    is_enabled: *mut c_uint,
) -> CUresult {
    let found = || {
        let exec = exec_of(graph_exec)?;
        let state = lock(&exec.state);
        let step = find_step(&state.steps, node.0);
        Ok(c_uint::from(
            step.ok_or(CUresult::INVALID_VALUE)?.is_enabled,
        ))
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(is_enabled, found()) }
}

const UPDATED: CUgraphExecUpdateResult = 0;
const FAILED: CUgraphExecUpdateResult = 1;
const TOPOLOGY_CHANGED: CUgraphExecUpdateResult = 2;
const KIND_CHANGED: CUgraphExecUpdateResult = 3;
const PARAMETERS_CHANGED: CUgraphExecUpdateResult = 5;

/// Whether two graphs have the same edges between nodes of the same kinds, in the order in which these were made; else the first node of
/// `other` that differs, and how.
fn differs(own: &[Step], other: &[Step]) -> Option<(usize, CUgraphExecUpdateResult)> {
    let ((own, own_places), (other, other_places)) = (in_order(own), in_order(other));
    if own.len() != other.len() {
        let first = other.get(own.len().min(other.len().saturating_sub(1)));
        return Some((first.map_or(0, |first| first.node), TOPOLOGY_CHANGED));
    }
    let before = |step: &Step, places: &HashMap<usize, usize>| {
        let nodes = step.dependencies.iter();
        nodes
            .map(|node| places.get(node).copied())
            .collect::<BTreeSet<_>>()
    };
    let mut pairs = own.iter().zip(&other);
    pairs.find_map(|(mine, theirs)| {
        if mine.operation.kind() != theirs.operation.kind() {
            return Some((theirs.node, KIND_CHANGED));
        }
        let memory = |step: &Step| match &step.operation {
            Operation::Allocate(allocation) => Some(allocation.address),
            Operation::Free(address, _) => Some(*address),
            _ => None,
        };
        if memory(mine) != memory(theirs) {
            return Some((theirs.node, PARAMETERS_CHANGED));
        }
        if let (Operation::Conditional(one), Operation::Conditional(another)) =
            (&mine.operation, &theirs.operation)
        {
            if !one.is_like(another) {
                return Some((theirs.node, PARAMETERS_CHANGED));
            }
            let mut bodies = mine.bodies.iter().zip(&theirs.bodies);
            let inside = bodies.find_map(|(own, other)| differs(&own.steps, &other.steps));
            if inside.is_some() {
                return inside;
            }
        }
        let same = before(mine, &own_places) == before(theirs, &other_places);
        (!same).then_some((theirs.node, TOPOLOGY_CHANGED))
    })
}

fn outcome(result: CUgraphExecUpdateResult, node: usize) -> UpdateResult {
    UpdateResult {
        result,
        node: CUgraphNode(node),
        from_node: CUgraphNode(0),
    }
}

/// Takes over what the nodes of a graph with the same shape do, or tells what is different.
fn update(exec: CUgraphExec, graph: CUgraph) -> Result<UpdateResult, CUresult> {
    let (exec, graph) = (exec_of(exec)?, find(graph)?);
    let fresh = in_context(|| steps(&graph))?;
    check_used(&graph.conditions())?;
    let mut state = lock(&exec.state);
    if let Some((node, difference)) = differs(&state.steps, &fresh) {
        return Ok(outcome(difference, node));
    }
    state.steps = Arc::new(updated(&state.steps, &fresh));
    state.conditions = graph.conditions();
    state.references = graph.references();
    Ok(outcome(UPDATED, 0))
}

pub(crate) unsafe fn cuGraphExecUpdate_v2(
    graph_exec: CUgraphExec,
    graph: CUgraph,
    result_info: *mut CUgraphExecUpdateResultInfo,
) -> CUresult {
    if result_info.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let (info, result) = match update(graph_exec, graph) {
        Err(error) => (outcome(FAILED, 0), error),
        Ok(info) if info.result == UPDATED => (info, CUresult::SUCCESS),
        Ok(info) => (info, CUresult::GRAPH_EXEC_UPDATE_FAILURE),
    };
    // SAFETY: the caller passes a place for it.
    unsafe { answer_if_asked(result_info.cast(), info) };
    result
}

pub(crate) unsafe fn cuGraphExecUpdate(
    graph_exec: CUgraphExec,
    graph: CUgraph,
    error_node_out: *mut CUgraphNode,
    update_result_out: *mut CUgraphExecUpdateResult,
) -> CUresult {
    let mut info = outcome(FAILED, 0);
    // SAFETY: the information is a local; the caller passes places for a node and a result.
    unsafe {
        let result = cuGraphExecUpdate_v2(graph_exec, graph, (&raw mut info).cast());
        answer_if_asked(error_node_out, info.node);
        answer_if_asked(update_result_out, info.result);
        result
    }
}
