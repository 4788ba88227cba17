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

mod allocations;
mod fault;
mod pool;
mod program;

use std::sync::atomic::AtomicBool;

pub use allocations::Allocations;
pub use fault::{DecodeError, Fault, FaultKind};
pub use pool::Pool;
pub use program::{Program, ProgramAttributes};

/// Start of the window of generic addresses that mean shared memory.
pub const SHARED_WINDOW: u64 = 0x7100_0000_0000_0000;
/// Start of the window of generic addresses that mean a thread's local memory.
pub const LOCAL_WINDOW: u64 = 0x7200_0000_0000_0000;
/// Size of each of these windows.
pub const WINDOW_BYTES: u64 = 1 << 32;
/// Most threads that one block may have.
pub const MAX_BLOCK_THREADS: u32 = 1024;

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
}

/// What a launch may ask of its host.
pub struct HostServices<'a> {
    /// Takes what a device `printf` wrote, one call in one piece. Called from any thread of the pool.
    pub printf: &'a (dyn Fn(&[u8]) + Sync),
    /// Warp operations after which the launch is ended with [`FaultKind::LaunchTimeout`].
    pub operation_budget: Option<u64>,
    /// When set by someone, the launch ends with [`FaultKind::Cancelled`].
    pub cancelled: &'a AtomicBool,
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
    let _ = (pool, allocations, host);
    Err(Fault::of_launch(
        FaultKind::IllegalInstruction,
        launch.program.kernel(),
    ))
}
