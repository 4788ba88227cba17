//! What device code prints: from the driver's standard output to the client's.
//!
//! *What:* a driver prints to the process's standard output when a stream is synchronised. That is a file in memory here,
//! appended to and read behind; so printing never blocks a driver, whatever the client does. *Rule:* what was read is taken out of
//! the file, so that it does not grow.
//!
//! # Safety
//! The descriptor is replaced once, at the start; `fflush` of no stream flushes all; stream and context handles
//! come from the session.
#![expect(unsafe_code, reason = "fflush, and synchronises of the driver")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUstream};
use driver_api::result::CUresult;
use protocol::limits::BULK_CHUNK_BYTES;
use rustix::fs::{FallocateFlags, MemfdFlags, OFlags};

use super::context::Context;
use super::end::lock;
use super::outbox::Outbox;
use super::session::Session;
use crate::driver::cuda;

/// The file that stands in for standard output.
pub(crate) struct Output {
    file: Option<File>,
    taken: Mutex<u64>,
    /// A library with code that prints was loaded: it may run in any context.
    from_libraries: AtomicBool,
}

impl Output {
    /// Nothing is taken: standard output stays what it is.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn untouched() -> Self {
        Self {
            file: None,
            taken: Mutex::new(0),
            from_libraries: AtomicBool::new(false),
        }
    }

    /// Replaces the process's standard output.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn replace_standard_output() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("gpurun-output", MemfdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        rustix::stdio::dup2_stdout(&file)?;
        Ok(Self {
            file: Some(File::from(file)),
            taken: Mutex::new(0),
            from_libraries: AtomicBool::new(false),
        })
    }

    /// Notes that code of a library prints; a library belongs to no context.
    pub(crate) fn expect_from_libraries(&self) {
        self.from_libraries.store(true, Ordering::Relaxed);
    }

    /// Whether code of some library prints.
    pub(crate) fn is_expected_from_libraries(&self) -> bool {
        self.from_libraries.load(Ordering::Relaxed)
    }

    /// Sends what was printed since the last time.
    pub(crate) fn drain(&self, outbox: &Outbox) {
        let Some(file) = &self.file else { return };
        // SAFETY: a null stream means every open output stream.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        let mut taken = lock(&self.taken);
        let before = *taken;
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = file.read_at(&mut buffer, *taken) {
            outbox.output(&buffer[..count.min(BULK_CHUNK_BYTES)]);
            *taken += count as u64;
        }
        if *taken > before {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where it fails the file merely keeps its pages.
            let _ = rustix::fs::fallocate(file, hole, before, *taken - before);
        }
    }
}

/// Whether device code that prints can have run in a context.
pub(crate) fn may_be_printed(session: &Session, context: &Context) -> bool {
    context.prints.load(Ordering::Relaxed) || session.output.is_expected_from_libraries()
}

/// Sends what device code printed before its context was lost. The driver prints it where a synchronise tells of the fault, which waits for
/// nothing any more.
pub(crate) fn flush_lost(session: &Session, context: &Context) {
    if !may_be_printed(session, context) || !context.is_alive() {
        return;
    }
    let driver = session.driver;
    // Whoever finds the fault keeps the context that was current.
    if cuda!(driver, cuCtxPushCurrent_v2(context.handle())).is_ok() {
        let mut popped = CUcontext(0);
        // It fails with the fault, which is known.
        let _ = cuda!(driver, cuCtxSynchronize());
        let _ = cuda!(driver, cuCtxPopCurrent_v2(&mut popped));
    }
    session.output.drain(&session.outbox);
}

/// Waits for a stream, which makes the driver print what device code of it printed.
pub(crate) fn synchronize(driver: &Driver, stream: CUstream) -> Result<(), CUresult> {
    cuda!(driver, cuStreamSynchronize(stream))
}
