//! Tests that other projects wrote for their own use, on the software GPU directly and at a distance.
//!
//! *Rules:* what fails stands in a list of `tests/suites`, with its reason, and what stands there fails. Needs `scripts/suites`, which fetches them from PyPI.

mod cupy;
mod numba_cuda;
mod tinygrad;
mod unittests;
mod warp;

use std::path::PathBuf;

use tests::repository;

/// A file of ours about the suites.
fn own(name: &str) -> PathBuf {
    repository().join("tests/suites").join(name)
}

/// A folder that `scripts/suites` has made.
fn fetched(name: &str) -> PathBuf {
    let suites = repository().join("target/suites");
    assert!(suites.join("stamp").exists(), "run scripts/suites");
    suites.join(name)
}

/// The interpreter with a set of the packages that they test.
fn python(set: &str) -> PathBuf {
    let venv = repository().join("target/venvs").join(set);
    let python = venv.join("bin/python");
    assert!(python.exists(), "run scripts/clients {set}");
    python
}

/// Where CuPy keeps what it has compiled.
fn cupy_cache() -> PathBuf {
    repository().join("target/venvs/caches/cupy")
}

/// The number before ` passed` in pytest's last line.
fn passed(output: &str) -> u32 {
    let words: Vec<&str> = output.lines().last().unwrap_or("").split(' ').collect();
    let place = words.iter().position(|word| word.starts_with("passed"));
    let number = place.and_then(|place| words.get(place.checked_sub(1)?));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
