//! Each target for a fixed number of runs from a fixed seed: the same inputs every time, without coverage.
//!
//! What it finds was always there: the input is in the folder that the failure names.

use std::process::Command;

/// Of the random numbers; another one looks elsewhere.
const SEED: u32 = 1;

fn smoke(name: &str, runs: u32) {
    let target = fuzz::find(name).expect("a target");
    let corpus = tempfile::tempdir().expect("a folder");
    let artifacts = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .env(fuzz::TARGET_VARIABLE, name)
        .env(fuzz::SEEDS_VARIABLE, corpus.path())
        .arg(format!("-runs={runs}"))
        .arg(format!("-seed={SEED}"))
        .arg(format!("-max_len={}", target.max_bytes))
        .arg(format!("-artifact_prefix={}/", artifacts.path().display()))
        // Without coverage nothing else would keep a seed.
        .args([
            "-keep_seed=1",
            "-len_control=0",
            "-timeout=60",
            "-rss_limit_mb=4096",
        ])
        .args(["-print_final_stats=1", "-verbosity=1"])
        .arg(corpus.path())
        .output()
        .expect("libFuzzer");
    let log = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = log.lines().rev().take(60).collect();
    if !output.status.success() {
        let kept = artifacts.keep();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        panic!(
            "{name}, seed {SEED}: {}\n{tail}\nthe input is in {}",
            output.status,
            kept.display()
        );
    }
    let done = tail
        .iter()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let done: u32 = done
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0);
    assert!(done >= runs, "{name}: only {done} of {runs} runs");
}

macro_rules! smoke {
    ($($name:ident $runs:literal)*) => {
        $(#[test] fn $name() { smoke(stringify!($name), $runs); })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert_eq!(run, fuzz::TARGETS.map(|target| target.name));
        }
    };
}

smoke! {
    hello 100000
    address 200000
    settings 50000
    frames 50000
    records 100000
    requests 50000
    worker 2000
    image 20000
    elf 50000
    ptx 40000
    stats 2000
    graph 100000
    token 50000
}
