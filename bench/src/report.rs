//! What a run says.

use netperf::figures::{Figures, bandwidth, time};
use netperf::round::Round;
use netperf::table::lines;
use serde::Serialize;

use crate::host::Subject;
use crate::place::Placement;
use crate::plan::Benchmark;

/// The figures of one case on one subject at one placement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The benchmark's name.
    pub(crate) benchmark: &'static str,
    /// The case.
    pub(crate) case: String,
    /// Who.
    pub(crate) subject: Subject,
    /// Cores for both ends together.
    pub(crate) cores: Placement,
    /// Microseconds for an operation: half were faster.
    pub(crate) us_p50: f64,
    /// Nine in ten were.
    pub(crate) us_p90: f64,
    /// 99 in a hundred were.
    pub(crate) us_p99: f64,
    /// CPU time of the calling threads for an operation, in microseconds; the median of the rounds.
    pub(crate) caller_cpu_us: f64,
    /// Operations in a second, by the median.
    pub(crate) per_second: f64,
    /// Gigabytes (10^9) in a second, by the median; 0 where no bytes are moved.
    pub(crate) gigabytes_per_second: f64,
    /// How many samples there are.
    pub(crate) samples: usize,
}

impl Row {
    pub(crate) fn new(
        benchmark: Benchmark,
        case: &str,
        subject: Subject,
        cores: Placement,
        bytes: usize,
        rounds: &[Round],
    ) -> Self {
        let figures = Figures::of(rounds, bytes);
        Self {
            benchmark: benchmark.name(),
            case: case.to_owned(),
            subject,
            cores,
            us_p50: figures.us_p50,
            us_p90: figures.us_p90,
            us_p99: figures.us_p99,
            caller_cpu_us: figures.caller_cpu_us,
            per_second: figures.per_second,
            gigabytes_per_second: figures.gigabytes_per_second,
            samples: figures.samples,
        }
    }
}

/// Prints the table.
pub(crate) fn print(rows: &[Row]) {
    let headers = [
        "case",
        "subject",
        "cores",
        "p50 µs",
        "p90 µs",
        "p99 µs",
        "caller CPU µs",
        "per second",
        "GB/s",
    ];
    let cells = |row: &Row| {
        [
            format!("{}: {}", row.benchmark, row.case),
            row.subject.name().to_owned(),
            row.cores.name().to_owned(),
            time(row.us_p50),
            time(row.us_p90),
            time(row.us_p99),
            time(row.caller_cpu_us),
            format!("{:.0}", row.per_second),
            bandwidth(row.gigabytes_per_second),
        ]
    };
    println!("{}", lines(headers, 3, rows.iter().map(cells)));
}
