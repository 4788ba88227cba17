//! `gpurun list`: the devices of the servers, or of a private one, and what is free of them.
//!
//! An older server, which gives no leases, is asked for its devices alone.

use comfy_table::Table;
use control_plane::{ListReply, PoolDevice};
use protocol::connect;
use protocol::hello::{Accepted, DeviceKind, DeviceSnapshot, ServerInfo};
use serde_json::{Value, json};

use crate::arguments::Options;
use crate::exit::Failure;
use crate::pool::{self, Pool, PoolError, Server};
use crate::run::{announce, settings};
use crate::servers::Servers;
use crate::stats::kind_name;
use crate::text::{self, UNKNOWN, print, say};

/// What a server has.
struct Found {
    name: String,
    server: ServerInfo,
    devices: Vec<PoolDevice>,
    /// What only a pool knows.
    pool: Option<PoolFacts>,
}

struct PoolFacts {
    queued: u32,
    draining: bool,
    has_rdma: bool,
}

/// Lists the devices of every server; a server that is not there is said and passed over.
pub(super) fn list(options: &Options, as_json: bool) -> Result<u8, Failure> {
    let servers = Servers::of(&settings(options)?)?;
    let ask = |pool: Pool| async move { pool.list().await };
    let mut answers = pool::ask_all(&servers.list, ask)?;
    let mut found: Vec<(Server, Found)> = std::mem::take(&mut answers.found)
        .into_iter()
        .map(|(server, reply)| (server.clone(), Found::of_pool(server.name, reply)))
        .collect();
    let (older, failed): (Vec<_>, Vec<_>) = std::mem::take(&mut answers.failed)
        .into_iter()
        .partition(|(_, error)| matches!(error, PoolError::NotServed(_)));
    answers.failed = failed;
    for (server, _) in older {
        match connect::secure::fetch_snapshot(&server.address, &server.credential) {
            Ok(accepted) => {
                let snapshot = Found::of_snapshot(server.name.clone(), accepted);
                found.push((server, snapshot));
            }
            Err(error) => answers.failed.push((server, error.into())),
        }
    }
    let answers = pool::Answers {
        found,
        failed: answers.failed,
    };
    let found = answers.or_fail()?;
    let found: Vec<Found> = found.into_iter().map(|(_, found)| found).collect();
    if servers.is_private() {
        let kind = found.first().map(|found| found.server.device_kind());
        announce(kind.unwrap_or(DeviceKind::Unspecified));
    }
    if as_json {
        let devices = found.iter().flat_map(Found::values);
        print(format_args!("{:#}", Value::Array(devices.collect())));
    } else {
        print(table(&found));
        for found in &found {
            found.say_more();
        }
    }
    Ok(0)
}

impl Found {
    fn of_pool(name: String, reply: ListReply) -> Self {
        Self {
            name,
            server: reply.server.unwrap_or_default(),
            devices: reply.devices,
            pool: Some(PoolFacts {
                queued: reply.queued,
                draining: reply.draining,
                has_rdma: reply.has_rdma,
            }),
        }
    }

    fn of_snapshot(name: String, accepted: Accepted) -> Self {
        let device = |device: DeviceSnapshot| PoolDevice {
            usable_memory: device.usable_memory,
            device: Some(device),
            ..PoolDevice::default()
        };
        Self {
            name,
            server: accepted.server.unwrap_or_default(),
            devices: accepted.devices.into_iter().map(device).collect(),
            pool: None,
        }
    }

    fn say_more(&self) {
        match &self.pool {
            None => say(format_args!("{} is older and gives no leases", self.name)),
            Some(facts) if facts.draining => {
                say(format_args!(
                    "{} is draining: it gives no new leases",
                    self.name
                ));
            }
            Some(_) => {}
        }
    }

    fn row(&self, device: &PoolDevice) -> Vec<String> {
        let snapshot = device.device.clone().unwrap_or_default();
        let of_pool = |text: String| match self.pool {
            Some(_) => text,
            None => UNKNOWN.to_owned(),
        };
        let queued = self.pool.as_ref().map_or(0, |facts| facts.queued);
        vec![
            self.name.clone(),
            snapshot.ordinal.to_string(),
            text::clean(&snapshot.name),
            kind_name(self.server.device_kind()).to_owned(),
            text::mib(snapshot.total_memory),
            text::mib(device.usable_memory),
            of_pool(text::mib(device.free_memory)),
            of_pool(text::part(device.free_compute)),
            of_pool(device.leases.to_string()),
            of_pool(text::mib(device.least_slice)),
            of_pool(queued.to_string()),
            compute(&snapshot),
            text::cuda_version(self.server.driver_version),
            snapshot.uuid_text(),
        ]
    }

    fn values(&self) -> impl Iterator<Item = Value> + '_ {
        self.devices.iter().map(|device| self.value(device))
    }

    fn value(&self, pool_device: &PoolDevice) -> Value {
        let device = pool_device.device.clone().unwrap_or_default();
        let mut value = json!({
            "server": self.name,
            "host": self.server.host,
            "ordinal": device.ordinal,
            "name": device.name,
            "kind": kind_name(self.server.device_kind()),
            "total_memory_bytes": device.total_memory,
            "usable_memory_bytes": pool_device.usable_memory,
            "compute_capability": compute(&device),
            "cuda_version": text::cuda_version(self.server.driver_version),
            "driver_version": Some(&self.server.driver_release).filter(|text| !text.is_empty()),
            "uuid": device.uuid_text(),
            "pci": format!("{:04x}:{:02x}:{:02x}.0", device.pci_domain, device.pci_bus, device.pci_device),
            "server_version": self.server.version,
        });
        if let (Some(facts), Some(map)) = (&self.pool, value.as_object_mut()) {
            map.insert("free_memory_bytes".into(), pool_device.free_memory.into());
            map.insert("free_compute".into(), pool_device.free_compute.into());
            map.insert("leases".into(), pool_device.leases.into());
            map.insert("least_slice_bytes".into(), pool_device.least_slice.into());
            map.insert("queued".into(), facts.queued.into());
            map.insert("draining".into(), facts.draining.into());
            map.insert("has_rdma".into(), facts.has_rdma.into());
        }
        value
    }
}

const HEADERS: [&str; 14] = [
    "server",
    "device",
    "name",
    "kind",
    "memory MiB",
    "usable",
    "free",
    "free compute",
    "leases",
    "least MiB",
    "queue",
    "compute",
    "driver",
    "uuid",
];

fn table(found: &[Found]) -> Table {
    let mut table = text::table(&HEADERS);
    for found in found {
        for device in &found.devices {
            table.add_row(found.row(device));
        }
    }
    text::align_right(&mut table, &[1, 4, 5, 6, 7, 8, 9, 10]);
    table
}

fn compute(device: &DeviceSnapshot) -> String {
    format!("{}.{}", device.compute_major, device.compute_minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> PoolDevice {
        PoolDevice {
            device: Some(DeviceSnapshot {
                name: "Fake".to_owned(),
                uuid: (0..16).collect(),
                total_memory: 16 << 30,
                compute_major: 8,
                compute_minor: 6,
                ..DeviceSnapshot::default()
            }),
            usable_memory: 15 << 30,
            free_memory: 5 << 30,
            free_compute: 0.25,
            leases: 2,
            least_slice: 512 << 20,
        }
    }

    #[test]
    fn what_is_free_is_told() {
        let reply = ListReply {
            server: Some(ServerInfo {
                driver_version: 12080,
                ..ServerInfo::default()
            }),
            devices: vec![device()],
            queued: 3,
            ..ListReply::default()
        };
        let found = [Found::of_pool("s".to_owned(), reply)];
        let shown = table(&found).to_string();
        let row: Vec<&str> = shown
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            row,
            [
                "s",
                "0",
                "Fake",
                "UNKNOWN",
                "16384",
                "15360",
                "5120",
                "0.25",
                "2",
                "512",
                "3",
                "8.6",
                "12.8",
                "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
            ]
        );
        let value = found[0].values().next().expect("a device");
        assert_eq!(value["free_memory_bytes"], 5_u64 << 30);
        assert_eq!(value["least_slice_bytes"], 512 << 20);
        assert_eq!(value["cuda_version"], "12.8");
    }

    #[test]
    fn an_older_server_has_devices_only() {
        let accepted = Accepted {
            devices: device().device.into_iter().collect(),
            ..Accepted::default()
        };
        let found = [Found::of_snapshot("s".to_owned(), accepted)];
        let shown = table(&found).to_string();
        let row: Vec<&str> = shown
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(row[6..11], ["-"; 5]);
        let value = found[0].values().next().expect("a device");
        assert_eq!(value["free_memory_bytes"], Value::Null);
    }
}
