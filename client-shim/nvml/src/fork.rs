//! What a forked child inherits: everything that is known, no connection and no lock.
//!
//! ```text
//! parent:  connecting ─▶ open, noted ─▶ … ─▶ forgotten, closed
//! fork:    waits for who is connecting; the child closes what is noted, and moves on to the next generation's slot of the cache
//! ```
//!
//! A thread of the parent may be anywhere at that moment. So no lock of this library is ever waited for: see [`crate::state`]. A fork
//! and the making of a connection wait for each other, but no longer than [`PATIENCE`]: a child of a fork while a server far away does not answer
//! inherits a descriptor.
//!
//! # Safety
//! The child's handler stores atomics and closes descriptors, which is allowed in a child of a process with threads. Only
//! descriptors that the parent's threads own are closed, and those threads do not exist in the child.
#![expect(unsafe_code, reason = "registering the fork handler, and closing")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Connections that are noted at a time; more are used all the same.
const NOTED: usize = 32;

const NONE: i32 = -1;

/// Most time that a fork and the making of a connection wait for each other.
const PATIENCE: Duration = Duration::from_millis(20);

static OPEN: [AtomicI32; NOTED] = [const { AtomicI32::new(NONE) }; NOTED];
static GENERATION: AtomicUsize = AtomicUsize::new(0);
/// Threads that are making a connection.
static CONNECTING: AtomicU32 = AtomicU32::new(0);
/// Threads that are forking.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// How often the line of processes that led to this one has forked.
pub(crate) fn generation() -> usize {
    GENERATION.load(Ordering::Acquire)
}

/// Registers the handler, the first time; says whether this was it.
pub(crate) fn watch() -> bool {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    let is_first = !WATCHED.swap(true, Ordering::AcqRel);
    if is_first {
        // SAFETY: the handlers do only what is allowed in such a child; the library is never unloaded. Where it cannot be registered
        // for lack of memory, a child may inherit a short connection.
        let _ = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
    is_first
}

extern "C" fn before() {
    FORKING.fetch_add(1, Ordering::SeqCst);
    let end = Instant::now() + PATIENCE;
    while CONNECTING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        std::thread::yield_now();
    }
}

extern "C" fn in_parent() {
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

extern "C" fn in_child() {
    FORKING.store(0, Ordering::SeqCst);
    CONNECTING.store(0, Ordering::SeqCst);
    GENERATION.fetch_add(1, Ordering::AcqRel);
    for place in &OPEN {
        let descriptor = place.swap(NONE, Ordering::AcqRel);
        if descriptor != NONE {
            // SAFETY: see the module.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// A connection that children do not keep.
pub(crate) struct Open {
    pub(crate) socket: OwnedFd,
    place: Option<usize>,
}

/// A thread that is making a connection.
struct Connecting;

impl Connecting {
    fn begin() -> Self {
        let end = Instant::now() + PATIENCE;
        loop {
            CONNECTING.fetch_add(1, Ordering::SeqCst);
            if FORKING.load(Ordering::SeqCst) == 0 || Instant::now() >= end {
                return Self;
            }
            CONNECTING.fetch_sub(1, Ordering::SeqCst);
            std::thread::yield_now();
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        CONNECTING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes a connection.
pub(crate) fn connect<E>(connect: impl FnOnce() -> Result<OwnedFd, E>) -> Result<Open, E> {
    let _connecting = Connecting::begin();
    connect().map(Open::new)
}

impl Open {
    fn new(socket: OwnedFd) -> Self {
        let descriptor = socket.as_raw_fd();
        let place = OPEN.iter().position(|place| {
            let noted =
                place.compare_exchange(NONE, descriptor, Ordering::AcqRel, Ordering::Relaxed);
            noted.is_ok()
        });
        Self { socket, place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Forgotten before it is closed: its number may be another's right after.
        if let Some(place) = self.place {
            OPEN[place].store(NONE, Ordering::Release);
        }
    }
}
