//! `gpurun stats`: what tenants have used, on each server since it began to count.

use comfy_table::Table;
use control_plane::{StatsReply, TenantUsage};
use serde_json::{Value, json};

use crate::arguments::Options;
use crate::exit::Failure;
use crate::pool::{self, Pool, Server};
use crate::run::settings;
use crate::servers::configured;
use crate::text::{self, print};

/// Shows what was used.
pub(super) fn stats(options: &Options, as_json: bool) -> Result<u8, Failure> {
    let servers = configured(&settings(options)?)?;
    let ask = |pool: Pool| async move { pool.stats().await };
    let found = pool::ask_all(&servers, ask)?.or_fail()?;
    if as_json {
        print(format_args!("{:#}", value(&found)));
    } else if found.iter().all(|(_, reply)| reply.tenants.is_empty()) {
        print("nobody has used anything");
    } else {
        print(table(&found));
    }
    Ok(0)
}

fn hours(seconds: f64) -> String {
    format!("{:.2}", seconds / 3600.0)
}

fn table(found: &[(Server, StatsReply)]) -> Table {
    let mut table = text::table(&[
        "server",
        "tenant",
        "leased GPU h",
        "used GPU h",
        "leased GiB h",
        "leases",
        "sessions",
        "since",
    ]);
    for (server, reply) in found {
        for usage in &reply.tenants {
            table.add_row([
                server.name.clone(),
                text::clean(&usage.tenant),
                hours(usage.leased_gpu_seconds),
                hours(usage.used_gpu_seconds),
                format!("{:.2}", usage.leased_gib_hours),
                usage.leases.to_string(),
                usage.sessions.to_string(),
                text::moment(reply.since_unix_ms),
            ]);
        }
    }
    text::align_right(&mut table, &[2, 3, 4, 5, 6]);
    table
}

fn value(found: &[(Server, StatsReply)]) -> Value {
    let values = found.iter().flat_map(|(server, reply)| {
        let since = reply.since_unix_ms;
        let value = move |usage: &TenantUsage| {
            json!({
                "server": server.name,
                "tenant": usage.tenant,
                "leased_gpu_seconds": usage.leased_gpu_seconds,
                "used_gpu_seconds": usage.used_gpu_seconds,
                "leased_gib_hours": usage.leased_gib_hours,
                "leases": usage.leases,
                "sessions": usage.sessions,
                "since_unix_ms": since,
            })
        };
        reply.tenants.iter().map(value)
    });
    Value::Array(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::credentials::Credential;

    #[test]
    fn what_a_tenant_has_used() {
        let server = Server::new("a".parse().expect("an address"), Credential::default());
        let reply = StatsReply {
            tenants: vec![TenantUsage {
                tenant: "team".to_owned(),
                leased_gpu_seconds: 5400.0,
                used_gpu_seconds: 36.0,
                leased_gib_hours: 12.5,
                leases: 3,
                sessions: 4,
            }],
            since_unix_ms: 1_000_000_000_000,
        };
        let found = [(server, reply)];
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
                "tcp://a:7370",
                "team",
                "1.50",
                "0.01",
                "12.50",
                "3",
                "4",
                "2001-09-09T01:46:40Z"
            ]
        );
        assert_eq!(value(&found)[0]["leased_gpu_seconds"], 5400.0);
    }
}
