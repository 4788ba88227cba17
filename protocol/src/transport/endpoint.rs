//! What a transport is to the framing above it: bytes in, bytes out, waiting, and an end.
//!
//! # Safety
//! [`Span`] is the one unsafe notion: a destination that its maker vouches for.
#![expect(
    unsafe_code,
    reason = "received bytes may go to memory that other threads touch, so destinations are raw"
)]

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::rdma::RdmaError;
use super::{DeviceMemory, Owner, RemoteMemory};

/// A direction to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Something can be read, or the end.
    Read,
    /// Something can be written, or the end.
    Write,
}

/// A destination of received bytes, maybe empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: *mut u8,
    length: usize,
}

impl Span {
    /// The empty one.
    pub(super) const EMPTY: Self = Self {
        start: std::ptr::NonNull::dangling().as_ptr(),
        length: 0,
    };

    /// A destination that is not borrowed.
    ///
    /// # Safety
    /// `start` is valid for writes of `length` bytes for as long as the span is used.
    pub(super) const unsafe fn new(start: *mut u8, length: usize) -> Self {
        Self { start, length }
    }

    pub(super) const fn start(self) -> *mut u8 {
        self.start
    }

    pub(super) const fn length(self) -> usize {
        self.length
    }

    /// The part from `offset` on.
    pub(super) fn from(self, offset: usize) -> Self {
        let offset = offset.min(self.length);
        Self {
            // SAFETY: `offset` is at most `length`, so this stays in (or just past) the same memory.
            start: unsafe { self.start.add(offset) },
            length: self.length - offset,
        }
    }

    /// Copies as much of `bytes` as fits; says how much.
    pub(super) fn fill(self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.length);
        // SAFETY: the span's maker vouched for its `length` bytes; `bytes` is readable, and no Rust
        // reference covers the destination, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start, count) };
        count
    }
}

/// A byte stream with two directions. Neither `send_some` nor `receive_some` blocks; `receive_patiently` does, for a moment.
pub(super) trait Endpoint: Send + Sync + 'static {
    /// Sends some bytes of these pieces, at least one, or reports `WouldBlock`.
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Receives some bytes into these two spans, the first before the second, or reports `WouldBlock`;
    /// 0 is the end.
    fn receive_some(&self, spans: [Span; 2]) -> io::Result<usize>;

    /// [`Endpoint::receive_some`] by who has nothing else to do: may first wait for as long as [`LOOK_INTERVAL`], and reports `WouldBlock` if
    /// that was in vain, or cut short.
    ///
    /// [`LOOK_INTERVAL`]: crate::limits::LOOK_INTERVAL
    fn receive_patiently(&self, spans: [Span; 2]) -> io::Result<usize> {
        self.receive_some(spans)
    }

    /// See [`FrameSender::lend`](super::FrameSender::lend).
    ///
    /// # Safety
    /// As there.
    unsafe fn lend(&self, whose: Owner, start: *const u8, length: usize) -> Option<u64> {
        let _ = (whose, start, length);
        None
    }

    /// See [`Lender::lend`](super::Lender::lend).
    ///
    /// # Safety
    /// As there.
    unsafe fn lend_device(&self, memory: &DeviceMemory<'_>) -> Result<u64, RdmaError> {
        let _ = memory;
        Err(RdmaError::Misuse("there is no card"))
    }

    /// [`Endpoint::send_some`] of bytes of a device that are lent.
    fn send_device(&self, loan: u64, offset: u64, length: usize) -> io::Result<usize> {
        let _ = (loan, offset, length);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Waits until nothing of a device's memory that was lent is on its way any more; then it is forgotten.
    fn take_back_device(&self, loan: u64) {
        let _ = loan;
    }

    /// See [`Lender::has_reads`](super::Lender::has_reads).
    fn has_reads(&self) -> bool {
        false
    }

    /// See [`Lender::offer`](super::Lender::offer): the offer's number, and what the peer has to know.
    ///
    /// # Safety
    /// As there.
    unsafe fn offer(&self, start: *const u8, length: usize) -> Option<(u64, RemoteMemory)> {
        let _ = (start, length);
        None
    }

    /// The peer's card reads nothing of an offer from here on.
    fn withdraw(&self, offer: u64) {
        let _ = offer;
    }

    /// See [`Lender::read`](super::Lender::read): the read's number.
    ///
    /// # Safety
    /// As there.
    unsafe fn read(&self, memory: &DeviceMemory<'_>, from: RemoteMemory) -> Result<u64, RdmaError> {
        let _ = (memory, from);
        Err(RdmaError::Misuse("there is no card"))
    }

    /// See [`DeviceRead::outcome`](super::DeviceRead::outcome).
    fn outcome(&self, read: u64) -> Option<Result<(), RdmaError>> {
        let _ = read;
        Some(Err(RdmaError::Misuse("there is no card")))
    }

    /// The card writes nothing of a read from here on.
    fn end_read(&self, read: u64) {
        let _ = read;
    }

    /// See [`FrameSender::take_back`](super::FrameSender::take_back).
    fn take_back(&self, loan: u64) {
        let _ = loan;
    }

    /// See [`FrameReceiver::look_time`](super::FrameReceiver::look_time).
    fn look_time(&self) -> Duration {
        crate::spin::SPIN
    }

    /// Waits until there is reason to try again; false when the time is over first.
    fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<bool>;

    /// Makes [`Endpoint::descriptor`] tell of what arrives from now on, where it does not always; true if something is there already.
    fn prepare_readiness(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Waits, for a bounded time, until what was sent is the peer's, whatever becomes of this process; at once where the kernel cares for that.
    fn flush(&self) {}

    /// Ends both directions.
    fn shutdown(&self);

    /// What to poll for readability.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// How long the peer's machine has acknowledged nothing, if it owes us something; nothing where no machine can be lost.
    fn unanswered_for(&self) -> Option<Duration>;
}
