//! The way out: one ordered queue of calls, and the frames on the wire.
//!
//! The order, and who sends when, is the [send queue](client_shared::SendQueue)'s: the first post after idle is sent by the caller itself; a
//! post soon after it wakes the sender thread, which then takes what others append until nothing has come for [`AWAKE`];
//! meanwhile a post is an append and nothing else. Who waits for something flushes first.
//!
//! Frames are retained until the worker has acknowledged them, up to [`MAX_RETAINED_BYTES`]; beyond, senders wait.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use client_shared::{After, Batch, MutexGuard, SendQueue, Sleeper};
use driver_api::wire::Request;
use protocol::frame::{CallFlags, CallRecord, FrameHeader, FrameKind, HEADER_BYTES, RecordBuffer};
use protocol::limits::{BATCH_BYTES, BULK_CHUNK_BYTES};
use protocol::transport::{FrameSender, Loan, Owner};

use super::{Link, Lost, reason, sleep_while, wake_all};

/// How long the sender stays awake after the last batch.
const AWAKE: Duration = Duration::from_millis(1);
/// How long it rests between two looks at an empty queue while awake.
const LOOK_AGAIN: Duration = Duration::from_micros(30);
/// A post within this time of the one before is one of many: the sender is woken for them.
const SOON: Duration = Duration::from_micros(100);
/// Most bytes of frames that the worker has not acknowledged.
const MAX_RETAINED_BYTES: usize = 16 * 1024 * 1024;
/// Most bytes of a transfer that are lent to the transport at once: many enough that what is on its way hides what preparing the next costs, and few enough
/// that other threads' calls do not wait long for the wire, which is held for that.
const LOAN_BYTES: usize = 4 * BULK_CHUNK_BYTES;
/// Buffers that are kept for reuse.
const MAX_SPARE: usize = 8;

/// What a call is, beside its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The call number.
    pub(crate) number: u16,
    /// The program's thread.
    pub(crate) thread: u32,
    /// The current context's id; 0 for none.
    pub(crate) context: u32,
}

/// A call's place in the wire order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// Calls are numbered from 1.
    pub(crate) call: u64,
}

pub(super) struct Outgoing {
    queue: SendQueue<Queue, Wire, Futex>,
    acknowledged: AtomicU64,
    /// The number of the last frame that was sent, or is being sent.
    sent: AtomicU64,
}

/// What the sender sleeps on.
#[derive(Default)]
struct Futex(AtomicU32);

impl Sleeper for Futex {
    fn load(&self) -> u32 {
        self.0.load(SeqCst)
    }

    fn store(&self, value: u32) {
        self.0.store(value, SeqCst);
    }

    fn sleep_while(&self, seen: u32) {
        sleep_while(&self.0, seen, Duration::from_secs(3600));
    }

    fn wake(&self) {
        wake_all(&self.0);
    }
}

struct Wire {
    sender: Box<dyn FrameSender>,
    sequence: u64,
    retained: VecDeque<(u64, RecordBuffer)>,
    retained_bytes: usize,
}

struct Queue {
    batch: RecordBuffer,
    spare: Vec<RecordBuffer>,
    calls: u64,
    last_post: Instant,
}

impl Outgoing {
    pub(super) fn new(sender: Box<dyn FrameSender>) -> Self {
        let wire = Wire {
            sender,
            sequence: 0,
            retained: VecDeque::new(),
            retained_bytes: 0,
        };
        let queue = Queue {
            batch: RecordBuffer::with_capacity(BATCH_BYTES),
            spare: Vec::new(),
            calls: 0,
            last_post: Instant::now(),
        };
        Self {
            queue: SendQueue::new(queue, wire, Futex::default()),
            acknowledged: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }

    /// Notes what the worker says it has received.
    pub(super) fn note_acknowledged(&self, sequence: u64) -> Result<(), String> {
        if sequence > self.sent.load(SeqCst) {
            return Err(
                "the server broke the protocol: it has received more than was sent".to_owned(),
            );
        }
        self.acknowledged.fetch_max(sequence, SeqCst);
        Ok(())
    }

    pub(super) fn post<R: Request>(
        &self,
        link: &Link,
        call: Call,
        rest: &[u8],
        place: impl FnOnce(Placed) -> Option<R>,
    ) -> Result<(), Lost> {
        let after = self.queue.post(|queue| {
            let request = place(Placed {
                call: queue.calls + 1,
            });
            match request {
                Some(request) => queue.append(call, CallFlags::NONE, &[request.as_bytes(), rest]),
                None => Ok(()),
            }
        })?;
        match after {
            After::Left => Ok(()),
            After::Send => self.flush(link),
        }
    }

    /// Appends an asked call; `expect` is told its place before it can be sent. Then sends.
    pub(super) fn ask(
        &self,
        link: &Link,
        call: Call,
        parts: &[&[u8]],
        expect: impl FnOnce(Placed),
    ) -> Result<(), Lost> {
        {
            let mut queue = self.queue.batch();
            expect(Placed {
                call: queue.calls + 1,
            });
            queue.append(call, CallFlags::ASKED, parts)?;
        }
        self.flush(link)
    }

    /// Sends everything that is queued.
    pub(super) fn flush(&self, link: &Link) -> Result<(), Lost> {
        let mut wire = self.queue.wire();
        while self.send_batch(link, &mut wire)? {}
        let full = wire.retained_bytes > MAX_RETAINED_BYTES;
        let oldest = wire.retained.front().map(|(sequence, _)| *sequence);
        drop(wire);
        match oldest {
            Some(oldest) if full => link.wait_until(|| self.acknowledged() >= oldest),
            _ => Ok(()),
        }
    }

    /// Sends one batch; says whether there was one.
    fn send_batch(&self, link: &Link, wire: &mut MutexGuard<'_, Wire>) -> Result<bool, Lost> {
        let take = |wire: &mut Wire, queue: &mut Queue| {
            wire.release(self.acknowledged(), &mut queue.spare);
            let fresh = queue.spare.pop();
            let fresh = fresh.unwrap_or_else(|| RecordBuffer::with_capacity(BATCH_BYTES));
            std::mem::replace(&mut queue.batch, fresh)
        };
        self.queue.send_batch(wire, take, |wire, batch| {
            let header = link.header(FrameKind::Calls);
            let sequence = wire.send(link, header, &[IoSlice::new(batch.as_bytes())])?;
            wire.retained_bytes += batch.len();
            wire.retained.push_back((sequence, batch));
            Ok(())
        })
    }

    /// The sender thread: takes batches until nothing has come for a while, then sleeps until woken.
    pub(super) fn send_while_busy(&self, link: &Link) {
        let mut last_batch = Instant::now();
        let stays = |awake: &Futex, sent: bool| {
            if sent {
                last_batch = Instant::now();
                return true;
            }
            let stays = last_batch.elapsed() < AWAKE;
            if stays {
                sleep_while(&awake.0, awake.load(), LOOK_AGAIN);
            }
            stays
        };
        // A failure has ended the link.
        let _ = self.queue.send_while_awake(
            |wire| self.send_batch(link, wire),
            stays,
            || link.is_lost(),
        );
    }

    pub(super) fn wake_sender(&self) {
        self.queue.wake_sender();
    }

    /// See [`Link::send_transfer`].
    ///
    /// # Safety
    /// As there.
    #[expect(unsafe_code, reason = "the user's memory is read where it is")]
    pub(super) unsafe fn send_transfer(
        &self,
        link: &Link,
        transfer: u64,
        bytes: *const u8,
        length: usize,
    ) -> Result<u64, Lost> {
        let mut sequence = 0;
        let mut offset = 0;
        let mut loans = Loans {
            outgoing: self,
            lent: VecDeque::new(),
        };
        while offset < length {
            if offset % LOAN_BYTES == 0 {
                // SAFETY: inside the memory that the caller vouches for, and taken back before this returns.
                unsafe { loans.lend(bytes.add(offset), LOAN_BYTES.min(length - offset)) };
            }
            let chunk = BULK_CHUNK_BYTES.min(length - offset);
            // SAFETY: inside the memory that the caller vouches for. Another thread of the program may write to it meanwhile, which is
            // the program's race with its own copy: the kernel reads the bytes once, and nothing here looks at them.
            let piece = unsafe { std::slice::from_raw_parts(bytes.add(offset), chunk) };
            let mut header = FrameHeader::bulk(transfer, offset as u64);
            header.acknowledged = link.header(FrameKind::Bulk).acknowledged;
            let mut wire = self.queue.wire();
            // The call that names the transfer must be out first.
            while self.send_batch(link, &mut wire)? {}
            sequence = wire.send(link, header, &[IoSlice::new(piece)])?;
            offset += chunk;
        }
        if !loans.lent.is_empty() {
            // Its bytes are still on their way: with the acknowledgement, which the caller waits for anyway, they have left.
            link.wait_acknowledged(sequence)?;
        }
        Ok(sequence)
    }

    /// Tells the worker that we are there, and what we have received.
    pub(super) fn heartbeat(&self, link: &Link) -> Result<(), Lost> {
        let header = link.header(FrameKind::Heartbeat);
        // Who is sending now is heard anyway.
        let Some(mut wire) = self.queue.try_wire() else {
            return Ok(());
        };
        wire.put(link, &header, &[])
    }

    /// Says that the end is meant.
    pub(super) fn goodbye(&self, link: &Link) {
        let header = link.header(FrameKind::Goodbye);
        let _ = self.queue.wire().send(link, header, &[]);
    }
}

/// What of a transfer is lent to the transport: at most two parts at a time, so that one is on its way while the next is prepared.
struct Loans<'a> {
    outgoing: &'a Outgoing,
    lent: VecDeque<Loan>,
}

impl Loans<'_> {
    /// Lends the next part, and takes back the one before the last.
    ///
    /// # Safety
    /// The memory is readable until this is dropped.
    #[expect(unsafe_code, reason = "the user's memory is read where it is")]
    unsafe fn lend(&mut self, start: *const u8, length: usize) {
        let mut wire = self.outgoing.queue.wire();
        if self.lent.len() > 1
            && let Some(loan) = self.lent.pop_front()
        {
            wire.sender.take_back(loan);
        }
        // SAFETY: the caller's promise.
        self.lent
            .extend(unsafe { wire.sender.lend(Owner::Program, start, length) });
    }
}

impl Drop for Loans<'_> {
    fn drop(&mut self) {
        if !self.lent.is_empty() {
            let mut wire = self.outgoing.queue.wire();
            self.lent
                .drain(..)
                .for_each(|loan| wire.sender.take_back(loan));
        }
    }
}

impl Batch for Queue {
    fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES
    }

    fn is_one_of_many(&mut self) -> bool {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.last_post, now);
        now.duration_since(before) < SOON
    }
}

impl Queue {
    fn append(&mut self, call: Call, flags: CallFlags, parts: &[&[u8]]) -> Result<(), Lost> {
        let record = CallRecord {
            number: call.number,
            flags,
            length: 0,
            thread: call.thread,
            context: call.context,
        };
        // Bodies are bounded by the callers and a batch is sent long before it is full.
        self.batch.push_parts(&record, parts).map_err(|_| Lost)?;
        self.calls += 1;
        Ok(())
    }
}

impl Wire {
    /// Sends a numbered frame; returns its number.
    fn send(
        &mut self,
        link: &Link,
        mut header: FrameHeader,
        payload: &[IoSlice<'_>],
    ) -> Result<u64, Lost> {
        header.sequence = self.sequence + 1;
        // Known before it can be acknowledged.
        link.outgoing.sent.store(header.sequence, SeqCst);
        self.put(link, &header, payload)?;
        self.sequence += 1;
        Ok(self.sequence)
    }

    fn put(
        &mut self,
        link: &Link,
        header: &FrameHeader,
        payload: &[IoSlice<'_>],
    ) -> Result<(), Lost> {
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        match self.sender.send(header, payload) {
            Ok(()) => {
                link.sent_bytes
                    .fetch_add((HEADER_BYTES + bytes) as u64, SeqCst);
                Ok(())
            }
            Err(error) => {
                link.lose_after_reading(&reason(&error));
                Err(Lost)
            }
        }
    }

    /// Lets go of the frames that the worker has.
    fn release(&mut self, acknowledged: u64, spare: &mut Vec<RecordBuffer>) {
        while let Some((sequence, _)) = self.retained.front()
            && *sequence <= acknowledged
            && let Some((_, mut buffer)) = self.retained.pop_front()
        {
            self.retained_bytes -= buffer.len();
            if spare.len() < MAX_SPARE {
                buffer.clear();
                spare.push(buffer);
            }
        }
    }
}
