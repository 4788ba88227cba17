//! `docs/COVERAGE.md`: how each function of the driver is answered, and why not or by which test that is known.

use std::fmt::Write;

use crate::model::{Disposition, Row, Specification};

const HEAD: &str = "# Coverage of the CUDA driver API

Written from `driver-api/spec` by `GPURUN_BLESS=1 cargo test -p driver-api --test coverage`; do not edit.

Every function that a driver exports or a header of the toolkits 11.8 to 13 declares has a line. *local* is answered without the
server, *posted* is sent without waiting, *asked* waits for a reply, *refused* answers `CUDA_ERROR_NOT_SUPPORTED` with one line in the
log. A function that is served names the program of `tests/programs` that fails if the function merely returned success: the tests
run each program once for each of its functions with that function replaced so. A suffix in parentheses is the twin whose default
stream is the thread's own; it is answered alike.
";

/// The whole document.
pub(crate) fn document(specification: &Specification) -> String {
    let mut rows: Vec<&Row> = specification
        .rows
        .iter()
        .filter(|row| !row.private)
        .collect();
    rows.sort_by_key(|row| &row.name);
    let lines: String = rows.iter().map(|row| line(row)).collect();
    format!(
        "{HEAD}\n{}\n\n| function | area | answer | reason or test |\n|---|---|---|---|\n{lines}",
        counts(&rows)
    )
}

fn answer(row: &Row) -> &'static str {
    match row.disposition {
        Disposition::Local => "local",
        Disposition::Posted => "posted",
        Disposition::Asked => "asked",
        Disposition::Refused(_) => "refused",
    }
}

fn counts(rows: &[&Row]) -> String {
    let exported = rows.iter().filter(|row| row.is_exported()).count();
    let twins = rows.iter().filter(|row| row.twin.is_some()).count();
    let mut text = format!(
        "{} functions ({} exported names, {twins} of them twins):",
        rows.len(),
        exported + twins
    );
    for wanted in ["local", "posted", "asked", "refused"] {
        let count = rows.iter().filter(|row| answer(row) == wanted).count();
        let end = if wanted == "refused" { '.' } else { ',' };
        // Writing to a string cannot fail.
        let _ = write!(text, " {count} {wanted}{end}");
    }
    text
}

fn line(row: &Row) -> String {
    let twin = row
        .twin
        .as_ref()
        .map_or_else(String::new, |twin| format!(" (`_{}`)", twin.suffix));
    let why = match (&row.disposition, &row.test) {
        (Disposition::Refused(reason), _) if row.elsewhere => {
            format!("{reason}; not exported on this platform")
        }
        (Disposition::Refused(reason), _) => reason.clone(),
        (_, Some(test)) => format!("`{test}`"),
        (_, None) => String::new(),
    };
    format!(
        "| `{}`{twin} | {} | {} | {why} |\n",
        row.name,
        row.area,
        answer(row)
    )
}
