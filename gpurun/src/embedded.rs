//! The private server of one run: on a socket that only this user can open, ended with the run.
//!
//! It is a process group of its own, so that a terminal's interrupt reaches the program alone, which may want to use
//! its device in answer to it. Should we be killed, the kernel ends it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::address::{Address, MAX_PATH_BYTES};
use protocol::config::{DeviceChoice, TransportChoice};
use protocol::limits::CLEAN_UP_LIMIT;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::exit::{Failure, NO_SERVER};

/// A private server that listens.
pub(crate) struct Embedded {
    child: Child,
    address: Address,
    /// Kept for the socket in it; removed at the end.
    _directory: TempDir,
}

impl Embedded {
    /// Starts a server that serves `device`, and waits until it listens. It says itself why it cannot.
    pub(crate) fn start(
        executable_directory: &Path,
        transport: TransportChoice,
        device: DeviceChoice,
    ) -> Result<Self, Failure> {
        let directory = private_directory()?;
        let listen = match transport {
            TransportChoice::Tcp | TransportChoice::Rdma => "tcp://127.0.0.1:0".to_owned(),
            TransportChoice::Auto | TransportChoice::Unix => {
                format!("unix:{}", directory.path().join("server.sock").display())
            }
        };
        let server = executable_directory.join("gpu-server");
        let mut command = Command::new(&server);
        command
            .args(["serve", "--exit-with-parent", "--config", "/dev/null"])
            .args(["--listen", &listen, "--device", device.name()])
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH")
            // The variable is meant for the program, not for what the server offers.
            .env_remove("CUDA_VISIBLE_DEVICES")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        if std::env::var_os("GPURUN_LOG").is_none() {
            command.env("GPURUN_LOG", "warn");
        }
        let mut child = command.spawn().map_err(|error| {
            let server = server.display();
            Failure::new(
                NO_SERVER,
                format!("cannot start a private server: {server}: {error}"),
            )
        })?;
        let Some(address) = first_line(&mut child) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::new(
                NO_SERVER,
                "no server configured, and a private one did not start",
            ));
        };
        Ok(Self {
            child,
            address,
            _directory: directory,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn end(&mut self) {
        if let Some(process) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(process, Signal::TERM);
        }
        let deadline = Instant::now() + CLEAN_UP_LIMIT + Duration::from_millis(500);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.end();
    }
}

/// A new directory of mode 0700, whose path leaves room for a socket's name.
fn private_directory() -> Result<TempDir, Failure> {
    const ROOM: usize = "/gpurun-XXXXXX/server.sock".len();
    let mut place = std::env::temp_dir();
    if place.as_os_str().len() + ROOM > MAX_PATH_BYTES {
        place = "/tmp".into();
    }
    tempfile::Builder::new()
        .prefix("gpurun-")
        .tempdir_in(&place)
        .map_err(|error| Failure::internal("cannot make a private directory", error))
}

/// The address that the server says it listens on; nothing if it ended instead.
fn first_line(child: &mut Child) -> Option<Address> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    line.trim_end().strip_prefix("listening on ")?.parse().ok()
}
