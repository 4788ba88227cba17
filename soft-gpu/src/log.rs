//! The device's own words: one write per line to standard error, or to `GPURUN_LOG_FILE`.
//!
//! `GPURUN_LOG` is `off`, `error`, `warn` (the default), `info`, `debug` or `trace`. A library inside other
//! people's programs says nothing else on its own behalf.

use crate::threads::lock;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock};

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

/// Something the user should know: a call will fail, or a setting is not taken. The program can read it too ([`kept`]).
pub(crate) fn warn(line: &str) {
    keep(line);
    write(Level::Warn, line);
}

/// The lines that a program can still read, and how many there ever were.
static KEPT: Mutex<(VecDeque<String>, u32)> = Mutex::new((VecDeque::new(), 0));
/// The most lines that are kept.
const MAX_KEPT: usize = 100;

fn keep(line: &str) {
    let mut kept = lock(&KEPT);
    let (lines, ever) = &mut *kept;
    lines.truncate(MAX_KEPT - 1);
    lines.push_front(line.to_owned());
    *ever = ever.wrapping_add(1);
}

/// How many lines there ever were: the place of the next one.
pub(crate) fn next_place() -> u32 {
    lock(&KEPT).1
}

/// The lines since a place, oldest first, as far as they are kept; and the place of the next one.
pub(crate) fn kept(since: u32) -> (Vec<String>, u32) {
    let kept = lock(&KEPT);
    let (lines, ever) = &*kept;
    let wanted = ever.wrapping_sub(since) as usize;
    let newest = lines.iter().take(wanted).cloned();
    let mut lines: Vec<String> = newest.collect();
    lines.reverse();
    (lines, *ever)
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
