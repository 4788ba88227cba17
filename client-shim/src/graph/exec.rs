//! Graphs that can be launched.
//!
//! # Safety
//! Structures are read, and out parameters written, where the program says, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "structures and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_char, c_uint, c_ulonglong};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{
    CUDA_BATCH_MEM_OP_NODE_PARAMS, CUDA_GRAPH_INSTANTIATE_PARAMS, CUDA_HOST_NODE_PARAMS_v1,
    CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS_v1,
    CUcontext, CUevent, CUgraph, CUgraphExec, CUgraphExecUpdateResult, CUgraphExecUpdateResultInfo,
    CUgraphNode, CUgraphNodeParams, CUresult, CUstream,
};

use super::conditional::{Origin, check_used};
use super::device::OnDevice;
use super::lanes::{Contexts, Lanes, Way};
use super::memory::operations_of;
use super::model::{check_for_conditions, destroy, find, node_of};
use super::node::{self, Maker, given};
use super::steps::{self, Difference, Last, Step, steps_of};
use super::{Operation, UserReference, answer, answer_if_asked};
use crate::capture;
use crate::entry::code;
use crate::handles::Handle;
use crate::log;
use crate::objects::unique;
use crate::session::{self, Session};
use crate::stream::{self, Stream};
use driver_api::graph_layout::{InstantiateParameters, UpdateResult};

/// `CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH`.
const DEVICE_LAUNCH: u64 = 4;
/// `CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH`.
const AUTO_FREE: u64 = 1;
/// Freeing on launch, uploading, priorities of nodes: nothing has to be done for them.
const KNOWN_FLAGS: u64 = AUTO_FREE | 2 | 8;

/// A graph that can be launched.
#[derive(Debug)]
pub(crate) struct Exec {
    unique: u64,
    flags: u64,
    /// The graph that it was made of, whose nodes name its steps.
    graph: u64,
    /// Those that its steps are done in.
    contexts: Contexts,
    /// What it does with memory of graphs, which cannot be changed.
    memory: Vec<Operation>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    steps: Arc<Vec<Step>>,
    last: Option<Last>,
    lanes: Lanes,
    on_device: OnDevice,
    /// What the server has of the graph that it is made of, if it has conditions.
    origin: Option<Arc<Origin>>,
    references: Vec<Arc<UserReference>>,
}

impl Exec {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step that was made of a node, also in the body of a condition.
    fn step<'s>(&self, steps: &'s [Step], node: CUgraphNode) -> Result<&'s Step, CUresult> {
        let (graph, number) = node_of(node)?;
        let step = steps::find(steps, self.graph, (graph.unique, number));
        step.ok_or(CUresult::INVALID_VALUE)
    }

    /// [`Self::step`], for a change.
    fn step_mut<'s>(
        &self,
        steps: &'s mut [Step],
        node: CUgraphNode,
    ) -> Result<&'s mut Step, CUresult> {
        let (graph, number) = node_of(node)?;
        let step = steps::find_mut(steps, self.graph, (graph.unique, number));
        step.ok_or(CUresult::INVALID_VALUE)
    }
}

fn exec_of(handle: CUgraphExec) -> Result<Arc<Exec>, CUresult> {
    let session = session::get()?;
    let exec = handle
        .undress()
        .and_then(|id| session.objects.graph_execs.get(id));
    exec.ok_or(CUresult::INVALID_HANDLE)
}

fn instantiate(graph: CUgraph, flags: u64) -> Result<CUgraphExec, CUresult> {
    let (session, _) = session::current()?;
    let graph = find(graph)?;
    if flags & DEVICE_LAUNCH != 0 {
        log::warn_once(
            "CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH",
            format_args!("launching a graph from the device is not supported"),
        );
        return Err(CUresult::NOT_SUPPORTED);
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // Alone, a body would have nobody to choose it.
    if graph.is_body() {
        return Err(CUresult::NOT_SUPPORTED);
    }
    graph.check_instance()?;
    check_used(&graph.conditions())?;
    let steps = steps_of(&graph, 0)?;
    let memory = operations_of(&steps);
    let origin = steps::origin_of(&steps);
    let mut on_device = OnDevice::NEW;
    if let Some(origin) = &origin {
        check_conditioned(&steps, origin)?;
        on_device.make_conditioned(session, &steps, origin)?;
    }
    let state = State {
        steps: Arc::new(steps),
        last: None,
        lanes: Lanes::default(),
        on_device,
        origin,
        references: steps::references_of(&graph, 0),
    };
    let mut handle = CUgraphExec(0);
    let exec = session.objects.graph_execs.insert_with(|id| {
        handle = CUgraphExec::dress(id);
        Exec {
            unique: unique(),
            flags,
            graph: graph.unique,
            contexts: graph.contexts(),
            memory,
            state: Mutex::new(state),
        }
    });
    graph.instantiated(&exec);
    Ok(handle)
}

/// With conditions, all of it is the driver's in one context.
fn check_conditioned(steps: &[Step], origin: &Origin) -> Result<(), CUresult> {
    match steps::are_of(steps, origin.context) {
        true => Ok(()),
        false => check_for_conditions(Contexts::Several),
    }
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
    /// `CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED`.
    const UNUSED: c_uint = 5;
    // SAFETY: the caller passes parameters, in which the answer is written too.
    unsafe {
        let place = instantiate_params.cast::<InstantiateParameters>();
        let parameters: InstantiateParameters = match given(instantiate_params) {
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
    code((|| {
        let session = session::get()?;
        let id = graph_exec.undress().ok_or(CUresult::INVALID_HANDLE)?;
        let exec = session.objects.graph_execs.remove(id);
        let exec = exec.ok_or(CUresult::INVALID_HANDLE)?;
        // What a stream still waits for, the driver keeps.
        let mut state = exec.lock();
        let on_device = state.on_device.changed(session);
        let lanes = std::mem::take(&mut state.lanes).end(session);
        let last = state.last.take().map_or(Ok(()), |last| last.end(session));
        // All of them, whatever becomes of one.
        on_device.and(lanes).and(last)
    })())
}

pub(crate) unsafe fn cuGraphExecGetFlags(graph_exec: CUgraphExec, flags: *mut u64) -> CUresult {
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, exec_of(graph_exec).map(|exec| exec.flags)) }
}

pub(crate) unsafe fn cuGraphExecGetId(graph_exec: CUgraphExec, graph_id: *mut c_uint) -> CUresult {
    let id = exec_of(graph_exec).map(|exec| exec.unique as c_uint);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(graph_id, id) }
}

fn launch(exec: CUgraphExec, stream: CUstream) -> Result<(), CUresult> {
    let (session, context) = session::current()?;
    let exec = exec_of(exec)?;
    let stream = stream::resolve_any(session, &context, stream)?;
    // Held, so that two launches are posted one after the other.
    let mut state = exec.lock();
    if capture::is_captured(session, &stream)? {
        let of = exec.contexts.one().unwrap_or(stream.context);
        let graph = steps::graph_of(session, of, &state.steps, &state.references)?;
        let handle = graph.handle();
        let added = capture::add(&stream, Operation::Child(graph));
        destroy(handle)?;
        return added;
    }
    stream.fault.check()?;
    let memory = &session.objects.graph_memory;
    let frees_first = exec.flags & AUTO_FREE != 0;
    let claims = memory.launch_of(&exec.memory, frees_first)?;
    if let Some(last) = &state.last {
        last.precede(session, &stream)?;
    }
    let posted = put(session, &stream, exec.contexts, &mut state);
    // Also where only the first of them were put.
    state.last = Some(Last::instead_of(state.last.take(), session, &stream)?);
    posted?;
    // What is freed is free behind the launch.
    drop(memory.launched(claims));
    Ok(())
}

/// Puts all steps before what is put into a stream next, and behind them what keeps the user's objects until they are done.
fn put(
    session: &'static Session,
    stream: &Arc<Stream>,
    contexts: Contexts,
    state: &mut State,
) -> Result<(), CUresult> {
    let State {
        steps,
        references,
        lanes,
        on_device,
        origin,
        ..
    } = state;
    let mut way = Way::new(session, lanes, stream);
    let mut post = || -> Result<(), CUresult> {
        if let Some(origin) = origin {
            return on_device.launch_conditioned(session, &mut way, steps, origin);
        }
        // The driver's graph is of one context.
        let is_launched = match contexts {
            Contexts::Several => false,
            Contexts::None | Contexts::One(_) => {
                let stream = way.to(contexts.one())?;
                on_device.launch(session, stream, steps)?
            }
        };
        match is_launched {
            true => Ok(()),
            false => steps::post(session, &mut way, steps),
        }
    };
    let posted = post();
    // Also behind a part of them.
    let joined = way.end();
    steps::keep(session, stream, references)?;
    posted.and(joined)
}

pub(crate) unsafe fn cuGraphLaunch(graph: CUgraphExec, stream: CUstream) -> CUresult {
    code(launch(graph, stream))
}

pub(crate) unsafe fn cuGraphUpload(graph: CUgraphExec, stream: CUstream) -> CUresult {
    // There is nothing to upload.
    code((|| {
        exec_of(graph)?;
        stream::resolve(stream).map(drop)
    })())
}

/// Changes the step of a node.
fn change(
    exec: CUgraphExec,
    node: CUgraphNode,
    make: impl FnOnce(&mut Maker, &Operation) -> Result<Operation, CUresult>,
) -> CUresult {
    code((|| {
        let exec = exec_of(exec)?;
        let mut maker = Maker::new()?;
        let mut state = exec.lock();
        let step = exec.step(&state.steps, node)?;
        let operation = make(&mut maker, &step.operation)?;
        // A step stays in its context.
        if operation.contexts(maker.context) != step.contexts {
            return Err(CUresult::INVALID_VALUE);
        }
        let changed = step.with(operation)?;
        let steps = Arc::make_mut(&mut state.steps);
        *exec.step_mut(steps, node)? = changed;
        state.on_device.changed(session::get()?)
    })())
}

pub(crate) unsafe fn cuGraphExecKernelNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, |maker, before| unsafe {
        maker.kernel_instead(given(node_params)?, before)
    })
}

pub(crate) unsafe fn cuGraphExecKernelNodeSetParams_v2(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, |maker, before| unsafe {
        let parameters = maker.in_context(given(node_params)?)?;
        maker.kernel_instead(parameters, before)
    })
}

pub(crate) unsafe fn cuGraphExecMemcpyNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    copy_params: *const CUDA_MEMCPY3D,
    ctx: CUcontext,
) -> CUresult {
    // SAFETY: the caller passes a description.
    change(graph_exec, node, |maker, _| unsafe {
        maker.enter(ctx)?;
        maker.copy(copy_params)
    })
}

pub(crate) unsafe fn cuGraphExecMemsetNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
    ctx: CUcontext,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    let given = unsafe { given(memset_params) };
    change(graph_exec, node, |maker, _| {
        maker.enter(ctx)?;
        maker.fill(given?)
    })
}

pub(crate) unsafe fn cuGraphExecHostNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_HOST_NODE_PARAMS_v1,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    let given = unsafe { given(node_params) };
    change(graph_exec, node, |_, _| node::host(given?))
}

pub(crate) unsafe fn cuGraphExecChildGraphNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    child_graph: CUgraph,
) -> CUresult {
    change(graph_exec, node, |_, _| node::child(child_graph))
}

pub(crate) unsafe fn cuGraphExecEventRecordNodeSetEvent(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    event: CUevent,
) -> CUresult {
    change(graph_exec, node, |_, _| node::record(event))
}

pub(crate) unsafe fn cuGraphExecEventWaitNodeSetEvent(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    event: CUevent,
) -> CUresult {
    change(graph_exec, node, |_, _| node::wait(event))
}

pub(crate) unsafe fn cuGraphExecNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, |maker, before| unsafe {
        maker.any_instead(node_params, before)
    })
}

pub(crate) unsafe fn cuGraphNodeSetEnabled(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    is_enabled: c_uint,
) -> CUresult {
    let set = || {
        let exec = exec_of(graph_exec)?;
        let mut state = exec.lock();
        let steps = Arc::make_mut(&mut state.steps);
        let step = exec.step_mut(steps, node)?;
        if !step.operation.can_be_disabled() {
            return Err(CUresult::INVALID_VALUE);
        }
        step.is_enabled = is_enabled != 0;
        state.on_device.changed(session::get()?)
    };
    code(set())
}

pub(crate) unsafe fn cuGraphNodeGetEnabled(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    is_enabled: *mut c_uint,
) -> CUresult {
    let found = || {
        let exec = exec_of(graph_exec)?;
        let state = exec.lock();
        let step = exec.step(&state.steps, node)?;
        if !step.operation.can_be_disabled() {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(c_uint::from(step.is_enabled))
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(is_enabled, found()) }
}

/// `CU_GRAPH_EXEC_UPDATE_*`.
const UPDATED: CUgraphExecUpdateResult = 0;
const FAILED_UPDATE: CUgraphExecUpdateResult = 1;
const TOPOLOGY_CHANGED: CUgraphExecUpdateResult = 2;
const KIND_CHANGED: CUgraphExecUpdateResult = 3;
const PARAMETERS_CHANGED: CUgraphExecUpdateResult = 5;
const UPDATE_NOT_SUPPORTED: CUgraphExecUpdateResult = 6;

/// Takes over what the nodes of a graph with the same shape do, or tells what is different.
fn update(exec: CUgraphExec, graph: CUgraph) -> Result<UpdateResult, CUresult> {
    let (session, _) = session::current()?;
    let (exec, graph) = (exec_of(exec)?, find(graph)?);
    check_used(&graph.conditions())?;
    let fresh = steps_of(&graph, 0)?;
    let mut state = exec.lock();
    if let Some((number, difference)) = steps::difference(&state.steps, &fresh) {
        let node = number.and_then(|number| graph.node(number).ok());
        return Ok(UpdateResult {
            result: match difference {
                Difference::Topology => TOPOLOGY_CHANGED,
                Difference::Kind => KIND_CHANGED,
                Difference::Parameters => PARAMETERS_CHANGED,
            },
            node: node.map_or(CUgraphNode(0), |node| node.handle),
            from_node: CUgraphNode(0),
        });
    }
    if steps::origin_of(&fresh).is_some_and(|origin| check_conditioned(&fresh, &origin).is_err()) {
        return Ok(UpdateResult {
            result: UPDATE_NOT_SUPPORTED,
            node: CUgraphNode(0),
            from_node: CUgraphNode(0),
        });
    }
    state.steps = Arc::new(steps::updated(&state.steps, &fresh)?);
    state.on_device.changed(session)?;
    // The conditions are the other graph's now.
    state.origin = steps::origin_of(&state.steps);
    let State {
        on_device,
        origin,
        steps,
        ..
    } = &mut *state;
    if let Some(origin) = origin {
        on_device.make_conditioned(session, steps, origin)?;
    }
    let before = std::mem::replace(&mut state.references, steps::references_of(&graph, 0));
    // Outside the lock: the last reference calls the program.
    drop(state);
    drop(before);
    Ok(UpdateResult {
        result: UPDATED,
        node: CUgraphNode(0),
        from_node: CUgraphNode(0),
    })
}

pub(crate) unsafe fn cuGraphExecUpdate_v2(
    graph_exec: CUgraphExec,
    graph: CUgraph,
    result_info: *mut CUgraphExecUpdateResultInfo,
) -> CUresult {
    if result_info.is_null() {
        return CUresult::INVALID_VALUE;
    }
    match update(graph_exec, graph) {
        Err(error) => {
            let result = UpdateResult {
                result: FAILED_UPDATE,
                node: CUgraphNode(0),
                from_node: CUgraphNode(0),
            };
            // SAFETY: the caller passes a place for it.
            unsafe { answer(result_info.cast(), Ok(result)) };
            error
        }
        Ok(result) => {
            // SAFETY: the caller passes a place for it.
            unsafe { answer(result_info.cast(), Ok(result)) };
            if result.result == UPDATED {
                CUresult::SUCCESS
            } else {
                CUresult::GRAPH_EXEC_UPDATE_FAILURE
            }
        }
    }
}

pub(crate) unsafe fn cuGraphExecUpdate(
    graph_exec: CUgraphExec,
    graph: CUgraph,
    error_node_out: *mut CUgraphNode,
    update_result_out: *mut CUgraphExecUpdateResult,
) -> CUresult {
    let mut result = UpdateResult {
        result: UPDATED,
        node: CUgraphNode(0),
        from_node: CUgraphNode(0),
    };
    // SAFETY: the result is a local; the caller passes places for a node and a result.
    unsafe {
        let code = cuGraphExecUpdate_v2(graph_exec, graph, (&raw mut result).cast());
        answer_if_asked(error_node_out, result.node);
        answer_if_asked(update_result_out, result.result);
        code
    }
}

pub(crate) unsafe fn cuGraphExecBatchMemOpNodeSetParams(
    graph_exec: CUgraphExec,
    node: CUgraphNode,
    node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the caller passes parameters.
    change(graph_exec, node, |maker, _| unsafe {
        maker.memory(node_params)
    })
}
