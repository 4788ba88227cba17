//! Points of a stream: what is to be done once the stream has reached them, in order.
//!
//! *What:* [`PointQueue`] numbers a stream's points and says which are reached; it calls nothing. [`Action`] is what a reached point
//! does, or a lost one. *Rule:* actions of a stream run in the order of its points, under the poller's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use driver_api::abi::CUevent;

use super::direct::reads::ReadCopy;
use super::direct::{DirectCopy, Stopwatch};
use super::end::lock;
use super::ipc::Record;
use super::janitor::Job;
use super::staging::{Slot, StagingBuffer};

/// What a point does when the stream has reached it.
pub(crate) enum Action {
    /// Push a mark's completion.
    Complete {
        /// The client's mark.
        mark: u64,
        /// Whether a thread of the client waits for it.
        is_urgent: bool,
    },
    /// Send a part of a transfer to the client.
    Deliver(Delivery),
    /// Let the card read what is to be sent to the client: the stream waits behind the point.
    Direct(DirectCopy),
    /// Let the card write what the client offers: the stream waits behind the point.
    Read(Arc<ReadCopy>),
    /// A copy begins whose time is taken.
    Begin(Arc<Stopwatch>),
    /// Answer a small copy.
    Reply {
        /// The call.
        call: u64,
        /// Where the bytes are.
        buffer: StagingBuffer,
        /// How many.
        length: usize,
    },
    /// Let go of a buffer whose bytes the stream has taken: dropping the action does.
    Release {
        /// The buffer.
        _buffer: StagingBuffer,
    },
    /// The stream has passed a gate: its slot can be used again.
    Passed {
        /// The gate's.
        slot: Slot,
    },
    /// An event that other sessions share is reached: dropping the action says so.
    Recorded {
        /// The record.
        _record: Record,
    },
    /// One stream fewer that may still use what is to be freed.
    CountDown(Arc<Quarantine>),
    /// Nothing: the point itself is wanted, behind the last work of a stream that was destroyed.
    Settle,
}

impl Action {
    /// Whether it neither waits nor sends much: who reads the connection may run it.
    pub(crate) fn is_brief(&self) -> bool {
        !matches!(self, Self::Deliver(_) | Self::Direct(_) | Self::Read(_))
    }

    /// Whether someone waits for it now.
    pub(crate) fn is_urgent(&self) -> bool {
        match self {
            Self::Complete { is_urgent, .. } => *is_urgent,
            Self::Deliver(delivery) => delivery.flight.is_some(),
            Self::Direct(copy) => copy.is_urgent(),
            Self::Reply { .. } | Self::Recorded { .. } | Self::Read(_) => true,
            Self::Release { .. }
            | Self::Passed { .. }
            | Self::CountDown(_)
            | Self::Begin(_)
            | Self::Settle => false,
        }
    }
}

/// A part of a transfer to the client.
pub(crate) struct Delivery {
    /// The client's number of the transfer.
    pub(crate) transfer: u64,
    /// Where in the transfer the bytes belong.
    pub(crate) offset: u64,
    /// Where the bytes are.
    pub(crate) buffer: StagingBuffer,
    /// How many.
    pub(crate) length: usize,
    /// Of a copy that a lane feeds: it counts what is on its way.
    pub(crate) flight: Option<Arc<Flight>>,
    /// The call to answer after the last part.
    pub(crate) answers: Option<u64>,
    /// Of the last part, where the copy's time is taken.
    pub(crate) ends: Option<Arc<Stopwatch>>,
}

/// How many parts of one copy are on their way, and whether one is lost.
#[derive(Default)]
pub(crate) struct Flight {
    state: Mutex<(usize, Option<driver_api::result::CUresult>)>,
    changed: Condvar,
}

impl Flight {
    /// Waits until fewer than `most` parts are on their way, then counts one more.
    ///
    /// # Errors
    /// A part was lost.
    pub(crate) fn take_off(
        &self,
        most: usize,
        is_over: impl Fn() -> bool,
    ) -> Result<(), driver_api::result::CUresult> {
        let mut state = lock(&self.state);
        while state.0 >= most && state.1.is_none() && !is_over() {
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(100))
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        match state.1 {
            Some(result) => Err(result),
            None => {
                state.0 += 1;
                Ok(())
            }
        }
    }

    /// Waits until nothing is on its way.
    pub(crate) fn settle(&self, is_over: impl Fn() -> bool) {
        let mut state = lock(&self.state);
        while state.0 > 0 && !is_over() {
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(100))
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// A part has arrived, or is lost.
    pub(crate) fn land(&self, result: Result<(), driver_api::result::CUresult>) {
        let mut state = lock(&self.state);
        state.0 = state.0.saturating_sub(1);
        state.1 = state.1.or(result.err());
        self.changed.notify_all();
    }
}

/// Something to be freed once every stream that may use it has come so far.
pub(crate) struct Quarantine {
    left: AtomicUsize,
    job: Mutex<Option<Job>>,
}

impl Quarantine {
    /// Waits for `streams` count-downs.
    pub(crate) fn new(streams: usize, job: Job) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(streams),
            job: Mutex::new(Some(job)),
        })
    }

    /// One stream fewer; the last gets the job.
    pub(crate) fn count_down(&self) -> Option<Job> {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            lock(&self.job).take()
        } else {
            None
        }
    }
}

/// A point that the stream has not been seen to reach.
struct Point<A> {
    sequence: u64,
    event: Option<CUevent>,
    action: A,
    /// Pieces of work that end with it.
    work: u32,
}

/// The points of one stream.
pub(crate) struct PointQueue<A> {
    issued: u64,
    pending: VecDeque<Point<A>>,
    /// Pieces of work whose end was seen, and nobody told.
    ended: u32,
}

impl<A> PointQueue<A> {
    /// A stream whose slot holds `start`.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            issued: start,
            pending: VecDeque::new(),
            ended: 0,
        }
    }

    /// Numbers a new point and queues its action; so many pieces of work end with it.
    pub(crate) fn issue(&mut self, event: Option<CUevent>, action: A, work: u32) -> u64 {
        self.issued = self.issued.wrapping_add(1);
        self.pending.push_back(Point {
            sequence: self.issued,
            event,
            action,
            work,
        });
        self.issued
    }

    /// Takes back the newest point, which never reached the stream.
    pub(crate) fn withdraw(&mut self, sequence: u64) -> Option<A> {
        let newest = self.pending.back()?;
        if newest.sequence != sequence {
            return None;
        }
        self.issued = self.issued.wrapping_sub(1);
        self.pending.pop_back().map(|point| {
            self.ended += point.work;
            point.action
        })
    }

    /// Adds an action to the newest point that is not reached.
    ///
    /// # Errors
    /// Every point is reached; the action comes back.
    pub(crate) fn attach(&mut self, action: A) -> Result<(), A> {
        let Some(newest) = self.pending.back() else {
            return Err(action);
        };
        let (sequence, event) = (newest.sequence, None);
        self.pending.push_back(Point {
            sequence,
            event,
            action,
            work: 0,
        });
        Ok(())
    }

    /// The next action, if the stream has come to `reached`.
    pub(crate) fn take_reached(&mut self, reached: u64) -> Option<A> {
        let first = self.pending.front()?;
        // Sequences are compared by distance: they may wrap in 2^64 points, or sooner in tests.
        if reached.wrapping_sub(first.sequence) > u64::MAX / 2 {
            return None;
        }
        self.take_first().map(|(_, action)| action)
    }

    /// The event of the next point: `Some(None)` for an action that was attached to the point before it, which is reached with it.
    pub(crate) fn first_event(&self) -> Option<Option<CUevent>> {
        self.pending.front().map(|point| point.event)
    }

    /// The action that is next.
    pub(crate) fn first(&self) -> Option<&A> {
        self.pending.front().map(|point| &point.action)
    }

    /// The next action, reached or not.
    pub(crate) fn take_first(&mut self) -> Option<(Option<CUevent>, A)> {
        let point = self.pending.pop_front()?;
        self.ended += point.work;
        Some((point.event, point.action))
    }

    /// The pieces of work that have ended since the last time.
    pub(crate) fn take_ended(&mut self) -> u32 {
        std::mem::take(&mut self.ended)
    }

    /// No point brings the end of work any more: how many pieces there were.
    pub(crate) fn lose_work(&mut self) -> u32 {
        let work = self.pending.iter_mut().map(|point| &mut point.work);
        let lost: u32 = work.map(std::mem::take).sum();
        lost + self.take_ended()
    }

    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// The whole of a sequence of which only the low half was written, at most 2^32 before the newest.
pub(crate) fn widen(low: u32, newest: u64) -> u64 {
    newest.wrapping_sub(u64::from((newest as u32).wrapping_sub(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_reached_in_order_and_not_before() {
        let mut queue = PointQueue::new(7);
        assert_eq!(queue.issue(None, 'a', 3), 8);
        assert_eq!(queue.issue(None, 'b', 2), 9);
        assert_eq!(queue.attach('c'), Ok(()));
        assert_eq!(queue.take_reached(7), None);
        assert_eq!(queue.take_ended(), 0);
        assert_eq!(queue.take_reached(8), Some('a'));
        assert_eq!((queue.take_ended(), queue.take_ended()), (3, 0));
        assert_eq!(queue.take_reached(8), None);
        assert_eq!(queue.take_reached(20), Some('b'));
        assert_eq!(queue.take_reached(20), Some('c'));
        assert_eq!(queue.take_reached(20), None);
        assert_eq!(queue.attach('d'), Err('d'));
        assert_eq!(queue.take_ended(), 2);
    }

    #[test]
    fn only_the_newest_point_is_withdrawn() {
        let mut queue = PointQueue::new(0);
        let first = queue.issue(None, 'a', 1);
        let second = queue.issue(None, 'b', 4);
        assert_eq!(queue.withdraw(first), None);
        assert_eq!(queue.withdraw(second), Some('b'));
        assert_eq!(queue.take_ended(), 4);
        assert_eq!(queue.issue(None, 'c', 5), second);
        assert_eq!(queue.issued(), second);
        assert_eq!((queue.lose_work(), queue.lose_work()), (6, 0));
        assert_eq!(queue.take_reached(second), Some('a'));
        assert_eq!(queue.take_ended(), 0);
    }

    #[test]
    fn half_a_sequence_is_widened() {
        assert_eq!(widen(5, 5), 5);
        assert_eq!(widen(u32::MAX, 0x1_0000_0001), 0xFFFF_FFFF);
        assert_eq!(widen(1, 0x1_0000_0001), 0x1_0000_0001);
    }
}
