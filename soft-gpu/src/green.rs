//! Green contexts: streams whose kernels run on some of the device's multiprocessors, which are threads of the pool.
//!
//! As a context a green one is the device's primary context, under a handle of its own; only what the null stream means, and where new streams belong,
//! follows from the handle. What a resource is made of is kept here under a number that stands in it.
//!
//! *Rules:* as of compute capability 8.0, parts are of two multiprocessors and more, unless they are asked for without being scheduled together. A stream
//! whose green context has ended can only be destroyed.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{c_int, c_uint};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use driver_api::abi::{
    CU_DEV_SM_RESOURCE_GROUP_PARAMS, CUcontext, CUdevResource, CUdevResourceDesc,
    CUdevResourceType, CUdevice, CUevent, CUgreenCtx, CUresult, CUstream,
};
use driver_api::dev_resource::{MAX_RESOURCES, SM, hidden, hide};

use crate::context::{self, Context, current_handle, unique_id};
use crate::entry::{answer, done};
use crate::event::{record_context, wait_context};
use crate::handles::{Kind, Registry};
use crate::state::{Driver, driver};
use crate::stream::{self, NON_BLOCKING, Stream, find};
use crate::threads::lock;

/// Multiprocessors that are scheduled together, and the smallest part.
const TOGETHER: usize = 2;

/// Some multiprocessors of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Resource {
    device: usize,
    multiprocessors: Vec<u32>,
    /// The split that it came from; 0 for none.
    split: u64,
}

/// What a green context shall have: as long as the process, as the driver promises.
#[derive(Debug)]
struct Descriptor {
    device: usize,
    multiprocessors: &'static [u32],
}

/// What was told of resources. The same question has the same answer, so that a program that asks again and again makes it no longer.
#[derive(Debug, Default)]
struct Told {
    resources: Vec<Resource>,
    numbers: HashMap<Resource, u32>,
    /// Of what was split, the sizes of its groups.
    splits: HashMap<(Resource, Vec<usize>), u64>,
}

impl Told {
    fn number(&mut self, resource: &Resource) -> u32 {
        if let Some(&number) = self.numbers.get(resource) {
            return number;
        }
        let number = self.resources.len() as u32;
        self.resources.push(resource.clone());
        self.numbers.insert(resource.clone(), number);
        number
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Greens {
    told: Mutex<Told>,
    descriptors: Registry<Descriptor>,
    greens: Registry<Green>,
    as_contexts: Registry<Green>,
}

impl Greens {
    pub(crate) fn new() -> Self {
        Self {
            told: Mutex::default(),
            descriptors: Registry::new(Kind::Descriptor),
            greens: Registry::new(Kind::Green),
            as_contexts: Registry::new(Kind::GreenContext),
        }
    }

    /// A resource as the program gets it.
    fn tell(&self, resource: &Resource) -> CUdevResource {
        if resource.multiprocessors.is_empty() {
            return CUdevResource::default();
        }
        let number = lock(&self.told).number(resource);
        let mut told = CUdevResource {
            kind: SM,
            ..CUdevResource::default()
        };
        let count = resource.multiprocessors.len() as u32;
        told.words[..3].copy_from_slice(&[count, TOGETHER as u32, TOGETHER as u32]);
        hide(&mut told, &[number]);
        told
    }

    fn find(&self, told: &CUdevResource) -> Result<Resource, CUresult> {
        if told.kind != SM {
            return Err(CUresult::INVALID_RESOURCE_TYPE);
        }
        let [number] = hidden(told).ok_or(CUresult::INVALID_VALUE)?;
        let told = lock(&self.told);
        let found = told.resources.get(number as usize);
        found.cloned().ok_or(CUresult::INVALID_VALUE)
    }

    /// Cuts groups of such sizes off a resource, in order: they, and what is left.
    fn split(&self, input: Resource, sizes: Vec<usize>) -> (Vec<Resource>, Resource) {
        // Where the input came from makes no other split of it.
        let mut rest = Resource { split: 0, ..input };
        let key = (rest.clone(), sizes);
        let mut told = lock(&self.told);
        let split = match told.splits.get(&key) {
            Some(&split) => split,
            None => *told.splits.entry(key.clone()).or_insert(unique_id()),
        };
        drop(told);
        rest.split = split;
        let group = |size: &usize| Resource {
            multiprocessors: rest.multiprocessors.drain(..*size).collect(),
            ..rest
        };
        let groups = key.1.iter().map(group).collect();
        (groups, rest)
    }
}

/// A green context.
#[derive(Debug)]
pub(crate) struct Green {
    handle: usize,
    id: u64,
    primary: Arc<Context>,
    multiprocessors: &'static [u32],
    as_context: usize,
    /// What the null stream means in it.
    default: OnceLock<Arc<Stream>>,
}

impl Green {
    fn make(&self, priority: c_int) -> Result<Arc<Stream>, CUresult> {
        let own = (self.handle, self.multiprocessors);
        stream::make(&self.primary, Some(own), NON_BLOCKING, priority)
    }

    pub(crate) fn make_stream(&self, priority: c_int) -> Result<CUstream, CUresult> {
        self.primary.fate.status()?;
        Ok(CUstream(self.make(priority)?.handle))
    }

    pub(crate) fn default_stream(&self) -> Result<Arc<Stream>, CUresult> {
        if let Some(stream) = self.default.get() {
            return Ok(Arc::clone(stream));
        }
        // Two threads may make one each: the second goes again.
        let made = self.make(0)?;
        let stream = self.default.get_or_init(|| Arc::clone(&made));
        if !Arc::ptr_eq(stream, &made) {
            self.forget(&made);
        }
        Ok(Arc::clone(stream))
    }

    /// Lets go of an idle stream that the program never had.
    fn forget(&self, stream: &Arc<Stream>) {
        if let Ok(driver) = driver() {
            // It is there: no function of the program's takes it away.
            let _ = driver.streams.remove(stream.handle);
        }
        self.primary.disown(stream);
    }

    /// It has ended: the program's streams can only be destroyed, and its own go.
    fn detach(&self) {
        self.primary.detach(self.handle);
        if let Some(stream) = self.default.get() {
            self.forget(stream);
        }
    }

    fn resource(&self) -> Resource {
        Resource {
            device: self.primary.device,
            multiprocessors: self.multiprocessors.to_vec(),
            split: 0,
        }
    }
}

/// The green context that a context's handle stands for.
fn standing_for(handle: usize) -> Option<Arc<Green>> {
    let greens = &driver().ok()?.greens;
    match greens.as_contexts.owns(handle) {
        true => greens.as_contexts.get(handle).ok(),
        false => None,
    }
}

/// The green context that is current as a context.
pub(crate) fn current() -> Option<Arc<Green>> {
    standing_for(current_handle())
}

/// The handle of the green context that a context stands for; 0 for none.
pub(crate) fn of_context(context: CUcontext) -> usize {
    standing_for(context.0).map_or(0, |green| green.handle)
}

/// The id of a context that may stand for a green one.
pub(crate) fn id_of(context: CUcontext, id: u64) -> u64 {
    let handle = match context.0 {
        0 => current_handle(),
        handle => handle,
    };
    standing_for(handle).map_or(id, |green| green.id)
}

/// A primary context has ended, and its green ones with it.
pub(crate) fn context_destroyed(driver: &Driver, context: usize) {
    let its = |green: &Green| green.primary.handle == context;
    driver.greens.greens.remove_if(its);
    for green in driver.greens.as_contexts.remove_if(its) {
        driver_api::private_tables::context_destroyed(green.as_context);
        // It stood beside the primary one, whatever has become of that.
        let _ = driver.contexts.remove(green.as_context);
    }
}

fn green(handle: CUgreenCtx) -> Result<Arc<Green>, CUresult> {
    let found = driver()?.greens.greens.get(handle.0);
    found.map_err(|_| CUresult::INVALID_CONTEXT)
}

fn whole_device(driver: &Driver, device: usize) -> Resource {
    Resource {
        device,
        multiprocessors: (0..driver.config.threads as u32).collect(),
        split: 0,
    }
}

/// A resource of this kind; there are no others than multiprocessors.
fn told(
    resource: impl FnOnce(&Driver) -> Result<Resource, CUresult>,
    kind: CUdevResourceType,
) -> Result<CUdevResource, CUresult> {
    let driver = driver()?;
    let resource = resource(driver)?;
    match kind {
        SM => Ok(driver.greens.tell(&resource)),
        _ => Err(CUresult::INVALID_RESOURCE_TYPE),
    }
}

pub(crate) unsafe fn cuDeviceGetDevResource(
    dev: CUdevice,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    let of_device = |driver: &Driver| Ok(whole_device(driver, driver.device(dev)?));
    // SAFETY: the caller passes a place for a resource.
    unsafe { answer(result, told(of_device, kind)) }
}

pub(crate) unsafe fn cuCtxGetDevResource(
    ctx: CUcontext,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    let of_context = |driver: &Driver| {
        let found = driver.contexts.get(ctx.0);
        let context = found.map_err(|_| CUresult::INVALID_CONTEXT)?;
        let green = standing_for(ctx.0);
        Ok(green.map_or_else(
            || whole_device(driver, context.device),
            |green| green.resource(),
        ))
    };
    // SAFETY: the caller passes a place for a resource.
    unsafe { answer(result, told(of_context, kind)) }
}

pub(crate) unsafe fn cuGreenCtxGetDevResource(
    ctx: CUgreenCtx,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    // SAFETY: the caller passes a place for a resource.
    unsafe { answer(result, told(|_| Ok(green(ctx)?.resource()), kind)) }
}

pub(crate) unsafe fn cuStreamGetDevResource(
    stream: CUstream,
    result: *mut CUdevResource,
    kind: CUdevResourceType,
) -> CUresult {
    let of_stream = |driver: &Driver| {
        let (context, stream) = find(stream)?;
        let mut resource = whole_device(driver, context.device);
        if let Some(own) = stream.multiprocessors() {
            resource.multiprocessors = own.to_vec();
        }
        Ok(resource)
    };
    // SAFETY: the caller passes a place for a resource.
    unsafe { answer(result, told(of_stream, kind)) }
}

/// How large the equal groups of a split are.
fn equal_size(input: &Resource, flags: c_uint, least: c_uint) -> Result<usize, CUresult> {
    /// `CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING` and `…_MAX_POTENTIAL_CLUSTER_SIZE`, which is about clusters.
    const APART: c_uint = 1;
    const CLUSTERS: c_uint = 2;
    let least = least as usize;
    if flags & !(APART | CLUSTERS) != 0 || least > input.multiprocessors.len() {
        return Err(CUresult::INVALID_VALUE);
    }
    let unit = match flags & APART {
        0 => TOGETHER,
        _ => 1,
    };
    Ok(least.max(1).next_multiple_of(unit))
}

/// # Safety
/// `results` is null or has room for as many, `remainder` is null or can be written.
unsafe fn give(
    greens: &Greens,
    results: *mut CUdevResource,
    remainder: *mut CUdevResource,
    groups: &[Resource],
    rest: &Resource,
) {
    if !results.is_null() {
        for (index, group) in groups.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { results.add(index).write(greens.tell(group)) };
        }
    }
    if !remainder.is_null() {
        // SAFETY: the caller's promise.
        unsafe { remainder.write(greens.tell(rest)) };
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
    let split = || {
        if nb_groups.is_null() || input.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let greens = &driver()?.greens;
        // SAFETY: not null, and the caller passes a number and a resource.
        let (wanted, input) = unsafe { (nb_groups.read() as usize, greens.find(&*input)?) };
        let size = equal_size(&input, use_flags, min_count)?;
        let possible = input.multiprocessors.len() / size;
        if possible == 0 {
            return Err(CUresult::INVALID_RESOURCE_CONFIGURATION);
        }
        let made = match result.is_null() {
            true => possible,
            false if wanted == 0 => return Err(CUresult::INVALID_VALUE),
            false => possible.min(wanted),
        };
        let (groups, rest) = greens.split(input, vec![size; made]);
        // SAFETY: the array has as many as the program says, and there are no more.
        unsafe {
            give(greens, result, remaining, &groups, &rest);
            nb_groups.write(made as c_uint);
        }
        Ok(())
    };
    done(split())
}

/// How many multiprocessors a group gets of what is left; 0 in what is wanted asks for all.
fn size_of_group(
    wanted: &CU_DEV_SM_RESOURCE_GROUP_PARAMS,
    left: usize,
    all: usize,
) -> Result<usize, CUresult> {
    const BACKFILL: c_uint = 1;
    let (count, unit) = (
        wanted.sm_count as usize,
        wanted.coscheduled_sm_count as usize,
    );
    let fills = wanted.flags & BACKFILL != 0;
    let is_unit = unit == 0 || unit == TOGETHER;
    let is_count = count == 0 || (TOGETHER..=all).contains(&count);
    if !is_unit || !is_count || wanted.flags & !BACKFILL != 0 || wanted.rest != [0; 12] {
        return Err(CUresult::INVALID_VALUE);
    }
    if !count.is_multiple_of(TOGETHER) && !fills {
        return Err(CUresult::INVALID_VALUE);
    }
    match count {
        0 if fills => Ok(left),
        0 => Ok(left / TOGETHER * TOGETHER),
        count if count > left => Err(CUresult::INVALID_RESOURCE_CONFIGURATION),
        count => Ok(count),
    }
}

pub(crate) unsafe fn cuDevSmResourceSplit(
    result: *mut CUdevResource,
    nb_groups: c_uint,
    input: *const CUdevResource,
    remainder: *mut CUdevResource,
    flags: c_uint,
    group_params: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
) -> CUresult {
    let split = || {
        let count = nb_groups as usize;
        let is_wrong = input.is_null() || group_params.is_null() || flags != 0;
        if is_wrong || count == 0 || count > MAX_RESOURCES {
            return Err(CUresult::INVALID_VALUE);
        }
        let greens = &driver()?.greens;
        // SAFETY: not null, and the caller passes a resource.
        let input = greens.find(unsafe { &*input })?;
        let all = input.multiprocessors.len();
        let (mut sizes, mut left) = (Vec::with_capacity(count), all);
        for index in 0..count {
            // SAFETY: not null, and the caller passes `count` of them.
            let params = unsafe { group_params.add(index) };
            // SAFETY: as above.
            let size = size_of_group(&unsafe { params.read() }, left, all)?;
            if size < TOGETHER && !result.is_null() {
                return Err(CUresult::INVALID_RESOURCE_CONFIGURATION);
            }
            sizes.push(size);
            left -= size;
        }
        for (index, size) in sizes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { (*group_params.add(index)).sm_count = *size as c_uint };
        }
        let (groups, rest) = greens.split(input, sizes);
        // SAFETY: the array has as many as the program says.
        unsafe { give(greens, result, remainder, &groups, &rest) };
        Ok(())
    };
    done(split())
}

/// All multiprocessors of resources that can be together: of one device, and if there are several, of one split.
fn joined(greens: &Greens, told: &[CUdevResource]) -> Result<Resource, CUresult> {
    let mut parts = told.iter().map(|told| greens.find(told));
    let mut all = parts.next().ok_or(CUresult::INVALID_VALUE)??;
    for part in parts {
        let part = part?;
        let is_apart = |number: &u32| !all.multiprocessors.contains(number);
        let fits = part.device == all.device
            && part.split == all.split
            && part.split != 0
            && part.multiprocessors.iter().all(is_apart);
        if !fits {
            return Err(CUresult::INVALID_RESOURCE_CONFIGURATION);
        }
        all.multiprocessors.extend(part.multiprocessors);
    }
    Ok(all)
}

pub(crate) unsafe fn cuDevResourceGenerateDesc(
    desc: *mut CUdevResourceDesc,
    resources: *mut CUdevResource,
    nb_resources: c_uint,
) -> CUresult {
    let describe = || {
        let count = nb_resources as usize;
        if resources.is_null() || count == 0 || count > MAX_RESOURCES {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller passes as many.
        let told = unsafe { core::slice::from_raw_parts(resources, count) };
        let greens = &driver()?.greens;
        let all = joined(greens, told)?;
        let handle = greens.descriptors.reserve();
        let descriptor = Descriptor {
            device: all.device,
            multiprocessors: all.multiprocessors.leak(),
        };
        greens.descriptors.insert(handle, Arc::new(descriptor));
        Ok(CUdevResourceDesc(handle))
    };
    if desc.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a descriptor.
    unsafe { answer(desc, describe()) }
}

fn create(desc: CUdevResourceDesc, dev: CUdevice, flags: c_uint) -> Result<CUgreenCtx, CUresult> {
    /// `CU_GREEN_CTX_DEFAULT_STREAM`: there always is one.
    const DEFAULT_STREAM: c_uint = 1;
    let driver = driver()?;
    let device = driver.device(dev)?;
    let descriptor = driver.greens.descriptors.get(desc.0);
    let descriptor = descriptor.map_err(|_| CUresult::INVALID_VALUE)?;
    if flags & !DEFAULT_STREAM != 0 || descriptor.device != device {
        return Err(CUresult::INVALID_VALUE);
    }
    let primary = context::retain(dev)?;
    let primary = driver.contexts.get(primary.0)?;
    let greens = &driver.greens;
    let (handle, as_context) = (greens.greens.reserve(), greens.as_contexts.reserve());
    let green = Arc::new(Green {
        handle,
        id: unique_id(),
        multiprocessors: descriptor.multiprocessors,
        primary: Arc::clone(&primary),
        as_context,
        default: OnceLock::new(),
    });
    greens.greens.insert(handle, Arc::clone(&green));
    greens.as_contexts.insert(as_context, green);
    driver.contexts.insert(as_context, primary);
    Ok(CUgreenCtx(handle))
}

pub(crate) unsafe fn cuGreenCtxCreate(
    ctx: *mut CUgreenCtx,
    desc: CUdevResourceDesc,
    dev: CUdevice,
    flags: c_uint,
) -> CUresult {
    if ctx.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(ctx, create(desc, dev, flags)) }
}

pub(crate) unsafe fn cuGreenCtxDestroy(ctx: CUgreenCtx) -> CUresult {
    let destroy = || {
        let driver = driver()?;
        let removed = driver.greens.greens.remove(ctx.0);
        let green = removed.map_err(|_| CUresult::INVALID_CONTEXT)?;
        driver.greens.as_contexts.remove(green.as_context)?;
        driver.contexts.remove(green.as_context)?;
        driver_api::private_tables::context_destroyed(green.as_context);
        green.detach();
        context::release(green.primary.device as CUdevice)
    };
    done(destroy())
}

pub(crate) unsafe fn cuCtxFromGreenCtx(context: *mut CUcontext, ctx: CUgreenCtx) -> CUresult {
    let found = green(ctx).map(|green| CUcontext(green.as_context));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(context, found) }
}

pub(crate) unsafe fn cuGreenCtxGetId(green_ctx: CUgreenCtx, green_ctx_id: *mut u64) -> CUresult {
    let found = match green_ctx.0 {
        0 => current().ok_or(CUresult::INVALID_CONTEXT),
        _ => green(green_ctx),
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(green_ctx_id, found.map(|green| green.id)) }
}

pub(crate) unsafe fn cuGreenCtxStreamCreate(
    stream: *mut CUstream,
    green_ctx: CUgreenCtx,
    flags: c_uint,
    priority: c_int,
) -> CUresult {
    if stream.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let made = green(green_ctx).and_then(|green| match flags {
        NON_BLOCKING => green.make_stream(priority),
        _ => Err(CUresult::INVALID_VALUE),
    });
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(stream, made) }
}

pub(crate) unsafe fn cuGreenCtxRecordEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult {
    done(green(ctx).and_then(|green| record_context(&green.primary, green.handle, event)))
}

pub(crate) unsafe fn cuGreenCtxWaitEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult {
    done(green(ctx).and_then(|green| wait_context(&green.primary, green.handle, event)))
}

/// The null handle for a stream of none.
pub(crate) unsafe fn cuStreamGetGreenCtx(stream: CUstream, ctx: *mut CUgreenCtx) -> CUresult {
    let found = find(stream).map(|(_, stream)| CUgreenCtx(stream.green));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(ctx, found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Resource {
        Resource {
            device: 0,
            multiprocessors: (0..8).collect(),
            split: 0,
        }
    }

    #[test]
    fn the_same_split_again_and_splits_of_its_parts_add_nothing() {
        let greens = Greens::new();
        let sizes = || vec![4, 2];
        let (mut groups, rest) = greens.split(whole(), sizes());
        let told = |resource: &Resource| hidden::<1>(&greens.tell(resource)).expect("ours");
        let first = [&groups[0], &groups[1], &rest].map(told);
        assert_eq!(rest.multiprocessors, [6, 7]);
        assert_eq!(greens.find(&greens.tell(&rest)), Ok(rest.clone()));
        assert_ne!(greens.split(whole(), vec![4]).1.split, rest.split);
        for _ in 0..100 {
            let (again, left) = greens.split(whole(), sizes());
            assert_eq!([&again[0], &again[1], &left].map(told), first);
            // A part of a part, which is all of it.
            let input = groups.remove(0);
            groups = greens.split(input, vec![4]).0;
            told(&groups[0]);
        }
        let told = lock(&greens.told);
        assert_eq!((told.resources.len(), told.splits.len()), (4, 3));
    }
}
