//! One warp as a state machine.
//!
//! The lanes of a warp that stand at the same place form a *split*. The split that runs is the one deepest in
//! calls, and of those the one with the lowest program counter, so that lanes that parted meet again where
//! their ways join. A split that waits in a loop for another one cannot starve it: after a quantum of operations
//! the others have their turn.
//!
//! ```text
//!          branch parts lanes          all lanes at a barrier          no lane lives
//! running ────────────────────▶ splits ───────────────────────▶ blocked ─ ─ ─▶ done
//!    ▲            Join merges      │                               │
//!    └─────────────────────────────┴───────── barrier opens ───────┘
//! ```
//!
//! # Safety
//!
//! Calls handlers as [`super::rows`] demands: the frame pointer is that of the running split's frame, which
//! belongs to the function that holds the program counter. Branch targets were checked by the decoder.
#![expect(
    unsafe_code,
    reason = "calls handlers and indexes operations without a check"
)]

use super::block::Barriers;
use super::fault::FaultKind;
use super::frame::{Frames, Identity, Storage};
use super::op::{Kind, NONE, Op};
use super::program::Callee;
use super::rows::{Context, LANES, Outcome};
use super::services::Host;

/// Operations after which waiting splits have their turn.
const SPLIT_QUANTUM: u64 = 4096;
/// Operations after which other warps of the block have their turn.
const WARP_QUANTUM: u64 = 1 << 16;
/// Most frames that the lanes of a warp may be in at a time.
const MAX_FRAMES: usize = 4096;

/// What a split waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    /// The other members of a collective operation.
    Members,
    /// A block barrier.
    Barrier(u8),
    /// The cluster's barrier.
    Cluster,
}

/// Lanes at one place.
#[derive(Clone, Copy, Debug)]
struct Split {
    pc: u32,
    frame: u32,
    depth: u32,
    mask: u32,
    wait: Wait,
}

/// A function that lanes are in.
struct Frame {
    function: u32,
    storage: Storage,
    parent: u32,
    return_pc: u32,
    depth: u32,
    /// Index of the call site.
    site: u32,
    local_base: u32,
    /// Lanes in it or in what it called.
    lanes: u32,
}

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its turn is over.
    Turn,
    /// All its lanes wait for a barrier.
    Blocked,
    /// No lane lives.
    Done,
    /// The context holds a fault.
    Fault,
}

/// A warp.
pub(crate) struct Warp {
    pub(crate) identity: Identity,
    pub(crate) live: u32,
    current: Split,
    others: Vec<Split>,
    frames: Vec<Option<Frame>>,
    /// Lanes that have arrived at the cluster's barrier, as long as others have not.
    arrived: u32,
    /// Operations of the next turn in which a split with a lower program counter does not get ahead of the running one.
    patience: u64,
    /// Operations executed.
    pub(crate) executed: u64,
}

impl Warp {
    /// A warp that has not begun.
    pub(crate) fn idle() -> Warp {
        let identity = Identity {
            block: [0; 3],
            warp: 0,
        };
        let current = Split {
            pc: 0,
            frame: 0,
            depth: 0,
            mask: 0,
            wait: Wait::Nothing,
        };
        Warp {
            identity,
            live: 0,
            current,
            others: Vec::new(),
            frames: Vec::new(),
            arrived: 0,
            patience: 0,
            executed: 0,
        }
    }

    /// Puts the lanes `live` before the kernel's first operation.
    pub(crate) fn begin(&mut self, identity: Identity, live: u32, frames: &mut Frames<'_>) {
        let root = Frame {
            function: 0,
            storage: frames.take(0, identity, 0),
            parent: NONE,
            return_pc: 0,
            depth: 0,
            site: NONE,
            local_base: 0,
            lanes: live,
        };
        (self.identity, self.live, self.executed) = (identity, live, 0);
        (self.patience, self.arrived) = (0, 0);
        self.current = Split {
            pc: 0,
            frame: 0,
            depth: 0,
            mask: live,
            wait: Wait::Nothing,
        };
        self.others.clear();
        self.frames.push(Some(root));
    }

    /// The operation that ran last, for a fault's description.
    pub(crate) fn position(&self) -> u32 {
        self.current.pc
    }

    /// Lanes that wait at barrier `number`.
    pub(crate) fn waiting_at(&self, number: u8) -> u32 {
        self.splits()
            .filter(|split| split.wait == Wait::Barrier(number))
            .fold(0, |lanes, split| lanes | split.mask)
    }

    fn splits(&self) -> impl Iterator<Item = &Split> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// Lets go the lanes at barrier `number`; `result` is a reduction's, written where the operation wants it.
    pub(crate) fn open(&mut self, number: u8, ops: &[Op], result: super::block::Reduction) {
        let mut splits = std::mem::take(&mut self.others);
        let mut current = self.current;
        for split in std::iter::once(&mut current).chain(&mut splits) {
            if split.wait == Wait::Barrier(number) {
                split.wait = Wait::Nothing;
                self.write_reduction(&ops[split.pc as usize - 1], split, result);
            }
        }
        self.current = current;
        self.others = splits;
    }

    /// Whether all living lanes have arrived at the cluster's barrier.
    pub(crate) fn has_arrived(&self) -> bool {
        self.live & !self.arrived == 0
    }

    /// Lets go the lanes at the cluster's barrier: what they arrive at next is its next phase.
    pub(crate) fn open_cluster(&mut self) {
        self.arrived = 0;
        for split in std::iter::once(&mut self.current).chain(&mut self.others) {
            if split.wait == Wait::Cluster {
                split.wait = Wait::Nothing;
            }
        }
    }

    fn write_reduction(&mut self, op: &Op, split: &Split, result: super::block::Reduction) {
        let value = match op.count {
            1 => result.count,
            2 => u32::MAX * u32::from(result.all),
            3 => u32::MAX * u32::from(result.any),
            _ => return,
        };
        if let Some(frame) = self.frames[split.frame as usize].as_mut() {
            let row = frame
                .storage
                .base()
                .wrapping_add(op.d as usize)
                .cast::<[u32; LANES]>();
            // SAFETY: the barrier's destination is a row of the frame that the split is in.
            let lanes = unsafe { &mut *row };
            for (lane, word) in lanes.iter_mut().enumerate() {
                if split.mask >> lane & 1 != 0 {
                    *word = value;
                }
            }
        }
    }

    /// Gives back all frames.
    pub(crate) fn release(&mut self, frames: &mut Frames<'_>) {
        for frame in self.frames.drain(..).flatten() {
            frames.give_back(frame.function, frame.storage);
        }
    }
}

/// A warp while it runs, with what it needs for that.
pub(crate) struct Runner<'r, 'c, 'a> {
    pub(crate) warp: &'r mut Warp,
    pub(crate) context: &'r mut Context<'c>,
    pub(crate) frames: &'r mut Frames<'a>,
    pub(crate) barriers: &'r mut Barriers,
    pub(crate) host: &'r Host<'a>,
    /// Whether [`Kind::Yield`] ends a turn.
    pub(crate) yields: bool,
}

impl Runner<'_, '_, '_> {
    /// Runs until something stops the warp.
    pub(crate) fn run(&mut self) -> Stop {
        if (self.warp.current.wait != Wait::Nothing || self.warp.current.mask == 0)
            && let Err(stop) = self.switch()
        {
            return stop;
        }
        self.enter();
        let ops = self.context.program.code.ops.as_ptr();
        let mut pc = self.warp.current.pc as usize;
        let mut executed = 0u64;
        // The sooner a warp that waits for another block gives way, the better.
        let turn = if self.yields {
            SPLIT_QUANTUM
        } else {
            WARP_QUANTUM
        };
        let mut rotate_at = SPLIT_QUANTUM;
        // Until then a split with a lower program counter does not get ahead of the running one.
        let mut patience = std::mem::take(&mut self.warp.patience);
        let stop = loop {
            // SAFETY: program counters stay in the code: its last operation returns, and targets were checked.
            let op = unsafe { &*ops.add(pc) };
            executed += 1;
            if op.kind == Kind::Straight {
                // SAFETY: as the module says.
                if unsafe { (op.handler)(self.context, op) } != Outcome::Continue {
                    self.warp.current.pc = pc as u32;
                    break Stop::Fault;
                }
                pc += 1;
                continue;
            }
            match op.kind {
                Kind::Guarded => {
                    if self.guarded(op) != Outcome::Continue {
                        self.warp.current.pc = pc as u32;
                        break Stop::Fault;
                    }
                    pc += 1;
                }
                Kind::Branch => {
                    let taken = self.guard_lanes(op);
                    let mask = self.warp.current.mask;
                    let backward = op.link as usize <= pc;
                    if taken == mask {
                        pc = op.link as usize;
                    } else if taken == 0 {
                        pc += 1;
                    } else {
                        pc = self.part(pc + 1, op.link as usize, taken);
                    }
                    if backward && executed >= rotate_at {
                        self.warp.current.pc = pc as u32;
                        if executed >= turn {
                            break Stop::Turn;
                        }
                        rotate_at = executed + SPLIT_QUANTUM;
                        if self.rotate() {
                            patience = rotate_at;
                            pc = self.warp.current.pc as usize;
                        }
                    }
                }
                Kind::Join => {
                    if !self.warp.others.is_empty() {
                        pc = self.join(pc, executed < patience);
                    }
                    pc += 1;
                }
                _ => {
                    self.warp.current.pc = pc as u32;
                    match self.control(op) {
                        Ok(()) => pc = self.warp.current.pc as usize,
                        Err(stop) => break stop,
                    }
                    if executed >= turn {
                        break Stop::Turn;
                    }
                }
            }
        };
        self.warp.executed += executed;
        stop
    }

    /// The lanes of the running split for which `op` is executed.
    #[inline(always)]
    fn guard_lanes(&self, op: &Op) -> u32 {
        let mask = self.warp.current.mask;
        if op.guard == NONE {
            return mask;
        }
        // SAFETY: guards are rows of the frame.
        let bits = unsafe { self.context.bits(op.guard) };
        mask & if op.negated { !bits } else { bits }
    }

    #[inline(always)]
    fn guarded(&mut self, op: &Op) -> Outcome {
        let mask = self.warp.current.mask;
        let lanes = self.guard_lanes(op);
        if lanes == 0 {
            return Outcome::Continue;
        }
        if lanes == mask {
            // SAFETY: as the module says.
            return unsafe { (op.handler)(self.context, op) };
        }
        self.context.activate(lanes, self.warp.live);
        // SAFETY: as the module says.
        let outcome = unsafe { (op.handler)(self.context, op) };
        self.context.activate(mask, self.warp.live);
        outcome
    }

    /// Makes the context that of the running split.
    fn enter(&mut self) {
        let current = self.warp.current;
        if let Some(frame) = self.warp.frames[current.frame as usize].as_mut() {
            self.context.registers = frame.storage.base();
        }
        self.context.activate(current.mask, self.warp.live);
    }

    /// Parts the running split at a branch; the part with the lower program counter goes on.
    fn part(&mut self, next: usize, target: usize, taken: u32) -> usize {
        let rest = self.warp.current.mask & !taken;
        let (low, low_mask, high, high_mask) = if target < next {
            (target, taken, next, rest)
        } else {
            (next, rest, target, taken)
        };
        let parked = Split {
            pc: high as u32,
            mask: high_mask,
            ..self.warp.current
        };
        self.warp.others.push(parked);
        self.warp.current.mask = low_mask;
        self.context.activate(low_mask, self.warp.live);
        low
    }

    /// Merges the splits that wait at `pc`, and lets one that is behind go first. Gives the program counter of
    /// the `Join` that the running split is at then, or of the operation before its next one.
    fn join(&mut self, pc: usize, patient: bool) -> usize {
        let warp = &mut *self.warp;
        let mut mask = warp.current.mask;
        let frame = warp.current.frame;
        warp.others.retain(|split| {
            let here =
                split.pc as usize == pc && split.frame == frame && split.wait == Wait::Nothing;
            mask |= if here { split.mask } else { 0 };
            !here
        });
        warp.current.mask = mask;
        warp.current.pc = pc as u32;
        if !patient && let Some(index) = self.ahead() {
            std::mem::swap(&mut self.warp.others[index], &mut self.warp.current);
            self.enter();
            // The caller adds one.
            return (self.warp.current.pc as usize).wrapping_sub(1);
        }
        self.enter();
        pc
    }

    /// The waiting split that should run before the running one.
    fn ahead(&self) -> Option<usize> {
        let current = self.warp.current;
        let index = self.best(Wait::Nothing)?;
        let other = self.warp.others[index];
        let first = (std::cmp::Reverse(other.depth), other.pc)
            < (std::cmp::Reverse(current.depth), current.pc);
        first.then_some(index)
    }

    /// The first in order of those other splits that wait for `wait`.
    fn best(&self, wait: Wait) -> Option<usize> {
        let candidates = self
            .warp
            .others
            .iter()
            .enumerate()
            .filter(|(_, split)| split.wait == wait);
        candidates
            .min_by_key(|(_, split)| (std::cmp::Reverse(split.depth), split.pc))
            .map(|(index, _)| index)
    }

    /// Leaves the running split, which is empty or waits, for another one.
    fn switch(&mut self) -> Result<(), Stop> {
        let current = self.warp.current;
        if current.mask != 0 {
            self.warp.others.push(current);
            self.warp.current.mask = 0;
        }
        // When only members of collectives are left, those whom they wait for will not come.
        let next = self
            .best(Wait::Nothing)
            .or_else(|| self.best(Wait::Members));
        let Some(index) = next else {
            let blocked = !self.warp.others.is_empty();
            return Err(if blocked { Stop::Blocked } else { Stop::Done });
        };
        let mut split = self.warp.others.swap_remove(index);
        if split.wait == Wait::Members {
            // It executes its collective without them.
            self.warp.current = split;
            self.enter();
            return self.collect_now();
        }
        split.wait = Wait::Nothing;
        self.warp.current = split;
        self.enter();
        Ok(())
    }

    /// Gives the longest-waiting ready split its turn, if there is one.
    fn rotate(&mut self) -> bool {
        let Some(index) = self
            .warp
            .others
            .iter()
            .position(|split| split.wait == Wait::Nothing)
        else {
            return false;
        };
        let split = self.warp.others.remove(index);
        self.warp.others.push(self.warp.current);
        self.warp.current = split;
        self.enter();
        true
    }

    /// Executes an operation that is neither straight nor a branch. Afterwards the running split's program
    /// counter is that of the next operation.
    fn control(&mut self, op: &Op) -> Result<(), Stop> {
        match op.kind {
            Kind::Collective => self.collective(op),
            Kind::Poll => self.poll(op),
            Kind::BranchTable => self.branch_table(op),
            Kind::Return => self.leave(op, false),
            Kind::Exit => self.leave(op, true),
            Kind::Call | Kind::CallPointer => self.call(op),
            Kind::Yield => self.yield_turn(),
            Kind::Service => self.service(op),
            Kind::Barrier => self.barrier(op),
            Kind::ClusterArrive => self.arrive_in_cluster(op),
            Kind::ClusterWait => self.wait_for_cluster(op),
            Kind::Trap => {
                let lanes = self.guard_lanes(op);
                if lanes != 0 {
                    self.context.fail_in(first(lanes), FaultKind::Trap, None);
                    return Err(Stop::Fault);
                }
                self.warp.current.pc += 1;
                Ok(())
            }
            Kind::Straight | Kind::Copy | Kind::Guarded | Kind::Join | Kind::Branch => Ok(()),
        }
    }

    /// Asks for something that others bring about. While it is not so, the warp's other splits and then the block's other
    /// warps run: without that a loop of questions would use up the whole quantum each time.
    fn poll(&mut self, op: &Op) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        if self.guarded(op) != Outcome::Continue {
            return Err(Stop::Fault);
        }
        self.warp.current.pc += 1;
        // SAFETY: a destination is a row of the frame.
        let is_so =
            lanes == 0 || op.d != NONE && unsafe { self.context.bits(op.d) } & lanes == lanes;
        if is_so {
            return Ok(());
        }
        if self.rotate() {
            self.warp.patience = SPLIT_QUANTUM;
        }
        Err(Stop::Turn)
    }

    /// Where other blocks are there to be waited for: they run, and before them this warp's other splits.
    fn yield_turn(&mut self) -> Result<(), Stop> {
        self.warp.current.pc += 1;
        if !self.yields {
            return Ok(());
        }
        if self.rotate() {
            self.warp.patience = SPLIT_QUANTUM;
        }
        Err(Stop::Turn)
    }

    /// Executes a collective once its members are here; else waits for them.
    fn collective(&mut self, op: &Op) -> Result<(), Stop> {
        let current = self.warp.current;
        let mut mask = current.mask;
        self.warp.others.retain(|split| {
            let here = split.pc == current.pc
                && split.frame == current.frame
                && split.mask & mask == 0
                && !matches!(split.wait, Wait::Barrier(_) | Wait::Cluster);
            mask |= if here { split.mask } else { 0 };
            !here
        });
        if mask != current.mask {
            self.warp.current.mask = mask;
            self.enter();
        }
        let lanes = self.guard_lanes(op);
        if lanes != 0 && self.missing_members(op, lanes) {
            self.warp.current.wait = Wait::Members;
            return self.switch();
        }
        self.collect_now()
    }

    /// Whether a living lane that a lane of `lanes` names as a member is not among them.
    fn missing_members(&self, op: &Op, lanes: u32) -> bool {
        if op.e == NONE || lanes == self.warp.live {
            return false;
        }
        // SAFETY: the member mask is a row of the frame.
        let members: [u32; LANES] = unsafe { self.context.load(op.e) };
        let named = (0..LANES)
            .filter(|&lane| lanes >> lane & 1 != 0)
            .fold(0, |all, lane| all | members[lane]);
        // Lanes of this split that the guard switched off will not come either.
        named & self.warp.live & !self.warp.current.mask != 0
    }

    /// Executes the collective that the running split is at.
    fn collect_now(&mut self) -> Result<(), Stop> {
        self.warp.current.wait = Wait::Nothing;
        let program = self.context.program;
        let op = &program.code.ops[self.warp.current.pc as usize];
        if self.guarded(op) != Outcome::Continue {
            return Err(Stop::Fault);
        }
        self.warp.current.pc += 1;
        Ok(())
    }

    /// Parts the running split by the lanes' indices into a target list.
    fn branch_table(&mut self, op: &Op) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        let program = self.context.program;
        let targets = &program.code.targets[op.link as usize];
        // SAFETY: the index is a row of the frame.
        let indices: [u32; LANES] = unsafe { self.context.load(op.a) };
        let current = self.warp.current;
        let mut left = lanes;
        while left != 0 {
            let index = indices[left.trailing_zeros() as usize];
            let same = (0..LANES)
                .filter(|&lane| indices[lane] == index)
                .fold(0, |set, lane| set | 1 << lane);
            let Some(&target) = targets.get(index as usize) else {
                self.context
                    .fail_in(first(left), FaultKind::InvalidPc, None);
                return Err(Stop::Fault);
            };
            self.warp.others.push(Split {
                pc: target,
                mask: left & same,
                ..current
            });
            left &= !same;
        }
        self.warp.current.mask &= !lanes;
        self.warp.current.pc += 1;
        if self.warp.current.mask != 0 {
            self.warp.others.push(self.warp.current);
            self.warp.current.mask = 0;
        }
        self.switch()
    }

    /// Lanes return to the caller, or end.
    fn leave(&mut self, op: &Op, exit: bool) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        let current = self.warp.current;
        let parent = self.warp.frames[current.frame as usize]
            .as_ref()
            .map_or(NONE, |frame| frame.parent);
        if exit || parent == NONE {
            self.end_lanes(lanes);
        } else {
            self.return_lanes(lanes, current.frame, parent);
        }
        self.warp.current.mask &= !lanes;
        self.warp.current.pc += 1;
        if self.warp.current.mask == 0 {
            return self.switch();
        }
        self.context
            .activate(self.warp.current.mask, self.warp.live);
        Ok(())
    }

    fn end_lanes(&mut self, lanes: u32) {
        self.warp.live &= !lanes;
        for index in 1..self.warp.frames.len() {
            self.remove_lanes(index, lanes);
        }
    }

    /// Takes lanes out of a frame, and gives it back when it is empty.
    fn remove_lanes(&mut self, index: usize, lanes: u32) {
        let slot = &mut self.warp.frames[index];
        if let Some(frame) = slot {
            frame.lanes &= !lanes;
            if frame.lanes == 0
                && let Some(frame) = slot.take()
            {
                self.frames.give_back(frame.function, frame.storage);
            }
        }
    }

    fn return_lanes(&mut self, lanes: u32, index: u32, parent: u32) {
        let program = self.context.program;
        let (Some(frame), Some(caller)) = (
            &self.warp.frames[index as usize],
            &self.warp.frames[parent as usize],
        ) else {
            return;
        };
        let site = &program.code.calls[frame.site as usize];
        let callee = &program.code.functions[frame.function as usize];
        for (&to, &(from, size)) in site.returns.iter().zip(&callee.returns) {
            self.copy_local(lanes, frame.local_base + from, caller.local_base + to, size);
        }
        let split = Split {
            pc: frame.return_pc,
            frame: parent,
            depth: caller.depth,
            mask: lanes,
            wait: Wait::Nothing,
        };
        self.warp.others.push(split);
        self.remove_lanes(index as usize, lanes);
    }

    /// Copies between two places in the local memory of each of `lanes`.
    fn copy_local(&self, lanes: u32, from: u32, to: u32, size: u32) {
        let (stride, size) = (self.context.local_stride, u64::from(size));
        let (from, to) = (u64::from(from), u64::from(to));
        if from + size > stride || to + size > stride {
            return;
        }
        for lane in (0..LANES as u64).filter(|lane| lanes >> lane & 1 != 0) {
            let base = self.context.local.wrapping_add((lane * stride) as usize);
            // SAFETY: both places lie in the lane's local memory.
            unsafe {
                std::ptr::copy(
                    base.add(from as usize),
                    base.add(to as usize),
                    size as usize,
                )
            };
        }
    }

    fn call(&mut self, op: &Op) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        let current = self.warp.current;
        if lanes == 0 {
            self.warp.current.pc += 1;
            return Ok(());
        }
        let program = self.context.program;
        match program.code.calls[op.link as usize].callee {
            Callee::Function(function) => {
                let callee = self.split_in(op, function, lanes)?;
                if current.mask != lanes {
                    self.warp.others.push(Split {
                        pc: current.pc + 1,
                        mask: current.mask & !lanes,
                        ..current
                    });
                }
                self.warp.current = callee;
                self.enter();
                Ok(())
            }
            Callee::Pointer(list) => {
                self.call_pointers(op, &program.code.pointer_targets[list as usize], lanes)
            }
        }
    }

    /// Calls, for each of `lanes`, the function whose address it has in row `a`.
    fn call_pointers(&mut self, op: &Op, targets: &[(u64, u32)], lanes: u32) -> Result<(), Stop> {
        // SAFETY: the addresses are a row of the frame.
        let addresses: [u64; LANES] = unsafe { self.context.load(op.a) };
        let mut left = lanes;
        while left != 0 {
            let address = addresses[left.trailing_zeros() as usize];
            let same = (0..LANES)
                .filter(|&lane| addresses[lane] == address)
                .fold(0, |set, lane| set | 1 << lane);
            let Ok(index) = targets.binary_search_by_key(&address, |target| target.0) else {
                self.context
                    .fail_in(first(left), FaultKind::InvalidPc, Some(address));
                return Err(Stop::Fault);
            };
            let callee = self.split_in(op, targets[index].1, left & same)?;
            self.warp.others.push(callee);
            left &= !same;
        }
        self.warp.current.mask &= !lanes;
        self.warp.current.pc += 1;
        self.switch()
    }

    /// A split of `lanes` before the first operation of `function`, which the running split calls at `op`.
    fn split_in(&mut self, op: &Op, function: u32, lanes: u32) -> Result<Split, Stop> {
        let current = self.warp.current;
        let program = self.context.program;
        let site = &program.code.calls[op.link as usize];
        let callee = &program.code.functions[function as usize];
        let Some(caller) = &self.warp.frames[current.frame as usize] else {
            return Err(Stop::Fault);
        };
        let caller_base = caller.local_base;
        let own_end = caller_base + program.code.functions[caller.function as usize].local_bytes;
        let local_base = u64::from(own_end).max(self.stack_end(op, lanes));
        let needed = local_base + u64::from(callee.local_bytes);
        if needed > self.context.local_stride || self.warp.frames.len() >= MAX_FRAMES {
            self.context
                .fail_in(first(lanes), FaultKind::StackOverflow, None);
            return Err(Stop::Fault);
        }
        // It is below the stride, which has 32 bits.
        let local_base = local_base as u32;
        for (&from, &(to, size)) in site.arguments.iter().zip(&callee.params) {
            self.copy_local(lanes, caller_base + from, local_base + to, size);
        }
        let depth = current.depth + 1;
        let frame = Frame {
            function,
            storage: self.frames.take(function, self.warp.identity, local_base),
            parent: current.frame,
            return_pc: current.pc + 1,
            depth,
            site: op.link,
            local_base,
            lanes,
        };
        Ok(Split {
            pc: callee.entry,
            frame: self.add_frame(frame),
            depth,
            mask: lanes,
            wait: Wait::Nothing,
        })
    }

    /// Where the furthest stack of `lanes` ends, if the running function has one.
    fn stack_end(&self, op: &Op, lanes: u32) -> u64 {
        if op.e == NONE {
            return 0;
        }
        // SAFETY: the ends are a row of the frame.
        let ends: [u64; LANES] = unsafe { self.context.load(op.e) };
        let of_lanes = (0..LANES).filter(|&lane| lanes >> lane & 1 != 0);
        let end = of_lanes.map(|lane| ends[lane]).max().unwrap_or(0);
        end.min(u64::from(u32::MAX)).next_multiple_of(16)
    }

    fn add_frame(&mut self, frame: Frame) -> u32 {
        let frames = &mut self.warp.frames;
        if let Some(index) = frames.iter().position(Option::is_none) {
            frames[index] = Some(frame);
            return index as u32;
        }
        frames.push(Some(frame));
        frames.len() as u32 - 1
    }

    fn service(&mut self, op: &Op) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        let base = self.warp.frames[self.warp.current.frame as usize]
            .as_ref()
            .map_or(0, |frame| frame.local_base);
        let program = self.context.program;
        let site = &program.code.services[op.link as usize];
        if !self.host.serve(self.context, site, lanes, base) {
            return Err(Stop::Fault);
        }
        self.warp.current.pc += 1;
        Ok(())
    }

    /// Lanes arrive at block barriers, each at the one that its row `a` names.
    fn barrier(&mut self, op: &Op) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        let current = self.warp.current;
        // SAFETY: the operands are rows of the frame.
        let (numbers, counts, bits): ([u32; LANES], [u32; LANES], u32) = unsafe {
            let predicate = if op.c == NONE {
                0
            } else {
                self.context.bits(op.c)
            };
            (self.context.load(op.a), self.context.load(op.b), predicate)
        };
        let arrive_only = op.count == 4;
        let mut left = lanes;
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let number = numbers[first];
            let same = (0..LANES)
                .filter(|&lane| numbers[lane] == number)
                .fold(0, |set, lane| set | 1 << lane);
            if !self
                .barriers
                .arrive(number, counts[first], arrive_only, left & same, bits)
            {
                self.context
                    .fail_in(first, FaultKind::IllegalInstruction, None);
                return Err(Stop::Fault);
            }
            if !arrive_only {
                let wait = Wait::Barrier(number as u8);
                self.warp.others.push(Split {
                    pc: current.pc + 1,
                    mask: left & same,
                    wait,
                    ..current
                });
            }
            left &= !same;
        }
        self.warp.current.pc += 1;
        if arrive_only {
            return Ok(());
        }
        self.warp.current.mask &= !lanes;
        if self.warp.current.mask != 0 {
            self.context
                .activate(self.warp.current.mask, self.warp.live);
            return Ok(());
        }
        self.switch()
    }
}

/// The cluster's barrier.
impl Runner<'_, '_, '_> {
    fn arrive_in_cluster(&mut self, op: &Op) -> Result<(), Stop> {
        let lanes = self.guard_lanes(op);
        let again = lanes & self.warp.arrived;
        if again != 0 {
            self.context
                .fail_in(first(again), FaultKind::IllegalInstruction, None);
            self.context.detail = "a second arrival at the cluster's barrier".into();
            return Err(Stop::Fault);
        }
        self.warp.arrived |= lanes;
        self.barriers.of_cluster |= lanes != 0;
        self.warp.current.pc += 1;
        Ok(())
    }

    /// A lane whose arrival is over, because all others have arrived since, need not wait.
    fn wait_for_cluster(&mut self, op: &Op) -> Result<(), Stop> {
        let waiting = self.guard_lanes(op) & self.warp.arrived;
        self.warp.current.pc += 1;
        if waiting == 0 {
            return Ok(());
        }
        self.warp.others.push(Split {
            mask: waiting,
            wait: Wait::Cluster,
            ..self.warp.current
        });
        self.warp.current.mask &= !waiting;
        if self.warp.current.mask != 0 {
            self.context
                .activate(self.warp.current.mask, self.warp.live);
            return Ok(());
        }
        self.switch()
    }
}

/// The first of some lanes.
fn first(lanes: u32) -> usize {
    lanes.trailing_zeros().min(LANES as u32 - 1) as usize
}
