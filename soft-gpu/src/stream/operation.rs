//! What streams do, as values: posted once, or kept as the node of a graph and done again and again.

use std::sync::Arc;

use driver_api::abi::CUresult;
use driver_api::graph_layout::condition;

use super::values::Values;
use crate::event::Event;
use crate::graph::{Allocation, Conditional, Nested};
use crate::launch::{HostCall, Kernel};
use crate::memory::{Copy, Fill};
use crate::state::driver;

/// One operation. It was checked when it was made.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Kernel(Arc<Kernel>),
    Copy(Copy),
    Fill(Fill),
    Host(HostCall),
    Values(Arc<Values>),
    /// The event with its handle; what a launch of the graph does with it, the launch knows.
    Record(Arc<Event>, usize),
    Wait(Arc<Event>, usize),
    Child(Arc<Nested>),
    /// Only graphs have this and the next.
    Allocate(Arc<Allocation>),
    /// An allocation's address and name.
    Free(u64, u64),
    /// Only graphs have it, whose launch chooses what it does.
    Conditional(Arc<Conditional>),
    Empty,
}

impl Operation {
    /// `CU_GRAPH_NODE_TYPE_*`
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Kernel(_) => 0,
            Self::Copy(_) => 1,
            Self::Fill(_) => 2,
            Self::Host(_) => 3,
            Self::Child(_) => 4,
            Self::Empty => 5,
            Self::Wait(..) => 6,
            Self::Record(..) => 7,
            Self::Allocate(_) => 10,
            Self::Free(..) => 11,
            Self::Values(_) => 12,
            Self::Conditional(_) => condition::NODE,
        }
    }

    /// Whether it makes or ends memory, which nobody may do twice at a time.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, Self::Allocate(_) | Self::Free(..))
    }

    /// Whether the body of a condition may have it.
    pub(crate) fn check_in_body(&self) -> Result<(), CUresult> {
        let may_be = match self {
            Self::Copy(copy) => copy.is_of_devices(),
            _ => condition::is_of_body(self.kind()),
        };
        may_be.then_some(()).ok_or(CUresult::NOT_SUPPORTED)
    }

    /// Whether it can be done: memory may have gone since it was made.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        match self {
            Self::Copy(copy) => copy.check(),
            Self::Fill(fill) => fill.check(),
            Self::Values(values) => values.check(),
            _ => Ok(()),
        }
    }

    /// Does it.
    pub(crate) fn perform(&self) -> Result<(), CUresult> {
        match self {
            Self::Kernel(kernel) => return kernel.perform(),
            Self::Copy(copy) => copy.perform(),
            Self::Fill(fill) => fill.perform(),
            Self::Host(call) => call.perform(),
            Self::Values(values) => values.perform(),
            Self::Allocate(allocation) => return allocation.perform(),
            Self::Free(address, id) => {
                let driver = driver()?;
                driver.memory.spoil(driver, *address, *id);
            }
            Self::Record(..)
            | Self::Wait(..)
            | Self::Child(_)
            | Self::Conditional(_)
            | Self::Empty => {}
        }
        Ok(())
    }
}
