//! Arithmetic of doubles rounded toward zero, down or up, exactly: on integers, since the processor's own rounding mode
//! is not Rust's to change.
//!
//! A finite number is a sign, an integer and a power of two. The exact result, of which bits beyond the 128 kept are
//! gathered in the last one, is rounded once.

/// Directions, as the number `D` everywhere: 0 toward zero, 1 down, 2 up.
const DOWN: u8 = 1;
const UP: u8 = 2;

/// Where the leading bit of an aligned integer stands.
const TOP: u32 = 124;

/// `sign * magnitude * 2^exponent`
#[derive(Clone, Copy)]
struct Parts {
    negative: bool,
    magnitude: u128,
    exponent: i32,
}

/// Takes a finite number apart.
fn parts(value: f64) -> Parts {
    let bits = value.to_bits();
    let (biased, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    let implicit = if biased == 0 { 0 } else { 1 << 52 };
    Parts {
        negative: bits >> 63 != 0,
        magnitude: u128::from(fraction | implicit),
        exponent: biased.max(1) - 1075,
    }
}

/// The double nearest to `parts`, whose magnitude is not zero, in direction `D`.
fn rounded<const D: u8>(parts: Parts) -> f64 {
    let Parts {
        negative,
        magnitude,
        exponent,
    } = parts;
    let leading = 127 - magnitude.leading_zeros() as i32 + exponent;
    let last = (leading - 52).max(-1074);
    let shift = last - exponent;
    let (mut kept, rest) = match u32::try_from(shift) {
        Ok(128..) => (0, true),
        Ok(shift) => (
            (magnitude >> shift) as u64,
            magnitude & ((1 << shift) - 1) != 0,
        ),
        Err(_) => ((magnitude << -shift) as u64, false),
    };
    let away = D == UP && !negative || D == DOWN && negative;
    kept += u64::from(rest && away);
    // The leading bit counts one up in the exponent, as does a carry out of the fraction.
    let bits = (((last + 1074) as u64) << 52) + kept;
    let infinity = f64::INFINITY.to_bits();
    let bits = match bits {
        _ if bits < infinity => bits,
        _ if away => infinity,
        _ => infinity - 1,
    };
    f64::from_bits(bits | u64::from(negative) << 63)
}

/// `a * b + c` with one rounding.
pub(crate) fn fused<const D: u8>(a: f64, b: f64, c: f64) -> f64 {
    let nearest = a.mul_add(b, c);
    if !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return nearest;
    }
    let (left, right, mut addend) = (parts(a), parts(b), parts(c));
    let mut product = Parts {
        negative: left.negative != right.negative,
        magnitude: left.magnitude * right.magnitude,
        exponent: left.exponent + right.exponent,
    };
    if product.magnitude == 0 && addend.magnitude == 0 {
        return zero_sum::<D>(product.negative, addend.negative);
    }
    if addend.magnitude == 0 {
        return rounded::<D>(product);
    }
    if product.magnitude == 0 {
        return c;
    }
    align(&mut product);
    align(&mut addend);
    let (mut high, mut low) = (product, addend);
    if (high.exponent, high.magnitude) < (low.exponent, low.magnitude) {
        (high, low) = (low, high);
    }
    let shift = (high.exponent - low.exponent) as u32;
    let lost = shift > 0 && (shift > TOP || low.magnitude & ((1 << shift) - 1) != 0);
    let low_magnitude = low.magnitude.checked_shr(shift).unwrap_or(0) | u128::from(lost);
    let magnitude = if high.negative == low.negative {
        high.magnitude + low_magnitude
    } else {
        high.magnitude - low_magnitude
    };
    if magnitude == 0 {
        return zero_sum::<D>(true, false);
    }
    rounded::<D>(Parts { magnitude, ..high })
}

/// Shifts the leading bit to its place.
fn align(parts: &mut Parts) {
    let shift = parts.magnitude.leading_zeros() as i32 - (127 - TOP as i32);
    parts.magnitude <<= shift;
    parts.exponent -= shift;
}

/// The sum of two zeros, or of what cancels.
fn zero_sum<const D: u8>(one: bool, other: bool) -> f64 {
    let negative = if one == other { one } else { D == DOWN };
    if negative { -0.0 } else { 0.0 }
}

/// `a + b`
pub(crate) fn sum<const D: u8>(a: f64, b: f64) -> f64 {
    fused::<D>(a, 1.0, b)
}

/// `a * b`
pub(crate) fn product<const D: u8>(a: f64, b: f64) -> f64 {
    // A zero of the product's own sign keeps the product's sign.
    let zero = if a.is_sign_negative() != b.is_sign_negative() {
        -0.0
    } else {
        0.0
    };
    fused::<D>(a, b, zero)
}

/// `a / b`
pub(crate) fn quotient<const D: u8>(a: f64, b: f64) -> f64 {
    if !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a / b;
    }
    let (mut dividend, mut divisor) = (parts(a), parts(b));
    align(&mut dividend);
    // Brings both to 53 significant bits, so that the quotient has at least 71.
    let shift = divisor.magnitude.leading_zeros() as i32 - 75;
    divisor.magnitude <<= shift;
    divisor.exponent -= shift;
    let rest = dividend.magnitude % divisor.magnitude != 0;
    rounded::<D>(Parts {
        negative: dividend.negative != divisor.negative,
        magnitude: (dividend.magnitude / divisor.magnitude) | u128::from(rest),
        exponent: dividend.exponent - divisor.exponent,
    })
}

/// The square root.
pub(crate) fn root<const D: u8>(a: f64) -> f64 {
    if !a.is_finite() || a <= 0.0 {
        return a.sqrt();
    }
    let mut square = parts(a);
    align(&mut square);
    if square.exponent & 1 != 0 {
        square.magnitude <<= 1;
        square.exponent -= 1;
    }
    let root = square.magnitude.isqrt();
    let rest = root * root != square.magnitude;
    rounded::<D>(Parts {
        negative: false,
        magnitude: root | u128::from(rest),
        exponent: square.exponent / 2,
    })
}
