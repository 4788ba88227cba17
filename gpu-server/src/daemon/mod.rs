//! The daemon: listens, reads hellos, answers snapshots, starts workers.
//!
//! What: one thread runs everything here ([`serve`]); a thread for each worker only starts it and waits for it. Rules:
//! a slow or hostile client costs a bounded amount of memory and nobody's time: hellos are read beside each other, each
//! ends by [`HELLO_TIMEOUT`](protocol::limits::HELLO_TIMEOUT), and where too many are pending the oldest is dropped; the daemon never loads a driver; a
//! session's socket is the worker's alone.
//!
//! ```text
//! accept ──> hello (timed, bounded) ──> SNAPSHOT: answered from the probe
//!   │        │                      ├─> CHECKPOINT: an order to the session of a process, and its answer
//!   ├> TLS ──┘                      └─> SESSION: a lease ──> socket and hello to a new worker ──> ended, logged
//!   │                                     ├─ not yet: waits, told where it stands
//!   │                                     └─ over TLS: a ticket; socket and ticket to a new worker
//!   └> HTTP/2 ──> the pool's service: leases, listing, drain
//! ```

mod answers;
mod books;
mod checkpoint;
mod devices;
mod handshake;
mod leases;
mod listener;
mod metrics;
mod pending;
mod secure;
mod service;
mod stream;
mod tickets;
mod usage;
mod waiting;
mod workers;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hello::{
    self, Hello, HelloReply, Intent, RdmaOrder, RefusalCode, Refused, SandboxOrder, TlsOrder,
};
use protocol::limits::CLEAN_UP_LIMIT;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::authority::DirectoryError;
use crate::config::{Config, ConfigError};
use crate::gate::GateError;
use crate::pool::store::NotStored;
use crate::pool::{Caller, Lease, LeaseId, Moment, RequestId, Tenant, TokenId};
use crate::registry::{self, Registered, Registry};
use crate::sandbox::{Sandbox, SandboxError};
use books::{Books, BooksError, Opened};
use devices::{Devices, DevicesError};
use handshake::{Client, Greeting};
use leases::Leases;
use listener::{ListenError, Listener};
use metrics::Ending;
use pending::Pending;
use secure::{Security, Way};
use service::{Connections, Deed};
use tickets::{Secret, TicketName, Tickets};
use usage::Usage;
use workers::{Ended, Order, Workers};

/// Most connections whose hello is not complete. Where there are more, the oldest of who has most is dropped: an honest client's is
/// complete within milliseconds.
const MAX_PENDING_HELLOS: usize = 64;

/// How often is looked for revoked tokens and for tickets that nobody came for.
const LOOK: Duration = Duration::from_millis(250);

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No device.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// The authority, or the certificate.
    #[error(transparent)]
    Authority(#[from] DirectoryError),
    /// The gates of the devices.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The books.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// What confines workers.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The operating system.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves until a signal says to end. `ready` gets the line `ready` once every listener listens.
///
/// # Errors
/// The daemon could not begin. Nothing ends it later but a signal.
pub fn serve(config: Config, ready: Option<OwnedFd>) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (hang_up, listeners) = {
        let _entered = runtime.enter();
        // Before anything that takes time: it would end us, and whoever watches over us would take that for wanted.
        let hang_up = signal(SignalKind::hangup())?;
        (hang_up, listener::bind_all(&config)?)
    };
    let devices = devices::find(&config)?;
    runtime.block_on(run(config, hang_up, listeners, devices, ready))
}

/// What concerns the whole daemon, told to its one thread.
enum Event {
    Accepted(Client),
    Greeted(Greeting),
    WorkerEnded(Ended),
    /// A session that has waited for its lease may begin.
    Granted(Client, Box<Granted>),
    /// A session may begin, and its client has just gone.
    NobodyCame(Box<Granted>),
    /// A client that waited is gone.
    Withdrawn(RequestId),
    /// A stream of the service was left by its client.
    StreamLeft(u64),
    /// A lease was stored, or not.
    Stored(RequestId, Box<Lease>, Result<(), NotStored>),
    /// The service asks for something.
    Asked(Deed),
}

async fn run(
    config: Config,
    mut hang_up: Signal,
    listeners: Vec<Listener>,
    devices: Devices,
    ready: Option<OwnedFd>,
) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let security = Security::load(config.security.clone())?;
    let (events, mut incoming) = mpsc::channel(MAX_PENDING_HELLOS);
    let devices = Arc::new(devices);
    let has_rdma = config.rdma.refusal.is_none() && protocol::transport::rdma::is_present();
    let Opened {
        books,
        leases,
        drain,
        registry,
    } = Books::open(&config, Moment::now())?;
    let (told, mut registered) = mpsc::channel(MAX_PENDING_HELLOS);
    let registry = match registry {
        Some((directory, key)) => {
            let peers = registry::Peers {
                workers: config.sandbox.worker_uids.clone(),
                ..registry::Peers::own()
            };
            Registry::open(&directory, key, peers, told)?
        }
        None => Registry::private(told),
    };
    let mut daemon = Daemon {
        leases: Leases::new(&config.pool, &devices, has_rdma)?,
        books,
        sandbox: Sandbox::begin(&config.sandbox, &devices.driver, devices.kind)?,
        has_rdma,
        connections: Connections::default(),
        workers: Workers::new(registry),
        pending: Pending::new(MAX_PENDING_HELLOS),
        events,
        usage: Usage::of(Arc::clone(&devices)),
        devices,
        security,
        tickets: Tickets::default(),
        shown: None,
        config,
    };
    // Nobody can hold a lease again before clients are accepted.
    let restored = Moment::now() + registry::GATHER_LIMIT;
    let scheduler = &mut daemon.leases.scheduler;
    let decisions = scheduler.restore(leases, drain, restored);
    daemon.apply(decisions);
    // A private server is for one run, and what filters ask of drivers is not worth a process there.
    if !daemon.config.is_private {
        daemon.learn_driver_release().await;
    }
    announce(&listeners, ready)?;
    let mut accepting = Vec::new();
    loop {
        tokio::select! {
            Some(event) = incoming.recv() => daemon.handle(event),
            Some(event) = registered.recv() => match event {
                // Before, somebody new could be given what a program of before still has.
                registry::Event::Gathered => accepting = accept_all(&listeners, &daemon.events),
                event => daemon.hear(event),
            },
            _ = look.tick() => daemon.look(),
            _ = hang_up.recv() => {
                daemon.security.reload();
                daemon.books.reopen();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!(sessions = daemon.workers.len(), "ending");
    accepting.iter().for_each(AbortHandle::abort);
    drop(listeners);
    // Nobody reads what workers tell any more, and what tells it must not wait for that.
    drop(registered);
    daemon.end(incoming).await;
    Ok(())
}

/// Begins to accept.
fn accept_all(listeners: &[Listener], events: &mpsc::Sender<Event>) -> Vec<AbortHandle> {
    let accept = |listener: &Listener| {
        let accepting = listener.accept_all(events.clone());
        tokio::spawn(accepting).abort_handle()
    };
    listeners.iter().map(accept).collect()
}

/// Says where we listen, for people and for programs that wait for it.
fn announce(listeners: &[Listener], ready: Option<OwnedFd>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for listener in listeners {
        writeln!(output, "listening on {}", listener.address())?;
    }
    output.flush()?;
    match ready {
        Some(ready) => std::fs::File::from(ready).write_all(b"ready\n"),
        None => Ok(()),
    }
}

struct Daemon {
    leases: Leases,
    books: Books,
    sandbox: Sandbox,
    /// Whether clients can have their frames travel by RDMA.
    has_rdma: bool,
    /// Of the service.
    connections: Connections,
    workers: Workers,
    pending: Pending<AbortHandle>,
    events: mpsc::Sender<Event>,
    devices: Arc<Devices>,
    usage: Usage,
    security: Security,
    tickets: Tickets<Granted>,
    /// When the devices' figures were brought up to date.
    shown: Option<Instant>,
    config: Config,
}

/// A session that is granted, or will be.
struct Granted {
    hello: Hello,
    version: u32,
    /// Under which lease; while it waits for one, the one that it will have.
    lease: LeaseId,
    /// By which token.
    token: Option<TokenId>,
    /// How it is encrypted.
    tls: Option<TlsOrder>,
}

impl Daemon {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted(client) => self.greet(client),
            Event::Greeted(greeting) if self.is_of_worker(&greeting) => {
                tracing::error!("a worker has connected as a client: dropped");
            }
            Event::Greeted(Greeting::Hello(client, hello)) => self.admit(client, *hello),
            Event::Greeted(Greeting::Ticket(client, name)) => self.redeem(client, name),
            Event::Greeted(Greeting::Service(client)) => {
                let (events, connections) = (self.events.clone(), self.connections.clone());
                tokio::spawn(service::serve(client, events, connections));
            }
            Event::WorkerEnded(ended) => self.session_over(ended.session, ended.ending),
            Event::Granted(client, granted) => self.granted_late(client, *granted),
            Event::NobodyCame(granted) => self.end_session(&granted.lease),
            Event::Withdrawn(request) => self.withdraw(request),
            Event::StreamLeft(stream) => self.leave(stream),
            Event::Stored(request, lease, stored) => self.stored(request, &lease, stored),
            Event::Asked(deed) => deed(self),
        }
    }

    /// Whether one of our own workers greets us, which may be its client's by now: as a process of our user it would be an operator.
    fn is_of_worker(&self, greeting: &Greeting) -> bool {
        let (Greeting::Hello(client, _) | Greeting::Ticket(client, _) | Greeting::Service(client)) =
            greeting;
        let process = client.peer().process;
        process.is_some_and(|process| self.workers.has_process(process))
    }

    /// What the registry tells of workers.
    fn hear(&mut self, event: registry::Event) {
        match event {
            registry::Event::Registered(registered) => self.resume(*registered),
            // Whoever accepts clients hears it.
            registry::Event::Gathered => {}
            registry::Event::Counts { tenant, counts, .. } => {
                self.books.counts(tenant.as_ref(), counts);
            }
            // How one of our own has ended is told by who has started it.
            registry::Event::Gone { is_child: true, .. } => {}
            registry::Event::Gone { session, .. } => {
                tracing::info!(session, "session of before the restart over");
                self.session_over(session, Ending::Unknown);
            }
        }
    }

    /// A worker of before a restart is there.
    fn resume(&mut self, registered: Registered) {
        let Registered {
            facts,
            descriptors,
            process,
            answer,
            ..
        } = registered;
        let session = facts.session;
        let Some(lease) = facts.lease.clone() else {
            return answer.end("it has no lease");
        };
        match self.leases.resume(&lease, &facts, descriptors) {
            Ok(devices) => {
                tracing::info!(session, process, %lease, program = facts.holder.program, "session goes on after the restart");
                self.workers.adopt(&facts, lease, devices, process);
                self.sandbox.bound_again(session);
                self.books.session_resumed();
                answer.accept();
            }
            Err(error) => {
                tracing::warn!(session, process, %lease, "session ends after the restart: {error}");
                answer.end(error.to_string());
            }
        }
    }

    /// A session's process has ended.
    fn session_over(&mut self, session: u64, ending: Ending) {
        self.sandbox.forget(session);
        if let Some(lease) = self.workers.forget(session) {
            self.books
                .session_ended(session, Some(&lease), ending, Moment::now());
            self.end_session(&lease);
        }
    }

    /// Says no to a client.
    fn refuse(&self, client: Client, refused: Refused) {
        self.books.metrics().hello_refused(refused.code());
        say_no(client, refused);
    }

    /// Who makes a call of the service.
    fn admit_caller(&self, way: Way, token: &str, client: &str) -> Result<Caller, Refused> {
        self.security.admit(way, token).inspect_err(|refused| {
            self.books.metrics().hello_refused(refused.code());
            let now = Moment::now();
            if self.books.client_refused(client, &refused.message, now) {
                tracing::warn!(client, "refused: {}", refused.message);
            }
        })
    }

    /// Begins to read a client's hello, beside all others.
    fn greet(&mut self, client: Client) {
        let source = client.peer().source;
        let events = self.events.clone();
        let tls = self.security.acceptor();
        let task = tokio::spawn(async move {
            if let Some(greeting) = handshake::greet(client, tls).await {
                // It fails only when the daemon is ending.
                let _ = events.send(Event::Greeted(greeting)).await;
            }
        });
        let dropped = self
            .pending
            .add(source, task.abort_handle(), Instant::now());
        if let Some(dropped) = dropped {
            tracing::warn!(
                dropped,
                "too many connections without a hello: dropping the oldest of who has most"
            );
        }
    }

    /// Answers a hello if its client may come.
    fn admit(&mut self, client: Client, mut hello: Hello) {
        let way = Way {
            origin: client.peer().origin,
            is_encrypted: client.is_encrypted(),
        };
        // Nobody beyond here needs it.
        let token = std::mem::take(&mut hello.token);
        let name = client.name().to_owned();
        self.books.metrics().hello(client.age());
        match self.admit_caller(way, &token, &name) {
            Ok(caller) => self.answer(client, hello, caller),
            // It is in the log already.
            Err(refused) => drop(tokio::spawn(handshake::reply(client, refused.into()))),
        }
    }

    fn answer(&mut self, client: Client, hello: Hello, caller: Caller) {
        let version = match hello::choose_version(&hello) {
            Ok(version) => version,
            Err(refused) => return self.refuse(client, refused),
        };
        if hello.intent() == Intent::Snapshot {
            return self.answer_snapshot(client, &hello, version, &caller);
        }
        if hello.intent() == Intent::Checkpoint {
            return self.answer_checkpoint(client, hello, version, &caller);
        }
        if let Err(refused) = self.has_room() {
            return self.refuse(client, refused);
        }
        let lease = match LeaseId::random() {
            Ok(lease) => lease,
            Err(error) => {
                let message = format!("the server has no random numbers: {error}");
                return self.refuse(client, hello::refusal(RefusalCode::Internal, message));
            }
        };
        let granted = Granted {
            hello,
            version,
            lease,
            token: caller.token_id.clone(),
            tls: None,
        };
        self.begin(client, granted, caller);
    }

    /// Whether one more session may begin.
    fn has_room(&self) -> Result<(), Refused> {
        let sessions = self.workers.len() + self.tickets.len();
        if sessions < self.config.max_sessions {
            return Ok(());
        }
        let message = format!("all {sessions} sessions of this server are taken");
        Err(hello::refusal(RefusalCode::Busy, message))
    }

    /// Lets a session begin that has waited for its lease: there may be no room any more.
    fn granted_late(&mut self, client: Client, granted: Granted) {
        match self.has_room() {
            Ok(()) => self.grant(client, granted),
            Err(refused) => {
                self.refuse(client, refused);
                self.end_session(&granted.lease);
            }
        }
    }

    /// Lets a session begin, which counts already: on this connection, or by a ticket where it is encrypted, since what TLS knows cannot be
    /// handed over.
    fn grant(&mut self, client: Client, mut granted: Granted) {
        if !client.is_encrypted() {
            return self.start_worker(client, granted);
        }
        let lease = granted.lease.clone();
        let made = Secret::random()
            .map_err(|error| error.to_string())
            .and_then(|secret| Ok((secret.name, secure::session_key(&secret)?)));
        let (name, (ticket, order)) = match made {
            Ok(made) => made,
            Err(error) => {
                let message = format!("the server cannot make a key: {error}");
                self.refuse(client, hello::refusal(RefusalCode::Internal, message));
                return self.end_session(&lease);
            }
        };
        granted.tls = Some(order);
        let tenant = self.leases.scheduler.lease(&lease);
        let tenant = tenant.map_or_else(Tenant::local, |lease| lease.tenant.clone());
        let kept = self.tickets.keep(name, &tenant, granted, Instant::now());
        if kept.is_err() {
            let message = "too many sessions begin at this moment; try again";
            self.refuse(client, hello::refusal(RefusalCode::Busy, message));
            return self.end_session(&lease);
        }
        let answer = Some(hello::Answer::Ticket(ticket));
        tokio::spawn(handshake::reply(client, HelloReply { answer }));
    }

    /// Begins the session that a ticket is for.
    fn redeem(&mut self, client: Client, name: TicketName) {
        match self.tickets.redeem(name, Instant::now()) {
            Some(granted) => self.start_worker(client, granted),
            // The rest of it is TLS, so there is nothing that it would understand.
            None => tracing::warn!(
                client = client.name(),
                "refused: a ticket that is unknown, used or too old"
            ),
        }
    }

    /// Ends what a revoked token had, forgets tickets that nobody came for, and does what time brings to leases.
    fn look(&mut self) {
        for token in self.security.newly_revoked() {
            let unused = self
                .tickets
                .withdraw(|granted| granted.token.as_ref() == Some(&token));
            for granted in unused {
                self.end_session(&granted.lease);
            }
            self.books.token_revoked(&token, Moment::now());
            let decisions = self.leases.scheduler.revoke_token(&token, Moment::now());
            self.apply(decisions);
            let sessions = self.workers.end_those_of(&token);
            tracing::warn!(%token, sessions, "the token was revoked");
        }
        for granted in self.tickets.expire(Instant::now()) {
            self.end_session(&granted.lease);
            let identity = granted.hello.identity.unwrap_or_default();
            tracing::warn!(
                host = identity.host,
                program = identity.program,
                "nobody came for a session that was granted"
            );
        }
        self.workers.kill_the_late();
        self.look_at_leases();
        self.show_devices();
    }

    /// Learns the release of the driver, which only the management library tells.
    async fn learn_driver_release(&mut self) {
        let Some(report) = self.usage.ask().await else {
            return;
        };
        let decisions = self
            .leases
            .set_driver_release(report.driver_release.clone());
        self.apply(decisions);
    }

    /// How the devices are used, for the figures, where anybody can see them.
    fn show_devices(&mut self) {
        const EVERY: Duration = Duration::from_secs(5);
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= EVERY);
        if self.config.metrics.is_none() || !is_due {
            return;
        }
        self.shown = Some(Instant::now());
        let (report, metrics) = (self.usage.ask(), self.books.metrics().clone());
        tokio::spawn(async move {
            if let Some(report) = report.await {
                metrics.devices(&report);
            }
        });
    }

    fn start_worker(&mut self, client: Client, granted: Granted) {
        let name = client.name().to_owned();
        let lease_id = granted.lease.clone();
        let (lease, descriptors) = match self.leases.order(&lease_id) {
            Ok(order) => order,
            Err(error) => {
                let message = format!("the server cannot start a worker: {error}");
                refuse_granted(client, &granted, message);
                return self.end_session(&lease_id);
            }
        };
        let session = self.books.session_number();
        let sandbox = match self.confine(&lease_id, session) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                tracing::error!(session, "{error}");
                let message = "the server cannot confine a worker as its settings say".to_owned();
                refuse_granted(client, &granted, message);
                return self.end_session(&lease_id);
            }
        };
        let socket = match client.into_socket() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(client = name, "lost: {error}");
                self.sandbox.forget(session);
                return self.end_session(&lease_id);
            }
        };
        if let Some(lease) = self.leases.scheduler.lease(&lease_id) {
            let holder = service::holder(granted.hello.identity.as_ref());
            self.books
                .session_began(session, lease, &holder, Moment::now());
        }
        let is_started = self.workers.start(
            Order {
                session,
                socket,
                lease_id: lease_id.clone(),
                hello: granted.hello,
                version: granted.version,
                client: name,
                devices: Arc::clone(&self.devices),
                silence_grace: self.config.silence_grace,
                rdma: rdma_order(&self.config.rdma),
                token: granted.token,
                tls: granted.tls,
                lease,
                descriptors,
                sandbox,
            },
            self.events.clone(),
        );
        if !is_started {
            self.sandbox.forget(session);
            self.end_session(&lease_id);
        }
    }

    /// What a worker of a lease gives up.
    fn confine(&mut self, lease: &LeaseId, session: u64) -> Result<SandboxOrder, SandboxError> {
        let tenant = self.leases.scheduler.lease(lease);
        let tenant = tenant.map_or_else(Tenant::local, |lease| lease.tenant.clone());
        self.sandbox.order(&tenant, session)
    }

    /// Ends every worker, unless they wait for the next daemon: asked first, made to after the time that cleaning up may take.
    async fn end(mut self, mut incoming: mpsc::Receiver<Event>) {
        if self.workers.outlive_us() {
            let sessions = self.workers.len();
            tracing::info!(sessions, "the sessions go on, and wait for the next server");
            self.sandbox.give_back();
            return self.books.end(Moment::now());
        }
        self.workers.ask_to_end();
        let all_ended = async {
            while self.workers.len() > 0
                && let Some(event) = incoming.recv().await
            {
                if let Event::WorkerEnded(ended) = event {
                    self.workers.forget(ended.session);
                }
            }
        };
        if tokio::time::timeout(CLEAN_UP_LIMIT, all_ended)
            .await
            .is_err()
        {
            self.workers.kill();
        }
    }
}

/// Says no, to the client and to the log.
fn say_no(client: Client, refused: Refused) {
    tracing::warn!(client = client.name(), "refused: {}", refused.message);
    tokio::spawn(handshake::reply(client, refused.into()));
}

/// Says no to the client of a session that was granted. One with a ticket waits for the worker's handshake, and sees the end of the connection.
fn refuse_granted(client: Client, granted: &Granted, message: String) {
    match granted.tls {
        None => say_no(client, hello::refusal(RefusalCode::Internal, message)),
        Some(_) => tracing::warn!(client = client.name(), "refused: {message}"),
    }
}

/// What a worker has to know of RDMA.
fn rdma_order(rdma: &crate::config::Rdma) -> RdmaOrder {
    RdmaOrder {
        refusal: rdma.refusal.unwrap_or_default().to_owned(),
        device: rdma.device.clone().unwrap_or_default(),
        traffic_class: rdma.traffic_class.into(),
        refuses_gpu_memory: rdma.refuses_gpu_memory,
        prefers_gpu_memory: rdma.prefers_gpu_memory,
    }
}
