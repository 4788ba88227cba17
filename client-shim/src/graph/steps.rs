//! What an executable graph is: steps in an order in which they can be done, and how a launch does them.
//!
//! ```text
//! Graph ──instantiate──▶ steps ──launch──▶ each step's call, posted one after the other
//! ```
//!
//! *Rules:* a launch takes the steps as they are. Two launches of one executable graph never run at the same time: one in another stream waits
//! for the one before by an event of ours, recorded behind each launch: one posted call.

use std::collections::HashMap;
use std::sync::Arc;

use driver_api::abi::CUresult;

use super::conditional::{Origin, check_used};
use super::lanes::{Contexts, Way};
use super::model::{Graph, MAX_DEPTH, Node, order};
use super::{Operation, UserReference};
use crate::event::{self, Event};
use crate::launch;
use crate::session::Session;
use crate::stream::Stream;

/// One node of an executable graph.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The number of the node that it was made of.
    pub(super) number: u32,
    pub(super) operation: Operation,
    /// Those that it is done in.
    pub(super) contexts: Contexts,
    pub(super) dependencies: Vec<u32>,
    pub(super) is_enabled: bool,
    /// Of a graph in the graph, its steps.
    child: Option<Arc<Vec<Step>>>,
    /// Of a condition, what it chooses from.
    pub(super) bodies: Vec<Arc<Body>>,
}

/// A body of a condition.
#[derive(Debug, Clone)]
pub(super) struct Body {
    /// The graph whose nodes name its steps.
    graph: u64,
    pub(super) steps: Vec<Step>,
}

impl Body {
    fn new(graph: &Graph, depth: u32) -> Result<Arc<Self>, CUresult> {
        let steps = steps_of(graph, depth)?;
        check_used(&graph.conditions())?;
        check_in_body(&steps)?;
        Ok(Arc::new(Self {
            graph: graph.unique,
            steps,
        }))
    }
}

/// Whether a body may have the steps, also those of graphs in it.
fn check_in_body(steps: &[Step]) -> Result<(), CUresult> {
    steps.iter().try_for_each(|step| {
        step.operation.check_in_body()?;
        step.child().map_or(Ok(()), check_in_body)
    })
}

impl Step {
    /// Of a graph in the graph, its steps as they were instantiated.
    pub(super) fn child(&self) -> Option<&[Self]> {
        self.child.as_deref().map(Vec::as_slice)
    }

    fn new(number: u32, node: Node, depth: u32) -> Result<Self, CUresult> {
        let bodies = match &node.operation {
            Operation::Conditional(conditional) => {
                let bodies = conditional.bodies.iter();
                let bodies = bodies.map(|body| Body::new(body, depth + 1));
                bodies.collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        Ok(Self {
            number,
            child: child_of(&node.operation, depth)?,
            bodies,
            operation: node.operation,
            contexts: node.contexts,
            dependencies: node.dependencies,
            is_enabled: true,
        })
    }

    /// The same place in the graph with another operation of the same kind; a graph has to have the same nodes.
    pub(super) fn with(&self, operation: Operation) -> Result<Self, CUresult> {
        if operation.kind() != self.operation.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        let child = child_of(&operation, 0)?;
        if let (Some(before), Some(after)) = (&self.child, &child)
            && difference(before, after).is_some()
        {
            return Err(CUresult::GRAPH_EXEC_UPDATE_FAILURE);
        }
        Ok(Self {
            child,
            operation,
            ..self.clone()
        })
    }
}

/// What the server has of a graph, if it has conditions.
pub(super) fn origin_of(steps: &[Step]) -> Option<Arc<Origin>> {
    steps.iter().find_map(|step| match &step.operation {
        Operation::Conditional(conditional) => Some(Arc::clone(&conditional.origin)),
        _ => None,
    })
}

/// The step of a node, by its graph and its number there, in the steps of the graph `own` or in bodies in it.
pub(super) fn find(steps: &[Step], own: u64, node: (u64, u32)) -> Option<&Step> {
    steps.iter().find_map(|step| {
        let mut bodies = step.bodies.iter();
        match (own, step.number) == node {
            true => Some(step),
            false => bodies.find_map(|body| find(&body.steps, body.graph, node)),
        }
    })
}

/// [`find`], for a change.
pub(super) fn find_mut(steps: &mut [Step], own: u64, node: (u64, u32)) -> Option<&mut Step> {
    for step in steps {
        if (own, step.number) == node {
            return Some(step);
        }
        let mut bodies = step.bodies.iter_mut();
        let of_node = bodies.find(|body| find(&body.steps, body.graph, node).is_some());
        if let Some(body) = of_node {
            let body = Arc::make_mut(body);
            return find_mut(&mut body.steps, body.graph, node);
        }
    }
    None
}

fn child_of(operation: &Operation, depth: u32) -> Result<Option<Arc<Vec<Step>>>, CUresult> {
    match operation {
        Operation::Child(graph) => Ok(Some(Arc::new(steps_of(graph, depth + 1)?))),
        _ => Ok(None),
    }
}

/// The steps of a graph.
pub(super) fn steps_of(graph: &Graph, depth: u32) -> Result<Vec<Step>, CUresult> {
    if depth > MAX_DEPTH {
        return Err(CUresult::INVALID_VALUE);
    }
    let mut nodes = graph.nodes();
    // A launch claims memory of the outermost graph only.
    let mut operations = nodes.values().map(|node| &node.operation);
    if depth > 0 && operations.any(Operation::is_of_memory) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let order = order(&nodes)?;
    let take = |number: u32| {
        let node = nodes.remove(&number).ok_or(CUresult::UNKNOWN)?;
        Step::new(number, node, depth)
    };
    order.into_iter().map(take).collect()
}

/// The references to users' objects of a graph and of the graphs in it.
pub(super) fn references_of(graph: &Graph, depth: u32) -> Vec<Arc<UserReference>> {
    let mut references = graph.references();
    for node in graph.nodes().into_values() {
        let inside = match &node.operation {
            Operation::Child(child) => core::slice::from_ref(child),
            Operation::Conditional(conditional) => &conditional.bodies,
            _ => &[],
        };
        for graph in inside.iter().filter(|_| depth < MAX_DEPTH) {
            references.extend(references_of(graph, depth + 1));
        }
    }
    references
}

/// What is different between two graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// Nodes or edges.
    Topology,
    /// What kind of node it is.
    Kind,
    /// Which memory it allocates or frees, in which context it is done, or how many bodies a condition has.
    Parameters,
}

/// Where another graph's steps differ first: the node's number.
pub(super) fn difference(own: &[Step], other: &[Step]) -> Option<(Option<u32>, Difference)> {
    fn memory(step: &Step) -> Option<u64> {
        match &step.operation {
            Operation::Allocate(allocation) => Some(allocation.address),
            Operation::Free(address) => Some(*address),
            _ => None,
        }
    }
    fn made(steps: &[Step]) -> Vec<&Step> {
        let mut steps: Vec<&Step> = steps.iter().collect();
        steps.sort_unstable_by_key(|step| step.number);
        steps
    }
    fn before(step: &Step, places: &HashMap<u32, usize>) -> Vec<usize> {
        let place = |number: &u32| places.get(number).copied();
        let mut places: Vec<usize> = step.dependencies.iter().filter_map(place).collect();
        places.sort_unstable();
        places
    }
    fn places(steps: &[&Step]) -> HashMap<u32, usize> {
        let each = steps.iter().enumerate();
        each.map(|(place, step)| (step.number, place)).collect()
    }
    let (own, other) = (made(own), made(other));
    if own.len() != other.len() {
        let first = other.get(own.len()).or(other.last());
        return Some((first.map(|step| step.number), Difference::Topology));
    }
    let (own_places, other_places) = (places(&own), places(&other));
    for (mine, theirs) in own.iter().zip(&other) {
        if mine.operation.kind() != theirs.operation.kind() {
            return Some((Some(theirs.number), Difference::Kind));
        }
        if memory(mine) != memory(theirs) || mine.contexts != theirs.contexts {
            return Some((Some(theirs.number), Difference::Parameters));
        }
        if before(mine, &own_places) != before(theirs, &other_places) {
            return Some((Some(theirs.number), Difference::Topology));
        }
        if let (Operation::Conditional(one), Operation::Conditional(another)) =
            (&mine.operation, &theirs.operation)
        {
            if !one.is_like(another) {
                return Some((Some(theirs.number), Difference::Parameters));
            }
            let mut bodies = mine.bodies.iter().zip(&theirs.bodies);
            let inside = bodies.find_map(|(own, other)| difference(&own.steps, &other.steps));
            if let Some((_, inside)) = inside {
                return Some((Some(theirs.number), inside));
            }
        }
        if let (Some(mine), Some(child)) = (&mine.child, &theirs.child)
            && let Some((_, inside)) = difference(mine, child)
        {
            return Some((Some(theirs.number), inside));
        }
    }
    None
}

/// The steps with what another graph's of the same shape do.
pub(super) fn updated(own: &[Step], other: &[Step]) -> Result<Vec<Step>, CUresult> {
    let numbers = |steps: &[Step]| {
        let mut numbers: Vec<u32> = steps.iter().map(|step| step.number).collect();
        numbers.sort_unstable();
        numbers
    };
    let theirs: HashMap<u32, u32> = numbers(own).into_iter().zip(numbers(other)).collect();
    let by_number: HashMap<u32, &Step> = other.iter().map(|step| (step.number, step)).collect();
    let take = |step: &Step| {
        let theirs = theirs
            .get(&step.number)
            .and_then(|number| by_number.get(number));
        let theirs = *theirs.ok_or(CUresult::UNKNOWN)?;
        let like = |(own, other): (&Arc<Body>, &Arc<Body>)| {
            Ok(Arc::new(Body {
                graph: own.graph,
                steps: updated(&own.steps, &other.steps)?,
            }))
        };
        let bodies = step.bodies.iter().zip(&theirs.bodies).map(like);
        let bodies = bodies.collect::<Result<_, CUresult>>()?;
        let step = step.with(theirs.operation.clone())?;
        Ok(Step { bodies, ..step })
    };
    own.iter().map(take).collect()
}

/// A graph of an executable one's steps, for a launch that is captured: the handle is the caller's to destroy.
pub(super) fn graph_of(
    session: &Session,
    context: u32,
    steps: &[Step],
    references: &[Arc<UserReference>],
) -> Result<Arc<Graph>, CUresult> {
    let is_alone = |step: &Step| step.operation.is_of_memory() || step.operation.is_conditional();
    if steps.iter().any(is_alone) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let graph = Graph::new(session);
    graph.keep(references.iter().cloned());
    let filled = fill(session, context, &graph, steps);
    if filled.is_err() {
        super::model::destroy(graph.handle())?;
    }
    filled.map(|()| graph)
}

fn fill(
    session: &Session,
    context: u32,
    graph: &Arc<Graph>,
    steps: &[Step],
) -> Result<(), CUresult> {
    let mut handles = HashMap::new();
    for step in steps {
        let before = step.dependencies.iter();
        let before: Vec<_> = before
            .filter_map(|number| handles.get(number).copied())
            .collect();
        let added = match &step.child {
            _ if !step.is_enabled => graph.add(session, context, &Operation::Empty, &before),
            // The child as it was instantiated, not as it is now. Its references are the parent's.
            Some(child) => {
                let child = graph_of(session, context, child, &[])?;
                let handle = child.handle();
                let added = graph.add(session, context, &Operation::Child(child), &before);
                super::model::destroy(handle)?;
                added
            }
            None => {
                let context = step.contexts.one().unwrap_or(context);
                graph.add(session, context, &step.operation, &before)
            }
        };
        handles.insert(step.number, added?);
    }
    Ok(())
}

/// The end of a launch: an event of ours behind its steps.
#[derive(Debug)]
pub(super) struct Last {
    event: Arc<Event>,
}

impl Last {
    /// Remembers a launch that was just put into a stream, instead of the one before.
    pub(super) fn instead_of(
        before: Option<Self>,
        session: &Session,
        stream: &Arc<Stream>,
    ) -> Result<Self, CUresult> {
        let event = match before {
            Some(last) if last.event.context() == stream.context => last.event,
            other => {
                if let Some(other) = other {
                    other.end(session)?;
                }
                Event::private(session, stream.context)?
            }
        };
        event.record(session, stream, 0)?;
        Ok(Self { event })
    }

    /// Lets a stream wait for the launch, if that is in another one.
    pub(super) fn precede(&self, session: &Session, stream: &Arc<Stream>) -> Result<(), CUresult> {
        let Some((other, mark)) = self.event.place() else {
            return Ok(());
        };
        if Arc::ptr_eq(&other, stream) || other.has_reached(mark) {
            return Ok(());
        }
        if other.context != stream.context {
            return session.wait_until(|| other.has_reached(mark));
        }
        self.event.wait_in(session, stream, 0)
    }

    pub(super) fn end(self, session: &Session) -> Result<(), CUresult> {
        event::end(session, &self.event)
    }
}

/// Lets user's objects live until the stream has come here.
pub(super) fn keep(
    session: &'static Session,
    stream: &Arc<Stream>,
    references: &[Arc<UserReference>],
) -> Result<(), CUresult> {
    if references.is_empty() {
        return Ok(());
    }
    launch::keep(session, stream, Box::new(references.to_vec()))
}

/// Puts the calls of all steps into the streams of their contexts.
pub(super) fn post(
    session: &'static Session,
    way: &mut Way<'_>,
    steps: &[Step],
) -> Result<(), CUresult> {
    for step in steps.iter().filter(|step| step.is_enabled) {
        if let Some(child) = &step.child {
            post(session, way, child)?;
            continue;
        }
        let stream = way.to(step.contexts.one())?;
        step.operation.post(session, stream)?;
    }
    Ok(())
}

/// Whether all steps, also those inside others, are of one context or of none.
pub(super) fn are_of(steps: &[Step], context: u32) -> bool {
    steps.iter().all(|step| {
        let mut inside = step.bodies.iter().map(|body| &body.steps[..]);
        let own = Contexts::One(context);
        step.contexts.and(own) == own && inside.all(|steps| are_of(steps, context))
    })
}
