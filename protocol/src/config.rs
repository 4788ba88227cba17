//! Which server, transport and device a program uses: flag, then environment, then the user's file, then the
//! system's.
//!
//! What: [`resolve`] decides purely from [`Sources`]; [`Sources::of_this_process`] gathers them. Why here: the
//! launcher and both preloaded libraries must come to the same answer. Rule: each setting is decided on its
//! own by the first source that has it, and remembers which that was; an empty variable is none; a file that
//! cannot be understood is an error, never skipped.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::address::{Address, AddressError};
use crate::hello::DeviceRequest;
use crate::limits::{DEFAULT_SILENCE_GRACE, LEAST_SILENCE_GRACE, MAX_DEVICES, MOST_SILENCE_GRACE};
use crate::transport::rdma;

/// The environment variable with the list of servers.
pub const SERVER_VARIABLE: &str = "GPURUN_SERVER";
/// The environment variable with the transport.
pub const TRANSPORT_VARIABLE: &str = "GPURUN_TRANSPORT";
/// The environment variable with the kind of device.
pub const DEVICE_VARIABLE: &str = "GPURUN_DEVICE";
/// The environment variable with the number of devices.
pub const DEVICES_VARIABLE: &str = "GPURUN_DEVICES";
/// The environment variable with the lease that the program runs under.
pub const LEASE_VARIABLE: &str = "GPURUN_LEASE";
/// The environment variable with how much of each device's memory a program gets that leases for itself.
pub const MEMORY_VARIABLE: &str = "GPURUN_MEMORY";
/// The environment variable with the part of each device's compute time that a program gets that leases for itself.
pub const COMPUTE_VARIABLE: &str = "GPURUN_COMPUTE";
/// The environment variable with the grace for a silent server.
pub const SILENCE_GRACE_VARIABLE: &str = "GPURUN_SILENCE_GRACE";
/// The environment variable with the file of [`crate::stats`].
pub const STATS_FILE_VARIABLE: &str = "GPURUN_STATS_FILE";
/// The environment variable that asks the launcher for a table of what was called.
pub const STATS_VARIABLE: &str = "GPURUN_STATS";
/// The RDMA device, `DEVICE[:PORT[:GID]]`.
pub const RDMA_DEVICE_VARIABLE: &str = "GPURUN_RDMA_DEVICE";
/// The traffic class of packets that travel by RDMA, 0 to 255.
pub const RDMA_TRAFFIC_CLASS_VARIABLE: &str = "GPURUN_RDMA_TRAFFIC_CLASS";
/// The system's file.
pub const SYSTEM_FILE: &str = "/etc/gpurun/config.toml";

/// Which transport is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum TransportChoice {
    /// What the server's address says, and RDMA beside TCP where both ends have it.
    #[default]
    Auto,
    /// TCP only.
    Tcp,
    /// Unix sockets only.
    Unix,
    /// RDMA only, beside a TCP connection.
    Rdma,
}

impl TransportChoice {
    /// Whether a server at this address may be used.
    #[must_use]
    pub fn allows(self, address: &Address) -> bool {
        match (self, address) {
            (Self::Auto, _) => true,
            (Self::Tcp | Self::Rdma, Address::Tcp { .. }) => true,
            (Self::Unix, Address::Unix(_)) => true,
            (Self::Tcp | Self::Rdma | Self::Unix, _) => false,
        }
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Rdma => "rdma",
        }
    }
}

/// What devices are to be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum DeviceChoice {
    /// NVIDIA's where there are any, else the software GPU.
    #[default]
    Auto,
    /// NVIDIA's only.
    Gpu,
    /// The software GPU only.
    Soft,
}

impl DeviceChoice {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Gpu => "gpu",
            Self::Soft => "soft",
        }
    }
}

/// A word that is none of the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is not one of {choices}")]
pub struct UnknownChoice {
    word: String,
    choices: &'static str,
}

impl FromStr for TransportChoice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        [Self::Auto, Self::Tcp, Self::Unix, Self::Rdma]
            .into_iter()
            .find(|choice| choice.name() == word)
            .ok_or_else(|| UnknownChoice {
                word: word.to_owned(),
                choices: "auto, tcp, unix, rdma",
            })
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        [Self::Auto, Self::Gpu, Self::Soft]
            .into_iter()
            .find(|choice| choice.name() == word)
            .ok_or_else(|| UnknownChoice {
                word: word.to_owned(),
                choices: "auto, gpu, soft",
            })
    }
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A grace for silence that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a time in whole seconds from {least} to {most}",
    least = LEAST_SILENCE_GRACE.as_secs(),
    most = MOST_SILENCE_GRACE.as_secs()
)]
pub struct GraceError(String);

/// A grace for silence, in seconds.
///
/// # Errors
/// No number, or one that is too small or too large.
pub fn parse_grace(text: &str) -> Result<Duration, GraceError> {
    let grace = text.trim().parse().map(Duration::from_secs).ok();
    grace
        .filter(|grace| (LEAST_SILENCE_GRACE..=MOST_SILENCE_GRACE).contains(grace))
        .ok_or_else(|| GraceError(text.to_owned()))
}

/// What a variable says of the devices that a program leases for itself, and it is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: '{text}' is not {expected}")]
pub struct DevicesError {
    variable: &'static str,
    text: String,
    expected: &'static str,
}

/// What a program that leases for itself asks for, as these variables say: how many devices, how much of their memory (a part such as 0.25, or
/// a size such as 4GiB), which part of their compute time.
///
/// # Errors
/// A variable that is not understood.
pub fn device_request(
    count: Option<String>,
    memory: Option<String>,
    compute: Option<String>,
) -> Result<DeviceRequest, DevicesError> {
    let wrong = |variable, text: String, expected| DevicesError {
        variable,
        text,
        expected,
    };
    let mut request = DeviceRequest {
        count: 1,
        ..DeviceRequest::default()
    };
    if let Some(text) = count {
        let count = text.trim().parse().ok();
        let count = count.filter(|count| (1..=MAX_DEVICES as u32).contains(count));
        const { assert!(MAX_DEVICES == 64) };
        let expected = "a number of devices from 1 to 64";
        request.count = count.ok_or_else(|| wrong(DEVICES_VARIABLE, text, expected))?;
    }
    if let Some(text) = memory {
        match (part(&text), crate::size::parse_bytes(text.trim())) {
            (Some(part), _) => request.memory_fraction = part,
            (None, Ok(bytes)) if bytes > 0 => request.memory_bytes = bytes,
            (None, _) => {
                let expected = "a part such as 0.25, or a size such as 4GiB";
                return Err(wrong(MEMORY_VARIABLE, text, expected));
            }
        }
    }
    if let Some(text) = compute {
        let expected = "a part of a device, above 0 and at most 1";
        request.compute_fraction =
            part(&text).ok_or_else(|| wrong(COMPUTE_VARIABLE, text, expected))?;
    }
    Ok(request)
}

/// A part above 0 and at most 1, as it travels: all of it is 0.
fn part(text: &str) -> Option<f64> {
    let part: f64 = text.trim().parse().ok()?;
    let is_part = part > 0.0 && part <= 1.0;
    is_part.then_some(if part < 1.0 { part } else { 0.0 })
}

/// Who decided a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An option of the command.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => formatter.write_str(name),
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// Why settings cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An address that is none.
    #[error("{origin}: {source}")]
    Address {
        /// Who said it.
        origin: Origin,
        /// What is wrong.
        source: AddressError,
    },
    /// A word that is none of the choices.
    #[error("{origin}: {source}")]
    Choice {
        /// Who said it.
        origin: Origin,
        /// What is wrong.
        source: UnknownChoice,
    },
    /// A device or a number for RDMA that is none.
    #[error("{origin}: {message}")]
    Rdma {
        /// Who said it.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// A time that is none, or out of bounds.
    #[error("{origin}: {source}")]
    Grace {
        /// Who said it.
        origin: Origin,
        /// What is wrong.
        source: GraceError,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be understood.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

/// Texts from one source, not yet understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// The list of servers.
    pub server: Option<String>,
    /// The transport.
    pub transport: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// How long the server may be silent, in seconds.
    pub silence_grace: Option<String>,
    /// The RDMA device.
    pub rdma_device: Option<String>,
    /// The traffic class of packets that travel by RDMA.
    pub rdma_traffic_class: Option<String>,
}

/// Everything that settings are decided from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Options of the command.
    pub flags: Texts,
    /// Environment variables.
    pub variables: Texts,
    /// The contents of the files that exist, the user's before the system's.
    pub files: Vec<(PathBuf, String)>,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The servers, in order of preference, and who named them; none are configured otherwise.
    pub servers: Option<(Vec<Address>, Origin)>,
    /// The transport.
    pub transport: TransportChoice,
    /// The device.
    pub device: DeviceChoice,
    /// How long the server may be silent.
    pub silence_grace: Duration,
    /// How RDMA is used.
    pub rdma: rdma::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: None,
            transport: TransportChoice::default(),
            device: DeviceChoice::default(),
            silence_grace: DEFAULT_SILENCE_GRACE,
            rdma: rdma::Settings::default(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<OneOrMore>,
    transport: Option<String>,
    device: Option<String>,
    silence_grace: Option<u64>,
    rdma_device: Option<String>,
    rdma_traffic_class: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Sources {
    /// These options, this process's environment, and the two files.
    ///
    /// # Errors
    /// A file that exists cannot be read.
    pub fn of_this_process(flags: Texts) -> Result<Self, ConfigError> {
        let variable = |name| {
            variable(name)?
                .into_string()
                .ok()
                .filter(|text| !text.is_empty())
        };
        let mut files = Vec::new();
        for path in [user_file(), Some(PathBuf::from(SYSTEM_FILE))]
            .into_iter()
            .flatten()
        {
            if let Some(text) = read_file(&path)? {
                files.push((path, text));
            }
        }
        Ok(Self {
            flags,
            variables: Texts {
                server: variable(SERVER_VARIABLE),
                transport: variable(TRANSPORT_VARIABLE),
                device: variable(DEVICE_VARIABLE),
                silence_grace: variable(SILENCE_GRACE_VARIABLE),
                rdma_device: variable(RDMA_DEVICE_VARIABLE),
                rdma_traffic_class: variable(RDMA_TRAFFIC_CLASS_VARIABLE),
            },
            files,
        })
    }
}

/// A variable of the environment; none in a program that runs with more rights than its user has (setuid, file capabilities): there
/// the environment is the user's to forge, and would name the file that is appended to, or the server that sees the data.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    if is_privileged() {
        return None;
    }
    std::env::var_os(name)
}

/// True if this process has more rights than its user.
#[expect(unsafe_code, reason = "reads the auxiliary vector")]
fn is_privileged() -> bool {
    // SAFETY: it takes a number and returns one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// `~/.config/gpurun`, or in `XDG_CONFIG_HOME`; none for who runs with more rights than their user.
#[must_use]
pub fn user_directory() -> Option<PathBuf> {
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    Some(directory?.join("gpurun"))
}

/// The user's file, in [`user_directory`].
#[must_use]
pub fn user_file() -> Option<PathBuf> {
    user_directory().map(|directory| directory.join("config.toml"))
}

fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(source) => Err(ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse_file(path: &Path, text: &str) -> Result<Texts, ConfigError> {
    let file: File = toml::from_str(text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let server = file.server.map(|server| match server {
        OneOrMore::One(text) => text,
        OneOrMore::More(texts) => texts.join(","),
    });
    Ok(Texts {
        server,
        transport: file.transport,
        device: file.device,
        silence_grace: file.silence_grace.map(|seconds| seconds.to_string()),
        rdma_device: file.rdma_device,
        rdma_traffic_class: file.rdma_traffic_class.map(|class| class.to_string()),
    })
}

/// Decides the settings.
///
/// # Errors
/// The deciding text of a setting, or a file, cannot be understood.
pub fn resolve(sources: &Sources) -> Result<Settings, ConfigError> {
    let named = |texts: &Texts, origin: fn(&'static str) -> Origin, names: [&'static str; 6]| {
        (texts.clone(), names.map(origin))
    };
    let mut all = vec![
        named(
            &sources.flags,
            Origin::Flag,
            [
                "--server",
                "--transport",
                "--device",
                "--silence-grace",
                "--rdma-device",
                "--rdma-traffic-class",
            ],
        ),
        named(
            &sources.variables,
            Origin::Variable,
            [
                SERVER_VARIABLE,
                TRANSPORT_VARIABLE,
                DEVICE_VARIABLE,
                SILENCE_GRACE_VARIABLE,
                RDMA_DEVICE_VARIABLE,
                RDMA_TRAFFIC_CLASS_VARIABLE,
            ],
        ),
    ];
    for (path, text) in &sources.files {
        let origins = [(); 6].map(|()| Origin::File(path.clone()));
        all.push((parse_file(path, text)?, origins));
    }
    let mut settings = Settings::default();
    let (mut has_transport, mut has_device, mut has_grace) = (false, false, false);
    let (mut has_rdma_device, mut has_class) = (false, false);
    for (
        texts,
        [
            of_server,
            of_transport,
            of_device,
            of_grace,
            of_rdma_device,
            of_class,
        ],
    ) in all
    {
        if let (None, Some(text)) = (&settings.servers, texts.server) {
            match Address::parse_list(&text) {
                Ok(list) => settings.servers = Some((list, of_server)),
                Err(source) => {
                    return Err(ConfigError::Address {
                        origin: of_server,
                        source,
                    });
                }
            }
        }
        choose(
            &mut settings.transport,
            &mut has_transport,
            texts.transport,
            of_transport,
        )?;
        choose(
            &mut settings.device,
            &mut has_device,
            texts.device,
            of_device,
        )?;
        if let (false, Some(text)) = (has_grace, texts.silence_grace) {
            settings.silence_grace = parse_grace(&text).map_err(|source| ConfigError::Grace {
                origin: of_grace,
                source,
            })?;
            has_grace = true;
        }
        if let (false, Some(text)) = (has_rdma_device, texts.rdma_device) {
            settings.rdma.wanted = of_rdma(rdma::Wanted::parse(&text), of_rdma_device)?;
            has_rdma_device = true;
        }
        if let (false, Some(text)) = (has_class, texts.rdma_traffic_class) {
            settings.rdma.path.traffic_class = of_rdma(parse_traffic_class(&text), of_class)?;
            has_class = true;
        }
    }
    Ok(settings)
}

fn of_rdma<T>(parsed: Result<T, String>, origin: Origin) -> Result<T, ConfigError> {
    parsed.map_err(|message| ConfigError::Rdma { origin, message })
}

/// The traffic class of an IP header.
///
/// # Errors
/// What is wrong with it.
pub fn parse_traffic_class(text: &str) -> Result<u8, String> {
    let wrong = |_| format!("'{text}' is no number from 0 to 255");
    text.trim().parse().map_err(wrong)
}

fn choose<T: FromStr<Err = UnknownChoice>>(
    setting: &mut T,
    is_decided: &mut bool,
    text: Option<String>,
    origin: Origin,
) -> Result<(), ConfigError> {
    let Some(text) = text.filter(|_| !*is_decided) else {
        return Ok(());
    };
    *setting = text
        .parse()
        .map_err(|source| ConfigError::Choice { origin, source })?;
    *is_decided = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(server: &str, transport: &str, device: &str) -> Texts {
        let text = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
        Texts {
            server: text(server),
            transport: text(transport),
            device: text(device),
            ..Texts::default()
        }
    }

    fn server(settings: &Settings) -> (String, String) {
        let (list, origin) = settings.servers.as_ref().expect("a server");
        (Address::format_list(list), origin.to_string())
    }

    #[test]
    fn what_a_program_leases_for_itself() {
        let ask = |count: &str, memory: &str, compute: &str| {
            let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            device_request(said(count), said(memory), said(compute))
        };
        let request = ask("", "", "").expect("nothing said");
        assert_eq!((request.count, request.memory_bytes), (1, 0));
        let request = ask("2", "0.25", "0.5").expect("parts");
        assert_eq!(
            (
                request.count,
                request.memory_fraction,
                request.compute_fraction
            ),
            (2, 0.25, 0.5)
        );
        assert_eq!(ask("", "4GiB", "").expect("a size").memory_bytes, 4 << 30);
        assert_eq!(
            ask("", "1", "1").expect("all"),
            ask("", "", "").expect("all")
        );
        for (count, memory, compute) in [
            ("0", "", ""),
            ("65", "", ""),
            ("x", "", ""),
            ("", "-1", ""),
            ("", "much", ""),
            ("", "", "1.5"),
            ("", "", "nan"),
        ] {
            let error = ask(count, memory, compute).expect_err("a mistake");
            assert!(error.to_string().starts_with("GPURUN_"), "{error}");
        }
    }

    #[test]
    fn nothing_configured() {
        let settings = resolve(&Sources::default()).expect("defaults");
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn the_first_source_of_each_setting_decides() {
        let user = PathBuf::from("/home/me/config.toml");
        let system = PathBuf::from("/etc/config.toml");
        let mut sources = Sources {
            flags: texts("a", "", ""),
            variables: texts("b", "unix", ""),
            files: vec![
                (
                    user,
                    "server = ['c', 'unix:/d']\ndevice = 'soft'".to_owned(),
                ),
                (
                    system,
                    "server = 'e'\ntransport = 'tcp'\ndevice = 'gpu'".to_owned(),
                ),
            ],
        };
        let settings = resolve(&sources).expect("settings");
        assert_eq!(
            server(&settings),
            ("tcp://a:7370".to_owned(), "--server".to_owned())
        );
        assert_eq!(settings.transport, TransportChoice::Unix);
        assert_eq!(settings.device, DeviceChoice::Soft);

        sources.flags = Texts::default();
        assert_eq!(
            server(&resolve(&sources).expect("settings")).1,
            "GPURUN_SERVER"
        );
        sources.variables = Texts::default();
        let settings = resolve(&sources).expect("settings");
        let expected = (
            "tcp://c:7370,unix:/d".to_owned(),
            "/home/me/config.toml".to_owned(),
        );
        assert_eq!(server(&settings), expected);
        assert_eq!(settings.transport, TransportChoice::Tcp);
    }

    #[test]
    fn mistakes_name_their_origin() {
        let error = |sources: &Sources| resolve(sources).expect_err("a mistake").to_string();
        let flags = Sources {
            flags: texts("x://y", "", ""),
            ..Sources::default()
        };
        assert!(error(&flags).starts_with("--server: 'x://y'"));
        let variables = Sources {
            variables: texts("", "quic", ""),
            ..Sources::default()
        };
        assert_eq!(
            error(&variables),
            "GPURUN_TRANSPORT: 'quic' is not one of auto, tcp, unix, rdma"
        );
        let file = |text: &str| Sources {
            files: vec![(PathBuf::from("/f"), text.to_owned())],
            ..Sources::default()
        };
        assert!(error(&file("sever = 'a'")).contains("unknown field `sever`"));
        assert!(error(&file("device = 'cpu'")).starts_with("/f: 'cpu'"));
    }

    #[test]
    fn the_grace_is_a_number_of_seconds() {
        let mut sources = Sources {
            files: vec![(PathBuf::from("/f"), "silence_grace = 60".to_owned())],
            ..Sources::default()
        };
        let grace = |sources: &Sources| resolve(sources).map(|settings| settings.silence_grace);
        assert_eq!(grace(&Sources::default()).ok(), Some(DEFAULT_SILENCE_GRACE));
        assert_eq!(grace(&sources).ok(), Some(Duration::from_secs(60)));
        sources.variables.silence_grace = Some("3600".to_owned());
        assert_eq!(grace(&sources).ok(), Some(Duration::from_secs(3600)));
        for wrong in ["0", "4", "-1", "5.5", "soon", "99999999999999999999"] {
            sources.variables.silence_grace = Some(wrong.to_owned());
            let error = grace(&sources).expect_err(wrong).to_string();
            let expected = format!(
                "GPURUN_SILENCE_GRACE: '{wrong}' is not a time in whole seconds from 5 to 31536000"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn rdma_has_a_device_and_a_traffic_class() {
        let mut sources = Sources {
            files: vec![(
                PathBuf::from("/f"),
                "rdma_device = 'mlx5_1'\nrdma_traffic_class = 106".to_owned(),
            )],
            ..Sources::default()
        };
        sources.flags.rdma_device = Some("mlx5_0:1:3".to_owned());
        let settings = resolve(&sources).expect("settings");
        assert_eq!(settings.rdma.path.traffic_class, 106);
        let wanted = rdma::Wanted::parse("mlx5_0:1:3").expect("a device");
        assert_eq!(settings.rdma.wanted, wanted);
        sources.variables.rdma_traffic_class = Some("256".to_owned());
        let error = resolve(&sources).expect_err("too large").to_string();
        assert_eq!(
            error,
            "GPURUN_RDMA_TRAFFIC_CLASS: '256' is no number from 0 to 255"
        );
    }

    #[test]
    fn a_transport_allows_its_addresses() {
        let unix: Address = "unix:/s".parse().expect("an address");
        let tcp: Address = "h".parse().expect("an address");
        assert!(TransportChoice::Auto.allows(&unix) && TransportChoice::Auto.allows(&tcp));
        assert!(TransportChoice::Unix.allows(&unix) && !TransportChoice::Unix.allows(&tcp));
    }
}
