//! `atom` of 128 bits: lane after lane, each with the processor's own instruction where it has one.
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`locate`] found it accessible, at a multiple of 16.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use portable_atomic::AtomicU128;

use super::fault::FaultKind;
use super::memory::{Device, Memory, Shared, SharedShort, Target, locate};
use super::op::Op;
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};

/// Bytes of the word.
const BYTES: u64 = 16;

/// The handler; `compares`: only where the word is as expected. Local memory belongs to one lane, and has no atomics.
pub(crate) fn exchange(target: Target, compares: bool) -> Option<Handler> {
    Some(match (target, compares) {
        (Target::Device, false) => rare_handler::<Exchange<Device, false>>(),
        (Target::Device, true) => rare_handler::<Exchange<Device, true>>(),
        (Target::Shared, false) => rare_handler::<Exchange<Shared, false>>(),
        (Target::Shared, true) => rare_handler::<Exchange<Shared, true>>(),
        (Target::SharedShort, false) => rare_handler::<Exchange<SharedShort, false>>(),
        (Target::SharedShort, true) => rare_handler::<Exchange<SharedShort, true>>(),
        (Target::Local, _) => return None,
    })
}

/// The list of the operation reads the halves of what is expected, where it compares, then those of what is stored; it writes those of what was there.
struct Exchange<M, const COMPARES: bool>(PhantomData<M>);
impl<M: Memory, const COMPARES: bool> Operation for Exchange<M, COMPARES> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let program = context.program;
        let list = &program.code.lists[op.link as usize];
        // SAFETY: the decoder gave an address row of this kind, and wide rows; `locate` finds every word.
        unsafe {
            let addresses = M::generic(context, op.a, op.immediate);
            let word = |context: &Context<'_>, first: usize| -> [u128; LANES] {
                let low: [u64; LANES] = context.load(list.reads[first]);
                let high: [u64; LANES] = context.load(list.reads[first + 1]);
                std::array::from_fn(|lane| u128::from(low[lane]) | u128::from(high[lane]) << 64)
            };
            let first = word(context, 0);
            let second = if COMPARES { word(context, 2) } else { first };
            let mut found = [0u128; LANES];
            for lane in 0..LANES {
                if context.active >> lane & 1 == 0 {
                    continue;
                }
                let address = addresses[lane];
                if !address.is_multiple_of(BYTES) {
                    context.fail_in(lane, FaultKind::Misaligned, Some(address));
                    return Outcome::Fault;
                }
                let Some(host) = locate(context, lane, address, BYTES) else {
                    context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
                    return Outcome::Fault;
                };
                let place = AtomicU128::from_ptr(host as *mut u128);
                found[lane] = match COMPARES {
                    true => match place.compare_exchange(first[lane], second[lane], SeqCst, SeqCst)
                    {
                        Ok(old) | Err(old) => old,
                    },
                    false => place.swap(first[lane], SeqCst),
                };
            }
            context.store(list.writes[0], found.map(|word| word as u64));
            context.store(list.writes[1], found.map(|word| (word >> 64) as u64));
        }
        Outcome::Continue
    }
}
