//! The driver's structures that describe nodes.

use core::ffi::{c_uint, c_void};

use driver_api::abi::{
    CUDA_MEMCPY3D, CUcontext, CUdeviceptr, CUfunction, CUgraphNode, CUhostFn, CUstream,
    CUstreamBatchMemOpParams,
};

/// `CUDA_KERNEL_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct KernelParameters {
    pub(super) function: CUfunction,
    pub(super) grid: [c_uint; 3],
    pub(super) block: [c_uint; 3],
    pub(super) shared_bytes: c_uint,
    pub(super) kernel_params: *mut *mut c_void,
    pub(super) extra: *mut *mut c_void,
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`, and `_v3`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct KernelParametersInContext {
    pub(super) plain: KernelParameters,
    /// Instead of a function, which is null then.
    pub(super) kernel: CUfunction,
    pub(super) context: CUcontext,
}

/// `CUDA_MEMSET_NODE_PARAMS_v1`, with which `_v2` begins.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FillParameters {
    pub(super) destination: CUdeviceptr,
    pub(super) pitch: usize,
    pub(super) value: c_uint,
    pub(super) element_size: c_uint,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// `CUDA_HOST_NODE_PARAMS_v1`, with which `_v2` begins.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct HostParameters {
    pub(super) function: CUhostFn,
    pub(super) user_data: *mut c_void,
}

/// `CUDA_MEMCPY_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CopyParameters {
    pub(super) flags: c_uint,
    pub(super) reserved: c_uint,
    pub(super) context: CUcontext,
    pub(super) copy: CUDA_MEMCPY3D,
}

/// `CUDA_BATCH_MEM_OP_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct MemoryParameters {
    pub(super) context: CUcontext,
    pub(super) count: c_uint,
    pub(super) operations: *mut CUstreamBatchMemOpParams,
    pub(super) flags: c_uint,
}

/// What a node of any kind is: the kind, and its own structure.
#[repr(C)]
pub(super) struct AnyParameters {
    pub(super) kind: c_uint,
    pub(super) reserved: [c_uint; 3],
    /// One of the structures above, or a handle.
    pub(super) of_kind: [u64; 29],
    pub(super) last: u64,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UpdateResult {
    pub(super) result: c_uint,
    pub(super) node: CUgraphNode,
    pub(super) from_node: CUgraphNode,
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct InstantiateParameters {
    pub(super) flags: u64,
    pub(super) upload_stream: CUstream,
    pub(super) error_node: CUgraphNode,
    pub(super) result: c_uint,
}

const _: () = assert!(size_of::<KernelParameters>() == 56);
const _: () = assert!(size_of::<KernelParametersInContext>() == 72);
const _: () = assert!(size_of::<FillParameters>() == 40);
const _: () = assert!(size_of::<CopyParameters>() == 216);
const _: () = assert!(size_of::<AnyParameters>() == 256);
const _: () = assert!(size_of::<MemoryParameters>() == 32);
