//! The life of a run: settings, server, lease, environment, program, end.
//!
//! ```text
//! run    a lease of its own, kept while the program runs, given back at its end
//! exec   a lease that is there, watched while the program runs
//! (a gpurun inside one of these: the lease that is there, and we become the program)
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use control_plane::Lease;
use protocol::address::Address;
use protocol::config::{
    self, DEVICE_VARIABLE, DEVICES_VARIABLE, DeviceChoice, LEASE_VARIABLE, SERVER_VARIABLE,
    STATS_FILE_VARIABLE, STATS_VARIABLE, Settings, Sources, TRANSPORT_VARIABLE,
};
use protocol::hello::DeviceKind;
use protocol::stats::MappedStats;
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::arguments::{NeedOptions, Options};
use crate::exit::{Failure, REFUSED, USAGE};
use crate::lease::keep::{AtEnd, Keeper};
use crate::lease::{self, Grant, Held, Want};
use crate::pool::{self, PoolError, Server};
use crate::servers::{Servers, configured};
use crate::text::say;
use crate::wait::{Signals, exit_status};
use crate::{guest, software, stats, wait};

/// The settings that the options and the environment make.
pub(crate) fn settings(options: &Options) -> Result<Settings, Failure> {
    Ok(config::resolve(&Sources::of_this_process(
        options.texts(),
    )?)?)
}

/// A variable of the environment that is said, as text.
pub(crate) fn said(name: &str) -> Option<String> {
    let text = config::variable(name)?;
    Some(text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}

/// The lease that this process is in.
pub(crate) fn shared_lease() -> Option<String> {
    said(LEASE_VARIABLE)
}

/// A program to run, and everything that does not depend on its lease.
struct Run<'a> {
    begin: Instant,
    name: &'a OsStr,
    command: Command,
    settings: Settings,
    counts: Option<Counts>,
}

impl<'a> Run<'a> {
    fn new(options: &Options, program: &'a [OsString]) -> Result<Self, Failure> {
        let begin = Instant::now();
        let Some((name, arguments)) = program.split_first() else {
            return Err(Failure::new(USAGE, "no program to run"));
        };
        let guest = guest::find(&guest::executable_directory()?)?;
        let settings = settings(options)?;
        require_present(name)?;
        let counts = Counts::if_wanted()?;
        let variable = |name: &str| std::env::var_os(name);
        let mut command = Command::new(name);
        command
            .args(arguments)
            .env(
                "LD_PRELOAD",
                guest::preload(&guest, variable("LD_PRELOAD").as_deref()),
            )
            .env(
                "LD_LIBRARY_PATH",
                guest::library_path(&guest, variable("LD_LIBRARY_PATH").as_deref()),
            )
            .env(TRANSPORT_VARIABLE, settings.transport.name())
            .env(DEVICE_VARIABLE, settings.device.name());
        if let Some(counts) = &counts {
            command.env(STATS_FILE_VARIABLE, counts.file.path());
        }
        wait::hear_as_before(&mut command);
        Ok(Self {
            begin,
            name,
            command,
            settings,
            counts,
        })
    }

    /// Tells the program its lease and where it is.
    fn under(&mut self, lease: &str, address: &Address) {
        self.command
            .env(LEASE_VARIABLE, lease)
            .env(SERVER_VARIABLE, address.to_string());
    }

    /// Asks the program's compilers for what a kind of device executes.
    fn prepare_for(&mut self, kind: DeviceKind) {
        if kind == DeviceKind::Software {
            let present = |name: &str| std::env::var_os(name);
            self.command.envs(software::variables(present));
        }
    }

    /// Runs the program while its lease is kept.
    fn keep(mut self, runtime: Runtime, grant: Grant, at_end: AtEnd) -> Result<Ended, Failure> {
        let Held { pool, lease, .. } = &grant.held;
        self.under(&lease.id, &pool.server().address);
        if !lease.slices.is_empty() {
            let devices = lease.slices.len().to_string();
            self.command.env(DEVICES_VARIABLE, devices);
        }
        // Before the thread begins: signals are for the one that waits.
        let signals = Signals::block().map_err(cannot_wait)?;
        let keeper = Keeper::start(runtime, grant, at_end)?;
        let status = wait_for(&signals, &mut self.command, self.name);
        keeper.end();
        Ok(self.ended(status?))
    }

    fn ended(self, status: u8) -> Ended {
        Ended {
            status,
            begin: self.begin,
            counts: self.counts,
        }
    }
}

/// A program that has ended.
struct Ended {
    status: u8,
    begin: Instant,
    counts: Option<Counts>,
}

impl Ended {
    /// Says what was counted.
    fn report(self) -> u8 {
        let wall = self.begin.elapsed();
        if let Some(counts) = self.counts {
            eprint!("{}", stats::text(&counts.mapped.report(), wall));
        }
        self.status
    }
}

/// Runs the program under a lease of its own, or under the one that we are in already. Returns its status; where there is nothing left for us to do, becomes
/// the program instead.
pub(crate) fn run(
    options: &Options,
    need: &NeedOptions,
    program: &[OsString],
) -> Result<u8, Failure> {
    let mut run = Run::new(options, program)?;
    if let Some(lease) = shared_lease() {
        return share(run, options, need, &lease);
    }
    let need = need.clone().with_variables(said)?;
    let servers = Servers::of(&run.settings)?;
    let want = Want {
        need: need.need(run.settings.device),
        patience: need.patience(),
        is_detached: false,
        time: None,
        program: run.name.to_string_lossy().into_owned(),
    };
    let runtime = pool::runtime()?;
    let (grant, kind) = runtime.block_on(async {
        let grant = lease::acquire(&need.allowed(servers.list.clone())?, &want).await?;
        // What its devices are helps some programs; not to be told is no reason to lose a lease that was waited for.
        let kind = kind_of(&grant.held.pool).await.unwrap_or_default();
        Ok::<_, Failure>((grant, kind))
    })?;
    let at_end = match servers.is_private() {
        true => AtEnd::Leave,
        false => AtEnd::Release,
    };
    if servers.is_private() {
        announce(kind);
    }
    run.prepare_for(kind);
    let ended = run.keep(runtime, grant, at_end)?;
    drop(servers);
    Ok(ended.report())
}

/// Runs the program under a lease that somebody has.
pub(crate) fn exec(options: &Options, lease: &str, program: &[OsString]) -> Result<u8, Failure> {
    let mut run = Run::new(options, program)?;
    let servers = configured(&run.settings)?;
    let runtime = pool::runtime()?;
    let (held, kind) = runtime.block_on(async {
        let held = find(&servers, lease).await?;
        let kind = kind_of(&held.pool).await?;
        require_kind(run.settings.device, kind, &held)?;
        Ok::<_, Failure>((held, kind))
    })?;
    run.prepare_for(kind);
    let grant = Grant {
        held,
        returning: JoinSet::new(),
    };
    Ok(run.keep(runtime, grant, AtEnd::Leave)?.report())
}

/// The one kind of device that a server has.
async fn kind_of(pool: &pool::Pool) -> Result<DeviceKind, Failure> {
    Ok(pool.list().await?.server.unwrap_or_default().device_kind())
}

/// A lease is on a server whose devices are as they were chosen.
fn require_kind(choice: DeviceChoice, kind: DeviceKind, held: &Held) -> Result<(), Failure> {
    let wanted = match choice {
        DeviceChoice::Auto => return Ok(()),
        DeviceChoice::Gpu => DeviceKind::Nvidia,
        DeviceChoice::Soft => DeviceKind::Software,
    };
    if kind == wanted {
        return Ok(());
    }
    let (name, lease) = (&held.pool.server().name, &held.lease.id);
    let (wanted, kind) = (stats::kind_name(wanted), stats::kind_name(kind));
    Err(Failure::new(
        REFUSED,
        format!("lease {lease} is on {name}, whose devices are {kind}, not {wanted}"),
    ))
}

/// Holds a lease where it is.
async fn find(servers: &[Server], lease: &str) -> Result<Held, Failure> {
    let id = lease.to_owned();
    let hold = move |pool: pool::Pool| {
        let id = id.clone();
        async move {
            let events = pool.hold(&id).await?;
            let mut leases = pool.leases().await?.leases.into_iter();
            let unknown = Lease {
                id: id.clone(),
                ..Lease::default()
            };
            let lease = leases.find(|lease| lease.id == id).unwrap_or(unknown);
            Ok(Held {
                pool,
                events,
                lease,
            })
        }
    };
    let (_, held) = pool::gather_first(servers, hold).await.one()?;
    Ok(held)
}

/// Runs the program under the lease that we are in: as that lease's programs do, so we become the program.
fn share(
    mut run: Run<'_>,
    options: &Options,
    need: &NeedOptions,
    lease: &str,
) -> Result<u8, Failure> {
    let why = format!(
        "the program shares lease {lease} (GPURUN_LEASE); for a lease of its own unset GPURUN_LEASE"
    );
    need.require_none(&why)?;
    if options.device.is_some() {
        let message = format!("--device cannot be chosen here: {why}");
        return Err(Failure::new(USAGE, message));
    }
    require_same_server(options.server.as_deref(), said(SERVER_VARIABLE), &why)?;
    let (server, kind) = server_of(&configured(&run.settings)?, lease)?;
    run.prepare_for(kind);
    run.under(lease, &server.address);
    if run.counts.is_none() {
        return Err(Failure::of_program(run.name, &run.command.exec()));
    }
    let signals = Signals::block().map_err(cannot_wait)?;
    let status = wait_for(&signals, &mut run.command, run.name)?;
    Ok(run.ended(status).report())
}

/// The server that a lease is on, and the kind of its devices: unknown where it does not list them.
fn server_of(servers: &[Server], lease: &str) -> Result<(Server, DeviceKind), Failure> {
    if let [server] = servers {
        // As a program without us does, one under a lease that was given by hand starts where the server cannot be asked.
        let kind = |pool: pool::Pool| async move { kind_or_unknown(&pool).await };
        let listed = pool::ask_first(servers, kind).map(|(_, kind)| kind);
        return Ok((server.clone(), listed.unwrap_or_default()));
    }
    let id = lease.to_owned();
    let knows = move |pool: pool::Pool| {
        let id = id.clone();
        async move {
            pool.usage(&id).await?;
            kind_or_unknown(&pool).await
        }
    };
    pool::ask_first(servers, knows)
}

/// The kind of a server's devices, unknown where it does not list them.
async fn kind_or_unknown(pool: &pool::Pool) -> Result<DeviceKind, PoolError> {
    let listed = pool.list().await.unwrap_or_default();
    Ok(listed.server.unwrap_or_default().device_kind())
}

/// A lease is on one server, so no other one can be chosen.
fn require_same_server(
    option: Option<&str>,
    variable: Option<String>,
    why: &str,
) -> Result<(), Failure> {
    let list = |text: &str| Address::parse_list(text).ok();
    match (option, variable) {
        (Some(option), Some(variable)) if list(option) != list(&variable) => Err(Failure::new(
            USAGE,
            format!("--server cannot be chosen here: {why}"),
        )),
        _ => Ok(()),
    }
}

/// Says it when the run is on the software GPU because nothing else was configured.
pub(crate) fn announce(kind: DeviceKind) {
    if kind == DeviceKind::Software {
        say("no server configured; running on the SOFTWARE GPU (slow, CPU only)");
    }
}

/// Fails now if the program is not there, rather than after a wait for its lease.
fn require_present(name: &OsStr) -> Result<(), Failure> {
    let is_present = match name.as_bytes().contains(&b'/') {
        true => Path::new(name).exists(),
        false => {
            let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
            let mut places = std::env::split_paths(&path);
            places.any(|place: PathBuf| place.join(name).exists())
        }
    };
    match is_present {
        true => Ok(()),
        false => Err(Failure::of_program(
            name,
            &std::io::ErrorKind::NotFound.into(),
        )),
    }
}

fn cannot_wait(error: std::io::Error) -> Failure {
    Failure::internal("cannot wait for the program", error)
}

fn wait_for(signals: &Signals, command: &mut Command, name: &OsStr) -> Result<u8, Failure> {
    let mut child = signals
        .spawn(command)
        .map_err(|error| Failure::of_program(name, &error))?;
    let status = signals.wait(&mut child).map_err(cannot_wait)?;
    Ok(exit_status(status))
}

/// The file in which the program's processes count.
struct Counts {
    file: NamedTempFile<File>,
    mapped: MappedStats,
}

impl Counts {
    /// Makes it, if the user wants counts and no gpurun around this one counts already.
    fn if_wanted() -> Result<Option<Self>, Failure> {
        let is_wanted =
            std::env::var_os(STATS_VARIABLE).is_some_and(|text| !text.is_empty() && text != "0");
        if !is_wanted || std::env::var_os(STATS_FILE_VARIABLE).is_some() {
            return Ok(None);
        }
        let make = || {
            let file = tempfile::Builder::new()
                .prefix("gpurun-stats-")
                .tempfile()?;
            let mapped = MappedStats::create(file.as_file())?;
            Ok(Self { file, mapped })
        };
        let failed =
            |error: std::io::Error| Failure::internal("cannot make a file of counts", error);
        make().map(Some).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_on_its_server() {
        let same = |option, variable: Option<&str>| {
            require_same_server(option, variable.map(str::to_owned), "w").is_ok()
        };
        assert!(same(None, Some("a")));
        assert!(same(Some("a"), None));
        assert!(same(Some("a"), Some("tcp://a:7370")));
        assert!(!same(Some("b"), Some("a")));
    }

    #[test]
    fn a_program_that_is_not_there() {
        let status = |name: &str| {
            let failure = require_present(OsStr::new(name)).err();
            failure.map(|failure| failure.status())
        };
        assert_eq!(status("sh"), None);
        assert_eq!(status("/bin/sh"), None);
        assert_eq!(status("no-such-program"), Some(crate::exit::NOT_FOUND));
        assert_eq!(status("/no/such"), Some(crate::exit::NOT_FOUND));
    }
}
