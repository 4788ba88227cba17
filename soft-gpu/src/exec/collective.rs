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
/// that was partitioned. All is read before anything is written: a result may lie where a source ends.
///
/// # Safety
///
/// As [`Operation::execute`].
#[inline(never)]
unsafe fn gather(context: &mut Context<'_>, op: &Op) {
    if op.count == Gather::Nothing as u8 {
        return;
    }
    let active = context.active;
    // SAFETY: the caller's promise.
    let (members, values): ([u32; LANES], [u64; LANES]) = unsafe {
        (
            // With one mask for all, the members are the active lanes.
            match op.e {
                NONE => [u32::MAX; LANES],
                row => context.load(row),
            },
            match op.count {
                count if count == Gather::Elect as u8 => [0; LANES],
                count if count <= Gather::ActiveMask as u8 => match op.a {
                    NONE => [0; LANES],
                    row => context.load::<Flag>(row).map(|flag| u64::from(flag.0)),
                },
                count if is_wide(count) => context.load(op.a),
                _ => context.load::<u32>(op.a).map(u64::from),
            },
        )
    };
    let (mut results, mut flags) = ([0u32; LANES], [Flag(false); LANES]);
    let mut left = active;
    while left != 0 {
        let named = members[left.trailing_zeros() as usize % LANES];
        let peers = lanes_where(left, |lane| members[lane] == named);
        gather_group(
            op.count,
            &values,
            Group {
                peers,
                members: active & named,
            },
            (&mut results, &mut flags),
        );
        left &= !peers;
    }
    // SAFETY: the caller's promise.
    unsafe {
        context.store(op.d, results);
        if op.extra[0] != NONE {
            context.store(op.extra[0], flags);
        }
    }
}

/// Whether it matches 64 bits.
fn is_wide(count: u8) -> bool {
    count == Gather::MatchAnyWide as u8 || count == Gather::MatchAllWide as u8
}

/// Of some lanes, those for which something holds.
fn lanes_where(lanes: u32, holds: impl Fn(usize) -> bool) -> u32 {
    (0..LANES)
        .filter(|&lane| lanes >> lane & 1 != 0 && holds(lane))
        .fold(0, |set, lane| set | 1 << lane)
}

/// Lanes that named the same members.
struct Group {
    peers: u32,
    members: u32,
}

/// What the lanes of a group get.
fn gather_group(
    count: u8,
    values: &[u64; LANES],
    Group { peers, members }: Group,
    (results, flags): (&mut [u32; LANES], &mut [Flag; LANES]),
) {
    let first = peers.trailing_zeros() as usize % LANES;
    let equal = |value: u64| lanes_where(members, |lane| values[lane] == value);
    let of_members = || (0..LANES).filter(|&lane| members >> lane & 1 != 0);
    let words = || of_members().map(|lane| values[lane] as u32);
    let signed = || words().map(|word| word as i32);
    let truth = |is_so: bool| if is_so { u32::MAX } else { 0 };
    let value = match count {
        count if count <= Gather::Ballot as u8 => {
            let bits = lanes_where(members, |lane| values[lane] != 0);
            match count {
                count if count == Gather::All as u8 => truth(bits == members),
                count if count == Gather::Any as u8 => truth(bits != 0),
                count if count == Gather::Uniform as u8 => truth(bits == members || bits == 0),
                _ => bits,
            }
        }
        count if count == Gather::ActiveMask as u8 => peers,
        count if count == Gather::MatchAny as u8 || count == Gather::MatchAnyWide as u8 => {
            for lane in (0..LANES).filter(|&lane| peers >> lane & 1 != 0) {
                results[lane] = equal(values[lane]);
            }
            return;
        }
        count if count == Gather::MatchAll as u8 || count == Gather::MatchAllWide as u8 => {
            let all = equal(values[members.trailing_zeros() as usize % LANES]) == members;
            for lane in (0..LANES).filter(|&lane| peers >> lane & 1 != 0) {
                flags[lane] = Flag(all);
            }
            if all { members } else { 0 }
        }
        count if count == Gather::Elect as u8 => {
            flags[first] = Flag(true);
            first as u32
        }
        count if count == Gather::Add as u8 => words().fold(0, u32::wrapping_add),
        count if count == Gather::MinUnsigned as u8 => words().min().unwrap_or(0),
        count if count == Gather::MaxUnsigned as u8 => words().max().unwrap_or(0),
        count if count == Gather::MinSigned as u8 => signed().min().unwrap_or(0) as u32,
        count if count == Gather::MaxSigned as u8 => signed().max().unwrap_or(0) as u32,
        count if count == Gather::And as u8 => words().fold(u32::MAX, |all, word| all & word),
        count if count == Gather::Or as u8 => words().fold(0, |all, word| all | word),
        _ => words().fold(0, |all, word| all ^ word),
    };
    for lane in (0..LANES).filter(|&lane| peers >> lane & 1 != 0) {
        results[lane] = value;
    }
}

/// The handler of everything in [`Gather`].
pub(crate) fn gathering(_: Path) -> Handler {
    rare_handler::<Gathering>()
}
