//! What several servers said, and what follows: no socket, no clock.
//!
//! Rules: whoever is not there is passed over and said, if somebody else is there; it is over when everybody has failed. Where all refuse because they
//! have too few devices, one sentence names the largest of them.

use std::fmt;
use std::time::Duration;

use control_plane::Queued;

use crate::exit::{Failure, NO_SERVER, REFUSED, WAIT_OVER};
use crate::pool::PoolError;
use crate::text;

/// How we stand with a server.
#[derive(Debug)]
pub(super) enum Standing {
    /// Asked, and nothing heard.
    Asked,
    /// In its queue.
    Queued(Queued),
    /// Was in its queue, and it is away; why.
    Away(String),
    /// It gives nothing.
    Failed(PoolError),
}

/// What we wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    /// Where we stand.
    pub(super) place: String,
    /// Why, and what could be had at once.
    pub(super) why: String,
}

impl fmt::Display for Words {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why.as_str() {
            "" => out.write_str(&self.place),
            why => write!(out, "{}; {why}", self.place),
        }
    }
}

/// How we stand with all of them.
#[derive(Debug)]
pub(super) struct Race {
    /// Names and standings.
    servers: Vec<(String, Standing)>,
    /// Of which servers was said that they are passed over.
    said: Vec<usize>,
}

impl Race {
    pub(super) fn new(names: Vec<String>) -> Self {
        let asked = |name| (name, Standing::Asked);
        Self {
            servers: names.into_iter().map(asked).collect(),
            said: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, place: usize, standing: Standing) {
        if let Some((_, there)) = self.servers.get_mut(place) {
            *there = standing;
        }
    }

    /// Whether everybody has said something.
    pub(super) fn all_answered(&self) -> bool {
        let is_asked = |(_, standing): &(String, Standing)| matches!(standing, Standing::Asked);
        !self.servers.iter().any(is_asked)
    }

    fn failed(&self) -> impl Iterator<Item = (usize, &PoolError)> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(place, (_, standing))| match standing {
            Standing::Failed(error) => Some((place, error)),
            Standing::Asked | Standing::Queued(_) | Standing::Away(_) => None,
        })
    }

    /// What is to be said of servers that are passed over, each once.
    pub(super) fn passed_over(&mut self) -> Vec<String> {
        let is_somebody_there = self
            .servers
            .iter()
            .any(|(_, standing)| matches!(standing, Standing::Queued(_)));
        if !is_somebody_there {
            return Vec::new();
        }
        let new: Vec<(usize, String)> = self
            .failed()
            .filter(|(place, _)| !self.said.contains(place))
            .map(|(place, error)| (place, error.to_string()))
            .collect();
        self.said.extend(new.iter().map(|(place, _)| *place));
        new.into_iter().map(|(_, line)| line).collect()
    }

    /// Why there will be no lease, if so.
    pub(super) fn failure(&self) -> Option<Failure> {
        let errors: Vec<&PoolError> = self.failed().map(|(_, error)| error).collect();
        if errors.len() < self.servers.len() {
            return None;
        }
        let refusals = errors.iter().filter(|error| error.is_refusal());
        if let Some(sentence) = merge(refusals.copied()) {
            let absent = errors.iter().filter(|error| !error.is_refusal());
            let lines = absent.map(ToString::to_string).chain([sentence]);
            let lines: Vec<String> = lines.collect();
            return Some(Failure::new(REFUSED, lines.join("\ngpurun: ")));
        }
        let statuses: Vec<u8> = errors.iter().map(|error| error.status()).collect();
        let status = match statuses.contains(&REFUSED) {
            true => REFUSED,
            false => statuses.last().copied().unwrap_or(NO_SERVER),
        };
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Some(Failure::new(status, lines.join("\ngpurun: ")))
    }

    /// The queue in which we stand best: its server and our place.
    fn best(&self) -> Option<(&str, &Queued)> {
        let queued = self
            .servers
            .iter()
            .filter_map(|(name, standing)| match standing {
                Standing::Queued(place) => Some((name.as_str(), place)),
                Standing::Asked | Standing::Away(_) | Standing::Failed(_) => None,
            });
        queued.min_by_key(|(_, place)| place.position)
    }

    /// What we wait for; nothing if we stand in no queue.
    pub(super) fn words(&self) -> Option<Words> {
        let Some((name, place)) = self.best() else {
            let away = self
                .servers
                .iter()
                .find_map(|(_, standing)| match standing {
                    Standing::Away(reason) => Some(reason),
                    Standing::Asked | Standing::Queued(_) | Standing::Failed(_) => None,
                });
            let why = "trying again".to_owned();
            return away.map(|reason| Words {
                place: reason.clone(),
                why,
            });
        };
        let is_queued =
            |(_, standing): &&(String, Standing)| matches!(standing, Standing::Queued(_));
        let others = self.servers.iter().filter(is_queued).count() - 1;
        let mut words = format!("place {} of {} at {name}", place.position, place.length);
        if others > 0 {
            words.push_str(&format!(" (and in {})", text::count(others, "other queue")));
        }
        let mut why = text::clean(&place.reason);
        if !place.fits_now.is_empty() {
            let separator = if why.is_empty() { "" } else { "; " };
            why.push_str(&format!(
                "{separator}free now: {}",
                text::clean(&place.fits_now)
            ));
        }
        Some(Words { place: words, why })
    }

    /// The time of waiting is over.
    pub(super) fn wait_over(&self, waited: Duration) -> Failure {
        let waited = match waited.as_secs() {
            0 => "nothing is free at once".to_owned(),
            _ => format!("nothing was free in {}", text::duration(waited)),
        };
        let message = match self.words() {
            Some(place) => format!("{waited}: {place}"),
            None => waited,
        };
        Failure::new(WAIT_OVER, message)
    }
}

/// Nobody said anything, and all have ended: a task of ours failed.
pub(super) fn unheard() -> Failure {
    Failure::internal("no server was heard", "its task ended")
}

/// A server's sentence that it has too few devices.
#[derive(Debug, PartialEq, Eq)]
struct TooFew {
    /// `no server has 3 devices with device.name=T4`
    what: String,
    host: String,
    largest: u64,
}

/// Reads the sentence, as `gpu-server/src/pool/decision.rs` writes it.
fn too_few(message: &str) -> Option<TooFew> {
    let (what, host, largest) = match message.rsplit_once("; largest: ") {
        Some((what, largest)) => {
            let (host, largest) = largest.rsplit_once(" with ")?;
            (what, host, largest.parse().ok()?)
        }
        None => {
            let (what, host) = message.strip_suffix(" has none")?.rsplit_once("; ")?;
            (what, host, 0)
        }
    };
    what.starts_with("no server has ").then(|| TooFew {
        what: what.to_owned(),
        host: host.to_owned(),
        largest,
    })
}

/// One sentence where all refusals are that of too few devices: the one of the server that has most.
fn merge<'a>(refusals: impl Iterator<Item = &'a PoolError>) -> Option<String> {
    let read = refusals.map(|error| match error {
        PoolError::Refused { message, .. } => too_few(message),
        _ => None,
    });
    let read: Vec<TooFew> = read.collect::<Option<_>>()?;
    let most = read.iter().rev().max_by_key(|one| one.largest)?;
    let hosts: Vec<&str> = read.iter().map(|one| one.host.as_str()).collect();
    let TooFew {
        what,
        host,
        largest,
    } = most;
    Some(match (largest, hosts.len()) {
        (0, 1) => format!("{what}; {host} has none"),
        (0, _) => format!("{what}; {} have none", hosts.join(", ")),
        _ => format!("{what}; largest: {host} with {largest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::connect::ConnectError;
    use tonic::Code;

    fn refused(message: &str) -> Standing {
        Standing::Failed(PoolError::Refused {
            server: "s".to_owned(),
            code: Code::ResourceExhausted,
            message: message.to_owned(),
        })
    }

    fn absent(host: &str) -> Standing {
        let error = ConnectError::Unreachable {
            address: host.parse().expect("an address"),
            reason: "connection refused".to_owned(),
        };
        Standing::Failed(error.into())
    }

    fn queued(position: u32, reason: &str, fits_now: &str) -> Standing {
        Standing::Queued(Queued {
            position,
            length: 3,
            reason: reason.to_owned(),
            fits_now: fits_now.to_owned(),
        })
    }

    fn race(standings: Vec<Standing>) -> Race {
        let names = ('a'..).take(standings.len()).map(String::from).collect();
        let mut race = Race::new(names);
        for (place, standing) in standings.into_iter().enumerate() {
            race.note(place, standing);
        }
        race
    }

    fn failure(standings: Vec<Standing>) -> (u8, String) {
        let failure = race(standings).failure().expect("a failure");
        (failure.status(), failure.to_string())
    }

    #[test]
    fn the_largest_of_all_servers_is_named() {
        let one = "no server has 3 devices; largest: x with 1";
        let other = "no server has 3 devices; largest: y with 2";
        assert_eq!(
            failure(vec![refused(one), refused(other)]),
            (REFUSED, other.to_owned())
        );
        assert_eq!(
            failure(vec![refused(other), refused(one)]),
            (REFUSED, other.to_owned())
        );
        assert_eq!(failure(vec![refused(one)]), (REFUSED, one.to_owned()));
        let (status, text) = failure(vec![absent("z"), refused(one)]);
        assert_eq!(status, REFUSED);
        assert!(text.starts_with("cannot reach tcp://z:7370"), "{text}");
        assert!(text.ends_with(one), "{text}");
    }

    #[test]
    fn no_server_has_such_a_device() {
        let none = |host: &str| {
            refused(&format!(
                "no server has a device with device.name=A; {host} has none"
            ))
        };
        assert_eq!(
            failure(vec![none("x"), none("y")]).1,
            "no server has a device with device.name=A; x, y have none"
        );
        assert_eq!(
            failure(vec![none("x")]).1,
            "no server has a device with device.name=A; x has none"
        );
    }

    #[test]
    fn other_refusals_are_each_told() {
        let few = "no server has 3 devices; largest: x with 1";
        let (status, text) = failure(vec![refused(few), refused("draining")]);
        assert_eq!(status, REFUSED);
        assert_eq!(
            text,
            format!("s refused: {few}\ngpurun: s refused: draining")
        );
        assert_eq!(failure(vec![absent("a"), absent("b")]).0, NO_SERVER);
    }

    #[test]
    fn it_is_not_over_while_somebody_may_grant() {
        assert!(
            race(vec![refused("x"), Standing::Asked])
                .failure()
                .is_none()
        );
        let one = race(vec![refused("x"), queued(1, "", "")]);
        assert!(one.failure().is_none() && one.all_answered());
        assert!(!race(vec![Standing::Asked]).all_answered());
    }

    #[test]
    fn who_is_not_there_is_said_once_if_somebody_is() {
        let mut one = race(vec![absent("a"), Standing::Asked]);
        assert!(one.passed_over().is_empty());
        one.note(1, queued(1, "", ""));
        assert_eq!(one.passed_over().len(), 1);
        assert!(one.passed_over().is_empty());
    }

    #[test]
    fn the_best_place_is_shown() {
        let one = race(vec![
            queued(3, "x", ""),
            queued(2, "all devices are taken", "1 device with 2 GiB"),
        ]);
        assert_eq!(
            one.words().expect("words").to_string(),
            "place 2 of 3 at b (and in 1 other queue); all devices are taken; free now: 1 device with 2 GiB"
        );
        let over = one.wait_over(Duration::from_secs(5));
        assert_eq!(over.status(), WAIT_OVER);
        assert!(
            over.to_string()
                .starts_with("nothing was free in 5s: place 2 of 3 at b"),
            "{over}"
        );
        let away = race(vec![Standing::Away("lost it".to_owned())]);
        assert_eq!(
            away.words().expect("words").to_string(),
            "lost it; trying again"
        );
    }

    #[test]
    fn what_is_no_such_sentence_is_not_read_as_one() {
        for text in [
            "",
            "largest: x with 2",
            "no server has 3 devices; largest: x",
            "nothing is free; x has none",
        ] {
            assert_eq!(too_few(text), None, "{text}");
        }
    }
}
