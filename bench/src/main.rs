//! Benchmarks: A against B in one run.
//!
//! What: `bench call|launch|copy|alloc|startup` measure the road from a program to a driver that does nothing, over each transport, beside
//! the same calls made directly and beside the bare sockets ([`floor`]); `bench soft` measures the software GPU's executor.
//! Rules: everything that is compared runs in one run, round by round in turn, in processes of its own, on cores that are said
//! ([`place`]); figures are percentiles; speed is never asserted in a test, but `--check` compares a run with the aims
//! ([`aims`]). How to read them is in `docs/performance.md`.
//!
//! ```text
//! bench ──pins itself──▶ gpu-server + null driver, raw peer          (one set for each placement)
//!   └─ a round: for each case, for each subject ──▶ its client process measures, and tells its samples
//! ```

mod aims;
mod alloc;
mod call;
mod client;
mod copy;
mod fabric;
mod floor;
mod host;
mod launch;
mod link;
mod perftest;
mod place;
mod plan;
mod plot;
mod report;
mod soft;
mod startup;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What goes wrong in a benchmark: told, and the run ends.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Benchmarks of gpurun.
#[derive(Debug, Parser)]
#[command(name = "bench", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
enum What {
    /// Asked calls: one round trip each
    Call(Options),
    /// Kernel launches: what one costs its caller, and how many a second
    Launch(Options),
    /// Copies to and from the device, against the bare sockets' streams
    Copy(Options),
    /// Allocating and freeing device memory
    Alloc(Options),
    /// A process from its start through cuInit to its end
    Startup(Options),
    /// All of the above
    All(Options),
    /// Every transport of this machine beside what its fabric can do: calls, launches, copies by size, one and several sessions
    Fabric(Options),
    /// The software GPU's executor: kernels on every path of this machine, beside plain Rust and numpy
    Soft {
        /// Threads of the block pool
        #[arg(default_value_t = 1)]
        threads: usize,
        /// Measure only kernels whose name contains this
        #[arg(long, value_name = "TEXT", default_value = "")]
        case: String,
    },
    /// A measured process (started by bench itself)
    #[command(hide = true)]
    Client(client::Options),
    /// The other end of the bare sockets (started by bench itself)
    #[command(hide = true)]
    Peer {
        /// Where its unix socket shall be
        unix: PathBuf,
    },
}

/// How a benchmark is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Rounds; in each, every case runs once on every subject
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The least that shows that it runs: one round of few operations
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the aims; the status is 1 if one is missed
    #[arg(long)]
    check: bool,
    /// Measure only what an aim names, on the subjects that it compares
    #[arg(long)]
    aimed: bool,
    /// Cores: one, two, or both in turn
    #[arg(long, value_enum, default_values_t = [place::Placement::One, place::Placement::Two])]
    place: Vec<place::Placement>,
    /// Measure only cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    case: String,
    /// Beside the others, TCP over an emulated link
    #[arg(
        long,
        value_name = "DELAY[,GBIT]",
        help = "fabric: beside the others, TCP over an emulated link, such as 20us,10 or 1ms"
    )]
    link: Option<link::Link>,
    /// fabric: the largest copy, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    most: usize,
    /// Write the figures to this file as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// fabric: draw bandwidth by size into this file (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The folder of the artefacts [default: that of this program]
    #[arg(long, value_name = "FOLDER")]
    artefacts: Option<PathBuf>,
}

impl Options {
    fn most_bytes(&self) -> usize {
        self.most << 20
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<ExitCode, Failure> {
    let (options, benchmarks): (_, &[plan::Benchmark]) = match what {
        What::Soft { threads, case } => {
            return soft::run_all(threads, &case).map(|()| ExitCode::SUCCESS);
        }
        What::Client(options) => return client::main(&options).map(|()| ExitCode::SUCCESS),
        What::Peer { unix } => return floor::serve(&unix).map(|()| ExitCode::SUCCESS),
        What::Call(options) => (options, &[plan::Benchmark::Call]),
        What::Launch(options) => (options, &[plan::Benchmark::Launch]),
        What::Copy(options) => (options, &[plan::Benchmark::Copy]),
        What::Alloc(options) => (options, &[plan::Benchmark::Alloc]),
        What::Startup(options) => (options, &[plan::Benchmark::Startup]),
        What::All(options) => (options, &plan::Benchmark::ALL),
        What::Fabric(options) => (options, &[plan::Benchmark::Fabric]),
    };
    let rows = plan::run(&options, benchmarks)?;
    report::print(&rows);
    if let Some(file) = &options.json {
        netperf::table::write_json(std::fs::File::create(file)?, &rows)?;
    }
    if let Some(file) = &options.csv {
        netperf::table::write_csv(file, &rows)?;
    }
    if let Some(file) = &options.plot {
        plot::write(file, &rows)?;
    }
    if options.check {
        let misses = aims::misses(&rows, benchmarks);
        misses.iter().for_each(|miss| println!("missed: {miss}"));
        if !misses.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        println!("every aim is met");
    }
    Ok(ExitCode::SUCCESS)
}
