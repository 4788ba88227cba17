//! What a graph is: nodes by the order in which they were made, and the edges between them.
//!
//! A node's number within its graph is never given twice, so a clone keeps the numbers and its nodes are found by them. The handle that the
//! program sees is an entry of a table of the session, which knows graph and number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use driver_api::abi::{CUgraph, CUgraphConditionalHandle, CUgraphNode, CUresult};

use super::conditional::{Condition, Origin};
use super::lanes::Contexts;
use super::{Exec, Operation, UserReference};
use crate::handles::Handle;
use crate::log;
use crate::objects::unique;
use crate::session::{self, Session};

/// Deepest nesting of graphs in graphs.
pub(super) const MAX_DEPTH: u32 = 64;
/// Most nodes of a graph with all graphs in it: copies of nested graphs multiply.
const MAX_NODES: usize = 4 << 20;

/// A graph that can be changed.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Its entry in the session's table.
    id: AtomicU32,
    pub(crate) unique: u64,
    /// How deep in other graphs it is.
    depth: u32,
    state: Mutex<State>,
    /// Of a condition's body, where it is.
    around: Option<Around>,
    /// What the server has of it, if it has conditions; of a body, that of the outermost graph.
    origin: OnceLock<Arc<Origin>>,
}

/// Where a body is.
#[derive(Debug)]
struct Around {
    graph: Weak<Graph>,
    /// The node at the server, and which of its bodies.
    place: (u32, u32),
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<u32, Node>,
    /// The number of the next node.
    next: u32,
    /// Of a clone: the original, and the number below which nodes are that one's.
    original: Option<(u64, u32)>,
    references: Vec<Arc<UserReference>>,
    /// Of all nodes that it has or had.
    contexts: Contexts,
    /// In the order in which their handles were made.
    conditions: Vec<Arc<Condition>>,
    /// What was made of it last.
    instance: Weak<Exec>,
}

impl State {
    /// Whether nodes and edges may go: memory of its own has one owner.
    fn check_no_memory(&self) -> Result<(), CUresult> {
        let mut nodes = self.nodes.values();
        match nodes.any(|node| node.operation.is_of_memory()) {
            true => Err(CUresult::NOT_SUPPORTED),
            false => Ok(()),
        }
    }

    /// Whether there may be another of it: what has memory or conditions of its own is there once.
    fn check_repeatable(&self) -> Result<(), CUresult> {
        self.check_no_memory()?;
        let mut nodes = self.nodes.values();
        match !self.conditions.is_empty() || nodes.any(|node| node.operation.is_conditional()) {
            true => Err(CUresult::NOT_SUPPORTED),
            false => Ok(()),
        }
    }
}

/// What conditions choose is one graph of the server's driver, which is of one context.
pub(super) fn check_for_conditions(contexts: Contexts) -> Result<(), CUresult> {
    if contexts != Contexts::Several {
        return Ok(());
    }
    log::warn_once(
        "contexts of graphs with conditions",
        format_args!("a graph with conditions in several contexts is not supported"),
    );
    Err(CUresult::NOT_SUPPORTED)
}

/// A node of a graph.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) handle: CUgraphNode,
    pub(crate) operation: Operation,
    /// Those that it is done in.
    pub(super) contexts: Contexts,
    /// The nodes that come before it.
    pub(crate) dependencies: Vec<u32>,
}

/// Finds a graph by its handle. One in another graph belongs to that one's node.
#[derive(Debug)]
pub(crate) enum GraphEntry {
    Own(Arc<Graph>),
    Child(Weak<Graph>),
}

/// Finds the graph of a node's handle.
#[derive(Debug)]
pub(crate) struct NodeEntry {
    graph: Weak<Graph>,
    number: u32,
}

/// The graph of a handle.
pub(crate) fn find(handle: CUgraph) -> Result<Arc<Graph>, CUresult> {
    let session = session::get()?;
    let entry = handle
        .undress()
        .and_then(|id| session.objects.graphs.get(id));
    let graph = entry.and_then(|entry| match &*entry {
        GraphEntry::Own(graph) => Some(Arc::clone(graph)),
        GraphEntry::Child(graph) => graph.upgrade(),
    });
    graph.ok_or(CUresult::INVALID_HANDLE)
}

/// Destroys a graph, unless a node owns it.
pub(crate) fn destroy(handle: CUgraph) -> Result<(), CUresult> {
    let session = session::get()?;
    let id = handle.undress().ok_or(CUresult::INVALID_HANDLE)?;
    let entry = session.objects.graphs.get(id);
    match entry.as_deref().ok_or(CUresult::INVALID_HANDLE)? {
        GraphEntry::Child(_) => Err(CUresult::INVALID_VALUE),
        GraphEntry::Own(_) => session
            .objects
            .graphs
            .remove(id)
            .map(drop)
            .ok_or(CUresult::INVALID_HANDLE),
    }
}

/// The graph that a node is in, and its number there.
pub(crate) fn node_of(handle: CUgraphNode) -> Result<(Arc<Graph>, u32), CUresult> {
    let session = session::get()?;
    let entry = handle
        .undress()
        .and_then(|id| session.objects.graph_nodes.get(id));
    let entry = entry.ok_or(CUresult::INVALID_HANDLE)?;
    let graph = entry.graph.upgrade().ok_or(CUresult::INVALID_HANDLE)?;
    Ok((graph, entry.number))
}

impl Graph {
    /// An empty graph of the program's.
    pub(crate) fn new(session: &Session) -> Arc<Self> {
        Self::with(session, 0, State::default(), None)
    }

    fn with(session: &Session, depth: u32, state: State, around: Option<Around>) -> Arc<Self> {
        let graph = Arc::new(Self {
            id: AtomicU32::new(0),
            unique: unique(),
            depth,
            state: Mutex::new(state),
            around,
            origin: OnceLock::new(),
        });
        session.objects.graphs.insert_with(|id| {
            graph.id.store(id, Relaxed);
            match depth {
                0 => GraphEntry::Own(Arc::clone(&graph)),
                _ => GraphEntry::Child(Arc::downgrade(&graph)),
            }
        });
        graph
    }

    /// An empty graph that is a body of one of this graph's nodes.
    pub(super) fn body(
        self: &Arc<Self>,
        session: &Session,
        origin: &Arc<Origin>,
        place: (u32, u32),
    ) -> Result<Arc<Self>, CUresult> {
        if self.depth >= MAX_DEPTH {
            return Err(CUresult::INVALID_VALUE);
        }
        let around = Around {
            graph: Arc::downgrade(self),
            place,
        };
        let body = Self::with(session, self.depth + 1, State::default(), Some(around));
        body.origin.get_or_init(|| Arc::clone(origin));
        Ok(body)
    }

    pub(super) fn is_body(&self) -> bool {
        self.around.is_some()
    }

    /// What the server has of it, and the place there that its conditions and nodes are made in.
    ///
    /// # Errors
    /// It is of another context; or another graph has it as a child, where no conditions may be.
    pub(super) fn origin(
        &self,
        session: &Session,
        context: u32,
    ) -> Result<(Arc<Origin>, (u32, u32)), CUresult> {
        if self.depth > 0 && !self.is_body() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let origin = self.origin.get_or_init(|| Origin::new(session, context));
        check_for_conditions(Contexts::One(origin.context).and(Contexts::One(context)))?;
        let place = self.around.as_ref().map_or((0, 0), |around| around.place);
        Ok((Arc::clone(origin), place))
    }

    pub(super) fn add_condition(&self, condition: Condition) {
        self.lock().conditions.push(Arc::new(condition));
    }

    /// The condition of a handle that was made for this graph, or for one that it is a body in.
    pub(super) fn condition(&self, handle: CUgraphConditionalHandle) -> Option<Arc<Condition>> {
        let is_it = |condition: &&Arc<Condition>| condition.handle == handle;
        let own = self.lock().conditions.iter().find(is_it).cloned();
        own.or_else(|| self.around.as_ref()?.graph.upgrade()?.condition(handle))
    }

    pub(super) fn conditions(&self) -> Vec<Arc<Condition>> {
        self.lock().conditions.clone()
    }

    pub(crate) fn handle(&self) -> CUgraph {
        CUgraph::dress(self.id.load(Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All nodes, in the order in which they were made.
    pub(crate) fn nodes(&self) -> BTreeMap<u32, Node> {
        self.lock().nodes.clone()
    }

    pub(crate) fn node(&self, number: u32) -> Result<Node, CUresult> {
        let found = self.lock().nodes.get(&number).cloned();
        found.ok_or(CUresult::INVALID_HANDLE)
    }

    /// The numbers of nodes of this graph, none twice.
    pub(crate) fn numbers(self: &Arc<Self>, handles: &[CUgraphNode]) -> Result<Vec<u32>, CUresult> {
        let number = |handle: &CUgraphNode| match node_of(*handle) {
            Ok((graph, number)) if Arc::ptr_eq(&graph, self) => Ok(number),
            _ => Err(CUresult::INVALID_VALUE),
        };
        let numbers = handles.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let once: BTreeSet<&u32> = numbers.iter().collect();
        (once.len() == numbers.len())
            .then_some(numbers)
            .ok_or(CUresult::INVALID_VALUE)
    }

    /// The contexts that its nodes are of.
    pub(super) fn contexts(&self) -> Contexts {
        self.lock().contexts
    }

    /// Adds a node of a context behind others, and gives its handle. A graph in it is copied.
    pub(crate) fn add(
        self: &Arc<Self>,
        session: &Session,
        context: u32,
        operation: &Operation,
        dependencies: &[CUgraphNode],
    ) -> Result<CUgraphNode, CUresult> {
        let dependencies = self.numbers(dependencies)?;
        // Memory of its own is captured there too, and makes a graph that cannot be instantiated.
        if self.is_body() && !operation.is_of_memory() {
            operation.check_in_body()?;
        }
        let operation = self.own(session, operation)?;
        let mut state = self.lock();
        if state.nodes.len() >= MAX_NODES {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let contexts = operation.contexts(context);
        let number = state.next;
        state.next = number.checked_add(1).ok_or(CUresult::OUT_OF_MEMORY)?;
        state.contexts = state.contexts.and(contexts);
        let node = self.enter(session, number, operation, contexts, dependencies);
        let handle = node.handle;
        state.nodes.insert(number, node);
        Ok(handle)
    }

    fn enter(
        self: &Arc<Self>,
        session: &Session,
        number: u32,
        operation: Operation,
        contexts: Contexts,
        dependencies: Vec<u32>,
    ) -> Node {
        let mut handle = CUgraphNode(0);
        session.objects.graph_nodes.insert_with(|id| {
            handle = CUgraphNode::dress(id);
            NodeEntry {
                graph: Arc::downgrade(self),
                number,
            }
        });
        Node {
            handle,
            operation,
            contexts,
            dependencies,
        }
    }

    /// The operation with a graph in it copied, so that it belongs to a node of this graph alone.
    fn own(&self, session: &Session, operation: &Operation) -> Result<Operation, CUresult> {
        match operation {
            Operation::Child(graph) => {
                let mut room = MAX_NODES;
                let copy = graph.duplicate(session, self.depth + 1, &mut room)?;
                Ok(Operation::Child(copy))
            }
            other => Ok(other.clone()),
        }
    }

    /// Gives a node something else to do, of the same kind.
    pub(crate) fn set(
        &self,
        session: &Session,
        context: u32,
        number: u32,
        operation: &Operation,
    ) -> Result<(), CUresult> {
        if self.is_body() {
            operation.check_in_body()?;
        }
        let operation = self.own(session, operation)?;
        let mut state = self.lock();
        let node = state.nodes.get(&number).ok_or(CUresult::INVALID_HANDLE)?;
        if node.operation.kind() != operation.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        let contexts = operation.contexts(context);
        state.contexts = state.contexts.and(contexts);
        let node = state.nodes.get_mut(&number);
        // Outside the lock: a graph that goes takes its own.
        let before = node.map(|node| {
            node.contexts = contexts;
            std::mem::replace(&mut node.operation, operation)
        });
        drop(state);
        drop(before);
        Ok(())
    }

    /// Removes a node and the edges at it.
    pub(crate) fn remove(&self, session: &Session, number: u32) -> Result<(), CUresult> {
        let mut state = self.lock();
        state.check_no_memory()?;
        let gone = state.nodes.remove(&number);
        let gone = gone.ok_or(CUresult::INVALID_HANDLE)?;
        for other in state.nodes.values_mut() {
            other.dependencies.retain(|before| *before != number);
        }
        drop(state);
        forget_node(session, gone.handle);
        // Outside the lock: graphs in it take their own.
        drop(gone);
        Ok(())
    }

    /// Adds edges, or takes them away; all or none.
    pub(crate) fn connect(&self, edges: &[(u32, u32)], add: bool) -> Result<(), CUresult> {
        let mut state = self.lock();
        if !add {
            state.check_no_memory()?;
        }
        let mut present: BTreeSet<(u32, u32)> = edges_of(&state.nodes).collect();
        for (from, to) in edges {
            let is_done = match add {
                true => from != to && present.insert((*from, *to)),
                false => present.remove(&(*from, *to)),
            };
            if !is_done {
                return Err(CUresult::INVALID_VALUE);
            }
        }
        for (from, to) in edges {
            if let Some(node) = state.nodes.get_mut(to) {
                match add {
                    true => node.dependencies.push(*from),
                    false => node.dependencies.retain(|before| before != from),
                }
            }
        }
        Ok(())
    }

    /// `nodes` and everything before them.
    pub(crate) fn ancestors(&self, nodes: &[u32]) -> BTreeSet<u32> {
        let state = self.lock();
        let mut found = BTreeSet::new();
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

    /// A clone of the program's.
    pub(crate) fn duplicate_whole(&self, session: &Session) -> Result<Arc<Self>, CUresult> {
        let mut room = MAX_NODES;
        self.duplicate(session, 0, &mut room)
    }

    /// A graph with the same nodes, and graphs in it copied too, at most so many nodes.
    fn duplicate(
        &self,
        session: &Session,
        depth: u32,
        room: &mut usize,
    ) -> Result<Arc<Self>, CUresult> {
        if depth > MAX_DEPTH {
            return Err(CUresult::INVALID_VALUE);
        }
        let (nodes, copied) = {
            let state = self.lock();
            state.check_repeatable()?;
            let copied = State {
                next: state.next,
                original: Some((self.unique, state.next)),
                references: state.references.clone(),
                contexts: state.contexts,
                ..State::default()
            };
            (state.nodes.clone(), copied)
        };
        *room = room
            .checked_sub(nodes.len())
            .ok_or(CUresult::OUT_OF_MEMORY)?;
        let mut operations = Vec::with_capacity(nodes.len());
        for (number, node) in nodes {
            let operation = match node.operation {
                Operation::Child(graph) => {
                    Operation::Child(graph.duplicate(session, depth + 1, room)?)
                }
                other => other,
            };
            operations.push((number, operation, node.contexts, node.dependencies));
        }
        let copy = Self::with(session, depth, copied, None);
        let entered = operations.into_iter();
        let entered = entered.map(|(number, operation, contexts, before)| {
            let node = copy.enter(session, number, operation, contexts, before);
            (number, node)
        });
        let entered: BTreeMap<u32, Node> = entered.collect();
        copy.lock().nodes = entered;
        Ok(copy)
    }

    /// The node of a clone that was the original's of this number.
    pub(crate) fn clone_of(&self, graph: &Self, number: u32) -> Result<CUgraphNode, CUresult> {
        let state = self.lock();
        let is_cloned = state
            .original
            .is_some_and(|(original, next)| original == graph.unique && number < next);
        let node = state.nodes.get(&number).filter(|_| is_cloned);
        Ok(node.ok_or(CUresult::INVALID_VALUE)?.handle)
    }

    /// Before something launchable is made of it: with memory or conditions of its own, there is one at a time.
    pub(crate) fn check_instance(&self) -> Result<(), CUresult> {
        let state = self.lock();
        match state.instance.upgrade() {
            Some(_) => state.check_repeatable(),
            None => Ok(()),
        }
    }

    pub(crate) fn instantiated(&self, exec: &Arc<Exec>) {
        self.lock().instance = Arc::downgrade(exec);
    }

    pub(crate) fn keep(&self, references: impl IntoIterator<Item = Arc<UserReference>>) {
        self.lock().references.extend(references);
    }

    pub(crate) fn references(&self) -> Vec<Arc<UserReference>> {
        self.lock().references.clone()
    }

    /// Gives up so many references to a user's object. False if there are not so many.
    pub(crate) fn give_up(&self, object: u32, count: usize) -> bool {
        let mut state = self.lock();
        let is_it = |reference: &Arc<UserReference>| reference.object() == object;
        let places = state.references.iter().enumerate();
        let places = places.filter(|(_, one)| is_it(one)).take(count);
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        if places.len() < count {
            return false;
        }
        // Dropped outside the lock: the last one calls the program.
        let gone: Vec<_> = places
            .into_iter()
            .rev()
            .map(|place| state.references.swap_remove(place))
            .collect();
        drop(state);
        drop(gone);
        true
    }
}

fn forget_node(session: &Session, handle: CUgraphNode) {
    if let Some(id) = handle.undress() {
        session.objects.graph_nodes.remove(id);
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let Ok(session) = session::get() else {
            return;
        };
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for node in state.nodes.values() {
            forget_node(session, node.handle);
        }
        if self.depth > 0 {
            session.objects.graphs.remove(self.id.load(Relaxed));
        }
    }
}

/// All edges, by the nodes that they lead to.
pub(crate) fn edges_of(nodes: &BTreeMap<u32, Node>) -> impl Iterator<Item = (u32, u32)> {
    let behind = |(to, node): (&u32, &Node)| {
        let to = *to;
        let before = node.dependencies.clone();
        before.into_iter().map(move |from| (from, to))
    };
    nodes.iter().flat_map(behind)
}

/// The numbers of nodes in an order in which they can be done: those that could be done at the same time as they were made.
///
/// # Errors
/// Some wait for themselves.
pub(crate) fn order(nodes: &BTreeMap<u32, Node>) -> Result<Vec<u32>, CUresult> {
    let mut missing: HashMap<u32, usize> = HashMap::new();
    let mut behind: HashMap<u32, Vec<u32>> = HashMap::new();
    for (from, to) in edges_of(nodes) {
        *missing.entry(to).or_default() += 1;
        behind.entry(from).or_default().push(to);
    }
    let is_first = |node: &u32| !missing.contains_key(node);
    let mut ready: BTreeSet<u32> = nodes.keys().copied().filter(is_first).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(node) = ready.pop_first() {
        for next in behind.get(&node).into_iter().flatten() {
            if let Some(count) = missing.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*next);
                }
            }
        }
        order.push(node);
    }
    (order.len() == nodes.len())
        .then_some(order)
        .ok_or(CUresult::INVALID_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: u32, edges: &[(u32, u32)]) -> BTreeMap<u32, Node> {
        let node = |number: u32| {
            let before = edges.iter().filter(|(_, to)| *to == number);
            let node = Node {
                handle: CUgraphNode(0),
                operation: Operation::Empty,
                contexts: Contexts::None,
                dependencies: before.map(|(from, _)| *from).collect(),
            };
            (number, node)
        };
        (0..count).map(node).collect()
    }

    #[test]
    fn circles_have_no_order() {
        assert_eq!(order(&nodes(3, &[(2, 0), (0, 1)])), Ok(vec![2, 0, 1]));
        let circle = nodes(3, &[(2, 0), (0, 1), (1, 2)]);
        assert_eq!(order(&circle), Err(CUresult::INVALID_VALUE));
    }

    proptest! {
        /// Edges of a hidden order: each node comes behind those that it waits for, whichever numbers they have.
        #[test]
        fn nodes_come_behind_what_they_wait_for(
            hidden in Just((0..20u32).collect::<Vec<_>>()).prop_shuffle(),
            pairs in prop::collection::btree_set((0..20usize, 0..20usize), 0..60),
        ) {
            let forward = pairs.into_iter().filter(|(from, to)| from < to);
            let edges: Vec<_> = forward.map(|(from, to)| (hidden[from], hidden[to])).collect();
            let order = order(&nodes(20, &edges)).expect("no circle");
            let place = |node| order.iter().position(|other| *other == node);
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 20);
            for (from, to) in edges {
                prop_assert!(place(from) < place(to));
            }
        }
    }
}
