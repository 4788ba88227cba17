//! Whole kernels on every path.

mod support;

use soft_gpu::exec::FaultKind;
use support::{Argument, Kernel, Run, kernels};

const SAXPY: &str = include_str!("../kernels/saxpy.ptx");

fn saxpy(
    kernel: &Kernel,
    count: u32,
    held: usize,
    threads: usize,
) -> (Vec<f32>, Result<(), soft_gpu::exec::Fault>) {
    let mut x: Vec<f32> = (0..held).map(|i| i as f32 * 0.5).collect();
    let mut y: Vec<f32> = (0..held).map(|i| (i % 17) as f32).collect();
    let mut run = Run::new(kernel, count.div_ceil(96), 96);
    run.threads = threads;
    let (xs, ys) = (run.buffer(&mut x), run.buffer(&mut y));
    let result = run
        .launch(&[
            Argument::U32(2.5f32.to_bits()),
            xs,
            ys,
            Argument::U32(count),
        ])
        .map(|_| ());
    (y, result)
}

#[test]
fn saxpy_is_exact_on_every_path() {
    for kernel in kernels(SAXPY, "k") {
        let (y, result) = saxpy(&kernel, 1001, 1001, 2);
        result.unwrap();
        for (i, value) in y.iter().enumerate() {
            assert_eq!(
                *value,
                2.5f32.mul_add(i as f32 * 0.5, (i % 17) as f32),
                "{:?} at {i}",
                kernel.path
            );
        }
    }
}

#[test]
fn an_access_past_the_end_is_a_fault_that_explains_itself() {
    for kernel in kernels(SAXPY, "k") {
        let (_, result) = saxpy(&kernel, 1030, 1001, 1);
        let fault = result.unwrap_err();
        assert_eq!(fault.kind, FaultKind::IllegalAddress);
        assert!(fault.ptx_line > 30 && fault.nearest.is_some(), "{fault}");
        assert!(fault.to_string().contains("past its end"), "{fault}");
    }
}

fn matmul(text: &str, grid: [u32; 3], block: [u32; 3]) {
    let n = 64usize;
    for kernel in kernels(text, "k") {
        let mut a: Vec<f32> = (0..n * n).map(|i| (i % 7) as f32 * 0.25).collect();
        let mut b: Vec<f32> = (0..n * n).map(|i| (i % 5) as f32 * 0.5).collect();
        let mut c = vec![0f32; n * n];
        let mut run = Run::new(&kernel, 1, 1);
        (run.grid, run.block) = (grid, block);
        let arguments = [
            run.buffer(&mut a),
            run.buffer(&mut b),
            run.buffer(&mut c),
            Argument::U32(n as u32),
        ];
        run.launch(&arguments).unwrap();
        for row in 0..n {
            for column in 0..n {
                let want = (0..n).fold(0f32, |sum, i| {
                    a[row * n + i].mul_add(b[i * n + column], sum)
                });
                assert_eq!(
                    c[row * n + column],
                    want,
                    "{:?} at {row},{column}",
                    kernel.path
                );
            }
        }
    }
}

#[test]
fn naive_matmul_in_two_block_shapes() {
    matmul(
        include_str!("../kernels/matmul_naive.ptx"),
        [2, 8, 1],
        [32, 8, 1],
    );
    matmul(
        include_str!("../kernels/matmul_naive.ptx"),
        [4, 4, 1],
        [16, 16, 1],
    );
}

#[test]
fn tiled_matmul_with_barriers() {
    matmul(
        include_str!("../kernels/matmul_tiled.ptx"),
        [2, 2, 1],
        [32, 32, 1],
    );
}

/// What `reuse.ptx` computes for a thread.
fn reused(tid: u32) -> u32 {
    let word = |index: u32| index % 32 + index / 32 * 100;
    let at = |index: u32, row: u32| word(index) + row * 100;
    let branch = if tid < 16 {
        at(tid, 0) + at(tid, 2)
    } else {
        at(tid, 1) + at(tid, 2) + at(tid - 16, 0) + at(tid - 16, 1)
    };
    let rounds = [tid, tid * 7 % 32, 3].map(|index| at(index, 0) + at(index, 1));
    branch + rounds.iter().sum::<u32>() + at(tid, 0)
}

#[test]
fn what_is_known_of_addresses_is_taken_over_only_where_it_holds() {
    let text = include_str!("../kernels/reuse.ptx");
    for kernel in kernels(text, "k") {
        for (offset, expected) in [
            (0, None),
            (1, Some(FaultKind::Misaligned)),
            (4096, Some(FaultKind::IllegalAddress)),
        ] {
            let mut out = vec![0u32; 32];
            let mut run = Run::new(&kernel, 1, 32);
            let arguments = [run.buffer(&mut out), Argument::U32(offset)];
            let result = run.launch(&arguments).map(drop).map_err(|fault| fault.kind);
            assert_eq!(result.err(), expected, "{:?}", kernel.path);
            if expected.is_none() {
                let want: Vec<u32> = (0..32).map(reused).collect();
                assert_eq!(out, want, "{:?}", kernel.path);
            }
        }
    }
}

#[test]
fn lanes_that_go_ahead_leave_alone_what_those_behind_still_need() {
    let text = include_str!("../kernels/parted.ptx");
    let expected: Vec<u64> = (0..32u64)
        .map(|tid| match tid {
            0..16 => tid * 1_000_003,
            _ => [1, 3, 5, 7].map(|i| (tid + i) * (tid + i + 1)).iter().sum(),
        })
        .collect();
    for kernel in kernels(text, "k") {
        let mut out = vec![0u64; 32];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        assert_eq!(out, expected, "{:?}", kernel.path);
    }
}

/// Block 0 writes vectors of equal elements again and again, block 1 reads them; what it finds different in a vector is not 0.
fn writer_and_reader(count: usize, bits: usize) -> String {
    let values = |name: &str| vec![name; count].join(", ");
    let names: Vec<String> = (0..count).map(|element| format!("%v{element}")).collect();
    let compared: String = (1..count)
        .map(|element| format!("xor.b{bits} %w, %v0, %v{element};\nor.b{bits} %all, %all, %w;\n"))
        .collect();
    format!(
        "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 memory, .param .u64 out, .param .u32 stride)
{{
    .reg .b32 %r<6>; .reg .b64 %d<4>; .reg .pred %p;
    .reg .b{bits} %i, %w, %all, %v<{count}>;
    ld.param.u64 %d0, [memory];
    ld.param.u64 %d1, [out];
    ld.param.u32 %r0, [stride];
    mov.u32 %r1, %tid.x;
    mad.wide.u32 %d0, %r1, %r0, %d0;
    mad.wide.u32 %d1, %r1, 8, %d1;
    mov.b{bits} %i, 0;
    mov.b{bits} %all, 0;
    mov.u32 %r2, 0;
    mov.u32 %r3, %ctaid.x;
    setp.ne.u32 %p, %r3, 0;
    @%p bra read;
write:
    st.volatile.global.v{count}.u{bits} [%d0], {{{written}}};
    add.u{bits} %i, %i, 1;
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p, %r2, 40000;
    @%p bra write;
    ret;
read:
    ld.volatile.global.v{count}.u{bits} {{{read}}}, [%d0];
    {compared}
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p, %r2, 40000;
    @%p bra read;
    st.global.u{bits} [%d1], %all;
    ret;
}}
",
        written = values("%i"),
        read = names.join(", "),
    )
}

/// Of up to sixteen bytes. The strides: one address, neighbours, and apart.
#[test]
fn a_vector_is_read_as_it_was_written() {
    for (count, bits) in [(2, 64), (4, 32), (2, 32), (4, 16)] {
        let size = (count * bits / 8) as u32;
        for kernel in kernels(&writer_and_reader(count, bits), "k") {
            for stride in [0, size, 3 * size] {
                let mut memory = vec![0u128; 32 * 3];
                let mut out = vec![0u64; 32];
                let mut run = Run::new(&kernel, 2, 32);
                let arguments = [
                    run.buffer(&mut memory),
                    run.buffer(&mut out),
                    Argument::U32(stride),
                ];
                run.launch(&arguments).unwrap();
                let path = kernel.path;
                assert_eq!(out, [0; 32], "{path:?} v{count}.u{bits}, stride {stride}");
            }
        }
    }
}

/// A parameter's name in 32 bits, as Triton writes it: `cvta` makes an address of it, as of one in 64.
#[test]
fn a_parameter_has_an_address_of_either_width() {
    let text = "
.version 7.7
.target sm_70
.address_size 64
.visible .entry k(.param .u64 first, .param .u64 out)
{
    .reg .b32 %r; .reg .b64 %narrow, %wide, %x, %y, %out;
    ld.param.u64 %out, [out];
    mov.b32 %r, out; cvt.u64.u32 %narrow, %r; cvta.param.u64 %narrow, %narrow;
    mov.b64 %wide, first; cvta.param.u64 %wide, %wide;
    ld.b64 %x, [%narrow]; ld.b64 %y, [%wide+8]; st.global.v2.b64 [%out], {%x, %y};
    ret;
}
";
    for kernel in kernels(text, "k") {
        let mut out = [0u64; 2];
        let mut run = Run::new(&kernel, 1, 1);
        let Argument::U64(address) = run.buffer(&mut out) else {
            panic!("an address");
        };
        run.launch(&[Argument::U64(7), Argument::U64(address)])
            .unwrap();
        assert_eq!(out, [address; 2], "on {:?}", kernel.path);
    }
}
