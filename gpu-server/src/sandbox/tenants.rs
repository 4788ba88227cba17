//! What each tenant has on the server: a directory for what the driver compiled for it, and a user that its workers become.
//!
//! *Rules:* no two tenants share a user, ever: who has which is written down before it is used, and nothing is taken out of it; a tenant's directory
//! is its user's alone (0700). A tenant's name is a plain file name but for `.` and `..`, so it is never used without the prefix.
//!
//! ```text
//! STATE/worker-uids.json    { "ann": 200417, … }
//! CACHE/                    0711
//!   t-ann/                  0700, of that user
//! ```

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use protocol::credentials::write_private;

use crate::config::SandboxConfig;
use crate::pool::Tenant;

/// Who has which user.
const TABLE: &str = "worker-uids.json";

/// What a tenant's directory begins with.
const PREFIX: &str = "t-";

/// Why a tenant has no user, or no directory.
#[derive(Debug, thiserror::Error)]
pub enum TenantsError {
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A table that is none.
    #[error("{}: {source}", path.display())]
    Table {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Something else is where the directory should be.
    #[error("{} is not a directory of the server's own", .0.display())]
    NoDirectory(PathBuf),
    /// The worker's user could not get to its directory.
    #[error(
        "workers are to be of users of their own, and these cannot pass {}: let others pass it (chmod o+x), or name another place \
         (cache = 'DIRECTORY' in [sandbox])",
        .0.display()
    )]
    Closed(PathBuf),
    /// There are more tenants than users.
    #[error(
        "every user of worker_uids belongs to another tenant already: widen the range in [sandbox]"
    )]
    NoUserLeft,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TenantsError {
    move |source| TenantsError::Path {
        path: path.to_owned(),
        source,
    }
}

type Table = BTreeMap<String, u32>;

/// The tenants that have been here.
#[derive(Debug)]
pub struct Tenants {
    cache: Option<PathBuf>,
    users: Option<Users>,
}

#[derive(Debug)]
struct Users {
    file: PathBuf,
    range: RangeInclusive<u32>,
    table: Table,
}

impl Tenants {
    /// Reads who has which user; with `changes_user` false, workers stay the daemon's.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn open(config: &SandboxConfig, changes_user: bool) -> Result<Self, TenantsError> {
        let named = config.worker_uids.clone().zip(config.state.as_deref());
        let users = named
            .filter(|_| changes_user)
            .map(|(range, state)| Users::read(state, range))
            .transpose()?;
        Ok(Self {
            cache: config.cache.clone(),
            users,
        })
    }

    /// Looks whether workers that are other users could get to what they are given.
    ///
    /// # Errors
    /// [`TenantsError::Closed`]: they could not.
    pub fn check(&self) -> Result<(), TenantsError> {
        let (Some(cache), Some(_)) = (&self.cache, &self.users) else {
            return Ok(());
        };
        make_passable(cache)?;
        match closed_above(&cache.join(PREFIX)) {
            Some(closed) => Err(TenantsError::Closed(closed)),
            None => Ok(()),
        }
    }

    /// The user of this tenant's workers, the same for ever; none: the daemon's.
    ///
    /// # Errors
    /// No user is left, or it cannot be written down.
    pub fn user(&mut self, tenant: &Tenant) -> Result<Option<u32>, TenantsError> {
        let users = self.users.as_mut();
        users.map(|users| users.of(tenant.as_str())).transpose()
    }

    /// This tenant's directory, made if it is not there, and its user's alone; none: nothing is kept.
    ///
    /// # Errors
    /// It cannot be made, or is not ours.
    pub fn directory(
        &self,
        tenant: &Tenant,
        user: Option<u32>,
    ) -> Result<Option<PathBuf>, TenantsError> {
        let Some(cache) = &self.cache else {
            return Ok(None);
        };
        make_passable(cache)?;
        let path = cache.join(format!("{PREFIX}{tenant}"));
        let owner = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        make_private(&path, owner)?;
        match user.and_then(|_| closed_above(&path)) {
            Some(closed) => Err(TenantsError::Closed(closed)),
            None => Ok(Some(path)),
        }
    }
}

impl Users {
    fn read(state: &Path, range: RangeInclusive<u32>) -> Result<Self, TenantsError> {
        let file = state.join(TABLE);
        let table = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| TenantsError::Table {
                path: file.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Table::new(),
            Err(error) => return Err(at(&file)(error)),
        };
        Ok(Self { file, range, table })
    }

    fn of(&mut self, tenant: &str) -> Result<u32, TenantsError> {
        if let Some(user) = self.table.get(tenant)
            && self.range.contains(user)
        {
            return Ok(*user);
        }
        let user = choose(&self.table, &self.range, tenant).ok_or(TenantsError::NoUserLeft)?;
        let mut table = self.table.clone();
        table.insert(tenant.to_owned(), user);
        let text = serde_json::to_vec_pretty(&table).map_err(|source| TenantsError::Table {
            path: self.file.clone(),
            source,
        })?;
        write_private(&self.file, &text).map_err(at(&self.file))?;
        self.table = table;
        Ok(user)
    }
}

/// A user that nobody has: the one that the name stands for, or the next that is free.
fn choose(table: &Table, range: &RangeInclusive<u32>, tenant: &str) -> Option<u32> {
    let (first, last) = (u64::from(*range.start()), u64::from(*range.end()));
    let count = last - first + 1;
    let begin = hash(tenant) % count;
    (0..count)
        .map(|step| first + (begin + step) % count)
        .filter_map(|user| u32::try_from(user).ok())
        .find(|user| !table.values().any(|taken| taken == user))
}

/// FNV-1a: the same in every release.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Makes a directory that others may pass, whatever the process's mask is.
fn make_passable(path: &Path) -> Result<(), TenantsError> {
    let made = DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.map_err(at(path))?;
    let found = std::fs::metadata(path).map_err(at(path))?;
    if found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o111 != 0o111 {
        let passable = std::fs::Permissions::from_mode(found.mode() & 0o7777 | 0o111);
        std::fs::set_permissions(path, passable).map_err(at(path))?;
    }
    Ok(())
}

/// Makes a directory of this owner alone. What a link could lead away from is not followed.
fn make_private(path: &Path, owner: u32) -> Result<(), TenantsError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(path)(error)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(path).map_err(at(path))?;
    if !found.is_dir() {
        return Err(TenantsError::NoDirectory(path.to_owned()));
    }
    if found.uid() != owner {
        // Of the daemon, or of the user that this tenant had in another range.
        chown(path, Some(owner), Some(owner)).map_err(at(path))?;
    }
    if found.mode() & 0o7777 != 0o700 {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, private).map_err(at(path))?;
    }
    Ok(())
}

/// The first directory above that others may not pass.
fn closed_above(path: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let is_closed = |directory: &&Path| {
        std::fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 == 0)
    };
    above.into_iter().find(is_closed).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().expect("a tenant")
    }

    fn config(state: &Path, range: Option<RangeInclusive<u32>>) -> SandboxConfig {
        SandboxConfig {
            worker_uids: range,
            cache: Some(state.join("cache")),
            state: Some(state.to_owned()),
            ..SandboxConfig::default()
        }
    }

    #[test]
    fn no_two_tenants_share_a_user_and_each_keeps_its_own() {
        let state = tempfile::tempdir().expect("a directory");
        let config = config(state.path(), Some(5000..=5002));
        let mut tenants = Tenants::open(&config, true).expect("opened");
        let names = ["ann", "bob", "eve"];
        let mut users: Vec<u32> = names
            .iter()
            .map(|name| tenants.user(&tenant(name)).expect("a user").expect("one"))
            .collect();
        let full = tenants.user(&tenant("mallory"));
        assert!(matches!(full, Err(TenantsError::NoUserLeft)));
        let mut again = Tenants::open(&config, true).expect("opened");
        for (name, user) in names.iter().zip(&users) {
            assert_eq!(again.user(&tenant(name)).expect("a user"), Some(*user));
        }
        users.sort_unstable();
        assert_eq!(users, [5000, 5001, 5002]);
        // Another range: another user, still nobody else's.
        let moved = SandboxConfig {
            worker_uids: Some(5002..=5010),
            ..config
        };
        let mut tenants = Tenants::open(&moved, true).expect("opened");
        let mut users: Vec<_> = names
            .iter()
            .map(|name| tenants.user(&tenant(name)).expect("a user"))
            .collect();
        users.sort_unstable();
        users.dedup();
        assert_eq!(users.len(), 3);
    }

    #[test]
    fn a_table_that_is_none_is_not_overwritten() {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::write(state.path().join(TABLE), "{").expect("written");
        let opened = Tenants::open(&config(state.path(), Some(5000..=5002)), true);
        assert!(matches!(opened, Err(TenantsError::Table { .. })));
        let mut stays = Tenants::open(&config(state.path(), Some(5000..=5002)), false)
            .expect("nobody looks at it");
        assert_eq!(stays.user(&tenant("ann")).expect("no user"), None);
    }

    #[test]
    fn a_directory_is_private_and_inside() {
        let state = tempfile::tempdir().expect("a directory");
        let tenants = Tenants::open(&config(state.path(), None), false).expect("opened");
        let cache = state.path().join("cache");
        for name in ["ann", "..", ".", "uid-7", "team@site:x"] {
            let path = tenants.directory(&tenant(name), None).expect("made");
            let path = path.expect("a directory");
            assert_eq!(path.parent(), Some(&*cache), "{name}");
            assert_eq!(
                path.file_name().and_then(|name| name.to_str()),
                Some(&*format!("t-{name}"))
            );
            let mode = std::fs::metadata(&path).expect("there").mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        // Made wider by somebody, or replaced.
        let path = cache.join("t-ann");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("changed");
        tenants.directory(&tenant("ann"), None).expect("mended");
        assert_eq!(
            std::fs::metadata(&path).expect("there").mode() & 0o777,
            0o700
        );
        std::fs::remove_dir(&path).expect("removed");
        std::os::unix::fs::symlink("/tmp", &path).expect("a link");
        let replaced = tenants.directory(&tenant("ann"), None);
        assert!(matches!(replaced, Err(TenantsError::NoDirectory(_))));
    }

    #[test]
    fn what_a_user_could_not_pass_is_named() {
        let state = tempfile::tempdir().expect("a directory");
        let inside = state.path().join("state/cache/t-ann");
        std::fs::create_dir_all(&inside).expect("made");
        let set = |mode| {
            let path = state.path().join("state");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
        };
        std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o711))
            .expect("set");
        set(0o700);
        assert_eq!(closed_above(&inside), Some(state.path().join("state")));
        set(0o711);
        assert_eq!(closed_above(&inside), None);
    }
}
