//! An allocator that counts: a decoder that believes a length in its input is caught when it asks for the memory.
//!
//! # Safety
//! Everything is the system's allocator; the numbers beside it decide only whether the process goes on.
#![expect(unsafe_code, reason = "a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most bytes of one allocation: the longest frame, and as much again.
pub const MOST_AT_ONCE: usize = 64 << 20;

/// Most bytes at a time.
pub const MOST_IN_ALL: usize = 2 << 30;

/// The system's allocator with limits.
#[derive(Debug)]
pub struct Limited;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Counts a request; one that is too large ends the process where it is made, so that its stack is seen.
fn take(bytes: usize) {
    let before = IN_USE.fetch_add(bytes, Relaxed);
    if bytes > MOST_AT_ONCE || before > MOST_IN_ALL {
        // No message that itself needs memory.
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            b"fuzz: too much memory is asked for\n",
        );
        std::process::abort();
    }
}

// SAFETY: every request goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        take(bytes);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, bytes) }
    }
}
