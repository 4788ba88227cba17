//! The log of a guest: one write to descriptor 2, or to a file, for each line; nothing by default but warnings.
//!
//! `GPURUN_LOG` is `off`, `error`, `warn` (default), `info` or `debug`; `GPURUN_LOG_FILE` names a file to append to. Not through the
//! standard library's locked streams: the host program may hold them, or may have closed them.

use std::fmt::Arguments;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

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
    file: Option<File>,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| Log {
        level: match std::env::var("GPURUN_LOG").as_deref() {
            Ok("off") => None,
            Ok("error") => Some(Level::Error),
            Ok("info") => Some(Level::Info),
            Ok("debug" | "trace") => Some(Level::Debug),
            _ => Some(Level::Warn),
        },
        file: std::env::var_os("GPURUN_LOG_FILE")
            .and_then(|path| File::options().create(true).append(true).open(path).ok()),
    })
}

/// True if lines of this level are written.
pub(crate) fn enabled(level: Level) -> bool {
    log().level.is_some_and(|most| level <= most)
}

/// Writes one line, whole or not at all.
pub(crate) fn line(level: Level, text: Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let line = format!("gpurun: {text}\n");
    match &log().file {
        Some(file) => drop((&*file).write(line.as_bytes())),
        None => drop(rustix::io::write(stderr(), line.as_bytes())),
    }
}

#[expect(unsafe_code, reason = "descriptor 2 is borrowed for one write")]
fn stderr() -> BorrowedFd<'static> {
    // SAFETY: only used for one write at a time; if the program has closed it, the write fails.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Writes a warning the first time that `key` is seen.
pub(crate) fn warn_once(key: &'static str, text: Arguments<'_>) {
    static SEEN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.contains(&key) {
        seen.push(key);
        line(Level::Warn, text);
    }
}

macro_rules! error { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($text)*)) } }
macro_rules! warning { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($text)*)) } }
macro_rules! info { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($text)*)) } }
macro_rules! debug { ($($text:tt)*) => { if $crate::log::enabled($crate::log::Level::Debug) { $crate::log::line($crate::log::Level::Debug, format_args!($($text)*)) } } }
pub(crate) use {debug, error, info, warning};
