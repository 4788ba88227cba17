//! The driver's log as a program can read it: lines, the newest kept, read from a place on.
//!
//! Both sides have one: the client of what went wrong in the program, the software GPU of what its device warned of. *Rules:* what is kept is
//! bounded; a place is a count of lines, so it stays good; a reader that comes too late is told so.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most bytes that are kept: what the driver's reference says.
pub const MOST_BYTES: usize = 25_600;

/// Most bytes of one line.
const LONGEST_LINE: usize = MOST_BYTES / 4;
/// Stands before what is left of more.
const TRUNCATED: &str = "[older lines of this log are lost]";

/// `CU_LOG_LEVEL_ERROR`.
pub const ERROR: u32 = 0;
/// `CU_LOG_LEVEL_WARNING`.
pub const WARNING: u32 = 1;

/// A line in the form that CUDA's programming guide gives: time, thread, source, severity, text.
#[must_use]
pub fn line(level: u32, thread: i32, text: Arguments<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let milliseconds = now.map_or(0, |time| time.as_millis());
    let seconds = milliseconds / 1000 % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let letter = match level {
        ERROR => 'E',
        _ => 'W',
    };
    format!(
        "[{hours:02}:{minutes:02}:{:02}.{:03}][{thread}][CUDA][{letter}] {text}",
        seconds % 60,
        milliseconds % 1000
    )
}

/// What a line says without what stands before it in brackets.
#[must_use]
pub fn message(line: &str) -> &str {
    let mut rest = line;
    while let Some((_, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        rest = behind;
    }
    rest.trim_start()
}

/// How a line begins that only says what a call came to.
pub const RETURNING: &str = "Returning ";

/// Whether an error of this function is told: what is asked of the library itself, such as names that it may not know, goes wrong every day.
#[must_use]
pub fn is_told(function: &str) -> bool {
    !function.starts_with("cuGet")
}

/// The lines.
#[derive(Debug, Default)]
pub struct ErrorLog {
    lines: VecDeque<String>,
    bytes: usize,
    /// How many lines there ever were: the place of the next one.
    ever: u32,
}

impl ErrorLog {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            ever: 0,
        }
    }

    /// Adds a line; a line break in it becomes a blank.
    pub fn keep(&mut self, line: &str) {
        // A line may hold a whole text of the program's: it must not push out all others, and itself.
        let line = line[..line.floor_char_boundary(LONGEST_LINE)].replace('\n', " ");
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        self.ever = self.ever.wrapping_add(1);
        while self.bytes > MOST_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len() + 1;
        }
    }

    /// The place behind the last line.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.ever
    }

    /// The lines from a place on, or all, oldest first, as far as they are kept; and whether that is not all of them.
    fn since(&self, place: Option<u32>) -> (impl DoubleEndedIterator<Item = &str>, bool) {
        let wanted = match place {
            Some(place) => self.ever.wrapping_sub(place) as usize,
            None => self.ever as usize,
        };
        let first = self.lines.len().saturating_sub(wanted);
        let lines = self.lines.iter().skip(first).map(String::as_str);
        (lines, wanted > self.lines.len())
    }

    /// The text from a place on, or all: a line each.
    #[must_use]
    pub fn text(&self, place: Option<u32>) -> String {
        let (lines, is_truncated) = self.since(place);
        let note = is_truncated.then_some(TRUNCATED);
        note.into_iter().chain(lines).fold(String::new(), with_line)
    }

    /// The newest lines of that text that fit, with a note if those are not all; `None` if there are some and none fits.
    #[must_use]
    pub fn newest(&self, place: Option<u32>, room: usize) -> Option<String> {
        let all = self.text(place);
        if all.len() <= room {
            return Some(all);
        }
        let mut left = room.checked_sub(TRUNCATED.len() + 1)?;
        let (lines, _) = self.since(place);
        let mut fitting: Vec<&str> = lines
            .rev()
            .take_while(|line| {
                let fits = line.len() < left;
                left = left.saturating_sub(line.len() + 1);
                fits
            })
            .collect();
        if fitting.is_empty() {
            return None;
        }
        fitting.push(TRUNCATED);
        Some(fitting.into_iter().rev().fold(String::new(), with_line))
    }
}

fn with_line(mut text: String, line: &str) -> String {
    text.push_str(line);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> ErrorLog {
        let mut log = ErrorLog::new();
        lines.iter().for_each(|line| log.keep(line));
        log
    }

    #[test]
    fn a_line_has_its_message() {
        let text = line(ERROR, 7, format_args!("a [b] c"));
        assert!(text.contains("][7][CUDA][E] a [b] c"), "{text}");
        assert_eq!(message(&text), "a [b] c");
        assert_eq!(message("plain"), "plain");
    }

    #[test]
    fn a_place_tells_what_comes_after_it() {
        let mut log = of(&["one"]);
        let place = log.end();
        assert_eq!(log.text(Some(place)), "");
        log.keep("two\nand a half");
        assert_eq!(log.text(Some(place)), "two and a half\n");
        assert_eq!(log.text(None), "one\ntwo and a half\n");
    }

    #[test]
    fn the_newest_whole_lines_fit() {
        let long = "x".repeat(40);
        let log = of(&[&long, "two", "three"]);
        assert_eq!(log.newest(None, 100).as_deref(), Some(&*log.text(None)));
        let note = TRUNCATED.len() + 1;
        let two = format!("{TRUNCATED}\ntwo\nthree\n");
        assert_eq!(log.newest(None, note + 10), Some(two));
        let one = format!("{TRUNCATED}\nthree\n");
        assert_eq!(log.newest(None, note + 9), Some(one));
        assert_eq!(log.newest(None, note + 5), None);
        assert_eq!(log.newest(None, 0), None);
        assert_eq!(log.newest(Some(log.end()), 0).as_deref(), Some(""));
    }

    #[test]
    fn what_is_lost_is_told() {
        let mut log = ErrorLog::new();
        let line = "y".repeat(999);
        (0..30).for_each(|_| log.keep(&line));
        let text = log.text(None);
        assert!(text.starts_with(TRUNCATED), "{text}");
        assert_eq!(text.len(), TRUNCATED.len() + 1 + 25_000);
        // A line that alone is too long is cut, and leaves others there.
        log.keep(&"ä".repeat(MOST_BYTES));
        let text = log.text(None);
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(last, "ä".repeat(LONGEST_LINE / 2));
        assert!(text.lines().nth(1).is_some_and(|other| other == line));
    }
}
