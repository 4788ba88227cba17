//! The options: what stands in any command, and what is said of a lease.

use std::time::Duration;

use clap::Args;
use protocol::config::Texts;
use protocol::filter::Filter;
use protocol::limits::MAX_DEVICES;
use protocol::size;

/// The options of every command.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Options {
    /// The servers
    #[arg(
        long,
        value_name = "LIST",
        global = true,
        help = "The servers: [tcp://]HOST[:PORT] or unix:PATH, with commas between"
    )]
    pub(crate) server: Option<String>,
    /// How to reach them: auto, tcp, unix or rdma
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) transport: Option<String>,
    /// The RDMA device, where several are there
    #[arg(
        long,
        value_name = "DEVICE",
        global = true,
        help = "The RDMA device, DEVICE[:PORT[:GID]] [default: the one that has the connection's address]"
    )]
    pub(crate) rdma_device: Option<String>,
    /// What devices are made of: auto, gpu or soft
    #[arg(long, value_name = "KIND", global = true)]
    pub(crate) device: Option<String>,
}

impl Options {
    /// The options as the first source of settings.
    pub(crate) fn texts(&self) -> Texts {
        Texts {
            server: self.server.clone(),
            transport: self.transport.clone(),
            device: self.device.clone(),
            rdma_device: self.rdma_device.clone(),
            ..Texts::default()
        }
    }
}

/// What is said of a lease.
#[derive(Args, Debug, Clone, Default, PartialEq)]
pub(crate) struct NeedOptions {
    /// How many devices the program sees [default: 1]
    #[arg(short = 'n', long, value_name = "N", help_heading = "Lease",
        value_parser = clap::value_parser!(u32).range(1..=MAX_DEVICES as i64))]
    pub(crate) devices: Option<u32>,
    /// The part of each device: of its memory and, when others want it too, of its compute time [default: 1]
    #[arg(short = 'p', long, value_name = "FRACTION", help_heading = "Lease", value_parser = fraction)]
    pub(crate) partial: Option<f64>,
    /// The memory of each device, in MiB or with a unit, and as large a part of its compute time
    #[arg(short = 'm', long, value_name = "MIB", help_heading = "Lease", value_parser = size::parse_bytes,
        conflicts_with = "partial")]
    pub(crate) memory: Option<u64>,
    /// The part of each device's compute time when others want it too [default: as of the memory]
    #[arg(long, value_name = "FRACTION", help_heading = "Lease", value_parser = fraction)]
    pub(crate) compute: Option<f64>,
    /// What devices and servers must be like; several all hold
    #[arg(
        long = "filter",
        value_name = "KEY=VALUE",
        help_heading = "Lease",
        help = "What devices and servers must be like, also >= and <=; several all hold. Keys: server.addr, server.hostname, \
            server.has-rdma, server.driver-version, server.cuda-version, device.id, device.name, device.phy-memory"
    )]
    pub(crate) filters: Vec<Filter>,
    /// How long to wait for it, such as 90s or 10m [default: without end]
    #[arg(long, value_name = "DURATION", help_heading = "Lease", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Fail at once if nothing is free
    #[arg(long, help_heading = "Lease", conflicts_with = "wait")]
    pub(crate) no_wait: bool,
}

impl NeedOptions {
    /// Takes from others what is not said here.
    pub(super) fn or(&mut self, others: &mut Self) {
        self.devices = others.devices.or(self.devices);
        self.partial = others.partial.or(self.partial);
        self.memory = others.memory.or(self.memory);
        self.compute = others.compute.or(self.compute);
        self.filters.append(&mut others.filters);
        self.wait = others.wait.or(self.wait);
        self.no_wait |= others.no_wait;
    }

    /// What clap sees itself where all options stand in one place.
    pub(super) fn require_no_conflict(&self) -> Result<(), String> {
        if self.partial.is_some() && self.memory.is_some() {
            return Err("-p and -m cannot be used together".to_owned());
        }
        if self.wait.is_some() && self.no_wait {
            return Err("--wait and --no-wait cannot be used together".to_owned());
        }
        Ok(())
    }
}

/// A part of one: above 0, at most 1.
fn fraction(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().parse().ok();
    number
        .filter(|number| *number > 0.0 && *number <= 1.0)
        .ok_or_else(|| "a fraction is above 0 and at most 1, such as 0.25".to_owned())
}

/// A time as people write it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; write a number and a unit, such as 30s, 10m or 8h"))
}
