//! What a run counted, as text.

use std::cmp::Reverse;
use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use protocol::hello::DeviceKind;
use protocol::stats::Report;

/// A kind of device as people read it.
pub(crate) const fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Nvidia => "NVIDIA",
        DeviceKind::Software => "SOFTWARE",
        DeviceKind::Unspecified => "UNKNOWN",
    }
}

/// A table by function, the most called first, and the summary.
pub(crate) fn text(report: &Report, wall: Duration) -> String {
    let mut text = String::new();
    if !report.functions.is_empty() {
        let _ = writeln!(text, "{}", table(report));
    }
    let (local, posted, asked) = report.totals();
    if report.device.is_empty() {
        text.push_str("device: none was used\n");
    } else {
        let kind = kind_name(report.device_kind);
        let _ = writeln!(text, "device: {} ({kind})", report.device);
        let _ = writeln!(text, "transport: {}", report.transport);
    }
    let _ = writeln!(text, "calls: local {local}, posted {posted}, asked {asked}");
    let _ = writeln!(
        text,
        "bytes: to the server {}, from the server {}",
        report.sent_bytes, report.received_bytes
    );
    let _ = writeln!(
        text,
        "waited: {:.3} s of {:.3} s wall",
        report.waited.as_secs_f64(),
        wall.as_secs_f64()
    );
    text
}

fn table(report: &Report) -> Table {
    let mut functions: Vec<_> = report.functions.iter().collect();
    functions.sort_by_key(|function| (Reverse(function.calls()), &function.name));
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["function", "local", "posted", "asked", "waited ms"]);
    for function in functions {
        table.add_row([
            function.name.clone(),
            function.local.to_string(),
            function.posted.to_string(),
            function.asked.to_string(),
            format!("{:.3}", function.waited.as_secs_f64() * 1e3),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::stats::FunctionReport;

    #[test]
    fn the_summary_and_the_table() {
        let function = |name: &str, posted, asked| FunctionReport {
            name: name.to_owned(),
            posted,
            asked,
            ..FunctionReport::default()
        };
        let report = Report {
            device: "Tesla T4".to_owned(),
            device_kind: DeviceKind::Nvidia,
            transport: "tcp".to_owned(),
            sent_bytes: 10,
            received_bytes: 7,
            waited: Duration::from_millis(1500),
            functions: vec![function("cuInit", 0, 1), function("cuLaunchKernel", 9, 2)],
        };
        let text = text(&report, Duration::from_secs(3));
        let summary = "device: Tesla T4 (NVIDIA)\ntransport: tcp\ncalls: local 0, posted 9, asked 3\n\
            bytes: to the server 10, from the server 7\nwaited: 1.500 s of 3.000 s wall\n";
        assert!(text.ends_with(summary), "{text}");
        let place = |name| text.find(name).expect(name);
        assert!(place("cuLaunchKernel") < place("cuInit"), "{text}");
    }

    #[test]
    fn a_program_that_used_no_device() {
        let text = text(&Report::default(), Duration::ZERO);
        assert!(
            text.starts_with("device: none was used\ncalls: local 0"),
            "{text}"
        );
    }
}
