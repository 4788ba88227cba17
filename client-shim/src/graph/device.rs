//! A graph that only works within a device, as a graph of the server's driver: a launch is one call, and its branches run beside each other.
//!
//! *What:* kernels, copies within the device, fills, and graphs of those. *When:* at the second launch of the same steps: the first is made of calls,
//! which tells what is wrong with each of them, and a program that changes its graph before each launch never pays for making one.
//! A change ends the driver's graph. Where the driver cannot make it, or the launch is in another context, calls do it as before.
//!
//! *Cost:* making is one round trip for each MiB of nodes. A launch is two posted calls, however many nodes there are: itself, and the event behind it.

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
    /// The graph of this number, in a context; what its kernels name was mapped when so much had been pinned.
    Made { id: u32, context: u32, pinned: u64 },
    /// It cannot be one.
    Never,
}

impl OnDevice {
    pub(super) const NEW: Self = Self::NotYet {
        was_launched: false,
    };

    /// The steps have changed.
    pub(super) fn changed(&mut self, session: &Session) -> Result<(), CUresult> {
        match std::mem::replace(self, Self::NEW) {
            Self::Made { id, context, .. } => {
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
            Self::Made { .. } => {}
        }
        match self {
            Self::Made {
                id,
                context,
                pinned,
            } if *context == stream.context => {
                let count = session.objects.memory.host.count();
                if *pinned != count {
                    map_named(session, steps);
                    *pinned = count;
                }
                let request = GpurunGraphLaunch::new(*id, stream.wire_id());
                session.post_work(stream, &request, &[]).map(|()| true)
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
    if list.put_all(steps, &[]).is_none() || list.bytes.len() > device_graph::MAX_BYTES {
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
            OnDevice::Made {
                id,
                context,
                pinned: 0,
            }
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
    fn push(&mut self, kind: u32, after: &[u32], body: [&[u8]; 2]) -> u32 {
        device_graph::push(&mut self.bytes, kind, after, body);
        self.count += 1;
        self.count - 1
    }

    /// One place for several: an empty node behind them.
    fn join(&mut self, places: Vec<u32>) -> Vec<u32> {
        match places.len() {
            0 | 1 => places,
            _ => vec![self.push(kind::EMPTY, &places, [&[], &[]])],
        }
    }

    /// Puts steps behind what is at these places; where their own ends are, none of which is `None` where a step is no device's.
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
            let own = match step.child() {
                Some(child) => {
                    let before = self.join(before);
                    match self.put_all(child, &before)? {
                        ends if ends.is_empty() => before,
                        ends => self.join(ends),
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
        if !step.is_enabled {
            return Some(self.push(kind::EMPTY, after, [&[], &[]]));
        }
        match &step.operation {
            Operation::Empty | Operation::Allocate(_) | Operation::Free(_) => {
                Some(self.push(kind::EMPTY, after, [&[], &[]]))
            }
            Operation::Kernel(kernel) => {
                let (request, rest) = kernel.of_graph();
                Some(self.push(kind::KERNEL, after, [request.as_bytes(), rest]))
            }
            Operation::Copy(copy) => {
                let body = copy.of_device()?;
                Some(self.push(kind::COPY, after, [body.as_bytes(), &[]]))
            }
            Operation::Fill(fill) => {
                let request = fill.of_graph()?;
                Some(self.push(kind::FILL, after, [request.as_bytes(), &[]]))
            }
            Operation::Host(_)
            | Operation::Child(_)
            | Operation::Wait(_)
            | Operation::Record(_)
            | Operation::Memory(_) => None,
        }
    }
}
