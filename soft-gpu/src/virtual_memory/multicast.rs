//! Multicast objects: memory of several devices under one address, for the instructions `multimem`.
//!
//! ```text
//!  cuMulticastCreate ─ cuMulticastAddDevice, for each ─▶ the team ─ cuMulticastBindMem, for each ─▶ bindings
//!                                     └─ cuMemMap ─ cuMemSetAccess ─▶ addresses, which mean the memory that is bound there on every device
//! ```
//!
//! *What:* an [`Object`] is this process's side of what processes share ([`team`]). Memory that is bound, by whomever, is mapped here once more, where nobody is told: that is what
//! kernels get for the object's addresses. *Rules:* those addresses themselves are no memory: only `multimem` uses them, everything else finds an illegal address or is refused. Where not every device
//! of the team has memory bound, they are illegal to `multimem` too. What this process has bound stays, and stays charged, until it is unbind or the process has given up the object.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod team;

use core::ffi::c_ulonglong;
use std::os::fd::{AsFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver_api::abi::{
    CUdevice, CUdeviceptr, CUmemGenericAllocationHandle, CUmulticastGranularity_flags,
    CUmulticastObjectProp, CUresult,
};

use crate::config::MAX_DEVICES;
use crate::entry::{answer, done};
use crate::exec::{self, Held};
use crate::log::warn;
use crate::memory::map::{GRANULARITY, Mapping, Piece};
use crate::memory::space::{Kind, Region};
use crate::state::{Driver, driver};
use crate::threads::lock;

use super::{HANDLE_POSIX_FD, Physical};
use team::{Binding, Team};

/// The first compute capability whose devices have them.
const FIRST_CAPABILITY: u32 = 90;
/// `CU_MULTICAST_GRANULARITY_RECOMMENDED`, the last.
const LAST_GRANULARITY: CUmulticastGranularity_flags = 1;

/// Whether the devices can do it: `MULTICAST_SUPPORTED`.
pub(crate) fn multicasts_are_supported(driver: &Driver) -> bool {
    driver.config.devices() > 1 && driver.config.capability.sm() >= FIRST_CAPABILITY
}

/// A multicast object.
#[derive(Debug)]
pub(crate) struct Object {
    team: Team,
    /// Its handle, and how often that has to be released.
    pub(crate) number: usize,
    pub(crate) handles: Mutex<usize>,
    view: Mutex<View>,
    /// What this process has bound.
    own: Mutex<Vec<Own>>,
}

/// What is bound, as it was when it was last looked at.
#[derive(Debug, Default)]
struct View {
    generation: u64,
    bound: Vec<Arc<Bound>>,
}

/// Memory that is bound, mapped.
#[derive(Debug)]
struct Bound {
    binding: Binding,
    mapping: Mapping,
}

/// What this process has bound, by its name.
#[derive(Debug)]
struct Own {
    name: u64,
    device: usize,
    memory: Option<Memory>,
}

#[derive(Debug)]
enum Memory {
    #[expect(dead_code, reason = "held, so that the memory stays")]
    Physical(Arc<Physical>),
    Piece(Arc<Piece>),
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(Memory::Piece(piece)) = self.memory.take()
            && let Ok(driver) = driver()
        {
            driver.memory.let_go(driver, self.device, piece);
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let own: Vec<u64> = self.own_mut().drain(..).map(|own| own.name).collect();
        if !own.is_empty()
            && let Err(error) = self.team.unbind(|binding| own.contains(&binding.name))
        {
            warn(&format!(
                "memory stays bound to a multicast object: error {}",
                error.0
            ));
        }
    }
}

/// Memory that is to be bound: of a device, in a file.
struct Wanted {
    device: usize,
    file: OwnedFd,
    start: u64,
    memory: Memory,
    is_exportable: bool,
}

impl Object {
    fn new(team: Team, number: usize) -> Arc<Self> {
        Arc::new(Self {
            team,
            number,
            handles: Mutex::new(1),
            view: Mutex::default(),
            own: Mutex::default(),
        })
    }

    fn own_mut(&mut self) -> &mut Vec<Own> {
        self.own
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn size(&self) -> u64 {
        self.team.size()
    }

    /// Blocks until all devices are in the team, as binding and mapping do.
    pub(crate) fn wait_for_team(&self) {
        while !self.team.is_complete() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has(&self, device: usize) -> Result<u64, CUresult> {
        let number = crate::device::number(device) as u64;
        let is_member = self.team.members().any(|member| member == number);
        is_member.then_some(number).ok_or(CUresult::INVALID_DEVICE)
    }

    fn check(&self, offset: u64, size: u64) -> Result<(), CUresult> {
        let is_granular = size > 0 && (offset | size).is_multiple_of(GRANULARITY);
        let end = offset.checked_add(size);
        let is_inside = end.is_some_and(|end| end <= self.size());
        (is_granular && is_inside)
            .then_some(())
            .ok_or(CUresult::INVALID_VALUE)
    }

    fn bind(&self, (offset, size): (u64, u64), wanted: Wanted) -> Result<(), CUresult> {
        let device = self.has(wanted.device)?;
        if self.team.handle_types() != 0 && !wanted.is_exportable {
            return Err(CUresult::INVALID_VALUE);
        }
        let binding = Binding {
            name: 0,
            device,
            offset,
            size,
            start: wanted.start,
        };
        let name = self.team.bind(binding, wanted.file.as_fd())?;
        lock(&self.own).push(Own {
            name,
            device: wanted.device,
            memory: Some(wanted.memory),
        });
        Ok(())
    }

    fn unbind(&self, device: usize, offset: u64, size: u64) -> Result<(), CUresult> {
        let place = (self.has(device)?, offset, size);
        // What is bound goes whole.
        let is_it = |known: &Binding| (known.device, known.offset, known.size) == place;
        match self.team.unbind(is_it)? {
            true => {
                self.refresh()?;
                Ok(())
            }
            false => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Looks at what is bound, if that has changed; whether it has.
    pub(crate) fn refresh(&self) -> Result<bool, CUresult> {
        let mut view = lock(&self.view);
        if view.generation == self.team.generation() {
            return Ok(false);
        }
        // Each file is closed before the next is opened: a program may have few descriptors left.
        let (generation, bindings) = self.team.bindings(|binding, file| {
            let known = view.bound.iter().find(|known| known.binding == *binding);
            match known {
                Some(known) => Ok(Arc::clone(known)),
                None => map(*binding, &file).map(Arc::new),
            }
        })?;
        lock(&self.own).retain(|own| bindings.iter().any(|(known, _)| known.name == own.name));
        let mut bound = Vec::new();
        for (_, known) in bindings {
            match known {
                Ok(known) => bound.push(known),
                Err(error) => warn(&format!(
                    "memory bound to a multicast object cannot be mapped: error {}",
                    error.0
                )),
            }
        }
        *view = View { generation, bound };
        Ok(true)
    }

    /// What an object that is mapped at `base` means there, for every part for which all devices have memory.
    pub(crate) fn teams_at(&self, base: u64) -> Vec<exec::Team> {
        let view = lock(&self.view);
        let mut cuts: Vec<u64> = Vec::new();
        for bound in &view.bound {
            cuts.extend([bound.binding.offset, bound.binding.end()]);
        }
        cuts.sort_unstable();
        cuts.dedup();
        let parts = cuts.windows(2).map(|cut| (cut[0], cut[1]));
        let parts = parts.filter(|(_, end)| *end <= self.size());
        parts
            .filter_map(|(start, end)| self.team_of(&view, base, start..end))
            .collect()
    }

    fn team_of(&self, view: &View, base: u64, part: std::ops::Range<u64>) -> Option<exec::Team> {
        let mut team = exec::Team {
            range: base + part.start..base + part.end,
            copies: Vec::new(),
            held: Vec::new(),
        };
        for member in self.team.members() {
            let holds = |bound: &&Arc<Bound>| {
                let binding = bound.binding;
                binding.device == member
                    && binding.offset <= part.start
                    && part.end <= binding.end()
            };
            let bound = view.bound.iter().find(holds)?;
            let copy = bound.mapping.base() + (part.start - bound.binding.offset);
            team.copies.push(copy);
            team.held.push(Arc::clone(bound) as Arc<dyn Held>);
        }
        (!team.copies.is_empty()).then_some(team)
    }

    /// A descriptor for other processes.
    pub(crate) fn export(&self) -> Result<RawFd, CUresult> {
        if self.team.handle_types() & u64::from(HANDLE_POSIX_FD) == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(self.team.descriptor()?.into_raw_fd())
    }
}

/// Maps memory that is bound, which another process may have made.
fn map(binding: Binding, file: &OwnedFd) -> Result<Bound, CUresult> {
    let length = rustix::fs::fstat(file).map_err(|_| CUresult::INVALID_VALUE)?;
    let length = u64::try_from(length.st_size).map_err(|_| CUresult::INVALID_VALUE)?;
    if binding
        .start
        .checked_add(binding.size)
        .is_none_or(|end| end > length)
    {
        return Err(CUresult::INVALID_VALUE);
    }
    let mapping = Mapping::reserve(binding.size, GRANULARITY)?;
    mapping.place((mapping.base(), binding.size), file, binding.start)?;
    Ok(Bound { binding, mapping })
}

/// The object of a descriptor of another process's, or of this one's.
pub(super) fn import(
    driver: &Driver,
    file: OwnedFd,
) -> Result<CUmemGenericAllocationHandle, CUresult> {
    let team = Team::of(file)?;
    let number = driver.multicasts.reserve();
    driver.multicasts.insert(number, Object::new(team, number));
    Ok(number as CUmemGenericAllocationHandle)
}

fn find(handle: CUmemGenericAllocationHandle) -> Result<Arc<Object>, CUresult> {
    let found = driver()?.multicasts.get(handle as usize);
    found.map_err(|_| CUresult::INVALID_VALUE)
}

/// Properties that the devices can fulfil.
///
/// # Safety
///
/// `properties` is null or points to properties.
unsafe fn check(
    driver: &Driver,
    properties: *const CUmulticastObjectProp,
) -> Result<CUmulticastObjectProp, CUresult> {
    if properties.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let properties = unsafe { properties.read_unaligned() };
    if !multicasts_are_supported(driver) {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let is_team = (1..=MAX_DEVICES).contains(&(properties.num_devices as usize));
    if !is_team || properties.flags != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    match properties.handle_types & !u64::from(HANDLE_POSIX_FD) {
        0 => Ok(properties),
        _ => Err(CUresult::NOT_SUPPORTED),
    }
}

pub(crate) unsafe fn cuMulticastGetGranularity(
    granularity: *mut usize,
    prop: *const CUmulticastObjectProp,
    option: CUmulticastGranularity_flags,
) -> CUresult {
    let ask = || {
        // SAFETY: the caller passes properties.
        unsafe { check(driver()?, prop)? };
        match option <= LAST_GRANULARITY {
            true => Ok(GRANULARITY as usize),
            false => Err(CUresult::INVALID_VALUE),
        }
    };
    // SAFETY: the caller passes a place for a size.
    unsafe { answer(granularity, ask()) }
}

pub(crate) unsafe fn cuMulticastCreate(
    mc_handle: *mut CUmemGenericAllocationHandle,
    prop: *const CUmulticastObjectProp,
) -> CUresult {
    let create = || {
        let driver = driver()?;
        // SAFETY: the caller passes properties.
        let properties = unsafe { check(driver, prop)? };
        let size = properties.size as u64;
        if mc_handle.is_null() || size == 0 || !size.is_multiple_of(GRANULARITY) {
            return Err(CUresult::INVALID_VALUE);
        }
        let team = Team::new(properties.num_devices, size, properties.handle_types)?;
        let number = driver.multicasts.reserve();
        driver.multicasts.insert(number, Object::new(team, number));
        Ok(number as CUmemGenericAllocationHandle)
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(mc_handle, create()) }
}

pub(crate) unsafe fn cuMulticastAddDevice(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
) -> CUresult {
    let add = || {
        let object = find(mc_handle)?;
        let device = driver()?.device(dev)?;
        object.team.add(crate::device::number(device) as u64)
    };
    done(add())
}

/// Binds memory for its device, which is the one that is named, if one is.
fn bind_memory(
    (mc_handle, device, mc_offset): (CUmemGenericAllocationHandle, Option<CUdevice>, usize),
    (mem_handle, mem_offset): (CUmemGenericAllocationHandle, usize),
    size: usize,
    flags: c_ulonglong,
) -> Result<(), CUresult> {
    let (object, driver) = (find(mc_handle)?, driver()?);
    let device = device.map(|device| driver.device(device)).transpose()?;
    let physical = driver.physical.get(mem_handle as usize);
    let physical = physical.map_err(|_| CUresult::INVALID_VALUE)?;
    object.check(mc_offset as u64, size as u64)?;
    let end = (mem_offset as u64).checked_add(size as u64);
    let is_inside = end.is_some_and(|end| end <= physical.size());
    let is_its = device.is_none_or(|device| device == physical.device());
    if flags != 0 || !is_inside || !is_its || !(mem_offset as u64).is_multiple_of(GRANULARITY) {
        return Err(CUresult::INVALID_VALUE);
    }
    object.wait_for_team();
    let wanted = of_physical(&physical, mem_offset as u64)?;
    object.bind((mc_offset as u64, size as u64), wanted)
}

fn of_physical(physical: &Arc<Physical>, start: u64) -> Result<Wanted, CUresult> {
    Ok(Wanted {
        device: physical.device(),
        file: physical.file()?,
        start,
        is_exportable: physical.is_exportable(),
        memory: Memory::Physical(Arc::clone(physical)),
    })
}

/// The memory at an address: of `cuMemCreate`, or of a pool.
fn at_address(driver: &Driver, address: u64, size: u64) -> Result<Wanted, CUresult> {
    let region = driver.memory.space().find(address).cloned();
    let region: Region = region.ok_or(CUresult::INVALID_VALUE)?;
    let offset = address - region.base;
    match &region.kind {
        Kind::Mapped { physical, .. } if size <= region.size - offset => {
            of_physical(physical, offset)
        }
        Kind::Large(piece) if region.pool != 0 && size <= region.size - offset => {
            let place = piece.place();
            Ok(Wanted {
                device: region.device,
                file: driver
                    .memory
                    .file_of(region.device)
                    .ok_or(CUresult::OUT_OF_MEMORY)?,
                start: place.offset + (address - place.base),
                is_exportable: crate::pool::is_exportable(driver, region.pool),
                memory: Memory::Piece(Arc::clone(piece)),
            })
        }
        _ => Err(CUresult::INVALID_VALUE),
    }
}

fn bind_address(
    (mc_handle, device, mc_offset): (CUmemGenericAllocationHandle, Option<CUdevice>, usize),
    memptr: CUdeviceptr,
    size: usize,
    flags: c_ulonglong,
) -> Result<(), CUresult> {
    let (object, driver) = (find(mc_handle)?, driver()?);
    let device = device.map(|device| driver.device(device)).transpose()?;
    object.check(mc_offset as u64, size as u64)?;
    if flags != 0 || !memptr.is_multiple_of(GRANULARITY) {
        return Err(CUresult::INVALID_VALUE);
    }
    let is_its = |wanted: &Wanted| device.is_none_or(|device| device == wanted.device);
    // What is wrong is told at once.
    drop(at_address(driver, memptr, size as u64)?);
    object.wait_for_team();
    let wanted = Some(at_address(driver, memptr, size as u64)?).filter(is_its);
    object.bind(
        (mc_offset as u64, size as u64),
        wanted.ok_or(CUresult::INVALID_VALUE)?,
    )
}

pub(crate) unsafe fn cuMulticastBindMem(
    mc_handle: CUmemGenericAllocationHandle,
    mc_offset: usize,
    mem_handle: CUmemGenericAllocationHandle,
    mem_offset: usize,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    let object = (mc_handle, None, mc_offset);
    done(bind_memory(object, (mem_handle, mem_offset), size, flags))
}

pub(crate) unsafe fn cuMulticastBindMem_v2(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
    mc_offset: usize,
    mem_handle: CUmemGenericAllocationHandle,
    mem_offset: usize,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    let object = (mc_handle, Some(dev), mc_offset);
    done(bind_memory(object, (mem_handle, mem_offset), size, flags))
}

pub(crate) unsafe fn cuMulticastBindAddr(
    mc_handle: CUmemGenericAllocationHandle,
    mc_offset: usize,
    memptr: CUdeviceptr,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    done(bind_address(
        (mc_handle, None, mc_offset),
        memptr,
        size,
        flags,
    ))
}

pub(crate) unsafe fn cuMulticastBindAddr_v2(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
    mc_offset: usize,
    memptr: CUdeviceptr,
    size: usize,
    flags: c_ulonglong,
) -> CUresult {
    done(bind_address(
        (mc_handle, Some(dev), mc_offset),
        memptr,
        size,
        flags,
    ))
}

pub(crate) unsafe fn cuMulticastUnbind(
    mc_handle: CUmemGenericAllocationHandle,
    dev: CUdevice,
    mc_offset: usize,
    size: usize,
) -> CUresult {
    let unbind = || {
        let object = find(mc_handle)?;
        let device = driver()?.device(dev)?;
        object.check(mc_offset as u64, size as u64)?;
        object.unbind(device, mc_offset as u64, size as u64)
    };
    done(unbind())
}
