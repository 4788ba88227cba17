//! The way in: who reads, and where what is read goes.
//!
//! There is no dispatcher thread on the way of a reply: a thread that waits for something reads the connection itself and serves the
//! others who wait. Only while nobody waits does the background thread read; it looks whether someone else does once a
//! millisecond, so that it is not woken for every reply of theirs.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use driver_api::abi::CUresult;
use protocol::frame::{Completions, FrameHeader, FrameKind, HEADER_BYTES, Replies};
use protocol::spin::Spin;
use protocol::transport::{FrameReceiver, TransportError};
use smallvec::SmallVec;

use super::transfers::Place;
use super::{Link, reason};
use crate::log;
use crate::process;

/// What the session does with what is pushed to it.
pub(crate) trait Sink: Send + Sync {
    /// Everything before `mark` of a stream is done, or failed with `result`.
    fn completed(&self, stream: u32, mark: u64, result: CUresult);
    /// A context is lost.
    fn fault(&self, context: u32, result: CUresult, text: &str);
    /// Whether something was pushed that is to be answered.
    fn has_errand(&self) -> bool {
        false
    }
    /// Answers it; the caller holds nothing.
    fn run_errand(&self, _link: &Link) {}
}

/// The reply to an asked call.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The driver's result.
    pub(crate) result: CUresult,
    /// What was answered; empty if the result is an error.
    pub(crate) body: Body,
}

/// A reply's bytes: most are a few numbers, for which nothing is allocated.
pub(crate) type Body = SmallVec<[u8; 64]>;

/// A thread's place for its reply.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    done: AtomicBool,
    reply: Mutex<Option<Reply>>,
}

impl Waiting {
    pub(super) fn is_done(&self) -> bool {
        self.done.load(SeqCst)
    }

    fn take(&self) -> Option<Reply> {
        self.done.store(false, SeqCst);
        self.reply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Who waits for which reply.
#[derive(Debug, Default)]
struct Asked {
    /// In the order of the calls, which is mostly that of the replies. No more than threads wait.
    expected: VecDeque<(u64, Arc<Waiting>)>,
    /// Places that nobody waits in: kept, so that nothing is allocated for a call.
    spare: Vec<Arc<Waiting>>,
}

/// Places that are kept.
const MAX_SPARE: usize = 64;

pub(super) struct Incoming {
    front: Mutex<Front>,
    /// Threads of the program that read or want to.
    readers: AtomicU32,
    descriptor: Option<RawFd>,
    asked: Mutex<Asked>,
    received: AtomicU64,
    sink: Box<dyn Sink>,
}

/// What who reads has.
struct Front {
    receiver: Box<dyn FrameReceiver>,
    spin: Spin,
    /// The payload of the frame that is taken in.
    payload: Vec<u8>,
}

/// Most bytes that are kept for the next payload.
const KEPT_PAYLOAD_BYTES: usize = 64 << 10;

/// The right to read.
pub(super) struct Reader<'a> {
    incoming: &'a Incoming,
    front: MutexGuard<'a, Front>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.incoming.readers.fetch_sub(1, SeqCst);
    }
}

impl Incoming {
    pub(super) fn new(receiver: Box<dyn FrameReceiver>, sink: Box<dyn Sink>) -> Self {
        Self {
            descriptor: receiver
                .readiness()
                .map(|descriptor| descriptor.as_raw_fd()),
            front: Mutex::new(Front {
                spin: Spin::new(receiver.look_time()),
                receiver,
                payload: Vec::new(),
            }),
            readers: AtomicU32::new(0),
            asked: Mutex::default(),
            received: AtomicU64::new(0),
            sink,
        }
    }

    /// The highest sequence number received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(SeqCst)
    }

    /// Announces that call `number` will be answered, and where. Calls are announced in their order.
    pub(super) fn expect(&self, number: u64) -> Arc<Waiting> {
        let mut asked = self.asked();
        let waiting = asked.spare.pop().unwrap_or_default();
        asked.expected.push_back((number, Arc::clone(&waiting)));
        waiting
    }

    /// The reply, if it has come; the place is another call's from now on.
    pub(super) fn take(&self, waiting: Arc<Waiting>) -> Option<Reply> {
        let reply = waiting.take();
        let mut asked = self.asked();
        // Where no reply has come, it may still be expected.
        if reply.is_some() && asked.spare.len() < MAX_SPARE {
            asked.spare.push(waiting);
        }
        reply
    }

    /// Who waits for a call's reply, once.
    fn answered(&self, call: u64) -> Option<Arc<Waiting>> {
        let mut asked = self.asked();
        let place = asked
            .expected
            .iter()
            .position(|(number, _)| *number == call)?;
        asked.expected.remove(place).map(|(_, waiting)| waiting)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to read, if nobody has it.
    pub(super) fn try_read(&self) -> Option<Reader<'_>> {
        let front = match self.front.try_lock() {
            Ok(front) => front,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.readers.fetch_add(1, SeqCst);
        Some(Reader {
            incoming: self,
            front,
        })
    }

    /// Answers what was pushed to be answered. The caller has not got the right to read: who sends may have to.
    pub(super) fn run_errand(&self, link: &Link) {
        if self.sink.has_errand() {
            self.sink.run_errand(link);
        }
    }

    /// For the background thread: waits until something is there to be read and nobody reads it.
    pub(super) fn wait_unread(&self, most: Duration) -> Result<bool, String> {
        if self.readers.load(SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(false);
        }
        let Some(descriptor) = self.descriptor else {
            // In memory there is nothing to poll.
            std::thread::sleep(Duration::from_millis(1));
            return Ok(true);
        };
        let Some(mut reader) = self.try_read() else {
            return Ok(false);
        };
        let prepared = reader.front.receiver.prepare_readiness();
        drop(reader);
        if prepared.map_err(|error| reason(&error))? {
            return Ok(true);
        }
        let readable = poll(descriptor, most)?;
        Ok(readable && self.readers.load(SeqCst) == 0)
    }
}

#[expect(unsafe_code, reason = "polls the descriptor that the receiver owns")]
fn poll(descriptor: RawFd, most: Duration) -> Result<bool, String> {
    // SAFETY: the receiver owns the descriptor and lives as long as the link, which the calling thread holds.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut poll = [rustix::event::PollFd::new(
        &descriptor,
        rustix::event::PollFlags::IN,
    )];
    let most = rustix::time::Timespec {
        tv_sec: most.as_secs().try_into().unwrap_or(1),
        tv_nsec: most.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut poll, Some(&most)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

impl Reader<'_> {
    /// How it waits.
    pub(super) fn spin(&mut self) -> &mut Spin {
        &mut self.front.spin
    }

    /// Blocks until something arrives.
    pub(super) fn wait(&mut self, most: Duration) -> Result<bool, TransportError> {
        self.front.receiver.wait(Some(most))
    }

    /// Takes in what one look finds: every frame that has arrived with it. Returns how many bytes that were; that nothing is left is
    /// certain only when there were none.
    pub(super) fn drain(&mut self, link: &Link) -> Result<u64, String> {
        let mut bytes = 0;
        while (bytes == 0 || self.front.receiver.has_header())
            && let Some(header) = self
                .front
                .receiver
                .poll_header()
                .map_err(|error| reason(&error))?
        {
            self.check_order(&header)?;
            bytes += HEADER_BYTES as u64 + u64::from(header.length);
            self.frame(link, &header)?;
            if header.sequence > 0 {
                self.incoming.received.store(header.sequence, SeqCst);
            }
            link.outgoing.note_acknowledged(header.acknowledged)?;
        }
        Ok(bytes)
    }

    /// Frames are numbered without a gap; heartbeats are not.
    fn check_order(&self, header: &FrameHeader) -> Result<(), String> {
        let expected = match header.kind {
            FrameKind::Heartbeat => 0,
            _ => self.incoming.received() + 1,
        };
        if header.sequence == expected {
            return Ok(());
        }
        Err("the server broke the protocol: a frame out of order".to_owned())
    }

    fn frame(&mut self, link: &Link, header: &FrameHeader) -> Result<(), String> {
        match header.kind {
            FrameKind::Replies => self.replies(header),
            FrameKind::Completions => self.completions(header),
            FrameKind::Bulk => self.bulk(link, header),
            FrameKind::Output => {
                let bytes = self.payload(header)?;
                process::print(bytes);
                Ok(())
            }
            FrameKind::Fault => self.fault(header),
            FrameKind::Heartbeat => Ok(()),
            FrameKind::Goodbye => {
                let reason = self.payload(header)?;
                Err(format!(
                    "the server ended it: {}",
                    String::from_utf8_lossy(reason)
                ))
            }
            FrameKind::Calls => Err("the server broke the protocol: it sent calls".to_owned()),
        }
    }

    /// The whole payload; its length is bounded by the frame's kind.
    fn payload(&mut self, header: &FrameHeader) -> Result<&[u8], String> {
        let length = header.length as usize;
        let Front {
            receiver, payload, ..
        } = &mut *self.front;
        if payload.len() < length || payload.len() > length.max(KEPT_PAYLOAD_BYTES) {
            *payload = vec![0; length];
        }
        let bytes = &mut payload[..length];
        receiver
            .read_payload(bytes)
            .map_err(|error| reason(&error))?;
        Ok(bytes)
    }

    fn replies(&mut self, header: &FrameHeader) -> Result<(), String> {
        let incoming = self.incoming;
        for record in Replies::new(self.payload(header)?) {
            let (record, body) = record.map_err(|error| error.to_string())?;
            let Some(waiting) = incoming.answered(record.call) else {
                return Err(format!(
                    "the server broke the protocol: nobody asked call {}",
                    record.call
                ));
            };
            let reply = Reply {
                result: CUresult(record.result),
                body: Body::from_slice(body),
            };
            *waiting.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
            waiting.done.store(true, SeqCst);
        }
        Ok(())
    }

    fn completions(&mut self, header: &FrameHeader) -> Result<(), String> {
        let incoming = self.incoming;
        for record in Completions::new(self.payload(header)?) {
            let (record, _) = record.map_err(|error| error.to_string())?;
            incoming
                .sink
                .completed(record.stream, record.mark, CUresult(record.result));
        }
        Ok(())
    }

    #[expect(
        unsafe_code,
        reason = "the worker's bytes go where the user wants them"
    )]
    fn bulk(&mut self, link: &Link, header: &FrameHeader) -> Result<(), String> {
        let length = header.length as usize;
        let place = link.transfers.place(header.argument, header.offset, length);
        let (transfer, place) = match place {
            Some(Place::Memory(transfer, place)) => (transfer, place),
            Some(Place::Nowhere) => {
                let skipped = self.front.receiver.skip_payload();
                return skipped.map_err(|error| reason(&error));
            }
            None => {
                return Err(format!(
                    "the server broke the protocol: transfer {} was not asked for",
                    header.argument
                ));
            }
        };
        // SAFETY: the range is inside the memory that whoever expects the transfer keeps writable until it is done or withdrawn, and
        // it is neither before `placed`.
        let read = unsafe { self.front.receiver.read_payload_raw(place, length) };
        link.transfers
            .placed(&transfer, read.is_ok().then_some(length));
        read.map_err(|error| reason(&error))
    }

    fn fault(&mut self, header: &FrameHeader) -> Result<(), String> {
        let incoming = self.incoming;
        let text = self.payload(header)?;
        let context = u32::try_from(header.argument).unwrap_or(0);
        let result = CUresult(u32::try_from(header.offset).unwrap_or(CUresult::UNKNOWN.0));
        let text = String::from_utf8_lossy(text);
        log::error!("{text}");
        incoming.sink.fault(context, result, &text);
        Ok(())
    }
}
