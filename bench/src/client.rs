//! A measured process of a subject: a library's calls, or a bare socket.

use std::path::PathBuf;

use clap::Args;
use netperf::process;

use crate::floor::{Floor, Raw};
use crate::{Failure, startup};

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

/// The process.
///
/// # Errors
/// The subject cannot be reached; what fails later is answered.
pub(crate) fn main(options: &Options) -> Result<(), Failure> {
    if options.only_initialise {
        return startup::client(options.library.as_deref());
    }
    if let Some(library) = &options.library {
        return process::serve_library(library);
    }
    let peer = options.peer.as_deref().ok_or("nothing to measure")?;
    let mut raw = Raw::connect(peer)?;
    process::answer_all(|floor: &Floor| raw.measure(floor))
}
