//! Loads and stores.
//!
//! An access takes three steps: the lanes' addresses, made host addresses; their bounds against the memory that
//! they may touch; the transfer, whole where the lanes are neighbours. Device memory is checked against the
//! allocation that the same operation met last, then against the table; generic addresses in the windows of
//! shared and local memory are translated lane by lane.
//!
//! # Safety
//!
//! Host addresses are only dereferenced after [`place`] or [`locate`] found every active lane's access inside
//! an allocation, the block's shared memory, the warp's local memory or the parameter buffer. Device memory is
//! accessed through raw pointers only: a program whose threads race gets what the hardware gives.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::classify::{Bounds, Shape, classify};
use super::fault::FaultKind;
use super::op::Op;
use super::path::Path;
use super::rows::{Context, Handler, Isa, LANES, Lane, Operation, Outcome, handler};
use super::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES};

/// A kind of memory, as a type.
pub(crate) trait Memory {
    /// Host addresses of the active lanes of `op`, each good for `size` bytes, or a fault.
    ///
    /// # Safety
    ///
    /// Row `a` of `op` holds addresses of this kind.
    unsafe fn place<P: Isa>(
        context: &mut Context<'_>,
        op: &Op,
        addresses: &mut [u64; LANES],
        size: u64,
    ) -> Result<Bounds, Outcome>;
}

/// Device memory, or any memory by generic address.
pub(crate) struct Device;
/// Shared memory by 64-bit offset.
pub(crate) struct Shared;
/// Shared memory by 32-bit offset.
pub(crate) struct SharedShort;
/// Local memory by 64-bit offset.
pub(crate) struct Local;

impl Memory for Device {
    #[inline(always)]
    unsafe fn place<P: Isa>(
        context: &mut Context<'_>,
        op: &Op,
        addresses: &mut [u64; LANES],
        size: u64,
    ) -> Result<Bounds, Outcome> {
        // SAFETY: the decoder gave a wide row.
        let base: [u64; LANES] = unsafe { context.load(op.a) };
        for lane in 0..LANES {
            addresses[lane] = base[lane].wrapping_add(op.immediate as u64);
        }
        let bounds = classify::<P>(addresses, context.active, size);
        if bounds.union & (size - 1) != 0 {
            return Err(misaligned(context, addresses, size));
        }
        let end = bounds.high.wrapping_add(size);
        let cached = context.cache[op.link as usize];
        if bounds.low >= cached.0 && end <= cached.1 && bounds.low < end {
            return Ok(bounds);
        }
        refill(context, op, addresses, size, bounds)
    }
}

/// After a miss of the operation's cached allocation.
#[cold]
#[inline(never)]
fn refill(
    context: &mut Context<'_>,
    op: &Op,
    addresses: &mut [u64; LANES],
    size: u64,
    bounds: Bounds,
) -> Result<Bounds, Outcome> {
    if let Some(range) = context
        .allocations
        .find(bounds.low, bounds.high.wrapping_add(size))
    {
        context.cache[op.link as usize] = range;
        return Ok(bounds);
    }
    scattered(context, addresses, size)
}

/// Every lane on its own: several allocations, or windows of shared and local memory.
#[cold]
fn scattered(
    context: &mut Context<'_>,
    addresses: &mut [u64; LANES],
    size: u64,
) -> Result<Bounds, Outcome> {
    let mut bounds = Bounds {
        low: u64::MAX,
        high: 0,
        union: 0,
        shape: Shape::Scattered,
    };
    for (lane, address) in addresses.iter_mut().enumerate() {
        if context.active >> lane & 1 == 0 {
            continue;
        }
        let Some(host) = locate(context, lane, *address, size) else {
            return Err(context.fail(FaultKind::IllegalAddress, Some(*address)));
        };
        *address = host;
        bounds.low = bounds.low.min(host);
        bounds.high = bounds.high.max(host);
        bounds.union |= host;
    }
    if bounds.low == bounds.high {
        bounds.shape = Shape::Uniform;
    }
    Ok(bounds)
}

/// The host address of `size` bytes at a lane's generic address, if the lane may touch them.
pub(crate) fn locate(context: &Context<'_>, lane: usize, address: u64, size: u64) -> Option<u64> {
    let end = address.checked_add(size)?;
    let shared = address.wrapping_sub(SHARED_WINDOW);
    if shared < WINDOW_BYTES {
        return (shared + size <= context.shared_bytes).then(|| context.shared as u64 + shared);
    }
    let local = address.wrapping_sub(LOCAL_WINDOW);
    if local < WINDOW_BYTES {
        let start = context.local as u64 + lane as u64 * context.local_stride;
        return (local + size <= context.local_stride).then_some(start + local);
    }
    let in_params = address >= context.params.0 && end <= context.params.1;
    (in_params || context.allocations.find(address, end).is_some()).then_some(address)
}

#[cold]
#[inline(never)]
fn misaligned(context: &mut Context<'_>, addresses: &[u64; LANES], size: u64) -> Outcome {
    let wrong = (0..LANES)
        .find(|&lane| context.active >> lane & 1 != 0 && addresses[lane] & (size - 1) != 0);
    context.fail(FaultKind::Misaligned, wrong.map(|lane| addresses[lane]))
}

/// Checks shared-memory offsets in `addresses` and makes them host addresses.
#[inline(always)]
fn place_shared<P: Isa>(
    context: &mut Context<'_>,
    addresses: &mut [u64; LANES],
    size: u64,
) -> Result<Bounds, Outcome> {
    let base = context.shared as u64;
    for address in addresses.iter_mut() {
        *address += base;
    }
    let bounds = classify::<P>(addresses, context.active, size);
    // The block's memory starts at a multiple of the largest access.
    if bounds.union & (size - 1) != 0 {
        return Err(misaligned(context, addresses, size));
    }
    // Offsets are below 2^32 here, so that neither sum wraps.
    if bounds.high + size > base + context.shared_bytes {
        return Err(context.fail(
            FaultKind::IllegalAddress,
            Some(SHARED_WINDOW + (bounds.high - base)),
        ));
    }
    Ok(bounds)
}

impl Memory for Shared {
    #[inline(always)]
    unsafe fn place<P: Isa>(
        context: &mut Context<'_>,
        op: &Op,
        addresses: &mut [u64; LANES],
        size: u64,
    ) -> Result<Bounds, Outcome> {
        // SAFETY: the decoder gave a wide row.
        let base: [u64; LANES] = unsafe { context.load(op.a) };
        for lane in 0..LANES {
            // Shared addresses have 32 significant bits.
            addresses[lane] = base[lane].wrapping_add(op.immediate as u64) & u64::from(u32::MAX);
        }
        place_shared::<P>(context, addresses, size)
    }
}

impl Memory for SharedShort {
    #[inline(always)]
    unsafe fn place<P: Isa>(
        context: &mut Context<'_>,
        op: &Op,
        addresses: &mut [u64; LANES],
        size: u64,
    ) -> Result<Bounds, Outcome> {
        // SAFETY: the decoder gave a row of 32-bit lanes.
        let base: [u32; LANES] = unsafe { context.load(op.a) };
        for lane in 0..LANES {
            addresses[lane] = u64::from(base[lane].wrapping_add(op.immediate as u32));
        }
        place_shared::<P>(context, addresses, size)
    }
}

impl Memory for Local {
    #[inline(always)]
    unsafe fn place<P: Isa>(
        context: &mut Context<'_>,
        op: &Op,
        addresses: &mut [u64; LANES],
        size: u64,
    ) -> Result<Bounds, Outcome> {
        // SAFETY: the decoder gave a wide row.
        let base: [u64; LANES] = unsafe { context.load(op.a) };
        let (start, stride) = (context.local as u64, context.local_stride);
        let mut highest = 0;
        for lane in 0..LANES {
            let offset = base[lane].wrapping_add(op.immediate as u64) & u64::from(u32::MAX);
            let on = context.mask[lane] != 0;
            highest = if on && offset > highest {
                offset
            } else {
                highest
            };
            addresses[lane] = start + lane as u64 * stride + offset;
        }
        if highest + size > stride {
            return Err(context.fail(FaultKind::IllegalAddress, Some(LOCAL_WINDOW + highest)));
        }
        let bounds = classify::<P>(addresses, context.active, size);
        if bounds.union & (size - 1) != 0 {
            return Err(misaligned(context, addresses, size));
        }
        Ok(bounds)
    }
}

/// An element in memory, and the lane that holds it in a register.
pub(crate) trait Element: Copy {
    /// The register's lane.
    type Register: Lane;
    /// Into a register.
    fn widen(self) -> Self::Register;
    /// Into memory.
    fn narrow(register: Self::Register) -> Self;
}

macro_rules! elements {
    ($($memory:ty => $register:ty;)*) => { $(
        impl Element for $memory {
            type Register = $register;
            #[inline(always)]
            fn widen(self) -> $register {
                self as $register
            }
            #[inline(always)]
            fn narrow(register: $register) -> $memory {
                register as $memory
            }
        }
    )* };
}
elements! {
    u8 => u32;
    i8 => i32;
    u16 => u32;
    i16 => i32;
    u32 => u32;
    u64 => u64;
}

/// Neighbouring elements of eight lanes from lane `first`, if that is how they lie.
#[inline(always)]
fn is_run(addresses: &[u64; LANES], first: usize, size: u64) -> bool {
    let start = addresses[first];
    let mut steps = 0;
    for lane in 0..8 {
        steps |= addresses[first + lane] ^ start.wrapping_add(lane as u64 * size);
    }
    steps == 0
}

struct Load<M, T>(PhantomData<(M, T)>);
impl<M: Memory, T: Element> Operation for Load<M, T> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let size = size_of::<T>() as u64;
        let mut addresses = [0; LANES];
        // SAFETY: the decoder gave address and destination rows; `place` checks every address.
        unsafe {
            let bounds = match M::place::<P>(context, op, &mut addresses, size) {
                Ok(bounds) => bounds,
                Err(outcome) => return outcome,
            };
            let mut lanes = [T::Register::default(); LANES];
            match bounds.shape {
                Shape::Contiguous => {
                    let elements = (bounds.low as *const [T; LANES]).read();
                    for lane in 0..LANES {
                        lanes[lane] = elements[lane].widen();
                    }
                }
                Shape::Uniform => lanes = [(bounds.low as *const T).read().widen(); LANES],
                Shape::Scattered if context.active == u32::MAX => {
                    gather::<T>(&addresses, &mut lanes)
                }
                Shape::Scattered => {
                    for lane in 0..LANES {
                        if context.active >> lane & 1 != 0 {
                            lanes[lane] = (addresses[lane] as *const T).read().widen();
                        }
                    }
                }
            }
            context.store(op.d, lanes);
        }
        Outcome::Continue
    }
}

/// Loads all lanes, eight at a time where eight are neighbours.
///
/// # Safety
///
/// Every address is good for a `T`.
#[inline(always)]
unsafe fn gather<T: Element>(addresses: &[u64; LANES], lanes: &mut [T::Register; LANES]) {
    for first in (0..LANES).step_by(8) {
        // SAFETY: the caller's promise.
        unsafe {
            if is_run(addresses, first, size_of::<T>() as u64) {
                let elements = (addresses[first] as *const [T; 8]).read();
                for lane in 0..8 {
                    lanes[first + lane] = elements[lane].widen();
                }
            } else {
                for lane in first..first + 8 {
                    lanes[lane] = (addresses[lane] as *const T).read().widen();
                }
            }
        }
    }
}

struct Store<M, T>(PhantomData<(M, T)>);
impl<M: Memory, T: Element> Operation for Store<M, T> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let size = size_of::<T>() as u64;
        let mut addresses = [0; LANES];
        // SAFETY: the decoder gave address and source rows; `place` checks every address.
        unsafe {
            let bounds = match M::place::<P>(context, op, &mut addresses, size) {
                Ok(bounds) => bounds,
                Err(outcome) => return outcome,
            };
            let lanes: [T::Register; LANES] = context.load(op.b);
            if bounds.shape == Shape::Contiguous {
                let mut elements = [T::narrow(lanes[0]); LANES];
                for lane in 1..LANES {
                    elements[lane] = T::narrow(lanes[lane]);
                }
                (bounds.low as *mut [T; LANES]).write(elements);
                return Outcome::Continue;
            }
            for lane in 0..LANES {
                if context.active >> lane & 1 != 0 {
                    (addresses[lane] as *mut T).write(T::narrow(lanes[lane]));
                }
            }
        }
        Outcome::Continue
    }
}

struct LoadVector<M, T>(PhantomData<(M, T)>);
impl<M: Memory, T: Element> Operation for LoadVector<M, T> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let count = usize::from(op.count).min(4);
        let mut addresses = [0; LANES];
        // SAFETY: the decoder gave address and destination rows; `place` checks every address.
        unsafe {
            let size = (size_of::<T>() * count) as u64;
            let bounds = match M::place::<P>(context, op, &mut addresses, size) {
                Ok(bounds) => bounds,
                Err(outcome) => return outcome,
            };
            for element in 0..count {
                let mut lanes = [T::Register::default(); LANES];
                if bounds.shape == Shape::Uniform {
                    lanes = [(bounds.low as *const T).add(element).read().widen(); LANES];
                } else {
                    for lane in 0..LANES {
                        if context.active >> lane & 1 != 0 {
                            lanes[lane] = (addresses[lane] as *const T).add(element).read().widen();
                        }
                    }
                }
                context.store(op.extra[element], lanes);
            }
        }
        Outcome::Continue
    }
}

struct StoreVector<M, T>(PhantomData<(M, T)>);
impl<M: Memory, T: Element> Operation for StoreVector<M, T> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let count = usize::from(op.count).min(4);
        let mut addresses = [0; LANES];
        // SAFETY: the decoder gave address and source rows; `place` checks every address.
        unsafe {
            let size = (size_of::<T>() * count) as u64;
            if let Err(outcome) = M::place::<P>(context, op, &mut addresses, size) {
                return outcome;
            }
            for element in 0..count {
                let lanes: [T::Register; LANES] = context.load(op.extra[element]);
                for lane in 0..LANES {
                    if context.active >> lane & 1 != 0 {
                        (addresses[lane] as *mut T)
                            .add(element)
                            .write(T::narrow(lanes[lane]));
                    }
                }
            }
        }
        Outcome::Continue
    }
}

/// A width and signedness in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    U8,
    I8,
    U16,
    I16,
    B32,
    B64,
}

/// A transfer between registers and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    Load,
    Store,
    LoadVector,
    StoreVector,
}

/// Which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Device,
    Shared,
    SharedShort,
    Local,
}

/// The handler of a transfer.
pub(crate) fn transfer(path: Path, target: Target, transfer: Transfer, width: Width) -> Handler {
    match target {
        Target::Device => transfer_in::<Device>(path, transfer, width),
        Target::Shared => transfer_in::<Shared>(path, transfer, width),
        Target::SharedShort => transfer_in::<SharedShort>(path, transfer, width),
        Target::Local => transfer_in::<Local>(path, transfer, width),
    }
}

fn transfer_in<M: Memory>(path: Path, transfer: Transfer, width: Width) -> Handler {
    match width {
        Width::U8 => transfer_of::<M, u8>(path, transfer),
        Width::I8 => transfer_of::<M, i8>(path, transfer),
        Width::U16 => transfer_of::<M, u16>(path, transfer),
        Width::I16 => transfer_of::<M, i16>(path, transfer),
        Width::B32 => transfer_of::<M, u32>(path, transfer),
        Width::B64 => transfer_of::<M, u64>(path, transfer),
    }
}

fn transfer_of<M: Memory, T: Element>(path: Path, transfer: Transfer) -> Handler {
    match transfer {
        Transfer::Load => handler::<Load<M, T>>(path),
        Transfer::Store => handler::<Store<M, T>>(path),
        Transfer::LoadVector => handler::<LoadVector<M, T>>(path),
        Transfer::StoreVector => handler::<StoreVector<M, T>>(path),
    }
}
