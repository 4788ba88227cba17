//! Arithmetic of halves, and of pairs of them.

use super::super::Want::Number;
use super::super::{Format, Name, Reference, fpu};
use super::extreme;

/// Every form of a half, and of pairs of it.
pub(super) fn all(all: &mut Vec<Reference>, ty: Name) {
    let pair = if ty == "f16" { "f16x2" } else { "bf16x2" };
    let mut both = |form: String, count: usize, compute: fn(&Half, [u64; 3]) -> u64, half: Half| {
        all.push(Reference::new(
            format!("{form}.{ty}"),
            ty,
            &vec![ty; count],
            move |[a, b, c, _]| Number(compute(&half, [a, b, c].map(|bits| half.read(bits)))),
        ));
        all.push(Reference::new(
            format!("{form}.{pair}"),
            pair,
            &vec![pair; count],
            move |[a, b, c, _]| {
                let part = |shift: u32| {
                    compute(&half, [a, b, c].map(|bits| half.read(bits >> shift))) << shift
                };
                Number(part(0) | part(16))
            },
        ));
    };
    let flushes = if ty == "f16" {
        &[false, true][..]
    } else {
        &[false]
    };
    for &ftz in flushes {
        let flush_name = if ftz { ".ftz" } else { "" };
        let plain = Half {
            ty,
            ftz,
            after: "",
            name: "",
            nan: false,
            xor: false,
        };
        let afters: &[&str] = if ty == "f16" { &["", ".sat"] } else { &[""] };
        for after in afters {
            let half = Half { after, ..plain };
            let suffix = format!(".rn{flush_name}{after}");
            both(
                format!("add{suffix}"),
                2,
                |half, [a, b, _]| half.write(half.value(a) + half.value(b)),
                half,
            );
            both(
                format!("sub{suffix}"),
                2,
                |half, [a, b, _]| half.write(half.value(a) - half.value(b)),
                half,
            );
            both(
                format!("mul{suffix}"),
                2,
                |half, [a, b, _]| half.write(half.value(a) * half.value(b)),
                half,
            );
        }
        let afters: &[&str] = if ty == "f16" {
            &["", ".sat", ".relu"]
        } else {
            &["", ".relu"]
        };
        for after in afters {
            let half = Half { after, ..plain };
            both(
                format!("fma.rn{flush_name}{after}"),
                3,
                |half, [a, b, c]| {
                    half.write(fpu::add_to_odd(
                        half.value(a) * half.value(b),
                        half.value(c),
                    ))
                },
                half,
            );
        }
        both(
            format!("abs{flush_name}"),
            1,
            |_, [a, ..]| a & 0x7fff,
            plain,
        );
        both(
            format!("neg{flush_name}"),
            1,
            |_, [a, ..]| a ^ 0x8000,
            plain,
        );
        for name in ["min", "max"] {
            for (nan, nan_name) in [(false, ""), (true, ".NaN")] {
                for (xor, xor_name) in [(false, ""), (true, ".xorsign.abs")] {
                    let half = Half {
                        name,
                        nan,
                        xor,
                        ..plain
                    };
                    both(
                        format!("{name}{flush_name}{nan_name}{xor_name}"),
                        2,
                        |half, [a, b, _]| {
                            half.write(extreme(
                                half.value(a),
                                half.value(b),
                                half.name,
                                half.nan,
                                half.xor,
                            ))
                        },
                        half,
                    );
                }
            }
        }
    }
}

/// How a form of halves reads and writes them.
#[derive(Clone, Copy)]
struct Half {
    ty: Name,
    ftz: bool,
    after: &'static str,
    name: &'static str,
    nan: bool,
    xor: bool,
}

impl Half {
    fn format(&self) -> Format {
        Format::of(self.ty)
    }

    fn read(&self, bits: u64) -> u64 {
        let bits = bits & 0xffff;
        let subnormal = self.value(bits).abs() < 2f64.powi(self.format().lowest);
        if self.ftz && subnormal {
            bits & 0x8000
        } else {
            bits
        }
    }

    fn value(&self, bits: u64) -> f64 {
        self.format().value(bits)
    }

    fn write(&self, value: f64) -> u64 {
        let bits = self.read(self.format().round(value, "rn"));
        let rounded = self.value(bits);
        match self.after {
            ".sat" if rounded.is_nan() || rounded <= 0.0 => 0,
            ".sat" => self.format().round(rounded.min(1.0), "rn"),
            ".relu" if rounded <= 0.0 => 0,
            _ => bits,
        }
    }
}
