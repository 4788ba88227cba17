//! Good manners: what a program does to itself (signals, fork, exec, closing, ending) works as if we were not there.
//!
//! Each case is one of `tests/manners`, which checks itself. It runs by preloading and by the launcher, over both transports in turn.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tests::{LIVENESS_LIMIT, Outcome, Server, Transport, Way, finish, patiently, program, run};

/// A case of a program of `tests/manners`.
fn case(way: &Way, name: &str, case: &str) -> Command {
    let mut command = way.command(&program("manners", name));
    command.arg(case);
    command
}

/// The ways that differ for a library: found by preloading over TCP, by the launcher over a unix socket.
fn ways() -> [(Server, Way); 2] {
    let (tcp, unix) = (
        Server::start(Transport::Tcp),
        Server::start(Transport::Unix),
    );
    let (preload, launcher) = (
        Way::Preload(tcp.address.clone()),
        Way::Gpurun(unix.address.clone()),
    );
    [(tcp, preload), (unix, launcher)]
}

/// Runs cases that print `PASS CASE` and end with status 0.
fn all_pass(name: &str, cases: &[&str]) {
    for (_server, way) in &ways() {
        for one in cases {
            run(case(way, name, one)).assert_passed(&format!("{name} {one} ({way:?})"));
        }
    }
}

#[test]
fn signals_are_the_program_s_own() {
    all_pass("signals", &["own"]);
}

#[test]
fn a_lost_server_is_an_error_and_no_sigpipe() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let mut server = Server::start(transport);
        let mut child = start(case(
            &Way::Preload(server.address.clone()),
            "signals",
            "pipe",
        ));
        expect_line(&mut child, "working");
        server.kill();
        let outcome = finish(child);
        assert!(outcome.status.success(), "{outcome:?}");
        let lost = outcome.stderr.matches("the session is lost").count();
        assert_eq!(lost, 1, "{}", outcome.stderr);
    }
}

#[test]
fn children_before_and_after_the_driver_is_initialised() {
    all_pass("forks", &["before", "after", "connected", "bare"]);
}

#[test]
fn children_of_many_threads_wait_for_no_lock() {
    all_pass("forks", &["threads", "connecting"]);
}

fn start(mut command: Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the program can be started")
}

/// Waits for the program's first line.
fn expect_line(child: &mut Child, expected: &str) {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    // The program prints nothing more before it is told to, so nothing is lost in the buffer.
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line.trim_end(), expected);
}

#[test]
fn a_killed_parent_is_noticed_while_its_child_lives_on() {
    const HELD: u64 = 512 << 20;
    for (server, _) in &ways() {
        let way = Way::Preload(server.address.clone());
        let before = server.free_bytes();
        for manner in ["fork", "bare", "spawn", "vfork"] {
            // Without handlers the child holds the connection, and TCP does not tell whose it is: there silence has to do.
            if manner == "bare" && server.address.starts_with("tcp") {
                continue;
            }
            let mut parent = start(case(&way, "forks", &format!("orphan-{manner}")));
            expect_line(&mut parent, "holding");
            assert!(server.free_bytes() <= before - HELD, "the memory is held");
            // The child lives until this is dropped.
            let input = parent.stdin.take();
            parent.kill().expect("it can be killed");
            parent.wait().expect("it can be waited for");
            let killed = Instant::now();
            while server.free_bytes() + HELD / 2 < before {
                assert!(
                    killed.elapsed() < patiently(LIVENESS_LIMIT),
                    "{manner}: the memory of a killed program has not come back"
                );
            }
            drop(input);
        }
    }
}

#[test]
fn children_inherit_no_descriptor_and_the_same_environment() {
    all_pass("descriptors", &["children"]);
}

#[test]
fn a_descriptor_that_the_program_took_over_never_gets_our_bytes() {
    for (_server, way) in &ways() {
        for one in ["close-all", "reuse"] {
            let outcome = run(case(way, "descriptors", one));
            outcome.assert_passed(one);
            assert!(
                outcome
                    .stderr
                    .contains("the program has closed the connection's descriptor"),
                "{one}, {way:?}: {}",
                outcome.stderr
            );
        }
        run(case(way, "descriptors", "no-standard-error")).assert_passed("no-standard-error");
    }
}

#[test]
fn the_log_is_whole_lines_of_our_own_and_nothing_else_is_printed() {
    let line = "gpurun: cuGraphicsUnregisterResource is not supported: ";
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (_server, way) in &ways() {
        let outcome = run(case(way, "descriptors", "prints"));
        assert_eq!(outcome.stdout, "PASS prints\n", "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with(line), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);

        let file = folder.path().join("log");
        for one in ["prints", "no-standard-error"] {
            let mut command = case(way, "descriptors", one);
            command.env("GPURUN_LOG_FILE", &file);
            let outcome = run(command);
            outcome.assert_passed(one);
            assert_eq!(outcome.stderr, "");
            let log = std::fs::read_to_string(&file).expect("the log");
            assert!(log.starts_with(line), "{log}");
            std::fs::remove_file(&file).expect("the log is there");
        }
    }
}

#[test]
fn the_device_can_be_used_to_the_end_of_the_program() {
    let ends = [
        ("static-destructor", 0),
        ("late-static-destructor", 0),
        ("handler-before", 0),
        ("handler-after", 0),
        ("exit-in-handler", 7),
        ("exit-of-a-thread", 7),
        ("end-of-the-main-thread", 0),
        ("end-of-all-threads", 0),
        ("exit-while-calling", 7),
        ("quick", 7),
        ("at-once", 7),
        ("busy", 0),
        ("exec", 0),
        ("thread-destructors", 0),
    ];
    for (server, way) in &ways() {
        let before = server.free_bytes();
        for (one, status) in ends {
            let outcome = run(case(way, "exits", one));
            assert_ended(&outcome, one, status);
        }
        let outcome = run(case(way, "exits", "aborted"));
        match way {
            // The launcher tells of its program's end as a shell does.
            Way::Gpurun(_) => assert_eq!(outcome.status.code(), Some(128 + 6), "{outcome:?}"),
            _ => assert_eq!(outcome.status.signal(), Some(6), "{outcome:?}"),
        }
        let ended = Instant::now();
        while server.free_bytes() < before {
            assert!(
                ended.elapsed() < patiently(LIVENESS_LIMIT),
                "something is left behind"
            );
        }
    }
}

fn assert_ended(outcome: &Outcome, case: &str, status: i32) {
    assert_eq!(outcome.status.code(), Some(status), "{case}: {outcome:?}");
    assert_eq!(outcome.stdout.lines().count(), 1, "{case}: {outcome:?}");
    assert!(outcome.stdout.starts_with("PASS "), "{case}: {outcome:?}");
    assert_eq!(outcome.stderr, "", "{case}");
}

#[test]
fn the_runtime_ends_and_forks_as_on_a_device_of_its_own() {
    all_pass("runtime", &["destructors", "reset", "fork"]);
}

#[test]
fn opened_and_closed_in_every_manner() {
    all_pass("loading", &["reopen", "close-while-calling"]);
}

#[test]
fn little_of_everything_is_enough_or_a_clear_error() {
    all_pass(
        "loading",
        &["little-address-space", "few-descriptors", "no-descriptors"],
    );
    // As a user who may have few threads: a unix socket would be the other user's.
    let server = Server::start(Transport::Tcp);
    let way = Way::Preload(server.address.clone());
    run(case(&way, "loading", "no-threads")).assert_passed("no-threads");
}
