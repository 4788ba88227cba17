//! Tensor maps: checked as the driver API documents, in a form of our own.
//!
//! *What:* a map is opaque, so its form is the driver's own choice. No instruction of the targets that this device executes reads one; programs
//! that make maps without using them run, and what travels between a program and a server can be tested.
//!
//! # Safety
//! The driver's functions read lists as long as the rank, and read and write a map, where their caller says; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]
#![expect(
    clippy::too_many_arguments,
    reason = "the driver's functions have so many"
)]

use core::ffi::{c_int, c_void};

use driver_api::abi::{
    CUresult, CUtensorMap, CUtensorMapAllocClass, CUtensorMapDataType, CUtensorMapFloatOOBfill,
    CUtensorMapIm2ColWideMode, CUtensorMapInterleave, CUtensorMapL2promotion, CUtensorMapSwizzle,
};
use driver_api::tensor_map::{Encoding, Lists, MAX_RANK, Map, kind};

use crate::state::driver;

/// Bytes of an element by `CUtensorMapDataType`: integers of 8 to 64 bits, floats, and packed ones of 4 and 6 bits by sixteen.
const ELEMENT_BYTES: [u64; 16] = [1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4, 8, 16, 16];
/// `CU_TENSOR_MAP_DATA_TYPE_FLOAT16` to `_TFLOAT32_FTZ`.
const FLOATS: core::ops::RangeInclusive<u32> = 6..=12;
/// `CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B` and `_16U6_ALIGN16B`.
const ALIGNED_TO_16: core::ops::RangeInclusive<u32> = 14..=15;
/// `CU_TENSOR_MAP_INTERLEAVE_NONE` and `_32B`.
const NOT_INTERLEAVED: u32 = 0;
const INTERLEAVED_BY_32: u32 = 2;
/// `CU_TENSOR_MAP_SWIZZLE_32B`.
const SWIZZLED_BY_32: u32 = 1;
/// The last swizzle, promotion and fill that are known.
const LAST_SWIZZLE: u32 = 6;
const LAST_PROMOTION: u32 = 3;
const FILLED_WITH_NAN: u32 = 1;
/// The first byte of a map of ours.
const MARK: u8 = 0x7a;
/// Where the address is in it.
const ADDRESS: core::ops::Range<usize> = 8..16;

/// What of an address depends on the other parameters.
fn fits(address: u64, data_type: u32, interleave: u32) -> bool {
    let wide = interleave == INTERLEAVED_BY_32 || ALIGNED_TO_16.contains(&data_type);
    address.is_multiple_of(if wide { 32 } else { 16 })
}

/// Whether the parameters are what the API allows.
fn is_good(of: &Encoding) -> bool {
    let rank = of.rank as usize;
    let Some(bytes) = ELEMENT_BYTES.get(of.data_type as usize) else {
        return false;
    };
    let is_interleaved = of.interleave != NOT_INTERLEAVED;
    let known = of.interleave <= INTERLEAVED_BY_32
        && of.swizzle <= LAST_SWIZZLE
        && of.promotion <= LAST_PROMOTION
        && of.fill <= FILLED_WITH_NAN
        && of.mode <= 1;
    let together = (of.fill != FILLED_WITH_NAN || FLOATS.contains(&of.data_type))
        && (!is_interleaved || of.rank >= 3)
        && (of.interleave != INTERLEAVED_BY_32 || of.swizzle == SWIZZLED_BY_32);
    let dimensions = of.dimensions.iter().take(rank);
    let strides = of.strides.iter().take(rank - 1);
    let element_strides = of.element_strides.iter().take(rank);
    let lists = dimensions
        .copied()
        .all(|size| (1..=1 << 32).contains(&size))
        && strides
            .copied()
            .all(|stride| stride < 1 << 40 && fits(stride, of.data_type, of.interleave))
        && element_strides
            .copied()
            .all(|stride| (1..=8).contains(&stride));
    let shape = if of.kind == kind::TILED {
        let boxes = &of.box_dimensions[..rank];
        boxes.iter().all(|size| (1..=256).contains(size))
            && (is_interleaved || (u64::from(boxes[0]) * bytes).is_multiple_of(16))
    } else {
        of.channels <= 256 && of.pixels <= 1024
    };
    known && together && lists && shape && fits(of.address, of.data_type, of.interleave)
}

/// A map of ours.
fn map_of(of: &Encoding) -> Map {
    let mut map = [0; 128];
    let codes = [
        of.kind,
        of.data_type,
        of.rank,
        of.interleave,
        of.mode,
        of.swizzle,
        of.promotion,
    ];
    map[0] = MARK;
    for (place, value) in map[1..].iter_mut().zip(codes) {
        *place = value as u8;
    }
    map[ADDRESS].copy_from_slice(&of.address.to_le_bytes());
    let mut at = ADDRESS.end;
    let mut put = |bytes: &[u8]| {
        map[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for index in 0..MAX_RANK {
        put(&(of.dimensions[index].wrapping_sub(1) as u32).to_le_bytes());
        put(&(of.box_dimensions[index] as u16).to_le_bytes());
        put(&[of.element_strides[index] as u8]);
    }
    for stride in of.strides {
        // Less than 2^40.
        put(&stride.to_le_bytes()[..5]);
    }
    for corner in of.lower_corner.iter().chain(&of.upper_corner) {
        put(&(*corner as i16).to_le_bytes());
    }
    put(&(of.channels as u16).to_le_bytes());
    put(&(of.pixels as u16).to_le_bytes());
    put(&[of.fill as u8]);
    map
}

/// # Safety
/// The caller's promises to the driver's function.
unsafe fn encode(map: *mut CUtensorMap, plain: Encoding, lists: &Lists) -> Result<(), CUresult> {
    driver()?;
    if map.is_null() || !map.addr().is_multiple_of(64) {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promises.
    let encoding = unsafe { lists.read(plain) }?;
    if !is_good(&encoding) {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller passes a place for a map; checked above.
    unsafe { map.cast::<Map>().write(map_of(&encoding)) };
    Ok(())
}

fn code(result: Result<(), CUresult>) -> CUresult {
    result.err().unwrap_or(CUresult::SUCCESS)
}

pub(crate) unsafe fn cuTensorMapEncodeTiled(
    tensor_map: *mut CUtensorMap,
    tensor_data_type: CUtensorMapDataType,
    tensor_rank: u32,
    global_address: *mut c_void,
    global_dim: *const u64,
    global_strides: *const u64,
    box_dim: *const u32,
    element_strides: *const u32,
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    oob_fill: CUtensorMapFloatOOBfill,
) -> CUresult {
    let plain = Encoding::new(
        kind::TILED,
        (tensor_data_type, tensor_rank),
        global_address,
        [interleave, swizzle, l2_promotion, oob_fill],
    );
    let lists = Lists {
        dimensions: global_dim,
        strides: global_strides,
        box_dimensions: box_dim,
        element_strides,
        ..Lists::default()
    };
    // SAFETY: the caller's promises are the same.
    code(unsafe { encode(tensor_map, plain, &lists) })
}

pub(crate) unsafe fn cuTensorMapEncodeIm2col(
    tensor_map: *mut CUtensorMap,
    tensor_data_type: CUtensorMapDataType,
    tensor_rank: u32,
    global_address: *mut c_void,
    global_dim: *const u64,
    global_strides: *const u64,
    pixel_box_lower_corner: *const c_int,
    pixel_box_upper_corner: *const c_int,
    channels_per_pixel: u32,
    pixels_per_column: u32,
    element_strides: *const u32,
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    oob_fill: CUtensorMapFloatOOBfill,
) -> CUresult {
    let plain = Encoding {
        channels: channels_per_pixel,
        pixels: pixels_per_column,
        ..Encoding::new(
            kind::IM2COL,
            (tensor_data_type, tensor_rank),
            global_address,
            [interleave, swizzle, l2_promotion, oob_fill],
        )
    };
    let lists = Lists {
        dimensions: global_dim,
        strides: global_strides,
        element_strides,
        lower_corner: pixel_box_lower_corner,
        upper_corner: pixel_box_upper_corner,
        ..Lists::default()
    };
    // SAFETY: the caller's promises are the same.
    code(unsafe { encode(tensor_map, plain, &lists) })
}

pub(crate) unsafe fn cuTensorMapEncodeIm2colWide(
    tensor_map: *mut CUtensorMap,
    tensor_data_type: CUtensorMapDataType,
    tensor_rank: u32,
    global_address: *mut c_void,
    global_dim: *const u64,
    global_strides: *const u64,
    pixel_box_lower_corner_width: c_int,
    pixel_box_upper_corner_width: c_int,
    channels_per_pixel: u32,
    pixels_per_column: u32,
    element_strides: *const u32,
    interleave: CUtensorMapInterleave,
    mode: CUtensorMapIm2ColWideMode,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    oob_fill: CUtensorMapFloatOOBfill,
) -> CUresult {
    let plain = Encoding {
        lower_corner: [pixel_box_lower_corner_width, 0, 0],
        upper_corner: [pixel_box_upper_corner_width, 0, 0],
        channels: channels_per_pixel,
        pixels: pixels_per_column,
        mode,
        ..Encoding::new(
            kind::IM2COL_WIDE,
            (tensor_data_type, tensor_rank),
            global_address,
            [interleave, swizzle, l2_promotion, oob_fill],
        )
    };
    let lists = Lists {
        dimensions: global_dim,
        strides: global_strides,
        element_strides,
        ..Lists::default()
    };
    // SAFETY: the caller's promises are the same.
    code(unsafe { encode(tensor_map, plain, &lists) })
}

pub(crate) unsafe fn cuTensorMapReplaceAddress(
    tensor_map: *mut CUtensorMap,
    global_address: *mut c_void,
) -> CUresult {
    code((|| {
        driver()?;
        let place = tensor_map.cast::<Map>();
        if place.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes a map, which is changed where it is.
        let map = unsafe { &mut *place };
        let address = global_address.addr() as u64;
        let [mark, _, data_type, _, interleave, ..] = *map;
        if mark != MARK || !fits(address, data_type.into(), interleave.into()) {
            return Err(CUresult::INVALID_VALUE);
        }
        map[ADDRESS].copy_from_slice(&address.to_le_bytes());
        Ok(())
    })())
}

/// Of compute capability 8.0 there is one class, whatever is asked for.
pub(crate) unsafe fn cuTensorMapSetAllocationClass(
    tensor_map: *mut CUtensorMap,
    alloc_class: CUtensorMapAllocClass,
    out_alloc_class: *mut CUtensorMapAllocClass,
) -> CUresult {
    const SMALL: CUtensorMapAllocClass = 1;
    const LARGE: CUtensorMapAllocClass = 2;
    // SAFETY: the caller passes a place for a class, or null.
    unsafe { crate::entry::answer_if_asked(out_alloc_class, SMALL) };
    code((|| {
        driver()?;
        let place = tensor_map.cast::<Map>();
        if place.is_null() || alloc_class > LARGE {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null; the caller passes a map.
        let [mark, ..] = unsafe { place.read() };
        match mark == MARK {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    })())
}
