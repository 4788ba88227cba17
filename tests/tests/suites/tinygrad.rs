//! Those of tinygrad's own tests that its source package has, by its own renderer: arithmetic, matrices, random numbers, captured steps, networks.

use std::process::Command;

use tests::{Server, Transport, Way, repository, run};

use super::{fetched, passed};

/// Two compute on the processor, with `clang`; two more are about images, and skip themselves.
const CHOSEN: &str = "not test_const and not test_eye";
const PASSED: u32 = 17;

fn tiny(way: &Way) -> Command {
    let python = repository().join("target/tools/python/bin/python");
    let mut command = way.command(&python);
    command
        .current_dir(fetched("tinygrad"))
        .args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short"])
        .args(["--timeout=60", "-k", CHOSEN, "test_tiny.py"])
        .env("PYTHONPATH", fetched("runner"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("DEV", "CUDA:PTX")
        .env("CACHELEVEL", "0")
        .env("PARALLEL", "0");
    command
}

#[test]
#[ignore = "needs scripts/suites"]
fn tinygrad_tests_itself_directly_and_at_a_distance() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        let outcome = run(tiny(&way));
        assert!(
            outcome.status.success() && passed(&outcome.stdout) == PASSED,
            "{way:?}: {}\n{}\n{}",
            outcome.status,
            outcome.stdout,
            outcome.stderr
        );
    }
}
