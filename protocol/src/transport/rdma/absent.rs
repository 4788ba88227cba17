//! RDMA in a build without it: there is never any.

use std::convert::Infallible;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::super::{Connection, DeviceMemory, Patience};
use super::{RdmaError, Settings};
use crate::hello::RdmaEnd;

/// An end that waits for its peer: never made.
pub struct Prepared(Infallible);

impl Prepared {
    /// Refuses.
    ///
    /// # Errors
    /// [`RdmaError::NotBuilt`].
    pub fn new(_: IpAddr, _: &Settings) -> Result<Self, RdmaError> {
        Err(RdmaError::NotBuilt)
    }

    /// What the peer has to know.
    #[must_use]
    pub fn end(&self) -> RdmaEnd {
        match self.0 {}
    }

    /// Which device and address, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.0 {}
    }

    /// Whether the card takes memory of a device.
    ///
    /// # Errors
    /// Never called.
    ///
    /// # Safety
    /// Never called.
    #[expect(unsafe_code, reason = "as where there is a card")]
    pub unsafe fn try_device(&self, _: &DeviceMemory<'_>) -> Result<(), RdmaError> {
        match self.0 {}
    }

    /// Whether memory that the client offers can be read.
    #[must_use]
    pub fn has_reads(&self) -> bool {
        match self.0 {}
    }

    /// Nothing will be read by this connection.
    pub fn give_up_reads(&mut self) {
        match self.0 {}
    }

    /// Connects with the peer's end.
    ///
    /// # Errors
    /// Never called.
    pub fn connect(&mut self, _: &RdmaEnd) -> Result<(), RdmaError> {
        match self.0 {}
    }

    /// The connection.
    ///
    /// # Errors
    /// Never called.
    pub fn into_connection(self, _: OwnedFd, _: Patience) -> Result<Connection, RdmaError> {
        match self.0 {}
    }
}
