//! The pool: who gets which part of which device, and for how long.
//!
//! What: everything that decides about leases. Why a room of its own: it must be right whatever happens outside, so it has no
//! socket, thread or clock; the daemon tells it what happened and when, and does what it [decides](Decision). Only [`store`] and [`audit`] have
//! an edge, which is a file and its thread. Rules:
//!
//! * slices of a device never add up to more than its usable memory, or to more than its compute time;
//! * a device that a lease had is taken until the lease's last session has ended, not only until the lease has;
//! * all devices of a lease are distinct; a lease is used by its own tenant alone;
//! * what a person reads says what was wrong and what to do.
//!
//! ```text
//! names, caller    who asks                 need, device     what is asked for, what there is
//! policy           what the operator wants  lease            what was granted
//! scheduler        events -> decisions      placement, fair  where, and whose turn
//! store            what outlives the daemon meter, audit     what was used, and by whom
//! ```

pub mod audit;
mod caller;
mod decision;
mod device;
mod fair;
mod lease;
pub mod meter;
mod names;
mod need;
mod placement;
mod policy;
#[cfg(test)]
pub(crate) mod sample;
mod scheduler;
pub mod sparing;
pub mod store;

pub use caller::{Caller, Limits};
pub use decision::{Decision, LeaseError, Place, Refusal};
pub use device::{Capacity, Device, ServerFacts, Slice};
pub use lease::{Holder, Keeping, Lease, LeaseEnd};
pub use names::{InvalidName, LeaseId, RequestId, Tenant, TokenId};
pub use need::{Need, NeedError, Portion};
pub use policy::{Packing, Policy, Sharing};
pub use scheduler::{Ask, Drain, Free, Scheduler, Waiting};

use std::fmt;
use std::ops::{Add, AddAssign};
use std::time::Duration;

/// A moment: milliseconds since the Unix epoch, since it must mean the same after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Now, by the system's clock. For the edge; nothing in here asks.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long after the other one; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }
}

/// A part of a device's compute time in millionths, or a sum of such parts: whole numbers, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Compute(u64);

impl Compute {
    /// All of one device.
    pub const WHOLE: Self = Self(1_000_000);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// From a fraction, rounded down so that equal parts fit; never nothing.
    ///
    /// Numbers below zero, and what is no number, count as the least part.
    #[must_use]
    pub fn from_fraction(fraction: f64) -> Self {
        // A millionth of a millionth makes up for fractions such as 0.29, which binary numbers only come near to.
        let millionths = (fraction * 1e6 + 1e-6).floor().clamp(1.0, 1e15);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        Self(millionths as u64)
    }

    /// From millionths.
    #[must_use]
    pub const fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }

    /// As a fraction of one device.
    #[must_use]
    pub fn fraction(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "sums are far below 2^52")]
        let millionths = self.0 as f64;
        millionths / 1e6
    }

    /// What is left after taking this much; nothing if there is not so much.
    #[must_use]
    pub const fn less(self, taken: Self) -> Self {
        Self(self.0.saturating_sub(taken.0))
    }
}

impl Add for Compute {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Compute {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Compute {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::NONE, Add::add)
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.fraction())
    }
}
