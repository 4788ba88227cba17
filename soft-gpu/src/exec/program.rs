//! A kernel decoded for execution.

use crate::ptx;

use super::op::{Op, OperandList, Row};
use super::path::Path;
use super::{DecodeError, decode};

/// What a kernel needs, as `cuFuncGetAttribute` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramAttributes {
    /// Static shared memory of a block.
    pub shared_bytes: u32,
    /// Local memory of a thread.
    pub local_bytes: u32,
    /// Registers of a thread, at most 255.
    pub registers: u32,
    /// Constant memory that the module declares.
    pub const_bytes: u32,
    /// Most threads of a block.
    pub max_threads: u32,
    /// Bytes of the parameter buffer.
    pub param_bytes: u32,
    /// Whether it can call `printf`.
    pub uses_printf: bool,
    /// Whether it can call `malloc` or `free`.
    pub uses_heap: bool,
}

/// A special register whose value does not change while a warp runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    /// `%tid`, dimension 0 to 2.
    Thread(u8),
    /// `%ntid`
    BlockSize(u8),
    /// `%ctaid`
    Block(u8),
    /// `%nctaid`
    GridSize(u8),
    LaneId,
    WarpId,
    WarpCount,
    MaskEqual,
    MaskLessEqual,
    MaskLess,
    MaskGreaterEqual,
    MaskGreater,
    DynamicSharedBytes,
    TotalSharedBytes,
    GridId,
    /// `%smid`
    Multiprocessor,
    /// `%nsmid`
    MultiprocessorCount,
    /// `%clusterid`, dimension 0 to 2.
    Cluster(u8),
    /// `%nclusterid`
    ClusterGridSize(u8),
    /// `%cluster_ctaid`
    BlockInCluster(u8),
    /// `%cluster_nctaid`
    ClusterSize(u8),
    /// `%cluster_ctarank`
    ClusterRank,
    /// `%cluster_nctarank`
    ClusterBlocks,
    /// `%is_explicit_cluster`: a predicate.
    IsExplicitCluster,
    /// `%envreg`: the first two tell where the workspace of a cooperative launch is.
    Environment(u8),
}

/// What a row holds from the start, unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fixed {
    /// The same bits in every lane.
    Constant(u64),
    Special(Special),
    /// Bytes of the kernel's parameter buffer, zero-extended or sign-extended.
    Param {
        offset: u32,
        bytes: u8,
        signed: bool,
    },
    /// The address of a byte of the parameter buffer; in 32 bits, its place there.
    ParamAddress(u32),
    /// An offset in local memory, from the start of the frame's part.
    Local(u32),
    /// The end of the frame's part of local memory; [`Fixed::Local`] once the function is decoded.
    LocalEnd,
    /// The value of an opaque variable, which the launch says: one of [`Code::references`].
    Reference(u32),
    /// The offset of dynamic shared memory; a constant once all functions are decoded.
    DynamicShared,
}

/// A row with fixed contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedRow {
    pub(crate) row: Row,
    pub(crate) wide: bool,
    pub(crate) value: Fixed,
}

/// A function's place in the code and its frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Function {
    pub(crate) entry: u32,
    pub(crate) frame_bytes: u32,
    pub(crate) local_bytes: u32,
    /// Whether it makes more local memory while it runs.
    pub(crate) has_stack: bool,
    pub(crate) fixed: Vec<FixedRow>,
    /// Where parameters and return values lie in the frame's local memory: offset and size.
    pub(crate) params: Vec<(u32, u32)>,
    pub(crate) returns: Vec<(u32, u32)>,
}

/// Whom a call means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callee {
    Function(u32),
    /// One of [`Code::pointer_targets`].
    Pointer(u32),
}

/// A call: argument and return variables of the caller as offsets in its frame's local memory.
#[derive(Clone, Debug)]
pub(crate) struct CallSite {
    pub(crate) callee: Callee,
    pub(crate) arguments: Vec<u32>,
    pub(crate) returns: Vec<u32>,
}

/// A call to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Printf,
    AssertFail,
    Malloc,
    Free,
}

/// Where a host call finds its arguments.
#[derive(Clone, Debug)]
pub(crate) struct ServiceSite {
    pub(crate) service: Service,
    pub(crate) arguments: Vec<u32>,
    pub(crate) returns: Vec<u32>,
}

/// Everything that code refers to by index.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(crate) ops: Vec<Op>,
    /// The PTX line of each operation.
    pub(crate) lines: Vec<u32>,
    /// The kernel is the first.
    pub(crate) functions: Vec<Function>,
    pub(crate) calls: Vec<CallSite>,
    /// Whom pointers can mean: addresses, ascending, and functions. Calls that can mean the same share a list.
    pub(crate) pointer_targets: Vec<Vec<(u64, u32)>>,
    pub(crate) services: Vec<ServiceSite>,
    pub(crate) targets: Vec<Vec<u32>>,
    pub(crate) lists: Vec<OperandList>,
    /// Why functions that only pointers reach are not executed.
    pub(crate) refused: Vec<String>,
    /// The module's opaque variables that are used, by name.
    pub(crate) references: Vec<String>,
    pub(crate) cache_slots: u32,
    pub(crate) static_shared: u32,
    /// Local memory of a lane, with room for calls.
    pub(crate) local_stride: u32,
    pub(crate) param_bytes: u32,
}

/// A kernel decoded for execution: immutable, and shared by all launches.
#[derive(Debug)]
pub struct Program {
    pub(crate) kernel: String,
    pub(crate) attributes: ProgramAttributes,
    pub(crate) code: Code,
}

impl Program {
    /// Decodes the kernel `kernel` of `module` with everything that it calls.
    ///
    /// `global_addresses` gives the device address of a module's variable.
    ///
    /// # Errors
    ///
    /// Names the first form that this device does not execute.
    pub fn decode(
        module: &ptx::Module,
        kernel: &str,
        global_addresses: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Program, DecodeError> {
        Program::decode_for(module, kernel, global_addresses, Path::detect())
    }

    /// [`Program::decode`] with a choice of vector instructions, for tests.
    ///
    /// # Errors
    ///
    /// As `decode`. A path that the machine lacks is an error too.
    pub fn decode_for(
        module: &ptx::Module,
        kernel: &str,
        global_addresses: &dyn Fn(&str) -> Option<u64>,
        path: Path,
    ) -> Result<Program, DecodeError> {
        if !Path::available().contains(&path) {
            let message = format!("this machine has no {path:?}");
            return Err(DecodeError {
                kernel: kernel.to_owned(),
                line: 0,
                message,
            });
        }
        decode::decode(module, kernel, global_addresses, path)
    }

    /// What it needs.
    pub fn attributes(&self) -> ProgramAttributes {
        self.attributes
    }

    /// The module's opaque variables that it uses; [`Launch::references`](super::Launch) has their values in this order.
    pub fn references(&self) -> &[String] {
        &self.code.references
    }

    /// Its name.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }
}
