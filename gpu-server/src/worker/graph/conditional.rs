//! Graphs with conditions: what of them is always at the driver, and how the rest is filled in.
//!
//! ```text
//! a condition's first handle ─▶ graph, empty ─▶ its nodes with conditions, and their bodies, empty ─┬─ a list: filled, instantiated, emptied ─▶ launchable
//!                                                                                                   └─ another list …
//! ```
//!
//! *Why:* kernels are given a condition's handle by value, so it has to be the driver's own, and the driver's is of one graph and of one node there. So these
//! two are made when the program makes them, and end when they end there; everything else comes with the list of what is to be launchable, and goes
//! again once that is made.
//!
//! *Rules:* names, handles and places are those of this graph, or refused; how deep bodies are and how many there are is bounded. A list names each node
//! of the graph once, in the place where it was made.
//!
//! # Safety
//! Handles come from the driver through this module; parameters and arrays are locals, as long as the counts say; the driver's array of bodies has as many as
//! the node was made with.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::{CUgraph, CUgraphNode};
use driver_api::graph_layout::{AnyParameters, ConditionalParameters, condition};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};

use crate::driver::cuda;
use crate::worker::call::{Call, CallError};
use crate::worker::context::Context;
use crate::worker::end::lock;
use crate::worker::session::Session;
use crate::worker::table::{MAX_GRAPHS, Table};

/// Deepest nesting of bodies.
const MAX_DEPTH: u32 = 64;
/// Most handles, nodes and bodies of a session.
const MAX_PIECES: usize = 256 << 10;

/// The graphs of a session that have conditions.
pub(crate) struct Conditions {
    graphs: Table<Arc<Conditioned>>,
    pieces: Arc<AtomicUsize>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            graphs: Table::new(MAX_GRAPHS),
            pieces: Arc::default(),
        }
    }
}

/// So many pieces, as long as this is there.
struct Pieces {
    all: Arc<AtomicUsize>,
    count: usize,
}

impl Conditions {
    fn take(&self, count: usize) -> Result<Pieces, CUresult> {
        let pieces = Pieces {
            all: Arc::clone(&self.pieces),
            count,
        };
        let before = self.pieces.fetch_add(count, Ordering::Relaxed);
        match before + count > MAX_PIECES {
            true => Err(CUresult::OUT_OF_MEMORY),
            false => Ok(pieces),
        }
    }

    /// A graph of the current context.
    pub(super) fn of(&self, call: &Call<'_>, within: u32) -> Result<Arc<Conditioned>, CUresult> {
        let graph = self.graphs.get(within).ok_or(CUresult::INVALID_HANDLE)?;
        match call.context()?.serial == graph.context.serial {
            true => Ok(graph),
            false => Err(CUresult::INVALID_CONTEXT),
        }
    }

    /// Ends those of a context that ends; it is current.
    pub(super) fn end_all(&self, session: &Session, serial: u64) {
        for graph in self.graphs.all() {
            if graph.context.serial == serial
                && let Err(error) = lock(&graph.state).end(session.driver)
            {
                tracing::warn!("a graph with conditions does not end with its context: {error}");
            }
        }
        self.graphs.retain(|graph| graph.context.serial != serial);
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// A graph that has conditions.
pub(crate) struct Conditioned {
    context: Arc<Context>,
    pub(super) state: Mutex<State>,
}

/// What of it is always there.
pub(super) struct State {
    /// Nothing once it is destroyed, or where it could not be emptied again.
    pub(super) graph: Option<CUgraph>,
    handles: HashMap<u64, Pieces>,
    pub(super) nodes: HashMap<u32, Conditional>,
}

/// A node with a condition.
pub(super) struct Conditional {
    node: CUgraphNode,
    handle: u64,
    /// The node and the body that it is in, or nothing.
    place: (u32, u32),
    depth: u32,
    bodies: Vec<CUgraph>,
    _pieces: Pieces,
}

impl State {
    fn end(&mut self, driver: &Driver) -> Result<(), CUresult> {
        self.nodes.clear();
        self.handles.clear();
        match self.graph.take() {
            Some(graph) => cuda!(driver, cuGraphDestroy(graph)),
            None => Ok(()),
        }
    }

    /// The graph of a place, and how deep it is.
    fn graph_of(&self, (node, body): (u32, u32)) -> Result<(CUgraph, u32), CUresult> {
        if node == 0 {
            return Ok((self.graph.ok_or(CUresult::INVALID_HANDLE)?, 0));
        }
        let around = self.nodes.get(&node).ok_or(CUresult::INVALID_HANDLE)?;
        let graph = around.bodies.get(body as usize);
        Ok((*graph.ok_or(CUresult::INVALID_VALUE)?, around.depth + 1))
    }

    /// Takes a node out, and those in its bodies.
    fn remove(&mut self, name: u32) -> Option<Conditional> {
        let gone = self.nodes.remove(&name)?;
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            let is_inside = |(_, node): &(&u32, &Conditional)| node.place.0 == name;
            let inside = self.nodes.iter().filter(is_inside);
            let inside: Vec<u32> = inside.map(|(name, _)| *name).collect();
            inside.iter().for_each(|name| drop(self.nodes.remove(name)));
            open.extend(inside);
        }
        Some(gone)
    }
}

/// The driver's answer to a request for a handle.
pub(crate) fn gpurunConditionMake(
    call: &mut Call<'_>,
    request: &request::GpurunConditionMake,
) -> Result<(), CallError> {
    let (conditions, driver) = (&call.session.graphs.conditions, call.driver());
    if driver.cuGraphConditionalHandleCreate.is_none() {
        return Err(CUresult::NOT_SUPPORTED.into());
    }
    let pieces = conditions.take(1)?;
    let within = request.within();
    let known = conditions.graphs.get(within).is_some();
    let graph = match known {
        true => conditions.of(call, within)?,
        false => begin(call, within)?,
    };
    let made = {
        let mut state = lock(&graph.state);
        let place = (request.node(), request.body());
        state.graph_of(place).and_then(|(of, _)| {
            let (context, mut handle) = (graph.context.handle(), 0);
            let (value, flags) = (request.default_launch_value(), request.flags());
            cuda!(
                driver,
                cuGraphConditionalHandleCreate(&mut handle, of, context, value, flags)
            )?;
            state.handles.insert(handle, pieces);
            Ok(handle)
        })
    };
    if made.is_err() && !known {
        conditions.graphs.remove(within);
        lock(&graph.state).end(driver)?;
    }
    call.reply(&reply::GpurunConditionMake::new(made?));
    Ok(())
}

/// The graph of the first handle.
fn begin(call: &Call<'_>, within: u32) -> Result<Arc<Conditioned>, CUresult> {
    let (graphs, driver) = (&call.session.graphs.conditions.graphs, call.driver());
    if within == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    graphs.check_free(within)?;
    let context = Arc::clone(call.context()?);
    let mut graph = CUgraph(0);
    cuda!(driver, cuGraphCreate(&mut graph, 0))?;
    let state = State {
        graph: Some(graph),
        handles: HashMap::new(),
        nodes: HashMap::new(),
    };
    let made = Arc::new(Conditioned {
        context,
        state: Mutex::new(state),
    });
    if let Err(error) = graphs.insert(within, Arc::clone(&made)) {
        lock(&made.state).end(driver)?;
        return Err(error);
    }
    Ok(made)
}

/// Makes a node, without anything before it or in its bodies.
pub(crate) fn gpurunConditionalMake(
    call: &mut Call<'_>,
    request: &request::GpurunConditionalMake,
) -> Result<(), CallError> {
    let conditions = &call.session.graphs.conditions;
    let graph = conditions.of(call, request.within())?;
    let (name, handle, kind, size) = (
        request.node(),
        request.handle(),
        request.kind(),
        request.size(),
    );
    let mut state = lock(&graph.state);
    let place = (request.around(), request.body());
    let (of, depth) = state.graph_of(place)?;
    let is_taken = state.nodes.values().any(|node| node.handle == handle);
    let is_good = name != 0
        && !state.nodes.contains_key(&name)
        && state.handles.contains_key(&handle)
        && !is_taken
        && condition::is_known(kind, size)
        && depth <= MAX_DEPTH;
    if !is_good {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let pieces = conditions.take(1 + size as usize)?;
    let mut parameters = AnyParameters::of_condition(ConditionalParameters {
        handle,
        kind,
        size,
        bodies: std::ptr::null(),
        context: graph.context.handle(),
    });
    let (driver, mut node) = (call.driver(), CUgraphNode(0));
    let place_of_parameters = (&raw mut parameters).cast();
    cuda!(
        driver,
        cuGraphAddNode_v2(
            &mut node,
            of,
            std::ptr::null(),
            std::ptr::null(),
            0,
            place_of_parameters
        )
    )?;
    let bodies = parameters.conditional().bodies;
    if bodies.is_null() {
        cuda!(driver, cuGraphDestroyNode(node))?;
        return Err(CUresult::UNKNOWN.into());
    }
    let body = |index: usize| {
        // SAFETY: a success has told an array of so many.
        unsafe { bodies.add(index).read() }
    };
    let made = Conditional {
        node,
        handle,
        place,
        depth,
        bodies: (0..size as usize).map(body).collect(),
        _pieces: pieces,
    };
    state.nodes.insert(name, made);
    Ok(())
}

/// The end of a node.
pub(crate) fn gpurunConditionalEnd(
    call: &mut Call<'_>,
    request: &request::GpurunConditionalEnd,
) -> Result<(), CallError> {
    let graphs = &call.session.graphs.conditions.graphs;
    // One whose graph, or the node around it, has ended is gone already.
    if let Some(graph) = graphs.get(request.within())
        && let Some(gone) = lock(&graph.state).remove(request.node())
    {
        cuda!(call.driver(), cuGraphDestroyNode(gone.node))?;
    }
    Ok(())
}

/// The end of a graph.
pub(crate) fn gpurunConditionsEnd(
    call: &mut Call<'_>,
    request: &request::GpurunConditionsEnd,
) -> Result<(), CallError> {
    let graphs = &call.session.graphs.conditions.graphs;
    if let Some(graph) = graphs.remove(request.within()) {
        lock(&graph.state).end(call.driver())?;
    }
    Ok(())
}

/// A graph that is being filled, and how it is emptied again.
pub(super) struct Filling<'a> {
    nodes: &'a HashMap<u32, Conditional>,
    /// The same nodes by the driver's handles.
    handles: HashSet<usize>,
    named: HashSet<u32>,
    added: Vec<CUgraphNode>,
    edges: Vec<(CUgraph, CUgraphNode, CUgraphNode)>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(nodes: &'a HashMap<u32, Conditional>) -> Self {
        Self {
            nodes,
            handles: nodes.values().map(|node| node.node.0).collect(),
            named: HashSet::new(),
            added: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// A node without a condition was added.
    pub(super) fn add(&mut self, node: CUgraphNode) {
        self.added.push(node);
    }

    /// Puts a node that is there behind others, in the graph of `place`, and gives its bodies.
    ///
    /// # Errors
    /// It is not there, or was named before.
    pub(super) fn name(
        &mut self,
        driver: &Driver,
        graph: CUgraph,
        place: (u32, u32),
        name: u32,
        after: &[CUgraphNode],
    ) -> Result<(CUgraphNode, &'a [CUgraph]), CUresult> {
        let found = self.nodes.get(&name).filter(|node| node.place == place);
        let node = found.ok_or(CUresult::INVALID_VALUE)?;
        if !self.named.insert(name) {
            return Err(CUresult::INVALID_VALUE);
        }
        let to = vec![node.node; after.len()];
        if !after.is_empty() {
            cuda!(
                driver,
                cuGraphAddDependencies(graph, after.as_ptr(), to.as_ptr(), to.len())
            )?;
        }
        // Others go with the nodes that they come from.
        let between = after.iter().filter(|from| self.handles.contains(&from.0));
        let between = between.map(|from| (graph, *from, node.node));
        self.edges.extend(between);
        Ok((node.node, &node.bodies))
    }

    /// Whether all nodes were named: what is instantiated has all of them.
    pub(super) fn check_whole(&self) -> Result<(), CUresult> {
        let is_whole = self.named.len() == self.nodes.len();
        is_whole.then_some(()).ok_or(CUresult::NOT_SUPPORTED)
    }

    /// Takes everything out that was put in.
    pub(super) fn empty(self, driver: &Driver) -> Result<(), CUresult> {
        for (graph, from, to) in &self.edges {
            cuda!(driver, cuGraphRemoveDependencies(*graph, from, to, 1))?;
        }
        for node in self.added.iter().rev() {
            cuda!(driver, cuGraphDestroyNode(*node))?;
        }
        Ok(())
    }
}
