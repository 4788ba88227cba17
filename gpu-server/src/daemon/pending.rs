//! The connections whose hello is not complete, and which of them goes where there are too many.
//!
//! *Rule:* the place that has the most of them loses its oldest: a flood from one address pushes itself out, and nobody else. An IPv6 address counts
//! by its network of 64 bits, since whoever has one address has all of that. What is dropped is said once a second, with how many there were.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often is said that connections are dropped.
const SAY: Duration = Duration::from_secs(1);

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An IPv4 address, or the network of an IPv6 one.
    Address(u64),
    /// A user of this machine; none: the kernel does not tell.
    User(Option<u32>),
}

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => u32::from(address).into(),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        })
    }
}

/// Something that waits, and can be ended.
pub(super) trait Waiting {
    /// It waits no more.
    fn is_finished(&self) -> bool;
    /// Ends it.
    fn abort(&self);
}

impl Waiting for tokio::task::AbortHandle {
    fn is_finished(&self) -> bool {
        Self::is_finished(self)
    }

    fn abort(&self) {
        Self::abort(self);
    }
}

/// Those that wait, the oldest first.
#[derive(Debug)]
pub(super) struct Pending<W> {
    most: usize,
    waiting: VecDeque<(Source, W)>,
    dropped: u64,
    said: Option<Instant>,
}

impl<W: Waiting> Pending<W> {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            waiting: VecDeque::new(),
            dropped: 0,
            said: None,
        }
    }

    /// Adds one. Where there are too many, another goes; how many went since it was last said, if it is time to say so.
    pub(super) fn add(&mut self, source: Source, waiting: W, now: Instant) -> Option<u64> {
        self.waiting.retain(|(_, other)| !other.is_finished());
        if self.waiting.len() >= self.most {
            self.drop_one();
        }
        self.waiting.push_back((source, waiting));
        let is_time = self.said.is_none_or(|said| now.duration_since(said) >= SAY);
        (self.dropped > 0 && is_time).then(|| {
            self.said = Some(now);
            std::mem::take(&mut self.dropped)
        })
    }

    fn drop_one(&mut self) {
        let mut counts: HashMap<Source, usize> = HashMap::new();
        for (source, _) in &self.waiting {
            *counts.entry(*source).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or(0);
        let is_of_most = |(source, _): &(Source, W)| counts[source] == most;
        if let Some(place) = self.waiting.iter().position(is_of_most)
            && let Some((_, oldest)) = self.waiting.remove(place)
        {
            oldest.abort();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Fake(Rc<Cell<bool>>);

    impl Waiting for Fake {
        fn is_finished(&self) -> bool {
            self.0.get()
        }

        fn abort(&self) {
            self.0.set(true);
        }
    }

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"))
    }

    #[test]
    fn a_flood_pushes_itself_out() {
        let mut pending = Pending::new(8);
        let now = Instant::now();
        let honest = Fake::default();
        pending.add(source("10.0.0.1"), honest.clone(), now);
        let flood: Vec<Fake> = std::iter::repeat_with(Fake::default).take(100).collect();
        for one in &flood {
            pending.add(source("10.0.0.2"), one.clone(), now);
        }
        assert!(!honest.is_finished());
        let alive: Vec<bool> = flood.iter().map(|one| !one.is_finished()).collect();
        assert!(alive[..93].iter().all(|alive| !alive), "the oldest go");
        assert!(alive[93..].iter().all(|alive| *alive), "the newest stay");
    }

    #[test]
    fn among_equals_the_oldest_goes_and_who_is_done_counts_no_more() {
        let mut pending = Pending::new(2);
        let now = Instant::now();
        let all: Vec<Fake> = std::iter::repeat_with(Fake::default).take(4).collect();
        for (number, one) in (1..).zip(&all[..3]) {
            pending.add(source(&format!("10.0.0.{number}")), one.clone(), now);
        }
        let finished = |index: usize| all[index].is_finished();
        assert!(finished(0) && !finished(1) && !finished(2));
        all[1].abort();
        pending.add(source("10.0.0.1"), all[3].clone(), now);
        assert!(!finished(2) && !finished(3));
    }

    #[test]
    fn it_is_said_once_a_second() {
        let mut pending = Pending::new(1);
        let begin = Instant::now();
        let mut add = |ms| {
            let now = begin + Duration::from_millis(ms);
            pending.add(Source::User(None), Fake::default(), now)
        };
        assert_eq!(add(0), None, "nothing was dropped");
        assert_eq!(add(1), Some(1));
        assert_eq!(add(2), None);
        assert_eq!(add(3), None);
        assert_eq!(add(1001), Some(3));
    }

    #[test]
    fn a_network_of_ipv6_is_one_place() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }
}
