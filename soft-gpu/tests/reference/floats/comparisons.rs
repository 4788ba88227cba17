//! Comparisons, choices, and what a number is.

use super::super::Want::Bits;
use super::super::{F16, Name, Reference, cut, integers};
use super::{double, flush, number, single};

/// A property of a number, of which it is told whether it is subnormal.
type Property = (Name, fn(f64, bool) -> bool);

const OPERATORS: [Name; 14] = [
    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

/// Whether a comparison of two numbers of a type holds.
fn holds(operator: &str, ty: Name, ftz: bool, a: u64, b: u64) -> bool {
    let read = |bits: u64| {
        let value = match ty {
            "f32" => f64::from(flush(single(bits), ftz)),
            _ => number(ty, bits),
        };
        let is_small = ty == "f16" && value.abs() < 2f64.powi(F16.lowest);
        if ftz && is_small { 0.0 } else { value }
    };
    let (a, b) = (read(a), read(b));
    let unordered = a.is_nan() || b.is_nan();
    let either = operator.ends_with('u');
    match operator.trim_end_matches('u') {
        "num" => !unordered,
        "nan" => unordered,
        // `neu` less its `u`.
        _ if unordered => either,
        "eq" => a == b,
        "ne" => a != b,
        "lt" => a < b,
        "le" => a <= b,
        "gt" => a > b,
        _ => a >= b,
    }
}

/// Comparisons of two halves each: a mask, a pair of ones, two predicates.
fn compared_pairs(
    all: &mut Vec<Reference>,
    (pair, half): (Name, Name),
    operator: &'static str,
    ftz: bool,
) {
    let flush_name = if ftz { ".ftz" } else { "" };
    for join in ["", ".and", ".or", ".xor"] {
        let both = move |[a, b, c, _]: [u64; 4]| {
            [0, 16].map(|shift| {
                let part = |bits: u64| bits >> shift & 0xffff;
                let (first, second) = (holds(operator, half, ftz, part(a), part(b)), c & 1 != 0);
                match join {
                    "" => first,
                    ".and" => first & second,
                    ".or" => first | second,
                    _ => first ^ second,
                }
            })
        };
        let sources = &[pair, pair, "pred"][..if join.is_empty() { 2 } else { 3 }];
        let form = format!("{operator}{join}{flush_name}");
        let one = if half == "f16" { 0x3c00 } else { 0x3f80 };
        for (result, set) in [("u32", 0xffff), ("s32", 0xffff), (pair, one)] {
            let compute = move |operands| {
                let [low, high] = both(operands).map(u64::from);
                Bits((set * low) | ((set * high) << 16))
            };
            all.push(Reference::new(
                format!("set.{form}.{result}.{pair}"),
                result,
                sources,
                compute,
            ));
        }
        let names: Vec<String> = (0..sources.len())
            .map(|index| format!("%s{index}"))
            .collect();
        let text = format!(
            ".reg .pred %q0, %q1; setp.{form}.{pair} %q0|%q1, {}; selp.b32 %t0, 1, 0, %q0; selp.b32 %t1, 2, 0, %q1; or.b32 %d, %t0, %t1;",
            names.join(", ")
        );
        let compute = move |operands| {
            let [low, high] = both(operands).map(u64::from);
            Bits(low | high << 1)
        };
        let reference = Reference::new(format!("setp.{form}.{pair}"), "b32", sources, compute);
        all.push(reference.with_text(text));
    }
}

/// Every form.
pub(super) fn all(all: &mut Vec<Reference>) {
    for operator in OPERATORS {
        for (ty, ftz) in [
            ("f32", false),
            ("f32", true),
            ("f64", false),
            ("f16", false),
            ("f16", true),
            ("bf16", false),
        ] {
            let flush_name = if ftz { ".ftz" } else { "" };
            let holds = move |a: u64, b: u64| holds(operator, ty, ftz, a, b);
            integers::compared(all, operator, flush_name, ty, holds);
        }
        compared_pairs(all, ("f16x2", "f16"), operator, false);
        compared_pairs(all, ("f16x2", "f16"), operator, true);
        compared_pairs(all, ("bf16x2", "bf16"), operator, false);
    }
    for ty in ["f32", "f64"] {
        let properties: [Property; 6] = [
            ("finite", |a, _| a.is_finite()),
            ("infinite", |a, _| a.is_infinite()),
            ("number", |a, _| !a.is_nan()),
            ("notanumber", |a, _| a.is_nan()),
            ("normal", |a, small| a.is_finite() && !small),
            ("subnormal", |a, small| a.is_finite() && small),
        ];
        for (name, holds) in properties {
            all.push(Reference::new(
                format!("testp.{name}.{ty}"),
                "pred",
                &[ty],
                move |[a, ..]| {
                    let small = if ty == "f32" {
                        single(a).is_subnormal()
                    } else {
                        double(a).is_subnormal()
                    };
                    Bits(u64::from(holds(number(ty, a), small)))
                },
            ));
        }
    }
    for ftz in [false, true] {
        let flush_name = if ftz { ".ftz" } else { "" };
        for ty in integers::SELECTED {
            all.push(Reference::new(
                format!("slct{flush_name}.{ty}.f32"),
                ty,
                &[ty, ty, "f32"],
                move |[a, b, c, _]| Bits(cut(ty, if flush(single(c), ftz) >= 0.0 { a } else { b })),
            ));
        }
    }
}
