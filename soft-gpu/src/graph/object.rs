//! What graphs and their nodes are, and what a launch does.
//!
//! Rules: graphs in graphs are walked as deep and as wide as [`MAX_DEPTH`] and [`MAX_NODES`] allow; each may hold more than one copy of the
//! next, so that what is few calls for the program is many nodes. They end without recursion, since nothing bounds how deep a program nests
//! them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use driver_api::abi::{CUgraphConditionalHandle, CUresult};

use super::events::Events;
use super::{Condition, UserReference};
use crate::context::unique_id;
use crate::state::driver;
use crate::stream::{Operation, Point};
use crate::threads::lock;

/// Deepest nesting of graphs in graphs that are copied or launched.
const MAX_DEPTH: u32 = 64;
/// Most nodes, with those of graphs in graphs, that are copied or launched.
const MAX_NODES: usize = 1 << 18;

/// A graph that can be changed.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) handle: usize,
    pub(crate) id: u64,
    /// Of a condition's body, the graph that its node is in.
    around: Option<Weak<Graph>>,
    /// Of a body, how deep in others it is.
    depth: u32,
    /// A node has it.
    is_nested: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By handle, which is the order in which they were made.
    nodes: BTreeMap<usize, Node>,
    /// Of a clone, its nodes by those of the original.
    originals: HashMap<usize, usize>,
    references: Vec<Arc<UserReference>>,
    /// In the order in which their handles were made.
    conditions: Vec<Arc<Condition>>,
    /// What was made of it last.
    instance: Weak<Exec>,
}

impl State {
    fn has_memory(&self) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| node.operation.is_of_memory())
    }

    /// Whether nodes and edges may go.
    fn check_no_memory(&self) -> Result<(), CUresult> {
        let has_none = !self.has_memory();
        has_none.then_some(()).ok_or(CUresult::NOT_SUPPORTED)
    }

    /// Whether there may be another of it: what has memory or conditions of its own is there once.
    fn check_repeatable(&self) -> Result<(), CUresult> {
        self.check_no_memory()?;
        let mut nodes = self.nodes.values();
        let has_one = nodes.any(|node| matches!(node.operation, Operation::Conditional(_)));
        match has_one || !self.conditions.is_empty() {
            true => Err(CUresult::NOT_SUPPORTED),
            false => Ok(()),
        }
    }
}

/// A node of a graph.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) operation: Operation,
    /// The nodes that come before it.
    pub(crate) dependencies: Vec<usize>,
}

/// Finds the graph of a node's handle.
#[derive(Debug)]
pub(crate) struct NodeEntry {
    graph: Weak<Graph>,
}

/// The graph that a node has for itself. Its handle is known as long as the node, or a launchable graph that was made of it, is there.
#[derive(Debug)]
pub(crate) struct Nested(Arc<Graph>);

impl Nested {
    pub(crate) fn new(graph: Arc<Graph>) -> Result<Arc<Self>, CUresult> {
        graph.is_nested.store(true, Ordering::Relaxed);
        graph.register()?;
        Ok(Arc::new(Self(graph)))
    }

    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.0
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        if let Ok(driver) = driver() {
            let _ = driver.graphs.remove(self.0.handle);
        }
    }
}

/// How much of a graph in graphs may still be walked.
struct Room {
    nodes: usize,
}

impl Room {
    fn new() -> Self {
        Self { nodes: MAX_NODES }
    }

    /// Enters a graph of `nodes` nodes.
    fn enter(&mut self, depth: u32, nodes: usize) -> Result<(), CUresult> {
        if depth > MAX_DEPTH {
            return Err(CUresult::INVALID_VALUE);
        }
        let left = self.nodes.checked_sub(nodes);
        self.nodes = left.ok_or(CUresult::OUT_OF_MEMORY)?;
        Ok(())
    }
}

/// The graph that a node is in.
pub(crate) fn graph_of(node: usize) -> Result<Arc<Graph>, CUresult> {
    let entry = driver()?.graph_nodes.get(node)?;
    entry.graph.upgrade().ok_or(CUresult::INVALID_HANDLE)
}

impl Graph {
    /// An empty graph that nobody finds yet.
    pub(crate) fn new() -> Result<Arc<Self>, CUresult> {
        Self::within(None, 0)
    }

    fn within(around: Option<Weak<Self>>, depth: u32) -> Result<Arc<Self>, CUresult> {
        Ok(Arc::new(Self {
            handle: driver()?.graphs.reserve(),
            id: unique_id(),
            around,
            depth,
            is_nested: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// An empty graph that is a body of one of this graph's nodes.
    pub(super) fn body(self: &Arc<Self>) -> Result<Arc<Self>, CUresult> {
        if self.depth >= MAX_DEPTH {
            return Err(CUresult::INVALID_VALUE);
        }
        Self::within(Some(Arc::downgrade(self)), self.depth + 1)
    }

    /// Whether a node has it, and ends it.
    pub(super) fn is_nested(&self) -> bool {
        self.is_nested.load(Ordering::Relaxed)
    }

    pub(super) fn is_body(&self) -> bool {
        self.around.is_some()
    }

    /// Takes in a condition, and gives its handle.
    ///
    /// # Errors
    ///
    /// Another graph has a copy of this one as a child, where no conditions may be.
    pub(super) fn add_condition(
        &self,
        condition: Condition,
    ) -> Result<CUgraphConditionalHandle, CUresult> {
        if self.is_nested() && !self.is_body() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let handle = condition.handle();
        self.lock().conditions.push(Arc::new(condition));
        Ok(handle)
    }

    /// The condition of a handle that was made for this graph, or for one that it is a body in.
    pub(super) fn condition(&self, handle: CUgraphConditionalHandle) -> Option<Arc<Condition>> {
        let is_it = |condition: &&Arc<Condition>| condition.handle() == handle;
        let own = self.lock().conditions.iter().find(is_it).cloned();
        own.or_else(|| self.around.as_ref()?.upgrade()?.condition(handle))
    }

    pub(crate) fn conditions(&self) -> Vec<Arc<Condition>> {
        self.lock().conditions.clone()
    }

    /// Makes the graph known by its handle.
    pub(crate) fn register(self: &Arc<Self>) -> Result<usize, CUresult> {
        driver()?.graphs.insert(self.handle, Arc::clone(self));
        Ok(self.handle)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// All nodes, in the order in which they were made.
    pub(crate) fn nodes(&self) -> BTreeMap<usize, Node> {
        self.lock().nodes.clone()
    }

    pub(crate) fn node(&self, node: usize) -> Result<Node, CUresult> {
        let found = self.lock().nodes.get(&node).cloned();
        found.ok_or(CUresult::INVALID_HANDLE)
    }

    /// Whether all of `nodes` are in the graph, and none twice.
    pub(crate) fn check_nodes(&self, nodes: &[usize]) -> Result<(), CUresult> {
        let state = self.lock();
        let once: BTreeSet<&usize> = nodes.iter().collect();
        let known = nodes.iter().all(|node| state.nodes.contains_key(node));
        if known && once.len() == nodes.len() {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }

    /// Adds a node behind others, and gives its handle.
    pub(crate) fn add(
        self: &Arc<Self>,
        operation: Operation,
        dependencies: &[usize],
    ) -> Result<usize, CUresult> {
        self.check_nodes(dependencies)?;
        // Memory of its own is captured there too, and makes a graph that cannot be instantiated.
        if self.is_body() && !operation.is_of_memory() {
            operation.check_in_body()?;
        }
        let nodes = &driver()?.graph_nodes;
        let handle = nodes.reserve();
        let graph = Arc::downgrade(self);
        nodes.insert(handle, Arc::new(NodeEntry { graph }));
        let node = Node {
            operation,
            dependencies: dependencies.to_vec(),
        };
        self.lock().nodes.insert(handle, node);
        Ok(handle)
    }

    /// Gives a node something else to do, of the same kind.
    pub(crate) fn set(&self, node: usize, operation: Operation) -> Result<(), CUresult> {
        let mut state = self.lock();
        let node = state.nodes.get_mut(&node).ok_or(CUresult::INVALID_HANDLE)?;
        if node.operation.kind() != operation.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        node.operation = operation;
        Ok(())
    }

    /// Removes a node and the edges at it.
    pub(crate) fn remove(&self, node: usize) -> Result<(), CUresult> {
        let mut state = self.lock();
        state.check_no_memory()?;
        state.nodes.remove(&node).ok_or(CUresult::INVALID_HANDLE)?;
        for other in state.nodes.values_mut() {
            other.dependencies.retain(|dependency| *dependency != node);
        }
        drop(state);
        driver()?.graph_nodes.remove(node).map(drop)
    }

    /// Adds edges, or takes them away; all or none.
    pub(crate) fn connect(&self, edges: &[(usize, usize)], add: bool) -> Result<(), CUresult> {
        let mut state = self.lock();
        if !add {
            state.check_no_memory()?;
        }
        let nodes = &mut state.nodes;
        let mut before = HashMap::new();
        let mut connect = |(from, to): (usize, usize)| {
            if !nodes.contains_key(&from) || from == to {
                return Err(CUresult::INVALID_VALUE);
            }
            let node = nodes.get_mut(&to).ok_or(CUresult::INVALID_VALUE)?;
            before
                .entry(to)
                .or_insert_with(|| node.dependencies.clone());
            let known = node.dependencies.iter().position(|other| *other == from);
            match (known, add) {
                (None, true) => node.dependencies.push(from),
                (Some(index), false) => drop(node.dependencies.remove(index)),
                _ => return Err(CUresult::INVALID_VALUE),
            }
            Ok(())
        };
        let connected = edges.iter().try_for_each(|edge| connect(*edge));
        if connected.is_err() {
            for (to, dependencies) in before {
                if let Some(node) = nodes.get_mut(&to) {
                    node.dependencies = dependencies;
                }
            }
        }
        connected
    }

    /// `nodes` and everything before them.
    pub(crate) fn ancestors(&self, nodes: &[usize]) -> BTreeSet<usize> {
        let state = self.lock();
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let mut open = nodes.to_vec();
        while let Some(node) = open.pop() {
            if found.insert(node)
                && let Some(node) = state.nodes.get(&node)
            {
                open.extend(&node.dependencies);
            }
        }
        found
    }

    /// A graph with the same nodes, and graphs in it copied too.
    pub(crate) fn duplicate(&self) -> Result<Arc<Self>, CUresult> {
        self.duplicate_in(&mut Room::new(), 0)
    }

    fn duplicate_in(&self, room: &mut Room, depth: u32) -> Result<Arc<Self>, CUresult> {
        let (nodes, references) = {
            let state = self.lock();
            state.check_repeatable()?;
            room.enter(depth, state.nodes.len())?;
            (state.nodes.clone(), state.references.clone())
        };
        let copy = Self::new()?;
        let entries = &driver()?.graph_nodes;
        // Edges may lead to nodes that were made later.
        let own = nodes.keys().map(|&node| (node, entries.reserve()));
        let originals: HashMap<usize, usize> = own.collect();
        let own = |node: &usize| originals.get(node).copied();
        let mut copied = BTreeMap::new();
        for (
            node,
            Node {
                operation,
                dependencies,
            },
        ) in &nodes
        {
            let operation = match operation {
                Operation::Child(nested) => {
                    let graph = nested.graph().duplicate_in(room, depth + 1)?;
                    Operation::Child(Nested::new(graph)?)
                }
                other => other.clone(),
            };
            let node = own(node).ok_or(CUresult::UNKNOWN)?;
            let dependencies = dependencies.iter().filter_map(own).collect();
            copied.insert(
                node,
                Node {
                    operation,
                    dependencies,
                },
            );
        }
        for &node in copied.keys() {
            let graph = Arc::downgrade(&copy);
            entries.insert(node, Arc::new(NodeEntry { graph }));
        }
        *copy.lock() = State {
            nodes: copied,
            originals,
            references,
            conditions: Vec::new(),
            instance: Weak::new(),
        };
        Ok(copy)
    }

    /// The node of a clone that was `original`.
    pub(crate) fn clone_of(&self, original: usize) -> Result<usize, CUresult> {
        let state = self.lock();
        let found = state.originals.get(&original).copied();
        found
            .filter(|node| state.nodes.contains_key(node))
            .ok_or(CUresult::INVALID_VALUE)
    }

    pub(crate) fn keep(&self, references: impl IntoIterator<Item = Arc<UserReference>>) {
        self.lock().references.extend(references);
    }

    /// Notes what was made of it. Of a graph that allocates, or has conditions, there may be only one at a time.
    pub(crate) fn instantiated(&self, exec: &Arc<Exec>) -> Result<(), CUresult> {
        let mut state = self.lock();
        if state.instance.strong_count() > 0 {
            state.check_repeatable()?;
        }
        state.instance = Arc::downgrade(exec);
        Ok(())
    }

    pub(crate) fn references(&self) -> Vec<Arc<UserReference>> {
        self.lock().references.clone()
    }

    /// Gives up `count` references to a user's object. False if there are not so many.
    pub(crate) fn give_up(&self, object: usize, count: usize) -> bool {
        let mut state = self.lock();
        let is_it = |reference: &Arc<UserReference>| reference.handle() == object;
        if state.references.iter().filter(|one| is_it(one)).count() < count {
            return false;
        }
        let mut left = count;
        let (gone, kept) =
            std::mem::take(&mut state.references)
                .into_iter()
                .partition(|reference| {
                    let goes = left > 0 && is_it(reference);
                    left -= usize::from(goes);
                    goes
                });
        state.references = kept;
        drop(state);
        // Outside the lock: the last one calls the program.
        let _gone: Vec<_> = gone;
        true
    }
}

impl Graph {
    fn take_nested(&mut self) -> Vec<Arc<Nested>> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut nested = Vec::new();
        for node in state.nodes.values_mut() {
            if !matches!(
                node.operation,
                Operation::Child(_) | Operation::Conditional(_)
            ) {
                continue;
            }
            match std::mem::replace(&mut node.operation, Operation::Empty) {
                Operation::Child(graph) => nested.push(graph),
                Operation::Conditional(conditional) => {
                    // The last one who has it takes it apart, as below.
                    if let Some(mut conditional) = Arc::into_inner(conditional) {
                        nested.extend(conditional.take_bodies());
                    }
                }
                _ => {}
            }
        }
        nested
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let mut open = self.take_nested();
        while let Some(nested) = open.pop() {
            // The last one who has a graph takes it apart here, and leaves nothing in it that its own end would have to end.
            if let Some(nested) = Arc::into_inner(nested) {
                let graph = Arc::clone(&nested.0);
                drop(nested);
                if let Some(mut graph) = Arc::into_inner(graph) {
                    open.extend(graph.take_nested());
                }
            }
        }
        if let Ok(driver) = driver() {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            for node in state.nodes.keys() {
                let _ = driver.graph_nodes.remove(*node);
            }
        }
    }
}

/// All edges, by the nodes that they lead to.
pub(crate) fn edges(nodes: &BTreeMap<usize, Node>) -> Vec<(usize, usize)> {
    let to_node = |(&to, node): (&usize, &Node)| {
        let from = node.dependencies.clone();
        from.into_iter().map(move |from| (from, to))
    };
    nodes.iter().flat_map(to_node).collect()
}

/// One node of a graph that can be launched.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The node that it was made of.
    pub(crate) node: usize,
    pub(crate) operation: Operation,
    pub(crate) dependencies: Vec<usize>,
    pub(crate) is_enabled: bool,
    /// Of a graph in the graph, its steps.
    pub(super) child: Option<Arc<Vec<Step>>>,
    /// Of a condition, what it chooses from.
    pub(crate) bodies: Vec<Arc<Body>>,
}

/// A body of a condition.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    conditions: Vec<Arc<Condition>>,
    pub(crate) steps: Vec<Step>,
}

impl Body {
    fn new(graph: &Graph, room: &mut Room, depth: u32) -> Result<Self, CUresult> {
        let steps = steps_in(graph, room, depth)?;
        let conditions = graph.conditions();
        check_used(&conditions)?;
        let body = Self { conditions, steps };
        check_in_body(&body.steps).map(|()| body)
    }

    /// A launch has come to it.
    pub(super) fn perform(&self, events: &mut Events) -> Result<(), CUresult> {
        begin(&self.conditions)?;
        perform(&self.steps, events)
    }

    /// The same steps, in the same places, with what those of another body do.
    fn like(&self, other: &Self) -> Self {
        Self {
            conditions: other.conditions.clone(),
            steps: updated(&self.steps, &other.steps),
        }
    }
}

/// Whether a body may have the steps, also those of graphs in it.
fn check_in_body(steps: &[Step]) -> Result<(), CUresult> {
    steps.iter().try_for_each(|step| {
        step.operation.check_in_body()?;
        step.child
            .as_deref()
            .map_or(Ok(()), |child| check_in_body(child))
    })
}

/// Whether each condition has its node.
pub(super) fn check_used(conditions: &[Arc<Condition>]) -> Result<(), CUresult> {
    let are_used = conditions.iter().all(|condition| condition.is_taken());
    are_used.then_some(()).ok_or(CUresult::INVALID_VALUE)
}

/// Conditions begin with their defaults.
pub(super) fn begin(conditions: &[Arc<Condition>]) -> Result<(), CUresult> {
    conditions
        .iter()
        .try_for_each(|condition| condition.begin())
}

impl Step {
    fn new(
        node: usize,
        Node {
            operation,
            dependencies,
        }: Node,
        room: &mut Room,
        depth: u32,
    ) -> Result<Self, CUresult> {
        let (mut child, mut bodies) = (None, Vec::new());
        match &operation {
            Operation::Child(nested) => {
                child = Some(Arc::new(steps_in(nested.graph(), room, depth + 1)?));
            }
            Operation::Conditional(conditional) => {
                for body in conditional.bodies() {
                    bodies.push(Arc::new(Body::new(body.graph(), room, depth + 1)?));
                }
            }
            _ => {}
        }
        Ok(Self {
            node,
            operation,
            dependencies,
            is_enabled: true,
            child,
            bodies,
        })
    }

    /// The same place in the graph with another operation of the same kind.
    pub(crate) fn with(&self, operation: Operation) -> Result<Self, CUresult> {
        if operation.kind() != self.operation.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        let node = Node {
            operation,
            dependencies: self.dependencies.clone(),
        };
        let step = Self::new(self.node, node, &mut Room::new(), 0)?;
        Ok(Self {
            is_enabled: self.is_enabled,
            ..step
        })
    }

    /// The same place in the graph with what another step does.
    pub(crate) fn like(&self, other: &Self) -> Self {
        Self {
            node: self.node,
            operation: other.operation.clone(),
            dependencies: self.dependencies.clone(),
            is_enabled: self.is_enabled,
            child: other.child.clone(),
            bodies: self
                .bodies
                .iter()
                .zip(&other.bodies)
                .map(|(own, other)| Arc::new(own.like(other)))
                .collect(),
        }
    }
}

/// The step of a node, in these or in the bodies of their conditions.
pub(crate) fn find_step(steps: &[Step], node: usize) -> Option<&Step> {
    steps.iter().find_map(|step| {
        let in_bodies = || {
            step.bodies
                .iter()
                .find_map(|body| find_step(&body.steps, node))
        };
        match step.node == node {
            true => Some(step),
            false => in_bodies(),
        }
    })
}

/// The same, for a change: launches go on with what they have.
pub(crate) fn find_step_mut(steps: &mut [Step], node: usize) -> Option<&mut Step> {
    for step in steps {
        if step.node == node {
            return Some(step);
        }
        let mut bodies = step.bodies.iter_mut();
        let of_node = bodies.find(|body| find_step(&body.steps, node).is_some());
        if let Some(body) = of_node {
            return find_step_mut(&mut Arc::make_mut(body).steps, node);
        }
    }
    None
}

/// Steps in the order in which their nodes were made, and each node's place there.
pub(crate) fn in_order(steps: &[Step]) -> (Vec<&Step>, HashMap<usize, usize>) {
    let mut ordered: Vec<&Step> = steps.iter().collect();
    ordered.sort_unstable_by_key(|step| step.node);
    let places = ordered.iter().enumerate();
    let places = places.map(|(place, step)| (step.node, place)).collect();
    (ordered, places)
}

/// The steps with what those of another graph of the same shape do.
pub(crate) fn updated(own: &[Step], other: &[Step]) -> Vec<Step> {
    let (places, others) = (in_order(own).1, in_order(other).0);
    let changed = own.iter().map(|step| {
        let theirs = places.get(&step.node).and_then(|&place| others.get(place));
        theirs.map_or_else(|| step.clone(), |theirs| step.like(theirs))
    });
    changed.collect()
}

/// The nodes of a graph in an order in which they can be done. Those that could be done at the same time follow each other as they were
/// made: a kernel has the whole pool to itself anyway.
pub(crate) fn steps(graph: &Graph) -> Result<Vec<Step>, CUresult> {
    steps_in(graph, &mut Room::new(), 0)
}

fn steps_in(graph: &Graph, room: &mut Room, depth: u32) -> Result<Vec<Step>, CUresult> {
    let nodes = graph.nodes();
    room.enter(depth, nodes.len())?;
    // A launch claims memory of the outermost graph only.
    let mut operations = nodes.values().map(|node| &node.operation);
    if depth > 0 && operations.any(Operation::is_of_memory) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let mut missing: HashMap<usize, usize> = HashMap::new();
    let mut behind: HashMap<usize, Vec<usize>> = HashMap::new();
    for (from, to) in edges(&nodes) {
        *missing.entry(to).or_default() += 1;
        behind.entry(from).or_default().push(to);
    }
    let is_first = |node: &usize| !missing.contains_key(node);
    let mut ready: BTreeSet<usize> = nodes.keys().copied().filter(is_first).collect();
    let mut steps = Vec::with_capacity(nodes.len());
    while let Some(node) = ready.pop_first() {
        for next in behind.get(&node).into_iter().flatten() {
            if let Some(count) = missing.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*next);
                }
            }
        }
        steps.push(Step::new(node, nodes[&node].clone(), room, depth)?);
    }
    // What is left waits for itself.
    if steps.len() == nodes.len() {
        Ok(steps)
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

/// A graph that can be launched.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: u64,
    pub(crate) flags: u64,
    pub(crate) state: Mutex<ExecState>,
}

#[derive(Debug)]
pub(crate) struct ExecState {
    pub(crate) steps: Arc<Vec<Step>>,
    /// Those of the outermost graph.
    pub(crate) conditions: Vec<Arc<Condition>>,
    /// Where the launch before is over: two of one graph never run at the same time.
    pub(crate) last: Option<Point>,
    pub(crate) references: Vec<Arc<UserReference>>,
}

/// Does all steps, one after the other.
pub(super) fn perform(steps: &[Step], events: &mut Events) -> Result<(), CUresult> {
    for step in steps.iter().filter(|step| step.is_enabled) {
        if let Some(child) = &step.child {
            perform(child, events)?;
            continue;
        }
        match &step.operation {
            Operation::Conditional(conditional) => conditional.perform(&step.bodies, events)?,
            Operation::Record(..) | Operation::Wait(..) => events.pass()?,
            operation => {
                // The memory may have gone since the node was made.
                operation.check().map_err(|_| CUresult::ILLEGAL_ADDRESS)?;
                operation.perform()?;
            }
        }
    }
    Ok(())
}

/// A graph of a launchable one's steps, for a launch that is captured.
pub(crate) fn graph_of_steps(steps: &[Step]) -> Result<Arc<Graph>, CUresult> {
    let is_alone = |step: &Step| {
        step.operation.is_of_memory() || matches!(step.operation, Operation::Conditional(_))
    };
    if steps.iter().any(is_alone) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let graph = Graph::new()?;
    let mut places: HashMap<usize, usize> = HashMap::new();
    for step in steps {
        let before: Vec<usize> = step
            .dependencies
            .iter()
            .filter_map(|node| places.get(node).copied())
            .collect();
        let operation = match (&step.child, &step.operation) {
            _ if !step.is_enabled => Operation::Empty,
            (Some(child), _) => Operation::Child(Nested::new(graph_of_steps(child)?)?),
            (None, operation) => operation.clone(),
        };
        places.insert(step.node, graph.add(operation, &before)?);
    }
    Ok(graph)
}
