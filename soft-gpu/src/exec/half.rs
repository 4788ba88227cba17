//! Sixteen-bit floating point, written so that loops over lanes vectorise.

/// IEEE binary16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct F16(pub(crate) u16);

/// The upper half of a binary32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bf16(pub(crate) u16);

/// A sixteen-bit format.
pub(crate) trait Half: Copy {
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
    H::nearest(round_to_odd(product + f64::from(c.to_f32())))
}

/// [`fused`] on both halves of packed pairs.
#[inline(always)]
pub(crate) fn fused_pair<H: Half>(a: u32, b: u32, c: u32) -> u32 {
    let part = |shift: u32| {
        let half = |word: u32| H::from_bits((word >> shift) as u16);
        u32::from(fused(half(a), half(b), half(c)).bits()) << shift
    };
    part(0) | part(16)
}
