//! Bandwidth by size, drawn: a line for each transport and its floor, for each direction.

use std::collections::BTreeMap;
use std::path::Path;

use netperf::plot::{self, Chart};

use crate::Failure;
use crate::host::Subject;
use crate::report::Row;

/// Draws the copies of pageable memory by one session.
///
/// # Errors
/// The file's.
pub(crate) fn write(file: &Path, rows: &[Row]) -> Result<(), Failure> {
    let chart = |direction: &str| Chart {
        caption: format!("{direction}, pageable: GB/s by MiB"),
        lines: lines(direction, rows)
            .into_iter()
            .map(|(subject, points)| (subject.name().to_owned(), points))
            .collect(),
    };
    plot::write(file, &["to device", "from device"].map(chart))
}

/// Points of MiB and GB/s, in the order of sizes.
fn lines(direction: &str, rows: &[Row]) -> BTreeMap<Subject, Vec<(f64, f64)>> {
    let mut lines: BTreeMap<Subject, Vec<(f64, f64)>> = BTreeMap::new();
    let wanted = format!("{direction}, pageable, ");
    for row in rows {
        let size = row.case.strip_prefix(&wanted).and_then(mebibytes);
        if let Some(size) = size.filter(|_| row.gigabytes_per_second > 0.0) {
            let line = lines.entry(row.subject).or_default();
            line.push((size, row.gigabytes_per_second));
        }
    }
    for line in lines.values_mut() {
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

/// `64 KiB` and the like; nothing for a case with more behind it.
fn mebibytes(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    match unit {
        "KiB" => Some(number / 1024.0),
        "MiB" => Some(number),
        "GiB" => Some(number * 1024.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Placement;
    use crate::plan::Benchmark;
    use netperf::round::Round;

    #[test]
    fn a_chart_has_a_line_for_each_subject() {
        let row = |case: &str, subject, us: f64| {
            let round = Round {
                samples_ns: vec![us * 1e3],
                caller_cpu_ns: 0.0,
            };
            Row::new(
                Benchmark::Fabric,
                case,
                subject,
                Placement::Two,
                1 << 20,
                &[round],
            )
        };
        let rows = [
            row("to device, pageable, 4 KiB", Subject::Tcp, 10.0),
            row("to device, pageable, 1 MiB", Subject::Tcp, 100.0),
            row(
                "to device, pageable, 1 MiB, 4 sessions",
                Subject::Tcp,
                100.0,
            ),
            row("to device, pageable, 4 KiB", Subject::Rdma, 5.0),
            row("to device, pageable, 1 MiB", Subject::Rdma, 50.0),
        ];
        let found = lines("to device", &rows);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&Subject::Tcp].len(), 2);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("plot.svg");
        write(&file, &rows).expect("drawn");
        let text = std::fs::read_to_string(file).expect("a file");
        assert!(text.contains("<svg") && text.contains("rdma") && text.contains("to device"));
    }
}
