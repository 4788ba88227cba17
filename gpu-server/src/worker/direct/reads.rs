//! Large copies to the device that the RDMA card makes out of the client's memory.
//!
//! *What:* the client offers a copy's parts, each open to our card until it is answered, two at a time. The first puts a point into the stream and, behind it,
//! a gate at which the stream waits. Once the stream has reached the point, a thread of its own registers the place of a part with the card, for writing, and
//! has the card read the part into it, while the client prepares the next. With the last the gate opens. *Rules:* as for copies to the client: nothing makes a
//! pointer of a device address, memory that is written is not given back, nothing stays registered. What cannot be read is answered NOT_SUPPORTED, and the
//! client sends it by way of host memory; a card that failed to read reads no more in this session, which goes on.
//!
//! Why what is put into the stream later finds the bytes: the card's completion says that they are written. Where the device does not say that its work sees
//! them then, the driver flushes them ([`Seen`]) before the gate opens. Those of the client are what the program gave to the call, which waits for its end.
//!
//! ```text
//! client:  register, ask 1 ─ register, ask 2 ─────── answer 1: register, ask 3 ─ … ──────── answer of the last
//! stream:  … ─▶ point ─▶ gate (waits) ────────────────────────────────────────▶ passed ─▶ …
//! poller:         └─▶ this thread: register, read, flush, answer 1, …, the last, open
//! ```
//!
//! # Safety
//! A range was compared with the session's own, and stays the device's while it is on the [list](super::InUse) of what the card has; a held stream keeps what was
//! put behind it from using it.
#![expect(unsafe_code, reason = "lets a card write device memory")]

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use protocol::limits::{MAX_READS, READ_BYTES};
use protocol::transport::rdma::RdmaError;
use protocol::transport::{DeviceRead, RemoteMemory};
use zerocopy::IntoBytes;

use super::{Direct, PARK, is_possible};
use crate::registry::COUNTERS;
use crate::worker::call::{Call, CallError};
use crate::worker::capture;
use crate::worker::context::Context;
use crate::worker::end::lock;
use crate::worker::gpu_memory::{self, Seen, Unreachable};
use crate::worker::launch;
use crate::worker::point::Action;
use crate::worker::session::Session;

/// Parts that are read at one time, of all copies.
const MOST_AT_ONCE: usize = 2 * MAX_READS;

/// Between two looks whether something was read: none for a while, then longer ones.
const LOOK_TIME: Duration = Duration::from_micros(200);
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// How copies to the device go directly.
pub(crate) struct Reads {
    /// By the client's threads: each has one at most.
    copies: Mutex<HashMap<u32, Arc<ReadCopy>>>,
    jobs: Sender<Job>,
    /// That something is not read is told once.
    refusal_told: Once,
}

/// A part of a copy whose stream has reached it.
pub(crate) struct Job {
    copy: Arc<ReadCopy>,
    part: Part,
}

/// A copy, as its stream's point has it.
pub(crate) struct ReadCopy {
    context: Arc<Context>,
    destination: u64,
    /// Where its stream waits.
    gate: u32,
    /// The client's thread, and the call that began it.
    thread: u32,
    call: u64,
    seen: Seen,
    progress: Mutex<Progress>,
}

/// A part that the client offers; of no bytes, it ends the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    call: u64,
    offset: u64,
    from: RemoteMemory,
}

/// How far a copy has come.
#[derive(Debug, Default)]
struct Progress {
    whole: u64,
    /// Bytes that the client has offered.
    offered: u64,
    /// Nothing more will be offered.
    is_closed: bool,
    /// Parts that are not answered.
    open: usize,
    /// Those of them that wait for the stream.
    waiting: Vec<Part>,
    reached: Option<Instant>,
    failed: Option<CUresult>,
}

impl Progress {
    fn of(whole: u64) -> Self {
        Self {
            whole,
            ..Self::default()
        }
    }

    /// Takes a part, which comes back if it can be read now.
    fn offer(&mut self, part: Part) -> Result<Option<Part>, CallError> {
        if let Some(failed) = self.failed {
            return Err(failed.into());
        }
        let length = part.from.length as u64;
        if self.is_closed || part.offset != self.offered || length > self.whole - self.offered {
            return Err(CallError::Violation("a part that does not continue a copy"));
        }
        if self.open >= MAX_READS {
            return Err(CallError::Violation("more parts of a copy than allowed"));
        }
        self.offered += length;
        self.is_closed = length == 0 || self.offered == self.whole;
        self.open += 1;
        if self.reached.is_some() {
            return Ok(Some(part));
        }
        self.waiting.push(part);
        Ok(None)
    }

    /// The stream has reached the copy: what can be read now.
    fn reach(&mut self, now: Instant) -> Vec<Part> {
        self.reached = Some(now);
        std::mem::take(&mut self.waiting)
    }

    /// The stream never will: what is to be answered with that.
    fn lose(&mut self, result: CUresult) -> Vec<Part> {
        self.failed = Some(result);
        std::mem::take(&mut self.waiting)
    }

    /// A part is about to be answered; whether the copy is over with it.
    fn answer(&mut self, result: Result<(), CUresult>) -> bool {
        self.open -= 1;
        self.failed = self.failed.or(result.err());
        self.open == 0 && (self.is_closed || self.failed.is_some())
    }

    fn is_whole(&self) -> bool {
        self.offered == self.whole && self.failed.is_none()
    }
}

impl Reads {
    pub(crate) fn new(jobs: Sender<Job>) -> Self {
        Self {
            copies: Mutex::default(),
            jobs,
            refusal_told: Once::new(),
        }
    }

    fn send(&self, copy: &Arc<ReadCopy>, part: Part) {
        let copy = Arc::clone(copy);
        // Refused only while the process ends.
        let _ = self.jobs.send(Job { copy, part });
    }

    /// Tells why these bytes do not go directly.
    fn refuse(&self, error: &Unreachable) -> CUresult {
        let tell = || tracing::warn!(%error, "a copy to the device goes by way of host memory");
        self.refusal_told.call_once(tell);
        CUresult::NOT_SUPPORTED
    }
}

impl Direct {
    /// Begins to read what is offered of a copy that its stream has reached. Nothing is written in a context that is going.
    pub(crate) fn take_up_read(&self, session: &Session, copy: &Arc<ReadCopy>) {
        let Some(reads) = &self.reads else {
            return copy.fail(session, CUresult::NOT_SUPPORTED);
        };
        let whole = lock(&copy.progress).whole;
        let range = (copy.destination, whole);
        if !self.in_use.begin(copy.call, &copy.context, range) {
            return copy.fail(session, CUresult::CONTEXT_IS_DESTROYED);
        }
        let ready = lock(&copy.progress).reach(Instant::now());
        ready.into_iter().for_each(|part| reads.send(copy, part));
    }
}

impl ReadCopy {
    /// The stream is lost.
    pub(crate) fn fail(&self, session: &Session, result: CUresult) {
        let waiting = lock(&self.progress).lose(result);
        for part in waiting {
            self.answer(session, part, Err(result));
        }
    }

    /// Answers a part. With the last of the copy lets the stream go first: by then the card has done with the memory.
    fn answer(&self, session: &Session, part: Part, result: Result<(), CUresult>) {
        let mut nanoseconds = 0;
        let mut progress = lock(&self.progress);
        let is_over = progress.answer(result);
        let went_directly = (is_over && progress.is_whole()).then_some(progress.whole);
        let reached = progress.reached;
        drop(progress);
        if is_over {
            self.end(session);
            let time = reached.map_or(Duration::ZERO, |reached| reached.elapsed());
            nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        }
        if let Some(bytes) = went_directly {
            tracing::debug!(bytes, "a copy to the device went directly");
        }
        let told = reply::GpurunReadToDevice::new(nanoseconds);
        let code = result.err().unwrap_or_default();
        session.outbox.reply(part.call, code, told.as_bytes());
        session.outbox.flush();
    }

    fn end(&self, session: &Session) {
        if let Some(direct) = &session.direct {
            if let Some(reads) = &direct.reads {
                lock(&reads.copies).remove(&self.thread);
            }
            direct.in_use.end(self.call);
        }
        launch::open(session, self.gate);
    }
}

/// A part that the client offers.
pub(crate) fn offered(
    call: &mut Call<'_>,
    request: &request::GpurunReadToDevice,
) -> Result<(), CallError> {
    let length = usize::try_from(request.length()).unwrap_or(usize::MAX);
    if length > READ_BYTES {
        return Err(CallError::Violation("a part of a copy that is too long"));
    }
    if !call.record.flags.is_asked() {
        return Ok(());
    }
    let part = Part {
        call: call.number,
        offset: request.offset(),
        from: RemoteMemory {
            address: request.source(),
            length,
            key: request.key(),
        },
    };
    let direct = call.session.direct.as_ref();
    let reads = direct.and_then(|direct| direct.reads.as_ref());
    let reads = reads.ok_or(CUresult::NOT_SUPPORTED)?;
    match part.offset {
        0 => begin(call, reads, request, part)?,
        _ => go_on(call, reads, part)?,
    }
    call.defer();
    Ok(())
}

/// Puts a copy into its stream.
fn begin(
    call: &Call<'_>,
    reads: &Reads,
    request: &request::GpurunReadToDevice,
    part: Part,
) -> Result<(), CallError> {
    let (session, thread) = (call.session, call.record.thread);
    let (destination, whole) = (request.destination(), request.whole());
    let stream = call.stream(request.stream().0)?;
    let context = Arc::clone(call.context()?);
    session.memory.check(destination, whole)?;
    let seen = Seen::of(session.driver, context.device, session.devices.count);
    let (true, Some(seen)) = (
        is_possible(session, &context, &stream, (destination, whole)),
        seen,
    ) else {
        return Err(CUresult::NOT_SUPPORTED.into());
    };
    let mut progress = Progress::of(whole);
    progress.offer(part)?;
    if lock(&reads.copies).contains_key(&thread) {
        return Err(CallError::Violation("a thread's second copy at one time"));
    }
    let put = launch::hold_behind(call, request.stream().0, |gate| {
        let copy = Arc::new(ReadCopy {
            context,
            destination,
            gate,
            thread,
            call: call.number,
            seen,
            progress: Mutex::new(progress),
        });
        // Known before the stream can have reached it.
        lock(&reads.copies).insert(thread, Arc::clone(&copy));
        Action::Read(copy)
    });
    put.map_err(|error| {
        lock(&reads.copies).remove(&thread);
        error.into()
    })
}

/// Another part of a copy, which may have failed and be over.
fn go_on(call: &Call<'_>, reads: &Reads, part: Part) -> Result<(), CallError> {
    let copy = lock(&reads.copies).get(&call.record.thread).cloned();
    let copy = copy.ok_or(CUresult::NOT_SUPPORTED)?;
    let ready = lock(&copy.progress).offer(part)?;
    if let Some(part) = ready {
        reads.send(&copy, part);
    }
    Ok(())
}

/// A part that the card reads.
struct UnderWay {
    job: Job,
    read: DeviceRead,
}

/// The thread that reads.
pub(crate) fn run(session: &Session, jobs: &Receiver<Job>) {
    capture::relax(session.driver);
    let Some(direct) = &session.direct else {
        return;
    };
    let mut under_way = VecDeque::new();
    let mut since = Instant::now();
    while !session.end.is_over() {
        let next = match under_way.len() {
            0 => jobs.recv_timeout(PARK).ok(),
            MOST_AT_ONCE.. => {
                std::thread::sleep(nap(since));
                None
            }
            _ => jobs.recv_timeout(nap(since)).ok(),
        };
        let mut has_moved = next.is_some();
        if let Some(job) = next {
            match start(session, direct, &job) {
                Ok(Some(read)) => under_way.push_back(UnderWay { job, read }),
                Ok(None) => job.copy.answer(session, job.part, Ok(())),
                Err(error) => job.copy.answer(session, job.part, Err(error)),
            }
        }
        // They are done in their order.
        while let Some(outcome) = under_way.front().and_then(|first| first.read.outcome())
            && let Some(first) = under_way.pop_front()
        {
            finish(session, direct, first, outcome);
            has_moved = true;
        }
        if has_moved {
            since = Instant::now();
        }
    }
}

/// How long nothing is looked at, if nothing has happened since then.
fn nap(since: Instant) -> Duration {
    match since.elapsed() {
        waited if waited < LOOK_TIME => {
            std::thread::yield_now();
            Duration::ZERO
        }
        waited => (waited / 16).clamp(SHORTEST_NAP, LONGEST_NAP),
    }
}

/// Begins to read a part; nothing if it has no bytes.
fn start(
    session: &Session,
    direct: &Direct,
    Job { copy, part }: &Job,
) -> Result<Option<DeviceRead>, CUresult> {
    if let Some(failed) = lock(&copy.progress).failed {
        return Err(failed);
    }
    if part.from.length == 0 {
        return Ok(None);
    }
    copy.context.make_current(session.driver)?;
    // The whole range was checked, and the part is inside.
    let range = (copy.destination + part.offset, part.from.length);
    // SAFETY: the range is on the list of what the card has, so it stays, and its stream is held, until the read is dropped.
    let read = gpu_memory::with_memory(session.driver, direct.reach, range, |memory| unsafe {
        direct.lender.read(memory, part.from)
    });
    read.map(Some).map_err(|error| direct.refuse_read(&error))
}

/// A read has ended: answers it.
fn finish(
    session: &Session,
    direct: &Direct,
    UnderWay { job, read }: UnderWay,
    outcome: Result<(), RdmaError>,
) {
    let Job { copy, part } = job;
    // The card writes there no more.
    drop(read);
    let result = match outcome {
        Ok(()) => {
            COUNTERS.received(part.from.length as u64);
            let current = copy.context.make_current(session.driver);
            current.and_then(|()| copy.seen.make_sure(session.driver))
        }
        Err(error) => Err(direct.refuse_read(&Unreachable::Card(error))),
    };
    copy.answer(session, part, result);
}

impl Direct {
    fn refuse_read(&self, error: &Unreachable) -> CUresult {
        match &self.reads {
            Some(reads) => reads.refuse(error),
            None => CUresult::NOT_SUPPORTED,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(offset: u64, length: usize) -> Part {
        Part {
            call: offset + 1,
            offset,
            from: RemoteMemory {
                address: 4096 + offset,
                length,
                key: 7,
            },
        }
    }

    #[test]
    fn parts_wait_for_the_stream_and_the_last_answer_ends_the_copy() {
        let mut progress = Progress::of(30);
        assert_eq!(progress.offer(part(0, 10)), Ok(None));
        assert_eq!(progress.reach(Instant::now()), [part(0, 10)]);
        assert_eq!(progress.offer(part(10, 10)), Ok(Some(part(10, 10))));
        assert!(!progress.answer(Ok(())));
        assert!(!progress.answer(Ok(())), "more is to come");
        assert_eq!(progress.offer(part(20, 10)), Ok(Some(part(20, 10))));
        assert!(progress.answer(Ok(())) && progress.is_whole());
    }

    #[test]
    fn parts_that_do_not_continue_it_are_refused() {
        for wrong in [part(0, 10), part(11, 5), part(10, 21)] {
            let mut progress = Progress::of(30);
            progress.offer(part(0, 10)).expect("the first");
            assert!(matches!(
                progress.offer(wrong),
                Err(CallError::Violation(_))
            ));
        }
        let mut progress = Progress::of(30);
        progress.offer(part(0, 10)).expect("the first");
        progress.offer(part(10, 10)).expect("the second");
        let third = progress.offer(part(20, 10));
        assert!(matches!(third, Err(CallError::Violation(_))), "two at most");
    }

    #[test]
    fn a_copy_that_is_given_up_or_fails_is_over_when_all_is_answered() {
        let mut progress = Progress::of(30);
        progress.reach(Instant::now());
        progress.offer(part(0, 10)).expect("the first");
        progress.offer(part(10, 0)).expect("the end");
        assert!(!progress.answer(Ok(())));
        assert!(progress.answer(Ok(())) && !progress.is_whole());
        let mut progress = Progress::of(30);
        progress.reach(Instant::now());
        progress.offer(part(0, 10)).expect("the first");
        progress.offer(part(10, 10)).expect("the second");
        assert!(!progress.answer(Err(CUresult::NOT_SUPPORTED)));
        assert_eq!(
            progress.offer(part(20, 10)),
            Err(CUresult::NOT_SUPPORTED.into())
        );
        assert!(progress.answer(Ok(())) && !progress.is_whole());
    }

    proptest! {
        /// Whatever a client offers and whatever becomes of it, a copy is over once, when nothing of it is unanswered, and has taken no byte that is not its own.
        #[test]
        fn a_copy_is_over_once(steps in prop::collection::vec((0_u8..6, 0_u64..40), 1..60)) {
            let mut progress = Progress::of(60);
            let (mut unanswered, mut overs) = (0, 0);
            for (step, number) in steps {
                match step {
                    0..3 => {
                        let offset = progress.offered + number / 36;
                        let length = number % 36;
                        if progress.offer(part(offset, length as usize)).is_ok() {
                            prop_assert_eq!(overs, 0);
                            unanswered += 1;
                        }
                    }
                    3 if progress.reached.is_none() => {
                        let ready = progress.reach(Instant::now());
                        prop_assert_eq!(ready.len(), unanswered);
                    }
                    4 | 5 if unanswered > 0 && progress.reached.is_some() => {
                        let result = match step {
                            4 => Ok(()),
                            _ => Err(CUresult::NOT_SUPPORTED),
                        };
                        unanswered -= 1;
                        overs += u32::from(progress.answer(result));
                    }
                    _ => {}
                }
                prop_assert!(unanswered <= MAX_READS && progress.offered <= 60 && overs <= 1);
                prop_assert!(overs == 0 || unanswered == 0);
            }
        }
    }

    #[test]
    fn a_stream_that_is_lost_answers_what_waits() {
        let mut progress = Progress::of(30);
        progress.offer(part(0, 10)).expect("the first");
        progress.offer(part(10, 10)).expect("the second");
        let waiting = progress.lose(CUresult::ILLEGAL_ADDRESS);
        assert_eq!(waiting, [part(0, 10), part(10, 10)]);
        assert!(!progress.answer(Err(CUresult::ILLEGAL_ADDRESS)));
        assert!(progress.answer(Err(CUresult::ILLEGAL_ADDRESS)));
    }
}
