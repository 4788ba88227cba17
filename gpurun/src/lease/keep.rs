//! A lease while its program runs: its stream is held by a thread of ours, its warnings are said, and at the end it is given back.
//!
//! What: [`Keeper::start`] takes the runtime of the connection over to a thread; [`Keeper::end`] ends it. Why a thread: the main one waits for signals
//! and for the program. Rules: a stream that breaks is held again, for as long as the program runs; at the end nothing is waited for longer than
//! [`END_LIMIT`]: what is not given back then ends with the stream.

use std::thread::JoinHandle;
use std::time::Duration;

use control_plane::acquire_event::Event;
use control_plane::{AcquireEvent, LeaseEnd};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::{Grant, Held, Pauses};
use crate::exit::Failure;
use crate::pool::{Events, Pool, PoolError, Server};
use crate::text::{self, say};

/// Most time for giving back.
pub(super) const END_LIMIT: Duration = Duration::from_secs(2);

/// What becomes of the lease at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// It is given back: it was the program's.
    Release,
    /// It stays: it is somebody else's, or ends with its server.
    Leave,
}

/// The thread that keeps a lease.
pub(crate) struct Keeper {
    thread: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Keeper {
    /// Begins to keep it. Signals must be blocked already: they are the main thread's.
    pub(crate) fn start(runtime: Runtime, grant: Grant, at_end: AtEnd) -> Result<Self, Failure> {
        let (end, is_over) = oneshot::channel();
        let keep = move || {
            runtime.block_on(keep(grant, at_end, is_over));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("gpurun-lease".to_owned())
            .spawn(keep)
            .map_err(|error| Failure::internal("cannot start a thread", error))?;
        Ok(Self { thread, end })
    }

    /// Gives the lease back, if that was said, and ends.
    pub(crate) fn end(self) {
        // It fails only if the thread has ended already.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

async fn keep(grant: Grant, at_end: AtEnd, mut is_over: oneshot::Receiver<()>) {
    let Grant {
        mut held,
        returning,
    } = grant;
    let is_kept = tokio::select! {
        biased;
        _ = &mut is_over => true,
        () = follow(&mut held) => false,
    };
    let Held {
        pool,
        events,
        lease,
    } = held;
    if !is_kept {
        // There is nothing left to keep; the program sees it for itself.
        drop(events);
        let _ = is_over.await;
    } else if at_end == AtEnd::Release {
        give_back(&pool, &lease.id).await;
    }
    super::settle(returning).await;
}

/// Says what a lease's stream says, on a new connection where one breaks, until the lease is over.
async fn follow(held: &mut Held) {
    let server = held.pool.server().clone();
    let id = held.lease.id.clone();
    loop {
        let reason = match held.events.message().await {
            Ok(Some(event)) => match is_end(&id, event) {
                true => return,
                false => continue,
            },
            Ok(None) => super::ended(&server),
            Err(status) => held.pool.error_of(&status),
        };
        say(format!("{reason}; the program goes on, trying again"));
        match hold_again(&server, &id).await {
            Ok(again) => (held.pool, held.events) = again,
            Err(error) => return say(error),
        }
        say(format!("{} holds lease {id} again", server.name));
    }
}

/// Gives the lease back, or says that it is not.
async fn give_back(pool: &Pool, lease: &str) {
    let releasing = tokio::time::timeout(END_LIMIT, release(pool, lease));
    if releasing.await.is_err() {
        let (name, limit) = (&pool.server().name, END_LIMIT.as_secs());
        say(format!(
            "{name} did not take lease {lease} back in {limit} s; it ends by itself"
        ));
    }
}

/// Gives the lease back, on a new connection if need be.
async fn release(pool: &Pool, lease: &str) {
    let mut released = pool.release(lease).await;
    if matches!(released, Err(PoolError::Lost { .. } | PoolError::Silent(_))) {
        released = match Pool::open(pool.server()).await {
            Ok(pool) => pool.release(lease).await,
            Err(error) => Err(error),
        };
    }
    match released {
        // It ended while we were about to say so.
        Err(error) if error.is_not_found() => {}
        Err(error) => say(format!("lease {lease} is not given back: {error}")),
        Ok(()) => {}
    }
}

/// Holds the lease on a new connection, however often that has to be tried, also where the server is just ending: another one may come in its
/// place. Fails if the server says that there is no such lease.
async fn hold_again(server: &Server, lease: &str) -> Result<(Pool, Events), PoolError> {
    let mut pauses = Pauses::default();
    loop {
        tokio::time::sleep(pauses.next()).await;
        match hold(server, lease).await {
            Err(error) if !error.is_refusal() || error.is_unavailable() => {}
            result => return result,
        }
    }
}

/// Holds a lease on a new connection.
pub(crate) async fn hold(server: &Server, lease: &str) -> Result<(Pool, Events), PoolError> {
    let pool = Pool::open(server).await?;
    let events = pool.hold(lease).await?;
    Ok((pool, events))
}

/// Says what an event says; whether the lease is over.
fn is_end(lease: &str, event: AcquireEvent) -> bool {
    match event.event {
        Some(Event::Warning(warning)) => say(text::clean(&warning.message)),
        Some(Event::Ended(ended)) => {
            let message = text::clean(&ended.message);
            say(format!(
                "lease {lease} is over ({}): {message}",
                end_name(ended.end())
            ));
            return true;
        }
        Some(Event::Granted(_) | Event::Queued(_)) | None => {}
    }
    false
}

/// How a lease ended, in a word.
fn end_name(end: LeaseEnd) -> &'static str {
    match end {
        LeaseEnd::Unspecified => "ended",
        LeaseEnd::Released => "released",
        LeaseEnd::Expired => "expired",
        LeaseEnd::Idle => "idle",
        LeaseEnd::Revoked => "revoked",
        LeaseEnd::Drained => "drained",
        LeaseEnd::Abandoned => "abandoned",
    }
}
