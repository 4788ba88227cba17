//! Tensor maps: the driver encodes what the program describes.
//!
//! *Rules:* a map is the driver's opaque value, and only addresses are in it, which are real. The rank is checked, since the driver reads lists of that
//! length; everything else is the driver's to refuse.
//!
//! # Safety
//! All pointers are to locals of this module, whose lists are as long as the longest rank; the map is aligned as the driver wants it.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use driver_api::result::CUresult;
use driver_api::tensor_map::{Encoding, Map, kind};
use driver_api::wire::{reply, request};
use zerocopy::FromBytes;

use super::call::{Call, CallError};
use crate::driver::cuda;

const MALFORMED: CallError = CallError::Violation("a tensor map of another size");

/// A map where the driver wants it.
#[repr(align(64))]
struct Aligned(Map);

/// Makes a tensor map.
pub(crate) fn gpurunTensorMapEncode(
    call: &mut Call<'_>,
    _: &request::GpurunTensorMapEncode,
    encoding: &[u8],
) -> Result<(), CallError> {
    let encoding = Encoding::read_from_bytes(encoding).map_err(|_| MALFORMED)?;
    if !encoding.has_good_rank() {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let (driver, of) = (call.driver(), &encoding);
    let mut made = Aligned([0; 128]);
    let map = (&raw mut made.0).cast();
    let address = std::ptr::without_provenance_mut(of.address as usize);
    let (dimensions, strides) = (of.dimensions.as_ptr(), of.strides.as_ptr());
    let element_strides = of.element_strides.as_ptr();
    match of.kind {
        kind::TILED => cuda!(
            driver,
            cuTensorMapEncodeTiled(
                map,
                of.data_type,
                of.rank,
                address,
                dimensions,
                strides,
                of.box_dimensions.as_ptr(),
                element_strides,
                of.interleave,
                of.swizzle,
                of.promotion,
                of.fill
            )
        ),
        kind::IM2COL => cuda!(
            driver,
            cuTensorMapEncodeIm2col(
                map,
                of.data_type,
                of.rank,
                address,
                dimensions,
                strides,
                of.lower_corner.as_ptr(),
                of.upper_corner.as_ptr(),
                of.channels,
                of.pixels,
                element_strides,
                of.interleave,
                of.swizzle,
                of.promotion,
                of.fill
            )
        ),
        _ => cuda!(
            driver,
            cuTensorMapEncodeIm2colWide(
                map,
                of.data_type,
                of.rank,
                address,
                dimensions,
                strides,
                of.lower_corner[0],
                of.upper_corner[0],
                of.channels,
                of.pixels,
                element_strides,
                of.interleave,
                of.mode,
                of.swizzle,
                of.promotion,
                of.fill
            )
        ),
    }?;
    call.reply_bytes(&made.0);
    Ok(())
}

/// Puts another address into a tensor map.
pub(crate) fn gpurunTensorMapReplace(
    call: &mut Call<'_>,
    request: &request::GpurunTensorMapReplace,
    map: &[u8],
) -> Result<(), CallError> {
    let map = Map::read_from_bytes(map).map_err(|_| MALFORMED)?;
    let mut made = Aligned(map);
    let address = std::ptr::without_provenance_mut(request.address() as usize);
    cuda!(
        call.driver(),
        cuTensorMapReplaceAddress((&raw mut made.0).cast(), address)
    )?;
    call.reply_bytes(&made.0);
    Ok(())
}

/// Gives a tensor map another class of allocation.
pub(crate) fn gpurunTensorMapClass(
    call: &mut Call<'_>,
    request: &request::GpurunTensorMapClass,
    map: &[u8],
) -> Result<(), CallError> {
    let map = Map::read_from_bytes(map).map_err(|_| MALFORMED)?;
    let (mut made, mut effective) = (Aligned(map), 0);
    let place = (&raw mut made.0).cast();
    cuda!(
        call.driver(),
        cuTensorMapSetAllocationClass(place, request.class(), &mut effective)
    )?;
    call.reply(&reply::GpurunTensorMapClass::new(effective));
    call.reply_bytes(&made.0);
    Ok(())
}
