//! The daemon's end: a task for each worker, and at its beginning one for each door that it finds.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::hello::control::{Register, ToDaemon, to_daemon};
use protocol::hello::{Checkpoint, WorkerOrder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::checkpoints::{Checkpoints, NotOrdered, Order};
use super::door::Door;
use super::loans::Loans;
use super::packet::{Packet, PacketError};
use super::session::{self, Worker};
use super::{Counts, Facts, Key, RegisterError, watched};
use crate::order::Descriptors;
use crate::pool::{LeaseId, Moment, Tenant, TokenId};

/// How long a daemon that begins waits for the workers that it has found: the machine may be busy, or a worker in a call of its driver's. One that is
/// later is taken in all the same.
pub const GATHER_LIMIT: Duration = Duration::from_secs(5);

/// Before a door at which too many wait is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may be a worker.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The daemon's own user.
    pub user: u32,
    /// The users that workers are given, if they are given any.
    pub workers: Option<RangeInclusive<u32>>,
}

impl Peers {
    /// Only processes of this process's user.
    #[must_use]
    pub fn own() -> Self {
        Self {
            user: rustix::process::geteuid().as_raw(),
            workers: None,
        }
    }

    pub(super) fn allow(&self, user: u32) -> bool {
        let workers = self.workers.as_ref();
        user == self.user || workers.is_some_and(|users| users.contains(&user))
    }
}

/// What the registry tells the daemon.
#[derive(Debug)]
pub enum Event {
    /// A session that another daemon has started is there.
    Registered(Box<Registered>),
    /// Every session that this daemon has found at its beginning is there, or over, or late. Told once.
    Gathered,
    /// A session has done so much since it was last told.
    Counts {
        /// Which session: it may be over, since a worker tells it at its end.
        session: u64,
        /// Whose it is.
        tenant: Option<Tenant>,
        /// What.
        counts: Counts,
    },
    /// The session's process has ended. Told once for each session, and nothing of it afterwards.
    Gone {
        /// Which session.
        session: u64,
        /// Whether this daemon has started it, so that it knows how it ended as well.
        is_child: bool,
    },
}

/// A session that another daemon has started.
#[derive(Debug)]
pub struct Registered {
    /// What is known of it, and can be believed.
    pub facts: Facts,
    /// Its ledger and its gates, the very files that it was given.
    pub descriptors: Descriptors,
    /// The protocol version of its frames: as the worker says.
    pub version: u32,
    /// The worker's release: as it says.
    pub release: String,
    /// Its process.
    pub process: u32,
    /// To be answered.
    pub answer: Answer,
}

/// Whether a session goes on. Dropped without an answer, it does: with the next daemon.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<Verdict>);

#[derive(Debug)]
enum Verdict {
    GoesOn,
    Ends(String),
}

impl Answer {
    /// It goes on.
    pub fn accept(self) {
        // It fails if the worker has ended meanwhile, of which an event tells.
        let _ = self.0.send(Verdict::GoesOn);
    }

    /// It ends, and its client reads why.
    pub fn end(self, reason: impl Into<String>) {
        let _ = self.0.send(Verdict::Ends(reason.into()));
    }
}

/// A worker that is about to be started.
#[derive(Debug)]
pub struct Prepared {
    session: u64,
    tenant: Option<Tenant>,
    lease: Option<LeaseId>,
    connection: OwnedFd,
    door: Option<Door>,
}

/// The daemon's end of all connections to workers.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

impl Registry {
    /// Comes to every worker whose door is in this directory, and makes those of new workers there: the state directory's lock says that nobody
    /// else does. Within the runtime that its tasks shall run in.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(
        directory: &Path,
        key: Key,
        peers: Peers,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        Door::prepare(directory)?;
        let registry = Self::with(directory.to_owned(), key, peers, events);
        registry.gather(Door::all(directory)?);
        Ok(registry)
    }

    /// For a daemon without a state: its workers end with it, and nobody registers again. Within the runtime that its tasks shall run in.
    #[must_use]
    pub fn private(events: mpsc::Sender<Event>) -> Self {
        let registry = Self::with(PathBuf::new(), Key::default(), Peers::own(), events);
        registry.gather(Vec::new());
        registry
    }

    fn with(directory: PathBuf, key: Key, peers: Peers, events: mpsc::Sender<Event>) -> Self {
        let shared = Arc::new(Shared {
            directory,
            key,
            peers,
            runtime: Handle::current(),
            events,
            sessions: Mutex::default(),
            loans: Loans::default(),
            checkpoints: Checkpoints::default(),
        });
        Self { shared }
    }

    /// Comes to these, and tells when all of them have been met.
    fn gather(&self, doors: Vec<Door>) {
        // Each task holds a sender until it has met its worker: the receiver hears the last one go.
        let (meeting, mut met) = mpsc::channel::<Never>(1);
        for door in doors {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(shared.come_to(door, meeting.clone()));
        }
        drop(meeting);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if timeout(GATHER_LIMIT, met.recv()).await.is_err() {
                tracing::warn!("workers of before do not answer yet: not waited for any longer");
            }
            shared.tell(Event::Gathered).await;
        });
    }

    /// Whether workers outlive this process, and are found by the next.
    #[must_use]
    pub fn is_outlived(&self) -> bool {
        self.shared.is_outlived()
    }

    /// Writes into a worker's order that it registers here and, if the next daemon can find it, outlives this process; and gives it its connection and
    /// its door.
    /// Nothing of both may change afterwards.
    ///
    /// # Errors
    /// There can be no connection; the order names what is no name.
    pub fn prepare(
        &self,
        order: &mut WorkerOrder,
        descriptors: &mut Descriptors,
        token: Option<&TokenId>,
        client: &str,
        now: Moment,
    ) -> io::Result<Prepared> {
        self.shared.prepare(order, descriptors, token, client, now)
    }

    /// Talks to a worker that was started, from any thread.
    ///
    /// # Errors
    /// The process is not there, or nobody may watch it.
    pub fn adopt(&self, prepared: Prepared, process: u32) -> io::Result<()> {
        self.shared.adopt(prepared, process)
    }

    /// A handle for threads that start workers.
    #[must_use]
    pub fn starter(&self) -> Starter {
        Starter(Arc::clone(&self.shared))
    }

    /// Ends a session: its worker says goodbye with this reason, and is killed if it takes too long. Whether there is such a session.
    pub fn end(&self, session: u64, reason: impl Into<String>) -> bool {
        let mut sessions = self.shared.sessions();
        let Some(entry) = sessions.get_mut(&session) else {
            return false;
        };
        if let Some(end) = entry.end.take() {
            // It fails if it has just ended.
            let _ = end.send(reason.into());
        }
        true
    }

    /// Asks a session to be suspended, or to go on.
    ///
    /// # Errors
    /// It is not there, or has been asked too much.
    pub fn checkpoint(&self, session: u64, checkpoint: Checkpoint) -> Result<Order, NotOrdered> {
        Checkpoints::order(&self.shared, session, checkpoint)
    }

    /// How many sessions are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.sessions().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Prepares and adopts workers, for threads that start them.
#[derive(Debug, Clone)]
pub struct Starter(Arc<Shared>);

impl Starter {
    /// As [`Registry::prepare`].
    ///
    /// # Errors
    /// As there.
    pub fn prepare(
        &self,
        order: &mut WorkerOrder,
        descriptors: &mut Descriptors,
        token: Option<&TokenId>,
        client: &str,
        now: Moment,
    ) -> io::Result<Prepared> {
        self.0.prepare(order, descriptors, token, client, now)
    }

    /// As [`Registry::adopt`].
    ///
    /// # Errors
    /// As there.
    pub fn adopt(&self, prepared: Prepared, process: u32) -> io::Result<()> {
        self.0.adopt(prepared, process)
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Where the doors are; empty: nowhere.
    directory: PathBuf,
    key: Key,
    peers: Peers,
    runtime: Handle,
    events: mpsc::Sender<Event>,
    sessions: Mutex<HashMap<u64, Entry>>,
    /// What sessions of one lease borrow from each other.
    pub(super) loans: Loans,
    /// What sessions are asked to do with themselves.
    pub(super) checkpoints: Checkpoints,
}

/// Nothing is sent: only the end of a channel is heard.
enum Never {}

/// A session that is registered.
#[derive(Debug)]
struct Entry {
    end: Option<oneshot::Sender<String>>,
}

/// A worker that has said who it is.
struct Met {
    worker: Worker,
    registered: Box<Registered>,
    verdict: oneshot::Receiver<Verdict>,
    end: oneshot::Receiver<String>,
}

/// Why a worker that was found is not registered; and the worker, if it is known which process it is.
struct NotMet {
    error: RegisterError,
    worker: Option<Worker>,
}

impl From<RegisterError> for NotMet {
    fn from(error: RegisterError) -> Self {
        Self {
            error,
            worker: None,
        }
    }
}

impl From<PacketError> for NotMet {
    fn from(error: PacketError) -> Self {
        RegisterError::from(error).into()
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(
        &self,
        order: &mut WorkerOrder,
        descriptors: &mut Descriptors,
        token: Option<&TokenId>,
        client: &str,
        now: Moment,
    ) -> io::Result<Prepared> {
        let facts = Facts::of(order, descriptors, token, client, now)?;
        order.registration = Some(facts.seal(&self.key));
        let mut door = None;
        if self.is_outlived() {
            let (made, listener) = Door::make(&self.directory, order.session)?;
            door = Some(made);
            descriptors.listener = Some(listener);
            order.parent = 0;
        }
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        descriptors.control = Some(theirs);
        Ok(Prepared {
            session: order.session,
            tenant: facts.tenant,
            lease: facts.lease,
            connection: ours,
            door,
        })
    }

    fn is_outlived(&self) -> bool {
        !self.directory.as_os_str().is_empty()
    }

    fn adopt(self: &Arc<Self>, prepared: Prepared, process: u32) -> io::Result<()> {
        let session = prepared.session;
        let process = pid(process)?;
        // It is our child, so the number is its own until we have waited for it.
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let end = self
            .enter(session)
            .map_err(|error| io::Error::new(io::ErrorKind::AlreadyExists, error))?;
        self.loans.note(session, prepared.lease.as_ref());
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let worker = watched::watch(prepared.connection, Interest::READABLE)
                .and_then(|connection| Worker::new(session, connection, process));
            match worker {
                Ok(mut worker) => {
                    worker.tenant = prepared.tenant;
                    worker.tend(&shared, end, true).await;
                }
                Err(error) => tracing::error!(session, "cannot watch the worker: {error}"),
            }
            shared.leave(session, prepared.door, true).await;
        });
        Ok(())
    }

    /// Notes that the session is there; what tells when it shall end.
    fn enter(&self, session: u64) -> Result<oneshot::Receiver<String>, RegisterError> {
        let mut sessions = self.sessions();
        if sessions.contains_key(&session) {
            return Err(RegisterError::Twice(session));
        }
        let (end, ends) = oneshot::channel();
        sessions.insert(session, Entry { end: Some(end) });
        Ok(ends)
    }

    async fn leave(&self, session: u64, door: Option<Door>, is_child: bool) {
        self.sessions().remove(&session);
        self.loans.leave(session);
        self.checkpoints.leave(session);
        if let Some(door) = door {
            door.remove();
        }
        self.tell(Event::Gone { session, is_child }).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        // It fails only when the daemon is ending.
        let _ = self.events.send(event).await;
    }

    /// Comes to a worker of before.
    async fn come_to(self: Arc<Self>, door: Door, meeting: mpsc::Sender<Never>) {
        let connection = loop {
            match door.connect() {
                Ok(Some(connection)) => break connection,
                Ok(None) => return door.remove(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
                Err(error) => {
                    let path = door.path().display();
                    return tracing::error!("cannot come to the worker at {path}: {error}");
                }
            }
        };
        self.meet(connection, door, meeting).await;
    }

    /// Makes a session of a connection.
    async fn meet(self: Arc<Self>, connection: OwnedFd, door: Door, meeting: mpsc::Sender<Never>) {
        let met = match self.registration(connection).await {
            Ok(met) => met,
            Err(NotMet { error, worker }) => {
                drop(meeting);
                let path = door.path().display();
                tracing::warn!("the worker at {path} is not registered: {error}");
                if let Some(worker) = worker {
                    worker.dismiss(format!("not registered: {error}")).await;
                    door.remove();
                }
                return;
            }
        };
        let Met {
            worker,
            registered,
            verdict,
            end,
        } = met;
        let session = worker.session;
        self.tell(Event::Registered(registered)).await;
        let verdict = verdict.await;
        drop(meeting);
        match verdict {
            Ok(Verdict::GoesOn) => worker.go_on(&self, end).await,
            Ok(Verdict::Ends(reason)) => worker.end(&self, reason).await,
            // This daemon is ending: the next will come.
            Err(_) => {
                self.sessions().remove(&session);
                return;
            }
        }
        self.leave(session, Some(door), false).await;
    }

    /// Reads who it is, and notes that it is there.
    async fn registration(&self, connection: OwnedFd) -> Result<Met, NotMet> {
        let connection = watched::watch(connection, Interest::READABLE).map_err(PacketError::Io)?;
        let Packet {
            message,
            descriptors,
            sender,
        } = session::next_packet(&connection, |_| true).await?;
        let sender = sender.ok_or(RegisterError::Unexpected)?;
        let process = sender.pid.as_raw_nonzero().get().cast_unsigned();
        let user = sender.uid.as_raw();
        if !self.peers.allow(user) {
            return Err(RegisterError::Stranger { process, user }.into());
        }
        let watched = pidfd_open(sender.pid, PidfdFlags::empty())
            .map_err(io::Error::from)
            .map_err(PacketError::Io)?;
        if is_hung_up(connection.get_ref()) {
            // The number may be another process's by now.
            return Err(PacketError::Ended.into());
        }
        // From here on everybody knows who it is.
        let _ = set_socket_passcred(connection.get_ref(), false);
        let mut worker = Worker::new(0, connection, watched).map_err(PacketError::Io)?;
        let believed = self.believe(&mut worker, message, descriptors, process);
        match believed {
            Ok((registered, verdict, end)) => Ok(Met {
                worker,
                registered: Box::new(registered),
                verdict,
                end,
            }),
            Err(error) => Err(NotMet {
                error,
                worker: Some(worker),
            }),
        }
    }

    /// What a worker says of itself, as far as it was sealed.
    fn believe(
        &self,
        worker: &mut Worker,
        message: ToDaemon,
        files: Vec<OwnedFd>,
        process: u32,
    ) -> Result<Believed, RegisterError> {
        let Some(to_daemon::Message::Register(register)) = message.message else {
            return Err(RegisterError::Unexpected);
        };
        let facts = open(&self.key, &register)?;
        let descriptors = facts.files(register.has_ledger, files)?;
        worker.session = facts.session;
        worker.tenant = facts.tenant.clone();
        worker.told = register.told.unwrap_or_default().into();
        self.loans.note(facts.session, facts.lease.as_ref());
        let end = self.enter(facts.session)?;
        let (answer, verdict) = oneshot::channel();
        let registered = Registered {
            facts,
            descriptors,
            version: register.version,
            release: register.release.chars().take(32).collect(),
            process,
            answer: Answer(answer),
        };
        Ok((registered, verdict, end))
    }
}

/// A session as it is told, what becomes of it, and when it shall end.
type Believed = (
    Registered,
    oneshot::Receiver<Verdict>,
    oneshot::Receiver<String>,
);

fn open(key: &Key, register: &Register) -> Result<Facts, RegisterError> {
    let registration = register.registration.as_ref();
    Facts::open(key, registration.ok_or(RegisterError::Unexpected)?)
}

fn pid(process: u32) -> io::Result<Pid> {
    Pid::from_raw(process.cast_signed()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn is_hung_up(connection: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(connection, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().intersects(ended)
}
