//! The options of a JIT compilation or linking that are plain values, as they travel.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most options of one call.
pub const MAX: usize = 64;
/// Most bytes of a name; what is longer is cut, since it is only for messages.
pub const MAX_NAME_BYTES: usize = 4096;

/// `CU_JIT_*` whose values are numbers that are only read: registers, threads of a block, optimisation, target, fallback, debug and line information, verbosity,
/// cache, fast compilation, link-time optimisation and its arithmetic, what is dropped, position independence, and limits of a block.
const VALUES: [u32; 21] = [
    0, 1, 7, 8, 9, 10, 11, 12, 13, 14, 16, 20, 21, 22, 23, 24, 29, 30, 31, 32, 33,
];

/// `CU_JIT_*`: a buffer for messages, and its size; for information, and for errors.
pub const INFORMATION: (u32, u32) = (3, 4);
/// The same for errors.
pub const ERRORS: (u32, u32) = (5, 6);
/// `CU_JIT_WALL_TIME`: told, in milliseconds.
pub const WALL_TIME: u32 = 2;

/// Whether an option is a value: the others are buffers, arrays of names, or told by the driver.
#[must_use]
pub fn is_value(option: u32) -> bool {
    VALUES.contains(&option)
}

/// One option.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LinkOption {
    /// `CU_JIT_*`.
    pub option: U32,
    /// Its value, as the program put it into a pointer's place.
    pub value: U64,
}

const _: () = assert!(size_of::<LinkOption>() == 12);

impl LinkOption {
    /// An option and its value.
    #[must_use]
    pub fn new(option: u32, value: u64) -> Self {
        Self {
            option: option.into(),
            value: value.into(),
        }
    }
}
