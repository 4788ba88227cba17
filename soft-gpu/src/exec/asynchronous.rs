//! `cp.async`.
//!
//! A copy is done when it is issued: PTX lets it be done at any time up to the wait for it, so that groups and waits
//! have nothing to do.
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`place`] or [`locate`] found it accessible.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::classify::Shape;
use super::fault::FaultKind;
use super::memory::{Device, Memory, Shared, SharedShort, Target, each, locate, place};
use super::op::{NONE, Op};
use super::path::Path;
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, handler};

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
