//! Device memory that a card reads or writes: nothing of it is given back meanwhile, whatever becomes of the stream that waits for the card.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::worker::context::Context;
use crate::worker::end::{End, lock};

/// How long one waits before one looks whether the session is over.
const PARK: Duration = Duration::from_secs(1);

/// A range that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    call: u64,
    /// The serial of its context.
    context: u64,
    start: u64,
    length: u64,
}

/// All that is in use.
#[derive(Default)]
pub(super) struct InUse {
    all: Mutex<Vec<Use>>,
    changed: Condvar,
}

impl InUse {
    /// The memory of a call is in use from here on. False in a context that is going: nothing of it may be used.
    pub(super) fn begin(&self, call: u64, context: &Context, (start, length): (u64, u64)) -> bool {
        let mut all = lock(&self.all);
        // Looked at under this lock: who ends a context says so first, and then waits for what is on the list.
        let is_alive = context.is_alive();
        if is_alive {
            all.push(Use {
                call,
                context: context.serial,
                start,
                length,
            });
        }
        is_alive
    }

    /// A call's memory is not in use any more.
    pub(super) fn end(&self, call: u64) {
        lock(&self.all).retain(|used| used.call != call);
        self.changed.notify_all();
    }

    /// Waits until nothing of a range is in use.
    pub(super) fn wait_for(&self, end: &End, start: u64, size: u64) {
        self.wait_while(end, |used| {
            used.start < start.saturating_add(size)
                && start < used.start.saturating_add(used.length)
        });
    }

    /// Waits until nothing of a context is in use.
    pub(super) fn wait_for_context(&self, end: &End, serial: u64) {
        self.wait_while(end, |used| used.context == serial);
    }

    fn wait_while(&self, end: &End, is_meant: impl Fn(&Use) -> bool) {
        let mut all = lock(&self.all);
        while all.iter().any(&is_meant) && !end.is_over() {
            let waited = self.changed.wait_timeout(all, PARK);
            all = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
