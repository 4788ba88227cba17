//! Copies of registers that need not be made.
//!
//! Works on virtual registers, before rows are shared. Lanes are threads of their own, so what holds for one thread is enough even where
//! lanes part.

use super::super::op::{Kind, Op, Row};
use super::allocate::Code;

/// Furthest that a copy and its last reader are apart.
const LONGEST: usize = 256;

/// Removes the copies that it can.
pub(super) fn remove(code: &mut Code<'_>) {
    let writes = writes(code);
    of_fixed(code, &writes);
    of_others(code, &writes);
    for op in code.ops.iter_mut().filter(|op| op.kind == Kind::Copy) {
        op.kind = Kind::Straight;
    }
}

/// How many operations write each register.
fn writes(code: &mut Code<'_>) -> Vec<u32> {
    let mut writes = vec![0u32; code.virtuals.len()];
    for index in 0..code.ops.len() {
        code.operands(index, |row, written| {
            writes[*row as usize] += u32::from(written)
        });
    }
    writes
}

/// Replaces registers that are written once, with a value that never changes, by that value.
fn of_fixed(code: &mut Code<'_>, writes: &[u32]) {
    let mut alias: Vec<Row> = (0..code.virtuals.len() as Row).collect();
    // A copy of a copy may come before its source in the text.
    let mut changed = true;
    while changed {
        changed = false;
        for op in code.ops.iter_mut().filter(|op| op.kind == Kind::Copy) {
            let (source, d) = (alias[op.a as usize], op.d as usize);
            let (from, to) = (code.virtuals[source as usize], code.virtuals[d]);
            if from.fixed.is_some()
                && from.wide == to.wide
                && writes[d] == 1
                && alias[d] == d as Row
            {
                alias[d] = source;
                changed = true;
            }
        }
    }
    let keep: Vec<bool> = code
        .ops
        .iter()
        .map(|op| op.kind != Kind::Copy || alias[op.d as usize] == op.d)
        .collect();
    compact(code, &keep);
    for index in 0..code.ops.len() {
        code.operands(index, |row, _| *row = alias[*row as usize]);
    }
}

/// Replaces registers that are written once, with the value of another one, and read only while that one keeps it: in the same straight
/// run, as compilers do before and after what takes bits.
fn of_others(code: &mut Code<'_>, writes: &[u32]) {
    let mut reads = vec![(usize::MAX, 0); code.virtuals.len()];
    for index in 0..code.ops.len() {
        code.operands(index, |row, written| {
            if !written {
                let (first, last) = &mut reads[*row as usize];
                (*first, *last) = ((*first).min(index), (*last).max(index));
            }
        });
    }
    let mut keep = Vec::with_capacity(code.ops.len());
    let mut end = 0;
    for index in 0..code.ops.len() {
        if index >= end {
            end = end_of_run(code, index);
        }
        let Op { a, d, .. } = code.ops[index];
        let vanishes = is_local(code, index, end, writes, &reads);
        keep.push(!vanishes);
        if !vanishes {
            continue;
        }
        let last = reads[d as usize].1;
        for reader in index + 1..=last {
            code.operands(reader, |row, written| {
                if !written && *row == d {
                    *row = a;
                }
            });
        }
        let last_of_source = &mut reads[a as usize].1;
        *last_of_source = (*last_of_source).max(last);
    }
    compact(code, &keep);
}

/// Whether operation `index` is a copy whose readers can as well read the source. `reads` are the first and the last reader of each register.
fn is_local(
    code: &mut Code<'_>,
    index: usize,
    end: usize,
    writes: &[u32],
    reads: &[(usize, usize)],
) -> bool {
    let Op { a, d, kind, .. } = code.ops[index];
    if kind != Kind::Copy || writes[d as usize] != 1 || a == d {
        return false;
    }
    let [from, to] = [a, d].map(|row| code.virtuals[row as usize].wide);
    let (first, last) = reads[d as usize];
    let is_near = first > index && last > index && last < end && last - index <= LONGEST;
    from == to && is_near && !writes_between(code, index + 1, last, a)
}

/// The end of the straight run of operations that `start` is in: where lanes come from elsewhere, or behind where they go elsewhere.
fn end_of_run(code: &Code<'_>, start: usize) -> usize {
    let ends = |op: &Op| {
        !matches!(
            op.kind,
            Kind::Straight | Kind::Copy | Kind::Guarded | Kind::Collective
        )
    };
    let length = code.ops[start..].iter().position(ends);
    length.map_or(code.ops.len(), |length| start + length + 1)
}

/// Whether one of the operations from `start` up to the one before `end` writes `row`. The last reader may: it reads before.
fn writes_between(code: &mut Code<'_>, start: usize, end: usize, row: Row) -> bool {
    let mut found = false;
    for index in start..end {
        code.operands(index, |operand, written| {
            found |= written && *operand == row
        });
    }
    found
}

/// Keeps the operations that `keep` says; targets follow.
fn compact(code: &mut Code<'_>, keep: &[bool]) {
    let mut position = Vec::with_capacity(keep.len() + 1);
    let mut count = 0u32;
    for &kept in keep {
        position.push(count);
        count += u32::from(kept);
    }
    position.push(count);
    let mut flags = keep.iter();
    code.ops.retain(|_| flags.next().copied().unwrap_or(true));
    let mut flags = keep.iter();
    code.lines.retain(|_| flags.next().copied().unwrap_or(true));
    for op in code.ops.iter_mut().filter(|op| op.kind == Kind::Branch) {
        op.link = position[op.link as usize];
    }
    for target in code.targets.iter_mut().flatten() {
        *target = position[*target as usize];
    }
}
