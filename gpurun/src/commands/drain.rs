//! `gpurun drain`: no new leases on one server, and again.

use std::time::Duration;

use control_plane::DrainRequest;
use serde_json::json;

use crate::arguments::Options;
use crate::exit::{Failure, USAGE};
use crate::pool::{self, Pool};
use crate::run::settings;
use crate::servers::configured;
use crate::text::{self, print};

/// What the operator wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) revoke: bool,
    pub(super) time: Option<Duration>,
    pub(super) undo: bool,
}

/// Empties one server, or ends that.
pub(super) fn drain(options: &Options, wanted: Wanted, as_json: bool) -> Result<u8, Failure> {
    let servers = configured(&settings(options)?)?;
    if servers.len() > 1 {
        let message =
            "several servers are configured, and one is drained at a time: name it by --server";
        return Err(Failure::new(USAGE, message));
    }
    let request = DrainRequest {
        seconds: wanted.time.map_or(0, pool::seconds),
        revoke: wanted.revoke,
        undo: wanted.undo,
    };
    let ask = move |pool: Pool| async move { pool.drain(request).await };
    let (server, reply) = pool::ask_all(&servers, ask)?.one()?;
    if as_json {
        let value = json!({
            "server": server.name,
            "draining": !wanted.undo,
            "leases": reply.leases,
        });
        print(format_args!("{value:#}"));
    } else {
        print(words(&server.name, wanted, reply.leases as usize));
    }
    Ok(0)
}

fn words(name: &str, wanted: Wanted, left: usize) -> String {
    if wanted.undo {
        return format!("{name} gives leases again");
    }
    let left = match left {
        0 => return format!("{name} gives no new leases, and none is left"),
        left => text::count(left, "lease"),
    };
    let end = match (wanted.revoke, wanted.time) {
        (false, _) => "end by themselves".to_owned(),
        (true, None) => "are being ended".to_owned(),
        (true, Some(time)) => format!("end in {} at the latest", text::duration(time)),
    };
    format!("{name} gives no new leases; those that are left ({left}) {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said() {
        let wanted = |revoke, time, undo| Wanted { revoke, time, undo };
        let say = |wanted, left| words("s", wanted, left);
        assert_eq!(say(wanted(false, None, true), 3), "s gives leases again");
        assert!(say(wanted(false, None, false), 0).ends_with("none is left"));
        assert!(say(wanted(false, None, false), 2).ends_with("(2 leases) end by themselves"));
        let half = Some(Duration::from_secs(1800));
        assert!(say(wanted(true, half, false), 1).ends_with("(1 lease) end in 30m at the latest"));
    }
}
