//! The door of a server that others reach: who is let in, who is not, and in which words.
//!
//! Loopback stands for another machine here: `trust_loopback = false`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use protocol::address::Address;
use protocol::connect::{self, ConnectError, secure};
use protocol::credentials::{Credential, TokenFile, parse_token_file};
use protocol::hello::{
    self, Answer, Hello, HelloReply, Intent, RefusalCode, TICKET_MAGIC, TICKET_NAME_BYTES, Ticket,
};
use protocol::transport::tls::{self, Trust};
use rustix::process::{Pid, Signal, kill_process};

const SERVER: &str = env!("CARGO_BIN_EXE_gpu-server");

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The driver: the software GPU where it is built, else none of these tests can run a worker.
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

/// A server with an authority of its own.
struct Server {
    child: Child,
    state: tempfile::TempDir,
    address: Address,
}

fn gpu_server(words: &[&str], state: &Path) -> Output {
    let mut command = Command::new(SERVER);
    command.args(words).arg("--state").arg(state);
    command.output().expect("gpu-server")
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).expect("text")
}

impl Server {
    fn start(names: &[&str], settings: &str) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let mut words = vec!["init"];
        for name in names {
            words.extend(["--name", name]);
        }
        let output = gpu_server(&words, state.path());
        assert!(output.status.success(), "{}", text(&output));
        Self::on(state, settings)
    }

    fn on(state: tempfile::TempDir, settings: &str) -> Self {
        let config = state.path().join("server.toml");
        let settings = format!("state = '{}'\n{settings}", state.path().display());
        std::fs::write(&config, settings).expect("written");
        let mut child = Command::new(SERVER)
            .args(["serve", "--listen", "tcp://127.0.0.1:0", "--device", "soft"])
            .arg("--driver")
            .arg(driver())
            .arg("--config")
            .arg(config)
            .env_remove("GPURUN_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpu-server");
        let mut line = String::new();
        let output = child.stdout.take().expect("stdout");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ");
        let Some(address) = address else {
            let mut errors = String::new();
            let stderr = child.stderr.take().expect("stderr");
            BufReader::new(stderr)
                .read_to_string(&mut errors)
                .expect("text");
            panic!("{errors}");
        };
        let address = address.parse().expect("an address");
        Self {
            child,
            state,
            address,
        }
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        kill_process(process, signal).expect("signalled");
    }

    /// What a new token of this tenant is good for.
    fn credential(&self, words: &[&str]) -> Credential {
        let bundle = self.state.path().join("bundle");
        let mut all = vec!["token", "create", "--tenant", "team"];
        all.extend(words);
        let (file, address) = (bundle.display().to_string(), self.address.to_string());
        all.extend(["--bundle", &file, "--server", &address]);
        let output = gpu_server(&all, self.state.path());
        assert!(output.status.success(), "{}", text(&output));
        let text = std::fs::read_to_string(bundle).expect("a bundle");
        match parse_token_file(&text).expect("a bundle") {
            TokenFile::Bundle(entries) => {
                assert_eq!(entries[0].address, self.address);
                entries[0].credential.clone()
            }
            TokenFile::Token(_) => panic!("no bundle"),
        }
    }

    fn tokens(&self) -> Vec<serde_json::Value> {
        let output = gpu_server(&["token", "list", "--json"], self.state.path());
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn snapshot(&self, credential: &Credential) -> Result<usize, ConnectError> {
        secure::fetch_snapshot(&self.address, credential).map(|accepted| accepted.devices.len())
    }

    fn refusal(&self, credential: &Credential) -> String {
        self.snapshot(credential).expect_err("refused").to_string()
    }

    fn socket(&self) -> OwnedFd {
        connect::connect(&self.address).expect("connected")
    }

    /// A ticket for a session, and no more.
    fn ticket(&self, credential: &Credential) -> Ticket {
        let authority = credential.authority.clone().expect("an authority");
        let trust = Trust::Authority(authority);
        let control = tls::connect(self.socket(), &trust, "127.0.0.1", soon()).expect("trusted");
        let hello = Hello {
            token: credential.token.clone().expect("a token"),
            ..Hello::new(Intent::Session)
        };
        hello::write(&mut control.stream(soon()), &hello).expect("written");
        let reply: HelloReply = hello::read(&mut control.stream(soon())).expect("an answer");
        match reply.answer {
            Some(Answer::Ticket(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Shows a ticket; the handshake with whoever takes it.
    fn show(&self, ticket: &Ticket) -> Result<tls::SecureSocket, tls::TlsError> {
        let socket = self.socket();
        let mut stream = TcpStream::from(socket);
        let (name, _) = ticket.secret.split_at(TICKET_NAME_BYTES);
        stream.write_all(&TICKET_MAGIC).expect("written");
        stream.write_all(name).expect("written");
        let fingerprint = ticket.fingerprint.as_slice().try_into().expect("32 bytes");
        tls::connect(stream.into(), &Trust::Fingerprint(fingerprint), "x", soon())
    }

    /// What the log has said when it has said this.
    fn log_until(&mut self, expected: &str) -> String {
        let mut log = String::new();
        let errors = self.child.stderr.as_mut().expect("stderr");
        let mut byte = [0];
        while !log.ends_with('\n') || !log.contains(expected) {
            match errors.read(&mut byte) {
                Ok(1) => log.push(byte[0].into()),
                _ => panic!("the log ended without '{expected}':\n{log}"),
            }
        }
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FAR: &str = "trust_loopback = false";

fn without_token(credential: &Credential) -> Credential {
    Credential {
        token: None,
        ..credential.clone()
    }
}

#[test]
fn a_token_over_tls_is_let_in_and_everything_else_is_told_why() {
    let mut server = Server::start(&["localhost"], FAR);
    let good = server.credential(&["--devices", "2"]);
    assert_eq!(server.snapshot(&good).expect("let in"), 1);

    let none = Credential::default();
    let refused = server.refusal(&none);
    assert!(
        refused.contains("only encrypted") && refused.contains("gpurun login"),
        "{refused}"
    );
    let refused = server.refusal(&without_token(&good));
    assert!(refused.contains("wants a token"), "{refused}");

    let other = Server::start(&["localhost"], FAR);
    let strange = other.credential(&[]);
    let forged = Credential {
        token: strange.token.clone(),
        ..good.clone()
    };
    let refused = server.refusal(&forged);
    assert!(
        refused.contains("was not signed by this server's authority"),
        "{refused}"
    );
    let refused = server.refusal(&strange);
    assert!(refused.contains("of another authority"), "{refused}");

    let short = server.credential(&["--expires", "1ms"]);
    let refused = server.refusal(&short);
    assert!(refused.contains("of tenant team has expired"), "{refused}");

    // By another name than those of the certificate.
    let Address::Tcp { port, .. } = server.address else {
        panic!("no TCP")
    };
    let by_name = Address::Tcp {
        host: "127.0.0.2".to_owned(),
        port,
    };
    let socket = server.socket();
    let hello = Hello::new(Intent::Snapshot);
    let refused = secure::ask_until(&by_name, &socket, &hello, &good, soon());
    let refused = refused.expect_err("refused").to_string();
    assert!(
        refused.contains("not for the name '127.0.0.2'"),
        "{refused}"
    );
    server.log_until("has expired");
}

#[test]
fn a_revoked_token_ends_its_session_at_once() {
    let mut server = Server::start(&["localhost"], FAR);
    let credential = server.credential(&[]);
    let hello = Hello {
        shape_hash: driver_api::wire::shape_hash().to_vec(),
        ..Hello::new(Intent::Session)
    };
    let (accepted, line) = secure::greet(
        &server.address,
        server.socket(),
        &hello,
        &credential,
        (&|socket| socket, &mut |_| {}),
    )
    .expect("a session");
    assert!(line.is_encrypted() && accepted.session > 0);
    let tokens = server.tokens();
    assert_eq!((tokens.len(), &tokens[0]["revoked"]), (1, &false.into()));
    let id = tokens[0]["id"].as_str().expect("an id");
    let output = gpu_server(&["token", "revoke", id], server.state.path());
    assert!(output.status.success(), "{}", text(&output));
    let mut connection = line
        .into_connection(Default::default())
        .expect("a connection");
    // A goodbye, and the end.
    let receiver = &mut connection.receiver;
    while let Ok(is_ready) = receiver.wait(Some(Duration::from_secs(30))) {
        assert!(is_ready, "the session goes on");
        match receiver.poll_header() {
            Ok(_) => receiver.skip_payload().expect("skipped"),
            Err(_) => break,
        }
    }
    let refused = server.refusal(&credential);
    assert!(
        refused.contains(&format!("the token {id} was revoked")),
        "{refused}"
    );
    server.log_until("the token was revoked");
    assert_eq!(server.tokens()[0]["revoked"], true);
    let output = gpu_server(&["token", "revoke", "t-nobody"], server.state.path());
    assert!(text(&output).contains("no token t-nobody was made here"));
}

#[test]
fn a_ticket_is_good_once_and_only_for_who_has_all_of_it() {
    let mut server = Server::start(&["localhost"], FAR);
    let credential = server.credential(&[]);
    // Who saw the name on its way comes first: the handshake works, but nothing is served without the proof.
    let stolen = server.ticket(&credential);
    let thief = server.show(&stolen).expect("a worker");
    thief.stream(soon()).write_all(&[0; 16]).expect("written");
    let reply = hello::read::<HelloReply>(&mut thief.stream(soon()));
    assert!(reply.is_err(), "{reply:?}");
    server.log_until("a ticket's name, but not the ticket");
    // Nobody gets anything by it a second time, nor by a name that was made up.
    assert!(server.show(&stolen).is_err(), "a replay");
    let made_up = Ticket {
        secret: vec![7; 32],
        fingerprint: stolen.fingerprint,
    };
    assert!(server.show(&made_up).is_err());
    server.log_until("a ticket that is unknown, used or too old");
    // One session's ticket opens that session, whose key another one's client does not take for its own.
    let (one, other) = (server.ticket(&credential), server.ticket(&credential));
    let mixed = Ticket {
        secret: one.secret,
        fingerprint: other.fingerprint,
    };
    let error = server.show(&mixed).expect_err("another session's");
    assert!(matches!(error, tls::TlsError::Fingerprint), "{error}");
}

#[test]
fn plain_and_encrypted_meet_with_clear_words() {
    // A client that has an authority, and a server without a certificate.
    let state = tempfile::tempdir().expect("a directory");
    let mut plain = Server::on(state, "");
    let other = Server::start(&["localhost"], FAR);
    let refused = plain.refusal(&other.credential(&[]));
    assert!(refused.contains("offers no encryption"), "{refused}");
    plain.log_until("there is no certificate");
    // A token for another server does no harm on this machine; to another one it would not be sent in the clear.
    let token_only = Credential {
        token: other.credential(&[]).token,
        authority: None,
    };
    assert_eq!(plain.snapshot(&token_only).expect("let in"), 1);
    // Something else than TLS where TLS was begun.
    let mut encrypted = other;
    let mut stream = TcpStream::from(encrypted.socket());
    stream
        .write_all(b"\x16\x03\x01\x00\x05hello")
        .expect("written");
    // Its end, whether by an alert before it or by a reset.
    let _ = stream.read_to_end(&mut Vec::new());
    encrypted.log_until("refused: TLS handshake");
}

#[test]
fn the_settings_decide_about_this_machine() {
    let server = Server::start(&["localhost"], "require_token = true");
    let credential = server.credential(&[]);
    let none = Credential::default();
    assert!(server.refusal(&none).contains("wants a token"));
    let in_the_clear = Credential {
        token: credential.token.clone(),
        authority: None,
    };
    assert_eq!(server.snapshot(&in_the_clear).expect("let in"), 1);
    let server = Server::start(&["localhost"], "require_encryption = true");
    assert!(server.refusal(&none).contains("only encrypted"));
    let credential = server.credential(&[]);
    assert_eq!(server.snapshot(&credential).expect("let in"), 1);
    // This machine is believed, so the token may be left away.
    assert_eq!(
        server
            .snapshot(&without_token(&credential))
            .expect("let in"),
        1
    );
}

#[test]
fn a_new_certificate_is_taken_on_a_hang_up() {
    let mut server = Server::start(&["localhost"], FAR);
    let credential = server.credential(&[]);
    let before = server.ticket(&credential);
    let output = gpu_server(
        &["init", "--renew", "--name", "localhost"],
        server.state.path(),
    );
    assert!(output.status.success(), "{}", text(&output));
    server.signal(Signal::HUP);
    server.log_until("took the certificate anew");
    assert_eq!(server.snapshot(&credential).expect("let in"), 1);
    // A ticket of before is as good as it was.
    assert!(server.show(&before).is_ok());
    std::fs::write(server.state.path().join("authority/server.pem"), "x").expect("written");
    server.signal(Signal::HUP);
    server.log_until("keeping the certificate as it was");
    assert_eq!(server.snapshot(&credential).expect("let in"), 1);
    let output = gpu_server(&["init"], server.state.path());
    assert!(text(&output).contains("will not be overwritten"));
}

#[test]
fn handshakes_that_never_end_stop_nobody() {
    let server = Server::start(&["localhost"], FAR);
    let credential = server.credential(&[]);
    let half: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::from(server.socket());
            // Some begin a record that never ends, some say nothing.
            if number % 2 == 0 {
                stream
                    .write_all(b"\x16\x03\x01\x40\x00\x01")
                    .expect("written");
            }
            stream
        })
        .collect();
    assert_eq!(server.snapshot(&credential).expect("let in"), 1);
    drop(half);
}

#[test]
fn with_an_authority_it_may_listen_anywhere() {
    let state = tempfile::tempdir().expect("a directory");
    let serve = |state: &Path| {
        let config = state.join("server.toml");
        std::fs::write(&config, format!("state = '{}'", state.display())).expect("written");
        let mut command = Command::new(SERVER);
        command.args([
            "serve",
            "--listen",
            "tcp://0.0.0.0:0",
            "--device",
            "soft",
            "--driver",
        ]);
        command.arg(driver()).arg("--config").arg(config);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("gpu-server")
    };
    let output = serve(state.path()).wait_with_output().expect("its end");
    let refused = text(&output);
    assert!(
        refused.contains("gpu-server init") && refused.contains("--insecure"),
        "{refused}"
    );
    let output = gpu_server(&["init", "--name", "localhost"], state.path());
    assert!(text(&output).contains("next:"), "{}", text(&output));
    let mut child = serve(state.path());
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout"))
        .read_line(&mut line)
        .expect("a line");
    assert!(line.starts_with("listening on tcp://0.0.0.0:"), "{line}");
    child.kill().expect("ended");
    child.wait().expect("its end");
}

#[test]
fn a_token_never_leaves_this_machine_in_the_clear() {
    // An address of this machine that is not loopback, if there is one: nothing is sent to it.
    let Some(address) = own_address() else { return };
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server: Address = format!("tcp://{address}:{port}")
        .parse()
        .expect("an address");
    let credential = Credential {
        token: Some("gt1.secret".to_owned()),
        authority: None,
    };
    let error = secure::fetch_snapshot(&server, &credential).expect_err("not sent");
    assert!(matches!(error, ConnectError::Clear(_)), "{error}");
    let (mut stream, _) = listener.accept().expect("connected");
    let mut sent = Vec::new();
    stream.read_to_end(&mut sent).expect("its end");
    assert!(sent.is_empty());
}

fn own_address() -> Option<std::net::IpAddr> {
    // No packet is sent: the route tells which address would be ours.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn a_refusal_has_a_code_for_programs() {
    let server = Server::start(&["localhost"], FAR);
    let code = |credential: &Credential| match server.snapshot(credential) {
        Err(ConnectError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&Credential::default()), RefusalCode::Encryption);
    let credential = server.credential(&[]);
    assert_eq!(
        code(&without_token(&credential)),
        RefusalCode::Unauthenticated
    );
}
