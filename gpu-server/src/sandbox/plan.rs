//! Which layers a worker enters, and what it keeps: decided purely.
//!
//! *Rules:* what is not named here is refused; a path is named because the driver, the C library, an adapter's library or our own code opens it, and for no other
//! reason. What NVIDIA's driver opens was gathered from profiles that others wrote for it (AppArmor's, container runtimes'), not seen here:
//! where one needs more, `read` and `write` in `[sandbox]` give it.

use std::path::{Path, PathBuf};

use driver_api::soft_usage::{SEGMENT_FOLDER, SEGMENT_VARIABLE, segment_name, segment_of_user};
use protocol::hello::{DeviceKind, SandboxAccess, SandboxLayer, SandboxOrder, SandboxPath};
use std::os::unix::fs::MetadataExt;

use super::Offers;
use crate::config::SandboxConfig;
use crate::config::sandbox::Enabled;

/// What every worker reads: libraries and how they are found, names, the machine's description.
const READ: [&str; 28] = [
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    // Adapters' libraries.
    "/etc/libibverbs.d",
    "/etc/rdma",
    "/etc/nvidia",
    "/sys",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/driver",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/stat",
    "/proc/sys",
    "/proc/uptime",
    "/proc/version",
    "/dev/random",
    "/dev/urandom",
];

/// What every worker reads and writes: its own description (a driver names its threads there), and where bytes go that nobody wants.
const CHANGE: [&str; 3] = ["/proc/self", "/dev/null", "/dev/zero"];

/// Daemons of NVIDIA's driver, which it asks while it initialises.
const DRIVER_SOCKETS: [&str; 3] = [
    "/run/nvidia-persistenced/socket",
    "/var/run/nvidia-persistenced/socket",
    "/run/nvidia-fabricmanager/socket",
];

/// The beginnings of device nodes' names: NVIDIA's, the Windows subsystem's, GPUDirect's.
const DEVICES: [&str; 3] = ["nvidia", "dxg", "gdrdrv"];

/// Adapters' device nodes.
const ADAPTERS: &str = "/dev/infiniband";

/// Where NVIDIA's multi-process service listens, if nothing else is said.
const SERVICE: &str = "/tmp/nvidia-mps";

/// The variable that says it.
const SERVICE_VARIABLE: &str = "CUDA_MPS_PIPE_DIRECTORY";

/// The file that the software GPU's log goes to.
const LOG_VARIABLE: &str = "GPURUN_LOG_FILE";

/// What was found around a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The driver's folder, and the one that it really is in.
    pub folders: Vec<PathBuf>,
    /// Our own program.
    pub program: Option<PathBuf>,
    /// Device nodes, and folders of them.
    pub devices: Vec<PathBuf>,
    /// The groups that device nodes are open to which are not open to everybody.
    pub device_groups: Vec<u32>,
    /// What the software GPU's processes share.
    pub segment: PathBuf,
    /// Where its log goes.
    pub log: Option<PathBuf>,
    /// The folder of a multi-process service that runs.
    pub service: Option<PathBuf>,
}

impl Surroundings {
    /// Looks around. Devices may come later, so it is looked before each worker.
    #[must_use]
    pub fn look(driver: &Path) -> Self {
        let folder = |path: &Path| path.parent().map(Path::to_owned);
        let real = std::fs::canonicalize(driver).ok();
        let mut folders: Vec<_> = folder(driver).into_iter().collect();
        folders.extend(real.as_deref().and_then(folder));
        folders.dedup();
        let devices = devices(Path::new("/dev"));
        Self {
            folders,
            program: std::env::current_exe().ok(),
            device_groups: groups(&devices),
            devices,
            segment: segment(std::env::var(SEGMENT_VARIABLE).ok().as_deref()),
            log: absolute(LOG_VARIABLE),
            service: absolute(SERVICE_VARIABLE)
                .or_else(|| Some(PathBuf::from(SERVICE)))
                .filter(|folder| folder.exists()),
        }
    }
}

fn absolute(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.filter(|path| path.is_absolute())
}

fn segment(named: Option<&str>) -> PathBuf {
    let name = named.map(str::trim).filter(|name| !name.is_empty());
    let own = || segment_of_user(rustix::process::geteuid().as_raw());
    let name = name.and_then(segment_name).unwrap_or_else(own);
    Path::new(SEGMENT_FOLDER).join(name)
}

/// The nodes and folders of nodes that belong to GPUs and adapters.
fn devices(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            DEVICES.iter().any(|begin| name.starts_with(begin))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.push(ADAPTERS.into());
    found
}

/// The groups by which alone these can be opened by others than their owner.
fn groups(devices: &[PathBuf]) -> Vec<u32> {
    let of_one = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        let (for_group, for_all) = (found.mode() & 0o060, found.mode() & 0o006);
        (found.gid() != 0 && for_all != 0o006 && for_group == 0o060).then_some(found.gid())
    };
    let mut groups: Vec<u32> = devices.iter().filter_map(of_one).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// All that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The settings.
    pub config: &'a SandboxConfig,
    /// The kernel.
    pub offers: &'a Offers,
    /// What the devices are made of.
    pub kind: DeviceKind,
    /// What is around the driver.
    pub surroundings: &'a Surroundings,
    /// The user of the tenant's workers, where they have one.
    pub user: Option<u32>,
    /// The tenant's directory.
    pub cache: Option<&'a Path>,
    /// The worker's control group.
    pub control_group: Option<&'a Path>,
}

/// Whether workers on devices of this kind become other users: those on the software GPU share one segment of memory, which is
/// the daemon's user's.
pub(super) fn changes_user(config: &SandboxConfig, offers: &Offers, kind: DeviceKind) -> bool {
    config.enabled != Enabled::Off
        && config.worker_uids.is_some()
        && offers.may_change_user
        && kind != DeviceKind::Software
}

/// What a worker gives up, and what it keeps.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> SandboxOrder {
    let config = situation.config;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let layers = layers(situation);
    let required = match config.enabled {
        Enabled::Required => layers.clone(),
        Enabled::Auto | Enabled::Off => Vec::new(),
    };
    let is_software = situation.kind == DeviceKind::Software;
    let service = situation.surroundings.service.as_deref();
    SandboxOrder {
        paths: if layers.is_empty() {
            Vec::new()
        } else {
            paths(situation)
        },
        layers,
        required,
        user: situation.user.unwrap_or(0),
        group: situation.user.unwrap_or(0),
        groups: situation.surroundings.device_groups.clone(),
        cache: situation.cache.map(text).unwrap_or_default(),
        cache_bytes: config.cache_bytes,
        coredump_bytes: config.coredump_bytes,
        control_group: situation.control_group.map(text).unwrap_or_default(),
        may_connect: !is_software && service.is_some(),
    }
}

fn layers(situation: &Situation<'_>) -> Vec<i32> {
    let Situation { config, .. } = situation;
    if config.enabled == Enabled::Off {
        return Vec::new();
    }
    let mut layers = vec![
        SandboxLayer::Privileges,
        SandboxLayer::Files,
        SandboxLayer::Calls,
    ];
    if situation.user.is_some() {
        layers.push(SandboxLayer::User);
    }
    if situation.control_group.is_some() {
        layers.push(SandboxLayer::Group);
    }
    layers.into_iter().map(i32::from).collect()
}

fn paths(situation: &Situation<'_>) -> Vec<SandboxPath> {
    let Surroundings {
        folders,
        program,
        devices,
        segment,
        log,
        service,
        ..
    } = situation.surroundings;
    let mut list = List::default();
    list.all(SandboxAccess::Read, READ);
    list.all(SandboxAccess::Read, folders);
    list.all(SandboxAccess::Read, program);
    list.all(SandboxAccess::Read, &situation.config.read);
    list.all(SandboxAccess::Change, CHANGE);
    list.all(SandboxAccess::Own, situation.cache);
    list.all(SandboxAccess::Own, &situation.config.write);
    list.all(SandboxAccess::Device, devices);
    if situation.kind == DeviceKind::Software {
        list.made(segment);
        log.iter().for_each(|log| list.made(log));
    } else {
        list.all(SandboxAccess::Connect, DRIVER_SOCKETS);
        list.all(SandboxAccess::Own, service);
        list.all(SandboxAccess::Connect, service);
    }
    list.0
}

#[derive(Default)]
struct List(Vec<SandboxPath>);

impl List {
    fn all<P: AsRef<Path>>(&mut self, access: SandboxAccess, paths: impl IntoIterator<Item = P>) {
        self.0.extend(paths.into_iter().map(|path| SandboxPath {
            path: path.as_ref().to_string_lossy().into_owned(),
            access: access.into(),
            make: false,
        }));
    }

    /// A file that is read and written, and made if it is not there.
    fn made(&mut self, path: &Path) {
        self.all(SandboxAccess::Change, [path]);
        if let Some(last) = self.0.last_mut() {
            last.make = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: Offers = Offers {
        landlock: 7,
        seccomp: true,
        may_change_user: true,
        control_group: Ok(()),
    };

    fn config(enabled: Enabled) -> SandboxConfig {
        SandboxConfig {
            enabled,
            worker_uids: Some(5000..=6000),
            read: vec!["/opt/more".into()],
            ..SandboxConfig::default()
        }
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            folders: vec!["/opt/driver".into()],
            program: Some("/opt/bin/gpu-server".into()),
            devices: vec!["/dev/nvidia0".into(), "/dev/nvidiactl".into()],
            device_groups: vec![44],
            segment: "/dev/shm/segment".into(),
            log: Some("/var/log/soft".into()),
            service: None,
        }
    }

    fn planned(enabled: Enabled, kind: DeviceKind) -> SandboxOrder {
        let (config, surroundings) = (config(enabled), surroundings());
        let changes = changes_user(&config, &OFFERS, kind);
        plan(&Situation {
            config: &config,
            offers: &OFFERS,
            kind,
            surroundings: &surroundings,
            user: changes.then_some(5007),
            cache: Some(Path::new("/cache/t-ann")),
            control_group: None,
        })
    }

    fn access(order: &SandboxOrder, path: &str) -> Option<SandboxAccess> {
        let mut paths = order.paths.iter();
        paths
            .find(|named| named.path == path)
            .map(SandboxPath::access)
    }

    #[test]
    fn a_worker_on_a_gpu_becomes_its_tenant_s_user() {
        let order = planned(Enabled::Auto, DeviceKind::Nvidia);
        let layers: Vec<_> = order.layers().collect();
        use SandboxLayer::{Calls, Files, Privileges, User};
        assert_eq!(layers, [Privileges, Files, Calls, User]);
        assert!(order.required.is_empty());
        assert_eq!((order.user, order.group), (5007, 5007));
        assert_eq!(order.groups, [44]);
        assert_eq!(order.cache, "/cache/t-ann");
        assert_eq!(access(&order, "/cache/t-ann"), Some(SandboxAccess::Own));
        assert_eq!(access(&order, "/dev/nvidia0"), Some(SandboxAccess::Device));
        for path in ["/opt/driver", "/opt/more", "/usr"] {
            assert_eq!(access(&order, path), Some(SandboxAccess::Read), "{path}");
        }
        for path in [
            "/",
            "/cache",
            "/dev/shm",
            "/dev/shm/segment",
            "/tmp",
            "/proc",
            "/dev",
            "/etc",
        ] {
            assert_eq!(access(&order, path), None, "{path}");
        }
        assert!(!order.may_connect);
    }

    #[test]
    fn a_worker_on_the_software_gpu_stays_and_shares_its_segment() {
        let order = planned(Enabled::Required, DeviceKind::Software);
        assert!(order.layers().all(|layer| layer != SandboxLayer::User));
        assert_eq!(order.required, order.layers);
        let segment = |path: &&SandboxPath| path.path == "/dev/shm/segment";
        let segment = order.paths.iter().find(segment).expect("named");
        assert_eq!(
            (segment.access(), segment.make),
            (SandboxAccess::Change, true)
        );
    }

    #[test]
    fn off_keeps_only_the_tenant_s_cache() {
        let order = planned(Enabled::Off, DeviceKind::Nvidia);
        assert!(order.layers.is_empty() && order.paths.is_empty());
        assert_eq!((order.user, order.cache.as_str()), (0, "/cache/t-ann"));
    }

    #[test]
    fn only_who_uses_the_multi_process_service_may_connect() {
        let config = config(Enabled::Auto);
        for (kind, may_connect) in [(DeviceKind::Nvidia, true), (DeviceKind::Software, false)] {
            let surroundings = Surroundings {
                service: Some("/tmp/nvidia-mps".into()),
                ..surroundings()
            };
            let order = plan(&Situation {
                config: &config,
                offers: &OFFERS,
                kind,
                surroundings: &surroundings,
                user: None,
                cache: None,
                control_group: Some(Path::new("/group")),
            });
            assert_eq!(order.may_connect, may_connect);
            assert!(order.layers().any(|layer| layer == SandboxLayer::Group));
            assert_eq!(order.control_group, "/group");
        }
    }

    #[test]
    fn device_nodes_are_told_from_others() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["nvidia0", "nvidiactl", "nvme0n1", "null", "dxg"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let found = devices(folder.path());
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["dxg", "nvidia0", "nvidiactl", "infiniband"]);
    }

    #[test]
    fn the_segment_is_the_one_that_the_driver_takes() {
        assert_eq!(segment(Some(" a ")), Path::new("/dev/shm/a"));
        for other in [None, Some(""), Some("../x")] {
            let path = segment(other);
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(name.starts_with("gpurun-soft-gpu-"), "{name}");
        }
    }
}
