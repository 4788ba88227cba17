//! Texture and surface objects, and references ([`mod@reference`]): the rows of the `texture` area.
//!
//! *What:* an [`Object`] is the driver's, by the client's number. Kernels get its value as a parameter, so the client is told the driver's own; but it names the object by
//! its number, and no value of the client's is passed to the driver. *Rules:* what an object reads is an array of the session's, of the current context, or
//! memory of its ranges; descriptions are made anew from what was understood of the client's. Surfaces are of arrays, and only arrays have views.
//!
//! # Safety
//! Handles and values come from the driver through this module and its neighbours; descriptions and out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod reference;

use std::sync::Arc;

use driver_api::Driver;
use driver_api::abi::CUDA_RESOURCE_DESC;
use driver_api::result::CUresult;
use driver_api::texture::{Object as Described, check_texture, check_view, resource};
use driver_api::wire::{reply, request};
use zerocopy::FromBytes;

use super::array::array_of;
use super::call::{Call, CallError};
use crate::driver::cuda;

pub(crate) use reference::*;

/// A texture or surface object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object {
    value: u64,
    is_surface: bool,
    /// The serial of its context.
    pub(crate) context: u64,
}

impl Object {
    fn destroy(&self, driver: &Driver) -> Result<(), CUresult> {
        match self.is_surface {
            true => cuda!(driver, cuSurfObjectDestroy(self.value)),
            false => cuda!(driver, cuTexObjectDestroy(self.value)),
        }
    }
}

/// The driver's description of what an object reads.
fn resource_of(call: &Call<'_>, object: &Described) -> Result<CUDA_RESOURCE_DESC, CUresult> {
    let kind = object.kind.get();
    let mut description = CUDA_RESOURCE_DESC {
        kind,
        ..CUDA_RESOURCE_DESC::default()
    };
    if object.is_surface.get() != 0 && kind != resource::ARRAY {
        return Err(CUresult::INVALID_VALUE);
    }
    let view = object.view()?;
    let rows = object.rows();
    let words = &mut description.words;
    match kind {
        resource::ARRAY | resource::MIPMAPPED => {
            let array = array_of(call, object.array.get())?;
            if array.context != call.context()?.serial {
                return Err(CUresult::INVALID_HANDLE);
            }
            if let Some(view) = view {
                check_view(&view, &array.level(0)?.1)?;
            }
            words[0] = match kind {
                resource::ARRAY => array.level(object.level.get())?.0.0 as u64,
                _ => array.mipmapped()?.0 as u64,
            };
        }
        resource::LINEAR | resource::PITCHED if view.is_none() => {
            let span = rows.span()?;
            call.session.memory.check(rows.address, span)?;
            words[0] = rows.address;
            words[1] = u64::from(rows.format) | u64::from(rows.channels) << 32;
            match kind {
                resource::LINEAR => words[2] = span,
                _ => (words[2], words[3], words[4]) = (rows.width, rows.height, rows.pitch),
            }
        }
        _ => return Err(CUresult::INVALID_VALUE),
    }
    Ok(description)
}

fn make(driver: &Driver, object: &Described, from: &CUDA_RESOURCE_DESC) -> Result<u64, CUresult> {
    let mut value = 0;
    if object.is_surface.get() != 0 {
        cuda!(driver, cuSurfObjectCreate(&mut value, from))?;
        return Ok(value);
    }
    let texture = object.texture();
    check_texture(&texture)?;
    let view = object.view()?;
    let view = view.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    cuda!(driver, cuTexObjectCreate(&mut value, from, &texture, view))?;
    Ok(value)
}

/// A texture or surface object.
pub(crate) fn gpurunTextureCreate(
    call: &mut Call<'_>,
    request: &request::GpurunTextureCreate,
    rest: &[u8],
) -> Result<(), CallError> {
    let described = Described::read_from_bytes(rest);
    let described = described.map_err(|_| CallError::Violation("an object of another length"))?;
    let context = Arc::clone(call.context()?);
    call.session.textures.check_free(request.texture())?;
    let from = resource_of(call, &described)?;
    let value = make(call.driver(), &described, &from)?;
    let object = Object {
        value,
        is_surface: described.is_surface.get() != 0,
        context: context.serial,
    };
    let kept = call.session.textures.insert(request.texture(), object);
    if let Err(error) = kept {
        object.destroy(call.driver())?;
        return Err(error.into());
    }
    call.reply(&reply::GpurunTextureCreate::new(value));
    Ok(())
}

/// Its end.
pub(crate) fn gpurunTextureDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunTextureDestroy,
) -> Result<(), CallError> {
    let textures = &call.session.textures;
    let object = textures.get(request.texture());
    let object = object.ok_or(CUresult::INVALID_HANDLE)?;
    if object.context != call.context()?.serial {
        return Err(CUresult::INVALID_HANDLE.into());
    }
    // Another call may have been quicker.
    let object = textures.remove(request.texture());
    let object = object.ok_or(CUresult::INVALID_HANDLE)?;
    object.destroy(call.driver())?;
    Ok(())
}
