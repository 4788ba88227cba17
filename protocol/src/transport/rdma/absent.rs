//! RDMA in a build without it: there is never any.

use std::convert::Infallible;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::super::{Connection, Patience};
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

    /// Whether the card takes a dma-buf.
    ///
    /// # Errors
    /// Never called.
    pub fn try_dma_buf(&self, _: BorrowedFd<'_>, _: usize) -> Result<(), RdmaError> {
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
