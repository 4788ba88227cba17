//! Which port of which device a connection leaves by: chosen by address.
//!
//! What: the RoCE v2 addresses of this machine's RDMA ports, as the kernel lists them, and the choice among them. Rules: reading is
//! apart from choosing; an address that is named (`device`, `port`, `index`) is taken or refused, never silently replaced.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

/// Where the kernel lists them.
const DEVICES: &str = "/sys/class/infiniband";

/// One RoCE v2 address of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gid {
    pub(super) device: String,
    pub(super) port: u8,
    pub(super) index: u8,
    /// The address as it travels: IPv4 is mapped.
    pub(super) address: Ipv6Addr,
}

impl fmt::Display for Gid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device,
            port,
            index,
            ..
        } = self;
        let address = IpAddr::V6(self.address).to_canonical();
        write!(formatter, "{device}:{port} (GID {index}, {address})")
    }
}

/// What may be said about the choice: `DEVICE[:PORT[:GID]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The device's name.
    pub device: Option<String>,
    /// Its port.
    pub port: Option<u8>,
    /// The place in the port's table of addresses.
    pub index: Option<u8>,
}

impl Wanted {
    /// Understands `DEVICE[:PORT[:GID]]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let device = parts.next().filter(|device| !device.is_empty());
        let mut number = |what: &str| match parts.next().map(str::parse::<u8>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(format!("'{text}': the {what} is no number from 0 to 255")),
        };
        let wanted = Self {
            device: device.map(str::to_owned),
            port: number("port")?,
            index: number("GID")?,
        };
        if wanted.device.is_none() || parts.next().is_some() {
            return Err(format!("'{text}' is not DEVICE[:PORT[:GID]]"));
        }
        Ok(wanted)
    }

    fn allows(&self, gid: &Gid) -> bool {
        self.device
            .as_ref()
            .is_none_or(|device| *device == gid.device)
            && self.port.is_none_or(|port| port == gid.port)
            && self.index.is_none_or(|index| index == gid.index)
    }
}

/// All RoCE v2 addresses, in a stable order; none where there is no such device.
pub(super) fn all() -> Vec<Gid> {
    // No folder: no device.
    let mut gids = read(Path::new(DEVICES)).unwrap_or_default();
    gids.sort_by(|one, other| {
        (&one.device, one.port, one.index).cmp(&(&other.device, other.port, other.index))
    });
    gids
}

fn read(devices: &Path) -> io::Result<Vec<Gid>> {
    let mut found = Vec::new();
    for device in fs::read_dir(devices)? {
        let device = device?;
        let name = device.file_name().to_string_lossy().into_owned();
        let Ok(ports) = fs::read_dir(device.path().join("ports")) else {
            continue;
        };
        for port in ports.flatten() {
            let Ok(number) = port.file_name().to_string_lossy().parse() else {
                continue;
            };
            found.extend(of_port(&name, number, &port.path()));
        }
    }
    Ok(found)
}

fn of_port(device: &str, port: u8, folder: &Path) -> Vec<Gid> {
    let Ok(entries) = fs::read_dir(folder.join("gids")) else {
        return Vec::new();
    };
    let gid = |entry: fs::DirEntry| {
        let index: u8 = entry.file_name().to_str()?.parse().ok()?;
        let kind = fs::read_to_string(folder.join(format!("gid_attrs/types/{index}"))).ok()?;
        let address: Ipv6Addr = fs::read_to_string(entry.path()).ok()?.trim().parse().ok()?;
        let is_usable = kind.trim() == "RoCE v2" && !address.is_unspecified();
        is_usable.then(|| Gid {
            device: device.to_owned(),
            port,
            index,
            address,
        })
    };
    entries.flatten().filter_map(gid).collect()
}

/// The address to leave by, for a connection whose own end is `local`.
///
/// The same address is best. On the loopback interface there is none: there any address of this machine reaches this machine, an IPv4
/// one first, since every RoCE v2 port has one that is routed.
pub(super) fn choose<'a>(gids: &'a [Gid], local: IpAddr, wanted: &Wanted) -> Option<&'a Gid> {
    let local = local.to_canonical();
    let mapped = match local {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut allowed = gids.iter().filter(|gid| wanted.allows(gid));
    if let Some(same) = allowed.clone().find(|gid| gid.address == mapped) {
        return Some(same);
    }
    if wanted.index.is_some() {
        return allowed.next();
    }
    let is_free_choice = local.is_loopback() || wanted.device.is_some();
    let is_v4 = |gid: &&Gid| gid.address.to_ipv4_mapped().is_some();
    if !is_free_choice {
        return None;
    }
    allowed.clone().find(is_v4).or_else(|| allowed.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(device: &str, port: u8, index: u8, address: &str) -> Gid {
        let address = match address.parse().expect("an address") {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Gid {
            device: device.to_owned(),
            port,
            index,
            address,
        }
    }

    fn table() -> Vec<Gid> {
        vec![
            gid("mlx5_0", 1, 1, "fe80::1"),
            gid("mlx5_0", 1, 3, "10.0.0.1"),
            gid("mlx5_1", 1, 3, "10.0.1.1"),
            gid("mlx5_1", 1, 5, "2001:db8::1"),
        ]
    }

    fn chosen(local: &str, wanted: &str) -> Option<(String, u8)> {
        let wanted = match wanted {
            "" => Wanted::default(),
            text => Wanted::parse(text).expect("a device"),
        };
        let gids = table();
        let gid = choose(&gids, local.parse().expect("an address"), &wanted)?;
        Some((gid.device.clone(), gid.index))
    }

    #[test]
    fn the_connections_own_address_decides() {
        assert_eq!(chosen("10.0.1.1", ""), Some(("mlx5_1".to_owned(), 3)));
        assert_eq!(
            chosen("::ffff:10.0.0.1", ""),
            Some(("mlx5_0".to_owned(), 3))
        );
        assert_eq!(chosen("2001:db8::1", ""), Some(("mlx5_1".to_owned(), 5)));
        assert_eq!(chosen("10.0.2.1", ""), None);
    }

    #[test]
    fn loopback_and_a_named_device_leave_the_choice() {
        assert_eq!(chosen("127.0.0.1", ""), Some(("mlx5_0".to_owned(), 3)));
        assert_eq!(chosen("10.0.9.9", "mlx5_1"), Some(("mlx5_1".to_owned(), 3)));
        assert_eq!(
            chosen("10.0.9.9", "mlx5_1:1:5"),
            Some(("mlx5_1".to_owned(), 5))
        );
        assert_eq!(
            chosen("10.0.0.1", "mlx5_1:2"),
            None,
            "never another port than was said"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for wrong in ["", ":1", "a:b", "a:1:x", "a:1:2:3", "a:256"] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kernels_list_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let port = folder.path().join("rxe0/ports/1");
        fs::create_dir_all(port.join("gids")).expect("folders");
        fs::create_dir_all(port.join("gid_attrs/types")).expect("folders");
        let write = |index: u8, address: &str, kind: &str| {
            fs::write(port.join(format!("gids/{index}")), address).expect("written");
            fs::write(port.join(format!("gid_attrs/types/{index}")), kind).expect("written");
        };
        write(
            0,
            "fe80:0000:0000:0000:0000:0000:0000:0001\n",
            "IB/RoCE v1\n",
        );
        write(1, "0000:0000:0000:0000:0000:ffff:0a4d:0001\n", "RoCE v2\n");
        write(2, "0000:0000:0000:0000:0000:0000:0000:0000\n", "RoCE v2\n");
        let gids = read(folder.path()).expect("a list");
        assert_eq!(gids, [gid("rxe0", 1, 1, "10.77.0.1")]);
    }
}
