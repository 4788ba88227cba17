//! Benchmarks: A against B in one run.
//!
//! Speed is never asserted in a test; it is measured here, as figures of one run on one machine.

mod soft;

use clap::{Parser, Subcommand};

/// Benchmarks of gpurun.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
enum What {
    /// The software GPU's executor: three kernels on every path of this machine.
    Soft {
        /// Threads of the block pool.
        #[arg(default_value_t = 1)]
        threads: usize,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Arguments::parse().what {
        What::Soft { threads } => soft::run_all(threads),
    }
}
