//! Warp's own tests, which its wheel holds.

use std::process::Command;
use std::time::Duration;

use tests::{Transport, Way, repository};

use super::python;
use super::unittests::Suite;

const SUITE: Suite = Suite {
    package: "warp.tests",
    name: "warp",
    python: interpreter,
    // With nothing compiled yet a module of many kernels takes minutes of NVIDIA's compiler.
    limit: Duration::from_secs(900),
};

fn interpreter(way: &Way) -> Command {
    let mut command = way.command(&python("languages"));
    // Where the two ways share what is compiled.
    let cache = repository().join("target/venvs/caches/warp");
    command.env("WARP_CACHE_PATH", cache);
    command
}

#[test]
#[ignore = "needs scripts/clients"]
fn warp_chosen() {
    SUITE.run("chosen", Transport::Tcp, usize::MAX);
}

#[test]
#[ignore = "needs scripts/clients, and an hour"]
fn warp_others() {
    SUITE.run("other", Transport::Unix, 1);
}
