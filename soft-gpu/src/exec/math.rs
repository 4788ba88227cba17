//! PTX's approximate functions of singles, within the error bounds of the PTX ISA, written so that loops over
//! lanes vectorise. Also flushing of subnormals and directed rounding.

/// Subnormals become zeros of the same sign.
#[inline(always)]
pub(crate) fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 {
        bits & 0x8000_0000
    } else {
        bits
    })
}

/// 2 to the power `x`, within 2 units of the last place.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let bounded = if x > 129.0 { 129.0 } else { x };
    let bounded = if bounded < -151.0 { -151.0 } else { bounded };
    let whole = bounded.round_ties_even();
    let f = bounded - whole;
    let mut p = 1.535_336_2e-4_f32;
    for coefficient in [
        1.339_887_4e-3,
        9.618_437e-3,
        5.550_332_5e-2,
        0.240_226_48,
        std::f32::consts::LN_2,
        1.0,
    ] {
        p = p.mul_add(f, coefficient);
    }
    // Two factors, because the exponent alone can be out of range.
    // `whole` is between -151 and 129, or NaN, which converts to zero.
    let exponent = whole as i32;
    let half = exponent >> 1;
    let power = |exponent: i32| f32::from_bits(((exponent + 127) << 23) as u32);
    let result = p * power(half) * power(exponent - half);
    if x.is_nan() { f32::NAN } else { result }
}

/// Logarithm to base 2.
#[inline(always)]
pub(crate) fn log2(x: f32) -> f32 {
    let subnormal = x.abs() < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // The mantissa goes to [sqrt(1/2), sqrt(2)).
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (shifted as i32) >> 23;
    let mantissa = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    // 2/ln(2) * artanh(s) by its series.
    let mut p = 0.262_308_1_f32;
    for coefficient in [0.320_599, 0.412_198_6, 0.577_078_04, 0.961_796_7] {
        p = p.mul_add(z, coefficient);
    }
    let tail = p * z * s;
    let fraction = s.mul_add(2.885_39, tail);
    let whole = exponent as f32 - if subnormal { 23.0 } else { 0.0 };
    let result = whole + fraction;
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    let result = if x == f32::INFINITY {
        f32::INFINITY
    } else {
        result
    };
    if x < 0.0 || x.is_nan() {
        f32::NAN
    } else {
        result
    }
}

/// `x` less the nearest multiple of pi/2, and which multiple it is.
#[inline(always)]
fn reduce(x: f32) -> (f32, i32) {
    let wide = f64::from(x);
    let multiple = (wide * std::f64::consts::FRAC_2_PI).round_ties_even();
    let rest = multiple.mul_add(-std::f64::consts::FRAC_PI_2, wide);
    let rest = multiple.mul_add(-6.123_233_995_736_766e-17, rest);
    // Beyond 2^31 quarter turns a single says nothing about its angle.
    (rest as f32, multiple as i32)
}

#[inline(always)]
fn quarter(rest: f32, multiple: i32) -> f32 {
    let z = rest * rest;
    let sine = rest * (z * (z * (z * -1.951_529_6e-4 + 8.332_161e-3) - 0.166_666_55) + 1.0);
    let cosine =
        z * z * (z * (z * 2.443_315_7e-5 - 1.388_731_6e-3) + 4.166_664_6e-2) - 0.5 * z + 1.0;
    let value = if multiple & 1 == 0 { sine } else { cosine };
    f32::from_bits(value.to_bits() ^ (((multiple as u32) & 2) << 30))
}

/// Sine.
#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    let (rest, multiple) = reduce(x);
    quarter(rest, multiple)
}

/// Cosine.
#[inline(always)]
pub(crate) fn cos(x: f32) -> f32 {
    let (rest, multiple) = reduce(x);
    quarter(rest, multiple.wrapping_add(1))
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let e = exp2(magnitude * -2.885_39);
    let large = (1.0 - e) / (1.0 + e);
    let z = x * x;
    let small = magnitude * (1.0 + z * (-0.333_333_34 + z * (0.133_333_34 + z * -0.053_968_254)));
    let value = if magnitude < 0.25 { small } else { large };
    if x.is_nan() {
        f32::NAN
    } else {
        value.copysign(x)
    }
}

/// A double as a single, rounded in direction `D` (0 zero, 1 down, 2 up).
#[inline(always)]
pub(crate) fn narrow<const D: u8>(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    match D {
        0 if nearest.abs() as f64 > value.abs() => f32::from_bits(nearest.to_bits() - 1),
        1 if back > value => nearest.next_down(),
        2 if back < value => nearest.next_up(),
        _ => nearest,
    }
}

/// `a + b` in double precision with its last bit set when inexact, so that narrowing in direction `D` rounds correctly.
#[inline(always)]
pub(crate) fn add_to_odd<const D: u8>(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // What cancels is negative where it is rounded down.
    let both_positive = (a.to_bits() | b.to_bits()) == 0;
    if D == 1 && sum == 0.0 && !both_positive {
        return -0.0;
    }
    let part = sum - a;
    let residue = (a - (sum - part)) + (b - part);
    if residue == 0.0 || !sum.is_finite() {
        return sum;
    }
    let inward = (residue < 0.0) == (sum > 0.0);
    let truncated = if inward {
        sum.to_bits() - 1
    } else {
        sum.to_bits()
    };
    f64::from_bits(truncated | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(
        function: fn(f32) -> f32,
        exact: fn(f64) -> f64,
        from: f32,
        to: f32,
        error: f64,
        relative: bool,
    ) {
        for step in 0..20_000 {
            let x = from + (to - from) * (step as f32 / 20_000.0);
            let (got, want) = (f64::from(function(x)), exact(f64::from(x)));
            let scale = if relative { want.abs().max(1e-30) } else { 1.0 };
            assert!(
                (got - want).abs() / scale <= error,
                "f({x}) = {got}, not {want}"
            );
        }
    }

    #[test]
    fn approximations_keep_ptx_bounds() {
        sweep(exp2, f64::exp2, -126.0, 127.0, 2f64.powi(-22), true);
        sweep(log2, f64::log2, 0.5, 2.0, 2f64.powi(-22), false);
        sweep(log2, f64::log2, 2.0, 1e30, 2f64.powi(-22), true);
        sweep(sin, f64::sin, -3.2, 3.2, 2f64.powf(-20.5), false);
        sweep(cos, f64::cos, -3.2, 3.2, 2f64.powf(-20.5), false);
        sweep(sin, f64::sin, -3e4, 3e4, 2f64.powf(-20.5), false);
        sweep(tanh, f64::tanh, -9.0, 9.0, 2f64.powi(-11), true);
    }

    #[test]
    fn approximations_meet_their_limits() {
        assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp2(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(-149.0), f32::from_bits(1));
        assert!(exp2(f32::NAN).is_nan() && log2(-1.0).is_nan() && sin(f32::INFINITY).is_nan());
        assert_eq!(log2(0.0), f32::NEG_INFINITY);
        assert_eq!(log2(f32::INFINITY), f32::INFINITY);
        assert_eq!(log2(8.0), 3.0);
        assert_eq!(log2(f32::from_bits(1)), -149.0);
    }

    #[test]
    fn directed_roundings() {
        assert_eq!(narrow::<0>(1.0 + 1e-9), 1.0);
        assert_eq!(narrow::<2>(1.0 + 1e-9), 1.0f32.next_up());
        assert_eq!(narrow::<1>(-1.0 - 1e-9), (-1.0f32).next_down());
        assert_eq!(narrow::<0>(1e300), f32::MAX);
    }
}
