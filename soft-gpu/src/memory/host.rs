//! Pinned host memory: made by the driver, or the program's own, registered.
//!
//! # Safety
//!
//! Answers are written through pointers that the caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_void};
use std::sync::Arc;

use driver_api::abi::{CUdeviceptr, CUresult};

use super::map::Mapping;
use super::quiesce;
use super::space::{Kind, Region};
use crate::context::{current, unique_id};
use crate::entry::{answer, done};
use crate::state::driver;

/// Portable, mapped, write-combined.
const ALL_ALLOC_FLAGS: c_uint = 7;
/// Portable, mapped, input/output, read-only.
const ALL_REGISTER_FLAGS: c_uint = 15;
const PAGE: u64 = 4096;

fn allocate(size: usize, flags: c_uint) -> Result<*mut c_void, CUresult> {
    let (driver, context) = (driver()?, current()?);
    if flags & !ALL_ALLOC_FLAGS != 0 || size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let rounded = (size as u64)
        .checked_next_multiple_of(PAGE)
        .ok_or(CUresult::OUT_OF_MEMORY)?;
    let mapping = Arc::new(Mapping::anonymous(rounded)?);
    let base = mapping.base();
    driver.memory.space_mut().insert(Region {
        base,
        size: size as u64,
        kind: Kind::Host { flags, mapping },
        context: context.handle,
        device: context.device,
        pool: 0,
        id: unique_id(),
    });
    Ok(base as *mut c_void)
}

pub(crate) unsafe fn cuMemHostAlloc(
    pp: *mut *mut c_void,
    bytesize: usize,
    flags: c_uint,
) -> CUresult {
    if pp.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a pointer.
    unsafe { answer(pp, allocate(bytesize, flags)) }
}

pub(crate) unsafe fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) -> CUresult {
    // SAFETY: the caller's promise is the same.
    unsafe { cuMemHostAlloc(pp, bytesize, 0) }
}

/// Removes a host region that begins at `p`, once nothing uses it any longer.
fn remove(
    p: *mut c_void,
    is_wanted: impl Fn(&Region) -> bool,
    otherwise: CUresult,
) -> Result<(), CUresult> {
    let (driver, _) = (driver()?, current()?);
    let base = p as u64;
    if !driver
        .memory
        .space()
        .starting_at(base)
        .is_some_and(is_wanted)
    {
        return Err(otherwise);
    }
    quiesce(driver);
    driver.memory.free(driver, base);
    Ok(())
}

pub(crate) unsafe fn cuMemFreeHost(p: *mut c_void) -> CUresult {
    if p.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let is_ours = |region: &Region| matches!(region.kind, Kind::Host { .. });
    done(remove(p, is_ours, CUresult::INVALID_VALUE))
}

pub(crate) unsafe fn cuMemHostRegister(p: *mut c_void, bytesize: usize, flags: c_uint) -> CUresult {
    // SAFETY: the same contract, where addresses have 64 bits.
    unsafe { cuMemHostRegister_v2(p, bytesize, flags) }
}

pub(crate) unsafe fn cuMemHostRegister_v2(
    p: *mut c_void,
    bytesize: usize,
    flags: c_uint,
) -> CUresult {
    let register = || {
        let (driver, context) = (driver()?, current()?);
        if p.is_null() || bytesize == 0 || flags & !ALL_REGISTER_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        (p as u64)
            .checked_add(bytesize as u64)
            .ok_or(CUresult::INVALID_VALUE)?;
        let is_new = driver.memory.space_mut().insert(Region {
            base: p as u64,
            size: bytesize as u64,
            kind: Kind::Registered { flags },
            context: context.handle,
            device: context.device,
            pool: 0,
            id: unique_id(),
        });
        if is_new {
            Ok(())
        } else {
            Err(CUresult::HOST_MEMORY_ALREADY_REGISTERED)
        }
    };
    done(register())
}

pub(crate) unsafe fn cuMemHostUnregister(p: *mut c_void) -> CUresult {
    let is_theirs = |region: &Region| matches!(region.kind, Kind::Registered { .. });
    done(remove(p, is_theirs, CUresult::HOST_MEMORY_NOT_REGISTERED))
}

pub(crate) unsafe fn cuMemHostGetDevicePointer_v2(
    pdptr: *mut CUdeviceptr,
    p: *mut c_void,
    flags: c_uint,
) -> CUresult {
    let find = || {
        let (driver, _) = (driver()?, current()?);
        let space = driver.memory.space();
        let known = space.find(p as u64).is_some_and(Region::is_host);
        if known && flags == 0 {
            Ok(p as u64)
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    };
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(pdptr, find()) }
}

pub(crate) unsafe fn cuMemHostGetFlags(flags: *mut c_uint, p: *mut c_void) -> CUresult {
    const MAPPED: c_uint = 2;
    let find = || {
        let (driver, _) = (driver()?, current()?);
        let space = driver.memory.space();
        match space.find(p as u64).map(|region| &region.kind) {
            // With unified addressing, pinned memory is always mapped.
            Some(Kind::Host { flags, .. } | Kind::Registered { flags }) => Ok(*flags | MAPPED),
            _ => Err(CUresult::INVALID_VALUE),
        }
    };
    // SAFETY: the caller passes a place for flags.
    unsafe { answer(flags, find()) }
}
