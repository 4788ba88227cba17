//! Copies that a card makes out of device memory: when the stream waits, what memory waits for, and what is done where the card refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use protocol::transport::memory::Card;

/// A stream beside that of the copies.
const OTHER: u32 = 6;

const LENGTH: usize = 5 * BULK_CHUNK_BYTES + 4321;

fn card(takes: u64) -> (Card, Arc<AtomicBool>) {
    let is_busy = Arc::new(AtomicBool::new(false));
    let card = Card {
        takes,
        is_busy: Arc::clone(&is_busy),
    };
    (card, is_busy)
}

/// A client with bytes in device memory from `base + 3` on.
fn client_with(takes: u64, is_always: bool) -> (Client, u64, Vec<u8>, Arc<AtomicBool>) {
    let window = window();
    let base = window.base;
    let (card, is_busy) = card(takes);
    let client = Client::with_card(fake::driver(true), vec![window], card, is_always);
    let mut client = ready(client);
    map(&mut client, base, 4 * CHUNK_BYTES);
    let bytes: Vec<u8> = (0..LENGTH).map(|n| (n * 7 / 3) as u8).collect();
    let request = r::GpurunCopyToDevice::new(base + 3, LENGTH as u64, 1, StreamId(STREAM));
    client.post(&request, &[]);
    client.bulk(1, &bytes, BULK_CHUNK_BYTES);
    mark(&mut client, STREAM, 1);
    client.until(is_mark(1));
    (client, base, bytes, is_busy)
}

fn is_bulk_end(got: &Got) -> bool {
    matches!(got, Got::Bulk(_, offset, part) if *offset as usize + part.len() == LENGTH)
}

fn copy(client: &mut Client, base: u64, transfer: u64) -> (Result<Vec<u8>, CUresult>, Vec<u8>) {
    let request = r::GpurunCopyFromDevice::new(base + 3, LENGTH as u64, transfer, StreamId(STREAM));
    let call = client.begin(&request, &[]);
    let got = client.until(|got| matches!(got, Got::Reply(found, ..) if *found == call));
    let answer = client.answer(call);
    (answer, joined(&got, transfer))
}

fn fetch(client: &mut Client, base: u64, transfer: u64) {
    let request =
        r::GpurunFetchFromDevice::new(base + 3, LENGTH as u64, transfer, StreamId(STREAM));
    client.post(&request, &[]);
}

/// No copy of the driver's may begin where the card reads.
fn refuse_copies(base: u64) {
    for part in 0..8 {
        fake::refuse_reads(
            base + 3 + part * BULK_CHUNK_BYTES as u64,
            Some(CUresult::UNKNOWN),
        );
    }
}

#[test]
fn a_large_copy_needs_no_driver_and_a_small_one_no_card() {
    let (mut client, base, bytes, _) = client_with(100, true);
    refuse_copies(base);
    for transfer in 10..13 {
        assert_eq!(
            copy(&mut client, base, transfer),
            (Ok(Vec::new()), bytes.clone())
        );
    }
    let one = BULK_CHUNK_BYTES as u64;
    let request = r::GpurunCopyFromDevice::new(base + 3, one, 20, StreamId(STREAM));
    assert_eq!(client.ask(&request, &[]), Err(CUresult::UNKNOWN));
}

#[test]
fn what_is_put_behind_a_copy_waits_until_the_card_has_done_with_the_memory() {
    let (mut client, base, bytes, is_busy) = client_with(100, true);
    refuse_copies(base);
    is_busy.store(true, Relaxed);
    fetch(&mut client, base, 10);
    let fill = r::GpurunFill::new(base, 0, LENGTH as u64, 1, 0xEE, 1, StreamId(STREAM));
    client.post(&fill, &[]);
    mark(&mut client, STREAM, 2);
    let mut got = client.until(is_bulk_end);
    assert!(
        client.not_within(MOMENT, is_mark(2)),
        "the card still reads"
    );
    assert_eq!(fake::bytes(base + 8), bytes[5..13]);
    is_busy.store(false, Relaxed);
    got.extend(client.until(is_mark(2)));
    assert_eq!(joined(&got, 10), bytes);
    assert_eq!(fake::bytes(base + 8), [0xEE; 8]);
}

#[test]
fn a_copy_waits_for_its_place_in_the_stream() {
    let (mut client, base, bytes, _) = client_with(100, true);
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    let fill = r::GpurunFill::new(base + 3, 0, 5, 1, 0xAB, 1, StreamId(STREAM));
    client.post(&fill, &[]);
    fetch(&mut client, base, 10);
    assert!(client.not_within(MOMENT, |got| matches!(got, Got::Bulk(..))));
    fake::resume(context, stream);
    let got = joined(&client.until(is_bulk_end), 10);
    assert_eq!(got[..5], [0xAB; 5]);
    assert_eq!(got[5..], bytes[5..]);
}

/// A lost context keeps nothing waiting but the memory that is being read.
#[test]
fn memory_is_not_given_back_while_the_card_reads_it() {
    let (mut client, base, bytes, is_busy) = client_with(100, true);
    let created = client.ask(&r::GpurunStreamCreate::new(OTHER, 1, 0), &[]);
    created.expect("created");
    let fault = function(&mut client, "fault");
    is_busy.store(true, Relaxed);
    fetch(&mut client, base, 10);
    let mut got = client.until(is_bulk_end);
    let launch = r::GpurunLaunch::new(fault, [1; 3], [1; 3], 0, StreamId(OTHER), 0, 0);
    client.post(&launch, &[0; 12]);
    mark(&mut client, OTHER, 2);
    got.extend(client.until(is_mark(2)));
    client.post(&r::GpurunMemoryUnmap::new(base, 4 * CHUNK_BYTES, 42), &[]);
    assert!(client.not_within(MOMENT, is_mark(42)) && !fake::is_unmapped(base));
    is_busy.store(false, Relaxed);
    client.until(is_mark(42));
    assert!(fake::is_unmapped(base));
    assert_eq!(joined(&got, 10), bytes);
}

#[test]
fn a_context_does_not_end_while_the_card_reads_its_memory() {
    let (mut client, base, _, is_busy) = client_with(100, true);
    is_busy.store(true, Relaxed);
    fetch(&mut client, base, 10);
    client.until(is_bulk_end);
    let release = client.begin(&r::GpurunPrimaryRelease::new(0, CONTEXT), &[]);
    assert!(client.not_within(MOMENT * 4, |got| matches!(got, Got::Reply(..))));
    assert!(!fake::is_unmapped(base));
    is_busy.store(false, Relaxed);
    assert_eq!(client.answer(release), Ok(Vec::new()));
    assert!(fake::is_unmapped(base));
}

#[test]
fn what_the_card_refuses_the_driver_copies_beside_the_held_stream() {
    for takes in [0, 1] {
        let (mut client, base, bytes, _) = client_with(takes, true);
        assert_eq!(copy(&mut client, base, 10), (Ok(Vec::new()), bytes.clone()));
        // It is asked again later, and in vain.
        assert_eq!(copy(&mut client, base, 11), (Ok(Vec::new()), bytes));
    }
    let (mut client, base, bytes, _) = client_with(1, true);
    let behind = base + 3 + 4 * BULK_CHUNK_BYTES as u64;
    fake::refuse_reads(behind, Some(CUresult::ILLEGAL_ADDRESS));
    let (answer, some) = copy(&mut client, base, 10);
    assert_eq!(answer, Err(CUresult::ILLEGAL_ADDRESS));
    assert_eq!(some, bytes[..4 * BULK_CHUNK_BYTES]);
}

#[test]
fn the_cheaper_way_is_found_out() {
    let (mut client, base, bytes, _) = client_with(100, false);
    // The first goes by way of host memory, whose copies are the driver's; the second does not.
    refuse_copies(base);
    assert_eq!(copy(&mut client, base, 10).0, Err(CUresult::UNKNOWN));
    for part in 0..8 {
        fake::refuse_reads(base + 3 + part * BULK_CHUNK_BYTES as u64, None);
    }
    assert_eq!(copy(&mut client, base, 11), (Ok(Vec::new()), bytes.clone()));
    refuse_copies(base);
    assert_eq!(copy(&mut client, base, 12), (Ok(Vec::new()), bytes));
}

#[test]
fn a_lost_stream_ends_its_copy_with_the_error() {
    let (mut client, base, _, _) = client_with(100, true);
    let (context, stream) = handles(&client);
    fake::hold(context, stream);
    let request = r::GpurunCopyFromDevice::new(base + 3, LENGTH as u64, 9, StreamId(STREAM));
    let call = client.begin(&request, &[]);
    let created = client.ask(&r::GpurunStreamCreate::new(OTHER, 1, 0), &[]);
    created.expect("created");
    client.thread = 2;
    let fault = function(&mut client, "fault");
    let launch = r::GpurunLaunch::new(fault, [1; 3], [1; 3], 0, StreamId(OTHER), 0, 0);
    client.post(&launch, &[0; 12]);
    assert_eq!(client.answer(call), Err(CUresult::ILLEGAL_ADDRESS));
}
