//! Who calls, and what they may have.

use std::time::Duration;

use super::{Compute, Tenant, TokenId};

/// Who calls: proven by a token, or by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whom what they lease belongs to.
    pub tenant: Tenant,
    /// What the tenant may have, as this caller is told.
    pub limits: Limits,
    /// Whether they may see all leases, end them, and drain.
    pub is_operator: bool,
    /// Their token, if they came by one.
    pub token_id: Option<TokenId>,
}

impl Caller {
    /// A caller without limits or token.
    #[must_use]
    pub fn unlimited(tenant: Tenant, is_operator: bool) -> Self {
        Self {
            tenant,
            limits: Limits::default(),
            is_operator,
            token_id: None,
        }
    }
}

/// Most that a tenant may have at once, over all its leases. None: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Slices, each on one device: a lease of two halves counts 2.
    pub devices: Option<u32>,
    /// Bytes of device memory.
    pub memory_bytes: Option<u64>,
    /// Compute, over all devices: 1.5 is one device and a half.
    pub compute: Option<Compute>,
    /// How long one lease may last.
    pub lease_time: Option<Duration>,
    /// Leases.
    pub leases: Option<u32>,
}
