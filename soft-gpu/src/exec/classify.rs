//! The thirty-two addresses of a memory operation at one glance: their bounds, and whether they are equal or
//! neighbours. Written with intrinsics, since what a compiler makes of the loop is three times slower.
//!
//! # Safety
//!
//! The vector versions are only reached through a path that the machine has. They are always inlined into handlers
//! that are compiled for that path, which a function with features of its own would not be.
#![expect(unsafe_code, reason = "vector intrinsics")]

use super::path::Path;
use super::rows::{Isa, LANES};

/// How addresses lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All lanes are active, and each accesses the element after its neighbour's.
    Contiguous,
    /// All active lanes access the same element.
    Uniform,
    /// All lanes are active, and every eight access neighbouring elements or the same one: what a block does that is eight or sixteen
    /// threads wide.
    Groups,
    /// Anything else.
    Scattered,
    /// Good, but elsewhere: the host addresses are in the context.
    Translated,
    /// Not allowed: the context holds the fault.
    Refused,
}

/// What [`classify`] finds about the active lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The lowest address.
    pub(crate) low: u64,
    /// The highest address.
    pub(crate) high: u64,
    /// Addresses or-ed together, enough of them to tell the alignment of all.
    pub(crate) union: u64,
    /// How they lie.
    pub(crate) shape: Shape,
    /// Where [`Shape::Groups`] lie; of other shapes nothing.
    pub(crate) groups: Groups,
}

/// Four times eight lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The address of each group's first lane.
    pub(crate) first: [u64; 4],
    /// Of which groups, as bits, all lanes access the same element.
    pub(crate) same: u8,
}

impl Groups {
    /// The bounds of these groups; none, if there is one that is neither. Of which groups the lanes are neighbours, and of which they are
    /// the same, is told as bits.
    #[inline(always)]
    fn bounds(addresses: &[u64; LANES], neighbours: u8, same: u8) -> Option<Bounds> {
        if neighbours | same != 0b1111 {
            return None;
        }
        let mut bounds = Bounds {
            low: u64::MAX,
            high: 0,
            union: 0,
            shape: Shape::Groups,
            groups: Groups {
                first: [0; 4],
                same,
            },
        };
        for group in 0..4 {
            let first = addresses[8 * group];
            let last = addresses[8 * group + 7];
            // A group that wraps around is refused by its bounds.
            bounds.low = bounds.low.min(first);
            bounds.high = bounds.high.max(last).max(first);
            bounds.union |= first | last;
            bounds.groups.first[group] = first;
        }
        Some(bounds)
    }
}

/// Looks at the lanes of `addresses` that are set in `active`, of which there is at least one. `size` is that of
/// an element.
#[inline(always)]
pub(crate) fn classify<P: Isa>(addresses: &[u64; LANES], active: u32, size: u64) -> Bounds {
    #[cfg(target_arch = "x86_64")]
    {
        match P::PATH {
            // SAFETY: handlers of this path run only where the machine has it.
            Path::Avx512 => return unsafe { avx512(addresses, active, size) },
            // SAFETY: as above.
            Path::Avx2 if active == u32::MAX => return unsafe { avx2(addresses, size) },
            _ => {}
        }
    }
    portable(addresses, active, size)
}

/// [`classify`] for any machine.
#[inline(always)]
fn portable(addresses: &[u64; LANES], active: u32, size: u64) -> Bounds {
    let first = addresses[0];
    let (mut low, mut high, mut union) = (u64::MAX, 0, 0);
    let mut steps = 0;
    for (lane, &address) in addresses.iter().enumerate() {
        steps |= address ^ first.wrapping_add(lane as u64 * size);
        let on = (active >> lane) & 1 != 0;
        low = if on { low.min(address) } else { low };
        high = if on { high.max(address) } else { high };
        union |= if on { address } else { 0 };
    }
    if steps != 0 && low != high && active == u32::MAX {
        let (neighbours, same) = groups(addresses, size);
        if let Some(bounds) = Groups::bounds(addresses, neighbours, same) {
            return bounds;
        }
    }
    let shape = if steps == 0 && active == u32::MAX {
        Shape::Contiguous
    } else if low == high {
        Shape::Uniform
    } else {
        Shape::Scattered
    };
    Bounds {
        low,
        high,
        union,
        shape,
        groups: Groups::default(),
    }
}

/// Of which groups the lanes access neighbouring elements, and of which all the same one, as bits.
#[inline(always)]
fn groups(addresses: &[u64; LANES], size: u64) -> (u8, u8) {
    let (mut neighbours, mut same) = (0, 0);
    for group in 0..4 {
        let first = addresses[8 * group];
        let (mut steps, mut spread) = (0, 0);
        for lane in 0..8 {
            let address = addresses[8 * group + lane];
            steps |= address ^ first.wrapping_add(lane as u64 * size);
            spread |= address ^ first;
        }
        neighbours |= u8::from(steps == 0) << group;
        same |= u8::from(spread == 0) << group;
    }
    (neighbours, same)
}

/// The bounds of a contiguous access that starts at `first`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn contiguous(first: u64, size: u64) -> Bounds {
    Bounds {
        low: first,
        high: first.wrapping_add(31 * size),
        union: first,
        shape: Shape::Contiguous,
        groups: Groups::default(),
    }
}

/// The bounds of a uniform access to `first`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn uniform(first: u64) -> Bounds {
    Bounds {
        low: first,
        high: first,
        union: first,
        shape: Shape::Uniform,
        groups: Groups::default(),
    }
}

/// # Safety
///
/// The machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn avx512(addresses: &[u64; LANES], active: u32, size: u64) -> Bounds {
    // SAFETY: the machine has the instructions, and 32 addresses are four vectors.
    unsafe {
        use std::arch::x86_64::*;
        let vectors: [__m512i; 4] = std::mem::transmute_copy(addresses);
        let first = addresses[0];
        if active == u32::MAX {
            let base = _mm512_set1_epi64(first as i64);
            let step = _mm512_mullo_epi64(
                _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0),
                _mm512_set1_epi64(size as i64),
            );
            let next = _mm512_set1_epi64(8 * size as i64);
            let (mut expected, mut steps, mut spread) = (
                _mm512_add_epi64(base, step),
                _mm512_setzero_si512(),
                _mm512_setzero_si512(),
            );
            for vector in vectors {
                steps = _mm512_or_si512(steps, _mm512_xor_si512(vector, expected));
                spread = _mm512_or_si512(spread, _mm512_xor_si512(vector, base));
                expected = _mm512_add_epi64(expected, next);
            }
            if _mm512_test_epi64_mask(steps, steps) == 0 {
                return contiguous(first, size);
            }
            if _mm512_test_epi64_mask(spread, spread) == 0 {
                return uniform(first);
            }
            let (mut neighbours, mut same) = (0, 0);
            for (group, vector) in vectors.into_iter().enumerate() {
                let base = _mm512_set1_epi64(addresses[8 * group] as i64);
                let steps = _mm512_cmpneq_epi64_mask(vector, _mm512_add_epi64(base, step));
                neighbours |= u8::from(steps == 0) << group;
                same |= u8::from(_mm512_cmpneq_epi64_mask(vector, base) == 0) << group;
            }
            if let Some(bounds) = Groups::bounds(addresses, neighbours, same) {
                return bounds;
            }
        }
        let (mut low, mut high, mut union) = (
            _mm512_set1_epi64(-1),
            _mm512_setzero_si512(),
            _mm512_setzero_si512(),
        );
        for (index, vector) in vectors.into_iter().enumerate() {
            let lanes = (active >> (8 * index)) as u8;
            low = _mm512_mask_min_epu64(low, lanes, low, vector);
            high = _mm512_mask_max_epu64(high, lanes, high, vector);
            union = _mm512_mask_or_epi64(union, lanes, union, vector);
        }
        let (low, high) = (_mm512_reduce_min_epu64(low), _mm512_reduce_max_epu64(high));
        let shape = if low == high {
            Shape::Uniform
        } else {
            Shape::Scattered
        };
        Bounds {
            low,
            high,
            union: _mm512_reduce_or_epi64(union) as u64,
            shape,
            groups: Groups::default(),
        }
    }
}

/// # Safety
///
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn avx2(addresses: &[u64; LANES], size: u64) -> Bounds {
    // SAFETY: the machine has the instructions; 32 addresses are eight vectors, and four lanes are one.
    unsafe {
        use std::arch::x86_64::*;
        let vectors: [__m256i; 8] = std::mem::transmute_copy(addresses);
        let first = addresses[0];
        let base = _mm256_set1_epi64x(first as i64);
        let stride = size as i64;
        let next = _mm256_set1_epi64x(4 * stride);
        let mut expected =
            _mm256_add_epi64(base, _mm256_set_epi64x(3 * stride, 2 * stride, stride, 0));
        let (mut steps, mut spread) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for vector in vectors {
            steps = _mm256_or_si256(steps, _mm256_xor_si256(vector, expected));
            spread = _mm256_or_si256(spread, _mm256_xor_si256(vector, base));
            expected = _mm256_add_epi64(expected, next);
        }
        if _mm256_testz_si256(steps, steps) != 0 {
            return contiguous(first, size);
        }
        if _mm256_testz_si256(spread, spread) != 0 {
            return uniform(first);
        }
        let step = _mm256_set_epi64x(3 * stride, 2 * stride, stride, 0);
        let (mut neighbours, mut same) = (0, 0);
        for group in 0..4 {
            let base = _mm256_set1_epi64x(addresses[8 * group] as i64);
            let [low, high] = [vectors[2 * group], vectors[2 * group + 1]];
            let expected = _mm256_add_epi64(base, step);
            let steps = _mm256_or_si256(
                _mm256_xor_si256(low, expected),
                _mm256_xor_si256(high, _mm256_add_epi64(expected, next)),
            );
            let spread = _mm256_or_si256(_mm256_xor_si256(low, base), _mm256_xor_si256(high, base));
            neighbours |= u8::from(_mm256_testz_si256(steps, steps) != 0) << group;
            same |= u8::from(_mm256_testz_si256(spread, spread) != 0) << group;
        }
        if let Some(bounds) = Groups::bounds(addresses, neighbours, same) {
            return bounds;
        }
        // Signed comparison of addresses with the top bit flipped orders them as unsigned numbers.
        let flip = _mm256_set1_epi64x(i64::MIN);
        let (mut low, mut high, mut union) = (
            _mm256_set1_epi64x(i64::MAX),
            _mm256_set1_epi64x(i64::MIN),
            _mm256_setzero_si256(),
        );
        for vector in vectors {
            let signed = _mm256_xor_si256(vector, flip);
            low = _mm256_blendv_epi8(low, signed, _mm256_cmpgt_epi64(low, signed));
            high = _mm256_blendv_epi8(high, signed, _mm256_cmpgt_epi64(signed, high));
            union = _mm256_or_si256(union, vector);
        }
        let [low, high, union]: [[u64; 4]; 3] = std::mem::transmute([
            _mm256_xor_si256(low, flip),
            _mm256_xor_si256(high, flip),
            union,
        ]);
        let fold = |lanes: [u64; 4], join: fn(u64, u64) -> u64| {
            lanes.into_iter().reduce(join).unwrap_or(0)
        };
        Bounds {
            low: fold(low, u64::min),
            high: fold(high, u64::max),
            union: fold(union, |a, b| a | b),
            shape: Shape::Scattered,
            groups: Groups::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Avx2, Avx512, Plain};
    use super::*;

    fn on_all_paths(addresses: &[u64; LANES], active: u32, size: u64) -> Vec<Bounds> {
        Path::available()
            .iter()
            .map(|path| match path {
                Path::Plain => classify::<Plain>(addresses, active, size),
                Path::Avx2 => classify::<Avx2>(addresses, active, size),
                Path::Avx512 => classify::<Avx512>(addresses, active, size),
            })
            .collect()
    }

    #[test]
    fn paths_agree() {
        let run = std::array::from_fn(|lane| 0x7000_0000_0000 + 4 * lane as u64);
        let same = [0xffff_0000_0000_1000; LANES];
        let wild = std::array::from_fn(|lane| (lane as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Sixteen threads wide: a row of a matrix for each half, one element for each half, and some of both.
        let rows = std::array::from_fn(|lane| 0x1000 * (lane as u64 / 16) + 4 * (lane as u64 % 16));
        let halves = std::array::from_fn(|lane| 0x8000 - 0x100 * (lane as u64 / 16));
        let mut mixed: [u64; LANES] = rows;
        mixed[8..16].fill(0x40);
        for (addresses, size) in [
            (run, 4),
            (run, 8),
            (same, 4),
            (wild, 1),
            (rows, 4),
            (halves, 4),
            (mixed, 4),
        ] {
            for active in [u32::MAX, 1, 0x8000_0000, 0x0ff0_1234] {
                let mut all = on_all_paths(&addresses, active, size);
                for bounds in &mut all {
                    bounds.union &= size - 1;
                }
                assert!(all.iter().all(|bounds| *bounds == all[0]), "{all:x?}");
            }
        }
        for (addresses, same) in [(rows, 0), (halves, 0b1111), (mixed, 0b0010)] {
            for bounds in on_all_paths(&addresses, u32::MAX, 4) {
                assert_eq!(bounds.shape, Shape::Groups);
                assert_eq!(bounds.low, addresses.into_iter().fold(u64::MAX, u64::min));
                assert_eq!(bounds.high, addresses.into_iter().fold(0, u64::max));
                let first = [0, 8, 16, 24].map(|lane| addresses[lane]);
                assert_eq!(bounds.groups, Groups { first, same });
            }
        }
    }
}
