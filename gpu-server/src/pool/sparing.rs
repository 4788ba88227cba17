//! How much is written down of what anybody can cause: so much of each source, and then how much more there was.
//!
//! *Why:* a refusal costs whoever is refused nothing, and each is a line on the disk. *Rules:* a source has `EACH` lines in `SPAN`, and is told of in
//! one line at its end if there were more; there are never more than `MOST` sources, and all others are one. Pure: who asks brings the time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Moment;

/// Lines of one source in a span.
const EACH: u32 = 20;

/// After how long each may write again.
const SPAN: Duration = Duration::from_secs(60);

/// Most sources that are told apart in a span.
const MOST: usize = 256;

/// What those are called that are not told apart.
const OTHERS: &str = "others";

/// Counts lines by their source.
#[derive(Debug, Default)]
pub struct Sparing {
    begun: Option<Moment>,
    lines: BTreeMap<String, u32>,
}

impl Sparing {
    /// Whether one more line of this source is written.
    pub fn admits(&mut self, source: &str, now: Moment) -> bool {
        self.begun.get_or_insert(now);
        let is_known = self.lines.contains_key(source) || self.lines.len() < MOST;
        let source = if is_known { source } else { OTHERS };
        let lines = self.lines.entry(source.to_owned()).or_default();
        *lines = lines.saturating_add(1);
        *lines <= EACH
    }

    /// Once a span is over: the sources of which lines were left out, and how many.
    pub fn left_out(&mut self, now: Moment) -> Vec<(String, u32)> {
        let is_over = self.begun.is_some_and(|begun| now.since(begun) >= SPAN);
        if !is_over {
            return Vec::new();
        }
        self.begun = None;
        let lines = std::mem::take(&mut self.lines).into_iter();
        lines
            .filter(|(_, lines)| *lines > EACH)
            .map(|(source, lines)| (source, lines - EACH))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_hides_nobody_else() {
        let mut sparing = Sparing::default();
        let begin = Moment(1000);
        let written = (0..500).filter(|_| sparing.admits("10.0.0.9", begin));
        assert_eq!(written.count(), 20);
        assert!(sparing.admits("10.0.0.7", begin));
        assert!(sparing.left_out(begin).is_empty(), "the span is not over");
        let end = begin + SPAN;
        assert_eq!(sparing.left_out(end), [("10.0.0.9".to_owned(), 480)]);
        assert!(sparing.admits("10.0.0.9", end), "another span");
        assert!(sparing.left_out(end + SPAN).is_empty());
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_room() {
        let mut sparing = Sparing::default();
        let now = Moment(0);
        let sources = (0..10_000).map(|number| format!("[fd00::{number:x}]"));
        let written = sources.filter(|source| sparing.admits(source, now)).count();
        assert_eq!(written, MOST + 20);
        assert!(sparing.lines.len() <= MOST + 1);
        let left_out = sparing.left_out(now + SPAN);
        assert_eq!(left_out, [(OTHERS.to_owned(), 10_000 - MOST as u32 - 20)]);
    }
}
