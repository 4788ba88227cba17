//! What a device says of itself, edited: what is not true at a distance is reported absent.
//!
//! What: one table with a row for each attribute that a client must not hear as the driver says it, and why. Rules: a
//! row's reason is either distance itself, or that our client does not serve the function yet, and then the row goes
//! when the function comes; attributes newer than this table are dropped, because nobody has thought about them.

use std::collections::BTreeMap;

/// The newest attribute that somebody has thought about (`CU_DEVICE_ATTRIBUTE_ATOMIC_REDUCTION_SUPPORTED` of
/// CUDA 13).
pub const LAST_ATTRIBUTE: i32 = 148;

/// Why an attribute is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It speaks of memory, a bus or a process that the device and the program share; they share none.
    Distance(&'static str),
    /// The client does not serve it yet.
    NotServed(&'static str),
    /// The client makes it itself, whatever the driver has.
    MadeHere(&'static str),
}

/// One edited attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Its number.
    pub attribute: i32,
    /// Its name, without `CU_DEVICE_ATTRIBUTE_`.
    pub name: &'static str,
    /// What the client hears.
    pub value: i32,
    /// Why.
    pub reason: Reason,
}

const fn distance(attribute: i32, name: &'static str, reason: &'static str) -> Edit {
    Edit {
        attribute,
        name,
        value: 0,
        reason: Reason::Distance(reason),
    }
}

const fn unknown_node(attribute: i32, name: &'static str) -> Edit {
    Edit {
        attribute,
        name,
        value: -1,
        reason: Reason::Distance("the server's memory nodes are not the program's"),
    }
}

const fn not_served(attribute: i32, name: &'static str, what: &'static str) -> Edit {
    Edit {
        attribute,
        name,
        value: 0,
        reason: Reason::NotServed(what),
    }
}

const NO_SHARED_MEMORY: &str = "the device cannot reach the program's memory";
const NO_SHARED_BUS: &str = "the device is on no bus of the program's machine";
const NO_HANDLE: &str = "a handle of the server means nothing in the program's processes";

/// The edited attributes, by number.
pub const EDITS: &[Edit] = &[
    distance(18, "INTEGRATED", NO_SHARED_MEMORY),
    distance(86, "HOST_NATIVE_ATOMIC_SUPPORTED", NO_SHARED_MEMORY),
    distance(88, "PAGEABLE_MEMORY_ACCESS", NO_SHARED_MEMORY),
    distance(89, "CONCURRENT_MANAGED_ACCESS", NO_SHARED_MEMORY),
    not_served(
        96,
        "COOPERATIVE_MULTI_DEVICE_LAUNCH",
        "launches on several devices at once",
    ),
    distance(98, "CAN_FLUSH_REMOTE_WRITES", NO_SHARED_BUS),
    distance(
        100,
        "PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES",
        NO_SHARED_MEMORY,
    ),
    distance(101, "DIRECT_MANAGED_MEM_ACCESS_FROM_HOST", NO_SHARED_MEMORY),
    distance(104, "HANDLE_TYPE_WIN32_HANDLE_SUPPORTED", NO_HANDLE),
    distance(105, "HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED", NO_HANDLE),
    not_served(107, "GENERIC_COMPRESSION_SUPPORTED", "compressed memory"),
    distance(
        110,
        "GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED",
        NO_SHARED_BUS,
    ),
    not_served(112, "SPARSE_CUDA_ARRAY_SUPPORTED", "sparse arrays"),
    distance(113, "READ_ONLY_HOST_REGISTER_SUPPORTED", NO_SHARED_MEMORY),
    distance(114, "TIMELINE_SEMAPHORE_INTEROP_SUPPORTED", NO_HANDLE),
    Edit {
        attribute: 115,
        name: "MEMORY_POOLS_SUPPORTED",
        value: 1,
        reason: Reason::MadeHere("memory pools"),
    },
    distance(116, "GPU_DIRECT_RDMA_SUPPORTED", NO_SHARED_BUS),
    distance(117, "GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS", NO_SHARED_BUS),
    distance(118, "GPU_DIRECT_RDMA_WRITES_ORDERING", NO_SHARED_BUS),
    not_served(
        121,
        "DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED",
        "deferred mapping of arrays",
    ),
    distance(124, "DMA_BUF_SUPPORTED", NO_HANDLE),
    distance(128, "HANDLE_TYPE_FABRIC_SUPPORTED", NO_HANDLE),
    distance(
        130,
        "NUMA_CONFIG",
        "the server's memory nodes are not the program's",
    ),
    unknown_node(131, "NUMA_ID"),
    distance(
        133,
        "MPS_ENABLED",
        "how the server shares a device is its own affair",
    ),
    unknown_node(134, "HOST_NUMA_ID"),
    distance(
        135,
        "D3D12_CIG_SUPPORTED",
        "graphics are the program's machine's",
    ),
    not_served(
        136,
        "MEM_DECOMPRESS_ALGORITHM_MASK",
        "the decompression engine",
    ),
    not_served(
        137,
        "MEM_DECOMPRESS_MAXIMUM_LENGTH",
        "the decompression engine",
    ),
    distance(
        138,
        "VULKAN_CIG_SUPPORTED",
        "graphics are the program's machine's",
    ),
    distance(
        141,
        "HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED",
        NO_SHARED_MEMORY,
    ),
    distance(142, "HOST_NUMA_MEMORY_POOLS_SUPPORTED", NO_SHARED_MEMORY),
    distance(143, "HOST_NUMA_MULTINODE_IPC_SUPPORTED", NO_SHARED_MEMORY),
    distance(144, "HOST_MEMORY_POOLS_SUPPORTED", NO_SHARED_MEMORY),
    distance(
        145,
        "HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED",
        NO_SHARED_MEMORY,
    ),
    distance(146, "HOST_ALLOC_DMA_BUF_SUPPORTED", NO_HANDLE),
    distance(
        147,
        "ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED",
        NO_SHARED_MEMORY,
    ),
];

const _: () = {
    let mut row = 1;
    while row < EDITS.len() {
        assert!(EDITS[row - 1].attribute < EDITS[row].attribute);
        row += 1;
    }
    assert!(EDITS[EDITS.len() - 1].attribute <= LAST_ATTRIBUTE);
};

/// `HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED`, and `MEMPOOL_SUPPORTED_HANDLE_TYPES`, whose bit for such descriptors is the first: pools are the client's
/// own, and made of memory that it shares by them.
const DESCRIPTORS: i32 = 103;
const DESCRIPTORS_OF_POOLS: i32 = 119;

/// `MULTICAST_SUPPORTED`.
const MULTICAST: i32 = 132;

/// What a driver has to have for that: what a worker calls.
pub const MULTICAST_FUNCTIONS: [&str; 6] = [
    "cuMulticastCreate",
    "cuMulticastAddDevice",
    "cuMulticastBindMem",
    "cuMulticastBindAddr",
    "cuMulticastUnbind",
    "cuMulticastGetGranularity",
];

/// Edits a driver's attributes. What the driver does not know stays unknown.
/// `has_multicast`: the driver has all of [`MULTICAST_FUNCTIONS`].
pub fn edit(attributes: &mut BTreeMap<i32, i32>, has_multicast: bool) {
    if !has_multicast {
        attributes.entry(MULTICAST).and_modify(|value| *value = 0);
    }
    attributes.retain(|attribute, _| (1..=LAST_ATTRIBUTE).contains(attribute));
    let has_descriptors = attributes
        .get(&DESCRIPTORS)
        .is_some_and(|value| *value != 0);
    attributes
        .entry(DESCRIPTORS_OF_POOLS)
        .and_modify(|value| *value = has_descriptors.into());
    for edit in EDITS {
        attributes
            .entry(edit.attribute)
            .and_modify(|value| *value = edit.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_true_at_a_distance_is_absent() {
        let mut attributes: BTreeMap<i32, i32> = (1..=200).map(|number| (number, 7)).collect();
        attributes.remove(&147);
        edit(&mut attributes, true);
        for absent in [88, 89, 101, 116, 128] {
            assert_eq!(attributes[&absent], 0, "attribute {absent}");
        }
        assert_eq!(attributes[&134], -1);
        assert_eq!(
            attributes[&16], 7,
            "the multiprocessor count is the device's own"
        );
        assert_eq!(attributes[&95], 7, "cooperative launches are served");
        assert_eq!(attributes[&115], 1, "pools are the client's own");
        assert_eq!(attributes[&119], 1, "and shared by descriptors");
        assert_eq!(attributes[&102], 7, "virtual memory is served");
        assert_eq!(attributes[&132], 7, "so are multicast objects");
        edit(&mut attributes, false);
        assert_eq!(
            attributes[&132], 0,
            "unless the driver has no functions for them"
        );
        for served in [19, 83, 125, 127] {
            assert_eq!(
                attributes[&served], 7,
                "mapped and managed memory, shared events, tensor maps are served"
            );
        }
        for served in [92, 93, 94, 122, 123] {
            assert_eq!(
                attributes[&served], 7,
                "stream memory operations are served"
            );
        }
        assert_eq!(attributes.get(&147), None, "unknown to the driver");
        assert_eq!(attributes.get(&149), None, "newer than the table");
    }
}
