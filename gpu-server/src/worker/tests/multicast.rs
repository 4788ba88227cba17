//! Multicast objects: what is bound goes before what it is bound to, and before its memory.

use driver_api::result::CUresult;
use driver_api::wire::request as r;

use super::super::memory::CHUNK_BYTES;
use super::{Client, client, fake, map};

const OBJECT: u32 = 7;
const MEMORY: u32 = 8;
/// What `by` says of memory that is named by its number, and by its address.
const BY_NUMBER: u32 = 0;
const BY_ADDRESS: u32 = 1;

/// An object with the one device in its team, and physical memory.
fn made(client: &mut Client) -> u64 {
    let create = r::GpurunMulticastCreate::new(OBJECT, 1, 2 * CHUNK_BYTES, 0);
    client.ask(&create, &[]).expect("made");
    let add = r::GpurunMulticastAddDevice::new(OBJECT, 0);
    client.ask(&add, &[]).expect("added");
    let memory = r::GpurunPhysicalCreate::new(MEMORY, 0, 2 * CHUNK_BYTES);
    client.ask(&memory, &[]).expect("made");
    let object = client.session.physical.get(OBJECT).expect("it is there");
    object.driver_handle()
}

fn bind(client: &mut Client, offset: u64, by: u32, start: u64) -> Result<(), CUresult> {
    let request = r::GpurunMulticastBind::new(OBJECT, 0, offset, CHUNK_BYTES, by, MEMORY, start);
    client.ask(&request, &[]).map(drop)
}

/// Releases what has a number, if it may be; whether it was.
fn release(client: &mut Client, number: u32) -> bool {
    client.post(&r::GpurunPhysicalRelease::new(number), &[]);
    // Answered behind it.
    let behind = r::GpurunMulticastAddDevice::new(OBJECT, 99);
    assert!(client.ask(&behind, &[]).is_err());
    client.session.physical.get(number).is_none()
}

#[test]
fn memory_stays_while_it_is_bound() {
    let (mut client, _) = client();
    let object = made(&mut client);
    bind(&mut client, 0, BY_NUMBER, CHUNK_BYTES).expect("bound");
    assert!(!release(&mut client, MEMORY));
    let unbind = r::GpurunMulticastUnbind::new(OBJECT, 0, CHUNK_BYTES, CHUNK_BYTES);
    assert_eq!(
        client.ask(&unbind, &[]),
        Err(CUresult::INVALID_VALUE),
        "not there"
    );
    let unbind = r::GpurunMulticastUnbind::new(OBJECT, 0, 0, CHUNK_BYTES);
    client.ask(&unbind, &[]).expect("unbound");
    assert_eq!(
        client.ask(&unbind, &[]),
        Err(CUresult::INVALID_VALUE),
        "twice"
    );
    assert!(release(&mut client, MEMORY));
    assert_eq!(fake::of_multicasts(&[object]), ["bound", "unbound"]);
}

#[test]
fn an_object_lets_go_of_what_is_bound_to_it() {
    let (mut client, base) = client();
    let object = made(&mut client);
    bind(&mut client, 0, BY_NUMBER, 0).expect("bound");
    let place = r::GpurunMulticastMap::new(base, 2 * CHUNK_BYTES, OBJECT);
    client.ask(&place, &[]).expect("mapped");
    assert!(!release(&mut client, OBJECT), "it is mapped");
    let unmap = r::GpurunVirtualUnmap::new(base, 2 * CHUNK_BYTES);
    client.ask(&unmap, &[]).expect("unmapped");
    assert!(release(&mut client, OBJECT));
    let happened = fake::of_multicasts(&[object, base]);
    assert_eq!(happened, ["bound", "unmapped", "unbound", "released"]);
    assert!(release(&mut client, MEMORY));
}

#[test]
fn a_range_that_is_given_back_is_unbound_before() {
    let (mut client, base) = client();
    let object = made(&mut client);
    map(&mut client, base, 2 * CHUNK_BYTES);
    bind(&mut client, 0, BY_ADDRESS, base + CHUNK_BYTES).expect("bound");
    for wrong in [base + 2 * CHUNK_BYTES, base - CHUNK_BYTES, 0] {
        let refused = bind(&mut client, CHUNK_BYTES, BY_ADDRESS, wrong);
        assert_eq!(refused, Err(CUresult::INVALID_VALUE), "{wrong:#x}");
    }
    client.post(&r::GpurunMemoryUnmap::new(base, 2 * CHUNK_BYTES, 77), &[]);
    client.until(super::is_mark(77));
    let happened = fake::of_multicasts(&[object, base]);
    assert_eq!(happened, ["bound", "unbound", "unmapped"]);
}

#[test]
fn nothing_is_bound_that_the_session_has_not() {
    let (mut client, base) = client();
    let object = made(&mut client);
    for (by, memory, start) in [
        (BY_NUMBER, 99, 0),
        (BY_NUMBER, OBJECT, 0),
        (BY_NUMBER, MEMORY, 2 * CHUNK_BYTES),
        (BY_NUMBER, MEMORY, u64::MAX),
        (BY_ADDRESS, 0, base),
        (2, MEMORY, 0),
    ] {
        let request = r::GpurunMulticastBind::new(OBJECT, 0, 0, CHUNK_BYTES, by, memory, start);
        assert!(
            client.ask(&request, &[]).is_err(),
            "{by} {memory} {start:#x}"
        );
    }
    let of_memory = r::GpurunMulticastBind::new(MEMORY, 0, 0, CHUNK_BYTES, BY_NUMBER, MEMORY, 0);
    assert_eq!(client.ask(&of_memory, &[]), Err(CUresult::INVALID_HANDLE));
    let of_another = r::GpurunMulticastBind::new(OBJECT, 1, 0, CHUNK_BYTES, BY_NUMBER, MEMORY, 0);
    assert_eq!(client.ask(&of_another, &[]), Err(CUresult::INVALID_DEVICE));
    let place = r::GpurunPhysicalMap::new(base, 2 * CHUNK_BYTES, OBJECT);
    assert_eq!(
        client.ask(&place, &[]),
        Err(CUresult::INVALID_VALUE),
        "as memory"
    );
    let place = r::GpurunMulticastMap::new(base, 2 * CHUNK_BYTES, MEMORY);
    assert_eq!(
        client.ask(&place, &[]),
        Err(CUresult::INVALID_HANDLE),
        "as an object"
    );
    let half = r::GpurunMulticastMap::new(base, CHUNK_BYTES, OBJECT);
    assert_eq!(client.ask(&half, &[]), Err(CUresult::INVALID_VALUE));
    assert!(fake::of_multicasts(&[object]).is_empty());
}
