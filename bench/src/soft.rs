//! Speed of the software GPU's executor: three kernels on every path of the machine.
//!
//! `bench soft [THREADS]`. Best of several runs; expected on one core of 2.5 GHz is
//! 5 to 15 ns for an operation of a warp, most of it in loads.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use soft_gpu::exec::{Allocations, HostServices, Launch, Path, Pool, Program, Statistics, run};

const SAXPY: &str = include_str!("../../soft-gpu/kernels/saxpy.ptx");
const NAIVE: &str = include_str!("../../soft-gpu/kernels/matmul_naive.ptx");
const TILED: &str = include_str!("../../soft-gpu/kernels/matmul_tiled.ptx");
/// Rows and columns of the matrices.
const MATRIX: usize = 256;
/// Elements of the vectors.
const VECTOR: usize = 1 << 20;
/// Runs of which the best counts.
const RUNS: usize = 15;

/// A kernel, its launch and what it works on.
struct Case {
    name: &'static str,
    text: &'static str,
    grid: [u32; 3],
    block: [u32; 3],
    params: Vec<u8>,
    ranges: Vec<Range<u64>>,
}

fn range(buffer: &[f32]) -> Range<u64> {
    let start = buffer.as_ptr() as u64;
    start..start + size_of_val(buffer) as u64
}

fn saxpy(buffers: &[Vec<f32>]) -> Case {
    let mut params = Vec::from(2.5f32.to_bits().to_le_bytes());
    params.extend([0; 4]);
    for buffer in &buffers[..2] {
        params.extend(range(buffer).start.to_le_bytes());
    }
    params.extend((VECTOR as u32).to_le_bytes());
    let ranges = buffers[..2].iter().map(|buffer| range(buffer)).collect();
    Case {
        name: "saxpy 2^20",
        text: SAXPY,
        grid: [VECTOR as u32 / 256, 1, 1],
        block: [256, 1, 1],
        params,
        ranges,
    }
}

fn matmul(name: &'static str, text: &'static str, block: [u32; 3], buffers: &[Vec<f32>]) -> Case {
    let mut params = Vec::new();
    for buffer in &buffers[2..] {
        params.extend(range(buffer).start.to_le_bytes());
    }
    params.extend((MATRIX as u32).to_le_bytes());
    let ranges = buffers[2..].iter().map(|buffer| range(buffer)).collect();
    let grid = [MATRIX as u32 / block[0], MATRIX as u32 / block[1], 1];
    Case {
        name,
        text,
        grid,
        block,
        params,
        ranges,
    }
}

fn measure(case: &Case, path: Path, pool: &Pool) -> Result<(f64, Statistics), crate::Failure> {
    let program = Program::decode_for(&soft_gpu::ptx::parse(case.text)?, "k", &|_| None, path)?;
    let cancelled = AtomicBool::new(false);
    let host = HostServices {
        printf: &|_| (),
        operation_budget: None,
        cancelled: &cancelled,
        heap: None,
    };
    let allocations = Allocations::new(case.ranges.iter().cloned());
    let launch = Launch {
        program: &program,
        grid: case.grid,
        block: case.block,
        dynamic_shared_bytes: 0,
        params: &case.params,
        cooperative: false,
    };
    let mut best = (f64::INFINITY, Statistics::default());
    for _ in 0..RUNS {
        let start = Instant::now();
        let statistics = run(pool, &launch, &allocations, &host)?;
        best = (best.0.min(start.elapsed().as_secs_f64()), statistics);
    }
    Ok(best)
}

/// Runs every kernel on every path with so many threads.
///
/// # Errors
/// A kernel does not decode, or faults.
pub(crate) fn run_all(threads: usize) -> Result<(), crate::Failure> {
    let pool = Pool::new(threads);
    let sizes = [
        VECTOR,
        VECTOR,
        MATRIX * MATRIX,
        MATRIX * MATRIX,
        MATRIX * MATRIX,
    ];
    let buffers = sizes.map(|size| {
        (0..size)
            .map(|i| (i % 17) as f32 * 0.25)
            .collect::<Vec<f32>>()
    });
    let cases = [
        saxpy(&buffers),
        matmul("matmul naive 32x8", NAIVE, [32, 8, 1], &buffers),
        matmul("matmul naive 16x16", NAIVE, [16, 16, 1], &buffers),
        matmul("matmul tiled 32x32", TILED, [32, 32, 1], &buffers),
    ];
    for path in Path::available() {
        for case in &cases {
            let (seconds, statistics) = measure(case, *path, &pool)?;
            let nanoseconds = seconds * 1e9 / statistics.warp_operations as f64;
            println!(
                "{path:?} {:20} {:8.3} ms {nanoseconds:6.2} ns/operation",
                case.name,
                seconds * 1e3
            );
        }
    }
    Ok(())
}
