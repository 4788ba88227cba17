//! Conditions: handles, and the nodes whose bodies they choose.
//!
//! ```text
//! handle ─asked─▶ the driver's own, of a graph at the server     node ─asked─▶ the driver's own, in that graph     instantiation ─asked─▶ all else
//! ```
//!
//! *Why asked:* a kernel is given the handle by value and tells the driver by it, so it is the driver's, and so is the node; the server keeps a graph
//! of the driver's with these alone, and fills it for what is to be launched. *What it costs:* one round trip for a handle, one for a node of a
//! condition, and what making a graph at the server costs ([`super::device`]) for each instantiation and for the first launch after a change.
//!
//! *Rules:* such a graph is never launched as calls: only the driver knows what was chosen. What the device does not do itself can be done before
//! or behind all that it does. A node, and the server's graph, end with the last graph or launchable graph that has them.
//!
//! # Safety
//! Structures are read, and answers written, where the program says, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "structures and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use driver_api::abi::{CUcontext, CUgraph, CUgraphConditionalHandle, CUgraphNodeParams, CUresult};
use driver_api::graph_layout::{AnyParameters, ConditionalParameters, condition};
use driver_api::wire::Request;
use driver_api::wire::request::{
    GpurunConditionMake, GpurunConditionalEnd, GpurunConditionalMake, GpurunConditionsEnd,
};

use super::lanes::Contexts;
use super::model::{Graph, check_for_conditions, find};
use super::node::{Maker, given};
use super::{Operation, answer};
use crate::context::{self, Context};
use crate::log;
use crate::session::{self, Session};

/// The server's graph that has conditions.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(super) id: u32,
    pub(super) context: u32,
}

impl Origin {
    pub(super) fn new(session: &Session, context: u32) -> Arc<Self> {
        Arc::new(Self {
            id: number(session),
            context,
        })
    }

    /// Tells the server that something has ended, unless it went with its context.
    fn end<R: Request>(&self, request: &R) {
        let Ok(session) = session::get() else {
            return;
        };
        let context = session.objects.contexts.get(self.context);
        if !context.is_some_and(|context| context.is_active()) {
            return;
        }
        if let Err(error) = session.post_in(self.context, |_| *request, &[]) {
            log::debug!("a graph with conditions is not ended: {error}");
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.end(&GpurunConditionsEnd::new(self.id));
    }
}

/// A name for the server, as graphs that it makes have them.
fn number(session: &Session) -> u32 {
    let sent = session.objects.graphs_sent.lock();
    let mut sent = sent.unwrap_or_else(PoisonError::into_inner);
    *sent += 1;
    *sent
}

/// A condition.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(super) handle: CUgraphConditionalHandle,
    context: u32,
    /// There is a node of it.
    is_taken: AtomicBool,
}

/// Whether each condition has its node.
pub(super) fn check_used(conditions: &[Arc<Condition>]) -> Result<(), CUresult> {
    let are_used = conditions
        .iter()
        .all(|condition| condition.is_taken.load(Relaxed));
    are_used.then_some(()).ok_or(CUresult::INVALID_VALUE)
}

/// What a node with a condition is.
#[derive(Debug)]
pub(crate) struct Conditional {
    pub(super) origin: Arc<Origin>,
    /// The node at the server.
    pub(super) node: u32,
    pub(super) condition: Arc<Condition>,
    kind: c_uint,
    pub(super) bodies: Vec<Arc<Graph>>,
    /// The bodies' handles, where the program was told that they are.
    handles: Box<[CUgraph]>,
}

impl Conditional {
    fn new(
        maker: &Maker,
        graph: &Arc<Graph>,
        parameters: &ConditionalParameters,
    ) -> Result<Arc<Self>, CUresult> {
        let session = maker.session;
        let condition = graph.condition(parameters.handle);
        let condition = condition.ok_or(CUresult::INVALID_VALUE)?;
        let context = match parameters.context.0 {
            0 => maker.context,
            _ => context::of(parameters.context)?.id,
        };
        if context != condition.context || !condition::is_known(parameters.kind, parameters.size) {
            return Err(CUresult::INVALID_VALUE);
        }
        let (origin, place) = graph.origin(session, context)?;
        if condition.is_taken.swap(true, Relaxed) {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut conditional = Self {
            origin: Arc::clone(&origin),
            node: number(session),
            condition,
            kind: parameters.kind,
            bodies: Vec::new(),
            handles: Box::default(),
        };
        let request = GpurunConditionalMake::new(
            origin.id,
            place.0,
            place.1,
            conditional.node,
            parameters.handle,
            parameters.kind,
            parameters.size,
        );
        session.ask_in(context, &request, &[])?;
        for index in 0..parameters.size {
            let place = (conditional.node, index);
            let body = graph.body(session, &origin, place)?;
            conditional.bodies.push(body);
        }
        let handles = conditional.bodies.iter();
        conditional.handles = handles.map(|body| body.handle()).collect();
        Ok(Arc::new(conditional))
    }

    pub(super) fn context(&self) -> u32 {
        self.condition.context
    }

    /// Whether a launchable graph's node can become another: only what is in the bodies may change.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.handles.len() == other.handles.len()
    }

    pub(super) fn parameters(&self) -> ConditionalParameters {
        ConditionalParameters {
            handle: self.condition.handle,
            kind: self.kind,
            size: self.handles.len() as c_uint,
            bodies: self.handles.as_ptr(),
            context: crate::handles::Handle::dress(self.condition.context),
        }
    }

    /// What `dot` writes on the node.
    pub(super) fn label(&self, flags: c_uint) -> String {
        /// `CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE` and `…_CONDITIONAL_NODE_PARAMS`.
        const WITH_CONDITION: c_uint = 1 | 1 << 15;
        if flags & WITH_CONDITION == 0 {
            return "conditional".to_owned();
        }
        condition::label(self.kind, self.condition.handle)
    }
}

impl Drop for Conditional {
    fn drop(&mut self) {
        self.condition.is_taken.store(false, Relaxed);
        // What is in its bodies ends with it there.
        self.origin
            .end(&GpurunConditionalEnd::new(self.origin.id, self.node));
    }
}

/// Makes the node of `graph` that parameters describe, and tells its bodies in them.
///
/// # Safety
/// `parameters` points to the description of a node.
pub(super) unsafe fn described(
    maker: &Maker,
    graph: CUgraph,
    parameters: *mut CUgraphNodeParams,
) -> Result<Operation, CUresult> {
    let place = AnyParameters::place_of_kind(parameters).cast_mut();
    let place = place.cast::<ConditionalParameters>();
    // SAFETY: the caller's promise.
    let mut parameters: ConditionalParameters = unsafe { given(place) }?;
    let conditional = Conditional::new(maker, &find(graph)?, &parameters)?;
    parameters.bodies = conditional.handles.as_ptr();
    // SAFETY: the caller's promise, and not null, since it was read.
    unsafe { place.write_unaligned(parameters) };
    Ok(Operation::Conditional(conditional))
}

fn create(
    graph: CUgraph,
    ctx: CUcontext,
    default_launch_value: c_uint,
    flags: c_uint,
) -> Result<CUgraphConditionalHandle, CUresult> {
    let (session, current) = session::current()?;
    // The reference knows no other answer here.
    let graph = find(graph).map_err(|_| CUresult::INVALID_VALUE)?;
    let context: Arc<Context> = match ctx.0 {
        0 => current,
        _ => context::of(ctx)?,
    };
    if flags & !condition::ASSIGN_DEFAULT != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    check_for_conditions(graph.contexts().and(Contexts::One(context.id)))?;
    let (origin, (node, body)) = graph.origin(session, context.id)?;
    let request = GpurunConditionMake::new(origin.id, node, body, default_launch_value, flags);
    let made = session.ask_in(context.id, &request, &[]);
    let handle = made.inspect_err(|error| {
        if *error == CUresult::NOT_SUPPORTED {
            log::warn_once(
                "conditions of graphs",
                format_args!(
                    "the server's driver has no conditions in graphs: they came with CUDA 12.4"
                ),
            );
        }
    })?;
    let handle = handle.handle();
    graph.add_condition(Condition {
        handle,
        context: context.id,
        is_taken: AtomicBool::new(false),
    });
    Ok(handle)
}

pub(crate) unsafe fn cuGraphConditionalHandleCreate(
    handle_out: *mut CUgraphConditionalHandle,
    graph: CUgraph,
    ctx: CUcontext,
    default_launch_value: c_uint,
    flags: c_uint,
) -> CUresult {
    if handle_out.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle_out, create(graph, ctx, default_launch_value, flags)) }
}
