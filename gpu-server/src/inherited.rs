//! Descriptors that the process that started us has left open, named by their numbers.
//!
//! # Safety
//! A number becomes an [`OwnedFd`] once, at the start of the process, before anything else could have opened a
//! descriptor of that number or closed it.
#![expect(
    unsafe_code,
    reason = "a number from the command line becomes a descriptor"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;

/// Takes the inherited descriptor of this number; it is not inherited further.
///
/// Call it at the start of a process and once for each number.
///
/// # Errors
/// The number is one of the three standard ones, or nothing is open there.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: asking for the flags of a number that may not be open is harmless.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by this function's contract nothing else in this process owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    #[test]
    fn closed_and_standard_numbers_are_refused() {
        assert!(super::take(1).is_err());
        assert!(super::take(-1).is_err());
        assert!(super::take(1_000_000).is_err());
    }
}
