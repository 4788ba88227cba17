//! What goes to the client: one ordered way out, shared by executors, lanes and the poller.
//!
//! *Rules:* the lock is never held while the driver is called; records of one kind that are ready together leave in one
//! frame, and a record of another kind sends what is open first, so that everything leaves in the order in which it
//! was handed over; every frame acknowledges what was received.
//!
//! *Cost:* a record is one uncontended lock and a copy of its bytes; a flush is one `sendmsg`.
//!
//! # Safety
//! A buffer that is lent to the transport is kept, unchanged, until it is taken back.
#![expect(unsafe_code, reason = "lends buffers to the transport")]

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use driver_api::result::CUresult;
use protocol::frame::{
    CompletionRecord, FrameHeader, FrameKind, Record, RecordBuffer, ReplyRecord,
};
use protocol::limits::{BATCH_BYTES, HEARTBEAT_INTERVAL, MAX_TEXT_BYTES};
use protocol::transport::{DeviceLoan, FrameSender, Loan, Owner, TransportError};

use super::end::{End, Reason, lock};
use super::staging::StagingBuffer;
use crate::registry::COUNTERS;

/// An acknowledgement is owed at once after so many received frames.
const ACKNOWLEDGE_FRAMES: u32 = 64;

/// An acknowledgement is owed at once after so many received bytes.
const ACKNOWLEDGE_BYTES: u32 = 256 << 10;

/// Buffers that may be on their way while the next is sent.
const LENT_BUFFERS: usize = 2;

/// What was sent so long ago has left its buffers.
const LENT_TIME: Duration = Duration::from_millis(500);

/// The way to the client.
pub(crate) struct Outbox {
    state: Mutex<State>,
    received: AtomicU64,
    /// The number of the last frame that was sent, or is being sent.
    sent: AtomicU64,
    owed_frames: AtomicU32,
    owed_bytes: AtomicU32,
    end: Arc<End>,
}

struct State {
    sender: Box<dyn FrameSender>,
    sequence: u64,
    /// What the records in the making are.
    open: FrameKind,
    records: RecordBuffer,
    last_sent: Instant,
    /// Buffers whose bytes may be on their way still.
    lent: VecDeque<(Loan, StagingBuffer)>,
}

impl State {
    fn take_back_all_but(&mut self, most: usize) {
        while self.lent.len() > most
            && let Some((loan, _buffer)) = self.lent.pop_front()
        {
            self.sender.take_back(loan);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.take_back_all_but(0);
    }
}

impl Outbox {
    pub(crate) fn new(sender: Box<dyn FrameSender>, end: Arc<End>) -> Self {
        Self {
            state: Mutex::new(State {
                sender,
                sequence: 0,
                open: FrameKind::Replies,
                records: RecordBuffer::with_capacity(BATCH_BYTES),
                last_sent: Instant::now(),
                lent: VecDeque::new(),
            }),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            owed_frames: AtomicU32::new(0),
            owed_bytes: AtomicU32::new(0),
            end,
        }
    }

    /// The highest sequence received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether a client may acknowledge so many frames.
    pub(crate) fn has_sent(&self, sequence: u64) -> bool {
        sequence <= self.sent.load(Ordering::Acquire)
    }

    /// A whole frame was received: only the order token's holder says so.
    pub(crate) fn note_received(&self, sequence: u64, bytes: u32) {
        self.received.store(sequence, Ordering::Release);
        COUNTERS.received(bytes.into());
        let frames = self.owed_frames.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self
            .owed_bytes
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        if frames >= ACKNOWLEDGE_FRAMES || bytes >= ACKNOWLEDGE_BYTES {
            self.acknowledge();
        }
    }

    /// Acknowledges now what is not acknowledged yet.
    pub(crate) fn acknowledge(&self) {
        let mut state = lock(&self.state);
        // What is open carries the acknowledgement as well.
        if state.records.is_empty() {
            self.send(&mut state, &FrameHeader::new(FrameKind::Heartbeat), &[]);
        } else {
            self.send_open(&mut state);
        }
    }

    /// Takes back whatever is lent: its memory is going.
    pub(crate) fn take_back_all(&self) {
        lock(&self.state).take_back_all_but(0);
    }

    /// A heartbeat if nothing was sent for its interval.
    pub(crate) fn pulse(&self) {
        let idle = {
            let mut state = lock(&self.state);
            if state.last_sent.elapsed() >= LENT_TIME {
                state.take_back_all_but(0);
            }
            state.last_sent.elapsed()
        };
        if idle + Duration::from_millis(100) >= HEARTBEAT_INTERVAL {
            self.acknowledge();
        }
    }

    /// Hands over a reply; it leaves with the next flush.
    pub(crate) fn reply(&self, call: u64, result: CUresult, body: &[u8]) {
        let record = ReplyRecord {
            call,
            result: result.0,
            length: 0,
        };
        let body = if result.is_success() { body } else { &[] };
        self.push(FrameKind::Replies, &record, body);
    }

    /// Hands over a completion; it leaves with the next flush.
    pub(crate) fn completion(&self, stream: u32, result: CUresult, mark: u64) {
        let record = CompletionRecord {
            stream,
            result: result.0,
            mark,
        };
        self.push(FrameKind::Completions, &record, &[]);
    }

    /// Sends what has been handed over.
    pub(crate) fn flush(&self) {
        self.send_open(&mut lock(&self.state));
    }

    /// Sends bytes `offset..` of a transfer from a buffer, after everything handed over before. Where they can leave from where they are, the
    /// buffer stays here until they have.
    pub(crate) fn bulk(&self, transfer: u64, offset: u64, buffer: StagingBuffer, length: usize) {
        let mut state = lock(&self.state);
        self.send_open(&mut state);
        let bytes = buffer.landed(length);
        let loan = match buffer.is_closed() {
            // Its context is ending, and has taken back, or will with this lock, what was lent before.
            true => None,
            // SAFETY: the buffer's bytes are its owner's, and that is this state until they are taken back; its context takes them back
            // before their memory goes.
            false => unsafe { state.sender.lend(Owner::Us, bytes.as_ptr(), bytes.len()) },
        };
        self.send(&mut state, &FrameHeader::bulk(transfer, offset), bytes);
        if let Some(loan) = loan {
            state.lent.push_back((loan, buffer));
            state.take_back_all_but(LENT_BUFFERS);
        }
    }

    /// Sends bytes of a device's memory that is lent, the `offset`-th of a transfer, after everything handed over before: `length` bytes from `at` on of the loan.
    pub(crate) fn bulk_of_device(
        &self,
        (transfer, offset): (u64, u64),
        loan: &DeviceLoan,
        (at, length): (u64, usize),
    ) {
        let mut state = lock(&self.state);
        self.send_open(&mut state);
        let header = FrameHeader::bulk(transfer, offset);
        self.send_by(&mut state, &header, length, |sender, header| {
            sender.send_device(header, loan, at, length)
        });
    }

    /// Sends what device code printed.
    pub(crate) fn output(&self, bytes: &[u8]) {
        self.send_after_open(&FrameHeader::new(FrameKind::Output), bytes);
    }

    /// Says that a context is lost, or that a posted call failed in it.
    pub(crate) fn fault(&self, context: u32, result: CUresult, text: &str) {
        COUNTERS.fault();
        let mut header = FrameHeader::new(FrameKind::Fault);
        header.argument = context.into();
        header.offset = result.0.into();
        self.send_after_open(&header, shortened(text).as_bytes());
    }

    /// Says goodbye, once nobody else is sending: whoever calls this waits for as long as someone is stuck in that, and for the client.
    pub(crate) fn goodbye(&self, text: &str) {
        let mut state = lock(&self.state);
        self.send_open(&mut state);
        let header = FrameHeader::new(FrameKind::Goodbye);
        self.send(&mut state, &header, shortened(text).as_bytes());
    }

    fn push<R: Record>(&self, kind: FrameKind, record: &R, body: &[u8]) {
        let mut state = lock(&self.state);
        if state.open != kind || !state.records.fits(body.len()) {
            self.send_open(&mut state);
            state.open = kind;
        }
        if state.records.push_parts(record, &[body]).is_err() {
            // Bodies are bounded where they are made.
            self.end
                .finish(Reason::Failed("a record too long for its frame".to_owned()));
        }
        if state.records.len() >= BATCH_BYTES {
            self.send_open(&mut state);
        }
    }

    fn send_after_open(&self, header: &FrameHeader, bytes: &[u8]) {
        let mut state = lock(&self.state);
        self.send_open(&mut state);
        self.send(&mut state, header, bytes);
    }

    fn send_open(&self, state: &mut MutexGuard<'_, State>) {
        if state.records.is_empty() {
            return;
        }
        let mut records = std::mem::take(&mut state.records);
        let header = FrameHeader::new(state.open);
        self.send(state, &header, records.as_bytes());
        records.clear();
        state.records = records;
    }

    fn send(&self, state: &mut MutexGuard<'_, State>, header: &FrameHeader, bytes: &[u8]) {
        self.send_by(state, header, bytes.len(), |sender, header| {
            sender.send(header, &[IoSlice::new(bytes)])
        });
    }

    /// Sends a frame with so many bytes, by `send`.
    #[inline]
    fn send_by(
        &self,
        state: &mut MutexGuard<'_, State>,
        header: &FrameHeader,
        length: usize,
        send: impl FnOnce(&mut dyn FrameSender, &FrameHeader) -> Result<(), TransportError>,
    ) {
        let mut header = *header;
        if header.kind != FrameKind::Heartbeat {
            state.sequence += 1;
            header.sequence = state.sequence;
            // Known before it can be acknowledged.
            self.sent.store(state.sequence, Ordering::Release);
        }
        self.owed_frames.store(0, Ordering::Relaxed);
        self.owed_bytes.store(0, Ordering::Relaxed);
        header.acknowledged = self.received.load(Ordering::Acquire);
        if let Err(error) = send(&mut *state.sender, &header) {
            self.end.finish(error.into());
        }
        // The client waits for none of this.
        state.last_sent = Instant::now();
        COUNTERS.sent(length as u64);
    }
}

/// Text cut to what a frame may hold.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}
