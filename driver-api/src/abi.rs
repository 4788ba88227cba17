//! The driver's own types, as they cross the C ABI.
//!
//! Handles are transparent integers of pointer size: nothing here can be dereferenced, and a handle of one kind is never
//! taken for another. C enums are plain integers ([`c_uint`]), since an unknown value in a Rust enum would be undefined behaviour.
//! Structures that no served function reads are opaque: they exist so that signatures can name them.
//! `driver-api/tests/layouts.rs` compares sizes and offsets with cudarc's bindings.
#![expect(non_camel_case_types, reason = "these are the driver's names")]

use core::ffi::{c_int, c_uint, c_ulonglong, c_void};

pub use crate::checkpoint::{
    CUcheckpointCheckpointArgs, CUcheckpointGpuPair, CUcheckpointLockArgs, CUcheckpointRestoreArgs,
    CUcheckpointUnlockArgs,
};
pub use crate::copy_layout::{CUDA_MEMCPY3D_BATCH_OP, CUDA_MEMCPY3D_PEER, CUmemcpyAttributes};
pub use crate::result::CUresult;

macro_rules! handles {
    ($($name:ident)*) => {$(
        #[doc = concat!("The driver's handle type `", stringify!($name), "`; 0 is none.")]
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub usize);
    )*};
}

macro_rules! enums {
    ($($name:ident)*) => {$(
        #[doc = concat!("The C enum `", stringify!($name), "`, as the integer that it is.")]
        pub type $name = c_uint;
    )*};
}

macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[doc = concat!("The structure `", stringify!($name), "`, which is only ever pointed to.")]
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            _private: [u8; 0],
        }
    )*};
}

handles! {
    CUarray CUasyncCallbackHandle CUcheckpointOperationHandle CUcontext CUcoredumpCallbackHandle CUdevResourceDesc CUevent CUexternalMemory CUexternalSemaphore CUfunction CUgraph CUgraphExec CUgraphNode CUgraphicsResource CUgreenCtx CUkernel CUlibrary CUlinkState CUlogsCallbackHandle CUmemoryPool CUmipmappedArray CUmodule CUstream CUsurfref CUtexref CUuserObject
}

enums! {
    CUaddress_mode CUarray_format CUatomicOperation CUcoredumpSettings CUdevice_P2PAttribute CUdevice_attribute CUdriverProcAddressQueryResult CUexecAffinityType CUfilter_mode CUflushGPUDirectRDMAWritesScope CUflushGPUDirectRDMAWritesTarget CUfunc_cache CUfunctionLoadingState CUfunction_attribute CUgraphExecUpdateResult CUgraphMem_attribute CUgraphNodeType CUjitInputType CUjit_option CUlibraryOption CUlimit CUlogicalEndpointIpcHandleType CUmemAccess_flags CUmemAllocationGranularity_flags CUmemAllocationHandleType CUmemAllocationType CUmemPool_attribute CUmemRangeHandleType CUmem_advise CUmem_range_attribute CUmoduleLoadingMode CUmulticastGranularity_flags CUpointer_attribute CUprocessState CUsharedconfig CUstreamCaptureMode CUstreamCaptureStatus CUtensorMapAllocClass CUtensorMapDataType CUtensorMapFloatOOBfill CUtensorMapIm2ColWideMode CUtensorMapInterleave CUtensorMapL2promotion CUtensorMapSwizzle CUkernelNodeAttrID CUstreamAttrID CUdevResourceType CUoutput_mode
}

opaque! {
    CUDA_ARRAY3D_DESCRIPTOR_v1 CUDA_ARRAY_DESCRIPTOR_v1 CUDA_ARRAY_MEMORY_REQUIREMENTS CUDA_ARRAY_SPARSE_PROPERTIES CUDA_BATCH_MEM_OP_NODE_PARAMS CUDA_EXTERNAL_MEMORY_BUFFER_DESC CUDA_EXTERNAL_MEMORY_HANDLE_DESC CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1 CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1 CUDA_FABRIC_COPY_BATCH_OP CUDA_GRAPH_INSTANTIATE_PARAMS CUDA_HOST_NODE_PARAMS_v1 CUDA_KERNEL_NODE_PARAMS CUDA_KERNEL_NODE_PARAMS_v1 CUDA_LAUNCH_PARAMS CUDA_MEMCPY2D_v1 CUDA_MEMCPY3D_v1 CUDA_MEMSET_NODE_PARAMS_v1 CUDA_MEM_ALLOC_NODE_PARAMS CUGLDeviceList CUarrayMapInfo CUcliqueInfo CUctxCreateParams CUeglFrame CUeglStreamConnection CUgraphEdgeData CUgraphExecUpdateResultInfo CUgraphNodeParams CUkernelNodeAttrValue CUlogicalEndpointProp CUmemDecompressParams CUmemPoolPtrExportData CUstreamCigCaptureParams CUtensorMap
}

/// A device's ordinal.
pub type CUdevice = c_int;
/// An address in device memory.
pub type CUdeviceptr = u64;
/// An address of the 32-bit interface that CUDA 3.2 replaced.
pub type CUdeviceptr_v1 = c_uint;
/// A handle of physical memory made by `cuMemCreate`.
pub type CUmemGenericAllocationHandle = u64;
/// A texture object.
pub type CUtexObject = u64;
/// A surface object.
pub type CUsurfObject = u64;
/// A conditional handle of a graph.
pub type CUgraphConditionalHandle = u64;
/// A position in the driver's log.
pub type CUlogIterator = c_uint;
/// A logical endpoint.
pub type CUlogicalEndpointId = u32;
/// A callback of the program, called by the driver.
pub type CUhostFn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;
/// A callback of the program at a place in a stream.
pub type CUstreamCallback =
    Option<unsafe extern "C" fn(stream: CUstream, status: CUresult, user_data: *mut c_void)>;
/// The dynamic shared memory that a block of a size needs.
pub type CUoccupancyB2DSize = Option<unsafe extern "C" fn(block_size: c_int) -> usize>;
/// A callback that no served function calls.
pub type CUasyncCallback = *mut c_void;
/// A callback of the program at the beginning or the end of a core dump.
pub type CUcoredumpStatusCallback = Option<crate::coredump::StatusFunction>;
/// A callback that no served function calls.
pub type CUgraphRecaptureCallback = *mut c_void;
/// A callback of the program for each line of the driver's log.
pub type CUlogsCallback = Option<crate::log_callbacks::LogFunction>;
/// A GPU as the window system of Windows names it.
pub type HGPUNV = *mut c_void;
/// VDPAU's function that finds functions.
pub type VdpGetProcAddress = *mut c_void;

/// 16 bytes that name a device, or a private table of the driver.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CUuuid {
    /// The bytes in the order in which they are written.
    pub bytes: [u8; 16],
}

/// Where memory is: a device, the host, a NUMA node of it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUmemLocation {
    /// `CU_MEM_LOCATION_TYPE_*`: 1 is a device.
    pub kind: c_uint,
    /// The device's ordinal, or the node's number.
    pub id: c_int,
}

/// What memory `cuMemCreate` is to make.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUmemAllocationProp {
    /// `CU_MEM_ALLOCATION_TYPE_*`: 1 is pinned.
    pub kind: CUmemAllocationType,
    /// The kinds of handle that may be exported, as bits.
    pub requested_handle_types: CUmemAllocationHandleType,
    /// Where the memory is to be.
    pub location: CUmemLocation,
    /// Security attributes of another operating system.
    pub win32_handle_meta_data: usize,
    /// Compression wanted: 1 is generic.
    pub compression_type: u8,
    /// 1 if an RDMA device will access the memory.
    pub gpu_direct_rdma_capable: u8,
    /// What the memory is for, as bits.
    pub usage: u16,
    /// Zero.
    pub reserved: [u8; 4],
}

/// What multicast object `cuMulticastCreate` is to make.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUmulticastObjectProp {
    /// How many devices will be in the team.
    pub num_devices: c_uint,
    /// The most bytes that are bound for each of them.
    pub size: usize,
    /// The kinds of handle that may be exported, as bits.
    pub handle_types: c_ulonglong,
    /// Zero.
    pub flags: c_ulonglong,
}

/// Who may access mapped memory, and how.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUmemAccessDesc {
    /// The device that accesses it.
    pub location: CUmemLocation,
    /// 0 none, 1 read, 3 read and write.
    pub flags: CUmemAccess_flags,
}

/// What a memory pool is to be.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemPoolProps {
    /// `CU_MEM_ALLOCATION_TYPE_*`: 1 is pinned.
    pub kind: CUmemAllocationType,
    /// The kinds of handle that may be exported, as bits.
    pub handle_types: CUmemAllocationHandleType,
    /// Where its memory is to be.
    pub location: CUmemLocation,
    /// Security attributes of another operating system.
    pub win32_security_attributes: usize,
    /// The most bytes that it may have; 0 leaves that to the system.
    pub max_size: usize,
    /// What the memory is for, as bits.
    pub usage: u16,
    /// Zero.
    pub reserved: [u8; 54],
}

const _: () = assert!(size_of::<CUmemPoolProps>() == 88);

/// A handle by which another process opens an allocation.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CUipcMemHandle {
    /// Opaque bytes.
    pub reserved: [u8; 64],
}

/// A handle by which another process opens an event.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CUipcEventHandle {
    /// Opaque bytes.
    pub reserved: [u8; 64],
}

/// One attribute of a launch: an id and a value of 64 bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct CUlaunchAttribute {
    /// `CU_LAUNCH_ATTRIBUTE_*`.
    pub id: c_uint,
    /// Zero.
    pub pad: [u8; 4],
    /// The value, whose form the id tells.
    pub value: [u8; 64],
}

/// The value of an attribute of a stream, whose form the attribute tells.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUstreamAttrValue {
    /// A union of 64 bytes.
    pub words: [u64; 8],
}

/// A resource of a device, such as some of its multiprocessors.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CUdevResource {
    /// `CU_DEV_RESOURCE_TYPE_*`; 0 is none.
    pub kind: CUdevResourceType,
    /// The driver's own.
    pub private: [u8; 92],
    /// A union: of multiprocessors their count, the smallest part, the alignment, flags and the domain.
    pub words: [u32; 10],
    /// Another resource, of the driver's.
    pub next: usize,
}

const _: () = assert!(size_of::<CUdevResource>() == 144);

impl Default for CUdevResource {
    fn default() -> Self {
        Self {
            kind: 0,
            private: [0; 92],
            words: [0; 10],
            next: 0,
        }
    }
}

/// What a group of a split shall be.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CU_DEV_SM_RESOURCE_GROUP_PARAMS {
    /// Multiprocessors; 0 asks how many there can be.
    pub sm_count: c_uint,
    /// How many of them are scheduled together.
    pub coscheduled_sm_count: c_uint,
    /// How many would be.
    pub preferred_coscheduled_sm_count: c_uint,
    /// `CU_DEV_SM_RESOURCE_GROUP_*`.
    pub flags: c_uint,
    /// A domain, and zeros.
    pub rest: [c_uint; 12],
}

/// A limit of what a context uses of its device.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUexecAffinityParam {
    /// 0 multiprocessors.
    pub kind: CUexecAffinityType,
    /// How many.
    pub count: c_uint,
}

/// What `cuLaunchKernelEx` launches with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUlaunchConfig {
    /// Blocks in x.
    pub grid_dim_x: c_uint,
    /// Blocks in y.
    pub grid_dim_y: c_uint,
    /// Blocks in z.
    pub grid_dim_z: c_uint,
    /// Threads of a block in x.
    pub block_dim_x: c_uint,
    /// Threads of a block in y.
    pub block_dim_y: c_uint,
    /// Threads of a block in z.
    pub block_dim_z: c_uint,
    /// Dynamic shared memory of a block, bytes.
    pub shared_mem_bytes: c_uint,
    /// The stream to launch in.
    pub stream: CUstream,
    /// `num_attrs` attributes; may be null if there are none.
    pub attrs: *mut CUlaunchAttribute,
    /// How many attributes there are.
    pub num_attrs: c_uint,
}

/// A copy between two rectangles.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUDA_MEMCPY2D {
    /// Bytes from the left of the source.
    pub src_x_in_bytes: usize,
    /// Rows from the top of the source.
    pub src_y: usize,
    /// `CU_MEMORYTYPE_*`: 1 host, 2 device, 3 array, 4 unified.
    pub src_memory_type: c_uint,
    /// The source, if in host memory.
    pub src_host: *const c_void,
    /// The source, if in device memory.
    pub src_device: CUdeviceptr,
    /// The source, if an array.
    pub src_array: CUarray,
    /// Bytes from one row of the source to the next; 0 for rows without gaps.
    pub src_pitch: usize,
    /// Bytes from the left of the destination.
    pub dst_x_in_bytes: usize,
    /// Rows from the top of the destination.
    pub dst_y: usize,
    /// As for the source.
    pub dst_memory_type: c_uint,
    /// The destination, if in host memory.
    pub dst_host: *mut c_void,
    /// The destination, if in device memory.
    pub dst_device: CUdeviceptr,
    /// The destination, if an array.
    pub dst_array: CUarray,
    /// Bytes from one row of the destination to the next; 0 for rows without gaps.
    pub dst_pitch: usize,
    /// Bytes of a row to copy.
    pub width_in_bytes: usize,
    /// Rows to copy.
    pub height: usize,
}

/// A copy between two boxes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUDA_MEMCPY3D {
    /// Bytes from the left of the source.
    pub src_x_in_bytes: usize,
    /// Rows from the top of the source.
    pub src_y: usize,
    /// Slices from the front of the source.
    pub src_z: usize,
    /// Mipmap level of the source.
    pub src_lod: usize,
    /// `CU_MEMORYTYPE_*`: 1 host, 2 device, 3 array, 4 unified.
    pub src_memory_type: c_uint,
    /// The source, if in host memory.
    pub src_host: *const c_void,
    /// The source, if in device memory.
    pub src_device: CUdeviceptr,
    /// The source, if an array.
    pub src_array: CUarray,
    /// Must be null.
    pub reserved0: *mut c_void,
    /// Bytes from one row of the source to the next.
    pub src_pitch: usize,
    /// Rows of a slice of the source.
    pub src_height: usize,
    /// Bytes from the left of the destination.
    pub dst_x_in_bytes: usize,
    /// Rows from the top of the destination.
    pub dst_y: usize,
    /// Slices from the front of the destination.
    pub dst_z: usize,
    /// Mipmap level of the destination.
    pub dst_lod: usize,
    /// As for the source.
    pub dst_memory_type: c_uint,
    /// The destination, if in host memory.
    pub dst_host: *mut c_void,
    /// The destination, if in device memory.
    pub dst_device: CUdeviceptr,
    /// The destination, if an array.
    pub dst_array: CUarray,
    /// Must be null.
    pub reserved1: *mut c_void,
    /// Bytes from one row of the destination to the next.
    pub dst_pitch: usize,
    /// Rows of a slice of the destination.
    pub dst_height: usize,
    /// Bytes of a row to copy.
    pub width_in_bytes: usize,
    /// Rows to copy.
    pub height: usize,
    /// Slices to copy.
    pub depth: usize,
}

/// The properties of a device that the first versions of the driver told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUdevprop {
    /// Most threads of a block.
    pub max_threads_per_block: c_int,
    /// Most threads of a block in each dimension.
    pub max_threads_dim: [c_int; 3],
    /// Most blocks of a grid in each dimension.
    pub max_grid_size: [c_int; 3],
    /// Shared memory of a block, bytes.
    pub shared_mem_per_block: c_int,
    /// Constant memory, bytes.
    pub total_constant_memory: c_int,
    /// Threads of a warp.
    pub simd_width: c_int,
    /// Largest pitch of a copy, bytes.
    pub mem_pitch: c_int,
    /// 32-bit registers of a block.
    pub regs_per_block: c_int,
    /// Clock, kHz.
    pub clock_rate: c_int,
    /// Alignment of textures, bytes.
    pub texture_align: c_int,
}

/// One memory operation of `cuStreamBatchMemOp`: 48 bytes whose form the first word tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUstreamBatchMemOpParams {
    /// The operation (1 wait 32, 2 write 32, 4 wait 64, 5 write 64) in the low half, then its arguments.
    pub words: [u64; 6],
}

/// An array in one or two dimensions.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUDA_ARRAY_DESCRIPTOR {
    /// Elements of a row.
    pub width: usize,
    /// Rows; 0 for an array of one dimension.
    pub height: usize,
    /// `CU_AD_FORMAT_*`.
    pub format: CUarray_format,
    /// Channels of an element: 1, 2 or 4.
    pub num_channels: c_uint,
}

/// An array in up to three dimensions.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUDA_ARRAY3D_DESCRIPTOR {
    /// Elements of a row.
    pub width: usize,
    /// Rows; 0 for an array of one dimension.
    pub height: usize,
    /// Slices or layers; 0 where there are none.
    pub depth: usize,
    /// `CU_AD_FORMAT_*`.
    pub format: CUarray_format,
    /// Channels of an element: 1, 2 or 4.
    pub num_channels: c_uint,
    /// `CUDA_ARRAY3D_*`.
    pub flags: c_uint,
}

/// What a texture or surface object reads.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUDA_RESOURCE_DESC {
    /// `CU_RESOURCE_TYPE_*`: 0 array, 1 mipmapped array, 2 linear, 3 rows with a pitch.
    pub kind: c_uint,
    /// A union: the array; or address, format and channels, then bytes, or width, height and pitch.
    pub words: [u64; 16],
    /// Must be zero.
    pub flags: c_uint,
}

/// How a texture object reads.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct CUDA_TEXTURE_DESC {
    /// Of each dimension: 0 wrap, 1 clamp, 2 mirror, 3 border.
    pub address_mode: [CUaddress_mode; 3],
    /// 0 point, 1 linear.
    pub filter_mode: CUfilter_mode,
    /// `CU_TRSF_*`: 1 integers are read as integers, 2 normalised coordinates, 16 sRGB.
    pub flags: c_uint,
    /// Most samples of an anisotropic filter.
    pub max_anisotropy: c_uint,
    /// Between levels: 0 point, 1 linear.
    pub mipmap_filter_mode: CUfilter_mode,
    /// Added to the level.
    pub mipmap_level_bias: f32,
    /// The lowest level.
    pub min_mipmap_level_clamp: f32,
    /// The highest level.
    pub max_mipmap_level_clamp: f32,
    /// What lies outside, with address mode 3.
    pub border_color: [f32; 4],
    /// Must be zero.
    pub reserved: [c_int; 12],
}

/// Another format, or a part, in which a texture object reads an array.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CUDA_RESOURCE_VIEW_DESC {
    /// `CU_RES_VIEW_FORMAT_*`; 0 is none.
    pub format: c_uint,
    /// Elements of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Slices.
    pub depth: usize,
    /// The first level.
    pub first_mipmap_level: c_uint,
    /// The last level.
    pub last_mipmap_level: c_uint,
    /// The first layer.
    pub first_layer: c_uint,
    /// The last layer.
    pub last_layer: c_uint,
    /// Must be zero.
    pub reserved: [c_uint; 16],
}
