//! Speed of the software GPU's executor: kernels of every kind that networks spend their time in, on every path of the machine, beside
//! plain Rust and numpy.
//!
//! `bench soft [THREADS] [--case TEXT]`. All in one run; a round has every case on every path once, and Rust's way of it, and the best of
//! the rounds counts. numpy is that of `scripts/toolchain`, or else of the machine, with one thread; without it its column is empty.
//! Expected on one core of 2.5 GHz: 4 to 12 ns for an operation of a warp, most of it in loads.

mod cases;
mod plain;

use std::path::Path as File;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use soft_gpu::exec::{Allocations, HostServices, Launch, Path, Pool, Program, Statistics, run};

use cases::Case;

/// Rounds of which the best counts.
const ROUNDS: usize = 9;
/// What numpy is asked.
const NUMPY: &str = include_str!("soft/numpy_cases.py");

/// A case's kernel, decoded for a path, and the best of its times.
struct Subject {
    path: Path,
    program: Program,
    seconds: f64,
    statistics: Statistics,
}

impl Subject {
    fn new(case: &Case, path: Path) -> Result<Subject, crate::Failure> {
        let module = soft_gpu::ptx::parse(case.text)?;
        Ok(Subject {
            path,
            program: Program::decode_for(&module, case.kernel, &|_| None, path)?,
            seconds: f64::INFINITY,
            statistics: Statistics::default(),
        })
    }

    fn measure(&mut self, case: &Case, pool: &Pool) -> Result<(), crate::Failure> {
        let cancelled = AtomicBool::new(false);
        let host = HostServices {
            printf: &|_| (),
            operation_budget: None,
            cancelled: &cancelled,
            heap: None,
            keeps_scene: false,
        };
        let allocations = Allocations::new(case.ranges());
        let params = case.params();
        let launch = Launch {
            program: &self.program,
            grid: case.grid,
            block: case.block,
            dynamic_shared_bytes: 0,
            params: &params,
            references: &[],
            cooperative: false,
            cluster: None,
        };
        let start = Instant::now();
        self.statistics = run(pool, &launch, &allocations, &host)?;
        self.seconds = self.seconds.min(start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Runs the kernels whose names contain `only` on every path with so many threads.
///
/// # Errors
/// A kernel does not decode, or faults, or computes what Rust does not.
pub(crate) fn run_all(threads: usize, only: &str) -> Result<(), crate::Failure> {
    let pool = Pool::new(threads);
    let mut cases = cases::all();
    cases.retain(|case| case.name.contains(only));
    if cases.is_empty() {
        return Err(format!("no kernel's name contains {only:?}").into());
    }
    let numpy = numpy_times(cases.iter().map(|case| case.name));
    println!(
        "{:24} {:8} {:>9} {:>9} {:>8} {:>8}",
        "kernel", "path", "ms", "ns/op", "× Rust", "× numpy"
    );
    for case in &mut cases {
        let paths = Path::available().iter();
        let mut subjects = paths
            .map(|path| Subject::new(case, *path))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rust = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let wanted = case.in_rust();
            rust = rust.min(start.elapsed().as_secs_f64());
            for subject in &mut subjects {
                case.reset();
                subject.measure(case, &pool)?;
                case.check(&wanted)?;
            }
        }
        let numpy = numpy.iter().find(|(name, _)| name == case.name);
        for subject in &subjects {
            let operations = subject.statistics.warp_operations as f64;
            let of_numpy = numpy.map_or("".into(), |(_, time)| {
                format!("{:.1}", subject.seconds / time)
            });
            println!(
                "{:24} {:8} {:9.3} {:9.2} {:8.1} {of_numpy:>8}",
                case.name,
                format!("{:?}", subject.path),
                subject.seconds * 1e3,
                subject.seconds * 1e9 / operations,
                subject.seconds / rust,
            );
        }
    }
    Ok(())
}

/// The best times of numpy in seconds, of these cases; none where there is no numpy.
fn numpy_times(cases: impl Iterator<Item = &'static str>) -> Vec<(String, f64)> {
    let own = File::new("target/tools/python/bin/python");
    let python = if own.exists() {
        own
    } else {
        File::new("python3")
    };
    let threads = ["OPENBLAS", "OMP", "MKL"].map(|name| (format!("{name}_NUM_THREADS"), "1"));
    let output = Command::new(python)
        .args(["-c", NUMPY])
        .args(cases)
        .envs(threads)
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    let lines = String::from_utf8_lossy(&output.stdout);
    let times = lines.lines().filter_map(|line| {
        let (name, seconds) = line.split_once('\t')?;
        Some((name.to_owned(), seconds.parse().ok()?))
    });
    times.collect()
}
