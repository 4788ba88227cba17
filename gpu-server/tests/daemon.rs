//! The daemon as a process: what it listens on, what it answers, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use protocol::address::Address;
use protocol::connect::{self, ConnectError};
use protocol::hello::{DeviceKind, DeviceRequest, Hello, Intent, RefusalCode};
use protocol::transport::Patience;
use rustix::process::{Pid, Signal, kill_process};

/// The stand-in driver, compiled once; with `shim`, the one that carries our client's mark.
fn fake_driver(shim: bool) -> PathBuf {
    let folder = test_scratch::shared(env!("CARGO_TARGET_TMPDIR"), "drivers", |folder| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fake_driver.rs");
        for (name, options) in [
            ("libfake_driver.so", [].as_slice()),
            ("libfake_shim.so", &["--cfg=shim"]),
        ] {
            test_scratch::compile_library(&source, &folder.join(name), options);
        }
    });
    folder.join(if shim {
        "libfake_shim.so"
    } else {
        "libfake_driver.so"
    })
}

fn command(driver: &Path, listen: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
    command.arg("serve").arg("--driver").arg(driver);
    for address in listen {
        command.args(["--listen", address]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env_remove("GPURUN_LOG").env_remove("RUST_LOG");
    command
}

/// A daemon that listens.
struct Daemon {
    child: Child,
    addresses: Vec<Address>,
}

impl Daemon {
    fn start(mut command: Command, listeners: usize) -> Self {
        let mut child = command.spawn().expect("gpu-server");
        let output = child.stdout.take().expect("stdout");
        let addresses: Vec<Address> = BufReader::new(output)
            .lines()
            .take(listeners)
            .map(|line| {
                let line = line.expect("a line");
                let address = line.strip_prefix("listening on ").expect("an address");
                address.parse().expect("an address")
            })
            .collect();
        assert_eq!(addresses.len(), listeners, "{}", errors(&mut child));
        Self { child, addresses }
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        kill_process(process, signal).expect("signalled");
    }

    fn end(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let log = errors(&mut self.child);
        (self.child.wait().expect("its status"), log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn errors(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut text).expect("text");
    }
    text
}

fn failure(mut command: Command) -> String {
    let output = command.output().expect("gpu-server");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn snapshots_over_both_transports_and_a_clean_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let unix = format!("unix:{}", path.display());
    let daemon = Daemon::start(
        command(&fake_driver(false), &["tcp://127.0.0.1:0", &unix]),
        2,
    );
    for address in &daemon.addresses {
        let snapshot = connect::fetch_snapshot(address).expect("a snapshot");
        let server = snapshot.server.as_ref().expect("a server");
        assert_eq!(
            (server.driver_version, server.device_kind()),
            (13010, DeviceKind::Nvidia)
        );
        assert_eq!(snapshot.devices.len(), 2);
        let device = &snapshot.devices[1];
        assert_eq!((device.name.as_str(), device.pci_bus), ("Fake Device 1", 2));
        let peers = [device.reachable_peers, device.atomic_peers];
        assert_eq!(peers, [Some(0b01); 2], "it reaches the first one");
        assert_eq!((device.compute_major, device.compute_minor), (8, 6));
        assert_eq!(
            (&device.uuid[..], device.total_memory),
            (&[2; 16][..], 16 << 30)
        );
        assert_eq!(device.attributes[&16], 1);
        assert_eq!(device.attributes[&83], 1, "managed memory is served");
        assert_eq!(device.attributes[&88], 0, "pageable memory is not reached");
        assert!(!device.attributes.contains_key(&141));
    }
    let (status, log) = daemon.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!path.exists(), "the socket is removed");
}

/// As of parts of devices a driver may refuse it.
#[test]
fn a_driver_that_says_nothing_of_peers_is_served() {
    let mut command = command(&fake_driver(false), &["tcp://127.0.0.1:0"]);
    command.env("FAKE_PEERS", "1");
    let daemon = Daemon::start(command, 1);
    let snapshot = connect::fetch_snapshot(&daemon.addresses[0]).expect("a snapshot");
    let peers = snapshot.devices.iter().map(|device| device.reachable_peers);
    assert_eq!(peers.collect::<Vec<_>>(), [None, None]);
}

#[test]
fn a_session_is_answered_by_a_worker_and_logged() {
    let daemon = Daemon::start(command(&fake_driver(false), &["tcp://127.0.0.1:0"]), 1);
    // The stand-in driver cannot serve a session, so the worker refuses, or ends.
    let error = connect::open_session(
        &daemon.addresses[0],
        &Hello::new(Intent::Session),
        Patience::default(),
    );
    let error = error.expect_err("no session");
    assert!(!error.is_unreachable(), "{error}");
    let greedy = Hello {
        devices: Some(DeviceRequest {
            count: 3,
            ..DeviceRequest::default()
        }),
        ..Hello::new(Intent::Session)
    };
    match connect::open_session(&daemon.addresses[0], &greedy, Patience::default()) {
        Err(ConnectError::Refused { code, message, .. }) => {
            assert_eq!(code, RefusalCode::NoDevice);
            assert!(
                message.starts_with("no server has 3 devices; largest: "),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Give the worker's end the time to be noticed.
    std::thread::sleep(Duration::from_millis(300));
    let (status, log) = daemon.end();
    assert_eq!(status.code(), Some(0));
    assert!(
        log.contains("session begun") && log.contains("session over"),
        "{log}"
    );
}

#[test]
fn silent_and_hostile_clients_stop_nobody() {
    let daemon = Daemon::start(command(&fake_driver(false), &["tcp://127.0.0.1:0"]), 1);
    let Address::Tcp { host, port } = &daemon.addresses[0] else {
        panic!("not TCP")
    };
    let connect = || TcpStream::connect((host.as_str(), *port)).expect("connected");
    let silent: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    let begin = Instant::now();
    connect::fetch_snapshot(&daemon.addresses[0]).expect("a snapshot beside 200 silent clients");
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );

    let mut other = connect();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    // Ended or reset: it is not answered.
    let _ = other.read_to_end(&mut answer);
    assert!(answer.is_empty());

    let mut giant = connect();
    giant
        .write_all(b"GPURUN\x00\x01\xff\xff\xff\xff")
        .expect("sent");
    let mut answer = Vec::new();
    let _ = giant.read_to_end(&mut answer);
    assert!(answer.starts_with(b"GPURUN"), "it is refused with a reason");
    drop(silent);
    connect::fetch_snapshot(&daemon.addresses[0]).expect("a snapshot afterwards");
}

#[test]
fn what_cannot_be_served_is_an_error_that_says_so() {
    let driver = fake_driver(false);
    let error = failure(command(&driver, &["tcp://0.0.0.0:0"]));
    assert!(
        error.contains("gpu-server: will not listen on tcp://0.0.0.0:0"),
        "{error}"
    );
    assert!(error.contains("--insecure"), "{error}");

    let error = failure(command(&fake_driver(true), &["tcp://127.0.0.1:0"]));
    assert!(
        error.contains("gpurun's own client, not a driver"),
        "{error}"
    );

    let mut without = command(&driver, &["tcp://127.0.0.1:0"]);
    without.env("FAKE_DEVICES", "0");
    assert!(failure(without).contains("this driver has no device"));

    let mut failing = command(&driver, &["tcp://127.0.0.1:0"]);
    failing.env("FAKE_INIT", "100");
    assert!(failure(failing).contains("cuInit failed with CUresult 100"));

    let mut crashing = command(&driver, &["tcp://127.0.0.1:0"]);
    crashing.env("FAKE_CRASH", "1");
    let error = failure(crashing);
    assert!(error.contains("the probe failed (signal: 6"), "{error}");

    let error = failure(command(
        Path::new("/nowhere/libcuda.so.1"),
        &["tcp://127.0.0.1:0"],
    ));
    assert!(
        error.contains("/nowhere/libcuda.so.1: not there"),
        "{error}"
    );
}

#[test]
fn insecure_listens_anywhere() {
    let mut insecure = command(&fake_driver(false), &["tcp://0.0.0.0:0"]);
    insecure.arg("--insecure");
    let daemon = Daemon::start(insecure, 1);
    let Address::Tcp { port, .. } = daemon.addresses[0] else {
        panic!("not TCP")
    };
    let address = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    };
    connect::fetch_snapshot(&address).expect("a snapshot");
}

#[test]
fn it_ends_with_its_parent() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let server = format!(
        "{} serve --exit-with-parent --driver {} --listen unix:{} & wait",
        env!("CARGO_BIN_EXE_gpu-server"),
        fake_driver(false).display(),
        path.display()
    );
    let mut shell = Command::new("sh")
        .args(["-c", &server])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    let output = shell.stdout.take().expect("stdout");
    BufReader::new(output).read_line(&mut line).expect("a line");
    assert!(line.starts_with("listening on unix:"), "{line}");
    shell.kill().expect("killed");
    shell.wait().expect("its status");
    let end = Instant::now() + Duration::from_secs(10);
    while path.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!path.exists(), "the server ended and removed its socket");
}
