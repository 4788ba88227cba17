//! This machine: our libraries, RDMA, memory that may be locked.

use std::path::Path;

use protocol::size::{Bytes, MIB};
use protocol::transport::rdma;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::guest;

const HERE: &str = "this machine";

/// Where the kernel tells of RDMA devices.
const RDMA_DEVICES: &str = "/sys/class/infiniband";

/// Two rings of 4 MiB for a session, and some sessions.
const ENOUGH_LOCKED: u64 = 64 * MIB;

/// Looks at this machine.
pub(super) fn look() -> Vec<Finding> {
    let addresses = rdma::describe_all();
    let mut findings = vec![libraries(), rdma(&addresses, Path::new(RDMA_DEVICES))];
    // Only RDMA locks memory.
    if !addresses.is_empty() {
        findings.push(locked_memory(getrlimit(Resource::Memlock).current));
    }
    findings
}

fn libraries() -> Finding {
    const CHECK: &str = "libraries";
    let found = guest::executable_directory().and_then(|directory| guest::find(&directory));
    match found {
        Ok(directory) => Finding::good(HERE, CHECK, format!("in {}", directory.display())),
        Err(failure) => Finding::bad(HERE, CHECK, failure.to_string()),
    }
}

/// The RoCE v2 addresses as [`rdma::describe_all`] names them, and the states of their ports.
fn rdma(addresses: &[String], devices: &Path) -> Finding {
    const CHECK: &str = "RDMA";
    if addresses.is_empty() {
        return match devices.exists() {
            false => Finding::good(HERE, CHECK, "no RDMA device; programs go by TCP"),
            true => Finding::warning(HERE, CHECK, "an RDMA device without a RoCE v2 address").advise(
                "give its network interface an IP address and bring it up; programs go by TCP meanwhile",
            ),
        };
    }
    let told: Vec<(String, bool)> = addresses
        .iter()
        .map(|address| {
            let state = port_state(address, devices);
            let is_active = state.as_deref() == Some("ACTIVE");
            let state = state.unwrap_or_else(|| "state unknown".to_owned());
            (format!("{address} {state}"), is_active)
        })
        .collect();
    let words: Vec<&str> = told.iter().map(|(words, _)| words.as_str()).collect();
    let words = words.join(", ");
    match told.iter().any(|(_, is_active)| *is_active) {
        true => Finding::good(HERE, CHECK, words),
        false => Finding::warning(HERE, CHECK, words).advise(
            "no port is active: look after the cable, the switch and the interface (ip link)",
        ),
    }
}

/// `ACTIVE` of `mlx5_0:1 (GID 3, 10.0.0.1)`.
fn port_state(address: &str, devices: &Path) -> Option<String> {
    let (port, _) = address.split_once(' ')?;
    let (device, port) = port.split_once(':')?;
    let path = devices.join(device).join("ports").join(port).join("state");
    let state = std::fs::read_to_string(path).ok()?;
    let (_, name) = state.trim().split_once(": ")?;
    Some(name.to_owned())
}

fn locked_memory(limit: Option<u64>) -> Finding {
    const CHECK: &str = "locked memory";
    match limit {
        None => Finding::good(HERE, CHECK, "not limited"),
        Some(limit) if limit >= ENOUGH_LOCKED => {
            Finding::good(HERE, CHECK, format!("at most {}", Bytes(limit)))
        }
        Some(limit) => Finding::warning(
            HERE,
            CHECK,
            format!("at most {}: RDMA uses smaller rings, or none", Bytes(limit)),
        )
        .advise("raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn rdma_and_its_ports() {
        let root = tempfile::tempdir().expect("a directory");
        let nowhere = root.path().join("none");
        assert_eq!(rdma(&[], &nowhere).grade, Grade::Good);
        assert_eq!(rdma(&[], root.path()).grade, Grade::Warning);
        let port = root.path().join("mlx5_0/ports/1");
        std::fs::create_dir_all(&port).expect("made");
        let addresses = ["mlx5_0:1 (GID 3, 10.0.0.1)".to_owned()];
        let unknown = rdma(&addresses, root.path());
        assert_eq!(unknown.grade, Grade::Warning);
        std::fs::write(port.join("state"), "4: ACTIVE\n").expect("written");
        let active = rdma(&addresses, root.path());
        assert_eq!(active.grade, Grade::Good);
        assert_eq!(active.finding, "mlx5_0:1 (GID 3, 10.0.0.1) ACTIVE");
        std::fs::write(port.join("state"), "1: DOWN\n").expect("written");
        assert!(rdma(&addresses, root.path()).advice.contains("cable"));
    }

    #[test]
    fn how_much_may_be_locked() {
        assert_eq!(locked_memory(None).grade, Grade::Good);
        assert_eq!(locked_memory(Some(1 << 30)).grade, Grade::Good);
        let little = locked_memory(Some(8 * MIB));
        assert_eq!(little.grade, Grade::Warning);
        assert!(little.finding.contains("8 MiB") && little.advice.contains("ulimit -l"));
    }
}
