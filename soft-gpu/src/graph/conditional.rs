//! Conditions, and the nodes whose bodies they choose.
//!
//! ```text
//! a graph's handle: a word of device memory ──cudaGraphSetConditional──▶ a value ──the launch comes to the node──▶ a body, once or again, or none
//! ```
//!
//! The handle is the word's address, so a kernel sets a condition by a store: that is all that the function of the device runtime does here.
//!
//! *Rules:* a default is assigned whenever the graph for which the handle was made begins. A condition is of one node at a time, in the graph of
//! its handle or in a body within it. Bodies belong to their node and to what was instantiated of it, whichever is longer there.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

use core::ffi::c_uint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driver_api::abi::{CUcontext, CUgraph, CUgraphConditionalHandle, CUgraphNodeParams, CUresult};
use driver_api::graph_layout::{AnyParameters, ConditionalParameters, condition};

use super::events::Events;
use super::find;
use super::node::given;
use super::object::{Body, Graph, Nested};
use crate::context::{Context, Fate, current};
use crate::entry::answer;
use crate::state::driver;

/// Bytes of a condition.
const WORD: u64 = 4;

/// A condition.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Of the word: the handle.
    address: u64,
    /// The region's.
    id: u64,
    device: usize,
    context: usize,
    fate: Arc<Fate>,
    default: Option<u32>,
    /// There is a node of it.
    is_taken: AtomicBool,
}

impl Condition {
    fn new(context: &Context, default: Option<u32>) -> Result<Self, CUresult> {
        let driver = driver()?;
        let address = driver.memory.allocate(driver, context, WORD)?;
        let condition = Self {
            address,
            id: driver.memory.plain_at(address)?,
            device: context.device,
            context: context.handle,
            fate: Arc::clone(&context.fate),
            default,
            is_taken: AtomicBool::new(false),
        };
        condition.set(default.unwrap_or(0))?;
        Ok(condition)
    }

    pub(super) fn handle(&self) -> CUgraphConditionalHandle {
        self.address
    }

    pub(super) fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Relaxed)
    }

    fn set(&self, value: u32) -> Result<(), CUresult> {
        let is_set = driver()?.memory.set_word(self.address, self.id, value);
        is_set.then_some(()).ok_or(CUresult::ILLEGAL_ADDRESS)
    }

    fn value(&self) -> Result<u32, CUresult> {
        let value = driver()?.memory.word(self.address, self.id);
        value.ok_or(CUresult::ILLEGAL_ADDRESS)
    }

    /// The graph that it was made for begins.
    pub(super) fn begin(&self) -> Result<(), CUresult> {
        self.default.map_or(Ok(()), |value| self.set(value))
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        if let Ok(driver) = driver() {
            // Something that runs may touch it still.
            crate::pool::hold(driver, self.device, (self.address, self.id));
        }
    }
}

/// What a node with a condition is.
#[derive(Debug)]
pub(crate) struct Conditional {
    condition: Arc<Condition>,
    kind: c_uint,
    bodies: Vec<Arc<Nested>>,
    /// The bodies' handles, where the program was told that they are.
    handles: Box<[CUgraph]>,
}

impl Conditional {
    /// A node of `graph`'s.
    fn new(graph: &Arc<Graph>, parameters: &ConditionalParameters) -> Result<Arc<Self>, CUresult> {
        let condition = graph.condition(parameters.handle);
        let condition = condition.ok_or(CUresult::INVALID_VALUE)?;
        let is_of_context = context_of(parameters.context)?.handle == condition.context;
        if !is_of_context || !condition::is_known(parameters.kind, parameters.size) {
            return Err(CUresult::INVALID_VALUE);
        }
        if condition.is_taken.swap(true, Ordering::Relaxed) {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut conditional = Self {
            condition,
            kind: parameters.kind,
            bodies: Vec::new(),
            handles: Box::default(),
        };
        for _ in 0..parameters.size {
            conditional.bodies.push(Nested::new(graph.body()?)?);
        }
        let handles = conditional.bodies.iter();
        conditional.handles = handles.map(|body| CUgraph(body.graph().handle)).collect();
        Ok(Arc::new(conditional))
    }

    pub(super) fn bodies(&self) -> &[Arc<Nested>] {
        &self.bodies
    }

    pub(super) fn take_bodies(&mut self) -> Vec<Arc<Nested>> {
        std::mem::take(&mut self.bodies)
    }

    /// Whether a launchable graph's node can become another: only what is in the bodies may change.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.handles.len() == other.handles.len()
    }

    pub(super) fn parameters(&self) -> ConditionalParameters {
        ConditionalParameters {
            handle: self.condition.handle(),
            kind: self.kind,
            size: self.handles.len() as c_uint,
            bodies: self.handles.as_ptr(),
            context: CUcontext(self.condition.context),
        }
    }

    /// For a person.
    pub(super) fn label(&self) -> String {
        condition::label(self.kind, self.condition.handle())
    }

    /// A launch has come to it.
    pub(super) fn perform(
        &self,
        bodies: &[Arc<Body>],
        events: &mut Events,
    ) -> Result<(), CUresult> {
        loop {
            let value = self.condition.value()?;
            let chosen = match (self.kind, value) {
                (condition::SWITCH, value) => value as usize,
                (_, 0) => 1,
                _ => 0,
            };
            let Some(body) = bodies.get(chosen) else {
                return Ok(());
            };
            body.perform(events)?;
            // In a context that has failed, a loop goes no further.
            if self.kind != condition::WHILE || self.condition.fate.is_over() {
                return Ok(());
            }
        }
    }
}

impl Drop for Conditional {
    fn drop(&mut self) {
        self.condition.is_taken.store(false, Ordering::Relaxed);
    }
}

/// The context of a handle, or the current one.
fn context_of(context: CUcontext) -> Result<Arc<Context>, CUresult> {
    match context.0 {
        0 => current(),
        _ => crate::context::find(context),
    }
}

/// Makes the node of `graph` that parameters describe, and tells its bodies in them.
///
/// # Safety
///
/// `parameters` points to the description of a node.
pub(super) unsafe fn described(
    graph: CUgraph,
    parameters: *mut CUgraphNodeParams,
) -> Result<Arc<Conditional>, CUresult> {
    let place = AnyParameters::place_of_kind(parameters).cast_mut();
    let place = place.cast::<ConditionalParameters>();
    // SAFETY: by contract.
    let mut parameters: ConditionalParameters = unsafe { given(place) }?;
    let conditional = Conditional::new(&find(graph)?, &parameters)?;
    parameters.bodies = conditional.handles.as_ptr();
    // SAFETY: by contract, and not null, since it was read.
    unsafe { place.write_unaligned(parameters) };
    Ok(conditional)
}

pub(crate) unsafe fn cuGraphConditionalHandleCreate(
    handle_out: *mut CUgraphConditionalHandle,
    graph: CUgraph,
    ctx: CUcontext,
    default_launch_value: c_uint,
    flags: c_uint,
) -> CUresult {
    let create = || {
        driver()?;
        // The reference knows no other answer here.
        let graph = find(graph).map_err(|_| CUresult::INVALID_VALUE)?;
        if flags & !condition::ASSIGN_DEFAULT != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let assigns = flags & condition::ASSIGN_DEFAULT != 0;
        let default = assigns.then_some(default_launch_value);
        graph.add_condition(Condition::new(&*context_of(ctx)?, default)?)
    };
    if handle_out.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(handle_out, create()) }
}
