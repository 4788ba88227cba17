//! Faults of the device: each with CUDA's code on the side that made it, and nothing on the other.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::{
    LIVENESS_LIMIT, Server, Transport, Way, finish, lines_of, patiently, program, run, wait,
};

/// The kinds of `fault`, and what the log of the one who made it must say: the kernel, and what it did.
const KINDS: [(&str, &[&str]); 7] = [
    ("address", &["write_at", "illegal address 0x10000"]),
    (
        "past",
        &["write_at", "illegal address 0x", "bytes past its end"],
    ),
    ("misaligned", &["write_at", "misaligned address 0x"]),
    ("endless", &["endless", "operation budget used up"]),
    ("trap", &["trap_here", "trap at"]),
    ("assert", &["assert_here", "as it must be"]),
    ("stack", &["overflow", "call stack overflow"]),
];

/// Operations that are many for every program here and few for the clock.
const BUDGET: (&str, &str) = ("GPURUN_SOFT_WATCHDOG", "20000000");

fn fault(way: &Way, variant: &str, kind: &str) -> Command {
    let mut command = way.command(&program(variant, "fault"));
    command.arg(kind);
    command
}

/// A program that computes for some seconds, of which a slow machine has more, and checks what it computes.
struct Bystander {
    child: Child,
    _lines: Receiver<String>,
}

impl Bystander {
    /// Starts it and waits for its first result.
    fn start(server: &Server, seconds: u64) -> Self {
        let seconds = patiently(Duration::from_secs(seconds)).as_secs();
        let way = Way::Preload(server.address.clone());
        let mut command = way.command(&program("static13", "long_run"));
        command.args([&seconds.to_string(), "16"]);
        let (child, lines) = start(command);
        lines
            .recv_timeout(patiently(LIVENESS_LIMIT))
            .expect("a first result");
        Self {
            child,
            _lines: lines,
        }
    }

    fn assert_undisturbed(mut self) {
        let status = wait(&mut self.child, LIVENESS_LIMIT * 2);
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

/// Starts a program; its lines come while it runs.
fn start(mut command: Command) -> (Child, Receiver<String>) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let lines = lines_of(child.stdout.take().expect("piped"));
    (child, lines)
}

#[test]
fn faults_have_their_codes_directly() {
    for (kind, words) in KINDS {
        let mut command = fault(&Way::Direct, "static13", kind);
        command.envs([BUDGET]);
        let outcome = run(command);
        outcome.assert_passed(kind);
        for word in words {
            assert!(outcome.stderr.contains(word), "{kind}: {}", outcome.stderr);
        }
    }
}

#[test]
fn faults_have_their_codes_at_a_distance_and_harm_nobody_else() {
    let server = Server::start_with(Transport::Tcp, &[BUDGET]);
    let before = server.free_bytes();
    let bystander = Bystander::start(&server, 4);
    let way = Way::Preload(server.address.clone());
    for variant in ["static13", "dynamic12"] {
        for (kind, words) in KINDS {
            let outcome = run(fault(&way, variant, kind));
            outcome.assert_passed(&format!("{kind} ({variant})"));
            for word in words {
                assert!(outcome.stderr.contains(word), "{kind}: {}", outcome.stderr);
            }
        }
    }
    bystander.assert_undisturbed();
    assert_returns(&server, before);
}

/// Waits until the device's ledger is what it was.
fn assert_returns(server: &Server, before: u64) {
    let begin = Instant::now();
    while server.free_bytes() != before {
        let free = server.free_bytes();
        assert!(
            begin.elapsed() < patiently(LIVENESS_LIMIT),
            "{free} of {before} bytes"
        );
    }
}

#[test]
fn out_of_memory_is_an_error_of_who_asks() {
    let variables = [("GPURUN_SOFT_MEMORY", "1GiB")];
    let server = Server::start_with(Transport::Unix, &variables);
    let before = server.free_bytes();
    let bystander = Bystander::start(&server, 3);
    let way = Way::Preload(server.address.clone());
    for variant in ["static13", "dynamic12"] {
        run(fault(&way, variant, "memory")).assert_passed(variant);
    }
    bystander.assert_undisturbed();
    assert_returns(&server, before);
    let segment = format!("gpurun-test-memory-{}", std::process::id());
    let mut command = fault(&Way::Direct, "static13", "memory");
    command.envs(variables).env("GPURUN_SOFT_SEGMENT", &segment);
    let outcome = run(command);
    let _ = std::fs::remove_file(std::path::Path::new("/dev/shm").join(segment));
    outcome.assert_passed("memory, directly");
}

#[test]
fn code_for_another_device_is_refused() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::Preload(server.address.clone())] {
        run(fault(&way, "cubin13", "image")).assert_passed(&format!("{way:?}"));
    }
}

/// A program in an endless kernel is ended by a signal: it ends, and its memory is back.
fn ends_by(signal: Signal) {
    const HELD: u64 = 256 << 20;
    let server = Server::start(Transport::Tcp);
    let before = server.free_bytes();
    let bystander = Bystander::start(&server, 3);
    let with_bystander = server.free_bytes();
    let way = Way::Preload(server.address.clone());
    let (mut child, lines) = start(fault(&way, "static13", "spin"));
    let line = lines
        .recv_timeout(patiently(LIVENESS_LIMIT))
        .expect("it spins");
    assert_eq!(line, "spinning");
    assert!(
        server.free_bytes() <= with_bystander - HELD,
        "it holds its memory"
    );
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("a process"), signal).expect("it can be signalled");
    let ended = Instant::now();
    let status = wait(&mut child, LIVENESS_LIMIT);
    assert!(status.is_some_and(|status| !status.success()), "{status:?}");
    while server.free_bytes() < with_bystander {
        assert!(
            ended.elapsed() < patiently(LIVENESS_LIMIT),
            "the memory has not come back"
        );
    }
    eprintln!("back after {:?}", ended.elapsed());
    bystander.assert_undisturbed();
    assert_returns(&server, before);
    let _ = finish(child);
}

#[test]
fn an_interrupt_ends_an_endless_kernel() {
    ends_by(Signal::INT);
}

#[test]
fn a_kill_ends_an_endless_kernel() {
    ends_by(Signal::KILL);
}

/// What the daemon holds: descriptors, threads, children, and memory in KiB.
fn holdings(server: &Server) -> ([usize; 3], u64) {
    let process = format!("/proc/{}", server.id());
    let count = |folder: &str| {
        let entries = std::fs::read_dir(format!("{process}/{folder}"));
        entries.expect("of a process that lives").count()
    };
    let children: usize = std::fs::read_dir(format!("{process}/task"))
        .expect("of a process that lives")
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum();
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.split_whitespace().next()?.parse().ok());
    (
        [count("fd"), count("task"), children],
        resident.expect("VmRSS"),
    )
}

#[test]
fn fifty_faults_leave_nothing_on_the_server() {
    /// A daemon's threads keep what their allocator has once given them.
    const SLACK_KIB: u64 = 4096;
    let server = Server::start_with(Transport::Unix, &[BUDGET]);
    let way = Way::Preload(server.address.clone());
    let faults = |rounds: usize| {
        let kinds = KINDS.iter().cycle().filter(|(kind, _)| *kind != "endless");
        for (kind, _) in kinds.take(rounds) {
            run(fault(&way, "static13", kind)).assert_passed(kind);
        }
    };
    // The first sessions make what stays: threads of the runtime, arenas.
    faults(10);
    let free = server.free_bytes();
    let (counts, resident) = settled(&server);
    faults(50);
    assert_returns(&server, free);
    let begin = Instant::now();
    // Fewer is as well: the last of the first ten may still have been on its way out.
    let has_more = |now: [usize; 3]| now.iter().zip(counts).any(|(now, before)| *now > before);
    while has_more(settled(&server).0) {
        let after = holdings(&server);
        assert!(
            begin.elapsed() < patiently(LIVENESS_LIMIT),
            "{counts:?} before, {after:?} after"
        );
    }
    let (_, after) = settled(&server);
    assert!(
        after <= resident + SLACK_KIB,
        "{resident} KiB before, {after} after"
    );
    eprintln!("{counts:?}, {resident} KiB before, {after} KiB after");
}

/// The daemon's holdings once no worker is left, nor the thread that waited for it: then there is its one thread, and its monitor.
fn settled(server: &Server) -> ([usize; 3], u64) {
    let begin = Instant::now();
    loop {
        let held = holdings(server);
        if held.0[1..] == [1, 1] {
            return held;
        }
        assert!(
            begin.elapsed() < patiently(LIVENESS_LIMIT),
            "workers remain: {held:?}"
        );
        std::thread::yield_now();
    }
}
