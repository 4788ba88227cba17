//! What instructions compute, one lane at a time, after the text of the PTX ISA and from nothing of the executor.
//!
//! Integers are computed in 128 bits. Singles and doubles are computed by the processor, in its own rounding mode
//! where a direction is asked for ([`fpu`]); halves exactly in doubles, then rounded by [`Format::round`].

pub(crate) mod carries;
pub(crate) mod floats;
pub(crate) mod forms;
pub(crate) mod fpu;
pub(crate) mod integers;
pub(crate) mod video;

/// The name of a type, without its dot.
pub(crate) type Name = &'static str;

/// What a lane's result must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// These bits, of the type's width.
    Bits(u64),
    /// This number of the type of that name; any NaN is as good as another.
    Number(u64),
    /// A number within an absolute or a relative error.
    Near {
        value: f64,
        absolute: f64,
        relative: f64,
    },
    /// Anything: the ISA leaves it open.
    Open,
}

/// A form, the types of its destination and sources, and what it computes.
pub(crate) struct Reference {
    pub(crate) form: String,
    pub(crate) destination: Name,
    pub(crate) sources: Vec<Name>,
    /// Written behind the register operands, such as the table of `lop3`.
    pub(crate) suffix: String,
    /// What is executed, if it is more than the form with its operands: from `%s0` and so on to `%d`, with `%t0` to `%t3` of 32 bits
    /// and `%w0` to `%w3` of 64 for what lies between.
    pub(crate) text: Option<String>,
    pub(crate) compute: Box<dyn Fn([u64; 4]) -> Want + Send + Sync>,
}

impl Reference {
    pub(crate) fn new(
        form: String,
        destination: Name,
        sources: &[Name],
        compute: impl Fn([u64; 4]) -> Want + Send + Sync + 'static,
    ) -> Reference {
        Reference {
            form,
            destination,
            sources: sources.to_vec(),
            suffix: String::new(),
            text: None,
            compute: Box::new(compute),
        }
    }

    pub(crate) fn with_suffix(mut self, suffix: String) -> Reference {
        self.suffix = suffix;
        self
    }

    pub(crate) fn with_text(mut self, text: String) -> Reference {
        self.text = Some(text);
        self
    }
}

/// Width of a type in bits.
pub(crate) fn width(ty: Name) -> u32 {
    match ty {
        "f16x2" | "bf16x2" | "u16x2" | "s16x2" => 32,
        "bf16" => 16,
        "pred" => 1,
        "tf32" => 32,
        other => other[1..]
            .parse()
            .expect("a type's name ends with its width"),
    }
}

/// The low bits that belong to a type.
pub(crate) fn cut(ty: Name, bits: u64) -> u64 {
    match width(ty) {
        64 => bits,
        width => bits & ((1 << width) - 1),
    }
}

/// The integer that the low bits mean.
pub(crate) fn integer(ty: Name, bits: u64) -> i128 {
    let width = width(ty);
    let bits = cut(ty, bits);
    if ty.starts_with('s') && width < 128 && bits >> (width - 1) & 1 != 0 {
        i128::from(bits) - (1 << width)
    } else {
        i128::from(bits)
    }
}

/// The range of an integer type.
pub(crate) fn range(ty: Name) -> (i128, i128) {
    let width = width(ty);
    if ty.starts_with('s') {
        (-(1 << (width - 1)), (1 << (width - 1)) - 1)
    } else {
        (0, (1 << width) - 1)
    }
}

/// A format of binary floating point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Bits of the fraction.
    pub(crate) fraction: i32,
    /// The lowest exponent of a normal number.
    pub(crate) lowest: i32,
    /// The highest exponent.
    pub(crate) highest: i32,
}

pub(crate) const F16: Format = Format {
    fraction: 10,
    lowest: -14,
    highest: 15,
};
pub(crate) const BF16: Format = Format {
    fraction: 7,
    lowest: -126,
    highest: 127,
};

/// Directions of rounding, by their modifiers.
pub(crate) const ROUNDINGS: [&str; 4] = ["rn", "rz", "rm", "rp"];

impl Format {
    pub(crate) fn of(ty: &str) -> Format {
        if ty.starts_with('b') { BF16 } else { F16 }
    }

    /// The number that bits mean, exactly.
    pub(crate) fn value(self, bits: u64) -> f64 {
        let fraction = (bits & ((1 << self.fraction) - 1)) as f64;
        let exponents = (1u64 << (15 - self.fraction)) - 1;
        let biased = bits >> self.fraction & exponents;
        let is_negative = bits >> 15 & 1 != 0;
        let unit = |exponent: i32| 2f64.powi(exponent - self.fraction);
        let magnitude = if biased == exponents {
            if fraction == 0.0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        } else if biased == 0 {
            fraction * unit(self.lowest)
        } else {
            (fraction + 2f64.powi(self.fraction)) * unit(self.lowest - 1 + biased as i32)
        };
        // A product would lose the sign of NaN, which `xorsign` looks at.
        if is_negative { -magnitude } else { magnitude }
    }

    /// The bits of the number next to `value` in a direction. Steps of the format's last place are exact in doubles.
    pub(crate) fn round(self, value: f64, direction: &str) -> u64 {
        let sign = u64::from(value.is_sign_negative()) << 15;
        let exponents = ((1u64 << (15 - self.fraction)) - 1) << self.fraction;
        if value.is_nan() {
            return 0x7fff;
        }
        let magnitude = value.abs();
        let exponent = if magnitude.is_infinite() {
            self.highest + 1
        } else if magnitude == 0.0 {
            self.lowest
        } else {
            let biased = (magnitude.to_bits() >> 52) as i32;
            (biased - 1023).max(self.lowest)
        };
        if magnitude.is_infinite() {
            return sign | exponents;
        }
        let steps = magnitude / 2f64.powi(exponent - self.fraction);
        let away = direction == "rp" && sign == 0 || direction == "rm" && sign != 0;
        let whole = match direction {
            "rn" => steps.round_ties_even(),
            _ if away => steps.ceil(),
            _ => steps.floor(),
        };
        // Counted from the subnormals up, numbers of one sign follow each other.
        let bits = whole as u64 + (((exponent - self.lowest) as u64) << self.fraction);
        if bits < exponents {
            sign | bits
        } else if direction == "rn" || away {
            sign | exponents
        } else {
            sign | (exponents - 1)
        }
    }
}
