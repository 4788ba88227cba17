//! What is written: JSON values, apart from the types that the pool thinks in.
//!
//! Rules: a field that is new has a default; whatever an older server could not leave out raises [`FORMAT`](super::FORMAT).

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::pool::meter::{Reading, Totals};
use crate::pool::{
    Compute, Drain, Holder, Keeping, Lease, LeaseEnd, LeaseId, Moment, Slice, Tenant, TokenId,
};

/// A lease.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    id: LeaseId,
    tenant: Tenant,
    token: Option<TokenId>,
    holder: Holder,
    keeping: Keeping,
    slices: Vec<SliceRecord>,
    granted: u64,
    expires: Option<u64>,
    last_used: u64,
    sessions: u32,
    ended: Option<LeaseEnd>,
}

/// A part of a device.
#[derive(Debug, Serialize, Deserialize)]
struct SliceRecord {
    ordinal: u32,
    /// In hexadecimal.
    uuid: String,
    name: String,
    memory: u64,
    compute: u64,
    device_memory: u64,
}

/// A drain.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DrainRecord {
    end: Option<u64>,
}

/// What a tenant has used. Sums go beyond what a JSON number is good for, so they are texts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UsageRecord {
    leased: String,
    used: String,
    memory: String,
    leases: u64,
    sessions: u64,
}

/// How far a lease is charged.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReadingRecord {
    until: u64,
    used: u64,
}

impl From<&Lease> for LeaseRecord {
    fn from(lease: &Lease) -> Self {
        let Lease {
            id,
            tenant,
            token,
            holder,
            keeping,
            slices,
            granted,
            expires,
            last_used,
            sessions,
            ended,
        } = lease.clone();
        Self {
            id,
            tenant,
            token,
            holder,
            keeping,
            slices: slices.iter().map(Into::into).collect(),
            granted: granted.0,
            expires: expires.map(|moment| moment.0),
            last_used: last_used.0,
            sessions,
            ended,
        }
    }
}

impl TryFrom<LeaseRecord> for Lease {
    type Error = String;

    fn try_from(record: LeaseRecord) -> Result<Self, String> {
        let slices = record.slices.into_iter().map(TryInto::try_into);
        let slices: Vec<Slice> = slices.collect::<Result<_, String>>()?;
        if slices.is_empty() {
            return Err(format!("lease {} has no device", record.id));
        }
        Ok(Self {
            id: record.id,
            tenant: record.tenant,
            token: record.token,
            holder: record.holder,
            keeping: record.keeping,
            slices,
            granted: Moment(record.granted),
            expires: record.expires.map(Moment),
            last_used: Moment(record.last_used),
            sessions: record.sessions,
            ended: record.ended,
        })
    }
}

impl From<&Slice> for SliceRecord {
    fn from(slice: &Slice) -> Self {
        Self {
            ordinal: slice.ordinal,
            uuid: HEXLOWER.encode(&slice.uuid),
            name: slice.name.clone(),
            memory: slice.memory,
            compute: slice.compute.millionths(),
            device_memory: slice.device_memory,
        }
    }
}

impl TryFrom<SliceRecord> for Slice {
    type Error = String;

    fn try_from(record: SliceRecord) -> Result<Self, String> {
        let uuid = HEXLOWER.decode(record.uuid.as_bytes()).ok();
        let uuid = uuid.and_then(|bytes| bytes.try_into().ok());
        Ok(Self {
            ordinal: record.ordinal,
            uuid: uuid.ok_or_else(|| format!("'{}' is no UUID", record.uuid))?,
            name: record.name,
            memory: record.memory,
            compute: Compute::from_millionths(record.compute),
            device_memory: record.device_memory,
        })
    }
}

impl From<Drain> for DrainRecord {
    fn from(drain: Drain) -> Self {
        Self {
            end: drain.end.map(|moment| moment.0),
        }
    }
}

impl From<DrainRecord> for Drain {
    fn from(record: DrainRecord) -> Self {
        Self {
            end: record.end.map(Moment),
        }
    }
}

impl From<&Totals> for UsageRecord {
    fn from(totals: &Totals) -> Self {
        Self {
            leased: totals.leased.to_string(),
            used: totals.used.to_string(),
            memory: totals.memory.to_string(),
            leases: totals.leases,
            sessions: totals.sessions,
        }
    }
}

impl TryFrom<UsageRecord> for Totals {
    type Error = String;

    fn try_from(record: UsageRecord) -> Result<Self, String> {
        let number = |text: &str| {
            let number = text.parse();
            number.map_err(|error| format!("'{text}' is no sum: {error}"))
        };
        Ok(Self {
            leased: number(&record.leased)?,
            used: number(&record.used)?,
            memory: number(&record.memory)?,
            leases: record.leases,
            sessions: record.sessions,
        })
    }
}

impl From<Reading> for ReadingRecord {
    fn from(reading: Reading) -> Self {
        Self {
            until: reading.until.0,
            used: reading.used_ns,
        }
    }
}

impl From<ReadingRecord> for Reading {
    fn from(record: ReadingRecord) -> Self {
        Self {
            until: Moment(record.until),
            used_ns: record.used,
        }
    }
}
