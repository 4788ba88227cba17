//! Core dumps of a GPU: what a program sets of them, whom it wants told, and the file that it finds.
//!
//! *What:* the settings of the application and of each context ([`Settings`]), how they cross the C ABI ([`value`]), the program's functions
//! ([`StatusCallbacks`]), and the writing of the file ([`DumpFile`]). Both the client and the software GPU answer the program by these, so that a program finds the same with and without a
//! distance. *Rules:* what the environment said when the driver began stays, whatever a program sets; a pipe that triggers a dump is offered by neither, and both
//! say so.

mod callbacks;
mod file;
mod settings;
pub mod value;

pub use callbacks::{Moment, StatusCallbacks, StatusFunction, is_inside};
pub use file::{DumpFile, HEADER_BYTES, is_complete};
pub use settings::{Setting, Settings, VARIABLES};
pub use value::Value;

/// What a dump leaves out, and what comes after it: `CU_COREDUMP_…`.
pub mod flags {
    /// No images of modules that are not relocated.
    pub const SKIP_NONRELOCATED_ELF_IMAGES: u32 = 1 << 0;
    /// No global memory.
    pub const SKIP_GLOBAL_MEMORY: u32 = 1 << 1;
    /// No shared memory.
    pub const SKIP_SHARED_MEMORY: u32 = 1 << 2;
    /// No local memory.
    pub const SKIP_LOCAL_MEMORY: u32 = 1 << 3;
    /// The process lives on.
    pub const SKIP_ABORT: u32 = 1 << 4;
    /// No constant banks.
    pub const SKIP_CONSTBANK_MEMORY: u32 = 1 << 5;
    /// The file is compressed.
    pub const GZIP_COMPRESS: u32 = 1 << 6;
    /// Only contexts that have faulted.
    pub const FAULTED_CONTEXTS_ONLY: u32 = 1 << 7;
    /// No tensor memory.
    pub const SKIP_TENSOR_MEMORY: u32 = 1 << 8;
    /// Faulted warps may exit.
    pub const NO_ERRBAR_AT_EXIT: u32 = 1 << 30;
    /// No file.
    pub const LOG_ONLY: u32 = 1 << 31;
    /// What a lightweight dump leaves out.
    pub const LIGHTWEIGHT: u32 = SKIP_NONRELOCATED_ELF_IMAGES
        | SKIP_GLOBAL_MEMORY
        | SKIP_SHARED_MEMORY
        | SKIP_LOCAL_MEMORY
        | SKIP_CONSTBANK_MEMORY
        | SKIP_TENSOR_MEMORY;
    /// All that there are.
    pub const ALL: u32 = LIGHTWEIGHT
        | SKIP_ABORT
        | GZIP_COMPRESS
        | FAULTED_CONTEXTS_ONLY
        | NO_ERRBAR_AT_EXIT
        | LOG_ONLY;
}

/// How a context's dump stands on a server.
pub mod state {
    /// The driver has begun none.
    pub const NONE: u32 = 0;
    /// It is being written.
    pub const GROWING: u32 = 1;
    /// It can be read.
    pub const COMPLETE: u32 = 2;
    /// It became larger than the server allows, and is gone.
    pub const TOO_LARGE: u32 = 3;
}

/// `CU_CTX_COREDUMP_ENABLE`: a context's flag.
pub const CONTEXT_ENABLE: u32 = 0x20;
/// `CU_CTX_USER_COREDUMP_ENABLE`: a context's flag.
pub const CONTEXT_USER_ENABLE: u32 = 0x40;

/// Why no pipe triggers a dump.
pub const NO_USER_TRIGGER: &str = "core dumps that are triggered through a pipe (CU_COREDUMP_ENABLE_USER_TRIGGER) are not supported, only those of exceptions";
