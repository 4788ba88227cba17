//! The driver's functions on texture and surface references.
//!
//! # Safety
//!
//! As in [`super`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint};
use std::sync::Arc;

use driver_api::abi::{
    CUDA_ARRAY_DESCRIPTOR, CUaddress_mode, CUarray, CUarray_format, CUdeviceptr, CUfilter_mode,
    CUmipmappedArray, CUresult, CUsurfref, CUtexref,
};
use driver_api::texture::reference::{Change, OVERRIDE_FORMAT, Reference as Said, check_elements};
use driver_api::texture::resource;

use super::reference::Reference;
use super::{check_context, describe, of_surface, read};
use crate::context::{Context, current};
use crate::entry::{answer, answer_if_asked, done};
use crate::state::{Driver, driver};

/// `CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT`
const ALIGNMENT: u64 = 512;
/// `CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH`
const MOST_ELEMENTS: u64 = 1 << 28;

fn find(handle: usize, is_surface: bool) -> Result<Arc<Reference>, CUresult> {
    current()?;
    let reference = driver()?.references.get(handle);
    let reference = reference
        .ok()
        .filter(|reference| reference.is_surface == is_surface);
    reference.ok_or(CUresult::INVALID_VALUE)
}

/// Whether a handle is that of a module's texture reference.
pub(crate) fn is_of_module(tex_ref: CUtexref) -> Result<bool, CUresult> {
    Ok(find(tex_ref.0, false)?.is_of_module)
}

/// What a texture reference says of something.
///
/// # Safety
///
/// `place` is null or a place for an answer.
unsafe fn tell<T>(
    place: *mut T,
    tex_ref: CUtexref,
    of: impl FnOnce(&Said) -> Result<T, CUresult>,
) -> CUresult {
    let told = || of(&find(tex_ref.0, false)?.said());
    // SAFETY: by contract.
    unsafe { answer(place, told()) }
}

/// Changes how a texture reference reads.
fn change(tex_ref: CUtexref, change: Change) -> CUresult {
    let reference = find(tex_ref.0, false);
    done(reference.and_then(|reference| reference.change(|said| said.apply(&change))))
}

pub(crate) unsafe fn cuTexRefCreate(tex_ref: *mut CUtexref) -> CUresult {
    if tex_ref.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let create = || Ok(CUtexref(Reference::new(driver()?, &*current()?).handle));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(tex_ref, create()) }
}

pub(crate) unsafe fn cuTexRefDestroy(tex_ref: CUtexref) -> CUresult {
    let destroy = || {
        let reference = find(tex_ref.0, false)?;
        if reference.is_of_module {
            return Err(CUresult::INVALID_VALUE);
        }
        driver()?.references.remove(reference.handle)?;
        Ok(())
    };
    done(destroy())
}

/// Binds an array to a reference, which is of a surface or not, in the format and with the channels that `check` tells once it has found it to fit.
fn bind_array(
    (handle, is_surface): (usize, bool),
    has_its_flags: bool,
    (kind, array): (u32, usize),
    check: impl FnOnce(&Driver, &Context) -> Result<(u32, u32), CUresult>,
) -> CUresult {
    let bind = || {
        let (driver, reference) = (driver()?, find(handle, is_surface)?);
        let context = driver.contexts.get(reference.context)?;
        if !has_its_flags {
            return Err(CUresult::INVALID_VALUE);
        }
        let elements = check(driver, &context)?;
        reference.change(|said| {
            said.bind_array(kind, array, elements);
            Ok(())
        })
    };
    done(bind())
}

pub(crate) unsafe fn cuTexRefSetArray(
    tex_ref: CUtexref,
    array: CUarray,
    flags: c_uint,
) -> CUresult {
    let bound = (resource::ARRAY, array.0);
    let bind = |driver: &Driver, context: &Context| {
        let found = crate::array::find(driver, array)?;
        check_context(context, found.context)?;
        Ok((found.shape.format, found.shape.channels))
    };
    bind_array((tex_ref.0, false), flags == OVERRIDE_FORMAT, bound, bind)
}

pub(crate) unsafe fn cuTexRefSetMipmappedArray(
    tex_ref: CUtexref,
    mipmapped_array: CUmipmappedArray,
    flags: c_uint,
) -> CUresult {
    let bound = (resource::MIPMAPPED, mipmapped_array.0);
    let bind = |driver: &Driver, context: &Context| {
        let found = driver.mipmapped_arrays.get(mipmapped_array.0)?;
        check_context(context, found.context)?;
        Ok((found.shape.format, found.shape.channels))
    };
    bind_array((tex_ref.0, false), flags == OVERRIDE_FORMAT, bound, bind)
}

/// Binds memory, once it is known that it can be read so.
fn bind_memory(
    tex_ref: CUtexref,
    kind: u32,
    format: Option<(u32, u32)>,
    words: [u64; 4],
) -> CUresult {
    let bind = || {
        let (driver, reference) = (driver()?, find(tex_ref.0, false)?);
        let context = driver.contexts.get(reference.context)?;
        reference.change(|said| {
            if let Some((format, channels)) = format {
                check_elements(format, channels)?;
                (said.format, said.channels) = (format, channels);
            }
            said.bind(kind, words);
            let resource = said.resource().ok_or(CUresult::INVALID_VALUE)?;
            let described = describe(driver, &context, &resource)?;
            match kind == resource::LINEAR && described.size[0] > MOST_ELEMENTS {
                true => Err(CUresult::INVALID_VALUE),
                false => Ok(()),
            }
        })
    };
    done(bind())
}

pub(crate) unsafe fn cuTexRefSetAddress_v2(
    byte_offset: *mut usize,
    tex_ref: CUtexref,
    dptr: CUdeviceptr,
    bytes: usize,
) -> CUresult {
    let offset = dptr % ALIGNMENT;
    if offset != 0 && byte_offset.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let Some(bytes) = (bytes as u64).checked_add(offset) else {
        return CUresult::INVALID_VALUE;
    };
    let bound = bind_memory(
        tex_ref,
        resource::LINEAR,
        None,
        [dptr - offset, bytes, 0, 0],
    );
    if bound != CUresult::SUCCESS {
        return bound;
    }
    // SAFETY: the caller passes a place for an offset, or none.
    unsafe { answer_if_asked(byte_offset, offset as usize) };
    bound
}

pub(crate) unsafe fn cuTexRefSetAddress2D_v3(
    tex_ref: CUtexref,
    desc: *const CUDA_ARRAY_DESCRIPTOR,
    dptr: CUdeviceptr,
    pitch: usize,
) -> CUresult {
    // SAFETY: the caller passes a description.
    let Ok(desc) = (unsafe { read(desc) }) else {
        return CUresult::INVALID_VALUE;
    };
    if !dptr.is_multiple_of(ALIGNMENT) {
        return CUresult::INVALID_VALUE;
    }
    let format = Some((desc.format, desc.num_channels));
    let words = [dptr, desc.width as u64, desc.height as u64, pitch as u64];
    bind_memory(tex_ref, resource::PITCHED, format, words)
}

pub(crate) unsafe fn cuTexRefSetAddress2D_v2(
    tex_ref: CUtexref,
    desc: *const CUDA_ARRAY_DESCRIPTOR,
    dptr: CUdeviceptr,
    pitch: usize,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe { cuTexRefSetAddress2D_v3(tex_ref, desc, dptr, pitch) }
}

/// The format of memory; what else is bound has its own.
pub(crate) unsafe fn cuTexRefSetFormat(
    tex_ref: CUtexref,
    fmt: CUarray_format,
    num_packed_components: c_int,
) -> CUresult {
    let format = Change::Format {
        format: fmt,
        channels: num_packed_components.cast_unsigned(),
    };
    change(tex_ref, format)
}

pub(crate) unsafe fn cuTexRefSetAddressMode(
    tex_ref: CUtexref,
    dim: c_int,
    am: CUaddress_mode,
) -> CUresult {
    let mode = Change::AddressMode {
        dimension: dim.cast_unsigned(),
        mode: am,
    };
    change(tex_ref, mode)
}

pub(crate) unsafe fn cuTexRefSetFilterMode(tex_ref: CUtexref, fm: CUfilter_mode) -> CUresult {
    change(tex_ref, Change::Filter(fm))
}

pub(crate) unsafe fn cuTexRefSetMipmapFilterMode(tex_ref: CUtexref, fm: CUfilter_mode) -> CUresult {
    change(tex_ref, Change::MipmapFilter(fm))
}

pub(crate) unsafe fn cuTexRefSetMipmapLevelBias(tex_ref: CUtexref, bias: f32) -> CUresult {
    change(tex_ref, Change::LevelBias(bias))
}

pub(crate) unsafe fn cuTexRefSetMipmapLevelClamp(
    tex_ref: CUtexref,
    min_mipmap_level_clamp: f32,
    max_mipmap_level_clamp: f32,
) -> CUresult {
    let clamp = [min_mipmap_level_clamp, max_mipmap_level_clamp];
    change(tex_ref, Change::LevelClamp(clamp))
}

pub(crate) unsafe fn cuTexRefSetMaxAnisotropy(tex_ref: CUtexref, max_aniso: c_uint) -> CUresult {
    change(tex_ref, Change::Anisotropy(max_aniso))
}

pub(crate) unsafe fn cuTexRefSetBorderColor(tex_ref: CUtexref, border_color: *mut f32) -> CUresult {
    // SAFETY: the caller passes four numbers.
    match unsafe { read(border_color.cast::<[f32; 4]>().cast_const()) } {
        Ok(colour) => change(tex_ref, Change::Border(colour)),
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuTexRefSetFlags(tex_ref: CUtexref, flags: c_uint) -> CUresult {
    change(tex_ref, Change::Flags(flags))
}

pub(crate) unsafe fn cuTexRefGetArray(array: *mut CUarray, tex_ref: CUtexref) -> CUresult {
    let told = |said: &Said| Ok(CUarray(said.bound_to(&[resource::ARRAY])? as usize));
    // SAFETY: the caller passes a place for a handle.
    unsafe { tell(array, tex_ref, told) }
}

pub(crate) unsafe fn cuTexRefGetMipmappedArray(
    mipmapped_array: *mut CUmipmappedArray,
    tex_ref: CUtexref,
) -> CUresult {
    let told = |said: &Said| {
        Ok(CUmipmappedArray(
            said.bound_to(&[resource::MIPMAPPED])? as usize
        ))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { tell(mipmapped_array, tex_ref, told) }
}

pub(crate) unsafe fn cuTexRefGetAddress_v2(pdptr: *mut CUdeviceptr, tex_ref: CUtexref) -> CUresult {
    let told = |said: &Said| said.bound_to(&[resource::LINEAR, resource::PITCHED]);
    // SAFETY: the caller passes a place for an address.
    unsafe { tell(pdptr, tex_ref, told) }
}

pub(crate) unsafe fn cuTexRefGetFormat(
    format: *mut CUarray_format,
    num_channels: *mut c_int,
    tex_ref: CUtexref,
) -> CUresult {
    if num_channels.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes places for numbers.
    unsafe {
        match tell(format, tex_ref, |said| Ok(said.format)) {
            CUresult::SUCCESS => tell(num_channels, tex_ref, |said| {
                Ok(said.channels.cast_signed())
            }),
            error => error,
        }
    }
}

pub(crate) unsafe fn cuTexRefGetAddressMode(
    pam: *mut CUaddress_mode,
    tex_ref: CUtexref,
    dim: c_int,
) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { tell(pam, tex_ref, |said| said.address_mode(dim)) }
}

pub(crate) unsafe fn cuTexRefGetFilterMode(pfm: *mut CUfilter_mode, tex_ref: CUtexref) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { tell(pfm, tex_ref, |said| Ok(said.reading.filter_mode)) }
}

pub(crate) unsafe fn cuTexRefGetMipmapFilterMode(
    pfm: *mut CUfilter_mode,
    tex_ref: CUtexref,
) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { tell(pfm, tex_ref, |said| Ok(said.reading.mipmap_filter_mode)) }
}

pub(crate) unsafe fn cuTexRefGetMipmapLevelBias(pbias: *mut f32, tex_ref: CUtexref) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { tell(pbias, tex_ref, |said| Ok(said.reading.mipmap_level_bias)) }
}

pub(crate) unsafe fn cuTexRefGetMipmapLevelClamp(
    pmin_mipmap_level_clamp: *mut f32,
    pmax_mipmap_level_clamp: *mut f32,
    tex_ref: CUtexref,
) -> CUresult {
    if pmax_mipmap_level_clamp.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let (least, most) = (
        |said: &Said| Ok(said.reading.min_mipmap_level_clamp),
        |said: &Said| Ok(said.reading.max_mipmap_level_clamp),
    );
    // SAFETY: the caller passes places for numbers.
    unsafe {
        match tell(pmin_mipmap_level_clamp, tex_ref, least) {
            CUresult::SUCCESS => tell(pmax_mipmap_level_clamp, tex_ref, most),
            error => error,
        }
    }
}

pub(crate) unsafe fn cuTexRefGetMaxAnisotropy(
    pmax_aniso: *mut c_int,
    tex_ref: CUtexref,
) -> CUresult {
    let told = |said: &Said| Ok(said.reading.max_anisotropy.cast_signed());
    // SAFETY: the caller passes a place for a number.
    unsafe { tell(pmax_aniso, tex_ref, told) }
}

pub(crate) unsafe fn cuTexRefGetBorderColor(border_color: *mut f32, tex_ref: CUtexref) -> CUresult {
    let place = border_color.cast::<[f32; 4]>();
    // SAFETY: the caller passes a place for four numbers.
    unsafe { tell(place, tex_ref, |said| Ok(said.reading.border_color)) }
}

pub(crate) unsafe fn cuTexRefGetFlags(flags: *mut c_uint, tex_ref: CUtexref) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { tell(flags, tex_ref, |said| Ok(said.reading.flags)) }
}

pub(crate) unsafe fn cuSurfRefSetArray(
    surf_ref: CUsurfref,
    array: CUarray,
    flags: c_uint,
) -> CUresult {
    let bound = (resource::ARRAY, array.0);
    let bind = |driver: &Driver, context: &Context| {
        of_surface(driver, context, array.0)?;
        // Surfaces are read as the array is.
        Ok((0, 0))
    };
    bind_array((surf_ref.0, true), flags == 0, bound, bind)
}

pub(crate) unsafe fn cuSurfRefGetArray(array: *mut CUarray, surf_ref: CUsurfref) -> CUresult {
    let told = || {
        let said = find(surf_ref.0, true)?.said();
        Ok(CUarray(said.bound_to(&[resource::ARRAY])? as usize))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(array, told()) }
}
