//! What no client and no server should send: refused clearly, in bounded memory, and nobody else notices.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use protocol::address::Address;
use protocol::connect::{self, ConnectError};
use protocol::hello::{self, Accepted, Answer, Hello, HelloReply, Intent, RefusalCode};
use protocol::limits::{HELLO_TIMEOUT, NEWEST_VERSION};
use protocol::transport::Patience;
use tests::processes::{eventually, resident_bytes};
use tests::{LIVENESS_LIMIT, Outcome, Server, Transport, Way, program, run};

fn socket_of(server: &Server) -> String {
    server.address.trim_start_matches("tcp://").to_owned()
}

fn address_of(server: &Server) -> Address {
    server.address.parse().expect("an address")
}

fn session_hello() -> Hello {
    Hello {
        shape_hash: driver_api::wire::shape_hash().to_vec(),
        ..Hello::new(Intent::Session)
    }
}

fn open(server: &Server, hello: &Hello) -> Result<Accepted, ConnectError> {
    let opened = connect::open_session(&address_of(server), hello, Patience::default());
    opened.map(|session| session.accepted)
}

fn refusal(server: &Server, hello: &Hello) -> (RefusalCode, String) {
    match open(server, hello) {
        Err(ConnectError::Refused { code, message, .. }) => (code, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_that_do_not_fit_are_refused_by_name() {
    let server = Server::start(Transport::Tcp);
    for (oldest, newest) in [(0, 0), (NEWEST_VERSION + 1, NEWEST_VERSION + 7)] {
        let hello = Hello {
            oldest_version: oldest,
            newest_version: newest,
            client_version: "9.8.7".to_owned(),
            ..session_hello()
        };
        let (code, message) = refusal(&server, &hello);
        let expected = format!(
            "the client 9.8.7 speaks {oldest} to {newest}, the server {} speaks 1 to {NEWEST_VERSION}",
            hello::RELEASE
        );
        assert_eq!(code, RefusalCode::Version);
        assert!(message.contains(&expected), "{message}");
        assert!(server.log().contains(&expected), "{}", server.log());
    }
    // A client that also speaks newer ones gets what both speak.
    let hello = Hello {
        newest_version: 99,
        ..session_hello()
    };
    let accepted = open(&server, &hello).expect("a session");
    assert_eq!(accepted.version, NEWEST_VERSION);
    let hello = Hello {
        shape_hash: vec![1; 32],
        client_version: "9.8.7".to_owned(),
        ..session_hello()
    };
    let (code, message) = refusal(&server, &hello);
    assert_eq!(code, RefusalCode::Version);
    assert!(
        message.contains("9.8.7") && message.contains(hello::RELEASE),
        "{message}"
    );
}

#[test]
fn fields_of_the_future_are_passed_over() {
    let server = Server::start(Transport::Tcp);
    let mut bytes = hello::encode(&session_hello()).expect("a hello");
    // Field 1999, text: no message of ours has it.
    bytes.extend([0xFA, 0x7C, 5]);
    bytes.extend(b"later");
    let length = (bytes.len() - hello::PREAMBLE_BYTES) as u32;
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    let mut stream = TcpStream::connect(socket_of(&server)).expect("connected");
    stream.write_all(&bytes).expect("sent");
    let reply: HelloReply = hello::read(&mut stream).expect("a reply");
    assert!(
        matches!(reply.answer, Some(Answer::Accepted(_))),
        "{reply:?}"
    );
}

/// A server that answers one hello with what it is given, and sends bytes after it.
fn fake_server(reply: HelloReply, then: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A program that does not like the answer is what the tests are about.
            let _ = hello::read::<Hello>(&mut stream);
            let _ = hello::write(&mut stream, &reply);
            let _ = stream.write_all(&then);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    format!("tcp://{address}")
}

fn vector_add(server: String) -> Outcome {
    let started = Instant::now();
    let outcome = run(Way::Preload(server).command(&program("static13", "vector_add")));
    assert!(started.elapsed() < LIVENESS_LIMIT, "{}", outcome.stderr);
    outcome
}

/// The program fails by its own check, and one line of ours says why.
fn assert_fails(outcome: &Outcome, why: &str) {
    let all = format!("{}\n{}\n{}", outcome.status, outcome.stdout, outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{all}");
    assert!(
        outcome.stdout.contains("FAIL ") && outcome.stdout.contains("cudaError"),
        "{all}"
    );
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert!(
        matches!(lines[..], [line] if line.starts_with("gpurun: ") && line.contains(why)),
        "{why}: {all}"
    );
}

fn honest_answer(server: &Server) -> Accepted {
    open(server, &session_hello()).expect("a session")
}

#[test]
fn a_server_of_another_version_is_refused_by_the_program() {
    let server = Server::start(Transport::Tcp);
    for version in [0, NEWEST_VERSION + 1] {
        let accepted = Accepted {
            version,
            ..honest_answer(&server)
        };
        let outcome = vector_add(fake_server(accepted.into(), Vec::new()));
        let why = format!(
            "the server {} speaks protocol version {version}, the client {} speaks 1 to {NEWEST_VERSION}",
            hello::RELEASE,
            hello::RELEASE
        );
        assert_fails(&outcome, &why);
    }
}

#[test]
fn whatever_a_server_sends_the_program_gets_an_error() {
    let server = Server::start(Transport::Tcp);
    let accepted = honest_answer(&server);
    let header = |length: u32, kind: u8, flags: u8, sequence: u64, acknowledged: u64| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([kind, flags, 0, 0]);
        for number in [sequence, acknowledged, 7, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    };
    let with = |mut header: Vec<u8>, payload: &[u8]| {
        header.extend(payload);
        header
    };
    let unasked_reply = [9_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let attempts: [(Vec<u8>, &str); 11] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n".repeat(10), "broke the protocol"),
        (header(u32::MAX, 3, 0, 1, 0), "broke the protocol"),
        (header(1, 7, 0, 0, 0), "broke the protocol"),
        (header(0, 99, 0, 1, 0), "unknown kind 99"),
        (header(0, 7, 1, 0, 0), "flags or reserved bytes"),
        (header(0, 3, 0, 2, 0), "a frame out of order"),
        (header(0, 7, 0, 0, 1 << 40), "received more than was sent"),
        (header(0, 1, 0, 1, 0), "it sent calls"),
        (
            with(header(4, 2, 0, 1, 0), b"data"),
            "transfer 7 was not asked for",
        ),
        (
            with(header(16, 3, 0, 1, 0), &unasked_reply),
            "nobody asked call 9",
        ),
        (
            with(header(5, 8, 0, 1, 0), b"enough"),
            "the server ended it: enoug",
        ),
    ];
    for (bytes, why) in attempts {
        let outcome = vector_add(fake_server(accepted.clone().into(), bytes));
        assert_fails(&outcome, why);
    }
    // No hello at all, half a hello, and a hello that is none.
    for bytes in [
        &b""[..],
        b"GPURUN\x00\x01\x10\x00\x00\x00half",
        b"GPURUN\x00\x01\xff\xff\xff\x7f",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("tcp://{}", listener.local_addr().expect("an address"));
        let bytes = bytes.to_vec();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = hello::read::<Hello>(&mut stream);
            let _ = stream.write_all(&bytes);
        });
        assert_fails(&vector_add(address), "did not answer as a gpu-server does");
        serving.join().expect("served");
    }
}

#[test]
fn a_flood_of_half_hellos_costs_little_and_stops_nobody() {
    const FLOOD: usize = 3000;
    const ALLOWANCE: u64 = 32 << 20;
    let server = Server::start(Transport::Tcp);
    let socket = socket_of(&server);
    let before = resident_bytes(server.id());
    let mut most = before;
    // The longest hello that may be announced, of which a byte comes now and then.
    let start = [&hello::MAGIC[..], &(64_u32 << 10).to_le_bytes(), &[0; 100]].concat();
    let mut held = Vec::new();
    for number in 0..FLOOD {
        let mut stream = TcpStream::connect(&socket).expect("connected");
        stream.write_all(&start).expect("sent");
        if number % 4 == 0 && held.len() < 500 {
            held.push(stream);
        }
        if number % 500 == 0 {
            most = most.max(resident_bytes(server.id()));
            connect::fetch_snapshot(&address_of(&server)).expect("a snapshot in the flood");
        }
    }
    most = most.max(resident_bytes(server.id()));
    assert!(most < before + ALLOWANCE, "{before} bytes became {most}");
    vector_add(server.address.clone()).assert_passed("a program in the flood");

    // One that sends a byte now and then for ever is dropped in time.
    let mut slow = TcpStream::connect(&socket).expect("connected");
    slow.write_all(&start).expect("sent");
    slow.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("set");
    let started = Instant::now();
    eventually(
        HELLO_TIMEOUT + LIVENESS_LIMIT,
        "the slow client is dropped",
        || {
            let written = slow.write_all(b"x");
            let read = slow.read(&mut [0; 1]);
            let waits = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            written.is_err() || !read.is_err_and(|error| waits(&error))
        },
    );
    assert!(started.elapsed() >= HELLO_TIMEOUT / 2, "it was given time");
}

#[test]
fn a_server_that_cannot_serve_one_more_says_so() {
    let server = Server::configured(Transport::Tcp, "max_sessions = 1");
    let session =
        connect::open_session(&address_of(&server), &session_hello(), Patience::default());
    let session = session.expect("the only session");
    let outcome = vector_add(server.address.clone());
    assert_fails(&outcome, "refused: all 1 sessions of this server are taken");
    drop(session);
    // Its worker is gone a moment before the daemon has counted the session out.
    eventually(LIVENESS_LIMIT, "the next program passes", || {
        vector_add(server.address.clone()).status.success()
    });
}

/// Lets the server have only so many descriptors more than it has.
fn allow_descriptors(server: &Server, more: u64) {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let entries = std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("descriptors");
    let open: BTreeSet<u64> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // A new one takes the lowest free number, and the limit is one of numbers.
    let free = (0..).filter(|number| !open.contains(number));
    let last = free.take(more as usize).last().expect("at least one");
    // What may be had at most is the same for all that the tests start.
    let limit = Rlimit {
        current: Some(last + 1),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let process = Pid::from_raw(server.id().cast_signed());
    prlimit(process, Resource::Nofile, limit).expect("limited");
}

#[test]
fn a_server_that_cannot_start_a_worker_says_why() {
    let server = Server::start(Transport::Tcp);
    for more in [1, 2] {
        allow_descriptors(&server, more);
        let outcome = vector_add(server.address.clone());
        // What is missing first: the lease's ledger, or what a worker needs.
        assert_fails(&outcome, "refused: the server cannot ");
        assert_fails(&outcome, "Too many open files");
    }
    allow_descriptors(&server, 1000);
    vector_add(server.address.clone()).assert_passed("a program once there is room again");
}

#[test]
fn a_worker_whose_device_fails_says_why() {
    let server = Server::start(Transport::Tcp);
    let segments = server.segments();
    let [segment] = &segments[..] else {
        panic!("{segments:?}");
    };
    // As a full or damaged file system would do it: what is there cannot be used.
    std::fs::remove_file(segment).expect("removed");
    std::fs::create_dir(segment).expect("something else");
    let outcome = vector_add(server.address.clone());
    std::fs::remove_dir(segment).expect("removed");
    assert_fails(&outcome, "refused: cuInit: ");
    vector_add(server.address.clone()).assert_passed("a program once it is whole again");
}
