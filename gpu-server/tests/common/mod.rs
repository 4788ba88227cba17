//! A real server on the software GPU, its service, and sessions.

#![allow(
    dead_code,
    clippy::allow_attributes_without_reason,
    reason = "each test file uses a part of it"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use control_plane::acquire_event::Event;
use control_plane::pool_client::PoolClient;
use control_plane::{AcquireEvent, AcquireRequest, DeviceNeed, Lease};
use hyper_util::rt::TokioIo;
use protocol::address::Address;
use protocol::connect::{self, ConnectError, Session};
use protocol::hello::{DeviceRequest, Hello, Identity, Intent};
use protocol::limits::{NEWEST_VERSION, OLDEST_VERSION};
use protocol::transport::Patience;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

pub(crate) const MIB: u64 = 1 << 20;

/// Most time for anything that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The driver: the software GPU where it is built, else none of these tests can run a worker.
pub(crate) fn driver() -> PathBuf {
    if let Some(path) = std::env::var_os("GPURUN_TEST_DRIVER") {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    workspace.join("target/release/libsoft_gpu.so")
}

/// A server that listens on a unix socket and on loopback: two tenants without any token, `uid-N` and `local`, both operators.
pub(crate) struct Server {
    child: Child,
    pub(crate) directory: Arc<tempfile::TempDir>,
    /// Settings, number of devices and their memory.
    said: [String; 3],
    pub(crate) unix: Address,
    pub(crate) tcp: Address,
    log: mpsc::Receiver<String>,
    pub(crate) read: Vec<String>,
}

impl Server {
    /// With these settings beside what it always has, on devices of this kind.
    pub(crate) fn start(settings: &str, devices: &str, memory: &str) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        Self::on(directory, [settings, devices, memory].map(str::to_owned))
    }

    /// The same with a directory for its state, so that it can be restarted.
    pub(crate) fn with_state(settings: &str, devices: &str, memory: &str) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let state = directory.path().join("state");
        let settings = format!("state = '{}'\n{settings}", state.display());
        Self::on(directory, [&settings, devices, memory].map(str::to_owned))
    }

    /// Ends it by this signal, and begins it again on the same state.
    pub(crate) fn restart(mut self, signal: Signal) -> Self {
        self.signal(signal);
        self.child.wait().expect("its end");
        Self::on(Arc::clone(&self.directory), self.said.clone())
    }

    fn on(directory: Arc<tempfile::TempDir>, said: [String; 3]) -> Self {
        let [settings, devices, memory] = &said;
        let config = directory.path().join("server.toml");
        std::fs::write(&config, settings).expect("written");
        let unix = format!("unix:{}", directory.path().join("s").display());
        let name = directory.path().file_name().expect("a name");
        let segment = format!("gpurun-pool{}", name.to_string_lossy());
        let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-server"))
            .args(["serve", "--listen", &unix, "--listen", "tcp://127.0.0.1:0"])
            .args(["--device", "soft"])
            .arg("--driver")
            .arg(driver())
            .arg("--config")
            .arg(config)
            .env("GPURUN_SOFT_SEGMENT", segment)
            .env("GPURUN_SOFT_GPUS", devices)
            .env("GPURUN_SOFT_MEMORY", memory)
            .env("NO_COLOR", "1")
            .env_remove("GPURUN_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpu-server");
        let log = lines(child.stderr.take().expect("stderr"));
        let output = child.stdout.take().expect("stdout");
        let addresses: Vec<Address> = BufReader::new(output)
            .lines()
            .take(2)
            .map(|line| {
                let line = line.expect("a line");
                let address = line.strip_prefix("listening on ").expect("an address");
                address.parse().expect("an address")
            })
            .collect();
        let [unix, tcp] = &addresses[..] else {
            panic!("it did not begin: {:?}", log.iter().collect::<Vec<_>>());
        };
        Self {
            child,
            unix: unix.clone(),
            tcp: tcp.clone(),
            directory,
            said,
            log,
            read: Vec::new(),
        }
    }

    /// The service as one tenant or the other sees it.
    pub(crate) async fn pool(&self, address: &Address) -> PoolClient<Channel> {
        PoolClient::new(channel(address.clone()).await)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        kill_process(process, signal).expect("signalled");
    }

    /// Waits for a line of the log with this text.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        if let Some(line) = self.read.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        while let Ok(line) = self
            .log
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.read.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no line with '{text}' in\n{}", self.read.join("\n"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::TERM);
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn channel(address: Address) -> Channel {
    let endpoint = Endpoint::from_static("http://pool");
    let connect = tower::service_fn(move |_: Uri| {
        let address = address.clone();
        async move {
            let socket: Box<dyn Socket> = match &address {
                Address::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
                Address::Tcp { host, port } => {
                    Box::new(tokio::net::TcpStream::connect((host.as_str(), *port)).await?)
                }
            };
            Ok::<_, std::io::Error>(TokioIo::new(socket))
        }
    });
    endpoint
        .connect_with_connector(connect)
        .await
        .expect("connected")
}

trait Socket: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Socket for T {}

/// A request for so many bytes of one device.
pub(crate) fn bytes(memory_bytes: u64) -> AcquireRequest {
    AcquireRequest {
        need: Some(DeviceNeed {
            count: 1,
            memory_bytes,
            ..DeviceNeed::default()
        }),
        identity: Some(Identity::of_this_process()),
        oldest_version: OLDEST_VERSION,
        newest_version: NEWEST_VERSION,
        ..AcquireRequest::default()
    }
}

/// A request for whole devices.
pub(crate) fn whole(count: u32) -> AcquireRequest {
    AcquireRequest {
        need: Some(DeviceNeed {
            count,
            ..DeviceNeed::default()
        }),
        ..bytes(0)
    }
}

/// The next event of a stream.
pub(crate) async fn next(stream: &mut Streaming<AcquireEvent>) -> Event {
    let event = tokio::time::timeout(LIMIT, stream.message()).await;
    let event = event.expect("in time").expect("an event");
    event.expect("not the end").event.expect("an event")
}

/// Waits for the grant, past what is told of the queue.
pub(crate) async fn granted(stream: &mut Streaming<AcquireEvent>) -> Lease {
    loop {
        match next(stream).await {
            Event::Granted(lease) => return lease,
            Event::Queued(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A lease that is granted at once.
pub(crate) async fn lease(
    pool: &mut PoolClient<Channel>,
    request: AcquireRequest,
) -> Result<(Lease, Streaming<AcquireEvent>), Status> {
    let mut stream = pool.acquire(request).await?.into_inner();
    let lease = granted(&mut stream).await;
    Ok((lease, stream))
}

/// A session of a program of this process.
pub(crate) fn session(address: &Address, lease: &str) -> Result<Session, ConnectError> {
    let hello = Hello {
        lease: lease.to_owned(),
        ..hello(DeviceRequest::default())
    };
    connect::open_session(address, &hello, Patience::default())
}

/// A program's hello.
pub(crate) fn hello(devices: DeviceRequest) -> Hello {
    Hello {
        shape_hash: driver_api::wire::shape_hash().to_vec(),
        devices: Some(devices),
        ..Hello::new(Intent::Session)
    }
}

/// Waits until something holds.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "it never came about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
