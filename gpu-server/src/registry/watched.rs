//! Descriptors that a task can wait for.
//!
//! # Safety
//! What is registered has to keep the same open descriptor until it is given up: an [`OwnedFd`] has one from its making to its drop, and
//! nobody gets at it to change it.
#![expect(
    unsafe_code,
    reason = "a descriptor is registered with the runtime by its number"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime that this is called in.
pub(super) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: by the module's rule.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(io::Error::from)
}
