//! A server in a flood: connections by the thousand that say nothing, or little by little, or anything, or begin what they do not end.
//!
//! In each, a client that means well gets its session in a bounded time, again and again while the flood lasts, and the daemon's memory stays
//! bounded. The flood is of this machine, so it is denser than any that comes by a network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use protocol::address::Address;
use protocol::connect;
use protocol::hello::{self, Hello, Intent, MAGIC};
use protocol::limits::MAX_HELLO_BYTES;
use protocol::transport::Patience;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SERVER: &str = env!("CARGO_BIN_EXE_gpu-server");

/// How long an honest client may wait for its session: it takes a fraction of a second on a machine that has time.
const SESSION_LIMIT: Duration = Duration::from_secs(15);

/// How many sessions are begun in a flood.
const SESSIONS: usize = 4;

/// How much more memory the daemon may have in use in a flood.
const MEMORY_LIMIT: u64 = 64 << 20;

/// Threads that flood.
const FLOODERS: usize = 4;

/// Connections that each of them makes at least, and then keeps as the newest.
const CONNECTIONS: usize = 750;

/// The software GPU.
fn driver() -> PathBuf {
    if let Some(path) = std::env::var_os("GPURUN_TEST_DRIVER") {
        return path.into();
    }
    let beside = Path::new(SERVER).with_file_name("libsoft_gpu.so");
    if beside.exists() {
        return beside;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    workspace.join("target/release/libsoft_gpu.so")
}

struct Server {
    child: Child,
    address: Address,
    port: u16,
    state: tempfile::TempDir,
}

impl Server {
    /// A server with a certificate, whose log goes to a file.
    fn start() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let mut init = Command::new(SERVER);
        init.args(["init", "--name", "localhost", "--state"])
            .arg(state.path());
        assert!(init.output().expect("gpu-server").status.success());
        let settings = format!("state = '{}'\n", state.path().display());
        std::fs::write(state.path().join("server.toml"), settings).expect("written");
        let log = std::fs::File::create(state.path().join("log")).expect("a log");
        let mut child = Command::new(SERVER)
            .args(["serve", "--listen", "tcp://127.0.0.1:0", "--device", "soft"])
            .arg("--driver")
            .arg(driver())
            .arg("--config")
            .arg(state.path().join("server.toml"))
            .env_remove("GPURUN_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("gpu-server");
        let mut line = String::new();
        let output = child.stdout.take().expect("stdout");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ");
        let address: Address = address.expect(&line).parse().expect("an address");
        let Address::Tcp { port, .. } = address else {
            panic!("no TCP")
        };
        Self {
            child,
            address,
            port,
            state,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("log")).expect("a log")
    }

    /// The daemon's memory in use.
    fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        kilobytes
            .map(|kilobytes: u64| kilobytes * 1024)
            .expect("VmRSS")
    }

    /// Begins a session, and ends it.
    fn serve_honest_client(&self) -> Duration {
        let begin = Instant::now();
        let hello = Hello {
            shape_hash: driver_api::wire::shape_hash().to_vec(),
            ..Hello::new(Intent::Session)
        };
        loop {
            match connect::open_session(&self.address, &hello, Patience::default()) {
                Ok(_) => return begin.elapsed(),
                // A client tries again; but not for ever.
                Err(error) => {
                    let spent = begin.elapsed();
                    assert!(spent < SESSION_LIMIT, "{spent:?}: {error}\n{}", self.log());
                }
            }
        }
    }

    /// Lets the flood come, and an honest client in the middle of it.
    fn endure(mut self, name: &str, flood: impl Fn(&Flood) + Sync) {
        allow_many_descriptors();
        self.serve_honest_client();
        let before = self.resident_bytes();
        let flood_of = Flood {
            port: self.port,
            is_over: AtomicBool::new(false),
            made: AtomicUsize::new(0),
        };
        let worst = thread::scope(|scope| {
            for _ in 0..FLOODERS {
                scope.spawn(|| flood(&flood_of));
            }
            // However this ends, the flood ends with it.
            let _over = Over(&flood_of.is_over);
            let mut worst = Duration::ZERO;
            for served in 1..=SESSIONS {
                // Each time when the flood is at its height: all of it, or as much more of it.
                while flood_of.made.load(Ordering::Relaxed)
                    < served * FLOODERS * CONNECTIONS / SESSIONS
                {
                    thread::sleep(Duration::from_millis(5));
                }
                worst = worst.max(self.serve_honest_client());
                let grown = self.resident_bytes().saturating_sub(before);
                assert!(grown < MEMORY_LIMIT, "{grown} bytes more");
            }
            worst
        });
        assert!(worst < SESSION_LIMIT, "{worst:?}");
        assert!(
            self.child.try_wait().expect("a status").is_none(),
            "the daemon lives"
        );
        // Afterwards it is as before.
        self.serve_honest_client();
        let made = flood_of.made.load(Ordering::Relaxed);
        let grown = self.resident_bytes().saturating_sub(before);
        eprintln!(
            "{name}: {made} connections, the slowest session began in {worst:?}, {} KiB more, {} KiB of log",
            grown >> 10,
            self.log().len() >> 10
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn allow_many_descriptors() {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).expect("descriptors");
}

/// What comes over the server.
struct Flood {
    port: u16,
    is_over: AtomicBool,
    made: AtomicUsize,
}

impl Flood {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// One more connection; none where the server's queue is full at the moment.
    fn connect(&self) -> Option<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Some(stream)
    }

    /// Begins connections in this way and holds the newest, until it is over.
    fn hold(&self, mut begin: impl FnMut(&mut TcpStream)) {
        let mut held = std::collections::VecDeque::new();
        while !self.is_over() {
            if let Some(mut stream) = self.connect() {
                begin(&mut stream);
                held.push_back(stream);
            }
            if held.len() > CONNECTIONS {
                held.pop_front();
            }
        }
    }
}

/// Sends what a server may refuse to take.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    // It may have dropped this connection already.
    let _ = stream.write_all(bytes);
}

#[test]
fn connections_that_say_nothing() {
    Server::start().endure("silence", |flood| flood.hold(|_| ()));
}

#[test]
fn connections_that_begin_and_go_away() {
    Server::start().endure("gone at once", |flood| {
        while !flood.is_over() {
            drop(flood.connect());
        }
    });
}

#[test]
fn hellos_that_come_byte_by_byte() {
    let hello = hello::encode(&Hello::new(Intent::Snapshot)).expect("a hello");
    Server::start().endure("slow hellos", |flood| {
        let mut held: Vec<(TcpStream, usize)> = Vec::new();
        while !flood.is_over() {
            let round = Instant::now();
            while held.len() < CONNECTIONS && !flood.is_over() {
                held.extend(flood.connect().map(|stream| (stream, 0)));
            }
            held.retain_mut(|(stream, sent)| {
                let next = hello.get(*sent..=*sent);
                *sent += 1;
                next.is_some_and(|byte| stream.write_all(byte).is_ok())
            });
            // A byte a second.
            while !flood.is_over() && round.elapsed() < Duration::from_secs(1) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
}

#[test]
fn handshakes_that_stall() {
    // The header of a handshake record, and of a ClientHello that would be 16 KiB long.
    let begun = b"\x16\x03\x01\x40\x00\x01\x00\x3F\xFC\x03\x03";
    Server::start().endure("stalled TLS", |flood| {
        flood.hold(|stream| send(stream, begun));
    });
}

#[test]
fn connections_that_send_anything() {
    // A fixed seed: xorshift.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(64 << 10)
    .collect();
    let turn = AtomicUsize::new(0);
    Server::start().endure("garbage", |flood| {
        flood.hold(|stream| {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let at = turn * 97 % (garbage.len() - 1024);
            // A third looks like a hello at first, a third like TLS.
            let begin: &[u8] = [&MAGIC[..], b"\x16\x03\x01\x02\x00", b""][turn % 3];
            send(stream, &[begin, &garbage[at..at + 1024]].concat());
        });
    });
}

#[test]
fn hellos_that_would_be_huge() {
    let length = u32::try_from(MAX_HELLO_BYTES).expect("a length");
    let most = [&MAGIC[..], &length.to_le_bytes()].concat();
    let too_much = [&MAGIC[..], &[0xFF; 4]].concat();
    let turn = AtomicUsize::new(0);
    Server::start().endure("huge hellos", |flood| {
        flood.hold(|stream| {
            if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                send(stream, &too_much);
            } else {
                // All but the last byte of the largest hello there may be.
                send(stream, &most);
                send(stream, &vec![0; MAX_HELLO_BYTES - 1]);
            }
        });
    });
}

#[test]
fn answers_that_nobody_takes() {
    let hello = hello::encode(&Hello::new(Intent::Snapshot)).expect("a hello");
    Server::start().endure("untaken answers", |flood| {
        flood.hold(|stream| send(stream, &hello));
    });
}

#[test]
fn answers_that_are_taken_and_not_ended() {
    let hello = hello::encode(&Hello::new(Intent::Snapshot)).expect("a hello");
    Server::start().endure("unended answers", |flood| {
        flood.hold(|stream| {
            send(stream, &hello);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            // The answer, or the end of the connection: either is an answer.
            let _ = stream.read(&mut [0; 64]);
        });
    });
}
