//! The driver's functions on texture and surface references.
//!
//! # Safety
//! As in [`super`].
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_int, c_uint};

use driver_api::abi::{
    CUDA_ARRAY_DESCRIPTOR, CUaddress_mode, CUarray, CUarray_format, CUdeviceptr, CUfilter_mode,
    CUmipmappedArray, CUresult, CUsurfref, CUtexref,
};
use driver_api::array::flag;
use driver_api::texture::reference::{Change, OVERRIDE_FORMAT, Reference as Said, check_elements};
use driver_api::texture::{Object as Described, Rows, resource};

use super::reference::{self, Reference, find};
use super::{answer, read};
use crate::array::{array_of, mipmapped_of};
use crate::entry::code;
use crate::handles::Handle;
use crate::session::{self, Session};

/// # Safety
/// `place` is null or can be written.
unsafe fn tell<T>(
    place: *mut T,
    tex_ref: CUtexref,
    of: impl FnOnce(&Said) -> Result<T, CUresult>,
) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe {
        answer(place, |session, _| {
            of(&find(session, tex_ref.undress(), false)?.said())
        })
    }
}

/// Changes how a texture reference reads.
fn change(tex_ref: CUtexref, change: Change) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        find(session, tex_ref.undress(), false)?.change(session, &change)
    })())
}

/// A description of an array, which is of the reference's context, with its format and channels.
fn describe(
    session: &Session,
    reference: &Reference,
    array: CUarray,
) -> Result<(Described, (u32, u32)), CUresult> {
    let found = array_of(session, array)?;
    if found.context != reference.context {
        return Err(CUresult::INVALID_HANDLE);
    }
    if reference.is_surface && found.shape.flags & flag::SURFACE == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let described = Described {
        kind: resource::ARRAY.into(),
        array: found.wire_id.into(),
        level: found.level.into(),
        is_surface: u32::from(reference.is_surface).into(),
        ..Described::default()
    };
    Ok((described, (found.shape.format, found.shape.channels)))
}

pub(crate) unsafe fn cuTexRefCreate(tex_ref: *mut CUtexref) -> CUresult {
    // SAFETY: the API's contract.
    unsafe {
        answer(tex_ref, |session, context| {
            reference::create(session, context)
        })
    }
}

pub(crate) unsafe fn cuTexRefDestroy(tex_ref: CUtexref) -> CUresult {
    code(reference::destroy(tex_ref))
}

/// Binds an array or a mipmapped one, whose description and elements are found once the reference and the flags are right.
fn bind_array(
    (id, is_surface): (Option<u32>, bool),
    (flags, wanted): (c_uint, c_uint),
    (kind, handle): (u32, usize),
    describe: impl FnOnce(&Session, &Reference) -> Result<(Described, (u32, u32)), CUresult>,
) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let reference = find(session, id, is_surface)?;
        if flags != wanted {
            return Err(CUresult::INVALID_VALUE);
        }
        let (described, elements) = describe(session, &reference)?;
        reference.bind(session, &described, false, |said, _| {
            said.bind_array(kind, handle, elements);
        })?;
        Ok(())
    })())
}

pub(crate) unsafe fn cuTexRefSetArray(
    tex_ref: CUtexref,
    array: CUarray,
    flags: c_uint,
) -> CUresult {
    bind_array(
        (tex_ref.undress(), false),
        (flags, OVERRIDE_FORMAT),
        (resource::ARRAY, array.0),
        |session, reference| describe(session, reference, array),
    )
}

pub(crate) unsafe fn cuTexRefSetMipmappedArray(
    tex_ref: CUtexref,
    mipmapped_array: CUmipmappedArray,
    flags: c_uint,
) -> CUresult {
    bind_array(
        (tex_ref.undress(), false),
        (flags, OVERRIDE_FORMAT),
        (resource::MIPMAPPED, mipmapped_array.0),
        |session, reference| {
            let found = mipmapped_of(session, mipmapped_array)?;
            if found.context != reference.context {
                return Err(CUresult::INVALID_HANDLE);
            }
            let described = Described {
                kind: resource::MIPMAPPED.into(),
                array: found.wire_id().into(),
                ..Described::default()
            };
            Ok((described, found.elements))
        },
    )
}

pub(crate) unsafe fn cuTexRefSetAddress_v2(
    byte_offset: *mut usize,
    tex_ref: CUtexref,
    dptr: CUdeviceptr,
    bytes: usize,
) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let reference = find(session, tex_ref.undress(), false)?;
        let bytes = bytes as u64;
        session.objects.memory.reach(session, dptr, bytes)?;
        let described = Described {
            kind: resource::LINEAR.into(),
            address: dptr.into(),
            width: bytes.into(),
            ..Described::default()
        };
        let takes_offset = !byte_offset.is_null();
        let offset = reference.bind(session, &described, takes_offset, |said, offset| {
            let start = dptr.wrapping_sub(offset);
            said.bind(resource::LINEAR, [start, bytes.wrapping_add(offset), 0, 0]);
        })?;
        if takes_offset {
            // SAFETY: not null, and writable by the API's contract.
            unsafe { byte_offset.write(offset as usize) };
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuTexRefSetAddress2D_v3(
    tex_ref: CUtexref,
    desc: *const CUDA_ARRAY_DESCRIPTOR,
    dptr: CUdeviceptr,
    pitch: usize,
) -> CUresult {
    code((|| {
        let (session, _) = session::current()?;
        let reference = find(session, tex_ref.undress(), false)?;
        // SAFETY: the API's contract.
        let desc = unsafe { read(desc) }?;
        check_elements(desc.format, desc.num_channels)?;
        let rows = Rows {
            address: dptr,
            format: desc.format,
            channels: desc.num_channels,
            width: desc.width as u64,
            height: desc.height as u64,
            pitch: pitch as u64,
        };
        let memory = &session.objects.memory;
        memory.reach(session, rows.address, rows.span()?)?;
        let mut described = Described::default();
        described.set_rows(resource::PITCHED, &rows);
        reference.bind(session, &described, false, |said, _| {
            (said.format, said.channels) = (rows.format, rows.channels);
            let sizes = [rows.address, rows.width, rows.height, rows.pitch];
            said.bind(resource::PITCHED, sizes);
        })?;
        Ok(())
    })())
}

pub(crate) unsafe fn cuTexRefSetAddress2D_v2(
    tex_ref: CUtexref,
    desc: *const CUDA_ARRAY_DESCRIPTOR,
    dptr: CUdeviceptr,
    pitch: usize,
) -> CUresult {
    // SAFETY: the same contract.
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
    // SAFETY: the API's contract.
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
    // SAFETY: the API's contract.
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
    // SAFETY: the API's contract.
    unsafe { tell(mipmapped_array, tex_ref, told) }
}

pub(crate) unsafe fn cuTexRefGetAddress_v2(pdptr: *mut CUdeviceptr, tex_ref: CUtexref) -> CUresult {
    let told = |said: &Said| said.bound_to(&[resource::LINEAR, resource::PITCHED]);
    // SAFETY: the API's contract.
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
    // SAFETY: the API's contract.
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
    // SAFETY: the API's contract.
    unsafe { tell(pam, tex_ref, |said| said.address_mode(dim)) }
}

pub(crate) unsafe fn cuTexRefGetFilterMode(pfm: *mut CUfilter_mode, tex_ref: CUtexref) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { tell(pfm, tex_ref, |said| Ok(said.reading.filter_mode)) }
}

pub(crate) unsafe fn cuTexRefGetMipmapFilterMode(
    pfm: *mut CUfilter_mode,
    tex_ref: CUtexref,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { tell(pfm, tex_ref, |said| Ok(said.reading.mipmap_filter_mode)) }
}

pub(crate) unsafe fn cuTexRefGetMipmapLevelBias(pbias: *mut f32, tex_ref: CUtexref) -> CUresult {
    // SAFETY: the API's contract.
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
    // SAFETY: the API's contract.
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
    // SAFETY: the API's contract.
    unsafe { tell(pmax_aniso, tex_ref, told) }
}

pub(crate) unsafe fn cuTexRefGetBorderColor(border_color: *mut f32, tex_ref: CUtexref) -> CUresult {
    let place = border_color.cast::<[f32; 4]>();
    // SAFETY: the API's contract.
    unsafe { tell(place, tex_ref, |said| Ok(said.reading.border_color)) }
}

pub(crate) unsafe fn cuTexRefGetFlags(flags: *mut c_uint, tex_ref: CUtexref) -> CUresult {
    // SAFETY: the API's contract.
    unsafe { tell(flags, tex_ref, |said| Ok(said.reading.flags)) }
}

pub(crate) unsafe fn cuSurfRefSetArray(
    surf_ref: CUsurfref,
    array: CUarray,
    flags: c_uint,
) -> CUresult {
    bind_array(
        (surf_ref.undress(), true),
        (flags, 0),
        (resource::ARRAY, array.0),
        |session, reference| describe(session, reference, array),
    )
}

pub(crate) unsafe fn cuSurfRefGetArray(array: *mut CUarray, surf_ref: CUsurfref) -> CUresult {
    let tell = |session: &'static Session, _: &crate::context::Context| {
        let reference = find(session, surf_ref.undress(), true)?;
        let bound = reference.said().bound_to(&[resource::ARRAY])?;
        Ok(CUarray(bound as usize))
    };
    // SAFETY: the API's contract.
    unsafe { answer(array, tell) }
}
