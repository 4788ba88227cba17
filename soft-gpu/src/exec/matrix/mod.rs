//! Small matrices that are spread over the lanes of a warp: `mma`, `wmma`, `ldmatrix`, `movmatrix`.
//!
//! [`layout`] says which lane holds which element, [`multiply`](mod@multiply) gathers the fragments into arrays, multiplies, and
//! spreads the result, [`transfer`] moves fragments between registers and memory; [`packed`] does both where a fragment of `wmma` is the
//! matrix itself. PTX fixes the layouts of `mma`; those
//! of `wmma` are the implementation's own, here the elements in the order in which they are summed.
//!
//! Elements are multiplied exactly and summed as singles (halves and their like), doubles or 32-bit integers in the
//! order of `k`; hardware sums in an order of its own, so that last bits differ.

mod layout;
mod multiply;
mod packed;
mod transfer;

pub(crate) use multiply::multiply;
pub(crate) use transfer::{Fragment, load_fragment, load_tiles, move_tile, store_fragment};

/// Types of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Factor {
    F16,
    Bf16,
    Tf32,
    F64,
    S8,
    U8,
    S4,
    U4,
    B1,
}

impl Factor {
    const ALL: [Factor; 9] = [
        Factor::F16,
        Factor::Bf16,
        Factor::Tf32,
        Factor::F64,
        Factor::S8,
        Factor::U8,
        Factor::S4,
        Factor::U4,
        Factor::B1,
    ];

    /// Width of an element in bits.
    pub(crate) fn bits(self) -> usize {
        match self {
            Factor::F16 | Factor::Bf16 => 16,
            Factor::Tf32 => 32,
            Factor::F64 => 64,
            Factor::S8 | Factor::U8 => 8,
            Factor::S4 | Factor::U4 => 4,
            Factor::B1 => 1,
        }
    }

    /// Elements in a register.
    pub(crate) fn per_register(self) -> usize {
        (32 / self.bits()).max(1)
    }
}

/// Which instruction a product belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Family {
    /// `mma`
    Mma,
    /// `mma.m8n8k4` of halves: four products by quarters of the warp.
    Quarters,
    /// `wmma.mma`
    Wmma,
}

/// How bits are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BitProduct {
    Xor,
    And,
}

/// One product `D = A * B + C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) family: Family,
    /// Lines of A and of the result.
    pub(crate) m: usize,
    /// Columns of B and of the result.
    pub(crate) n: usize,
    /// Columns of A, lines of B.
    pub(crate) k: usize,
    pub(crate) a: Factor,
    pub(crate) b: Factor,
    /// Whether C, and D, are packed halves.
    pub(crate) half_c: bool,
    pub(crate) half_d: bool,
    /// Whether sums of integers stop at the ends of their range.
    pub(crate) saturate: bool,
    /// Whether A is laid out by columns, and B by lines: only of [`Family::Quarters`], elsewhere the layout is the same.
    pub(crate) a_by_column: bool,
    pub(crate) b_by_line: bool,
    pub(crate) bit_product: BitProduct,
}

impl Shape {
    /// As the number that an operation carries.
    pub(crate) fn encode(self) -> i64 {
        let flags = [
            self.half_c,
            self.half_d,
            self.saturate,
            self.a_by_column,
            self.b_by_line,
            self.bit_product == BitProduct::And,
        ];
        let flags = flags
            .into_iter()
            .enumerate()
            .fold(0, |all, (bit, flag)| all | u8::from(flag) << bit);
        let [k_low, k_high] = (self.k as u16).to_le_bytes();
        i64::from_le_bytes([
            self.m as u8,
            self.n as u8,
            k_low,
            k_high,
            self.a as u8,
            self.b as u8,
            flags,
            self.family as u8,
        ])
    }

    /// What [`Shape::encode`] made a number of.
    #[inline(always)]
    fn decode(bits: i64) -> Shape {
        let [m, n, k_low, k_high, a, b, flags, family] = bits.to_le_bytes();
        let factor = |number: u8| Factor::ALL[usize::from(number) % Factor::ALL.len()];
        let flag = |bit: u8| flags >> bit & 1 != 0;
        Shape {
            family: match family {
                0 => Family::Mma,
                1 => Family::Quarters,
                _ => Family::Wmma,
            },
            m: usize::from(m),
            n: usize::from(n),
            k: usize::from(u16::from_le_bytes([k_low, k_high])),
            a: factor(a),
            b: factor(b),
            half_c: flag(0),
            half_d: flag(1),
            saturate: flag(2),
            a_by_column: flag(3),
            b_by_line: flag(4),
            bit_product: if flag(5) {
                BitProduct::And
            } else {
                BitProduct::Xor
            },
        }
    }

    /// Registers of A, B, C and D, as PTX has them.
    pub(crate) fn registers(self) -> [usize; 4] {
        let results = |half: bool| match self.family {
            Family::Quarters if half => 4,
            Family::Quarters => 8,
            _ => self.m * self.n / super::rows::LANES / if half { 2 } else { 1 },
        };
        let [a, b] = match self.family {
            Family::Quarters => [2, 2],
            Family::Mma => self.distinct_registers(),
            // Fragments of halves hold every element twice, whatever the shape.
            Family::Wmma if self.a == Factor::F16 => [8, 8],
            Family::Wmma => self.distinct_registers(),
        };
        [a, b, results(self.half_c), results(self.half_d)]
    }

    /// Registers that it takes to hold each element of A, and of B, once.
    fn distinct_registers(self) -> [usize; 2] {
        let lanes = super::rows::LANES;
        [
            self.m * self.k / lanes / self.a.per_register(),
            self.n * self.k / lanes / self.b.per_register(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_survives_its_encoding() {
        let shape = Shape {
            family: Family::Wmma,
            m: 32,
            n: 8,
            k: 256,
            a: Factor::U4,
            b: Factor::B1,
            half_c: true,
            half_d: false,
            saturate: true,
            a_by_column: false,
            b_by_line: true,
            bit_product: BitProduct::And,
        };
        assert_eq!(Shape::decode(shape.encode()), shape);
    }
}
