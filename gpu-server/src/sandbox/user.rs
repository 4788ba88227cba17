//! Who a worker is: another user than the daemon, without capabilities, and hidden from others of the same user.
//!
//! *Rules:* groups before the user, since the user may not change them; what was changed is looked at; the kernel forgets at a change of the user
//! that the worker is to end with its daemon, so it is told again. A process that is not dumpable cannot be traced, and its memory not read through
//! `/proc`, by another of its user: only by who has `CAP_SYS_PTRACE`, which no worker has.
//!
//! # Safety
//! The calls take numbers, and one array with its own length. They are the C library's, which changes every thread of the process.
#![expect(unsafe_code, reason = "changes the process's user")]

use std::io;

use protocol::hello::SandboxOrder;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{LayerError, threads};

/// Becomes the user of the order.
pub(super) fn become_user(order: &SandboxOrder) -> Result<(), LayerError> {
    allow_pinning();
    // SAFETY: the array is as long as is said.
    check("the groups", unsafe {
        libc::setgroups(order.groups.len(), order.groups.as_ptr())
    })?;
    let (user, group) = (order.user, order.group);
    // SAFETY: numbers.
    check("the group", unsafe { libc::setresgid(group, group, group) })?;
    // SAFETY: numbers.
    check("the user", unsafe { libc::setresuid(user, user, user) })?;
    // SAFETY: a number; it must fail.
    if unsafe { libc::setresuid(0, 0, 0) } == 0 {
        let source = io::Error::other("it could be taken back");
        return Err(LayerError::Io {
            what: "the user",
            source,
        });
    }
    Ok(())
}

fn check(what: &'static str, result: libc::c_int) -> Result<(), LayerError> {
    match result {
        0 => Ok(()),
        _ => Err(LayerError::io(what)(io::Error::last_os_error())),
    }
}

/// Lets the kernel end this process with the daemon's thread that started it, once more. `daemon` is its process; 0: the worker outlives it.
pub(super) fn end_with(daemon: u32) -> io::Result<()> {
    if daemon == 0 {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match std::os::unix::process::parent_id() == daemon {
        true => Ok(()),
        false => Err(io::Error::other("the daemon is gone")),
    }
}

/// Adapters and drivers pin memory, which this lets who is not the superuser do only up to a limit. The control group bounds it.
fn allow_pinning() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Memlock, unlimited) {
        tracing::debug!("the limit of pinned memory stays: {error}");
    }
}

/// Memory and events that processes share are descriptors, which may become more than are allowed without asking.
fn allow_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, most) {
        tracing::debug!("the limit of descriptors stays: {error}");
    }
}

/// Gives up capabilities and new privileges, and hides the process.
pub(super) fn drop_privileges() -> Result<(), LayerError> {
    match threads()? {
        0 | 1 => {}
        count => return Err(LayerError::Threads(count)),
    }
    allow_descriptors();
    let failed = |what| move |error: rustix::io::Errno| LayerError::io(what)(error.into());
    let held = rustix::thread::capabilities(None).map_err(failed("capabilities"))?;
    if !held.permitted.is_empty() {
        allow_pinning();
        forget_bounding_set(held.effective);
        rustix::thread::clear_ambient_capability_set().map_err(failed("capabilities"))?;
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).map_err(failed("capabilities"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(failed("no new privileges"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("hiding the process"))
}

/// Takes every capability out of what a program that is executed could get; that nothing can be executed holds as well.
fn forget_bounding_set(effective: CapabilitySet) {
    if !effective.contains(CapabilitySet::SETPCAP) {
        return;
    }
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
            // The kernel knows no more.
            return;
        }
    }
}
