//! Slices of memory, enforced: real programs with our library in front, real workers with a lease's ledger, on the software GPU.
//!
//! What: the test is the server's daemon as far as a lease needs one: it reads a hello, and starts a worker with an order and a ledger. Needs the
//! software GPU (`GPURUN_TEST_DRIVER`, or where `scripts/build` puts it) and our library (`GPURUN_TEST_SHIM`, likewise).

#[path = "slices/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use gpu_server::ledger::{Ledger, measure};
use prost::Message;
use protocol::hello::{
    self, Answer, DescriptorOrder, DeviceKind, DeviceSnapshot, Hello, HelloReply, Intent,
    LeaseOrder, RefusalCode, SliceOrder, WorkerOrder,
};

const MIB: u64 = 1 << 20;
/// For anything that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

fn built(variable: &str, name: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let built = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/release")
        .join(name);
    let found = named.unwrap_or(built);
    found
        .canonicalize()
        .unwrap_or_else(|_| panic!("{name}: run scripts/build, or set {variable}"))
}

/// The software GPU of this test, shared by all that it starts, and of no other.
struct Device {
    segment: String,
    memory: u64,
    hostile: &'static str,
    snapshot: OnceLock<DeviceSnapshot>,
}

impl Device {
    fn new(memory: u64) -> Self {
        Self::hostile(memory, "0:")
    }

    fn hostile(memory: u64, hostile: &'static str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            segment: format!("gpurun-test-slices-{}-{number}", std::process::id()),
            memory,
            hostile,
            snapshot: OnceLock::new(),
        }
    }

    fn order(&self, hello: Hello, session: u64) -> WorkerOrder {
        let driver = built("GPURUN_TEST_DRIVER", "libsoft_gpu.so");
        WorkerOrder {
            hello: Some(hello),
            version: 1,
            session,
            driver: driver.to_str().expect("a path in UTF-8").to_owned(),
            device_kind: DeviceKind::Software.into(),
            silence_grace_seconds: 300,
            parent: std::process::id(),
            ..WorkerOrder::default()
        }
    }

    fn start(&self, order: &WorkerOrder, connection: OwnedFd, ledger: Option<OwnedFd>) -> Child {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&order.encode_to_vec()).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mapping = |parent_fd: OwnedFd, child_fd| FdMapping {
            parent_fd,
            child_fd,
        };
        let mut mappings = vec![mapping(connection, 3), mapping(file.into(), 4)];
        mappings.extend(ledger.map(|ledger| mapping(ledger, 5)));
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
        command
            .args(["worker", "--session", &order.session.to_string()])
            .env("GPURUN_SOFT_SEGMENT", &self.segment)
            .env("GPURUN_SOFT_MEMORY", self.memory.to_string())
            .env("GPURUN_SOFT_HOSTILE", self.hostile)
            .stdin(Stdio::null())
            .fd_mappings(mappings)
            .expect("descriptors");
        command.spawn().expect("a worker")
    }

    /// What a session without a lease is told.
    fn snapshot(&self) -> &DeviceSnapshot {
        self.snapshot.get_or_init(|| {
            let order = self.order(session_hello(), 1);
            match self.answer(&order, None) {
                Answer::Accepted(accepted) => accepted.devices[0].clone(),
                answer => panic!("{answer:?}"),
            }
        })
    }

    /// Starts a worker, and takes its answer.
    fn answer(&self, order: &WorkerOrder, ledger: Option<OwnedFd>) -> Answer {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let mut worker = self.start(order, theirs.into(), ledger);
        let reply: HelloReply = hello::read(&mut &ours).expect("a reply");
        drop(ours);
        worker.wait().expect("its end");
        reply.answer.expect("an answer")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("/dev/shm/{}", self.segment));
    }
}

fn session_hello() -> Hello {
    let mut hello = Hello::new(Intent::Session);
    hello.shape_hash = driver_api::wire::shape_hash().to_vec();
    hello
}

/// A lease of a slice of a device, and who serves its programs.
struct Lease {
    device: Arc<Device>,
    ledger: Arc<Ledger>,
    folder: tempfile::TempDir,
    order: LeaseOrder,
    workers: Arc<Mutex<Vec<u32>>>,
}

impl Lease {
    fn new(device: &Arc<Device>, bytes: u64) -> Self {
        let lease = Self {
            device: Arc::clone(device),
            ledger: Arc::new(Ledger::create(&[bytes]).expect("a ledger")),
            folder: tempfile::tempdir().expect("a folder"),
            order: lease_order(device, bytes),
            workers: Arc::default(),
        };
        lease.serve();
        lease
    }

    fn address(&self) -> PathBuf {
        self.folder.path().join("server.sock")
    }

    /// Starts a worker for everybody who comes, and gives back what it held when it has ended.
    fn serve(&self) {
        let listener = UnixListener::bind(self.address()).expect("a socket");
        let (device, ledger) = (Arc::clone(&self.device), Arc::clone(&self.ledger));
        let (order, workers) = (self.order.clone(), Arc::clone(&self.workers));
        std::thread::spawn(move || {
            for (number, connection) in (1..).zip(listener.incoming()) {
                let mut connection = connection.expect("a connection");
                let hello: Hello = hello::read(&mut connection).expect("a hello");
                let order = with_lease(device.order(hello, number), &order);
                let copy = ledger.descriptor().try_clone_to_owned().expect("a copy");
                let mut worker = device.start(&order, connection.into(), Some(copy));
                workers.lock().expect("workers").push(worker.id());
                let ledger = Arc::clone(&ledger);
                std::thread::spawn(move || {
                    worker.wait().expect("its end");
                    ledger.reap();
                });
            }
        });
    }

    /// Starts a program of the lease.
    fn start(&self, role: &str) -> Program {
        Program::start(&self.address(), role)
    }

    /// Runs programs to their ends; meanwhile the slice must never be exceeded. The most that was seen.
    fn watch(&self, mut programs: Vec<Program>) -> u64 {
        let end = Instant::now() + PATIENCE;
        let mut most = 0;
        while !programs.is_empty() {
            assert!(Instant::now() < end, "they do not end");
            let used = self.ledger.used(0);
            assert!(used <= self.ledger.limit(0), "{used} are used");
            most = most.max(used);
            programs.retain_mut(|program| match program.status() {
                Some(status) => {
                    assert!(status.success(), "{}: {status}", program.role);
                    false
                }
                None => true,
            });
        }
        most
    }

    fn run(&self, role: &str) {
        self.watch(vec![self.start(role)]);
    }

    /// So much is taken, or soon.
    fn assert_used(&self, bytes: u64) {
        let end = Instant::now() + PATIENCE;
        while self.ledger.used(0) != bytes {
            assert!(Instant::now() < end, "{} are used", self.ledger.used(0));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn assert_empty(&self) {
        self.assert_used(0);
    }
}

fn lease_order(device: &Device, bytes: u64) -> LeaseOrder {
    let slice = SliceOrder {
        uuid: device.snapshot().uuid.clone(),
        memory: bytes,
        usable_memory: bytes,
        compute: 1.0,
        ..SliceOrder::default()
    };
    LeaseOrder {
        id: "test".to_owned(),
        slices: vec![slice],
        ..LeaseOrder::default()
    }
}

fn with_lease(mut order: WorkerOrder, lease: &LeaseOrder) -> WorkerOrder {
    order.lease = Some(lease.clone());
    order.descriptors = Some(DescriptorOrder {
        ledger: Some(5),
        ..DescriptorOrder::default()
    });
    order
}

/// A program, ended when dropped.
struct Program {
    role: String,
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Program {
    fn start(server: &Path, role: &str) -> Self {
        let shim = built("GPURUN_TEST_SHIM", "libgpurun_cuda.so");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "a_program_of_a_lease", "--nocapture"])
            .env(program::ROLE, role)
            .env("GPURUN_SERVER", format!("unix:{}", server.display()))
            .env("LD_LIBRARY_PATH", shim.parent().expect("a folder"))
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("a program");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        Self {
            role: role.to_owned(),
            child,
            said,
        }
    }

    /// Waits until it has said that it is ready.
    fn ready(mut self) -> Self {
        let mut line = String::new();
        while self.said.read_line(&mut line).expect("a line") > 0 {
            if line.ends_with("SAYS ready\n") {
                return self;
            }
        }
        panic!("{}: {line}", self.role);
    }

    fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a status")?;
        if !status.success() {
            let mut line = String::new();
            while self.said.read_line(&mut line).is_ok_and(|count| count > 0) {}
            eprintln!("{}: {line}", self.role);
        }
        Some(status)
    }

    /// Lets it go on to its end.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{}: {status}", self.role);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What each of the programs runs; nothing in the test itself.
#[test]
fn a_program_of_a_lease() {
    if let Ok(role) = std::env::var(program::ROLE) {
        program::run(&role);
    }
}

#[test]
fn a_program_gets_all_of_its_slice_and_nothing_beyond() {
    let device = Arc::new(Device::new(256 * MIB));
    let lease = Lease::new(&device, 64 * MIB);
    lease.run(&format!("whole {} 0", 64 * MIB));
    lease.assert_empty();
}

#[test]
fn sixteen_programs_race_and_none_is_refused_what_fits() {
    let device = Arc::new(Device::new(1024 * MIB));
    // Each takes its part at most; so together they may take the whole slice, exactly.
    let part = 12 * MIB;
    let lease = Lease::new(&device, 16 * part);
    let programs = (0..16).map(|seed| lease.start(&format!("races {seed} {part} 400")));
    let most = lease.watch(programs.collect());
    assert!(most > part, "they did not race: {most}");
    lease.assert_empty();
}

#[test]
fn what_another_program_holds_idle_is_recalled_before_one_is_refused() {
    let device = Arc::new(Device::new(256 * MIB));
    let lease = Lease::new(&device, 32 * MIB);
    let idle: Vec<Program> = (0..3)
        .map(|_| lease.start(&format!("idles {}", 5 * MIB)).ready())
        .collect();
    // Each has given back all but a spare chunk.
    lease.assert_used(3 * 2 * MIB);
    lease.run(&format!("zeros {}", 32 * MIB));
    lease.assert_empty();
    for program in idle {
        program.finish();
    }
}

/// Its own thread does not come back from the wait: another has to answer.
#[test]
fn a_program_that_blocks_gives_back_what_is_idle() {
    // One that does not wait for a held stream of another context when it unmaps.
    let device = Arc::new(Device::hostile(256 * MIB, "0:unmap"));
    let lease = Lease::new(&device, 32 * MIB);
    let blocked = lease
        .start(&format!("idles_and_blocks {}", 5 * MIB))
        .ready();
    // A spare chunk, and one with what the held stream waits for.
    lease.assert_used(4 * MIB);
    lease.run(&format!("zeros {}", 30 * MIB));
    lease.assert_used(2 * MIB);
    drop(blocked);
    lease.assert_empty();
}

#[test]
fn memory_that_is_leaving_is_waited_for() {
    let device = Arc::new(Device::new(256 * MIB));
    let lease = Lease::new(&device, 64 * MIB);
    let first = lease.start(&format!("frees {}", 40 * MIB)).ready();
    lease.assert_used(42 * MIB);
    let wanted = lease.ledger.wanted();
    let mut second = lease.start(&format!("zeros {}", 60 * MIB));
    let end = Instant::now() + PATIENCE;
    while lease.ledger.wanted() == wanted {
        assert!(second.status().is_none(), "it did not wait");
        assert!(Instant::now() < end, "it does not ask");
    }
    first.finish();
    lease.watch(vec![second]);
}

#[test]
fn killed_programs_and_killed_workers_give_back() {
    let device = Arc::new(Device::new(256 * MIB));
    let lease = Lease::new(&device, 64 * MIB);
    let program = lease.start(&format!("holds {}", 60 * MIB)).ready();
    assert_eq!(lease.ledger.used(0), 60 * MIB);
    drop(program);
    lease.assert_empty();

    let program = lease.start(&format!("holds {}", 60 * MIB)).ready();
    let worker = *lease.workers.lock().expect("workers").last().expect("one");
    let worker = rustix::process::Pid::from_raw(worker.cast_signed()).expect("a process");
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).expect("killed");
    lease.assert_empty();
    drop(program);
    lease.run(&format!("whole {} 0", 64 * MIB));
}

#[test]
fn another_tenant_reads_zeros() {
    let device = Arc::new(Device::new(96 * MIB));
    let (one, other) = (Lease::new(&device, 48 * MIB), Lease::new(&device, 48 * MIB));
    let program = one.start(&format!("holds {}", 48 * MIB)).ready();
    drop(program);
    one.assert_empty();
    // Together they need what the first one has given back.
    let programs = [&one, &other].map(|lease| lease.start(&format!("zeros {}", 48 * MIB)));
    let [first, second] = programs;
    first.finish();
    second.finish();
}

#[test]
fn memory_is_wiped_where_the_order_says_so() {
    let device = Arc::new(Device::new(96 * MIB));
    let mut lease = Lease::new(&device, 48 * MIB);
    lease.folder = tempfile::tempdir().expect("a folder");
    lease.order.wipe = Some(true);
    lease.serve();
    lease.run(&format!("whole {} 0", 48 * MIB));
    lease.run(&format!("zeros {}", 48 * MIB));
}

#[test]
fn what_a_module_brings_counts() {
    let device = Arc::new(Device::new(256 * MIB));
    let lease = Lease::new(&device, 64 * MIB);
    let program = lease.start(&format!("module {}", 3 * MIB)).ready();
    let used = lease.ledger.used(0);
    assert!((3 * MIB..=6 * MIB).contains(&used), "{used}");
    program.finish();
    lease.assert_empty();
}

#[test]
fn a_slice_that_is_too_small_is_refused_naming_what_works() {
    let device = Arc::new(Device::new(256 * MIB));
    let lease = Lease::new(&device, 200 * MIB);
    let refused = |bytes: u64, context: u64, ledger: &Ledger| {
        let mut order = lease_order(&device, bytes);
        order.slices[0].context_memory = Some(context);
        let order = with_lease(device.order(session_hello(), 99), &order);
        let copy = ledger.descriptor().try_clone_to_owned().expect("a copy");
        match device.answer(&order, Some(copy)) {
            Answer::Refused(refused) => {
                assert_eq!(refused.code(), RefusalCode::TooSmall);
                refused.message
            }
            answer => panic!("{answer:?}"),
        }
    };
    let small = Ledger::create(&[64 * MIB]).expect("a ledger");
    let message = refused(64 * MIB, 100 * MIB, &small);
    assert!(
        message.contains("the least that works is 102 MiB"),
        "{message}"
    );
    let program = lease.start(&format!("holds {}", 150 * MIB)).ready();
    let message = refused(200 * MIB, 100 * MIB, &lease.ledger);
    assert!(message.contains("ask for 252 MiB"), "{message}");
    program.finish();
}

#[test]
fn a_context_of_the_software_gpu_takes_nothing() {
    let device = Device::new(64 * MIB);
    let driver = built("GPURUN_TEST_DRIVER", "libsoft_gpu.so");
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
        command.env("GPURUN_SOFT_SEGMENT", &device.segment);
        command
    };
    let measured = measure::context_bytes(program, &driver, 0);
    assert_eq!(measured.expect("measured"), 0);
    let none = measure::context_bytes(program, &driver, 99);
    assert!(none.is_err(), "{none:?}");
}

#[test]
fn contexts_count_inside_the_slice() {
    let device = Arc::new(Device::new(256 * MIB));
    let mut lease = Lease::new(&device, 64 * MIB);
    lease.folder = tempfile::tempdir().expect("a folder");
    lease.order.slices[0].context_memory = Some(10 * MIB);
    lease.serve();
    let program = lease.start(&format!("holds {}", 20 * MIB)).ready();
    assert_eq!(lease.ledger.used(0), 30 * MIB);
    // The other's 30, and its own context.
    lease.run(&format!("whole {} {}", 64 * MIB, 40 * MIB));
    program.finish();
    lease.assert_empty();
}
