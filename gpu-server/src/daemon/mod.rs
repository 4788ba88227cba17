//! The daemon: listens, reads hellos, answers snapshots, starts workers.
//!
//! What: one thread runs everything here ([`serve`]); a thread for each worker only starts it and waits for it. Rules:
//! a slow or hostile client costs a bounded amount of memory and nobody's time: hellos are read beside each other, each
//! ends by [`HELLO_TIMEOUT`](protocol::limits::HELLO_TIMEOUT), and where too many are pending the oldest is dropped; the daemon never loads a driver; a
//! session's socket is the worker's alone.
//!
//! ```text
//! accept ──> hello (timed, bounded) ──> SNAPSHOT: answered from the probe
//!   └> TLS ──┘                      └─> SESSION: socket and hello to a new worker ──> ended, logged
//!                                         └─ over TLS: a ticket; socket and ticket to a new worker
//! ```

#[expect(dead_code, reason = "kept by nobody yet")]
mod books;
mod devices;
mod handshake;
mod listener;
#[expect(dead_code, reason = "told and served by nobody yet")]
mod metrics;
mod secure;
mod stream;
mod tickets;
mod usage;
mod workers;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hello::{
    self, Accepted, Hello, HelloReply, Intent, RdmaOrder, RefusalCode, Refused, ServerInfo,
    TlsOrder,
};
use protocol::limits::CLEAN_UP_LIMIT;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::authority::DirectoryError;
use crate::config::{Config, ConfigError};
use crate::order::Descriptors;
use crate::pool::{Caller, TokenId};
use devices::{Devices, DevicesError};
use handshake::{Client, Greeting};
use listener::{ListenError, Listener};
use secure::{Security, Way};
use tickets::{Secret, TicketName, Tickets};
use usage::Usage;
use workers::{Ended, Order, Workers};

/// Most connections whose hello is not complete. Where there are more, the oldest is dropped: an honest client's is
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
    /// What outlives the server.
    #[error(transparent)]
    Books(#[from] books::BooksError),
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
    let listeners = {
        let _entered = runtime.enter();
        listener::bind_all(&config)?
    };
    let devices = devices::find(&config)?;
    runtime.block_on(run(config, listeners, devices, ready))
}

/// What concerns the whole daemon, told to its one thread.
enum Event {
    Accepted(Client),
    Greeted(Greeting),
    WorkerEnded(Ended),
}

async fn run(
    config: Config,
    listeners: Vec<Listener>,
    devices: Devices,
    ready: Option<OwnedFd>,
) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let security = Security::load(config.security.clone())?;
    let (events, mut incoming) = mpsc::channel(MAX_PENDING_HELLOS);
    announce(&listeners, ready)?;
    let devices = Arc::new(devices);
    let accepting: Vec<_> = listeners
        .iter()
        .map(|listener| tokio::spawn(listener.accept_all(events.clone())).abort_handle())
        .collect();
    let mut daemon = Daemon {
        workers: Workers::default(),
        pending: VecDeque::new(),
        events,
        usage: Usage::of(Arc::clone(&devices)),
        devices,
        security,
        tickets: Tickets::default(),
        config,
    };
    loop {
        tokio::select! {
            Some(event) = incoming.recv() => daemon.handle(event),
            _ = look.tick() => daemon.look(),
            _ = hang_up.recv() => daemon.security.reload(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!(sessions = daemon.workers.len(), "ending");
    accepting.iter().for_each(AbortHandle::abort);
    drop(listeners);
    daemon.end(incoming).await;
    Ok(())
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
    workers: Workers,
    pending: VecDeque<AbortHandle>,
    events: mpsc::Sender<Event>,
    devices: Arc<Devices>,
    usage: Usage,
    security: Security,
    tickets: Tickets<Granted>,
    config: Config,
}

/// A session that was granted.
struct Granted {
    hello: Hello,
    version: u32,
    /// By which token.
    token: Option<TokenId>,
    /// How it is encrypted.
    tls: Option<TlsOrder>,
}

impl Daemon {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted(client) => self.greet(client),
            Event::Greeted(Greeting::Hello(client, hello)) => self.admit(client, *hello),
            Event::Greeted(Greeting::Ticket(client, name)) => self.redeem(client, name),
            Event::WorkerEnded(ended) => self.workers.forget(&ended),
        }
    }

    /// Begins to read a client's hello, beside all others.
    fn greet(&mut self, client: Client) {
        self.pending.retain(|pending| !pending.is_finished());
        if self.pending.len() >= MAX_PENDING_HELLOS
            && let Some(oldest) = self.pending.pop_front()
        {
            tracing::warn!("too many connections without a hello: dropping the oldest");
            oldest.abort();
        }
        let events = self.events.clone();
        let tls = self.security.acceptor();
        let task = tokio::spawn(async move {
            if let Some(greeting) = handshake::greet(client, tls).await {
                // It fails only when the daemon is ending.
                let _ = events.send(Event::Greeted(greeting)).await;
            }
        });
        self.pending.push_back(task.abort_handle());
    }

    /// Answers a hello if its client may come.
    fn admit(&mut self, client: Client, mut hello: Hello) {
        let way = Way {
            origin: client.peer().origin,
            is_encrypted: client.is_encrypted(),
        };
        // Nobody beyond here needs it.
        let token = std::mem::take(&mut hello.token);
        match self.security.admit(way, &token) {
            Ok(caller) => self.answer(client, hello, caller),
            Err(refused) => refuse(client, refused),
        }
    }

    fn answer(&mut self, client: Client, hello: Hello, caller: Caller) {
        let sessions = self.workers.len() + self.tickets.len();
        let reply = match decide(&hello, &self.devices, sessions, &self.config) {
            Ok(Decision::Session(version)) => {
                return self.grant(
                    client,
                    Granted {
                        hello,
                        version,
                        token: caller.token_id,
                        tls: None,
                    },
                );
            }
            Ok(Decision::Snapshot(accepted)) if hello.with_usage => {
                return self.answer_with_usage(client, &hello, *accepted);
            }
            Ok(Decision::Snapshot(accepted)) => HelloReply::from(*accepted),
            Err(refused) => return refuse(client, refused),
        };
        tokio::spawn(handshake::reply(client, reply));
    }

    /// Lets a session begin: on this connection, or by a ticket where it is encrypted, since what TLS knows cannot be handed over.
    fn grant(&mut self, client: Client, mut granted: Granted) {
        if !client.is_encrypted() {
            return self.start_worker(client, granted);
        }
        let made = Secret::random()
            .map_err(|error| error.to_string())
            .and_then(|secret| Ok((secret.name, secure::session_key(&secret)?)));
        let (name, (ticket, order)) = match made {
            Ok(made) => made,
            Err(error) => {
                let message = format!("the server cannot make a key: {error}");
                return refuse(client, hello::refusal(RefusalCode::Internal, message));
            }
        };
        granted.tls = Some(order);
        if self.tickets.keep(name, granted, Instant::now()).is_err() {
            let message = "too many sessions begin at this moment; try again";
            return refuse(client, hello::refusal(RefusalCode::Busy, message));
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

    /// Ends what a revoked token had, and forgets tickets that nobody came for.
    fn look(&mut self) {
        for token in self.security.newly_revoked() {
            self.tickets
                .withdraw(|granted| granted.token.as_ref() == Some(&token));
            let sessions = self.workers.end_those_of(&token);
            tracing::warn!(%token, sessions, "the token was revoked");
        }
        for granted in self.tickets.expire(Instant::now()) {
            let identity = granted.hello.identity.unwrap_or_default();
            tracing::warn!(
                host = identity.host,
                program = identity.program,
                "nobody came for a session that was granted"
            );
        }
    }

    /// Answers with the devices and how they are used, as soon as that is known.
    fn answer_with_usage(&self, client: Client, hello: &Hello, mut accepted: Accepted) {
        let report = self.usage.ask();
        let programs = self.workers.programs();
        let identity = hello.identity.as_ref();
        let namespace =
            identity.map_or_else(String::new, |identity| identity.process_namespace.clone());
        tokio::spawn(async move {
            let report = report.await;
            usage::describe(&mut accepted, report.as_deref(), &programs, &namespace);
            handshake::reply(client, accepted.into()).await;
        });
    }

    fn start_worker(&mut self, client: Client, granted: Granted) {
        let name = client.name().to_owned();
        let socket = match client.into_socket() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(client = name, "lost: {error}"),
        };
        self.workers.start(
            Order {
                socket,
                hello: granted.hello,
                version: granted.version,
                client: name,
                devices: Arc::clone(&self.devices),
                silence_grace: self.config.silence_grace,
                rdma: rdma_order(&self.config.rdma),
                token: granted.token,
                tls: granted.tls,
                lease: None,
                descriptors: Descriptors::default(),
            },
            self.events.clone(),
        );
    }

    /// Ends every worker: asked first, made to after the time that cleaning up may take.
    async fn end(mut self, mut incoming: mpsc::Receiver<Event>) {
        self.workers.ask_to_end();
        let all_ended = async {
            while self.workers.len() > 0
                && let Some(event) = incoming.recv().await
            {
                if let Event::WorkerEnded(ended) = event {
                    self.workers.forget(&ended);
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
fn refuse(client: Client, refused: Refused) {
    tracing::warn!(client = client.name(), "refused: {}", refused.message);
    tokio::spawn(handshake::reply(client, refused.into()));
}

/// What a worker has to know of RDMA.
fn rdma_order(rdma: &crate::config::Rdma) -> RdmaOrder {
    RdmaOrder {
        refusal: rdma.refusal.unwrap_or_default().to_owned(),
        device: rdma.device.clone().unwrap_or_default(),
        traffic_class: rdma.traffic_class.into(),
    }
}

/// What becomes of a hello.
#[derive(Debug, PartialEq)]
enum Decision {
    Session(u32),
    Snapshot(Box<Accepted>),
}

fn decide(
    hello: &Hello,
    devices: &Devices,
    sessions: usize,
    config: &Config,
) -> Result<Decision, Refused> {
    let version = hello::choose_version(hello)?;
    if hello.intent() == Intent::Snapshot {
        return Ok(Decision::Snapshot(Box::new(Accepted {
            version,
            session: 0,
            server: Some(server_info(devices)),
            devices: devices.report.devices.clone(),
            ..Accepted::default()
        })));
    }
    let request = hello.devices.unwrap_or_default();
    if request.memory_fraction != 0.0
        || request.compute_fraction != 0.0
        || request.memory_bytes != 0
    {
        let message = "this server gives whole devices only, not parts of them";
        return Err(hello::refusal(RefusalCode::Unsupported, message));
    }
    if !hello.lease.is_empty() {
        let message = "this server gives no leases: leave the lease away";
        return Err(hello::refusal(RefusalCode::Unsupported, message));
    }
    let (wanted, present) = (hello.device_count(), devices.report.devices.len());
    if wanted as usize > present {
        let message = format!("{wanted} devices were asked for, this server has {present}");
        return Err(hello::refusal(RefusalCode::NoDevice, message));
    }
    if sessions >= config.max_sessions {
        let message = format!("all {sessions} sessions of this server are taken");
        return Err(hello::refusal(RefusalCode::Busy, message));
    }
    Ok(Decision::Session(version))
}

/// Who we are, for the client.
fn server_info(devices: &Devices) -> ServerInfo {
    ServerInfo {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        version: hello::RELEASE.to_owned(),
        device_kind: devices.kind.into(),
        driver_version: devices.report.driver_version,
        driver_release: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::hello::{DeviceKind, DeviceRequest, DeviceSnapshot, ProbeReport};

    fn devices(count: usize) -> Devices {
        Devices {
            driver: "/driver".into(),
            kind: DeviceKind::Software,
            report: ProbeReport {
                driver_version: 13000,
                devices: vec![DeviceSnapshot::default(); count],
                ..ProbeReport::default()
            },
        }
    }

    fn refusal_of(hello: &Hello, sessions: usize) -> RefusalCode {
        let config = crate::config::load(&crate::config::Flags::default()).expect("defaults");
        let result = decide(hello, &devices(2), sessions, &config);
        result.expect_err("a refusal").code()
    }

    #[test]
    fn a_snapshot_lists_all_devices() {
        let config = crate::config::load(&crate::config::Flags::default()).expect("defaults");
        let hello = Hello::new(Intent::Snapshot);
        match decide(&hello, &devices(3), usize::MAX, &config) {
            Ok(Decision::Snapshot(accepted)) => {
                assert_eq!(accepted.devices.len(), 3);
                let server = accepted.server.expect("a server");
                assert_eq!(server.device_kind(), DeviceKind::Software);
                assert_eq!(server.driver_version, 13000);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sessions_are_refused_with_a_reason() {
        let asking = |count, memory_fraction| Hello {
            devices: Some(DeviceRequest {
                count,
                memory_fraction,
                ..DeviceRequest::default()
            }),
            ..Hello::new(Intent::Session)
        };
        assert_eq!(refusal_of(&asking(3, 0.0), 0), RefusalCode::NoDevice);
        assert_eq!(refusal_of(&asking(1, 0.5), 0), RefusalCode::Unsupported);
        assert_eq!(refusal_of(&asking(2, 0.0), 256), RefusalCode::Busy);
        let mut bytes = asking(1, 0.0);
        if let Some(request) = &mut bytes.devices {
            request.memory_bytes = 1 << 30;
        }
        assert_eq!(refusal_of(&bytes, 0), RefusalCode::Unsupported);
        let leased = Hello {
            lease: "l-aaaaaaaaaaaaaaaa".to_owned(),
            ..asking(1, 0.0)
        };
        assert_eq!(refusal_of(&leased, 0), RefusalCode::Unsupported);
        let newer = Hello {
            oldest_version: 99,
            newest_version: 99,
            ..Hello::new(Intent::Session)
        };
        assert_eq!(refusal_of(&newer, 0), RefusalCode::Version);
    }
}
