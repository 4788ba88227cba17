//! Fills of device memory with a repeated value.
//!
//! # Safety
//!
//! What is filled was checked against the address space when the fill was posted, and lives until the context is idle.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uchar, c_uint, c_ushort};

use driver_api::abi::{CUdeviceptr, CUresult, CUstream};

use super::raw;
use crate::entry::done;
use crate::state::driver;
use crate::stream::find;

/// A pattern of 1, 2 or 4 bytes.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    value: u32,
    bytes: u32,
}

impl Pattern {
    fn of8(value: c_uchar) -> Self {
        Self {
            value: value.into(),
            bytes: 1,
        }
    }

    fn of16(value: c_ushort) -> Self {
        Self {
            value: value.into(),
            bytes: 2,
        }
    }

    fn of32(value: c_uint) -> Self {
        Self { value, bytes: 4 }
    }
}

/// `height` rows of `width` elements, `pitch` bytes apart, at their place in a stream.
fn fill(
    address: CUdeviceptr,
    pitch: usize,
    pattern: Pattern,
    (width, height): (usize, usize),
    stream: CUstream,
) -> CUresult {
    let post = || {
        let (context, stream) = find(stream)?;
        if width == 0 || height == 0 {
            return Ok(());
        }
        let row = (width as u64)
            .checked_mul(pattern.bytes.into())
            .ok_or(CUresult::INVALID_VALUE)?;
        let pitch = pitch as u64;
        let size = (height as u64 - 1)
            .checked_mul(pitch)
            .and_then(|start| start.checked_add(row))
            .ok_or(CUresult::INVALID_VALUE)?;
        let aligned = address.is_multiple_of(pattern.bytes.into())
            && (height == 1 || (pitch >= row && pitch.is_multiple_of(pattern.bytes.into())));
        if !aligned || !driver()?.memory.is_accessible(address, size) {
            return Err(CUresult::INVALID_VALUE);
        }
        context.post(&stream, move || {
            for index in 0..height as u64 {
                let start = address + index * pitch;
                // SAFETY: the range was checked when posted, and stays until the context is idle.
                unsafe { raw::fill(start, pattern.value, pattern.bytes, width) };
            }
            Ok(())
        });
        Ok(())
    };
    done(post())
}

fn line(address: CUdeviceptr, pattern: Pattern, count: usize, stream: CUstream) -> CUresult {
    fill(address, 0, pattern, (count, 1), stream)
}

pub(crate) unsafe fn cuMemsetD8_v2(dst_device: CUdeviceptr, uc: c_uchar, n: usize) -> CUresult {
    line(dst_device, Pattern::of8(uc), n, CUstream(0))
}

pub(crate) unsafe fn cuMemsetD16_v2(dst_device: CUdeviceptr, us: c_ushort, n: usize) -> CUresult {
    line(dst_device, Pattern::of16(us), n, CUstream(0))
}

pub(crate) unsafe fn cuMemsetD32_v2(dst_device: CUdeviceptr, ui: c_uint, n: usize) -> CUresult {
    line(dst_device, Pattern::of32(ui), n, CUstream(0))
}

pub(crate) unsafe fn cuMemsetD8Async(
    dst_device: CUdeviceptr,
    uc: c_uchar,
    n: usize,
    stream: CUstream,
) -> CUresult {
    line(dst_device, Pattern::of8(uc), n, stream)
}

pub(crate) unsafe fn cuMemsetD16Async(
    dst_device: CUdeviceptr,
    us: c_ushort,
    n: usize,
    stream: CUstream,
) -> CUresult {
    line(dst_device, Pattern::of16(us), n, stream)
}

pub(crate) unsafe fn cuMemsetD32Async(
    dst_device: CUdeviceptr,
    ui: c_uint,
    n: usize,
    stream: CUstream,
) -> CUresult {
    line(dst_device, Pattern::of32(ui), n, stream)
}

pub(crate) unsafe fn cuMemsetD2D8_v2(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    uc: c_uchar,
    width: usize,
    height: usize,
) -> CUresult {
    fill(
        dst_device,
        dst_pitch,
        Pattern::of8(uc),
        (width, height),
        CUstream(0),
    )
}

pub(crate) unsafe fn cuMemsetD2D16_v2(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    us: c_ushort,
    width: usize,
    height: usize,
) -> CUresult {
    fill(
        dst_device,
        dst_pitch,
        Pattern::of16(us),
        (width, height),
        CUstream(0),
    )
}

pub(crate) unsafe fn cuMemsetD2D32_v2(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    ui: c_uint,
    width: usize,
    height: usize,
) -> CUresult {
    fill(
        dst_device,
        dst_pitch,
        Pattern::of32(ui),
        (width, height),
        CUstream(0),
    )
}

pub(crate) unsafe fn cuMemsetD2D8Async(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    uc: c_uchar,
    width: usize,
    height: usize,
    stream: CUstream,
) -> CUresult {
    fill(
        dst_device,
        dst_pitch,
        Pattern::of8(uc),
        (width, height),
        stream,
    )
}

pub(crate) unsafe fn cuMemsetD2D16Async(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    us: c_ushort,
    width: usize,
    height: usize,
    stream: CUstream,
) -> CUresult {
    fill(
        dst_device,
        dst_pitch,
        Pattern::of16(us),
        (width, height),
        stream,
    )
}

pub(crate) unsafe fn cuMemsetD2D32Async(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    ui: c_uint,
    width: usize,
    height: usize,
    stream: CUstream,
) -> CUresult {
    fill(
        dst_device,
        dst_pitch,
        Pattern::of32(ui),
        (width, height),
        stream,
    )
}
