//! Products of matrices, asynchronous copies and barriers in shared memory, on every path.
//!
//! Where the elements of `mma` lie is written here once more, after the tables of the PTX ISA, so that a mistake would
//! have to be made twice.

mod support;

use std::fmt::Write as _;

use soft_gpu::exec::FaultKind;
use support::{Argument, Run, kernels};

const LANES: usize = 32;

/// A type of factors, with what the test needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    name: &'static str,
    bits: usize,
}

const fn format(name: &'static str, bits: usize) -> Format {
    Format { name, bits }
}
const F16: Format = format("f16", 16);
const BF16: Format = format("bf16", 16);
const TF32: Format = format("tf32", 32);
const F64: Format = format("f64", 64);
const S8: Format = format("s8", 8);
const U8: Format = format("u8", 8);
const S4: Format = format("s4", 4);
const U4: Format = format("u4", 4);
const B1: Format = format("b1", 1);

impl Format {
    /// Small whole numbers, which every format holds exactly, so that sums are exact in any order.
    fn value(self, seed: usize) -> i64 {
        let noise = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        match self.name {
            "b1" => (noise & 1) as i64,
            "u4" => (noise & 15) as i64,
            "s4" => (noise & 15) as i64 - 8,
            "u8" => (noise & 255) as i64,
            "s8" => (noise & 255) as i64 - 128,
            _ => (noise & 15) as i64 - 8,
        }
    }

    fn encode(self, value: i64) -> u64 {
        let single = value as f32;
        match self.name {
            "f16" => u64::from(half(single)),
            "bf16" => u64::from(single.to_bits() >> 16),
            "tf32" => u64::from(single.to_bits()),
            "f64" => (value as f64).to_bits(),
            _ => value as u64 & ((1 << self.bits) - 1),
        }
    }
}

/// A small whole number as binary16.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    if value == 0.0 {
        return sign;
    }
    let exponent = (bits >> 23 & 255) as u16 - 112;
    sign | exponent << 10 | (bits >> 13 & 0x3ff) as u16
}

fn from_half(bits: u16) -> f32 {
    let magnitude = match bits & 0x7fff {
        0 => 0,
        rest => (u32::from(rest) << 13) + (112 << 23),
    };
    f32::from_bits(magnitude | u32::from(bits & 0x8000) << 16)
}

/// A product to be tested: its form without `mma.sync.aligned`, sizes, factors, result.
struct Case {
    form: String,
    size: [usize; 3],
    a: Format,
    b: Format,
    half_c: bool,
    half_d: bool,
}

impl Case {
    fn new(size: [usize; 3], a: Format, b: Format, result: &str) -> Case {
        let [m, n, k] = size;
        let suffix = if a == B1 { ".xor.popc" } else { "" };
        Case {
            form: format!(
                "m{m}n{n}k{k}.row.col.{result}.{}.{}.{result}{suffix}",
                a.name, b.name
            ),
            size,
            a,
            b,
            half_c: result == "f16",
            half_d: result == "f16",
        }
    }

    fn values(&self) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
        let [m, n, k] = self.size;
        let fill = |count: usize, format: Format, seed: usize| {
            (0..count)
                .map(|index| format.value(index * 7 + seed))
                .collect::<Vec<_>>()
        };
        (
            fill(m * k, self.a, 1),
            fill(k * n, self.b, 2),
            fill(m * n, F16, 3),
        )
    }

    fn expected(&self) -> Vec<i64> {
        let ([m, n, k], (a, b, c)) = (self.size, self.values());
        let product = |i: usize, j: usize| -> i64 {
            let terms = (0..k).map(|l| (a[i * k + l], b[l * n + j]));
            if self.a == B1 {
                return terms
                    .map(|(x, y)| {
                        if self.form.contains("and") {
                            x & y
                        } else {
                            x ^ y
                        }
                    })
                    .sum();
            }
            terms.map(|(x, y)| x * y).sum()
        };
        (0..m * n)
            .map(|index| c[index] + product(index / n, index % n))
            .collect()
    }

    fn result_bits(&self, half: bool) -> usize {
        if self.a == F64 {
            64
        } else if half {
            16
        } else {
            32
        }
    }

    fn encode_result(&self, value: i64, is_half: bool) -> u64 {
        match self.a.name {
            "f64" => (value as f64).to_bits(),
            "f16" | "bf16" | "tf32" if is_half => u64::from(half(value as f32)),
            "f16" | "bf16" | "tf32" => u64::from((value as f32).to_bits()),
            _ => value as u32 as u64,
        }
    }

    fn decode_result(&self, bits: u64) -> i64 {
        match self.a.name {
            "f64" => f64::from_bits(bits) as i64,
            "f16" if self.half_d => from_half(bits as u16) as i64,
            "f16" | "bf16" | "tf32" => f32::from_bits(bits as u32) as i64,
            _ => i64::from(bits as i32),
        }
    }
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

/// The registers of a fragment, lane after lane: elements of `bits` bits packed into 32 (or 64).
fn fragments(elements: usize, bits: usize, element: impl Fn(usize, usize) -> u64) -> Vec<u32> {
    let mut words = vec![0u32; LANES * (elements * bits).div_ceil(32)];
    for lane in 0..LANES {
        for i in 0..elements {
            let at = lane * elements * bits + i * bits;
            let value = element(lane, i);
            words[at / 32] |= (value as u32) << (at % 32);
            if bits == 64 {
                words[at / 32 + 1] |= (value >> 32) as u32;
            }
        }
    }
    words
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
    let list = |name: &str, count: usize| {
        let registers: Vec<String> = (0..count).map(|index| format!("%{name}{index}")).collect();
        format!("{{{}}}", registers.join(", "))
    };
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

fn mma_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for k in [8, 16] {
        cases.push(Case::new([16, 8, k], F16, F16, "f32"));
        cases.push(Case::new([16, 8, k], F16, F16, "f16"));
        cases.push(Case::new([16, 8, k], BF16, BF16, "f32"));
    }
    for k in [4, 8] {
        cases.push(Case::new([16, 8, k], TF32, TF32, "f32"));
    }
    cases.push(Case::new([8, 8, 4], F64, F64, "f64"));
    for (a, b) in [(S8, S8), (S8, U8), (U8, S8), (U8, U8)] {
        for size in [[8, 8, 16], [16, 8, 16], [16, 8, 32]] {
            cases.push(Case::new(size, a, b, "s32"));
        }
    }
    for (a, b) in [(S4, S4), (S4, U4), (U4, S4), (U4, U4)] {
        for size in [[8, 8, 32], [16, 8, 32], [16, 8, 64]] {
            cases.push(Case::new(size, a, b, "s32"));
        }
    }
    for size in [[8, 8, 128], [16, 8, 128], [16, 8, 256]] {
        cases.push(Case::new(size, B1, B1, "s32"));
        let mut and = Case::new(size, B1, B1, "s32");
        and.form = and.form.replace("xor", "and");
        cases.push(and);
    }
    cases
}

#[test]
fn mma_of_every_shape_and_type() {
    for case in mma_cases() {
        let [m, n, k] = case.size;
        let registers = |elements: usize, bits: usize| elements * bits / bits.max(32) / LANES;
        let counts = [
            registers(m * k, case.a.bits),
            registers(k * n, case.b.bits),
            registers(m * n, case.result_bits(case.half_c)),
            registers(m * n, case.result_bits(case.half_d)),
        ];
        let instruction = format!("mma.sync.aligned.{}", case.form);
        let text = product_kernel(&instruction, counts, case.a == F64);
        check_product(
            &case,
            &text,
            &|lane, i| place_a(&case, lane, i),
            &|lane, i| place_b(&case, lane, i),
            &|lane, i| place_c(&case, lane, i),
            counts,
        );
    }
}

#[test]
fn integers_saturate_where_the_form_says_so() {
    for (suffix, expected) in [("", i32::MAX.wrapping_add(16)), (".satfinite", i32::MAX)] {
        let form = format!("mma.sync.aligned.m8n8k16.row.col{suffix}.s32.u8.u8.s32");
        let text = product_kernel(&form, [1, 1, 2, 2], false);
        for kernel in kernels(&text, "k") {
            let (mut a, mut b) = ([0x0101_0101u32; 32], [0x0101_0101u32; 32]);
            let (mut c, mut d) = ([i32::MAX; 64], [0i32; 64]);
            let mut run = Run::new(&kernel, 1, 32);
            let arguments = [
                run.buffer(&mut a),
                run.buffer(&mut b),
                run.buffer(&mut c),
                run.buffer(&mut d),
            ];
            run.launch(&arguments).unwrap();
            assert_eq!(d, [expected; 64]);
        }
    }
}

/// `mma.m8n8k4` of halves: each quarter of the warp has matrices of its own.
#[test]
fn mma_by_quarters_of_the_warp() {
    let layouts = ["row", "col"];
    for (half_d, half_c) in [(false, false), (true, true), (false, true)] {
        for a_layout in layouts {
            for b_layout in layouts {
                quarters(a_layout, b_layout, half_c, half_d);
            }
        }
    }
}

fn quarters(a_layout: &str, b_layout: &str, half_c: bool, half_d: bool) {
    let name = |half: bool| if half { "f16" } else { "f32" };
    let form = format!(
        "mma.sync.aligned.m8n8k4.{a_layout}.{b_layout}.{}.f16.f16.{}",
        name(half_d),
        name(half_c)
    );
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
    let text = product_kernel(&form, [2, 2, results(half_c), results(half_d)], false);
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

/// A kernel that loads three matrices, multiplies, and stores the result, all by `wmma`.
fn wmma_kernel(
    case: &Case,
    layouts: [&str; 4],
    strides: [usize; 4],
    counts: [usize; 4],
    space: &str,
) -> String {
    let [m, n, k] = case.size;
    let size = format!("m{m}n{n}k{k}");
    let results = |half: bool| match case.a.name {
        "f64" => "f64",
        "f16" | "bf16" | "tf32" if half => "f16",
        "f16" | "bf16" | "tf32" => "f32",
        _ => "s32",
    };
    let ty = if case.a == F64 { "f64" } else { "b32" };
    let list = |name: &str, count: usize| {
        let registers: Vec<String> = (0..count).map(|index| format!("%{name}{index}")).collect();
        format!("{{{}}}", registers.join(", "))
    };
    let (c_type, d_type) = (results(case.half_c), results(case.half_d));
    let types = if case.a == F16 {
        format!("{d_type}.{c_type}")
    } else {
        format!("{d_type}.{}.{}.{c_type}", case.a.name, case.b.name)
    };
    let bits = if case.a == B1 { "xor.popc." } else { "" };
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)\n{\n.reg .b64 %p<4>;\n",
    );
    for (index, name) in ["a", "b", "c", "d"].iter().enumerate() {
        writeln!(
            text,
            ".reg .{ty} %{name}<8>;\nld.param.u64 %p{index}, [p{name}];"
        )
        .unwrap();
    }
    let loads = [
        ("a", case.a.name, 0),
        ("b", case.b.name, 1),
        ("c", c_type, 2),
    ];
    for (name, element, index) in loads {
        let (layout, stride) = (layouts[index], strides[index]);
        let registers = list(name, counts[index]);
        writeln!(
            text,
            "wmma.load.{name}.sync.aligned.{layout}.{size}{space}.{element} {registers}, [%p{index}], {stride};"
        )
        .unwrap();
    }
    let operands = [3, 0, 1, 2].map(|index| list(["a", "b", "c", "d"][index], counts[index]));
    writeln!(
        text,
        "wmma.mma.{bits}sync.aligned.{}.{}.{size}.{types} {};",
        layouts[0],
        layouts[1],
        operands.join(", ")
    )
    .unwrap();
    writeln!(
        text,
        "wmma.store.d.sync.aligned.{}.{size}{space}.{d_type} [%p3], {}, {};\nret;\n}}",
        layouts[3],
        list("d", counts[3]),
        strides[3]
    )
    .unwrap();
    text
}

/// A matrix in memory, elements packed, by lines or by columns, with `gap` elements between.
fn stored(
    values: &[i64],
    [lines, columns]: [usize; 2],
    by_line: bool,
    stride: usize,
    bits: usize,
    encode: impl Fn(i64) -> u64,
) -> Vec<u32> {
    let mut words =
        vec![0u32; (if by_line { lines } else { columns } * stride * bits).div_ceil(32) + 2];
    for line in 0..lines {
        for column in 0..columns {
            let index = if by_line {
                line * stride + column
            } else {
                column * stride + line
            };
            let (at, value) = (index * bits, encode(values[line * columns + column]));
            words[at / 32] |= (value as u32) << (at % 32);
            if bits == 64 {
                words[at / 32 + 1] |= (value >> 32) as u32;
            }
        }
    }
    words
}

fn check_wmma(case: &Case, layouts: [&str; 4], counts: [usize; 4]) {
    let [m, n, k] = case.size;
    let (a, b, c) = case.values();
    let by_line = layouts.map(|layout| layout == "row");
    let gap = if case.a.bits < 8 {
        128 / case.a.bits
    } else {
        8
    };
    let strides = [
        (if by_line[0] { k } else { m }) + gap,
        (if by_line[1] { n } else { k }) + gap,
        (if by_line[2] { n } else { m }) + 4,
        (if by_line[3] { n } else { m }) + 4,
    ];
    let (c_bits, d_bits) = (case.result_bits(case.half_c), case.result_bits(case.half_d));
    let mut pa = stored(&a, [m, k], by_line[0], strides[0], case.a.bits, |v| {
        case.a.encode(v)
    });
    let mut pb = stored(&b, [k, n], by_line[1], strides[1], case.b.bits, |v| {
        case.b.encode(v)
    });
    let mut pc = stored(&c, [m, n], by_line[2], strides[2], c_bits, |v| {
        case.encode_result(v, case.half_c)
    });
    let expected = case.expected();
    let want = stored(&expected, [m, n], by_line[3], strides[3], d_bits, |v| {
        case.encode_result(v, case.half_d)
    });
    for space in ["", ".global"] {
        let text = wmma_kernel(case, layouts, strides, counts, space);
        for kernel in kernels(&text, "k") {
            let mut pd = vec![0u32; want.len()];
            let mut run = Run::new(&kernel, 1, 32);
            let arguments = [
                run.buffer(&mut pa),
                run.buffer(&mut pb),
                run.buffer(&mut pc),
                run.buffer(&mut pd),
            ];
            run.launch(&arguments).unwrap();
            assert_eq!(pd, want, "{} {layouts:?} on {:?}", case.form, kernel.path);
        }
    }
}

/// Lines of single bits that do not begin at whole words.
#[test]
fn wmma_of_misaligned_lines_is_a_fault() {
    const TEXT: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 pa)
{
    .reg .b32 %a<1>;
    .reg .b64 %p<1>;
    ld.param.u64 %p0, [pa];
    wmma.load.a.sync.aligned.row.m8n8k128.global.b1 {%a0}, [%p0], 7;
    st.global.b32 [%p0], %a0;
    ret;
}
";
    for kernel in kernels(TEXT, "k") {
        let mut words = vec![0u32; 64];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut words)];
        let fault = run.launch(&arguments).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misaligned, "on {:?}", kernel.path);
    }
}

#[test]
fn wmma_of_every_shape_type_and_layout() {
    let sizes = [[16, 16, 16], [8, 32, 16], [32, 8, 16]];
    let mut cases = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        for (half_c, half_d) in [(false, false), (true, true), (true, false), (false, true)] {
            let mut case = Case::new(size, F16, F16, "f32");
            (case.half_c, case.half_d) = (half_c, half_d);
            let results = |half: bool| if half { 4 } else { 8 };
            cases.push((case, [8, 8, results(half_c), results(half_d)], true));
        }
        let brain = [[4, 4], [2, 8], [8, 2]][index];
        cases.push((
            Case::new(size, BF16, BF16, "f32"),
            [brain[0], brain[1], 8, 8],
            true,
        ));
        let bytes = [[2, 2], [1, 4], [4, 1]][index];
        for format in [S8, U8] {
            cases.push((
                Case::new(size, format, format, "s32"),
                [bytes[0], bytes[1], 8, 8],
                true,
            ));
        }
    }
    cases.push((
        Case::new([16, 16, 8], TF32, TF32, "f32"),
        [4, 4, 8, 8],
        true,
    ));
    cases.push((Case::new([8, 8, 4], F64, F64, "f64"), [1, 1, 2, 2], true));
    for format in [S4, U4] {
        cases.push((
            Case::new([8, 8, 32], format, format, "s32"),
            [1, 1, 2, 2],
            false,
        ));
    }
    cases.push((Case::new([8, 8, 128], B1, B1, "s32"), [1, 1, 2, 2], false));
    for (case, counts, any_layout) in &cases {
        for choice in 0..16usize {
            let layouts = std::array::from_fn(|index| ["row", "col"][choice >> index & 1]);
            if *any_layout || (layouts[0] == "row" && layouts[1] == "col") {
                check_wmma(case, layouts, *counts);
            }
        }
    }
}

const TILES: &str = r"
.version 8.0
.target sm_80
.address_size 64
.visible .entry tiles(.param .u64 out)
{
    .shared .align 16 .b8 memory[1024];
    .reg .b32 %r<40>;
    .reg .b64 %d<4>;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, memory;
    // Sixteen bytes a lane: halves numbered from 0.
    shl.b32 %r2, %r0, 4;
    add.u32 %r3, %r1, %r2;
    shl.b32 %r4, %r0, 3;
    mad.lo.u32 %r5, %r4, 65537, 65536;
    add.u32 %r6, %r5, 131074;
    add.u32 %r7, %r6, 131074;
    add.u32 %r8, %r7, 131074;
    st.shared.v4.b32 [%r3+512], {%r5, %r6, %r7, %r8};
    bar.warp.sync 0xffffffff;
    ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r10}, [%r3+512];
    ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r11, %r12}, [%r3+512];
    cvt.u64.u32 %d2, %r3;
    cvta.shared.u64 %d2, %d2;
    ldmatrix.sync.aligned.m8n8.x4.b16 {%r13, %r14, %r15, %r16}, [%d2+512];
    movmatrix.sync.aligned.m8n8.trans.b16 %r17, %r10;
    ld.param.u64 %d0, [out];
    mad.wide.u32 %d1, %r0, 32, %d0;
    st.global.v4.b32 [%d1], {%r10, %r11, %r12, %r13};
    st.global.v4.b32 [%d1+16], {%r14, %r15, %r16, %r17};
    ret;
}
";

#[test]
fn tiles_from_shared_memory_plain_and_transposed() {
    for kernel in kernels(TILES, "tiles") {
        let mut out = vec![0u32; 256];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        let element = |tile: u32, line: u32, column: u32| tile * 64 + line * 8 + column;
        for lane in 0..32u32 {
            let (line, column) = (lane / 4, lane % 4 * 2);
            let plain = |tile| element(tile, line, column) | element(tile, line, column + 1) << 16;
            let turned = |tile| element(tile, column, line) | element(tile, column + 1, line) << 16;
            let want = [
                plain(0),
                turned(0),
                turned(1),
                plain(0),
                plain(1),
                plain(2),
                plain(3),
                turned(0),
            ];
            assert_eq!(out[lane as usize * 8..][..8], want, "lane {lane}");
        }
    }
}

const COPIES: &str = r"
.version 8.0
.target sm_80
.address_size 64
.visible .entry copies(.param .u64 in, .param .u64 out)
{
    .shared .align 16 .b8 memory[2048];
    .reg .pred %p<4>;
    .reg .b32 %r<40>;
    .reg .b64 %d<8>;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, memory;
    shl.b32 %r2, %r0, 6;
    add.u32 %r3, %r1, %r2;
    ld.param.u64 %d0, [in];
    mad.wide.u32 %d1, %r0, 16, %d0;
    createpolicy.fractional.L2::evict_last.b64 %d4, 1.0;
    // What is copied, how much of it, and nothing of what lies nowhere.
    and.b32 %r4, %r0, 15;
    setp.lt.u32 %p1, %r0, 16;
    selp.b64 %d2, %d1, 0, %p1;
    selp.b32 %r5, 16, 0, %p1;
    cp.async.cg.shared.global [%r3], [%d2], 16, %r5;
    cp.async.ca.shared.global.L2::cache_hint.L2::128B [%r3+16], [%d1], 16, %r4, %d4;
    cp.async.ca.shared.global [%r3+32], [%d1+8], 8;
    cp.async.ca.shared.global [%r3+40], [%d1+4], 4;
    cp.async.ca.shared.global [%r3+44], [%d1+4], 4, %p1;
    cp.async.commit_group;
    cp.async.wait_group 0;
    ld.param.u64 %d3, [out];
    mad.wide.u32 %d3, %r0, 48, %d3;
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3];
    st.global.v4.b32 [%d3], {%r10, %r11, %r12, %r13};
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3+16];
    st.global.v4.b32 [%d3+16], {%r10, %r11, %r12, %r13};
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3+32];
    st.global.L2::cache_hint.v4.b32 [%d3+32], {%r10, %r11, %r12, %r13}, %d4;
    ret;
}
";

#[test]
fn asynchronous_copies_fill_with_zeros() {
    for kernel in kernels(COPIES, "copies") {
        let mut input: Vec<u8> = (0..512u32).map(|i| (i * 7 + 1) as u8).collect();
        let mut out = vec![0u8; 32 * 48];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut input), run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for lane in 0..32usize {
            let (from, got) = (&input[lane * 16..][..16], &out[lane * 48..][..48]);
            let mut want = vec![0u8; 48];
            if lane < 16 {
                want[..16].copy_from_slice(from);
            } else {
                want[44..].copy_from_slice(&from[4..8]);
            }
            want[16..16 + lane % 16].copy_from_slice(&from[..lane % 16]);
            want[32..40].copy_from_slice(&from[8..]);
            want[40..44].copy_from_slice(&from[4..8]);
            assert_eq!(got, want, "lane {lane} on {:?}", kernel.path);
        }
    }
}

#[test]
fn a_copy_from_nowhere_is_a_fault() {
    let text = COPIES.replace("selp.b32 %r5, 16, 0, %p1", "selp.b32 %r5, 16, 1, %p1");
    for kernel in kernels(&text, "copies") {
        let (mut input, mut out) = (vec![0u8; 512], vec![0u8; 32 * 48]);
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut input), run.buffer(&mut out)];
        let fault = run.launch(&arguments).unwrap_err();
        assert_eq!(fault.kind, FaultKind::IllegalAddress);
    }
}

/// Two warps hand a word to and fro through barriers in shared memory; a third takes part once and drops out.
const HANDSHAKE: &str = r"
.version 8.0
.target sm_80
.address_size 64
.visible .entry handshake(.param .u64 out, .param .u32 rounds)
{
    .shared .align 8 .b64 barrier;
    .shared .align 4 .b32 word;
    .reg .pred %p<4>;
    .reg .b32 %r<16>;
    .reg .b64 %d<8>;
    mov.u32 %r0, %tid.x;
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [barrier], 96;
    mov.b32 %r1, 0;
    st.shared.b32 [word], %r1;
READY:
    bar.sync 0;
    setp.ge.u32 %p1, %r0, 64;
    @%p1 bra DROP;
    mov.b32 %r2, 0;
LOOP:
    and.b32 %r3, %r2, 1;
    shr.u32 %r4, %r0, 5;
    setp.ne.u32 %p2, %r3, %r4;
    and.b32 %r5, %r0, 31;
    setp.ne.or.u32 %p2, %r5, 0, %p2;
    @%p2 bra ARRIVE;
    ld.shared.b32 %r6, [word];
    mad.lo.u32 %r6, %r6, 3, 1;
    st.shared.b32 [word], %r6;
ARRIVE:
    mbarrier.arrive.shared.b64 %d0, [barrier];
WAIT:
    mbarrier.test_wait.shared.b64 %p3, [barrier], %d0;
    @%p3 bra NEXT;
    nanosleep.u32 100;
    bra WAIT;
NEXT:
    add.u32 %r2, %r2, 1;
    ld.param.u32 %r9, [rounds];
    setp.lt.u32 %p3, %r2, %r9;
    @%p3 bra LOOP;
    mbarrier.pending_count.b64 %r7, %d0;
    ld.shared.b32 %r6, [word];
    ld.param.u64 %d1, [out];
    mad.wide.u32 %d1, %r0, 8, %d1;
    st.global.v2.b32 [%d1], {%r6, %r7};
    ret;
DROP:
    mbarrier.arrive_drop.shared.b64 %d0, [barrier];
    mov.b32 %r8, 0;
PARITY:
    mbarrier.test_wait.parity.shared.b64 %p3, [barrier], %r8;
    @!%p3 bra PARITY;
    ret;
}
";

#[test]
fn warps_meet_at_barriers_in_shared_memory() {
    for kernel in kernels(HANDSHAKE, "handshake") {
        let mut out = vec![0u32; 192];
        let mut run = Run::new(&kernel, 1, 96);
        // Waiting gives way: with whole quanta of waiting this would be used up.
        run.budget = Some(1 << 20);
        let arguments = [run.buffer(&mut out), Argument::U32(8)];
        run.launch(&arguments).unwrap();
        let word = (0..8).fold(0u32, |word, _| word * 3 + 1);
        for thread in 0..64 {
            assert_eq!(out[thread * 2], word);
            // The state is that from before the arrival, so that the last one still saw itself pending.
            assert!((1..=64).contains(&out[thread * 2 + 1]));
        }
    }
}

#[test]
fn a_barrier_outside_shared_memory_or_too_many_arrivals_are_faults() {
    let elsewhere = HANDSHAKE.replace(
        "mbarrier.init.shared.b64 [barrier], 96;",
        "ld.param.u64 %d2, [out]; mbarrier.init.b64 [%d2], 96;",
    );
    let too_many = HANDSHAKE.replace(
        "mbarrier.arrive.shared.b64 %d0, [barrier];",
        "mbarrier.arrive.noComplete.shared.b64 %d0, [barrier], 97;",
    );
    for (text, kind) in [
        (elsewhere, FaultKind::IllegalAddress),
        (too_many, FaultKind::IllegalInstruction),
    ] {
        for kernel in kernels(&text, "handshake") {
            let mut out = vec![0u32; 192];
            let mut run = Run::new(&kernel, 1, 96);
            run.budget = Some(1 << 20);
            let arguments = [run.buffer(&mut out), Argument::U32(8)];
            assert_eq!(run.launch(&arguments).unwrap_err().kind, kind);
        }
    }
}
