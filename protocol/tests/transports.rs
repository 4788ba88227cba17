//! The same test bodies over every transport: what a connection promises must hold on all of them.

use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use protocol::frame::{FrameHeader, FrameKind, HEADER_BYTES};
use protocol::hello::{self, Hello, HelloError, Intent};
use protocol::limits::{BULK_CHUNK_BYTES, MAX_FRAME_BYTES};
use protocol::transport::memory::{self, Faults};
use protocol::transport::tls;
use protocol::transport::{Connection, FrameReceiver, HandshakeStream, Patience, TransportError};

type Pair = (Connection, Connection);

fn tcp_sockets() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (client.into(), server.into())
}

fn unix_sockets() -> (OwnedFd, OwnedFd) {
    let (one, other) = UnixStream::pair().expect("a pair");
    // As it is after tokio had it: the mode must not matter.
    other.set_nonblocking(true).expect("non-blocking");
    (one.into(), other.into())
}

fn connections((one, other): (OwnedFd, OwnedFd)) -> Pair {
    let connection =
        |socket| Connection::from_fd(socket, Patience::default()).expect("a connection");
    (connection(one), connection(other))
}

fn tcp() -> Pair {
    connections(tcp_sockets())
}

/// TLS with a certificate that the client was told the fingerprint of.
fn encrypted() -> Pair {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["server".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let identity = tls::Identity {
        chain: vec![certificate.der().to_vec()],
        key: key.serialize_der(),
    };
    let fingerprint = tls::fingerprint(certificate.der()).expect("a fingerprint");
    let deadline = Instant::now() + Duration::from_secs(20);
    let (client, server) = tcp_sockets();
    let serving = thread::spawn(move || tls::accept(server, &identity, deadline));
    let trust = tls::Trust::Fingerprint(fingerprint);
    let client = tls::connect(client, &trust, "server", deadline).expect("a client");
    let server = serving.join().expect("the server").expect("a server");
    (
        client.into_connection(Patience::default()),
        server.into_connection(Patience::default()),
    )
}

fn unix() -> Pair {
    connections(unix_sockets())
}

fn in_memory() -> Pair {
    memory::pair(&Faults::default())
}

fn in_memory_slow() -> Pair {
    memory::pair(&Faults {
        seed: 7,
        max_delay: Duration::from_micros(50),
        max_piece_bytes: 100_000,
        ..Faults::default()
    })
}

/// Both ends on one RDMA device of this machine, if there is one. Where `GPURUN_TEST_RDMA` is set there has to be.
#[cfg(feature = "rdma")]
fn rdma() -> Option<Pair> {
    use protocol::transport::rdma::{Prepared, Settings, is_present};
    if std::env::var_os("GPURUN_TEST_RDMA").is_none() && !is_present() {
        return None;
    }
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    let prepare = || Prepared::new(loopback, &Settings::default()).expect("an RDMA device");
    let (mut one, mut other) = (prepare(), prepare());
    one.connect(&other.end()).expect("connected");
    other.connect(&one.end()).expect("connected");
    let (client, server) = tcp_sockets();
    let connection = |end: Prepared, socket| {
        end.into_connection(socket, Patience::default())
            .expect("a connection")
    };
    Some((connection(one, client), connection(other, server)))
}

/// Every body below, for every transport.
macro_rules! conformance {
    ($($transport:ident),*) => { $(mod $transport {
        conformance!(@bodies $transport: ordering, small_pieces, large_payloads, many_pieces, waiting,
            interrupting, closing, misuse, idle_poll);
    })* };
    (@bodies $transport:ident: $($body:ident),*) => {
        $(#[test] fn $body() { super::$body(super::$transport()); })*
    };
}

conformance!(tcp, encrypted, unix, in_memory, in_memory_slow);

/// The same over RDMA; passes without a device, unless one is required.
#[cfg(feature = "rdma")]
mod by_rdma {
    macro_rules! bodies {
        ($($body:ident),*) => {
            $(#[test] fn $body() {
                if let Some(pair) = super::rdma() {
                    super::$body(pair);
                }
            })*
        };
    }
    bodies!(
        ordering,
        small_pieces,
        large_payloads,
        many_pieces,
        waiting,
        interrupting,
        closing,
        misuse,
        idle_poll
    );
}

fn next(receiver: &mut dyn FrameReceiver) -> Result<FrameHeader, TransportError> {
    loop {
        if let Some(header) = receiver.poll_header()? {
            return Ok(header);
        }
        let is_ready = receiver.wait(Some(Duration::from_secs(10)))?;
        assert!(is_ready, "nothing arrived in 10 s");
    }
}

fn payload_of(receiver: &mut dyn FrameReceiver, header: &FrameHeader) -> Vec<u8> {
    let mut payload = vec![0; header.length as usize];
    receiver.read_payload(&mut payload).expect("a payload");
    payload
}

/// Bytes that tell their place and whose they are.
fn pattern(seed: usize, length: usize) -> Vec<u8> {
    const PERIOD: usize = 251;
    let period: Vec<u8> = (0..PERIOD)
        .map(|place| ((seed * 31 + place) % PERIOD) as u8)
        .collect();
    let mut bytes = period.repeat(length / PERIOD + 1);
    bytes.truncate(length);
    bytes
}

fn numbered(sequence: u64) -> FrameHeader {
    FrameHeader {
        sequence,
        acknowledged: sequence / 2,
        ..FrameHeader::bulk(sequence * 3, sequence * 5)
    }
}

/// Frames of many sizes arrive whole and in order.
fn ordering((mut client, mut server): Pair) {
    let size = |number: usize| number * 7919 % 40_000;
    let sender = thread::spawn(move || {
        for number in 0..500 {
            let payload = pattern(number, size(number));
            let header = numbered(number as u64);
            client
                .sender
                .send(&header, &[IoSlice::new(&payload)])
                .expect("sent");
        }
        client
    });
    for number in 0..500 {
        let header = next(&mut *server.receiver).expect("a header");
        let expected = FrameHeader {
            length: size(number) as u32,
            ..numbered(number as u64)
        };
        assert_eq!(header, expected);
        assert!(payload_of(&mut *server.receiver, &header) == pattern(number, size(number)));
    }
    drop(sender.join().expect("the sender"));
}

/// A payload may be read in pieces of any size, and what is left can be passed over.
fn small_pieces((mut client, mut server): Pair) {
    let payload = pattern(1, 100_000);
    let copy = payload.clone();
    let sending = thread::spawn(move || {
        for _ in 0..3 {
            client
                .sender
                .send(&numbered(1), &[IoSlice::new(&copy)])
                .expect("sent");
        }
        client
    });
    let header = next(&mut *server.receiver).expect("a header");
    let mut read = Vec::new();
    let mut step = 1;
    while read.len() < header.length as usize {
        let mut piece = vec![0; step.min(server.receiver.payload_left())];
        server.receiver.read_payload(&mut piece).expect("a piece");
        read.extend(piece);
        step = step * 3 + 1;
    }
    assert!(read == payload);
    next(&mut *server.receiver).expect("a header");
    server.receiver.skip_payload().expect("passed over");
    let header = next(&mut *server.receiver).expect("a header");
    assert!(payload_of(&mut *server.receiver, &header) == payload);
    drop(sending.join());
}

/// 64 MiB in chunks, calls between them, both ways at once.
fn large_payloads((client, server): Pair) {
    const CHUNKS: usize = 64;
    let both = [client, server].map(|mut end| {
        let mut sender = end.sender;
        let sending = thread::spawn(move || {
            for number in 0..CHUNKS {
                let chunk = pattern(number, BULK_CHUNK_BYTES);
                let header = FrameHeader::bulk(9, (number * BULK_CHUNK_BYTES) as u64);
                sender.send(&header, &[IoSlice::new(&chunk)]).expect("sent");
                let calls = FrameHeader::new(FrameKind::Calls);
                sender
                    .send(&calls, &[IoSlice::new(&chunk[..24])])
                    .expect("sent");
            }
            sender
        });
        let receiving = thread::spawn(move || {
            for number in 0..CHUNKS {
                let header = next(&mut *end.receiver).expect("a header");
                assert_eq!(header.offset, (number * BULK_CHUNK_BYTES) as u64);
                let payload = payload_of(&mut *end.receiver, &header);
                assert!(payload == pattern(number, BULK_CHUNK_BYTES));
                let header = next(&mut *end.receiver).expect("a header");
                assert_eq!((header.kind, header.length), (FrameKind::Calls, 24));
                payload_of(&mut *end.receiver, &header);
            }
            end.receiver
        });
        (sending, receiving)
    });
    let ends = both.map(|(sending, receiving)| (sending.join(), receiving.join()));
    assert!(
        ends.iter()
            .all(|(sent, received)| sent.is_ok() && received.is_ok())
    );
}

/// More pieces than one system call takes, empty ones among them.
fn many_pieces((mut client, mut server): Pair) {
    let pieces: Vec<Vec<u8>> = (0..300).map(|number| pattern(number, number % 5)).collect();
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    client
        .sender
        .send(&FrameHeader::new(FrameKind::Output), &slices)
        .expect("sent");
    client
        .sender
        .send(&FrameHeader::new(FrameKind::Heartbeat), &[])
        .expect("sent");
    let header = next(&mut *server.receiver).expect("a header");
    assert!(payload_of(&mut *server.receiver, &header) == pieces.concat());
    let header = next(&mut *server.receiver).expect("a header");
    assert_eq!(header, FrameHeader::new(FrameKind::Heartbeat));
}

/// A wait ends at its timeout, or when something arrives, or at once if something has arrived.
fn waiting((mut client, mut server): Pair) {
    let begin = Instant::now();
    let is_ready = server
        .receiver
        .wait(Some(Duration::from_millis(50)))
        .expect("waited");
    assert!(!is_ready && begin.elapsed() >= Duration::from_millis(50));
    assert!(!server.receiver.wait(Some(Duration::ZERO)).expect("waited"));
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        for _ in 0..2 {
            client
                .sender
                .send(&FrameHeader::new(FrameKind::Heartbeat), &[])
                .expect("sent");
        }
        client
    });
    assert!(server.receiver.wait(None).expect("waited"));
    let client = sender.join().expect("the sender");
    thread::sleep(Duration::from_millis(5));
    next(&mut *server.receiver).expect("a header");
    assert!(
        server
            .receiver
            .wait(Some(Duration::ZERO))
            .expect("buffered")
    );
    next(&mut *server.receiver).expect("a header");
    drop(client);
}

/// An interrupt from another thread ends waits, reads and sends, of both sides.
fn interrupting((mut client, mut server): Pair) {
    client
        .sender
        .send(&numbered(1), &[IoSlice::new(&[0; 100])])
        .expect("sent");
    next(&mut *server.receiver).expect("a header");
    server.receiver.skip_payload().expect("passed over");
    let interrupt = server.interrupt.clone();
    let waiting = thread::spawn(move || {
        let begin = Instant::now();
        let is_ready = server.receiver.wait(None).expect("waited");
        assert!(is_ready && begin.elapsed() < Duration::from_secs(10));
        let error = server.receiver.poll_header().expect_err("over");
        assert!(matches!(error, TransportError::Closed), "{error:?}");
        server
    });
    let filling = thread::spawn(move || {
        let payload = vec![1; MAX_FRAME_BYTES];
        let header = FrameHeader::bulk(1, 0);
        while client
            .sender
            .send(&header, &[IoSlice::new(&payload)])
            .is_ok()
        {}
        client
    });
    thread::sleep(Duration::from_millis(1));
    interrupt.shutdown();
    let mut server = match waiting.join() {
        Ok(server) => server,
        // Part of the frame had arrived already: then the end is inside a frame, and still an end.
        Err(_) => return drop(filling.join().expect("the client")),
    };
    let mut client = filling.join().expect("the client");
    assert!(client.sender.send(&numbered(1), &[]).is_err());
    assert!(server.sender.send(&numbered(1), &[]).is_err());
}

/// The peer's close is a clear error: after everything that it sent, or inside a frame.
fn closing((mut client, mut server): Pair) {
    client
        .sender
        .send(&numbered(1), &[IoSlice::new(&[7; 10])])
        .expect("sent");
    drop(client);
    let header = next(&mut *server.receiver).expect("what was sent before");
    assert_eq!(payload_of(&mut *server.receiver, &header), [7; 10]);
    let error = next(&mut *server.receiver).expect_err("closed");
    assert!(matches!(error, TransportError::Closed), "{error:?}");
    assert!(next(&mut *server.receiver).is_err(), "still closed");
    let sent = (0..3).all(|_| server.sender.send(&numbered(1), &[]).is_ok());
    assert!(!sent, "sending to nobody must fail");
}

/// What a caller does wrong is refused and harms nothing.
fn misuse((mut client, mut server): Pair) {
    let long = vec![0; MAX_FRAME_BYTES + 1];
    let refused = client
        .sender
        .send(&FrameHeader::bulk(1, 0), &[IoSlice::new(&long)]);
    assert!(matches!(refused, Err(TransportError::Misuse(_))));
    let refused = client.sender.send(
        &FrameHeader::new(FrameKind::Heartbeat),
        &[IoSlice::new(b"x")],
    );
    assert!(matches!(refused, Err(TransportError::Misuse(_))));
    client
        .sender
        .send(&numbered(1), &[IoSlice::new(b"four")])
        .expect("sent");
    next(&mut *server.receiver).expect("a header");
    let refused = server.receiver.poll_header();
    assert!(matches!(refused, Err(TransportError::Misuse(_))));
    let refused = server.receiver.read_payload(&mut [0; 5]);
    assert!(matches!(refused, Err(TransportError::Misuse(_))));
    let mut payload = [0; 4];
    server
        .receiver
        .read_payload(&mut payload)
        .expect("a payload");
    assert_eq!(&payload, b"four");
}

/// Polling an idle connection finds nothing, and says so at once.
fn idle_poll((client, mut server): Pair) {
    for _ in 0..1000 {
        assert!(server.receiver.poll_header().expect("alive").is_none());
    }
    drop(client);
}

/// A header that is none ends the connection.
#[test]
fn garbage() {
    for sockets in [tcp_sockets(), unix_sockets()] {
        let mut server = Connection::from_fd(sockets.1, Patience::default()).expect("a connection");
        rustix::io::write(&sockets.0, &[0xFF; HEADER_BYTES]).expect("written");
        let error = next(&mut *server.receiver).expect_err("garbage");
        assert!(matches!(error, TransportError::Frame(_)), "{error:?}");
        assert!(server.receiver.poll_header().is_err());
    }
}

/// An end inside a frame is told apart from one between frames.
#[test]
fn cut_inside_a_frame() {
    for sent in [20, HEADER_BYTES + 1] {
        let sockets = unix_sockets();
        let mut server = Connection::from_fd(sockets.1, Patience::default()).expect("a connection");
        let header = FrameHeader {
            length: 5,
            ..FrameHeader::new(FrameKind::Output)
        };
        let mut bytes = zerocopy::IntoBytes::as_bytes(&header.to_wire()).to_vec();
        bytes.extend([1; 5]);
        rustix::io::write(&sockets.0, &bytes[..sent]).expect("written");
        drop(sockets.0);
        let error = match next(&mut *server.receiver) {
            Ok(_) => server.receiver.read_payload(&mut [0; 5]).expect_err("cut"),
            Err(error) => error,
        };
        assert!(matches!(error, TransportError::Cut), "{error:?}");
    }
}

/// Bytes go to memory behind a raw pointer as they go to a slice.
#[test]
#[expect(unsafe_code, reason = "the raw variant is what is tested")]
fn raw_destination() {
    let (mut client, mut server) = unix();
    let payload = pattern(3, 300_000);
    let copy = payload.clone();
    let sending = thread::spawn(move || {
        client
            .sender
            .send(&numbered(1), &[IoSlice::new(&copy)])
            .expect("sent");
        client
    });
    next(&mut *server.receiver).expect("a header");
    let mut destination = vec![0_u8; payload.len()];
    // SAFETY: the vector has this many bytes and outlives the call.
    unsafe {
        server
            .receiver
            .read_payload_raw(destination.as_mut_ptr(), payload.len())
    }
    .expect("a payload");
    assert!(destination == payload);
    drop(sending.join());
}

/// For any seed and any place of a cut: what arrives is a prefix of what was sent, then a clear end.
#[test]
fn cuts_in_memory() {
    for seed in 0..200_u64 {
        let cut = seed * 97;
        let (mut client, mut server) = memory::pair(&Faults {
            seed,
            max_delay: Duration::from_micros(seed % 20),
            max_piece_bytes: (seed % 300) as usize,
            cut_after_sent_by_first: Some(cut),
            ..Faults::default()
        });
        let sending = thread::spawn(move || {
            let mut sent = 0;
            while client
                .sender
                .send(
                    &numbered(sent),
                    &[IoSlice::new(&pattern(sent as usize, 60))],
                )
                .is_ok()
            {
                sent += 1;
            }
            sent
        });
        let mut received = 0;
        let error = loop {
            match next(&mut *server.receiver) {
                Ok(header) => {
                    assert_eq!(header.sequence, received, "seed {seed}");
                    let mut payload = [0; 60];
                    match server.receiver.read_payload(&mut payload) {
                        Ok(()) => assert!(payload[..] == pattern(received as usize, 60)),
                        Err(error) => break error,
                    }
                    received += 1;
                }
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, TransportError::Closed | TransportError::Cut),
            "seed {seed}: {error:?}"
        );
        assert_eq!(received, cut / 100, "seed {seed}");
        let sent = sending.join().expect("the sender");
        assert!(sent <= received, "seed {seed}: {sent} sent");
    }
}

/// A hello leaves the frames behind it to whoever has the descriptor next, and ends at its deadline.
#[test]
fn hello_then_frames() {
    let (client, server) = unix_sockets();
    let mut bytes = hello::encode(&Hello::new(Intent::Session)).expect("a hello");
    let frame = FrameHeader::new(FrameKind::Heartbeat).to_wire();
    bytes.extend_from_slice(zerocopy::IntoBytes::as_bytes(&frame));
    rustix::io::write(&client, &bytes).expect("written");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut stream = HandshakeStream::new(server.as_fd(), deadline);
    let read: Hello = hello::read(&mut stream).expect("a hello");
    assert_eq!(read.intent(), Intent::Session);
    let mut connection = Connection::from_fd(server, Patience::default()).expect("a connection");
    assert_eq!(
        next(&mut *connection.receiver).expect("a header").kind,
        FrameKind::Heartbeat
    );

    let (client, server) = tcp_sockets();
    let begin = Instant::now();
    let mut stream = HandshakeStream::new(server.as_fd(), begin + Duration::from_millis(50));
    rustix::io::write(&client, b"GPU").expect("written");
    let result = hello::read::<Hello>(&mut stream);
    assert!(matches!(result, Err(HelloError::TimedOut)), "{result:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(client);
    let result = hello::read::<Hello>(&mut HandshakeStream::new(server.as_fd(), deadline));
    assert!(matches!(result, Err(HelloError::Closed)), "{result:?}");
}
