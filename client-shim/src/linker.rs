//! The JIT linker: the driver's own, on the server.
//!
//! What is added travels at once, since the call itself has to say what is wrong with it. Files are read here: they are the program's. What was linked is
//! kept here for as long as the linker, as the program expects; a module that is made of it travels as any image. Messages are asked for when there may be
//! new ones, and written to the program's buffers.
//!
//! # Safety
//! Options, code and names are read, and buffers for messages written, by the contract of the API: arrays have as many elements as is said, buffers and
//! the places of their sizes stay until the linker ends.
#![expect(unsafe_code, reason = "arrays and buffers of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use driver_api::abi::{CUjit_option, CUjitInputType, CUlinkState, CUresult};
use driver_api::link_options::{self, ERRORS, INFORMATION, LinkOption, WALL_TIME};
use driver_api::wire::reply;
use driver_api::wire::request::{
    GpurunLinkAdd, GpurunLinkComplete, GpurunLinkCreate, GpurunLinkDestroy, GpurunLinkRead,
    GpurunLinkSaid,
};
use protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_REPLY_BYTES};
use zerocopy::{FromBytes, IntoBytes};

use crate::entry::code;
use crate::handles::Handle;
use crate::log;
use crate::memory::out;
use crate::module::read_file;
use crate::session::{self, Session};

/// `CU_JIT_INPUT_LIBRARY`, the last kind but NVVM, which no driver takes any more.
const LAST_KIND: CUjitInputType = 5;
/// The most that is asked for at once of what was linked.
const MOST_READ: u64 = MAX_REPLY_BYTES as u64 / 2;

/// A linker.
#[derive(Debug)]
pub(crate) struct Linker {
    pub(crate) id: u32,
    context: u32,
    information: Messages,
    errors: Messages,
    /// Where the program wants to be told how long linking takes; zero: nowhere.
    wall_time: usize,
    /// How long it has taken so far, in milliseconds.
    taken: Mutex<f32>,
    /// What was linked: the program reads it where it is.
    code: Mutex<Vec<u8>>,
}

impl Linker {
    /// Tells how long linking has taken until now, this time since `begun` with it; and this time alone, where a call wants to know.
    fn tell_time(&self, begun: Instant, of_call: usize) {
        let now = begun.elapsed().as_secs_f32() * 1e3;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken += now;
        for (place, time) in [(self.wall_time, *taken), (of_call, now)] {
            if place != 0 {
                // SAFETY: a float in the place of an option's value: of the linker's, which stay until it ends, or of this call's.
                unsafe { (place as *mut f32).write(time) };
            }
        }
    }
}

/// Where messages of a kind go: the program's buffer, its size, and where the used part of it is told; zeros for nowhere.
#[derive(Debug, Default, Clone, Copy)]
struct Messages {
    buffer: usize,
    size: usize,
    used: usize,
}

impl Messages {
    /// # Safety
    /// The buffer and the place of its size are the program's, and still there.
    unsafe fn write(self, text: &[u8]) {
        let count = text.len().min(self.size.saturating_sub(1));
        if self.buffer != 0 && self.size > 0 {
            let buffer = self.buffer as *mut u8;
            // SAFETY: the buffer has `size` bytes, and one is left for the end.
            unsafe {
                core::ptr::copy_nonoverlapping(text.as_ptr(), buffer, count);
                buffer.add(count).write(0);
            }
        }
        if self.used != 0 {
            let used = if text.is_empty() { 0 } else { count + 1 };
            // SAFETY: an element of the program's array of values.
            unsafe { (self.used as *mut *mut c_void).write(used as *mut c_void) };
        }
    }
}

/// What a call's options say: the values that travel, and where messages go.
#[derive(Debug, Default)]
struct Options {
    values: Vec<LinkOption>,
    information: Messages,
    errors: Messages,
    wall_time: usize,
}

impl Options {
    /// # Safety
    /// The arrays have so many elements.
    unsafe fn read(
        count: c_uint,
        options: *mut CUjit_option,
        values: *mut *mut c_void,
    ) -> Result<Self, CUresult> {
        let mut read = Self::default();
        if count == 0 {
            return Ok(read);
        }
        let (options, values) = (out(options)?, out(values)?);
        if count as usize > link_options::MAX {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: the caller's promise.
            let (option, place) = unsafe { (options.add(index).read(), values.add(index)) };
            // SAFETY: as above.
            let value = unsafe { place.read() } as usize;
            let size = || (value as u32 as usize, place as usize);
            match option {
                _ if option == INFORMATION.0 => read.information.buffer = value,
                _ if option == INFORMATION.1 => {
                    (read.information.size, read.information.used) = size();
                }
                _ if option == ERRORS.0 => read.errors.buffer = value,
                _ if option == ERRORS.1 => (read.errors.size, read.errors.used) = size(),
                WALL_TIME => read.wall_time = place as usize,
                _ if link_options::is_value(option) => {
                    read.values.push(LinkOption::new(option, value as u64));
                }
                _ => {
                    log::warn_once(
                        "the linker",
                        format_args!("the linker: option {option} is not supported"),
                    );
                    return Err(CUresult::NOT_SUPPORTED);
                }
            }
        }
        Ok(read)
    }

    fn count(&self) -> u32 {
        self.values.len() as u32
    }
}

pub(crate) fn link_of(handle: CUlinkState) -> Result<Arc<Linker>, CUresult> {
    let link = handle
        .undress()
        .and_then(|id| session::get().ok()?.objects.links.get(id));
    link.ok_or(CUresult::INVALID_HANDLE)
}

/// # Safety
/// The contract of `cuLinkCreate`.
unsafe fn create(
    count: c_uint,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
    place: *mut CUlinkState,
) -> Result<(), CUresult> {
    let place = out(place)?;
    let (session, context) = session::current()?;
    // SAFETY: the caller's promise.
    let options = unsafe { Options::read(count, options, values) }?;
    let link = session.objects.links.insert_with(|id| Linker {
        id,
        context: context.id,
        information: options.information,
        errors: options.errors,
        wall_time: options.wall_time,
        taken: Mutex::default(),
        code: Mutex::default(),
    });
    let request = GpurunLinkCreate::new(link.id, options.count());
    let made = session.ask_in(context.id, &request, options.values.as_bytes());
    if let Err(code) = made {
        session.objects.links.remove(link.id);
        return Err(code);
    }
    // SAFETY: the caller's promise: there is nothing to tell yet.
    unsafe {
        link.information.write(b"");
        link.errors.write(b"");
        place.write(CUlinkState::dress(link.id));
    }
    Ok(())
}

/// Hands on what the linker has said, if anybody wants to know: the linker's own buffers, and those of a call.
fn tell(session: &Session, link: &Linker, of_call: [Messages; 2]) -> Result<(), CUresult> {
    let [more_information, more_errors] = of_call;
    let all = [link.information, link.errors, more_information, more_errors];
    if all.iter().all(|messages| messages.buffer == 0) {
        return Ok(());
    }
    let request = GpurunLinkSaid::new(link.id);
    let body = session
        .ask_reply(link.context, &request, &[], || Ok(()))?
        .body;
    let malformed = session::malformed::<GpurunLinkSaid>;
    let (reply, said) = reply::GpurunLinkSaid::read_from_prefix(&body).map_err(|_| malformed())?;
    let (information, errors) = said
        .split_at_checked(reply.information() as usize)
        .ok_or_else(malformed)?;
    // SAFETY: the program's buffers, which stay until the linker ends.
    unsafe {
        link.information.write(information);
        link.errors.write(errors);
        more_information.write(information);
        more_errors.write(errors);
    }
    Ok(())
}

/// Adds code, with options that are of this call.
fn add(
    state: CUlinkState,
    kind: CUjitInputType,
    code: &[u8],
    name: &[u8],
    options: &Options,
) -> Result<(), CUresult> {
    let (session, _) = session::current()?;
    let link = link_of(state)?;
    if kind > LAST_KIND || code.is_empty() {
        return Err(CUresult::INVALID_VALUE);
    }
    let name = &name[..name.len().min(link_options::MAX_NAME_BYTES)];
    let inline = code.len() <= MAX_INLINE_COPY_BYTES;
    let transfer = match inline {
        true => 0,
        false => session.link.transfer_number(),
    };
    let request = GpurunLinkAdd::new(
        link.id,
        kind,
        options.count(),
        name.len() as u32,
        code.len() as u64,
        transfer,
    );
    let mut rest = [options.values.as_bytes(), name].concat();
    if inline {
        rest.extend_from_slice(code);
    }
    let send = || match inline {
        true => Ok(()),
        // SAFETY: the slice outlives the call, which returns after the reply.
        false => unsafe {
            session
                .link
                .send_transfer(transfer, code.as_ptr(), code.len())
        }
        .map(drop),
    };
    let begun = Instant::now();
    let added = session.ask_reply(link.context, &request, &rest, send);
    link.tell_time(begun, options.wall_time);
    tell(session, &link, [options.information, options.errors])?;
    added.map(drop)
}

/// # Safety
/// Null, or a C string.
unsafe fn bytes_of<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return b"";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Links, and fetches what that gave.
fn complete(session: &Session, link: &Linker) -> Result<(*mut c_void, usize), CUresult> {
    let begun = Instant::now();
    let linked = session.ask_in(link.context, &GpurunLinkComplete::new(link.id), &[]);
    link.tell_time(begun, 0);
    tell(session, link, [Messages::default(); 2])?;
    let size = linked?.size();
    let mut code = Vec::new();
    while (code.len() as u64) < size {
        let wanted = (size - code.len() as u64).min(MOST_READ);
        let request = GpurunLinkRead::new(link.id, wanted as u32, code.len() as u64);
        let part = session
            .ask_reply(link.context, &request, &[], || Ok(()))?
            .body;
        if part.is_empty() || part.len() as u64 > wanted {
            return Err(session::malformed::<GpurunLinkRead>());
        }
        code.extend_from_slice(&part);
    }
    // So that text ends, whoever reads it.
    code.push(0);
    let mut kept = link.code.lock().unwrap_or_else(PoisonError::into_inner);
    *kept = code;
    Ok((kept.as_mut_ptr().cast(), kept.len() - 1))
}

pub(crate) unsafe fn cuLinkCreate_v2(
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
    state_out: *mut CUlinkState,
) -> CUresult {
    // SAFETY: the API's contract.
    code(unsafe { create(num_options, options, option_values, state_out) })
}

pub(crate) unsafe fn cuLinkCreate(
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
    state_out: *mut CUlinkState,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuLinkCreate_v2(num_options, options, option_values, state_out) }
}

#[expect(clippy::too_many_arguments, reason = "the driver's")]
pub(crate) unsafe fn cuLinkAddData_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    data: *mut c_void,
    size: usize,
    name: *const c_char,
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    code((|| {
        let data = out(data)?;
        // SAFETY: the API's contract.
        let options = unsafe { Options::read(num_options, options, option_values) }?;
        // SAFETY: the API's contract.
        let (code, name) = unsafe {
            (
                core::slice::from_raw_parts(data.cast::<u8>(), size),
                bytes_of(name),
            )
        };
        add(state, kind, code, name, &options)
    })())
}

#[expect(clippy::too_many_arguments, reason = "the driver's")]
pub(crate) unsafe fn cuLinkAddData(
    state: CUlinkState,
    kind: CUjitInputType,
    data: *mut c_void,
    size: usize,
    name: *const c_char,
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe {
        cuLinkAddData_v2(
            state,
            kind,
            data,
            size,
            name,
            num_options,
            options,
            option_values,
        )
    }
}

pub(crate) unsafe fn cuLinkAddFile_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    code((|| {
        link_of(state)?;
        // SAFETY: the API's contract.
        let options = unsafe { Options::read(num_options, options, option_values) }?;
        // SAFETY: the API's contract.
        let (code, name) = unsafe { (read_file(path)?, bytes_of(path)) };
        // What the reader puts behind the file is not the file's.
        let length = code.len() - crate::module::BEHIND_FILE;
        add(state, kind, &code[..length], name, &options)
    })())
}

pub(crate) unsafe fn cuLinkAddFile(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    num_options: c_uint,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuLinkAddFile_v2(state, kind, path, num_options, options, option_values) }
}

pub(crate) unsafe fn cuLinkComplete(
    state: CUlinkState,
    cubin_out: *mut *mut c_void,
    size_out: *mut usize,
) -> CUresult {
    code((|| {
        let place = out(cubin_out)?;
        let (session, _) = session::current()?;
        let link = link_of(state)?;
        let (code, size) = complete(session, &link)?;
        // SAFETY: checked by `out`; the size may be null.
        unsafe {
            place.write(code);
            if !size_out.is_null() {
                size_out.write(size);
            }
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuLinkDestroy(state: CUlinkState) -> CUresult {
    code((|| {
        let session = session::get()?;
        let link = link_of(state)?;
        session.objects.links.remove(link.id);
        session.post_in(link.context, |_| GpurunLinkDestroy::new(link.id), &[])
    })())
}
