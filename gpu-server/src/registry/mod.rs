//! The registry: how workers and a daemon that did not start them find each other.
//!
//! *What:* a worker holds a connection to its daemon for as long as its session lives. When the connection ends, the daemon has: the worker serves its
//! client on, and registers with the next daemon that listens at the same path. *Why:* a daemon is restarted for an upgrade, or crashes, and no program
//! shall notice. [`Registry`] is the daemon's end, `Post` the worker's; both speak packets of one message each.
//!
//! ```text
//!            ┌── control (a pair of sockets, made with the worker) ──┐
//!  daemon ───┤                                                       ├─── worker
//!            └── STATE/workers.sock, after the daemon's end ─────────┘
//!
//!  worker: Register + descriptors of ledger and gates ──▶   daemon: Registered │ EndSession
//!  worker: Counts … ──▶                                     daemon: EndSession, when the lease is over
//! ```
//!
//! *Rules:*
//! - A worker may have been taken over by its client. What it says of itself was written and sealed by a daemon with the same state
//!   ([`Facts`]), so that it speaks for no other session; its descriptors are the files that were passed to it, or it is refused; packets, descriptors,
//!   connections and their rate are bounded.
//! - A session ends with its process, which is watched by a descriptor of it, never by its number. A connection that ends before its process is
//!   the end of it: after [`END_LIMIT`] the process is killed, and so is one that was told to end.
//! - A worker keeps the descriptors that it sends, and never closes a copy: record locks vanish when a process closes *any* descriptor of
//!   their file.

mod counts;
mod daemon;
mod facts;
mod packet;
mod session;
#[cfg(test)]
mod tests;
mod watched;
mod worker;

use std::time::Duration;

pub use counts::{COUNTERS, Counters, Counts};
pub use daemon::{Answer, Event, Peers, Prepared, Registered, Registry, Starter};
pub use facts::{Facts, FileId, Key, RegisterError};
pub(crate) use worker::{Post, say_last_counts};

/// The socket's name in the state directory.
pub const SOCKET: &str = "workers.sock";

/// How long a worker may take to end once it was told to, or once its connection has ended: to say goodbye and to give back what it had.
pub const END_LIMIT: Duration = Duration::from_secs(3);
