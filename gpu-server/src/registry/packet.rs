//! Packets: one message each, and descriptors beside it.
//!
//! *Why packets:* a socket of the kind `SOCK_SEQPACKET` keeps messages and what belongs to them apart, so there is no length to believe and no
//! half of a message to wait for. *Rules:* a packet that is too long, brings descriptors where none may come, or cannot be decoded is refused whole. One
//! whose descriptors this process has no room for comes without any.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message;
use protocol::limits::MAX_DEVICES;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, UCred, recvmsg, sendmsg,
};

/// Most bytes of a message.
pub(super) const MAX_PACKET_BYTES: usize = 16 * 1024;

/// Most descriptors with a message: a ledger, and a gate for each device.
pub(super) const MAX_DESCRIPTORS: usize = MAX_DEVICES + 1;

/// Room for that many descriptors and who has sent them, and for its alignment.
const ANCILLARY_BYTES: usize =
    rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1)) + 16;

/// Whether descriptors may come with a message.
pub(super) type MayBring<M> = fn(&M) -> bool;

/// Why there is no packet.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The operating system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end is gone.
    #[error("the connection has ended")]
    Ended,
    /// Longer than any may be.
    #[error("a packet of more than {MAX_PACKET_BYTES} bytes")]
    TooLong,
    /// More descriptors than may come.
    #[error("more descriptors than may come with it")]
    Descriptors,
    /// No such message.
    #[error("a packet that cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

/// Sends a message; waits only if the socket does.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Message,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    if bytes.len() > MAX_PACKET_BYTES || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = flags | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// A message, and what came with it.
#[derive(Debug)]
pub(super) struct Packet<M> {
    pub(super) message: M,
    pub(super) descriptors: Vec<OwnedFd>,
    /// The process that has sent it, as the kernel says, if the socket asks for that.
    pub(super) sender: Option<UCred>,
}

/// Receives a message; waits only if the socket does. Descriptors that may not come with it are closed.
pub(super) fn receive<M: Message + Default>(
    socket: impl AsFd,
    may_bring: MayBring<M>,
) -> Result<Packet<M>, PacketError> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = loop {
        match recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            // The other end has closed with packets of ours unread. The kernel says so once, before what had been sent till then.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            result => break result.map_err(io::Error::from)?,
        }
    };
    let mut descriptors = Vec::new();
    let mut sender = None;
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(passed) => descriptors.extend(passed),
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            _ => {}
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(PacketError::TooLong);
    }
    // Some were lost: more came than may, or this process has no room for them, in which case the message stands without.
    let is_short = received.flags.contains(ReturnFlags::CTRUNC);
    if is_short {
        descriptors.clear();
    }
    // An empty packet would say nothing, so nobody sends one.
    if received.bytes == 0 {
        return Err(PacketError::Ended);
    }
    let message = M::decode(&bytes[..received.bytes])?;
    match (descriptors.is_empty() && !is_short) || may_bring(&message) {
        true => Ok(Packet {
            message,
            descriptors,
            sender,
        }),
        false => Err(PacketError::Descriptors),
    }
}
