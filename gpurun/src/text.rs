//! Words, numbers and tables for people.
//!
//! Rules: what others said is shown without control characters; a table has no frames, so that its columns can be cut out; what is not known
//! is a dash.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, SystemTime};

use comfy_table::{CellAlignment, Table, presets};
use protocol::hello::Identity;

/// Says something to the user, beside what the program writes. Where nobody reads it, it is lost.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "gpurun: {line}");
}

/// Writes what was asked for. Where nobody reads on (`| head`), the rest is lost.
pub(crate) fn print(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What is not known.
pub(crate) const UNKNOWN: &str = "-";

/// A text of somebody else's, as far as a terminal should see it.
pub(crate) fn clean(text: &str) -> String {
    let shown = |letter: char| {
        if letter.is_control() {
            '\u{FFFD}'
        } else {
            letter
        }
    };
    text.chars().map(shown).collect()
}

/// A text, or a dash for none.
pub(crate) fn or_dash(text: &str) -> String {
    match text {
        "" => UNKNOWN.to_owned(),
        text => clean(text),
    }
}

/// An empty table.
pub(crate) fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headers.iter().copied());
    table
}

/// Puts these columns to the right.
pub(crate) fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Bytes in MiB, rounded down.
pub(crate) fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

/// A part of one, with as many digits as it needs and at most three.
pub(crate) fn part(fraction: f64) -> String {
    let text = format!("{fraction:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A part of one in percent.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.0}%", fraction * 100.0)
}

/// A moment; 0 is none.
pub(crate) fn moment(unix_ms: u64) -> String {
    let time = Duration::from_millis(unix_ms);
    match SystemTime::UNIX_EPOCH.checked_add(time) {
        // Later than that humantime has no words.
        Some(time) if (1..253_402_300_800_000).contains(&unix_ms) => {
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => UNKNOWN.to_owned(),
    }
}

/// How long ago a moment was, to the second; 0 is no moment.
pub(crate) fn ago(unix_ms: u64, now: SystemTime) -> String {
    if unix_ms == 0 {
        return UNKNOWN.to_owned();
    }
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let passed = now.saturating_sub(Duration::from_millis(unix_ms));
    duration(passed)
}

/// A time, to the second.
pub(crate) fn duration(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// `ann@laptop`.
pub(crate) fn person(identity: Option<&Identity>) -> String {
    let Some(identity) = identity else {
        return UNKNOWN.to_owned();
    };
    clean(&format!("{}@{}", identity.user, identity.host))
}

/// A CUDA version: 13010 is 13.1.
pub(crate) fn cuda_version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// `1 device`, `2 devices`.
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(part(0.25), "0.25");
        assert_eq!(part(1.0), "1");
        assert_eq!(part(0.0), "0");
        assert_eq!(percent(0.333), "33%");
        assert_eq!(mib(3 << 20), "3");
        assert_eq!(cuda_version(12080), "12.8");
        assert_eq!(count(1, "device"), "1 device");
        assert_eq!(count(2, "device"), "2 devices");
    }

    #[test]
    fn moments_and_times() {
        assert_eq!(moment(0), UNKNOWN);
        assert_eq!(moment(u64::MAX), UNKNOWN);
        assert_eq!(moment(1_000_000_000_000), "2001-09-09T01:46:40Z");
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(61_500);
        assert_eq!(ago(1_000, now), "1m");
        assert_eq!(ago(90_000, now), "0s");
        assert_eq!(ago(0, now), UNKNOWN);
    }

    #[test]
    fn nobody_moves_the_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\u{FFFD}[2Jb\u{FFFD}");
        assert_eq!(or_dash(""), UNKNOWN);
    }
}
