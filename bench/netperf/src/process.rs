//! A measured process: reads one [`Work`] a line, does it, writes one [`Round`] a line.
//!
//! One process for each session, so that no library, heap or thread of one is in the way of another; while others are measured it is blocked in
//! reading.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::driver::{self, Gpu};
use crate::round::Round;
use crate::{Failure, alloc, call, copy, launch};

/// How long a process may take to end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The library that programs load.
const LIBRARY: &str = "libcuda.so.1";

/// What one round of one case is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// See [`call`].
    Call {
        /// Which.
        kind: call::Kind,
        /// How often.
        count: usize,
    },
    /// See [`launch`].
    Launch(launch::Launches),
    /// See [`copy`](mod@copy).
    Copy(copy::Copies),
    /// See [`alloc`].
    Alloc {
        /// Bytes of each.
        bytes: usize,
        /// How often.
        count: usize,
    },
}

/// What a process answers.
pub type Answer = Result<Round, String>;

/// Measures the library that programs load here, until nobody orders anything any more.
///
/// # Errors
/// As of [`serve_library`].
pub fn serve() -> Result<(), Failure> {
    serve_library(Path::new(LIBRARY))
}

/// Measures a library, until nobody orders anything any more.
///
/// # Errors
/// There is no such library, or no device behind it; what fails later is answered.
pub fn serve_library(library: &Path) -> Result<(), Failure> {
    let gpu = Gpu::new(driver::load(library)?)?;
    let mut buffers = copy::Buffers::default();
    answer_all(|work: &Work| match work {
        Work::Call { kind, count } => call::measure(&gpu, *kind, *count),
        Work::Launch(launches) => launch::measure(&gpu, launches),
        Work::Copy(copies) => copy::measure(&gpu, &mut buffers, copies),
        Work::Alloc { bytes, count } => alloc::measure(&gpu, *bytes, *count),
    })
}

/// Answers each line of standard input, once it is said that we are ready.
///
/// # Errors
/// Standard input or output.
pub fn answer_all<W: for<'a> Deserialize<'a>>(
    mut run: impl FnMut(&W) -> Answer,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let answer = run(&serde_json::from_str(&line?)?);
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
    }
    Ok(())
}

/// A measured process, which ends with this value.
#[derive(Debug)]
pub struct Process {
    name: String,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Process {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up; what is wrong it has said on standard error.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, Failure> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let mut process = Self {
            name: name.to_owned(),
            orders,
            answers: BufReader::new(answers.ok_or("no output")?),
            child,
        };
        if process.line()?.trim() != "ready" {
            return Err(format!("the {name} client is not ready").into());
        }
        Ok(process)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    /// Begins one round of one case.
    ///
    /// # Errors
    /// The process has ended.
    fn order(&mut self, work: &impl Serialize) -> Result<(), Failure> {
        let orders = self.orders.as_mut().ok_or("no input")?;
        serde_json::to_writer(&mut *orders, work)?;
        Ok(writeln!(orders)?)
    }

    /// What came of the last order; what failed in the process is the inner error.
    ///
    /// # Errors
    /// The process has ended.
    fn answer(&mut self) -> Result<Answer, Failure> {
        let line = self.line()?;
        let ended = |error| format!("the {} client has ended: {error}", self.name);
        Ok(serde_json::from_str(&line).map_err(ended)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends when its input does, and says goodbye to its server; one that does not is ended. Either way it is reaped.
        self.orders = None;
        let end = Instant::now() + END_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One round by several sessions at the same time: an operation's time is its share, so that rates add up.
///
/// # Errors
/// A process has ended; what failed in one is the inner error.
pub fn all(processes: &mut [Process], work: &impl Serialize) -> Result<Answer, Failure> {
    for process in &mut *processes {
        process.order(work)?;
    }
    let sessions = processes.len() as f64;
    let mut joined = Ok(Round::default());
    for process in processes {
        // Each is heard, so that none has an answer left over for the next question.
        match (process.answer()?, &mut joined) {
            (Ok(round), Ok(joined)) => {
                let shared = round.samples_ns.iter().map(|sample| sample / sessions);
                joined.samples_ns.extend(shared);
                joined.caller_cpu_ns += round.caller_cpu_ns / sessions;
            }
            (Err(failure), joined) => *joined = Err(failure),
            (Ok(_), Err(_)) => {}
        }
    }
    Ok(joined)
}
