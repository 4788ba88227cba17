//! Many programs at once, and ends that nobody planned.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tests::{
    LIVENESS_LIMIT, Server, Transport, Way, finish, lines_of, patiently, program, release, run,
    wait,
};

fn start(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the program can be started")
}

#[test]
fn sixteen_programs_at_once() {
    let server = Server::start(Transport::Tcp);
    let names = [
        "vector_add",
        "tiled_matmul",
        "shuffle_reduction",
        "atomic_histogram",
    ];
    let way = Way::Part(server.address.clone(), 1.0 / 16.0);
    let children: Vec<_> = (0..16)
        .map(|index| names[index % names.len()])
        .map(|name| (name, start(way.command(&program("static13", name)))))
        .collect();
    for (name, child) in children {
        finish(child).assert_passed(name);
    }
}

#[test]
fn no_server_is_told_clearly() {
    // A port on which nobody listens: bound and given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let server = format!("tcp://127.0.0.1:{port}");
    let message =
        format!("gpurun: cannot reach {server}: connection refused. Is gpu-server running?");

    let outcome = run(Way::Gpurun(server.clone()).command(&program("static13", "vector_add")));
    assert_eq!(outcome.status.code(), Some(120), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);

    let outcome = run(Way::Preload(server).command(&program("static13", "vector_add")));
    assert!(!outcome.status.success());
    assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("FAIL vector_add"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn a_program_whose_server_is_killed_ends_with_an_error() {
    let mut server = Server::start(Transport::Tcp);
    let mut command = Way::Gpurun(server.address.clone()).command(&program("static13", "long_run"));
    command.arg("60");
    let mut child = start(command);
    let lines = lines_of(child.stdout.take().expect("piped"));
    lines
        .recv_timeout(patiently(LIVENESS_LIMIT))
        .expect("a first iteration");
    server.kill();
    let status = wait(&mut child, LIVENESS_LIMIT);
    let outcome = finish(child);
    assert!(status.is_some_and(|status| !status.success()), "{status:?}");
    assert!(
        outcome.stderr.contains("the session is lost"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_memory_of_a_killed_program_comes_back_and_nobody_else_notices() {
    const HELD: u64 = 512 << 20;
    let server = Server::start(Transport::Tcp);
    let before = server.free_bytes();
    // Without the launcher, so that who is killed is the program itself.
    let way = Way::Preload(server.address.clone());
    let long_run = |arguments: [&str; 2]| {
        let mut command = way.command(&program("static13", "long_run"));
        command.args(arguments);
        start(command)
    };
    let mut victim = long_run(["60", "512"]);
    let bystander = long_run(["3", "16"]);
    let lines = lines_of(victim.stdout.take().expect("piped"));
    lines
        .recv_timeout(patiently(LIVENESS_LIMIT))
        .expect("a first iteration");
    assert!(
        server.free_bytes() <= before - HELD,
        "the victim holds its memory"
    );
    victim.kill().expect("it can be killed");
    let killed = Instant::now();
    let _ = victim.wait();
    while server.free_bytes() + (64 << 20) < before {
        assert!(
            killed.elapsed() < patiently(LIVENESS_LIMIT),
            "the memory has not come back"
        );
    }
    finish(bystander).assert_passed("the bystander");
}

#[test]
fn a_child_after_fork_gets_not_initialized() {
    // Python is a program that forks; ctypes makes the driver calls.
    let script = "\
import ctypes, os
cuda = ctypes.CDLL('libcuda.so.1')
count = ctypes.c_int()
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 3
assert cuda.cuInit(0) == 0
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value == 1
child = os.fork()
if child == 0:
    os._exit(0 if cuda.cuDeviceGetCount(ctypes.byref(count)) == 3 else 1)
assert os.waitpid(child, 0)[1] == 0
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
print('PASS fork')
";
    let server = Server::start(Transport::Unix);
    let mut command =
        Way::LibraryPath(server.address.clone()).command(std::path::Path::new("python3"));
    command.args(["-c", script]);
    run(command).assert_passed("fork");
}

#[test]
fn exactly_the_driver_s_names_are_exported() {
    let outcome = run({
        let mut command = Command::new("nm");
        command
            .args(["-D", "--defined-only", "--format=posix"])
            .arg(release("libgpurun_cuda.so"));
        command
    });
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let names: Vec<&str> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let foreign: Vec<&&str> = names
        .iter()
        .filter(|name| !name.starts_with("cu") && **name != "gpurun_shim_mark")
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(names.len() > 700, "{}", names.len());
}
