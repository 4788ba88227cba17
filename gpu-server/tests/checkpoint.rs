//! Whose sessions can be suspended, and by whom: hellos that ask for the session of a process, at a real daemon.

mod common;

use common::{Server, bytes, hello, lease, session};
use driver_api::checkpoint::state;
use driver_api::result::CUresult;
use protocol::address::Address;
use protocol::connect::{self, ConnectError, Session};
use protocol::hello::{
    Checkpoint, CheckpointOperation, DevicePair, DeviceRequest, Hello, Identity, Intent,
    RefusalCode,
};
use protocol::transport::Patience;

use CheckpointOperation::{Lock, Restore, State, Unlock};

/// What comes of asking, as this identity.
fn ask_as(
    address: &Address,
    identity: Identity,
    lease: &str,
    checkpoint: Checkpoint,
) -> Result<(CUresult, u32), ConnectError> {
    let hello = Hello {
        identity: Some(identity),
        lease: lease.to_owned(),
        checkpoint: Some(checkpoint),
        waits: true,
        ..Hello::new(Intent::Checkpoint)
    };
    let socket = connect::connect(address).expect("it listens");
    let accepted = connect::say_hello(address, &socket, &hello)?;
    let done = accepted.checkpoint.expect("what came of it");
    Ok((CUresult(done.result), done.state))
}

fn order(operation: CheckpointOperation, process: u32) -> Checkpoint {
    Checkpoint {
        operation: operation.into(),
        process,
        ..Checkpoint::default()
    }
}

fn ask(address: &Address, operation: CheckpointOperation, process: u32) -> (CUresult, u32) {
    let identity = Identity::of_this_process();
    ask_as(address, identity, "", order(operation, process)).expect("an answer")
}

const RUNNING: (CUresult, u32) = (CUresult::SUCCESS, state::RUNNING);
const NOBODY: (CUresult, u32) = (CUresult::INVALID_VALUE, 0);
const DONE: (CUresult, u32) = (CUresult::SUCCESS, 0);

fn own() -> u32 {
    std::process::id()
}

/// A session of a process that says that it has this number.
fn session_of(address: &Address, process: u32) -> Session {
    let mut hello = hello(DeviceRequest::default());
    if let Some(identity) = &mut hello.identity {
        identity.process = process;
    }
    connect::open_session(address, &hello, Patience::default()).expect("a session")
}

#[test]
fn a_process_is_found_by_its_own_tenant_machine_user_and_numbers() {
    let server = Server::start("", "1", "64MiB");
    let _session = session_of(&server.unix, own());
    assert_eq!(ask(&server.unix, State, own()), RUNNING);
    assert_eq!(ask(&server.unix, State, own() + 1), NOBODY);
    // Another tenant.
    assert_eq!(ask(&server.tcp, State, own()), NOBODY);
    assert_eq!(ask(&server.tcp, Lock, own()), NOBODY);
    let identity = Identity::of_this_process();
    let others = [
        Identity {
            host: "elsewhere".to_owned(),
            ..identity.clone()
        },
        Identity {
            user: "somebody".to_owned(),
            ..identity.clone()
        },
        Identity {
            process_namespace: "another".to_owned(),
            ..identity.clone()
        },
        Identity {
            process_namespace: String::new(),
            ..identity.clone()
        },
    ];
    for other in others {
        let answer = ask_as(&server.unix, other, "", order(Lock, own()));
        assert_eq!(answer.expect("an answer"), NOBODY);
    }
    assert_eq!(ask(&server.unix, State, own()), RUNNING);
}

#[tokio::test]
async fn who_has_a_lease_finds_what_runs_under_it() {
    let server = Server::start("", "1", "64MiB");
    let mut pool = server.pool(&server.unix).await;
    let (one, _keep) = lease(&mut pool, bytes(16 << 20)).await.expect("a lease");
    let (other, _keep_too) = lease(&mut pool, bytes(16 << 20)).await.expect("a lease");
    let _session = session(&server.unix, &one.id).expect("a session");
    let ask = |lease: &str| {
        let identity = Identity::of_this_process();
        ask_as(&server.unix, identity, lease, order(State, own()))
    };
    assert_eq!(ask(&one.id).expect("an answer"), RUNNING);
    assert_eq!(ask("").expect("an answer"), RUNNING, "of the same user");
    assert_eq!(ask(&other.id).expect("an answer"), NOBODY);
    let refused = ask("no lease's name!").expect_err("no name");
    assert!(matches!(
        refused,
        ConnectError::Refused {
            code: RefusalCode::Lease,
            ..
        }
    ));
}

#[test]
fn orders_reach_the_youngest_session_and_end_with_it() {
    let server = Server::start("", "1", "64MiB");
    let older = session_of(&server.unix, own());
    let younger = session_of(&server.unix, own());
    assert_eq!(ask(&server.unix, Lock, own()), DONE);
    assert_eq!(ask(&server.unix, State, own()).1, state::LOCKED);
    let illegal = (CUresult::ILLEGAL_STATE, 0);
    assert_eq!(ask(&server.unix, Lock, own()), illegal);
    assert_eq!(ask(&server.unix, Restore, own()), illegal);
    drop(younger);
    // Its worker ends, though it stands still; then there is the older one, which nobody has locked.
    let deadline = std::time::Instant::now() + common::LIMIT;
    while ask(&server.unix, State, own()) != RUNNING {
        assert!(std::time::Instant::now() < deadline, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(older);
}

#[test]
fn a_suspended_session_outlives_its_daemon() {
    let mut server = Server::with_state("", "1", "64MiB");
    let session = session_of(&server.unix, own());
    assert_eq!(ask(&server.unix, Lock, own()), DONE);
    let checkpoint = CheckpointOperation::Checkpoint;
    assert_eq!(ask(&server.unix, checkpoint, own()), DONE);
    server = server.restart(rustix::process::Signal::KILL);
    assert_eq!(ask(&server.unix, State, own()).1, state::CHECKPOINTED);
    assert_eq!(ask(&server.unix, Restore, own()), DONE);
    assert_eq!(ask(&server.unix, Unlock, own()), DONE);
    assert_eq!(ask(&server.unix, State, own()), RUNNING);
    drop(session);
}

#[test]
fn what_is_no_order_is_refused() {
    let server = Server::start("", "1", "64MiB");
    let _session = session_of(&server.unix, own());
    let wrong = |checkpoint| {
        let identity = Identity::of_this_process();
        ask_as(&server.unix, identity, "", checkpoint).expect_err("our own side sends none")
    };
    let unspecified = CheckpointOperation::Unspecified;
    let short = DevicePair {
        old: vec![1; 15],
        new: vec![1; 16],
    };
    let pair = DevicePair {
        old: vec![1; 16],
        ..short.clone()
    };
    wrong(order(unspecified, own()));
    wrong(Checkpoint {
        pairs: vec![short],
        ..order(Restore, own())
    });
    wrong(Checkpoint {
        pairs: vec![pair; 65],
        ..order(Restore, own())
    });
    assert_eq!(ask(&server.unix, State, own()), RUNNING);
}
