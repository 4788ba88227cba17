//! What runs in which order: placement by placement, round by round, case by case, and the subjects in turn.

use std::collections::BTreeMap;

use crate::client::{Round, Work};
use crate::host::{Artefacts, Client, Host, Subject};
use crate::place::{self, Placement};
use crate::report::Row;
use crate::{Failure, Options, alloc, call, copy, launch, startup};

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Call,
    Launch,
    Copy,
    Alloc,
    Startup,
}

impl Benchmark {
    pub(crate) const ALL: [Self; 5] = [
        Self::Call,
        Self::Launch,
        Self::Copy,
        Self::Alloc,
        Self::Startup,
    ];

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Launch => "launch",
            Self::Copy => "copy",
            Self::Alloc => "alloc",
            Self::Startup => "startup",
        }
    }

    fn cases(self, is_quick: bool) -> Vec<Case> {
        match self {
            Self::Call => call::cases(is_quick),
            Self::Launch => launch::cases(is_quick),
            Self::Copy => copy::cases(is_quick),
            Self::Alloc => alloc::cases(is_quick),
            Self::Startup => Vec::new(),
        }
    }
}

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What a driver's client does.
    pub(crate) work: Work,
    /// What a bare socket does beside it.
    pub(crate) floor: Option<Work>,
    /// Bytes that an operation moves, for the bandwidth.
    pub(crate) bytes: usize,
    /// Whether an end spins without ever giving its core away: that is measured on two cores only.
    pub(crate) spins: bool,
}

impl Case {
    fn work_of(&self, subject: Subject) -> Option<&Work> {
        if subject.is_raw() {
            self.floor.as_ref()
        } else {
            Some(&self.work)
        }
    }
}

/// Runs benchmarks on every placement that is asked for.
///
/// # Errors
/// Something cannot be started, or fails.
pub(crate) fn run(options: &Options, benchmarks: &[Benchmark]) -> Result<Vec<Row>, Failure> {
    let artefacts = Artefacts::find(options.artefacts.as_deref())?;
    let allowed = place::allowed()?;
    let mut rows = Vec::new();
    for placement in &options.place {
        placement.pin(&allowed)?;
        let host = Host::start(&artefacts)?;
        for benchmark in benchmarks {
            rows.extend(match benchmark {
                Benchmark::Startup => startup::run(options, &host, &artefacts, *placement)?,
                _ => run_cases(options, *benchmark, &host, &artefacts, *placement)?,
            });
        }
    }
    Ok(rows)
}

fn run_cases(
    options: &Options,
    benchmark: Benchmark,
    host: &Host,
    artefacts: &Artefacts,
    placement: Placement,
) -> Result<Vec<Row>, Failure> {
    let mut cases = benchmark.cases(options.quick);
    cases.retain(|case| case.name.contains(&options.case));
    cases.retain(|case| placement == Placement::Two || !case.spins);
    let mut clients = BTreeMap::new();
    for subject in Subject::MEASURED {
        clients.insert(subject, Client::start(host, artefacts, subject)?);
    }
    let rounds = if options.quick {
        1
    } else {
        options.rounds.max(1)
    };
    let mut measured: BTreeMap<(usize, Subject), Vec<Round>> = BTreeMap::new();
    for _ in 0..rounds {
        for (place, case) in cases.iter().enumerate() {
            for (subject, client) in &mut clients {
                if let Some(work) = case.work_of(*subject) {
                    let round = client.run(work)?;
                    measured.entry((place, *subject)).or_default().push(round);
                }
            }
        }
    }
    Ok(measured
        .into_iter()
        .map(|((place, subject), rounds)| {
            let case = &cases[place];
            Row::new(
                benchmark, &case.name, subject, placement, case.bytes, &rounds,
            )
        })
        .collect())
}
