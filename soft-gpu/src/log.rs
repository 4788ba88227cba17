//! The device's own words: one write per line to standard error, or to `GPURUN_LOG_FILE`.
//!
//! `GPURUN_LOG` is `off`, `error`, `warn` (the default), `info`, `debug` or `trace`. A library inside other
//! people's programs says nothing else on its own behalf.

use std::fmt::Arguments;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use driver_api::abi::CUresult;
use driver_api::error_log::{self, ErrorLog, RETURNING};
use driver_api::log_callbacks::LogCallbacks;

use crate::entry::in_host_function;
use crate::threads::lock;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

struct Log {
    level: Level,
    file: Option<File>,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| Log {
        level: level(std::env::var("GPURUN_LOG").unwrap_or_default().as_str()),
        file: std::env::var_os("GPURUN_LOG_FILE")
            .and_then(|path| File::options().create(true).append(true).open(path).ok()),
    })
}

fn level(text: &str) -> Level {
    match text.to_ascii_lowercase().as_str() {
        "off" | "none" => Level::Off,
        "error" => Level::Error,
        "info" => Level::Info,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => Level::Warn,
    }
}

fn write(level: Level, line: &str) {
    let log = log();
    if level > log.level {
        return;
    }
    let line = format!("gpurun: soft-gpu: {line}\n");
    // A log that cannot be written is no reason to fail a call.
    let _ = match &log.file {
        Some(file) => (&*file).write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

/// Something the user should know: a call will fail, or a setting is not taken. The program can read it too ([`crate::debug`]).
pub(crate) fn warn(line: &str) {
    keep(error_log::WARNING, format_args!("{line}"));
    write(Level::Warn, line);
}

/// What the program can read.
pub(crate) static KEPT: Mutex<ErrorLog> = Mutex::new(ErrorLog::new());
/// The program's functions that are told each line.
pub(crate) static CALLBACKS: LogCallbacks = LogCallbacks::new();
/// What they have not been told yet.
static UNTOLD: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());
/// The most lines that wait for a call of the program's to end.
const MAX_UNTOLD: usize = 256;
static HAS_UNTOLD: AtomicBool = AtomicBool::new(false);

/// A call of the program's has come to an error.
pub(crate) fn failed(name: &str, result: CUresult) {
    if !error_log::is_told(name) {
        return;
    }
    let code = result.0;
    keep(
        error_log::ERROR,
        format_args!("{RETURNING}{code} ({result}) from {name}"),
    );
}

fn keep(level: u32, text: Arguments<'_>) {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let line = error_log::line(level, thread, text);
    lock(&KEPT).keep(&line);
    if !CALLBACKS.is_empty() {
        let mut untold = lock(&UNTOLD);
        if untold.len() < MAX_UNTOLD {
            untold.push((level, line));
            HAS_UNTOLD.store(true, Ordering::SeqCst);
        }
    }
}

/// Tells the program's functions what is new. Only where a call of the program's ends: no lock is held.
pub(crate) fn tell() {
    if !HAS_UNTOLD.load(Ordering::Relaxed) || !HAS_UNTOLD.swap(false, Ordering::SeqCst) {
        return;
    }
    let untold = std::mem::take(&mut *lock(&UNTOLD));
    for (level, line) in untold {
        in_host_function(|| CALLBACKS.tell(level, &line));
    }
}

/// Something for who wants to follow what happens.
pub(crate) fn debug(line: &str) {
    write(Level::Debug, line);
}

/// Every call, for who has to see them all.
pub(crate) fn trace(line: impl FnOnce() -> String) {
    if log().level >= Level::Trace {
        write(Level::Trace, &line());
    }
}

/// As [`warn`], but the same line only once.
pub(crate) fn warn_once(line: &str) {
    /// The most lines remembered.
    const MAX_LINES: usize = 1024;
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut seen = lock(&SEEN);
    if seen.len() >= MAX_LINES || seen.iter().any(|known| known == line) {
        return;
    }
    seen.push(line.to_owned());
    drop(seen);
    warn(line);
}
