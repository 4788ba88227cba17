//! Mapped and managed memory: what goes with a context, in which context device memory is read, and who waits for whom.

use driver_api::abi::CUresult;
use driver_api::id::StreamId;
use driver_api::mirror::Change;
use driver_api::wire::request as r;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use super::super::memory::CHUNK_BYTES;
use super::client::{Client, Got};
use super::{CONTEXT, MOMENT, STREAM, client, fake, function, launch, map};

const PAGE: u64 = 4096;
/// Where the program has pinned memory: far from everything else.
const PINNED: u64 = 0x4100_0000_0000;

/// Addresses for the pinned memory of one test.
fn pinned(test: u64) -> u64 {
    PINNED + test * (1 << 30)
}

fn change(address: u64, byte: u8) -> Change {
    Change {
        address: U64::new(address),
        mask: U64::new(1),
        bytes: [byte; 64],
    }
}

/// Fills device memory behind the mirror's back, as a kernel does.
fn fill(client: &mut Client, address: u64, value: u32) {
    let fill = r::GpurunFill::new(address, 0, 64, 1, value, 1, StreamId(STREAM));
    client.post(&fill, &[]);
}

/// A pull's answer: the addresses of the changes, and whether there is more.
fn pull(client: &mut Client, largest: u64) -> Result<(Vec<u64>, bool), CUresult> {
    let answer = client.ask(&r::GpurunHostPull::new(largest), &[])?;
    Ok(read(&answer))
}

fn read(answer: &[u8]) -> (Vec<u64>, bool) {
    let (more, changes) = u32::read_from_prefix(answer).expect("a number");
    let changes = <[Change]>::ref_from_bytes(changes).expect("changes");
    let addresses = changes.iter().map(|change| change.address.get());
    (addresses.collect(), more != 0)
}

/// Two chunks of managed memory of the client's context.
fn managed(client: &mut Client, base: u64) -> [u64; 2] {
    [base, base + CHUNK_BYTES].map(|address| {
        map(client, address, CHUNK_BYTES);
        let manage = r::GpurunManage::new(address, CHUNK_BYTES, 1);
        client.ask(&manage, &[]).expect("managed");
        address
    })
}

#[test]
fn pages_go_with_the_context_that_they_were_mapped_in() {
    let (mut client, _) = client();
    let address = pinned(0);
    let map = r::GpurunHostMap::new(address, PAGE);
    client.ask(&map, &[]).expect("mapped");
    assert_eq!(client.ask(&map, &[]), Err(CUresult::NOT_SUPPORTED));
    for fails in [false, true] {
        if fails {
            let function = function(&mut client, "fault");
            launch(&mut client, function, &[0; 12]);
        }
        client.context = 0;
        client
            .ask(&r::GpurunPrimaryRelease::new(0, CONTEXT), &[])
            .expect("released");
        client
            .ask(&r::GpurunPrimaryRetain::new(0, CONTEXT, 0), &[])
            .expect("retained");
        client.context = CONTEXT;
        client
            .ask(&r::GpurunStreamCreate::new(STREAM, 1, 0), &[])
            .expect("created");
        client.ask(&map, &[]).expect("mapped anew");
    }
    let unmap = r::GpurunHostUnmap::new(address);
    client.ask(&unmap, &[]).expect("unmapped");
    assert_eq!(client.ask(&unmap, &[]), Err(CUresult::INVALID_VALUE));
}

#[test]
fn managed_memory_is_read_in_its_own_context() {
    const OTHER: u32 = 2;
    let (mut client, base) = client();
    let [_, second] = managed(&mut client, base);
    client
        .ask(&r::GpurunPrimaryRetain::new(0, OTHER, 0), &[])
        .expect("retained");
    client.context = OTHER;
    let others = base + 2 * CHUNK_BYTES;
    map(&mut client, others, CHUNK_BYTES);
    let manage = r::GpurunManage::new(others, CHUNK_BYTES, 1);
    client.ask(&manage, &[]).expect("managed");
    client.context = CONTEXT;
    fill(&mut client, second, 1);
    client.context = 0;
    assert_eq!(pull(&mut client, 0), Ok((vec![second], false)));
    client.context = CONTEXT;
    fill(&mut client, others + 64, 1);
    let function = function(&mut client, "fault");
    launch(&mut client, function, &[0; 12]);
    client.context = OTHER;
    assert_eq!(pull(&mut client, 0), Ok((vec![others + 64], false)));
    // The context that has failed is told, the one that asked is not.
    client.until(|got| matches!(got, Got::Fault(context, _, _) if *context == u64::from(CONTEXT)));
    assert!(client.not_within(
        MOMENT,
        |got| matches!(got, Got::Fault(context, _, _) if *context == u64::from(OTHER))
    ));
}

#[test]
fn what_was_found_before_an_error_is_told() {
    let (mut client, base) = client();
    let [first, second] = managed(&mut client, base);
    fill(&mut client, first, 1);
    fill(&mut client, second, 1);
    fake::refuse_reads(second, Some(CUresult::OUT_OF_MEMORY));
    assert_eq!(pull(&mut client, 0), Ok((vec![first], true)));
    assert_eq!(pull(&mut client, 0), Err(CUresult::OUT_OF_MEMORY));
    fake::refuse_reads(second, None);
    assert_eq!(pull(&mut client, 0), Ok((vec![second], false)));
}

#[test]
fn a_pull_of_small_memory_is_answered_in_parts() {
    const BYTES: u64 = 64 << 10;
    const RANGES: u64 = 80;
    let (mut client, _) = client();
    let at = |range: u64| pinned(2) + range * BYTES;
    for range in 0..RANGES {
        let map = r::GpurunHostMap::new(at(range), BYTES);
        client.ask(&map, &[]).expect("mapped");
    }
    let [first, last] = [at(0), at(RANGES - 1)];
    fill(&mut client, first, 1);
    fill(&mut client, last, 1);
    assert_eq!(pull(&mut client, BYTES), Ok((vec![first], true)));
    assert_eq!(pull(&mut client, BYTES), Ok((vec![last], false)));
    fill(&mut client, first, 2);
    assert_eq!(pull(&mut client, BYTES - 1), Ok((vec![], false)), "larger");
    assert_eq!(pull(&mut client, 0), Ok((vec![first], false)));
}

#[test]
fn a_pull_of_device_memory_holds_no_other_range() {
    let (mut client, base) = client();
    let [first, _] = managed(&mut client, base);
    let address = pinned(1);
    let map = r::GpurunHostMap::new(address, PAGE);
    client.ask(&map, &[]).expect("mapped");
    fake::hold_reads(first);
    client.thread = 2;
    let pulling = client.begin(&r::GpurunHostPull::new(0), &[]);
    fake::wait_for_read(first);
    client.thread = 1;
    client.post(&r::GpurunHostPush::new(), change(address, 7).as_bytes());
    client
        .ask(&r::GpurunStreamCreate::new(STREAM + 1, 1, 0), &[])
        .expect("answered");
    fake::release_reads(first);
    let answer = client.answer(pulling).expect("pulled");
    assert_eq!(read(&answer), (vec![], false));
}
