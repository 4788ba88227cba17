//! Images on their way to the server: found, cut to what the device can use, hashed, sent.
//!
//! # Safety
//! An image is read as far as its own headers say, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "images, names and arrays of a C ABI")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use driver_api::abi::{CUjit_option, CUresult};
use driver_api::image::{self, ComputeCapability, Image, ImageError};
use driver_api::link_options::{self, ERRORS, INFORMATION, LinkOption, WALL_TIME};
use driver_api::wire::Request;
use protocol::limits::MAX_INLINE_COPY_BYTES;
use zerocopy::IntoBytes;

use crate::device::Device;
use crate::log::{self, Level};
use crate::memory::out;
use crate::session::Session;

/// Sends the part of an image that the device can use, with options of its compilation and the request that `request` makes of (hash, length, transfer).
///
/// What a device can use is known from its compute capability, except for one thing: the software GPU executes PTX only, of any target.
/// So where a server has no use for what it was sent, all PTX that there is is tried once more, and from the first time that this
/// helps, it comes first.
///
/// # Safety
/// `image` is null or points to a complete image.
pub(super) unsafe fn send_useful<R: Request>(
    session: &Session,
    device: usize,
    context: u32,
    image: *const c_void,
    options: &[LinkOption],
    request: impl Fn([u8; 32], u64, u64) -> R,
) -> Result<(), CUresult> {
    // SAFETY: the caller's promise.
    let found = unsafe { image::extent(image) }.map_err(unreadable)?;
    let device = session
        .devices
        .get(device)
        .ok_or(CUresult::INVALID_DEVICE)?;
    let send = |bytes: &[u8]| send_image(session, context, bytes, options, &request);
    let ptx_first = session.executes_ptx_only.load(Relaxed);
    let first = if ptx_first { only_ptx(&found)? } else { None };
    let mut sent = match &first {
        Some(ptx) => send(ptx),
        None => send(&selected(&found, device.compute_capability())?),
    };
    if sent == Err(CUresult::NO_BINARY_FOR_GPU)
        && first.is_none()
        && let Some(ptx) = only_ptx(&found)?
    {
        sent = send(&ptx);
        if sent.is_ok() {
            session.executes_ptx_only.store(true, Relaxed);
        }
    }
    if sent == Err(CUresult::NO_BINARY_FOR_GPU) {
        tell_no_binary(device, image.addr(), &found);
    }
    sent
}

fn unreadable(error: ImageError) -> CUresult {
    log::info!("the image of a module cannot be read: {error}");
    match error {
        ImageError::Null => CUresult::INVALID_VALUE,
        _ => CUresult::INVALID_IMAGE,
    }
}

/// What a device of this capability can use.
fn selected<'a>(
    image: &Image<'a>,
    capability: ComputeCapability,
) -> Result<Cow<'a, [u8]>, CUresult> {
    match image {
        Image::Fatbin(fatbin) => {
            let selected = fatbin.container.select_for(capability);
            selected.map(Cow::Owned).map_err(unreadable)
        }
        Image::Elf(bytes) | Image::Ptx(bytes) => Ok(Cow::Borrowed(bytes)),
    }
}

/// The PTX of a fatbin that has some.
fn only_ptx(image: &Image<'_>) -> Result<Option<Vec<u8>>, CUresult> {
    match image {
        Image::Fatbin(fatbin) => fatbin.select_ptx().map_err(unreadable),
        Image::Elf(_) | Image::Ptx(_) => Ok(None),
    }
}

/// The most modules, or files of modules, of which is told that a device cannot run them.
const MAX_TOLD: usize = 16;

/// Tells the program's user which module the device cannot run and what helps: once for each file, since a library that has one such
/// module often has hundreds.
fn tell_no_binary(device: &Device, address: usize, image: &Image<'_>) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let holds = image::describe(image);
    let name = match image::origin(address) {
        Some(file) => format!("a module of {}", file.display()),
        None => "a module that the program loads".to_owned(),
    };
    let text = format!(
        "{name} holds {holds}, which \"{}\" cannot run",
        device.name()
    );
    let key = if name.contains('/') {
        name
    } else {
        text.clone()
    };
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() >= MAX_TOLD || told.contains(&key) {
        log::info!("{text}");
        return;
    }
    told.push(key);
    log::line(
        Level::Warn,
        format_args!(
            "{text} (CUDA_ERROR_NO_BINARY_FOR_GPU). It needs PTX: compile with `-gencode arch=compute_75,code=compute_75` (nvcc), or let the \
             library hand over PTX instead of a cubin (CuPy: CUPY_COMPILE_WITH_PTX=1). What exists as machine code only needs a GPU of its kind."
        ),
    );
}

/// Sends an image with options, and the request that `request` makes of (hash, length, transfer).
fn send_image<R: Request>(
    session: &Session,
    context: u32,
    bytes: &[u8],
    options: &[LinkOption],
    request: impl Fn([u8; 32], u64, u64) -> R,
) -> Result<(), CUresult> {
    let hash = *blake3::hash(bytes).as_bytes();
    if bytes.len() <= MAX_INLINE_COPY_BYTES {
        let request = request(hash, bytes.len() as u64, 0);
        let rest = [options.as_bytes(), bytes].concat();
        return session
            .ask_reply(context, &request, &rest, || Ok(()))
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
    session
        .ask_reply(context, &request, options.as_bytes(), send)
        .map(drop)
}

/// How many zeros [`read_file`] puts behind a file.
pub(crate) const BEHIND_FILE: usize = 64;

/// The bytes of a file of this machine, with a NUL after them so that text ends.
pub(crate) unsafe fn read_file(name: *const c_char) -> Result<Vec<u8>, CUresult> {
    if name.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, a C string by the API's contract.
    let path = unsafe { CStr::from_ptr(name) };
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    let mut bytes = std::fs::read(path).map_err(|_| CUresult::FILE_NOT_FOUND)?;
    // An image in a file is bounded by the file, but its reader stops at its own end.
    bytes.extend_from_slice(&[0; BEHIND_FILE]);
    Ok(bytes)
}

/// JIT options: those that travel. Logs come back empty; what is no value is left out.
///
/// # Safety
/// The arrays have so many elements.
pub(super) unsafe fn options_of(
    count: c_uint,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Result<Vec<LinkOption>, CUresult> {
    let mut travelling = Vec::new();
    if count == 0 {
        return Ok(travelling);
    }
    let (options, values) = (out(options)?, out(values)?);
    if count as usize > link_options::MAX {
        return Err(CUresult::INVALID_VALUE);
    }
    for index in 0..count as usize {
        // SAFETY: the caller's promise.
        let (option, value) = unsafe { (options.add(index).read(), values.add(index)) };
        if [INFORMATION.1, ERRORS.1].contains(&option) {
            // SAFETY: the driver writes the bytes used into the option's value.
            unsafe { value.write(core::ptr::null_mut()) };
        } else if option == WALL_TIME {
            // SAFETY: a float in the value's place, as the driver writes it.
            unsafe { value.cast::<f32>().write(0.0) };
        } else if link_options::is_value(option) {
            // SAFETY: the caller's promise.
            let value = unsafe { value.read() } as u64;
            travelling.push(LinkOption::new(option, value));
        } else if ![INFORMATION.0, ERRORS.0].contains(&option) {
            log::info!("JIT option {option} is left to the server's driver");
        }
    }
    Ok(travelling)
}
