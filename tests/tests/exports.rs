//! What the two libraries export, and what their functions answer to whoever calls them with nothing.

use std::collections::{BTreeMap, BTreeSet};

use driver_api_generator::model::{Disposition, Row};
use object::{Object, ObjectSymbol};
use tests::{Outcome, Server, Transport, Way, program, release, repository, run};

/// `CUDA_ERROR_NOT_SUPPORTED`.
const NOT_SUPPORTED: &str = "801";
/// The libraries, each with the one name of ours that it exports besides.
const LIBRARIES: [(&str, &str); 2] = [
    // By which a server recognises that it has been given our library for a driver.
    ("guest/libcuda.so.1", "gpurun_shim_mark"),
    // How those who do not use the software GPU learn how it is used.
    ("soft/libcuda.so.1", "gpurun_soft_gpu_usage"),
];

fn rows() -> Vec<Row> {
    let directory = repository().join("driver-api/spec");
    driver_api_generator::read_specification(&directory)
        .expect("it built")
        .rows
}

fn refused(row: &Row) -> bool {
    row.is_exported() && matches!(row.disposition, Disposition::Refused(_))
}

fn names(row: &Row) -> impl Iterator<Item = String> {
    [Some(row.name.clone()), row.twin_name()]
        .into_iter()
        .flatten()
}

fn symbols_of(library: &str) -> BTreeSet<String> {
    let bytes = std::fs::read(release(library)).expect("scripts/build has made it");
    let file = object::File::parse(&*bytes).expect("a library");
    let defined = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition());
    defined
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect()
}

#[test]
fn exactly_the_drivers_names_are_exported() {
    let table: BTreeSet<String> = rows()
        .iter()
        .filter(|row| row.is_exported())
        .flat_map(names)
        .collect();
    for (library, ours) in LIBRARIES {
        let mut exported = symbols_of(library);
        assert!(exported.remove(ours), "{library} has no {ours}");
        let missing: Vec<&String> = table.difference(&exported).collect();
        let extra: Vec<&String> = exported.difference(&table).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{library}: missing {missing:?}, too many {extra:?}"
        );
    }
}

/// What each function answered, both times.
fn answers(outcome: &Outcome) -> BTreeMap<&str, [&str; 2]> {
    outcome
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, [words.next()?, words.next()?]))
        })
        .collect()
}

#[test]
fn what_is_refused_says_so_once() {
    let rows = rows();
    let refused: Vec<&Row> = rows.iter().filter(|row| refused(row)).collect();
    let called: Vec<String> = refused.iter().copied().flat_map(names).collect();
    // Nobody is asked: the address is never connected to.
    let way = Way::Preload("tcp://127.0.0.1:1".to_owned());
    let mut command = way.command(&program("driver", "zeroed"));
    command.args(&called);
    let outcome = run(command);
    assert!(
        outcome.status.success(),
        "{}: {}",
        outcome.status,
        outcome.stderr
    );
    let answers = answers(&outcome);
    for name in &called {
        let expected = Some(&[NOT_SUPPORTED, NOT_SUPPORTED]);
        assert_eq!(answers.get(name.as_str()), expected, "{name}");
    }
    let mut lines: Vec<&str> = outcome.stderr.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = refused
        .iter()
        .map(|row| match &row.disposition {
            Disposition::Refused(reason) => {
                format!("gpurun: {} is not supported: {reason}", row.name)
            }
            _ => unreachable!("filtered"),
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

/// No function trusts its arguments: with nothing it ends, and where something must be pointed to it says what is wrong.
#[test]
fn what_is_served_survives_zeros() {
    let rows = rows();
    let served: Vec<&Row> = rows.iter().filter(|row| row.is_served()).collect();
    let server = Server::start(Transport::Unix);
    let way = Way::Preload(server.address.clone());
    for context in [false, true] {
        let mut command = way.command(&program("driver", "zeroed"));
        command.args(context.then_some("--context"));
        command.args(served.iter().map(|row| &row.name));
        let outcome = run(command);
        assert!(
            outcome.status.success(),
            "{}: {}",
            outcome.status,
            outcome.stderr
        );
        let answers = answers(&outcome);
        for row in &served {
            let Some(results) = answers.get(row.name.as_str()) else {
                panic!("{} was not called", row.name);
            };
            let required = row
                .parameters
                .iter()
                .any(|parameter| parameter.is_required());
            assert!(
                !required || !results.contains(&"0"),
                "{} (context: {context}): {results:?}",
                row.name
            );
        }
    }
}
