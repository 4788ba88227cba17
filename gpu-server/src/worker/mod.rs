//! The worker: one process that serves one session.
//!
//! What: [`main`] is all that the daemon starts; it gets the client's connection, unread beyond the hello, and
//! the hello itself. Rules: the worker answers the hello (the daemon has not), and from then on the connection is its
//! own: it ends when the client ends, within [`CLEAN_UP_LIMIT`](protocol::limits::CLEAN_UP_LIMIT), by leaving the process: the
//! operating system and the driver give everything back. A client that is only silent (stopped, say) is waited for, its memory held,
//! for as long as the daemon's settings say. A daemon without a state directory dies first only by a crash, and then the kernel
//! ends the worker; one with a state directory is outlived, and the next one is [registered](crate::registry) with. No environment variable of the daemon's loader is set.
//!
//! ```text
//! frames ──> executor ──> schedule: here or on a lane ──> dispatch ──> area (memory, stream, …) ──> driver
//!               │ Bulk ──> transfer ──> staging ───────────────────────────────────────────────────> driver
//!               └─ outbox <── reply                          point of a stream ──> poller ──> outbox, or direct: the RDMA card reads or writes device memory
//! ```

pub(crate) mod array;
pub(crate) mod context;
pub(crate) mod event;
pub(crate) mod launch;
mod linker;
pub(crate) mod memory;
mod mirrors;
pub(crate) mod module;
pub(crate) mod pace;
pub(crate) mod stream;
pub(crate) mod texture;

mod accounts;
mod call;
mod capture;
mod checkpoint;
mod coredump;
mod direct;
mod dispatch;
mod end;
mod executor;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gpu_memory;
mod graph;
mod green;
mod ipc;
mod janitor;
mod occupancy;
mod outbox;
mod output;
mod point;
mod poller;
mod schedule;
mod session;
mod staging;
mod startup;
mod table;
mod tensor_map;
#[cfg(test)]
mod tests;
mod transfer;
mod virtual_memory;
mod watch;
mod words;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use driver_api::Driver;
use protocol::connect::rdma::ServerEnd;
use protocol::connect::secure::Line;
use protocol::hello::{
    self, Accepted, Hello, HelloReply, RELEASE, RefusalCode, Refused, ServerInfo,
    TICKET_PROOF_BYTES, TlsOrder, WorkerOrder,
};
use protocol::limits::{HEARTBEAT_INTERVAL, HELLO_TIMEOUT};
use protocol::transport::rdma::{self, RdmaError};
use protocol::transport::tls::{self, Identity};
use protocol::transport::{Connection, Patience};

use crate::order::{Descriptors, Taken};
use crate::registry;
use crate::sandbox;
use accounts::Accounts;
use direct::Direct;
use direct::reads::Reads;
use end::{End, Reason};
use gpu_memory::{Reach, Unreachable};
use memory::Memory;
use outbox::Outbox;
use output::Output;
use session::{Devices, Session};

pub use coredump::DEFAULT_BYTES as DEFAULT_COREDUMP_BYTES;

/// How long a goodbye may take when the worker ends a session.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// Serves the session to its end, and then leaves the process without running what a driver would run at exit.
#[must_use]
pub fn main(taken: Taken) -> ExitCode {
    leave_on_panic();
    let number = taken.order.session;
    let reason = match begin(taken) {
        Ok(session) => {
            let reason = session.end.wait();
            say_goodbye(&session, &reason);
            registry::say_last_counts();
            reason
        }
        Err(reason) => reason,
    };
    match reason {
        Reason::Goodbye(_) => {
            tracing::info!(session = number, "{reason}");
            leave(0)
        }
        Reason::Lost(_) | Reason::Silent(_) | Reason::Dismissed(_) => {
            tracing::warn!(session = number, "{reason}");
            leave(0)
        }
        Reason::Violation(_) | Reason::Failed(_) => {
            tracing::error!(session = number, "{reason}");
            leave(1)
        }
    }
}

/// Prepares everything, answers the hello, starts the threads.
fn begin(taken: Taken) -> Result<Arc<Session>, Reason> {
    let Taken {
        connection,
        order,
        mut descriptors,
    } = taken;
    let post = registry::Post::take(&order, &mut descriptors)
        .map_err(|error| Reason::Failed(format!("descriptors: {error}")))?;
    let session = order.session;
    let hello = order.hello.clone().unwrap_or_default();
    // SAFETY: the worker has started no thread yet.
    #[expect(unsafe_code, reason = "the environment is set before any thread runs")]
    unsafe {
        startup::set_variables(&hello, order.lease.as_ref());
    }
    let output = Output::replace_standard_output()
        .map_err(|error| Reason::Failed(format!("standard output: {error}")))?;
    let client = watch::Client::of(&connection);
    mirrors::page_map();
    let confined = sandbox::enter(&order);
    let line = line(connection, order.tls.as_ref())?;
    let prepared = confined.and_then(|()| {
        let (driver, devices, accounts, mut accepted) = prepare(&order, &hello, descriptors)?;
        let mut end = offer_rdma(&order, &hello, &line, &mut accepted);
        let mut reach = None;
        if let Some(end) = &mut end {
            let found = find_gpu_memory(&order, driver, &devices, end);
            accepted.rdma_gpu_memory = gpu_memory::describe(&found, end.has_reads());
            accepted.rdma_reads_always = prefers_gpu_memory(&order);
            end.answer(&mut accepted);
            reach = found.ok();
        }
        sandbox::close(&order)?;
        let memory = Memory::new(order.session, accepted.windows.clone(), accounts);
        Ok((accepted, (driver, devices, memory, end, reach)))
    });
    let (reply, prepared) = match prepared {
        Ok((accepted, prepared)) => (HelloReply::from(accepted), Ok(prepared)),
        Err(refused) => {
            let failed = Reason::Failed(refused.message.clone());
            (HelloReply::from(refused), Err(failed))
        }
    };
    let deadline = Instant::now() + HELLO_TIMEOUT;
    let reply = hello::encode(&reply).map_err(|error| Reason::Failed(error.to_string()))?;
    line.write(&reply, deadline)
        .map_err(|error| Reason::Lost(error.to_string()))?;
    let (driver, devices, memory, end, reach) = prepared?;
    let patience = Patience {
        grace: Duration::from_secs(order.silence_grace_seconds),
        told: Arc::new(move |notice| tracing::warn!(session, "the client: {notice}")),
        ..Patience::default()
    };
    let connection = match end {
        Some(end) => end
            .into_connection(line, patience)
            .map_err(|error| Reason::Lost(error.to_string()))?,
        None => line
            .into_connection(patience)
            .map_err(|error| Reason::Failed(format!("the connection: {error}")))?,
    };
    tracing::debug!(session, "frames travel by {}", connection.description);
    let cannot_start = |error| Reason::Failed(format!("cannot start a thread: {error}"));
    let reach = reach.map(|reach| (reach, prefers_gpu_memory(&order)));
    let session = start(driver, devices, connection, memory, output, reach);
    let session = session.map_err(cannot_start)?;
    if let Some(client) = client {
        spawn("watch", &session, move |session| client.watch(session)).map_err(cannot_start)?;
    }
    if let Some(post) = post {
        let (end, tasks) = (Arc::clone(&session.end), Arc::clone(&session));
        let dismiss = move |reason| end.finish(Reason::Dismissed(reason));
        post.start(dismiss, move |task| checkpoint::take_up(&tasks, task))
            .map_err(cannot_start)?;
    }
    Ok(session)
}

/// The client's connection, encrypted if the order says so: the handshake with the key that was made for this session is ours.
fn line(connection: OwnedFd, tls: Option<&TlsOrder>) -> Result<Line, Reason> {
    let Some(tls) = tls else {
        return Ok(Line::Plain(connection));
    };
    let identity = Identity {
        chain: vec![tls.certificate.clone()],
        key: tls.key.clone(),
    };
    let deadline = Instant::now() + HELLO_TIMEOUT;
    let lost = |problem: String| Reason::Lost(format!("the client: {problem}"));
    let socket = tls::accept(connection, &identity, deadline);
    let line = Line::Secure(Box::new(socket.map_err(|error| lost(error.to_string()))?));
    let mut proof = [0; TICKET_PROOF_BYTES];
    line.read(&mut proof, deadline)
        .map_err(|error| lost(error.to_string()))?;
    if is_same(&proof, &tls.proof) {
        Ok(line)
    } else {
        Err(lost(
            "it has a ticket's name, but not the ticket".to_owned(),
        ))
    }
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).map(|(one, other)| one ^ other);
    one.len() == other.len() && differences.fold(0, std::ops::BitOr::bitor) == 0
}

/// Our end of a connection by RDMA, if the client asks for one; the answer tells why there is none.
fn offer_rdma(
    order: &WorkerOrder,
    hello: &Hello,
    line: &Line,
    accepted: &mut Accepted,
) -> Option<ServerEnd> {
    hello.rdma.as_ref()?;
    let end = rdma_settings(order).and_then(|settings| ServerEnd::new(hello, line, &settings));
    match end {
        Ok(end) => Some(end),
        Err(error) => {
            tracing::info!(session = order.session, "no RDMA: {error}");
            accepted.rdma_refusal = error.to_string();
            None
        }
    }
}

/// Whether the card is used for GPU memory without a comparison.
fn prefers_gpu_memory(order: &WorkerOrder) -> bool {
    let rdma = order.rdma.as_ref();
    rdma.is_some_and(|rdma| rdma.prefers_gpu_memory)
}

/// How the bytes of the session's devices come to the RDMA card; where they do not, it reads nothing for them.
#[expect(unsafe_code, reason = "registers device memory that the probe keeps")]
fn find_gpu_memory(
    order: &WorkerOrder,
    driver: &Driver,
    devices: &Devices,
    end: &mut ServerEnd,
) -> Result<Reach, Unreachable> {
    let is_refused = order
        .rdma
        .as_ref()
        .is_some_and(|rdma| rdma.refuses_gpu_memory);
    let found = match devices.count {
        _ if is_refused => Err(Unreachable::NotWanted),
        0 => Err(Unreachable::NoDevice),
        // SAFETY: the probe's memory is there until it ends.
        _ => gpu_memory::probe(driver, 0, |memory| unsafe { end.try_device(memory) }),
    };
    if found.is_err() {
        end.give_up_reads();
    }
    let told = gpu_memory::describe(&found, end.has_reads());
    tracing::info!(session = order.session, "{told}");
    found
}

fn rdma_settings(order: &WorkerOrder) -> Result<rdma::Settings, RdmaError> {
    let order = order.rdma.clone().unwrap_or_default();
    if !order.refusal.is_empty() {
        return Err(RdmaError::NotAllowed(order.refusal));
    }
    let mut settings = rdma::Settings::default();
    if !order.device.is_empty() {
        settings.wanted = rdma::Wanted::parse(&order.device).map_err(RdmaError::NoDevice)?;
    }
    settings.path.traffic_class = u8::try_from(order.traffic_class).unwrap_or(0);
    Ok(settings)
}

fn prepare(
    order: &WorkerOrder,
    hello: &Hello,
    descriptors: Descriptors,
) -> Result<(&'static Driver, Devices, Accounts, Accepted), Refused> {
    hello::check_shape(hello, &driver_api::wire::shape_hash())?;
    let accounts = Accounts::open(order, descriptors.ledger)?;
    let driver = crate::driver::load(Path::new(&order.driver))
        .map_err(|error| hello::refusal(RefusalCode::Internal, error.to_string()))?;
    let pacers = pace::take_seats(order.lease.as_ref(), descriptors.gates)?;
    let found = startup::find(driver, hello, order.lease.as_ref())?;
    accounts.started_with(&found.retained)?;
    let devices = Devices {
        count: i32::try_from(found.devices.len()).unwrap_or(i32::MAX),
        retained: Mutex::new(found.retained),
        pacers,
        coredump_bytes: order
            .sandbox
            .as_ref()
            .map_or(coredump::DEFAULT_BYTES, |sandbox| sandbox.coredump_bytes),
        ..Devices::default()
    };
    let accepted = Accepted {
        version: order.version,
        session: order.session,
        server: Some(ServerInfo {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            version: RELEASE.to_owned(),
            device_kind: order.device_kind,
            driver_version: found.driver_version,
            driver_release: String::new(),
        }),
        devices: found.devices,
        windows: found.windows,
        ..Accepted::default()
    };
    Ok((driver, devices, accounts, accepted))
}

/// Starts the threads of a session.
fn start(
    driver: &'static Driver,
    devices: Devices,
    connection: Connection,
    memory: Memory,
    output: Output,
    reach: Option<(Reach, bool)>,
) -> std::io::Result<Arc<Session>> {
    let end = Arc::new(End::new(connection.interrupt));
    let outbox = Outbox::new(connection.sender, Arc::clone(&end));
    let (jobs, orders) = mpsc::channel();
    let (copies, reached) = mpsc::channel();
    let (parts, offered) = mpsc::channel();
    let direct = reach.map(|(reach, is_always)| {
        let reads = connection.lender.has_reads().then(|| Reads::new(parts));
        Direct::new((connection.lender, reach), is_always, copies, reads)
    });
    let is_direct = direct.is_some();
    let has_reads = direct.as_ref().is_some_and(|direct| direct.reads.is_some());
    let session = Session::new(driver, devices, end, (outbox, direct), memory, output, jobs);
    session.door.prepare();
    let session = Arc::new(session);
    if is_direct {
        spawn("direct", &session, move |session| {
            direct::run(session, &reached)
        })?;
    }
    if has_reads {
        spawn("reads", &session, move |session| {
            direct::reads::run(session, &offered);
        })?;
    }
    spawn("poller", &session, poller::run)?;
    spawn("janitor", &session, move |session| {
        janitor::run(session, &orders);
    })?;
    spawn("ipc", &session, ipc::run)?;
    spawn("pulse", &session, beat)?;
    if session.memory.accounts.are_shared() {
        spawn("recall", &session, accounts::recall)?;
    }
    executor::start(Arc::clone(&session), connection.receiver)?;
    Ok(session)
}

fn spawn(
    name: &str,
    session: &Arc<Session>,
    run: impl FnOnce(&Session) + Send + 'static,
) -> std::io::Result<()> {
    let session = Arc::clone(session);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&session))?;
    Ok(())
}

/// Sends something at least every heartbeat interval, whatever the executors are busy with.
fn beat(session: &Session) {
    let usual = HEARTBEAT_INTERVAL / 4;
    while !session.end.comes_within(session.coredumps.interval(usual)) {
        session.outbox.pulse();
        coredump::look_after(session);
    }
}

/// Tells the client why the worker ends the session, if it will take it soon.
fn say_goodbye(session: &Arc<Session>, reason: &Reason) {
    let text = match reason {
        Reason::Violation(text) | Reason::Failed(text) | Reason::Dismissed(text) => {
            Some(text.clone())
        }
        // Should it be continued one day, it shall read why.
        Reason::Silent(time) => Some(format!(
            "this program was silent for {} s, longer than the server waits",
            time.as_secs()
        )),
        Reason::Goodbye(_) | Reason::Lost(_) => None,
    };
    if let Some(text) = text {
        let (said, wait) = mpsc::channel();
        let spawned = spawn("goodbye", session, move |session| {
            session.outbox.goodbye(&text);
            // Nobody may wait any more.
            let _ = said.send(());
        });
        if spawned.is_ok() {
            let _ = wait.recv_timeout(GOODBYE_TIME);
        }
    }
    session.end.disconnect();
}

/// A thread that panics ends the session: others would wait for it.
fn leave_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        leave(101);
    }));
}

/// Ends the process at once.
#[expect(unsafe_code, reason = "no handler of a driver is to run at exit")]
fn leave(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}
