//! What a person sees of the waiting: a spinner on a terminal, else a line now and then.
//!
//! Rules: nothing is shown of a wait of less than a second; without a terminal a line comes when there is something new to say, and not more often than
//! each ten seconds; what is written stays out of standard output.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::race::Race;
use crate::text;

/// What is over sooner needs no words.
const PATIENCE: Duration = Duration::from_secs(1);

/// The least time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Where the waiting is shown.
#[derive(Default)]
pub(super) struct Screen {
    spinner: Option<ProgressBar>,
    lines: Lines,
}

impl Screen {
    /// Shows what is waited for.
    pub(super) fn show(&mut self, now: Instant, begin: Instant, race: &Race) {
        let waited = now.duration_since(begin);
        if waited < PATIENCE {
            return;
        }
        let Some(words) = race.words() else {
            return;
        };
        if std::io::stderr().is_terminal() {
            let spinner = self.spinner.get_or_insert_with(spinner);
            spinner.set_prefix(format!("{}: {}", text::duration(waited), words.place));
            spinner.set_message(words.why);
            spinner.tick();
        } else if let Some(line) = self.lines.next(now, words.to_string()) {
            text::say(format_args!("waiting: {line}"));
        }
    }

    /// Says something beside it.
    pub(super) fn say(&self, line: &str) {
        let say = || text::say(line);
        match &self.spinner {
            Some(spinner) => spinner.suspend(say),
            None => say(),
        }
    }

    /// Takes the spinner away.
    pub(super) fn clear(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} gpurun: waiting {prefix}\n  {wide_msg}");
    // The template is a constant, and right.
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Which lines are worth writing.
#[derive(Default)]
struct Lines(Option<(Instant, String)>);

impl Lines {
    /// The line, if it is to be written now.
    fn next(&mut self, now: Instant, words: String) -> Option<String> {
        let is_due = match &self.0 {
            None => true,
            Some((at, last)) => *last != words && now.duration_since(*at) >= PAUSE,
        };
        if !is_due {
            return None;
        }
        self.0 = Some((now, words.clone()));
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_when_they_are_new_and_not_too_often() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut lines = Lines::default();
        let mut next = |seconds, words: &str| lines.next(after(seconds), words.to_owned());
        assert_eq!(next(0, "one").as_deref(), Some("one"));
        assert_eq!(next(1, "two"), None);
        assert_eq!(next(9, "three"), None);
        assert_eq!(next(10, "three").as_deref(), Some("three"));
        assert_eq!(next(60, "three"), None);
        assert_eq!(next(61, "four").as_deref(), Some("four"));
    }
}
