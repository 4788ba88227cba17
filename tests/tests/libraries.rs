//! NVIDIA's own libraries: they begin, answer and plan, and compute where they bring PTX. Where they bring machine code alone they end in
//! their own error, and the user is told which file it was.
//!
//! Needs `scripts/build-library-programs`, whose libraries are 1.7 GB to download: `scripts/test` runs these, `scripts/test quick` does not.

use tests::{Server, Transport, Way, repository, run};

/// How a program must end on the software GPU.
enum End {
    /// The library computed, and its result was right.
    Computes,
    /// The first call that computes failed, for want of PTX in this file.
    Refused(&'static str),
}
use End::{Computes, Refused};

const LIBRARIES: [(&str, &str, End); 10] = [
    ("cuda13", "nvrtc", Computes),
    ("cuda13", "cufft", Computes),
    ("cuda13", "cudnn", Computes),
    ("cuda13", "curand", Refused("libcurand.so.10")),
    ("cuda13", "cublas", Refused("libcublasLt.so.13")),
    ("cuda13", "cublaslt", Refused("libcublasLt.so.13")),
    ("cuda12", "nvrtc", Computes),
    ("cuda12", "cufft", Computes),
    ("cuda12", "cublas", Refused("libcublasLt.so.12")),
    ("cuda12", "cublaslt", Refused("libcublasLt.so.12")),
];

fn each_ends_as_it_must(way: &Way) {
    for (variant, name, end) in &LIBRARIES {
        let programs = repository().join("target/library-programs");
        let program = programs.join(variant).join(name);
        assert!(program.exists(), "run scripts/build-library-programs");
        let outcome = run(way.command(&program));
        let what = format!("{variant}/{name} ({way:?}): {outcome:?}");
        match end {
            Computes => {
                assert!(outcome.status.success(), "{what}");
                assert!(outcome.stdout.contains(&format!("PASS {name} ")), "{what}");
            }
            Refused(file) => {
                assert_eq!(outcome.status.code(), Some(3), "{what}");
                assert!(
                    outcome.stdout.contains(&format!("REFUSED {name} ")),
                    "{what}"
                );
                let lines = outcome.stderr.lines();
                let told = lines.filter(|line| line.contains(file) && line.contains("PTX"));
                assert_ne!(told.count(), 0, "{what}");
            }
        }
    }
}

#[test]
#[ignore = "needs scripts/build-library-programs"]
fn directly_on_the_software_gpu() {
    each_ends_as_it_must(&Way::Direct);
}

#[test]
#[ignore = "needs scripts/build-library-programs"]
fn at_a_distance_over_tcp() {
    let server = Server::start(Transport::Tcp);
    each_ends_as_it_must(&Way::LibraryPath(server.address.clone()));
}
