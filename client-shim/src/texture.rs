//! Texture and surface objects, and references ([`mod@reference`]).
//!
//! The program is given the driver's own value, which its kernels get as a parameter; by it an object is found here, and named to the server by the client's
//! number. Descriptions are kept as the program gave them. An object that is being destroyed has lost its value first: the driver may give that to another at once.
//!
//! # Safety
//! The functions named like the driver's read descriptions and write results through pointers that they have checked for null.
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod binding;
pub(crate) mod reference;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{
    CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC, CUDA_TEXTURE_DESC, CUarray, CUmipmappedArray,
    CUresult, CUsurfObject, CUtexObject,
};
use driver_api::array::flag;
use driver_api::texture::{Named, Object as Described, check_texture, resource};
use driver_api::wire::reply;
use driver_api::wire::request::{GpurunTextureCreate, GpurunTextureDestroy};
use zerocopy::{FromBytes, IntoBytes};

use crate::array::{array_of, mipmapped_of};
use crate::context::Context;
use crate::entry::code;
use crate::memory::out;
use crate::session::{self, Session, malformed};

pub(crate) use binding::*;

/// A texture or surface object.
#[derive(Debug)]
pub(crate) struct Object {
    id: u32,
    context: u32,
    resource: CUDA_RESOURCE_DESC,
    /// Of a texture.
    texture: Option<(CUDA_TEXTURE_DESC, Option<CUDA_RESOURCE_VIEW_DESC>)>,
}

/// What the program calls an object: its context, the driver's value in it, and whether it is a texture.
type Name = (u32, u64, bool);

/// The objects by name.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<BTreeMap<Name, u32>>);

impl Names {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A context has ended, and its objects with it.
pub(crate) fn forget_context(session: &Session, context: u32) {
    reference::forget_context(session, context);
    let names = &session.objects.texture_names;
    names.lock().retain(|(of, _, _), _| *of != context);
    let textures = &session.objects.textures;
    for object in textures.select(|object| object.context == context) {
        textures.remove(object.id);
    }
}

/// The object of a value, of the current context. Each context has its own values.
fn find(
    session: &Session,
    context: &Context,
    value: u64,
    is_texture: bool,
) -> Result<Arc<Object>, CUresult> {
    let names = session.objects.texture_names.lock();
    let id = names.get(&(context.id, value, is_texture)).copied();
    let object = id.and_then(|id| session.objects.textures.get(id));
    object.ok_or(CUresult::INVALID_VALUE)
}

/// What travels of what an object reads.
fn describe(
    session: &Session,
    context: &Context,
    description: &CUDA_RESOURCE_DESC,
    is_surface: bool,
) -> Result<Described, CUresult> {
    let mut object = Described {
        is_surface: u32::from(is_surface).into(),
        ..Described::default()
    };
    let check_context = |other: u32| match other == context.id {
        true => Ok(()),
        false => Err(CUresult::INVALID_HANDLE),
    };
    match Named::of(description)? {
        Named::Array(handle) => {
            let array = array_of(session, CUarray(handle))?;
            check_context(array.context)?;
            if is_surface && array.shape.flags & flag::SURFACE == 0 {
                return Err(CUresult::INVALID_VALUE);
            }
            object.kind = resource::ARRAY.into();
            (object.array, object.level) = (array.wire_id.into(), array.level.into());
        }
        _ if is_surface => return Err(CUresult::INVALID_VALUE),
        Named::Mipmapped(handle) => {
            let array = mipmapped_of(session, CUmipmappedArray(handle))?;
            check_context(array.context)?;
            object.kind = resource::MIPMAPPED.into();
            object.array = array.wire_id().into();
        }
        Named::Linear(rows) => {
            let memory = &session.objects.memory;
            memory.reach(session, rows.address, rows.span()?)?;
            object.set_rows(resource::LINEAR, &rows);
        }
        Named::Pitched(rows) => {
            let memory = &session.objects.memory;
            memory.reach(session, rows.address, rows.span()?)?;
            object.set_rows(resource::PITCHED, &rows);
        }
    }
    Ok(object)
}

/// Asks for an object: its value.
fn create(
    session: &Session,
    context: &Context,
    resource: CUDA_RESOURCE_DESC,
    texture: Option<(CUDA_TEXTURE_DESC, Option<CUDA_RESOURCE_VIEW_DESC>)>,
) -> Result<u64, CUresult> {
    let mut described = describe(session, context, &resource, texture.is_none())?;
    if let Some((texture, view)) = &texture {
        check_texture(texture)?;
        described.set_texture(texture);
        if let Some(view) = view {
            if view.reserved != [0; 16] {
                return Err(CUresult::INVALID_VALUE);
            }
            described.set_view(view);
        }
    }
    let textures = &session.objects.textures;
    let object = textures.insert_with(|id| Object {
        id,
        context: context.id,
        resource,
        texture,
    });
    let request = GpurunTextureCreate::new(object.id);
    match ask(session, context, &request, &described) {
        Ok(value) => {
            let name = (context.id, value, object.texture.is_some());
            session.objects.texture_names.lock().insert(name, object.id);
            Ok(value)
        }
        Err(error) => {
            textures.remove(object.id);
            Err(error)
        }
    }
}

fn ask(
    session: &Session,
    context: &Context,
    request: &GpurunTextureCreate,
    described: &Described,
) -> Result<u64, CUresult> {
    let value = Cell::new(0);
    session.objects.memory.with_patience(session, || {
        let reply = session.ask_reply(context.id, request, described.as_bytes(), || Ok(()))?;
        let reply = reply::GpurunTextureCreate::read_from_bytes(&reply.body);
        value.set(
            reply
                .map_err(|_| malformed::<GpurunTextureCreate>())?
                .value(),
        );
        Ok(())
    })?;
    Ok(value.get())
}

fn destroy(value: u64, is_texture: bool) -> Result<(), CUresult> {
    let (session, context) = session::current()?;
    let (names, name) = (
        &session.objects.texture_names,
        (context.id, value, is_texture),
    );
    let id = names.lock().remove(&name);
    let id = id.ok_or(CUresult::INVALID_VALUE)?;
    session
        .ask_in(context.id, &GpurunTextureDestroy::new(id), &[])
        .inspect_err(|_| {
            names.lock().insert(name, id);
        })?;
    session.objects.textures.remove(id);
    Ok(())
}

/// # Safety
/// `description` is null or points to a description.
unsafe fn read<T: Copy>(description: *const T) -> Result<T, CUresult> {
    if description.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise, and not null.
    Ok(unsafe { description.read() })
}

/// # Safety
/// `place` is null or can be written.
unsafe fn answer<T>(
    place: *mut T,
    value: impl FnOnce(&'static Session, &Context) -> Result<T, CUresult>,
) -> CUresult {
    code((|| {
        let place = out(place)?;
        let (session, context) = session::current()?;
        let value = value(session, &context)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(value) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuTexObjectCreate(
    tex_object: *mut CUtexObject,
    res_desc: *const CUDA_RESOURCE_DESC,
    tex_desc: *const CUDA_TEXTURE_DESC,
    res_view_desc: *const CUDA_RESOURCE_VIEW_DESC,
) -> CUresult {
    let make = |session: &'static Session, context: &Context| {
        // SAFETY: the API's contract; the last may be null.
        let (resource, texture, view) =
            unsafe { (read(res_desc)?, read(tex_desc)?, read(res_view_desc).ok()) };
        create(session, context, resource, Some((texture, view)))
    };
    // SAFETY: the API's contract.
    unsafe { answer(tex_object, make) }
}

pub(crate) unsafe fn cuTexObjectDestroy(tex_object: CUtexObject) -> CUresult {
    code(destroy(tex_object, true))
}

pub(crate) unsafe fn cuTexObjectGetResourceDesc(
    res_desc: *mut CUDA_RESOURCE_DESC,
    tex_object: CUtexObject,
) -> CUresult {
    let tell = |session: &'static Session, context: &Context| {
        Ok(find(session, context, tex_object, true)?.resource)
    };
    // SAFETY: the API's contract.
    unsafe { answer(res_desc, tell) }
}

pub(crate) unsafe fn cuTexObjectGetTextureDesc(
    tex_desc: *mut CUDA_TEXTURE_DESC,
    tex_object: CUtexObject,
) -> CUresult {
    let tell = |session: &'static Session, context: &Context| {
        let object = find(session, context, tex_object, true)?;
        let texture = object.texture.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        Ok(texture.0)
    };
    // SAFETY: the API's contract.
    unsafe { answer(tex_desc, tell) }
}

pub(crate) unsafe fn cuTexObjectGetResourceViewDesc(
    res_view_desc: *mut CUDA_RESOURCE_VIEW_DESC,
    tex_object: CUtexObject,
) -> CUresult {
    let tell = |session: &'static Session, context: &Context| {
        let object = find(session, context, tex_object, true)?;
        let view = object.texture.as_ref().and_then(|texture| texture.1);
        view.ok_or(CUresult::INVALID_VALUE)
    };
    // SAFETY: the API's contract.
    unsafe { answer(res_view_desc, tell) }
}

pub(crate) unsafe fn cuSurfObjectCreate(
    surf_object: *mut CUsurfObject,
    res_desc: *const CUDA_RESOURCE_DESC,
) -> CUresult {
    let make = |session: &'static Session, context: &Context| {
        // SAFETY: the API's contract.
        let resource = unsafe { read(res_desc) }?;
        create(session, context, resource, None)
    };
    // SAFETY: the API's contract.
    unsafe { answer(surf_object, make) }
}

pub(crate) unsafe fn cuSurfObjectDestroy(surf_object: CUsurfObject) -> CUresult {
    code(destroy(surf_object, false))
}

pub(crate) unsafe fn cuSurfObjectGetResourceDesc(
    res_desc: *mut CUDA_RESOURCE_DESC,
    surf_object: CUsurfObject,
) -> CUresult {
    let tell = |session: &'static Session, context: &Context| {
        Ok(find(session, context, surf_object, false)?.resource)
    };
    // SAFETY: the API's contract.
    unsafe { answer(res_desc, tell) }
}
