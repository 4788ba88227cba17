//! From options to what is asked for, and of whom.
//!
//! Rules: what a program shares cannot be chosen again; only the client knows by which address it reaches a server, so `server.addr` decides here
//! who is asked, and every other filter travels.

use control_plane::{Comparison as WireComparison, DeviceNeed};
use protocol::address::Address;
use protocol::config::{
    COMPUTE_VARIABLE, DEVICES_VARIABLE, DeviceChoice, MEMORY_VARIABLE, device_request,
};
use protocol::filter::{Comparison, Filter, Key};
use protocol::hello::DeviceKind;

use super::Patience;
use crate::arguments::NeedOptions;
use crate::exit::{Failure, USAGE};
use crate::pool::Server;

impl NeedOptions {
    /// With what the environment says where no option does; a part of memory and bytes of it are one thing.
    pub(crate) fn with_variables(
        mut self,
        said: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let unless = |is_said: bool, variable| if is_said { None } else { said(variable) };
        let is_memory_said = self.partial.is_some() || self.memory.is_some();
        let request = device_request(
            unless(self.devices.is_some(), DEVICES_VARIABLE),
            unless(is_memory_said, MEMORY_VARIABLE),
            unless(self.compute.is_some(), COMPUTE_VARIABLE),
        )
        .map_err(|error| Failure::new(USAGE, error.to_string()))?;
        self.devices = self.devices.or(Some(request.count));
        let some = |fraction: f64| (fraction > 0.0).then_some(fraction);
        self.partial = self.partial.or(some(request.memory_fraction));
        self.memory = self
            .memory
            .or((request.memory_bytes > 0).then_some(request.memory_bytes));
        self.compute = self.compute.or(some(request.compute_fraction));
        Ok(self)
    }

    /// What is asked for.
    pub(crate) fn need(&self, device: DeviceChoice) -> DeviceNeed {
        let kind = match device {
            DeviceChoice::Auto => DeviceKind::Unspecified,
            DeviceChoice::Gpu => DeviceKind::Nvidia,
            DeviceChoice::Soft => DeviceKind::Software,
        };
        let travelling = self
            .filters
            .iter()
            .filter(|filter| filter.key() != Key::ServerAddress);
        DeviceNeed {
            count: self.devices.unwrap_or(1),
            memory_fraction: self.partial.unwrap_or(0.0),
            memory_bytes: self.memory.unwrap_or(0),
            compute_fraction: self.compute.unwrap_or(0.0),
            filters: travelling.map(wire).collect(),
            kind: kind.into(),
        }
    }

    /// How long to wait.
    pub(crate) fn patience(&self) -> Patience {
        match (self.no_wait, self.wait) {
            (true, _) => Patience::None,
            (false, Some(time)) => Patience::Until(time),
            (false, None) => Patience::Endless,
        }
    }

    /// The servers that may be asked.
    pub(crate) fn allowed(&self, servers: Vec<Server>) -> Result<Vec<Server>, Failure> {
        let wanted = self
            .filters
            .iter()
            .filter(|filter| filter.key() == Key::ServerAddress);
        let wanted: Vec<&Filter> = wanted.collect();
        let is_allowed = |server: &Server| wanted.iter().all(|filter| is_at(server, filter.text()));
        let allowed: Vec<Server> = servers
            .iter()
            .filter(|one| is_allowed(one))
            .cloned()
            .collect();
        if allowed.is_empty() {
            let texts: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
            let message = format!(
                "no server is as {} says; there is {}",
                texts.join(" and "),
                names.join(", ")
            );
            return Err(Failure::new(USAGE, message));
        }
        Ok(allowed)
    }

    /// Refuses options that say something about a lease where there is one already; `what` says which.
    pub(crate) fn require_none(&self, what: &str) -> Result<(), Failure> {
        let said = [
            ("-n", self.devices.is_some()),
            ("-p", self.partial.is_some()),
            ("-m", self.memory.is_some()),
            ("--compute", self.compute.is_some()),
            ("--filter", !self.filters.is_empty()),
            ("--wait", self.wait.is_some()),
            ("--no-wait", self.no_wait),
        ];
        let Some((name, _)) = said.iter().find(|(_, is_said)| *is_said) else {
            return Ok(());
        };
        Err(Failure::new(
            USAGE,
            format!("{name} cannot be chosen here: {what}"),
        ))
    }
}

/// Whether the server is at this address: as a whole, or by its host alone.
fn is_at(server: &Server, text: &str) -> bool {
    let is_host = match &server.address {
        Address::Tcp { host, .. } => host.eq_ignore_ascii_case(text),
        Address::Unix(path) => path.as_os_str() == text,
    };
    is_host || text.parse() == Ok(server.address.clone())
}

fn wire(filter: &Filter) -> control_plane::Filter {
    let comparison = match filter.comparison() {
        Comparison::Equal => WireComparison::Equal,
        Comparison::AtLeast => WireComparison::AtLeast,
        Comparison::AtMost => WireComparison::AtMost,
    };
    control_plane::Filter {
        key: filter.key().name().to_owned(),
        comparison: comparison.into(),
        value: filter.text().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::credentials::Credential;
    use std::time::Duration;

    fn server(address: &str) -> Server {
        let address = address.parse().expect("an address");
        Server::new(address, Credential::default())
    }

    fn filters(texts: &[&str]) -> NeedOptions {
        let filters = texts.iter().map(|text| text.parse().expect("a filter"));
        NeedOptions {
            filters: filters.collect(),
            ..NeedOptions::default()
        }
    }

    #[test]
    fn nothing_said_is_one_whole_device_without_end() {
        let options = NeedOptions::default();
        let need = options.need(DeviceChoice::Auto);
        assert_eq!(
            need,
            DeviceNeed {
                count: 1,
                ..DeviceNeed::default()
            }
        );
        assert_eq!(options.patience(), Patience::Endless);
        assert!(options.require_none("x").is_ok());
    }

    #[test]
    fn options_come_before_variables() {
        let said = |name: &str| {
            let text = match name {
                DEVICES_VARIABLE => "3",
                MEMORY_VARIABLE => "0.25",
                COMPUTE_VARIABLE => "0.5",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let with = |options: NeedOptions| options.with_variables(said).expect("understood");
        let all = with(NeedOptions::default());
        assert_eq!(
            (all.devices, all.partial, all.memory, all.compute),
            (Some(3), Some(0.25), None, Some(0.5))
        );
        let some = with(NeedOptions {
            devices: Some(1),
            memory: Some(1 << 30),
            ..NeedOptions::default()
        });
        assert_eq!(
            (some.devices, some.partial, some.memory, some.compute),
            (Some(1), None, Some(1 << 30), Some(0.5))
        );
        let wrong = NeedOptions::default().with_variables(|_| Some("x".to_owned()));
        let failure = wrong.expect_err("wrong");
        assert_eq!(failure.status(), USAGE);
        assert!(failure.to_string().starts_with("GPURUN_"), "{failure}");
    }

    #[test]
    fn what_is_said_travels_but_not_the_address() {
        let options = NeedOptions {
            devices: Some(2),
            partial: Some(0.25),
            compute: Some(0.5),
            no_wait: true,
            ..filters(&["device.phy-memory>=16GiB", "server.addr=a"])
        };
        let need = options.need(DeviceChoice::Soft);
        assert_eq!(
            (need.count, need.memory_fraction, need.compute_fraction),
            (2, 0.25, 0.5)
        );
        assert_eq!(need.kind(), DeviceKind::Software);
        assert_eq!(need.filters.len(), 1);
        assert_eq!(need.filters[0].comparison(), WireComparison::AtLeast);
        assert_eq!(need.filters[0].value, "16GiB");
        assert_eq!(options.patience(), Patience::None);
    }

    #[test]
    fn only_the_servers_of_an_address_are_asked() {
        let all = ["a", "a:99", "unix:/run/s"].map(server).to_vec();
        let allowed = |texts: &[&str]| -> Vec<String> {
            let allowed = filters(texts).allowed(all.clone()).expect("some");
            allowed.into_iter().map(|server| server.name).collect()
        };
        assert_eq!(allowed(&[]).len(), 3);
        assert_eq!(allowed(&["server.addr=A"]), ["tcp://a:7370", "tcp://a:99"]);
        assert_eq!(allowed(&["server.addr=a:99"]), ["tcp://a:99"]);
        assert_eq!(allowed(&["server.addr=unix:/run/s"]), ["unix:/run/s"]);
        let failure = filters(&["server.addr=b"]).allowed(all.clone());
        let failure = failure.expect_err("none");
        assert_eq!(failure.status(), USAGE);
        assert!(
            failure.to_string().contains("there is tcp://a:7370, "),
            "{failure}"
        );
    }

    #[test]
    fn a_shared_lease_is_not_chosen_again() {
        let options = NeedOptions {
            wait: Some(Duration::from_secs(1)),
            ..NeedOptions::default()
        };
        let failure = options.require_none("it is shared").expect_err("refused");
        assert_eq!(
            failure.to_string(),
            "--wait cannot be chosen here: it is shared"
        );
    }
}
