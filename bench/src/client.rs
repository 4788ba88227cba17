//! A measured process: reads one [`Work`] a line, does it, writes one [`Round`] a line.
//!
//! One process for each subject, so that no library, heap or thread of one is in the way of another; while others are measured it is
//! blocked in reading.

use std::path::PathBuf;

use clap::Args;
use netperf::driver::{self, Gpu};
use netperf::process::answer_all;
pub(crate) use netperf::round::{Round, time_each};
use netperf::{call, copy, launch};
use serde::{Deserialize, Serialize};

use crate::floor::Raw;
use crate::{Failure, alloc, startup};

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
        return answer_all(|work: &Work| match work {
            Work::Call { kind, count } => call::measure(&gpu, *kind, *count),
            Work::Launch(launches) => launch::measure(&gpu, launches),
            Work::Copy(copies) => copy::measure(&gpu, &mut buffers, copies),
            Work::Alloc { bytes, count } => alloc::measure(&gpu, *bytes, *count),
            Work::PingPong { .. } | Work::Stream { .. } => Err("no raw peer".to_owned()),
        });
    }
    let peer = options.peer.as_deref().ok_or("nothing to measure")?;
    let mut raw = Raw::connect(peer)?;
    answer_all(|work: &Work| match work {
        Work::PingPong { count, spins } => raw.ping_pong(*count, *spins),
        Work::Stream {
            bytes,
            there,
            count,
        } => raw.stream(*bytes, *there, *count),
        _ => Err("no driver".to_owned()),
    })
}
