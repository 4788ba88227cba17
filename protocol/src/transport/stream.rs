//! Frames over any byte stream: gathered sends, buffered receives.
//!
//! Many small frames cost one receive; a large payload goes from the socket to where it belongs, with only
//! the few bytes that came with its header copied.
//!
//! # Safety
//! The receive buffer is lent to the endpoint as a [`Span`] while it is not otherwise touched, and a
//! caller's slice as a span while its borrow lasts.
#![expect(
    unsafe_code,
    reason = "spans over the receive buffer and over callers' slices"
)]

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, IntoBytes};

use super::endpoint::{Endpoint, Interest, Span};
use super::silence::Silence;
use super::{DeviceLoan, FrameReceiver, FrameSender, Loan, Owner, TransportError};
use crate::frame::{FrameHeader, FrameKind, HEADER_BYTES, WireHeader};
use crate::limits::{DIRECT_READ_BYTES, LOOK_INTERVAL, READ_AHEAD_BYTES, RECEIVE_BUFFER_BYTES};

/// Pieces of one system call; more are sent by several. A frame has two or three: room for many would be cleared for each.
const PIECES: usize = 8;

/// A frame of at most so many bytes is gathered before it is sent.
const SMALL_BYTES: usize = 256;

/// The sending half over an endpoint.
pub(super) struct StreamSender<E> {
    endpoint: Arc<E>,
    silence: Arc<Silence>,
    is_over: bool,
}

impl<E: Endpoint> StreamSender<E> {
    pub(super) fn new(endpoint: Arc<E>, silence: Arc<Silence>) -> Self {
        Self {
            endpoint,
            silence,
            is_over: false,
        }
    }

    fn send_all(&self, head: &[u8], payload: &[IoSlice<'_>]) -> Result<(), TransportError> {
        let mut cursor = Cursor::new(head, payload);
        let mut storage = [IoSlice::new(&[]); PIECES];
        loop {
            let count = cursor.gather(&mut storage);
            if count == 0 {
                return Ok(());
            }
            cursor.advance(self.send_some(&storage[..count])?);
        }
    }

    /// Sends a small frame: gathered first, it is one piece for everything below.
    fn send_small(&self, head: &[u8], payload: &[IoSlice<'_>]) -> Result<(), TransportError> {
        let mut joined = [0; SMALL_BYTES];
        let mut length = 0;
        for piece in std::iter::once(head).chain(payload.iter().map(|piece| &**piece)) {
            joined[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        let mut rest = &joined[..length];
        while !rest.is_empty() {
            let sent = self.send_some(&[IoSlice::new(rest)])?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// Sends bytes of a device that are lent.
    fn send_lent(
        &self,
        loan: &DeviceLoan,
        offset: u64,
        length: usize,
    ) -> Result<(), TransportError> {
        let mut at = 0;
        while at < length {
            let place = offset + at as u64;
            at += self.take_some(self.endpoint.send_device(loan.loan, place, length - at))?;
        }
        Ok(())
    }

    /// Sends some bytes of these pieces; none if it is to be tried again, now.
    #[inline]
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> Result<usize, TransportError> {
        self.take_some(self.endpoint.send_some(pieces))
    }

    /// What was sent; none if it is to be tried again, now.
    #[inline]
    fn take_some(&self, sent: io::Result<usize>) -> Result<usize, TransportError> {
        match sent {
            Ok(0) => Err(TransportError::Cut),
            Ok(sent) => Ok(sent),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => Ok(0),
                io::ErrorKind::WouldBlock => self.wait_writable().map(|()| 0),
                _ => Err(ended(error)),
            },
        }
    }

    /// The header of a frame with a payload of so many bytes, if that can be sent.
    fn sized(&self, header: &FrameHeader, bytes: usize) -> Result<WireHeader, TransportError> {
        if self.is_over {
            return Err(TransportError::Closed);
        }
        if bytes > header.kind.max_payload_bytes() {
            return Err(TransportError::Misuse(
                "a payload longer than its kind may be",
            ));
        }
        let header = FrameHeader {
            length: u32::try_from(bytes).unwrap_or(u32::MAX),
            ..*header
        };
        Ok(header.to_wire())
    }

    /// A frame that is not whole is the connection's end.
    fn end_if_failed(&mut self, result: &Result<(), TransportError>) {
        if result.is_err() {
            self.is_over = true;
            self.endpoint.shutdown();
        }
    }

    fn wait_writable(&self) -> Result<(), TransportError> {
        loop {
            match self.endpoint.wait(Interest::Write, Some(LOOK_INTERVAL)) {
                Ok(true) => {
                    self.silence.heard();
                    return Ok(());
                }
                Ok(false) => self.silence.look()?,
                Err(error) => return Err(ended(error)),
            }
        }
    }
}

impl<E: Endpoint> FrameSender for StreamSender<E> {
    fn send(
        &mut self,
        header: &FrameHeader,
        payload: &[IoSlice<'_>],
    ) -> Result<(), TransportError> {
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        let wire = self.sized(header, bytes)?;
        let result = match HEADER_BYTES + bytes <= SMALL_BYTES {
            true => self.send_small(wire.as_bytes(), payload),
            false => self.send_all(wire.as_bytes(), payload),
        };
        self.end_if_failed(&result);
        if result.is_ok() && header.kind == FrameKind::Goodbye {
            self.endpoint.flush();
        }
        result
    }

    fn send_device(
        &mut self,
        header: &FrameHeader,
        loan: &DeviceLoan,
        offset: u64,
        length: usize,
    ) -> Result<(), TransportError> {
        let wire = self.sized(header, length)?;
        if !std::ptr::addr_eq(Arc::as_ptr(&self.endpoint), Arc::as_ptr(&loan.endpoint)) {
            return Err(TransportError::Misuse("memory that is lent elsewhere"));
        }
        let result = self
            .send_all(wire.as_bytes(), &[])
            .and_then(|()| self.send_lent(loan, offset, length));
        self.end_if_failed(&result);
        result
    }

    unsafe fn lend(&mut self, whose: Owner, start: *const u8, length: usize) -> Option<Loan> {
        // SAFETY: the caller's promise.
        unsafe { self.endpoint.lend(whose, start, length) }.map(Loan)
    }

    fn take_back(&mut self, Loan(loan): Loan) {
        self.endpoint.take_back(loan);
    }
}

/// How far a gathered send has come.
struct Cursor<'a> {
    head: &'a [u8],
    pieces: &'a [IoSlice<'a>],
    /// Bytes of the first piece that are sent.
    sent: usize,
}

impl<'a> Cursor<'a> {
    fn new(head: &'a [u8], pieces: &'a [IoSlice<'a>]) -> Self {
        Self {
            head,
            pieces,
            sent: 0,
        }
    }

    /// Fills `storage` with what comes next; how many pieces that are.
    fn gather(&self, storage: &mut [IoSlice<'a>]) -> usize {
        let head = Some(self.head);
        let first = self.pieces.first().map(|piece| &piece[self.sent..]);
        let others = self.pieces.iter().skip(1).map(|piece| &piece[..]);
        let all = head.into_iter().chain(first).chain(others);
        let mut count = 0;
        for (place, piece) in storage
            .iter_mut()
            .zip(all.filter(|piece| !piece.is_empty()))
        {
            *place = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut bytes: usize) {
        let of_head = bytes.min(self.head.len());
        self.head = &self.head[of_head..];
        bytes -= of_head;
        while let Some((piece, others)) = self.pieces.split_first() {
            let left = piece.len() - self.sent;
            if bytes < left {
                self.sent += bytes;
                return;
            }
            bytes -= left;
            self.sent = 0;
            self.pieces = others;
        }
    }
}

/// A way to receive: at once, or patiently.
type Receive<E> = fn(&E, [Span; 2]) -> io::Result<usize>;

/// The receiving half over an endpoint.
pub(super) struct StreamReceiver<E> {
    endpoint: Arc<E>,
    silence: Arc<Silence>,
    buffer: Box<[u8]>,
    /// The received and unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Unread bytes of the current frame's payload.
    payload_left: usize,
    /// How much to receive at once when a header is wanted: little while large payloads arrive.
    appetite: usize,
    is_over: bool,
}

impl<E: Endpoint> StreamReceiver<E> {
    pub(super) fn new(endpoint: Arc<E>, silence: Arc<Silence>) -> Self {
        Self {
            endpoint,
            silence,
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            payload_left: 0,
            appetite: RECEIVE_BUFFER_BYTES,
            is_over: false,
        }
    }

    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Moves what is buffered to the front, if the room behind it is too small for a header.
    fn make_room(&mut self) {
        if self.buffer.len() - self.end < HEADER_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Receives by `how`: first into `wanted`, what comes beyond it into the buffer. Returns how much went into `wanted`, or
    /// nothing if nothing has arrived.
    fn receive(
        &mut self,
        how: Receive<E>,
        wanted: Span,
        appetite: usize,
    ) -> Result<Option<usize>, TransportError> {
        self.make_room();
        let room = &mut self.buffer[self.end..];
        let limit = room.len().min(appetite);
        // SAFETY: `room` is ours, `limit` bytes long at least, and untouched until `receive_some` returns.
        let behind = unsafe { Span::new(room.as_mut_ptr(), limit) };
        loop {
            match how(&self.endpoint, [wanted, behind]) {
                Ok(0) => return Err(self.end_of_stream()),
                Ok(count) => {
                    self.silence.heard();
                    let direct = count.min(wanted.length());
                    self.end += count - direct;
                    return Ok(Some(direct));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(ended(error)),
            }
        }
    }

    fn end_of_stream(&self) -> TransportError {
        if self.payload_left == 0 && self.start == self.end {
            TransportError::Closed
        } else {
            TransportError::Cut
        }
    }

    fn read_span(&mut self, mut wanted: Span) -> Result<(), TransportError> {
        if self.is_over {
            return Err(TransportError::Closed);
        }
        if wanted.length() > self.payload_left {
            return Err(TransportError::Misuse(
                "more bytes than the payload has left",
            ));
        }
        while wanted.length() > 0 {
            let copied = wanted.fill(self.buffered());
            self.consume(copied);
            self.payload_left -= copied;
            wanted = wanted.from(copied);
            if wanted.length() == 0 {
                break;
            }
            let direct = self.receive_blocking(wanted)?;
            self.payload_left -= direct;
            wanted = wanted.from(direct);
        }
        Ok(())
    }

    /// Receives at least one byte, into `wanted` if that is large, else into the (empty) buffer.
    fn receive_blocking(&mut self, wanted: Span) -> Result<usize, TransportError> {
        let is_large = wanted.length() >= DIRECT_READ_BYTES;
        let (direct, appetite) = if is_large {
            (wanted, READ_AHEAD_BYTES)
        } else {
            (Span::EMPTY, RECEIVE_BUFFER_BYTES)
        };
        loop {
            let begun = Instant::now();
            if let Some(count) = self.receive(E::receive_patiently, direct, appetite)? {
                return Ok(count);
            }
            if !self.wait_on(begun, LOOK_INTERVAL)? {
                self.silence.look()?;
            }
        }
    }

    /// Waits for what is left of `time`, of which some has passed since `begun`; false if nothing came.
    fn wait_on(&self, begun: Instant, time: Duration) -> Result<bool, TransportError> {
        let left = time.saturating_sub(begun.elapsed());
        self.endpoint
            .wait(Interest::Read, Some(left))
            .map_err(ended)
    }

    /// Receives what comes into the buffer, or waits for about `time` in vain.
    fn wait_for_some(&mut self, time: Duration) -> Result<bool, TransportError> {
        let begun = Instant::now();
        // The receive has a time of its own: who wants less waits by `poll`.
        let is_patient = time >= LOOK_INTERVAL.mul_f32(0.9);
        if is_patient
            && self
                .receive(E::receive_patiently, Span::EMPTY, self.appetite)?
                .is_some()
        {
            return Ok(true);
        }
        self.wait_on(begun, time)
    }

    fn next_header(&mut self) -> Result<Option<FrameHeader>, TransportError> {
        if self.end - self.start < HEADER_BYTES {
            self.receive(E::receive_some, Span::EMPTY, self.appetite)?;
        }
        let Ok((wire, _)) = WireHeader::read_from_prefix(self.buffered()) else {
            return Ok(None);
        };
        let header = FrameHeader::from_wire(&wire)?;
        self.consume(HEADER_BYTES);
        self.payload_left = header.length as usize;
        self.appetite = if self.payload_left >= DIRECT_READ_BYTES {
            READ_AHEAD_BYTES
        } else {
            RECEIVE_BUFFER_BYTES
        };
        Ok(Some(header))
    }

    fn over<T>(&mut self, result: Result<T, TransportError>) -> Result<T, TransportError> {
        if let Err(error) = &result
            && !matches!(error, TransportError::Misuse(_))
        {
            self.is_over = true;
            self.endpoint.shutdown();
        }
        result
    }
}

impl<E: Endpoint> FrameReceiver for StreamReceiver<E> {
    fn poll_header(&mut self) -> Result<Option<FrameHeader>, TransportError> {
        if self.is_over {
            return Err(TransportError::Closed);
        }
        if self.payload_left != 0 {
            return Err(TransportError::Misuse(
                "the frame before has unread payload",
            ));
        }
        let result = self.next_header();
        self.over(result)
    }

    fn has_header(&self) -> bool {
        self.payload_left == 0 && self.end - self.start >= HEADER_BYTES
    }

    fn read_payload(&mut self, destination: &mut [u8]) -> Result<(), TransportError> {
        // SAFETY: the slice is borrowed mutably for as long as the span is used.
        let wanted = unsafe { Span::new(destination.as_mut_ptr(), destination.len()) };
        let result = self.read_span(wanted);
        self.over(result)
    }

    unsafe fn read_payload_raw(
        &mut self,
        destination: *mut u8,
        length: usize,
    ) -> Result<(), TransportError> {
        // SAFETY: the caller vouches for these bytes until we return.
        let wanted = unsafe { Span::new(destination, length) };
        let result = self.read_span(wanted);
        self.over(result)
    }

    fn skip_payload(&mut self) -> Result<(), TransportError> {
        let mut scratch = [0_u8; 4096];
        while self.payload_left > 0 {
            let count = self.payload_left.min(scratch.len());
            self.read_payload(&mut scratch[..count])?;
        }
        Ok(())
    }

    fn payload_left(&self) -> usize {
        self.payload_left
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, TransportError> {
        let buffered = self.end - self.start;
        let is_ready = if self.payload_left > 0 {
            buffered > 0
        } else {
            buffered >= HEADER_BYTES
        };
        if is_ready || self.is_over {
            return Ok(true);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map_or(LOOK_INTERVAL, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let result = self.wait_for_some(left.min(LOOK_INTERVAL));
            if self.over(result)? {
                return Ok(true);
            }
            self.silence.look()?;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
        }
    }

    fn look_time(&self) -> Duration {
        self.endpoint.look_time()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.endpoint.descriptor()
    }

    fn prepare_readiness(&mut self) -> Result<bool, TransportError> {
        if self.has_header() || self.is_over {
            return Ok(true);
        }
        let result = self.endpoint.prepare_readiness().map_err(ended);
        self.over(result)
    }
}

/// What an error of the operating system means for the connection.
fn ended(error: io::Error) -> TransportError {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => TransportError::Closed,
        _ => TransportError::Io(error),
    }
}
