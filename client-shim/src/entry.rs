//! The door of every exported function: fork and exit are noticed, panics are caught, calls are counted.
//!
//! Cost of a local call: one load of the process state, one of the thread's answer cell, one of whether lines of the driver's log wait, two if counts are wanted. An
//! error other than `NOT_READY` is written down in that log.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use driver_api::ROWS;
use driver_api::abi::CUresult;
use protocol::stats::Answered;

use crate::coredump;
use crate::log;
use crate::process;
use crate::session;

/// No exported function runs on this thread: it is one of ours.
const NO_ROW: usize = usize::MAX;

thread_local! {
    static ANSWERED: Cell<Answered> = const { Cell::new(Answered::Local) };
    /// The exported function that runs, for the counts.
    static ROW: Cell<usize> = const { Cell::new(NO_ROW) };
    /// A function of the program runs that a stream has called.
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Runs one exported function.
pub(crate) fn call(row: usize, body: impl FnOnce() -> CUresult) -> CUresult {
    if let Some(refusal) = process::refusal() {
        return refusal;
    }
    if IN_HOST_FUNCTION.get() && !allowed_in_host_function(ROWS[row].name) {
        return CUresult::NOT_PERMITTED;
    }
    let outer = (ANSWERED.replace(Answered::Local), ROW.replace(row));
    // The panic hook has written the line.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or(CUresult::UNKNOWN);
    let answered = ANSWERED.replace(outer.0);
    ROW.set(outer.1);
    if let Some(stats) = session::stats() {
        stats.count(row, answered);
    }
    log::debug!("{} -> {result}", ROWS[row].name);
    if result != CUresult::SUCCESS && result != CUresult::NOT_READY {
        log::failed(row, result);
        coredump::after_error(result);
    }
    if outer.1 == NO_ROW {
        log::tell();
    }
    result
}

/// Names and versions are no questions to the device.
fn allowed_in_host_function(name: &str) -> bool {
    matches!(
        name,
        "cuGetErrorName" | "cuGetErrorString" | "cuDriverGetVersion"
    )
}

/// Runs a function of the program that we call: in it the driver may not be used.
pub(crate) fn in_host_function(function: impl FnOnce()) {
    let outer = IN_HOST_FUNCTION.replace(true);
    function();
    IN_HOST_FUNCTION.set(outer);
}

/// [`call`] for generated code, which says what went wrong as an error.
pub(crate) fn attempt(row: usize, body: impl FnOnce() -> Result<(), CUresult>) -> CUresult {
    call(row, || code(body()))
}

/// Runs what a private table asks for, which enters through no exported function: as carefully as [`call`].
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, CUresult>) -> Result<T, CUresult> {
    if let Some(refusal) = process::refusal() {
        return Err(refusal);
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(CUresult::UNKNOWN))
}

/// Notes that the running call went to the server.
pub(crate) fn answered(how: Answered) {
    if how == Answered::Asked || ANSWERED.get() == Answered::Local {
        ANSWERED.set(how);
    }
}

/// The exported function that runs on this thread, for a person.
pub(crate) fn running() -> &'static str {
    ROWS.get(ROW.get())
        .map_or("a thread of the library", |row| row.name)
}

/// The time at which the running call begins to wait for the server, if anybody counts.
pub(crate) fn waits() -> Option<Instant> {
    session::stats().map(|_| Instant::now())
}

/// Adds time that the running call has waited for the server.
pub(crate) fn waited(since: Option<Instant>) {
    if let (Some(stats), Some(since)) = (session::stats(), since) {
        stats.waited(ROW.get(), since.elapsed());
    }
}

/// The code of a result.
pub(crate) fn code(result: Result<(), CUresult>) -> CUresult {
    match result {
        Ok(()) => CUresult::SUCCESS,
        Err(code) => code,
    }
}

/// Answers for a function that is not served, with one line in the log.
pub(crate) fn refuse(row: usize, reason: &'static str) -> CUresult {
    if let Some(refusal) = process::refusal() {
        return refusal;
    }
    let name = ROWS[row].name;
    log::warn_once(name, format_args!("{name} is not supported: {reason}"));
    log::failed(row, CUresult::NOT_SUPPORTED);
    log::tell();
    CUresult::NOT_SUPPORTED
}
