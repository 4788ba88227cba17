//! Integer arithmetic, logic, shifts, bit fields, comparisons and conversions of integers.

use super::Want::{Bits, Open};
use super::{Name, Reference, cut, integer, range, width};

/// What `selp` and `slct` choose from.
pub(super) const SELECTED: [Name; 11] = [
    "b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64",
];

const ALL: [Name; 6] = ["u16", "s16", "u32", "s32", "u64", "s64"];

fn wider(ty: Name) -> Name {
    match ty {
        "u16" => "u32",
        "s16" => "s32",
        "u32" => "u64",
        _ => "s64",
    }
}

fn wrapped(ty: Name, value: i128) -> super::Want {
    Bits(cut(ty, value as u64))
}

fn clamped(ty: Name, value: i128) -> super::Want {
    let (low, high) = range(ty);
    wrapped(ty, value.clamp(low, high))
}

/// Every form but those that carry ([`super::carries`]) and the video instructions ([`super::video`]).
pub(crate) fn all() -> Vec<Reference> {
    let mut all = Vec::new();
    arithmetic(&mut all);
    products(&mut all);
    logic(&mut all);
    counts(&mut all);
    fields(&mut all);
    bytes(&mut all);
    pairs(&mut all);
    comparisons(&mut all);
    conversions(&mut all);
    packs(&mut all);
    spaces(&mut all);
    all
}

fn arithmetic(all: &mut Vec<Reference>) {
    for ty in ALL {
        let two = [ty, ty];
        let mut binary = |name: &str, compute: fn(i128, i128) -> Option<i128>| {
            all.push(Reference::new(
                format!("{name}.{ty}"),
                ty,
                &two,
                move |[a, b, ..]| match compute(integer(ty, a), integer(ty, b)) {
                    Some(value) => wrapped(ty, value),
                    None => Open,
                },
            ));
        };
        binary("add", |a, b| Some(a + b));
        binary("sub", |a, b| Some(a - b));
        binary("div", |a, b| a.checked_div(b));
        binary("rem", |a, b| a.checked_rem(b));
        binary("min", |a, b| Some(a.min(b)));
        binary("max", |a, b| Some(a.max(b)));
        all.push(Reference::new(
            format!("sad.{ty}"),
            ty,
            &[ty; 3],
            move |[a, b, c, _]| {
                let difference = (integer(ty, a) - integer(ty, b)).abs();
                wrapped(ty, integer(ty, c) + difference)
            },
        ));
        if ty.starts_with('s') {
            all.push(Reference::new(
                format!("abs.{ty}"),
                ty,
                &[ty],
                move |[a, ..]| wrapped(ty, integer(ty, a).abs()),
            ));
            all.push(Reference::new(
                format!("neg.{ty}"),
                ty,
                &[ty],
                move |[a, ..]| wrapped(ty, -integer(ty, a)),
            ));
        }
    }
    for (name, sign) in [("add", 1), ("sub", -1)] {
        all.push(Reference::new(
            format!("{name}.sat.s32"),
            "s32",
            &["s32", "s32"],
            move |[a, b, ..]| clamped("s32", integer("s32", a) + sign * integer("s32", b)),
        ));
    }
    for name in ["min", "max"] {
        all.push(Reference::new(
            format!("{name}.relu.s32"),
            "s32",
            &["s32", "s32"],
            move |[a, b, ..]| {
                let (a, b) = (integer("s32", a), integer("s32", b));
                wrapped(
                    "s32",
                    if name == "min" { a.min(b) } else { a.max(b) }.max(0),
                )
            },
        ));
    }
}

fn products(all: &mut Vec<Reference>) {
    for ty in ALL {
        for part in ["lo", "hi", "wide"] {
            if part == "wide" && width(ty) == 64 {
                continue;
            }
            let result = if part == "wide" { wider(ty) } else { ty };
            let of = move |a: u64, b: u64| {
                // 128 bits hold every product but the largest of unsigned words, which wraps to the right bits.
                let product = integer(ty, a).wrapping_mul(integer(ty, b));
                match part {
                    "hi" if ty == "u64" => (product as u128 >> 64) as i128,
                    "hi" => product >> width(ty),
                    _ => product,
                }
            };
            all.push(Reference::new(
                format!("mul.{part}.{ty}"),
                result,
                &[ty, ty],
                move |[a, b, ..]| wrapped(result, of(a, b)),
            ));
            all.push(Reference::new(
                format!("mad.{part}.{ty}"),
                result,
                &[ty, ty, result],
                move |[a, b, c, _]| wrapped(result, of(a, b).wrapping_add(integer(result, c))),
            ));
            if part == "hi" && ty == "s32" {
                all.push(Reference::new(
                    "mad.hi.sat.s32".into(),
                    ty,
                    &[ty; 3],
                    move |[a, b, c, _]| clamped(ty, of(a, b) + integer(ty, c)),
                ));
            }
        }
    }
    for ty in ["u32", "s32"] {
        for part in ["lo", "hi"] {
            let of = move |a: u64, b: u64| {
                let low = |value: u64| {
                    let bits = i128::from(value & 0xff_ffff);
                    if ty == "s32" && bits >> 23 != 0 {
                        bits - (1 << 24)
                    } else {
                        bits
                    }
                };
                (low(a) * low(b)) >> if part == "hi" { 16 } else { 0 }
            };
            all.push(Reference::new(
                format!("mul24.{part}.{ty}"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| wrapped(ty, of(a, b)),
            ));
            all.push(Reference::new(
                format!("mad24.{part}.{ty}"),
                ty,
                &[ty; 3],
                move |[a, b, c, _]| {
                    wrapped(ty, integer(ty, cut(ty, of(a, b) as u64)) + integer(ty, c))
                },
            ));
        }
    }
    let of = |a: u64, b: u64| {
        let low = |value: u64| i128::from((value as i32) << 8 >> 8);
        (low(a) * low(b)) >> 16
    };
    all.push(Reference::new(
        "mad24.hi.sat.s32".into(),
        "s32",
        &["s32"; 3],
        move |[a, b, c, _]| clamped("s32", i128::from(of(a, b) as i32) + integer("s32", c)),
    ));
}

fn logic(all: &mut Vec<Reference>) {
    for ty in SELECTED {
        all.push(Reference::new(
            format!("selp.{ty}"),
            ty,
            &[ty, ty, "pred"],
            move |[a, b, c, _]| Bits(cut(ty, if c & 1 != 0 { a } else { b })),
        ));
    }
    for ty in ["b16", "b32", "b64"] {
        for name in ["and", "or", "xor"] {
            all.push(Reference::new(
                format!("{name}.{ty}"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| {
                    Bits(cut(
                        ty,
                        match name {
                            "and" => a & b,
                            "or" => a | b,
                            _ => a ^ b,
                        },
                    ))
                },
            ));
        }
        all.push(Reference::new(
            format!("not.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| Bits(cut(ty, !a)),
        ));
        all.push(Reference::new(
            format!("cnot.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| Bits(u64::from(cut(ty, a) == 0)),
        ));
        all.push(Reference::new(
            format!("shl.{ty}"),
            ty,
            &[ty, "u32"],
            move |[a, b, ..]| {
                let amount = cut("u32", b) as u32;
                Bits(cut(ty, if amount < width(ty) { a << amount } else { 0 }))
            },
        ));
    }
    for ty in [
        "b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64",
    ] {
        all.push(Reference::new(
            format!("shr.{ty}"),
            ty,
            &[ty, "u32"],
            move |[a, b, ..]| {
                let amount = cut("u32", b).min(100) as u32;
                wrapped(ty, integer(ty, a) >> amount)
            },
        ));
    }
    for direction in ["l", "r"] {
        for mode in ["clamp", "wrap"] {
            all.push(Reference::new(
                format!("shf.{direction}.{mode}.b32"),
                "b32",
                &["b32", "b32", "u32"],
                move |[a, b, c, _]| {
                    let both = u128::from(cut("b32", b)) << 32 | u128::from(cut("b32", a));
                    let amount = cut("u32", c);
                    let amount = if mode == "wrap" {
                        amount & 31
                    } else {
                        amount.min(32)
                    };
                    Bits(cut(
                        "b32",
                        if direction == "l" {
                            ((both << amount) >> 32) as u64
                        } else {
                            (both >> amount) as u64
                        },
                    ))
                },
            ));
        }
    }
    for table in (0..=255u32)
        .step_by(3)
        .chain([0x80, 0xfe, 0x96, 0xca, 0xe8])
    {
        let reference = Reference::new(
            "lop3.b32".into(),
            "b32",
            &["b32"; 3],
            move |[a, b, c, _]| {
                let bit = |index: u32| {
                    let row = (a >> index & 1) << 2 | (b >> index & 1) << 1 | (c >> index & 1);
                    u64::from(table >> row & 1) << index
                };
                Bits((0..32).map(bit).sum())
            },
        );
        all.push(reference.with_suffix(format!(", {table}")));
    }
    for join in ["or", "and"] {
        let form = format!("lop3.{join}.b32");
        let text = format!(
            ".reg .pred %q0; {form} %t0|%q0, %s0, %s1, %s2, 150, %s3; selp.b32 %t1, 1, 0, %q0; xor.b32 %d, %t0, %t1;"
        );
        let sources = ["b32", "b32", "b32", "pred"];
        let reference = Reference::new(form, "b32", &sources, move |[a, b, c, q]| {
            let word = cut("b32", a ^ b ^ c);
            let (is_set, q) = (word != 0, q & 1 != 0);
            let holds = if join == "or" { is_set | q } else { is_set & q };
            Bits(word ^ u64::from(holds))
        });
        all.push(reference.with_text(text));
    }
}

fn counts(all: &mut Vec<Reference>) {
    for ty in ["b32", "b64"] {
        let bit = move |a: u64, index: u32| a >> index & 1 != 0;
        all.push(Reference::new(
            format!("popc.{ty}"),
            "u32",
            &[ty],
            move |[a, ..]| Bits((0..width(ty)).filter(|&index| bit(a, index)).count() as u64),
        ));
        all.push(Reference::new(
            format!("clz.{ty}"),
            "u32",
            &[ty],
            move |[a, ..]| {
                Bits(
                    (0..width(ty))
                        .rev()
                        .take_while(|&index| !bit(a, index))
                        .count() as u64,
                )
            },
        ));
        all.push(Reference::new(
            format!("brev.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| {
                Bits(
                    (0..width(ty))
                        .map(|index| u64::from(bit(a, index)) << (width(ty) - 1 - index))
                        .sum(),
                )
            },
        ));
    }
    for ty in ["u32", "s32", "u64", "s64"] {
        for amount in ["", ".shiftamt"] {
            all.push(Reference::new(
                format!("bfind{amount}.{ty}"),
                "u32",
                &[ty],
                move |[a, ..]| {
                    let value = integer(ty, a);
                    let value = if value < 0 { !value } else { value };
                    let found = (0..width(ty)).rev().find(|index| value >> index & 1 != 0);
                    Bits(match found {
                        None => u64::from(u32::MAX),
                        Some(index) if amount.is_empty() => u64::from(index),
                        Some(index) => u64::from(width(ty) - 1 - index),
                    })
                },
            ));
        }
    }
    all.push(Reference::new(
        "fns.b32".into(),
        "b32",
        &["b32", "b32", "s32"],
        |[mask, base, offset, _]| {
            let (base, offset) = (cut("b32", base) as i64, integer("s32", offset));
            let bit = |position: i64| mask >> position & 1 != 0;
            if base > 31 {
                return Open;
            }
            let found = match offset {
                0 => Some(base).filter(|&position| bit(position)),
                1.. => (base..32)
                    .filter(|&position| bit(position))
                    .nth((offset - 1) as usize),
                _ => (0..=base)
                    .rev()
                    .filter(|&position| bit(position))
                    .nth((-offset - 1) as usize),
            };
            Bits(found.map_or(u64::from(u32::MAX), |position| position as u64))
        },
    ));
}

fn fields(all: &mut Vec<Reference>) {
    for ty in ["u32", "s32", "u64", "s64"] {
        all.push(Reference::new(
            format!("bfe.{ty}"),
            ty,
            &[ty, "u32", "u32"],
            move |[a, b, c, _]| {
                let (position, length) = ((b & 255) as u32, (c & 255) as u32);
                let last = width(ty) - 1;
                let bit = |index: u32| a >> index & 1;
                let sign = if !ty.starts_with('s') || length == 0 {
                    0
                } else {
                    bit((position + length - 1).min(last))
                };
                Bits(
                    (0..=last)
                        .map(|index| {
                            let inside = index < length && position + index <= last;
                            (if inside { bit(position + index) } else { sign }) << index
                        })
                        .sum(),
                )
            },
        ));
    }
    for ty in ["b32", "b64"] {
        all.push(Reference::new(
            format!("bfi.{ty}"),
            ty,
            &[ty, ty, "u32", "u32"],
            move |[a, b, c, d]| {
                let (position, length) = ((c & 255) as u32, (d & 255) as u32);
                let mut result = b;
                for index in 0..length {
                    let at = position + index;
                    if at < width(ty) {
                        result = result & !(1 << at) | (a >> index & 1) << at;
                    }
                }
                Bits(cut(ty, result))
            },
        ));
    }
    for mode in ["clamp", "wrap"] {
        let limit = move |value: u64| {
            let value = cut("u32", value);
            if mode == "wrap" {
                value & 31
            } else {
                value.min(32)
            }
        };
        all.push(Reference::new(
            format!("bmsk.{mode}.b32"),
            "b32",
            &["b32", "b32"],
            move |[a, b, ..]| Bits(cut("b32", ((1 << limit(b)) - 1) << limit(a))),
        ));
        for ty in ["u32", "s32"] {
            all.push(Reference::new(
                format!("szext.{mode}.{ty}"),
                ty,
                &[ty, "u32"],
                move |[a, b, ..]| {
                    let length = limit(b);
                    if length == 0 {
                        return Bits(0);
                    }
                    let low = i128::from(a & ((1 << length) - 1));
                    let negative = ty == "s32" && low >> (length - 1) != 0;
                    wrapped(ty, if negative { low - (1 << length) } else { low })
                },
            ));
        }
    }
}

fn bytes(all: &mut Vec<Reference>) {
    let byte = |a: u64, b: u64, index: u64| {
        let both = cut("b32", b) << 32 | cut("b32", a);
        both >> (8 * index) & 255
    };
    all.push(Reference::new(
        "prmt.b32".into(),
        "b32",
        &["b32"; 3],
        move |[a, b, c, _]| {
            Bits(
                (0..4)
                    .map(|index| {
                        let selector = c >> (4 * index) & 15;
                        let value = byte(a, b, selector & 7);
                        let value = if selector & 8 != 0 {
                            (value >> 7) * 255
                        } else {
                            value
                        };
                        value << (8 * index)
                    })
                    .sum(),
            )
        },
    ));
    // From the highest byte down, for each value of the selector.
    let modes: [(&str, [[u64; 4]; 4]); 6] = [
        (
            "f4e",
            [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]],
        ),
        (
            "b4e",
            [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]],
        ),
        (
            "rc8",
            [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]],
        ),
        (
            "ecl",
            [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]],
        ),
        (
            "ecr",
            [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]],
        ),
        (
            "rc16",
            [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]],
        ),
    ];
    for (mode, table) in modes {
        all.push(Reference::new(
            format!("prmt.b32.{mode}"),
            "b32",
            &["b32"; 3],
            move |[a, b, c, _]| {
                let row = table[(c & 3) as usize];
                Bits(
                    (0..4)
                        .map(|index| byte(a, b, row[3 - index]) << (8 * index))
                        .sum(),
                )
            },
        ));
    }
    for a_type in ["u32", "s32"] {
        for b_type in ["u32", "s32"] {
            let result = if a_type == "s32" || b_type == "s32" {
                "s32"
            } else {
                "u32"
            };
            let part = |ty: Name, word: u64, bits: u64, index: u64| {
                let raw = i128::from(word >> (bits * index) & ((1 << bits) - 1));
                if ty == "s32" && raw >> (bits - 1) != 0 {
                    raw - (1 << bits)
                } else {
                    raw
                }
            };
            all.push(Reference::new(
                format!("dp4a.{a_type}.{b_type}"),
                result,
                &[a_type, b_type, result],
                move |[a, b, c, _]| {
                    let sum: i128 = (0..4)
                        .map(|index| part(a_type, a, 8, index) * part(b_type, b, 8, index))
                        .sum();
                    wrapped(result, integer(result, c) + sum)
                },
            ));
            for (half, first) in [("lo", 0), ("hi", 2)] {
                all.push(Reference::new(
                    format!("dp2a.{half}.{a_type}.{b_type}"),
                    result,
                    &[a_type, b_type, result],
                    move |[a, b, c, _]| {
                        let sum: i128 = (0..2)
                            .map(|index| {
                                part(a_type, a, 16, index) * part(b_type, b, 8, first + index)
                            })
                            .sum();
                        wrapped(result, integer(result, c) + sum)
                    },
                ));
            }
        }
    }
}

fn pairs(all: &mut Vec<Reference>) {
    for (ty, half) in [("u16x2", "u16"), ("s16x2", "s16")] {
        for name in ["add", "min", "max", "min.relu", "max.relu"] {
            if name.ends_with("relu") && half == "u16" {
                continue;
            }
            all.push(Reference::new(
                format!("{name}.{ty}"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| {
                    let one = |shift: u32| {
                        let (x, y) = (integer(half, a >> shift), integer(half, b >> shift));
                        let value = match &name[..3] {
                            "add" => x + y,
                            "min" => x.min(y),
                            _ => x.max(y),
                        };
                        let value = if name.ends_with("relu") {
                            value.max(0)
                        } else {
                            value
                        };
                        cut(half, value as u64) << shift
                    };
                    Bits(one(0) | one(16))
                },
            ));
        }
    }
}

/// `setp` and `set` of a comparison, alone and joined with a predicate, with every type of result.
pub(super) fn compared(
    all: &mut Vec<Reference>,
    operator: &str,
    flush_name: &str,
    ty: Name,
    holds: impl Fn(u64, u64) -> bool + Copy + Send + Sync + 'static,
) {
    for join in ["", ".and", ".or", ".xor"] {
        let joined = move |[a, b, c, _]: [u64; 4]| {
            let (first, second) = (holds(a, b), c & 1 != 0);
            match join {
                "" => first,
                ".and" => first & second,
                ".or" => first | second,
                _ => first ^ second,
            }
        };
        let sources = &[ty, ty, "pred"][..if join.is_empty() { 2 } else { 3 }];
        let form = format!("{operator}{join}{flush_name}");
        all.push(Reference::new(
            format!("setp.{form}.{ty}"),
            "pred",
            sources,
            move |operands| Bits(u64::from(joined(operands))),
        ));
        let short = matches!(ty, "f16" | "bf16");
        for (result, set) in [
            ("u32", u32::MAX),
            ("s32", u32::MAX),
            ("f32", 1f32.to_bits()),
            ("f16", 0x3c00),
            ("bf16", 0x3f80),
            ("u16", 0xffff),
            ("s16", 0xffff),
        ] {
            if result.ends_with("s16") | result.ends_with("u16") && !short {
                continue;
            }
            all.push(Reference::new(
                format!("set.{form}.{result}.{ty}"),
                result,
                sources,
                move |operands| Bits(if joined(operands) { u64::from(set) } else { 0 }),
            ));
        }
    }
}

fn comparisons(all: &mut Vec<Reference>) {
    for ty in [
        "u16", "s16", "u32", "s32", "u64", "s64", "b16", "b32", "b64",
    ] {
        for operator in ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"] {
            let sign = if ty.starts_with('s') {
                &["lo", "ls", "hi", "hs"][..]
            } else {
                &[]
            };
            let order = ty.starts_with('b') && !matches!(operator, "eq" | "ne");
            if sign.contains(&operator) || order {
                continue;
            }
            let holds = move |a: u64, b: u64| {
                let (a, b) = (integer(ty, a), integer(ty, b));
                match operator {
                    "eq" => a == b,
                    "ne" => a != b,
                    "lt" | "lo" => a < b,
                    "le" | "ls" => a <= b,
                    "gt" | "hi" => a > b,
                    _ => a >= b,
                }
            };
            compared(all, operator, "", ty, holds);
        }
    }
    for ty in SELECTED {
        all.push(Reference::new(
            format!("slct.{ty}.s32"),
            ty,
            &[ty, ty, "s32"],
            move |[a, b, c, _]| Bits(cut(ty, if integer("s32", c) >= 0 { a } else { b })),
        ));
    }
}

fn conversions(all: &mut Vec<Reference>) {
    let all_types = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];
    for from in all_types {
        for to in all_types {
            let register = in_register(to);
            all.push(Reference::new(
                format!("cvt.{to}.{from}"),
                register,
                &[from],
                move |[a, ..]| {
                    let value = integer(to, cut(to, integer(from, a) as u64));
                    wrapped(register, value)
                },
            ));
            all.push(Reference::new(
                format!("cvt.sat.{to}.{from}"),
                register,
                &[from],
                move |[a, ..]| {
                    let (low, high) = range(to);
                    wrapped(register, integer(from, a).clamp(low, high))
                },
            ));
        }
    }
}

/// The type of a register for a result: bytes lie, extended, in wider ones.
pub(super) fn in_register(ty: Name) -> Name {
    match ty {
        "u8" => "u32",
        "s8" => "s32",
        _ => ty,
    }
}

/// `cvt.pack`: two integers, each in its range, and what comes before them.
fn packs(all: &mut Vec<Reference>) {
    for (to, bits) in [
        ("u16", 16),
        ("s16", 16),
        ("u8", 8),
        ("s8", 8),
        ("u4", 4),
        ("s4", 4),
        ("u2", 2),
        ("s2", 2),
    ] {
        let (low, high) = range(to);
        let narrow = move |bits_of: u64| {
            let value = integer("s32", bits_of).clamp(low, high);
            value as u64 & ((1 << bits) - 1)
        };
        let (before, sources) = match bits {
            16 => ("", &["s32", "s32"][..]),
            _ => (".b32", &["s32", "s32", "b32"][..]),
        };
        let form = format!("cvt.pack.sat.{to}.s32{before}");
        all.push(Reference::new(form, "b32", sources, move |[a, b, c, _]| {
            let before = if bits < 16 { c << (2 * bits) } else { 0 };
            Bits(cut("b32", before | narrow(a) << bits | narrow(b)))
        }));
    }
}

/// `cvta` and `isspacep`, of addresses that are in no window of shared or local memory: those are generic as they are.
fn spaces(all: &mut Vec<Reference>) {
    for space in ["global", "const", "param", "param::entry"] {
        for to in ["", ".to"] {
            // What is less than all addresses is a place among parameters.
            let form = format!("cvta{to}.{space}.u64");
            let text = format!("or.b64 %w0, %s0, 0x10000; {form} %d, %w0;");
            let reference = Reference::new(form, "u64", &["u64"], |[a, ..]| Bits(a | 0x10000));
            all.push(reference.with_text(text));
        }
    }
    for space in ["shared", "shared::cta", "shared::cluster", "local"] {
        // There and back again, whatever the address; in between it is generic, and told from the others.
        let text = format!("cvta.{space}.u64 %w0, %s0; cvta.to.{space}.u64 %d, %w0;");
        let there = Reference::new(format!("cvta.{space}.u64"), "u64", &["u64"], |[a, ..]| {
            Bits(a)
        });
        all.push(there.with_text(text.clone()));
        let back = Reference::new(
            format!("cvta.to.{space}.u64"),
            "u64",
            &["u64"],
            |[a, ..]| Bits(a),
        );
        all.push(back.with_text(text));
        for other in [
            "shared",
            "shared::cta",
            "shared::cluster",
            "local",
            "global",
        ] {
            let compute = move |_| Bits(u64::from(space.starts_with(&other[..5])));
            let reference = Reference::new(format!("isspacep.{other}"), "pred", &["u32"], compute);
            all.push(reference.with_text(format!(
                "shr.u32 %t0, %s0, 8; cvt.u64.u32 %w0, %t0; cvta.{space}.u64 %w0, %w0; isspacep.{other} %d, %w0;"
            )));
        }
    }
    for other in [
        "shared",
        "shared::cta",
        "shared::cluster",
        "local",
        "global",
    ] {
        let compute = move |_| Bits(u64::from(other == "global"));
        let reference = Reference::new(format!("isspacep.{other}"), "pred", &["u32"], compute);
        // Where the kernel's arguments point to is device memory.
        all.push(reference.with_text(format!("isspacep.{other} %d, %p0;")));
    }
    blocks(all);
}

/// `mapa` and `getctarank`: how an address says its block is the device's affair, but whose an address is that was mapped to a rank is known. A block that is
/// alone is of rank 0, as every address of its own.
fn blocks(all: &mut Vec<Reference>) {
    for (form, convert, to) in [
        ("u64", "cvta.shared.u64 %w0, %w0;", "u64 %w1, %w0"),
        ("shared::cluster.u64", "", "shared::cluster.u64 %w1, %w0"),
        (
            "shared::cluster.u32",
            "cvt.u32.u64 %t0, %w0;",
            "shared::cluster.u32 %t1, %t0",
        ),
    ] {
        let address = format!("and.b32 %t0, %s0, 0x3fff8; cvt.u64.u32 %w0, %t0; {convert}");
        let of = to.split(',').next().unwrap_or("").replace(' ', " %d, ");
        let text = format!("{address} shr.u32 %t2, %s0, 28; mapa.{to}, %t2; getctarank.{of};");
        let mapped = |[a, ..]: [u64; 4]| Bits(u64::from(a as u32 >> 28));
        for opcode in ["mapa", "getctarank"] {
            let reference = Reference::new(format!("{opcode}.{form}"), "u32", &["u32"], mapped);
            all.push(reference.with_text(text.clone()));
        }
        let own = to.replace("%w1, ", "%d, ").replace("%t1, ", "%d, ");
        let reference = Reference::new(format!("getctarank.{form}"), "u32", &["u32"], |_| Bits(0));
        all.push(reference.with_text(format!("{address} getctarank.{own};")));
    }
}
