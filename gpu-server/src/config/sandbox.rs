//! What the settings say of how workers are confined: the table `[sandbox]`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use protocol::size::parse_bytes;
use serde::Deserialize;

use super::ConfigError;

/// Most bytes that a driver keeps of what it compiled for one tenant, if nothing else is said.
pub const DEFAULT_CACHE_BYTES: u64 = 1 << 30;

/// Most bytes of the core dumps of one worker's kernels, if nothing else is said.
pub const DEFAULT_COREDUMP_BYTES: u64 = crate::worker::DEFAULT_COREDUMP_BYTES;

/// Most processes and threads of one worker where a control group can bound them, if nothing else is said.
pub const DEFAULT_PIDS_MAX: u64 = 8192;

/// The first user that may be a worker's: those below are the system's.
const FIRST_USER: u32 = 1000;

/// The last one: the numbers above it stand for nobody.
const LAST_USER: u32 = u32::MAX - 2;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SandboxFile {
    enabled: Option<Enabled>,
    worker_uids: Option<String>,
    memory_max: Option<String>,
    pids_max: Option<u64>,
    cache: Option<PathBuf>,
    cache_max: Option<String>,
    coredump_max: Option<String>,
    #[serde(default)]
    read: Vec<PathBuf>,
    #[serde(default)]
    write: Vec<PathBuf>,
}

/// How much workers are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enabled {
    /// As far as the kernel can.
    #[default]
    Auto,
    /// Fully, or no session is served.
    Required,
    /// Not at all.
    Off,
}

/// How workers are confined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxConfig {
    /// How much.
    pub enabled: Enabled,
    /// The users that workers become, one for each tenant; none: workers are of the daemon's user.
    pub worker_uids: Option<RangeInclusive<u32>>,
    /// Most bytes of the machine's memory for one worker; none: no bound.
    pub memory_max: Option<u64>,
    /// Most processes and threads of one worker.
    pub pids_max: Option<u64>,
    /// Where each tenant has a directory for what the driver compiled; none: nothing is kept.
    pub cache: Option<PathBuf>,
    /// Most bytes of one tenant's.
    pub cache_bytes: u64,
    /// Most bytes of the core dumps of one worker's kernels, in memory until they are sent; 0: there are none.
    pub coredump_bytes: u64,
    /// What workers may read besides.
    pub read: Vec<PathBuf>,
    /// What workers may write besides.
    pub write: Vec<PathBuf>,
    /// The server's state, where the tenants' users are written down.
    pub state: Option<PathBuf>,
}

impl SandboxConfig {
    /// What the file says, checked. Without a word of a cache it is the unit's, else in the state directory, else in the user's own.
    pub(super) fn merge(file: SandboxFile, state: Option<&Path>) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::Sandbox(problem);
        let size = |name: &str, text: Option<String>| {
            text.map(|text| parse_bytes(&text))
                .transpose()
                .map_err(|error| wrong(format!("{name}: {error}")))
        };
        let worker_uids = file
            .worker_uids
            .map(|text| users(&text).ok_or_else(|| wrong(users_problem(&text))))
            .transpose()?;
        if worker_uids.is_some() && state.is_none() {
            let problem =
                "worker_uids: needs state = 'DIRECTORY', where it is kept whose each of them is";
            return Err(wrong(problem.to_owned()));
        }
        if file.pids_max == Some(0) {
            return Err(wrong("pids_max: must be at least 1".to_owned()));
        }
        let named = file.cache.iter().chain(&file.read).chain(&file.write);
        if let Some(path) = named.clone().find(|path| !path.is_absolute()) {
            let problem = format!("'{}' is not an absolute path", path.display());
            return Err(wrong(problem));
        }
        // systemd names the one of its unit (CacheDirectory=). Without a state it is another program's, which has started us for itself.
        let of_unit = || {
            let named = std::env::var_os("CACHE_DIRECTORY").map(PathBuf::from);
            named.filter(|path| state.is_some() && path.is_absolute())
        };
        let in_state = || state.map(|state| state.join("cache"));
        Ok(Self {
            enabled: file.enabled.unwrap_or_default(),
            worker_uids,
            memory_max: size("memory_max", file.memory_max)?,
            pids_max: file.pids_max.or(Some(DEFAULT_PIDS_MAX)),
            cache: file
                .cache
                .or_else(of_unit)
                .or_else(in_state)
                .or_else(user_cache),
            cache_bytes: size("cache_max", file.cache_max)?.unwrap_or(DEFAULT_CACHE_BYTES),
            coredump_bytes: match file.coredump_max.as_deref() {
                // As a size, that is none.
                Some("0") => 0,
                _ => size("coredump_max", file.coredump_max)?.unwrap_or(DEFAULT_COREDUMP_BYTES),
            },
            read: file.read,
            write: file.write,
            state: state.map(Path::to_owned),
        })
    }
}

/// `200000-265535`.
fn users(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let (first, last) = (number(first)?, number(last)?);
    (FIRST_USER <= first && first <= last && last <= LAST_USER).then_some(first..=last)
}

fn users_problem(text: &str) -> String {
    format!(
        "worker_uids: '{text}' is no range of users that are nobody else's: write it as 200000-265535, above {}",
        FIRST_USER - 1
    )
}

/// The cache of who has no state directory: `gpurun` starting a server for itself.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let directory = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(directory?.join("gpurun/driver"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str) -> Result<SandboxConfig, String> {
        let file: SandboxFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let merged = SandboxConfig::merge(file, Some(Path::new("/state")));
        merged.map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_it_is_as_much_as_the_kernel_can() {
        let config = merged("").expect("a config");
        assert_eq!(config.enabled, Enabled::Auto);
        assert_eq!((config.worker_uids, config.memory_max), (None, None));
        assert_eq!(config.cache.as_deref(), Some(Path::new("/state/cache")));
        assert_eq!(config.cache_bytes, DEFAULT_CACHE_BYTES);
        assert_eq!(config.coredump_bytes, DEFAULT_COREDUMP_BYTES);
    }

    #[test]
    fn everything_can_be_said() {
        let text = "enabled = 'required'\nworker_uids = '200000-265535'\nmemory_max = '64GiB'\npids_max = 100\n\
                    cache = '/c'\ncache_max = '2GiB'\ncoredump_max = '64MiB'\nread = ['/opt']\nwrite = ['/w']";
        let config = merged(text).expect("a config");
        assert_eq!(config.enabled, Enabled::Required);
        let none = merged("coredump_max = '0'").expect("a config");
        assert_eq!(none.coredump_bytes, 0);
        assert_eq!(config.worker_uids, Some(200_000..=265_535));
        assert_eq!(
            (config.memory_max, config.pids_max),
            (Some(64 << 30), Some(100))
        );
        assert_eq!(
            (config.cache, config.cache_bytes),
            (Some("/c".into()), 2 << 30)
        );
        assert_eq!(config.coredump_bytes, 64 << 20);
        assert_eq!(
            (config.read, config.write),
            (vec!["/opt".into()], vec!["/w".into()])
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| merged(text).expect_err(text);
        assert!(error("enabled = 'maybe'").contains("unknown variant `maybe`"));
        for range in ["0-9", "5", "300000-200000", "200000-4294967295"] {
            let text = format!("worker_uids = '{range}'");
            assert!(error(&text).contains("200000-265535"), "{range}");
        }
        assert!(error("memory_max = 'much'").contains("memory_max: 'much' is not a size"));
        assert!(error("pids_max = 0").contains("at least 1"));
        assert!(error("cache = 'c'").contains("'c' is not an absolute path"));
        let file: SandboxFile = toml::from_str("worker_uids = '200000-265535'").expect("TOML");
        let error = SandboxConfig::merge(file, None).expect_err("no state");
        assert!(error.to_string().contains("state = 'DIRECTORY'"));
    }
}
