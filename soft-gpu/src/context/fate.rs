//! How a context fares: what its streams have to know of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::threads::lock;
use driver_api::abi::CUresult;

/// Shared by a context and its streams.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// The error that every later call answers; 0 while all is well.
    sticky: AtomicU32,
    /// Set when the context is torn down: nobody waits any longer, kernels end.
    pub(crate) aborted: AtomicBool,
    /// Whether a kernel has faulted; held while its core dump is made, so that no other one tells of a fault before.
    has_faulted: Mutex<bool>,
    /// What kernels have printed and nobody has seen yet.
    output: Mutex<Vec<u8>>,
}

/// What a device keeps of unseen output; what is more is lost, as on a real one.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

impl Fate {
    /// Fails with the sticky error, if there is one.
    pub(crate) fn status(&self) -> Result<(), CUresult> {
        match self.sticky.load(Ordering::Acquire) {
            0 => Ok(()),
            code => Err(CUresult(code)),
        }
    }

    /// The first error stays.
    pub(crate) fn fail(&self, error: CUresult) {
        let _ = self
            .sticky
            .compare_exchange(0, error.0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Does what comes with the first fault of a kernel. Kernels that fault meanwhile wait for it.
    pub(crate) fn with_first_exception(&self, dump: impl FnOnce()) {
        let mut has_faulted = lock(&self.has_faulted);
        if !std::mem::replace(&mut *has_faulted, true) {
            dump();
        }
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }

    /// Whether what was posted may never be done: who waits, waits no longer.
    pub(crate) fn is_over(&self) -> bool {
        self.is_aborted() || self.status().is_err()
    }

    /// Takes what device code printed.
    pub(crate) fn print(&self, bytes: &[u8]) {
        let mut output = lock(&self.output);
        if output.len() + bytes.len() <= MAX_OUTPUT_BYTES {
            output.extend_from_slice(bytes);
        }
    }

    /// What has been printed since the last time.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_over_once_it_has_failed_or_is_torn_down() {
        let [failed, aborted] = [(); 2].map(|()| Fate::default());
        assert!(!failed.is_over());
        failed.fail(CUresult::ILLEGAL_ADDRESS);
        aborted.abort();
        assert!(failed.is_over() && aborted.is_over());
        assert_eq!(aborted.status(), Ok(()), "nothing has failed in it");
    }
}
