//! NVML at a distance: real clients, and a script that compares NVML with CUDA and with `nvidia-ml-py`'s definitions.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use serde_json::Value;
use tests::{
    LIVENESS_LIMIT, Outcome, PROGRAM_LIMIT, Server, Transport, Way, finish, lines_of, program,
    repository, run,
};

/// A program of the Python environment of `scripts/toolchain`.
fn tool(name: &str) -> PathBuf {
    let path = repository().join("target/tools/python/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run scripts/toolchain",
        path.display()
    );
    path
}

/// The script, by a way, to do this.
fn client(way: &Way, arguments: &[&str]) -> Command {
    let mut command = way.command(&tool("python"));
    command
        .arg(repository().join("tests/python/nvml_client.py"))
        .args(arguments);
    command
}

fn gpustat(way: &Way) -> Value {
    let mut command = way.command(&tool("gpustat"));
    command.arg("--json");
    let outcome = run(command);
    assert!(
        outcome.status.success(),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    let mut told: Value = serde_json::from_str(&outcome.stdout).expect(&outcome.stdout);
    told["gpus"].take()
}

/// A program that holds memory and computes, once it does; it goes on while its lines are taken.
fn long_run(way: &Way) -> (Child, Receiver<String>) {
    let mut command = way.command(&program("static13", "long_run"));
    command.args(["60", "256"]);
    let mut child = start(command);
    let lines = lines_of(child.stdout.take().expect("piped"));
    lines
        .recv_timeout(LIVENESS_LIMIT)
        .expect("a first iteration");
    (child, lines)
}

fn start(mut command: Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the program can be started")
}

fn end(mut child: Child) {
    child.kill().expect("it can be ended");
    let _ = child.wait();
}

/// Whether a process is this one or a child of it: `gpurun` stays in front of its program.
fn is_of(process: &Value, child: &Child) -> bool {
    let id = process["pid"].as_u64().expect("a process id");
    let parent = std::fs::read_to_string(format!("/proc/{id}/stat"))
        .ok()
        .and_then(|stat| {
            let rest = stat.rsplit_once(')')?.1.to_owned();
            rest.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    id == u64::from(child.id()) || parent == Some(child.id().into())
}

#[test]
fn gpustat_sees_memory_work_and_the_program() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let server = Server::start(transport);
        // Without the launcher: a device of its own would have nobody else's program on it.
        let way = Way::LibraryPath(server.address.clone());
        let before = gpustat(&way);
        assert_eq!(before.as_array().map(Vec::len), Some(1), "{before}");
        let idle = &before[0];
        assert!(
            idle["name"]
                .as_str()
                .is_some_and(|name| name.contains("Software GPU"))
        );
        assert_eq!(idle["memory.used"], 0);
        assert_eq!(idle["utilization.gpu"], 0);
        assert_eq!(idle["temperature.gpu"], Value::Null);
        assert_eq!(idle["processes"], Value::Array(Vec::new()));

        let (worker, _lines) = long_run(&way);
        let begun = Instant::now();
        // Kernels of a fiftieth of a second, every fiftieth of a second: they show in one of the next seconds.
        let busy = loop {
            let told = gpustat(&way)[0].take();
            if told["utilization.gpu"].as_u64() > Some(0) {
                break told;
            }
            assert!(begun.elapsed() < PROGRAM_LIMIT, "no work is seen: {told}");
        };
        assert!(busy["memory.used"].as_u64() >= Some(256), "{busy}");
        let processes = busy["processes"].as_array().expect("a list");
        assert_eq!(processes.len(), 1, "{busy}");
        assert!(is_of(&processes[0], &worker), "{busy}");
        assert!(
            processes[0]["gpu_memory_usage"].as_u64() >= Some(256),
            "{busy}"
        );
        end(worker);
    }
}

#[test]
fn nvitop_shows_the_device_and_the_program() {
    let server = Server::start(Transport::Tcp);
    let way = Way::LibraryPath(server.address.clone());
    let (worker, _lines) = long_run(&way);
    let mut command = way.command(&tool("nvitop"));
    command.arg("--once").env("COLUMNS", "120");
    let outcome = run(command);
    end(worker);
    assert!(
        outcome.status.success(),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    for part in [
        "Software GPU",
        "/ 4096MiB",
        "Default",
        "long_run",
        "CUDA Driver Version: 13.5",
    ] {
        assert!(
            outcome.stdout.contains(part),
            "no {part}:\n{}",
            outcome.stdout
        );
    }
    // It logs functions that it does not find.
    assert!(
        !outcome.stderr.contains("FunctionNotFound"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn nvml_and_cuda_agree() {
    for way in [Way::Gpurun, Way::LibraryPath] {
        // One for each: what the client before held is given back a moment after its end.
        let server = Server::start(Transport::Tcp);
        run(client(&way(server.address.clone()), &["identity", "1"])).assert_passed("identity");
    }
}

#[test]
fn nvml_and_cuda_agree_on_several_devices() {
    let server = Server::start_with(Transport::Unix, &[("GPURUN_SOFT_GPUS", "3")]);
    let mut command = Command::new(tests::release("gpurun"));
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .args(["--server", &server.address, "-n", "2"])
        .arg(tool("python"))
        .arg(repository().join("tests/python/nvml_client.py"))
        .args(["identity", "2"]);
    run(command).assert_passed("two of three devices");
}

#[test]
fn structures_versions_and_codes_are_nvml_s() {
    let server = Server::start(Transport::Unix);
    let way = Way::LibraryPath(server.address.clone());
    run(client(&way, &["layouts"])).assert_passed("layouts");
}

#[test]
fn whatever_is_asked_of_a_device_has_an_answer_of_nvml_s() {
    let server = Server::start(Transport::Unix);
    let way = Way::LibraryPath(server.address.clone());
    run(client(&way, &["every"])).assert_passed("every");
}

#[test]
fn children_of_a_process_with_threads_ask_too() {
    let server = Server::start(Transport::Tcp);
    let way = Way::LibraryPath(server.address.clone());
    run(client(&way, &["fork"])).assert_passed("fork");
}

#[test]
fn a_server_that_is_gone_is_a_lost_gpu() {
    let mut server = Server::start(Transport::Tcp);
    let way = Way::LibraryPath(server.address.clone());
    let mut child = start(client(&way, &["gone"]));
    let mut input = child.stdin.take().expect("piped");
    let lines = lines_of(child.stdout.take().expect("piped"));
    let ready = lines.recv_timeout(PROGRAM_LIMIT);
    server.kill();
    input.write_all(b"now\n").expect("it waits");
    let last = lines.recv_timeout(PROGRAM_LIMIT);
    let outcome = finish(child);
    assert_eq!(ready.as_deref(), Ok("ready"), "{}", outcome.stderr);
    assert_eq!(last.as_deref(), Ok("PASS gone"), "{}", outcome.stderr);
}

/// What JAX looks for before it asks a driver, whether or not the machine has it; and nothing else is made up.
#[test]
fn the_drivers_device_node_is_there_for_programs_of_gpurun() {
    const SCRIPT: &str = "
import os, stat
node = os.stat('/dev/nvidiactl')
assert stat.S_ISCHR(node.st_mode) and (os.major(node.st_rdev), os.minor(node.st_rdev)) == (195, 255)
assert os.path.exists('/dev/nvidiactl') and os.access('/dev/nvidiactl', os.R_OK | os.W_OK)
assert os.path.exists('/dev/null') and os.stat('/dev/null').st_rdev == os.makedev(1, 3)
for path in ('/dev/nvidiactl2', '/dev/nvidiactl/x', '/no/such'):
    assert not os.path.exists(path) and not os.access(path, os.F_OK), path
print('PASS the node')
";
    let server = Server::start(Transport::Unix);
    let mut command = Way::Gpurun(server.address.clone()).command(&tool("python"));
    command.args(["-c", SCRIPT]);
    run(command).assert_passed("the node");
}

/// The names that a library exports.
fn exported(library: &str) -> Vec<String> {
    let mut command = Command::new("nm");
    command
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(tests::release(library));
    let Outcome {
        status,
        stdout,
        stderr,
    } = run(command);
    assert!(status.success(), "{stderr}");
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    stdout.lines().map(name).collect()
}

/// The mark by which a server knows the library, and what asks for the driver's device node.
const OTHER_NAMES: [&str; 6] = [
    "gpurun_shim_mark",
    "__xstat",
    "__xstat64",
    "access",
    "stat",
    "stat64",
];

#[test]
fn exactly_nvml_s_names_are_exported() {
    let names = exported("libgpurun_nvml.so");
    let foreign: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("nvml") && !OTHER_NAMES.contains(&name.as_str()))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    // PyTorch gives up where one of these is missing; NCCL calls the last without looking.
    for needed in [
        "nvmlInit_v2",
        "nvmlDeviceGetHandleByPciBusId_v2",
        "nvmlDeviceGetNvLinkRemoteDeviceType",
        "nvmlDeviceGetNvLinkRemotePciInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlDeviceGetP2PStatus",
    ] {
        assert!(names.iter().any(|name| name == needed), "{needed}");
    }
}
