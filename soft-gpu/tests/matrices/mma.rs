//! `mma`: registers as the figures of the PTX ISA have them. Where the elements lie is written here once more, so that a mistake would have to be made twice.

use std::fmt::Write as _;

use super::{Case, F16, F64, LANES, fragments, from_half, list};
use crate::support::{Run, kernels};

/// Runs the product of one form.
pub(crate) fn check(form: &str) {
    let case = Case::of(form);
    let [m, n, k] = case.size;
    if case.a == F16 && case.size == [8, 8, 4] {
        return quarters(&case);
    }
    let registers = |elements: usize, bits: usize| elements * bits / bits.max(32) / LANES;
    let counts = [
        registers(m * k, case.a.bits),
        registers(k * n, case.b.bits),
        registers(m * n, case.result_bits(case.half_c)),
        registers(m * n, case.result_bits(case.half_d)),
    ];
    let text = product_kernel(form, counts, case.a == F64);
    check_product(
        &case,
        &text,
        &|lane, i| place_a(&case, lane, i),
        &|lane, i| place_b(&case, lane, i),
        &|lane, i| place_c(&case, lane, i),
        counts,
    );
}

/// Element `i` of a lane's fragment of A: line and column, after the figures of the PTX ISA.
fn place_a(case: &Case, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let upper = |in_upper: bool| if in_upper { group } else { group + 8 };
    match (case.size, case.a.bits) {
        ([8, 8, _], 64) => (group, thread),
        ([16, 8, 4], 32) => (upper(i == 0), thread),
        ([16, 8, 8], 32) => (
            upper(i == 0 || i == 2),
            if i < 2 { thread } else { thread + 4 },
        ),
        ([16, 8, 8], 16) => (upper(i < 2), thread * 2 + (i & 1)),
        ([16, 8, 16], 16) => (
            upper(i < 2 || (4..6).contains(&i)),
            thread * 2 + (i & 1) + if i >= 4 { 8 } else { 0 },
        ),
        ([8, 8, 16], 8) => (group, thread * 4 + i),
        ([16, 8, 16], 8) => (upper(i < 4), thread * 4 + (i & 3)),
        ([16, 8, 32], 8) => (
            upper(i < 4 || (8..12).contains(&i)),
            thread * 4 + (i & 3) + if i >= 8 { 16 } else { 0 },
        ),
        ([8, 8, 32], 4) => (group, thread * 8 + i),
        ([16, 8, 32], 4) => (upper(i < 8), thread * 8 + (i & 7)),
        ([16, 8, 64], 4) => (
            upper(i < 8 || (16..24).contains(&i)),
            thread * 8 + (i & 7) + if i >= 16 { 32 } else { 0 },
        ),
        ([8, 8, 128], 1) => (group, thread * 32 + i),
        ([16, 8, 128], 1) => (upper(i < 32), thread * 32 + (i & 31)),
        ([16, 8, 256], 1) => (
            upper(i < 32 || (64..96).contains(&i)),
            thread * 32 + (i & 31) + if i >= 64 { 128 } else { 0 },
        ),
        other => panic!("no table for {other:?}"),
    }
}

/// Element `i` of a lane's fragment of B.
fn place_b(case: &Case, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let line = match (case.size, case.b.bits) {
        ([_, _, 4], _) => thread,
        ([16, 8, 8], 32) => {
            if i == 0 {
                thread
            } else {
                thread + 4
            }
        }
        ([16, 8, 8], 16) => thread * 2 + i,
        ([16, 8, 16], 16) => thread * 2 + (i & 1) + if i >= 2 { 8 } else { 0 },
        ([_, 8, 16], 8) => thread * 4 + i,
        ([16, 8, 32], 8) => thread * 4 + (i & 3) + if i >= 4 { 16 } else { 0 },
        ([_, 8, 32], 4) => thread * 8 + i,
        ([16, 8, 64], 4) => thread * 8 + (i & 7) + if i >= 8 { 32 } else { 0 },
        ([_, 8, 128], 1) => thread * 32 + i,
        ([16, 8, 256], 1) => thread * 32 + (i & 31) + if i >= 32 { 128 } else { 0 },
        other => panic!("no table for {other:?}"),
    };
    (line, group)
}

/// Element `i` of a lane's fragment of C and D.
fn place_c(case: &Case, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let below = if case.size[0] == 16 && i >= 2 { 8 } else { 0 };
    (group + below, thread * 2 + (i & 1))
}

/// A kernel that loads the registers of each lane, executes `instruction` and stores the result's registers.
/// `counts` are the registers of A, B, C and D.
fn product_kernel(instruction: &str, counts: [usize; 4], wide: bool) -> String {
    let (ty, bytes) = if wide { ("b64", 8) } else { ("b32", 4) };
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)\n{\n.reg .b64 %p<8>;\n.reg .b32 %t<2>;\nmov.u32 %t1, %tid.x;\n",
    );
    let names = ["a", "b", "c", "d"];
    for (index, (name, count)) in names.iter().zip(counts).enumerate() {
        let stride = count * bytes;
        writeln!(text, ".reg .{ty} %{name}<{count}>;\nld.param.u64 %p{index}, [p{name}];\nmad.wide.u32 %p{index}, %t1, {stride}, %p{index};").unwrap();
        for register in 0..if index < 3 { count } else { 0 } {
            let offset = register * bytes;
            writeln!(
                text,
                "ld.global.{ty} %{name}{register}, [%p{index}+{offset}];"
            )
            .unwrap();
        }
    }
    let operands: Vec<String> = [3, 0, 1, 2]
        .iter()
        .map(|&index| list(names[index], counts[index]))
        .collect();
    writeln!(text, "{instruction} {};", operands.join(", ")).unwrap();
    for register in 0..counts[3] {
        let offset = register * bytes;
        writeln!(text, "st.global.{ty} [%p3+{offset}], %d{register};").unwrap();
    }
    text + "ret;\n}\n"
}

type Placing<'a> = &'a dyn Fn(usize, usize) -> (usize, usize);

/// Runs one product and compares every element.
fn check_product(
    case: &Case,
    text: &str,
    a: Placing<'_>,
    b: Placing<'_>,
    c: Placing<'_>,
    counts: [usize; 4],
) {
    let [_, n, k] = case.size;
    let (va, vb, vc) = case.values();
    let expected = case.expected();
    let elements = |registers: usize, bits: usize| registers * 32.max(bits) / bits;
    let c_bits = case.result_bits(case.half_c);
    let mut pa = fragments(elements(counts[0], case.a.bits), case.a.bits, |lane, i| {
        let (i, l) = a(lane, i);
        case.a.encode(va[i * k + l])
    });
    let mut pb = fragments(elements(counts[1], case.b.bits), case.b.bits, |lane, i| {
        let (l, j) = b(lane, i);
        case.b.encode(vb[l * n + j])
    });
    let mut pc = fragments(elements(counts[2], c_bits), c_bits, |lane, i| {
        let (i, j) = c(lane, i);
        case.encode_result(vc[i * n + j], case.half_c)
    });
    for kernel in kernels(text, "k") {
        let bits = case.result_bits(case.half_d);
        let mut pd = vec![0u32; LANES * counts[3] * bits.max(32) / 32];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [
            run.buffer(&mut pa),
            run.buffer(&mut pb),
            run.buffer(&mut pc),
            run.buffer(&mut pd),
        ];
        run.launch(&arguments).unwrap();
        let per_lane = elements(counts[3], bits);
        for lane in 0..LANES {
            for element in 0..per_lane {
                let at = (lane * per_lane + element) * bits;
                let word = u64::from(pd[at / 32] >> (at % 32));
                let word = if bits == 64 {
                    word | u64::from(pd[at / 32 + 1]) << 32
                } else {
                    word
                };
                let (i, j) = c(lane, element);
                assert_eq!(
                    case.decode_result(word),
                    expected[i * n + j],
                    "{} on {:?}: line {i}, column {j}",
                    case.form,
                    kernel.path
                );
            }
        }
    }
}

/// `mma.m8n8k4` of halves: each quarter of the warp has matrices of its own.
fn quarters(case: &Case) {
    let ([a_layout, b_layout], half_c, half_d) = (case.layouts(), case.half_c, case.half_d);
    let form = &case.form;
    let quarter = |lane: usize| lane % 16 / 4;
    let value = |which: usize, quarter: usize, index: usize| {
        F16.value(which * 1000 + quarter * 100 + index)
    };
    let high = |lane: usize| if lane < 16 { 0 } else { 4 };
    let a_place = |lane: usize, i: usize| {
        if a_layout == "row" {
            (lane % 4 + high(lane), i)
        } else {
            (i % 4 + high(lane), lane % 4)
        }
    };
    let b_place = |lane: usize, i: usize| {
        if b_layout == "row" {
            (lane % 4, i + high(lane))
        } else {
            (i, lane % 4 + high(lane))
        }
    };
    let c_place = |lane: usize, i: usize, half: bool| {
        if half {
            (lane % 4 + high(lane), i)
        } else {
            let x = (lane & 1) + (i & 2);
            (x + high(lane), (i & 4) + (lane & 2) + (i & 1))
        }
    };
    let mut a = fragments(4, 16, |lane, i| {
        let (i, l) = a_place(lane, i);
        F16.encode(value(0, quarter(lane), i * 4 + l))
    });
    let mut b = fragments(4, 16, |lane, i| {
        let (l, j) = b_place(lane, i);
        F16.encode(value(1, quarter(lane), l * 8 + j))
    });
    let c_bits = if half_c { 16 } else { 32 };
    let mut c = fragments(8, c_bits, |lane, i| {
        let (i, j) = c_place(lane, i, half_c);
        let value = value(2, quarter(lane), i * 8 + j);
        if half_c {
            F16.encode(value)
        } else {
            u64::from((value as f32).to_bits())
        }
    });
    let results = |half: bool| if half { 4 } else { 8 };
    let text = product_kernel(form, [2, 2, results(half_c), results(half_d)], false);
    for kernel in kernels(&text, "k") {
        let mut d = vec![0u32; LANES * results(half_d)];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [
            run.buffer(&mut a),
            run.buffer(&mut b),
            run.buffer(&mut c),
            run.buffer(&mut d),
        ];
        run.launch(&arguments).unwrap();
        for lane in 0..LANES {
            for element in 0..8 {
                let got = if half_d {
                    let word = d[lane * 4 + element / 2];
                    from_half((word >> (16 * (element % 2))) as u16) as i64
                } else {
                    f32::from_bits(d[lane * 8 + element]) as i64
                };
                let (i, j) = c_place(lane, element, half_d);
                let q = quarter(lane);
                let product: i64 = (0..4)
                    .map(|l| value(0, q, i * 4 + l) * value(1, q, l * 8 + j))
                    .sum();
                assert_eq!(got, value(2, q, i * 8 + j) + product, "{form}: {q} {i} {j}");
            }
        }
    }
}
