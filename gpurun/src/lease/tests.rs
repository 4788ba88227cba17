//! Asking several servers, and keeping what they give; with pools in this process.

use control_plane::acquire_event::Event;
use control_plane::{Ended, LeaseEnd};
use protocol::credentials::Credential;
use tonic::Code;

use super::keep::{AtEnd, Keeper};
use super::*;
use crate::exit::{NO_SERVER, REFUSED, WAIT_OVER};
use crate::pool::fake::{Answer, Fake, LIMIT, granted, send};

fn want(patience: Patience) -> Want {
    Want {
        need: DeviceNeed::default(),
        patience,
        is_detached: false,
        time: None,
        program: "train".to_owned(),
    }
}

async fn ask_for(servers: &[Server], patience: Patience) -> Result<Grant, Failure> {
    let want = want(patience);
    let asking = acquire(servers, &want);
    tokio::time::timeout(LIMIT, asking).await.expect("in time")
}

fn nobody() -> Server {
    let address = "127.0.0.1:1".parse().expect("an address");
    Server::new(address, Credential::default())
}

#[tokio::test]
async fn what_is_free_is_granted() {
    let (fake, server) = Fake::start(&[Answer::Grant("l-1")]).await;
    let grant = ask_for(&[server], Patience::None).await.expect("granted");
    assert_eq!(grant.held.lease.id, "l-1");
    let request = fake.until(|seen| seen.acquired.first().cloned()).await;
    assert!(request.no_wait && !request.detached && !request.request.is_empty());
    let identity = request.identity.expect("an identity");
    assert_eq!(identity.program, "train");
    assert_eq!(identity.process, std::process::id());
}

#[tokio::test]
async fn the_first_grant_withdraws_the_others() {
    let (full, one) = Fake::start(&[Answer::Queue(2)]).await;
    let (quick, two) = Fake::start(&[Answer::Nothing]).await;
    let servers = [one, two];
    let asking = ask_for(&servers, Patience::Endless);
    let granting = async {
        let (of_full, of_quick) = (full.stream(0).await, quick.stream(0).await);
        send(&of_quick, granted("l-2")).await;
        of_full
    };
    let (grant, of_full) = tokio::join!(asking, granting);
    let grant = grant.expect("granted");
    assert_eq!(grant.held.lease.id, "l-2");
    grant.returning.join_all().await;
    tokio::time::timeout(LIMIT, of_full.closed())
        .await
        .expect("withdrawn");
    let released = full.until(|seen| Some(seen.released.len())).await;
    assert_eq!(released, 0, "it had given nothing");
}

#[tokio::test]
async fn a_second_grant_goes_back_at_once() {
    let (one, first) = Fake::start(&[Answer::Grant("l-1")]).await;
    let (two, second) = Fake::start(&[Answer::Grant("l-2")]).await;
    let grant = ask_for(&[first, second], Patience::Endless).await;
    let grant = grant.expect("granted");
    let (loser, lost) = match grant.held.lease.id.as_str() {
        "l-1" => (two, "l-2"),
        _ => (one, "l-1"),
    };
    let Grant { held, returning } = grant;
    returning.join_all().await;
    // A server that was not asked yet has nothing to take back.
    let (asked, released) = loser
        .until(|seen| Some((seen.acquired.len(), seen.released.clone())))
        .await;
    assert_eq!(released.len(), asked);
    assert!(released.iter().all(|id| id == lost));
    drop(held);
}

#[tokio::test]
async fn a_late_grant_goes_back_too() {
    let (late, one) = Fake::start(&[Answer::Nothing]).await;
    let (quick, two) = Fake::start(&[Answer::Nothing]).await;
    let servers = [one, two];
    let asking = ask_for(&servers, Patience::Endless);
    let both = async {
        let (of_late, of_quick) = (late.stream(0).await, quick.stream(0).await);
        send(&of_quick, granted("l-2")).await;
        of_late
    };
    let (grant, of_late) = tokio::join!(asking, both);
    let grant = grant.expect("granted");
    send(&of_late, granted("l-1")).await;
    grant.returning.join_all().await;
    assert_eq!(
        late.until(|seen| seen.released.first().cloned()).await,
        "l-1"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_keeps_nobody_waiting() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dumb = crate::pool::fake::server(listener.local_addr().expect("an address"));
    let (_, server) = Fake::start(&[Answer::Grant("l-1")]).await;
    let begin = Instant::now();
    let grant = ask_for(&[dumb, server], Patience::Endless).await;
    let grant = grant.expect("granted");
    assert_eq!(grant.held.lease.id, "l-1");
    assert!(
        begin.elapsed() < ANSWER_LIMIT,
        "not as long as an answer may take"
    );
    // A lease that it may have granted as well is waited for, but not without end.
    tokio::time::timeout(LIMIT, grant.settle())
        .await
        .expect("an end");
}

#[tokio::test]
async fn the_queue_moves() {
    let (fake, server) = Fake::start(&[Answer::Queue(1)]).await;
    let servers = [server];
    let asking = ask_for(&servers, Patience::Endless);
    let moving = async {
        let stream = fake.stream(0).await;
        send(&stream, granted("l-9")).await;
    };
    let (grant, ()) = tokio::join!(asking, moving);
    assert_eq!(grant.expect("granted").held.lease.id, "l-9");
}

#[tokio::test]
async fn who_is_not_there_is_passed_over() {
    let (_, server) = Fake::start(&[Answer::Grant("l-1")]).await;
    let servers = [nobody(), server];
    let grant = ask_for(&servers, Patience::Endless).await.expect("granted");
    assert_eq!(grant.held.lease.id, "l-1");
    let failure = ask_for(&servers[..1], Patience::Endless).await;
    let failure = failure.expect_err("nobody");
    assert_eq!(failure.status(), NO_SERVER);
}

#[tokio::test]
async fn all_refuse() {
    let few = "no server has 9 devices; largest: x with 1";
    let more = "no server has 9 devices; largest: y with 4";
    let (_, one) = Fake::start(&[Answer::Refuse(Code::FailedPrecondition, few)]).await;
    let (_, two) = Fake::start(&[Answer::Refuse(Code::FailedPrecondition, more)]).await;
    let failure = ask_for(&[two.clone(), one], Patience::Endless).await;
    let failure = failure.expect_err("refused");
    assert_eq!(
        (failure.status(), failure.to_string()),
        (REFUSED, more.to_owned())
    );

    let busy = Answer::Refuse(Code::ResourceExhausted, "nothing is free: all is taken");
    let (_, busy) = Fake::start(&[busy]).await;
    let failure = ask_for(&[busy], Patience::None).await.expect_err("refused");
    assert_eq!(failure.status(), REFUSED);
    assert!(
        failure
            .to_string()
            .ends_with("refused: nothing is free: all is taken")
    );
}

#[tokio::test]
async fn a_lease_with_a_name_for_terminals_is_none() {
    let (_, server) = Fake::start(&[Answer::Grant("l-\u{1b}]0;x")]).await;
    let failure = ask_for(&[server], Patience::Endless).await;
    assert_eq!(failure.expect_err("no lease").status(), REFUSED);
}

#[tokio::test]
async fn a_wait_has_an_end() {
    let (fake, server) = Fake::start(&[Answer::Queue(3)]).await;
    let patience = Patience::Until(Duration::from_millis(50));
    let failure = ask_for(&[server], patience).await.expect_err("over");
    assert_eq!(failure.status(), WAIT_OVER);
    assert!(failure.to_string().contains("place 3 of 3"), "{failure}");
    let stream = fake.stream(0).await;
    tokio::time::timeout(LIMIT, stream.closed())
        .await
        .expect("withdrawn");
}

#[tokio::test]
async fn a_broken_queue_is_joined_again() {
    let (fake, server) = Fake::start(&[Answer::Queue(1), Answer::Grant("l-1")]).await;
    let servers = [server];
    let asking = ask_for(&servers, Patience::Endless);
    let breaking = async {
        let stream = fake.stream(0).await;
        // As tonic tells of a connection that broke: without an answer of the server's.
        fake.end_of(0);
        drop(stream);
    };
    let (grant, ()) = tokio::join!(asking, breaking);
    assert_eq!(grant.expect("granted").held.lease.id, "l-1");
    assert_eq!(fake.until(|seen| Some(seen.acquired.len())).await, 2);
}

#[tokio::test]
async fn a_request_that_waits_can_be_refused_after_all() {
    let (fake, server) = Fake::start(&[Answer::Queue(1)]).await;
    let servers = [server];
    let asking = ask_for(&servers, Patience::Endless);
    let refusing = async {
        let stream = fake.stream(0).await;
        let ended = Ended {
            end: LeaseEnd::Unspecified.into(),
            message: "the server is draining".to_owned(),
        };
        send(&stream, Event::Ended(ended)).await;
    };
    let (failure, ()) = tokio::join!(asking, refusing);
    let failure = failure.expect_err("refused");
    assert_eq!(failure.status(), REFUSED);
    assert!(
        failure
            .to_string()
            .ends_with("refused: the server is draining")
    );
}

/// A grant on a runtime of its own, as gpurun has it.
fn kept(answers: &[Answer]) -> (tokio::runtime::Runtime, Fake, Keeper) {
    let serving = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (fake, server) = serving.block_on(Fake::start(answers));
    let runtime = crate::pool::runtime().unwrap_or_else(|failure| panic!("{failure}"));
    let grant = runtime.block_on(ask_for(&[server], Patience::Endless));
    let grant = grant.expect("granted");
    let keeper = Keeper::start(runtime, grant, AtEnd::Release);
    (
        serving,
        fake,
        keeper.unwrap_or_else(|failure| panic!("{failure}")),
    )
}

#[test]
fn a_lease_is_given_back_at_the_end() {
    let (serving, fake, keeper) = kept(&[Answer::Grant("l-1")]);
    keeper.end();
    let released = serving.block_on(fake.until(|seen| Some(seen.released.clone())));
    assert_eq!(released, ["l-1"]);
}

#[test]
fn a_lease_is_held_again_when_its_stream_breaks() {
    let (serving, fake, keeper) = kept(&[Answer::Grant("l-1"), Answer::Nothing]);
    serving.block_on(async {
        fake.stream(0).await;
        fake.end_of(0);
        let held = fake.until(|seen| seen.held.first().cloned()).await;
        assert_eq!(held, "l-1");
    });
    keeper.end();
    let released = serving.block_on(fake.until(|seen| Some(seen.released.clone())));
    assert_eq!(released, ["l-1"]);
}

#[test]
fn a_lease_is_held_again_by_the_next_server() {
    let ending = Answer::Refuse(Code::Unavailable, "the server is ending");
    let (serving, fake, keeper) = kept(&[Answer::Grant("l-1"), ending, Answer::Nothing]);
    serving.block_on(async {
        fake.stream(0).await;
        fake.end_of(0);
        let held = fake
            .until(|seen| (seen.held.len() == 2).then(|| seen.held.clone()))
            .await;
        assert_eq!(held, ["l-1", "l-1"]);
    });
    keeper.end();
}

#[test]
fn a_lease_that_is_over_is_not_given_back() {
    let (serving, fake, keeper) = kept(&[Answer::Grant("l-1")]);
    serving.block_on(async {
        let stream = fake.stream(0).await;
        let ended = Ended {
            end: LeaseEnd::Expired.into(),
            message: "its time is over".to_owned(),
        };
        send(&stream, Event::Ended(ended)).await;
        tokio::time::timeout(LIMIT, stream.closed())
            .await
            .expect("the keeper has heard it");
    });
    keeper.end();
    let released = serving.block_on(fake.until(|seen| Some(seen.released.len())));
    assert_eq!(released, 0);
}

#[test]
fn pauses_grow_to_their_longest() {
    let mut pauses = Pauses::default();
    let all: Vec<u128> = (0..7).map(|_| pauses.next().as_millis()).collect();
    assert_eq!(all, [250, 500, 1000, 2000, 4000, 5000, 5000]);
}
