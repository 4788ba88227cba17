//! The device's own words: one write per line to standard error, or to `GPURUN_LOG_FILE`.
//!
//! `GPURUN_LOG` is `off`, `error`, `warn` (the default), `info`, `debug` or `trace`. A library inside other
//! people's programs says nothing else on its own behalf.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

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

/// Something the user should know: a call will fail, or a setting is not taken.
pub(crate) fn warn(line: &str) {
    write(Level::Warn, line);
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
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() >= MAX_LINES || seen.iter().any(|known| known == line) {
        return;
    }
    seen.push(line.to_owned());
    drop(seen);
    warn(line);
}
