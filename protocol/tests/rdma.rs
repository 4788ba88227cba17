//! What can go wrong between two ends of a connection by RDMA, on a device of this machine; passes where there is none, unless
//! `GPURUN_TEST_RDMA` is set.
//!
//! # Safety
//! Memory that is lent or offered lives until that ends, and what a card writes is nobody's else meanwhile.
#![cfg(feature = "rdma")]
#![expect(unsafe_code, reason = "lends memory to a card")]

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use protocol::frame::{FrameHeader, FrameKind};
use protocol::hello::RdmaEnd;
use protocol::transport::rdma::{Prepared, RdmaError, Settings, Wanted, is_present};
use protocol::transport::{
    Connection, DeviceLoan, DeviceMemory, DeviceRead, Lender, Loan, Offer, Owner, Patience,
    Reached, RemoteMemory, TransportError,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn has_device() -> bool {
    std::env::var_os("GPURUN_TEST_RDMA").is_some() || is_present()
}

fn sockets() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (client.into(), server.into())
}

fn prepare(settings: &Settings) -> Prepared {
    Prepared::new(Ipv4Addr::LOCALHOST.into(), settings).expect("an RDMA device")
}

/// Two connected ends; the first believes what `lie` makes of the second's numbers.
fn pair(settings: &Settings, lie: impl FnOnce(&mut RdmaEnd)) -> (Connection, Connection) {
    connected((prepare(settings), prepare(settings)), lie)
}

fn connected(
    (mut one, mut other): (Prepared, Prepared),
    lie: impl FnOnce(&mut RdmaEnd),
) -> (Connection, Connection) {
    let mut told = other.end();
    lie(&mut told);
    one.connect(&told).expect("connected");
    other.connect(&one.end()).expect("connected");
    let (client, server) = sockets();
    let connection = |end: Prepared, socket| {
        end.into_connection(socket, Patience::default())
            .expect("a connection")
    };
    (connection(one, client), connection(other, server))
}

fn send(connection: &mut Connection, sequence: u64, bytes: &[u8]) -> Result<(), TransportError> {
    let header = FrameHeader {
        sequence,
        ..FrameHeader::bulk(0, 0)
    };
    connection.sender.send(&header, &[IoSlice::new(bytes)])
}

fn receive(connection: &mut Connection) -> Result<Vec<u8>, TransportError> {
    loop {
        if let Some(header) = connection.receiver.poll_header()? {
            let mut bytes = vec![0; header.length as usize];
            connection.receiver.read_payload(&mut bytes)?;
            return Ok(bytes);
        }
        assert!(connection.receiver.wait(Some(PATIENCE))?, "nothing came");
    }
}

/// Sends until the connection is over; why.
fn fail_to_send(connection: &mut Connection) -> TransportError {
    for sequence in 1.. {
        if let Err(error) = send(connection, sequence, &[1; 1000]) {
            return error;
        }
        thread::sleep(Duration::from_millis(10));
    }
    unreachable!("it goes on for ever")
}

#[test]
fn a_wrong_key_opens_nothing() {
    if !has_device() {
        return;
    }
    let (mut one, mut other) = pair(&Settings::default(), |end| end.ring_key ^= 0x00FF_FF00);
    let error = fail_to_send(&mut one).to_string();
    assert!(error.contains("remote access error"), "{error}");
    drop(one);
    // Its queue pair may have seen the attempt, and be of no use any more; nothing was written in any case.
    assert!(receive(&mut other).is_err());
}

#[test]
fn a_place_outside_the_ring_is_not_written() {
    if !has_device() {
        return;
    }
    let beyond = |end: &mut RdmaEnd| end.ring_address += u64::from(end.ring_bytes);
    let (mut one, _other) = pair(&Settings::default(), beyond);
    let error = fail_to_send(&mut one).to_string();
    assert!(error.contains("remote access error"), "{error}");
}

#[test]
fn a_peer_that_reads_nothing_stops_its_sender_and_loses_nothing() {
    if !has_device() {
        return;
    }
    const FRAMES: u64 = 40;
    let (mut one, mut other) = pair(&Settings::default(), |_| {});
    let (told, hears) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        for sequence in 1..=FRAMES {
            let bytes = vec![u8::try_from(sequence).unwrap_or(0); 1 << 20];
            send(&mut one, sequence, &bytes).expect("sent");
            told.send(sequence).expect("heard");
        }
        one
    });
    // It comes to a stop: the ring is smaller than what is sent.
    let mut sent = 0;
    while let Ok(sequence) = hears.recv_timeout(Duration::from_secs(2)) {
        sent = sequence;
    }
    assert!(sent < FRAMES, "nobody read, and all of it was sent");
    for sequence in 1..=FRAMES {
        let bytes = receive(&mut other).expect("a frame");
        assert!(bytes.len() == 1 << 20 && bytes.iter().all(|byte| u64::from(*byte) == sequence));
    }
    sender.join().expect("the sender");
}

/// Each write takes a receive of the peer's, which it gives back only when it has read: a writer of small frames stops too, and goes on.
#[test]
fn a_writer_without_credits_waits_for_them() {
    if !has_device() {
        return;
    }
    const FRAMES: u64 = 1000;
    let (mut one, mut other) = pair(&Settings::default(), |_| {});
    let (told, hears) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        for sequence in 1..=FRAMES {
            send(
                &mut one,
                sequence,
                &[u8::try_from(sequence % 251).unwrap_or(0)],
            )
            .expect("sent");
            told.send(sequence).expect("heard");
        }
        one
    });
    let mut sent = 0;
    while let Ok(sequence) = hears.recv_timeout(Duration::from_secs(1)) {
        sent = sequence;
    }
    assert!((16..=255).contains(&sent), "{sent} frames without a credit");
    for sequence in 1..=FRAMES {
        let bytes = receive(&mut other).expect("a frame");
        assert_eq!(bytes, [u8::try_from(sequence % 251).unwrap_or(0)]);
    }
    sender.join().expect("the sender");
}

/// Lends memory; the first large frame is copied, so that it is known what copying costs.
fn lend(connection: &mut Connection, sequence: &mut u64, bytes: &[u8]) -> Loan {
    *sequence += 1;
    send(connection, *sequence, &bytes[..200_000]).expect("sent");
    // SAFETY: the callers keep the memory until the loan is over.
    let loan = unsafe {
        connection
            .sender
            .lend(Owner::Program, bytes.as_ptr(), bytes.len())
    };
    loan.expect("lent")
}

#[test]
fn lent_memory_is_read_where_it_is_and_is_the_programs_again() {
    if !has_device() {
        return;
    }
    const FRAMES: usize = 12;
    let (mut one, mut other) = pair(&Settings::default(), |_| {});
    let reader = thread::spawn(move || {
        let frames: Vec<Vec<u8>> = (0..=FRAMES)
            .map(|_| receive(&mut other).expect("a frame"))
            .collect();
        (other, frames)
    });
    let mut memory: Vec<u8> = (0..FRAMES << 20)
        .map(|place| (place * 31 % 251) as u8)
        .collect();
    let copy = memory.clone();
    let mut sequence = 0;
    let loan = lend(&mut one, &mut sequence, &memory);
    for frame in memory.chunks(1 << 20) {
        sequence += 1;
        send(&mut one, sequence, frame).expect("sent");
    }
    one.sender.take_back(loan);
    // Whatever is written now, or unmapped, does not travel.
    memory.fill(0);
    drop(memory);
    let (_other, frames) = reader.join().expect("the reader");
    assert_eq!(frames[0], &copy[..200_000]);
    assert!(frames[1..].concat() == copy);
}

#[test]
fn a_loan_to_a_peer_that_is_gone_is_taken_back_soon() {
    if !has_device() {
        return;
    }
    let (mut one, other) = pair(&Settings::default(), |_| {});
    let memory = vec![7_u8; 16 << 20];
    let mut sequence = 0;
    let loan = lend(&mut one, &mut sequence, &memory);
    let sender = thread::spawn(move || {
        let failed = memory
            .chunks(1 << 20)
            .zip(2..)
            .find_map(|(frame, sequence)| send(&mut one, sequence, frame).err());
        let begun = std::time::Instant::now();
        one.sender.take_back(loan);
        (failed, begun.elapsed(), memory)
    });
    thread::sleep(Duration::from_millis(300));
    drop(other);
    let (failed, time, _memory) = sender.join().expect("the sender");
    assert!(failed.is_some(), "the ring is smaller than what was sent");
    assert!(time < Duration::from_secs(10), "{time:?}");
}

/// Only memory that it does no harm to lend.
#[test]
fn memory_of_a_file_is_not_lent() {
    if !has_device() {
        return;
    }
    let (mut one, _other) = pair(&Settings::default(), |_| {});
    let memory = vec![1_u8; 2 << 20];
    let mut sequence = 0;
    let loan = lend(&mut one, &mut sequence, &memory);
    one.sender.take_back(loan);
    let program = std::fs::File::open("/proc/self/exe").expect("this program");
    // SAFETY: a new private mapping of a file that stays as it is.
    let mapped = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            2 << 20,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::POPULATE,
            &program,
            0,
        )
    };
    let mapped = mapped.expect("mapped").cast::<u8>();
    // SAFETY: mapped until the process ends.
    let loan = unsafe { one.sender.lend(Owner::Program, mapped, 2 << 20) };
    assert_eq!(loan, None);
}

/// The RoCE v2 address of an IPv6 one, where `GPURUN_TEST_RDMA6` tells an address of the device.
#[test]
fn an_ipv6_address_is_as_good() {
    let Some(address) = std::env::var_os("GPURUN_TEST_RDMA6") else {
        return;
    };
    let address: IpAddr = address.to_string_lossy().parse().expect("an address");
    let prepare = || Prepared::new(address, &Settings::default()).expect("an RDMA device");
    let ends = (prepare(), prepare());
    assert!(
        ends.0.describe().contains(&address.to_string()),
        "{}",
        ends.0.describe()
    );
    let (mut one, mut other) = connected(ends, |_| {});
    for sequence in 1..=20 {
        let size = usize::try_from(sequence).unwrap_or(0) * 70_000;
        let sender = thread::spawn(move || {
            send(&mut one, sequence, &vec![5; size]).expect("sent");
            one
        });
        assert_eq!(receive(&mut other).expect("a frame"), vec![5; size]);
        one = sender.join().expect("the sender");
    }
}

/// Frames that are neither inline nor large, through the least ring: room comes back although few of them ask for a completion.
#[test]
fn the_least_ring_never_stands_still() {
    if !has_device() {
        return;
    }
    const FRAMES: u64 = 400;
    let settings = Settings {
        ring_bytes: 128 * 1024,
        ..Settings::default()
    };
    let (mut one, mut other) = pair(&settings, |_| {});
    let size = |sequence: u64| 300 + usize::try_from(sequence * 7919 % 60_000).unwrap_or(0);
    let sender = thread::spawn(move || {
        for sequence in 1..=FRAMES {
            let bytes = vec![u8::try_from(sequence % 251).unwrap_or(0); size(sequence)];
            send(&mut one, sequence, &bytes).expect("sent");
        }
        one
    });
    for sequence in 1..=FRAMES {
        let bytes = receive(&mut other).expect("a frame");
        assert_eq!(bytes.len(), size(sequence));
        assert!(bytes.iter().all(|byte| u64::from(*byte) == sequence % 251));
    }
    sender.join().expect("the sender");
}

#[test]
fn a_goodbye_arrives_before_the_end() {
    if !has_device() {
        return;
    }
    let (mut one, mut other) = pair(&Settings::default(), |_| {});
    for sequence in 1..=100 {
        send(&mut one, sequence, &[3; 700]).expect("sent");
    }
    let sent = one.sender.send(&FrameHeader::new(FrameKind::Goodbye), &[]);
    sent.expect("sent");
    one.interrupt.shutdown();
    drop(one);
    for _ in 1..=100 {
        assert_eq!(receive(&mut other).expect("a frame").len(), 700);
    }
    assert_eq!(receive(&mut other).expect("the goodbye").len(), 0);
    assert!(matches!(receive(&mut other), Err(TransportError::Closed)));
}

#[test]
fn a_device_that_is_not_there_is_named() {
    if !has_device() {
        return;
    }
    let settings = Settings {
        wanted: Wanted::parse("mlx9_9").expect("a name"),
        ..Settings::default()
    };
    let refused = Prepared::new(Ipv4Addr::LOCALHOST.into(), &settings);
    match refused {
        Err(RdmaError::NoDevice(text)) => {
            assert!(text.contains("rxe0") || text.contains(':'), "{text}")
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("there is a mlx9_9"),
    }
}

/// A software device takes none, and says so; what is no dma-buf no device takes.
#[test]
fn a_memory_file_is_no_dma_buf() {
    if !has_device() {
        return;
    }
    let file = rustix::fs::memfd_create("no dma-buf", rustix::fs::MemfdFlags::CLOEXEC);
    let file = file.expect("a memory file");
    rustix::fs::ftruncate(&file, 4096).expect("a page");
    let memory = DeviceMemory {
        address: 0x20_0000,
        length: 4096,
        reached: Reached::ByDmaBuf {
            buffer: file.as_fd(),
            offset: 0,
        },
    };
    // SAFETY: nothing is registered.
    let tried = unsafe { prepare(&Settings::default()).try_device(&memory) };
    let error = tried.expect_err("it is none").to_string();
    assert!(error.contains("ibv_reg_dmabuf_mr"), "{error}");
}

/// Memory that stands for a device's: in a memory file, as the software GPU's is.
struct Memory {
    start: *mut u8,
    length: usize,
}

impl Memory {
    fn new(length: usize) -> Self {
        let file = rustix::fs::memfd_create("device memory", rustix::fs::MemfdFlags::CLOEXEC);
        let file = file.expect("a memory file");
        rustix::fs::ftruncate(&file, length as u64).expect("its length");
        let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let flags = rustix::mm::MapFlags::SHARED;
        // SAFETY: a new mapping.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, access, flags, &file, 0) };
        let start = start.expect("mapped").cast::<u8>();
        Self { start, length }
    }

    /// Writes these bytes at its beginning.
    fn fill(&self, bytes: &[u8]) {
        let length = bytes.len().min(self.length);
        // SAFETY: inside the mapping, to which no reference exists.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), length) };
    }

    /// What is in it now, from a place on.
    fn bytes(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.length);
        let mut bytes = vec![0; length];
        // SAFETY: inside the mapping, to which no reference exists; no card writes it now.
        unsafe {
            bytes
                .as_mut_ptr()
                .copy_from_nonoverlapping(self.start.add(offset), length)
        };
        bytes
    }

    /// No processor may touch it from here on.
    fn hide(&self) {
        let nothing = rustix::mm::MprotectFlags::empty();
        // SAFETY: the mapping is ours, and no reference to it exists.
        let hidden = unsafe { rustix::mm::mprotect(self.start.cast(), self.length, nothing) };
        hidden.expect("hidden");
    }

    fn part(&self, offset: usize, length: usize) -> DeviceMemory<'static> {
        DeviceMemory {
            address: self.start as u64 + offset as u64,
            length,
            reached: Reached::ByAddress,
        }
    }
}

/// Sizes and places of all kinds, out of memory that only the card can read while they leave.
#[test]
fn memory_of_a_device_is_sent_and_no_processor_reads_it() {
    if !has_device() {
        return;
    }
    let (mut one, mut other) = pair(&Settings::default(), |_| {});
    let memory = Memory::new(16 << 20);
    // Of a length that no page is a multiple of.
    let period: Vec<u8> = (0..251_u8).map(|place| place.wrapping_mul(31)).collect();
    let bytes = period.repeat((16 << 20) / 251 + 1);
    memory.fill(&bytes);
    let parts = [
        (0, 4096),
        (5, 1),
        (4095, 4098),
        (3, (1 << 20) - 1),
        (7 << 20, 9 << 20),
        (1, (16 << 20) - 1),
    ];
    // SAFETY: mapped until the process ends, and nobody writes it.
    let lend = |(offset, length)| unsafe { one.lender.lend(&memory.part(offset, length)) };
    let loans: Vec<DeviceLoan> = parts.map(|part| lend(part).expect("lent")).into();
    memory.hide();
    let sender = thread::spawn(move || {
        let mut sequence = 0;
        for ((_, length), loan) in parts.iter().zip(loans) {
            let mut at = 0;
            while at < *length {
                let chunk = (length - at).min(1 << 20);
                sequence += 1;
                let header = FrameHeader {
                    sequence,
                    ..FrameHeader::bulk(0, 0)
                };
                let sent = one.sender.send_device(&header, &loan, at as u64, chunk);
                sent.expect("sent");
                at += chunk;
            }
            drop(loan);
        }
        one
    });
    for (offset, length) in parts {
        let mut got = Vec::new();
        while got.len() < length {
            got.extend(receive(&mut other).expect("a frame"));
        }
        assert!(
            got == bytes[offset..offset + length],
            "{length} at {offset}"
        );
    }
    sender.join().expect("the sender");
}

#[test]
fn what_is_not_lent_of_a_device_is_not_sent() {
    if !has_device() {
        return;
    }
    let (mut one, _other) = pair(&Settings::default(), |_| {});
    let memory = Memory::new(1 << 20);
    // SAFETY: as above.
    let loan = unsafe { one.lender.lend(&memory.part(4096, 8192)) }.expect("lent");
    let header = FrameHeader {
        sequence: 1,
        ..FrameHeader::bulk(0, 0)
    };
    let sent = one.sender.send_device(&header, &loan, 8000, 193);
    let error = sent.expect_err("beyond its end").to_string();
    assert!(error.contains("not lent"), "{error}");
    // Nothing is there to be registered.
    let (other, _third) = pair(&Settings::default(), |_| {});
    let nothing = DeviceMemory {
        address: 0x1000,
        length: 4096,
        reached: Reached::ByAddress,
    };
    // SAFETY: it is refused.
    let refused = unsafe { other.lender.lend(&nothing) }.map(drop);
    let error = refused.expect_err("no memory").to_string();
    assert!(error.contains("ibv_reg_mr"), "{error}");
}

#[test]
fn a_devices_memory_is_taken_back_soon_from_a_peer_that_is_gone() {
    if !has_device() {
        return;
    }
    let (mut one, other) = pair(&Settings::default(), |_| {});
    let memory = Memory::new(16 << 20);
    // SAFETY: as above.
    let loan = unsafe { one.lender.lend(&memory.part(0, 16 << 20)) }.expect("lent");
    let sender = thread::spawn(move || {
        let failed = (0..16).find_map(|part| {
            let header = FrameHeader {
                sequence: part + 1,
                ..FrameHeader::bulk(0, 0)
            };
            let sent = one.sender.send_device(&header, &loan, part << 20, 1 << 20);
            sent.err()
        });
        let begun = std::time::Instant::now();
        drop(loan);
        (failed, begun.elapsed())
    });
    thread::sleep(Duration::from_millis(300));
    drop(other);
    let (failed, time) = sender.join().expect("the sender");
    assert!(failed.is_some(), "the ring is smaller than what was sent");
    assert!(time < Duration::from_secs(10), "{time:?}");
}

/// Offers bytes of the program, which outlive it.
fn offer(lender: &Lender, bytes: &[u8]) -> Offer {
    // SAFETY: the callers keep the bytes until the offer ends.
    let offer = unsafe { lender.offer(bytes.as_ptr(), bytes.len()) };
    offer.expect("offered")
}

/// Begins to read what is offered.
fn read(lender: &Lender, memory: &DeviceMemory<'_>, from: RemoteMemory) -> DeviceRead {
    // SAFETY: the memory is mapped until the process ends, and looked at only behind the read.
    let read = unsafe { lender.read(memory, from) };
    read.expect("begun")
}

/// Waits for the end of a read.
fn outcome(read: &DeviceRead) -> Result<(), RdmaError> {
    let begun = std::time::Instant::now();
    loop {
        if let Some(outcome) = read.outcome() {
            return outcome;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Frames go on, both ways.
fn is_alive(one: &mut Connection, other: &mut Connection) {
    send(one, 1, &[1; 300]).expect("sent");
    assert_eq!(receive(other).expect("a frame"), [1; 300]);
    send(other, 1, &[2; 300]).expect("sent");
    assert_eq!(receive(one).expect("a frame"), [2; 300]);
}

/// Sizes and places of all kinds, several at one time, into memory that only the card can write meanwhile.
#[test]
fn what_is_offered_is_read_into_a_devices_memory() {
    if !has_device() {
        return;
    }
    let (mut client, mut worker) = pair(&Settings::default(), |_| {});
    assert!(client.lender.has_reads() && worker.lender.has_reads());
    let bytes: Vec<u8> = (0..9 << 20).map(|at| (at * 31 % 251) as u8).collect();
    let memory = Memory::new(12 << 20);
    let parts = [
        (0, 5, 1),
        (4095, 8192, 4098),
        (3, 1 << 20, (1 << 20) - 1),
        (5 << 20, (2 << 20) + 7, 4 << 20),
        (1, (7 << 20) + 5, (4 << 20) - 1),
    ];
    let offers = parts.map(|(from, _, length)| offer(&client.lender, &bytes[from..from + length]));
    let reads: Vec<DeviceRead> = parts
        .iter()
        .zip(&offers)
        .map(|((_, to, length), offer)| {
            read(&worker.lender, &memory.part(*to, *length), offer.memory())
        })
        .collect();
    for read in &reads {
        outcome(read).expect("read");
    }
    drop(reads);
    for (from, to, length) in parts {
        assert!(
            memory.bytes(to, length) == bytes[from..from + length],
            "{length} at {to}"
        );
    }
    // Nothing beside them.
    assert_eq!(memory.bytes(0, 5), [0; 5]);
    assert_eq!(memory.bytes(8192 + 4098, 9), [0; 9]);
    is_alive(&mut client, &mut worker);
}

/// Each is the end of reads, and of nothing else.
#[test]
fn what_is_not_offered_is_not_read() {
    if !has_device() {
        return;
    }
    let wrong: [fn(&mut RemoteMemory); 3] = [
        |memory| memory.key ^= 0x00FF_FF00,
        |memory| memory.address += 4096,
        |memory| memory.address -= 1,
    ];
    let bytes = vec![7_u8; 3 << 20];
    let memory = Memory::new(1 << 20);
    for change in wrong {
        let (mut client, mut worker) = pair(&Settings::default(), |_| {});
        let offered = offer(&client.lender, &bytes[1 << 20..2 << 20]);
        let mut place = offered.memory();
        change(&mut place);
        let wrong = read(&worker.lender, &memory.part(0, 1 << 20), place);
        let error = outcome(&wrong).expect_err("refused").to_string();
        assert!(error.contains("remote access error"), "{error}");
        drop(wrong);
        // SAFETY: as above.
        let again = unsafe {
            worker
                .lender
                .read(&memory.part(0, 1 << 20), offered.memory())
        };
        assert!(matches!(again.map(drop), Err(RdmaError::Reading(_))));
        is_alive(&mut client, &mut worker);
    }
    assert!(memory.bytes(0, 1 << 20).iter().all(|byte| *byte == 0));
}

#[test]
fn an_offer_that_is_withdrawn_opens_nothing() {
    if !has_device() {
        return;
    }
    let (mut client, mut worker) = pair(&Settings::default(), |_| {});
    let bytes = vec![7_u8; 1 << 20];
    let memory = Memory::new(1 << 20);
    let offered = offer(&client.lender, &bytes);
    let place = offered.memory();
    outcome(&read(&worker.lender, &memory.part(0, 1 << 20), place)).expect("read");
    drop(offered);
    let late = read(&worker.lender, &memory.part(0, 1 << 20), place);
    let error = outcome(&late).expect_err("refused").to_string();
    assert!(error.contains("remote access error"), "{error}");
    drop(late);
    is_alive(&mut client, &mut worker);
}

#[test]
fn a_read_from_a_peer_that_is_gone_fails() {
    if !has_device() {
        return;
    }
    let (client, worker) = pair(&Settings::default(), |_| {});
    let bytes = vec![7_u8; 8 << 20];
    let memory = Memory::new(8 << 20);
    let offered = offer(&client.lender, &bytes);
    let place = offered.memory();
    let whole = read(&worker.lender, &memory.part(0, 8 << 20), place);
    thread::sleep(Duration::from_millis(2));
    drop(offered);
    drop(client);
    // It may have been quick enough; what is begun now is not.
    let _ = outcome(&whole);
    drop(whole);
    // SAFETY: as above.
    let late = unsafe { worker.lender.read(&memory.part(0, 8 << 20), place) };
    if let Ok(late) = late {
        outcome(&late).expect_err("nobody is there");
    }
}

/// Only memory that it does no harm to lend, and only where both ends have reads.
#[test]
fn memory_that_was_never_written_is_not_offered() {
    if !has_device() {
        return;
    }
    let (one, _other) = pair(&Settings::default(), |_| {});
    let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    let flags = rustix::mm::MapFlags::PRIVATE;
    // SAFETY: a new mapping.
    let untouched =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4 << 20, access, flags) };
    let untouched = untouched.expect("mapped").cast::<u8>();
    // SAFETY: mapped until the process ends.
    let offered = unsafe { one.lender.offer(untouched, 4 << 20) };
    assert!(offered.is_none());
    let (one, _other) = pair(&Settings::default(), |end| end.reading = None);
    let bytes = vec![7_u8; 1 << 20];
    // SAFETY: as above.
    let offered = unsafe { one.lender.offer(bytes.as_ptr(), bytes.len()) };
    assert!(offered.is_none() && !one.lender.has_reads());
}
