//! `gpurun netperf`: how fast the road to a server is, as its programs go it.
//!
//! What: the measuring is a program of its own, ours, that runs under a lease as any other does ([`run`]): it needs what they need, waits as they
//! wait, and shares the lease it is in. It starts further processes of ours, one for each session.

use std::ffi::OsString;
use std::process::Command;

use netperf::{process, session};

use crate::arguments::{NeedOptions, Options};
use crate::exit::{Failure, USAGE};
use crate::run;

/// The word of the program that measures.
const SESSION: &str = "netperf-session";

/// The word of a measured process.
const PROCESS: &str = "netperf-process";

/// Measures under a lease.
pub(super) fn netperf(
    options: &Options,
    need: &NeedOptions,
    measured: &session::Options,
) -> Result<u8, Failure> {
    measured
        .transports()
        .map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let said = serde_json::to_string(measured).map_err(cannot_measure)?;
    let program = [executable()?, SESSION.into(), said.into()];
    run::run(options, need, &program)
}

/// The program under the lease.
pub(super) fn measure(said: &str) -> Result<u8, Failure> {
    let options = serde_json::from_str(said).map_err(cannot_measure)?;
    let executable = executable()?;
    let process = || {
        let mut command = Command::new(&executable);
        command.arg(PROCESS);
        command
    };
    session::run(&options, process).map_err(cannot_measure)?;
    Ok(0)
}

/// A measured process.
pub(super) fn serve() -> Result<u8, Failure> {
    process::serve().map_err(cannot_measure)?;
    Ok(0)
}

fn executable() -> Result<OsString, Failure> {
    let own = std::env::current_exe().map_err(cannot_measure)?;
    Ok(own.into_os_string())
}

fn cannot_measure(error: impl std::fmt::Display) -> Failure {
    Failure::internal("cannot measure", error)
}
