//! Sums, differences and products that carry: a carry is seen by the instruction behind it.

use super::Want::Bits;
use super::{Name, Reference, cut, integer, width};

/// Every form.
pub(crate) fn all() -> Vec<Reference> {
    let mut all = Vec::new();
    for ty in ["u32", "s32", "u64", "s64"] {
        sums(&mut all, ty);
        differences(&mut all, ty);
        for part in ["lo", "hi"] {
            products(&mut all, ty, part);
        }
    }
    all
}

/// A register of the type's width for what lies between.
fn between(ty: Name) -> &'static str {
    if width(ty) == 64 { "%w" } else { "%t" }
}

/// The bits as a number without sign: carries are of those.
fn plain(ty: Name, bits: u64) -> i128 {
    i128::from(cut(ty, bits))
}

/// What lies beyond the type's width.
fn carry(ty: Name, value: i128) -> i128 {
    value >> width(ty)
}

fn wrapped(ty: Name, value: i128) -> super::Want {
    Bits(cut(ty, value as u64))
}

fn sums(all: &mut Vec<Reference>, ty: Name) {
    let t = between(ty);
    let low = move |v: [u64; 4]| plain(ty, v[0]) + plain(ty, v[1]);
    let high = move |v: [u64; 4]| plain(ty, v[2]) + plain(ty, v[3]) + carry(ty, low(v));
    all.push(Reference::new(
        format!("add.cc.{ty}"),
        ty,
        &[ty, ty],
        move |v| wrapped(ty, low(v)),
    ));
    let reference = Reference::new(format!("addc.{ty}"), ty, &[ty; 4], move |v| {
        wrapped(ty, high(v))
    });
    all.push(reference.with_text(format!(
        "add.cc.{ty} {t}0, %s0, %s1; addc.{ty} %d, %s2, %s3;"
    )));
    let first = format!("add.cc.{ty} {t}0, %s0, %s1;");
    let reference = Reference::new(format!("addc.cc.{ty}"), ty, &[ty; 4], move |v| {
        wrapped(ty, high(v))
    });
    all.push(reference.with_text(format!("{first} addc.cc.{ty} %d, %s2, %s3;")));
    let reference = Reference::new(format!("addc.cc.{ty}"), ty, &[ty; 4], move |v| {
        wrapped(ty, carry(ty, high(v)))
    });
    all.push(reference.with_text(format!(
        "{first} addc.cc.{ty} {t}1, %s2, %s3; addc.{ty} %d, 0, 0;"
    )));
}

fn differences(all: &mut Vec<Reference>, ty: Name) {
    let t = between(ty);
    let low = move |v: [u64; 4]| plain(ty, v[0]) - plain(ty, v[1]);
    let high = move |v: [u64; 4]| plain(ty, v[2]) - plain(ty, v[3]) + carry(ty, low(v));
    all.push(Reference::new(
        format!("sub.cc.{ty}"),
        ty,
        &[ty, ty],
        move |v| wrapped(ty, low(v)),
    ));
    let first = format!("sub.cc.{ty} {t}0, %s0, %s1;");
    for form in ["subc", "subc.cc"] {
        let reference = Reference::new(format!("{form}.{ty}"), ty, &[ty; 4], move |v| {
            wrapped(ty, high(v))
        });
        all.push(reference.with_text(format!("{first} {form}.{ty} %d, %s2, %s3;")));
    }
    // What was borrowed, as a third word of the difference has it.
    let reference = Reference::new(format!("subc.cc.{ty}"), ty, &[ty; 4], move |v| {
        wrapped(ty, carry(ty, high(v)))
    });
    all.push(reference.with_text(format!(
        "{first} subc.cc.{ty} {t}1, %s2, %s3; subc.{ty} %d, 0, 0;"
    )));
}

fn products(all: &mut Vec<Reference>, ty: Name, part: &'static str) {
    let t = between(ty);
    let product = move |v: [u64; 4]| {
        let product = integer(ty, v[0]).wrapping_mul(integer(ty, v[1]));
        let bits = match part {
            // The whole of an unsigned product of two words of 64 bits needs all 128.
            "hi" if ty == "u64" => (product as u128 >> 64) as u64,
            "hi" => (product >> width(ty)) as u64,
            _ => product as u64,
        };
        plain(ty, bits)
    };
    let sum = move |v: [u64; 4]| product(v) + plain(ty, v[2]);
    let carried = move |v: [u64; 4]| sum(v) + carry(ty, plain(ty, v[0]) + plain(ty, v[3]));
    let mut add =
        |form: &str, text: String, compute: Box<dyn Fn([u64; 4]) -> i128 + Send + Sync>| {
            let form = format!("{form}.{ty}");
            let reference = Reference::new(form, ty, &[ty; 4], move |v| wrapped(ty, compute(v)));
            all.push(reference.with_text(text));
        };
    let first = format!("add.cc.{ty} {t}0, %s0, %s3;");
    let last = format!("addc.{ty} %d, 0, 0;");
    for (form, before) in [("mad", ""), ("madc", first.as_str())] {
        let value = move |v: [u64; 4]| if form == "mad" { sum(v) } else { carried(v) };
        let form = format!("{form}.{part}");
        let carrying = format!("{form}.cc");
        if !before.is_empty() {
            add(
                &form,
                format!("{before} {form}.{ty} %d, %s0, %s1, %s2;"),
                Box::new(value),
            );
        }
        add(
            &carrying,
            format!("{before} {carrying}.{ty} %d, %s0, %s1, %s2;"),
            Box::new(value),
        );
        add(
            &carrying,
            format!("{before} {carrying}.{ty} {t}1, %s0, %s1, %s2; {last}"),
            Box::new(move |v| carry(ty, value(v))),
        );
    }
}
