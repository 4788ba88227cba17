//! The worker as a process, on the software GPU: hello, memory, a kernel from PTX, printing, the end. It is confined, as the daemon
//! does it.
//!
//! Needs a driver: named by `GPURUN_TEST_DRIVER` (an NVIDIA driver will do as well), or `libsoft_gpu.so` beside the server's
//! binary, or where `scripts/build` puts it.

use std::io::{IoSlice, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use driver_api::id::{FunctionId, ModuleId, StreamId};
use driver_api::wire::{Request, request as r, shape_hash};
use gpu_server::config::SandboxConfig;
use gpu_server::sandbox::Sandbox;
use prost::Message;
use protocol::frame::{
    CallFlags, CallRecord, Completions, FrameHeader, FrameKind, RecordBuffer, Replies,
};
use protocol::hello::{
    self, Accepted, Answer, DeviceKind, Hello, HelloReply, Intent, SandboxOrder, Window,
    WorkerOrder,
};
use protocol::limits::{BULK_CHUNK_BYTES, CLEAN_UP_LIMIT};
use protocol::transport::{Connection, Patience};

const WINDOW: Window = Window {
    base: 0x7200_0000_0000,
    size: 256 << 30,
};
const CHUNK: u64 = 2 << 20;
const STREAM: StreamId = StreamId(3);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

const PTX: &[u8] = br#"
.version 7.0
.target sm_70
.address_size 64
.extern .func (.param .b32 result) vprintf (.param .b64 format, .param .b64 arguments);
.global .align 1 .b8 text[14] = {104, 101, 108, 108, 111, 32, 116, 104, 101, 114, 101, 33, 10, 0};
.global .align 4 .u32 variable = 17;

.visible .entry add(.param .u64 address, .param .u32 value)
{
    .reg .u64 %a;
    .reg .u64 %t;
    .reg .u32 %v, %n, %i;
    ld.param.u64 %a, [address];
    ld.param.u32 %v, [value];
    mov.u32 %i, %tid.x;
    mul.wide.u32 %t, %i, 4;
    add.u64 %a, %a, %t;
    ld.global.u32 %n, [%a];
    add.u32 %n, %n, %v;
    st.global.u32 [%a], %n;
    ret;
}

.func say()
{
    .reg .u64 %a;
    .reg .u32 %v;
    mov.u64 %a, text;
    cvta.global.u64 %a, %a;
    {
        .param .b64 format;
        .param .b64 arguments;
        .param .b32 result;
        st.param.b64 [format], %a;
        st.param.b64 [arguments], 0;
        call.uni (result), vprintf, (format, arguments);
        ld.param.b32 %v, [result];
    }
    ret;
}

.visible .entry greet()
{
    call.uni say;
    ret;
}

.visible .entry break_it()
{
    .reg .u64 %a;
    mov.u64 %a, 0;
    st.global.u32 [%a], 1;
    ret;
}

.visible .entry greet_and_trap()
{
    call.uni say;
    trap;
}
"#;

fn driver() -> PathBuf {
    let named = std::env::var_os("GPURUN_TEST_DRIVER").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_BIN_EXE_gpu-server")).with_file_name("libsoft_gpu.so");
    let found = named.or_else(|| beside.exists().then_some(beside));
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/libsoft_gpu.so");
    let found = found.or_else(|| built.exists().then_some(built));
    found.expect("a driver: run scripts/build, or set GPURUN_TEST_DRIVER")
}

/// Every layer that this kernel has.
fn confined(driver: &Path) -> SandboxOrder {
    let config = SandboxConfig::default();
    let tenant = "local".parse().expect("a tenant");
    let sandbox = Sandbox::begin(&config, driver, DeviceKind::Software);
    let order = sandbox.expect("a sandbox").order(&tenant, 1);
    order.expect("an order")
}

struct Worker {
    child: Child,
    connection: Connection,
    accepted: Accepted,
    sequence: u64,
    calls: u64,
    context: u32,
    printed: Vec<u8>,
    bulk: Vec<u8>,
    faults: Vec<u64>,
    marks: Vec<(u32, u32, u64)>,
    replies: Vec<(u64, u32, Vec<u8>)>,
}

impl Worker {
    fn start(driver: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let mut hello = Hello::new(Intent::Session);
        hello.shape_hash = shape_hash().to_vec();
        hello.windows = vec![WINDOW];
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
        command
            .args(["worker", "--session", "7"])
            .stdin(Stdio::null());
        let order = WorkerOrder {
            hello: Some(hello),
            version: 1,
            session: 1,
            driver: driver.to_str().expect("a path in UTF-8").to_owned(),
            device_kind: DeviceKind::Software.into(),
            silence_grace_seconds: 300,
            parent: std::process::id(),
            sandbox: Some(confined(driver)),
            ..WorkerOrder::default()
        };
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&order.encode_to_vec()).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mapping = |parent_fd: OwnedFd, child_fd| FdMapping {
            parent_fd,
            child_fd,
        };
        command
            .fd_mappings(vec![mapping(theirs.into(), 3), mapping(file.into(), 4)])
            .expect("descriptors");
        let child = command.spawn().expect("a worker");
        drop(command);
        let mut stream = &ours;
        let reply: HelloReply = hello::read(&mut stream).expect("a reply");
        let Some(Answer::Accepted(accepted)) = reply.answer else {
            panic!("refused: {reply:?}");
        };
        Self {
            child,
            connection: Connection::from_fd(ours.into(), Patience::default())
                .expect("a connection"),
            accepted,
            sequence: 0,
            calls: 0,
            context: 0,
            printed: Vec::new(),
            bulk: Vec::new(),
            faults: Vec::new(),
            marks: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn frame(&mut self, mut header: FrameHeader, bytes: &[u8]) {
        self.sequence += 1;
        header.sequence = self.sequence;
        let sent = self.connection.sender.send(&header, &[IoSlice::new(bytes)]);
        sent.expect("sent");
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
        self.frame(FrameHeader::new(FrameKind::Calls), records.as_bytes());
        self.calls += 1;
        self.calls
    }

    fn post<R: Request>(&mut self, request: &R, rest: &[u8]) {
        self.call(CallFlags::NONE, request, rest);
    }

    fn ask<R: Request>(&mut self, request: &R, rest: &[u8]) -> Vec<u8> {
        let call = self.call(CallFlags::ASKED, request, rest);
        loop {
            if let Some(index) = self.replies.iter().position(|reply| reply.0 == call) {
                let (_, result, body) = self.replies.remove(index);
                assert_eq!(result, 0, "{request:?} failed", request = R::NUMBER);
                return body;
            }
            self.receive();
        }
    }

    fn receive(&mut self) {
        let receiver = &mut self.connection.receiver;
        let header = loop {
            match receiver.poll_header().expect("a header") {
                Some(header) => break header,
                None => assert!(receiver.wait(Some(ANSWER_LIMIT)).expect("alive")),
            }
        };
        let mut bytes = vec![0; header.length as usize];
        receiver.read_payload(&mut bytes).expect("a payload");
        match header.kind {
            FrameKind::Replies => {
                let replies = Replies::new(&bytes).map(|item| item.expect("a reply"));
                self.replies.extend(
                    replies.map(|(record, body)| (record.call, record.result, body.to_vec())),
                );
            }
            FrameKind::Completions => {
                let marks = Completions::new(&bytes).map(|item| item.expect("a completion").0);
                self.marks
                    .extend(marks.map(|record| (record.stream, record.result, record.mark)));
            }
            FrameKind::Bulk => {
                assert_eq!(header.offset, self.bulk.len() as u64);
                self.bulk.extend(bytes);
            }
            FrameKind::Output => self.printed.extend(bytes),
            FrameKind::Fault => {
                eprintln!("{}", String::from_utf8_lossy(&bytes));
                self.faults.push(header.offset);
            }
            FrameKind::Heartbeat => {}
            kind => panic!("{kind:?}: {}", String::from_utf8_lossy(&bytes)),
        }
    }

    fn wait_for(&mut self, mark: u64) -> u32 {
        self.post(&r::GpurunMark::new(STREAM, 1, mark), &[]);
        loop {
            if let Some(found) = self.marks.iter().find(|found| found.2 == mark) {
                return found.1;
            }
            self.receive();
        }
    }

    fn launch(&mut self, function: u32, threads: u32, parameters: &[u8]) {
        let function = FunctionId(function);
        let block = [threads, 1, 1];
        let request = r::GpurunLaunch::new(function, [1; 3], block, 0, STREAM, 0, 0);
        self.post(&request, parameters);
    }

    fn end(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + CLEAN_UP_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < end, "the worker lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The message without its preamble.
/// A worker with a context, a stream, memory at the address returned.
fn ready(driver: &Path) -> (Worker, u64) {
    let mut worker = Worker::start(driver);
    worker.ask(&r::GpurunPrimaryRetain::new(0, 1, 0), &[]);
    worker.context = 1;
    worker.ask(&r::GpurunStreamCreate::new(STREAM.0, 1, 0), &[]);
    let wanted = worker
        .accepted
        .windows
        .first()
        .map_or(0, |window| window.base);
    let mapped = worker.ask(&r::GpurunMemoryMap::new(wanted, 8 * CHUNK), &[]);
    let address = u64::from_le_bytes(mapped.try_into().expect("an address"));
    assert!(wanted == 0 || wanted == address);
    (worker, address)
}

fn load(worker: &mut Worker) {
    worker.ask(
        &r::GpurunModuleLoad::new(2, [0; 32], PTX.len() as u64, 0, 0),
        PTX,
    );
    let names = ["add", "greet", "break_it", "greet_and_trap"];
    for (id, name) in (10..).zip(names) {
        let request = r::GpurunFunctionGet::new(ModuleId(2), id);
        let parameters = worker.ask(&request, name.as_bytes());
        let known_and_pairs = if id == 10 { 4 + 16 } else { 4 };
        assert_eq!(parameters.len(), known_and_pairs);
    }
}

#[test]
fn a_program_s_calls_are_executed() {
    let driver = driver();
    let (mut worker, address) = ready(&driver);
    let accepted = worker.accepted.clone();
    assert_eq!(accepted.devices.len(), 1);
    assert!(accepted.devices[0].usable_memory > 0);
    assert!(!accepted.devices[0].attributes.is_empty());
    load(&mut worker);

    let numbers: Vec<u8> = (0..32_u32).flat_map(u32::to_le_bytes).collect();
    worker.post(
        &r::GpurunCopyToDevice::new(address, 128, 0, STREAM),
        &numbers,
    );
    let mut parameters = address.to_le_bytes().to_vec();
    parameters.extend(1000_u32.to_le_bytes());
    worker.launch(10, 32, &parameters);
    let copied = worker.ask(&r::GpurunCopyFromDevice::new(address, 128, 0, STREAM), &[]);
    let expected: Vec<u8> = (0..32_u32).flat_map(|n| (n + 1000).to_le_bytes()).collect();
    assert_eq!(copied, expected);

    let global = worker.ask(&r::GpurunModuleGlobal::new(ModuleId(2)), b"variable");
    assert_eq!(global[8..16], 4_u64.to_le_bytes());
    assert_eq!(global[16..], [0; 16], "it is not managed");
    let variable = u64::from_le_bytes(global[..8].try_into().expect("an address"));
    let value = worker.ask(&r::GpurunCopyFromDevice::new(variable, 4, 0, STREAM), &[]);
    assert_eq!(value, 17_u32.to_le_bytes());

    worker.launch(11, 1, &[]);
    assert_eq!(worker.wait_for(1), 0);
    assert_eq!(String::from_utf8_lossy(&worker.printed), "hello there!\n");

    worker.post(&r::GpurunMemoryUnmap::new(address, 8 * CHUNK, 9), &[]);
    while !worker.marks.contains(&(0xFFFF_FFFF, 0, 9)) {
        worker.receive();
    }
    worker.frame(FrameHeader::new(FrameKind::Goodbye), b"");
    assert!(worker.end().success());
}

#[test]
fn large_copies_pass_through() {
    let driver = driver();
    let (mut worker, address) = ready(&driver);
    let bytes: Vec<u8> = (0..(8 * CHUNK - 77)).map(|n| (n % 251) as u8).collect();
    let length = bytes.len() as u64;
    worker.post(&r::GpurunCopyToDevice::new(address, length, 1, STREAM), &[]);
    for (index, part) in bytes.chunks(BULK_CHUNK_BYTES).enumerate() {
        let offset = (index * BULK_CHUNK_BYTES) as u64;
        worker.frame(FrameHeader::bulk(1, offset), part);
    }
    worker.ask(
        &r::GpurunCopyFromDevice::new(address, length, 2, STREAM),
        &[],
    );
    assert!(worker.bulk == bytes, "the bytes differ");
    worker.bulk.clear();
    worker.post(
        &r::GpurunFetchFromDevice::new(address, length, 3, STREAM),
        &[],
    );
    assert_eq!(worker.wait_for(1), 0);
    assert!(worker.bulk == bytes, "the fetched bytes differ");
}

/// Whoever waits reads why the kernel gave up before it is told that it did.
#[test]
fn what_a_kernel_printed_before_its_fault_comes_before_it() {
    let driver = driver();
    let (mut worker, _) = ready(&driver);
    load(&mut worker);
    worker.launch(13, 1, &[]);
    assert_ne!(worker.wait_for(1), 0);
    assert_eq!(String::from_utf8_lossy(&worker.printed), "hello there!\n");
}

#[test]
fn a_kernel_that_faults_is_told_and_a_lost_client_is_cleaned_up() {
    let driver = driver();
    let (mut worker, _) = ready(&driver);
    load(&mut worker);
    worker.launch(12, 1, &[]);
    assert_ne!(worker.wait_for(1), 0);
    assert_eq!(worker.faults.len(), 1);
    worker.connection.interrupt.shutdown();
    worker.end();
}
