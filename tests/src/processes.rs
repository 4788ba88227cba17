//! What the tests look at from outside: processes and what they hold.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The processes whose parent is `parent`, with their arguments.
#[must_use]
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if parent_of(&entry.path()) == Some(parent) {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            found.push((id, arguments));
        }
    }
    found
}

/// The parent of a process that is not a zombie.
fn parent_of(process: &Path) -> Option<u32> {
    // `PID (NAME) STATE PARENT …`, and the name may hold anything.
    let status = std::fs::read_to_string(process.join("stat")).ok()?;
    let mut fields = status.rsplit_once(')')?.1.split_ascii_whitespace();
    fields.next()?;
    fields.next()?.parse().ok()
}

/// The worker of a session of this daemon.
#[must_use]
pub fn worker(daemon: u32, session: u64) -> Option<u32> {
    let wanted = format!(" --session {session} ");
    let is_it = |(_, arguments): &&(u32, String)| arguments.contains(&wanted);
    children(daemon).iter().find(is_it).map(|(id, _)| *id)
}

/// Whether a process exists, be it a zombie.
#[must_use]
pub fn exists(id: u32) -> bool {
    Path::new("/proc").join(id.to_string()).exists()
}

/// The memory that a process has in use now.
#[must_use]
pub fn resident_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
}

/// Sends a signal to a process that the test started, or that its server did.
pub fn signal(id: u32, signal: Signal) {
    if let Some(id) = Pid::from_raw(id.cast_signed()) {
        // A process that is gone already is what most of the signals are for.
        let _ = kill_process(id, signal);
    }
}

/// Waits until something is so, looking again every few milliseconds.
///
/// # Panics
/// It does not become so within `limit`.
pub fn eventually(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
