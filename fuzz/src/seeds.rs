//! Inputs to begin with: real ones, made by our own encoders or taken from the repository.

use std::path::Path;

use driver_api::id::{FunctionId, ModuleId, StreamId};
use driver_api::wire::{Request, request as r};
use gpu_server::worker::fuzzing::WINDOW;
use protocol::frame::{
    CallFlags, CallRecord, CompletionRecord, FrameHeader, FrameKind, Record, RecordBuffer,
    ReplyRecord,
};
use protocol::hello::{
    self, Accepted, DeviceRequest, DeviceSnapshot, Hello, HelloMessage, HelloReply, Intent,
    ProbeReport, RdmaEnd, RdmaQueuePair, RefusalCode, ServerInfo,
};
use zerocopy::IntoBytes;

const SAXPY: &[u8] = include_bytes!("../../soft-gpu/kernels/saxpy.ptx");
const TILED: &[u8] = include_bytes!("../../soft-gpu/kernels/matmul_tiled.ptx");
const REUSE: &[u8] = include_bytes!("../../soft-gpu/kernels/reuse.ptx");
const CALLS: &[u8] = include_bytes!("../../soft-gpu/kernels/calls.ptx");
const SAMPLE: &[u8] = include_bytes!("../../driver-api/src/image/testdata/sample.ptx");
const LZ4: &[u8] = include_bytes!("../../driver-api/src/image/testdata/ptx_lz4.fatbin");
const ZSTD: &[u8] = include_bytes!("../../driver-api/src/image/testdata/mixed_zstd.fatbin");
const CUBIN: &[u8] = include_bytes!("../../driver-api/src/image/testdata/lineinfo_sm80.cubin");

/// Writes a target's seeds into a folder.
///
/// # Errors
/// There is no such target; the operating system's.
pub fn write(target: &str, folder: &Path) -> std::io::Result<()> {
    let target = crate::find(target).ok_or(std::io::ErrorKind::NotFound)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

fn message<M: HelloMessage>(message: &M) -> [Vec<u8>; 2] {
    let whole = hello::encode(message).expect("a message of ours");
    [whole[hello::PREAMBLE_BYTES..].to_vec(), whole]
}

fn full_hello() -> Hello {
    let environment = hello::DRIVER_VARIABLES.map(|name| (name.to_owned(), "1".to_owned()));
    Hello {
        shape_hash: vec![7; 32],
        windows: vec![WINDOW],
        environment: environment.into(),
        devices: Some(DeviceRequest {
            count: 2,
            ..DeviceRequest::default()
        }),
        ..Hello::new(Intent::Session)
    }
}

fn snapshot() -> DeviceSnapshot {
    DeviceSnapshot {
        name: "a device".to_owned(),
        uuid: vec![1; hello::UUID_BYTES],
        total_memory: 1 << 33,
        attributes: (1..20).map(|number| (number, 2 * number)).collect(),
        default_limits: [(0, 1024)].into(),
        ..DeviceSnapshot::default()
    }
}

/// For `hello`.
#[must_use]
pub fn hello() -> Vec<Vec<u8>> {
    let accepted = Accepted {
        version: 1,
        session: 3,
        server: Some(ServerInfo {
            host: "a host".to_owned(),
            version: "1.2.3".to_owned(),
            driver_version: 13000,
            ..ServerInfo::default()
        }),
        devices: vec![snapshot()],
        windows: vec![WINDOW],
        rdma: Some(Box::new(rdma_end())),
        ..Accepted::default()
    };
    let report = ProbeReport {
        driver_version: 13000,
        devices: vec![snapshot(), snapshot()],
        ..ProbeReport::default()
    };
    let refused = hello::refusal(RefusalCode::Busy, "all sessions are taken");
    [
        message(&full_hello()),
        message(&HelloReply::from(accepted)),
        message(&HelloReply::from(refused)),
        message(&report),
    ]
    .concat()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// For `address`.
#[must_use]
pub fn address() -> Vec<Vec<u8>> {
    texts(&[
        "tcp://gpu1:7370",
        "gpu1,tcp://[::1]:1,unix:/run/gpurun/server.sock",
        "127.0.0.1, unix:/a b",
        "[fe80::1]",
    ])
}

/// For `settings`.
#[must_use]
pub fn settings() -> Vec<Vec<u8>> {
    texts(&[
        "server = [\"tcp://gpu1\", \"tcp://gpu2:7370\"]\ntransport = 'tcp'\ndevice = 'soft'\nsilence_grace = 60\n",
        "server = 'unix:/s'\n",
        "listen = [\"tcp://127.0.0.1:7370\", \"unix:/s\"]\ndevice = \"gpu\"\nmax_sessions = 32\nsilence_grace = 9\n",
        "driver = '/d'\ninsecure = true\n",
        "300",
    ])
}

fn frame(header: FrameHeader, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        length: payload.len() as u32,
        ..header
    };
    [header.to_wire().as_bytes(), payload].concat()
}

/// For `frames`: one of each kind.
#[must_use]
pub fn frames() -> Vec<Vec<u8>> {
    let one = |kind: FrameKind| {
        let header = FrameHeader {
            sequence: 1,
            ..FrameHeader::new(kind)
        };
        match kind {
            FrameKind::Heartbeat => frame(header, &[]),
            _ => frame(header, &[5; 40]),
        }
    };
    let mut all: Vec<Vec<u8>> = FrameKind::ALL.into_iter().map(one).collect();
    all.push(all.concat());
    all
}

fn payload<R: Record>(record: &R, bodies: &[&[u8]]) -> Vec<u8> {
    let mut buffer = RecordBuffer::new();
    for body in bodies {
        buffer.push_parts(record, &[body]).expect("it fits");
    }
    buffer.as_bytes().to_vec()
}

/// For `records`.
#[must_use]
pub fn records() -> Vec<Vec<u8>> {
    let call = CallRecord {
        number: 7,
        flags: CallFlags::ASKED,
        length: 0,
        thread: 1,
        context: 1,
    };
    let reply = ReplyRecord {
        call: 1,
        result: 0,
        length: 0,
    };
    let completion = CompletionRecord {
        stream: 1,
        result: 0,
        mark: 9,
    };
    vec![
        payload(&call, &[b"", b"body", &[1; 100]]),
        payload(&reply, &[b"12345678", b""]),
        payload(&completion, &[b"", b"", b""]),
    ]
}

/// For `requests`.
#[must_use]
pub fn requests() -> Vec<Vec<u8>> {
    vec![vec![0; 8], vec![1; 64], vec![255; 128]]
}

/// A session in the language of the fuzzed worker.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn call<R: Request>(mut self, flags: CallFlags, request: &R, rest: &[u8]) -> Self {
        let body = [request.as_bytes(), rest].concat();
        self.0.push(1);
        self.0.extend(R::NUMBER.to_le_bytes());
        self.0.extend([flags.bits() as u8, 1, 1]);
        self.sized(&body)
    }

    fn ask<R: Request>(self, request: &R, rest: &[u8]) -> Self {
        self.call(CallFlags::ASKED, request, rest)
    }

    fn post<R: Request>(self, request: &R, rest: &[u8]) -> Self {
        self.call(CallFlags::NONE, request, rest)
    }

    fn bulk(mut self, transfer: u8, offset: u8, bytes: &[u8]) -> Self {
        self.0.extend([2, transfer, offset]);
        self.sized(bytes)
    }

    fn sized(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u16).to_le_bytes());
        self.0.extend(bytes);
        self
    }
}

/// For `worker`: sessions as an honest client has them.
#[must_use]
pub fn worker() -> Vec<Vec<u8>> {
    const STREAM: StreamId = StreamId(3);
    const CHUNK: u64 = 2 << 20;
    let base = WINDOW.base;
    let begun = || {
        Script::default()
            .ask(&r::GpurunPrimaryRetain::new(0, 1, 0), &[])
            .ask(&r::GpurunStreamCreate::new(STREAM.0, 1, 0), &[])
            .ask(&r::GpurunMemoryMap::new(base, 2 * CHUNK), &[])
    };
    let mut parameters = base.to_le_bytes().to_vec();
    parameters.extend(5_u32.to_le_bytes());
    let function = FunctionId(9);
    let launch = r::GpurunLaunch::new(function, [1; 3], [32, 1, 1], 0, STREAM, 0, 0);
    let image = b".version 7.0\n.target sm_70\n.address_size 64\n";
    let load = r::GpurunModuleLoad::new(3, [0; 32], image.len() as u64, 0, 0);
    let copies = begun()
        .post(&r::GpurunCopyToDevice::new(base, 8, 0, STREAM), b"inlined!")
        .post(&r::GpurunCopyToDevice::new(base, 8, 1, STREAM), &[])
        .bulk(1, 0, b"half")
        .bulk(1, 4, b"more")
        .ask(&r::GpurunCopyFromDevice::new(base, 8, 0, STREAM), &[])
        .ask(&r::GpurunCopyFromDevice::new(base, 8, 2, STREAM), &[])
        .post(&r::GpurunFetchFromDevice::new(base, 8, 3, STREAM), &[])
        .post(&r::GpurunMark::new(STREAM, 1, 1), &[])
        .post(&r::GpurunMemoryUnmap::new(base, 2 * CHUNK, 9), &[]);
    let launches = begun()
        .ask(&load, image)
        .ask(
            &r::GpurunFunctionGet::new(ModuleId(3), function.0),
            b"store",
        )
        .ask(&r::GpurunModuleGlobal::new(ModuleId(3)), b"variable")
        .post(&launch, &parameters)
        .post(&r::GpurunMark::new(STREAM, 1, 1), &[])
        .post(&r::GpurunMark::new(StreamId(0), 0, 2), &[]);
    let mut all = vec![begun().0, copies.0, launches.0];
    // Each row once, its fields small numbers.
    let mut every = Every(begun());
    driver_api::wire::visit_requests(&mut every);
    all.push(every.0.0);
    all
}

struct Every(Script);

impl driver_api::wire::RequestVisitor for Every {
    fn visit<R: Request + PartialEq + std::fmt::Debug>(&mut self) {
        let body = vec![1; size_of::<R>()];
        self.0.0.push(1);
        self.0.0.extend(R::NUMBER.to_le_bytes());
        self.0.0.extend([1, 1, 1]);
        self.0 = std::mem::take(&mut self.0).sized(&body);
    }
}

/// For `image`.
#[must_use]
pub fn image() -> Vec<Vec<u8>> {
    [LZ4, ZSTD, CUBIN, SAMPLE, SAXPY].map(<[u8]>::to_vec).into()
}

/// For `elf`.
#[must_use]
pub fn elf() -> Vec<Vec<u8>> {
    vec![CUBIN.to_vec()]
}

/// For `ptx`.
#[must_use]
pub fn ptx() -> Vec<Vec<u8>> {
    [SAXPY, TILED, REUSE, CALLS, SAMPLE]
        .map(<[u8]>::to_vec)
        .into()
}

/// For `stats`: a file as a launcher makes it.
///
/// # Panics
/// There is no place for the file.
#[must_use]
pub fn stats() -> Vec<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    protocol::stats::MappedStats::create(file.as_file()).expect("counts");
    vec![std::fs::read(file.path()).expect("read")]
}

/// An end of a connection by RDMA that is well-formed.
fn rdma_end() -> RdmaEnd {
    let pair = Some(RdmaQueuePair {
        number: 17,
        first_packet: 12_345,
    });
    RdmaEnd {
        gid: vec![7; 16],
        mtu: 3,
        outgoing: pair,
        incoming: pair,
        ring_address: 0x7000_0000_0000,
        ring_key: 0x1234_5678,
        ring_bytes: 1 << 20,
        slots: 128,
        reading: pair,
        reads: 16,
    }
}

/// A graph with a kernel, and one with a condition that has it as a body.
pub fn graph() -> Vec<Vec<u8>> {
    use driver_api::device_graph::{conditional, kind, push};
    let mut plain = Vec::new();
    let launch = r::GpurunLaunch::new(FunctionId(1), [1; 3], [1; 3], 0, StreamId(0), 0, 0);
    push(&mut plain, kind::EMPTY, &[], [&[], &[]]).expect("not too much");
    push(
        &mut plain,
        kind::KERNEL,
        &[0],
        [launch.as_bytes(), &[7; 16]],
    )
    .expect("not too much");
    let body = conditional(5, &[plain.clone(), Vec::new()]).expect("not too much");
    let mut conditioned = plain.clone();
    push(&mut conditioned, kind::CONDITIONAL, &[1, 0], [&body, &[]]).expect("not too much");
    vec![plain, conditioned]
}

/// A token of the key that the target checks with, a bundle with it, and one of another key.
pub fn token() -> Vec<Vec<u8>> {
    use gpu_server::authority::token::{Claims, fuzzing_key, sign};
    use gpu_server::pool::{Limits, Moment};
    let claims = Claims {
        id: "t-seed".parse().expect("an id"),
        tenant: "team".parse().expect("a tenant"),
        limits: Limits {
            devices: Some(2),
            memory_bytes: Some(1 << 34),
            ..Limits::default()
        },
        is_operator: true,
        issued: Moment(1_700_000_000_000),
        expires: Some(Moment(1_800_000_000_000)),
    };
    let token = sign(&claims, &fuzzing_key());
    let bundle = format!(
        "[[server]]\naddress = \"tcp://h:7370\"\ntoken = \"{token}\"\nauthority = \"\"\"\nPEM\n\"\"\"\n"
    );
    vec![
        bundle.into_bytes(),
        b"gt1.AAAA.AAAA".to_vec(),
        token.into_bytes(),
    ]
}
