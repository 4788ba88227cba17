//! What no client should send: it ends the session, and nothing else.

use std::time::Duration;

use driver_api::device_graph;
use driver_api::id::{FunctionId, ModuleId, StreamId};
use driver_api::result::CUresult;
use driver_api::stream_memory::{MAX_OPERATIONS, StreamMemoryOperation, kind};
use driver_api::texture::{self, reference};
use driver_api::volume::{self, End, Volume};
use driver_api::wire::Request;
use driver_api::wire::{RequestVisitor, request as r, visit_requests};
use proptest::prelude::*;
use protocol::frame::{CallFlags, CallRecord, FrameHeader, FrameKind, RecordBuffer};
use protocol::transport::memory::{Card, Faults};
use zerocopy::{FromBytes, IntoBytes};

use super::super::end::Reason;
use super::client::{Client, Got};
use super::{client, client_on, fake, map, ready, window};

pub(super) fn violates(client: &Client) {
    assert!(matches!(client.session.end.wait(), Reason::Violation(_)));
}

#[test]
fn transfers_follow_their_rules() {
    let attempts: [fn(&mut Client, u64); 5] = [
        |client, _| client.frame(FrameHeader::bulk(9, 0), b"never opened"),
        |client, base| {
            client.post(&r::GpurunCopyToDevice::new(base, 8, 9, StreamId(0)), &[]);
            client.frame(FrameHeader::bulk(9, 4), b"gap!");
        },
        |client, base| {
            client.post(&r::GpurunCopyToDevice::new(base, 8, 9, StreamId(0)), &[]);
            client.frame(FrameHeader::bulk(9, 0), b"too long!");
        },
        |client, base| {
            client.post(
                &r::GpurunCopyToDevice::new(base, 8, 9, StreamId(0)),
                b"both",
            );
        },
        |client, base| {
            for _ in 0..2 {
                client.post(&r::GpurunCopyToDevice::new(base, 8, 9, StreamId(0)), &[]);
            }
        },
    ];
    for attempt in attempts {
        let (mut client, base) = client();
        map(&mut client, base, super::CHUNK_BYTES);
        attempt(&mut client, base);
        violates(&client);
    }
}

#[test]
fn core_dumps_follow_their_rules() {
    let (mut client, _) = client();
    // The driver of these tests has no such functions.
    let set = |enabled, flags| r::GpurunCoredumpSet::new(enabled, flags);
    let refused = client.ask(&set(1, 0), &[]);
    assert_eq!(refused.err(), Some(CUresult::NOT_SUPPORTED));
    let refused = client.ask(&set(1, 1 << 20), &[]);
    assert_eq!(refused.err(), Some(CUresult::INVALID_VALUE));
    let stands = client.ask(&r::GpurunCoredumpStand::new(1), &[]);
    assert_eq!(stands.expect("none"), [0; 12]);
    let refused = client.ask(&r::GpurunCoredumpStand::new(99), &[]);
    assert_eq!(refused.err(), Some(CUresult::INVALID_CONTEXT));
    let refused = client.ask(&r::GpurunCoredumpRead::new(1, 16, u64::MAX), &[]);
    assert_eq!(refused.err(), Some(CUresult::NOT_FOUND));
    client.post(&r::GpurunCoredumpRead::new(1, u32::MAX, 0), &[]);
    violates(&client);
}

#[test]
fn boxes_of_arrays_follow_their_rules() {
    const NO_KIND: u32 = 9;
    let volume = |destination: u32, source: u32, address: u64| Volume {
        destination: End {
            kind: destination.into(),
            address: address.into(),
            ..End::default()
        },
        source: End {
            kind: source.into(),
            address: address.into(),
            ..End::default()
        },
        extent: [4.into(), 1.into(), 1.into()],
    };
    let copies = [
        (volume::ARRAY, volume::TRAVELS, "short"),
        (volume::TRAVELS, volume::ARRAY, ""),
        (volume::ARRAY, volume::LINEAR, "bytes"),
        (NO_KIND, volume::LINEAR, ""),
        (volume::LINEAR, volume::LINEAR, ""),
    ];
    for (destination, source, bytes) in copies {
        let (mut client, base) = client();
        map(&mut client, base, super::CHUNK_BYTES);
        let mut rest = volume(destination, source, base).as_bytes().to_vec();
        rest.extend_from_slice(bytes.as_bytes());
        client.post(&r::GpurunCopyVolume::new(StreamId(0)), &rest);
        violates(&client);
    }
    let readings = [
        volume(volume::TRAVELS, volume::LINEAR, 0)
            .as_bytes()
            .to_vec(),
        volume(volume::ARRAY, volume::ARRAY, 0).as_bytes().to_vec(),
        vec![0; 100],
    ];
    for rest in readings {
        let (mut client, _) = client();
        client.post(&r::GpurunFetchVolume::new(StreamId(0), 1), &rest);
        violates(&client);
    }
}

#[test]
fn stream_memory_operations_follow_their_rules() {
    let operation = |kind, address| StreamMemoryOperation::new(kind, address, 1, 0);
    let cases = [
        (0, 0, 0),
        (MAX_OPERATIONS as u32 + 1, MAX_OPERATIONS + 1, 0),
        (2, 1, 0),
        (1, 1, 8),
    ];
    for (count, present, more) in cases {
        let (mut client, base) = client();
        map(&mut client, base, super::CHUNK_BYTES);
        let mut bytes = operation(kind::WRITE_32, base).as_bytes().repeat(present);
        bytes.resize(bytes.len() + more, 0);
        client.post(&r::GpurunStreamMemory::new(StreamId(0), count), &bytes);
        violates(&client);
    }
    // What is only wrong is refused, and the session goes on.
    let (mut client, base) = client();
    map(&mut client, base, super::CHUNK_BYTES);
    let end = base + super::CHUNK_BYTES;
    for wrong in [
        operation(7, base),
        operation(kind::WAIT_64, base + 4),
        operation(kind::WRITE_32, end),
        operation(kind::WRITE_64, 0x1000),
    ] {
        let request = r::GpurunStreamMemory::new(StreamId(0), 1);
        let refused = client.ask(&request, wrong.as_bytes());
        assert_eq!(refused, Err(CUresult::INVALID_VALUE), "{wrong:?}");
    }
}

#[test]
fn references_follow_their_rules() {
    let (mut client, _) = client();
    let invalid = Err(CUresult::INVALID_HANDLE);
    // Of no module, and none that is there.
    let get = r::GpurunReferenceGet::new(1, reference::kind::TEXTURE, 77);
    assert_eq!(client.ask(&get, b"picture"), invalid);
    let bind = r::GpurunReferenceBind::new(1, 0);
    let object = texture::Object::default();
    assert_eq!(client.ask(&bind, object.as_bytes()), invalid);
    let change = |number, words| r::GpurunReferenceChange::new(1, number, words);
    assert_eq!(client.ask(&change(3, [1, 0, 0, 0]), &[]), invalid);
    assert_eq!(client.ask(&r::GpurunReferenceDestroy::new(1), &[]), invalid);
    // No such change, and one that no reference can take.
    for wrong in [change(99, [0; 4]), change(2, [3, 0, 0, 0])] {
        let refused = client.ask(&wrong, &[]);
        assert_eq!(refused, Err(CUresult::INVALID_VALUE), "{wrong:?}");
    }
    client.begin(&bind, &[0; 7]);
    violates(&client);
}

/// A list of one node.
fn list(kind: u32, after: &[u32], body: [&[u8]; 2]) -> Vec<u8> {
    let mut list = Vec::new();
    device_graph::push(&mut list, kind, after, body).expect("not too much");
    list
}

#[test]
fn graphs_follow_their_rules() {
    use device_graph::{CopyBody, CopyEnd, kind};
    let empty = list(kind::EMPTY, &[], [&[], &[]]);
    for malformed in [
        list(kind::EMPTY, &[0], [&[], &[]]),
        list(9, &[], [&[], &[]]),
        list(kind::COPY, &[], [&[0; 8], &[]]),
        list(kind::KERNEL, &[], [&[0; 8], &[]]),
        empty[..5].to_vec(),
    ] {
        let (mut client, _) = client();
        client.post(&r::GpurunGraphMake::new(1, 0, 1), &malformed);
        violates(&client);
    }
    // What is only wrong is refused, and the session goes on.
    let (mut client, base) = client();
    map(&mut client, base, super::CHUNK_BYTES);
    let end = |first: u64| CopyEnd {
        first: first.into(),
        row: 16.into(),
        rows: 4.into(),
    };
    let copy = |destination, source| CopyBody {
        destination: end(destination),
        source: end(source),
        width: 16.into(),
        height: 4.into(),
        depth: 2.into(),
    };
    let mut make = |list: &[u8]| client.ask(&r::GpurunGraphMake::new(1, 0, 1), list);
    for (destination, source) in [
        (base + super::CHUNK_BYTES - 127, base),
        (base, base + super::CHUNK_BYTES - 127),
        (0x1000, base),
    ] {
        let body = copy(destination, source);
        let refused = make(&list(kind::COPY, &[], [body.as_bytes(), &[]]));
        assert_eq!(refused, Err(CUresult::INVALID_VALUE), "{body:?}");
    }
    let fill = r::GpurunFill::new(base, 0, super::CHUNK_BYTES + 1, 1, 0, 1, StreamId(0));
    let refused = make(&list(kind::FILL, &[], [fill.as_bytes(), &[]]));
    assert_eq!(refused, Err(CUresult::INVALID_VALUE));
    let launch = r::GpurunLaunch::new(FunctionId(77), [1; 3], [1; 3], 0, StreamId(0), 0, 0);
    let refused = make(&list(kind::KERNEL, &[], [launch.as_bytes(), &[0; 12]]));
    assert_eq!(refused, Err(CUresult::INVALID_HANDLE));
    let body = copy(base + super::CHUNK_BYTES - 128, base);
    make(&list(kind::COPY, &[], [body.as_bytes(), &[]])).expect("as large as it can be");
    assert_eq!(
        make(&empty),
        Err(CUresult::INVALID_VALUE),
        "the number is taken"
    );
}

fn condition(client: &mut Client, within: u32, (node, body): (u32, u32)) -> Result<u64, CUresult> {
    let request = r::GpurunConditionMake::new(within, node, body, 1, 1);
    let reply = client.ask(&request, &[])?;
    let reply = driver_api::wire::reply::GpurunConditionMake::read_from_bytes(&reply);
    Ok(reply.expect("a reply").handle())
}

/// A node with a condition, of its name, and its bodies.
fn conditional(node: u32, bodies: &[Vec<u8>]) -> Vec<u8> {
    let body = device_graph::conditional(node, bodies).expect("not too much");
    list(device_graph::kind::CONDITIONAL, &[], [&body, &[]])
}

#[test]
fn conditions_follow_their_rules() {
    const IF: u32 = 0;
    const SWITCH: u32 = 2;
    let (mut client, _) = client();
    let invalid = Err(CUresult::INVALID_VALUE);
    let unknown = Err(CUresult::INVALID_HANDLE);
    assert_eq!(condition(&mut client, 0, (0, 0)), invalid);
    assert_eq!(condition(&mut client, 1, (9, 0)), unknown);
    let handle = condition(&mut client, 1, (0, 0)).expect("the number is free still");
    let make = |client: &mut Client, within, place: (u32, u32), node, handle, kind, size| {
        let request =
            r::GpurunConditionalMake::new(within, place.0, place.1, node, handle, kind, size);
        client.ask(&request, &[]).map(drop)
    };
    let within = |client: &mut Client, graph, node, handle, kind, size| {
        make(client, graph, (0, 0), node, handle, kind, size)
    };
    assert_eq!(within(&mut client, 2, 5, handle, IF, 1), unknown.map(drop));
    for (node, handle, kind, size) in [
        (5, handle + 1, IF, 1),
        (5, handle, IF, 3),
        (5, handle, 3, 1),
        (5, handle, SWITCH, u32::MAX),
        (0, handle, IF, 1),
    ] {
        let refused = within(&mut client, 1, node, handle, kind, size);
        assert_eq!(refused, invalid.map(drop), "{node} {kind} {size}");
    }
    within(&mut client, 1, 5, handle, SWITCH, 2).expect("made");
    assert_eq!(within(&mut client, 1, 6, handle, IF, 1), invalid.map(drop));
    assert_eq!(condition(&mut client, 1, (5, 2)), invalid);
    let inner = condition(&mut client, 1, (5, 1)).expect("of a body");
    assert_eq!(within(&mut client, 1, 5, inner, IF, 1), invalid.map(drop));
    make(&mut client, 1, (5, 1), 6, inner, IF, 1).expect("made");
    // What is launchable has each node where it was made, and once.
    let fill = |client: &mut Client, graph, list: &[u8]| {
        client
            .ask(&r::GpurunGraphMake::new(graph, 1, 1), list)
            .map(drop)
    };
    let empty = list(device_graph::kind::EMPTY, &[], [&[], &[]]);
    let inside = conditional(6, std::slice::from_ref(&empty));
    for (list, refused) in [
        (empty.clone(), CUresult::NOT_SUPPORTED),
        (
            conditional(5, &[empty.clone(), empty.clone()]),
            CUresult::NOT_SUPPORTED,
        ),
        (
            conditional(5, &[inside.clone(), empty.clone()]),
            CUresult::INVALID_VALUE,
        ),
        (inside.clone(), CUresult::INVALID_VALUE),
        (
            conditional(5, &[empty.clone(), inside.repeat(2)]),
            CUresult::INVALID_VALUE,
        ),
    ] {
        assert_eq!(fill(&mut client, 7, &list), Err(refused));
    }
    let whole = conditional(5, &[empty.clone(), inside.clone()]);
    for graph in [7, 8] {
        fill(&mut client, graph, &whole).expect("made");
    }
    client
        .ask(&r::GpurunConditionalEnd::new(1, 5), &[])
        .expect("ended");
    assert_eq!(condition(&mut client, 1, (6, 0)), unknown, "it was inside");
    fill(&mut client, 9, &empty).expect("nothing else is left");
    for request in [1, 1, 77] {
        client
            .ask(&r::GpurunConditionsEnd::new(request), &[])
            .expect("ended, or not there");
    }
    client
        .ask(&r::GpurunConditionalEnd::new(1, 5), &[])
        .expect("gone with its graph");
    assert_eq!(fill(&mut client, 10, &empty), unknown.map(drop));
}

#[test]
fn conditions_are_of_graphs_that_have_them() {
    let (mut own, _) = client();
    own.post(&r::GpurunGraphMake::new(1, 0, 1), &conditional(5, &[]));
    violates(&own);
    let (mut own, _) = client();
    let handle = condition(&mut own, 1, (0, 0)).expect("made");
    own.ask(
        &r::GpurunConditionalMake::new(1, 0, 0, 5, handle, 0, 2),
        &[],
    )
    .expect("made");
    own.post(
        &r::GpurunGraphMake::new(1, 1, 1),
        &conditional(5, &[vec![]]),
    );
    violates(&own);
}

#[test]
fn an_old_driver_has_no_conditions() {
    let (mut client, _) = client_on(fake::driver(false));
    let none = condition(&mut client, 1, (0, 0));
    assert_eq!(none, Err(CUresult::NOT_SUPPORTED));
    let empty = list(device_graph::kind::EMPTY, &[], [&[], &[]]);
    let made = client.ask(&r::GpurunGraphMake::new(7, 1, 1), &empty);
    assert_eq!(made, Err(CUresult::INVALID_HANDLE), "nothing was begun");
}

#[test]
fn conditions_are_bounded() {
    const SWITCH: u32 = 2;
    let (mut client, _) = client();
    for within in [1, 2] {
        let mut made = 0;
        let refused = loop {
            let handle = match condition(&mut client, within, (0, 0)) {
                Ok(handle) => handle,
                Err(error) => break error,
            };
            let node = r::GpurunConditionalMake::new(within, 0, 0, made + 1, handle, SWITCH, 4096);
            match client.ask(&node, &[]) {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((refused, made), (CUresult::OUT_OF_MEMORY, 63));
        client
            .ask(&r::GpurunConditionsEnd::new(within), &[])
            .expect("ended");
    }
}

#[test]
fn a_graph_in_parts_is_one_and_bounded() {
    let (mut client, _) = client();
    let list = list(device_graph::kind::EMPTY, &[], [&[], &[]]).repeat(20_000);
    let (first, rest) = list.split_at(list.len() / 2 + 1);
    client
        .ask(&r::GpurunGraphMake::new(1, 0, 0), first)
        .expect("kept");
    client
        .ask(&r::GpurunGraphMake::new(1, 0, 1), rest)
        .expect("made");
    let part = vec![0; 1 << 19];
    for _ in 0..device_graph::MAX_BYTES / part.len() {
        client
            .ask(&r::GpurunGraphMake::new(2, 0, 0), &part)
            .expect("kept");
    }
    client.post(&r::GpurunGraphMake::new(2, 0, 0), &part);
    violates(&client);
}

#[test]
fn a_graph_is_launched_no_more_when_a_function_of_it_is_gone() {
    let (mut client, _) = client();
    let function = super::function(&mut client, "store");
    let launch = r::GpurunLaunch::new(function, [1; 3], [1; 3], 0, StreamId(0), 0, 0);
    let list = list(
        device_graph::kind::KERNEL,
        &[],
        [launch.as_bytes(), &[0; 12]],
    );
    client
        .ask(&r::GpurunGraphMake::new(1, 0, 1), &list)
        .expect("made");
    let launch = |client: &mut Client| client.ask(&r::GpurunGraphLaunch::new(1, StreamId(0)), &[]);
    launch(&mut client).expect("launched");
    client
        .ask(&r::CuModuleUnload::new(ModuleId(3)), &[])
        .expect("unloaded");
    assert_eq!(launch(&mut client), Err(CUresult::INVALID_HANDLE));
    client.ask(&r::GpurunGraphEnd::new(1), &[]).expect("ended");
    client
        .ask(&r::GpurunGraphEnd::new(1), &[])
        .expect("gone already");
    assert_eq!(launch(&mut client), Err(CUresult::INVALID_HANDLE));
}

#[test]
fn a_refused_copy_is_read_over() {
    let (mut client, base) = client();
    client.post(&r::GpurunCopyToDevice::new(base, 8, 9, StreamId(0)), &[]);
    client.frame(FrameHeader::bulk(9, 0), b"nowhere!");
    client.until(|got| matches!(got, Got::Fault(..)));
    map(&mut client, base, super::CHUNK_BYTES);
}

#[test]
fn frames_of_the_other_direction_end_it() {
    for kind in [FrameKind::Replies, FrameKind::Fault, FrameKind::Output] {
        let (mut client, _) = client();
        client.frame(FrameHeader::new(kind), b"");
        violates(&client);
    }
}

/// Sends bodies of chosen bytes for every row.
struct Garbage<'a> {
    records: RecordBuffer,
    bytes: &'a [u8],
    asked: bool,
}

impl RequestVisitor for Garbage<'_> {
    fn visit<R: Request + PartialEq + core::fmt::Debug>(&mut self) {
        let mut body = self.bytes.to_vec();
        body.resize(size_of::<R>(), 1);
        let flags = match self.asked {
            true => CallFlags::ASKED,
            false => CallFlags::NONE,
        };
        let record = CallRecord {
            number: R::NUMBER,
            flags,
            length: 0,
            thread: 1,
            context: 1,
        };
        self.records.push_parts(&record, &[&body]).expect("fits");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Bodies of the right length with any content never end the worker otherwise than by a violation.
    #[test]
    fn any_fields_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64), asked: bool, has_card: bool) {
        let card = Card { takes: 100, ..Card::default() };
        let mut client = match has_card {
            true => ready(Client::with_card(fake::driver(true), vec![window()], card, true)),
            false => client().0,
        };
        let mut garbage = Garbage { records: RecordBuffer::new(), bytes: &bytes, asked };
        visit_requests(&mut garbage);
        client.frame(FrameHeader::new(FrameKind::Calls), garbage.records.as_bytes());
        client.frame(FrameHeader::new(FrameKind::Goodbye), b"");
        let reason = client.session.end.wait();
        prop_assert!(!matches!(reason, Reason::Failed(_)), "{reason:?}");
    }

    /// Payloads of any bytes end in a violation, or in nothing.
    #[test]
    fn any_payload_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), number in 0_u16..320) {
        let mut client = Client::new(fake::driver(true), Vec::new());
        let mut records = RecordBuffer::new();
        let record = CallRecord { number, flags: CallFlags::NONE, length: 0, thread: 0, context: 0 };
        records.push_parts(&record, &[&bytes]).expect("fits");
        client.frame(FrameHeader::new(FrameKind::Calls), records.as_bytes());
        client.frame(FrameHeader::new(FrameKind::Calls), &bytes);
        client.frame(FrameHeader::new(FrameKind::Goodbye), b"");
        let reason = client.session.end.wait();
        prop_assert!(!matches!(reason, Reason::Failed(_)), "{reason:?}");
    }

    /// However a connection delays, splits and cuts, a session ends by its goodbye or by the loss.
    #[test]
    fn cuts_are_survived(seed: u64, cut in prop::option::of(200_u64..20_000)) {
        let faults = Faults {
            seed,
            max_delay: Duration::from_micros(50),
            max_piece_bytes: 700,
            cut_after_sent_by_first: cut,
            ..Faults::default()
        };
        let mut client = Client::with_faults(fake::driver(true), Vec::new(), &faults);
        client.begin(&r::GpurunPrimaryRetain::new(0, 1, 0), &[]);
        client.context = 1;
        for mark in 1..200 {
            client.post(&r::GpurunMark::new(StreamId(0), 1, mark), &[]);
        }
        client.frame(FrameHeader::new(FrameKind::Goodbye), b"");
        let reason = client.session.end.wait();
        let is_expected = matches!(reason, Reason::Goodbye(_) | Reason::Lost(_));
        prop_assert!(is_expected, "seed {seed}: {reason:?}");
    }
}
