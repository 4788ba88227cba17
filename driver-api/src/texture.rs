//! How a texture or surface object travels: what it reads, and how.
//!
//! *Why here:* one structure for client and worker, and one place that says what a description may be. *Rules:* arrays are named by the client's number; nothing is
//! believed before the worker has compared it with what the session has; a format or flag that nobody knows is refused, never passed on.

pub mod reference;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::abi::{CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC, CUDA_TEXTURE_DESC};
use crate::array::{Shape, channel_bytes};
use crate::result::CUresult;

/// `CU_RESOURCE_TYPE_*`
pub mod resource {
    /// An array.
    pub const ARRAY: u32 = 0;
    /// A mipmapped array.
    pub const MIPMAPPED: u32 = 1;
    /// A line of elements in memory.
    pub const LINEAR: u32 = 2;
    /// Rows with a pitch in memory.
    pub const PITCHED: u32 = 3;
}

/// `CU_TRSF_*`
pub mod flag {
    /// Integers are read as integers.
    pub const AS_INTEGER: u32 = 0x01;
    /// Coordinates are from 0 to 1.
    pub const NORMALISED: u32 = 0x02;
    /// Bytes are sRGB.
    pub const SRGB: u32 = 0x10;
    /// All that drivers know.
    pub(super) const KNOWN: u32 = 0x73;
}

/// Elements in memory: a line, or rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    /// The first byte.
    pub address: u64,
    /// `CU_AD_FORMAT_*`
    pub format: u32,
    /// Channels of an element.
    pub channels: u32,
    /// Elements of a row.
    pub width: u64,
    /// Rows; 1 of a line.
    pub height: u64,
    /// Bytes from a row to the next.
    pub pitch: u64,
}

impl Rows {
    /// Bytes of an element.
    #[must_use]
    pub fn element_bytes(&self) -> u64 {
        channel_bytes(self.format).unwrap_or(0) * u64::from(self.channels)
    }

    /// All bytes from the first to behind the last.
    ///
    /// # Errors
    /// INVALID_VALUE: no rows of elements are so.
    pub fn span(&self) -> Result<u64, CUresult> {
        channel_bytes(self.format)?;
        let invalid = CUresult::INVALID_VALUE;
        if !matches!(self.channels, 1 | 2 | 4) || self.width == 0 || self.height == 0 {
            return Err(invalid);
        }
        let element = self.element_bytes();
        let row = self.width.checked_mul(element).ok_or(invalid)?;
        let is_aligned = self.address.is_multiple_of(element) && self.pitch.is_multiple_of(element);
        if !is_aligned || self.pitch < row {
            return Err(invalid);
        }
        let before = self.pitch.checked_mul(self.height - 1).ok_or(invalid)?;
        before.checked_add(row).ok_or(invalid)
    }
}

/// What a description names: arrays still by the program's handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// An array.
    Array(usize),
    /// A mipmapped array.
    Mipmapped(usize),
    /// A line in memory.
    Linear(Rows),
    /// Rows in memory.
    Pitched(Rows),
}

impl Named {
    /// What a description names.
    ///
    /// # Errors
    /// INVALID_VALUE: nothing, or memory that cannot be read so.
    pub fn of(description: &CUDA_RESOURCE_DESC) -> Result<Self, CUresult> {
        /// Rows in memory begin at multiples of this.
        const PITCH_ALIGNMENT: u64 = 32;
        if description.flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let [first, second, third, fourth, fifth, ..] = description.words;
        let mut rows = Rows {
            address: first,
            format: second as u32,
            channels: (second >> 32) as u32,
            ..Rows::default()
        };
        match description.kind {
            resource::ARRAY => Ok(Self::Array(first as usize)),
            resource::MIPMAPPED => Ok(Self::Mipmapped(first as usize)),
            resource::LINEAR => {
                let element = rows.element_bytes();
                if element == 0 {
                    channel_bytes(rows.format)?;
                    return Err(CUresult::INVALID_VALUE);
                }
                (rows.width, rows.height) = (third / element, 1);
                rows.pitch = rows.width.saturating_mul(element);
                rows.span()?;
                Ok(Self::Linear(rows))
            }
            resource::PITCHED => {
                (rows.width, rows.height, rows.pitch) = (third, fourth, fifth);
                rows.span()?;
                match rows.pitch.is_multiple_of(PITCH_ALIGNMENT) {
                    true => Ok(Self::Pitched(rows)),
                    false => Err(CUresult::INVALID_VALUE),
                }
            }
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}

/// What reads it: all of it travels as the words that the driver's structures have.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Object {
    /// One of [`resource`].
    pub kind: U32,
    /// The client's number of an array.
    pub array: U32,
    /// The level of a mipmapped array that is read as an array.
    pub level: U32,
    /// 1 for a surface.
    pub is_surface: U32,
    /// Of memory: the first byte, format and channels, elements, rows, pitch.
    pub address: U64,
    /// `CU_AD_FORMAT_*`
    pub format: U32,
    /// Channels of an element.
    pub channels: U32,
    /// Elements of a row.
    pub width: U64,
    /// Rows.
    pub height: U64,
    /// Bytes from a row to the next.
    pub pitch: U64,
    /// The words of a [`CUDA_TEXTURE_DESC`].
    pub texture: [U32; 26],
    /// 1 if there is a view.
    pub has_view: U32,
    /// Zero.
    pub reserved: U32,
    /// The numbers of a [`CUDA_RESOURCE_VIEW_DESC`], in order.
    pub view: [U64; 8],
}

const _: () = assert!(size_of::<CUDA_TEXTURE_DESC>() == 26 * 4);

impl Default for Object {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

impl Object {
    /// Puts rows in memory into it.
    pub fn set_rows(&mut self, kind: u32, rows: &Rows) {
        self.kind = kind.into();
        self.address = rows.address.into();
        (self.format, self.channels) = (rows.format.into(), rows.channels.into());
        (self.width, self.height) = (rows.width.into(), rows.height.into());
        self.pitch = rows.pitch.into();
    }

    /// The rows in memory that it names.
    #[must_use]
    pub fn rows(&self) -> Rows {
        Rows {
            address: self.address.get(),
            format: self.format.get(),
            channels: self.channels.get(),
            width: self.width.get(),
            height: self.height.get(),
            pitch: self.pitch.get(),
        }
    }

    /// Puts the way to read into it.
    pub fn set_texture(&mut self, texture: &CUDA_TEXTURE_DESC) {
        let modes = texture.address_mode;
        let [least, most] = [
            texture.min_mipmap_level_clamp,
            texture.max_mipmap_level_clamp,
        ];
        let border = texture.border_color.map(f32::to_bits);
        let words = [
            modes[0],
            modes[1],
            modes[2],
            texture.filter_mode,
            texture.flags,
            texture.max_anisotropy,
            texture.mipmap_filter_mode,
            texture.mipmap_level_bias.to_bits(),
            least.to_bits(),
            most.to_bits(),
            border[0],
            border[1],
            border[2],
            border[3],
        ];
        for (place, word) in self.texture.iter_mut().zip(words) {
            *place = word.into();
        }
    }

    /// The way to read.
    #[must_use]
    pub fn texture(&self) -> CUDA_TEXTURE_DESC {
        let word = |index: usize| self.texture[index].get();
        let float = |index: usize| f32::from_bits(word(index));
        CUDA_TEXTURE_DESC {
            address_mode: [word(0), word(1), word(2)],
            filter_mode: word(3),
            flags: word(4),
            max_anisotropy: word(5),
            mipmap_filter_mode: word(6),
            mipmap_level_bias: float(7),
            min_mipmap_level_clamp: float(8),
            max_mipmap_level_clamp: float(9),
            border_color: [float(10), float(11), float(12), float(13)],
            reserved: [0; 12],
        }
    }

    /// Puts a view into it.
    pub fn set_view(&mut self, view: &CUDA_RESOURCE_VIEW_DESC) {
        self.has_view = 1.into();
        let numbers = [
            view.format.into(),
            view.width as u64,
            view.height as u64,
            view.depth as u64,
            view.first_mipmap_level.into(),
            view.last_mipmap_level.into(),
            view.first_layer.into(),
            view.last_layer.into(),
        ];
        self.view = numbers.map(Into::into);
    }

    /// The view, if there is one.
    ///
    /// # Errors
    /// INVALID_VALUE: a number that the driver's structure cannot hold.
    pub fn view(&self) -> Result<Option<CUDA_RESOURCE_VIEW_DESC>, CUresult> {
        if self.has_view.get() == 0 {
            return Ok(None);
        }
        let number = |index: usize| self.view[index].get();
        let word = |index| u32::try_from(number(index)).map_err(|_| CUresult::INVALID_VALUE);
        Ok(Some(CUDA_RESOURCE_VIEW_DESC {
            format: word(0)?,
            width: number(1) as usize,
            height: number(2) as usize,
            depth: number(3) as usize,
            first_mipmap_level: word(4)?,
            last_mipmap_level: word(5)?,
            first_layer: word(6)?,
            last_layer: word(7)?,
            reserved: [0; 16],
        }))
    }
}

/// Whether a way to read is one.
///
/// # Errors
/// INVALID_VALUE.
pub fn check_texture(texture: &CUDA_TEXTURE_DESC) -> Result<(), CUresult> {
    let is_known = texture.flags & !flag::KNOWN == 0
        && texture.address_mode.iter().all(|mode| *mode <= 3)
        && texture.filter_mode <= 1
        && texture.mipmap_filter_mode <= 1
        && texture.reserved == [0; 12];
    is_known.then_some(()).ok_or(CUresult::INVALID_VALUE)
}

/// Whether an array's elements may be viewed so; what blocks may be viewed as, the driver knows.
///
/// # Errors
/// INVALID_VALUE: no format, or elements of another size.
pub fn check_view(view: &CUDA_RESOURCE_VIEW_DESC, shape: &Shape) -> Result<(), CUresult> {
    match view_format(view.format, shape) {
        Ok(_) | Err(CUresult::NOT_SUPPORTED) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Format and channels of a view's `CU_RES_VIEW_FORMAT_*`, of a shape for none.
///
/// # Errors
/// NOT_SUPPORTED: compressed blocks. INVALID_VALUE: no format, or elements of another size.
pub fn view_format(format: u32, shape: &Shape) -> Result<(u32, u32), CUresult> {
    /// In the order of the views' formats, three for each.
    const FORMATS: [u32; 8] = [0x01, 0x08, 0x02, 0x09, 0x03, 0x0a, 0x10, 0x20];
    const FIRST_BLOCK: u32 = 0x19;
    const LAST_BLOCK: u32 = 0x22;
    let viewed = match format {
        0 => return Ok((shape.format, shape.channels)),
        1..FIRST_BLOCK => {
            let index = format - 1;
            (FORMATS[index as usize / 3], 1 << (index % 3))
        }
        FIRST_BLOCK..=LAST_BLOCK => return Err(CUresult::NOT_SUPPORTED),
        _ => return Err(CUresult::INVALID_VALUE),
    };
    let bytes = channel_bytes(viewed.0)? * u64::from(viewed.1);
    match bytes == shape.element_bytes() {
        true => Ok(viewed),
        false => Err(CUresult::INVALID_VALUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_comes_out_again() {
        let texture = CUDA_TEXTURE_DESC {
            address_mode: [0, 1, 3],
            filter_mode: 1,
            flags: flag::NORMALISED,
            mipmap_level_bias: 0.5,
            border_color: [1.0, 2.0, 3.0, 4.0],
            ..CUDA_TEXTURE_DESC::default()
        };
        let view = CUDA_RESOURCE_VIEW_DESC {
            format: 2,
            width: 7,
            last_layer: 9,
            ..CUDA_RESOURCE_VIEW_DESC::default()
        };
        let mut object = Object::default();
        assert_eq!(object.view(), Ok(None));
        object.set_texture(&texture);
        object.set_view(&view);
        assert_eq!(object.texture(), texture);
        assert_eq!(object.view(), Ok(Some(view)));
        object.view[7] = (9 | 1 << 32).into();
        assert_eq!(object.view(), Err(CUresult::INVALID_VALUE));
    }

    #[test]
    fn rows_that_overlap_or_are_not_aligned_are_none() {
        let rows = Rows {
            address: 4096,
            format: 0x20,
            channels: 4,
            width: 10,
            height: 3,
            pitch: 192,
        };
        assert_eq!(rows.span(), Ok(2 * 192 + 160));
        let invalid = Err(CUresult::INVALID_VALUE);
        assert_eq!(Rows { pitch: 144, ..rows }.span(), invalid);
        assert_eq!(Rows { pitch: 200, ..rows }.span(), invalid);
        assert_eq!(
            Rows {
                address: 4100,
                ..rows
            }
            .span(),
            invalid
        );
        assert_eq!(
            Rows {
                width: u64::MAX,
                ..rows
            }
            .span(),
            invalid
        );
    }

    #[test]
    fn a_view_has_elements_of_the_same_size() {
        let shape = Shape {
            format: 0x20,
            channels: 1,
            ..Shape::default()
        };
        assert_eq!(view_format(0, &shape), Ok((0x20, 1)));
        assert_eq!(view_format(0x03, &shape), Ok((0x01, 4)));
        assert_eq!(view_format(0x0d, &shape), Ok((0x03, 1)));
        assert_eq!(view_format(0x18, &shape), Err(CUresult::INVALID_VALUE));
        assert_eq!(view_format(0x19, &shape), Err(CUresult::NOT_SUPPORTED));
    }
}
