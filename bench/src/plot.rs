//! Bandwidth by size, drawn: a line for each transport and its floor, for each direction.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::prelude::*;

use crate::Failure;
use crate::host::Subject;
use crate::report::Row;

/// Width and height of a chart.
const SIZE: (u32, u32) = (760, 420);

const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
    RGBColor(23, 190, 207),
];

/// Draws the copies of pageable memory by one session.
///
/// # Errors
/// The file's.
pub(crate) fn write(file: &Path, rows: &[Row]) -> Result<(), Failure> {
    let area = SVGBackend::new(file, (SIZE.0, SIZE.1 * 2)).into_drawing_area();
    area.fill(&WHITE)?;
    let halves = area.split_evenly((2, 1));
    for (half, direction) in halves.iter().zip(["to device", "from device"]) {
        draw(half, direction, rows)?;
    }
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, direction: &str, rows: &[Row]) -> Result<(), Failure> {
    let lines = lines(direction, rows);
    let points = || lines.values().flatten();
    let sizes = points().map(|point| point.0);
    let (least, most) = sizes.fold((f64::MAX, 1.0_f64), |(least, most), size| {
        (least.min(size), most.max(size))
    });
    let highest = points().map(|point| point.1).fold(0.001, f64::max);
    if least >= most {
        return Ok(());
    }
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("{direction}, pageable: GB/s by MiB"),
            ("sans-serif", 16),
        )
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d((least..most).log_scale(), 0.0..highest * 1.1)?;
    chart.configure_mesh().draw()?;
    for ((subject, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(subject.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
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
    use crate::client::Round;
    use crate::place::Placement;
    use crate::plan::Benchmark;

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
