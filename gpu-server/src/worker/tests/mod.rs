//! Sessions over a connection in memory, on a driver made of functions in this process.

mod client;
mod direct;
pub(super) mod fake;
mod gpu_memory;
mod hostile;
mod mirrors;
mod multicast;
mod peer;
mod reads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driver_api::id::{EventId, FunctionId, ModuleId, StreamId};
use driver_api::result::CUresult;
use driver_api::wire::request as r;
use protocol::frame::{FrameHeader, FrameKind};
use protocol::hello::Window;
use protocol::limits::{BULK_CHUNK_BYTES, MAX_INLINE_COPY_BYTES};

use super::end::Reason;
use super::memory::CHUNK_BYTES;
use super::pace::Pacer;
use super::stream::LEGACY_STREAMS;
use crate::gate::turns::Answer;
use crate::gate::{Gate, Place, Seat, Share};
use client::{Client, Got};

const CONTEXT: u32 = 1;
const STREAM: u32 = 5;
const MOMENT: Duration = Duration::from_millis(50);

/// A window that no other test uses.
fn window() -> Window {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let size = 64 * CHUNK_BYTES;
    Window {
        base: fake::WINDOWS + NEXT.fetch_add(1, Ordering::Relaxed) * size,
        size,
    }
}

/// A client with a context, a stream, a window.
fn client() -> (Client, u64) {
    client_on(fake::driver(true))
}

fn client_on(driver: &'static driver_api::Driver) -> (Client, u64) {
    let window = window();
    let base = window.base;
    (ready(Client::new(driver, vec![window])), base)
}

/// Makes the context and the stream.
fn ready(mut client: Client) -> Client {
    client
        .ask(&r::GpurunPrimaryRetain::new(0, CONTEXT, 0), &[])
        .expect("retained");
    client.context = CONTEXT;
    client
        .ask(&r::GpurunStreamCreate::new(STREAM, 1, 0), &[])
        .expect("created");
    client
}

/// The driver's handles of the client's context and stream.
fn handles(client: &Client) -> (usize, usize) {
    let stream = client.session.streams.get(STREAM).expect("a stream");
    let context = client.session.contexts.get(CONTEXT).expect("a context");
    (context.handle().0, stream.handle.0)
}

fn map(client: &mut Client, address: u64, size: u64) -> u64 {
    let reply = client
        .ask(&r::GpurunMemoryMap::new(address, size), &[])
        .expect("mapped");
    u64::from_le_bytes(reply.try_into().expect("an address"))
}

fn mark(client: &mut Client, stream: u32, mark: u64) {
    client.post(&r::GpurunMark::new(StreamId(stream), 1, mark), &[]);
}

fn is_mark(mark: u64) -> impl Fn(&Got) -> bool {
    move |got| matches!(got, Got::Completion(_, _, found) if *found == mark)
}

fn read_back(client: &mut Client, address: u64, length: u64) -> Vec<u8> {
    client
        .ask(
            &r::GpurunCopyFromDevice::new(address, length, 0, StreamId(STREAM)),
            &[],
        )
        .expect("copied")
}

fn function(client: &mut Client, name: &str) -> FunctionId {
    let image = b".version 7.0\n.target sm_70\n.address_size 64\n";
    let (module, function) = (3, 9);
    client
        .ask(
            &r::GpurunModuleLoad::new(module, [0; 32], image.len() as u64, 0, 0),
            image,
        )
        .expect("loaded");
    let parameters = client
        .ask(
            &r::GpurunFunctionGet::new(ModuleId(module), function),
            name.as_bytes(),
        )
        .expect("found");
    // They are known: 8 bytes at 0, 4 bytes at 8.
    let words: Vec<u32> = parameters
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .collect();
    assert_eq!(words, [1, 0, 8, 8, 4]);
    FunctionId(function)
}

fn launch(client: &mut Client, function: FunctionId, parameters: &[u8]) {
    let request = r::GpurunLaunch::new(function, [1; 3], [1; 3], 0, StreamId(STREAM), 0, 0);
    client.post(&request, parameters);
}

#[test]
fn small_copies_go_both_ways() {
    let (mut client, base) = client();
    assert_eq!(map(&mut client, base, CHUNK_BYTES), base);
    let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
    let request = r::GpurunCopyToDevice::new(base + 5, 1000, 0, StreamId(STREAM));
    client.post(&request, &bytes);
    assert_eq!(read_back(&mut client, base + 5, 1000), bytes);
    client.post(
        &r::GpurunFill::new(base, 0, 7, 1, 0xAB, 1, StreamId(0)),
        &[],
    );
    client.post(
        &r::GpurunCopyOnDevice::new(base + 100, base, 7, StreamId(0)),
        &[],
    );
    assert_eq!(read_back(&mut client, base + 100, 7), [0xAB; 7]);
}

#[test]
fn large_copies_go_both_ways() {
    let (mut client, base) = client();
    let length = 5 * BULK_CHUNK_BYTES + 4321;
    map(&mut client, base, 4 * CHUNK_BYTES);
    let bytes: Vec<u8> = (0..length).map(|n| (n * 7 / 3) as u8).collect();
    let request = r::GpurunCopyToDevice::new(base, length as u64, 77, StreamId(STREAM));
    client.post(&request, &[]);
    client.bulk(77, &bytes, BULK_CHUNK_BYTES);
    let last_sent = 3 + 1 + 6;
    while client.acknowledged < last_sent {
        assert!(client.receive(Duration::from_secs(1)), "no acknowledgement");
    }
    let request = r::GpurunCopyFromDevice::new(base, length as u64, 78, StreamId(STREAM));
    let call = client.begin(&request, &[]);
    let got = client.until(|got| matches!(got, Got::Reply(found, ..) if *found == call));
    assert_eq!(joined(&got, 78), bytes);
    assert!(matches!(got.last(), Some(Got::Reply(_, 0, body)) if body.is_empty()));
}

/// The bytes of a transfer, whose parts must be in order.
fn joined(got: &[Got], transfer: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in got {
        if let Got::Bulk(found, offset, part) = item
            && *found == transfer
        {
            assert_eq!(*offset, bytes.len() as u64);
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

#[test]
fn a_fetch_is_delivered_before_the_next_mark() {
    let (mut client, base) = client();
    map(&mut client, base, 2 * CHUNK_BYTES);
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    let length = BULK_CHUNK_BYTES as u64 + 9;
    client.post(
        &r::GpurunFetchFromDevice::new(base, length, 5, StreamId(STREAM)),
        &[],
    );
    mark(&mut client, STREAM, 1);
    assert!(client.not_within(MOMENT, |got| !matches!(got, Got::Reply(..))));
    fake::resume(context, stream);
    let got = client.until(is_mark(1));
    assert_eq!(joined(&got, 5).len() as u64, length);
    assert_eq!(got.last(), Some(&Got::Completion(STREAM, 0, 1)));
}

#[test]
fn marks_are_pushed_in_order_and_when_reached() {
    for writes in [true, false] {
        let (mut client, _) = client_on(fake::driver(writes));
        let (context, stream) = handles(&client);
        client.post(&r::CuEventCreate::new(EventId(1), 0), &[]);
        fake::hold(context, stream);
        mark(&mut client, STREAM, 10);
        client.post(
            &r::GpurunEventRecord::new(EventId(1), StreamId(STREAM), 0, 11),
            &[],
        );
        mark(&mut client, 0, 1);
        let got = client.until(is_mark(1));
        assert!(got.contains(&Got::Completion(LEGACY_STREAMS + CONTEXT, 0, 1)));
        assert!(!got.iter().any(is_mark(10)), "the stream is held");
        fake::resume(context, stream);
        let marks: Vec<Got> = client.until(is_mark(11));
        assert_eq!(
            marks,
            [
                Got::Completion(STREAM, 0, 10),
                Got::Completion(STREAM, 0, 11)
            ]
        );
    }
}

#[test]
fn a_destroyed_stream_still_completes() {
    let (mut client, _) = client();
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    mark(&mut client, STREAM, 4);
    client.post(&r::GpurunStreamDestroy::new(StreamId(STREAM)), &[]);
    assert!(client.not_within(MOMENT, is_mark(4)));
    fake::resume(context, stream);
    client.until(is_mark(4));
}

#[test]
fn a_blocked_thread_holds_itself_only() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let image = b".version 7.0\n.target sm_70\n// hold 1001\n";
    let load = r::GpurunModuleLoad::new(50, [0; 32], image.len() as u64, 0, 0);
    let blocked = client.begin(&load, image);
    let queued = client.begin(
        &r::GpurunCopyFromDevice::new(base, 1, 0, StreamId(STREAM)),
        &[],
    );
    client.thread = 2;
    assert_eq!(read_back(&mut client, base, 1), [0]);
    assert!(client.not_within(MOMENT, |_| false));
    assert!(!client.replies.contains_key(&blocked));
    assert!(!client.replies.contains_key(&queued));
    fake::release(1001);
    let got = client.until(|got| matches!(got, Got::Reply(call, ..) if *call == queued));
    let replies: Vec<u64> = got
        .iter()
        .filter_map(|got| match got {
            Got::Reply(call, 0, _) => Some(*call),
            _ => None,
        })
        .collect();
    assert!(replies.ends_with(&[blocked, queued]), "{replies:?}");
}

#[test]
fn an_image_may_come_as_a_transfer_while_others_call() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let mut image = b".version 7.0\n.target sm_70\n//".to_vec();
    image.resize(200_000, b'x');
    let load = r::GpurunModuleLoad::new(50, [0; 32], image.len() as u64, 6, 0);
    let loading = client.begin(&load, &[]);
    client.frame(FrameHeader::bulk(6, 0), &image[..100_000]);
    client.thread = 2;
    assert_eq!(read_back(&mut client, base, 1), [0]);
    client.frame(FrameHeader::bulk(6, 100_000), &image[100_000..]);
    assert_eq!(client.answer(loading), Ok(Vec::new()));
    let function = r::GpurunFunctionGet::new(ModuleId(50), 9);
    assert_eq!(client.ask(&function, b"nothing"), Err(CUresult::NOT_FOUND));
}

#[test]
fn launches_read_their_parameters() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let store = function(&mut client, "store");
    let mut parameters = (base + 8).to_le_bytes().to_vec();
    parameters.extend(0x0102_0304_u32.to_le_bytes());
    launch(&mut client, store, &parameters);
    assert_eq!(read_back(&mut client, base + 8, 4), [4, 3, 2, 1]);
    launch(&mut client, store, &parameters[..11]);
    let got = client.until(|got| matches!(got, Got::Fault(..)));
    assert!(
        got.contains(&Got::Fault(
            CONTEXT.into(),
            1,
            "gpurunLaunch: CUDA_ERROR_INVALID_VALUE".to_owned()
        )),
        "{got:?}"
    );
}

#[test]
fn memory_stays_until_every_stream_has_passed() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    client.post(
        &r::GpurunFill::new(base, 0, 9, 1, 1, 1, StreamId(STREAM)),
        &[],
    );
    client.post(&r::GpurunMemoryUnmap::new(base, CHUNK_BYTES, 42), &[]);
    assert!(client.not_within(MOMENT, is_mark(42)));
    assert!(!fake::is_unmapped(base));
    // Until then the address is taken.
    assert_eq!(
        client.ask(&r::GpurunMemoryMap::new(base, CHUNK_BYTES), &[]),
        Err(CUresult::INVALID_VALUE)
    );
    fake::resume(context, stream);
    assert_eq!(
        client.until(is_mark(42)).last(),
        Some(&Got::Completion(0xFFFF_FFFF, 0, 42))
    );
    assert!(fake::is_unmapped(base));
    assert_eq!(map(&mut client, base, CHUNK_BYTES), base);
    client.post(&r::GpurunMemoryUnmap::new(base, CHUNK_BYTES, 43), &[]);
    client.until(is_mark(43));
}

#[test]
fn memory_stays_until_other_lanes_have_come_so_far() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let image = b".version 7.0\n.target sm_70\n// hold 1002\n";
    let load = r::GpurunModuleLoad::new(50, [0; 32], image.len() as u64, 0, 0);
    client.begin(&load, image);
    client.post(
        &r::GpurunFill::new(base, 0, 9, 1, 1, 1, StreamId(STREAM)),
        &[],
    );
    client.thread = 2;
    client.post(&r::GpurunMemoryUnmap::new(base, CHUNK_BYTES, 44), &[]);
    assert!(client.not_within(MOMENT, is_mark(44)));
    assert!(!fake::is_unmapped(base));
    fake::release(1002);
    client.until(is_mark(44));
    assert!(fake::is_unmapped(base));
}

#[test]
fn ranges_of_others_are_refused() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let stream = StreamId(STREAM);
    for (address, length) in [
        (0, 8),
        (base - 1, 8),
        (base + CHUNK_BYTES - 4, 8),
        (u64::MAX - 3, 8),
    ] {
        let request = r::GpurunCopyFromDevice::new(address, length, 0, stream);
        assert_eq!(
            client.ask(&request, &[]),
            Err(CUresult::INVALID_VALUE),
            "{address:#x}"
        );
    }
    for (address, size) in [
        (base, CHUNK_BYTES),
        (base + CHUNK_BYTES, 0),
        (base + CHUNK_BYTES, 4096),
        (base + 63 * CHUNK_BYTES, 2 * CHUNK_BYTES),
        (u64::MAX - CHUNK_BYTES + 1, CHUNK_BYTES),
        (base + CHUNK_BYTES, 0u64.wrapping_sub(CHUNK_BYTES)),
    ] {
        let request = r::GpurunMemoryMap::new(address, size);
        assert_eq!(
            client.ask(&request, &[]),
            Err(CUresult::INVALID_VALUE),
            "{address:#x} {size:#x}"
        );
    }
    let placed = map(&mut client, 0, 4096);
    assert_ne!(placed, 0);
    assert_eq!(
        client.ask(&r::GpurunMemoryMap::new(0, 1 << 50), &[]),
        Err(CUresult::OUT_OF_MEMORY)
    );
    client.post(&r::GpurunMemoryUnmap::new(placed, 4096, 1), &[]);
    client.until(is_mark(1));
    assert!(fake::is_unmapped(placed));
}

#[test]
fn a_fault_of_the_device_reaches_who_waits() {
    let (mut client, _) = client();
    let fault = function(&mut client, "fault");
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    launch(&mut client, fault, &[0; 12]);
    mark(&mut client, STREAM, 3);
    fake::resume(context, stream);
    let got = client.until(is_mark(3));
    let illegal = CUresult::ILLEGAL_ADDRESS.0;
    assert!(
        got.contains(&Got::Completion(STREAM, illegal, 3)),
        "{got:?}"
    );
    let faults = got
        .iter()
        .filter(|got| matches!(got, Got::Fault(1, 700, _)))
        .count();
    assert_eq!(faults, 1, "{got:?}");
    // Whoever waits later is told at once.
    mark(&mut client, STREAM, 4);
    let got = client.until(is_mark(4));
    assert!(got.contains(&Got::Completion(STREAM, illegal, 4)));
}

/// The next call of the program may be one that the client answers alone: by then it knows.
#[test]
fn a_reply_that_tells_of_a_lost_context_comes_behind_its_fault() {
    let (mut client, base) = client();
    let address = map(&mut client, base, CHUNK_BYTES);
    let fault = function(&mut client, "fault");
    launch(&mut client, fault, &[0; 12]);
    let copy = r::GpurunCopyFromDevice::new(address, 4, 0, StreamId(STREAM));
    let call = client.begin(&copy, &[]);
    let got = client.until(|got| matches!(got, Got::Reply(number, ..) if *number == call));
    let lost = CUresult::ILLEGAL_ADDRESS.0;
    let told = |got: &Got| matches!(got, Got::Fault(1, 700, _));
    let place = |is_it: &dyn Fn(&Got) -> bool| got.iter().position(is_it);
    let reply = place(
        &|got| matches!(got, Got::Reply(number, result, _) if *number == call && *result == lost),
    );
    assert!(
        reply.is_some() && place(&told) < reply && place(&told).is_some(),
        "{got:?}"
    );
}

#[test]
fn ids_are_not_taken_twice() {
    let (mut client, _) = client();
    assert_eq!(
        client.ask(&r::GpurunStreamCreate::new(STREAM, 0, 0), &[]),
        Err(CUresult::INVALID_VALUE)
    );
    assert_eq!(
        client.ask(&r::GpurunStreamCreate::new(LEGACY_STREAMS, 0, 0), &[]),
        Err(CUresult::INVALID_VALUE)
    );
    assert_eq!(
        client.ask(&r::GpurunPrimaryRetain::new(0, CONTEXT, 0), &[]),
        Err(CUresult::INVALID_VALUE)
    );
    client.context = 99;
    assert_eq!(
        client.ask(&r::GpurunStreamCreate::new(7, 0, 0), &[]),
        Err(CUresult::INVALID_CONTEXT)
    );
}

#[test]
fn a_context_does_not_end_while_something_of_it_is_sent() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let session = Arc::clone(&client.session);
    let acting = session.poller.hold_actions();
    let release = client.begin(&r::GpurunPrimaryRelease::new(0, CONTEXT), &[]);
    let is_over = |got: &Got| matches!(got, Got::Reply(call, ..) if *call == release);
    assert!(client.not_within(MOMENT, is_over));
    assert!(!fake::is_unmapped(base));
    drop(acting);
    assert_eq!(client.answer(release), Ok(Vec::new()));
    assert!(fake::is_unmapped(base));
}

#[test]
fn a_released_context_takes_everything_with_it() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    mark(&mut client, STREAM, 1);
    client.post(&r::GpurunPrimaryRelease::new(0, CONTEXT), &[]);
    client.until(is_mark(1));
    assert_eq!(
        client.ask(&r::GpurunStreamCreate::new(7, 0, 0), &[]),
        Err(CUresult::INVALID_CONTEXT)
    );
    assert!(fake::is_unmapped(base));
    assert!(client.session.streams.get(STREAM).is_none());
    // Who waits in a context that is gone is told.
    mark(&mut client, STREAM, 2);
    let got = client.until(is_mark(2));
    assert!(got.contains(&Got::Completion(STREAM, CUresult::INVALID_CONTEXT.0, 2)));
}

#[test]
fn received_frames_are_acknowledged() {
    let (mut client, _) = client();
    for number in 0..100 {
        client.post(&r::CuEventCreate::new(EventId(number), 0), &[]);
    }
    while client.acknowledged < 60 {
        assert!(client.receive(Duration::from_secs(1)), "no acknowledgement");
    }
}

#[test]
fn goodbye_and_a_lost_connection_end_the_session() {
    let (mut client, _) = client();
    client.frame(FrameHeader::new(FrameKind::Goodbye), b"done");
    assert_eq!(
        client.session.end.wait(),
        Reason::Goodbye("done".to_owned())
    );
    let (client, _) = self::client();
    let session = std::sync::Arc::clone(&client.session);
    drop(client);
    assert!(matches!(session.end.wait(), Reason::Lost(_)));
}

#[test]
fn inline_copies_have_their_length() {
    let (mut client, base) = client();
    map(&mut client, base, CHUNK_BYTES);
    let length = MAX_INLINE_COPY_BYTES as u64 + 1;
    let request = r::GpurunCopyFromDevice::new(base, length, 0, StreamId(STREAM));
    client.begin(&request, &[]);
    assert!(matches!(client.session.end.wait(), Reason::Violation(_)));
}

/// A client on a device that another lease shares, and the other's seat. It has the turn, and work that is not overdue for a minute.
fn client_beside() -> (Client, u64, Seat, Arc<Gate>, Place) {
    let gate = Arc::new(Gate::create().expect("a gate"));
    let places = [0.5, 0.5].map(|part| gate.admit(Share::new(part, false)).expect("a place"));
    let [other, own] = places.map(|place| gate.sit(place).expect("a seat"));
    assert!(matches!(other.wish().ask(false), Ok(Answer::Go)));
    other.begins(other.now() + 60_000_000_000);
    let window = window();
    let base = window.base;
    let pacer = Arc::new(Pacer::new(own));
    let client = Client::with_pacer(fake::driver(true), vec![window], pacer);
    (ready(client), base, other, gate, places[1])
}

#[test]
fn what_is_posted_behind_a_waiting_launch_stays_behind_it() {
    let (mut client, base, other, gate, place) = client_beside();
    map(&mut client, base, CHUNK_BYTES);
    let store = function(&mut client, "store");
    let mut parameters = base.to_le_bytes().to_vec();
    parameters.extend(1_u32.to_le_bytes());
    launch(&mut client, store, &parameters);
    // By another thread, which may know that the launch has been posted.
    client.thread = 2;
    client.post(
        &r::GpurunFill::new(base, 0, 4, 1, 7, 1, StreamId(STREAM)),
        &[],
    );
    mark(&mut client, STREAM, 1);
    assert!(client.not_within(MOMENT, is_mark(1)));
    other.done(0, other.now());
    client.until(is_mark(1));
    assert_eq!(read_back(&mut client, base, 4), [7; 4]);
    assert!(gate.used(place) > Duration::ZERO);
}

#[test]
fn a_lost_context_leaves_nothing_running() {
    let (mut client, _, other, gate, place) = client_beside();
    other.done(0, other.now());
    let fault = function(&mut client, "fault");
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    launch(&mut client, fault, &[0; 12]);
    mark(&mut client, STREAM, 1);
    while gate.used(place) == Duration::ZERO {
        std::thread::yield_now();
    }
    fake::resume(context, stream);
    client.until(is_mark(1));
    // The gate hears of it a moment after the client.
    let stands_still = || {
        let used = gate.used(place);
        std::thread::sleep(MOMENT);
        gate.used(place) == used
    };
    assert!((0..5).any(|_| stands_still()), "it runs on");
}
