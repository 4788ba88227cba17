//! `gpurun request`, `release` and `renew`: leases without a program of ours.
//!
//! Rule: standard output of `request` is the lease's name and nothing else, so that a script can take it.

use std::time::Duration;

use control_plane::Lease;
use protocol::size::Bytes;

use crate::arguments::{NeedOptions, Options};
use crate::exit::Failure;
use crate::lease::{self, Want};
use crate::pool::{self, Pool};
use crate::run::{said, settings};
use crate::servers::configured;
use crate::text::{self, print, say};

/// Asks for a lease that stays.
pub(super) fn request(
    options: &Options,
    need: &NeedOptions,
    time: Option<Duration>,
) -> Result<u8, Failure> {
    let settings = settings(options)?;
    let need = need.clone().with_variables(said)?;
    let servers = need.allowed(configured(&settings)?)?;
    let want = Want {
        need: need.need(settings.device),
        patience: need.patience(),
        is_detached: true,
        time,
        program: "gpurun request".to_owned(),
    };
    let runtime = pool::runtime()?;
    let lease = runtime.block_on(async {
        let grant = lease::acquire(&servers, &want).await?;
        let lease = grant.held.lease.clone();
        let name = grant.held.pool.server().name.clone();
        say(format_args!(
            "lease {} on {name}: {}",
            lease.id,
            describe(&lease)
        ));
        grant.settle().await;
        Ok::<_, Failure>(lease)
    })?;
    runtime.shutdown_background();
    say(format_args!(
        "use it: gpurun exec {0} PROGRAM; end it: gpurun release {0}",
        lease.id
    ));
    print(&lease.id);
    Ok(0)
}

/// The parts of devices, and the end.
fn describe(lease: &Lease) -> String {
    let slice = |slice: &control_plane::Slice| {
        format!(
            "{} of device {} ({}), compute {}",
            Bytes(slice.memory),
            slice.ordinal,
            text::clean(&slice.name),
            text::part(slice.compute)
        )
    };
    let slices: Vec<String> = lease.slices.iter().map(slice).collect();
    let until = match lease.expires_unix_ms {
        0 => String::new(),
        end => format!("; until {}", text::moment(end)),
    };
    format!("{}{until}", slices.join(", "))
}

/// Ends a lease where it is.
pub(super) fn release(options: &Options, lease: &str) -> Result<u8, Failure> {
    let servers = configured(&settings(options)?)?;
    let id = lease.to_owned();
    let release = move |pool: Pool| {
        let id = id.clone();
        async move { pool.release(&id).await }
    };
    pool::ask_first(&servers, release)?;
    Ok(0)
}

/// Sets a new end for a lease.
pub(super) fn renew(options: &Options, lease: &str, time: Duration) -> Result<u8, Failure> {
    let servers = configured(&settings(options)?)?;
    let id = lease.to_owned();
    let renew = move |pool: Pool| {
        let id = id.clone();
        async move { pool.renew(&id, time).await }
    };
    let (_, lease) = pool::ask_first(&servers, renew)?;
    say(format_args!(
        "lease {} ends {}",
        lease.id,
        text::moment(lease.expires_unix_ms)
    ));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_in_words() {
        let slice = control_plane::Slice {
            ordinal: 1,
            name: "Fake".to_owned(),
            memory: 4 << 30,
            compute: 0.25,
            ..control_plane::Slice::default()
        };
        let lease = Lease {
            slices: vec![slice],
            expires_unix_ms: 1_000_000_000_000,
            ..Lease::default()
        };
        assert_eq!(
            describe(&lease),
            "4 GiB of device 1 (Fake), compute 0.25; until 2001-09-09T01:46:40Z"
        );
    }
}
