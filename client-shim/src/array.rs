//! Arrays and mipmapped arrays: numbers of the client's, for arrays of the server's driver.
//!
//! Shapes are kept here, so that descriptions are told and copies checked without asking. An array ends once its context, and others that have copied it, have
//! nothing under way that could use it: copies that other threads have posted name it by its number.
//!
//! # Safety
//! The functions named like the driver's read descriptions and write results through pointers that they have checked for null.
#![expect(unsafe_code, reason = "parameters and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use driver_api::abi::{
    CUDA_ARRAY_DESCRIPTOR, CUDA_ARRAY_MEMORY_REQUIREMENTS, CUDA_ARRAY_SPARSE_PROPERTIES,
    CUDA_ARRAY3D_DESCRIPTOR, CUarray, CUdevice, CUmipmappedArray, CUresult,
};
use driver_api::array::Shape;
use driver_api::wire::request::{GpurunArrayCreate, GpurunArrayDestroy};

use crate::capture;
use crate::context::Context;
use crate::entry::code;
use crate::handles::Handle;
use crate::memory::out;
use crate::session::{self, Session};
use crate::stream;

/// In the number of an array on the wire: it is a mipmapped one.
const MIPMAPPED: u32 = 1 << 31;

/// An array, or a level of a mipmapped one.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) id: u32,
    /// Its number on the wire, and its level there.
    pub(crate) wire_id: u32,
    pub(crate) level: u32,
    pub(crate) shape: Shape,
    pub(crate) context: u32,
    /// Copies of other contexts have named it.
    is_elsewhere: AtomicBool,
}

impl Array {
    /// Notes that a copy in a stream of a context names it.
    pub(crate) fn is_copied_in(&self, context: u32) {
        if context != self.context {
            self.is_elsewhere.store(true, SeqCst);
        }
    }
}

/// A mipmapped array.
#[derive(Debug)]
pub(crate) struct Mipmapped {
    id: u32,
    pub(crate) context: u32,
    /// Format and channels.
    pub(crate) elements: (u32, u32),
    /// The client's numbers of its levels, once they are there.
    levels: OnceLock<Vec<u32>>,
}

impl Mipmapped {
    /// Its number on the wire.
    pub(crate) fn wire_id(&self) -> u32 {
        MIPMAPPED | self.id
    }
}

pub(crate) fn array_of(session: &Session, handle: CUarray) -> Result<Arc<Array>, CUresult> {
    let array = handle
        .undress()
        .and_then(|id| session.objects.arrays.get(id));
    array.ok_or(CUresult::INVALID_HANDLE)
}

pub(crate) fn mipmapped_of(
    session: &Session,
    handle: CUmipmappedArray,
) -> Result<Arc<Mipmapped>, CUresult> {
    let array = handle
        .undress()
        .and_then(|id| session.objects.mipmapped_arrays.get(id));
    array.ok_or(CUresult::INVALID_HANDLE)
}

/// A context has ended, and its arrays with it.
pub(crate) fn forget_context(session: &Session, context: u32) {
    let objects = &session.objects;
    for array in objects.arrays.select(|array| array.context == context) {
        objects.arrays.remove(array.id);
    }
    let of_context = |array: &Mipmapped| array.context == context;
    for array in objects.mipmapped_arrays.select(of_context) {
        objects.mipmapped_arrays.remove(array.id);
    }
}

/// Asks for an array, or so many levels of one.
fn make(
    session: &Session,
    context: &Context,
    wire_id: u32,
    (shape, levels): (&Shape, u32),
) -> Result<(), CUresult> {
    let request = GpurunArrayCreate::new(
        wire_id,
        levels,
        [shape.width, shape.height, shape.depth],
        shape.format,
        shape.channels,
        shape.flags,
    );
    session.objects.memory.with_patience(session, || {
        session.ask_in(context.id, &request, &[])?;
        Ok(())
    })
}

fn create(shape: Shape) -> Result<CUarray, CUresult> {
    let (session, context) = session::current()?;
    shape.check()?;
    capture::forbid_unsafe()?;
    let arrays = &session.objects.arrays;
    let array = arrays.insert_with(|id| Array {
        id,
        wire_id: id,
        level: 0,
        shape,
        context: context.id,
        is_elsewhere: false.into(),
    });
    if let Err(error) = make(session, &context, array.wire_id, (&shape, 0)) {
        arrays.remove(array.id);
        return Err(error);
    }
    Ok(CUarray::dress(array.id))
}

fn create_levels(shape: Shape, levels: u32) -> Result<CUmipmappedArray, CUresult> {
    let (session, context) = session::current()?;
    shape.check()?;
    let levels = levels.min(shape.most_levels());
    if levels == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    capture::forbid_unsafe()?;
    let objects = &session.objects;
    let mipmapped = objects.mipmapped_arrays.insert_with(|id| Mipmapped {
        id,
        context: context.id,
        elements: (shape.format, shape.channels),
        levels: OnceLock::new(),
    });
    let wire_id = mipmapped.wire_id();
    if let Err(error) = make(session, &context, wire_id, (&shape, levels)) {
        objects.mipmapped_arrays.remove(mipmapped.id);
        return Err(error);
    }
    let make_level = |level| {
        let array = objects.arrays.insert_with(|id| Array {
            id,
            wire_id,
            level,
            shape: shape.level(level),
            context: context.id,
            is_elsewhere: false.into(),
        });
        array.id
    };
    let _ = mipmapped.levels.set((0..levels).map(make_level).collect());
    Ok(CUmipmappedArray::dress(mipmapped.id))
}

/// Waits for what may use an array, and ends it.
fn end(session: &Session, context: u32, wire_id: u32) -> Result<(), CUresult> {
    capture::forbid_unsafe()?;
    let context = session.objects.contexts.get(context);
    let context = context.ok_or(CUresult::CONTEXT_IS_DESTROYED)?;
    stream::wait_for_context(session, &context)?;
    let is_elsewhere = |array: &Array| array.wire_id == wire_id && array.is_elsewhere.load(SeqCst);
    if !session.objects.arrays.select(is_elsewhere).is_empty() {
        wait_for_others(session, context.id);
    }
    session.ask_in(context.id, &GpurunArrayDestroy::new(wire_id), &[])?;
    Ok(())
}

/// Waits for what is under way in other contexts. One that has failed has nothing under way, and its own calls say why.
fn wait_for_others(session: &Session, context: u32) {
    let is_other = |other: &Context| other.id != context && other.is_active();
    for other in session.objects.contexts.select(is_other) {
        let _ = stream::wait_for_context(session, &other);
    }
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
unsafe fn answer<T>(place: *mut T, value: impl FnOnce() -> Result<T, CUresult>) -> CUresult {
    code((|| {
        let place = out(place)?;
        let value = value()?;
        // SAFETY: checked by `out`.
        unsafe { place.write(value) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuArrayCreate_v2(
    handle: *mut CUarray,
    allocate_array: *const CUDA_ARRAY_DESCRIPTOR,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe {
        let description = read(allocate_array);
        answer(handle, || create(Shape::of_flat(&description?)))
    }
}

pub(crate) unsafe fn cuArray3DCreate_v2(
    handle: *mut CUarray,
    allocate_array: *const CUDA_ARRAY3D_DESCRIPTOR,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe {
        let description = read(allocate_array);
        answer(handle, || create(Shape::of(&description?)))
    }
}

pub(crate) unsafe fn cuArrayGetDescriptor_v2(
    array_descriptor: *mut CUDA_ARRAY_DESCRIPTOR,
    array: CUarray,
) -> CUresult {
    let tell = || {
        let array = array_of(session::get()?, array)?;
        Ok(array.shape.flat_description())
    };
    // SAFETY: the API's contract.
    unsafe { answer(array_descriptor, tell) }
}

pub(crate) unsafe fn cuArray3DGetDescriptor_v2(
    array_descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR,
    array: CUarray,
) -> CUresult {
    let tell = || {
        let array = array_of(session::get()?, array)?;
        Ok(array.shape.description())
    };
    // SAFETY: the API's contract.
    unsafe { answer(array_descriptor, tell) }
}

pub(crate) unsafe fn cuArrayDestroy(array: CUarray) -> CUresult {
    code((|| {
        let session = session::get()?;
        let array = array_of(session, array)?;
        // A level ends with its mipmapped array.
        if array.wire_id & MIPMAPPED != 0 {
            return Err(CUresult::INVALID_HANDLE);
        }
        end(session, array.context, array.wire_id)?;
        session.objects.arrays.remove(array.id);
        Ok(())
    })())
}

pub(crate) unsafe fn cuMipmappedArrayCreate(
    handle: *mut CUmipmappedArray,
    mipmapped_array_desc: *const CUDA_ARRAY3D_DESCRIPTOR,
    num_mipmap_levels: c_uint,
) -> CUresult {
    // SAFETY: the API's contract.
    unsafe {
        let description = read(mipmapped_array_desc);
        answer(handle, || {
            create_levels(Shape::of(&description?), num_mipmap_levels)
        })
    }
}

pub(crate) unsafe fn cuMipmappedArrayGetLevel(
    level_array: *mut CUarray,
    mipmapped_array: CUmipmappedArray,
    level: c_uint,
) -> CUresult {
    let find = || {
        let session = session::get()?;
        let mipmapped = mipmapped_of(session, mipmapped_array)?;
        let levels = mipmapped.levels.get().map_or(&[][..], Vec::as_slice);
        let id = levels.get(level as usize).ok_or(CUresult::INVALID_VALUE)?;
        Ok(CUarray::dress(*id))
    };
    // SAFETY: the API's contract.
    unsafe { answer(level_array, find) }
}

pub(crate) unsafe fn cuMipmappedArrayDestroy(mipmapped_array: CUmipmappedArray) -> CUresult {
    code((|| {
        let session = session::get()?;
        let mipmapped = mipmapped_of(session, mipmapped_array)?;
        let wire_id = mipmapped.wire_id();
        end(session, mipmapped.context, wire_id)?;
        let objects = &session.objects;
        objects.mipmapped_arrays.remove(mipmapped.id);
        for level in mipmapped.levels.get().into_iter().flatten() {
            objects.arrays.remove(*level);
        }
        Ok(())
    })())
}

/// What is told of arrays that are sparse, mapped later, or have planes: the driver API says this of all others, and all are others.
fn is_plain<T>(array: Result<T, CUresult>) -> CUresult {
    array.map_or_else(|error| error, |_| CUresult::INVALID_VALUE)
}

pub(crate) unsafe fn cuArrayGetSparseProperties(
    _: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
    array: CUarray,
) -> CUresult {
    is_plain(session::get().and_then(|session| array_of(session, array)))
}

pub(crate) unsafe fn cuArrayGetMemoryRequirements(
    _: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    array: CUarray,
    _: CUdevice,
) -> CUresult {
    is_plain(session::get().and_then(|session| array_of(session, array)))
}

pub(crate) unsafe fn cuArrayGetPlane(_: *mut CUarray, array: CUarray, _: c_uint) -> CUresult {
    is_plain(session::get().and_then(|session| array_of(session, array)))
}

pub(crate) unsafe fn cuMipmappedArrayGetSparseProperties(
    _: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
    mipmap: CUmipmappedArray,
) -> CUresult {
    is_plain(session::get().and_then(|session| mipmapped_of(session, mipmap)))
}

pub(crate) unsafe fn cuMipmappedArrayGetMemoryRequirements(
    _: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    mipmap: CUmipmappedArray,
    _: CUdevice,
) -> CUresult {
    is_plain(session::get().and_then(|session| mipmapped_of(session, mipmap)))
}
