//! The benchmarks run, and what they write is what programs can read. Speed is not looked at.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Where `scripts/build` has put the server and the libraries.
fn artefacts() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), Into::into)
        .join("release")
}

#[test]
fn every_benchmark_measures_every_subject() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["all", "--quick", "--place", "one", "--artefacts"])
        .arg(artefacts())
        .arg("--json")
        .arg(&file)
        .output()
        .expect("bench can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{errors}",
        output.status
    );
    assert!(text.contains("caller CPU"), "{text}");

    let json = std::fs::read(&file).expect("the figures");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["version"], 1);
    let rows = json["rows"].as_array().expect("rows");
    let mut seen = BTreeSet::new();
    for row in rows {
        let figure = |name: &str| row[name].as_f64().expect(name);
        let (p50, p90, p99) = (figure("us_p50"), figure("us_p90"), figure("us_p99"));
        assert!(p50 > 0.0 && p50 <= p90 && p90 <= p99, "{row}");
        assert!(figure("samples") >= 1.0, "{row}");
        assert_eq!(row["cores"], "one", "{row}");
        let text = |name: &str| row[name].as_str().expect(name).to_owned();
        seen.insert((text("benchmark"), text("subject")));
    }
    for benchmark in ["call", "launch", "copy", "alloc", "startup"] {
        for subject in ["native", "unix", "tcp"] {
            let pair = (benchmark.to_owned(), subject.to_owned());
            assert!(seen.contains(&pair), "{pair:?} is not in {seen:?}");
        }
    }
    for pair in [
        ("call", "raw-unix"),
        ("copy", "raw-tcp"),
        ("startup", "bare"),
        ("startup", "preloaded"),
    ] {
        let pair = (pair.0.to_owned(), pair.1.to_owned());
        assert!(seen.contains(&pair), "{pair:?} is not in {seen:?}");
    }
}

#[test]
fn an_aim_that_was_not_measured_is_missed() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args([
            "alloc",
            "--quick",
            "--check",
            "--place",
            "one",
            "--artefacts",
        ])
        .arg(artefacts())
        .output()
        .expect("bench can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    // The aim is one of two cores.
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("missed: alloc") && text.contains("not measured"),
        "{text}"
    );
}
