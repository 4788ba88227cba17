//! Watches the process at the other end of a unix socket.
//!
//! *Why:* the end of a connection is seen only when its last holder closes it. A child that the program made without the C library's
//! handlers holds it too, and may outlive the program; then nothing would tell that the program is gone but its silence. On one host the
//! kernel knows the process that connected, and a process can be waited for. Over TCP there is no such thing, and silence has to do.
//!
//! # Safety
//! `getsockopt` writes at most the length that it is given into a local of that size.
#![expect(unsafe_code, reason = "SO_PEERPIDFD, which rustix does not have")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::end::Reason;
use super::session::Session;

/// How often a watch looks whether the session has ended in another way.
const LOOK: Duration = Duration::from_secs(1);

/// How long what the process sent before its end may take to be read: less than the session's memory may stay after it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The client's process.
#[derive(Debug)]
pub(super) struct Client(OwnedFd);

impl Client {
    /// The process that connected, if it is one of this host that can be watched.
    pub(super) fn of(connection: &impl AsFd) -> Option<Self> {
        let connection = connection.as_fd();
        if rustix::net::sockopt::socket_domain(connection).ok()? != rustix::net::AddressFamily::UNIX
        {
            return None;
        }
        let descriptor = peer_descriptor(&connection).or_else(|| {
            // A kernel before 6.5. A process of another namespace of process ids has no number here.
            let peer = rustix::net::sockopt::socket_peercred(connection).ok()?;
            pidfd_open(peer.pid, PidfdFlags::empty()).ok()
        })?;
        Some(Self(descriptor))
    }

    /// Ends the session when the process has ended.
    pub(super) fn watch(&self, session: &Session) {
        let look = Timespec::try_from(LOOK).ok();
        while !session.end.is_over() {
            let mut process = [PollFd::new(&self.0, PollFlags::IN)];
            if matches!(poll(&mut process, look.as_ref()), Ok(1..)) {
                // Its goodbye, and the end of its connection, say more, if they come.
                if !session.end.comes_within(PATIENCE) {
                    let gone = "its process has ended, and something else holds its connection";
                    session.end.finish(Reason::Lost(gone.to_owned()));
                }
                return;
            }
        }
    }
}

/// The descriptor of the process that connected.
fn peer_descriptor(connection: &impl AsFd) -> Option<OwnedFd> {
    let mut number: libc::c_int = -1;
    let mut length = size_of_val(&number) as libc::socklen_t;
    // SAFETY: the option's value goes into `number`, whose size is told.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut number).cast(),
            &mut length,
        )
    };
    // SAFETY: a new descriptor that the kernel has just given us.
    (result == 0 && number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}
