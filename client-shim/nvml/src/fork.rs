//! What a forked child inherits: everything that is known, no connection and no lock.
//!
//! ```text
//! parent:  connect ─ Open(fd) noted ─ … ─ closed, forgotten
//! fork:    the child closes what was noted, and moves on to the next generation's slot of the cache
//! ```
//!
//! A thread of the parent may be anywhere at that moment. So no lock of this library is ever waited for: see [`crate::state`]. A
//! connection that a thread had just opened and not yet noted is the one thing that a child may inherit; it costs a descriptor.
//!
//! # Safety
//! The handler loads and stores atomics and closes descriptors, which is allowed in a child of a process with threads. Only
//! descriptors that the parent's threads own are closed, and those threads do not exist in the child.
#![expect(unsafe_code, reason = "registering the fork handler, and closing")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Connections that are noted at a time; more are used all the same.
const NOTED: usize = 32;

const NONE: i32 = -1;

static OPEN: [AtomicI32; NOTED] = [const { AtomicI32::new(NONE) }; NOTED];
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// How often the line of processes that led to this one has forked.
pub(crate) fn generation() -> usize {
    GENERATION.load(Ordering::Acquire)
}

/// Registers the handler, the first time; says whether this was it.
pub(crate) fn watch() -> bool {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    let is_first = !WATCHED.swap(true, Ordering::AcqRel);
    if is_first {
        // SAFETY: the handler does only what is allowed in such a child; the library is never unloaded. Where it cannot be registered
        // for lack of memory, a child may inherit a short connection.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
    is_first
}

extern "C" fn in_child() {
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

impl Open {
    pub(crate) fn new(socket: OwnedFd) -> Self {
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
