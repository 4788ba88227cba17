//! Texture and surface references.
//!
//! *What:* a [`Reference`] is the driver's, by the client's number; the client learns what it says when it gets it, and keeps that. *Rules:* what a reference is bound to
//! is an array of the session's, of the reference's context, or memory of its ranges. A reference of a module ends with it.
//!
//! # Safety
//! As in [`super`].
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::Arc;

use driver_api::Driver;
use driver_api::abi::{CUDA_ARRAY_DESCRIPTOR, CUDA_TEXTURE_DESC, CUsurfref, CUtexref};
use driver_api::result::CUresult;
use driver_api::texture::reference::{Change, OVERRIDE_FORMAT, Reference as Said, kind};
use driver_api::texture::{Object as Described, resource};
use driver_api::wire::{reply, request};
use zerocopy::{FromBytes, IntoBytes};

use super::super::array::array_of;
use super::super::call::{Call, CallError};
use super::super::module::name_of;
use crate::driver::cuda;

/// A texture or surface reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    handle: Handle,
    /// The serial of its context.
    pub(crate) context: u64,
    /// The client's number of its module.
    pub(crate) module: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Handle {
    Texture(CUtexref),
    Surface(CUsurfref),
}

/// A reference of the current context.
fn find(call: &Call<'_>, reference: u32) -> Result<Reference, CUresult> {
    let found = call.session.references.get(reference);
    let found = found.ok_or(CUresult::INVALID_HANDLE)?;
    match found.context == call.context()?.serial {
        true => Ok(found),
        false => Err(CUresult::INVALID_HANDLE),
    }
}

fn get(call: &Call<'_>, wanted: u32, module: u32, name: &[u8]) -> Result<Reference, CUresult> {
    let (driver, context) = (call.driver(), call.context()?.serial);
    let (mut texture, mut surface) = (CUtexref(0), CUsurfref(0));
    if wanted == kind::FREE {
        cuda!(driver, cuTexRefCreate(&mut texture))?;
        return Ok(Reference {
            handle: Handle::Texture(texture),
            context,
            module: None,
        });
    }
    let found = call.session.modules.get(module);
    let found = found.filter(|found| found.context == context);
    let of = found.ok_or(CUresult::INVALID_HANDLE)?.handle;
    let name = name_of(name)?;
    let handle = match wanted {
        kind::TEXTURE => {
            cuda!(driver, cuModuleGetTexRef(&mut texture, of, name.as_ptr()))?;
            Handle::Texture(texture)
        }
        kind::SURFACE => {
            cuda!(driver, cuModuleGetSurfRef(&mut surface, of, name.as_ptr()))?;
            Handle::Surface(surface)
        }
        _ => return Err(CUresult::INVALID_VALUE),
    };
    Ok(Reference {
        handle,
        context,
        module: Some(module),
    })
}

/// What a texture reference says of its own; of a surface reference there is nothing.
fn told(driver: &Driver, reference: &Reference) -> Result<Described, CUresult> {
    let mut described = Described::default();
    let Handle::Texture(handle) = reference.handle else {
        return Ok(described);
    };
    let (mut format, mut channels) = (0, 0);
    cuda!(
        driver,
        cuTexRefGetFormat(&mut format, &mut channels, handle)
    )?;
    described.format = format.into();
    described.channels = channels.cast_unsigned().into();
    let mut reading = CUDA_TEXTURE_DESC::default();
    for (dimension, mode) in (0..).zip(&mut reading.address_mode) {
        cuda!(driver, cuTexRefGetAddressMode(mode, handle, dimension))?;
    }
    cuda!(
        driver,
        cuTexRefGetFilterMode(&mut reading.filter_mode, handle)
    )?;
    cuda!(driver, cuTexRefGetFlags(&mut reading.flags, handle))?;
    let mut anisotropy = 0;
    cuda!(driver, cuTexRefGetMaxAnisotropy(&mut anisotropy, handle))?;
    reading.max_anisotropy = anisotropy.cast_unsigned();
    let mode = &mut reading.mipmap_filter_mode;
    cuda!(driver, cuTexRefGetMipmapFilterMode(mode, handle))?;
    let bias = &mut reading.mipmap_level_bias;
    cuda!(driver, cuTexRefGetMipmapLevelBias(bias, handle))?;
    let least = &mut reading.min_mipmap_level_clamp;
    let most = &mut reading.max_mipmap_level_clamp;
    cuda!(driver, cuTexRefGetMipmapLevelClamp(least, most, handle))?;
    let colour = reading.border_color.as_mut_ptr();
    cuda!(driver, cuTexRefGetBorderColor(colour, handle))?;
    described.set_texture(&reading);
    Ok(described)
}

/// A reference.
pub(crate) fn gpurunReferenceGet(
    call: &mut Call<'_>,
    request: &request::GpurunReferenceGet,
    name: &[u8],
) -> Result<(), CallError> {
    let references = &call.session.references;
    references.check_free(request.reference())?;
    let reference = get(call, request.kind(), request.module(), name)?;
    let described = told(call.driver(), &reference);
    let kept = described
        .and_then(|described| {
            references.insert(request.reference(), reference)?;
            // Another call may have ended the module before the reference was there to end with it.
            if let Some(module) = reference.module
                && call.session.modules.get(module).is_none()
            {
                references.remove(request.reference());
                return Err(CUresult::INVALID_HANDLE);
            }
            Ok(described)
        })
        .inspect_err(|_| destroy(call.driver(), &reference));
    call.reply_bytes(kept?.as_bytes());
    Ok(())
}

/// Ends a reference that nobody has been told.
fn destroy(driver: &Driver, reference: &Reference) {
    if let (Handle::Texture(handle), None) = (reference.handle, reference.module) {
        // What failed before is the error to tell.
        let _ = cuda!(driver, cuTexRefDestroy(handle));
    }
}

/// The end of a reference of no module.
pub(crate) fn gpurunReferenceDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunReferenceDestroy,
) -> Result<(), CallError> {
    let reference = find(call, request.reference())?;
    let (Handle::Texture(handle), None) = (reference.handle, reference.module) else {
        return Err(CUresult::INVALID_VALUE.into());
    };
    // Another call may have been quicker.
    let removed = call.session.references.remove(request.reference());
    removed.ok_or(CUresult::INVALID_HANDLE)?;
    cuda!(call.driver(), cuTexRefDestroy(handle))?;
    Ok(())
}

/// Binds a texture reference: the offset of its address.
fn bind_texture(
    call: &Call<'_>,
    handle: CUtexref,
    object: &Described,
    takes_offset: bool,
) -> Result<usize, CUresult> {
    let (driver, session) = (call.driver(), call.session);
    let rows = object.rows();
    let mut offset = 0;
    match object.kind.get() {
        resource::ARRAY => {
            let array = of_context(call, object.array.get())?;
            let (array, _) = array.level(object.level.get())?;
            cuda!(driver, cuTexRefSetArray(handle, array, OVERRIDE_FORMAT))?;
        }
        resource::MIPMAPPED => {
            let array = of_context(call, object.array.get())?.mipmapped()?;
            cuda!(
                driver,
                cuTexRefSetMipmappedArray(handle, array, OVERRIDE_FORMAT)
            )?;
        }
        resource::LINEAR => {
            session.memory.check(rows.address, rows.width)?;
            let bytes = usize::try_from(rows.width).map_err(|_| CUresult::INVALID_VALUE)?;
            let place = match takes_offset {
                true => &raw mut offset,
                false => core::ptr::null_mut(),
            };
            cuda!(
                driver,
                cuTexRefSetAddress_v2(place, handle, rows.address, bytes)
            )?;
        }
        resource::PITCHED => {
            session.memory.check(rows.address, rows.span()?)?;
            let number = |number: u64| usize::try_from(number).map_err(|_| CUresult::INVALID_VALUE);
            let shape = CUDA_ARRAY_DESCRIPTOR {
                width: number(rows.width)?,
                height: number(rows.height)?,
                format: rows.format,
                num_channels: rows.channels,
            };
            let pitch = number(rows.pitch)?;
            cuda!(
                driver,
                cuTexRefSetAddress2D_v3(handle, &shape, rows.address, pitch)
            )?;
        }
        _ => return Err(CUresult::INVALID_VALUE),
    }
    Ok(offset)
}

/// An array of the current context.
fn of_context(call: &Call<'_>, array: u32) -> Result<Arc<super::super::array::Array>, CUresult> {
    let array = array_of(call, array)?;
    match array.context == call.context()?.serial {
        true => Ok(array),
        false => Err(CUresult::INVALID_HANDLE),
    }
}

/// Binds a reference.
pub(crate) fn gpurunReferenceBind(
    call: &mut Call<'_>,
    request: &request::GpurunReferenceBind,
    rest: &[u8],
) -> Result<(), CallError> {
    let object = Described::read_from_bytes(rest);
    let object = object.map_err(|_| CallError::Violation("an object of another length"))?;
    let reference = find(call, request.reference())?;
    let offset = match reference.handle {
        Handle::Texture(handle) => {
            bind_texture(call, handle, &object, request.takes_offset() != 0)?
        }
        Handle::Surface(handle) if object.kind.get() == resource::ARRAY => {
            let array = of_context(call, object.array.get())?;
            let (array, _) = array.level(object.level.get())?;
            cuda!(call.driver(), cuSurfRefSetArray(handle, array, 0))?;
            0
        }
        Handle::Surface(_) => return Err(CUresult::INVALID_VALUE.into()),
    };
    call.reply(&reply::GpurunReferenceBind::new(offset as u64));
    Ok(())
}

/// Changes how a texture reference reads. What no reference can say, no driver is asked.
pub(crate) fn gpurunReferenceChange(
    call: &mut Call<'_>,
    request: &request::GpurunReferenceChange,
) -> Result<(), CallError> {
    let change = Change::of(request.change(), request.words())?;
    Said::default().apply(&change)?;
    let Handle::Texture(handle) = find(call, request.reference())?.handle else {
        return Err(CUresult::INVALID_VALUE.into());
    };
    make(call.driver(), handle, change)?;
    Ok(())
}

fn make(driver: &Driver, handle: CUtexref, change: Change) -> Result<(), CUresult> {
    match change {
        Change::Format { format, channels } => {
            let channels = channels.cast_signed();
            cuda!(driver, cuTexRefSetFormat(handle, format, channels))
        }
        Change::AddressMode { dimension, mode } => {
            let dimension = dimension.cast_signed();
            cuda!(driver, cuTexRefSetAddressMode(handle, dimension, mode))
        }
        Change::Filter(mode) => cuda!(driver, cuTexRefSetFilterMode(handle, mode)),
        Change::MipmapFilter(mode) => cuda!(driver, cuTexRefSetMipmapFilterMode(handle, mode)),
        Change::LevelBias(bias) => cuda!(driver, cuTexRefSetMipmapLevelBias(handle, bias)),
        Change::LevelClamp([least, most]) => {
            cuda!(driver, cuTexRefSetMipmapLevelClamp(handle, least, most))
        }
        Change::Anisotropy(most) => cuda!(driver, cuTexRefSetMaxAnisotropy(handle, most)),
        Change::Border(mut colour) => {
            cuda!(driver, cuTexRefSetBorderColor(handle, colour.as_mut_ptr()))
        }
        Change::Flags(flags) => cuda!(driver, cuTexRefSetFlags(handle, flags)),
    }
}
