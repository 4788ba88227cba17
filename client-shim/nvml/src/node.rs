//! The driver's device node, for programs that look for it before they load a library.
//!
//! *What:* JAX takes a machine without `/dev/nvidiactl` for one without a GPU, and does not ask the driver. `stat` and `access` answer here, in programs into
//! which `gpurun` has preloaded this library, that the node is there. *Rules:* what the machine says comes first; one path is answered for, and only whether it
//! is there: whoever opens it is told the truth. Signal handlers call these functions, so nothing is done but system calls.
//!
//! # Safety
//! A path that the kernel has not found is a C string: for anything else it says something else. The structure that `stat` fills is the kernel's on this
//! architecture, for each of its names.
#![expect(unsafe_code, reason = "stands before functions of the C library")]

use core::ffi::{CStr, c_char, c_int, c_long};

use libc::{AT_FDCWD, EINVAL, ENOENT, SYS_faccessat, SYS_newfstatat, stat as Status};

/// The node, and one that every machine has.
const NODE: &CStr = c"/dev/nvidiactl";
const OTHER: &CStr = c"/dev/null";
/// Where NVIDIA's driver has it: character device, major and minor number.
const NUMBER: (u32, u32) = (195, 255);
/// The newest version of the structure that `__xstat` is asked for; the older one is the same.
const VERSION: c_int = 1;

fn errno() -> c_int {
    // SAFETY: it is this thread's, and always there.
    unsafe { *libc::__errno_location() }
}

fn set_errno(error: c_int) {
    // SAFETY: it is this thread's, and always there.
    unsafe { *libc::__errno_location() = error }
}

/// Asks for a path, and for the other node instead where it is the driver's that is not there; whether that was so.
fn asking(path: *const c_char, ask: impl Fn(*const c_char) -> c_long) -> (c_int, bool) {
    let before = errno();
    let answer = ask(path) as c_int;
    if answer == 0 || errno() != ENOENT {
        return (answer, false);
    }
    // SAFETY: the kernel has read it to its end.
    if unsafe { CStr::from_ptr(path) } != NODE {
        return (answer, false);
    }
    set_errno(before);
    (ask(OTHER.as_ptr()) as c_int, true)
}

fn status(path: *const c_char, place: *mut Status) -> c_int {
    // SAFETY: the kernel checks both addresses.
    let ask =
        |path: *const c_char| unsafe { libc::syscall(SYS_newfstatat, AT_FDCWD, path, place, 0) };
    let (answer, is_node) = asking(path, ask);
    if answer == 0 && is_node {
        // SAFETY: the kernel has just written it.
        unsafe { (*place).st_rdev = libc::makedev(NUMBER.0, NUMBER.1) };
    }
    answer
}

fn status_of_version(version: c_int, path: *const c_char, place: *mut Status) -> c_int {
    if !(0..=VERSION).contains(&version) {
        set_errno(EINVAL);
        return -1;
    }
    status(path, place)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn stat(path: *const c_char, place: *mut Status) -> c_int {
    status(path, place)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn stat64(path: *const c_char, place: *mut Status) -> c_int {
    status(path, place)
}

/// What `stat` is to programs that were linked with a C library before 2.33.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __xstat(version: c_int, path: *const c_char, place: *mut Status) -> c_int {
    status_of_version(version, path, place)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn __xstat64(
    version: c_int,
    path: *const c_char,
    place: *mut Status,
) -> c_int {
    status_of_version(version, path, place)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: the kernel checks the address.
    let ask = |path: *const c_char| unsafe { libc::syscall(SYS_faccessat, AT_FDCWD, path, mode) };
    asking(path, ask).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_there(path: &CStr) -> (c_int, Status) {
        // SAFETY: zeros are a value of it.
        let mut found: Status = unsafe { core::mem::zeroed() };
        (status(path.as_ptr(), &mut found), found)
    }

    #[test]
    fn the_node_is_there_and_nothing_else_is_made_up() {
        let (answer, found) = is_there(NODE);
        assert_eq!(answer, 0);
        assert_eq!(found.st_mode & libc::S_IFMT, libc::S_IFCHR);
        assert_eq!(found.st_rdev, libc::makedev(195, 255));
        assert_eq!(access(NODE.as_ptr(), libc::R_OK | libc::W_OK), 0);
        for path in [c"/dev/nvidiactl2", c"/dev/nvidiactl/x", c"/no/such", c""] {
            assert_eq!(is_there(path).0, -1, "{path:?}");
            assert_eq!(errno(), ENOENT);
            assert_eq!(access(path.as_ptr(), libc::F_OK), -1);
            assert_eq!(errno(), ENOENT);
        }
    }

    #[test]
    fn what_the_machine_says_comes_first() {
        let (answer, null) = is_there(OTHER);
        assert_eq!((answer, null.st_rdev), (0, libc::makedev(1, 3)));
        let nothing = core::ptr::null();
        let mut found = null;
        assert_eq!(status(nothing, &mut found), -1);
        assert_eq!(errno(), libc::EFAULT);
        assert_eq!(status(NODE.as_ptr(), core::ptr::null_mut()), -1);
        assert_eq!(errno(), libc::EFAULT);
        assert_eq!(status_of_version(2, OTHER.as_ptr(), &mut found), -1);
        assert_eq!(errno(), EINVAL);
    }
}
