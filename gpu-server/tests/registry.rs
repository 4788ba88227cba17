//! A daemon is killed and another one started: the worker serves its client on, is found again, and does what the new daemon says.
//!
//! The daemons here are this program, started again by its tests: they start a worker as the real one does, and say what the registry tells
//! them. Needs a driver, as `worker.rs` does.

use std::io::{BufRead, BufReader, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use driver_api::id::StreamId;
use driver_api::wire::{Request, request as r, shape_hash};
use gpu_server::gate::{Gate, Share};
use gpu_server::inherited;
use gpu_server::order::Descriptors;
use gpu_server::pool::store::Store;
use gpu_server::pool::{LeaseId, Moment};
use gpu_server::registry::{DIRECTORY, Event, Peers, Registry};
use prost::Message;
use protocol::frame::{CallFlags, CallRecord, FrameHeader, FrameKind, RecordBuffer, Replies};
use protocol::hello::{
    self, Answer, DescriptorOrder, DeviceKind, Hello, HelloReply, Identity, Intent, LeaseOrder,
    ProbeReport, SliceOrder, WorkerOrder,
};
use protocol::limits::HELLO_REPLY_TIMEOUT;
use protocol::transport::{Connection, HandshakeStream, Patience};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Where a daemon of the test has its state.
const STATE: &str = "GPURUN_TEST_REGISTRY";
/// The client's connection, in the first daemon.
const CLIENT: &str = "GPURUN_TEST_CLIENT";
/// Says that workers end with their daemon.
const WITHOUT_STATE: &str = "GPURUN_TEST_WITHOUT_STATE";
/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);
const CHUNK: u64 = 2 << 20;
const STREAM: StreamId = StreamId(3);
const SESSION: u64 = 4711;

fn driver() -> PathBuf {
    let named = std::env::var_os("GPURUN_TEST_DRIVER").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_BIN_EXE_gpu-server")).with_file_name("libsoft_gpu.so");
    let found = named.or_else(|| beside.exists().then_some(beside));
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/libsoft_gpu.so");
    let found = found.or_else(|| built.exists().then_some(built));
    found.expect("a driver: run scripts/build, or set GPURUN_TEST_DRIVER")
}

fn lease() -> LeaseId {
    LeaseId::from_bytes([5; 10])
}

/// A daemon's process, and what it says.
struct Daemon {
    child: Child,
    orders: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Daemon {
    fn start(state: &Path, client: Option<OwnedFd>) -> Self {
        let command = Command::new(std::env::current_exe().expect("this program"));
        Self::start_by(command, state, client)
    }

    fn start_by(mut command: Command, state: &Path, client: Option<OwnedFd>) -> Self {
        command
            .args(["--exact", "a_daemon", "--ignored", "--nocapture"])
            .env(STATE, state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(client) = client {
            let mapping = FdMapping {
                parent_fd: client,
                child_fd: 10,
            };
            command.env(CLIENT, "10");
            command.fd_mappings(vec![mapping]).expect("a descriptor");
        }
        let mut child = command.spawn().expect("a daemon");
        let orders = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || read_lines(output, &tell));
        Self {
            child,
            orders,
            lines,
        }
    }

    /// Waits for a line that begins so; its words.
    fn says(&self, word: &str) -> Vec<String> {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no '{word}': {error}"));
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            if words[0] == word {
                return words;
            }
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("told");
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

fn read_lines(output: ChildStdout, tell: &mpsc::Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if tell.send(line).is_err() {
            return;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "started by another test"]
fn a_daemon() {
    let state = PathBuf::from(std::env::var_os(STATE).expect("a state directory"));
    let (_store, stored) = Store::open(&state).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (events, mut incoming) = tokio::sync::mpsc::channel(16);
        let directory = state.join(DIRECTORY);
        let registry = match std::env::var_os(WITHOUT_STATE) {
            Some(_) => Registry::private(events),
            None => Registry::open(&directory, stored.key, Peers::own(), events).expect("begun"),
        };
        if let Ok(client) = std::env::var(CLIENT) {
            let client = inherited::take(client.parse().expect("a number")).expect("a client");
            start_worker(&registry, client);
        }
        say("ready");
        let (order, mut orders) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let _ = order.send(line);
            }
        });
        loop {
            tokio::select! {
                Some(event) = incoming.recv() => note(event),
                Some(reason) = orders.recv() => {
                    assert!(registry.end(SESSION, reason));
                }
                else => return,
            }
        }
    });
}

fn say(text: &str) {
    println!("\n{text}");
}

fn note(event: Event) {
    match event {
        Event::Registered(registered) => {
            let facts = &registered.facts;
            let (lease, tenant) = (facts.lease.as_ref(), facts.tenant.as_ref());
            let lease = lease.map_or("-", LeaseId::as_str);
            let tenant = tenant.map_or("-", |tenant| tenant.as_str());
            let program = facts.holder.program.clone();
            let gate = registered.descriptors.gates.into_iter().next();
            let gate = Gate::open(gate.expect("a gate")).expect("a gate of ours");
            let place = gpu_server::gate::Place::from_number(facts.gate_places[0]);
            // The share that the first daemon has given is still there: to be taken back once.
            gate.dismiss(place);
            let process = registered.process;
            let session = facts.session;
            registered.answer.accept();
            say(&format!(
                "registered {session} {lease} {tenant} {program} {process}"
            ));
        }
        Event::Counts {
            session,
            tenant,
            counts,
        } => {
            assert_eq!(tenant, "ann".parse().ok());
            say(&format!(
                "counts {session} {} {}",
                counts.calls, counts.bytes_received
            ));
        }
        Event::Gathered => say("gathered"),
        Event::Gone { session, is_child } => say(&format!("gone {session} {is_child}")),
    }
}

/// The software GPU as it looks now.
fn probe(driver: &Path) -> ProbeReport {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
    command.args(["probe", "--driver"]).arg(driver);
    let output = command.output().expect("a probe");
    hello::read(&mut output.stdout.as_slice()).expect("a report")
}

fn worker_order(gate_place: u32, driver: &Path) -> WorkerOrder {
    let device = probe(driver).devices.remove(0);
    let mut hello = Hello::new(Intent::Session);
    hello.shape_hash = shape_hash().to_vec();
    hello.identity = Some(Identity {
        program: "train".to_owned(),
        ..Identity::default()
    });
    let slice = SliceOrder {
        ordinal: device.ordinal,
        uuid: device.uuid,
        memory: device.total_memory,
        compute: 0.5,
        usable_memory: device.total_memory,
        gate_place,
        ..SliceOrder::default()
    };
    WorkerOrder {
        hello: Some(hello),
        version: 1,
        session: SESSION,
        driver: driver.to_str().expect("a path in UTF-8").to_owned(),
        device_kind: DeviceKind::Software.into(),
        silence_grace_seconds: 300,
        parent: std::process::id(),
        lease: Some(LeaseOrder {
            id: lease().to_string(),
            tenant: "ann".to_owned(),
            slices: vec![slice],
            place: 0,
            ..LeaseOrder::default()
        }),
        ..WorkerOrder::default()
    }
}

/// Starts a worker, as the daemon does.
fn start_worker(registry: &Registry, client: OwnedFd) {
    let gate = Gate::create().expect("a gate");
    let place = gate.admit(Share::new(0.5, false)).expect("a place");
    let mut order = worker_order(place.to_number(), &driver());
    let mut descriptors = Descriptors {
        gates: vec![gate.descriptor().try_clone_to_owned().expect("a copy")],
        ..Descriptors::default()
    };
    let now = Moment::now();
    let prepared = registry
        .prepare(&mut order, &mut descriptors, None, "a test", now)
        .expect("prepared");
    let control = descriptors.control.take().expect("a connection");
    order.descriptors = Some(DescriptorOrder {
        ledger: None,
        gates: vec![5],
        control: Some(6),
        listener: descriptors.listener.is_some().then_some(7),
    });
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&order.encode_to_vec()).expect("written");
    std::io::Seek::rewind(&mut file).expect("rewound");
    let gate = descriptors.gates.remove(0);
    let listener = descriptors.listener.take();
    let passed = [(client, 3), (file.into(), 4), (gate, 5), (control, 6)];
    let passed = passed
        .into_iter()
        .chain(listener.map(|listener| (listener, 7)));
    let mappings = passed.map(|(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
    command
        .args(["worker", "--session", &SESSION.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .fd_mappings(mappings.collect())
        .expect("descriptors");
    let mut child = command.spawn().expect("a worker");
    registry.adopt(prepared, child.id()).expect("adopted");
    say(&format!("worker {}", child.id()));
    std::thread::spawn(move || child.wait());
}

/// The client of the one session.
struct Client {
    connection: Connection,
    sequence: u64,
    calls: u64,
    context: u32,
}

impl Client {
    fn new(socket: UnixStream) -> Self {
        let mut stream = HandshakeStream::new(socket.as_fd(), Instant::now() + HELLO_REPLY_TIMEOUT);
        let reply: HelloReply = hello::read(&mut stream).expect("a reply");
        assert!(
            matches!(reply.answer, Some(Answer::Accepted(_))),
            "{reply:?}"
        );
        let connection = Connection::from_fd(socket.into(), Patience::default());
        Self {
            connection: connection.expect("a connection"),
            sequence: 0,
            calls: 0,
            context: 0,
        }
    }

    fn call<R: Request>(&mut self, flags: CallFlags, request: &R, rest: &[u8]) -> u64 {
        let record = CallRecord {
            number: R::NUMBER,
            flags,
            length: 0,
            thread: 1,
            context: self.context,
        };
        let mut records = RecordBuffer::new();
        records
            .push_parts(&record, &[request.as_bytes(), rest])
            .expect("fits");
        self.sequence += 1;
        let mut header = FrameHeader::new(FrameKind::Calls);
        header.sequence = self.sequence;
        let parts = [IoSlice::new(records.as_bytes())];
        self.connection.sender.send(&header, &parts).expect("sent");
        self.calls += 1;
        self.calls
    }

    fn receive(&mut self) -> (FrameKind, Vec<u8>) {
        let receiver = &mut self.connection.receiver;
        let header = loop {
            match receiver.poll_header().expect("a header") {
                Some(header) => break header,
                None => assert!(receiver.wait(Some(LIMIT)).expect("alive")),
            }
        };
        let mut bytes = vec![0; header.length as usize];
        receiver.read_payload(&mut bytes).expect("a payload");
        (header.kind, bytes)
    }

    fn ask<R: Request>(&mut self, request: &R, rest: &[u8]) -> Vec<u8> {
        let call = self.call(CallFlags::ASKED, request, rest);
        loop {
            let (kind, bytes) = self.receive();
            assert!(kind != FrameKind::Goodbye, "{bytes:?}");
            if kind != FrameKind::Replies {
                continue;
            }
            let mut replies = Replies::new(&bytes).map(|item| item.expect("a reply"));
            if let Some((record, body)) = replies.find(|(record, _)| record.call == call) {
                assert_eq!(record.result, 0, "{} failed", R::NUMBER);
                return body.to_vec();
            }
        }
    }

    /// Waits for the worker's goodbye.
    fn goodbye(&mut self) -> String {
        loop {
            let (kind, bytes) = self.receive();
            if kind == FrameKind::Goodbye {
                return String::from_utf8(bytes).expect("a text");
            }
        }
    }

    /// Makes a context, a stream and memory; its address.
    fn begin(&mut self) -> u64 {
        self.ask(&r::GpurunPrimaryRetain::new(0, 1, 0), &[]);
        self.context = 1;
        self.ask(&r::GpurunStreamCreate::new(STREAM.0, 1, 0), &[]);
        let mapped = self.ask(&r::GpurunMemoryMap::new(0, CHUNK), &[]);
        u64::from_le_bytes(mapped.try_into().expect("an address"))
    }

    /// Copies these bytes there and back.
    fn copy(&mut self, address: u64, bytes: &[u8]) {
        let length = bytes.len() as u64;
        let there = r::GpurunCopyToDevice::new(address, length, 0, STREAM);
        self.call(CallFlags::NONE, &there, bytes);
        let back = r::GpurunCopyFromDevice::new(address, length, 0, STREAM);
        assert_eq!(self.ask(&back, &[]), bytes);
    }
}

/// Waits for a process that is not ours.
struct Watched(OwnedFd);

impl Watched {
    fn new(process: &str) -> Self {
        let process = process.parse().ok().and_then(Pid::from_raw);
        let opened = pidfd_open(process.expect("a process"), PidfdFlags::empty());
        Self(opened.expect("it is alive"))
    }

    fn ends_within(&self, time: Duration) -> bool {
        let time = Timespec::try_from(time).expect("a time");
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut polled, Some(&time)).expect("polled") > 0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let kill = rustix::process::Signal::KILL;
        // It fails if it has ended, as it should have.
        let _ = rustix::process::pidfd_send_signal(&self.0, kill);
    }
}

/// A session that a daemon has started and that works.
fn begun(state: &Path) -> (Daemon, Watched, Client, u64) {
    let command = Command::new(std::env::current_exe().expect("this program"));
    begun_by(command, state)
}

fn begun_by(command: Command, state: &Path) -> (Daemon, Watched, Client, u64) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let first = Daemon::start_by(command, state, Some(theirs.into()));
    let worker = Watched::new(&first.says("worker")[1]);
    let mut client = Client::new(ours);
    let address = client.begin();
    client.copy(address, b"before");
    (first, worker, client, address)
}

#[test]
fn a_session_outlives_its_daemon_and_is_found_by_the_next() {
    let state = tempfile::tempdir().expect("a directory");
    let (mut first, worker, mut client, address) = begun(state.path());
    first.kill();
    client.copy(address, b"while there is no daemon");
    let mut second = Daemon::start(state.path(), None);
    let words = second.says("registered");
    assert_eq!(words[1], SESSION.to_string());
    assert_eq!(words[2], lease().as_str());
    assert_eq!(words[3..5], ["ann", "train"]);
    client.copy(address, b"with another daemon");
    let calls: u64 = second.says("counts")[2].parse().expect("a number");
    assert!(calls > 0);
    second.kill();
    let mut third = Daemon::start(state.path(), None);
    assert_eq!(third.says("registered")[5], words[5], "the same process");
    third.says("gathered");
    client.copy(address, b"and another");
    third.order("the test is over");
    assert_eq!(client.goodbye(), "the test is over");
    assert_eq!(
        third.says("gone")[1..],
        [SESSION.to_string(), "false".to_owned()]
    );
    assert!(worker.ends_within(LIMIT));
    let left = std::fs::read_dir(state.path().join(DIRECTORY)).expect("read");
    assert_eq!(left.count(), 0, "nobody waits for it any more");
}

#[test]
fn a_session_ends_with_its_client_whether_there_is_a_daemon_or_not() {
    let state = tempfile::tempdir().expect("a directory");
    let (mut first, worker, client, _) = begun(state.path());
    first.kill();
    client.connection.interrupt.shutdown();
    assert!(worker.ends_within(LIMIT), "the worker lives on");
}

#[test]
fn a_daemon_sees_how_its_own_session_ends_and_what_it_did() {
    let state = tempfile::tempdir().expect("a directory");
    let (first, worker, mut client, address) = begun(state.path());
    client.copy(address, &[7; 5000]);
    client.connection.interrupt.shutdown();
    let mut bytes = 0;
    let mut calls = 0;
    // The worker tells it at its end, if not before.
    while calls < client.calls {
        let words = first.says("counts");
        calls += words[2].parse::<u64>().expect("a number");
        bytes += words[3].parse::<u64>().expect("a number");
    }
    assert_eq!(calls, client.calls);
    assert!(bytes > 5000);
    assert_eq!(
        first.says("gone")[1..],
        [SESSION.to_string(), "true".to_owned()]
    );
    assert!(worker.ends_within(LIMIT));
}

#[test]
fn a_stopped_worker_that_must_end_is_killed() {
    let state = tempfile::tempdir().expect("a directory");
    let (mut first, worker, _client, _) = begun(state.path());
    let stop = rustix::process::Signal::STOP;
    rustix::process::pidfd_send_signal(&worker.0, stop).expect("stopped");
    first.order("now");
    assert_eq!(first.says("gone")[1], SESSION.to_string());
    assert!(worker.ends_within(LIMIT));
}

#[test]
fn without_a_state_directory_a_session_is_ended_with_a_reason_and_ends_with_its_daemon() {
    for is_killed in [false, true] {
        let state = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(WITHOUT_STATE, "1");
        let (mut daemon, worker, mut client, _) = begun_by(command, state.path());
        if is_killed {
            daemon.kill();
        } else {
            daemon.order("its lease is over");
            assert_eq!(client.goodbye(), "its lease is over");
            assert_eq!(daemon.says("gone")[2], "true");
        }
        assert!(worker.ends_within(LIMIT));
    }
}
