//! Fills of device memory with a repeated value.
//!
//! # Safety
//!
//! What is filled was checked against the address space when the fill was posted, or just now if it is a graph's, and lives until the context
//! is idle or its stream has come to the free.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_uchar, c_uint, c_ushort};

use driver_api::abi::{CUdeviceptr, CUresult, CUstream};

use super::raw;
use super::space::Region;
use crate::entry::done;
use crate::state::driver;
use crate::stream::{Operation, find};

/// A pattern of 1, 2 or 4 bytes.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    value: u32,
    bytes: u32,
}

/// A fill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    address: u64,
    pitch: u64,
    pattern: Pattern,
    width: usize,
    height: u64,
}

impl Fill {
    /// `height` rows of `width` elements of 1, 2 or 4 bytes, `pitch` bytes apart.
    pub(crate) fn new(
        address: CUdeviceptr,
        pitch: usize,
        (value, bytes): (u32, u32),
        (width, height): (usize, usize),
    ) -> Result<Self, CUresult> {
        let value = match bytes {
            1 => value & 0xff,
            2 => value & 0xffff,
            4 => value,
            _ => return Err(CUresult::INVALID_VALUE),
        };
        let fill = Self {
            address,
            pitch: pitch as u64,
            pattern: Pattern { value, bytes },
            width,
            height: height as u64,
        };
        fill.check().map(|()| fill)
    }

    /// Address, pitch, value, bytes of an element, width and height.
    pub(crate) fn parts(&self) -> (u64, usize, u32, u32, usize, usize) {
        let Pattern { value, bytes } = self.pattern;
        (
            self.address,
            self.pitch as usize,
            value,
            bytes,
            self.width,
            self.height as usize,
        )
    }

    fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Whether the memory is there.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        if self.is_empty() {
            return Ok(());
        }
        let unit = u64::from(self.pattern.bytes);
        let row = (self.width as u64)
            .checked_mul(unit)
            .ok_or(CUresult::INVALID_VALUE)?;
        let size = (self.height - 1)
            .checked_mul(self.pitch)
            .and_then(|start| start.checked_add(row))
            .ok_or(CUresult::INVALID_VALUE)?;
        let aligned = self.address.is_multiple_of(unit)
            && (self.height == 1 || (self.pitch >= row && self.pitch.is_multiple_of(unit)));
        if aligned && driver()?.memory.is_accessible(self.address, size) {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }

    pub(crate) fn perform(&self) {
        if self.is_empty() {
            return;
        }
        for index in 0..self.height {
            let start = self.address + index * self.pitch;
            // SAFETY: the range was checked when posted, and stays until the context is idle.
            unsafe { raw::fill(start, self.pattern.value, self.pattern.bytes, self.width) };
        }
    }
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
fn post(
    address: CUdeviceptr,
    pitch: usize,
    pattern: Pattern,
    extent: (usize, usize),
    stream: CUstream,
) -> Result<(), CUresult> {
    let (context, stream) = find(stream)?;
    let fill = Fill::new(address, pitch, (pattern.value, pattern.bytes), extent)?;
    if fill.is_empty() {
        return Ok(());
    }
    context.submit(&stream, Operation::Fill(fill))
}

/// In the default stream; done when it returns only where the program sees the memory itself.
fn post_now(
    address: CUdeviceptr,
    pitch: usize,
    pattern: Pattern,
    extent: (usize, usize),
) -> Result<(), CUresult> {
    post(address, pitch, pattern, extent, CUstream(0))?;
    let is_seen = |region: &Region| region.is_host() || region.is_managed();
    if !driver()?.memory.space().find(address).is_some_and(is_seen) {
        return Ok(());
    }
    let (context, stream) = find(CUstream(0))?;
    context.run(&stream, || Ok(()))
}

fn line(address: CUdeviceptr, pattern: Pattern, count: usize, stream: CUstream) -> CUresult {
    done(post(address, 0, pattern, (count, 1), stream))
}

fn line_now(address: CUdeviceptr, pattern: Pattern, count: usize) -> CUresult {
    done(post_now(address, 0, pattern, (count, 1)))
}

fn rows(
    address: CUdeviceptr,
    pitch: usize,
    pattern: Pattern,
    extent: (usize, usize),
    stream: CUstream,
) -> CUresult {
    done(post(address, pitch, pattern, extent, stream))
}

fn rows_now(
    address: CUdeviceptr,
    pitch: usize,
    pattern: Pattern,
    extent: (usize, usize),
) -> CUresult {
    done(post_now(address, pitch, pattern, extent))
}

pub(crate) unsafe fn cuMemsetD8_v2(dst_device: CUdeviceptr, uc: c_uchar, n: usize) -> CUresult {
    line_now(dst_device, Pattern::of8(uc), n)
}

pub(crate) unsafe fn cuMemsetD16_v2(dst_device: CUdeviceptr, us: c_ushort, n: usize) -> CUresult {
    line_now(dst_device, Pattern::of16(us), n)
}

pub(crate) unsafe fn cuMemsetD32_v2(dst_device: CUdeviceptr, ui: c_uint, n: usize) -> CUresult {
    line_now(dst_device, Pattern::of32(ui), n)
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
    rows_now(dst_device, dst_pitch, Pattern::of8(uc), (width, height))
}

pub(crate) unsafe fn cuMemsetD2D16_v2(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    us: c_ushort,
    width: usize,
    height: usize,
) -> CUresult {
    rows_now(dst_device, dst_pitch, Pattern::of16(us), (width, height))
}

pub(crate) unsafe fn cuMemsetD2D32_v2(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    ui: c_uint,
    width: usize,
    height: usize,
) -> CUresult {
    rows_now(dst_device, dst_pitch, Pattern::of32(ui), (width, height))
}

pub(crate) unsafe fn cuMemsetD2D8Async(
    dst_device: CUdeviceptr,
    dst_pitch: usize,
    uc: c_uchar,
    width: usize,
    height: usize,
    stream: CUstream,
) -> CUresult {
    rows(
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
    rows(
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
    rows(
        dst_device,
        dst_pitch,
        Pattern::of32(ui),
        (width, height),
        stream,
    )
}
