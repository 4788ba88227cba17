//! What the kernel offers to confine workers with, looked at once by the daemon.

use rustix::thread::CapabilitySet;

use super::{calls, files};
use crate::config::SandboxConfig;
use crate::config::sandbox::Enabled;

/// The first ABI of Landlock that keeps signals and abstract sockets inside.
const SCOPED: i32 = 6;

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    /// The ABI of Landlock; 0: none.
    pub landlock: i32,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
    /// Whether this process may become another user.
    pub may_change_user: bool,
    /// Whether a control group was given to us; if not, why.
    pub control_group: Result<(), String>,
}

/// What Landlock of this ABI does not cover.
fn unknown_to(abi: i32) -> String {
    const LATER: [(i32, &str); 4] = [
        (3, "shortening files (Linux 6.2)"),
        (4, "TCP (6.7)"),
        (5, "controlling devices (6.10)"),
        (SCOPED, "abstract sockets and signals (6.12)"),
    ];
    let unknown = LATER.into_iter().filter(|(since, _)| abi < *since);
    unknown.map(|(_, what)| what).collect::<Vec<_>>().join(", ")
}

impl Offers {
    /// Looks.
    #[must_use]
    pub fn look(control_group: Result<(), String>) -> Self {
        let held = rustix::thread::capabilities(None);
        let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID;
        Self {
            landlock: files::abi(),
            seccomp: calls::is_there(),
            may_change_user: held.is_ok_and(|held| held.effective.contains(wanted)),
            control_group,
        }
    }

    /// What cannot be had of what the settings ask for, one sentence each; the first part is refused where all is required, the other
    /// is only said.
    #[must_use]
    pub fn missing(&self, config: &SandboxConfig) -> (Vec<String>, Vec<String>) {
        let (mut serious, mut slight) = (Vec::new(), Vec::new());
        match self.landlock {
            0 => serious.push(
                "this kernel has no Landlock (Linux 5.13 and later, 'landlock' in lsm=): workers can open what their user can"
                    .to_owned(),
            ),
            abi if abi < SCOPED => slight.push(format!(
                "this kernel's Landlock is of ABI {abi}, and knows nothing of {}: there the filter of system calls is the only layer",
                unknown_to(abi)
            )),
            _ => {}
        }
        if !self.seccomp {
            serious.push(
                "this kernel has no seccomp filters: workers can make any system call".to_owned(),
            );
        }
        match (&config.worker_uids, self.may_change_user) {
            (None, _) => slight.push(
                "workers are of the server's own user: worker_uids = '200000-265535' in [sandbox] gives each tenant its own, if root starts the server"
                    .to_owned(),
            ),
            (Some(_), false) => serious.push(
                "worker_uids are set, but the server may not change the user: it must be started by root".to_owned(),
            ),
            (Some(_), true) => {}
        }
        if let Err(problem) = &self.control_group {
            let bounded = config.memory_max.is_some();
            let list = if bounded { &mut serious } else { &mut slight };
            list.push(format!(
                "workers' memory and processes are not bounded: {problem}"
            ));
        }
        (serious, slight)
    }

    /// Says what there is and what is missing, once.
    ///
    /// # Errors
    /// Everything is required, and something is missing.
    pub(super) fn say(&self, config: &SandboxConfig) -> Result<(), Vec<String>> {
        if config.enabled == Enabled::Off {
            tracing::warn!("workers are not confined (enabled = 'off' in [sandbox])");
            return Ok(());
        }
        let (serious, slight) = self.missing(config);
        tracing::info!(
            landlock = self.landlock,
            seccomp = self.seccomp,
            users = config.worker_uids.is_some() && self.may_change_user,
            control_groups = self.control_group.is_ok(),
            "workers are confined"
        );
        slight.iter().for_each(|line| tracing::info!("{line}"));
        if config.enabled == Enabled::Required && !serious.is_empty() {
            return Err(serious);
        }
        serious.iter().for_each(|line| tracing::warn!("{line}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offers = Offers {
        landlock: 7,
        seccomp: true,
        may_change_user: true,
        control_group: Ok(()),
    };

    fn config(enabled: Enabled) -> SandboxConfig {
        SandboxConfig {
            enabled,
            worker_uids: Some(5000..=5001),
            ..SandboxConfig::default()
        }
    }

    #[test]
    fn nothing_is_missing_where_all_is_there() {
        assert_eq!(ALL.missing(&config(Enabled::Auto)), (vec![], vec![]));
        assert_eq!(ALL.say(&config(Enabled::Required)), Ok(()));
    }

    #[test]
    fn an_old_kernel_is_said_and_refused_only_where_all_is_required() {
        let old = Offers {
            landlock: 0,
            seccomp: false,
            may_change_user: false,
            control_group: Err("there are none".to_owned()),
        };
        assert_eq!(old.say(&config(Enabled::Auto)), Ok(()));
        assert_eq!(old.say(&config(Enabled::Off)), Ok(()));
        let refused = old.say(&config(Enabled::Required)).expect_err("refused");
        assert_eq!(refused.len(), 3, "{refused:?}");
        assert!(refused[0].contains("no Landlock"));
        // The memory that nobody bounds matters where a bound was asked for.
        let bounded = SandboxConfig {
            memory_max: Some(1),
            ..config(Enabled::Required)
        };
        assert_eq!(old.say(&bounded).expect_err("refused").len(), 4);
    }

    #[test]
    fn a_kernel_in_between_is_said() {
        let middle = Offers { landlock: 3, ..ALL };
        let (serious, slight) = middle.missing(&config(Enabled::Auto));
        assert!(serious.is_empty());
        assert!(slight[0].contains("ABI 3"));
    }

    #[test]
    fn this_kernel_is_looked_at() {
        let offers = Offers::look(Ok(()));
        assert!(offers.seccomp && offers.landlock >= 0);
    }
}
