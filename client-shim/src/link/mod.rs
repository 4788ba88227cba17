//! The connection to the worker, seen from the program's threads.
//!
//! ```text
//! post ──▶ queue (one order) ──▶ wire ──▶ worker
//! ask  ──▶ queue, flush, wait ◀── reply      ┐
//! wait ──▶ flush, wait        ◀── completion ┤ incoming: whoever waits reads; else the background thread
//!          memory of the user ◀── bulk       ┘
//! ```
//!
//! Cost of a post: one lock, one append; a system call only if the sender is asleep (first post after idle). Cost of an ask: one `send`, one
//! `recv` by the same thread, which [spins](protocol::spin) before it blocks: no other thread is woken. Bytes are copied once into
//! the queue up to 64 KiB, and leave straight from the user's memory above.
//!
//! Nothing hangs: every wait ends with its condition, or with [`Lost`] when the connection ends or the worker has been
//! silent for longer than the settings allow.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;
mod transfers;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use driver_api::abi::CUresult;
use driver_api::wire::Request;
use protocol::frame::{FrameHeader, FrameKind};
use protocol::spin::Wait;
use protocol::transport::{Connection, Interrupt, TransportError, Watch};

pub(crate) use incoming::{Body, Reply, Sink};
pub(crate) use outgoing::{Call, Placed};
pub(crate) use transfers::Transfer;

use incoming::{Incoming, Waiting};
use outgoing::Outgoing;
use transfers::Transfers;

use crate::log;
use crate::process;

/// How long a connection that takes nothing more is read to its end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often an idle thread of ours looks whether any thread of the program is left.
const LOOK_AROUND: Duration = Duration::from_millis(900);

/// How long the end of the program may wait until the server has taken what is queued.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// The connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lost;

impl From<Lost> for CUresult {
    /// What every call answers once the connection is lost; the log says why.
    fn from(_: Lost) -> Self {
        Self::DEVICE_UNAVAILABLE
    }
}

/// A call that will be answered.
pub(crate) struct Asked(Arc<Waiting>);

/// One connection to a worker.
pub(crate) struct Link {
    outgoing: Outgoing,
    incoming: Incoming,
    transfers: Transfers,
    interrupt: Interrupt,
    lost: AtomicBool,
    reason: OnceLock<String>,
    ended: AtomicBool,
    /// Counts what arrived; waiting threads sleep on it.
    news: AtomicU32,
    sleepers: AtomicU32,
    watch: Watch,
    /// Totals for the counts of a run.
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
}

impl Link {
    /// Takes over a connection; completions and faults go to `sink`.
    pub(crate) fn start(connection: Connection, sink: Box<dyn Sink>) -> std::io::Result<Arc<Self>> {
        let link = Arc::new(Self {
            outgoing: Outgoing::new(connection.sender),
            incoming: Incoming::new(connection.receiver, sink),
            transfers: Transfers::default(),
            interrupt: connection.interrupt,
            lost: AtomicBool::new(false),
            reason: OnceLock::new(),
            ended: AtomicBool::new(false),
            news: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            watch: connection.watch,
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        });
        let started = link
            .spawn("send", Self::send_in_background)
            .and_then(|()| link.spawn("receive", Self::receive_in_background));
        if started.is_err() {
            // The thread that did start ends, and the server learns that nobody is here.
            link.ended.store(true, SeqCst);
            link.lose("it could not be begun");
        }
        started.map(|()| link)
    }

    /// Starts a thread of ours; if it panics, the session is lost rather than left without it.
    fn spawn(self: &Arc<Self>, name: &str, body: fn(&Self)) -> std::io::Result<()> {
        let (link, panicked) = (Arc::clone(self), Arc::clone(self));
        let after_panic = move || panicked.lose("internal error in a thread of the library");
        process::spawn(name, move || body(&link), after_panic)
    }

    /// True if the connection is over.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }

    fn check(&self) -> Result<(), Lost> {
        if self.is_lost() { Err(Lost) } else { Ok(()) }
    }

    /// Ends the connection for a reason; only the first counts.
    ///
    /// No thread sees a call fail before the reason is told, however many find out at once: the program may exit on the first failure.
    fn lose(&self, reason: &str) {
        let mut is_first = false;
        self.reason.get_or_init(|| {
            if !self.ended.load(SeqCst) {
                log::error!(
                    "the session is lost: {reason}; every CUDA call of this program fails from now on"
                );
            }
            self.lost.store(true, SeqCst);
            is_first = true;
            reason.to_owned()
        });
        if !is_first {
            return;
        }
        self.interrupt.shutdown();
        self.announce();
        self.outgoing.wake_sender();
    }

    /// Ends the connection because it takes nothing more; the server may have said why before that.
    fn lose_after_reading(&self, reason: &str) {
        let end = Instant::now() + LAST_WORDS;
        while !self.is_lost() && Instant::now() < end {
            match self.incoming.try_read() {
                // What has arrived is read to its end, which loses the connection for what it says.
                Some(mut reader) => match self.drain(&mut reader) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Lost) => return,
                },
                // Whoever reads comes to the end as well.
                None => sleep_while(&self.news, self.news.load(SeqCst), Duration::from_millis(5)),
            }
        }
        self.lose(reason);
    }

    /// Wakes every thread that waits for news.
    fn announce(&self) {
        self.news.fetch_add(1, SeqCst);
        if self.sleepers.load(SeqCst) > 0 {
            wake_all(&self.news);
        }
    }

    /// Waits until `done`. While no other thread reads the connection, this one does.
    pub(crate) fn wait_until(&self, mut done: impl FnMut() -> bool) -> Result<(), Lost> {
        loop {
            if done() {
                return Ok(());
            }
            self.check()?;
            let seen = self.news.load(SeqCst);
            match self.incoming.try_read() {
                Some(mut reader) => {
                    let result = self.read_until(&mut reader, &mut done);
                    drop(reader);
                    // Someone else who waits must take over reading.
                    self.announce();
                    // The background thread may not have noticed what was read here.
                    self.incoming.run_errand(self);
                    return result;
                }
                None => {
                    if done() {
                        return Ok(());
                    }
                    self.sleepers.fetch_add(1, SeqCst);
                    sleep_while(&self.news, seen, Duration::from_millis(100));
                    self.sleepers.fetch_sub(1, SeqCst);
                }
            }
        }
    }

    /// Takes in what has arrived, without waiting.
    pub(crate) fn take_in(&self) -> Result<(), Lost> {
        self.check()?;
        if let Some(mut reader) = self.incoming.try_read() {
            while self.drain(&mut reader)? {}
        }
        Ok(())
    }

    /// Takes in frames that have arrived; says whether there were any.
    fn drain(&self, reader: &mut incoming::Reader<'_>) -> Result<bool, Lost> {
        match reader.drain(self) {
            Ok(0) => Ok(false),
            Ok(bytes) => {
                self.received_bytes.fetch_add(bytes, SeqCst);
                self.announce();
                Ok(true)
            }
            Err(reason) => {
                self.lose(&reason);
                Err(Lost)
            }
        }
    }

    fn read_until(
        &self,
        reader: &mut incoming::Reader<'_>,
        done: &mut impl FnMut() -> bool,
    ) -> Result<(), Lost> {
        let mut waiting: Option<Wait> = None;
        loop {
            self.check()?;
            let may_have_come = waiting.is_some() || !reader.spin().sleeps_at_once();
            if may_have_come
                && self.drain(reader)?
                && let Some(waited) = waiting.take()
            {
                reader.spin().end(&waited, Instant::now);
            }
            if done() {
                return Ok(());
            }
            let now = Instant::now();
            let wait = waiting.get_or_insert_with(|| reader.spin().begin(now));
            // A look takes long enough by itself: a pause between two would only delay what is seen.
            if !wait.looks_again(now) {
                wait.sleeps(now);
                self.block(reader)?;
            }
        }
    }

    /// Blocks until something arrives, for a second at most.
    fn block(&self, reader: &mut incoming::Reader<'_>) -> Result<(), Lost> {
        match reader.wait(Duration::from_secs(1)) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.lose(&reason(&error));
                Err(Lost)
            }
        }
    }

    /// A server that has said nothing for the grace is given up: it would have sent heartbeats.
    fn check_silence(&self) -> Result<(), Lost> {
        self.watch.look().map_err(|error| {
            self.lose(&reason(&error));
            Lost
        })
    }

    /// Queues a call that is not answered: the request that `place` makes, if it makes one, and `rest` after it. `place` is called with the queue
    /// locked, so that what it numbers and what it decides is in wire order.
    pub(crate) fn post<R: Request>(
        &self,
        thread: u32,
        context: u32,
        rest: &[u8],
        place: impl FnOnce(Placed) -> Option<R>,
    ) -> Result<(), Lost> {
        self.check()?;
        let call = Call {
            number: R::NUMBER,
            thread,
            context,
        };
        self.outgoing.post(self, call, rest, place)
    }

    /// Sends a call, does `then` (which sends what belongs to it), and waits for its reply. `placed` is called with the queue
    /// locked.
    pub(crate) fn ask(
        &self,
        call: Call,
        parts: &[&[u8]],
        placed: impl FnOnce(Placed),
        then: impl FnOnce() -> Result<(), Lost>,
    ) -> Result<Reply, Lost> {
        let asked = self.begin_ask(call, parts, placed)?;
        then()?;
        self.finish_ask(asked)
    }

    /// Sends a call whose reply is [waited for](Link::finish_ask) later. `placed` is called with the queue locked.
    pub(crate) fn begin_ask(
        &self,
        call: Call,
        parts: &[&[u8]],
        placed: impl FnOnce(Placed),
    ) -> Result<Asked, Lost> {
        self.check()?;
        let mut waiting = None;
        self.outgoing.ask(self, call, parts, |place| {
            waiting = Some(self.incoming.expect(place.call));
            placed(place);
        })?;
        waiting.map(Asked).ok_or(Lost)
    }

    /// Waits for the reply of a call.
    pub(crate) fn finish_ask(&self, Asked(waiting): Asked) -> Result<Reply, Lost> {
        self.wait_until(|| waiting.is_done())?;
        self.incoming.take(waiting).ok_or(Lost)
    }

    /// Sends what is queued.
    pub(crate) fn flush(&self) -> Result<(), Lost> {
        self.check()?;
        self.outgoing.flush(self)
    }

    /// Sends bytes of the user's memory as a transfer to the worker: chunk by chunk, so that the calls of other threads pass
    /// between them. Returns the sequence number of the last frame.
    ///
    /// # Safety
    /// `bytes` is readable until the worker has acknowledged the last frame.
    #[expect(unsafe_code, reason = "the user's memory is read where it is")]
    pub(crate) unsafe fn send_transfer(
        &self,
        transfer: u64,
        bytes: *const u8,
        length: usize,
    ) -> Result<u64, Lost> {
        // SAFETY: the caller's promise.
        unsafe { self.outgoing.send_transfer(self, transfer, bytes, length) }
    }

    /// Waits until the worker has received the frame of this number.
    pub(crate) fn wait_acknowledged(&self, sequence: u64) -> Result<(), Lost> {
        self.wait_until(|| self.outgoing.acknowledged() >= sequence)
    }

    /// Expects the bytes of a transfer from the worker.
    ///
    /// # Safety
    /// `destination` is writable for `length` bytes until the transfer is done or withdrawn.
    #[expect(
        unsafe_code,
        reason = "the worker's bytes go where the user wants them"
    )]
    pub(crate) unsafe fn expect_transfer(
        &self,
        destination: *mut u8,
        length: usize,
    ) -> Arc<Transfer> {
        self.transfers.expect(destination, length)
    }

    /// No longer expects a transfer.
    pub(crate) fn withdraw_transfer(&self, transfer: &Transfer) {
        self.transfers.withdraw(transfer);
    }

    /// A number for a transfer to the worker.
    pub(crate) fn transfer_number(&self) -> u64 {
        self.transfers.number()
    }

    /// What this side has received, for the header of every frame.
    fn header(&self, kind: FrameKind) -> FrameHeader {
        let mut header = FrameHeader::new(kind);
        header.acknowledged = self.incoming.received();
        header
    }

    /// Says goodbye, after everything queued; the background thread ends it if the server does not take it in time.
    pub(crate) fn end(&self) {
        self.ended.store(true, SeqCst);
        if self.flush().is_ok() {
            self.outgoing.goodbye(self);
        }
        self.interrupt.shutdown();
    }

    /// Sends batches while there are any, then rests; see [`outgoing`].
    fn send_in_background(&self) {
        while !self.is_lost() {
            self.outgoing.send_while_busy(self);
        }
    }

    /// Reads while no other thread does, and keeps the peer assured that we are there.
    fn receive_in_background(&self) {
        let mut last_beat = Instant::now();
        let mut ending_since = None;
        let mut last_look = Instant::now();
        while !self.is_lost() {
            self.incoming.run_errand(self);
            if self.ended.load(SeqCst)
                && ending_since.get_or_insert_with(Instant::now).elapsed() > GOODBYE_TIME
            {
                return self.lose("the server did not take the goodbye");
            }
            match self.incoming.wait_unread(Duration::from_secs(1)) {
                Ok(true) => {
                    if self.take_in().is_err() {
                        return;
                    }
                }
                Ok(false) => {
                    if self.check_silence().is_err() {
                        return;
                    }
                }
                Err(error) => return self.lose(&error),
            }
            if last_look.elapsed() >= LOOK_AROUND {
                last_look = Instant::now();
                if process::is_abandoned() {
                    process::end();
                }
            }
            if last_beat.elapsed() >= protocol::limits::HEARTBEAT_INTERVAL {
                last_beat = Instant::now();
                if self.outgoing.heartbeat(self).is_err() {
                    return;
                }
            }
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

/// Why the connection is over, as a user of the program reads it.
fn reason(error: &TransportError) -> String {
    match error {
        TransportError::Silent(time) => format!("the server was silent for {} s", time.as_secs()),
        TransportError::HostLost(time) => {
            format!(
                "the server's machine has answered nothing for {} s",
                time.as_secs()
            )
        }
        TransportError::Frame(error) => format!("the server broke the protocol: {error}"),
        other => other.to_string(),
    }
}

/// Sleeps while `word` is `seen`, at most for `time`.
pub(crate) fn sleep_while(word: &AtomicU32, seen: u32, time: Duration) {
    let time = rustix::time::Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    let flags = rustix::thread::futex::Flags::PRIVATE;
    // Every outcome (woken, changed before, timed out, interrupted) means: look again.
    let _ = rustix::thread::futex::wait(word, flags, seen, Some(&time));
}

/// Wakes every thread that sleeps on `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    let flags = rustix::thread::futex::Flags::PRIVATE;
    let _ = rustix::thread::futex::wake(word, flags, i32::MAX.unsigned_abs());
}
