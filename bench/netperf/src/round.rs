//! What one round of measuring is.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Round {
    /// Nanoseconds for an operation, one for each sample.
    pub samples_ns: Vec<f64>,
    /// CPU time of the calling threads for an operation.
    pub caller_cpu_ns: f64,
}

/// Measures `count` operations, one sample each.
///
/// # Errors
/// The operation's first.
pub fn time_each(
    count: usize,
    mut operation: impl FnMut() -> Result<(), String>,
) -> Result<Round, String> {
    let mut samples_ns = Vec::with_capacity(count);
    let cpu = thread_cpu_ns();
    let mut before = Instant::now();
    for _ in 0..count {
        operation()?;
        let now = Instant::now();
        samples_ns.push((now - before).as_nanos() as f64);
        before = now;
    }
    Ok(Round {
        samples_ns,
        caller_cpu_ns: (thread_cpu_ns() - cpu) / count.max(1) as f64,
    })
}

/// CPU time of the calling thread so far, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
