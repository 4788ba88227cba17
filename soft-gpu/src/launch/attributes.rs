//! What the attributes of a launch, or of a kernel's node, ask for.
//!
//! *Rules:* most attributes are hints. What would change how a kernel runs, and is not done, is refused.

use core::ffi::c_uint;

use driver_api::abi::CUresult;

use crate::log::warn;
use crate::state::driver;

/// Bytes of an attribute's value.
pub(crate) const VALUE_BYTES: usize = 64;
/// A value, as the driver's union has it.
pub(crate) type Value = [u8; VALUE_BYTES];

const COOPERATIVE: c_uint = 2;
const CLUSTER_DIMENSION: c_uint = 4;
const PROGRAMMATIC_EVENT: c_uint = 7;
const LAUNCH_COMPLETION_EVENT: c_uint = 12;
const PORTABLE_CLUSTER_SIZE_MODE: c_uint = 17;

/// Whether a cluster may be larger than every device allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Portable {
    /// The function's attribute says.
    #[default]
    OfFunction,
    Required,
    NotRequired,
}

/// What changes a launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Whether all blocks are there at the same time.
    pub(crate) cooperative: bool,
    /// Blocks of a cluster in each dimension.
    pub(crate) cluster: Option<[u32; 3]>,
    pub(crate) portable: Portable,
}

/// A word of a value.
fn word(value: &Value, at: usize) -> u32 {
    let bytes = value[4 * at..4 * at + 4].iter().rev();
    bytes.fold(0u32, |word, byte| word << 8 | u32::from(*byte))
}

/// Whether the device runs clusters of blocks.
pub(crate) fn has_clusters() -> Result<bool, CUresult> {
    Ok(driver()?.config.capability.major >= 9)
}

impl Attributes {
    /// Those of a cooperative launch.
    pub(crate) fn cooperative() -> Self {
        Self {
            cooperative: true,
            ..Self::default()
        }
    }

    /// Takes over what an attribute says. It may ask for nothing that this device lacks.
    pub(crate) fn set(&mut self, id: c_uint, value: &Value) -> Result<(), CUresult> {
        match id {
            COOPERATIVE => self.cooperative = word(value, 0) != 0,
            CLUSTER_DIMENSION => {
                let size = [0, 1, 2].map(|dimension| word(value, dimension));
                if !has_clusters()? && size.iter().any(|&count| count > 1) {
                    return lacking(id);
                }
                // All zero: none.
                self.cluster = (size != [0; 3]).then_some(size);
            }
            PORTABLE_CLUSTER_SIZE_MODE => {
                self.portable = match word(value, 0) {
                    0 => Portable::OfFunction,
                    1 => Portable::Required,
                    2 => Portable::NotRequired,
                    _ => return Err(CUresult::INVALID_VALUE),
                };
            }
            PROGRAMMATIC_EVENT | LAUNCH_COMPLETION_EVENT => return lacking(id),
            // Priorities, cache policies, carve-outs: hints. An earlier start (programmatic serialization) need not be either, nor other clusters that are
            // preferred.
            _ => {}
        }
        Ok(())
    }

    /// The value of an attribute; zeros for what is not kept.
    pub(crate) fn get(&self, id: c_uint) -> Value {
        let words = match id {
            COOPERATIVE => [self.cooperative.into(), 0, 0],
            CLUSTER_DIMENSION => self.cluster.unwrap_or_default(),
            PORTABLE_CLUSTER_SIZE_MODE => [self.portable as u32, 0, 0],
            _ => [0; 3],
        };
        let mut value = [0; VALUE_BYTES];
        for (place, word) in value.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        value
    }
}

fn lacking(id: c_uint) -> Result<(), CUresult> {
    warn(&format!("launch attribute {id} is not supported"));
    Err(CUresult::NOT_SUPPORTED)
}
