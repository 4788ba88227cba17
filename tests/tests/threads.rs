//! Programs of many threads: one is held while another releases it, and what thirty-two of them leave in memory is the same bits everywhere.

use std::path::Path;

use tests::{Outcome, Server, Transport, Way, program, run};

/// A device that does what nobody expects: streams take four operations, freed memory is poisoned, addresses are elsewhere, everything is late.
const HOSTILE: [&str; 3] = [
    "1:queue,poison",
    "2:queue,hints,unmap,poison,delay",
    "3:hints,unmap,delay",
];

/// Far more than a driver's stream takes.
const MANY: u32 = 3000;
/// More than a stream takes that takes four, where each may be late.
const FEW: u32 = 200;

fn held_streams(way: &Way, variant: &str, launches: u32, variables: &[(&str, &str)]) -> Outcome {
    let mut command = way.command(&program(variant, "held_streams"));
    command
        .arg(launches.to_string())
        .envs(variables.iter().copied());
    let outcome = run(command);
    outcome.assert_passed(&format!("held_streams ({variant}, {way:?}, {variables:?})"));
    outcome
}

#[test]
fn a_held_thread_is_released_by_another() {
    held_streams(&Way::Direct, "static13", MANY, &[]);
    for transport in [Transport::Tcp, Transport::Unix] {
        let server = Server::start(transport);
        for variant in ["static13", "dynamic12"] {
            let way = Way::Preload(server.address.clone());
            let outcome = held_streams(&way, variant, MANY, &[]);
            // Host memory is mapped for it.
            assert!(outcome.stdout.contains("~pinned 0"), "{}", outcome.stdout);
        }
    }
}

#[test]
fn a_held_thread_is_released_on_hostile_devices() {
    for hostile in HOSTILE {
        let variables = [("GPURUN_SOFT_HOSTILE", hostile)];
        let server = Server::start_with(Transport::Tcp, &variables);
        held_streams(&Way::Preload(server.address.clone()), "static13", FEW, &[]);
    }
    // Directly a device of its own is needed, and the driver's own calls block.
    let segment = format!("gpurun-test-held-{}", std::process::id());
    let variables = [
        ("GPURUN_SOFT_HOSTILE", "4:queue"),
        ("GPURUN_SOFT_SEGMENT", segment.as_str()),
    ];
    held_streams(&Way::Direct, "static13", MANY, &variables);
    let _ = std::fs::remove_file(Path::new("/dev/shm").join(segment));
}

/// What a run of the stress leaves in memory.
fn stress(way: &Way, variant: &str, seed: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("memory");
    let mut command = way.command(&program(variant, "thread_stress"));
    command
        .args(["32", "60", &seed.to_string()])
        .arg(&file)
        .env("GPURUN_SOFT_MEMORY", "2GiB");
    run(command).assert_passed(&format!("thread_stress ({variant}, {way:?}, seed {seed})"));
    let memory = std::fs::read(&file).expect("the program wrote its memory");
    assert!(memory.len() > 100_000, "{} bytes", memory.len());
    memory
}

/// Whether two runs left the same; a difference is told by its place, not by megabytes.
fn assert_same(one: &[u8], other: &[u8], what: &str) {
    assert_eq!(one.len(), other.len(), "{what}");
    let difference = one.iter().zip(other).position(|(one, other)| one != other);
    assert_eq!(difference, None, "{what}: the first byte that differs");
}

#[test]
fn thirty_two_threads_leave_the_same_bits() {
    let servers = [Transport::Tcp, Transport::Unix].map(Server::start);
    for seed in [1, 2] {
        let direct = stress(&Way::Direct, "static13", seed);
        for server in &servers {
            for variant in ["static13", "dynamic12"] {
                let way = Way::Preload(server.address.clone());
                let remote = stress(&way, variant, seed);
                assert_same(
                    &direct,
                    &remote,
                    &format!("{variant}, {way:?}, seed {seed}"),
                );
            }
        }
    }
    let other = stress(&Way::Direct, "static13", 3);
    assert_ne!(
        other,
        stress(&Way::Direct, "static13", 4),
        "the seed counts"
    );
}

#[test]
fn thirty_two_threads_leave_the_same_bits_on_hostile_devices() {
    for (seed, hostile) in (5..).zip(HOSTILE) {
        let direct = stress(&Way::Direct, "static13", seed);
        let server = Server::start_with(Transport::Tcp, &[("GPURUN_SOFT_HOSTILE", hostile)]);
        let remote = stress(&Way::Preload(server.address.clone()), "static13", seed);
        assert_same(&direct, &remote, hostile);
    }
}
