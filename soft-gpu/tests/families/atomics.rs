//! `atom` and `red`: a kernel for each operation, type and memory, with all forms that differ in order, scope and caching one after the other. What was
//! there, and what is there then, in each of 32 places.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{POLICY, SCRATCH, cut, kernel, noise, policy, results, space, width};

const LANES: usize = 32;
const OPERATIONS: [&str; 10] = [
    "add", "exch", "cas", "and", "or", "xor", "min", "max", "inc", "dec",
];

/// What a place holds after an operation on `old`, by the text of the ISA.
pub(crate) fn after(operation: &str, ty: &str, [old, b, c]: [u64; 3]) -> u64 {
    let bits = width(ty);
    let signed = |word: u64| (word << (64 - bits)) as i64 >> (64 - bits);
    let float = matches!(ty, "f32" | "f64" | "f16" | "bf16" | "f16x2" | "bf16x2");
    let new = match operation {
        "add" if float => sum(ty, old, b),
        "min" | "max" if float => choice(operation, ty, old, b),
        "add" => old.wrapping_add(b),
        "exch" => b,
        "cas" if old == b => c,
        "cas" => old,
        "and" => old & b,
        "or" => old | b,
        "xor" => old ^ b,
        "min" if float => half(ty, whole(ty, old).min(whole(ty, b))),
        "max" if float => half(ty, whole(ty, old).max(whole(ty, b))),
        "min" if ty.starts_with('s') => signed(old).min(signed(b)) as u64,
        "max" if ty.starts_with('s') => signed(old).max(signed(b)) as u64,
        "min" => old.min(b),
        "max" => old.max(b),
        "inc" if old >= b => 0,
        "inc" => old + 1,
        "dec" if old == 0 || old > b => b,
        "dec" => old - 1,
        other => panic!("no reference of `{other}`"),
    };
    cut(bits, new)
}

/// The lesser or the greater of two halves, or of each two of pairs.
fn choice(operation: &str, ty: &str, a: u64, b: u64) -> u64 {
    if let Some(of) = ty.strip_suffix("x2") {
        let part =
            |shift: u32| choice(operation, of, a >> shift & 0xffff, b >> shift & 0xffff) << shift;
        return part(0) | part(16);
    }
    let is_first = (whole(ty, a) < whole(ty, b)) == (operation == "min");
    if is_first { a } else { b }
}

fn sum(ty: &str, a: u64, b: u64) -> u64 {
    match ty {
        "f32" => (f32::from_bits(a as u32) + f32::from_bits(b as u32))
            .to_bits()
            .into(),
        "f64" => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        "f16" | "bf16" => half(ty, whole(ty, a) + whole(ty, b)),
        _ => {
            let of = ty.trim_end_matches("x2");
            let part = |shift: u32| sum(of, a >> shift & 0xffff, b >> shift & 0xffff) << shift;
            part(0) | part(16)
        }
    }
}

/// Bits of the fraction of a half, and the bias of its exponent.
fn format(ty: &str) -> (u32, i32) {
    if ty == "f16" { (10, 15) } else { (7, 127) }
}

/// A small whole number as a half.
fn half(ty: &str, value: i64) -> u64 {
    let (fraction, bias) = format(ty);
    if value == 0 {
        return 0;
    }
    let magnitude = value.unsigned_abs();
    let exponent = magnitude.ilog2();
    let sign = u64::from(value < 0) << 15;
    sign | ((exponent as i32 + bias) as u64) << fraction
        | (magnitude << (fraction - exponent)) & ((1 << fraction) - 1)
}

/// The small whole number that a half is.
fn whole(ty: &str, bits: u64) -> i64 {
    let (fraction, bias) = format(ty);
    if bits & 0x7fff == 0 {
        return 0;
    }
    let exponent = (bits >> fraction & (0x7fff >> fraction)) as i32 - bias;
    let magnitude = (bits & ((1 << fraction) - 1) | 1 << fraction) >> (fraction as i32 - exponent);
    if bits & 0x8000 != 0 {
        -(magnitude as i64)
    } else {
        magnitude as i64
    }
}

/// Three operands of a lane: everyday numbers where they are floats, now and then alike.
pub(crate) fn operands(ty: &str, lane: usize) -> [u64; 3] {
    let small = |seed: usize| (noise(seed) % 31) as i64 - 15;
    let one = |seed: usize| match ty {
        "f32" => u64::from((small(seed) as f32 / 8.0).to_bits()),
        "f64" => (small(seed) as f64 / 8.0).to_bits(),
        "f16" | "bf16" => half(ty, small(seed)),
        "f16x2" | "bf16x2" => {
            let of = ty.trim_end_matches("x2");
            half(of, small(seed)) | half(of, small(seed + 100)) << 16
        }
        // Few bits, and many.
        _ if lane.is_multiple_of(3) => noise(seed) % 4,
        _ => cut(width(ty), noise(seed)),
    };
    let [a, b, c] = [one(3 * lane), one(3 * lane + 1), one(3 * lane + 2)];
    if lane % 4 == 1 { [a, a, c] } else { [a, b, c] }
}

pub(crate) fn check(forms: &[String]) {
    let mut groups: BTreeMap<_, Vec<&String>> = BTreeMap::new();
    for form in forms {
        let mut parts = form.split('.');
        let operation = parts
            .find(|part| OPERATIONS.contains(part))
            .expect("an operation");
        let ty = form.rsplit('.').next().expect("a type");
        let targets: &[&str] = if space(form).is_empty() {
            &["global", "shared"]
        } else {
            &[""]
        };
        for target in targets {
            let key = (operation, ty, space(form), *target);
            groups.entry(key).or_default().push(form);
        }
    }
    for ((operation, ty, space, target), forms) in groups {
        check_group((operation, ty), (space, target), &forms);
    }
}

fn check_group((operation, ty): (&str, &str), (space, target): (&str, &str), forms: &[&String]) {
    let bits = width(ty);
    let (pointer, start) = match (space, target) {
        ("shared" | "shared::cluster", _) => (
            "b32",
            "mov.u32 %at, tile; mad.lo.u32 %at, %lane, 8, %at;".to_owned(),
        ),
        ("shared::cta", _) => (
            "b64",
            "mov.u64 %at, tile; mad.wide.u32 %at, %lane, 8, %at;".to_owned(),
        ),
        (_, "shared") => (
            "b64",
            "mov.u64 %at, tile; cvta.shared.u64 %at, %at; mad.wide.u32 %at, %lane, 8, %at;"
                .to_owned(),
        ),
        _ => (
            "b64",
            format!("mad.wide.u32 %at, %lane, 8, %in; add.u64 %at, %at, {SCRATCH};"),
        ),
    };
    let dot = if space.is_empty() { "" } else { "." };
    let mut body = format!(
        "{POLICY}\n.shared .align 8 .b8 tile[256];\n.reg .{pointer} %at;\n.reg .b64 %from, %to;\n.reg .b{bits} %a, %b, %c, %d, %n;\n{start}\n\
         mad.wide.u32 %from, %lane, 24, %in;\nmad.wide.u32 %to, %lane, 16, %out;\n\
         ld.global.b{bits} %a, [%from];\nld.global.b{bits} %b, [%from+8];\nld.global.b{bits} %c, [%from+16];\n"
    );
    for (number, form) in forms.iter().enumerate() {
        let third = if operation == "cas" { ", %c" } else { "" };
        let result = if form.starts_with("atom") { "%d, " } else { "" };
        let at = number * LANES * 16;
        writeln!(
            body,
            "mov.b{bits} %d, %a; st{dot}{space}.b{bits} [%at], %a;\n{form} {result}[%at], %b{third}{};\n\
             ld{dot}{space}.b{bits} %n, [%at];\nst.global.b{bits} [%to+{at}], %d; st.global.b{bits} [%to+{}], %n;",
            policy(form),
            at + 8
        )
        .unwrap();
    }
    let page: Vec<u64> = (0..LANES).flat_map(|lane| operands(ty, lane)).collect();
    for (path, out) in results(&kernel(&body, ""), 32, &page, forms.len() * LANES * 2) {
        for (number, form) in forms.iter().enumerate() {
            for lane in 0..LANES {
                let given = operands(ty, lane);
                let want = [given[0], after(operation, ty, given)];
                let got = &out[(number * LANES + lane) * 2..][..2];
                assert_eq!(got, want, "{form} of {target} of {given:x?} on {path:?}");
            }
        }
    }
}
