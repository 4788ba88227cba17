//! What a worker may open: Landlock, as much of it as the kernel has.
//!
//! *Rules:* everything that is not named is refused: to read, to write, to execute (which is granted nowhere), to control (devices, ABI 5); no TCP
//! connection is made and none is listened for (ABI 4; the client's is open already); abstract sockets and signals reach no process
//! outside (ABI 6), unix sockets none that is not named (ABI 9). What is named and not there is skipped. Which ABI the kernel has, the daemon says.
//!
//! *Why the descriptors stay open:* a rule belongs to an inode, and `/proc` makes a new one for the same path once nobody holds the old.
//!
//! # Safety
//! The one call takes a null pointer and numbers, and answers with a number.
#![expect(
    unsafe_code,
    reason = "asks the kernel for Landlock's ABI, for which there is no safe call"
)]

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath,
    RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use protocol::hello::{SandboxAccess, SandboxOrder, SandboxPath};
use rustix::fs::{Mode, OFlags};

use super::{LayerError, threads};

/// The youngest ABI whose rights are known here and meant.
const NEWEST: ABI = ABI::V9;

/// The ABI of the kernel's Landlock; 0: it has none, or it is turned off.
pub(super) fn abi() -> i32 {
    const VERSION: libc::c_uint = 1;
    let nothing: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag the call reads nothing, and makes nothing.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    i32::try_from(abi).unwrap_or(0).max(0)
}

/// What was named and is there.
pub(super) struct Opened {
    path: OwnedFd,
    access: BitFlags<AccessFs>,
}

/// Opens what the order names, with the rights of who still has them.
pub(super) fn open(order: &SandboxOrder) -> Vec<Opened> {
    order.paths.iter().filter_map(open_one).collect()
}

fn open_one(named: &SandboxPath) -> Option<Opened> {
    let path = Path::new(&named.path);
    if named.make {
        let made = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        if let Err(error) = made {
            tracing::warn!(
                "{} is not there and cannot be made: {error}",
                path.display()
            );
        }
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => Some(Opened {
            path: descriptor,
            access: rights(named.access()),
        }),
        Err(error) => {
            tracing::trace!("no rule for {}: {error}", path.display());
            None
        }
    }
}

/// The rights of each way to open something.
fn rights(access: SandboxAccess) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let change = read | AccessFs::WriteFile | AccessFs::Truncate;
    match access {
        SandboxAccess::Unspecified => BitFlags::EMPTY,
        SandboxAccess::Read => read,
        SandboxAccess::Change => change,
        SandboxAccess::Own => {
            change
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
        }
        SandboxAccess::Device => read | AccessFs::WriteFile | AccessFs::IoctlDev,
        SandboxAccess::Connect => AccessFs::ResolveUnix.into(),
    }
}

/// Binds this thread, and those that begin later, to what was opened.
pub(super) fn confine(opened: Vec<Opened>) -> Result<(), LayerError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .all_threads(true)?;
    for rule in &opened {
        if !rule.access.is_empty() {
            ruleset = ruleset.add_rule(PathBeneath::new(&rule.path, rule.access))?;
        }
    }
    let status = ruleset.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(LayerError::Absent("Landlock"));
    }
    // For the rest of the process's life.
    opened
        .into_iter()
        .for_each(|rule| std::mem::forget(rule.path));
    match threads()? {
        0 | 1 => Ok(()),
        _ if status.all_threads => Ok(()),
        count => Err(LayerError::Threads(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_executed() {
        for access in [
            SandboxAccess::Read,
            SandboxAccess::Change,
            SandboxAccess::Own,
            SandboxAccess::Device,
            SandboxAccess::Connect,
        ] {
            assert!(!rights(access).contains(AccessFs::Execute), "{access:?}");
        }
        assert!(rights(SandboxAccess::Unspecified).is_empty());
    }

    #[test]
    fn what_is_not_there_is_skipped_and_what_is_to_be_made_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let named = |name: &str, make| SandboxPath {
            path: folder.path().join(name).display().to_string(),
            access: SandboxAccess::Change.into(),
            make,
        };
        let order = SandboxOrder {
            paths: vec![named("absent", false), named("made", true)],
            ..SandboxOrder::default()
        };
        assert_eq!(open(&order).len(), 1);
        assert!(folder.path().join("made").exists());
    }
}
