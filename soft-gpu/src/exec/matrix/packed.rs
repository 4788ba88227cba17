//! Fragments of `wmma` that are the matrix itself: its elements in the order of lines (of B: of columns), packed into registers as they are
//! into memory ([`Wmma`](super::layout)). So a fragment is moved line by line, and multiplied without asking where an element is.
//!
//! # Safety
//!
//! As in [`super::super::rows`]; a matrix is read or written where the caller found all of it accessible, and aligned to its elements.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::marker::PhantomData;

use super::super::half::{Bf16, F16, Half};
use super::super::op::Op;
use super::super::path::Path;
use super::super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, handler};
use super::multiply::Rows;
use super::transfer::Fragment;
use super::{Factor, Shape};

/// Registers of the largest fragment.
const REGISTERS: usize = 8;

/// Registers, one after the other: of thirty-two bits, or half as many of sixty-four.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Packed([[u32; LANES]; REGISTERS]);

impl Packed {
    pub(super) fn register(&self, register: usize) -> [u32; LANES] {
        self.0[register % REGISTERS]
    }

    pub(super) fn set_register(&mut self, register: usize, lanes: [u32; LANES]) {
        self.0[register % REGISTERS] = lanes;
    }

    pub(super) fn wide_register(&self, register: usize) -> [u64; LANES] {
        std::array::from_fn(|lane| {
            let word = 2 * (register * LANES + lane);
            let half = |word: usize| u64::from(self.0[word / LANES % REGISTERS][word % LANES]);
            half(word) | half(word + 1) << 32
        })
    }

    pub(super) fn set_wide_register(&mut self, register: usize, lanes: [u64; LANES]) {
        for (lane, value) in lanes.into_iter().enumerate() {
            let word = 2 * (register * LANES + lane);
            self.0[word / LANES % REGISTERS][word % LANES] = value as u32;
            self.0[(word + 1) / LANES % REGISTERS][(word + 1) % LANES] = (value >> 32) as u32;
        }
    }

    /// The matrix at `host`, whose lines (columns, if it lies by columns) are `stride` elements apart.
    ///
    /// # Safety
    ///
    /// All of the matrix can be read, elements of at least eight bits that are aligned.
    pub(super) unsafe fn read(fragment: Fragment, host: u64, stride: u64) -> Packed {
        let mut packed = Packed::default();
        let (registers, per_register, bits) = fragment.extent();
        let order = Order::of(fragment, stride as usize);
        let elements = registers * per_register * LANES;
        // SAFETY: the caller's promise; no fragment is larger than the registers here.
        unsafe {
            match bits {
                8 => order.read(&mut packed, host as *const u8, elements),
                16 => order.read(&mut packed, host as *const u16, elements),
                32 => order.read(&mut packed, host as *const u32, elements),
                _ => order.read(&mut packed, host as *const u64, elements),
            }
        }
        packed
    }

    /// Makes it the matrix at `host`.
    ///
    /// # Safety
    ///
    /// As of [`Packed::read`], for writing.
    pub(super) unsafe fn write(&self, fragment: Fragment, host: u64, stride: u64) {
        let (_, _, bits) = fragment.extent();
        let order = Order::of(fragment, stride as usize);
        // SAFETY: the caller's promise.
        unsafe {
            match bits {
                8 => order.write(self, host as *mut u8),
                16 => order.write(self, host as *mut u16),
                32 => order.write(self, host as *mut u32),
                _ => order.write(self, host as *mut u64),
            }
        }
    }
}

/// How the elements of a fragment follow each other, and where they are in memory.
struct Order {
    /// Lines (of B: columns), and elements of each.
    majors: usize,
    minors: usize,
    /// Elements from a line's start in memory to the next one's, and from an element to its neighbour.
    major_step: usize,
    minor_step: usize,
}

impl Order {
    fn of(fragment: Fragment, stride: usize) -> Order {
        let [lines, columns] = fragment.size();
        let by_column = fragment.matrix == 1;
        let (majors, minors) = if by_column {
            (columns, lines)
        } else {
            (lines, columns)
        };
        let (major_step, minor_step) = if by_column == fragment.by_column {
            (stride, 1)
        } else {
            (1, stride)
        };
        Order {
            majors,
            minors,
            major_step,
            minor_step,
        }
    }

    /// # Safety
    ///
    /// As of [`Packed::read`]; `elements` fit into `packed`.
    unsafe fn read<T: Copy>(&self, packed: &mut Packed, host: *const T, elements: usize) {
        let to = packed.0.as_mut_ptr().cast::<T>();
        let distinct = (self.majors * self.minors).min(size_of::<Packed>() / size_of::<T>());
        // SAFETY: the caller's promise.
        unsafe {
            for major in 0..self.majors {
                let (from, to) = (
                    host.add(major * self.major_step),
                    to.add(major * self.minors),
                );
                if self.minor_step == 1 {
                    to.copy_from_nonoverlapping(from, self.minors);
                } else {
                    for minor in 0..self.minors {
                        to.add(minor)
                            .write(from.add(minor * self.minor_step).read());
                    }
                }
            }
            // Registers beyond the last element begin anew.
            for element in distinct..elements {
                to.add(element).write(to.add(element - distinct).read());
            }
        }
    }

    /// # Safety
    ///
    /// As of [`Packed::write`].
    unsafe fn write<T: Copy>(&self, packed: &Packed, host: *mut T) {
        let from = packed.0.as_ptr().cast::<T>();
        // SAFETY: the caller's promise.
        unsafe {
            for major in 0..self.majors {
                let (from, to) = (
                    from.add(major * self.minors),
                    host.add(major * self.major_step),
                );
                for minor in 0..self.minors {
                    to.add(minor * self.minor_step)
                        .write(from.add(minor).read());
                }
            }
        }
    }
}

/// A type of factors, of which a register holds `PER_REGISTER`.
trait Element {
    const PER_REGISTER: usize;
    fn value(word: u32, part: usize) -> f32;
}

impl Element for F16 {
    const PER_REGISTER: usize = 2;
    #[inline(always)]
    fn value(word: u32, part: usize) -> f32 {
        F16((word >> (16 * part)) as u16).to_f32()
    }
}

impl Element for Bf16 {
    const PER_REGISTER: usize = 2;
    #[inline(always)]
    fn value(word: u32, part: usize) -> f32 {
        Bf16((word >> (16 * part)) as u16).to_f32()
    }
}

/// The upper nineteen bits of a single.
struct Tf32;
impl Element for Tf32 {
    const PER_REGISTER: usize = 1;
    #[inline(always)]
    fn value(word: u32, _: usize) -> f32 {
        f32::from_bits(word & 0xffff_e000)
    }
}

/// The handler of a product of halves, bfloat16 or tf32.
pub(super) fn multiply(path: Path, shape: Shape) -> Option<Handler> {
    Some(match (shape.a, shape.m, shape.n, shape.k) {
        (Factor::F16, 16, 16, 16) => handler::<Product<F16, 16, 16, 16>>(path),
        (Factor::F16, 8, 32, 16) => handler::<Product<F16, 8, 32, 16>>(path),
        (Factor::F16, 32, 8, 16) => handler::<Product<F16, 32, 8, 16>>(path),
        (Factor::Bf16, 16, 16, 16) => handler::<Product<Bf16, 16, 16, 16>>(path),
        (Factor::Bf16, 8, 32, 16) => handler::<Product<Bf16, 8, 32, 16>>(path),
        (Factor::Bf16, 32, 8, 16) => handler::<Product<Bf16, 32, 8, 16>>(path),
        (Factor::Tf32, 16, 16, 8) => handler::<Product<Tf32, 16, 16, 8>>(path),
        _ => return None,
    })
}

/// A single as it is.
struct Single;
impl Element for Single {
    const PER_REGISTER: usize = 1;
    #[inline(always)]
    fn value(word: u32, _: usize) -> f32 {
        f32::from_bits(word)
    }
}

/// The elements of registers as singles, each once, in lines of `WIDTH`.
#[inline(always)]
fn fill<E: Element, const WIDTH: usize, const LINES: usize>(
    packed: &Packed,
    into: &mut [[f32; WIDTH]; LINES],
) {
    let words = packed.0.as_flattened();
    let elements = into.as_flattened_mut();
    for (elements, &word) in elements.chunks_exact_mut(E::PER_REGISTER).zip(words) {
        for (part, element) in elements.iter_mut().enumerate() {
            *element = E::value(word, part);
        }
    }
}

/// Results into registers, as halves where `half`.
#[inline(always)]
fn pack(half: bool, sums: &[f32], into: &mut Packed) {
    let words = into.0.as_flattened_mut();
    if half {
        for (word, pair) in words.iter_mut().zip(sums.chunks_exact(2)) {
            let [low, high] = [pair[0], pair[1]].map(|sum| u32::from(F16::nearest(sum).0));
            *word = low | high << 16;
        }
    } else {
        for (word, sum) in words.iter_mut().zip(sums) {
            *word = sum.to_bits();
        }
    }
}

/// Products of halves, bfloat16 and tf32. The columns of B are turned into lines, so that a line of the result is summed at once, in the
/// order of `k`.
struct Product<E, const M: usize, const N: usize, const K: usize>(PhantomData<E>);
impl<E: Element, const M: usize, const N: usize, const K: usize> Operation for Product<E, M, N, K> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.immediate);
        let rows = Rows::new(context, op, shape);
        let [a_count, b_count] = shape.distinct_registers();
        let (mut a, mut b, mut c) = (Packed::default(), Packed::default(), Packed::default());
        // SAFETY: the decoder put these rows of 32-bit lanes into the list.
        unsafe {
            for register in 0..a_count {
                a.set_register(register, context.load(rows.a(register)));
            }
            for register in 0..b_count {
                b.set_register(register, context.load(rows.b(register)));
            }
            for register in 0..rows.counts[2] {
                c.set_register(register, context.load(rows.c(register)));
            }
        }
        let (mut lines, mut columns) = ([[0f32; K]; M], [[0f32; K]; N]);
        fill::<E, K, M>(&a, &mut lines);
        fill::<E, K, N>(&b, &mut columns);
        let turned: [[f32; N]; K] = std::array::from_fn(|k| std::array::from_fn(|j| columns[j][k]));
        let mut sums = [[0f32; N]; M];
        if shape.half_c {
            fill::<F16, N, M>(&c, &mut sums);
        } else {
            fill::<Single, N, M>(&c, &mut sums);
        }
        for (line, sums) in lines.iter().zip(&mut sums) {
            for (factor, column) in line.iter().zip(&turned) {
                for (sum, other) in sums.iter_mut().zip(column) {
                    *sum = factor.mul_add(*other, *sum);
                }
            }
        }
        let mut d = Packed::default();
        pack(shape.half_d, sums.as_flattened(), &mut d);
        for register in 0..rows.counts[3] {
            // SAFETY: as above.
            unsafe { context.store(rows.d(register), d.register(register)) };
        }
        Outcome::Continue
    }
}
