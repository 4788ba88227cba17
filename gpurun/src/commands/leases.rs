//! `gpurun leases`: who has what, and who waits.

use std::time::SystemTime;

use comfy_table::Table;
use control_plane::{DeviceNeed, Lease, LeasesReply, Waiting};
use protocol::hello::Identity;
use protocol::size::Bytes;
use serde_json::{Value, json};

use crate::arguments::Options;
use crate::exit::Failure;
use crate::pool::{self, Pool, Server};
use crate::run::settings;
use crate::servers::configured;
use crate::text::{self, UNKNOWN, print};

/// Lists the leases and the queue of every server.
pub(super) fn leases(options: &Options, as_json: bool) -> Result<u8, Failure> {
    let servers = configured(&settings(options)?)?;
    let ask = |pool: Pool| async move { pool.leases().await };
    let found = pool::ask_all(&servers, ask)?.or_fail()?;
    if as_json {
        print(format_args!("{:#}", value(&found)));
        return Ok(0);
    }
    let now = SystemTime::now();
    let count =
        |of: fn(&LeasesReply) -> usize| -> usize { found.iter().map(|(_, reply)| of(reply)).sum() };
    match count(|reply| reply.leases.len()) {
        0 => print("no leases"),
        _ => print(lease_table(&found, now)),
    }
    if count(|reply| reply.waiting.len()) > 0 {
        print("");
        print(queue_table(&found, now));
    }
    Ok(0)
}

fn lease_table(found: &[(Server, LeasesReply)], now: SystemTime) -> Table {
    let mut table = text::table(&[
        "lease", "server", "tenant", "holder", "program", "devices", "since", "until", "sessions",
        "state",
    ]);
    for (server, reply) in found {
        for lease in &reply.leases {
            table.add_row([
                text::clean(&lease.id),
                server.name.clone(),
                text::clean(&lease.tenant),
                text::person(lease.holder.as_ref()),
                program(lease.holder.as_ref()),
                slices(lease),
                text::moment(lease.granted_unix_ms),
                until(lease),
                lease.sessions.to_string(),
                state(lease, now),
            ]);
        }
    }
    text::align_right(&mut table, &[8]);
    table
}

fn queue_table(found: &[(Server, LeasesReply)], now: SystemTime) -> Table {
    let mut table = text::table(&[
        "place", "server", "tenant", "who", "program", "wants", "waits", "for",
    ]);
    for (server, reply) in found {
        for waiting in &reply.waiting {
            let place = waiting.place.clone().unwrap_or_default();
            table.add_row([
                place.position.to_string(),
                server.name.clone(),
                text::clean(&waiting.tenant),
                text::person(waiting.identity.as_ref()),
                program(waiting.identity.as_ref()),
                wants(waiting),
                text::ago(waiting.since_unix_ms, now),
                text::or_dash(&place.reason),
            ]);
        }
    }
    text::align_right(&mut table, &[0]);
    table
}

fn program(identity: Option<&Identity>) -> String {
    text::or_dash(identity.map_or("", |identity| &identity.program))
}

/// `0: 4 GiB × 0.25`: the number, the memory, the compute of each part.
fn slices(lease: &Lease) -> String {
    let slice = |slice: &control_plane::Slice| {
        let (memory, compute) = (Bytes(slice.memory), text::part(slice.compute));
        format!("{}: {memory} × {compute}", slice.ordinal)
    };
    let slices: Vec<String> = lease.slices.iter().map(slice).collect();
    slices.join(", ")
}

fn until(lease: &Lease) -> String {
    match (lease.expires_unix_ms, lease.detached) {
        (0, true) => "released".to_owned(),
        (0, false) => "its program ends".to_owned(),
        (end, _) => text::moment(end),
    }
}

fn state(lease: &Lease, now: SystemTime) -> String {
    match lease.idle_since_unix_ms {
        0 => "in use".to_owned(),
        since => format!("idle for {}", text::ago(since, now)),
    }
}

fn wants(waiting: &Waiting) -> String {
    let Some(need) = &waiting.need else {
        return UNKNOWN.to_owned();
    };
    let DeviceNeed {
        memory_fraction,
        memory_bytes,
        compute_fraction,
        ..
    } = *need;
    let mut words = text::count(need.count.max(1) as usize, "device");
    if memory_fraction > 0.0 {
        words.push_str(&format!(" × {}", text::part(memory_fraction)));
    }
    if memory_bytes > 0 {
        words.push_str(&format!(" with {}", Bytes(memory_bytes)));
    }
    if compute_fraction > 0.0 {
        words.push_str(&format!(", compute {}", text::part(compute_fraction)));
    }
    text::clean(&words)
}

/// A lease for programs.
pub(super) fn lease_value(server: &str, lease: &Lease) -> Value {
    let slices: Vec<Value> = lease.slices.iter().map(slice_value).collect();
    json!({
        "lease": lease.id,
        "server": server,
        "tenant": lease.tenant,
        "holder": identity_value(lease.holder.as_ref()),
        "devices": slices,
        "granted_unix_ms": lease.granted_unix_ms,
        "expires_unix_ms": some(lease.expires_unix_ms),
        "detached": lease.detached,
        "sessions": lease.sessions,
        "idle_since_unix_ms": some(lease.idle_since_unix_ms),
    })
}

/// A part of a device for programs.
pub(super) fn slice_value(slice: &control_plane::Slice) -> Value {
    json!({
        "ordinal": slice.ordinal,
        "name": slice.name,
        "memory_bytes": slice.memory,
        "compute": slice.compute,
        "device_memory_bytes": slice.device_memory,
    })
}

/// Who it is, for programs.
pub(super) fn identity_value(identity: Option<&Identity>) -> Value {
    let identity = identity.cloned().unwrap_or_default();
    json!({
        "host": identity.host,
        "user": identity.user,
        "process": identity.process,
        "program": identity.program,
    })
}

/// 0 is none.
fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

fn value(found: &[(Server, LeasesReply)]) -> Value {
    let leases = found.iter().flat_map(|(server, reply)| {
        let value = |lease| lease_value(&server.name, lease);
        reply.leases.iter().map(value)
    });
    let queue = found.iter().flat_map(|(server, reply)| {
        let value = |waiting| waiting_value(&server.name, waiting);
        reply.waiting.iter().map(value)
    });
    let (leases, queue): (Vec<Value>, Vec<Value>) = (leases.collect(), queue.collect());
    json!({ "leases": leases, "queue": queue })
}

fn waiting_value(server: &str, waiting: &Waiting) -> Value {
    let need = waiting.need.clone().unwrap_or_default();
    let place = waiting.place.clone().unwrap_or_default();
    json!({
        "server": server,
        "tenant": waiting.tenant,
        "who": identity_value(waiting.identity.as_ref()),
        "devices": need.count.max(1),
        "memory_fraction": need.memory_fraction,
        "memory_bytes": need.memory_bytes,
        "compute_fraction": need.compute_fraction,
        "since_unix_ms": waiting.since_unix_ms,
        "position": place.position,
        "reason": place.reason,
        "fits_now": place.fits_now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_plane::{Queued, Slice};
    use protocol::credentials::Credential;
    use std::time::Duration;

    fn found() -> Vec<(Server, LeasesReply)> {
        let server = Server::new("a".parse().expect("an address"), Credential::default());
        let identity = Identity {
            host: "laptop".to_owned(),
            user: "ann".to_owned(),
            process: 7,
            program: "train\u{1b}[2J".to_owned(),
            ..Identity::default()
        };
        let lease = Lease {
            id: "l-1".to_owned(),
            tenant: "team".to_owned(),
            holder: Some(identity.clone()),
            slices: vec![Slice {
                ordinal: 2,
                memory: 4 << 30,
                compute: 0.25,
                ..Slice::default()
            }],
            granted_unix_ms: 1_000_000_000_000,
            idle_since_unix_ms: 1_000_000_000_000,
            ..Lease::default()
        };
        let waiting = Waiting {
            tenant: "other".to_owned(),
            identity: Some(identity),
            need: Some(DeviceNeed {
                count: 2,
                memory_fraction: 0.5,
                ..DeviceNeed::default()
            }),
            since_unix_ms: 1_000_000_000_000,
            place: Some(Queued {
                position: 1,
                length: 1,
                reason: "nothing is free".to_owned(),
                fits_now: String::new(),
            }),
        };
        let reply = LeasesReply {
            leases: vec![lease],
            waiting: vec![waiting],
        };
        vec![(server, reply)]
    }

    #[test]
    fn leases_and_the_queue_as_tables() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_065);
        let leases = lease_table(&found(), now).to_string();
        for word in [
            "l-1",
            "team",
            "ann@laptop",
            "train\u{FFFD}[2J",
            "2: 4 GiB × 0.25",
            "2001-09-09T01:46:40Z",
            "its program ends",
            "idle for 1m 5s",
        ] {
            assert!(leases.contains(word), "{word}\n{leases}");
        }
        let queue = queue_table(&found(), now).to_string();
        for word in ["other", "2 devices × 0.5", "1m 5s", "nothing is free"] {
            assert!(queue.contains(word), "{word}\n{queue}");
        }
    }

    #[test]
    fn leases_and_the_queue_for_programs() {
        let value = value(&found());
        assert_eq!(value["leases"][0]["lease"], "l-1");
        assert_eq!(
            value["leases"][0]["devices"][0]["memory_bytes"],
            4_u64 << 30
        );
        assert_eq!(value["leases"][0]["expires_unix_ms"], Value::Null);
        assert_eq!(value["queue"][0]["position"], 1);
    }
}
