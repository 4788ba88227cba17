//! A graph that only works within a device, as a graph of the server's driver: a launch is one call, and its branches run beside each other.
//!
//! *What:* kernels, copies within the device, fills, and graphs of those. *When:* at the second launch of the same steps: the first is made of calls,
//! which tells what is wrong with each of them, and a program that changes its graph before each launch never pays for making one.
//! A change ends the driver's graph. Where the driver cannot make it, or the launch is in another context, calls do it as before.
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
use super::steps::Step;
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
            Self::Made(Made { id, context, .. }) => {
                session.post_in(context, |_| GpurunGraphEnd::new(id), &[])
            }
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
            Self::Never => return Ok(false),
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
                let count = session.objects.memory.host.count();
                if made.pinned != count {
                    map_named(session, steps);
                    made.pinned = count;
                }
                let request = GpurunGraphLaunch::new(made.id, stream.wire_id());
                let mapped = &session.objects.memory.mapped;
                let post = || session.post_operations(stream, made.operations, &request, &[]);
                mapped.with_kernel(post).map(|()| true)
            }
            _ => Ok(false),
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
    }
}

fn make(session: &Session, context: u32, steps: &[Step]) -> OnDevice {
    let mut list = List::default();
    if list.put_all(steps, &[]).is_none() {
        return OnDevice::Never;
    }
    let mut sent = session
        .objects
        .graphs_sent
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *sent += 1;
    let id = *sent;
    let parts = list.bytes.chunks(PART_BYTES);
    let last = parts.len().saturating_sub(1);
    let send = |(index, part): (usize, &[u8])| {
        let request = GpurunGraphMake::new(id, u32::from(index == last));
        session.ask_in(context, &request, part).map(drop)
    };
    match parts.enumerate().try_for_each(send) {
        Ok(()) if !list.bytes.is_empty() => {
            log::debug!("a graph of {} nodes is made at the server", list.count);
            // The calls of the launch before have mapped what was pinned then; whatever was pinned since is looked for.
            OnDevice::Made(Made {
                id,
                context,
                operations: u64::from(list.count),
                pinned: 0,
            })
        }
        Ok(()) => OnDevice::Never,
        Err(error) => {
            log::debug!("a graph stays one of calls: the server's driver answers {error}");
            OnDevice::Never
        }
    }
}

/// A list of nodes, as it travels.
#[derive(Default)]
struct List {
    bytes: Vec<u8>,
    count: u32,
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
            Operation::Host(_)
            | Operation::Child(_)
            | Operation::Wait(_)
            | Operation::Record(_)
            | Operation::Memory(_) => None,
        }
    }
}
