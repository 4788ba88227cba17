//! `mma.sync`: products of small matrices that are spread over the lanes of a warp.
//!
//! Elements are multiplied exactly and summed as singles in the order of `k`; hardware sums in an order of its own,
//! so that last bits differ.
//!
//! # Safety
//!
//! As in [`super::rows`]; the operand list holds as many rows as the shape says.
#![expect(unsafe_code, reason = "rows are reached through a frame pointer")]

use super::half::{Bf16, F16, Half};
use super::op::Op;
use super::path::Path;
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, handler};

/// Rows of A and of the result.
const M: usize = 16;
/// Columns of B and of the result.
const N: usize = 8;
/// Most columns of A.
const MAX_K: usize = 16;

/// Types of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Factor {
    F16,
    Bf16,
    Tf32,
}

/// A shape of `mma` with sixteen rows and eight columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) factor: Factor,
    /// Columns of A: 8 or 16.
    pub(crate) k: usize,
    /// Whether C and D are packed halves, not singles.
    pub(crate) half_result: bool,
}

impl Shape {
    /// As the number that an [`Op`] carries.
    pub(crate) fn encode(self) -> u8 {
        self.factor as u8 | (self.k as u8) << 2 | u8::from(self.half_result) << 7
    }

    fn decode(bits: u8) -> Shape {
        let factor = match bits & 3 {
            0 => Factor::F16,
            1 => Factor::Bf16,
            _ => Factor::Tf32,
        };
        Shape {
            factor,
            k: usize::from(bits >> 2 & 31).min(MAX_K),
            half_result: bits & 0x80 != 0,
        }
    }

    /// Elements in a register of A or B.
    fn per_register(self) -> usize {
        if self.factor == Factor::Tf32 { 1 } else { 2 }
    }

    /// Registers of A, B, and C or D.
    pub(crate) fn registers(self) -> [usize; 3] {
        let a = M * self.k / LANES / self.per_register();
        let b = N * self.k / LANES / self.per_register();
        [a, b, if self.half_result { 2 } else { 4 }]
    }

    fn value(self, word: u32, part: usize) -> f32 {
        let half = (word >> (16 * part)) as u16;
        match self.factor {
            Factor::F16 => F16(half).to_f32(),
            Factor::Bf16 => Bf16(half).to_f32(),
            Factor::Tf32 => f32::from_bits(word & 0xffff_e000),
        }
    }
}

struct Multiply;
impl Operation for Multiply {
    #[inline(always)]
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let shape = Shape::decode(op.count);
        let list = &context.program.code.lists[op.link as usize];
        let [a_count, b_count, c_count] = shape.registers();
        // SAFETY: the decoder put that many rows of 32-bit lanes into the list.
        unsafe {
            let row = |index: usize| context.load::<u32>(list.reads[index]);
            let (mut a, mut b) = ([[0f32; MAX_K]; M], [[0f32; N]; MAX_K]);
            for register in 0..a_count {
                scatter(shape, row(register), |lane, part, value| {
                    let column = (register / 2) * 4 * shape.per_register();
                    a[lane / 4 + 8 * (register % 2)]
                        [column + lane % 4 * shape.per_register() + part] = value;
                });
            }
            for register in 0..b_count {
                scatter(shape, row(a_count + register), |lane, part, value| {
                    let line = register * 4 * shape.per_register();
                    b[line + lane % 4 * shape.per_register() + part][lane / 4] = value;
                });
            }
            let mut sums = [[0f32; N]; M];
            for register in 0..c_count {
                let words = row(a_count + b_count + register);
                for (lane, word) in words.into_iter().enumerate() {
                    place_result(shape, &mut sums, register, lane, word);
                }
            }
            for i in 0..M {
                for k in 0..shape.k {
                    for j in 0..N {
                        sums[i][j] = a[i][k].mul_add(b[k][j], sums[i][j]);
                    }
                }
            }
            for register in 0..c_count {
                let words = std::array::from_fn(|lane| result(shape, &sums, register, lane));
                context.store::<u32>(list.writes[register], words);
            }
        }
        Outcome::Continue
    }
}

/// Calls `put` with every element of a register of factors.
#[inline(always)]
fn scatter(shape: Shape, words: [u32; LANES], mut put: impl FnMut(usize, usize, f32)) {
    for (lane, word) in words.into_iter().enumerate() {
        for part in 0..shape.per_register() {
            put(lane, part, shape.value(word, part));
        }
    }
}

/// The place of part `part` of a lane's register in the result.
#[inline(always)]
fn result_place(half_result: bool, register: usize, lane: usize, part: usize) -> (usize, usize) {
    let (below, part) = if half_result {
        (register, part)
    } else {
        (register / 2, register % 2)
    };
    (lane / 4 + 8 * below, lane % 4 * 2 + part)
}

fn place_result(shape: Shape, sums: &mut [[f32; N]; M], register: usize, lane: usize, word: u32) {
    for part in 0..if shape.half_result { 2 } else { 1 } {
        let (i, j) = result_place(shape.half_result, register, lane, part);
        sums[i][j] = if shape.half_result {
            F16((word >> (16 * part)) as u16).to_f32()
        } else {
            f32::from_bits(word)
        };
    }
}

fn result(shape: Shape, sums: &[[f32; N]; M], register: usize, lane: usize) -> u32 {
    let value = |part: usize| {
        let (i, j) = result_place(shape.half_result, register, lane, part);
        sums[i][j]
    };
    if shape.half_result {
        u32::from(F16::nearest(value(0)).0) | u32::from(F16::nearest(value(1)).0) << 16
    } else {
        value(0).to_bits()
    }
}

/// The handler of `mma`.
pub(crate) fn multiply(path: Path) -> Handler {
    handler::<Multiply>(path)
}
