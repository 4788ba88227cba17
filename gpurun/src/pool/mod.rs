//! The pool of one server: the calls of its service, each with an end, and errors that a person understands.
//!
//! What: a [`Server`] is where a pool is and what is for it; a [`Pool`] is one connection there. Why a runtime at all: gRPC needs one; it has one
//! thread, the caller's. Rules: every call ends within [`ANSWER_LIMIT`], but the two streams of leases, which live as long as the lease; what a
//! server says is shown without control characters.
//!
//! ```text
//! connection  sockets and TLS      everyone  one question to every server
//! ```

mod connection;
mod everyone;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use control_plane::pool_client::PoolClient;
use control_plane::{
    AcquireEvent, AcquireRequest, DrainReply, DrainRequest, HealthReply, HealthRequest,
    HoldRequest, Lease, LeasesReply, LeasesRequest, ListReply, ListRequest, ReleaseRequest,
    RenewRequest, StatsReply, StatsRequest, UsageReply, UsageRequest,
};
use protocol::address::Address;
use protocol::connect::{ConnectError, secure};
use protocol::credentials::Credential;
use tokio::runtime::Runtime;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use crate::exit::{Failure, NO_SERVER, REFUSED};
use crate::text;

use connection::Bearer;
pub(crate) use connection::Protection;
pub(crate) use everyone::{Answers, ask_all, ask_first, gather_first};

/// Most time for an answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The events of a lease.
pub(crate) type Events = Streaming<AcquireEvent>;

/// A server that has a pool, and what is for it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) credential: Credential,
    /// As people read it.
    pub(crate) name: String,
    /// It has answered as a pool does: what fails later is no older server.
    is_pool: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn new(address: Address, credential: Credential) -> Self {
        Self {
            name: address.to_string(),
            address,
            credential,
            is_pool: Arc::default(),
        }
    }
}

/// Why a pool did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// An older server.
    #[error(
        "{0} gives no leases: its gpu-server is older than this gpurun ({release}). Install the same release on both",
        release = protocol::hello::RELEASE
    )]
    NotServed(String),
    /// The server says no.
    #[error("{server} refused: {message}")]
    Refused {
        server: String,
        code: Code,
        message: String,
    },
    /// The connection broke.
    #[error("lost the connection to {server}: {reason}")]
    Lost { server: String, reason: String },
    /// Nothing came.
    #[error("{0} did not answer in {limit} s", limit = ANSWER_LIMIT.as_secs())]
    Silent(String),
}

impl PoolError {
    /// Whether the server itself said no, so that asking again makes no sense.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotServed(_))
    }

    /// Whether the server says that there is no such thing.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::NotFound,
                ..
            }
        )
    }

    /// Whether the server says that it cannot say anything now.
    pub(crate) const fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::Unavailable,
                ..
            }
        )
    }

    /// What gpurun ends with.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Connect(error) => crate::exit::status_of(error),
            Self::NotServed(_) | Self::Refused { .. } => REFUSED,
            Self::Lost { .. } | Self::Silent(_) => NO_SERVER,
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

/// What gRPC runs on: one thread, the caller's; those that look up names take none of our signals.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(crate::wait::block_in_this_thread)
        .build()
        .map_err(|error| Failure::internal("cannot begin to wait for servers", error))
}

/// A connection to a pool.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    server: Server,
    client: PoolClient<InterceptedService<Channel, Bearer>>,
    protection: Protection,
}

impl Pool {
    /// Connects.
    pub(crate) async fn open(server: &Server) -> Result<Self, PoolError> {
        let line = connection::open(&server.address, &server.credential).await;
        let line = line.map_err(|error| match error {
            ConnectError::Tls { source, .. } if source.is_other_protocol() => {
                PoolError::NotServed(server.name.clone())
            }
            error => error.into(),
        })?;
        let (channel, protection) = line.into_channel().await.map_err(|error| {
            let reason = innermost(&error);
            let server = server.name.clone();
            PoolError::Lost { server, reason }
        })?;
        let bearer = Bearer::new(server.credential.token.as_deref());
        Ok(Self {
            server: server.clone(),
            client: PoolClient::with_interceptor(channel, bearer),
            protection,
        })
    }

    /// Whose it is.
    pub(crate) const fn server(&self) -> &Server {
        &self.server
    }

    /// Who can read along.
    pub(crate) const fn protection(&self) -> &Protection {
        &self.protection
    }

    pub(crate) async fn list(&self) -> Result<ListReply, PoolError> {
        self.in_time(self.client.clone().list(ListRequest {})).await
    }

    /// Begins to ask for a lease.
    pub(crate) async fn acquire(&self, request: AcquireRequest) -> Result<Events, PoolError> {
        self.in_time(self.client.clone().acquire(request)).await
    }

    pub(crate) async fn hold(&self, lease: &str) -> Result<Events, PoolError> {
        let lease = lease.to_owned();
        self.in_time(self.client.clone().hold(HoldRequest { lease }))
            .await
    }

    pub(crate) async fn release(&self, lease: &str) -> Result<(), PoolError> {
        let lease = lease.to_owned();
        let mut client = self.client.clone();
        let released = self.in_time(client.release(ReleaseRequest { lease }));
        released.await.map(drop)
    }

    pub(crate) async fn renew(&self, lease: &str, time: Duration) -> Result<Lease, PoolError> {
        let request = RenewRequest {
            lease: lease.to_owned(),
            seconds: seconds(time),
        };
        self.in_time(self.client.clone().renew(request)).await
    }

    pub(crate) async fn leases(&self) -> Result<LeasesReply, PoolError> {
        self.in_time(self.client.clone().leases(LeasesRequest {}))
            .await
    }

    pub(crate) async fn usage(&self, lease: &str) -> Result<UsageReply, PoolError> {
        let lease = lease.to_owned();
        self.in_time(self.client.clone().usage(UsageRequest { lease }))
            .await
    }

    pub(crate) async fn stats(&self) -> Result<StatsReply, PoolError> {
        self.in_time(self.client.clone().stats(StatsRequest {}))
            .await
    }

    pub(crate) async fn health(&self) -> Result<HealthReply, PoolError> {
        self.in_time(self.client.clone().health(HealthRequest {}))
            .await
    }

    pub(crate) async fn drain(&self, request: DrainRequest) -> Result<DrainReply, PoolError> {
        self.in_time(self.client.clone().drain(request)).await
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, PoolError> {
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(response)) => {
                self.server.is_pool.store(true, Relaxed);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(self.explain(status).await),
            Err(_) => Err(PoolError::Silent(self.server.name.clone())),
        }
    }

    /// What a failed call means. An older server breaks the connection, since it does not know what is spoken; but it answers a hello.
    async fn explain(&self, status: Status) -> PoolError {
        let error = self.error_of(&status);
        if !matches!(error, PoolError::Lost { .. }) || self.server.is_pool.load(Relaxed) {
            return error;
        }
        let Server {
            address,
            credential,
            ..
        } = self.server.clone();
        let greet = move || secure::fetch_snapshot(&address, &credential).is_ok();
        let greeting = tokio::task::spawn_blocking(greet);
        match tokio::time::timeout(ANSWER_LIMIT, greeting).await {
            Ok(Ok(true)) => PoolError::NotServed(self.server.name.clone()),
            _ => error,
        }
    }

    /// What a failed stream means.
    pub(crate) fn error_of(&self, status: &Status) -> PoolError {
        let server = self.server.name.clone();
        match (status.code(), status.source()) {
            (Code::Unimplemented, _) if !self.server.is_pool.load(Relaxed) => {
                PoolError::NotServed(server)
            }
            // The server's own answers have no cause on this side.
            (_, Some(cause)) => PoolError::Lost {
                server,
                reason: innermost(cause),
            },
            (code, None) => PoolError::Refused {
                server,
                code,
                message: text::clean(status.message()),
            },
        }
    }
}

/// Whole seconds, rounded up: 0 would say that nothing was said.
pub(crate) fn seconds(time: Duration) -> u64 {
    let rounded = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    rounded.max(1)
}

/// What an error comes from.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    text::clean(&error.to_string())
}
