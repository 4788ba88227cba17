//! Copies that a card makes into device memory out of what the client offers: when the stream waits, what memory waits for, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::hostile::violates;
use super::*;
use protocol::limits::READ_BYTES;
use protocol::transport::memory::Card;
use protocol::transport::{Offer, RemoteMemory};

/// A stream beside that of the copies.
const OTHER: u32 = 6;

const LENGTH: usize = 3 * BULK_CHUNK_BYTES + 4321;

/// Where in the window's memory copies go.
const PLACE: u64 = 8;

/// A client, where its memory begins, whether its card is busy, and the program's bytes.
struct Copier {
    client: Client,
    base: u64,
    is_busy: Arc<AtomicBool>,
    bytes: Vec<u8>,
}

fn copier(takes: u64) -> Copier {
    let window = window();
    let base = window.base;
    let is_busy = Arc::new(AtomicBool::new(false));
    let card = Card {
        takes,
        is_busy: Arc::clone(&is_busy),
    };
    let client = Client::with_card(fake::driver(true), vec![window], card, true);
    let mut client = ready(client);
    map(&mut client, base, 4 * CHUNK_BYTES);
    Copier {
        client,
        base,
        is_busy,
        bytes: (0..LENGTH).map(|n| (n * 7 / 3) as u8).collect(),
    }
}

impl Copier {
    #[expect(unsafe_code, reason = "offers a test's bytes")]
    fn offer(&self, range: std::ops::Range<usize>) -> Offer {
        let part = &self.bytes[range];
        // SAFETY: the bytes stay as long as this, which outlives the tests' offers.
        let offer = unsafe { self.client.lender.offer(part.as_ptr(), part.len()) };
        offer.expect("offered")
    }

    /// Asks for a part to be read.
    fn ask(&mut self, offset: usize, memory: RemoteMemory) -> u64 {
        let request = r::GpurunReadToDevice::new(
            self.base + PLACE,
            LENGTH as u64,
            offset as u64,
            memory.length as u64,
            memory.address,
            memory.key,
            StreamId(STREAM),
        );
        self.client.begin(&request, &[])
    }

    /// Begins a copy of two parts.
    fn begin(&mut self) -> ([Offer; 2], [u64; 2]) {
        let half = LENGTH / 2 + 1;
        let offers = [self.offer(0..half), self.offer(half..LENGTH)];
        let first = self.ask(0, offers[0].memory());
        let second = self.ask(half, offers[1].memory());
        (offers, [first, second])
    }

    fn answer(&mut self, call: u64) -> Result<u64, CUresult> {
        let told = self.client.answer(call)?;
        Ok(u64::from_le_bytes(told.try_into().expect("a number")))
    }

    /// The device's bytes at a place of the copy, a multiple of eight.
    fn device(&self, offset: usize) -> [u8; 8] {
        fake::bytes(self.base + PLACE + offset as u64)
    }

    fn is_copied(&self) -> bool {
        let places = (0..LENGTH - 8).step_by(4000).chain([(LENGTH - 8) & !7]);
        places
            .into_iter()
            .all(|at| self.device(at) == self.bytes[at..at + 8])
    }
}

fn is_reply(call: u64) -> impl Fn(&Got) -> bool {
    move |got| matches!(got, Got::Reply(found, ..) if *found == call)
}

#[test]
fn parts_are_read_and_the_last_answer_tells_the_time() {
    let mut copier = copier(100);
    let flushed = fake::flushes();
    for _ in 0..3 {
        let (_offers, [first, second]) = copier.begin();
        assert_eq!(copier.answer(first), Ok(0));
        assert!(copier.answer(second).is_ok_and(|time| time > 0));
        assert!(copier.is_copied());
    }
    // Each part: the device does not say that its work sees what a card has written.
    assert!(fake::flushes() >= flushed + 6);
}

#[test]
fn what_is_put_behind_a_copy_waits_until_the_card_has_written_all_of_it() {
    let mut copier = copier(100);
    copier.is_busy.store(true, Relaxed);
    let (_offers, [_, second]) = copier.begin();
    let fill = r::GpurunFill::new(copier.base + PLACE, 0, 3, 1, 0xEE, 1, StreamId(STREAM));
    copier.client.post(&fill, &[]);
    mark(&mut copier.client, STREAM, 2);
    assert!(
        copier
            .client
            .not_within(MOMENT, |got| { is_mark(2)(got) || is_reply(second)(got) })
    );
    assert_eq!(copier.device(0), [0; 8]);
    copier.is_busy.store(false, Relaxed);
    copier.client.until(is_mark(2));
    assert_eq!(copier.device(0)[..3], [0xEE; 3]);
    assert_eq!(copier.device(0)[3..], copier.bytes[3..8]);
}

#[test]
fn a_copy_waits_for_its_place_in_the_stream() {
    let mut copier = copier(100);
    let (context, stream) = handles(&copier.client);
    fake::hold(context, stream);
    let fill = r::GpurunFill::new(copier.base + PLACE, 0, 5, 1, 0xAB, 1, StreamId(STREAM));
    copier.client.post(&fill, &[]);
    let (_offers, [first, second]) = copier.begin();
    assert!(copier.client.not_within(MOMENT, is_reply(first)));
    assert_eq!(copier.device(0), [0; 8]);
    fake::resume(context, stream);
    assert_eq!(copier.answer(first), Ok(0));
    assert!(copier.answer(second).is_ok());
    assert!(copier.is_copied());
}

/// The rest goes by way of host memory, behind what was read.
#[test]
fn a_copy_that_is_given_up_lets_its_stream_go() {
    let mut copier = copier(100);
    let nothing = RemoteMemory {
        address: 0,
        length: 0,
        key: 0,
    };
    let offer = copier.offer(0..LENGTH - 1000);
    let first = copier.ask(0, offer.memory());
    let end = copier.ask(LENGTH - 1000, nothing);
    assert!(copier.answer(first).is_ok() && copier.answer(end).is_ok());
    mark(&mut copier.client, STREAM, 3);
    copier.client.until(is_mark(3));
    let (_offers, [first, second]) = copier.begin();
    assert!(copier.answer(first).is_ok() && copier.answer(second).is_ok());
    assert!(copier.is_copied());
}

#[test]
fn a_read_that_fails_ends_its_copy_and_all_others_and_nothing_else() {
    let wrong: [fn(&mut RemoteMemory); 3] = [
        |memory| memory.key ^= 1,
        |memory| memory.address += 1,
        |memory| memory.address -= 1 << 20,
    ];
    for change in wrong {
        let mut copier = copier(100);
        let offer = copier.offer(0..1 << 20);
        let mut memory = offer.memory();
        let first = copier.ask(0, memory);
        assert!(copier.answer(first).is_ok());
        change(&mut memory);
        let second = copier.ask(1 << 20, memory);
        assert_eq!(copier.answer(second), Err(CUresult::NOT_SUPPORTED));
        // The copy is over, and so are reads.
        let third = copier.ask(2 << 20, offer.memory());
        assert_eq!(copier.answer(third), Err(CUresult::NOT_SUPPORTED));
        let again = copier.ask(0, offer.memory());
        assert_eq!(copier.answer(again), Err(CUresult::NOT_SUPPORTED));
        mark(&mut copier.client, STREAM, 3);
        copier.client.until(is_mark(3));
        assert_eq!(copier.device(0), copier.bytes[..8]);
        assert_eq!(copier.device(1 << 20), [0; 8]);
    }
}

#[test]
fn what_the_card_refuses_to_write_is_not_read() {
    let mut copier = copier(1);
    let (_offers, [first, second]) = copier.begin();
    assert_eq!(copier.answer(first), Ok(0));
    assert_eq!(copier.answer(second), Err(CUresult::NOT_SUPPORTED));
    mark(&mut copier.client, STREAM, 3);
    copier.client.until(is_mark(3));
}

#[test]
fn what_is_not_one_allocation_or_too_small_is_not_read() {
    let mut copier = copier(100);
    let offer = copier.offer(0..1 << 20);
    let memory = offer.memory();
    let ask = |copier: &mut Copier, destination, whole| {
        let request = r::GpurunReadToDevice::new(
            destination,
            whole,
            0,
            1 << 20,
            memory.address,
            memory.key,
            StreamId(STREAM),
        );
        copier.client.ask(&request, &[])
    };
    let (base, end) = (copier.base, 4 * CHUNK_BYTES);
    map(&mut copier.client, base + end, CHUNK_BYTES);
    let refusals = [
        (base, 1 << 20, CUresult::NOT_SUPPORTED),
        (base + end - 100, CHUNK_BYTES, CUresult::NOT_SUPPORTED),
        (base + 2 * end, CHUNK_BYTES, CUresult::INVALID_VALUE),
    ];
    for (destination, whole, refusal) in refusals {
        assert_eq!(ask(&mut copier, destination, whole), Err(refusal));
    }
    let (mut client, base) = client();
    map(&mut client, base, 4 * CHUNK_BYTES);
    let request = r::GpurunReadToDevice::new(base, 2 << 20, 0, 9, 4096, 7, StreamId(STREAM));
    let refused = client.ask(&request, &[]);
    assert_eq!(refused, Err(CUresult::NOT_SUPPORTED), "it has no card");
}

#[test]
fn memory_is_not_given_back_while_the_card_writes_it() {
    let mut copier = copier(100);
    let client = &mut copier.client;
    let created = client.ask(&r::GpurunStreamCreate::new(OTHER, 1, 0), &[]);
    created.expect("created");
    let fault = function(client, "fault");
    copier.is_busy.store(true, Relaxed);
    let (_offers, [_, second]) = copier.begin();
    // It is begun: a call that is answered has passed it, and its stream has reached it before.
    let (client, base) = (&mut copier.client, copier.base);
    assert!(client.not_within(MOMENT, |got| matches!(got, Got::Fault(..))));
    let launch = r::GpurunLaunch::new(fault, [1; 3], [1; 3], 0, StreamId(OTHER), 0, 0);
    client.post(&launch, &[0; 12]);
    mark(client, OTHER, 2);
    client.until(is_mark(2));
    client.post(&r::GpurunMemoryUnmap::new(base, 4 * CHUNK_BYTES, 42), &[]);
    assert!(client.not_within(MOMENT, is_mark(42)) && !fake::is_unmapped(base));
    copier.is_busy.store(false, Relaxed);
    copier.client.until(is_mark(42));
    assert!(fake::is_unmapped(copier.base));
    assert!(copier.answer(second).is_ok());
}

#[test]
fn a_context_does_not_end_while_the_card_writes_its_memory() {
    let mut copier = copier(100);
    copier.is_busy.store(true, Relaxed);
    let (_offers, _) = copier.begin();
    assert!(copier.client.not_within(MOMENT, |_| false));
    let (client, base) = (&mut copier.client, copier.base);
    let release = client.begin(&r::GpurunPrimaryRelease::new(0, CONTEXT), &[]);
    assert!(client.not_within(MOMENT * 4, is_reply(release)));
    assert!(!fake::is_unmapped(base));
    copier.is_busy.store(false, Relaxed);
    assert_eq!(copier.client.answer(release), Ok(Vec::new()));
    assert!(fake::is_unmapped(base));
}

#[test]
fn a_lost_stream_ends_its_copy_with_the_error() {
    let mut copier = copier(100);
    let (context, stream) = handles(&copier.client);
    fake::hold(context, stream);
    let (_offers, [first, second]) = copier.begin();
    let client = &mut copier.client;
    let created = client.ask(&r::GpurunStreamCreate::new(OTHER, 1, 0), &[]);
    created.expect("created");
    client.thread = 2;
    let fault = function(client, "fault");
    let launch = r::GpurunLaunch::new(fault, [1; 3], [1; 3], 0, StreamId(OTHER), 0, 0);
    client.post(&launch, &[0; 12]);
    for call in [first, second] {
        assert_eq!(copier.answer(call), Err(CUresult::ILLEGAL_ADDRESS));
    }
}

#[test]
fn parts_follow_their_rules() {
    let place = |length: usize| RemoteMemory {
        address: 4096,
        length,
        key: 7,
    };
    let attempts: [&[(usize, usize)]; 5] = [
        // A gap, two beginnings, one part too many, one that is too long, and bytes behind the end.
        &[(0, 100), (101, 100)],
        &[(0, 100), (0, 100)],
        &[(0, 100), (100, 100), (200, 100)],
        &[(0, READ_BYTES + 1)],
        &[(0, LENGTH + 1)],
    ];
    for parts in attempts {
        let mut copier = copier(100);
        let (context, stream) = handles(&copier.client);
        fake::hold(context, stream);
        for (offset, length) in parts {
            copier.ask(*offset, place(*length));
        }
        violates(&copier.client);
    }
}
