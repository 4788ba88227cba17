//! What the driver says beside its codes: which kernel failed, where, and why.
//!
//! *What:* newer drivers, and the software GPU, keep a log that their program can read. The worker reads it when a context is lost, so that the
//! lines reach the one who can use them, who has no access to the server's. *Rules:* a driver without such a log is no error; what only says that a call
//! has failed is left out, since those are our calls.
//!
//! # Safety
//! The iterator and the buffer are locals, and the size that is passed is the buffer's.
#![expect(unsafe_code, reason = "calls the driver")]

use std::ffi::CStr;
use std::sync::Mutex;

use driver_api::Driver;
use driver_api::error_log::{self, RETURNING};

use super::end::lock;
use crate::driver::cuda;

/// What is read at once: more than drivers keep.
const MOST_BYTES: usize = 25_600;

/// The place in the driver's log up to which everything was told.
#[derive(Default)]
pub(crate) struct Words {
    told: Mutex<u32>,
}

impl Words {
    /// From now on.
    pub(crate) fn from_now(driver: &Driver) -> Self {
        let mut place = 0;
        // Without a log there is nothing to be told, now or later.
        let _ = cuda!(driver, cuLogsCurrent(&mut place, 0));
        Self {
            told: Mutex::new(place),
        }
    }

    /// What was said since the last time, in one line; empty if nothing was.
    pub(crate) fn take(&self, driver: &Driver) -> String {
        let mut place = lock(&self.told);
        let mut buffer = vec![0_u8; MOST_BYTES];
        let mut size = buffer.len() - 1;
        let read = cuda!(
            driver,
            cuLogsDumpToMemory(&mut *place, buffer.as_mut_ptr().cast(), &mut size, 0)
        );
        if read.is_err() {
            return String::new();
        }
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        let text = text.to_string_lossy();
        let messages = text.lines().map(error_log::message);
        let lines: Vec<&str> = messages
            .filter(|line| !line.is_empty() && !line.starts_with(RETURNING))
            .collect();
        lines.join("; ")
    }
}
