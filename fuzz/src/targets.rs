//! The targets: one decoder each, and what must hold of what it makes.

use std::fmt::Debug;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use driver_api::device_graph;
use driver_api::image::{self, ComputeCapability, Image};
use driver_api::wire::{Request, RequestVisitor, decode, decode_with_rest, visit_requests};
use protocol::address::Address;
use protocol::config::{Sources, Texts, resolve};
use protocol::credentials;
use protocol::frame::{
    Calls, Completions, FrameHeader, Record, RecordBuffer, Records, Replies, WireHeader,
};
use protocol::hello::{self, Hello, HelloMessage, HelloReply, PREAMBLE_BYTES, ProbeReport};
use protocol::stats::MappedStats;
use protocol::transport::{Connection, Patience};
use soft_gpu::exec::Program;
use zerocopy::{FromBytes, IntoBytes};

/// Hellos, replies and reports, with their preamble and without.
pub fn hello(bytes: &[u8]) {
    one_message::<Hello>(bytes);
    one_message::<HelloReply>(bytes);
    one_message::<ProbeReport>(bytes);
    if let Some(preamble) = bytes.first_chunk::<PREAMBLE_BYTES>() {
        let _ = hello::parse_preamble(preamble);
    }
}

/// What is accepted can be said again, and is understood again.
fn one_message<M: HelloMessage + PartialEq + Debug>(bytes: &[u8]) {
    let _ = hello::read::<M>(&mut &*bytes);
    if let Ok(message) = hello::decode::<M>(bytes) {
        let again = hello::encode(&message).expect("what was accepted may be sent");
        // Numbers that are none are never equal to themselves.
        let read = hello::read::<M>(&mut &again[..]).expect("what may be sent is accepted");
        assert_eq!(format!("{message:?}"), format!("{read:?}"));
    }
}

/// Lists of servers.
pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(list) = Address::parse_list(text) {
        let again = Address::format_list(&list);
        assert_eq!(Address::parse_list(&again).ok(), Some(list), "{again}");
    }
}

/// Both files of settings, and the variables.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = gpu_server::config::from_text(Path::new("/server.toml"), text);
    let file = Sources {
        files: vec![(PathBuf::from("/config.toml"), text.to_owned())],
        ..Sources::default()
    };
    let _ = resolve(&file);
    let word = || Some(text.to_owned());
    let variables = Sources {
        variables: Texts {
            server: word(),
            transport: word(),
            device: word(),
            silence_grace: word(),
            rdma_device: word(),
            rdma_traffic_class: word(),
        },
        ..Sources::default()
    };
    let _ = resolve(&variables);
}

/// A connection on which these bytes arrive, and then its end.
pub fn frames(bytes: &[u8]) {
    if let Ok((wire, _)) = WireHeader::read_from_prefix(bytes)
        && let Ok(header) = FrameHeader::from_wire(&wire)
    {
        assert_eq!(header.to_wire().as_bytes(), wire.as_bytes());
    }
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    // More than the kernel holds would block: the rest is another input's business.
    ours.set_nonblocking(true).expect("set");
    let _ = ours.write(bytes);
    drop(ours);
    let connection = Connection::from_fd(theirs.into(), Patience::default());
    let mut receiver = connection.expect("a connection").receiver;
    let mut payload = Vec::new();
    while let Ok(header) = receiver.poll_header() {
        let Some(header) = header else {
            let Ok(true) = receiver.wait(None) else {
                return;
            };
            continue;
        };
        let most = (header.length as usize).min(8 << 10);
        payload.resize(most, 0);
        if receiver.read_payload(&mut payload).is_err() || receiver.skip_payload().is_err() {
            return;
        }
    }
}

/// Payloads of records.
pub fn records(bytes: &[u8]) {
    all_records(Calls::new(bytes));
    all_records(Replies::new(bytes));
    all_records(Completions::new(bytes));
}

/// What is read is written and read again as the same.
fn all_records<R: Record + PartialEq + Debug>(records: Records<'_, R>) {
    let found: Vec<(R, &[u8])> = records.map_while(Result::ok).collect();
    let mut buffer = RecordBuffer::new();
    for (record, body) in &found {
        buffer
            .push_parts(record, &[body])
            .expect("it fitted before");
    }
    let again = Records::<R>::new(buffer.as_bytes()).map(|item| item.expect("just written"));
    assert!(again.eq(found));
}

/// The fixed part of every call.
pub fn requests(bytes: &[u8]) {
    visit_requests(&mut Every(bytes));
}

struct Every<'a>(&'a [u8]);

impl RequestVisitor for Every<'_> {
    fn visit<R: Request + PartialEq + Debug>(&mut self) {
        let _ = decode::<R>(self.0);
        if let Ok((request, rest)) = decode_with_rest::<R>(self.0) {
            let again = [request.as_bytes(), rest].concat();
            assert_eq!(again, self.0);
        }
        let _ = <R::Reply>::read_from_bytes(self.0);
    }
}

/// A worker's session.
pub fn worker(bytes: &[u8]) {
    gpu_server::worker::fuzzing::serve(bytes);
}

/// Module images of every form, as the shim sends them and the worker and the software GPU open them.
pub fn image(bytes: &[u8]) {
    let device = ComputeCapability { major: 8, minor: 0 };
    match Image::parse(bytes) {
        Ok(Image::Fatbin(fatbin)) => {
            for entry in fatbin.container.entries().map_while(Result::ok) {
                // A claim of more is refused by other limits in the product, which has more memory than a fuzzer.
                if entry.announced_bytes() < 16 << 20
                    && let Ok(plain) = entry.plain()
                {
                    let _ = image::ptx::kernels(&plain);
                    elf(&plain);
                }
            }
            if let Ok(selected) = fatbin.container.select_for(device) {
                let again = image::Container::parse(&selected).expect("what we made");
                assert!(again.entries().all(|entry| entry.is_ok()));
            }
        }
        Ok(Image::Elf(bytes)) => elf(bytes),
        Ok(Image::Ptx(text)) => {
            let _ = image::ptx::kernels(text);
        }
        Err(_) => {}
    }
}

/// ELF files.
pub fn elf(bytes: &[u8]) {
    let _ = image::elf::tables_end(bytes);
    let _ = image::elf::length(bytes);
    let _ = image::elf::kernels(bytes);
    let _ = image::elf::embedded_ptx(bytes);
}

/// The software GPU's compiler: text, declarations, bodies, programs.
pub fn ptx(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(module) = soft_gpu::ptx::parse(text) else {
        return;
    };
    for kernel in module.kernels() {
        if let Ok(program) = Program::decode(&module, kernel, &|_| Some(0x1000)) {
            let _ = program.attributes();
        }
    }
}

/// The file in which a run is counted.
pub fn stats(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(bytes).expect("written");
    if let Ok(stats) = MappedStats::open(file.path()) {
        let report = stats.report();
        let _ = report.totals();
        stats.name(usize::from(bytes[0]), "name");
        stats.set_transport("tcp");
    }
}

/// Graphs as they travel, and the bodies of their conditions.
pub fn graph(bytes: &[u8]) {
    let mut again = Vec::new();
    for (place, node) in device_graph::nodes(bytes).enumerate() {
        let Ok(node) = node else {
            return;
        };
        let before: Vec<u32> = node.dependencies().map(|before| before as u32).collect();
        assert!(before.iter().all(|before| (*before as usize) < place));
        device_graph::push(&mut again, node.kind, &before, [node.body, &[]]).expect("not more");
        if let Ok((name, lists)) = device_graph::bodies(node.body) {
            let lists = lists.map(|list| list.map(<[u8]>::to_vec));
            if let Ok(lists) = lists.collect::<Result<Vec<_>, _>>() {
                let same = device_graph::conditional(name, &lists);
                assert_eq!(same.as_deref(), Some(node.body));
                lists.iter().for_each(|list| graph(list));
            }
        }
    }
    assert_eq!(again, bytes);
}

/// Token files and bundles; and tokens, as a server checks them.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(entries) = credentials::parse_bundle(text) {
        let again = credentials::format_bundle(&entries);
        let read = credentials::parse_bundle(&again).expect("what is written is read");
        assert_eq!(entries, read);
    }
    let _ = credentials::parse_token_file(text);
    let key = gpu_server::authority::token::fuzzing_key();
    if let Ok(claims) = gpu_server::authority::token::verify(text, &key.verifying_key(), SOON) {
        let again = gpu_server::authority::token::sign(&claims, &key);
        assert_eq!(again, text, "a token is written in one way");
    }
}

/// A moment at which the seeds' tokens are good.
const SOON: gpu_server::pool::Moment = gpu_server::pool::Moment(1_700_000_000_000);
