//! The same in plain Rust on one thread, compiled for AVX2 where the machine has it.
//!
//! # Safety
//!
//! The version for AVX2 runs only where the machine has AVX2 and FMA.
#![expect(unsafe_code, reason = "vector instructions that not every machine has")]

use super::cases::{CHANNELS, COLUMNS, IMAGES, MATRIX, SIDE, Work};

/// Does the work on the sources.
pub(super) fn compute(work: Work, sources: &[Vec<f32>], result: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the machine has the instructions.
        return unsafe { compute_avx2(work, sources, result) };
    }
    compute_anywhere(work, sources, result);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn compute_avx2(work: Work, sources: &[Vec<f32>], result: &mut [f32]) {
    compute_anywhere(work, sources, result);
}

#[inline(always)]
fn compute_anywhere(work: Work, sources: &[Vec<f32>], result: &mut [f32]) {
    match (work, sources) {
        (Work::Saxpy, [x]) => {
            for (y, x) in result.iter_mut().zip(x) {
                *y = 2.5f32.mul_add(*x, *y);
            }
        }
        (Work::Sum, [x]) => result[0] = x.iter().sum(),
        (Work::Product | Work::ProductOfHalves, [a, b]) => product(a, b, result),
        (Work::Softmax, [rows]) => {
            let lines = rows.chunks_exact(COLUMNS);
            for (row, out) in lines.zip(result.chunks_exact_mut(COLUMNS)) {
                softmax(row, out);
            }
        }
        (Work::LayerNorm, [rows, weights, shifts]) => {
            let lines = rows.chunks_exact(COLUMNS);
            for (row, out) in lines.zip(result.chunks_exact_mut(COLUMNS)) {
                layer_norm(row, weights, shifts, out);
            }
        }
        (Work::Convolution, [images, weights, bias]) => convolution(images, weights, bias, result),
        _ => {}
    }
}

#[inline(always)]
fn product(a: &[f32], b: &[f32], out: &mut [f32]) {
    for (row, out) in a.chunks_exact(MATRIX).zip(out.chunks_exact_mut(MATRIX)) {
        for (value, line) in row.iter().zip(b.chunks_exact(MATRIX)) {
            for (sum, other) in out.iter_mut().zip(line) {
                *sum = value.mul_add(*other, *sum);
            }
        }
    }
}

#[inline(always)]
fn softmax(row: &[f32], out: &mut [f32]) {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for (out, value) in out.iter_mut().zip(row) {
        *out = (value - highest).exp();
        total += *out;
    }
    out.iter_mut().for_each(|out| *out /= total);
}

#[inline(always)]
fn layer_norm(row: &[f32], weights: &[f32], shifts: &[f32], out: &mut [f32]) {
    let mean = row.iter().sum::<f32>() / COLUMNS as f32;
    let squares: f32 = row
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    let scale = 1.0 / (squares / COLUMNS as f32 + 1e-5).sqrt();
    for (index, out) in out.iter_mut().enumerate() {
        *out = ((row[index] - mean) * scale).mul_add(weights[index], shifts[index]);
    }
}

#[inline(always)]
fn convolution(images: &[f32], weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let wide = SIDE + 2;
    for (plane, out) in out.chunks_exact_mut(SIDE * SIDE).enumerate() {
        let (image, to) = (plane / CHANNELS, plane % CHANNELS);
        debug_assert!(image < IMAGES);
        out.fill(bias[to]);
        for from in 0..CHANNELS {
            let source = &images[(image * CHANNELS + from) * wide * wide..][..wide * wide];
            let weights = &weights[(to * CHANNELS + from) * 9..][..9];
            for (tap, weight) in weights.iter().enumerate() {
                for (y, line) in out.chunks_exact_mut(SIDE).enumerate() {
                    let values = &source[(y + tap / 3) * wide + tap % 3..][..SIDE];
                    for (sum, value) in line.iter_mut().zip(values) {
                        *sum = value.mul_add(*weight, *sum);
                    }
                }
            }
        }
        out.iter_mut().for_each(|value| *value = value.max(0.0));
    }
}
