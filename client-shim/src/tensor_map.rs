//! Tensor maps are the driver's to encode: one round trip each.
//!
//! # Safety
//! The functions named like the driver's read lists that are as long as the rank says, and read and write a map, where the program says, by the
//! contract of the CUDA driver API. A rank that cannot be is refused before anything is read.
#![expect(unsafe_code, reason = "lists and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]
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
use driver_api::wire::request::{
    GpurunTensorMapClass, GpurunTensorMapEncode, GpurunTensorMapReplace,
};
use driver_api::wire::{Request, reply};
use zerocopy::{FromBytes, IntoBytes};

use crate::context;
use crate::entry::code;
use crate::memory::out;
use crate::session;

/// Asks for a map, which is written to a place of the program.
///
/// # Safety
/// `place` is null or the program's place for a map.
unsafe fn ask<R: Request>(
    place: *mut CUtensorMap,
    request: &R,
    rest: &[u8],
) -> Result<(), CUresult> {
    let place = out(place)?.cast::<Map>();
    let session = session::get()?;
    let reply = session.ask_reply(context::current_number(session), request, rest, || Ok(()))?;
    let map = Map::read_from_bytes(&reply.body).map_err(|_| session::malformed::<R>())?;
    // SAFETY: the caller's promise; not null.
    unsafe { place.write(map) };
    Ok(())
}

/// # Safety
/// The caller's promises to the driver's function.
unsafe fn encode(place: *mut CUtensorMap, plain: Encoding, lists: &Lists) -> Result<(), CUresult> {
    // SAFETY: the caller's promises.
    unsafe {
        let encoding = lists.read(plain)?;
        ask(place, &GpurunTensorMapEncode::new(), encoding.as_bytes())
    }
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
        let map = out(tensor_map)?.cast::<Map>();
        // SAFETY: the caller passes a map, which is changed where it is.
        unsafe {
            let before = map.read();
            let request = GpurunTensorMapReplace::new(global_address.addr() as u64);
            ask(tensor_map, &request, &before)
        }
    })())
}

/// `CU_TENSOR_MAP_ALLOC_CLASS_SMALL`.
const SMALL: CUtensorMapAllocClass = 1;

pub(crate) unsafe fn cuTensorMapSetAllocationClass(
    tensor_map: *mut CUtensorMap,
    alloc_class: CUtensorMapAllocClass,
    out_alloc_class: *mut CUtensorMapAllocClass,
) -> CUresult {
    code((|| {
        if !out_alloc_class.is_null() {
            // SAFETY: not null, and writable by the API's contract. Whatever comes, it is told first.
            unsafe { out_alloc_class.write(SMALL) };
        }
        let place = out(tensor_map)?.cast::<Map>();
        // SAFETY: not null; the caller passes a map, which is changed where it is.
        let before = unsafe { place.read() };
        let request = GpurunTensorMapClass::new(alloc_class);
        let session = session::get()?;
        let context = context::current_number(session);
        let reply = session.ask_reply(context, &request, &before, || Ok(()))?;
        let malformed = || session::malformed::<GpurunTensorMapClass>();
        let (head, map) =
            reply::GpurunTensorMapClass::read_from_prefix(&reply.body).map_err(|_| malformed())?;
        let map = Map::read_from_bytes(map).map_err(|_| malformed())?;
        // SAFETY: as above.
        unsafe {
            place.write(map);
            if !out_alloc_class.is_null() {
                out_alloc_class.write(head.effective());
            }
        }
        Ok(())
    })())
}
