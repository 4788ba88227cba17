//! What the tests of products share: formats, the numbers of a case and what comes out, and how registers and memory hold them.

pub(crate) mod mma;
pub(crate) mod tiles;
pub(crate) mod wmma;

pub(crate) const LANES: usize = 32;

/// A type of factors, with what the test needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) bits: usize,
}

pub(crate) const fn format(name: &'static str, bits: usize) -> Format {
    Format { name, bits }
}
pub(crate) const F16: Format = format("f16", 16);
pub(crate) const BF16: Format = format("bf16", 16);
pub(crate) const TF32: Format = format("tf32", 32);
pub(crate) const F64: Format = format("f64", 64);
pub(crate) const S8: Format = format("s8", 8);
pub(crate) const U8: Format = format("u8", 8);
pub(crate) const S4: Format = format("s4", 4);
pub(crate) const U4: Format = format("u4", 4);
pub(crate) const B1: Format = format("b1", 1);

impl Format {
    /// Small whole numbers, which every format holds exactly, so that sums are exact in any order.
    pub(crate) fn value(self, seed: usize) -> i64 {
        let noise = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        match self.name {
            "b1" => (noise & 1) as i64,
            "u4" => (noise & 15) as i64,
            "s4" => (noise & 15) as i64 - 8,
            "u8" => (noise & 255) as i64,
            "s8" => (noise & 255) as i64 - 128,
            _ => (noise & 15) as i64 - 8,
        }
    }

    pub(crate) fn encode(self, value: i64) -> u64 {
        let single = value as f32;
        match self.name {
            "f16" => u64::from(half(single)),
            "bf16" => u64::from(single.to_bits() >> 16),
            "tf32" => u64::from(single.to_bits()),
            "f64" => (value as f64).to_bits(),
            _ => value as u64 & ((1 << self.bits) - 1),
        }
    }
}

/// A small whole number as binary16.
pub(crate) fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    if value == 0.0 {
        return sign;
    }
    let exponent = (bits >> 23 & 255) as u16 - 112;
    sign | exponent << 10 | (bits >> 13 & 0x3ff) as u16
}

pub(crate) fn from_half(bits: u16) -> f32 {
    let magnitude = match bits & 0x7fff {
        0 => 0,
        rest => (u32::from(rest) << 13) + (112 << 23),
    };
    f32::from_bits(magnitude | u32::from(bits & 0x8000) << 16)
}

const FORMATS: [Format; 9] = [F16, BF16, TF32, F64, S8, U8, S4, U4, B1];

/// A product: what its form says.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) form: String,
    pub(crate) size: [usize; 3],
    pub(crate) a: Format,
    pub(crate) b: Format,
    pub(crate) half_c: bool,
    pub(crate) half_d: bool,
}

impl Case {
    /// The product of a form of `mma` or `wmma.mma`.
    pub(crate) fn of(form: &str) -> Case {
        let parts: Vec<&str> = form.split('.').collect();
        let shape = parts.iter().find_map(|part| {
            let (m, rest) = part.strip_prefix('m')?.split_once('n')?;
            let (n, k) = rest.split_once('k')?;
            Some([m, n, k].map(|size| size.parse().expect("a size")))
        });
        let is_type = |part: &&&str| {
            matches!(**part, "f32" | "s32") || FORMATS.iter().any(|format| format.name == **part)
        };
        let types: Vec<&str> = parts.iter().filter(is_type).copied().collect();
        // `wmma` of halves says only D and C.
        let (d, a, b, c) = match types[..] {
            [d, c] => (d, "f16", "f16", c),
            [d, a, b, c] => (d, a, b, c),
            _ => panic!("`{form}` has {types:?}"),
        };
        let format = |name: &str| {
            *FORMATS
                .iter()
                .find(|format| format.name == name)
                .expect("a format")
        };
        Case {
            form: form.to_owned(),
            size: shape.expect("a shape"),
            a: format(a),
            b: format(b),
            half_c: c == "f16",
            half_d: d == "f16",
        }
    }

    pub(crate) fn has(&self, modifier: &str) -> bool {
        self.form.split('.').any(|part| part == modifier)
    }

    /// The layouts of A and B.
    pub(crate) fn layouts(&self) -> [&'static str; 2] {
        let mut layouts = self
            .form
            .split('.')
            .filter_map(|part| ["row", "col"].into_iter().find(|layout| *layout == part));
        [layouts.next().expect("of A"), layouts.next().expect("of B")]
    }

    /// Whether whole numbers are summed, which may be as large as they can be.
    fn is_whole(&self) -> bool {
        self.a.bits <= 8
    }

    pub(crate) fn values(&self) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
        let [m, n, k] = self.size;
        let fill = |count: usize, format: Format, seed: usize| {
            (0..count)
                .map(|index| format.value(index * 7 + seed))
                .collect::<Vec<_>>()
        };
        let mut c = fill(m * n, F16, 3);
        if self.is_whole() {
            // Some sums leave the range of 32 bits, above or below.
            for (index, value) in c.iter_mut().enumerate() {
                match index % 5 {
                    1 => *value += i64::from(i32::MAX) - 8,
                    3 => *value += i64::from(i32::MIN) + 8,
                    _ => {}
                }
            }
        }
        (fill(m * k, self.a, 1), fill(k * n, self.b, 2), c)
    }

    pub(crate) fn expected(&self) -> Vec<i64> {
        let ([m, n, k], (a, b, c)) = (self.size, self.values());
        let product = |i: usize, j: usize| -> i64 {
            let terms = (0..k).map(|l| (a[i * k + l], b[l * n + j]));
            if self.a == B1 {
                let and = self.has("and");
                return terms.map(|(x, y)| if and { x & y } else { x ^ y }).sum();
            }
            terms.map(|(x, y)| x * y).sum()
        };
        let in_range = |sum: i64| match self.is_whole() {
            true if self.has("satfinite") => sum.clamp(i32::MIN.into(), i32::MAX.into()),
            true => i64::from(sum as i32),
            false => sum,
        };
        (0..m * n)
            .map(|index| in_range(c[index] + product(index / n, index % n)))
            .collect()
    }

    pub(crate) fn result_bits(&self, half: bool) -> usize {
        if self.a == F64 {
            64
        } else if half {
            16
        } else {
            32
        }
    }

    pub(crate) fn encode_result(&self, value: i64, is_half: bool) -> u64 {
        match self.a.name {
            "f64" => (value as f64).to_bits(),
            "f16" | "bf16" | "tf32" if is_half => u64::from(half(value as f32)),
            "f16" | "bf16" | "tf32" => u64::from((value as f32).to_bits()),
            _ => value as u32 as u64,
        }
    }

    pub(crate) fn decode_result(&self, bits: u64) -> i64 {
        match self.a.name {
            "f64" => f64::from_bits(bits) as i64,
            "f16" if self.half_d => from_half(bits as u16) as i64,
            "f16" | "bf16" | "tf32" => f32::from_bits(bits as u32) as i64,
            _ => i64::from(bits as i32),
        }
    }
}

/// The registers of a fragment, lane after lane: elements of `bits` bits packed into 32 (or 64).
pub(crate) fn fragments(
    elements: usize,
    bits: usize,
    element: impl Fn(usize, usize) -> u64,
) -> Vec<u32> {
    let mut words = vec![0u32; LANES * (elements * bits).div_ceil(32)];
    for lane in 0..LANES {
        for i in 0..elements {
            let at = lane * elements * bits + i * bits;
            let value = element(lane, i);
            words[at / 32] |= (value as u32) << (at % 32);
            if bits == 64 {
                words[at / 32 + 1] |= (value >> 32) as u32;
            }
        }
    }
    words
}

/// Registers in braces.
pub(crate) fn list(name: &str, count: usize) -> String {
    let registers: Vec<String> = (0..count).map(|index| format!("%{name}{index}")).collect();
    format!("{{{}}}", registers.join(", "))
}
