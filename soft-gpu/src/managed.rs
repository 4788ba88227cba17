//! Managed memory: memory of the device that the host accesses at the same address.
//!
//! All memory of this device is that, so what is done for it here is only to keep it apart and to tell it by its attributes. A prefetch moves nothing; what
//! was advised is remembered for who asks ([`Advised`](driver_api::managed::Advised)).
//!
//! # Safety
//!
//! Answers are written through pointers that the caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uint, c_ulonglong, c_void};
use std::ops::Range;

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUmem_advise, CUmem_range_attribute, CUmemLocation, CUresult, CUstream,
};
use driver_api::managed::{ATTACH_GLOBAL, ATTACH_HOST, Advice, Devices, Place};

use crate::capture;
use crate::context::current;
use crate::entry::{answer, done};
use crate::state::{Driver, driver};
use crate::stream;
use crate::threads::lock;

fn devices(driver: &Driver) -> Devices {
    Devices {
        count: i32::try_from(driver.config.devices()).unwrap_or(i32::MAX),
        are_concurrent: true,
    }
}

/// A range, all of which must be managed memory.
fn managed(driver: &Driver, address: u64, count: usize) -> Result<Range<u64>, CUresult> {
    let end = address.checked_add(count as u64);
    let end = end.filter(|_| count > 0).ok_or(CUresult::INVALID_VALUE)?;
    let space = driver.memory.space();
    let region = space.find(address);
    let region = region.filter(|region| region.is_managed() && end <= region.end());
    region.map(|_| address..end).ok_or(CUresult::INVALID_VALUE)
}

pub(crate) unsafe fn cuMemAllocManaged(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    flags: c_uint,
) -> CUresult {
    if dptr.is_null() || !matches!(flags, ATTACH_GLOBAL | ATTACH_HOST) {
        return CUresult::INVALID_VALUE;
    }
    let allocate = || {
        let (driver, context) = (driver()?, current()?);
        capture::guard()?;
        driver
            .memory
            .allocate_managed(driver, &context, bytesize as u64)
    };
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(dptr, allocate()) }
}

fn advise(
    address: u64,
    count: usize,
    advice: CUmem_advise,
    place: impl FnOnce(Devices) -> Result<Place, CUresult>,
) -> CUresult {
    let take = || {
        let driver = driver()?;
        let devices = devices(driver);
        let advice = Advice::new(advice, place(devices), devices)?;
        let range = managed(driver, address, count)?;
        lock(&driver.memory.advised).advise(range, advice);
        Ok(())
    };
    done(take())
}

pub(crate) unsafe fn cuMemAdvise(
    dev_ptr: CUdeviceptr,
    count: usize,
    advice: CUmem_advise,
    device: CUdevice,
) -> CUresult {
    advise(dev_ptr, count, advice, |devices| {
        devices.place_of_device(device)
    })
}

pub(crate) unsafe fn cuMemAdvise_v2(
    dev_ptr: CUdeviceptr,
    count: usize,
    advice: CUmem_advise,
    location: CUmemLocation,
) -> CUresult {
    advise(dev_ptr, count, advice, |devices| {
        devices.place(location.kind, location.id)
    })
}

fn prefetch(
    address: u64,
    count: usize,
    stream: CUstream,
    place: impl FnOnce(Devices) -> Result<Place, CUresult>,
) -> CUresult {
    let note = || {
        let driver = driver()?;
        let (context, stream) = stream::find(stream)?;
        let place = place(devices(driver))?;
        let range = managed(driver, address, count)?;
        capture::forbid(&context, &stream)?;
        lock(&driver.memory.advised).prefetched(range, place);
        Ok(())
    };
    done(note())
}

pub(crate) unsafe fn cuMemPrefetchAsync(
    dev_ptr: CUdeviceptr,
    count: usize,
    dst_device: CUdevice,
    stream: CUstream,
) -> CUresult {
    prefetch(dev_ptr, count, stream, |devices| {
        devices.place_of_device(dst_device)
    })
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
    prefetch(dev_ptr, count, stream, |devices| {
        devices.place(location.kind, location.id)
    })
}

/// Elements of an array of the caller's, of which it needs at least one.
///
/// # Safety
///
/// `array` is null or has `count` elements.
unsafe fn elements<T: Copy>(array: *const T, count: usize) -> Result<Vec<T>, CUresult> {
    if array.is_null() || count == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract.
    Ok((0..count)
        .map(|index| unsafe { array.add(index).read_unaligned() })
        .collect())
}

/// The ranges of a batch, all of managed memory, in a stream that is not captured.
///
/// # Safety
///
/// Both arrays are null or have `count` elements.
unsafe fn batch(
    addresses: *const CUdeviceptr,
    sizes: *const usize,
    count: usize,
    (flags, stream): (c_ulonglong, CUstream),
) -> Result<Vec<Range<u64>>, CUresult> {
    let driver = driver()?;
    let (context, stream) = stream::find(stream)?;
    if flags != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract.
    let (addresses, sizes) = unsafe { (elements(addresses, count)?, elements(sizes, count)?) };
    let ranges = addresses.into_iter().zip(sizes);
    let ranges = ranges
        .map(|(address, size)| managed(driver, address, size))
        .collect::<Result<_, _>>()?;
    capture::forbid(&context, &stream)?;
    Ok(ranges)
}

/// Prefetches ranges, each to the place whose index is the last that is not behind the range's own.
///
/// # Safety
///
/// As of [`batch`]; the arrays of places and indices are null or have `places.2` elements.
unsafe fn prefetch_batch(
    (addresses, sizes, count): (*const CUdeviceptr, *const usize, usize),
    places: (*const CUmemLocation, *const usize, usize),
    how: (c_ulonglong, CUstream),
) -> Result<(), CUresult> {
    // SAFETY: by contract.
    let ranges = unsafe { batch(addresses, sizes, count, how)? };
    // SAFETY: by contract.
    let (locations, firsts) =
        unsafe { (elements(places.0, places.2)?, elements(places.1, places.2)?) };
    let is_sound = firsts[0] == 0
        && firsts.is_sorted_by(|a, b| a < b)
        && firsts.iter().all(|&first| first < count);
    if !is_sound {
        return Err(CUresult::INVALID_VALUE);
    }
    let driver = driver()?;
    let places = locations
        .iter()
        .map(|location| devices(driver).place(location.kind, location.id));
    let places: Vec<Place> = places.collect::<Result<_, _>>()?;
    let mut advised = lock(&driver.memory.advised);
    for (index, range) in ranges.into_iter().enumerate() {
        let place = firsts.partition_point(|&first| first <= index) - 1;
        advised.prefetched(range, places[place]);
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the driver's")]
pub(crate) unsafe fn cuMemPrefetchBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    prefetch_locs: *mut CUmemLocation,
    prefetch_loc_idxs: *mut usize,
    num_prefetch_locs: usize,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    let places = (
        prefetch_locs.cast_const(),
        prefetch_loc_idxs.cast_const(),
        num_prefetch_locs,
    );
    let ranges = (dptrs.cast_const(), sizes.cast_const(), count);
    // SAFETY: the caller passes arrays of `count` and of `num_prefetch_locs` elements.
    done(unsafe { prefetch_batch(ranges, places, (flags, stream)) })
}

/// What is discarded is undefined, so it may stay.
pub(crate) unsafe fn cuMemDiscardBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller passes arrays of `count` elements.
    done(unsafe { batch(dptrs, sizes, count, (flags, stream)) }.map(drop))
}

/// Of what is discarded, all may stay.
#[expect(clippy::too_many_arguments, reason = "the driver's")]
pub(crate) unsafe fn cuMemDiscardAndPrefetchBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    prefetch_locs: *mut CUmemLocation,
    prefetch_loc_idxs: *mut usize,
    num_prefetch_locs: usize,
    flags: c_ulonglong,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller passes what that takes.
    unsafe {
        cuMemPrefetchBatchAsync(
            dptrs,
            sizes,
            count,
            prefetch_locs,
            prefetch_loc_idxs,
            num_prefetch_locs,
            flags,
            stream,
        )
    }
}

/// # Safety
///
/// `data` is a place for `size` bytes.
unsafe fn attribute(
    driver: &Driver,
    range: &Range<u64>,
    attribute: CUmem_range_attribute,
    (data, size): (*mut c_void, usize),
) -> Result<(), CUresult> {
    let words = lock(&driver.memory.advised).attribute(range, attribute, size)?;
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: by contract; there are as many words as there is room for.
        unsafe { data.cast::<i32>().add(index).write_unaligned(word) };
    }
    Ok(())
}

pub(crate) unsafe fn cuMemRangeGetAttribute(
    data: *mut c_void,
    data_size: usize,
    attribute_: CUmem_range_attribute,
    dev_ptr: CUdeviceptr,
    count: usize,
) -> CUresult {
    let get = || {
        let driver = driver()?;
        let range = managed(driver, dev_ptr, count)?;
        if data.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes a place of this size.
        unsafe { attribute(driver, &range, attribute_, (data, data_size)) }
    };
    done(get())
}

pub(crate) unsafe fn cuMemRangeGetAttributes(
    data: *mut *mut c_void,
    data_sizes: *mut usize,
    attributes: *mut CUmem_range_attribute,
    num_attributes: usize,
    dev_ptr: CUdeviceptr,
    count: usize,
) -> CUresult {
    let get = || {
        let driver = driver()?;
        let range = managed(driver, dev_ptr, count)?;
        if data.is_null() || data_sizes.is_null() || attributes.is_null() || num_attributes == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..num_attributes {
            // SAFETY: the caller passes arrays of `num_attributes` elements.
            let (place, size, wanted) = unsafe {
                (
                    data.add(index).read_unaligned(),
                    data_sizes.add(index).read_unaligned(),
                    attributes.add(index).read_unaligned(),
                )
            };
            if place.is_null() {
                return Err(CUresult::INVALID_VALUE);
            }
            // SAFETY: the caller passes places of these sizes.
            unsafe { attribute(driver, &range, wanted, (place, size)) }?;
        }
        Ok(())
    };
    done(get())
}

/// `cuStreamAttachMemAsync`: all streams and the host always reach all memory here.
pub(crate) fn attach(
    stream: CUstream,
    address: u64,
    length: usize,
    flags: c_uint,
) -> Result<(), CUresult> {
    let driver = driver()?;
    let (context, found) = stream::find(stream)?;
    driver_api::managed::check_attachment(flags, driver_api::per_thread::effective(stream))?;
    let space = driver.memory.space();
    let region = space.starting_at(address);
    let region = region.filter(|region| {
        let is_whole = length == 0 || length as u64 == region.size;
        is_whole && region.is_managed()
    });
    region.ok_or(CUresult::INVALID_VALUE)?;
    drop(space);
    capture::forbid(&context, &found)
}
