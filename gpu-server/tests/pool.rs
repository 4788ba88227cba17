//! Leases with a real daemon, its service and real workers on the software GPU.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{LIMIT, MIB, Server, bytes, eventually, granted, hello, lease, next, session, whole};
use control_plane::acquire_event::Event;
use control_plane::{
    AcquireRequest, DrainRequest, HealthRequest, HoldRequest, LeaseEnd, LeasesRequest, ListRequest,
    ReleaseRequest, RenewRequest, UsageRequest,
};
use protocol::address::Address;
use protocol::connect::{self, ConnectError};
use protocol::hello::{DeviceRequest, Hello, Intent, RefusalCode};
use protocol::transport::Patience;
use tonic::Code;

fn part(memory_fraction: f64) -> DeviceRequest {
    DeviceRequest {
        count: 1,
        memory_fraction,
        ..DeviceRequest::default()
    }
}

fn refusal(result: Result<connect::Session, ConnectError>) -> (RefusalCode, String) {
    match result {
        Err(ConnectError::Refused { code, message, .. }) => (code, message),
        other => panic!("{other:?}"),
    }
}

/// Waits for the end of a session's connection, past what still comes on it.
fn wait_for_end(session: &mut connect::Session) {
    let receiver = &mut session.connection.receiver;
    let end = std::time::Instant::now() + LIMIT;
    while std::time::Instant::now() < end {
        match receiver.poll_header() {
            Ok(Some(_)) => {
                if receiver.skip_payload().is_err() {
                    return;
                }
            }
            Ok(None) => {
                if receiver.wait(Some(Duration::from_millis(100))).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
    panic!("it goes on");
}

#[tokio::test]
async fn forty_small_slices_at_once() {
    let server = Server::start("[pool]\nleast_slice = '16MiB'", "1", "4GiB");
    let mut pool = server.pool(&server.unix).await;
    let mut held = Vec::new();
    for _ in 0..40 {
        let (granted, stream) = lease(&mut pool, bytes(100 * MIB)).await.expect("a lease");
        let session = session(&server.unix, &granted.id).expect("a session");
        let device = &session.accepted.devices[0];
        assert_eq!(device.total_memory, 100 * MIB, "the slice is what it sees");
        held.push((granted, stream, session));
    }
    let list = pool
        .list(ListRequest {})
        .await
        .expect("a list")
        .into_inner();
    let device = &list.devices[0];
    assert_eq!((device.leases, device.free_memory), (40, 96 * MIB));
    assert!(device.free_compute < 0.03, "{}", device.free_compute);
    let busy = AcquireRequest {
        no_wait: true,
        ..bytes(100 * MIB)
    };
    let refused = pool.acquire(busy).await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("nothing is free") && refused.message().contains("free now: "),
        "{refused}"
    );
    // One that goes makes room for one more.
    let mut waiting = pool
        .acquire(bytes(100 * MIB))
        .await
        .expect("waits")
        .into_inner();
    match next(&mut waiting).await {
        Event::Queued(place) => assert_eq!((place.position, place.length), (1, 1)),
        other => panic!("{other:?}"),
    }
    let (gone, _stream, mut its) = held.pop().expect("forty");
    let released = ReleaseRequest { lease: gone.id };
    pool.release(released).await.expect("released");
    wait_for_end(&mut its);
    granted(&mut waiting).await;
}

#[tokio::test]
async fn a_lease_is_its_tenants_alone() {
    let server = Server::start("", "2", "1GiB");
    let mut mine = server.pool(&server.unix).await;
    let mut theirs = server.pool(&server.tcp).await;
    let (granted, _stream) = lease(&mut mine, whole(2)).await.expect("a lease");
    assert_eq!(granted.slices.len(), 2);
    assert!(granted.tenant.starts_with("uid-"), "{}", granted.tenant);
    let (code, message) = refusal(session(&server.tcp, &granted.id));
    assert_eq!(code, RefusalCode::Forbidden);
    assert!(message.contains("belongs to another tenant"), "{message}");
    let hold = HoldRequest {
        lease: granted.id.clone(),
    };
    let refused = theirs.hold(hold).await.expect_err("another tenant's");
    assert_eq!(refused.code(), Code::PermissionDenied);
    for unknown in ["l-aaaaaaaaaaaaaaaa", "nonsense"] {
        let (code, _) = refusal(session(&server.unix, unknown));
        assert_eq!(code, RefusalCode::Lease, "{unknown}");
    }
    let its = session(&server.unix, &granted.id).expect("a session");
    let seen: Vec<_> = its
        .accepted
        .devices
        .iter()
        .map(|device| &device.uuid)
        .collect();
    let given: Vec<_> = granted.slices.iter().map(|slice| &slice.uuid).collect();
    assert_eq!(seen, given);
    // An operator ends it, whose ever it is.
    let released = ReleaseRequest {
        lease: granted.id.clone(),
    };
    theirs.release(released.clone()).await.expect("an operator");
    let twice = theirs.release(released).await.expect_err("it is over");
    assert_eq!(twice.code(), Code::NotFound);
}

#[tokio::test]
async fn programs_without_a_lease_share_whole_devices_and_have_parts_alone() {
    let server = Server::start("[pool]\nleast_slice = '16MiB'", "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let one = session(&server.unix, "").expect("a session");
    let two = session(&server.unix, "").expect("a second one of the same user");
    let leases = pool
        .leases(LeasesRequest {})
        .await
        .expect("leases")
        .into_inner();
    assert_eq!((leases.leases.len(), leases.leases[0].sessions), (1, 2));
    // Somebody else waits, or does not.
    let (code, message) = refusal(session(&server.tcp, ""));
    assert_eq!(code, RefusalCode::Busy);
    assert!(message.contains("nothing is free"), "{message}");
    let mut other = hello(DeviceRequest::default());
    other.identity.as_mut().expect("an identity").host = "elsewhere".to_owned();
    let (code, _) = refusal(connect::open_session(
        &server.unix,
        &other,
        Patience::default(),
    ));
    assert_eq!(code, RefusalCode::Busy);
    let (sender, place) = std::sync::mpsc::channel();
    let address = server.tcp.clone();
    let waits = std::thread::spawn(move || {
        let hello = Hello {
            waits: true,
            ..hello(DeviceRequest::default())
        };
        let socket = connect::connect(&address).expect("connected");
        let credential = protocol::credentials::Credential::default();
        let mut told = |waiting: &protocol::hello::Waiting| {
            let _ = sender.send(waiting.clone());
        };
        let ways: (connect::secure::Hold<'_>, connect::Told<'_>) = (&|socket| socket, &mut told);
        connect::secure::greet(&address, socket, &hello, &credential, ways)
            .map(|(accepted, line)| (accepted.session, line))
    });
    let told = place.recv_timeout(LIMIT).expect("it is told");
    assert_eq!(told.position, 1);
    assert!(told.reason.contains("device"), "{}", told.reason);
    drop((one, two));
    let (number, line) = waits.join().expect("no panic").expect("a session");
    assert!(number > 0);
    drop(line);
    // Parts are each program's own.
    let parts: Vec<_> = (0..4)
        .map(|_| {
            let hello = Hello {
                waits: true,
                ..hello(part(0.25))
            };
            let socket = connect::connect(&server.unix).expect("connected");
            let credential = protocol::credentials::Credential::default();
            let ways: (connect::secure::Hold<'_>, connect::Told<'_>) =
                (&|socket| socket, &mut |_| {});
            connect::secure::greet(&server.unix, socket, &hello, &credential, ways)
                .expect("a session")
        })
        .collect();
    for (accepted, _) in &parts {
        assert_eq!(accepted.devices[0].total_memory, 256 * MIB);
    }
    let leases = pool
        .leases(LeasesRequest {})
        .await
        .expect("leases")
        .into_inner();
    assert_eq!(leases.leases.len(), 4);
}

#[tokio::test]
async fn who_goes_while_waiting_keeps_nobody_waiting() {
    let server = Server::start("", "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let (held, _stream) = lease(&mut pool, whole(1)).await.expect("a lease");
    let gone = pool.acquire(whole(1)).await.expect("waits").into_inner();
    let mut stays = pool.acquire(whole(1)).await.expect("waits").into_inner();
    let raw = {
        let Address::Tcp { host, port } = &server.tcp else {
            panic!("not TCP")
        };
        let mut socket = TcpStream::connect((host.as_str(), *port)).expect("connected");
        let hello = Hello {
            waits: true,
            ..hello(DeviceRequest::default())
        };
        let bytes = protocol::hello::encode(&hello).expect("bytes");
        socket.write_all(&bytes).expect("sent");
        let mut some = [0; 12];
        socket
            .read_exact(&mut some)
            .expect("it is told that it waits");
        socket
    };
    let waiting = pool
        .leases(LeasesRequest {})
        .await
        .expect("leases")
        .into_inner()
        .waiting;
    assert_eq!(waiting.len(), 3);
    drop((gone, raw));
    eventually(async || {
        let leases = pool
            .leases(LeasesRequest {})
            .await
            .expect("leases")
            .into_inner();
        (leases.waiting.len() == 1).then_some(())
    })
    .await;
    let released = ReleaseRequest { lease: held.id };
    pool.release(released).await.expect("released");
    granted(&mut stays).await;
}

#[tokio::test]
async fn attached_leases_end_with_their_holder_and_detached_ones_with_their_time() {
    let server = Server::start("[pool]\nholder_grace = '300ms'", "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let (_, stream) = lease(&mut pool, whole(1)).await.expect("a lease");
    let detached = AcquireRequest {
        detached: true,
        seconds: 3600,
        ..whole(1)
    };
    let mut waiting = pool.acquire(detached).await.expect("waits").into_inner();
    drop(stream);
    let second = granted(&mut waiting).await;
    drop(waiting);
    let mut its = session(&server.unix, &second.id).expect("a session");
    let renew = |seconds| RenewRequest {
        lease: second.id.clone(),
        seconds,
    };
    let renewed = pool.renew(renew(7200)).await.expect("renewed").into_inner();
    assert!(renewed.expires_unix_ms > second.expires_unix_ms + 3000 * 1000);
    let hold = HoldRequest {
        lease: second.id.clone(),
    };
    let mut watch = pool.hold(hold).await.expect("watched").into_inner();
    assert!(matches!(next(&mut watch).await, Event::Granted(_)));
    pool.renew(renew(1)).await.expect("renewed");
    loop {
        match next(&mut watch).await {
            Event::Warning(_) => {}
            Event::Ended(ended) => {
                assert_eq!(ended.end(), LeaseEnd::Expired);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    wait_for_end(&mut its);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let server = Server::start(
        "max_sessions = 2\n[pool]\nlongest_lease = '1h'\nleast_slice = '64MiB'",
        "2",
        "1GiB",
    );
    let mut pool = server.pool(&server.unix).await;
    let mut why = async |request: AcquireRequest| {
        let status = pool.acquire(request).await.expect_err("refused");
        (status.code(), status.message().to_owned())
    };
    let (code, message) = why(whole(3)).await;
    assert_eq!(code, Code::OutOfRange);
    assert!(
        message.starts_with("no server has 3 devices; largest: "),
        "{message}"
    );
    let (code, message) = why(bytes(8 * MIB)).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(
        message.contains("the least that works is 64 MiB"),
        "{message}"
    );
    let (_, message) = why(bytes(4096 * MIB)).await;
    assert!(
        message.contains("more than any device can give"),
        "{message}"
    );
    let long = AcquireRequest {
        seconds: 7200,
        detached: true,
        ..whole(1)
    };
    let (code, message) = why(long).await;
    assert_eq!(code, Code::FailedPrecondition, "{message}");
    let (code, _) = why(AcquireRequest {
        oldest_version: 99,
        newest_version: 99,
        ..whole(1)
    })
    .await;
    assert_eq!(code, Code::FailedPrecondition);
    let mut filtered = whole(1);
    if let Some(need) = &mut filtered.need {
        need.filters.push(control_plane::Filter {
            key: "device.name".to_owned(),
            comparison: control_plane::Comparison::Equal.into(),
            value: "*H100*".to_owned(),
        });
    }
    let (_, message) = why(filtered).await;
    assert!(message.contains("device.name=*H100*"), "{message}");
    let (code, message) = refusal(connect::open_session(
        &server.unix,
        &hello(part(0.01)),
        Patience::default(),
    ));
    assert_eq!(code, RefusalCode::TooSmall, "{message}");
    // The sessions of the server are bounded, too.
    let _both = [session(&server.unix, ""), session(&server.unix, "")].map(Result::unwrap);
    let (code, _) = refusal(session(&server.unix, ""));
    assert_eq!(code, RefusalCode::Busy);
}

#[tokio::test]
async fn a_drain_gives_nothing_ends_what_is_left_and_can_be_undone() {
    let mut server = Server::start("", "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let (held, mut stream) = lease(&mut pool, whole(1)).await.expect("a lease");
    let mut its = session(&server.unix, &held.id).expect("a session");
    let mut waiting = pool.acquire(whole(1)).await.expect("waits").into_inner();
    let drained = pool
        .drain(DrainRequest::default())
        .await
        .expect("an operator");
    assert_eq!(drained.into_inner().leases, 1);
    loop {
        match next(&mut waiting).await {
            Event::Queued(_) => {}
            Event::Ended(ended) => {
                assert!(ended.message.contains("draining"), "{}", ended.message);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let refused = pool.acquire(whole(1)).await.expect_err("draining");
    assert_eq!(refused.code(), Code::Unavailable);
    let health = pool
        .health(HealthRequest {})
        .await
        .expect("health")
        .into_inner();
    let leases = health.checks.iter().find(|check| check.name == "leases");
    assert!(leases.expect("a check").finding.contains("draining"));
    let end = DrainRequest {
        revoke: true,
        ..DrainRequest::default()
    };
    pool.drain(end).await.expect("an operator");
    loop {
        match next(&mut stream).await {
            Event::Warning(_) => {}
            Event::Ended(ended) => {
                assert_eq!(ended.end(), LeaseEnd::Drained);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    wait_for_end(&mut its);
    server.wait_for_line("lease ended");
    let undo = DrainRequest {
        undo: true,
        ..DrainRequest::default()
    };
    pool.drain(undo).await.expect("an operator");
    let mut again = pool.acquire(whole(1)).await.expect("a lease").into_inner();
    granted(&mut again).await;
}

#[tokio::test]
async fn a_lease_is_seen_as_it_is_used() {
    let server = Server::start("[pool]\nleast_slice = '16MiB'", "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let (held, _stream) = lease(&mut pool, bytes(128 * MIB)).await.expect("a lease");
    let its = session(&server.unix, &held.id).expect("a session");
    let usage = UsageRequest {
        lease: held.id.clone(),
    };
    let usage = pool.usage(usage).await.expect("usage").into_inner();
    assert_eq!(usage.slices.len(), 1);
    let slice = &usage.slices[0];
    assert_eq!(slice.slice.as_ref().expect("a slice").memory, 128 * MIB);
    assert_eq!(slice.programs.len(), 1);
    assert_eq!(slice.programs[0].session, its.accepted.session);
    assert!(slice.device.is_some(), "how the whole device is used");
    // What NVML asks.
    let hello = Hello {
        lease: held.id,
        with_usage: true,
        ..Hello::new(Intent::Snapshot)
    };
    let socket = connect::connect(&server.unix).expect("connected");
    let seen = connect::say_hello(&server.unix, &socket, &hello).expect("a snapshot");
    assert_eq!(seen.devices.len(), 1);
    assert_eq!(seen.devices[0].total_memory, 128 * MIB);
    let free = seen.devices[0].usage.as_ref().expect("usage").free_memory;
    assert!(free.is_some_and(|free| free <= 128 * MIB), "{free:?}");
}

#[tokio::test]
async fn who_is_not_let_in_does_not_stay() {
    let server = Server::start("require_token = true", "1", "1GiB");
    let mut pool = server.pool(&server.tcp).await;
    let refused = pool.list(ListRequest {}).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let Address::Tcp { host, port } = &server.tcp else {
        panic!("not TCP")
    };
    let connect = || {
        let socket = TcpStream::connect((host.as_str(), *port)).expect("connected");
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        socket
    };
    // Neither one who says nothing after the preface, nor one who says nonsense.
    let mut silent = connect();
    silent
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("sent");
    let mut nonsense = connect();
    nonsense
        .write_all(b"POST / HTTP/1.1\r\n\r\n")
        .expect("sent");
    for socket in [&mut nonsense, &mut silent] {
        let mut rest = Vec::new();
        match socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    tokio::time::timeout(Duration::from_secs(5), server.pool(&server.unix))
        .await
        .expect("others are served");
}

/// Whether a session's connection is still there: whatever came on it is read over.
fn is_there(session: &mut connect::Session) -> bool {
    let receiver = &mut session.connection.receiver;
    loop {
        match receiver.poll_header() {
            Ok(Some(_)) if receiver.skip_payload().is_ok() => {}
            Ok(None) => return true,
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

async fn restarted(signal: rustix::process::Signal) {
    let settings = "[pool]\nleast_slice = '16MiB'";
    let server = Server::with_state(settings, "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let detached = AcquireRequest {
        detached: true,
        ..bytes(256 * MIB)
    };
    let (kept, _stream) = lease(&mut pool, detached).await.expect("a lease");
    let (attached, _its) = lease(&mut pool, bytes(128 * MIB)).await.expect("a lease");
    let mut one = session(&server.unix, &kept.id).expect("a session");
    let mut two = session(&server.unix, &attached.id).expect("a session");
    let mut own = connect::open_session(&server.unix, &hello(part(0.25)), Patience::default())
        .expect("a session");
    let numbers = [&one, &two, &own].map(|session| session.accepted.session);

    let mut server = server.restart(signal);
    for number in numbers {
        server.wait_for_line(&format!(
            "session goes on after the restart session={number}"
        ));
    }
    for session in [&mut one, &mut two, &mut own] {
        assert!(is_there(session), "the program noticed nothing");
    }
    let mut pool = server.pool(&server.unix).await;
    let leases = pool
        .leases(LeasesRequest {})
        .await
        .expect("leases")
        .into_inner();
    assert_eq!(leases.leases.len(), 3);
    assert!(leases.leases.iter().all(|lease| lease.sessions == 1));
    let list = pool
        .list(ListRequest {})
        .await
        .expect("a list")
        .into_inner();
    assert_eq!(list.devices[0].free_memory, (1024 - 256 - 128 - 256) * MIB);
    // One more under the lease of before: the same ledger, another number.
    let more = session(&server.unix, &kept.id).expect("a session");
    assert!(numbers.iter().all(|number| *number < more.accepted.session));
    let usage = UsageRequest {
        lease: kept.id.clone(),
    };
    let usage = pool.usage(usage).await.expect("usage").into_inner();
    assert_eq!(usage.slices[0].programs.len(), 2);
    // They are the new server's to end.
    let released = ReleaseRequest { lease: kept.id };
    pool.release(released).await.expect("released");
    wait_for_end(&mut one);
    drop((two, own));
    eventually(async || {
        let leases = pool
            .leases(LeasesRequest {})
            .await
            .expect("leases")
            .into_inner();
        let left = leases.leases.iter().filter(|lease| lease.sessions > 0);
        (left.count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restart_is_not_noticed() {
    restarted(rustix::process::Signal::TERM).await;
}

#[tokio::test]
async fn a_crash_of_the_daemon_is_not_noticed() {
    restarted(rustix::process::Signal::KILL).await;
}

#[tokio::test]
async fn who_comes_back_after_a_restart_holds_on() {
    let settings = "[pool]\nholder_grace = '2s'";
    let server = Server::with_state(settings, "2", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let (kept, _one) = lease(&mut pool, whole(1)).await.expect("a lease");
    let (lost, _two) = lease(&mut pool, whole(1)).await.expect("a lease");
    let server = server.restart(rustix::process::Signal::KILL);
    let mut pool = server.pool(&server.unix).await;
    let hold = HoldRequest {
        lease: kept.id.clone(),
    };
    let mut stream = pool.hold(hold).await.expect("held").into_inner();
    assert!(matches!(next(&mut stream).await, Event::Granted(_)));
    // Nobody comes for the other one.
    let mut next_one = pool.acquire(whole(1)).await.expect("waits").into_inner();
    granted(&mut next_one).await;
    let gone = pool.hold(HoldRequest { lease: lost.id }).await;
    assert_eq!(gone.expect_err("it is over").code(), Code::NotFound);
    let log = std::fs::read_to_string(server.directory.path().join("state/audit.log"));
    let log = log.expect("an audit log");
    assert!(log.contains("\"abandoned\""), "{log}");
    assert_eq!(log.matches("\"server_began\"").count(), 2, "{log}");
}

#[tokio::test]
async fn what_happens_is_counted_and_written_down() {
    let mut server = Server::with_state("metrics = '127.0.0.1:0'", "1", "1GiB");
    let line = server.wait_for_line("metrics on http://");
    let address = line.split("http://").nth(1).expect("an address");
    let address = address.split('/').next().expect("an address").to_owned();
    let mut pool = server.pool(&server.unix).await;
    let (held, _stream) = lease(&mut pool, whole(1)).await.expect("a lease");
    let its = session(&server.unix, &held.id).expect("a session");
    let (code, _) = refusal(session(&server.tcp, &held.id));
    assert_eq!(code, RefusalCode::Forbidden);
    let busy = AcquireRequest {
        no_wait: true,
        ..whole(1)
    };
    pool.acquire(busy).await.expect_err("full");
    drop(its);
    let released = ReleaseRequest {
        lease: held.id.clone(),
    };
    pool.release(released).await.expect("released");

    let fetch = || {
        let mut socket = TcpStream::connect(&address).expect("connected");
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("text");
        text
    };
    let text = eventually(async || {
        let text = fetch();
        text.contains("released").then_some(text)
    })
    .await;
    for word in ["busy", "gpurun_leases", "gpurun_store_seconds_count 1"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let stats = pool
        .stats(control_plane::StatsRequest {})
        .await
        .expect("stats")
        .into_inner();
    assert_eq!(stats.tenants.len(), 1);
    assert_eq!((stats.tenants[0].leases, stats.tenants[0].sessions), (1, 1));
    let audit = server.directory.path().join("state/audit.log");
    let entries: Vec<serde_json::Value> = eventually(async || {
        let text = std::fs::read_to_string(&audit).expect("an audit log");
        text.contains("\"ended\"").then(|| {
            let lines = text.lines();
            lines
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect()
        })
    })
    .await;
    let events: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry["event"].as_str())
        .collect();
    for event in [
        "server_began",
        "granted",
        "session_began",
        "lease_refused",
        "request_refused",
        "ended",
    ] {
        assert!(events.contains(&event), "{event}: {events:?}");
    }
    let ended = entries
        .iter()
        .find(|entry| entry["event"] == "ended")
        .expect("an end");
    assert_eq!(
        (&ended["lease"], &ended["reason"]),
        (&held.id.into(), &"released".into())
    );
}

#[tokio::test]
async fn a_lease_that_runs_nothing_ends_after_a_warning() {
    let server = Server::start("[pool]\nidle_limit = '3s'", "1", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    let (held, mut stream) = lease(&mut pool, whole(1)).await.expect("a lease");
    let mut its = session(&server.unix, &held.id).expect("a session");
    let mut warnings = 0;
    loop {
        match next(&mut stream).await {
            Event::Warning(warning) => {
                assert!(warning.message.contains("no kernel"), "{}", warning.message);
                warnings += 1;
            }
            Event::Ended(ended) => {
                assert_eq!(ended.end(), LeaseEnd::Idle);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // The session's own start may come after the first of them.
    assert!((1..=2).contains(&warnings), "{warnings}");
    wait_for_end(&mut its);
}

/// The lease of the first one is on its way to the disk when the others come: they share it, with one ledger, and none gets a device of its own.
#[tokio::test]
async fn programs_that_come_together_share_one_lease() {
    let server = Server::with_state("", "2", "1GiB");
    let mut pool = server.pool(&server.unix).await;
    for _ in 0..10 {
        let together = std::sync::Arc::new(std::sync::Barrier::new(4));
        let come = |_| {
            let (together, address) = (together.clone(), server.unix.clone());
            std::thread::spawn(move || {
                together.wait();
                session(&address, "")
            })
        };
        let threads: Vec<_> = (0..4).map(come).collect();
        let sessions: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic").expect("a session"))
            .collect();
        let leases = pool
            .leases(LeasesRequest {})
            .await
            .expect("leases")
            .into_inner();
        let [lease] = &leases.leases[..] else {
            panic!("{:?}", leases.leases)
        };
        assert_eq!(lease.sessions, 4);
        drop(sessions);
        eventually(async || {
            let leases = pool.leases(LeasesRequest {}).await.expect("leases");
            leases.into_inner().leases.is_empty().then_some(())
        })
        .await;
    }
}
