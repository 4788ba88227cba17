//! A tenant: a worker process on a software GPU that several tenants share, and the client that drives it.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use driver_api::id::{FunctionId, ModuleId, StreamId};
use driver_api::wire::{Request, request as r, shape_hash};
use gpu_server::gate::{Gate, Place, Share};
use prost::Message;
use protocol::frame::{
    CallFlags, CallRecord, Completions, FrameHeader, FrameKind, RecordBuffer, Replies,
};
use protocol::hello::{
    self, Accepted, Answer, DescriptorOrder, DeviceKind, Hello, HelloReply, Intent, LeaseOrder,
    SliceOrder, WorkerOrder,
};
use protocol::transport::{Connection, Patience};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The stream that kernels are launched into, and another.
pub(crate) const STREAM: StreamId = StreamId(3);
pub(crate) const OTHER_STREAM: StreamId = StreamId(4);

const GATE: i32 = 5;
const SPIN: FunctionId = FunctionId(10);
const AWAIT: FunctionId = FunctionId(11);
const BREAK: FunctionId = FunctionId(12);

/// `spin` runs for so many nanoseconds of the device's clock, however fast the machine is; `await_it` until a word is not 0.
const PTX: &[u8] = br#"
.version 7.0
.target sm_70
.address_size 64

.visible .entry spin(.param .u64 nanoseconds)
{
    .reg .u64 %length, %begin, %now;
    .reg .pred %p;
    ld.param.u64 %length, [nanoseconds];
    mov.u64 %begin, %globaltimer;
again:
    mov.u64 %now, %globaltimer;
    sub.u64 %now, %now, %begin;
    setp.lt.u64 %p, %now, %length;
    @%p bra again;
    ret;
}

.visible .entry await_it(.param .u64 address)
{
    .reg .u64 %a;
    .reg .u32 %v;
    .reg .pred %p;
    ld.param.u64 %a, [address];
again:
    ld.volatile.global.u32 %v, [%a];
    setp.eq.u32 %p, %v, 0;
    @%p bra again;
    ret;
}

.visible .entry break_it()
{
    .reg .u64 %a;
    mov.u64 %a, 0;
    st.global.u32 [%a], 1;
    ret;
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

/// A software GPU with a gate, for one test at a time: they measure time.
pub(crate) struct Device {
    segment: String,
    pub(crate) gate: Gate,
    slice: SliceOrder,
    _alone: File,
}

impl Device {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fairness.lock");
        let alone = File::create(path).expect("a file");
        alone.lock().expect("the only one");
        let mut device = Self {
            segment: format!("gpurun-test-fairness-{}-{number}", std::process::id()),
            gate: Gate::create().expect("a gate"),
            slice: SliceOrder::default(),
            _alone: alone,
        };
        let found = Tenant::start(&device, None).accepted.clone();
        let found = found.devices.first().expect("a device");
        device.slice = SliceOrder {
            uuid: found.uuid.clone(),
            memory: found.total_memory,
            usable_memory: found.usable_memory,
            compute: 1.0,
            ..SliceOrder::default()
        };
        device
    }

    /// A tenant without a gate.
    pub(crate) fn ungated(&self) -> Tenant {
        Tenant::start(self, None)
    }

    pub(crate) fn tenant(&self, part: f64) -> Tenant {
        self.tenant_with(Share::new(part, false))
    }

    pub(crate) fn tenant_with(&self, share: Share) -> Tenant {
        let place = self.gate.admit(share).expect("a place");
        Tenant::start(self, Some(place))
    }

    /// Another worker of a tenant's lease.
    pub(crate) fn again(&self, tenant: &Tenant) -> Tenant {
        Tenant::start(self, tenant.place)
    }

    /// Device time of each tenant.
    pub(crate) fn used(&self, tenants: &[Tenant]) -> Vec<Duration> {
        let used = |tenant: &Tenant| self.gate.used(tenant.place());
        tenants.iter().map(used).collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(&self.segment));
    }
}

/// One tenant.
pub(crate) struct Tenant {
    child: Child,
    pub(crate) connection: Connection,
    accepted: Accepted,
    place: Option<Place>,
    sequence: u64,
    calls: u64,
    context: u32,
    marks: u64,
    /// The last mark that came back.
    pub(crate) marked: u64,
    failed: Option<u32>,
    replies: Vec<(u64, u32, Vec<u8>)>,
}

impl Tenant {
    fn start(device: &Device, place: Option<Place>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let mut hello = Hello::new(Intent::Session);
        hello.shape_hash = shape_hash().to_vec();
        let lease = place.map(|place| LeaseOrder {
            slices: vec![SliceOrder {
                gate_place: place.to_number(),
                ..device.slice.clone()
            }],
            ..LeaseOrder::default()
        });
        let order = WorkerOrder {
            hello: Some(hello),
            version: 1,
            session: 1,
            driver: driver().to_str().expect("a path in UTF-8").to_owned(),
            device_kind: DeviceKind::Software.into(),
            silence_grace_seconds: 300,
            parent: std::process::id(),
            descriptors: place.map(|_| DescriptorOrder {
                gates: vec![GATE.cast_unsigned()],
                ..DescriptorOrder::default()
            }),
            lease,
            ..WorkerOrder::default()
        };
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&order.encode_to_vec()).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mapping = |parent_fd: OwnedFd, child_fd| FdMapping {
            parent_fd,
            child_fd,
        };
        let mut mappings = vec![mapping(theirs.into(), 3), mapping(file.into(), 4)];
        if place.is_some() {
            let gate = device.gate.descriptor().as_fd().try_clone_to_owned();
            mappings.push(mapping(gate.expect("a descriptor"), GATE));
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
        command
            .args(["worker", "--session", "1"])
            .env("GPURUN_SOFT_SEGMENT", &device.segment)
            .env("GPURUN_SOFT_THREADS", "1")
            .stdin(Stdio::null())
            .fd_mappings(mappings)
            .expect("descriptors");
        let child = command.spawn().expect("a worker");
        drop(command);
        let reply: HelloReply = hello::read(&mut &ours).expect("a reply");
        let Some(Answer::Accepted(accepted)) = reply.answer else {
            panic!("refused: {reply:?}");
        };
        let mut tenant = Self {
            child,
            connection: Connection::from_fd(ours.into(), Patience::default())
                .expect("a connection"),
            accepted,
            place,
            sequence: 0,
            calls: 0,
            context: 0,
            marks: 0,
            marked: 0,
            failed: None,
            replies: Vec::new(),
        };
        tenant.prepare();
        tenant
    }

    fn prepare(&mut self) {
        self.ask(&r::GpurunPrimaryRetain::new(0, 1, 0), &[]);
        self.context = 1;
        for stream in [STREAM, OTHER_STREAM] {
            self.ask(&r::GpurunStreamCreate::new(stream.0, 1, 0), &[]);
        }
        let load = r::GpurunModuleLoad::new(2, [0; 32], PTX.len() as u64, 0, 0);
        self.ask(&load, PTX);
        for (id, name) in [(SPIN, "spin"), (AWAIT, "await_it"), (BREAK, "break_it")] {
            let get = r::GpurunFunctionGet::new(ModuleId(2), id.0);
            self.ask(&get, name.as_bytes());
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place.expect("a tenant with a gate")
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

    pub(crate) fn post<R: Request>(&mut self, request: &R, rest: &[u8]) {
        self.call(CallFlags::NONE, request, rest);
    }

    pub(crate) fn ask<R: Request>(&mut self, request: &R, rest: &[u8]) -> Vec<u8> {
        let call = self.call(CallFlags::ASKED, request, rest);
        loop {
            if let Some(index) = self.replies.iter().position(|reply| reply.0 == call) {
                let (_, result, body) = self.replies.remove(index);
                assert_eq!(result, 0, "{} failed", R::NUMBER);
                return body;
            }
            self.receive();
        }
    }

    pub(crate) fn receive(&mut self) {
        let receiver = &mut self.connection.receiver;
        let end = Instant::now() + ANSWER_LIMIT;
        let header = loop {
            match receiver.poll_header().expect("a header") {
                Some(header) => break header,
                None => assert!(Instant::now() < end, "no answer"),
            }
            receiver.wait(Some(Duration::from_secs(1))).expect("alive");
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
                for item in Completions::new(&bytes) {
                    let (record, _) = item.expect("a completion");
                    self.marked = self.marked.max(record.mark);
                    if record.result != 0 {
                        self.failed = Some(record.result);
                    }
                }
            }
            FrameKind::Heartbeat | FrameKind::Fault => {}
            kind => panic!("{kind:?}: {}", String::from_utf8_lossy(&bytes)),
        }
    }

    /// Launches a kernel of this length, and puts a mark behind it.
    pub(crate) fn launch(&mut self, length: Duration) -> u64 {
        let length = u64::try_from(length.as_nanos()).expect("a length");
        self.launch_with(SPIN, STREAM, &length.to_le_bytes());
        self.mark(STREAM)
    }

    /// Launches a kernel that runs until the word there is not 0.
    pub(crate) fn launch_awaiting(&mut self, address: u64) {
        self.launch_with(AWAIT, STREAM, &address.to_le_bytes());
    }

    pub(crate) fn launch_broken(&mut self) {
        self.launch_with(BREAK, STREAM, &[]);
    }

    /// Launches without a mark.
    pub(crate) fn launch_silently(&mut self, stream: StreamId, length: Duration) {
        let length = u64::try_from(length.as_nanos()).expect("a length");
        self.launch_with(SPIN, stream, &length.to_le_bytes());
    }

    fn launch_with(&mut self, function: FunctionId, stream: StreamId, parameters: &[u8]) {
        let request = r::GpurunLaunch::new(function, [1; 3], [1; 3], 0, stream, 0, 0);
        self.post(&request, parameters);
    }

    pub(crate) fn mark(&mut self, stream: StreamId) -> u64 {
        self.marks += 1;
        self.post(&r::GpurunMark::new(stream, 1, self.marks), &[]);
        self.marks
    }

    /// Waits until a mark has come back.
    pub(crate) fn wait_for(&mut self, mark: u64) {
        while self.marked < mark {
            self.receive();
        }
        assert_eq!(self.failed, None, "the stream is lost");
    }

    /// The error that a mark brings.
    pub(crate) fn failure(&mut self, mark: u64) -> u32 {
        while self.marked < mark {
            self.receive();
        }
        self.failed.expect("a failure")
    }

    /// Launches kernels one behind the other, always two of them, until the time is over; how many have ended by then.
    pub(crate) fn run(&mut self, kernel: Duration, time: Duration) -> u32 {
        let end = Instant::now() + time;
        self.run_until(kernel, || Instant::now() >= end)
    }

    /// Launches so many kernels, one behind the other, always two of them.
    pub(crate) fn run_number(&mut self, kernel: Duration, number: u32) {
        let ended = std::cell::Cell::new(1);
        self.run_until(kernel, || ended.replace(ended.get() + 1) >= number);
    }

    /// Launches kernels one behind the other, always two of them; how many have ended by then.
    pub(crate) fn run_until(&mut self, kernel: Duration, is_over: impl Fn() -> bool) -> u32 {
        let mut count = 0;
        let mut last = self.launch(kernel);
        while !is_over() {
            let next = self.launch(kernel);
            self.wait_for(last);
            count += 1;
            last = next;
        }
        self.wait_for(last);
        count
    }

    /// Launches kernels one behind the other, so many that a client that gets no time for a while has always something to run. Leaves when it
    /// is over, with what is posted then.
    pub(crate) fn flood(&mut self, kernel: Duration, is_over: impl Fn() -> bool) {
        let depth = Duration::from_millis(250).div_duration_f64(kernel) as u64;
        while !is_over() {
            let mark = self.launch(kernel);
            self.wait_for(mark.saturating_sub(depth.clamp(2, 100)));
        }
    }

    /// How long a launch and the wait for it take.
    pub(crate) fn latency(&mut self, kernel: Duration) -> Duration {
        let begin = Instant::now();
        let mark = self.launch(kernel);
        self.wait_for(mark);
        begin.elapsed()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its status");
    }

    /// The end of the worker.
    pub(crate) fn end(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < end, "the worker lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets each tenant run in a thread of its own.
pub(crate) fn together(tenants: &mut [Tenant], run: impl Fn(usize, &mut Tenant) + Sync) {
    std::thread::scope(|scope| {
        for (index, tenant) in tenants.iter_mut().enumerate() {
            let run = &run;
            scope.spawn(move || run(index, tenant));
        }
    });
}

/// The parts of a whole.
pub(crate) fn parts(before: &[Duration], after: &[Duration]) -> Vec<f64> {
    let used: Vec<f64> = before
        .iter()
        .zip(after)
        .map(|(before, after)| (*after - *before).as_secs_f64())
        .collect();
    let sum: f64 = used.iter().sum();
    used.iter().map(|used| used / sum).collect()
}
