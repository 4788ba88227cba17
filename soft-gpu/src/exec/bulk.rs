//! Asynchronous operations on bytes and words that complete transactions of a barrier or are waited for in groups: `cp.async.bulk`,
//! `cp.reduce.async.bulk`, `st.async`, `red.async`.
//!
//! They are done when they are issued, as [`super::asynchronous`] has it: so a group has nothing left to do, and a barrier's transactions are complete at
//! once.
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`locate`] or [`locate_shared`] found it accessible, aligned for the words that are changed there.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use super::atomic::{Action, update};
use super::cluster::mapped;
use super::fault::FaultKind;
use super::mbarrier;
use super::memory::{locate, locate_shared};
use super::op::{NONE, Op};
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};
use super::{SHARED_WINDOW, WINDOW_BYTES};

/// What addresses and sizes of bulk copies are multiples of.
const UNIT: u64 = 16;
/// Most words of a vector.
const MOST_WORDS: usize = 4;

/// What becomes of the words at the destination; in [`Op::immediate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Copy,
    /// The words there are changed by those that come.
    Change(Action, u8),
}

impl Effect {
    pub(crate) fn encode(self) -> i64 {
        match self {
            Effect::Copy => 0,
            Effect::Change(action, bytes) => i64::from(bytes) << 8 | action as i64,
        }
    }

    pub(crate) fn decode(bits: i64) -> Effect {
        match (bits >> 8) as u8 {
            0 => Effect::Copy,
            bytes => Effect::Change(Action::from_number(bits as u8), bytes),
        }
    }

    /// Has `size` bytes come from host address `from` to `to`.
    ///
    /// # Safety
    ///
    /// Both are good for as many bytes, which are whole words, and `to` is aligned for them.
    pub(crate) unsafe fn apply(self, from: u64, to: u64, size: u64) {
        match self {
            // SAFETY: the caller's promise; they may overlap.
            Effect::Copy => unsafe {
                std::ptr::copy(from as *const u8, to as *mut u8, size as usize);
            },
            Effect::Change(action, bytes) => {
                for at in (0..size).step_by(usize::from(bytes)) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let mut word = [0u8; 8];
                        std::ptr::copy_nonoverlapping(
                            (from + at) as *const u8,
                            word.as_mut_ptr(),
                            usize::from(bytes),
                        );
                        update(action, bytes, to + at, u64::from_le_bytes(word));
                    }
                }
            }
        }
    }
}

/// The generic addresses that a lane means: its own, or the same place in each block of a mask.
pub(crate) fn targets(address: u64, mask: Option<u32>) -> impl Iterator<Item = u64> {
    let plain = mask.is_none().then_some(address);
    let ranks = (0..16).filter(move |rank| mask.unwrap_or(0) >> rank & 1 != 0);
    let place = address.wrapping_sub(SHARED_WINDOW);
    let there = move |rank| match place < WINDOW_BYTES {
        true => SHARED_WINDOW + mapped(place, rank),
        false => address,
    };
    plain.into_iter().chain(ranks.map(there))
}

/// The mask of blocks of each lane, where row `row` has one.
///
/// # Safety
///
/// It is a row of 32-bit lanes, or [`NONE`].
pub(crate) unsafe fn masks(context: &Context<'_>, row: u32) -> [Option<u32>; LANES] {
    match row {
        NONE => [None; LANES],
        // SAFETY: the caller's promise.
        row => unsafe { context.load::<u32>(row) }.map(Some),
    }
}

/// Completes a lane's bytes at the barrier that it means, in each block of a mask.
pub(crate) fn complete(
    context: &mut Context<'_>,
    lane: usize,
    (barrier, mask): (u64, Option<u32>),
    bytes: u64,
) -> Outcome {
    for barrier in targets(barrier, mask) {
        if mbarrier::complete(context, lane, barrier, bytes) != Outcome::Continue {
            return Outcome::Fault;
        }
    }
    Outcome::Continue
}

/// Bytes from row `b` to row `a`, both generic, as many as row `c` says; row `e` is the barrier, if there is one, and the first of `extra` a mask of blocks.
struct Bulk;
impl Operation for Bulk {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let effect = Effect::decode(op.immediate);
        // SAFETY: the decoder gave rows of these types.
        let (to, from, sizes, barriers, masks) = unsafe {
            let barriers: [u64; LANES] = match op.e {
                NONE => [0; LANES],
                row => context.load(row),
            };
            (
                context.load::<u64>(op.a),
                context.load::<u64>(op.b),
                context.load::<u32>(op.c).map(u64::from),
                barriers,
                masks(context, op.extra[0]),
            )
        };
        let active = context.active;
        for lane in (0..LANES).filter(|lane| active >> lane & 1 != 0) {
            let size = sizes[lane];
            for address in [to[lane], from[lane], to[lane] | size] {
                if !address.is_multiple_of(UNIT) {
                    return context.fail_in(lane, FaultKind::Misaligned, Some(address));
                }
            }
            for target in targets(to[lane], masks[lane]) {
                let places = [from[lane], target];
                let found = places.map(|address| locate(context, lane, address, size));
                let [Some(source), Some(place)] = found else {
                    let wrong = if found[0].is_none() {
                        from[lane]
                    } else {
                        target
                    };
                    return context.fail_in(lane, FaultKind::IllegalAddress, Some(wrong));
                };
                // SAFETY: both were found, of `size` bytes, at multiples of sixteen.
                unsafe { effect.apply(source, place, size) };
            }
            let barrier = (barriers[lane], masks[lane]);
            if op.e != NONE && complete(context, lane, barrier, size) != Outcome::Continue {
                return Outcome::Fault;
            }
        }
        Outcome::Continue
    }
}

/// The handler of bulk copies.
pub(crate) fn bulk() -> Handler {
    rare_handler::<Bulk>()
}

/// The words in the first [`Op::count`] rows of `extra` to shared memory at row `a`, each lane's as one vector; row `e` is the barrier.
struct Remote<const WIDE: bool>;
impl<const WIDE: bool> Operation for Remote<WIDE> {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let effect = Effect::decode(op.immediate);
        let width: u64 = if WIDE { 8 } else { 4 };
        let count = usize::from(op.count).min(MOST_WORDS);
        let mut words = [[0u64; LANES]; MOST_WORDS];
        // SAFETY: the decoder gave rows of these types.
        let (to, barriers) = unsafe {
            for (words, row) in words.iter_mut().zip(op.extra).take(count) {
                *words = match WIDE {
                    true => context.load(row),
                    false => context.load::<u32>(row).map(u64::from),
                };
            }
            (context.load::<u64>(op.a), context.load::<u64>(op.e))
        };
        let size = width * count as u64;
        let active = context.active;
        for lane in (0..LANES).filter(|lane| active >> lane & 1 != 0) {
            let address = to[lane];
            if !address.is_multiple_of(size) {
                return context.fail_in(lane, FaultKind::Misaligned, Some(address));
            }
            let Some(place) = locate_shared(context, address, size) else {
                return context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
            };
            for (words, at) in words.iter().take(count).zip((0..).step_by(width as usize)) {
                let word = words[lane].to_le_bytes();
                // SAFETY: the place was found, of the vector's size and aligned to it.
                unsafe { effect.apply(word.as_ptr() as u64, place + at, width) };
            }
            if complete(context, lane, (barriers[lane], None), size) != Outcome::Continue {
                return Outcome::Fault;
            }
        }
        Outcome::Continue
    }
}

/// The handler of `st.async` and `red.async`.
pub(crate) fn remote(is_wide: bool) -> Handler {
    match is_wide {
        true => rare_handler::<Remote<true>>(),
        false => rare_handler::<Remote<false>>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_a_number() {
        for action in Action::ALL {
            for bytes in [2, 4, 8] {
                let effect = Effect::Change(action, bytes);
                assert_eq!(Effect::decode(effect.encode()), effect);
            }
        }
        assert_eq!(Effect::decode(Effect::Copy.encode()), Effect::Copy);
    }

    #[test]
    fn a_mask_names_blocks() {
        let address = SHARED_WINDOW + 0x40;
        assert!(targets(address, None).eq([address]));
        let named = [0, 3].map(|rank| SHARED_WINDOW + mapped(0x40, rank));
        assert!(targets(address, Some(0b1001)).eq(named));
        assert_eq!(targets(address, Some(0)).count(), 0);
    }
}
