//! The launcher as a process: grammar, environment, signals, exit statuses, the private server.

mod installation;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use installation::{gpurun, installation, output, text};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A server of our own, for what is not about the private one.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(installation().join("bin/gpu-server"))
            .args(["serve", "--device", "soft", "--listen", "tcp://127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("gpu-server");
        let mut line = String::new();
        let output = child.stdout.take().expect("stdout");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect("an address")
            .to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SOFTWARE_LINE: &str =
    "gpurun: no server configured; running on the SOFTWARE GPU (slow, CPU only)\n";

#[test]
fn without_a_server_a_private_one_runs_and_ends() {
    let script = "echo $GPURUN_SERVER; test -S ${GPURUN_SERVER#unix:} && echo there";
    let output = output(&mut gpurun(&["--device", "soft", "sh", "-c", script]));
    assert!(text(&output.stderr).ends_with(SOFTWARE_LINE));
    assert!(output.status.success());
    let lines = text(&output.stdout);
    let socket = lines
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("unix:"))
        .expect("a socket");
    assert!(lines.ends_with("there\n"));
    assert!(
        !Path::new(socket).parent().expect("a directory").exists(),
        "nothing is left behind"
    );
}

#[test]
fn the_private_server_over_tcp() {
    let output = output(&mut gpurun(&[
        "--device=soft",
        "--transport",
        "tcp",
        "sh",
        "-c",
        "echo $GPURUN_SERVER",
    ]));
    assert!(text(&output.stdout).starts_with("tcp://127.0.0.1:"));
}

#[test]
fn the_environment_of_the_program() {
    let server = Server::start();
    let script = "echo $LD_PRELOAD; echo $LD_LIBRARY_PATH; echo $GPURUN_SERVER $GPURUN_DEVICES $GPURUN_TRANSPORT; \
        grep -c libcuda.so.1 /proc/self/maps";
    let output = output(
        gpurun(&["-n", "2", "--server", &server.address, "sh", "-c", script])
            .env("LD_LIBRARY_PATH", "/a:/b"),
    );
    assert_eq!(text(&output.stderr), "", "nothing is said when all is well");
    let guest = installation()
        .join("lib/gpurun/guest")
        .canonicalize()
        .expect("there");
    let guest = guest.display();
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(
        lines[0],
        format!("{guest}/libcuda.so.1:{guest}/libnvidia-ml.so.1")
    );
    assert_eq!(lines[1], format!("{guest}:/a:/b"));
    assert_eq!(lines[2], format!("{} 2 auto", server.address));
    assert_ne!(lines[3], "0", "the library is in the program");
}

#[test]
fn statuses_pass_through() {
    let server = Server::start();
    let run = |words: &[&str], stats: bool| {
        let mut command = gpurun(&["--server", &server.address]);
        if stats {
            command.env("GPURUN_STATS", "1");
        }
        output(command.args(words)).status
    };
    for stats in [false, true] {
        assert_eq!(run(&["true"], stats).code(), Some(0));
        assert_eq!(run(&["sh", "-c", "exit 42"], stats).code(), Some(42));
        assert_eq!(run(&["/no/such/program"], stats).code(), Some(127));
        assert_eq!(run(&["no-such-program"], stats).code(), Some(127));
        assert_eq!(run(&["/etc/passwd"], stats).code(), Some(126));
    }
    for stats in [false, true] {
        assert_eq!(run(&["sh", "-c", "kill -SEGV $$"], stats).code(), Some(139));
    }
}

#[test]
fn a_configured_server_that_is_not_there_is_an_error() {
    let output = output(&mut gpurun(&["--server", "127.0.0.1:1", "echo", "ran"]));
    assert_eq!(output.status.code(), Some(120));
    assert_eq!(text(&output.stdout), "", "the program is not started");
    let expected = "gpurun: cannot reach tcp://127.0.0.1:1: connection refused. Is gpu-server running? \
        Try: gpurun health --server 127.0.0.1:1\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn what_the_server_does_not_have_is_refused() {
    let server = Server::start();
    let three = output(&mut gpurun(&[
        "-n",
        "3",
        "--server",
        &server.address,
        "true",
    ]));
    assert_eq!(three.status.code(), Some(121));
    let expected = "gpurun: no server has 3 devices; largest: ";
    let errors = text(&three.stderr);
    assert!(
        errors.starts_with(expected) && errors.ends_with(" with 2\n"),
        "{errors}"
    );
    let gpu = output(&mut gpurun(&[
        "--device",
        "gpu",
        "--server",
        &server.address,
        "true",
    ]));
    assert_eq!(gpu.status.code(), Some(121));
}

#[test]
fn mistakes_are_usage_errors() {
    let cases: [&[&str]; 4] = [
        &[],
        &["--sever", "a", "true"],
        &["--server", "x://y", "true"],
        &["--server", "unix:/s", "--transport", "tcp", "true"],
    ];
    for words in cases {
        let output = output(&mut gpurun(words));
        assert_eq!(
            output.status.code(),
            Some(2),
            "{words:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_gpurun_inside_a_gpurun_shares_its_server() {
    let inner = installation().join("bin/gpurun");
    let script = format!(
        "echo $GPURUN_SERVER; exec {} sh -c 'echo $GPURUN_SERVER; echo $LD_PRELOAD'",
        inner.display()
    );
    let output =
        output(gpurun(&["--device", "soft", "sh", "-c", &script]).env("GPURUN_STATS", "1"));
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(
        lines[2].matches("libcuda.so.1").count(),
        1,
        "preloaded once"
    );
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("SOFTWARE").count(), 1, "{errors}");
    assert_eq!(
        errors.matches("calls: local 0, posted 0, asked 0").count(),
        1,
        "{errors}"
    );
    assert_eq!(errors.matches("waited: 0.000 s of ").count(), 1, "{errors}");
}

/// Starts a program that waits for signals, and waits until it does.
fn signalled(group: bool, script: &str, with: impl Fn(Pid)) -> Output {
    let mut command = gpurun(&["--device", "soft", "sh", "-c", script]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if group {
        command.process_group(0);
    }
    let mut child = command.spawn().expect("gpurun");
    let mut reader = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    with(Pid::from_child(&child));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the rest");
    let mut output = child.wait_with_output().expect("gpurun");
    output.stdout = rest;
    output
}

#[test]
fn signals_sent_to_us_reach_the_program() {
    let script = |name: &str| {
        format!("trap 'echo caught; exit 9' {name}; echo ready; while :; do sleep 0.02; done")
    };
    for (name, signal) in [
        ("TERM", Signal::TERM),
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("USR1", Signal::USR1),
    ] {
        let output = signalled(true, &script(name), |process| {
            kill_process(process, signal).expect("sent")
        });
        assert_eq!(
            (text(&output.stdout).as_str(), output.status.code()),
            ("caught\n", Some(9)),
            "{name}"
        );
    }
    let script = "echo ready; exec sleep 30";
    let output = signalled(true, script, |process| {
        kill_process(process, Signal::TERM).expect("sent")
    });
    assert_eq!(output.status.code(), Some(128 + 15));
}

#[test]
fn an_interrupt_of_the_group_leaves_the_server_to_the_program() {
    // The program answers the interrupt by using its server once more.
    let script = "trap 'test -S ${GPURUN_SERVER#unix:} && echo still; exit 3' INT; echo ready; \
        while :; do sleep 0.02; done";
    let output = signalled(true, script, |process| {
        kill_process_group(process, Signal::INT).expect("sent");
    });
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("still\n", Some(3))
    );
}

#[test]
fn signals_are_to_the_program_as_they_were_to_us() {
    // The C library's own signals, 32 and 33, change with its threads, and not for anybody else.
    const INTERNAL: u64 = 0b11 << 31;
    let masks = |status: String| -> Vec<u64> {
        let masks = status
            .lines()
            .filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn"));
        let mask = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        masks
            .filter_map(mask)
            .map(|mask| u64::from_str_radix(&mask, 16).expect("a mask") & !INTERNAL)
            .collect()
    };
    let plain = output(Command::new("cat").arg("/proc/self/status"));
    let ours = output(&mut gpurun(&[
        "--device",
        "soft",
        "cat",
        "/proc/self/status",
    ]));
    assert_eq!(masks(text(&plain.stdout)).len(), 2);
    assert_eq!(masks(text(&ours.stdout)), masks(text(&plain.stdout)));

    // Who ignores the ends of its children starts us so, and we notice our program's end all the same.
    let ignoring = |program: &Command| {
        let mut command = Command::new("env");
        command.arg("--ignore-signal=CHLD");
        command.arg(program.get_program()).args(program.get_args());
        output(&mut command)
    };
    let mut cat = Command::new("cat");
    let plain = ignoring(cat.arg("/proc/self/status"));
    let before = masks(text(&plain.stdout));
    assert_ne!(before[1] & 1 << (Signal::CHILD.as_raw() - 1), 0, "ignored");
    let status = ["--device", "soft", "cat", "/proc/self/status"];
    assert_eq!(masks(text(&ignoring(&gpurun(&status)).stdout)), before);
    let failing = gpurun(&["--device", "soft", "sh", "-c", "exit 3"]);
    assert_eq!(ignoring(&failing).status.code(), Some(3));
}

/// A program in a session of its own, on a terminal; `script` is the terminal.
fn on_a_terminal(program: &str) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let ours = gpurun(&["--device", "soft", "sh", "-c", program]);
    let words = ours.get_args().map(|word| word.to_str().expect("text"));
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let path = ours.get_program().to_str().expect("text");
    let mut terminal = Command::new("script")
        .args([
            "-qefc",
            &format!("exec {path} {}", words.join(" ")),
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("script");
    let output = BufReader::new(terminal.stdout.take().expect("stdout"));
    (terminal, output)
}

#[test]
fn a_terminal_that_hangs_up_ends_the_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let path = told.display();
    // The end of this shell is told by the pipe that nobody else has.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &told,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    let program = format!("exec sleep 100 >{path}");
    let (mut terminal, _output) = on_a_terminal(&program);
    let mut pipe = std::fs::File::open(&told).expect("the program has begun");
    let begin = Instant::now();
    terminal.kill().expect("killed");
    terminal.wait().expect("its status");
    pipe.read_to_end(&mut Vec::new()).expect("the end");
    assert!(begin.elapsed() < Duration::from_secs(50), "it slept on");
}

#[test]
fn a_program_that_its_terminal_stops_stops_us() {
    let script = "trap 'exit 5' CONT; echo ready; kill -TSTP $$; exit 6";
    let output = signalled(true, script, |process| {
        let stopped = rustix::process::waitid(
            rustix::process::WaitId::Pid(process),
            rustix::process::WaitIdOptions::STOPPED,
        );
        assert!(stopped.expect("waited").is_some());
        kill_process(process, Signal::CONT).expect("sent");
    });
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn a_killed_launcher_takes_its_server_and_its_program_with_it() {
    let mut command = gpurun(&[
        "--device",
        "soft",
        "sh",
        "-c",
        "echo $GPURUN_SERVER; exec sleep 30",
    ]);
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("gpurun");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("stdout"));
    output.read_line(&mut line).expect("a line");
    let socket = PathBuf::from(line.trim().strip_prefix("unix:").expect("a socket"));
    let begin = Instant::now();
    child.kill().expect("killed");
    child.wait().expect("its status");
    // The program was the last that held its output.
    output.read_to_end(&mut Vec::new()).expect("the end");
    assert!(begin.elapsed() < Duration::from_secs(20), "it slept on");
    let end = Instant::now() + Duration::from_secs(10);
    while socket.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!socket.exists(), "the server has ended");
    let _ = std::fs::remove_dir(socket.parent().expect("a directory"));
}

#[test]
fn list_as_table_and_as_json() {
    let server = Server::start();
    let table = output(&mut gpurun(&["list", "--server", &server.address]));
    assert!(table.status.success());
    let table = text(&table.stdout);
    assert!(
        table.contains("Fake Device 1") && table.contains("SOFTWARE") && table.contains("16384"),
        "{table}"
    );

    let json = output(&mut gpurun(&[
        "--server",
        &format!("127.0.0.1:1,{}", server.address),
        "list",
        "--json",
    ]));
    assert!(text(&json.stderr).contains("cannot reach tcp://127.0.0.1:1"));
    let devices: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(devices[1]["name"], "Fake Device 1");
    assert_eq!(devices[0]["cuda_version"], "13.1");
    assert_eq!(devices[0]["server"], server.address.as_str());

    let private = output(&mut gpurun(&["--device", "soft", "list"]));
    assert!(text(&private.stdout).contains("this machine"));
    let nobody = output(&mut gpurun(&["list", "--server", "127.0.0.1:1"]));
    assert_eq!(nobody.status.code(), Some(120));
}

#[test]
fn version_and_help() {
    assert!(text(&output(&mut gpurun(&["version"])).stdout).starts_with("gpurun "));
    let help = output(&mut gpurun(&["--help"]));
    assert!(help.status.success() && text(&help.stdout).contains("Examples:"));
}

#[test]
fn a_private_server_that_cannot_start_says_why() {
    let output = output(&mut gpurun(&["--device", "gpu", "true"]));
    if output.status.success() {
        return; // This machine has a GPU.
    }
    assert_eq!(output.status.code(), Some(120));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("no device to serve") && errors.contains("did not start"),
        "{errors}"
    );
}
