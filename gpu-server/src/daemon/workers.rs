//! The workers: one process for each session, started, watched and ended.
//!
//! What: [`Workers::start`] makes a thread that starts the worker and waits for it. Why a thread for each: the kernel
//! ends a worker when the *thread* that started it ends (that is how a worker cannot outlive a crashed daemon), so that
//! thread has to live as long. Rules: the worker gets the socket and the hello as descriptors and nothing of our
//! loader's environment; our copy of the socket is closed as soon as the worker has its own, so that the client sees the
//! end of the one when the other ends; a worker is a process group of its own, so that a terminal's interrupt reaches
//! it only through us.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::CommandFdExt;
use protocol::hello::{
    self, Checkpoint, Hello, HelloReply, Identity, LeaseOrder, RdmaOrder, RefusalCode,
    SandboxOrder, TlsOrder, WorkerOrder,
};
use protocol::limits::CLEAN_UP_LIMIT;
use protocol::transport::HandshakeStream;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::mpsc;

use super::Event;
use super::devices::Devices;
use super::metrics::Ending;
use super::usage::Program;
use crate::order::Descriptors;
use crate::pool::{LeaseId, Moment, TokenId};
use crate::registry::{END_LIMIT, Facts, NotOrdered, Prepared, Registry, Starter};

/// How long a client may take to read that no worker could be started.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// What a worker is to be started for.
pub(super) struct Order {
    /// The session's number.
    pub(super) session: u64,
    pub(super) socket: OwnedFd,
    pub(super) hello: Hello,
    pub(super) version: u32,
    pub(super) client: String,
    pub(super) devices: Arc<Devices>,
    pub(super) silence_grace: Duration,
    pub(super) rdma: RdmaOrder,
    /// By which token it was granted.
    pub(super) token: Option<TokenId>,
    /// How its bytes are encrypted.
    pub(super) tls: Option<TlsOrder>,
    /// Under which lease.
    pub(super) lease_id: LeaseId,
    /// What the session may use of it.
    pub(super) lease: LeaseOrder,
    /// What the worker inherits.
    pub(super) descriptors: Descriptors,
    /// What it gives up before it serves.
    pub(super) sandbox: SandboxOrder,
}

/// A session that is over.
pub(super) struct Ended {
    pub(super) session: u64,
    /// How.
    pub(super) ending: Ending,
}

/// The sessions that are alive.
pub(super) struct Workers {
    registry: Registry,
    alive: HashMap<u64, Arc<Worker>>,
}

/// A worker, once its process exists.
struct Worker {
    state: Mutex<State>,
    /// Whom it serves.
    program: Program,
    /// By which token it was granted.
    token: Option<TokenId>,
    /// Under which lease.
    lease: LeaseId,
    /// Who its program is, as it says.
    identity: Identity,
    /// Since when it has been asked to end.
    asked_to_end: Mutex<Option<Instant>>,
}

#[derive(Default)]
enum State {
    /// Its thread has not started it yet.
    #[default]
    Coming,
    /// It is a process.
    Running(Child),
    /// It is a process that a daemon before this one has started.
    Adopted(u32),
    /// It is over, or must not begin.
    Over,
}

impl Worker {
    fn asked_to_end(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked_to_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that serves, once there is one.
    fn process(&self) -> Option<u32> {
        match &*self.state() {
            State::Running(child) => Some(child.id()),
            State::Adopted(process) => Some(*process),
            State::Coming | State::Over => None,
        }
    }

    /// Whom it serves, and as which process.
    fn program(&self) -> Program {
        Program {
            worker: self.process(),
            ..self.program.clone()
        }
    }

    /// Signals the process, if there is one; a worker that is still coming will not begin.
    fn signal(&self, signal: Signal) {
        let mut state = self.state();
        match &*state {
            State::Coming => *state = State::Over,
            // It is not reaped while we hold the lock, so the number is still its own.
            State::Running(child) => {
                if let Some(process) = Pid::from_raw(child.id().cast_signed()) {
                    let _ = rustix::process::kill_process(process, signal);
                }
            }
            // The registry ends it, which knows it by more than its number.
            State::Adopted(_) | State::Over => {}
        }
    }
}

impl Workers {
    /// None yet.
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            alive: HashMap::new(),
        }
    }

    /// Whether workers outlive the daemon.
    pub(super) fn outlive_us(&self) -> bool {
        self.registry.is_outlived()
    }

    /// A session that a daemon before this one has started.
    pub(super) fn adopt(&mut self, facts: &Facts, lease: LeaseId, devices: Vec<u32>, process: u32) {
        let identity = facts.identity();
        let worker = Worker {
            state: Mutex::new(State::Adopted(process)),
            program: Program {
                process: identity.process,
                namespace: identity.process_namespace.clone(),
                devices,
                worker: None,
            },
            token: facts.token.clone(),
            lease,
            identity,
            asked_to_end: Mutex::default(),
        };
        self.alive.insert(facts.session, Arc::new(worker));
    }

    /// How many sessions are alive.
    pub(super) fn len(&self) -> usize {
        self.alive.len()
    }

    /// Starts a worker; whether it could. Its end, or its failure to begin, is told to `events`.
    pub(super) fn start(&mut self, order: Order, events: mpsc::Sender<Event>) -> bool {
        let session = order.session;
        let worker = Arc::new(Worker {
            state: Mutex::default(),
            program: program(&order),
            token: order.token.clone(),
            lease: order.lease_id.clone(),
            identity: order.hello.identity.clone().unwrap_or_default(),
            asked_to_end: Mutex::default(),
        });
        self.alive.insert(session, Arc::clone(&worker));
        let starter = self.registry.starter();
        let run = move || {
            let ending = tend(&worker, session, order, &starter);
            // It fails only when the daemon is ending.
            let _ = events.blocking_send(Event::WorkerEnded(Ended { session, ending }));
        };
        let spawned = thread::Builder::new()
            .name(format!("session {session}"))
            .spawn(run);
        if let Err(error) = spawned {
            tracing::error!(session, "cannot start a thread: {error}");
            self.alive.remove(&session);
            return false;
        }
        true
    }

    /// Whom the sessions serve that are under such leases.
    pub(super) fn programs(&self, of: impl Fn(&LeaseId) -> bool) -> Vec<Program> {
        let alive = self.alive.iter();
        let mut alive: Vec<_> = alive.filter(|(_, worker)| of(&worker.lease)).collect();
        alive.sort_by_key(|(session, _)| **session);
        alive.iter().map(|(_, worker)| worker.program()).collect()
    }

    /// The youngest session of such a program under such a lease: the number of a process may have been an older one's.
    pub(super) fn last_of(&self, of: impl Fn(&Identity, &LeaseId) -> bool) -> Option<u64> {
        let alive = self.alive.iter();
        let theirs = alive.filter(|(_, worker)| of(&worker.identity, &worker.lease));
        theirs.map(|(session, _)| *session).max()
    }

    /// Asks a session to be suspended, or to go on.
    pub(super) fn checkpoint(
        &self,
        session: u64,
        checkpoint: Checkpoint,
    ) -> Result<crate::registry::Order, NotOrdered> {
        self.registry.checkpoint(session, checkpoint)
    }

    /// Forgets a session that is over; the lease that it was under.
    pub(super) fn forget(&mut self, session: u64) -> Option<LeaseId> {
        let worker = self.alive.remove(&session)?;
        Some(worker.lease.clone())
    }

    /// Whether a worker is this process.
    pub(super) fn has_process(&self, process: u32) -> bool {
        let mut workers = self.alive.values();
        workers.any(|worker| worker.process() == Some(process))
    }

    /// Asks those workers to end that were granted by this token; how many they are.
    pub(super) fn end_those_of(&self, token: &TokenId) -> usize {
        let reason = "the token by which this program came was revoked";
        self.ask_those(|worker| worker.token.as_ref() == Some(token), reason)
    }

    /// Asks the workers of a lease to end; how many they are. Their clients read why.
    pub(super) fn end_lease(&self, lease: &LeaseId, reason: &str) -> usize {
        let reason = format!("lease {lease} is over: {reason}");
        self.ask_those(|worker| worker.lease == *lease, &reason)
    }

    /// Asks every worker to end.
    pub(super) fn ask_to_end(&self) {
        self.ask_those(|_| true, "the server is ending");
    }

    fn ask_those(&self, which: impl Fn(&Worker) -> bool, reason: &str) -> usize {
        let workers = self.alive.iter().filter(|(_, worker)| which(worker));
        let ask = |(session, worker): &(&u64, &Arc<Worker>)| {
            let is_asked = worker.asked_to_end().replace(Instant::now());
            if is_asked.is_none() && !self.registry.end(**session, reason) {
                worker.signal(Signal::TERM);
            }
        };
        workers.inspect(ask).count()
    }

    /// Ends those that were asked to long ago: a driver may hold a worker for good.
    pub(super) fn kill_the_late(&self) {
        for (session, worker) in &self.alive {
            let asked = *worker.asked_to_end();
            if asked.is_some_and(|asked| asked.elapsed() > END_LIMIT + CLEAN_UP_LIMIT) {
                tracing::warn!(session, "the worker does not end: killed");
                worker.signal(Signal::KILL);
            }
        }
    }

    /// Numbers and programs of the sessions under a lease.
    pub(super) fn of_lease(&self, lease: &LeaseId) -> Vec<(u64, Identity)> {
        let theirs = self
            .alive
            .iter()
            .filter(|(_, worker)| worker.lease == *lease);
        let mut theirs: Vec<_> = theirs
            .map(|(session, worker)| (*session, worker.identity.clone()))
            .collect();
        theirs.sort_by_key(|(session, _)| *session);
        theirs
    }

    /// Ends every worker.
    pub(super) fn kill(&self) {
        self.alive
            .values()
            .for_each(|worker| worker.signal(Signal::KILL));
    }
}

/// Whom a worker will serve.
fn program(order: &Order) -> Program {
    let identity = order.hello.identity.as_ref();
    let slices = order.lease.slices.iter();
    Program {
        process: identity.map_or(0, |identity| identity.process),
        namespace: identity.map_or_else(String::new, |identity| identity.process_namespace.clone()),
        devices: slices.map(|slice| slice.ordinal).collect(),
        worker: None,
    }
}

/// A worker's whole life, seen from its thread; how it ended.
fn tend(worker: &Worker, session: u64, order: Order, starter: &Starter) -> Ending {
    let begin = Instant::now();
    let client = order.client.clone();
    let process = match begin_process(worker, session, order, starter) {
        Ok(Some(process)) => process,
        Ok(None) => return Ending::Clean,
        Err(error) => {
            tracing::error!(session, client, "cannot start a worker: {error}");
            return Ending::Failed;
        }
    };
    match wait(worker, process) {
        Ok(status) => {
            let seconds = begin.elapsed().as_secs_f64();
            tracing::info!(session, client, seconds, "session over: {}", reason(status));
            match (status.code(), status.signal()) {
                (Some(0), _) => Ending::Clean,
                (Some(_), _) => Ending::Failed,
                _ => Ending::Signal,
            }
        }
        Err(error) => {
            tracing::error!(session, client, "lost sight of the worker: {error}");
            Ending::Unknown
        }
    }
}

/// How a worker ended, in words.
fn reason(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "clean".to_owned(),
        (Some(code), _) => format!("the worker failed with status {code}"),
        (_, Some(signal)) => format!("the worker was ended by signal {signal}"),
        _ => status.to_string(),
    }
}

/// Starts the process; nothing if the daemon is ending.
fn begin_process(
    worker: &Worker,
    session: u64,
    order: Order,
    starter: &Starter,
) -> io::Result<Option<Pid>> {
    let mut state = worker.state();
    if matches!(*state, State::Over) {
        return Ok(None);
    }
    let identity = order.hello.identity.clone().unwrap_or_default();
    // Kept only until the worker is there, to tell the client if it will not be.
    let is_encrypted = order.tls.is_some();
    let spare = match order.socket.try_clone() {
        Ok(spare) => spare,
        Err(error) => {
            drop(state);
            refuse(&order.socket, is_encrypted, &error);
            return Err(error);
        }
    };
    let spawned = command(session, order, Some(starter))
        .and_then(|(mut command, prepared)| Ok((command.spawn()?, prepared)));
    let (child, prepared) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            drop(state);
            refuse(&spare, is_encrypted, &error);
            return Err(error);
        }
    };
    if let Some(prepared) = prepared
        && let Err(error) = starter.adopt(prepared, child.id())
    {
        // It serves all the same; it only cannot be told why it has to end.
        tracing::error!(session, "no connection to the worker: {error}");
    }
    tracing::info!(
        session,
        process = child.id(),
        host = identity.host,
        user = identity.user,
        program = identity.program,
        client_process = identity.process,
        "session begun"
    );
    let process = Pid::from_raw(child.id().cast_signed());
    *state = State::Running(child);
    Ok(process)
}

/// The command that is a worker. It owns our copies of what is passed, so they are closed with it.
fn command(
    session: u64,
    order: Order,
    starter: Option<&Starter>,
) -> io::Result<(Command, Option<Prepared>)> {
    let driver = &order.devices.driver;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("gpu-server")
        .args(["worker", "--session", &session.to_string()])
        .env_remove("LD_PRELOAD")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        // What its client's kernels print travels to the client; the daemon's own output is not theirs to write.
        .stdout(Stdio::null())
        .process_group(0);
    // NVIDIA's driver opens parts of it by name, such as the compiler for PTX. They lie beside it, and the loader may not look there by
    // itself: some images name that folder only in the variable that was just removed.
    if let Some(folder) = driver.parent() {
        command.env("LD_LIBRARY_PATH", folder);
    }
    let driver = driver.to_str().ok_or_else(|| {
        let message = format!("the driver's path '{}' is not UTF-8", driver.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    let mut written = WorkerOrder {
        hello: Some(order.hello),
        version: order.version,
        session,
        driver: driver.to_owned(),
        device_kind: order.devices.kind.into(),
        silence_grace_seconds: order.silence_grace.as_secs(),
        parent: std::process::id(),
        lease: Some(order.lease),
        rdma: Some(order.rdma),
        tls: order.tls,
        sandbox: Some(order.sandbox),
        ..WorkerOrder::default()
    };
    let mut descriptors = order.descriptors;
    let prepare = |starter: &Starter| {
        let (token, client) = (order.token.as_ref(), &order.client);
        starter.prepare(&mut written, &mut descriptors, token, client, Moment::now())
    };
    let prepared = starter.map(prepare).transpose()?;
    let mappings = crate::order::pass(written, order.socket, descriptors)?;
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    Ok((command, prepared))
}

fn refuse(socket: &OwnedFd, is_encrypted: bool, error: &io::Error) {
    if is_encrypted {
        // The client waits for the worker's handshake: it sees the end of the connection.
        return;
    }
    let message = format!("the server cannot start a worker: {error}");
    let refused = hello::refusal(RefusalCode::Internal, message);
    let mut stream = HandshakeStream::new(socket.as_fd(), Instant::now() + REFUSAL_TIME);
    // A client that does not take it sees the end of the connection instead.
    let _ = hello::write(&mut stream, &HelloReply::from(refused));
}

/// Waits for the process. It is reaped under the lock, so that nobody signals a number that is another's by then.
fn wait(worker: &Worker, process: Pid) -> io::Result<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = rustix::process::waitid(WaitId::Pid(process), options) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    match std::mem::replace(&mut *worker.state(), State::Over) {
        State::Running(mut child) => child.wait(),
        State::Coming | State::Adopted(_) | State::Over => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::net::UnixStream;

    use protocol::hello::{DeviceKind, ProbeReport};

    use super::*;

    #[test]
    fn a_worker_finds_what_lies_beside_its_driver_and_nothing_else() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let devices = Devices {
            driver: "/opt/driver/libcuda.so.1".into(),
            kind: DeviceKind::Nvidia,
            report: ProbeReport::default(),
        };
        let order = Order {
            session: 1,
            socket: socket.into(),
            hello: Hello::default(),
            version: 1,
            client: String::new(),
            devices: Arc::new(devices),
            silence_grace: Duration::ZERO,
            rdma: RdmaOrder::default(),
            token: None,
            tls: None,
            lease_id: LeaseId::from_bytes([1; 10]),
            lease: LeaseOrder::default(),
            descriptors: Descriptors::default(),
            sandbox: SandboxOrder::default(),
        };
        let (command, _) = command(1, order, None).unwrap();
        let value = |name| {
            let mut variables = command.get_envs();
            variables.find_map(|(variable, value)| (variable == name).then_some(value))
        };
        assert_eq!(
            value("LD_LIBRARY_PATH"),
            Some(Some(OsStr::new("/opt/driver")))
        );
        assert_eq!(value("LD_PRELOAD"), Some(None), "removed");
    }
}
