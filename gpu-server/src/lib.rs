//! The GPU server: a daemon, and one worker process for each session.
//!
//! What: the daemon accepts connections, reads hellos and starts workers; it never loads a driver itself, so that
//! nothing that a driver or a client does can take it down. A probe, a process of its own, looks at the devices; a
//! worker, a process of its own, serves one session. Why one crate: all three are the same binary, started
//! with different words.
//!
//! ```text
//! config    flags and file             probe     what a driver has, found by a child process
//! daemon    listen, hello, workers     snapshot  which attributes are true at a distance
//! inherited descriptors by number      worker    the calls of one session
//! monitor   how devices are used, seen by a child process
//! order     what a worker is started with  pool      who gets which part of which device
//! authority who may come from elsewhere  ledger    how much memory a lease has taken
//! sandbox   what a worker may do           registry  workers and a daemon that did not start them
//! ```

pub mod authority;
pub mod config;
pub mod daemon;
pub(crate) mod driver;
pub mod gate;
pub mod inherited;
pub mod ledger;
pub mod monitor;
pub mod order;
pub mod pool;
pub mod probe;
pub mod registry;
pub mod sandbox;
pub mod snapshot;
pub mod worker;
