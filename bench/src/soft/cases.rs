//! The kernels, their launches, and what they work on.

use std::ops::Range;

use super::plain;

const SAXPY: &str = include_str!("../../../soft-gpu/kernels/saxpy.ptx");
const NAIVE: &str = include_str!("../../../soft-gpu/kernels/matmul_naive.ptx");
const TILED: &str = include_str!("../../../soft-gpu/kernels/matmul_tiled.ptx");
const NETWORK: &str = include_str!("../../../soft-gpu/kernels/network.ptx");

/// Rows and columns of the matrices.
pub(super) const MATRIX: usize = 256;
/// Elements of the vectors.
const VECTOR: usize = 1 << 20;
/// Rows of softmax and layer norm.
const ROWS: usize = 256;
/// Elements of each.
pub(super) const COLUMNS: usize = 1024;
/// Images of the convolution.
pub(super) const IMAGES: usize = 4;
/// Channels before and after it.
pub(super) const CHANNELS: usize = 16;
/// Width and height of a result.
pub(super) const SIDE: usize = 32;

/// A parameter of a kernel.
enum Parameter {
    /// The address of a buffer, by number.
    Buffer(usize),
    Single(f32),
    Number(u32),
}

/// What a case computes, on the buffers in this order; the last one is the result.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// x, y: y = 2.5 x + y
    Saxpy,
    Sum,
    /// a, b, product
    Product,
    /// The same of halves.
    ProductOfHalves,
    Softmax,
    /// rows, weights, shifts
    LayerNorm,
    /// images, weights, bias
    Convolution,
}

/// A kernel, its launch and what it works on.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) kernel: &'static str,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    work: Work,
    parameters: Vec<Parameter>,
    buffers: Vec<Vec<f32>>,
    /// The sources as halves, for the kernels that take those.
    halves: Vec<Vec<u16>>,
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 17) as f32 * 0.25 - 2.0).collect()
}

/// A number of `numbers` as a half: all of them are exact.
fn half(value: f32) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    (bits >> 16 & 0x8000) as u16 | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

impl Case {
    fn new(
        (name, text, kernel): (&'static str, &'static str, &'static str),
        grid: [u32; 3],
        block: [u32; 3],
        work: Work,
        sizes: &[usize],
    ) -> Case {
        let buffers: Vec<_> = sizes.iter().map(|&size| numbers(size)).collect();
        let mut parameters: Vec<_> = (0..buffers.len()).map(Parameter::Buffer).collect();
        match work {
            Work::Saxpy => {
                parameters.insert(0, Parameter::Single(2.5));
                parameters.push(Parameter::Number(VECTOR as u32));
            }
            Work::Sum => parameters.push(Parameter::Number(VECTOR as u32)),
            Work::Product | Work::ProductOfHalves => {
                parameters.push(Parameter::Number(MATRIX as u32))
            }
            _ => {}
        }
        let halves = match work {
            Work::ProductOfHalves => buffers[..2]
                .iter()
                .map(|buffer| buffer.iter().map(|&value| half(value)).collect())
                .collect(),
            _ => Vec::new(),
        };
        Case {
            name,
            text,
            kernel,
            grid,
            block,
            work,
            parameters,
            buffers,
            halves,
        }
    }

    /// Where a buffer of the kernel lies.
    fn range(&self, index: usize) -> Range<u64> {
        let (start, bytes) = match self.halves.get(index) {
            Some(halves) => (halves.as_ptr() as u64, size_of_val(&halves[..])),
            None => {
                let buffer = &self.buffers[index];
                (buffer.as_ptr() as u64, size_of_val(&buffer[..]))
            }
        };
        start..start + bytes as u64
    }

    /// The memory that the kernel may touch.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        (0..self.buffers.len())
            .map(|index| self.range(index))
            .collect()
    }

    /// The parameter buffer.
    pub(super) fn params(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for parameter in &self.parameters {
            match parameter {
                Parameter::Buffer(index) => {
                    bytes.resize(bytes.len().next_multiple_of(8), 0);
                    bytes.extend(self.range(*index).start.to_le_bytes());
                }
                Parameter::Single(value) => bytes.extend(value.to_le_bytes()),
                Parameter::Number(value) => bytes.extend(value.to_le_bytes()),
            }
        }
        bytes
    }

    /// What the result holds before a launch: what is added to, or nothing.
    fn untouched(&self, length: usize) -> Vec<f32> {
        match self.work {
            Work::Saxpy => numbers(length),
            _ => vec![0.0; length],
        }
    }

    /// Forgets what launches have left.
    pub(super) fn reset(&mut self) {
        let length = self.buffers.last().map_or(0, Vec::len);
        let untouched = self.untouched(length);
        if let Some(result) = self.buffers.last_mut() {
            result.copy_from_slice(&untouched);
        }
    }

    /// The same by plain Rust, with a result of its own.
    pub(super) fn in_rust(&self) -> Vec<f32> {
        let (sources, result) = self.buffers.split_at(self.buffers.len() - 1);
        let mut result = self.untouched(result[0].len());
        plain::compute(self.work, sources, &mut result);
        result
    }

    /// Compares what one launch has left with what is wanted.
    pub(super) fn check(&self, wanted: &[f32]) -> Result<(), crate::Failure> {
        let result = self.buffers.last().map_or(&[][..], |result| &result[..]);
        for (index, (&got, &wanted)) in result.iter().zip(wanted).enumerate() {
            let is_near = (got - wanted).abs() <= 1e-3 + 1e-4 * wanted.abs();
            if !is_near {
                let what = format!("{}: {index} is {got}, not {wanted}", self.name);
                return Err(what.into());
            }
        }
        Ok(())
    }
}

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let matmul = |name, text, block: [u32; 3]| {
        let grid = [MATRIX as u32 / block[0], MATRIX as u32 / block[1], 1];
        let sizes = [MATRIX * MATRIX; 3];
        Case::new((name, text, "k"), grid, block, Work::Product, &sizes)
    };
    let of_network = |name, kernel, grid, work, sizes: &[usize]| {
        let block = match work {
            Work::Convolution => [SIDE as u32, 8, 1],
            Work::ProductOfHalves => [128, 1, 1],
            _ => [256, 1, 1],
        };
        Case::new((name, NETWORK, kernel), grid, block, work, sizes)
    };
    let table = ROWS * COLUMNS;
    let images = IMAGES * CHANNELS * (SIDE + 2) * (SIDE + 2);
    vec![
        Case::new(
            ("saxpy 2^20", SAXPY, "k"),
            [VECTOR as u32 / 256, 1, 1],
            [256, 1, 1],
            Work::Saxpy,
            &[VECTOR, VECTOR],
        ),
        of_network(
            "sum of 2^20",
            "reduction",
            [64, 1, 1],
            Work::Sum,
            &[VECTOR, 1],
        ),
        matmul("matmul naive 32x8", NAIVE, [32, 8, 1]),
        matmul("matmul naive 16x16", NAIVE, [16, 16, 1]),
        matmul("matmul tiled 32x32", TILED, [32, 32, 1]),
        of_network(
            "matmul mma",
            "matmul_mma",
            [MATRIX as u32 / 64, MATRIX as u32 / 32, 1],
            Work::ProductOfHalves,
            &[MATRIX * MATRIX; 3],
        ),
        of_network(
            "softmax 256x1024",
            "softmax",
            [ROWS as u32, 1, 1],
            Work::Softmax,
            &[table; 2],
        ),
        of_network(
            "layer norm 256x1024",
            "layer_norm",
            [ROWS as u32, 1, 1],
            Work::LayerNorm,
            &[table, COLUMNS, COLUMNS, table],
        ),
        of_network(
            "convolution 3x3",
            "convolution",
            [SIDE as u32 / 8, CHANNELS as u32, IMAGES as u32],
            Work::Convolution,
            &[
                images,
                CHANNELS * CHANNELS * 9,
                CHANNELS,
                IMAGES * CHANNELS * SIDE * SIDE,
            ],
        ),
    ]
}
