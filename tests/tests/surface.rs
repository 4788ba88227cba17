//! The driver's functions one by one: the programs that test them pass by every way, and fail where a function only pretends to work.

use std::process::Command;
use std::sync::Mutex;

use protocol::config::DEVICES_VARIABLE;
use tests::{Server, Transport, Way, program, repository, run};

const PROGRAMS: &[&str] = &[
    "surface_array",
    "surface_checkpoint",
    "surface_conditional",
    "surface_context",
    "surface_coredump",
    "surface_debug",
    "surface_graph",
    "surface_green",
    "surface_host",
    "surface_ipc",
    "surface_managed",
    "surface_memory",
    "surface_module",
    "surface_peer",
    "surface_reference",
    "surface_sharing",
    "surface_stream",
    "surface_tensor_map",
    "surface_texture",
];

/// What the software GPU does not export a working form of; the library in front of it does.
const NOT_DIRECTLY: [&str; 9] = [
    "capture modes",
    "what nodes name",
    "cuCtxDestroy",
    "cuEventDestroy",
    "cuStreamDestroy",
    "cuDeviceGetProperties",
    "cuGraphAddBatchMemOpNode",
    "cuLinkCreate",
    "cuMemAllocAsync",
];

/// Each function that is served, with its test.
fn served() -> Vec<(String, String)> {
    let directory = repository().join("driver-api/spec");
    let specification = driver_api_generator::read_specification(&directory).expect("it built");
    let rows = specification.rows.into_iter();
    rows.filter(driver_api_generator::model::Row::is_served)
        .map(|row| (row.name, row.test.unwrap_or_default()))
        .collect()
}

/// How many software devices a program or a server finds.
const DEVICES_OF_MACHINE: (&str, &str) = ("GPURUN_SOFT_GPUS", "2");

/// How many multiprocessors they have: green contexts are parts of them.
const MULTIPROCESSORS: (&str, &str) = ("GPURUN_SOFT_THREADS", "4");

/// What is about instructions of newer devices than the software GPU is by default: it has a machine of its own.
const NEWER: [&str; 1] = ["surface_multicast"];
const CAPABILITY: (&str, &str) = ("GPURUN_SOFT_CC", "9.0");

/// The command that runs a program; those that are about several devices get two.
fn command(way: &Way, name: &str) -> Command {
    let mut command = way.command(&program("driver", name));
    command.env(MULTIPROCESSORS.0, MULTIPROCESSORS.1);
    if NEWER.contains(&name) {
        command.env(CAPABILITY.0, CAPABILITY.1);
    }
    if matches!(name, "surface_peer" | "surface_multicast") {
        let (variable, count) = match way {
            Way::Direct => DEVICES_OF_MACHINE,
            _ => (DEVICES_VARIABLE, "2"),
        };
        command.env(variable, count);
    }
    command
}

fn server(transport: Transport) -> Server {
    Server::start_with(transport, &[DEVICES_OF_MACHINE, MULTIPROCESSORS])
}

fn newer_server(transport: Transport) -> Server {
    Server::start_with(
        transport,
        &[DEVICES_OF_MACHINE, MULTIPROCESSORS, CAPABILITY],
    )
}

fn passes(way: &Way, name: &str, arguments: &[&str]) {
    let mut command = command(way, name);
    command.args(arguments);
    run(command).assert_passed(&format!("{name} ({way:?})"));
}

#[test]
fn directly_on_the_software_gpu() {
    let without: Vec<&str> = NOT_DIRECTLY
        .iter()
        .flat_map(|name| ["--without", name])
        .collect();
    for name in PROGRAMS.iter().chain(&NEWER) {
        passes(&Way::Direct, name, &without);
    }
}

#[test]
fn by_every_way_over_each_transport() {
    for transport in [Transport::Tcp, Transport::Unix] {
        for (server, programs) in [
            (server(transport), PROGRAMS),
            (newer_server(transport), &NEWER),
        ] {
            for way in [Way::Preload, Way::LibraryPath, Way::Gpurun] {
                for name in programs {
                    passes(&way(server.address.clone()), name, &[]);
                }
            }
        }
    }
}

/// A graph that is launched again is one of the server's driver, whose launch is one call: what it does is the program's to check.
#[test]
fn graphs_within_the_device_are_made_there() {
    let server = Server::start(Transport::Unix);
    let mut command =
        Way::Preload(server.address.clone()).command(&program("driver", "surface_graph"));
    command.env("GPURUN_LOG", "debug");
    let outcome = run(command);
    outcome.assert_passed("surface_graph");
    let made = outcome
        .stderr
        .matches("nodes is made at the server")
        .count();
    assert!(made >= 5, "one for each change: {made}\n{}", outcome.stderr);
}

/// A graph with conditions is the driver's too, also where it begins and ends with copies of the program's memory.
#[test]
fn graphs_with_conditions_are_made_there_between_calls() {
    let server = Server::start(Transport::Unix);
    let way = Way::Preload(server.address.clone());
    let mut command = way.command(&program("driver", "surface_conditional"));
    command.env("GPURUN_LOG", "debug");
    let outcome = run(command);
    outcome.assert_passed("surface_conditional");
    for told in [
        "nodes with conditions is made at the server, 0 calls before and 0 behind it",
        "nodes with conditions is made at the server, 1 calls before and 1 behind it",
        "is between them, is not supported",
    ] {
        assert!(outcome.stderr.contains(told), "{told}\n{}", outcome.stderr);
    }
}

/// Where NVIDIA's driver would write its error log, too.
#[test]
fn calls_that_fail_are_in_the_file_of_the_driver_s_log() {
    let server = Server::start(Transport::Unix);
    let way = Way::Preload(server.address.clone());
    let file = std::env::temp_dir().join(format!("surface-log-{}", std::process::id()));
    let mut command = way.command(&program("driver", "surface_debug"));
    command.env("CUDA_LOG_FILE", &file);
    run(command).assert_passed("surface_debug");
    let text = std::fs::read_to_string(&file).expect("it is written");
    std::fs::remove_file(&file).expect("it is ours");
    let told = "[CUDA][E] Returning 101 (CUDA_ERROR_INVALID_DEVICE";
    assert!(text.contains(told), "{text}");
}

/// True if the program fails when the function returns success and does nothing.
fn notices(way: &Way, name: &str, function: &str) -> bool {
    let mut command = command(way, name);
    command.args(["--pretend", function]);
    let outcome = run(command);
    !outcome.status.success() && !outcome.stdout.contains("PASS ")
}

/// Each row's test is worth its name: without the function it fails.
#[test]
fn a_function_that_merely_returns_success_is_noticed() {
    let server = server(Transport::Unix);
    let newer = newer_server(Transport::Unix);
    let way_of = |name: &str| {
        let is_newer = NEWER.contains(&name);
        let server = if is_newer { &newer } else { &server };
        Way::Preload(server.address.clone())
    };
    for name in PROGRAMS.iter().chain(&NEWER) {
        passes(&way_of(name), name, &[]);
    }
    let queue = Mutex::new(served());
    let unnoticed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, test)) = queue.lock().expect("nobody panics").pop() else {
                        return;
                    };
                    let test = test.as_str();
                    let known = PROGRAMS.contains(&test) || NEWER.contains(&test);
                    if !known || !notices(&way_of(test), test, &name) {
                        let mut unnoticed = unnoticed.lock().expect("nobody panics");
                        unnoticed.push(format!("{name} ({test})"));
                    }
                }
            });
        }
    });
    let unnoticed = unnoticed.into_inner().expect("nobody panics");
    assert!(
        unnoticed.is_empty(),
        "not noticed: {}",
        unnoticed.join(", ")
    );
}
