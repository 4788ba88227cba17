//! Peers that say nothing: a stopped process is waited for, a lost machine is not.

use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use protocol::frame::{FrameHeader, FrameKind};
use protocol::limits::BULK_CHUNK_BYTES;
use protocol::transport::memory::{self, Faults};
use protocol::transport::{Connection, Notice, Patience, TransportError};
use zerocopy::IntoBytes;

type Told = Arc<Mutex<Vec<Notice>>>;

/// A grace, and what is told about it.
fn patience(grace: Duration) -> (Patience, Told) {
    let told = Told::default();
    let teller = Arc::clone(&told);
    let patience = Patience {
        grace,
        told: Arc::new(move |notice| teller.lock().expect("alive").push(notice)),
        ..Patience::default()
    };
    (patience, told)
}

fn tcp_sockets() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (client.into(), server.into())
}

fn tcp(patience: Patience) -> (Connection, Connection) {
    let (one, other) = tcp_sockets();
    let connection = |socket| Connection::from_fd(socket, patience.clone());
    (
        connection(one).expect("ours"),
        connection(other).expect("theirs"),
    )
}

fn unix(patience: Patience) -> (Connection, Connection) {
    let (one, other) = UnixStream::pair().expect("a pair");
    let connection = |socket: UnixStream| Connection::from_fd(socket.into(), patience.clone());
    (
        connection(one).expect("ours"),
        connection(other).expect("theirs"),
    )
}

fn in_memory(patience: Patience) -> (Connection, Connection) {
    memory::pair(&Faults {
        patience,
        ..Faults::default()
    })
}

type Pair = fn(Patience) -> (Connection, Connection);
const TRANSPORTS: [Pair; 3] = [tcp, unix, in_memory];

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(30);

/// On every transport at once.
fn everywhere(body: fn(Pair)) {
    let running = TRANSPORTS.map(|pair| thread::spawn(move || body(pair)));
    for thread in running {
        thread.join().expect("this transport");
    }
}

fn heartbeat(connection: &mut Connection) {
    let header = FrameHeader::new(FrameKind::Heartbeat);
    connection.sender.send(&header, &[]).expect("sent");
}

/// Sends until the peer's silence ends it.
fn send_on(connection: &mut Connection) -> TransportError {
    let bytes = vec![0; BULK_CHUNK_BYTES];
    loop {
        let header = FrameHeader::bulk(1, 0);
        let sent = connection.sender.send(&header, &[IoSlice::new(&bytes)]);
        if let Err(error) = sent {
            return error;
        }
    }
}

#[test]
fn a_peer_that_says_nothing_is_told_of_and_given_up() {
    everywhere(|pair| {
        let (patience, told) = patience(SHORT);
        let (mut ours, _theirs) = pair(patience);
        let error = ours.receiver.wait(Some(DEADLINE)).expect_err("silence");
        assert!(matches!(error, TransportError::Silent(time) if time >= SHORT));
        let told = told.lock().expect("alive");
        assert!(
            matches!(told[..], [Notice::Silent { grace: SHORT, .. }]),
            "{told:?}"
        );
    });
}

#[test]
fn a_peer_that_stops_inside_a_frame_is_given_up() {
    let (one, other) = tcp_sockets();
    let mut ours = Connection::from_fd(one, patience(SHORT).0).expect("ours");
    let header = FrameHeader {
        length: 100,
        ..FrameHeader::bulk(1, 0)
    };
    rustix::io::write(&other, header.to_wire().as_bytes()).expect("written");
    rustix::io::write(&other, &[7; 50]).expect("written");
    while ours.receiver.poll_header().expect("alive").is_none() {
        assert!(ours.receiver.wait(Some(DEADLINE)).expect("alive"));
    }
    let error = ours.receiver.read_payload(&mut [0; 100]);
    assert!(matches!(error, Err(TransportError::Silent(_))), "{error:?}");
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    everywhere(|pair| {
        let (patience, _) = patience(SHORT);
        let (mut ours, _theirs) = pair(patience);
        let error = send_on(&mut ours);
        assert!(matches!(error, TransportError::Silent(_)), "{error}");
    });
}

#[test]
fn a_peer_that_is_heard_again_goes_on() {
    everywhere(|pair| {
        let (patience, told) = patience(4 * SHORT);
        let (mut ours, mut theirs) = pair(patience);
        // Twice as long as it takes to be told, half as long as the grace.
        assert!(!ours.receiver.wait(Some(5 * SHORT / 2)).expect("patience"));
        heartbeat(&mut theirs);
        assert!(ours.receiver.wait(Some(DEADLINE)).expect("heard"));
        assert!(ours.receiver.poll_header().expect("a header").is_some());
        assert!(!ours.receiver.wait(Some(SHORT)).expect("patience"));
        let told = told.lock().expect("alive");
        let expected = matches!(told[..], [Notice::Silent { .. }, Notice::HeardAgain { .. }]);
        assert!(expected, "{told:?}");
    });
}

/// Lets the kernel drop whatever arrives at a socket before TCP sees it: its machine is gone, as far as the peer can tell.
#[expect(unsafe_code, reason = "a socket option that no crate of ours has")]
fn vanish(socket: &impl AsRawFd) {
    let mut drop_all = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: drop_all.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which is valid for its one instruction.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_lost_machine_is_noticed_long_before_the_grace() {
    let (one, other) = tcp_sockets();
    let patience = Patience {
        host_loss: 2 * SHORT,
        ..patience(LONG).0
    };
    let mut ours = Connection::from_fd(one, patience).expect("ours");
    vanish(&other);
    let begin = Instant::now();
    let error = loop {
        assert!(begin.elapsed() < DEADLINE, "nothing was noticed");
        heartbeat(&mut ours);
        if let Err(error) = ours.receiver.wait(Some(SHORT)) {
            break error;
        }
    };
    assert!(matches!(error, TransportError::HostLost(_)), "{error}");
}

#[test]
fn a_stopped_process_is_no_lost_machine() {
    let patience = Patience {
        host_loss: SHORT,
        ..patience(LONG).0
    };
    let (mut ours, mut theirs) = tcp(patience);
    // It takes nothing, so that everything is full, for much longer than a lost machine is waited for.
    let interrupt = ours.interrupt.clone();
    let sending = thread::spawn(move || send_on(&mut ours));
    thread::sleep(4 * SHORT);
    assert!(!sending.is_finished(), "the connection was given up");
    // Continued, it finds everything in its place.
    for _ in 0..8 {
        while theirs.receiver.poll_header().expect("alive").is_none() {
            assert!(theirs.receiver.wait(Some(DEADLINE)).expect("alive"));
        }
        theirs.receiver.skip_payload().expect("whole");
    }
    interrupt.shutdown();
    let error = sending.join().expect("an end");
    assert!(matches!(error, TransportError::Closed), "{error}");
}
