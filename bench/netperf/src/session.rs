//! `gpurun netperf`: measures one server, as one of its programs.
//!
//! What: this process runs under a lease, as any program of `gpurun`; it starts one measured process for each transport and session, which inherit what
//! they need, and lets them measure in turn. Beside them, where the server is reached by TCP: how long the network takes there and back, by how long
//! connecting takes. Rule: a case that cannot be done (a slice too small for the largest copy) is said and left out; the others stand.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use protocol::address::Address;
use protocol::config::{SERVER_VARIABLE, TRANSPORT_VARIABLE, TransportChoice};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::cases::{Case, cases};
use crate::figures::Figures;
use crate::plot;
use crate::process::{self, Process, Work};
use crate::round::Round;
use crate::table::{self, Row};

/// The file that is none.
const STANDARD_OUTPUT: &str = "-";

/// How often a connection is made and closed again.
const CONNECTIONS: usize = 20;

/// How long one may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What is measured, and where the figures go.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct Options {
    /// Transports to compare, such as tcp,rdma [default: the one that programs use]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub transports: Vec<String>,
    /// Rounds; in each, every case runs once over every transport
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Sessions of the cases with several; 1: none of those
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub sessions: u32,
    /// The largest copy, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub most: u32,
    /// Only whether it runs: one round of few operations
    #[arg(long)]
    pub quick: bool,
    /// Write the figures as JSON: to this file, or to standard output instead of the table if there is none
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Write the figures to this file as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw bandwidth by size into this file (SVG)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

impl Options {
    /// The files that are wanted.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.csv, &self.plot, &self.json].into_iter().flatten();
        files
            .map(PathBuf::as_path)
            .filter(|file| *file != Path::new(STANDARD_OUTPUT))
    }

    /// The transports to compare, each a word that programs know; none: the one that is configured.
    ///
    /// # Errors
    /// A word that is no transport.
    pub fn transports(&self) -> Result<Vec<String>, Failure> {
        let is_known = |word: &&String| word.parse::<TransportChoice>().is_ok();
        if let Some(unknown) = self.transports.iter().find(|word| !is_known(word)) {
            return Err(format!("--transports: '{unknown}' is no transport").into());
        }
        if !self.transports.is_empty() {
            return Ok(self.transports.clone());
        }
        Ok(vec![
            std::env::var(TRANSPORT_VARIABLE).unwrap_or_else(|_| "auto".to_owned()),
        ])
    }
}

/// Measures; `process` is the command of a measured process, which runs [`serve`](crate::process::serve).
///
/// # Errors
/// A session cannot be begun, or ends; a file cannot be written.
pub fn run(options: &Options, process: impl Fn() -> Command) -> Result<(), Failure> {
    let transports = options.transports()?;
    let sessions = options.sessions as usize;
    let cases = cases(options.quick, (options.most as usize) << 20, sessions);
    let rounds = if options.quick { 1 } else { options.rounds };
    for file in options.files() {
        // Found out now, not after minutes; what is there stays until there is something to write.
        let opened = OpenOptions::new().create(true).append(true).open(file);
        opened.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let total = u64::from(rounds) * (cases.len() * transports.len()) as u64;
    let bar = ProgressBar::new(total).with_message("measuring");
    let mut lanes = Vec::new();
    for transport in &transports {
        lanes.push(Lane::begin(transport, sessions, &process)?);
    }
    for _ in 0..rounds {
        for (place, case) in cases.iter().enumerate() {
            for lane in &mut lanes {
                lane.measure(place, case)?;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    report(options, &cases, &lanes)
}

/// One transport's processes, and what they measured.
struct Lane {
    transport: String,
    processes: Vec<Process>,
    /// Of each case.
    measured: Vec<Measured>,
}

#[derive(Default)]
struct Measured {
    rounds: Vec<Round>,
    /// Why there is no more of it.
    failure: Option<String>,
}

impl Lane {
    fn begin(
        transport: &str,
        sessions: usize,
        process: &impl Fn() -> Command,
    ) -> Result<Self, Failure> {
        let start = |_| {
            let mut command = process();
            command.env(TRANSPORT_VARIABLE, transport);
            Process::start(transport, &mut command)
        };
        Ok(Self {
            transport: transport.to_owned(),
            processes: (0..sessions).map(start).collect::<Result<_, _>>()?,
            measured: Vec::new(),
        })
    }

    /// One round of a case, unless it has failed before.
    fn measure(&mut self, place: usize, case: &Case) -> Result<(), Failure> {
        if self.measured.len() <= place {
            self.measured.resize_with(place + 1, Measured::default);
        }
        let measured = &mut self.measured[place];
        if measured.failure.is_some() {
            return Ok(());
        }
        let processes = &mut self.processes[..case.sessions];
        if let Work::Copy(copies) = &case.work
            && measured.rounds.is_empty()
            && let Err(failure) = process::all(processes, &Work::Copy(copies.prepared()))?
        {
            // All sessions have their memory before one begins to copy.
            measured.failure = Some(failure);
            return Ok(());
        }
        match process::all(processes, &case.work)? {
            Ok(round) => measured.rounds.push(round),
            Err(failure) => measured.failure = Some(failure),
        }
        Ok(())
    }
}

fn report(options: &Options, cases: &[Case], lanes: &[Lane]) -> Result<(), Failure> {
    let (mut rows, mut measured) = (Vec::new(), Vec::new());
    for (place, case) in cases.iter().enumerate() {
        for lane in lanes {
            let of_case = &lane.measured[place];
            if let Some(failure) = &of_case.failure {
                eprintln!(
                    "gpurun: left out: {} over {}: {failure}",
                    case.name, lane.transport
                );
                continue;
            }
            let figures = Figures::of(&of_case.rounds, case.bytes);
            rows.push(Row::new(case, &lane.transport, &figures));
            measured.push((case.clone(), lane.transport.clone(), figures));
        }
    }
    if rows.is_empty() {
        return Err("no case could be measured".into());
    }
    match options.json.as_deref() {
        Some(file) if file == Path::new(STANDARD_OUTPUT) => {
            table::write_json(std::io::stdout().lock(), &rows)?;
        }
        json => {
            say(&rows);
            if let Some(file) = json {
                let mut writer = BufWriter::new(File::create(file)?);
                table::write_json(&mut writer, &rows)?;
                writer.flush()?;
            }
        }
    }
    if let Some(file) = &options.csv {
        table::write_csv(file, &rows)?;
    }
    if let Some(file) = &options.plot {
        plot::write(file, &table::charts(&measured))?;
    }
    Ok(())
}

/// The table, and the network beside it.
fn say(rows: &[Row]) {
    println!("{}", table::table(rows));
    if let Some((address, figures)) = network() {
        println!(
            "\nthe network to {address}, there and back: {:.1} µs (the median of {} TCP connections)",
            figures.us_p50, figures.samples
        );
    }
}

/// How long the network takes there and back; nothing where the server is on this machine's own socket, or does not say.
fn network() -> Option<(String, Figures)> {
    let said = std::env::var(SERVER_VARIABLE).ok()?;
    let Ok(Address::Tcp { host, port }) = said.parse::<Address>() else {
        return None;
    };
    let address = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let mut round = Round::default();
    for _ in 0..CONNECTIONS {
        let begin = Instant::now();
        TcpStream::connect_timeout(&address, CONNECT_LIMIT).ok()?;
        round.samples_ns.push(begin.elapsed().as_nanos() as f64);
    }
    Some((said, Figures::of(&[round], 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        let words = [&["netperf"], words].concat();
        Line::try_parse_from(words).expect("options").options
    }

    #[test]
    fn options_are_read() {
        let plain = options(&[]);
        assert_eq!((plain.rounds, plain.sessions, plain.most), (3, 4, 256));
        assert_eq!(plain.json, None);
        for (word, file) in [("--json", "-"), ("--json=out.json", "out.json")] {
            let said = serde_json::to_string(&options(&[word])).expect("JSON");
            let heard: Options = serde_json::from_str(&said).expect("the same");
            assert_eq!(heard.json, Some(file.into()));
        }
        let two = options(&["--transports", "tcp,rdma"]);
        assert_eq!(two.transports().expect("known"), ["tcp", "rdma"]);
        let wrong = options(&["--transports", "tcp,pigeon"]).transports();
        assert!(wrong.expect_err("unknown").to_string().contains("'pigeon'"));
    }

    /// A process that speaks as a measured one does.
    fn fake(answer: &str) -> Command {
        let script = format!("echo ready; while read -r line; do echo '{answer}'; done");
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    }

    #[test]
    fn shares_of_sessions_add_up_and_a_failure_is_a_case_s_own() {
        let round = r#"{"Ok":{"samples_ns":[4000.0],"caller_cpu_ns":8.0}}"#;
        let failure = r#"{"Err":"cuMemAlloc: out of memory"}"#;
        let case = cases(true, 1 << 20, 2).pop().expect("one of two sessions");
        assert_eq!(case.sessions, 2);
        let mut lane = Lane::begin("tcp", 2, &|| fake(round)).expect("begun");
        lane.measure(0, &case).expect("measured");
        assert_eq!(lane.measured[0].rounds[0].samples_ns, [2000.0, 2000.0]);
        let mut lane = Lane::begin("tcp", 2, &|| fake(failure)).expect("begun");
        lane.measure(0, &case).expect("the processes live");
        let said = lane.measured[0].failure.as_deref();
        assert_eq!(said, Some("cuMemAlloc: out of memory"));
        lane.measure(0, &case).expect("left out");
        assert!(Lane::begin("tcp", 1, &|| Command::new("false")).is_err());
    }
}
