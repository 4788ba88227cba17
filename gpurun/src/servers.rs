//! Who is asked: the configured servers, or a private one.

use protocol::address::Address;
use protocol::config::Settings;
use protocol::connect::ConnectError;
use protocol::credentials::Credentials;

use crate::embedded::Embedded;
use crate::exit::{Failure, USAGE};
use crate::guest;
use crate::pool::Server;

/// The servers of a run, and the private one if there is.
pub(crate) struct Servers {
    pub(crate) list: Vec<Server>,
    embedded: Option<Embedded>,
}

impl Servers {
    /// The configured servers that the transport allows, or a private one.
    pub(crate) fn of(settings: &Settings) -> Result<Self, Failure> {
        if settings.servers.is_some() {
            return Ok(Self {
                list: configured(settings)?,
                embedded: None,
            });
        }
        let directory = guest::executable_directory()?;
        let embedded = Embedded::start(&directory, settings.transport, settings.device)?;
        let mut list = with_credentials(std::slice::from_ref(embedded.address()))?;
        for server in &mut list {
            "this machine".clone_into(&mut server.name);
        }
        Ok(Self {
            list,
            embedded: Some(embedded),
        })
    }

    /// Whether it is a private one.
    pub(crate) const fn is_private(&self) -> bool {
        self.embedded.is_some()
    }
}

/// The configured servers that the transport allows; there must be one.
pub(crate) fn configured(settings: &Settings) -> Result<Vec<Server>, Failure> {
    let Some((list, origin)) = &settings.servers else {
        let message = "no server configured: name one by --server or GPURUN_SERVER, or take in a bundle with gpurun login";
        return Err(Failure::new(USAGE, message));
    };
    let addresses: Vec<Address> = list
        .iter()
        .filter(|address| settings.transport.allows(address))
        .cloned()
        .collect();
    if addresses.is_empty() {
        let message = format!(
            "no server of {origin} uses the transport {}",
            settings.transport
        );
        return Err(Failure::new(USAGE, message));
    }
    with_credentials(&addresses)
}

fn with_credentials(addresses: &[Address]) -> Result<Vec<Server>, Failure> {
    let credentials = Credentials::of_this_process().map_err(ConnectError::from)?;
    let server = |address: &Address| {
        let credential = credentials.for_server(address);
        Server::new(address.clone(), credential)
    };
    Ok(addresses.iter().map(server).collect())
}
