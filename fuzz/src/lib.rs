//! Every decoder, given any bytes: none may panic, overflow, read out of bounds, hang, or take memory that its input does not justify.
//!
//! *What:* [`TARGETS`] are plain functions of bytes, each with seeds made from the repository; the binary `fuzz` gives them to libFuzzer,
//! which runs on stable Rust. *Rules:* a target asserts what must hold beyond not panicking (what was decoded encodes to itself); all memory is
//! counted, and too much of it ends the process ([`memory`]).
//!
//! ```text
//! scripts/fuzz TARGET SECONDS   with coverage, at leisure       tests/smoke.rs   without, a fixed number of runs and a fixed seed
//! ```

pub mod memory;
pub mod seeds;
pub mod targets;

/// One decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Decodes.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Most bytes of an input.
    pub max_bytes: usize,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    max_bytes: usize,
) -> Target {
    Target {
        name,
        run,
        seeds,
        max_bytes,
    }
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    target("hello", targets::hello, seeds::hello, 4096),
    target("address", targets::address, seeds::address, 512),
    target("settings", targets::settings, seeds::settings, 1024),
    target("frames", targets::frames, seeds::frames, 4096),
    target("records", targets::records, seeds::records, 1024),
    target("requests", targets::requests, seeds::requests, 256),
    target("worker", targets::worker, seeds::worker, 2048),
    target("image", targets::image, seeds::image, 16384),
    target("elf", targets::elf, seeds::elf, 8192),
    target("ptx", targets::ptx, seeds::ptx, 8192),
    target("stats", targets::stats, seeds::stats, 1 << 20),
    target("graph", targets::graph, seeds::graph, 2048),
    target("token", targets::token, seeds::token, 1024),
];

/// The environment variable that names the target of the binary `fuzz`.
pub const TARGET_VARIABLE: &str = "GPURUN_FUZZ_TARGET";

/// The environment variable that names a folder where the binary `fuzz` puts the target's seeds before it begins.
pub const SEEDS_VARIABLE: &str = "GPURUN_FUZZ_SEEDS";

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
