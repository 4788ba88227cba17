//! Manners towards the process that we live in: threads without signals, fork, exit.
//!
//! # Safety
//! The handlers given to the C library are plain functions that touch atomics, close one descriptor, or run while the process is
//! single-threaded (after `fork`) or still whole (at exit).
#![expect(
    unsafe_code,
    reason = "signal masks, pthread_atfork and atexit of the C library"
)]

use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering::SeqCst};

use driver_api::abi::CUresult;

use crate::session;

/// The driver can be used.
const ALIVE: u8 = 0;
/// This is a child of a process that had initialised the driver.
const FORKED: u8 = 1;
/// The program is ending.
const ENDED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(ALIVE);
/// The descriptor that a forked child closes; -1 for none.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// What every function answers if the driver can no longer be used in this process.
pub(crate) fn refusal() -> Option<CUresult> {
    match STATE.load(SeqCst) {
        ALIVE => None,
        FORKED => Some(CUresult::NOT_INITIALIZED),
        _ => Some(CUresult::DEINITIALIZED),
    }
}

/// Installs the handlers, once a session exists; `descriptor` is its socket.
pub(crate) fn session_began(descriptor: Option<i32>) {
    static INSTALLED: Once = Once::new();
    DESCRIPTOR.store(descriptor.unwrap_or(-1), SeqCst);
    INSTALLED.call_once(|| {
        // SAFETY: plain functions of the right type, which stay loaded (`-z nodelete`).
        unsafe {
            libc::pthread_atfork(None, None, Some(in_forked_child));
            libc::atexit(at_exit);
        }
    });
}

/// The child shares the socket with its parent: it must neither use nor hold it.
extern "C" fn in_forked_child() {
    if session::is_initialised() {
        STATE.store(FORKED, SeqCst);
    } else {
        session::forget();
    }
    let descriptor = DESCRIPTOR.swap(-1, SeqCst);
    if descriptor >= 0 {
        // SAFETY: the session's own descriptor; in this process nobody uses it any more: every call is refused,
        // or begins a session of its own.
        unsafe { libc::close(descriptor) };
    }
}

/// Sends what is still queued, and says goodbye.
extern "C" fn at_exit() {
    if STATE.load(SeqCst) == ALIVE {
        session::end();
        STATE.store(ENDED, SeqCst);
    }
}

/// Starts a thread that no signal of the program is ever delivered to.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    // SAFETY: a signal set is plain memory, filled by sigfillset before it is used.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are ours; the calling thread's mask is put back below.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let spawned = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body);
    // SAFETY: the mask that was read above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    spawned.map(drop)
}

/// Writes what device code printed to the program's own `stdout`, in order with what it prints itself.
pub(crate) fn print(bytes: &[u8]) {
    unsafe extern "C" {
        static stdout: *mut libc::FILE;
    }
    // SAFETY: the C library's stream, which exists as long as the process; the bytes are valid for their length.
    unsafe { libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), stdout) };
}
