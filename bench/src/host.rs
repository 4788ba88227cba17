//! The processes of one placement: the server, the raw peer, and the measured clients.
//!
//! All are started after this process has been confined to the placement's cores, and end with their handles.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use protocol::credentials::{TokenFile, parse_token_file};
use protocol::transport::rdma::Port;
use serde::Serialize;

use crate::Failure;
use crate::link::Link;
use crate::plan::Benchmark;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// The null driver, loaded directly.
    Native,
    /// The client library over a unix socket.
    Unix,
    /// The client library over TCP.
    Tcp,
    /// The client library over TCP with TLS.
    Tls,
    /// The client library over RDMA.
    Rdma,
    /// The client library over TCP through an emulated link.
    Link,
    /// A bare unix socket.
    RawUnix,
    /// A bare TCP socket.
    RawTcp,
    /// A bare TCP socket through the same link.
    RawLink,
    /// What perftest measures on the RDMA device.
    Perftest,
    /// A process that loads no library.
    Bare,
    /// A process into which the client library is preloaded, and that does not use it.
    Preloaded,
}

impl Subject {
    /// What cases are measured on.
    pub(crate) const MEASURED: [Self; 6] = [
        Self::Native,
        Self::Unix,
        Self::Tcp,
        Self::Tls,
        Self::RawUnix,
        Self::RawTcp,
    ];

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Rdma => "rdma",
            Self::Link => "tcp, link",
            Self::RawLink => "raw tcp, link",
            Self::Perftest => "perftest",
            Self::RawUnix => "raw unix",
            Self::RawTcp => "raw tcp",
            Self::Bare => "bare process",
            Self::Preloaded => "preloaded, unused",
        }
    }

    /// Whether it is a floor.
    pub(crate) const fn is_raw(self) -> bool {
        matches!(self, Self::RawUnix | Self::RawTcp | Self::RawLink)
    }
}

/// A process that ends with this value.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The folder of the artefacts.
pub(crate) struct Artefacts(PathBuf);

impl Artefacts {
    /// # Errors
    /// One is missing.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let folder = folder.or(own.parent()).unwrap_or(Path::new("."));
        let found = Self(folder.canonicalize()?);
        for path in [found.shim(), found.null_driver(), found.server()] {
            if !path.exists() {
                return Err(format!("{} is missing: run scripts/build", path.display()).into());
            }
        }
        Ok(found)
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.0.join("libgpurun_cuda.so")
    }

    pub(crate) fn null_driver(&self) -> PathBuf {
        self.0.join("libnull_driver.so")
    }

    fn server(&self) -> PathBuf {
        self.0.join("gpu-server")
    }
}

/// Server and raw peer.
pub(crate) struct Host {
    addresses: BTreeMap<Subject, String>,
    port: Option<Port>,
    _processes: Vec<Owned>,
    folder: tempfile::TempDir,
}

impl Host {
    /// Starts both and waits until they listen.
    ///
    /// # Errors
    /// One does not come up.
    pub(crate) fn start(artefacts: &Artefacts, link: Option<Link>) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("server");
        let state = folder.path().join("state");
        operate(artefacts, &["init", "--name", "localhost"], &state)?;
        let settings = folder.path().join("server.toml");
        let text = format!("state = '{}'\nmetrics = 'off'\n", state.display());
        std::fs::write(&settings, text)?;
        let (server, lines) = begin(
            Command::new(artefacts.server())
                .args(["serve", "--device", "soft", "--listen", "tcp://127.0.0.1:0"])
                .args(["--listen", &format!("unix:{}", socket.display())])
                .arg("--driver")
                .arg(artefacts.null_driver())
                .arg("--config")
                .arg(settings)
                .env("GPURUN_LOG", "error"),
        )?;
        let mut addresses = BTreeMap::new();
        for line in lines.lines().take(2) {
            let line = line?;
            let address = line.strip_prefix("listening on ").ok_or("no server")?;
            let subject = if address.starts_with("tcp") {
                Subject::Tcp
            } else {
                Subject::Unix
            };
            addresses.insert(subject, address.to_owned());
        }
        if let Some(address) = addresses.get(&Subject::Tcp).cloned() {
            let bundle = folder.path().join("bundle").display().to_string();
            let words = ["token", "create", "--tenant", "bench", "--bundle", &bundle];
            operate(
                artefacts,
                &[&words[..], &["--server", &address]].concat(),
                &state,
            )?;
            let token = folder.path().join("token");
            std::fs::write(token, token_of(&std::fs::read_to_string(&bundle)?)?)?;
            addresses.insert(Subject::Tls, address);
        }
        let (peer, mut lines) = begin(
            Command::new(std::env::current_exe()?)
                .arg("peer")
                .arg(folder.path().join("peer")),
        )?;
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let (unix, tcp) = line.trim().split_once(' ').ok_or("no raw peer")?;
        addresses.insert(Subject::RawUnix, unix.to_owned());
        addresses.insert(Subject::RawTcp, tcp.to_owned());
        if addresses.len() != 5 {
            return Err("the server does not listen on both transports".into());
        }
        let port = Port::of_loopback();
        if port.is_some() {
            let address = addresses[&Subject::Tcp].clone();
            addresses.insert(Subject::Rdma, address);
        }
        if let Some(link) = link {
            let raw = addresses[&Subject::RawTcp].clone();
            let raw = raw.trim_start_matches("tcp:");
            let relayed = link.start(&addresses[&Subject::Tcp])?;
            addresses.insert(Subject::Link, format!("tcp://{relayed}"));
            addresses.insert(Subject::RawLink, format!("tcp:{}", link.start(raw)?));
        }
        Ok(Self {
            addresses,
            port,
            _processes: vec![server, peer],
            folder,
        })
    }

    /// The port that RDMA uses, if there is one.
    pub(crate) fn rdma_port(&self) -> Option<&Port> {
        self.port.as_ref()
    }

    /// Who is measured by a benchmark's cases: the fabric's benchmark has what this machine has, others what every machine has.
    pub(crate) fn subjects(&self, benchmark: Benchmark) -> Vec<Subject> {
        let mut subjects = Subject::MEASURED.to_vec();
        if benchmark == Benchmark::Fabric {
            subjects.retain(|subject| *subject != Subject::Native);
            let more = [Subject::Rdma, Subject::Link, Subject::RawLink];
            let present = more
                .into_iter()
                .filter(|subject| self.addresses.contains_key(subject));
            subjects.extend(present);
        }
        subjects
    }

    /// The command of a client process of a subject; nothing of the caller's own configuration reaches it.
    ///
    /// # Errors
    /// This program cannot be found.
    pub(crate) fn client(
        &self,
        artefacts: &Artefacts,
        subject: Subject,
    ) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("client").env("XDG_CONFIG_HOME", "/nonexistent");
        for variable in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "GPURUN_SERVER",
            "GPURUN_TRANSPORT",
            "GPURUN_TOKEN_FILE",
            "GPURUN_STATS_FILE",
        ] {
            command.env_remove(variable);
        }
        let address = self.addresses.get(&subject);
        match subject {
            Subject::Native => command.arg("--library").arg(artefacts.null_driver()),
            Subject::Unix | Subject::Tcp | Subject::Tls | Subject::Link | Subject::Rdma => {
                command.arg("--library").arg(artefacts.shim());
                // All are one tenant's programs, and so share the device; a bundle asks for encryption, a bare token does not.
                let credential = match subject {
                    Subject::Tls => "bundle",
                    _ => "token",
                };
                command.env("GPURUN_TOKEN_FILE", self.folder.path().join(credential));
                if subject == Subject::Rdma {
                    command.env("GPURUN_TRANSPORT", "rdma");
                }
                command.env("GPURUN_SERVER", address.map_or("", String::as_str))
            }
            Subject::RawUnix | Subject::RawTcp | Subject::RawLink => {
                command.args(["--peer", address.map_or("", String::as_str)])
            }
            Subject::Bare | Subject::Perftest => &mut command,
            Subject::Preloaded => command.env("LD_PRELOAD", artefacts.shim()),
        };
        Ok(command)
    }
}

/// The token in a bundle.
fn token_of(bundle: &str) -> Result<String, Failure> {
    let tokens = match parse_token_file(bundle)? {
        TokenFile::Token(token) => Some(token),
        TokenFile::Bundle(entries) => entries.into_iter().find_map(|entry| entry.credential.token),
    };
    tokens.ok_or_else(|| "the bundle has no token".into())
}

/// Does what an operator does.
fn operate(artefacts: &Artefacts, words: &[&str], state: &Path) -> Result<(), Failure> {
    let mut command = Command::new(artefacts.server());
    let output = command.args(words).arg("--state").arg(state).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}

fn begin(command: &mut Command) -> Result<(Owned, BufReader<ChildStdout>), Failure> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take();
    let owned = Owned(child);
    Ok((owned, BufReader::new(output.ok_or("no output")?)))
}
