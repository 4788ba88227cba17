//! The driver's structures that describe nodes of graphs, as programs lay them out.

use core::ffi::{c_int, c_uint, c_void};

use crate::abi::{
    CUDA_MEMCPY3D, CUcontext, CUdeviceptr, CUfunction, CUgraph, CUgraphConditionalHandle,
    CUgraphNode, CUgraphNodeParams, CUhostFn, CUmemAccessDesc, CUstream, CUstreamBatchMemOpParams,
};

/// `CUDA_KERNEL_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelParameters {
    /// What is called.
    pub function: CUfunction,
    /// Blocks in each direction.
    pub grid: [c_uint; 3],
    /// Threads of a block in each direction.
    pub block: [c_uint; 3],
    /// Dynamic shared memory.
    pub shared_bytes: c_uint,
    /// A pointer to each parameter, or null.
    pub kernel_params: *mut *mut c_void,
    /// The parameters as a buffer, or null.
    pub extra: *mut *mut c_void,
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`, and `_v3`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelParametersInContext {
    /// The structure of the first version.
    pub plain: KernelParameters,
    /// Instead of a function, which is null then.
    pub kernel: CUfunction,
    /// The context, or null for the current one.
    pub context: CUcontext,
}

/// `CUDA_MEMSET_NODE_PARAMS_v1`, with which `_v2` begins.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FillParameters {
    /// The first address.
    pub destination: CUdeviceptr,
    /// Bytes from a row to the next.
    pub pitch: usize,
    /// What is stored.
    pub value: c_uint,
    /// Bytes of an element.
    pub element_size: c_uint,
    /// Elements of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS_v1`, with which `_v2` begins.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostParameters {
    /// What is called.
    pub function: CUhostFn,
    /// What the function is given.
    pub user_data: *mut c_void,
}

/// `CUDA_MEMCPY_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CopyParameters {
    /// Flags.
    pub flags: c_uint,
    /// Zero.
    pub reserved: c_uint,
    /// The context, or null for the current one.
    pub context: CUcontext,
    /// The copy.
    pub copy: CUDA_MEMCPY3D,
}

/// `CUDA_BATCH_MEM_OP_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryParameters {
    /// The context, or null for the current one.
    pub context: CUcontext,
    /// How many operations.
    pub count: c_uint,
    /// The operations.
    pub operations: *mut CUstreamBatchMemOpParams,
    /// Flags.
    pub flags: c_uint,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS`, in both versions: a pool's properties first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AllocationParameters {
    /// The kind, as the driver numbers it.
    pub kind: c_uint,
    /// Handles that may be exported.
    pub handle_types: c_uint,
    /// The kind of the place.
    pub location_kind: c_uint,
    /// Its number.
    pub location_id: c_int,
    /// More properties of the pool.
    pub of_pool: [u64; 9],
    /// Descriptions of who may use it, and how many.
    pub access: [usize; 2],
    /// Bytes.
    pub size: usize,
    /// Where the memory is: the answer.
    pub address: CUdeviceptr,
}

impl AllocationParameters {
    /// Whether it is memory of a device that no other one is to reach, and no other process.
    #[must_use]
    pub fn is_only_for(&self, device: usize, access: &[CUmemAccessDesc]) -> bool {
        const DEVICE: u32 = 1;
        let is_it = |kind, id| kind == DEVICE && usize::try_from(id) == Ok(device);
        let mut places = access.iter().map(|access| access.location);
        is_it(self.location_kind, self.location_id)
            && self.handle_types == 0
            && places.all(|place| is_it(place.kind, place.id))
    }

    /// Pinned memory of a device.
    pub fn of(device: usize, size: usize, address: CUdeviceptr) -> Self {
        Self {
            kind: 1,
            handle_types: 0,
            location_kind: 1,
            location_id: device as c_int,
            of_pool: [0; 9],
            access: [0; 2],
            size,
            address,
        }
    }
}

/// `CUDA_CONDITIONAL_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ConditionalParameters {
    /// The condition.
    pub handle: CUgraphConditionalHandle,
    /// What is done with it: one of [`condition`].
    pub kind: c_uint,
    /// How many bodies there are.
    pub size: c_uint,
    /// The bodies, in an array of the driver's: the answer.
    pub bodies: *const CUgraph,
    /// The context.
    pub context: CUcontext,
}

/// `CU_GRAPH_COND_TYPE_*`, and how many bodies each has.
pub mod condition {
    use core::ffi::c_uint;

    use crate::abi::CUgraphConditionalHandle;

    /// The kind of a node that has a condition.
    pub const NODE: c_uint = 13;
    /// The default value is assigned when the graph is launched.
    pub const ASSIGN_DEFAULT: c_uint = 1;
    /// The first body if the condition is not zero, else the second, if there is one.
    pub const IF: c_uint = 0;
    /// The body for as long as the condition is not zero.
    pub const WHILE: c_uint = 1;
    /// The body whose number the condition is, if there is one.
    pub const SWITCH: c_uint = 2;
    /// Most bodies of a node: far more than a program writes by hand.
    pub const MAX_BODIES: c_uint = 4096;

    /// How pictures of graphs name a node of this kind with this condition.
    #[must_use]
    pub fn label(kind: c_uint, handle: CUgraphConditionalHandle) -> String {
        let kind = ["if", "while", "switch"].get(kind as usize);
        let kind = kind.copied().unwrap_or("conditional");
        format!("{kind}\\ncondition {handle:#x}")
    }

    /// Whether a node of this kind may have so many bodies.
    #[must_use]
    pub fn is_known(kind: c_uint, size: c_uint) -> bool {
        match kind {
            IF => matches!(size, 1 | 2),
            WHILE => size == 1,
            SWITCH => (1..=MAX_BODIES).contains(&size),
            _ => false,
        }
    }

    /// The kinds of nodes that a body may have: kernels, copies, fills, graphs of those, empty ones, and others with conditions.
    #[must_use]
    pub fn is_of_body(kind: c_uint) -> bool {
        matches!(kind, 0 | 1 | 2 | 4 | 5 | NODE)
    }
}

/// What a node of any kind is: the kind, and its own structure.
#[repr(C)]
pub struct AnyParameters {
    /// The kind, as the driver numbers it.
    pub kind: c_uint,
    /// Zero.
    pub reserved: [c_uint; 3],
    /// One of the structures above, or a handle.
    pub of_kind: [u64; 29],
    /// Zero.
    pub last: u64,
}

impl AnyParameters {
    /// The structure of this kind, all zero.
    #[must_use]
    pub const fn new(kind: c_uint) -> Self {
        Self {
            kind,
            reserved: [0; 3],
            of_kind: [0; 29],
            last: 0,
        }
    }

    /// A node's condition and its bodies.
    #[must_use]
    #[expect(unsafe_code, reason = "a structure in the place of any")]
    pub fn of_condition(conditional: ConditionalParameters) -> Self {
        let mut any = Self::new(condition::NODE);
        let place = any.of_kind.as_mut_ptr().cast::<ConditionalParameters>();
        // SAFETY: the place is as aligned as the structure and longer.
        unsafe { place.write(conditional) };
        any
    }

    /// What a node with a condition is.
    #[must_use]
    #[expect(unsafe_code, reason = "a structure in the place of any")]
    pub fn conditional(&self) -> ConditionalParameters {
        let place = self.of_kind.as_ptr().cast::<ConditionalParameters>();
        // SAFETY: as above; it has only numbers, addresses and handles, for which any bytes are valid.
        unsafe { place.read() }
    }

    /// Where a description of a node that a program has passed has what is of its kind; nothing is read.
    #[must_use]
    pub const fn place_of_kind(described: *const CUgraphNodeParams) -> *const u8 {
        described
            .cast::<u8>()
            .wrapping_add(core::mem::offset_of!(Self, of_kind))
    }

    /// The function and the context that a kernel's node names, if it is one and names both.
    #[must_use]
    #[expect(unsafe_code, reason = "a structure in the place of any")]
    pub fn function_in_context(&self) -> Option<(CUfunction, CUcontext)> {
        const KERNEL: c_uint = 0;
        let place = self.of_kind.as_ptr().cast::<KernelParametersInContext>();
        // SAFETY: the place is as aligned as the structure and longer; it has only numbers, addresses and handles, for which any bytes are valid.
        let kernel = unsafe { place.read() };
        let named = (kernel.plain.function, kernel.context);
        (self.kind == KERNEL && named.0.0 != 0 && named.1.0 != 0).then_some(named)
    }
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UpdateResult {
    /// The outcome.
    pub result: c_uint,
    /// The node that it is about.
    pub node: CUgraphNode,
    /// The node that depends on it, or null.
    pub from_node: CUgraphNode,
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InstantiateParameters {
    /// Flags.
    pub flags: u64,
    /// Where the graph is sent.
    pub upload_stream: CUstream,
    /// The node that failed.
    pub error_node: CUgraphNode,
    /// The outcome.
    pub result: c_uint,
}

const _: () = assert!(size_of::<KernelParameters>() == 56);
const _: () = assert!(size_of::<KernelParametersInContext>() == 72);
const _: () = assert!(size_of::<FillParameters>() == 40);
const _: () = assert!(size_of::<CopyParameters>() == 216);
const _: () = assert!(size_of::<AnyParameters>() == 256);
const _: () = assert!(size_of::<MemoryParameters>() == 32);
const _: () = assert!(size_of::<ConditionalParameters>() == 32);
const _: () = assert!(size_of::<AllocationParameters>() == 120);
