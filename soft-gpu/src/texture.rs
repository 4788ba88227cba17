//! Texture and surface objects, and references ([`mod@reference`]).
//!
//! The value of an object is the address of its descriptor in device memory, which kernels read: [`crate::exec`]'s `Descriptor`. Descriptors lie in slabs of their
//! context, which stay as long as it does, so that a kernel that reads a destroyed object's finds a descriptor of nothing, or another object's.
//!
//! Anisotropic filters are isotropic here, cubes are filtered within their faces.
//!
//! # Safety
//!
//! The driver's functions read descriptions and write answers through pointers that their caller passed; see [`crate::entry`]. Slabs belong to this module
//! and are mapped while their context lives; a slot is written by who has taken it out of the table of slots, or while that is locked.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod binding;
mod reference;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use driver_api::abi::{
    CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC, CUDA_TEXTURE_DESC, CUarray, CUresult,
    CUsurfObject, CUtexObject,
};
use driver_api::array::{self, Shape};
use driver_api::texture::{Named, Rows, check_texture, view_format};
use zerocopy::IntoBytes;

use crate::context::{Context, Fate, current};
use crate::entry::{answer, done};
use crate::exec::{Descriptor, Resource, SURFACE, TEXTURE};
use crate::state::{Driver, driver};
use crate::threads::lock;

pub(crate) use binding::*;
pub(crate) use reference::{Reference, Variable};

/// Bytes of a slab.
const SLAB_BYTES: u64 = 64 << 10;
const SLOT_BYTES: u64 = size_of::<Descriptor>() as u64;

/// A texture or surface object, as it was described.
#[derive(Debug)]
pub(crate) struct Object {
    context: usize,
    resource: CUDA_RESOURCE_DESC,
    /// Of a texture.
    texture: Option<(CUDA_TEXTURE_DESC, Option<CUDA_RESOURCE_VIEW_DESC>)>,
}

/// The objects of the process.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    living: Mutex<HashMap<u64, Arc<Object>>>,
    /// A context that ends is aborted first, then taken out here, and then its slabs go.
    free: Mutex<FreeSlots>,
}

/// Free slots of each context.
type FreeSlots = HashMap<usize, Vec<u64>>;

impl Objects {
    /// Puts a descriptor into a slot of the context's.
    fn place(
        &self,
        driver: &Driver,
        context: &Context,
        descriptor: &Descriptor,
    ) -> Result<u64, CUresult> {
        loop {
            {
                let mut free = self.free_while(&context.fate)?;
                if let Some(slot) = free.get_mut(&context.handle).and_then(Vec::pop) {
                    write(slot, descriptor);
                    return Ok(slot);
                }
            }
            self.enlarge(driver, context)?;
        }
    }

    /// The free slots, while a context lives: its slabs stay as long as this is held.
    fn free_while(&self, fate: &Fate) -> Result<MutexGuard<'_, FreeSlots>, CUresult> {
        let free = lock(&self.free);
        match fate.is_aborted() {
            true => Err(CUresult::CONTEXT_IS_DESTROYED),
            false => Ok(free),
        }
    }

    /// Another slab. No lock is held while the memory is made: that may wait for launches, which give their slots back when they end.
    fn enlarge(&self, driver: &Driver, context: &Context) -> Result<(), CUresult> {
        let slab = driver.memory.allocate(driver, context, SLAB_BYTES)?;
        // Not the first: its address is the slab's, and no object's.
        let slots = (1..SLAB_BYTES / SLOT_BYTES).map(|slot| slab + slot * SLOT_BYTES);
        let mut free = self.free_while(&context.fate)?;
        free.entry(context.handle).or_default().extend(slots.rev());
        Ok(())
    }

    /// Puts a descriptor into a slot that is kept as long as anybody has it.
    fn hold(
        &self,
        driver: &Driver,
        context: &Context,
        descriptor: &Descriptor,
    ) -> Result<Arc<Slot>, CUresult> {
        Ok(Arc::new(Slot {
            value: self.place(driver, context, descriptor)?,
            context: context.handle,
            fate: Arc::clone(&context.fate),
        }))
    }

    fn insert(&self, value: u64, object: Object) {
        lock(&self.living).insert(value, Arc::new(object));
    }

    fn get(&self, value: u64, is_texture: bool) -> Result<Arc<Object>, CUresult> {
        let living = lock(&self.living);
        let object = living
            .get(&value)
            .filter(|object| object.texture.is_some() == is_texture);
        object.cloned().ok_or(CUresult::INVALID_VALUE)
    }

    fn remove(&self, value: u64, is_texture: bool) -> Result<(), CUresult> {
        let object = self.get(value, is_texture)?;
        let mut free = lock(&self.free);
        if lock(&self.living).remove(&value).is_none() {
            return Err(CUresult::INVALID_VALUE);
        }
        write(value, &Descriptor::new(0, Resource::Array));
        free.entry(object.context).or_default().push(value);
        Ok(())
    }

    /// The objects of a context end with it, and its slabs as all its memory.
    pub(crate) fn forget_context(&self, context: usize) {
        lock(&self.living).retain(|_, object| object.context != context);
        lock(&self.free).remove(&context);
    }
}

/// A descriptor in a slot, of a reference or a sampler.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) value: u64,
    context: usize,
    /// Of that context: a primary one that begins anew has another, and the same handle.
    fate: Arc<Fate>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Ok(driver) = driver() else { return };
        // Otherwise the context has ended, and the slab with it.
        if let Ok(mut free) = driver.textures.free_while(&self.fate) {
            write(self.value, &Descriptor::new(0, Resource::Array));
            free.entry(self.context).or_default().push(self.value);
        }
    }
}

fn write(slot: u64, descriptor: &Descriptor) {
    let bytes = descriptor.as_bytes();
    // SAFETY: the slot lies in a slab, which is mapped, and is as long; kernels that read it meanwhile see what they see.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot as *mut u8, bytes.len()) };
}

/// A descriptor of an array's levels.
fn of_shape(magic: u64, shape: &Shape, base: u64, levels: u32) -> Descriptor {
    Descriptor {
        base,
        size: [shape.width, shape.height, shape.depth],
        format: shape.format,
        channels: shape.channels,
        array_flags: shape.flags,
        levels,
        ..Descriptor::new(magic, Resource::Array)
    }
}

/// A descriptor of rows in memory.
fn of_rows(driver: &Driver, rows: &Rows, resource: Resource) -> Result<Descriptor, CUresult> {
    if !driver.memory.is_accessible(rows.address, rows.span()?) {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(Descriptor {
        base: rows.address,
        size: [rows.width, rows.height, 0],
        pitch: rows.pitch,
        format: rows.format,
        channels: rows.channels,
        ..Descriptor::new(TEXTURE, resource)
    })
}

fn describe(
    driver: &Driver,
    context: &Context,
    resource: &CUDA_RESOURCE_DESC,
) -> Result<Descriptor, CUresult> {
    match Named::of(resource)? {
        Named::Array(handle) => {
            let array = crate::array::find(driver, CUarray(handle))?;
            check_context(context, array.context)?;
            Ok(of_shape(TEXTURE, &array.shape, array.base, 1))
        }
        Named::Mipmapped(handle) => {
            let array = driver.mipmapped_arrays.get(handle)?;
            check_context(context, array.context)?;
            let (levels, base) = (array.levels.len() as u32, array.base);
            Ok(of_shape(TEXTURE, &array.shape, base, levels))
        }
        Named::Linear(rows) => of_rows(driver, &rows, Resource::Linear),
        Named::Pitched(rows) => of_rows(driver, &rows, Resource::Pitched),
    }
}

fn check_context(context: &Context, other: usize) -> Result<(), CUresult> {
    match context.handle == other {
        true => Ok(()),
        false => Err(CUresult::INVALID_HANDLE),
    }
}

/// Narrows a descriptor to a view.
fn view(descriptor: &mut Descriptor, view: &CUDA_RESOURCE_VIEW_DESC) -> Result<(), CUresult> {
    let [width, height, depth] = descriptor.size;
    let shape = Shape {
        width,
        height,
        depth,
        format: descriptor.format,
        channels: descriptor.channels,
        flags: descriptor.array_flags,
    };
    let is_array = descriptor.resource == Resource::Array as u32;
    let (first, last) = (view.first_mipmap_level, view.last_mipmap_level);
    if !is_array || view.reserved != [0; 16] || last < first || last >= descriptor.levels {
        return Err(CUresult::INVALID_VALUE);
    }
    let viewed = [view.width as u64, view.height as u64, view.depth as u64];
    if viewed != descriptor.size {
        return Err(CUresult::INVALID_VALUE);
    }
    // Some of the layers: nobody has needed them yet.
    let layers = u64::from(view.last_layer) + 1;
    let all_layers = if shape.has_layers() { depth } else { 1 };
    if view.first_layer != 0 || layers != all_layers {
        return Err(CUresult::NOT_SUPPORTED);
    }
    (descriptor.format, descriptor.channels) = view_format(view.format, &shape)?;
    (descriptor.first_level, descriptor.levels) = (first, last - first + 1);
    Ok(())
}

/// A descriptor with the way to read.
fn read_as(descriptor: Descriptor, texture: &CUDA_TEXTURE_DESC) -> Descriptor {
    let clamp = [
        texture.min_mipmap_level_clamp,
        texture.max_mipmap_level_clamp,
    ];
    Descriptor {
        address_modes: texture.address_mode,
        filter: texture.filter_mode,
        mipmap_filter: texture.mipmap_filter_mode,
        flags: texture.flags,
        bias: texture.mipmap_level_bias,
        level_clamp: clamp,
        border: texture.border_color,
        ..descriptor
    }
}

fn create_texture(
    resource: CUDA_RESOURCE_DESC,
    texture: CUDA_TEXTURE_DESC,
    viewed: Option<CUDA_RESOURCE_VIEW_DESC>,
) -> Result<u64, CUresult> {
    let (driver, context) = (driver()?, current()?);
    check_texture(&texture)?;
    let mut descriptor = describe(driver, &context, &resource)?;
    if let Some(viewed) = &viewed {
        view(&mut descriptor, viewed)?;
    }
    let descriptor = read_as(descriptor, &texture);
    let value = driver.textures.place(driver, &context, &descriptor)?;
    let object = Object {
        context: context.handle,
        resource,
        texture: Some((texture, viewed)),
    };
    driver.textures.insert(value, object);
    Ok(value)
}

/// The descriptor of an array that is a surface.
fn of_surface(driver: &Driver, context: &Context, array: usize) -> Result<Descriptor, CUresult> {
    let array = crate::array::find(driver, CUarray(array))?;
    check_context(context, array.context)?;
    match array.shape.flags & array::flag::SURFACE {
        0 => Err(CUresult::INVALID_VALUE),
        _ => Ok(of_shape(SURFACE, &array.shape, array.base, 1)),
    }
}

fn create_surface(resource: CUDA_RESOURCE_DESC) -> Result<u64, CUresult> {
    let (driver, context) = (driver()?, current()?);
    let Named::Array(handle) = Named::of(&resource)? else {
        return Err(CUresult::INVALID_VALUE);
    };
    let descriptor = of_surface(driver, &context, handle)?;
    let value = driver.textures.place(driver, &context, &descriptor)?;
    let object = Object {
        context: context.handle,
        resource,
        texture: None,
    };
    driver.textures.insert(value, object);
    Ok(value)
}

/// # Safety
///
/// `description` is null or points to a description.
unsafe fn read<T: Copy>(description: *const T) -> Result<T, CUresult> {
    if description.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    Ok(unsafe { description.read_unaligned() })
}

pub(crate) unsafe fn cuTexObjectCreate(
    tex_object: *mut CUtexObject,
    res_desc: *const CUDA_RESOURCE_DESC,
    tex_desc: *const CUDA_TEXTURE_DESC,
    res_view_desc: *const CUDA_RESOURCE_VIEW_DESC,
) -> CUresult {
    if tex_object.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let create = || {
        // SAFETY: the caller passes descriptions, the last perhaps null.
        let (resource, texture, view) =
            unsafe { (read(res_desc)?, read(tex_desc)?, read(res_view_desc)) };
        create_texture(resource, texture, view.ok())
    };
    // SAFETY: the caller passes a place for a value.
    unsafe { answer(tex_object, create()) }
}

pub(crate) unsafe fn cuTexObjectDestroy(tex_object: CUtexObject) -> CUresult {
    done(driver().and_then(|driver| driver.textures.remove(tex_object, true)))
}

pub(crate) unsafe fn cuTexObjectGetResourceDesc(
    res_desc: *mut CUDA_RESOURCE_DESC,
    tex_object: CUtexObject,
) -> CUresult {
    let find = || Ok(driver()?.textures.get(tex_object, true)?.resource);
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(res_desc, find()) }
}

pub(crate) unsafe fn cuTexObjectGetTextureDesc(
    tex_desc: *mut CUDA_TEXTURE_DESC,
    tex_object: CUtexObject,
) -> CUresult {
    let find = || {
        let object = driver()?.textures.get(tex_object, true)?;
        let texture = object.texture.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        Ok(texture.0)
    };
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(tex_desc, find()) }
}

pub(crate) unsafe fn cuTexObjectGetResourceViewDesc(
    res_view_desc: *mut CUDA_RESOURCE_VIEW_DESC,
    tex_object: CUtexObject,
) -> CUresult {
    let find = || {
        let object = driver()?.textures.get(tex_object, true)?;
        let viewed = object.texture.as_ref().and_then(|texture| texture.1);
        viewed.ok_or(CUresult::INVALID_VALUE)
    };
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(res_view_desc, find()) }
}

pub(crate) unsafe fn cuSurfObjectCreate(
    surf_object: *mut CUsurfObject,
    res_desc: *const CUDA_RESOURCE_DESC,
) -> CUresult {
    if surf_object.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a description and a place for a value.
    unsafe { answer(surf_object, read(res_desc).and_then(create_surface)) }
}

pub(crate) unsafe fn cuSurfObjectDestroy(surf_object: CUsurfObject) -> CUresult {
    done(driver().and_then(|driver| driver.textures.remove(surf_object, false)))
}

pub(crate) unsafe fn cuSurfObjectGetResourceDesc(
    res_desc: *mut CUDA_RESOURCE_DESC,
    surf_object: CUsurfObject,
) -> CUresult {
    let find = || Ok(driver()?.textures.get(surf_object, false)?.resource);
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(res_desc, find()) }
}
