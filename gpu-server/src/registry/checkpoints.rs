//! What sessions are asked to do with themselves: to stand still, to give up their memory, to go on.
//!
//! *What:* the daemon asks, the session's worker answers; both numbers and answers wait here. *Rules:* what is open is bounded for each session; only who was asked answers; who asked and does not
//! wait any more says so by dropping the question, and the worker hears of it; a session that ends answers nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::hello::control::{CheckpointOrder, Checkpointed};
use protocol::hello::{Checkpoint, CheckpointDone};
use tokio::sync::oneshot;

use super::daemon::Shared;
use super::loans::Word;

/// Most orders of one session that wait for an answer.
const MAX_OPEN: usize = 8;

/// All orders that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<u64, Open>,
    last: u64,
}

#[derive(Debug)]
struct Open {
    session: u64,
    answer: oneshot::Sender<CheckpointDone>,
}

/// Why a session cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOrdered {
    /// It is not there, or does not listen.
    Gone,
    /// It has been asked too much.
    Busy,
}

/// A question to a session; dropped, nobody waits for its answer.
#[derive(Debug)]
pub struct Order {
    shared: Arc<Shared>,
    request: u64,
    session: u64,
    answer: oneshot::Receiver<CheckpointDone>,
}

impl Order {
    /// What came of it; nothing if the session has ended.
    pub async fn answer(&mut self) -> Option<CheckpointDone> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if self.shared.checkpoints.forget(self.request) {
            self.shared
                .loans
                .say(self.session, Word::GiveUp(self.request));
        }
    }
}

impl Checkpoints {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a session.
    pub(super) fn order(
        shared: &Arc<Shared>,
        session: u64,
        checkpoint: Checkpoint,
    ) -> Result<Order, NotOrdered> {
        let mut inner = shared.checkpoints.lock();
        let open = inner.open.values().filter(|open| open.session == session);
        if open.count() >= MAX_OPEN {
            return Err(NotOrdered::Busy);
        }
        let request = inner.last + 1;
        inner.last = request;
        let (answer, answered) = oneshot::channel();
        inner.open.insert(request, Open { session, answer });
        drop(inner);
        let order = Order {
            shared: Arc::clone(shared),
            request,
            session,
            answer: answered,
        };
        let word = Word::Checkpoint(CheckpointOrder {
            request,
            checkpoint: Some(checkpoint),
        });
        match shared.loans.say(session, word) {
            true => Ok(order),
            false => Err(NotOrdered::Gone),
        }
    }

    /// A session has answered.
    pub(super) fn answered(&self, session: u64, answer: Checkpointed) {
        let mut inner = self.lock();
        let is_its = |open: &Open| open.session == session;
        if inner.open.get(&answer.request).is_some_and(is_its)
            && let Some(open) = inner.open.remove(&answer.request)
        {
            // Who asked may be gone.
            let _ = open.answer.send(answer.done.unwrap_or_default());
        }
    }

    /// A session is over, or does not hear: whoever waits for it is told by the end of what it waits at.
    pub(super) fn leave(&self, session: u64) {
        self.lock().open.retain(|_, open| open.session != session);
    }

    /// Nobody waits any more; whether it was still open.
    fn forget(&self, request: u64) -> bool {
        self.lock().open.remove(&request).is_some()
    }
}
