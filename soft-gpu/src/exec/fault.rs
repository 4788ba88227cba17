//! What can go wrong with a kernel, before and while it runs.

use std::fmt;
use std::sync::Arc;

use super::scene::Scene;

/// A kernel that cannot be executed here. Other kernels of the module are not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel `{kernel}`, PTX line {line}: {message}")]
pub struct DecodeError {
    /// The kernel asked for.
    pub kernel: String,
    /// Line of the PTX text.
    pub line: u32,
    /// What is wrong, with the form of the opcode.
    pub message: String,
}

/// The kind of a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An access outside every allocation (CUDA error 700).
    IllegalAddress,
    /// An address that is no multiple of the access's size (716).
    Misaligned,
    /// The operation budget is used up (702).
    LaunchTimeout,
    /// An instruction that cannot be executed (715).
    IllegalInstruction,
    /// A failed device `assert` (710).
    Assert,
    /// `trap` (719).
    Trap,
    /// A jump outside the kernel (718).
    InvalidPc,
    /// More calls than the stack holds (719).
    StackOverflow,
    /// Threads wait for each other for ever (702).
    Deadlock,
    /// The launch's cancellation flag was set.
    Cancelled,
}

impl FaultKind {
    /// The `CUresult` with which a driver reports it.
    pub fn cuda_result(self) -> u32 {
        match self {
            FaultKind::IllegalAddress => 700,
            FaultKind::LaunchTimeout | FaultKind::Deadlock => 702,
            FaultKind::Assert => 710,
            FaultKind::IllegalInstruction => 715,
            FaultKind::Misaligned => 716,
            FaultKind::InvalidPc => 718,
            FaultKind::Trap | FaultKind::StackOverflow | FaultKind::Cancelled => 719,
        }
    }
}

/// Why a launch ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// In which kernel.
    pub kernel: Box<str>,
    /// At which line of its PTX.
    pub ptx_line: u32,
    /// In which block.
    pub block: [u32; 3],
    /// By which thread, the first one of its warp if several.
    pub thread: [u32; 3],
    /// The address, for faults of memory.
    pub address: Option<u64>,
    /// The allocation nearest to it.
    pub nearest: Option<(u64, u64)>,
    /// More words, for example an assertion's.
    pub detail: String,
    /// What was there, if the host wanted it and a warp faulted.
    pub scene: Option<Arc<Scene>>,
}

impl Fault {
    /// A fault of the launch as a whole.
    pub(crate) fn of_launch(kind: FaultKind, kernel: &str) -> Fault {
        Fault {
            kind,
            kernel: kernel.into(),
            ptx_line: 0,
            block: [0; 3],
            thread: [0; 3],
            address: None,
            nearest: None,
            detail: String::new(),
            scene: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.kind {
            FaultKind::IllegalAddress => "illegal address",
            FaultKind::Misaligned => "misaligned address",
            FaultKind::LaunchTimeout => "operation budget used up",
            FaultKind::IllegalInstruction => "illegal instruction",
            FaultKind::Assert => "assertion failed",
            FaultKind::Trap => "trap",
            FaultKind::InvalidPc => "invalid program counter",
            FaultKind::StackOverflow => "call stack overflow",
            FaultKind::Deadlock => "threads wait for each other for ever",
            FaultKind::Cancelled => "cancelled",
        };
        write!(f, "kernel `{}`: {words}", self.kernel)?;
        if let Some(address) = self.address {
            write!(f, " {address:#x}")?;
        }
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(
            f,
            " at PTX line {}, block ({bx},{by},{bz}), thread ({tx},{ty},{tz})",
            self.ptx_line
        )?;
        if let (Some(address), Some((begin, end))) = (self.address, self.nearest) {
            write!(f, "; nearest allocation {begin:#x}..{end:#x}")?;
            if address >= end {
                write!(f, ", {} bytes past its end", address - end)?;
            } else if address < begin {
                write!(f, ", {} bytes before its start", begin - address)?;
            }
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
