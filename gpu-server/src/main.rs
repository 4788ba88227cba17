//! `gpu-server`: serves this machine's GPUs to programs elsewhere.

use std::io::IsTerminal;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gpu_server::config::Flags;
use gpu_server::{authority, config, daemon, inherited, ledger, monitor, order, probe, worker};
use protocol::hello::DeviceKind;
use tracing_subscriber::EnvFilter;

/// Serves this machine's GPUs, or a software GPU, to programs elsewhere.
#[derive(Parser)]
#[command(name = "gpu-server", version, max_term_width = 100, after_help = EXAMPLES)]
struct Command {
    #[command(subcommand)]
    word: Word,
}

const EXAMPLES: &str = "\
Examples:
  gpu-server serve                                      the GPUs, or the software GPU, on 127.0.0.1:7370
  gpu-server serve --listen unix:/run/gpurun/server.sock
  gpu-server serve --device soft --listen tcp://127.0.0.1:0
  gpu-server serve --config /etc/gpurun/server.toml
  gpu-server init --name gpu-host                       what a server needs that others reach
  gpu-server token create --tenant ann --devices 2 --bundle ann.gpurun

Log lines go to standard error; GPURUN_LOG=debug says more, GPURUN_LOG=warn less.";

#[derive(Subcommand)]
enum Word {
    /// Listen for programs, and start a worker for each session
    Serve(Serve),
    /// Make what a server needs that others reach: an authority, a certificate, a key for tokens
    Init(authority::command::Init),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(authority::command::Token),
    /// Print the release
    Version,
    /// Look at a driver's devices (started by the server itself)
    #[command(hide = true)]
    Probe {
        /// The driver's library
        #[arg(long)]
        driver: PathBuf,
    },
    /// Hold a context, and tell a device's free memory (started by the server itself)
    #[command(hide = true)]
    Context {
        /// The driver's library
        #[arg(long)]
        driver: PathBuf,
        /// The device's number
        #[arg(long)]
        device: i32,
    },
    /// Tell how devices are used (started by the server itself)
    #[command(hide = true)]
    Monitor {
        /// The driver's library
        #[arg(long)]
        driver: PathBuf,
        /// What its devices are made of
        #[arg(long)]
        device_kind: Kind,
        /// The daemon's process id
        #[arg(long)]
        daemon: u32,
    },
    /// Serve one session (started by the server itself)
    #[command(hide = true)]
    Worker {
        /// The session's number: for people who look at processes; the worker reads it in its order
        #[arg(long)]
        session: u64,
    },
}

#[derive(Args)]
struct Serve {
    /// Where to listen
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "Where to listen: tcp://HOST[:PORT] or unix:PATH; may be repeated [default: tcp://127.0.0.1:7370]"
    )]
    listen: Vec<String>,
    /// What to serve
    #[arg(
        long,
        value_name = "KIND",
        help = "What to serve: auto (the GPUs, else the software GPU), gpu or soft [default: auto]"
    )]
    device: Option<String>,
    /// The driver's library, where it is not at one of its usual places
    #[arg(long, value_name = "PATH")]
    driver: Option<PathBuf>,
    /// The file of settings
    #[arg(
        long,
        value_name = "FILE",
        help = "The file of settings [default: /etc/gpurun/server.toml, if it is there]"
    )]
    config: Option<PathBuf>,
    /// Listen on addresses that others can reach, without encryption and without login
    #[arg(long)]
    insecure: bool,
    /// Write the line "ready" to this inherited descriptor once listening
    #[arg(long, value_name = "NUMBER")]
    ready_fd: Option<RawFd>,
    /// End when the process that started this one ends
    #[arg(long)]
    exit_with_parent: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Nvidia,
    Soft,
}

impl From<Kind> for DeviceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Nvidia => Self::Nvidia,
            Kind::Soft => Self::Software,
        }
    }
}

fn main() -> ExitCode {
    let command = Command::parse();
    start_log();
    let result = match command.word {
        Word::Serve(serve) => run_daemon(serve),
        Word::Init(init) => authority::command::init(&init)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| error.to_string()),
        Word::Token(token) => authority::command::token(token)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| error.to_string()),
        Word::Version => {
            println!("gpu-server {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Word::Probe { driver } => probe::main(&driver)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| error.to_string()),
        Word::Context { driver, device } => ledger::measure::main(&driver, device)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| error.to_string()),
        Word::Monitor {
            driver,
            device_kind,
            daemon,
        } => die_with(daemon).and_then(|()| {
            monitor::main(&driver, device_kind.into())
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| format!("monitor: {error}"))
        }),
        Word::Worker { session: _ } => run_worker(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("gpu-server: {error}");
        ExitCode::FAILURE
    })
}

fn start_log() {
    let filter = ["GPURUN_LOG", "RUST_LOG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find_map(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A worker may outlive whoever read its log: a line that cannot be written is not worth a session.
        .log_internal_errors(false)
        .init();
}

fn run_daemon(serve: Serve) -> Result<ExitCode, String> {
    let ready = take(serve.ready_fd)?;
    if serve.exit_with_parent {
        // Should the parent be gone already, nobody reads the ready line, and writing it fails.
        let signal = Some(rustix::process::Signal::TERM);
        rustix::process::set_parent_process_death_signal(signal)
            .map_err(|error| error.to_string())?;
    }
    let config = config::load(&Flags {
        listen: serve.listen,
        device: serve.device,
        driver: serve.driver,
        config: serve.config,
        insecure: serve.insecure,
        private: serve.exit_with_parent,
    });
    let config = config.map_err(|error| error.to_string())?;
    daemon::serve(config, ready).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn take(number: Option<RawFd>) -> Result<Option<std::os::fd::OwnedFd>, String> {
    number
        .map(|number| {
            inherited::take(number).map_err(|error| format!("descriptor {number}: {error}"))
        })
        .transpose()
}

fn run_worker() -> Result<ExitCode, String> {
    let taken = order::take().map_err(|error| error.to_string())?;
    if taken.order.parent != 0 {
        die_with(taken.order.parent)?;
    }
    Ok(worker::main(taken))
}

/// Lets the kernel end this process when the daemon's thread that started it ends, however it ends.
fn die_with(daemon: u32) -> Result<(), String> {
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal).map_err(|error| error.to_string())?;
    if std::os::unix::process::parent_id() == daemon {
        Ok(())
    } else {
        Err("the daemon is gone".to_owned())
    }
}
