//! Managed memory: how it is made, and what is said of it.
//!
//! The program may touch it while the device does nothing with it (`CONCURRENT_MANAGED_ACCESS` is 0), and it lies on the device all the time: so what would place it
//! elsewhere is refused as drivers refuse it for such devices. Other advice is remembered and told ([`Advised`](driver_api::managed::Advised)). The memory itself:
//! [`memory`](crate::memory).
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's contract.
#![expect(unsafe_code, reason = "out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_uint, c_void};
use std::ops::Range;

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUmem_advise, CUmem_range_attribute, CUmemLocation, CUresult, CUstream,
};
use driver_api::managed::{ATTACH_GLOBAL, ATTACH_HOST, Advice, Devices, Place, check_attachment};
use driver_api::per_thread;

use crate::capture;
use crate::entry::code;
use crate::memory::out;
use crate::session::{self, Session};
use crate::stream;

/// `CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS`.
const CONCURRENT: u32 = 89;

fn devices(session: &Session) -> Devices {
    let mut devices = session.devices.iter();
    Devices {
        count: i32::try_from(session.devices.len()).unwrap_or(i32::MAX),
        are_concurrent: devices.all(|device| device.attribute(CONCURRENT) == Ok(1)),
    }
}

/// A range, all of which must be managed memory.
fn managed(session: &Session, address: u64, count: usize) -> Result<Range<u64>, CUresult> {
    let allocation = session.objects.memory.check(address, count as u64)?;
    match allocation.is_managed() && count > 0 {
        true => Ok(address..address + count as u64),
        false => Err(CUresult::INVALID_VALUE),
    }
}

pub(crate) unsafe fn cuMemAllocManaged(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let place = out(dptr)?;
        let (session, context) = session::current()?;
        capture::forbid_unsafe()?;
        if !matches!(flags, ATTACH_GLOBAL | ATTACH_HOST) {
            return Err(CUresult::INVALID_VALUE);
        }
        let memory = &session.objects.memory;
        let address = memory.allocate_managed(session, &context, bytesize as u64)?;
        if flags == ATTACH_HOST {
            memory.mapped.attach();
        }
        // SAFETY: checked by `out`.
        unsafe { place.write(address) };
        Ok(())
    })())
}

fn advise(
    address: u64,
    count: usize,
    advice: CUmem_advise,
    place: impl FnOnce(Devices) -> Result<Place, CUresult>,
) -> Result<(), CUresult> {
    let session = session::get()?;
    let devices = devices(session);
    let advice = Advice::new(advice, place(devices), devices)?;
    let range = managed(session, address, count)?;
    session.objects.memory.advised().advise(range, advice);
    Ok(())
}

pub(crate) unsafe fn cuMemAdvise(
    dev_ptr: CUdeviceptr,
    count: usize,
    advice: CUmem_advise,
    device: CUdevice,
) -> CUresult {
    code(advise(dev_ptr, count, advice, |devices| {
        devices.place_of_device(device)
    }))
}

pub(crate) unsafe fn cuMemAdvise_v2(
    dev_ptr: CUdeviceptr,
    count: usize,
    advice: CUmem_advise,
    location: CUmemLocation,
) -> CUresult {
    code(advise(dev_ptr, count, advice, |devices| {
        devices.place(location.kind, location.id)
    }))
}

/// Also to the host: the stream's device would have to be concurrent.
fn prefetch(
    address: u64,
    count: usize,
    stream: CUstream,
    place: impl FnOnce(Devices) -> Result<Place, CUresult>,
) -> Result<(), CUresult> {
    let (session, context) = session::current()?;
    stream::resolve_in(session, &context, stream)?;
    let devices = devices(session);
    let place = place(devices)?;
    let range = managed(session, address, count)?;
    if !devices.are_concurrent {
        return Err(CUresult::INVALID_DEVICE);
    }
    session.objects.memory.advised().prefetched(range, place);
    Ok(())
}

pub(crate) unsafe fn cuMemPrefetchAsync(
    dev_ptr: CUdeviceptr,
    count: usize,
    dst_device: CUdevice,
    stream: CUstream,
) -> CUresult {
    code(prefetch(dev_ptr, count, stream, |devices| {
        devices.place_of_device(dst_device)
    }))
}

pub(crate) unsafe fn cuMemPrefetchAsync_v2(
    dev_ptr: CUdeviceptr,
    count: usize,
    location: CUmemLocation,
    flags: c_uint,
    stream: CUstream,
) -> CUresult {
    if flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    code(prefetch(dev_ptr, count, stream, |devices| {
        devices.place(location.kind, location.id)
    }))
}

/// # Safety
/// `data` is null or a place for `size` bytes.
unsafe fn answer(
    session: &Session,
    range: &Range<u64>,
    attribute: CUmem_range_attribute,
    (data, size): (*mut c_void, usize),
) -> Result<(), CUresult> {
    let place = out(data)?.cast::<i32>();
    let advised = session.objects.memory.advised();
    let words = advised.attribute(range, attribute, size)?;
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: the caller's promise; there are as many words as there is room for.
        unsafe { place.add(index).write_unaligned(word) };
    }
    Ok(())
}

pub(crate) unsafe fn cuMemRangeGetAttribute(
    data: *mut c_void,
    data_size: usize,
    attribute: CUmem_range_attribute,
    dev_ptr: CUdeviceptr,
    count: usize,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        let range = managed(session, dev_ptr, count)?;
        // SAFETY: the API's contract.
        unsafe { answer(session, &range, attribute, (data, data_size)) }
    })())
}

pub(crate) unsafe fn cuMemRangeGetAttributes(
    data: *mut *mut c_void,
    data_sizes: *mut usize,
    attributes: *mut CUmem_range_attribute,
    num_attributes: usize,
    dev_ptr: CUdeviceptr,
    count: usize,
) -> CUresult {
    code((|| {
        let session = session::get()?;
        let range = managed(session, dev_ptr, count)?;
        let (data, sizes, attributes) = (out(data)?, out(data_sizes)?, out(attributes)?);
        if num_attributes == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..num_attributes {
            // SAFETY: the arrays have so many elements by the API's contract.
            unsafe {
                let place = (data.add(index).read(), sizes.add(index).read());
                answer(session, &range, attributes.add(index).read(), place)?;
            }
        }
        Ok(())
    })())
}

/// `cuStreamAttachMemAsync`. What is the host's or one stream's may be touched while other work runs.
pub(crate) fn attach(
    stream: CUstream,
    address: u64,
    length: usize,
    flags: c_uint,
) -> Result<(), CUresult> {
    let (session, context) = session::current()?;
    stream::resolve_in(session, &context, stream)?;
    check_attachment(flags, per_thread::effective(stream))?;
    let memory = &session.objects.memory;
    let allocation = memory.find(address).filter(|found| {
        let is_whole = length == 0 || length as u64 == found.size;
        found.is_managed() && found.start == address && is_whole
    });
    allocation.ok_or(CUresult::INVALID_VALUE)?;
    if flags != ATTACH_GLOBAL {
        memory.mapped.attach();
    }
    Ok(())
}
