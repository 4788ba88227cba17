//! The thread that writes the store: nobody else waits for a disk.
//!
//! *What:* [`StoreThread::apply`] hands changes over and gives an [`Ack`], which comes once they are on the disk. *Rules:* what was handed over
//! in one call is written in one transaction; what came meanwhile goes with the next, so that many grants cost one wait for the disk. Of two
//! changes to the same thing only the later one is kept, so what is handed over is bounded by what there is. A write that fails is told to who
//! waits, and tried again with what has come since: an end that could not be written is not lost.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Change, Store};
use crate::pool::{LeaseId, Tenant};

/// After a failed write, the next one is tried this much later, or when something new comes.
const RETRY: Duration = Duration::from_secs(1);

/// Why something was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server cannot store this: {0}")]
pub struct NotStored(String);

/// Comes when the changes are on the disk, or could not be written.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<(), NotStored>>);

impl Future for Ack {
    type Output = Result<(), NotStored>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let told = Pin::new(&mut self.0).poll(context);
        told.map(|told| told.unwrap_or_else(|_| Err(NotStored("its store has ended".to_owned()))))
    }
}

impl Ack {
    /// Waits for it, where a thread may.
    ///
    /// # Errors
    /// It was not stored.
    pub fn wait(self) -> Result<(), NotStored> {
        let told = self.0.blocking_recv();
        told.unwrap_or_else(|_| Err(NotStored("its store has ended".to_owned())))
    }
}

/// What a change is about: a later one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Lease(LeaseId),
    Reading(LeaseId),
    Usage(Tenant),
    Drain,
    Sessions,
}

impl Subject {
    fn of(change: &Change) -> Self {
        match change {
            Change::Lease(lease) => Self::Lease(lease.id.clone()),
            Change::Forget(lease) => Self::Lease(lease.clone()),
            Change::Reading(lease, _) => Self::Reading(lease.clone()),
            Change::Usage(tenant, _) => Self::Usage(tenant.clone()),
            Change::Drain(_) => Self::Drain,
            Change::Sessions(_) => Self::Sessions,
        }
    }
}

/// What is to be written, and who waits for it.
#[derive(Debug, Default)]
struct Pending {
    changes: BTreeMap<Subject, Change>,
    waiting: Vec<oneshot::Sender<Result<(), NotStored>>>,
    is_closed: bool,
}

impl Pending {
    fn add(&mut self, change: Change) {
        if let Change::Forget(lease) = &change {
            self.changes.remove(&Subject::Reading(lease.clone()));
        }
        self.changes.insert(Subject::of(&change), change);
    }

    /// Takes back what could not be written, unless something later is there.
    fn take_back(&mut self, changes: BTreeMap<Subject, Change>) {
        for (subject, change) in changes {
            let is_forgotten = match &subject {
                Subject::Reading(lease) => {
                    let lease = self.changes.get(&Subject::Lease(lease.clone()));
                    matches!(lease, Some(Change::Forget(_)))
                }
                _ => false,
            };
            if !is_forgotten {
                self.changes.entry(subject).or_insert(change);
            }
        }
    }

    /// What is written in one go. Whether a lease is forgotten is written last, so that nothing of it comes after.
    fn batch(changes: &BTreeMap<Subject, Change>) -> Vec<Change> {
        let is_last = |change: &&Change| matches!(change, Change::Forget(_));
        let first = changes.values().filter(|change| !is_last(change));
        let last = changes.values().filter(is_last);
        first.chain(last).cloned().collect()
    }
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes a store.
#[derive(Debug)]
pub struct StoreThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts it.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(store: Store) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(store, &theirs))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Hands changes over, to be written together. Never waits.
    #[must_use = "a grant is told when it is stored; drop the acknowledgement of what nobody is told"]
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Ack {
        let (tell, told) = oneshot::channel();
        let mut pending = self.shared.pending();
        changes.into_iter().for_each(|change| pending.add(change));
        pending.waiting.push(tell);
        drop(pending);
        self.shared.changed.notify_one();
        Ack(told)
    }

    /// Writes all that was handed over, and ends: at the end of the daemon, where a thread may wait. A disk that does not take it is logged.
    pub fn end(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.shared.pending().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the pool's state has panicked");
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut store: Store, shared: &Shared) {
    let mut is_failing = false;
    loop {
        let mut pending = shared.pending();
        while pending.waiting.is_empty() && !pending.is_closed {
            if is_failing && !pending.changes.is_empty() {
                let waited = shared.changed.wait_timeout(pending, RETRY);
                pending = waited.unwrap_or_else(PoisonError::into_inner).0;
                break;
            }
            let waited = shared.changed.wait(pending);
            pending = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let is_closed = pending.is_closed;
        let changes = std::mem::take(&mut pending.changes);
        let waiting = std::mem::take(&mut pending.waiting);
        drop(pending);
        let result = match changes.is_empty() {
            true => Ok(()),
            false => store.apply(&Pending::batch(&changes)),
        };
        let told = result.map_err(|error| {
            if !is_failing || is_closed {
                tracing::error!("the pool's state is not stored: {error}; trying again");
            }
            shared.pending().take_back(changes);
            NotStored(error.to_string())
        });
        if told.is_ok() && std::mem::replace(&mut is_failing, told.is_err()) {
            tracing::info!("the pool's state is stored again");
        }
        is_failing = told.is_err();
        for waiting in waiting {
            // Who does not want to know has gone.
            let _ = waiting.send(told.clone());
        }
        if is_closed {
            return;
        }
    }
}
