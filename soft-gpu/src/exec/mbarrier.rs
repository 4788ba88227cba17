//! The barriers in shared memory (`mbarrier`): a word of 64 bits each, opaque to programs.
//!
//! ```text
//! 63           61 60                    40 39           20 19             0
//! phase (counts)  transactions (signed)    pending         expected arrivals
//! ```
//!
//! A phase is over when nobody is pending and the count of transactions is zero; the next one begins at once, with as many pending as are expected. The
//! count goes up by what is expected and down by what is complete, in any order. A program may ask for the present phase and the one before it, which a
//! count of eight tells apart.
//!
//! # Safety
//!
//! As in [`super::rows`]; a barrier is touched only where [`locate_shared`] found it accessible. A block runs on one thread, and so do the blocks of a
//! cluster, so that their barriers are plain words.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::fault::FaultKind;
use super::memory::{Device, Memory, Shared, SharedShort, Target, locate_shared};
use super::op::{NONE, Op};
use super::path::Path;
use super::rows::{
    Context, Flag, Handler, Isa, LANES, Operation, Outcome, rare_handler, rare_unary,
};

/// Most arrivals that a barrier can expect, and most transactions.
const MOST: u64 = (1 << 20) - 1;
const PENDING_SHIFT: u32 = 20;
const TRANSACTIONS_SHIFT: u32 = 40;
const TRANSACTIONS_BITS: u32 = 21;
const PHASE_SHIFT: u32 = TRANSACTIONS_SHIFT + TRANSACTIONS_BITS;

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
    /// Row `b` transactions more are expected.
    Expect,
    /// Row `b` transactions are complete.
    Complete,
    /// Both: row `b` transactions more are expected, and one thread arrives.
    ExpectAndArrive,
    ExpectAndArriveAndDrop,
    /// Row `d` says whether the phase in the state in row `b` is over.
    Test,
    /// The same by the parity of the phase.
    TestParity,
}

const ACTS: [Act; 10] = [
    Act::Initialise,
    Act::Invalidate,
    Act::Arrive,
    Act::ArriveAndDrop,
    Act::Expect,
    Act::Complete,
    Act::ExpectAndArrive,
    Act::ExpectAndArriveAndDrop,
    Act::Test,
    Act::TestParity,
];

impl Act {
    /// Whether it may be done to a barrier of another block.
    fn is_remote(self) -> bool {
        !matches!(
            self,
            Act::Initialise | Act::Invalidate | Act::Test | Act::TestParity
        )
    }
}

/// A barrier, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Barrier {
    phase: u64,
    transactions: i64,
    pending: u64,
    expected: u64,
}

/// The count of the phase in a barrier or in a state of it.
fn phase_of(word: u64) -> u64 {
    word >> PHASE_SHIFT
}

impl Barrier {
    /// One that nobody has arrived at.
    fn new(expected: u64) -> Self {
        Self {
            phase: 0,
            transactions: 0,
            pending: expected,
            expected,
        }
    }

    fn of(word: u64) -> Self {
        let unused = 64 - TRANSACTIONS_BITS;
        Self {
            phase: phase_of(word),
            transactions: ((word >> TRANSACTIONS_SHIFT << unused) as i64) >> unused,
            pending: word >> PENDING_SHIFT & MOST,
            expected: word & MOST,
        }
    }

    fn word(self) -> u64 {
        let transactions = self.transactions as u64 & ((1 << TRANSACTIONS_BITS) - 1);
        self.phase << PHASE_SHIFT
            | transactions << TRANSACTIONS_SHIFT
            | self.pending << PENDING_SHIFT
            | self.expected
    }

    /// After a change: the next phase, if this one is over.
    fn settled(mut self) -> Self {
        if self.pending == 0 && self.transactions == 0 {
            self.phase = self.phase.wrapping_add(1) & (u64::MAX >> PHASE_SHIFT);
            self.pending = self.expected;
        }
        self
    }

    /// After `count` more arrivals, or why not: so many are not expected.
    fn arrived(mut self, count: u64, drops: bool) -> Result<Self, &'static str> {
        const TOO_MANY: &str = "more arrivals at an mbarrier than it expects";
        self.pending = self.pending.checked_sub(count).ok_or(TOO_MANY)?;
        if drops {
            self.expected = self.expected.checked_sub(count).ok_or(TOO_MANY)?;
        }
        Ok(self.settled())
    }

    /// With a count of transactions that has changed.
    fn changed(mut self, by: i64) -> Result<Self, &'static str> {
        self.transactions += by;
        match self.transactions.unsigned_abs() <= MOST {
            true => Ok(self),
            false => Err("more transactions of an mbarrier than it can count"),
        }
    }

    fn after(self, act: Act, operand: u64) -> Result<Self, &'static str> {
        let bytes = i64::from(operand as u32);
        match act {
            Act::Initialise => Ok(Self::new(operand & MOST)),
            Act::Arrive => self.arrived(operand, false),
            Act::ArriveAndDrop => self.arrived(operand, true),
            Act::Expect => self.changed(bytes),
            Act::Complete => Ok(self.changed(-bytes)?.settled()),
            Act::ExpectAndArrive => self.changed(bytes)?.arrived(1, false),
            Act::ExpectAndArriveAndDrop => self.changed(bytes)?.arrived(1, true),
            Act::Invalidate | Act::Test | Act::TestParity => Ok(self),
        }
    }
}

struct Perform<M>(PhantomData<M>);
impl<M: Memory> Operation for Perform<M> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let act = ACTS[usize::from(op.count) % ACTS.len()];
        // SAFETY: the decoder gave rows of the kinds that each act reads and writes; a barrier is touched where it was
        // found, aligned, in shared memory.
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
                let Some(place) = locate_barrier(context, lane, addresses[lane], act.is_remote())
                else {
                    return Outcome::Fault;
                };
                let before = place.read();
                states[lane] = before;
                match act {
                    Act::Invalidate => place.write(0),
                    Act::Test => over[lane] = Flag(phase_of(before) != phase_of(operands[lane])),
                    Act::TestParity => {
                        over[lane] = Flag(phase_of(before) & 1 != operands[lane] & 1)
                    }
                    _ => match Barrier::of(before).after(act, operands[lane]) {
                        Ok(barrier) => place.write(barrier.word()),
                        Err(why) => return refused(context, lane, addresses[lane], why),
                    },
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

#[cold]
fn refused(context: &mut Context<'_>, lane: usize, address: u64, why: &str) -> Outcome {
    context.detail = why.into();
    context.fail_in(lane, FaultKind::IllegalInstruction, Some(address))
}

/// The barrier at generic address `address`, or a fault where that is no aligned word of shared memory, or of another block's and must not be.
fn locate_barrier(
    context: &mut Context<'_>,
    lane: usize,
    address: u64,
    is_remote: bool,
) -> Option<*mut u64> {
    if address & 7 != 0 {
        context.fail_in(lane, FaultKind::Misaligned, Some(address));
        return None;
    }
    let own = context.shared as u64;
    let own = own..own + context.shared_bytes;
    let found = locate_shared(context, address, 8).filter(|host| is_remote || own.contains(host));
    if found.is_none() {
        context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
    }
    found.map(|host| host as *mut u64)
}

/// Completes `bytes` transactions of the barrier at a generic address: what an asynchronous operation does at its end.
pub(crate) fn complete(
    context: &mut Context<'_>,
    lane: usize,
    address: u64,
    bytes: u64,
) -> Outcome {
    let Some(place) = locate_barrier(context, lane, address, true) else {
        return Outcome::Fault;
    };
    // SAFETY: found, aligned, in shared memory.
    let before = unsafe { place.read() };
    match Barrier::of(before).after(Act::Complete, bytes) {
        Ok(barrier) => {
            // SAFETY: as above.
            unsafe { place.write(barrier.word()) };
            Outcome::Continue
        }
        Err(why) => refused(context, lane, address, why),
    }
}

/// The handler of everything in [`Act`].
pub(crate) fn barrier(target: Target) -> Option<Handler> {
    match target {
        Target::Device => Some(rare_handler::<Perform<Device>>()),
        Target::Shared => Some(rare_handler::<Perform<Shared>>()),
        Target::SharedShort => Some(rare_handler::<Perform<SharedShort>>()),
        Target::Local => None,
    }
}

/// The handler of `mbarrier.pending_count`.
pub(crate) fn pending_count(path: Path) -> Handler {
    rare_unary(path, |state: u64| Barrier::of(state).pending as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_arrival_begins_the_next_phase() {
        let fresh = Barrier::new(3);
        let after = fresh.arrived(2, false).unwrap();
        assert_eq!((after.pending, after.phase), (1, 0));
        assert!(after.arrived(2, false).is_err());
        let next = after.arrived(1, true).unwrap();
        assert_eq!((next.phase, next.pending, next.expected), (1, 2, 2));
    }

    #[test]
    fn a_phase_lasts_until_its_transactions_are_complete_in_any_order() {
        let fresh = Barrier::new(1);
        let waiting = fresh.after(Act::ExpectAndArrive, 64).unwrap();
        assert_eq!((waiting.phase, waiting.transactions), (0, 64));
        let half = waiting.after(Act::Complete, 32).unwrap();
        assert_eq!(half.phase, 0);
        assert_eq!(half.after(Act::Complete, 32).unwrap().phase, 1);
        // What is complete before it was expected.
        let early = fresh.after(Act::Complete, 64).unwrap();
        assert_eq!((early.phase, early.transactions), (0, -64));
        let over = early.after(Act::ExpectAndArrive, 64).unwrap();
        assert_eq!((over.phase, over.transactions, over.pending), (1, 0, 1));
        // An expectation alone ends no phase.
        let expected = early.after(Act::Expect, 64).unwrap();
        assert_eq!((expected.phase, expected.transactions), (0, 0));
        assert!(fresh.after(Act::Expect, 1 << 20).is_err());
        assert!(fresh.after(Act::Complete, u64::from(u32::MAX)).is_err());
    }

    #[test]
    fn a_word_holds_everything_of_a_barrier() {
        for phase in 0..8 {
            for transactions in [-(MOST as i64), -1, 0, 1, MOST as i64] {
                for (pending, expected) in [(0, 0), (1, MOST), (MOST, 5)] {
                    let barrier = Barrier {
                        phase,
                        transactions,
                        pending,
                        expected,
                    };
                    assert_eq!(Barrier::of(barrier.word()), barrier);
                }
            }
        }
        let last = Barrier {
            phase: 7,
            ..Barrier::new(1)
        };
        assert_eq!(last.arrived(1, false).unwrap(), Barrier::new(1));
    }
}
