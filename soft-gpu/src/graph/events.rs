//! What a launch does with the events of its nodes.
//!
//! All is decided when the graph is launched, in the order of its steps, as if each were put into the stream then: which record a wait is for, and that there is
//! one more, for which other processes may wait from then on. [`Events::pass`] does what is left when a step is come to.
//!
//! An event of this process alone is recorded behind the launch and waited for before it. One that processes share is recorded and waited for at its step, since
//! what comes behind may need what the other process does then. A launch that records one several times counts one record, which the last of these steps reaches,
//! so that no launch needs more room than there is; a wait behind one of them has nothing to wait for, since steps follow each other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use driver_api::abi::CUresult;

use super::object::Step;
use crate::context::Fate;
use crate::event::{Event, Open, Shared};
use crate::shared::Segment;
use crate::state::driver;
use crate::stream::{Operation, Point};

/// What is done at one step.
enum AtStep {
    /// Its time is noted, and who waits for a shared event is let go.
    Record(Arc<AtomicU64>, Option<Open>),
    /// A record of a shared event is waited for.
    Wait(Arc<Shared>, u64),
    Nothing,
}

/// The events of one launch.
pub(super) struct Events {
    fate: Arc<Fate>,
    /// What is recorded, with its times.
    records: Vec<(Arc<Event>, Arc<AtomicU64>)>,
    /// Where the launch may begin.
    before: Vec<Point>,
    at_steps: VecDeque<AtStep>,
    /// The last record of each event so far, by its address: a place in `at_steps`.
    last: HashMap<usize, usize>,
}

impl Events {
    /// Those of a launch into a stream of a context.
    pub(super) fn of(
        steps: &[Step],
        fate: &Arc<Fate>,
        segment: &Segment,
    ) -> Result<Self, CUresult> {
        let mut events = Self {
            fate: Arc::clone(fate),
            records: Vec::new(),
            before: Vec::new(),
            at_steps: VecDeque::new(),
            last: HashMap::new(),
        };
        events.add(steps, segment)?;
        Ok(events)
    }

    fn add(&mut self, steps: &[Step], segment: &Segment) -> Result<(), CUresult> {
        for step in steps.iter().filter(|step| step.is_enabled) {
            match &step.operation {
                Operation::Record(event, _) => self.add_record(event, segment)?,
                Operation::Wait(event, _) => self.add_wait(event),
                _ => {}
            }
            if let Some(child) = &step.child {
                self.add(child, segment)?;
            }
        }
        Ok(())
    }

    fn add_record(&mut self, event: &Arc<Event>, segment: &Segment) -> Result<(), CUresult> {
        let time = Arc::new(AtomicU64::new(0));
        let place = self.at_steps.len();
        let earlier = self.last.insert(Arc::as_ptr(event).addr(), place);
        let open = match earlier.and_then(|earlier| self.at_steps.get_mut(earlier)) {
            Some(AtStep::Record(_, open)) => open.take(),
            _ => event.open(segment)?,
        };
        self.records.push((Arc::clone(event), Arc::clone(&time)));
        self.at_steps.push_back(AtStep::Record(time, open));
        Ok(())
    }

    fn add_wait(&mut self, event: &Arc<Event>) {
        let is_own = self.last.contains_key(&Arc::as_ptr(event).addr());
        self.at_steps.push_back(match &event.shared {
            Some(shared) if !is_own => AtStep::Wait(Arc::clone(shared), shared.recorded()),
            _ => AtStep::Nothing,
        });
        if event.shared.is_none() {
            self.before.extend(event.point());
        }
    }

    /// The places that the launch has to wait for, once.
    pub(super) fn take_before(&mut self) -> Vec<Point> {
        std::mem::take(&mut self.before)
    }

    /// What is recorded, to be [told](Event::end_record) where the launch is over.
    pub(super) fn records(&self) -> Vec<(Arc<Event>, Arc<AtomicU64>)> {
        self.records.clone()
    }

    /// The launch has come to its next step of an event.
    pub(super) fn pass(&mut self) -> Result<(), CUresult> {
        match self.at_steps.pop_front() {
            Some(AtStep::Record(time, open)) => {
                Event::reach(&time);
                drop(open);
            }
            Some(AtStep::Wait(shared, record)) => {
                shared.wait(&driver()?.segment, record, || self.fate.is_over());
            }
            Some(AtStep::Nothing) | None => {}
        }
        Ok(())
    }
}
