//! The row table: what the specification says of each function, at run time.
//!
//! Generated from `driver-api/spec` by `driver-api/generator`; this module has the types and the searches.

/// One function of the driver, or one private row of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The driver's own name.
    pub name: &'static str,
    /// The area: the same word names a file in the shim, the worker and the software GPU.
    pub area: &'static str,
    /// The number on the wire.
    pub number: u16,
    /// True if the row exists on the wire alone.
    pub private: bool,
    /// How a client answers it.
    pub disposition: Disposition,
    /// Whether the driver may block in it.
    pub blocks: Blocks,
    /// The driver version it exists from, such as 12040 for 12.4.
    pub since: u32,
}

/// How a client answers a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Without the server.
    Local,
    /// Sent without waiting for a reply.
    Posted,
    /// Sent, and the reply is waited for.
    Asked,
    /// Not served, for this reason.
    Refused(&'static str),
}

/// Whether the driver may block in a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocks {
    /// It returns at once.
    Never,
    /// As long as the device takes to make room.
    Device,
    /// As long as other work takes, without bound.
    Unbounded,
}

/// One version of a function, as `cuGetProcAddress` finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Procedure {
    /// The name without `_v2`.
    pub name: &'static str,
    /// The version it exists from.
    pub since: u32,
    /// The version from which its per-thread twin exists.
    pub twin_since: Option<u32>,
    /// Its place in the row table.
    pub row: usize,
}

/// The address of an exported function and of its per-thread twin.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    base: *const (),
    twin: *const (),
}

// SAFETY: the addresses of functions, which are never written and live as long as the library.
#[expect(unsafe_code, reason = "function addresses in a static table")]
unsafe impl Sync for Export {}

impl Export {
    /// A row without an export has none.
    pub const NONE: Self = Self {
        base: core::ptr::null(),
        twin: core::ptr::null(),
    };

    /// A function without a twin.
    #[must_use]
    pub const fn new(base: *const ()) -> Self {
        Self {
            base,
            twin: core::ptr::null(),
        }
    }

    /// A function and its per-thread twin.
    #[must_use]
    pub const fn with_twin(base: *const (), twin: *const ()) -> Self {
        Self { base, twin }
    }

    /// The address of the twin if there is one and it is wanted, else of the function.
    #[must_use]
    pub fn address(&self, per_thread: bool) -> *const () {
        if per_thread && !self.twin.is_null() {
            self.twin
        } else {
            self.base
        }
    }
}
