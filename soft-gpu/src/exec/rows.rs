//! Rows of lanes, and handlers made from functions of one lane.
//!
//! A register of a warp is a row: thirty-two lanes of four or eight bytes. A handler is compiled once for each
//! [`Path`] from an [`Operation`], most of which are a closure on the values of one lane:
//!
//! ```text
//! binary(path, |a: f32, b: f32| a + b)
//! ```
//!
//! # Safety
//!
//! Handlers trust their [`Op`]: every row offset in it lies within the frame that [`Context::registers`] points
//! to, is a multiple of 128, and has room for the lanes of the type that the handler reads or writes there. The
//! register allocator guarantees that. A handler of a path is only chosen where [`Path::available`] has it.
#![expect(
    unsafe_code,
    reason = "rows are reached through a frame pointer and unchecked offsets"
)]

use std::marker::PhantomData;

use super::fault::FaultKind;
use super::memory::{KNOWN, Known};
use super::op::{Op, Row};
use super::path::Path;
use super::program::Program;
use super::{Allocations, half};

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;
/// Bytes of a row of 32-bit lanes.
pub(crate) const ROW_BYTES: u32 = 128;

/// What a handler says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// Go on.
    Continue,
    /// The fault is in [`Context::fault`].
    Fault,
}

/// The code of one operation.
pub(crate) type Handler = unsafe fn(&mut Context<'_>, &Op) -> Outcome;

/// What handlers work on: the warp that is running.
pub(crate) struct Context<'a> {
    /// The current frame.
    pub(crate) registers: *mut u8,
    /// Active lanes as words of ones and zeros.
    pub(crate) mask: [u32; LANES],
    /// Active lanes as bits.
    pub(crate) active: u32,
    /// Whether no living lane is inactive, so that whole rows may be written.
    pub(crate) whole: bool,
    /// Counts changes of the active lanes, and of the warp: what was found about addresses holds for one count.
    pub(crate) epoch: u64,
    /// What accesses found that later ones take over.
    pub(crate) known: [Known; KNOWN],
    /// The block's shared memory.
    pub(crate) shared: *mut u8,
    pub(crate) shared_bytes: u64,
    /// Where the shared memory of the cluster's blocks is, by rank; empty where the block is alone.
    pub(crate) peers: &'a [u64],
    /// The warp's local memory: `local_stride` bytes for each lane.
    pub(crate) local: *mut u8,
    pub(crate) local_stride: u64,
    /// The allocation that each memory operation met last.
    pub(crate) cache: &'a mut [(u64, u64)],
    pub(crate) allocations: &'a Allocations,
    /// Host addresses of an access that was translated lane by lane.
    pub(crate) translated: [u64; LANES],
    /// The parameter buffer, readable by address.
    pub(crate) params: (u64, u64),
    pub(crate) program: &'a Program,
    /// Kind and address of the fault, when there is one.
    pub(crate) fault: Option<(FaultKind, Option<u64>)>,
    /// Whose it is.
    pub(crate) fault_lane: u32,
    /// More words about it.
    pub(crate) detail: String,
}

impl Context<'_> {
    /// Makes `active` the lanes that run, out of the living lanes `live`.
    #[inline(always)]
    pub(crate) fn activate(&mut self, active: u32, live: u32) {
        self.active = active;
        self.whole = active == live;
        self.epoch += 1;
        if active == u32::MAX {
            self.mask = [u32::MAX; LANES];
            return;
        }
        for (lane, word) in self.mask.iter_mut().enumerate() {
            // A comparison, since a shift by each lane's number is no vector instruction everywhere.
            *word = if active & 1 << lane != 0 { u32::MAX } else { 0 };
        }
    }

    /// The lanes of row `row`.
    ///
    /// # Safety
    ///
    /// `row` is a row of `T` in the current frame.
    #[inline(always)]
    pub(crate) unsafe fn load<T: Lane>(&self, row: Row) -> [T; LANES] {
        // SAFETY: the caller names a row of the frame.
        unsafe { T::load(self.registers.add(row as usize)) }
    }

    /// Writes the active lanes of row `row`.
    ///
    /// # Safety
    ///
    /// `row` is a row of `T` in the current frame.
    #[inline(always)]
    pub(crate) unsafe fn store<T: Lane>(&mut self, row: Row, value: [T; LANES]) {
        // SAFETY: the caller names a row of the frame.
        unsafe {
            let place = self.registers.add(row as usize);
            if self.whole {
                T::store(place, value)
            } else {
                T::store_masked(place, &self.mask, value)
            }
        }
    }

    /// The lanes of predicate row `row` as bits.
    ///
    /// # Safety
    ///
    /// `row` is a row of the current frame.
    #[inline(always)]
    pub(crate) unsafe fn bits(&self, row: Row) -> u32 {
        // SAFETY: the caller names a row of the frame.
        unsafe { predicate_bits(self.registers.add(row as usize)) }
    }

    /// Notes a fault of all active lanes.
    #[cold]
    pub(crate) fn fail(&mut self, kind: FaultKind, address: Option<u64>) -> Outcome {
        let first = self.active.trailing_zeros() as usize;
        self.fail_in(first.min(LANES - 1), kind, address)
    }

    /// Notes a fault of one lane.
    #[cold]
    pub(crate) fn fail_in(
        &mut self,
        lane: usize,
        kind: FaultKind,
        address: Option<u64>,
    ) -> Outcome {
        self.fault = Some((kind, address));
        self.fault_lane = lane as u32;
        Outcome::Fault
    }
}

/// The sign bits of thirty-two words.
///
/// # Safety
///
/// `row` points to thirty-two words.
#[inline(always)]
unsafe fn predicate_bits(row: *const u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32,
        };
        // SAFETY: the row holds eight groups of sixteen bytes, and SSE2 is part of the architecture.
        unsafe {
            let group = |index: usize| _mm_loadu_si128(row.add(index * 16).cast());
            let half = |at: usize| {
                let low = _mm_packs_epi32(group(at), group(at + 1));
                let high = _mm_packs_epi32(group(at + 2), group(at + 3));
                _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
            };
            half(0) | half(4) << 16
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: the row holds thirty-two words.
        let words = unsafe { *row.cast::<[u32; LANES]>() };
        words
            .iter()
            .enumerate()
            .fold(0, |bits, (lane, word)| bits | (word & 1) << lane)
    }
}

/// The value of one lane, and how its row is stored.
pub(crate) trait Lane: Copy + Default {
    /// # Safety
    ///
    /// `row` points to a row of this type.
    unsafe fn load(row: *const u8) -> [Self; LANES];
    /// # Safety
    ///
    /// `row` points to a row of this type.
    unsafe fn store(row: *mut u8, value: [Self; LANES]);
    /// Stores the lanes whose word in `mask` is not zero.
    ///
    /// # Safety
    ///
    /// `row` points to a row of this type.
    unsafe fn store_masked(row: *mut u8, mask: &[u32; LANES], value: [Self; LANES]);
}

/// Types that fill their container.
macro_rules! whole_lanes {
    ($($type:ty),*) => { $(
        impl Lane for $type {
            #[inline(always)]
            unsafe fn load(row: *const u8) -> [Self; LANES] {
                // SAFETY: the caller's row has room for these lanes and is aligned.
                unsafe { *row.cast() }
            }
            #[inline(always)]
            unsafe fn store(row: *mut u8, value: [Self; LANES]) {
                // SAFETY: as above.
                unsafe { *row.cast() = value }
            }
            #[inline(always)]
            unsafe fn store_masked(row: *mut u8, mask: &[u32; LANES], value: [Self; LANES]) {
                // SAFETY: as above.
                let mut lanes: [Self; LANES] = unsafe { *row.cast() };
                for lane in 0..LANES {
                    lanes[lane] = if mask[lane] != 0 { value[lane] } else { lanes[lane] };
                }
                // SAFETY: as above.
                unsafe { *row.cast() = lanes }
            }
        }
    )* };
}
whole_lanes!(u32, i32, f32, u64, i64, f64);

/// Types kept in the low bits of a 32-bit lane, whose other bits mean nothing.
macro_rules! narrow_lanes {
    ($($type:ty: |$word:ident| $read:expr, |$value:ident| $write:expr;)*) => { $(
        impl Lane for $type {
            #[inline(always)]
            unsafe fn load(row: *const u8) -> [Self; LANES] {
                // SAFETY: the caller's row has room for 32-bit lanes.
                let words = unsafe { u32::load(row) };
                let mut lanes = [Self::default(); LANES];
                for lane in 0..LANES {
                    let $word = words[lane];
                    lanes[lane] = $read;
                }
                lanes
            }
            #[inline(always)]
            unsafe fn store(row: *mut u8, value: [Self; LANES]) {
                let mut words = [0u32; LANES];
                for lane in 0..LANES {
                    let $value = value[lane];
                    words[lane] = $write;
                }
                // SAFETY: as above.
                unsafe { u32::store(row, words) }
            }
            #[inline(always)]
            unsafe fn store_masked(row: *mut u8, mask: &[u32; LANES], value: [Self; LANES]) {
                let mut words = [0u32; LANES];
                for lane in 0..LANES {
                    let $value = value[lane];
                    words[lane] = $write;
                }
                // SAFETY: as above.
                unsafe { u32::store_masked(row, mask, words) }
            }
        }
    )* };
}
narrow_lanes! {
    u8: |word| word as u8, |value| u32::from(value);
    i8: |word| word as i8, |value| value as u32;
    u16: |word| word as u16, |value| u32::from(value);
    i16: |word| word as i16, |value| value as u32;
    half::F16: |word| half::F16(word as u16), |value| u32::from(value.0);
    half::Bf16: |word| half::Bf16(word as u16), |value| u32::from(value.0);
    Flag: |word| Flag(word != 0), |value| if value.0 { u32::MAX } else { 0 };
}

/// A predicate's lane: all ones or all zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

/// Code that is compiled for every path.
pub(crate) trait Operation {
    /// # Safety
    ///
    /// As the module says; `P` is a path of this machine.
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome;
}

/// A path, as a type, for code with intrinsics.
pub(crate) trait Isa {
    /// The path.
    const PATH: Path;
}
/// [`Path::Plain`]
pub(crate) struct Plain;
/// [`Path::Avx2`]
pub(crate) struct Avx2;
/// [`Path::Avx512`]
pub(crate) struct Avx512;
impl Isa for Plain {
    const PATH: Path = Path::Plain;
}
impl Isa for Avx2 {
    const PATH: Path = Path::Avx2;
}
impl Isa for Avx512 {
    const PATH: Path = Path::Avx512;
}

/// # Safety
///
/// As [`Operation::execute`].
unsafe fn plain<O: Operation>(context: &mut Context<'_>, op: &Op) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { O::execute::<Plain>(context, op) }
}

/// # Safety
///
/// As [`Operation::execute`], on a machine with these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
unsafe fn avx2<O: Operation>(context: &mut Context<'_>, op: &Op) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { O::execute::<Avx2>(context, op) }
}

/// # Safety
///
/// As [`Operation::execute`], on a machine with these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd")]
unsafe fn avx512<O: Operation>(context: &mut Context<'_>, op: &Op) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { O::execute::<Avx512>(context, op) }
}

/// The handler of `O` for `path`.
pub(crate) fn handler<O: Operation>(path: Path) -> Handler {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::<O>,
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => avx512::<O>,
        _ => plain::<O>,
    }
}

/// The handler of `O` in one build for all paths: for operations that are rare or gain nothing from vectors.
pub(crate) fn rare_handler<O: Operation>() -> Handler {
    plain::<O>
}

/// A handler that does nothing.
///
/// # Safety
///
/// None needed; the signature is that of all handlers.
pub(crate) unsafe fn nothing(_: &mut Context<'_>, _: &Op) -> Outcome {
    Outcome::Continue
}

/// A handler that is a fault, for what the decoder has refused.
///
/// # Safety
///
/// None needed; the signature is that of all handlers.
pub(crate) unsafe fn not_executed(context: &mut Context<'_>, op: &Op) -> Outcome {
    let reasons = &context.program.code.refused;
    context.detail = reasons.get(op.link as usize).cloned().unwrap_or_default();
    context.fail(FaultKind::IllegalInstruction, None)
}

/// The value of a type without data, such as a closure that captures nothing.
#[inline(always)]
pub(crate) fn conjure<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "lane functions capture nothing") };
    // SAFETY: `F` has no bytes, is `Copy`, and a value of it was given to the function that named the type.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

macro_rules! lane_functions {
    ($($(#[$doc:meta])* $name:ident, $rare:ident, $operation:ident: $($type:ident $row:ident $value:ident),*;)*) => { $(
        struct $operation<$($type,)* R, F>(PhantomData<($($type,)* R, F)>);
        impl<$($type: Lane,)* R: Lane, F: Fn($($type),*) -> R + Copy> Operation for $operation<$($type,)* R, F> {
            #[inline(always)]
            unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
                let function: F = conjure();
                // SAFETY: the decoder gave this operation rows of these types.
                unsafe {
                    $(let $value: [$type; LANES] = context.load(op.$row);)*
                    let mut result = [R::default(); LANES];
                    for lane in 0..LANES {
                        result[lane] = function($($value[lane]),*);
                    }
                    context.store(op.d, result);
                }
                Outcome::Continue
            }
        }
        $(#[$doc])*
        pub(crate) fn $name<$($type: Lane,)* R: Lane, F: Fn($($type),*) -> R + Copy>(
            path: Path,
            _function: F,
        ) -> Handler {
            handler::<$operation<$($type,)* R, F>>(path)
        }
        $(#[$doc])*
        /// In one build for all paths.
        pub(crate) fn $rare<$($type: Lane,)* R: Lane, F: Fn($($type),*) -> R + Copy>(
            _: Path,
            _function: F,
        ) -> Handler {
            rare_handler::<$operation<$($type,)* R, F>>()
        }
    )* };
}
lane_functions! {
    /// `d = function(a)` in every lane.
    unary, rare_unary, Unary: A a first;
    /// `d = function(a, b)` in every lane.
    binary, rare_binary, Binary: A a first, B b second;
    /// `d = function(a, b, c)` in every lane.
    ternary, rare_ternary, Ternary: A a first, B b second, C c third;
    /// `d = function(a, b, c, e)` in every lane.
    quaternary, rare_quaternary, Quaternary: A a first, B b second, C c third, E e fourth;
}

struct Doubled<A, B, C, R, S, F>(PhantomData<(A, B, C, R, S, F)>);
impl<A: Lane, B: Lane, C: Lane, R: Lane, S: Lane, F: Fn(A, B, C) -> (R, S) + Copy> Operation
    for Doubled<A, B, C, R, S, F>
{
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let function: F = conjure();
        // SAFETY: the decoder gave this operation rows of these types, the second result in `extra[0]`.
        unsafe {
            let first: [A; LANES] = context.load(op.a);
            let second: [B; LANES] = context.load(op.b);
            let third: [C; LANES] = context.load(op.c);
            let mut results = ([R::default(); LANES], [S::default(); LANES]);
            for lane in 0..LANES {
                (results.0[lane], results.1[lane]) =
                    function(first[lane], second[lane], third[lane]);
            }
            context.store(op.d, results.0);
            context.store(op.extra[0], results.1);
        }
        Outcome::Continue
    }
}

/// `(d, extra[0]) = function(a, b, c)` in every lane.
pub(crate) fn doubled<
    A: Lane,
    B: Lane,
    C: Lane,
    R: Lane,
    S: Lane,
    F: Fn(A, B, C) -> (R, S) + Copy,
>(
    path: Path,
    _function: F,
) -> Handler {
    handler::<Doubled<A, B, C, R, S, F>>(path)
}
