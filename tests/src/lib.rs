//! Real programs down the whole road: what the tests share.
//!
//! *What:* a [`Server`] of its own for each test, and the [`Way`]s in which a program can be started. *Rules:* the programs know nothing of
//! us and check their own results; everything that waits has a deadline; processes are ended by the handle that started them.
//! Needs `scripts/build` and `scripts/build-programs` to have run.

pub mod processes;
pub mod proxy;
pub mod random;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Which software device a process uses.
const SEGMENT_VARIABLE: &str = "GPURUN_SOFT_SEGMENT";

/// Most time for one program, on a busy machine.
pub const PROGRAM_LIMIT: Duration = Duration::from_secs(120);
/// Most time for a server to be ready, or to notice that a client is gone (promised: 2 s).
pub const LIVENESS_LIMIT: Duration = Duration::from_secs(10);

/// How frames travel between programs and servers of [`Transport::Tcp`], if not by TCP.
const TRANSPORT_VARIABLE: &str = "GPURUN_TEST_TRANSPORT";
/// The address on which those servers listen, if not the loopback device's.
const HOST_VARIABLE: &str = "GPURUN_TEST_HOST";
/// By how much processes are waited for longer, on an emulated machine.
const PATIENCE_VARIABLE: &str = "GPURUN_TEST_PATIENCE";

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// An artefact of `scripts/build`.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn release(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    let path = target.join("release").join(name);
    assert!(
        path.exists(),
        "{} is missing: run scripts/build",
        path.display()
    );
    path
}

/// A program of `scripts/build-programs`.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn program(variant: &str, name: &str) -> PathBuf {
    let path = repository()
        .join("target/programs")
        .join(variant)
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run scripts/build-programs",
        path.display()
    );
    path
}

/// A limit of time on this machine.
#[must_use]
pub fn patiently(limit: Duration) -> Duration {
    let times = std::env::var(PATIENCE_VARIABLE).ok();
    limit * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// How a program gets to a device.
#[derive(Clone, Debug)]
pub enum Way {
    /// The software GPU loaded into the program.
    Direct,
    /// Our library, by `LD_PRELOAD` alone.
    Preload(String),
    /// Our library, by `LD_LIBRARY_PATH` alone.
    LibraryPath(String),
    /// `gpurun --server`: a whole device for each program.
    Gpurun(String),
    /// `gpurun --server -p`: a part of a device for each program.
    Part(String, f64),
    /// `gpurun` with no server configured.
    Embedded,
}

impl Way {
    /// The command that starts a program this way.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self {
            Self::Gpurun(_) | Self::Part(..) | Self::Embedded => Command::new(release("gpurun")),
            _ => Command::new(program),
        };
        for variable in [
            "GPURUN_SERVER",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "GPURUN_LOG",
        ] {
            command.env_remove(variable);
        }
        // No configuration of whoever runs the tests, and no device that others use as well: how much memory is free is theirs to change.
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        command.env(SEGMENT_VARIABLE, own_segment());
        match self {
            Self::Direct => command.env("LD_LIBRARY_PATH", folder_of("soft/libcuda.so.1")),
            Self::Preload(server) => command
                .env("LD_PRELOAD", release("libgpurun_cuda.so"))
                .env("GPURUN_SERVER", server),
            Self::LibraryPath(server) => command
                .env("LD_LIBRARY_PATH", folder_of("guest/libcuda.so.1"))
                .env("GPURUN_SERVER", server),
            Self::Gpurun(server) => command.args(["--server", server]).arg(program),
            Self::Part(server, part) => command
                .args(["--server", server, "-p", &part.to_string()])
                .arg(program),
            Self::Embedded => command.args(["--device", "soft"]).arg(program),
        };
        let transport = std::env::var_os(TRANSPORT_VARIABLE);
        if let Some(transport) = transport.filter(|_| self.is_over_tcp()) {
            command.env("GPURUN_TRANSPORT", transport);
        }
        command
    }

    fn is_over_tcp(&self) -> bool {
        match self {
            Self::Preload(server)
            | Self::LibraryPath(server)
            | Self::Gpurun(server)
            | Self::Part(server, _) => server.starts_with("tcp:"),
            Self::Direct | Self::Embedded => false,
        }
    }
}

/// What the segments begin with that programs have for themselves.
const OWN_SEGMENT: &str = "gpurun-own-";

/// The name of a software device that nobody else has.
fn own_segment() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{OWN_SEGMENT}{}-{number}", std::process::id())
}

fn folder_of(artefact: &str) -> PathBuf {
    let path = release(artefact);
    path.parent().map(Path::to_owned).unwrap_or(path)
}

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Fails the test unless the program passed its own checks.
    ///
    /// # Panics
    /// It did not.
    pub fn assert_passed(&self, what: &str) {
        assert!(
            self.status.success() && self.stdout.contains("PASS "),
            "{what}: {}\n{}\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
    }
}

/// Runs a command to its end, at most for [`PROGRAM_LIMIT`].
///
/// # Panics
/// It cannot be started, or does not end.
#[must_use]
pub fn run(command: Command) -> Outcome {
    run_within(command, PROGRAM_LIMIT)
}

/// Runs a command to its end, at most for `limit`.
///
/// # Panics
/// It cannot be started, or does not end.
#[must_use]
pub fn run_within(mut command: Command, limit: Duration) -> Outcome {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let outcome = finish_within(child.expect("the program can be started"), limit);
    let mut variables = command.get_envs();
    let segment = variables.find_map(|(name, value)| value.filter(|_| name == SEGMENT_VARIABLE));
    let segment = segment.and_then(std::ffi::OsStr::to_str);
    if let Some(own) = segment.filter(|name| name.starts_with(OWN_SEGMENT)) {
        // It is not there if the program has used no device of this machine.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(own));
    }
    outcome
}

/// Waits for a started program with piped output.
///
/// # Panics
/// It does not end within [`PROGRAM_LIMIT`].
#[must_use]
pub fn finish(child: Child) -> Outcome {
    finish_within(child, PROGRAM_LIMIT)
}

fn finish_within(mut child: Child, limit: Duration) -> Outcome {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = read(stdout.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = read(stderr.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let status = wait(&mut child, limit);
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        let (stdout, stderr) = (stdout.join(), stderr.join());
        panic!("the program did not end in time: {stdout:?} {stderr:?}");
    };
    Outcome {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    }
}

/// Waits for a child, at most for `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    // A process can be waited for as a descriptor, so nothing sleeps and looks.
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    let end = Instant::now() + patiently(limit);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        let left = end.checked_duration_since(Instant::now())?;
        let left = rustix::time::Timespec {
            tv_sec: i64::try_from(left.as_secs()).ok()?,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut poll = [rustix::event::PollFd::new(
            &descriptor,
            rustix::event::PollFlags::IN,
        )];
        let _ = rustix::event::poll(&mut poll, Some(&left));
    }
}

/// A gpu-server on the software GPU, ended with the value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
    folder: tempfile::TempDir,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// On a free port of the loopback device, or of another one where the environment names it.
    Tcp,
    /// On a socket in a folder of its own.
    Unix,
}

impl Server {
    /// Starts one and waits until it accepts. Its device is its own: no other test's memory counts.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn start(transport: Transport) -> Self {
        Self::begin(transport, "", &[])
    }

    /// Starts one with these variables in its environment.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn start_with(transport: Transport, variables: &[(&str, &str)]) -> Self {
        Self::begin(transport, "", variables)
    }

    /// Starts one with these lines in its file of settings.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn configured(transport: Transport, settings: &str) -> Self {
        Self::begin(transport, settings, &[])
    }

    fn begin(transport: Transport, settings: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("gpurun-test-")
            .tempdir()
            .expect("a temporary folder");
        let host = std::env::var(HOST_VARIABLE).ok();
        let listen = match transport {
            Transport::Tcp => format!("tcp://{}:0", host.as_deref().unwrap_or("127.0.0.1")),
            Transport::Unix => format!("unix:{}", folder.path().join("server.sock").display()),
        };
        let segment = folder.path().file_name().unwrap_or_default();
        let file = folder.path().join("server.toml");
        std::fs::write(&file, settings).expect("written");
        let log = std::fs::File::create(folder.path().join("server.log")).expect("a log");
        std::fs::create_dir(folder.path().join("scratch")).expect("a folder");
        let mut child = Command::new(release("gpu-server"))
            .args(["serve", "--device", "soft", "--listen", &listen, "--config"])
            .arg(&file)
            .args(host.map(|_| "--insecure"))
            .env("GPURUN_SOFT_SEGMENT", segment)
            .envs(variables.iter().copied())
            .env("TMPDIR", folder.path().join("scratch"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("gpu-server can be started");
        let lines = lines_of(child.stdout.take().expect("piped"));
        let line = lines
            .recv_timeout(patiently(LIVENESS_LIMIT))
            .expect("gpu-server says where it listens");
        let address = line.strip_prefix("listening on ").expect(&line).to_owned();
        Self {
            child,
            address,
            folder,
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// Where it puts temporary files.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// The named shared memory of its device.
    #[must_use]
    pub fn segments(&self) -> Vec<PathBuf> {
        let own = self.folder.path().file_name().unwrap_or_default();
        let entries = std::fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .flatten();
        let is_ours = |name: std::ffi::OsString| {
            name.to_string_lossy()
                .contains(own.to_string_lossy().as_ref())
        };
        entries
            .filter(|entry| is_ours(entry.file_name()))
            .map(|entry| entry.path())
            .collect()
    }

    /// The processes of its sessions.
    #[must_use]
    pub fn workers(&self) -> usize {
        // Its monitor is a child of it, too.
        let children = processes::children(self.id());
        let is_worker = |(_, arguments): &(u32, String)| arguments.contains(" worker ");
        children.into_iter().filter(is_worker).count()
    }

    /// Bytes free on its device, as a program sees them.
    ///
    /// # Panics
    /// No program sees them.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let way = Way::Preload(self.address.clone());
        let outcome = run(way.command(&program("static13", "device_query")));
        let free = outcome
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("~free "));
        free.and_then(|free| free.parse().ok())
            .expect("device_query tells the free memory")
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        if wait(&mut self.child, LIVENESS_LIMIT).is_none() {
            self.kill();
        }
        // Its device was its own, and nobody else will use it.
        if let Some(segment) = self.folder.path().file_name() {
            let _ = std::fs::remove_file(Path::new("/dev/shm").join(segment));
        }
    }
}

/// The lines of a stream, as they come.
#[must_use]
pub fn lines_of(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
