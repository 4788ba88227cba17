//! Atomic operations on memory.
//!
//! Lane after lane. Blocks run on different threads, so that device memory is changed with the processor's atomic
//! instructions; the same code serves shared memory.
//!
//! # Safety
//!
//! Addresses were found accessible and aligned by [`place`].
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use super::classify::Shape;
use super::half::{Bf16, F16, Half};
use super::memory::{Device, Local, Memory, Shared, SharedShort, Target, each, place};
use super::op::{NONE, Op};
use super::path::Path;
use super::rows::{Context, Handler, Isa, LANES, Lane, Operation, Outcome, rare_handler};

/// A word that atomics exist for.
pub(crate) trait Word: Lane + PartialEq {
    /// Replaces the word at `address` by `function` of it, and gives what it was.
    ///
    /// # Safety
    ///
    /// `address` is accessible and aligned.
    unsafe fn update(address: u64, function: impl FnMut(Self) -> Self) -> Self;
}

macro_rules! words {
    ($($type:ty, $atomic:ty;)*) => { $(
        impl Word for $type {
            #[inline(always)]
            unsafe fn update(address: u64, mut function: impl FnMut(Self) -> Self) -> Self {
                // SAFETY: the caller's promise.
                let word = unsafe { <$atomic>::from_ptr(address as *mut $type) };
                let mut old = word.load(SeqCst);
                loop {
                    match word.compare_exchange_weak(old, function(old), SeqCst, SeqCst) {
                        Ok(value) => return value,
                        Err(value) => old = value,
                    }
                }
            }
        }
    )* };
}
words! {
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

/// What becomes of a word `old`, given two operands.
pub(crate) trait Change<T>: Copy {
    fn apply(self, old: T, first: T, second: T) -> T;
}
impl<T, F: Fn(T, T, T) -> T + Copy> Change<T> for F {
    #[inline(always)]
    fn apply(self, old: T, first: T, second: T) -> T {
        self(old, first, second)
    }
}

struct Atomic<M, T, F>(PhantomData<(M, T, F)>);
impl<M: Memory, T: Word, F: Change<T>> Operation for Atomic<M, T, F> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let change: F = super::rows::conjure();
        // SAFETY: the decoder gave rows of these types; `place` checks every address.
        unsafe {
            let bounds = place::<M, P>(context, op, size_of::<T>() as u64);
            if bounds.shape == Shape::Refused {
                return Outcome::Fault;
            }
            let addresses = each::<M>(context, op, bounds);
            let first: [T; LANES] = context.load(op.b);
            let second: [T; LANES] = if op.c == NONE {
                first
            } else {
                context.load(op.c)
            };
            let mut results = [T::default(); LANES];
            let mut left = context.active;
            while left != 0 {
                let lane = left.trailing_zeros() as usize;
                left &= left - 1;
                results[lane] = T::update(addresses[lane], |old| {
                    change.apply(old, first[lane], second[lane])
                });
            }
            if op.d != NONE {
                context.store(op.d, results);
            }
        }
        Outcome::Continue
    }
}

fn atomic<T: Word, F: Fn(T, T, T) -> T + Copy>(_: Path, target: Target, _change: F) -> Handler {
    // Atomics are bound by memory, not by vector width: one build for all paths.
    match target {
        Target::Device => rare_handler::<Atomic<Device, T, F>>(),
        Target::Shared => rare_handler::<Atomic<Shared, T, F>>(),
        Target::SharedShort => rare_handler::<Atomic<SharedShort, T, F>>(),
        Target::Local => rare_handler::<Atomic<Local, T, F>>(),
    }
}

/// What an atomic operation does, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Action {
    Add,
    Exchange,
    CompareAndSwap,
    And,
    Or,
    Xor,
    Min,
    Max,
    MinSigned,
    MaxSigned,
    Increment,
    Decrement,
    AddSingle,
    AddDouble,
    AddHalf,
    AddBrain,
    AddHalves,
    AddBrains,
    MinHalf,
    MaxHalf,
    MinBrain,
    MaxBrain,
}

impl Action {
    pub(crate) const ALL: [Action; 22] = [
        Action::Add,
        Action::Exchange,
        Action::CompareAndSwap,
        Action::And,
        Action::Or,
        Action::Xor,
        Action::Min,
        Action::Max,
        Action::MinSigned,
        Action::MaxSigned,
        Action::Increment,
        Action::Decrement,
        Action::AddSingle,
        Action::AddDouble,
        Action::AddHalf,
        Action::AddBrain,
        Action::AddHalves,
        Action::AddBrains,
        Action::MinHalf,
        Action::MaxHalf,
        Action::MinBrain,
        Action::MaxBrain,
    ];

    /// The action with this number; the first where there is none.
    pub(crate) fn from_number(number: u8) -> Action {
        let known = Self::ALL.get(usize::from(number));
        known.copied().unwrap_or(Action::Add)
    }
}

/// What a word of `bytes` bytes becomes that is changed by one operand.
fn after(action: Action, bytes: u8, old: u64, a: u64) -> u64 {
    let unused = 64 - 8 * u32::from(bytes);
    let signed = |word: u64| (word << unused) as i64 >> unused;
    let halves = |of: fn(f32, f32) -> f32| {
        let [old, a] = [old, a].map(|half| F16(half as u16).to_f32());
        u64::from(F16::nearest(of(old, a)).0)
    };
    let brains = |of: fn(f32, f32) -> f32| {
        let [old, a] = [old, a].map(|half| Bf16(half as u16).to_f32());
        u64::from(Bf16::nearest(of(old, a)).0)
    };
    match action {
        Action::Add => old.wrapping_add(a),
        Action::Exchange | Action::CompareAndSwap => a,
        Action::And => old & a,
        Action::Or => old | a,
        Action::Xor => old ^ a,
        Action::Min => old.min(a),
        Action::Max => old.max(a),
        Action::MinSigned => signed(old).min(signed(a)) as u64,
        Action::MaxSigned => signed(old).max(signed(a)) as u64,
        Action::Increment if old >= a => 0,
        Action::Increment => old + 1,
        Action::Decrement if old == 0 || old > a => a,
        Action::Decrement => old - 1,
        Action::AddSingle => (f32::from_bits(old as u32) + f32::from_bits(a as u32))
            .to_bits()
            .into(),
        Action::AddDouble => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        Action::AddHalf => halves(|x, y| x + y),
        Action::AddBrain => brains(|x, y| x + y),
        // A number is less and more than what is none.
        Action::MinHalf => halves(f32::min),
        Action::MaxHalf => halves(f32::max),
        Action::MinBrain => brains(f32::min),
        Action::MaxBrain => brains(f32::max),
        Action::AddHalves => super::half::pair(old as u32, a as u32, |x: F16, y: F16| {
            F16::nearest(x.to_f32() + y.to_f32())
        })
        .into(),
        Action::AddBrains => super::half::pair(old as u32, a as u32, |x: Bf16, y: Bf16| {
            Bf16::nearest(x.to_f32() + y.to_f32())
        })
        .into(),
    }
}

/// Changes the word at `address` by one operand.
///
/// # Safety
///
/// `address` is accessible and aligned for a word of 2, 4 or 8 bytes; another number of them changes nothing.
pub(crate) unsafe fn update(action: Action, bytes: u8, address: u64, operand: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match bytes {
            2 => {
                u16::update(address, |old| after(action, 2, old.into(), operand) as u16);
            }
            4 => {
                u32::update(address, |old| after(action, 4, old.into(), operand) as u32);
            }
            8 => {
                u64::update(address, |old| after(action, 8, old, operand));
            }
            _ => {}
        }
    }
}

/// The handler of `action` on words of `bytes` bytes.
pub(crate) fn handler_of(
    path: Path,
    target: Target,
    action: Action,
    bytes: u32,
) -> Option<Handler> {
    macro_rules! either {
        (|$old:ident, $a:ident, $b:ident| $value:expr) => {
            match bytes {
                4 => atomic(path, target, |$old: u32, $a: u32, $b: u32| $value),
                8 => atomic(path, target, |$old: u64, $a: u64, $b: u64| $value),
                _ => return None,
            }
        };
    }
    Some(match (action, bytes) {
        (Action::Add, _) => either!(|old, a, _b| old.wrapping_add(a)),
        (Action::Exchange, _) => either!(|_old, a, _b| a),
        (Action::CompareAndSwap, 2) => atomic(
            path,
            target,
            |old: u16, a: u16, b: u16| if old == a { b } else { old },
        ),
        (Action::CompareAndSwap, _) => either!(|old, a, b| if old == a { b } else { old }),
        (Action::And, _) => either!(|old, a, _b| old & a),
        (Action::Or, _) => either!(|old, a, _b| old | a),
        (Action::Xor, _) => either!(|old, a, _b| old ^ a),
        (Action::Min, _) => either!(|old, a, _b| old.min(a)),
        (Action::Max, _) => either!(|old, a, _b| old.max(a)),
        (Action::MinSigned, 4) => atomic(path, target, |old: u32, a: u32, _: u32| {
            (old as i32).min(a as i32) as u32
        }),
        (Action::MaxSigned, 4) => atomic(path, target, |old: u32, a: u32, _: u32| {
            (old as i32).max(a as i32) as u32
        }),
        (Action::MinSigned, 8) => atomic(path, target, |old: u64, a: u64, _: u64| {
            (old as i64).min(a as i64) as u64
        }),
        (Action::MaxSigned, 8) => atomic(path, target, |old: u64, a: u64, _: u64| {
            (old as i64).max(a as i64) as u64
        }),
        (Action::Increment, 4) => atomic(
            path,
            target,
            |old: u32, a: u32, _: u32| if old >= a { 0 } else { old + 1 },
        ),
        (Action::Decrement, 4) => {
            atomic(
                path,
                target,
                |old: u32, a: u32, _: u32| if old == 0 || old > a { a } else { old - 1 },
            )
        }
        (Action::AddSingle, 4) => atomic(path, target, |old: u32, a: u32, _: u32| {
            (f32::from_bits(old) + f32::from_bits(a)).to_bits()
        }),
        (Action::AddDouble, 8) => atomic(path, target, |old: u64, a: u64, _: u64| {
            (f64::from_bits(old) + f64::from_bits(a)).to_bits()
        }),
        (Action::AddHalf, 2) => atomic(path, target, |old: u16, a: u16, _: u16| {
            F16::nearest(F16(old).to_f32() + F16(a).to_f32()).0
        }),
        (Action::AddBrain, 2) => atomic(path, target, |old: u16, a: u16, _: u16| {
            Bf16::nearest(Bf16(old).to_f32() + Bf16(a).to_f32()).0
        }),
        (Action::AddHalves, 4) => atomic(path, target, |old: u32, a: u32, _: u32| {
            super::half::pair(old, a, |x: F16, y: F16| {
                F16::nearest(x.to_f32() + y.to_f32())
            })
        }),
        (Action::AddBrains, 4) => atomic(path, target, |old: u32, a: u32, _: u32| {
            super::half::pair(old, a, |x: Bf16, y: Bf16| {
                Bf16::nearest(x.to_f32() + y.to_f32())
            })
        }),
        _ => return None,
    })
}
