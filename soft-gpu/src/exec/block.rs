//! One block: its warps in turn, its barriers, its shared memory.
//!
//! # Safety
//!
//! The parameter buffer and shared and local memory that a [`Context`] points to belong to the [`BlockRunner`],
//! which outlives it; their sizes are those that the context says.
#![expect(unsafe_code, reason = "allocates the memory that kernels address")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fault::{Fault, FaultKind};
use super::frame::{Frames, Identity, Place};
use super::memory::{KNOWN, Known};
use super::rows::{Context, LANES};
use super::scene::Scene;
use super::services::Host;
use super::warp::{Runner, Stop, Warp};
use super::{Allocations, HostServices, Launch};

/// Barriers that a block has.
const BARRIERS: usize = 16;

/// What a reducing barrier found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reduction {
    pub(crate) count: u32,
    pub(crate) all: bool,
    pub(crate) any: bool,
}

#[derive(Clone, Copy, Debug)]
struct Barrier {
    /// Threads that it waits for; 0 for all of the block.
    expected: u32,
    /// Threads that arrived without waiting.
    arrived: u32,
    reduction: Reduction,
}

/// A barrier before anyone has arrived.
const FRESH: Barrier = Barrier {
    expected: 0,
    arrived: 0,
    reduction: Reduction {
        count: 0,
        all: true,
        any: false,
    },
};

/// The barriers of a block.
pub(crate) struct Barriers {
    barriers: [Barrier; BARRIERS],
    /// Barriers that somebody waits at, as bits.
    used: u32,
    /// Whether somebody has arrived at the cluster's since it last opened.
    pub(crate) of_cluster: bool,
}

impl Barriers {
    /// Notes `lanes` of a warp at barrier `number`, with their predicates in `bits`. False for a wrong number.
    pub(crate) fn arrive(
        &mut self,
        number: u32,
        expected: u32,
        arrive_only: bool,
        lanes: u32,
        bits: u32,
    ) -> bool {
        let Some(barrier) = self.barriers.get_mut(number as usize) else {
            return false;
        };
        self.used |= 1 << number;
        barrier.expected = expected;
        barrier.arrived += if arrive_only { LANES as u32 } else { 0 };
        barrier.reduction.count += (lanes & bits).count_ones();
        barrier.reduction.all &= lanes & !bits == 0;
        barrier.reduction.any |= lanes & bits != 0;
        true
    }
}

/// Zeroed memory at a multiple of 256.
struct Memory {
    start: *mut u8,
    layout: Layout,
}

impl Memory {
    fn new(bytes: usize) -> Memory {
        let size = bytes.max(1).next_multiple_of(256);
        let Ok(layout) = Layout::from_size_align(size, 256) else {
            handle_alloc_error(Layout::new::<u64>())
        };
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Memory { start, layout }
    }
}

// SAFETY: it owns what it points to, as a box does.
unsafe impl Send for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// A block that has begun.
struct Running {
    block: [u32; 3],
    threads: u32,
    warps: Vec<Option<Warp>>,
    barriers: Barriers,
    done: Vec<bool>,
    /// Warps that have not ended.
    pending: usize,
}

/// What a turn of all warps of a block has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) has_ended: bool,
    /// Whether any warp could go on, or a barrier opened.
    pub(crate) progress: bool,
}

/// Runs blocks of one launch, one after the other, on one thread at a time.
pub(crate) struct BlockRunner<'a> {
    launch: Launch<'a>,
    host: Host<'a>,
    allocations: &'a Allocations,
    frames: Frames<'a>,
    params: &'a [u8],
    shared: Memory,
    shared_bytes: usize,
    /// Where the shared memory of the cluster's blocks is, by rank.
    peers: Vec<u64>,
    /// Local memory of each warp that was started, by warp number; one for all when none is needed.
    locals: Vec<Memory>,
    cache: Vec<(u64, u64)>,
    /// Warps that have ended, for the next block.
    spare: Vec<Warp>,
    running: Option<Running>,
    /// Warp operations so far.
    pub(crate) executed: u64,
}

impl<'a> BlockRunner<'a> {
    /// A runner whose parameter buffer is `params`.
    pub(crate) fn new(
        launch: Launch<'a>,
        allocations: &'a Allocations,
        services: &'a HostServices<'a>,
        place: Place,
        params: &'a [u8],
    ) -> BlockRunner<'a> {
        let code = &launch.program.code;
        let shared_bytes = code.static_shared as usize + launch.dynamic_shared_bytes as usize;
        BlockRunner {
            launch,
            host: Host { services },
            allocations,
            frames: Frames::new(launch, place, params),
            params,
            shared: Memory::new(shared_bytes),
            shared_bytes,
            peers: Vec::new(),
            locals: Vec::new(),
            cache: vec![(1, 0); code.cache_slots as usize],
            spare: Vec::new(),
            running: None,
            executed: 0,
        }
    }

    /// Puts a block before its first operation.
    pub(crate) fn begin_at(&mut self, block: [u32; 3]) {
        let threads = self.launch.block.iter().product::<u32>();
        let count = threads.div_ceil(LANES as u32) as usize;
        self.running = Some(Running {
            block,
            threads,
            warps: (0..count).map(|_| None).collect(),
            barriers: Barriers {
                barriers: [FRESH; BARRIERS],
                used: 0,
                of_cluster: false,
            },
            done: vec![false; count],
            pending: count,
        });
    }

    /// Gives each warp of the block a turn.
    pub(crate) fn give_turns(&mut self, spent: &dyn Fn(u64) -> u64) -> Result<Round, Box<Fault>> {
        let Some(mut running) = self.running.take() else {
            return Ok(Round {
                has_ended: true,
                progress: false,
            });
        };
        let progress = self.turns(&mut running, spent)?;
        let has_ended = running.pending == 0;
        if !has_ended {
            self.running = Some(running);
        }
        Ok(Round {
            has_ended,
            progress,
        })
    }

    /// Whether anything could go on.
    fn turns(
        &mut self,
        running: &mut Running,
        spent: &dyn Fn(u64) -> u64,
    ) -> Result<bool, Box<Fault>> {
        let Running {
            block,
            threads,
            warps,
            barriers,
            done,
            pending,
        } = running;
        let mut progress = false;
        let mut cache = std::mem::take(&mut self.cache);
        let peers = std::mem::take(&mut self.peers);
        let mut context = self.context(&mut cache, &peers);
        for number in 0..warps.len() {
            if done[number] {
                continue;
            }
            let slot = &mut warps[number];
            let stop = self.turn(
                &mut context,
                slot,
                number as u32,
                (*block, *threads),
                barriers,
                &mut progress,
            )?;
            if stop == Stop::Done {
                done[number] = true;
                *pending -= 1;
                self.spare.extend(slot.take());
            } else if stop == Stop::Turn {
                self.check_limits(spent, *block)?;
            }
        }
        (self.cache, self.peers) = (cache, peers);
        if barriers.used != 0 {
            progress |= self.open_barriers(warps, barriers, done, *threads);
        }
        Ok(progress)
    }

    /// That the block cannot go on, nor anybody whom it waits for.
    pub(crate) fn deadlock(&self) -> Box<Fault> {
        let block = self.running.as_ref().map_or([0; 3], |it| it.block);
        Box::new(self.fault_at(FaultKind::Deadlock, block, [0; 3], 0))
    }

    /// Blocks of the launch in each dimension.
    pub(crate) fn grid(&self) -> [u32; 3] {
        self.launch.grid
    }

    /// The address of its shared memory.
    pub(crate) fn shared_start(&self) -> u64 {
        self.shared.start as u64
    }

    /// Makes it one block of a cluster, whose shared memory is at these addresses.
    pub(crate) fn set_peers(&mut self, peers: Vec<u64>) {
        self.peers = peers;
    }

    /// Whether somebody has arrived at the cluster's barrier.
    pub(crate) fn uses_cluster_barrier(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|it| it.barriers.of_cluster)
    }

    /// Whether all of its threads have arrived there, or ended.
    pub(crate) fn has_arrived(&self) -> bool {
        let has = |(warp, done): (&Option<Warp>, &bool)| {
            *done || warp.as_ref().is_some_and(Warp::has_arrived)
        };
        let running = self.running.as_ref();
        running.is_none_or(|it| it.warps.iter().zip(&it.done).all(has))
    }

    /// Opens the cluster's barrier for this block.
    pub(crate) fn open_cluster(&mut self) {
        if let Some(running) = &mut self.running {
            running.barriers.of_cluster = false;
            for warp in running.warps.iter_mut().flatten() {
                warp.open_cluster();
            }
        }
    }

    /// What the handlers of this block work on, before a warp's turn.
    fn context<'c>(&self, cache: &'c mut [(u64, u64)], peers: &'c [u64]) -> Context<'c>
    where
        'a: 'c,
    {
        let params = self.params.as_ptr() as u64;
        Context {
            registers: std::ptr::null_mut(),
            mask: [0; LANES],
            active: 0,
            whole: false,
            shared: self.shared.start,
            epoch: 1,
            known: [Known::NOTHING; KNOWN],
            shared_bytes: self.shared_bytes as u64,
            peers,
            local: std::ptr::null_mut(),
            local_stride: u64::from(self.launch.program.code.local_stride),
            cache,
            allocations: self.allocations,
            params: (params, params + self.params.len() as u64),
            program: self.launch.program,
            translated: [0; LANES],
            fault: None,
            fault_lane: 0,
            detail: String::new(),
        }
    }

    /// One turn of a warp, which is started when it is the first.
    fn turn(
        &mut self,
        context: &mut Context<'_>,
        slot: &mut Option<Warp>,
        number: u32,
        (block, threads): ([u32; 3], u32),
        barriers: &mut Barriers,
        progress: &mut bool,
    ) -> Result<Stop, Box<Fault>> {
        let warp = slot.get_or_insert_with(|| {
            let left = threads - number * LANES as u32;
            let live = if left >= LANES as u32 {
                u32::MAX
            } else {
                (1 << left) - 1
            };
            let mut warp = self.spare.pop().unwrap_or_else(Warp::idle);
            warp.begin(
                Identity {
                    block,
                    warp: number,
                },
                live,
                &mut self.frames,
            );
            warp
        });
        let before = warp.executed;
        let stride = context.local_stride;
        let memory = if stride == 0 { 0 } else { number as usize };
        while self.locals.len() <= memory {
            self.locals.push(Memory::new(stride as usize * LANES));
        }
        context.local = self.locals[memory].start;
        let is_alone = context.peers.is_empty();
        let mut runner = Runner {
            warp,
            context,
            frames: &mut self.frames,
            barriers,
            host: &self.host,
            yields: self.launch.cooperative || !is_alone,
        };
        let stop = runner.run();
        self.executed += warp.executed - before;
        *progress |= warp.executed != before;
        if stop == Stop::Fault {
            let (kind, address) = context
                .fault
                .unwrap_or((FaultKind::IllegalInstruction, None));
            let detail = std::mem::take(&mut context.detail);
            let lane = context.fault_lane;
            let active = context.active;
            let mut fault = self.describe(warp, (kind, lane), address, detail);
            if self.host.services.keeps_scene {
                let scene = self.scene(warp, memory, (lane, active));
                fault.scene = Some(Arc::new(scene));
            }
            return Err(Box::new(fault));
        }
        if stop == Stop::Done {
            warp.release(&mut self.frames);
        }
        Ok(stop)
    }

    fn describe(
        &self,
        warp: &Warp,
        (kind, lane): (FaultKind, u32),
        address: Option<u64>,
        detail: String,
    ) -> Fault {
        let pc = warp.position();
        let line = self
            .launch
            .program
            .code
            .lines
            .get(pc as usize)
            .copied()
            .unwrap_or(0);
        let thread = warp.identity.warp * LANES as u32 + lane;
        let [x, y, _] = self.launch.block;
        let thread = [thread % x, thread / x % y, thread / x / y];
        let mut fault = self.fault_at(kind, warp.identity.block, thread, line);
        fault.address = address;
        fault.nearest = address.and_then(|address| self.allocations.nearest(address));
        fault.detail = detail;
        fault
    }

    /// What a warp that has faulted leaves behind; `memory` is the place of its local memory.
    fn scene(&self, warp: &Warp, memory: usize, (lane, active): (u32, u32)) -> Scene {
        let local_stride = self.launch.program.code.local_stride as usize;
        let copy = |memory: &Memory, bytes: usize| {
            // SAFETY: the memory has at least as many bytes, and only this thread runs the block.
            unsafe { std::slice::from_raw_parts(memory.start, bytes) }.to_vec()
        };
        Scene {
            multiprocessor: self.frames.multiprocessor(),
            warp: warp.identity.warp,
            lane,
            live: warp.live,
            active,
            shared: copy(&self.shared, self.shared_bytes),
            local: copy(&self.locals[memory], local_stride * LANES),
            local_stride,
        }
    }

    fn fault_at(&self, kind: FaultKind, block: [u32; 3], thread: [u32; 3], ptx_line: u32) -> Fault {
        Fault {
            ptx_line,
            block,
            thread,
            ..Fault::of_launch(kind, self.launch.program.kernel())
        }
    }

    /// Whether the budget is spent or somebody gave up.
    fn check_limits(&self, spent: &dyn Fn(u64) -> u64, block: [u32; 3]) -> Result<(), Box<Fault>> {
        let services = self.host.services;
        if services.cancelled.load(Ordering::Relaxed) {
            return Err(Box::new(self.fault_at(
                FaultKind::Cancelled,
                block,
                [0; 3],
                0,
            )));
        }
        if services
            .operation_budget
            .is_some_and(|budget| spent(self.executed) > budget)
        {
            return Err(Box::new(self.fault_at(
                FaultKind::LaunchTimeout,
                block,
                [0; 3],
                0,
            )));
        }
        Ok(())
    }

    /// Opens the barriers at which everybody has arrived. Whether there was one.
    fn open_barriers(
        &self,
        warps: &mut [Option<Warp>],
        barriers: &mut Barriers,
        done: &[bool],
        threads: u32,
    ) -> bool {
        let mut opened = false;
        let used = barriers.used;
        for number in (0..BARRIERS as u8).filter(|number| used >> number & 1 != 0) {
            let barrier = &mut barriers.barriers[usize::from(number)];
            let arrived = barrier.arrived + arrivals(warps, number, barrier.expected != 0);
            let needed = if barrier.expected == 0 {
                living(warps, done, threads)
            } else {
                barrier.expected
            };
            if arrived < needed {
                continue;
            }
            let ops = &self.launch.program.code.ops;
            for warp in warps.iter_mut().flatten() {
                warp.open(number, ops, barrier.reduction);
            }
            *barrier = FRESH;
            barriers.used &= !(1 << number);
            opened = true;
        }
        opened
    }
}

/// Threads that wait at a barrier. Where `by_warp`, a warp whose living lanes all wait counts as whole.
fn arrivals(warps: &[Option<Warp>], number: u8, by_warp: bool) -> u32 {
    let count = |warp: &Warp| {
        let waiting = warp.waiting_at(number);
        if by_warp && waiting != 0 && waiting == warp.live {
            LANES as u32
        } else {
            waiting.count_ones()
        }
    };
    warps.iter().flatten().map(count).sum()
}

/// Threads that have not ended. Warps that have not begun count as whole.
fn living(warps: &[Option<Warp>], done: &[bool], threads: u32) -> u32 {
    let mut living = 0;
    for (number, (warp, done)) in warps.iter().zip(done).enumerate() {
        living += match warp {
            _ if *done => 0,
            Some(warp) => warp.live.count_ones(),
            None => threads
                .saturating_sub(number as u32 * LANES as u32)
                .min(LANES as u32),
        };
    }
    living
}
