//! Bandwidth by size, drawn: a chart for each direction, a line for each transport.

use std::path::Path;

use plotters::prelude::*;

use crate::Failure;

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

/// A chart: points of MiB and GB/s.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// What stands above it.
    pub caption: String,
    /// A name, and points in the order of sizes.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws charts under each other (SVG).
///
/// # Errors
/// The file's.
pub fn write(file: &Path, charts: &[Chart]) -> Result<(), Failure> {
    let rows = charts.len().max(1);
    let height = SIZE.1 * u32::try_from(rows)?;
    let area = SVGBackend::new(file, (SIZE.0, height)).into_drawing_area();
    area.fill(&WHITE)?;
    for (part, chart) in area.split_evenly((rows, 1)).iter().zip(charts) {
        draw(part, chart)?;
    }
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, chart: &Chart) -> Result<(), Failure> {
    let points = || chart.lines.iter().flat_map(|(_, points)| points);
    let sizes = points().map(|point| point.0);
    let (least, most) = sizes.fold((f64::MAX, f64::MIN), |(least, most), size| {
        (least.min(size), most.max(size))
    });
    let highest = points().map(|point| point.1).fold(0.001, f64::max);
    if least >= most {
        return Ok(());
    }
    let mut context = ChartBuilder::on(area)
        .caption(&chart.caption, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d((least..most).log_scale(), 0.0..highest * 1.1)?;
    context.configure_mesh().draw()?;
    for ((name, points), colour) in chart.lines.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        context
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("plot.svg");
        let chart = |caption: &str| Chart {
            caption: caption.to_owned(),
            lines: vec![
                ("rdma".to_owned(), vec![(0.004, 0.1), (1.0, 2.0)]),
                ("tcp".to_owned(), vec![(0.004, 0.1), (1.0, 1.0)]),
            ],
        };
        let empty = Chart::default();
        write(&file, &[chart("to the device"), chart("from it"), empty]).expect("drawn");
        let text = std::fs::read_to_string(file).expect("a file");
        for part in ["<svg", "rdma", "tcp", "to the device", "from it"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
