//! A kernel decoded for execution.

use crate::ptx;

use super::DecodeError;

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
}

/// A kernel decoded for execution: immutable, and shared by all launches.
#[derive(Debug)]
pub struct Program {
    kernel: String,
    attributes: ProgramAttributes,
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
        let _ = (module, global_addresses);
        Err(DecodeError {
            kernel: kernel.to_owned(),
            line: 0,
            message: "not decoded yet".into(),
        })
    }

    /// What it needs.
    pub fn attributes(&self) -> ProgramAttributes {
        self.attributes
    }

    /// Its name.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }
}
