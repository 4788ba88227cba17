//! Gives the figures to who asks: HTTP, on an address that is this machine's unless the operator wants another.
//!
//! *Rules:* few connections at a time, each for one question and for a bounded time; an address that is taken is told and is no harm.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Metrics;

/// Most connections at a time. Who comes then waits to be taken.
const MAX_CONNECTIONS: usize = 8;

/// Most time for a connection: to ask, and to take the answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Most bytes of a question.
const MAX_QUESTION_BYTES: usize = 8 << 10;

/// After an error of the listening socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Gives the figures away until dropped.
#[derive(Debug)]
pub(in crate::daemon) struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// Listens, in the runtime that this is called in.
    ///
    /// # Errors
    /// The address is taken, or none of this machine.
    pub(in crate::daemon) fn start(address: SocketAddr, metrics: Metrics) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("metrics on {address}: {error}"))
        };
        let listener = std::net::TcpListener::bind(address).map_err(named)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept_all(listener, metrics)).abort_handle();
        Ok(Self { address, task })
    }

    /// Starts if it can; if not, the log says so, and the server goes on without.
    pub(in crate::daemon) fn start_or_warn(address: SocketAddr, metrics: Metrics) -> Option<Self> {
        match Self::start(address, metrics) {
            Ok(server) => {
                let bound = server.address;
                tracing::info!("metrics on http://{bound}/metrics");
                if !bound.ip().to_canonical().is_loopback() {
                    tracing::warn!(
                        "whoever reaches {bound} can read which tenants use what: metrics have no login"
                    );
                }
                Some(server)
            }
            Err(error) => {
                tracing::warn!(
                    "no metrics: {error}; name another address, or metrics = 'off', in server.toml"
                );
                None
            }
        }
    }

    /// Where it listens.
    #[cfg(test)]
    pub(in crate::daemon) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(listener: TcpListener, metrics: Metrics) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = metrics.clone();
                tokio::spawn(async move {
                    serve(stream, metrics).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!("metrics: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// One connection to its end, which comes in time.
async fn serve(stream: TcpStream, metrics: Metrics) {
    let service = service_fn(move |request| {
        let response = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME)
        .keep_alive(false)
        .max_buf_size(MAX_QUESTION_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIME, connection).await {
        tracing::debug!("metrics: {error}");
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned()),
        "/metrics" => (StatusCode::OK, metrics.encode()),
        _ => (StatusCode::NOT_FOUND, "see /metrics\n".to_owned()),
    };
    let kind = match status {
        StatusCode::OK => prometheus_text::CONTENT_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    if !is_read {
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        headers.insert(ALLOW, allowed);
    }
    response
}
