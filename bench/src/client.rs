//! A measured process: reads one [`Work`] a line, does it, writes one [`Round`] a line.
//!
//! One process for each subject, so that no library, heap or thread of one is in the way of another; while others are measured it is
//! blocked in reading.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::driver::{self, Gpu};
use crate::floor::Raw;
use crate::{Failure, alloc, call, copy, launch, startup};

/// What a measured process does.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The driver library to measure
    #[arg(long, conflicts_with = "peer")]
    library: Option<PathBuf>,
    /// The raw peer to measure: unix:PATH or tcp:ADDRESS
    #[arg(long)]
    peer: Option<String>,
    /// Only initialise the library, say how long that took, and end
    #[arg(long)]
    only_initialise: bool,
}

/// What one round of one case is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// See [`call`].
    Call { kind: call::Kind, count: usize },
    /// See [`launch`].
    Launch(launch::Launches),
    /// See [`copy`].
    Copy(copy::Copies),
    /// See [`alloc`].
    Alloc { bytes: usize, count: usize },
    /// Messages there and back over a bare socket.
    PingPong { count: usize, spins: bool },
    /// Bytes in one direction over a bare socket.
    Stream {
        bytes: usize,
        there: bool,
        count: usize,
    },
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Nanoseconds for an operation, one for each sample.
    pub(crate) samples_ns: Vec<f64>,
    /// CPU time of the calling threads for an operation.
    pub(crate) caller_cpu_ns: f64,
}

/// What a process answers.
pub(crate) type Answer = Result<Round, String>;

/// Measures `count` operations, one sample each.
///
/// # Errors
/// The operation's first.
pub(crate) fn time_each(
    count: usize,
    mut operation: impl FnMut() -> Result<(), String>,
) -> Result<Round, String> {
    let mut samples_ns = Vec::with_capacity(count);
    let cpu = thread_cpu_ns();
    let mut before = Instant::now();
    for _ in 0..count {
        operation()?;
        let now = Instant::now();
        samples_ns.push((now - before).as_nanos() as f64);
        before = now;
    }
    Ok(Round {
        samples_ns,
        caller_cpu_ns: (thread_cpu_ns() - cpu) / count.max(1) as f64,
    })
}

/// CPU time of the calling thread so far.
pub(crate) fn thread_cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The process.
///
/// # Errors
/// The subject cannot be reached; what fails later is answered.
pub(crate) fn main(options: &Options) -> Result<(), Failure> {
    if options.only_initialise {
        return startup::client(options.library.as_deref());
    }
    if let Some(library) = &options.library {
        let gpu = Gpu::new(driver::load(library)?)?;
        let mut buffers = copy::Buffers::default();
        return answer_all(|work| match work {
            Work::Call { kind, count } => call::measure(&gpu, *kind, *count),
            Work::Launch(launches) => launch::measure(&gpu, launches),
            Work::Copy(copies) => copy::measure(&gpu, &mut buffers, copies),
            Work::Alloc { bytes, count } => alloc::measure(&gpu, *bytes, *count),
            Work::PingPong { .. } | Work::Stream { .. } => Err("no raw peer".to_owned()),
        });
    }
    let peer = options.peer.as_deref().ok_or("nothing to measure")?;
    let mut raw = Raw::connect(peer)?;
    answer_all(|work| match work {
        Work::PingPong { count, spins } => raw.ping_pong(*count, *spins),
        Work::Stream {
            bytes,
            there,
            count,
        } => raw.stream(*bytes, *there, *count),
        _ => Err("no driver".to_owned()),
    })
}

fn answer_all(mut run: impl FnMut(&Work) -> Answer) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let answer = run(&serde_json::from_str(&line?)?);
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
    }
    Ok(())
}
