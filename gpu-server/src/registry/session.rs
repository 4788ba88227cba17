//! One worker: its connection, and its process.
//!
//! *Rules:* nobody waits for what the worker does not read; it is listened to every [`LISTEN`] at most, and at once while it has orders to answer, and while it borrows or lends
//! ([`MAX_LOANS_OF_A_SECOND`]), so that it cannot keep the daemon busy; whatever it
//! says, or does not, the session ends when its process has, and the process is killed when it should have ended and has not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use prost::Message;
use protocol::hello::RELEASE;
use protocol::hello::control::{
    Borrow, CheckpointGivenUp, Checkpointed, EndSession, Lend, Lent, Registered, ToDaemon,
    ToWorker, to_daemon, to_worker,
};
use rustix::net::SendFlags;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::daemon::{Event, Shared};
use super::loans::{MAX_WORDS, Word};
use super::packet::{self, Packet, PacketError};
use super::{Counts, END_LIMIT, watched};
use crate::pool::Tenant;

/// A worker is listened to so often at most.
pub(super) const LISTEN: Duration = Duration::from_millis(100);

/// A worker that borrows or lends, or has orders, is listened to at once, but so often at most in a second.
const MAX_LOANS_OF_A_SECOND: u32 = 2000;

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
    /// Since when loans are counted, and how many there were.
    loans: (Instant, u32),
    /// How many orders it has not answered.
    ordered: u32,
}

/// What a worker has said.
enum Heard {
    Nothing,
    /// What its session has done since it was last told.
    Counts(Counts),
    Borrows(Borrow),
    Lends(Lent, Vec<OwnedFd>),
    Checkpointed(Checkpointed),
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
            loans: (Instant::now(), 0),
            ordered: 0,
        })
    }

    pub(super) async fn receive(
        &self,
        may_bring: packet::MayBring<ToDaemon>,
    ) -> Result<Packet<ToDaemon>, PacketError> {
        next_packet(&self.connection, may_bring).await
    }

    /// Tells the worker something. What it does not take, since it has ended or does not read, is not waited for.
    fn say(&self, message: to_worker::Message) {
        self.say_with(message, &[]);
    }

    /// Whether the worker takes it.
    fn say_with(&self, message: to_worker::Message, descriptors: &[OwnedFd]) -> bool {
        let message = ToWorker {
            message: Some(message),
        };
        let connection = self.connection.get_ref();
        let passed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = packet::send(connection, &message, &passed, SendFlags::DONTWAIT);
        if let Err(error) = &sent {
            let bytes = message.encoded_len();
            tracing::debug!(session = self.session, bytes, "not told: {error}");
        }
        sent.is_ok()
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
    pub(super) async fn go_on(mut self, shared: &Shared, end: oneshot::Receiver<String>) {
        self.say_registered();
        self.tend(shared, end, false).await;
    }

    /// A session that must end.
    pub(super) async fn end(mut self, shared: &Shared, reason: String) {
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
        &mut self,
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
        let (speaker, mut words) = mpsc::channel(MAX_WORDS);
        shared.loans.enter(self.session, speaker);
        loop {
            tokio::select! {
                // Packets before the process's end: its last words.
                biased;
                packet = self.next(listening.unwrap_or_else(Instant::now), registers), if listening.is_some() => {
                    let heard = self.hear(packet, &mut registers, &mut counts);
                    listening = heard.as_ref().ok().map(|heard| self.listen_after(heard));
                    match heard {
                        Ok(Heard::Counts(counts)) => {
                            shared.tell(self.counted(counts)).await;
                        }
                        Ok(Heard::Borrows(borrow)) => {
                            if let Some(no) = shared.loans.borrow(self.session, &borrow) {
                                self.say(to_worker::Message::Lent(no));
                            }
                        }
                        Ok(Heard::Lends(lent, files)) => shared.loans.lent(self.session, &lent, files),
                        Ok(Heard::Checkpointed(answer)) => {
                            self.ordered = self.ordered.saturating_sub(1);
                            shared.checkpoints.answered(self.session, answer);
                        }
                        Ok(Heard::Nothing) => {}
                        Err(error) => {
                            self.note_silence(&error);
                            deadline.get_or_insert(Instant::now() + END_LIMIT);
                        }
                    }
                }
                Some(word) = words.recv() => {
                    if matches!(word, Word::Checkpoint(_)) {
                        self.ordered += 1;
                        listening = listening.map(|_| Instant::now());
                    }
                    self.pass_on(shared, word);
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

    /// Passes on what another worker of its lease wants, or gives.
    fn pass_on(&self, shared: &Shared, word: Word) {
        match word {
            Word::Lend { request, key } => {
                let asked = to_worker::Message::Lend(Lend { request, key });
                if !self.say_with(asked, &[]) {
                    let no = Lent {
                        request,
                        ..Lent::default()
                    };
                    shared.loans.lent(self.session, &no, Vec::new());
                }
            }
            Word::Lent { lent, files } => {
                self.say_with(to_worker::Message::Lent(lent), &files);
            }
            Word::Checkpoint(order) => {
                if !self.say_with(to_worker::Message::Checkpoint(order), &[]) {
                    shared.checkpoints.leave(self.session);
                }
            }
            Word::GiveUp(request) => {
                self.say(to_worker::Message::GivenUp(CheckpointGivenUp { request }));
            }
        }
    }

    /// When it is listened to again.
    fn listen_after(&mut self, heard: &Heard) -> Instant {
        let now = Instant::now();
        let is_loan = matches!(heard, Heard::Borrows(_) | Heard::Lends(..));
        if !is_loan && self.ordered == 0 {
            return now + LISTEN;
        }
        if now.duration_since(self.loans.0) > Duration::from_secs(1) {
            self.loans = (now, 0);
        }
        self.loans.1 += 1;
        match self.loans.1 < MAX_LOANS_OF_A_SECOND {
            true => now,
            false => now + LISTEN,
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
        match registers {
            true => self.receive(|_| true).await,
            false => self.receive(lends).await,
        }
    }

    /// Understands a packet.
    fn hear(
        &self,
        packet: Result<Packet<ToDaemon>, PacketError>,
        registers: &mut bool,
        told: &mut Counts,
    ) -> Result<Heard, PacketError> {
        let packet = packet?;
        Ok(match packet.message.message {
            // Our own child: we know what it says, and have its files.
            Some(to_daemon::Message::Register(_)) if *registers => {
                *registers = false;
                self.say_registered();
                Heard::Nothing
            }
            Some(to_daemon::Message::Counts(counts)) => {
                let counts = Counts::from(counts);
                let more = counts.since(*told);
                *told = counts;
                match more == Counts::default() {
                    true => Heard::Nothing,
                    false => Heard::Counts(more),
                }
            }
            Some(to_daemon::Message::Borrow(borrow)) => Heard::Borrows(borrow),
            Some(to_daemon::Message::Lent(lent)) => Heard::Lends(lent, packet.descriptors),
            Some(to_daemon::Message::Checkpointed(answer)) => Heard::Checkpointed(answer),
            // A worker that is younger may say more than we know.
            Some(to_daemon::Message::Register(_)) | None => Heard::Nothing,
        })
    }

    /// What was said before the end and not heard yet.
    async fn hear_last_words(&self, shared: &Shared, mut counts: Counts) {
        let before = counts;
        let mut registers = true;
        for _ in 0..LAST_PACKETS {
            let packet = packet::receive(self.connection.get_ref(), |_| true);
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

/// Whether a worker lends something: its descriptors come with that.
fn lends(message: &ToDaemon) -> bool {
    matches!(message.message, Some(to_daemon::Message::Lent(_)))
}

/// The next packet of a connection that does not wait by itself.
pub(super) async fn next_packet(
    connection: &AsyncFd<OwnedFd>,
    may_bring: packet::MayBring<ToDaemon>,
) -> Result<Packet<ToDaemon>, PacketError> {
    loop {
        let mut ready = connection.readable().await?;
        match packet::receive(ready.get_inner(), may_bring) {
            Err(PacketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
            }
            result => return result,
        }
    }
}
