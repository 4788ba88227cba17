//! Who is believed, what is refused and in which words; keys that change; records that somebody touched.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

/// An authority of the tests' own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn trust(&self) -> Trust {
        Trust::Authority(self.0.pem())
    }

    fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        Identity {
            chain: vec![certificate.der().to_vec()],
            key: key.serialize_der(),
        }
    }
}

fn sockets() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (client.into(), server.into())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Both ends' findings.
type Ends = (
    Result<SecureSocket, TlsError>,
    Result<SecureSocket, TlsError>,
);

fn meet(trust: &Trust, host: &str, identity: Identity) -> Ends {
    let (client, server) = sockets();
    let serving = thread::spawn(move || accept(server, &identity, soon()));
    let connected = connect(client, trust, host, soon());
    (connected, serving.join().expect("the server"))
}

fn words((client, server): Ends) -> (String, String) {
    let client = client.expect_err("refused").to_string();
    // The server may be content before the client is not: then it hears it later.
    let server = server
        .err()
        .map_or_else(String::new, |error| error.to_string());
    (client, server)
}

#[test]
fn who_shows_the_right_certificate_is_believed() {
    let authority = Authority::new();
    let identity = authority.identity("localhost", |_| {});
    let pinned = Trust::Fingerprint(fingerprint(&identity.chain[0]).expect("a fingerprint"));
    let same = || Identity {
        chain: identity.chain.clone(),
        key: identity.key.clone(),
    };
    for trust in [authority.trust(), pinned] {
        let (client, server) = meet(&trust, "localhost", same());
        let (client, server) = (client.expect("a client"), server.expect("a server"));
        client.stream(soon()).write_all(b"hello").expect("written");
        let mut bytes = [0; 5];
        server.stream(soon()).read_exact(&mut bytes).expect("read");
        assert_eq!(&bytes, b"hello");
    }
}

#[test]
fn who_shows_another_is_not() {
    let authority = Authority::new();
    let trust = authority.trust();
    let (client, server) = words(meet(
        &trust,
        "localhost",
        Authority::new().identity("localhost", |_| {}),
    ));
    assert!(client.contains("another authority"), "{client}");
    assert!(!server.is_empty(), "the server is told as well");
    let named = authority.identity("elsewhere.example", |_| {});
    let (client, _) = words(meet(&trust, "localhost", named));
    assert!(client.contains("not for the name 'localhost'"), "{client}");
    let expired = authority.identity("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let (client, _) = words(meet(&trust, "localhost", expired));
    assert!(client.contains("has expired"), "{client}");
    let early = authority.identity("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    });
    let (client, _) = words(meet(&trust, "localhost", early));
    assert!(client.contains("not valid yet"), "{client}");
    let pinned = Trust::Fingerprint([7; 32]);
    let (client, _) = words(meet(
        &pinned,
        "localhost",
        authority.identity("localhost", |_| {}),
    ));
    assert!(
        client.contains("than the one that was announced"),
        "{client}"
    );
}

#[test]
fn a_peer_that_speaks_something_else_is_told_apart() {
    let trust = Authority::new().trust();
    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "does not speak TLS"),
        (b"GPURUN\x00\x01", "does not speak TLS"),
        // A fatal alert: handshake failure.
        (b"\x15\x03\x03\x00\x02\x02\x28", "offers no encryption"),
        (b"", "closed during the TLS handshake"),
    ] {
        let (client, server) = sockets();
        let answering = thread::spawn(move || {
            let mut server = TcpStream::from(server);
            let mut hello = [0; 5];
            server.read_exact(&mut hello).expect("the begin of a hello");
            let rest = u16::from_be_bytes([hello[3], hello[4]]).into();
            server.read_exact(&mut vec![0; rest]).expect("the rest");
            server.write_all(answer).expect("written");
        });
        let error = connect(client, &trust, "localhost", soon()).expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
        answering.join().expect("the other end");
    }
    let (client, server) = sockets();
    rustix::io::write(&client, b"GPURUN\x00\x01").expect("written");
    let identity = Authority::new().identity("localhost", |_| {});
    let error = accept(server, &identity, soon()).expect_err("refused");
    assert!(matches!(error, TlsError::NotTls), "{error}");
}

#[test]
fn a_handshake_ends_in_time_and_in_bounds() {
    let identity = Authority::new().identity("localhost", |_| {});
    let (_client, server) = sockets();
    let error = accept(
        server,
        &identity,
        Instant::now() + Duration::from_millis(50),
    );
    let error = error.expect_err("nobody spoke").to_string();
    assert!(error.contains("no answer to the TLS handshake"), "{error}");
    // A message that says it is long, in records that never end.
    let (client, server) = sockets();
    let flooding = thread::spawn(move || {
        let mut client = TcpStream::from(client);
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.resize(5 + 0x4000, 0);
        record[5..9].copy_from_slice(&[1, 0, 0xFF, 0xFF]);
        while client.write_all(&record).is_ok() {}
    });
    assert!(accept(server, &identity, soon()).is_err());
    flooding.join().expect("the other end");
}

/// The halves of both ends after a handshake: the client's, the server's.
fn halves() -> (Halves, Halves) {
    let (client, server) = sockets();
    let authority = Authority::new();
    let identity = authority.identity("localhost", |_| {});
    let serving = thread::spawn(move || {
        let config = server_config(&identity, &[GPURUN_PROTOCOL]).expect("a config");
        let mut stream = HandshakeStream::new(server.as_fd(), soon());
        handshake::of_server(&mut stream, config).expect("a server")
    });
    let config = client_config(&authority.trust(), GPURUN_PROTOCOL).expect("a config");
    let mut stream = HandshakeStream::new(client.as_fd(), soon());
    let name = server_name("localhost").expect("a name");
    let ours = handshake::of_client(&mut stream, config, name).expect("a client");
    (ours, serving.join().expect("the server"))
}

fn open(opener: &mut Opener, mut record: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let (header, sealed) = record.split_at_mut(records::HEADER_BYTES);
    match opener.open(header[0], sealed)? {
        Opened::Data(bytes) => Ok(Some(sealed[..bytes].to_vec())),
        Opened::Nothing => Ok(None),
        Opened::End => panic!("the end"),
    }
}

#[test]
fn keys_change_and_nothing_is_lost() {
    let ((sealer, _), (_, mut opener)) = halves();
    let mut sealer: Sealer = sealer.with_limit(3);
    let mut updates = 0;
    for number in 0..20_u8 {
        let mut records = Vec::new();
        let data = vec![number; 40_000];
        sealer
            .seal(&[&data[..7], &data[7..]], &mut records)
            .expect("sealed");
        let mut got = Vec::new();
        for record in records {
            assert!(record.len() <= records::HEADER_BYTES + records::MAX_SEALED_BYTES);
            match open(&mut opener, record).expect("opened") {
                Some(bytes) => got.extend(bytes),
                None => updates += 1,
            }
        }
        assert!(got == data, "number {number}");
    }
    assert!(updates >= 15, "{updates} updates");
}

#[test]
fn a_record_that_was_touched_repeated_or_left_out_is_refused() {
    let sealed = |count: usize| {
        let ((mut sealer, _), (_, opener)) = halves();
        let mut records = Vec::new();
        for _ in 0..count {
            sealer.seal(&[b"data"], &mut records).expect("sealed");
        }
        (records, opener)
    };
    for place in [records::HEADER_BYTES, 12, 20] {
        let (mut records, mut opener) = sealed(1);
        records[0][place] ^= 1;
        assert!(open(&mut opener, records.remove(0)).is_err(), "{place}");
    }
    let (records, mut opener) = sealed(1);
    open(&mut opener, records[0].clone()).expect("once");
    assert!(open(&mut opener, records[0].clone()).is_err(), "repeated");
    let (mut records, mut opener) = sealed(2);
    assert!(
        open(&mut opener, records.remove(1)).is_err(),
        "one left out"
    );
    let (_, mut opener) = sealed(0);
    for typ in 0..=255_u8 {
        assert!(opener.open(typ, &mut [0; 40]).is_err(), "in the clear");
        assert!(opener.open(typ, &mut []).is_err(), "empty");
    }
}
