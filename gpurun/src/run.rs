//! The life of a run: settings, server, environment, program, end.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use protocol::address::Address;
use protocol::config::{
    self, DEVICE_VARIABLE, DEVICES_VARIABLE, DeviceChoice, SERVER_VARIABLE, STATS_FILE_VARIABLE,
    STATS_VARIABLE, Settings, Sources, TRANSPORT_VARIABLE,
};
use protocol::connect::{self, ConnectError};
use protocol::credentials::Credentials;
use protocol::hello::{Accepted, DeviceKind};
use protocol::stats::MappedStats;
use tempfile::NamedTempFile;

use crate::arguments::Options;
use crate::embedded::Embedded;
use crate::exit::{Failure, NO_SERVER, REFUSED, USAGE};
use crate::wait::{Signals, exit_status};
use crate::{guest, stats};

/// The servers of a run, and the private one if there is.
pub(crate) struct Servers {
    pub(crate) addresses: Vec<Address>,
    pub(crate) embedded: Option<Embedded>,
}

/// The settings that the options and the environment make.
pub(crate) fn settings(options: &Options) -> Result<Settings, Failure> {
    Ok(config::resolve(&Sources::of_this_process(
        options.texts(),
    )?)?)
}

/// The configured servers that the transport allows, or a private one.
pub(crate) fn servers(settings: &Settings) -> Result<Servers, Failure> {
    let Some((list, origin)) = &settings.servers else {
        let directory = guest::executable_directory()?;
        let embedded = Embedded::start(&directory, settings.transport, settings.device)?;
        return Ok(Servers {
            addresses: vec![embedded.address().clone()],
            embedded: Some(embedded),
        });
    };
    let addresses: Vec<Address> = list
        .iter()
        .filter(|address| settings.transport.allows(address))
        .cloned()
        .collect();
    if addresses.is_empty() {
        let message = format!(
            "no server of {origin} uses the transport {}",
            settings.transport
        );
        return Err(Failure::new(USAGE, message));
    }
    Ok(Servers {
        addresses,
        embedded: None,
    })
}

/// Asks the first server that is there whether it has what is wanted.
fn check(servers: &Servers, settings: &Settings, devices: u32) -> Result<DeviceKind, Failure> {
    let credentials = Credentials::of_this_process().map_err(ConnectError::from)?;
    let answer = connect::first_of(&servers.addresses, |address| {
        let credential = credentials.for_server(address);
        connect::secure::fetch_snapshot(address, &credential)
            .map(|accepted| (address.clone(), accepted))
    });
    let (address, accepted) = answer.unwrap_or_else(|| Err(nobody()))?;
    let kind = kind_of(&accepted);
    let is_wanted = match settings.device {
        DeviceChoice::Auto => true,
        DeviceChoice::Gpu => kind == DeviceKind::Nvidia,
        DeviceChoice::Soft => kind == DeviceKind::Software,
    };
    if !is_wanted {
        let message = format!("{address} has no device of the kind {}", settings.device);
        return Err(Failure::new(REFUSED, message));
    }
    let present = accepted.devices.len();
    if devices as usize > present {
        let message =
            format!("{address} has {present} of the {devices} devices that were asked for");
        return Err(Failure::new(REFUSED, message));
    }
    Ok(kind)
}

/// The error of an empty list, which [`servers`] never makes.
fn nobody() -> ConnectError {
    ConnectError::Unreachable {
        address: Address::Unix("/".into()),
        reason: "no server configured".to_owned(),
    }
}

/// What a server's devices are made of.
pub(crate) fn kind_of(accepted: &Accepted) -> DeviceKind {
    accepted
        .server
        .as_ref()
        .map_or(DeviceKind::Unspecified, |server| server.device_kind())
}

/// Says it when the run is on the software GPU because nothing else was configured.
pub(crate) fn announce(servers: &Servers, kind: DeviceKind) {
    if servers.embedded.is_some() && kind == DeviceKind::Software {
        eprintln!("gpurun: no server configured; running on the SOFTWARE GPU (slow, CPU only)");
    }
}

/// Runs the program. Returns its status; where there is nothing left for us to do, becomes the program instead.
pub(crate) fn run(options: &Options, program: &[OsString]) -> Result<u8, Failure> {
    let begin = Instant::now();
    let guest = guest::find(&guest::executable_directory()?)?;
    let settings = settings(options)?;
    let servers = servers(&settings)?;
    let kind = check(&servers, &settings, options.devices.unwrap_or(1))?;
    announce(&servers, kind);
    let counts = Counts::if_wanted()?;

    let Some((name, arguments)) = program.split_first() else {
        return Err(Failure::new(USAGE, "no program to run"));
    };
    let mut command = Command::new(name);
    command.args(arguments);
    let variable = |name: &str| std::env::var_os(name);
    command
        .env(
            "LD_PRELOAD",
            guest::preload(&guest, variable("LD_PRELOAD").as_deref()),
        )
        .env(
            "LD_LIBRARY_PATH",
            guest::library_path(&guest, variable("LD_LIBRARY_PATH").as_deref()),
        )
        .env(SERVER_VARIABLE, Address::format_list(&servers.addresses))
        .env(TRANSPORT_VARIABLE, settings.transport.name())
        .env(DEVICE_VARIABLE, settings.device.name());
    if let Some(devices) = options.devices {
        command.env(DEVICES_VARIABLE, devices.to_string());
    }
    if let Some(counts) = &counts {
        command.env(STATS_FILE_VARIABLE, counts.file.path());
    }
    if servers.embedded.is_none() && counts.is_none() {
        return Err(Failure::of_program(name, &command.exec()));
    }
    let status = wait_for(&mut command, name)?;
    let wall = begin.elapsed();
    drop(servers);
    if let Some(counts) = counts {
        eprint!("{}", stats::text(&counts.mapped.report(), wall));
    }
    Ok(status)
}

fn wait_for(command: &mut Command, name: &std::ffi::OsStr) -> Result<u8, Failure> {
    let internal = |error| Failure::internal("cannot wait for the program", error);
    let signals = Signals::block().map_err(internal)?;
    let mut child = signals
        .spawn(command)
        .map_err(|error| Failure::of_program(name, &error))?;
    let status = signals.wait(&mut child).map_err(internal)?;
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

/// The status of a list of servers of which none was there.
pub(crate) const NONE_THERE: u8 = NO_SERVER;
