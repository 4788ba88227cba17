//! Asking the daemon: a connection, one question, one answer, the end.

use std::time::Instant;

use protocol::address::Address;
use protocol::config::{
    DEVICES_VARIABLE, LEASE_VARIABLE, Sources, Texts, device_request, resolve, variable,
};
use protocol::connect::secure::ask_until;
use protocol::connect::{ConnectError, connect_until, first_of};
use protocol::credentials::Credentials;
use protocol::hello::{Accepted, Hello, Intent};
use protocol::limits::CONNECT_TIMEOUT;

use crate::fork;

/// Asks the first of the configured servers that is there who its devices are; of them, those that this program may see.
pub(crate) fn devices() -> Option<(Address, Accepted)> {
    let settings = Sources::of_this_process(Texts::default())
        .and_then(|sources| resolve(&sources))
        .ok()?;
    let (addresses, _) = settings.servers?;
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|address| settings.transport.allows(address))
        .collect();
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let asked = first_of(&allowed, |address| {
        let accepted = ask(address, false, deadline)?;
        Ok((address.clone(), accepted))
    });
    let (address, mut accepted) = asked?.ok()?;
    accepted.devices.truncate(visible());
    Some((address, accepted))
}

/// Asks how the devices are used.
pub(crate) fn usage(address: &Address) -> Result<Accepted, ConnectError> {
    ask(address, true, Instant::now() + CONNECT_TIMEOUT)
}

fn ask(address: &Address, with_usage: bool, deadline: Instant) -> Result<Accepted, ConnectError> {
    let open = fork::connect(|| connect_until(address, deadline))?;
    let hello = Hello {
        lease: lease(),
        with_usage,
        ..Hello::new(Intent::Snapshot)
    };
    let credential = Credentials::of_this_process()?.for_server(address);
    ask_until(address, &open.socket, &hello, &credential, deadline)
}

/// The lease that this program runs under, whose slices are its devices; empty: none.
fn lease() -> String {
    let lease = variable(LEASE_VARIABLE).and_then(|lease| lease.into_string().ok());
    lease.unwrap_or_default()
}

/// How many devices CUDA shows this program.
fn visible() -> usize {
    if !lease().is_empty() {
        return usize::MAX;
    }

    let request = device_request(std::env::var(DEVICES_VARIABLE).ok(), None, None);
    request.map_or(1, |request| request.count as usize)
}
