//! What nvcc makes of ordinary CUDA, on every path, against the same thing in Rust.

mod support;
#[path = "support/variables.rs"]
mod variables;

use soft_gpu::exec::FaultKind;
use support::{Argument, Run, kernels, kernels_with};
use variables::Variables;

const SUITE: &str = include_str!("../kernels/suite.ptx");

fn no_variables(name: &str) -> Option<u64> {
    // Kernels that name no variable need no addresses, except for the strings of `printf` and `assert`.
    let _ = name;
    None
}

fn variables() -> Variables {
    Variables::of(&soft_gpu::ptx::parse(SUITE).unwrap())
}

fn with_variables(variables: &Variables, kernel: &str) -> Vec<support::Kernel> {
    kernels_with(SUITE, kernel, &|name| variables.address(name))
}

fn noise(count: usize) -> Vec<u32> {
    let mut state = 0x1234_5678_9abc_def1u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as u32
        })
        .collect()
}

#[test]
fn vector_add_and_reduction() {
    for kernel in kernels_with(SUITE, "vector_add", &no_variables) {
        let mut a: Vec<f32> = (0..777).map(|i| i as f32).collect();
        let mut b = a.clone();
        let mut c = vec![0f32; 777];
        let mut run = Run::new(&kernel, 2, 64);
        let arguments = [
            run.buffer(&mut a),
            run.buffer(&mut b),
            run.buffer(&mut c),
            Argument::U32(777),
        ];
        run.launch(&arguments).unwrap();
        assert!(c.iter().enumerate().all(|(i, c)| *c == 2.0 * i as f32));
    }
    for kernel in kernels(SUITE, "reduce") {
        let mut a: Vec<f32> = (0..5000).map(|i| (i % 13) as f32).collect();
        let mut out = vec![0f32; 3];
        let mut run = Run::new(&kernel, 3, 128);
        let arguments = [
            run.buffer(&mut a),
            run.buffer(&mut out),
            Argument::U32(5000),
        ];
        run.launch(&arguments).unwrap();
        assert_eq!(out.iter().sum::<f32>(), a.iter().sum::<f32>());
    }
}

#[test]
fn votes_matches_and_shuffles() {
    for kernel in kernels(SUITE, "votes") {
        let mut out = vec![0u32; 256];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for t in 0..32u32 {
            let row = &out[t as usize * 8..][..8];
            let third = if t % 3 == 0 { 11 } else { 0 };
            let shuffled = if t < 16 { 3 } else { 20 };
            assert_eq!(
                row,
                [
                    0xaaaa_aaaa,
                    1,
                    1,
                    third,
                    496,
                    0xf << (t / 4 * 4),
                    shuffled,
                    31
                ],
                "lane {t}"
            );
        }
    }
}

#[test]
fn histogram_in_shared_and_device_memory() {
    for kernel in kernels(SUITE, "histogram") {
        let mut data: Vec<u8> = noise(10_000).into_iter().map(|word| word as u8).collect();
        let mut bins = vec![0u32; 256];
        let mut run = Run::new(&kernel, 5, 96);
        let arguments = [
            run.buffer(&mut data),
            Argument::U32(10_000),
            run.buffer(&mut bins),
        ];
        run.launch(&arguments).unwrap();
        for (value, count) in bins.iter().enumerate() {
            assert_eq!(
                *count as usize,
                data.iter()
                    .filter(|byte| usize::from(**byte) == value)
                    .count()
            );
        }
    }
}

#[test]
fn atomics_of_every_kind() {
    for kernel in kernels(SUITE, "atomics") {
        let mut u = [0u32, 1000, 0, !0, 0, 0, 0, 5, 0, 1];
        let (mut s, mut l, mut f, mut d) = ([0i32, -1000, 0], [0u64; 2], [0f32], [0f64]);
        let mut run = Run::new(&kernel, 1, 64);
        let arguments = [
            run.buffer(&mut u),
            run.buffer(&mut s),
            run.buffer(&mut l),
            run.buffer(&mut f),
            run.buffer(&mut d),
        ];
        run.launch(&arguments).unwrap();
        let chain = (0..64).fold(1u32, |value, _| value.wrapping_mul(3).wrapping_add(1));
        let down = (0..64).fold(5u32, |value, _| {
            if value == 0 || value > 10 {
                10
            } else {
                value - 1
            }
        });
        assert_eq!(u, [2016, 5, 63, 0, !0, 0, 64 % 11, down, 77, chain]);
        assert_eq!(s, [-63, -3, -2016]);
        assert_eq!((l, f, d), ([2016 << 33, 63 << 34], [32.0], [16.0]));
    }
}

#[test]
fn a_spin_lock_within_a_warp_and_between_warps_makes_progress() {
    for kernel in kernels(SUITE, "lock") {
        let (mut lock, mut count) = ([0u32], [0u32]);
        let mut run = Run::new(&kernel, 2, 64);
        let arguments = [run.buffer(&mut lock), run.buffer(&mut count)];
        run.launch(&arguments).unwrap();
        assert_eq!((lock, count), ([0], [256]));
    }
}

#[test]
fn printf_formats() {
    let mut variables = variables();
    for kernel in with_variables(&variables, "hello") {
        let mut run = Run::new(&kernel, 1, 2);
        run.buffer(&mut variables.bytes);
        run.launch(&[Argument::U32(3), Argument::U64(0)]).unwrap();
        let text = String::from_utf8(run.printed.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "block 0 thread  0:  1.50 str ff -5 z 0x1234 %\nblock 0 thread  1:  2.50 str ff -5 z 0x1234 %\n"
        );
    }
}

#[test]
fn functions_recursion_and_local_memory() {
    let fibonacci = |n: u32| (0..n).fold((0u32, 1u32), |(a, b), _| (b, a + b)).0;
    for kernel in kernels(SUITE, "calls") {
        let (mut out, mut f) = (vec![0u32; 64], vec![0f32; 64]);
        let mut run = Run::new(&kernel, 1, 64);
        let arguments = [run.buffer(&mut out), run.buffer(&mut f)];
        run.launch(&arguments).unwrap();
        for t in 0..64u32 {
            assert_eq!(out[t as usize], fibonacci(t % 10), "thread {t}");
            assert_eq!(f[t as usize], t as f32 * 2.5 + (t + 1) as f32, "thread {t}");
        }
    }
    for kernel in kernels(SUITE, "locals") {
        let mut out = vec![0u32; 40];
        let mut run = Run::new(&kernel, 1, 40);
        let arguments = [run.buffer(&mut out), Argument::U32(3)];
        run.launch(&arguments).unwrap();
        for t in 0..40u32 {
            assert_eq!(
                out[t as usize],
                (0..16).map(|i| ((i * 3) & 15) * t * (i + 1)).sum::<u32>()
            );
        }
    }
}

#[test]
fn constants_switches_and_dynamic_shared_memory() {
    let mut variables = variables();
    for kernel in with_variables(&variables, "consts") {
        let mut out = vec![0f32; 8];
        let mut run = Run::new(&kernel, 1, 8);
        run.buffer(&mut variables.bytes);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        assert_eq!(out, [8.5, 9.5, 10.5, 11.5, 8.5, 9.5, 10.5, 11.5]);
    }
    for kernel in kernels(SUITE, "sw") {
        let mut out = vec![0u32; 101];
        out[100] = 42;
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for t in 0..32 {
            assert_eq!(out[t] as i32, [5, 9, -3, 100, 42, 77, 1][t % 7]);
        }
    }
    for kernel in kernels(SUITE, "dynamic") {
        let mut out = vec![0u32; 100];
        let mut run = Run::new(&kernel, 1, 100);
        run.shared = 400;
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        assert_eq!(out[0], 50);
        assert!((1..100).all(|t| out[t] == 2 * (99 - t as u32)));
    }
}

#[test]
fn library_functions_of_singles_and_doubles() {
    let variables = variables();
    let inputs: Vec<f32> = (0..200)
        .map(|i| (i as f32 - 100.0) * 0.173 + 0.01)
        .collect();
    for kernel in with_variables(&variables, "mathf_") {
        let (mut x, mut out) = (inputs.clone(), vec![0f32; 200 * 16]);
        let mut run = Run::new(&kernel, 2, 128);
        run.ranges
            .push(variables.bytes.as_ptr() as u64..variables.bytes.as_ptr() as u64 + 32768);
        let arguments = [run.buffer(&mut x), run.buffer(&mut out), Argument::U32(200)];
        run.launch(&arguments).unwrap();
        for (i, &a) in inputs.iter().enumerate() {
            let a = f64::from(a);
            let want = [
                a.sin(),
                a.cos(),
                a.exp(),
                (a.abs() + 0.1).ln(),
                a.abs().powf(1.7),
                a.tanh(),
                a.abs().sqrt(),
                1.0 / a,
                1.0 / (a.abs() + 1.0).sqrt(),
                a.atan2(2.0),
                f64::NAN,
                a % f64::from(1.3f32),
                a.exp(),
                a.sin(),
                a.round(),
                a.cbrt(),
            ];
            for (j, want) in want
                .into_iter()
                .enumerate()
                .filter(|(_, want)| !want.is_nan())
            {
                let got = f64::from(out[i * 16 + j]);
                let error = (got - want).abs() / want.abs().max(if j == 13 { 1.0 } else { 1e-2 });
                assert!(
                    error < 2e-5,
                    "{:?}: function {j} of {a} is {got}, not {want}",
                    kernel.path
                );
            }
        }
    }
    for kernel in with_variables(&variables, "mathd_") {
        let mut x: Vec<f64> = inputs.iter().map(|x| f64::from(*x)).collect();
        let mut out = vec![0f64; 200 * 8];
        let mut run = Run::new(&kernel, 2, 128);
        run.ranges
            .push(variables.bytes.as_ptr() as u64..variables.bytes.as_ptr() as u64 + 32768);
        let arguments = [run.buffer(&mut x), run.buffer(&mut out), Argument::U32(200)];
        run.launch(&arguments).unwrap();
        for (i, &a) in x.iter().enumerate() {
            let root = a.abs().sqrt();
            let want = [
                a.sin(),
                a.exp(),
                (a.abs() + 0.1).ln(),
                a.abs().powf(1.7),
                root,
                1.0 / a,
                a.tanh(),
                a.floor(),
            ];
            for (j, want) in want.into_iter().enumerate() {
                let got = out[i * 8 + j];
                let error = (got - want).abs() / want.abs().max(1e-2);
                assert!(
                    error < 1e-13,
                    "{:?}: function {j} of {a} is {got}, not {want}",
                    kernel.path
                );
            }
        }
    }
}

#[test]
fn integers() {
    let (a, b) = (noise(300), noise(600).split_off(300));
    for kernel in kernels(SUITE, "ints") {
        let (mut x, mut y, mut out) = (a.clone(), b.clone(), vec![0i64; 300 * 24]);
        (x[0], y[0]) = (0, 1);
        (x[1], y[1]) = (i32::MIN as u32, 7);
        let mut run = Run::new(&kernel, 3, 128);
        let arguments = [
            run.buffer(&mut x),
            run.buffer(&mut y),
            run.buffer(&mut out),
            Argument::U32(300),
        ];
        run.launch(&arguments).unwrap();
        for i in 0..300 {
            let (ua, ub) = (x[i], y[i]);
            let got = &out[i * 24..][..24];
            assert_eq!(
                got,
                integer_results(ua, ub),
                "{:?} with {ua:#x}, {ub:#x}",
                kernel.path
            );
        }
    }
}

/// The kernel `ints` in Rust.
fn integer_results(ua: u32, ub: u32) -> [i64; 24] {
    let (a, b) = (ua as i32, ub as i32);
    let wide = i64::from(a) * i64::from(b);
    let low24 = |value: i32| value << 8 >> 8;
    let byte = |word: u32, index: usize| i32::from(word.to_le_bytes()[index] as i8);
    let dot = (0..4).fold(5i32, |sum, index| {
        sum.wrapping_add(byte(ua, index) * byte(ub, index))
    });
    let funnel = ((u64::from(ub) << 32 | u64::from(ua)) << (b & 31)) >> 32;
    let long = i64::from(a) << 32 | i64::from(ub);
    [
        wide,
        i64::from(a.wrapping_div(b)),
        i64::from(a.wrapping_rem(b)),
        i64::from(ua / ub),
        i64::from(ua % ub),
        wide >> 32,
        ((u64::from(ua) * u64::from(ub)) >> 32) as i64,
        i64::from(ua.count_ones()),
        i64::from(ua.leading_zeros()),
        if ua == 0 {
            0
        } else {
            i64::from(ua.trailing_zeros()) + 1
        },
        i64::from(ua.reverse_bits()),
        i64::from(ua & 0xffff | ub << 16),
        i64::from(a >> (b & 31)),
        i64::from(ua >> (b & 31)),
        i64::from(funnel as u32),
        i64::from(a.min(b)),
        i64::from(ua.max(ub)),
        i64::from(a.wrapping_abs()),
        i64::from(dot),
        long.wrapping_div(i64::from(b | 1)),
        ((u64::from(ua) << 32 | u64::from(ub)) % u64::from(ub | 1)) as i64,
        i64::from(low24(a).wrapping_mul(low24(b))),
        i64::from(9u32.wrapping_add(a.abs_diff(b))),
        i64::from((i32::from(a as i16) * i32::from(b as i16)).wrapping_add(i32::from(b as i8))),
    ]
}

#[test]
fn a_carry_goes_from_word_to_word() {
    for kernel in kernels(SUITE, "launder") {
        let mut out = [0xffff_ffffu32, 5, 0, 0];
        let mut run = Run::new(&kernel, 1, 1);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        let sum = 0x0000_0005_ffff_ffffu64.wrapping_add(0xffff_ffff_0000_0001);
        assert_eq!([out[2], out[3]], [sum as u32, (sum >> 32) as u32]);
    }
}

/// A difference of four words, whether it borrowed as `addc` sees it, and a `subc` behind a sum.
const DIFFERENCE: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 words)
{
    .reg .b32 %r<16>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd0, [words];
    ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%rd0];
    ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd0+16];
    sub.cc.u32 %r8, %r0, %r4;
    subc.cc.u32 %r9, %r1, %r5;
    subc.cc.u32 %r10, %r2, %r6;
    subc.cc.u32 %r11, %r3, %r7;
    addc.u32 %r12, 0, 0;
    st.global.v4.u32 [%rd0+32], {%r8, %r9, %r10, %r11};
    st.global.u32 [%rd0+48], %r12;
    ld.global.v2.u64 {%rd1, %rd2}, [%rd0];
    ld.global.v2.u64 {%rd3, %rd4}, [%rd0+16];
    sub.cc.u64 %rd5, %rd1, %rd3;
    subc.cc.u64 %rd6, %rd2, %rd4;
    addc.u32 %r13, 0, 0;
    st.global.u32 [%rd0+52], %r13;
    st.global.v2.u64 [%rd0+64], {%rd5, %rd6};
    add.cc.u32 %r14, %r0, %r4;
    subc.u32 %r15, 100, 1;
    st.global.u32 [%rd0+56], %r15;
    ret;
}
";

#[test]
fn a_difference_carries_where_it_does_not_borrow() {
    let low = 0x0000_0001_0000_0000_0000_0000_0000_0005u128;
    let high = 0x0000_0001_0000_0000_0000_0000_ffff_ffffu128;
    for kernel in kernels(DIFFERENCE, "k") {
        for (a, b) in [(low, high), (high, low), (low, low), (0, high), (high, 0)] {
            let mut memory = [a, b, 0, 0, 0];
            let mut run = Run::new(&kernel, 1, 1);
            let arguments = [run.buffer(&mut memory)];
            run.launch(&arguments).unwrap();
            let carry = u128::from(a >= b);
            // The lower words' sum carries: nothing is borrowed.
            let behind_a_sum = 98 + ((u128::from(a as u32) + u128::from(b as u32)) >> 32);
            let flags = carry | carry << 32 | behind_a_sum << 64;
            let difference = a.wrapping_sub(b);
            assert_eq!(memory[2..], [difference, flags, difference]);
        }
    }
}

/// Even and odd lanes, each among themselves, at the same place: a sum, a ballot, a match.
const PARTITIONED: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 words)
{
    .reg .b32 %r<16>;
    .reg .b64 %rd<4>;
    .reg .pred %p<3>;
    ld.param.u64 %rd0, [words];
    mov.u32 %r0, %tid.x;
    and.b32 %r1, %r0, 1;
    setp.ne.u32 %p0, %r1, 0;
    selp.b32 %r2, 0xaaaaaaaa, 0x55555555, %p0;
    redux.sync.add.s32 %r3, %r0, %r2;
    setp.lt.u32 %p1, %r0, 16;
    vote.sync.ballot.b32 %r4, %p1, %r2;
    shr.u32 %r5, %r0, 3;
    match.any.sync.b32 %r6, %r5, %r2;
    mul.wide.u32 %rd1, %r0, 16;
    add.u64 %rd2, %rd0, %rd1;
    st.global.v4.u32 [%rd2], {%r3, %r4, %r6, %r0};
    ret;
}
";

#[test]
fn parts_of_a_warp_gather_among_themselves() {
    for kernel in kernels(PARTITIONED, "k") {
        // Sixteen bytes for each lane, aligned to as many.
        let mut out = [0u128; 32];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for (lane, words) in out.into_iter().enumerate() {
            let lane = lane as u32;
            let mine = 0x5555_5555 << (lane % 2);
            let sum = (0..32).filter(|other| other % 2 == lane % 2).sum();
            let alike = mine & (0xff << (lane / 8 * 8));
            let wanted = [sum, mine & 0xffff, alike, lane].map(u32::to_le_bytes);
            assert_eq!(words.to_le_bytes().as_chunks::<4>().0, wanted);
        }
    }
}

/// Even and odd lanes match 64 bits, which nothing reads afterwards, unlike who the members are.
const PARTITIONED_WIDE: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 words)
{
    .reg .b32 %r<8>;
    .reg .b64 %rd<6>;
    .reg .pred %p<3>;
    ld.param.u64 %rd0, [words];
    mov.u32 %r0, %tid.x;
    and.b32 %r1, %r0, 1;
    setp.ne.u32 %p0, %r1, 0;
    selp.b32 %r2, 0xaaaaaaaa, 0x55555555, %p0;
    shr.u32 %r3, %r0, 3;
    mul.wide.u32 %rd1, %r3, 0x40000001;
    match.any.sync.b64 %r4, %rd1, %r2;
    mul.wide.u32 %rd2, %r1, 0x7fffffff;
    match.all.sync.b64 %r5|%p1, %rd2, %r2;
    selp.b32 %r5, %r5, 1, %p1;
    mul.wide.u32 %rd3, %r0, 16;
    add.u64 %rd4, %rd0, %rd3;
    st.global.v4.u32 [%rd4], {%r4, %r5, %r2, %r0};
    ret;
}
";

#[test]
fn parts_of_a_warp_match_wide_values_that_end_there() {
    for kernel in kernels(PARTITIONED_WIDE, "k") {
        let mut out = [0u128; 32];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for (lane, words) in out.into_iter().enumerate() {
            let lane = lane as u32;
            let mine = 0x5555_5555 << (lane % 2);
            let wanted = [mine & (0xff << (lane / 8 * 8)), mine, mine, lane].map(u32::to_le_bytes);
            assert_eq!(
                words.to_le_bytes().as_chunks::<4>().0,
                wanted,
                "lane {lane}"
            );
        }
    }
}

#[test]
fn bad_programs_end_with_the_right_fault() {
    for kernel in kernels(SUITE, "spin") {
        let mut flag = [0u32];
        let mut run = Run::new(&kernel, 4, 64);
        run.budget = Some(1 << 20);
        let arguments = [run.buffer(&mut flag)];
        assert_eq!(
            run.launch(&arguments).unwrap_err().kind,
            FaultKind::LaunchTimeout
        );
        assert_eq!(
            run.launch(&[Argument::U64(2)]).unwrap_err().kind,
            FaultKind::Misaligned
        );
        assert_eq!(
            run.launch(&[Argument::U64(0)]).unwrap_err().kind,
            FaultKind::IllegalAddress
        );
    }
    let mut variables = variables();
    for kernel in with_variables(&variables, "asserts") {
        let mut run = Run::new(&kernel, 1, 32);
        run.buffer(&mut variables.bytes);
        run.launch(&[Argument::U32(32)]).unwrap();
        let fault = run.launch(&[Argument::U32(7)]).unwrap_err();
        assert_eq!((fault.kind, fault.thread), (FaultKind::Assert, [7, 0, 0]));
        assert!(
            fault
                .detail
                .contains("Assertion `n>(int)threadIdx.x` failed"),
            "{fault}"
        );
    }
}
