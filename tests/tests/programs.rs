//! The CUDA C++ programs: the same results directly and by every way, for every runtime and every form of device code.

use tests::{Outcome, Server, Transport, Way, program, repository, run};

/// Those that take no arguments and check themselves.
const PROGRAMS: &[&str] = &[
    "vector_add",
    "tiled_matmul",
    "shuffle_reduction",
    "atomic_histogram",
    "stream_overlap",
    "memory",
    "multi_thread",
    "driver_api",
    "graphs",
    "conditional",
    "textures",
    "mapped",
    "managed",
];

fn run_program(way: &Way, variant: &str, name: &str) -> Outcome {
    run(way.command(&program(variant, name)))
}

fn all_pass(way: &Way, variant: &str) {
    for name in PROGRAMS {
        run_program(way, variant, name).assert_passed(&format!("{name} ({variant}, {way:?})"));
    }
}

#[test]
fn directly_on_the_software_gpu() {
    for variant in ["static13", "dynamic13", "dynamic12"] {
        all_pass(&Way::Direct, variant);
    }
}

/// What the toolkit's headers are made of, for 7.5 and for 8.0: all of it can be executed, and computes what the host does.
#[test]
fn the_headers_of_the_toolkit() {
    let server = Server::start(Transport::Tcp);
    for (variant, name) in [
        ("static13", "algorithms"),
        ("static13", "intrinsics"),
        ("newptx13", "intrinsics"),
    ] {
        let mut command = Way::Direct.command(&program(variant, name));
        command.env("GPURUN_SOFT_DECODE", "all");
        let outcome = run(command);
        outcome.assert_passed(&format!("{name} ({variant})"));
        assert!(outcome.stderr.contains("of which 0 cannot"), "{outcome:?}");
        assert!(!outcome.stderr.contains("cannot execute"), "{outcome:?}");
        let way = Way::Gpurun(server.address.clone());
        run_program(&way, variant, name).assert_passed(&format!("{name} ({variant}, {way:?})"));
    }
}

#[test]
fn static_runtime_13_by_every_way_over_tcp() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Preload, Way::LibraryPath, Way::Gpurun] {
        all_pass(&way(server.address.clone()), "static13");
    }
}

#[test]
fn dynamic_runtimes_by_every_way() {
    let server = Server::start(Transport::Tcp);
    for variant in ["dynamic13", "dynamic12"] {
        for way in [Way::Preload, Way::LibraryPath, Way::Gpurun] {
            all_pass(&way(server.address.clone()), variant);
        }
    }
}

#[test]
fn every_form_of_device_code_over_unix_sockets() {
    let server = Server::start(Transport::Unix);
    let way = Way::Gpurun(server.address.clone());
    for variant in ["static13", "lineinfo13"] {
        all_pass(&way, variant);
    }
    for variant in ["zstd13", "lz4_13"] {
        selection_passes(&way, variant);
    }
}

#[test]
fn two_devices_reach_each_other_s_memory() {
    let server = Server::start_with(Transport::Unix, &[("GPURUN_SOFT_GPUS", "2")]);
    for variant in ["static13", "dynamic12"] {
        for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
            let mut command = way.command(&program(variant, "peer"));
            command.env("GPURUN_SOFT_GPUS", "2");
            command.env("GPURUN_DEVICES", "2");
            run(command).assert_passed(&format!("peer ({variant}, {way:?})"));
        }
    }
}

#[test]
fn two_devices_add_what_they_have_under_one_address() {
    let machine = [("GPURUN_SOFT_GPUS", "2"), ("GPURUN_SOFT_CC", "9.0")];
    for transport in [Transport::Tcp, Transport::Unix] {
        let server = Server::start_with(transport, &machine);
        for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
            let mut command = way.command(&program("hopper13", "multicast"));
            command.envs(machine).env("GPURUN_DEVICES", "2");
            run(command).assert_passed(&format!("multicast ({way:?}, {transport:?})"));
        }
    }
}

#[test]
fn two_processes_of_a_lease_share_memory() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let server = Server::start(transport);
        for variant in ["static13", "dynamic12"] {
            for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
                let what = format!("ipc ({variant}, {way:?}, {transport:?})");
                run_program(&way, variant, "ipc").assert_passed(&what);
            }
        }
    }
}

#[test]
fn processes_of_different_leases_share_nothing() {
    let server = Server::start(Transport::Unix);
    // Who asks for a part of a device has it for itself.
    let way = Way::Preload(server.address.clone());
    let mut command = way.command(&program("static13", "ipc"));
    command.env("GPURUN_MEMORY", "0.25");
    let outcome = run(command);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    let refused = "cudaIpcOpenMemHandle";
    assert!(outcome.stdout.contains(refused), "{outcome:?}");
}

#[test]
fn device_code_that_is_linked_with_the_device_runtime() {
    let server = Server::start(Transport::Unix);
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        let what = format!("conditional ({way:?})");
        run_program(&way, "separate13", "conditional").assert_passed(&what);
    }
}

/// What a runtime does in its own way, for the runtimes and compressed forms that are built with a selection of the programs.
const SELECTION: [&str; 6] = [
    "vector_add",
    "stream_overlap",
    "memory",
    "multi_thread",
    "device_query",
    "error_paths",
];

fn selection_passes(way: &Way, variant: &str) {
    for name in SELECTION {
        run_program(way, variant, name).assert_passed(&format!("{name} ({variant}, {way:?})"));
    }
}

#[test]
fn the_oldest_and_the_newest_runtimes_by_every_way() {
    let server = Server::start(Transport::Tcp);
    let address = || server.address.clone();
    for variant in ["dynamic11", "static12", "static13_5", "dynamic13_5"] {
        for way in [
            Way::Direct,
            Way::LibraryPath(address()),
            Way::Gpurun(address()),
        ] {
            selection_passes(&way, variant);
        }
    }
}

/// As NVIDIA's libraries are: machine code for older architectures, PTX for the newest alone.
#[test]
fn ptx_for_a_newer_architecture_is_found_beside_machine_code() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        run_program(&way, "newer13", "vector_add").assert_passed(&format!("{way:?}"));
    }
}

#[test]
fn machine_code_alone_is_refused_with_a_line_for_the_user() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        let outcome = run_program(&way, "cubin13", "vector_add");
        assert_eq!(outcome.status.code(), Some(1), "{way:?}: {outcome:?}");
        let error = "cudaErrorNoKernelImageForDevice (209)";
        assert!(outcome.stdout.contains(error), "{way:?}: {outcome:?}");
        let lines = outcome.stderr.lines();
        let told: Vec<&str> = lines.filter(|line| line.contains("sm_80")).collect();
        let [line] = told.as_slice() else {
            panic!("{way:?}: {outcome:?}");
        };
        for word in [
            "cubin13/vector_add",
            "kernel _Z3addPKfS0_Pfm",
            "-gencode arch=compute_75,code=compute_75",
        ] {
            assert!(line.contains(word), "{way:?}: no {word} in {line}");
        }
    }
}

#[test]
fn unknown_private_tables_are_refused_and_logged_once() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Preload(server.address.clone())] {
        let outcome = run_program(&way, "static13", "export_tables");
        outcome.assert_passed(&format!("export_tables ({way:?})"));
        for last in ["01", "02"] {
            let table = format!("A0A1A2A3A4A5A6A7A8A9AAABACADAE{last}");
            let lines = outcome.stderr.lines();
            let told = lines.filter(|line| line.contains(&table)).count();
            assert_eq!(told, 1, "{way:?}: {}", outcome.stderr);
        }
    }
}

#[test]
fn with_no_server_configured() {
    let outcome = run_program(&Way::Embedded, "static13", "vector_add");
    outcome.assert_passed("vector_add");
    assert!(
        outcome
            .stderr
            .contains("running on the SOFTWARE GPU (slow, CPU only)"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn device_output_arrives_in_order() {
    let expected =
        std::fs::read_to_string(repository().join("tests/programs/device_printf.expected"));
    let expected = expected.expect("the expected output");
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        for variant in ["static13", "dynamic12"] {
            let outcome = run_program(&way, variant, "device_printf");
            assert!(outcome.status.success(), "{way:?}: {}", outcome.stderr);
            assert_eq!(outcome.stdout, expected, "{way:?}");
        }
    }
}

/// What the snapshot's editing makes different at a distance, on purpose.
fn without_differences(text: &str, edited: &[&str]) -> Vec<String> {
    let differs =
        |line: &&str| line.starts_with('~') || edited.iter().any(|word| line.starts_with(word));
    text.lines()
        .filter(|line| !differs(line))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_device_describes_itself_the_same_at_a_distance() {
    let edited = [
        "canMapHostMemory",
        "memoryPoolsSupported",
        "hostRegisterSupported",
        "ipcEventSupported",
    ];
    let server = Server::start(Transport::Tcp);
    let direct = run_program(&Way::Direct, "static13", "device_query");
    let remote = run_program(
        &Way::Gpurun(server.address.clone()),
        "static13",
        "device_query",
    );
    assert!(
        direct.status.success() && remote.status.success(),
        "{} {}",
        direct.stderr,
        remote.stderr
    );
    assert_eq!(
        without_differences(&direct.stdout, &edited),
        without_differences(&remote.stdout, &edited)
    );
    assert!(without_differences(&direct.stdout, &edited).len() > 20);
}

#[test]
fn errors_are_the_same_at_a_distance() {
    let server = Server::start(Transport::Tcp);
    for argument in [None, Some("trap"), Some("assert")] {
        for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
            let mut command = way.command(&program("static13", "error_paths"));
            command.args(argument);
            run(command).assert_passed(&format!("error_paths {argument:?} ({way:?})"));
        }
    }
}

/// Copies of more than one frame: sizes and offsets, what is put behind them, memory that is freed at once, threads, a fault.
#[test]
fn large_copies_are_whole() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Gpurun(server.address.clone())] {
        run_program(&way, "driver", "large_copies").assert_passed(&format!("{way:?}"));
        let mut command = way.command(&program("driver", "large_copies"));
        command.arg("fault");
        run(command).assert_passed(&format!("fault, {way:?}"));
    }
}
