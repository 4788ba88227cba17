//! Images on their way to the server: found, cut to what the device can use, hashed, sent.
//!
//! # Safety
//! An image is read as far as its own headers say, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "images, names and arrays of a C ABI")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::borrow::Cow;

use driver_api::abi::{CUjit_option, CUresult};
use driver_api::image::{self, Image};
use driver_api::wire::Request;
use protocol::limits::MAX_INLINE_COPY_BYTES;

use crate::log;
use crate::memory::out;
use crate::session::Session;

/// The part of an image that the device can use.
///
/// # Safety
/// `image` is null or points to a complete image.
pub(super) unsafe fn useful<'a>(
    session: &Session,
    device: usize,
    image: *const c_void,
) -> Result<Cow<'a, [u8]>, CUresult> {
    if image.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let image = unsafe { image::extent(image) }.map_err(|error| {
        log::info!("the image of a module cannot be read: {error}");
        CUresult::INVALID_IMAGE
    })?;
    let Image::Fatbin(fatbin) = image else {
        return Ok(Cow::Borrowed(bytes_of(&image)));
    };
    let capability = session
        .devices
        .get(device)
        .ok_or(CUresult::INVALID_DEVICE)?
        .compute_capability();
    fatbin
        .container
        .select_for(capability)
        .map(Cow::Owned)
        .map_err(|error| {
            log::info!("the image of a module cannot be read: {error}");
            CUresult::INVALID_IMAGE
        })
}

fn bytes_of<'a>(image: &Image<'a>) -> &'a [u8] {
    match image {
        Image::Fatbin(fatbin) => fatbin.container.bytes(),
        Image::Elf(bytes) | Image::Ptx(bytes) => bytes,
    }
}

/// Sends an image with the request that `request` makes of (hash, length, transfer).
pub(super) fn send_image<R: Request>(
    session: &Session,
    context: u32,
    bytes: &[u8],
    request: impl FnOnce([u8; 32], u64, u64) -> R,
) -> Result<(), CUresult> {
    let hash = *blake3::hash(bytes).as_bytes();
    if bytes.len() <= MAX_INLINE_COPY_BYTES {
        let request = request(hash, bytes.len() as u64, 0);
        return session
            .ask_reply(context, &request, bytes, || Ok(()))
            .map(drop);
    }
    let transfer = session.link.transfer_number();
    let request = request(hash, bytes.len() as u64, transfer);
    let send = || {
        // SAFETY: the slice outlives the call, which returns after the reply.
        unsafe {
            session
                .link
                .send_transfer(transfer, bytes.as_ptr(), bytes.len())
        }
        .map(drop)
    };
    session.ask_reply(context, &request, &[], send).map(drop)
}

/// The bytes of a file of this machine, with a NUL after them so that text ends.
pub(super) unsafe fn read_file(name: *const c_char) -> Result<Vec<u8>, CUresult> {
    if name.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, a C string by the API's contract.
    let path = unsafe { CStr::from_ptr(name) };
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    let mut bytes = std::fs::read(path).map_err(|_| CUresult::FILE_NOT_FOUND)?;
    // An image in a file is bounded by the file, but its reader stops at its own end.
    bytes.extend_from_slice(&[0; 64]);
    Ok(bytes)
}

/// Options that say where logs go: size of the buffer for messages, and for errors.
const LOG_SIZES: [CUjit_option; 2] = [4, 6];
/// The buffers themselves.
const LOG_BUFFERS: [CUjit_option; 2] = [3, 5];
/// `CU_JIT_WALL_TIME`.
const WALL_TIME: CUjit_option = 2;

/// JIT options: logs come back empty; the others are advice to a compiler that the server's driver has with its own defaults.
///
/// # Safety
/// The arrays have so many elements.
pub(super) unsafe fn note_options(
    count: c_uint,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Result<(), CUresult> {
    if count == 0 {
        return Ok(());
    }
    let (options, values) = (out(options)?, out(values)?);
    for index in 0..count as usize {
        // SAFETY: the caller's promise.
        let (option, value) = unsafe { (options.add(index).read(), values.add(index)) };
        if LOG_SIZES.contains(&option) {
            // SAFETY: the driver writes the bytes used into the option's value.
            unsafe { value.write(core::ptr::null_mut()) };
        } else if option == WALL_TIME {
            // SAFETY: a float in the value's place, as the driver writes it.
            unsafe { value.cast::<f32>().write(0.0) };
        } else if !LOG_BUFFERS.contains(&option) {
            log::info!("JIT option {option} is left to the server's driver");
        }
    }
    Ok(())
}
