//! How a copy of a box to or from an array travels: two ends and an extent.
//!
//! *Why here:* one structure for client and worker. *Rules:* rows are counted in bytes; an end in memory begins at its first byte, so that only an
//! end in an array has an origin; nothing in it is believed before the worker has compared it with what the session has.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The bytes travel with the call, or in the reply or transfer: packed, row by row.
pub const TRAVELS: u32 = 0;
/// In device memory.
pub const LINEAR: u32 = 1;
/// In an array.
pub const ARRAY: u32 = 2;

/// One end of a copy.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct End {
    /// [`TRAVELS`], [`LINEAR`] or [`ARRAY`].
    pub kind: U32,
    /// The client's number of the array.
    pub array: U32,
    /// The level of a mipmapped array.
    pub level: U32,
    /// Zero.
    pub reserved: U32,
    /// The first byte in device memory.
    pub address: U64,
    /// Bytes, rows and slices before the box in the array.
    pub origin: [U64; 3],
    /// Bytes from one row to the next in device memory.
    pub pitch: U64,
    /// Rows from one slice to the next in device memory.
    pub rows: U64,
}

/// A copy.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Volume {
    /// Where to.
    pub destination: End,
    /// Where from.
    pub source: End,
    /// Bytes of a row, rows, slices.
    pub extent: [U64; 3],
}

const _: () = assert!(size_of::<End>() == 64 && size_of::<Volume>() == 152);

impl End {
    /// Bytes from the first to behind the last of a box in device memory; nothing where that is no number, or rows overlap.
    #[must_use]
    pub fn span(&self, [width, height, depth]: [u64; 3]) -> Option<u64> {
        let (pitch, rows) = (self.pitch.get(), self.rows.get());
        if (height > 1 || depth > 1) && pitch < width || depth > 1 && rows < height {
            return None;
        }
        let slices = pitch
            .checked_mul(rows)?
            .checked_mul(depth.checked_sub(1)?)?;
        let lines = pitch.checked_mul(height.checked_sub(1)?)?;
        slices.checked_add(lines)?.checked_add(width)
    }
}

impl Volume {
    /// The extent as numbers.
    #[must_use]
    pub fn size(&self) -> [u64; 3] {
        self.extent.map(U64::get)
    }

    /// All bytes of the box; nothing where that is no number.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let [width, height, depth] = self.size();
        width.checked_mul(height)?.checked_mul(depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_behind_the_last_byte_and_never_wraps() {
        let end = End {
            pitch: 16.into(),
            rows: 4.into(),
            ..End::default()
        };
        assert_eq!(end.span([8, 2, 3]), Some(2 * 64 + 16 + 8));
        assert_eq!(end.span([17, 2, 1]), None);
        assert_eq!(end.span([8, 5, 2]), None);
        assert_eq!(end.span([17, 1, 1]), Some(17));
        assert_eq!(end.span([8, 2, u64::MAX]), None);
        assert_eq!(end.span([8, 0, 1]), None);
    }
}
