//! What a launch costs its caller, and how many there are in a second.

use std::ffi::c_void;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::driver::Gpu;
use crate::round::{Round, thread_cpu_ns};

/// Launches of a burst.
const BURST: usize = 64;

/// A round of launches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launches {
    /// Parameters of the kernel.
    pub parameters: usize,
    /// Threads that launch.
    pub threads: usize,
    /// Bursts, or sustained launches of each thread.
    pub count: usize,
    /// Only the launches of a burst are timed.
    pub is_burst: bool,
}

impl Launches {
    /// `count` launches in a row by one thread.
    #[must_use]
    pub const fn sustained(parameters: usize, count: usize) -> Self {
        Self {
            parameters,
            threads: 1,
            count,
            is_burst: false,
        }
    }
}

/// Pointers to parameters, as a launch wants them.
pub fn parameters(values: &mut [u64]) -> Vec<*mut c_void> {
    values
        .iter_mut()
        .map(|value| std::ptr::from_mut(value).cast())
        .collect()
}

/// One round.
///
/// # Errors
/// The driver's.
pub fn measure(gpu: &Gpu, launches: &Launches) -> Result<Round, String> {
    if launches.is_burst {
        return bursts(gpu, launches);
    }
    let begin = Instant::now();
    let cpu_ns = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..launches.threads)
            .map(|_| scope.spawn(|| sustain(gpu, launches)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread failed".to_owned())?)
            .sum::<Result<f64, String>>()
    })?;
    let total = (launches.threads * launches.count) as f64;
    Ok(Round {
        samples_ns: vec![begin.elapsed().as_nanos() as f64 / total],
        caller_cpu_ns: cpu_ns / total,
    })
}

/// One thread's launches; its CPU time.
fn sustain(gpu: &Gpu, launches: &Launches) -> Result<f64, String> {
    gpu.enter()?;
    let stream = gpu.stream()?;
    let mut values = vec![0; launches.parameters];
    let mut pointers = parameters(&mut values);
    let cpu = thread_cpu_ns();
    for _ in 0..launches.count {
        gpu.launch(stream, &mut pointers)?;
    }
    gpu.synchronise(stream)?;
    let cpu = thread_cpu_ns() - cpu;
    gpu.destroy(stream)?;
    Ok(cpu)
}

fn bursts(gpu: &Gpu, launches: &Launches) -> Result<Round, String> {
    let stream = gpu.stream()?;
    let mut values = vec![0; launches.parameters];
    let mut pointers = parameters(&mut values);
    let mut round = Round::default();
    for _ in 0..launches.count {
        let (begin, cpu) = (Instant::now(), thread_cpu_ns());
        for _ in 0..BURST {
            gpu.launch(stream, &mut pointers)?;
        }
        round.caller_cpu_ns += (thread_cpu_ns() - cpu) / (BURST * launches.count) as f64;
        round
            .samples_ns
            .push(begin.elapsed().as_nanos() as f64 / BURST as f64);
        gpu.synchronise(stream)?;
    }
    gpu.destroy(stream)?;
    Ok(round)
}
