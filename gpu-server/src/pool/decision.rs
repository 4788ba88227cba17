//! What the pool decides, and why it refuses.

use protocol::hello::RefusalCode;
use protocol::size::Bytes;

use super::{Lease, LeaseEnd, LeaseId, RequestId};

/// What the daemon has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The request has become this lease: its slices may be used now.
    Granted {
        /// Which request.
        request: RequestId,
        /// The lease as it was granted.
        lease: Box<Lease>,
    },
    /// The request waits; told again whenever its place or reason changes.
    Queued {
        /// Which request.
        request: RequestId,
        /// Where it stands.
        place: Place,
    },
    /// The request gets nothing, now or ever; it is gone.
    Refused {
        /// Which request.
        request: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// The lease is over: its sessions must end, and nobody can begin one. Told once.
    Ended {
        /// The lease as it was, with how it ended.
        lease: Box<Lease>,
        /// How.
        end: LeaseEnd,
        /// One sentence for its holder.
        message: String,
    },
    /// The lease's holder should know this.
    Warned {
        /// Which lease.
        lease: LeaseId,
        /// One sentence.
        message: String,
    },
    /// The lease lives on with a new end or a new keeping: to be stored.
    Changed {
        /// The lease as it is now.
        lease: Box<Lease>,
    },
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// 1 is the next.
    pub position: u32,
    /// How many wait.
    pub length: u32,
    /// What it waits for, one sentence.
    pub reason: String,
    /// The largest need of this shape that could be granted now, for people; empty: nothing.
    pub fits_now: String,
}

impl From<&Place> for control_plane::Queued {
    fn from(place: &Place) -> Self {
        Self {
            position: place.position,
            length: place.length,
            reason: place.reason.clone(),
            fits_now: place.fits_now.clone(),
        }
    }
}

/// Why a request gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No devices like those, or not as many, even if the pool were empty.
    #[error("{}", too_many(*.wanted, *.largest, .host, .filters))]
    TooMany {
        /// How many were wanted.
        wanted: u32,
        /// How many there are that could ever serve.
        largest: u32,
        /// The server.
        host: String,
        /// The filters, for people; empty: none.
        filters: String,
    },
    /// More memory of each device than any has.
    #[error(
        "{} of memory are more than any device can give; the largest slice is {}",
        Bytes(*.wanted),
        Bytes(*.largest)
    )]
    TooLarge {
        /// Bytes that were wanted.
        wanted: u64,
        /// Bytes of the largest slice.
        largest: u64,
    },
    /// A slice that cannot hold a context.
    #[error(
        "a slice of {} cannot hold a CUDA context; the least that works is {} (-m {})",
        Bytes(*.wanted),
        Bytes(*.least),
        .least.div_ceil(protocol::size::MIB)
    )]
    TooSmall {
        /// Bytes that the largest matching device would have given.
        wanted: u64,
        /// The least that works.
        least: u64,
    },
    /// More than the tenant may have.
    #[error("{0}")]
    Limit(String),
    /// Nothing is free, and the request would not wait.
    #[error("nothing is free: {reason}{}", what_fits(.fits_now))]
    Busy {
        /// What it would have waited for.
        reason: String,
        /// What would have been granted; empty: nothing.
        fits_now: String,
    },
    /// Too many wait.
    #[error("{0} requests wait already; try again later")]
    QueueFull(usize),
    /// The server is being emptied.
    #[error("the server is draining: it gives no new leases")]
    Draining,
    /// The token was revoked, or an operator ended all requests of the tenant.
    #[error("the token or tenant was revoked")]
    Revoked,
}

fn too_many(wanted: u32, largest: u32, host: &str, filters: &str) -> String {
    let like = match filters {
        "" => String::new(),
        filters => format!(" with {filters}"),
    };
    match largest {
        0 => format!("no server has a device{like}; {host} has none"),
        _ => format!("no server has {wanted} devices{like}; largest: {host} with {largest}"),
    }
}

fn what_fits(fits_now: &str) -> String {
    match fits_now {
        "" => String::new(),
        fits => format!("; free now: {fits}"),
    }
}

impl Refusal {
    /// As it travels in a hello's reply.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::TooMany { .. } | Self::TooLarge { .. } => RefusalCode::NoDevice,
            Self::TooSmall { .. } => RefusalCode::TooSmall,
            Self::Limit(_) => RefusalCode::Limit,
            Self::Busy { .. } | Self::QueueFull(_) => RefusalCode::Busy,
            Self::Draining => RefusalCode::Ending,
            Self::Revoked => RefusalCode::Unauthenticated,
        }
    }
}

/// Why something cannot be done with a lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is none of this name, or it is over. The same for a lease of another tenant that is over.
    #[error("there is no lease {0}, or it is over; see gpurun leases")]
    Unknown(LeaseId),
    /// It belongs to another tenant.
    #[error("lease {0} belongs to another tenant")]
    Forbidden(LeaseId),
    /// It has no end to set: it lives as long as its holder.
    #[error("lease {0} lives as long as its program; only leases of gpurun request can be renewed")]
    NotDetached(LeaseId),
    /// Longer than the tenant may.
    #[error("{0}")]
    Limit(String),
}

impl LeaseError {
    /// As it travels in a hello's reply.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Unknown(_) | Self::NotDetached(_) => RefusalCode::Lease,
            Self::Forbidden(_) => RefusalCode::Forbidden,
            Self::Limit(_) => RefusalCode::Limit,
        }
    }
}
