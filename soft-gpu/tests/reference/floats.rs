//! Floating point: arithmetic in every rounding, comparisons, conversions, approximations within the ISA's bounds.

use super::Want::{Bits, Near, Number, Open};
use super::{F16, Format, Name, ROUNDINGS, Reference, Want, cut, fpu, integer, range};

/// A name, and what it computes of two singles in a direction.
type OnSingles = (Name, fn(f32, f32, &str) -> f32);
/// The same of doubles.
type OnDoubles = (Name, fn(f64, f64, &str) -> f64);
/// A form, and what it computes of one double.
type OnDouble = (Name, fn(f64) -> f64);
/// A property of a number, of which it is told whether it is subnormal.
type Property = (Name, fn(f64, bool) -> bool);

/// Every form.
pub(crate) fn all() -> Vec<Reference> {
    let mut all = Vec::new();
    singles(&mut all);
    doubles(&mut all);
    for ty in ["f16", "bf16"] {
        halves(&mut all, ty);
    }
    comparisons(&mut all);
    to_integers(&mut all);
    from_integers(&mut all);
    between(&mut all);
    approximations(&mut all);
    all
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn flush(value: f32, ftz: bool) -> f32 {
    if ftz && value.is_subnormal() {
        0f32.copysign(value)
    } else {
        value
    }
}

/// A single as the result, flushed and clamped as the form says.
fn result(value: f32, ftz: bool, sat: bool) -> Want {
    let value = flush(value, ftz);
    let value = match sat {
        true if value.is_nan() || value <= 0.0 => 0.0,
        true => value.min(1.0),
        false => value,
    };
    Number(u64::from(value.to_bits()))
}

fn singles(all: &mut Vec<Reference>) {
    let ty = "f32";
    for direction in ROUNDINGS {
        for (ftz, flush_name) in [(false, ""), (true, ".ftz")] {
            for (sat, sat_name) in [(false, ""), (true, ".sat")] {
                let suffix = format!("{direction}{flush_name}{sat_name}.f32");
                let operations: [OnSingles; 3] = [
                    ("add", fpu::add_single),
                    ("sub", fpu::subtract_single),
                    ("mul", fpu::multiply_single),
                ];
                for (name, compute) in operations {
                    all.push(Reference::new(
                        format!("{name}.{suffix}"),
                        ty,
                        &[ty, ty],
                        move |[a, b, ..]| {
                            result(
                                compute(flush(single(a), ftz), flush(single(b), ftz), direction),
                                ftz,
                                sat,
                            )
                        },
                    ));
                }
                all.push(Reference::new(
                    format!("fma.{suffix}"),
                    ty,
                    &[ty; 3],
                    move |[a, b, c, _]| {
                        let [a, b, c] = [a, b, c].map(|bits| flush(single(bits), ftz));
                        fpu::fused_single(a, b, c, direction)
                            .map_or(Open, |value| result(value, ftz, sat))
                    },
                ));
            }
            let suffix = format!("{direction}{flush_name}.f32");
            all.push(Reference::new(
                format!("div.{suffix}"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| {
                    result(
                        fpu::divide_single(flush(single(a), ftz), flush(single(b), ftz), direction),
                        ftz,
                        false,
                    )
                },
            ));
            all.push(Reference::new(
                format!("rcp.{suffix}"),
                ty,
                &[ty],
                move |[a, ..]| {
                    result(
                        fpu::divide_single(1.0, flush(single(a), ftz), direction),
                        ftz,
                        false,
                    )
                },
            ));
            all.push(Reference::new(
                format!("sqrt.{suffix}"),
                ty,
                &[ty],
                move |[a, ..]| {
                    let a = flush(single(a), ftz);
                    result(fpu::root_single(a, a, direction), ftz, false)
                },
            ));
        }
    }
    for (ftz, flush_name) in [(false, ""), (true, ".ftz")] {
        all.push(Reference::new(
            format!("abs{flush_name}.f32"),
            ty,
            &[ty],
            move |[a, ..]| result(flush(single(a), ftz).abs(), ftz, false),
        ));
        all.push(Reference::new(
            format!("neg{flush_name}.f32"),
            ty,
            &[ty],
            move |[a, ..]| result(-flush(single(a), ftz), ftz, false),
        ));
        for name in ["min", "max"] {
            for (nan, nan_name) in [(false, ""), (true, ".NaN")] {
                for (xor, xor_name) in [(false, ""), (true, ".xorsign.abs")] {
                    let form = format!("{name}{flush_name}{nan_name}{xor_name}.f32");
                    all.push(Reference::new(form, ty, &[ty, ty], move |[a, b, ..]| {
                        let (a, b) = (flush(single(a), ftz), flush(single(b), ftz));
                        Number(u64::from(
                            (extreme(a.into(), b.into(), name, nan, xor) as f32).to_bits(),
                        ))
                    }));
                }
            }
        }
    }
    all.push(Reference::new(
        "copysign.f32".into(),
        ty,
        &[ty, ty],
        |[a, b, ..]| Bits(a & 0x8000_0000 | b & 0x7fff_ffff),
    ));
}

/// `min` or `max`: -0 is less than +0; a number before NaN, unless NaN wins.
fn extreme(a: f64, b: f64, name: &str, nan: bool, xor: bool) -> f64 {
    let sign = a.is_sign_negative() != b.is_sign_negative();
    let (a, b) = if xor { (a.abs(), b.abs()) } else { (a, b) };
    if a.is_nan() || b.is_nan() {
        let other = if a.is_nan() { b } else { a };
        let value = if nan || other.is_nan() {
            f64::NAN
        } else {
            other
        };
        return if xor {
            value.copysign(if sign { -1.0 } else { 1.0 })
        } else {
            value
        };
    }
    let a_first = a.total_cmp(&b).is_le() == (name == "min");
    let value = if a_first { a } else { b };
    if xor {
        value.copysign(if sign { -1.0 } else { 1.0 })
    } else {
        value
    }
}

fn doubles(all: &mut Vec<Reference>) {
    let ty = "f64";
    for direction in ROUNDINGS {
        let operations: [OnDoubles; 4] = [
            ("add", fpu::add_double),
            ("sub", fpu::subtract_double),
            ("mul", fpu::multiply_double),
            ("div", fpu::divide_double),
        ];
        for (name, compute) in operations {
            all.push(Reference::new(
                format!("{name}.{direction}.f64"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| Number(compute(double(a), double(b), direction).to_bits()),
            ));
        }
        all.push(Reference::new(
            format!("rcp.{direction}.f64"),
            ty,
            &[ty],
            move |[a, ..]| Number(fpu::divide_double(1.0, double(a), direction).to_bits()),
        ));
        all.push(Reference::new(
            format!("sqrt.{direction}.f64"),
            ty,
            &[ty],
            move |[a, ..]| Number(fpu::root_double(double(a), double(a), direction).to_bits()),
        ));
        all.push(Reference::new(
            format!("fma.{direction}.f64"),
            ty,
            &[ty; 3],
            move |[a, b, c, _]| {
                let value = fpu::fused_double(double(a), double(b), double(c), direction);
                value.map_or(Open, |value| Number(value.to_bits()))
            },
        ));
    }
    all.push(Reference::new("abs.f64".into(), ty, &[ty], |[a, ..]| {
        Number(a & !(1 << 63))
    }));
    all.push(Reference::new("neg.f64".into(), ty, &[ty], |[a, ..]| {
        Number(a ^ 1 << 63)
    }));
    all.push(Reference::new(
        "copysign.f64".into(),
        ty,
        &[ty, ty],
        |[a, b, ..]| Bits(a & 1 << 63 | b & !(1 << 63)),
    ));
    for name in ["min", "max"] {
        all.push(Reference::new(
            format!("{name}.f64"),
            ty,
            &[ty, ty],
            move |[a, b, ..]| Number(extreme(double(a), double(b), name, false, false).to_bits()),
        ));
    }
}

/// A half, and pairs of it.
fn halves(all: &mut Vec<Reference>, ty: Name) {
    let pair = if ty == "f16" { "f16x2" } else { "bf16x2" };
    let mut both = |form: String, count: usize, compute: fn(&Half, [u64; 3]) -> u64, half: Half| {
        all.push(Reference::new(
            format!("{form}.{ty}"),
            ty,
            &vec![ty; count],
            move |[a, b, c, _]| Number(compute(&half, [a, b, c].map(|bits| half.read(bits)))),
        ));
        all.push(Reference::new(
            format!("{form}.{pair}"),
            pair,
            &vec![pair; count],
            move |[a, b, c, _]| {
                let part = |shift: u32| {
                    compute(&half, [a, b, c].map(|bits| half.read(bits >> shift))) << shift
                };
                Number(part(0) | part(16))
            },
        ));
    };
    let flushes = if ty == "f16" {
        &[false, true][..]
    } else {
        &[false]
    };
    for &ftz in flushes {
        let flush_name = if ftz { ".ftz" } else { "" };
        let plain = Half {
            ty,
            ftz,
            after: "",
            name: "",
            nan: false,
            xor: false,
        };
        let afters: &[&str] = if ty == "f16" { &["", ".sat"] } else { &[""] };
        for after in afters {
            let half = Half { after, ..plain };
            let suffix = format!(".rn{flush_name}{after}");
            both(
                format!("add{suffix}"),
                2,
                |half, [a, b, _]| half.write(half.value(a) + half.value(b)),
                half,
            );
            both(
                format!("sub{suffix}"),
                2,
                |half, [a, b, _]| half.write(half.value(a) - half.value(b)),
                half,
            );
            both(
                format!("mul{suffix}"),
                2,
                |half, [a, b, _]| half.write(half.value(a) * half.value(b)),
                half,
            );
        }
        let afters: &[&str] = if ty == "f16" {
            &["", ".sat", ".relu"]
        } else {
            &["", ".relu"]
        };
        for after in afters {
            let half = Half { after, ..plain };
            both(
                format!("fma.rn{flush_name}{after}"),
                3,
                |half, [a, b, c]| {
                    half.write(fpu::add_to_odd(
                        half.value(a) * half.value(b),
                        half.value(c),
                    ))
                },
                half,
            );
        }
        both(
            format!("abs{flush_name}"),
            1,
            |_, [a, ..]| a & 0x7fff,
            plain,
        );
        both(
            format!("neg{flush_name}"),
            1,
            |_, [a, ..]| a ^ 0x8000,
            plain,
        );
        for name in ["min", "max"] {
            for (nan, nan_name) in [(false, ""), (true, ".NaN")] {
                for (xor, xor_name) in [(false, ""), (true, ".xorsign.abs")] {
                    let half = Half {
                        name,
                        nan,
                        xor,
                        ..plain
                    };
                    both(
                        format!("{name}{flush_name}{nan_name}{xor_name}"),
                        2,
                        |half, [a, b, _]| {
                            half.write(extreme(
                                half.value(a),
                                half.value(b),
                                half.name,
                                half.nan,
                                half.xor,
                            ))
                        },
                        half,
                    );
                }
            }
        }
    }
}

/// How a form of halves reads and writes them.
#[derive(Clone, Copy)]
struct Half {
    ty: Name,
    ftz: bool,
    after: &'static str,
    name: &'static str,
    nan: bool,
    xor: bool,
}

impl Half {
    fn format(&self) -> Format {
        Format::of(self.ty)
    }

    fn read(&self, bits: u64) -> u64 {
        let bits = bits & 0xffff;
        let subnormal = self.value(bits).abs() < 2f64.powi(self.format().lowest);
        if self.ftz && subnormal {
            bits & 0x8000
        } else {
            bits
        }
    }

    fn value(&self, bits: u64) -> f64 {
        self.format().value(bits)
    }

    fn write(&self, value: f64) -> u64 {
        let bits = self.read(self.format().round(value, "rn"));
        let rounded = self.value(bits);
        match self.after {
            ".sat" if rounded.is_nan() || rounded <= 0.0 => 0,
            ".sat" => self.format().round(rounded.min(1.0), "rn"),
            ".relu" if rounded <= 0.0 => 0,
            _ => bits,
        }
    }
}

/// The number that the bits of a type mean, exactly.
fn number(ty: Name, bits: u64) -> f64 {
    match ty {
        "f64" => double(bits),
        "f32" => f64::from(single(bits)),
        _ => Format::of(ty).value(cut(ty, bits)),
    }
}

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

fn comparisons(all: &mut Vec<Reference>) {
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
            super::integers::compared(all, operator, flush_name, ty, holds);
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
        for ty in super::integers::SELECTED {
            all.push(Reference::new(
                format!("slct{flush_name}.{ty}.f32"),
                ty,
                &[ty, ty, "f32"],
                move |[a, b, c, _]| Bits(cut(ty, if flush(single(c), ftz) >= 0.0 { a } else { b })),
            ));
        }
    }
}

const INTEGERS: [Name; 8] = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];

/// A whole number next to `value`.
fn whole(value: f64, direction: &str) -> f64 {
    match direction {
        "rn" => value.round_ties_even(),
        "rz" => value.trunc(),
        "rm" => value.floor(),
        _ => value.ceil(),
    }
}

fn to_integers(all: &mut Vec<Reference>) {
    for from in ["f16", "bf16", "f32", "f64"] {
        for direction in ROUNDINGS {
            for ftz in [false, true] {
                if ftz && from != "f32" {
                    continue;
                }
                let flush_name = if ftz { ".ftz" } else { "" };
                let read = move |bits: u64| {
                    if from == "f32" {
                        f64::from(flush(single(bits), ftz))
                    } else {
                        number(from, bits)
                    }
                };
                for (to, sat) in INTEGERS.into_iter().flat_map(|to| [(to, ""), (to, ".sat")]) {
                    let register = super::integers::in_register(to);
                    all.push(Reference::new(
                        format!("cvt.{direction}i{flush_name}{sat}.{to}.{from}"),
                        register,
                        &[from],
                        move |[a, ..]| {
                            // What is out of range is clamped, whether it is asked for or not.
                            let value = whole(read(a), direction);
                            let (low, high) = range(to);
                            let value = if value.is_nan() {
                                0
                            } else {
                                (value as i128).clamp(low, high)
                            };
                            Bits(cut(register, value as u64))
                        },
                    ));
                }
                for sat in ["", ".sat"] {
                    all.push(Reference::new(
                        format!("cvt.{direction}i{flush_name}{sat}.{from}.{from}"),
                        from,
                        &[from],
                        move |[a, ..]| {
                            let value = whole(read(a), direction);
                            encode(from, clamped(value, sat), "rn")
                        },
                    ));
                }
            }
        }
    }
}

/// A number as the result of a type, rounded in a direction.
fn encode(ty: Name, value: f64, direction: &str) -> Want {
    Number(match ty {
        "f64" => value.to_bits(),
        "f32" => u64::from(fpu::narrow(value, direction).to_bits()),
        _ => Format::of(ty).round(value, direction),
    })
}

/// An integer rounded to `bits` significant bits.
fn shortened(value: i128, bits: u32, direction: &str) -> i128 {
    let magnitude = value.unsigned_abs();
    let shift = (128 - magnitude.leading_zeros()).saturating_sub(bits);
    let (kept, rest) = (magnitude >> shift, magnitude & ((1 << shift) - 1));
    let half = if shift == 0 {
        u128::MAX
    } else {
        1 << (shift - 1)
    };
    let up = match direction {
        "rn" => rest > half || rest == half && kept & 1 != 0,
        "rz" => false,
        "rm" => value < 0 && rest != 0,
        _ => value > 0 && rest != 0,
    };
    let magnitude = ((kept + u128::from(up)) << shift) as i128;
    if value < 0 { -magnitude } else { magnitude }
}

fn from_integers(all: &mut Vec<Reference>) {
    for (to, bits) in [("f16", 11), ("bf16", 8), ("f32", 24), ("f64", 53)] {
        for from in INTEGERS {
            // No integer is a subnormal number: there is nothing to flush.
            let flushes = if to == "f32" {
                &["", ".ftz"][..]
            } else {
                &[""]
            };
            let after = flushes
                .iter()
                .flat_map(|flush_name| [(*flush_name, ""), (*flush_name, ".sat")]);
            for (direction, (flush_name, sat)) in ROUNDINGS
                .into_iter()
                .flat_map(|direction| after.clone().map(move |after| (direction, after)))
            {
                all.push(Reference::new(
                    format!("cvt.{direction}{flush_name}{sat}.{to}.{from}"),
                    to,
                    &[from],
                    move |[a, ..]| {
                        let value = shortened(integer(from, a), bits, direction);
                        encode(to, clamped(value as f64, sat), direction)
                    },
                ));
            }
        }
    }
}

/// A number in [0, 1] if the form saturates; NaN becomes 0.
fn clamped(value: f64, sat: &str) -> f64 {
    match sat {
        "" => value,
        _ if value > 0.0 => value.min(1.0),
        _ => 0.0,
    }
}

fn between(all: &mut Vec<Reference>) {
    let mut convert =
        |from: Name, to: Name, direction: &'static str, ftz: bool, sat: &'static str| {
            let rounding = if direction.is_empty() { "" } else { "." };
            let flush_name = if ftz { ".ftz" } else { "" };
            all.push(Reference::new(
                format!("cvt{rounding}{direction}{flush_name}{sat}.{to}.{from}"),
                to,
                &[from],
                move |[a, ..]| {
                    let value = match from {
                        "f32" => f64::from(flush(single(a), ftz)),
                        _ => number(from, a),
                    };
                    let direction = if direction.is_empty() {
                        "rn"
                    } else {
                        direction
                    };
                    match (clamped(value, sat), to) {
                        (value, "f32") => result(fpu::narrow(value, direction), ftz, false),
                        (value, _) => encode(to, value, direction),
                    }
                },
            ));
        };
    for sat in ["", ".sat"] {
        for (from, to) in [
            ("f32", "f32"),
            ("f64", "f64"),
            ("f16", "f16"),
            ("f16", "f32"),
            ("bf16", "f32"),
            ("f16", "f64"),
            ("bf16", "f64"),
            ("f32", "f64"),
        ] {
            convert(from, to, "", false, sat);
        }
        for (from, to) in [
            ("f32", "f32"),
            ("f16", "f32"),
            ("bf16", "f32"),
            ("f32", "f64"),
        ] {
            convert(from, to, "", true, sat);
        }
        for direction in ROUNDINGS {
            for (from, to) in [
                ("f64", "f32"),
                ("f64", "f16"),
                ("f64", "bf16"),
                ("f32", "f16"),
                ("f32", "bf16"),
            ] {
                convert(from, to, direction, false, sat);
            }
            convert("f64", "f32", direction, true, sat);
            convert("f32", "f16", direction, true, sat);
            convert("f32", "bf16", direction, true, sat);
        }
    }
    convert("bf16", "bf16", "", false, "");
    for direction in ROUNDINGS {
        convert("f16", "bf16", direction, false, "");
        convert("bf16", "f16", direction, false, "");
    }
    for direction in ["rn", "rz"] {
        for to in ["f16", "bf16"] {
            all.push(Reference::new(
                format!("cvt.{direction}.relu.{to}.f32"),
                to,
                &["f32"],
                move |[a, ..]| {
                    let value = number("f32", a);
                    encode(to, if value <= 0.0 { 0.0 } else { value }, direction)
                },
            ));
        }
    }
    for (pair, half) in [("f16x2", "f16"), ("bf16x2", "bf16")] {
        for direction in ["rn", "rz"] {
            for relu in ["", ".relu"] {
                all.push(Reference::new(
                    format!("cvt.{direction}{relu}.{pair}.f32"),
                    pair,
                    &["f32", "f32"],
                    move |[a, b, ..]| {
                        let part = |bits: u64| {
                            let value = f64::from(single(bits));
                            let value = if !relu.is_empty() && value <= 0.0 {
                                0.0
                            } else {
                                value
                            };
                            Format::of(half).round(value, direction)
                        };
                        Number(part(a) << 16 | part(b))
                    },
                ));
            }
        }
    }
    all.push(Reference::new(
        "cvt.rna.tf32.f32".into(),
        "b32",
        &["f32"],
        |[a, ..]| {
            if !single(a).is_finite() {
                return Open;
            }
            Bits(
                ((((a as u32 & 0x7fff_ffff) + 0x1000) & !0x1fff) | (a as u32 & 0x8000_0000)).into(),
            )
        },
    ));
}

/// Numbers in the normal range of singles, and zero and infinity.
fn is_plain(value: f32) -> bool {
    !value.is_subnormal()
}

fn approximations(all: &mut Vec<Reference>) {
    let ty = "f32";
    let near = |value: f64, absolute: f64, relative: f64| Near {
        value,
        absolute,
        relative,
    };
    let last = 2f64.powi(-23);
    let mut unary = |name: &str, absolute: f64, relative: f64, compute: fn(f64) -> Option<f64>| {
        for ftz in ["", ".ftz"] {
            all.push(Reference::new(
                format!("{name}{ftz}.f32"),
                ty,
                &[ty],
                move |[a, ..]| {
                    let a = single(a);
                    match compute(a.into()) {
                        Some(value) if is_plain(a) => near(value, absolute, relative),
                        _ => Open,
                    }
                },
            ));
        }
    };
    // Results that may be flushed, and the last places of subnormals, are within the smallest normal number.
    let tiny = f64::from(f32::MIN_POSITIVE);
    unary("rcp.approx", tiny, last, |a| Some(1.0 / a));
    unary("sqrt.approx", 0.0, last, |a| Some(a.sqrt()));
    unary("rsqrt.approx", 0.0, 2f64.powf(-22.9), |a| {
        Some(1.0 / a.sqrt())
    });
    unary("ex2.approx", tiny, 2.0 * last, |a| Some(a.exp2()));
    unary("lg2.approx", 2f64.powi(-22), 2f64.powi(-22), |a| {
        Some(if a < 0.0 { f64::NAN } else { a.log2() })
    });
    unary("sin.approx", 2f64.powf(-20.5), 0.0, |a| {
        (a.abs() < 6.25).then(|| a.sin())
    });
    unary("cos.approx", 2f64.powf(-20.5), 0.0, |a| {
        (a.abs() < 6.25).then(|| a.cos())
    });
    // Twenty bits of the mantissa, which is what the ISA has of the coarse forms; subnormals are left open.
    let coarse: [OnDouble; 3] = [
        ("rcp.approx.ftz.f64", |a| 1.0 / a),
        ("rsqrt.approx.f64", |a| 1.0 / a.sqrt()),
        ("rsqrt.approx.ftz.f64", |a| 1.0 / a.sqrt()),
    ];
    for (form, compute) in coarse {
        all.push(Reference::new(
            form.into(),
            "f64",
            &["f64"],
            move |[a, ..]| {
                let a = double(a);
                match compute(a) {
                    value if a.is_subnormal() || value.is_subnormal() => Open,
                    value => near(value, 0.0, 2f64.powi(-19)),
                }
            },
        ));
    }
    for name in ["div.approx", "div.full"] {
        for ftz in ["", ".ftz"] {
            all.push(Reference::new(
                format!("{name}{ftz}.f32"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| {
                    let (a, b) = (single(a), single(b));
                    let (low, high) = (2f32.powi(-126), 2f32.powi(126));
                    if !is_plain(a) || !(low..=high).contains(&b.abs()) {
                        return Open;
                    }
                    near(f64::from(a) / f64::from(b), tiny, 2.0 * last)
                },
            ));
        }
    }
    all.push(Reference::new(
        "tanh.approx.f32".into(),
        ty,
        &[ty],
        move |[a, ..]| near(f64::from(single(a)).tanh(), 0.0, 2f64.powi(-11)),
    ));
    for (ty, relative, absolute) in [
        ("f16", 2f64.powf(-9.9), 2f64.powf(-10.9)),
        ("bf16", 2f64.powi(-7), 2f64.powi(-8)),
    ] {
        let smallest = 2f64.powi(Format::of(ty).lowest);
        let flush_name = if ty == "bf16" { ".ftz" } else { "" };
        all.push(Reference::new(
            format!("ex2.approx{flush_name}.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| near(number(ty, a).exp2(), smallest, relative),
        ));
        all.push(Reference::new(
            format!("tanh.approx.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| near(number(ty, a).tanh(), absolute, 0.0),
        ));
    }
    for (pair, half) in [("f16x2", "f16"), ("bf16x2", "bf16")] {
        for name in ["ex2.approx", "tanh.approx"] {
            let flush_name = if name == "ex2.approx" && half == "bf16" {
                ".ftz"
            } else {
                ""
            };
            // As of each half alone, which is compared with a number above: no bit differs.
            let one = format!("{name}{flush_name}.{half}");
            let form = format!("{name}{flush_name}.{pair}");
            let text = format!(
                ".reg .b16 %x0, %x1; mov.b32 {{%x0, %x1}}, %s0; {one} %x0, %x0; {one} %x1, %x1; \
                 mov.b32 %t0, {{%x0, %x1}}; {form} %t1, %s0; xor.b32 %d, %t0, %t1;"
            );
            let reference = Reference::new(form, "b32", &["b32"], |_| Bits(0));
            all.push(reference.with_text(text));
        }
    }
}
