//! Connections and calls, with a pool in this process.

use std::io::Write;
use std::net::TcpListener;

use protocol::hello::{self, Accepted, Hello, HelloReply, ServerInfo};
use protocol::transport::tls::{self, Identity};
use tokio_rustls::TlsAcceptor;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::fake::{Encrypted, Fake, server};
use super::*;

#[tokio::test]
async fn calls_and_what_a_refusal_is() {
    let (fake, server) = Fake::start(&[]).await;
    let pool = Pool::open(&server).await.expect("there");
    assert_eq!(*pool.protection(), Protection::Local);
    assert_eq!(pool.list().await.expect("a list").queued, 7);
    pool.release("l").await.expect("released");
    let released = fake.until(|seen| seen.released.first().cloned()).await;
    assert_eq!(released, "l");
    let unknown = pool.renew("x", Duration::from_millis(1)).await;
    let unknown = unknown.expect_err("unknown");
    assert!(unknown.is_not_found() && unknown.is_refusal());
    assert_eq!(unknown.status(), REFUSED);
    assert!(
        unknown
            .to_string()
            .ends_with("refused: there is no lease x")
    );
    let unsupported = pool.stats().await.expect_err("not there");
    assert!(
        matches!(unsupported, PoolError::Refused { .. }),
        "a pool it is"
    );
    let (_, older) = Fake::start(&[]).await;
    let older = Pool::open(&older).await.expect("there");
    let older = older.stats().await.expect_err("older");
    assert!(older.to_string().contains("gives no leases"), "{older}");
}

#[tokio::test]
async fn the_token_is_shown_with_every_call() {
    let (fake, mut server) = Fake::start(&[]).await;
    server.credential.token = Some("gt1.abc".to_owned());
    let pool = Pool::open(&server).await.expect("loopback takes it");
    pool.list().await.expect("a list");
    let token = fake.until(|seen| seen.tokens.first().cloned()).await;
    assert_eq!(token.as_deref(), Some("Bearer gt1.abc"));
    assert!(!format!("{pool:?}").contains("gt1.abc"));
}

/// The second one takes the connection and says nothing; the third is not there.
#[tokio::test]
async fn what_one_server_has_waits_for_no_other() {
    let (_, there) = Fake::start(&[]).await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let absent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let [of_silent, of_absent] =
        [&silent, &absent].map(|listener| server(listener.local_addr().expect("an address")));
    drop(absent);
    let ask = |pool: Pool| async move { pool.list().await };
    let begin = std::time::Instant::now();
    let answers = gather_first(&[of_silent, of_absent, there.clone()], ask).await;
    assert!(
        begin.elapsed() < ANSWER_LIMIT,
        "it has waited for the silent one"
    );
    let (server, reply) = answers.one().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((server.name, reply.queued), (there.name, 7));
}

#[tokio::test]
async fn nobody_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = Pool::open(&server(address)).await.expect_err("nobody");
    assert_eq!(error.status(), NO_SERVER);
    assert!(error.to_string().contains("connection refused"), "{error}");
}

/// An authority and a server's certificate of it for 127.0.0.1.
fn authority() -> (String, Identity) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = parameters.self_signed(&key).expect("signed").pem();
    let issuer = rcgen::Issuer::new(parameters, key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned()];
    let parameters = rcgen::CertificateParams::new(names).expect("parameters");
    let certificate = parameters.signed_by(&key, &issuer).expect("signed");
    let identity = Identity {
        chain: vec![certificate.der().to_vec()],
        key: key.serialize_der(),
    };
    (pem, identity)
}

/// A pool over TLS that speaks these protocols.
async fn encrypted(protocols: &[&[u8]]) -> (Fake, Server) {
    let (pem, identity) = authority();
    let config = tls::server_config(&identity, protocols).expect("a configuration");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let mut server = server(listener.local_addr().expect("an address"));
    server.credential.authority = Some(pem);
    let fake = Fake::new(&[]);
    let (give, take) = tokio::sync::mpsc::channel(1);
    tokio::spawn(fake.clone().serve(ReceiverStream::new(take)));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((socket, _)) = listener.accept().await {
            // Who does not believe us goes away.
            if let Ok(stream) = acceptor.accept(socket).await {
                let _ = give.send(Ok(Encrypted(stream))).await;
            }
        }
    });
    (fake, server)
}

#[tokio::test]
async fn over_tls_as_the_hello() {
    let (fake, mut server) = encrypted(&[b"h2"]).await;
    server.credential.token = Some("gt1.abc".to_owned());
    let pool = Pool::open(&server).await.expect("trusted");
    assert!(matches!(pool.protection(), Protection::Encrypted(suite) if suite.contains("AES_128")));
    pool.list().await.expect("a list");
    let token = fake.until(|seen| seen.tokens.first().cloned()).await;
    assert!(token.is_some());

    let (other, _) = authority();
    let mut strange = server.clone();
    strange.credential.authority = Some(other);
    let error = Pool::open(&strange).await.expect_err("not trusted");
    assert!(
        error.to_string().contains("of another authority"),
        "{error}"
    );
    assert_eq!(error.status(), REFUSED);

    let mut renamed = server.clone();
    let text = server.address.to_string().replace("127.0.0.1", "localhost");
    renamed.address = text.parse().expect("an address");
    let error = Pool::open(&renamed).await.expect_err("another name");
    assert!(
        error.to_string().contains("not for the name 'localhost'"),
        "{error}"
    );
}

#[tokio::test]
async fn an_older_server_over_tls_is_named() {
    let (_, server) = encrypted(&[tls::GPURUN_PROTOCOL]).await;
    let error = Pool::open(&server).await.expect_err("older");
    assert!(matches!(error, PoolError::NotServed(_)), "{error}");
}

#[tokio::test]
async fn an_older_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = server(listener.local_addr().expect("an address"));
    let older = std::thread::spawn(move || {
        // HTTP/2 is no hello: the connection ends. The hello that follows is answered.
        let (mut stream, _) = listener.accept().expect("a client");
        let not_ours: Result<Hello, _> = hello::read(&mut stream);
        assert!(not_ours.is_err());
        drop(stream);
        let (mut stream, _) = listener.accept().expect("a client");
        let hello: Hello = hello::read(&mut stream).expect("a hello");
        let accepted = Accepted {
            version: hello.newest_version,
            server: Some(ServerInfo::default()),
            ..Accepted::default()
        };
        let reply = hello::encode(&HelloReply::from(accepted)).expect("encoded");
        stream.write_all(&reply).expect("sent");
    });
    let error = match Pool::open(&server).await {
        Ok(pool) => pool.list().await.expect_err("older"),
        Err(error) => error,
    };
    assert!(matches!(error, PoolError::NotServed(_)), "{error}");
    assert_eq!(error.status(), REFUSED);
    older.join().expect("served");
}

#[test]
fn one_question_to_every_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (_, there) = runtime.block_on(Fake::start(&[]));
    let (_, also) = runtime.block_on(Fake::start(&[]));
    let mut nobody = there.clone();
    nobody.address = "127.0.0.1:1".parse().expect("an address");
    let servers = [nobody.clone(), there, also];
    let list = |pool: Pool| async move { pool.list().await };
    let answers = ask_all(&servers, list).expect("asked");
    assert_eq!((answers.found.len(), answers.failed.len()), (2, 1));
    let names: Vec<&str> = answers
        .found
        .iter()
        .map(|(one, _)| one.name.as_str())
        .collect();
    assert_eq!(names, [&servers[1].name, &servers[2].name]);

    let usage = |pool: Pool| async move { pool.usage("x").await };
    let failure = ask_all(&servers, usage).expect("asked").one();
    let failure = failure.expect_err("nobody's").to_string();
    assert!(failure.contains("belongs to another tenant"), "{failure}");
    assert!(!failure.contains("cannot reach"), "{failure}");

    let renew = |pool: Pool| async move { pool.renew("x", Duration::ZERO).await };
    let failure = ask_all(&servers, renew).expect("asked").one();
    let failure = failure.expect_err("unknown");
    assert_eq!(failure.status(), NO_SERVER, "who is not there may know it");
    let failure = ask_all(&servers[1..], renew).expect("asked").one();
    assert_eq!(failure.expect_err("unknown").status(), REFUSED);
}

#[test]
fn seconds_are_rounded_up() {
    assert_eq!(seconds(Duration::from_millis(1)), 1);
    assert_eq!(seconds(Duration::from_secs(5)), 5);
    assert_eq!(seconds(Duration::ZERO), 1);
}
