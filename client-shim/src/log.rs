//! The log of a guest: one write to descriptor 2, or to a file, for each line; nothing by default but warnings.
//!
//! `GPURUN_LOG` is `off`, `error`, `warn` (default), `info` or `debug`; `GPURUN_LOG_FILE` names a file to append to, opened for
//! each line, so that no descriptor of ours is in the program's way. Not through the standard library's locked streams: the host
//! program may hold them, or may have closed them.
//!
//! Warnings and errors, and what calls of the program's come to, are also what `cuLogs…` tells ([`crate::debug`]): kept in any case, told to the program's
//! functions when a call of its own ends, where none of our locks is held, and written where `CUDA_LOG_FILE` says.
//!
//! *Rule:* descriptor 2 is written to only while it is what it was when the library was loaded, or a terminal. A program that has
//! closed its standard error may have got the number again for a file of its data.

use std::fmt::Arguments;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::BorrowedFd;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use driver_api::ROWS;
use driver_api::abi::CUresult;
use driver_api::error_log::{self, ErrorLog, RETURNING};
use driver_api::fresh::Fresh;
use driver_api::log_callbacks::LogCallbacks;
use protocol::config::variable;

use crate::entry;

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// Work is lost, or cannot begin.
    Error,
    /// Something that was asked for is not served.
    Warn,
    /// What a curious user wants to know.
    Info,
    /// Every call.
    Debug,
}

struct Log {
    level: Option<Level>,
    file: Option<PathBuf>,
    /// What was told once.
    told: Mutex<Vec<&'static str>>,
    /// What the program can read.
    kept: Mutex<ErrorLog>,
    /// Of that, what its functions have not been told yet.
    untold: Mutex<Vec<(u32, String)>>,
    callbacks: LogCallbacks,
    driver_file: Option<PathBuf>,
}

/// Most lines that wait for a call of the program's to end.
const MAX_UNTOLD: usize = 256;
/// Whether any line waits for that.
static HAS_UNTOLD: AtomicBool = AtomicBool::new(false);

impl Default for Log {
    fn default() -> Self {
        let level = variable("GPURUN_LOG");
        let file = variable("GPURUN_LOG_FILE").filter(|path| !path.is_empty());
        Self {
            level: match level.as_ref().and_then(|level| level.to_str()) {
                Some("off") => None,
                Some("error") => Some(Level::Error),
                Some("info") => Some(Level::Info),
                Some("debug" | "trace") => Some(Level::Debug),
                _ => Some(Level::Warn),
            },
            // The program may go to another directory.
            file: file.map(|path| std::path::absolute(&path).unwrap_or(path.into())),
            told: Mutex::default(),
            kept: Mutex::default(),
            untold: Mutex::default(),
            callbacks: LogCallbacks::new(),
            driver_file: variable("CUDA_LOG_FILE")
                .filter(|path| !path.is_empty())
                .map(driver_file),
        }
    }
}

/// `CUDA_LOG_FILE`: a stream's name, or a path; the program may go to another directory.
fn driver_file(name: std::ffi::OsString) -> PathBuf {
    match name.to_str() {
        Some("stdout" | "stderr") => name.into(),
        _ => std::path::absolute(&name).unwrap_or(name.into()),
    }
}

static LOG: Fresh<Log> = Fresh::new();

/// For a child after `fork`.
pub(crate) fn forget() {
    LOG.renew();
}

/// True if lines of this level are written.
pub(crate) fn enabled(level: Level) -> bool {
    LOG.get().level.is_some_and(|most| level <= most)
}

/// What the program can read of the driver's log.
pub(crate) fn kept() -> MutexGuard<'static, ErrorLog> {
    let kept = &LOG.get().kept;
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program's functions that are told each line of it.
pub(crate) fn callbacks() -> &'static LogCallbacks {
    &LOG.get().callbacks
}

/// A call of the program's has come to an error.
pub(crate) fn failed(row: usize, result: CUresult) {
    let (code, name) = (result.0, ROWS[row].name);
    if !error_log::is_told(name) {
        return;
    }
    keep(
        error_log::ERROR,
        format_args!("{RETURNING}{code} ({result}) from {name}"),
    );
}

/// Adds a line to the driver's log, in the form that CUDA's programming guide gives.
fn keep(level: u32, text: Arguments<'_>) {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let line = error_log::line(level, thread, text);
    let log = LOG.get();
    kept().keep(&line);
    if let Some(file) = &log.driver_file {
        write_for_driver(file, &line);
    }
    if !log.callbacks.is_empty() {
        let mut untold = log.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() < MAX_UNTOLD {
            untold.push((level, line));
            HAS_UNTOLD.store(true, SeqCst);
        }
    }
}

fn write_for_driver(file: &Path, line: &str) {
    let line = format!("{line}\n");
    match file.to_str() {
        Some("stderr") if standard_error_is_what_it_was() => {
            let _ = rustix::io::write(standard_error(), line.as_bytes());
        }
        Some("stdout" | "stderr") => {}
        _ => {
            let opened = File::options().create(true).append(true).open(file);
            drop(opened.and_then(|mut file| file.write(line.as_bytes())));
        }
    }
}

/// Tells the program's functions what is new. Only where a call of the program's ends: no lock is held.
pub(crate) fn tell() {
    if !HAS_UNTOLD.load(Relaxed) || !HAS_UNTOLD.swap(false, SeqCst) {
        return;
    }
    let log = LOG.get();
    let untold = {
        let mut untold = log.untold.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *untold)
    };
    for (level, line) in untold {
        entry::in_host_function(|| log.callbacks.tell(level, &line));
    }
}

/// Writes one line, whole or not at all.
pub(crate) fn line(level: Level, text: Arguments<'_>) {
    match level {
        Level::Error => keep(error_log::ERROR, text),
        Level::Warn => keep(error_log::WARNING, text),
        Level::Info | Level::Debug => {}
    }
    if !enabled(level) {
        return;
    }
    let line = format!("gpurun: {text}\n");
    let file = LOG.get().file.as_ref();
    // A file that cannot be opened is no reason to say nothing.
    match file.and_then(|path| File::options().create(true).append(true).open(path).ok()) {
        Some(mut file) => drop(file.write(line.as_bytes())),
        None if standard_error_is_what_it_was() => {
            let _ = rustix::io::write(standard_error(), line.as_bytes());
        }
        None => {}
    }
}

/// What descriptor 2 was when the library was loaded.
struct StandardError {
    is_known: AtomicBool,
    device: AtomicU64,
    inode: AtomicU64,
}

static STANDARD_ERROR: StandardError = StandardError {
    is_known: AtomicBool::new(false),
    device: AtomicU64::new(0),
    inode: AtomicU64::new(0),
};

/// Remembers what descriptor 2 is; when the library is loaded.
pub(crate) fn remember_standard_error() {
    if let Ok(stat) = rustix::fs::fstat(standard_error()) {
        STANDARD_ERROR.device.store(stat.st_dev, SeqCst);
        STANDARD_ERROR.inode.store(stat.st_ino, SeqCst);
        STANDARD_ERROR.is_known.store(true, SeqCst);
    }
}

fn standard_error_is_what_it_was() -> bool {
    let is_same = |stat: rustix::fs::Stat| {
        STANDARD_ERROR.is_known.load(SeqCst)
            && stat.st_dev == STANDARD_ERROR.device.load(SeqCst)
            && stat.st_ino == STANDARD_ERROR.inode.load(SeqCst)
    };
    rustix::fs::fstat(standard_error()).is_ok_and(is_same) || standard_error().is_terminal()
}

#[expect(unsafe_code, reason = "descriptor 2 is borrowed for one call")]
fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: only used for one call at a time; if the program has closed it, the call fails.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// The hook for panics: one line in the log, in the place of the standard library's print.
pub(crate) fn panicked(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("panic");
    let place = panic.location().map(ToString::to_string);
    line(
        Level::Error,
        format_args!(
            "internal error in {} at {}: {text}; please report it",
            entry::running(),
            place.unwrap_or_default()
        ),
    );
}

/// Writes a warning the first time that `key` is seen.
pub(crate) fn warn_once(key: &'static str, text: Arguments<'_>) {
    let told = &LOG.get().told;
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.contains(&key) {
        told.push(key);
        line(Level::Warn, text);
    }
}

macro_rules! error { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($text)*)) } }
macro_rules! warning { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($text)*)) } }
macro_rules! info { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($text)*)) } }
macro_rules! debug { ($($text:tt)*) => { if $crate::log::enabled($crate::log::Level::Debug) { $crate::log::line($crate::log::Level::Debug, format_args!($($text)*)) } } }
pub(crate) use {debug, error, info, warning};
