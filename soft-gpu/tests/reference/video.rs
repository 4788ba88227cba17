//! The video instructions: on bytes, halves and words of their sources (`vadd`), and on two or four lanes (`vadd2`, `vadd4`).
//!
//! Parts of operands are no part of a form's name, and there are more of them than can be tried: they go round, so that each form
//! meets another choice.

use super::Want::Bits;
use super::{Name, Reference, integer};

/// Both types of operands.
const TYPES: [Name; 2] = ["u32", "s32"];
/// The parts of a word, with the places of their first bits and their widths.
const PARTS: [(&str, u32, u32); 7] = [
    ("", 0, 32),
    (".b0", 0, 8),
    (".h1", 16, 16),
    (".b2", 16, 8),
    (".b3", 24, 8),
    (".h0", 0, 16),
    (".b1", 8, 8),
];
/// Comparisons by name.
const COMPARISONS: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];

/// Every form.
pub(crate) fn all() -> Vec<Reference> {
    let mut all = Vec::new();
    for a_type in TYPES {
        for b_type in TYPES {
            for result in TYPES {
                for name in ["vadd", "vsub", "vabsdiff", "vmin", "vmax"] {
                    for sat in ["", ".sat"] {
                        let form = format!("{name}.{result}.{a_type}.{b_type}{sat}");
                        scalar(&mut all, &form, result, [a_type, b_type], move |a, b| {
                            arithmetic(name, a, b)
                        });
                    }
                }
                for shape in SHAPES {
                    for name in ["vadd", "vsub", "vavrg", "vabsdiff", "vmin", "vmax"] {
                        let form = format!("{name}{}.{result}.{a_type}.{b_type}", shape.0);
                        packed(
                            &mut all,
                            &form,
                            shape,
                            result,
                            [a_type, b_type],
                            move |a, b| arithmetic(name, a, b),
                        );
                    }
                }
                product(&mut all, result, [a_type, b_type]);
            }
            for comparison in COMPARISONS {
                let holds = move |a, b| i128::from(compare(comparison, a, b));
                let form = format!("vset.{a_type}.{b_type}.{comparison}");
                scalar(&mut all, &form, "u32", [a_type, b_type], holds);
                for shape in SHAPES {
                    let form = format!("vset{}.{a_type}.{b_type}.{comparison}", shape.0);
                    packed(&mut all, &form, shape, "u32", [a_type, b_type], holds);
                }
            }
        }
        for result in TYPES {
            shifts(&mut all, result, a_type);
        }
    }
    all
}

fn arithmetic(name: &str, a: i128, b: i128) -> i128 {
    match name {
        "vadd" => a + b,
        "vsub" => a - b,
        "vabsdiff" => (a - b).abs(),
        "vmin" => a.min(b),
        "vmax" => a.max(b),
        // The mean, whose halves go up for sums that are not negative, and down for others.
        _ if a + b >= 0 => (a + b + 1) / 2,
        _ => (a + b).div_euclid(2),
    }
}

fn compare(name: &str, a: i128, b: i128) -> bool {
    match name {
        "eq" => a == b,
        "ne" => a != b,
        "lt" => a < b,
        "le" => a <= b,
        "gt" => a > b,
        _ => a >= b,
    }
}

/// `bits` of `word` from `first`, as the type has them.
fn part(ty: Name, word: u64, first: u32, bits: u32) -> i128 {
    let value = i128::from(word >> first & ((1 << bits) - 1));
    if ty == "s32" && value >> (bits - 1) != 0 {
        value - (1 << bits)
    } else {
        value
    }
}

fn limited(ty: Name, value: i128, bits: u32) -> i128 {
    if ty == "s32" {
        value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        value.clamp(0, (1 << bits) - 1)
    }
}

fn word(value: i128) -> u64 {
    u64::from(value as u32)
}

/// A form on parts of words: alone, with each further operation on the third source, and put into a part of it.
fn scalar(
    all: &mut Vec<Reference>,
    form: &str,
    result: Name,
    [a_type, b_type]: [Name; 2],
    compute: impl Fn(i128, i128) -> i128 + Copy + Send + Sync + 'static,
) {
    for then in ["", ".add", ".min", ".max", "into"] {
        let turn = all.len();
        let (a_name, a_first, a_bits) = PARTS[turn % 7];
        let (b_name, b_first, b_bits) = PARTS[turn / 7 % 7];
        let (into, first, bits) = if then == "into" {
            PARTS[1 + turn % 6]
        } else {
            PARTS[0]
        };
        let saturates = form.ends_with(".sat") || form.contains(".sat.");
        let reference = Reference::new(
            format!("{form}{}", then.trim_start_matches("into")),
            "b32",
            &["b32"; 3],
            move |[a, b, c, _]| {
                let (a, b) = (
                    part(a_type, a, a_first, a_bits),
                    part(b_type, b, b_first, b_bits),
                );
                let value = compute(a, b);
                let value = if saturates {
                    limited(result, value, bits)
                } else {
                    value
                };
                let (value, third) = (integer(result, word(value)), integer(result, c));
                Bits(word(match then {
                    "" => value,
                    ".add" => value + third,
                    ".min" => value.min(third),
                    ".max" => value.max(third),
                    _ => {
                        let ones = ((1i128 << bits) - 1) << first;
                        third & !ones | value << first & ones
                    }
                }))
            },
        );
        let third = if then.is_empty() { "" } else { ", %s2" };
        let text = format!(
            "{} %d{into}, %s0{a_name}, %s1{b_name}{third};",
            reference.form
        );
        all.push(reference.with_text(text));
    }
}

fn shifts(all: &mut Vec<Reference>, result: Name, a_type: Name) {
    for name in ["vshl", "vshr"] {
        for sat in ["", ".sat"] {
            for mode in ["clamp", "wrap"] {
                let form = format!("{name}.{result}.{a_type}.u32{sat}.{mode}");
                scalar(all, &form, result, [a_type, "u32"], move |a, b| {
                    let amount = if mode == "wrap" { b % 32 } else { b.min(32) };
                    if name == "vshl" {
                        a << amount
                    } else {
                        a >> amount
                    }
                });
            }
        }
    }
}

/// `vmad`: the signs of the sources and of what is negated, not the type of the result, say whether the sum has one.
fn product(all: &mut Vec<Reference>, result: Name, [a_type, b_type]: [Name; 2]) {
    for sat in ["", ".sat"] {
        for (scale, shift) in [("", 0), (".shr7", 7), (".shr15", 15)] {
            for (negated, po) in [
                ("", ""),
                ("a", ""),
                ("b", ""),
                ("ab", ""),
                ("c", ""),
                ("", ".po"),
            ] {
                let turn = all.len();
                let (a_name, a_first, a_bits) = PARTS[turn % 7];
                let (b_name, b_first, b_bits) = PARTS[turn / 7 % 7];
                let minus = |which: char| if negated.contains(which) { "-" } else { "" };
                let is_negative = negated == "a" || negated == "b";
                let signed = a_type == "s32" || b_type == "s32" || is_negative || negated == "c";
                let sum = if signed { "s32" } else { "u32" };
                let compute = move |[a, b, c, _]: [u64; 4]| {
                    let a = part(a_type, a, a_first, a_bits);
                    let b = part(b_type, b, b_first, b_bits);
                    let product = if is_negative { -(a * b) } else { a * b };
                    let third = integer(sum, c);
                    let third = if negated == "c" { -third } else { third };
                    let value = (product + third + i128::from(!po.is_empty())) >> shift;
                    Bits(word(if sat.is_empty() {
                        value
                    } else {
                        limited(sum, value, 32)
                    }))
                };
                let form = format!("vmad.{result}.{a_type}.{b_type}{po}{sat}{scale}");
                let text = format!(
                    "{form} %d, {}%s0{a_name}, {}%s1{b_name}, {}%s2;",
                    minus('a'),
                    minus('b'),
                    minus('c')
                );
                all.push(Reference::new(form, "b32", &["b32"; 3], compute).with_text(text));
            }
        }
    }
}

/// The number of lanes, the letter of their parts, masks, and selections of the lanes of the sources: the highest first.
type Shape = (u32, char, [&'static str; 4], [&'static str; 4]);
const SHAPES: [Shape; 2] = [
    (2, 'h', ["", "0", "1", "10"], ["", "32", "13", "00"]),
    (4, 'b', ["", "31", "0", "210"], ["", "7654", "2705", "4444"]),
];

/// A form on lanes: put into the third source, clamped too, and added to it.
fn packed(
    all: &mut Vec<Reference>,
    form: &str,
    (lanes, letter, masks, choices): Shape,
    result: Name,
    [a_type, b_type]: [Name; 2],
    compute: impl Fn(i128, i128) -> i128 + Copy + Send + Sync + 'static,
) {
    for then in ["", ".sat", ".add"] {
        if then == ".sat" && form.starts_with("vset") {
            continue;
        }
        let turn = all.len();
        let (mask, first, second) = (
            masks[turn % 4],
            choices[turn / 2 % 4],
            choices[turn / 5 % 4],
        );
        let bits = 32 / lanes;
        // The lane that a digit names, counted from the highest.
        let digit = move |digits: &str, lane: u32, default: u32| {
            let place = (lanes - 1 - lane) as usize;
            let named = digits
                .chars()
                .nth(place)
                .and_then(|digit| digit.to_digit(10));
            named.unwrap_or(default)
        };
        let reference = Reference::new(
            format!("{form}{then}"),
            "b32",
            &["b32"; 3],
            move |[a, b, c, _]| {
                let both = (b & 0xffff_ffff) << 32 | a & 0xffff_ffff;
                let (mut merged, mut sum) = (integer("u32", c), integer("u32", c));
                for lane in 0..lanes {
                    let is_there = |digit| char::from_digit(lane, 10) == Some(digit);
                    if !mask.is_empty() && !mask.chars().any(is_there) {
                        continue;
                    }
                    let (from_a, from_b) =
                        (digit(first, lane, lane), digit(second, lane, lane + lanes));
                    let value = compute(
                        part(a_type, both, from_a * bits, bits),
                        part(b_type, both, from_b * bits, bits),
                    );
                    let value = if then == ".sat" {
                        limited(result, value, bits)
                    } else {
                        value
                    };
                    let ones = ((1i128 << bits) - 1) << (lane * bits);
                    merged = merged & !ones | value << (lane * bits) & ones;
                    sum += value;
                }
                Bits(word(if then == ".add" { sum } else { merged }))
            },
        );
        let named = |digits: &str| {
            if digits.is_empty() {
                String::new()
            } else {
                format!(".{letter}{digits}")
            }
        };
        let text = format!(
            "{} %d{}, %s0{}, %s1{}, %s2;",
            reference.form,
            named(mask),
            named(first),
            named(second)
        );
        all.push(reference.with_text(text));
    }
}
