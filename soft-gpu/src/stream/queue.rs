//! A stream: operations that happen one after the other.
//!
//! ```text
//! call ──post──▶ queue ──▶ executor: waits for the points the operation depends on, runs it, counts it
//! ```
//!
//! Operations are counted per stream; a [`Point`] is such a count, and everything that waits (events, barriers between
//! streams, synchronising calls) waits for a point. Points only ever refer to operations posted
//! earlier, so streams cannot wait for each other in a circle.
//!
//! The executor is a thread that starts with the first operation and ends after a while without any. A call that
//! has to wait for its own operation anyway runs it itself if nothing is before it.
//!
//! Rules: an operation of a context that has faulted is not run, but still counted. No lock is held while one runs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driver_api::abi::CUresult;

use super::Attributes;
use crate::capture::Captured;
use crate::context::Fate;
use crate::hostile::Hostile;
use crate::log::warn;
use crate::threads::{self, lock};

/// An executor without work for so long ends.
const IDLE_LIMIT: Duration = Duration::from_millis(500);
/// How often a wait looks whether its context is being torn down.
const ABORT_POLL: Duration = Duration::from_millis(50);

thread_local! {
    static MULTIPROCESSORS: Cell<Option<&'static [u32]>> = const { Cell::new(None) };
}

/// The multiprocessors of the stream whose operation runs on this thread, if it has not all.
pub(crate) fn own_multiprocessors() -> Option<&'static [u32]> {
    MULTIPROCESSORS.get()
}

/// What an operation does. It is told how its context fares, and says how it ended.
pub(crate) type Work = Box<dyn FnOnce(Result<(), CUresult>) -> Result<(), CUresult> + Send>;

struct Operation {
    after: Vec<Point>,
    work: Work,
}

#[derive(Default)]
struct State {
    operations: VecDeque<Operation>,
    /// Operations ever posted.
    posted: u64,
    /// Somebody runs an operation.
    busy: bool,
    /// There is an executor.
    executor: bool,
}

/// Which of a context's streams it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The legacy default stream, with its barriers.
    Legacy,
    /// The default stream of one thread.
    PerThread,
    /// Made by the program.
    Created,
}

/// One stream.
pub(crate) struct Stream {
    pub(crate) handle: usize,
    pub(crate) id: u64,
    pub(crate) role: Role,
    pub(crate) flags: u32,
    pub(crate) attributes: Attributes,
    pub(crate) fate: Arc<Fate>,
    /// The green context that it is in, by its handle; 0 for none.
    pub(crate) green: usize,
    /// The multiprocessors that its kernels run on, if not on all.
    multiprocessors: Option<&'static [u32]>,
    /// Its green context has ended.
    is_detached: AtomicBool,
    /// The graph that is being made of its operations.
    pub(crate) captured: Mutex<Option<Captured>>,
    queue_depth: usize,
    state: Mutex<State>,
    /// An operation arrived, or was taken, or finished.
    changed: Condvar,
    /// Operations ever finished.
    completed: AtomicU64,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream {:#x}", self.handle)
    }
}

/// A place in a stream.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) stream: Arc<Stream>,
    count: u64,
}

impl Point {
    /// Whether everything up to here has finished.
    pub(crate) fn is_done(&self) -> bool {
        self.stream.completed.load(Ordering::Acquire) >= self.count
    }

    /// Waits until it has.
    pub(crate) fn wait(&self) {
        if self.is_done() {
            return;
        }
        let mut state = self.stream.lock();
        while !self.is_done() && !self.stream.fate.is_aborted() {
            state = self
                .stream
                .changed
                .wait_timeout(state, ABORT_POLL)
                .map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
    }
}

impl Stream {
    pub(crate) fn new(
        (handle, id): (usize, u64),
        role: Role,
        (flags, priority): (u32, i32),
        fate: Arc<Fate>,
        hostile: &Hostile,
    ) -> Self {
        Self {
            handle,
            id,
            role,
            flags,
            attributes: Attributes::new(priority),
            fate,
            green: 0,
            multiprocessors: None,
            is_detached: AtomicBool::new(false),
            captured: Mutex::default(),
            queue_depth: hostile.queue_depth(),
            state: Mutex::default(),
            changed: Condvar::new(),
            completed: AtomicU64::new(0),
        }
    }

    /// The same in a green context.
    pub(crate) fn in_green(mut self, green: usize, multiprocessors: &'static [u32]) -> Self {
        self.green = green;
        self.multiprocessors = Some(multiprocessors);
        self
    }

    pub(crate) fn multiprocessors(&self) -> Option<&'static [u32]> {
        self.multiprocessors
    }

    pub(crate) fn detach(&self) {
        self.is_detached.store(true, Ordering::Release);
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether it takes part in the barriers of the legacy stream.
    pub(crate) fn is_blocking(&self) -> bool {
        const NON_BLOCKING: u32 = 1;
        self.flags & NON_BLOCKING == 0
    }

    /// The place behind everything posted so far.
    pub(crate) fn latest(self: &Arc<Self>) -> Point {
        Point {
            stream: Arc::clone(self),
            count: self.lock().posted,
        }
    }

    /// Posts an operation. Blocks while the queue is full.
    pub(crate) fn post(self: &Arc<Self>, after: Vec<Point>, work: Work) -> Point {
        let mut state = self.lock();
        while state.operations.len() >= self.queue_depth && !self.fate.is_aborted() {
            state = self
                .changed
                .wait_timeout(state, ABORT_POLL)
                .map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
        state.operations.push_back(Operation { after, work });
        state.posted += 1;
        let count = state.posted;
        let start = !std::mem::replace(&mut state.executor, true);
        drop(state);
        if start {
            self.start_executor();
        } else {
            self.changed.notify_all();
        }
        Point {
            stream: Arc::clone(self),
            count,
        }
    }

    /// Runs an operation and waits for its end; on the calling thread, if nothing is before it.
    pub(crate) fn run(self: &Arc<Self>, after: Vec<Point>, work: Work) {
        let mut state = self.lock();
        let idle = state.operations.is_empty() && !state.busy && after.iter().all(Point::is_done);
        if !idle {
            drop(state);
            self.post(after, work).wait();
            return;
        }
        state.busy = true;
        state.posted += 1;
        drop(state);
        self.perform(Operation {
            after: Vec::new(),
            work,
        });
    }

    fn start_executor(self: &Arc<Self>) {
        let stream = Arc::clone(self);
        if let Err(error) = threads::spawn("gpurun-stream", move || stream.execute()) {
            warn(&format!("cannot start a thread for a stream: {error}"));
            // Without a thread, the caller does the work.
            self.execute();
        }
    }

    /// The executor's loop.
    fn execute(&self) {
        loop {
            let mut state = self.lock();
            while state.busy || state.operations.is_empty() {
                let waited = self.changed.wait_timeout(state, IDLE_LIMIT);
                let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = back;
                if timeout.timed_out() && !state.busy && state.operations.is_empty() {
                    state.executor = false;
                    return;
                }
            }
            let Some(operation) = state.operations.pop_front() else {
                continue;
            };
            state.busy = true;
            drop(state);
            self.changed.notify_all();
            self.perform(operation);
        }
    }

    /// Runs an operation that was taken while `busy` was set.
    fn perform(&self, operation: Operation) {
        operation.after.iter().for_each(Point::wait);
        let status = self.fate.status();
        let work = AssertUnwindSafe(|| (operation.work)(status));
        MULTIPROCESSORS.set(self.multiprocessors);
        let result = catch_unwind(work).unwrap_or(Err(CUresult::UNKNOWN));
        MULTIPROCESSORS.set(None);
        if let Err(error) = result {
            self.fate.fail(error);
        }
        let mut state = self.lock();
        state.busy = false;
        self.completed.fetch_add(1, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }
}
