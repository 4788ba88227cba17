//! `gpurun list`: the devices of the servers, or of a private one.

use comfy_table::{CellAlignment, Table, presets};
use protocol::address::Address;
use protocol::connect::{self, ConnectError};
use protocol::credentials::Credentials;
use protocol::hello::{Accepted, DeviceKind, DeviceSnapshot};
use serde_json::{Value, json};

use crate::arguments::Options;
use crate::exit::Failure;
use crate::run::{NONE_THERE, announce, kind_of, servers, settings};
use crate::stats::kind_name;

/// Lists the devices of every server; a server that is not there is said and passed over.
pub(crate) fn list(options: &Options, as_json: bool) -> Result<u8, Failure> {
    let settings = settings(options)?;
    let servers = servers(&settings)?;
    let mut found = Vec::new();
    let mut last = None;
    let credentials = Credentials::of_this_process().map_err(ConnectError::from)?;
    for address in &servers.addresses {
        match connect::secure::fetch_snapshot(address, &credentials.for_server(address)) {
            Ok(accepted) => found.push((address, accepted)),
            Err(error) => last = Some((address, error)),
        }
    }
    match last {
        Some((_, error)) if found.is_empty() => return Err(error.into()),
        Some((_, error)) => eprintln!("gpurun: {error}"),
        None if found.is_empty() => return Ok(NONE_THERE),
        None => {}
    }
    announce(
        &servers,
        found
            .first()
            .map_or(DeviceKind::Unspecified, |(_, accepted)| kind_of(accepted)),
    );
    let name = |address: &Address| match servers.embedded {
        Some(_) => "this machine".to_owned(),
        None => address.to_string(),
    };
    let rows = found.iter().flat_map(|(address, accepted)| {
        let server = name(address);
        let row = move |device| (server.clone(), accepted, device);
        accepted.devices.iter().map(row)
    });
    if as_json {
        let devices: Vec<Value> = rows
            .map(|(server, accepted, device)| value(&server, accepted, device))
            .collect();
        println!("{:#}", Value::Array(devices));
    } else {
        println!("{}", table(rows));
    }
    Ok(0)
}

fn table<'a>(rows: impl Iterator<Item = (String, &'a Accepted, &'a DeviceSnapshot)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "server",
        "device",
        "name",
        "kind",
        "memory MiB",
        "compute",
        "driver",
        "uuid",
    ]);
    for (server, accepted, device) in rows {
        table.add_row([
            server,
            device.ordinal.to_string(),
            device.name.clone(),
            kind_name(kind_of(accepted)).to_owned(),
            (device.usable_memory >> 20).to_string(),
            compute(device),
            driver(accepted),
            device.uuid_text(),
        ]);
    }
    for column in [1, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn value(server: &str, accepted: &Accepted, device: &DeviceSnapshot) -> Value {
    json!({
        "server": server,
        "ordinal": device.ordinal,
        "name": device.name,
        "kind": kind_name(kind_of(accepted)),
        "total_memory_bytes": device.total_memory,
        "usable_memory_bytes": device.usable_memory,
        "compute_capability": compute(device),
        "cuda_version": driver(accepted),
        "uuid": device.uuid_text(),
        "pci": format!("{:04x}:{:02x}:{:02x}.0", device.pci_domain, device.pci_bus, device.pci_device),
        "server_version": accepted.server.as_ref().map(|server| server.version.as_str()),
    })
}

fn compute(device: &DeviceSnapshot) -> String {
    format!("{}.{}", device.compute_major, device.compute_minor)
}

/// The CUDA version of the driver: 13010 is 13.1.
fn driver(accepted: &Accepted) -> String {
    let version = accepted
        .server
        .as_ref()
        .map_or(0, |server| server.driver_version);
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// As NVIDIA's tools write it.
#[cfg(test)]
mod tests {
    use super::*;
    use protocol::hello::ServerInfo;

    #[test]
    fn versions_and_uuids() {
        let device = DeviceSnapshot {
            uuid: (0..16).collect(),
            compute_major: 8,
            compute_minor: 6,
            ..DeviceSnapshot::default()
        };
        assert_eq!(
            device.uuid_text(),
            "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
        );
        assert_eq!(compute(&device), "8.6");
        let server = ServerInfo {
            driver_version: 12080,
            ..ServerInfo::default()
        };
        assert_eq!(
            driver(&Accepted {
                server: Some(server),
                ..Accepted::default()
            }),
            "12.8"
        );
    }
}
