//! Warp's own tests, which its wheel holds.

use std::process::Command;
use std::time::Duration;

use tests::{Server, Transport, Way, repository};

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

fn run(kind: &str, transport: Transport, in_one_process: usize) {
    let server = Server::start(transport);
    let modules = SUITE.modules_of(kind);
    let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
    for modules in modules.chunks(in_one_process) {
        SUITE.both_ways(modules, &server.address);
    }
}

#[test]
#[ignore = "needs scripts/clients"]
fn warp_chosen() {
    run("chosen", Transport::Tcp, usize::MAX);
}

#[test]
#[ignore = "needs scripts/clients, and an hour"]
fn warp_others() {
    run("other", Transport::Unix, 1);
}
