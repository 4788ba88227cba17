//! A bounded part of the machine's memory and processes for each worker: control groups, version 2.
//!
//! *Rules:* only in a group that was given to us (systemd's `Delegate=yes`): what belongs to somebody else is not rearranged. A group that has
//! groups in it may hold no process itself, so the daemon moves into one of its own. A worker enters its group itself, before it has taken anything; its
//! group is removed when it is over. Why no limit of address space (`RLIMIT_AS`): drivers reserve terabytes of it.
//!
//! ```text
//! gpurun.service/           delegated
//!   daemon/                 the daemon, its probe, its monitor
//!   session-7/              memory.max, pids.max
//! ```

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::LayerError;
use crate::config::SandboxConfig;

/// The daemon's own group.
const DAEMON: &str = "daemon";

/// What sessions' groups begin with.
const SESSION: &str = "session-";

/// Which controllers bound the groups in a group.
const CONTROL: &str = "cgroup.subtree_control";

/// What systemd writes on a group that it gives away: by who may write it.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// What bounds workers.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The group in which workers' groups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControlGroups {
    directory: PathBuf,
}

impl ControlGroups {
    /// Takes the group that this process is in, if it was given to us. The process has no children yet.
    ///
    /// # Errors
    /// Why workers' memory and processes cannot be bounded, for people.
    pub(super) fn take() -> Result<Self, String> {
        let read =
            |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let own = own_directory(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
            .ok_or("there are no control groups of version 2")?;
        let directory = match own.file_name() {
            // systemd's DelegateSubgroup=, or a daemon that has moved already.
            Some(name) if name == DAEMON => own.parent().map_or(own.clone(), Path::to_owned),
            _ => own,
        };
        if !is_delegated(&directory) {
            let directory = directory.display();
            return Err(format!(
                "the control group {directory} was not given to the server (Delegate=yes in its unit)"
            ));
        }
        Self::prepare(directory)
    }

    /// Makes a delegated group one in which groups can be made.
    fn prepare(directory: PathBuf) -> Result<Self, String> {
        let failed = |what: &str| {
            let path = directory.join(what);
            move |error: io::Error| format!("{}: {error}", path.display())
        };
        let offered = std::fs::read_to_string(directory.join("cgroup.controllers"))
            .map_err(failed("cgroup.controllers"))?;
        let missing = |wanted: &&&str| !offered.split_ascii_whitespace().any(|has| has == **wanted);
        if let Some(missing) = CONTROLLERS.iter().find(missing) {
            let directory = directory.display();
            return Err(format!("the control group {directory} has no '{missing}'"));
        }
        let daemon = directory.join(DAEMON);
        match std::fs::create_dir(&daemon) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(DAEMON)(error));
            }
            _ => {}
        }
        let inside = std::fs::read_to_string(directory.join("cgroup.procs"))
            .map_err(failed("cgroup.procs"))?;
        for process in inside.split_ascii_whitespace() {
            std::fs::write(daemon.join("cgroup.procs"), process).map_err(failed(DAEMON))?;
        }
        let groups = Self { directory };
        groups
            .control('+')
            .map_err(|error| format!("{}: {error}", groups.directory.join(CONTROL).display()))?;
        groups.remove_empty();
        Ok(groups)
    }

    /// Gives the group back as it was, but for those of sessions that go on: a service manager starts the next daemon in it, and no group that
    /// bounds others may hold a process. Their bounds come back with the next daemon.
    pub(super) fn give_back(&self) -> io::Result<()> {
        self.control('-')
    }

    fn control(&self, sign: char) -> io::Result<()> {
        let controllers = CONTROLLERS.map(|controller| format!("{sign}{controller}"));
        std::fs::write(self.directory.join(CONTROL), controllers.join(" "))
    }

    /// Removes the groups of sessions that were over before we began.
    fn remove_empty(&self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(SESSION) {
                // It fails where there are processes.
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }

    fn of_session(&self, session: u64) -> PathBuf {
        self.directory.join(format!("{SESSION}{session}"))
    }

    /// Whether a session has a group.
    pub(super) fn has(&self, session: u64) -> bool {
        self.of_session(session).is_dir()
    }

    /// Makes the group of a session's worker, or bounds it again.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn make(&self, session: u64, config: &SandboxConfig) -> io::Result<PathBuf> {
        let group = self.of_session(session);
        match std::fs::create_dir(&group) {
            // Of a session that goes on.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let limit = |bound: Option<u64>| bound.map_or("max".to_owned(), |bound| bound.to_string());
        std::fs::write(group.join("memory.max"), limit(config.memory_max))?;
        // A worker without one of its threads is of no use.
        std::fs::write(group.join("memory.oom.group"), "1")?;
        std::fs::write(group.join("pids.max"), limit(config.pids_max))?;
        Ok(group)
    }

    /// Removes the group of a session that is over.
    pub(super) fn remove(&self, session: u64) {
        let group = self.of_session(session);
        match std::fs::remove_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(session, "{}: {error}", group.display());
            }
            _ => {}
        }
    }
}

/// Enters a group.
pub(super) fn join(group: &str) -> Result<(), LayerError> {
    let path = Path::new(group).join("cgroup.procs");
    if !path.is_absolute() {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(LayerError::Path { path, source });
    }
    // Nothing is made where there is no group.
    let file = OpenOptions::new().write(true).open(&path);
    // Zero: the process that writes.
    file.and_then(|mut file| file.write_all(b"0"))
        .map_err(|source| LayerError::Path { path, source })
}

/// Whether a group was given to who may write in it.
fn is_delegated(directory: &Path) -> bool {
    DELEGATED.iter().any(|name| {
        let mut value = [0; 8];
        matches!(rustix::fs::getxattr(directory, *name, &mut value[..]), Ok(1) if value[0] == b'1')
    })
}

/// Where the group of this process is, by the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn own_directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // `ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS… - TYPE SOURCE OPTIONS`
    let mut mounted = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then_some((root, point))
    });
    mounted.find_map(|(root, point)| {
        let inside = Path::new(group).strip_prefix(root).ok()?;
        let directory = Path::new(point).join(inside);
        // Without a slash at its end.
        Some(directory.components().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 28 0:20 / /proc rw - proc proc rw\n\
                          30 28 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found() {
        let found = own_directory("0::/system.slice/gpurun.service\n", MOUNTS);
        let expected = "/sys/fs/cgroup/system.slice/gpurun.service";
        assert_eq!(found, Some(expected.into()));
        let hybrid = "9:pids:/\n0::/\n";
        let mounts = "1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let found = own_directory(hybrid, mounts);
        assert_eq!(found, Some("/sys/fs/cgroup/unified".into()));
        // A container that sees a part of the hierarchy.
        let part = "1 2 0:3 /docker/x /sys/fs/cgroup ro - cgroup2 none ro\n";
        let found = own_directory("0::/docker/x/y\n", part);
        assert_eq!(found, Some("/sys/fs/cgroup/y".into()));
        assert_eq!(own_directory("0::/elsewhere\n", part), None);
        assert_eq!(own_directory("4:memory:/x\n", MOUNTS), None);
    }

    /// A directory with the files that a group has.
    fn group(controllers: &str, processes: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).expect("written");
        };
        write("cgroup.controllers", controllers);
        write("cgroup.procs", processes);
        directory
    }

    fn text(path: PathBuf) -> String {
        std::fs::read_to_string(path).expect("a file")
    }

    #[test]
    fn the_daemon_moves_and_workers_are_bounded() {
        let fake = group("cpu io memory pids\n", "41\n");
        let root = fake.path();
        let groups = ControlGroups::prepare(root.to_owned()).expect("prepared");
        assert_eq!(text(root.join("daemon/cgroup.procs")), "41");
        assert_eq!(text(root.join("cgroup.subtree_control")), "+memory +pids");
        let config = SandboxConfig {
            memory_max: Some(1 << 30),
            ..SandboxConfig::default()
        };
        let made = groups.make(7, &config).expect("made");
        assert_eq!(made, root.join("session-7"));
        assert_eq!(text(made.join("memory.max")), "1073741824");
        assert_eq!(text(made.join("memory.oom.group")), "1");
        assert_eq!(text(made.join("pids.max")), "max");
        groups.make(7, &config).expect("one that was left behind");
        let processes = made.join("cgroup.procs");
        std::fs::write(processes, "").expect("what the kernel makes");
        join(made.to_str().expect("a path")).expect("joined");
        assert_eq!(text(made.join("cgroup.procs")), "0");
        // What the kernel does with a group's files by itself.
        for entry in std::fs::read_dir(&made).expect("there").flatten() {
            std::fs::remove_file(entry.path()).expect("removed");
        }
        groups.remove(7);
        assert!(!made.exists());
        groups.give_back().expect("given back");
        assert_eq!(text(root.join(CONTROL)), "-memory -pids");
        std::fs::create_dir(root.join("session-6")).expect("one whose worker has ended");
        std::fs::create_dir_all(root.join("session-8/thing")).expect("one that lives");
        ControlGroups::prepare(root.to_owned()).expect("prepared again");
        assert!(!root.join("session-6").exists() && root.join("session-8").exists());
        assert_eq!(text(root.join(CONTROL)), "+memory +pids");
    }

    #[test]
    fn a_group_without_controllers_is_named() {
        let fake = group("cpu io memory\n", "41\n");
        let error = ControlGroups::prepare(fake.path().to_owned()).expect_err("no pids");
        assert!(error.ends_with("has no 'pids'"), "{error}");
        assert!(!fake.path().join("daemon").exists(), "nothing was moved");
        assert!(!is_delegated(fake.path()));
    }

    #[test]
    fn a_group_that_is_not_there_is_not_joined() {
        assert!(join("").is_err());
        assert!(join("/nowhere").is_err());
    }
}
