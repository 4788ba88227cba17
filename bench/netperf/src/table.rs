//! What a run says: a table for people, JSON and comma-separated values for programs.

use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::Failure;
use crate::cases::Case;
use crate::figures::{Figures, bandwidth, time};
use crate::plot::Chart;

/// The figures of one case over one transport.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// The transport, as it was asked for.
    pub transport: String,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Bytes that an operation moves.
    pub bytes: usize,
    /// Microseconds for an operation: half were faster.
    pub us_p50: f64,
    /// Nine in ten were.
    pub us_p90: f64,
    /// 99 in a hundred were.
    pub us_p99: f64,
    /// Operations in a second, by the median.
    pub per_second: f64,
    /// Gigabytes (10^9) in a second, by the median; 0 where no bytes are moved.
    pub gigabytes_per_second: f64,
    /// How many samples there are.
    pub samples: usize,
}

impl Row {
    /// Of a case's figures.
    #[must_use]
    pub fn new(case: &Case, transport: &str, figures: &Figures) -> Self {
        Self {
            case: case.name.clone(),
            transport: transport.to_owned(),
            sessions: case.sessions,
            bytes: case.bytes,
            us_p50: figures.us_p50,
            us_p90: figures.us_p90,
            us_p99: figures.us_p99,
            per_second: figures.per_second,
            gigabytes_per_second: figures.gigabytes_per_second,
            samples: figures.samples,
        }
    }
}

/// The table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let headers = [
        "CASE",
        "TRANSPORT",
        "P50 µs",
        "P90 µs",
        "P99 µs",
        "PER SECOND",
        "GB/s",
    ];
    let cells = |row: &Row| {
        [
            row.case.clone(),
            row.transport.clone(),
            time(row.us_p50),
            time(row.us_p90),
            time(row.us_p99),
            format!("{:.0}", row.per_second),
            bandwidth(row.gigabytes_per_second),
        ]
    };
    lines(headers, 2, rows.iter().map(cells))
}

/// A table without frames, whose first columns are words and the others numbers.
#[must_use]
pub fn lines<const N: usize>(
    headers: [&str; N],
    words: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headers);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Writes the figures as JSON.
///
/// # Errors
/// The writer's.
pub fn write_json(mut writer: impl Write, rows: &[impl Serialize]) -> Result<(), Failure> {
    let value = serde_json::json!({ "version": 1, "rows": rows });
    serde_json::to_writer_pretty(&mut writer, &value)?;
    Ok(writeln!(writer)?)
}

/// Writes the figures, a line each under a line of names.
///
/// # Errors
/// The file's.
pub fn write_csv(file: &Path, rows: &[impl Serialize]) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_path(file)?;
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}

/// Bandwidth by size: a chart for each direction, a line for each transport and kind of memory.
#[must_use]
pub fn charts(measured: &[(Case, String, Figures)]) -> Vec<Chart> {
    let mut charts = Vec::new();
    for (to_device, caption) in [(true, "to the device"), (false, "from the device")] {
        let mut chart = Chart {
            caption: format!("{caption}: GB/s by MiB"),
            lines: Vec::new(),
        };
        for (case, transport, figures) in measured {
            if case.bytes == 0 || case.sessions > 1 || case.to_device != to_device {
                continue;
            }
            let kind = if case.is_pinned { "pinned" } else { "pageable" };
            let name = format!("{transport}, {kind}");
            let point = (
                case.bytes as f64 / f64::from(1 << 20),
                figures.gigabytes_per_second,
            );
            match chart.lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => chart.lines.push((name, vec![point])),
            }
        }
        charts.push(chart);
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::cases;
    use crate::round::Round;

    fn figures(us: f64, bytes: usize) -> Figures {
        let round = Round {
            samples_ns: vec![us * 1e3],
            caller_cpu_ns: 0.0,
        };
        Figures::of(&[round], bytes)
    }

    #[test]
    fn rows_are_told_in_three_ways() {
        let cases = cases(true, 4 << 10, 1);
        let rows: Vec<Row> = cases
            .iter()
            .map(|case| Row::new(case, "tcp", &figures(12.5, case.bytes)))
            .collect();
        let text = table(&rows);
        assert!(
            text.contains("asked call") && text.contains("12.5"),
            "{text}"
        );
        let mut bytes = Vec::new();
        write_json(&mut bytes, &rows).expect("written");
        let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(value["rows"].as_array().map(Vec::len), Some(rows.len()));
        assert_eq!(value["rows"][0]["us_p50"], 12.5);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("figures.csv");
        write_csv(&file, &rows).expect("written");
        let text = std::fs::read_to_string(file).expect("a file");
        assert_eq!(text.lines().count(), rows.len() + 1);
        assert!(text.starts_with("case,transport,sessions,bytes,"), "{text}");
    }

    #[test]
    fn a_line_for_each_transport_and_kind_of_memory() {
        let measured: Vec<_> = cases(true, 1 << 20, 4)
            .into_iter()
            .flat_map(|case| {
                let figures = figures(10.0, case.bytes);
                ["tcp", "rdma"].map(|transport| (case.clone(), transport.to_owned(), figures))
            })
            .collect();
        let charts = charts(&measured);
        assert_eq!(charts.len(), 2);
        for chart in charts {
            let names: Vec<&str> = chart.lines.iter().map(|(name, _)| name.as_str()).collect();
            let expected = [
                "tcp, pageable",
                "rdma, pageable",
                "tcp, pinned",
                "rdma, pinned",
            ];
            assert_eq!(names, expected);
            assert!(chart.lines.iter().all(|(_, points)| points.len() == 3));
        }
    }
}
