//! Which call runs where: in wire order under the order token, or on the lane of its client thread.
//!
//! *What:* [`Lanes`] decides, and holds what has to wait; it neither blocks nor calls anything. *Rules:* a client thread's calls
//! run in their order; a call that may block occupies the lane of its thread, and later calls of that thread queue behind
//! it; calls of other threads go on. A lane that is drained is gone.
//!
//! ```text
//!              may block?           lane busy?
//! call ──┬── no ── lane free ── Here            (the token's holder runs it, the order of the wire)
//!        ├── yes ─ lane free ── Lane            (the holder passes the token on, then runs it)
//!        └── lane busy ──────── Queued          (whoever drains the lane runs it)
//! ```

use std::collections::{HashMap, VecDeque};

/// Most bytes of calls that queue behind lanes before the token's holder waits for them to drain.
pub(crate) const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Where a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the token's holder, in order.
    Here,
    /// On its thread's lane, which is free: the token's holder becomes that lane.
    Lane,
    /// Behind the calls of its thread's lane.
    Queued,
}

/// The busy lanes and what queues behind each.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    queues: HashMap<u32, VecDeque<(usize, T)>>,
    queued_bytes: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            queued_bytes: 0,
        }
    }
}

impl<T> Lanes<T> {
    /// Decides for the next call in wire order. After `Lane` the lane is busy until [`Lanes::next`] says that it is drained;
    /// after `Queued`, which changes nothing, the caller hands the call over with [`Lanes::queue`].
    pub(crate) fn admit(&mut self, thread: u32, may_block: bool) -> Place {
        if self.queues.contains_key(&thread) {
            return Place::Queued;
        }
        if !may_block {
            return Place::Here;
        }
        self.queues.insert(thread, VecDeque::new());
        Place::Lane
    }

    /// Puts a call behind its thread's lane.
    pub(crate) fn queue(&mut self, thread: u32, bytes: usize, call: T) {
        self.queued_bytes += bytes;
        self.queues
            .entry(thread)
            .or_default()
            .push_back((bytes, call));
    }

    /// The next call of a busy lane; nothing: the lane is drained, and free again.
    pub(crate) fn next(&mut self, thread: u32) -> Option<T> {
        let queue = self.queues.get_mut(&thread)?;
        if let Some((bytes, call)) = queue.pop_front() {
            self.queued_bytes -= bytes;
            return Some(call);
        }
        self.queues.remove(&thread);
        None
    }

    /// Puts something behind every busy lane but this thread's: it is reached when all that is queued now has run. Says how many
    /// lanes these are.
    pub(crate) fn fence(&mut self, except: u32, item: impl Fn() -> T) -> usize {
        let others = self.queues.iter_mut();
        let others = others.filter(|(thread, _)| **thread != except);
        others
            .map(|(_, queue)| queue.push_back((0, item())))
            .count()
    }

    /// How many lanes are busy.
    pub(crate) fn busy(&self) -> usize {
        self.queues.len()
    }

    /// Whether so much is queued that no more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.queued_bytes >= MAX_QUEUED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_busy_lane_holds_its_own_thread_only() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.admit(1, true), Place::Lane);
        assert_eq!(lanes.admit(1, false), Place::Queued);
        lanes.queue(1, 10, "second");
        assert_eq!(lanes.admit(2, false), Place::Here);
        assert_eq!(lanes.admit(1, true), Place::Queued);
        lanes.queue(1, 10, "third");
        assert_eq!(lanes.next(1), Some("second"));
        assert_eq!(lanes.next(1), Some("third"));
        assert_eq!(lanes.next(1), None);
        assert_eq!(lanes.admit(1, false), Place::Here);
        assert_eq!(lanes.busy(), 0);
    }

    #[test]
    fn a_fence_is_behind_what_other_lanes_hold() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.fence(9, || "fence"), 0);
        lanes.admit(1, true);
        lanes.queue(1, 1, "before");
        lanes.admit(2, true);
        assert_eq!(lanes.fence(2, || "fence"), 1);
        lanes.queue(1, 1, "after");
        assert_eq!(lanes.next(1), Some("before"));
        assert_eq!(lanes.next(1), Some("fence"));
        assert_eq!(lanes.next(1), Some("after"));
        assert_eq!(lanes.next(2), None);
    }

    #[test]
    fn it_is_full_until_it_drains() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.admit(7, true), Place::Lane);
        lanes.queue(7, MAX_QUEUED_BYTES, ());
        assert!(lanes.is_full());
        assert_eq!(lanes.next(7), Some(()));
        assert!(!lanes.is_full());
    }

    proptest! {
        /// Whatever the calls and however the lanes are drained, each thread's calls run once and in order.
        #[test]
        fn threads_keep_their_order(steps in prop::collection::vec((0_u32..4, any::<bool>(), 0_u32..4, any::<bool>()), 0..200)) {
            let mut lanes = Lanes::default();
            let mut ran: HashMap<u32, Vec<usize>> = HashMap::new();
            for (call, (thread, may_block, drained, drains)) in steps.into_iter().enumerate() {
                match lanes.admit(thread, may_block) {
                    Place::Here | Place::Lane => ran.entry(thread).or_default().push(call),
                    Place::Queued => lanes.queue(thread, 1, call),
                }
                if drains && let Some(call) = lanes.next(drained) {
                    ran.entry(drained).or_default().push(call);
                }
            }
            for thread in 0..4 {
                while let Some(call) = lanes.next(thread) {
                    ran.entry(thread).or_default().push(call);
                }
            }
            prop_assert_eq!(lanes.busy(), 0);
            for calls in ran.values() {
                prop_assert!(calls.is_sorted());
            }
        }
    }
}
