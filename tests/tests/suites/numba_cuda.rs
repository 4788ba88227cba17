//! numba-cuda's own tests, which its wheel holds.

use std::process::Command;

use tests::{PROGRAM_LIMIT, Transport, Way};

use super::unittests::Suite;
use super::{cupy_cache, fetched, own, python};

/// So many of the chosen modules end in time also on a busy machine.
const IN_ONE_PROCESS: usize = 14;

/// What a process says once, when it first links; a test that may be the first wants nothing on standard error.
const WITHOUT_LINKER: &str = "ignore:cuda.bindings.nvjitlink is not available:RuntimeWarning";

const SUITE: Suite = Suite {
    package: "numba.cuda.tests",
    name: "numba_cuda",
    python: interpreter,
    limit: PROGRAM_LIMIT,
};

fn interpreter(way: &Way) -> Command {
    let mut command = way.command(&python("arrays"));
    let path =
        std::env::join_paths([own("site"), fetched("numba-cuda")]).expect("folders without colons");
    command
        .env("PYTHONPATH", path)
        .env("PYTHONWARNINGS", WITHOUT_LINKER)
        .env("CUPY_COMPILE_WITH_PTX", "1")
        .env("CUPY_CACHE_DIR", cupy_cache());
    command
}

#[test]
#[ignore = "needs scripts/suites"]
fn numba_cuda_chosen() {
    SUITE.run("chosen", Transport::Tcp, IN_ONE_PROCESS);
}

#[test]
#[ignore = "needs scripts/suites, and many minutes"]
fn numba_cuda_others() {
    SUITE.run("other", Transport::Unix, 1);
}
