//! Floating point: arithmetic in every rounding, comparisons, conversions, approximations within the ISA's bounds.

mod approximations;
mod comparisons;
mod conversions;
mod doubles;
mod halves;
mod singles;

use super::Want::Number;
use super::{Format, Name, Reference, Want, cut};

/// Every form.
pub(crate) fn all() -> Vec<Reference> {
    let mut all = Vec::new();
    singles::all(&mut all);
    doubles::all(&mut all);
    for ty in ["f16", "bf16"] {
        halves::all(&mut all, ty);
    }
    comparisons::all(&mut all);
    conversions::all(&mut all);
    approximations::all(&mut all);
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

/// The number that the bits of a type mean, exactly.
fn number(ty: Name, bits: u64) -> f64 {
    match ty {
        "f64" => double(bits),
        "f32" => f64::from(single(bits)),
        _ => Format::of(ty).value(cut(ty, bits)),
    }
}
