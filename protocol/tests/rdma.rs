//! What can go wrong between two ends of a connection by RDMA, on a device of this machine; passes where there is none, unless
//! `GPURUN_TEST_RDMA` is set.
#![cfg(feature = "rdma")]

use std::io::IoSlice;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use protocol::frame::{FrameHeader, FrameKind};
use protocol::hello::RdmaEnd;
use protocol::transport::rdma::{Prepared, RdmaError, Settings, Wanted, is_present};
use protocol::transport::{Connection, Patience, TransportError};

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
    let (mut one, mut other) = (prepare(settings), prepare(settings));
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
