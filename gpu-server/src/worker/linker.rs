//! The JIT linker: the rows of the `linker` area.
//!
//! *What:* a [`Link`] is the driver's linker, with buffers for what it says and what it has linked. *Rules:* options are plain values, checked again here; code
//! that the driver reads by its own lengths is parsed first, as for modules. Calls for one linker run one after the other.
//!
//! # Safety
//! A linker's handle comes from the driver and is used under its lock until it is destroyed; buffers and arrays of options stay as long as the linker; what
//! was linked is read within the length that the driver told, while the linker lives.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::{CUjit_option, CUlinkState};
use driver_api::link_options::{self, ERRORS, INFORMATION, LinkOption};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use protocol::limits::MAX_REPLY_BYTES;
use zerocopy::FromBytes;

use super::call::{Call, CallError};
use super::end::lock;
use super::module::{image_of, inspect};
use super::session::Session;
use crate::driver::cuda;

/// Room for what a linker says, of each kind.
const SAID_BYTES: usize = 64 << 10;

/// `CU_JIT_INPUT_*` of code that the driver reads by its own lengths: cubin, container, object.
const BY_OWN_LENGTHS: [u32; 3] = [0, 2, 3];

/// A driver's linker.
pub(crate) struct Link {
    /// The serial of its context.
    pub(crate) context: u64,
    state: Mutex<State>,
}

struct State {
    /// Nothing once it is destroyed.
    handle: Option<CUlinkState>,
    /// What the driver writes to and may read until the linker ends.
    information: Box<[u8]>,
    errors: Box<[u8]>,
    _options: Options,
    /// Where the code is that was linked, and how long.
    linked: (usize, usize),
}

/// Options as the driver takes them.
#[derive(Default)]
pub(crate) struct Options {
    names: Vec<CUjit_option>,
    values: Vec<usize>,
}

impl Options {
    fn push(&mut self, name: CUjit_option, value: usize) {
        self.names.push(name);
        self.values.push(value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The driver's arrays; null for none.
    pub(crate) fn arrays(&mut self) -> (u32, *mut CUjit_option, *mut *mut c_void) {
        if self.is_empty() {
            return (0, std::ptr::null_mut(), std::ptr::null_mut());
        }
        let count = self.names.len() as u32;
        let values = self.values.as_mut_ptr().cast();
        (count, self.names.as_mut_ptr(), values)
    }
}

/// The options of a call, and what is behind them.
pub(crate) fn options_of(count: u32, rest: &[u8]) -> Result<(Options, &[u8]), CallError> {
    let count = count as usize;
    if count > link_options::MAX {
        return Err(CallError::Violation(
            "more options than a compilation takes",
        ));
    }
    let (list, rest) = <[LinkOption]>::ref_from_prefix_with_elems(rest, count)
        .map_err(|_| CallError::Violation("the options of a compilation cut short"))?;
    let mut options = Options::default();
    for option in list {
        if !link_options::is_value(option.option.get()) {
            return Err(CallError::Violation("an option that is no value"));
        }
        options.push(option.option.get(), option.value.get() as usize);
    }
    Ok((options, rest))
}

/// The text in a buffer.
fn text(buffer: &[u8]) -> &[u8] {
    let end = buffer.iter().position(|byte| *byte == 0);
    &buffer[..end.unwrap_or(buffer.len())]
}

fn link_of(call: &Call<'_>, id: u32) -> Result<Arc<Link>, CUresult> {
    call.session.links.get(id).ok_or(CUresult::INVALID_HANDLE)
}

/// Ends the linkers of a context that ends; it is current. What they have read stays until then.
pub(crate) fn end_all(session: &Session, serial: u64) {
    for link in session.links.all() {
        if link.context == serial
            && let Err(error) = destroy(session.driver, &mut lock(&link.state))
        {
            tracing::warn!("a linker does not end with its context: {error}");
        }
    }
}

fn destroy(driver: &Driver, state: &mut State) -> Result<(), CUresult> {
    state.linked = (0, 0);
    match state.handle.take() {
        Some(handle) => cuda!(driver, cuLinkDestroy(handle)),
        None => Ok(()),
    }
}

/// A linker of the driver's.
pub(crate) fn gpurunLinkCreate(
    call: &mut Call<'_>,
    request: &request::GpurunLinkCreate,
    rest: &[u8],
) -> Result<(), CallError> {
    let (mut options, rest) = options_of(request.count(), rest)?;
    if !rest.is_empty() {
        return Err(CallError::Violation("bytes after a linker's options"));
    }
    call.session.links.check_free(request.link())?;
    let context = call.context()?.serial;
    let mut information = vec![0; SAID_BYTES].into_boxed_slice();
    let mut errors = vec![0; SAID_BYTES].into_boxed_slice();
    for (kind, buffer) in [(INFORMATION, &mut information), (ERRORS, &mut errors)] {
        // The last byte stays, so that what is said always ends.
        options.push(kind.0, buffer.as_mut_ptr().expose_provenance());
        options.push(kind.1, SAID_BYTES - 1);
    }
    let mut handle = CUlinkState(0);
    let (count, names, values) = options.arrays();
    cuda!(
        call.driver(),
        cuLinkCreate_v2(count, names, values, &mut handle)
    )?;
    let state = State {
        handle: Some(handle),
        information,
        errors,
        _options: options,
        linked: (0, 0),
    };
    let link = Arc::new(Link {
        context,
        state: Mutex::new(state),
    });
    let inserted = call.session.links.insert(request.link(), Arc::clone(&link));
    if let Err(error) = inserted {
        destroy(call.driver(), &mut lock(&link.state))?;
        return Err(error.into());
    }
    Ok(())
}

/// Code for a linker.
pub(crate) fn gpurunLinkAdd(
    call: &mut Call<'_>,
    request: &request::GpurunLinkAdd,
    rest: &[u8],
) -> Result<(), CallError> {
    let (mut options, rest) = options_of(request.count(), rest)?;
    let name_length = request.name_length() as usize;
    let (name, inline) = rest
        .split_at_checked(name_length)
        .filter(|_| name_length <= link_options::MAX_NAME_BYTES)
        .ok_or(CallError::Violation("a name cut short"))?;
    let mut code = image_of(call, request.length(), inline)?;
    let name = CString::new(name).map_err(|_| CUresult::INVALID_VALUE)?;
    let link = link_of(call, request.link())?;
    if BY_OWN_LENGTHS.contains(&request.kind()) {
        inspect(&code)?;
    }
    let mut state = lock(&link.state);
    let handle = state.handle.ok_or(CUresult::INVALID_HANDLE)?;
    let (count, names, values) = options.arrays();
    let (start, length) = (code.as_mut_ptr().cast(), code.len() - 1);
    cuda!(
        call.driver(),
        cuLinkAddData_v2(
            handle,
            request.kind(),
            start,
            length,
            name.as_ptr(),
            count,
            names,
            values
        )
    )?;
    // What was linked before is no longer the whole.
    state.linked = (0, 0);
    Ok(())
}

/// Links.
pub(crate) fn gpurunLinkComplete(
    call: &mut Call<'_>,
    request: &request::GpurunLinkComplete,
) -> Result<(), CallError> {
    let link = link_of(call, request.link())?;
    let mut state = lock(&link.state);
    let handle = state.handle.ok_or(CUresult::INVALID_HANDLE)?;
    let (mut code, mut size) = (std::ptr::null_mut(), 0);
    cuda!(call.driver(), cuLinkComplete(handle, &mut code, &mut size))?;
    if code.is_null() {
        return Err(CUresult::UNKNOWN.into());
    }
    state.linked = (code.expose_provenance(), size);
    call.reply(&reply::GpurunLinkComplete::new(size as u64));
    Ok(())
}

/// A part of what was linked.
pub(crate) fn gpurunLinkRead(
    call: &mut Call<'_>,
    request: &request::GpurunLinkRead,
) -> Result<(), CallError> {
    let link = link_of(call, request.link())?;
    let state = lock(&link.state);
    let (start, size) = state.linked;
    let length = request.length() as usize;
    let offset = usize::try_from(request.offset()).map_err(|_| CUresult::INVALID_VALUE)?;
    let fits = offset.checked_add(length).is_some_and(|end| end <= size);
    if !fits || length == 0 || length > MAX_REPLY_BYTES {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let code = std::ptr::with_exposed_provenance::<u8>(start);
    // SAFETY: the driver's memory, so long, until the linker is destroyed, which takes the lock that is held.
    let code = unsafe { std::slice::from_raw_parts(code.add(offset), length) };
    call.reply_bytes(code);
    Ok(())
}

/// What a linker has said so far.
pub(crate) fn gpurunLinkSaid(
    call: &mut Call<'_>,
    request: &request::GpurunLinkSaid,
) -> Result<(), CallError> {
    let link = link_of(call, request.link())?;
    let state = lock(&link.state);
    let (information, errors) = (text(&state.information), text(&state.errors));
    call.reply(&reply::GpurunLinkSaid::new(information.len() as u32));
    call.reply_bytes(information);
    call.reply_bytes(errors);
    Ok(())
}

/// The end of a linker.
pub(crate) fn gpurunLinkDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunLinkDestroy,
) -> Result<(), CallError> {
    // One whose context has ended is gone already.
    if let Some(link) = call.session.links.remove(request.link()) {
        destroy(call.driver(), &mut lock(&link.state))?;
    }
    Ok(())
}
