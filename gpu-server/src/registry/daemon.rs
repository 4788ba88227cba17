//! The daemon's end: a task for each worker, and one that takes new connections.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::hello::WorkerOrder;
use protocol::hello::control::{Register, to_daemon};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::packet::{Descriptors as Allowed, PacketError};
use super::session::Worker;
use super::{Counts, Facts, Key, RegisterError, watched};
use crate::order::Descriptors;
use crate::pool::{Moment, TokenId};

/// Most connections that have not said yet which session they are.
const MAX_STRANGERS: usize = 256;

/// How long a connection may be without saying which session it is.
const REGISTER_LIMIT: Duration = Duration::from_secs(5);

/// After an error of the listening socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps until they are taken: all workers may come at once.
const BACKLOG: i32 = 4096;

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
    /// A session has done so much since it was last told.
    Counts {
        /// Which session.
        session: u64,
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
    connection: OwnedFd,
}

/// The daemon's end of all connections to workers.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    /// None where nobody registers again.
    accepting: Option<AbortHandle>,
}

impl Registry {
    /// Listens at a path, in the place of whoever has listened there before: the state directory's lock says that nobody else does.
    /// Within the runtime that its tasks shall run in.
    ///
    /// # Errors
    /// The socket cannot be made; the path is too long for one.
    pub fn bind(
        path: &Path,
        key: Key,
        peers: Peers,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let listener = listen(path, &peers)?;
        let listener = watched::watch(listener, Interest::READABLE)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            key,
            peers,
            runtime: Handle::current(),
            events,
            sessions: Mutex::default(),
            strangers: Mutex::default(),
        });
        let accepting = tokio::spawn(accept_all(Arc::clone(&shared), listener));
        Ok(Self {
            shared,
            accepting: Some(accepting.abort_handle()),
        })
    }

    /// For a daemon without a state: its workers end with it, and nobody registers again. Within the runtime that its tasks shall run in.
    #[must_use]
    pub fn private(events: mpsc::Sender<Event>) -> Self {
        let shared = Arc::new(Shared {
            path: PathBuf::new(),
            key: Key::default(),
            peers: Peers::own(),
            runtime: Handle::current(),
            events,
            sessions: Mutex::default(),
            strangers: Mutex::default(),
        });
        Self {
            shared,
            accepting: None,
        }
    }

    /// Where workers register again, if they do.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        let path = self.shared.path.as_path();
        (!path.as_os_str().is_empty()).then_some(path)
    }

    /// Writes into a worker's order that it registers here and, if this listens somewhere, outlives this process; and gives it its connection.
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

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
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
    path: PathBuf,
    key: Key,
    peers: Peers,
    runtime: Handle,
    events: mpsc::Sender<Event>,
    sessions: Mutex<HashMap<u64, Entry>>,
    /// Processes that have not said yet which session they are.
    strangers: Mutex<HashSet<u32>>,
}

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

/// A stranger, until it is none any more.
struct Stranger {
    shared: Arc<Shared>,
    process: u32,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let strangers = self.shared.strangers.lock();
        let mut strangers = strangers.unwrap_or_else(PoisonError::into_inner);
        strangers.remove(&self.process);
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
        let path = self.path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        order.registration = Some(facts.seal(&self.key));
        if !path.is_empty() {
            path.clone_into(&mut order.registry);
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
            connection: ours,
        })
    }

    fn adopt(self: &Arc<Self>, prepared: Prepared, process: u32) -> io::Result<()> {
        let session = prepared.session;
        let process = pid(process)?;
        // It is our child, so the number is its own until we have waited for it.
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let end = self
            .enter(session)
            .map_err(|error| io::Error::new(io::ErrorKind::AlreadyExists, error))?;
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            match Worker::new(session, prepared.connection, process) {
                Ok(worker) => worker.tend(&shared, end, true).await,
                Err(error) => tracing::error!(session, "cannot watch the worker: {error}"),
            }
            shared.leave(session, true).await;
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

    async fn leave(&self, session: u64, is_child: bool) {
        self.sessions().remove(&session);
        self.tell(Event::Gone { session, is_child }).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        // It fails only when the daemon is ending.
        let _ = self.events.send(event).await;
    }

    /// Takes a connection in, if its process may be a worker, and is not waited for already.
    fn let_in(self: &Arc<Self>, connection: &OwnedFd) -> Result<(Stranger, Pid), String> {
        let peer = rustix::net::sockopt::socket_peercred(connection)
            .map_err(|error| format!("an unknown process: {error}"))?;
        let process = peer.pid.as_raw_nonzero().get().cast_unsigned();
        if !self.peers.allow(peer.uid.as_raw()) {
            let user = peer.uid.as_raw();
            return Err(format!("process {process} of user {user} is no worker"));
        }
        let strangers = self.strangers.lock();
        let mut strangers = strangers.unwrap_or_else(PoisonError::into_inner);
        if strangers.len() >= MAX_STRANGERS {
            return Err("too many workers at once: it will come again".to_owned());
        }
        if !strangers.insert(process) {
            return Err(format!("process {process} has a connection already"));
        }
        drop(strangers);
        let stranger = Stranger {
            shared: Arc::clone(self),
            process,
        };
        Ok((stranger, peer.pid))
    }

    /// Makes a session of a connection.
    async fn meet(self: Arc<Self>, connection: OwnedFd, stranger: Stranger, process: Pid) {
        let number = stranger.process;
        let registration = self.registration(connection, process);
        let met = timeout(REGISTER_LIMIT, registration).await;
        let met = met.unwrap_or(Err(RegisterError::Late));
        drop(stranger);
        let Met {
            worker,
            registered,
            verdict,
            end,
        } = match met {
            Ok(met) => met,
            Err(error) => return tracing::warn!(process = number, "not registered: {error}"),
        };
        let session = worker.session;
        self.tell(Event::Registered(registered)).await;
        match verdict.await {
            Ok(Verdict::GoesOn) => worker.go_on(&self, end).await,
            Ok(Verdict::Ends(reason)) => worker.end(&self, reason).await,
            // This daemon is ending: the worker will find the next.
            Err(_) => {
                self.sessions().remove(&session);
                return;
            }
        }
        self.leave(session, false).await;
    }

    /// Reads who it is, and notes that it is there.
    async fn registration(&self, connection: OwnedFd, process: Pid) -> Result<Met, RegisterError> {
        let number = process.as_raw_nonzero().get().cast_unsigned();
        let watched = pidfd_open(process, PidfdFlags::empty())
            .map_err(io::Error::from)
            .map_err(PacketError::Io)?;
        if is_hung_up(&connection) {
            // The number may be another process's by now.
            return Err(PacketError::Ended.into());
        }
        let mut worker = Worker::new(0, connection, watched).map_err(PacketError::Io)?;
        let (message, files) = worker.receive(Allowed::Allowed).await?;
        let Some(to_daemon::Message::Register(register)) = message.message else {
            return Err(RegisterError::Unexpected);
        };
        let facts = open(&self.key, &register)?;
        let descriptors = facts.files(register.has_ledger, files)?;
        worker.session = facts.session;
        worker.told = register.told.unwrap_or_default().into();
        let end = self.enter(facts.session)?;
        let (answer, verdict) = oneshot::channel();
        let registered = Registered {
            facts,
            descriptors,
            version: register.version,
            release: register.release.chars().take(32).collect(),
            process: number,
            answer: Answer(answer),
        };
        Ok(Met {
            worker,
            registered: Box::new(registered),
            verdict,
            end,
        })
    }
}

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

/// Makes the socket beside its place and puts it there, so that nobody meets one that is not ready.
fn listen(path: &Path, peers: &Peers) -> io::Result<OwnedFd> {
    let named = |error: rustix::io::Errno| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let address = SocketAddrUnix::new(&new).map_err(named)?;
    rustix::net::bind(&socket, &address).map_err(named)?;
    // Workers that are other users connect as such, and are told apart by the kernel.
    let mode = match peers.workers {
        Some(_) => Mode::from_raw_mode(0o666),
        None => Mode::from_raw_mode(0o600),
    };
    rustix::fs::chmod(&new, mode).map_err(named)?;
    rustix::net::listen(&socket, BACKLOG).map_err(named)?;
    std::fs::rename(&new, path)?;
    Ok(socket)
}

async fn accept_all(shared: Arc<Shared>, listener: AsyncFd<OwnedFd>) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let accepted = listener
            .async_io(Interest::READABLE, |listener| {
                Ok(rustix::net::accept_with(listener, flags)?)
            })
            .await;
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!("cannot take a worker's connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        match shared.let_in(&connection) {
            Ok((stranger, process)) => {
                tokio::spawn(Arc::clone(&shared).meet(connection, stranger, process));
            }
            Err(problem) => tracing::warn!("not registered: {problem}"),
        }
    }
}
