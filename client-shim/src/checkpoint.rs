//! Checkpoints: the driver of another process, or of this one, is stopped, its memory leaves the device, and it goes on.
//!
//! *Why a connection of its own:* whoever suspends a process need not use a device, nor have initialised the driver; and who suspends itself cannot ask by its own session, which stands
//! still. So the daemon is asked, which knows whose session a process has, and gives the order to that one's worker. *Rules:* nothing here touches the session of this process; a lock that
//! is still tried ends with the connection, and so with this process.
//!
//! # Safety
//! The functions named like the driver's read arguments and write results through pointers that are null or what the API says.
#![expect(unsafe_code, reason = "arguments and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_int;

use driver_api::abi::{
    CUcheckpointCheckpointArgs, CUcheckpointLockArgs, CUcheckpointRestoreArgs,
    CUcheckpointUnlockArgs, CUprocessState, CUresult,
};
use driver_api::checkpoint::{NO_CUSTOM_STORAGE, Operation, Wrong};
use protocol::connect::secure;
use protocol::credentials::Credentials;
use protocol::hello::{
    Accepted, Checkpoint, CheckpointDone, CheckpointOperation, DevicePair, Hello, Intent,
    RefusalCode,
};

use crate::entry::{answered, code, waited, waits};
use crate::log;
use crate::memory::out;
use crate::{process, session};

/// Asks the daemon, and waits for what comes of it.
fn ask(pid: c_int, mut asked: Checkpoint) -> Result<CheckpointDone, CUresult> {
    asked.process = u32::try_from(pid).map_err(|_| CUresult::INVALID_VALUE)?;
    if asked.process == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    answered(protocol::stats::Answered::Asked);
    let since = waits();
    let accepted = session::ask_daemon(|address, socket| {
        let hello = Hello {
            lease: session::lease(),
            checkpoint: Some(asked.clone()),
            ..Hello::new(Intent::Checkpoint)
        };
        let credential = Credentials::of_this_process()?.for_server(address);
        secure::ask_patiently(address, socket, &hello, &credential)
    });
    waited(since);
    let accepted: Accepted = accepted.map_err(|error| code_of(&error))?;
    let done = accepted.checkpoint.ok_or(CUresult::UNKNOWN)?;
    match CUresult(done.result) {
        CUresult::SUCCESS => Ok(done),
        code => Err(code),
    }
}

/// What a program gets that nobody could be asked for.
fn code_of(failure: &session::Failure) -> CUresult {
    log::error!("{}", failure.text);
    match failure.refused {
        // A server of before there were checkpoints.
        Some(RefusalCode::Malformed | RefusalCode::Unsupported) => CUresult::NOT_SUPPORTED,
        _ => failure.code,
    }
}

/// Changes the state of a process.
fn change(pid: c_int, operation: Result<Operation, Wrong>) -> CUresult {
    let change = || {
        let operation = operation.inspect_err(|wrong| {
            if *wrong == Wrong::CustomStorage {
                log::warn_once("custom storage", format_args!("{NO_CUSTOM_STORAGE}"));
            }
        })?;
        let mut asked = Checkpoint::default();
        let operation = match operation {
            Operation::Lock { timeout_ms } => {
                asked.timeout_ms = timeout_ms;
                CheckpointOperation::Lock
            }
            Operation::Checkpoint => CheckpointOperation::Checkpoint,
            Operation::Restore { pairs } => {
                asked.pairs = pairs
                    .iter()
                    .map(|pair| DevicePair {
                        old: pair.old.bytes.to_vec(),
                        new: pair.new.bytes.to_vec(),
                    })
                    .collect();
                CheckpointOperation::Restore
            }
            Operation::Unlock => CheckpointOperation::Unlock,
        };
        asked.operation = operation.into();
        ask(pid, asked).map(drop)
    };
    code(change())
}

/// The state of a process.
fn state(pid: c_int) -> Result<CUprocessState, CUresult> {
    let asked = Checkpoint {
        operation: CheckpointOperation::State.into(),
        ..Checkpoint::default()
    };
    Ok(ask(pid, asked)?.state)
}

pub(crate) unsafe fn cuCheckpointProcessGetState(
    pid: c_int,
    state: *mut CUprocessState,
) -> CUresult {
    code((|| {
        let place = out(state)?;
        let state = self::state(pid)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(state) };
        Ok(())
    })())
}

/// What is restored is the server's, so no thread of the program restores anything: it is the one that its driver here cannot do without.
pub(crate) unsafe fn cuCheckpointProcessGetRestoreThreadId(
    pid: c_int,
    tid: *mut c_int,
) -> CUresult {
    code((|| {
        let place = out(tid)?;
        state(pid)?;
        let thread = process::thread_of_link(pid.cast_unsigned()).ok_or_else(|| {
            log::warning!("the threads of process {pid} cannot be seen from here");
            CUresult::NOT_SUPPORTED
        })?;
        // SAFETY: checked by `out`.
        unsafe { place.write(thread) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuCheckpointProcessLock(
    pid: c_int,
    args: *mut CUcheckpointLockArgs,
) -> CUresult {
    // SAFETY: arguments or null, by the API's contract.
    change(pid, unsafe { Operation::lock(args) })
}

pub(crate) unsafe fn cuCheckpointProcessCheckpoint(
    pid: c_int,
    args: *mut CUcheckpointCheckpointArgs,
) -> CUresult {
    // SAFETY: arguments or null, by the API's contract.
    change(pid, unsafe { Operation::checkpoint(args) })
}

pub(crate) unsafe fn cuCheckpointProcessRestore(
    pid: c_int,
    args: *mut CUcheckpointRestoreArgs,
) -> CUresult {
    // SAFETY: arguments with as many pairs as they say or null, by the API's contract.
    change(pid, unsafe { Operation::restore(args) })
}

pub(crate) unsafe fn cuCheckpointProcessUnlock(
    pid: c_int,
    args: *mut CUcheckpointUnlockArgs,
) -> CUresult {
    // SAFETY: arguments or null, by the API's contract.
    change(pid, unsafe { Operation::unlock(args) })
}
