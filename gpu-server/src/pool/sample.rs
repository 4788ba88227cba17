//! Leases and decisions for tests of what becomes of them.

use super::{
    Compute, Decision, Holder, Keeping, Lease, LeaseEnd, LeaseId, Moment, RequestId, Slice,
};

/// Half of each of two devices.
pub(crate) fn lease(id: LeaseId, tenant: &str, granted: Moment) -> Lease {
    let slice = |ordinal: u8| Slice {
        ordinal: ordinal.into(),
        uuid: [ordinal; 16],
        name: "NVIDIA Made-Up".to_owned(),
        memory: 8 << 30,
        compute: Compute::from_fraction(0.5),
        device_memory: 16 << 30,
    };
    Lease {
        id,
        tenant: tenant.parse().expect("a tenant"),
        token: "t-1".parse().ok(),
        holder: Holder {
            host: "laptop".to_owned(),
            user: "ann".to_owned(),
            process: 77,
            program: "train \"it\"\n".to_owned(),
        },
        keeping: Keeping::Detached,
        slices: vec![slice(0), slice(1)],
        granted,
        expires: None,
        last_used: granted,
        sessions: 0,
        ended: None,
    }
}

pub(crate) fn granted(lease: Lease) -> Decision {
    Decision::Granted {
        request: RequestId(1),
        lease: Box::new(lease),
    }
}

pub(crate) fn ended(mut lease: Lease) -> Decision {
    let end = LeaseEnd::Expired;
    lease.ended = Some(end);
    Decision::Ended {
        lease: Box::new(lease),
        end,
        message: "its time was over".to_owned(),
    }
}
