//! Fragments between registers and memory: `ldmatrix`, `wmma.load`, `wmma.store`; and `movmatrix`, from register to
//! register.
//!
//! # Safety
//!
//! As in [`super::super::rows`]; memory is touched only where [`locate`] found it accessible.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::super::fault::FaultKind;
use super::super::memory::{Device, Memory, Shared, SharedShort, Target, locate};
use super::super::op::Op;
use super::super::path::Path;
use super::super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};
use super::super::{LOCAL_WINDOW, WINDOW_BYTES};
use super::layout::{Layout, Place, Wmma};
use super::packed::Packed;
use super::{Family, Shape};

/// Bytes of a line of eight halves.
const LINE_BYTES: u64 = 16;

/// The handler of an operation on memory of some kind; local memory belongs to one lane, so that no matrix lies there.
macro_rules! of_target {
    ($target:expr, $operation:ident) => {
        match $target {
            Target::Device => Some(rare_handler::<$operation<Device>>()),
            Target::Shared => Some(rare_handler::<$operation<Shared>>()),
            Target::SharedShort => Some(rare_handler::<$operation<SharedShort>>()),
            Target::Local => None,
        }
    };
}

/// The host address of `size` bytes at `address` as `lane` sees it, or a fault.
#[inline(always)]
fn reach(context: &mut Context<'_>, lane: usize, address: u64, size: u64) -> Option<u64> {
    if address & (size - 1) != 0 {
        context.fail_in(lane, FaultKind::Misaligned, Some(address));
        return None;
    }
    let found = locate(context, lane, address, size);
    if found.is_none() {
        context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
    }
    found
}

/// `ldmatrix`: [`Op::count`] tiles of eight by eight halves, whose lines the lanes name; transposed where
/// [`Op::immediate`] has bit 32 set. The offset of the address is in its lower half.
struct LoadTiles<M>(PhantomData<M>);
impl<M: Memory> Operation for LoadTiles<M> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let tiles = usize::from(op.count).min(4);
        let (transposed, offset) = (op.immediate >> 32 & 1 != 0, i64::from(op.immediate as i32));
        // SAFETY: the decoder gave an address row of this kind and rows of 32-bit lanes; `reach` finds every line.
        unsafe {
            let addresses = M::generic(context, op.a, offset);
            for tile in 0..tiles {
                let mut lines = [[0u16; 8]; 8];
                for (index, line) in lines.iter_mut().enumerate() {
                    let lane = tile * 8 + index;
                    let Some(host) = reach(context, lane, addresses[lane], LINE_BYTES) else {
                        return Outcome::Fault;
                    };
                    *line = (host as *const [u16; 8]).read();
                }
                let words: [u32; LANES] =
                    std::array::from_fn(|lane| tile_word(&lines, lane, transposed));
                context.store(op.extra[tile], words);
            }
        }
        Outcome::Continue
    }
}

/// A lane's two neighbouring elements of a tile.
#[inline(always)]
fn tile_word(lines: &[[u16; 8]; 8], lane: usize, transposed: bool) -> u32 {
    let (line, column) = (lane / 4, lane % 4 * 2);
    let [low, high] = if transposed {
        [lines[column][line], lines[column + 1][line]]
    } else {
        [lines[line][column], lines[line][column + 1]]
    };
    u32::from(low) | u32::from(high) << 16
}

/// `movmatrix`: a tile in registers, transposed.
struct MoveTile;
impl Operation for MoveTile {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        // SAFETY: the decoder gave rows of 32-bit lanes.
        unsafe {
            let words: [u32; LANES] = context.load(op.a);
            let mut lines = [[0u16; 8]; 8];
            for (lane, word) in words.into_iter().enumerate() {
                lines[lane / 4][lane % 4 * 2] = word as u16;
                lines[lane / 4][lane % 4 * 2 + 1] = (word >> 16) as u16;
            }
            context.store(
                op.d,
                std::array::from_fn(|lane| tile_word(&lines, lane, true)),
            );
        }
        Outcome::Continue
    }
}

/// Which fragment `wmma.load` and `wmma.store` move, and how its matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) shape: Shape,
    /// 0 for A, 1 for B, 2 for C and D.
    pub(crate) matrix: u8,
    /// Whether columns lie one after the other, not lines.
    pub(crate) by_column: bool,
}

impl Fragment {
    /// As the numbers that an operation carries: in [`Op::immediate`] and [`Op::count`].
    pub(crate) fn encode(self) -> (i64, u8) {
        (
            self.shape.encode(),
            self.matrix | u8::from(self.by_column) << 2,
        )
    }

    fn decode(op: &Op) -> Fragment {
        Fragment {
            shape: Shape::decode(op.immediate),
            matrix: op.count & 3,
            by_column: op.count & 4 != 0,
        }
    }

    /// How many registers it has.
    pub(crate) fn registers(self) -> usize {
        self.extent().0
    }

    /// Registers, elements in each, and bits of an element.
    pub(super) fn extent(self) -> (usize, usize, usize) {
        let [a, b, c, _] = self.shape.registers();
        match self.matrix {
            0 => (a, self.shape.a.per_register(), self.shape.a.bits()),
            1 => (b, self.shape.b.per_register(), self.shape.b.bits()),
            _ if self.shape.a.bits() == 64 => (c, 1, 64),
            _ if self.shape.half_c => (c, 2, 16),
            _ => (c, 1, 32),
        }
    }

    fn place(self, per_register: usize, register: usize, lane: usize, part: usize) -> Place {
        debug_assert_eq!(self.shape.family, Family::Wmma);
        match self.matrix {
            0 => Wmma::a(self.shape, register, lane, part),
            1 => Wmma::b(self.shape, register, lane, part),
            _ => Wmma::c(self.shape, per_register, register, lane, part),
        }
    }

    /// Lines and columns of the matrix.
    pub(super) fn size(self) -> [usize; 2] {
        let Shape { m, n, k, .. } = self.shape;
        match self.matrix {
            0 => [m, k],
            1 => [k, n],
            _ => [m, n],
        }
    }

    /// Bytes from the start of the matrix to the end of its last element.
    fn bytes(self, stride: u32, bits: usize) -> u64 {
        let [lines, columns] = self.size();
        (self.distance((lines - 1, columns - 1), stride, bits) + bits as u64).div_ceil(8)
    }

    /// Bits from the start of the matrix to an element.
    fn distance(self, (line, column): Place, stride: u32, bits: usize) -> u64 {
        let (major, minor) = if self.by_column {
            (column, line)
        } else {
            (line, column)
        };
        (major as u64 * u64::from(stride) + minor as u64) * bits as u64
    }
}

/// The host address and the stride of the matrix that all lanes name, if it is one matrix and all of it may be touched. Where it is not,
/// the elements tell what is wrong; elements of fewer than eight bits always do.
///
/// # Safety
///
/// `op` is a transfer of a fragment, with addresses of kind `M` in row `a` and the stride in row `b`.
unsafe fn whole_matrix<M: Memory>(
    context: &Context<'_>,
    op: &Op,
    fragment: Fragment,
) -> Option<(u64, u64)> {
    let (_, _, bits) = fragment.extent();
    if context.active != u32::MAX || bits < 8 {
        return None;
    }
    // SAFETY: the caller's promise.
    let (starts, strides): ([u64; LANES], [u32; LANES]) =
        unsafe { (M::generic(context, op.a, 0), context.load(op.b)) };
    let (start, stride) = (starts[0], strides[0]);
    let is_one =
        starts.iter().all(|&other| other == start) && strides.iter().all(|&other| other == stride);
    let bytes = bits as u64 / 8;
    let line = u64::from(stride) * bytes;
    // Every lane has local memory of its own.
    let is_local = start.wrapping_sub(LOCAL_WINDOW) < WINDOW_BYTES;
    if !is_one || is_local || (start | line) & (bytes - 1) != 0 {
        return None;
    }
    let host = locate(context, 0, start, fragment.bytes(stride, bits))?;
    Some((host, u64::from(stride)))
}

/// Calls `visit` with the host address of every element of a fragment that an active lane holds: register, lane, first
/// part, bytes. Elements of fewer than eight bits come as whole words, in which they are neighbours.
///
/// # Safety
///
/// `op` is a transfer of a fragment, with addresses of kind `M` in row `a` and the stride in row `b`.
unsafe fn each_element<M: Memory>(
    context: &mut Context<'_>,
    op: &Op,
    mut visit: impl FnMut(usize, usize, usize, u64),
) -> Outcome {
    let fragment = Fragment::decode(op);
    let (registers, per_register, bits) = fragment.extent();
    // SAFETY: the caller's promise.
    let (starts, strides): ([u64; LANES], [u32; LANES]) =
        unsafe { (M::generic(context, op.a, 0), context.load(op.b)) };
    let (step, bytes) = if bits < 8 {
        (per_register, 4)
    } else {
        (1, bits as u64 / 8)
    };
    let active = context.active;
    for register in 0..registers {
        for lane in (0..LANES).filter(|lane| active >> lane & 1 != 0) {
            for part in (0..per_register).step_by(step) {
                let place = fragment.place(per_register, register, lane, part);
                let distance = fragment.distance(place, strides[lane], bits) / 8;
                let address = starts[lane].wrapping_add(distance);
                let Some(host) = reach(context, lane, address, bytes) else {
                    return Outcome::Fault;
                };
                visit(register, lane, part, host);
            }
        }
    }
    Outcome::Continue
}

/// `wmma.load`
struct LoadFragment<M>(PhantomData<M>);
impl<M: Memory> Operation for LoadFragment<M> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let fragment = Fragment::decode(op);
        let (_, _, bits) = fragment.extent();
        let program = context.program;
        let list = &program.code.lists[op.link as usize];
        // SAFETY: the decoder gave rows as the shape says, and the whole matrix may be read.
        unsafe {
            if let Some((host, stride)) = whole_matrix::<M>(context, op, fragment) {
                let packed = Packed::read(fragment, host, stride);
                for (register, &row) in list.writes.iter().enumerate() {
                    if bits == 64 {
                        context.store::<u64>(row, packed.wide_register(register));
                    } else {
                        context.store::<u32>(row, packed.register(register));
                    }
                }
                return Outcome::Continue;
            }
        }
        let mut values = [[0u64; LANES]; 8];
        // SAFETY: the decoder gave rows as the shape says; each address is good for the bytes read.
        unsafe {
            let outcome = each_element::<M>(context, op, |register, lane, part, host| {
                values[register % 8][lane] |= match bits {
                    64 => (host as *const u64).read(),
                    16 => u64::from((host as *const u16).read()) << (16 * part),
                    8 => u64::from((host as *const u8).read()) << (8 * part),
                    _ => u64::from((host as *const u32).read()),
                };
            });
            if outcome != Outcome::Continue {
                return outcome;
            }
            for (lanes, &row) in values.into_iter().zip(&list.writes) {
                if bits == 64 {
                    context.store::<u64>(row, lanes);
                } else {
                    context.store::<u32>(row, lanes.map(|value| value as u32));
                }
            }
        }
        Outcome::Continue
    }
}

/// `wmma.store`
struct StoreFragment<M>(PhantomData<M>);
impl<M: Memory> Operation for StoreFragment<M> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let fragment = Fragment::decode(op);
        let (_, _, bits) = fragment.extent();
        let program = context.program;
        let list = &program.code.lists[op.link as usize];
        // SAFETY: the decoder gave rows as the shape says, and the whole matrix may be written.
        unsafe {
            if let Some((host, stride)) = whole_matrix::<M>(context, op, fragment) {
                let mut packed = Packed::default();
                for (register, &row) in list.reads.iter().enumerate() {
                    if bits == 64 {
                        packed.set_wide_register(register, context.load(row));
                    } else {
                        packed.set_register(register, context.load(row));
                    }
                }
                packed.write(fragment, host, stride);
                return Outcome::Continue;
            }
        }
        let mut values = [[0u64; LANES]; 8];
        // SAFETY: the decoder gave rows as the shape says; each address is good for the bytes written.
        unsafe {
            for (lanes, &row) in values.iter_mut().zip(&list.reads) {
                *lanes = if bits == 64 {
                    context.load::<u64>(row)
                } else {
                    context.load::<u32>(row).map(u64::from)
                };
            }
            each_element::<M>(context, op, |register, lane, part, host| {
                let value = values[register % 8][lane];
                match bits {
                    64 => (host as *mut u64).write(value),
                    16 => (host as *mut u16).write((value >> (16 * part)) as u16),
                    _ => (host as *mut u32).write(value as u32),
                }
            })
        }
    }
}

/// The handler of `ldmatrix`.
pub(crate) fn load_tiles(target: Target) -> Option<Handler> {
    of_target!(target, LoadTiles)
}

/// The handler of `movmatrix`.
pub(crate) fn move_tile(_: Path) -> Handler {
    rare_handler::<MoveTile>()
}

/// The handler of `wmma.load`.
pub(crate) fn load_fragment(target: Target) -> Option<Handler> {
    of_target!(target, LoadFragment)
}

/// The handler of `wmma.store`.
pub(crate) fn store_fragment(target: Target) -> Option<Handler> {
    of_target!(target, StoreFragment)
}
