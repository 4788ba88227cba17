//! `bench startup`: a process from its start through `cuInit` to its end, with the server running.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use netperf::driver;

use crate::host::{Artefacts, Host, Subject};
use crate::place::Placement;
use crate::plan::Benchmark;
use crate::report::Row;
use crate::{Failure, Options};
use netperf::round::Round;

/// Who starts, in turn.
const SUBJECTS: [Subject; 5] = [
    Subject::Bare,
    Subject::Preloaded,
    Subject::Native,
    Subject::Unix,
    Subject::Tcp,
];
/// Starts in a round.
const STARTS: usize = 10;

/// The process that is started.
///
/// # Errors
/// The library cannot be loaded or initialised.
pub(crate) fn client(library: Option<&Path>) -> Result<(), Failure> {
    match library {
        Some(library) => driver::initialise(driver::load(library)?),
        None => Ok(()),
    }
}

/// All rounds on one placement.
///
/// # Errors
/// A process fails.
pub(crate) fn run(
    options: &Options,
    host: &Host,
    artefacts: &Artefacts,
    placement: Placement,
) -> Result<Vec<Row>, Failure> {
    let (rounds, starts) = if options.quick {
        (1, 1)
    } else {
        (options.rounds.max(1), STARTS)
    };
    let mut measured = SUBJECTS.map(|subject| (subject, Vec::new()));
    for _ in 0..rounds {
        for (subject, all) in &mut measured {
            let mut command = host.client(artefacts, *subject)?;
            command.arg("--only-initialise").stdout(Stdio::null());
            let mut round = Round::default();
            for _ in 0..starts {
                round.samples_ns.push(start(&mut command)?);
            }
            all.push(round);
        }
    }
    let row = |(subject, rounds): &(Subject, Vec<Round>)| {
        Row::new(
            Benchmark::Startup,
            "start, cuInit, end",
            *subject,
            placement,
            0,
            rounds,
        )
    };
    Ok(measured.iter().map(row).collect())
}

fn start(command: &mut Command) -> Result<f64, Failure> {
    let begin = Instant::now();
    let status = command.status()?;
    if !status.success() {
        return Err(format!("a process failed: {status}").into());
    }
    Ok(begin.elapsed().as_nanos() as f64)
}
