//! Tensor maps: the form of our own in which one is 128 bytes.
//!
//! *What:* a map is opaque to programs, so its form is the driver's choice; here who encodes one and who reads it are one crate. *Rules:* the bytes come from
//! a program's memory and can be anything: what is read is checked as what is encoded.

use driver_api::tensor_map::{Encoding, MAX_RANK, Map, kind};

/// Bytes of an element by `CUtensorMapDataType`: integers of 8 to 64 bits, floats, and packed ones of 4 and 6 bits by sixteen.
const ELEMENT_BYTES: [u64; 16] = [1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4, 8, 16, 16];
/// `CU_TENSOR_MAP_DATA_TYPE_FLOAT16` to `_TFLOAT32_FTZ`.
const FLOATS: core::ops::RangeInclusive<u32> = 6..=12;
/// `CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B` and `_16U6_ALIGN16B`.
const ALIGNED_TO_16: core::ops::RangeInclusive<u32> = 14..=15;
/// `CU_TENSOR_MAP_INTERLEAVE_NONE` and `_32B`.
pub(crate) const NOT_INTERLEAVED: u32 = 0;
const INTERLEAVED_BY_32: u32 = 2;
/// `CU_TENSOR_MAP_SWIZZLE_NONE` to `_128B`, and the last that is known.
const SWIZZLED_BY_32: u32 = 1;
const SWIZZLED_BY_128: u32 = 3;
const LAST_SWIZZLE: u32 = 6;
const LAST_PROMOTION: u32 = 3;
/// `CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA`.
pub(crate) const FILLED_WITH_NAN: u32 = 1;
/// The first byte of a map of ours.
const MARK: u8 = 0x7a;
/// Where the address is in it.
const ADDRESS: core::ops::Range<usize> = 8..16;

/// Bytes of an element of a type that a kernel's copies know, unpacked.
pub(crate) fn element_bytes(data_type: u32) -> Option<u64> {
    /// The first packed type.
    const PACKED: u32 = 13;
    let bytes = ELEMENT_BYTES.get(data_type as usize).copied();
    bytes.filter(|_| data_type < PACKED)
}

/// What of an address depends on the other parameters.
fn fits(address: u64, data_type: u32, interleave: u32) -> bool {
    let wide = interleave == INTERLEAVED_BY_32 || ALIGNED_TO_16.contains(&data_type);
    address.is_multiple_of(if wide { 32 } else { 16 })
}

/// Whether the parameters are what the API allows.
fn is_good(of: &Encoding) -> bool {
    let rank = of.rank as usize;
    let Some(bytes) = ELEMENT_BYTES.get(of.data_type as usize) else {
        return false;
    };
    if !(1..=MAX_RANK).contains(&rank) {
        return false;
    }
    let is_interleaved = of.interleave != NOT_INTERLEAVED;
    let known = of.interleave <= INTERLEAVED_BY_32
        && of.swizzle <= LAST_SWIZZLE
        && of.promotion <= LAST_PROMOTION
        && of.fill <= FILLED_WITH_NAN
        && of.mode <= 1;
    let together = (of.fill != FILLED_WITH_NAN || FLOATS.contains(&of.data_type))
        && (!is_interleaved || of.rank >= 3)
        && (of.interleave != INTERLEAVED_BY_32 || of.swizzle == SWIZZLED_BY_32);
    let dimensions = of.dimensions.iter().take(rank);
    let strides = of.strides.iter().take(rank - 1);
    let element_strides = of.element_strides.iter().take(rank);
    let lists = dimensions
        .copied()
        .all(|size| (1..=1 << 32).contains(&size))
        && strides
            .copied()
            .all(|stride| stride < 1 << 40 && fits(stride, of.data_type, of.interleave))
        && element_strides
            .copied()
            .all(|stride| (1..=8).contains(&stride));
    let shape = if of.kind == kind::TILED {
        let boxes = &of.box_dimensions[..rank];
        let row = u64::from(boxes[0]) * bytes;
        // A row of a box is no longer than what its pieces are swapped within.
        let is_within = match of.swizzle {
            SWIZZLED_BY_32..=SWIZZLED_BY_128 if !is_interleaved => row <= 16 << of.swizzle,
            _ => true,
        };
        boxes.iter().all(|size| (1..=256).contains(size))
            && (is_interleaved || row.is_multiple_of(16))
            && is_within
    } else {
        of.channels <= 256 && of.pixels <= 1024
    };
    known && together && lists && shape && fits(of.address, of.data_type, of.interleave)
}

/// The map that is described, if it is one that the API allows.
pub fn encode(of: &Encoding) -> Option<Map> {
    if !is_good(of) {
        return None;
    }
    let mut map = [0; 128];
    let codes = [
        of.kind,
        of.data_type,
        of.rank,
        of.interleave,
        of.mode,
        of.swizzle,
        of.promotion,
    ];
    map[0] = MARK;
    for (place, value) in map[1..].iter_mut().zip(codes) {
        *place = value as u8;
    }
    map[ADDRESS].copy_from_slice(&of.address.to_le_bytes());
    let mut at = ADDRESS.end;
    let mut put = |bytes: &[u8]| {
        map[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for index in 0..MAX_RANK {
        put(&(of.dimensions[index].wrapping_sub(1) as u32).to_le_bytes());
        put(&(of.box_dimensions[index] as u16).to_le_bytes());
        put(&[of.element_strides[index] as u8]);
    }
    for stride in of.strides {
        // Less than 2^40.
        put(&stride.to_le_bytes()[..5]);
    }
    for corner in of.lower_corner.iter().chain(&of.upper_corner) {
        put(&(*corner as i16).to_le_bytes());
    }
    put(&(of.channels as u16).to_le_bytes());
    put(&(of.pixels as u16).to_le_bytes());
    put(&[of.fill as u8]);
    Some(map)
}

/// What a map describes, if it is one of ours: its dimensions, strides and boxes are those of its rank.
pub(crate) fn decode(map: &Map) -> Option<Encoding> {
    let [
        mark,
        kind,
        data_type,
        rank,
        interleave,
        mode,
        swizzle,
        promotion,
        ..,
    ] = *map;
    let mut rest = &map[ADDRESS.start..];
    let mut take = |bytes: usize| {
        let (number, behind) = rest.split_at(bytes.min(rest.len()));
        rest = behind;
        let number = number.iter().rev();
        number.fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let mut of = Encoding {
        address: take(8),
        kind: kind.into(),
        data_type: data_type.into(),
        rank: rank.into(),
        interleave: interleave.into(),
        mode: mode.into(),
        swizzle: swizzle.into(),
        promotion: promotion.into(),
        ..Encoding::default()
    };
    for index in 0..MAX_RANK {
        of.dimensions[index] = take(4) + 1;
        of.box_dimensions[index] = take(2) as u32;
        of.element_strides[index] = take(1) as u32;
    }
    for stride in &mut of.strides {
        *stride = take(5);
    }
    for corner in of.lower_corner.iter_mut().chain(&mut of.upper_corner) {
        *corner = take(2) as i16 as i32;
    }
    (of.channels, of.pixels, of.fill) = (take(2) as u32, take(2) as u32, take(1) as u32);
    (mark == MARK && is_good(&of)).then_some(of)
}

/// Whether these are the bytes of a map of ours.
pub(crate) fn is_map(map: &Map) -> bool {
    map[0] == MARK
}

/// Puts another address into a map. Whether it is a map, and the address fits.
pub(crate) fn replace_address(map: &mut Map, address: u64) -> bool {
    let [mark, _, data_type, _, interleave, ..] = *map;
    let is_good = mark == MARK && fits(address, data_type.into(), interleave.into());
    if is_good {
        map[ADDRESS].copy_from_slice(&address.to_le_bytes());
    }
    is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiled() -> Encoding {
        Encoding {
            kind: kind::TILED,
            data_type: 7,
            rank: 3,
            address: 0x1234_5670,
            dimensions: [100, 1 << 32, 3, 1, 1],
            strides: [416, (1 << 40) - 16, 0, 0],
            box_dimensions: [8, 256, 2, 1, 1],
            element_strides: [1, 2, 8, 1, 1],
            swizzle: 1,
            fill: 1,
            ..Encoding::default()
        }
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let of = tiled();
        let mut map = encode(&of).unwrap();
        assert_eq!(decode(&map), Some(of));
        assert!(!replace_address(&mut map, 8) && replace_address(&mut map, 4096));
        let moved = Encoding {
            address: 4096,
            ..of
        };
        assert_eq!(decode(&map), Some(moved));
        let columns = Encoding {
            kind: kind::IM2COL,
            lower_corner: [-3, 2, 0],
            upper_corner: [-1, 0, 7],
            channels: 64,
            pixels: 256,
            swizzle: 0,
            ..of
        };
        let map = encode(&columns).unwrap();
        assert_eq!(decode(&map), Some(columns));
    }

    #[test]
    fn what_the_api_does_not_allow_is_no_map() {
        let wrong: [fn(&mut Encoding); 9] = [
            |of| of.rank = 6,
            |of| of.rank = 0,
            |of| of.data_type = 16,
            |of| of.dimensions[0] = 0,
            |of| of.strides[0] += 8,
            |of| of.box_dimensions[1] = 257,
            |of| of.box_dimensions[0] = 9,
            // More than a row may have with this swizzle.
            |of| of.box_dimensions[0] = 12,
            |of| of.element_strides[2] = 9,
        ];
        for change in wrong {
            let mut of = tiled();
            change(&mut of);
            assert_eq!(encode(&of), None, "{of:?}");
        }
    }

    /// Whatever the bytes are: what is read keeps to the API's limits, and is what the bytes say.
    #[test]
    fn any_bytes_are_a_good_map_or_none() {
        let good = encode(&tiled()).unwrap();
        let mut seed = 1u64;
        let mut read = 0;
        for _ in 0..200_000 {
            let mut map = good;
            for _ in 0..3 {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                map[(seed >> 33) as usize % 96] = (seed >> 56) as u8;
            }
            if let Some(of) = decode(&map) {
                let again = encode(&of).unwrap();
                assert_eq!(decode(&again), Some(of));
                read += 1;
            }
        }
        assert!(read > 1000, "{read}");
        assert_eq!(decode(&[0; 128]), None);
        assert_eq!(decode(&[0xff; 128]), None);
    }
}
