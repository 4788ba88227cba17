//! How much of a stream is under way, so that the driver never blocks in a call.
//!
//! *What:* a driver's stream takes so many operations; the call that brings one more blocks until the stream advances. On the server that call
//! would stand on the ordered path of the session, and everything behind it, which may be just what the stream waits for, would wait
//! too. So the call blocks *here*, in the thread that made it, before it is posted: as it would with a driver in the process, and
//! holding nothing. *Rules:* what a call puts into a stream is counted while the queue is locked, in wire order; each mark that is pushed
//! says how much is done; a part of each stream stays free for what the worker itself puts in ([`most_of`]).
//!
//! *Cost:* three atomic reads before a post, one addition in it; a short lock for each mark.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a driver's stream takes if the server does not say: launches beyond about so many block on real ones.
pub(crate) const USUAL_DEPTH: u64 = 1024;

/// A device has this many queues; more streams than that share them.
const QUEUES: u64 = 8;

/// What every stream takes: a wait and a record, each with the mark behind it. The operation that runs has left a driver's queue.
const LEAST: u64 = 4;

/// The parts of the room after each of which a mark is put.
const MARKS: u64 = 6;

/// Operations of a stream, counted.
#[derive(Debug, Default)]
pub(crate) struct Room {
    posted: AtomicU64,
    marked: AtomicU64,
    done: AtomicU64,
    /// Marks on their way, and how much was posted with each.
    marks: Mutex<VecDeque<(u64, u64)>>,
}

/// What a thread has to do before it posts.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Admission {
    /// Nothing.
    Granted,
    /// Put a mark: the last one is long ago.
    Mark,
    /// Put a mark, and wait until it fits.
    Wait,
}

/// The room of each stream of so many, where a driver's queue takes `depth`: a quarter of it is kept free for the worker's own
/// operations.
pub(crate) fn most_of(depth: u64, streams: u64) -> u64 {
    let shared = depth * QUEUES / streams.max(QUEUES);
    (shared - shared / 4).max(LEAST)
}

impl Room {
    fn marks(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many operations are put into the stream. Only with the queue locked.
    pub(crate) fn put(&self, operations: u64) {
        self.posted.fetch_add(operations, SeqCst);
    }

    /// A mark is put into the stream. Only with the queue locked.
    pub(crate) fn put_mark(&self, mark: u64) {
        let posted = self.posted.fetch_add(1, SeqCst) + 1;
        self.marked.store(posted, SeqCst);
        self.marks().push_back((mark, posted));
    }

    /// Everything up to a mark is done.
    pub(crate) fn reached(&self, mark: u64) {
        let mut marks = self.marks();
        while let Some((_, posted)) = marks.pop_front_if(|(first, _)| *first <= mark) {
            self.done.fetch_max(posted, SeqCst);
        }
    }

    /// The stream begins anew, with nothing under way.
    pub(crate) fn clear(&self) {
        self.marks().clear();
        self.done.store(self.posted.load(SeqCst), SeqCst);
        self.marked.store(self.posted.load(SeqCst), SeqCst);
    }

    /// Whether something was put into the stream behind its last mark.
    pub(crate) fn has_unmarked(&self) -> bool {
        self.posted.load(SeqCst) > self.marked.load(SeqCst)
    }

    fn under_way(&self) -> u64 {
        self.posted
            .load(SeqCst)
            .saturating_sub(self.done.load(SeqCst))
    }

    /// Whether so many more fit into `most`; what alone is more than that fits into an empty stream.
    pub(crate) fn fits(&self, operations: u64, most: u64) -> bool {
        let under_way = self.under_way();
        under_way == 0 || under_way + operations <= most
    }

    /// What has to be done before so many are posted.
    pub(crate) fn admit(&self, operations: u64, most: u64) -> Admission {
        let unmarked = self
            .posted
            .load(SeqCst)
            .saturating_sub(self.marked.load(SeqCst));
        if !self.fits(operations, most) {
            Admission::Wait
        } else if unmarked >= most.div_ceil(MARKS) {
            Admission::Mark
        } else {
            Admission::Granted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_free_and_streams_share_the_queues() {
        assert_eq!(most_of(USUAL_DEPTH, 1), 768);
        assert_eq!(most_of(USUAL_DEPTH, 8), 768);
        assert_eq!(most_of(USUAL_DEPTH, 32), 192);
        assert_eq!(most_of(4, 1), 4);
        assert_eq!(most_of(4, 4000), 4);
    }

    #[test]
    fn a_full_stream_waits_until_a_mark_is_reached() {
        let room = Room::default();
        let most = most_of(USUAL_DEPTH, 1);
        let mut mark = 0;
        let mut posted = 0;
        loop {
            match room.admit(1, most) {
                Admission::Wait => break,
                Admission::Mark => {
                    mark += 1;
                    room.put_mark(mark);
                }
                Admission::Granted => {
                    room.put(1);
                    posted += 1;
                }
            }
        }
        assert!(
            posted + mark <= most && posted > most - most / MARKS,
            "{posted} {mark}"
        );
        room.reached(1);
        assert!(room.fits(1, most));
        room.reached(mark);
        assert!(room.under_way() <= most.div_ceil(MARKS) + 1);
    }

    #[test]
    fn the_shallowest_stream_holds_a_wait_and_a_record() {
        let (room, most) = (Room::default(), most_of(4, 1));
        room.put(1);
        assert_eq!(room.admit(2, most), Admission::Mark);
        room.put_mark(1);
        assert_eq!(room.admit(2, most), Admission::Granted);
        room.put(1);
        room.put_mark(2);
        assert_eq!(room.admit(1, most), Admission::Wait);
        room.reached(1);
        assert_eq!(room.admit(1, most), Admission::Granted);
    }

    #[test]
    fn what_never_fits_goes_into_an_empty_stream() {
        let room = Room::default();
        assert_eq!(room.admit(5000, 768), Admission::Granted);
        room.put(5000);
        room.put_mark(1);
        assert_eq!(room.admit(1, 768), Admission::Wait);
        room.reached(1);
        assert_eq!(room.admit(5000, 768), Admission::Granted);
    }
}
