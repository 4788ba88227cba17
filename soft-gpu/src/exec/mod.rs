//! Executes kernels on the machine's cores.
//!
//! [`Program::decode`] turns one kernel into operations on *rows* (a register of all thirty-two lanes of a warp);
//! [`run`] hands the blocks of a launch to the threads of a [`Pool`]. The next instruction of a diverged warp is
//! the one with the lowest program counter. Every access to device memory is compared with [`Allocations`], so a
//! bad kernel is a [`Fault`], never a crash.
//!
//! ```text
//! ptx::Module ──decode──▶ Program ──run──▶ pool ──▶ block ──▶ warp ──▶ handlers (plain | AVX2 | AVX-512)
//! ```
//!
//! Speed, one core of a Xeon at 2.5 GHz (Cascade Lake), `cargo run --release -p bench -- soft`, AVX-512: saxpy of 2^20
//! elements 9.6 ms; a product of 256 × 256 matrices 28 ms with blocks of 32 × 8, 60 ms with 16 × 16, 20.6 ms tiled
//! through shared memory: 9 to 24 ns for an operation of a warp. Two cores: 5.9, 16, 33 and 12.1 ms.

mod allocations;
mod asynchronous;
mod atomic;
mod block;
mod classify;
mod collective;
mod decode;
mod directed;
mod fault;
mod frame;
mod half;
mod heap;
mod math;
mod matrix;
mod memory;
mod op;
mod path;
mod pool;
mod printf;
mod program;
mod rows;
mod scene;
mod services;
pub mod syntax;
mod texture;
mod video;
mod warp;
mod whole;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use allocations::Allocations;
pub use fault::{DecodeError, Fault, FaultKind};
pub use heap::Heap;
pub use path::Path;
pub use pool::Pool;
pub use program::{Program, ProgramAttributes};
pub use scene::Scene;
pub use texture::{Descriptor, FORCE_ELEMENTS, Resource, SAMPLER, SURFACE, TEXTURE};

use crate::threads::lock;
use frame::Place;

/// Start of the window of generic addresses that mean shared memory.
pub const SHARED_WINDOW: u64 = 0x7100_0000_0000_0000;
/// Start of the window of generic addresses that mean a thread's local memory.
pub const LOCAL_WINDOW: u64 = 0x7200_0000_0000_0000;
/// Size of each of these windows.
pub const WINDOW_BYTES: u64 = 1 << 32;
/// Most threads that one block may have.
pub const MAX_BLOCK_THREADS: u32 = 1024;
/// Registers of a multiprocessor, which bound how many warps it holds.
pub(crate) const REGISTERS_PER_MULTIPROCESSOR: u32 = 64 << 10;
/// Registers are handed out to a warp in this unit.
pub(crate) const REGISTER_UNIT: u32 = 256;

/// One kernel launch.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// What runs.
    pub program: &'a Program,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Shared memory beyond what the kernel declares.
    pub dynamic_shared_bytes: u32,
    /// The parameter buffer, laid out as [`crate::ptx::Entry::params`] says.
    pub params: &'a [u8],
    /// The values of the opaque variables that the program names: addresses of descriptors.
    pub references: &'a [u64],
    /// Whether all blocks are there at the same time and may wait for each other.
    pub cooperative: bool,
}

/// What a launch may ask of its host.
pub struct HostServices<'a> {
    /// Takes what a device `printf` wrote, one call in one piece. Called from any thread of the pool.
    pub printf: &'a (dyn Fn(&[u8]) + Sync),
    /// Warp operations after which the launch is ended with [`FaultKind::LaunchTimeout`].
    pub operation_budget: Option<u64>,
    /// When set by someone, the launch ends with [`FaultKind::Cancelled`].
    pub cancelled: &'a AtomicBool,
    /// What device-side `malloc` takes from; its memory is among the launch's allocations. Without one there is never enough.
    pub heap: Option<&'a Heap>,
    /// Whether a fault comes with what was there.
    pub keeps_scene: bool,
}

/// What a launch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Operations, each for one warp.
    pub warp_operations: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Runs `launch` to its end.
///
/// # Errors
///
/// The first fault that a thread met. Other blocks may have run or not.
pub fn run(
    pool: &Pool,
    launch: &Launch<'_>,
    allocations: &Allocations,
    host: &HostServices<'_>,
) -> Result<Statistics, Fault> {
    run_on(pool, None, launch, allocations, host)
}

/// The same on some of the multiprocessors only: on so many threads at most, which have these numbers.
///
/// # Errors
/// As for [`run`].
pub fn run_on(
    pool: &Pool,
    multiprocessors: Option<&[u32]>,
    launch: &Launch<'_>,
    allocations: &Allocations,
    host: &HostServices<'_>,
) -> Result<Statistics, Fault> {
    let blocks = check_shape(launch)?;
    // Eight-byte words keep the parameters' alignment; unwritten ones are zero.
    let bytes = launch
        .params
        .len()
        .max(launch.program.code.param_bytes as usize);
    let mut params = vec![0u128; bytes.div_ceil(16).max(1)];
    let params = params_bytes(&mut params);
    params[..launch.params.len()].copy_from_slice(launch.params);
    let params = &*params;
    let mut workspace = Box::new([0u64; WORKSPACE_WORDS]);
    let (place, with_workspace) = if launch.cooperative {
        let start = workspace.as_mut_ptr() as u64;
        let range = start..start + size_of_val(&*workspace) as u64;
        (start, Some(allocations.with(range)))
    } else {
        (0, None)
    };
    let progress = Progress {
        next: AtomicU64::new(0),
        executed: AtomicU64::new(0),
        fault: Mutex::new(None),
        resident: Mutex::default(),
    };
    let most = multiprocessors.map_or(pool.threads(), <[u32]>::len);
    let helpers = most
        .clamp(1, pool.threads())
        .min(usize::try_from(blocks).unwrap_or(usize::MAX))
        - 1;
    let workers = AtomicU32::new(0);
    pool.execute(helpers, &|| {
        let worker = workers.fetch_add(1, Ordering::Relaxed);
        let numbered = multiprocessors.and_then(|numbers| numbers.get(worker as usize));
        let place = Place {
            multiprocessor: numbered.copied().unwrap_or(worker),
            multiprocessors: pool.threads() as u32,
            workspace: place,
        };
        let allocations = with_workspace.as_ref().unwrap_or(allocations);
        let runner = || block::BlockRunner::new(*launch, allocations, host, place, params);
        if launch.cooperative {
            progress.work_together(blocks, &runner);
        } else {
            progress.work(blocks, runner());
        }
    });
    if let Some(fault) = progress
        .fault
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(fault);
    }
    Ok(Statistics {
        warp_operations: progress.executed.into_inner(),
        blocks,
    })
}

/// Words of a cooperative launch's workspace. Cooperative groups' headers have in it the size, which nobody reads, and behind that
/// the word of the grid's barrier; both begin as zero.
const WORKSPACE_WORDS: usize = 8;

/// The bytes of `words`.
fn params_bytes(words: &mut [u128]) -> &mut [u8] {
    zerocopy::IntoBytes::as_mut_bytes(words)
}

/// Checks the numbers of a launch, and gives its number of blocks.
fn check_shape(launch: &Launch<'_>) -> Result<u64, Fault> {
    let refuse = |detail: &str| {
        let mut fault = Fault::of_launch(FaultKind::IllegalInstruction, launch.program.kernel());
        fault.detail = detail.to_owned();
        Err(fault)
    };
    let product = |dims: [u32; 3]| {
        dims.iter()
            .try_fold(1u64, |all, &dim| all.checked_mul(u64::from(dim)))
    };
    match product(launch.block) {
        Some(threads) if (1..=u64::from(MAX_BLOCK_THREADS)).contains(&threads) => {}
        _ => return refuse("block of no or too many threads"),
    }
    match product(launch.grid) {
        Some(blocks) if blocks > 0 => Ok(blocks),
        _ => refuse("grid of no or too many blocks"),
    }
}

/// What the threads of a launch share.
struct Progress<'a> {
    next: AtomicU64,
    executed: AtomicU64,
    fault: Mutex<Option<Fault>>,
    /// Blocks of a cooperative launch that have begun and are not running at the moment.
    resident: Mutex<VecDeque<block::BlockRunner<'a>>>,
}

impl<'a> Progress<'a> {
    /// Nobody begins another block, or goes on with one.
    fn end(&self, blocks: u64, fault: Fault) {
        self.next.store(blocks, Ordering::Relaxed);
        lock(&self.fault).get_or_insert(fault);
        lock(&self.resident).clear();
    }

    /// Gives the blocks of a cooperative launch turns, with the other threads, until they have all ended: first those that have not
    /// begun, then whichever has waited longest.
    fn work_together(&self, blocks: u64, make: &dyn Fn() -> block::BlockRunner<'a>) {
        loop {
            let mut runner = if self.next.load(Ordering::Relaxed) < blocks {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= blocks {
                    continue;
                }
                let mut runner = make();
                runner.begin(index);
                runner
            } else if let Some(runner) = lock(&self.resident).pop_front() {
                runner
            } else {
                // The rest are with other threads, which go on with them.
                return;
            };
            let before = std::cell::Cell::new(runner.executed);
            let spent = |executed: u64| {
                let new = executed - before.replace(executed);
                self.executed.fetch_add(new, Ordering::Relaxed) + new
            };
            let ended = runner.round(&spent);
            spent(runner.executed);
            match ended {
                Ok(true) => {}
                Ok(false) => {
                    let mut resident = lock(&self.resident);
                    if lock(&self.fault).is_none() {
                        resident.push_back(runner);
                    }
                }
                Err(fault) => self.end(blocks, *fault),
            }
        }
    }

    /// Takes blocks until there are none left or one faults.
    fn work(&self, blocks: u64, mut runner: block::BlockRunner<'a>) {
        let mut published = 0;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= blocks {
                break;
            }
            let before = std::cell::Cell::new(published);
            let spent = |executed: u64| {
                let all = self
                    .executed
                    .fetch_add(executed - before.get(), Ordering::Relaxed);
                all + executed - before.replace(executed)
            };
            if let Err(fault) = runner.run(index, &spent) {
                self.end(blocks, *fault);
                break;
            }
            published = before.get();
        }
        self.executed
            .fetch_add(runner.executed - published, Ordering::Relaxed);
    }
}
