//! The registry: how workers and a daemon that did not start them find each other.
//!
//! *What:* a worker holds a connection to its daemon for as long as its session lives. When the connection ends, the daemon has: the worker serves its
//! client on, and registers with the next daemon, which comes to it. *Why:* a daemon is restarted for an upgrade, or crashes, and no program
//! shall notice. [`Registry`] is the daemon's end, `Post` the worker's; both speak packets of one message each.
//!
//! ```text
//!            ┌── control (a pair of sockets, made with the worker) ──┐
//!  daemon ───┤                                                       ├─── worker
//!            └── STATE/workers/SESSION.sock, after the daemon's end ─┘
//!
//!  worker: Register + descriptors of ledger and gates ──▶   daemon: Registered │ EndSession
//!  worker: Counts … ──▶                                     daemon: EndSession, when the lease is over
//!  daemon: CheckpointOrder, GivenUp ──▶ worker: Checkpointed ──▶ daemon
//!  worker: Borrow ──▶  daemon: Lend ──▶ another worker of the lease: Lent + descriptors ──▶ daemon: Lent + descriptors ──▶ worker
//! ```
//!
//! *Rules:*
//! - A worker may have been taken over by its client. What it says of itself was written and sealed by a daemon with the same state
//!   ([`Facts`]), so that it speaks for no other session; its descriptors are the files that were passed to it, or it is refused; packets and
//!   descriptors are bounded. It connects to nothing: the daemon comes to it (`door`).
//! - A worker that a daemon finds and cannot take in is ended: what it holds will be given to others.
//! - A session ends with its process, which is watched by a descriptor of it, never by its number. A connection that ends before its process is
//!   the end of it: after [`END_LIMIT`] the process is killed, and so is one that was told to end.
//! - A worker keeps the descriptors that it sends, and never closes a copy: record locks vanish when a process closes *any* descriptor of
//!   their file.

mod checkpoints;
mod counts;
mod daemon;
mod door;
mod facts;
mod loans;
mod packet;
mod session;
#[cfg(test)]
mod tests;
mod watched;
mod worker;

use std::time::Duration;

pub use checkpoints::{NotOrdered, Order};
pub use counts::{COUNTERS, Counters, Counts};
pub use daemon::{Answer, Event, GATHER_LIMIT, Peers, Prepared, Registered, Registry, Starter};
pub use facts::{Facts, FileId, Key, RegisterError};
pub(crate) use worker::{
    Lent, LentMemory, Post, Task, borrow, say_checkpointed, say_last_counts, say_lent,
};

/// The directory, in the state directory, of the sockets at which workers wait for the next daemon.
pub const DIRECTORY: &str = "workers";

/// How long a worker may take to end once it was told to, or once its connection has ended: to say goodbye and to give back what it had.
///
/// In tests both ends are one process, which is not to be killed.
pub const END_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 3 });
