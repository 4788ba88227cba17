//! `wmma`: loads, products and stores of fragments, whose registers are nobody's business. Matrices lie in every memory and by every layout in turn.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{BF16, Case, F16, F64, TF32, list};
use crate::support::{Run, kernels};

const SPACES: [&str; 4] = ["", ".global", ".shared", ".shared::cta"];
/// Those of PTX 6.2, in which nothing says `.aligned`.
const OLD_SPACES: [&str; 4] = ["", ".global", ".shared", ".shared"];

/// Runs the product of every form of `wmma.mma`, with results by lines and by columns; tells which forms were executed on the way.
pub(crate) fn check_all(products: &[&String]) -> BTreeSet<String> {
    let mut executed = BTreeSet::new();
    for (number, form) in products.iter().enumerate() {
        let case = Case::of(form);
        let [a, b] = case.layouts();
        for choice in 0..4usize {
            let layout = |bit: usize| ["row", "col"][choice >> bit & 1];
            // Every layout of every matrix comes to every memory, two at a time.
            let turn = (choice ^ choice >> 1) + number;
            let spaces = if case.has("aligned") {
                SPACES
            } else {
                OLD_SPACES
            };
            for space in [spaces[turn % 4], spaces[(turn + 2) % 4]] {
                let text = check(&case, [a, b, layout(0), layout(1)], space);
                let first = |line: &str| line.split(' ').next().unwrap_or("").to_owned();
                let lines = text.lines().filter(|line| line.starts_with("wmma"));
                executed.extend(lines.map(first));
            }
        }
    }
    executed
}

/// How many registers the fragments of A, B, C and D have, after the table of the PTX ISA.
fn counts(case: &Case) -> [usize; 4] {
    let by_shape = |cube, wide, tall| match case.size {
        [8, ..] => wide,
        [32, ..] => tall,
        _ => cube,
    };
    let [a, b] = match case.a {
        F16 => [8, 8],
        BF16 => by_shape([4, 4], [2, 8], [8, 2]),
        TF32 => [4, 4],
        _ if case.a.bits == 8 => by_shape([2, 2], [1, 4], [4, 1]),
        _ => [1, 1],
    };
    let results = |half: bool| match case.size {
        [8, 8, _] => 2,
        _ if half => 4,
        _ => 8,
    };
    [a, b, results(case.half_c), results(case.half_d)]
}

/// A kernel that loads three matrices, multiplies, and stores the result, all by `wmma`. Those in shared memory are copied there before, and back.
fn wmma_kernel(
    case: &Case,
    layouts: [&str; 4],
    strides: [usize; 4],
    words: [usize; 4],
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
    let counts = counts(case);
    let (c_type, d_type) = (results(case.half_c), results(case.half_d));
    let (version, aligned) = match case.has("aligned") {
        true => ("8.0", ".aligned"),
        false => ("6.2", ""),
    };
    let mut text = format!(".version {version}");
    text += "\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)\n{\n.reg .b64 %p<4>, %f;\n.reg .b32 %s<4>, %i, %j, %x;\n.reg .pred %more;\n";
    let is_shared = space.starts_with(".shared");
    let names = ["a", "b", "c", "d"];
    for (index, name) in names.iter().enumerate() {
        let bytes = words[index] * 4;
        writeln!(
            text,
            ".reg .{ty} %{name}<8>;\nld.param.u64 %p{index}, [p{name}];\n.shared .align 32 .b8 tile_{name}[{bytes}];\nmov.u32 %s{index}, tile_{name};"
        )
        .unwrap();
        if is_shared {
            copy_words(
                &mut text,
                name,
                [&format!("[%p{index}]"), "ld.global"],
                [&format!("[%s{index}]"), "st.shared"],
                words[index],
            );
        }
    }
    text += "bar.warp.sync 0xffffffff;\n";
    let pointer = if is_shared { "s" } else { "p" };
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
            "wmma.load.{name}.sync{aligned}.{layout}.{size}{space}.{element} {registers}, [%{pointer}{index}], {stride};"
        )
        .unwrap();
    }
    let operands = [3, 0, 1, 2].map(|index| list(names[index], counts[index]));
    writeln!(text, "{} {};", case.form, operands.join(", ")).unwrap();
    writeln!(
        text,
        "wmma.store.d.sync{aligned}.{}.{size}{space}.{d_type} [%{pointer}3], {}, {};\nbar.warp.sync 0xffffffff;",
        layouts[3],
        list("d", counts[3]),
        strides[3]
    )
    .unwrap();
    if is_shared {
        copy_words(
            &mut text,
            "back",
            ["[%s3]", "ld.shared"],
            ["[%p3]", "st.global"],
            words[3],
        );
    }
    text + "ret;\n}\n"
}

/// A loop that copies words, a lane one in thirty-two.
fn copy_words(
    text: &mut String,
    name: &str,
    [from, load]: [&str; 2],
    [to, store]: [&str; 2],
    words: usize,
) {
    let step = |place: &str| {
        let register = place.trim_matches(['[', ']']);
        match register.starts_with("%p") {
            true => format!("mad.wide.u32 %f, %i, 4, {register};"),
            false => format!("mad.lo.u32 %x, %i, 4, {register};"),
        }
    };
    let at = |place: &str| {
        if place.starts_with("[%p") {
            "[%f]"
        } else {
            "[%x]"
        }
    };
    writeln!(
        text,
        "mov.u32 %i, %laneid;\nLOOP_{name}:\nsetp.lt.u32 %more, %i, {words};\n@!%more bra DONE_{name};\n{}\n{}\n\
         {load}.b32 %j, {};\n{store}.b32 {}, %j;\nadd.u32 %i, %i, 32;\nbra LOOP_{name};\nDONE_{name}:",
        step(from),
        step(to),
        at(from),
        at(to)
    )
    .unwrap();
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

/// Runs one product in one memory, and gives the text.
fn check(case: &Case, layouts: [&str; 4], space: &str) -> String {
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
    let words = [&pa, &pb, &pc, &want].map(|words| words.len());
    let text = wmma_kernel(case, layouts, strides, words, space);
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
        assert_eq!(
            pd, want,
            "{} {layouts:?} in `{space}` on {:?}",
            case.form, kernel.path
        );
    }
    text
}
