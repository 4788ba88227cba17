//! numba-cuda's own tests, which its wheel holds.

use std::collections::BTreeMap;

use tests::{Server, Transport, Way, run};

use super::{cupy_cache, fetched, own, python};

/// So many of the chosen modules end in time also on a busy machine.
const IN_ONE_PROCESS: usize = 14;

/// What a process says once, when it first links; a test that may be the first wants nothing on standard error.
const WITHOUT_LINKER: &str = "ignore:cuda.bindings.nvjitlink is not available:RuntimeWarning";

/// How each test has ended: `passed`, `skipped`, or `failed` with what it said.
type Results = BTreeMap<String, String>;

/// Two columns of a file, with empty lines and comments left out.
fn columns(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(own(name)).expect("a list");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let columns = lines.filter_map(|line| line.split_once(' '));
    columns
        .map(|(first, second)| (first.to_owned(), second.trim().to_owned()))
        .collect()
}

/// Runs modules of the suite in one process.
fn results_of(way: &Way, modules: &[&str]) -> Results {
    let results = tempfile::NamedTempFile::new().expect("a file");
    let mut command = way.command(&python());
    let path =
        std::env::join_paths([own("site"), fetched("numba-cuda")]).expect("folders without colons");
    command
        .arg(own("run_numba_cuda.py"))
        .arg(results.path())
        .args(modules)
        .env("PYTHONPATH", path)
        .env("PYTHONWARNINGS", WITHOUT_LINKER)
        .env("CUPY_COMPILE_WITH_PTX", "1")
        .env("CUPY_CACHE_DIR", cupy_cache());
    let outcome = run(command);
    let text = std::fs::read_to_string(results.path()).expect("results");
    assert!(
        outcome.status.success() && text.ends_with("end\n"),
        "{modules:?} ({way:?}): {}\n{text}\n{}",
        outcome.status,
        outcome.stderr
    );
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    lines
        .filter_map(|(outcome, rest)| {
            let (test, why) = rest.split_once('\t')?;
            let ended = match outcome {
                "failed" => format!("failed: {why}"),
                other => other.to_owned(),
            };
            Some((test.to_owned(), ended))
        })
        .collect()
}

/// Tests that are expected to fail this way, and why.
fn expected(way: &Way) -> BTreeMap<String, String> {
    let is_direct = matches!(way, Way::Direct);
    let lines = columns("numba_cuda.expected").into_iter();
    lines
        .filter(|(_, why)| is_direct || !why.starts_with("directly: "))
        .collect()
}

/// Fails on what is not expected: a failure, and a success of what was expected to fail.
fn assert_as_expected(way: &Way, modules: &[&str], results: &Results) {
    let what = match modules {
        [module] => format!("{module} ({way:?})"),
        _ => format!("{} modules ({way:?})", modules.len()),
    };
    let expected = expected(way);
    let is_of_module = |test: &str, module: &str| {
        let rest = test.strip_prefix(module);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    for module in modules {
        let runs = |(test, ended): (&String, &String)| {
            is_of_module(test, module) && (ended == "passed" || expected.contains_key(test))
        };
        assert!(results.iter().any(runs), "{what}: nothing of {module} runs");
    }
    let new: Vec<_> = results
        .iter()
        .filter(|(test, ended)| ended.starts_with("failed") && !expected.contains_key(*test))
        .collect();
    assert!(new.is_empty(), "{what}: not expected to fail: {new:#?}");
    let gone: Vec<_> = expected
        .keys()
        .filter(|test| modules.iter().any(|module| is_of_module(test, module)))
        .filter(|test| {
            !results
                .get(*test)
                .is_some_and(|ended| ended.starts_with("failed"))
        })
        .collect();
    assert!(
        gone.is_empty(),
        "{what}: expected to fail, and does not: {gone:#?}"
    );
    let count = |outcome: &str| {
        results
            .values()
            .filter(|ended| ended.starts_with(outcome))
            .count()
    };
    println!(
        "{what}: {} passed, {} failed as expected, {} skipped",
        count("passed"),
        count("failed"),
        count("skipped")
    );
}

/// Directly, and at a distance over a transport. The launcher, since tests start processes, which share its lease.
fn both_ways(modules: &[&str], server: &Server) {
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        let results = results_of(&way, modules);
        assert_as_expected(&way, modules, &results);
    }
}

fn modules_of(kind: &str) -> Vec<String> {
    let lines = columns("numba_cuda.modules").into_iter();
    let modules = lines.filter_map(|(of, module)| (of == kind).then_some(module));
    modules.collect()
}

#[test]
#[ignore = "needs scripts/suites"]
fn numba_cuda_chosen() {
    let server = Server::start(Transport::Tcp);
    let modules = modules_of("chosen");
    let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
    for modules in modules.chunks(IN_ONE_PROCESS) {
        both_ways(modules, &server);
    }
}

#[test]
#[ignore = "needs scripts/suites, and many minutes"]
fn numba_cuda_others() {
    let server = Server::start(Transport::Unix);
    for module in modules_of("other") {
        both_ways(&[&module], &server);
    }
}
