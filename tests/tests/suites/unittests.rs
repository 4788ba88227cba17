//! Suites of Python's `unittest` that are a part of the package that they test.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use tests::{Server, Transport, Way, run_within};

use super::own;

/// A suite.
pub(crate) struct Suite {
    /// The package of its modules.
    pub(crate) package: &'static str,
    /// The files of `tests/suites` about it: `NAME.modules` says which modules run, `NAME.expected` which tests fail, and why.
    pub(crate) name: &'static str,
    /// The interpreter, with what the suite needs around it.
    pub(crate) python: fn(&Way) -> Command,
    /// Most time for modules that run in one process.
    pub(crate) limit: Duration,
}

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

impl Suite {
    /// Runs the modules of an occasion, so many in each process.
    pub(crate) fn run(&self, kind: &str, transport: Transport, in_one_process: usize) {
        let server = Server::start(transport);
        let modules = self.modules_of(kind);
        let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
        for modules in modules.chunks(in_one_process) {
            self.both_ways(modules, &server.address);
        }
    }

    /// The modules that run on this occasion.
    fn modules_of(&self, kind: &str) -> Vec<String> {
        let lines = columns(&format!("{}.modules", self.name)).into_iter();
        let modules = lines.filter_map(|(of, module)| (of == kind).then_some(module));
        modules.collect()
    }

    /// Directly on the software GPU, and at a distance by the launcher, since tests start processes, which share its lease.
    fn both_ways(&self, modules: &[&str], server: &str) {
        for way in [Way::Direct, Way::Gpurun(server.to_owned())] {
            let results = self.results_of(&way, modules);
            self.assert_as_expected(&way, modules, &results);
        }
    }

    /// Runs modules of the suite in one process.
    fn results_of(&self, way: &Way, modules: &[&str]) -> Results {
        let results = tempfile::NamedTempFile::new().expect("a file");
        let mut command = (self.python)(way);
        command
            .arg(own("run_unittests.py"))
            .arg(results.path())
            .arg(self.package)
            .args(modules);
        let outcome = run_within(command, self.limit);
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
    fn expected(&self, way: &Way) -> BTreeMap<String, String> {
        let is_direct = matches!(way, Way::Direct);
        let lines = columns(&format!("{}.expected", self.name)).into_iter();
        lines
            .filter(|(_, why)| is_direct || !why.starts_with("directly: "))
            .collect()
    }

    /// Fails on what is not expected: a failure, and a success of what was expected to fail.
    fn assert_as_expected(&self, way: &Way, modules: &[&str], results: &Results) {
        let what = match modules {
            [module] => format!("{module} ({way:?})"),
            _ => format!("{} modules ({way:?})", modules.len()),
        };
        let expected = self.expected(way);
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
}
