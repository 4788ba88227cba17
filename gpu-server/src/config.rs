//! How the server is set up: flags before the file, the file before the defaults.
//!
//! Rules: a file with an unknown key, or a file that was named and is not there, is an error; where the server may
//! listen is decided here, purely, before anything is bound.

mod metrics;
mod pool;
pub mod sandbox;
mod security;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::address::{Address, AddressError};
use protocol::config::{DeviceChoice, GraceError, UnknownChoice, parse_grace, parse_traffic_class};
use protocol::limits::{DEFAULT_PORT, DEFAULT_SILENCE_GRACE};
use protocol::transport::rdma::Wanted;
use serde::Deserialize;

use pool::PoolFile;
use sandbox::SandboxFile;
use security::SecurityFile;

pub use pool::PoolConfig;
pub use sandbox::SandboxConfig;
pub use security::SecurityConfig;

/// The file that is read if none is named.
pub const SYSTEM_FILE: &str = "/etc/gpurun/server.toml";

/// Most sessions at once, if nothing else is said.
pub const DEFAULT_MAX_SESSIONS: usize = 256;

/// Why the server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be understood.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// An address that is none.
    #[error("listen: {0}")]
    Address(#[from] AddressError),
    /// A device that is none.
    #[error("device: {0}")]
    Device(#[from] UnknownChoice),
    /// A driver that is not named absolutely.
    #[error("driver: '{}' is not an absolute path", .0.display())]
    RelativeDriver(PathBuf),
    /// No session could ever be served.
    #[error("max_sessions: must be at least 1")]
    NoSessions,
    /// A grace that is too short or too long.
    #[error("silence_grace: {0}")]
    Grace(#[from] GraceError),
    /// A device for RDMA that is none.
    #[error("rdma_device: {0}")]
    RdmaDevice(String),
    /// A traffic class that is none.
    #[error("rdma_traffic_class: {0}")]
    TrafficClass(String),
    /// Neither of the two.
    #[error("rdma_gpu_memory: '{0}' is none of auto, always, off")]
    GpuMemory(String),
    /// Something of leases that cannot be.
    #[error("pool.{key}: {problem}")]
    Pool {
        /// Which setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate without a key, or a key without a certificate.
    #[error("tls_certificate and tls_key are named both or neither")]
    HalfCertificate,
    /// Workers cannot be confined as the settings say.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// An address for figures that is none.
    #[error("metrics: '{0}' is neither 'off' nor an address such as 127.0.0.1:7371")]
    Metrics(String),
    /// An address that others can reach, and nothing that keeps them out.
    #[error(
        "will not listen on {0}: there is no authority, so whoever reaches that address could use the GPU and read the data. \
         Make one (gpu-server init, and state = '…' in server.toml), or listen on 127.0.0.1 or a unix socket, or accept that with --insecure"
    )]
    Exposed(Address),
}

/// What flags say; nothing where they are not given.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Where to listen.
    pub listen: Vec<String>,
    /// Which device.
    pub device: Option<String>,
    /// Which driver.
    pub driver: Option<PathBuf>,
    /// The file.
    pub config: Option<PathBuf>,
    /// Whether addresses that others can reach are accepted.
    pub insecure: bool,
    /// Whether it serves one run only, and shall be there soon.
    pub private: bool,
}

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    listen: Vec<String>,
    device: Option<String>,
    driver: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
    max_sessions: Option<usize>,
    silence_grace: Option<u64>,
    rdma: Option<bool>,
    rdma_device: Option<String>,
    rdma_traffic_class: Option<u64>,
    rdma_gpu_memory: Option<String>,
    state: Option<PathBuf>,
    metrics: Option<String>,
    authority: Option<PathBuf>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    require_token: Option<bool>,
    require_encryption: Option<bool>,
    trust_loopback: Option<bool>,
    #[serde(default)]
    pool: PoolFile,
    #[serde(default)]
    sandbox: SandboxFile,
}

/// How RDMA is used, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdma {
    /// Why nobody gets it.
    pub refusal: Option<&'static str>,
    /// The device, if it is named: `DEVICE[:PORT[:GID]]`.
    pub device: Option<String>,
    /// The traffic class of packets.
    pub traffic_class: u8,
    /// It is not looked for whether the card reaches GPU memory.
    pub refuses_gpu_memory: bool,
    /// Where the card reaches it, copies go so without a comparison with host memory.
    pub prefers_gpu_memory: bool,
}

/// The server's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; at least one address.
    pub listen: Vec<Address>,
    /// Which device.
    pub device: DeviceChoice,
    /// The driver, if it is named; an absolute path.
    pub driver: Option<PathBuf>,
    /// Whether addresses that others can reach are accepted.
    pub insecure: bool,
    /// Most sessions at once.
    pub max_sessions: usize,
    /// How long a client may be silent before its session ends.
    pub silence_grace: Duration,
    /// How RDMA is used.
    pub rdma: Rdma,
    /// What outlives the server is here; none: nothing does.
    pub state: Option<PathBuf>,
    /// Where figures for operators are, if they are anywhere.
    pub metrics: Option<SocketAddr>,
    /// Who may come from elsewhere, and how.
    pub security: SecurityConfig,
    /// What leases are given.
    pub pool: PoolConfig,
    /// Whether it serves one run only, and shall be there soon.
    pub is_private: bool,
    /// How workers are confined.
    pub sandbox: SandboxConfig,
}

/// Reads the file and puts the flags over it.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let (path, is_named) = match &flags.config {
        Some(path) => (path.clone(), true),
        None => (PathBuf::from(SYSTEM_FILE), false),
    };
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => File::default(),
        Err(source) => return Err(ConfigError::Unreadable { path, source }),
    };
    merge(flags, file)
}

/// Understands the text of a file without any flag.
///
/// # Errors
/// See [`ConfigError`].
pub fn from_text(path: &Path, text: &str) -> Result<Config, ConfigError> {
    merge(&Flags::default(), parse(path, text)?)
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn merge(flags: &Flags, file: File) -> Result<Config, ConfigError> {
    let listen = if flags.listen.is_empty() {
        &file.listen
    } else {
        &flags.listen
    };
    let mut addresses = Vec::new();
    for text in listen {
        addresses.extend(Address::parse_list(text)?);
    }
    if addresses.is_empty() {
        addresses.push(Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: DEFAULT_PORT,
        });
    }
    let rdma = rdma(&file)?;
    let driver = flags.driver.clone().or(file.driver);
    if let Some(path) = driver.as_ref().filter(|path| !path.is_absolute()) {
        return Err(ConfigError::RelativeDriver(path.clone()));
    }
    let device = match flags.device.as_deref().or(file.device.as_deref()) {
        Some(word) => word.parse()?,
        None => DeviceChoice::Auto,
    };
    let max_sessions = file.max_sessions.unwrap_or(DEFAULT_MAX_SESSIONS);
    if max_sessions == 0 {
        return Err(ConfigError::NoSessions);
    }
    let silence_grace = match file.silence_grace {
        Some(seconds) => parse_grace(&seconds.to_string())?,
        None => DEFAULT_SILENCE_GRACE,
    };
    let insecure = flags.insecure || file.insecure;
    let security = SecurityFile {
        authority: file.authority,
        tls_certificate: file.tls_certificate,
        tls_key: file.tls_key,
        require_token: file.require_token,
        require_encryption: file.require_encryption,
        trust_loopback: file.trust_loopback,
    };
    let security = SecurityConfig::merge(security, file.state.as_deref(), insecure)?;
    let sandbox = SandboxConfig::merge(file.sandbox, file.state.as_deref())?;
    let metrics = metrics::address(file.metrics.as_deref(), file.state.is_some())?;
    Ok(Config {
        listen: addresses,
        device,
        driver,
        insecure,
        max_sessions,
        silence_grace,
        rdma,
        state: file.state,
        metrics,
        security,
        pool: PoolConfig::new(file.pool)?,
        is_private: flags.private,
        sandbox,
    })
}

fn rdma(file: &File) -> Result<Rdma, ConfigError> {
    let is_wanted = file.rdma.unwrap_or(true);
    let refusal = match file.require_encryption {
        _ if !is_wanted => Some("this server's settings say no to RDMA"),
        Some(true) => Some("this server requires encryption, and RDMA has none"),
        _ => None,
    };
    if let Some(device) = &file.rdma_device {
        Wanted::parse(device).map_err(ConfigError::RdmaDevice)?;
    }
    let class = file.rdma_traffic_class.map(|class| class.to_string());
    let traffic_class = class.map_or(Ok(0), |text| parse_traffic_class(&text));
    let (refuses_gpu_memory, prefers_gpu_memory) = match file.rdma_gpu_memory.as_deref() {
        None | Some("auto") => (false, false),
        Some("always") => (false, true),
        Some("off") => (true, false),
        Some(other) => return Err(ConfigError::GpuMemory(other.to_owned())),
    };
    Ok(Rdma {
        refusal,
        device: file.rdma_device.clone(),
        traffic_class: traffic_class.map_err(ConfigError::TrafficClass)?,
        refuses_gpu_memory,
        prefers_gpu_memory,
    })
}

/// Whether the server may listen on this IP address of `address`.
///
/// # Errors
/// [`ConfigError::Exposed`].
pub fn check_exposure(
    address: &Address,
    ip: IpAddr,
    may_be_reached: bool,
) -> Result<(), ConfigError> {
    if may_be_reached || ip.to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ConfigError::Exposed(address.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str, flags: &Flags) -> Result<Config, ConfigError> {
        merge(flags, parse(Path::new("/server.toml"), text)?)
    }

    #[test]
    fn defaults_listen_on_loopback() {
        let config = merged("", &Flags::default()).expect("defaults");
        assert_eq!(Address::format_list(&config.listen), "tcp://127.0.0.1:7370");
        assert_eq!(config.device, DeviceChoice::Auto);
        assert!(!config.insecure);
        assert_eq!(config.silence_grace, DEFAULT_SILENCE_GRACE);
    }

    #[test]
    fn rdma_can_be_refused_and_chosen() {
        let rdma = |text: &str| merged(text, &Flags::default()).map(|config| config.rdma);
        assert_eq!(rdma("").expect("a config").refusal, None);
        let refusal = |text: &str| rdma(text).expect("a config").refusal.expect("a refusal");
        assert!(refusal("rdma = false").contains("settings"));
        let named = rdma("rdma_device = 'mlx5_0:1'\nrdma_traffic_class = 106").expect("a config");
        assert_eq!(named.device.as_deref(), Some("mlx5_0:1"));
        assert_eq!(named.traffic_class, 106);
        assert!(!named.refuses_gpu_memory && !named.prefers_gpu_memory);
        let refused = rdma("rdma_gpu_memory = 'off'").expect("a config");
        assert!(refused.refuses_gpu_memory);
        let preferred = rdma("rdma_gpu_memory = 'always'").expect("a config");
        assert!(preferred.prefers_gpu_memory && !preferred.refuses_gpu_memory);
        assert!(rdma("rdma_gpu_memory = 'on'").is_err());
        assert!(rdma("rdma_device = ':'").is_err());
        assert!(rdma("rdma_traffic_class = 300").is_err());
    }

    #[test]
    fn flags_come_before_the_file() {
        let text = "listen = ['unix:/a']\ndevice = 'gpu'\ndriver = '/d'\nmax_sessions = 3\nsilence_grace = 9";
        let config = merged(text, &Flags::default()).expect("a config");
        assert_eq!(Address::format_list(&config.listen), "unix:/a");
        assert_eq!((config.device, config.max_sessions), (DeviceChoice::Gpu, 3));
        assert_eq!(config.silence_grace, Duration::from_secs(9));
        let flags = Flags {
            listen: vec!["tcp://[::1]:0".to_owned(), "unix:/b".to_owned()],
            device: Some("soft".to_owned()),
            ..Flags::default()
        };
        let config = merged(text, &flags).expect("a config");
        assert_eq!(
            Address::format_list(&config.listen),
            "tcp://[::1]:0,unix:/b"
        );
        assert_eq!(config.device, DeviceChoice::Soft);
        assert_eq!(config.driver.as_deref(), Some(Path::new("/d")));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| merged(text, &Flags::default()).expect_err(text).to_string();
        assert!(error("lisen = ['a']").contains("unknown field `lisen`"));
        assert!(error("listen = ['x://y']").contains("unknown scheme"));
        assert!(error("device = 'cpu'").contains("'cpu' is not one of auto, gpu, soft"));
        assert!(error("driver = 'libcuda.so.1'").contains("not an absolute path"));
        assert!(error("max_sessions = 0").contains("at least 1"));
        assert!(error("silence_grace = 1").contains("silence_grace: '1' is not a time"));
        let flags = Flags {
            config: Some(PathBuf::from("/nowhere.toml")),
            ..Flags::default()
        };
        assert!(matches!(load(&flags), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn only_loopback_without_insecure() {
        let address: Address = "tcp://h:1".parse().expect("an address");
        let check = |ip: &str, insecure| {
            check_exposure(&address, ip.parse().expect("an IP address"), insecure)
        };
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(check(ip, false).is_ok(), "{ip}");
        }
        for ip in ["0.0.0.0", "::", "10.0.0.1", "fe80::1"] {
            let error = check(ip, false).expect_err(ip).to_string();
            assert!(error.contains("--insecure") && error.contains("tcp://h:1"));
            assert!(check(ip, true).is_ok(), "{ip}");
        }
    }
}
