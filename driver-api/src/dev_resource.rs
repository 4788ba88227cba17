//! Resources of devices, which green contexts are made of: how they travel, and how a driver of ours knows its own again.
//!
//! *Rule:* what a driver keeps in a resource is its own affair, so the program gets a number in that place, and the server keeps the resource.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::abi::CUdevResource;

/// `CU_DEV_RESOURCE_TYPE_SM`.
pub const SM: u32 = 1;
/// `CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG`: the program may change it, or make one.
pub const WORKQUEUE_CONFIG: u32 = 1000;

/// Most resources of one descriptor, and most groups of one split.
pub const MAX_RESOURCES: usize = 1024;

/// Of what a resource is asked: the device, the current context, a green context.
pub mod owner {
    /// A device, by its ordinal.
    pub const DEVICE: u32 = 0;
    /// The current context.
    pub const CONTEXT: u32 = 1;
    /// A green context, by its id.
    pub const GREEN: u32 = 2;
}

/// A resource as it travels: its number at the server, 0 for one that the program has made; its kind, and what the program can read.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Described {
    /// At the server.
    pub number: U32,
    /// `CU_DEV_RESOURCE_TYPE_*`.
    pub kind: U32,
    /// The union.
    pub words: [U32; 10],
}

/// What a group of a split shall be, as it travels: `CU_DEV_SM_RESOURCE_GROUP_PARAMS`.
pub type Group = [U32; 16];

const MARK: [u8; 8] = *b"gpurun\0\x01";

/// Puts a number of ours into a resource.
pub fn hide(resource: &mut CUdevResource, numbers: &[u32]) {
    resource.private = [0; 92];
    resource.private[..8].copy_from_slice(&MARK);
    for (place, number) in resource.private[8..].chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// The numbers that [`hide`] has put there.
#[must_use]
pub fn hidden<const COUNT: usize>(resource: &CUdevResource) -> Option<[u32; COUNT]> {
    let behind = resource.private.strip_prefix(&MARK)?;
    let mut numbers = [0; COUNT];
    for (number, bytes) in numbers.iter_mut().zip(behind.chunks_exact(4)) {
        *number = bytes.try_into().map_or(0, u32::from_le_bytes);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_found() {
        let mut resource = CUdevResource::default();
        assert_eq!(hidden::<2>(&resource), None);
        hide(&mut resource, &[7, u32::MAX]);
        assert_eq!(hidden(&resource), Some([7, u32::MAX]));
    }
}
