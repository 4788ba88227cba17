//! Persistent threads that execute blocks.
//!
//! The thread that calls [`Pool::execute`] works too, so that a launch of one block wakes nobody. Waking costs
//! about 25 µs on an idle virtual core.
//!
//! # Safety
//!
//! A job borrows from the stack of the thread in `execute`, which does not return before every thread that took
//! the job has left it: a thread takes a job by raising `inside` while it holds the queue's lock, and `execute`
//! removes the job from the queue under the same lock before it waits for `inside` to fall to zero.
#![expect(
    unsafe_code,
    reason = "jobs borrow from the caller's stack; pool threads block signals"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::threads::lock;

/// The threads of the device. Launches of several streams can run on one pool at a time.
pub struct Pool {
    threads: usize,
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when there is a job.
    work: Condvar,
    /// Signalled when a thread leaves a job.
    left: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    next_id: u64,
    stopping: bool,
    /// Threads inside a job, by the job's number.
    inside: Vec<(u64, usize)>,
}

/// A function that several threads call at the same time.
#[derive(Clone, Copy)]
struct Job {
    id: u64,
    /// More threads that may still take it.
    wanted: usize,
    function: *const (dyn Fn() + Sync),
}

// SAFETY: the function is `Sync`, and lives until every thread has left it, as the module says.
unsafe impl Send for Job {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, counting the one that calls [`super::run`].
    pub fn new(threads: usize) -> Pool {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            left: Condvar::new(),
        });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("soft-gpu-{number}"));
            builder.spawn(move || work(&shared)).ok()
        };
        let handles = with_signals_blocked(|| (1..threads).filter_map(spawn).collect());
        Pool {
            threads,
            shared,
            handles,
        }
    }

    /// A pool as wide as the machine.
    pub fn of_machine() -> Pool {
        Pool::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// How many threads execute a launch at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `function` on this thread and on up to `helpers` others, and returns when all calls have returned.
    pub(crate) fn execute(&self, helpers: usize, function: &(dyn Fn() + Sync)) {
        let helpers = helpers.min(self.handles.len());
        if helpers == 0 {
            return function();
        }
        let id = self.offer(helpers, function);
        let guard = Withdraw { pool: self, id };
        function();
        drop(guard);
    }

    fn offer(&self, helpers: usize, function: &(dyn Fn() + Sync)) -> u64 {
        let mut state = lock(&self.shared.state);
        let id = state.next_id;
        state.next_id += 1;
        let pointer: *const (dyn Fn() + Sync + '_) = function;
        // SAFETY: only the lifetime changes; the job is withdrawn before the borrow ends.
        let function: *const (dyn Fn() + Sync + 'static) = unsafe { std::mem::transmute(pointer) };
        state.jobs.push_back(Job {
            id,
            wanted: helpers,
            function,
        });
        drop(state);
        if helpers == 1 {
            self.shared.work.notify_one();
        } else {
            self.shared.work.notify_all();
        }
        id
    }
}

/// Takes a job back, also when the caller's own part of it panics.
struct Withdraw<'p> {
    pool: &'p Pool,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        let mut state = lock(&shared.state);
        state.jobs.retain(|job| job.id != self.id);
        while state
            .inside
            .iter()
            .any(|(id, count)| *id == self.id && *count > 0)
        {
            state = shared
                .left
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.inside.retain(|(id, _)| *id != self.id);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.work.notify_all();
        for handle in self.handles.drain(..) {
            // A thread that panicked has nothing more to give back.
            let _ = handle.join();
        }
    }
}

/// What a thread of the pool does.
fn work(shared: &Shared) {
    let mut state = lock(&shared.state);
    while !state.stopping {
        let Some(job) = take(&mut state) else {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let leave = Leave { shared, id: job.id };
        // SAFETY: the job's owner waits until `leave` has said that this thread is out.
        unsafe { (*job.function)() };
        drop(leave);
        state = lock(&shared.state);
    }
}

fn take(state: &mut State) -> Option<Job> {
    let job = state.jobs.front_mut()?;
    job.wanted -= 1;
    let job = *job;
    if job.wanted == 0 {
        state.jobs.pop_front();
    }
    match state.inside.iter_mut().find(|(id, _)| *id == job.id) {
        Some((_, count)) => *count += 1,
        None => state.inside.push((job.id, 1)),
    }
    Some(job)
}

struct Leave<'s> {
    shared: &'s Shared,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        if let Some((_, count)) = state.inside.iter_mut().find(|(id, _)| *id == self.id) {
            *count -= 1;
        }
        drop(state);
        self.shared.left.notify_all();
    }
}

/// Runs `spawn` with all signals blocked, which threads that it starts inherit.
fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are plain data that the calls fill in.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = spawn();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}
