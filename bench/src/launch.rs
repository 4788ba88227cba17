//! `bench launch`: what a launch costs its caller, and how many there are in a second.
//!
//! A *burst* is what an inference step looks like: a few launches, then a wait; only the launches are timed, 64 together, so that the clock
//! does not count. *Sustained* is many launches with the wait for the last in the time: what the whole road can take.

use netperf::driver::PARAMETERS;
use netperf::launch::Launches;
use netperf::process::Work;

use crate::plan::Case;

/// The cases.
pub(crate) fn cases(is_quick: bool) -> Vec<Case> {
    let case = |name: String, launches| Case::new(&name, Work::Launch(launches));
    let mut cases = Vec::new();
    for parameters in PARAMETERS {
        let name = format!("burst, {parameters} parameters");
        let count = if is_quick { 2 } else { 100 };
        cases.push(case(
            name,
            Launches {
                parameters,
                threads: 1,
                count,
                is_burst: true,
            },
        ));
    }
    for (parameters, threads) in [(4, 1), (16, 1), (4, 2), (4, 4)] {
        let name = format!("sustained, {parameters} parameters, {threads} threads");
        let count = if is_quick { 200 } else { 100_000 / threads };
        cases.push(case(
            name,
            Launches {
                parameters,
                threads,
                count,
                is_burst: false,
            },
        ));
    }
    cases
}
