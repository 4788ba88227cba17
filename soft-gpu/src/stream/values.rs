//! Operations that write a word to memory, or wait for one.
//!
//! # Safety
//!
//! Words are accessed atomically, at addresses that were checked when the operation was posted, or just now if it is a graph's; they live
//! until the context is idle or its stream has come to the free.

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_uint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driver_api::abi::{CUdeviceptr, CUresult, CUstream, CUstreamBatchMemOpParams};

use super::find;
use crate::context::Fate;
use crate::entry::done;
use crate::state::driver;

/// Wait until the word is what is asked; the numbers are the driver's flags.
const GREATER_OR_EQUAL: c_uint = 0;
const EQUAL: c_uint = 1;
const AND: c_uint = 2;
const NOR: c_uint = 3;
/// Remote writes are always visible here.
const FLUSH: c_uint = 1 << 30;

/// How long a wait polls without giving up its core, and how long it sleeps then: longer, the longer it has waited.
const SPINS: u32 = 1000;
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// A word of device or pinned memory.
#[derive(Debug, Clone, Copy)]
enum Word {
    Narrow(u64),
    Wide(u64),
}

impl Word {
    fn check(self) -> Result<(), CUresult> {
        let (address, size) = match self {
            Self::Narrow(address) => (address, 4),
            Self::Wide(address) => (address, 8),
        };
        let memory = &driver()?.memory;
        let valid = address % size == 0 && memory.is_accessible(address, size);
        valid.then_some(()).ok_or(CUresult::INVALID_VALUE)
    }

    fn load(self) -> u64 {
        match self {
            Self::Narrow(address) => {
                // SAFETY: checked when the operation was posted: aligned, and mapped until the context is idle.
                let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
                word.load(Ordering::Acquire).into()
            }
            Self::Wide(address) => {
                // SAFETY: as above.
                let word = unsafe { AtomicU64::from_ptr(address as *mut u64) };
                word.load(Ordering::Acquire)
            }
        }
    }

    fn store(self, value: u64) {
        match self {
            Self::Narrow(address) => {
                // SAFETY: checked when the operation was posted: aligned, and mapped until the context is idle.
                let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
                word.store(value as u32, Ordering::Release);
            }
            Self::Wide(address) => {
                // SAFETY: as above.
                let word = unsafe { AtomicU64::from_ptr(address as *mut u64) };
                word.store(value, Ordering::Release);
            }
        }
    }

    /// Whether the word is what is waited for.
    fn satisfies(self, value: u64, condition: c_uint) -> bool {
        let found = self.load();
        match (condition, self) {
            (GREATER_OR_EQUAL, Self::Narrow(_)) => {
                (found as u32).wrapping_sub(value as u32) as i32 >= 0
            }
            (GREATER_OR_EQUAL, Self::Wide(_)) => found.wrapping_sub(value) as i64 >= 0,
            (EQUAL, _) => found == value,
            (AND, _) => found & value != 0,
            (_, Self::Narrow(_)) => !(found as u32 | value as u32) != 0,
            (_, Self::Wide(_)) => !(found | value) != 0,
        }
    }

    fn wait(self, value: u64, condition: c_uint, fate: &Fate) {
        let mut begun = None;
        for round in 0u32.. {
            if self.satisfies(value, condition) || fate.is_over() {
                return;
            }
            if round < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let waited = begun.get_or_insert_with(Instant::now).elapsed();
            std::thread::sleep((waited / 16).clamp(SHORTEST_NAP, LONGEST_NAP));
        }
    }
}

/// One operation, checked.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Wait {
        word: Word,
        value: u64,
        condition: c_uint,
    },
    Write {
        word: Word,
        value: u64,
    },
    Nothing,
}

impl Operation {
    fn wait(word: Word, value: u64, flags: c_uint) -> Result<Self, CUresult> {
        let condition = flags & !FLUSH;
        if condition > NOR {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(Self::Wait {
            word,
            value,
            condition,
        })
    }

    fn write(word: Word, value: u64, flags: c_uint) -> Result<Self, CUresult> {
        const NO_MEMORY_BARRIER: c_uint = 1;
        if flags > NO_MEMORY_BARRIER {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(Self::Write { word, value })
    }

    /// Reads one element of a batch: kind, address, value, flags.
    fn parse(parameters: &CUstreamBatchMemOpParams) -> Result<Self, CUresult> {
        let [kind, address, value, flags, ..] = parameters.words;
        let flags = flags as c_uint;
        match kind as u32 {
            1 => Self::wait(Word::Narrow(address), u64::from(value as u32), flags),
            2 => Self::write(Word::Narrow(address), u64::from(value as u32), flags),
            4 => Self::wait(Word::Wide(address), value, flags),
            5 => Self::write(Word::Wide(address), value, flags),
            // Flushing remote writes, and a barrier: everything is ordered here anyway. Their flags stand in the first word.
            3 if kind >> 32 == 0 => Ok(Self::Nothing),
            6 if kind >> 32 <= 1 => Ok(Self::Nothing),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    fn check(self) -> Result<(), CUresult> {
        match self {
            Self::Wait { word, .. } | Self::Write { word, .. } => word.check(),
            Self::Nothing => Ok(()),
        }
    }

    fn perform(self, fate: &Fate) {
        match self {
            Self::Wait {
                word,
                value,
                condition,
            } => word.wait(value, condition, fate),
            Self::Write { word, value } => word.store(value),
            Self::Nothing => {}
        }
    }
}

/// Operations one after the other.
#[derive(Debug)]
pub(crate) struct Values {
    operations: Vec<Operation>,
    fate: Arc<Fate>,
}

impl Values {
    /// Whether the words are there.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        self.operations.iter().try_for_each(|one| one.check())
    }

    pub(crate) fn perform(&self) {
        let all = self.operations.iter();
        all.for_each(|operation| operation.perform(&self.fate));
    }
}

fn post(stream: CUstream, operations: Vec<Operation>) -> Result<(), CUresult> {
    let (context, stream) = find(stream)?;
    let values = Values {
        operations,
        fate: Arc::clone(&context.fate),
    };
    values.check()?;
    context.submit(&stream, super::Operation::Values(Arc::new(values)))
}

fn post_one(stream: CUstream, operation: Result<Operation, CUresult>) -> CUresult {
    done(operation.and_then(|operation| post(stream, vec![operation])))
}

pub(crate) unsafe fn cuStreamWaitValue32_v2(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u32,
    flags: c_uint,
) -> CUresult {
    post_one(
        stream,
        Operation::wait(Word::Narrow(addr), value.into(), flags),
    )
}

pub(crate) unsafe fn cuStreamWaitValue64_v2(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u64,
    flags: c_uint,
) -> CUresult {
    post_one(stream, Operation::wait(Word::Wide(addr), value, flags))
}

pub(crate) unsafe fn cuStreamWriteValue32_v2(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u32,
    flags: c_uint,
) -> CUresult {
    post_one(
        stream,
        Operation::write(Word::Narrow(addr), value.into(), flags),
    )
}

pub(crate) unsafe fn cuStreamWriteValue64_v2(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u64,
    flags: c_uint,
) -> CUresult {
    post_one(stream, Operation::write(Word::Wide(addr), value, flags))
}

// The first versions have the same parameters; libraries look them up by name.

pub(crate) unsafe fn cuStreamWaitValue32(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u32,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuStreamWaitValue32_v2(stream, addr, value, flags) }
}

pub(crate) unsafe fn cuStreamWaitValue64(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u64,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuStreamWaitValue64_v2(stream, addr, value, flags) }
}

pub(crate) unsafe fn cuStreamWriteValue32(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u32,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuStreamWriteValue32_v2(stream, addr, value, flags) }
}

pub(crate) unsafe fn cuStreamWriteValue64(
    stream: CUstream,
    addr: CUdeviceptr,
    value: u64,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuStreamWriteValue64_v2(stream, addr, value, flags) }
}

pub(crate) unsafe fn cuStreamBatchMemOp(
    stream: CUstream,
    count: c_uint,
    param_array: *mut CUstreamBatchMemOpParams,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuStreamBatchMemOp_v2(stream, count, param_array, flags) }
}

/// The most operations that one call may bring.
const MAX_BATCH: c_uint = 256;

pub(crate) unsafe fn cuStreamBatchMemOp_v2(
    stream: CUstream,
    count: c_uint,
    param_array: *mut CUstreamBatchMemOpParams,
    flags: c_uint,
) -> CUresult {
    if count > MAX_BATCH || flags != 0 || (count > 0 && param_array.is_null()) {
        return CUresult::INVALID_VALUE;
    }
    let parsed = (0..count as usize)
        // SAFETY: the caller passes an array of `count` elements.
        .map(|index| Operation::parse(&unsafe { param_array.add(index).read_unaligned() }))
        .collect::<Result<Vec<_>, _>>();
    done(parsed.and_then(|operations| post(stream, operations)))
}
