//! What a node does: the same values that a stream is given, and how they are put into one.

use std::sync::Arc;

use driver_api::abi::{CUgraphNodeType, CUresult, CUstreamBatchMemOpParams};
use driver_api::graph_layout::condition;
use driver_api::stream_memory::StreamMemoryOperation;

use super::lanes::Contexts;
use super::{Allocation, Conditional, Graph};
use crate::event::Event;
use crate::launch::{HostCall, Kernel};
use crate::log;
use crate::memory::{BoxCopy, Fill};
use crate::session::Session;
use crate::stream::{self, Stream};

/// Memory operations of a stream, and as the program describes them, for who asks.
#[derive(Debug)]
pub(crate) struct MemoryCall {
    operations: Vec<StreamMemoryOperation>,
    described: Vec<CUstreamBatchMemOpParams>,
}

impl MemoryCall {
    pub(crate) fn new(operations: &[StreamMemoryOperation]) -> Self {
        let describe = StreamMemoryOperation::to_parameters;
        Self {
            operations: operations.to_vec(),
            described: operations.iter().map(describe).collect(),
        }
    }

    pub(crate) fn described(&self) -> &[CUstreamBatchMemOpParams] {
        &self.described
    }
}

/// What a node does.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Kernel(Arc<Kernel>),
    Copy(Arc<BoxCopy>),
    Fill(Fill),
    Host(HostCall),
    /// All that another graph does; the node owns it.
    Child(Arc<Graph>),
    Empty,
    Wait(Arc<Event>),
    Record(Arc<Event>),
    /// Memory of the graph's own.
    Allocate(Arc<Allocation>),
    /// A graph's memory at an address.
    Free(u64),
    Memory(Arc<MemoryCall>),
    /// One of several graphs, or none: a launch on the device knows which.
    Conditional(Arc<Conditional>),
}

impl Operation {
    /// `CU_GRAPH_NODE_TYPE_*`.
    pub(crate) fn kind(&self) -> CUgraphNodeType {
        match self {
            Self::Kernel(_) => 0,
            Self::Copy(_) => 1,
            Self::Fill(_) => 2,
            Self::Host(_) => 3,
            Self::Child(_) => 4,
            Self::Empty => 5,
            Self::Wait(_) => 6,
            Self::Record(_) => 7,
            Self::Allocate(_) => 10,
            Self::Free(_) => 11,
            Self::Memory(_) => 12,
            Self::Conditional(_) => condition::NODE,
        }
    }

    /// For a person.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "kernel",
            Self::Copy(_) => "memcpy",
            Self::Fill(_) => "memset",
            Self::Host(_) => "host",
            Self::Child(_) => "graph",
            Self::Empty => "empty",
            Self::Wait(_) => "wait event",
            Self::Record(_) => "record event",
            Self::Allocate(_) => "mem alloc",
            Self::Free(_) => "mem free",
            Self::Memory(_) => "memory operations",
            Self::Conditional(_) => "conditional",
        }
    }

    /// Whether it can be left out of a launch: kernels, copies and fills.
    pub(crate) fn can_be_disabled(&self) -> bool {
        self.kind() <= 2
    }

    /// The contexts that it is of where it is made for one.
    pub(super) fn contexts(&self, current: u32) -> Contexts {
        match self {
            Self::Kernel(_)
            | Self::Copy(_)
            | Self::Fill(_)
            | Self::Allocate(_)
            | Self::Free(_)
            | Self::Memory(_) => Contexts::One(current),
            Self::Child(graph) => graph.contexts(),
            Self::Conditional(conditional) => Contexts::One(conditional.context()),
            Self::Host(_) | Self::Empty | Self::Wait(_) | Self::Record(_) => Contexts::None,
        }
    }

    /// Whether it allocates or frees: the graph cannot be copied then.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, Self::Allocate(_) | Self::Free(_))
    }

    pub(super) fn is_conditional(&self) -> bool {
        matches!(self, Self::Conditional(_))
    }

    /// Whether the body of a condition may have it.
    pub(super) fn check_in_body(&self) -> Result<(), CUresult> {
        let is_on_device = match self {
            Self::Copy(copy) => copy.is_empty() || copy.of_device().is_some(),
            _ => true,
        };
        if is_on_device && condition::is_of_body(self.kind()) {
            return Ok(());
        }
        log::warn_once(
            "bodies of conditions",
            format_args!(
                "the body of a condition has only kernels, fills, copies of device memory, graphs of those and conditions: no node of the kind {}",
                self.name()
            ),
        );
        Err(CUresult::NOT_SUPPORTED)
    }

    /// Puts it into a stream. A graph in a graph is more than one operation, which its steps do.
    pub(crate) fn post(
        &self,
        session: &'static Session,
        stream: &Arc<Stream>,
    ) -> Result<(), CUresult> {
        match self {
            Self::Kernel(kernel) => kernel.post(session, stream),
            Self::Copy(copy) => copy.post(session, stream),
            Self::Fill(fill) => fill.post(session, stream),
            Self::Host(call) => call.post(session, stream),
            // Whose memory is, a launch has said.
            Self::Child(_) | Self::Empty | Self::Allocate(_) | Self::Free(_) => Ok(()),
            // Never of calls: see there.
            Self::Conditional(_) => Err(CUresult::NOT_SUPPORTED),
            Self::Wait(event) => event
                .check()
                .and_then(|()| event.wait_in(session, stream, 0)),
            Self::Record(event) => event
                .check()
                .and_then(|()| event.record(session, stream, 0)),
            Self::Memory(call) => stream::post(session, stream, &call.operations),
        }
    }
}
