//! Rows for virtual registers.
//!
//! Real modules have thousands of registers of which a handful are alive at a time; a small frame stays in the
//! first-level cache. Copies vanish where they can ([`copies`]); liveness over the control-flow graph gives each
//! virtual register one interval of operations; registers of one width whose intervals do not overlap share a row.
//! Lanes are threads of their own, so liveness of one thread is enough even where lanes part, as long as each lane's
//! part of a row stays where it is. In a narrow row made of half a wide one, lanes that are ahead would write
//! what others, behind, still have in the wide one.

use std::collections::HashMap;

use super::super::op::{Kind, NONE, Op, OperandList, Role, Row};
use super::super::program::Fixed;
use super::super::rows::ROW_BYTES;
use super::function::Virtual;
use super::{copies, reuse};

/// Largest frame.
const MAX_FRAME_BYTES: u64 = 64 << 20;
/// Most words that the liveness sets may have; beyond, every register gets a row of its own.
const MAX_LIVENESS_WORDS: usize = 1 << 25;

/// A function's code before and after allocation.
pub(super) struct Code<'l> {
    pub(super) ops: Vec<Op>,
    pub(super) lines: Vec<u32>,
    pub(super) targets: Vec<Vec<u32>>,
    pub(super) virtuals: Vec<Virtual>,
    pub(super) lists: &'l mut Vec<OperandList>,
}

/// Where rows lie.
pub(super) struct Frame {
    /// Size in bytes.
    pub(super) bytes: u32,
    /// The row of each virtual register.
    pub(super) rows: Vec<Row>,
}

impl Code<'_> {
    /// The rows with fixed contents.
    pub(super) fn virtuals_fixed(
        &self,
        fixed: &HashMap<(Fixed, bool), Row>,
    ) -> Vec<(Row, bool, Fixed)> {
        let mut all: Vec<_> = fixed
            .iter()
            .map(|(&(value, wide), &row)| (row, wide, value))
            .collect();
        all.sort_unstable_by_key(|(row, ..)| *row);
        all
    }

    /// Calls `visit` with every operand of operation `index` and whether it is written.
    pub(super) fn operands(&mut self, index: usize, mut visit: impl FnMut(&mut Row, bool)) {
        let op = &mut self.ops[index];
        if op.extra_role == Role::List {
            let list = &mut self.lists[op.link as usize];
            list.reads.iter_mut().for_each(|row| visit(row, false));
            list.writes.iter_mut().for_each(|row| visit(row, true));
        }
        for row in [&mut op.a, &mut op.b, &mut op.c, &mut op.e, &mut op.guard] {
            if *row != NONE {
                visit(row, false);
            }
        }
        let extra_role = op.extra_role;
        for row in op.extra.iter_mut().filter(|row| **row != NONE) {
            match extra_role {
                Role::Read => visit(row, false),
                Role::Written => visit(row, true),
                Role::Unused | Role::List => {}
            }
        }
        if op.d != NONE {
            visit(&mut op.d, true);
        }
    }

    /// Where control can go after operation `index`.
    fn successors(&self, index: usize) -> Vec<usize> {
        let op = &self.ops[index];
        let mut next = match op.kind {
            Kind::Branch => vec![op.link as usize],
            Kind::BranchTable => self.targets[op.link as usize]
                .iter()
                .map(|&target| target as usize)
                .collect(),
            Kind::Return | Kind::Exit => Vec::new(),
            _ => vec![index + 1],
        };
        let jumps = matches!(
            op.kind,
            Kind::Branch | Kind::BranchTable | Kind::Return | Kind::Exit
        );
        if jumps && op.guard != NONE {
            next.push(index + 1);
        }
        next.retain(|&target| target < self.ops.len());
        next
    }
}

/// Gives rows to all virtual registers and rewrites the operations to use them.
pub(super) fn allocate(code: &mut Code<'_>) -> Result<Frame, String> {
    copies::remove(code);
    reuse::mark(code);
    let intervals = intervals(code);
    let frame = assign(code, &intervals)?;
    for index in 0..code.ops.len() {
        code.operands(index, |row, _| *row = frame.rows[*row as usize]);
    }
    Ok(frame)
}

/// First and last operation at which a register is alive.
#[derive(Clone, Copy, Debug)]
struct Interval {
    start: u32,
    end: u32,
}

const NEVER: Interval = Interval {
    start: u32::MAX,
    end: 0,
};

impl Interval {
    fn include(&mut self, index: usize) {
        self.start = self.start.min(index as u32);
        self.end = self.end.max(index as u32);
    }
}

/// A basic block: operations `start..end`.
struct Block {
    start: usize,
    end: usize,
    successors: Vec<usize>,
}

fn blocks(code: &Code<'_>) -> Vec<Block> {
    let count = code.ops.len();
    let mut leads = vec![false; count + 1];
    leads[0] = true;
    for (index, op) in code.ops.iter().enumerate() {
        match op.kind {
            Kind::Join => leads[index] = true,
            Kind::Branch | Kind::BranchTable | Kind::Return | Kind::Exit => leads[index + 1] = true,
            _ => {}
        }
    }
    let starts: Vec<usize> = (0..count).filter(|&index| leads[index]).collect();
    let mut number = vec![0usize; count];
    for (block, &start) in starts.iter().enumerate() {
        number[start] = block;
    }
    let end_of = |block: usize| starts.get(block + 1).copied().unwrap_or(count);
    let make = |(block, &start): (usize, &usize)| {
        let end = end_of(block);
        // Targets are labels, which lead blocks.
        let successors = code
            .successors(end - 1)
            .into_iter()
            .map(|target| number[target])
            .collect();
        Block {
            start,
            end,
            successors,
        }
    };
    starts.iter().enumerate().map(make).collect()
}

/// The interval of every virtual register.
fn intervals(code: &mut Code<'_>) -> Vec<Interval> {
    let mut intervals = vec![NEVER; code.virtuals.len()];
    for index in 0..code.ops.len() {
        code.operands(index, |row, written| {
            intervals[*row as usize].include(index);
            // Nothing else that the operation writes may share the row.
            intervals[*row as usize].include(index + usize::from(written));
        });
    }
    let blocks = blocks(code);
    let words = code.virtuals.len().div_ceil(64);
    if words.saturating_mul(blocks.len()) > MAX_LIVENESS_WORDS {
        let last = code.ops.len().saturating_sub(1);
        for interval in intervals
            .iter_mut()
            .filter(|interval| interval.start != u32::MAX)
        {
            *interval = Interval {
                start: 0,
                end: last as u32,
            };
        }
        return intervals;
    }
    let live_in = live_in(code, &blocks, words);
    extend(&mut intervals, &blocks, &live_in, words);
    intervals
}

/// For each block, the set of registers that are alive at its start.
fn live_in(code: &mut Code<'_>, blocks: &[Block], words: usize) -> Vec<u64> {
    let mut reads = vec![0u64; words * blocks.len()];
    let mut writes = vec![0u64; words * blocks.len()];
    for (number, block) in blocks.iter().enumerate() {
        let base = number * words;
        for index in block.start..block.end {
            let partial = code.ops[index].guard != NONE;
            let mut written = [NONE; 32];
            let mut count = 0;
            code.operands(index, |row, is_write| {
                let (word, bit) = (base + *row as usize / 64, 1u64 << (*row % 64));
                // Under a guard some lanes keep what the register held before.
                if (!is_write || partial) && writes[word] & bit == 0 {
                    reads[word] |= bit;
                }
                if is_write && count < written.len() {
                    written[count] = *row;
                    count += 1;
                }
            });
            for &row in &written[..count] {
                writes[base + row as usize / 64] |= 1 << (row % 64);
            }
        }
    }
    let mut live = reads.clone();
    let mut changed = true;
    while changed {
        changed = false;
        for (number, block) in blocks.iter().enumerate().rev() {
            for &successor in &block.successors {
                for word in 0..words {
                    let out = live[successor * words + word] & !writes[number * words + word];
                    let place = &mut live[number * words + word];
                    changed |= out & !*place != 0;
                    *place |= out;
                }
            }
        }
    }
    live
}

/// Makes intervals cover all blocks that their registers live through.
fn extend(intervals: &mut [Interval], blocks: &[Block], live_in: &[u64], words: usize) {
    for (number, block) in blocks.iter().enumerate() {
        let mut cover = |set: usize, index: usize| {
            for word in 0..words {
                let mut bits = live_in[set * words + word];
                while bits != 0 {
                    intervals[word * 64 + bits.trailing_zeros() as usize].include(index);
                    bits &= bits - 1;
                }
            }
        };
        cover(number, block.start);
        for &successor in &block.successors {
            cover(successor, block.end - 1);
        }
    }
}

/// Free places for rows of each width, most recently used last.
#[derive(Default)]
struct Places {
    narrow: Vec<Row>,
    wide: Vec<Row>,
    end: u64,
}

impl Places {
    fn of(&mut self, wide: bool) -> &mut Vec<Row> {
        if wide {
            &mut self.wide
        } else {
            &mut self.narrow
        }
    }

    fn take(&mut self, wide: bool) -> Row {
        if let Some(row) = self.of(wide).pop() {
            return row;
        }
        let row = self.end;
        self.end += u64::from(ROW_BYTES) * if wide { 2 } else { 1 };
        u32::try_from(row).unwrap_or(NONE)
    }
}

/// Linear scan.
fn assign(code: &Code<'_>, intervals: &[Interval]) -> Result<Frame, String> {
    let mut rows = vec![NONE; code.virtuals.len()];
    let mut places = Places::default();
    let used = |index: &usize| intervals[*index].start != u32::MAX;
    for index in (0..code.virtuals.len()).filter(used) {
        if code.virtuals[index].fixed.is_some() {
            rows[index] = places.take(code.virtuals[index].wide);
        }
    }
    let mut order: Vec<usize> = (0..code.virtuals.len()).filter(used).collect();
    order.retain(|&index| code.virtuals[index].fixed.is_none());
    order.sort_unstable_by_key(|&index| (intervals[index].start, index));
    let mut active: std::collections::BinaryHeap<std::cmp::Reverse<(u32, usize)>> =
        Default::default();
    for index in order {
        // A row read for the last time can be written by the same operation: handlers read before they write.
        while let Some(&std::cmp::Reverse((end, old))) = active.peek() {
            let starts_as_read = end > intervals[index].start;
            if starts_as_read {
                break;
            }
            active.pop();
            places.of(code.virtuals[old].wide).push(rows[old]);
        }
        rows[index] = places.take(code.virtuals[index].wide);
        active.push(std::cmp::Reverse((intervals[index].end, index)));
        if places.end > MAX_FRAME_BYTES {
            return Err("too many registers are alive at a time".into());
        }
    }
    Ok(Frame {
        bytes: places.end as u32,
        rows,
    })
}
