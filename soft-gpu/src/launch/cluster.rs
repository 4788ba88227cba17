//! The clusters of a launch: how large they are, and what can be wrong with that.
//!
//! *What:* their size is what the launch's attribute says, or what the kernel requires; both at once have to agree. *Rules:* whatever is wrong with it is
//! `CUDA_ERROR_INVALID_CLUSTER_SIZE`. A device whose compute capability is below 9.0 has no clusters but those of one block.

use core::ffi::c_int;

use driver_api::abi::CUresult;

use super::attributes::{Attributes, Portable, has_clusters};
use crate::exec::MAX_CLUSTER_BLOCKS;
use crate::log::warn;
use crate::module::Function;
use crate::threads::lock;

/// Blocks of a cluster that every device with clusters allows.
const PORTABLE_BLOCKS: u32 = 8;

/// What a program has set of a function.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    /// Blocks of a cluster in each dimension; zeros where nothing is required.
    pub(crate) required: [u32; 3],
    pub(crate) may_be_not_portable: bool,
    /// `CUclusterSchedulingPolicy`: a hint.
    pub(crate) scheduling: c_int,
}

/// What a function requires of its clusters, if anything.
pub(crate) fn required(function: &Function) -> Result<Option<[u32; 3]>, CUresult> {
    let declared = function.entry()?.required_cluster;
    let set = lock(&function.clusters).required;
    Ok(declared.or((set != [0; 3]).then_some(set)))
}

/// Most blocks of a cluster.
pub(crate) fn most_blocks(function: &Function, attributes: &Attributes) -> Result<u32, CUresult> {
    let of_function = lock(&function.clusters).may_be_not_portable;
    let may_be_larger = match attributes.portable {
        Portable::OfFunction => of_function,
        Portable::Required => false,
        Portable::NotRequired => true,
    };
    let most = match (has_clusters()?, may_be_larger) {
        (false, _) => 1,
        (true, false) => PORTABLE_BLOCKS,
        (true, true) => MAX_CLUSTER_BLOCKS,
    };
    Ok(function
        .entry()?
        .max_cluster_rank
        .map_or(most, |rank| most.min(rank)))
}

/// Blocks of a cluster in each dimension, if a launch has clusters.
pub(crate) fn size(
    function: &Function,
    attributes: &Attributes,
) -> Result<Option<[u32; 3]>, CUresult> {
    let entry = function.entry()?;
    if entry.blocks_are_clusters {
        warn("`.blocksareclusters` is not supported");
        return Err(CUresult::NOT_SUPPORTED);
    }
    let wanted = match (attributes.cluster, required(function)?) {
        (Some(asked), Some(required)) if asked != required => None,
        (Some(size), _) | (None, Some(size)) => Some(size),
        (None, None) if entry.has_explicit_cluster => None,
        (None, None) => return Ok(None),
    };
    let size = wanted.ok_or(CUresult::INVALID_CLUSTER_SIZE)?;
    if !has_clusters()? && size != [1; 3] {
        warn("clusters need a device of compute capability 9.0 (GPURUN_SOFT_CC)");
        return Err(CUresult::NOT_SUPPORTED);
    }
    let most = most_blocks(function, attributes)?;
    match blocks(size) {
        Some(blocks) if (1..=most).contains(&blocks) => Ok(Some(size)),
        _ => Err(CUresult::INVALID_CLUSTER_SIZE),
    }
}

/// Blocks of a cluster of this size.
pub(crate) fn blocks(size: [u32; 3]) -> Option<u32> {
    size.iter()
        .try_fold(1u32, |all, &count| all.checked_mul(count))
}

/// Whether a grid is one of whole clusters.
pub(crate) fn check_grid(grid: [u32; 3], size: [u32; 3]) -> Result<(), CUresult> {
    let divides = |(grid, size): (&u32, &u32)| *size != 0 && grid.is_multiple_of(*size);
    match grid.iter().zip(&size).all(divides) {
        true => Ok(()),
        false => Err(CUresult::INVALID_CLUSTER_SIZE),
    }
}

/// Blocks that a multiprocessor holds, of which there is room for `each`: whole clusters, and always one, since one thread runs all of a cluster.
pub(crate) fn resident(each: u64, size: Option<[u32; 3]>) -> u64 {
    let blocks = u64::from(size.and_then(blocks).unwrap_or(1).max(1));
    if each == 0 {
        return 0;
    }
    (each / blocks).max(1) * blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiprocessor_holds_whole_clusters() {
        assert_eq!(resident(5, None), 5);
        assert_eq!(resident(5, Some([2, 1, 1])), 4);
        assert_eq!(resident(1, Some([2, 2, 2])), 8);
        assert_eq!(resident(0, Some([2, 1, 1])), 0);
    }

    #[test]
    fn a_grid_is_of_whole_clusters() {
        assert_eq!(check_grid([4, 2, 1], [2, 2, 1]), Ok(()));
        for size in [[3, 1, 1], [1, 1, 2], [0, 1, 1]] {
            let found = check_grid([4, 2, 1], size);
            assert_eq!(found, Err(CUresult::INVALID_CLUSTER_SIZE), "{size:?}");
        }
        assert_eq!(blocks([1 << 16, 1 << 16, 1]), None);
    }
}
