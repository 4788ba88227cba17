//! Where a run takes place: on one core, or on two.
//!
//! What: [`Placement::pin`] confines the calling process, and so all that it starts afterwards: server, workers, clients and raw peers. Why: a
//! round trip between two ends on one core is a context switch, between two cores it is a wake-up or a spin, and a figure says nothing
//! without which.

use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::Failure;

/// How many cores both ends have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    /// One.
    One,
    /// Two, and the kernel's scheduler decides.
    Two,
}

impl Placement {
    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
        }
    }

    fn cores(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// Confines this process, out of the cores that it began with.
    ///
    /// # Errors
    /// There are not so many, or the kernel refuses.
    pub(crate) fn pin(self, allowed: &CpuSet) -> Result<(), Failure> {
        let mut chosen = CpuSet::new();
        // From the end: the first core serves most interrupts.
        let cores = (0..CpuSet::MAX_CPU)
            .rev()
            .filter(|core| allowed.is_set(*core));
        cores.take(self.cores()).for_each(|core| chosen.set(core));
        if (chosen.count() as usize) < self.cores() {
            return Err(format!("{} core(s) are not there", self.cores()).into());
        }
        Ok(sched_setaffinity(None, &chosen)?)
    }
}

/// The cores that this process may run on.
///
/// # Errors
/// The kernel's.
pub(crate) fn allowed() -> Result<CpuSet, Failure> {
    Ok(sched_getaffinity(None)?)
}
