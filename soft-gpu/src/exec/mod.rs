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
mod bulk;
mod classify;
mod cluster;
mod collective;
mod decode;
mod directed;
mod fault;
mod frame;
mod half;
mod heap;
mod math;
mod matrix;
mod mbarrier;
mod memory;
mod multimem;
mod op;
mod path;
mod pool;
mod printf;
mod program;
mod quad;
mod rows;
mod scene;
mod services;
pub mod syntax;
mod tensor;
mod texture;
mod video;
mod warp;
mod whole;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use allocations::{Allocations, Held, Team};
pub use cluster::MAX_CLUSTER_BLOCKS;
pub use fault::{DecodeError, Fault, FaultKind};
pub use heap::Heap;
pub use path::Path;
pub use pool::Pool;
pub use program::{Program, ProgramAttributes};
pub use scene::Scene;
pub(crate) use tensor::form as tensor_form;
pub use tensor::form::encode as encode_tensor_map;
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
    /// Blocks of a cluster in each dimension, which divides the grid; `None` where none was asked for.
    pub cluster: Option<[u32; 3]>,
}

impl Launch<'_> {
    /// Blocks of a cluster in each dimension: one where none was asked for.
    fn cluster_size(&self) -> [u32; 3] {
        self.cluster.unwrap_or([1; 3])
    }
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
    let runner = |worker: u32| {
        let numbered = multiprocessors.and_then(|numbers| numbers.get(worker as usize));
        let place = Place {
            multiprocessor: numbered.copied().unwrap_or(worker),
            multiprocessors: pool.threads() as u32,
            workspace: place,
        };
        let allocations = with_workspace.as_ref().unwrap_or(allocations);
        block::BlockRunner::new(*launch, allocations, host, place, params)
    };
    let most = multiprocessors.map_or(pool.threads(), <[u32]>::len);
    let cooperative = launch.cooperative;
    let each = launch.cluster_size().map(u64::from);
    let each: u64 = each.iter().product();
    let warp_operations = if each == 1 {
        share(pool, most, (blocks, cooperative), &runner)
    } else {
        let runner = |worker| cluster::ClusterRunner::new(launch, &|| runner(worker));
        share(pool, most, (blocks / each, cooperative), &runner)
    }?;
    Ok(Statistics {
        warp_operations,
        blocks,
    })
}

/// Has at most so many threads run the units of a launch, with runners made by `make` for each. Gives the operations of all.
fn share<U: Unit + Send>(
    pool: &Pool,
    most: usize,
    (units, cooperative): (u64, bool),
    make: &(dyn Fn(u32) -> U + Sync),
) -> Result<u64, Fault> {
    let progress = Progress {
        next: AtomicU64::new(0),
        executed: AtomicU64::new(0),
        fault: Mutex::new(None),
        resident: Mutex::default(),
    };
    let helpers = most
        .clamp(1, pool.threads())
        .min(usize::try_from(units).unwrap_or(usize::MAX))
        - 1;
    let workers = AtomicU32::new(0);
    pool.execute(helpers, &|| {
        let worker = workers.fetch_add(1, Ordering::Relaxed);
        if cooperative {
            progress.work_together(units, &|| make(worker));
        } else {
            progress.work(units, make(worker));
        }
    });
    let fault = progress.fault.into_inner();
    match fault.unwrap_or_else(PoisonError::into_inner) {
        Some(fault) => Err(fault),
        None => Ok(progress.executed.into_inner()),
    }
}

/// What one thread runs at a time: a block, or a cluster of blocks.
trait Unit {
    /// Puts number `index` before its first operation.
    fn begin(&mut self, index: u64);

    /// Gives each of its warps a turn. `spent` takes its operations so far and gives those of all threads. Whether it has ended.
    ///
    /// # Errors
    /// What a thread of it did wrong, or that none of them can go on.
    fn round(&mut self, spent: &dyn Fn(u64) -> u64) -> Result<bool, Box<Fault>>;

    /// Warp operations so far.
    fn executed(&self) -> u64;
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
    let cluster = launch.cluster_size();
    if !matches!(product(cluster), Some(size) if (1..=u64::from(MAX_CLUSTER_BLOCKS)).contains(&size))
    {
        return refuse("cluster of no or too many blocks");
    }
    let divides = |(grid, cluster): (&u32, &u32)| grid.is_multiple_of(*cluster);
    if !launch.grid.iter().zip(&cluster).all(divides) {
        return refuse("grid of parts of clusters");
    }
    match product(launch.grid) {
        Some(blocks) if blocks > 0 => Ok(blocks),
        _ => refuse("grid of no or too many blocks"),
    }
}

/// What the threads of a launch share.
struct Progress<U> {
    next: AtomicU64,
    executed: AtomicU64,
    fault: Mutex<Option<Fault>>,
    /// Units of a cooperative launch that have begun and are not running at the moment.
    resident: Mutex<VecDeque<U>>,
}

impl<U: Unit> Progress<U> {
    /// Nobody begins another unit, or goes on with one.
    fn end(&self, units: u64, fault: Fault) {
        self.next.store(units, Ordering::Relaxed);
        lock(&self.fault).get_or_insert(fault);
        lock(&self.resident).clear();
    }

    /// Gives the units of a cooperative launch turns, with the other threads, until they have all ended: first those that have not
    /// begun, then whichever has waited longest.
    fn work_together(&self, units: u64, make: &dyn Fn() -> U) {
        loop {
            let mut runner = if self.next.load(Ordering::Relaxed) < units {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= units {
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
            let before = std::cell::Cell::new(runner.executed());
            let spent = |executed: u64| {
                let new = executed - before.replace(executed);
                self.executed.fetch_add(new, Ordering::Relaxed) + new
            };
            let ended = runner.round(&spent);
            spent(runner.executed());
            match ended {
                Ok(true) => {}
                Ok(false) => {
                    let mut resident = lock(&self.resident);
                    if lock(&self.fault).is_none() {
                        resident.push_back(runner);
                    }
                }
                Err(fault) => self.end(units, *fault),
            }
        }
    }

    /// Takes units until there are none left or one faults.
    fn work(&self, units: u64, mut runner: U) {
        let mut published = 0;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= units {
                break;
            }
            let before = std::cell::Cell::new(published);
            let spent = |executed: u64| {
                let all = self
                    .executed
                    .fetch_add(executed - before.get(), Ordering::Relaxed);
                all + executed - before.replace(executed)
            };
            runner.begin(index);
            let ended = loop {
                match runner.round(&spent) {
                    Ok(false) => {}
                    Ok(true) => break Ok(()),
                    Err(fault) => break Err(fault),
                }
            };
            if let Err(fault) = ended {
                self.end(units, *fault);
                break;
            }
            published = before.get();
        }
        self.executed
            .fetch_add(runner.executed() - published, Ordering::Relaxed);
    }
}
