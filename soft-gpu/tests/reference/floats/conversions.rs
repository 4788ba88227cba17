//! Conversions: to integers, from them, and between formats.

use super::super::Want::{Bits, Number, Open};
use super::super::{Format, Name, ROUNDINGS, Reference, Want, cut, fpu, integer, integers, range};
use super::{flush, number, result, single};

/// Every form.
pub(super) fn all(all: &mut Vec<Reference>) {
    to_integers(all);
    from_integers(all);
    between(all);
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
                    let register = integers::in_register(to);
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
        for (to, pair) in [("f16", "f16x2"), ("bf16", "bf16x2")] {
            for (relu, finite) in [(false, false), (false, true), (true, false), (true, true)] {
                let name = format!(
                    "cvt.{direction}{}{}",
                    if relu { ".relu" } else { "" },
                    if finite { ".satfinite" } else { "" }
                );
                let part = move |bits: u64| {
                    let value = f64::from(single(bits));
                    let value = match relu && value <= 0.0 {
                        true => 0.0,
                        false => value,
                    };
                    Format::of(to).round(finite_in(to, value, finite), direction)
                };
                // Without either there are more roundings: above.
                if relu || finite {
                    all.push(Reference::new(
                        format!("{name}.{to}.f32"),
                        to,
                        &["f32"],
                        move |[a, ..]| Number(part(a)),
                    ));
                }
                all.push(Reference::new(
                    format!("{name}.{pair}.f32"),
                    pair,
                    &["f32", "f32"],
                    move |[a, b, ..]| Number(part(a) << 16 | part(b)),
                ));
            }
        }
    }
    for finite in [false, true] {
        all.push(Reference::new(
            format!("cvt.rna{}.tf32.f32", if finite { ".satfinite" } else { "" }),
            "b32",
            &["f32"],
            move |[a, ..]| {
                let value = single(a);
                if value.is_nan() || !finite && value.is_infinite() {
                    return Open;
                }
                let bits = a as u32 & 0x7fff_ffff;
                let rounded = (bits + 0x1000) & !0x1fff;
                let beyond = finite && f32::from_bits(bits) > GREATEST_TF32;
                let kept = match beyond {
                    true => GREATEST_TF32.to_bits(),
                    false => rounded,
                };
                Bits((kept | (a as u32 & 0x8000_0000)).into())
            },
        ));
    }
}

/// The greatest number with eight bits of exponent and ten of mantissa.
const GREATEST_TF32: f32 = f32::from_bits(0x7f7f_e000);

/// A number, or with `finite` the greatest one of a format where it is beyond that.
fn finite_in(ty: Name, value: f64, finite: bool) -> f64 {
    // The mantissa's bits, with the hidden one, and the greatest exponent.
    let (bits, exponent) = match ty {
        "f16" => (11, 15),
        _ => (8, 127),
    };
    let greatest = (2.0 - 2f64.powi(1 - bits)) * 2f64.powi(exponent);
    match finite && value.abs() > greatest {
        true => greatest.copysign(value),
        false => value,
    }
}
