//! What a run says: a table for people, JSON for programs.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::Failure;
use crate::client::Round;
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
        let mut samples: Vec<f64> = rounds
            .iter()
            .flat_map(|round| round.samples_ns.iter().copied())
            .collect();
        samples.sort_by(f64::total_cmp);
        let mut cpu: Vec<f64> = rounds.iter().map(|round| round.caller_cpu_ns).collect();
        cpu.sort_by(f64::total_cmp);
        let p50 = percentile(&samples, 50);
        let rate = |amount: f64| if p50 > 0.0 { amount / p50 } else { 0.0 };
        Self {
            benchmark: benchmark.name(),
            case: case.to_owned(),
            subject,
            cores,
            us_p50: p50 / 1e3,
            us_p90: percentile(&samples, 90) / 1e3,
            us_p99: percentile(&samples, 99) / 1e3,
            caller_cpu_us: percentile(&cpu, 50) / 1e3,
            per_second: rate(1e9),
            gigabytes_per_second: rate(bytes as f64),
            samples: samples.len(),
        }
    }
}

/// The value that so many in a hundred do not exceed (nearest rank); 0 of none.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Prints the table.
pub(crate) fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "case",
        "subject",
        "cores",
        "p50 µs",
        "p90 µs",
        "p99 µs",
        "caller CPU µs",
        "per second",
        "GB/s",
    ]);
    for row in rows {
        let bandwidth = match row.gigabytes_per_second {
            0.0 => String::new(),
            rate => format!("{rate:.2}"),
        };
        table.add_row([
            format!("{}: {}", row.benchmark, row.case),
            row.subject.name().to_owned(),
            row.cores.name().to_owned(),
            time(row.us_p50),
            time(row.us_p90),
            time(row.us_p99),
            time(row.caller_cpu_us),
            format!("{:.0}", row.per_second),
            bandwidth,
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// Three digits that matter, more or less.
fn time(us: f64) -> String {
    match us {
        0.0 => String::new(),
        us if us < 10.0 => format!("{us:.3}"),
        us if us < 1000.0 => format!("{us:.1}"),
        us => format!("{us:.0}"),
    }
}

/// Writes the figures.
///
/// # Errors
/// The file's.
pub(crate) fn write_json(file: &Path, rows: &[Row]) -> Result<(), Failure> {
    let file = std::fs::File::create(file)?;
    serde_json::to_writer_pretty(file, &serde_json::json!({ "version": 1, "rows": rows }))?;
    Ok(())
}

/// Writes the figures, a line each under a line of names.
///
/// # Errors
/// The file's.
pub(crate) fn write_csv(file: &Path, rows: &[Row]) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_path(file)?;
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&samples, 50), 100.0);
        assert_eq!(percentile(&samples, 99), 198.0);
        assert_eq!(percentile(&samples[..1], 99), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn a_row_joins_its_rounds() {
        let round = |samples: &[f64], cpu| Round {
            samples_ns: samples.to_vec(),
            caller_cpu_ns: cpu,
        };
        let rounds = [
            round(&[4000.0, 1000.0], 10.0),
            round(&[2000.0], 30.0),
            round(&[9000.0], 20.0),
        ];
        let row = Row::new(
            Benchmark::Copy,
            "c",
            Subject::Unix,
            Placement::One,
            4000,
            &rounds,
        );
        assert_eq!((row.us_p50, row.us_p99, row.samples), (2.0, 9.0, 4));
        assert_eq!((row.caller_cpu_us, row.per_second), (0.02, 500_000.0));
        assert_eq!(row.gigabytes_per_second, 2.0);
    }
}
