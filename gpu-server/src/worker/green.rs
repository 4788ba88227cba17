//! Green contexts: resources of devices, and contexts that have a part of one.
//!
//! *What:* resources as the driver told them, under numbers of ours; descriptors and green contexts, under ids of the client's. *Rules:* a resource holds
//! what is the driver's own, so a client only ever names one by its number; of those that a program may change itself, plain numbers pass. A descriptor stays as
//! long as the process, as the driver has it, so there is a most of them. A green context ends before its primary one.
//!
//! # Safety
//! Handles are the driver's own, from this session's tables; resources are copies of what the driver wrote, arrays as long as is said.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::{
    CU_DEV_SM_RESOURCE_GROUP_PARAMS, CUdevResource, CUdevResourceDesc, CUgreenCtx, CUstream,
};
use driver_api::dev_resource::{Described, Group, MAX_RESOURCES, SM, WORKQUEUE_CONFIG, owner};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::call::{Call, CallError};
use super::end::lock;
use super::session::Session;
use super::stream;
use super::table::Table;
use crate::driver::cuda;

/// Most resources of one session that are told apart.
const MAX_TOLD: usize = 64 << 10;
/// Most descriptors, and most green contexts, of one session.
const MAX_GREENS: usize = 4096;

/// What a session has of all this.
pub(crate) struct Greens {
    resources: Mutex<Vec<CUdevResource>>,
    descriptors: Table<CUdevResourceDesc>,
    contexts: Table<Green>,
}

#[derive(Clone, Copy)]
struct Green {
    handle: CUgreenCtx,
    /// The primary context's serial number.
    context: u64,
}

impl Default for Greens {
    fn default() -> Self {
        Self {
            resources: Mutex::default(),
            descriptors: Table::new(MAX_GREENS),
            contexts: Table::new(MAX_GREENS),
        }
    }
}

impl Greens {
    /// The resource as it travels, with its number, which is the same for the same resource.
    fn told(&self, resource: &CUdevResource) -> Result<Described, CUresult> {
        let mut resources = lock(&self.resources);
        let place = match resources.iter().position(|known| known == resource) {
            Some(place) => place,
            None if resources.len() < MAX_TOLD => {
                resources.push(*resource);
                resources.len() - 1
            }
            None => return Err(CUresult::OUT_OF_MEMORY),
        };
        Ok(Described {
            number: U32::new(place as u32 + 1),
            kind: U32::new(resource.kind),
            words: resource.words.map(U32::new),
        })
    }

    fn resource(&self, number: u32) -> Result<CUdevResource, CUresult> {
        let place = (number as usize).checked_sub(1);
        let resources = lock(&self.resources);
        let found = place.and_then(|place| resources.get(place));
        found.copied().ok_or(CUresult::INVALID_VALUE)
    }

    fn green(&self, id: u32) -> Result<Green, CUresult> {
        self.contexts.get(id).ok_or(CUresult::INVALID_CONTEXT)
    }
}

/// The primary context ends: its green contexts do before.
pub(crate) fn end_all(session: &Session, context: u64) {
    let greens = &session.greens.contexts;
    // Another thread of the client may end one at this moment: whoever takes it out does.
    for id in greens.ids(|green| green.context == context) {
        if let Some(green) = greens.remove(id) {
            destroy(session.driver, green.handle);
        }
    }
}

/// Ends what nobody can name any more.
fn destroy(driver: &Driver, green: CUgreenCtx) {
    // It is out of the table, and what the driver says of its end changes nothing.
    let _ = cuda!(driver, cuGreenCtxDestroy(green));
}

/// A resource of a device, a context or a green context.
pub(crate) fn gpurunDevResource(
    call: &mut Call<'_>,
    request: &request::GpurunDevResource,
) -> Result<(), CallError> {
    let (driver, kind, id) = (call.driver(), request.kind(), request.id());
    let greens = &call.session.greens;
    let mut resource = CUdevResource::default();
    match request.owner() {
        owner::DEVICE => {
            let device = i32::try_from(id).map_err(|_| CUresult::INVALID_DEVICE)?;
            call.session.devices.check(device)?;
            cuda!(driver, cuDeviceGetDevResource(device, &mut resource, kind))?;
        }
        owner::CONTEXT => {
            let context = call.context()?.handle();
            cuda!(driver, cuCtxGetDevResource(context, &mut resource, kind))?;
        }
        owner::GREEN => {
            let green = greens.green(id)?.handle;
            cuda!(driver, cuGreenCtxGetDevResource(green, &mut resource, kind))?;
        }
        _ => return Err(CallError::Violation("a resource of nothing")),
    }
    let told = greens.told(&resource)?;
    call.reply_bytes(told.as_bytes());
    Ok(())
}

/// A split, as the driver is asked for it.
struct Split {
    made: u32,
    results: Vec<CUdevResource>,
    remainder: CUdevResource,
    groups: Vec<CU_DEV_SM_RESOURCE_GROUP_PARAMS>,
}

fn group(words: &Group) -> CU_DEV_SM_RESOURCE_GROUP_PARAMS {
    let [count, together, preferred, flags, rest @ ..] = words.map(U32::get);
    CU_DEV_SM_RESOURCE_GROUP_PARAMS {
        sm_count: count,
        coscheduled_sm_count: together,
        preferred_coscheduled_sm_count: preferred,
        flags,
        rest,
    }
}

fn words(group: &CU_DEV_SM_RESOURCE_GROUP_PARAMS) -> Group {
    let mut words = Group::default();
    let first = [
        group.sm_count,
        group.coscheduled_sm_count,
        group.preferred_coscheduled_sm_count,
        group.flags,
    ];
    for (word, value) in words.iter_mut().zip(first.iter().chain(&group.rest)) {
        word.set(*value);
    }
    words
}

fn split(
    driver: &Driver,
    input: &CUdevResource,
    request: &request::GpurunResourceSplit,
    wanted: &[Group],
) -> Result<Split, CUresult> {
    let count = request.groups() as usize;
    let mut results = match request.is_question() {
        0 => vec![CUdevResource::default(); count],
        _ => Vec::new(),
    };
    let place = match results.is_empty() {
        true => std::ptr::null_mut(),
        false => results.as_mut_ptr(),
    };
    let mut split = Split {
        made: request.groups(),
        remainder: CUdevResource::default(),
        groups: wanted.iter().map(group).collect(),
        results,
    };
    if wanted.is_empty() {
        let (flags, least) = (request.flags(), request.least());
        let remainder = &mut split.remainder;
        cuda!(
            driver,
            cuDevSmResourceSplitByCount(place, &mut split.made, input, remainder, flags, least)
        )?;
    } else {
        let groups = split.groups.as_mut_ptr();
        let remainder = &mut split.remainder;
        cuda!(
            driver,
            cuDevSmResourceSplit(place, split.made, input, remainder, request.flags(), groups)
        )?;
    }
    split.results.truncate(split.made as usize);
    Ok(split)
}

/// Splits multiprocessors into groups.
pub(crate) fn gpurunResourceSplit(
    call: &mut Call<'_>,
    request: &request::GpurunResourceSplit,
    wanted: &[u8],
) -> Result<(), CallError> {
    let wanted = <[Group]>::ref_from_bytes(wanted)
        .map_err(|_| CallError::Violation("groups of another size"))?;
    let count = request.groups() as usize;
    let is_countless = count == 0 && request.is_question() == 0;
    if is_countless || count > MAX_RESOURCES || !(wanted.is_empty() || wanted.len() == count) {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let greens = &call.session.greens;
    let input = greens.resource(request.input())?;
    if input.kind != SM {
        return Err(CUresult::INVALID_RESOURCE_TYPE.into());
    }
    let split = split(call.driver(), &input, request, wanted)?;
    let told = |resource: &CUdevResource| match resource.kind {
        SM => greens.told(resource),
        _ => Ok(Described::new_zeroed()),
    };
    let all = split.results.iter().chain([&split.remainder]);
    let resources = all.map(told).collect::<Result<Vec<_>, _>>()?;
    let groups: Vec<Group> = split.groups.iter().map(words).collect();
    call.reply(&reply::GpurunResourceSplit::new(split.made));
    call.reply_bytes(resources.as_bytes());
    call.reply_bytes(groups.as_bytes());
    Ok(())
}

/// The driver's resource for one that the client describes.
fn resource_of(call: &Call<'_>, described: &Described) -> Result<CUdevResource, CUresult> {
    let mut resource = match described.number.get() {
        0 => CUdevResource {
            kind: described.kind.get(),
            ..CUdevResource::default()
        },
        number => call.session.greens.resource(number)?,
    };
    if resource.kind == WORKQUEUE_CONFIG {
        let [device, limit, scope, ..] = described.words.map(U32::get);
        let ordinal = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
        call.session.devices.check(ordinal)?;
        resource.words[..3].copy_from_slice(&[device, limit, scope]);
    } else if described.number.get() == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(resource)
}

/// What resources a green context shall have.
pub(crate) fn gpurunResourceDescribe(
    call: &mut Call<'_>,
    request: &request::GpurunResourceDescribe,
    resources: &[u8],
) -> Result<(), CallError> {
    let described = <[Described]>::ref_from_bytes(resources)
        .map_err(|_| CallError::Violation("resources of another size"))?;
    if described.is_empty() || described.len() > MAX_RESOURCES {
        return Err(CUresult::INVALID_VALUE.into());
    }
    let descriptors = &call.session.greens.descriptors;
    descriptors.check_free(request.desc())?;
    let resources = described.iter().map(|one| resource_of(call, one));
    let mut resources = resources.collect::<Result<Vec<_>, _>>()?;
    let (mut handle, count) = (CUdevResourceDesc(0), resources.len() as u32);
    cuda!(
        call.driver(),
        cuDevResourceGenerateDesc(&mut handle, resources.as_mut_ptr(), count)
    )?;
    Ok(descriptors.insert(request.desc(), handle)?)
}

/// A green context beside the current context, which is a primary one.
pub(crate) fn gpurunGreenCreate(
    call: &mut Call<'_>,
    request: &request::GpurunGreenCreate,
) -> Result<(), CallError> {
    let context = Arc::clone(call.context()?);
    if !context.is_primary() {
        return Err(CUresult::INVALID_CONTEXT.into());
    }
    let greens = &call.session.greens;
    greens.contexts.check_free(request.green())?;
    let desc = greens.descriptors.get(request.desc());
    let desc = desc.ok_or(CUresult::INVALID_VALUE)?;
    let (driver, mut handle) = (call.driver(), CUgreenCtx(0));
    cuda!(
        driver,
        cuGreenCtxCreate(&mut handle, desc, context.device, request.flags())
    )?;
    let green = Green {
        handle,
        context: context.serial,
    };
    let stored = greens.contexts.insert(request.green(), green);
    stored.inspect_err(|_| destroy(driver, handle))?;
    // Its primary context may have ended meanwhile, and its green ones, of which this was none yet.
    if !context.is_alive()
        && let Some(green) = greens.contexts.remove(request.green())
    {
        destroy(driver, green.handle);
        return Err(CUresult::INVALID_CONTEXT.into());
    }
    Ok(())
}

/// The end of a green context.
pub(crate) fn gpurunGreenDestroy(
    call: &mut Call<'_>,
    request: &request::GpurunGreenDestroy,
) -> Result<(), CallError> {
    let green = call.session.greens.contexts.remove(request.green());
    let green = green.ok_or(CUresult::INVALID_CONTEXT)?;
    Ok(cuda!(call.driver(), cuGreenCtxDestroy(green.handle))?)
}

/// A stream in a green context, named by the client.
pub(crate) fn gpurunGreenStreamCreate(
    call: &mut Call<'_>,
    request: &request::GpurunGreenStreamCreate,
) -> Result<(), CallError> {
    let (id, green) = (request.stream(), request.green());
    let green = call.session.greens.green(green)?;
    // Its streams end with its own primary context.
    if green.context != call.context()?.serial {
        return Err(CUresult::INVALID_CONTEXT.into());
    }
    stream::check_new(call, id)?;
    let mut handle = CUstream(0);
    cuda!(
        call.driver(),
        cuGreenCtxStreamCreate(
            &mut handle,
            green.handle,
            request.flags(),
            request.priority()
        )
    )?;
    stream::name(call, id, handle)
}
