//! Programs over an encrypted connection, with what an operator gives and a user takes in; and what somebody between sees of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use protocol::hello::{TICKET_MAGIC, TICKET_NAME_BYTES};
use tests::{Outcome, Server, Transport, Way, program, release, run};

/// What went through one connection: up, and down.
type Seen = Arc<Mutex<[Vec<u8>; 2]>>;

/// Somebody between, who passes everything on and keeps a copy.
struct Between {
    address: String,
    connections: Arc<Mutex<Vec<Seen>>>,
}

impl Between {
    fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("tcp://{}", listener.local_addr().expect("an address"));
        let connections: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (kept, server) = (Arc::clone(&connections), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = server.trim_start_matches("tcp://");
                let server = TcpStream::connect(server).expect("the server");
                let seen = Seen::default();
                kept.lock().expect("unpoisoned").push(Arc::clone(&seen));
                let clone = |stream: &TcpStream| stream.try_clone().expect("cloned");
                let (up, down) = (Arc::clone(&seen), seen);
                let (from, to) = (clone(&client), clone(&server));
                thread::spawn(move || pass(from, to, &up, 0));
                thread::spawn(move || pass(server, client, &down, 1));
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn seen(&self) -> Vec<[Vec<u8>; 2]> {
        let connections = self.connections.lock().expect("unpoisoned");
        let copy = |seen: &Seen| seen.lock().expect("unpoisoned").clone();
        connections.iter().map(copy).collect()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, seen: &Seen, direction: usize) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
        seen.lock().expect("unpoisoned")[direction].extend_from_slice(&bytes[..count]);
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Whether these bytes are records of TLS and nothing else, the last one maybe cut.
fn is_tls(mut bytes: &[u8]) -> bool {
    while let [typ, major, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(20..=23).contains(typ) || *major != 3 || length > (1 << 14) + 256 {
            return false;
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    true
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn tool(name: &str, words: &[&str], config: &Path) -> String {
    let mut command = Command::new(release(name));
    command.args(words).env("XDG_CONFIG_HOME", config);
    let output = command.output().expect("started");
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8(text).expect("text");
    assert!(output.status.success(), "{text}");
    text
}

/// A server with an authority, somebody between, and a user who has logged in.
struct Place {
    server: Server,
    between: Between,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state").display().to_string();
        tool(
            "gpu-server",
            &["init", "--state", &state, "--name", "localhost"],
            folder.path(),
        );
        let settings = format!("state = '{state}'\ntrust_loopback = false");
        let server = Server::configured(Transport::Tcp, &settings);
        let between = Between::start(&server.address);
        let bundle = folder.path().join("ann.gpurun");
        let file = bundle.display().to_string();
        let words = [
            "token", "create", "--state", &state, "--tenant", "ann", "--bundle", &file,
        ];
        let address = ["--server", &between.address];
        tool(
            "gpu-server",
            &[&words[..], &address].concat(),
            folder.path(),
        );
        // As it is after it was sent by mail.
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&bundle, open).expect("changed");
        let said = tool("gpurun", &["login", &file], folder.path());
        assert!(said.contains("now only you can"), "{said}");
        for path in [bundle, folder.path().join("gpurun/credentials.toml")] {
            let mode = std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        Self {
            server,
            between,
            folder,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(release("gpurun"));
        command
            .arg(program)
            .env("XDG_CONFIG_HOME", self.folder.path());
        for variable in [
            "GPURUN_SERVER",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "GPURUN_TOKEN_FILE",
        ] {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, name: &str, words: &[&str]) -> Outcome {
        let mut command = self.command(&program("static13", name));
        command.args(words);
        run(command)
    }
}

#[test]
fn programs_run_and_nobody_between_reads_along() {
    let place = Place::new();
    for (name, words) in [
        ("vector_add", &[][..]),
        ("stream_overlap", &[]),
        ("long_run", &["1", "64"]),
    ] {
        place.run(name, words).assert_passed(name);
    }
    let listed = tool("gpurun", &["list"], place.folder.path());
    assert!(listed.contains(&place.between.address), "{listed}");

    let seen = place.between.seen();
    let opening = TICKET_MAGIC.len() + TICKET_NAME_BYTES;
    let bundle = std::fs::read(place.folder.path().join("ann.gpurun")).expect("a bundle");
    let begin = bundle.windows(4).position(|part| part == b"gt1.");
    let token = &bundle[begin.expect("a token")..][..16];
    let mut sessions = 0;
    for [up, down] in &seen {
        let encrypted = match up.starts_with(&TICKET_MAGIC) {
            true => &up[opening..],
            false => &up[..],
        };
        sessions += usize::from(up.starts_with(&TICKET_MAGIC));
        assert!(is_tls(encrypted), "{:?}", &up[..up.len().min(64)]);
        assert!(is_tls(down), "{:?}", &down[..down.len().min(64)]);
        for bytes in [encrypted, down] {
            // Modules, names of functions, the token: long enough to be nowhere by chance.
            for part in [&b"\x7fELF\x02\x01\x01"[..], b"vector_add", token] {
                assert!(!contains(bytes, part), "in the clear: {part:?}");
            }
        }
    }
    assert_eq!(sessions, 3, "one for each program");
    let all: usize = seen.iter().map(|[up, down]| up.len() + down.len()).sum();
    assert!(all > 1 << 20, "only {all} bytes: the data went another way");
}

/// Who suspends a program shows the same token, and is believed by the same certificate.
#[test]
fn a_program_is_suspended_by_one_with_the_same_token() {
    let place = Place::new();
    let outcome = run(place.command(&program("driver", "surface_checkpoint")));
    outcome.assert_passed("surface_checkpoint");
    for [up, down] in &place.between.seen() {
        let is_session = up.starts_with(&TICKET_MAGIC);
        assert!(is_tls(down) && (is_session || is_tls(up)));
    }
}

/// What the first test looks for would be found: without encryption the same bytes are there.
#[test]
fn without_encryption_it_would_be_seen() {
    let server = Server::start(Transport::Tcp);
    let between = Between::start(&server.address);
    let way = Way::Gpurun(between.address.clone());
    run(way.command(&program("static13", "vector_add"))).assert_passed("vector_add");
    let seen = between.seen();
    assert!(seen.iter().any(|[up, _]| contains(up, b"vector_add")));
    assert!(seen.iter().all(|[up, _]| !is_tls(up)));
}

#[test]
fn a_program_without_the_right_token_is_told_why() {
    let place = Place::new();
    let vector_add = program("static13", "vector_add");
    let mut command = place.command(&vector_add);
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.env("GPURUN_SERVER", &place.server.address);
    let outcome = run(command);
    assert_eq!(outcome.status.code(), Some(121), "{outcome:?}");
    assert!(outcome.stderr.contains("gpurun login"), "{outcome:?}");

    let token = place.folder.path().join("token");
    std::fs::write(&token, "gt1.AAAA.AAAA").expect("written");
    let mut command = place.command(&vector_add);
    command.env("GPURUN_TOKEN_FILE", &token);
    let outcome = run(command);
    assert_eq!(outcome.status.code(), Some(121), "{outcome:?}");
    assert!(
        outcome.stderr.contains("the token is damaged"),
        "{outcome:?}"
    );

    // The library alone, without the launcher: the same words in the program's log.
    let mut command = Way::Preload(place.server.address.clone()).command(&vector_add);
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    let outcome = run(command);
    assert!(!outcome.status.success());
    assert!(outcome.stderr.contains("only encrypted"), "{outcome:?}");

    // A bundle may also be named, as where it is mounted into a container.
    let bundle = place.folder.path().join("ann.gpurun");
    let mut command = Way::Preload(place.between.address.clone()).command(&vector_add);
    command.env("GPURUN_TOKEN_FILE", bundle);
    run(command).assert_passed("vector_add");
}
