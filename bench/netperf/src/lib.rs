//! Measures the road from a program to its device: what a call waits for, how many launches go down it, how many bytes.
//!
//! *What:* loops over a driver library that is loaded by name ([`driver`], [`call`], [`launch`], [`copy`](mod@copy), [`alloc`]), processes that run them when they are told
//! to ([`process`]), and what is made of their samples ([`figures`], [`table`], [`plot`]). `gpurun netperf` runs [`session`] under a lease, against any server;
//! `bench` uses the same loops against servers of its own. *Rules:* everything that is compared runs in one run, round by round in turn; figures are
//! percentiles; nothing but the call stands between two looks at the clock.
//!
//! ```text
//! gpurun netperf ──lease──▶ session (cases, rounds) ──orders──▶ process: the client library ──▶ the server
//!                                                   ◀─samples──
//! ```

pub mod alloc;
pub mod call;
pub mod cases;
pub mod copy;
pub mod driver;
pub mod figures;
pub mod launch;
pub mod plot;
pub mod process;
pub mod round;
pub mod session;
pub mod table;

/// What goes wrong in a benchmark: told, and the run ends.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
