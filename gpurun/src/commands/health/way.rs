//! The way to one server: how fast, how large, who can read along, and whether both ends fit together.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use control_plane::{HealthReply, ListReply};
use protocol::address::Address;
use protocol::config::{Settings, TransportChoice};
use protocol::connect::{self, ConnectError, secure};
use protocol::hello::{Accepted, DeviceKind, Hello, Intent, RELEASE};
use protocol::limits::{HELLO_REPLY_TIMEOUT, NEWEST_VERSION, OLDEST_VERSION};
use protocol::transport::rdma::{self, Prepared};
use rustix::net::sockopt;

use super::Finding;
use crate::pool::{Pool, PoolError, Protection, Server};
use crate::stats::kind_name;
use crate::text;

/// How often the server is asked, to learn how long that takes.
const ROUND_TRIPS: usize = 9;

/// From here on programs that ask much are slower than people expect.
const SLOW: Duration = Duration::from_millis(2);

/// The least MTU with which RoCE uses packets of 4096 bytes.
const ROCE_MTU: u32 = 4096 + 104;

/// The MTU of Ethernet.
const ETHERNET_MTU: u32 = 1500;

/// What a visit brought.
pub(super) struct Visit {
    list: ListReply,
    round_trips: Vec<Duration>,
    protection: Protection,
    pub(super) health: Result<HealthReply, PoolError>,
}

/// Asks a server what it is and how it does.
pub(super) async fn visit(pool: Pool) -> Result<Visit, PoolError> {
    let list = pool.list().await?;
    let mut round_trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        pool.list().await?;
        round_trips.push(begin.elapsed());
    }
    Ok(Visit {
        list,
        round_trips,
        protection: pool.protection().clone(),
        health: pool.health().await,
    })
}

/// What the visit means, and what a connection of a program's kind shows.
pub(super) fn judge(server: &Server, visit: &Visit, settings: &Settings) -> Vec<Finding> {
    let name = &server.name;
    let hello = greet(server);
    let info = match &hello {
        Ok(accepted) => accepted.server.clone(),
        Err(_) => visit.list.server.clone(),
    };
    let info = info.unwrap_or_default();
    let mut findings = vec![
        latency(name, &visit.round_trips),
        versions(name, &hello, &info.version),
        encryption(name, &visit.protection, server.credential.token.is_some()),
    ];
    if matches!(server.address, Address::Tcp { .. })
        && let Some(route) = Route::of(&server.address)
    {
        let frames = Frames::of(&route, settings, visit);
        findings.push(mtu(name, &route, frames == Frames::Rdma));
        findings.push(transport(name, frames, &route, settings));
    }
    findings.push(driver(name, &info));
    if visit.list.draining {
        let draining = Finding::warning(name, "leases", "it is draining: it gives no new leases");
        findings.push(draining.advise("use another server, or ask its operator"));
    }
    findings
}

fn latency(name: &str, round_trips: &[Duration]) -> Finding {
    let mut sorted = round_trips.to_vec();
    sorted.sort();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let words = format!(
        "answers in {:.2} ms (median of {})",
        median.as_secs_f64() * 1e3,
        sorted.len()
    );
    match median > SLOW {
        false => Finding::good(name, "server", words),
        true => Finding::warning(name, "server", words)
            .advise("a program waits so long for each call that needs an answer: use a server that is nearer"),
    }
}

/// Says hello as a program does, and asks for what costs the server a moment: the driver's release.
fn greet(server: &Server) -> Result<Accepted, ConnectError> {
    let socket = connect::connect(&server.address)?;
    let hello = Hello {
        with_usage: true,
        ..Hello::new(Intent::Snapshot)
    };
    let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
    secure::ask_until(
        &server.address,
        &socket,
        &hello,
        &server.credential,
        deadline,
    )
}

/// The releases, and whether a hello succeeds.
fn versions(name: &str, hello: &Result<Accepted, ConnectError>, release: &str) -> Finding {
    const CHECK: &str = "versions";
    let ours = format!("here {RELEASE} (protocol {OLDEST_VERSION} to {NEWEST_VERSION})");
    let theirs = format!("there {}", text::or_dash(release));
    match hello {
        Err(error) => Finding::bad(
            name,
            CHECK,
            text::clean(&format!("{ours}, {theirs}: {error}")),
        ),
        Ok(accepted) => {
            let words = format!("{ours}, {theirs} (speaks {})", accepted.version);
            match release == RELEASE {
                true => Finding::good(name, CHECK, words),
                false => Finding::warning(name, CHECK, words).advise(
                    "install the same release on both: programs of another release may be refused",
                ),
            }
        }
    }
}

fn encryption(name: &str, protection: &Protection, has_token: bool) -> Finding {
    const CHECK: &str = "encryption";
    match protection {
        Protection::Local => Finding::good(name, CHECK, "none, and nothing leaves this machine"),
        Protection::Encrypted(suite) => {
            let token = if has_token {
                "with a token"
            } else {
                "without a token"
            };
            Finding::good(name, CHECK, format!("TLS 1.3, {suite}, {token}"))
        }
        Protection::None => Finding::warning(
            name,
            CHECK,
            "none: who is between can read and change everything",
        )
        .advise("take in the bundle that the server's operator gives you: gpurun login BUNDLE"),
    }
}

/// A connection as a program's.
struct Route {
    local: IpAddr,
    mtu: u32,
}

impl Route {
    /// Connects once more: the pool's connection is gRPC's. None if that fails, which the visit has just told otherwise.
    fn of(address: &Address) -> Option<Self> {
        let socket = connect::connect(address).ok()?;
        let local = rustix::net::getsockname(&socket).ok()?;
        let local = SocketAddr::try_from(local).ok()?.ip();
        let mtu = match local {
            IpAddr::V4(_) => sockopt::ip_mtu(&socket).ok()?,
            IpAddr::V6(_) => sockopt::ipv6_mtu(&socket).ok()?,
        };
        let local = local.to_canonical();
        Some(Self { local, mtu })
    }
}

/// The way that a program's frames would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    Tcp,
    /// RDMA is there, but it would not be encrypted, and the rest is.
    TcpSinceEncrypted,
    Rdma,
    /// RDMA is asked for, and the server has none.
    NoRdmaThere,
}

impl Frames {
    /// As `protocol::connect::rdma` decides it.
    fn of(route: &Route, settings: &Settings, visit: &Visit) -> Self {
        let is_encrypted = matches!(visit.protection, Protection::Encrypted(_));
        match settings.transport {
            TransportChoice::Tcp | TransportChoice::Unix => Self::Tcp,
            TransportChoice::Rdma if visit.list.has_rdma => Self::Rdma,
            TransportChoice::Rdma => Self::NoRdmaThere,
            TransportChoice::Auto => {
                let could = !route.local.is_loopback() && rdma::is_present() && visit.list.has_rdma;
                match (could, is_encrypted) {
                    (false, _) => Self::Tcp,
                    (true, true) => Self::TcpSinceEncrypted,
                    (true, false) => Self::Rdma,
                }
            }
        }
    }
}

fn mtu(name: &str, route: &Route, is_rdma: bool) -> Finding {
    const CHECK: &str = "MTU";
    let words = format!("{} from {}", route.mtu, route.local);
    if route.mtu < ETHERNET_MTU {
        return Finding::warning(name, CHECK, words)
            .advise("smaller than Ethernet's 1500: a tunnel or overlay is between, and large copies are slower");
    }
    if is_rdma && route.mtu < ROCE_MTU {
        return Finding::warning(name, CHECK, words).advise(
            "RoCE uses packets of 1024 bytes: set an MTU of 9000 on both ends and the switch between for 4096",
        );
    }
    Finding::good(name, CHECK, words)
}

fn transport(name: &str, frames: Frames, route: &Route, settings: &Settings) -> Finding {
    const CHECK: &str = "transport";
    match frames {
        Frames::Tcp => Finding::good(name, CHECK, "programs go by TCP"),
        Frames::TcpSinceEncrypted => Finding::good(
            name,
            CHECK,
            "programs go by TCP, encrypted; by RDMA they would not be",
        ),
        Frames::NoRdmaThere => {
            Finding::bad(name, CHECK, "RDMA is asked for, and the server has none")
                .advise("leave --transport rdma (GPURUN_TRANSPORT) away, or use another server")
        }
        Frames::Rdma => match Prepared::new(route.local, &settings.rdma) {
            Ok(prepared) => Finding::warning(
                name,
                CHECK,
                format!(
                    "programs go by RDMA, {}; RDMA is not encrypted",
                    prepared.describe()
                ),
            )
            .advise("where others reach the fabric, use --transport tcp with a bundle"),
            Err(error) => {
                let is_required = settings.transport == TransportChoice::Rdma;
                let words = format!("no RDMA: {error}");
                match is_required {
                    true => Finding::bad(name, CHECK, words),
                    false => Finding::warning(name, CHECK, format!("{words}; programs go by TCP")),
                }
            }
        },
    }
}

fn driver(name: &str, info: &protocol::hello::ServerInfo) -> Finding {
    const CHECK: &str = "driver";
    let words = format!(
        "{} {}, CUDA {}",
        kind_name(info.device_kind()),
        text::or_dash(&info.driver_release),
        text::cuda_version(info.driver_version)
    );
    match info.device_kind() {
        DeviceKind::Nvidia => Finding::good(name, CHECK, words),
        DeviceKind::Software => {
            Finding::warning(name, CHECK, words).advise("the software GPU is slow: for tests only")
        }
        DeviceKind::Unspecified => Finding::warning(name, CHECK, words),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn latency_is_the_median() {
        let ms = |times: &[u64]| -> Vec<Duration> {
            times.iter().map(|ms| Duration::from_millis(*ms)).collect()
        };
        let good = latency("s", &ms(&[1, 1, 90]));
        assert_eq!(good.grade, Grade::Good);
        assert_eq!(good.finding, "answers in 1.00 ms (median of 3)");
        assert_eq!(latency("s", &ms(&[9, 9, 1])).grade, Grade::Warning);
    }

    #[test]
    fn who_can_read_along() {
        assert_eq!(
            encryption("s", &Protection::Local, false).grade,
            Grade::Good
        );
        let tls = Protection::Encrypted("TLS13_AES_128_GCM_SHA256".to_owned());
        assert!(
            encryption("s", &tls, true)
                .finding
                .ends_with("with a token")
        );
        let none = encryption("s", &Protection::None, false);
        assert_eq!(none.grade, Grade::Warning);
        assert!(none.advice.contains("gpurun login"));
    }

    fn route(local: &str, mtu: u32) -> Route {
        Route {
            local: local.parse().expect("an address"),
            mtu,
        }
    }

    #[test]
    fn packets_that_are_small() {
        let grade = |size, is_rdma| mtu("s", &route("10.0.0.1", size), is_rdma).grade;
        assert_eq!(grade(1400, false), Grade::Warning);
        assert_eq!(grade(1500, false), Grade::Good);
        assert_eq!(grade(1500, true), Grade::Warning);
        assert_eq!(grade(9000, true), Grade::Good);
    }

    #[test]
    fn the_way_of_the_frames() {
        let visit = |has_rdma, protection| Visit {
            list: ListReply {
                has_rdma,
                ..ListReply::default()
            },
            round_trips: Vec::new(),
            protection,
            health: Ok(HealthReply::default()),
        };
        let with = |transport| Settings {
            transport,
            ..Settings::default()
        };
        let near = route("127.0.0.1", 65536);
        let frames = |transport, visit: &Visit| Frames::of(&near, &with(transport), visit);
        let plain = visit(true, Protection::None);
        assert_eq!(frames(TransportChoice::Auto, &plain), Frames::Tcp);
        assert_eq!(frames(TransportChoice::Tcp, &plain), Frames::Tcp);
        assert_eq!(frames(TransportChoice::Rdma, &plain), Frames::Rdma);
        let without = visit(false, Protection::None);
        assert_eq!(frames(TransportChoice::Rdma, &without), Frames::NoRdmaThere);
        let refused = transport(
            "s",
            Frames::NoRdmaThere,
            &near,
            &with(TransportChoice::Rdma),
        );
        assert_eq!(refused.grade, Grade::Bad);
    }
}
