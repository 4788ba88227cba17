//! What a worker may do, tried from inside: a driver that somebody has taken over tries what is asked of it, after the lock-down.
//!
//! The driver is `fixtures/hostile_driver.rs`. A kernel with Landlock of ABI 6 and seccomp is needed; what concerns another user needs root,
//! and is said where it is not tried.
#![expect(
    unsafe_code,
    reason = "a worker is started on a kernel that lacks something"
)]

use std::io::{IoSlice, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use driver_api::id::LibraryId;
use driver_api::wire::{Request, request as r, shape_hash};
use gpu_server::config::SandboxConfig;
use gpu_server::config::sandbox::Enabled;
use gpu_server::sandbox::{Sandbox, SandboxError};
use prost::Message;
use protocol::frame::{CallFlags, CallRecord, FrameHeader, FrameKind, RecordBuffer, Replies};
use protocol::hello::{
    self, Answer, DeviceKind, Hello, HelloReply, Intent, SandboxLayer, SandboxOrder, WorkerOrder,
};
use protocol::transport::{Connection, Patience};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What an attempt that failed answers, less its error.
const FAILED: u32 = 90_000;

const WORKED: u32 = 91_000;
const EPERM: u32 = FAILED + libc::EPERM as u32;
const EACCES: u32 = FAILED + libc::EACCES as u32;

/// The driver, compiled once.
fn hostile_driver() -> PathBuf {
    let folder = test_scratch::shared(env!("CARGO_TARGET_TMPDIR"), "hostile", |folder| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile_driver.rs");
        test_scratch::compile_library(&source, &folder.join("libcuda.so.1"), &[]);
    });
    folder.join("libcuda.so.1")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The daemon's side of workers on the hostile driver, in a state directory that other users can pass.
struct Place {
    state: tempfile::TempDir,
    sandbox: Sandbox,
}

impl Place {
    fn new(enabled: Enabled, worker_uids: Option<std::ops::RangeInclusive<u32>>) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().expect("a directory");
        let passable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(state.path(), passable).expect("changed");
        let config = SandboxConfig {
            enabled,
            worker_uids,
            cache: Some(state.path().join("cache")),
            state: Some(state.path().to_owned()),
            ..SandboxConfig::default()
        };
        let sandbox = Sandbox::begin(&config, &hostile_driver(), DeviceKind::Nvidia);
        Self {
            sandbox: sandbox.expect("a sandbox"),
            state,
        }
    }

    fn order(&mut self, tenant: &str) -> SandboxOrder {
        let tenant = tenant.parse().expect("a tenant");
        self.sandbox.order(&tenant, 1).expect("an order")
    }

    /// A file in a tenant's directory.
    fn file(&self, tenant: &str, name: &str) -> PathBuf {
        self.state.path().join(format!("cache/t-{tenant}/{name}"))
    }
}

/// A worker, and its client's end of the connection.
struct Worker {
    child: Child,
    stream: UnixStream,
    reply: HelloReply,
}

impl Worker {
    fn start(order: Option<SandboxOrder>) -> Self {
        Self::prepared(order, |_| ())
    }

    fn prepared(order: Option<SandboxOrder>, prepare: impl FnOnce(&mut Command)) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let mut hello = Hello::new(Intent::Session);
        hello.shape_hash = shape_hash().to_vec();
        let order = WorkerOrder {
            hello: Some(hello),
            version: 1,
            session: 1,
            driver: hostile_driver().to_str().expect("UTF-8").to_owned(),
            device_kind: DeviceKind::Nvidia.into(),
            silence_grace_seconds: 300,
            parent: std::process::id(),
            sandbox: order,
            ..WorkerOrder::default()
        };
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&order.encode_to_vec()).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mapping = |parent_fd: OwnedFd, child_fd| FdMapping {
            parent_fd,
            child_fd,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
        command
            .args(["worker", "--session", "1"])
            .env("GPURUN_LOG", "debug")
            .stdin(Stdio::null())
            .fd_mappings(vec![mapping(theirs.into(), 3), mapping(file.into(), 4)])
            .expect("descriptors");
        prepare(&mut command);
        let child = command.spawn().expect("a worker");
        drop(command);
        let reply = hello::read(&mut &ours).expect("a reply");
        Self {
            child,
            stream: ours,
            reply,
        }
    }

    fn session(self) -> Session {
        assert!(
            matches!(self.reply.answer, Some(Answer::Accepted(_))),
            "{:?}",
            self.reply
        );
        let patience = Patience::default();
        let connection = Connection::from_fd(self.stream.into(), patience).expect("a connection");
        let mut session = Session {
            child: Ended(self.child),
            connection,
            calls: 0,
            kernels: 0,
        };
        let image = b".version 7.0\n.target sm_70\n.address_size 64\n";
        let request = r::GpurunLibraryLoad::new(5, [0; 32], image.len() as u64, 0, 0);
        assert_eq!(session.ask(&request, image), 0, "a library");
        session
    }
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker that serves.
struct Session {
    child: Ended,
    connection: Connection,
    calls: u64,
    kernels: u32,
}

impl Session {
    fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// The result of a call.
    fn ask<R: Request>(&mut self, request: &R, rest: &[u8]) -> u32 {
        let record = CallRecord {
            number: R::NUMBER,
            flags: CallFlags::ASKED,
            length: 0,
            thread: 1,
            context: 0,
        };
        let mut records = RecordBuffer::new();
        records
            .push_parts(&record, &[request.as_bytes(), rest])
            .expect("fits");
        self.calls += 1;
        let mut header = FrameHeader::new(FrameKind::Calls);
        header.sequence = self.calls;
        let bytes = [IoSlice::new(records.as_bytes())];
        self.connection.sender.send(&header, &bytes).expect("sent");
        loop {
            if let Some(result) = self.receive() {
                return result;
            }
        }
    }

    fn receive(&mut self) -> Option<u32> {
        let receiver = &mut self.connection.receiver;
        let header = loop {
            match receiver.poll_header().expect("the worker lives") {
                Some(header) => break header,
                None => assert!(receiver.wait(Some(ANSWER_LIMIT)).expect("alive")),
            }
        };
        let mut bytes = vec![0; header.length as usize];
        receiver.read_payload(&mut bytes).expect("a payload");
        if header.kind != FrameKind::Replies {
            return None;
        }
        Replies::new(&bytes)
            .map(|reply| reply.expect("a reply").0)
            .find(|record| record.call == self.calls)
            .map(|record| record.result)
    }

    /// How an attempt from inside ended.
    fn attempt(&mut self, words: &str) -> u32 {
        self.kernels += 1;
        let request = r::GpurunKernelGet::new(LibraryId(5), self.kernels);
        self.ask(&request, words.as_bytes())
    }

    /// Tries it on a thread that came after the lock-down, and on one that was there before.
    fn expect(&mut self, words: &str, expected: &[u32]) {
        for words in [words.to_owned(), format!("late {words}")] {
            let result = self.attempt(&words);
            assert!(expected.contains(&result), "{words}: {result}");
        }
    }

    /// A line of what the kernel says of each thread.
    fn threads(&self, name: &str) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process())).expect("threads");
        tasks
            .filter_map(|task| {
                let path = task.expect("a thread").path().join("status");
                // A thread may have ended since it was listed.
                let status = std::fs::read_to_string(path).ok()?;
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                Some(line.expect("a line").trim().to_owned())
            })
            .collect()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn every_thread_is_confined() {
    let mut place = Place::new(Enabled::Required, None);
    let mut session = Worker::start(Some(place.order("ann"))).session();
    session.expect("thread", &[WORKED]);
    let confined = session.threads("NoNewPrivs:");
    assert!(confined.len() >= 6, "{}", confined.len());
    assert!(confined.iter().all(|line| line == "1"), "{confined:?}");
    let filtered = session.threads("Seccomp:");
    assert!(filtered.iter().all(|line| line == "2"), "{filtered:?}");
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        let held = session.threads(set);
        let nothing = |line: &String| line.bytes().all(|digit| digit == b'0');
        assert!(held.iter().all(nothing), "{set} {held:?}");
    }
    // Without an order nothing is given up: what is tested above is the order's doing.
    let mut free = Worker::start(None).session();
    assert!(free.threads("Seccomp:").iter().all(|line| line == "0"));
    free.expect("list /proc", &[WORKED]);
    free.expect(&format!("socket {}", libc::AF_INET), &[WORKED]);
    free.expect(&format!("kill {}", session.process()), &[WORKED]);
    free.expect(&format!("kind {}", libc::SOCK_RAW), &[WORKED]);
    // It is the socket that refuses it: a connected one, of another family.
    #[cfg(target_arch = "x86_64")]
    assert_ne!(free.attempt("elsewhere 9"), EPERM);
}

#[test]
fn what_a_driver_needs_still_works() {
    let mut place = Place::new(Enabled::Required, None);
    let order = place.order("ann");
    let mut session = Worker::start(Some(order)).session();
    let own = shown(&place.file("ann", "compiled"));
    for words in [
        "thread",
        "memory",
        "name worker",
        "load libm.so.6",
        "read /proc/self/maps",
        "read /proc/cpuinfo",
        "read /dev/urandom",
        "write /dev/null",
        "list /sys/class",
        "listen gpurun-test-uvmfd",
    ] {
        let result = session.attempt(words);
        assert_eq!(result, WORKED, "{words}");
    }
    session.expect(&format!("make {own}"), &[WORKED]);
    session.expect(&format!("read {own}"), &[WORKED]);
    let beside = hostile_driver().with_file_name("late.so");
    std::fs::copy(hostile_driver(), &beside).expect("a library that comes late");
    session.expect(&format!("load {}", beside.display()), &[WORKED]);
    assert_eq!(session.attempt(&format!("remove {own}")), WORKED);
}

#[test]
fn a_driver_that_was_taken_over_reaches_nobody_else() {
    let mut place = Place::new(Enabled::Required, None);
    let orders = [place.order("ann"), place.order("bob")];
    let [mut ann, mut bob] = orders.map(|order| Worker::start(Some(order)).session());
    let secret = place.file("bob", "secret");
    std::fs::write(&secret, "his").expect("written");
    let secret = shown(&secret);
    // Files: another tenant's, the server's, the machine's.
    ann.expect(&format!("read {secret}"), &[EACCES]);
    ann.expect(&format!("write {secret}"), &[EACCES]);
    ann.expect(&format!("remove {secret}"), &[EACCES]);
    ann.expect(&format!("make {secret}2"), &[EACCES]);
    ann.expect(&format!("list {}", place.state.path().display()), &[EACCES]);
    ann.expect("write /etc/passwd", &[EACCES]);
    ann.expect("read /etc/shadow", &[EACCES, FAILED + libc::ENOENT as u32]);
    ann.expect("make /tmp/gpurun-test-made", &[EACCES]);
    ann.expect("list /root", &[EACCES]);
    ann.expect("list /dev", &[EACCES]);
    ann.expect("list /proc", &[EACCES]);
    #[cfg(target_arch = "x86_64")]
    for words in [
        format!("widen {secret}"),
        format!("shorten {secret}"),
        "mode /usr/bin/env".to_owned(),
    ] {
        ann.expect(&words, &[EPERM]);
    }
    // Other processes: the sibling, and who started both.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let path = place.state.path().join("socket");
    let _unix = UnixListener::bind(&path).expect("bound");
    let name = format!("gpurun-test-{}", std::process::id());
    let name_address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&name_address).expect("bound");
    for process in [bob.process(), std::process::id()] {
        ann.expect(&format!("read /proc/{process}/mem"), &[EACCES]);
        ann.expect(&format!("read /proc/{process}/maps"), &[EACCES]);
        ann.expect(&format!("list /proc/{process}/fd"), &[EACCES]);
        ann.expect(&format!("trace {process}"), &[EPERM]);
        ann.expect(&format!("peek {process}"), &[EPERM]);
        ann.expect(&format!("kill {process}"), &[EPERM]);
    }
    // The network and other services; other programs and users.
    let port = listener.local_addr().expect("bound").port();
    ann.expect(&format!("tcp {port}"), &[EPERM]);
    ann.expect(&format!("unix {}", path.display()), &[EPERM]);
    ann.expect(&format!("abstract {name}"), &[EPERM]);
    #[cfg(target_arch = "x86_64")]
    ann.expect(&format!("elsewhere {port}"), &[EPERM]);
    for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW] {
        ann.expect(&format!("kind {kind}"), &[EPERM]);
    }
    for family in [
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
        libc::AF_VSOCK,
    ] {
        ann.expect(&format!("socket {family}"), &[EPERM]);
    }
    ann.expect("exec /bin/true", &[EPERM]);
    ann.expect("fork", &[EPERM]);
    ann.expect("become", &[EPERM]);
    ann.expect("shared", &[EPERM]);
    for call in [
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_unshare,
        libc::SYS_mount,
    ] {
        ann.expect(&format!("number {call}"), &[EPERM]);
    }
    // Both live, and the other's file is as it was.
    ann.expect("thread", &[WORKED]);
    bob.expect(&format!("read {secret}"), &[WORKED]);
    assert_eq!(std::fs::read_to_string(&secret).expect("there"), "his");
}

/// Each layer is tried alone, so that one that is broken does not hide behind another.
#[test]
fn each_layer_holds_by_itself() {
    let mut place = Place::new(Enabled::Required, None);
    let only = |layer: SandboxLayer, order: SandboxOrder| SandboxOrder {
        layers: vec![layer.into()],
        required: vec![layer.into()],
        ..order
    };
    let order = place.order("ann");
    let mut privileges =
        Worker::start(Some(only(SandboxLayer::Privileges, order.clone()))).session();
    let sibling = Worker::start(Some(only(SandboxLayer::Privileges, order.clone()))).session();
    let sibling = sibling.process();
    privileges.expect(&format!("read /proc/{sibling}/mem"), &[EACCES]);
    privileges.expect(&format!("trace {sibling}"), &[EPERM]);
    privileges.expect(&format!("peek {sibling}"), &[EPERM]);
    if is_root() {
        privileges.expect("number 163", &[EPERM]); // acct: an administrator's
    }
    let mut files = Worker::start(Some(only(SandboxLayer::Files, order.clone()))).session();
    files.expect(&format!("read /proc/{sibling}/mem"), &[EACCES]);
    files.expect(&format!("trace {sibling}"), &[EPERM]);
    files.expect("exec /bin/true", &[EACCES]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    files.expect(&format!("tcp {port}"), &[EACCES]);
    let name = format!("gpurun-test-scope-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&address).expect("bound");
    files.expect(&format!("abstract {name}"), &[EPERM]);
    files.expect(&format!("kill {sibling}"), &[EPERM]);
    let mut calls = Worker::start(Some(only(SandboxLayer::Calls, order))).session();
    calls.expect(&format!("trace {sibling}"), &[EPERM]);
    calls.expect(&format!("tcp {port}"), &[EPERM]);
    #[cfg(target_arch = "x86_64")]
    calls.expect(&format!("elsewhere {port}"), &[EPERM]);
    calls.expect(&format!("kill {sibling}"), &[EPERM]);
}

#[test]
fn workers_of_two_tenants_are_of_two_users() {
    if !is_root() {
        eprintln!("not tried: only root may change the user");
        return;
    }
    let mut place = Place::new(Enabled::Required, Some(200_000..=200_999));
    let orders = [place.order("ann"), place.order("bob"), place.order("ann")];
    let users: Vec<u32> = orders.iter().map(|order| order.user).collect();
    assert!(users[0] != users[1] && users[0] == users[2], "{users:?}");
    let [mut ann, bob, _again] = orders.map(|order| {
        // The layers that would hide what users are good for are left away.
        let layers = vec![SandboxLayer::User.into()];
        Worker::start(Some(SandboxOrder {
            required: layers.clone(),
            layers,
            ..order
        }))
        .session()
    });
    for (session, user) in [(&ann, users[0]), (&bob, users[1])] {
        let expected = format!("{user}\t{user}\t{user}\t{user}");
        for line in ["Uid:", "Gid:"] {
            assert!(session.threads(line).iter().all(|found| *found == expected));
        }
        assert!(session.threads("Groups:").iter().all(String::is_empty));
    }
    let own = shown(&place.file("ann", "compiled"));
    let other = shown(&place.file("bob", "compiled"));
    ann.expect(&format!("make {own}"), &[WORKED]);
    ann.expect(&format!("make {other}"), &[EACCES]);
    ann.expect(&format!("list {}", place.state.path().display()), &[EACCES]);
    ann.expect(&format!("trace {}", bob.process()), &[EPERM]);
    ann.expect(&format!("kill {}", bob.process()), &[EPERM]);
    ann.expect("become", &[EPERM]);
    // All layers together.
    let mut both = Worker::start(Some(place.order("bob"))).session();
    both.expect(&format!("make {other}"), &[WORKED]);
    both.expect(&format!("read {own}"), &[EACCES]);
    both.expect("name worker", &[WORKED]);
}

#[test]
fn a_worker_of_another_user_still_ends_with_who_started_it() {
    if !is_root() {
        eprintln!("not tried: only root may change the user");
        return;
    }
    let mut place = Place::new(Enabled::Required, Some(200_000..=200_999));
    let order = place.order("ann");
    // The kernel ends a worker when the thread that started it ends.
    let session = std::thread::spawn(move || Worker::start(Some(order)).session());
    let mut session = session.join().expect("a session");
    let end = Instant::now() + ANSWER_LIMIT;
    while session.child.0.try_wait().expect("a status").is_none() {
        assert!(Instant::now() < end, "the worker lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets a command run on a kernel that does not know this call.
fn without(call: libc::c_long) -> impl FnOnce(&mut Command) {
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        std::env::consts::ARCH.try_into().expect("a known machine"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    move |command| {
        let lay = move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::ErrorKind::Other.into())
        };
        // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
        unsafe { command.pre_exec(lay) };
    }
}

#[test]
fn an_old_kernel_confines_as_far_as_it_can_unless_all_is_required() {
    let landlock = libc::SYS_landlock_create_ruleset;
    let mut place = Place::new(Enabled::Auto, None);
    let worker = Worker::prepared(Some(place.order("ann")), without(landlock));
    let mut session = worker.session();
    session.expect("list /dev", &[WORKED]);
    session.expect("exec /bin/true", &[EPERM]);
    session.expect(&format!("trace {}", std::process::id()), &[EPERM]);

    let mut place = Place::new(Enabled::Required, None);
    let mut worker = Worker::prepared(Some(place.order("ann")), without(landlock));
    let Some(Answer::Refused(refused)) = &worker.reply.answer else {
        panic!("{:?}", worker.reply);
    };
    let expected = "could not confine this one (Landlock): this kernel has no Landlock";
    assert!(refused.message.contains(expected), "{}", refused.message);
    assert!(!worker.child.wait().expect("a status").success());
}

#[test]
fn what_the_settings_require_is_missed_at_the_start() {
    let state = tempfile::tempdir().expect("a directory");
    let config = SandboxConfig {
        enabled: Enabled::Required,
        memory_max: Some(1 << 30),
        cache: Some(state.path().join("cache")),
        ..SandboxConfig::default()
    };
    // No test runs in a control group that was given to it.
    let begun = Sandbox::begin(&config, &hostile_driver(), DeviceKind::Nvidia);
    let Err(error @ SandboxError::Missing(_)) = begun else {
        panic!("{begun:?}");
    };
    assert!(error.to_string().contains("are not bounded"), "{error}");
}
