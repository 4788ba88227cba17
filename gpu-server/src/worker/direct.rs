//! Large copies that the RDMA card makes out of the device's memory or into it, with no copy of the driver's and none of ours between. Those to the client are
//! here, those to the device in [`reads`].
//!
//! *What:* a copy puts a point into its stream and, behind it, a gate at which the stream waits. Once the stream has reached the point, a thread of its own
//! registers the memory with the card, part by part, sends it, waits until the card has done with it, and opens the gate: what was put into the stream later
//! finds the memory its own again. *Rules:* nothing here, nor anything that it calls, makes a pointer of a device address: on a real card a processor may not be
//! able to read it. What the card does not take goes by a copy of the driver's, in a stream beside the held one. Memory that the card has is not given back
//! ([`InUse`]), whatever becomes of its stream. There is no cache of registrations, so nothing stale is read. Whether it is worth while is
//! [measured](Choice) against copies by way of host memory, unless the operator knows.
//!
//! Why the memory's bytes are those that the program expects: a stream's write of a value to host memory comes after all that was put before it, in memory as
//! well (`cuStreamWriteValue` without `NO_MEMORY_BARRIER`); all copies and fills of a session are put into streams, none is a synchronous one that a driver may
//! end early, for which `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS` would be.
//!
//! ```text
//! stream:  … ─▶ point ─▶ gate (waits) ─────────────────────────────▶ passed ─▶ …
//!                 │                                          ▲
//! poller:         └─▶ this thread: register, send, reply, completion, open
//! ```
//!
//! # Safety
//! A range was compared with the session's own, and stays the device's while it is on the [list](InUse) of what the card has; a held stream
//! keeps what was put behind it from writing there.
#![expect(unsafe_code, reason = "lends device memory to a card")]

mod in_use;
pub(crate) mod reads;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use driver_api::result::CUresult;
use protocol::choice::Choice;
use protocol::limits::BULK_CHUNK_BYTES;
use protocol::transport::{DeviceLoan, Lender};

use super::call::Call;
use super::capture;
use super::context::{Context, Marking};
use super::end::lock;
use super::gpu_memory::{self, Reach, Unreachable};
use super::launch;
use super::point::Action;
use super::session::Session;
use super::staging::BUFFER_BYTES;
use super::stream::Stream;
use crate::driver::cuda;
use in_use::InUse;
use reads::Reads;

/// What is registered at one time is twice this: one part is on its way while the next is prepared.
const PART_BYTES: u64 = 4 * BULK_CHUNK_BYTES as u64;

/// No more than this goes the other way in any case: a point, a gate and a registration are more than one buffer is worth. It is also counted by the client as
/// fewer operations of the stream than are put there.
const MOST_STAGED_BYTES: u64 = BULK_CHUNK_BYTES as u64;

/// Copies that are sent in turn. Each has two registrations at most.
const MOST_AT_ONCE: usize = 4;

/// How long its thread waits for work before it looks whether the session is over.
const PARK: Duration = Duration::from_secs(1);

/// How copies go directly.
pub(crate) struct Direct {
    lender: Lender,
    reach: Reach,
    /// Without a question.
    is_always: bool,
    choice: Mutex<Choice>,
    jobs: Sender<Job>,
    /// How copies go the other way, where the card can read the client's memory.
    pub(crate) reads: Option<Reads>,
    in_use: InUse,
    /// That the card refuses memory is told once.
    refusal_told: Once,
}

/// A copy, as its stream's point has it.
pub(crate) struct DirectCopy {
    context: Arc<Context>,
    source: u64,
    length: u64,
    /// The client's number of the transfer.
    transfer: u64,
    /// Where its stream waits.
    gate: u32,
    /// The number of the call.
    call: u64,
    /// Whether that waits for an answer.
    answers: bool,
}

/// A copy whose stream has reached it.
pub(crate) struct Job {
    copy: DirectCopy,
    since: Instant,
}

/// How long a copy by way of host memory takes, from where its stream reaches it to its last byte.
pub(crate) struct Stopwatch {
    length: u64,
    begun: Mutex<Option<Instant>>,
}

impl Stopwatch {
    /// The stream has reached the copy.
    pub(crate) fn start(&self) {
        *lock(&self.begun) = Some(Instant::now());
    }
}

impl DirectCopy {
    /// Whether a thread of the client waits for it.
    pub(crate) const fn is_urgent(&self) -> bool {
        self.answers
    }

    /// The stream is lost.
    pub(crate) fn fail(self, session: &Session, result: CUresult) {
        self.end(session, Err(result));
        launch::open(session, self.gate);
    }

    /// Answers, or tells what nobody waits for.
    fn end(&self, session: &Session, result: Result<(), CUresult>) {
        match (self.answers, result) {
            (true, result) => {
                let code = result.err().unwrap_or_default();
                session.outbox.reply(self.call, code, &[]);
                session.outbox.flush();
            }
            (false, Ok(())) => {}
            (false, Err(error)) => session.fault(&self.context, error, "a copy from the device"),
        }
    }
}

impl Direct {
    pub(crate) fn new(
        (lender, reach): (Lender, Reach),
        is_always: bool,
        jobs: Sender<Job>,
        reads: Option<Reads>,
    ) -> Self {
        Self {
            lender,
            reach,
            is_always,
            choice: Mutex::default(),
            jobs,
            reads,
            in_use: InUse::default(),
            refusal_told: Once::new(),
        }
    }

    /// Begins to read what a stream has reached. Nothing is read in a context that is going.
    pub(crate) fn take_up(&self, session: &Session, copy: DirectCopy) {
        let range = (copy.source, copy.length);
        if !self.in_use.begin(copy.call, &copy.context, range) {
            return copy.fail(session, CUresult::CONTEXT_IS_DESTROYED);
        }
        let since = Instant::now();
        if let Err(refused) = self.jobs.send(Job { copy, since }) {
            // Only while the process ends.
            self.in_use.end(refused.0.copy.call);
        }
    }

    /// Waits until the card has nothing of a range.
    pub(crate) fn wait_for(&self, session: &Session, start: u64, size: u64) {
        self.in_use.wait_for(&session.end, start, size);
    }

    /// Waits until the card has nothing of a context.
    pub(crate) fn wait_for_context(&self, session: &Session, serial: u64) {
        self.in_use.wait_for_context(&session.end, serial);
    }

    /// A copy by way of host memory has sent its last byte.
    pub(crate) fn measured(&self, staged: &Stopwatch) {
        if let Some(begun) = *lock(&staged.begun) {
            lock(&self.choice).went_plain(staged.length as usize, begun.elapsed());
        }
    }

    fn tell(&self, error: &Unreachable) {
        let tell = || tracing::warn!(%error, "a copy from the device goes by way of host memory");
        self.refusal_told.call_once(tell);
    }

    fn lend(
        &self,
        session: &Session,
        copy: &DirectCopy,
        (offset, length): (u64, u64),
    ) -> Result<DeviceLoan, Unreachable> {
        copy.context
            .make_current(session.driver)
            .map_err(|error| Unreachable::Driver("cuCtxSetCurrent", error))?;
        let range = (copy.source + offset, length as usize);
        // SAFETY: the range is on the list of what is read, so it stays, and its stream is held, until the loan is dropped.
        gpu_memory::with_memory(session.driver, self.reach, range, |memory| unsafe {
            self.lender.lend(memory)
        })
    }
}

/// How a copy goes.
pub(crate) enum Way {
    /// Directly: it is begun.
    Directly,
    /// By way of host memory; what to time, where that says something.
    ByHost(Option<Arc<Stopwatch>>),
}

/// Begins a copy directly, if it can go so and that is the cheaper way.
///
/// # Errors
/// The driver refuses what a stream has to do for it; nothing is begun.
pub(crate) fn begin(
    call: &Call<'_>,
    (id, stream): (u32, &Arc<Stream>),
    (source, length, transfer): (u64, u64, u64),
    answers: bool,
) -> Result<Way, CUresult> {
    let session = call.session;
    let (Some(direct), context) = (&session.direct, call.context()?) else {
        return Ok(Way::ByHost(None));
    };
    if !is_possible(session, context, stream, (source, length)) {
        return Ok(Way::ByHost(None));
    }
    if !direct.is_always && !lock(&direct.choice).takes_other() {
        let begun = Mutex::new(None);
        return Ok(Way::ByHost(Some(Arc::new(Stopwatch { length, begun }))));
    }
    let context = Arc::clone(context);
    launch::hold_behind(call, id, |gate| {
        Action::Direct(DirectCopy {
            context,
            source,
            length,
            transfer,
            gate,
            call: call.number,
            answers,
        })
    })?;
    Ok(Way::Directly)
}

/// Whether a stream can wait for a copy, and its memory is the card's to have.
fn is_possible(
    session: &Session,
    context: &Context,
    stream: &Stream,
    (start, length): (u64, u64),
) -> bool {
    let can_wait = context.marking != Marking::Events
        && stream
            .context()
            .is_some_and(|own| own.serial == context.serial);
    length > MOST_STAGED_BYTES && can_wait && session.memory.is_whole(start, length, context.serial)
}

/// The thread that sends: a part of each copy in turn, so that none waits for the end of a long one.
pub(crate) fn run(session: &Session, jobs: &Receiver<Job>) {
    capture::relax(session.driver);
    let Some(direct) = &session.direct else {
        return;
    };
    let mut active = VecDeque::new();
    while !session.end.is_over() {
        while active.len() < MOST_AT_ONCE
            && let Some(job) = next(jobs, active.is_empty())
        {
            active.push_back(Active::new(job));
        }
        if let Some(mut first) = active.pop_front() {
            match first.send_part(session, direct) {
                Ok(()) if first.is_sent() => first.end(session, direct, Ok(())),
                Ok(()) => active.push_back(first),
                Err(error) => first.end(session, direct, Err(error)),
            }
        }
    }
}

/// The next copy, if there is one; waits for it where nothing else is to be done.
fn next(jobs: &Receiver<Job>, is_idle: bool) -> Option<Job> {
    match is_idle {
        true => jobs.recv_timeout(PARK).ok(),
        false => jobs.try_recv().ok(),
    }
}

/// A copy that is being sent.
struct Active {
    job: Job,
    /// What was sent.
    offset: u64,
    /// What is on its way still.
    lent: VecDeque<DeviceLoan>,
    /// The card takes no more of it.
    is_refused: bool,
}

impl Active {
    fn new(job: Job) -> Self {
        Self {
            job,
            offset: 0,
            lent: VecDeque::new(),
            is_refused: false,
        }
    }

    fn is_sent(&self) -> bool {
        self.offset >= self.job.copy.length
    }

    /// Sends the next part.
    fn send_part(&mut self, session: &Session, direct: &Direct) -> Result<(), CUresult> {
        let copy = &self.job.copy;
        let (offset, part) = (self.offset, (copy.length - self.offset).min(PART_BYTES));
        if self.lent.len() > 1 {
            // Dropped: it has left.
            self.lent.pop_front();
        }
        let loan = match self.is_refused {
            true => None,
            false => direct
                .lend(session, copy, (offset, part))
                .inspect_err(|error| direct.tell(error))
                .ok(),
        };
        match loan {
            Some(loan) => {
                send_lent(session, copy, offset, (&loan, part));
                self.lent.push_back(loan);
            }
            None => {
                self.is_refused = true;
                lock(&direct.choice).other_failed();
                copy_aside(session, copy, offset, part)?;
            }
        }
        self.offset += part;
        Ok(())
    }

    /// Answers, and lets the stream go when the card has done with the memory.
    fn end(self, session: &Session, direct: &Direct, result: Result<(), CUresult>) {
        let Self {
            job: Job { copy, since },
            lent,
            is_refused,
            ..
        } = self;
        let time = since.elapsed();
        copy.end(session, result);
        // The card has done with it, or the connection is over.
        drop(lent);
        direct.in_use.end(copy.call);
        launch::open(session, copy.gate);
        if !is_refused {
            lock(&direct.choice).went_other(copy.length as usize, time);
            tracing::debug!(bytes = copy.length, "a copy from the device went directly");
        }
    }
}

fn send_lent(
    session: &Session,
    copy: &DirectCopy,
    offset: u64,
    (loan, length): (&DeviceLoan, u64),
) {
    let mut at = 0;
    while at < length && !session.end.is_over() {
        let chunk = (length - at).min(BULK_CHUNK_BYTES as u64);
        let frame = (copy.transfer, offset + at);
        session
            .outbox
            .bulk_of_device(frame, loan, (at, chunk as usize));
        at += chunk;
    }
}

/// Sends what the card does not take: the driver copies it in another stream, since its own is held, and holds whatever might write there.
fn copy_aside(
    session: &Session,
    copy: &DirectCopy,
    offset: u64,
    length: u64,
) -> Result<(), CUresult> {
    let (driver, context) = (session.driver, &copy.context);
    context.make_current(driver)?;
    let stream = context.aside_stream(driver)?;
    let mut at = offset;
    while at < offset + length {
        let chunk = (offset + length - at).min(BUFFER_BYTES as u64);
        let buffer = context.staging.take(driver)?;
        let host = buffer.address().cast();
        let copied = cuda!(
            driver,
            cuMemcpyDtoHAsync_v2(host, copy.source + at, chunk as usize, stream)
        )
        .and_then(|()| cuda!(driver, cuStreamSynchronize(stream)));
        if let Err(error) = copied {
            // The device may still write it.
            std::mem::forget(buffer);
            return Err(error);
        }
        session
            .outbox
            .bulk(copy.transfer, at, buffer, chunk as usize);
        at += chunk;
    }
    Ok(())
}
