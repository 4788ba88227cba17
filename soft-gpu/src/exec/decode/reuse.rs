//! Which accesses take over what an earlier one found about the same addresses.
//!
//! In unrolled loops many accesses go by one register with different offsets. Within a straight run of operations, as
//! long as the register is not written, the lanes' addresses keep their shape and move by the difference of the
//! offsets. The first such access fills a slot of [`Known`](super::super::memory::Known), later ones read it. That the
//! active lanes are the same is checked when they run.
//!
//! Works on virtual registers, before rows are shared.

use std::collections::HashSet;

use super::super::memory::KNOWN;
use super::super::op::{Kind, Row};
use super::allocate::Code;

/// An access whose finding still holds.
#[derive(Clone, Copy)]
struct Finding {
    base: Row,
    kind: u32,
    /// The operation that made it.
    found_at: usize,
}

/// Marks the accesses of a function.
pub(super) fn mark(code: &mut Code<'_>) {
    let targets = targets(code);
    let mut slots: [Option<Finding>; KNOWN] = [None; KNOWN];
    let mut next = 0;
    for index in 0..code.ops.len() {
        if targets.contains(&index) || ends_run(code.ops[index].kind) {
            slots = [None; KNOWN];
        }
        if let Some(kind) = code.ops[index].reusable() {
            let base = code.ops[index].a;
            let same = |finding: &Finding| finding.base == base && finding.kind == kind;
            match slots
                .iter()
                .position(|slot| slot.as_ref().is_some_and(same))
            {
                Some(slot) => take_over(code, index, slot, slots[slot]),
                None => {
                    slots[next] = Some(Finding {
                        base,
                        kind,
                        found_at: index,
                    });
                    next = (next + 1) % KNOWN;
                }
            }
        }
        code.operands(index, |row, written| {
            let stale = |slot: &&mut Option<Finding>| slot.is_some_and(|found| found.base == *row);
            if written {
                slots.iter_mut().filter(stale).for_each(|slot| *slot = None);
            }
        });
    }
}

fn take_over(code: &mut Code<'_>, index: usize, slot: usize, finding: Option<Finding>) {
    if let Some(finding) = finding {
        code.ops[finding.found_at].set_known_slot(slot as u32);
        code.ops[index].set_known_slot(slot as u32);
        code.ops[index].set_takes_over();
    }
}

/// Where control can arrive from elsewhere.
fn targets(code: &Code<'_>) -> HashSet<usize> {
    let branches = code
        .ops
        .iter()
        .filter(|op| op.kind == Kind::Branch)
        .map(|op| op.link as usize);
    let tables = code.targets.iter().flatten().map(|&target| target as usize);
    branches.chain(tables).collect()
}

/// Whether lanes may part, meet, wait or go elsewhere here.
fn ends_run(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Straight | Kind::Copy | Kind::Guarded | Kind::Collective
    )
}
