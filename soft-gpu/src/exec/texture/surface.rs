//! The arithmetic of surfaces: bytes at places of an array, or its elements.
//!
//! The first coordinate counts bytes, of a formatted access elements. What is outside is a fault, or is moved to the nearest element, or is zero and takes
//! nothing. What is stored in a format is what the nearest number of that format is: integers saturate and halves are rounded, as OpenCL has it.

use driver_api::array::format;

use super::super::fault::FaultKind;
use super::super::half::{F16, Half};
use super::Elements;
use super::descriptor::Descriptor;
use super::sample::Geometry;

/// What happens outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Bounds {
    Trap,
    Clamp,
    Zero,
}

/// What is done with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reduction {
    Add,
    Min,
    Max,
    MinSigned,
    MaxSigned,
    And,
    Or,
}

/// Loads, stores or reduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Load,
    Store,
    Reduce(Reduction),
}

/// An access; in [`Op::immediate`](super::Op).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) geometry: Geometry,
    pub(crate) bounds: Bounds,
    pub(crate) act: Act,
    /// Whether places and values are the surface's elements.
    pub(crate) is_formatted: bool,
    /// Bytes of a value, and how many values.
    pub(crate) bytes: u8,
    pub(crate) count: u8,
}

/// Kind, words, address.
type Failure = (FaultKind, &'static str, Option<u64>);

impl Access {
    /// As one number.
    pub(crate) fn code(self) -> i64 {
        let act = match self.act {
            Act::Load => 0,
            Act::Store => 1,
            Act::Reduce(reduction) => 2 + reduction as u8,
        };
        i64::from(self.geometry as u8)
            | i64::from(self.bounds as u8) << 4
            | i64::from(act) << 8
            | i64::from(self.bytes) << 16
            | i64::from(self.count) << 24
            | i64::from(self.is_formatted) << 32
    }

    pub(super) fn of(code: i64) -> Self {
        use Reduction::*;
        let reductions = [Add, Min, Max, MinSigned, MaxSigned, And, Or];
        Self {
            geometry: Geometry::of(code as u8 & 15),
            bounds: match code >> 4 & 15 {
                0 => Bounds::Trap,
                1 => Bounds::Clamp,
                _ => Bounds::Zero,
            },
            act: match (code >> 8) as u8 {
                0 => Act::Load,
                1 => Act::Store,
                number => Act::Reduce(reductions[usize::from(number - 2) % reductions.len()]),
            },
            bytes: (code >> 16) as u8,
            count: (code >> 24) as u8,
            is_formatted: code >> 32 & 1 != 0,
        }
    }

    /// The address of a place, or nothing where an access outside does nothing.
    fn address(&self, descriptor: &Descriptor, place: [i32; 4]) -> Result<Option<u64>, Failure> {
        let level = descriptor.level(0);
        let bytes = match (self.is_formatted, self.act) {
            (true, Act::Store) => descriptor.element_bytes() as i64,
            _ => i64::from(self.bytes) * i64::from(self.count),
        };
        let [mut x, mut y, mut z] = match self.geometry {
            Geometry::Line => [place[0], 0, 0],
            Geometry::Plane => [place[0], place[1], 0],
            Geometry::Volume => [place[0], place[1], place[2]],
            Geometry::Lines => [place[1], 0, place[0]],
            _ => [place[1], place[2], place[0]],
        }
        .map(i64::from);
        if self.is_formatted {
            x *= descriptor.element_bytes() as i64;
        }
        let last = [
            // A kernel can write any pitch.
            (level.row as i64).saturating_sub(bytes),
            level.size[1] - 1,
            level.size[2] - 1,
        ];
        let is_inside = [x, y, z]
            .iter()
            .zip(last)
            .all(|(at, last)| (0..=last).contains(at));
        match self.bounds {
            _ if is_inside => {}
            Bounds::Zero => return Ok(None),
            Bounds::Trap => return Err((FaultKind::IllegalAddress, "outside of a surface", None)),
            // Wider than a row: there is no nearest place.
            Bounds::Clamp if last[0] < 0 => return Ok(None),
            Bounds::Clamp => {
                [x, y, z] = [
                    x.clamp(0, last[0]),
                    y.min(last[1]).max(0),
                    z.min(last[2]).max(0),
                ];
            }
        }
        if x % bytes.max(1) != 0 {
            let words = "a place in a surface that is no multiple of the access's size";
            return Err((FaultKind::Misaligned, words, None));
        }
        let offset = (z as u64)
            .wrapping_mul(level.slice)
            .wrapping_add((y as u64).wrapping_mul(level.row))
            .wrapping_add(x as u64);
        Ok(Some(level.base.wrapping_add(offset)))
    }

    /// Does it: what was loaded.
    pub(super) fn perform(
        &self,
        descriptor: &Descriptor,
        place: [i32; 4],
        values: [u64; 4],
        elements: &mut Elements<'_>,
    ) -> Result<[u64; 4], Failure> {
        let mut loaded = [0; 4];
        let Some(address) = self.address(descriptor, place)? else {
            return Ok(loaded);
        };
        let missing = |address| {
            (
                FaultKind::IllegalAddress,
                "a surface's memory",
                Some(address),
            )
        };
        let (bytes, count) = (usize::from(self.bytes).clamp(1, 8), usize::from(self.count));
        let all = (bytes * count).min(16);
        match self.act {
            Act::Load => {
                let element = elements.read(address, all).map_err(missing)?;
                for (value, part) in loaded.iter_mut().zip(element[..all].chunks(bytes)) {
                    let mut word = [0; 8];
                    word[..part.len()].copy_from_slice(part);
                    *value = u64::from_le_bytes(word);
                }
            }
            Act::Store if self.is_formatted => {
                let words = values.map(|value| value as u32);
                let element = formatted(descriptor.format, words);
                let bytes = (descriptor.element_bytes() as usize).min(element.len());
                elements
                    .write(address, &element[..bytes])
                    .map_err(missing)?;
            }
            Act::Store => {
                let mut element = [0; 16];
                for (part, value) in element[..all].chunks_mut(bytes).zip(values) {
                    let word = value.to_le_bytes();
                    part.copy_from_slice(&word[..part.len()]);
                }
                elements.write(address, &element[..all]).map_err(missing)?;
            }
            Act::Reduce(reduction) => {
                let is_signed = self.is_formatted
                    && matches!(descriptor.format, format::S8 | format::S16 | format::S32);
                let reduction = if is_signed {
                    reduction.signed()
                } else {
                    reduction
                };
                let change = |value: u64| reduction.apply(value, values[0], bytes);
                elements.change(address, bytes, change).map_err(missing)?;
            }
        }
        Ok(loaded)
    }
}

/// An element of four channels in a format, of the words of a formatted store. Channels that are not stored are zero.
fn formatted(format: u32, words: [u32; 4]) -> [u8; 16] {
    let mut element = [0; 16];
    for (index, word) in words.into_iter().enumerate() {
        let signed = word.cast_signed();
        let (bytes, value) = match format {
            format::U8 => (1, word.min(0xff)),
            format::S8 => (1, signed.clamp(-0x80, 0x7f).cast_unsigned()),
            format::U16 => (2, word.min(0xffff)),
            format::S16 => (2, signed.clamp(-0x8000, 0x7fff).cast_unsigned()),
            format::F16 => (2, F16::nearest(f32::from_bits(word)).0.into()),
            _ => (4, word),
        };
        element[index * bytes..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
    element
}

impl Reduction {
    /// The same of signed numbers.
    fn signed(self) -> Self {
        match self {
            Self::Min => Self::MinSigned,
            Self::Max => Self::MaxSigned,
            other => other,
        }
    }

    /// What a word of so many bytes becomes.
    fn apply(self, value: u64, operand: u64, bytes: usize) -> u64 {
        let extended = |word: u64| match bytes {
            8 => word.cast_signed(),
            _ => i64::from((word as u32).cast_signed()),
        };
        let signed = |choose: fn(i64, i64) -> i64| {
            choose(extended(value), extended(operand)).cast_unsigned()
        };
        match self {
            Self::Add => value.wrapping_add(operand),
            Self::Min => value.min(operand),
            Self::Max => value.max(operand),
            Self::MinSigned => signed(i64::min),
            Self::MaxSigned => signed(i64::max),
            Self::And => value & operand,
            Self::Or => value | operand,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::descriptor::Resource;
    use super::*;

    #[test]
    fn an_access_wider_than_a_row_touches_nothing() {
        let mut row = Descriptor::new(0, Resource::Array);
        (row.base, row.size, row.format) = (4096, [3, 1, 0], 0x20);
        let access = |bounds, count| Access {
            geometry: Geometry::Plane,
            bounds,
            act: Act::Store,
            is_formatted: false,
            bytes: 4,
            count,
        };
        let at = |bounds, count, x| access(bounds, count).address(&row, [x, 0, 0, 0]);
        assert!(matches!(at(Bounds::Clamp, 1, 400), Ok(Some(4104))));
        assert!(matches!(at(Bounds::Clamp, 1, -4), Ok(Some(4096))));
        assert!(matches!(at(Bounds::Clamp, 4, 0), Ok(None)));
        assert!(matches!(at(Bounds::Zero, 4, 0), Ok(None)));
        assert!(at(Bounds::Trap, 4, 0).is_err());
        (row.resource, row.pitch) = (Resource::Pitched as u32, 1 << 63);
        let outside = access(Bounds::Zero, 1).address(&row, [0; 4]);
        assert!(matches!(outside, Ok(None)), "no row is so long");
    }
}
