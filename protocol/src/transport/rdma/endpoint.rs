//! A connection over two queue pairs, one for each direction, one for [reads](super::reading), and the socket of the hello.
//!
//! What: bytes are written into a ring in the peer's memory, each write with an immediate that says how many; the reader gives room back with
//! immediates of its own, in the same queue pair's other direction. So each half of a connection has a queue pair, a completion
//! queue and a lock to itself, and the two never meet. The socket stays for its end: who closes it, or dies, is gone.
//!
//! ```text
//! outgoing half ── WRITE_WITH_IMM (bytes) ──▶ ring of the peer's incoming half
//!               ◀──── SEND_WITH_IMM (credit) ─
//! ```
//!
//! *Cost of a small frame:* one inline request from the sender's stack, one doorbell; nothing is allocated, every 16th
//! request is signalled. *Of a large one:* one copy into the staging ring, unless its memory is [lent](super::loan), and one out of the
//! peer's ring, in pieces of 256 KiB, so that copying and the wire overlap.
//!
//! Rules: a byte counts as received only when the completion that announced it was seen; a byte of the staging ring is written
//! again only when the card has done with it and the peer has read it; what a peer says is compared with what it may be.
//!
//! # Safety
//! Received bytes are copied into spans, whose maker vouched for them.
#![expect(unsafe_code, reason = "copies into spans")]

use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::super::endpoint::{Endpoint, Interest, Span};
use super::super::socket::{self, Borrowed, Socket};
use super::super::{DeviceMemory, Owner, RemoteMemory};
use super::RdmaError;
use super::loan::{Loans, is_anonymous};
use super::reading::Reading;
use super::ring::{Credit, MAX_CREDITS, Part, Reader, Writer};
use super::verbs::{Access, Completion, Device, LentMemory, QueuePair, Region, Request, Target};

/// Bytes of one request: small enough that copying the next overlaps with sending this.
const PIECE_BYTES: u64 = 256 * 1024;

/// The time of copying so many bytes at least says what copying costs.
const MEASURED_BYTES: usize = 64 * 1024;

/// How long who waits looks before it sleeps: sleeping and being woken takes an interrupt, an event and three system calls, and looking none.
const LOOK_TIME: Duration = Duration::from_micros(200);

/// Between two looks whether the card has done with what was sent.
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// Every so many requests, one asks for a completion.
const SIGNAL_EVERY: u32 = 16;

/// Requests that the outgoing queue pair holds.
pub(super) const SENDS: u32 = 256;

/// Most bytes that are sent inline.
pub(super) const INLINE_BYTES: u32 = 256;

/// How long the end of a connection waits for what was sent.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// How long lent memory is waited for: longer than a card tries to send (by default some seven seconds, four times as long on some), so that a link may be
/// down for as long as it may otherwise. Then its queue pair has failed, which ends the wait.
const TAKE_BACK_TIME: Duration = Duration::from_secs(40);

/// The direction that we write.
pub(super) struct Outgoing {
    pub(super) pair: QueuePair,
    pub(super) staging: Region,
    pub(super) target: Target,
    pub(super) writer: Writer,
    pub(super) loans: Loans,
    /// Requests since one asked for a completion.
    pub(super) unsignalled: u32,
    /// Their bytes.
    pub(super) unsignalled_bytes: u64,
    /// Requests that the queue pair may still hold.
    pub(super) held: u32,
    /// Receives that were used and are not posted again.
    pub(super) spent: u32,
}

/// The direction that we read.
pub(super) struct Incoming {
    pub(super) pair: QueuePair,
    pub(super) ring: Region,
    pub(super) reader: Reader,
    pub(super) unsignalled: u32,
    pub(super) held: u32,
    /// Receives that were used: they are posted again, many at once, when the peer is told that it may use them.
    pub(super) spent: u32,
}

/// Requests of a signalled one's number: it and those before it that did not ask.
const fn number(position: u64, requests: u32) -> u64 {
    position << 16 | requests as u64
}

const fn position(number: u64) -> (u64, u32) {
    (number >> 16, (number & 0xFFFF) as u32)
}

fn poll_all(
    pair: &QueuePair,
    mut each: impl FnMut(Completion) -> Result<(), RdmaError>,
) -> Result<(), RdmaError> {
    while pair.completions().poll(&mut each)? {}
    Ok(())
}

impl Outgoing {
    /// Takes in what has been done.
    fn progress(&mut self) -> Result<(), RdmaError> {
        let Self {
            pair,
            writer,
            held,
            spent,
            ..
        } = self;
        let take = |completion| {
            match completion {
                Completion::Sent(number) => {
                    let (reached, requests) = position(number);
                    writer.done(reached);
                    *held -= requests.min(*held);
                }
                Completion::Received(immediate) => {
                    writer.credit(Credit::decode(immediate))?;
                    *spent += 1;
                }
            }
            Ok(())
        };
        poll_all(pair, take)?;
        // Twice as many are posted as can be under way.
        if *spent >= MAX_CREDITS / 2 {
            pair.post_receives(std::mem::take(spent))?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.held < SENDS && self.writer.room(1).is_some()
    }

    /// Sends the beginning of these bytes; how many.
    fn send(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, RdmaError> {
        if self.loans.is_empty() {
            return self.send_copied(pieces);
        }
        let mut lent = pieces.iter().map(|piece| self.loans.source(piece));
        match lent.position(|source| source.is_some()) {
            Some(0) => self.send_lent(&pieces[0]),
            Some(first) => self.send_copied(&pieces[..first]),
            None => self.send_copied(pieces),
        }
    }

    /// Where up to `wanted` bytes can be written now.
    fn room(&self, wanted: usize) -> Option<(Part, Target)> {
        let part = self.writer.room((wanted as u64).min(PIECE_BYTES))?;
        let target = Target {
            address: self.target.address + part.offset,
            key: self.target.key,
        };
        (self.held < SENDS).then_some((part, target))
    }

    /// Sends the beginning of a piece that the card can read.
    fn send_lent(&mut self, piece: &[u8]) -> Result<usize, RdmaError> {
        let (Some((part, target)), Some(source)) =
            (self.room(piece.len()), self.loans.source(piece))
        else {
            return Ok(0);
        };
        let request = self.request(part.length);
        self.loans.sent(piece, self.writer.sent());
        self.pair.write_from(source, part.length, target, request)?;
        Ok(part.length as usize)
    }

    /// Sends the beginning of a part of a device's memory, which the card alone can read.
    fn send_device(&mut self, loan: u64, offset: u64, length: u64) -> Result<usize, RdmaError> {
        let Some((part, target)) = self.room(usize::try_from(length).unwrap_or(usize::MAX)) else {
            return Ok(0);
        };
        let source = self.loans.device_source(loan, offset, part.length);
        let source = source.ok_or(RdmaError::Misuse("memory that is not lent"))?;
        let request = self.request(part.length);
        self.loans.device_sent(loan, self.writer.sent());
        self.pair.write_from(source, part.length, target, request)?;
        Ok(part.length as usize)
    }

    fn send_copied(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, RdmaError> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let Some((part, target)) = self.room(total) else {
            return Ok(0);
        };
        let length = part.length as usize;
        // Small frames come as one piece.
        if let [piece] = pieces
            && length <= self.pair.inline_bytes()
        {
            let request = self.request(part.length);
            self.pair.write_inline(&piece[..length], target, request)?;
            return Ok(length);
        }
        let begun = (length >= MEASURED_BYTES).then(Instant::now);
        let mut at = 0;
        for piece in pieces {
            let piece = &piece[..piece.len().min(length - at)];
            self.staging.write(part.offset as usize + at, piece);
            at += piece.len();
        }
        if let Some(begun) = begun {
            self.loans.choice.went_plain(length, begun.elapsed());
        }
        let request = self.request(part.length);
        let source = self.staging.source(part.offset);
        self.pair.write_from(source, part.length, target, request)?;
        Ok(length)
    }

    /// Asks for a completion of what did not ask itself.
    fn ask(&mut self) -> Result<(), RdmaError> {
        if self.unsignalled == 0 || self.held >= SENDS {
            return Ok(());
        }
        self.held += 1;
        let requests = std::mem::take(&mut self.unsignalled) + 1;
        self.unsignalled_bytes = 0;
        let number = number(self.writer.sent(), requests);
        self.pair.write_nothing(
            self.target,
            Request {
                number,
                immediate: 0,
                is_signalled: true,
            },
        )
    }

    fn request(&mut self, length: u64) -> Request {
        let reached = self.writer.wrote(length);
        self.held += 1;
        self.unsignalled += 1;
        self.unsignalled_bytes += length;
        // Room comes back only with a completion: it is asked for before the ring can be full of what did not ask, however small it is.
        let most = (PIECE_BYTES / 4).min(self.writer.size() / 4);
        let is_signalled = self.unsignalled >= SIGNAL_EVERY || self.unsignalled_bytes >= most;
        let number = number(reached, self.unsignalled);
        if is_signalled {
            (self.unsignalled, self.unsignalled_bytes) = (0, 0);
        }
        Request {
            number,
            immediate: u32::try_from(length).unwrap_or(0),
            is_signalled,
        }
    }
}

impl Incoming {
    fn progress(&mut self) -> Result<(), RdmaError> {
        let Self {
            pair,
            reader,
            held,
            spent,
            ..
        } = self;
        poll_all(pair, |completion| {
            match completion {
                Completion::Received(bytes) => {
                    reader.arrived(bytes.into())?;
                    *spent += 1;
                }
                Completion::Sent(number) => {
                    let (_, requests) = position(number);
                    *held -= requests.min(*held);
                }
            }
            Ok(())
        })
    }

    fn receive(&mut self, mut span: Span) -> usize {
        let mut total = 0;
        while let Some(part) = self.reader.next(span.length() as u64) {
            let length = part.length as usize;
            // SAFETY: the span's maker vouched for its bytes, of which `length` are left.
            unsafe { self.ring.read(part.offset as usize, span.start(), length) };
            self.reader.took(part.length);
            span = span.from(length);
            total += length;
        }
        total
    }

    /// Whether room is to be given back now.
    fn owes_credit(&self) -> bool {
        // The queue pair holds more than can be under way; should it be full all the same, the credit is given with the next bytes.
        self.reader.is_credit_due() && self.held < MAX_CREDITS * 2
    }

    fn give_back(&mut self) -> Result<(), RdmaError> {
        let Some(credit) = self.reader.credit_due() else {
            return Ok(());
        };
        // What the credit allows must find a receive.
        self.pair.post_receives(std::mem::take(&mut self.spent))?;
        self.held += 1;
        self.unsignalled += 1;
        let is_signalled = self.unsignalled >= MAX_CREDITS / 2;
        let number = number(0, self.unsignalled);
        if is_signalled {
            self.unsignalled = 0;
        }
        self.pair.send_immediate(Request {
            number,
            immediate: credit.encode(),
            is_signalled,
        })
    }
}

/// A connection. Queue pairs end first, then the socket, whose end tells the peer.
pub(super) struct RdmaEndpoint {
    outgoing: ManuallyDrop<Mutex<Outgoing>>,
    incoming: ManuallyDrop<Mutex<Incoming>>,
    reading: ManuallyDrop<Option<Mutex<Reading>>>,
    device: ManuallyDrop<Arc<Device>>,
    socket: Socket,
    /// Readable when bytes may have come or the socket has ended: both in one descriptor.
    readiness: ManuallyDrop<OwnedFd>,
    channels: [RawFd; 2],
    /// The library's descriptors. A program that closes what it does not know gives their numbers to files of its own, into which the library would
    /// write its commands.
    borrowed: Borrowed,
    /// The socket was seen to have ended.
    is_over: AtomicBool,
}

fn lock<T>(half: &Mutex<T>) -> MutexGuard<'_, T> {
    half.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RdmaEndpoint {
    pub(super) fn new(
        (outgoing, incoming, reading): (Outgoing, Incoming, Option<Reading>),
        device: Arc<Device>,
        socket: Socket,
    ) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let readiness = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let socket_events = socket.descriptor().ok_or(io::ErrorKind::NotConnected)?;
        for descriptor in [incoming.pair.completions().events(), socket_events] {
            epoll::add(
                &readiness,
                descriptor,
                epoll::EventData::new_u64(0),
                epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
            )?;
        }
        let channels =
            [&outgoing.pair, &incoming.pair].map(|pair| pair.completions().events().as_raw_fd());
        let mut library = device.descriptors().to_vec();
        library.extend(channels);
        let events = |reading: &Reading| reading.pair().completions().events().as_raw_fd();
        library.extend(reading.as_ref().map(events));
        library.push(readiness.as_raw_fd());
        Ok(Self {
            borrowed: Borrowed::new(&library)?,
            channels,
            outgoing: ManuallyDrop::new(Mutex::new(outgoing)),
            incoming: ManuallyDrop::new(Mutex::new(incoming)),
            reading: ManuallyDrop::new(reading.map(Mutex::new)),
            device: ManuallyDrop::new(device),
            socket,
            readiness: ManuallyDrop::new(readiness),
            is_over: AtomicBool::new(false),
        })
    }

    /// Descriptors that a forked child must close, beside the socket.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        self.borrowed.numbers()
    }

    /// An error if the program has taken one of the connection's descriptors away.
    fn look(&self) -> io::Result<()> {
        self.socket.look()?;
        self.borrowed.look()
    }

    /// What the program did to the descriptors is the reason, whatever the library says of it.
    fn failed(&self, error: RdmaError) -> io::Error {
        self.look().err().unwrap_or_else(|| io::Error::other(error))
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        lock(&self.outgoing)
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        lock(&self.incoming)
    }

    fn reading(&self) -> Result<MutexGuard<'_, Reading>, RdmaError> {
        let reading = self.reading.as_ref();
        reading
            .map(lock)
            .ok_or(RdmaError::Misuse("this connection has no reads"))
    }

    /// Gives memory back, behind every lock: who uses the connection meanwhile does not wait for it.
    fn give_back(&self, memory: Option<LentMemory>) {
        match self.borrowed.look() {
            Ok(()) => drop(memory),
            // It is the process's to its end: the library would write into what is the program's by now.
            Err(_) => std::mem::forget(memory),
        }
    }

    /// An error if a registration cannot be made, since the program has taken one of the connection's descriptors away.
    fn look_to_register(&self) -> Result<(), RdmaError> {
        self.look().map_err(|source| RdmaError::Verbs {
            what: "the connection's descriptors",
            source,
        })
    }

    /// Whether a half has what is waited for.
    fn is_ready(&self, interest: Interest) -> io::Result<bool> {
        match interest {
            Interest::Read => {
                let mut incoming = self.incoming();
                incoming.progress().map_err(|error| self.failed(error))?;
                let is_ready = incoming.reader.has_more();
                drop(incoming);
                // Who waits for an answer learns here that the question has not arrived; whoever sends looks itself.
                if !is_ready && let Ok(mut outgoing) = self.outgoing.try_lock() {
                    outgoing.progress().map_err(|error| self.failed(error))?;
                }
                Ok(is_ready)
            }
            Interest::Write => {
                let mut outgoing = self.outgoing();
                outgoing.progress().map_err(|error| self.failed(error))?;
                Ok(outgoing.has_room())
            }
        }
    }

    /// Arms a half's completion queue; says whether something came before that.
    fn arm(&self, interest: Interest) -> io::Result<bool> {
        self.borrowed.check()?;
        match interest {
            Interest::Read => {
                let incoming = self.incoming();
                incoming.pair.completions().take_events();
                incoming
                    .pair
                    .completions()
                    .arm()
                    .map_err(|error| self.failed(error))?;
            }
            Interest::Write => {
                let outgoing = self.outgoing();
                outgoing.pair.completions().take_events();
                outgoing
                    .pair
                    .completions()
                    .arm()
                    .map_err(|error| self.failed(error))?;
            }
        }
        self.is_ready(interest)
    }

    /// Sleeps until a completion of that half, the socket's end, or the time; false for the time.
    fn sleep(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<bool> {
        let channel = self.channels[usize::from(interest == Interest::Read)];
        let socket = self
            .socket
            .descriptor()
            .ok_or(io::ErrorKind::NotConnected)?;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        // SAFETY: the half's queue pair lives as long as this endpoint, and its channel with it.
        let channel = unsafe { BorrowedFd::borrow_raw(channel) };
        let mut wanted = [
            PollFd::from_borrowed_fd(channel, PollFlags::IN),
            PollFd::from_borrowed_fd(socket, PollFlags::IN | PollFlags::RDHUP),
        ];
        match poll(&mut wanted, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        if !wanted[1].revents().is_empty() {
            self.look()?;
            self.is_over.store(true, SeqCst);
        }
        Ok(true)
    }

    /// Waits until the card has done with everything before this position, or the time is over.
    fn flush_for(&self, position: u64, time: Duration) {
        let begun = Instant::now();
        let deadline = begun + time;
        while self.borrowed.check().is_ok() {
            let mut outgoing = self.outgoing();
            let failed = outgoing.progress().is_err();
            if failed || outgoing.writer.is_done(position) || outgoing.ask().is_err() {
                return;
            }
            drop(outgoing);
            let has_ended = || self.socket.descriptor().is_some_and(socket::is_hung_up);
            if self.is_over.load(SeqCst) || Instant::now() >= deadline || has_ended() {
                return;
            }
            // The completion queue's events are for who waits for room: this looks now and then, and leaves the processor to those who work meanwhile.
            match begun.elapsed() {
                waited if waited < LOOK_TIME => std::thread::yield_now(),
                waited => std::thread::sleep((waited / 16).clamp(SHORTEST_NAP, LONGEST_NAP)),
            }
        }
    }
}

impl Endpoint for RdmaEndpoint {
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_over.load(SeqCst) {
            self.look()?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.borrowed.check()?;
        let mut outgoing = self.outgoing();
        if outgoing.unsignalled == 0 {
            outgoing.progress().map_err(|error| self.failed(error))?;
        }
        let mut sent = outgoing.send(pieces).map_err(|error| self.failed(error))?;
        if sent == 0 {
            outgoing.progress().map_err(|error| self.failed(error))?;
            sent = outgoing.send(pieces).map_err(|error| self.failed(error))?;
        }
        match sent {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }

    unsafe fn lend_device(&self, memory: &DeviceMemory<'_>) -> Result<u64, RdmaError> {
        self.look_to_register()?;
        // Before the lock: who sends meanwhile does not wait for it.
        // SAFETY: the caller's promise; the card only reads.
        let memory = unsafe { LentMemory::of_device(&self.device, memory, Access::Nothing) }?;
        let lent = self.outgoing().loans.lend_device(memory);
        lent.ok_or(RdmaError::TooMuchLent)
    }

    fn send_device(&self, loan: u64, offset: u64, length: usize) -> io::Result<usize> {
        if self.is_over.load(SeqCst) {
            self.look()?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.borrowed.check()?;
        let mut outgoing = self.outgoing();
        outgoing.progress().map_err(|error| self.failed(error))?;
        let sent = outgoing.send_device(loan, offset, length as u64);
        match sent.map_err(|error| self.failed(error))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }

    fn receive_some(&self, spans: [Span; 2]) -> io::Result<usize> {
        // Looked at before the queue: what the peer sent before it closed its socket is in the queue by then.
        let is_over = self.is_over.load(SeqCst);
        let mut incoming = self.incoming();
        incoming.progress().map_err(|error| self.failed(error))?;
        if !incoming.reader.has_more() {
            return match is_over {
                true => self.look().map(|()| 0),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let mut total = 0;
        for span in spans {
            total += incoming.receive(span);
        }
        if incoming.owes_credit() {
            self.borrowed.check()?;
            incoming.give_back().map_err(|error| self.failed(error))?;
        }
        Ok(total)
    }

    fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.is_ready(interest)? || self.is_over.load(SeqCst) || self.arm(interest)? {
                return Ok(true);
            }
            if !self.sleep(interest, deadline)? {
                return Ok(false);
            }
        }
    }

    fn prepare_readiness(&self) -> io::Result<bool> {
        Ok(self.arm(Interest::Read)? || self.is_over.load(SeqCst))
    }

    unsafe fn lend(&self, whose: Owner, start: *const u8, length: usize) -> Option<u64> {
        self.borrowed.look().ok()?;
        let mut outgoing = self.outgoing();
        // SAFETY: the caller's promise.
        unsafe { outgoing.loans.lend(&self.device, whose, start, length) }
    }

    fn take_back(&self, loan: u64) {
        let last = self.outgoing().loans.last(loan);
        if let Some(last) = last {
            self.flush_for(last, TAKE_BACK_TIME);
        }
        if self.borrowed.look().is_ok() {
            self.outgoing().loans.end(loan);
        }
    }

    fn take_back_device(&self, loan: u64) {
        let last = self.outgoing().loans.last(loan);
        if let Some(last) = last {
            self.flush_for(last, TAKE_BACK_TIME);
        }
        let memory = self.outgoing().loans.end_device(loan);
        self.give_back(memory);
    }

    fn has_reads(&self) -> bool {
        self.reading.is_some()
    }

    unsafe fn offer(&self, start: *const u8, length: usize) -> Option<(u64, RemoteMemory)> {
        let is_possible = self.has_reads() && self.borrowed.look().is_ok();
        if !is_possible || !is_anonymous(start.addr(), length) {
            return None;
        }
        // Before the lock, as above.
        // SAFETY: the caller's promise.
        let memory = unsafe { LentMemory::new(&self.device, (start, length), true) }.ok()?;
        self.reading().ok()?.offer(memory)
    }

    fn withdraw(&self, offer: u64) {
        let memory = self.reading().ok().and_then(|mut all| all.withdraw(offer));
        self.give_back(memory);
    }

    unsafe fn read(&self, memory: &DeviceMemory<'_>, from: RemoteMemory) -> Result<u64, RdmaError> {
        self.look_to_register()?;
        // SAFETY: the caller's promise.
        let memory = unsafe { LentMemory::of_device(&self.device, memory, Access::LocalWrite) }?;
        self.reading()?.begin(memory, from)
    }

    fn outcome(&self, read: u64) -> Option<Result<(), RdmaError>> {
        match (self.reading(), self.borrowed.check()) {
            (Ok(mut reading), Ok(())) => reading.outcome(read),
            (Err(error), _) => Some(Err(error)),
            (_, Err(error)) => Some(Err(RdmaError::Reading(error.to_string()))),
        }
    }

    fn end_read(&self, read: u64) {
        let memory = self.reading().ok().and_then(|mut all| all.end(read));
        self.give_back(memory);
    }

    fn look_time(&self) -> Duration {
        LOOK_TIME
    }

    fn flush(&self) {
        let sent = self.outgoing().writer.sent();
        self.flush_for(sent, FLUSH_TIME);
    }

    fn shutdown(&self) {
        self.is_over.store(true, SeqCst);
        self.socket.shutdown();
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.readiness.as_fd())
    }

    fn unanswered_for(&self) -> Option<Duration> {
        self.socket.unanswered_for()
    }
}

impl Drop for RdmaEndpoint {
    fn drop(&mut self) {
        if !self.is_over.load(SeqCst) {
            self.flush();
        }
        if self.borrowed.look().is_ok() {
            // SAFETY: each is dropped here and nowhere else, and nothing is used after it.
            unsafe {
                ManuallyDrop::drop(&mut self.readiness);
                ManuallyDrop::drop(&mut self.outgoing);
                ManuallyDrop::drop(&mut self.incoming);
                ManuallyDrop::drop(&mut self.reading);
                ManuallyDrop::drop(&mut self.device);
            }
        }
        // Else they are the process's to its end: what the library would close and write to is the program's by now.
        self.socket.shutdown();
    }
}
