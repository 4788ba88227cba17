//! What a texture, surface or sampler is, as it lies in device memory.

use driver_api::array::Shape;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first word of a texture's descriptor.
pub const TEXTURE: u64 = 0x6770_7572_7465_7874;
/// The first word of a surface's descriptor.
pub const SURFACE: u64 = 0x6770_7572_7375_7266;
/// The first word of a sampler's descriptor.
pub const SAMPLER: u64 = 0x6770_7572_7361_6d70;
/// Of a sampler's flags: coordinates are in elements, whatever the texture says.
pub const FORCE_ELEMENTS: u32 = 1 << 31;
/// `CU_TRSF_NORMALIZED_COORDINATES`
pub(super) const NORMALISED: u32 = 2;
/// Most levels that a descriptor can have.
const MAX_LEVELS: u32 = 32;

/// What is read: [`Descriptor::resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Resource {
    /// An array, or levels of one.
    Array = 0,
    /// A line of elements, read by number; what is outside is zero.
    Linear = 1,
    /// Rows with a pitch.
    Pitched = 2,
}

/// A descriptor.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Descriptor {
    /// [`TEXTURE`], [`SURFACE`] or [`SAMPLER`].
    pub magic: u64,
    /// The first element of the array's largest level, or of the memory.
    pub base: u64,
    /// Elements in each dimension, as in the array's description.
    pub size: [u64; 3],
    /// Bytes from a row to the next, of rows with a pitch.
    pub pitch: u64,
    /// `CU_AD_FORMAT_*`
    pub format: u32,
    /// Channels of an element.
    pub channels: u32,
    /// `CUDA_ARRAY3D_*`
    pub array_flags: u32,
    /// A [`Resource`].
    pub resource: u32,
    /// The level of the array that is level 0 here, and how many there are.
    pub first_level: u32,
    /// How many levels there are.
    pub levels: u32,
    /// `CU_TR_ADDRESS_MODE_*` of each dimension.
    pub address_modes: [u32; 3],
    /// `CU_TR_FILTER_MODE_*`
    pub filter: u32,
    /// The same between levels.
    pub mipmap_filter: u32,
    /// `CU_TRSF_*`
    pub flags: u32,
    /// Added to a level.
    pub bias: f32,
    /// The lowest level, and the highest.
    pub level_clamp: [f32; 2],
    /// What is outside, where the address mode says so.
    pub border: [f32; 4],
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Descriptor>() == 128);

/// One level, ready to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) base: u64,
    /// Elements in each dimension, at least 1. The last is slices or layers.
    pub(super) size: [i64; 3],
    pub(super) row: u64,
    pub(super) slice: u64,
}

impl Descriptor {
    /// A descriptor of nothing.
    #[must_use]
    pub fn new(magic: u64, resource: Resource) -> Self {
        Self {
            magic,
            base: 0,
            size: [0; 3],
            pitch: 0,
            format: 0,
            channels: 1,
            array_flags: 0,
            resource: resource as u32,
            first_level: 0,
            levels: 1,
            address_modes: [0; 3],
            filter: 0,
            mipmap_filter: 0,
            flags: 0,
            bias: 0.0,
            level_clamp: [0.0; 2],
            border: [0.0; 4],
            reserved: 0,
        }
    }

    fn shape(&self) -> Shape {
        // A kernel can write here: numbers that no device has are no numbers of bytes either.
        let bounded = |size: u64| size.min(1 << 32);
        Shape {
            width: bounded(self.size[0]),
            height: bounded(self.size[1]),
            depth: bounded(self.size[2]),
            format: self.format,
            channels: self.channels.min(4),
            flags: self.array_flags,
        }
    }

    /// Bytes of an element.
    pub(super) fn element_bytes(&self) -> u64 {
        self.shape().element_bytes()
    }

    /// The last level.
    pub(super) fn last_level(&self) -> u32 {
        self.levels.clamp(1, MAX_LEVELS) - 1
    }

    pub(super) fn level(&self, level: u32) -> Level {
        let number = self.first_level.min(MAX_LEVELS) + level.min(self.last_level());
        let whole = self.shape();
        let shape = whole.level(number);
        let [row, rows, _] = shape.extent();
        let row = match self.resource {
            resource if resource == Resource::Pitched as u32 => self.pitch,
            _ => row,
        };
        Level {
            base: self
                .base
                .wrapping_add(whole.bytes_of_levels(number).unwrap_or(0)),
            size: [shape.width, shape.height, shape.depth].map(|size| size.max(1) as i64),
            row,
            slice: row.wrapping_mul(rows),
        }
    }

    /// The shape of one level.
    pub(super) fn shape_of(&self, level: u32) -> Shape {
        let number = self.first_level.min(MAX_LEVELS) + level.min(self.last_level());
        self.shape().level(number)
    }

    /// Reads as a sampler says.
    pub(super) fn set_sampler(&mut self, sampler: &Self) {
        self.address_modes = sampler.address_modes;
        (self.filter, self.mipmap_filter) = (sampler.filter, sampler.mipmap_filter);
        (self.bias, self.level_clamp) = (sampler.bias, sampler.level_clamp);
        self.border = sampler.border;
        if sampler.flags & FORCE_ELEMENTS != 0 {
            self.flags &= !NORMALISED;
        }
    }
}
