//! Sixteen-bit floating point, written so that loops over lanes vectorise.

/// IEEE binary16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct F16(pub(crate) u16);

/// The upper half of a binary32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bf16(pub(crate) u16);

/// A sixteen-bit format.
pub(crate) trait Half: Copy {
    /// The bits of the exponent.
    const EXPONENT: u16;
    /// From its bits.
    fn from_bits(bits: u16) -> Self;
    /// Its bits.
    fn bits(self) -> u16;
    /// Exactly.
    fn to_f32(self) -> f32;
    /// To nearest, ties to even.
    fn nearest(value: f32) -> Self;
}

impl Half for F16 {
    const EXPONENT: u16 = 0x7c00;
    #[inline(always)]
    fn from_bits(bits: u16) -> F16 {
        F16(bits)
    }
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let magnitude = u32::from(self.0 & 0x7fff);
        // Shifted into place the exponent is 112 too small; the product is exact, also for subnormals.
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
        let special = f32::from_bits(0x7f80_0000 | magnitude << 13);
        let value = if magnitude >= 0x7c00 { special } else { scaled };
        f32::from_bits(value.to_bits() | u32::from(self.0 & 0x8000) << 16)
    }
    #[inline(always)]
    fn nearest(value: f32) -> F16 {
        let bits = value.to_bits();
        let (sign, magnitude) = ((bits >> 16) & 0x8000, bits & 0x7fff_ffff);
        let special = if magnitude > 0x7f80_0000 {
            0x7fff
        } else {
            0x7c00
        };
        // Adding 0.5 rounds a subnormal result into the low bits.
        let subnormal = (f32::from_bits(magnitude) + 0.5)
            .to_bits()
            .wrapping_sub(0x3f00_0000);
        let normal = magnitude
            .wrapping_add(0xc800_0fff)
            .wrapping_add((magnitude >> 13) & 1)
            >> 13;
        let finite = if magnitude < 0x3880_0000 {
            subnormal
        } else {
            normal
        };
        let result = if magnitude >= 0x4780_0000 {
            special
        } else {
            finite
        };
        let sign = if magnitude > 0x7f80_0000 { 0 } else { sign };
        F16((result | sign) as u16)
    }
}

impl Half for Bf16 {
    const EXPONENT: u16 = 0x7f80;
    #[inline(always)]
    fn from_bits(bits: u16) -> Bf16 {
        Bf16(bits)
    }
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn nearest(value: f32) -> Bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = bits & 0x7fff_ffff > 0x7f80_0000;
        Bf16(if nan { 0x7fff } else { rounded as u16 })
    }
}

/// `value` to single with its last bit set when bits were lost, so that a second rounding to fewer bits is as
/// good as one.
#[inline(always)]
pub(crate) fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    let bits = nearest.to_bits();
    let away = (back > value) == (value > 0.0);
    let truncated = if back != value && away {
        bits.wrapping_sub(1)
    } else {
        bits
    };
    let odd = if back != value { truncated | 1 } else { bits };
    if value.is_finite() && nearest.is_finite() {
        f32::from_bits(odd)
    } else {
        nearest
    }
}

/// `value` rounded in direction `D`: 0 toward zero, 1 down, 2 up.
#[inline(always)]
pub(crate) fn narrow<H: Half, const D: u8>(value: f64) -> H {
    let nearest = H::nearest(round_to_odd(value));
    let (back, bits) = (f64::from(nearest.to_f32()), nearest.bits());
    let (too_high, too_low) = (back > value, back < value);
    let step_down = match D {
        0 => too_high && value > 0.0,
        1 => too_high,
        _ => false,
    };
    let step_up = match D {
        0 => too_low && value < 0.0,
        2 => too_low,
        _ => false,
    };
    let negative = bits & 0x8000 != 0;
    let zero = bits & 0x7fff == 0;
    H::from_bits(match (step_down, step_up) {
        (true, _) if zero => 0x8001,
        (_, true) if zero => 0x0001,
        // Away from zero is one more, toward it one less.
        (true, _) if negative => bits + 1,
        (true, _) => bits - 1,
        (_, true) if negative => bits - 1,
        (_, true) => bits + 1,
        _ => bits,
    })
}

/// `value`, or zero where it is negative; NaN in its one form.
#[inline(always)]
pub(crate) fn relu<H: Half>(value: H) -> H {
    let single = value.to_f32();
    if single.is_nan() {
        H::nearest(single)
    } else if single > 0.0 {
        value
    } else {
        H::from_bits(0)
    }
}

/// Two halves in a word, the first one above.
#[inline(always)]
pub(crate) fn pack<H: Half>(high: H, low: H) -> u32 {
    u32::from(high.bits()) << 16 | u32::from(low.bits())
}

/// Applies `function` to both halves of a packed pair.
#[inline(always)]
pub(crate) fn pair<H: Half>(a: u32, b: u32, function: impl Fn(H, H) -> H) -> u32 {
    let low = function(H::from_bits(a as u16), H::from_bits(b as u16)).bits();
    let high = function(
        H::from_bits((a >> 16) as u16),
        H::from_bits((b >> 16) as u16),
    )
    .bits();
    u32::from(low) | u32::from(high) << 16
}

/// Fused multiply and add with one rounding.
#[inline(always)]
pub(crate) fn fused<H: Half>(a: H, b: H, c: H) -> H {
    let product = f64::from(a.to_f32()) * f64::from(b.to_f32());
    // The sum of an exact product and a far smaller number has more bits than a double.
    H::nearest(round_to_odd(super::math::add_to_odd::<0>(
        product,
        f64::from(c.to_f32()),
    )))
}

/// Applies `function` to both halves of three packed pairs.
#[inline(always)]
pub(crate) fn triple<H: Half>(a: u32, b: u32, c: u32, function: impl Fn(H, H, H) -> H) -> u32 {
    let part = |shift: u32| {
        let half = |word: u32| H::from_bits((word >> shift) as u16);
        u32::from(function(half(a), half(b), half(c)).bits()) << shift
    };
    part(0) | part(16)
}

/// Subnormals become zeros of the same sign.
#[inline(always)]
pub(crate) fn flush<H: Half>(value: H) -> H {
    let bits = value.bits();
    let zero = bits & H::EXPONENT == 0;
    H::from_bits(if zero { bits & 0x8000 } else { bits })
}

/// The lesser of two numbers; a number before NaN unless `nan` wins; -0 before +0.
#[inline(always)]
pub(crate) fn lesser<H: Half>(a: H, b: H, nan: bool) -> H {
    choose(a, b, nan, |x, y| x < y || (x == y && x.is_sign_negative()))
}

/// The greater of two numbers.
#[inline(always)]
pub(crate) fn greater<H: Half>(a: H, b: H, nan: bool) -> H {
    choose(a, b, nan, |x, y| x > y || (x == y && y.is_sign_negative()))
}

#[inline(always)]
fn choose<H: Half>(a: H, b: H, nan: bool, first: impl Fn(f32, f32) -> bool) -> H {
    let (x, y) = (a.to_f32(), b.to_f32());
    match (x.is_nan(), y.is_nan()) {
        (false, false) if first(x, y) => a,
        (false, false) => b,
        (true, false) if !nan => b,
        (false, true) if !nan => a,
        _ => H::nearest(f32::NAN),
    }
}

/// One of the magnitudes, chosen by `choose`, with the product of the signs.
#[inline(always)]
pub(crate) fn xor_sign<H: Half>(a: H, b: H, choose: impl Fn(H, H, bool) -> H, nan: bool) -> H {
    let magnitude = |value: H| H::from_bits(value.bits() & 0x7fff);
    let sign = (a.bits() ^ b.bits()) & 0x8000;
    H::from_bits(choose(magnitude(a), magnitude(b), nan).bits() | sign)
}
