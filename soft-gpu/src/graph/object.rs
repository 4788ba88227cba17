//! What graphs and their nodes are, and what a launch does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use driver_api::abi::CUresult;

use super::UserReference;
use crate::context::unique_id;
use crate::event::Event;
use crate::state::driver;
use crate::stream::{Operation, Point};

/// Deepest nesting of graphs in graphs.
const MAX_DEPTH: u32 = 64;

/// A graph that can be changed.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) handle: usize,
    pub(crate) id: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By handle, which is the order in which they were made.
    nodes: BTreeMap<usize, Node>,
    /// Of a clone, its nodes by those of the original.
    originals: HashMap<usize, usize>,
    references: Vec<Arc<UserReference>>,
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

/// The graph that a node is in.
pub(crate) fn graph_of(node: usize) -> Result<Arc<Graph>, CUresult> {
    let entry = driver()?.graph_nodes.get(node)?;
    entry.graph.upgrade().ok_or(CUresult::INVALID_HANDLE)
}

impl Graph {
    /// An empty graph.
    pub(crate) fn new() -> Result<Arc<Self>, CUresult> {
        let driver = driver()?;
        let handle = driver.graphs.reserve();
        let graph = Arc::new(Self {
            handle,
            id: unique_id(),
            state: Mutex::default(),
        });
        driver.graphs.insert(handle, Arc::clone(&graph));
        Ok(graph)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut nodes = state.nodes.clone();
        for (from, to) in edges {
            if !nodes.contains_key(from) || from == to {
                return Err(CUresult::INVALID_VALUE);
            }
            let node = nodes.get_mut(to).ok_or(CUresult::INVALID_VALUE)?;
            let known = node.dependencies.iter().position(|other| other == from);
            match (known, add) {
                (None, true) => node.dependencies.push(*from),
                (Some(index), false) => drop(node.dependencies.remove(index)),
                _ => return Err(CUresult::INVALID_VALUE),
            }
        }
        state.nodes = nodes;
        Ok(())
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
    pub(crate) fn duplicate(&self, depth: u32) -> Result<Arc<Self>, CUresult> {
        if depth > MAX_DEPTH {
            return Err(CUresult::INVALID_VALUE);
        }
        let copy = Self::new()?;
        let mut originals = HashMap::new();
        let nodes = self.nodes();
        // Edges may lead to nodes that were made later.
        for (&handle, node) in &nodes {
            let operation = match &node.operation {
                Operation::Child(graph) => Operation::Child(graph.duplicate(depth + 1)?),
                other => other.clone(),
            };
            originals.insert(handle, copy.add(operation, &[])?);
        }
        let edges: Vec<(usize, usize)> = edges(&nodes)
            .into_iter()
            .filter_map(|(from, to)| Some((*originals.get(&from)?, *originals.get(&to)?)))
            .collect();
        copy.connect(&edges, true)?;
        let references = self.lock().references.clone();
        let mut state = copy.lock();
        (state.originals, state.references) = (originals, references);
        drop(state);
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

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(driver) = driver() {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            for node in state.nodes.values() {
                if let Operation::Child(graph) = &node.operation {
                    let _ = driver.graphs.remove(graph.handle);
                }
            }
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
    child: Option<Arc<Vec<Step>>>,
}

impl Step {
    fn new(
        node: usize,
        Node {
            operation,
            dependencies,
        }: Node,
        depth: u32,
    ) -> Result<Self, CUresult> {
        let child = match &operation {
            Operation::Child(graph) => Some(Arc::new(steps(graph, depth + 1)?)),
            _ => None,
        };
        Ok(Self {
            node,
            operation,
            dependencies,
            is_enabled: true,
            child,
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
        let step = Self::new(self.node, node, 0)?;
        Ok(Self {
            is_enabled: self.is_enabled,
            ..step
        })
    }
}

/// The nodes of a graph in an order in which they can be done. Those that could be done at the same time follow each other as they were
/// made: a kernel has the whole pool to itself anyway.
pub(crate) fn steps(graph: &Graph, depth: u32) -> Result<Vec<Step>, CUresult> {
    if depth > MAX_DEPTH {
        return Err(CUresult::INVALID_VALUE);
    }
    let nodes = graph.nodes();
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
        steps.push(Step::new(node, nodes[&node].clone(), depth)?);
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
    /// Where the launch before is over: two of one graph never run at the same time.
    pub(crate) last: Option<Point>,
    pub(crate) references: Vec<Arc<UserReference>>,
}

/// Events that a launch records, with the times at which it reaches them.
pub(crate) type Records = Vec<(Arc<Event>, Arc<AtomicU64>)>;

/// The events that a launch will record, and the places that it has to wait for.
pub(crate) fn events(steps: &[Step], records: &mut Records, waits: &mut Vec<Point>) {
    for step in steps.iter().filter(|step| step.is_enabled) {
        match &step.operation {
            Operation::Record(event, _) => {
                records.push((Arc::clone(event), Event::begin_record()));
            }
            Operation::Wait(event, _) => waits.extend(event.point()),
            _ => {}
        }
        if let Some(child) = &step.child {
            events(child, records, waits);
        }
    }
}

/// Does all steps, one after the other.
pub(crate) fn perform(steps: &[Step], records: &Records) -> Result<(), CUresult> {
    for step in steps.iter().filter(|step| step.is_enabled) {
        if let Some(child) = &step.child {
            perform(child, records)?;
            continue;
        }
        if let Operation::Record(event, _) = &step.operation {
            let of_event = records
                .iter()
                .filter(|(other, _)| Arc::ptr_eq(other, event));
            of_event.for_each(|(_, time)| Event::reach(time));
        }
        // The memory may have gone since the node was made.
        let checked = step.operation.check();
        checked.map_err(|_| CUresult::ILLEGAL_ADDRESS)?;
        step.operation.perform()?;
    }
    Ok(())
}

/// A graph of a launchable one's steps, for a launch that is captured.
pub(crate) fn graph_of_steps(steps: &[Step]) -> Result<Arc<Graph>, CUresult> {
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
            (Some(child), _) => Operation::Child(graph_of_steps(child)?),
            (None, operation) => operation.clone(),
        };
        places.insert(step.node, graph.add(operation, &before)?);
    }
    Ok(graph)
}
