//! Checkpoints of processes: the structures of `cuCheckpointProcess*`, what may be in them, and what is asked by them.
//!
//! *Why here:* a client checks what a driver would, before it asks anybody; the software GPU is that driver. *Rules:* what is reserved is zero; the pairs of a restore
//! are bounded, complete, and name no old GPU twice.
//!
//! ```text
//! RUNNING ──lock──▶ LOCKED ──checkpoint──▶ CHECKPOINTED
//!    ▲                │ ▲                       │
//!    └────unlock──────┘ └────────restore────────┘
//! ```
//!
//! # Safety
//! Arguments are read through pointers that a caller of the C ABI passed: null, or to a structure of the type.

#![expect(unsafe_code, reason = "arguments are read through C pointers")]

use core::ffi::c_uint;

use crate::abi::{CUresult, CUuuid};

/// The states of a process, as `CUprocessState` numbers them.
pub mod state {
    use super::c_uint;

    /// Calls are served.
    pub const RUNNING: c_uint = 0;
    /// Calls wait, and nothing runs.
    pub const LOCKED: c_uint = 1;
    /// As locked, and nothing of a GPU is held.
    pub const CHECKPOINTED: c_uint = 2;
    /// Something went wrong that cannot be made good.
    pub const FAILED: c_uint = 3;
}

/// Most pairs of a restore: more GPUs than any driver has.
pub const MAX_PAIRS: usize = 64;

/// The arguments of `cuCheckpointProcessLock`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUcheckpointLockArgs {
    /// How long may be tried; 0: for ever.
    pub timeout_ms: c_uint,
    /// Zero.
    pub reserved0: c_uint,
    /// Zeros.
    pub reserved1: [u64; 7],
}

/// The arguments of `cuCheckpointProcessCheckpoint`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUcheckpointCheckpointArgs {
    /// Where custom storage is told; null: there is none.
    pub custom_storage_info_out: usize,
    /// Zeros.
    pub reserved: [u8; 56],
}

/// Which GPU takes the place of another at a restore.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUcheckpointGpuPair {
    /// The GPU that was checkpointed.
    pub old: CUuuid,
    /// The GPU to restore onto.
    pub new: CUuuid,
}

/// The arguments of `cuCheckpointProcessRestore`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUcheckpointRestoreArgs {
    /// The pairs.
    pub gpu_pairs: *const CUcheckpointGpuPair,
    /// How many.
    pub gpu_pairs_count: c_uint,
    /// Of no meaning.
    pub padding0: c_uint,
    /// Where custom storage is told; null: there is none.
    pub custom_storage_info_out: usize,
    /// Zeros.
    pub reserved: [u8; 40],
}

/// The arguments of `cuCheckpointProcessUnlock`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUcheckpointUnlockArgs {
    /// Zeros.
    pub reserved: [u64; 8],
}

const _: () = assert!(size_of::<CUcheckpointLockArgs>() == 64);
const _: () = assert!(size_of::<CUcheckpointCheckpointArgs>() == 64);
const _: () = assert!(size_of::<CUcheckpointRestoreArgs>() == 64);
const _: () = assert!(size_of::<CUcheckpointUnlockArgs>() == 64);

/// What changes a process's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// RUNNING to LOCKED.
    Lock {
        /// How long may be tried; 0: for ever.
        timeout_ms: u32,
    },
    /// LOCKED to CHECKPOINTED.
    Checkpoint,
    /// CHECKPOINTED to LOCKED.
    Restore {
        /// Which GPUs take the place of which; none: each its own.
        pairs: Vec<CUcheckpointGpuPair>,
    },
    /// LOCKED to RUNNING.
    Unlock,
}

/// Why arguments are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// They are wrong.
    Invalid,
    /// They ask for custom storage.
    CustomStorage,
}

impl From<Wrong> for CUresult {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Invalid => Self::INVALID_VALUE,
            Wrong::CustomStorage => Self::NOT_SUPPORTED,
        }
    }
}

/// Why custom storage is refused, for people.
pub const NO_CUSTOM_STORAGE: &str = "memory of a checkpointed process goes to host memory of the driver's own; customStorageInfo_out is not supported";

fn require(is_so: bool) -> Result<(), Wrong> {
    is_so.then_some(()).ok_or(Wrong::Invalid)
}

impl Operation {
    /// What `cuCheckpointProcessLock` asks for.
    ///
    /// # Errors
    /// What is reserved is not zero.
    ///
    /// # Safety
    /// `args` is null or points to the structure.
    pub unsafe fn lock(args: *const CUcheckpointLockArgs) -> Result<Self, Wrong> {
        // SAFETY: by contract; alignment is not relied upon.
        let args = unsafe { read(args) }.unwrap_or_default();
        require(args.reserved0 == 0 && args.reserved1 == [0; 7])?;
        Ok(Self::Lock {
            timeout_ms: args.timeout_ms,
        })
    }

    /// What `cuCheckpointProcessCheckpoint` asks for.
    ///
    /// # Errors
    /// What is reserved is not zero; custom storage.
    ///
    /// # Safety
    /// `args` is null or points to the structure.
    pub unsafe fn checkpoint(args: *const CUcheckpointCheckpointArgs) -> Result<Self, Wrong> {
        // SAFETY: by contract; alignment is not relied upon.
        if let Some(args) = unsafe { read(args) } {
            require(args.reserved == [0; 56])?;
            only_without_custom_storage(args.custom_storage_info_out)?;
        }
        Ok(Self::Checkpoint)
    }

    /// What `cuCheckpointProcessRestore` asks for.
    ///
    /// # Errors
    /// What is reserved is not zero; pairs that are not there, too many, or of one old GPU twice; custom storage.
    ///
    /// # Safety
    /// `args` is null or points to the structure, and its pairs are null or as many as it says.
    pub unsafe fn restore(args: *const CUcheckpointRestoreArgs) -> Result<Self, Wrong> {
        // SAFETY: by contract; alignment is not relied upon.
        let Some(args) = (unsafe { read(args) }) else {
            return Ok(Self::Restore { pairs: Vec::new() });
        };
        require(args.reserved == [0; 40])?;
        let count = args.gpu_pairs_count as usize;
        require(count <= MAX_PAIRS && (count == 0 || !args.gpu_pairs.is_null()))?;
        // SAFETY: by contract there are so many, and the pointer is not null.
        let pair = |place| unsafe { args.gpu_pairs.add(place).read_unaligned() };
        let pairs: Vec<CUcheckpointGpuPair> = (0..count).map(pair).collect();
        let is_first = |(place, pair): (usize, &CUcheckpointGpuPair)| {
            pairs[..place].iter().all(|other| other.old != pair.old)
        };
        require(pairs.iter().enumerate().all(is_first))?;
        only_without_custom_storage(args.custom_storage_info_out)?;
        Ok(Self::Restore { pairs })
    }

    /// What `cuCheckpointProcessUnlock` asks for.
    ///
    /// # Errors
    /// What is reserved is not zero.
    ///
    /// # Safety
    /// `args` is null or points to the structure.
    pub unsafe fn unlock(args: *const CUcheckpointUnlockArgs) -> Result<Self, Wrong> {
        // SAFETY: by contract; alignment is not relied upon.
        let args = unsafe { read(args) }.unwrap_or_default();
        require(args.reserved == [0; 8])?;
        Ok(Self::Unlock)
    }
}

/// A structure that may be absent.
///
/// # Safety
/// `args` is null or points to a `T`.
unsafe fn read<T>(args: *const T) -> Option<T> {
    // SAFETY: not null, and by contract a structure; alignment is not relied upon.
    (!args.is_null()).then(|| unsafe { args.read_unaligned() })
}

fn only_without_custom_storage(place: usize) -> Result<(), Wrong> {
    match place {
        0 => Ok(()),
        _ => Err(Wrong::CustomStorage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(old: u8, new: u8) -> CUcheckpointGpuPair {
        CUcheckpointGpuPair {
            old: CUuuid { bytes: [old; 16] },
            new: CUuuid { bytes: [new; 16] },
        }
    }

    fn restore(pairs: &[CUcheckpointGpuPair], count: u32) -> CUcheckpointRestoreArgs {
        CUcheckpointRestoreArgs {
            gpu_pairs: pairs.as_ptr(),
            gpu_pairs_count: count,
            padding0: 0,
            custom_storage_info_out: 0,
            reserved: [0; 40],
        }
    }

    #[test]
    fn arguments_are_optional() {
        // SAFETY: null.
        unsafe {
            assert_eq!(
                Operation::lock(std::ptr::null()),
                Ok(Operation::Lock { timeout_ms: 0 })
            );
            assert_eq!(
                Operation::checkpoint(std::ptr::null()),
                Ok(Operation::Checkpoint)
            );
            let none = Operation::Restore { pairs: Vec::new() };
            assert_eq!(Operation::restore(std::ptr::null()), Ok(none));
            assert_eq!(Operation::unlock(std::ptr::null()), Ok(Operation::Unlock));
        }
    }

    #[test]
    fn what_is_reserved_is_zero() {
        let mut lock = CUcheckpointLockArgs {
            timeout_ms: 7,
            ..CUcheckpointLockArgs::default()
        };
        let mut checkpoint = CUcheckpointCheckpointArgs {
            custom_storage_info_out: 0,
            reserved: [0; 56],
        };
        let mut unlock = CUcheckpointUnlockArgs::default();
        // SAFETY: live structures.
        unsafe {
            assert_eq!(
                Operation::lock(&raw const lock),
                Ok(Operation::Lock { timeout_ms: 7 })
            );
            lock.reserved1[6] = 1;
            assert_eq!(Operation::lock(&raw const lock), Err(Wrong::Invalid));
            checkpoint.reserved[55] = 1;
            assert_eq!(
                Operation::checkpoint(&raw const checkpoint),
                Err(Wrong::Invalid)
            );
            checkpoint.reserved[55] = 0;
            checkpoint.custom_storage_info_out = 8;
            assert_eq!(
                Operation::checkpoint(&raw const checkpoint),
                Err(Wrong::CustomStorage)
            );
            unlock.reserved[0] = 1;
            assert_eq!(Operation::unlock(&raw const unlock), Err(Wrong::Invalid));
        }
    }

    #[test]
    fn pairs_are_there_and_name_a_gpu_once() {
        let pairs = [pair(1, 2), pair(2, 1)];
        let twice = [pair(1, 2), pair(1, 3)];
        let mut other = restore(&[], 0);
        // SAFETY: live structures, whose pairs are there or null.
        unsafe {
            let both = Operation::Restore {
                pairs: pairs.to_vec(),
            };
            assert_eq!(Operation::restore(&restore(&pairs, 2)), Ok(both));
            assert_eq!(Operation::restore(&restore(&twice, 2)), Err(Wrong::Invalid));
            other.gpu_pairs = std::ptr::null();
            other.gpu_pairs_count = 1;
            assert_eq!(Operation::restore(&raw const other), Err(Wrong::Invalid));
            other.gpu_pairs = pairs.as_ptr();
            other.gpu_pairs_count = MAX_PAIRS as u32 + 1;
            assert_eq!(Operation::restore(&raw const other), Err(Wrong::Invalid));
        }
    }
}
