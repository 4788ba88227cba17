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

use super::classify::{Bounds, Groups, Shape, classify};
use super::cluster;
use super::fault::FaultKind;
use super::op::{NONE, Op, Row};
use super::path::Path;
use super::rows::{Context, Handler, Isa, LANES, Lane, Operation, Outcome, handler};
use super::whole;
use super::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES};

/// How many addresses are remembered at a time.
pub(crate) const KNOWN: usize = 8;

/// What an access found about the addresses in a register, for later accesses by the same register with other offsets:
/// in unrolled loops most are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// When it was found: it holds as long as [`Context::epoch`] is this.
    epoch: u64,
    /// The offset of the access.
    immediate: i64,
    low: u64,
    high: u64,
    /// Contiguous, uniform or groups.
    shape: Shape,
    groups: Groups,
}

impl Known {
    /// Nothing is known.
    pub(crate) const NOTHING: Known = Known {
        epoch: 0,
        immediate: 0,
        low: 0,
        high: 0,
        shape: Shape::Refused,
        groups: Groups {
            first: [0; 4],
            same: 0,
        },
    };
}

/// A kind of memory, as a type.
///
/// Addresses are computed again where they are needed one by one: as long as nothing refers to them in memory they
/// stay in vector registers, which is what makes the common shapes fast.
pub(crate) trait Memory {
    /// The lanes' addresses: host addresses, or generic ones of device memory. Not checked.
    ///
    /// # Safety
    ///
    /// Row `a` of `op` holds addresses of this kind.
    unsafe fn addresses(context: &Context<'_>, op: &Op) -> [u64; LANES];

    /// The lowest address of this kind.
    fn floor(context: &Context<'_>) -> u64;

    /// The generic addresses that row `row` means, for operations that go by single lanes ([`locate`]).
    ///
    /// # Safety
    ///
    /// Row `row` holds addresses of this kind.
    unsafe fn generic(context: &Context<'_>, row: Row, offset: i64) -> [u64; LANES];

    /// Whether `size` bytes at each of the active lanes' addresses, which lie within `bounds`, may be touched: the
    /// shape of the access, [`Shape::Refused`] after a fault.
    fn check(context: &mut Context<'_>, op: &Op, bounds: Bounds, size: u64) -> Shape;
}

/// The bounds of an access of `size` bytes to `M`, checked.
///
/// # Safety
///
/// As [`Memory::addresses`].
#[inline(always)]
pub(crate) unsafe fn place<M: Memory, P: Isa>(
    context: &mut Context<'_>,
    op: &Op,
    size: u64,
) -> Bounds {
    // SAFETY: the caller's promise.
    let addresses = unsafe { M::addresses(context, op) };
    let mut bounds = classify::<P>(&addresses, context.active, size);
    if bounds.union & (size - 1) != 0 {
        // SAFETY: as above.
        unsafe { misaligned::<M>(context, op, size) };
        bounds.shape = Shape::Refused;
        return bounds;
    }
    bounds.shape = M::check(context, op, bounds, size);
    bounds
}

/// [`place`], which takes over or leaves behind what is [`Known`] about the addresses, where the decoder says so
/// ([`reuse`](super::decode)).
///
/// # Safety
///
/// As [`Memory::addresses`]; `op` is a transfer of one element.
#[inline(always)]
unsafe fn place_again<M: Memory, P: Isa>(context: &mut Context<'_>, op: &Op, size: u64) -> Bounds {
    let slot = op.known_slot() as usize % KNOWN;
    if op.takes_over() {
        let known = &context.known[slot];
        let shift = op.immediate.wrapping_sub(known.immediate) as u64;
        let low = known.low.wrapping_add(shift);
        let high = known.high.wrapping_add(shift);
        let holds = known.epoch == context.epoch && low <= high && low >= M::floor(context);
        if holds && shift & (size - 1) == 0 {
            let mut bounds = Bounds {
                low,
                high,
                union: 0,
                shape: known.shape,
                groups: Groups::default(),
            };
            if known.shape == Shape::Groups {
                bounds.groups = known.groups;
                for first in &mut bounds.groups.first {
                    *first = first.wrapping_add(shift);
                }
            }
            bounds.shape = M::check(context, op, bounds, size);
            return bounds;
        }
    }
    // SAFETY: the caller's promise.
    let bounds = unsafe { place::<M, P>(context, op, size) };
    if op.known_slot() != NONE {
        let simple = matches!(
            bounds.shape,
            Shape::Contiguous | Shape::Uniform | Shape::Groups
        );
        let known = &mut context.known[slot];
        known.epoch = if simple { context.epoch } else { 0 };
        known.immediate = op.immediate;
        (known.low, known.high) = (bounds.low, bounds.high);
        known.shape = bounds.shape;
        if bounds.shape == Shape::Groups {
            known.groups = bounds.groups;
        }
    }
    bounds
}

/// The host addresses of an access that [`place`] found good, one by one.
///
/// # Safety
///
/// As [`Memory::addresses`].
#[inline(always)]
pub(crate) unsafe fn each<M: Memory>(
    context: &Context<'_>,
    op: &Op,
    bounds: Bounds,
) -> [u64; LANES] {
    if bounds.shape == Shape::Translated {
        return context.translated;
    }
    // SAFETY: the caller's promise.
    unsafe { M::addresses(context, op) }
}

/// Notes the first active lane whose address is no multiple of `size`.
///
/// # Safety
///
/// As [`Memory::addresses`].
#[cold]
#[inline(never)]
unsafe fn misaligned<M: Memory>(context: &mut Context<'_>, op: &Op, size: u64) {
    // SAFETY: the caller's promise.
    let addresses = unsafe { M::addresses(context, op) };
    let wrong = (0..LANES)
        .find(|&lane| context.active >> lane & 1 != 0 && addresses[lane] & (size - 1) != 0);
    match wrong {
        Some(lane) => context.fail_in(lane, FaultKind::Misaligned, Some(addresses[lane])),
        None => context.fail(FaultKind::Misaligned, None),
    };
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
    unsafe fn generic(context: &Context<'_>, row: Row, offset: i64) -> [u64; LANES] {
        // SAFETY: the caller's promise.
        let addresses: [u64; LANES] = unsafe { context.load(row) };
        addresses.map(|address| address.wrapping_add(offset as u64))
    }

    #[inline(always)]
    fn floor(_: &Context<'_>) -> u64 {
        0
    }

    #[inline(always)]
    unsafe fn addresses(context: &Context<'_>, op: &Op) -> [u64; LANES] {
        // SAFETY: the decoder gave a wide row.
        let mut addresses: [u64; LANES] = unsafe { context.load(op.a) };
        for address in &mut addresses {
            *address = address.wrapping_add(op.immediate as u64);
        }
        addresses
    }

    #[inline(always)]
    fn check(context: &mut Context<'_>, op: &Op, bounds: Bounds, size: u64) -> Shape {
        let end = bounds.high.wrapping_add(size);
        let cached = context.cache[op.link as usize];
        if bounds.low >= cached.0 && end <= cached.1 && bounds.low < end {
            return bounds.shape;
        }
        refill(context, op, size, bounds.low, bounds.high, bounds.shape)
    }
}

/// After a miss of the operation's cached allocation.
#[cold]
#[inline(never)]
fn refill(
    context: &mut Context<'_>,
    op: &Op,
    size: u64,
    low: u64,
    high: u64,
    shape: Shape,
) -> Shape {
    if let Some(range) = context.allocations.find(low, high.wrapping_add(size)) {
        context.cache[op.link as usize] = range;
        return shape;
    }
    // SAFETY: this is an access to device memory.
    translate(context, unsafe { Device::addresses(context, op) }, size)
}

/// Every lane on its own: several allocations, or windows of shared and local memory.
#[cold]
fn translate(context: &mut Context<'_>, addresses: [u64; LANES], size: u64) -> Shape {
    for (lane, address) in addresses.into_iter().enumerate() {
        if context.active >> lane & 1 == 0 {
            continue;
        }
        let Some(host) = locate(context, lane, address, size) else {
            context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
            return Shape::Refused;
        };
        context.translated[lane] = host;
    }
    Shape::Translated
}

/// The host address of `size` bytes at a lane's generic address, if the lane may touch them.
pub(crate) fn locate(context: &Context<'_>, lane: usize, address: u64, size: u64) -> Option<u64> {
    let end = address.checked_add(size)?;
    if address.wrapping_sub(SHARED_WINDOW) < WINDOW_BYTES {
        return locate_shared(context, address, size);
    }
    let local = address.wrapping_sub(LOCAL_WINDOW);
    if local < WINDOW_BYTES {
        let start = context.local as u64 + lane as u64 * context.local_stride;
        return (local + size <= context.local_stride).then_some(start + local);
    }
    let in_params = address >= context.params.0 && end <= context.params.1;
    (in_params || context.allocations.find(address, end).is_some()).then_some(address)
}

/// The host address of `size` bytes at a generic address of shared memory: the block's own, or that of another block of its cluster.
pub(crate) fn locate_shared(context: &Context<'_>, address: u64, size: u64) -> Option<u64> {
    let place = address.wrapping_sub(SHARED_WINDOW);
    if place >= WINDOW_BYTES {
        return None;
    }
    let offset = cluster::offset_of(place);
    let start = match cluster::rank_of(place) {
        None => context.shared as u64,
        Some(0) if context.peers.is_empty() => context.shared as u64,
        Some(rank) => *context.peers.get(rank as usize)?,
    };
    (offset + size <= context.shared_bytes).then_some(start + offset)
}

/// Whether an access to shared memory stays inside.
#[inline(always)]
fn check_shared<M: Memory>(context: &mut Context<'_>, op: &Op, bounds: Bounds, size: u64) -> Shape {
    let base = context.shared as u64;
    // Offsets are below 2^32, so that neither sum wraps.
    if bounds.high + size > base + context.shared_bytes {
        // SAFETY: this is an access to shared memory.
        let addresses = unsafe { M::addresses(context, op) };
        outside(
            context,
            addresses,
            bounds.high,
            SHARED_WINDOW.wrapping_sub(base),
        );
        return Shape::Refused;
    }
    bounds.shape
}

/// Notes the fault of the active lane with the highest address of all, which is `window` less than a generic one.
#[cold]
fn outside(context: &mut Context<'_>, addresses: [u64; LANES], highest: u64, window: u64) {
    let is_it = |lane: &usize| context.active >> lane & 1 != 0 && addresses[*lane] == highest;
    let lane = (0..LANES).find(is_it).unwrap_or(0);
    let generic = highest.wrapping_add(window);
    context.fail_in(lane, FaultKind::IllegalAddress, Some(generic));
}

impl Memory for Shared {
    #[inline(always)]
    unsafe fn generic(context: &Context<'_>, row: Row, offset: i64) -> [u64; LANES] {
        // SAFETY: the caller's promise.
        let addresses: [u64; LANES] = unsafe { context.load(row) };
        addresses.map(|address| {
            SHARED_WINDOW + (address.wrapping_add(offset as u64) & u64::from(u32::MAX))
        })
    }

    #[inline(always)]
    fn floor(context: &Context<'_>) -> u64 {
        context.shared as u64
    }

    #[inline(always)]
    unsafe fn addresses(context: &Context<'_>, op: &Op) -> [u64; LANES] {
        // SAFETY: the decoder gave a wide row.
        let mut addresses: [u64; LANES] = unsafe { context.load(op.a) };
        let base = context.shared as u64;
        for address in &mut addresses {
            // Shared addresses have 32 significant bits.
            *address = base + (address.wrapping_add(op.immediate as u64) & u64::from(u32::MAX));
        }
        addresses
    }

    #[inline(always)]
    fn check(context: &mut Context<'_>, op: &Op, bounds: Bounds, size: u64) -> Shape {
        check_shared::<Self>(context, op, bounds, size)
    }
}

impl Memory for SharedShort {
    #[inline(always)]
    unsafe fn generic(context: &Context<'_>, row: Row, offset: i64) -> [u64; LANES] {
        // SAFETY: the caller's promise.
        let offsets: [u32; LANES] = unsafe { context.load(row) };
        offsets.map(|start| SHARED_WINDOW + u64::from(start.wrapping_add(offset as u32)))
    }

    #[inline(always)]
    fn floor(context: &Context<'_>) -> u64 {
        context.shared as u64
    }

    #[inline(always)]
    unsafe fn addresses(context: &Context<'_>, op: &Op) -> [u64; LANES] {
        // SAFETY: the decoder gave a row of 32-bit lanes.
        let offsets: [u32; LANES] = unsafe { context.load(op.a) };
        let base = context.shared as u64;
        let mut addresses = [0; LANES];
        for lane in 0..LANES {
            addresses[lane] = base + u64::from(offsets[lane].wrapping_add(op.immediate as u32));
        }
        addresses
    }

    #[inline(always)]
    fn check(context: &mut Context<'_>, op: &Op, bounds: Bounds, size: u64) -> Shape {
        check_shared::<Self>(context, op, bounds, size)
    }
}

impl Memory for Local {
    #[inline(always)]
    unsafe fn generic(context: &Context<'_>, row: Row, offset: i64) -> [u64; LANES] {
        // SAFETY: the caller's promise.
        let addresses: [u64; LANES] = unsafe { context.load(row) };
        addresses.map(|address| {
            LOCAL_WINDOW + (address.wrapping_add(offset as u64) & u64::from(u32::MAX))
        })
    }

    #[inline(always)]
    fn floor(_: &Context<'_>) -> u64 {
        0
    }

    #[inline(always)]
    unsafe fn addresses(context: &Context<'_>, op: &Op) -> [u64; LANES] {
        // SAFETY: the decoder gave a wide row.
        let mut addresses: [u64; LANES] = unsafe { context.load(op.a) };
        let (start, stride) = (context.local as u64, context.local_stride);
        for (lane, address) in addresses.iter_mut().enumerate() {
            let offset = address.wrapping_add(op.immediate as u64) & u64::from(u32::MAX);
            *address = start + lane as u64 * stride + offset;
        }
        addresses
    }

    /// Each lane has bounds of its own.
    #[inline(always)]
    fn check(context: &mut Context<'_>, op: &Op, bounds: Bounds, size: u64) -> Shape {
        // SAFETY: the decoder gave a wide row.
        let offsets: [u64; LANES] = unsafe { context.load(op.a) };
        let mut highest = 0;
        for (lane, offset) in offsets.into_iter().enumerate() {
            let offset = offset.wrapping_add(op.immediate as u64) & u64::from(u32::MAX);
            let on = context.mask[lane] != 0;
            highest = if on && offset > highest {
                offset
            } else {
                highest
            };
        }
        if highest + size > context.local_stride {
            let offset =
                |offset: u64| offset.wrapping_add(op.immediate as u64) & u64::from(u32::MAX);
            outside(context, offsets.map(offset), highest, LOCAL_WINDOW);
            return Shape::Refused;
        }
        bounds.shape
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

struct Load<M, T>(PhantomData<(M, T)>);
impl<M: Memory, T: Element> Operation for Load<M, T> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave address and destination rows; `place` checks every address.
        unsafe {
            let bounds = place_again::<M, P>(context, op, size_of::<T>() as u64);
            let mut lanes = [T::Register::default(); LANES];
            // Every arm stores for itself, which keeps the lanes in vector registers.
            match bounds.shape {
                Shape::Contiguous => {
                    let elements = (bounds.low as *const [T; LANES]).read();
                    for lane in 0..LANES {
                        lanes[lane] = elements[lane].widen();
                    }
                    context.store(op.d, lanes);
                }
                Shape::Uniform => {
                    let element = (bounds.low as *const T).read().widen();
                    context.store(op.d, [element; LANES]);
                }
                Shape::Groups => {
                    for (group, first) in bounds.groups.first.into_iter().enumerate() {
                        let lanes = &mut lanes[8 * group..][..8];
                        if bounds.groups.same >> group & 1 != 0 {
                            lanes.fill((first as *const T).read().widen());
                        } else {
                            let elements = (first as *const [T; 8]).read();
                            for lane in 0..8 {
                                lanes[lane] = elements[lane].widen();
                            }
                        }
                    }
                    context.store(op.d, lanes);
                }
                Shape::Scattered | Shape::Translated if context.active == u32::MAX => {
                    let addresses = each::<M>(context, op, bounds);
                    for lane in 0..LANES {
                        lanes[lane] = (addresses[lane] as *const T).read().widen();
                    }
                    context.store(op.d, lanes);
                }
                Shape::Scattered | Shape::Translated => {
                    let addresses = each::<M>(context, op, bounds);
                    for lane in 0..LANES {
                        if context.active >> lane & 1 != 0 {
                            lanes[lane] = (addresses[lane] as *const T).read().widen();
                        }
                    }
                    context.store(op.d, lanes);
                }
                Shape::Refused => return Outcome::Fault,
            }
        }
        Outcome::Continue
    }
}

struct Store<M, T>(PhantomData<(M, T)>);
impl<M: Memory, T: Element> Operation for Store<M, T> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave address and source rows; `place` checks every address.
        unsafe {
            let bounds = place_again::<M, P>(context, op, size_of::<T>() as u64);
            if bounds.shape == Shape::Refused {
                return Outcome::Fault;
            }
            let lanes: [T::Register; LANES] = context.load(op.b);
            if bounds.shape == Shape::Contiguous {
                let mut elements = [T::narrow(lanes[0]); LANES];
                for lane in 1..LANES {
                    elements[lane] = T::narrow(lanes[lane]);
                }
                (bounds.low as *mut [T; LANES]).write(elements);
                return Outcome::Continue;
            }
            if bounds.shape == Shape::Groups && bounds.groups.same == 0 {
                for (group, first) in bounds.groups.first.into_iter().enumerate() {
                    let mut elements = [T::narrow(lanes[8 * group]); 8];
                    for lane in 1..8 {
                        elements[lane] = T::narrow(lanes[8 * group + lane]);
                    }
                    (first as *mut [T; 8]).write(elements);
                }
                return Outcome::Continue;
            }
            let addresses = each::<M>(context, op, bounds);
            for lane in 0..LANES {
                if context.active >> lane & 1 != 0 {
                    (addresses[lane] as *mut T).write(T::narrow(lanes[lane]));
                }
            }
        }
        Outcome::Continue
    }
}

struct LoadVector<M, T, const STRONG: bool>(PhantomData<(M, T)>);
impl<M: Memory, T: Element, const STRONG: bool> Operation for LoadVector<M, T, STRONG> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave this operation as many rows.
        unsafe {
            match op.count {
                2 => load_vector::<M, T, P, STRONG, 2>(context, op),
                _ => load_vector::<M, T, P, STRONG, 4>(context, op),
            }
        }
    }
}

/// One lane's vector.
///
/// # Safety
///
/// It may be accessed.
#[inline(always)]
unsafe fn read_vector<T: Element, const STRONG: bool, const N: usize>(address: u64) -> [T; N] {
    // SAFETY: the caller's promise.
    unsafe {
        match STRONG {
            true => whole::read(address),
            false => (address as *const [T; N]).read(),
        }
    }
}

/// Loads `N` elements for each lane; `STRONG`: each lane's as one access, which others may write meanwhile.
///
/// # Safety
///
/// Row `a` holds addresses of `M`, and the first `N` of `extra` are rows for the elements.
#[inline(always)]
unsafe fn load_vector<M: Memory, T: Element, P: Isa, const STRONG: bool, const N: usize>(
    context: &mut Context<'_>,
    op: &Op,
) -> Outcome {
    // SAFETY: the caller's promise; `place` checks every address.
    unsafe {
        let bounds = place::<M, P>(context, op, (size_of::<T>() * N) as u64);
        let mut rows = [[T::Register::default(); LANES]; N];
        match bounds.shape {
            Shape::Refused => return Outcome::Fault,
            Shape::Uniform => {
                let elements = read_vector::<T, STRONG, N>(bounds.low);
                for element in 0..N {
                    rows[element] = [elements[element].widen(); LANES];
                }
            }
            Shape::Contiguous if !STRONG => {
                let elements = (bounds.low as *const [[T; N]; LANES]).read();
                for element in 0..N {
                    for lane in 0..LANES {
                        rows[element][lane] = elements[lane][element].widen();
                    }
                }
            }
            Shape::Contiguous | Shape::Groups | Shape::Scattered | Shape::Translated => {
                let addresses = each::<M>(context, op, bounds);
                for lane in 0..LANES {
                    if context.active >> lane & 1 != 0 {
                        let elements = read_vector::<T, STRONG, N>(addresses[lane]);
                        for element in 0..N {
                            rows[element][lane] = elements[element].widen();
                        }
                    }
                }
            }
        }
        for (row, lanes) in op.extra.into_iter().zip(rows) {
            context.store(row, lanes);
        }
    }
    Outcome::Continue
}

struct StoreVector<M, T, const STRONG: bool>(PhantomData<(M, T)>);
impl<M: Memory, T: Element, const STRONG: bool> Operation for StoreVector<M, T, STRONG> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave this operation as many rows.
        unsafe {
            match op.count {
                2 => store_vector::<M, T, P, STRONG, 2>(context, op),
                _ => store_vector::<M, T, P, STRONG, 4>(context, op),
            }
        }
    }
}

/// Stores `N` elements of each lane; `STRONG`: each lane's as one access, which others may look at meanwhile.
///
/// # Safety
///
/// Row `a` holds addresses of `M`, and the first `N` of `extra` are rows of the elements.
#[inline(always)]
unsafe fn store_vector<M: Memory, T: Element, P: Isa, const STRONG: bool, const N: usize>(
    context: &mut Context<'_>,
    op: &Op,
) -> Outcome {
    // SAFETY: the caller's promise; `place` checks every address.
    unsafe {
        let bounds = place::<M, P>(context, op, (size_of::<T>() * N) as u64);
        if bounds.shape == Shape::Refused {
            return Outcome::Fault;
        }
        let mut rows = [[T::Register::default(); LANES]; N];
        for (lanes, row) in rows.iter_mut().zip(op.extra) {
            *lanes = context.load(row);
        }
        let of_lane = |lane: usize| -> [T; N] {
            std::array::from_fn(|element| T::narrow(rows[element][lane]))
        };
        if bounds.shape == Shape::Contiguous && !STRONG {
            let elements: [[T; N]; LANES] = std::array::from_fn(of_lane);
            (bounds.low as *mut [[T; N]; LANES]).write(elements);
            return Outcome::Continue;
        }
        let addresses = each::<M>(context, op, bounds);
        for (lane, address) in addresses.into_iter().enumerate() {
            if context.active >> lane & 1 != 0 {
                match STRONG {
                    true => whole::write(address, of_lane(lane)),
                    false => (address as *mut [T; N]).write(of_lane(lane)),
                }
            }
        }
    }
    Outcome::Continue
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
    /// Of relaxed, acquiring, releasing and volatile accesses.
    LoadStrongVector,
    StoreStrongVector,
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
        Transfer::LoadVector => handler::<LoadVector<M, T, false>>(path),
        Transfer::StoreVector => handler::<StoreVector<M, T, false>>(path),
        Transfer::LoadStrongVector => handler::<LoadVector<M, T, true>>(path),
        Transfer::StoreStrongVector => handler::<StoreVector<M, T, true>>(path),
    }
}
