//! Arrays and mipmapped arrays.
//!
//! An array is device memory without an address that anybody is told: rows, slices and levels follow each other without gaps. So it is charged and
//! given back as all memory, and a copy of a box of it is a copy of a box of memory.
//!
//! # Safety
//!
//! The driver's functions read descriptions and write answers through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_uint;
use std::sync::Arc;

use driver_api::abi::{
    CUDA_ARRAY_DESCRIPTOR, CUDA_ARRAY_MEMORY_REQUIREMENTS, CUDA_ARRAY_SPARSE_PROPERTIES,
    CUDA_ARRAY3D_DESCRIPTOR, CUarray, CUdevice, CUmipmappedArray, CUresult,
};
use driver_api::array::{Shape, flag};

use crate::context::{Context, current};
use crate::entry::{answer, done};
use crate::memory::quiesce;
use crate::state::{Driver, driver};

/// One array, or one level of a mipmapped one.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) handle: usize,
    pub(crate) context: usize,
    pub(crate) shape: Shape,
    /// Its first element.
    pub(crate) base: u64,
    /// A level belongs to its mipmapped array.
    is_level: bool,
}

/// A mipmapped array.
#[derive(Debug)]
pub(crate) struct Mipmapped {
    pub(crate) context: usize,
    pub(crate) shape: Shape,
    pub(crate) base: u64,
    /// The largest first.
    pub(crate) levels: Vec<Arc<Array>>,
}

/// Most elements in each dimension, and most layers, as the device's attributes say.
fn limits(shape: &Shape, is_mipmapped: bool) -> [u64; 3] {
    const NARROW: u64 = 32 << 10;
    let (is_layered, is_cube) = (
        shape.flags & flag::LAYERED != 0,
        shape.flags & flag::CUBEMAP != 0,
    );
    match (shape.height, shape.depth) {
        _ if is_cube => [NARROW, NARROW, 2046],
        _ if is_layered => [NARROW, NARROW, 2048],
        (_, 1..) => [16 << 10; 3],
        _ if is_mipmapped || shape.flags & flag::GATHER != 0 => [NARROW, NARROW, 0],
        _ => [128 << 10, 64 << 10, 0],
    }
}

fn check(shape: &Shape, levels: u32) -> Result<(), CUresult> {
    shape.check()?;
    let sizes = [shape.width, shape.height, shape.depth];
    let most = limits(shape, levels > 0);
    let is_inside = sizes.iter().zip(most).all(|(size, most)| *size <= most);
    match is_inside && levels <= shape.most_levels() {
        true => Ok(()),
        false => Err(CUresult::INVALID_VALUE),
    }
}

/// Memory for so many levels of a shape.
fn allocate(
    driver: &Driver,
    context: &Context,
    shape: &Shape,
    levels: u32,
) -> Result<u64, CUresult> {
    crate::capture::guard()?;
    let bytes = shape.bytes_of_levels(levels);
    let bytes = bytes.ok_or(CUresult::INVALID_VALUE)?;
    driver.memory.allocate(driver, context, bytes)
}

fn create(shape: Shape) -> Result<CUarray, CUresult> {
    let (driver, context) = (driver()?, current()?);
    check(&shape, 0)?;
    let base = allocate(driver, &context, &shape, 1)?;
    let handle = driver.arrays.reserve();
    let array = Array {
        handle,
        context: context.handle,
        shape,
        base,
        is_level: false,
    };
    driver.arrays.insert(handle, Arc::new(array));
    Ok(CUarray(handle))
}

fn create_levels(shape: Shape, levels: u32) -> Result<CUmipmappedArray, CUresult> {
    let (driver, context) = (driver()?, current()?);
    let levels = levels.min(shape.most_levels());
    if levels == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    check(&shape, levels)?;
    let base = allocate(driver, &context, &shape, levels)?;
    let level = |level: u32| {
        let handle = driver.arrays.reserve();
        // The sum of them all is a number.
        let before = shape.bytes_of_levels(level).unwrap_or(0);
        let array = Arc::new(Array {
            handle,
            context: context.handle,
            shape: shape.level(level),
            base: base + before,
            is_level: true,
        });
        driver.arrays.insert(handle, Arc::clone(&array));
        array
    };
    let mipmapped = Mipmapped {
        context: context.handle,
        shape,
        base,
        levels: (0..levels).map(level).collect(),
    };
    let handle = driver.mipmapped_arrays.reserve();
    driver.mipmapped_arrays.insert(handle, Arc::new(mipmapped));
    Ok(CUmipmappedArray(handle))
}

/// The array of a handle.
pub(crate) fn find(driver: &Driver, array: CUarray) -> Result<Arc<Array>, CUresult> {
    driver.arrays.get(array.0)
}

/// The handles of a context's arrays end with it; their memory does as all memory of the context.
pub(crate) fn forget_context(driver: &Driver, context: usize) {
    driver.arrays.remove_if(|array| array.context == context);
    let is_of = |array: &Mipmapped| array.context == context;
    driver.mipmapped_arrays.remove_if(is_of);
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

/// # Safety
///
/// `handle` is null or a place for a handle.
unsafe fn answer_new<T>(handle: *mut T, make: impl FnOnce() -> Result<T, CUresult>) -> CUresult {
    if handle.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: by contract.
    unsafe { answer(handle, make()) }
}

pub(crate) unsafe fn cuArrayCreate_v2(
    handle: *mut CUarray,
    allocate_array: *const CUDA_ARRAY_DESCRIPTOR,
) -> CUresult {
    // SAFETY: the caller passes a description and a place for a handle.
    unsafe {
        let description = read(allocate_array);
        answer_new(handle, || create(Shape::of_flat(&description?)))
    }
}

pub(crate) unsafe fn cuArray3DCreate_v2(
    handle: *mut CUarray,
    allocate_array: *const CUDA_ARRAY3D_DESCRIPTOR,
) -> CUresult {
    // SAFETY: the caller passes a description and a place for a handle.
    unsafe {
        let description = read(allocate_array);
        answer_new(handle, || create(Shape::of(&description?)))
    }
}

pub(crate) unsafe fn cuArrayGetDescriptor_v2(
    array_descriptor: *mut CUDA_ARRAY_DESCRIPTOR,
    array: CUarray,
) -> CUresult {
    let find = || Ok(find(driver()?, array)?.shape.flat_description());
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(array_descriptor, find()) }
}

pub(crate) unsafe fn cuArray3DGetDescriptor_v2(
    array_descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR,
    array: CUarray,
) -> CUresult {
    let find = || Ok(find(driver()?, array)?.shape.description());
    // SAFETY: the caller passes a place for a description.
    unsafe { answer(array_descriptor, find()) }
}

pub(crate) unsafe fn cuArrayDestroy(array: CUarray) -> CUresult {
    let destroy = || {
        let driver = driver()?;
        if find(driver, array)?.is_level {
            return Err(CUresult::INVALID_HANDLE);
        }
        quiesce(driver);
        let array = driver.arrays.remove(array.0)?;
        driver.memory.free(driver, array.base);
        Ok(())
    };
    done(destroy())
}

pub(crate) unsafe fn cuMipmappedArrayCreate(
    handle: *mut CUmipmappedArray,
    mipmapped_array_desc: *const CUDA_ARRAY3D_DESCRIPTOR,
    num_mipmap_levels: c_uint,
) -> CUresult {
    // SAFETY: the caller passes a description and a place for a handle.
    unsafe {
        let description = read(mipmapped_array_desc);
        answer_new(handle, || {
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
        let mipmapped = driver()?.mipmapped_arrays.get(mipmapped_array.0)?;
        let level = mipmapped.levels.get(level as usize);
        let level = level.ok_or(CUresult::INVALID_VALUE)?;
        Ok(CUarray(level.handle))
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(level_array, find()) }
}

pub(crate) unsafe fn cuMipmappedArrayDestroy(mipmapped_array: CUmipmappedArray) -> CUresult {
    let destroy = || {
        let driver = driver()?;
        driver.mipmapped_arrays.get(mipmapped_array.0)?;
        quiesce(driver);
        let mipmapped = driver.mipmapped_arrays.remove(mipmapped_array.0)?;
        for level in &mipmapped.levels {
            driver.arrays.remove(level.handle)?;
        }
        driver.memory.free(driver, mipmapped.base);
        Ok(())
    };
    done(destroy())
}

/// What is told of arrays that are sparse, mapped later, or have planes: the driver API says this of all others, and all are others.
fn is_plain<T>(array: Result<T, CUresult>) -> CUresult {
    array.map_or_else(|error| error, |_| CUresult::INVALID_VALUE)
}

pub(crate) unsafe fn cuArrayGetSparseProperties(
    _: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
    array: CUarray,
) -> CUresult {
    is_plain(driver().and_then(|driver| find(driver, array)))
}

pub(crate) unsafe fn cuArrayGetMemoryRequirements(
    _: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    array: CUarray,
    _: CUdevice,
) -> CUresult {
    is_plain(driver().and_then(|driver| find(driver, array)))
}

pub(crate) unsafe fn cuArrayGetPlane(_: *mut CUarray, array: CUarray, _: c_uint) -> CUresult {
    is_plain(driver().and_then(|driver| find(driver, array)))
}

pub(crate) unsafe fn cuMipmappedArrayGetSparseProperties(
    _: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
    mipmap: CUmipmappedArray,
) -> CUresult {
    is_plain(driver().and_then(|driver| driver.mipmapped_arrays.get(mipmap.0)))
}

pub(crate) unsafe fn cuMipmappedArrayGetMemoryRequirements(
    _: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    mipmap: CUmipmappedArray,
    _: CUdevice,
) -> CUresult {
    is_plain(driver().and_then(|driver| driver.mipmapped_arrays.get(mipmap.0)))
}
