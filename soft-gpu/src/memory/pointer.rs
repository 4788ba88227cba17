//! What is known of an address: `cuPointerGetAttribute`.
//!
//! # Safety
//!
//! Answers are written through pointers that the caller passed, with the type of the attribute.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_void};

use driver_api::abi::{CUdeviceptr, CUpointer_attribute, CUresult};

use super::space::Region;
use crate::entry::done;
use crate::state::driver;

/// An attribute's value, with its C type.
enum Value {
    Word(u64),
    Int(i32),
    Bool(bool),
    Tokens,
}

impl Value {
    /// # Safety
    ///
    /// `target` is a place for a value of this type.
    unsafe fn write(self, target: *mut c_void) {
        // SAFETY: by contract.
        unsafe {
            match self {
                Self::Word(word) => target.cast::<u64>().write_unaligned(word),
                Self::Int(int) => target.cast::<i32>().write_unaligned(int),
                Self::Bool(value) => target.cast::<u8>().write(value.into()),
                Self::Tokens => target.cast::<[u64; 2]>().write_unaligned([0; 2]),
            }
        }
    }
}

/// Why there is no value.
enum Missing {
    /// The address is not known to the driver.
    Unknown,
    /// The address is known, but does not have this attribute.
    Inapplicable,
}

fn value(
    attribute: CUpointer_attribute,
    address: u64,
    region: Option<&Region>,
) -> Result<Value, Missing> {
    let known = || region.ok_or(Missing::Unknown);
    let mapped = Region::is_placed;
    Ok(match attribute {
        1 => Value::Word(known()?.context as u64),
        2 => Value::Int(if known()?.is_host() { 1 } else { 2 }),
        3 => known().map(|_| Value::Word(address))?,
        4 if known()?.is_host() || known()?.is_managed() => Value::Word(address),
        4 => return Err(Missing::Inapplicable),
        5 => known().map(|_| Value::Tokens)?,
        // Words of 32 bits: cudart reads IS_MANAGED from a place that it has not cleared.
        6 => known().map(|_| Value::Int(0))?,
        8 => known().map(|region| Value::Int(region.is_managed().into()))?,
        7 => Value::Word(known()?.id),
        9 => Value::Int(known()?.device as i32),
        10 => known().map(|region| Value::Bool(region.is_plain() && region.pool == 0))?,
        11 => Value::Word(known()?.base),
        12 => Value::Word(known()?.size),
        13 => Value::Bool(region.is_some()),
        14 => Value::Word(known().map(|region| u64::from(mapped(region)))?),
        15 => known().map(|_| Value::Bool(false))?,
        16 => known().map(|_| Value::Int(3))?,
        17 => Value::Word(known()?.pool as u64),
        18 => Value::Word(known()?.size),
        19 => Value::Word(known()?.base),
        20 => Value::Word(known()?.id),
        21 => known().map(|_| Value::Bool(false))?,
        _ => return Err(Missing::Inapplicable),
    })
}

pub(crate) unsafe fn cuPointerGetAttribute(
    data: *mut c_void,
    attribute: CUpointer_attribute,
    ptr: CUdeviceptr,
) -> CUresult {
    let get = || {
        if data.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let space = driver()?.memory.space();
        let found = value(attribute, ptr, space.find(ptr));
        let found = found.map_err(|_| CUresult::INVALID_VALUE)?;
        // SAFETY: the caller passes a place of the attribute's type.
        unsafe { found.write(data) };
        Ok(())
    };
    done(get())
}

/// What an address that is not known has, by the driver's documentation: zeros, no device, and where it was asked.
fn nothing(attribute: CUpointer_attribute) -> Option<Value> {
    Some(match attribute {
        1 | 3 | 4 | 7 | 11 | 12 | 14 | 17..=20 => Value::Word(0),
        2 | 6 | 8 | 16 => Value::Int(0),
        5 => Value::Tokens,
        10 | 13 | 15 | 21 => Value::Bool(false),
        9 => Value::Int(-2),
        _ => return None,
    })
}

pub(crate) unsafe fn cuPointerGetAttributes(
    num_attributes: c_uint,
    attributes: *mut CUpointer_attribute,
    data: *mut *mut c_void,
    ptr: CUdeviceptr,
) -> CUresult {
    let get = || {
        let space = driver()?.memory.space();
        if num_attributes == 0 || attributes.is_null() || data.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..num_attributes as usize {
            // SAFETY: the caller passes two arrays of `num_attributes` elements.
            let (attribute, target) = unsafe {
                (
                    attributes.add(index).read_unaligned(),
                    data.add(index).read_unaligned(),
                )
            };
            let found = value(attribute, ptr, space.find(ptr))
                .ok()
                .or_else(|| nothing(attribute));
            let found = found
                .filter(|_| !target.is_null())
                .ok_or(CUresult::INVALID_VALUE)?;
            // SAFETY: the caller passes a place of the attribute's type.
            unsafe { found.write(target) };
        }
        Ok(())
    };
    done(get())
}

pub(crate) unsafe fn cuPointerSetAttribute(
    value: *const c_void,
    attribute: CUpointer_attribute,
    ptr: CUdeviceptr,
) -> CUresult {
    const SYNC_MEMOPS: CUpointer_attribute = 6;
    let set = || {
        let space = driver()?.memory.space();
        // Copies of this device are ordered anyway.
        let valid = attribute == SYNC_MEMOPS && !value.is_null() && space.find(ptr).is_some();
        if valid {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    };
    done(set())
}
