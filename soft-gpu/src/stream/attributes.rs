//! Attributes of streams: hints, which are checked, kept and told. Nothing here runs otherwise because of them.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use std::sync::{Arc, Mutex};

use driver_api::abi::{CUresult, CUstream, CUstreamAttrID, CUstreamAttrValue};
use driver_api::stream_attribute::{
    ACCESS_POLICY_WINDOW, MEM_SYNC_DOMAIN, MEM_SYNC_DOMAIN_MAP, NVLINK_UTIL_CENTRIC_SCHEDULING,
    OF_STREAMS, PRIORITY, SYNCHRONIZATION_POLICY,
};

use super::find;
use crate::context::GREATEST_PRIORITY;
use crate::entry::{answer, done};
use crate::threads::lock;

/// `CU_SYNC_POLICY_AUTO`.
const AUTO: u64 = 1;

type Value = [u64; 8];

/// The attributes of a stream, in the order of [`OF_STREAMS`].
#[derive(Debug)]
pub(crate) struct Attributes(Mutex<[Value; OF_STREAMS.len()]>);

fn place(attribute: CUstreamAttrID) -> Result<usize, CUresult> {
    let place = OF_STREAMS.iter().position(|known| *known == attribute);
    place.ok_or(CUresult::INVALID_VALUE)
}

impl Attributes {
    pub(crate) fn new(priority: i32) -> Self {
        let first = |attribute| match attribute {
            SYNCHRONIZATION_POLICY => AUTO,
            PRIORITY => u64::from(priority as u32),
            _ => 0,
        };
        Self(Mutex::new(
            OF_STREAMS.map(|attribute| [first(attribute), 0, 0, 0, 0, 0, 0, 0]),
        ))
    }

    fn get(&self, attribute: CUstreamAttrID) -> Result<Value, CUresult> {
        Ok(lock(&self.0)[place(attribute)?])
    }

    fn set(&self, attribute: CUstreamAttrID, value: Value) -> Result<(), CUresult> {
        let place = place(attribute)?;
        lock(&self.0)[place] = checked(attribute, value)?;
        Ok(())
    }

    pub(crate) fn priority(&self) -> i32 {
        self.get(PRIORITY)
            .map_or(0, |[first, ..]| first as u32 as i32)
    }

    fn copy(&self, other: &Self) {
        let values = *lock(&other.0);
        *lock(&self.0) = values;
    }
}

/// A value without what its attribute does not mean.
fn checked(attribute: CUstreamAttrID, value: Value) -> Result<Value, CUresult> {
    let number = value[0] as u32;
    let only = |number: u32| [number.into(), 0, 0, 0, 0, 0, 0, 0];
    match attribute {
        // Address, bytes; share and the first property; the second: no window is larger than 0 bytes (attribute 109).
        ACCESS_POLICY_WINDOW => {
            let ratio = f32::from_bits(value[2] as u32);
            let properties = [value[2] >> 32, value[3] & 0xFFFF_FFFF];
            let is_good = value[1] == 0
                && (0.0..=1.0).contains(&ratio)
                && properties[0] <= 2
                && properties[1] <= 1;
            let [address, bytes, first, ..] = value;
            is_good.then_some([address, bytes, first, properties[1], 0, 0, 0, 0])
        }
        SYNCHRONIZATION_POLICY => (1..=4).contains(&number).then(|| only(number)),
        PRIORITY => {
            let priority = (number as i32).clamp(GREATEST_PRIORITY, 0);
            Some(only(priority as u32))
        }
        // There is one domain.
        MEM_SYNC_DOMAIN_MAP => (number & 0xFFFF == 0).then(|| only(0)),
        MEM_SYNC_DOMAIN | NVLINK_UTIL_CENTRIC_SCHEDULING => (number <= 1).then(|| only(number)),
        _ => None,
    }
    .ok_or(CUresult::INVALID_VALUE)
}

pub(crate) unsafe fn cuStreamGetAttribute(
    stream: CUstream,
    attr: CUstreamAttrID,
    value: *mut CUstreamAttrValue,
) -> CUresult {
    let words = find(stream).and_then(|(_, stream)| stream.attributes.get(attr));
    // SAFETY: the caller passes a place for a value.
    unsafe { answer(value, words.map(|words| CUstreamAttrValue { words })) }
}

pub(crate) unsafe fn cuStreamSetAttribute(
    stream: CUstream,
    attr: CUstreamAttrID,
    param: *const CUstreamAttrValue,
) -> CUresult {
    if param.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null; the caller passes a value.
    let value = unsafe { param.read_unaligned() };
    done(find(stream).and_then(|(_, stream)| stream.attributes.set(attr, value.words)))
}

pub(crate) unsafe fn cuStreamCopyAttributes(
    dst_stream: CUstream,
    src_stream: CUstream,
) -> CUresult {
    let copy = || {
        let ((_, to), (_, from)) = (find(dst_stream)?, find(src_stream)?);
        if !Arc::ptr_eq(&to.fate, &from.fate) {
            return Err(CUresult::INVALID_VALUE);
        }
        to.attributes.copy(&from.attributes);
        Ok(())
    };
    done(copy())
}
