//! The worker's end: a thread that holds the connection to the daemon, and lets the next daemon in when there is none.

use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::hello::control::{
    self, Borrow, CheckpointOrder, Checkpointed, Register, ToDaemon, ToWorker, to_daemon, to_worker,
};
use protocol::hello::{CheckpointDone, RELEASE, WorkerOrder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, SocketFlags};

use super::packet::{self, Packet, PacketError};
use super::{COUNTERS, Counts};
use crate::order::Descriptors;

/// How often the daemon is told what the session has done, if it has done something.
const TELL: Duration = Duration::from_secs(5);

/// After an error of the listening socket.
const PAUSE: Duration = Duration::from_millis(100);

/// The connection to the daemon, for the last words; nothing while there is none.
static CONNECTION: Mutex<Option<Arc<OwnedFd>>> = Mutex::new(None);

/// [`CONNECTION`] is there.
static CONNECTED: Condvar = Condvar::new();

/// A thread sees to it that there is a connection, now or soon.
static IS_KEPT: AtomicBool = AtomicBool::new(false);

fn set_connection(connection: Option<Arc<OwnedFd>>) {
    *CONNECTION.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    CONNECTED.notify_all();
}

/// The connection, if there is one now.
fn connection() -> Option<Arc<OwnedFd>> {
    let connection = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    connection.clone()
}

/// The connection, waited for where there will be one: a session's first call may come before it, and a daemon before the next.
fn connection_until(end: Instant) -> Option<Arc<OwnedFd>> {
    let mut connection = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if connection.is_some() || !IS_KEPT.load(Relaxed) {
            return connection.clone();
        }
        let left = end.checked_duration_since(Instant::now())?;
        let waited = CONNECTED.wait_timeout(connection, left);
        connection = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Tells the daemon what the session has done, at its end. Does not wait.
pub(crate) fn say_last_counts() {
    let connection = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connection) = &*connection {
        // A daemon that is gone, or does not read, has no use for it.
        let _ = tell(connection, COUNTERS.read(), SendFlags::DONTWAIT);
    }
}

/// How long another session is waited for that lends.
const LOAN_PATIENCE: Duration = Duration::from_secs(10);

/// What another session has lent.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    pub(crate) files: Vec<OwnedFd>,
    /// What memory that is, by its lender's word.
    pub(crate) what: LentMemory,
}

/// Memory that is lent; of nothing if it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LentMemory {
    pub(crate) bytes: u64,
    /// The UUID of its device.
    pub(crate) device: [u8; 16],
}

/// The questions of this process that wait for an answer, and the answers.
static LOANS: Mutex<Option<HashMap<u64, Option<Option<Lent>>>>> = Mutex::new(None);
static ANSWERED: Condvar = Condvar::new();

/// Asks another session of the lease for what it has exported. Nothing: it has no such thing, or there is no daemon, or it does not answer.
pub(crate) fn borrow(lender: u64, key: &[u8]) -> Option<Lent> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let request = LAST.fetch_add(1, Relaxed) + 1;
    let end = Instant::now() + LOAN_PATIENCE;
    let connection = connection_until(end)?;
    let mut loans = LOANS.lock().unwrap_or_else(PoisonError::into_inner);
    loans.get_or_insert_default().insert(request, None);
    drop(loans);
    let asked = ask(&connection, request, lender, key);
    let mut loans = LOANS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let open = loans.get_or_insert_default();
        let left = end.checked_duration_since(Instant::now());
        match (open.get(&request), left) {
            (Some(None), Some(left)) if asked.is_ok() => {
                let waited = ANSWERED.wait_timeout(loans, left);
                loans = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            _ => return open.remove(&request).flatten().flatten(),
        }
    }
}

fn ask(connection: &OwnedFd, request: u64, lender: u64, key: &[u8]) -> io::Result<()> {
    let message = to_daemon::Message::Borrow(Borrow {
        request,
        lender,
        key: key.to_vec(),
    });
    let message = ToDaemon {
        message: Some(message),
    };
    packet::send(connection, &message, &[], SendFlags::empty())
}

/// Whether it is what another session has lent: its descriptors come with that.
fn is_lent(message: &ToWorker) -> bool {
    matches!(message.message, Some(to_worker::Message::Lent(_)))
}

/// An answer has come; one that nobody waits for is dropped.
fn note_lent(lent: &control::Lent, files: Vec<OwnedFd>) {
    let what = LentMemory {
        bytes: lent.bytes,
        device: lent.device.as_slice().try_into().unwrap_or_default(),
    };

    let mut loans = LOANS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = loans.get_or_insert_default().get_mut(&lent.request) {
        *place = Some(lent.found.then_some(Lent { files, what }));
    }
    ANSWERED.notify_all();
}

/// What the daemon wants of the session, beside its end. The thread of the registry only passes it on: a driver may stand still.
#[derive(Debug)]
pub(crate) enum Task {
    /// Another session asks for what this one has exported by a key.
    Lend { request: u64, key: Vec<u8> },
    /// It is to be suspended, or to go on.
    Checkpoint(CheckpointOrder),
    /// Such an order is not waited for any more.
    GiveUp(u64),
}

/// Answers an order; a daemon that is gone has forgotten it.
pub(crate) fn say_checkpointed(request: u64, done: CheckpointDone) {
    let message = ToDaemon {
        message: Some(to_daemon::Message::Checkpointed(Checkpointed {
            request,
            done: Some(done),
        })),
    };
    if let Some(connection) = connection() {
        let said = packet::send(&*connection, &message, &[], SendFlags::empty());
        // The daemon is gone, as the thread that reads sees too.
        said.unwrap_or_else(|error| tracing::debug!(%error, "an order is not answered"));
    }
}

/// Lends what another session asks for, if it is there.
pub(crate) fn say_lent(request: u64, lent: Option<Lent>) {
    if let Some(connection) = connection()
        && let Err(error) = lend(&connection, request, lent)
    {
        // As above.
        tracing::debug!(%error, "nothing is lent");
    }
}

fn lend(connection: &OwnedFd, request: u64, lent: Option<Lent>) -> io::Result<()> {
    let found = lent.is_some();
    let Lent { files, what } = lent.unwrap_or_default();
    let message = ToDaemon {
        message: Some(to_daemon::Message::Lent(control::Lent {
            request,
            found,
            bytes: what.bytes,
            device: what.device.to_vec(),
        })),
    };
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    packet::send(connection, &message, &files, SendFlags::empty())
}

fn tell(connection: &OwnedFd, counts: Counts, flags: SendFlags) -> io::Result<()> {
    let message = ToDaemon {
        message: Some(to_daemon::Message::Counts(counts.into())),
    };
    packet::send(connection, &message, &[], flags)
}

/// How a connection to a daemon ended.
enum Over {
    /// The daemon says that the session is over.
    Session(String),
    /// The daemon is gone.
    Daemon(String),
}

impl From<PacketError> for Over {
    fn from(error: PacketError) -> Self {
        Self::Daemon(error.to_string())
    }
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Daemon(error.to_string())
    }
}

/// What a worker is registered with.
pub(crate) struct Post {
    session: u64,
    control: Option<OwnedFd>,
    /// Where the next daemon comes to.
    listener: Option<OwnedFd>,
    register: Register,
    /// Copies that are never closed: a record lock of their file would vanish with them.
    files: Vec<ManuallyDrop<OwnedFd>>,
}

impl Post {
    /// Takes the connection to the daemon, the socket where the next one comes to, and copies of what a next daemon has to get, before anyone else has the descriptors. Nothing
    /// if the worker is not to register.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub(crate) fn take(
        order: &WorkerOrder,
        descriptors: &mut Descriptors,
    ) -> io::Result<Option<Self>> {
        let control = descriptors.control.take();
        let listener = descriptors.listener.take();
        let Some(registration) = order.registration.clone() else {
            return Ok(None);
        };
        IS_KEPT.store(true, Relaxed);
        let files = descriptors.ledger.iter().chain(&descriptors.gates);
        let files = files.map(|file| {
            let copy = rustix::io::fcntl_dupfd_cloexec(file, 3)?;
            Ok(ManuallyDrop::new(copy))
        });
        Ok(Some(Self {
            session: order.session,
            control,
            listener,
            register: Register {
                registration: Some(registration),
                version: order.version,
                release: RELEASE.to_owned(),
                has_ledger: descriptors.ledger.is_some(),
                told: None,
            },
            files: files.collect::<io::Result<_>>()?,
        }))
    }

    /// Starts the thread, which calls `end` if the daemon says that the session is over, and `task` for what else it wants.
    ///
    /// # Errors
    /// There can be no thread.
    pub(crate) fn start(
        self,
        end: impl Fn(String) + Send + 'static,
        task: impl Fn(Task) + Send + 'static,
    ) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("registry".to_owned());
        thread.spawn(move || self.run(end, task))?;
        Ok(())
    }

    fn run(mut self, end: impl Fn(String), task: impl Fn(Task)) {
        let mut connection = self.control.take();
        let mut is_first = true;
        loop {
            let over = match connection.take() {
                Some(connection) => self.serve(connection, is_first, &task),
                None => Over::Daemon("it left no connection".to_owned()),
            };
            is_first = false;
            match over {
                Over::Session(reason) => return end(reason),
                Over::Daemon(problem) => {
                    set_connection(None);
                    let session = self.session;
                    let Some(listener) = &self.listener else {
                        IS_KEPT.store(false, Relaxed);
                        return tracing::info!(session, "the daemon is gone ({problem})");
                    };
                    tracing::info!(
                        session,
                        "the daemon is gone ({problem}); the session goes on, and waits for the next"
                    );
                    connection = Some(next_daemon(listener));
                }
            }
        }
    }

    /// Registers, and waits for what the daemon says.
    fn serve(&mut self, connection: OwnedFd, is_first: bool, task: &impl Fn(Task)) -> Over {
        let connection = Arc::new(connection);
        match self.talk(&connection, is_first, task) {
            Ok(reason) => Over::Session(reason),
            Err(over) => over,
        }
    }

    fn talk(
        &mut self,
        connection: &Arc<OwnedFd>,
        is_first: bool,
        task: &impl Fn(Task),
    ) -> Result<String, Over> {
        let files: Vec<BorrowedFd<'_>> = self.files.iter().map(|file| file.as_fd()).collect();
        let message = ToDaemon {
            message: Some(to_daemon::Message::Register(self.register.clone())),
        };
        packet::send(connection, &message, &files, SendFlags::empty())?;
        set_connection(Some(Arc::clone(connection)));
        let mut is_registered = false;
        loop {
            // A daemon that is only slow has its time: the end of the connection tells when there is none.
            if is_readable(connection, TELL)? {
                let packet: Packet<ToWorker> = packet::receive(connection, is_lent)?;
                match packet.message.message {
                    Some(to_worker::Message::End(end)) => return Ok(end.reason),
                    Some(to_worker::Message::Registered(daemon)) => {
                        is_registered = true;
                        self.note_registered(&daemon.release, is_first);
                    }
                    Some(to_worker::Message::Lend(asked)) => {
                        let (request, key) = (asked.request, asked.key);
                        task(Task::Lend { request, key });
                    }
                    Some(to_worker::Message::Lent(lent)) => note_lent(&lent, packet.descriptors),
                    Some(to_worker::Message::Checkpoint(order)) => task(Task::Checkpoint(order)),
                    Some(to_worker::Message::GivenUp(order)) => task(Task::GiveUp(order.request)),
                    // A younger daemon may say more than we know.
                    None => tracing::debug!("a message of an unknown kind from the daemon"),
                }
            }
            let counts = COUNTERS.read();
            if is_registered && self.register.told != Some(counts.into()) {
                tell(connection, counts, SendFlags::empty())?;
                self.register.told = Some(counts.into());
            }
        }
    }

    fn note_registered(&self, release: &str, is_first: bool) {
        let session = self.session;
        match is_first {
            true => tracing::debug!(session, "registered with the daemon"),
            false => tracing::info!(session, release, "registered with the daemon again"),
        }
    }
}

/// Waits for a daemon for as long as the session lives: the process ends with it, and so does this.
fn next_daemon(listener: &OwnedFd) -> OwnedFd {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => return connection,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("cannot let a daemon in: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn is_readable(connection: &OwnedFd, time: Duration) -> io::Result<bool> {
    let time = Timespec::try_from(time).ok();
    let mut polled = [PollFd::new(connection, PollFlags::IN)];
    match poll(&mut polled, time.as_ref()) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        result => Ok(result? > 0),
    }
}
