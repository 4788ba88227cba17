//! What the program's threads share in the client library: the [send queue](SendQueue) and the [handle tables](Table).
//!
//! What: the locks and the protocol between threads, and nothing else: what is queued, how it is sent and how a thread sleeps are the
//! client library's. Why here: so small a crate can be built for a model checker, which runs every order in which threads can
//! meet (`tests/`, by `scripts/test` with `--cfg loom`). Rules: locks come from `sync` alone; no clock is read; every decision that
//! depends on time is the caller's.

mod queue;
mod sync;
mod table;

pub use queue::{After, Batch, SendQueue, Sleeper};
pub use sync::MutexGuard;
pub use table::Table;
