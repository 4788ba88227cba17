//! How a tensor map is described: the parameters of the driver's functions that encode one, as they travel.
//!
//! *Why here:* the client reads them where the program has them, the server hands them to its driver, and the software GPU checks them. *Rules:* what a
//! value means and which fit together is the driver's to say, since newer drivers know more; only the rank is checked before, because it says how
//! long the lists are.
//!
//! # Safety
//! [`Lists::read`] reads where the program says that its lists are, never more than the rank says.
#![expect(unsafe_code, reason = "lists of a C ABI")]

use core::ffi::{c_int, c_void};

use crate::result::CUresult;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 5;

/// `CUtensorMap`: opaque, and aligned to 64 bytes in the program.
pub type Map = [u8; 128];

/// Which function encodes.
pub mod kind {
    /// `cuTensorMapEncodeTiled`.
    pub const TILED: u32 = 0;
    /// `cuTensorMapEncodeIm2col`.
    pub const IM2COL: u32 = 1;
    /// `cuTensorMapEncodeIm2colWide`.
    pub const IM2COL_WIDE: u32 = 2;
}

/// The parameters of a function of [`kind`]; what it has not is zero.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Encoding {
    /// The tensor's first byte.
    pub address: u64,
    /// Elements in each dimension, the innermost first.
    pub dimensions: [u64; MAX_RANK],
    /// Bytes from one to the next in each dimension but the innermost.
    pub strides: [u64; MAX_RANK - 1],
    /// Elements of a box in each dimension (tiled).
    pub box_dimensions: [u32; MAX_RANK],
    /// Distance of the elements that are taken in each dimension.
    pub element_strides: [u32; MAX_RANK],
    /// Of the box of pixels; the wide kind has the width's alone (im2col).
    pub lower_corner: [i32; MAX_RANK - 2],
    /// As [`Encoding::lower_corner`].
    pub upper_corner: [i32; MAX_RANK - 2],
    /// Channels of a pixel (im2col).
    pub channels: u32,
    /// Pixels of a column (im2col).
    pub pixels: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// `CUtensorMapDataType`.
    pub data_type: u32,
    /// Dimensions.
    pub rank: u32,
    /// `CUtensorMapInterleave`.
    pub interleave: u32,
    /// `CUtensorMapIm2ColWideMode` (wide).
    pub mode: u32,
    /// `CUtensorMapSwizzle`.
    pub swizzle: u32,
    /// `CUtensorMapL2promotion`.
    pub promotion: u32,
    /// `CUtensorMapFloatOOBfill`.
    pub fill: u32,
}

const _: () = assert!(size_of::<Encoding>() == 184);

impl Encoding {
    /// What all kinds have: the modes are interleave, swizzle, promotion and fill.
    #[must_use]
    pub fn new(
        kind: u32,
        (data_type, rank): (u32, u32),
        address: *mut c_void,
        [interleave, swizzle, promotion, fill]: [u32; 4],
    ) -> Self {
        Self {
            kind,
            data_type,
            rank,
            address: address.addr() as u64,
            interleave,
            swizzle,
            promotion,
            fill,
            ..Self::default()
        }
    }

    /// Whether the rank is one that the kind can have: the lists are as long.
    #[must_use]
    pub fn has_good_rank(&self) -> bool {
        let least = match self.kind {
            kind::TILED => 1,
            kind::IM2COL | kind::IM2COL_WIDE => 3,
            _ => return false,
        };
        (least..=MAX_RANK as u32).contains(&self.rank)
    }
}

/// Where the program's lists are; what a kind has not is not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Lists {
    /// As many as dimensions.
    pub dimensions: *const u64,
    /// One fewer.
    pub strides: *const u64,
    /// As many as dimensions (tiled).
    pub box_dimensions: *const u32,
    /// As many as dimensions.
    pub element_strides: *const u32,
    /// Two fewer (im2col).
    pub lower_corner: *const c_int,
    /// Two fewer (im2col).
    pub upper_corner: *const c_int,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            dimensions: core::ptr::null(),
            strides: core::ptr::null(),
            box_dimensions: core::ptr::null(),
            element_strides: core::ptr::null(),
            lower_corner: core::ptr::null(),
            upper_corner: core::ptr::null(),
        }
    }
}

impl Lists {
    /// The description with what the lists hold.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a rank that the kind cannot have, before anything is read, and for a list that is null.
    ///
    /// # Safety
    /// Each list that the kind has is null or as long as its field says.
    pub unsafe fn read(&self, plain: Encoding) -> Result<Encoding, CUresult> {
        if !plain.has_good_rank() {
            return Err(CUresult::INVALID_VALUE);
        }
        let rank = plain.rank as usize;
        let mut encoding = plain;
        // SAFETY: the caller's promise; a kind with corners has three dimensions at least.
        unsafe {
            fill(&mut encoding.dimensions[..rank], self.dimensions)?;
            fill(&mut encoding.strides[..rank - 1], self.strides)?;
            fill(&mut encoding.element_strides[..rank], self.element_strides)?;
            match plain.kind {
                kind::TILED => fill(&mut encoding.box_dimensions[..rank], self.box_dimensions)?,
                kind::IM2COL => {
                    fill(&mut encoding.lower_corner[..rank - 2], self.lower_corner)?;
                    fill(&mut encoding.upper_corner[..rank - 2], self.upper_corner)?;
                }
                _ => {}
            }
        }
        Ok(encoding)
    }
}

/// # Safety
/// `from` is null or leads to as many values.
unsafe fn fill<T: Copy>(list: &mut [T], from: *const T) -> Result<(), CUresult> {
    if from.is_null() && !list.is_empty() {
        return Err(CUresult::INVALID_VALUE);
    }
    for (index, value) in list.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *value = unsafe { from.add(index).read_unaligned() };
    }
    Ok(())
}
