//! `multimem`: loads that reduce, stores and reductions on an address that means memory of several devices.
//!
//! Lane after lane. An address is one of a [`Team`](super::Team), whose copies are read in their order, written, or changed each for itself; any other address is an illegal one.
//! A vector of one copy is one access, as everywhere ([`whole`]); over all copies nothing is.
//!
//! # Safety
//!
//! Addresses were found in [`Allocations`](super::Allocations) for all bytes of the access, and aligned for it, by [`copies`].
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::atomic::{Change, Word};
use super::fault::FaultKind;
use super::half::{Bf16, F16, Half, greater, lesser, pair};
use super::op::{Op, OperandList};
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};
use super::whole;

/// The longest vector, in bytes.
const MOST_BYTES: usize = 16;
/// The most elements of one.
const MOST_ELEMENTS: usize = 8;

/// What is done with the values of all copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Add,
    AddSingle,
    AddDouble,
    AddHalf,
    AddBrain,
    AddHalves,
    AddBrains,
    Min,
    Max,
    MinSigned,
    MaxSigned,
    MinHalf,
    MaxHalf,
    MinBrain,
    MaxBrain,
    MinHalves,
    MaxHalves,
    MinBrains,
    MaxBrains,
    And,
    Or,
    Xor,
}

fn list_of<'p>(context: &Context<'p>, op: &Op) -> &'p OperandList {
    let program = context.program;
    &program.code.lists[op.link as usize]
}

/// Where `bytes` bytes at a lane's address are, in each copy.
///
/// # Safety
///
/// Row `a` of `op` holds addresses.
unsafe fn copies<'p>(
    context: &mut Context<'p>,
    op: &Op,
    lane: usize,
    bytes: u64,
) -> Option<impl Iterator<Item = u64> + Clone + use<'p>> {
    // SAFETY: the caller's promise.
    let addresses: [u64; LANES] = unsafe { context.load(op.a) };
    let address = addresses[lane].wrapping_add(op.immediate as u64);
    if !address.is_multiple_of(bytes) {
        context.fail_in(lane, FaultKind::Misaligned, Some(address));
        return None;
    }
    let found = context.allocations.team(address, bytes);
    if found.is_none() {
        context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
    }
    found
}

/// The lanes that run.
fn active(context: &Context<'_>) -> impl Iterator<Item = usize> + use<> {
    let active = context.active;
    (0..LANES).filter(move |lane| active >> lane & 1 != 0)
}

/// One copy's vector of `bytes` bytes.
///
/// # Safety
///
/// It may be accessed.
unsafe fn read(address: u64, bytes: usize) -> [u8; MOST_BYTES] {
    let mut vector = [0; MOST_BYTES];
    // SAFETY: the caller's promise.
    unsafe {
        match bytes {
            4 => vector[..4].copy_from_slice(&whole::read::<u8, 4>(address)),
            8 => vector[..8].copy_from_slice(&whole::read::<u8, 8>(address)),
            _ => vector = whole::read::<u8, MOST_BYTES>(address),
        }
    }
    vector
}

/// # Safety
///
/// As [`read`].
unsafe fn write(address: u64, bytes: usize, vector: [u8; MOST_BYTES]) {
    let [a, b, c, d, e, f, g, h, ..] = vector;
    // SAFETY: the caller's promise.
    unsafe {
        match bytes {
            4 => whole::write(address, [a, b, c, d]),
            8 => whole::write(address, [a, b, c, d, e, f, g, h]),
            _ => whole::write(address, vector),
        }
    }
}

/// A word in a vector of bytes.
pub(crate) trait Part: Word {
    fn of(vector: &[u8; MOST_BYTES], index: usize) -> Self;
    fn put(self, vector: &mut [u8; MOST_BYTES], index: usize);
}

macro_rules! parts {
    ($($type:ty)*) => { $(
        impl Part for $type {
            fn of(vector: &[u8; MOST_BYTES], index: usize) -> Self {
                let (words, _) = vector.as_chunks();
                Self::from_le_bytes(words[index])
            }
            fn put(self, vector: &mut [u8; MOST_BYTES], index: usize) {
                let (words, _) = vector.as_chunks_mut();
                words[index] = self.to_le_bytes();
            }
        }
    )* };
}
parts!(u16 u32 u64);

/// One value of all copies'.
pub(crate) trait Fold<T>: Copy {
    fn fold(self, values: &mut dyn Iterator<Item = T>) -> T;
}
impl<T, F: Fn(&mut dyn Iterator<Item = T>) -> T + Copy> Fold<T> for F {
    fn fold(self, values: &mut dyn Iterator<Item = T>) -> T {
        self(values)
    }
}

struct LoadReduce<T, F>(PhantomData<(T, F)>);
impl<T: Part, F: Fold<T>> Operation for LoadReduce<T, F> {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let fold: F = super::rows::conjure();
        let rows = &list_of(context, op).writes;
        let bytes = size_of::<T>() * rows.len();
        let mut results = [[T::default(); LANES]; MOST_ELEMENTS];
        for lane in active(context) {
            // SAFETY: the decoder gave a row of addresses.
            let Some(copies) = (unsafe { copies(context, op, lane, bytes as u64) }) else {
                return Outcome::Fault;
            };
            // SAFETY: they were found.
            let vectors = copies.map(|copy| unsafe { read(copy, bytes) });
            let vectors: Vec<_> = vectors.collect();
            for (element, lanes) in results.iter_mut().enumerate().take(rows.len()) {
                lanes[lane] = fold.fold(&mut vectors.iter().map(|vector| T::of(vector, element)));
            }
        }
        for (row, lanes) in rows.iter().zip(results) {
            // SAFETY: the decoder gave rows of this type.
            unsafe { context.store(*row, lanes) };
        }
        Outcome::Continue
    }
}

struct Store<T>(PhantomData<T>);
impl<T: Part> Operation for Store<T> {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let rows = &list_of(context, op).reads;
        let bytes = size_of::<T>() * rows.len();
        // SAFETY: the decoder gave rows of this type.
        let values: Vec<[T; LANES]> = rows
            .iter()
            .map(|row| unsafe { context.load(*row) })
            .collect();
        for lane in active(context) {
            // SAFETY: the decoder gave a row of addresses.
            let Some(copies) = (unsafe { copies(context, op, lane, bytes as u64) }) else {
                return Outcome::Fault;
            };
            let mut vector = [0; MOST_BYTES];
            for (element, lanes) in values.iter().enumerate() {
                lanes[lane].put(&mut vector, element);
            }
            // SAFETY: they were found.
            copies.for_each(|copy| unsafe { write(copy, bytes, vector) });
        }
        Outcome::Continue
    }
}

struct Reduce<T, F>(PhantomData<(T, F)>);
impl<T: Part, F: Change<T>> Operation for Reduce<T, F> {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let change: F = super::rows::conjure();
        let rows = &list_of(context, op).reads;
        let bytes = size_of::<T>() * rows.len();
        // SAFETY: the decoder gave rows of this type.
        let values: Vec<[T; LANES]> = rows
            .iter()
            .map(|row| unsafe { context.load(*row) })
            .collect();
        for lane in active(context) {
            // SAFETY: the decoder gave a row of addresses.
            let Some(copies) = (unsafe { copies(context, op, lane, bytes as u64) }) else {
                return Outcome::Fault;
            };
            for copy in copies {
                for (element, lanes) in values.iter().enumerate() {
                    let (value, place) = (lanes[lane], copy + (element * size_of::<T>()) as u64);
                    // SAFETY: they were found, and an element of an aligned vector is aligned.
                    unsafe { T::update(place, |old| change.apply(old, value, value)) };
                }
            }
        }
        Outcome::Continue
    }
}

/// The handler of a store of words of `bytes` bytes.
pub(crate) fn store(bytes: u32) -> Option<Handler> {
    Some(match bytes {
        2 => rare_handler::<Store<u16>>(),
        4 => rare_handler::<Store<u32>>(),
        8 => rare_handler::<Store<u64>>(),
        _ => return None,
    })
}

/// One of two values.
trait Choose<T>: Fn(T, T) -> T + Copy {}
impl<T, F: Fn(T, T) -> T + Copy> Choose<T> for F {}

fn both<T: Part, F: Choose<T>>(loads: bool, _join: F) -> Handler {
    if loads {
        fn fold_of<T: Part, F: Choose<T>>(_: F) -> impl Fold<T> {
            |values: &mut dyn Iterator<Item = T>| {
                let join: F = super::rows::conjure();
                values.reduce(join).unwrap_or_default()
            }
        }
        return load_of(fold_of(_join));
    }
    fn change_of<T: Part, F: Choose<T>>(_: F) -> impl Change<T> {
        |old: T, value: T, _: T| {
            let join: F = super::rows::conjure();
            join(old, value)
        }
    }
    reduce_of(change_of(_join))
}

fn load_of<T: Part, F: Fold<T>>(_: F) -> Handler {
    rare_handler::<LoadReduce<T, F>>()
}

fn reduce_of<T: Part, F: Change<T>>(_: F) -> Handler {
    rare_handler::<Reduce<T, F>>()
}

fn sum<H: Half>(a: H, b: H) -> H {
    H::nearest(a.to_f32() + b.to_f32())
}

/// The handler of a load, or of a reduction of memory, of words of `bytes` bytes.
pub(crate) fn reduction(loads: bool, reduction: Reduction, bytes: u32) -> Option<Handler> {
    use Reduction::*;
    macro_rules! either {
        (|$a:ident, $b:ident| $value:expr) => {
            match bytes {
                4 => both(loads, |$a: u32, $b: u32| $value),
                8 => both(loads, |$a: u64, $b: u64| $value),
                _ => return None,
            }
        };
    }
    macro_rules! half {
        ($half:ident, $join:expr) => {
            both(loads, |a: u16, b: u16| {
                let join: fn($half, $half) -> $half = $join;
                join($half(a), $half(b)).0
            })
        };
    }
    macro_rules! halves {
        ($half:ident, $join:expr) => {
            both(loads, |a: u32, b: u32| pair::<$half>(a, b, $join))
        };
    }
    Some(match (reduction, bytes) {
        (Add, _) => either!(|a, b| a.wrapping_add(b)),
        (And, _) => either!(|a, b| a & b),
        (Or, _) => either!(|a, b| a | b),
        (Xor, _) => either!(|a, b| a ^ b),
        (Min, _) => either!(|a, b| a.min(b)),
        (Max, _) => either!(|a, b| a.max(b)),
        (MinSigned, 4) => both(loads, |a: u32, b: u32| (a as i32).min(b as i32) as u32),
        (MaxSigned, 4) => both(loads, |a: u32, b: u32| (a as i32).max(b as i32) as u32),
        (MinSigned, 8) => both(loads, |a: u64, b: u64| (a as i64).min(b as i64) as u64),
        (MaxSigned, 8) => both(loads, |a: u64, b: u64| (a as i64).max(b as i64) as u64),
        (AddSingle, 4) => both(loads, |a: u32, b: u32| {
            (f32::from_bits(a) + f32::from_bits(b)).to_bits()
        }),
        (AddDouble, 8) => both(loads, |a: u64, b: u64| {
            (f64::from_bits(a) + f64::from_bits(b)).to_bits()
        }),
        (AddHalf, 2) => half!(F16, sum),
        (AddBrain, 2) => half!(Bf16, sum),
        (AddHalves, 4) => halves!(F16, sum),
        (AddBrains, 4) => halves!(Bf16, sum),
        (MinHalf, 2) => half!(F16, |a, b| lesser(a, b, false)),
        (MaxHalf, 2) => half!(F16, |a, b| greater(a, b, false)),
        (MinBrain, 2) => half!(Bf16, |a, b| lesser(a, b, false)),
        (MaxBrain, 2) => half!(Bf16, |a, b| greater(a, b, false)),
        (MinHalves, 4) => halves!(F16, |a, b| lesser(a, b, false)),
        (MaxHalves, 4) => halves!(F16, |a, b| greater(a, b, false)),
        (MinBrains, 4) => halves!(Bf16, |a, b| lesser(a, b, false)),
        (MaxBrains, 4) => halves!(Bf16, |a, b| greater(a, b, false)),
        _ => return None,
    })
}

/// The handler of a load that adds halves as singles, and rounds once.
pub(crate) fn sum_in_single(reduction: Reduction) -> Option<Handler> {
    fn total<H: Half>(values: &mut dyn Iterator<Item = H>) -> H {
        // The first one itself: a sum that begins with zero loses the sign of zeros.
        let sum = values.map(H::to_f32).reduce(|a, b| a + b);
        H::nearest(sum.unwrap_or_default())
    }
    fn totals<H: Half>(values: &mut dyn Iterator<Item = u32>) -> u32 {
        let words: Vec<u32> = values.collect();
        let part = |shift: u32| {
            let halves = words
                .iter()
                .map(|word| H::from_bits((word >> shift) as u16));
            u32::from(total(&mut { halves }).bits()) << shift
        };
        part(0) | part(16)
    }
    Some(match reduction {
        Reduction::AddHalf => {
            load_of(|values: &mut dyn Iterator<Item = u16>| total(&mut values.map(F16)).0)
        }
        Reduction::AddBrain => {
            load_of(|values: &mut dyn Iterator<Item = u16>| total(&mut values.map(Bf16)).0)
        }
        Reduction::AddHalves => {
            load_of(|values: &mut dyn Iterator<Item = u32>| totals::<F16>(values))
        }
        Reduction::AddBrains => {
            load_of(|values: &mut dyn Iterator<Item = u32>| totals::<Bf16>(values))
        }
        _ => return None,
    })
}
