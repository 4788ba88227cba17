//! A graph that only works within a device, as a graph of the server's driver: a launch is one call, and its branches run beside each other.
//!
//! *What:* kernels, copies within the device, fills, and graphs of those. *When:* at the second launch of the same steps: the first is made of calls,
//! which tells what is wrong with each of them, and a program that changes its graph before each launch never pays for making one.
//! A change ends the driver's graph. Where the driver cannot make it, calls do it as before, and where it is of several contexts ([`super::lanes`]).
//!
//! A graph with conditions ([`super::conditional`]) is made at once, since calls cannot choose. What of it is no device's has to be done before all that
//! conditions depend on, or behind all that depends on them: such steps are calls around the driver's graph ([`Parts`]).
//!
//! *Cost:* making is one round trip for each [`PART_BYTES`] of nodes. A launch is two posted calls, however many nodes there are: itself, and the event
//! behind it; with user's objects, a third that keeps them. It takes as much of the stream's room as its nodes would.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use driver_api::abi::CUresult;
use driver_api::device_graph::{self, kind};
use driver_api::wire::request::{GpurunGraphEnd, GpurunGraphLaunch, GpurunGraphMake};
use zerocopy::IntoBytes;

use super::Operation;
use super::conditional::Origin;
use super::lanes::Way;
use super::steps::{self, Step};
use crate::log;
use crate::session::Session;
use crate::stream::Stream;

/// Bytes of nodes in one call.
const PART_BYTES: usize = 512 << 10;

/// What the server's driver has of an executable graph.
#[derive(Debug)]
pub(super) enum OnDevice {
    /// Nothing; whether these steps were launched already.
    NotYet { was_launched: bool },
    /// A graph.
    Made(Made),
    /// A graph with conditions, and calls around it.
    Conditioned {
        made: Made,
        before: Vec<Step>,
        behind: Vec<Step>,
    },
    /// It cannot be one.
    Never,
}

/// A graph of the server's driver.
#[derive(Debug)]
pub(super) struct Made {
    id: u32,
    context: u32,
    /// How many operations of the driver it is.
    operations: u64,
    /// What its kernels name was mapped when so much had been pinned.
    pinned: u64,
}

impl OnDevice {
    pub(super) const NEW: Self = Self::NotYet {
        was_launched: false,
    };

    /// The steps have changed.
    pub(super) fn changed(&mut self, session: &Session) -> Result<(), CUresult> {
        match std::mem::replace(self, Self::NEW) {
            Self::Made(Made { id, context, .. })
            | Self::Conditioned {
                made: Made { id, context, .. },
                ..
            } => session.post_in(context, |_| GpurunGraphEnd::new(id), &[]),
            Self::NotYet { .. } | Self::Never => Ok(()),
        }
    }

    /// Launches the driver's graph, making it if it is time; false where calls have to do it.
    pub(super) fn launch(
        &mut self,
        session: &Session,
        stream: &Arc<Stream>,
        steps: &[Step],
    ) -> Result<bool, CUresult> {
        match *self {
            Self::Never | Self::Conditioned { .. } => return Ok(false),
            Self::NotYet {
                was_launched: false,
            } => {
                *self = Self::NotYet { was_launched: true };
                return Ok(false);
            }
            Self::NotYet { was_launched: true } => *self = make(session, stream.context, steps),
            Self::Made(_) => {}
        }
        match self {
            Self::Made(made) if made.context == stream.context => {
                made.launch(session, stream, steps).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Makes the driver's graph of one with conditions.
    ///
    /// # Errors
    /// The driver's; or something that is no device's is among what conditions choose or depend on.
    pub(super) fn make_conditioned(
        &mut self,
        session: &Session,
        steps: &[Step],
        origin: &Origin,
    ) -> Result<(), CUresult> {
        let parts = Parts::of(steps).filter(|parts| parts.keep_conditions());
        let Some(Parts {
            before,
            within,
            behind,
        }) = parts
        else {
            log::warn_once(
                "conditions between calls",
                format_args!(
                    "a condition that waits for another, or for the kernel that sets it, while what is the program's (memory, functions, events) is between them, is not supported"
                ),
            );
            return Err(CUresult::NOT_SUPPORTED);
        };
        let mut list = List::default();
        let put = list.put_all(&within, &[]);
        put.ok_or(CUresult::NOT_SUPPORTED)?;
        let id = send(session, origin.context, origin.id, &list.bytes)?;
        log::debug!(
            "a graph of {} nodes with conditions is made at the server, {} calls before and {} behind it",
            list.count + list.inside,
            before.len(),
            behind.len()
        );
        let made = Made {
            id,
            context: origin.context,
            operations: u64::from(list.count + list.inside),
            pinned: 0,
        };
        *self = Self::Conditioned {
            made,
            before,
            behind,
        };
        Ok(())
    }

    /// Launches a graph with conditions, making it again where it has changed.
    pub(super) fn launch_conditioned(
        &mut self,
        session: &'static Session,
        way: &mut Way<'_>,
        steps: &[Step],
        origin: &Origin,
    ) -> Result<(), CUresult> {
        if !matches!(self, Self::Conditioned { .. }) {
            self.make_conditioned(session, steps, origin)?;
        }
        match self {
            Self::Conditioned {
                made,
                before,
                behind,
            } => {
                steps::post(session, way, before)?;
                made.launch(session, way.to(Some(made.context))?, steps)?;
                steps::post(session, way, behind)
            }
            _ => Err(CUresult::NOT_SUPPORTED),
        }
    }
}

impl Made {
    fn launch(
        &mut self,
        session: &Session,
        stream: &Arc<Stream>,
        steps: &[Step],
    ) -> Result<(), CUresult> {
        let count = session.objects.memory.host.count();
        if self.pinned != count {
            map_named(session, steps);
            self.pinned = count;
        }
        let request = GpurunGraphLaunch::new(self.id, stream.wire_id());
        let mapped = &session.objects.memory.mapped;
        mapped.with_kernel(|| session.post_operations(stream, self.operations, &request, &[]))
    }
}

/// The steps of a graph with conditions: those in the middle are the driver's graph.
struct Parts {
    before: Vec<Step>,
    within: Vec<Step>,
    behind: Vec<Step>,
}

/// Which part a step is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Within,
    Behind,
}

/// What of a step decides its part.
#[derive(Debug, Clone)]
struct Place {
    dependencies: Vec<usize>,
    is_conditional: bool,
    is_of_device: bool,
}

/// The parts of steps, each of which comes behind those that it depends on: nothing if one is no device's, behind a condition and before another.
fn parts_of(places: &[Place]) -> Option<Vec<Part>> {
    let mut is_behind: Vec<bool> = Vec::with_capacity(places.len());
    for place in places {
        let mut before = place.dependencies.iter();
        is_behind.push(before.any(|before| places[*before].is_conditional || is_behind[*before]));
    }
    let mut is_before = vec![false; places.len()];
    for (index, place) in places.iter().enumerate().rev() {
        if place.is_conditional || is_before[index] {
            place
                .dependencies
                .iter()
                .for_each(|before| is_before[*before] = true);
        }
    }
    let mut parts = vec![Part::Within; places.len()];
    for (index, place) in places.iter().enumerate() {
        let mut before = place.dependencies.iter();
        let follows = before.any(|before| parts[*before] == Part::Behind);
        match (place.is_of_device, is_behind[index], is_before[index]) {
            (false, true, true) => return None,
            (false, _, true) => parts[index] = Part::Before,
            (false, _, false) => parts[index] = Part::Behind,
            (true, ..) if follows => parts[index] = Part::Behind,
            (true, ..) => {}
        }
    }
    for (index, place) in places.iter().enumerate().rev() {
        if parts[index] == Part::Before {
            place
                .dependencies
                .iter()
                .for_each(|before| parts[*before] = Part::Before);
        }
    }
    Some(parts)
}

fn is_of_device(step: &Step) -> bool {
    match (&step.operation, step.child()) {
        _ if !step.is_enabled => true,
        (_, Some(child)) => child.iter().all(is_of_device),
        (Operation::Copy(copy), _) => copy.is_empty() || copy.of_device().is_some(),
        (
            Operation::Host(_) | Operation::Wait(_) | Operation::Record(_) | Operation::Memory(_),
            _,
        ) => false,
        _ => true,
    }
}

impl Parts {
    fn of(steps: &[Step]) -> Option<Self> {
        let numbers = steps.iter().enumerate();
        let numbers: HashMap<u32, usize> =
            numbers.map(|(index, step)| (step.number, index)).collect();
        let place = |step: &Step| Place {
            dependencies: step
                .dependencies
                .iter()
                .filter_map(|number| numbers.get(number).copied())
                .collect(),
            is_conditional: step.operation.is_conditional(),
            is_of_device: is_of_device(step),
        };
        let places: Vec<Place> = steps.iter().map(place).collect();
        let parts = parts_of(&places)?;
        let part_of = |number: &u32| numbers.get(number).map(|index| parts[*index]);
        let of = |part: Part| {
            let own = steps.iter().zip(&parts).filter(|(_, of)| **of == part);
            let own = own.map(|(step, _)| {
                let mut step = step.clone();
                // What is in another part comes before or behind all of this one.
                step.dependencies
                    .retain(|number| part_of(number) == Some(part));
                step
            });
            own.collect::<Vec<Step>>()
        };
        Some(Self {
            before: of(Part::Before),
            within: of(Part::Within),
            behind: of(Part::Behind),
        })
    }

    /// Whether no kernel outside the driver's graph is given a condition, which it could not set there.
    fn keep_conditions(&self) -> bool {
        let mut handles = HashSet::new();
        conditions_in(&self.within, &mut handles);
        let mut outside = self.before.iter().chain(&self.behind);
        !outside.any(|step| names_any(step, &handles))
    }
}

fn names_any(step: &Step, handles: &HashSet<u64>) -> bool {
    match (step.child(), &step.operation) {
        (Some(child), _) => child.iter().any(|step| names_any(step, handles)),
        (None, Operation::Kernel(kernel)) => kernel.names(handles),
        _ => false,
    }
}

/// The handles of conditions that steps have.
fn conditions_in(steps: &[Step], handles: &mut HashSet<u64>) {
    for step in steps {
        if let Operation::Conditional(conditional) = &step.operation {
            handles.insert(conditional.condition.handle);
        }
        for body in &step.bodies {
            conditions_in(&body.steps, handles);
        }
    }
}

/// Lets the device reach the pinned memory that kernels name, as the call of each would.
fn map_named(session: &Session, steps: &[Step]) {
    for step in steps.iter().filter(|step| step.is_enabled) {
        match (step.child(), &step.operation) {
            (Some(child), _) => map_named(session, child),
            (None, Operation::Kernel(kernel)) => kernel.map_named(session),
            (None, _) => {}
        }
        for body in &step.bodies {
            map_named(session, &body.steps);
        }
    }
}

fn make(session: &Session, context: u32, steps: &[Step]) -> OnDevice {
    let mut list = List::default();
    if list.put_all(steps, &[]).is_none() {
        return OnDevice::Never;
    }
    if list.bytes.is_empty() {
        return OnDevice::Never;
    }
    match send(session, context, 0, &list.bytes) {
        Ok(id) => {
            log::debug!("a graph of {} nodes is made at the server", list.count);
            // The calls of the launch before have mapped what was pinned then; whatever was pinned since is looked for.
            OnDevice::Made(Made {
                id,
                context,
                operations: u64::from(list.count),
                pinned: 0,
            })
        }
        Err(error) => {
            log::debug!("a graph stays one of calls: the server's driver answers {error}");
            OnDevice::Never
        }
    }
}

/// Has the server make what a list says, within its graph `within` if that has conditions: the name of what was made.
fn send(session: &Session, context: u32, within: u32, list: &[u8]) -> Result<u32, CUresult> {
    let mut sent = session
        .objects
        .graphs_sent
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *sent += 1;
    let id = *sent;
    let parts = list.chunks(PART_BYTES);
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.enumerate() {
        let request = GpurunGraphMake::new(id, within, u32::from(index == last));
        session.ask_in(context, &request, part)?;
    }
    Ok(id)
}

/// A list of nodes, as it travels.
#[derive(Default)]
struct List {
    bytes: Vec<u8>,
    count: u32,
    /// Nodes in the bodies of conditions.
    inside: u32,
}

impl List {
    fn push(&mut self, kind: u32, after: &[u32], body: [&[u8]; 2]) -> Option<u32> {
        device_graph::push(&mut self.bytes, kind, after, body)?;
        self.count += 1;
        Some(self.count - 1)
    }

    /// One place for several: an empty node behind them.
    fn join(&mut self, places: Vec<u32>) -> Option<Vec<u32>> {
        match places.len() {
            0 | 1 => Some(places),
            _ => Some(vec![self.push(kind::EMPTY, &places, [&[], &[]])?]),
        }
    }

    /// Puts steps behind what is at these places, and tells where their own ends are; nothing if a step is no device's, or they are too many.
    fn put_all(&mut self, steps: &[Step], after: &[u32]) -> Option<Vec<u32>> {
        let mut ends: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut open: HashSet<u32> = HashSet::new();
        for step in steps {
            let mut before = Vec::new();
            for number in &step.dependencies {
                before.extend_from_slice(ends.get(number)?);
                open.remove(number);
            }
            if step.dependencies.is_empty() {
                before.extend_from_slice(after);
            }
            // An empty graph before it has the ends of what was before that.
            before.sort_unstable();
            before.dedup();
            let own = match step.child() {
                Some(child) => {
                    let before = self.join(before)?;
                    match self.put_all(child, &before)? {
                        ends if ends.is_empty() => before,
                        ends => self.join(ends)?,
                    }
                }
                None => vec![self.put(step, &before)?],
            };
            ends.insert(step.number, own);
            open.insert(step.number);
        }
        let mut places: Vec<u32> = open
            .iter()
            .filter_map(|number| ends.get(number))
            .flatten()
            .copied()
            .collect();
        places.sort_unstable();
        places.dedup();
        Some(places)
    }

    /// The list of a body, whose nodes are counted with these. Drivers before 12.8 want at least one.
    fn body(&mut self, steps: &[Step]) -> Option<Vec<u8>> {
        let mut body = Self::default();
        body.put_all(steps, &[])?;
        if body.count == 0 {
            body.push(kind::EMPTY, &[], [&[], &[]])?;
        }
        self.inside += body.count + body.inside;
        Some(body.bytes)
    }

    fn put(&mut self, step: &Step, after: &[u32]) -> Option<u32> {
        let empty = |list: &mut Self| list.push(kind::EMPTY, after, [&[], &[]]);
        if !step.is_enabled {
            return empty(self);
        }
        match &step.operation {
            Operation::Empty | Operation::Allocate(_) | Operation::Free(_) => empty(self),
            Operation::Copy(copy) if copy.is_empty() => empty(self),
            Operation::Fill(fill) if fill.is_empty() => empty(self),
            Operation::Kernel(kernel) => {
                let (request, rest) = kernel.of_graph();
                self.push(kind::KERNEL, after, [request.as_bytes(), rest])
            }
            Operation::Copy(copy) => {
                let body = copy.of_device()?;
                self.push(kind::COPY, after, [body.as_bytes(), &[]])
            }
            Operation::Fill(fill) => {
                self.push(kind::FILL, after, [fill.of_graph().as_bytes(), &[]])
            }
            Operation::Conditional(conditional) => {
                let mut bodies = Vec::new();
                for body in &step.bodies {
                    bodies.push(self.body(&body.steps)?);
                }
                let body = device_graph::conditional(conditional.node, &bodies)?;
                self.push(kind::CONDITIONAL, after, [&body, &[]])
            }
            Operation::Host(_)
            | Operation::Child(_)
            | Operation::Wait(_)
            | Operation::Record(_)
            | Operation::Memory(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(dependencies: &[usize], what: char) -> Place {
        Place {
            dependencies: dependencies.to_vec(),
            is_conditional: what == 'c',
            is_of_device: what != 'h',
        }
    }

    /// Steps by what they are: of the device, the host's, or conditional; each behind the one before.
    fn chain(steps: &str) -> Option<Vec<Part>> {
        let place = |(index, what): (usize, char)| match index {
            0 => place(&[], what),
            _ => place(&[index - 1], what),
        };
        parts_of(&steps.chars().enumerate().map(place).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_the_host_s_is_done_around_the_device_s() {
        use Part::{Before, Behind, Within};
        let all = [Before, Before, Within, Within, Within, Behind, Behind];
        assert_eq!(chain("dhdcdhd"), Some(all.to_vec()));
        assert_eq!(chain("dcd"), Some(vec![Within; 3]));
        assert_eq!(chain("chc"), None);
        // Beside a condition, it can wait.
        let beside = [place(&[], 'h'), place(&[0], 'd'), place(&[], 'c')];
        assert_eq!(parts_of(&beside), Some(vec![Behind, Behind, Within]));
    }

    proptest! {
        /// Whatever the order: the device's part has all conditions and nothing of the host's, and nobody comes before what it waits for.
        #[test]
        fn parts_keep_the_order(
            kinds in prop::collection::vec(prop::sample::select(vec!['d', 'd', 'h', 'c']), 1..20),
            edges in prop::collection::btree_set((0..20usize, 0..20usize), 0..40),
        ) {
            let places: Vec<Place> = kinds.iter().enumerate().map(|(to, what)| {
                let before = edges.iter().filter(|edge| edge.1 == to && edge.0 < to);
                place(&before.map(|edge| edge.0).collect::<Vec<_>>(), *what)
            }).collect();
            let Some(parts) = parts_of(&places) else {
                return Ok(());
            };
            for (place, part) in places.iter().zip(&parts) {
                prop_assert!(!place.is_conditional || *part == Part::Within);
                prop_assert!(place.is_of_device || *part != Part::Within);
                for before in &place.dependencies {
                    prop_assert!(parts[*before] as u8 <= *part as u8);
                }
            }
        }
    }
}
