//! A pool for tests, in this process: it answers as it is told, and tells what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use control_plane::acquire_event::Event;
use control_plane::pool_server::{Pool, PoolServer};
use control_plane::*;
use protocol::credentials::Credential;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

use super::Server;

/// Longer than anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

type Sender = mpsc::Sender<Result<AcquireEvent, Status>>;
type EventStream = ReceiverStream<Result<AcquireEvent, Status>>;

/// What is done with a request for a lease, or to hold one.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Grant(&'static str),
    Queue(u32),
    Refuse(tonic::Code, &'static str),
    /// A stream that says nothing.
    Nothing,
}

/// What was asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) acquired: Vec<AcquireRequest>,
    pub(crate) held: Vec<String>,
    pub(crate) released: Vec<String>,
    pub(crate) tokens: Vec<Option<String>>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    seen: Seen,
    streams: Vec<Sender>,
}

/// The pool; a clone is the same one.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changed: Arc<tokio::sync::Notify>,
}

impl Fake {
    /// Begins to serve on loopback; the answers are given one after the other, the last one again and again.
    pub(crate) async fn start(answers: &[Answer]) -> (Self, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let fake = Self::new(answers);
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(fake.clone().serve(incoming));
        (fake, server(address))
    }

    /// One that is not served yet.
    pub(crate) fn new(answers: &[Answer]) -> Self {
        let fake = Self::default();
        fake.state().answers = answers.iter().cloned().collect();
        fake
    }

    /// Serves these connections.
    pub(crate) async fn serve<IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static>(
        self,
        incoming: impl tonic::codegen::tokio_stream::Stream<Item = std::io::Result<IO>> + Send,
    ) {
        let serving = tonic::transport::Server::builder();
        serving
            .serve_with_incoming(PoolServer::new(self), incoming)
            .await
            .expect("served");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what was seen is so, and gives what `read` gives of it.
    pub(crate) async fn until<T>(&self, read: impl Fn(&Seen) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = read(&self.state().seen) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("in time")
    }

    /// The stream of this number, once it is there.
    pub(crate) async fn stream(&self, number: usize) -> Sender {
        let is_there = |seen: &Seen| (seen.acquired.len() + seen.held.len() > number).then_some(());
        self.until(is_there).await;
        self.state().streams[number].clone()
    }

    /// Ends a stream without a word, as a server that is going down.
    pub(crate) fn end_of(&self, number: usize) {
        // No other end of it is left but a test's own.
        let (gone, _) = mpsc::channel(1);
        self.state().streams[number] = gone;
    }

    async fn answer(&self) -> Result<Response<EventStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        let answer = {
            let mut state = self.state();
            state.streams.push(sender.clone());
            match state.answers.len() {
                0 | 1 => state.answers.front().cloned(),
                _ => state.answers.pop_front(),
            }
        };
        self.changed.notify_waiters();
        match answer.unwrap_or(Answer::Nothing) {
            Answer::Grant(id) => send(&sender, granted(id)).await,
            Answer::Queue(position) => send(&sender, queued(position)).await,
            Answer::Refuse(code, message) => return Err(Status::new(code, message)),
            Answer::Nothing => {}
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    fn see(&self, metadata: &tonic::metadata::MetadataMap, note: impl FnOnce(&mut Seen)) {
        let token = metadata.get("authorization");
        let token = token.map(|token| token.to_str().expect("text").to_owned());
        let mut state = self.state();
        state.seen.tokens.push(token);
        note(&mut state.seen);
        drop(state);
        self.changed.notify_waiters();
    }
}

/// Where a server on this address is, without any credential.
pub(crate) fn server(address: SocketAddr) -> Server {
    let address = address.to_string().parse().expect("an address");
    Server::new(address, Credential::default())
}

pub(crate) async fn send(stream: &Sender, event: Event) {
    let event = AcquireEvent { event: Some(event) };
    stream.send(Ok(event)).await.expect("taken");
}

pub(crate) fn granted(id: &str) -> Event {
    Event::Granted(Lease {
        id: id.to_owned(),
        ..Lease::default()
    })
}

pub(crate) fn queued(position: u32) -> Event {
    Event::Queued(Queued {
        position,
        length: position,
        reason: "all is taken".to_owned(),
        fits_now: String::new(),
    })
}

/// A connection over TLS, as an incoming one.
pub(crate) struct Encrypted(pub(crate) tokio_rustls::server::TlsStream<tokio::net::TcpStream>);

impl Connected for Encrypted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tonic::async_trait]
impl Pool for Fake {
    type AcquireStream = EventStream;
    type HoldStream = EventStream;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        self.see(request.metadata(), |_| {});
        Ok(Response::new(ListReply {
            queued: 7,
            ..ListReply::default()
        }))
    }

    async fn acquire(
        &self,
        request: Request<AcquireRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let answer = self.answer().await;
        let metadata = request.metadata().clone();
        self.see(&metadata, |seen| seen.acquired.push(request.into_inner()));
        answer
    }

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<EventStream>, Status> {
        let answer = self.answer().await;
        let metadata = request.metadata().clone();
        self.see(&metadata, |seen| seen.held.push(request.into_inner().lease));
        answer
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseReply>, Status> {
        let metadata = request.metadata().clone();
        let lease = request.into_inner().lease;
        self.see(&metadata, |seen| seen.released.push(lease));
        Ok(Response::new(ReleaseReply {}))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<Lease>, Status> {
        Err(Status::not_found("there is no lease x"))
    }

    async fn leases(&self, _: Request<LeasesRequest>) -> Result<Response<LeasesReply>, Status> {
        Ok(Response::new(LeasesReply::default()))
    }

    async fn usage(&self, _: Request<UsageRequest>) -> Result<Response<UsageReply>, Status> {
        Err(Status::permission_denied(
            "lease x belongs to another tenant",
        ))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        Ok(Response::new(HealthReply::default()))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        Ok(Response::new(DrainReply::default()))
    }
}
