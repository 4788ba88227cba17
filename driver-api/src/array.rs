//! What an array is: its shape, and what follows from it.
//!
//! *Why here:* the client, the worker and the software GPU count the same bytes. *Rules:* a shape says nothing of limits, which are the device's; one
//! that passed [`Shape::check`] has an extent whose bytes are a number.

use crate::abi::{CUDA_ARRAY_DESCRIPTOR, CUDA_ARRAY3D_DESCRIPTOR, CUarray_format};
use crate::result::CUresult;

/// `CUDA_ARRAY3D_*`.
pub mod flag {
    /// Layers, not slices.
    pub const LAYERED: u32 = 0x01;
    /// Surfaces may be bound to it.
    pub const SURFACE: u32 = 0x02;
    /// Six faces, or layers of six.
    pub const CUBEMAP: u32 = 0x04;
    /// Four neighbours of a channel may be gathered.
    pub const GATHER: u32 = 0x08;
    /// Graphics may draw into it.
    pub const COLOUR_ATTACHMENT: u32 = 0x20;
    /// What is served of them.
    pub(super) const SERVED: u32 = LAYERED | SURFACE | CUBEMAP | GATHER | COLOUR_ATTACHMENT;
    /// What drivers know beside: depth textures, sparse memory, memory that is mapped later, video.
    pub(super) const KNOWN: u32 = SERVED | 0x10 | 0x40 | 0x80 | 0x100;
}

/// `CU_AD_FORMAT_*`.
pub mod format {
    #![expect(missing_docs, reason = "the names of the scalar types")]
    pub const U8: u32 = 0x01;
    pub const U16: u32 = 0x02;
    pub const U32: u32 = 0x03;
    pub const S8: u32 = 0x08;
    pub const S16: u32 = 0x09;
    pub const S32: u32 = 0x0a;
    pub const F16: u32 = 0x10;
    pub const F32: u32 = 0x20;
}

/// Formats beyond the scalar ones, which drivers know: video, blocks, normalised and packed channels.
const OTHER_FORMATS: core::ops::RangeInclusive<u32> = 0x50..=0xff;

/// Bytes of a channel.
///
/// # Errors
/// NOT_SUPPORTED: a format that drivers know and nobody serves here. INVALID_VALUE: no format.
pub fn channel_bytes(format: CUarray_format) -> Result<u64, CUresult> {
    match format {
        format::U8 | format::S8 => Ok(1),
        format::U16 | format::S16 | format::F16 => Ok(2),
        format::U32 | format::S32 | format::F32 => Ok(4),
        _ if OTHER_FORMATS.contains(&format) => Err(CUresult::NOT_SUPPORTED),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// Elements in each dimension, and what an element is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Elements of a row.
    pub width: u64,
    /// Rows; 0 in one dimension.
    pub height: u64,
    /// Slices or layers; 0 where there are none.
    pub depth: u64,
    /// One of [`mod@format`].
    pub format: CUarray_format,
    /// Channels of an element: 1, 2 or 4.
    pub channels: u32,
    /// Bits of [`flag`].
    pub flags: u32,
}

impl Shape {
    /// The shape that a description says.
    #[must_use]
    pub fn of(description: &CUDA_ARRAY3D_DESCRIPTOR) -> Self {
        Self {
            width: description.width as u64,
            height: description.height as u64,
            depth: description.depth as u64,
            format: description.format,
            channels: description.num_channels,
            flags: description.flags,
        }
    }

    /// The shape that a description of up to two dimensions says.
    #[must_use]
    pub fn of_flat(description: &CUDA_ARRAY_DESCRIPTOR) -> Self {
        Self {
            width: description.width as u64,
            height: description.height as u64,
            format: description.format,
            channels: description.num_channels,
            ..Self::default()
        }
    }

    /// Its description.
    #[must_use]
    pub fn description(&self) -> CUDA_ARRAY3D_DESCRIPTOR {
        CUDA_ARRAY3D_DESCRIPTOR {
            width: self.width as usize,
            height: self.height as usize,
            depth: self.depth as usize,
            format: self.format,
            num_channels: self.channels,
            flags: self.flags,
        }
    }

    /// Its description without slices.
    #[must_use]
    pub fn flat_description(&self) -> CUDA_ARRAY_DESCRIPTOR {
        CUDA_ARRAY_DESCRIPTOR {
            width: self.width as usize,
            height: self.height as usize,
            format: self.format,
            num_channels: self.channels,
        }
    }

    /// Whether it has layers or faces, which mipmap levels do not halve.
    #[must_use]
    pub fn has_layers(&self) -> bool {
        self.flags & (flag::LAYERED | flag::CUBEMAP) != 0
    }

    /// Whether an array of it can be, as far as no device is asked.
    ///
    /// # Errors
    /// INVALID_VALUE; NOT_SUPPORTED for what drivers know and nobody serves here.
    pub fn check(&self) -> Result<(), CUresult> {
        let require = |holds: bool| holds.then_some(()).ok_or(CUresult::INVALID_VALUE);
        require(self.flags & !flag::KNOWN == 0)?;
        require(matches!(self.channels, 1 | 2 | 4))?;
        channel_bytes(self.format)?;
        let (width, height, depth) = (self.width, self.height, self.depth);
        require(width > 0)?;
        let is_layered = self.flags & flag::LAYERED != 0;
        if self.flags & flag::CUBEMAP != 0 {
            require(width == height && depth > 0 && depth.is_multiple_of(6))?;
            require(is_layered || depth == 6)?;
        } else if is_layered {
            require(depth > 0)?;
        } else {
            require(height > 0 || depth == 0)?;
        }
        if self.flags & flag::GATHER != 0 {
            require(height > 0 && depth == 0)?;
        }
        require(self.bytes().is_some())?;
        match self.flags & !flag::SERVED {
            0 => Ok(()),
            _ => Err(CUresult::NOT_SUPPORTED),
        }
    }

    /// Bytes of an element; 0 for one that no [`Shape::check`] passes.
    #[must_use]
    pub fn element_bytes(&self) -> u64 {
        channel_bytes(self.format).unwrap_or(0) * u64::from(self.channels)
    }

    /// Bytes of a row, rows of a slice, slices.
    #[must_use]
    pub fn extent(&self) -> [u64; 3] {
        let row = self.width.saturating_mul(self.element_bytes());
        [row, self.height.max(1), self.depth.max(1)]
    }

    /// All its bytes, packed; nothing where that is no number.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let [row, rows, slices] = self.extent();
        let bytes = row.checked_mul(rows)?.checked_mul(slices)?;
        (bytes <= u64::MAX >> 8).then_some(bytes)
    }

    /// The shape of a mipmap level.
    #[must_use]
    pub fn level(&self, level: u32) -> Self {
        let halved = |size: u64| match size {
            0 => 0,
            size => size.checked_shr(level).unwrap_or(0).max(1),
        };
        Self {
            width: halved(self.width),
            height: halved(self.height),
            depth: match self.has_layers() {
                true => self.depth,
                false => halved(self.depth),
            },
            ..*self
        }
    }

    /// The most levels that a mipmapped array of it can have.
    #[must_use]
    pub fn most_levels(&self) -> u32 {
        let depth = if self.has_layers() { 0 } else { self.depth };
        self.width.max(self.height).max(depth).max(1).ilog2() + 1
    }

    /// All bytes of so many levels, packed.
    #[must_use]
    pub fn bytes_of_levels(&self, levels: u32) -> Option<u64> {
        (0..levels).try_fold(0_u64, |all, level| {
            all.checked_add(self.level(level).bytes()?)
        })
    }

    /// Whether a box of so many bytes, rows and slices lies inside, on whole elements.
    #[must_use]
    pub fn holds(&self, origin: [u64; 3], size: [u64; 3]) -> bool {
        let element = self.element_bytes();
        let whole = |bytes: u64| element != 0 && bytes.is_multiple_of(element);
        let is_inside = |(origin, (size, all)): (u64, (u64, u64))| {
            origin.checked_add(size).is_some_and(|end| end <= all)
        };
        let ends = origin.into_iter().zip(size.into_iter().zip(self.extent()));
        whole(origin[0]) && whole(size[0]) && ends.into_iter().all(is_inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: Shape = Shape {
        width: 10,
        height: 6,
        depth: 0,
        format: format::F32,
        channels: 2,
        flags: 0,
    };

    #[test]
    fn shapes_are_what_the_interface_documents() {
        assert_eq!(FLAT.check(), Ok(()));
        assert_eq!(FLAT.extent(), [80, 6, 1]);
        let with = |change: fn(&mut Shape)| {
            let mut shape = FLAT;
            change(&mut shape);
            shape.check()
        };
        let invalid = Err(CUresult::INVALID_VALUE);
        assert_eq!(with(|shape| shape.width = 0), invalid);
        assert_eq!(with(|shape| shape.channels = 3), invalid);
        assert_eq!(with(|shape| shape.format = 4), invalid);
        assert_eq!(with(|shape| shape.flags = 1 << 20), invalid);
        assert_eq!(with(|shape| shape.flags = flag::LAYERED), invalid);
        assert_eq!(with(|shape| shape.width = u64::MAX), invalid);
        assert_eq!(
            with(|shape| shape.format = 0x91),
            Err(CUresult::NOT_SUPPORTED)
        );
        assert_eq!(
            with(|shape| (shape.depth, shape.flags) = (6, flag::CUBEMAP)),
            invalid
        );
    }

    #[test]
    fn levels_halve_what_is_no_layer() {
        assert_eq!(FLAT.most_levels(), 4);
        assert_eq!((FLAT.level(2).width, FLAT.level(2).height), (2, 1));
        assert_eq!(FLAT.level(60).extent(), [8, 1, 1]);
        let layered = Shape {
            depth: 3,
            flags: flag::LAYERED,
            ..FLAT
        };
        assert_eq!(layered.level(1).depth, 3);
        assert_eq!(FLAT.bytes_of_levels(2), Some(480 + 5 * 3 * 8));
    }

    #[test]
    fn a_box_inside_is_one_of_whole_elements() {
        assert!(FLAT.holds([8, 1, 0], [72, 5, 1]));
        assert!(!FLAT.holds([8, 1, 0], [80, 5, 1]));
        assert!(!FLAT.holds([4, 1, 0], [8, 1, 1]));
        assert!(!FLAT.holds([0, u64::MAX, 0], [8, 2, 1]));
    }
}
