//! Checkpoints: another process, or this one, stops the driver here, has its memory leave the device, and lets it go on.
//!
//! *What:* a process's state is its own ([`own`]); the segment shows it to others, who ask for a change at a socket ([`service`]). While it is not RUNNING, calls
//! wait before a [`DOOR`] before they begin. *Rules:*
//! - A lock waits for the calls that have begun and for all that was posted; where that takes too long, or who asked is gone, everything goes on as before.
//! - Memory of this device is memory of the host, so its contents stay where they are, and so do addresses and what other processes have opened: what a checkpoint gives
//!   up is the claim to the device's memory, in the segment's ledger, and a restore makes the same claim again or fails.
//! - Who asked may end: the process stays as it was brought, for anybody of its user to go on with. Who is asked and ends gives everything back.
//!
//! # Safety
//!
//! The driver's functions read arguments and write answers through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod own;
pub(crate) mod service;

use core::ffi::c_int;

use driver_api::abi::{
    CUcheckpointCheckpointArgs, CUcheckpointLockArgs, CUcheckpointRestoreArgs,
    CUcheckpointUnlockArgs, CUprocessState, CUresult,
};
use driver_api::checkpoint::{NO_CUSTOM_STORAGE, Operation, Wrong};
use driver_api::door::Door;

use crate::entry::{answer, done};
use crate::log::warn_once;
use crate::shared::{Suspension, suspension_of};

pub(crate) use own::Suspended;

/// What calls go through; closed while this process does not run.
pub(crate) static DOOR: Door = Door::new();

/// What a process of this device shows of itself.
fn of(pid: c_int) -> Result<Suspension, CUresult> {
    let process = u32::try_from(pid).map_err(|_| CUresult::INVALID_VALUE)?;
    suspension_of(process)
}

/// Changes the state of a process.
fn change(pid: c_int, operation: Result<Operation, Wrong>) -> CUresult {
    let change = || {
        let operation = operation.inspect_err(|wrong| {
            if *wrong == Wrong::CustomStorage {
                warn_once(NO_CUSTOM_STORAGE);
            }
        })?;
        let process = u32::try_from(pid).map_err(|_| CUresult::INVALID_VALUE)?;
        if process == std::process::id() {
            // A process without a driver is none that could be found.
            let driver = crate::state::driver().map_err(|_| CUresult::INVALID_VALUE)?;
            return own::perform(driver, &operation, &|| false);
        }
        service::ask(process, &suspension_of(process)?, &operation)
    };
    done(change())
}

pub(crate) unsafe fn cuCheckpointProcessGetState(
    pid: c_int,
    state: *mut CUprocessState,
) -> CUresult {
    // SAFETY: the caller passes a place for a state.
    unsafe { answer(state, of(pid).map(|suspension| suspension.state)) }
}

pub(crate) unsafe fn cuCheckpointProcessGetRestoreThreadId(
    pid: c_int,
    tid: *mut c_int,
) -> CUresult {
    let thread = || {
        let thread = of(pid)?.thread;
        // One that has just begun, or that could not begin.
        thread.ok_or(CUresult::NOT_SUPPORTED)
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(tid, thread().map(u32::cast_signed)) }
}

pub(crate) unsafe fn cuCheckpointProcessLock(
    pid: c_int,
    args: *mut CUcheckpointLockArgs,
) -> CUresult {
    // SAFETY: the caller passes arguments, or null.
    change(pid, unsafe { Operation::lock(args) })
}

pub(crate) unsafe fn cuCheckpointProcessCheckpoint(
    pid: c_int,
    args: *mut CUcheckpointCheckpointArgs,
) -> CUresult {
    // SAFETY: the caller passes arguments, or null.
    change(pid, unsafe { Operation::checkpoint(args) })
}

pub(crate) unsafe fn cuCheckpointProcessRestore(
    pid: c_int,
    args: *mut CUcheckpointRestoreArgs,
) -> CUresult {
    // SAFETY: the caller passes arguments with as many pairs as they say, or null.
    change(pid, unsafe { Operation::restore(args) })
}

pub(crate) unsafe fn cuCheckpointProcessUnlock(
    pid: c_int,
    args: *mut CUcheckpointUnlockArgs,
) -> CUresult {
    // SAFETY: the caller passes arguments, or null.
    change(pid, unsafe { Operation::unlock(args) })
}
