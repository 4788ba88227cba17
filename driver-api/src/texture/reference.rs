//! What a texture or surface reference says, and how changes of it travel.
//!
//! *Why here:* the client tells what it has set without asking, and the software GPU is a driver; both keep the same [`Reference`]. *Rules:* a [`Change`] is applied as a
//! whole or not at all; numbers that nobody knows are refused.

use super::{check_texture, resource};
use crate::abi::{CUDA_RESOURCE_DESC, CUDA_TEXTURE_DESC};
use crate::array::{channel_bytes, format};
use crate::result::CUresult;

/// `CU_TRSA_OVERRIDE_FORMAT`, which binding an array has to say.
pub const OVERRIDE_FORMAT: u32 = 1;

/// `CU_PARAM_TR_DEFAULT`, the only unit of a texture.
pub const DEFAULT_UNIT: i32 = -1;

/// What a reference is: in requests for one.
pub mod kind {
    /// A texture reference of a module.
    pub const TEXTURE: u32 = 0;
    /// A surface reference of a module.
    pub const SURFACE: u32 = 1;
    /// A texture reference of no module.
    pub const FREE: u32 = 2;
}

/// What a reference says.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What it is bound to, arrays by the program's handle. The format of memory is not told here.
    pub bound: Option<CUDA_RESOURCE_DESC>,
    /// The format of memory, or of the array that is bound.
    pub format: u32,
    /// Its channels.
    pub channels: u32,
    /// How it is read.
    pub reading: CUDA_TEXTURE_DESC,
}

impl Default for Reference {
    fn default() -> Self {
        const CLAMP: u32 = 1;
        Self {
            bound: None,
            format: format::F32,
            channels: 1,
            reading: CUDA_TEXTURE_DESC {
                address_mode: [CLAMP; 3],
                ..CUDA_TEXTURE_DESC::default()
            },
        }
    }
}

impl Reference {
    /// Binds an array, or a mipmapped one, of such elements.
    pub fn bind_array(&mut self, kind: u32, handle: usize, elements: (u32, u32)) {
        self.bind(kind, [handle as u64, 0, 0, 0]);
        (self.format, self.channels) = elements;
    }

    /// Binds a handle; or memory: its address, and bytes of a line, or elements of a row, rows and pitch.
    pub fn bind(&mut self, kind: u32, [first, sizes @ ..]: [u64; 4]) {
        let mut bound = CUDA_RESOURCE_DESC {
            kind,
            ..CUDA_RESOURCE_DESC::default()
        };
        bound.words[0] = first;
        bound.words[2..5].copy_from_slice(&sizes);
        self.bound = Some(bound);
    }

    /// The handle or address that it is bound to, if that is of such a kind.
    ///
    /// # Errors
    /// INVALID_VALUE: it is not.
    pub fn bound_to(&self, kinds: &[u32]) -> Result<u64, CUresult> {
        let bound = self.bound.as_ref();
        let bound = bound.filter(|bound| kinds.contains(&bound.kind));
        Ok(bound.ok_or(CUresult::INVALID_VALUE)?.words[0])
    }

    /// How it reads outside, in a dimension.
    ///
    /// # Errors
    /// INVALID_VALUE: there is no such dimension.
    pub fn address_mode(&self, dimension: i32) -> Result<u32, CUresult> {
        let dimension = usize::try_from(dimension).map_err(|_| CUresult::INVALID_VALUE)?;
        let mode = self.reading.address_mode.get(dimension);
        mode.copied().ok_or(CUresult::INVALID_VALUE)
    }

    /// The description of what it is bound to.
    #[must_use]
    pub fn resource(&self) -> Option<CUDA_RESOURCE_DESC> {
        let mut bound = self.bound?;
        if matches!(bound.kind, resource::LINEAR | resource::PITCHED) {
            bound.words[1] = u64::from(self.format) | u64::from(self.channels) << 32;
        }
        Some(bound)
    }

    /// Applies a change.
    ///
    /// # Errors
    /// INVALID_VALUE, and what a format says: nothing has changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), CUresult> {
        let mut reading = self.reading;
        match *change {
            Change::Format { format, channels } => return self.set_format(format, channels),
            Change::AddressMode { dimension, mode } => {
                let place = reading.address_mode.get_mut(dimension as usize);
                *place.ok_or(CUresult::INVALID_VALUE)? = mode;
            }
            Change::Filter(mode) => reading.filter_mode = mode,
            Change::MipmapFilter(mode) => reading.mipmap_filter_mode = mode,
            Change::LevelBias(bias) => reading.mipmap_level_bias = bias,
            Change::LevelClamp([least, most]) => {
                reading.min_mipmap_level_clamp = least;
                reading.max_mipmap_level_clamp = most;
            }
            Change::Anisotropy(most) => reading.max_anisotropy = most,
            Change::Border(colour) => reading.border_color = colour,
            Change::Flags(flags) => reading.flags = flags,
        }
        check_texture(&reading)?;
        self.reading = reading;
        Ok(())
    }

    /// Rows with a pitch have said their format when they were bound.
    fn set_format(&mut self, format: u32, channels: u32) -> Result<(), CUresult> {
        check_elements(format, channels)?;
        if self.bound_to(&[resource::PITCHED]).is_ok() {
            return Err(CUresult::INVALID_VALUE);
        }
        (self.format, self.channels) = (format, channels);
        Ok(())
    }
}

/// Whether memory can have such elements.
///
/// # Errors
/// INVALID_VALUE, and what a format says.
pub fn check_elements(format: u32, channels: u32) -> Result<(), CUresult> {
    channel_bytes(format)?;
    match channels {
        1 | 2 | 4 => Ok(()),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// A change of how a texture reference reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The elements of memory.
    Format {
        /// `CU_AD_FORMAT_*`
        format: u32,
        /// Channels of an element.
        channels: u32,
    },
    /// `CU_TR_ADDRESS_MODE_*` of a dimension.
    AddressMode {
        /// From 0 to 2.
        dimension: u32,
        /// The mode.
        mode: u32,
    },
    /// `CU_TR_FILTER_MODE_*`
    Filter(u32),
    /// The same between levels.
    MipmapFilter(u32),
    /// Added to a level.
    LevelBias(f32),
    /// The lowest level, and the highest.
    LevelClamp([f32; 2]),
    /// The most anisotropy.
    Anisotropy(u32),
    /// The colour outside.
    Border([f32; 4]),
    /// `CU_TRSF_*`
    Flags(u32),
}

impl Change {
    /// As number and words.
    #[must_use]
    pub fn wire(&self) -> (u32, [u32; 4]) {
        match *self {
            Self::Format { format, channels } => (1, [format, channels, 0, 0]),
            Self::AddressMode { dimension, mode } => (2, [dimension, mode, 0, 0]),
            Self::Filter(mode) => (3, [mode, 0, 0, 0]),
            Self::MipmapFilter(mode) => (4, [mode, 0, 0, 0]),
            Self::LevelBias(bias) => (5, [bias.to_bits(), 0, 0, 0]),
            Self::LevelClamp([least, most]) => (6, [least.to_bits(), most.to_bits(), 0, 0]),
            Self::Anisotropy(most) => (7, [most, 0, 0, 0]),
            Self::Border(colour) => (8, colour.map(f32::to_bits)),
            Self::Flags(flags) => (9, [flags, 0, 0, 0]),
        }
    }

    /// The change of a number and its words.
    ///
    /// # Errors
    /// INVALID_VALUE: there is none.
    pub fn of(number: u32, words: [u32; 4]) -> Result<Self, CUresult> {
        let [first, second, ..] = words;
        Ok(match number {
            1 => Self::Format {
                format: first,
                channels: second,
            },
            2 => Self::AddressMode {
                dimension: first,
                mode: second,
            },
            3 => Self::Filter(first),
            4 => Self::MipmapFilter(first),
            5 => Self::LevelBias(f32::from_bits(first)),
            6 => Self::LevelClamp([first, second].map(f32::from_bits)),
            7 => Self::Anisotropy(first),
            8 => Self::Border(words.map(f32::from_bits)),
            9 => Self::Flags(first),
            _ => return Err(CUresult::INVALID_VALUE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_comes_out_again() {
        let changes = [
            Change::Format {
                format: 1,
                channels: 4,
            },
            Change::AddressMode {
                dimension: 2,
                mode: 3,
            },
            Change::Filter(1),
            Change::MipmapFilter(1),
            Change::LevelBias(0.5),
            Change::LevelClamp([1.0, 2.0]),
            Change::Anisotropy(16),
            Change::Border([1.0, 2.0, 3.0, 4.0]),
            Change::Flags(2),
        ];
        for change in changes {
            let (number, words) = change.wire();
            assert_eq!(Change::of(number, words), Ok(change));
        }
        assert!(Change::of(0, [0; 4]).is_err() && Change::of(10, [0; 4]).is_err());
    }

    #[test]
    fn a_wrong_change_changes_nothing() {
        let mut reference = Reference::default();
        let wrong = [
            Change::Format {
                format: 0x20,
                channels: 3,
            },
            Change::AddressMode {
                dimension: 3,
                mode: 1,
            },
            Change::AddressMode {
                dimension: 0,
                mode: 4,
            },
            Change::Filter(2),
            Change::Flags(1 << 10),
        ];
        for change in wrong {
            assert!(reference.apply(&change).is_err(), "{change:?}");
            assert_eq!(reference.reading, Reference::default().reading);
        }
        reference.bind(resource::PITCHED, [4096, 8, 8, 32]);
        let format = Change::Format {
            format: 0x20,
            channels: 1,
        };
        assert_eq!(reference.apply(&format), Err(CUresult::INVALID_VALUE));
        reference.bind(resource::LINEAR, [4096, 32, 0, 0]);
        assert_eq!(reference.apply(&format), Ok(()));
        assert_eq!(
            reference.resource().unwrap().words[..3],
            [4096, 0x1_0000_0020, 32]
        );
    }
}
