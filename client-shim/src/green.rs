//! Green contexts: streams that have a part of a device, and the resources that the part is made of.
//!
//! *How:* a green context is the server's driver's; what is put into its streams goes there as into any other. What CUDA makes of it as a context is made
//! here: its handle means the primary context to everything but streams, and the null stream is one of the green context's.
//!
//! *Rules:* in a resource the program finds a number of ours where the driver keeps its own. The primary context is retained as long as there is a green one.
//! A stream whose green context has ended is detached: it can only be destroyed.
//!
//! # Safety
//! Resources and handles are read and written where the program says, in arrays as long as it says, by the contract of the CUDA driver API, after checks for null.
#![expect(unsafe_code, reason = "arrays and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{
    CU_DEV_SM_RESOURCE_GROUP_PARAMS, CUcontext, CUdevResource, CUdevResourceDesc,
    CUdevResourceType, CUdevice, CUevent, CUgreenCtx, CUresult, CUstream,
};
use driver_api::dev_resource::{Described, Group, MAX_RESOURCES, SM, hidden, hide, owner};
use driver_api::private_tables;
use driver_api::wire::reply;
use driver_api::wire::request::{
    GpurunDevResource, GpurunGreenCreate, GpurunGreenDestroy, GpurunResourceDescribe,
    GpurunResourceSplit,
};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use crate::context::{self, Context, Meeting};
use crate::entry::code;
use crate::event;
use crate::handles::{self, Handle};
use crate::memory::out;
use crate::objects::unique;
use crate::session::{self, Session};
use crate::stream::{self, Stream};
use crate::{capture, thread};

/// Marks the id of a context that is a green one's.
const AS_CONTEXT: u32 = 1 << 30;

/// A green context.
#[derive(Debug)]
pub(crate) struct Green {
    pub(crate) id: u32,
    pub(crate) unique: u64,
    pub(crate) primary: Arc<Context>,
    /// Where all its streams meet.
    pub(crate) meeting: Meeting,
    /// What the null stream means in it, made when first needed.
    default: Mutex<Option<Arc<Stream>>>,
}

impl Green {
    /// The null stream, where it is current.
    pub(crate) fn default_stream(&self, session: &Session) -> Result<Arc<Stream>, CUresult> {
        let mut default = self.default.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = &*default {
            return Ok(Arc::clone(stream));
        }
        let stream = stream::make_green(session, self, 0)?;
        *default = Some(Arc::clone(&stream));
        Ok(stream)
    }

    fn streams(&self, session: &Session) -> Vec<Arc<Stream>> {
        stream::of_green(session, self.id)
    }

    /// Waits for all that it has been given.
    pub(crate) fn synchronise(&self, session: &Session) -> Result<(), CUresult> {
        self.primary.fault.check()?;
        capture::forbid_streams(session, &self.streams(session))?;
        // What the program has destroyed still happens.
        let is_busy = |stream: &Stream| stream.green == self.id && stream.is_busy();
        let busy = session.objects.streams.select(is_busy);
        stream::wait_for(session, &self.primary, &stream::marks(session, busy, true)?)
    }

    fn handle(&self) -> CUgreenCtx {
        CUgreenCtx::dress(self.id)
    }

    fn as_context(&self) -> CUcontext {
        CUcontext::dress(AS_CONTEXT | self.id)
    }
}

/// The green context that a context's id stands for, if it is one.
pub(crate) fn of_context_id(session: &Session, id: u32) -> Option<Arc<Green>> {
    match id & AS_CONTEXT {
        0 => None,
        _ => session.objects.greens.get(id & !AS_CONTEXT),
    }
}

/// Whether a context's id stands for a green context, there or gone.
pub(crate) fn is_green_id(id: u32) -> bool {
    id & AS_CONTEXT != 0
}

/// The green context that is current as a context.
pub(crate) fn current(session: &Session) -> Option<Arc<Green>> {
    of_context_id(session, thread::current())
}

/// The green context that a context's handle stands for.
pub(crate) fn of_context(session: &Session, handle: CUcontext) -> Option<Arc<Green>> {
    of_context_id(session, handle.undress()?)
}

/// The handle of the green context of a stream; null for none.
pub(crate) fn handle_of(stream: &Stream) -> CUgreenCtx {
    match stream.green {
        0 => CUgreenCtx(0),
        id => CUgreenCtx::dress(id),
    }
}

/// A primary context has ended, and its green ones with it.
pub(crate) fn forget_context(session: &Session, context: u32) {
    let ended = session
        .objects
        .greens
        .select(|green| green.primary.id == context);
    for green in ended {
        session.objects.greens.remove(green.id);
        private_tables::context_destroyed(green.as_context().0);
    }
}

fn green_of(handle: CUgreenCtx) -> Result<Arc<Green>, CUresult> {
    let session = session::get()?;
    let green = handle
        .undress()
        .and_then(|id| session.objects.greens.get(id));
    green.ok_or(CUresult::INVALID_CONTEXT)
}

fn resource_of(told: &Described) -> CUdevResource {
    let mut resource = CUdevResource {
        kind: told.kind.get(),
        words: told.words.map(U32::get),
        ..CUdevResource::default()
    };
    if resource.kind != 0 {
        hide(&mut resource, &[told.number.get()]);
    }
    resource
}

fn described(resource: &CUdevResource) -> Described {
    let number = hidden(resource).map_or(0, |[number]| number);
    Described {
        number: U32::new(number),
        kind: U32::new(resource.kind),
        words: resource.words.map(U32::new),
    }
}

/// A resource of something, in a context or in none.
fn tell(
    place: *mut CUdevResource,
    context: u32,
    owner: u32,
    id: u32,
    kind: CUdevResourceType,
) -> Result<(), CUresult> {
    let request = GpurunDevResource::new(owner, id, kind);
    let reply = session::get()?.ask_reply(context, &request, &[], || Ok(()))?;
    let told = Described::read_from_bytes(&reply.body)
        .map_err(|_| session::malformed::<GpurunDevResource>())?;
    // SAFETY: checked by the caller.
    unsafe { place.write(resource_of(&told)) };
    Ok(())
}

pub(crate) unsafe fn cuDeviceGetDevResource(
    dev: CUdevice,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    code((|| {
        let place = out(result)?;
        session::get()?.device(dev)?;
        tell(place, 0, owner::DEVICE, dev as u32, kind)
    })())
}

pub(crate) unsafe fn cuCtxGetDevResource(
    ctx: CUcontext,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    code((|| {
        let place = out(result)?;
        let context = context::of(ctx)?;
        match of_context(session::get()?, ctx) {
            Some(green) => tell(place, 0, owner::GREEN, green.id, kind),
            None => tell(place, context.id, owner::CONTEXT, 0, kind),
        }
    })())
}

pub(crate) unsafe fn cuGreenCtxGetDevResource(
    ctx: CUgreenCtx,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    code((|| {
        let place = out(result)?;
        tell(place, 0, owner::GREEN, green_of(ctx)?.id, kind)
    })())
}

/// Those of the stream's context; queues of work are not told, as the driver has it.
pub(crate) unsafe fn cuStreamGetDevResource(
    stream: CUstream,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    code((|| {
        let place = out(result)?;
        let stream = stream::resolve_for_question(stream)?;
        if kind != SM {
            return Err(CUresult::INVALID_RESOURCE_TYPE);
        }
        match stream.green {
            0 => tell(place, stream.context, owner::CONTEXT, 0, kind),
            green => tell(place, 0, owner::GREEN, green, kind),
        }
    })())
}

/// A split, and what became of it.
struct Split {
    made: usize,
    results: Vec<CUdevResource>,
    remainder: CUdevResource,
    groups: Vec<Group>,
}

/// Asks for a split of a resource into `count` groups, as `wanted` says or into equal ones of at least `least`.
fn split(
    input: *const CUdevResource,
    (count, is_question): (usize, bool),
    (flags, least): (c_uint, c_uint),
    wanted: &[Group],
) -> Result<Split, CUresult> {
    // SAFETY: checked by `out`.
    let input = unsafe { out(input.cast_mut())?.read() };
    if input.kind != SM {
        return Err(CUresult::INVALID_RESOURCE_TYPE);
    }
    if count > MAX_RESOURCES || (count == 0 && !is_question) {
        return Err(CUresult::INVALID_VALUE);
    }
    let number = described(&input).number.get();
    let request = GpurunResourceSplit::new(number, count as u32, is_question.into(), flags, least);
    let reply = session::get()?.ask_reply(0, &request, wanted.as_bytes(), || Ok(()))?;
    let malformed = || session::malformed::<GpurunResourceSplit>();
    let (head, rest) =
        reply::GpurunResourceSplit::read_from_prefix(&reply.body).map_err(|_| malformed())?;
    let made = head.made() as usize;
    let told = match is_question {
        true => 0,
        false => made,
    };
    let (resources, groups) =
        <[Described]>::ref_from_prefix_with_elems(rest, told + 1).map_err(|_| malformed())?;
    let groups = <[Group]>::ref_from_bytes(groups).map_err(|_| malformed())?;
    if told > count || groups.len() != wanted.len() {
        return Err(malformed());
    }
    let (remainder, results) = resources.split_last().ok_or_else(malformed)?;
    Ok(Split {
        made,
        results: results.iter().map(resource_of).collect(),
        remainder: resource_of(remainder),
        groups: groups.to_vec(),
    })
}

/// # Safety
/// `results` is null or has room for the groups of the split, `remainder` is null or can be written.
unsafe fn give(split: &Split, results: *mut CUdevResource, remainder: *mut CUdevResource) {
    for (index, resource) in split.results.iter().enumerate() {
        // SAFETY: there are results only where the array is not null, and no more than it has.
        unsafe { results.add(index).write(*resource) };
    }
    if !remainder.is_null() {
        // SAFETY: not null; the caller's promise.
        unsafe { remainder.write(split.remainder) };
    }
}

pub(crate) unsafe fn cuDevSmResourceSplitByCount(
    result: *mut CUdevResource,
    nb_groups: *mut c_uint,
    input: *const CUdevResource,
    remaining: *mut CUdevResource,
    use_flags: c_uint,
    min_count: c_uint,
) -> CUresult {
    code((|| {
        let place = out(nb_groups)?;
        // SAFETY: checked by `out`.
        let given = unsafe { place.read() };
        let count = match result.is_null() {
            true => 0,
            false => given,
        };
        let size = (count as usize, result.is_null());
        let split = split(input, size, (use_flags, min_count), &[])?;
        // SAFETY: the array has as many as the program says, and the split no more; the rest is as the API says.
        unsafe {
            give(&split, result, remaining);
            place.write(split.made as c_uint);
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuDevSmResourceSplit(
    result: *mut CUdevResource,
    nb_groups: c_uint,
    input: *const CUdevResource,
    remainder: *mut CUdevResource,
    flags: c_uint,
    group_params: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
) -> CUresult {
    code((|| {
        let (params, count) = (out(group_params)?.cast::<[u32; 16]>(), nb_groups as usize);
        if count == 0 || count > MAX_RESOURCES {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null, and `count` structures of sixteen words by the API's contract.
        let wanted = (0..count).map(|index| unsafe { params.add(index).read() }.map(U32::new));
        let wanted: Vec<Group> = wanted.collect();
        let split = split(input, (count, result.is_null()), (flags, 0), &wanted)?;
        for (index, group) in split.groups.iter().enumerate() {
            // SAFETY: as many as were read.
            unsafe { params.add(index).write(group.map(U32::get)) };
        }
        // SAFETY: the array has as many as the program says, and the split no more; the rest is as the API says.
        unsafe { give(&split, result, remainder) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuDevResourceGenerateDesc(
    desc: *mut CUdevResourceDesc,
    resources: *mut CUdevResource,
    nb_resources: c_uint,
) -> CUresult {
    code((|| {
        let (place, resources) = (out(desc)?, out(resources)?);
        let count = nb_resources as usize;
        if count == 0 || count > MAX_RESOURCES {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null, and of `count` elements by the API's contract.
        let each = (0..count).map(|index| described(&unsafe { resources.add(index).read() }));
        let each: Vec<Described> = each.collect();
        let id = unique() as u32;
        let request = GpurunResourceDescribe::new(id);
        session::get()?.ask_in(0, &request, each.as_bytes())?;
        let handle = CUdevResourceDesc(handles::dress(handles::UNTYPED, id));
        // SAFETY: checked by `out`.
        unsafe { place.write(handle) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuGreenCtxCreate(
    ctx: *mut CUgreenCtx,
    desc: CUdevResourceDesc,
    dev: CUdevice,
    flags: c_uint,
) -> CUresult {
    /// `CU_GREEN_CTX_DEFAULT_STREAM`: there always is one.
    const DEFAULT_STREAM: c_uint = 1;
    code((|| {
        let place = out(ctx)?;
        let session = session::get()?;
        session.device(dev)?;
        let desc = handles::undress(handles::UNTYPED, desc.0).ok_or(CUresult::INVALID_VALUE)?;
        if flags & !DEFAULT_STREAM != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let primary = context::retain_primary(dev)?;
        let green = session.objects.greens.insert_with(|id| Green {
            id,
            unique: unique(),
            primary: Arc::clone(&primary),
            meeting: Meeting::default(),
            default: Mutex::default(),
        });
        let request = GpurunGreenCreate::new(green.id, desc, flags);
        if let Err(error) = session.ask_in(primary.id, &request, &[]) {
            session.objects.greens.remove(green.id);
            context::release_primary(dev)?;
            return Err(error);
        }
        // SAFETY: checked by `out`.
        unsafe { place.write(green.handle()) };
        Ok(())
    })())
}

fn destroy(handle: CUgreenCtx) -> Result<(), CUresult> {
    let session = session::get()?;
    let green = green_of(handle)?;
    let green = session
        .objects
        .greens
        .remove(green.id)
        .ok_or(CUresult::INVALID_CONTEXT)?;
    for stream in green.streams(session) {
        capture::forget(&stream);
        // What went wrong in it is its context's, which tells it.
        let _ = stream.synchronise(session);
        stream.detach();
    }
    let default = green.default.lock().unwrap_or_else(PoisonError::into_inner);
    let own = default.iter().cloned().chain(green.meeting.take());
    let ended: Vec<_> = own.map(|stream| stream::end(session, &stream)).collect();
    ended.into_iter().collect::<Result<(), _>>()?;
    private_tables::context_destroyed(green.as_context().0);
    let request = GpurunGreenDestroy::new(green.id);
    let ended = session.ask_in(green.primary.id, &request, &[]);
    context::release_primary(c_int::try_from(green.primary.device).unwrap_or(0))?;
    ended.map(drop)
}

pub(crate) unsafe fn cuGreenCtxDestroy(ctx: CUgreenCtx) -> CUresult {
    code(destroy(ctx))
}

pub(crate) unsafe fn cuCtxFromGreenCtx(context: *mut CUcontext, ctx: CUgreenCtx) -> CUresult {
    code((|| {
        let place = out(context)?;
        let green = green_of(ctx)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(green.as_context()) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuGreenCtxGetId(green_ctx: CUgreenCtx, green_ctx_id: *mut u64) -> CUresult {
    code((|| {
        let place = out(green_ctx_id)?;
        let green = match green_ctx.0 {
            0 => current(session::get()?).ok_or(CUresult::INVALID_CONTEXT)?,
            _ => green_of(green_ctx)?,
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(green.unique) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuGreenCtxStreamCreate(
    stream: *mut CUstream,
    green_ctx: CUgreenCtx,
    flags: c_uint,
    priority: c_int,
) -> CUresult {
    code((|| {
        let place = out(stream)?;
        let green = green_of(green_ctx)?;
        if flags != stream::NON_BLOCKING {
            return Err(CUresult::INVALID_VALUE);
        }
        let made = stream::make_green(session::get()?, &green, priority)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(CUstream::dress(made.id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuGreenCtxRecordEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult {
    code((|| {
        let green = green_of(ctx)?;
        context::record_green(session::get()?, &green, &*event::of(event)?)
    })())
}

pub(crate) unsafe fn cuGreenCtxWaitEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult {
    code((|| {
        let green = green_of(ctx)?;
        context::wait_green(session::get()?, &green, &*event::of(event)?)
    })())
}

/// cuBLAS, cuDNN and cuSOLVER ask this of each stream that they are given.
pub(crate) unsafe fn cuStreamGetGreenCtx(stream: CUstream, ctx: *mut CUgreenCtx) -> CUresult {
    code((|| {
        let place = out(ctx)?;
        let handle = handle_of(&*stream::resolve_for_question(stream)?);
        // SAFETY: checked by `out`.
        unsafe { place.write(handle) };
        Ok(())
    })())
}
