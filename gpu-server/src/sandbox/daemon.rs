//! The daemon's side: what is there is said once, and each worker gets its order.

use std::io;
use std::path::{Path, PathBuf};

use protocol::hello::{DeviceKind, SandboxOrder};
use rustix::process::DumpableBehavior;

use super::Offers;
use super::control_group::ControlGroups;
use super::plan::{Situation, Surroundings, changes_user, plan};
use super::tenants::{Tenants, TenantsError};
use crate::config::SandboxConfig;
use crate::config::sandbox::Enabled;
use crate::pool::Tenant;

/// Why a worker cannot be confined as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Everything is required, and something is missing.
    #[error(
        "the settings require that workers are confined (enabled = 'required' in [sandbox]), but:{}",
        lines(.0)
    )]
    Missing(Vec<String>),
    /// A tenant's user or directory.
    #[error(transparent)]
    Tenants(#[from] TenantsError),
    /// A worker's control group.
    #[error("the worker's control group: {0}")]
    ControlGroup(io::Error),
}

fn lines(missing: &[String]) -> String {
    missing.iter().map(|line| format!("\n  {line}")).collect()
}

/// What confines the workers of a daemon.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    offers: Offers,
    tenants: Tenants,
    groups: Option<ControlGroups>,
    driver: PathBuf,
    kind: DeviceKind,
}

impl Sandbox {
    /// Looks at what there is, and says it. The daemon has started no process yet that is to stay.
    ///
    /// # Errors
    /// The settings require what is not there, or the tenants' users cannot be read.
    pub fn begin(
        config: &SandboxConfig,
        driver: &Path,
        kind: DeviceKind,
    ) -> Result<Self, SandboxError> {
        let groups = match config.enabled {
            Enabled::Off => Err("workers are not confined".to_owned()),
            Enabled::Auto | Enabled::Required => ControlGroups::take(),
        };
        let offers = Offers::look(groups.as_ref().map(drop).map_err(Clone::clone));
        offers.say(config).map_err(SandboxError::Missing)?;
        if offers.landlock == 0 && config.enabled != Enabled::Off {
            hide();
        }
        let changes_user = changes_user(config, &offers, kind);
        if config.worker_uids.is_some() && kind == DeviceKind::Software {
            tracing::info!(
                "workers on the software GPU stay of the server's own user: its processes share a segment of memory"
            );
        }
        let tenants = Tenants::open(config, changes_user)?;
        match tenants.check() {
            Err(error) if config.enabled == Enabled::Required => return Err(error.into()),
            Err(error) => tracing::warn!("nothing that the driver compiles will be kept: {error}"),
            Ok(()) => {}
        }
        Ok(Self {
            tenants,
            config: config.clone(),
            offers,
            groups: groups.ok(),
            driver: driver.to_owned(),
            kind,
        })
    }

    /// The order for a worker of this tenant, with all that it names made.
    ///
    /// # Errors
    /// The tenant has no user of its own although it should; what is required cannot be made.
    pub fn order(&mut self, tenant: &Tenant, session: u64) -> Result<SandboxOrder, SandboxError> {
        let user = self.tenants.user(tenant)?;
        let cache = match self.kind {
            // It compiles nothing that it could keep.
            DeviceKind::Software => None,
            DeviceKind::Nvidia | DeviceKind::Unspecified => {
                let made = self.tenants.directory(tenant, user);
                let made = made.map_err(SandboxError::from);
                self.or_without(made, "nothing that the driver compiles is kept")?
            }
        };
        let group = match &self.groups {
            Some(groups) => {
                let made = groups.make(session, &self.config);
                let made = made.map(Some).map_err(SandboxError::ControlGroup);
                self.or_without(made, "the worker is not bounded")?
            }
            None => None,
        };
        let surroundings = Surroundings::look(&self.driver);
        Ok(plan(&Situation {
            config: &self.config,
            offers: &self.offers,
            kind: self.kind,
            surroundings: &surroundings,
            user,
            cache: cache.as_deref(),
            control_group: group.as_deref(),
        }))
    }

    /// What was made, or nothing with a word in the log; an error where all is required.
    fn or_without<T>(
        &self,
        made: Result<Option<T>, SandboxError>,
        consequence: &str,
    ) -> Result<Option<T>, SandboxError> {
        match made {
            Err(error) if self.config.enabled == Enabled::Required => Err(error),
            Err(error) => {
                tracing::warn!("{consequence}: {error}");
                Ok(None)
            }
            Ok(made) => Ok(made),
        }
    }

    /// Gives back what a session had that is over.
    pub fn forget(&self, session: u64) {
        if let Some(groups) = &self.groups {
            groups.remove(session);
        }
    }

    /// Bounds the worker of a session that goes on after a restart, if it was bounded: its group's bounds went with the last daemon.
    pub fn bound_again(&self, session: u64) {
        if let Some(groups) = &self.groups
            && groups.has(session)
            && let Err(error) = groups.make(session, &self.config)
        {
            tracing::warn!(session, "the worker is not bounded any more: {error}");
        }
    }

    /// Leaves behind what the next daemon can begin in.
    pub fn give_back(&self) {
        if let Some(Err(error)) = self.groups.as_ref().map(ControlGroups::give_back) {
            tracing::warn!(
                "the control group cannot be given back, so that the next server may not begin: {error}"
            );
        }
    }
}

/// Hides this process's memory from others of its user. Landlock does that for workers already; where there is none, a daemon with keys in its memory
/// has to.
pub fn hide() {
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("the server's memory can be read by its workers: {error}");
    }
}
