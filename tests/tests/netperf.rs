//! `gpurun netperf` against a real server: what it measures, and where it writes it. How fast anything is, no test looks at.

use std::process::Command;

use serde_json::Value;
use tests::{LIVENESS_LIMIT, Outcome, Server, Transport, release, run};

/// Copies up to so many MiB.
fn netperf_up_to(most: &str, words: &[&str]) -> Command {
    let mut command = Command::new(release("gpurun"));
    for variable in ["GPURUN_SERVER", "GPURUN_LEASE", "LD_PRELOAD", "GPURUN_LOG"] {
        command.env_remove(variable);
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command
        .arg("netperf")
        .args(["--quick", "--most", most])
        .args(words);
    command
}

fn netperf(words: &[&str]) -> Command {
    netperf_up_to("1", words)
}

fn rows(outcome: &Outcome) -> Vec<Value> {
    assert!(outcome.status.success(), "{outcome:?}");
    let value: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    value["rows"].as_array().expect("rows").clone()
}

#[test]
fn every_case_is_measured_over_tcp_and_written_where_it_is_wanted() {
    let server = Server::start(Transport::Tcp);
    let folder = tempfile::tempdir().expect("a folder");
    let (csv, plot) = (folder.path().join("f.csv"), folder.path().join("f.svg"));
    let mut command = netperf(&["--server", &server.address, "--sessions", "2", "--json"]);
    command.arg("--csv").arg(&csv).arg("--plot").arg(&plot);
    let rows = rows(&run(command));
    let named = |name: &str| {
        let mut rows = rows.iter();
        rows.find(|row| row["case"] == name)
            .unwrap_or_else(|| panic!("no '{name}'"))
    };
    for name in [
        "asked call",
        "launch + synchronise",
        "launches, in a row",
        "to device, pageable, 1 MiB",
        "from device, pinned, 4 KiB",
    ] {
        assert!(named(name)["us_p50"].as_f64().expect("a number") > 0.0);
    }
    assert_eq!(named("to device, pinned, 1 MiB, 2 sessions")["sessions"], 2);
    assert!(named("to device, pageable, 1 MiB")["gigabytes_per_second"].as_f64() > Some(0.0));
    let text = std::fs::read_to_string(csv).expect("a file");
    assert_eq!(text.lines().count(), rows.len() + 1);
    let text = std::fs::read_to_string(plot).expect("a file");
    assert!(text.contains("<svg") && text.contains("to the device"));
    // Its lease and its sessions went with it.
    tests::processes::eventually(LIVENESS_LIMIT, "sessions are left", || {
        server.workers() == 0
    });
}

#[test]
fn a_table_says_it_and_the_network_beside_it() {
    let server = Server::start(Transport::Tcp);
    let outcome = run(netperf(&[
        "--server",
        &server.address,
        "--sessions",
        "1",
        "--transports",
        "tcp,auto",
    ]));
    assert!(outcome.status.success(), "{outcome:?}");
    for part in [
        "CASE",
        "asked call",
        " tcp ",
        " auto ",
        "the network to tcp://",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
}

#[test]
fn what_does_not_fit_is_left_out() {
    let server = Server::start_with(Transport::Unix, &[("GPURUN_SOFT_MEMORY", "64MiB")]);
    let words = ["--server", &server.address, "--sessions", "1", "--json"];
    let outcome = run(netperf_up_to("256", &words));
    let rows = rows(&outcome);
    assert!(
        rows.iter()
            .any(|row| row["case"] == "to device, pinned, 16 MiB")
    );
    assert!(
        !rows
            .iter()
            .any(|row| row["case"] == "to device, pinned, 256 MiB")
    );
    let said = "left out: to device, pageable, 256 MiB over ";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
}

#[test]
fn mistakes_are_named() {
    let outcome = run(netperf(&["--transports", "pigeon"]));
    assert_eq!(outcome.status.code(), Some(2));
    assert!(outcome.stderr.contains("'pigeon' is no transport"));
    let outcome = run(netperf(&["--server", "127.0.0.1:9", "--no-wait"]));
    assert_eq!(outcome.status.code(), Some(120), "{outcome:?}");
}
