//! The formats in which a program hands device code to the driver.
//!
//! A module image reaches `cuModuleLoadData` and its relatives as a bare pointer without a length. It is
//! one of four things: a *fatbin wrapper* (a small struct that points to one or more containers), a *fatbin
//! container* (compressed or plain entries for several architectures), an ELF *cubin*, or NUL-terminated
//! PTX text. The shim needs its extent to send it, the worker and the software GPU need what is inside; so
//! it is all here, once.
//!
//! Rules: everything except [`extent()`] is safe code on byte slices, accepts any bytes without
//! panicking, and is bounded by the constants below.

mod describe;
pub mod elf;
mod extent;
pub mod fatbin;
pub mod ptx;

pub use describe::{describe, origin};
pub use extent::extent;
pub use fatbin::{Container, Fatbin};

/// The largest image, or part of one, that is looked at.
pub const MAX_IMAGE_BYTES: usize = 2 << 30;
/// The longest PTX text, the terminating NUL excluded.
pub const MAX_PTX_BYTES: usize = 512 << 20;
/// The largest size that a compressed fatbin entry may claim to unfold to.
pub const MAX_PLAIN_ENTRY_BYTES: usize = 1 << 30;
/// The most entries of one fatbin container that are looked at.
pub const MAX_FATBIN_ENTRIES: usize = 4096;
/// The most containers that one wrapper may chain.
pub const MAX_CHAINED_CONTAINERS: usize = 4096;
/// The most parameters of one kernel.
pub const MAX_KERNEL_PARAMETERS: usize = 4096;
/// The most bytes that a kernel's parameters may take together (the PTX ISA allows 32,764).
pub const MAX_PARAMETER_BYTES: u32 = 32 << 10;

/// A compute capability such as 8.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeCapability {
    /// The generation: 8 in 8.0.
    pub major: u8,
    /// The revision inside the generation: 0 in 8.0.
    pub minor: u8,
}

impl ComputeCapability {
    /// The number as fatbin entries and `sm_NN` write it: 80 for 8.0.
    pub fn sm(self) -> u32 {
        u32::from(self.major) * 10 + u32::from(self.minor)
    }

    /// Whether machine code built for `sm` runs here: same generation, not newer.
    pub fn runs_machine_code(self, sm: u32) -> bool {
        sm / 10 == u32::from(self.major) && sm <= self.sm()
    }

    /// Whether PTX whose target is `sm` can be compiled for this device.
    pub fn compiles_ptx(self, sm: u32) -> bool {
        sm <= self.sm()
    }
}

/// What a module image turned out to be.
#[derive(Debug, Clone)]
pub enum Image<'a> {
    /// A container, or the containers behind a wrapper.
    Fatbin(Fatbin<'a>),
    /// A cubin: exactly the bytes of the ELF file.
    Elf(&'a [u8]),
    /// PTX text without the terminating NUL.
    Ptx(&'a [u8]),
}

impl<'a> Image<'a> {
    /// Recognises an image whose length is known; a wrapper cannot occur here, since it holds a pointer.
    ///
    /// # Errors
    ///
    /// [`ImageError`] if the bytes are none of the formats or are cut short.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        if bytes.starts_with(&elf::MAGIC) {
            let length = elf::length(bytes)?;
            return Ok(Self::Elf(bytes.get(..length).ok_or(ImageError::Truncated)?));
        }
        if bytes.starts_with(&fatbin::CONTAINER_MAGIC) {
            return Ok(Self::Fatbin(Fatbin {
                container: Container::parse(bytes)?,
                prelinked: Vec::new(),
            }));
        }
        let end = bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(bytes.len());
        ptx::check_text(&bytes[..end])?;
        Ok(Self::Ptx(&bytes[..end]))
    }
}

/// Why bytes are not a usable module image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A null pointer was given.
    #[error("the image is a null pointer")]
    Null,
    /// None of the known formats.
    #[error("the image is neither a fatbin, nor an ELF file, nor PTX text")]
    UnknownFormat,
    /// The bytes end before what they announce.
    #[error("the image is cut short")]
    Truncated,
    /// A size or count is beyond a stated maximum.
    #[error("{what} of {value} is beyond the maximum of {maximum}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// The size or count found.
        value: u64,
        /// The stated maximum.
        maximum: u64,
    },
    /// A field contradicts the format.
    #[error("the image is malformed: {0}")]
    Malformed(&'static str),
    /// A compressed entry does not unfold to what it announces.
    #[error("a compressed entry does not unpack: {0}")]
    Compression(&'static str),
}

/// The little-endian `u16` at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, ImageError> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

/// The little-endian `u32` at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, ImageError> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

/// The little-endian `u64` at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, ImageError> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], ImageError> {
    let end = offset.checked_add(N).ok_or(ImageError::Truncated)?;
    bytes
        .get(offset..end)
        .and_then(|part| part.try_into().ok())
        .ok_or(ImageError::Truncated)
}

/// `value` as a `usize`, if it is not beyond `maximum`.
pub(crate) fn bounded(what: &'static str, value: u64, maximum: usize) -> Result<usize, ImageError> {
    usize::try_from(value)
        .ok()
        .filter(|&size| size <= maximum)
        .ok_or(ImageError::TooLarge {
            what,
            value,
            maximum: maximum as u64,
        })
}
