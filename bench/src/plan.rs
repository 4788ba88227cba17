//! What runs in which order: placement by placement, round by round, case by case, and the subjects in turn.

use std::collections::BTreeMap;

use netperf::process::{self, Process, Work};
use netperf::round::Round;

use crate::floor::Floor;
use crate::host::{Artefacts, Host, Subject};
use crate::perftest::Perftest;
use crate::place::{self, Placement};
use crate::report::Row;
use crate::{Failure, Options, aims, alloc, call, copy, fabric, launch, startup};

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Call,
    Launch,
    Copy,
    Alloc,
    Startup,
    Fabric,
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
            Self::Fabric => "fabric",
        }
    }

    fn cases(self, options: &Options) -> Vec<Case> {
        let is_quick = options.quick;
        match self {
            Self::Call => call::cases(is_quick),
            Self::Launch => launch::cases(is_quick),
            Self::Copy => copy::cases(is_quick),
            Self::Alloc => alloc::cases(is_quick),
            Self::Startup => Vec::new(),
            Self::Fabric => fabric::cases(is_quick, options.most_bytes()),
        }
    }
}

/// One thing to measure.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What a driver's client does.
    pub(crate) work: Work,
    /// What a bare socket does beside it.
    pub(crate) floor: Option<Floor>,
    /// What perftest does beside it.
    pub(crate) perftest: Option<Perftest>,
    /// How many sessions do it at the same time.
    pub(crate) sessions: usize,
    /// Bytes that an operation moves, for the bandwidth.
    pub(crate) bytes: usize,
    /// Whether an end spins without ever giving its core away: that is measured on two cores only.
    pub(crate) spins: bool,
}

impl Case {
    /// A case that stands for itself: no floor, one session, no bytes.
    pub(crate) fn new(name: &str, work: Work) -> Self {
        Self {
            name: name.to_owned(),
            work,
            floor: None,
            perftest: None,
            sessions: 1,
            bytes: 0,
            spins: false,
        }
    }

    /// One round on a subject by its processes; nothing if there is nothing for it to do.
    fn measure(
        &self,
        subject: Subject,
        processes: &mut [Process],
    ) -> Result<Option<Round>, Failure> {
        let answer = match (subject.is_raw(), &self.floor) {
            // Cases of several sessions have no floor, and a bare socket has one process.
            (true, None) => return Ok(None),
            (true, Some(floor)) => process::all(&mut processes[..1], floor)?,
            (false, _) => process::all(&mut processes[..self.sessions], &self.work)?,
        };
        let round = answer.map_err(|error| format!("{}: {error}", subject.name()))?;
        Ok(Some(round))
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
        let host = Host::start(&artefacts, options.link)?;
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
    let mut cases = benchmark.cases(options);
    cases.retain(|case| case.name.contains(&options.case));
    cases.retain(|case| placement == Placement::Two || !case.spins);
    cases.retain(|case| !options.aimed || aims::is_named(benchmark, &case.name));
    let sessions = cases.iter().map(|case| case.sessions).max().unwrap_or(1);
    let mut clients = BTreeMap::new();
    let mut subjects = host.subjects(benchmark);
    subjects.retain(|subject| !options.aimed || aims::compares(benchmark, *subject));
    for subject in subjects {
        let several = if subject.is_raw() { 1 } else { sessions };
        let start = |_| Process::start(subject.name(), &mut host.client(artefacts, subject)?);
        let started: Result<Vec<Process>, Failure> = (0..several).map(start).collect();
        clients.insert(subject, started?);
    }
    let rounds = if options.quick {
        1
    } else {
        options.rounds.max(1)
    };
    let mut measured: BTreeMap<(usize, Subject), Vec<Round>> = BTreeMap::new();
    for _ in 0..rounds {
        for (place, case) in cases.iter().enumerate() {
            for (subject, processes) in &mut clients {
                if let Some(round) = case.measure(*subject, processes)? {
                    measured.entry((place, *subject)).or_default().push(round);
                }
            }
            if let (Some(perftest), Some(port)) = (&case.perftest, host.rdma_port()) {
                let round = perftest.run(port, case.bytes)?;
                let key = (place, Subject::Perftest);
                measured.entry(key).or_default().push(round);
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
