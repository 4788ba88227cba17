//! Attributes of streams: which there are, and what is done with them on the wire.

/// `CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW`.
pub const ACCESS_POLICY_WINDOW: u32 = 1;
/// `CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY`.
pub const SYNCHRONIZATION_POLICY: u32 = 3;
/// `CU_LAUNCH_ATTRIBUTE_PRIORITY`.
pub const PRIORITY: u32 = 8;
/// `CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP`.
pub const MEM_SYNC_DOMAIN_MAP: u32 = 9;
/// `CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN`.
pub const MEM_SYNC_DOMAIN: u32 = 10;
/// `CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING`.
pub const NVLINK_UTIL_CENTRIC_SCHEDULING: u32 = 16;

/// What CUDA's header says is valid for streams. None of them holds a handle.
pub const OF_STREAMS: [u32; 6] = [
    ACCESS_POLICY_WINDOW,
    SYNCHRONIZATION_POLICY,
    PRIORITY,
    MEM_SYNC_DOMAIN_MAP,
    MEM_SYNC_DOMAIN,
    NVLINK_UTIL_CENTRIC_SCHEDULING,
];

/// `gpurunStreamAttribute`: tells an attribute.
pub const GET: u32 = 0;
/// `gpurunStreamAttribute`: sets one.
pub const SET: u32 = 1;
/// `gpurunStreamAttribute`: copies all of another stream.
pub const COPY: u32 = 2;
