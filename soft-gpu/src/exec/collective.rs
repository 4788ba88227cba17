//! Operations between the lanes of a warp: shuffles, votes, matches, reductions.
//!
//! # Safety
//!
//! As in [`super::rows`]. The warp calls these when the members have arrived, with the lanes that take part active.
#![expect(unsafe_code, reason = "rows are reached through a frame pointer")]

use super::op::{NONE, Op};
use super::path::Path;
use super::rows::{Context, Flag, Handler, Isa, LANES, Operation, Outcome, handler, rare_handler};

/// `shfl` modes, in [`Op::count`].
pub(crate) const UP: u8 = 0;
pub(crate) const DOWN: u8 = 1;
pub(crate) const BUTTERFLY: u8 = 2;

struct Shuffle;
impl Operation for Shuffle {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave rows of 32-bit lanes.
        unsafe {
            let (values, offsets, limits): ([u32; LANES], [u32; LANES], [u32; LANES]) =
                (context.load(op.a), context.load(op.b), context.load(op.c));
            let mut results = values;
            let mut valid = [Flag(false); LANES];
            for lane in 0..LANES {
                let (source, inside) =
                    shuffle_source(op.count, lane as u32, offsets[lane], limits[lane]);
                results[lane] = values[source as usize % LANES];
                valid[lane] = Flag(inside);
            }
            context.store(op.d, results);
            if op.extra[0] != NONE {
                context.store(op.extra[0], valid);
            }
        }
        Outcome::Continue
    }
}

/// The lane from which `lane` reads, and whether that lies in its segment.
#[inline(always)]
fn shuffle_source(mode: u8, lane: u32, offset: u32, limit: u32) -> (u32, bool) {
    let (offset, segment, clamp) = (offset & 31, limit >> 8 & 31, limit & 31);
    let highest = (lane & segment) | (clamp & !segment);
    let (source, inside) = match mode {
        UP => (
            lane.wrapping_sub(offset),
            lane as i32 - offset as i32 >= highest as i32,
        ),
        DOWN => (lane + offset, lane + offset <= highest),
        BUTTERFLY => (lane ^ offset, lane ^ offset <= highest),
        _ => {
            let source = (lane & segment) | (offset & !segment);
            (source, source <= highest)
        }
    };
    if inside {
        (source, true)
    } else {
        (lane, false)
    }
}

/// The handler of `shfl`.
pub(crate) fn shuffle(path: Path) -> Handler {
    handler::<Shuffle>(path)
}

/// Votes and reductions, in [`Op::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Gather {
    All,
    Any,
    Uniform,
    Ballot,
    ActiveMask,
    MatchAny,
    MatchAll,
    MatchAnyWide,
    MatchAllWide,
    Add,
    MinUnsigned,
    MaxUnsigned,
    MinSigned,
    MaxSigned,
    And,
    Or,
    Xor,
    Elect,
    Nothing,
}

struct Gathering;
impl Operation for Gathering {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave rows of the kinds that each operation reads and writes.
        unsafe { gather(context, op) };
        Outcome::Continue
    }
}

/// Same for every path: these are rare. Lanes that name the same members are a group; there can be several at a time, as parts of a warp
/// that was partitioned.
///
/// # Safety
///
/// As [`Operation::execute`].
#[inline(never)]
unsafe fn gather(context: &mut Context<'_>, op: &Op) {
    let (active, whole) = (context.active, context.whole);
    // SAFETY: the caller's promise.
    unsafe {
        // With one mask for all, the members are the active lanes.
        let members: [u32; LANES] = if op.e == NONE {
            [u32::MAX; LANES]
        } else {
            context.load(op.e)
        };
        let mut left = active;
        while left != 0 {
            let named = members[left.trailing_zeros() as usize % LANES];
            let peers = (0..LANES)
                .filter(|&lane| left >> lane & 1 != 0 && members[lane] == named)
                .fold(0, |lanes, lane| lanes | 1 << lane);
            if peers != active {
                context.activate(peers, 0);
            }
            gather_group(context, op, active & named);
            left &= !peers;
        }
    }
    if context.active != active {
        context.activate(active, if whole { active } else { 0 });
    }
}

/// What the active lanes get, of which `group` are the members.
///
/// # Safety
///
/// As [`Operation::execute`].
unsafe fn gather_group(context: &mut Context<'_>, op: &Op, group: u32) {
    let active = context.active;
    let first = active.trailing_zeros() as usize % LANES;
    // SAFETY: the caller's promise.
    unsafe {
        if op.count == Gather::Nothing as u8 {
            return;
        }
        if op.count <= Gather::ActiveMask as u8 {
            let bits = if op.a == NONE { 0 } else { context.bits(op.a) } & group;
            let value = match op.count {
                0 => u32::MAX * u32::from(bits == group),
                1 => u32::MAX * u32::from(bits != 0),
                2 => u32::MAX * u32::from(bits == group || bits == 0),
                3 => bits,
                _ => active,
            };
            return context.store(op.d, [value; LANES]);
        }
        if op.count == Gather::Elect as u8 {
            let leader: [Flag; LANES] = std::array::from_fn(|lane| Flag(lane == first));
            context.store(op.extra[0], leader);
            return context.store(op.d, [first as u32; LANES]);
        }
        if op.count <= Gather::MatchAllWide as u8 {
            return matching(context, op, group);
        }
        let values: [u32; LANES] = context.load(op.a);
        let lanes = (0..LANES)
            .filter(|&lane| group >> lane & 1 != 0)
            .map(|lane| values[lane]);
        let signed = lanes.clone().map(|value| value as i32);
        let value = match op.count {
            count if count == Gather::Add as u8 => lanes.fold(0, u32::wrapping_add),
            count if count == Gather::MinUnsigned as u8 => lanes.min().unwrap_or(0),
            count if count == Gather::MaxUnsigned as u8 => lanes.max().unwrap_or(0),
            count if count == Gather::MinSigned as u8 => signed.min().unwrap_or(0) as u32,
            count if count == Gather::MaxSigned as u8 => signed.max().unwrap_or(0) as u32,
            count if count == Gather::And as u8 => lanes.fold(u32::MAX, |all, value| all & value),
            count if count == Gather::Or as u8 => lanes.fold(0, |all, value| all | value),
            _ => lanes.fold(0, |all, value| all ^ value),
        };
        context.store(op.d, [value; LANES]);
    }
}

/// # Safety
///
/// As [`Operation::execute`].
unsafe fn matching(context: &mut Context<'_>, op: &Op, group: u32) {
    let wide = op.count >= Gather::MatchAnyWide as u8;
    // SAFETY: the caller's promise.
    unsafe {
        let values: [u64; LANES] = if wide {
            context.load(op.a)
        } else {
            context.load::<u32>(op.a).map(u64::from)
        };
        let equal = |value: u64| {
            (0..LANES)
                .filter(|&lane| group >> lane & 1 != 0 && values[lane] == value)
                .fold(0, |set, lane| set | 1 << lane)
        };
        if op.count == Gather::MatchAny as u8 || op.count == Gather::MatchAnyWide as u8 {
            let masks: [u32; LANES] = std::array::from_fn(|lane| equal(values[lane]));
            return context.store(op.d, masks);
        }
        let all = equal(values[group.trailing_zeros() as usize % LANES]) == group;
        context.store(op.d, [if all { group } else { 0 }; LANES]);
        if op.extra[0] != NONE {
            context.store(op.extra[0], [Flag(all); LANES]);
        }
    }
}

/// The handler of everything in [`Gather`].
pub(crate) fn gathering(_: Path) -> Handler {
    rare_handler::<Gathering>()
}
