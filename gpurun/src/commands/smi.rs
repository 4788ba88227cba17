//! `gpurun smi`: how the devices of a lease are used at this moment.

use std::collections::BTreeMap;

use comfy_table::Table;
use control_plane::{Program, SliceUsage, UsageReply};
use protocol::hello::{DeviceUsage, Reading};
use serde_json::{Value, json};

use super::leases::{identity_value, lease_value, slice_value};
use crate::arguments::Options;
use crate::exit::{Failure, REFUSED};
use crate::pool::{self, Pool, PoolError};
use crate::run::{settings, shared_lease};
use crate::servers::configured;
use crate::text::{self, UNKNOWN, print};

/// Shows one lease, or all that are ours.
pub(super) fn smi(options: &Options, lease: Option<String>, as_json: bool) -> Result<u8, Failure> {
    let servers = configured(&settings(options)?)?;
    let found: Vec<(String, UsageReply)> = match lease.or_else(shared_lease) {
        Some(lease) => {
            let ask = move |pool: Pool| {
                let lease = lease.clone();
                async move { pool.usage(&lease).await }
            };
            let (server, usage) = pool::ask_all(&servers, ask)?.one()?;
            vec![(server.name, usage)]
        }
        None => {
            let all = pool::ask_all(&servers, usages)?.or_fail()?;
            let of_server = |(server, usages): (pool::Server, Vec<UsageReply>)| {
                usages
                    .into_iter()
                    .map(move |usage| (server.name.clone(), usage))
            };
            all.into_iter().flat_map(of_server).collect()
        }
    };
    if as_json {
        let values: Vec<Value> = found
            .iter()
            .map(|(name, usage)| value(name, usage))
            .collect();
        print(format_args!("{:#}", Value::Array(values)));
        return Ok(0);
    }
    if found.is_empty() {
        let message = "no lease: gpurun request makes one, and a program under gpurun has one";
        return Err(Failure::new(REFUSED, message));
    }
    for (name, usage) in &found {
        print(head(name, usage));
        print(device_table(usage));
        if usage.slices.iter().any(|slice| !slice.programs.is_empty()) {
            print("");
            print(program_table(usage));
        }
        print("");
    }
    Ok(0)
}

/// How all leases that the caller sees are used; one that ends meanwhile is left out.
async fn usages(pool: Pool) -> Result<Vec<UsageReply>, PoolError> {
    let mut usages = Vec::new();
    for lease in pool.leases().await?.leases {
        match pool.usage(&lease.id).await {
            Ok(usage) => usages.push(usage),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(usages)
}

fn head(name: &str, usage: &UsageReply) -> String {
    let lease = usage.lease.clone().unwrap_or_default();
    let until = match lease.expires_unix_ms {
        0 => String::new(),
        end => format!("   until {}", text::moment(end)),
    };
    format!(
        "lease {}   server {name}   driver {}   CUDA {}{until}",
        text::clean(&lease.id),
        text::or_dash(&usage.driver_release),
        text::cuda_version(usage.driver_version)
    )
}

fn device_table(usage: &UsageReply) -> Table {
    let mut table = text::table(&[
        "device",
        "name",
        "memory used",
        "memory MiB",
        "compute used",
        "share",
        "gpu",
        "temperature",
        "power",
    ]);
    for used in &usage.slices {
        let slice = used.slice.clone().unwrap_or_default();
        let device = used.device.clone().unwrap_or_default();
        table.add_row([
            slice.ordinal.to_string(),
            text::clean(&slice.name),
            text::mib(used.used_memory),
            text::mib(slice.memory),
            text::percent(used.used_compute),
            text::percent(slice.compute),
            reading(&device, Reading::GpuUtilization, |number| {
                format!("{number}%")
            }),
            reading(&device, Reading::Temperature, |number| format!("{number}C")),
            power(&device),
        ]);
    }
    text::align_right(&mut table, &[0, 2, 3, 4, 5, 6, 7, 8]);
    table
}

fn reading(device: &DeviceUsage, reading: Reading, words: impl Fn(u64) -> String) -> String {
    device
        .reading(reading)
        .map_or_else(|| UNKNOWN.to_owned(), words)
}

/// Watts drawn, of those that are allowed.
fn power(device: &DeviceUsage) -> String {
    let watts = |milliwatts: u64| format!("{}W", milliwatts / 1000);
    let drawn = reading(device, Reading::PowerUsage, watts);
    match device.reading(Reading::EnforcedPowerLimit) {
        Some(limit) if drawn != UNKNOWN => format!("{drawn}/{}", watts(limit)),
        _ => drawn,
    }
}

fn program_table(usage: &UsageReply) -> Table {
    let mut table = text::table(&[
        "device",
        "session",
        "process",
        "who",
        "program",
        "memory MiB",
    ]);
    for used in &usage.slices {
        let ordinal = used.slice.as_ref().map_or(0, |slice| slice.ordinal);
        for program in &used.programs {
            let identity = program.identity.clone().unwrap_or_default();
            table.add_row([
                ordinal.to_string(),
                program.session.to_string(),
                identity.process.to_string(),
                text::person(Some(&identity)),
                text::or_dash(&identity.program),
                text::mib(program.used_memory),
            ]);
        }
    }
    text::align_right(&mut table, &[0, 1, 2, 5]);
    table
}

fn value(name: &str, usage: &UsageReply) -> Value {
    let lease = usage.lease.clone().unwrap_or_default();
    let slices: Vec<Value> = usage.slices.iter().map(usage_value).collect();
    let mut value = lease_value(name, &lease);
    if let Some(map) = value.as_object_mut() {
        map.insert(
            "driver_version".into(),
            usage.driver_release.as_str().into(),
        );
        let cuda = text::cuda_version(usage.driver_version);
        map.insert("cuda_version".into(), cuda.into());
        map.insert("devices".into(), slices.into());
    }
    value
}

fn usage_value(used: &SliceUsage) -> Value {
    let slice = used.slice.clone().unwrap_or_default();
    let device = used.device.clone().unwrap_or_default();
    let readings: BTreeMap<&str, u64> = [
        ("gpu_utilization_percent", Reading::GpuUtilization),
        ("temperature_celsius", Reading::Temperature),
        ("power_milliwatts", Reading::PowerUsage),
        ("power_limit_milliwatts", Reading::EnforcedPowerLimit),
    ]
    .into_iter()
    .filter_map(|(name, reading)| Some((name, device.reading(reading)?)))
    .collect();
    let program = |program: &Program| {
        json!({
            "session": program.session,
            "who": identity_value(program.identity.as_ref()),
            "used_memory_bytes": program.used_memory,
        })
    };
    let programs: Vec<Value> = used.programs.iter().map(program).collect();
    let mut value = slice_value(&slice);
    if let Some(map) = value.as_object_mut() {
        map.insert("used_memory_bytes".into(), used.used_memory.into());
        map.insert("used_compute".into(), used.used_compute.into());
        map.insert("readings".into(), json!(readings));
        map.insert("programs".into(), programs.into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_plane::{Lease, Slice};
    use protocol::hello::Identity;

    fn usage() -> UsageReply {
        let mut device = DeviceUsage::default();
        device.readings.insert(Reading::Temperature.into(), 61);
        device.readings.insert(Reading::PowerUsage.into(), 70_500);
        device
            .readings
            .insert(Reading::EnforcedPowerLimit.into(), 250_000);
        let identity = Identity {
            user: "ann".to_owned(),
            host: "laptop".to_owned(),
            process: 7,
            program: "train".to_owned(),
            ..Identity::default()
        };
        UsageReply {
            lease: Some(Lease {
                id: "l-1".to_owned(),
                ..Lease::default()
            }),
            slices: vec![SliceUsage {
                slice: Some(Slice {
                    ordinal: 1,
                    name: "Fake".to_owned(),
                    memory: 4 << 30,
                    compute: 0.25,
                    ..Slice::default()
                }),
                used_memory: 300 << 20,
                used_compute: 0.5,
                device: Some(device),
                programs: vec![Program {
                    identity: Some(identity),
                    session: 3,
                    used_memory: 200 << 20,
                }],
            }],
            driver_release: "580.82.07".to_owned(),
            driver_version: 13000,
        }
    }

    #[test]
    fn a_lease_as_tables() {
        let usage = usage();
        assert_eq!(
            head("s", &usage),
            "lease l-1   server s   driver 580.82.07   CUDA 13.0"
        );
        let shown = device_table(&usage).to_string();
        let row: Vec<&str> = shown
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            row,
            [
                "1", "Fake", "300", "4096", "50%", "25%", "-", "61C", "70W/250W"
            ]
        );
        let shown = program_table(&usage).to_string();
        let row: Vec<&str> = shown
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(row, ["1", "3", "7", "ann@laptop", "train", "200"]);
    }

    #[test]
    fn a_lease_for_programs() {
        let value = value("s", &usage());
        assert_eq!(value["lease"], "l-1");
        assert_eq!(value["devices"][0]["used_memory_bytes"], 300 << 20);
        assert_eq!(value["devices"][0]["readings"]["temperature_celsius"], 61);
        assert_eq!(value["devices"][0]["programs"][0]["who"]["user"], "ann");
    }
}
