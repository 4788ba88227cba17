//! A socket with TLS around it, as an endpoint: frames travel over it as over the bare socket.
//!
//! What: what is sent is sealed into records that are kept until the socket has taken them all; only then are the bytes counted as sent,
//! so that a caller whose socket is full repeats the same bytes, as over any socket, and they are not sealed twice. What is received is opened in place and
//! copied once to where it belongs. Rules: each half has a lock of its own, which nobody else wants.
//!
//! # Safety
//! The buffer of what is received is lent to the socket as a [`Span`] while it is not otherwise touched, and a caller's slice
//! as a span while its borrow lasts.
#![expect(
    unsafe_code,
    reason = "spans over the buffer of what is received and over callers' slices"
)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::{HEADER_BYTES, MAX_SEALED_BYTES, Opened, Opener, Sealer, violation};
use crate::transport::endpoint::{Endpoint, Interest, Span};
use crate::transport::socket::Socket;

/// Bytes that are sealed at once: while the kernel sends them, and the peer opens them, the next ones are sealed.
const SEALED_AT_ONCE: usize = 64 * 1024;

/// Pieces of one call.
const PIECES: usize = 64;

/// Bytes that are taken from the socket at once: some records.
const RAW_BYTES: usize = 8 * (HEADER_BYTES + MAX_SEALED_BYTES);

/// A socket after its handshake.
pub(super) struct TlsEndpoint {
    socket: Socket,
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
}

impl AsFd for TlsEndpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TlsEndpoint {
    pub(super) fn new(socket: Socket, sealer: Sealer, opener: Opener) -> Self {
        Self {
            socket,
            sending: Mutex::new(Sending {
                sealer,
                records: Vec::new(),
                sent: 0,
                plain: 0,
            }),
            receiving: Mutex::new(Receiving::new(opener)),
        }
    }

    /// The bare socket.
    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket.into_descriptor()
    }

    fn receiving(&self) -> MutexGuard<'_, Receiving> {
        self.receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives some bytes, or reports `WouldBlock`.
    pub(super) fn receive_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the slice is borrowed mutably for as long as the span is used.
        let span = unsafe { Span::new(buffer.as_mut_ptr(), buffer.len()) };
        self.receive_some([span, Span::EMPTY])
    }

    fn receive(
        &self,
        spans: [Span; 2],
        first: fn(&Socket, [Span; 2]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut receiving = self.receiving();
        let mut how = first;
        loop {
            let taken = receiving.take(spans)?;
            if taken > 0 || receiving.is_ended {
                return Ok(taken);
            }
            if receiving.fill(|room| how(&self.socket, [Span::EMPTY, room]))? == 0 {
                receiving.is_ended = true;
                return Ok(0);
            }
            how = Socket::receive_some;
        }
    }
}

/// What is under way to the socket.
struct Sending {
    sealer: Sealer,
    /// Records that the socket has not taken as a whole.
    records: Vec<Vec<u8>>,
    /// Bytes of them that it has taken.
    sent: usize,
    /// How many of the caller's bytes they hold.
    plain: usize,
}

impl Sending {
    fn seal(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let mut storage: [&[u8]; PIECES] = [&[]; PIECES];
        let (mut count, mut bytes) = (0, 0);
        for (place, piece) in storage.iter_mut().zip(pieces) {
            let most = piece.len().min(SEALED_AT_ONCE - bytes);
            *place = &piece[..most];
            count += 1;
            bytes += most;
            if bytes == SEALED_AT_ONCE {
                break;
            }
        }
        self.sealer.seal(&storage[..count], &mut self.records)?;
        self.plain = bytes;
        Ok(())
    }

    fn send(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.records.is_empty() {
            let mut storage = [IoSlice::new(&[]); PIECES];
            let mut skip = self.sent;
            let mut count = 0;
            for (place, record) in storage.iter_mut().zip(&self.records) {
                *place = IoSlice::new(&record[skip..]);
                skip = 0;
                count += 1;
            }
            self.sent += socket.send_some(&storage[..count])?;
            self.forget_sent();
        }
        Ok(())
    }

    fn forget_sent(&mut self) {
        let mut whole = 0;
        for record in &self.records {
            if self.sent < record.len() {
                break;
            }
            self.sent -= record.len();
            whole += 1;
        }
        self.records.drain(..whole);
    }
}

/// What has come from the socket.
struct Receiving {
    opener: Opener,
    raw: Box<[u8]>,
    /// Opened data that nobody has taken is `raw[plain.0..plain.1]`.
    plain: (usize, usize),
    /// Received bytes of records that are not opened are `raw[start..end]`.
    start: usize,
    end: usize,
    is_ended: bool,
}

impl Receiving {
    fn new(opener: Opener) -> Self {
        Self {
            opener,
            raw: vec![0; RAW_BYTES].into_boxed_slice(),
            plain: (0, 0),
            start: 0,
            end: 0,
            is_ended: false,
        }
    }

    /// The length of the next record behind its header, if it is here as a whole.
    fn next_record(&self) -> io::Result<Option<usize>> {
        let [_, _, _, high, low, ..] = self.raw[self.start..self.end] else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_SEALED_BYTES {
            return Err(violation("a record that is too long"));
        }
        let is_whole = self.end - self.start >= HEADER_BYTES + length;
        Ok(is_whole.then_some(length))
    }

    /// Whether something can be taken without the socket.
    fn has_some(&self) -> bool {
        // What is wrong with a record is told to who takes it.
        let has_record = !matches!(self.next_record(), Ok(None));
        self.is_ended || self.plain.0 < self.plain.1 || has_record
    }

    /// Opens the next record; false if it is not here as a whole.
    fn open_next(&mut self) -> io::Result<bool> {
        let Some(length) = self.next_record()? else {
            return Ok(false);
        };
        let begin = self.start + HEADER_BYTES;
        let typ = self.raw[self.start];
        let opened = self
            .opener
            .open(typ, &mut self.raw[begin..begin + length])?;
        self.start = begin + length;
        match opened {
            Opened::Data(bytes) => self.plain = (begin, begin + bytes),
            Opened::Nothing => {}
            Opened::End => self.is_ended = true,
        }
        Ok(true)
    }

    /// Moves what is opened, and what can be, into the spans; how much that was.
    fn take(&mut self, [mut first, mut second]: [Span; 2]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            for span in [&mut first, &mut second] {
                let count = span.fill(&self.raw[self.plain.0..self.plain.1]);
                *span = span.from(count);
                self.plain.0 += count;
                taken += count;
            }
            let is_full = first.length() + second.length() == 0;
            if is_full || self.is_ended {
                return Ok(taken);
            }
            match self.open_next() {
                Ok(true) => {}
                Ok(false) => return Ok(taken),
                // What came before it is given first; the error comes again.
                Err(_) if taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes more from the socket. Nothing that is opened is left, and no whole record.
    fn fill(&mut self, receive: impl FnOnce(Span) -> io::Result<usize>) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.raw.len() - self.start < HEADER_BYTES + MAX_SEALED_BYTES {
            self.raw.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.plain = (0, 0);
        let room = &mut self.raw[self.end..];
        // SAFETY: `room` is ours and untouched until `receive` returns.
        let count = receive(unsafe { Span::new(room.as_mut_ptr(), room.len()) })?;
        self.end += count;
        Ok(count)
    }
}

impl Endpoint for TlsEndpoint {
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if sending.records.is_empty() {
            sending.seal(pieces)?;
        }
        sending.send(&self.socket)?;
        Ok(std::mem::take(&mut sending.plain))
    }

    fn receive_some(&self, spans: [Span; 2]) -> io::Result<usize> {
        self.receive(spans, Socket::receive_some)
    }

    fn receive_patiently(&self, spans: [Span; 2]) -> io::Result<usize> {
        self.receive(spans, Socket::receive_patiently)
    }

    fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<bool> {
        if interest == Interest::Read && self.receiving().has_some() {
            return Ok(true);
        }
        self.socket.wait(interest, timeout)
    }

    fn prepare_readiness(&self) -> io::Result<bool> {
        Ok(self.receiving().has_some())
    }

    fn shutdown(&self) {
        self.socket.shutdown();
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.descriptor()
    }

    fn unanswered_for(&self) -> Option<Duration> {
        self.socket.unanswered_for()
    }
}
