//! libFuzzer on the target that the environment names; its arguments are libFuzzer's. Without a target, it lists them.
//!
//! *Without coverage* libFuzzer would find every input equally uninteresting and mutate none. Then this program says what is new about one:
//! how long it is and how it begins, in counters of which libFuzzer takes notice as of instrumented code's.
//!
//! # Safety
//! The counters are bytes that this program writes atomically and libFuzzer reads and clears between runs, on the same thread.
#![no_main]
#![expect(unsafe_code, reason = "a static in a section where libFuzzer looks")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use fuzz::memory::Limited;
use fuzz::{SEEDS_VARIABLE, TARGET_VARIABLE, TARGETS, Target, find};

#[global_allocator]
static MEMORY: Limited = Limited;

/// How many kinds of inputs are told apart without coverage.
const KINDS: usize = 256;

#[unsafe(link_section = "__libfuzzer_extra_counters")]
static COUNTERS: [AtomicU8; KINDS] = [const { AtomicU8::new(0) }; KINDS];

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var(TARGET_VARIABLE).unwrap_or_default();
    let Some(target) = find(&name) else {
        eprintln!("fuzz: {TARGET_VARIABLE} names no target: '{name}'");
        std::process::exit(2);
    };
    target
});

/// Before libFuzzer reads its corpus.
fn prepare() {
    if std::env::var_os(TARGET_VARIABLE).is_none() {
        for target in TARGETS {
            println!("{} {}", target.name, target.max_bytes);
        }
        std::process::exit(0);
    }
    if let Some(folder) = std::env::var_os(SEEDS_VARIABLE)
        && let Err(error) = fuzz::seeds::write(TARGET.name, folder.as_ref())
    {
        eprintln!("fuzz: the seeds: {error}");
        std::process::exit(2);
    }
}

/// Notes what kind of input this is, where nothing better is known of it.
fn note_kind(bytes: &[u8]) {
    if cfg!(feature = "coverage") {
        return;
    }
    let mut hasher = DefaultHasher::new();
    bytes.len().checked_ilog2().hash(&mut hasher);
    bytes.get(..8).hash(&mut hasher);
    let kind = hasher.finish() as usize % KINDS;
    COUNTERS[kind].store(1, Relaxed);
}

libfuzzer_sys::fuzz_target!(init: prepare(), |bytes: &[u8]| {
    note_kind(bytes);
    (TARGET.run)(bytes);
});
