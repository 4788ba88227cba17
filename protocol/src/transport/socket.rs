//! A stream socket as an endpoint, whatever its family, and the same socket during its hello.
//!
//! Every system call but one is non-blocking by its own flag and followed by a `poll`, so that it does not matter
//! whether the descriptor is in blocking mode: that mode is shared with whoever else holds it. The one is the receive of
//! who waits for a frame: it blocks in the receive itself, bounded by the socket's own timeout, which saves two system calls of
//! three. Where the descriptor does not block after all, it falls back to `poll`.
//!
//! # Safety
//! `recv` and `recvmsg` write into spans, whose maker vouched for them, and `getsockopt` into a local struct; a number is only asked what it means.
#![expect(
    unsafe_code,
    reason = "recv into raw spans, getsockopt of TCP_INFO, fstat of a number"
)]

use std::io::{self, IoSlice, Read, Write};
#[cfg(feature = "rdma")]
use std::os::fd::RawFd;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use rustix::time::ClockId;

use super::endpoint::{Endpoint, Interest, Span};
use crate::limits::LOOK_INTERVAL;

const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// What is no longer than this is copied into one piece: for so little, that is cheaper than a message of several.
const JOINED_BYTES: usize = 256;

/// The pieces as one, if they fit.
fn join<'a>(pieces: &[IoSlice<'_>], joined: &'a mut [u8; JOINED_BYTES]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        joined
            .get_mut(end..end + piece.len())?
            .copy_from_slice(piece);
        end += piece.len();
    }
    joined.get(..end)
}

/// A connected stream socket.
///
/// It may live in a process whose program closes every descriptor that it does not know, as daemons do: then our number can come
/// to mean one of the program's own files or sockets, which must never get our bytes, nor lose its own to us. So it is looked at before
/// it is used, at most once in a tick of the kernel's coarse clock: a few nanoseconds for a call, one `fstat` in some milliseconds.
pub(super) struct Socket {
    descriptor: OwnedFd,
    identity: Identity,
    looked: Looked,
    is_tcp: bool,
}

/// The tick of the kernel's coarse clock in which a number last meant what it should.
#[derive(Debug, Default)]
struct Looked(AtomicI64);

impl Looked {
    /// Looks, if that was not done in this tick.
    fn once(&self, look: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let now = rustix::time::clock_gettime(ClockId::MonotonicCoarse);
        let tick = now.tv_sec.wrapping_shl(30) | now.tv_nsec;
        if self.0.load(Relaxed) != tick {
            look()?;
            self.0.store(tick, Relaxed);
        }
        Ok(())
    }
}

/// Descriptors of a connection beside its socket, which a library uses by their numbers: looked at as a [`Socket`]'s own.
#[cfg(feature = "rdma")]
pub(super) struct Borrowed {
    all: Vec<(RawFd, Identity)>,
    looked: Looked,
}

#[cfg(feature = "rdma")]
impl Borrowed {
    /// What these numbers mean now.
    pub(super) fn new(numbers: &[RawFd]) -> io::Result<Self> {
        let identified = |number: &RawFd| Ok((*number, Identity::of_number(*number)?));
        Ok(Self {
            all: numbers.iter().map(identified).collect::<io::Result<_>>()?,
            looked: Looked::default(),
        })
    }

    pub(super) fn numbers(&self) -> Vec<RawFd> {
        self.all.iter().map(|(number, _)| *number).collect()
    }

    /// An error if a number was seen to mean something else.
    pub(super) fn check(&self) -> io::Result<()> {
        self.looked.once(|| self.look())
    }

    /// The same, seen now.
    pub(super) fn look(&self) -> io::Result<()> {
        let is_same = |(number, identity): &(RawFd, Identity)| {
            Identity::of_number(*number).is_ok_and(|now| now == *identity)
        };
        match self.all.iter().all(is_same) {
            true => Ok(()),
            false => Err(taken()),
        }
    }
}

/// What a descriptor means, whatever its number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[cfg(feature = "rdma")]
    fn of_number(number: RawFd) -> io::Result<Self> {
        // SAFETY: it is only asked what the number means, which is an error where it means nothing.
        Self::of(unsafe { BorrowedFd::borrow_raw(number) })
    }

    fn of(descriptor: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(descriptor)?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Socket {
    /// A socket whose peer is on this machine.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let identity = Identity::of(&descriptor)?;
        rustix::net::sockopt::set_socket_timeout(&descriptor, Timeout::Recv, Some(LOOK_INTERVAL))?;
        rustix::io::ioctl_fionbio(&descriptor, false)?;
        Ok(Self {
            identity,
            descriptor,
            looked: Looked::default(),
            is_tcp: false,
        })
    }

    /// A TCP socket.
    pub(super) fn tcp(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Self::new(descriptor)?;
        Ok(Self {
            is_tcp: true,
            ..socket
        })
    }

    /// The descriptor itself.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    /// What the kernel knows of the connection.
    fn tcp_info(&self) -> Option<libc::tcp_info> {
        // SAFETY: a `tcp_info` of zeros is a valid one: it is numbers only.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
        // SAFETY: the kernel writes at most `length` bytes, the size of `info`, and the length it wrote.
        let result = unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        (result == 0).then_some(info)
    }

    /// The descriptor, if it still is this socket's.
    fn own(&self) -> io::Result<&OwnedFd> {
        self.looked.once(|| self.look())?;
        Ok(&self.descriptor)
    }

    /// An error if the descriptor no longer is this socket's.
    pub(super) fn look(&self) -> io::Result<()> {
        if Identity::of(&self.descriptor).is_ok_and(|identity| identity == self.identity) {
            return Ok(());
        }
        Err(taken())
    }
}

/// The program has taken the connection's descriptor away.
fn taken() -> io::Error {
    io::Error::other("the program has closed the connection's descriptor")
}

/// An error of a call on the connection's descriptor: the number may have been closed since it was looked at.
fn failed(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADF | libc::ENOTSOCK) => taken(),
        _ => error,
    }
}

impl Endpoint for Socket {
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let descriptor = self.own()?;
        let mut joined = [0; JOINED_BYTES];
        let sent = match join(pieces, &mut joined) {
            Some(bytes) => rustix::net::send(descriptor, bytes, SEND_FLAGS),
            None => {
                let mut control = SendAncillaryBuffer::default();
                rustix::net::sendmsg(descriptor, pieces, &mut control, SEND_FLAGS)
            }
        };
        sent.map_err(|error| failed(error.into()))
    }

    fn receive_some(&self, spans: [Span; 2]) -> io::Result<usize> {
        self.receive(spans, libc::MSG_DONTWAIT)
    }

    fn receive_patiently(&self, spans: [Span; 2]) -> io::Result<usize> {
        match self.receive(spans, 0) {
            // A program's timer would begin the wait anew again and again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            received => received,
        }
    }

    fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<bool> {
        wait_for(self.own()?.as_fd(), interest, timeout)
    }

    fn shutdown(&self) {
        if self.look().is_ok() {
            // It fails only where the connection is over already.
            let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Both);
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.as_fd())
    }

    fn unanswered_for(&self) -> Option<Duration> {
        let info = self.is_tcp.then(|| self.tcp_info()).flatten()?;
        // A retransmission or two probes without an answer; one probe may still be under way.
        let owes_an_answer = info.tcpi_retransmits > 0 || info.tcpi_probes > 1;
        owes_an_answer.then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }
}

impl Socket {
    fn receive(&self, spans: [Span; 2], flags: libc::c_int) -> io::Result<usize> {
        let descriptor = self.own()?.as_raw_fd();
        if spans[0].length() == 0 {
            let (start, length) = (spans[1].start(), spans[1].length());
            // SAFETY: the span is valid for writes of its length.
            let count = unsafe { libc::recv(descriptor, start.cast(), length, flags) };
            return usize::try_from(count).map_err(|_| failed(io::Error::last_os_error()));
        }
        let mut vectors = spans.map(|span| libc::iovec {
            iov_base: span.start().cast(),
            iov_len: span.length(),
        });
        // SAFETY: a `msghdr` of zeros is a valid one that names nothing.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = vectors.len();
        // SAFETY: the message names two vectors, each valid for writes of its length by its span.
        let count = unsafe { libc::recvmsg(descriptor, &mut message, flags) };
        usize::try_from(count).map_err(|_| failed(io::Error::last_os_error()))
    }
}

/// Waits for one direction of one descriptor; signals do not cut the time short.
fn wait_for(
    descriptor: BorrowedFd<'_>,
    interest: Interest,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let flags = match interest {
        Interest::Read => PollFlags::IN | PollFlags::RDHUP,
        Interest::Write => PollFlags::OUT,
    };
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(
            &mut [PollFd::from_borrowed_fd(descriptor, flags)],
            left.as_ref(),
        ) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the peer has closed its end of a socket; never blocks.
pub(super) fn is_hung_up(descriptor: BorrowedFd<'_>) -> bool {
    let asked = PollFlags::RDHUP;
    let mut descriptor = [PollFd::from_borrowed_fd(descriptor, asked)];
    // A question that fails is answered by whoever reads next.
    poll(&mut descriptor, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// A socket during its hello: blocking reads and writes that all end at one deadline, and that never take
/// a byte more than they were asked for.
#[derive(Debug)]
pub struct HandshakeStream<'a> {
    socket: BorrowedFd<'a>,
    deadline: Instant,
}

impl<'a> HandshakeStream<'a> {
    /// Reads and writes this socket until `deadline`.
    #[must_use]
    pub fn new(socket: BorrowedFd<'a>, deadline: Instant) -> Self {
        Self { socket, deadline }
    }

    /// Reads and writes until another moment.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    fn retry(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match attempt() {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !wait_for(self.socket, interest, Some(left))? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for HandshakeStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(Interest::Read, || {
            rustix::net::recv(self.socket, &mut *buffer, RecvFlags::DONTWAIT)
                .map(|(_, count)| count)
        })
    }
}

impl Write for HandshakeStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(Interest::Write, || {
            rustix::net::send(self.socket, bytes, SEND_FLAGS)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
