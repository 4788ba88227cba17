//! What the settings say of leases: the table `[pool]`.

use std::time::Duration;

use protocol::hello::{DeviceKind, DeviceSnapshot};
use protocol::size;
use serde::Deserialize;

use super::ConfigError;
use crate::ledger::least_slice_bytes;
use crate::pool::{Packing, Policy, Sharing};

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolFile {
    packing: Option<String>,
    compute: Option<String>,
    longest_lease: Option<String>,
    idle_limit: Option<String>,
    kept_memory: Option<String>,
    least_slice: Option<String>,
    holder_grace: Option<String>,
    longest_queue: Option<usize>,
}

/// What the operator wants of leases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolConfig {
    policy: Policy,
    /// The least bytes of a slice, if they are named.
    least_slice: Option<u64>,
}

impl PoolConfig {
    pub(super) fn new(file: PoolFile) -> Result<Self, ConfigError> {
        let least_slice = file
            .least_slice
            .map(|text| bytes("least_slice", &text))
            .transpose()?;
        let mut policy = Policy {
            packing: match file.packing.as_deref() {
                None | Some("pack") => Packing::Pack,
                Some("spread") => Packing::Spread,
                Some(other) => return Err(wrong("packing", other, "pack or spread")),
            },
            sharing: match file.compute.as_deref() {
                None | Some("share") => Sharing::WorkConserving,
                Some("cap") => Sharing::HardCap,
                Some(other) => return Err(wrong("compute", other, "share or cap")),
            },
            longest_lease: time("longest_lease", file.longest_lease)?,
            idle_limit: time("idle_limit", file.idle_limit)?,
            ..Policy::default()
        };
        if let Some(text) = file.kept_memory {
            policy.kept_memory = bytes("kept_memory", &text)?;
        }
        if let Some(grace) = time("holder_grace", file.holder_grace)? {
            policy.holder_grace = grace;
        }
        if let Some(longest) = file.longest_queue {
            policy.longest_queue = longest;
        }
        Ok(Self {
            policy,
            least_slice,
        })
    }

    /// The policy for these devices: what is not named is as they need it.
    #[must_use]
    pub fn policy(&self, kind: DeviceKind, devices: &[DeviceSnapshot]) -> Policy {
        let measured = devices.iter().map(|device| device.context_memory).max();
        let measured = measured.filter(|bytes| *bytes > 0);
        Policy {
            least_slice: self
                .least_slice
                .unwrap_or_else(|| least_slice_bytes(kind, measured)),
            ..self.policy.clone()
        }
    }
}

fn wrong(key: &'static str, text: &str, expected: &str) -> ConfigError {
    ConfigError::Pool {
        key,
        problem: format!("'{text}' is not {expected}"),
    }
}

fn time(key: &'static str, text: Option<String>) -> Result<Option<Duration>, ConfigError> {
    let parse = |text: String| {
        humantime::parse_duration(&text).map_err(|_| wrong(key, &text, "a time such as 30m or 8h"))
    };
    text.map(parse).transpose()
}

fn bytes(key: &'static str, text: &str) -> Result<u64, ConfigError> {
    size::parse_bytes(text).map_err(|error| ConfigError::Pool {
        key,
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<PoolConfig, ConfigError> {
        PoolConfig::new(toml::from_str(text).expect("a table"))
    }

    #[test]
    fn what_is_named_counts() {
        let text = "packing = 'spread'\ncompute = 'cap'\nlongest_lease = '8h'\nkept_memory = '512MiB'\nleast_slice = '1GiB'";
        let policy = config(text)
            .expect("a config")
            .policy(DeviceKind::Nvidia, &[]);
        assert_eq!(policy.packing, Packing::Spread);
        assert_eq!(policy.sharing, Sharing::HardCap);
        assert_eq!(policy.longest_lease, Some(Duration::from_secs(8 * 3600)));
        assert_eq!(
            (policy.kept_memory, policy.least_slice),
            (512 << 20, 1 << 30)
        );
        assert_eq!(policy.idle_limit, None, "off unless it is named");
    }

    #[test]
    fn the_least_slice_holds_a_context() {
        let device = DeviceSnapshot {
            context_memory: 300 << 20,
            ..DeviceSnapshot::default()
        };
        let least = |devices: &[DeviceSnapshot]| {
            let config = config("").expect("defaults");
            config.policy(DeviceKind::Nvidia, devices).least_slice
        };
        // The context, the margin for what the driver makes beside, the smallest allocation.
        assert_eq!(least(&[device]), (300 + 128 + 2) << 20);
        assert!(least(&[]) > 430 << 20, "what is not measured is assumed");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| config(text).expect_err("a mistake").to_string();
        assert_eq!(
            error("packing = 'x'"),
            "pool.packing: 'x' is not pack or spread"
        );
        assert!(error("idle_limit = 'soon'").contains("30m"));
        assert!(error("kept_memory = 'much'").starts_with("pool.kept_memory"));
    }
}
