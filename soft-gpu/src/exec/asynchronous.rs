//! `cp.async`, and the barriers in shared memory (`mbarrier`).
//!
//! A copy is done when it is issued: PTX lets it be done at any time up to the wait for it, so that groups and waits
//! have nothing to do. An `mbarrier` is a word of 64 bits, opaque to programs:
//!
//! ```text
//! 63             40 39           20 19             0
//! phase (counts up) pending arrivals expected arrivals
//! ```
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`place`] or [`locate`] found it accessible. A block runs on one
//! thread, so that its barriers are plain words; so do the blocks of a cluster.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::classify::Shape;
use super::fault::FaultKind;
use super::memory::{
    Device, Memory, Shared, SharedShort, Target, each, locate, locate_shared, place,
};
use super::op::{NONE, Op};
use super::path::Path;
use super::rows::{
    Context, Flag, Handler, Isa, LANES, Operation, Outcome, handler, rare_handler, rare_unary,
};

/// Most arrivals that a barrier can expect.
const MAX_ARRIVALS: u64 = (1 << 20) - 1;
const PENDING_SHIFT: u32 = 20;
const PHASE_SHIFT: u32 = 40;

/// `cp.async`: [`Op::count`] bytes from row `b` to row `a`; the rest after row `c` of them becomes zero, where it is there.
/// The two offsets are the halves of [`Op::immediate`].
struct Copy<M>(PhantomData<M>);
impl<M: Memory> Operation for Copy<M> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let size = u64::from(op.count);
        let (to, from) = ends(op);
        // SAFETY: the decoder gave rows of addresses; `place` and `copy_some` check every one.
        unsafe {
            let sizes: [u32; LANES] = if op.c == NONE {
                [size as u32; LANES]
            } else {
                context.load(op.c)
            };
            let partial = (0..LANES)
                .any(|lane| context.active >> lane & 1 != 0 && u64::from(sizes[lane]) != size);
            let target = place::<M, P>(context, &to, size);
            if target.shape == Shape::Refused {
                return Outcome::Fault;
            }
            let targets = each::<M>(context, &to, target);
            if partial {
                return copy_some(context, &from, size, &targets, &sizes);
            }
            let source = place::<Device, P>(context, &from, size);
            if source.shape == Shape::Refused {
                return Outcome::Fault;
            }
            let sources = each::<Device>(context, &from, source);
            for lane in 0..LANES {
                if context.active >> lane & 1 != 0 {
                    let (source, target) = (sources[lane], targets[lane]);
                    match size {
                        16 => (target as *mut [u64; 2]).write((source as *const [u64; 2]).read()),
                        8 => (target as *mut u64).write((source as *const u64).read()),
                        _ => (target as *mut u32).write((source as *const u32).read()),
                    }
                }
            }
        }
        Outcome::Continue
    }
}

/// The two accesses of a copy, each as an operation of its own: target and source.
#[inline(always)]
fn ends(op: &Op) -> (Op, Op) {
    let (mut to, mut from) = (op.clone(), op.clone());
    to.immediate = i64::from(op.immediate as i32);
    (from.a, from.immediate) = (op.b, op.immediate >> 32);
    (to, from)
}

/// Lane after lane: a lane that copies nothing may have any source address.
///
/// # Safety
///
/// As [`Operation::execute`]; every active lane's target is good for `size` bytes.
#[cold]
#[inline(never)]
unsafe fn copy_some(
    context: &mut Context<'_>,
    from: &Op,
    size: u64,
    targets: &[u64; LANES],
    sizes: &[u32; LANES],
) -> Outcome {
    // SAFETY: the caller's promise.
    let sources = unsafe { Device::generic(context, from.a, from.immediate) };
    for lane in (0..LANES).filter(|lane| context.active >> lane & 1 != 0) {
        let wanted = u64::from(sizes[lane]).min(size);
        let mut bytes = [0u8; 16];
        if wanted != 0 {
            let address = sources[lane];
            let kind = if address & (size - 1) == 0 {
                FaultKind::IllegalAddress
            } else {
                FaultKind::Misaligned
            };
            let found = locate(context, lane, address, wanted);
            let Some(host) = found.filter(|_| kind == FaultKind::IllegalAddress) else {
                return context.fail_in(lane, kind, Some(address));
            };
            // SAFETY: `locate` found `wanted` bytes there, at most sixteen.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    host as *const u8,
                    bytes.as_mut_ptr(),
                    wanted as usize,
                );
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), targets[lane] as *mut u8, size as usize);
        }
    }
    Outcome::Continue
}

/// The handler of `cp.async`.
pub(crate) fn copy(path: Path, target: Target) -> Option<Handler> {
    match target {
        Target::Shared => Some(handler::<Copy<Shared>>(path)),
        Target::SharedShort => Some(handler::<Copy<SharedShort>>(path)),
        Target::Device | Target::Local => None,
    }
}

/// What is done to a barrier; in [`Op::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Act {
    /// Makes a barrier that expects row `b` arrivals.
    Initialise,
    Invalidate,
    /// Row `b` threads arrive; row `d` gets the barrier as it was.
    Arrive,
    /// The same, and they are not expected in later phases.
    ArriveAndDrop,
    /// Row `d` says whether the phase in the state in row `b` is over.
    Test,
    /// The same by the parity of the phase.
    TestParity,
}

const ACTS: [Act; 6] = [
    Act::Initialise,
    Act::Invalidate,
    Act::Arrive,
    Act::ArriveAndDrop,
    Act::Test,
    Act::TestParity,
];

/// A barrier after `count` more arrivals, or `None` where so many are not expected.
fn arrived(barrier: u64, count: u64, drops: bool) -> Option<u64> {
    let mut expected = barrier & MAX_ARRIVALS;
    let pending = (barrier >> PENDING_SHIFT & MAX_ARRIVALS).checked_sub(count)?;
    let phase = barrier >> PHASE_SHIFT;
    if drops {
        expected = expected.checked_sub(count)?;
    }
    Some(if pending == 0 {
        phase.wrapping_add(1) << PHASE_SHIFT | expected << PENDING_SHIFT | expected
    } else {
        phase << PHASE_SHIFT | pending << PENDING_SHIFT | expected
    })
}

struct Barrier<M>(PhantomData<M>);
impl<M: Memory> Operation for Barrier<M> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let act = ACTS[usize::from(op.count) % ACTS.len()];
        // SAFETY: the decoder gave rows of the kinds that each act reads and writes; a barrier is touched where it was
        // found, aligned, in the block's shared memory.
        unsafe {
            let addresses = M::generic(context, op.a, op.immediate);
            let operands: [u64; LANES] = match act {
                Act::Test => context.load(op.b),
                Act::Invalidate => [0; LANES],
                _ => context.load::<u32>(op.b).map(u64::from),
            };
            let (mut states, mut over) = ([0u64; LANES], [Flag(false); LANES]);
            let active = context.active;
            for lane in (0..LANES).filter(|lane| active >> lane & 1 != 0) {
                let Some(word) = shared_word(context, lane, addresses[lane]) else {
                    return Outcome::Fault;
                };
                let barrier = word.read();
                states[lane] = barrier;
                let phase = barrier >> PHASE_SHIFT;
                match act {
                    Act::Initialise => {
                        let count = operands[lane] & MAX_ARRIVALS;
                        word.write(count << PENDING_SHIFT | count);
                    }
                    Act::Invalidate => word.write(0),
                    Act::Arrive | Act::ArriveAndDrop => {
                        let drops = act == Act::ArriveAndDrop;
                        let Some(next) = arrived(barrier, operands[lane], drops) else {
                            context.detail = "more arrivals at an mbarrier than it expects".into();
                            let address = Some(addresses[lane]);
                            return context.fail_in(lane, FaultKind::IllegalInstruction, address);
                        };
                        word.write(next);
                    }
                    Act::Test => over[lane] = Flag(phase != operands[lane] >> PHASE_SHIFT),
                    Act::TestParity => over[lane] = Flag(phase & 1 != operands[lane] & 1),
                }
            }
            match act {
                Act::Test | Act::TestParity => context.store(op.d, over),
                _ if op.d != NONE => context.store(op.d, states),
                _ => {}
            }
        }
        Outcome::Continue
    }
}

/// The barrier at generic address `address`, or a fault where that is no aligned word of shared memory.
fn shared_word(context: &mut Context<'_>, lane: usize, address: u64) -> Option<*mut u64> {
    if address & 7 != 0 {
        context.fail_in(lane, FaultKind::Misaligned, Some(address));
        return None;
    }
    let found = locate_shared(context, address, 8);
    if found.is_none() {
        context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
    }
    found.map(|host| host as *mut u64)
}

/// The handler of everything in [`Act`].
pub(crate) fn barrier(target: Target) -> Option<Handler> {
    match target {
        Target::Device => Some(rare_handler::<Barrier<Device>>()),
        Target::Shared => Some(rare_handler::<Barrier<Shared>>()),
        Target::SharedShort => Some(rare_handler::<Barrier<SharedShort>>()),
        Target::Local => None,
    }
}

/// The handler of `mbarrier.pending_count`.
pub(crate) fn pending_count(path: Path) -> Handler {
    rare_unary(path, |state: u64| {
        (state >> PENDING_SHIFT & MAX_ARRIVALS) as u32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_arrival_begins_the_next_phase() {
        let fresh = 3 << PENDING_SHIFT | 3;
        let after = arrived(fresh, 2, false).unwrap();
        assert_eq!(after, 1 << PENDING_SHIFT | 3);
        assert_eq!(arrived(after, 2, false), None);
        let next = arrived(after, 1, true).unwrap();
        assert_eq!(next, 1 << PHASE_SHIFT | 2 << PENDING_SHIFT | 2);
    }
}
