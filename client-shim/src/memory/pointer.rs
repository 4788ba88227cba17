//! What an address is: answered from our own tables.
//!
//! # Safety
//! The functions named like the driver's write each attribute with the type that the API documents for it, through pointers that are not
//! null and writable by its contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_int, c_uint, c_void};

use driver_api::abi::{CUcontext, CUdeviceptr, CUpointer_attribute, CUresult};

use super::{Allocation, Pinned, out};
use crate::entry::code;
use crate::handles::Handle;
use crate::session::{self, Session};

/// `CU_POINTER_ATTRIBUTE_*`.
mod attribute {
    pub(super) const CONTEXT: u32 = 1;
    pub(super) const MEMORY_TYPE: u32 = 2;
    pub(super) const DEVICE_POINTER: u32 = 3;
    pub(super) const HOST_POINTER: u32 = 4;
    pub(super) const SYNC_MEMOPS: u32 = 6;
    pub(super) const BUFFER_ID: u32 = 7;
    pub(super) const IS_MANAGED: u32 = 8;
    pub(super) const DEVICE_ORDINAL: u32 = 9;
    pub(super) const IS_LEGACY_CUDA_IPC_CAPABLE: u32 = 10;
    pub(super) const RANGE_START_ADDR: u32 = 11;
    pub(super) const RANGE_SIZE: u32 = 12;
    pub(super) const MAPPED: u32 = 13;
    pub(super) const ALLOWED_HANDLE_TYPES: u32 = 14;
    pub(super) const IS_GPU_DIRECT_RDMA_CAPABLE: u32 = 15;
    pub(super) const ACCESS_FLAGS: u32 = 16;
    pub(super) const MEMPOOL_HANDLE: u32 = 17;
}

/// `CU_MEMORYTYPE_HOST` and `CU_MEMORYTYPE_DEVICE`.
const HOST: c_uint = 1;
const DEVICE: c_uint = 2;

/// A value with the type that its attribute has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    Unsigned(c_uint),
    Signed(c_int),
    Word(u64),
    Flag(bool),
}

impl Value {
    /// # Safety
    /// `place` is writable for a value of the attribute's type.
    unsafe fn write(self, place: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Unsigned(value) => place.cast::<c_uint>().write(value),
                Self::Signed(value) => place.cast::<c_int>().write(value),
                Self::Word(value) => place.cast::<u64>().write(value),
                Self::Flag(value) => place.cast::<bool>().write(value),
            }
        }
    }
}

/// What is at an address.
enum Place {
    Device(Allocation),
    Host(Pinned),
}

fn place_of(session: &Session, address: u64) -> Option<Place> {
    let memory = &session.objects.memory;
    let device = memory.find(address).map(Place::Device);
    device.or_else(|| {
        memory
            .host
            .find(usize::try_from(address).ok()?, 1)
            .map(Place::Host)
    })
}

fn value_of(
    session: &Session,
    place: &Place,
    wanted: u32,
    address: u64,
) -> Result<Value, CUresult> {
    match place {
        Place::Device(allocation) => device_value(session, allocation, wanted, address),
        Place::Host(pinned) => host_value(pinned, wanted, address),
    }
}

fn device_value(
    session: &Session,
    allocation: &Allocation,
    wanted: u32,
    address: u64,
) -> Result<Value, CUresult> {
    let of_context = || {
        let context = session.objects.contexts.get(allocation.context);
        context.map_or(0, |context| context.device)
    };
    let device = allocation.device().unwrap_or_else(of_context);
    Ok(match wanted {
        attribute::CONTEXT if allocation.context == 0 => Value::Word(0),
        attribute::CONTEXT => Value::Word(CUcontext::dress(allocation.context).0 as u64),
        attribute::MEMORY_TYPE => Value::Unsigned(DEVICE),
        attribute::DEVICE_POINTER => Value::Word(address),
        attribute::BUFFER_ID => Value::Word(allocation.unique),
        attribute::DEVICE_ORDINAL => Value::Signed(c_int::try_from(device).unwrap_or(0)),
        attribute::RANGE_START_ADDR => Value::Word(allocation.start),
        attribute::RANGE_SIZE => Value::Word(allocation.size),
        attribute::MAPPED => Value::Flag(true),
        attribute::HOST_POINTER if allocation.is_managed() => Value::Word(address),
        // A word of 32 bits: cudart reads it from a place that it has not cleared.
        attribute::IS_MANAGED => Value::Unsigned(allocation.is_managed().into()),
        // CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE
        attribute::ACCESS_FLAGS => Value::Unsigned(3),
        attribute::IS_LEGACY_CUDA_IPC_CAPABLE => {
            let memory = &session.objects.memory;
            Value::Flag(memory.shareable(session, allocation.start).is_ok())
        }
        attribute::MEMPOOL_HANDLE => {
            Value::Word(session.objects.stream_ordered.handle_at(allocation.start))
        }
        _ => common_value(wanted)?,
    })
}

fn host_value(pinned: &Pinned, wanted: u32, address: u64) -> Result<Value, CUresult> {
    Ok(match wanted {
        attribute::CONTEXT => Value::Word(0),
        attribute::MEMORY_TYPE => Value::Unsigned(HOST),
        attribute::DEVICE_POINTER | attribute::HOST_POINTER => Value::Word(address),
        attribute::BUFFER_ID => Value::Word(pinned.unique),
        attribute::DEVICE_ORDINAL => Value::Signed(0),
        attribute::RANGE_START_ADDR => Value::Word(pinned.start as u64),
        attribute::RANGE_SIZE => Value::Word(pinned.size as u64),
        attribute::MAPPED => Value::Flag(true),
        attribute::ACCESS_FLAGS => Value::Unsigned(3),
        _ => common_value(wanted)?,
    })
}

/// What is the same for all memory.
fn common_value(wanted: u32) -> Result<Value, CUresult> {
    match wanted {
        // Words of 32 bits: cudart reads IS_MANAGED from a place that it has not cleared.
        attribute::SYNC_MEMOPS | attribute::IS_MANAGED => Ok(Value::Unsigned(0)),
        attribute::IS_LEGACY_CUDA_IPC_CAPABLE | attribute::IS_GPU_DIRECT_RDMA_CAPABLE => {
            Ok(Value::Flag(false))
        }
        attribute::ALLOWED_HANDLE_TYPES | attribute::MEMPOOL_HANDLE => Ok(Value::Word(0)),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

pub(crate) unsafe fn cuPointerGetAttribute(
    data: *mut c_void,
    attribute: CUpointer_attribute,
    ptr: CUdeviceptr,
) -> CUresult {
    code((|| {
        let data = out(data)?;
        let session = session::get()?;
        let place = place_of(session, ptr).ok_or(CUresult::INVALID_VALUE)?;
        let value = value_of(session, &place, attribute, ptr)?;
        // SAFETY: checked by `out`; the value has the attribute's type.
        unsafe { value.write(data) };
        Ok(())
    })())
}

/// Unlike the singular form it succeeds for an unknown address: each attribute is then zero.
pub(crate) unsafe fn cuPointerGetAttributes(
    num_attributes: c_uint,
    attributes: *mut CUpointer_attribute,
    data: *mut *mut c_void,
    ptr: CUdeviceptr,
) -> CUresult {
    code((|| {
        let (attributes, data) = (out(attributes)?, out(data)?);
        let session = session::get()?;
        let found = place_of(session, ptr);
        for index in 0..num_attributes as usize {
            // SAFETY: the arrays have so many elements by the API's contract.
            let (wanted, place) = unsafe { (attributes.add(index).read(), data.add(index).read()) };
            let place = out(place)?;
            let known = found
                .as_ref()
                .and_then(|found| value_of(session, found, wanted, ptr).ok());
            let value = known.map_or_else(|| zero_of(wanted), Ok)?;
            // SAFETY: checked by `out`; the value has the attribute's type.
            unsafe { value.write(place) };
        }
        Ok(())
    })())
}

/// What an attribute reads as where there is nothing.
fn zero_of(wanted: u32) -> Result<Value, CUresult> {
    Ok(match wanted {
        attribute::CONTEXT
        | attribute::DEVICE_POINTER
        | attribute::HOST_POINTER
        | attribute::BUFFER_ID
        | attribute::RANGE_START_ADDR
        | attribute::RANGE_SIZE => Value::Word(0),
        attribute::MEMORY_TYPE | attribute::ACCESS_FLAGS => Value::Unsigned(0),
        // CU_DEVICE_INVALID
        attribute::DEVICE_ORDINAL => Value::Signed(-2),
        attribute::MAPPED => Value::Flag(false),
        _ => common_value(wanted)?,
    })
}

/// `SYNC_MEMOPS` alone can be set; copies of ours are synchronous to the host wherever it could be seen.
pub(crate) unsafe fn cuPointerSetAttribute(
    value: *const c_void,
    attribute: CUpointer_attribute,
    ptr: CUdeviceptr,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        if value.is_null() || attribute != attribute::SYNC_MEMOPS {
            return Err(CUresult::INVALID_VALUE);
        }
        place_of(session, ptr)
            .map(drop)
            .ok_or(CUresult::INVALID_VALUE)
    })())
}
