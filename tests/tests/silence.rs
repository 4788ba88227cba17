//! Programs and servers that are stopped, and wires on which nothing passes: a while of it is waited for, more is the end.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::processes::{eventually, signal, worker};
use tests::proxy::{Action, Direction, Place, Plan, Proxy};
use tests::{LIVENESS_LIMIT, Outcome, Server, Transport, Way, finish, lines_of, program};

/// The grace of the servers that give up: long enough to look at what they hold meanwhile.
const GRACE: Duration = Duration::from_secs(12);
const GRACE_SETTING: &str = "silence_grace = 12";
/// Most time until a side that has been silent for the grace is given up, and everything is back.
const GIVEN_UP_LIMIT: Duration = Duration::from_secs(60);

/// A program that has done its first iteration.
struct Running {
    child: Child,
    _lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(address: &str, seconds: &str, grace: &str) -> Self {
        let way = Way::Preload(address.to_owned());
        let mut command = way.command(&program("static13", "long_run"));
        command
            .args([seconds, "64"])
            .env("GPURUN_SILENCE_GRACE", grace);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let lines = lines_of(child.stdout.take().expect("piped"));
        lines
            .recv_timeout(LIVENESS_LIMIT)
            .expect("a first iteration");
        Self {
            child,
            _lines: lines,
        }
    }

    fn signal(&self, which: Signal) {
        signal(self.child.id(), which);
    }

    /// Its outcome, with the lines of its standard output after the first.
    fn finish(self) -> Outcome {
        let mut outcome = finish(self.child);
        outcome.stdout = self._lines.iter().collect::<Vec<_>>().join("\n");
        outcome
    }
}

fn assert_lost(outcome: &Outcome, why: &str) {
    let all = format!("{}\n{}\n{}", outcome.status, outcome.stdout, outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{all}");
    assert!(outcome.stdout.contains("cudaError"), "{all}");
    let lost = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("the session is lost"));
    let lost: Vec<&str> = lost.collect();
    assert!(
        matches!(lost[..], [line] if line.contains(why)),
        "{why}: {all}"
    );
}

/// Longer than any side used to wait, shorter than the default grace.
fn a_stopped_program_is_waited_for() {
    let server = Server::start(Transport::Tcp);
    let program = Running::start(&server.address, "1", "300");
    program.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(33));
    let log = server.log();
    let told = log.contains("the client: silent for 1") && log.contains("; waiting up to 300 s");
    assert!(told, "{log}");
    assert_eq!(server.workers(), 1, "{log}");
    program.signal(Signal::CONT);
    let outcome = program.finish();
    outcome.assert_passed("the continued program");
    // It is not blamed on the server that we stood still.
    assert_eq!(outcome.stderr, "");
    let log = server.log();
    assert!(log.contains("the client: heard again after "), "{log}");
}

fn a_program_stopped_beyond_the_grace_is_given_up() {
    let server = Server::configured(Transport::Tcp, GRACE_SETTING);
    let free_before = server.free_bytes();
    let program = Running::start(&server.address, "60", "300");
    program.signal(Signal::STOP);
    let stopped = Instant::now();
    assert!(server.free_bytes() < free_before, "its memory is held");
    eventually(GIVEN_UP_LIMIT, "the worker ends", || server.workers() == 0);
    assert!(stopped.elapsed() >= GRACE * 3 / 4, "it was waited for");
    // A process that is ending has no name any more before its memory is back.
    eventually(LIVENESS_LIMIT, "its memory comes back", || {
        server.free_bytes() == free_before
    });
    let log = server.log();
    assert!(log.contains("the client was silent for 1"), "{log}");
    program.signal(Signal::CONT);
    assert_lost(&program.finish(), "this program was silent for 1");
}

fn a_stopped_server_is_waited_for() {
    let server = Server::start(Transport::Tcp);
    let proxy = Proxy::start(&server.address, None);
    let program = Running::start(&proxy.address, "1", "15");
    let worker = worker(server.id(), proxy.session()).expect("a worker");
    signal(worker, Signal::STOP);
    thread::sleep(Duration::from_secs(10));
    signal(worker, Signal::CONT);
    let outcome = program.finish();
    outcome.assert_passed("the program of a server that was stopped");
    let told: Vec<&str> = outcome.stderr.lines().collect();
    let expected = matches!(told[..], [silent, again]
        if silent.starts_with("gpurun: the server: silent for ")
            && silent.ends_with("; waiting up to 15 s")
            && again.starts_with("gpurun: the server: heard again after "));
    assert!(expected, "{told:?}");
}

fn a_server_stopped_beyond_the_grace_is_given_up() {
    let server = Server::start(Transport::Tcp);
    let free_before = server.free_bytes();
    let proxy = Proxy::start(&server.address, None);
    let program = Running::start(&proxy.address, "60", "5");
    let worker = worker(server.id(), proxy.session()).expect("a worker");
    signal(worker, Signal::STOP);
    assert_lost(&program.finish(), "the server was silent for ");
    // Continued, it sees that the client is gone.
    signal(worker, Signal::CONT);
    eventually(LIVENESS_LIMIT, "the worker ends", || server.workers() == 0);
    eventually(LIVENESS_LIMIT, "its memory comes back", || {
        server.free_bytes() == free_before
    });
}

/// A wire on which nothing passes while both ends of it answer for the machines.
fn a_wire_that_stalls(grace: &str, goes_on: bool) {
    let server = Server::configured(Transport::Tcp, GRACE_SETTING);
    let plan = Plan {
        direction: Direction::Up,
        unit: 12,
        place: Place::Payload,
        action: Action::Stall,
    };
    let proxy = Proxy::start(&server.address, Some(plan));
    let program = Running::start(&proxy.address, "2", grace);
    eventually(LIVENESS_LIMIT, "the wire stalls", || proxy.has_struck());
    if goes_on {
        thread::sleep(GRACE / 2);
        proxy.go_on();
        program
            .finish()
            .assert_passed("a program whose wire stalled");
    } else {
        assert_lost(&program.finish(), "the server was silent for ");
    }
    eventually(GIVEN_UP_LIMIT, "the worker ends", || server.workers() == 0);
}

/// All at once: they wait, and compute nothing.
#[test]
fn silence_is_waited_for_up_to_the_grace() {
    let scenarios: [fn(); 6] = [
        a_stopped_program_is_waited_for,
        a_program_stopped_beyond_the_grace_is_given_up,
        a_stopped_server_is_waited_for,
        a_server_stopped_beyond_the_grace_is_given_up,
        || a_wire_that_stalls("5", false),
        || a_wire_that_stalls("300", true),
    ];
    let running = scenarios.map(thread::spawn);
    let failed = running.into_iter().filter_map(|thread| thread.join().err());
    assert_eq!(failed.count(), 0, "scenarios failed: see above");
}
