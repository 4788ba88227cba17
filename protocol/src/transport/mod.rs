//! How frames cross: one trait for each half of a connection, and the transports behind it.
//!
//! What: a [`Connection`] is a [`FrameSender`], a [`FrameReceiver`] and an [`Interrupt`]. `tcp` and
//! `unix` make one of a socket, `memory` makes a pair inside one process, with seeded faults for tests. All
//! three share the framing of `stream`, which sees a transport only as an `Endpoint`.
//!
//! Rules: a frame is sent whole or the connection is over; each half is used by one thread at a time, the
//! two halves by different ones; every wait ends by the [`Patience`] with a silent peer, its timeout or the
//! interrupt; nothing raises SIGPIPE; a file descriptor that another process hands over
//! works whether it is non-blocking or not.

mod endpoint;
pub mod memory;
pub mod rdma;
mod silence;
mod socket;
mod stream;
pub mod tcp;
pub mod tls;
pub mod unix;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{FrameError, FrameHeader};
use silence::Silence;

pub use silence::{Notice, Patience, Watch};
pub use socket::HandshakeStream;

/// Why a connection is over. Whatever it is, neither half works afterwards.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The peer closed the connection, or it was interrupted, at a frame's end.
    #[error("the connection was closed")]
    Closed,
    /// The connection ended inside a frame.
    #[error("the connection was cut inside a frame")]
    Cut,
    /// The peer sent nothing, or took nothing, for too long.
    #[error("the peer was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer's machine acknowledges nothing.
    #[error("the peer's machine has answered nothing for {} s", .0.as_secs())]
    HostLost(Duration),
    /// What the peer sent is no frame.
    #[error("the peer broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// The caller asked for something that a frame cannot do.
    #[error("{0}")]
    Misuse(&'static str),
    /// The operating system reports something else.
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// The sending half.
pub trait FrameSender: Send {
    /// Sends one frame: the header, then all pieces, in one go. The header's `length` is taken from the
    /// pieces. Blocks while the peer takes nothing, up to the grace for silence.
    ///
    /// Cost: one `sendmsg` per 64 pieces, no copy, no allocation.
    ///
    /// # Errors
    /// The connection is over; [`TransportError::Misuse`] if the payload is longer than its kind may be,
    /// and then nothing was sent.
    fn send(&mut self, header: &FrameHeader, payload: &[IoSlice<'_>])
    -> Result<(), TransportError>;

    /// Lends memory: payload inside it may leave from where it is, and be on its way still when [`FrameSender::send`] returns. Nothing
    /// where a transport cannot do that, or finds a copy cheaper. Of a program's memory only such is taken as it does the program no harm to lend.
    ///
    /// # Safety
    /// `start` is readable for `length` bytes, and nothing in it that was sent changes, until [`FrameSender::take_back`].
    #[expect(
        unsafe_code,
        reason = "the caller vouches for memory that a card reads"
    )]
    unsafe fn lend(&mut self, whose: Owner, start: *const u8, length: usize) -> Option<Loan> {
        let _ = (whose, start, length);
        None
    }

    /// Sends one frame whose payload is bytes of a device from `offset` on, of memory that is [lent](Lender::lend): the card reads them where they
    /// are. There is no other way for them, so nothing of the device's memory is ever read by this process.
    ///
    /// # Errors
    /// The connection is over; it is also where a transport has no card. [`TransportError::Misuse`] as for [`FrameSender::send`].
    fn send_device(
        &mut self,
        header: &FrameHeader,
        loan: &DeviceLoan,
        offset: u64,
        length: usize,
    ) -> Result<(), TransportError> {
        let _ = (header, loan, offset, length);
        Err(TransportError::Misuse("this transport has no card"))
    }

    /// Waits until nothing of it is on its way any more, which it is soon once the peer has acknowledged it; then it is forgotten.
    fn take_back(&mut self, loan: Loan) {
        let _ = loan;
    }
}

/// Whose memory is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Our own: whole pages that nothing else is in.
    Us,
    /// The program's, whatever it is.
    Program,
}

/// Memory that is lent to a transport.
#[derive(Debug, PartialEq, Eq)]
pub struct Loan(u64);

/// Memory of a device, as its driver names it. That is all that is known of it here: a processor may be unable to read it, so nothing makes a pointer or a
/// reference of the address.
#[derive(Debug, Clone, Copy)]
pub struct DeviceMemory<'a> {
    /// The device's address.
    pub address: u64,
    /// Bytes.
    pub length: usize,
    /// How a card finds it.
    pub reached: Reached<'a>,
}

/// How a card finds memory of a device.
#[derive(Debug, Clone, Copy)]
pub enum Reached<'a> {
    /// By its address: a kernel module of the driver's makes it the card's (peer memory).
    ByAddress,
    /// In a dma-buf of the driver's, from this offset on.
    ByDmaBuf {
        /// The descriptor.
        buffer: BorrowedFd<'a>,
        /// Where in it the address is.
        offset: u64,
    },
}

/// Lends memory to a connection's card, and offers it to the peer's, from any thread.
#[derive(Clone)]
pub struct Lender(Arc<dyn endpoint::Endpoint>);

impl Lender {
    /// Lends a device's memory for [`FrameSender::send_device`], until the loan is dropped.
    ///
    /// Cost: it is registered anew each time.
    ///
    /// # Errors
    /// [`rdma::RdmaError`]: too much is lent, there is no card, or it refuses.
    ///
    /// # Safety
    /// The memory is the device's, and nothing in it that was sent changes, until the loan is dropped.
    #[expect(
        unsafe_code,
        reason = "the caller vouches for memory that a card reads"
    )]
    pub unsafe fn lend(&self, memory: &DeviceMemory<'_>) -> Result<DeviceLoan, rdma::RdmaError> {
        // SAFETY: the caller's promise.
        let loan = unsafe { self.0.lend_device(memory) }?;
        Ok(DeviceLoan {
            endpoint: Arc::clone(&self.0),
            loan,
        })
    }

    /// Whether the worker's card can read what the client offers.
    #[must_use]
    pub fn has_reads(&self) -> bool {
        self.0.has_reads()
    }

    /// Offers memory of the program to the peer's card, until the offer is dropped. Nothing where it cannot be registered, or is not such as it does the program no
    /// harm to lend.
    ///
    /// Cost: it is registered anew each time.
    ///
    /// # Safety
    /// `start` is readable for `length` bytes until the offer is dropped.
    #[expect(
        unsafe_code,
        reason = "the caller vouches for memory that a card reads"
    )]
    pub unsafe fn offer(&self, start: *const u8, length: usize) -> Option<Offer> {
        // SAFETY: the caller's promise.
        let (number, memory) = unsafe { self.0.offer(start, length) }?;
        Some(Offer {
            endpoint: Arc::clone(&self.0),
            number,
            memory,
        })
    }

    /// Has the card read what the peer offers into memory of a device, all of which it fills.
    ///
    /// Cost: that memory is registered anew each time.
    ///
    /// # Errors
    /// [`rdma::RdmaError`]: too much is read already, there is no card or it refuses, or a read before has failed.
    ///
    /// # Safety
    /// The memory is the device's, and the card's to write, until the read is dropped.
    #[expect(
        unsafe_code,
        reason = "the caller vouches for memory that a card writes"
    )]
    pub unsafe fn read(
        &self,
        memory: &DeviceMemory<'_>,
        from: RemoteMemory,
    ) -> Result<DeviceRead, rdma::RdmaError> {
        // SAFETY: the caller's promise.
        let read = unsafe { self.0.read(memory, from) }?;
        Ok(DeviceRead {
            endpoint: Arc::clone(&self.0),
            read,
        })
    }
}

/// Memory that the peer offers: its addresses, and what opens it. It means something to the peer's card alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteMemory {
    /// The first byte's address in the peer's process.
    pub address: u64,
    /// Bytes.
    pub length: usize,
    /// The key.
    pub key: u32,
}

/// Memory of the program that is offered. Dropping it ends that: a read that is under way then fails.
pub struct Offer {
    endpoint: Arc<dyn endpoint::Endpoint>,
    number: u64,
    memory: RemoteMemory,
}

impl Offer {
    /// What the peer has to know of it.
    #[must_use]
    pub fn memory(&self) -> RemoteMemory {
        self.memory
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.endpoint.withdraw(self.number);
    }
}

/// A read into memory of a device. Dropping it ends it: whatever became of it, the card writes there no more.
pub struct DeviceRead {
    endpoint: Arc<dyn endpoint::Endpoint>,
    read: u64,
}

impl DeviceRead {
    /// How it ended, if it has: with success, all of the memory is filled. Does not wait.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), rdma::RdmaError>> {
        self.endpoint.outcome(self.read)
    }
}

impl Drop for DeviceRead {
    fn drop(&mut self) {
        self.endpoint.end_read(self.read);
    }
}

/// Memory of a device that is lent. Dropping it waits until the card has done with it.
pub struct DeviceLoan {
    endpoint: Arc<dyn endpoint::Endpoint>,
    loan: u64,
}

impl Drop for DeviceLoan {
    fn drop(&mut self) {
        self.endpoint.take_back_device(self.loan);
    }
}

/// The receiving half.
///
/// A frame is received by [`FrameReceiver::poll_header`], then [`FrameReceiver::read_payload`] until
/// its `length` bytes are read, in pieces of any size.
pub trait FrameReceiver: Send {
    /// The next frame's header, if it has arrived as a whole; never blocks. The payload may still be on its
    /// way.
    ///
    /// # Errors
    /// The connection is over; [`TransportError::Misuse`] if payload of the frame before is unread.
    fn poll_header(&mut self) -> Result<Option<FrameHeader>, TransportError>;

    /// Whether [`FrameReceiver::poll_header`] has the next header already, and need not ask the operating system for it.
    fn has_header(&self) -> bool;

    /// Reads the next bytes of the current frame's payload, blocking until they are there. What was
    /// received already is copied; a large rest goes from the socket straight to `destination`.
    ///
    /// # Errors
    /// The connection is over; [`TransportError::Misuse`] for more bytes than the payload has left.
    fn read_payload(&mut self, destination: &mut [u8]) -> Result<(), TransportError>;

    /// [`FrameReceiver::read_payload`] for memory that others may touch meanwhile: no reference is made.
    ///
    /// # Safety
    /// `destination` is valid for writes of `length` bytes until this returns.
    ///
    /// # Errors
    /// As [`FrameReceiver::read_payload`].
    #[expect(unsafe_code, reason = "the caller vouches for a raw destination")]
    unsafe fn read_payload_raw(
        &mut self,
        destination: *mut u8,
        length: usize,
    ) -> Result<(), TransportError>;

    /// Reads over what is left of the current frame's payload.
    ///
    /// # Errors
    /// The connection is over.
    fn skip_payload(&mut self) -> Result<(), TransportError>;

    /// How many bytes of the current frame's payload are unread.
    fn payload_left(&self) -> usize;

    /// Blocks until something can be read, at most for `timeout`; says whether something can. The end of
    /// the connection can be read too. What was received already returns at once.
    ///
    /// # Errors
    /// The peer has been silent for too long; the operating system's.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, TransportError>;

    /// How long it pays to look for what may come soon before one sleeps: about twice what sleeping and being woken costs.
    fn look_time(&self) -> Duration {
        crate::spin::SPIN
    }

    /// The descriptor that becomes readable when something arrives, for a poll of the caller's own; none in
    /// memory. What was received already does not make it readable.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// To be called before each poll of [`FrameReceiver::readiness`]: only then does it tell of what arrives from now on. True if something
    /// is there already.
    ///
    /// # Errors
    /// The connection is over.
    fn prepare_readiness(&mut self) -> Result<bool, TransportError>;
}

/// One connection after its hello.
pub struct Connection {
    /// The sending half.
    pub sender: Box<dyn FrameSender>,
    /// The receiving half.
    pub receiver: Box<dyn FrameReceiver>,
    /// Ends both.
    pub interrupt: Interrupt,
    /// Lends memory of devices and offers the program's, where there is a card.
    pub lender: Lender,
    /// Looks how long the peer has been silent.
    pub watch: Watch,
    /// Where it goes, for people: `tcp://h:7370`.
    pub description: String,
    /// Descriptors beside the socket's that a forked child must close.
    pub descriptors: Vec<RawFd>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The connection of a stream socket that another process handed over, TCP or unix.
    ///
    /// # Errors
    /// The descriptor is not a connected stream socket.
    pub fn from_fd(socket: OwnedFd, patience: Patience) -> io::Result<Self> {
        match rustix::net::sockopt::socket_domain(&socket)? {
            rustix::net::AddressFamily::UNIX => unix::from_fd(socket, patience),
            _ => tcp::from_fd(socket, patience),
        }
    }

    fn over<E: endpoint::Endpoint>(endpoint: E, patience: Patience, description: String) -> Self {
        let endpoint = Arc::new(endpoint);
        let silence = Arc::new(Silence::new(
            Arc::clone(&endpoint) as Arc<dyn endpoint::Endpoint>,
            patience,
        ));
        Self {
            sender: Box::new(stream::StreamSender::new(
                Arc::clone(&endpoint),
                Arc::clone(&silence),
            )),
            receiver: Box::new(stream::StreamReceiver::new(
                Arc::clone(&endpoint),
                Arc::clone(&silence),
            )),
            lender: Lender(Arc::clone(&endpoint) as Arc<dyn endpoint::Endpoint>),
            interrupt: Interrupt(endpoint),
            watch: Watch(silence),
            description,
            descriptors: Vec::new(),
        }
    }
}

/// Ends a connection from any thread, however often.
///
/// Dropping one half of a connection, or an interrupt, ends nothing; the connection ends when all three are
/// gone, or by [`Interrupt::shutdown`].
///
/// In a child after `fork` this must not be used: it would end the parent's connection too. A child closes
/// its copy of the descriptor instead.
#[derive(Clone)]
pub struct Interrupt(Arc<dyn endpoint::Endpoint>);

impl Interrupt {
    /// Ends both halves: what blocks in them returns, and the peer sees the end.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }

    /// Whether the peer has closed its end, though what it sent before may be unread. False where that cannot be told: by RDMA, and in memory.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.0.descriptor().is_some_and(socket::is_hung_up)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Interrupt")
    }
}
