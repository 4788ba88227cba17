//! Tensor copies: boxes of a tensor in device memory that a map describes, to and from shared memory (`cp.async.bulk.tensor`,
//! `cp.reduce.async.bulk.tensor`).
//!
//! *What:* a box is rows of its innermost dimension, one after the other; each row is moved as a piece. Elements outside the tensor are zeros, or NaN where
//! the map says so, and are not written. Pieces of sixteen bytes are swapped in shared memory as the map's swizzle says, by the bits of their address.
//! *Rules:* a copy is done when it is issued, as [`super::asynchronous`] has it. The map is read where it is, each time: nothing of it is trusted.
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`locate`] or [`locate_shared`] found it accessible.
#![expect(unsafe_code, reason = "device memory is reached by address")]

pub(crate) mod form;

use driver_api::tensor_map::{Encoding, MAX_RANK, Map, kind};

use super::SHARED_WINDOW;
use super::atomic::Action;
use super::bulk::{Effect, complete, masks, targets};
use super::fault::FaultKind;
use super::memory::{locate, locate_shared};
use super::op::{NONE, Op};
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};

/// What a box in shared memory begins at a multiple of.
const BOX_ALIGNMENT: u64 = 128;
/// Pieces that are swapped.
const PIECE: usize = 16;
/// Most bytes of a row: 256 elements of 8 bytes.
const MOST_ROW_BYTES: usize = 2048;

/// Where a copy goes; in [`Op::count`], with the reduction behind it in [`Op::immediate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// From the tensor to shared memory.
    Load,
    /// From shared memory to the tensor.
    Store,
    /// The same, where the tensor's elements are changed.
    Reduce,
}

/// Reductions by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reduction {
    Add,
    Min,
    Max,
    Increment,
    Decrement,
    And,
    Or,
    Xor,
}

const REDUCTIONS: [Reduction; 8] = [
    Reduction::Add,
    Reduction::Min,
    Reduction::Max,
    Reduction::Increment,
    Reduction::Decrement,
    Reduction::And,
    Reduction::Or,
    Reduction::Xor,
];

impl Reduction {
    /// What it does to elements of a map's type, if that type has it.
    fn action(self, data_type: u32) -> Option<Action> {
        use Action::*;
        // `CU_TENSOR_MAP_DATA_TYPE_*`
        const U32: u32 = 2;
        const S32: u32 = 3;
        const U64: u32 = 4;
        const S64: u32 = 5;
        const F16: u32 = 6;
        const F32: u32 = 7;
        const F64: u32 = 8;
        const BF16: u32 = 9;
        const F32_FTZ: u32 = 10;
        Some(match (self, data_type) {
            (Reduction::Add, U32 | S32 | U64) => Add,
            (Reduction::Add, F16) => AddHalf,
            (Reduction::Add, BF16) => AddBrain,
            (Reduction::Add, F32 | F32_FTZ) => AddSingle,
            (Reduction::Add, F64) => AddDouble,
            (Reduction::Min, U32 | U64) => Min,
            (Reduction::Max, U32 | U64) => Max,
            (Reduction::Min, S32 | S64) => MinSigned,
            (Reduction::Max, S32 | S64) => MaxSigned,
            (Reduction::Min, F16) => MinHalf,
            (Reduction::Max, F16) => MaxHalf,
            (Reduction::Min, BF16) => MinBrain,
            (Reduction::Max, BF16) => MaxBrain,
            (Reduction::Increment, U32) => Increment,
            (Reduction::Decrement, U32) => Decrement,
            (Reduction::And, U32 | S32 | U64 | S64) => And,
            (Reduction::Or, U32 | S32 | U64 | S64) => Or,
            (Reduction::Xor, U32 | S32 | U64 | S64) => Xor,
            _ => return None,
        })
    }
}

/// A box of a tensor.
struct Tile {
    of: Encoding,
    element: u64,
    /// Elements in each dimension.
    counts: [u64; MAX_RANK],
    /// Of its first element.
    first: [i64; MAX_RANK],
}

impl Tile {
    /// The box that a map describes at some coordinates, or why there is none.
    fn new(of: Encoding, first: [i64; MAX_RANK], rank: usize) -> Result<Tile, &'static str> {
        let element = form::element_bytes(of.data_type).ok_or("packed elements of a tensor")?;
        if of.kind != kind::TILED {
            return Err("a tensor map that is not tiled");
        }
        if of.interleave != form::NOT_INTERLEAVED {
            return Err("an interleaved tensor");
        }
        if shift_of(of.swizzle).is_none() {
            return Err("a swizzle that this device has not");
        }
        if of.rank as usize != rank {
            return Err("a tensor map of another rank");
        }
        let mut counts = [1; MAX_RANK];
        for (dimension, count) in counts.iter_mut().enumerate().take(rank) {
            // The innermost dimension has no stride of elements.
            let step = if dimension == 0 {
                1
            } else {
                of.element_strides[dimension]
            };
            *count = u64::from(of.box_dimensions[dimension].div_ceil(step));
        }
        Ok(Tile {
            of,
            element,
            counts,
            first,
        })
    }

    fn row_bytes(&self) -> u64 {
        self.counts[0] * self.element
    }

    fn rows(&self) -> u64 {
        self.counts[1..].iter().product()
    }

    fn bytes(&self) -> u64 {
        self.row_bytes() * self.rows()
    }

    /// The elements of row `row` that are in the tensor, as a part of the row in bytes, and the address of the first; `None` for none.
    fn inside(&self, row: u64) -> Option<(std::ops::Range<u64>, u64)> {
        let mut address = self.of.address;
        let mut rest = row;
        for dimension in 1..MAX_RANK {
            let (count, step) = (self.counts[dimension], self.of.element_strides[dimension]);
            let index = (rest % count) as i64 * i64::from(step.max(1));
            rest /= count;
            if dimension >= self.of.rank as usize {
                continue;
            }
            let at = u64::try_from(self.first[dimension] + index).ok()?;
            if at >= self.of.dimensions[dimension] {
                return None;
            }
            address = address.wrapping_add(at.wrapping_mul(self.of.strides[dimension - 1]));
        }
        let (first, size) = (self.first[0], self.of.dimensions[0] as i64);
        let start = first.clamp(0, size);
        let end = (first + self.counts[0] as i64).clamp(0, size);
        if start >= end {
            return None;
        }
        let part = |at: i64| (at - first) as u64 * self.element;
        Some((
            part(start)..part(end),
            address.wrapping_add(start as u64 * self.element),
        ))
    }

    /// The pattern of an element that is not in the tensor.
    fn fill(&self) -> [u8; 8] {
        match (self.of.fill, self.element) {
            // All ones but the sign.
            (form::FILLED_WITH_NAN, bytes @ (2 | 4 | 8)) => {
                (u64::MAX >> (65 - 8 * bytes)).to_le_bytes()
            }
            _ => [0; 8],
        }
    }

    /// Flushes numbers that are too small, where the type says so.
    fn flush(&self, row: &mut [u8]) {
        /// `CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ` and `_TFLOAT32_FTZ`.
        const FLUSHED: [u32; 2] = [10, 12];
        if !FLUSHED.contains(&self.of.data_type) {
            return;
        }
        let (elements, _) = row.as_chunks_mut::<4>();
        for element in elements {
            let bits = u32::from_le_bytes(*element);
            if bits & 0x7f80_0000 == 0 {
                *element = (bits & 0x8000_0000).to_le_bytes();
            }
        }
    }
}

/// How many bits of an address, from the fourth on, change with those from the seventh on; `None` for what this device has not.
fn shift_of(swizzle: u32) -> Option<u32> {
    // None, 32, 64 and 128 bytes.
    (swizzle <= 3).then_some(swizzle)
}

/// Where the piece of sixteen bytes is whose address would be `place`.
fn swapped(place: u64, swizzle: u32) -> u64 {
    let bits = (1u64 << shift_of(swizzle).unwrap_or(0)) - 1;
    place ^ (place >> 7 & bits) << 4
}

/// Between the box at generic address row `a` of shared memory and the tensor of the map at row `b`, from the coordinates that the operand list says.
/// Row `e` is the barrier and row `c` a mask of blocks, where there are any.
struct Tensor;
impl Operation for Tensor {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let program = context.program;
        let rows = &program.code.lists[op.link as usize].reads;
        let mut coordinates = [[0i32; LANES]; MAX_RANK];
        // SAFETY: the decoder gave rows of these types.
        let (boxes, maps, barriers, masks) = unsafe {
            for (place, row) in coordinates.iter_mut().zip(rows) {
                *place = context.load(*row);
            }
            let barriers: [u64; LANES] = match op.e {
                NONE => [0; LANES],
                row => context.load(row),
            };
            (
                context.load::<u64>(op.a),
                context.load::<u64>(op.b),
                barriers,
                masks(context, op.c),
            )
        };
        let rank = rows.len();
        let active = context.active;
        for lane in (0..LANES).filter(|lane| active >> lane & 1 != 0) {
            let first = coordinates.map(|of_lanes| i64::from(of_lanes[lane]));
            let tile = match read(context, lane, maps[lane], first, rank) {
                Ok(tile) => tile,
                Err(outcome) => return outcome,
            };
            for target in targets(boxes[lane], masks[lane]) {
                if copy(context, lane, (&tile, target), op) != Outcome::Continue {
                    return Outcome::Fault;
                }
            }
            let barrier = (barriers[lane], masks[lane]);
            if op.e != NONE && complete(context, lane, barrier, tile.bytes()) != Outcome::Continue {
                return Outcome::Fault;
            }
        }
        Outcome::Continue
    }
}

/// The box that a lane means, or a fault.
fn read(
    context: &mut Context<'_>,
    lane: usize,
    address: u64,
    first: [i64; MAX_RANK],
    rank: usize,
) -> Result<Tile, Outcome> {
    let Some(host) = locate(context, lane, address, size_of::<Map>() as u64) else {
        return Err(context.fail_in(lane, FaultKind::IllegalAddress, Some(address)));
    };
    // SAFETY: found, of a map's size.
    let map = unsafe { (host as *const Map).read_unaligned() };
    let Some(of) = form::decode(&map) else {
        context.detail = "what is there is no tensor map".into();
        return Err(context.fail_in(lane, FaultKind::IllegalInstruction, Some(address)));
    };
    Tile::new(of, first, rank).map_err(|why| {
        context.detail = why.into();
        context.fail_in(lane, FaultKind::IllegalInstruction, Some(address))
    })
}

/// Moves a box between the tensor and generic address `target` of shared memory.
fn copy(context: &mut Context<'_>, lane: usize, (tile, target): (&Tile, u64), op: &Op) -> Outcome {
    let place = target.wrapping_sub(SHARED_WINDOW);
    if !place.is_multiple_of(BOX_ALIGNMENT) {
        return context.fail_in(lane, FaultKind::Misaligned, Some(target));
    }
    // Swapped pieces stay within as many bytes as a box's alignment.
    let extent = tile.bytes().next_multiple_of(match tile.of.swizzle {
        0 => PIECE as u64,
        _ => BOX_ALIGNMENT,
    });
    let Some(start) = locate_shared(context, target, extent) else {
        return context.fail_in(lane, FaultKind::IllegalAddress, Some(target));
    };
    let reduction = REDUCTIONS[usize::from(op.immediate as u8) % REDUCTIONS.len()];
    let effect = match op.count {
        count if count == Way::Reduce as u8 => match reduction.action(tile.of.data_type) {
            Some(action) => Effect::Change(action, tile.element as u8),
            None => {
                context.detail = format!("{reduction:?} of such a tensor's elements");
                return context.fail_in(lane, FaultKind::IllegalInstruction, None);
            }
        },
        _ => Effect::Copy,
    };
    let loads = op.count == Way::Load as u8;
    let mut buffer = [0u8; MOST_ROW_BYTES];
    let row_bytes = tile.row_bytes();
    let row = &mut buffer[..(row_bytes as usize).min(MOST_ROW_BYTES)];
    let (fill, element) = (tile.fill(), tile.element as usize);
    for number in 0..tile.rows() {
        let found = tile.inside(number);
        let global = match &found {
            None => 0,
            Some((part, address)) => {
                let Some(host) = locate(context, lane, *address, part.end - part.start) else {
                    return context.fail_in(lane, FaultKind::IllegalAddress, Some(*address));
                };
                host
            }
        };
        let pieces = (0..row_bytes).step_by(PIECE).map(|at| {
            let there = swapped(place + number * row_bytes + at, tile.of.swizzle);
            (at as usize, start + (there - place))
        });
        if loads {
            for chunk in row.chunks_exact_mut(element) {
                chunk.copy_from_slice(&fill[..element]);
            }
            if let Some((part, _)) = &found {
                let part = part.start as usize..part.end as usize;
                // SAFETY: found, of so many bytes; `part` is within the row.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        global as *const u8,
                        row[part.clone()].as_mut_ptr(),
                        part.len(),
                    );
                }
                tile.flush(&mut row[part]);
            }
            for (at, host) in pieces {
                // SAFETY: a piece lies within the extent that was found.
                unsafe { (host as *mut [u8; PIECE]).write(piece(row, at)) };
            }
            continue;
        }
        let Some((part, _)) = found else { continue };
        for (at, host) in pieces {
            // SAFETY: as above.
            let bytes = unsafe { (host as *const [u8; PIECE]).read() };
            row[at..at + PIECE].copy_from_slice(&bytes);
        }
        let from = row.as_ptr() as u64 + part.start;
        // SAFETY: `part` is within the row, and as many bytes of device memory were found; elements are aligned there, since address and strides are.
        unsafe { effect.apply(from, global, part.end - part.start) };
    }
    Outcome::Continue
}

/// The piece of a row at byte `at`.
fn piece(row: &[u8], at: usize) -> [u8; PIECE] {
    let mut piece = [0; PIECE];
    piece.copy_from_slice(&row[at..at + PIECE]);
    piece
}

/// The handler of tensor copies.
pub(crate) fn tensor() -> Handler {
    rare_handler::<Tensor>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swizzles_swap_pieces_within_lines() {
        // The patterns repeat after 256, 512 and 1024 bytes, and no two pieces meet.
        for (swizzle, period) in [(0, 16), (1, 256), (2, 512), (3, 1024)] {
            let mut seen = [false; 128];
            for place in (0..2048u64).step_by(16) {
                let there = swapped(place, swizzle);
                assert_eq!(there / 128, place / 128, "in its line");
                assert_eq!(swapped(place + period, swizzle), there + period);
                assert!(!std::mem::replace(&mut seen[there as usize / 16], true));
                assert_eq!(swapped(there, swizzle), place, "there and back");
            }
        }
        assert_eq!(swapped(0x80, 1), 0x90);
        assert_eq!(swapped(0x180, 2), 0x1b0);
        assert_eq!(swapped(0x380, 3), 0x3f0);
    }

    #[test]
    fn every_element_of_a_box_is_inside_or_not() {
        let of = Encoding {
            data_type: 2,
            rank: 3,
            address: 1 << 20,
            dimensions: [10, 5, 4, 1, 1],
            strides: [48, 480, 0, 0],
            box_dimensions: [8, 4, 3, 1, 1],
            element_strides: [1, 2, 1, 1, 1],
            ..Encoding::default()
        };
        let tile = Tile::new(of, [-3, 2, 3, 0, 0], 3).unwrap();
        assert_eq!((tile.row_bytes(), tile.rows()), (32, 6));
        // Rows (2, 3) and (4, 3) of the tensor; the others lie behind it.
        let first = (1 << 20) + 3 * 480 + 2 * 48;
        assert_eq!(tile.inside(0), Some((12..32, first)));
        assert_eq!(tile.inside(1), Some((12..32, first + 96)));
        assert!((2..6).all(|row| tile.inside(row).is_none()));
        let beyond = Tile::new(of, [i64::from(i32::MAX), 0, 0, 0, 0], 3).unwrap();
        assert!((0..6).all(|row| beyond.inside(row).is_none()));
    }
}
