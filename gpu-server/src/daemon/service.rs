//! The pool's service: gRPC on the port of the hello.
//!
//! What: each connection that begins with HTTP/2, or agrees on it in its TLS handshake, is served by a task of its own ([`serve`]); a call is
//! understood here, asked of the daemon's one thread, and answered. Who calls is decided for each call, by the same rules as for a hello
//! ([`super::secure`]). Rules: nothing is believed before that; a connection on which nobody was let in for [`HELLO_TIMEOUT`] ends; messages,
//! streams and connections are bounded; a stream that its client has left is told to the daemon, however it was left.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use control_plane::pool_server::{Pool, PoolServer};
use control_plane::{
    AcquireEvent, AcquireRequest, DrainReply, DrainRequest, HealthReply, HealthRequest,
    HoldRequest, Lease, LeasesReply, LeasesRequest, ListReply, ListRequest, ReleaseReply,
    ReleaseRequest, RenewRequest, StatsReply, StatsRequest, UsageReply, UsageRequest,
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use protocol::hello::{Hello, Intent, RefusalCode, Refused};
use protocol::limits::{HELLO_TIMEOUT, MAX_STRING_BYTES};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tonic::codegen::tokio_stream::Stream as Streaming;
use tonic::{Request, Response, Status};

use super::handshake::Client;
use super::secure::Way;
use super::stream::Stream;
use super::{Daemon, Event};
use crate::pool::{Caller, Drain, Holder, LeaseError, LeaseId, Moment, Need, Refusal};

/// Most bytes of one request.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Most bytes of the headers of one request: a token and little else.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Most calls at a time on one connection.
const MAX_CALLS: u32 = 64;

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 1024;

/// How often a silent client is asked whether it is there, and how long it may take to answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));

/// Events of one stream that its client has not taken yet; who takes nothing is gone.
const MAX_EVENTS: usize = 64;

/// How many connections there are.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<AtomicUsize>);

/// One of them.
struct Taken(Arc<AtomicUsize>);

impl Connections {
    fn take(&self) -> Option<Taken> {
        let taken = Taken(Arc::clone(&self.0));
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        (before < MAX_CONNECTIONS).then_some(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(client: Client, events: mpsc::Sender<Event>, connections: Connections) {
    let name = client.name().to_owned();
    let Some(_taken) = connections.take() else {
        return tracing::warn!(
            client = name,
            "refused: too many connections to the service"
        );
    };
    let is_admitted = Arc::new(AtomicBool::new(false));
    let service = Service {
        way: Way {
            origin: client.peer().origin,
            is_encrypted: client.is_encrypted(),
        },
        client: name.clone(),
        is_admitted: Arc::clone(&is_admitted),
        events,
    };
    let server = PoolServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX);
    let stream = Guarded {
        stream: client.into_stream(),
        is_admitted,
        deadline: Box::pin(tokio::time::sleep(HELLO_TIMEOUT)),
    };
    let (interval, patience) = KEEP_ALIVE;
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(interval)
        .keep_alive_timeout(patience)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(server))
        .await;
    if let Err(error) = served {
        tracing::debug!(client = name, "the service's connection: {error}");
    }
}

/// A connection that ends if nobody was let in on it in time.
struct Guarded {
    stream: Stream,
    is_admitted: Arc<AtomicBool>,
    deadline: Pin<Box<Sleep>>,
}

impl Guarded {
    fn is_too_late(&mut self, context: &mut Context<'_>) -> bool {
        !self.is_admitted.load(Ordering::Relaxed) && self.deadline.as_mut().poll(context).is_ready()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_too_late(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The service of one connection.
#[derive(Clone)]
struct Service {
    way: Way,
    client: String,
    is_admitted: Arc<AtomicBool>,
    events: mpsc::Sender<Event>,
}

/// Something that the daemon's one thread is asked to do.
pub(super) type Deed = Box<dyn FnOnce(&mut Daemon) + Send>;

impl Service {
    /// Has the daemon do something.
    async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Daemon) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let ending = || Status::unavailable("the server is ending");
        let (answer, heard) = oneshot::channel();
        let deed: Deed = Box::new(move |daemon| {
            // Who asked may be gone.
            let _ = answer.send(act(daemon));
        });
        let sent = self.events.send(Event::Asked(deed)).await;
        sent.map_err(|_| ending())?;
        heard.await.map_err(|_| ending())
    }

    /// Has the daemon do something for whom it lets in.
    async fn admitted<R, T: Send + 'static>(
        &self,
        request: &Request<R>,
        act: impl FnOnce(&mut Daemon, Caller) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let token = bearer(request)?.to_owned();
        let (way, client) = (self.way, self.client.clone());
        let is_admitted = Arc::clone(&self.is_admitted);
        let answer = self.ask(move |daemon| {
            let caller = daemon.admit_caller(way, &token, &client);
            let caller = caller.map_err(|refused| status(&refused))?;
            is_admitted.store(true, Ordering::Relaxed);
            act(daemon, caller)
        });
        answer.await?
    }

    /// Has the daemon begin a stream of events.
    async fn stream<R>(
        &self,
        request: &Request<R>,
        begin: impl FnOnce(&mut Daemon, Caller, mpsc::Sender<AcquireEvent>) -> Result<u64, Status>
        + Send
        + 'static,
    ) -> Result<Response<EventStream>, Status> {
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let begun = self.admitted(request, move |daemon, caller| {
            let number = begin(daemon, caller, sender)?;
            Ok(Begun {
                number,
                events: daemon.events.clone(),
            })
        });
        Ok(Response::new(EventStream {
            receiver,
            _begun: begun.await?,
        }))
    }
}

/// The token that a request brings; empty: none.
fn bearer<R>(request: &Request<R>) -> Result<&str, Status> {
    let wrong = || Status::unauthenticated("the authorization is not `Bearer TOKEN`");
    let Some(value) = request.metadata().get("authorization") else {
        return Ok("");
    };
    let text = value.to_str().map_err(|_| wrong())?;
    text.strip_prefix("Bearer ").ok_or_else(wrong)
}

/// A stream's events.
pub(super) struct EventStream {
    receiver: mpsc::Receiver<AcquireEvent>,
    _begun: Begun,
}

/// A stream that the daemon has begun. Dropped, it hears that the client has left it: also where the client had gone before it heard that there is one.
struct Begun {
    number: u64,
    events: mpsc::Sender<Event>,
}

impl Streaming for EventStream {
    type Item = Result<AcquireEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|event| event.map(Ok))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let (events, number) = (self.events.clone(), self.number);
        // Dropped by a task of the runtime, or with the runtime itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = events.send(Event::StreamLeft(number)).await;
            });
        }
    }
}

/// What the refusal of a hello is as a status.
pub(super) fn status(refused: &Refused) -> Status {
    let message = refused.message.clone();
    match refused.code() {
        RefusalCode::Unauthenticated => Status::unauthenticated(message),
        RefusalCode::Forbidden | RefusalCode::Encryption => Status::permission_denied(message),
        RefusalCode::Lease => Status::not_found(message),
        RefusalCode::NoDevice | RefusalCode::TooSmall => Status::out_of_range(message),
        RefusalCode::Busy | RefusalCode::Limit => Status::resource_exhausted(message),
        RefusalCode::Ending => Status::unavailable(message),
        RefusalCode::Version => Status::failed_precondition(message),
        RefusalCode::Malformed => Status::invalid_argument(message),
        RefusalCode::Unsupported => Status::unimplemented(message),
        RefusalCode::Internal | RefusalCode::Unspecified => Status::internal(message),
    }
}

/// What a request that gets nothing is told.
pub(super) fn refusal_status(refusal: &Refusal) -> Status {
    match refusal {
        // A client that asks several servers puts these together.
        Refusal::TooMany { .. } => Status::out_of_range(refusal.to_string()),
        Refusal::TooLarge { .. } | Refusal::TooSmall { .. } | Refusal::Limit(_) => {
            Status::failed_precondition(refusal.to_string())
        }
        Refusal::Busy { .. } | Refusal::QueueFull(_) => {
            Status::resource_exhausted(refusal.to_string())
        }
        Refusal::Draining => Status::unavailable(refusal.to_string()),
        Refusal::Revoked => Status::unauthenticated(refusal.to_string()),
    }
}

impl Daemon {
    /// Somebody may not do something with a lease.
    fn no_lease(&self, caller: &Caller, lease: &LeaseId, error: &LeaseError) -> Status {
        tracing::warn!(tenant = %caller.tenant, "refused: {error}");
        self.books
            .lease_refused(caller, lease, error, Moment::now());
        lease_status(error)
    }
}

fn lease_status(error: &LeaseError) -> Status {
    match error {
        LeaseError::Unknown(_) => Status::not_found(error.to_string()),
        LeaseError::Forbidden(_) => Status::permission_denied(error.to_string()),
        LeaseError::NotDetached(_) | LeaseError::Limit(_) => {
            Status::failed_precondition(error.to_string())
        }
    }
}

fn lease_id(text: &str) -> Result<LeaseId, Status> {
    text.parse()
        .map_err(|error: crate::pool::InvalidName| Status::invalid_argument(error.to_string()))
}

fn operators_only(caller: &Caller) -> Result<(), Status> {
    if caller.is_operator {
        return Ok(());
    }
    let message = "only operators may do that: root and the server's own user on its unix socket, and tokens with --operator";
    Err(Status::permission_denied(message))
}

/// A holder as the client says it, cut to what is kept.
pub(super) fn holder(identity: Option<&protocol::hello::Identity>) -> Holder {
    let mut holder = identity.map(Holder::from).unwrap_or_default();
    for text in [&mut holder.host, &mut holder.user, &mut holder.program] {
        text.truncate(text.floor_char_boundary(MAX_STRING_BYTES));
    }
    holder
}

/// Seconds as a time; 0: not said.
fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// What is asked for, understood.
pub(super) struct Wanted {
    pub(super) need: Need,
    pub(super) holder: Holder,
    pub(super) is_detached: bool,
    pub(super) time: Option<Duration>,
    pub(super) waits: bool,
    pub(super) name: String,
}

impl TryFrom<&AcquireRequest> for Wanted {
    type Error = Status;

    fn try_from(request: &AcquireRequest) -> Result<Self, Status> {
        let hello = Hello {
            oldest_version: request.oldest_version,
            newest_version: request.newest_version,
            ..Hello::new(Intent::Session)
        };
        protocol::hello::choose_version(&hello).map_err(|refused| status(&refused))?;
        let need = Need::try_from(&request.need.clone().unwrap_or_default());
        let mut name = request.request.clone();
        name.truncate(name.floor_char_boundary(MAX_STRING_BYTES));
        Ok(Self {
            need: need.map_err(|error| Status::invalid_argument(error.to_string()))?,
            holder: holder(request.identity.as_ref()),
            is_detached: request.detached,
            time: seconds(request.seconds),
            waits: !request.no_wait,
            name,
        })
    }
}

#[tonic::async_trait]
impl Pool for Service {
    type AcquireStream = EventStream;
    type HoldStream = EventStream;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let reply = self.admitted(&request, |daemon, _| Ok(daemon.list()));
        Ok(Response::new(reply.await?))
    }

    async fn acquire(
        &self,
        request: Request<AcquireRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let wanted = Wanted::try_from(request.get_ref())?;
        let begin =
            move |daemon: &mut Daemon, caller, sender| daemon.acquire(caller, wanted, sender);
        self.stream(&request, begin).await
    }

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<EventStream>, Status> {
        let lease = lease_id(&request.get_ref().lease)?;
        let begin = move |daemon: &mut Daemon, caller: Caller, sender| {
            let held = daemon.hold(&lease, caller.clone(), sender);
            held.map_err(|error| daemon.no_lease(&caller, &lease, &error))
        };
        self.stream(&request, begin).await
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseReply>, Status> {
        let lease = lease_id(&request.get_ref().lease)?;
        let released = self.admitted(&request, move |daemon, caller| {
            let now = Moment::now();
            let decisions = daemon.leases.scheduler.release(&lease, &caller, now);
            let decisions = decisions.map_err(|error| daemon.no_lease(&caller, &lease, &error))?;
            daemon.apply(decisions);
            Ok(())
        });
        released.await?;
        Ok(Response::new(ReleaseReply {}))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Lease>, Status> {
        let lease = lease_id(&request.get_ref().lease)?;
        let time = Duration::from_secs(request.get_ref().seconds);
        let renewed = self.admitted(&request, move |daemon, caller| {
            let now = Moment::now();
            let scheduler = &mut daemon.leases.scheduler;
            let decisions = scheduler.renew(&lease, &caller, time, now);
            let decisions = decisions.map_err(|error| daemon.no_lease(&caller, &lease, &error))?;
            daemon.apply(decisions);
            let lease = daemon.leases.scheduler.lease(&lease);
            lease
                .map(Lease::from)
                .ok_or_else(|| Status::not_found("the lease has just ended"))
        });
        Ok(Response::new(renewed.await?))
    }

    async fn leases(
        &self,
        request: Request<LeasesRequest>,
    ) -> Result<Response<LeasesReply>, Status> {
        let reply = self.admitted(&request, |daemon, caller| Ok(daemon.leases_of(&caller)));
        Ok(Response::new(reply.await?))
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageReply>, Status> {
        let lease = lease_id(&request.get_ref().lease)?;
        let usage = self.admitted(&request, move |daemon, caller| {
            let usage = daemon.usage_of(&lease, &caller);
            usage.map_err(|error| daemon.no_lease(&caller, &lease, &error))
        });
        // How the whole devices are used is known a moment later.
        Ok(Response::new(usage.await?.await))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        let reply = self.admitted(&request, |daemon, caller| Ok(daemon.stats_of(&caller)));
        Ok(Response::new(reply.await?))
    }

    async fn health(
        &self,
        request: Request<HealthRequest>,
    ) -> Result<Response<HealthReply>, Status> {
        let reply = self.admitted(&request, |daemon, _| Ok(daemon.health()));
        Ok(Response::new(reply.await?))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let wanted = *request.get_ref();
        let drained = self.admitted(&request, move |daemon, caller| {
            operators_only(&caller)?;
            let now = Moment::now();
            let scheduler = &mut daemon.leases.scheduler;
            let decisions = if wanted.undo {
                scheduler.undo_drain(now)
            } else {
                let time = Duration::from_secs(wanted.seconds);
                let end = wanted.revoke.then(|| now + time);
                scheduler.drain(Drain { end }, now)
            };
            tracing::warn!(tenant = %caller.tenant, undo = wanted.undo, "drain");
            let drain = daemon.leases.scheduler.draining();
            daemon.books.drained(&caller, drain, now);
            daemon.apply(decisions);
            let leases = daemon.leases.scheduler.leases().count();
            Ok(DrainReply {
                leases: u32::try_from(leases).unwrap_or(u32::MAX),
            })
        });
        Ok(Response::new(drained.await?))
    }
}
