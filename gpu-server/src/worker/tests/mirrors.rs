//! Mapped and managed memory: what goes with a context, in which context device memory is read, and who waits for whom.

use driver_api::abi::CUresult;
use driver_api::id::{ModuleId, StreamId};
use driver_api::mirror::Change;
use driver_api::wire::request as r;
use protocol::limits::MAX_MANAGED_BYTES;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use super::super::memory::CHUNK_BYTES;
use super::super::mirrors::Kind;
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

#[test]
fn of_what_is_told_all_that_was_written_before_is_told() {
    let (mut client, base) = client();
    let [between, _] = managed(&mut client, base);
    // Pages that are looked at before device memory, and pages that are looked at after it.
    let [command, done] = [pinned(3), 0x7300_0000_0000];
    for address in [command, done] {
        let map = r::GpurunHostMap::new(address, PAGE);
        client.ask(&map, &[]).expect("mapped");
    }
    client.post(&r::GpurunHostPush::new(), change(command, 1).as_bytes());
    fake::hold_reads(between);
    client.thread = 2;
    let pulling = client.begin(&r::GpurunHostPull::new(0), &[]);
    fake::wait_for_read(between);
    client.thread = 1;
    // As a kernel that takes the command and then says so.
    fill(&mut client, command, 0);
    fill(&mut client, done, 1);
    client
        .ask(&r::GpurunStreamCreate::new(STREAM + 1, 1, 0), &[])
        .expect("answered");
    fake::release_reads(between);
    let (mut found, more) = read(&client.answer(pulling).expect("pulled"));
    found.sort_unstable();
    assert_eq!((found, more), (vec![command, done], false));
}

/// Two variables of a module of this number; where they are in the fake driver's memory.
fn variables(client: &mut Client, module: u32) -> [u64; 2] {
    let image = b".version 7.0\n.target sm_70\n.address_size 64\n";
    let load = r::GpurunModuleLoad::new(module, [0; 32], image.len() as u64, 0, 0);
    client.ask(&load, image).expect("loaded");
    // As the fake driver reads names: an offset and a size.
    ["64 64", "128 64"].map(|name| {
        let global = r::GpurunModuleGlobal::new(ModuleId(module));
        let answer = client.ask(&global, name.as_bytes()).expect("found");
        u64::read_from_prefix(&answer).expect("an address").0
    })
}

#[test]
fn only_what_is_the_sessions_own_is_managed() {
    let (mut client, base) = client();
    let manage = |client: &mut Client, address, size| {
        client.ask(&r::GpurunManage::new(address, size, 1), &[])
    };
    let refused = Err(CUresult::INVALID_VALUE);
    for chunk in 0..2 {
        map(&mut client, base + chunk * CHUNK_BYTES, CHUNK_BYTES);
    }
    for (address, size) in [
        (base, 2 * CHUNK_BYTES),
        (base + 64, CHUNK_BYTES),
        (base, 0),
        (base, u64::MAX),
        (base + 2 * CHUNK_BYTES, 64),
    ] {
        assert_eq!(manage(&mut client, address, size), refused, "{address:x}");
    }
    // Memory of the program's own, which touches that of the context: its mapping takes nothing from the slice.
    let own = base + 2 * CHUNK_BYTES;
    let memory = &client.session.memory;
    memory.claim_virtual(own, CHUNK_BYTES, 0).expect("free");
    memory.settle_virtual(own, Some(1));
    assert_eq!(memory.check(base, 3 * CHUNK_BYTES), Ok(()));
    assert_eq!(manage(&mut client, own, CHUNK_BYTES), refused);
    assert_eq!(manage(&mut client, base, CHUNK_BYTES), Ok(vec![]));
    let held = r::GpurunMemoryUnmap::new(base + CHUNK_BYTES, CHUNK_BYTES, 1);
    client.post(&held, &[]);
    assert_eq!(
        manage(&mut client, base + CHUNK_BYTES, CHUNK_BYTES),
        refused,
        "it is leaving"
    );
}

#[test]
fn a_session_manages_no_more_than_its_limit() {
    let (mut client, base) = client();
    let [_, second] = managed(&mut client, base);
    let mirrors = &client.session.mirrors;
    let room = MAX_MANAGED_BYTES - 2 * CHUNK_BYTES;
    assert_eq!(mirrors.check_room(Kind::Device, room), Ok(()));
    let refused = Err(CUresult::OUT_OF_MEMORY);
    assert_eq!(mirrors.check_room(Kind::Device, room + 1), refused);
    assert_eq!(mirrors.check_room(Kind::Device, u64::MAX), refused);
    client
        .ask(&r::GpurunHostUnmap::new(second), &[])
        .expect("managed no more");
    let mirrors = &client.session.mirrors;
    assert_eq!(mirrors.check_room(Kind::Device, room + 1), Ok(()));
}

#[test]
fn a_variable_goes_with_its_module_and_hinders_no_pull() {
    let (mut client, base) = client();
    let [own, _] = managed(&mut client, base);
    let [first, second] = variables(&mut client, 5);
    for variable in [first, second] {
        let manage = r::GpurunManage::new(variable, 64, 0);
        client.ask(&manage, &[]).expect("managed");
    }
    // The module is unloaded while another thread's pull reads the variable.
    fake::hold_reads(first);
    client.thread = 2;
    let pulling = client.begin(&r::GpurunHostPull::new(0), &[]);
    fake::wait_for_read(first);
    client.session.memory.forget_globals(5, false);
    client.thread = 1;
    fill(&mut client, own, 1);
    fake::release_reads(first);
    let answer = client.answer(pulling).expect("pulled");
    let (mut found, _) = read(&answer);
    found.extend(pull(&mut client, 0).expect("pulled").0);
    assert_eq!(
        found,
        [own],
        "whether it comes before or after the variables"
    );
    let [first, _] = variables(&mut client, 6);
    let manage = r::GpurunManage::new(first, 64, 0);
    client.ask(&manage, &[]).expect("managed");
    client
        .ask(&r::CuModuleUnload::new(ModuleId(6)), &[])
        .expect("unloaded");
    assert_eq!(pull(&mut client, 0), Ok((vec![], false)));
}

#[test]
fn variables_that_share_a_word_share_a_mirror() {
    let (mut client, _) = client();
    let image = b".version 7.0\n.target sm_70\n.address_size 64\n";
    let load = r::GpurunModuleLoad::new(7, [0; 32], image.len() as u64, 0, 0);
    client.ask(&load, image).expect("loaded");
    let mut manage = |name: &str, size| {
        let global = r::GpurunModuleGlobal::new(ModuleId(7));
        let answer = client.ask(&global, name.as_bytes()).expect("found");
        let address = u64::read_from_prefix(&answer).expect("an address").0;
        let manage = r::GpurunManage::new(address, size, 0);
        client.ask(&manage, &[]).expect("managed");
        address
    };
    let upper = manage("68 4", 4);
    let lower = manage("66 2", 2);
    let beyond = manage("60 4", 4);
    let (word, before) = (upper - 4, upper - 12);
    assert_eq!((lower, beyond), (word + 2, before + 4));
    // What is no variable is not looked at.
    for (address, value) in [
        (word, 1),
        (word + 1, 2),
        (lower, 3),
        (upper + 3, 4),
        (beyond, 5),
    ] {
        fake::set(address, value);
    }
    let answer = client.ask(&r::GpurunHostPull::new(0), &[]).expect("pulled");
    let (_, changes) = u32::read_from_prefix(&answer).expect("a number");
    let changes = <[Change]>::ref_from_bytes(changes).expect("changes");
    let found = changes
        .iter()
        .map(|change| (change.address.get(), change.mask.get()));
    let found: Vec<_> = found.collect();
    assert_eq!(found, [(before, 1 << 4), (word, 1 << 2 | 1 << 7)]);
    // And not written.
    let written = Change {
        address: U64::new(word),
        mask: U64::new(0xFF),
        bytes: [9; 64],
    };
    client
        .ask(&r::GpurunHostPush::new(), written.as_bytes())
        .expect("pushed");
    assert_eq!(fake::bytes(word), [1, 2, 9, 9, 9, 9, 9, 9]);
}
