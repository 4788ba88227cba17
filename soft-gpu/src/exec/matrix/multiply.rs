//! The products themselves.
//!
//! # Safety
//!
//! As in [`super::super::rows`]; the operand list holds as many rows as [`Shape::registers`] says, wide ones where
//! the elements are doubles.
#![expect(unsafe_code, reason = "rows are reached through a frame pointer")]

use std::marker::PhantomData;

use super::super::half::{Bf16, F16, Half};
use super::super::op::{Op, OperandList};
use super::super::path::Path;
use super::super::rows::{
    Context, Handler, Isa, LANES, Lane, Operation, Outcome, handler, rare_handler,
};
use super::layout::{self, Layout};
use super::{BitProduct, Factor, Family, Shape};

/// Most registers of C.
const MAX_RESULTS: usize = 8;

/// The handler of a product.
pub(crate) fn multiply(path: Path, shape: Shape) -> Option<Handler> {
    use Factor::*;
    Some(match (shape.family, shape.a, shape.m, shape.n) {
        (Family::Quarters, ..) => rare_handler::<Quarters>(),
        (Family::Mma, F64, 8, 8) => rare_handler::<Doubles<layout::Mma>>(),
        (Family::Wmma, F64, 8, 8) => rare_handler::<Doubles<layout::Wmma>>(),
        (Family::Mma, B1, ..) => handler::<Bits<layout::Mma>>(path),
        (Family::Wmma, B1, ..) => handler::<Bits<layout::Wmma>>(path),
        (Family::Mma, S8 | U8 | S4 | U4, ..) => handler::<Integers<layout::Mma, 16, 8, 64>>(path),
        (Family::Wmma, S8 | U8 | S4 | U4, ..) => {
            handler::<Integers<layout::Wmma, 32, 32, 32>>(path)
        }
        (Family::Mma, F16 | Bf16 | Tf32, 16, 8) => handler::<Singles<layout::Mma, 16, 8, 16>>(path),
        (Family::Wmma, F16 | Bf16 | Tf32, ..) => return super::packed::multiply(path, shape),
        _ => return None,
    })
}

/// The rows of an operation: A, then B, then C, and D.
pub(super) struct Rows<'p> {
    list: &'p OperandList,
    pub(super) counts: [usize; 4],
}

impl<'p> Rows<'p> {
    #[inline(always)]
    pub(super) fn new(context: &Context<'p>, op: &Op, shape: Shape) -> Rows<'p> {
        let program = context.program;
        Rows {
            list: &program.code.lists[op.link as usize],
            counts: shape.registers(),
        }
    }

    #[inline(always)]
    pub(super) fn a(&self, register: usize) -> u32 {
        self.list.reads[register]
    }

    #[inline(always)]
    pub(super) fn b(&self, register: usize) -> u32 {
        self.list.reads[self.counts[0] + register]
    }

    #[inline(always)]
    pub(super) fn c(&self, register: usize) -> u32 {
        self.list.reads[self.counts[0] + self.counts[1] + register]
    }

    /// All of C, which is read before any of D is written: they can share rows.
    ///
    /// # Safety
    ///
    /// The rows of C hold lanes of `T`.
    #[inline(always)]
    unsafe fn addends<T: Lane>(&self, context: &Context<'_>) -> [[T; LANES]; MAX_RESULTS] {
        let mut all = [[T::default(); LANES]; MAX_RESULTS];
        for (register, lanes) in all.iter_mut().enumerate().take(self.counts[2]) {
            // SAFETY: the caller's promise.
            *lanes = unsafe { context.load(self.c(register)) };
        }
        all
    }

    #[inline(always)]
    pub(super) fn d(&self, register: usize) -> u32 {
        self.list.writes[register]
    }
}

/// The value of a factor of sixteen bits or more.
#[inline(always)]
fn single(factor: Factor, word: u32, part: usize) -> f32 {
    let half = (word >> (16 * part)) as u16;
    match factor {
        Factor::F16 => F16(half).to_f32(),
        Factor::Bf16 => Bf16(half).to_f32(),
        _ => f32::from_bits(word & 0xffff_e000),
    }
}

/// The value of a factor of four or eight bits.
#[inline(always)]
fn integer(factor: Factor, word: u32, part: usize) -> i32 {
    match factor {
        Factor::S8 => i32::from((word >> (8 * part)) as i8),
        Factor::U8 => i32::from((word >> (8 * part)) as u8),
        Factor::S4 => (word << (28 - 4 * part)) as i32 >> 28,
        _ => (word >> (4 * part) & 15) as i32,
    }
}

/// The singles in a register of C.
#[inline(always)]
fn addend(half: bool, word: u32, part: usize) -> f32 {
    if half {
        F16((word >> (16 * part)) as u16).to_f32()
    } else {
        f32::from_bits(word)
    }
}

/// A register of D from its elements.
#[inline(always)]
fn pack(half: bool, element: impl Fn(usize) -> f32) -> u32 {
    if half {
        u32::from(F16::nearest(element(0)).0) | u32::from(F16::nearest(element(1)).0) << 16
    } else {
        element(0).to_bits()
    }
}

/// Elements in a register of C or D.
#[inline(always)]
fn results_in_register(half: bool) -> usize {
    if half { 2 } else { 1 }
}

/// Products of halves, bfloat16 and tf32.
struct Singles<L, const M: usize, const N: usize, const K: usize>(PhantomData<L>);
impl<L: Layout, const M: usize, const N: usize, const K: usize> Operation for Singles<L, M, N, K> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.immediate);
        let rows = Rows::new(context, op, shape);
        let [a_count, b_count] = shape.distinct_registers();
        let (mut a, mut b, mut sums) = ([[0f32; K]; M], [[0f32; N]; K], [[0f32; N]; M]);
        let parts = shape.a.per_register();
        // SAFETY: the decoder put these rows of 32-bit lanes into the list.
        unsafe {
            for register in 0..a_count {
                let words: [u32; LANES] = context.load(rows.a(register));
                for (lane, word) in words.into_iter().enumerate() {
                    for part in 0..parts {
                        let (i, k) = L::a(shape, register, lane, part);
                        a[i % M][k % K] = single(shape.a, word, part);
                    }
                }
            }
            for register in 0..b_count {
                let words: [u32; LANES] = context.load(rows.b(register));
                for (lane, word) in words.into_iter().enumerate() {
                    for part in 0..parts {
                        let (k, j) = L::b(shape, register, lane, part);
                        b[k % K][j % N] = single(shape.a, word, part);
                    }
                }
            }
            let parts = results_in_register(shape.half_c);
            for register in 0..rows.counts[2] {
                let words: [u32; LANES] = context.load(rows.c(register));
                for (lane, word) in words.into_iter().enumerate() {
                    for part in 0..parts {
                        let (i, j) = L::c(shape, parts, register, lane, part);
                        sums[i % M][j % N] = addend(shape.half_c, word, part);
                    }
                }
            }
            for i in 0..M {
                for k in 0..shape.k.min(K) {
                    for j in 0..N {
                        sums[i][j] = a[i][k].mul_add(b[k][j], sums[i][j]);
                    }
                }
            }
            let parts = results_in_register(shape.half_d);
            for register in 0..rows.counts[3] {
                let words: [u32; LANES] = std::array::from_fn(|lane| {
                    pack(shape.half_d, |part| {
                        let (i, j) = L::c(shape, parts, register, lane, part);
                        sums[i % M][j % N]
                    })
                });
                context.store(rows.d(register), words);
            }
        }
        Outcome::Continue
    }
}

/// Products of integers of eight and four bits. `M`, `N` and `K` are the largest shape's.
struct Integers<L, const M: usize, const N: usize, const K: usize>(PhantomData<L>);
impl<L: Layout, const M: usize, const N: usize, const K: usize> Operation for Integers<L, M, N, K> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.immediate);
        let rows = Rows::new(context, op, shape);
        let (mut a, mut b) = ([[0i32; K]; M], [[0i32; N]; K]);
        // SAFETY: the decoder put these rows of 32-bit lanes into the list.
        unsafe {
            for register in 0..rows.counts[0] {
                let words: [u32; LANES] = context.load(rows.a(register));
                for (lane, word) in words.into_iter().enumerate() {
                    for part in 0..shape.a.per_register() {
                        let (i, k) = L::a(shape, register, lane, part);
                        a[i % M][k % K] = integer(shape.a, word, part);
                    }
                }
            }
            for register in 0..rows.counts[1] {
                let words: [u32; LANES] = context.load(rows.b(register));
                for (lane, word) in words.into_iter().enumerate() {
                    for part in 0..shape.b.per_register() {
                        let (k, j) = L::b(shape, register, lane, part);
                        b[k % K][j % N] = integer(shape.b, word, part);
                    }
                }
            }
            let addends = rows.addends::<i32>(context);
            for (register, words) in addends.iter().enumerate().take(rows.counts[3]) {
                let sums: [i32; LANES] = std::array::from_fn(|lane| {
                    let (i, j) = L::c(shape, 1, register, lane, 0);
                    let product = (0..shape.k.min(K)).fold(0i32, |sum, k| {
                        sum.wrapping_add(a[i % M][k].wrapping_mul(b[k][j % N]))
                    });
                    // At most 64 products of fifteen bits each: the product itself cannot overflow.
                    if shape.saturate {
                        words[lane].saturating_add(product)
                    } else {
                        words[lane].wrapping_add(product)
                    }
                });
                context.store(rows.d(register), sums);
            }
        }
        Outcome::Continue
    }
}

/// Products of single bits: the ones of `xor` or `and` are counted.
struct Bits<L>(PhantomData<L>);
impl<L: Layout> Operation for Bits<L> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.immediate);
        let rows = Rows::new(context, op, shape);
        // Words of 32 columns of A, and of lines of B.
        let (mut a, mut b) = ([[0u32; 8]; 16], [[0u32; 8]; 8]);
        // SAFETY: the decoder put these rows of 32-bit lanes into the list.
        unsafe {
            for register in 0..rows.counts[0] {
                let words: [u32; LANES] = context.load(rows.a(register));
                for (lane, word) in words.into_iter().enumerate() {
                    let (i, k) = L::a(shape, register, lane, 0);
                    a[i % 16][k / 32 % 8] = word;
                }
            }
            for register in 0..rows.counts[1] {
                let words: [u32; LANES] = context.load(rows.b(register));
                for (lane, word) in words.into_iter().enumerate() {
                    let (k, j) = L::b(shape, register, lane, 0);
                    b[j % 8][k / 32 % 8] = word;
                }
            }
            let addends = rows.addends::<u32>(context);
            for (register, words) in addends.iter().enumerate().take(rows.counts[3]) {
                let sums: [u32; LANES] = std::array::from_fn(|lane| {
                    let (i, j) = L::c(shape, 1, register, lane, 0);
                    let ones = |w: usize| {
                        let (x, y) = (a[i % 16][w], b[j % 8][w]);
                        match shape.bit_product {
                            BitProduct::Xor => (x ^ y).count_ones(),
                            BitProduct::And => (x & y).count_ones(),
                        }
                    };
                    let product: u32 = (0..(shape.k / 32).min(8)).map(ones).sum();
                    words[lane].wrapping_add(product)
                });
                context.store(rows.d(register), sums);
            }
        }
        Outcome::Continue
    }
}

/// Products of doubles, eight by eight by four.
struct Doubles<L>(PhantomData<L>);
impl<L: Layout> Operation for Doubles<L> {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.immediate);
        let rows = Rows::new(context, op, shape);
        let (mut a, mut b) = ([[0f64; 4]; 8], [[0f64; 8]; 4]);
        // SAFETY: the decoder put these wide rows into the list.
        unsafe {
            let (lines, columns): ([f64; LANES], [f64; LANES]) =
                (context.load(rows.a(0)), context.load(rows.b(0)));
            for lane in 0..LANES {
                let (i, k) = L::a(shape, 0, lane, 0);
                a[i % 8][k % 4] = lines[lane];
                let (k, j) = L::b(shape, 0, lane, 0);
                b[k % 4][j % 8] = columns[lane];
            }
            let addends = rows.addends::<f64>(context);
            for (register, words) in addends.iter().enumerate().take(rows.counts[3]) {
                let sums: [f64; LANES] = std::array::from_fn(|lane| {
                    let (i, j) = L::c(shape, 1, register, lane, 0);
                    (0..4).fold(words[lane], |sum, k| a[i % 8][k].mul_add(b[k][j % 8], sum))
                });
                context.store(rows.d(register), sums);
            }
        }
        Outcome::Continue
    }
}

/// `mma.m8n8k4` of halves: each quarter of the warp (four lanes, and the four that are sixteen further) multiplies
/// matrices of its own.
struct Quarters;
impl Operation for Quarters {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.immediate);
        let rows = Rows::new(context, op, shape);
        let mut a = [[[0f32; 4]; 8]; 4];
        let mut b = [[[0f32; 8]; 4]; 4];
        let mut sums = [[[0f32; 8]; 8]; 4];
        // SAFETY: the decoder put these rows of 32-bit lanes into the list.
        unsafe {
            for register in 0..2 {
                let (lines, columns): ([u32; LANES], [u32; LANES]) = (
                    context.load(rows.a(register)),
                    context.load(rows.b(register)),
                );
                for lane in 0..LANES {
                    let (quarter, first) = layout::quarter(lane);
                    for part in 0..2 {
                        let element = register * 2 + part;
                        // Along the lane's own line (or column), or across: one element of each of four.
                        let along = (first + lane % 4, element);
                        let across = (first + element, lane % 4);
                        let (i, k) = if shape.a_by_column { across } else { along };
                        a[quarter][i][k] = single(Factor::F16, lines[lane], part);
                        let (j, k) = if shape.b_by_line { across } else { along };
                        b[quarter][k][j] = single(Factor::F16, columns[lane], part);
                    }
                }
            }
            let place = |half: bool, lane: usize, element: usize| {
                if half {
                    layout::quarter_half(lane, element)
                } else {
                    layout::quarter_single(lane, element)
                }
            };
            let parts = results_in_register(shape.half_c);
            for register in 0..rows.counts[2] {
                let words: [u32; LANES] = context.load(rows.c(register));
                for (lane, word) in words.into_iter().enumerate() {
                    let (quarter, _) = layout::quarter(lane);
                    for part in 0..parts {
                        let (i, j) = place(shape.half_c, lane, register * parts + part);
                        sums[quarter][i][j] = addend(shape.half_c, word, part);
                    }
                }
            }
            for quarter in 0..4 {
                for i in 0..8 {
                    for k in 0..4 {
                        for j in 0..8 {
                            let product = a[quarter][i][k] * b[quarter][k][j];
                            sums[quarter][i][j] += product;
                        }
                    }
                }
            }
            let parts = results_in_register(shape.half_d);
            for register in 0..rows.counts[3] {
                let words: [u32; LANES] = std::array::from_fn(|lane| {
                    let (quarter, _) = layout::quarter(lane);
                    pack(shape.half_d, |part| {
                        let (i, j) = place(shape.half_d, lane, register * parts + part);
                        sums[quarter][i][j]
                    })
                });
                context.store(rows.d(register), words);
            }
        }
        Outcome::Continue
    }
}
