//! One worker: its connection, and its process.
//!
//! *Rules:* nobody waits for what the worker does not read; it is listened to every [`LISTEN`] at most, so that it cannot keep the daemon busy; whatever it
//! says, or does not, the session ends when its process has, and the process is killed when it should have ended and has not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use prost::Message;
use protocol::hello::RELEASE;
use protocol::hello::control::{EndSession, Registered, ToDaemon, ToWorker, to_daemon, to_worker};
use rustix::net::SendFlags;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::daemon::{Event, Shared};
use super::packet::{self, Packet, PacketError};
use super::{Counts, END_LIMIT, watched};
use crate::pool::Tenant;

/// A worker is listened to so often at most.
pub(super) const LISTEN: Duration = Duration::from_millis(100);

/// Most packets that are read once the process has ended.
const LAST_PACKETS: usize = 8;

/// A worker's connection and process.
pub(super) struct Worker {
    pub(super) session: u64,
    /// Whose it is.
    pub(super) tenant: Option<Tenant>,
    /// What daemons before this one were told.
    pub(super) told: Counts,
    connection: AsyncFd<OwnedFd>,
    process: AsyncFd<OwnedFd>,
}

impl Worker {
    pub(super) fn new(
        session: u64,
        connection: AsyncFd<OwnedFd>,
        process: OwnedFd,
    ) -> io::Result<Self> {
        Ok(Self {
            session,
            tenant: None,
            told: Counts::default(),
            connection,
            process: watched::watch(process, Interest::READABLE)?,
        })
    }

    pub(super) async fn receive(
        &self,
        allowed: packet::Descriptors,
    ) -> Result<Packet<ToDaemon>, PacketError> {
        next_packet(&self.connection, allowed).await
    }

    /// Tells the worker something. What it does not take, since it has ended or does not read, is not waited for.
    fn say(&self, message: to_worker::Message) {
        let message = ToWorker {
            message: Some(message),
        };
        let connection = self.connection.get_ref();
        if let Err(error) = packet::send(connection, &message, &[], SendFlags::DONTWAIT) {
            let bytes = message.encoded_len();
            tracing::debug!(session = self.session, bytes, "not told: {error}");
        }
    }

    fn kill(&self) {
        let session = self.session;
        tracing::warn!(session, "the worker does not end: it is killed");
        if let Err(error) = pidfd_send_signal(self.process.get_ref().as_fd(), Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(session, "cannot kill the worker: {error}");
        }
    }

    fn say_registered(&self) {
        self.say(to_worker::Message::Registered(Registered {
            release: RELEASE.to_owned(),
        }));
    }

    fn say_end(&self, reason: String) {
        self.say(to_worker::Message::End(EndSession {
            reason: reason.chars().take(1024).collect(),
        }));
    }

    /// A session that another daemon has started, to its end.
    pub(super) async fn go_on(self, shared: &Shared, end: oneshot::Receiver<String>) {
        self.say_registered();
        self.tend(shared, end, false).await;
    }

    /// A session that must end.
    pub(super) async fn end(self, shared: &Shared, reason: String) {
        let (end, ends) = oneshot::channel();
        // The receiver is right here.
        let _ = end.send(reason);
        self.tend(shared, ends, false).await;
    }

    /// A worker that is none of ours to keep: told to end, and made to. Nothing is told of it.
    pub(super) async fn dismiss(&self, reason: String) {
        self.say_end(reason);
        let ended = timeout(END_LIMIT, self.process.readable()).await;
        if ended.is_err() {
            self.kill();
        }
    }

    /// Listens to the worker, tells it to end, and sees to it that it does. Returns when its process has ended.
    pub(super) async fn tend(
        &self,
        shared: &Shared,
        end: oneshot::Receiver<String>,
        is_child: bool,
    ) {
        let mut end = pin!(end);
        let mut is_wanted = true;
        let mut listening = Some(Instant::now());
        let mut registers = is_child;
        let mut deadline = None;
        let mut counts = self.told;
        loop {
            tokio::select! {
                // Packets before the process's end: its last words.
                biased;
                packet = self.next(listening.unwrap_or_else(Instant::now), registers), if listening.is_some() => {
                    let heard = self.hear(packet, &mut registers, &mut counts);
                    listening = heard.is_ok().then(|| Instant::now() + LISTEN);
                    match heard {
                        Ok(Some(counts)) => {
                            shared.tell(self.counted(counts)).await;
                        }
                        Ok(None) => {}
                        Err(error) => {
                            self.note_silence(&error);
                            deadline.get_or_insert(Instant::now() + END_LIMIT);
                        }
                    }
                }
                _ = self.process.readable() => {
                    return self.hear_last_words(shared, counts).await;
                }
                reason = &mut end, if is_wanted => {
                    is_wanted = false;
                    if let Ok(reason) = reason {
                        tracing::info!(session = self.session, "told to end: {reason}");
                        self.say_end(reason);
                        deadline.get_or_insert(Instant::now() + END_LIMIT);
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.kill();
                    deadline = None;
                }
            }
        }
    }

    fn counted(&self, counts: Counts) -> Event {
        Event::Counts {
            session: self.session,
            tenant: self.tenant.clone(),
            counts,
        }
    }

    fn note_silence(&self, error: &PacketError) {
        let session = self.session;
        match error {
            PacketError::Ended => tracing::debug!(session, "the worker's connection has ended"),
            error => tracing::error!(session, "the worker's connection: {error}"),
        }
    }

    /// The next packet, once it is time to listen again.
    async fn next(
        &self,
        not_before: Instant,
        registers: bool,
    ) -> Result<Packet<ToDaemon>, PacketError> {
        sleep_until(not_before).await;
        let allowed = match registers {
            true => packet::Descriptors::Allowed,
            false => packet::Descriptors::Refused,
        };
        self.receive(allowed).await
    }

    /// Understands a packet; what the session has done since it was last told, if that is what it says.
    fn hear(
        &self,
        packet: Result<Packet<ToDaemon>, PacketError>,
        registers: &mut bool,
        told: &mut Counts,
    ) -> Result<Option<Counts>, PacketError> {
        match packet?.message.message {
            // Our own child: we know what it says, and have its files.
            Some(to_daemon::Message::Register(_)) if *registers => {
                *registers = false;
                self.say_registered();
                Ok(None)
            }
            Some(to_daemon::Message::Counts(counts)) => {
                let counts = Counts::from(counts);
                let more = counts.since(*told);
                *told = counts;
                Ok((more != Counts::default()).then_some(more))
            }
            // A worker that is younger may say more than we know.
            Some(to_daemon::Message::Register(_)) | None => Ok(None),
        }
    }

    /// What was said before the end and not heard yet.
    async fn hear_last_words(&self, shared: &Shared, mut counts: Counts) {
        let before = counts;
        let mut registers = true;
        for _ in 0..LAST_PACKETS {
            let packet = packet::receive(self.connection.get_ref(), packet::Descriptors::Allowed);
            if self.hear(packet, &mut registers, &mut counts).is_err() {
                break;
            }
        }
        let more = counts.since(before);
        if more != Counts::default() {
            shared.tell(self.counted(more)).await;
        }
    }
}

/// The next packet of a connection that does not wait by itself.
pub(super) async fn next_packet(
    connection: &AsyncFd<OwnedFd>,
    allowed: packet::Descriptors,
) -> Result<Packet<ToDaemon>, PacketError> {
    loop {
        let mut ready = connection.readable().await?;
        match packet::receive(ready.get_inner(), allowed) {
            Err(PacketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
            }
            result => return result,
        }
    }
}
