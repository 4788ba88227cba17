//! Arrays: the rows of the `array` area.
//!
//! *What:* an [`Array`] is an array or mipmapped array of the driver's, by the client's number, with its shape. *Rules:* it is charged before the driver makes it, as the
//! packed bytes of tiles of 64 bytes by 8 rows; it goes with its context; what a copy names in it is compared with its shape; where fresh memory is
//! to be wiped, it is before the client knows of it.
//!
//! # Safety
//! Handles come from the driver through this module, and are in the table until just before the driver is asked to end them; descriptions and out parameters
//! are locals. That nothing names an array that is being ended is the client's to see to, as with every program of the driver API: what one does that
//! does not wait is done to its own worker.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::Arc;

use driver_api::Driver;
use driver_api::abi::{CUDA_MEMCPY3D, CUarray, CUdevice, CUmipmappedArray};
use driver_api::array::Shape;
use driver_api::result::CUresult;
use driver_api::wire::request;

use super::accounts::Made;
use super::call::{Call, CallError};
use super::context::{Context, Owner};
use super::memory::{MEMORY_ARRAY, MEMORY_HOST, no_copy};
use super::session::Session;
use crate::driver::cuda;

/// What a driver pads rows, and the number of rows, to.
const TILE: [u64; 2] = [64, 8];
/// Zeros that are copied at a time.
const WIPE_BYTES: u64 = 1 << 20;

/// The driver's handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handle {
    Plain(CUarray),
    Mipmapped(CUmipmappedArray),
}

/// An array, or a mipmapped one.
pub(crate) struct Array {
    handle: Handle,
    shape: Shape,
    /// Of each level; of an array, itself.
    levels: Vec<CUarray>,
    /// The serial of its context, and its device.
    pub(crate) context: u64,
    device: CUdevice,
    made: Made,
}

impl Array {
    /// A level's handle and shape; of an array, level 0 is the array.
    pub(crate) fn level(&self, level: u32) -> Result<(CUarray, Shape), CUresult> {
        let handle = self.levels.get(level as usize);
        let handle = handle.ok_or(CUresult::INVALID_VALUE)?;
        Ok((*handle, self.shape.level(level)))
    }

    /// The handle of a mipmapped array.
    pub(crate) fn mipmapped(&self) -> Result<CUmipmappedArray, CUresult> {
        match self.handle {
            Handle::Mipmapped(handle) => Ok(handle),
            Handle::Plain(_) => Err(CUresult::INVALID_HANDLE),
        }
    }

    /// Whose memory it is.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            device: self.device,
            context: Some(self.context),
        }
    }

    fn destroy(&self, driver: &Driver) -> Result<(), CUresult> {
        match self.handle {
            Handle::Plain(handle) => cuda!(driver, cuArrayDestroy(handle)),
            Handle::Mipmapped(handle) => cuda!(driver, cuMipmappedArrayDestroy(handle)),
        }
    }
}

/// The array of a client's number.
pub(crate) fn array_of(call: &Call<'_>, id: u32) -> Result<Arc<Array>, CUresult> {
    call.session.arrays.get(id).ok_or(CUresult::INVALID_HANDLE)
}

/// What is charged for so many levels.
fn charged(shape: &Shape, levels: u32) -> Option<Made> {
    let bytes = (0..levels.max(1)).try_fold(0_u64, |all, level| {
        let [row, rows, slices] = shape.level(level).extent();
        let row = row.checked_next_multiple_of(TILE[0])?;
        let rows = match rows {
            1 => 1,
            rows => rows.checked_next_multiple_of(TILE[1])?,
        };
        all.checked_add(row.checked_mul(rows)?.checked_mul(slices)?)
    });
    bytes.map(Made::Placed)
}

fn shape_of(request: &request::GpurunArrayCreate) -> Result<Shape, CUresult> {
    let [width, height, depth] = request.size();
    let shape = Shape {
        width,
        height,
        depth,
        format: request.format(),
        channels: request.channels(),
        flags: request.flags(),
    };
    shape.check()?;
    match request.levels() <= shape.most_levels() {
        true => Ok(shape),
        false => Err(CUresult::INVALID_VALUE),
    }
}

/// An array, or a mipmapped one.
pub(crate) fn gpurunArrayCreate(
    call: &mut Call<'_>,
    request: &request::GpurunArrayCreate,
) -> Result<(), CallError> {
    let (id, levels) = (request.array(), request.levels());
    let context = Arc::clone(call.context()?);
    call.session.arrays.check_free(id)?;
    let shape = shape_of(request)?;
    let made = charged(&shape, levels).ok_or(CUresult::INVALID_VALUE)?;
    let (driver, accounts) = (call.driver(), &call.session.memory.accounts);
    let thread = call.record.thread;
    let taken = accounts.take(context.device, made, thread)?;
    let handle = make(driver, &shape, levels);
    let handle = handle.map_err(|error| accounts.driver_refused(thread, error))?;
    let mut array = Array {
        handle,
        shape,
        levels: Vec::new(),
        context: context.serial,
        device: context.device,
        made,
    };
    let kept = levels_of(driver, handle, levels).and_then(|levels| {
        array.levels = levels;
        wipe(call, &context, &array)
    });
    let array = Arc::new(array);
    let kept = kept.and_then(|()| call.session.arrays.insert(id, Arc::clone(&array)));
    if let Err(error) = kept {
        // The first error is the one to tell.
        let _ = array.destroy(driver);
        return Err(error.into());
    }
    if let Some(taken) = taken {
        taken.commit();
    }
    accounts.granted(thread);
    Ok(())
}

fn make(driver: &Driver, shape: &Shape, levels: u32) -> Result<Handle, CUresult> {
    let description = shape.description();
    if levels == 0 {
        let mut handle = CUarray(0);
        cuda!(driver, cuArray3DCreate_v2(&mut handle, &description))?;
        return Ok(Handle::Plain(handle));
    }
    let mut handle = CUmipmappedArray(0);
    cuda!(
        driver,
        cuMipmappedArrayCreate(&mut handle, &description, levels)
    )?;
    Ok(Handle::Mipmapped(handle))
}

fn levels_of(driver: &Driver, handle: Handle, levels: u32) -> Result<Vec<CUarray>, CUresult> {
    let mipmapped = match handle {
        Handle::Plain(handle) => return Ok(vec![handle]),
        Handle::Mipmapped(handle) => handle,
    };
    let level = |level| {
        let mut array = CUarray(0);
        cuda!(
            driver,
            cuMipmappedArrayGetLevel(&mut array, mipmapped, level)
        )?;
        Ok(array)
    };
    (0..levels).map(level).collect()
}

/// Fills a fresh array with zeros if the order says so: what was there may have been another tenant's.
///
/// Cost: the array's bytes over the bus, in pieces of [`WIPE_BYTES`].
fn wipe(call: &Call<'_>, context: &Context, array: &Array) -> Result<(), CUresult> {
    if !call.session.memory.accounts.wipes() {
        return Ok(());
    }
    let driver = call.driver();
    let stream = context.wiping_stream(driver)?;
    let zeros = vec![0_u8; WIPE_BYTES as usize];
    for level in 0..array.levels.len() as u32 {
        let (handle, shape) = array.level(level)?;
        let [row, rows, slices] = shape.extent();
        // Parts of a row keep its elements whole: elements are powers of two.
        let width = row.min(WIPE_BYTES);
        let height = (WIPE_BYTES / width).min(rows);
        let depth = match height == rows {
            true => (WIPE_BYTES / (width * rows)).clamp(1, slices),
            false => 1,
        };
        for slice in (0..slices).step_by(depth as usize) {
            for first in (0..rows).step_by(height as usize) {
                for x in (0..row).step_by(width as usize) {
                    let copy = CUDA_MEMCPY3D {
                        src_memory_type: MEMORY_HOST,
                        src_host: zeros.as_ptr().cast(),
                        src_pitch: width as usize,
                        src_height: height as usize,
                        dst_memory_type: MEMORY_ARRAY,
                        dst_array: handle,
                        dst_x_in_bytes: x as usize,
                        dst_y: first as usize,
                        dst_z: slice as usize,
                        width_in_bytes: width.min(row - x) as usize,
                        height: height.min(rows - first) as usize,
                        depth: depth.min(slices - slice) as usize,
                        ..no_copy()
                    };
                    cuda!(driver, cuMemcpy3DAsync_v2(&copy, stream))?;
                }
            }
        }
    }
    cuda!(driver, cuStreamSynchronize(stream))
}

/// The end of an array.
pub(crate) fn gpurunArrayDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunArrayDestroy,
) -> Result<(), CallError> {
    let array = array_of(call, request.array())?;
    if array.context != call.context()?.serial {
        return Err(CUresult::INVALID_HANDLE.into());
    }
    // Another call may have been quicker.
    let array = call.session.arrays.remove(request.array());
    let array = array.ok_or(CUresult::INVALID_HANDLE)?;
    let accounts = &call.session.memory.accounts;
    accounts.begin_to_give_back(array.device);
    match array.destroy(call.driver()) {
        Ok(()) => accounts.gave_back(array.device, array.made, false),
        Err(error) => {
            accounts.stays(array.device, array.made);
            return Err(error.into());
        }
    }
    Ok(())
}

/// A context is gone, and its arrays with it.
pub(crate) fn give_back_all_of(session: &Session, context: u64) {
    let of_context = |array: &Arc<Array>| array.context == context;
    let arrays: Vec<Arc<Array>> = session
        .arrays
        .all()
        .into_iter()
        .filter(of_context)
        .collect();
    session.arrays.retain(|array| !of_context(array));
    let accounts = &session.memory.accounts;
    for array in arrays {
        accounts.begin_to_give_back(array.device);
        accounts.gave_back(array.device, array.made, false);
    }
}
