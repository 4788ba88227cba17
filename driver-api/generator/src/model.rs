//! The specification as data: the vocabulary of a row.

use syn::Type;

/// All rows, in the order of the files (by name) and of the rows in them.
#[derive(Debug)]
pub struct Specification {
    /// The rows.
    pub rows: Vec<Row>,
}

/// One function.
#[derive(Debug)]
pub struct Row {
    /// The driver's own name, or a `gpurun…` name of a private row.
    pub name: String,
    /// The file that it stands in, without `.rs`.
    pub area: String,
    /// What the file says above the row.
    pub documentation: Vec<String>,
    /// The number on the wire; never reused.
    pub number: u16,
    /// True if the row exists on the wire alone.
    pub private: bool,
    /// True if the driver has the function on other platforms only: neither exported nor found here.
    pub elsewhere: bool,
    /// True if the driver exports the function, but `cuGetProcAddress` does not find it.
    pub unlisted: bool,
    /// How the client answers it.
    pub disposition: Disposition,
    /// The private row that carries it, if it has no wire shape of its own.
    pub via: Option<String>,
    /// Which sides are written by hand.
    pub custom: Custom,
    /// Whether the driver may block in it.
    pub blocks: Blocks,
    /// The driver version that `cuGetProcAddress` knows it from.
    pub since: u32,
    /// The per-thread twin: its suffix and the version it exists from.
    pub twin: Option<Twin>,
    /// The test that fails if the function merely returned success: a program of `tests/programs`, or a test function of the workspace.
    pub test: Option<String>,
    /// The parameters in order.
    pub parameters: Vec<Parameter>,
}

impl Row {
    /// True if the row is encoded on the wire under its own number.
    #[must_use]
    pub fn travels(&self) -> bool {
        matches!(self.disposition, Disposition::Posted | Disposition::Asked) && self.via.is_none()
    }

    /// True if a driver of this platform exports it.
    #[must_use]
    pub fn is_exported(&self) -> bool {
        !self.private && !self.elsewhere
    }

    /// True if a client answers it, in one way or another.
    #[must_use]
    pub fn is_served(&self) -> bool {
        !self.private && !matches!(self.disposition, Disposition::Refused(_))
    }

    /// The exported name of the twin.
    #[must_use]
    pub fn twin_name(&self) -> Option<String> {
        self.twin
            .as_ref()
            .map(|twin| format!("{}_{}", self.name, twin.suffix))
    }

    /// The name by which `cuGetProcAddress` finds it: without `_v2`.
    #[must_use]
    pub fn base_name(&self) -> &str {
        match self.name.rsplit_once("_v") {
            Some((base, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => base,
            _ => &self.name,
        }
    }
}

/// How a client answers a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Without the server.
    Local,
    /// Sent without waiting for a reply.
    Posted,
    /// Sent, and the reply is waited for.
    Asked,
    /// Not served, for this reason.
    Refused(String),
}

/// Which sides of a row are written by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Custom {
    /// `crate::<area>::<name>` of the shim.
    pub client: bool,
    /// `crate::worker::<area>::<name>` of the server.
    pub worker: bool,
}

/// Whether the driver may block in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// It returns at once.
    Never,
    /// As long as the device takes to make room.
    Device,
    /// As long as other work takes, without bound.
    Unbounded,
}

/// A twin of a function whose default stream is the thread's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// `ptds` or `ptsz`.
    pub suffix: &'static str,
    /// The driver version that it exists from.
    pub since: u32,
}

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in Rust.
    pub name: syn::Ident,
    /// Its type in the C signature.
    pub ty: Type,
    /// What it is for.
    pub direction: Direction,
    /// What it points to, if the call looks there.
    pub pointee: Option<Pointee>,
    /// How it travels; `None` where the row does not travel.
    pub wire: Option<Wire>,
}

impl Parameter {
    /// True if null is an error: the call reads or writes one thing there, whatever the other arguments say.
    #[must_use]
    pub fn is_required(&self) -> bool {
        let Some(pointee) = &self.pointee else {
            return false;
        };
        let always = match pointee.length {
            Length::One | Length::Text | Length::Ended | Length::ChosenBy(_) => true,
            Length::Count(Extent::Fixed(elements)) | Length::Bytes(Extent::Fixed(elements)) => {
                elements > 0
            }
            _ => false,
        };
        always && !pointee.nullable
    }
}

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A value given by the caller; a parameter without a word.
    Value,
    /// Points to what the call reads.
    Input,
    /// Points to what the call writes.
    Out,
    /// Points to what the call reads and then writes.
    InOut,
    /// Points to a handle that the call makes.
    Creates,
    /// A handle, or memory, that ends with the call.
    Destroys,
    /// An address that the call takes as a value: it reads and writes nothing there.
    Address,
    /// Bytes after the fixed part of the request.
    Rest,
    /// Bytes after the fixed part of the reply.
    OutRest,
}

/// What a pointer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointee {
    /// How much there is.
    pub length: Length,
    /// True if the pointer may be null whatever the length. An array of no elements may be null always.
    pub nullable: bool,
}

/// How much a pointer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Length {
    /// One value of its type: no word.
    One,
    /// So many elements: `count = …`.
    Count(Extent),
    /// So many bytes: `bytes = …`.
    Bytes(Extent),
    /// Text that a zero byte ends: `text`.
    Text,
    /// Data that says its own end, such as a module image: `ended`.
    Ended,
    /// Type and size follow from the value of this parameter, such as an attribute's: `chosen_by = …`.
    ChosenBy(String),
    /// One pointer for each parameter of the kernel that this parameter names: `parameters_of = …`.
    ParametersOf(String),
}

/// A number of elements or bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Always the same.
    Fixed(u32),
    /// The value of another parameter, or what that points to, less a constant.
    Parameter {
        /// The other parameter.
        name: String,
        /// What is taken off.
        less: u32,
    },
}

/// How a value travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// One byte.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 32 bits, signed.
    I32,
    /// 64 bits.
    U64,
    /// A 32-bit floating-point number.
    F32,
    /// A size of the C ABI, as 64 bits.
    Size,
    /// The client's id for a handle: the name of the id type in `driver_api::id`.
    Handle(&'static str),
    /// A fixed array.
    Array(Box<Wire>, usize),
}
