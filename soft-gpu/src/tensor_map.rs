//! Tensor maps: checked as the driver API documents, in a form of our own ([`form`]), which kernels' copies read.
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
use driver_api::tensor_map::{Encoding, Lists, Map, kind};

use crate::exec::tensor_form as form;
use crate::state::driver;

/// # Safety
/// The caller's promises to the driver's function.
unsafe fn encode(map: *mut CUtensorMap, plain: Encoding, lists: &Lists) -> Result<(), CUresult> {
    driver()?;
    // The API wants it aligned to 64 bytes, and cuda.core passes places that are not: bytes are written anywhere.
    if map.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promises.
    let encoding = unsafe { lists.read(plain) }?;
    let encoded = form::encode(&encoding).ok_or(CUresult::INVALID_VALUE)?;
    // SAFETY: the caller passes a place for a map; checked above.
    unsafe { map.cast::<Map>().write(encoded) };
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
        match form::replace_address(map, global_address.addr() as u64) {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    })())
}

/// There is one class, whatever is asked for.
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
        let map = unsafe { place.read() };
        match form::is_map(&map) {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    })())
}
