//! What the processes that share an event have of it: a page with two numbers, how often it was recorded, and which record a stream has reached.
//!
//! A record counts the one up, and its place in the stream the other; who waits, waits until the second has come to what the first was. It polls, as streams that wait
//! for a word of memory do. Where the process is gone from which the event came, nobody is waited for.
//!
//! # Safety
//!
//! The page is mapped as long as its event is there, and is only accessed as atomic numbers, for which any bytes are valid.

#![expect(unsafe_code, reason = "memory shared with other processes")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driver_api::abi::CUresult;

use crate::memory::map::{Mapping, memory_file};

const PAGE_BYTES: u64 = 4096;

/// How long a wait polls without giving up its core, and how long it sleeps then.
const SPINS: u32 = 1000;
const NAP: Duration = Duration::from_micros(50);

/// The page of an event.
#[derive(Debug)]
pub(crate) struct Shared {
    file: OwnedFd,
    mapping: Mapping,
    /// The end of a pipe that breaks when the process is gone from which it came.
    alive: Option<OwnedFd>,
}

impl Shared {
    /// One of this process.
    pub(super) fn new() -> Result<Self, CUresult> {
        Self::of(memory_file(PAGE_BYTES)?, None)
    }

    /// Another process's.
    pub(crate) fn borrowed(file: OwnedFd, alive: OwnedFd) -> Result<Self, CUresult> {
        let status = rustix::fs::fstat(&file).map_err(|_| CUresult::INVALID_HANDLE)?;
        if status.st_size as u64 != PAGE_BYTES {
            return Err(CUresult::INVALID_HANDLE);
        }
        Self::of(file, Some(alive))
    }

    fn of(file: OwnedFd, alive: Option<OwnedFd>) -> Result<Self, CUresult> {
        let mapping = Mapping::reserve(PAGE_BYTES, PAGE_BYTES)?;
        mapping.place((mapping.base(), PAGE_BYTES), &file, 0)?;
        Ok(Self {
            file,
            mapping,
            alive,
        })
    }

    /// A copy of its descriptor, for another process; nothing for what is another's.
    pub(crate) fn file(&self) -> Option<OwnedFd> {
        let is_own = self.alive.is_none();
        is_own.then(|| self.file.try_clone().ok()).flatten()
    }

    fn word(&self, index: u64) -> &AtomicU64 {
        // SAFETY: the page is mapped and aligned, and has more words than two.
        unsafe { AtomicU64::from_ptr((self.mapping.base() + 8 * index) as *mut u64) }
    }

    /// One record more: its number.
    pub(super) fn record(&self) -> u64 {
        self.word(0).fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The number of the last one.
    pub(crate) fn recorded(&self) -> u64 {
        self.word(0).load(Ordering::SeqCst)
    }

    pub(super) fn reach(&self, record: u64) {
        self.word(1).fetch_max(record, Ordering::SeqCst);
    }

    /// Whether a record has been reached, or nobody can tell any more.
    pub(crate) fn has_reached(&self, record: u64) -> bool {
        let is_gone = || self.alive.as_ref().is_some_and(crate::ipc::is_broken);
        self.word(1).load(Ordering::SeqCst) >= record || is_gone()
    }

    /// Waits until a record has been reached, unless nobody waits any more.
    pub(crate) fn wait(&self, record: u64, is_over: impl Fn() -> bool) {
        for round in 0u32.. {
            if self.has_reached(record) || is_over() {
                return;
            }
            match round < SPINS {
                true => std::hint::spin_loop(),
                false => std::thread::sleep(NAP),
            }
        }
    }
}
