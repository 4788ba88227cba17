//! Both ends in one process, and what a worker that was taken over may send.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;

use proptest::prelude::*;
use prost::Message;
use protocol::hello::control::{
    Register, Registration, SessionFacts, ToDaemon, ToWorker, to_daemon, to_worker,
};
use protocol::hello::{Hello, Identity, Intent, LeaseOrder, SliceOrder, WorkerOrder};
use rustix::fs::{FlockOperation, MemfdFlags, fcntl_lock};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::door::Door;
use super::packet::{self, MAX_DESCRIPTORS, MAX_PACKET_BYTES, Packet, PacketError};
use super::*;
use crate::order::Descriptors;
use crate::pool::Moment;

const KEY: Key = [3; 32];
/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(30);

fn file() -> OwnedFd {
    rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).expect("a file")
}

fn descriptors() -> Descriptors {
    Descriptors {
        ledger: Some(file()),
        gates: vec![file(), file()],
        ..Descriptors::default()
    }
}

fn order(session: u64) -> WorkerOrder {
    let mut hello = Hello::new(Intent::Session);
    hello.identity = Some(Identity {
        host: "h".repeat(4000),
        program: "train".to_owned(),
        ..Identity::default()
    });
    let slice = |gate_place| SliceOrder {
        gate_place,
        ..SliceOrder::default()
    };
    WorkerOrder {
        hello: Some(hello),
        version: 1,
        session,
        lease: Some(LeaseOrder {
            id: "l-aaaaaaaaaaaaaaaa".to_owned(),
            tenant: "ann".to_owned(),
            slices: vec![slice(8), slice(9)],
            place: 7,
            ..LeaseOrder::default()
        }),
        ..WorkerOrder::default()
    }
}

fn facts(session: u64, descriptors: &Descriptors) -> Facts {
    let token = "t-1".parse().ok();
    let facts = Facts::of(
        &order(session),
        descriptors,
        token.as_ref(),
        "here",
        Moment(5),
    );
    facts.expect("facts")
}

#[test]
fn facts_are_what_was_sealed_or_nothing() {
    let descriptors = descriptors();
    let facts = facts(4, &descriptors);
    assert_eq!(facts.holder.host.len(), 256);
    assert_eq!((facts.place, &facts.gate_places[..]), (7, &[8, 9][..]));
    let sealed = facts.seal(&KEY);
    assert_eq!(Facts::open(&KEY, &sealed).expect("facts"), facts);
    let other = Registration {
        facts: facts_of_another(&sealed),
        seal: sealed.seal.clone(),
    };
    let short = Registration {
        seal: sealed.seal[..31].to_vec(),
        ..sealed.clone()
    };
    for wrong in [other, short, Registration::default()] {
        let error = Facts::open(&KEY, &wrong).expect_err("refused");
        assert!(matches!(error, RegisterError::Seal), "{error}");
    }
    assert!(
        Facts::open(&[4; 32], &sealed).is_err(),
        "another directory's"
    );
}

fn facts_of_another(sealed: &Registration) -> Vec<u8> {
    let mut facts = SessionFacts::decode(sealed.facts.as_slice()).expect("facts");
    facts.tenant = "bob".to_owned();
    facts.encode_to_vec()
}

#[test]
fn the_largest_registration_fits_into_a_packet() {
    let mut order = order(u64::MAX);
    let long = "x".repeat(4096);
    let hello = order.hello.as_mut().expect("a hello");
    hello.identity = Some(Identity {
        host: long.clone(),
        user: long.clone(),
        process: u32::MAX,
        program: long.clone(),
        process_namespace: long.clone(),
    });
    let lease = order.lease.as_mut().expect("a lease");
    lease.tenant = "x".repeat(128);
    lease.slices = vec![lease.slices[0].clone(); 64];
    let descriptors = Descriptors {
        gates: (0..64).map(|_| file()).collect(),
        ..descriptors()
    };
    let facts = Facts::of(&order, &descriptors, None, &long, Moment::now()).expect("facts");
    let message = ToDaemon {
        message: Some(to_daemon::Message::Register(Register {
            registration: Some(facts.seal(&KEY)),
            ..Register::default()
        })),
    };
    assert!(message.encoded_len() < MAX_PACKET_BYTES);
    let files = descriptors.ledger.iter().chain(&descriptors.gates);
    let files: Vec<BorrowedFd<'_>> = files.map(AsFd::as_fd).collect();
    assert_eq!(files.len(), MAX_DESCRIPTORS);
    let (ours, theirs) = pair();
    packet::send(&ours, &message, &files, SendFlags::empty()).expect("sent");
    let unasked: Packet<ToDaemon> = packet::receive(&theirs, |_| true).expect("received");
    assert_eq!(unasked.descriptors.len(), MAX_DESCRIPTORS);
    assert!(unasked.sender.is_none());
    set_socket_passcred(&theirs, true).expect("asked for who sends");
    packet::send(&ours, &message, &files, SendFlags::empty()).expect("sent");
    let received: Packet<ToDaemon> = packet::receive(&theirs, |_| true).expect("received");
    assert_eq!(
        (received.message, received.descriptors.len()),
        (message, MAX_DESCRIPTORS)
    );
    let sender = received.sender.expect("the kernel says who");
    assert_eq!(
        sender.pid.as_raw_nonzero().get().cast_unsigned(),
        std::process::id()
    );
}

fn pair() -> (OwnedFd, OwnedFd) {
    let kind = SocketType::SEQPACKET;
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("sockets")
}

#[test]
fn packets_that_are_none_are_refused() {
    let (ours, theirs) = pair();
    let receive = |allowed| packet::receive::<ToDaemon>(&theirs, allowed);
    rustix::net::send(&ours, &vec![0; MAX_PACKET_BYTES + 1], SendFlags::empty()).expect("sent");
    assert!(matches!(receive(|_| false), Err(PacketError::TooLong)));
    rustix::net::send(&ours, &[0xFF; 9], SendFlags::empty()).expect("sent");
    assert!(matches!(
        receive(|_| false),
        Err(PacketError::Undecodable(_))
    ));
    let message = ToDaemon {
        message: Some(to_daemon::Message::Counts(Counts::default().into())),
    };
    packet::send(&ours, &message, &[file().as_fd()], SendFlags::empty()).expect("sent");
    assert!(matches!(receive(|_| false), Err(PacketError::Descriptors)));
    drop(ours);
    assert!(matches!(receive(|_| true), Err(PacketError::Ended)));
}

/// A worker that is told to end when it has ended already closes its connection with that unread.
#[test]
fn last_words_are_heard_of_who_has_not_read_everything() {
    let (ours, theirs) = pair();
    let message = ToDaemon {
        message: Some(to_daemon::Message::Counts(Counts::default().into())),
    };
    for from in [&ours, &theirs] {
        packet::send(from, &message, &[], SendFlags::empty()).expect("sent");
    }
    drop(ours);
    let heard = packet::receive::<ToDaemon>(&theirs, |_| false).expect("its last words");
    assert_eq!(heard.message, message);
    let end = packet::receive::<ToDaemon>(&theirs, |_| false);
    assert!(matches!(end, Err(PacketError::Ended)));
}

/// A registry that finds workers in its directory, and what it tells.
struct Daemon {
    registry: Registry,
    events: mpsc::Receiver<Event>,
    directory: tempfile::TempDir,
    /// Where the workers take it in: the sessions 1, 2 and so on.
    doors: Vec<OwnedFd>,
}

impl Daemon {
    fn new(key: Key, workers: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let door = |session| Door::make(directory.path(), session).expect("a door").1;
        let doors = (1..=workers).map(door).collect();
        let (registry, events) = Self::begun(directory.path(), key);
        Self {
            registry,
            events,
            directory,
            doors,
        }
    }

    fn begun(directory: &std::path::Path, key: Key) -> (Registry, mpsc::Receiver<Event>) {
        let (tell, events) = mpsc::channel(16);
        let registry = Registry::open(directory, key, Peers::own(), tell).expect("begun");
        (registry, events)
    }

    /// How many doors are left.
    fn left(&self) -> usize {
        Door::all(self.directory.path()).expect("read").len()
    }

    async fn event(&mut self) -> Event {
        let event = timeout(LIMIT, self.events.recv()).await;
        event.expect("in time").expect("an event")
    }

    async fn registered(&mut self) -> Registered {
        match self.event().await {
            Event::Registered(registered) => *registered,
            other => panic!("{other:?}"),
        }
    }

    /// Takes the daemon in at a door.
    async fn take_in(&self, session: usize) -> OwnedFd {
        let door = self.doors[session - 1].try_clone().expect("a copy");
        let taken = tokio::task::spawn_blocking(move || {
            rustix::net::accept_with(&door, SocketFlags::CLOEXEC).expect("a daemon")
        });
        let taken = timeout(LIMIT, taken).await;
        taken.expect("in time").expect("a thread")
    }
}

fn register(registration: Registration, has_ledger: bool) -> ToDaemon {
    ToDaemon {
        message: Some(to_daemon::Message::Register(Register {
            registration: Some(registration),
            has_ledger,
            ..Register::default()
        })),
    }
}

/// What comes on this connection, read where no task waits for it.
async fn answer(connection: OwnedFd) -> Result<(OwnedFd, ToWorker), PacketError> {
    let received = tokio::task::spawn_blocking(move || {
        let answer = packet::receive(&connection, |_| false);
        answer.map(|answer: Packet<ToWorker>| (connection, answer.message))
    });
    timeout(LIMIT, received)
        .await
        .expect("in time")
        .expect("a thread")
}

/// What a worker is told that is not believed: an end, and why.
async fn refused(connection: OwnedFd) -> String {
    match answer(connection).await.expect("an answer").1.message {
        Some(to_worker::Message::End(end)) => end.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_worker_that_lies_is_not_registered() {
    let mut daemon = Daemon::new(KEY, 7);
    let own = descriptors();
    let sealed = facts(7, &own).seal(&KEY);
    let others = descriptors();
    let ledger = own.ledger.as_ref().expect("a ledger").as_fd();
    let (first, second) = (own.gates[0].as_fd(), own.gates[1].as_fd());
    let forged = Registration {
        facts: facts_of_another(&sealed),
        ..sealed.clone()
    };
    let counts = ToDaemon {
        message: Some(to_daemon::Message::Counts(Counts::default().into())),
    };
    let lies: [(ToDaemon, Vec<BorrowedFd<'_>>); 6] = [
        (register(forged, true), vec![ledger, first, second]),
        // Files that are others, are too few, or stand in another order.
        (
            register(sealed.clone(), true),
            vec![ledger, others.gates[0].as_fd(), second],
        ),
        (register(sealed.clone(), true), vec![ledger, first]),
        (register(sealed.clone(), true), vec![first, ledger, second]),
        (register(sealed.clone(), false), vec![ledger, first, second]),
        (counts, Vec::new()),
    ];
    for ((message, files), session) in lies.into_iter().zip(1..) {
        let connection = daemon.take_in(session).await;
        packet::send(&connection, &message, &files, SendFlags::empty()).expect("sent");
        let reason = refused(connection).await;
        assert!(reason.starts_with("not registered: "), "{reason}");
        assert!(daemon.registry.is_empty());
    }
    assert!(daemon.events.try_recv().is_err(), "an event of a liar");
    let connection = daemon.take_in(7).await;
    let truth = register(sealed, true);
    packet::send(
        &connection,
        &truth,
        &[ledger, first, second],
        SendFlags::empty(),
    )
    .expect("sent");
    let registered = daemon.registered().await;
    assert_eq!(registered.facts, facts(7, &own));
    assert_eq!(registered.descriptors.gates.len(), 2);
    assert_eq!(registered.process, std::process::id());
    registered.answer.accept();
    let (_connection, yes) = answer(connection).await.expect("an answer");
    assert!(matches!(
        yes.message,
        Some(to_worker::Message::Registered(_))
    ));
    assert_eq!(daemon.registry.len(), 1);
    assert!(matches!(daemon.event().await, Event::Gathered));
}

#[tokio::test]
async fn a_session_is_registered_once() {
    let mut daemon = Daemon::new(KEY, 2);
    let none = Descriptors::default();
    let message = register(facts(1, &none).seal(&KEY), false);
    let first = daemon.take_in(1).await;
    packet::send(&first, &message, &[], SendFlags::empty()).expect("sent");
    daemon.registered().await.answer.accept();
    let (first, _) = answer(first).await.expect("an answer");
    let second = daemon.take_in(2).await;
    packet::send(&second, &message, &[], SendFlags::empty()).expect("sent");
    assert!(refused(second).await.contains("registered already"));
    // The first one does not suffer by it.
    assert!(daemon.registry.end(1, "over"));
    let (_first, end) = answer(first).await.expect("an answer");
    match end.message {
        Some(to_worker::Message::End(end)) => assert_eq!(end.reason, "over"),
        other => panic!("{other:?}"),
    }
    assert!(!daemon.registry.end(2, "no such session"));
}

#[tokio::test]
async fn a_session_that_is_not_answered_for_is_found_by_the_next() {
    let mut daemon = Daemon::new(KEY, 1);
    let message = register(facts(1, &Descriptors::default()).seal(&KEY), false);
    for _ in 0..2 {
        let connection = daemon.take_in(1).await;
        packet::send(&connection, &message, &[], SendFlags::empty()).expect("sent");
        // As a daemon that is ending: it says neither yes nor no.
        drop(daemon.registered().await);
        assert!(matches!(answer(connection).await, Err(PacketError::Ended)));
        assert!(matches!(daemon.event().await, Event::Gathered));
        assert!(daemon.registry.is_empty());
        (daemon.registry, daemon.events) = Daemon::begun(daemon.directory.path(), KEY);
    }
}

#[tokio::test]
async fn who_is_over_is_not_waited_for() {
    let mut daemon = Daemon::new(KEY, 2);
    assert_eq!(daemon.left(), 2);
    daemon.doors.clear();
    // These were found while they still listened; whom the next one finds does not.
    let (_registry, mut events) = Daemon::begun(daemon.directory.path(), KEY);
    let event = timeout(LIMIT, events.recv()).await.expect("in time");
    assert!(matches!(event, Some(Event::Gathered)), "{event:?}");
    assert_eq!(daemon.left(), 0);
}

#[tokio::test]
async fn who_says_nothing_is_waited_for_a_while_and_taken_in_later() {
    let mut daemon = Daemon::new(KEY, 1);
    let silent = daemon.take_in(1).await;
    assert!(matches!(daemon.event().await, Event::Gathered));
    let message = register(facts(1, &Descriptors::default()).seal(&KEY), false);
    packet::send(&silent, &message, &[], SendFlags::empty()).expect("sent");
    daemon.registered().await.answer.accept();
}

#[tokio::test]
async fn a_worker_cannot_keep_the_daemon_busy() {
    let mut daemon = Daemon::new(KEY, 1);
    let message = register(facts(1, &Descriptors::default()).seal(&KEY), false);
    let connection = daemon.take_in(1).await;
    packet::send(&connection, &message, &[], SendFlags::empty()).expect("sent");
    daemon.registered().await.answer.accept();
    let (connection, _) = answer(connection).await.expect("an answer");
    let begin = std::time::Instant::now();
    let mut calls = 0;
    let mut flood = || {
        loop {
            calls += 1;
            let counts = Counts {
                calls,
                ..Counts::default()
            };
            let message = ToDaemon {
                message: Some(to_daemon::Message::Counts(counts.into())),
            };
            if packet::send(&connection, &message, &[], SendFlags::DONTWAIT).is_err() {
                return;
            }
        }
    };
    assert!(matches!(daemon.event().await, Event::Gathered));
    for heard in 0..4 {
        flood();
        assert!(matches!(daemon.event().await, Event::Counts { .. }));
        assert!(begin.elapsed() >= heard * session::LISTEN);
    }
}

#[test]
fn only_workers_users_may_come() {
    let peers = Peers {
        user: 5,
        workers: Some(100..=199),
    };
    let allowed = [5, 100, 199].into_iter().all(|user| peers.allow(user));
    assert!(allowed);
    assert!(![0, 6, 99, 200].into_iter().any(|user| peers.allow(user)));
}

/// Names the file that is looked at.
const LOCKED: &str = "GPURUN_TEST_LOCKED";

#[test]
#[ignore = "started by another test"]
fn says_whether_it_is_locked() {
    let path = std::env::var_os(LOCKED).expect("a path");
    let file = File::options().read(true).write(true).open(path);
    let lock = fcntl_lock(
        file.expect("a file"),
        FlockOperation::NonBlockingLockExclusive,
    );
    println!("\nlocked: {}", lock.is_err());
}

/// Whether another process sees a record lock of ours on the file.
fn is_locked(file: &OwnedFd) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let name = "registry::tests::says_whether_it_is_locked";
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    let output = command.env(LOCKED, path).output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("locked: "), "{text}");
    text.contains("locked: true")
}

#[test]
fn record_locks_outlive_what_is_kept_for_the_next_daemon() {
    let mut order = order(1);
    let mut passed = descriptors();
    order.registration = Some(facts(1, &passed).seal(&KEY));
    let post = Post::take(&order, &mut passed).expect("taken");
    let ledger = passed.ledger.expect("still there");
    fcntl_lock(&ledger, FlockOperation::NonBlockingLockExclusive).expect("locked");
    assert!(is_locked(&ledger));
    let (ours, _theirs) = pair();
    let message = register(Registration::default(), true);
    packet::send(&ours, &message, &[ledger.as_fd()], SendFlags::empty()).expect("sent");
    drop(post);
    assert!(is_locked(&ledger), "a copy was closed");
    drop(ledger.try_clone().expect("a copy"));
    assert!(!is_locked(&ledger), "so this is what must not be done");
}

proptest! {
    #[test]
    fn any_bytes_are_facts_or_an_error(bytes: Vec<u8>, devices: u32, lease in "[a-z2-7-]{0,20}", gates in 0_usize..80) {
        let seal = |facts: Vec<u8>| Registration {
            seal: blake3::keyed_hash(&KEY, &facts).as_bytes().to_vec(),
            facts,
        };
        let _ = ToDaemon::decode(bytes.as_slice());
        let _ = Facts::open(&KEY, &seal(bytes));
        let facts = SessionFacts {
            devices,
            lease,
            gates: vec![Default::default(); gates],
            ..SessionFacts::default()
        };
        if let Ok(facts) = Facts::open(&KEY, &seal(facts.encode_to_vec())) {
            prop_assert!(facts.gates.len() <= 64 && facts.devices <= 64);
            prop_assert_eq!(Facts::open(&KEY, &facts.seal(&KEY)).ok(), Some(facts));
        }
    }
}
