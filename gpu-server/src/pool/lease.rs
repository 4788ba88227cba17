//! What was granted.

use protocol::hello::Identity;
use serde::{Deserialize, Serialize};

use super::{Caller, Compute, LeaseId, Moment, Slice, Tenant, TokenId};

/// Who holds a lease, for people: as the client said it. Nothing here is believed for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// The client machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// The process, in the client's own namespace.
    pub process: u32,
    /// The program.
    pub program: String,
}

impl From<&Identity> for Holder {
    fn from(identity: &Identity) -> Self {
        Self {
            host: identity.host.clone(),
            user: identity.user.clone(),
            process: identity.process,
            program: identity.program.clone(),
        }
    }
}

impl From<&Holder> for Identity {
    fn from(holder: &Holder) -> Self {
        Self {
            host: holder.host.clone(),
            user: holder.user.clone(),
            process: holder.process,
            program: holder.program.clone(),
            ..Self::default()
        }
    }
}

/// What keeps a lease alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeping {
    /// Its holder's stream, or a session; and then a grace.
    Attached,
    /// Nothing: until it is released or its time is over.
    Detached,
    /// Its one session: a program that leases for itself.
    Session,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What names it.
    pub id: LeaseId,
    /// Whom it belongs to.
    pub tenant: Tenant,
    /// The token by which it was asked for.
    pub token: Option<TokenId>,
    /// Who holds it.
    pub holder: Holder,
    /// What keeps it.
    pub keeping: Keeping,
    /// Its parts of devices: at least one, all of distinct devices.
    pub slices: Vec<Slice>,
    /// Since when.
    pub granted: Moment,
    /// Until when; none: as long as it is wanted.
    pub expires: Option<Moment>,
    /// When a kernel or copy of it last ran; at first, when it was granted.
    pub last_used: Moment,
    /// Sessions that are alive.
    pub sessions: u32,
    /// How it ended, if it has: its slices are taken until its last session has ended too.
    pub ended: Option<LeaseEnd>,
}

impl Lease {
    /// Whether this caller may use and end it.
    #[must_use]
    pub fn belongs_to(&self, caller: &Caller) -> bool {
        self.tenant == caller.tenant
    }

    /// Bytes of memory, over all slices.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.slices.iter().map(|slice| slice.memory).sum()
    }

    /// Compute, over all slices.
    #[must_use]
    pub fn compute(&self) -> Compute {
        self.slices.iter().map(|slice| slice.compute).sum()
    }
}

impl From<&Lease> for control_plane::Lease {
    fn from(lease: &Lease) -> Self {
        Self {
            id: lease.id.to_string(),
            tenant: lease.tenant.to_string(),
            holder: Some(Identity::from(&lease.holder)),
            slices: lease.slices.iter().map(Into::into).collect(),
            granted_unix_ms: lease.granted.0,
            expires_unix_ms: lease.expires.map_or(0, |moment| moment.0),
            detached: lease.keeping == Keeping::Detached,
            sessions: lease.sessions,
            idle_since_unix_ms: lease.last_used.0,
        }
    }
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseEnd {
    /// By its holder, or with its session.
    Released,
    /// Its time was over.
    Expired,
    /// It was idle for too long.
    Idle,
    /// By an operator, or since its token was revoked, or since its device is gone.
    Revoked,
    /// By a drain.
    Drained,
    /// Its holder was gone for longer than the grace.
    Abandoned,
}

impl LeaseEnd {
    /// As it is written in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
            Self::Abandoned => "abandoned",
        }
    }
}

impl From<LeaseEnd> for control_plane::LeaseEnd {
    fn from(end: LeaseEnd) -> Self {
        match end {
            LeaseEnd::Released => Self::Released,
            LeaseEnd::Expired => Self::Expired,
            LeaseEnd::Idle => Self::Idle,
            LeaseEnd::Revoked => Self::Revoked,
            LeaseEnd::Drained => Self::Drained,
            LeaseEnd::Abandoned => Self::Abandoned,
        }
    }
}
